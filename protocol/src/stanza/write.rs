//! Writing stanzas from trees, and the answers to stanzas.
use super::{Kind, Located, Parts, Payload, PayloadNs, Stanza, StanzaType, check_header, refusal};
use crate::xml::{Place, Span, escape_to};
use crate::{Element, Jid, JidRef, StanzaCondition, StanzaError, ns};

/// What the tags around a wrapped stanza take, besides its addresses.
const WRAPPER_BYTES: usize = 200;

/// Writes one stanza and notes where its parts are.
struct Writer<'a> {
    text: String,
    parts: Parts<'a>,
}

impl<'a> Writer<'a> {
    fn new(kind: Kind, stanza_type: StanzaType) -> Self {
        Self {
            text: format!("<{}", kind.name()),
            parts: Parts {
                kind,
                stanza_type,
                to: None,
                from: None,
                id: None,
                payload: None,
                has_body: false,
            },
        }
    }

    /// Writes an attribute; the range is that of the raw value.
    fn attribute(&mut self, name: &str, value: &str) -> Span {
        for part in [" ", name, "='"] {
            self.text.push_str(part);
        }
        let start = self.text.len();
        escape_to(value, Place::Attribute, &mut self.text);
        let span = Span::new(start, self.text.len());
        self.text.push('\'');
        span
    }

    fn address(&mut self, name: &str, jid: JidRef<'a>) -> Located<'a> {
        let span = self.attribute(name, jid.as_str());
        Located {
            start: span.start as usize,
            bytes: span.len(),
            jid,
            is_plain: span.len() == jid.as_str().len(),
        }
    }

    fn to(&mut self, to: Option<JidRef<'a>>) {
        self.parts.to = to.map(|to| self.address("to", to));
    }

    fn from(&mut self, from: Option<JidRef<'a>>) {
        self.parts.from = from.map(|from| self.address("from", from));
    }

    fn id(&mut self, id: Option<&str>) {
        self.parts.id = id.map(|id| self.attribute("id", id));
    }

    /// Notes the first child, written at `start` with `payload`'s offsets.
    fn finish(self) -> Stanza {
        Stanza::from_parts(self.text, self.parts)
    }
}

/// Appends a child of a stanza.
pub(super) fn child(out: &mut String, child: &Element) -> Payload {
    let start = out.len();
    child.write_to(out, ns::CLIENT);
    let name_start = start
        .saturating_add("<".len())
        .saturating_add(child.prefix().len());
    let name_end = name_start.saturating_add(child.name().len());
    let ns_start = name_end.saturating_add(" xmlns='".len());
    let ns_end = ns_start.saturating_add(child.ns().len());
    let ns = if child.ns() == ns::CLIENT {
        PayloadNs::Content
    } else if out.get(ns_start..ns_end) == Some(child.ns()) {
        PayloadNs::Here(Span::new(ns_start, ns_end))
    } else {
        PayloadNs::Other(child.ns().into())
    };
    Payload {
        name: Span::new(name_start, name_end),
        ns,
    }
}

/// A stanza of type error without the payload of what it answers.
pub(crate) fn error(
    kind: Kind,
    from: Option<JidRef<'_>>,
    to: Option<JidRef<'_>>,
    id: Option<&str>,
    error: &StanzaError,
) -> Stanza {
    let mut writer = Writer::new(kind, StanzaType::Error);
    writer.attribute("type", "error");
    writer.id(id);
    writer.from(from);
    writer.to(to);
    writer.text.push('>');
    let start = writer.text.len();
    let mut xml = Vec::new();
    error.write(&mut xml);
    writer.text.push_str(&String::from_utf8_lossy(&xml));
    for part in ["</", kind.name(), ">"] {
        writer.text.push_str(part);
    }
    let name_start = start.saturating_add(1);
    writer.parts.payload = Some(Payload {
        name: Span::new(name_start, name_start.saturating_add("error".len())),
        ns: PayloadNs::Content,
    });
    writer.finish()
}

impl Stanza {
    /// From a tree whose root is message, presence or iq in `jabber:client`; header values are checked and normalised.
    ///
    /// # Errors
    /// `bad-request` or `jid-malformed`, if it is not such a stanza.
    pub fn from_element(element: &Element) -> Result<Self, StanzaError> {
        let kind = Kind::from_name(element.name())
            .filter(|_| element.ns() == ns::CLIENT)
            .ok_or_else(|| refusal("this is no stanza"))?;
        let stanza_type = check_header(
            kind,
            element.attr("type"),
            element.attr("id").is_some(),
            element.elements().count(),
        )?;
        let address = |name| element.attr(name).map(Jid::parse).transpose();
        let (Ok(to), Ok(from)) = (address("to"), address("from")) else {
            return Err(StanzaCondition::JidMalformed.into());
        };
        let mut writer = Writer::new(kind, stanza_type);
        writer.to(to.as_ref().map(Jid::as_ref));
        writer.from(from.as_ref().map(Jid::as_ref));
        writer.id(element.attr("id"));
        element.write_attributes(&mut writer.text, &["to", "from", "id"]);
        if element.nodes().is_empty() {
            writer.text.push_str("/>");
            return Ok(writer.finish());
        }
        writer.text.push('>');
        for node in element.nodes() {
            match node {
                crate::element::Node::Text(text) => {
                    escape_to(text, Place::Text, &mut writer.text);
                }
                crate::element::Node::Element(element) => {
                    let written = child(&mut writer.text, element);
                    writer.parts.payload.get_or_insert(written);
                    writer.parts.has_body |= element.is("body", ns::CLIENT);
                }
            }
        }
        for part in ["</", kind.name(), ">"] {
            writer.text.push_str(part);
        }
        Ok(writer.finish())
    }

    /// The answer `type='error'`: addresses swapped, id echoed, no payload. `None` for a stanza that must not be
    /// answered (RFC 6120 section 8.3.1: errors; and IQ results).
    pub fn error_reply(&self, error: &StanzaError) -> Option<Self> {
        if matches!(self.stanza_type(), StanzaType::Error | StanzaType::Result) {
            return None;
        }
        Some(self::error(
            self.kind(),
            self.to(),
            self.from(),
            self.id().as_deref(),
            error,
        ))
    }

    /// A message of the same type that carries this one whole (XEP-0297), in a child of that name and namespace, as
    /// XEP-0280 and XEP-0313 ask for.
    pub fn wrapped(
        &self,
        (name, ns): (&'static str, &'static str),
        from: JidRef<'_>,
        to: JidRef<'_>,
    ) -> Self {
        let mut writer = Writer::new(Kind::Message, self.stanza_type());
        let addresses = from.as_str().len().saturating_add(to.as_str().len());
        let whole = self.text.len().saturating_add(addresses);
        writer.text.reserve(whole.saturating_add(WRAPPER_BYTES));
        writer.from(Some(from));
        writer.to(Some(to));
        if let Some(stanza_type) = self.stanza_type().name() {
            writer.attribute("type", stanza_type);
        }
        writer.text.push_str("><");
        let name_start = writer.text.len();
        let name_end = name_start.saturating_add(name.len());
        writer.text.push_str(name);
        let ns_span = writer.attribute("xmlns", ns);
        writer.text.push_str("><forwarded");
        writer.attribute("xmlns", ns::FORWARD);
        writer.text.push('>');
        self.put_with_ns(&mut writer.text, ns::CLIENT);
        for part in ["</forwarded></", name, "></message>"] {
            writer.text.push_str(part);
        }
        writer.parts.payload = Some(Payload {
            name: Span::new(name_start, name_end),
            ns: PayloadNs::Here(ns_span),
        });
        writer.finish()
    }

    /// The answer `type='result'` to an IQ request, from its `to`; without a `to`, from nobody.
    pub fn result_reply(&self, payload: Option<&Element>) -> Self {
        let mut writer = Writer::new(self.kind(), StanzaType::Result);
        writer.attribute("type", "result");
        writer.id(self.id().as_deref());
        writer.from(self.to());
        writer.to(self.from());
        match payload {
            Some(payload) => {
                writer.text.push('>');
                writer.parts.payload = Some(child(&mut writer.text, payload));
                writer.parts.has_body = payload.is("body", ns::CLIENT);
                for part in ["</", self.kind().name(), ">"] {
                    writer.text.push_str(part);
                }
            }
            None => writer.text.push_str("/>"),
        }
        writer.finish()
    }
}
