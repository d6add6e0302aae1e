use super::{Item, Limits, Stamp, StreamReader};
use crate::{Element, Jid, Kind, StanzaType, StreamCondition, ns};

const HEADER: &str = "<?xml version='1.0'?><stream:stream to='example.net' xmlns='jabber:client' \
     xmlns:stream='http://etherx.jabber.org/streams' version='1.0' xml:lang='en'>";

/// What a reader gives for `input` cut into pieces of `piece` bytes: one line for each item, and the error.
fn items(
    mut reader: StreamReader,
    input: &[u8],
    piece: usize,
) -> (Vec<String>, Option<StreamCondition>) {
    let mut items = Vec::new();
    for chunk in input.chunks(piece) {
        let mut rest = chunk;
        loop {
            match reader.next(&mut rest) {
                Ok(None) => break,
                Ok(Some(Item::Header(header))) => items.push(format!("{header:?}")),
                Ok(Some(Item::Element(frame))) => items.push(frame.to_element().to_xml()),
                Ok(Some(Item::Close)) => items.push("close".into()),
                Err(error) => return (items, Some(error.condition)),
            }
        }
        assert!(rest.is_empty());
    }
    (items, None)
}

/// The items of a stream with this content, the same in whatever pieces it comes.
#[track_caller]
fn check(content: &str, expected: &[&str], error: Option<StreamCondition>) {
    let input = format!("{HEADER}{content}");
    for piece in [usize::MAX, 1, 3, 7] {
        let (items, found) = items(
            StreamReader::new(Limits::AUTHENTICATED),
            input.as_bytes(),
            piece,
        );
        assert_eq!(found, error, "{content:?} in pieces of {piece}");
        assert_eq!(items[1..], *expected, "{content:?} in pieces of {piece}");
    }
}

#[test]
fn a_stream_is_read_in_any_pieces() {
    check(
        "<message to='a@b'><body>hi &lt;\u{e9}&#x41;</body></message> \n<iq/></stream:stream>ignored<",
        &[
            "<message xmlns='jabber:client' to='a@b'><body>hi &lt;\u{e9}A</body></message>",
            "<iq xmlns='jabber:client'/>",
            "close",
        ],
        None,
    );
}

fn stamped(content: &str) -> super::super::Stanza {
    let from = Jid::parse("romeo@example.net/orchard").unwrap();
    let mut reader = StreamReader::new(Limits::AUTHENTICATED);
    let input = format!("{HEADER}{content}");
    let mut rest = input.as_bytes();
    assert!(matches!(reader.next(&mut rest), Ok(Some(Item::Header(_)))));
    let Ok(Some(Item::Element(frame))) = reader.next(&mut rest) else {
        panic!("no element: {content}");
    };
    let stamp = Stamp {
        from: from.as_ref(),
        lang: Some("en"),
        is_ours: &|text| text == "example.net",
    };
    frame.to_stanza(&stamp).unwrap()
}

#[test]
fn a_message_is_spliced() {
    let stanza = stamped(
        "<message id='1' from='x' to='juliet@example.com' type='chat'><body>hi</body></message>",
    );
    assert_eq!(
        std::str::from_utf8(stanza.bytes()).unwrap(),
        "<message from='romeo@example.net/orchard' xml:lang='en' id='1' to='juliet@example.com' type='chat'>\
         <body>hi</body></message>"
    );
    assert_eq!(stanza.kind(), Kind::Message);
    assert_eq!(stanza.stanza_type(), StanzaType::Chat);
    assert_eq!(stanza.to().unwrap().as_str(), "juliet@example.com");
    assert_eq!(stanza.from().unwrap().resource(), Some("orchard"));
    assert_eq!(stanza.id().unwrap(), "1");
    assert_eq!(stanza.payload(), Some(("body", ns::CLIENT)));
    assert!(stanza.has_body());
    assert_eq!(
        Element::parse(stanza.bytes(), ns::CLIENT).unwrap(),
        stanza.to_element()
    );
}
