//! R13: children that only servers add, one row of the table after the other.
use super::{HEADER, stamped, stamped_in};
use crate::xml::server_owned::TABLE;
use crate::xml::{Item, Limits, Stamp, StreamReader};
use crate::{Element, Jid, StanzaCondition, ns};

/// A message with `copies` of `child` around its body keeps `kept` of them, and all else.
#[track_caller]
fn check(child: &str, is_kept: bool) {
    for copies in [0, 1, 2, 50] {
        let before = child.repeat(copies / 2);
        let after = child.repeat(copies - copies / 2);
        let content = |before: &str, after: &str| {
            format!(
                "<message to='a@b' id='1'>x{before}<body>hi</body>{after}<a xmlns='urn:a'>{child}</a></message>"
            )
        };
        let stanza = stamped(&content(&before, &after)).unwrap();
        let expected = if is_kept {
            content(&before, &after)
        } else {
            content("", "")
        };
        let mut expected = Element::parse(expected.as_bytes(), ns::CLIENT).unwrap();
        expected.set_attr("from", Some("romeo@example.net/orchard"));
        assert_eq!(
            sorted(stanza.to_element()),
            sorted(expected),
            "{copies} of {child}"
        );
        assert!(stanza.has_body());
    }
}

/// Attributes stand in another order after a tree was written.
fn sorted(mut element: Element) -> Element {
    for name in ["from", "to", "id"] {
        let value = element.attr(name).map(str::to_owned);
        element.set_attr(name, None);
        element.set_attr(name, value.as_deref());
    }
    element
}

#[test]
fn r13_each_row_has_its_case_here() {
    let rows: Vec<(&str, &str)> = TABLE.iter().map(|(name, ns, _)| (*name, *ns)).collect();
    assert_eq!(
        rows,
        [
            ("stanza-id", "urn:xmpp:sid:0"),
            ("delay", "urn:xmpp:delay"),
            ("sent", "urn:xmpp:carbons:2"),
            ("received", "urn:xmpp:carbons:2"),
            ("result", "urn:xmpp:mam:2"),
            ("fin", "urn:xmpp:mam:2"),
            ("", "urn:xmpp:sm:3"),
            ("occupant-id", "urn:xmpp:occupant-id:0"),
            ("x", "http://jabber.org/protocol/muc#user"),
        ]
    );
}

#[test]
fn r13_ids_by_our_archives_are_removed() {
    for by in [
        "example.net",
        "romeo@example.net",
        "ROMEO@EXAMPLE.net",
        "romeo@example.net/x",
        "r&#111;meo@example.net",
    ] {
        check(
            &format!("<stanza-id xmlns='urn:xmpp:sid:0' id='1' by='{by}'/>"),
            false,
        );
    }
    for by in [
        "example.com",
        "juliet@example.net",
        "room@conference.example.net",
        "",
    ] {
        check(
            &format!("<stanza-id xmlns='urn:xmpp:sid:0' id='1' by='{by}'/>"),
            true,
        );
    }
    check("<stanza-id xmlns='urn:xmpp:sid:0' id='1'/>", true);
    check(
        "<p:stanza-id xmlns:p='urn:xmpp:sid:0' id='1' by='example.net'/>",
        false,
    );
    check(
        "<stanza-id xmlns='urn:xmpp:sid:&#48;' id='1' by='example.net'/>",
        false,
    );
    check(
        "<origin-id xmlns='urn:xmpp:sid:0' id='1' by='example.net'/>",
        true,
    );
    check("<stanza-id id='1' by='example.net'/>", true);
}

#[test]
fn r13_delays_from_us_are_removed() {
    check(
        "<delay xmlns='urn:xmpp:delay' from='example.net' stamp='2026-01-01T00:00:00Z'/>",
        false,
    );
    check(
        "<delay xmlns='urn:xmpp:delay' from='romeo@example.net' stamp='2026-01-01T00:00:00Z'>late</delay>",
        false,
    );
    check(
        "<delay xmlns='urn:xmpp:delay' from='romeo@example.com' stamp='2026-01-01T00:00:00Z'/>",
        true,
    );
    check(
        "<delay xmlns='urn:xmpp:delay' stamp='2026-01-01T00:00:00Z'/>",
        true,
    );
}

#[test]
fn r13_copies_of_other_messages_are_removed() {
    let forwarded = "<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' from='a@b'/></forwarded>";
    check(
        &format!("<sent xmlns='urn:xmpp:carbons:2'>{forwarded}</sent>"),
        false,
    );
    check(
        &format!("<received xmlns='urn:xmpp:carbons:2'>{forwarded}</received>"),
        false,
    );
    check("<private xmlns='urn:xmpp:carbons:2'/>", true);
    check(forwarded, true);
}

#[test]
fn r13_results_of_the_archive_are_removed() {
    check("<result xmlns='urn:xmpp:mam:2' id='1'/>", false);
    check("<fin xmlns='urn:xmpp:mam:2'/>", false);
    check("<query xmlns='urn:xmpp:mam:2'/>", true);
}

#[test]
fn r13_elements_of_stream_management_are_removed() {
    check("<r xmlns='urn:xmpp:sm:3'/>", false);
    check("<a xmlns='urn:xmpp:sm:3' h='1'/>", false);
    check("<s:anything xmlns:s='urn:xmpp:sm:3'/>", false);
    check("<r xmlns='urn:xmpp:sm:2'/>", true);
}

#[test]
fn r13_identities_of_occupants_are_removed() {
    check(
        "<occupant-id xmlns='urn:xmpp:occupant-id:0' id='1'/>",
        false,
    );
}

#[test]
fn r13_of_what_rooms_say_only_requests_to_them_are_kept() {
    const USER: &str = "http://jabber.org/protocol/muc#user";
    check(&format!("<x xmlns='{USER}'/>"), false);
    check(
        &format!("<x xmlns='{USER}'><item affiliation='owner'/><status code='110'/></x>"),
        false,
    );
    check(&format!("<x xmlns='{USER}'><invite xmlns='x'/></x>"), false);
    check(&format!("<x xmlns='{USER}'><invite to='a@b'/></x>"), true);
    check(&format!("<x xmlns='{USER}'><decline to='a@b'/></x>"), true);
    check("<x xmlns='http://jabber.org/protocol/muc'/>", true);
}

/// All kinds of stanza, and streams of servers too.
#[test]
fn r13_presence_and_iq_are_no_way_around() {
    let presence = stamped(
        "<presence><x xmlns='http://jabber.org/protocol/muc#user'/><show>away</show></presence>",
    );
    assert_eq!(
        std::str::from_utf8(presence.unwrap().bytes()).unwrap(),
        "<presence from='romeo@example.net/orchard'><show>away</show></presence>"
    );
    let result = stamped("<iq type='result' id='1'><fin xmlns='urn:xmpp:mam:2'/></iq>").unwrap();
    assert_eq!(result.payload(), None);
    let refused =
        stamped("<iq type='set' id='1'><sent xmlns='urn:xmpp:carbons:2'/></iq>").unwrap_err();
    assert_eq!(refused.error.condition, StanzaCondition::BadRequest);
    let header = HEADER.replace("jabber:client", "jabber:server");
    let stanza = stamped_in(
        &header,
        "<message><body/><r xmlns='urn:xmpp:sm:3'/></message>",
        None,
    )
    .unwrap();
    assert_eq!(
        std::str::from_utf8(stanza.bytes()).unwrap(),
        "<message from='romeo@example.net/orchard'><body/></message>"
    );
}

const COMPONENT_HEADER: &str = "<stream:stream xmlns='jabber:component:accept' \
    xmlns:stream='http://etherx.jabber.org/streams' to='rooms.example.net'>";

/// What becomes of the child of a message that a component sends.
fn of_service(content: &str) -> Element {
    let mut reader = StreamReader::new(Limits::AUTHENTICATED);
    let input = format!("{COMPONENT_HEADER}{content}");
    let mut rest = input.as_bytes();
    assert!(matches!(reader.next(&mut rest), Ok(Some(Item::Header(_)))));
    let Ok(Some(Item::Element(frame))) = reader.next(&mut rest) else {
        panic!("no element: {content}");
    };
    let from = Jid::parse("room@rooms.example.net/nick").unwrap();
    let stamp = Stamp {
        from: from.as_ref(),
        lang: None,
        is_ours: &|text| text == "example.net",
    };
    frame.to_service_stanza(&stamp).unwrap().to_element()
}

#[test]
fn r13_a_service_speaks_for_its_rooms_and_not_for_the_server() {
    let check = |child: &str, is_kept: bool| {
        let message = of_service(&format!(
            "<message to='a@b'><body>hi</body>{child}</message>"
        ));
        assert_eq!(
            message.elements().count(),
            1 + usize::from(is_kept),
            "{child}"
        );
        assert!(message.child("body", ns::CLIENT).is_some());
    };
    check(
        "<x xmlns='http://jabber.org/protocol/muc#user'><item/></x>",
        true,
    );
    check("<occupant-id xmlns='urn:xmpp:occupant-id:0' id='1'/>", true);
    check("<result xmlns='urn:xmpp:mam:2' id='1'/>", true);
    check("<fin xmlns='urn:xmpp:mam:2'/>", true);
    check(
        "<stanza-id xmlns='urn:xmpp:sid:0' id='1' by='room@rooms.example.net'/>",
        true,
    );
    check(
        "<stanza-id xmlns='urn:xmpp:sid:0' id='1' by='example.net'/>",
        false,
    );
    check(
        "<delay xmlns='urn:xmpp:delay' from='rooms.example.net' stamp='x'/>",
        true,
    );
    check(
        "<delay xmlns='urn:xmpp:delay' from='example.net' stamp='x'/>",
        false,
    );
    check("<received xmlns='urn:xmpp:carbons:2'/>", false);
    check("<sent xmlns='urn:xmpp:carbons:2'/>", false);
    check("<r xmlns='urn:xmpp:sm:3'/>", false);
}

/// RFC 6120 section 4.8.3: a stanza goes on in the content namespace of the stream that it is written to.
#[test]
fn the_content_of_component_streams_becomes_that_of_client_streams() {
    let component = ns::COMPONENT;
    for body in [
        "<body>hi</body>".to_owned(),
        format!("<body xmlns='{component}'>hi</body>"),
        "<body xmlns='jabber:client'>hi</body>".to_owned(),
        format!("<c:body xmlns:c='{component}'>hi</c:body>"),
    ] {
        let inner =
            "<forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'/></forwarded>";
        let message = of_service(&format!("<message to='a@b'>{body}{inner}</message>"));
        assert!(message.is("message", ns::CLIENT));
        let body = message.child("body", ns::CLIENT);
        assert_eq!(
            body.map(|body| body.text().into_owned()).as_deref(),
            Some("hi")
        );
        let inner = message.child("forwarded", "urn:xmpp:forward:0").unwrap();
        assert!(inner.child("message", ns::CLIENT).is_some());
    }
    let error = of_service("<iq type='error' id='1' to='a@b'><error type='cancel'/></iq>");
    assert!(error.child("error", ns::CLIENT).is_some());
}
