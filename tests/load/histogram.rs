//! Latencies in buckets of at most 1.6 % width, so that millions of them cost a fixed 20 kB.

/// Buckets per power of two.
const STEPS: u64 = 64;
/// Values of 2^48 ns (three days) and more share the last bucket.
const POWERS: u64 = 42;

/// Counts of nanoseconds.
pub(crate) struct Histogram {
    counts: Box<[u64]>,
    total: u64,
}

impl Histogram {
    pub(crate) fn new() -> Self {
        let buckets = usize::try_from(STEPS * (POWERS + 1)).expect("a few thousand");
        Self {
            counts: vec![0; buckets].into(),
            total: 0,
        }
    }

    pub(crate) fn record(&mut self, nanoseconds: u64) {
        let bucket = bucket(nanoseconds).min(self.counts.len() - 1);
        self.counts[bucket] += 1;
        self.total += 1;
    }

    pub(crate) fn clear(&mut self) {
        self.counts.fill(0);
        self.total = 0;
    }

    /// The value that `share` of all values do not exceed, in microseconds; `None` without values.
    pub(crate) fn quantile_microseconds(&self, share: f64) -> Option<f64> {
        let wanted = (self.total as f64 * share).max(1.0);
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += count;
            seen as f64 >= wanted
        })?;
        Some(upper_bound(bucket as u64) as f64 / 1000.0)
    }
}

fn bucket(value: u64) -> usize {
    // Below STEPS each value has its bucket; from there each power of two has STEPS of them.
    let power = u64::from((value | 1).ilog2()).saturating_sub(u64::from(STEPS.ilog2()));
    usize::try_from(power * STEPS + (value >> power)).expect("below 64 * 64")
}

fn upper_bound(bucket: u64) -> u64 {
    if bucket < 2 * STEPS {
        return bucket;
    }
    let power = bucket / STEPS - 1;
    ((bucket - power * STEPS + 1) << power) - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_narrow() {
        let mut last = 0;
        for value in (0..2_000).chain((2_000..3_000_000).step_by(997)) {
            let found = bucket(value);
            assert!(found >= last, "{value}");
            last = found;
            let upper = upper_bound(found as u64);
            assert!(
                upper >= value && (upper - value) as f64 <= value as f64 / 64.0,
                "{value} {upper}"
            );
        }
    }

    #[test]
    fn quantiles_are_those_of_the_values() {
        let mut histogram = Histogram::new();
        assert_eq!(histogram.quantile_microseconds(0.5), None);
        for value in 1..=1000 {
            histogram.record(value * 1000);
        }
        histogram.record(u64::MAX);
        let median = histogram.quantile_microseconds(0.5).unwrap();
        assert!((495.0..=510.0).contains(&median), "{median}");
        let late = histogram.quantile_microseconds(0.99).unwrap();
        assert!((985.0..=1010.0).contains(&late), "{late}");
        histogram.clear();
        assert_eq!(histogram.quantile_microseconds(0.5), None);
    }
}
