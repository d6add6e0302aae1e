use super::*;

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut out = Vec::new();
    write(&mut out);
    String::from_utf8(out).unwrap()
}

#[test]
fn stanza_conditions_have_the_names_and_types_of_rfc_6120() {
    let table = [
        ("bad-request", "modify"),
        ("conflict", "cancel"),
        ("feature-not-implemented", "cancel"),
        ("forbidden", "auth"),
        ("gone", "cancel"),
        ("internal-server-error", "cancel"),
        ("item-not-found", "cancel"),
        ("jid-malformed", "modify"),
        ("not-acceptable", "modify"),
        ("not-allowed", "cancel"),
        ("not-authorized", "auth"),
        ("policy-violation", "modify"),
        ("recipient-unavailable", "wait"),
        ("redirect", "modify"),
        ("registration-required", "auth"),
        ("remote-server-not-found", "cancel"),
        ("remote-server-timeout", "wait"),
        ("resource-constraint", "wait"),
        ("service-unavailable", "cancel"),
        ("subscription-required", "auth"),
        ("undefined-condition", "cancel"),
        ("unexpected-request", "wait"),
    ];
    assert_eq!(StanzaCondition::ALL.len(), table.len());
    for (name, error_type) in table {
        let condition = StanzaCondition::from_name(name).expect(name);
        assert_eq!(condition.name(), name);
        assert_eq!(condition.default_type().name(), error_type, "{name}");
        assert_eq!(
            ErrorType::from_name(error_type),
            Some(condition.default_type())
        );
    }
    assert_eq!(StanzaCondition::from_name("payment-required"), None);
    assert_eq!(ErrorType::from_name("Cancel"), None);
}

#[test]
fn stream_conditions_have_the_names_of_rfc_6120() {
    for name in [
        "bad-format",
        "bad-namespace-prefix",
        "conflict",
        "connection-timeout",
        "host-gone",
        "host-unknown",
        "improper-addressing",
        "internal-server-error",
        "invalid-from",
        "invalid-namespace",
        "invalid-xml",
        "not-authorized",
        "not-well-formed",
        "policy-violation",
        "remote-connection-failed",
        "reset",
        "resource-constraint",
        "restricted-xml",
        "see-other-host",
        "system-shutdown",
        "undefined-condition",
        "unsupported-encoding",
        "unsupported-feature",
        "unsupported-stanza-type",
        "unsupported-version",
    ] {
        assert_eq!(StreamCondition::from_name(name).expect(name).name(), name);
    }
    assert_eq!(
        StreamCondition::from_name("xml-not-well-formed"),
        Some(StreamCondition::NotWellFormed)
    );
    assert_eq!(StreamCondition::from_name("unknown"), None);
}

#[test]
fn sasl_conditions_have_the_names_of_rfc_6120() {
    for name in [
        "aborted",
        "account-disabled",
        "credentials-expired",
        "encryption-required",
        "incorrect-encoding",
        "invalid-authzid",
        "invalid-mechanism",
        "malformed-request",
        "mechanism-too-weak",
        "not-authorized",
        "temporary-auth-failure",
    ] {
        assert_eq!(SaslFailure::from_name(name).expect(name).name(), name);
    }
    assert_eq!(SaslFailure::from_name("bad-auth"), None);
    assert_eq!(
        written(|out| SaslFailure::NotAuthorized.write(out)),
        "<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><not-authorized/></failure>"
    );
}

#[test]
fn a_stanza_error_is_written_with_condition_text_and_application_in_that_order() {
    assert_eq!(
        written(|out| StanzaError::from(StanzaCondition::ItemNotFound).write(out)),
        "<error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error>"
    );
    let error = StanzaError::new(StanzaCondition::NotAllowed)
        .with_type(ErrorType::Modify)
        .with_text("a < b & 'c' \u{1}\r")
        .with_application("stanza-too-big", ns::ERRORS);
    assert_eq!(
        written(|out| error.write(out)),
        "<error type='modify'><not-allowed xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>\
         <text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='en'>\
         a &lt; b &amp; &apos;c&apos; \u{fffd}&#13;</text>\
         <stanza-too-big xmlns='urn:xmpp:errors'/></error>"
    );
    assert_eq!(
        error.to_string(),
        "stanza error not-allowed: a < b & 'c' \u{1}\r"
    );
}

#[test]
fn a_stream_error_is_written_with_content_text_and_application_in_that_order() {
    assert_eq!(
        written(|out| StreamError::from(StreamCondition::HostUnknown).write(out)),
        "<stream:error><host-unknown xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error>"
    );
    assert_eq!(
        written(|out| StreamError::see_other_host("[2001:db8::1]:5222<").write(out)),
        "<stream:error><see-other-host xmlns='urn:ietf:params:xml:ns:xmpp-streams'>\
         [2001:db8::1]:5222&lt;</see-other-host></stream:error>"
    );
    let error = StreamError::new(StreamCondition::PolicyViolation)
        .with_text("too big")
        .with_application("<stanza-too-big xmlns='urn:xmpp:errors'/>");
    assert_eq!(
        written(|out| error.write(out)),
        "<stream:error><policy-violation xmlns='urn:ietf:params:xml:ns:xmpp-streams'/>\
         <text xmlns='urn:ietf:params:xml:ns:xmpp-streams' xml:lang='en'>too big</text>\
         <stanza-too-big xmlns='urn:xmpp:errors'/></stream:error>"
    );
    assert_eq!(error.to_string(), "stream error policy-violation: too big");
}
