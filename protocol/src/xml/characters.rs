//! Character data: what may stand in it, references, escapes (XML 1.0 sections 2.2, 2.4, 2.11, 3.3.3, 4.1).
use std::borrow::Cow;

use super::{Fault, names};
use crate::StreamCondition;

/// Where a text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Between tags.
    Text,
    /// In an attribute's value, in either kind of quotes.
    Attribute,
}

/// What serialised XML is appended to.
pub(crate) trait Sink {
    fn put(&mut self, text: &str);
}

impl Sink for Vec<u8> {
    fn put(&mut self, text: &str) {
        self.extend_from_slice(text.as_bytes());
    }
}

impl Sink for String {
    fn put(&mut self, text: &str) {
        self.push_str(text);
    }
}

/// Appends `text` so that every XML reader gets it back as it is: this is the only function that escapes.
///
/// `<`, `>`, `&` and both quotes are always escaped; a carriage return too, since readers turn it into a line feed;
/// in attributes also tabulator and line feed, which readers turn into blanks. A character that XML forbids has no
/// escape: U+FFFD stands in for it ([`is_writable`] tells beforehand; nothing that came from a stream has one).
pub fn escape(text: &str, place: Place, out: &mut Vec<u8>) {
    escape_to(text, place, out);
}

/// [`escape`] for any sink.
pub(crate) fn escape_to(text: &str, place: Place, out: &mut impl Sink) {
    let mut rest = text;
    while let Some((index, replacement, bytes)) = first_special(rest, place) {
        out.put(rest.get(..index).unwrap_or_default());
        out.put(replacement);
        rest = rest.get(index.saturating_add(bytes)..).unwrap_or_default();
    }
    out.put(rest);
}

/// `text` as [`escape`] writes it.
pub(crate) fn escaped(text: &str, place: Place) -> Cow<'_, str> {
    if first_special(text, place).is_none() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len().saturating_mul(2));
    escape_to(text, place, &mut out);
    Cow::Owned(out)
}

/// `text` has only characters that XML 1.0 allows.
pub fn is_writable(text: &str) -> bool {
    Characters::of(text.as_bytes()).are_allowed
}

/// The first character that is not written as it is: its index, what is written, and its bytes.
fn first_special(text: &str, place: Place) -> Option<(usize, &'static str, usize)> {
    let bytes = text.as_bytes();
    let mut from = 0;
    loop {
        let found = bytes.get(from..)?.iter().position(|&byte| {
            ESCAPED
                .get(usize::from(byte))
                .is_none_or(|is_escaped| *is_escaped)
        })?;
        let index = from.saturating_add(found);
        if let Some((replacement, length)) =
            bytes.get(index..).and_then(|at| replacement(at, place))
        {
            return Some((index, replacement, length));
        }
        from = index.saturating_add(1);
    }
}

/// What is written for the character at the start of `bytes`, if not itself, and its bytes.
fn replacement(bytes: &[u8], place: Place) -> Option<(&'static str, usize)> {
    let replacement = match (bytes, place) {
        ([b'<', ..], _) => "&lt;",
        ([b'>', ..], _) => "&gt;",
        ([b'&', ..], _) => "&amp;",
        ([b'\'', ..], _) => "&apos;",
        ([b'"', ..], _) => "&quot;",
        ([b'\r', ..], _) => "&#13;",
        ([b'\t', ..], Place::Attribute) => "&#9;",
        ([b'\n', ..], Place::Attribute) => "&#10;",
        ([b'\t' | b'\n', ..], Place::Text) => return None,
        ([0xef, 0xbf, 0xbe | 0xbf, ..], _) => return Some(("\u{fffd}", 3)),
        ([0..b' ', ..], _) => "\u{fffd}",
        _ => return None,
    };
    Some((replacement, 1))
}

/// Bytes that may start a character which is not written as it is.
const ESCAPED: [bool; 256] = {
    let mut escaped = [false; 256];
    let mut byte = 0;
    while byte < escaped.len() {
        #[allow(
            clippy::cast_possible_truncation,
            clippy::indexing_slicing,
            clippy::arithmetic_side_effects,
            reason = "evaluated by the compiler, `byte` is below 256"
        )]
        {
            escaped[byte] = matches!(
                byte as u8,
                0..b' ' | b'<' | b'>' | b'&' | b'\'' | b'"' | 0xef
            );
            byte += 1;
        }
    }
    escaped
};

/// White space in XML (section 2.3).
pub(crate) fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// What a look at the characters of an element tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Characters {
    /// XML 1.0 allows all of them: there is no control character, no U+FFFE and no U+FFFF.
    pub(crate) are_allowed: bool,
    /// There is one, which each reader has to turn into a line feed.
    pub(crate) has_carriage_return: bool,
}

impl Characters {
    /// Looks at UTF-8 `bytes`.
    pub(crate) fn of(bytes: &[u8]) -> Self {
        // No early exit: this form is compiled to vector instructions.
        let (control, wide, carriage_return) =
            bytes
                .iter()
                .fold((0, 0, 0), |(control, wide, carriage_return), &byte| {
                    let is_control =
                        (byte < b' ') & (byte != b'\t') & (byte != b'\n') & (byte != b'\r');
                    (
                        control | u8::from(is_control),
                        wide | u8::from(byte == 0xef),
                        carriage_return | u8::from(byte == b'\r'),
                    )
                });
        let has_noncharacter = || {
            memchr::memchr_iter(0xef, bytes).any(|index| {
                let last = index.saturating_add(2);
                matches!(bytes.get(index..=last), Some([0xef, 0xbf, 0xbe | 0xbf]))
            })
        };
        Self {
            are_allowed: control == 0 && (wide == 0 || !has_noncharacter()),
            has_carriage_return: carriage_return != 0,
        }
    }
}

fn is_xml_char(char: char) -> bool {
    matches!(char, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// What a reference stands for; `name` is what is between `&` and `;`.
pub(crate) fn reference(name: &str) -> Result<char, Fault> {
    match name {
        "amp" => return Ok('&'),
        "lt" => return Ok('<'),
        "gt" => return Ok('>'),
        "apos" => return Ok('\''),
        "quot" => return Ok('"'),
        _ => {}
    }
    let Some(number) = name.strip_prefix('#') else {
        // Declared nowhere, as there is no DTD; RFC 6120 section 11.1 has a condition of its own for it.
        return Err(Fault::Condition(match names::qname(name) {
            Some(name) if name.prefix.is_empty() => StreamCondition::RestrictedXml,
            _ => StreamCondition::NotWellFormed,
        }));
    };
    let (digits, radix) = match number.strip_prefix('x') {
        Some(digits) => (digits, 16),
        None => (number, 10),
    };
    // `from_str_radix` would take a sign.
    if digits.starts_with('+') {
        return Err(Fault::MALFORMED);
    }
    u32::from_str_radix(digits, radix)
        .ok()
        .and_then(char::from_u32)
        .filter(|&char| is_xml_char(char))
        .ok_or(Fault::MALFORMED)
}

/// Checks every reference in an attribute's value. What it finds otherwise is for others.
pub(crate) fn check_references(value: &str) -> Result<(), Fault> {
    let mut rest = value;
    while let Some((_, after)) = rest.split_once('&') {
        let (name, next) = after.split_once(';').ok_or(Fault::MALFORMED)?;
        reference(name)?;
        rest = next;
    }
    Ok(())
}

/// The value of an attribute whose references were checked: references replaced, white space normalised.
pub(crate) fn attribute_value(raw: &str) -> Cow<'_, str> {
    if !raw
        .bytes()
        .any(|byte| matches!(byte, b'&' | b'\t' | b'\n' | b'\r'))
    {
        return Cow::Borrowed(raw);
    }
    let mut value = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(index) = rest
        .bytes()
        .position(|byte| matches!(byte, b'&' | b'\t' | b'\n' | b'\r'))
    {
        let (plain, special) = rest.split_at_checked(index).unwrap_or((rest, ""));
        value.push_str(plain);
        let (char, after) = match special.as_bytes().first() {
            Some(b'&') => resolve(special),
            // A carriage return with its line feed is one line end.
            Some(b'\r') => (
                ' ',
                special
                    .strip_prefix("\r\n")
                    .or_else(|| special.get(1..))
                    .unwrap_or_default(),
            ),
            _ => (' ', special.get(1..).unwrap_or_default()),
        };
        value.push(char);
        rest = after;
    }
    value.push_str(rest);
    Cow::Owned(value)
}

/// The character of a checked reference at the start of `text`, and what follows it.
fn resolve(text: &str) -> (char, &str) {
    text.strip_prefix('&')
        .and_then(|text| text.split_once(';'))
        .and_then(|(name, rest)| Some((reference(name).ok()?, rest)))
        .unwrap_or((char::REPLACEMENT_CHARACTER, ""))
}

/// Appends raw character data without references, with its line ends normalised (section 2.11).
pub(crate) fn push_text(raw: &str, out: &mut String) {
    let mut rest = raw;
    while let Some((line, after)) = rest.split_once('\r') {
        out.push_str(line);
        out.push('\n');
        rest = after.strip_prefix('\n').unwrap_or(after);
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use super::{
        Characters, Place, attribute_value, check_references, escape, escaped, push_text, reference,
    };
    use crate::StreamCondition;
    use crate::xml::Fault;

    #[track_caller]
    fn check_escape(text: &str, place: Place, expected: &str) {
        let mut out = Vec::new();
        escape(text, place, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
        assert_eq!(escaped(text, place), expected);
    }

    #[test]
    fn all_that_a_reader_would_change_is_escaped() {
        check_escape("", Place::Text, "");
        check_escape("plain \u{85}\u{2028}", Place::Text, "plain \u{85}\u{2028}");
        check_escape(
            "<a b='\"'>&\t\r\n",
            Place::Text,
            "&lt;a b=&apos;&quot;&apos;&gt;&amp;\t&#13;\n",
        );
        check_escape(
            "\u{1}a\u{ffff}b\u{ff5e}\u{fffe}",
            Place::Text,
            "\u{fffd}a\u{fffd}b\u{ff5e}\u{fffd}",
        );
        check_escape("\t\r\n'", Place::Attribute, "&#9;&#13;&#10;&apos;");
    }

    #[track_caller]
    fn check_reference(name: &str, expected: Result<char, StreamCondition>) {
        assert_eq!(
            reference(name),
            expected.map_err(Fault::Condition),
            "{name:?}"
        );
    }

    #[test]
    fn references_to_allowed_characters_and_the_five_entities_are_resolved() {
        check_reference("amp", Ok('&'));
        check_reference("quot", Ok('"'));
        check_reference("#9", Ok('\t'));
        check_reference("#x10FFFF", Ok('\u{10ffff}'));
        check_reference("#x0000041", Ok('A'));
        check_reference("#xe9", Ok('\u{e9}'));
    }

    #[test]
    fn other_references_are_refused() {
        for name in [
            "",
            "#",
            "#x",
            "#0",
            "#x1F",
            "#xFFFE",
            "#xD800",
            "#x110000",
            "#xFFFFFFFFFF",
            "#-1",
            "#+65",
            "#x+41",
            "#X41",
            "1a",
            "a b",
            "a:b",
            " amp",
        ] {
            check_reference(name, Err(StreamCondition::NotWellFormed));
        }
        check_reference("foo", Err(StreamCondition::RestrictedXml));
        check_reference("AMP", Err(StreamCondition::RestrictedXml));
        assert!(check_references("a &amp; b").is_ok());
        assert!(check_references("a & b").is_err());
        assert!(check_references("a &amp b").is_err());
    }

    #[test]
    fn values_are_normalised_as_section_3_3_3_says() {
        assert_eq!(attribute_value("plain"), "plain");
        assert_eq!(attribute_value("a\tb\r\nc\rd\ne"), "a b c d e");
        assert_eq!(attribute_value("&#xD;&#xA;&#9;&lt;"), "\r\n\t<");
        let mut text = String::new();
        push_text("a\r\nb\rc\n\r\r\n", &mut text);
        assert_eq!(text, "a\nb\nc\n\n\n");
    }

    #[test]
    fn forbidden_characters_are_found() {
        for allowed in [
            "",
            "a\t\r\n",
            "\u{7f}\u{85}",
            "\u{fffd}\u{feff}\u{1fffe}",
            "\u{ff5e}",
        ] {
            assert!(
                Characters::of(allowed.as_bytes()).are_allowed,
                "{allowed:?}"
            );
        }
        for forbidden in [
            "\0",
            "a\u{1}",
            "\u{b}",
            "\u{c}",
            "\u{1f}",
            "\u{fffe}",
            "x\u{ffff}",
        ] {
            assert!(
                !Characters::of(forbidden.as_bytes()).are_allowed,
                "{forbidden:?}"
            );
        }
    }
}
