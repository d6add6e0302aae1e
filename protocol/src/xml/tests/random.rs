//! Properties that hold for all trees, spellings and pieces, on random ones from fixed seeds.
use super::stanzas::check_index;
use super::{HEADER, Random, canonical, expat, read_in};
use crate::element::{Attribute, Node};
use crate::xml::{Item, Limits, Place, Stamp, StreamReader, escape};
use crate::{Element, StreamCondition, ns};

const NAMES: [&str; 8] = [
    "a",
    "body",
    "x",
    "delay",
    "received",
    "\u{e9}t\u{e9}",
    "a-b.c",
    "_1",
];
const NAMESPACES: [&str; 8] = [
    "urn:a",
    ns::CLIENT,
    ns::SERVER,
    "a&b",
    "urn:xmpp:delay",
    "http://jabber.org/protocol/muc#user",
    ns::STREAM,
    ns::XML,
];
const TEXTS: [&str; 12] = [
    "x",
    "hi there",
    "<&>'\"",
    "]]>",
    "\u{e9}\u{1f600}",
    "\u{feff}",
    " \n\t ",
    "\r",
    "\u{85}\u{2028}",
    "a\r\nb",
    "&amp;",
    "]",
];

fn text(random: &mut Random) -> String {
    (0..random.below(4)).map(|_| random.pick(&TEXTS)).collect()
}

/// A random tree; a child mostly has the namespace of its parent.
fn tree(random: &mut Random, name: &str, ns: &'static str, depth: usize) -> Element {
    let mut element = Element::new(name, ns);
    for _ in 0..random.below(4) {
        let (attribute_ns, name) = match random.below(6) {
            0 => (ns::XML, "lang"),
            1 => (random.pick(&NAMESPACES), random.pick(&NAMES)),
            _ => ("", random.pick(&NAMES)),
        };
        let is_new = element
            .attributes()
            .iter()
            .all(|attribute| *attribute.name != *name || attribute.ns != attribute_ns);
        if is_new {
            element.push_attribute(Attribute {
                name: name.into(),
                ns: attribute_ns.into(),
                value: text(random).into(),
            });
        }
    }
    for _ in 0..random.below(if depth == 0 { 1 } else { 4 }) {
        element.push_text(&text(random));
        let child_ns = match random.below(3) {
            0 => random.pick(&NAMESPACES),
            _ => ns,
        };
        let name = random.pick(&NAMES);
        let child = tree(random, name, child_ns, depth - 1);
        element.push(child);
    }
    element.push_text(&text(random));
    element
}

fn stanza_tree(random: &mut Random) -> Element {
    let mut element = tree(random, "message", ns::CLIENT, 3);
    for (name, values) in [
        (
            "to",
            [
                "juliet@example.com",
                "A@B.Example/O'Neil<&>",
                "\u{e9}@example.com/x",
            ],
        ),
        ("id", ["1", "<'\">&", "\u{e9}"]),
        ("type", ["chat", "groupchat", "unknown"]),
        ("from", ["romeo@example.net", "x", "&"]),
    ] {
        if random.is_one_of(2) {
            element.set_attr(name, Some(random.pick(&values)));
        }
    }
    element
}

/// One of the many ways to write a tree: prefixes, quotes, white space, sections, references.
struct Writer<'r> {
    random: &'r mut Random,
    out: String,
    /// Prefixes in scope, the last one counts.
    prefixes: Vec<(String, String)>,
    /// White space and line ends may have carriage returns, which are never kept.
    has_returns: bool,
}

impl Writer<'_> {
    fn space(&mut self, at_least_one: bool) {
        let spaces = if self.has_returns { " \r\n " } else { "  " };
        if at_least_one {
            self.out
                .push_str(self.random.pick(&[" ", "\n", "\t", spaces]));
        } else if self.random.is_one_of(5) {
            self.out.push(' ');
        }
    }

    fn value(&mut self, value: &str) {
        let quote = self.random.pick(&['\'', '"']);
        self.out.push(quote);
        for char in value.chars() {
            match char {
                '\t' | '\n' | '\r' => self.out.push_str(&format!("&#{};", u32::from(char))),
                _ if self.random.is_one_of(20) => {
                    self.out.push_str(&format!("&#x{:x};", u32::from(char)))
                }
                '<' | '&' => self.escaped(char),
                _ if char == quote => self.escaped(char),
                _ => self.out.push(char),
            }
        }
        self.out.push(quote);
    }

    fn escaped(&mut self, char: char) {
        let mut out = Vec::new();
        escape(&char.to_string(), Place::Text, &mut out);
        self.out.push_str(std::str::from_utf8(&out).unwrap());
    }

    fn attribute(&mut self, name: &str, value: &str) {
        self.space(true);
        self.out.push_str(name);
        self.space(false);
        self.out.push('=');
        self.space(false);
        self.value(value);
    }

    fn text(&mut self, text: &str) {
        let is_plain = !text.contains("]]>") && !text.contains('\r');
        if is_plain && self.random.is_one_of(4) {
            self.out.push_str(&format!("<![CDATA[{text}]]>"));
            return;
        }
        for char in text.chars() {
            match char {
                '\n' if self.has_returns && self.random.is_one_of(3) => {
                    self.out.push_str(["\r\n", "\r"][self.random.below(2)])
                }
                '\r' => self.out.push_str("&#xD;"),
                // A line feed after a carriage return that was written as one would be eaten.
                '<' | '&' | '>' => self.escaped(char),
                _ if self.random.is_one_of(20) => {
                    self.out.push_str(&format!("&#{};", u32::from(char)))
                }
                _ => self.out.push(char),
            }
        }
    }

    /// A prefix for `ns` in this tag, declared in `declarations` unless it is in scope.
    fn prefix(&mut self, ns: &str, declarations: &mut Vec<(String, String)>) -> String {
        let prefix = match ns {
            ns::XML => return "xml".into(),
            ns::STREAM if self.random.is_one_of(2) => "stream".into(),
            _ => format!(
                "p{}",
                NAMESPACES.iter().position(|known| *known == ns).unwrap()
            ),
        };
        let in_scope = self
            .prefixes
            .iter()
            .rev()
            .find(|(known, _)| *known == prefix);
        let is_declared = in_scope.is_some_and(|(_, known)| known == ns);
        if !is_declared || self.random.is_one_of(8) {
            let declaration = (format!("xmlns:{prefix}"), ns.to_owned());
            if !declarations.contains(&declaration) {
                declarations.push(declaration);
            }
            self.prefixes.push((prefix.clone(), ns.to_owned()));
        }
        prefix
    }

    fn element(&mut self, element: &Element, default: &str) {
        let scope = self.prefixes.len();
        let mut declarations = Vec::new();
        let mut default = default.to_owned();
        let name = if element.ns() == ns::XML
            || element.ns() != default && self.random.is_one_of(2) && !element.ns().is_empty()
        {
            format!(
                "{}:{}",
                self.prefix(element.ns(), &mut declarations),
                element.name()
            )
        } else {
            if element.ns() != default || self.random.is_one_of(10) {
                declarations.push(("xmlns".to_owned(), element.ns().to_owned()));
                default = element.ns().to_owned();
            }
            element.name().to_owned()
        };
        let mut attributes = Vec::new();
        for attribute in element.attributes() {
            let name = match &*attribute.ns {
                "" => attribute.name.to_string(),
                ns => format!("{}:{}", self.prefix(ns, &mut declarations), attribute.name),
            };
            attributes.push((name, attribute.value.to_string()));
        }
        self.out.push('<');
        self.out.push_str(&name);
        let at_front = self.random.is_one_of(2);
        let (first, second) = if at_front {
            (declarations, attributes)
        } else {
            (attributes, declarations)
        };
        for (name, value) in first.into_iter().chain(second) {
            self.attribute(&name, &value);
        }
        self.space(false);
        if element.nodes().is_empty() && self.random.is_one_of(2) {
            self.out.push_str("/>");
        } else {
            self.out.push('>');
            for node in element.nodes() {
                match node {
                    Node::Element(child) => self.element(child, &default),
                    Node::Text(text) => self.text(text),
                }
            }
            self.out.push_str("</");
            self.out.push_str(&name);
            self.space(false);
            self.out.push('>');
        }
        self.prefixes.truncate(scope);
    }
}

fn written(random: &mut Random, element: &Element) -> String {
    let has_returns = random.is_one_of(3);
    let mut writer = Writer {
        random,
        has_returns,
        out: String::new(),
        prefixes: vec![("stream".into(), ns::STREAM.into())],
    };
    writer.element(element, ns::CLIENT);
    writer.out
}

#[test]
fn a_tree_is_read_as_it_was_written() {
    let mut random = Random(1);
    for _ in 0..2_000 {
        let ns = random.pick(&NAMESPACES);
        let element = tree(&mut random, "a", ns, 4);
        assert_eq!(
            Element::parse(element.to_xml().as_bytes(), "").unwrap(),
            element
        );
        let mut out = Vec::new();
        element.write(&mut out, ns::CLIENT);
        assert_eq!(Element::parse(&out, ns::CLIENT).unwrap(), element);
    }
}

/// The only child of the root as a third reader, which has no line of code of the other two, finds it.
fn as_roxmltree_reads(document: &str) -> String {
    let document = roxmltree::Document::parse(document).unwrap();
    canonical(&element_of(
        document.root_element().first_element_child().unwrap(),
    ))
}

fn element_of(node: roxmltree::Node<'_, '_>) -> Element {
    let name = node.tag_name();
    let mut element = Element::new(name.name(), name.namespace().unwrap_or_default().to_owned());
    for attribute in node.attributes() {
        element.push_attribute(Attribute {
            name: attribute.name().into(),
            ns: attribute.namespace().unwrap_or_default().to_owned().into(),
            value: attribute.value().into(),
        });
    }
    for child in node.children() {
        match child.text().filter(|_| child.is_text()) {
            Some(text) => element.push_text(text),
            None => element.push(element_of(child)),
        }
    }
    element
}

/// The same tree with its root's attributes in one order: writing anew puts some in front.
fn sorted(element: &Element) -> Element {
    let mut attributes = element.attributes().to_vec();
    attributes.sort_by(|one, other| (&one.ns, &one.name).cmp(&(&other.ns, &other.name)));
    let mut sorted = Element::new(element.name(), ns::CLIENT);
    for attribute in attributes {
        sorted.push_attribute(attribute);
    }
    for node in element.nodes() {
        match node {
            Node::Element(child) => sorted.push(child.clone()),
            Node::Text(text) => sorted.push_text(text),
        }
    }
    sorted
}

/// X23, X24: what we send, kept or written anew, is the same tree for us, for expat and for roxmltree.
#[test]
fn x23_x24_a_stanza_is_the_same_tree_for_every_reader() {
    let mut random = Random(2);
    let from = super::jid("romeo@example.net/o'rchard <&>");
    let stamp = Stamp {
        from: from.as_ref(),
        lang: Some("en"),
        is_ours: &|_| false,
    };
    let (mut documents, mut trees) = (Vec::new(), Vec::new());
    let (mut kept, mut read_by_three) = (0, 0);
    for _ in 0..1_500 {
        let element = stanza_tree(&mut random);
        let spelling = written(&mut random, &element);
        let input = format!("{HEADER}{spelling}");
        let mut reader = StreamReader::new(Limits::AUTHENTICATED);
        let mut rest = input.as_bytes();
        reader.next(&mut rest).unwrap();
        let Ok(Some(Item::Element(frame))) = reader.next(&mut rest) else {
            panic!("{spelling}");
        };
        assert_eq!(frame.to_element(), element, "{spelling}");
        documents.push([input.as_bytes(), b"</stream:stream>"].concat());
        trees.push(canonical(&element));
        let stanza = frame.to_stanza(&stamp).unwrap();
        check_index(&stanza);
        let mut expected = element;
        expected.set_attr("from", Some(from.as_str()));
        let to = expected.attr("to").map(super::jid);
        expected.set_attr("to", to.as_ref().map(|to| to.as_str()));
        if expected.lang().is_none() {
            expected.set_lang(stamp.lang);
        }
        crate::xml::server_owned::remove(
            &mut expected,
            crate::xml::server_owned::Sender::Client,
            stamp.is_ours,
        );
        let expected = sorted(&expected);
        assert_eq!(sorted(&stanza.to_element()), expected, "{spelling}");
        // Every prefix is declared inside, so the bytes mean the same in a stream that declares none.
        let bytes = std::str::from_utf8(stanza.bytes()).unwrap();
        let document = format!("<x xmlns='jabber:client'>{bytes}</x>");
        // It knows the prefix `xml` of attributes only.
        if !document.contains("<xml:") {
            assert_eq!(
                as_roxmltree_reads(&document),
                canonical(&expected),
                "{document}"
            );
            read_by_three += 1;
        }
        documents.push(document.into_bytes());
        trees.push(canonical(&expected));
        let body = spelling.split_once('>').unwrap().1;
        kept += usize::from(!body.is_empty() && bytes.ends_with(body));
    }
    assert!(kept > 300, "forwardable form is not tried: {kept}");
    assert!(read_by_three > 500, "{read_by_three}");
    for ((document, tree), found) in documents.iter().zip(trees).zip(expat::children(&documents)) {
        assert_eq!(
            found,
            Some(vec![tree]),
            "{}",
            String::from_utf8_lossy(document)
        );
    }
}

/// Bytes that are near to being well-formed.
fn mutated(random: &mut Random, spelling: &str) -> Vec<u8> {
    const PIECES: [&[u8]; 22] = [
        b"<",
        b">",
        b"/",
        b"'",
        b"\"",
        b"=",
        b"&",
        b";",
        b"]]>",
        b"<![CDATA[",
        b"&#",
        b"xmlns",
        b":",
        b" ",
        b"\0",
        b"\xc3",
        b"\xef\xbf\xbe",
        b"<!--",
        b"</",
        b"<a>",
        b"\xef\xbb\xbf",
        b"?>",
    ];
    let mut bytes = spelling.as_bytes().to_vec();
    for _ in 0..=random.below(3) {
        let at = random.below(bytes.len() + 1);
        let removed = random.below(3).min(bytes.len() - at);
        let piece = match random.below(3) {
            0 => &[][..],
            _ => random.pick(&PIECES),
        };
        bytes.splice(at..at + removed, piece.iter().copied());
    }
    bytes
}

/// However the bytes are cut, the items and the error are the same; and never do we take what expat does not, nor the
/// other way round but for what RFC 6120 forbids.
#[test]
fn pieces_change_nothing_and_expat_agrees() {
    let mut random = Random(3);
    let (mut documents, mut found) = (Vec::new(), Vec::new());
    let mut accepted = 0;
    for _ in 0..4_000 {
        let element = stanza_tree(&mut random);
        let spelling = written(&mut random, &element);
        let bytes = mutated(&mut random, &spelling);
        let input = [HEADER.as_bytes(), &bytes, b"</stream:stream>"].concat();
        let limits = if random.is_one_of(4) {
            Limits::PRE_AUTH
        } else {
            Limits::AUTHENTICATED
        };
        let whole = read_in(StreamReader::new(limits), &input, || usize::MAX);
        let mut sizes = Random(random.next());
        let bound = 1 + random.below(40);
        let pieces = read_in(StreamReader::new(limits), &input, || 1 + sizes.below(bound));
        assert_eq!(pieces, whole, "{:?}", String::from_utf8_lossy(&input));
        accepted += usize::from(whole.error.is_none());
        found.push(whole);
        documents.push(input);
    }
    assert!(
        (400..3_600).contains(&accepted),
        "mutations are too mild or too wild: {accepted}"
    );
    for ((document, read), trees) in documents.iter().zip(found).zip(expat::children(&documents)) {
        let shown = String::from_utf8_lossy(document);
        match read.error {
            Some(StreamCondition::NotWellFormed | StreamCondition::BadNamespacePrefix) => {
                assert_eq!(trees, None, "expat takes it: {shown:?}");
            }
            Some(_) => {}
            None if read.is_inside => assert_eq!(trees, None, "expat takes it: {shown:?}"),
            // What follows the end of the stream is not looked at by us.
            None => {
                let close = read.items.iter().position(|item| item == "close").unwrap();
                if let Some(trees) = trees {
                    assert_eq!(read.items[1..close], trees, "{shown:?}");
                } else {
                    assert!(
                        document
                            .windows(16)
                            .filter(|end| end == b"</stream:stream>")
                            .count()
                            > 1,
                        "{shown:?}"
                    );
                }
            }
        }
    }
}
