use std::cell::Cell;

use super::*;
use crate::jid::{PASSWORD_BYTES_MAX, prepare_password};

thread_local! {
    static WORK: Cell<u32> = const { Cell::new(0) };
}

/// Counts HMACs of this thread, so that tests can compare the work of two paths without a clock.
pub(super) fn count_work(hmacs: u32) {
    WORK.set(WORK.get() + hmacs);
}

/// Result and number of HMACs of what `work` does.
pub(super) fn measure<T>(work: impl FnOnce() -> T) -> (T, u32) {
    let before = WORK.get();
    let result = work();
    (result, WORK.get() - before)
}

/// Numbers that are the same in each run (splitmix64).
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % limit as u64).unwrap()
    }
}

#[test]
fn base64_is_read_strictly() {
    // A03.
    let bad = Err(SaslFailure::IncorrectEncoding);
    let table = [
        ("=", Ok(b"".to_vec())),
        ("", Ok(b"".to_vec())),
        ("AA==", Ok(b"\0".to_vec())),
        ("AHVzZXIAcGVuY2ls", Ok(b"\0user\0pencil".to_vec())),
        ("+/+/", Ok(vec![0xfb, 0xff, 0xbf])),
        ("==", bad.clone()),
        ("AA", bad.clone()),
        ("AA=", bad.clone()),
        ("AAA", bad.clone()),
        ("A===", bad.clone()),
        ("AB==", bad.clone()),
        ("AA== ", bad.clone()),
        (" AA==", bad.clone()),
        ("AA\n==", bad.clone()),
        ("AAAA\r\nAAAA", bad.clone()),
        ("AA==AA==", bad.clone()),
        ("-_-_", bad.clone()),
        ("not base64!", bad.clone()),
        ("\u{e9}AAA", bad),
    ];
    for (text, expected) in table {
        assert_eq!(decode_base64(text), expected, "{text:?}");
    }
    assert!(decode_base64(&"A".repeat(BASE64_BYTES_MAX)).is_ok());
    assert_eq!(
        decode_base64(&"A".repeat(BASE64_BYTES_MAX + 4)),
        Err(SaslFailure::MalformedRequest)
    );
    assert_eq!(
        decode_base64(&"A".repeat(1 << 20)),
        Err(SaslFailure::MalformedRequest)
    );
    assert_eq!(encode_base64(b""), "=");
    assert_eq!(encode_base64(b"\0user\0pencil"), "AHVzZXIAcGVuY2ls");
}

#[test]
fn plain_is_read_by_the_grammar() {
    // A04, A14.
    fn parts(message: &[u8]) -> Option<(Option<&str>, &str, &str)> {
        Plain::parse(message)
            .ok()
            .map(|plain| (plain.authzid, plain.authcid, plain.password))
    }
    assert_eq!(parts(b"\0user\0pencil"), Some((None, "user", "pencil")));
    assert_eq!(
        parts(b"a@b/c\0user\0 pen cil "),
        Some((Some("a@b/c"), "user", " pen cil "))
    );
    assert_eq!(
        parts("\0\u{e9}\0\u{1f412}".as_bytes()),
        Some((None, "\u{e9}", "\u{1f412}"))
    );
    let name = |length: usize| format!("\0{}\0pencil", "x".repeat(length));
    let password = |length: usize| format!("\0user\0{}", "x".repeat(length));
    let authzid = |length: usize| format!("{}\0user\0pencil", "x".repeat(length));
    for accepted in [name(1_023), password(PASSWORD_BYTES_MAX), authzid(3_071)] {
        assert!(parts(accepted.as_bytes()).is_some());
    }
    let refused: [&[u8]; 11] = [
        b"",
        b"user",
        b"\0user",
        b"user\0pencil",
        b"\0\0",
        b"\0\0pencil",
        b"\0user\0",
        b"\0user\0pencil\0",
        b"\0user\0pen\0cil",
        b"\0us\xffer\0pencil",
        b"\0user\0pencil\xc3",
    ];
    let too_long = [
        name(1_024),
        name(1_025),
        password(PASSWORD_BYTES_MAX + 1),
        password(1 << 20),
        authzid(3_072),
    ];
    for message in refused
        .into_iter()
        .chain(too_long.iter().map(String::as_bytes))
    {
        assert_eq!(
            plain::parse(message).map(|_| ()),
            Err(SaslFailure::MalformedRequest)
        );
    }
}

#[test]
fn passwords_are_tried_as_opaque_string_and_then_as_saslprep() {
    // C12, A14.
    let table: [(&str, &[&str]); 15] = [
        ("pencil", &["pencil"]),
        (" a  b ", &[" a  b "]),
        ("I\u{ad}X", &["IX"]),
        ("a\u{a0}b", &["a b"]),
        ("e\u{301}", &["\u{e9}"]),
        ("\u{e9}", &["\u{e9}"]),
        ("\u{2168}", &["\u{2168}", "IX"]),
        ("\u{fb01}n", &["\u{fb01}n", "fin"]),
        ("\u{1f412}", &["\u{1f412}"]),
        ("\u{5d0}1", &["\u{5d0}1"]),
        ("", &[]),
        ("\u{ad}", &[]),
        ("a\tb", &[]),
        ("a\u{0}b", &[]),
        ("\u{378}", &[]),
    ];
    for (password, expected) in table {
        assert_eq!(
            password_forms(password).collect::<Vec<_>>(),
            expected,
            "{password:?}"
        );
    }
    assert_eq!(
        password_forms(&"x".repeat(PASSWORD_BYTES_MAX + 1)).count(),
        0
    );
    assert_eq!(password_forms(&"\u{fb01}".repeat(1 << 19)).count(), 0);
}

#[test]
fn a_password_set_in_one_form_is_found_in_others() {
    let stored = |password: &str| PassDetails::derive(password, &ScramHash::ALL, 8, b"salt");
    let opaque = |password: &str| stored(&prepare_password(password).unwrap());
    assert!(opaque("e\u{301}").verify_password("\u{e9}"));
    assert!(opaque("a\u{a0}b").verify_password("a b"));
    assert!(opaque("\u{2168}").verify_password("\u{2168}"));
    // As a server with SASLprep stored it.
    assert!(stored("IX").verify_password("\u{2168}"));
    assert!(stored("IX").verify_password("I\u{ad}X"));
    assert!(!stored("IX").verify_password("\u{2167}"));
    assert!(!stored("IX").verify_password(" IX"));
    assert!(!stored("IX").verify_password(""));
}

#[test]
fn an_unknown_user_costs_what_a_wrong_password_costs() {
    let real = PassDetails::derive("pencil", &ScramHash::ALL, 64, &random_salt());
    let invented = PassDetails::invented(b"secret", "user@example.com", &ScramHash::ALL, 64);
    // The second has two forms.
    for password in ["wrong", "\u{2168}"] {
        assert_eq!(
            measure(|| real.verify_password(password)),
            measure(|| invented.verify_password(password))
        );
    }
    assert_eq!(measure(|| real.verify_password("wrong")), (false, 64 + 2));
    let lengths = |details: &PassDetails| {
        details
            .to_string()
            .split([',', '|'])
            .map(str::len)
            .collect::<Vec<_>>()
    };
    assert_eq!(lengths(&real), lengths(&invented));
}

#[test]
fn mechanisms_are_known_by_their_exact_names() {
    for hash in ScramHash::ALL {
        assert_eq!(ScramHash::from_mechanism(hash.name()), Some((hash, false)));
        assert_eq!(
            ScramHash::from_mechanism(hash.plus_name()),
            Some((hash, true))
        );
        assert_eq!(hash.plus_name(), format!("{}-PLUS", hash.name()));
        assert_eq!(hash.digest(b"").bytes().len(), hash.digest_bytes());
    }
    for name in [
        "",
        "PLAIN",
        "scram-sha-1",
        " SCRAM-SHA-1",
        "SCRAM-SHA-1 ",
        "SCRAM-SHA-1-PLUS-PLUS",
        "SCRAM-SHA-2",
    ] {
        assert_eq!(ScramHash::from_mechanism(name), None, "{name:?}");
    }
    assert_eq!(
        ChannelBinding::from_name("tls-exporter"),
        Some(ChannelBinding::TlsExporter)
    );
    assert_eq!(
        ChannelBinding::from_name("tls-server-end-point"),
        Some(ChannelBinding::TlsServerEndPoint)
    );
    assert_eq!(ChannelBinding::from_name("tls-unique"), None);
}

#[test]
fn pass_details_of_the_fixture_are_read() {
    let fixture = include_str!("../../tests/fixtures/pass_details.txt");
    let mut read = 0;
    for row in fixture.lines().filter(|line| !line.starts_with('#')) {
        let [verdict, password, text] = row.split('\t').collect::<Vec<_>>()[..] else {
            panic!("three columns: {row}")
        };
        let result = PassDetails::parse(text);
        let got = match &result {
            Ok(details) => {
                let names: Vec<_> = details
                    .keys()
                    .iter()
                    .map(|keys| keys.hash().name().replace("SCRAM-SHA-", "SHA"))
                    .collect();
                format!("ok {} {}", names.join(","), details.keys()[0].iterations())
            }
            Err(PassDetailsError::Format) => "format".to_owned(),
            Err(PassDetailsError::Damaged) => "damaged".to_owned(),
            Err(PassDetailsError::Hash) => "hash".to_owned(),
            Err(PassDetailsError::Limit) => "limit".to_owned(),
        };
        assert_eq!(got, verdict, "{text}");
        let Ok(details) = result else { continue };
        read += 1;
        if !password.is_empty() {
            for keys in details.keys() {
                assert!(keys.verify_password(password), "{text}");
                assert!(!keys.verify_password(&format!("{password}.")), "{text}");
            }
        }
        check_round_trip(&details, text);
    }
    assert_eq!(read, 10);
    let endless = format!("==MULTI_SCRAM==,7,{}", "A".repeat(1 << 20));
    assert_eq!(
        PassDetails::parse(&endless).map(|_| ()),
        Err(PassDetailsError::Limit)
    );
}

/// What is written is the multi form with the weakest hash first, and means the same.
fn check_round_trip(details: &PassDetails, text: &str) {
    let written = details.to_string();
    assert!(written.starts_with("==MULTI_SCRAM=="));
    if text.starts_with("==MULTI_SCRAM==") {
        let sorted = |text: &str| {
            let mut parts: Vec<_> = text.split(',').map(str::to_owned).collect();
            parts.sort_unstable();
            parts
        };
        assert_eq!(sorted(&written), sorted(text));
    }
    let again = PassDetails::parse(&written).unwrap();
    assert_eq!(again.to_string(), written);
    for hash in ScramHash::ALL {
        let both = (details.key(hash), again.key(hash));
        let (Some(one), Some(other)) = both else {
            assert!(both.0.is_none() && both.1.is_none());
            continue;
        };
        assert!(bool::from(one.stored_key().ct_eq(other.stored_key())));
        assert!(bool::from(one.server_key().ct_eq(other.server_key())));
        assert_eq!(
            (one.salt(), one.iterations()),
            (other.salt(), other.iterations())
        );
    }
}

#[test]
fn derived_pass_details_hold_the_wanted_hashes_once() {
    let wanted = [ScramHash::Sha512, ScramHash::Sha1, ScramHash::Sha512];
    let details = PassDetails::derive("pencil", &wanted, 8, &random_salt());
    let hashes: Vec<_> = details.keys().iter().map(ScramKeys::hash).collect();
    assert_eq!(hashes, [ScramHash::Sha1, ScramHash::Sha512]);
    assert!(details.key(ScramHash::Sha256).is_none());
    assert!(
        PassDetails::parse(&details.to_string())
            .unwrap()
            .verify_password("pencil")
    );
}

#[test]
fn damaged_pass_details_never_panic() {
    let fixture = include_str!("../../tests/fixtures/pass_details.txt");
    let rows: Vec<_> = fixture
        .lines()
        .filter_map(|row| row.rsplit_once('\t'))
        .map(|(_, text)| text)
        .collect();
    let mut random = Random::new(3);
    for _ in 0..5_000 {
        let mut text: Vec<char> = rows[random.below(rows.len())].chars().take(400).collect();
        for _ in 0..=random.below(3) {
            if !text.is_empty() {
                let index = random.below(text.len());
                text[index] = ['=', ',', '|', '\u{e9}', '0', 'A', '+'][random.below(7)];
            }
        }
        let _ = PassDetails::parse(&text.into_iter().collect::<String>());
    }
}
