//! `cargo xtask bench`: measures with the load generator of the crate `tests`.
use anyhow::{Result, bail};

pub(crate) fn run(_args: &[String]) -> Result<()> {
    bail!("the load generator comes with the branch `load`")
}
