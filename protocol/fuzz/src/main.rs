//! A coverage-guided fuzzer for everything in `protocol` that reads a stranger's bytes, on stable Rust.
//!
//! ```text
//! fuzz [TARGET…|all] [--seconds N] [--corpus DIR] [--keep] [--seed N]
//! fuzz TARGET --input FILE
//! ```
//!
//! Targets are `xml_stream`, `xml_tree`, `jid`, `sasl`, `proxy`, `bosh` and `websocket`, all of them unless some are
//! named; they share the seconds (60 by default). An input that makes a target panic, take more than ten seconds or kill
//! the process is written to `protocol/fuzz/crashes/`,
//! its path is printed, and the exit code is 1. `--input` runs that one input again. `--keep` writes what was found to
//! the corpus in `protocol/fuzz/corpus/<target>/`, as few files as reach all edges, and removes the others there. A crash that was
//! understood belongs into the corpus, so that it is tried first ever after.
//!
//! The compiler's own counters guide the search. They are built in by these flags; `--target` keeps them out of build
//! scripts, and the target directory of its own keeps other builds from starting anew:
//!
//! ```text
//! RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 \
//!   -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
//!   -Cdebug-assertions=on -Coverflow-checks=on" \
//! cargo run --release -p fuzz --target x86_64-unknown-linux-gnu --target-dir target/fuzz -- all --seconds 60
//! ```
//!
//! Built without them it says so, tries the corpus, and then mutates it blindly.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

mod corpus;
mod coverage;
mod engine;
mod mutate;
mod targets;

use engine::{Engine, State};
use targets::{TARGETS, Target};

struct Options {
    /// Names, none for all.
    targets: Vec<String>,
    seconds: u64,
    corpus: PathBuf,
    keep: bool,
    seed: u64,
    input: Option<PathBuf>,
    /// This process is the one that runs the target, and notes here what it runs.
    state: Option<PathBuf>,
}

fn main() -> ExitCode {
    match Options::parse(std::env::args().skip(1)) {
        Ok(options) => run(&options),
        Err(message) => {
            eprintln!(
                "{message}\nusage: fuzz [TARGET…|all] [--seconds N] [--corpus DIR] [--keep] [--seed N] [--input FILE]"
            );
            ExitCode::FAILURE
        }
    }
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let package = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut options = Self {
            targets: Vec::new(),
            seconds: 60,
            corpus: package.join("corpus"),
            keep: false,
            seed: 1,
            input: None,
            state: None,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            let number = |text: String| text.parse::<u64>().map_err(|error| error.to_string());
            match &*argument {
                "--seconds" | "--secs" => options.seconds = number(value()?)?,
                "--seed" => options.seed = number(value()?)?,
                "--corpus" => options.corpus = value()?.into(),
                "--input" => options.input = Some(value()?.into()),
                "--state" => options.state = Some(value()?.into()),
                "--keep" => options.keep = true,
                flag if flag.starts_with('-') => return Err(format!("unknown flag {flag}")),
                "all" => {}
                target => options.targets.push(target.to_owned()),
            }
        }
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        match options
            .targets
            .iter()
            .find(|target| !names.contains(&&***target))
        {
            Some(unknown) => Err(format!(
                "there is no target {unknown}, only: {}",
                names.join(", ")
            )),
            None => Ok(options),
        }
    }

    fn targets(&self) -> Vec<&'static Target> {
        TARGETS
            .iter()
            .filter(|target| {
                self.targets.is_empty() || self.targets.iter().any(|name| name == target.name)
            })
            .collect()
    }
}

fn run(options: &Options) -> ExitCode {
    let targets = options.targets();
    let [first, ..] = &targets[..] else {
        return ExitCode::SUCCESS;
    };
    if let Some(input) = &options.input {
        return run_input(first, input);
    }
    if let Some(state) = &options.state {
        return run_worker(first, options, state);
    }
    if !coverage::is_built_in() {
        println!("built without coverage: the corpus is tried and then mutated blindly");
    }
    let seconds = options.seconds.div_ceil(targets.len() as u64);
    let crashes = targets
        .iter()
        .filter(|target| !survives(target, options, seconds))
        .count();
    if crashes == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn run_input(target: &Target, path: &Path) -> ExitCode {
    match std::fs::read(path) {
        Ok(input) => {
            (target.run)(&input);
            println!("{}: no crash", target.name);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}

/// Runs a target in a process of its own, which may die. `true` if it did not.
fn survives(target: &Target, options: &Options, seconds: u64) -> bool {
    let state = std::env::temp_dir().join(format!("fuzz-{}-{}", target.name, std::process::id()));
    let mut worker = Command::new(std::env::current_exe().expect("this program has a path"));
    worker
        .arg(target.name)
        .args(["--seconds", &seconds.to_string()])
        .args(["--seed", &options.seed.to_string()])
        .arg("--corpus")
        .arg(&options.corpus)
        .arg("--state")
        .arg(&state);
    if options.keep {
        worker.arg("--keep");
    }
    let status = worker.status().expect("this program can be started");
    let survived = status.success();
    if !survived {
        let path = State::read(&state).map(|input| corpus::save_crash(target.name, &input));
        match path {
            Some(path) => println!(
                "{}: CRASH ({status}), input in {}",
                target.name,
                path.display()
            ),
            None => println!("{}: died ({status}) before it ran an input", target.name),
        }
    }
    // It is the system's to remove what is left of it.
    let _ = std::fs::remove_file(&state);
    survived
}

fn run_worker(target: &'static Target, options: &Options, state: &Path) -> ExitCode {
    let state = State::create(state).expect("the temporary directory takes a file");
    let directory = options.corpus.join(target.name);
    let mut engine = Engine::new(target, options.seed, state);
    engine.load(corpus::load(&directory));
    engine.run_for(Duration::from_secs(options.seconds));
    println!("{}", engine.summary());
    if options.keep {
        corpus::keep(&directory, &engine.minimal());
    }
    ExitCode::SUCCESS
}
