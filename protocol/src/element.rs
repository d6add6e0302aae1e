//! A small owned XML tree, for the few places that look inside a stanza.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::borrow::Cow;

use crate::xml::{Limits, Outside, Place, Sink, check_element, escape_to};
use crate::{StreamError, ns};

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests;

/// An element with its expanded name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element {
    name: Box<str>,
    ns: Cow<'static, str>,
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

impl Element {
    /// An empty element. Names come from code or from a checked stream, so they are not checked again.
    pub fn new(name: &str, ns: impl Into<Cow<'static, str>>) -> Self {
        Self {
            name: name.into(),
            ns: ns.into(),
            attributes: Vec::new(),
            children: Vec::new(),
        }
    }

    /// Parses one complete element (from a store or a test); the default namespace outside is `inherited`. White space
    /// around it is allowed.
    ///
    /// # Errors
    /// As the reader of a stream, with [`Limits::STORED`]; anything but one element is `not-well-formed`.
    pub fn parse(xml: &[u8], inherited: &str) -> Result<Self, StreamError> {
        let outside = Outside::with_default(inherited);
        let text = check_element(xml, &Limits::STORED, outside)?;
        Ok(crate::xml::build(text, outside))
    }

    /// Local name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Namespace, empty if there is none.
    pub fn ns(&self) -> &str {
        &self.ns
    }

    /// It has this expanded name.
    pub fn is(&self, name: &str, ns: &str) -> bool {
        *self.name == *name && self.ns == ns
    }

    /// All attributes, in their order.
    pub fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }

    /// Value of an attribute without namespace.
    pub fn attr(&self, name: &str) -> Option<&str> {
        self.attribute(name, "")
    }

    /// Value of `xml:lang`.
    pub fn lang(&self) -> Option<&str> {
        self.attribute("lang", ns::XML)
    }

    /// Sets or (with `None`) removes an attribute without namespace.
    pub fn set_attr(&mut self, name: &str, value: Option<&str>) {
        self.set_attribute(name, Cow::Borrowed(""), value);
    }

    /// Sets or (with `None`) removes `xml:lang`.
    pub fn set_lang(&mut self, lang: Option<&str>) {
        self.set_attribute("lang", Cow::Borrowed(ns::XML), lang);
    }

    /// The same with an attribute without namespace.
    pub fn with_attr(mut self, name: &str, value: &str) -> Self {
        self.set_attr(name, Some(value));
        self
    }

    /// The same with one more child.
    pub fn with_child(mut self, child: Self) -> Self {
        self.push(child);
        self
    }

    /// The same with more character data.
    pub fn with_text(mut self, text: &str) -> Self {
        self.push_text(text);
        self
    }

    /// Appends a child.
    pub fn push(&mut self, child: Self) {
        self.children.push(Node::Element(child));
    }

    /// Appends character data.
    pub fn push_text(&mut self, text: &str) {
        if let Some(Node::Text(last)) = self.children.last_mut() {
            let mut joined = String::from(std::mem::take(last));
            joined.push_str(text);
            *last = joined.into_boxed_str();
        } else if !text.is_empty() {
            self.children.push(Node::Text(text.into()));
        }
    }

    /// First child element with that name and namespace.
    pub fn child(&self, name: &str, ns: &str) -> Option<&Self> {
        self.elements().find(|child| child.is(name, ns))
    }

    /// Child elements.
    pub fn elements(&self) -> impl Iterator<Item = &Self> {
        self.children.iter().filter_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }

    /// Children of both kinds.
    pub fn nodes(&self) -> &[Node] {
        &self.children
    }

    /// Keeps the child elements for which `keep` holds; text stays.
    pub fn retain_elements(&mut self, mut keep: impl FnMut(&Self) -> bool) {
        self.children.retain(|node| match node {
            Node::Element(element) => keep(element),
            Node::Text(_) => true,
        });
    }

    /// All direct character data, joined.
    pub fn text(&self) -> Cow<'_, str> {
        let mut parts = self.children.iter().filter_map(|node| match node {
            Node::Text(text) => Some(&**text),
            Node::Element(_) => None,
        });
        let first = parts.next().unwrap_or_default();
        match parts.next() {
            None => Cow::Borrowed(first),
            Some(second) => {
                let mut joined = String::from(first);
                joined.push_str(second);
                joined.extend(parts);
                Cow::Owned(joined)
            }
        }
    }

    /// Appends the element, declaring its namespace unless it equals `inherited`.
    pub fn write(&self, out: &mut Vec<u8>, inherited: &str) {
        self.write_to(out, inherited);
    }

    /// Serialised on its own, with all namespaces declared.
    pub fn to_xml(&self) -> String {
        let mut out = String::new();
        self.write_to(&mut out, "");
        out
    }

    fn attribute(&self, name: &str, ns: &str) -> Option<&str> {
        self.attributes
            .iter()
            .find(|attribute| *attribute.name == *name && attribute.ns == ns)
            .map(|attribute| &*attribute.value)
    }

    fn set_attribute(&mut self, name: &str, ns: Cow<'static, str>, value: Option<&str>) {
        let position = self
            .attributes
            .iter()
            .position(|attribute| *attribute.name == *name && attribute.ns == ns);
        match (position, value) {
            (Some(index), None) => {
                self.attributes.remove(index);
            }
            (Some(index), Some(value)) => {
                if let Some(attribute) = self.attributes.get_mut(index) {
                    attribute.value = value.into();
                }
            }
            (None, Some(value)) => self.push_attribute(Attribute {
                name: name.into(),
                ns,
                value: value.into(),
            }),
            (None, None) => {}
        }
    }

    /// Appends an attribute of which there is none yet.
    pub(crate) fn push_attribute(&mut self, attribute: Attribute) {
        self.attributes.push(attribute);
    }

    /// Changes the namespace of the element and of all below it that are in `from` by inheritance from here: what
    /// stands inside of another namespace (a forwarded stanza) stays.
    pub(crate) fn replace_ns(&mut self, from: &str, to: &'static str) {
        let mut open = vec![self];
        while let Some(element) = open.pop() {
            if element.ns != from {
                continue;
            }
            element.ns = Cow::Borrowed(to);
            open.extend(element.children.iter_mut().filter_map(|node| match node {
                Node::Element(child) => Some(child),
                Node::Text(_) => None,
            }));
        }
    }

    /// Writes the tree without recursion: its depth is not ours to choose.
    pub(crate) fn write_to(&self, out: &mut impl Sink, inherited: &str) {
        let mut open = vec![(self, self.children.iter(), self.write_start(out, inherited))];
        while let Some((element, nodes, default)) = open.last_mut() {
            match nodes.next() {
                Some(Node::Text(text)) => escape_to(text, Place::Text, out),
                Some(Node::Element(child)) => {
                    let default = child.write_start(out, default);
                    open.push((child, child.children.iter(), default));
                }
                None => {
                    if !element.children.is_empty() {
                        out.put("</");
                        out.put(element.prefix());
                        out.put(&element.name);
                        out.put(">");
                    }
                    open.pop();
                }
            }
        }
    }

    /// With its colon. The namespace of `xml` has no other way to be written (Namespaces in XML 1.0 section 3).
    pub(crate) fn prefix(&self) -> &'static str {
        if self.ns == ns::XML { "xml:" } else { "" }
    }

    /// Writes the start tag and tells the default namespace inside.
    fn write_start<'n>(&'n self, out: &mut impl Sink, inherited: &'n str) -> &'n str {
        out.put("<");
        out.put(self.prefix());
        out.put(&self.name);
        let default = if self.prefix().is_empty() {
            &self.ns
        } else {
            inherited
        };
        if default != inherited {
            out.put(" xmlns='");
            escape_to(default, Place::Attribute, out);
            out.put("'");
        }
        self.write_attributes(out, &[]);
        out.put(if self.children.is_empty() { "/>" } else { ">" });
        default
    }

    /// Writes all attributes but those without namespace that `skip` names. A prefix that is needed is declared here.
    pub(crate) fn write_attributes(&self, out: &mut impl Sink, skip: &[&str]) {
        let mut prefixes: Vec<&str> = Vec::new();
        for attribute in &self.attributes {
            let attribute_ns: &str = &attribute.ns;
            if attribute_ns.is_empty() && skip.contains(&&*attribute.name) {
                continue;
            }
            out.put(" ");
            match attribute_ns {
                "" => {}
                ns::XML => out.put("xml:"),
                _ => {
                    let known = prefixes.iter().position(|known| *known == attribute_ns);
                    let number = known.unwrap_or(prefixes.len()).to_string();
                    if known.is_none() {
                        prefixes.push(attribute_ns);
                        for part in ["xmlns:ns", &number, "='"] {
                            out.put(part);
                        }
                        escape_to(attribute_ns, Place::Attribute, out);
                        out.put("' ");
                    }
                    for part in ["ns", &number, ":"] {
                        out.put(part);
                    }
                }
            }
            out.put(&attribute.name);
            out.put("='");
            escape_to(&attribute.value, Place::Attribute, out);
            out.put("'");
        }
    }
}

/// Without recursion, as a tree can be deeper than the stack has room for.
impl Drop for Element {
    fn drop(&mut self) {
        let is_flat = self.elements().all(|child| child.children.is_empty());
        if is_flat {
            return;
        }
        let mut nodes = std::mem::take(&mut self.children);
        while let Some(node) = nodes.pop() {
            if let Node::Element(mut element) = node {
                nodes.append(&mut element.children);
            }
        }
    }
}
