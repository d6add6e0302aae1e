//! Turns of PBKDF2, the one thing in a login that costs us more than the client (security case A12).
//!
//! SCRAM compares stored keys and needs no turn. PLAIN hashes the password that it is given each time: half of the cores
//! do that, a limited number of logins waits for a limited time, and the others are told to come again.
use std::time::Duration;

use tokio::time::timeout;

use crate::turns::{Turn, Turns};

/// Logins that may wait for a turn; more get `temporary-auth-failure` at once.
pub const HASHES_WAITING_MAX: usize = 256;
/// How long a login may wait for a turn; then it gets `temporary-auth-failure` too.
pub const HASH_WAIT_MAX: Duration = Duration::from_secs(2);

/// No turn came in time, or too many wait for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords wait to be hashed")]
pub struct Overloaded;

/// The turns of one node.
pub struct Hashing(Turns);

impl Hashing {
    /// Half of the cores may hash at a time, so that logins leave room for everybody else.
    pub fn new(cores: usize) -> Self {
        Self(Turns::new(cores, HASHES_WAITING_MAX))
    }

    /// Runs the work beside the session tasks when its turn has come. It keeps its turn until it is done, also if
    /// nobody waits for it any more.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Overloaded> {
        let turn = self.turn().await?;
        let done = tokio::task::spawn_blocking(move || {
            let result = work();
            drop(turn);
            result
        });
        done.await.map_err(|_| Overloaded)
    }

    pub(crate) async fn turn(&self) -> Result<Turn, Overloaded> {
        let turn = timeout(HASH_WAIT_MAX, self.0.take()).await;
        turn.ok().flatten().ok_or(Overloaded)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_is_told_then() {
        let hashing = Hashing::new(1);
        let turn = hashing.turn().await.unwrap();
        let began = tokio::time::Instant::now();
        assert_eq!(hashing.turn().await.err(), Some(Overloaded));
        assert_eq!(began.elapsed(), HASH_WAIT_MAX);
        assert_eq!(hashing.0.waiting(), 0);
        drop(turn);
        assert_eq!(hashing.run(|| 1).await, Ok(1));
    }

    #[tokio::test]
    async fn work_that_panics_gives_its_turn_back() {
        let hashing = Hashing::new(2);
        let broken = hashing.run(|| panic!("as a mistake of ours would"));
        assert_eq!(broken.await, Err::<(), _>(Overloaded));
        assert_eq!(hashing.run(|| 1).await, Ok(1));
    }
}
