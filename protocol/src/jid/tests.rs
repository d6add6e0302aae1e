use super::*;

#[test]
fn an_address_is_twenty_four_bytes() {
    assert_eq!(size_of::<Jid>(), 24);
    assert_eq!(size_of::<Option<BareJid>>(), 24);
    assert_eq!(size_of::<FullJid>(), 24);
    assert_eq!(size_of::<JidRef<'_>>(), 24);
}

#[test]
fn parts_are_found() {
    let jid = Jid::parse("Juliet@Example.COM/Balcony @/x").unwrap();
    assert_eq!(jid, "juliet@example.com/Balcony @/x");
    assert_eq!(jid.local(), Some("juliet"));
    assert_eq!(jid.domain(), "example.com");
    assert_eq!(jid.resource(), Some("Balcony @/x"));
    assert_eq!(jid.bare_str(), "juliet@example.com");
    let server = Jid::parse("example.com").unwrap();
    assert_eq!(
        (server.local(), server.domain(), server.resource()),
        (None, "example.com", None)
    );
}
