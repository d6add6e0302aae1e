//! Which messages are copied; who gets the copies is in `tests/scenarios/carbons.txt`.
use super::*;

fn parse(xml: &str) -> Stanza {
    let element = Element::parse(xml.as_bytes(), ns::CLIENT).unwrap();
    Stanza::from_element(&element).unwrap()
}

/// A message with this child, for each side.
fn eligible(attributes: &str, child: &str) -> [bool; 2] {
    let message = parse(&format!(
        "<message to='romeo@localhost/a' {attributes}>{child}</message>"
    ));
    [Side::Sent, Side::Received].map(|side| is_eligible(&message, side))
}

#[test]
fn a_room_sends_private_messages_to_each_client_itself() {
    let occupant = "type='chat' from='room@rooms.localhost/juliet'";
    let room = "type='normal' from='room@rooms.localhost'";
    let user = "<x xmlns='http://jabber.org/protocol/muc#user'/>";
    let invite = "<x xmlns='http://jabber.org/protocol/muc#user'><invite from='a@b'/></x>";
    let decline = "<x xmlns='http://jabber.org/protocol/muc#user'><decline from='a@b'/></x>";
    let body = "<body>hi</body>";
    for (attributes, child, expected) in [
        (occupant, format!("{body}{user}"), [true, false]),
        (occupant, user.to_owned(), [true, false]),
        (occupant, format!("{body}{invite}"), [true, true]),
        (occupant, body.to_owned(), [true, true]),
        (room, format!("{body}{user}"), [true, true]),
        (room, user.to_owned(), [false, false]),
        (room, invite.to_owned(), [true, true]),
        (room, decline.to_owned(), [true, true]),
    ] {
        assert_eq!(
            eligible(attributes, &child),
            expected,
            "{attributes} {child}"
        );
    }
}

#[test]
fn a_wrapper_of_somebody_elses_is_not_copied() {
    for name in ["sent", "received"] {
        let wrapper = format!("<{name} xmlns='urn:xmpp:carbons:2'/>");
        let from = "type='chat' from='juliet@example.org/balcony'";
        assert_eq!(eligible(from, &wrapper), [false, false]);
        assert_eq!(eligible(from, &format!("<body/>{wrapper}")), [false, false]);
    }
}

#[test]
fn only_messages_are_copied() {
    for xml in [
        "<presence from='a@b/c' to='d@e'><body/></presence>",
        "<iq from='a@b/c' to='d@e' type='get' id='1'><body/></iq>",
        "<iq from='a@b/c' to='d@e' type='error' id='1'><received xmlns='urn:xmpp:receipts'/></iq>",
    ] {
        assert!(!is_eligible(&parse(xml), Side::Sent), "{xml}");
    }
}

#[test]
fn a_copy_is_told_from_what_others_send() {
    let message = parse("<message from='a@b/c' to='d@e/f' type='chat'><body/></message>");
    let own = protocol::Jid::parse("d@e/g").unwrap();
    let own = own.as_ref();
    let copy = |name| message.wrapped((name, ns::CARBONS), own.without_resource(), own);
    assert!(is_copy(&copy("sent")) && is_copy(&copy("received")));
    assert!(!is_copy(&copy("private")));
    for (from, xml) in [
        (
            "another account",
            "<message from='a@b' to='d@e/g'><sent xmlns='urn:xmpp:carbons:2'/></message>",
        ),
        (
            "a client",
            "<message from='d@e/f' to='d@e/g'><sent xmlns='urn:xmpp:carbons:2'/></message>",
        ),
        (
            "nobody",
            "<message to='d@e/g'><sent xmlns='urn:xmpp:carbons:2'/></message>",
        ),
        (
            "no message",
            "<presence from='d@e' to='d@e/g'><sent xmlns='urn:xmpp:carbons:2'/></presence>",
        ),
        (
            "a receipt",
            "<message from='d@e' to='d@e/g'><received xmlns='urn:xmpp:receipts'/></message>",
        ),
    ] {
        assert!(!is_copy(&parse(xml)), "{from}");
    }
}
