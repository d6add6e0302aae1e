//! Addresses: the normal form is one, and the parts make the whole.
use protocol::{BareJid, FullJid, Jid, JidRef};

use super::Target;

pub(crate) const TARGET: Target = Target {
    name: "jid",
    run,
    seeds: &[
        b"romeo@example.net/orchard",
        b"ROMEO@EXAMPLE.net",
        b"example.net./a@b/c",
        b"a@[2001:db8::1]",
        "stra\u{df}e@b\u{fc}cher.example/\u{3b1}\u{301}".as_bytes(),
        b"a@xn--bcher-kva.example",
    ],
    words: &[
        b"@",
        b"/",
        b".",
        b"xn--",
        b"[::1]",
        b"127.0.0.1",
        b" ",
        b"\xc2\xa0",
        b"\xc3\x9f",
        b"\xe2\x84\xaa",
        b"\xef\xbc\xa0",
        b"\xcc\x81",
        b"\xe2\x80\x8d",
        b"\xd7\x90",
        b"\xd9\xa1",
        b"\xe3\x80\x82",
        b"\xef\xbc\x8e",
        b"'",
        b"&",
        b"<",
        b"\"",
        b":",
        b"\xf0\x90\x90\x80",
        b"\xe1\xba\x9e",
        b"\xc7\x85",
    ],
};

fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let parsed = Jid::parse(text);
    let normal = JidRef::new_normal(text);
    match &parsed {
        Ok(jid) => {
            assert_eq!(
                normal.is_some(),
                jid.as_str() == text,
                "only the normal form is normal"
            );
            check(jid);
        }
        Err(_) => assert!(
            normal.is_none(),
            "what is no address is none in normal form"
        ),
    }
}

fn check(jid: &Jid) {
    assert_eq!(
        Jid::parse(jid.as_str()).as_ref(),
        Ok(jid),
        "the normal form is one"
    );
    assert!(jid.as_str().len() <= protocol::jid::JID_BYTES_MAX);
    assert_eq!(
        Jid::from_parts(jid.local(), jid.domain(), jid.resource()).as_ref(),
        Ok(jid),
        "the parts make the whole"
    );
    let joined = [
        jid.local()
            .map_or(String::new(), |local| format!("{local}@")),
        jid.domain().to_owned(),
        jid.resource()
            .map_or(String::new(), |resource| format!("/{resource}")),
    ]
    .concat();
    assert_eq!(joined, jid.as_str());
    assert!(jid.as_str().starts_with(jid.bare_str()));
    let bare = jid.to_bare();
    assert_eq!(BareJid::parse(bare.as_str()).as_ref(), Ok(&bare));
    assert_eq!(
        FullJid::parse(jid.as_str()).is_ok(),
        jid.resource().is_some()
    );
}
