//! `meerkatctl`: administers a node. See [`server::ctl`].
use std::process::ExitCode;

fn main() -> ExitCode {
    server::ctl::main()
}
