//! Drain: stop accepting, tell clients at a pace, wait for them to go, with a deadline.
use std::sync::Arc;
use std::time::Duration;

use daemon::Shutdown;
use daemon::logs::LIFECYCLE;
use protocol::{StreamCondition, StreamError};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::outlet::{Flag, Order};
use crate::router::Router;

/// Time between two looks at how many sessions are due.
pub(super) const STEP: Duration = Duration::from_millis(20);
/// Progress is told this often.
const PROGRESS: Duration = Duration::from_secs(1);
/// The part of the grace that is kept for the sessions that are told last, and no more than [`CLOSE_MAX`].
const CLOSE_PART: u32 = 4;
/// More nobody needs to write a last stanza to the database and to hang up.
const CLOSE_MAX: Duration = Duration::from_secs(5);

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
    fn error(&self) -> StreamError {
        match &self.see_other_host {
            Some(address) => StreamError::see_other_host(address),
            None => StreamError::new(StreamCondition::SystemShutdown),
        }
    }

    /// The part of the grace that is kept for those that are told last.
    pub(super) fn closing(&self) -> Duration {
        (self.grace / CLOSE_PART).min(CLOSE_MAX)
    }

    /// Sessions per second: the configured pace, or a quicker one if the deadline asks for it, as a crowd at the
    /// deadline would be worse.
    fn pace(&self, total: usize, time: Duration) -> f64 {
        if self.sessions_per_sec == 0 {
            return f64::INFINITY;
        }
        let needed = total as f64 / time.as_secs_f64();
        f64::from(self.sessions_per_sec).max(needed)
    }
}

/// Ends every session at the pace of the settings, and whoever comes in now. Returns when all were told, or at once
/// when asked to hurry.
pub async fn sessions(
    router: &Arc<Router>,
    settings: &Settings,
    shutdown: &Shutdown,
    deadline: Instant,
) {
    // Before the sessions are counted, so that each is counted or sees it.
    router.leaving.begin(settings.error());
    let all = router.sessions.all();
    let total = all.len();
    let began = Instant::now();
    let time = deadline.saturating_duration_since(began + settings.closing());
    let pace = settings.pace(total, time);
    if settings.sessions_per_sec != 0 && pace > f64::from(settings.sessions_per_sec) {
        warn!(
            total,
            pace, "the drain has to be quicker than configured to be in time"
        );
    }
    info!(target: LIFECYCLE, total, pace, "drain begins");
    let mut steps = interval(STEP);
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut progress = Progress::new(total, began);
    let mut waiting = all.iter();
    let mut told_online = 0_u32;
    while waiting.len() > 0 {
        let now = tokio::select! {
            biased;
            () = shutdown.at_once() => break,
            now = steps.tick() => now,
        };
        // Not a number if the pace has no end and no time has gone by.
        let earned = now.saturating_duration_since(began).as_secs_f64() * pace;
        let due = 1.0 + earned.max(0.0);
        // A session without a connection costs no place: nobody comes back at once for it.
        while f64::from(told_online) + 1.0 <= due
            && let Some(session) = waiting.next()
        {
            told_online += u32::from(!session.has(Flag::Detached));
            session.order(Order::Close(settings.error(), "drained"));
        }
        progress.tell(total - waiting.len(), router);
    }
    for session in waiting {
        session.order(Order::Close(settings.error(), "drained"));
    }
    info!(
        target: LIFECYCLE,
        total,
        left = router.sessions.count(),
        seconds = began.elapsed().as_secs_f64(),
        "all are told"
    );
}

/// Says how far the drain is: to the log, and to the service manager.
struct Progress {
    total: usize,
    told_at: Instant,
}

impl Progress {
    fn new(total: usize, began: Instant) -> Self {
        Self {
            total,
            told_at: began,
        }
    }

    fn tell(&mut self, told: usize, router: &Router) {
        if self.told_at.elapsed() < PROGRESS {
            return;
        }
        self.told_at = Instant::now();
        let (total, left) = (self.total, router.sessions.count());
        info!(target: LIFECYCLE, told, total, left, "draining");
        daemon::notify::notify_status(&format!("draining: {told} of {total} told, {left} left"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pace_is_the_configured_one_unless_the_deadline_asks_for_more() {
        let check = |sessions_per_sec, total, secs, expected: f64| {
            let settings = Settings {
                grace: Duration::from_secs(30),
                sessions_per_sec,
                see_other_host: None,
            };
            let pace = settings.pace(total, Duration::from_secs(secs));
            assert!(
                (pace - expected).abs() < 1e-9 || pace == expected,
                "{pace} {expected}"
            );
        };
        check(500, 2_000, 25, 500.0);
        check(30, 100, 25, 30.0);
        check(7, 1, 25, 7.0);
        check(500, 100_000, 25, 4_000.0);
        check(0, 5, 25, f64::INFINITY);
        check(500, 10, 0, f64::INFINITY);
    }
}
