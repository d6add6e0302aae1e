//! Limits (security cases X10 to X17): at the limit passes, one more is `policy-violation`.
use super::{HEADER, read_in, read_with};
use crate::StreamCondition::{NotWellFormed, PolicyViolation};
use crate::xml::{Item, Limits, Stamp, StreamReader};
use crate::{Element, Jid, StreamError, ns};

const LIMITS: Limits = Limits {
    element_bytes_max: 2_000,
    elements_max: 10,
    depth_max: 5,
    attributes_per_element_max: 6,
    attributes_max: 12,
    namespaces_max: 4,
    name_bytes_max: 20,
    namespace_bytes_max: 35,
    attribute_value_bytes_max: 50,
    oversize_factor: 1,
};

/// `allowed` passes, `refused` does not.
#[track_caller]
fn check(allowed: &str, refused: &str) {
    let error = |content: &str| read_with(LIMITS, format!("{HEADER}{content}").as_bytes()).error;
    assert_eq!(error(allowed), None, "{allowed}");
    assert_eq!(
        error(&format!("{allowed}{allowed}")),
        None,
        "counted anew: {allowed}"
    );
    assert_eq!(error(refused), Some(PolicyViolation), "{refused}");
}

#[test]
fn each_limit_is_the_last_that_passes() {
    let text = |bytes: usize| format!("<a>{}</a>", "x".repeat(bytes - "<a></a>".len()));
    check(&text(2_000), &text(2_001));
    let elements = |count: usize| format!("<a>{}</a>", "<b/>".repeat(count - 1));
    check(&elements(10), &elements(11));
    let depth = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
    check(&depth(5), &depth(6));
    let attributes = |count: usize| -> String { (0..count).map(|n| format!(" a{n}=''")).collect() };
    check(
        &format!("<a{}/>", attributes(6)),
        &format!("<a{}/>", attributes(7)),
    );
    let two = |first: usize, second: usize| {
        format!("<a{}><b{}/></a>", attributes(first), attributes(second))
    };
    check(
        &two(6, 6),
        &format!(
            "<a{}><b{}/><c{}/></a>",
            attributes(6),
            attributes(6),
            attributes(1)
        ),
    );
    let namespaces =
        |count: usize| -> String { (0..count).map(|n| format!("<b xmlns='x{n}'/>")).collect() };
    check(
        &format!("<a>{}</a>", namespaces(4)),
        &format!("<a>{}</a>", namespaces(5)),
    );
    let name = |bytes: usize| "n".repeat(bytes);
    check(&format!("<{}/>", name(20)), &format!("<{}/>", name(21)));
    check(
        &format!("<a {}=''/>", name(20)),
        &format!("<a {}=''/>", name(21)),
    );
    check(
        &format!("<a xmlns='{}'/>", name(35)),
        &format!("<a xmlns='{}'/>", name(36)),
    );
    check(
        &format!("<a b='{}'/>", name(50)),
        &format!("<a b='{}'/>", name(51)),
    );
}

#[test]
fn an_oversized_element_is_named_as_one() {
    let input = format!("{HEADER}<a>{}", "x".repeat(3_000));
    for piece in [usize::MAX, 1, 700] {
        let mut reader = StreamReader::new(LIMITS);
        let mut error = None;
        for chunk in input.as_bytes().chunks(piece.min(input.len())) {
            let mut rest = chunk;
            loop {
                match reader.next(&mut rest) {
                    Ok(None) => break,
                    Ok(Some(_)) => {}
                    Err(found) => {
                        error.get_or_insert(found);
                    }
                }
            }
        }
        let mut out = Vec::new();
        error.unwrap().write(&mut out);
        let out = String::from_utf8(out).unwrap();
        assert!(out.contains("<policy-violation "), "{out}");
        assert!(
            out.contains("<stanza-too-big xmlns='urn:xmpp:errors'/>"),
            "{out}"
        );
    }
}

/// What becomes of an element of so many bytes where stanzas have at most 300 bytes and elements at most 600.
fn refused(name: &str, attributes: &str, bytes: usize) -> Result<String, StreamError> {
    let limits = Limits {
        element_bytes_max: 300,
        oversize_factor: 2,
        attribute_value_bytes_max: 600,
        namespace_bytes_max: 600,
        ..LIMITS
    };
    let around = format!("<{name}{attributes}><b></b></{name}>").len();
    let text = "x".repeat(bytes - around);
    let input = format!("{HEADER}<{name}{attributes}><b>{text}</b></{name}><presence/>");
    let from = Jid::parse("romeo@example.net/orchard").unwrap();
    let stamp = Stamp {
        from: from.as_ref(),
        lang: None,
        is_ours: &|_| false,
    };
    let mut found = Vec::new();
    for piece in [input.len(), 1, 7, 299, 300, 301] {
        let mut reader = StreamReader::new(limits);
        let mut told = Vec::new();
        for mut chunk in input.as_bytes().chunks(piece) {
            while let Some(item) = reader.next(&mut chunk)? {
                let Item::Element(frame) = item else { continue };
                told.push(match frame.to_stanza(&stamp) {
                    Ok(_) => frame.name().to_owned(),
                    Err(refused) => refused.reply.map_or_else(
                        || "nothing".to_owned(),
                        |reply| String::from_utf8(reply.bytes().to_vec()).unwrap(),
                    ),
                });
            }
        }
        found.push(told.join(" "));
    }
    assert!(found.iter().all(|told| *told == found[0]), "{found:?}");
    Ok(found.swap_remove(0))
}

/// A stanza that is too large can be answered if it is not by far too large; nothing else can.
#[test]
fn an_oversized_stanza_is_answered_and_the_stream_goes_on() {
    let attributes = " to='juliet@example.net' id='1'";
    assert_eq!(
        refused("message", attributes, 300).unwrap(),
        "message presence"
    );
    let answer = "<message type='error' id='1' from='juliet@example.net' to='romeo@example.net/orchard'>\
                  <error type='cancel'><not-allowed xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/>\
                  <stanza-too-big xmlns='urn:xmpp:errors'/></error></message> presence";
    for bytes in [301, 450, 600] {
        assert_eq!(refused("message", attributes, bytes).unwrap(), answer);
    }
    let errors = refused("message", " type='error'", 400).unwrap();
    assert_eq!(errors, "nothing presence", "errors are not answered");
    let told = |name, attributes, bytes| {
        let error = refused(name, attributes, bytes).unwrap_err();
        let mut out = Vec::new();
        error.write(&mut out);
        String::from_utf8(out).unwrap()
    };
    for (name, attributes, bytes) in [
        ("message", "", 601),
        ("stream:other", "", 301),
        ("message", " xmlns='urn:example'", 301),
        ("message", " xmlns='urn:&#101;xample'", 301),
    ] {
        let error = told(name, attributes, bytes);
        assert!(error.contains("<policy-violation ") && error.contains("<stanza-too-big "));
    }
}

/// The bytes that a reader takes of `input`, which comes in pieces of 1 kB, before it refuses it.
fn taken_until_refused(limits: Limits, input: impl Iterator<Item = u8>) -> usize {
    let mut reader = StreamReader::new(limits);
    let mut taken = 0;
    let mut input = input.peekable();
    while input.peek().is_some() {
        let chunk: Vec<u8> = input.by_ref().take(1_000).collect();
        let mut rest = &chunk[..];
        loop {
            match reader.next(&mut rest) {
                Ok(None) => break,
                Ok(Some(_)) => {}
                Err(error) => {
                    assert_eq!(error.condition, PolicyViolation);
                    return taken;
                }
            }
        }
        taken += chunk.len();
        assert!(reader.held_bytes() <= 4 * taken + 1_000);
    }
    panic!("all of it was taken");
}

/// X10.
#[test]
fn x10_depth_is_limited_and_nothing_recurs() {
    for limits in [Limits::PRE_AUTH, Limits::AUTHENTICATED] {
        let input = HEADER.bytes().chain("<a>".repeat(10_000).into_bytes());
        let deepest = HEADER.len() + 3 * usize::from(limits.depth_max);
        assert!(taken_until_refused(limits, input) <= deepest);
    }
    // A stack far too small for a recursion over such a tree.
    let small = std::thread::Builder::new().stack_size(64 * 1_024);
    let deep = small.spawn(|| {
        let depth = usize::from(Limits::STORED.depth_max);
        let xml =
            format!("{}{}", "<a>".repeat(depth - 1), "<a/>").replacen("<a>", "<a xmlns='x'>", 1)
                + &"</a>".repeat(depth - 1);
        let tree = Element::parse(xml.as_bytes(), ns::CLIENT).unwrap();
        assert_eq!(tree.to_xml(), xml);
        let mut deeper = tree;
        for _ in 0..100_000 {
            deeper = Element::new("b", "x").with_child(deeper);
        }
        assert!(deeper.to_xml().starts_with("<b xmlns='x'><b><b>"));
    });
    deep.unwrap().join().unwrap();
}

/// X11.
#[test]
fn x11_attributes_are_limited_before_they_are_compared() {
    let attributes: String = (0..5_000).map(|n| format!(" a{n}=''")).collect();
    for limits in [Limits::PRE_AUTH, Limits::AUTHENTICATED] {
        let input = format!("{HEADER}<a{attributes}/>");
        let found = read_in(StreamReader::new(limits), input.as_bytes(), || 1_000);
        assert_eq!(found.error, Some(PolicyViolation));
    }
}

/// X12.
#[test]
fn x12_namespaces_are_limited() {
    let on_one: String = (0..5_000).map(|n| format!(" xmlns:p{n}='x'")).collect();
    let nested: String = (0..5_000).map(|n| format!("<a xmlns:p{n}='x'>")).collect();
    let beside: String = (0..5_000).map(|n| format!("<a xmlns:p{n}='x'/>")).collect();
    for content in [format!("<a{on_one}/>"), nested, format!("<a>{beside}</a>")] {
        let input = format!("{HEADER}{content}");
        for limits in [Limits::PRE_AUTH, Limits::AUTHENTICATED] {
            let found = read_in(StreamReader::new(limits), input.as_bytes(), || 1_000);
            assert_eq!(found.error, Some(PolicyViolation));
        }
    }
}

/// X16.
#[test]
fn x16_what_is_too_long_is_refused_before_it_has_come() {
    const LONG: usize = 10_000_000;
    for limits in [Limits::PRE_AUTH, Limits::AUTHENTICATED] {
        for start in ["<a b='", "<a>", "<a", "<a ", "<a><![CDATA[", "</", "<a>&#"] {
            let filler = if start.ends_with('#') { b'1' } else { b'x' };
            let input = HEADER
                .bytes()
                .chain(start.bytes())
                .chain(std::iter::repeat_n(filler, LONG));
            let taken = taken_until_refused(limits, input);
            assert!(
                taken <= limits.read_bytes_max() as usize + HEADER.len(),
                "{start}: {taken}"
            );
            let mut whole = format!("{HEADER}{start}").into_bytes();
            whole.resize(LONG, filler);
            let found = read_in(StreamReader::new(limits), &whole, || usize::MAX);
            assert_eq!(found.error, Some(PolicyViolation), "{start}");
        }
    }
}

/// X17.
#[test]
fn x17_elements_before_login_are_few() {
    let input = format!("{HEADER}<a>{}", "<a/>".repeat(2_700));
    let last = HEADER.len() + "<a>".len() + 4 * 31;
    assert!(taken_until_refused(Limits::PRE_AUTH, input.bytes()) <= last);
}

#[test]
fn malformed_bytes_are_told_even_at_the_limit() {
    let mut input = format!("{HEADER}<a>{}", "x".repeat(1_000)).into_bytes();
    input.push(0xff);
    input.extend(std::iter::repeat_n(b'x', 2_000));
    assert_eq!(read_with(LIMITS, &input).error, Some(NotWellFormed));
}
