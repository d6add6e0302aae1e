//! What the node remembers of rosters while it works with them: turns, and who sees whose presence.
//!
//! **Turns.** Whoever reads a roster to tell a client of it, or changes it, has the account's turn until the client's
//! bytes stand in its outlet. So pushes come in the order of the changes, and none comes before the roster that it
//! changes. Nobody takes a second turn while having one.
//!
//! **Subscriptions** are remembered for accounts with available sessions and forgotten with the last session, so they
//! are bounded by the sessions and [`super::store::ITEMS_MAX`]. Every change goes through a turn, which corrects what
//! is remembered after its commit. What is not remembered can always be read again.
use std::sync::Arc;

use ahash::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;
use protocol::{BareJid, Jid};
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use super::subscription::{State, Subscription};

const SHARDS: usize = 64;

/// Contacts of an account where anybody sees anybody's presence, sorted by address.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Subscriptions(Box<[(BareJid, State)]>);

impl Subscriptions {
    /// Of rows in any order.
    pub fn new(rows: Vec<(Jid, State)>) -> Self {
        let mut rows: Vec<_> = rows
            .into_iter()
            .filter(|(_, state)| state.has_to() || state.has_from())
            .map(|(jid, state)| (jid.into_bare(), state))
            .collect();
        rows.sort_unstable_by(|a, b| a.0.as_str().cmp(b.0.as_str()));
        Self(rows.into())
    }

    /// Those who see the account's presence.
    pub fn subscribers(&self) -> impl Iterator<Item = &BareJid> {
        let all = self.0.iter().filter(|(_, state)| state.has_from());
        all.map(|(contact, _)| contact)
    }

    /// Those whose presence the account sees.
    pub fn subscribed_to(&self) -> impl Iterator<Item = &BareJid> {
        let all = self.0.iter().filter(|(_, state)| state.has_to());
        all.map(|(contact, _)| contact)
    }

    /// Whether that bare address sees the account's presence.
    pub fn is_subscriber(&self, contact: &str) -> bool {
        matches!(self.of(contact), Subscription::From | Subscription::Both)
    }

    /// Who of the account and that bare address sees whose presence.
    pub fn of(&self, contact: &str) -> Subscription {
        let found = self
            .0
            .binary_search_by(|(jid, _)| jid.as_str().cmp(contact));
        let found = found.ok().and_then(|index| self.0.get(index));
        found.map_or(Subscription::None, |(_, state)| state.subscription())
    }

    fn with(&self, contact: &BareJid, state: State) -> Self {
        let others = self.0.iter().filter(|(jid, _)| jid != contact).cloned();
        let changed = std::iter::once((contact.clone(), state));
        let rows = others.chain(changed);
        Self::new(rows.map(|(jid, state)| (jid.into(), state)).collect())
    }
}

/// What is remembered of one account.
#[derive(Default)]
struct Slot {
    turn: Option<Arc<AsyncMutex<()>>>,
    subscriptions: Remembered,
}

#[derive(Clone, Default)]
enum Remembered {
    #[default]
    Nothing,
    /// Nobody sees anybody: most accounts of a new server. Costs no allocation.
    None,
    Some(Arc<Subscriptions>),
}

type Shard = Mutex<HashMap<Box<str>, Slot, RandomState>>;

/// What is remembered of all accounts.
pub(super) struct Known {
    hasher: RandomState,
    shards: Box<[Shard]>,
    nobody: Arc<Subscriptions>,
}

impl Known {
    pub(super) fn new() -> Arc<Self> {
        let hasher = RandomState::new();
        let shard = |_| Mutex::new(HashMap::with_hasher(hasher.clone()));
        Arc::new(Self {
            shards: (0..SHARDS).map(shard).collect(),
            hasher,
            nobody: Arc::default(),
        })
    }

    fn shard(&self, account: &str) -> &Shard {
        let hash = usize::try_from(self.hasher.hash_one(account) >> 48).unwrap_or(0);
        self.shards
            .get(hash % SHARDS)
            .expect("the index is below SHARDS")
    }

    /// The account's turn, when those who came before have given it back.
    pub(super) async fn turn(self: &Arc<Self>, account: &BareJid) -> Turn {
        let mutex = {
            let mut shard = self.shard(account.as_str()).lock();
            let slot = shard.entry(account.as_str().into()).or_default();
            slot.turn.get_or_insert_default().clone()
        };
        // Made before the wait: whoever gives up meanwhile leaves nothing behind.
        let mut turn = Turn {
            known: self.clone(),
            account: account.clone(),
            guard: None,
            mutex: Some(mutex.clone()),
        };
        turn.guard = Some(mutex.lock_owned().await);
        turn
    }

    /// The subscriptions, if they are remembered.
    pub(super) fn subscriptions(&self, account: &str) -> Option<Arc<Subscriptions>> {
        match self
            .shard(account)
            .lock()
            .get(account)?
            .subscriptions
            .clone()
        {
            Remembered::Nothing => None,
            Remembered::None => Some(self.nobody.clone()),
            Remembered::Some(subscriptions) => Some(subscriptions),
        }
    }

    /// Forgets an account, unless `is_needed` says otherwise: asked under the lock, so that nobody comes in between.
    pub(super) fn forget(&self, account: &str, is_needed: impl FnOnce() -> bool) {
        let mut shard = self.shard(account).lock();
        if is_needed() {
            return;
        }
        if let Some(slot) = shard.get_mut(account) {
            slot.subscriptions = Remembered::Nothing;
            if slot.turn.is_none() {
                shard.remove(account);
            }
        }
    }

    /// How many accounts anything is remembered of.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }
}

/// An account's turn; given back when it is dropped.
pub struct Turn {
    known: Arc<Known>,
    account: BareJid,
    guard: Option<OwnedMutexGuard<()>>,
    mutex: Option<Arc<AsyncMutex<()>>>,
}

impl Turn {
    /// Remembers what was read in this turn.
    pub(super) fn remember(&self, subscriptions: Subscriptions) -> Arc<Subscriptions> {
        let is_empty = subscriptions.0.is_empty();
        let (remembered, subscriptions) = if is_empty {
            (Remembered::None, self.known.nobody.clone())
        } else {
            let subscriptions = Arc::new(subscriptions);
            (Remembered::Some(subscriptions.clone()), subscriptions)
        };
        let mut shard = self.known.shard(self.account.as_str()).lock();
        if let Some(slot) = shard.get_mut(self.account.as_str()) {
            slot.subscriptions = remembered;
        }
        subscriptions
    }

    /// Corrects what is remembered, if anything is, after a change in this turn was committed.
    pub(super) fn correct(&self, contact: &BareJid, state: State) {
        let Some(old) = self.known.subscriptions(self.account.as_str()) else {
            return;
        };
        self.remember(old.with(contact, state));
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut shard = self.known.shard(self.account.as_str()).lock();
        self.guard = None;
        self.mutex = None;
        let Some(slot) = shard.get_mut(self.account.as_str()) else {
            return;
        };
        // Others get their share of the mutex under the lock of the shard, so nobody is on the way to it.
        if slot
            .turn
            .as_ref()
            .is_some_and(|turn| Arc::strong_count(turn) == 1)
        {
            slot.turn = None;
            if matches!(slot.subscriptions, Remembered::Nothing) {
                shard.remove(self.account.as_str());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account() -> BareJid {
        BareJid::parse("romeo@localhost").unwrap()
    }

    fn bare(text: &str) -> BareJid {
        BareJid::parse(text).unwrap()
    }

    fn rows(all: &[(&str, State)]) -> Subscriptions {
        let rows = all
            .iter()
            .map(|(jid, state)| (Jid::parse(jid).unwrap(), *state));
        Subscriptions::new(rows.collect())
    }

    #[test]
    fn subscriptions_say_who_sees_whom() {
        let all = rows(&[
            ("to@b", State::ToPendingIn),
            ("both@b", State::Both),
            ("none@b", State::NonePendingOut),
            ("from@b", State::From),
        ]);
        let names = |jids: &mut dyn Iterator<Item = &BareJid>| -> Vec<String> {
            jids.map(|jid| jid.as_str().to_owned()).collect()
        };
        assert_eq!(names(&mut all.subscribers()), ["both@b", "from@b"]);
        assert_eq!(names(&mut all.subscribed_to()), ["both@b", "to@b"]);
        assert!(all.is_subscriber("from@b") && !all.is_subscriber("to@b"));
        assert!(!all.is_subscriber("none@b") && !all.is_subscriber("stranger@b"));
    }

    #[test]
    fn a_change_replaces_one_contact() {
        let all = rows(&[("a@b", State::From), ("c@b", State::Both)]);
        assert_eq!(
            all.with(&bare("a@b"), State::None),
            rows(&[("c@b", State::Both)])
        );
        let more = all.with(&bare("b@b"), State::To);
        let expected = [
            ("a@b", State::From),
            ("b@b", State::To),
            ("c@b", State::Both),
        ];
        assert_eq!(more, rows(&expected));
        assert_eq!(all.with(&bare("a@b"), State::From), all);
    }

    #[tokio::test]
    async fn turns_come_one_after_the_other_and_leave_nothing() {
        let known = Known::new();
        let romeo = account();
        let first = known.turn(&romeo).await;
        let mut second = std::pin::pin!(known.turn(&romeo));
        let mut given_up = Box::pin(known.turn(&romeo));
        assert!(futures_poll(second.as_mut()).is_none());
        assert!(futures_poll(given_up.as_mut()).is_none());
        drop(given_up);
        drop(first);
        let second = futures_poll(second.as_mut()).expect("the first has given its turn back");
        // Somebody else's is no matter.
        drop(known.turn(&bare("juliet@localhost")).await);
        assert_eq!(known.len(), 1);
        drop(second);
        assert_eq!(known.len(), 0);
    }

    fn futures_poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Option<T> {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        match future.poll(&mut cx) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        }
    }

    #[tokio::test]
    async fn what_is_remembered_is_corrected_and_forgotten() {
        let known = Known::new();
        let name = account().as_str().to_owned();
        assert_eq!(known.subscriptions(&name), None);
        let turn = known.turn(&account()).await;
        // Nothing is remembered: there is nothing to correct.
        turn.correct(&bare("a@b"), State::Both);
        assert_eq!(known.subscriptions(&name), None);
        turn.remember(Subscriptions::default());
        turn.correct(&bare("a@b"), State::Both);
        drop(turn);
        let expected = rows(&[("a@b", State::Both)]);
        assert_eq!(*known.subscriptions(&name).unwrap(), expected);
        known.forget(&name, || true);
        assert_eq!(*known.subscriptions(&name).unwrap(), expected);
        known.forget(&name, || false);
        assert_eq!((known.subscriptions(&name), known.len()), (None, 0));
    }

    #[test]
    fn an_account_without_contacts_costs_little() {
        assert!(size_of::<(Box<str>, Slot)>() <= 40);
    }
}
