//! Tests of the reader. What one row feeds is fed whole and in pieces, and to expat.
use super::{Item, Limits, Stamp, StreamReader};
use crate::element::Node;
use crate::{Element, Jid, Stanza, StreamCondition};

mod expat;
mod limits;
mod prolog;
mod random;
mod reader;
mod server_owned;
mod stanzas;
mod table;

/// A usual stream header, which gives one item.
const HEADER: &str = "<stream:stream to='example.net' xmlns='jabber:client' \
     xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>";

/// How a test cuts its input: whole, and in pieces of so many bytes.
const PIECES: [usize; 5] = [usize::MAX, 1, 2, 3, 7];

/// What a reader gives for an input: a line for each item, then the error.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Read {
    items: Vec<String>,
    error: Option<StreamCondition>,
    /// The input ends within an element.
    is_inside: bool,
}

/// Feeds `input` in pieces whose sizes `sizes` gives.
fn read_in(mut reader: StreamReader, input: &[u8], mut sizes: impl FnMut() -> usize) -> Read {
    let mut read = Read {
        items: Vec::new(),
        error: None,
        is_inside: false,
    };
    let mut left = input;
    while !left.is_empty() {
        let (mut rest, after) = left.split_at(sizes().clamp(1, left.len()));
        left = after;
        loop {
            match reader.next(&mut rest) {
                Ok(None) => break,
                Ok(Some(Item::Header(header))) => read.items.push(format!("{header:?}")),
                Ok(Some(Item::Element(frame))) => {
                    let element = frame.to_element();
                    assert_eq!(frame.name(), element.name());
                    assert_eq!(frame.ns(), element.ns());
                    assert_eq!(frame.text(), element.text());
                    for name in ["to", "from", "id", "type", "a"] {
                        assert_eq!(frame.attr(name).as_deref(), element.attr(name));
                    }
                    let child = element.elements().next();
                    assert_eq!(
                        frame.first_child(),
                        child.map(|child| (child.name(), child.ns()))
                    );
                    read.items.push(canonical(&element));
                }
                Ok(Some(Item::Close)) => read.items.push("close".into()),
                Err(error) => {
                    read.error = Some(error.condition);
                    // The stream is over, whatever follows.
                    let mut more = &b"<message/>"[..];
                    assert!(matches!(reader.next(&mut more), Ok(None)));
                    assert_eq!(reader.held_bytes(), 0);
                    return read;
                }
            }
        }
        assert!(rest.is_empty());
        if !reader.is_inside() {
            assert_eq!(reader.held_bytes(), 0, "nothing is held between elements");
        }
    }
    read.is_inside = reader.is_inside();
    read
}

/// Feeds `input` in all the usual ways, which must give the same.
#[track_caller]
fn read_with(limits: Limits, input: &[u8]) -> Read {
    let whole = read_in(StreamReader::new(limits), input, || usize::MAX);
    for piece in PIECES {
        let pieces = read_in(StreamReader::new(limits), input, || piece);
        assert_eq!(
            pieces,
            whole,
            "{:?} in pieces of {piece}",
            String::from_utf8_lossy(input)
        );
    }
    whole
}

/// The elements of a usual stream with this content, with the limits after login.
#[track_caller]
fn read(content: impl AsRef<[u8]>) -> Read {
    let input = [HEADER.as_bytes(), content.as_ref()].concat();
    let mut read = read_with(Limits::AUTHENTICATED, &input);
    read.items.remove(0);
    read
}

/// A tree as one word that `expat.rs` makes in the same way: attributes sorted, all texts as hexadecimal digits.
fn canonical(element: &Element) -> String {
    let mut out = String::new();
    write_canonical(element, &mut out);
    out
}

fn write_canonical(element: &Element, out: &mut String) {
    out.push_str(&format!("<{}:{}", hex(element.ns()), hex(element.name())));
    let mut attributes: Vec<String> = element
        .attributes()
        .iter()
        .map(|attribute| {
            let (ns, name, value) = (&attribute.ns, &attribute.name, &attribute.value);
            format!("@{}:{}={}", hex(ns), hex(name), hex(value))
        })
        .collect();
    attributes.sort();
    out.extend(attributes);
    for node in element.nodes() {
        match node {
            Node::Element(child) => write_canonical(child, out),
            Node::Text(text) => out.push_str(&format!("#{}", hex(text))),
        }
    }
    out.push('>');
}

fn hex(text: &str) -> String {
    hex_of(text.as_bytes())
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn jid(text: &str) -> Jid {
    Jid::parse(text).unwrap()
}

/// What becomes of the first element of a stream with this header and content.
fn stamped_in(
    header: &str,
    content: &str,
    lang: Option<&str>,
) -> Result<Stanza, Box<super::Refused>> {
    let from = jid("romeo@example.net/orchard");
    let mut reader = StreamReader::new(Limits::AUTHENTICATED);
    let input = format!("{header}{content}");
    let mut rest = input.as_bytes();
    assert!(matches!(reader.next(&mut rest), Ok(Some(Item::Header(_)))));
    let Ok(Some(Item::Element(frame))) = reader.next(&mut rest) else {
        panic!("no element: {content}");
    };
    frame.to_stanza(&Stamp {
        from: from.as_ref(),
        lang,
        is_ours: &|text| text == "example.net" || text == "romeo@example.net",
    })
}

fn stamped(content: &str) -> Result<Stanza, Box<super::Refused>> {
    stamped_in(HEADER, content, None)
}

/// Random numbers from a seed (SplitMix64): the same ones in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn is_one_of(&mut self, bound: usize) -> bool {
        self.below(bound) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}
