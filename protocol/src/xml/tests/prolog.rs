//! What may come before the first element: marks, the declaration, the header.
use super::{HEADER, expat, read_with};
use crate::StreamCondition::{
    self, BadFormat, BadNamespacePrefix, InvalidNamespace, NotWellFormed, PolicyViolation,
    RestrictedXml, UnsupportedEncoding,
};
use crate::xml::{Item, Limits, StreamReader};
use crate::{ns, stream::StreamHeader};

const NS: &str = "xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'";

#[track_caller]
fn check(start: impl AsRef<[u8]>, expected: Result<(), StreamCondition>) {
    let read = read_with(Limits::PRE_AUTH, start.as_ref());
    let shown = String::from_utf8_lossy(start.as_ref());
    assert_eq!(read.error, expected.err(), "{shown:?}");
    assert_eq!(read.items.len(), usize::from(expected.is_ok()), "{shown:?}");
}

/// X08, X09, and what expat says of the same bytes.
#[test]
fn x08_x09_declaration_and_mark_come_once_and_first() {
    let rows = [
        ("", Ok(())),
        ("<?xml version='1.0'?>", Ok(())),
        (
            "<?xml version=\"1.0\" encoding='utf-8' standalone='yes' ?> \r\n\t",
            Ok(()),
        ),
        (" \n", Ok(())),
        ("\u{feff}", Ok(())),
        ("\u{feff}<?xml version='1.0'?>\n", Ok(())),
        ("\u{feff} ", Ok(())),
        (
            "<?xml version='1.0'?><?xml version='1.0'?>",
            Err(NotWellFormed),
        ),
        (" <?xml version='1.0'?>", Err(NotWellFormed)),
        ("\n<?xml version='1.0'?>", Err(NotWellFormed)),
        ("<?xml?>", Err(NotWellFormed)),
        ("<?xml version='1.0'>", Err(NotWellFormed)),
        ("<?xml encoding='UTF-8'?>", Err(NotWellFormed)),
        ("<?xml version='1.0' standalone='1'?>", Err(NotWellFormed)),
        ("<?xml version='1.0'encoding='UTF-8'?>", Err(NotWellFormed)),
        ("\u{feff}\u{feff}", Err(NotWellFormed)),
        (" \u{feff}", Err(NotWellFormed)),
        ("<?xml version='1.0'?>\u{feff}", Err(NotWellFormed)),
        ("x", Err(NotWellFormed)),
        ("\u{e9}", Err(NotWellFormed)),
        ("&amp;", Err(NotWellFormed)),
        ("\u{1}", Err(NotWellFormed)),
        ("]]>", Err(NotWellFormed)),
        ("</a>", Err(NotWellFormed)),
        ("<!DOCTYPE stream:stream><", Err(RestrictedXml)),
    ];
    let documents: Vec<Vec<u8>> = rows
        .iter()
        .map(|(start, _)| format!("{start}{HEADER}</stream:stream>").into_bytes())
        .collect();
    for ((start, expected), tree) in rows.iter().zip(expat::children(&documents)) {
        let input = match expected {
            // The pieces of an unfinished declaration swallow the header.
            Err(_) if start.ends_with('>') => format!("{start}<a?>"),
            _ => format!("{start}{HEADER}"),
        };
        check(input, *expected);
        assert_eq!(tree.is_some(), expected.is_ok(), "expat on {start:?}");
    }
}

/// X01, X02, X08: well-formed in XML, but not for us.
#[test]
fn x01_x02_there_is_no_markup_but_the_header() {
    for start in [
        "<!--a-->",
        "<?a?>",
        "<!DOCTYPE a>",
        "<!doctype",
        "<!DOCTYPE a [<!ENTITY b 'c'>",
        "<!",
        "<?x",
    ] {
        check(format!("{start}x"), Err(RestrictedXml));
    }
    check("<?xml version='1.1'?>", Err(NotWellFormed));
    check(format!("<![CDATA[]]>{HEADER}"), Err(BadFormat));
}

/// X01: each way to cut it is refused as soon as it is clear, not when its end comes.
#[test]
fn x01_a_document_type_is_refused_before_its_end() {
    let input = b"<!DOCTYPE a [<!ENTITY b 'c'>]>";
    let mut reader = StreamReader::new(Limits::PRE_AUTH);
    let mut taken = 0;
    for byte in input {
        let mut rest = std::slice::from_ref(byte);
        taken += 1;
        if let Err(error) = reader.next(&mut rest) {
            assert_eq!(error.condition, RestrictedXml);
            break;
        }
    }
    assert_eq!(taken, "<!D".len());
}

/// X07.
#[test]
fn x07_the_encoding_is_utf_8() {
    for start in [
        &b"\xfe\xff\0<"[..],
        b"\xff\xfe<\0",
        b"\0\0\xfe\xff",
        b"\0<\0s",
        b"<\0s\0t\0>\0",
        b"<\0",
        b"<?xml version='1.0' encoding='ISO-8859-1'?>",
        b"<?xml version='1.0' encoding='UTF-16'?>",
        b"<?xml version='1.0' encoding=''?>",
        b"\xef\xbb\xbf<?xml version='1.0' encoding='US-ASCII'?>",
    ] {
        check(start, Err(UnsupportedEncoding));
    }
    for start in [
        &b"\xef\xbb\xbe"[..],
        b"\xef<",
        b"\xef\xbb<",
        b"\xc3\xa9",
        b"\x80",
    ] {
        check(start, Err(NotWellFormed));
    }
}

/// N01, N02.
#[test]
fn n01_n02_the_header_is_that_of_a_stream() {
    for start in [
        "GET / HTTP/1.1\r\n",
        "SSH-2.0-x\r\n",
        "\u{16}\u{3}\u{1}\u{2}",
    ] {
        check(start, Err(NotWellFormed));
    }
    check("<a>", Err(BadFormat));
    check(format!("<stream:streams {NS}>"), Err(BadFormat));
    check(format!("<stream:stream {NS}/>"), Err(BadFormat));
    check("<message xmlns='jabber:client'>", Err(BadFormat));
    check("<stream>", Err(InvalidNamespace));
    check("<stream xmlns='jabber:client'>", Err(InvalidNamespace));
    check(
        "<stream:stream xmlns:stream='http://etherx.jabber.org/stream'>",
        Err(InvalidNamespace),
    );
    check("<stream:stream>", Err(BadNamespacePrefix));
    check(
        format!("<stream:stream {NS} to=''\u{1} >"),
        Err(NotWellFormed),
    );
    check(
        format!("<stream:stream {NS} to='\u{1}'>"),
        Err(NotWellFormed),
    );
    check(
        format!("<stream:stream {NS} to='a' to='b'>"),
        Err(NotWellFormed),
    );
    check(format!("<stream:stream {NS} to='<'>"), Err(NotWellFormed));
    check(
        format!("<stream:stream {NS}{}>", " xmlns:a='b'".repeat(17)),
        Err(PolicyViolation),
    );
    check(
        format!("<stream:stream {NS} a='{}", "b".repeat(20_000)),
        Err(PolicyViolation),
    );
}

fn header(text: &str) -> StreamHeader {
    let mut reader = StreamReader::new(Limits::PRE_AUTH);
    match reader.next(&mut text.as_bytes()) {
        Ok(Some(Item::Header(header))) => header,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_header_is_told_as_it_was_written() {
    let told = header(&format!(
        "<?xml version='1.0'?><stream:stream {NS} to=\"a&amp;b\" from='r\u{e9}@c' id='&#x31;' version='1.0' xml:lang='de-CH' x='y'>"
    ));
    assert_eq!(
        told,
        StreamHeader {
            content_ns: ns::CLIENT.into(),
            to: Some("a&b".into()),
            from: Some("r\u{e9}@c".into()),
            id: Some("1".into()),
            version: Some("1.0".into()),
            lang: Some("de-CH".into()),
        }
    );
    let told = header("<s:stream xmlns:s='http://etherx.jabber.org/streams'>");
    assert_eq!((&*told.content_ns, told.to, told.version), ("", None, None));
    let told = header("<stream xmlns='http://etherx.jabber.org/streams'>");
    assert_eq!(&*told.content_ns, ns::STREAM);
}

/// N07.
#[test]
fn n07_a_language_that_is_none_is_dropped() {
    let lang = |lang: &str| header(&format!("<stream:stream {NS} xml:lang='{lang}'>")).lang;
    assert_eq!(lang("en").as_deref(), Some("en"));
    assert_eq!(
        lang("zh-Hant-HK-x-1234567").as_deref(),
        Some("zh-Hant-HK-x-1234567")
    );
    for bad in [
        "",
        "-",
        "en-",
        "e n",
        "toolonglang",
        "&lt;",
        "\u{e9}",
        "a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-a-bc",
    ] {
        assert_eq!(lang(bad), None, "{bad:?}");
    }
}
