//! Cuts a server's bytes into stream header, elements and stream end with memchr (RFC 6120 section 4).
//!
//! This is a generator's framing, no validator: it follows quotes and nesting, and believes the rest.

use memchr::{memchr, memchr3, memmem};

/// Longest element a server may send; the stream is given up beyond it, so that memory stays bounded.
pub(crate) const ELEMENT_BYTES_MAX: usize = 1 << 20;

/// What stands next in a server's stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// `<stream:stream …>`
    StreamOpen(&'a [u8]),
    /// `</stream:stream>`
    StreamClose,
    /// A whole child of the stream, from `<` to its last `>`.
    Element(&'a [u8]),
}

/// The bytes are not the inside of an XML stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NotAStream;

/// The next token and how many bytes it took, leading white space and declaration included;
/// `None` when more bytes are needed.
pub(crate) fn next(data: &[u8]) -> Result<Option<(Token<'_>, usize)>, NotAStream> {
    let mut at = 0;
    loop {
        while data.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        let rest = &data[at..];
        if rest.len() < 2 {
            return if rest.is_empty() || rest[0] == b'<' {
                Ok(None)
            } else {
                Err(NotAStream)
            };
        }
        match (rest[0], rest[1]) {
            (b'<', b'?') => match memmem::find(rest, b"?>") {
                Some(end) => at += end + 2,
                None => return Ok(None),
            },
            (b'<', b'/') => {
                return Ok(memchr(b'>', rest).map(|end| (Token::StreamClose, at + end + 1)));
            }
            (b'<', _) => return Ok(element(rest).map(|(token, used)| (token, at + used))),
            _ => return Err(NotAStream),
        }
    }
}

fn element(data: &[u8]) -> Option<(Token<'_>, usize)> {
    const STREAM: &[u8] = b"<stream:stream";
    let (mut at, empty) = tag_end(data, 0)?;
    if data.starts_with(STREAM) && !data[STREAM.len()].is_ascii_alphanumeric() {
        return Some((Token::StreamOpen(&data[..at]), at));
    }
    let mut depth = usize::from(!empty);
    while depth > 0 {
        at += memchr(b'<', &data[at..])?;
        let closing = *data.get(at + 1)? == b'/';
        let (end, empty) = tag_end(data, at)?;
        at = end;
        if closing {
            depth -= 1;
        } else if !empty {
            depth += 1;
        }
    }
    Some((Token::Element(&data[..at]), at))
}

/// Where the tag that starts at `from` ends, and whether it is an empty-element tag.
fn tag_end(data: &[u8], from: usize) -> Option<(usize, bool)> {
    let mut at = from + 1;
    loop {
        at += memchr3(b'>', b'"', b'\'', data.get(at..)?)?;
        if data[at] == b'>' {
            return Some((at + 1, data[at - 1] == b'/'));
        }
        at += memchr(data[at], &data[at + 1..])? + 2;
    }
}

/// The element's name as written, prefix included.
pub(crate) fn name(element: &[u8]) -> &[u8] {
    let end = element[1..]
        .iter()
        .position(|byte| matches!(byte, b' ' | b'/' | b'>' | b'\t' | b'\r' | b'\n'))
        .map_or(element.len(), |length| length + 1);
    &element[1..end]
}

/// The value of an attribute of the element's own start tag, as written.
pub(crate) fn attribute<'a>(element: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    let mut at = 1 + name(element).len();
    loop {
        while element.get(at)?.is_ascii_whitespace() {
            at += 1;
        }
        if matches!(element[at], b'>' | b'/') {
            return None;
        }
        let equals = at + memchr(b'=', &element[at..])?;
        let open = equals
            + element[equals..]
                .iter()
                .position(|byte| matches!(byte, b'"' | b'\''))?;
        let close = open + 1 + memchr(element[open], &element[open + 1..])?;
        if element[at..equals].trim_ascii_end() == wanted {
            return Some(&element[open + 1..close]);
        }
        at = close + 1;
    }
}

/// The text between `<child>` (or `<child …>`) and its end tag, for a child that occurs once.
pub(crate) fn child_text<'a>(element: &'a [u8], child: &str) -> Option<&'a [u8]> {
    let start = memmem::find_iter(element, format!("<{child}").as_bytes())
        .find(|at| matches!(element.get(at + 1 + child.len()), Some(b' ' | b'>')))?;
    let (open, empty) = tag_end(element, start)?;
    if empty {
        return None;
    }
    let length = memmem::find(&element[open..], format!("</{child}>").as_bytes())?;
    Some(&element[open..open + length])
}

/// The element's own text, for an element without children (`<challenge>…</challenge>`).
pub(crate) fn text(element: &[u8]) -> &[u8] {
    match (tag_end(element, 0), memmem::rfind(element, b"</")) {
        (Some((open, false)), Some(close)) if open <= close => &element[open..close],
        _ => b"",
    }
}

/// Whether the bytes occur anywhere in the element; enough to look for a feature's namespace.
pub(crate) fn mentions(element: &[u8], needle: &str) -> bool {
    memmem::find(element, needle.as_bytes()).is_some()
}

/// How often one of two spellings occurs anywhere in the element.
pub(crate) fn count(element: &[u8], one: &str, other: &str) -> usize {
    let times = |needle: &str| memmem::find_iter(element, needle.as_bytes()).count();
    times(one) + times(other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expected: &[&str]) {
        let mut rest = input.as_bytes();
        let mut found = Vec::new();
        while let Ok(Some((token, used))) = next(rest) {
            found.push(match token {
                Token::StreamOpen(_) => "open".to_owned(),
                Token::StreamClose => "close".to_owned(),
                Token::Element(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            });
            rest = &rest[used..];
        }
        assert_eq!(found, expected, "{input}");
    }

    #[test]
    fn a_stream_is_cut_into_its_children() {
        check(
            "<?xml version='1.0'?><stream:stream to='a>b' id=\"1'\">",
            &["open"],
        );
        check(
            "<stream:stream><stream:features/>",
            &["open", "<stream:features/>"],
        );
        check(
            " <a/>\n<b c='/>'><b>x</b></b></stream:stream>",
            &["<a/>", "<b c='/>'><b>x</b></b>", "close"],
        );
        check("<a><b/>", &[]);
        check("<a b='", &[]);
        check("<", &[]);
    }

    #[test]
    fn every_prefix_of_an_element_is_incomplete() {
        let whole = b"<message to=\"a'b\" id='1>'><body>x &lt; y</body><c d='/'/></message>";
        for length in 0..whole.len() {
            assert_eq!(next(&whole[..length]), Ok(None), "{length}");
        }
        assert_eq!(next(whole), Ok(Some((Token::Element(whole), whole.len()))));
    }

    #[test]
    fn text_outside_elements_is_no_stream() {
        assert_eq!(next(b"HTTP/1.1 400"), Err(NotAStream));
        assert_eq!(next(b"x"), Err(NotAStream));
    }

    #[test]
    fn attributes_are_those_of_the_start_tag() {
        let element =
            b"<message  xml:id='no' type=\"it's\"\n id = 'm1'><stanza-id id='x' by='y'/></message>";
        assert_eq!(attribute(element, b"id"), Some(&b"m1"[..]));
        assert_eq!(attribute(element, b"type"), Some(&b"it's"[..]));
        assert_eq!(attribute(element, b"by"), None);
        assert_eq!(attribute(b"<r/>", b"h"), None);
        assert_eq!(attribute(b"<a h='5'/>", b"h"), Some(&b"5"[..]));
        assert_eq!(name(b"<a h='5'/>"), b"a");
        assert_eq!(name(b"<r/>"), b"r");
    }

    #[test]
    fn both_spellings_are_counted() {
        let roster = b"<q><item s='both'/><item s=\"both\"/><item s='to'/></q>";
        assert_eq!(count(roster, "'both'", "\"both\""), 2);
    }

    #[test]
    fn text_is_found() {
        assert_eq!(text(b"<challenge xmlns='s'>abc=</challenge>"), b"abc=");
        assert_eq!(text(b"<challenge/>"), b"");
        assert_eq!(
            child_text(b"<iq><jid2>z</jid2><jid>a@b/c</jid></iq>", "jid"),
            Some(&b"a@b/c"[..])
        );
        assert_eq!(child_text(b"<iq><jid/></iq>", "jid"), None);
    }
}
