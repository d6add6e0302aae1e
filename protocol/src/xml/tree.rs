//! Builds trees from checked elements, by the same reader.
use std::borrow::Cow;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::characters::{attribute_value, push_text, reference};
use super::names::qname;
use super::pass::Outside;
use crate::element::{Attribute, Element};
use crate::ns;

/// A prefix, empty for the default namespace, its namespace, and the depth at which it was declared.
struct Binding<'t> {
    prefix: &'t str,
    ns: Cow<'static, str>,
    depth: usize,
}

/// Builds the tree of `text`, one whole element that a pass has found well-formed.
pub(crate) fn build(text: &str, outside: Outside<'_>) -> Element {
    let mut bindings: Vec<Binding<'_>> = Vec::new();
    let mut open: Vec<Element> = Vec::new();
    let mut characters = String::new();
    let mut reader = checked_reader(text);
    loop {
        let event = match reader.read_event() {
            Ok(Event::Eof) | Err(_) => break,
            Ok(event) => event,
        };
        match &event {
            Event::Start(tag) | Event::Empty(tag) => {
                flush(&mut characters, &mut open);
                let content = content_of(text, tag);
                let depth = open.len().saturating_add(1);
                open.push(element(
                    content,
                    tag.name().as_ref().len(),
                    depth,
                    &mut bindings,
                    outside,
                ));
            }
            Event::Text(text) => push_text(text, &mut characters),
            Event::CData(text) => push_text(text, &mut characters),
            Event::GeneralRef(name) => characters.extend(reference(name)),
            _ => {}
        }
        if matches!(event, Event::End(_) | Event::Empty(_)) {
            flush(&mut characters, &mut open);
            while bindings
                .last()
                .is_some_and(|binding| binding.depth >= open.len())
            {
                bindings.pop();
            }
            let Some(closed) = open.pop() else { break };
            match open.last_mut() {
                Some(parent) => parent.push(closed),
                None => return closed,
            }
        }
    }
    // Not reached with a whole element.
    open.into_iter()
        .next()
        .unwrap_or_else(|| Element::new("", ""))
}

/// The direct character data of `text`, one whole checked element.
pub(crate) fn direct_text(text: &str) -> String {
    let mut characters = String::new();
    let mut depth = 0_u32;
    let mut reader = checked_reader(text);
    loop {
        match reader.read_event() {
            Ok(Event::Eof) | Err(_) => return characters,
            Ok(Event::Start(_)) => depth = depth.saturating_add(1),
            Ok(Event::End(_)) => depth = depth.saturating_sub(1),
            Ok(Event::Text(text)) if depth == 1 => push_text(&text, &mut characters),
            Ok(Event::CData(text)) if depth == 1 => push_text(&text, &mut characters),
            Ok(Event::GeneralRef(name)) if depth == 1 => characters.extend(reference(&name)),
            Ok(_) => {}
        }
    }
}

fn checked_reader(text: &str) -> Reader<&[u8]> {
    let mut reader = Reader::from_str(text);
    let config = reader.config_mut();
    config.check_end_names = false;
    config.allow_unmatched_ends = true;
    reader
}

/// The tag's content as a part of the text, which lives longer than the event.
fn content_of<'t>(text: &'t str, tag: &BytesStart<'_>) -> &'t str {
    let content: &str = tag;
    let start = content.as_ptr().addr().wrapping_sub(text.as_ptr().addr());
    text.get(start..start.saturating_add(content.len()))
        .unwrap_or_default()
}

fn flush(characters: &mut String, open: &mut [Element]) {
    if let Some(parent) = open.last_mut()
        && !characters.is_empty()
    {
        parent.push_text(characters);
    }
    characters.clear();
}

fn element<'t>(
    content: &'t str,
    name_bytes: usize,
    depth: usize,
    bindings: &mut Vec<Binding<'t>>,
    outside: Outside<'_>,
) -> Element {
    let name = content.get(..name_bytes).unwrap_or_default();
    for (key, value) in attributes(content, name_bytes) {
        let prefix = match key.strip_prefix("xmlns") {
            Some("") => "",
            Some(rest) => match rest.strip_prefix(':') {
                Some(prefix) => prefix,
                None => continue,
            },
            None => continue,
        };
        bindings.push(Binding {
            prefix,
            ns: ns::intern(&attribute_value(value)),
            depth,
        });
    }
    let resolve = |prefix: &str| -> Cow<'static, str> {
        let declared = bindings
            .iter()
            .rev()
            .find(|binding| binding.prefix == prefix);
        match declared {
            Some(binding) => binding.ns.clone(),
            None => ns::intern(outside.resolve(prefix)),
        }
    };
    let parts = qname(name);
    let (prefix, local) = parts.map_or(("", name), |parts| (parts.prefix, parts.local));
    let mut element = Element::new(local, resolve(prefix));
    for (key, value) in attributes(content, name_bytes) {
        let Some(name) = qname(key).filter(|name| key != "xmlns" && name.prefix != "xmlns") else {
            continue;
        };
        element.push_attribute(Attribute {
            name: name.local.into(),
            ns: if name.prefix.is_empty() {
                Cow::Borrowed("")
            } else {
                resolve(name.prefix)
            },
            value: attribute_value(value).into(),
        });
    }
    element
}

/// Names and raw values of a tag's attributes.
pub(super) fn attributes(content: &str, name_bytes: usize) -> impl Iterator<Item = (&str, &str)> {
    let mut attributes = quick_xml::events::attributes::Attributes::new(content, name_bytes);
    attributes.with_checks(false);
    attributes.filter_map(|attribute| {
        let attribute = attribute.ok()?;
        let Cow::Borrowed(value) = attribute.value else {
            return None;
        };
        Some((attribute.key.into_inner(), value))
    })
}
