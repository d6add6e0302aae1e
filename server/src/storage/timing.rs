//! Times every statement: tells the observer, and logs what was slow.
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Who counts statements: the metrics of the node.
pub trait Observer: Send + Sync + 'static {
    /// A statement, or a job of several, ended after `elapsed`, its time in the queue included.
    fn query(&self, name: &'static str, elapsed: Duration, succeeded: bool);

    /// A batch of so many jobs was committed, or failed, after `elapsed`.
    fn batch(&self, jobs: usize, elapsed: Duration, succeeded: bool);
}

/// Counts nothing.
pub(super) struct Silent;

impl Observer for Silent {
    fn query(&self, _: &'static str, _: Duration, _: bool) {}
    fn batch(&self, _: usize, _: Duration, _: bool) {}
}

/// Slow statements are logged once in this time at most, so that a slow disk does not also fill itself with logs.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Timing {
    slow_query: Duration,
    observer: Arc<dyn Observer>,
    log: Mutex<SlowLog>,
}

#[derive(Default)]
struct SlowLog {
    last: Option<Instant>,
    suppressed: u64,
}

impl Timing {
    pub(super) fn new(slow_query: Duration, observer: Arc<dyn Observer>) -> Self {
        Self {
            slow_query,
            observer,
            log: Mutex::default(),
        }
    }

    pub(super) fn observe(&self, name: &'static str, started: Instant, succeeded: bool) {
        let elapsed = started.elapsed();
        self.observer.query(name, elapsed, succeeded);
        if elapsed >= self.slow_query {
            self.log_slow(name, elapsed);
        }
    }

    pub(super) fn observe_batch(&self, jobs: usize, started: Instant, succeeded: bool) {
        self.observer.batch(jobs, started.elapsed(), succeeded);
    }

    fn log_slow(&self, name: &'static str, elapsed: Duration) {
        let suppressed = {
            let mut log = self.log.lock();
            if log.last.is_some_and(|last| last.elapsed() < LOG_INTERVAL) {
                log.suppressed += 1;
                return;
            }
            log.last = Some(Instant::now());
            std::mem::take(&mut log.suppressed)
        };
        tracing::warn!(
            query = name,
            elapsed_ms = elapsed.as_secs_f64() * 1e3,
            suppressed,
            "slow query"
        );
    }
}
