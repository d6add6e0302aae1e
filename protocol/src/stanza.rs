//! RFC 6120 section 8: the owned stanza that the router carries: bytes that are proven, and an index of its header.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::borrow::Cow;

use crate::xml::{Outside, Place, Sink, Span, attribute_value, build, escape_to, escaped};
use crate::{Element, Jid, JidRef, StanzaCondition, StanzaError, ns};

mod edit;
#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests;
mod write;

pub(crate) use edit::{Edit, Spliced, splice};
pub(crate) use write::error;

/// What a stanza is (RFC 6120 section 8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Kind {
    Message,
    Presence,
    Iq,
}

/// The `type` attribute; a missing one has its default (RFC 6120 section 8.2.3, RFC 6121 sections 4.7.1 and 5.2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum StanzaType {
    // message; an unknown type counts as Normal
    Normal,
    Chat,
    Groupchat,
    Headline,
    // presence; no type is Available
    Available,
    Unavailable,
    Subscribe,
    Subscribed,
    Unsubscribe,
    Unsubscribed,
    Probe,
    // iq
    Get,
    Set,
    Result,
    // any
    Error,
}

/// One stanza, serialised in forwardable form for a client stream over TCP (`jabber:client` is the inherited default
/// namespace and not written), with an index of its header. Cloning copies the bytes.
#[derive(Clone, Debug)]
pub struct Stanza {
    text: Box<str>,
    to: Address,
    from: Address,
    /// The raw value.
    id: Span,
    payload: Span,
    payload_ns: Span,
    rare: Option<Box<Rare>>,
    kind: Kind,
    stanza_type: StanzaType,
    flags: u8,
}

const HAS_ID: u8 = 1;
const HAS_BODY: u8 = 2;
const HAS_PAYLOAD: u8 = 4;
/// The payload is in the stanza's own namespace.
const PAYLOAD_IN_CONTENT: u8 = 8;

/// An address as it stands in the bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Address {
    start: u32,
    /// Of the raw value; 0 if there is no address.
    bytes: u16,
    at: u16,
    slash: u16,
}

/// What cannot be read off the bytes as it is, since it is escaped there.
#[derive(Clone, Debug, Default)]
struct Rare {
    to: Option<Jid>,
    from: Option<Jid>,
    payload_ns: Option<Box<str>>,
}

/// The addresses of a stanza.
#[derive(Clone, Copy, Debug)]
enum Header {
    To,
    From,
}

/// An address and where its raw value stands.
pub(crate) struct Located<'a> {
    pub(crate) start: usize,
    pub(crate) bytes: usize,
    pub(crate) jid: JidRef<'a>,
    /// The raw value is the address.
    pub(crate) is_plain: bool,
}

/// Where the name of a payload's namespace is.
pub(crate) enum PayloadNs {
    /// It is the stanza's.
    Content,
    Here(Span),
    Other(Box<str>),
}

/// The first child.
pub(crate) struct Payload {
    /// Its local name.
    pub(crate) name: Span,
    pub(crate) ns: PayloadNs,
}

impl Payload {
    /// The same in a text that has `bytes` more in front.
    fn shifted(self, bytes: usize) -> Self {
        Self {
            name: self.name.shifted(bytes),
            ns: match self.ns {
                PayloadNs::Here(span) => PayloadNs::Here(span.shifted(bytes)),
                ns => ns,
            },
        }
    }
}

/// What is known about serialised bytes.
pub(crate) struct Parts<'a> {
    pub(crate) kind: Kind,
    pub(crate) stanza_type: StanzaType,
    pub(crate) to: Option<Located<'a>>,
    pub(crate) from: Option<Located<'a>>,
    pub(crate) id: Option<Span>,
    pub(crate) payload: Option<Payload>,
    pub(crate) has_body: bool,
}

impl Kind {
    /// The element's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Presence => "presence",
            Self::Iq => "iq",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "message" => Some(Self::Message),
            "presence" => Some(Self::Presence),
            "iq" => Some(Self::Iq),
            _ => None,
        }
    }
}

impl StanzaType {
    /// The attribute's value; `None` for an available presence, which has none.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::Normal => "normal",
            Self::Chat => "chat",
            Self::Groupchat => "groupchat",
            Self::Headline => "headline",
            Self::Available => return None,
            Self::Unavailable => "unavailable",
            Self::Subscribe => "subscribe",
            Self::Subscribed => "subscribed",
            Self::Unsubscribe => "unsubscribe",
            Self::Unsubscribed => "unsubscribed",
            Self::Probe => "probe",
            Self::Get => "get",
            Self::Set => "set",
            Self::Result => "result",
            Self::Error => "error",
        })
    }

    /// The type of a stanza with this attribute; `None` if the stanza may not have it.
    fn parse(kind: Kind, value: Option<&str>) -> Option<Self> {
        Some(match (kind, value) {
            (_, Some("error")) => Self::Error,
            (Kind::Message, Some("chat")) => Self::Chat,
            (Kind::Message, Some("groupchat")) => Self::Groupchat,
            (Kind::Message, Some("headline")) => Self::Headline,
            (Kind::Message, _) => Self::Normal,
            (Kind::Presence, None) => Self::Available,
            (Kind::Presence, Some("unavailable")) => Self::Unavailable,
            (Kind::Presence, Some("subscribe")) => Self::Subscribe,
            (Kind::Presence, Some("subscribed")) => Self::Subscribed,
            (Kind::Presence, Some("unsubscribe")) => Self::Unsubscribe,
            (Kind::Presence, Some("unsubscribed")) => Self::Unsubscribed,
            (Kind::Presence, Some("probe")) => Self::Probe,
            (Kind::Iq, Some("get")) => Self::Get,
            (Kind::Iq, Some("set")) => Self::Set,
            (Kind::Iq, Some("result")) => Self::Result,
            (Kind::Presence | Kind::Iq, _) => return None,
        })
    }
}

/// Checks what RFC 6120 section 8.2.3 says of IQs, and the type.
pub(crate) fn check_header(
    kind: Kind,
    stanza_type: Option<&str>,
    has_id: bool,
    child_count: usize,
) -> Result<StanzaType, StanzaError> {
    let Some(stanza_type) = StanzaType::parse(kind, stanza_type) else {
        return Err(refusal("this stanza cannot have this type"));
    };
    if kind != Kind::Iq {
        return Ok(stanza_type);
    }
    if !has_id {
        return Err(refusal("an iq needs an id"));
    }
    match stanza_type {
        StanzaType::Get | StanzaType::Set if child_count != 1 => {
            Err(refusal("an iq of type get or set has exactly one child"))
        }
        StanzaType::Result if child_count > 1 => {
            Err(refusal("an iq of type result has at most one child"))
        }
        _ => Ok(stanza_type),
    }
}

fn refusal(text: &'static str) -> StanzaError {
    StanzaError::new(StanzaCondition::BadRequest).with_text(text)
}

impl Stanza {
    pub(crate) fn from_parts(text: String, parts: Parts<'_>) -> Self {
        let mut rare = Rare::default();
        let to = address(parts.to, &mut rare.to);
        let from = address(parts.from, &mut rare.from);
        let mut flags = if parts.has_body { HAS_BODY } else { 0 };
        if parts.id.is_some() {
            flags |= HAS_ID;
        }
        let mut payload_name = Span::default();
        let mut payload_ns = Span::default();
        if let Some(payload) = parts.payload {
            flags |= HAS_PAYLOAD;
            payload_name = payload.name;
            match payload.ns {
                PayloadNs::Content => flags |= PAYLOAD_IN_CONTENT,
                PayloadNs::Here(span) => payload_ns = span,
                PayloadNs::Other(name) => rare.payload_ns = Some(name),
            }
        }
        let is_rare = rare.to.is_some() || rare.from.is_some() || rare.payload_ns.is_some();
        Self {
            text: text.into_boxed_str(),
            to,
            from,
            id: parts.id.unwrap_or_default(),
            payload: payload_name,
            payload_ns,
            rare: is_rare.then(|| Box::new(rare)),
            kind: parts.kind,
            stanza_type: parts.stanza_type,
            flags,
        }
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its type, the default one if it has none.
    pub fn stanza_type(&self) -> StanzaType {
        self.stanza_type
    }

    /// The receiver. Allocates nothing.
    pub fn to(&self) -> Option<JidRef<'_>> {
        let rare = self.rare.as_ref().and_then(|rare| rare.to.as_ref());
        self.address(self.to, rare)
    }

    /// The sender. Allocates nothing.
    pub fn from(&self) -> Option<JidRef<'_>> {
        let rare = self.rare.as_ref().and_then(|rare| rare.from.as_ref());
        self.address(self.from, rare)
    }

    /// The `id`, without escapes.
    pub fn id(&self) -> Option<Cow<'_, str>> {
        (self.flags & HAS_ID != 0).then(|| attribute_value(self.id.of(&self.text)))
    }

    /// As written to a client stream over TCP.
    pub fn bytes(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// The same bytes without a copy.
    pub fn into_bytes(self) -> Vec<u8> {
        String::from(self.text).into_bytes()
    }

    /// Appends it with its namespace `ns` declared, as WebSocket needs it (RFC 7395 section 3.3.3).
    pub fn write_with_ns(&self, out: &mut Vec<u8>, ns: &str) {
        out.reserve(
            self.text
                .len()
                .saturating_add(ns.len())
                .saturating_add(" xmlns=''".len()),
        );
        self.put_with_ns(out, ns);
    }

    fn put_with_ns(&self, out: &mut impl Sink, ns: &str) {
        let (start, rest) = self
            .text
            .split_at_checked(self.name_end())
            .unwrap_or((&self.text, ""));
        out.put(start);
        out.put(" xmlns='");
        escape_to(ns, Place::Attribute, out);
        out.put("'");
        out.put(rest);
    }

    /// A `<body/>` of the stanza's own namespace is a direct child.
    pub fn has_body(&self) -> bool {
        self.flags & HAS_BODY != 0
    }

    /// Local name and namespace of the first child element (an IQ's payload).
    pub fn payload(&self) -> Option<(&str, &str)> {
        if self.flags & HAS_PAYLOAD == 0 {
            return None;
        }
        let rare = self
            .rare
            .as_ref()
            .and_then(|rare| rare.payload_ns.as_deref());
        let ns = match rare {
            Some(ns) => ns,
            None if self.flags & PAYLOAD_IN_CONTENT != 0 => ns::CLIENT,
            None => self.payload_ns.of(&self.text),
        };
        Some((self.payload.of(&self.text), ns))
    }

    /// The whole stanza as a tree (parsed now).
    pub fn to_element(&self) -> Element {
        build(&self.text, Outside::with_default(ns::CLIENT))
    }

    /// The same stanza with another `to` (spliced, not re-serialised).
    pub fn with_to(&self, to: JidRef<'_>) -> Self {
        self.with_address(Header::To, to)
    }

    /// The same stanza with another `from` (spliced).
    pub fn with_from(&self, from: JidRef<'_>) -> Self {
        self.with_address(Header::From, from)
    }

    /// The same stanza with one more child at its end (spliced), as XEP-0203 and XEP-0359 ask for.
    pub fn with_child(&self, child: &Element) -> Self {
        let text = &*self.text;
        let mut xml = String::new();
        let payload = write::child(&mut xml, child);
        let is_empty = text.ends_with("/>");
        let start = if is_empty {
            text.len().saturating_sub("/>".len())
        } else {
            text.rfind("</").unwrap_or(text.len())
        };
        let before = if is_empty { ">" } else { "" };
        let pieces = [before, &xml, "</", self.kind.name(), ">"];
        let span = Span::new(start, text.len());
        let mut edits = [Edit::new(span.start, span.end, &pieces)];
        let spliced = splice(text, &mut edits);
        let mut parts = self.moved_parts(|index| index);
        parts.has_body |= child.is("body", ns::CLIENT);
        if parts.payload.is_none() {
            parts.payload = Some(payload.shifted(start.saturating_add(before.len())));
        }
        Self::from_parts(spliced.into_text(), parts)
    }

    /// The end of the start tag's name.
    fn name_end(&self) -> usize {
        self.kind.name().len().saturating_add(1)
    }

    fn with_address(&self, header: Header, jid: JidRef<'_>) -> Self {
        let (old, before) = match header {
            Header::To => (self.to, " to='"),
            Header::From => (self.from, " from='"),
        };
        let value = escaped(jid.as_str(), Place::Attribute);
        let whole = [before, &*value, "'"];
        let only_value = [&*value];
        // The value is replaced; without one, the whole attribute is put behind the name.
        let (edit, start) = if old.bytes == 0 {
            let span = Span::new(self.name_end(), self.name_end());
            let start = self.name_end().saturating_add(before.len());
            (Edit::new(span.start, span.end, &whole), start)
        } else {
            let end = old.start.saturating_add(u32::from(old.bytes));
            (Edit::new(old.start, end, &only_value), old.start as usize)
        };
        let mut edits = [edit];
        let spliced = splice(&self.text, &mut edits);
        let mut parts = self.moved_parts(|index| spliced.moved(index));
        let located = Some(Located {
            start,
            bytes: value.len(),
            jid,
            is_plain: matches!(value, Cow::Borrowed(_)),
        });
        match header {
            Header::To => parts.to = located,
            Header::From => parts.from = located,
        }
        Self::from_parts(spliced.into_text(), parts)
    }

    /// All that is known, with its indices moved.
    fn moved_parts<'s>(&'s self, moved: impl Fn(u32) -> u32) -> Parts<'s> {
        let located = |address: Address, jid: Option<JidRef<'s>>, is_plain| {
            Some(Located {
                start: moved(address.start) as usize,
                bytes: usize::from(address.bytes),
                jid: jid?,
                is_plain,
            })
        };
        let moved_span = |span: Span| Span {
            start: moved(span.start),
            end: moved(span.end),
        };
        let rare = self.rare.as_deref();
        let payload_ns = match rare.and_then(|rare| rare.payload_ns.clone()) {
            Some(name) => PayloadNs::Other(name),
            None if self.flags & PAYLOAD_IN_CONTENT != 0 => PayloadNs::Content,
            None => PayloadNs::Here(moved_span(self.payload_ns)),
        };
        Parts {
            kind: self.kind,
            stanza_type: self.stanza_type,
            to: located(
                self.to,
                self.to(),
                rare.is_none_or(|rare| rare.to.is_none()),
            ),
            from: located(
                self.from,
                self.from(),
                rare.is_none_or(|rare| rare.from.is_none()),
            ),
            id: (self.flags & HAS_ID != 0).then(|| moved_span(self.id)),
            payload: (self.flags & HAS_PAYLOAD != 0).then(|| Payload {
                name: moved_span(self.payload),
                ns: payload_ns,
            }),
            has_body: self.has_body(),
        }
    }

    fn address<'s>(&'s self, address: Address, rare: Option<&'s Jid>) -> Option<JidRef<'s>> {
        if address.bytes == 0 {
            return None;
        }
        if let Some(jid) = rare {
            return Some(jid.as_ref());
        }
        let start = address.start as usize;
        let text = self
            .text
            .get(start..start.saturating_add(usize::from(address.bytes)))?;
        Some(JidRef::from_offsets(text, address.at, address.slash))
    }
}

fn address(located: Option<Located<'_>>, rare: &mut Option<Jid>) -> Address {
    let Some(located) = located else {
        return Address::default();
    };
    let (at, slash) = located.jid.offsets();
    if !located.is_plain {
        *rare = Some(located.jid.to_jid());
    }
    Address {
        start: u32::try_from(located.start).unwrap_or(u32::MAX),
        // An address has at most 3,071 bytes, each of which takes at most six when it is escaped.
        bytes: u16::try_from(located.bytes).unwrap_or(u16::MAX),
        at,
        slash,
    }
}
