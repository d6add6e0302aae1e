//! Drain: stop accepting, tell clients at a pace, wait for them to go, with a deadline.
use std::sync::Arc;
use std::time::Duration;

use daemon::Shutdown;
use protocol::{StreamCondition, StreamError};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::outlet::Order;
use crate::router::Router;

/// Steps in which a second's share of sessions is told.
const STEPS_PER_SEC: u32 = 20;
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
    fn error(&self) -> StreamError {
        match &self.see_other_host {
            Some(address) => StreamError::see_other_host(address),
            None => StreamError::new(StreamCondition::SystemShutdown),
        }
    }
}

/// Ends every session, `sessions_per_sec` at a time. Returns when all were told, or at once when asked to hurry.
pub async fn sessions(router: &Arc<Router>, settings: &Settings, shutdown: &Shutdown) {
    let all = router.sessions.all();
    if all.is_empty() {
        return;
    }
    let total = all.len();
    info!(sessions = total, "draining");
    let share = match settings.sessions_per_sec {
        0 => total,
        per_sec => usize::try_from(per_sec.div_ceil(STEPS_PER_SEC))
            .unwrap_or(total)
            .max(1),
    };
    let deadline = Instant::now() + settings.grace;
    let mut steps = interval(Duration::from_secs(1) / STEPS_PER_SEC);
    steps.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = 0;
    let mut logged = Instant::now();
    for sessions in all.chunks(share) {
        let hurry = tokio::select! {
            biased;
            () = shutdown.at_once() => true,
            now = steps.tick() => now >= deadline,
        };
        if hurry {
            break;
        }
        for session in sessions {
            session.order(Order::Close(settings.error(), "drained"));
        }
        told += sessions.len();
        if logged.elapsed() >= PROGRESS {
            logged = Instant::now();
            info!(told, total, left = router.sessions.count(), "draining");
        }
    }
    if told < total {
        warn!(
            told,
            total, "drain is out of time, the rest is told at once"
        );
        for session in router.sessions.all() {
            session.order(Order::Close(settings.error(), "drained"));
        }
    }
}
