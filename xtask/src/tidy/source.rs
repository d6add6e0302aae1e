//! Rules for Rust files: the first line says what the file is, a `match` on `Dialect` names every dialect.
use super::Finding;

/// `features` are the names of the registered modules.
pub(super) fn check(path: &str, text: &str, features: &[&str]) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(check_first_line(path, text, features));
    findings.extend(check_dialect(path, text));
    findings
}

/// Files of tests beside the code they test need no introduction.
fn check_first_line(path: &str, text: &str, features: &[&str]) -> Option<Finding> {
    let is_test = path.ends_with("/tests.rs") || path.contains("/tests/");
    if !path.contains("/src/") || is_test {
        return None;
    }
    let first = text.lines().find(|line| !line.starts_with("#!["))?;
    let Some(doc) = first.strip_prefix("//! ") else {
        return Some(Finding::new(
            path,
            1,
            "the first line of a module says what it is (`//! …`)",
        ));
    };
    let module = path
        .strip_prefix("server/src/modules/")
        .and_then(|name| name.strip_suffix(".rs"));
    if module.is_some_and(|name| features.contains(&name))
        && !["XEP-", "RFC "].iter().any(|word| doc.contains(word))
    {
        return Some(Finding::new(
            path,
            1,
            "the first line of a feature names its XEP or RFC",
        ));
    }
    None
}

/// A new dialect must be a compile error wherever dialects differ, so no arm may catch the rest.
fn check_dialect(path: &str, text: &str) -> Vec<Finding> {
    // One entry per open brace: whether it belongs to a `match` one of whose arms names a dialect.
    let mut blocks: Vec<bool> = Vec::new();
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default().trim();
        let is_arm = ["Dialect::", "Self::Sqlite", "Self::Postgres", "Self::MySql"]
            .iter()
            .any(|arm| code.starts_with(arm));
        if let Some(block) = blocks.last_mut().filter(|_| is_arm) {
            *block = true;
        }
        if code.starts_with("_ =>") && blocks.last().is_some_and(|is_dialect| *is_dialect) {
            findings.push(Finding::new(
                path,
                number + 1,
                "a `match` on `Dialect` names every dialect, no `_ =>`",
            ));
        }
        for c in code.chars() {
            match c {
                '{' => blocks.push(false),
                '}' => {
                    blocks.pop();
                }
                _ => {}
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_says_what_a_module_is() {
        let check = |path: &str, text: &str, expected: bool| {
            assert_eq!(
                check_first_line(path, text, &["ping"]).is_some(),
                expected,
                "{path}: {text}"
            );
        };
        check(
            "server/src/router.rs",
            "//! Where a stanza goes.\nuse x;",
            false,
        );
        check(
            "server/src/router.rs",
            "#![allow(x)]\n//! Where a stanza goes.",
            false,
        );
        check("server/src/router.rs", "use x;", true);
        check("server/src/router/tests.rs", "use x;", false);
        check(
            "server/src/modules/ping.rs",
            "//! XEP-0199: XMPP Ping.",
            false,
        );
        check("server/src/modules/ping.rs", "//! Answers pings.", true);
        check(
            "server/src/modules/ping/store.rs",
            "//! SQL of pings.",
            false,
        );
    }

    #[test]
    fn a_match_on_dialects_names_them_all() {
        let check = |text: &str, expected: usize| {
            assert_eq!(check_dialect("a.rs", text).len(), expected, "{text}")
        };
        check(
            "match d {\n  Dialect::Sqlite => 1,\n  Dialect::MySql => 2,\n}",
            0,
        );
        check("match d {\n  Dialect::Sqlite => 1,\n  _ => 2,\n}", 1);
        check(
            "match d {\n  Dialect::Sqlite => match x {\n    1 => 2,\n    _ => 3,\n  },\n  Dialect::MySql => 4,\n}",
            0,
        );
        check("match x {\n  1 => 2,\n  _ => 3,\n}", 0);
    }
}
