//! A small owned XML tree, for the few places that look inside a stanza.
use std::borrow::Cow;

/// An element with its expanded name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    name: Box<str>,
    ns: Cow<'static, str>,
    /// Name as written (`xml:lang` keeps its prefix), namespace of a prefixed name, value.
    attributes: Vec<Attribute>,
    children: Vec<Node>,
}

/// One attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Local name.
    pub name: Box<str>,
    /// Namespace; empty for an attribute without prefix.
    pub ns: Cow<'static, str>,
    /// Value, without escapes.
    pub value: Box<str>,
}

/// A child of an element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// An element.
    Element(Element),
    /// Character data, without escapes.
    Text(Box<str>),
}

#[allow(missing_docs, unused, clippy::all)]
impl Element {
    pub fn new(name: &str, ns: impl Into<Cow<'static, str>>) -> Self { todo!() }
    pub fn name(&self) -> &str { todo!() }
    pub fn ns(&self) -> &str { todo!() }
    pub fn is(&self, name: &str, ns: &str) -> bool { todo!() }
    /// Value of an attribute without namespace.
    pub fn attr(&self, name: &str) -> Option<&str> { todo!() }
    /// Value of `xml:lang`.
    pub fn lang(&self) -> Option<&str> { todo!() }
    /// Sets or (with `None`) removes an attribute without namespace.
    pub fn set_attr(&mut self, name: &str, value: Option<&str>) { todo!() }
    pub fn with_attr(self, name: &str, value: &str) -> Self { todo!() }
    pub fn with_child(self, child: Element) -> Self { todo!() }
    pub fn with_text(self, text: &str) -> Self { todo!() }
    pub fn push(&mut self, child: Element) { todo!() }
    /// First child element with that name and namespace.
    pub fn child(&self, name: &str, ns: &str) -> Option<&Element> { todo!() }
    /// Child elements.
    pub fn elements(&self) -> impl Iterator<Item = &Element> { std::iter::empty() }
    pub fn nodes(&self) -> &[Node] { todo!() }
    /// Keeps the child elements for which `keep` holds; text stays.
    pub fn retain_elements(&mut self, keep: impl FnMut(&Element) -> bool) { todo!() }
    /// All direct character data, joined.
    pub fn text(&self) -> Cow<'_, str> { todo!() }
    /// Appends the element, declaring its namespace unless it equals `inherited`.
    pub fn write(&self, out: &mut Vec<u8>, inherited: &str) { todo!() }
    /// Serialised on its own, with all namespaces declared.
    pub fn to_xml(&self) -> String { todo!() }
    /// Parses one complete element (from a store or a test); the default namespace outside is `inherited`.
    pub fn parse(xml: &[u8], inherited: &str) -> Result<Self, crate::StreamError> { todo!() }
}
