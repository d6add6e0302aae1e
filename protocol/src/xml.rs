//! The one reader for everything that comes off a wire: quick-xml plus our own checks (RFC 6120 section 11).
use std::borrow::Cow;
use crate::{Element, JidRef, Kind, Stanza, StanzaError, StreamError, stream::StreamHeader};

/// Limits of one stream; each breach is `policy-violation`, an element over `element_bytes_max` with
/// `<stanza-too-big xmlns='urn:xmpp:errors'/>` (XEP-0205).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Limits {
    pub element_bytes_max: u32,
    pub elements_max: u32,
    pub depth_max: u16,
    pub attributes_per_element_max: u16,
    pub attributes_max: u32,
    pub namespaces_max: u16,
    pub name_bytes_max: u16,
    pub namespace_bytes_max: u16,
    pub attribute_value_bytes_max: u32,
}
impl Limits {
    /// Before login.
    pub const PRE_AUTH: Self = Self {
        element_bytes_max: 16_384, elements_max: 32, depth_max: 8, attributes_per_element_max: 16, attributes_max: 64,
        namespaces_max: 16, name_bytes_max: 256, namespace_bytes_max: 1_024, attribute_value_bytes_max: 4_096,
    };
    /// A client after login.
    pub const AUTHENTICATED: Self = Self {
        element_bytes_max: 65_536, elements_max: 2_048, depth_max: 64, attributes_per_element_max: 32,
        attributes_max: 4_096, namespaces_max: 256, name_bytes_max: 1_024, namespace_bytes_max: 1_024,
        attribute_value_bytes_max: 65_536,
    };
}

/// Reads one XML stream. Holds nothing on the heap between two elements.
pub struct StreamReader {
    _private: (),
}

/// What the reader found.
pub enum Item<'a> {
    /// `<stream:stream …>`.
    Header(StreamHeader),
    /// One complete element of the stream's level.
    Element(Frame<'a>),
    /// `</stream:stream>`.
    Close,
}

/// One complete, checked element of the stream's level: a stanza or a nonza.
pub struct Frame<'a> {
    bytes: &'a [u8],
}

#[allow(missing_docs, unused, clippy::all)]
impl StreamReader {
    /// A reader before the stream header.
    pub fn new(limits: Limits) -> Self { todo!() }
    pub fn set_limits(&mut self, limits: Limits) { todo!() }
    /// Expects a new stream header (after SASL, RFC 6120 section 6.4.6); nothing is held from before.
    pub fn restart(&mut self) { todo!() }
    /// The next item. Takes from the front of `input` what it has read; `Ok(None)` means that all of `input` is taken
    /// and more is needed: the unfinished element is kept inside.
    pub fn next<'r, 'i: 'r>(&'r mut self, input: &mut &'i [u8]) -> Result<Option<Item<'r>>, StreamError> { todo!() }
    /// An element is open or a token is cut.
    pub fn is_inside(&self) -> bool { todo!() }
    /// Bytes held on the heap for an unfinished element.
    pub fn held_bytes(&self) -> usize { todo!() }
}

#[allow(missing_docs, unused, clippy::all)]
impl<'a> Frame<'a> {
    pub fn bytes(&self) -> &'a [u8] { self.bytes }
    /// Local name.
    pub fn name(&self) -> &str { todo!() }
    pub fn ns(&self) -> &str { todo!() }
    /// `Some` if it is a stanza of the stream's content namespace.
    pub fn kind(&self) -> Option<Kind> { todo!() }
    /// Value of an attribute without namespace.
    pub fn attr(&self, name: &str) -> Option<Cow<'_, str>> { todo!() }
    /// Direct character data, joined (for SASL's base64).
    pub fn text(&self) -> Cow<'_, str> { todo!() }
    pub fn to_element(&self) -> Element { todo!() }
    /// The stanza with `from` set to the sender's address and, if it has no `xml:lang`, the stream's. Kept bytes are
    /// spliced if they are in forwardable form, else re-serialised. Server-owned children (see `SERVER_OWNED`) are
    /// removed if `is_ours` says so of their `by`/`from`.
    pub fn to_stanza(&self, stamp: &Stamp<'_>) -> Result<Stanza, Refused> { todo!() }
}

/// What the server adds to a client's stanza.
#[derive(Clone, Copy)]
pub struct Stamp<'a> {
    /// The sender's full address.
    pub from: JidRef<'a>,
    /// `xml:lang` of the sender's stream header.
    pub lang: Option<&'a str>,
    /// x
    pub is_ours: &'a dyn Fn(&str) -> bool,
}
/// x
pub fn escape_attribute(_: &str, _: &mut Vec<u8>) { todo!() }

/// A stanza that is well-formed but cannot be routed.
#[derive(Debug)]
pub struct Refused {
    /// What to answer to the sender (already addressed), if it may be answered at all.
    pub reply: Option<Stanza>,
    /// Why.
    pub error: StanzaError,
}
