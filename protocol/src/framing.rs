//! How elements go on the wire: one after the other inside of a stream (RFC 6120), or each in a frame (RFC 7395).
//!
//! Whoever writes an element writes it as it stands inside of a stream. In a frame it stands alone, so what it would
//! have inherited from the stream's header is declared in its start tag.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use crate::ns;
use crate::stream::{ResponseHeader, STREAM_END};
use crate::websocket::{CLOSE, HEADER_BYTES_MAX, TEXT, push_frame_header};

/// The way that a connection's elements go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// Inside of one XML stream.
    #[default]
    Stream,
    /// Each in a text message of a WebSocket.
    WebSocket,
}

/// What a frame's first bytes tell of what its element would inherit.
const DECLARE_CLIENT: &str = " xmlns='jabber:client'";
const DECLARE_STREAM: &str = " xmlns:stream='http://etherx.jabber.org/streams'";

/// The last element of a framed stream. Clients compare it as a string (strophe.js).
pub const FRAMED_END: &[u8] = b"<close xmlns=\"urn:ietf:params:xml:ns:xmpp-framing\" />";

/// Longest payload whose length stands in one byte.
const SHORT_BYTES_MAX: usize = 125;

impl Framing {
    /// Appends one element, which is given as it stands inside of a client's stream.
    #[inline]
    pub fn element(self, out: &mut Vec<u8>, element: &[u8]) {
        match self {
            Self::Stream => out.extend_from_slice(element),
            Self::WebSocket => {
                let declared = declared(element);
                let length = element.len().saturating_add(declared.len());
                push_frame_header(out, TEXT, length);
                put(out, element, declared);
            }
        }
    }

    /// Bytes that [`Self::element`] appends at most, for an element of that many.
    #[inline]
    pub fn element_bytes(self, bytes: usize) -> usize {
        match self {
            Self::Stream => bytes,
            Self::WebSocket => bytes
                .saturating_add(HEADER_BYTES_MAX)
                .saturating_add(DECLARE_STREAM.len()),
        }
    }

    /// Appends one element that `write` appends, which inherits nothing from a stream's header.
    #[inline]
    pub fn nonza(self, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
        if self == Self::Stream {
            return write(out);
        }
        let at = out.len();
        push_frame_header(out, TEXT, 0);
        let start = out.len();
        write(out);
        let bytes = out.len().saturating_sub(start);
        match (u8::try_from(bytes), out.get_mut(at.saturating_add(1))) {
            (Ok(length), Some(place)) if bytes <= SHORT_BYTES_MAX => *place = length,
            _ => {
                let element = out.split_off(start);
                out.truncate(at);
                self.element(out, &element);
            }
        }
    }

    /// Appends our header as responder.
    pub fn header(self, out: &mut Vec<u8>, header: &ResponseHeader<'_>) {
        match self {
            Self::Stream => header.write(out),
            Self::WebSocket => {
                let mut open = Vec::new();
                header.write_open(&mut open);
                self.element(out, &open);
            }
        }
    }

    /// Appends the end of the stream; in frames also that of the WebSocket, with this status code.
    pub fn end(self, out: &mut Vec<u8>, code: u16) {
        match self {
            Self::Stream => out.extend_from_slice(STREAM_END),
            Self::WebSocket => {
                self.element(out, FRAMED_END);
                self.hang_up(out, code);
            }
        }
    }

    /// Appends the end of the WebSocket alone; in a stream nothing.
    pub fn hang_up(self, out: &mut Vec<u8>, code: u16) {
        if self == Self::WebSocket {
            let code = code.to_be_bytes();
            push_frame_header(out, CLOSE, code.len());
            out.extend_from_slice(&code);
        }
    }
}

/// Appends an element, which is given as it stands inside of a client's stream, as one that stands alone.
pub(crate) fn put_alone(out: &mut Vec<u8>, element: &[u8]) {
    put(out, element, declared(element));
}

fn put(out: &mut Vec<u8>, element: &[u8], declared: &'static str) {
    let split = match declared {
        "" => None,
        _ => element.split_at_checked(name_end(element)),
    };
    let (start, rest) = split.unwrap_or((element, &[]));
    out.extend_from_slice(start);
    out.extend_from_slice(declared.as_bytes());
    out.extend_from_slice(rest);
}

/// What an element has to declare that stands alone: stanzas are in the default namespace of the stream, features and
/// errors have its prefix, everything else declares its own namespace anyway.
fn declared(element: &[u8]) -> &'static str {
    debug_assert!(DECLARE_CLIENT.contains(ns::CLIENT) && DECLARE_STREAM.contains(ns::STREAM));
    let rest = match element {
        [b'<', b's', b't', b'r', b'e', b'a', b'm', b':', ..] => return DECLARE_STREAM,
        [b'<', b'm', b'e', b's', b's', b'a', b'g', b'e', rest @ ..]
        | [
            b'<',
            b'p',
            b'r',
            b'e',
            b's',
            b'e',
            b'n',
            b'c',
            b'e',
            rest @ ..,
        ]
        | [b'<', b'i', b'q', rest @ ..] => rest,
        _ => return "",
    };
    match rest {
        // One that came from elsewhere may say so itself.
        _ if rest.starts_with(b" xmlns=") => "",
        [b' ' | b'/' | b'>', ..] => DECLARE_CLIENT,
        _ => "",
    }
}

/// Where the name of an element's start tag ends.
fn name_end(element: &[u8]) -> usize {
    memchr::memchr3(b' ', b'/', b'>', element).unwrap_or(element.len())
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests {
    use super::*;

    fn framed(element: &str) -> String {
        let mut out = Vec::new();
        Framing::WebSocket.element(&mut out, element.as_bytes());
        let header = match out[1] {
            126 => 4,
            127 => 10,
            length => {
                assert_eq!(usize::from(length), out.len() - 2);
                2
            }
        };
        assert_eq!(out[0], 0x81);
        assert!(out.len() <= Framing::WebSocket.element_bytes(element.len()));
        String::from_utf8(out[header..].to_vec()).unwrap()
    }

    #[test]
    fn a_framed_element_declares_what_it_would_inherit() {
        for (element, expected) in [
            ("<message/>", "<message xmlns='jabber:client'/>"),
            (
                "<presence to='a'><c/></presence>",
                "<presence xmlns='jabber:client' to='a'><c/></presence>",
            ),
            ("<iq>", "<iq xmlns='jabber:client'>"),
            ("<iq xmlns='jabber:client'/>", "<iq xmlns='jabber:client'/>"),
            ("<iqs xmlns='urn:x'/>", "<iqs xmlns='urn:x'/>"),
            ("<r xmlns='urn:xmpp:sm:3'/>", "<r xmlns='urn:xmpp:sm:3'/>"),
            (
                "<stream:features/>",
                "<stream:features xmlns:stream='http://etherx.jabber.org/streams'/>",
            ),
            (
                "<stream:error><x xmlns='y'/></stream:error>",
                "<stream:error xmlns:stream='http://etherx.jabber.org/streams'><x xmlns='y'/></stream:error>",
            ),
        ] {
            assert_eq!(framed(element), expected);
        }
    }

    #[test]
    fn long_elements_have_long_headers() {
        for bytes in [200, 65_513, 65_514, 70_000] {
            let body = "x".repeat(bytes);
            let whole = framed(&format!("<iq>{body}</iq>"));
            assert_eq!(whole, format!("<iq xmlns='jabber:client'>{body}</iq>"));
        }
    }

    #[test]
    fn nonzas_of_any_length_are_frames() {
        for bytes in [1, SHORT_BYTES_MAX, SHORT_BYTES_MAX + 1, 70_000] {
            let nonza = "a".repeat(bytes);
            let mut expected = b"before".to_vec();
            let mut out = expected.clone();
            Framing::WebSocket.element(&mut expected, nonza.as_bytes());
            Framing::WebSocket.nonza(&mut out, |out| out.extend_from_slice(nonza.as_bytes()));
            assert_eq!(out, expected);
        }
        let mut out = Vec::new();
        Framing::Stream.nonza(&mut out, |out| out.extend_from_slice(b"<r/>"));
        assert_eq!(out, b"<r/>");
    }

    #[test]
    fn the_end_is_the_one_that_clients_compare() {
        let mut out = Vec::new();
        Framing::WebSocket.end(&mut out, 1_000);
        let mut expected = vec![0x81, u8::try_from(FRAMED_END.len()).unwrap()];
        expected.extend_from_slice(FRAMED_END);
        expected.extend_from_slice(&[0x88, 2, 0x03, 0xe8]);
        assert_eq!(out, expected);
        let mut out = Vec::new();
        Framing::Stream.end(&mut out, 1_000);
        assert_eq!(out, STREAM_END);
    }

    #[test]
    fn the_header_is_open() {
        let header = ResponseHeader {
            from: "example.net",
            to: Some("a@example.net"),
            id: "x1",
            lang: "en",
        };
        let mut out = Vec::new();
        Framing::WebSocket.header(&mut out, &header);
        assert_eq!(
            std::str::from_utf8(&out[2..]).unwrap(),
            "<open xmlns=\"urn:ietf:params:xml:ns:xmpp-framing\" from=\"example.net\" to=\"a@example.net\" id=\"x1\" \
             version=\"1.0\" xml:lang=\"en\"/>"
        );
    }
}
