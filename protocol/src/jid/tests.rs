use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap};

use super::*;

/// A field of a fixture: `\u{…}` is a code point, `\x{CHARACTERS*COUNT}` a repetition.
fn unescape(field: &str) -> String {
    let mut text = String::new();
    let mut rest = field;
    while let Some(start) = rest.find("\\x{") {
        let end = rest[start..]
            .find('*')
            .map(|index| start + index)
            .expect("a star");
        let close = rest[end..]
            .find('}')
            .map(|index| end + index)
            .expect("a bracket");
        text += &unescape_code_points(&rest[..start]);
        let count = rest[end + 1..close].parse().expect("a number");
        text += &unescape_code_points(&rest[start + 3..end]).repeat(count);
        rest = &rest[close + 1..];
    }
    text + &unescape_code_points(rest)
}

fn unescape_code_points(field: &str) -> String {
    let mut pieces = field.split("\\u{");
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (digits, rest) = piece.split_once('}').expect("a bracket");
        let code_point = u32::from_str_radix(digits, 16).expect("hexadecimal digits");
        text.push(char::from_u32(code_point).expect("a code point"));
        text += rest;
    }
    text
}

fn rows(fixture: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    fixture
        .lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| line.split('\t').collect())
}

#[test]
fn an_address_is_twenty_four_bytes() {
    assert_eq!(size_of::<Jid>(), 24);
    assert_eq!(size_of::<Option<BareJid>>(), 24);
    assert_eq!(size_of::<FullJid>(), 24);
    assert_eq!(size_of::<JidRef<'_>>(), 24);
}

#[test]
fn spellings_of_the_fixture_have_the_expected_normal_form() {
    let mut spellings = 0;
    let mut wrong = Vec::new();
    for row in rows(include_str!("../../tests/fixtures/jids.txt")) {
        spellings += 1;
        let spelling = unescape(row[1]);
        let result = Jid::parse(&spelling);
        let expected = match row[0] {
            "ok" => Ok(unescape(row[2])),
            "local" => Err(JidError::Local),
            "domain" => Err(JidError::Domain),
            "resource" => Err(JidError::Resource),
            verdict => panic!("unknown verdict {verdict}"),
        };
        if result.clone().map(|jid| jid.to_string()) != expected {
            wrong.push(format!("{row:?}: {result:?}"));
        }
        match result {
            Ok(jid) => check_accepted(&jid, &spelling),
            Err(_) => assert!(JidRef::new_normal(&spelling).is_none(), "{row:?}"),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(spellings > 200);
}

/// What must hold of every address that was made from `spelling`.
fn check_accepted(jid: &Jid, spelling: &str) {
    let text = jid.as_str();
    let joined = [
        jid.local()
            .map(|local| format!("{local}@"))
            .unwrap_or_default(),
        jid.domain().to_owned(),
        jid.resource()
            .map(|resource| format!("/{resource}"))
            .unwrap_or_default(),
    ];
    assert_eq!(joined.concat(), text);
    for part in [jid.local(), Some(jid.domain()), jid.resource()]
        .into_iter()
        .flatten()
    {
        assert!((1..=PART_BYTES_MAX).contains(&part.len()), "{text}");
    }
    // Normalising again changes nothing, and is seen to.
    assert_eq!(
        Jid::parse(text).as_ref(),
        Ok(jid),
        "{text:?} from {spelling:?}"
    );
    let borrowed =
        JidRef::new_normal(text).unwrap_or_else(|| panic!("normal: {text:?} from {spelling:?}"));
    assert_eq!(borrowed, jid.as_ref());
    assert_eq!(
        JidRef::new_normal(spelling).is_some(),
        spelling == text,
        "{spelling:?}"
    );
    assert_eq!(
        Jid::from_parts(jid.local(), jid.domain(), jid.resource()).as_ref(),
        Ok(jid)
    );
    check_conversions(jid, borrowed);
}

fn check_conversions(jid: &Jid, borrowed: JidRef<'_>) {
    assert_eq!(borrowed.to_jid(), *jid);
    assert_eq!(
        (
            borrowed.local(),
            borrowed.domain(),
            borrowed.resource(),
            borrowed.bare_str()
        ),
        (jid.local(), jid.domain(), jid.resource(), jid.bare_str())
    );
    let bare = jid.to_bare();
    assert_eq!(bare.as_str(), jid.bare_str());
    assert_eq!((bare.local(), bare.domain()), (jid.local(), jid.domain()));
    assert_eq!(BareJid::parse(bare.as_str()).as_ref(), Ok(&bare));
    assert_eq!(FullJid::parse(bare.as_str()), Err(JidError::Resource));
    assert_eq!(borrowed.without_resource(), bare.as_ref());
    assert_eq!(jid.clone().into_bare(), bare);
    match jid.resource() {
        None => {
            assert!(jid.is_bare() && borrowed.is_bare());
            assert_eq!((borrowed.to_full(), jid.clone().into_full()), (None, None));
        }
        Some(resource) => {
            assert!(!jid.is_bare() && !borrowed.is_bare());
            let full = bare.with_resource(resource).unwrap();
            assert_eq!(full.as_jid(), jid);
            assert_eq!(borrowed.to_full().as_ref(), Some(&full));
            assert_eq!(jid.clone().into_full().as_ref(), Some(&full));
            assert_eq!(
                (full.resource(), full.bare_str(), full.to_bare()),
                (resource, bare.as_str(), bare.clone())
            );
            assert_eq!(BareJid::parse(full.as_str()), Err(JidError::Resource));
        }
    }
}

#[test]
fn a_separator_inside_of_a_part_is_refused() {
    assert_eq!(
        Jid::from_parts(Some("a@b"), "c", None),
        Err(JidError::Local)
    );
    assert_eq!(
        Jid::from_parts(Some("a/b"), "c", None),
        Err(JidError::Local)
    );
    assert_eq!(Jid::from_parts(None, "a@b", None), Err(JidError::Domain));
    assert_eq!(Jid::from_parts(None, "a/b", None), Err(JidError::Domain));
    assert_eq!(Jid::from_parts(Some(""), "c", None), Err(JidError::Local));
    assert_eq!(
        Jid::from_parts(None, "c", Some("")),
        Err(JidError::Resource)
    );
    assert_eq!(
        BareJid::parse("a@b").unwrap().with_resource(""),
        Err(JidError::Resource)
    );
    assert_eq!(
        Jid::from_parts(None, "c", Some("@/"))
            .as_ref()
            .map(Jid::as_str),
        Ok("c/@/")
    );
}

#[test]
fn names_that_stringprep_maps_differently_are_found_by_their_fixture() {
    let mut wrong = Vec::new();
    for row in rows(include_str!(
        "../../tests/fixtures/stringprep_differences.txt"
    )) {
        let [part, spelling, stringprep, ours] = row[..] else {
            panic!("four columns: {row:?}")
        };
        let spelling_text = unescape(spelling);
        let (old, new) = match part {
            "local" => (
                ::stringprep::nodeprep(&spelling_text),
                prepare_local(&spelling_text),
            ),
            "domain" => (
                ::stringprep::nameprep(&spelling_text),
                prepare_domain(&spelling_text),
            ),
            "resource" => (
                ::stringprep::resourceprep(&spelling_text),
                prepare_resource(&spelling_text),
            ),
            _ => panic!("unknown part {part}"),
        };
        let expected = |field: &str| {
            if field == "refused" {
                None
            } else {
                Some(unescape(field))
            }
        };
        let (old, new) = (old.ok().map(Cow::into_owned), new.ok().map(Cow::into_owned));
        if (&old, &new) != (&expected(stringprep), &expected(ours)) {
            wrong.push(format!("{row:?}: {old:?} {new:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn ascii_in_normal_form_is_borrowed() {
    for text in ["juliet", "a.b-c_d", "~"] {
        assert!(
            matches!(prepare_local(text), Ok(Cow::Borrowed(_))),
            "{text}"
        );
        assert!(
            matches!(prepare_resource(text), Ok(Cow::Borrowed(_))),
            "{text}"
        );
        assert!(
            matches!(prepare_password(text), Some(Cow::Borrowed(_))),
            "{text}"
        );
    }
    for text in ["localhost", "example.com", "r3---sn.example", "127.0.0.1"] {
        assert!(
            matches!(prepare_domain(text), Ok(Cow::Borrowed(_))),
            "{text}"
        );
    }
    assert!(matches!(
        prepare_resource("Balcony @/ x"),
        Ok(Cow::Borrowed(_))
    ));
}

#[test]
fn passwords_are_prepared_as_opaque_strings() {
    let check = |password: &str, expected: Option<&str>| {
        assert_eq!(
            prepare_password(password).as_deref(),
            expected,
            "{password:?}"
        );
    };
    check("pencil", Some("pencil"));
    check(" pen\u{a0}cil ", Some(" pen cil "));
    check("e\u{301}", Some("\u{e9}"));
    check("\u{1f412}\u{1f980}", Some("\u{1f412}\u{1f980}"));
    check("\u{2168}", Some("\u{2168}"));
    check("\u{5d0}1", Some("\u{5d0}1"));
    for refused in [
        "", "a\tb", "a\0b", "I\u{ad}X", "\u{378}", "\u{e000}", "\u{200b}",
    ] {
        check(refused, None);
    }
    let longest = "x".repeat(PASSWORD_BYTES_MAX);
    check(&longest, Some(&longest));
    check(&"x".repeat(PASSWORD_BYTES_MAX + 1), None);
    check(&"\u{e9}".repeat(PASSWORD_BYTES_MAX), None);
}

#[test]
fn addresses_hash_compare_and_sort_as_their_text() {
    fn hash(value: impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        value.hash(&mut hasher);
        hasher.finish()
    }
    let texts = [
        "example.com",
        "a@example.com",
        "a@example.com/b",
        "a@example.com/c",
        "b",
        "b/c",
        "b@c",
    ];
    for text in texts {
        let jid = Jid::parse(text).unwrap();
        assert_eq!(hash(&jid), hash(text));
        assert_eq!(hash(jid.as_ref()), hash(text));
        assert_eq!(jid, *text);
        assert_eq!(jid, text);
        for other in texts {
            let compared = Jid::parse(other).unwrap();
            assert_eq!(jid.cmp(&compared), text.cmp(other));
            assert_eq!(jid.as_ref().cmp(&compared.as_ref()), text.cmp(other));
            assert_eq!(jid == compared, text == other);
        }
    }
    let bare = BareJid::parse("a@example.com").unwrap();
    let full = FullJid::parse("a@example.com/b").unwrap();
    let by_bare = HashMap::from([(bare.clone(), 1)]);
    assert_eq!(by_bare.get(full.bare_str()), Some(&1));
    let by_full = BTreeMap::from([(full.clone(), 2)]);
    assert_eq!(by_full.get("a@example.com/b"), Some(&2));
    assert_eq!(by_full.get("a@example.com"), None);
}

#[test]
fn addresses_are_shown_and_parsed_as_text() {
    let jid: Jid = "A@b/C".parse().unwrap();
    assert_eq!(
        format!("{jid}|{jid:?}|{}|{:?}", jid.as_ref(), jid.as_ref()),
        "a@b/C|Jid(\"a@b/C\")|a@b/C|JidRef(\"a@b/C\")"
    );
    let full = FullJid::try_from("a@b/C").unwrap();
    assert_eq!(format!("{full:>7}|{full:?}"), "  a@b/C|FullJid(\"a@b/C\")");
    assert_eq!(AsRef::<str>::as_ref(&full), "a@b/C");
    assert_eq!(Jid::from(full), jid);
    assert_eq!(BareJid::try_from("a@b/C"), Err(JidError::Resource));
    assert_eq!("a@".parse::<Jid>(), Err(JidError::Domain));
    assert_eq!(
        JidError::Local.to_string(),
        "the local part of the address is not allowed"
    );
}

/// Numbers that are the same in each run (xorshift64*).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    /// Any code point, with a preference for those that matter to addresses.
    fn character(&mut self) -> char {
        const NOTABLE: &[char] = &[
            '@',
            '/',
            '.',
            '-',
            ':',
            '[',
            ']',
            '\\',
            ' ',
            '\0',
            'a',
            'Z',
            '0',
            'x',
            'n',
            '\u{300}',
            '\u{301}',
            '\u{323}',
            '\u{345}',
            '\u{ad}',
            '\u{b7}',
            '\u{df}',
            '\u{130}',
            '\u{131}',
            '\u{17f}',
            '\u{1c5}',
            '\u{375}',
            '\u{3a3}',
            '\u{3c2}',
            '\u{5d0}',
            '\u{5f3}',
            '\u{627}',
            '\u{660}',
            '\u{6f0}',
            '\u{94d}',
            '\u{1e9e}',
            '\u{200c}',
            '\u{200d}',
            '\u{202e}',
            '\u{212a}',
            '\u{212b}',
            '\u{2126}',
            '\u{3002}',
            '\u{30fb}',
            '\u{ac00}',
            '\u{fb1d}',
            '\u{fe0f}',
            '\u{ff0e}',
            '\u{ff0f}',
            '\u{ff20}',
            '\u{ff21}',
            '\u{ff9e}',
            '\u{ffff}',
            '\u{1f412}',
            '\u{10ffff}',
        ];
        loop {
            let code_point = match self.below(8) {
                0..=2 => return NOTABLE[self.below(NOTABLE.len())],
                3 => self.below(0x80),
                4 => self.below(0x800),
                5 => self.below(0x3100),
                6 => self.below(0x1_0000),
                _ => self.below(0x11_0000),
            };
            if let Some(character) = u32::try_from(code_point).ok().and_then(char::from_u32) {
                return character;
            }
        }
    }
}

#[test]
fn random_texts_never_panic_and_have_one_normal_form() {
    let mut random = Random(7_622);
    let mut accepted = 0;
    for _ in 0..60_000 {
        let text: String = (0..random.below(9)).map(|_| random.character()).collect();
        if let Ok(jid) = Jid::parse(&text) {
            accepted += 1;
            check_accepted(&jid, &text);
        }
        let _ = prepare_password(&text);
    }
    // Few random texts are addresses, so their parts are tried alone too.
    assert!(accepted > 1_000, "{accepted}");
}

#[test]
fn random_parts_have_one_normal_form() {
    let mut random = Random(8_264);
    let mut accepted = [0; 3];
    for _ in 0..60_000 {
        let text: String = (0..=random.below(5)).map(|_| random.character()).collect();
        for (index, prepare) in [prepare_local, prepare_domain, prepare_resource]
            .into_iter()
            .enumerate()
        {
            if let Ok(prepared) = prepare(&text) {
                accepted[index] += 1;
                assert_eq!(prepare(&prepared).as_deref(), Ok(&*prepared), "{text:?}");
            }
        }
    }
    assert!(
        accepted.into_iter().all(|count| count > 1_000),
        "{accepted:?}"
    );
}

#[test]
fn every_code_point_has_one_normal_form_in_every_part() {
    // All planes with characters; of the planes for private use, the ends.
    let assigned = (0..0x3_4000)
        .chain(0xe_0000..0xe_0200)
        .chain(0xf_fff0..0x10_0010)
        .chain(0x10_fff0..0x11_0000);
    for character in assigned.filter_map(char::from_u32) {
        for text in [
            String::from(character),
            format!("a{character}b"),
            format!("\u{5d0}{character}"),
        ] {
            for prepare in [prepare_local, prepare_domain, prepare_resource] {
                if let Ok(prepared) = prepare(&text) {
                    assert_eq!(prepare(&prepared).as_deref(), Ok(&*prepared), "{text:?}");
                }
            }
        }
    }
}

#[test]
fn the_fast_path_for_domains_agrees_with_uts_46() {
    let mut random = Random(5_890);
    let characters = ['a', 'b', 'z', '0', '9', '-', '-', '.', 'x', 'n', '_', 'A'];
    for _ in 0..60_000 {
        let text: String = (0..random.below(9))
            .map(|_| characters[random.below(characters.len())])
            .collect();
        // The ideographic full stop is the ordinary one, but takes the other path.
        let slow = prepare_domain(&format!("a\u{3002}{text}")).map(Cow::into_owned);
        let fast = prepare_domain(&format!("a.{text}")).map(Cow::into_owned);
        assert_eq!(fast, slow, "{text}");
    }
}

#[test]
fn long_texts_of_costly_code_points_are_refused_or_prepared_soon() {
    // What each of them costs is bounded by counts, which is what is tested: no clock.
    for character in [
        '\u{660}', '\u{30fb}', '\u{b7}', '\u{200d}', '\u{301}', '\u{ff21}', '\u{fdfa}', '\u{e9}',
    ] {
        let text = String::from(character).repeat(1 << 16);
        assert_eq!(prepare_local(&text), Err(JidError::Local));
        assert_eq!(prepare_domain(&text), Err(JidError::Domain));
        assert_eq!(prepare_resource(&text), Err(JidError::Resource));
        assert_eq!(prepare_password(&text), None);
        assert_eq!(Jid::parse(&text), Err(JidError::Domain));
    }
}
