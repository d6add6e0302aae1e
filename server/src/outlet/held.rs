//! XEP-0352: what a client that is not looked at need not get at once.
//!
//! Held are presence, the last one of each sender, chat states, the last one of each sender, and events of others
//! (XEP-0060). Everything else is important and goes out at once, behind what is held. Nothing that is held would be
//! kept for a client that is offline, so nobody waits for it: see `docs/modules/csi.md`.
use std::collections::VecDeque;

use protocol::{Element, JidRef, Kind, Stanza, StanzaType, ns};

use crate::router::copies;
use crate::stamp;

/// Stanzas that are held for one client, whatever `buffer_max` says: they are written at once one day, and the outbox
/// has to take them. One more and all go out.
pub(super) const HELD_MAX: usize = 500;
/// Bytes that are held for one client. One more and all go out.
pub(super) const HELD_BYTES_MAX: usize = 64 * 1024;

/// What waits for one client, in the order in which it came.
pub(super) struct Held {
    stanzas_max: usize,
    bytes: usize,
    queue: VecDeque<Waiting>,
}

struct Waiting {
    stanza: Stanza,
    role: Role,
    /// When it came, in microseconds since 1970.
    since: i64,
}

/// Why something may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Where somebody is: a later one of the same sender takes its place.
    Presence,
    /// What somebody does: the same.
    ChatState,
    /// Each says something else.
    Other,
}

/// What became of a stanza.
#[derive(Debug)]
pub(super) enum Offered {
    /// It waits.
    Held,
    /// There is no room for it: all that waits goes out, and it is the last of these.
    Full(Vec<Stanza>),
    /// It is important: what waits goes out first.
    Passes {
        /// What waits.
        first: Vec<Stanza>,
        /// The stanza itself.
        stanza: Stanza,
    },
}

impl Held {
    /// Nothing waits, and at most so many stanzas will.
    pub(super) fn new(stanzas_max: usize) -> Self {
        Self {
            stanzas_max: stanzas_max.min(HELD_MAX),
            bytes: 0,
            queue: VecDeque::new(),
        }
    }

    /// Holds the stanza if it may wait.
    pub(super) fn offer(&mut self, stanza: Stanza) -> Offered {
        let Some(role) = role(&stanza).filter(|_| self.stanzas_max > 0) else {
            let first = self.take();
            return Offered::Passes { first, stanza };
        };
        if role != Role::Other {
            self.forget_earlier(&stanza, role);
        }
        self.bytes += stanza.bytes().len();
        self.queue.push_back(Waiting {
            stanza,
            role,
            since: stamp::now_us(),
        });
        if self.queue.len() > self.stanzas_max || self.bytes > HELD_BYTES_MAX {
            return Offered::Full(self.take());
        }
        Offered::Held
    }

    /// What the sender has said last is what counts.
    fn forget_earlier(&mut self, stanza: &Stanza, role: Role) {
        let is_same =
            |earlier: &Waiting| earlier.role == role && earlier.stanza.from() == stanza.from();
        if let Some(index) = self.queue.iter().position(is_same)
            && let Some(earlier) = self.queue.remove(index)
        {
            self.bytes -= earlier.stanza.bytes().len();
        }
    }

    /// All that waits, each with the time at which it came (XEP-0203).
    pub(super) fn take(&mut self) -> Vec<Stanza> {
        self.bytes = 0;
        let queue = std::mem::take(&mut self.queue);
        queue.into_iter().map(Waiting::into_stanza).collect()
    }
}

impl Waiting {
    fn into_stanza(self) -> Stanza {
        let domain = self.stanza.to().map_or("", |to| to.domain());
        let is_ours =
            |child: &Element| child.is("delay", ns::DELAY) && child.attr("from") == Some(domain);
        if self.stanza.to_element().elements().any(is_ours) {
            return self.stanza;
        }
        let delay = Element::new("delay", ns::DELAY)
            .with_attr("from", domain)
            .with_attr("stamp", &stamp::format_us(self.since));
        self.stanza.with_child(&delay)
    }
}

/// Whether a stanza may wait, and why.
fn role(stanza: &Stanza) -> Option<Role> {
    match (stanza.kind(), stanza.stanza_type()) {
        (Kind::Presence, StanzaType::Available | StanzaType::Unavailable) => {
            (!is_about_oneself(stanza)).then_some(Role::Presence)
        }
        (Kind::Message, StanzaType::Error) => None,
        (Kind::Message, _) if stanza.has_body() => None,
        (Kind::Message, _) if copies::is_copy(stanza) => {
            let copy = stanza.to_element();
            (role_of_message(original(&copy)?) == Some(Role::ChatState)).then_some(Role::Other)
        }
        (Kind::Message, _) => match role_of_message(&stanza.to_element())? {
            Role::Other if is_own(stanza) => None,
            role => Some(role),
        },
        _ => None,
    }
}

/// A room tells a client that it has joined or left (XEP-0045, status 110): it waits for that.
fn is_about_oneself(stanza: &Stanza) -> bool {
    let text = std::str::from_utf8(stanza.bytes()).unwrap_or_default();
    if !text.contains(ns::MUC_USER) && !text.contains("&#") {
        return false;
    }
    let presence = stanza.to_element();
    let mut words = presence
        .elements()
        .filter(|child| child.is("x", ns::MUC_USER))
        .flat_map(Element::elements);
    words.any(|word| word.name() == "status" && word.attr("code") == Some("110"))
}

/// What another client of the account has published it shows at once.
fn is_own(stanza: &Stanza) -> bool {
    let bare = |jid: Option<JidRef<'_>>| jid.map(|jid| jid.bare_str().to_owned());
    bare(stanza.from()) == bare(stanza.to())
}

/// The message in a copy (XEP-0280).
fn original(copy: &Element) -> Option<&Element> {
    let wrapper = copy.elements().find(|child| child.ns() == ns::CARBONS)?;
    wrapper
        .child("forwarded", ns::FORWARD)?
        .child("message", ns::CLIENT)
}

/// May wait: nothing but a chat state or an event, and words about the message.
fn role_of_message(message: &Element) -> Option<Role> {
    let mut role = None;
    for child in message.elements() {
        match child.ns() {
            ns::CHAT_STATES => role = role.or(Some(Role::ChatState)),
            ns::PUBSUB_EVENT if child.name() == "event" => role = Some(Role::Other),
            // Who wants it to be kept wants it to be read.
            ns::HINTS if child.name() != "store" => {}
            ns::DELAY | ns::STANZA_ID | ns::OCCUPANT_ID => {}
            ns::CLIENT if child.name() == "thread" => {}
            _ => return None,
        }
    }
    role
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stanza(xml: &str) -> Stanza {
        let element = Element::parse(xml.as_bytes(), ns::CLIENT).unwrap();
        Stanza::from_element(&element).unwrap()
    }

    fn presence(from: &str, status: &str) -> Stanza {
        stanza(&format!(
            "<presence from='{from}' to='romeo@localhost/orchard'><status>{status}</status></presence>"
        ))
    }

    fn ids(stanzas: &[Stanza]) -> Vec<String> {
        let status = |stanza: &Stanza| {
            let element = stanza.to_element();
            let status = element.child("status", ns::CLIENT).unwrap();
            status.text().into_owned()
        };
        stanzas.iter().map(status).collect()
    }

    #[track_caller]
    fn check(xml: &str, expected: Option<Role>) {
        assert_eq!(role(&stanza(xml)), expected, "{xml}");
    }

    #[test]
    fn presence_waits_and_what_somebody_waits_for_does_not() {
        let room = "from='room@muc.localhost/nick' to='romeo@localhost/orchard'";
        let muc = "xmlns='http://jabber.org/protocol/muc#user'";
        for (xml, waits) in [
            ("<presence from='a@b/c'/>".to_owned(), true),
            (
                "<presence from='a@b/c' type='unavailable'/>".to_owned(),
                true,
            ),
            ("<presence from='a@b' type='subscribe'/>".to_owned(), false),
            (
                "<presence from='a@b' type='unsubscribed'/>".to_owned(),
                false,
            ),
            ("<presence from='a@b' type='error'/>".to_owned(), false),
            (
                format!("<presence {room}><x {muc}><item/></x></presence>"),
                true,
            ),
            (
                format!("<presence {room}><x {muc}><status code='110'/></x></presence>"),
                false,
            ),
            (
                format!(
                    "<presence {room} type='unavailable'><x {muc}><status code='110'/></x></presence>"
                ),
                false,
            ),
        ] {
            check(&xml, waits.then_some(Role::Presence));
        }
    }

    #[test]
    fn messages_that_say_nothing_wait() {
        let composing = "<composing xmlns='http://jabber.org/protocol/chatstates'/>";
        let event =
            "<event xmlns='http://jabber.org/protocol/pubsub#event'><items node='n'/></event>";
        let hint = |name: &str| format!("<{name} xmlns='urn:xmpp:hints'/>");
        let message = |from: &str, kind: &str, children: &str| {
            format!(
                "<message from='{from}' to='romeo@localhost/orchard' type='{kind}'>{children}</message>"
            )
        };
        let juliet = "juliet@localhost/balcony";
        for (kind, children, expected) in [
            ("chat", composing.to_owned(), Some(Role::ChatState)),
            ("groupchat", composing.to_owned(), Some(Role::ChatState)),
            (
                "chat",
                format!("<thread>1</thread>{composing}{}", hint("no-store")),
                Some(Role::ChatState),
            ),
            ("chat", composing.to_owned() + &hint("store"), None),
            ("chat", composing.to_owned() + "<body>hi</body>", None),
            (
                "chat",
                composing.to_owned() + "<encrypted xmlns='urn:xmpp:omemo:2'/>",
                None,
            ),
            (
                "chat",
                composing.to_owned() + "<received xmlns='urn:xmpp:receipts' id='1'/>",
                None,
            ),
            ("error", composing.to_owned(), None),
            ("chat", String::new(), None),
            ("chat", hint("no-store"), None),
            (
                "normal",
                "<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>".to_owned(),
                None,
            ),
            (
                "normal",
                "<propose xmlns='urn:xmpp:jingle-message:0' id='1'/>".to_owned(),
                None,
            ),
            (
                "normal",
                "<x xmlns='jabber:x:conference' jid='r@b'/>".to_owned(),
                None,
            ),
            ("groupchat", "<subject/>".to_owned(), None),
            ("headline", event.to_owned(), Some(Role::Other)),
        ] {
            check(&message(juliet, kind, &children), expected);
        }
        // What the account's other client has published.
        check(&message("romeo@localhost", "headline", event), None);
        let copy = |children: &str| {
            let inner = message(juliet, "chat", children).replacen(
                "<message",
                "<message xmlns='jabber:client'",
                1,
            );
            let forwarded = format!("<forwarded xmlns='urn:xmpp:forward:0'>{inner}</forwarded>");
            let copy = format!("<received xmlns='urn:xmpp:carbons:2'>{forwarded}</received>");
            message("romeo@localhost", "chat", &copy)
        };
        check(&copy(composing), Some(Role::Other));
        check(&copy("<body>hi</body>"), None);
        check(
            &copy("<displayed xmlns='urn:xmpp:chat-markers:0' id='1'/>"),
            None,
        );
    }

    #[test]
    fn the_last_of_each_sender_stays_in_its_order() {
        let mut held = Held::new(10);
        for (from, status) in [("a@b/1", "1"), ("a@b/2", "2"), ("a@b/1", "3"), ("a@b", "4")] {
            assert!(matches!(held.offer(presence(from, status)), Offered::Held));
        }
        let Offered::Passes { first, stanza } = held.offer(stanza("<message from='a@b'/>")) else {
            panic!("a message passes");
        };
        assert_eq!(ids(&first), ["2", "3", "4"]);
        assert_eq!(stanza.kind(), Kind::Message);
        assert_eq!(held.bytes, 0);
        let delay = first[0].to_element();
        let delay = delay.child("delay", ns::DELAY).unwrap();
        assert_eq!(delay.attr("from"), Some("localhost"));
        assert!(delay.attr("stamp").unwrap().ends_with('Z'));
    }

    #[test]
    fn a_full_queue_goes_out_at_once_and_in_order() {
        let from = |number: usize| format!("a@b/{number}");
        let mut held = Held::new(2);
        for number in 0..2 {
            let offered = held.offer(presence(&from(number), &number.to_string()));
            assert!(matches!(offered, Offered::Held));
        }
        let Offered::Full(all) = held.offer(presence(&from(2), "2")) else {
            panic!("there is no room for a third one");
        };
        assert_eq!(ids(&all), ["0", "1", "2"]);

        // By bytes, and without a limit of its own.
        let mut held = Held::new(usize::MAX);
        let large = "x".repeat(HELD_BYTES_MAX / 4);
        let rounds = (0..10).take_while(|number| {
            matches!(held.offer(presence(&from(*number), &large)), Offered::Held)
        });
        assert_eq!(rounds.count(), 3);
        let mut held = Held::new(usize::MAX);
        let rounds = (0..2 * HELD_MAX)
            .take_while(|number| matches!(held.offer(presence(&from(*number), "")), Offered::Held));
        assert_eq!(rounds.count(), HELD_MAX);

        // Who wants nothing to be held gets it as it comes.
        assert!(matches!(
            Held::new(0).offer(presence("a@b", "")),
            Offered::Passes { .. }
        ));
    }
}
