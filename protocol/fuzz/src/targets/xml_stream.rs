//! A stream's bytes in arbitrary pieces: whatever the pieces, the items and the error are the same, memory is bounded
//! by what came, and what is made of a stanza says the same as its tree.
use protocol::xml::{Frame, Item, Limits, Stamp, StreamReader};
use protocol::{Element, Jid, JidRef, Stanza, StanzaCondition, StanzaError, ns};

use super::{Target, XML_WORDS};
use crate::mutate::Random;

pub(crate) const TARGET: Target = Target {
    name: "xml_stream",
    run,
    seeds: &[
        b"\x00\x01<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>",
        b"\x05\x07<message to='a@b/c' id='1' type='chat'><body>hi &lt;</body><a xmlns='x' p:b='&#65;' xmlns:p='y'/></message>",
        b"\x09\x02<iq type='get' id='1' xmlns='jabber:client'><q:query xmlns:q='z'><![CDATA[x]]></q:query></iq>",
    ],
    words: XML_WORDS,
};

/// Small enough that a mutation reaches each of them.
const SMALL: Limits = Limits {
    element_bytes_max: 200,
    elements_max: 8,
    depth_max: 4,
    attributes_per_element_max: 4,
    attributes_max: 8,
    namespaces_max: 3,
    name_bytes_max: 16,
    namespace_bytes_max: 40,
    attribute_value_bytes_max: 40,
    oversize_factor: 2,
};

/// The box of an unfinished element, with nothing in it.
const BOX_BYTES_MAX: usize = 2_048;

fn run(input: &[u8]) {
    let [flags, seed, content @ ..] = input else {
        return;
    };
    let limits = [
        Limits::AUTHENTICATED,
        Limits::PRE_AUTH,
        SMALL,
        Limits::AUTHENTICATED,
    ][usize::from(flags & 3)];
    let content_ns = if flags & 16 == 0 {
        ns::CLIENT
    } else {
        ns::SERVER
    };
    let (reader, content): (fn(Limits) -> StreamReader, Vec<u8>) = match flags >> 2 & 3 {
        0 | 3 => (StreamReader::new, content.to_vec()),
        1 => {
            let header = format!(
                "<stream:stream xmlns='{content_ns}' xmlns:stream='{}'>",
                ns::STREAM
            );
            (StreamReader::new, [header.as_bytes(), content].concat())
        }
        _ => (StreamReader::framed, content.to_vec()),
    };
    let whole = read(reader(limits), &content, || usize::MAX);
    let mut sizes = Random(u64::from(*seed));
    let bound = 1 + usize::from(seed >> 3);
    let pieces = read(reader(limits), &content, || 1 + sizes.below(bound));
    assert_eq!(pieces, whole, "pieces change what is read");
}

/// Items and the error, as lines.
fn read(mut reader: StreamReader, content: &[u8], mut size: impl FnMut() -> usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut left = content;
    while !left.is_empty() {
        let (mut rest, after) = left.split_at(size().clamp(1, left.len()));
        left = after;
        loop {
            match reader.next(&mut rest) {
                Ok(None) => break,
                Ok(Some(Item::Header(header))) => lines.push(format!("{header:?}")),
                Ok(Some(Item::Close)) => lines.push("close".into()),
                Ok(Some(Item::Element(frame))) => lines.push(check(&frame)),
                Err(error) => {
                    assert_eq!(reader.held_bytes(), 0, "nothing is held after an error");
                    lines.push(format!("{error:?}"));
                    return lines;
                }
            }
        }
        assert!(rest.is_empty(), "all of the input is taken");
        assert!(
            reader.is_inside() || reader.held_bytes() == 0,
            "nothing is held between elements"
        );
        assert!(
            reader.held_bytes() <= 4 * content.len() + BOX_BYTES_MAX,
            "memory is bounded by the input"
        );
    }
    lines.push(format!("inside: {}", reader.is_inside()));
    lines
}

fn check(frame: &Frame<'_>) -> String {
    let tree = frame.to_element();
    assert!(frame.is(tree.name(), tree.ns()));
    assert_eq!(frame.text(), tree.text());
    assert_eq!(frame.attr("to").as_deref(), tree.attr("to"));
    assert_eq!(frame.attr("id").as_deref(), tree.attr("id"));
    let first = tree.elements().next();
    assert_eq!(
        frame.first_child(),
        first.map(|child| (child.name(), child.ns()))
    );
    let from = Jid::parse("ours/<'&>").expect("an address");
    let mut lines = vec![format!("{tree:?}")];
    for (lang, ours) in [(None, ""), (Some("de"), "ours")] {
        let stamp = Stamp {
            from: from.as_ref(),
            lang,
            is_ours: &|text| text == ours,
        };
        match frame.to_stanza(&stamp) {
            Ok(stanza) => {
                assert_eq!(stanza.from(), Some(from.as_ref()));
                assert_eq!(
                    stanza.kind(),
                    frame.kind().expect("only a stanza becomes one")
                );
                check_stanza(&stanza);
                check_same(frame, &tree, &stanza);
                lines.push(format!("{stanza:?}"));
            }
            Err(refused) => {
                if let Some(reply) = &refused.reply {
                    assert_eq!(reply.to(), Some(from.as_ref()));
                    check_stanza(reply);
                }
                lines.push(format!("{refused:?}"));
            }
        }
    }
    lines.join("\n")
}

/// The stanza's children are those of the frame, but for those that only servers add.
fn check_same(frame: &Frame<'_>, tree: &Element, stanza: &Stanza) {
    const OWNED: [&str; 7] = [
        ns::STANZA_ID,
        ns::DELAY,
        ns::CARBONS,
        ns::ARCHIVE,
        ns::STREAM_MANAGEMENT,
        ns::OCCUPANT_ID,
        ns::MUC_USER,
    ];
    let is_client = tree.ns() == ns::CLIENT;
    if is_client && !tree.elements().any(|child| OWNED.contains(&child.ns())) {
        assert_eq!(stanza.to_element().nodes(), tree.nodes());
    }
    assert_eq!(stanza.id(), frame.attr("id"));
}

/// What a stanza tells of itself is what its bytes say, also after each change.
fn check_stanza(stanza: &Stanza) {
    check_index(stanza);
    let other = Jid::parse("someone@example.net/o'neil").expect("an address");
    let changed = stanza.with_to(other.as_ref());
    assert_eq!(changed.to(), Some(other.as_ref()));
    assert_eq!(changed.from(), stanza.from());
    check_index(&changed);
    check_index(&changed.with_from(other.as_ref()));
    let child = Element::new("delay", ns::DELAY).with_attr("from", "<");
    let with_child = stanza.with_child(&child);
    check_index(&with_child);
    assert_eq!(with_child.to_element().elements().last(), Some(&child));
    if let Some(reply) = stanza.error_reply(&StanzaError::new(StanzaCondition::ItemNotFound)) {
        check_index(&reply);
        assert_eq!(
            (reply.to(), reply.from(), reply.id()),
            (stanza.from(), stanza.to(), stanza.id())
        );
    }
    let mut framed = Vec::new();
    stanza.write_with_ns(&mut framed, ns::CLIENT);
    let parsed = Element::parse(&framed, "").expect("it is well-formed");
    assert_eq!(parsed, stanza.to_element());
}

fn check_index(stanza: &Stanza) {
    let tree = Element::parse(stanza.bytes(), ns::CLIENT).expect("it is well-formed");
    assert!(tree.is(stanza.kind().name(), ns::CLIENT));
    assert_eq!(stanza.to().map(JidRef::as_str), tree.attr("to"));
    assert_eq!(stanza.from().map(JidRef::as_str), tree.attr("from"));
    assert_eq!(stanza.id().as_deref(), tree.attr("id"));
    let payload = tree.elements().next();
    assert_eq!(
        stanza.payload(),
        payload.map(|child| (child.name(), child.ns()))
    );
    assert_eq!(stanza.has_body(), tree.child("body", ns::CLIENT).is_some());
    for jid in [stanza.to(), stanza.from()].into_iter().flatten() {
        let parsed = Jid::parse(jid.as_str()).expect("it is an address");
        assert_eq!(parsed.as_str(), jid.as_str());
        assert_eq!(
            (parsed.local(), parsed.domain(), parsed.resource()),
            (jid.local(), jid.domain(), jid.resource())
        );
    }
}
