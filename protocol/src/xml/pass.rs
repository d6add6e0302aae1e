//! The validating pass: quick-xml's events plus every check of XML 1.0, of Namespaces in XML 1.0 and of RFC 6120
//! section 11 that quick-xml does not make, the limits, and an index of the element's header.
//!
//! Namespaces are kept as offsets into the element's own bytes, so nothing is copied or allocated, and a stack that is
//! kept over a cut stays valid when the bytes move. The pass says the same for the same bytes, in whatever pieces they
//! come: all it does is decided by whole events.
use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::characters::{Characters, check_references, is_space, reference};
use super::names::{QName, qname};
use super::pending::Pending;
use super::server_owned;
use super::{Fault, Limits, characters};
use crate::{StreamCondition, ns};

/// A range of the element's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u32,
    pub(crate) end: u32,
}

impl Span {
    pub(crate) fn new(start: usize, end: usize) -> Self {
        Self {
            start: offset(start),
            end: offset(end),
        }
    }

    pub(crate) fn of(self, text: &str) -> &str {
        text.get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }

    pub(crate) fn of_bytes(self, bytes: &[u8]) -> &[u8] {
        bytes
            .get(self.start as usize..self.end as usize)
            .unwrap_or_default()
    }

    /// The same range where `bytes` more stand in front.
    pub(crate) fn shifted(self, bytes: usize) -> Self {
        let bytes = offset(bytes);
        Self {
            start: self.start.saturating_add(bytes),
            end: self.end.saturating_add(bytes),
        }
    }

    pub(crate) fn len(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }
}

/// An index into an element as it is stored; elements are shorter than 4 GiB (`Limits::element_bytes_max`).
pub(crate) fn offset(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

/// A namespace, as a place where its name stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ns {
    /// No namespace.
    #[default]
    None,
    /// That of the prefix `xml`.
    Xml,
    /// The default namespace outside of the element.
    Default,
    /// Of a prefix declared outside of the element: 0 is the usual `stream`, the others follow in their order.
    Outside(u16),
    /// Declared in the element; the raw value is the name.
    Here(Span),
    /// Declared in the element with references or white space: `Stack::spilled` has the name.
    Spilled(u16),
}

/// The namespaces that an element finds where it stands: those of the stream header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outside<'a> {
    /// The default namespace, empty if there is none.
    pub(crate) default: &'a str,
    /// The prefix `stream` stands for [`ns::STREAM`].
    pub(crate) has_usual_stream: bool,
    /// Other prefixes.
    pub(crate) others: &'a [(Box<str>, Box<str>)],
}

impl<'a> Outside<'a> {
    pub(crate) fn with_default(default: &'a str) -> Self {
        Self {
            default,
            has_usual_stream: false,
            others: &[],
        }
    }

    fn find(self, prefix: &str) -> Option<Ns> {
        if self.has_usual_stream && prefix == "stream" {
            return Some(Ns::Outside(0));
        }
        let index = self
            .others
            .iter()
            .position(|(declared, _)| **declared == *prefix)?;
        Some(Ns::Outside(u16::try_from(index.saturating_add(1)).ok()?))
    }

    /// The name of the namespace of `prefix`, empty for the default namespace.
    pub(crate) fn resolve(self, prefix: &str) -> &'a str {
        match prefix {
            "" => self.default,
            "xml" => ns::XML,
            _ => self
                .find(prefix)
                .map_or("", |found| self.name(found, "", &[])),
        }
    }

    /// The name of `ns` for an element with these bytes.
    pub(crate) fn name(self, ns: Ns, text: &'a str, spilled: &'a [Box<str>]) -> &'a str {
        match ns {
            Ns::None => "",
            Ns::Xml => ns::XML,
            Ns::Default => self.default,
            Ns::Outside(0) => ns::STREAM,
            Ns::Outside(index) => self
                .others
                .get(usize::from(index).saturating_sub(1))
                .map_or("", |(_, name)| name),
            Ns::Here(span) => span.of(text),
            Ns::Spilled(index) => spilled.get(usize::from(index)).map_or("", |name| name),
        }
    }

    fn name_bytes(self, ns: Ns, bytes: &'a [u8], spilled: &'a [Box<str>]) -> &'a [u8] {
        match ns {
            Ns::Here(span) => span.of_bytes(bytes),
            _ => self.name(ns, "", spilled).as_bytes(),
        }
    }
}

/// Elements that are open, and the namespaces declared in them. Kept by each thread, so that it allocates only once.
#[derive(Debug, Default)]
pub(crate) struct Stack {
    open: Vec<Open>,
    bindings: Vec<Binding>,
    pub(crate) spilled: Vec<Box<str>>,
    /// Attributes of the tag that is being read.
    attributes: Vec<Attribute>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    name: Span,
    /// The default namespace inside.
    default: Ns,
}

#[derive(Clone, Copy, Debug)]
struct Binding {
    prefix: Span,
    ns: Ns,
    depth: u16,
}

#[derive(Clone, Copy, Debug)]
struct Attribute {
    name: Span,
    /// Bytes of the prefix; 0 if there is none.
    prefix_bytes: u16,
    /// Meaningful only with a prefix.
    ns: Ns,
}

impl Stack {
    pub(crate) const fn new() -> Self {
        Self {
            open: Vec::new(),
            bindings: Vec::new(),
            spilled: Vec::new(),
            attributes: Vec::new(),
        }
    }

    pub(crate) fn clear(&mut self) {
        self.open.clear();
        self.bindings.clear();
        self.spilled.clear();
        self.attributes.clear();
    }

    /// A copy of exact size without the scratch space of a tag.
    pub(crate) fn hold(&mut self) -> Self {
        Self {
            open: self.open.clone(),
            bindings: self.bindings.clone(),
            spilled: std::mem::take(&mut self.spilled),
            attributes: Vec::new(),
        }
    }

    /// Bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        let spilled: usize = self.spilled.iter().map(|name| name.len()).sum();
        [
            self.open.capacity().saturating_mul(size_of::<Open>()),
            self.bindings
                .capacity()
                .saturating_mul(size_of::<Binding>()),
            self.spilled
                .capacity()
                .saturating_mul(size_of::<Box<str>>()),
            self.attributes
                .capacity()
                .saturating_mul(size_of::<Attribute>()),
            spilled,
        ]
        .into_iter()
        .fold(0, usize::saturating_add)
    }

    /// An element is open.
    pub(crate) fn is_inside(&self) -> bool {
        !self.open.is_empty()
    }

    /// The default namespace inside of the innermost element.
    pub(crate) fn default_inside(&self) -> Ns {
        self.open.last().map_or(Ns::None, |open| open.default)
    }

    fn depth(&self) -> u16 {
        u16::try_from(self.open.len()).unwrap_or(u16::MAX)
    }

    /// Prefixes with their namespaces, in the order of declaration (used for the stream header).
    pub(crate) fn declared(&self) -> impl Iterator<Item = (Span, Ns)> {
        self.bindings
            .iter()
            .map(|binding| (binding.prefix, binding.ns))
    }
}

/// The attributes that the index keeps of the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    To,
    From,
    Id,
    Type,
    Lang,
    /// A default namespace that is a content namespace.
    Xmlns,
}

/// Where one of them stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Of the white space before it.
    start: u32,
    /// Between the quotes.
    pub(crate) value: Span,
    /// The raw value has no reference and no white space but blanks.
    pub(crate) is_plain: bool,
}

impl Place {
    /// With the white space before it and both quotes.
    pub(crate) fn whole(self) -> Span {
        Span {
            start: self.start,
            end: self.value.end.saturating_add(1),
        }
    }
}

/// What one pass found out about an element.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Index {
    /// The name in the start tag.
    pub(crate) name: Span,
    /// The part of it after the prefix.
    pub(crate) local: Span,
    pub(crate) ns: Ns,
    /// After the `>` of the start tag.
    pub(crate) tag_end: u32,
    places: [Option<Place>; 6],
    /// Local name and namespace of the first child.
    pub(crate) first_child: Option<(Span, Ns)>,
    pub(crate) child_count: u32,
    /// A child is `body` of the root's namespace.
    pub(crate) has_body: bool,
    /// A child has the name of one that only servers add.
    pub(crate) has_server_owned: bool,
    /// The bytes are not in forwardable form: a namespace is declared or used in a way that another stream would read
    /// otherwise, or there is a carriage return, which not all readers get right.
    pub(crate) is_rewritten: bool,
}

impl Index {
    pub(crate) fn place(&self, key: Key) -> Option<Place> {
        self.places.get(key as usize).copied().flatten()
    }

    fn set_place(&mut self, key: Key, place: Place) {
        if let Some(slot) = self.places.get_mut(key as usize) {
            *slot = Some(place);
        }
    }
}

/// How far the pass has come in one element.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// End of the last whole event.
    pub(crate) offset: u32,
    elements: u32,
    attributes: u32,
    namespaces: u16,
    pub(crate) index: Index,
}

/// On which level of a stream the element stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level<'a> {
    /// Before the stream header.
    Prolog {
        allows_declaration: bool,
        /// The first tag may be the only one.
        allows_empty: bool,
    },
    /// Inside of the stream; the name is that of the header's tag, empty if the stream has none.
    Stream { root: &'a str },
}

/// What came to its end, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// `<?xml …?>`.
    Declaration(usize),
    /// The start tag of the stream.
    Header(usize),
    /// A whole element.
    Element(usize),
    /// The end tag of the stream.
    Close(usize),
    /// Nothing yet.
    Nothing(Pending),
}

impl Found {
    /// The index behind it; 0 if there is nothing.
    pub(crate) fn end(self) -> usize {
        match self {
            Self::Declaration(end) | Self::Header(end) | Self::Element(end) | Self::Close(end) => {
                end
            }
            Self::Nothing(_) => 0,
        }
    }
}

/// One run over one element.
pub(crate) struct Pass<'p> {
    /// The element from its `<` to the end of what has come.
    pub(crate) bytes: &'p [u8],
    pub(crate) limits: &'p Limits,
    pub(crate) outside: Outside<'p>,
    pub(crate) level: Level<'p>,
    pub(crate) stack: &'p mut Stack,
    pub(crate) progress: &'p mut Progress,
}

impl Pass<'_> {
    /// Reads on from the last whole event.
    pub(crate) fn run(&mut self) -> Result<Found, Fault> {
        const BOM: &[u8] = b"\xef\xbb\xbf";
        let bytes = self.bytes;
        let mut base = self.progress.offset as usize;
        let rest = bytes.get(base..).unwrap_or_default();
        let mut reader = Reader::from_reader(rest);
        let config = reader.config_mut();
        config.check_end_names = false;
        config.allow_unmatched_ends = true;
        if rest.starts_with(BOM) {
            // The reader skips it without counting; inside of an element it is a character like any other.
            base = base.saturating_add(BOM.len());
            self.progress.offset = offset(base);
        }
        loop {
            let Ok(event) = reader.read_event() else {
                return self.stopped();
            };
            let end = usize::try_from(reader.buffer_position())
                .unwrap_or(usize::MAX)
                .saturating_add(base);
            let is_inside = self.stack.is_inside();
            let found = match event {
                Event::Start(tag) => self.start(&tag, end)?,
                Event::Empty(tag) => self.empty(&tag, end)?,
                Event::End(tag) => self.end(tag.name().as_ref(), end)?,
                // A text that ends with the input may go on.
                Event::Text(_) if end >= bytes.len() => return self.stopped(),
                Event::Text(text) if is_inside => check_text(&text)?,
                Event::CData(_) if is_inside => None,
                Event::GeneralRef(name) if is_inside => reference(&name).map(|_| None)?,
                Event::Text(_) | Event::CData(_) | Event::GeneralRef(_) => {
                    return Err(Fault::Condition(StreamCondition::BadFormat));
                }
                Event::Decl(_) => Some(self.declaration(end)?),
                Event::Eof => return self.stopped(),
                Event::Comment(_) | Event::PI(_) | Event::DocType(_) => {
                    return Err(Fault::Condition(StreamCondition::RestrictedXml));
                }
            };
            self.progress.offset = offset(end);
            if let Some(found) = found {
                return Ok(found);
            }
        }
    }

    /// The token after the last whole event is unfinished or malformed.
    fn stopped(&self) -> Result<Found, Fault> {
        let token = self
            .bytes
            .get(self.progress.offset as usize..)
            .unwrap_or_default();
        // What it is, is told by the characters before the first byte that is none, as if no more had come.
        let (token, is_broken) = match std::str::from_utf8(token) {
            Ok(_) => (token, false),
            Err(error) => {
                let valid = token.get(..error.valid_up_to()).unwrap_or_default();
                (valid, error.error_len().is_some())
            }
        };
        let (pending, may_end) = Pending::of(token, self.level, self.stack.is_inside())?;
        if may_end || is_broken {
            Err(Fault::MALFORMED)
        } else {
            Ok(Found::Nothing(pending))
        }
    }

    fn declaration(&self, end: usize) -> Result<Found, Fault> {
        let allowed = matches!(
            self.level,
            Level::Prolog {
                allows_declaration: true,
                ..
            }
        ) && self.progress.offset == 0;
        if !allowed {
            return Err(Fault::MALFORMED);
        }
        let bytes = self.bytes.get(..end).unwrap_or_default();
        if !Characters::of(bytes).are_allowed {
            return Err(Fault::MALFORMED);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Fault::MALFORMED)?;
        super::declaration::check(text)?;
        Ok(Found::Declaration(end))
    }

    fn start(&mut self, tag: &BytesStart<'_>, end: usize) -> Result<Option<Found>, Fault> {
        self.open(tag, end)?;
        if matches!(self.level, Level::Prolog { .. }) {
            self.check_characters(end)?;
            return Ok(Some(Found::Header(end)));
        }
        Ok(None)
    }

    fn empty(&mut self, tag: &BytesStart<'_>, end: usize) -> Result<Option<Found>, Fault> {
        self.open(tag, end)?;
        match self.level {
            Level::Stream { .. } => self.close(end),
            Level::Prolog {
                allows_empty: true, ..
            } => {
                self.check_characters(end)?;
                Ok(Some(Found::Header(end)))
            }
            // A stream that ends in its first tag.
            Level::Prolog { .. } => Err(Fault::Condition(StreamCondition::BadFormat)),
        }
    }

    fn end(&mut self, name: &str, end: usize) -> Result<Option<Found>, Fault> {
        let Some(open) = self.stack.open.last() else {
            return match self.level {
                Level::Stream { root } if !root.is_empty() && root == name => {
                    Ok(Some(Found::Close(end)))
                }
                _ => Err(Fault::MALFORMED),
            };
        };
        if open.name.of_bytes(self.bytes) != name.as_bytes() {
            return Err(Fault::MALFORMED);
        }
        self.close(end)
    }

    /// Takes the innermost element off the stack.
    fn close(&mut self, end: usize) -> Result<Option<Found>, Fault> {
        let depth = self.stack.depth();
        let stack = &mut *self.stack;
        while stack
            .bindings
            .last()
            .is_some_and(|binding| binding.depth >= depth)
        {
            stack.bindings.pop();
        }
        stack.open.pop();
        if stack.open.is_empty() {
            self.check_characters(end)?;
            return Ok(Some(Found::Element(end)));
        }
        Ok(None)
    }

    fn check_characters(&mut self, end: usize) -> Result<(), Fault> {
        let characters = Characters::of(self.bytes.get(..end).unwrap_or_default());
        if !characters.are_allowed {
            return Err(Fault::MALFORMED);
        }
        self.progress.index.is_rewritten |= characters.has_carriage_return;
        Ok(())
    }

    /// Checks a start tag and puts its element on the stack.
    fn open(&mut self, tag: &BytesStart<'_>, end: usize) -> Result<(), Fault> {
        let content: &str = tag;
        // Before all limits, as it is seen even before the tag is whole.
        if memchr::memchr(b'<', content.as_bytes()).is_some() {
            return Err(Fault::MALFORMED);
        }
        let depth = self.stack.depth().saturating_add(1);
        let progress = &mut *self.progress;
        progress.elements = progress.elements.saturating_add(1);
        if depth > self.limits.depth_max {
            return Err(Fault::Limit("too many elements inside of each other"));
        }
        if progress.elements > self.limits.elements_max {
            return Err(Fault::Limit("too many elements"));
        }
        // All offsets in the tag count from here: after its `<`.
        let start = (progress.offset as usize).saturating_add(1);
        let raw_name = tag.name();
        let name_bytes = raw_name.as_ref().len();
        let name = self.name(raw_name.as_ref())?;
        let span = Span::new(start, start.saturating_add(name_bytes));
        let default = self.stack.open.last().map_or(
            if self.outside.default.is_empty() {
                Ns::None
            } else {
                Ns::Default
            },
            |open| open.default,
        );
        self.stack.open.push(Open {
            name: span,
            default,
        });
        if content.len() > name_bytes {
            self.attributes(tag, start, depth)?;
        }
        let default = self.stack.default_inside();
        let ns = if name.prefix.is_empty() {
            default
        } else {
            self.resolve(name.prefix)?
        };
        let local_start = start.saturating_add(name_bytes.saturating_sub(name.local.len()));
        let local = Span::new(local_start, span.end as usize);
        if depth == 1 {
            self.index_root(span, local, ns, name, end)
        } else {
            if depth == 2 {
                self.index_child(local, ns, name.local);
            }
            Ok(())
        }
    }

    fn index_root(
        &mut self,
        name: Span,
        local: Span,
        ns: Ns,
        qname: QName<'_>,
        end: usize,
    ) -> Result<(), Fault> {
        let is_nested_header = matches!(self.level, Level::Stream { .. })
            && qname.local == "stream"
            && self.ns_name(ns) == ns::STREAM.as_bytes();
        if is_nested_header {
            // A second header without a reason to restart: its end may never come.
            return Err(Fault::Condition(StreamCondition::BadFormat));
        }
        let index = &mut self.progress.index;
        index.name = name;
        index.local = local;
        index.ns = ns;
        index.tag_end = offset(end);
        if !qname.prefix.is_empty() {
            index.is_rewritten = true;
        }
        Ok(())
    }

    fn index_child(&mut self, local: Span, ns: Ns, name: &str) {
        let ns_name = self.ns_name(ns);
        let is_server_owned = server_owned::is_candidate(name, ns_name);
        let is_body = name == "body"
            && (ns == self.progress.index.ns || ns_name == self.ns_name(self.progress.index.ns));
        let index = &mut self.progress.index;
        index.child_count = index.child_count.saturating_add(1);
        if index.first_child.is_none() {
            index.first_child = Some((local, ns));
        }
        index.has_server_owned |= is_server_owned;
        index.has_body |= is_body;
    }

    fn ns_name(&self, ns: Ns) -> &[u8] {
        self.outside.name_bytes(ns, self.bytes, &self.stack.spilled)
    }

    /// Checks a name of an element or attribute.
    fn name<'n>(&self, name: &'n str) -> Result<QName<'n>, Fault> {
        if name.len() > usize::from(self.limits.name_bytes_max) {
            return Err(Fault::Limit("a name is too long"));
        }
        qname(name).ok_or(Fault::MALFORMED)
    }

    /// The namespace of a prefix that is used.
    fn resolve(&mut self, prefix: &str) -> Result<Ns, Fault> {
        let bytes = self.bytes;
        let declared = self.stack.bindings.iter().rev().find(|binding| {
            binding.prefix.len() == prefix.len()
                && binding.prefix.of_bytes(bytes) == prefix.as_bytes()
        });
        if prefix == "stream" {
            self.progress.index.is_rewritten = true;
        }
        if let Some(binding) = declared {
            return Ok(binding.ns);
        }
        if prefix == "xml" {
            return Ok(Ns::Xml);
        }
        self.progress.index.is_rewritten = true;
        self.outside
            .find(prefix)
            .ok_or(Fault::Condition(StreamCondition::BadNamespacePrefix))
    }

    /// Checks the attributes of a tag whose content starts at `start`, and takes its declarations.
    fn attributes(&mut self, tag: &BytesStart<'_>, start: usize, depth: u16) -> Result<(), Fault> {
        self.stack.attributes.clear();
        let content: &str = tag;
        let name_bytes = tag.name().as_ref().len();
        let specials = Specials::of(content.get(name_bytes..).unwrap_or_default().as_bytes());
        let mut attributes = tag.attributes();
        let mut previous_end = name_bytes;
        let mut has_prefix = false;
        for attribute in attributes.with_checks(false) {
            let attribute = attribute.map_err(|_| Fault::MALFORMED)?;
            let (key, value): (&str, &str) = (attribute.key.as_ref(), &attribute.value);
            let key_start = position(content, key);
            let value_start = position(content, value);
            let value_end = value_start.saturating_add(value.len());
            let is_separated = key_start > previous_end
                && content
                    .as_bytes()
                    .get(previous_end)
                    .is_some_and(|&byte| is_space(byte));
            if !is_separated {
                return Err(Fault::MALFORMED);
            }
            self.count_attribute(value)?;
            let name = self.name(key)?;
            if specials.has_reference {
                check_references(value)?;
            }
            let after = value_end.saturating_add(1);
            let at = |from: usize, to: usize| {
                Span::new(start.saturating_add(from), start.saturating_add(to))
            };
            let place = Place {
                start: offset(start.saturating_add(previous_end)),
                value: at(value_start, value_end),
                is_plain: !(specials.has_reference || specials.has_control) || is_plain(value),
            };
            previous_end = after;
            if key == "xmlns" {
                self.declare("", Span::default(), value, place, depth)?;
            } else if name.prefix == "xmlns" {
                let prefix = at(
                    key_start.saturating_add("xmlns:".len()),
                    key_start.saturating_add(key.len()),
                );
                self.declare(name.local, prefix, value, place, depth)?;
            } else if depth == 1 {
                self.index_attribute(key, place);
            }
            let is_prefixed = !name.prefix.is_empty() && name.prefix != "xmlns";
            has_prefix |= is_prefixed;
            self.stack.attributes.push(Attribute {
                name: at(key_start, key_start.saturating_add(key.len())),
                prefix_bytes: if is_prefixed {
                    u16::try_from(name.prefix.len()).unwrap_or(u16::MAX)
                } else {
                    0
                },
                ns: Ns::None,
            });
        }
        self.check_unique(has_prefix)
    }

    fn count_attribute(&mut self, value: &str) -> Result<(), Fault> {
        let count = self.stack.attributes.len();
        if count >= usize::from(self.limits.attributes_per_element_max) {
            return Err(Fault::Limit("too many attributes in an element"));
        }
        self.progress.attributes = self.progress.attributes.saturating_add(1);
        if self.progress.attributes > self.limits.attributes_max {
            return Err(Fault::Limit("too many attributes"));
        }
        if value.len() > self.limits.attribute_value_bytes_max as usize {
            return Err(Fault::Limit("the value of an attribute is too long"));
        }
        Ok(())
    }

    fn index_attribute(&mut self, key: &str, place: Place) {
        let key = match key {
            "to" => Key::To,
            "from" => Key::From,
            "id" => Key::Id,
            "type" => Key::Type,
            "xml:lang" => Key::Lang,
            _ => return,
        };
        self.progress.index.set_place(key, place);
    }

    /// Takes a namespace declaration; `prefix` is empty for the default namespace.
    fn declare(
        &mut self,
        prefix: &str,
        prefix_span: Span,
        value: &str,
        place: Place,
        depth: u16,
    ) -> Result<(), Fault> {
        self.progress.namespaces = self.progress.namespaces.saturating_add(1);
        if self.progress.namespaces > self.limits.namespaces_max {
            return Err(Fault::Limit("too many namespaces"));
        }
        let name = if place.is_plain {
            value.into()
        } else {
            characters::attribute_value(value)
        };
        if name.len() > usize::from(self.limits.namespace_bytes_max) {
            return Err(Fault::Limit("the name of a namespace is too long"));
        }
        let name: &str = &name;
        // `xml` may be declared as what it is; all else with these two prefixes or names is forbidden (section 3).
        let is_reserved = match prefix {
            "xmlns" => true,
            "xml" => name != ns::XML,
            _ => name == ns::XML || name == ns::XMLNS || (name.is_empty() && !prefix.is_empty()),
        };
        if is_reserved {
            return Err(Fault::MALFORMED);
        }
        if [ns::CLIENT, ns::SERVER, ns::COMPONENT].contains(&name) {
            if depth == 1 && prefix.is_empty() {
                self.progress.index.set_place(Key::Xmlns, place);
            } else {
                self.progress.index.is_rewritten = true;
            }
        }
        let ns = match (name.is_empty(), place.is_plain) {
            (true, _) => Ns::None,
            (false, true) => Ns::Here(place.value),
            (false, false) => {
                let index = u16::try_from(self.stack.spilled.len()).unwrap_or(u16::MAX);
                self.stack.spilled.push(name.into());
                Ns::Spilled(index)
            }
        };
        if prefix.is_empty() {
            if let Some(open) = self.stack.open.last_mut() {
                open.default = ns;
            }
        } else {
            self.stack.bindings.push(Binding {
                prefix: prefix_span,
                ns,
                depth,
            });
        }
        Ok(())
    }

    /// No attribute may stand twice, neither by its raw nor by its expanded name.
    fn check_unique(&mut self, has_prefix: bool) -> Result<(), Fault> {
        let bytes = self.bytes;
        if has_prefix {
            for index in 0..self.stack.attributes.len() {
                self.resolve_attribute(index)?;
            }
        }
        let attributes = &self.stack.attributes;
        for (index, one) in attributes.iter().enumerate() {
            for other in attributes.iter().take(index) {
                let is_same = if one.prefix_bytes == 0 || other.prefix_bytes == 0 {
                    one.name.len() == other.name.len()
                        && one.name.of_bytes(bytes) == other.name.of_bytes(bytes)
                } else {
                    one.local(bytes) == other.local(bytes)
                        && self.ns_name(one.ns) == self.ns_name(other.ns)
                };
                if is_same {
                    return Err(Fault::MALFORMED);
                }
            }
        }
        Ok(())
    }

    fn resolve_attribute(&mut self, index: usize) -> Result<(), Fault> {
        let bytes = self.bytes;
        let Some(attribute) = self.stack.attributes.get(index) else {
            return Ok(());
        };
        if attribute.prefix_bytes == 0 {
            return Ok(());
        }
        let prefix = attribute
            .name
            .of_bytes(bytes)
            .get(..usize::from(attribute.prefix_bytes))
            .and_then(|prefix| std::str::from_utf8(prefix).ok())
            .unwrap_or_default();
        let ns = self.resolve(prefix)?;
        if let Some(attribute) = self.stack.attributes.get_mut(index) {
            attribute.ns = ns;
        }
        Ok(())
    }
}

impl Attribute {
    fn local(self, bytes: &[u8]) -> &[u8] {
        self.name
            .of_bytes(bytes)
            .get(usize::from(self.prefix_bytes)..)
            .unwrap_or_default()
    }
}

/// Which bytes that are rare there are somewhere in the attributes of a tag.
#[derive(Clone, Copy, Debug)]
struct Specials {
    has_reference: bool,
    has_control: bool,
}

impl Specials {
    /// One look at all bytes, which the compiler turns into vector instructions.
    fn of(bytes: &[u8]) -> Self {
        let (reference, control) = bytes.iter().fold((0, 0), |(reference, control), &byte| {
            (
                reference | u8::from(byte == b'&'),
                control | u8::from(byte < b' '),
            )
        });
        Self {
            has_reference: reference != 0,
            has_control: control != 0,
        }
    }
}

/// Where `part`, a slice of `whole`, starts in it.
fn position(whole: &str, part: &str) -> usize {
    part.as_ptr().addr().wrapping_sub(whole.as_ptr().addr())
}

fn is_plain(value: &str) -> bool {
    !value
        .bytes()
        .any(|byte| matches!(byte, b'&' | b'\t' | b'\n' | b'\r'))
}

/// `]]>` may stand only at the end of a CDATA section.
fn check_text(text: &str) -> Result<Option<Found>, Fault> {
    let bytes = text.as_bytes();
    let has_section_end = memchr::memchr_iter(b'>', bytes).any(|index| {
        bytes
            .get(..index)
            .is_some_and(|before| before.ends_with(b"]]"))
    });
    if has_section_end {
        Err(Fault::MALFORMED)
    } else {
        Ok(None)
    }
}
