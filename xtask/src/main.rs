//! `cargo xtask …`: the repository's automation, and the only place for it. It only runs programs: `cargo`, our own
//! binaries, the package managers of what tests need; so it builds in seconds.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what it prints is its purpose"
)]

mod bench;
mod databases;
mod demo;
mod fuzz;
mod generate;
mod package;
mod run;
mod test;
mod tidy;

use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask COMMAND

  demo [--check] [--release] [--fresh]   start a node with two accounts and say how to connect
  test [STAGE…]                          install what the tests need, then run all of them (or only these stages)
  bench …                                measure this server, a bare relay and peers; prints one table
  package [--debug]                      make the Debian package
  databases COMMAND…                     run a command with a PostgreSQL and a MariaDB of its own
  gen                                    write all generated files anew
  tidy                                   check the house rules
  fuzz [TARGET] [--seconds N]            fuzz with the kept corpus (60 s for all targets together unless said)

`cargo xtask COMMAND --help` says more.";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let command = args.next().unwrap_or_default();
    let args: Vec<String> = args.collect();
    let result = match command.as_str() {
        "demo" => demo::run(&args),
        "test" => test::run(&args),
        "bench" => bench::run(&args),
        "package" => package::run(&args),
        "databases" => databases::run(&args),
        // There is no more to say of these.
        "gen" | "tidy" if args == ["--help"] => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        "gen" => generate::run(&args),
        "tidy" => tidy::run(&args),
        "fuzz" => fuzz::run(&args),
        "" | "help" | "-h" | "--help" => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        unknown => {
            eprintln!("unknown command `{unknown}`\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
