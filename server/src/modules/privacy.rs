//! XEP-0016: Privacy Lists.
//!
//! Requests of clients, and what the lists say of stanzas. [`list`] is a list as a value, [`store`] keeps it, [`known`]
//! remembers what was read. The router asks ([`MaySend`], [`MayReceive`]) where it is not known that there is no list.
//! `mod_blocking` changes the same lists in simpler words.
use std::ops::ControlFlow;
use std::sync::Arc;

use protocol::{
    BareJid, Element, Jid, JidRef, Kind, Stanza, StanzaCondition, StanzaError, StanzaType, ns,
};

use self::known::{Generation, Known};
use self::list::{Action, Item, Kinds, List, Passing, Relation, Subject};
use self::store::{Done, Edit, NAME_CHARS_MAX, ORDER_MAX, PrivacyStore, Removal, subscription};
use super::roster::Roster;
use super::{Needs, Start, StartError};
use crate::auth::Accounts;
use crate::c2s::session::Session;
use crate::hooks::{
    AccountRemoved, Handle, MayReceive, MaySend, Outcome, SessionClosed, SessionOpened, Stage,
};
use crate::iq::{Answer, HandleIq, IqRequest, Target};
use crate::outlet::{Flag, SessionRef};
use crate::router::Route;
use crate::storage;

pub mod known;
pub mod list;
pub mod store;

pub use super::config::Privacy as Config;

/// Presence, as lists hide it; it needs the roster, which lists ask.
pub fn needs(_config: &Config) -> Needs {
    Needs::module("mod_presence")
}

/// Answers requests for lists, and lets `mod_blocking` change them.
pub async fn start(_config: Config, start: &mut Start<'_>) -> Result<(), StartError> {
    let privacy = Arc::new(Privacy {
        store: PrivacyStore::new(start.db.clone()),
        known: Known::new(),
        roster: start.get::<Roster>()?,
        accounts: start.auth.accounts(),
    });
    for target in [Target::Server, Target::Account] {
        start.feature(target, ns::PRIVACY);
    }
    start.iq(("query", ns::PRIVACY), Target::Account, &privacy)?;
    start.on::<MaySend, _>(Stage::Filter, &privacy);
    start.on::<MayReceive, _>(Stage::Filter, &privacy);
    start.on::<SessionOpened, _>(Stage::Filter, &privacy);
    // After presence has told, by the list of the session, that it has ended.
    start.on::<SessionClosed, _>(Stage::Observe, &privacy);
    start.on::<AccountRemoved, _>(Stage::Archive, &privacy);
    start.provide(privacy);
    Ok(())
}

/// The lists of one host.
pub struct Privacy {
    store: PrivacyStore,
    known: Known,
    roster: Arc<Roster>,
    accounts: Accounts,
}

// ---- what lists say

impl Privacy {
    /// A list by its name, or the default list: as it is remembered, else with one statement; and when that was so.
    async fn list(
        &self,
        account: &BareJid,
        name: Option<&str>,
    ) -> Result<(Option<Arc<List>>, Generation), storage::Error> {
        let (found, read_at) = self.known.find(account.as_str(), name);
        if let Some(list) = found {
            return Ok((list, read_at));
        }
        let list = match name {
            None => self.store.default_list(account).await?,
            Some(name) => self.store.list(account, name).await?,
        };
        let list = list.map(Arc::new);
        let remembered = list.clone();
        self.known
            .remember(account.as_str(), name, remembered, read_at);
        Ok((list, read_at))
    }

    /// The list by which a session goes: its own, or `default`.
    async fn list_of(
        &self,
        account: &BareJid,
        session: &SessionRef,
        default: Option<&Arc<List>>,
    ) -> Result<Option<Arc<List>>, storage::Error> {
        if let Some(name) = self.known.active(session)
            && let (Some(list), _) = self.list(account, Some(&name)).await?
        {
            return Ok(Some(list));
        }
        Ok(default.cloned())
    }

    async fn denies(
        &self,
        account: &BareJid,
        list: Option<&List>,
        passing: Passing,
        other: JidRef<'_>,
    ) -> Result<bool, storage::Error> {
        let Some(list) = list else {
            return Ok(false);
        };
        if !list.asks_roster() {
            return Ok(list.denies(passing, other, &Relation::NONE));
        }
        let contact = other.to_bare();
        let relation = self
            .roster
            .relation(account, &contact, list.asks_groups())
            .await?;
        let (subscription, groups) = relation;
        let relation = Relation {
            subscription,
            groups,
        };
        Ok(list.denies(passing, other, &relation))
    }
}

impl Handle<MaySend> for Privacy {
    async fn handle(&self, _route: &mut Route, event: &mut MaySend) -> Outcome<MaySend> {
        let Some(to) = event.stanza.to() else {
            return Ok(ControlFlow::Continue(()));
        };
        let account = event.session.jid().to_bare();
        let (default, read_at) = self.list(&account, None).await?;
        let list = self
            .list_of(&account, &event.session, default.as_ref())
            .await?;
        let passing = Passing::sent(&event.stanza);
        let denies = self.denies(&account, list.as_deref(), passing, to);
        event.refused = denies.await?;
        if list.is_none() {
            self.known.settle(&event.session, read_at);
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl Handle<MayReceive> for Privacy {
    /// The account's list speaks for the account: for requests that the server answers, for subscriptions, and where
    /// nobody is there. Each session goes by its own list.
    async fn handle(&self, route: &mut Route, event: &mut MayReceive) -> Outcome<MayReceive> {
        let (account, stanza) = (&event.to, &event.stanza);
        let (Some(from), Some(to)) = (stanza.from(), stanza.to()) else {
            return Ok(ControlFlow::Continue(()));
        };
        let passing = Passing::received(stanza);
        let (default, read_at) = self.list(account, None).await?;
        let denies = self.denies(account, default.as_deref(), passing, from);
        event.unkept = denies.await?;
        let mut is_addressed_denied = None;
        for session in route.router.sessions.of_account(account.as_str()) {
            let list = self.list_of(account, &session, default.as_ref()).await?;
            let denies = self.denies(account, list.as_deref(), passing, from).await?;
            if list.is_none() {
                self.known.settle(&session, read_at);
            }
            if session.jid().as_str() == to.as_str() {
                is_addressed_denied = Some(denies);
            }
            if denies {
                event.withheld.push(session);
            }
        }
        let sessions = &route.router.sessions;
        let is_about_account = passing == Passing::Other
            || (stanza.kind() == Kind::Iq && to.is_bare())
            || sessions.with_account(account.as_str(), |all| all.len() <= event.withheld.len());
        event.refused = match is_addressed_denied {
            Some(denies) if passing != Passing::Other => denies,
            _ => is_about_account && event.unkept,
        };
        Ok(ControlFlow::Continue(()))
    }
}

impl Handle<SessionOpened> for Privacy {
    /// Most sessions are unrestricted, and then nothing is asked again. If the list cannot be read now it is asked for
    /// when it matters.
    async fn handle(
        &self,
        session: &mut Session,
        _event: &mut SessionOpened,
    ) -> Outcome<SessionOpened> {
        self.known.begin(&session.outlet);
        let account = session.account();
        // Not remembered: the session itself says it from now on.
        let (_, read_at) = self.known.find(account.as_str(), None);
        match self.store.default_list(&account).await {
            Ok(None) => {
                // Nobody changes lists behind our back while the account is there.
                self.known.forget_default(account.as_str());
                self.known.settle(&session.outlet, read_at);
            }
            Ok(Some(_)) => {}
            Err(error) => tracing::error!(%error, "a privacy list could not be read"),
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl Handle<SessionClosed> for Privacy {
    async fn handle(
        &self,
        session: &mut Session,
        _event: &mut SessionClosed,
    ) -> Outcome<SessionClosed> {
        self.known.end(&session.outlet);
        Ok(ControlFlow::Continue(()))
    }
}

impl Handle<AccountRemoved> for Privacy {
    /// The rows go with those of the account, in one transaction of its store. Whoever gets the name later must not
    /// find what is remembered.
    async fn handle(
        &self,
        route: &mut Route,
        event: &mut AccountRemoved,
    ) -> Outcome<AccountRemoved> {
        self.changed(route, &event.account);
        Ok(ControlFlow::Continue(()))
    }
}

// ---- requests

impl HandleIq for Privacy {
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
        let child = only_child(&request.payload)?;
        if request.stanza_type == StanzaType::Get {
            return match child {
                None => self.names(&account, session).await,
                Some(list) if list.name() == "list" => self.show(&account, list).await,
                Some(_) => Err(bad("only lists can be asked for")),
            };
        }
        let Some(child) = child else {
            return Err(bad("a change has exactly one element"));
        };
        let turn = self.known.turn(&account).await;
        match child.name() {
            "active" => self.activate(&account, session, child).await?,
            "default" => self.set_default(route, &account, session, child).await?,
            "list" => self.set(route, &account, session, child).await?,
            _ => return Err(bad("there is no such change")),
        }
        route.until_answered = Some(Box::new(turn));
        Ok(None)
    }
}

impl Privacy {
    /// Section 2.3: the names of all lists, and which are in use.
    async fn names(&self, account: &BareJid, session: &SessionRef) -> Answer {
        let names = self.store.names(account).await.map_err(refuse_for_now)?;
        let named =
            |kind: &str, name: &str| Element::new(kind, ns::PRIVACY).with_attr("name", name);
        let mut query = Element::new("query", ns::PRIVACY);
        if let Some(active) = self.known.active(session) {
            query.push(named("active", &active));
        }
        if let Some(default) = &names.default {
            query.push(named("default", default));
        }
        let lists = names.all.iter().map(|name| named("list", name));
        lists.for_each(|list| query.push(list));
        Ok(Some(query))
    }

    async fn show(&self, account: &BareJid, asked: &Element) -> Answer {
        let name = name(asked)?.ok_or_else(|| bad("the list has no name"))?;
        let list = self.store.list(account, name).await;
        let list = list.map_err(refuse_for_now)?.ok_or_else(not_found)?;
        let mut element = Element::new("list", ns::PRIVACY).with_attr("name", name);
        let items = list.items().iter().map(item_element);
        items.for_each(|item| element.push(item));
        Ok(Some(Element::new("query", ns::PRIVACY).with_child(element)))
    }

    /// Section 2.4: the list of this session alone, or none of its own.
    async fn activate(
        &self,
        account: &BareJid,
        session: &SessionRef,
        active: &Element,
    ) -> Result<(), StanzaError> {
        let name = name(active)?;
        if let Some(name) = name {
            let list = self.store.list(account, name).await;
            list.map_err(refuse_for_now)?.ok_or_else(not_found)?;
        }
        self.known.set_active(session, name);
        Ok(())
    }

    /// Section 2.5: the list of the account, or none. Not while others go by it.
    async fn set_default(
        &self,
        route: &Route,
        account: &BareJid,
        session: &SessionRef,
        default: &Element,
    ) -> Result<(), StanzaError> {
        let name = name(default)?;
        if name.is_some() {
            self.refuse_guest(account).await?;
        }
        let names = self.store.names(account).await.map_err(refuse_for_now)?;
        if names.default.as_deref() == name {
            return Ok(());
        }
        let goes_by_default = |other: &SessionRef| self.known.active(other).is_none();
        if names.default.is_some() && others(route, session).iter().any(goes_by_default) {
            let text = "other sessions go by the default list";
            return Err(StanzaError::new(StanzaCondition::Conflict).with_text(text));
        }
        let is_set = self.store.set_default(account, name).await;
        if !is_set.map_err(refuse_for_now)? {
            return Err(not_found());
        }
        self.changed(route, account);
        Ok(())
    }

    /// Sections 2.6 to 2.8: makes a list, changes or removes it.
    async fn set(
        &self,
        route: &mut Route,
        account: &BareJid,
        session: &SessionRef,
        list: &Element,
    ) -> Result<(), StanzaError> {
        let name = name(list)?.ok_or_else(|| bad("the list has no name"))?;
        if list.elements().next().is_none() {
            self.remove(route, account, session, name).await?;
        } else {
            self.refuse_guest(account).await?;
            let list = parse_list(name, list)?;
            self.check_groups(account, &list).await?;
            let put = self.store.put(account, list).await;
            if put.map_err(refuse_for_now)? == Done::Full {
                return Err(full());
            }
        }
        self.changed(route, account);
        self.push_name(route, account, name);
        Ok(())
    }

    async fn remove(
        &self,
        route: &Route,
        account: &BareJid,
        session: &SessionRef,
        name: &str,
    ) -> Result<(), StanzaError> {
        let conflict = |text| StanzaError::new(StanzaCondition::Conflict).with_text(text);
        let is_active = |other: &SessionRef| self.known.active(other).as_deref() == Some(name);
        if others(route, session).iter().any(is_active) {
            return Err(conflict("another session goes by this list"));
        }
        let removal = self.store.remove(account, name).await;
        match removal.map_err(refuse_for_now)? {
            Removal::Missing => return Err(not_found()),
            Removal::IsDefault => return Err(conflict("this is the default list")),
            Removal::Removed => {}
        }
        if is_active(session) {
            self.known.set_active(session, None);
        }
        Ok(())
    }

    /// Groups of a list are groups of the roster (section 2.1).
    async fn check_groups(&self, account: &BareJid, list: &List) -> Result<(), StanzaError> {
        if !list.asks_groups() {
            return Ok(());
        }
        let groups = self.roster.groups(account).await.map_err(refuse_for_now)?;
        let is_there = |item: &Item| match &item.subject {
            Subject::Group(group) => groups.contains(&**group),
            _ => true,
        };
        if list.items().iter().all(is_there) {
            return Ok(());
        }
        Err(StanzaError::new(StanzaCondition::ItemNotFound)
            .with_text("the roster has no such group"))
    }

    /// The rows of an anonymous account would never be removed.
    async fn refuse_guest(&self, account: &BareJid) -> Result<(), StanzaError> {
        let exists = self.accounts.exists(account).await;
        if exists.map_err(refuse_for_now)? {
            return Ok(());
        }
        Err(StanzaError::new(StanzaCondition::NotAllowed).with_text("this account keeps no lists"))
    }

    /// From here on everybody reads the account's lists again.
    fn changed(&self, route: &Route, account: &BareJid) {
        self.known.forget(account.as_str());
        for session in route.router.sessions.of_account(account.as_str()) {
            session.clear(Flag::Unrestricted);
        }
    }

    /// Section 2.6: all sessions learn which list has changed.
    fn push_name(&self, route: &mut Route, account: &BareJid, name: &str) {
        let list = Element::new("list", ns::PRIVACY).with_attr("name", name);
        let query = Element::new("query", ns::PRIVACY).with_child(list);
        push(route, account, &query, |_| true);
    }
}

/// Other sessions of the account.
fn others(route: &Route, session: &SessionRef) -> Vec<SessionRef> {
    let account = session.jid().bare_str();
    let mut all = route.router.sessions.of_account(account);
    all.retain(|other| other.jid() != session.jid());
    all
}

/// Tells sessions of an account of a change, behind the answer to who has made it. Without `from`: clients trust that
/// it is their server's.
fn push(
    route: &mut Route,
    account: &BareJid,
    payload: &Element,
    is_told: impl Fn(&SessionRef) -> bool,
) {
    for session in route.router.sessions.of_account(account.as_str()) {
        if !is_told(&session) {
            continue;
        }
        let iq = Element::new("iq", ns::CLIENT)
            .with_attr("type", "set")
            .with_attr("id", &protocol::stream::secure_id())
            .with_attr("to", session.jid().as_str())
            .with_child(payload.clone());
        if let Ok(stanza) = Stanza::from_element(&iq) {
            route.after_answer.push((session, stanza));
        }
    }
}

// ---- for mod_blocking

impl Privacy {
    /// The addresses that are blocked. From now on the session learns of changes: nobody changes anything until it has
    /// got the answer.
    pub(super) async fn show_blocked(
        &self,
        route: &mut Route,
        session: &SessionRef,
    ) -> Result<Vec<Jid>, StanzaError> {
        let account = session.jid().to_bare();
        let turn = self.known.turn(&account).await;
        let (list, _) = self.list(&account, None).await.map_err(refuse_for_now)?;
        session.set(Flag::Blocklist);
        route.until_answered = Some(Box::new(turn));
        Ok(list.map_or_else(Vec::new, |list| list.blocked().cloned().collect()))
    }

    /// Changes what is blocked; contacts and sessions that have asked learn of it. `payload` is what these are told.
    pub(super) async fn edit_blocked(
        &self,
        route: &mut Route,
        session: &SessionRef,
        edit: Edit,
        payload: &Element,
    ) -> Result<(), StanzaError> {
        let account = session.jid().to_bare();
        let is_block = matches!(edit, Edit::Block(_));
        if is_block {
            self.refuse_guest(&account).await?;
        }
        let turn = self.known.turn(&account).await;
        let (before, _) = self.list(&account, None).await.map_err(refuse_for_now)?;
        let edited = self.store.edit(&account, edit).await;
        let edited = match edited.map_err(refuse_for_now)? {
            Done::Full => return Err(full()),
            Done::Changed(edited) => edited,
        };
        if let Some(changed) = edited {
            self.changed(route, &account);
            let told = if is_block {
                self.hide(route, &account, before.as_ref(), &changed).await
            } else {
                self.show_again(route, &account, &changed).await
            };
            // They are blocked or not, whoever knows of it.
            if let Err(error) = told {
                tracing::error!(%error, "contacts were not told of a changed block list");
            }
        }
        push(route, &account, payload, |session| {
            session.has(Flag::Blocklist)
        });
        route.until_answered = Some(Box::new(turn));
        Ok(())
    }

    /// XEP-0191 section 3.3: who is blocked now sees the end of the presence that they have seen.
    async fn hide(
        &self,
        route: &mut Route,
        account: &BareJid,
        before: Option<&Arc<List>>,
        blocked: &[Jid],
    ) -> Result<(), storage::Error> {
        let subscriptions = self.roster.subscriptions(account).await?;
        for session in route.router.sessions.of_account(account.as_str()) {
            if self.known.active(&session).is_some() {
                continue;
            }
            let subscribers = subscriptions.subscribers().map(|contact| contact.as_jid());
            let subscribers = subscribers.filter(|_| session.presence().is_some());
            let directed = session.directed();
            let mut seen: Vec<Jid> = subscribers
                .flat_map(|contact| seen_by(contact, blocked))
                .chain(directed.into_iter().filter(|to| is_among(to, blocked)))
                .collect();
            seen.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
            seen.dedup();
            for contact in seen {
                session.remove_directed(&contact);
                let list = before.map(|list| &**list);
                let passing = Passing::PresenceOut;
                if !self
                    .denies(account, list, passing, contact.as_ref())
                    .await?
                {
                    let stanza = super::roster::unavailable(&session, Some(contact.as_ref()));
                    super::roster::deliver(route, stanza).await;
                }
            }
        }
        Ok(())
    }

    /// XEP-0191 section 3.4: who is not blocked any more sees the presence again, and the account theirs.
    async fn show_again(
        &self,
        route: &mut Route,
        account: &BareJid,
        unblocked: &[Jid],
    ) -> Result<(), storage::Error> {
        let subscriptions = self.roster.subscriptions(account).await?;
        let is_meant = |contact: &&BareJid| {
            let covers = |jid: &Jid| {
                list::covers(jid.as_ref().without_resource(), contact.as_jid().as_ref())
            };
            unblocked.iter().any(covers)
        };
        for contact in subscriptions.subscribers().filter(is_meant) {
            let share = super::roster::subscription::Share::Available;
            super::roster::share(route, account, contact, share).await;
        }
        for contact in subscriptions.subscribed_to().filter(is_meant) {
            let probe = Element::new("presence", ns::CLIENT)
                .with_attr("type", "probe")
                .with_attr("from", account.as_str())
                .with_attr("to", contact.as_str());
            super::roster::deliver(route, Stanza::from_element(&probe).ok()).await;
        }
        Ok(())
    }
}

/// The addresses of a contact that are blocked: the contact, or some of its resources.
fn seen_by(contact: &Jid, blocked: &[Jid]) -> Vec<Jid> {
    if is_among(contact, blocked) {
        return vec![contact.clone()];
    }
    let of_contact = |jid: &&Jid| jid.bare_str() == contact.as_str();
    blocked.iter().filter(of_contact).cloned().collect()
}

fn is_among(address: &Jid, blocked: &[Jid]) -> bool {
    let covers = |jid: &Jid| list::covers(jid.as_ref(), address.as_ref());
    blocked.iter().any(covers)
}

// ---- XML

/// The child of a request, if there is one.
fn only_child(query: &Element) -> Result<Option<&Element>, StanzaError> {
    let mut children = query.elements();
    match (children.next(), children.next()) {
        (None, _) => Ok(None),
        (Some(child), None) if child.ns() == ns::PRIVACY => Ok(Some(child)),
        _ => Err(bad(
            "a request has at most one element, of its own namespace",
        )),
    }
}

fn name(element: &Element) -> Result<Option<&str>, StanzaError> {
    let name = element.attr("name").filter(|name| !name.is_empty());
    if name.is_some_and(|name| name.chars().count() > NAME_CHARS_MAX) {
        return Err(StanzaError::new(StanzaCondition::NotAcceptable)
            .with_text("the name of the list is too long"));
    }
    Ok(name)
}

fn parse_list(name: &str, list: &Element) -> Result<List, StanzaError> {
    let items: Result<Vec<Item>, StanzaError> = list.elements().map(parse_item).collect();
    let twice = || bad("two items have the same place");
    List::new(name, items?).ok_or_else(twice)
}

fn parse_item(item: &Element) -> Result<Item, StanzaError> {
    if !item.is("item", ns::PRIVACY) {
        return Err(bad("a list has items and nothing else"));
    }
    let order = item.attr("order").and_then(|order| order.parse().ok());
    let order = order.filter(|order| *order <= ORDER_MAX);
    Ok(Item {
        order: order.ok_or_else(|| bad("the item has no place that is one"))?,
        subject: parse_subject(item)?,
        action: match item.attr("action") {
            Some("allow") => Action::Allow,
            Some("deny") => Action::Deny,
            _ => return Err(bad("an item allows or denies")),
        },
        kinds: parse_kinds(item)?,
    })
}

fn parse_subject(item: &Element) -> Result<Subject, StanzaError> {
    let no_value = || bad("the item does not say whom it is about");
    let value = item.attr("value");
    match item.attr("type") {
        None => Ok(Subject::Everybody),
        Some("jid") => match Jid::parse(value.ok_or_else(no_value)?) {
            Ok(jid) => Ok(Subject::Address(jid)),
            Err(_) => Err(bad("the value is no address")),
        },
        Some("group") => {
            let group = value.filter(|group| !group.is_empty());
            Ok(Subject::Group(group.ok_or_else(no_value)?.into()))
        }
        Some("subscription") => match value.and_then(subscription) {
            Some(subscription) => Ok(Subject::Subscription(subscription)),
            None => Err(bad("the value is no subscription")),
        },
        Some(_) => Err(bad("items are of type jid, group or subscription")),
    }
}

fn parse_kinds(item: &Element) -> Result<Kinds, StanzaError> {
    let mut kinds = Kinds::default();
    for child in item.elements() {
        let kind = match child.name() {
            "message" => &mut kinds.message,
            "iq" => &mut kinds.iq,
            "presence-in" => &mut kinds.presence_in,
            "presence-out" => &mut kinds.presence_out,
            _ => return Err(bad("an item is about messages, requests and presence")),
        };
        *kind = true;
    }
    // Who names nothing, or all of it, means everything.
    let is_all = kinds.message && kinds.iq && kinds.presence_in && kinds.presence_out;
    if kinds == Kinds::default() || is_all {
        return Ok(Kinds::ALL);
    }
    Ok(kinds)
}

fn item_element(item: &Item) -> Element {
    let mut element = Element::new("item", ns::PRIVACY);
    let subject = match &item.subject {
        Subject::Everybody => None,
        Subject::Address(jid) => Some(("jid", jid.as_str())),
        Subject::Group(group) => Some(("group", &**group)),
        Subject::Subscription(subscription) => Some(("subscription", subscription.as_str())),
    };
    if let Some((kind, value)) = subject {
        element.set_attr("type", Some(kind));
        element.set_attr("value", Some(value));
    }
    let action = match item.action {
        Action::Allow => "allow",
        Action::Deny | Action::Block => "deny",
    };
    element.set_attr("action", Some(action));
    element.set_attr("order", Some(&item.order.to_string()));
    let kinds = item.kinds;
    for (is_meant, name) in [
        (kinds.message, "message"),
        (kinds.iq, "iq"),
        (kinds.presence_in, "presence-in"),
        (kinds.presence_out, "presence-out"),
    ] {
        if is_meant && !kinds.all {
            element.push(Element::new(name, ns::PRIVACY));
        }
    }
    element
}

fn bad(text: &'static str) -> StanzaError {
    StanzaError::new(StanzaCondition::BadRequest).with_text(text)
}

fn not_found() -> StanzaError {
    StanzaError::new(StanzaCondition::ItemNotFound).with_text("there is no such list")
}

/// There is no room.
fn full() -> StanzaError {
    StanzaError::new(StanzaCondition::PolicyViolation)
        .with_text("the account has as many lists, or the list as many items, as it may have")
}

fn refuse_for_now(error: storage::Error) -> StanzaError {
    tracing::error!(%error, "a privacy list failed");
    error.to_stanza_error()
}

#[cfg(test)]
mod tests;
