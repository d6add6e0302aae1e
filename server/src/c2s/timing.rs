//! When a quiet client is asked for a sign of life, and when it is taken for gone, where its listener says so.
use parking_lot::RwLock;

/// The time-outs of one listener; `None` is what the node does with all (`node/idle.rs`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timing {
    /// Seconds of silence after which a client is asked.
    pub ask_secs: Option<u32>,
    /// Seconds of silence after which a client is taken for gone.
    pub gone_secs: Option<u32>,
}

/// All timings of a node. A session has the number of its own, which is a byte; 0 is the node's.
#[derive(Default)]
pub struct Timings(RwLock<Vec<Timing>>);

impl Timings {
    /// The number of a timing. Past 255 different ones it is that of the node.
    pub fn add(&self, timing: Timing) -> u8 {
        if timing == Timing::default() {
            return 0;
        }
        let mut all = self.0.write();
        let index = all.iter().position(|other| *other == timing);
        let index = index.unwrap_or_else(|| {
            all.push(timing);
            all.len() - 1
        });
        u8::try_from(index + 1).unwrap_or(0)
    }

    /// The timing of that number.
    pub fn of(&self, number: u8) -> Timing {
        match usize::from(number).checked_sub(1) {
            None => Timing::default(),
            Some(index) => self.0.read().get(index).copied().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_stands_for_a_timing() {
        let timings = Timings::default();
        let of = |secs| Timing {
            ask_secs: Some(secs),
            gone_secs: None,
        };
        assert_eq!(timings.add(Timing::default()), 0);
        assert_eq!(timings.add(of(1)), 1);
        assert_eq!(timings.add(of(2)), 2);
        assert_eq!(timings.add(of(1)), 1);
        assert_eq!(timings.of(2), of(2));
        assert_eq!(timings.of(0), Timing::default());
        let last = (3..=300).map(|secs| timings.add(of(secs))).last();
        assert_eq!(last, Some(0));
    }
}
