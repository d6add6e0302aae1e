//! RFC 8446, appendix C and section 5.1: how many records that cost more than they carry a client may send.

use std::time::Duration;

use tokio::time::Instant;

use super::TlsLimit;

/// The records of an established connection that are not worth their decryption, each kind with its own rate.
///
/// Blanks between stanzas, one per record, are a client's sign of life and stay far below; a flood is cut off within
/// one read.
#[derive(Debug, Default)]
pub(super) struct RecordBudget {
    empty: Bucket,
    tiny: Bucket,
}

impl RecordBudget {
    /// Counts a record that decrypted to `plain_bytes` bytes. The clock is read only for records that count.
    pub(super) fn take(
        &mut self,
        plain_bytes: usize,
        now: impl FnOnce() -> Instant,
    ) -> Result<(), TlsLimit> {
        if plain_bytes >= TINY_RECORD_BYTES {
            return Ok(());
        }
        if plain_bytes > 0 {
            return self
                .tiny
                .take(now(), TINY_RECORDS_BURST_MAX, TINY_RECORDS_PER_SECOND_MAX)
                .ok_or(TlsLimit::TinyRecords);
        }
        self.empty
            .take(now(), EMPTY_RECORDS_BURST_MAX, EMPTY_RECORDS_PER_SECOND_MAX)
            .ok_or(TlsLimit::EmptyRecords)
    }
}

/// A token bucket kept as the one moment at which it will be full again.
#[derive(Debug, Default)]
struct Bucket {
    full_at: Option<Instant>,
}

impl Bucket {
    /// Takes one token of at most `burst`, of which `per_second` come back each second. `None` if there is none.
    fn take(&mut self, now: Instant, burst: u32, per_second: u32) -> Option<()> {
        let interval = Duration::from_secs(1) / per_second;
        let full_at = self.full_at.map_or(now, |moment| moment.max(now)) + interval;
        if full_at - now > interval * burst {
            return None;
        }
        self.full_at = Some(full_at);
        Some(())
    }
}

/// Records that carry nothing (key updates, empty records, warnings) which a client may send at once. A key update
/// costs 5 to 10 microseconds, and rustls by itself ends a connection without an alert after 32 in a row.
pub const EMPTY_RECORDS_BURST_MAX: u32 = 24;

/// Records without data that a client may send each second in the long run.
pub const EMPTY_RECORDS_PER_SECOND_MAX: u32 = 1;

/// A record with less data than this, bytes, is a tiny one. A stream-management request has 26 bytes.
pub const TINY_RECORD_BYTES: usize = 16;

/// Tiny records that a client may send at once; each costs about a microsecond.
pub const TINY_RECORDS_BURST_MAX: u32 = 1024;

/// Tiny records that a client may send each second in the long run: some write each piece of a stanza by itself.
pub const TINY_RECORDS_PER_SECOND_MAX: u32 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends as many records of `plain_bytes` as are let through at `now`.
    fn flood(budget: &mut RecordBudget, plain_bytes: usize, now: Instant) -> u32 {
        let mut passed = 0;
        while passed < 10_000 && budget.take(plain_bytes, || now).is_ok() {
            passed += 1;
        }
        passed
    }

    #[test]
    fn a_burst_is_let_through_and_then_the_rate() {
        let start = Instant::now();
        for (plain_bytes, burst, per_second, limit) in [
            (
                0,
                EMPTY_RECORDS_BURST_MAX,
                EMPTY_RECORDS_PER_SECOND_MAX,
                TlsLimit::EmptyRecords,
            ),
            (
                1,
                TINY_RECORDS_BURST_MAX,
                TINY_RECORDS_PER_SECOND_MAX,
                TlsLimit::TinyRecords,
            ),
            (
                15,
                TINY_RECORDS_BURST_MAX,
                TINY_RECORDS_PER_SECOND_MAX,
                TlsLimit::TinyRecords,
            ),
        ] {
            let mut budget = RecordBudget::default();
            assert_eq!(flood(&mut budget, plain_bytes, start), burst);
            assert_eq!(budget.take(plain_bytes, || start), Err(limit));
            assert_eq!(
                flood(&mut budget, plain_bytes, start + Duration::from_secs(3)),
                3 * per_second
            );
            assert_eq!(
                flood(&mut budget, plain_bytes, start + Duration::from_secs(3600)),
                burst
            );
        }
    }

    #[test]
    fn a_record_with_data_costs_nothing_and_reads_no_clock() {
        let mut budget = RecordBudget::default();
        for _ in 0..100_000 {
            budget
                .take(TINY_RECORD_BYTES, || unreachable!("no clock"))
                .unwrap();
        }
    }

    #[test]
    fn a_blank_each_second_is_let_through_for_a_day() {
        let start = Instant::now();
        let mut budget = RecordBudget::default();
        for second in 0..86_400 {
            budget
                .take(1, || start + Duration::from_secs(second))
                .unwrap();
            budget
                .take(0, || start + Duration::from_secs(second))
                .unwrap();
        }
    }
}
