//! Random changes of inputs.

/// Longest input that is made: elements before login are refused at this length, so that limits are reached too.
const INPUT_BYTES_MAX: usize = 20_000;

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`, 0 if that is 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// Changes `input` in one to eight places; `other` is another input to take from, `words` are the target's.
pub(crate) fn mutate(input: &mut Vec<u8>, other: &[u8], words: &[&[u8]], random: &mut Random) {
    let changes = 1 << random.below(4);
    for _ in 0..=random.below(changes) {
        let at = random.below(input.len() + 1);
        let length = random.below(input.len() - at + 1).min(1 << random.below(8));
        match random.below(9) {
            0 | 1 => insert(
                input,
                at,
                words
                    .get(random.below(words.len()))
                    .copied()
                    .unwrap_or_default(),
            ),
            2 => {
                let word = words
                    .get(random.below(words.len()))
                    .copied()
                    .unwrap_or_default();
                let end = (at + word.len()).min(input.len());
                input.splice(at..end, word.iter().copied());
            }
            3 => drop(input.drain(at..at + length)),
            4 => {
                let copy = input[at..at + length].to_vec();
                let repeats = 1 << random.below(6);
                for _ in 0..repeats {
                    insert(input, at, &copy);
                }
            }
            5 => {
                let from = random.below(other.len() + 1);
                let end = from + random.below(other.len() - from + 1);
                insert(input, at, &other[from..end]);
            }
            6 => insert(input, at, &[random.next() as u8]),
            7 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << random.below(8);
                }
            }
            _ => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = random.next() as u8;
                }
            }
        }
    }
    input.truncate(INPUT_BYTES_MAX);
}

fn insert(input: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if input.len() + bytes.len() <= INPUT_BYTES_MAX {
        input.splice(at..at, bytes.iter().copied());
    }
}
