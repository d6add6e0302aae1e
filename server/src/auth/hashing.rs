//! Turns of PBKDF2, the one thing in a login that costs us more than the client (security case A12).
//!
//! SCRAM compares stored keys and needs no turn. PLAIN hashes the password that it is given each time: half of the cores
//! do that, a limited number of logins waits for a limited time, and the others are told to come again.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Logins that may wait for a turn; more get `temporary-auth-failure` at once.
pub const HASHES_WAITING_MAX: usize = 256;
/// How long a login may wait for a turn; then it gets `temporary-auth-failure` too.
pub const HASH_WAIT_MAX: Duration = Duration::from_secs(2);

/// No turn came in time, or too many wait for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many passwords wait to be hashed")]
pub struct Overloaded;

/// The turns of one node.
pub struct Hashing {
    turns: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Hashing {
    /// Half of the cores may hash at a time, so that logins leave room for everybody else.
    pub fn new(cores: usize) -> Self {
        Self {
            turns: Arc::new(Semaphore::new((cores / 2).max(1))),
            waiting: AtomicUsize::new(0),
        }
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

    pub(crate) async fn turn(&self) -> Result<OwnedSemaphorePermit, Overloaded> {
        if let Ok(turn) = self.turns.clone().try_acquire_owned() {
            return Ok(turn);
        }
        let _place = Place::take(&self.waiting).ok_or(Overloaded)?;
        match timeout(HASH_WAIT_MAX, self.turns.clone().acquire_owned()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(Overloaded),
        }
    }
}

/// A place in the queue.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        let place = Self(waiting);
        // Given back if it is one too many.
        (waiting.fetch_add(1, Ordering::Relaxed) < HASHES_WAITING_MAX).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_too_many_waiting_is_told_at_once() {
        let hashing = Hashing::new(1);
        let turn = hashing.turn().await.unwrap();
        let mut waiting: Vec<_> = (0..HASHES_WAITING_MAX)
            .map(|_| Box::pin(hashing.turn()))
            .collect();
        assert!(
            waiting
                .iter_mut()
                .all(|turn| poll(turn.as_mut()).is_pending())
        );
        assert!(matches!(
            poll(pin!(hashing.turn())),
            Poll::Ready(Err(Overloaded))
        ));
        // One gives up, and another may wait in its place.
        drop(waiting.pop());
        let mut next = pin!(hashing.turn());
        assert!(poll(next.as_mut()).is_pending());
        drop(turn);
        assert!(matches!(poll(waiting[0].as_mut()), Poll::Ready(Ok(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_is_told_then() {
        let hashing = Hashing::new(1);
        let turn = hashing.turn().await.unwrap();
        let began = tokio::time::Instant::now();
        assert_eq!(hashing.turn().await.err(), Some(Overloaded));
        assert_eq!(began.elapsed(), HASH_WAIT_MAX);
        assert_eq!(hashing.waiting.load(Ordering::Relaxed), 0);
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
