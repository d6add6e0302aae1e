//! Sessions that may be resumed, by the id that their client was given (XEP-0198 section 5).
use std::sync::Arc;

use ahash::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::outlet::SessionRef;

/// The table. An entry ends with its session, so it is bounded by the number of sessions.
#[derive(Default)]
pub struct Resumable {
    by_id: Mutex<HashMap<Box<str>, SessionRef, RandomState>>,
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

    /// The session has ended.
    pub fn forget_session(&self, session: &SessionRef) {
        let id = session
            .with_managed(|managed| managed.resume_id.clone())
            .flatten();
        if let Some(id) = id {
            let mut by_id = self.by_id.lock();
            if by_id
                .get(&*id)
                .is_some_and(|other| Arc::ptr_eq(other, session))
            {
                by_id.remove(&*id);
            }
        }
    }
}
