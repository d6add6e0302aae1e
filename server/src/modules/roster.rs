//! RFC 6121 section 2: Managing the Roster.
//!
//! Requests of clients and pushes to them are here. [`subscription`] decides what a subscription stanza does, [`store`]
//! keeps it, [`known`] remembers it while the account is online; `presence` receives the stanzas and sends presence.
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use protocol::{
    BareJid, Element, Jid, JidRef, Stanza, StanzaCondition, StanzaError, StanzaType, ns,
};

use self::known::{Known, Subscriptions, Turn};
use self::store::{Done, Edit, EditError, Item, Overview, Push, Request, RosterStore, Since};
use self::subscription::{Contact, Inbound, Outbound, Share, Subscription, SubscriptionType};
use super::{Needs, Start, StartError};
use crate::auth::Accounts;
use crate::c2s::session::Session;
use crate::hooks::{AccountRemoved, Handle, Outcome, RosterChanged, SessionClosed, Stage};
use crate::iq::{Answer, HandleIq, IqRequest, Target};
use crate::outlet::{Flag, SessionRef};
use crate::router::{Delivery, Route};
use crate::storage;

pub mod api;
pub mod known;
pub mod store;
pub mod subscription;

pub use super::config::Roster as Config;

/// Nothing.
pub fn needs(_config: &Config) -> Needs {
    Needs::none()
}

/// Answers roster requests, and lets other modules ask who sees whom.
pub async fn start(config: Config, start: &mut Start<'_>) -> Result<(), StartError> {
    let roster = Arc::new(Roster {
        store: RosterStore::new(start.db.clone()),
        known: Known::new(),
        accounts: start.auth.accounts(),
        versioning: config.versioning,
    });
    start.iq(("query", ns::ROSTER), Target::Account, &roster)?;
    start.on::<AccountRemoved, _>(Stage::Archive, &roster);
    // After presence has told the contacts.
    start.on::<SessionClosed, _>(Stage::Observe, &roster);
    if config.versioning {
        start.stream_feature(Element::new("ver", ns::ROSTER_VERSIONING));
    }
    start.provide(roster);
    Ok(())
}

/// The rosters of one host.
pub struct Roster {
    store: RosterStore,
    known: Arc<Known>,
    accounts: Accounts,
    versioning: bool,
}

// ---- requests

impl HandleIq for Roster {
    async fn answer(&self, route: &mut Route, request: &IqRequest) -> Answer {
        // The same for an account that does not exist: nobody learns which do.
        let Some(session) = request
            .session
            .as_ref()
            .filter(|_| request.is_own_account())
        else {
            return Err(StanzaCondition::Forbidden.into());
        };
        let account = request.from.to_bare();
        if request.stanza_type == StanzaType::Get {
            self.get(route, &account, session, &request.payload).await
        } else {
            self.set(route, &account, &request.payload).await
        }
    }
}

impl Roster {
    /// From now on the session gets pushes: the turn is held until the answer stands in its outlet.
    async fn get(
        &self,
        route: &mut Route,
        account: &BareJid,
        session: &SessionRef,
        query: &Element,
    ) -> Answer {
        let turn = self.known.turn(account).await;
        let known = query.attr("ver").filter(|_| self.versioning);
        let since = match known {
            // "I know of versions, and have none."
            None | Some("") => self.store.load(account).await.map(Since::Whole),
            Some(version) => self.store.load_since(account, version).await,
        };
        let since = since.map_err(refuse_for_now)?;
        session.set(Flag::Interested);
        route.until_answered = Some(Box::new(turn));
        match since {
            Since::Current => Ok(None),
            Since::Whole(roster) => {
                let mut query = Element::new("query", ns::ROSTER);
                query.set_attr("ver", known.map(|_| roster.version.as_str()));
                let listed = roster.items.iter().filter(|item| item.contact.listed);
                listed.for_each(|item| query.push(item_element(item)));
                Ok(Some(query))
            }
            Since::Changes(pushes) => {
                let to = session.jid().as_ref();
                let stanzas = pushes.iter().filter_map(|push| self.push_stanza(push, to));
                let stanzas = stanzas.map(|stanza| (session.clone(), stanza));
                route.after_answer.extend(stanzas);
                Ok(None)
            }
        }
    }

    async fn set(&self, route: &mut Route, account: &BareJid, query: &Element) -> Answer {
        match parse_set(account, query)? {
            Set::Remove(jid) => self.remove(route, account, &jid).await,
            Set::Put(jid, edit) => self.put(route, account, &jid, edit).await,
        }
    }

    async fn put(&self, route: &mut Route, account: &BareJid, jid: &Jid, edit: Edit) -> Answer {
        if !self.is_kept(account).await.map_err(refuse_for_now)? {
            return Err(not_kept());
        }
        let turn = self.known.turn(account).await;
        let done = self.store.set_item(account, jid, edit).await;
        match done.map_err(refuse_for_now)? {
            Done::Full => Err(full()),
            Done::Changed(push) => {
                self.push(route, account, &push, turn).await;
                Ok(None)
            }
        }
    }

    /// Removes a contact and ends what there was between it and the user (RFC 6121 section 2.5.2).
    async fn remove(&self, route: &mut Route, account: &BareJid, jid: &Jid) -> Answer {
        let turn = self.known.turn(account).await;
        let removed = self.store.remove_item(account, jid).await;
        let Some((removal, push)) = removed.map_err(refuse_for_now)? else {
            return Err(StanzaCondition::ItemNotFound.into());
        };
        let contact = jid.to_bare();
        if jid.is_bare() {
            turn.correct(&contact, Contact::UNKNOWN.state);
        }
        self.push(route, account, &push, turn).await;
        part(route, account, &contact, removal).await;
        Ok(None)
    }

    /// Whether the account's rows would ever be removed: those of an anonymous one would not.
    async fn is_kept(&self, account: &BareJid) -> Result<bool, storage::Error> {
        self.accounts.exists(account).await
    }
}

/// What a client asks to be changed.
enum Set {
    Put(Jid, Edit),
    Remove(Jid),
}

/// RFC 6121 sections 2.3 to 2.5. What a client says of the subscription is not heard, but for `remove`.
fn parse_set(account: &BareJid, query: &Element) -> Result<Set, StanzaError> {
    let refuse = |text| StanzaError::new(StanzaCondition::BadRequest).with_text(text);
    let mut items = query.elements();
    let item = match (items.next(), items.next()) {
        (Some(item), None) if item.is("item", ns::ROSTER) => item,
        _ => return Err(refuse("a roster set has exactly one item")),
    };
    let jid = item.attr("jid").map(Jid::parse);
    let Some(Ok(jid)) = jid else {
        return Err(refuse("the item has no address that is one"));
    };
    if jid.bare_str() == account.as_str() {
        return Err(refuse("nobody is a contact of oneself"));
    }
    if item.attr("subscription") == Some("remove") {
        return Ok(Set::Remove(jid));
    }
    let groups = item
        .elements()
        .filter(|child| child.is("group", ns::ROSTER))
        .map(|group| group.text().into_owned());
    let name = item.attr("name").unwrap_or_default().to_owned();
    let edit = Edit::new(name, groups.collect()).map_err(|error| {
        let condition = match error {
            EditError::GroupTwice => StanzaCondition::BadRequest,
            EditError::NameTooLong
            | EditError::GroupEmpty
            | EditError::GroupTooLong
            | EditError::TooManyGroups => StanzaCondition::NotAcceptable,
        };
        StanzaError::new(condition).with_text(error.to_string())
    })?;
    Ok(Set::Put(jid, edit))
}

/// The roster is full.
pub(super) fn full() -> StanzaError {
    StanzaError::new(StanzaCondition::PolicyViolation)
        .with_text("the roster has as many contacts, or bytes, as it may have")
}

/// The account has no roster, as it ends with its session.
pub(super) fn not_kept() -> StanzaError {
    StanzaError::new(StanzaCondition::NotAllowed).with_text("this account keeps no contacts")
}

fn refuse_for_now(error: storage::Error) -> StanzaError {
    tracing::error!(%error, "roster request failed");
    error.to_stanza_error()
}

// ---- for presence

impl Roster {
    /// What an account's first presence needs, in one statement; from now on the subscriptions are remembered.
    pub async fn overview(
        &self,
        account: &BareJid,
    ) -> Result<(Arc<Subscriptions>, Overview), storage::Error> {
        let turn = self.known.turn(account).await;
        let mut overview = self.store.overview(account).await?;
        let rows = std::mem::take(&mut overview.subscriptions);
        Ok((turn.remember(Subscriptions::new(rows)), overview))
    }

    /// Who sees whose presence: as it is remembered, else with one statement.
    pub async fn subscriptions(
        &self,
        account: &BareJid,
    ) -> Result<Arc<Subscriptions>, storage::Error> {
        match self.known.subscriptions(account.as_str()) {
            Some(subscriptions) => Ok(subscriptions),
            None => {
                let rows = self.store.subscriptions(account).await?;
                Ok(Arc::new(Subscriptions::new(rows)))
            }
        }
    }

    /// Whether a contact sees the account's presence.
    pub async fn is_subscriber(
        &self,
        account: &BareJid,
        contact: JidRef<'_>,
    ) -> Result<bool, storage::Error> {
        if let Some(subscriptions) = self.known.subscriptions(account.as_str()) {
            return Ok(subscriptions.is_subscriber(contact.bare_str()));
        }
        let contact = contact.to_bare().into();
        let item = self.store.load_item(account, &contact).await?;
        Ok(item.is_some_and(|item| item.contact.state.has_from()))
    }

    /// Who sees whose presence, and the groups that the account has put the contact into if they are asked for.
    pub async fn relation(
        &self,
        account: &BareJid,
        contact: &BareJid,
        with_groups: bool,
    ) -> Result<(Subscription, Vec<String>), storage::Error> {
        if !with_groups {
            let subscriptions = self.subscriptions(account).await?;
            return Ok((subscriptions.of(contact.as_str()), Vec::new()));
        }
        let contact = contact.clone().into();
        let item = self.store.load_item(account, &contact).await?;
        Ok(item.map_or((Subscription::None, Vec::new()), |item| {
            (item.contact.state.subscription(), item.groups)
        }))
    }

    /// All groups of the account's contacts, sorted.
    pub async fn groups(&self, account: &BareJid) -> Result<BTreeSet<String>, storage::Error> {
        let roster = self.store.load(account).await?;
        let groups = roster.items.into_iter().flat_map(|item| item.groups);
        Ok(groups.collect())
    }

    /// Requests that wait for the account's answer, as many as one login is told of.
    pub async fn requests(&self, account: &BareJid) -> Result<Vec<Request>, storage::Error> {
        self.store.requests(account, None).await
    }

    /// Does in the roster what a stanza of the user does, pushes the change, and tells what is left to do. An error
    /// if there is no room for the contact.
    pub async fn outbound(
        &self,
        route: &mut Route,
        account: &BareJid,
        contact: &BareJid,
        kind: SubscriptionType,
    ) -> Result<Result<Outbound, StanzaError>, storage::Error> {
        let may_add = matches!(
            kind,
            SubscriptionType::Subscribe | SubscriptionType::Subscribed
        );
        if may_add && !self.is_kept(account).await? {
            return Ok(Err(not_kept()));
        }
        let turn = self.known.turn(account).await;
        let (outbound, push) = match self.store.outbound(account, contact, kind).await? {
            Done::Full => return Ok(Err(full())),
            Done::Changed(changed) => changed,
        };
        turn.correct(contact, outbound.contact.state);
        if let Some(push) = push {
            self.push(route, account, &push, turn).await;
        }
        Ok(Ok(outbound))
    }

    /// Does all that a stanza of the user about a subscription does (RFC 6121 section 3): the roster, the contact, and
    /// who sees whose presence. The inner error is the user's.
    pub async fn subscribe(
        &self,
        route: &mut Route,
        account: &BareJid,
        contact: &BareJid,
        kind: SubscriptionType,
        stanza: &Stanza,
    ) -> Result<Result<(), StanzaError>, storage::Error> {
        let outbound = match self.outbound(route, account, contact, kind).await? {
            Ok(outbound) => outbound,
            Err(refused) => return Ok(Err(refused)),
        };
        if outbound.share == Some(Share::Unavailable) {
            share(route, account, contact, Share::Unavailable).await;
        }
        if outbound.route {
            let stanza = stanza.with_from(account.as_ref()).with_to(contact.as_ref());
            deliver(route, Some(stanza)).await;
        }
        if outbound.share == Some(Share::Available) {
            share(route, account, contact, Share::Available).await;
        }
        Ok(Ok(()))
    }

    /// The same for a stanza of a contact; `None` if the account does not exist. The stanza is kept if it is a request.
    pub async fn inbound(
        &self,
        route: &mut Route,
        account: &BareJid,
        contact: &BareJid,
        kind: SubscriptionType,
        stanza: &Stanza,
    ) -> Result<Option<Inbound>, storage::Error> {
        if !self.is_kept(account).await? {
            return Ok(None);
        }
        let text = std::str::from_utf8(stanza.bytes()).unwrap_or_default();
        let turn = self.known.turn(account).await;
        let (inbound, push) = self.store.inbound(account, contact, kind, text).await?;
        turn.correct(contact, inbound.contact.state);
        if let Some(push) = push {
            self.push(route, account, &push, turn).await;
        }
        Ok(Some(inbound))
    }
}

// ---- pushes

impl Roster {
    /// Tells every interested session of a change (RFC 6121 section 2.1.6), gives the turn back, and tells the other
    /// modules. Without `from`: clients trust that it is their server's (security considerations there).
    async fn push(&self, route: &mut Route, account: &BareJid, push: &Push, turn: Turn) {
        let mut stanza = None;
        for session in route.router.sessions.of_account(account.as_str()) {
            if !session.has(Flag::Interested) {
                continue;
            }
            let to = session.jid().as_ref();
            let first = stanza.get_or_insert_with(|| self.push_stanza(push, to));
            let Some(first) = first else { break };
            let _closed = session.push(first.with_to(to), None, &mut route.batch);
            route.router.metrics.modules.roster_pushes.inc();
        }
        drop(turn);
        let Some(host) = route.router.host(account.domain()) else {
            return;
        };
        if !host.hooks.is_silent::<RosterChanged>() {
            let mut event = RosterChanged {
                account: account.clone(),
                item: pushed_element(push),
            };
            let _ = host.hooks.run(route, &mut event).await;
        }
    }

    fn push_stanza(&self, push: &Push, to: JidRef<'_>) -> Option<Stanza> {
        let mut query = Element::new("query", ns::ROSTER).with_child(pushed_element(push));
        if self.versioning {
            query.set_attr("ver", Some(&push.version));
        }
        let iq = Element::new("iq", ns::CLIENT)
            .with_attr("type", "set")
            .with_attr("id", &protocol::stream::secure_id())
            .with_attr("to", to.as_str())
            .with_child(query);
        Stanza::from_element(&iq).ok()
    }
}

fn pushed_element(push: &Push) -> Element {
    match &push.item {
        Some(item) => item_element(item),
        None => Element::new("item", ns::ROSTER)
            .with_attr("jid", push.jid.as_str())
            .with_attr("subscription", "remove"),
    }
}

/// RFC 6121 section 2.1.2.
fn item_element(item: &Item) -> Element {
    let state = item.contact.state;
    let mut element = Element::new("item", ns::ROSTER).with_attr("jid", item.jid.as_str());
    if !item.name.is_empty() {
        element.set_attr("name", Some(&item.name));
    }
    element.set_attr("subscription", Some(state.subscription().as_str()));
    if state.is_pending_out() {
        element.set_attr("ask", Some("subscribe"));
    }
    if item.contact.approved {
        element.set_attr("approved", Some("true"));
    }
    for group in &item.groups {
        element.push(Element::new("group", ns::ROSTER).with_text(group));
    }
    element
}

// ---- what contacts are told

/// The presence of each available session of the account goes to a contact that sees it now, or its end to one that
/// does not any more.
pub(super) async fn share(route: &mut Route, account: &BareJid, contact: &BareJid, share: Share) {
    for session in route.router.sessions.of_account(account.as_str()) {
        match share {
            Share::Available => show(route, &session, contact.as_ref()).await,
            Share::Unavailable if session.presence().is_some() => {
                let stanza = unavailable(&session, Some(contact.as_ref()));
                deliver_from(route, &session, stanza).await;
            }
            Share::Unavailable => {}
        }
    }
}

/// Sends a session's presence to somebody.
pub(super) async fn show(route: &mut Route, session: &SessionRef, to: JidRef<'_>) {
    let mut showing = Showing::default();
    while let Some(stanza) = showing.next(session, to) {
        deliver_from(route, session, Some(stanza)).await;
    }
}

/// The same where it is pushed at once.
pub(super) fn show_with(session: &SessionRef, to: JidRef<'_>, mut push: impl FnMut(Stanza)) {
    let mut showing = Showing::default();
    while let Some(stanza) = showing.next(session, to) {
        push(stanza);
    }
}

/// What somebody has been shown of a session. If its presence changes meanwhile, what is newer was perhaps sent before
/// this: then it is sent again, so that what arrives last is what holds.
#[derive(Default)]
struct Showing(Option<Arc<Stanza>>);

impl Showing {
    /// What has to be sent, unless what was sent last is what holds.
    fn next(&mut self, session: &SessionRef, to: JidRef<'_>) -> Option<Stanza> {
        loop {
            let presence = session.presence();
            let stanza = match (&self.0, &presence) {
                (None, None) => return None,
                (Some(shown), Some(presence)) if Arc::ptr_eq(shown, presence) => return None,
                (_, Some(presence)) => Some(presence.with_to(to)),
                (Some(_), None) => unavailable(session, Some(to)),
            };
            self.0 = presence;
            if stanza.is_some() {
                return stanza;
            }
        }
    }
}

/// The end of a session's presence, for everybody or for one address.
pub(super) fn unavailable(session: &SessionRef, to: Option<JidRef<'_>>) -> Option<Stanza> {
    let mut presence = Element::new("presence", ns::CLIENT)
        .with_attr("type", "unavailable")
        .with_attr("from", session.jid().as_str());
    presence.set_attr("to", to.map(JidRef::as_str));
    Stanza::from_element(&presence).ok()
}

/// A stanza about a subscription, from bare to bare address.
pub(super) fn about(kind: SubscriptionType, from: &BareJid, to: &BareJid) -> Option<Stanza> {
    let presence = Element::new("presence", ns::CLIENT)
        .with_attr("type", kind.as_str())
        .with_attr("from", from.as_str())
        .with_attr("to", to.as_str());
    Stanza::from_element(&presence).ok()
}

/// Routes presence of a session, unless a list of its account keeps it in.
pub(super) async fn deliver_from(route: &mut Route, session: &SessionRef, stanza: Option<Stanza>) {
    let Some(stanza) = stanza else { return };
    let may_send = !route.is_restricted(session)
        || matches!(Box::pin(route.may_send(session, &stanza)).await, Ok(true));
    if may_send {
        deliver(route, Some(stanza)).await;
    }
}

/// Routes presence that nobody waits for.
pub(super) async fn deliver(route: &mut Route, stanza: Option<Stanza>) {
    if let Some(stanza) = stanza {
        let delivery = Delivery {
            stanza,
            token: None,
        };
        Box::pin(route.route(delivery)).await;
    }
}

/// The end of what there was between the user and a contact.
async fn part(
    route: &mut Route,
    account: &BareJid,
    contact: &BareJid,
    removal: subscription::Removal,
) {
    if let Some(ends) = removal.share {
        share(route, account, contact, ends).await;
    }
    if removal.unsubscribe {
        deliver(
            route,
            about(SubscriptionType::Unsubscribe, account, contact),
        )
        .await;
    }
    if removal.unsubscribed {
        deliver(
            route,
            about(SubscriptionType::Unsubscribed, account, contact),
        )
        .await;
    }
}

// ---- ends

impl Handle<SessionClosed> for Roster {
    async fn handle(
        &self,
        session: &mut Session,
        _event: &mut SessionClosed,
    ) -> Outcome<SessionClosed> {
        let account = session.outlet.jid().bare_str();
        let sessions = &session.router.sessions;
        let is_needed = || sessions.with_account(account, |others| !others.is_empty());
        self.known.forget(account, is_needed);
        Ok(ControlFlow::Continue(()))
    }
}

impl Handle<AccountRemoved> for Roster {
    /// Contacts are told, so that nobody who gets the name later sees their presence. The rows go with those of the
    /// account, in one transaction of its store.
    async fn handle(
        &self,
        route: &mut Route,
        event: &mut AccountRemoved,
    ) -> Outcome<AccountRemoved> {
        let account = &event.account;
        let roster = {
            let _turn = self.known.turn(account).await;
            let roster = self.store.load(account).await?;
            self.known.forget(account.as_str(), || false);
            roster
        };
        for item in roster.items {
            let removal = subscription::removal(item.contact);
            part(route, account, &item.jid.to_bare(), removal).await;
        }
        Ok(ControlFlow::Continue(()))
    }
}

#[cfg(test)]
mod tests;
