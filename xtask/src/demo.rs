//! `cargo xtask demo`: builds the node and the program `demo` of the crate `tests`, which starts the one and talks to it.
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, anyhow};

use crate::run;

pub(crate) fn run(args: &[String]) -> Result<()> {
    let is_release = args.iter().any(|arg| arg == "--release");
    let mut build = run::cargo();
    build.args([
        "build",
        "--locked",
        "--package",
        "server",
        "--bins",
        "--package",
        "tests",
        "--bin",
        "demo",
    ]);
    if is_release {
        build.arg("--release");
    }
    run::check(&mut build)?;
    let binaries = run::target_dir().join(if is_release { "release" } else { "debug" });
    let mut demo = demo(&binaries);
    demo.args(args.iter().filter(|arg| *arg != "--release"));
    // Takes our place, so that Ctrl-C and the exit code are its own.
    Err(anyhow!(demo.exec()).context("cannot start the demo"))
}

/// Starts a node that is built already, logs in with two clients, and stops it.
pub(crate) fn check(binaries: &Path) -> Result<()> {
    run::check(demo(binaries).arg("--check"))
}

fn demo(binaries: &Path) -> Command {
    let mut demo = run::command(binaries.join("demo"));
    demo.arg("--binaries").arg(binaries);
    demo
}
