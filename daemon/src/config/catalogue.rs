//! Options that a file may name and that we do not have: each is answered by name, never as "unknown".

use super::path::OptionPath;

/// The options that are known and not there.
///
/// A path is keys with dots between them; `*` stands for any one key, and the elements of an array have
/// the array's path. An entry speaks for everything below it.
#[derive(Debug, Clone, Copy)]
pub struct Catalogue {
    entries: &'static [Entry],
    host_section: &'static str,
}

/// One option, or one value of an option, that is known and not there.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// Where it would stand.
    pub path: &'static str,
    /// The word, if not the option is meant but one of its values.
    pub value: Option<&'static str>,
    /// What is known of it.
    pub known: Known,
}

/// What is known of an option that we do not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// It will come.
    NotYet,
    /// It has another place; the text says which.
    Moved(&'static str),
    /// It is gone, or will never come; the text says what to use instead.
    Removed(&'static str),
}

impl Entry {
    /// An option, a module or a whole section that will come.
    pub const fn not_yet(path: &'static str) -> Self {
        Self {
            path,
            value: None,
            known: Known::NotYet,
        }
    }

    /// A value of an option that we have; the value will come.
    pub const fn value_not_yet(path: &'static str, value: &'static str) -> Self {
        Self {
            path,
            value: Some(value),
            known: Known::NotYet,
        }
    }

    /// An option that has another place.
    pub const fn moved(path: &'static str, to: &'static str) -> Self {
        Self {
            path,
            value: None,
            known: Known::Moved(to),
        }
    }

    /// An option that is gone.
    pub const fn removed(path: &'static str, instead: &'static str) -> Self {
        Self {
            path,
            value: None,
            known: Known::Removed(instead),
        }
    }

    /// A value, of an option that we have, that is gone or will never come.
    pub const fn value_removed(
        path: &'static str,
        value: &'static str,
        instead: &'static str,
    ) -> Self {
        Self {
            path,
            value: Some(value),
            known: Known::Removed(instead),
        }
    }
}

impl Catalogue {
    /// Nothing is known.
    pub const EMPTY: Self = Self::new(&[]);

    /// A catalogue of these.
    pub const fn new(entries: &'static [Entry]) -> Self {
        Self {
            entries,
            host_section: "",
        }
    }

    /// Says that the tables of the array `section` repeat sections of the file for one host type: what is
    /// known of `modules.x` is known of `host_config.modules.x` too.
    pub const fn with_host_section(mut self, section: &'static str) -> Self {
        self.host_section = section;
        self
    }

    /// The entries.
    pub fn entries(&self) -> impl Iterator<Item = &'static Entry> {
        self.entries.iter()
    }

    /// The keys of the path without the host section at its front, if it has one.
    pub(super) fn without_host_section<'a>(&self, keys: &'a [&'a str]) -> Option<&'a [&'a str]> {
        match keys.split_first() {
            Some((first, rest)) if *first == self.host_section && !rest.is_empty() => Some(rest),
            _ => None,
        }
    }

    /// What is known of the option at this path. A section that only has known options is known itself.
    pub(super) fn option(&self, path: &OptionPath) -> Option<Known> {
        let keys = path.keys();
        let find = |keys: &[&str]| {
            debug_assert!(!keys.is_empty(), "the file itself is no option");
            let mut options = self.entries.iter().filter(|entry| entry.value.is_none());
            let exact = options.clone().find(|entry| is_match(entry.path, keys));
            // A key in the place of a `*` is of the user's choice, and says nothing.
            let is_named = |path: &str| path.split('.').nth(keys.len() - 1) != Some("*");
            let mut above =
                || options.any(|entry| is_above(keys, entry.path) && is_named(entry.path));
            match exact {
                Some(entry) => Some(entry.known),
                None => above().then_some(Known::NotYet),
            }
        };
        find(&keys).or_else(|| self.without_host_section(&keys).and_then(find))
    }

    /// What is known of this word as a value of the option at this path.
    pub(super) fn value(&self, path: &OptionPath, word: &str) -> Option<Known> {
        let keys = path.keys();
        let find = |keys: &[&str]| {
            let mut values = self.entries.iter();
            let entry =
                values.find(|entry| entry.value == Some(word) && is_match(entry.path, keys));
            entry.map(|entry| entry.known)
        };
        find(&keys).or_else(|| self.without_host_section(&keys).and_then(find))
    }

    /// The names that are known right below the table at this path, for those who misspell them.
    pub(super) fn names_below(&self, path: &OptionPath) -> Vec<&'static str> {
        let keys = path.keys();
        let keys = self.without_host_section(&keys).unwrap_or(&keys);
        let options = self.entries.iter().filter(|entry| entry.value.is_none());
        let mut names: Vec<&str> = options
            .filter(|entry| is_above(keys, entry.path))
            .filter_map(|entry| entry.path.split('.').nth(keys.len()))
            .filter(|name| *name != "*")
            .collect();
        names.dedup();
        names
    }
}

fn is_match(pattern: &str, keys: &[&str]) -> bool {
    pattern.split('.').count() == keys.len() && is_prefix(keys, pattern)
}

/// Whether something that the pattern means is below the table with these keys.
fn is_above(keys: &[&str], pattern: &str) -> bool {
    pattern.split('.').count() > keys.len() && is_prefix(keys, pattern)
}

fn is_prefix(keys: &[&str], pattern: &str) -> bool {
    let pairs = pattern.split('.').zip(keys);
    pairs
        .into_iter()
        .all(|(part, key)| part == "*" || part == *key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CATALOGUE: Catalogue = Catalogue::new(&[
        Entry::not_yet("modules.mod_muc"),
        Entry::not_yet("outgoing_pools.*.*.strategy"),
        Entry::moved("listen.service", "`[[listen.component]]`"),
        Entry::value_not_yet("auth.methods", "ldap"),
        Entry::not_yet("s2s.outgoing.port"),
    ])
    .with_host_section("host_config");

    #[test]
    fn options_are_known_by_path() {
        let rows = [
            ("modules.mod_muc", Some(Known::NotYet)),
            ("modules", Some(Known::NotYet)),
            ("modules.mod_mux", None),
            ("host_config[2].modules.mod_muc", Some(Known::NotYet)),
            ("outgoing_pools.rdbms.default.strategy", Some(Known::NotYet)),
            ("outgoing_pools.rdbms.strategy", None),
            (
                "listen.service",
                Some(Known::Moved("`[[listen.component]]`")),
            ),
            ("s2s", Some(Known::NotYet)),
            ("auth.methods", None),
        ];
        for (path, expected) in rows {
            let path = OptionPath::default().join(path);
            assert_eq!(CATALOGUE.option(&path), expected, "{path}");
        }
    }

    #[test]
    fn values_are_known_by_path_and_word() {
        let path = OptionPath::default().join("auth.methods[1]");
        assert_eq!(CATALOGUE.value(&path, "ldap"), Some(Known::NotYet));
        assert_eq!(CATALOGUE.value(&path, "ldab"), None);
        let path = OptionPath::default().join("host_config[0].auth.methods[1]");
        assert_eq!(CATALOGUE.value(&path, "ldap"), Some(Known::NotYet));
    }

    #[test]
    fn names_below_a_table_are_offered() {
        let names = |path: &str| CATALOGUE.names_below(&OptionPath::default().join(path));
        assert_eq!(names("modules"), ["mod_muc"]);
        assert_eq!(names("host_config[0].modules"), ["mod_muc"]);
        assert_eq!(names("outgoing_pools.rdbms.default"), ["strategy"]);
        assert_eq!(names("s2s"), ["outgoing"]);
        assert_eq!(names("general"), [""; 0]);
    }
}
