//! Options that a file may name and that we do not have: each is answered by name, never as "unknown".

use super::path::OptionPath;

/// The options that are known and not there.
#[derive(Debug, Clone, Copy)]
pub struct Catalogue {
    entries: &'static [Entry],
    host_section: &'static str,
}

/// Options of one section, or values of one option, that are known and not there.
///
/// A path is keys with dots between them; `*` stands for any one key, and the elements of an array have the
/// array's path. What is known of an option is known of everything below it.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    section: &'static str,
    names: &'static [&'static str],
    are_values: bool,
    known: Known,
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
    /// Options that will come, with their paths below `section`, which is empty for the root of the file. A
    /// section that is named only here will come as a whole.
    pub const fn not_yet(section: &'static str, names: &'static [&'static str]) -> Self {
        Self::options(section, names, Known::NotYet)
    }

    /// Options that have another place.
    pub const fn moved(
        section: &'static str,
        names: &'static [&'static str],
        to: &'static str,
    ) -> Self {
        Self::options(section, names, Known::Moved(to))
    }

    /// Options that are gone.
    pub const fn removed(
        section: &'static str,
        names: &'static [&'static str],
        instead: &'static str,
    ) -> Self {
        Self::options(section, names, Known::Removed(instead))
    }

    /// Words that will come as values of an option that we have.
    pub const fn values_not_yet(option: &'static str, words: &'static [&'static str]) -> Self {
        Self {
            section: option,
            names: words,
            are_values: true,
            known: Known::NotYet,
        }
    }

    /// Words that are gone, or will never come, as values of an option that we have.
    pub const fn values_removed(
        option: &'static str,
        words: &'static [&'static str],
        instead: &'static str,
    ) -> Self {
        Self {
            section: option,
            names: words,
            are_values: true,
            known: Known::Removed(instead),
        }
    }

    const fn options(section: &'static str, names: &'static [&'static str], known: Known) -> Self {
        Self {
            section,
            names,
            are_values: false,
            known,
        }
    }

    /// What is known of them.
    pub fn known(&self) -> Known {
        self.known
    }

    /// The options: path and, if the entry is about values, the word.
    pub fn options_and_values(&self) -> impl Iterator<Item = (String, Option<&'static str>)> {
        self.names.iter().map(|name| match self.are_values {
            true => (self.section.to_owned(), Some(*name)),
            false => (self.patterns(name).collect::<Vec<_>>().join("."), None),
        })
    }

    fn patterns(&self, name: &'static str) -> impl Iterator<Item = &'static str> + Clone {
        let section = self.section.split('.').filter(|key| !key.is_empty());
        section.chain(name.split('.'))
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
        self.find_option(&path.keys())
    }

    /// What is known of the option that this one repeats for one host type.
    pub(super) fn repeated_option(&self, path: &OptionPath) -> Option<Known> {
        let keys = path.keys();
        self.find_option(self.without_host_section(&keys)?)
    }

    fn find_option(&self, keys: &[&str]) -> Option<Known> {
        let mut is_section = false;
        for entry in self.entries.iter().filter(|entry| !entry.are_values) {
            for name in entry.names {
                let pattern = entry.patterns(name);
                if !is_prefix(keys, pattern.clone()) {
                    continue;
                }
                if pattern.clone().count() == keys.len() {
                    return Some(entry.known);
                }
                // A key in the place of a `*` is of the user's choice, and says nothing.
                is_section |= pattern.clone().nth(keys.len().saturating_sub(1)) != Some("*");
            }
        }
        is_section.then_some(Known::NotYet)
    }

    /// What is known of this word as a value of the option at this path.
    pub(super) fn value(&self, path: &OptionPath, word: &str) -> Option<Known> {
        let keys = path.keys();
        let find = |keys: &[&str]| {
            let mut entries = self.entries.iter();
            let entry = entries.find(|entry| {
                let option = entry.section.split('.');
                entry.are_values
                    && entry.names.contains(&word)
                    && option.clone().count() == keys.len()
                    && is_prefix(keys, option)
            });
            entry.map(Entry::known)
        };
        find(&keys).or_else(|| self.without_host_section(&keys).and_then(find))
    }

    /// The names that are known right below the table at this path, for those who misspell them.
    pub(super) fn names_below(&self, path: &OptionPath) -> Vec<&'static str> {
        let keys = path.keys();
        let keys = self.without_host_section(&keys).unwrap_or(&keys);
        let mut names = Vec::new();
        for entry in self.entries.iter().filter(|entry| !entry.are_values) {
            for name in entry.names {
                let pattern = entry.patterns(name);
                let below = pattern.clone().nth(keys.len());
                names.extend(below.filter(|name| *name != "*" && is_prefix(keys, pattern)));
            }
        }
        names.dedup();
        names
    }
}

/// Whether the pattern is these keys, or something below them.
fn is_prefix<'p>(keys: &[&str], pattern: impl Iterator<Item = &'p str>) -> bool {
    let mut matched = 0;
    for (key, part) in keys.iter().zip(pattern) {
        if part != "*" && part != *key {
            return false;
        }
        matched += 1;
    }
    matched == keys.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CATALOGUE: Catalogue = Catalogue::new(&[
        Entry::not_yet("", &["internal_databases"]),
        Entry::not_yet("modules", &["mod_muc", "mod_mam.pm.backend"]),
        Entry::not_yet("outgoing_pools.*.*", &["strategy"]),
        Entry::moved("listen", &["service"], "`[[listen.component]]`"),
        Entry::values_not_yet("auth.methods", &["ldap", "http"]),
        Entry::not_yet("s2s", &["outgoing.port"]),
    ])
    .with_host_section("host_config");

    #[test]
    fn options_are_known_by_path() {
        let rows = [
            ("modules.mod_muc", Some(Known::NotYet)),
            ("modules.mod_mam", Some(Known::NotYet)),
            ("modules", Some(Known::NotYet)),
            ("modules.mod_mux", None),
            ("host_config[2].modules.mod_muc", None),
            ("outgoing_pools.rdbms.default.strategy", Some(Known::NotYet)),
            ("outgoing_pools.rdbms.strategy", None),
            ("outgoing_pools.rdbms", None),
            (
                "listen.service",
                Some(Known::Moved("`[[listen.component]]`")),
            ),
            ("s2s", Some(Known::NotYet)),
            ("internal_databases", Some(Known::NotYet)),
            ("auth.methods", None),
            ("auth.methods.ldap", None),
        ];
        for (path, expected) in rows {
            let path = OptionPath::default().join(path);
            assert_eq!(CATALOGUE.option(&path), expected, "{path}");
            let repeated = OptionPath::default().join(&format!("host_config[2].{path}"));
            assert_eq!(CATALOGUE.repeated_option(&repeated), expected, "{repeated}");
        }
    }

    #[test]
    fn values_are_known_by_path_and_word() {
        let path = OptionPath::default().join("auth.methods[1]");
        assert_eq!(CATALOGUE.value(&path, "ldap"), Some(Known::NotYet));
        assert_eq!(CATALOGUE.value(&path, "ldab"), None);
        let path = OptionPath::default().join("host_config[0].auth.methods[1]");
        assert_eq!(CATALOGUE.value(&path, "http"), Some(Known::NotYet));
    }

    #[test]
    fn names_below_a_table_are_offered() {
        let names = |path: &str| CATALOGUE.names_below(&OptionPath::default().join(path));
        assert_eq!(names("modules"), ["mod_muc", "mod_mam"]);
        assert_eq!(names("host_config[0].modules"), ["mod_muc", "mod_mam"]);
        assert_eq!(names("outgoing_pools.rdbms.default"), ["strategy"]);
        assert_eq!(names("s2s"), ["outgoing"]);
        assert_eq!(names("general"), [""; 0]);
    }

    #[test]
    fn entries_spell_out_what_they_know() {
        let all: Vec<_> = CATALOGUE
            .entries()
            .flat_map(Entry::options_and_values)
            .collect();
        assert!(all.contains(&("internal_databases".into(), None)));
        assert!(all.contains(&("modules.mod_mam.pm.backend".into(), None)));
        assert!(all.contains(&("auth.methods".into(), Some("ldap"))));
    }
}
