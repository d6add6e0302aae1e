//! What clients can do, by the names that they have for it, shared by all.
//!
//! Names are verified, so whoever has the same name can do the same: nobody can put something under somebody else's.
use std::sync::Arc;

use ahash::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;
use protocol::caps::Name;
use protocol::{Element, ns};

/// Bytes of what is known, twice: as many newer as older ones, and then the older ones are forgotten. Whoever comes
/// with one of those is asked again.
pub const KNOWN_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Accounts that are asked for the same name at a time: one of them may be silent, or lie.
pub const ASKED_AT_ONCE_MAX: usize = 8;
/// Names that one account is asked for at a time; it has about as many clients.
pub const ASKED_OF_ACCOUNT_MAX: usize = 10;

/// What a client can do: the features that it names.
#[derive(Debug, PartialEq, Eq)]
pub struct Abilities(Box<[Box<str>]>);

impl Abilities {
    /// What an answer to disco#info says.
    pub fn of_answer(query: &Element) -> Self {
        let features = query
            .elements()
            .filter(|child| child.is("feature", ns::DISCO_INFO));
        let mut all: Vec<Box<str>> = features
            .filter_map(|feature| feature.attr("var").map(Into::into))
            .collect();
        all.sort_unstable();
        all.dedup();
        Self(all.into())
    }

    /// Whether the client names that feature.
    pub fn has(&self, feature: &str) -> bool {
        let found = self.0.binary_search_by(|known| (**known).cmp(feature));
        found.is_ok()
    }

    fn bytes(&self) -> usize {
        let texts: usize = self.0.iter().map(|feature| feature.len()).sum();
        texts + size_of_val(&*self.0)
    }
}

/// What is known, and who is being asked.
#[derive(Debug, Default)]
pub struct Known {
    book: Mutex<Book>,
    asked: Mutex<Asked>,
}

/// Accounts that are being asked, by what for, and how often each.
#[derive(Debug, Default)]
struct Asked {
    by_name: HashMap<Name, Vec<Box<str>>, RandomState>,
    by_account: HashMap<Box<str>, usize, RandomState>,
}

#[derive(Debug, Default)]
struct Book {
    newer: HashMap<Name, Arc<Abilities>, RandomState>,
    older: HashMap<Name, Arc<Abilities>, RandomState>,
    newer_bytes: usize,
}

/// An account is being asked for a name as long as this is there.
#[derive(Debug)]
pub struct Turn {
    known: Arc<Known>,
    name: Name,
    account: Box<str>,
}

impl Known {
    /// What is known by that name.
    pub fn find(&self, name: &Name) -> Option<Arc<Abilities>> {
        let mut book = self.book.lock();
        if let Some(found) = book.newer.get(name) {
            return Some(found.clone());
        }
        let found = book.older.remove(name)?;
        book.insert(name.clone(), found.clone());
        Some(found)
    }

    /// Keeps what was verified.
    pub fn insert(&self, name: Name, abilities: Abilities) {
        self.book.lock().insert(name, Arc::new(abilities));
    }

    /// The right to ask a client of that account; `None` if it is known, or enough are being asked.
    pub fn turn(self: &Arc<Self>, name: &Name, account: &str) -> Option<Turn> {
        if self.find(name).is_some() {
            return None;
        }
        let mut asked = self.asked.lock();
        let accounts = asked.by_name.get(name).map_or(&[][..], Vec::as_slice);
        let of_account = asked.by_account.get(account).copied().unwrap_or(0);
        if accounts.len() >= ASKED_AT_ONCE_MAX
            || accounts.iter().any(|other| **other == *account)
            || of_account >= ASKED_OF_ACCOUNT_MAX
        {
            return None;
        }
        let accounts = asked.by_name.entry(name.clone()).or_default();
        accounts.push(account.into());
        asked.by_account.insert(account.into(), of_account + 1);
        Some(Turn {
            known: self.clone(),
            name: name.clone(),
            account: account.into(),
        })
    }
}

#[cfg(test)]
impl Known {
    /// Whether nobody is being asked.
    pub(super) fn is_idle(&self) -> bool {
        let asked = self.asked.lock();
        asked.by_name.is_empty() && asked.by_account.is_empty()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut asked = self.known.asked.lock();
        if let Some(accounts) = asked.by_name.get_mut(&self.name) {
            accounts.retain(|account| *account != self.account);
            if accounts.is_empty() {
                asked.by_name.remove(&self.name);
            }
        }
        if let Some(count) = asked.by_account.get_mut(&self.account) {
            *count -= 1;
            if *count == 0 {
                asked.by_account.remove(&self.account);
            }
        }
    }
}

impl Book {
    fn insert(&mut self, name: Name, abilities: Arc<Abilities>) {
        let entry = size_of::<(Name, Arc<Abilities>)>() + name.digest.len();
        let bytes = entry + abilities.bytes();
        if self.newer_bytes + bytes > KNOWN_BYTES_MAX {
            self.older = std::mem::take(&mut self.newer);
            self.newer_bytes = 0;
        }
        if self.newer.insert(name, abilities).is_none() {
            self.newer_bytes += bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::caps::{HashName, Version};

    use super::*;

    fn name(digest: &str) -> Name {
        Name {
            version: Version::V1,
            hash: HashName::Sha1,
            digest: digest.into(),
        }
    }

    fn abilities(features: &[&str]) -> Abilities {
        let mut query = Element::new("query", ns::DISCO_INFO);
        for feature in features {
            query.push(Element::new("feature", ns::DISCO_INFO).with_attr("var", feature));
        }
        Abilities::of_answer(&query)
    }

    #[test]
    fn a_client_can_do_what_it_names() {
        let can = abilities(&["b", "a", "c+notify", "a"]);
        for (feature, expected) in [("a", true), ("c+notify", true), ("c", false), ("", false)] {
            assert_eq!(can.has(feature), expected, "{feature}");
        }
    }

    #[test]
    fn what_is_known_is_bounded_and_what_is_used_stays() {
        let known = Known::default();
        let long = "f".repeat(10_000);
        known.insert(name("used"), abilities(&["used"]));
        for number in 0..3 * KNOWN_BYTES_MAX / long.len() {
            known.insert(name(&number.to_string()), abilities(&[&long]));
            assert!(known.find(&name("used")).is_some(), "{number}");
        }
        assert!(known.find(&name("0")).is_none());
        let book = known.book.lock();
        let count = book.newer.len() + book.older.len();
        assert!(count * long.len() <= 2 * KNOWN_BYTES_MAX, "{count}");
    }

    #[test]
    fn an_account_is_asked_once_and_a_silent_one_keeps_nobody_from_being_asked() {
        let known = Arc::new(Known::default());
        let turn = known.turn(&name("1"), "a@b").unwrap();
        assert!(known.turn(&name("1"), "a@b").is_none());
        let other = known.turn(&name("1"), "c@b").unwrap();
        drop(turn);
        let turns: Vec<Turn> = (0..100)
            .filter_map(|number| known.turn(&name("1"), &number.to_string()))
            .collect();
        assert_eq!(turns.len(), ASKED_AT_ONCE_MAX - 1);
        known.insert(name("1"), abilities(&[]));
        drop(turns);
        assert!(known.turn(&name("1"), "a@b").is_none(), "it is known");
        drop(other);
        let names: Vec<Turn> = (10..100)
            .filter_map(|number| known.turn(&name(&number.to_string()), "a@b"))
            .collect();
        assert_eq!(names.len(), ASKED_OF_ACCOUNT_MAX);
        drop(names);
        assert!(known.is_idle());
    }
}
