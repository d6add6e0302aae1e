//! What the node remembers of privacy lists: those it has read, and which session has chosen one (XEP-0016).
//!
//! **Lists** are remembered by account, also that an account has none, in [`CACHE_BYTES_MAX`] altogether; what does not
//! fit takes the place of something else, which is read again. A change forgets the account's lists after its commit
//! and before anybody is told. Who reads meanwhile notes the generation of the shard first, so that what was read before
//! a change is not remembered after it.
//!
//! **Sessions** are said to be unrestricted under the lock of the shard, where nothing can come in between.
use std::sync::Arc;

use ahash::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;
use protocol::BareJid;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use super::list::List;
use crate::outlet::{Flag, SessionRef};

const SHARDS: usize = 64;
/// Bytes of all lists that are remembered.
pub const CACHE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bytes that are counted for each entry beside its name and list.
const ENTRY_BYTES: usize = 64;
/// Stands between account and name; no address has it.
const SEPARATOR: char = '\n';

/// What the node remembers.
pub(super) struct Known {
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
    turns: Box<[Arc<AsyncMutex<()>>]>,
}

#[derive(Default)]
struct Shard {
    /// By account for its default list, by account and name for others; `None`: there is no such list.
    lists: HashMap<Box<str>, Option<Arc<List>>, RandomState>,
    bytes: usize,
    /// Rises with each change.
    generation: u64,
    /// By full address.
    active: HashMap<Box<str>, Active, RandomState>,
}

/// A session's own choice.
struct Active {
    session: u64,
    name: Arc<str>,
}

/// When something was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Generation(u64);

impl Known {
    pub(super) fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            turns: (0..SHARDS).map(|_| Arc::default()).collect(),
        }
    }

    fn index(&self, account: &str) -> usize {
        usize::try_from(self.hasher.hash_one(account) >> 48).unwrap_or(0) % SHARDS
    }

    fn shard(&self, account: &str) -> &Mutex<Shard> {
        let index = self.index(account);
        self.shards.get(index).expect("the index is below SHARDS")
    }

    /// The turn to change the account's lists, or to tell a client of them: pushes come in the order of changes.
    pub(super) async fn turn(&self, account: &BareJid) -> OwnedMutexGuard<()> {
        let turn = self.turns.get(self.index(account.as_str()));
        let turn = turn.expect("the index is below SHARDS").clone();
        turn.lock_owned().await
    }

    // ---- lists

    /// A list by its name, or the default list, if that is remembered; and when the caller begins to read it.
    pub(super) fn find(
        &self,
        account: &str,
        name: Option<&str>,
    ) -> (Option<Option<Arc<List>>>, Generation) {
        let shard = self.shard(account).lock();
        let found = match name {
            None => shard.lists.get(account),
            Some(name) => shard.lists.get(&*key(account, Some(name))),
        };
        (found.cloned(), Generation(shard.generation))
    }

    /// Remembers what was read, unless it may have changed since.
    pub(super) fn remember(
        &self,
        account: &str,
        name: Option<&str>,
        list: Option<Arc<List>>,
        read_at: Generation,
    ) {
        let mut shard = self.shard(account).lock();
        if shard.generation == read_at.0 {
            shard.insert(key(account, name), list);
        }
    }

    /// The account's lists have changed.
    pub(super) fn forget(&self, account: &str) {
        let mut shard = self.shard(account).lock();
        shard.generation += 1;
        let Shard { lists, bytes, .. } = &mut *shard;
        lists.retain(|key, list| {
            let of = key.split(SEPARATOR).next();
            let is_kept = of != Some(account);
            if !is_kept {
                *bytes = bytes.saturating_sub(weight(key, list.as_deref()));
            }
            is_kept
        });
    }

    /// The account turned out to have no default list.
    pub(super) fn forget_default(&self, account: &str) {
        self.shard(account).lock().remove(account);
    }

    // ---- sessions

    /// Says that nothing restricts the session, as its account had no default list at that time, if so it still is.
    pub(super) fn settle(&self, session: &SessionRef, read_at: Generation) {
        let shard = self.shard(session.jid().bare_str()).lock();
        let is_same = shard.generation == read_at.0;
        if is_same && !shard.active.contains_key(session.jid().as_str()) {
            session.set(Flag::Unrestricted);
        }
    }

    /// Lets a session have a list of its own, or go by the account's.
    pub(super) fn set_active(&self, session: &SessionRef, name: Option<&str>) {
        let mut shard = self.shard(session.jid().bare_str()).lock();
        let jid = session.jid().as_str();
        match name {
            None => _ = shard.active.remove(jid),
            Some(name) => {
                let active = Active {
                    session: session.id(),
                    name: name.into(),
                };
                shard.active.insert(jid.into(), active);
            }
        }
        session.clear(Flag::Unrestricted);
    }

    /// The list that the session has chosen.
    pub(super) fn active(&self, session: &SessionRef) -> Option<Arc<str>> {
        let shard = self.shard(session.jid().bare_str()).lock();
        let active = shard.active.get(session.jid().as_str())?;
        Some(active.name.clone())
    }

    /// The choice of another session of this address, which has ended, is not this one's.
    pub(super) fn begin(&self, session: &SessionRef) {
        self.drop_active(session, |active| active.session != session.id());
    }

    /// The session has ended.
    pub(super) fn end(&self, session: &SessionRef) {
        self.drop_active(session, |active| active.session == session.id());
    }

    fn drop_active(&self, session: &SessionRef, is_over: impl Fn(&Active) -> bool) {
        let mut shard = self.shard(session.jid().bare_str()).lock();
        let jid = session.jid().as_str();
        if shard.active.get(jid).is_some_and(is_over) {
            shard.active.remove(jid);
        }
    }

    /// How many lists are remembered, and choices.
    #[cfg(test)]
    pub(super) fn len(&self) -> (usize, usize) {
        let shards = self.shards.iter().map(|shard| shard.lock());
        shards.fold((0, 0), |(lists, active), shard| {
            (lists + shard.lists.len(), active + shard.active.len())
        })
    }
}

impl Shard {
    fn insert(&mut self, key: Box<str>, list: Option<Arc<List>>) {
        self.remove(&key);
        let bytes = weight(&key, list.as_deref());
        while self.bytes + bytes > CACHE_BYTES_MAX / SHARDS
            && let Some(any) = self.lists.keys().next().cloned()
        {
            self.remove(&any);
        }
        self.bytes += bytes;
        self.lists.insert(key, list);
    }

    fn remove(&mut self, key: &str) {
        if let Some(list) = self.lists.remove(key) {
            self.bytes = self.bytes.saturating_sub(weight(key, list.as_deref()));
        }
    }
}

fn key(account: &str, name: Option<&str>) -> Box<str> {
    match name {
        None => account.into(),
        Some(name) => format!("{account}{SEPARATOR}{name}").into(),
    }
}

fn weight(key: &str, list: Option<&List>) -> usize {
    key.len() + ENTRY_BYTES + list.map_or(0, List::bytes)
}

#[cfg(test)]
mod tests;
