//! The search: run an input, look which edges it reached how often, keep it if that is new.
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::coverage;
use crate::mutate::{Random, mutate};
use crate::targets::Target;

/// An input that takes longer has found something that is not linear.
const INPUT_SECONDS_MAX: u64 = 10;

/// Where the worker notes the input before it runs it, for the case that it dies.
pub(crate) struct State(File);

impl State {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        Ok(Self(File::create(path)?))
    }

    fn note(&self, input: &[u8]) {
        let length = (input.len() as u64).to_le_bytes();
        let noted = self.0.write_all_at(&[&length[..], input].concat(), 0);
        noted.expect("the temporary directory takes an input");
    }

    /// The input that was noted last.
    pub(crate) fn read(path: &Path) -> Option<Vec<u8>> {
        let noted = std::fs::read(path).ok()?;
        let (length, input) = noted.split_first_chunk()?;
        Some(input.get(..u64::from_le_bytes(*length) as usize)?.to_vec())
    }
}

pub(crate) struct Engine {
    target: &'static Target,
    random: Random,
    state: State,
    kept: Vec<Vec<u8>>,
    /// For each edge, the ranges of counts that were seen.
    seen: Vec<u8>,
    counters: Vec<u8>,
    edges: usize,
    runs: u64,
    time: Duration,
    /// Second at which the running input was started, for the watchdog.
    started_at: Arc<AtomicU64>,
    clock: Instant,
}

impl Engine {
    pub(crate) fn new(target: &'static Target, seed: u64, state: State) -> Self {
        let engine = Self {
            target,
            random: Random(seed),
            state,
            kept: Vec::new(),
            seen: vec![0; coverage::count()],
            counters: Vec::new(),
            edges: 0,
            runs: 0,
            time: Duration::ZERO,
            started_at: Arc::default(),
            clock: Instant::now(),
        };
        engine.watch();
        engine
    }

    /// Ends the process when an input takes too long; whoever started it finds the input in the state.
    fn watch(&self) {
        let (started_at, clock) = (Arc::clone(&self.started_at), self.clock);
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_secs(1));
                let seconds = clock.elapsed().as_secs();
                if seconds > started_at.load(Ordering::Relaxed) + INPUT_SECONDS_MAX {
                    eprintln!("an input takes more than {INPUT_SECONDS_MAX} s");
                    std::process::exit(2);
                }
            }
        });
    }

    /// Tries given inputs and keeps those that reach something new.
    pub(crate) fn load(&mut self, inputs: Vec<Vec<u8>>) {
        let seeds = self.target.seeds.iter().map(|seed| seed.to_vec());
        for input in seeds.chain(inputs) {
            if self.is_new(&input) {
                self.kept.push(input);
            }
        }
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let start = Instant::now();
        while start.elapsed() < time {
            // Newer inputs have had fewer turns.
            let back = self
                .random
                .below(self.kept.len())
                .min(self.random.below(self.kept.len()));
            let chosen = self.kept.len().saturating_sub(1 + back);
            let mut input = self.kept.get(chosen).cloned().unwrap_or_default();
            let other = self.random.below(self.kept.len());
            let other = self.kept.get(other).map_or(&[][..], Vec::as_slice);
            mutate(&mut input, other, self.target.words, &mut self.random);
            if self.is_new(&input) {
                let input = self.shortened(input);
                self.kept.push(input);
            }
        }
        self.time = start.elapsed();
    }

    /// Takes pieces out of a new input as long as it reaches the same.
    fn shortened(&mut self, input: Vec<u8>) -> Vec<u8> {
        let reached = self.reached(&input);
        let mut shortest = input;
        let mut piece = shortest.len().next_power_of_two() / 2;
        while piece > 0 {
            let mut at = 0;
            while at < shortest.len() {
                let end = (at + piece).min(shortest.len());
                let without = [&shortest[..at], &shortest[end..]].concat();
                if self.reached(&without) == reached {
                    shortest = without;
                } else {
                    at = end;
                }
            }
            piece /= 2;
        }
        shortest
    }

    fn is_new(&mut self, input: &[u8]) -> bool {
        self.run(input);
        let mut is_new = !coverage::is_built_in() && self.kept.len() < 64;
        for (seen, count) in self.seen.iter_mut().zip(&self.counters) {
            let range = range(*count);
            if range & !*seen != 0 {
                is_new = true;
                self.edges += usize::from(*seen == 0);
                *seen |= range;
            }
        }
        is_new
    }

    /// The edges that an input reaches, whatever their counts.
    fn reached(&mut self, input: &[u8]) -> Vec<bool> {
        self.run(input);
        self.counters.iter().map(|count| *count > 0).collect()
    }

    fn run(&mut self, input: &[u8]) {
        self.state.note(input);
        let now = self.clock.elapsed().as_secs();
        self.started_at.store(now, Ordering::Relaxed);
        coverage::reset();
        let result = std::panic::catch_unwind(AssertUnwindSafe(|| (self.target.run)(input)));
        coverage::copy_to(&mut self.counters);
        self.runs += 1;
        if result.is_err() {
            // The message was printed; the input is in the state.
            std::process::exit(1);
        }
    }

    /// A small choice of the inputs that together reach all edges that were reached, the shortest first.
    pub(crate) fn minimal(&mut self) -> Vec<Vec<u8>> {
        let mut inputs = std::mem::take(&mut self.kept);
        inputs.sort_by(|one, other| (one.len(), one).cmp(&(other.len(), other)));
        let mut covered = vec![false; coverage::count()];
        inputs.retain(|input| {
            let mut is_wanted = !coverage::is_built_in();
            for (covered, reached) in covered.iter_mut().zip(self.reached(input)) {
                is_wanted |= reached && !*covered;
                *covered |= reached;
            }
            is_wanted
        });
        inputs
    }

    pub(crate) fn summary(&self) -> String {
        let rate = self.runs as f64 / self.time.as_secs_f64().max(0.001);
        let (name, runs, edges, kept) = (self.target.name, self.runs, self.edges, self.kept.len());
        format!(
            "{name}: {runs} execs ({rate:.0}/s), {edges} edges covered, {kept} inputs, no crash"
        )
    }
}

/// Counts as one of eight ranges: more of the same is news only when it is much more.
fn range(count: u8) -> u8 {
    match count {
        0 => 0,
        1 => 1,
        2 => 2,
        3 => 4,
        4..=7 => 8,
        8..=15 => 16,
        16..=31 => 32,
        32..=127 => 64,
        _ => 128,
    }
}
