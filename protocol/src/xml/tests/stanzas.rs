//! What becomes of a client's stanza: forwardable form, the stamp, and the rules of RFC 6120 section 8.
use super::{HEADER, stamped, stamped_in};
use crate::{Element, Kind, Stanza, StanzaCondition, StanzaType, ns};

const FROM: &str = "from='romeo@example.net/orchard'";

#[track_caller]
fn check_bytes(content: &str, expected: &str) {
    let stanza = stamped(content).unwrap();
    assert_eq!(std::str::from_utf8(stanza.bytes()).unwrap(), expected);
    check_index(&stanza);
}

/// What the stanza tells of itself is what its bytes say.
#[track_caller]
pub(super) fn check_index(stanza: &Stanza) {
    let element = stanza.to_element();
    assert_eq!(element.ns(), ns::CLIENT);
    assert_eq!(element.name(), stanza.kind().name());
    assert_eq!(stanza.to().map(|jid| jid.as_str()), element.attr("to"));
    assert_eq!(stanza.from().map(|jid| jid.as_str()), element.attr("from"));
    assert_eq!(stanza.id().as_deref(), element.attr("id"));
    let payload = element
        .elements()
        .next()
        .map(|child| (child.name(), child.ns()));
    assert_eq!(stanza.payload(), payload);
    assert_eq!(
        stanza.has_body(),
        element.child("body", ns::CLIENT).is_some()
    );
    for jid in [stanza.to(), stanza.from()].into_iter().flatten() {
        let parsed = super::jid(jid.as_str());
        assert_eq!(
            (jid.local(), jid.domain(), jid.resource()),
            (parsed.local(), parsed.domain(), parsed.resource())
        );
    }
}

#[test]
fn kept_bytes_are_only_stamped() {
    check_bytes(
        "<message id='1' to='juliet@example.com' type='chat'><body>hi &lt;<![CDATA[&]]></body>\n</message>",
        &format!(
            "<message {FROM} id='1' to='juliet@example.com' type='chat'><body>hi &lt;<![CDATA[&]]></body>\n</message>"
        ),
    );
    check_bytes("<presence/>", &format!("<presence {FROM}/>"));
    check_bytes(
        "<presence ></presence\n>",
        &format!("<presence {FROM} ></presence\n>"),
    );
    check_bytes(
        "<iq\n\ttype = \"get\" id=\"&#x31;'\"><q:query xmlns:q='x' q:a='1'/></iq>",
        &format!("<iq {FROM}\n\ttype = \"get\" id=\"&#x31;'\"><q:query xmlns:q='x' q:a='1'/></iq>"),
    );
}

/// R05: whatever the sender says of itself.
#[test]
fn r05_from_is_replaced() {
    for from in [
        "romeo@example.net/orchard",
        "juliet@example.com",
        "&lt;",
        "",
        "@@@",
    ] {
        check_bytes(
            &format!("<message\n from = \"{from}\"  id='1'/>"),
            &format!("<message {FROM}  id='1'/>"),
        );
        check_bytes(
            &format!("<message id='1' from='{from}'/>"),
            &format!("<message {FROM} id='1'/>"),
        );
    }
}

#[test]
fn an_inherited_language_is_stamped_and_an_own_one_kept() {
    let bytes = |content: &str, lang| {
        let stanza = stamped_in(HEADER, content, lang).unwrap();
        check_index(&stanza);
        String::from_utf8(stanza.into_bytes()).unwrap()
    };
    assert_eq!(
        bytes("<message/>", Some("de")),
        format!("<message {FROM} xml:lang='de'/>")
    );
    assert_eq!(
        bytes("<message xml:lang='fr'/>", Some("de")),
        format!("<message {FROM} xml:lang='fr'/>")
    );
    assert_eq!(
        bytes("<message xml:lang=''/>", Some("de")),
        format!("<message {FROM} xml:lang=''/>")
    );
    assert_eq!(
        bytes("<message lang='fr'/>", Some("de")),
        format!("<message {FROM} xml:lang='de' lang='fr'/>")
    );
    assert_eq!(
        bytes(
            "<message><body xmlns='jabber:client'/></message>",
            Some("de")
        ),
        format!("<message {FROM} xml:lang='de'><body/></message>")
    );
}

#[test]
fn to_is_in_normal_form_afterwards() {
    check_bytes(
        "<message to='JULIET@Example.COM/Balcony' id='1'><body/></message>",
        &format!("<message {FROM} to='juliet@example.com/Balcony' id='1'><body/></message>"),
    );
    check_bytes(
        "<message to='&#106;uliet@example.com'/>",
        &format!("<message {FROM} to='juliet@example.com'/>"),
    );
    check_bytes(
        "<message to='a@b/o&apos;neil&lt;' id='2'/>",
        &format!("<message {FROM} to='a@b/o&apos;neil&lt;' id='2'/>"),
    );
    check_bytes(
        "<message id=\"2\" to=\"a@b/'\"><body/></message>",
        &format!("<message {FROM} id=\"2\" to=\"a@b/'\"><body/></message>"),
    );
    let stanza = stamped("<message to='a@b/o&apos;neil'/>").unwrap();
    assert_eq!(stanza.to().unwrap().resource(), Some("o'neil"));
}

/// R06.
#[test]
fn r06_a_malformed_to_is_answered() {
    for to in ["", "@", "a@", "@b", "/x", "a@b/", "a@b@c/", "a b@c"] {
        let content = format!("<message to='{to}' id='7' type='chat'><body>hi</body></message>");
        let refused = stamped(&content).unwrap_err();
        assert_eq!(
            refused.error.condition,
            StanzaCondition::JidMalformed,
            "{to}"
        );
        let reply = refused.reply.unwrap();
        check_index(&reply);
        assert_eq!(
            std::str::from_utf8(reply.bytes()).unwrap(),
            "<message type='error' id='7' from='example.net' to='romeo@example.net/orchard'><error type='modify'>\
             <jid-malformed xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>"
        );
    }
    let refused = stamped(&format!("<message to='{}@b'/>", "a".repeat(1_024))).unwrap_err();
    assert_eq!(refused.error.condition, StanzaCondition::JidMalformed);
    assert!(stamped(&format!("<message to='{}@b'/>", "a".repeat(1_023))).is_ok());
}

/// N10, and types.
#[test]
fn n10_stanzas_that_cannot_be_routed_are_refused() {
    let refused = |content: &str| stamped(content).unwrap_err();
    for content in [
        "<iq type='get'><a xmlns='x'/></iq>",
        "<iq id='1'><a xmlns='x'/></iq>",
        "<iq id='1' type='GET'><a xmlns='x'/></iq>",
        "<iq id='1' type='chat'><a xmlns='x'/></iq>",
        "<iq id='1' type='get'/>",
        "<iq id='1' type='set'>text</iq>",
        "<iq id='1' type='get'><a xmlns='x'/><b xmlns='x'/></iq>",
        "<iq id='1' type='set' to='a@b'><a xmlns='x'/><a xmlns='x'/></iq>",
        "<presence type='away' id='1'/>",
        "<presence type='available' id='1'/>",
        "<presence type='' id='1'/>",
    ] {
        let refused = refused(content);
        assert_eq!(
            refused.error.condition,
            StanzaCondition::BadRequest,
            "{content}"
        );
        let reply = refused.reply.unwrap();
        check_index(&reply);
        assert_eq!(reply.stanza_type(), StanzaType::Error);
        assert_eq!(reply.to().unwrap().as_str(), "romeo@example.net/orchard");
        assert_eq!(
            reply.from().map(|jid| jid.as_str()),
            content.contains("to='a@b'").then_some("a@b")
        );
        assert_eq!(
            reply.id().as_deref(),
            content.contains("id='1'").then_some("1")
        );
    }
    for content in [
        "<iq type='result'/>",
        "<iq type='error'/>",
        "<iq type='result' id='1'><a xmlns='x'/><b xmlns='x'/></iq>",
        "<message type='error' to='@'/>",
        "<presence type='error' to='@'/>",
        "<iq type='result' id='1' to='@'/>",
    ] {
        assert!(refused(content).reply.is_none(), "{content}");
    }
    for content in [
        "<iq type='get' id=''><a xmlns='x'/></iq>",
        "<iq type='result' id='1'/>",
        "<iq type='result' id='1'><a xmlns='x'/></iq>",
        "<iq type='error' id='1'><a xmlns='x'/><error type='cancel'/></iq>",
        "<iq type='s&#101;t' id='1'>  <a xmlns='x'/>  </iq>",
    ] {
        assert!(stamped(content).is_ok(), "{content}");
    }
}

#[test]
fn types_have_their_defaults() {
    let found = |content: &str| {
        let stanza = stamped(content).unwrap();
        (stanza.kind(), stanza.stanza_type())
    };
    assert_eq!(found("<message/>"), (Kind::Message, StanzaType::Normal));
    assert_eq!(
        found("<message type='unknown'/>"),
        (Kind::Message, StanzaType::Normal)
    );
    assert_eq!(
        found("<message type='get'/>"),
        (Kind::Message, StanzaType::Normal)
    );
    assert_eq!(
        found("<message type='groupchat'/>"),
        (Kind::Message, StanzaType::Groupchat)
    );
    assert_eq!(
        found("<message type='headline'/>"),
        (Kind::Message, StanzaType::Headline)
    );
    assert_eq!(
        found("<presence/>"),
        (Kind::Presence, StanzaType::Available)
    );
    for (name, stanza_type) in [
        ("unavailable", StanzaType::Unavailable),
        ("subscribe", StanzaType::Subscribe),
        ("subscribed", StanzaType::Subscribed),
        ("unsubscribe", StanzaType::Unsubscribe),
        ("unsubscribed", StanzaType::Unsubscribed),
        ("probe", StanzaType::Probe),
        ("error", StanzaType::Error),
    ] {
        assert_eq!(
            found(&format!("<presence type='{name}'/>")),
            (Kind::Presence, stanza_type)
        );
        assert_eq!(stanza_type.name(), Some(name));
    }
}

/// Rules 2 to 4 of the forwardable form: what another stream would read otherwise is written anew.
#[test]
fn bytes_that_lean_on_their_stream_are_written_anew() {
    check_bytes(
        "<message xmlns='jabber:client' id='1'><body/></message>",
        &format!("<message {FROM} id='1'><body/></message>"),
    );
    check_bytes(
        "<message id='1'\txmlns = \"jabber:client\" to='a@b'><a xmlns='x'/></message>",
        &format!("<message {FROM} id='1' to='a@b'><a xmlns='x'/></message>"),
    );
    check_bytes(
        "<message id='1'><body xmlns='jabber:client'>a<b/></body></message>",
        &format!("<message {FROM} id='1'><body>a<b/></body></message>"),
    );
    check_bytes(
        "<c:message xmlns:c='jabber:client'><c:body>a</c:body></c:message>",
        &format!("<message {FROM}><body>a</body></message>"),
    );
    check_bytes(
        "<message><stream:a stream:b='1'/></message>",
        &format!(
            "<message {FROM}><a xmlns='{0}' xmlns:ns0='{0}' ns0:b='1'/></message>",
            ns::STREAM
        ),
    );
    check_bytes(
        "<message><stream:a xmlns:stream='x'/></message>",
        &format!("<message {FROM}><a xmlns='x'/></message>"),
    );
    check_bytes(
        "<message><body\r\n>a\r\nb\rc&#13;</body></message>",
        &format!("<message {FROM}><body>a\nb\nc&#13;</body></message>"),
    );
    let forwarded = "<message><forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client'><body/></message></forwarded></message>";
    check_bytes(
        forwarded,
        &forwarded.replacen("<message", &format!("<message {FROM}"), 1),
    );
    let header = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' xmlns:p='urn:p'>";
    let stanza = stamped_in(header, "<message><p:a p:b='1'><c/></p:a></message>", None).unwrap();
    assert_eq!(
        std::str::from_utf8(stanza.bytes()).unwrap(),
        format!(
            "<message {FROM}><a xmlns='urn:p' xmlns:ns0='urn:p' ns0:b='1'><c xmlns='jabber:client'/></a></message>"
        )
    );
    check_index(&stanza);
}

#[test]
fn stanzas_of_servers_change_their_namespace() {
    let header = HEADER.replace("jabber:client", "jabber:server");
    let bytes = |content: &str| {
        let stanza = stamped_in(&header, content, None).unwrap();
        check_index(&stanza);
        String::from_utf8(stanza.into_bytes()).unwrap()
    };
    assert_eq!(
        bytes("<message><body>a</body></message>"),
        format!("<message {FROM}><body>a</body></message>")
    );
    assert_eq!(
        bytes("<message xmlns='jabber:server'><body/></message>"),
        format!("<message {FROM}><body/></message>")
    );
    assert_eq!(
        bytes(
            "<message><body xmlns='jabber:server'/><f xmlns='x'><message xmlns='jabber:client'/><a xmlns='jabber:server'/></f></message>"
        ),
        format!(
            "<message {FROM}><body/><f xmlns='x'><message xmlns='jabber:client'/><a xmlns='jabber:server'/></f></message>"
        )
    );
    let refused = stamped_in(&header, "<message xmlns='jabber:client'/>", None).unwrap_err();
    assert!(refused.reply.is_none());
}

#[test]
fn the_payload_is_told_wherever_its_namespace_stands() {
    for (content, expected) in [
        (
            "<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>",
            ("query", ns::ROSTER),
        ),
        (
            "<iq type='get' id='1'> <q:query xmlns:q=\"jabber:iq:roster\"/></iq>",
            ("query", ns::ROSTER),
        ),
        (
            "<iq type='get' id='1' xmlns:q='jabber:iq:roster'><q:query/></iq>",
            ("query", ns::ROSTER),
        ),
        (
            "<iq type='get' id='1' xmlns:q='a&amp;b'><q:query/></iq>",
            ("query", "a&b"),
        ),
        (
            "<iq type='get' id='1'><query xmlns='a&amp;b'/></iq>",
            ("query", "a&b"),
        ),
        (
            "<iq type='get' id='1'><query xmlns=''/></iq>",
            ("query", ""),
        ),
        ("<iq type='get' id='1'><query/></iq>", ("query", ns::CLIENT)),
        (
            "<iq type='get' id='1'><xml:query/></iq>",
            ("query", ns::XML),
        ),
        (
            "<iq type='get' id='1' xmlns='jabber:client'><query/></iq>",
            ("query", ns::CLIENT),
        ),
        (
            "<iq type='get' id='1'><stream:query/></iq>",
            ("query", ns::STREAM),
        ),
    ] {
        let stanza = stamped(content).unwrap();
        assert_eq!(stanza.payload(), Some(expected), "{content}");
        check_index(&stanza);
    }
}

#[test]
fn only_an_own_body_counts() {
    let has_body = |content: &str| stamped(content).unwrap().has_body();
    assert!(has_body("<message><subject/><body/></message>"));
    assert!(has_body("<message xmlns='jabber:client'><body/></message>"));
    assert!(has_body(
        "<message xmlns:c='jabber:client'><c:body/></message>"
    ));
    assert!(!has_body(
        "<message><body xmlns='http://jabber.org/protocol/xhtml-im'/></message>"
    ));
    assert!(!has_body(
        "<message><a xmlns='x'><body xmlns='jabber:client'/></a></message>"
    ));
    assert!(!has_body(
        "<message><html xmlns='x'><body/></html></message>"
    ));
    assert!(!has_body("<message>body</message>"));
}

#[test]
fn bytes_and_tree_say_the_same() {
    for content in [
        "<message to='a@b'>\r\n<body xml:lang='de'>a\rb&#13;</body><a b='x\ty&#9;'/></message>",
        "<message><a xmlns='x'><b xmlns=''><c xmlns='x'/></b></a></message>",
    ] {
        let stanza = stamped(content).unwrap();
        let mut expected = Element::parse(content.as_bytes(), ns::CLIENT).unwrap();
        let mut found = stanza.to_element();
        expected.set_attr("from", None);
        found.set_attr("from", None);
        assert_eq!(found, expected);
    }
}
