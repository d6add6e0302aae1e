//! Security case T05: TLS handshakes take turns, so that a storm of them leaves half of the cores to the others.
//!
//! Only the computation has a turn, some 100 us of it; who waits for a slow client does not hold one.
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Semaphore, SemaphorePermit};

/// Connections that may wait for their turn; more are dropped. At 100 us each that is a wait of 0.1 s.
pub const HANDSHAKES_WAITING_MAX: usize = 1_000;

/// The turns of one node.
pub struct Handshakes {
    turns: Semaphore,
    waiting: AtomicUsize,
}

impl Handshakes {
    /// Half of the cores may compute handshakes at a time.
    pub fn new(cores: usize) -> Self {
        Self {
            turns: Semaphore::new((cores / 2).max(1)),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Waits for a turn, in the order of arrival. `None` if too many wait already.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        if let Ok(turn) = self.turns.try_acquire() {
            return Some(turn);
        }
        let _place = Place::take(&self.waiting)?;
        self.turns.acquire().await.ok()
    }
}

/// A place in the queue.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize) -> Option<Self> {
        let place = Self(waiting);
        // Given back if it is one too many.
        (waiting.fetch_add(1, Ordering::Relaxed) < HANDSHAKES_WAITING_MAX).then_some(place)
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

    #[test]
    fn half_of_the_cores_compute_and_the_next_follows() {
        let handshakes = Handshakes::new(4);
        let mut first = pin!(handshakes.turn());
        let mut second = pin!(handshakes.turn());
        let mut third = pin!(handshakes.turn());
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
        let handshakes = Handshakes::new(1);
        assert!(matches!(
            poll(pin!(handshakes.turn())),
            Poll::Ready(Some(_))
        ));
    }

    #[test]
    fn too_many_that_wait_are_sent_away_and_the_others_are_not() {
        let handshakes = Handshakes::new(2);
        let Poll::Ready(Some(turn)) = poll(pin!(handshakes.turn())) else {
            panic!("has a turn")
        };
        let mut waiting: Vec<_> = (0..HANDSHAKES_WAITING_MAX)
            .map(|_| Box::pin(handshakes.turn()))
            .collect();
        assert!(
            waiting
                .iter_mut()
                .all(|turn| poll(turn.as_mut()).is_pending())
        );
        assert!(matches!(poll(pin!(handshakes.turn())), Poll::Ready(None)));
        drop(waiting.pop());
        let mut next = pin!(handshakes.turn());
        assert!(poll(next.as_mut()).is_pending());
        drop(turn);
        assert!(matches!(poll(waiting[0].as_mut()), Poll::Ready(Some(_))));
    }
}
