//! Which files belong together, and what no file of the repository may say.
use super::Finding;

/// Paths of somebody's machine: they say nothing to a reader elsewhere, and a script that has one works only there.
/// Written in two halves so that this file passes its own check.
const MACHINE_PATHS: &[(&str, &str)] = &[
    ("/ho", "me/"),
    ("/Us", "ers/"),
    ("/ro", "ot/"),
    ("/wo", "rk/"),
];

/// Nothing unfinished stays: what is missing is an issue, and a page is not there before its content.
const UNFINISHED: &[(&str, &str)] = &[
    ("TO", "DO"),
    ("TB", "D"),
    ("XX", "X"),
    ("todo", "!("),
    ("unimplemented", "!("),
];

/// Files beside the modules that are no modules.
const REGISTRY: &[&str] = &["config.rs", "needs.rs"];

pub(super) fn check_text(path: &str, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if path == "Cargo.lock" || path == "LICENSE" {
        return findings;
    }
    for (number, line) in text.lines().enumerate() {
        if MACHINE_PATHS
            .iter()
            .any(|(first, second)| holds_path(line, &format!("{first}{second}")))
        {
            findings.push(Finding::new(
                path,
                number + 1,
                "names a path of one machine",
            ));
        }
        if UNFINISHED
            .iter()
            .any(|(first, second)| holds_word(line, &format!("{first}{second}")))
        {
            findings.push(Finding::new(
                path,
                number + 1,
                "unfinished work belongs in an issue, not in the repository",
            ));
        }
    }
    findings
}

/// `/x/` at the start of a path, not in the middle of a URL or of a longer path.
fn holds_path(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(index, _)| {
        !line[..index].ends_with(|c: char| {
            c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ')' | '}' | '~')
        })
    })
}

fn holds_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(index, _)| {
        let behind = &line[index + word.len()..];
        !line[..index].ends_with(is_part) && (word.ends_with('(') || !behind.starts_with(is_part))
    })
}

/// A module of the server has a page and a scenario of its name; a scenario and a page have a subject.
pub(super) fn check_companions(paths: &[&str]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let modules: Vec<&str> = paths.iter().filter_map(|path| module_name(path)).collect();
    for name in &modules {
        let module = format!("server/src/modules/{name}.rs");
        for companion in [
            format!("docs/modules/{name}.md"),
            format!("tests/scenarios/{name}.txt"),
        ] {
            if !paths.contains(&companion.as_str()) {
                findings.push(Finding::new(&module, 0, format!("has no {companion}")));
            }
        }
    }
    for path in paths {
        let page = path
            .strip_prefix("docs/modules/")
            .and_then(|path| path.strip_suffix(".md"));
        if let Some(name) = page.filter(|name| !modules.contains(name)) {
            findings.push(Finding::new(
                path,
                0,
                format!("there is no module `{name}`"),
            ));
        }
    }
    findings
}

fn module_name(path: &str) -> Option<&str> {
    let name = path
        .strip_prefix("server/src/modules/")
        .filter(|name| !REGISTRY.contains(name))?
        .strip_suffix(".rs")?;
    (!name.contains('/') && name != "tests").then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_a_machine_are_found() {
        let check = |line: &str, expected: usize| {
            assert_eq!(check_text("a.md", line).len(), expected, "{line}")
        };
        check(&format!("see {}me/someone/x", "/ho"), 1);
        check(&format!("\"{}rk/tree\"", "/wo"), 1);
        check(&format!("https://example.org{}me/x", "/ho"), 0);
        check("target/work/x and ./home/x", 0);
        check(&format!("a {}DO: later", "TO"), 1);
        check(&format!("{}DOIST is a word", "TO"), 0);
    }

    #[test]
    fn a_module_has_a_page_and_a_scenario() {
        let complete = [
            "server/src/modules/ping.rs",
            "server/src/modules/ping/store.rs",
            "docs/modules/ping.md",
            "tests/scenarios/ping.txt",
        ];
        assert_eq!(check_companions(&complete), []);
        let findings = check_companions(&["server/src/modules/ping.rs", "docs/modules/gone.md"]);
        let messages: Vec<&str> = findings
            .iter()
            .map(|finding| finding.message.as_str())
            .collect();
        assert_eq!(
            messages,
            [
                "has no docs/modules/ping.md",
                "has no tests/scenarios/ping.txt",
                "there is no module `gone`"
            ]
        );
    }
}
