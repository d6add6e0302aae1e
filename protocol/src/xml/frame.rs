//! One complete, checked element, and how a stanza is made of it.
use std::borrow::Cow;

use super::context::Context;
use super::pass::{Index, Key, Ns, Outside, Place};
use super::server_owned::{self, Sender};
use super::tree;
use crate::stanza::{
    self, Edit, Kind, Located, Parts, Payload, PayloadNs, Spliced, Stanza, StanzaType,
};
use crate::xml::{Place as Written, attribute_value, escaped};
use crate::{Element, Jid, JidRef, StanzaCondition, StanzaError, ns};

/// One complete, checked element of the stream's level: a stanza or a nonza.
#[derive(Debug)]
pub struct Frame<'a> {
    text: &'a str,
    index: Index,
    outside: Outside<'a>,
    /// Empty if the stream has none that we know.
    content_ns: &'static str,
    /// Names of namespaces that are not in the text as they are.
    spilled: Vec<Box<str>>,
    kind: Option<Kind>,
    /// A stanza over `Limits::element_bytes_max`.
    pub(super) is_oversized: bool,
}

/// What the server adds to a client's stanza, and what it does not let it add.
#[derive(Clone, Copy)]
pub struct Stamp<'a> {
    /// The sender's full address.
    pub from: JidRef<'a>,
    /// `xml:lang` of the sender's stream header.
    pub lang: Option<&'a str>,
    /// Whether a domain or bare address, in normal form, is one that the server speaks for to the sender's peers: its
    /// own domains and the sender's account. Asked about `by` and `from` of children that only servers add.
    pub is_ours: &'a dyn Fn(&str) -> bool,
}

impl std::fmt::Debug for Stamp<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stamp")
            .field("from", &self.from)
            .field("lang", &self.lang)
            .finish_non_exhaustive()
    }
}

/// A stanza that is well-formed but cannot be routed.
#[derive(Debug)]
pub struct Refused {
    /// What to answer to the sender (already addressed), if it may be answered at all.
    pub reply: Option<Stanza>,
    /// Why.
    pub error: StanzaError,
}

impl<'a> Frame<'a> {
    pub(super) fn new(
        text: &'a str,
        index: Index,
        context: &'a Context,
        spilled: Vec<Box<str>>,
    ) -> Self {
        let mut frame = Self {
            text,
            index,
            outside: context.outside(),
            content_ns: context.content_ns().unwrap_or_default(),
            spilled,
            kind: None,
            is_oversized: false,
        };
        let ns = frame.ns();
        if !ns.is_empty() && ns == frame.content_ns {
            frame.kind = Kind::from_name(frame.name());
        }
        frame
    }

    /// The element as it was sent.
    pub fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    /// Local name.
    pub fn name(&self) -> &str {
        self.index.local.of(self.text)
    }

    /// Namespace, empty if there is none.
    pub fn ns(&self) -> &str {
        self.ns_name(self.index.ns)
    }

    /// It has this expanded name.
    pub fn is(&self, name: &str, ns: &str) -> bool {
        self.name() == name && self.ns() == ns
    }

    /// `Some` if it is a stanza of the stream's content namespace.
    pub fn kind(&self) -> Option<Kind> {
        self.kind
    }

    /// Value of an attribute without namespace.
    pub fn attr(&self, name: &str) -> Option<Cow<'_, str>> {
        attribute(self.text, &self.index, name)
    }

    /// Local name and namespace of the first child element.
    pub fn first_child(&self) -> Option<(&str, &str)> {
        let (name, ns) = self.index.first_child?;
        Some((name.of(self.text), self.ns_name(ns)))
    }

    /// Direct character data, joined (for SASL's base64).
    pub fn text(&self) -> Cow<'_, str> {
        let inner = self
            .text
            .get(self.index.tag_end as usize..)
            .unwrap_or_default();
        // The only `<` is that of the end tag.
        let Some((content, _)) = inner.rsplit_once('<') else {
            return Cow::Borrowed("");
        };
        if content
            .bytes()
            .any(|byte| matches!(byte, b'<' | b'&' | b'\r'))
        {
            Cow::Owned(tree::direct_text(self.text))
        } else {
            Cow::Borrowed(content)
        }
    }

    /// The whole element as a tree.
    pub fn to_element(&self) -> Element {
        tree::build(self.text, self.outside)
    }

    /// Appends the element as one of a client's stream with the usual header: the bytes as they are, unless they use
    /// what is declared around them.
    pub fn write_to_stream(&self, out: &mut Vec<u8>) {
        if self.index.is_rewritten {
            self.to_element().write(out, ns::CLIENT);
        } else {
            out.extend_from_slice(self.bytes());
        }
    }

    /// Appends an element of a stream with the usual header to a place where another namespace is the default. Returns
    /// whether the prefix `stream` has to be declared there.
    pub fn write_declared(&self, out: &mut Vec<u8>) -> bool {
        let inherits = self.index.ns == Ns::Default;
        let start = if inherits { self.index.name.end } else { 0 };
        let (name, rest) = self
            .text
            .split_at_checked(start as usize)
            .unwrap_or(("", self.text));
        out.extend_from_slice(name.as_bytes());
        if inherits {
            out.extend_from_slice(b" xmlns='");
            super::escape(self.outside.default, Written::Attribute, out);
            out.push(b'\'');
        }
        out.extend_from_slice(rest.as_bytes());
        self.index.is_rewritten
    }

    /// The stanza with `from` set to the sender's address and, if it has no `xml:lang`, the stream's. Kept bytes are
    /// spliced if they are in forwardable form, else re-serialised. Children that only servers add are removed, if
    /// `is_ours` says so of their `by` or `from` or in any case. `to` is in normal form afterwards.
    ///
    /// # Errors
    /// A stanza that breaks the rules of RFC 6120 section 8, that is none of the stream's content namespace, or that is
    /// too large.
    pub fn to_stanza(&self, stamp: &Stamp<'_>) -> Result<Stanza, Box<Refused>> {
        self.stanza_of(Sender::Client, stamp)
    }

    /// The same for a stanza of a service, such as an external component (XEP-0114): it may say what rooms and their
    /// archives say, but nothing in the name of the server.
    ///
    /// # Errors
    /// As [`Self::to_stanza`].
    pub fn to_service_stanza(&self, stamp: &Stamp<'_>) -> Result<Stanza, Box<Refused>> {
        self.stanza_of(Sender::Service, stamp)
    }

    fn stanza_of(&self, sender: Sender, stamp: &Stamp<'_>) -> Result<Stanza, Box<Refused>> {
        self.routed(sender, stamp).map_err(|error| {
            Box::new(Refused {
                reply: self.reply(stamp, &error),
                error,
            })
        })
    }

    fn routed(&self, sender: Sender, stamp: &Stamp<'_>) -> Result<Stanza, StanzaError> {
        let kind = self.kind.ok_or(StanzaCondition::BadRequest)?;
        if self.is_oversized {
            return Err(StanzaError::new(StanzaCondition::NotAllowed)
                .with_application("stanza-too-big", ns::ERRORS));
        }
        let stanza_type = stanza::check_header(
            kind,
            self.value(Key::Type).as_deref(),
            self.index.place(Key::Id).is_some(),
            self.index.child_count as usize,
        )?;
        let to = self.to()?;
        if self.index.has_server_owned {
            let mut element = self.as_client_element();
            if server_owned::remove(&mut element, sender, stamp.is_ours) {
                return restamped(element, to.as_ref(), stamp);
            }
        }
        if self.index.is_rewritten {
            return restamped(self.as_client_element(), to.as_ref(), stamp);
        }
        Ok(self.spliced(kind, stanza_type, to.as_ref(), stamp))
    }

    fn place(&self, key: Key) -> Option<Place> {
        self.index.place(key)
    }

    /// A header attribute's value.
    fn value(&self, key: Key) -> Option<Cow<'_, str>> {
        let place = self.place(key)?;
        let raw = place.value.of(self.text);
        Some(if place.is_plain {
            Cow::Borrowed(raw)
        } else {
            attribute_value(raw)
        })
    }

    fn ns_name(&self, ns: Ns) -> &str {
        self.outside.name(ns, self.text, &self.spilled)
    }

    /// The receiver's address, if there is one.
    fn to(&self) -> Result<Option<To<'_>>, StanzaError> {
        let Some(place) = self.place(Key::To) else {
            return Ok(None);
        };
        let raw = place.value.of(self.text);
        if let Some(jid) = JidRef::new_normal(raw).filter(|_| place.is_plain) {
            return Ok(Some(To::Normal(jid)));
        }
        match Jid::parse(&attribute_value(raw)) {
            Ok(jid) => Ok(Some(To::Other(jid))),
            Err(_) => Err(StanzaCondition::JidMalformed.into()),
        }
    }

    /// The tree with the content namespace of client streams.
    fn as_client_element(&self) -> Element {
        let mut element = self.to_element();
        if self.content_ns != ns::CLIENT {
            element.replace_ns(self.content_ns, ns::CLIENT);
        }
        element
    }

    /// The kept bytes with the changes of the stamp: one allocation of the exact size.
    fn spliced(
        &self,
        kind: Kind,
        stanza_type: StanzaType,
        to: Option<&To<'_>>,
        stamp: &Stamp<'_>,
    ) -> Stanza {
        let from = escaped(stamp.from.as_str(), Written::Attribute);
        let lang = match (self.place(Key::Lang), stamp.lang) {
            (None, Some(lang)) => escaped(lang, Written::Attribute),
            _ => Cow::Borrowed(""),
        };
        let stamped = [" from='", &*from, "'", " xml:lang='", &*lang, "'"];
        let stamped = match stamped.split_at_checked(3) {
            Some((from_only, _)) if lang.is_empty() => from_only,
            _ => &stamped,
        };
        let new_to = match to {
            Some(To::Other(jid)) => Some(escaped(jid.as_str(), Written::Attribute)),
            _ => None,
        };
        let new_to = [new_to.as_deref().unwrap_or_default()];
        let name_end = self.index.name.end;
        let removed = |key| {
            let whole = self.place(key)?.whole();
            Some(Edit::new(whole.start, whole.end, &[]))
        };
        let replaced_to = self
            .place(Key::To)
            .filter(|_| matches!(to, Some(To::Other(_))));
        let mut edits = [
            Edit::new(name_end, name_end, stamped),
            removed(Key::From).unwrap_or(Edit::NONE),
            removed(Key::Xmlns).unwrap_or(Edit::NONE),
            replaced_to.map_or(Edit::NONE, |place| {
                Edit::new(place.value.start, place.value.end, &new_to)
            }),
        ];
        let spliced = stanza::splice(self.text, &mut edits);
        let parts = Parts {
            kind,
            stanza_type,
            to: to.and_then(|to| self.located_to(to, &new_to, &spliced)),
            from: Some(Located {
                start: (name_end as usize).saturating_add(" from='".len()),
                bytes: from.len(),
                jid: stamp.from,
                is_plain: matches!(from, Cow::Borrowed(_)),
            }),
            id: self
                .place(Key::Id)
                .map(|place| spliced.moved_span(place.value)),
            payload: self.payload(&spliced),
            has_body: self.index.has_body,
        };
        Stanza::from_parts(spliced.into_text(), parts)
    }

    fn located_to<'t>(
        &self,
        to: &'t To<'_>,
        new_to: &[&str; 1],
        spliced: &Spliced<'_>,
    ) -> Option<Located<'t>> {
        let place = self.place(Key::To)?;
        let jid = to.as_ref();
        let bytes = match to {
            To::Normal(_) => place.value.len(),
            To::Other(_) => new_to.iter().map(|value| value.len()).sum(),
        };
        Some(Located {
            start: spliced.moved(place.value.start) as usize,
            bytes,
            jid,
            is_plain: bytes == jid.as_str().len(),
        })
    }

    fn payload(&self, spliced: &Spliced<'_>) -> Option<Payload> {
        let (name, ns) = self.index.first_child?;
        let ns_name = self.ns_name(ns);
        let ns = match ns {
            _ if ns_name == self.content_ns => PayloadNs::Content,
            Ns::Here(span) => PayloadNs::Here(spliced.moved_span(span)),
            _ => PayloadNs::Other(ns_name.into()),
        };
        Some(Payload {
            name: spliced.moved_span(name),
            ns,
        })
    }

    /// The answer to the sender, unless the stanza must not be answered (RFC 6120 section 8.3.1).
    fn reply(&self, stamp: &Stamp<'_>, error: &StanzaError) -> Option<Stanza> {
        let kind = self.kind?;
        let stanza_type = self.value(Key::Type);
        let is_answer = match stanza_type.as_deref() {
            Some("error") => true,
            Some("result") => kind == Kind::Iq,
            _ => false,
        };
        if is_answer {
            return None;
        }
        let from = match self.to() {
            Ok(Some(to)) => Some(to.as_ref().to_jid()),
            Ok(None) => None,
            // Nobody has that address, so the server speaks for itself.
            Err(_) => Jid::parse(stamp.from.domain()).ok(),
        };
        Some(stanza::error(
            kind,
            from.as_ref().map(Jid::as_ref),
            Some(stamp.from),
            self.value(Key::Id).as_deref(),
            error,
        ))
    }
}

/// The receiver of a stanza.
enum To<'a> {
    /// As it stands in the bytes.
    Normal(JidRef<'a>),
    /// Written otherwise.
    Other(Jid),
}

impl To<'_> {
    fn as_ref(&self) -> JidRef<'_> {
        match self {
            Self::Normal(jid) => *jid,
            Self::Other(jid) => jid.as_ref(),
        }
    }
}

/// The stanza of a tree, stamped.
fn restamped(
    mut element: Element,
    to: Option<&To<'_>>,
    stamp: &Stamp<'_>,
) -> Result<Stanza, StanzaError> {
    element.set_attr("from", Some(stamp.from.as_str()));
    element.set_attr("to", to.map(|to| to.as_ref().as_str()));
    if element.lang().is_none() {
        element.set_lang(stamp.lang);
    }
    Stanza::from_element(&element)
}

/// Value of an attribute without namespace in the start tag of a checked element.
pub(super) fn attribute<'t>(text: &'t str, index: &Index, name: &str) -> Option<Cow<'t, str>> {
    let tag = text
        .get(index.name.start as usize..index.tag_end as usize)
        .unwrap_or_default();
    let content = tag.strip_suffix("/>").or_else(|| tag.strip_suffix('>'))?;
    tree::attributes(content, index.name.len())
        .find(|(key, _)| *key == name)
        .map(|(_, value)| attribute_value(value))
}
