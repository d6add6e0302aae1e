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

/// What is missing is an issue, and a page is not there before its content.
const UNFINISHED: &[(&str, &str)] = &[
    ("TO", "DO"),
    ("TB", "D"),
    ("XX", "X"),
    ("todo", "!("),
    ("unimplemented", "!("),
];

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

/// A module of the server has a page and a scenario of its name, and a page has a module. `registry` is the text of
/// `server/src/modules.rs`.
pub(super) fn check_companions(paths: &[&str], registry: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let modules = registered_modules(registry);
    if modules.is_empty() {
        findings.push(Finding::new(
            "server/src/modules.rs",
            0,
            "no list `modules! { name = \"mod_name\" … }` found",
        ));
    }
    for name in &modules {
        let module = format!("server/src/modules/{name}.rs");
        for companion in [
            &module,
            &format!("docs/modules/{name}.md"),
            &format!("tests/scenarios/{name}.txt"),
        ] {
            if !paths.contains(&companion.as_str()) {
                findings.push(Finding::new(&module, 0, format!("there is no {companion}")));
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

/// Names in the lines `name = "mod_name"` of the registry.
pub(super) fn registered_modules(registry: &str) -> Vec<&str> {
    let list = registry
        .split_once("\nmodules! {")
        .map_or("", |(_, list)| list);
    let lines = list
        .lines()
        .skip(1)
        .take_while(|line| !line.starts_with('}'));
    lines
        .filter_map(|line| line.trim().split_once(" = \"mod_"))
        .map(|(name, _)| name)
        .collect()
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
        check(&format!("a {}{}: later", "TO", "DO"), 1);
        check(&format!("{}{}IST is a word", "TO", "DO"), 0);
    }

    const REGISTRY: &str =
        "macro_rules! modules {\n}\n\nmodules! { // order\n    ping = \"mod_ping\"\n}\n";

    fn check_files(paths: &[&str], expected: &[&str]) {
        let findings = check_companions(paths, REGISTRY);
        let messages: Vec<&str> = findings
            .iter()
            .map(|finding| finding.message.as_str())
            .collect();
        assert_eq!(messages, expected);
    }

    #[test]
    fn a_module_has_a_page_and_a_scenario() {
        let module = "server/src/modules/ping.rs";
        check_files(
            &[
                module,
                "server/src/modules/needs.rs",
                "docs/modules/ping.md",
                "tests/scenarios/ping.txt",
            ],
            &[],
        );
        check_files(
            &[module, "docs/modules/gone.md"],
            &[
                "there is no docs/modules/ping.md",
                "there is no tests/scenarios/ping.txt",
                "there is no module `gone`",
            ],
        );
        assert_eq!(check_companions(&[], "").len(), 1);
    }
}
