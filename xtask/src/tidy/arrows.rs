//! Who may import whom: between crates, and between the parts of `server`. ARCHITECTURE.md draws the same picture.
use super::Finding;

/// A crate of ours and what it may depend on, of ours.
const CRATES: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("monitoring", &[]),
    ("fuzz", &["protocol"]),
    ("daemon", &["monitoring"]),
    ("transport", &["protocol"]),
    ("server", &["protocol", "transport", "daemon", "monitoring"]),
    (
        "tests",
        &["protocol", "transport", "daemon", "monitoring", "server"],
    ),
    ("xtask", &[]),
];

/// A crate of others that only some of ours may name, and why.
const GUARDED: &[(&str, &[&str], &str)] = &[
    (
        "rustls",
        &["transport"],
        "TLS stands behind `transport::TlsRecords`; others take `tokio-rustls`",
    ),
    (
        "quick-xml",
        &["protocol"],
        "there is one XML reader, `protocol::xml`",
    ),
    ("sqlx", &["server"], "only the node stores"),
    ("axum", &["monitoring", "server"], "only what serves HTTP"),
    (
        "tokio",
        &["transport", "daemon", "monitoring", "server", "tests"],
        "`protocol` does no I/O",
    ),
];

/// A part of `server` and the parts that it must not name, with the reason.
const PARTS: &[(&[&str], &[&str], &str)] = &[
    (
        &["modules"],
        &["c2s", "listen", "api", "node", "config"],
        "a module knows hooks, IQ handlers, stores and the router, not who feeds them",
    ),
    (
        &["c2s"],
        &["modules", "listen", "api", "node", "config"],
        "a session runs hooks; it never names a module",
    ),
    (
        &["listen", "component"],
        &["modules", "api", "node", "config"],
        "a listener hands sockets to sessions and components",
    ),
    (
        &["api"],
        &["listen", "node", "config"],
        "the admin schema names the modules that have commands; only the node knows all parts",
    ),
    (
        &["host"],
        &["modules", "c2s", "listen", "api", "node", "config"],
        "the node hands `modules::start_all` to the host",
    ),
    (
        &["router"],
        &["modules", "listen", "api", "node", "config"],
        "the router knows hooks, hosts, cluster and outlets",
    ),
    (
        &["storage", "cluster", "hooks", "iq", "outlet", "auth"],
        &["modules", "listen", "api", "node", "config"],
        "what others stand on does not know them",
    ),
];

/// What others may take all the same: of `c2s` the scope that events of sessions hand to a handler, and the settings that
/// a module leaves for sessions; of `api` what commands are made of.
const OPEN: &[&str] = &["c2s::session", "c2s::resume", "api::terms"];

/// `tree` is the output of `cargo tree` at depth 1, each line `<depth> <name> v<version> (…)`.
pub(super) fn check_crates(tree: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut crate_name = "";
    for line in tree.lines() {
        let mut words = line.split_whitespace();
        let (Some(depth), Some(name)) = (words.next(), words.next()) else {
            continue;
        };
        if depth == "0" {
            crate_name = name;
            if !CRATES.iter().any(|(known, _)| *known == name) {
                findings.push(manifest_finding(
                    name,
                    "has no row in the table of imports (xtask/src/tidy/arrows.rs)",
                ));
            }
            continue;
        }
        let allowed = CRATES
            .iter()
            .find(|(known, _)| *known == crate_name)
            .map_or(&[][..], |(_, allowed)| *allowed);
        let is_ours = CRATES.iter().any(|(known, _)| *known == name);
        if is_ours && !allowed.contains(&name) {
            findings.push(manifest_finding(
                crate_name,
                &format!("must not depend on `{name}`"),
            ));
        }
        if let Some((_, users, why)) = GUARDED.iter().find(|(guarded, ..)| *guarded == name)
            && !users.contains(&crate_name)
        {
            findings.push(manifest_finding(
                crate_name,
                &format!("must not depend on `{name}`: {why}"),
            ));
        }
    }
    findings
}

fn manifest_finding(crate_name: &str, message: &str) -> Finding {
    Finding::new(
        &format!("{crate_name}/Cargo.toml"),
        0,
        format!("`{crate_name}` {message}"),
    )
}

/// Looks at the paths `crate::…` in one file of `server`.
pub(super) fn check_module(path: &str, text: &str) -> Vec<Finding> {
    let Some(inner) = path.strip_prefix("server/src/") else {
        return Vec::new();
    };
    let part = inner
        .split('/')
        .next()
        .unwrap_or_default()
        .trim_end_matches(".rs");
    let mut findings = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        for named in named_parts(code) {
            for (parts, forbidden, why) in PARTS {
                let target = named.split("::").next().unwrap_or_default();
                let is_open = OPEN.iter().any(|open| named.starts_with(open));
                if parts.contains(&part) && forbidden.contains(&target) && !is_open {
                    let message = format!("`{part}` must not import `{target}`: {why}");
                    findings.push(Finding::new(path, number + 1, message));
                }
            }
        }
    }
    findings
}

/// The first two segments behind every `crate::` on a line; `use crate::{a, b::c}` gives both.
fn named_parts(code: &str) -> Vec<String> {
    let mut named = Vec::new();
    for (index, _) in code.match_indices("crate::") {
        let rest = &code[index + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(list) => {
                // Only what stands at the first level of the braces is a part.
                let mut depth = 0_i32;
                let mut item = String::new();
                for c in list.chars() {
                    match c {
                        '{' => depth += 1,
                        '}' if depth == 0 => break,
                        '}' => depth -= 1,
                        ',' if depth == 0 => named.push(std::mem::take(&mut item)),
                        c if depth == 0 && !c.is_whitespace() => item.push(c),
                        _ => {}
                    }
                }
                named.push(item);
            }
            None => {
                let end = rest
                    .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
                    .unwrap_or(rest.len());
                named.push(rest[..end].to_owned());
            }
        }
    }
    named
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(findings: &[Finding]) -> Vec<&str> {
        findings
            .iter()
            .map(|finding| finding.message.as_str())
            .collect()
    }

    #[test]
    fn arrows_between_crates_point_one_way() {
        let tree = "0 protocol v0.1.0 (/src/protocol)\n1 quick-xml v0.42.0\n1 tokio v1.54.0\n\n\
                    0 server v0.1.0 (/src/server)\n1 protocol v0.1.0 (/src/protocol)\n1 rustls v0.23.46\n\
                    0 transport v0.1.0 (/src/transport)\n1 daemon v0.1.0 (/src/daemon)\n1 rustls v0.23.46\n\
                    0 utils v0.1.0 (/src/utils)\n";
        assert_eq!(
            messages(&check_crates(tree)),
            [
                "`protocol` must not depend on `tokio`: `protocol` does no I/O",
                "`server` must not depend on `rustls`: TLS stands behind `transport::TlsRecords`; others take `tokio-rustls`",
                "`transport` must not depend on `daemon`",
                "`utils` has no row in the table of imports (xtask/src/tidy/arrows.rs)",
            ]
        );
    }

    fn check(path: &str, text: &str, expected: &[&str]) {
        let findings = check_module(path, text);
        let targets: Vec<&str> = findings
            .iter()
            .map(|f| f.message.split('`').nth(3).unwrap())
            .collect();
        assert_eq!(targets, expected, "{path}: {text}");
    }

    #[test]
    fn arrows_inside_the_server_point_one_way() {
        check(
            "server/src/modules/roster.rs",
            "use crate::hooks::Handle;",
            &[],
        );
        check(
            "server/src/modules/roster.rs",
            "use crate::c2s::session::Session;",
            &[],
        );
        check(
            "server/src/modules/roster/store.rs",
            "use crate::c2s::negotiate::Step;",
            &["c2s"],
        );
        check(
            "server/src/c2s.rs",
            "use crate::{hooks, modules::roster, listen::{a, b}};",
            &["modules", "listen"],
        );
        check(
            "server/src/c2s/session.rs",
            "    crate::modules::roster::get()",
            &["modules"],
        );
        check(
            "server/src/storage.rs",
            "use crate::config::Config; // crate::node",
            &["config"],
        );
        check(
            "server/src/node.rs",
            "use crate::{config::Config, modules};",
            &[],
        );
        check("transport/src/lib.rs", "use crate::modules;", &[]);
    }
}
