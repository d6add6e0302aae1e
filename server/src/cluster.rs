//! The session table: which sessions does an account have, and where.
//!
//! One node for now; the table is sharded by account, so that a look-up takes a short lock of its shard only.
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use ahash::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;
use protocol::JidRef;

use crate::outlet::{Flag, SessionRef};

const SHARDS: usize = 64;

/// Sessions of one account: nearly always one.
enum Account {
    One(SessionRef),
    Many(Vec<SessionRef>),
}

impl Account {
    fn as_slice(&self) -> &[SessionRef] {
        match self {
            Self::One(session) => std::slice::from_ref(session),
            Self::Many(sessions) => sessions,
        }
    }

    /// Lets each session know whether it is alone, so that what it sends need not look into the table.
    fn tell_sessions(&self) {
        match self {
            Self::One(session) => session.clear(Flag::Accompanied),
            Self::Many(sessions) => sessions.iter().for_each(|session| {
                session.set(Flag::Accompanied);
            }),
        }
    }
}

type Shard = Mutex<HashMap<Box<str>, Account, RandomState>>;

/// All bound sessions of this node.
pub struct Sessions {
    hasher: RandomState,
    shards: Vec<Shard>,
    next_id: AtomicU64,
    count: AtomicUsize,
}

/// Sessions that had to give way to a new one: they are out of the table and have to be closed.
#[derive(Default)]
pub struct Displaced {
    /// Had the same full address.
    pub replaced: Option<SessionRef>,
    /// Was the oldest of an account that had as many as it may have.
    pub evicted: Option<SessionRef>,
}

impl Default for Sessions {
    fn default() -> Self {
        let hasher = RandomState::new();
        let shards = (0..SHARDS)
            .map(|_| Mutex::new(HashMap::with_hasher(hasher.clone())))
            .collect();
        Self {
            hasher,
            shards,
            next_id: AtomicU64::new(1),
            count: AtomicUsize::new(0),
        }
    }
}

impl Sessions {
    /// An id for a new connection, unique on this node.
    pub fn next_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    /// Bound sessions.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn shard(&self, bare: &str) -> &Shard {
        let hash = usize::try_from(self.hasher.hash_one(bare) >> 48).unwrap_or(0);
        self.shards
            .get(hash % SHARDS)
            .expect("the index is below SHARDS")
    }

    /// Puts a session into the table. A session with the same full address is replaced: the newest wins
    /// (RFC 6120 section 7.7.2.2). Above `sessions_max` the oldest has to go.
    pub fn add(&self, session: &SessionRef, sessions_max: usize) -> Displaced {
        let bare = session.jid().bare_str();
        let mut shard = self.shard(bare).lock();
        let Some(account) = shard.get_mut(bare) else {
            shard.insert(bare.into(), Account::One(session.clone()));
            self.count.fetch_add(1, Ordering::Relaxed);
            return Displaced::default();
        };
        let mut displaced = Displaced::default();
        let mut sessions: Vec<_> = account.as_slice().to_vec();
        if let Some(index) = sessions
            .iter()
            .position(|other| other.jid() == session.jid())
        {
            displaced.replaced = Some(sessions.swap_remove(index));
        } else if sessions.len() >= sessions_max.max(1) {
            let oldest = (0..sessions.len()).min_by_key(|index| sessions[*index].id());
            displaced.evicted = oldest.map(|index| sessions.swap_remove(index));
        } else {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        sessions.push(session.clone());
        *account = match sessions.len() {
            1 => Account::One(session.clone()),
            _ => Account::Many(sessions),
        };
        account.tell_sessions();
        displaced
    }

    /// Takes a session out. `false` if it is not there any more (replaced).
    pub fn remove(&self, session: &SessionRef) -> bool {
        let bare = session.jid().bare_str();
        let mut shard = self.shard(bare).lock();
        let Some(account) = shard.get_mut(bare) else {
            return false;
        };
        let mut sessions: Vec<_> = account.as_slice().to_vec();
        let before = sessions.len();
        sessions.retain(|other| !std::sync::Arc::ptr_eq(other, session));
        if sessions.len() == before {
            return false;
        }
        match sessions.len() {
            0 => {
                shard.remove(bare);
            }
            1 => {
                *account = Account::One(sessions.remove(0));
                account.tell_sessions();
            }
            _ => *account = Account::Many(sessions),
        }
        self.count.fetch_sub(1, Ordering::Relaxed);
        true
    }

    /// Puts a resumed session in the place of its predecessor. `false` if that is gone.
    pub fn replace(&self, old: &SessionRef, new: &SessionRef) -> bool {
        let bare = old.jid().bare_str();
        let mut shard = self.shard(bare).lock();
        let Some(account) = shard.get_mut(bare) else {
            return false;
        };
        let slot = match account {
            Account::One(session) => Some(session),
            Account::Many(sessions) => sessions
                .iter_mut()
                .find(|other| std::sync::Arc::ptr_eq(other, old)),
        };
        match slot {
            Some(slot) if std::sync::Arc::ptr_eq(slot, old) => {
                *slot = new.clone();
            }
            _ => return false,
        }
        account.tell_sessions();
        true
    }

    /// Runs `f` on the account's sessions under the shard's lock: `f` must not wait nor look into this table.
    pub fn with_account<T>(&self, bare: &str, f: impl FnOnce(&[SessionRef]) -> T) -> T {
        let shard = self.shard(bare).lock();
        f(shard.get(bare).map_or(&[], Account::as_slice))
    }

    /// The only session, without an allocation, or all of them.
    pub fn of_account(&self, bare: &str) -> Vec<SessionRef> {
        self.with_account(bare, <[SessionRef]>::to_vec)
    }

    /// The session bound to that full address.
    pub fn find(&self, jid: JidRef<'_>) -> Option<SessionRef> {
        self.with_account(jid.bare_str(), |sessions| {
            sessions
                .iter()
                .find(|session| session.jid().as_str() == jid.as_str())
                .cloned()
        })
    }

    /// Every bound session, shard by shard, for drains and sweeps.
    pub fn all(&self) -> Vec<SessionRef> {
        let mut all = Vec::with_capacity(self.count());
        for shard in &self.shards {
            let shard = shard.lock();
            all.extend(
                shard
                    .values()
                    .flat_map(|account| account.as_slice().iter().cloned()),
            );
        }
        all
    }

    /// Sessions of one shard, for a sweep that looks at a part at a time.
    pub fn shard_sessions(&self, index: usize) -> Vec<SessionRef> {
        self.shards
            .get(index % SHARDS)
            .map_or_else(Vec::new, |shard| {
                shard
                    .lock()
                    .values()
                    .flat_map(|account| account.as_slice().iter().cloned())
                    .collect()
            })
    }
}
