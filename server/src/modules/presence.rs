//! RFC 6121 sections 3 and 4: presence and subscriptions.
//!
//! What a user sends, what comes from outside, and the end of a session. The roster decides and keeps subscriptions;
//! [`arrival`] is what a session that becomes available is told, [`pace`] how fast all of it may go.
//!
//! Whoever reads a session's presence to send it looks again afterwards: of two tasks that send it, one may be late,
//! and what arrives last has to be what holds.
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use daemon::Tasks;
use protocol::error::ErrorType;
use protocol::{
    BareJid, Element, Jid, JidRef, Stanza, StanzaCondition, StanzaError, StanzaType, ns,
};

use self::arrival::Arrival;
use self::pace::{Changes, Requests, Turn};
use super::roster::known::Subscriptions;
use super::roster::subscription::{Inbound, Share, SubscriptionType};
use super::roster::{self, Roster, deliver, deliver_from, unavailable};
use super::{Needs, Start, StartError};
use crate::c2s::session::Session;
use crate::hooks::{
    AccountPresence, Error, Halt, Handle, MaySeePresence, Outcome, PresenceSet, SessionClosed,
    Stage, UserSendPresence,
};
use crate::outlet::{Flag, SessionRef};
use crate::router::Route;

pub mod arrival;
pub mod pace;

pub use super::config::Presence as Config;

/// Bytes of one presence stanza: it is copied to every contact.
pub const PRESENCE_BYTES_MAX: usize = 8 * 1024;

/// Rosters, which say who sees whose presence.
pub fn needs(_config: &Config) -> Needs {
    Needs::module("mod_roster")
}

/// Handles everything about presence.
pub async fn start(_config: Config, start: &mut Start<'_>) -> Result<(), StartError> {
    let presence = Arc::new(Presence(Arc::new(Shared {
        roster: start.get::<Roster>()?,
        domains: start.domains.into(),
        tasks: start.tasks.clone(),
        changes: Changes::default(),
        requests: Requests::default(),
    })));
    start.stream_feature(Element::new("sub", ns::PRE_APPROVAL));
    start.on::<UserSendPresence, _>(Stage::Archive, &presence);
    start.on::<AccountPresence, _>(Stage::Archive, &presence);
    start.on::<MaySeePresence, _>(Stage::Filter, &presence);
    // Before the roster forgets who has to be told.
    start.on::<SessionClosed, _>(Stage::Copy, &presence);
    Ok(())
}

struct Presence(Arc<Shared>);

/// What this module's tasks share.
struct Shared {
    roster: Arc<Roster>,
    domains: Box<[Box<str>]>,
    tasks: Tasks,
    changes: Changes,
    requests: Requests,
}

// ---- what a user sends

impl Handle<UserSendPresence> for Presence {
    async fn handle(
        &self,
        session: &mut Session,
        event: &mut UserSendPresence,
    ) -> Outcome<UserSendPresence> {
        let stanza = &event.stanza;
        if stanza.bytes().len() > PRESENCE_BYTES_MAX {
            return Ok(refuse(
                StanzaCondition::PolicyViolation,
                "presence may have 8 KiB",
            ));
        }
        match (stanza.stanza_type(), stanza.to().map(JidRef::to_jid)) {
            (StanzaType::Available, None) => self.available(session, stanza).await,
            (StanzaType::Unavailable, None) => {
                self.0.leave(session, stanza).await?;
                Ok(ControlFlow::Continue(()))
            }
            (StanzaType::Available, Some(to)) => Ok(if session.outlet.add_directed(to) {
                ControlFlow::Continue(())
            } else {
                let text = "presence was sent to too many addresses";
                refuse(StanzaCondition::PolicyViolation, text)
            }),
            (StanzaType::Unavailable, Some(to)) => {
                session.outlet.remove_directed(&to);
                Ok(ControlFlow::Continue(()))
            }
            (stanza_type, to) => match (SubscriptionType::from_stanza_type(stanza_type), to) {
                (None, _) => Ok(ControlFlow::Continue(())),
                (Some(_), None) => Ok(refuse(StanzaCondition::BadRequest, "it needs a receiver")),
                (Some(kind), Some(to)) => {
                    self.subscription(session, stanza, kind, &to.to_bare())
                        .await
                }
            },
        }
    }
}

fn refuse(condition: StanzaCondition, text: &'static str) -> ControlFlow<Halt> {
    let error = StanzaError::new(condition).with_text(text);
    ControlFlow::Break(Halt::Bounce(error))
}

/// Trying again later helps.
fn too_fast(text: &'static str) -> ControlFlow<Halt> {
    let error = StanzaError::new(StanzaCondition::PolicyViolation)
        .with_text(text)
        .with_type(ErrorType::Wait);
    ControlFlow::Break(Halt::Bounce(error))
}

impl Presence {
    /// RFC 6121 sections 4.2 and 4.4: later presence is told, and nothing else.
    async fn available(&self, session: &mut Session, stanza: &Stanza) -> Outcome<UserSendPresence> {
        let Some(priority) = priority(stanza) else {
            let text = "the priority is a number from -128 to 127";
            return Ok(refuse(StanzaCondition::BadRequest, text));
        };
        if session.outlet.presence().is_none() {
            return self.initial(session, stanza, priority).await;
        }
        let outlet = session.outlet.clone();
        let before = outlet.priority();
        outlet.set_presence(Some((Arc::new(stanza.clone()), priority)));
        let mut route = session.scope();
        let now = route.router.ledger.clock.now_ms();
        match self.0.changes.take(outlet.id(), now) {
            Turn::Now => self.0.tell(&mut route, &outlet, stanza).await?,
            Turn::After(wait_ms) => {
                route.router.metrics.modules.presence_held_back.inc();
                let wait = Duration::from_millis(wait_ms);
                let later =
                    Shared::tell_later(self.0.clone(), session.scope(), outlet.clone(), wait);
                self.0.tasks.spawn("presence", later);
            }
            Turn::Covered => {
                route.router.metrics.modules.presence_held_back.inc();
            }
        }
        let set = PresenceSet {
            session: outlet,
            priority,
            before,
            has_messages: true,
        };
        announce(&mut route, set).await;
        Ok(ControlFlow::Continue(()))
    }

    /// RFC 6121 section 4.2, in the order that clients rely on: own resources, what the new one has to know of them,
    /// contacts; then probes, waiting requests and stored messages, which is [`Arrival`].
    async fn initial(
        &self,
        session: &mut Session,
        stanza: &Stanza,
        priority: i8,
    ) -> Outcome<UserSendPresence> {
        let (outlet, account) = (session.outlet.clone(), session.account());
        let now = session.router.ledger.clock.now_ms();
        if !self.0.changes.take_now(outlet.id(), now) {
            return Ok(too_fast("presence comes and goes too fast"));
        }
        // First, so that a message that is stored from here on finds the session, or the look below finds it.
        outlet.set_priority(Some(priority));
        let (subscriptions, overview) = match self.0.roster.overview(&account).await {
            Ok(found) => found,
            Err(error) => {
                outlet.set_priority(None);
                return Err(error.into());
            }
        };
        outlet.set_presence(Some((Arc::new(stanza.clone()), priority)));
        let mut route = session.scope();
        tell_own(&mut route, &outlet, stanza);
        for other in available(&route, account.as_str()) {
            if !Arc::ptr_eq(&other, &outlet) {
                roster::show_with(&other, outlet.jid().as_ref(), |stanza| {
                    let _closed = outlet.push(stanza, None, &mut route.batch);
                });
            }
        }
        self.0
            .tell_subscribers(&mut route, &outlet, stanza, &subscriptions)
            .await;
        let arrival = Arrival::new(self.0.clone(), outlet, priority, &subscriptions, &overview);
        arrival.begin(&mut route).await?;
        Ok(ControlFlow::Continue(()))
    }

    /// RFC 6121 section 3, the user's side.
    async fn subscription(
        &self,
        session: &mut Session,
        stanza: &Stanza,
        kind: SubscriptionType,
        contact: &BareJid,
    ) -> Outcome<UserSendPresence> {
        let account = session.account();
        if *contact == account {
            // One's own presence is seen anyway.
            return Ok(ControlFlow::Break(Halt::Drop));
        }
        let router = &session.router;
        let now = router.ledger.clock.now_ms();
        if kind == SubscriptionType::Subscribe && !self.0.requests.take(account.as_str(), now) {
            router.metrics.modules.subscriptions_refused.inc();
            return Ok(too_fast("too many subscription requests"));
        }
        let mut route = session.scope();
        let roster = &self.0.roster;
        let done = roster.subscribe(&mut route, &account, contact, kind, stanza);
        Ok(ControlFlow::Break(match done.await? {
            Ok(()) => Halt::Drop,
            Err(refused) => Halt::Bounce(refused),
        }))
    }
}

/// The priority of an available presence (RFC 6121 section 4.7.2.3): 0 if none is given; `None` if what is given is no
/// priority, or there are several.
fn priority(stanza: &Stanza) -> Option<i8> {
    if stanza.payload().is_none() {
        return Some(0);
    }
    let element = stanza.to_element();
    let mut all = element
        .elements()
        .filter(|child| child.is("priority", ns::CLIENT));
    match (all.next(), all.next()) {
        (None, _) => Some(0),
        (Some(priority), None) => priority.text().trim().parse().ok(),
        (Some(_), Some(_)) => None,
    }
}

/// Lets other modules know that a session takes messages, or takes them by another priority.
async fn announce(route: &mut Route, mut set: PresenceSet) {
    if let Some(host) = route.router.host(set.session.jid().domain()) {
        let _ = host.hooks.run(route, &mut set).await;
    }
}

// ---- telling others

impl Shared {
    /// Tells own resources and contacts of a session's new presence.
    async fn tell(
        &self,
        route: &mut Route,
        session: &SessionRef,
        stanza: &Stanza,
    ) -> Result<(), Error> {
        let account = session.jid().to_bare();
        let subscriptions = self.roster.subscriptions(&account).await?;
        tell_own(route, session, stanza);
        self.tell_subscribers(route, session, stanza, &subscriptions)
            .await;
        Ok(())
    }

    /// The same after a while, with what holds then. Nobody else tells meanwhile, unless the session ends.
    async fn tell_later(shared: Arc<Self>, mut route: Route, session: SessionRef, wait: Duration) {
        tokio::time::sleep(wait).await;
        let now = route.router.ledger.clock.now_ms();
        shared.changes.waited(session.id(), now);
        let mut told: Option<Arc<Stanza>> = None;
        loop {
            let presence = session.presence();
            let stanza = match (&told, &presence) {
                (None, None) => return,
                (Some(told), Some(presence)) if Arc::ptr_eq(told, presence) => return,
                (_, Some(presence)) => Some(Stanza::clone(presence)),
                (Some(_), None) => unavailable(&session, None),
            };
            if let Some(stanza) = stanza
                && let Err(error) = shared.tell(&mut route, &session, &stanza).await
            {
                tracing::warn!(%error, "presence could not be told");
                return;
            }
            told = presence;
        }
    }

    /// To every contact that sees the account's presence. Written once per contact, copied for each of its sessions.
    async fn tell_subscribers(
        &self,
        route: &mut Route,
        session: &SessionRef,
        stanza: &Stanza,
        subscriptions: &Arc<Subscriptions>,
    ) {
        route.router.metrics.modules.presence_broadcasts.inc();
        for contact in subscriptions.subscribers() {
            if self.may_be_there(route, contact) {
                let stanza = stanza.with_to(contact.as_ref());
                deliver_from(route, session, Some(stanza)).await;
            }
        }
        // Who has lost the right meanwhile was perhaps told the end of the presence before this.
        let account = session.jid().to_bare();
        let Ok(now) = self.roster.subscriptions(&account).await else {
            return;
        };
        if Arc::ptr_eq(&now, subscriptions) || stanza.stanza_type() == StanzaType::Unavailable {
            return;
        }
        for contact in subscriptions.subscribers() {
            if !now.is_subscriber(contact.as_str()) {
                let stanza = unavailable(session, Some(contact.as_ref()));
                deliver_from(route, session, stanza).await;
            }
        }
    }

    /// `false` if it is known without a question that nobody would get it: most contacts are offline.
    fn may_be_there(&self, route: &Route, contact: &BareJid) -> bool {
        let sessions = &route.router.sessions;
        !self.is_ours(contact.domain())
            || sessions.with_account(contact.as_str(), |all| !all.is_empty())
    }

    fn is_ours(&self, domain: &str) -> bool {
        self.domains.iter().any(|ours| **ours == *domain)
    }

    /// The end of a session's presence: own resources, contacts, and everybody who got directed presence
    /// (RFC 6121 sections 4.5 and 4.6.3). The session itself is told if it is still there.
    async fn leave(&self, session: &mut Session, stanza: &Stanza) -> Result<(), Error> {
        let outlet = session.outlet.clone();
        let was_available = outlet.presence().is_some();
        let mut route = session.scope();
        if was_available {
            let copy = stanza.with_to(outlet.jid().as_ref());
            let _closed = outlet.push(copy, None, &mut route.batch);
        }
        outlet.set_presence(None);
        let directed = outlet.take_directed();
        let mut subscriptions = Arc::default();
        let mut found = Ok(());
        if was_available {
            tell_own(&mut route, &outlet, stanza);
            match self.roster.subscriptions(&session.account()).await {
                Ok(all) => subscriptions = all,
                Err(error) => found = Err(error.into()),
            }
            self.tell_subscribers(&mut route, &outlet, stanza, &subscriptions)
                .await;
        }
        for to in directed {
            if !self.was_told(&route, &subscriptions, &to) {
                let stanza = stanza.with_to(to.as_ref());
                deliver_from(&mut route, &outlet, Some(stanza)).await;
            }
        }
        found
    }

    /// Whether the address has got what was told to subscribers: a session of ours that is not available has not.
    fn was_told(&self, route: &Route, subscriptions: &Subscriptions, to: &Jid) -> bool {
        subscriptions.is_subscriber(to.bare_str())
            && match route.router.sessions.find(to.as_ref()) {
                Some(session) => session.priority().is_some(),
                None => true,
            }
    }
}

/// A copy to every available resource of the session's account, the session itself included.
fn tell_own(route: &mut Route, session: &SessionRef, stanza: &Stanza) {
    let own = available(route, session.jid().bare_str());
    let stanza = stanza.with_to(session.jid().as_ref().without_resource());
    for session in &own {
        let _closed = session.push(stanza.clone(), None, &mut route.batch);
    }
}

/// Available sessions of an account.
fn available(route: &Route, account: &str) -> Vec<SessionRef> {
    let mut sessions = route.router.sessions.of_account(account);
    sessions.retain(|session| session.priority().is_some());
    sessions
}

impl Handle<SessionClosed> for Presence {
    async fn handle(
        &self,
        session: &mut Session,
        _event: &mut SessionClosed,
    ) -> Outcome<SessionClosed> {
        self.0.changes.forget(session.outlet.id());
        if let Some(stanza) = unavailable(&session.outlet, None) {
            self.0.leave(session, &stanza).await?;
        }
        Ok(ControlFlow::Continue(()))
    }
}

// ---- what comes from outside

impl Handle<AccountPresence> for Presence {
    async fn handle(
        &self,
        route: &mut Route,
        event: &mut AccountPresence,
    ) -> Outcome<AccountPresence> {
        let stanza = &event.stanza;
        let stanza_type = stanza.stanza_type();
        let kind = SubscriptionType::from_stanza_type(stanza_type);
        match (stanza_type, stanza.from().map(JidRef::to_jid), kind) {
            (StanzaType::Available | StanzaType::Unavailable, ..) => {
                return Ok(ControlFlow::Continue(()));
            }
            (StanzaType::Probe, Some(from), _) => {
                self.0.answer_probe(route, &event.to, &from).await?;
            }
            (_, Some(from), Some(kind)) => {
                let from = from.to_bare();
                self.0
                    .receive(route, &event.to, &from, kind, stanza)
                    .await?;
            }
            // An error, which nobody answers.
            _ => {}
        }
        Ok(ControlFlow::Break(Halt::Drop))
    }
}

impl Shared {
    /// RFC 6121 section 4.3.2. Strangers get the same silence as those who ask for an account that does not exist.
    async fn answer_probe(
        &self,
        route: &mut Route,
        account: &BareJid,
        from: &Jid,
    ) -> Result<(), Error> {
        let is_own = from.bare_str() == account.as_str();
        if !is_own && !self.roster.is_subscriber(account, from.as_ref()).await? {
            return Ok(());
        }
        let sessions = available(route, account.as_str());
        if sessions.is_empty() && !is_own {
            let presence = Element::new("presence", ns::CLIENT)
                .with_attr("type", "unavailable")
                .with_attr("from", account.as_str())
                .with_attr("to", from.as_str());
            deliver(route, Stanza::from_element(&presence).ok()).await;
        }
        for session in sessions {
            roster::show(route, &session, from.as_ref()).await;
        }
        Ok(())
    }

    /// RFC 6121 section 3, the contact's side. An account that does not exist is silent.
    async fn receive(
        &self,
        route: &mut Route,
        account: &BareJid,
        contact: &BareJid,
        kind: SubscriptionType,
        stanza: &Stanza,
    ) -> Result<(), Error> {
        if contact == account {
            return Ok(());
        }
        let stanza = stanza.with_from(contact.as_ref()).with_to(account.as_ref());
        let inbound = self.roster.inbound(route, account, contact, kind, &stanza);
        let Some(inbound) = inbound.await? else {
            return Ok(());
        };
        let Inbound {
            deliver: is_news,
            reply,
            share,
            ..
        } = inbound;
        if is_news {
            let is_request = kind == SubscriptionType::Subscribe;
            for session in route.router.sessions.of_account(account.as_str()) {
                let is_for_it = if is_request {
                    session.priority().is_some()
                } else {
                    session.has(Flag::Interested)
                };
                if is_for_it {
                    let _closed = session.push(stanza.clone(), None, &mut route.batch);
                }
            }
        }
        if share == Some(Share::Unavailable) {
            roster::share(route, account, contact, Share::Unavailable).await;
        }
        if let Some(kind) = reply {
            deliver(route, roster::about(kind, account, contact)).await;
        }
        if share == Some(Share::Available) {
            roster::share(route, account, contact, Share::Available).await;
        }
        Ok(())
    }
}

impl Handle<MaySeePresence> for Presence {
    /// By directed presence, or by a subscription to a session that has told where it is.
    async fn handle(
        &self,
        route: &mut Route,
        event: &mut MaySeePresence,
    ) -> Outcome<MaySeePresence> {
        let (from, session) = (&event.from, &event.session);
        event.allowed = event.allowed
            || session.has_directed(from)
            || session.has_directed(&from.to_bare().into())
            || (from.local().is_none() && route.router.host(from.domain()).is_some());
        if !event.allowed && session.presence().is_some() {
            let account = session.jid().to_bare();
            event.allowed = self.0.roster.is_subscriber(&account, from.as_ref()).await?;
        }
        Ok(ControlFlow::Continue(()))
    }
}

#[cfg(test)]
mod tests;
