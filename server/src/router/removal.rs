//! An account is removed: what belongs to it goes with it, so that whoever gets the name later gets nothing of it.
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use ahash::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;
use protocol::{BareJid, StanzaError, StreamCondition, StreamError};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};

use super::Route;
use crate::hooks::{AccountRemoved, Halt};
use crate::host::Host;
use crate::outlet::{Order, SessionRef};
use crate::storage;

/// How long a removal waits for the account's sessions to end.
const END_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a removal is remembered: longer than a login takes from its begin until a resource is bound.
pub const REMEMBERED_FOR: Duration = Duration::from_secs(600);
/// Removals that are remembered for so long; beyond that all who have begun to log in begin again.
pub const REMOVALS_MAX: usize = 10_000;

/// Accounts that were removed lately, for those who had logged in and not bound a resource yet.
#[derive(Debug, Default)]
pub struct Removals(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    by_account: HashMap<Box<str>, Instant, RandomState>,
    /// Too many were removed: whatever was begun before that may be of one of them.
    all_at: Option<Instant>,
}

impl Removals {
    fn note(&self, account: &BareJid) {
        let now = Instant::now();
        let mut book = self.0.lock();
        if book.by_account.len() >= REMOVALS_MAX {
            book.by_account.retain(|_, at| now < *at + REMEMBERED_FOR);
        }
        if book.by_account.len() >= REMOVALS_MAX {
            book.by_account.clear();
            book.all_at = Some(now);
        }
        book.by_account.insert(account.as_str().into(), now);
    }

    /// Whether the account may have been removed after a login was begun.
    pub fn is_removed_since(&self, account: &BareJid, begun: Instant) -> bool {
        let book = self.0.lock();
        let of_it = book.by_account.get(account.as_str()).copied();
        of_it.max(book.all_at).is_some_and(|at| at >= begun)
    }
}

impl Route {
    /// Removes an account with everything that is stored of it, and ends its sessions; `asker`, who is one of them, is
    /// told to end and not waited for. `false` if there was no such account.
    ///
    /// # Errors
    /// A module or the database cannot do its part; then the account is still there.
    pub async fn remove_account(
        &mut self,
        host: &Arc<Host>,
        account: &BareJid,
        asker: Option<&SessionRef>,
    ) -> Result<bool, StanzaError> {
        if !exists(host, account).await? {
            return Ok(false);
        }
        let mut event = AccountRemoved {
            account: account.clone(),
        };
        match host.hooks.run(self, &mut event).await {
            ControlFlow::Continue(()) | ControlFlow::Break(Halt::Drop) => {}
            ControlFlow::Break(Halt::Bounce(error)) => return Err(error),
        }
        self.batch.flush();
        remove_rows(host, account).await?;
        self.router.removals.note(account);
        self.end_sessions(account, asker).await;
        // Whatever its sessions have written until their end.
        remove_rows(host, account).await?;
        Ok(true)
    }

    async fn end_sessions(&self, account: &BareJid, asker: Option<&SessionRef>) {
        let mut ends = Vec::new();
        for session in self.router.sessions.of_account(account.as_str()) {
            if asker.is_none_or(|asker| !Arc::ptr_eq(asker, &session)) {
                let (sender, ended) = oneshot::channel();
                session.notify_end(sender);
                ends.push(ended);
            }
            session.order(Order::Close(
                StreamError::new(StreamCondition::NotAuthorized)
                    .with_text("the account was removed"),
                "account_removed",
            ));
        }
        let all = async {
            for ended in ends {
                // The sender is dropped when the session is gone.
                let _ended = ended.await;
            }
        };
        if timeout(END_TIMEOUT, all).await.is_err() {
            tracing::warn!("sessions of a removed account take long to end");
        }
    }
}

async fn exists(host: &Host, account: &BareJid) -> Result<bool, StanzaError> {
    let name = account.local().unwrap_or_default();
    let exists = host.auth.store().exists(name, account.domain()).await;
    exists.map_err(|error| refuse_for_now(&error))
}

async fn remove_rows(host: &Host, account: &BareJid) -> Result<(), StanzaError> {
    let name = account.local().unwrap_or_default();
    let removed = host.auth.store().remove(name, account.domain()).await;
    removed.map(drop).map_err(|error| refuse_for_now(&error))
}

fn refuse_for_now(error: &storage::Error) -> StanzaError {
    tracing::error!(%error, "an account could not be removed");
    error.to_stanza_error()
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_login_that_was_begun_before_a_removal_is_known() {
        let removals = Removals::default();
        let account = |number: usize| BareJid::parse(&format!("u{number}@localhost")).unwrap();
        let before = Instant::now();
        advance(Duration::from_secs(1)).await;
        removals.note(&account(0));
        assert!(removals.is_removed_since(&account(0), before));
        assert!(!removals.is_removed_since(&account(1), before));
        advance(Duration::from_secs(1)).await;
        assert!(!removals.is_removed_since(&account(0), Instant::now()));

        // Beyond the limit nobody is forgotten, but others have to begin again too.
        for number in 1..=REMOVALS_MAX {
            removals.note(&account(number));
        }
        assert!(removals.is_removed_since(&account(0), before));
        assert!(removals.is_removed_since(&account(999_999), before));
        assert!(removals.0.lock().by_account.len() <= REMOVALS_MAX);
        advance(Duration::from_secs(1)).await;
        assert!(!removals.is_removed_since(&account(0), Instant::now()));
    }
}
