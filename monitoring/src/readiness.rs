//! Whether this process wants work: what `/readyz` answers.
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// Where a process stands in its life. A load balancer sends work only to one that is [`State::Ready`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// Parts are being built; no listener is open yet.
    Starting = 0,
    /// Serving.
    Ready = 1,
    /// No new work is taken, what there is gets finished.
    Draining = 2,
}

impl State {
    /// The word that `/readyz` answers with.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A handle to the state of this process. Clones share it; the exporter holds one.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<AtomicU8>);

impl Readiness {
    /// A process that has just begun.
    pub fn starting() -> Self {
        Self(Arc::new(AtomicU8::new(State::Starting as u8)))
    }

    /// Moves on. A process that drains never becomes ready again: an order to drain that comes while a process is
    /// still starting must not be lost to the end of its start.
    pub fn set(&self, state: State) {
        self.0.fetch_max(state as u8, Ordering::AcqRel);
    }

    /// Where the process stands.
    pub fn state(&self) -> State {
        match self.0.load(Ordering::Acquire) {
            0 => State::Starting,
            1 => State::Ready,
            _ => State::Draining,
        }
    }

    /// Work may be sent here.
    pub fn is_ready(&self) -> bool {
        self.state() == State::Ready
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_only_move_forward() {
        let readiness = Readiness::starting();
        assert_eq!(readiness.state(), State::Starting);
        readiness.set(State::Ready);
        assert!(readiness.is_ready());
        readiness.set(State::Starting);
        assert!(readiness.is_ready());
        let clone = readiness.clone();
        clone.set(State::Draining);
        readiness.set(State::Ready);
        assert_eq!(readiness.state(), State::Draining);
    }
}
