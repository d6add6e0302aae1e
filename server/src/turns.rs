//! Turns for work that many want at once: half of the cores do it, so many wait in line, and the others are sent away.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The turns of one kind of work on a node.
pub struct Turns {
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
}

/// Held while the work is done.
pub type Turn = OwnedSemaphorePermit;

impl Turns {
    /// Half of the cores, one at least, may do the work at a time, so that the others are left to everything else;
    /// `waiting_max` may wait for that.
    pub fn new(cores: usize, waiting_max: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new((cores / 2).max(1))),
            waiting: AtomicUsize::new(0),
            waiting_max,
        }
    }

    /// Waits for a turn, in the order of arrival. `None` if too many wait already.
    pub async fn take(&self) -> Option<Turn> {
        if let Ok(turn) = self.free.clone().try_acquire_owned() {
            return Some(turn);
        }
        let _place = Place::take(&self.waiting, self.waiting_max)?;
        self.free.clone().acquire_owned().await.ok()
    }

    /// How many wait now.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }
}

/// A place in line.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize, max: usize) -> Option<Self> {
        let place = Self(waiting);
        // Given back if it is one too many.
        (waiting.fetch_add(1, Ordering::Relaxed) < max).then_some(place)
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

    const WAITING_MAX: usize = 20;

    fn poll<T>(future: std::pin::Pin<&mut impl Future<Output = T>>) -> Poll<T> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn half_of_the_cores_work_and_the_next_follows() {
        let turns = Turns::new(4, WAITING_MAX);
        let mut first = pin!(turns.take());
        let mut second = pin!(turns.take());
        let mut third = pin!(turns.take());
        let Poll::Ready(Some(turn)) = poll(first.as_mut()) else {
            panic!("has a turn")
        };
        let Poll::Ready(Some(_second)) = poll(second.as_mut()) else {
            panic!("has a turn")
        };
        assert!(poll(third.as_mut()).is_pending());
        drop(turn);
        assert!(matches!(poll(third.as_mut()), Poll::Ready(Some(_))));
    }

    #[test]
    fn one_core_has_a_turn_too() {
        let turns = Turns::new(1, WAITING_MAX);
        assert!(matches!(poll(pin!(turns.take())), Poll::Ready(Some(_))));
    }

    #[test]
    fn too_many_that_wait_are_sent_away_and_the_others_are_not() {
        let turns = Turns::new(2, WAITING_MAX);
        let Poll::Ready(Some(turn)) = poll(pin!(turns.take())) else {
            panic!("has a turn")
        };
        let mut waiting: Vec<_> = (0..WAITING_MAX).map(|_| Box::pin(turns.take())).collect();
        assert!(
            waiting
                .iter_mut()
                .all(|take| poll(take.as_mut()).is_pending())
        );
        assert!(matches!(poll(pin!(turns.take())), Poll::Ready(None)));
        // One gives up, and another may wait in its place.
        drop(waiting.pop());
        let mut next = pin!(turns.take());
        assert!(poll(next.as_mut()).is_pending());
        assert_eq!(turns.waiting(), WAITING_MAX);
        drop(turn);
        assert!(matches!(poll(waiting[0].as_mut()), Poll::Ready(Some(_))));
    }
}
