//! Delivery to our own accounts (RFC 6121 section 8.5).
use std::ops::ControlFlow;
use std::sync::Arc;

use protocol::{JidRef, Kind, Stanza, StanzaCondition, StanzaError, StanzaType, ns};

use super::restrictions::{self, Withheld};
use super::{Delivery, Route, copies};
use crate::c2s::resume::Token;
use crate::cluster::Sessions;
use crate::hooks::{AccountPresence, DeliverLocal, Halt, MaySeePresence, OfflineMessage};
use crate::host::Host;
use crate::iq::Target;
use crate::outlet::{Pushed, SessionRef};

/// The session that alone takes a message, if there is exactly one, and those that want copies: what the fast path
/// delivers to. None where a list may have to be asked.
pub(super) fn only_session(
    sessions: &Sessions,
    stanza: &Stanza,
    to: JidRef<'_>,
    is_anybody_restricted: bool,
) -> Option<(SessionRef, Vec<SessionRef>)> {
    sessions.with_account(to.bare_str(), |sessions| {
        if is_anybody_restricted && !restrictions::are_unrestricted(sessions) {
            return None;
        }
        let only = only_taker(sessions, to, stanza.stanza_type())?;
        let others = copies::takers(sessions, stanza.from(), |session| {
            Arc::ptr_eq(session, only)
        });
        Some((only.clone(), others))
    })
}

fn only_taker<'a>(
    sessions: &'a [SessionRef],
    to: JidRef<'_>,
    stanza_type: StanzaType,
) -> Option<&'a SessionRef> {
    if to.resource().is_some() {
        return sessions
            .iter()
            .find(|session| session.jid().as_str() == to.as_str());
    }
    if !goes_to_available(stanza_type) {
        return None;
    }
    let mut takers = sessions.iter().filter(|session| takes_messages(session));
    match (takers.next(), takers.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

/// Types of messages to a bare address that available sessions get.
fn goes_to_available(stanza_type: StanzaType) -> bool {
    matches!(
        stanza_type,
        StanzaType::Normal | StanzaType::Chat | StanzaType::Headline
    )
}

/// A session of negative priority gets nothing that is addressed to the bare address.
pub(crate) fn takes_messages(session: &SessionRef) -> bool {
    session.priority().is_some_and(|priority| priority >= 0)
}

impl Route {
    /// A stanza for an account of ours.
    pub(super) async fn account_stanza(&mut self, host: &Arc<Host>, delivery: Delivery) {
        let Some((delivery, withheld)) = self.admit(host, delivery).await else {
            return;
        };
        let Some(delivery) = self.filter(host, delivery).await else {
            return;
        };
        match delivery.stanza.kind() {
            Kind::Message => self.message(host, delivery, &withheld).await,
            Kind::Presence => self.presence(host, delivery, &withheld).await,
            Kind::Iq => self.iq(host, delivery).await,
        }
    }

    /// The receiver's filters.
    async fn filter(&mut self, host: &Arc<Host>, delivery: Delivery) -> Option<Delivery> {
        if host.hooks.is_silent::<DeliverLocal>() {
            return Some(delivery);
        }
        let to = delivery.stanza.to()?.to_bare();
        let mut event = DeliverLocal {
            stanza: delivery.stanza,
            to,
        };
        let flow = host.hooks.run(self, &mut event).await;
        let delivery = Delivery {
            stanza: event.stanza,
            token: delivery.token,
        };
        match flow {
            ControlFlow::Continue(()) => Some(delivery),
            ControlFlow::Break(halt) => {
                self.halt(delivery, &halt);
                None
            }
        }
    }

    /// Does what a chain's verdict says.
    pub fn halt(&mut self, delivery: Delivery, halt: &Halt) {
        match halt {
            Halt::Drop => self.settle(delivery.token),
            Halt::Bounce(error) => self.bounce(delivery, error),
        }
    }

    // ---- messages

    async fn message(&mut self, host: &Arc<Host>, delivery: Delivery, withheld: &Withheld) {
        let Some(to) = delivery.stanza.to() else {
            return self.settle(delivery.token);
        };
        let stanza_type = delivery.stanza.stanza_type();
        if to.resource().is_some() {
            if let Some(session) = self.router.sessions.find(to) {
                let copies =
                    self.received_copies(&delivery, std::slice::from_ref(&session), withheld);
                return match self.push(&session, delivery) {
                    None => copies.push(&self.router, &mut self.batch),
                    // It has ended meanwhile.
                    Some(delivery) => self.untaken_message(host, delivery, withheld).await,
                };
            }
            match stanza_type {
                StanzaType::Chat => {}
                StanzaType::Groupchat => {
                    return self.untaken_message(host, delivery, withheld).await;
                }
                _ => return self.undeliverable(delivery),
            }
        }
        if !goes_to_available(stanza_type) {
            return self.not_for_available(host, delivery, withheld).await;
        }
        let mut takers = self.router.sessions.of_account(to.bare_str());
        takers.retain(takes_messages);
        let is_anybody_there = !takers.is_empty();
        takers.retain(|session| !withheld.is_from(session));
        if is_anybody_there && takers.is_empty() {
            return self.refuse(delivery);
        }
        let copies = self.received_copies(&delivery, &takers, withheld);
        match self.push_to_all(&takers, delivery) {
            None => copies.push(&self.router, &mut self.batch),
            Some(delivery) => self.untaken_message(host, delivery, withheld).await,
        }
    }

    /// `groupchat` is not for those who are there, but a store may keep it for those who are not.
    async fn not_for_available(
        &mut self,
        host: &Arc<Host>,
        delivery: Delivery,
        withheld: &Withheld,
    ) {
        let is_willing = delivery.stanza.to().is_some_and(|to| {
            let sessions = &self.router.sessions;
            sessions.with_account(to.bare_str(), |all| all.iter().any(takes_messages))
        });
        if is_willing {
            return self.undeliverable(delivery);
        }
        self.untaken_message(host, delivery, withheld).await;
    }

    /// Pushes to one session; gives the delivery back if that is closed.
    fn push(&mut self, session: &SessionRef, delivery: Delivery) -> Option<Delivery> {
        self.router
            .metrics
            .stanzas_delivered
            .of(delivery.stanza.kind())
            .inc();
        match session.push(delivery.stanza, delivery.token, &mut self.batch) {
            Pushed::Taken => None,
            Pushed::Closed(stanza, token) => Some(Delivery { stanza, token }),
        }
    }

    /// Pushes a copy to each; gives the delivery back if nobody took one. The sender's acknowledgement waits for all.
    fn push_to_all(&mut self, takers: &[SessionRef], delivery: Delivery) -> Option<Delivery> {
        let Delivery { stanza, token } = delivery;
        if let (Some(token), Ok(more)) = (token, u16::try_from(takers.len())) {
            self.router.ledger.expect(token, more);
        }
        let mut taken = false;
        for session in takers {
            let copy = Delivery {
                stanza: stanza.clone(),
                token,
            };
            match self.push(session, copy) {
                None => taken = true,
                Some(refused) => self.settle(refused.token),
            }
        }
        if taken {
            // The one that stands for the stanza itself.
            self.settle(token);
            return None;
        }
        Some(Delivery { stanza, token })
    }

    /// No session takes the message: the offline store, or an answer.
    async fn untaken_message(&mut self, host: &Arc<Host>, delivery: Delivery, withheld: &Withheld) {
        if withheld.is_unkept() {
            return self.refuse(delivery);
        }
        let stanza_type = delivery.stanza.stanza_type();
        if !matches!(
            stanza_type,
            StanzaType::Normal | StanzaType::Chat | StanzaType::Groupchat
        ) {
            return self.undeliverable(delivery);
        }
        let Some(to) = delivery.stanza.to().map(JidRef::to_bare) else {
            return self.settle(delivery.token);
        };
        let mut event = OfflineMessage {
            stanza: delivery.stanza,
            to,
            owed: !self.is_first && delivery.token.is_some_and(Token::is_of_row),
            stored: false,
        };
        let flow = host.hooks.run(self, &mut event).await;
        let stored = event.stored;
        let delivery = Delivery {
            stanza: event.stanza,
            token: delivery.token,
        };
        match flow {
            ControlFlow::Break(halt) => self.halt(delivery, &halt),
            ControlFlow::Continue(()) if stored => self.settle(delivery.token),
            ControlFlow::Continue(()) => self.undeliverable(delivery),
        }
    }

    /// What becomes of a message that nobody takes and nobody stores (RFC 6121 sections 8.5.2.2 and 8.5.3.2).
    pub(super) fn undeliverable(&mut self, delivery: Delivery) {
        match delivery.stanza.stanza_type() {
            StanzaType::Headline | StanzaType::Error => {
                self.router.metrics.stanzas_dropped.inc();
                self.settle(delivery.token);
            }
            _ => self.bounce(delivery, &StanzaCondition::ServiceUnavailable.into()),
        }
    }

    // ---- presence

    async fn presence(&mut self, host: &Arc<Host>, delivery: Delivery, withheld: &Withheld) {
        let Some(to) = delivery.stanza.to() else {
            return self.settle(delivery.token);
        };
        let is_availability = matches!(
            delivery.stanza.stanza_type(),
            StanzaType::Available | StanzaType::Unavailable | StanzaType::Error
        );
        let account = to.to_bare();
        if to.resource().is_some() && is_availability {
            if let Some(session) = self.router.sessions.find(to) {
                // Presence is state, not content: it is settled when it has been handed on.
                let stanza = delivery.stanza;
                let _closed = self.push(
                    &session,
                    Delivery {
                        stanza,
                        token: None,
                    },
                );
            }
            return self.settle(delivery.token);
        }
        let mut event = AccountPresence {
            stanza: delivery.stanza,
            to: account,
        };
        let flow = host.hooks.run(self, &mut event).await;
        let delivery = Delivery {
            stanza: event.stanza,
            token: delivery.token,
        };
        match flow {
            ControlFlow::Break(Halt::Drop) => self.settle(delivery.token),
            ControlFlow::Break(Halt::Bounce(error)) => self.bounce(delivery, &error),
            ControlFlow::Continue(()) => {
                self.presence_to_available(&event.to, delivery, withheld);
            }
        }
    }

    /// A copy to every available session (RFC 6121 section 8.5.2.1.2).
    fn presence_to_available(
        &mut self,
        to: &protocol::BareJid,
        delivery: Delivery,
        withheld: &Withheld,
    ) {
        let mut takers = self.router.sessions.of_account(to.as_str());
        takers.retain(|session| session.priority().is_some() && !withheld.is_from(session));
        for session in &takers {
            let copy = Delivery {
                stanza: delivery.stanza.clone(),
                token: None,
            };
            let _closed = self.push(session, copy);
        }
        self.settle(delivery.token);
    }

    // ---- IQ

    async fn iq(&mut self, host: &Arc<Host>, delivery: Delivery) {
        let Some(to) = delivery.stanza.to() else {
            return self.settle(delivery.token);
        };
        let is_request = matches!(
            delivery.stanza.stanza_type(),
            StanzaType::Get | StanzaType::Set
        );
        if to.resource().is_none() {
            if is_request {
                return self.answer(host, delivery, Target::Account, None).await;
            }
            return self.settle(delivery.token);
        }
        let session = self.router.sessions.find(to);
        let session = match session {
            // A roster push comes from the own server alone: whoever else sends one means harm.
            Some(_) if is_request && is_foreign_roster(&delivery.stanza) => None,
            Some(session) if is_request && !self.may_ask(host, &delivery, &session).await => None,
            other => other,
        };
        let refused = match session {
            Some(session) => self.push(&session, delivery),
            None => Some(delivery),
        };
        if let Some(delivery) = refused {
            self.bounce(
                delivery,
                &StanzaError::new(StanzaCondition::ServiceUnavailable),
            );
        }
    }

    /// Whether the asker may learn that the session exists (RFC 6121 section 8.5.3.1). Without a module that knows of
    /// presence, everybody may.
    async fn may_ask(
        &mut self,
        host: &Arc<Host>,
        delivery: &Delivery,
        session: &SessionRef,
    ) -> bool {
        let Some(from) = delivery.stanza.from() else {
            return false;
        };
        if from.bare_str() == session.jid().bare_str() || host.hooks.is_silent::<MaySeePresence>() {
            return true;
        }
        let mut event = MaySeePresence {
            from: from.to_jid(),
            session: session.clone(),
            allowed: false,
        };
        let flow = host.hooks.run(self, &mut event).await;
        flow.is_continue() && event.allowed
    }
}

/// A request about rosters from somebody else's account.
fn is_foreign_roster(stanza: &Stanza) -> bool {
    let is_roster = stanza.payload().is_some_and(|(_, ns)| ns == ns::ROSTER);
    let bare = |jid: Option<JidRef<'_>>| jid.map(|jid| jid.bare_str().to_owned());
    is_roster && bare(stanza.from()) != bare(stanza.to())
}
