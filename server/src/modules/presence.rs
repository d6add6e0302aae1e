//! RFC 6121 sections 3 and 4: presence and subscriptions.
use std::ops::ControlFlow;
use std::sync::Arc;

use protocol::{
    BareJid, Element, Jid, JidRef, Stanza, StanzaCondition, StanzaError, StanzaType, ns,
};

use super::roster::store::Done;
use super::roster::subscription::{State, SubscriptionType};
use super::roster::{self, Roster};
use super::{Needs, Start, StartError};
use crate::auth::Accounts;
use crate::c2s::session::Session;
use crate::hooks::{
    AccountPresence, Error, Halt, Handle, MaySeePresence, Outcome, SessionAvailable, SessionClosed,
    Stage, UserSendPresence,
};
use crate::outlet::{Flag, SessionRef};
use crate::router::{Delivery, Route};

pub use super::config::Presence as Config;

/// Bytes of one presence stanza: it is copied to every contact.
pub const PRESENCE_BYTES_MAX: usize = 8 * 1024;

/// Rosters, which say who sees whose presence.
pub fn needs(_config: &Config) -> Needs {
    Needs::module("mod_roster")
}

/// Handles everything about presence.
pub async fn start(_config: Config, start: &mut Start<'_>) -> Result<(), StartError> {
    let presence = Arc::new(Presence {
        roster: start.get::<Roster>()?,
        accounts: start.auth.accounts(),
    });
    start.on::<UserSendPresence, _>(Stage::Archive, &presence);
    start.on::<AccountPresence, _>(Stage::Archive, &presence);
    start.on::<MaySeePresence, _>(Stage::Filter, &presence);
    start.on::<SessionClosed, _>(Stage::Observe, &presence);
    Ok(())
}

struct Presence {
    roster: Arc<Roster>,
    accounts: Accounts,
}

/// The end of a session's presence, for everybody or for one address.
pub fn unavailable(from: &str, to: Option<&str>) -> Option<Stanza> {
    let mut presence = Element::new("presence", ns::CLIENT)
        .with_attr("type", "unavailable")
        .with_attr("from", from);
    presence.set_attr("to", to);
    Stanza::from_element(&presence).ok()
}

impl Handle<UserSendPresence> for Presence {
    async fn handle(
        &self,
        session: &mut Session,
        event: &mut UserSendPresence,
    ) -> Outcome<UserSendPresence> {
        let stanza = &event.stanza;
        if stanza.bytes().len() > PRESENCE_BYTES_MAX {
            return Ok(ControlFlow::Break(Halt::Bounce(
                StanzaError::new(StanzaCondition::PolicyViolation)
                    .with_text("presence is limited to 8 KiB"),
            )));
        }
        let kind = SubscriptionType::from_stanza_type(stanza.stanza_type());
        match (stanza.stanza_type(), stanza.to().map(JidRef::to_jid)) {
            (_, Some(to)) if kind.is_some() => {
                let Some(kind) = kind else {
                    return Ok(ControlFlow::Continue(()));
                };
                self.send_subscription(session, stanza, kind, &to.to_bare())
                    .await
            }
            (StanzaType::Available, None) => self.become_available(session, stanza).await,
            (StanzaType::Unavailable, None) => {
                self.become_unavailable(session, stanza).await?;
                Ok(ControlFlow::Break(Halt::Drop))
            }
            (StanzaType::Available, Some(to)) => {
                if session.outlet.add_directed(to) {
                    return Ok(ControlFlow::Continue(()));
                }
                Ok(ControlFlow::Break(Halt::Bounce(
                    StanzaError::new(StanzaCondition::ResourceConstraint)
                        .with_text("presence was sent to too many addresses"),
                )))
            }
            (StanzaType::Unavailable, Some(to)) => {
                session.outlet.remove_directed(&to);
                Ok(ControlFlow::Continue(()))
            }
            // A client's probe is answered like a server's: who may see sees.
            (StanzaType::Error | StanzaType::Probe, Some(_)) => Ok(ControlFlow::Continue(())),
            // A probe or a subscription to nobody.
            _ => Ok(ControlFlow::Break(Halt::Drop)),
        }
    }
}

impl Presence {
    /// RFC 6121 section 3, the user's side.
    async fn send_subscription(
        &self,
        session: &mut Session,
        stanza: &Stanza,
        kind: SubscriptionType,
        contact: &BareJid,
    ) -> Outcome<UserSendPresence> {
        let account = session.account();
        if *contact == account {
            return Ok(ControlFlow::Break(Halt::Drop));
        }
        let done = self.roster.store.outbound(&account, contact, kind).await?;
        let (outbound, push) = match done {
            Done::Changed(changed) => changed,
            Done::Full => {
                return Ok(ControlFlow::Break(Halt::Bounce(
                    StanzaError::new(StanzaCondition::NotAllowed)
                        .with_text("the roster has as many contacts as it may have"),
                )));
            }
        };
        let mut route = session.scope();
        if let Some(push) = &push {
            self.roster.push(&mut route, &account, push);
        }
        let ends = outbound.share == Some(roster::subscription::Share::Unavailable);
        if ends {
            self.roster
                .share(&mut route, &account, contact, outbound.share)
                .await;
        }
        if outbound.route {
            let stanza = stanza.with_from(account.as_ref()).with_to(contact.as_ref());
            route
                .route(Delivery {
                    stanza,
                    token: None,
                })
                .await;
        }
        if !ends {
            self.roster
                .share(&mut route, &account, contact, outbound.share)
                .await;
        }
        Ok(ControlFlow::Break(Halt::Drop))
    }

    /// RFC 6121 sections 4.2 and 4.4, in the order that clients rely on: own resources, what the new one has to know
    /// of them, contacts, probes, waiting requests, then whoever delivers stored messages.
    async fn become_available(
        &self,
        session: &mut Session,
        stanza: &Stanza,
    ) -> Outcome<UserSendPresence> {
        let Some(priority) = priority(stanza) else {
            return Ok(ControlFlow::Break(Halt::Bounce(
                StanzaError::new(StanzaCondition::BadRequest)
                    .with_text("the priority is a number from -128 to 127"),
            )));
        };
        let account = session.account();
        let outlet = session.outlet.clone();
        let old_priority = outlet.priority();
        let before = outlet.set_presence(Some((Arc::new(stanza.clone()), priority)));
        let overview = self.roster.store.overview(&account).await?;
        let mut route = session.scope();
        let own = available(&route, account.as_str());
        for other in &own {
            let copy = stanza.with_to(other.jid().as_ref());
            let _closed = other.push(copy, None, &mut route.batch);
        }
        if before.is_none() {
            for other in own.iter().filter(|other| !Arc::ptr_eq(other, &outlet)) {
                if let Some(presence) = other.presence() {
                    let copy = presence.with_to(outlet.jid().as_ref());
                    let _closed = outlet.push(copy, None, &mut route.batch);
                }
            }
        }
        self.broadcast(&mut route, stanza, &overview.subscriptions)
            .await;
        if before.is_none() {
            self.probe(&mut route, &outlet, &overview.subscriptions)
                .await;
            if overview.has_requests {
                self.repeat_requests(&mut route, &account, &outlet).await?;
            }
        }
        route.batch.flush();
        let takes_messages = priority >= 0 && old_priority.is_none_or(|old| old < 0);
        if takes_messages && overview.has_messages {
            let host = session.host.clone();
            let _ = host.hooks.run(session, &mut SessionAvailable).await;
        }
        Ok(ControlFlow::Break(Halt::Drop))
    }

    /// To every contact that sees the user's presence.
    async fn broadcast(&self, route: &mut Route, stanza: &Stanza, all: &[(Jid, State)]) {
        for (contact, state) in all {
            if state.has_from() {
                let stanza = stanza.with_to(contact.as_ref());
                route
                    .route(Delivery {
                        stanza,
                        token: None,
                    })
                    .await;
            }
        }
    }

    /// Asks for the presence of every contact that the user sees (section 4.3). Accounts of this node answer at once.
    async fn probe(&self, route: &mut Route, outlet: &SessionRef, all: &[(Jid, State)]) {
        for (contact, state) in all {
            if !state.has_to() {
                continue;
            }
            if route.router.host(contact.domain()).is_none() {
                let probe = Element::new("presence", ns::CLIENT)
                    .with_attr("type", "probe")
                    .with_attr("from", outlet.jid().as_str())
                    .with_attr("to", contact.bare_str());
                if let Ok(stanza) = Stanza::from_element(&probe) {
                    route
                        .route(Delivery {
                            stanza,
                            token: None,
                        })
                        .await;
                }
                continue;
            }
            for session in available(route, contact.bare_str()) {
                if let Some(presence) = session.presence() {
                    let copy = presence.with_to(outlet.jid().as_ref());
                    let _closed = outlet.push(copy, None, &mut route.batch);
                }
            }
        }
    }

    /// Requests that wait for an answer, at every login until there is one (section 3.1.3).
    async fn repeat_requests(
        &self,
        route: &mut Route,
        account: &BareJid,
        outlet: &SessionRef,
    ) -> Result<(), Error> {
        let mut after: Option<Jid> = None;
        loop {
            let requests = self.roster.store.requests(account, after.as_ref()).await?;
            let Some(last) = requests.last() else {
                return Ok(());
            };
            after = Some(last.from.clone());
            for stanza in requests
                .iter()
                .filter_map(|request| request.to_stanza(account))
            {
                let _closed = outlet.push(stanza, None, &mut route.batch);
            }
        }
    }

    /// The end of a session's presence: contacts, own resources, and everybody who got directed presence.
    async fn become_unavailable(
        &self,
        session: &mut Session,
        stanza: &Stanza,
    ) -> Result<(), Error> {
        let account = session.account();
        let was_available = session.outlet.set_presence(None).is_some();
        let directed = session.outlet.take_directed();
        let mut route = session.scope();
        let mut told: Vec<Jid> = Vec::new();
        if was_available {
            let overview = self.roster.store.overview(&account).await?;
            for other in available(&route, account.as_str()) {
                let copy = stanza.with_to(other.jid().as_ref());
                let _closed = other.push(copy, None, &mut route.batch);
            }
            if !session.outlet.has(Flag::Closed) {
                let copy = stanza.with_to(session.outlet.jid().as_ref());
                let _closed = session.outlet.push(copy, None, &mut route.batch);
            }
            self.broadcast(&mut route, stanza, &overview.subscriptions)
                .await;
            let seeing = overview
                .subscriptions
                .into_iter()
                .filter(|(_, state)| state.has_from());
            told.extend(seeing.map(|(contact, _)| contact));
        }
        for to in directed {
            if !told.iter().any(|contact| contact.as_str() == to.as_str()) {
                let stanza = stanza.with_to(to.as_ref());
                route
                    .route(Delivery {
                        stanza,
                        token: None,
                    })
                    .await;
            }
        }
        Ok(())
    }
}

impl Handle<SessionClosed> for Presence {
    async fn handle(
        &self,
        session: &mut Session,
        _event: &mut SessionClosed,
    ) -> Outcome<SessionClosed> {
        let outlet = session.outlet.clone();
        if let Some(stanza) = unavailable(outlet.jid().as_str(), None) {
            self.become_unavailable(session, &stanza).await?;
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl Handle<AccountPresence> for Presence {
    async fn handle(
        &self,
        route: &mut Route,
        event: &mut AccountPresence,
    ) -> Outcome<AccountPresence> {
        let Some(from) = event.stanza.from().map(JidRef::to_jid) else {
            return Ok(ControlFlow::Break(Halt::Drop));
        };
        if event.stanza.stanza_type() == StanzaType::Probe {
            self.answer_probe(route, &event.to, &from).await?;
            return Ok(ControlFlow::Break(Halt::Drop));
        }
        match SubscriptionType::from_stanza_type(event.stanza.stanza_type()) {
            None => Ok(ControlFlow::Continue(())),
            Some(kind) => {
                self.receive_subscription(route, &event.to, &from.to_bare(), kind, &event.stanza)
                    .await?;
                Ok(ControlFlow::Break(Halt::Drop))
            }
        }
    }
}

impl Presence {
    /// RFC 6121 section 4.3.2; strangers and unknown accounts get the same silence.
    async fn answer_probe(
        &self,
        route: &mut Route,
        account: &BareJid,
        from: &Jid,
    ) -> Result<(), Error> {
        let contact = from.to_bare();
        let may_see = contact == *account
            || self
                .roster
                .store
                .load_item(account, &contact.as_ref().to_jid())
                .await?
                .is_some_and(|item| item.contact.state.has_from());
        if !may_see {
            return Ok(());
        }
        for session in available(route, account.as_str()) {
            if let Some(presence) = session.presence() {
                let stanza = presence.with_to(from.as_ref());
                route
                    .route(Delivery {
                        stanza,
                        token: None,
                    })
                    .await;
            }
        }
        Ok(())
    }

    /// RFC 6121 section 3, the contact's side.
    async fn receive_subscription(
        &self,
        route: &mut Route,
        account: &BareJid,
        contact: &BareJid,
        kind: SubscriptionType,
        stanza: &Stanza,
    ) -> Result<(), Error> {
        if *contact == *account || !self.accounts.exists(account).await? {
            return Ok(());
        }
        let stanza = stanza.with_from(contact.as_ref()).with_to(account.as_ref());
        let xml = String::from_utf8_lossy(stanza.bytes()).into_owned();
        let (inbound, push) = self
            .roster
            .store
            .inbound(account, contact, kind, &xml)
            .await?;
        let ends = inbound.share == Some(roster::subscription::Share::Unavailable);
        if ends {
            self.roster
                .share(route, account, contact, inbound.share)
                .await;
        }
        if inbound.deliver {
            let is_request = kind == SubscriptionType::Subscribe;
            for session in route.router.sessions.of_account(account.as_str()) {
                let wants = if is_request {
                    session.priority().is_some()
                } else {
                    session.has(Flag::Interested)
                };
                if wants {
                    let _closed = session.push(stanza.clone(), None, &mut route.batch);
                }
            }
        }
        if let Some(push) = &push {
            self.roster.push(route, account, push);
        }
        if let Some(stanza) = inbound
            .reply
            .and_then(|kind| roster::about(kind, account, contact))
        {
            route
                .route(Delivery {
                    stanza,
                    token: None,
                })
                .await;
        }
        if !ends {
            self.roster
                .share(route, account, contact, inbound.share)
                .await;
        }
        Ok(())
    }
}

impl Handle<MaySeePresence> for Presence {
    async fn handle(
        &self,
        _route: &mut Route,
        event: &mut MaySeePresence,
    ) -> Outcome<MaySeePresence> {
        let bare = event.from.to_bare().as_ref().to_jid();
        event.allowed =
            event.session.has_directed(&event.from) || event.session.has_directed(&bare);
        if !event.allowed {
            let account = event.session.jid().to_bare();
            let item = self.roster.store.load_item(&account, &bare).await?;
            event.allowed = item.is_some_and(|item| item.contact.state.has_from());
        }
        Ok(ControlFlow::Continue(()))
    }
}

fn available(route: &Route, account: &str) -> Vec<SessionRef> {
    let mut sessions = route.router.sessions.of_account(account);
    sessions.retain(|session| session.priority().is_some());
    sessions
}

/// The priority of an available presence (RFC 6121 section 4.7.2.3): 0 if none is given, `None` if it is none.
fn priority(stanza: &Stanza) -> Option<i8> {
    let element = stanza.to_element();
    match element.child("priority", ns::CLIENT) {
        None => Some(0),
        Some(priority) => priority.text().trim().parse().ok(),
    }
}
