//! How fast an account may make the server send presence to others.
//!
//! A change of presence goes to every contact and every resource of theirs, so a client that sends a hundred a second
//! would be multiplied by a thousand. Changes above [`CHANGES_BURST`] are told [`CHANGE_MS`] apart, and of those that
//! wait only the newest is told. Subscription requests, by which strangers bother people, are refused above their limit.
use std::hash::Hash;

use ahash::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;

/// Changes of presence that a session may make at once.
pub const CHANGES_BURST: u64 = 10;
/// Milliseconds between two changes after that.
pub const CHANGE_MS: u64 = 1_000;
/// Subscription requests that an account may send at once.
pub const REQUESTS_BURST: u64 = 30;
/// Milliseconds in which it gains another one: thirty an hour.
pub const REQUEST_MS: u64 = 120_000;
/// Buckets above which those that are full again are forgotten, at the least.
const BUCKETS_MIN: usize = 1_024;

/// What a session may do with a change of its presence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Tell it.
    Now,
    /// Wait so many milliseconds and tell what holds then.
    After(u64),
    /// Nothing: somebody waits already and will tell it.
    Covered,
}

/// Changes of presence, by session.
#[derive(Default)]
pub struct Changes(Mutex<ChangesState>);

#[derive(Default)]
struct ChangesState {
    buckets: Buckets<u64>,
    /// Sessions for which somebody waits.
    waiting: HashMap<u64, (), RandomState>,
}

impl Changes {
    /// A session changes its presence at `now_ms`.
    pub fn take(&self, session: u64, now_ms: u64) -> Turn {
        let mut state = self.0.lock();
        if state.waiting.contains_key(&session) {
            return Turn::Covered;
        }
        match state
            .buckets
            .take(session, now_ms, CHANGES_BURST, CHANGE_MS)
        {
            Ok(()) => Turn::Now,
            Err(wait_ms) => {
                state.waiting.insert(session, ());
                Turn::After(wait_ms)
            }
        }
    }

    /// A session becomes available at `now_ms`: now or not at all, since nothing can be told later that is not true
    /// by then.
    pub fn take_now(&self, session: u64, now_ms: u64) -> bool {
        let mut state = self.0.lock();
        let taken = state
            .buckets
            .take(session, now_ms, CHANGES_BURST, CHANGE_MS);
        taken.is_ok()
    }

    /// The wait is over: whatever changes from now on needs another turn.
    pub fn waited(&self, session: u64, now_ms: u64) {
        let mut state = self.0.lock();
        state.waiting.remove(&session);
        // The one that waited has used what came in meanwhile.
        let _used = state
            .buckets
            .take(session, now_ms, CHANGES_BURST, CHANGE_MS);
    }

    /// The session has ended.
    pub fn forget(&self, session: u64) {
        self.0.lock().buckets.full_at.remove(&session);
    }
}

/// Subscription requests, by account. Outlives sessions: a new login gains nothing.
#[derive(Default)]
pub struct Requests(Mutex<Buckets<Box<str>>>);

impl Requests {
    /// Whether an account may send one at `now_ms`.
    pub fn take(&self, account: &str, now_ms: u64) -> bool {
        let mut buckets = self.0.lock();
        buckets
            .take(account.into(), now_ms, REQUESTS_BURST, REQUEST_MS)
            .is_ok()
    }
}

/// Buckets of tokens, each as the time at which it will be full again. Full ones are not kept for long.
struct Buckets<K> {
    full_at: HashMap<K, u64, RandomState>,
    sweep_at: usize,
}

impl<K> Default for Buckets<K> {
    fn default() -> Self {
        Self {
            full_at: HashMap::default(),
            sweep_at: BUCKETS_MIN,
        }
    }
}

impl<K: Eq + Hash> Buckets<K> {
    /// Takes a token out of a bucket of `burst`, which gains one each `each_ms`; else the milliseconds until there is
    /// one.
    fn take(&mut self, key: K, now_ms: u64, burst: u64, each_ms: u64) -> Result<(), u64> {
        let full_at = self
            .full_at
            .get(&key)
            .map_or(now_ms, |at| (*at).max(now_ms));
        let next = full_at.saturating_add(each_ms);
        let capacity_ms = burst.saturating_mul(each_ms);
        let wait_ms = next.saturating_sub(now_ms.saturating_add(capacity_ms));
        if wait_ms > 0 {
            return Err(wait_ms);
        }
        if self.full_at.len() >= self.sweep_at {
            self.full_at.retain(|_, full_at| *full_at > now_ms);
            self.sweep_at = (self.full_at.len() * 2).max(BUCKETS_MIN);
        }
        self.full_at.insert(key, next);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_changes_is_told_and_then_one_a_second_the_newest() {
        let changes = Changes::default();
        for _ in 0..10 {
            assert_eq!(changes.take(1, 0), Turn::Now);
        }
        assert_eq!(changes.take(1, 100), Turn::After(900));
        assert_eq!(changes.take(1, 200), Turn::Covered);
        // Somebody else's session has its own.
        assert_eq!(changes.take(2, 200), Turn::Now);
        changes.waited(1, 1_000);
        assert_eq!(changes.take(1, 1_000), Turn::After(1_000));
        assert!(!changes.take_now(1, 1_000));
        changes.waited(1, 2_000);
        assert_eq!(changes.take(1, 20_000), Turn::Now);
        assert!(changes.take_now(1, 20_000));
    }

    #[test]
    fn requests_come_back_slowly() {
        let requests = Requests::default();
        for _ in 0..30 {
            assert!(requests.take("romeo@localhost", 5_000));
        }
        assert!(!requests.take("romeo@localhost", 5_000));
        assert!(!requests.take("romeo@localhost", 124_999));
        assert!(requests.take("romeo@localhost", 125_000));
        assert!(!requests.take("romeo@localhost", 125_000));
        assert!(requests.take("juliet@localhost", 125_000));
    }

    #[test]
    fn buckets_that_are_full_are_forgotten() {
        let requests = Requests::default();
        for index in 0..100_000_u64 {
            requests.take(&format!("user{index}@localhost"), index * 1_000);
        }
        assert!(requests.0.lock().full_at.len() <= BUCKETS_MIN);
    }
}
