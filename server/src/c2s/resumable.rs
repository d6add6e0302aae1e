//! Sessions that may be resumed, by the id that their client was given (XEP-0198 section 5), and what is remembered of
//! those that may be no longer.
use std::collections::VecDeque;
use std::sync::Arc;

use ahash::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::outlet::SessionRef;

/// Ended sessions whose count of handled stanzas is remembered at a time; the oldest are forgotten.
pub const STALE_MAX: usize = 50_000;

/// The tables. An entry of the first ends with its session, so it is bounded by the number of sessions.
#[derive(Default)]
pub struct Resumable {
    by_id: Mutex<HashMap<Box<str>, SessionRef, RandomState>>,
    stale: Mutex<Stale>,
}

/// What ended sessions had handled (`mod_stream_management.stale_h`).
#[derive(Default)]
struct Stale {
    by_id: HashMap<Box<str>, Handled, RandomState>,
    /// In the order in which they ended.
    ended: VecDeque<Box<str>>,
}

struct Handled {
    account: Box<str>,
    h: u32,
    /// Seconds of the ledger's clock.
    until: u32,
}

impl Resumable {
    /// A session may be resumed with that id.
    pub fn put(&self, id: &str, session: SessionRef) {
        self.by_id.lock().insert(id.into(), session);
    }

    /// Takes the session of that id for the account that owns it: of two who try, one gets it. An unknown id and
    /// somebody else's take the same steps and give the same answer.
    pub fn claim(&self, id: &str, account: &str) -> Option<SessionRef> {
        let mut by_id = self.by_id.lock();
        let is_owner = by_id
            .get(id)
            .is_some_and(|session| session.jid().bare_str() == account);
        if is_owner { by_id.remove(id) } else { None }
    }

    /// The session has ended; `until` then its account may learn what it had handled, in seconds of the ledger's clock.
    pub fn forget_session(&self, session: &SessionRef, until: Option<u32>, now: u32) {
        let known = session.with_managed(|managed| (managed.resume_id.clone(), managed.tellable()));
        let Some((Some(id), h)) = known else { return };
        let mut by_id = self.by_id.lock();
        if by_id
            .get(&*id)
            .is_some_and(|other| Arc::ptr_eq(other, session))
        {
            by_id.remove(&*id);
        }
        drop(by_id);
        if let Some(until) = until {
            let account = session.jid().bare_str().into();
            self.stale
                .lock()
                .put(id, Handled { account, h, until }, now);
        }
    }

    /// What an ended session of that account had handled, if it is still known.
    pub fn stale_h(&self, id: &str, account: &str, now: u32) -> Option<u32> {
        let mut stale = self.stale.lock();
        stale.forget_old(now);
        let handled = stale.by_id.get(id);
        handled
            .filter(|handled| *handled.account == *account)
            .map(|handled| handled.h)
    }
}

impl Stale {
    fn put(&mut self, id: Box<str>, handled: Handled, now: u32) {
        self.forget_old(now);
        if self.ended.len() >= STALE_MAX {
            self.forget_first();
        }
        self.ended.push_back(id.clone());
        self.by_id.insert(id, handled);
    }

    /// Hosts may differ in how long they remember: one that is remembered for longer holds up those behind it.
    fn forget_old(&mut self, now: u32) {
        let is_old = |stale: &Self| {
            let first = stale.ended.front().and_then(|id| stale.by_id.get(id));
            first.is_some_and(|handled| handled.until <= now)
        };
        while is_old(self) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some(id) = self.ended.pop_front() {
            self.by_id.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handled(h: u32, until: u32) -> Handled {
        Handled {
            account: "romeo@localhost".into(),
            h,
            until,
        }
    }

    #[test]
    fn what_was_handled_is_told_to_its_account_for_a_while() {
        let resumable = Resumable::default();
        resumable.stale.lock().put("a".into(), handled(7, 100), 50);
        resumable.stale.lock().put("b".into(), handled(8, 110), 60);
        assert_eq!(resumable.stale_h("a", "romeo@localhost", 99), Some(7));
        assert_eq!(resumable.stale_h("a", "juliet@localhost", 99), None);
        assert_eq!(resumable.stale_h("c", "romeo@localhost", 99), None);
        assert_eq!(resumable.stale_h("a", "romeo@localhost", 100), None);
        assert_eq!(resumable.stale_h("b", "romeo@localhost", 100), Some(8));
        assert_eq!(resumable.stale.lock().by_id.len(), 1);
    }

    #[test]
    fn the_oldest_is_forgotten_first() {
        let mut stale = Stale::default();
        for number in 0..=STALE_MAX {
            stale.put(number.to_string().into(), handled(1, u32::MAX), 0);
        }
        assert_eq!(
            (stale.by_id.len(), stale.ended.len()),
            (STALE_MAX, STALE_MAX)
        );
        assert!(!stale.by_id.contains_key("0"));
    }
}
