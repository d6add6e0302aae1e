//! Stream headers (RFC 6120 section 4.7).

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

/// Our own header as responder.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHeader<'a> {
    /// The domain asked for.
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
    pub fn write(&self, _out: &mut Vec<u8>) { todo!() }
}

/// The end of a stream we opened.
pub const STREAM_END: &[u8] = b"</stream:stream>";

/// A new unguessable id: `bits` of randomness from the operating system as letters and digits (at least 128).
pub fn secure_id() -> String { todo!() }
