//! `cargo xtask fuzz`: coverage-guided fuzzing on stable Rust.
//!
//! The compiler counts edges by itself when asked to (LLVM's `sancov-module`); the driver that reads the counters is in
//! the package `fuzz`. It is built into a folder of its own, as the flags hold for every crate it links.
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::run;

const USAGE: &str = "\
cargo xtask fuzz [--secs N] [TARGET…]

Fuzzes all targets, or only those named, for N seconds together (60 unless said). The corpus is in
protocol/fuzz/corpus; an input that fails is kept in protocol/fuzz/crashes and named in the message. Once
it is understood it belongs into the corpus.";

const SECS_DEFAULT: u64 = 60;

/// Level 3: every edge. The tables are read by the driver, so no sanitizer runtime is linked. Overflows and broken
/// assertions are found too.
const COVERAGE: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=3 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cdebug-assertions=on -Coverflow-checks=on";

pub(crate) fn run(args: &[String]) -> Result<()> {
    let mut secs = SECS_DEFAULT;
    let mut targets = Vec::new();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--help" => {
                println!("{USAGE}");
                return Ok(());
            }
            "--secs" => {
                let value = args.next().context("--secs needs a number")?;
                secs = value
                    .parse()
                    .with_context(|| format!("`{value}` is no number of seconds"))?;
            }
            flag if flag.starts_with('-') => bail!("unknown flag `{flag}`\n\n{USAGE}"),
            target => targets.push(target.to_owned()),
        }
    }
    fuzz(Duration::from_secs(secs), &targets)
}

pub(crate) fn fuzz(time: Duration, targets: &[String]) -> Result<()> {
    run::check(
        run::cargo()
            .args([
                "run",
                "--quiet",
                "--locked",
                "--release",
                "--package",
                "fuzz",
                // Named, so that build scripts and macros are built without the flags: they have no driver.
                "--target",
                &host()?,
                "--",
            ])
            .args(["--secs", &time.as_secs().to_string()])
            .args(targets)
            .env("CARGO_TARGET_DIR", run::target_dir().join("fuzz"))
            .env("RUSTFLAGS", COVERAGE),
    )
}

/// The machine that the compiler runs on, as it names it.
fn host() -> Result<String> {
    let version = run::output(run::command("rustc").arg("-vV"))?;
    version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .context("`rustc -vV` names no host")
}
