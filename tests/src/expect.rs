//! Compares what came in with what a scenario expects.
//!
//! - Names and namespaces are equal. Attributes that the pattern names are equal; others are not looked at.
//! - Each child element of the pattern has its counterpart, in any order, and no child is left over, unless the pattern
//!   has a child `<any/>`.
//! - Text is equal but for white space around it, unless the pattern has a child `<any/>`.
//!
//! - What stands in a child `<none>…</none>` of the pattern is not there.
//!
//! In values and text `{any}` stands for anything but nothing, and `{name}` captures: it stands for anything the first
//! time, for the same thing later. `{not name}` is anything but what was captured. An attribute given as `{none}` must be missing.
use std::collections::BTreeMap;

use protocol::{Element, ns};

/// Text that earlier patterns have captured, by name.
pub type Captures = BTreeMap<String, String>;

/// Compares one element; says at which place and how it differs. Captures only what belongs to a full match.
pub fn compare(pattern: &Element, actual: &Element, captures: &mut Captures) -> Result<(), String> {
    let mut attempt = captures.clone();
    compare_element(pattern, actual, &mut attempt)?;
    *captures = attempt;
    Ok(())
}

fn compare_element(
    pattern: &Element,
    actual: &Element,
    captures: &mut Captures,
) -> Result<(), String> {
    let name = pattern.name();
    if !actual.is(name, pattern.ns()) {
        return Err(format!(
            "expected <{name} xmlns='{}'>, got <{} xmlns='{}'>",
            pattern.ns(),
            actual.name(),
            actual.ns()
        ));
    }
    for attribute in pattern.attributes() {
        let found = actual
            .attributes()
            .iter()
            .find(|other| other.name == attribute.name && other.ns == attribute.ns)
            .map(|other| &*other.value);
        let is_equal = match found {
            None => &*attribute.value == "{none}",
            Some(value) => {
                &*attribute.value != "{none}" && compare_text(&attribute.value, value, captures)
            }
        };
        if !is_equal {
            let found = found.map_or_else(|| "nothing".to_owned(), |value| format!("'{value}'"));
            let expected = shown(&attribute.value, captures);
            return Err(format!(
                "attribute {} of <{name}>: expected '{expected}', got {found}",
                attribute.name
            ));
        }
    }
    compare_content(pattern, actual, captures)
}

fn compare_content(
    pattern: &Element,
    actual: &Element,
    captures: &mut Captures,
) -> Result<(), String> {
    let name = pattern.name();
    let allows_more = pattern.elements().any(is_any);
    let (expected_text, text) = (pattern.text(), actual.text());
    let is_any_text = allows_more && expected_text.trim().is_empty();
    if !is_any_text && !compare_text(expected_text.trim(), text.trim(), captures) {
        let expected = shown(expected_text.trim(), captures);
        return Err(format!(
            "text of <{name}>: expected '{expected}', got '{}'",
            text.trim()
        ));
    }
    let mut left: Vec<&Element> = actual.elements().collect();
    for absent in pattern
        .elements()
        .filter(|child| is_none(child))
        .flat_map(Element::elements)
    {
        if actual
            .elements()
            .any(|other| compare(absent, other, captures).is_ok())
        {
            return Err(format!(
                "<{name}> must not have a child <{} xmlns='{}'>",
                absent.name(),
                absent.ns()
            ));
        }
    }
    for child in pattern
        .elements()
        .filter(|child| !is_any(child) && !is_none(child))
    {
        let mut reasons = Vec::new();
        let found = left
            .iter()
            .position(|other| match compare(child, other, captures) {
                Ok(()) => true,
                Err(reason) => {
                    // A child of another name says nothing about what went wrong.
                    if other.is(child.name(), child.ns()) {
                        reasons.push(reason);
                    }
                    false
                }
            });
        match found {
            Some(index) => {
                left.remove(index);
            }
            None if reasons.is_empty() => {
                return Err(format!(
                    "<{name}> has no child <{} xmlns='{}'>",
                    child.name(),
                    child.ns()
                ));
            }
            None => return Err(reasons.join("; ")),
        }
    }
    match left.first() {
        Some(child) if !allows_more => Err(format!(
            "<{name}> has an unexpected child <{} xmlns='{}'>",
            child.name(),
            child.ns()
        )),
        _ => Ok(()),
    }
}

fn is_any(element: &Element) -> bool {
    element.name() == "any" && element.nodes().is_empty() && element.attributes().is_empty()
}

fn is_none(element: &Element) -> bool {
    element.name() == "none" && element.attributes().is_empty()
}

/// Part of a template: text to be found as it is, or a placeholder.
#[derive(Debug, PartialEq, Eq)]
enum Part<'a> {
    Literal(&'a str),
    Placeholder(&'a str),
}

fn parts(template: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        let Some(length) = rest[start..].find('}') else {
            break;
        };
        if start > 0 {
            parts.push(Part::Literal(&rest[..start]));
        }
        parts.push(Part::Placeholder(&rest[start + 1..start + length]));
        rest = &rest[start + length + 1..];
    }
    if !rest.is_empty() {
        parts.push(Part::Literal(rest));
    }
    parts
}

/// Compares a text with a template, and captures.
pub fn compare_text(template: &str, actual: &str, captures: &mut Captures) -> bool {
    compare_parts(&parts(template), actual, captures)
}

fn compare_parts(parts: &[Part<'_>], actual: &str, captures: &mut Captures) -> bool {
    let Some((first, rest)) = parts.split_first() else {
        return actual.is_empty();
    };
    let known = match first {
        Part::Literal(text) => Some((*text).to_owned()),
        Part::Placeholder(name) => captures.get(*name).cloned(),
    };
    if let Some(text) = known {
        return actual
            .strip_prefix(text.as_str())
            .is_some_and(|behind| compare_parts(rest, behind, captures));
    }
    let Part::Placeholder(name) = first else {
        return false;
    };
    // The shortest text that lets the rest match; never an empty one.
    let ends = actual.char_indices().map(|(index, c)| index + c.len_utf8());
    for end in ends {
        let mut attempt = captures.clone();
        let forbidden = name
            .strip_prefix("not ")
            .and_then(|other| captures.get(other));
        if forbidden.is_some_and(|forbidden| *forbidden == actual[..end]) {
            continue;
        }
        if *name != "any" && !name.starts_with("not ") {
            attempt.insert((*name).to_owned(), actual[..end].to_owned());
        }
        if compare_parts(rest, &actual[end..], &mut attempt) {
            *captures = attempt;
            return true;
        }
    }
    false
}

/// The template with what is captured already.
fn shown(template: &str, captures: &Captures) -> String {
    let parts = parts(template).into_iter().map(|part| match part {
        Part::Literal(text) => text.to_owned(),
        Part::Placeholder(name) => captures
            .get(name)
            .cloned()
            .unwrap_or_else(|| format!("{{{name}}}")),
    });
    parts.collect()
}

/// Fills in what a scenario sends: captured text, and two functions, `{base64 text}` (with `\0` for NUL) and
/// `{repeat 1000 text}`.
pub fn fill(template: &str, captures: &Captures) -> Result<String, String> {
    let mut filled = String::new();
    for part in parts(template) {
        match part {
            Part::Literal(text) => filled.push_str(text),
            Part::Placeholder(name) => filled.push_str(&evaluate(name, captures)?),
        }
    }
    Ok(filled)
}

fn evaluate(expression: &str, captures: &Captures) -> Result<String, String> {
    if let Some(text) = expression.strip_prefix("base64 ") {
        return Ok(protocol::sasl::encode_base64(
            text.replace("\\0", "\0").as_bytes(),
        ));
    }
    if let Some((count, text)) = expression
        .strip_prefix("repeat ")
        .and_then(|rest| rest.split_once(' '))
    {
        let count: usize = count
            .parse()
            .map_err(|_| format!("`{count}` is no number of repetitions"))?;
        return Ok(text.repeat(count));
    }
    captures
        .get(expression)
        .cloned()
        .ok_or_else(|| format!("nothing was captured as {{{expression}}}"))
}

/// Parses the elements of a block, with the namespaces of a client stream.
pub fn parse_elements(block: &str) -> Result<Vec<Element>, String> {
    let wrapped = format!(
        "<block xmlns='{}' xmlns:stream='{}'>{block}</block>",
        ns::CLIENT,
        ns::STREAM
    );
    let root = Element::parse(wrapped.as_bytes(), "")
        .map_err(|error| format!("no well-formed XML: {error:?}"))?;
    if !root.text().trim().is_empty() {
        return Err(format!("text between the elements: {}", root.text().trim()));
    }
    Ok(root.elements().cloned().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, actual: &str, expected: Result<(), &str>) {
        let pattern = parse_elements(pattern).unwrap().remove(0);
        let actual = parse_elements(actual).unwrap().remove(0);
        let result = compare(&pattern, &actual, &mut Captures::new());
        assert_eq!(result.as_ref().copied().map_err(String::as_str), expected);
    }

    #[test]
    fn attributes_named_by_the_pattern_count() {
        check("<iq type='get'/>", "<iq id='1' type='get'/>", Ok(()));
        check(
            "<iq type='get'/>",
            "<iq type='set'/>",
            Err("attribute type of <iq>: expected 'get', got 'set'"),
        );
        check(
            "<iq type='get'/>",
            "<iq/>",
            Err("attribute type of <iq>: expected 'get', got nothing"),
        );
        check("<iq from='{none}'/>", "<iq/>", Ok(()));
        check(
            "<iq from='{none}'/>",
            "<iq from='a'/>",
            Err("attribute from of <iq>: expected '{none}', got 'a'"),
        );
        check(
            "<message xml:lang='en'/>",
            "<message xml:lang='en'/>",
            Ok(()),
        );
        check(
            "<message xml:lang='en'/>",
            "<message lang='en'/>",
            Err("attribute lang of <message>: expected 'en', got nothing"),
        );
    }

    #[test]
    fn children_match_in_any_order_and_none_is_left_over() {
        check(
            "<message><body>a</body><thread>b</thread></message>",
            "<message><thread>b</thread><body>a</body></message>",
            Ok(()),
        );
        check(
            "<message><body>a</body></message>",
            "<message><body>a</body><x/></message>",
            Err("<message> has an unexpected child <x xmlns='jabber:client'>"),
        );
        check(
            "<message><body>a</body><any/></message>",
            "<message><body>a</body><x/></message>",
            Ok(()),
        );
        check(
            "<message><body>a</body></message>",
            "<message/>",
            Err("<message> has no child <body xmlns='jabber:client'>"),
        );
        check(
            "<message><body>a</body></message>",
            "<message><body>b</body></message>",
            Err("text of <body>: expected 'a', got 'b'"),
        );
        check(
            "<message><body/></message>",
            "<message><body xmlns='x'/></message>",
            Err("<message> has no child <body xmlns='jabber:client'>"),
        );
        check(
            "<message><none><body>a</body></none><any/></message>",
            "<message><body>b</body></message>",
            Ok(()),
        );
        check(
            "<message><none><body/></none><any/></message>",
            "<message><body/></message>",
            Err("<message> must not have a child <body xmlns='jabber:client'>"),
        );
        check("<presence/>", "<presence> \n </presence>", Ok(()));
        check(
            "<presence/>",
            "<presence>x</presence>",
            Err("text of <presence>: expected '', got 'x'"),
        );
    }

    fn check_text(template: &str, actual: &str, expected: Option<&[(&str, &str)]>) {
        let mut captures = Captures::from([("old".to_owned(), "1".to_owned())]);
        let is_equal = compare_text(template, actual, &mut captures);
        captures.remove("old");
        let captured: Vec<(&str, &str)> = captures
            .iter()
            .map(|(name, text)| (name.as_str(), text.as_str()))
            .collect();
        assert_eq!(
            is_equal.then_some(captured.as_slice()),
            expected,
            "{template} and {actual}"
        );
    }

    #[test]
    fn placeholders_capture_and_compare() {
        check_text("a{x}c", "abc", Some(&[("x", "b")]));
        check_text(
            "{x}@localhost/{y}",
            "juliet@localhost/balcony",
            Some(&[("x", "juliet"), ("y", "balcony")]),
        );
        check_text("{x}-{x}", "1-1", Some(&[("x", "1")]));
        check_text("{x}-{x}", "1-2", None);
        check_text("{any}", "", None);
        check_text("{any}b", "aaab", Some(&[]));
        check_text("{old}2", "12", Some(&[]));
        check_text("{old}2", "22", None);
        check_text("{not old}", "2", Some(&[]));
        check_text("{not old}", "1", None);
    }

    #[test]
    fn what_is_sent_can_be_computed() {
        let captures = Captures::from([("id".to_owned(), "7".to_owned())]);
        assert_eq!(fill("<a h='{id}'/>", &captures).unwrap(), "<a h='7'/>");
        assert_eq!(
            fill("{base64 \\0romeo\\0secret}", &captures).unwrap(),
            "AHJvbWVvAHNlY3JldA=="
        );
        assert_eq!(
            fill("<b>{repeat 3 ab}</b>", &captures).unwrap(),
            "<b>ababab</b>"
        );
        assert_eq!(
            fill("{other}", &captures).unwrap_err(),
            "nothing was captured as {other}"
        );
    }
}
