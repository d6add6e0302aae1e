//! What `Cargo.lock` may hold: at most 360 packages, nothing that `deny.toml` refuses. The same table serves
//! cargo-deny; this needs neither the tool nor the network.
use super::Finding;

/// A dependency is code we answer for; past this number nobody reads what changes.
const PACKAGES_MAX: usize = 360;

pub(super) fn check(lock: &str, deny: &str) -> Vec<Finding> {
    let packages = packages(lock);
    let mut findings = Vec::new();
    if packages.len() > PACKAGES_MAX {
        let message = format!(
            "{} packages; at most {PACKAGES_MAX} are allowed",
            packages.len()
        );
        findings.push(Finding::new("Cargo.lock", 0, message));
    }
    let bans = bans(deny);
    if bans.is_empty() {
        findings.push(Finding::new(
            "deny.toml",
            0,
            "no `{ crate = … }` entries found: the check would be void",
        ));
    }
    for ban in &bans {
        for (name, version) in packages.iter().filter(|(name, _)| *name == ban.name) {
            let is_refused = ban
                .below
                .is_none_or(|minimum| parse_version(version) < parse_version(minimum));
            if is_refused {
                let message = match ban.below {
                    Some(minimum) => {
                        format!("{name} {version} is older than {minimum}: {}", ban.reason)
                    }
                    None => format!("{name} is refused: {}", ban.reason),
                };
                findings.push(Finding::new("Cargo.lock", 0, message));
            }
        }
    }
    findings
}

struct Ban<'a> {
    name: &'a str,
    /// Versions below this one are refused; every version if there is none.
    below: Option<&'a str>,
    reason: &'a str,
}

/// Lines of the form `{ crate = "name:<1.2.3", reason = "…" }`.
fn bans(deny: &str) -> Vec<Ban<'_>> {
    let lines = deny
        .lines()
        .filter_map(|line| line.trim().strip_prefix("{ crate = \""));
    lines
        .filter_map(|line| {
            let (spec, rest) = line.split_once('"')?;
            let reason = rest
                .split_once("reason = \"")
                .and_then(|(_, reason)| reason.split_once('"'));
            let (name, below) = match spec.split_once(":<") {
                Some((name, below)) => (name, Some(below)),
                None => (spec, None),
            };
            Some(Ban {
                name,
                below,
                reason: reason.map_or("", |(reason, _)| reason),
            })
        })
        .collect()
}

fn packages(lock: &str) -> Vec<(&str, &str)> {
    let mut packages = Vec::new();
    let mut name = "";
    for line in lock.lines() {
        if let Some(value) = line.strip_prefix("name = ") {
            name = value.trim_matches('"');
        } else if let Some(value) = line.strip_prefix("version = ").filter(|_| !name.is_empty()) {
            packages.push((name, value.trim_matches('"')));
            name = "";
        }
    }
    packages
}

/// Numbers of a version; a pre-release counts as older than its release, which is the careful reading.
fn parse_version(version: &str) -> (Vec<u64>, bool) {
    let version = version.split('+').next().unwrap_or_default();
    let (numbers, pre_release) = version
        .split_once('-')
        .map_or((version, false), |(numbers, _)| (numbers, true));
    let mut numbers: Vec<u64> = numbers
        .split('.')
        .map(|number| number.parse().unwrap_or(0))
        .collect();
    numbers.resize(3, 0);
    (numbers, !pre_release)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DENY: &str = "deny = [\n  { crate = \"openssl-sys\", reason = \"one TLS library\" },\n  \
        { crate = \"quick-xml:<0.41\", reason = \"RUSTSEC-2026-0194\" },\n]\n";

    fn lock(packages: &[(&str, &str)]) -> String {
        let mut lock = "version = 4\n".to_owned();
        for (name, version) in packages {
            lock += &format!("\n[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n");
        }
        lock
    }

    fn check_lock(packages: &[(&str, &str)], expected: &[&str]) {
        let findings = check(&lock(packages), DENY);
        let messages: Vec<&str> = findings
            .iter()
            .map(|finding| finding.message.as_str())
            .collect();
        assert_eq!(messages, expected);
    }

    #[test]
    fn old_and_refused_versions_are_found() {
        check_lock(&[("quick-xml", "0.42.0"), ("serde", "1.0.0")], &[]);
        check_lock(&[("quick-xml", "0.41.0")], &[]);
        check_lock(
            &[("quick-xml", "0.40.9")],
            &["quick-xml 0.40.9 is older than 0.41: RUSTSEC-2026-0194"],
        );
        check_lock(
            &[("quick-xml", "0.41.0-rc1")],
            &["quick-xml 0.41.0-rc1 is older than 0.41: RUSTSEC-2026-0194"],
        );
        check_lock(
            &[("openssl-sys", "0.9.1")],
            &["openssl-sys is refused: one TLS library"],
        );
    }

    #[test]
    fn versions_compare_by_number() {
        assert!(parse_version("0.9.10") > parse_version("0.9.9"));
        assert!(parse_version("1.0.0") > parse_version("1.0.0-beta"));
        assert!(parse_version("0.4.16+build") == parse_version("0.4.16"));
    }

    #[test]
    fn the_number_of_packages_is_limited() {
        let many: Vec<(String, &str)> = (0..=PACKAGES_MAX)
            .map(|i| (format!("p{i}"), "1.0.0"))
            .collect();
        let many: Vec<(&str, &str)> = many
            .iter()
            .map(|(name, version)| (name.as_str(), *version))
            .collect();
        check_lock(&many, &["361 packages; at most 360 are allowed"]);
    }

    #[test]
    fn an_empty_table_is_a_finding() {
        assert_eq!(check(&lock(&[]), "deny = []").len(), 1);
    }
}
