//! Drain: stop accepting, tell clients at a pace, wait for them to go, with a deadline.
use std::sync::Arc;
use std::time::Duration;

use daemon::Shutdown;
use protocol::{StreamCondition, StreamError};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::c2s::newcomers::Newcomers;
use crate::outlet::Order;
use crate::router::Router;

/// Steps in which a second's share of sessions is told.
const STEPS_PER_SEC: u32 = 20;
const STEP: Duration = Duration::from_millis(1_000 / STEPS_PER_SEC as u64);
/// Progress is logged this often.
const PROGRESS: Duration = Duration::from_secs(5);

/// How a stop goes.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Everything has to be over by then.
    pub grace: Duration,
    /// Sessions told per second, so that those who come back elsewhere do not come all at once; 0 is all at once.
    pub sessions_per_sec: u32,
    /// Where clients are sent (`see-other-host`), if anywhere.
    pub see_other_host: Option<Box<str>>,
}

impl Settings {
    /// How many have been told when so much time has passed.
    fn told_after(&self, elapsed: Duration) -> usize {
        if self.sessions_per_sec == 0 {
            return usize::MAX;
        }
        let due = u128::from(self.sessions_per_sec) * elapsed.as_micros() / 1_000_000;
        usize::try_from(due).unwrap_or(usize::MAX).saturating_add(1)
    }

    /// The last quarter of the grace is for sessions to end in.
    fn time_to_tell(&self) -> Duration {
        self.grace / 4 * 3
    }

    fn error(&self) -> StreamError {
        match &self.see_other_host {
            Some(address) => StreamError::see_other_host(address),
            None => StreamError::new(StreamCondition::SystemShutdown),
        }
    }
}

/// Ends every session, `sessions_per_sec` at a time, and takes in no new one. Returns when all were told, or earlier
/// when asked to hurry: then the rest is told at once.
pub async fn sessions(
    router: &Arc<Router>,
    newcomers: &Newcomers,
    settings: &Settings,
    shutdown: &Shutdown,
) {
    let error = settings.error();
    router.leave(error.clone());
    newcomers.close_all(&error);
    let all = router.sessions.all();
    let total = all.len();
    if total > 0 {
        info!(sessions = total, "draining");
    }
    let started = Instant::now();
    let mut steps = interval(STEP);
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut told, mut logged) = (0, started);
    while told < total {
        let hurry = tokio::select! {
            biased;
            () = shutdown.at_once() => true,
            _ = steps.tick() => started.elapsed() >= settings.time_to_tell(),
        };
        if hurry {
            warn!(
                told,
                total, "drain is out of time, the rest is told at once"
            );
            break;
        }
        let until = settings.told_after(started.elapsed()).min(total);
        for session in all.get(told..until).unwrap_or_default() {
            session.order(Order::Close(error.clone(), "drained"));
        }
        told = until;
        if logged.elapsed() >= PROGRESS {
            logged = Instant::now();
            info!(told, total, left = router.sessions.count(), "draining");
        }
    }
    // Also those that were bound while the node was deciding; who has been told already does not mind.
    for session in router.sessions.all() {
        session.order(Order::Close(error.clone(), "drained"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(grace_secs: u64, sessions_per_sec: u32) -> Settings {
        let grace = Duration::from_secs(grace_secs);
        Settings {
            grace,
            sessions_per_sec,
            see_other_host: None,
        }
    }

    #[test]
    fn the_pace_is_kept_whatever_it_is() {
        for pace in [1, 7, 30, 500, 100_000] {
            let settings = settings(3_600, pace);
            for secs in [1, 2, 60] {
                let told = settings.told_after(Duration::from_secs(secs));
                let paced = usize::try_from(u64::from(pace) * secs).unwrap();
                assert!(
                    (paced..=paced + 1).contains(&told),
                    "{told} after {secs} s of {pace}/s"
                );
            }
            // The first is told at once, and then no more than its share of a step.
            let first = settings.told_after(Duration::ZERO);
            assert_eq!(first, 1);
            let step = settings.told_after(STEP);
            assert!(step <= 1 + usize::try_from(pace.div_ceil(STEPS_PER_SEC)).unwrap());
        }
        assert_eq!(settings(30, 0).told_after(Duration::ZERO), usize::MAX);
    }

    #[test]
    fn there_is_time_left_for_the_last_ones() {
        assert_eq!(settings(40, 1).time_to_tell(), Duration::from_secs(30));
        assert_eq!(settings(0, 1).time_to_tell(), Duration::ZERO);
    }
}
