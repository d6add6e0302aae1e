//! RFC 6120 section 4.7: stream headers.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::element::Element;
use crate::ns;
use crate::xml::{Place, escape};

/// What the initiator's `<stream:stream>` said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamHeader {
    /// Content namespace (the default namespace of the header).
    pub content_ns: Box<str>,
    /// The `to` as it was written.
    pub to: Option<Box<str>>,
    /// The `from` as it was written: a hint, never an identity.
    pub from: Option<Box<str>>,
    /// The `id`, which only a responder sends.
    pub id: Option<Box<str>>,
    /// The `version` as it was written.
    pub version: Option<Box<str>>,
    /// `xml:lang`, if it is a language tag of at most 35 bytes.
    pub lang: Option<Box<str>>,
}

impl StreamHeader {
    /// What an `<open/>` of RFC 7395 says, whose content is always `jabber:client`.
    pub fn of_open(open: &Element) -> Self {
        let value = |name: &str| open.attr(name).map(Into::into);
        Self {
            content_ns: ns::CLIENT.into(),
            to: value("to"),
            from: value("from"),
            id: value("id"),
            version: value("version"),
            lang: open
                .lang()
                .filter(|tag| crate::xml::is_language(tag))
                .map(Into::into),
        }
    }
}

/// Our own header as responder.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHeader<'a> {
    /// The domain asked for; if it is empty, the attribute is left out.
    pub from: &'a str,
    /// The initiator's `from`, echoed if it gave one.
    pub to: Option<&'a str>,
    /// Unguessable, new for every stream, letters and digits.
    pub id: &'a str,
    /// Default language.
    pub lang: &'a str,
}

impl ResponseHeader<'_> {
    /// Appends the XML declaration and `<stream:stream …>`.
    pub fn write(&self, out: &mut Vec<u8>) {
        write_header(
            out,
            ns::CLIENT,
            [
                ("from", Some(self.from).filter(|from| !from.is_empty())),
                ("to", self.to),
                ("id", Some(self.id)),
            ],
            &[VERSION, ("xml:lang", Some(self.lang))],
        );
    }
}

impl ResponseHeader<'_> {
    /// Appends `<open …/>` (RFC 7395 section 3.4).
    pub fn write_open(&self, out: &mut Vec<u8>) {
        for part in ["<open xmlns=\"", ns::FRAMING, "\""] {
            out.extend_from_slice(part.as_bytes());
        }
        for (name, value) in [
            ("from", Some(self.from).filter(|from| !from.is_empty())),
            ("to", self.to),
            ("id", Some(self.id)),
            ("version", Some("1.0")),
            ("xml:lang", Some(self.lang)),
        ] {
            if let Some(value) = value {
                for part in [" ", name, "=\""] {
                    out.extend_from_slice(part.as_bytes());
                }
                escape(value, Place::Attribute, out);
                out.push(b'"');
            }
        }
        out.extend_from_slice(b"/>");
    }
}

/// Appends the XML declaration and the `<stream:stream …>` of an initiator of a client stream.
pub fn write_client_header(out: &mut Vec<u8>, from: Option<&str>, to: &str, lang: Option<&str>) {
    let attributes = [("from", from), ("to", Some(to)), ("id", None)];
    write_header(out, ns::CLIENT, attributes, &[VERSION, ("xml:lang", lang)]);
}

/// Appends the header of a client's stream whose client is spoken for: what it said, with the version that it said.
pub fn write_wrapped_header(
    out: &mut Vec<u8>,
    from: Option<&str>,
    to: &str,
    lang: Option<&str>,
    version: &str,
) {
    let attributes = [("from", from), ("to", Some(to)), ("id", None)];
    let more = [("version", Some(version)), ("xml:lang", lang)];
    write_header(out, ns::CLIENT, attributes, &more);
}

/// Appends the XML declaration and the `<stream:stream …>` that answers an external component (XEP-0114 section 3): it
/// has no version, so that nobody waits for features. If `from`, the component's own address, is empty, the attribute
/// is left out.
pub fn write_component_header(out: &mut Vec<u8>, from: &str, id: &str) {
    let from = Some(from).filter(|from| !from.is_empty());
    let attributes = [("from", from), ("to", None), ("id", Some(id))];
    write_header(out, ns::COMPONENT, attributes, &[]);
}

type Attribute<'a> = (&'a str, Option<&'a str>);

const VERSION: Attribute<'static> = ("version", Some("1.0"));

/// The end of a stream we opened.
pub const STREAM_END: &[u8] = b"</stream:stream>";

fn write_header(
    out: &mut Vec<u8>,
    content_ns: &str,
    attributes: [Attribute<'_>; 3],
    more: &[Attribute<'_>],
) {
    for part in [
        "<?xml version='1.0'?><stream:stream xmlns='",
        content_ns,
        "' xmlns:stream='",
        ns::STREAM,
        "'",
    ] {
        out.extend_from_slice(part.as_bytes());
    }
    for (name, value) in attributes.iter().chain(more).copied() {
        if let Some(value) = value {
            for part in [" ", name, "='"] {
                out.extend_from_slice(part.as_bytes());
            }
            escape(value, Place::Attribute, out);
            out.push(b'\'');
        }
    }
    out.push(b'>');
}

/// Letters and digits in a new id; six bits of randomness choose each, so 24 have more than 140 bits.
const ID_CHARACTERS: usize = 24;

/// A new unguessable id: letters and digits from the operating system's randomness (at least 128 bits).
///
/// # Panics
/// If the operating system has no randomness to give, which no server can go on without.
pub fn secure_id() -> String {
    const ALPHABET: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut id = String::with_capacity(ID_CHARACTERS);
    let mut random = [0; ID_CHARACTERS.saturating_mul(2)];
    while id.len() < ID_CHARACTERS {
        getrandom::fill(&mut random).expect("the operating system gives randomness");
        // Two values of six bits have no character: they are left out, so that all are equally likely.
        let characters = random
            .iter()
            .filter_map(|byte| ALPHABET.get(usize::from(byte & 0x3f)))
            .map(|&character| char::from(character));
        let missing = ID_CHARACTERS.saturating_sub(id.len());
        id.extend(characters.take(missing));
    }
    id
}

#[cfg(test)]
mod tests {
    use super::{ResponseHeader, secure_id, write_client_header, write_component_header};

    #[track_caller]
    fn check(out: Vec<u8>, expected: &str) {
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn the_response_header_echoes_to_only_if_it_is_known() {
        let header = ResponseHeader {
            from: "example.net",
            to: None,
            id: "x1",
            lang: "en",
        };
        let mut out = Vec::new();
        header.write(&mut out);
        check(
            out,
            "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
             xmlns:stream='http://etherx.jabber.org/streams' from='example.net' id='x1' version='1.0' xml:lang='en'>",
        );
        let mut out = Vec::new();
        ResponseHeader {
            to: Some("o'neil@example.net/<&>"),
            ..header
        }
        .write(&mut out);
        check(
            out,
            "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
             xmlns:stream='http://etherx.jabber.org/streams' from='example.net' \
             to='o&apos;neil@example.net/&lt;&amp;&gt;' id='x1' version='1.0' xml:lang='en'>",
        );
    }

    #[test]
    fn the_header_of_a_client_has_no_id() {
        let mut out = Vec::new();
        write_client_header(&mut out, None, "example.net", None);
        check(
            out,
            "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
             xmlns:stream='http://etherx.jabber.org/streams' to='example.net' version='1.0'>",
        );
    }

    #[test]
    fn the_header_for_a_component_has_neither_version_nor_language() {
        let mut out = Vec::new();
        write_component_header(&mut out, "gateway.example.net", "x1");
        check(
            out,
            "<?xml version='1.0'?><stream:stream xmlns='jabber:component:accept' \
             xmlns:stream='http://etherx.jabber.org/streams' from='gateway.example.net' id='x1'>",
        );
    }

    #[test]
    fn ids_are_letters_and_digits_and_never_the_same() {
        let ids: std::collections::BTreeSet<String> = (0..10_000).map(|_| secure_id()).collect();
        assert_eq!(ids.len(), 10_000);
        assert!(
            ids.iter()
                .all(|id| id.len() == 24 && id.bytes().all(|byte| byte.is_ascii_alphanumeric()))
        );
    }
}
