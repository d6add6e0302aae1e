use super::{Kind, Stanza, StanzaType};
use crate::{Element, Jid, JidRef, StanzaCondition, StanzaError, ns};

fn jid(text: &str) -> Jid {
    Jid::parse(text).unwrap()
}

fn stanza(xml: &str) -> Stanza {
    Stanza::from_element(&Element::parse(xml.as_bytes(), ns::CLIENT).unwrap()).unwrap()
}

#[track_caller]
fn check(stanza: &Stanza, expected: &str) {
    assert_eq!(std::str::from_utf8(stanza.bytes()).unwrap(), expected);
    let element = stanza.to_element();
    assert_eq!(stanza.to().map(JidRef::as_str), element.attr("to"));
    assert_eq!(stanza.from().map(JidRef::as_str), element.attr("from"));
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
        let parsed = self::jid(jid.as_str());
        assert_eq!(jid.local(), parsed.local());
        assert_eq!(jid.domain(), parsed.domain());
        assert_eq!(jid.resource(), parsed.resource());
    }
}

#[test]
fn a_stanza_has_at_most_80_bytes_of_its_own() {
    assert!(size_of::<Stanza>() <= 80, "{}", size_of::<Stanza>());
    assert_eq!(size_of::<Option<Stanza>>(), size_of::<Stanza>());
}

#[test]
fn a_stanza_is_carried_whole_in_a_message_of_its_type() {
    let inner =
        stanza("<message type='chat' from='a@b/x' to='c@d'><body>1 &lt; 2</body></message>");
    let (from, to) = (jid("c@d"), jid("c@d/&'"));
    let wrapped = inner.wrapped(("received", ns::CARBONS), from.as_ref(), to.as_ref());
    check(
        &wrapped,
        "<message from='c@d' to='c@d/&amp;&apos;' type='chat'><received xmlns='urn:xmpp:carbons:2'>\
         <forwarded xmlns='urn:xmpp:forward:0'><message xmlns='jabber:client' to='c@d' from='a@b/x' type='chat'>\
         <body>1 &lt; 2</body></message></forwarded></received></message>",
    );
    assert_eq!(wrapped.stanza_type(), StanzaType::Chat);
    let element = wrapped.to_element();
    let child = |element: &Element, name, ns| element.child(name, ns).unwrap().clone();
    let forwarded = child(
        &child(&element, "received", ns::CARBONS),
        "forwarded",
        ns::FORWARD,
    );
    assert_eq!(child(&forwarded, "message", ns::CLIENT), inner.to_element());
}

#[test]
fn a_tree_is_written_with_its_header_in_normal_form() {
    let written = stanza(
        "<message type='chat' from='A@b/&apos;' id='&lt;' to='C@D' xml:lang='de' x='y'>t<body/></message>",
    );
    check(
        &written,
        "<message to='c@d' from='a@b/&apos;' id='&lt;' type='chat' xml:lang='de' x='y'>t<body/></message>",
    );
    assert_eq!(
        (written.kind(), written.stanza_type()),
        (Kind::Message, StanzaType::Chat)
    );
    check(&stanza("<presence/>"), "<presence/>");
    check(
        &stanza("<iq type='get' id='1'><p:a xmlns:p='&amp;'/></iq>"),
        "<iq id='1' type='get'><a xmlns='&amp;'/></iq>",
    );
}

#[test]
fn what_is_no_stanza_is_refused() {
    for (xml, condition) in [
        ("<message xmlns='x'/>", StanzaCondition::BadRequest),
        ("<a/>", StanzaCondition::BadRequest),
        (
            "<iq type='get'><a xmlns='x'/></iq>",
            StanzaCondition::BadRequest,
        ),
        ("<message to='@'/>", StanzaCondition::JidMalformed),
        ("<message from=''/>", StanzaCondition::JidMalformed),
    ] {
        let element = Element::parse(xml.as_bytes(), ns::CLIENT).unwrap();
        let error = Stanza::from_element(&element).unwrap_err();
        assert_eq!(error.condition, condition, "{xml}");
    }
}

#[test]
fn addresses_are_spliced() {
    let plain = stanza("<message id='1'><body>b</body></message>");
    let (a, b) = (jid("a@b/c"), jid("long@example.com/o'neil<&>"));
    let to = plain.with_to(a.as_ref());
    check(&to, "<message to='a@b/c' id='1'><body>b</body></message>");
    let both = to.with_from(b.as_ref());
    check(
        &both,
        "<message from='long@example.com/o&apos;neil&lt;&amp;&gt;' to='a@b/c' id='1'><body>b</body></message>",
    );
    check(
        &both.with_from(a.as_ref()),
        "<message from='a@b/c' to='a@b/c' id='1'><body>b</body></message>",
    );
    check(
        &both.with_to(b.as_ref()).with_from(a.as_ref()),
        "<message from='a@b/c' to='long@example.com/o&apos;neil&lt;&amp;&gt;' id='1'><body>b</body></message>",
    );
    let iq = stanza("<iq type='set' to='x' id='2'><a xmlns='&amp;'/></iq>");
    check(
        &iq.with_to(a.as_ref()),
        "<iq to='a@b/c' id='2' type='set'><a xmlns='&amp;'/></iq>",
    );
    check(
        &stanza("<presence/>").with_from(a.as_ref()),
        "<presence from='a@b/c'/>",
    );
}

#[test]
fn a_child_is_appended() {
    let delay = Element::new("delay", ns::DELAY).with_attr("stamp", "2026-01-01T00:00:00Z");
    let written = "<delay xmlns='urn:xmpp:delay' stamp='2026-01-01T00:00:00Z'/>";
    check(
        &stanza("<message to='a@b'><body>b</body></message>").with_child(&delay),
        &format!("<message to='a@b'><body>b</body>{written}</message>"),
    );
    check(
        &stanza("<presence to='a@b'/>").with_child(&delay),
        &format!("<presence to='a@b'>{written}</presence>"),
    );
    let body = Element::new("body", ns::CLIENT).with_text("<");
    check(
        &stanza("<message>t</message>")
            .with_child(&body)
            .with_child(&delay),
        &format!("<message>t<body>&lt;</body>{written}</message>"),
    );
    check(
        &stanza("<message/>").with_child(&Element::new("a", "&")),
        "<message><a xmlns='&amp;'/></message>",
    );
}

#[test]
fn an_error_is_answered_to_the_sender_without_the_payload() {
    let error = StanzaError::new(StanzaCondition::ServiceUnavailable);
    let reply = stanza(
        "<message to='a@b' from='c@d/e' id='&lt;&apos;' type='chat'><body>b</body></message>",
    )
    .error_reply(&error)
    .unwrap();
    check(
        &reply,
        "<message type='error' id='&lt;&apos;' from='a@b' to='c@d/e'><error type='cancel'>\
         <service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></message>",
    );
    assert_eq!(reply.stanza_type(), StanzaType::Error);
    assert!(reply.error_reply(&error).is_none());
    assert!(
        stanza("<iq type='result' id='1'/>")
            .error_reply(&error)
            .is_none()
    );
    assert!(
        stanza("<presence type='subscribe' to='a@b'/>")
            .error_reply(&error)
            .is_some()
    );
    let reply = stanza("<iq type='get' id='1'><a xmlns='x'/></iq>")
        .error_reply(&error)
        .unwrap();
    assert!(
        std::str::from_utf8(reply.bytes())
            .unwrap()
            .starts_with("<iq type='error' id='1'><error ")
    );
}

#[test]
fn a_result_comes_from_whom_was_asked() {
    let request = stanza("<iq type='get' id='1' to='example.net' from='a@b/c'><q xmlns='x'/></iq>");
    check(
        &request.result_reply(None),
        "<iq type='result' id='1' from='example.net' to='a@b/c'/>",
    );
    let payload = Element::new("q", "x").with_text("y");
    check(
        &request.result_reply(Some(&payload)),
        "<iq type='result' id='1' from='example.net' to='a@b/c'><q xmlns='x'>y</q></iq>",
    );
    let request = stanza("<iq type='set' id='1' from='a@b/c'><q xmlns='x'/></iq>");
    check(
        &request.result_reply(None),
        "<iq type='result' id='1' to='a@b/c'/>",
    );
}

#[test]
fn a_namespace_is_written_where_it_is_not_inherited() {
    let mut out = b"x".to_vec();
    stanza("<message to='a@b'><body/></message>").write_with_ns(&mut out, ns::CLIENT);
    stanza("<presence/>").write_with_ns(&mut out, ns::SERVER);
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "x<message xmlns='jabber:client' to='a@b'><body/></message><presence xmlns='jabber:server'/>"
    );
}

#[test]
fn the_bytes_are_given_away_without_a_copy() {
    let stanza = stanza("<presence/>");
    let address = stanza.bytes().as_ptr().addr();
    let bytes = stanza.into_bytes();
    assert_eq!(bytes.as_ptr().addr(), address);
}
