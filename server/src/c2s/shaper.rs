//! A token bucket: bytes that a client may send per second (`shaper.NAME.max_rate`).
use std::time::Duration;

use tokio::time::Instant;

use super::ListenerSettings;

/// Seconds of silence that a client may save up.
const BURST_SECS: u32 = 4;
/// Longest single pause; the debt beyond it is paid by the next ones.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// The bucket of one session. Only sessions of a listener with a rate have one.
pub(crate) struct Shaper {
    rate: f64,
    saved: f64,
    at: Instant,
}

impl Shaper {
    /// A full bucket, if the listener has a rate.
    pub(crate) fn new(listener: &ListenerSettings) -> Option<Box<Self>> {
        let rate = f64::from(listener.shaper_rate?.max(1));
        Some(Box::new(Self {
            rate,
            saved: rate * f64::from(BURST_SECS),
            at: Instant::now(),
        }))
    }

    /// Takes bytes that have been read. Returns how long not to read, if the bucket is empty.
    pub(crate) fn spend(&mut self, bytes: usize) -> Option<Duration> {
        let now = Instant::now();
        let earned = now.duration_since(self.at).as_secs_f64() * self.rate;
        self.at = now;
        self.saved = (self.saved + earned).min(self.rate * f64::from(BURST_SECS));
        self.saved -= f64::from(u32::try_from(bytes).unwrap_or(u32::MAX));
        let debt = -self.saved / self.rate;
        (debt > 0.0).then(|| Duration::from_secs_f64(debt).min(PAUSE_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_debt_is_paid_at_the_rate() {
        let mut shaper = Shaper {
            rate: 1_000.0,
            saved: 4_000.0,
            at: Instant::now(),
        };
        assert_eq!(shaper.spend(4_000), None);
        assert_eq!(shaper.spend(2_000), Some(Duration::from_secs(2)));
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(shaper.spend(1_000), None);
        assert_eq!(shaper.spend(1_000_000), Some(PAUSE_MAX));
    }
}
