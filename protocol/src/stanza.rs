//! The owned stanza that the router carries: bytes that are proven, and an index of its header.
use std::borrow::Cow;
use crate::{Element, JidRef, StanzaError};

/// What a stanza is (RFC 6120 section 8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Kind { Message, Presence, Iq }

/// The `type` attribute; a missing one has its default (RFC 6120 section 8.2.3, RFC 6121 sections 4.7.1 and 5.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum StanzaType {
    // message; an unknown type counts as Normal
    Normal, Chat, Groupchat, Headline,
    // presence; no type is Available
    Available, Unavailable, Subscribe, Subscribed, Unsubscribe, Unsubscribed, Probe,
    // iq
    Get, Set, Result,
    // any
    Error,
}

/// One stanza, serialised in forwardable form for a client stream over TCP (`jabber:client` is the inherited default
/// namespace and not written), with an index of its header. Cloning copies the bytes.
#[derive(Clone, Debug)]
pub struct Stanza {
    bytes: Box<[u8]>,
    kind: Kind,
    stanza_type: StanzaType,
    // offsets of to, from, id …: see the implementation
}

#[allow(missing_docs, unused, clippy::all)]
impl Stanza {
    pub fn kind(&self) -> Kind { self.kind }
    pub fn stanza_type(&self) -> StanzaType { self.stanza_type }
    pub fn to(&self) -> Option<JidRef<'_>> { todo!() }
    pub fn from(&self) -> Option<JidRef<'_>> { todo!() }
    pub fn id(&self) -> Option<Cow<'_, str>> { todo!() }
    /// As written to a client stream over TCP.
    pub fn bytes(&self) -> &[u8] { &self.bytes }
    pub fn into_bytes(self) -> Vec<u8> { todo!() }
    /// A `<body/>` of the stanza's own namespace is a direct child.
    pub fn has_body(&self) -> bool { todo!() }
    /// Local name and namespace of the first child element (an IQ's payload).
    pub fn payload(&self) -> Option<(&str, &str)> { todo!() }
    /// The whole stanza as a tree (parsed now).
    pub fn to_element(&self) -> Element { todo!() }
    /// From a tree whose root is message, presence or iq in `jabber:client`; header values are checked and normalised.
    pub fn from_element(element: &Element) -> Result<Self, StanzaError> { todo!() }
    /// The same stanza with another `to` (spliced, not re-serialised).
    pub fn with_to(&self, to: JidRef<'_>) -> Self { todo!() }
    /// The same stanza with another `from` (spliced).
    pub fn with_from(&self, from: JidRef<'_>) -> Self { todo!() }
    /// The answer `type='error'`: addresses swapped, id echoed, no payload. `None` for a stanza that must not be
    /// answered (RFC 6120 section 8.3.1: errors; and IQ results).
    pub fn error_reply(&self, error: &StanzaError) -> Option<Self> { todo!() }
    /// The answer `type='result'` to an IQ request, from its `to`; without a `to`, from nobody.
    pub fn result_reply(&self, payload: Option<&Element>) -> Self { todo!() }
}
