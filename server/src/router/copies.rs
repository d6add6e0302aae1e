//! XEP-0280: which messages the other clients of an account get a copy of.
//!
//! The router copies, not a hook, so that a message of which nobody wants a copy stays on the fast path: what a session
//! sends is looked at only if its account has another session, what it receives when its account is looked up anyway.
//!
//! A copy is no content. Its original is acknowledged without it, and it has no row; a copy that its session has not got
//! when that ends goes nowhere else. Copies are not copied, and neither is what is routed once more.
use protocol::{Element, JidRef, Kind, Stanza, StanzaType, ns};

use super::restrictions::Withheld;
use super::{Delivery, Route, Router};
use crate::c2s::resume::Token;
use crate::outlet::{Batch, Flag, SessionRef};

/// XEP-0249: Direct MUC Invitations.
const INVITATION: &str = "jabber:x:conference";
/// What people see of a conversation besides its texts: receipts (XEP-0184), chat states (XEP-0085), markers (XEP-0333),
/// calls (XEP-0353).
const CONVERSATION: [&str; 4] = [
    "urn:xmpp:receipts",
    ns::CHAT_STATES,
    "urn:xmpp:chat-markers:0",
    "urn:xmpp:jingle-message:0",
];
/// Without these in its text nothing in a chat message speaks against a copy: namespaces are written out in it, unless
/// characters of theirs are escaped.
const SUSPICIOUS: [&str; 4] = [ns::CARBONS, ns::HINTS, ns::MUC_USER, "&#"];

/// Who a message is copied for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The other clients of its sender.
    Sent,
    /// The other clients of its receiver.
    Received,
}

/// Copies that are made and not sent.
#[derive(Default)]
pub(super) struct Copies(Vec<(SessionRef, Stanza)>);

impl Copies {
    /// A copy for each taker, if the message is one that is copied.
    pub(super) fn new(stanza: &Stanza, side: Side, takers: Vec<SessionRef>) -> Self {
        if takers.is_empty() || !is_eligible(stanza, side) {
            return Self::default();
        }
        Self::of_any(stanza, side, takers)
    }

    fn of_any(stanza: &Stanza, side: Side, takers: Vec<SessionRef>) -> Self {
        let name = match side {
            Side::Sent => "sent",
            Side::Received => "received",
        };
        let copy = |taker: SessionRef| {
            let to = taker.jid().as_ref();
            let copy = stanza.wrapped((name, ns::CARBONS), to.without_resource(), to);
            (taker, copy)
        };
        Self(takers.into_iter().map(copy).collect())
    }

    /// Hands them on.
    pub(super) fn push(self, router: &Router, batch: &mut Batch) {
        for (taker, copy) in self.0 {
            router.metrics.stanzas_delivered.of(Kind::Message).inc();
            let _closed = taker.push(copy, None, batch);
        }
    }
}

/// Sessions that want copies of a message and are not its sender.
pub(super) fn takers(
    sessions: &[SessionRef],
    from: Option<JidRef<'_>>,
    gets_original: impl Fn(&SessionRef) -> bool,
) -> Vec<SessionRef> {
    if sessions.len() < 2 {
        return Vec::new();
    }
    let is_sender = |session: &SessionRef| from.is_some_and(|from| from == session.jid().as_ref());
    let wants = |session: &&SessionRef| {
        session.has(Flag::Carbons) && !is_sender(session) && !gets_original(session)
    };
    sessions.iter().filter(wants).cloned().collect()
}

impl Router {
    /// Copies what a session sends to the other sessions of its account; whether there were any copies.
    pub fn copy_sent(&self, sender: &SessionRef, stanza: &Stanza, batch: &mut Batch) -> bool {
        if !sender.has(Flag::Accompanied) {
            return false;
        }
        let account = sender.jid().bare_str();
        // What somebody sends to themselves is copied when it is received.
        if stanza.to().is_none_or(|to| to.bare_str() == account) {
            return false;
        }
        let takers = self.copy_takers(account, stanza.from(), |_| false);
        let copies = Copies::new(stanza, Side::Sent, takers);
        let is_copied = !copies.0.is_empty();
        copies.push(self, batch);
        is_copied
    }

    fn copy_takers(
        &self,
        account: &str,
        from: Option<JidRef<'_>>,
        gets_original: impl Fn(&SessionRef) -> bool,
    ) -> Vec<SessionRef> {
        let sessions = &self.sessions;
        sessions.with_account(account, |sessions| takers(sessions, from, gets_original))
    }
}

impl Route {
    /// Copies what an account sends that no session of it has sent to all its sessions.
    pub fn copy_sent(&mut self, stanza: &Stanza) {
        let (Some(from), Some(to)) = (stanza.from(), stanza.to()) else {
            return;
        };
        let account = from.bare_str();
        // What somebody sends to themselves is copied when it is received.
        if to.bare_str() == account {
            return;
        }
        let wants = |session: &&SessionRef| session.has(Flag::Carbons);
        let takers = self.router.sessions.with_account(account, |sessions| {
            sessions.iter().filter(wants).cloned().collect()
        });
        Copies::new(stanza, Side::Sent, takers).push(&self.router, &mut self.batch);
    }

    /// Copies for the sessions of the receiver that do not get the message itself.
    pub(super) fn received_copies(
        &self,
        delivery: &Delivery,
        getters: &[SessionRef],
        withheld: &Withheld,
    ) -> Copies {
        let stanza = &delivery.stanza;
        // Whatever has a row has been routed by an earlier run.
        let has_row = delivery.token.is_some_and(Token::is_of_row);
        let was_routed = self.is_again || (has_row && !self.is_first);
        let Some(to) = stanza.to().filter(|_| !was_routed) else {
            return Copies::default();
        };
        let gets_none = |session: &SessionRef| {
            let is_getter = |getter: &SessionRef| getter.jid() == session.jid();
            getters.iter().any(is_getter) || withheld.is_from(session)
        };
        let account = to.bare_str();
        let takers = self.router.copy_takers(account, stanza.from(), gets_none);
        Copies::new(stanza, Side::Received, takers)
    }

    /// Copies an error of ours to the clients that have a copy of what it answers.
    pub(super) fn copy_error(&mut self, stanza: &Stanza, error: &Stanza) {
        let (Some(sender), Some(receiver)) = (stanza.from(), stanza.to()) else {
            return;
        };
        let account = sender.bare_str();
        if stanza.kind() != Kind::Message || account == receiver.bare_str() {
            return;
        }
        let takers = self.router.copy_takers(account, Some(sender), |_| false);
        if takers.is_empty() || !is_eligible(stanza, Side::Sent) {
            return;
        }
        Copies::of_any(error, Side::Received, takers).push(&self.router, &mut self.batch);
    }
}

/// A copy that we have made: nobody else can send one from the account itself, and what clients put into theirs is
/// removed when it is read.
pub fn is_copy(stanza: &Stanza) -> bool {
    let is_wrapper = matches!(stanza.payload(), Some(("sent" | "received", ns::CARBONS)));
    let is_from_account = match (stanza.from(), stanza.to()) {
        (Some(from), Some(to)) => from.is_bare() && from.as_str() == to.bare_str(),
        _ => false,
    };
    stanza.kind() == Kind::Message && is_wrapper && is_from_account
}

/// XEP-0280 section 6.1.
fn is_eligible(stanza: &Stanza, side: Side) -> bool {
    if stanza.kind() != Kind::Message {
        return false;
    }
    let is_plain_chat = match stanza.stanza_type() {
        StanzaType::Chat => true,
        StanzaType::Normal => stanza.has_body(),
        StanzaType::Error => false,
        _ => return false,
    };
    let text = std::str::from_utf8(stanza.bytes()).unwrap_or_default();
    if is_plain_chat && !SUSPICIOUS.iter().any(|word| text.contains(word)) {
        return true;
    }
    let message = stanza.to_element();
    let is_unwanted = message.child("private", ns::CARBONS).is_some()
        || message.child("no-copy", ns::HINTS).is_some()
        || message.elements().any(is_wrapper);
    if is_unwanted || (side == Side::Received && is_from_occupant(stanza, &message)) {
        return false;
    }
    // Of an error we do not know what it answers, unless it says so.
    is_plain_chat || stanza.has_body() || message.elements().any(is_conversation)
}

fn is_wrapper(child: &Element) -> bool {
    child.is("sent", ns::CARBONS) || child.is("received", ns::CARBONS)
}

fn is_conversation(child: &Element) -> bool {
    CONVERSATION.contains(&child.ns()) || child.is("x", INVITATION) || is_invitation(child)
}

/// A room invites, or tells that an invitation was declined.
fn is_invitation(child: &Element) -> bool {
    let has = |name| child.child(name, ns::MUC_USER).is_some();
    child.is("x", ns::MUC_USER) && (has("invite") || has("decline"))
}

/// A private message of somebody in a room: the room sends it to each client that has joined.
fn is_from_occupant(stanza: &Stanza, message: &Element) -> bool {
    let is_full = stanza.from().is_some_and(|from| !from.is_bare());
    let mut rooms = message
        .elements()
        .filter(|child| child.is("x", ns::MUC_USER));
    is_full && rooms.any(|child| !is_invitation(child))
}

#[cfg(test)]
mod tests;
