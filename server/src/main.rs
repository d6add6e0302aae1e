//! `meerkat`: the node. Flags, configuration, run, exit code.
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use server::run;

/// jemalloc gives memory back after a burst; the C library's allocator keeps most of it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// An XMPP node. Without a configuration file it serves `localhost` on loopback, with an embedded database and a
/// certificate of its own in its data directory.
#[derive(Parser)]
#[command(name = "meerkat", version, after_help = run::EXIT_CODES)]
struct Flags {
    /// The configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Prints everything that is wrong with a configuration file and with what it names, warnings about it and about
    /// this machine, and ends. Warnings do not change the exit code.
    #[arg(long, value_name = "FILE", conflicts_with = "config")]
    check_config: Option<PathBuf>,
    /// Where the database, certificates and the control socket lie; overrides `general.data_dir`.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Writes logs as JSON, one object a line.
    #[arg(long)]
    log_json: bool,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    if let Some(file) = flags.check_config {
        return run::check_config(&file, flags.data_dir.as_deref());
    }
    run::node(&run::Start {
        config: flags.config,
        data_dir: flags.data_dir,
        log_json: flags.log_json,
    })
}
