//! The form of log lines: a fixed lowercase phrase without a full stop, data as fields, errors as `%error`.
//!
//! A fixed phrase can be searched for and counted; one with data in it is different every time.
use super::Finding;

const MACROS: &[&str] = &["error!(", "warn!(", "info!(", "debug!(", "trace!("];

pub(super) fn check(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    for call in calls(text) {
        findings.extend(
            check_call(&call.arguments).map(|message| Finding::new(path, call.line, message)),
        );
    }
    findings
}

struct Call {
    line: usize,
    arguments: Vec<String>,
}

/// Every call of a logging macro, with its arguments split at the commas of the first level.
fn calls(text: &str) -> Vec<Call> {
    let mut calls = Vec::new();
    for name in MACROS {
        for (index, _) in text.match_indices(name) {
            let line_start = text[..index].rfind('\n').map_or(0, |newline| newline + 1);
            let before = text[line_start..index].trim_start();
            // Not `compile_error!(`, not in a comment, not in a string.
            let is_other = before.ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '"');
            if is_other || before.starts_with("//") {
                continue;
            }
            let line = text[..index].lines().count().max(1);
            calls.push(Call {
                line,
                arguments: arguments(&text[index + name.len()..]),
            });
        }
    }
    calls.sort_by_key(|call| call.line);
    calls
}

/// Splits up to the closing parenthesis that belongs to the call.
fn arguments(rest: &str) -> Vec<String> {
    let mut arguments = Vec::new();
    let mut argument = String::new();
    let mut depth = 0_i32;
    let mut chars = rest.chars();
    let mut in_string = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' if in_string => {
                argument.push(c);
                argument.extend(chars.next());
                continue;
            }
            '"' => in_string = !in_string,
            '(' | '[' | '{' if !in_string => depth += 1,
            ')' if !in_string && depth == 0 => break,
            ')' | ']' | '}' if !in_string => depth -= 1,
            ',' if !in_string && depth == 0 => {
                arguments.push(std::mem::take(&mut argument).trim().to_owned());
                continue;
            }
            _ => {}
        }
        argument.push(c);
    }
    if !argument.trim().is_empty() {
        arguments.push(argument.trim().to_owned());
    }
    arguments
}

fn check_call(arguments: &[String]) -> Option<&'static str> {
    let is_debug_error = |argument: &&String| {
        let (name, value) = argument
            .split_once('=')
            .map_or(("", argument.as_str()), |(n, v)| (n.trim(), v.trim()));
        matches!(value, "?error" | "?err" | "?e" | "%err" | "%e")
            || (matches!(name, "err" | "e") && !value.is_empty())
    };
    if arguments.iter().any(|argument| is_debug_error(&argument)) {
        return Some("the error of a log line is `%error`");
    }
    let message = arguments
        .iter()
        .find_map(|argument| argument.strip_prefix('"'))?
        .trim_end_matches('"');
    let mut chars = message.chars();
    let is_capitalised = chars.next().is_some_and(char::is_uppercase)
        && chars.next().is_some_and(char::is_lowercase);
    if is_capitalised {
        return Some("a log message is a lowercase phrase");
    }
    if message.ends_with(['.', '!', ':']) {
        return Some("a log message ends without punctuation");
    }
    if message.contains('{') {
        return Some("a log message is fixed; data are fields");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_line(text: &str, expected: Option<&str>) {
        let findings = check("a.rs", text);
        assert_eq!(
            findings.first().map(|finding| finding.message.as_str()),
            expected,
            "{text}"
        );
    }

    #[test]
    fn the_form_of_log_lines() {
        check_line(
            "warn!(module = entry.module, %error, \"handler failed\");",
            None,
        );
        check_line("tracing::info!(port, \"TLS files reloaded\");", None);
        check_line(
            "warn!(\n    %error,\n    \"Handler failed\",\n);",
            Some("a log message is a lowercase phrase"),
        );
        check_line(
            "info!(\"listening.\");",
            Some("a log message ends without punctuation"),
        );
        check_line(
            "info!(\"listening on {port}\");",
            Some("a log message is fixed; data are fields"),
        );
        check_line(
            "warn!(error = ?error, \"handler failed\");",
            Some("the error of a log line is `%error`"),
        );
        check_line(
            "warn!(%e, \"handler failed\");",
            Some("the error of a log line is `%error`"),
        );
        check_line(
            "debug!(text = format!(\"{a}, {b}\"), \"stanza read\");",
            None,
        );
        check_line("// warn!(\"Not code.\")", None);
        check_line("compile_error!(\"Not a log line.\")", None);
    }

    #[test]
    fn the_line_of_a_finding_is_that_of_the_call() {
        let findings = check(
            "a.rs",
            "fn a() {\n\n    info!(\n        \"Loud\",\n    );\n}",
        );
        assert_eq!(findings[0].line, 3);
    }
}
