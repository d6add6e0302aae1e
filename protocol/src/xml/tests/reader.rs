//! The reader over several streams, reads and shapes of header.
use super::{HEADER, PIECES, canonical, read, read_in, read_with};
use crate::xml::{Item, Limits, StreamReader};
use crate::{Element, Kind, StreamCondition, ns};

#[test]
fn a_reader_has_at_most_64_bytes_of_its_own() {
    assert!(
        size_of::<StreamReader>() <= 64,
        "{}",
        size_of::<StreamReader>()
    );
}

#[test]
fn elements_come_one_by_one_until_the_end() {
    let found = read("<message to='a@b'><body>hi</body></message> \n<iq/></stream:stream>");
    let expected: Vec<String> = ["<message to='a@b'><body>hi</body></message>", "<iq/>"]
        .iter()
        .map(|xml| canonical(&Element::parse(xml.as_bytes(), ns::CLIENT).unwrap()))
        .chain(["close".to_owned()])
        .collect();
    assert_eq!(found.items, expected);
}

/// N13: what is pipelined behind the end of a phase belongs to the new stream.
#[test]
fn n13_a_new_stream_starts_where_the_former_one_was_left() {
    let former = format!("<?xml version='1.0'?>{HEADER}<auth>x</auth>");
    let new = "\n<?xml version='1.0'?><s:stream xmlns:s='http://etherx.jabber.org/streams' xmlns='jabber:client' \
               xmlns:p='x'><p:a/></s:stream>";
    let input = format!("{former}{new}");
    for piece in PIECES {
        let mut reader = StreamReader::new(Limits::PRE_AUTH);
        let mut items = Vec::new();
        for chunk in input.as_bytes().chunks(piece.min(input.len())) {
            let mut rest = chunk;
            loop {
                let mut restart = false;
                match reader.next(&mut rest).unwrap() {
                    None => break,
                    Some(Item::Header(_)) => items.push("header".to_owned()),
                    Some(Item::Element(frame)) => {
                        items.push(frame.to_element().to_xml());
                        restart = frame.is("auth", ns::CLIENT);
                    }
                    Some(Item::Close) => items.push("close".to_owned()),
                }
                if restart {
                    reader.restart();
                    assert_eq!(reader.held_bytes(), 0);
                }
            }
        }
        assert_eq!(
            items,
            [
                "header",
                "<auth xmlns='jabber:client'>x</auth>",
                "header",
                "<a xmlns='x'/>",
                "close"
            ],
            "in pieces of {piece}"
        );
    }
}

#[test]
fn an_unfinished_element_is_held_and_let_go() {
    let mut reader = StreamReader::new(Limits::AUTHENTICATED);
    let mut input = HEADER.as_bytes();
    reader.next(&mut input).unwrap();
    assert!(!reader.is_inside());
    let mut input = &b"<message><bo"[..];
    assert!(reader.next(&mut input).unwrap().is_none());
    assert!(reader.is_inside() && reader.held_bytes() > 0 && input.is_empty());
    let mut input = &b"dy/></message><iq/>"[..];
    assert!(matches!(
        reader.next(&mut input),
        Ok(Some(Item::Element(_)))
    ));
    assert!(!reader.is_inside());
    assert_eq!(input, b"<iq/>", "only the element is taken");
    assert!(matches!(
        reader.next(&mut input),
        Ok(Some(Item::Element(_)))
    ));
    assert_eq!(reader.held_bytes(), 0);
    let mut input = &b"<message>"[..];
    assert!(reader.next(&mut input).unwrap().is_none());
    reader.restart();
    assert_eq!((reader.is_inside(), reader.held_bytes()), (false, 0));
}

/// The element that ends in a read may be followed by much more, of which nothing is lost.
#[test]
fn what_follows_a_cut_element_stays_in_the_input() {
    let long = format!(
        "<message><body>{}</body></message>",
        "\u{e9}x".repeat(2_000)
    );
    let content = format!("{long}{long}<iq/>{long}");
    let whole = read(&content);
    assert_eq!(whole.items.len(), 4);
    let input = format!("{HEADER}{content}");
    for piece in [510, 511, 512, 513, 1_000, 1_460, 4_096, 5_999] {
        let found = read_in(
            StreamReader::new(Limits::AUTHENTICATED),
            input.as_bytes(),
            || piece,
        );
        assert_eq!(found.items[1..], whole.items, "in pieces of {piece}");
    }
}

/// X18.
#[test]
fn x18_white_space_between_elements_holds_nothing() {
    let mut reader = StreamReader::new(Limits::PRE_AUTH);
    let mut input = HEADER.as_bytes();
    reader.next(&mut input).unwrap();
    for _ in 0..100 {
        let mut input = &[b' '; 10_000][..];
        assert!(reader.next(&mut input).unwrap().is_none());
        assert_eq!(
            (input.len(), reader.held_bytes(), reader.is_inside()),
            (0, 0, false)
        );
    }
}

/// What a client reads of a server: the same reader.
#[test]
fn a_client_reads_what_a_server_writes() {
    let mut out = Vec::new();
    crate::stream::ResponseHeader {
        from: "example.net",
        to: Some("romeo@example.net"),
        id: "x1",
        lang: "en",
    }
    .write(&mut out);
    out.extend_from_slice(
        b"<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>\
          <success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>dj1=</success>",
    );
    crate::StreamError::new(StreamCondition::SystemShutdown).write(&mut out);
    out.extend_from_slice(crate::stream::STREAM_END);
    let found = read_with(Limits::PRE_AUTH, &out);
    assert_eq!(found.error, None);
    let mut reader = StreamReader::new(Limits::PRE_AUTH);
    let mut input = &out[..];
    let Some(Item::Header(header)) = reader.next(&mut input).unwrap() else {
        panic!("no header");
    };
    assert_eq!(header.id.as_deref(), Some("x1"));
    let mut seen = Vec::new();
    while let Some(Item::Element(frame)) = reader.next(&mut input).unwrap() {
        assert_eq!(frame.kind(), None);
        seen.push((
            frame.name().to_owned(),
            frame.ns().to_owned(),
            frame.text().into_owned(),
        ));
    }
    let expected = [
        ("features", ns::STREAM, ""),
        ("success", ns::SASL, "dj1="),
        ("error", ns::STREAM, ""),
    ];
    assert_eq!(
        seen,
        expected.map(|(name, ns, text)| (name.into(), ns.into(), text.into()))
    );
}

#[test]
fn framed_elements_declare_their_namespaces() {
    let frame = |input: &str| {
        let mut reader = StreamReader::framed(Limits::AUTHENTICATED);
        let mut rest = input.as_bytes();
        match reader.next(&mut rest) {
            Ok(Some(Item::Element(frame))) => {
                let found = (frame.ns().to_owned(), frame.kind());
                assert!(matches!(reader.next(&mut rest), Ok(None)));
                Ok(found)
            }
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.condition),
        }
    };
    let open = "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='a' version='1.0'/>";
    assert_eq!(
        frame(open),
        Ok(("urn:ietf:params:xml:ns:xmpp-framing".into(), None))
    );
    assert_eq!(
        frame("<message xmlns='jabber:client'/>"),
        Ok((ns::CLIENT.into(), Some(Kind::Message)))
    );
    assert_eq!(frame("<message/>"), Ok((String::new(), None)));
    assert_eq!(
        frame("<stream:a/>"),
        Err(StreamCondition::BadNamespacePrefix)
    );
    assert_eq!(
        frame("</stream:stream>"),
        Err(StreamCondition::NotWellFormed)
    );
    assert_eq!(
        frame("<?xml version='1.0'?>"),
        Err(StreamCondition::NotWellFormed)
    );
    assert_eq!(frame("x"), Err(StreamCondition::BadFormat));
    let mut reader = StreamReader::framed(Limits::AUTHENTICATED);
    assert!(matches!(
        reader.next(&mut &b"<message xmlns='jabber:client'>"[..]),
        Ok(None)
    ));
    assert!(reader.is_inside());
}

/// The prefixes of an unusual header are known to the elements, and its name to its end tag.
#[test]
fn unusual_headers_are_kept() {
    for (header, content) in [
        (
            "<s:stream xmlns:s='http://etherx.jabber.org/streams' xmlns='jabber:client'>",
            "<s:features/></s:stream>",
        ),
        (
            "<stream xmlns='http://etherx.jabber.org/streams'>",
            "<features/></stream>",
        ),
        (
            "<stream:stream xmlns:stream='http://etherx.jabber.org/streams' xmlns:db='jabber:server:dialback' \
          xmlns='jabber:server'>",
            "<stream:features/><db:result>x</db:result></stream:stream>",
        ),
        (
            "<stream:stream xmlns:stream='http://etherx.jabber.org/str&#x65;ams' xmlns='a&amp;b'>",
            "<stream:features><x/></stream:features></stream:stream>",
        ),
    ] {
        let found = read_with(Limits::PRE_AUTH, format!("{header}{content}").as_bytes());
        assert_eq!(found.error, None, "{header}");
        let tree = super::expat::children(&[format!("{header}{content}").into_bytes()]);
        let elements = &found.items[1..found.items.len() - 1];
        assert_eq!(Some(elements.to_vec()), tree[0], "{header}");
        assert_eq!(found.items.last().unwrap(), "close");
    }
}

#[test]
fn stanzas_are_of_a_content_namespace_that_we_know() {
    let kind = |header: &str, element: &str| {
        let input = format!("{header}{element}");
        let mut reader = StreamReader::new(Limits::PRE_AUTH);
        let mut rest = input.as_bytes();
        reader.next(&mut rest).unwrap();
        match reader.next(&mut rest) {
            Ok(Some(Item::Element(frame))) => frame.kind(),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(kind(HEADER, "<iq/>"), Some(Kind::Iq));
    assert_eq!(kind(HEADER, "<iq xmlns='jabber:server'/>"), None);
    assert_eq!(kind(HEADER, "<iqs/>"), None);
    let other = "<s:stream xmlns:s='http://etherx.jabber.org/streams' xmlns='x'>";
    assert_eq!(kind(other, "<iq/>"), None);
    let none = "<s:stream xmlns:s='http://etherx.jabber.org/streams'>";
    assert_eq!(kind(none, "<iq/>"), None);
    assert_eq!(kind(none, "<iq xmlns='jabber:client'/>"), None);
    let unusual = "<s:stream xmlns:s='http://etherx.jabber.org/streams' xmlns='jabber:server'>";
    assert_eq!(kind(unusual, "<presence/>"), Some(Kind::Presence));
}
