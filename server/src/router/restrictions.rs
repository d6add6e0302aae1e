//! XEP-0016, XEP-0191: what an account's lists do not let out and in.
//!
//! Lists are few, so nobody asks for one where it is known that there is none: a flag of each session says so, and the
//! fast path looks at nothing else. Who has to be asked answers by [`MaySend`] and [`MayReceive`]. Their errors are
//! answered as errors: nothing passes a list that cannot be read.
use std::ops::ControlFlow;
use std::sync::Arc;

use protocol::{JidRef, Kind, Stanza, StanzaCondition, StanzaError, StanzaType, ns};

use super::{Delivery, Route};
use crate::hooks::{Halt, MayReceive, MaySend};
use crate::host::Host;
use crate::outlet::{Flag, SessionRef};

/// Who of an account does not get a stanza.
#[derive(Default)]
pub(super) struct Withheld {
    sessions: Vec<SessionRef>,
    is_unkept: bool,
}

impl Withheld {
    /// The session does not get it.
    pub(super) fn is_from(&self, session: &SessionRef) -> bool {
        // A session that is resumed meanwhile has another outlet.
        let is_it = |withheld: &SessionRef| withheld.jid() == session.jid();
        self.sessions.iter().any(is_it)
    }

    /// It is not kept for later.
    pub(super) fn is_unkept(&self) -> bool {
        self.is_unkept
    }
}

/// What becomes of a message that was kept for an account when a session takes messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The session gets it.
    Deliver,
    /// Another session may get it.
    Leave,
    /// Nobody gets it.
    Forget,
}

/// None of the sessions of an account has to be asked.
pub(super) fn are_unrestricted(sessions: &[SessionRef]) -> bool {
    let is_known = |session: &SessionRef| session.has(Flag::Unrestricted);
    sessions.iter().all(is_known)
}

/// Nobody can lock out the own account, nor the server.
fn is_never_restricted(account: JidRef<'_>, other: JidRef<'_>) -> bool {
    let is_own_server = other.local().is_none() && other.domain() == account.domain();
    is_own_server || other.bare_str() == account.bare_str()
}

// ---- what a session sends

impl Route {
    /// Whether a list may have to be asked about what the session sends and gets.
    pub fn is_restricted(&self, session: &SessionRef) -> bool {
        let asks = |host: Arc<Host>| !host.hooks.is_silent::<MaySend>();
        !session.has(Flag::Unrestricted)
            && self.router.host(session.jid().domain()).is_some_and(asks)
    }

    /// Whether the session's list lets the stanza out; an error if that cannot be said.
    pub async fn may_send(
        &mut self,
        session: &SessionRef,
        stanza: &Stanza,
    ) -> Result<bool, StanzaError> {
        if session.has(Flag::Unrestricted) {
            return Ok(true);
        }
        let own = session.jid().as_ref();
        let is_free = stanza.to().is_none_or(|to| is_never_restricted(own, to));
        let host = self.router.host(own.domain()).filter(|_| !is_free);
        let Some(host) = host.filter(|host| !host.hooks.is_silent::<MaySend>()) else {
            return Ok(true);
        };
        let mut event = MaySend {
            session: session.clone(),
            stanza: stanza.clone(),
            refused: false,
        };
        match host.hooks.run(self, &mut event).await {
            ControlFlow::Continue(()) => Ok(!event.refused),
            ControlFlow::Break(Halt::Drop) => Ok(false),
            ControlFlow::Break(Halt::Bounce(error)) => Err(error),
        }
    }

    /// Gives back what the session's list lets out, and answers everything else (XEP-0191 section 3.5).
    pub async fn release(&mut self, session: &SessionRef, delivery: Delivery) -> Option<Delivery> {
        let error = match self.may_send(session, &delivery.stanza).await {
            Ok(true) => return Some(delivery),
            Ok(false) => StanzaError::new(StanzaCondition::NotAcceptable)
                .with_application("blocked", ns::BLOCKING_ERRORS),
            Err(error) => error,
        };
        // Nobody has a copy of it, so nobody gets one of the answer.
        if let Some(reply) = delivery.stanza.error_reply(&error) {
            self.router.metrics.stanzas_bounced.inc();
            self.reply(reply);
        } else {
            self.router.metrics.stanzas_dropped.inc();
        }
        self.settle(delivery.token);
        None
    }
}

// ---- what an account gets

impl Route {
    /// Gives back what the account's lists let in, and who does not get it. Everything else is answered or dropped.
    pub(super) async fn admit(
        &mut self,
        host: &Arc<Host>,
        delivery: Delivery,
    ) -> Option<(Delivery, Withheld)> {
        if !self.has_to_ask(host, &delivery.stanza) {
            return Some((delivery, Withheld::default()));
        }
        let to = delivery.stanza.to()?.to_bare();
        let mut event = MayReceive {
            stanza: delivery.stanza.clone(),
            to,
            refused: false,
            withheld: Vec::new(),
            unkept: false,
        };
        let flow = host.hooks.run(self, &mut event).await;
        match flow {
            ControlFlow::Continue(()) if event.refused => self.refuse(delivery),
            ControlFlow::Continue(()) => {
                let withheld = Withheld {
                    sessions: event.withheld,
                    is_unkept: event.unkept,
                };
                return Some((delivery, withheld));
            }
            ControlFlow::Break(_) if is_availability(&delivery.stanza) => {
                self.router.metrics.stanzas_dropped.inc();
                self.settle(delivery.token);
            }
            ControlFlow::Break(halt) => self.halt(delivery, &halt),
        }
        None
    }

    /// The same for a message that was kept before the list was made; an error if that cannot be said.
    pub async fn admit_kept(
        &mut self,
        session: &SessionRef,
        stanza: &Stanza,
    ) -> Result<Kept, StanzaError> {
        let account = session.jid().to_bare();
        let host = self.router.host(account.domain());
        let Some(host) = host.filter(|host| self.has_to_ask(host, stanza)) else {
            return Ok(Kept::Deliver);
        };
        let mut event = MayReceive {
            stanza: stanza.clone(),
            to: account,
            refused: false,
            withheld: Vec::new(),
            unkept: false,
        };
        match host.hooks.run(self, &mut event).await {
            ControlFlow::Break(Halt::Bounce(error)) => return Err(error),
            ControlFlow::Break(Halt::Drop) => return Ok(Kept::Forget),
            ControlFlow::Continue(()) => {}
        }
        let is_it = |withheld: &SessionRef| withheld.jid() == session.jid();
        Ok(match event.withheld.iter().any(is_it) {
            false => Kept::Deliver,
            true if event.unkept => Kept::Forget,
            true => Kept::Leave,
        })
    }

    fn has_to_ask(&self, host: &Host, stanza: &Stanza) -> bool {
        let (Some(from), Some(to)) = (stanza.from(), stanza.to()) else {
            return false;
        };
        if host.hooks.is_silent::<MayReceive>() || is_never_restricted(to, from) {
            return false;
        }
        let sessions = &self.router.sessions;
        sessions.with_account(to.bare_str(), |sessions| {
            sessions.is_empty() || !are_unrestricted(sessions)
        })
    }

    /// The sender of a message or a request is answered as if nobody were there; presence is dropped (XEP-0191
    /// section 3.3).
    pub(super) fn refuse(&mut self, delivery: Delivery) {
        match delivery.stanza.kind() {
            Kind::Message => self.undeliverable(delivery),
            Kind::Iq => self.bounce(delivery, &StanzaCondition::ServiceUnavailable.into()),
            Kind::Presence => {
                self.router.metrics.stanzas_dropped.inc();
                self.settle(delivery.token);
            }
        }
    }
}

/// Presence that the next one replaces.
fn is_availability(stanza: &Stanza) -> bool {
    let is_presence = stanza.kind() == Kind::Presence;
    is_presence
        && matches!(
            stanza.stanza_type(),
            StanzaType::Available | StanzaType::Unavailable | StanzaType::Probe | StanzaType::Error
        )
}
