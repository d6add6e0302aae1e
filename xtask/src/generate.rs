//! `cargo xtask gen`: writes generated files anew.
//!
//! Each generated file belongs to a test in the crate that knows the facts. The test compares, and with `UPDATE=1` it
//! writes. Such tests have names that begin with `generated_`: that is how they are found.
use anyhow::{Result, bail};

use crate::run;

pub(crate) fn run(args: &[String]) -> Result<()> {
    if !args.is_empty() {
        bail!("`cargo xtask gen` takes no arguments: it writes every generated file");
    }
    run::check(
        run::cargo()
            .args(["test", "--quiet", "--workspace", "--", "generated_"])
            .env("UPDATE", "1"),
    )?;
    run::check(run::command("git").args(["status", "--short"]))
}
