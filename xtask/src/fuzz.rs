//! `cargo xtask fuzz`: coverage-guided fuzzing on stable Rust.
//!
//! The compiler counts edges by itself when asked to (LLVM's `sancov-module`); the package `fuzz` reads the counters. It
//! is built into a folder of its own, as the flags hold for every crate that it links.
use std::time::Duration;

use anyhow::{Context, Result};

use crate::run;

const USAGE: &str = "\
cargo xtask fuzz [TARGET] [--seconds N] [--keep] [--seed N] [--input FILE]

Fuzzes one target, or all of them in turn, for N seconds (60 unless said) with the corpus in protocol/fuzz/corpus.
An input that fails is written to protocol/fuzz/crashes and named; `--input` runs it again. `--keep` adds to the
corpus what reaches new code.";

/// Level 3: every edge. The tables are read by the package itself, so no sanitizer's run time is linked. Assertions
/// and overflow checks are what a fuzzer looks for.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cdebug-assertions=on -Coverflow-checks=on";

pub(crate) fn run(args: &[String]) -> Result<()> {
    if args.iter().any(|arg| arg == "--help") {
        println!("{USAGE}");
        return Ok(());
    }
    let is_all = args.first().is_none_or(|first| first.starts_with('-'));
    let target = if is_all {
        vec!["all".to_owned()]
    } else {
        Vec::new()
    };
    fuzz(&[target.as_slice(), args].concat())
}

/// All targets, for this time together.
pub(crate) fn all(time: Duration) -> Result<()> {
    fuzz(&[
        "all".to_owned(),
        "--seconds".to_owned(),
        time.as_secs().to_string(),
    ])
}

fn fuzz(args: &[String]) -> Result<()> {
    run::check(
        run::cargo()
            .args([
                "run",
                "--quiet",
                "--locked",
                "--release",
                "--package",
                "fuzz",
                "--target",
                &host()?,
            ])
            .arg("--target-dir")
            .arg(run::target_dir().join("fuzz"))
            .arg("--")
            .args(args)
            .env("RUSTFLAGS", FLAGS)
            // It is linked to run for a minute: link time counts.
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16"),
    )
}

/// Naming the host as the target keeps the flags out of build scripts and procedural macros.
fn host() -> Result<String> {
    let version = run::output(run::command("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned)
        .context("`rustc -vV` does not name its host")
}
