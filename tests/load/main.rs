//! `load`: a load generator for any XMPP server over TCP, TLS or WebSocket. `load --help` lists its rows.
//!
//! Read `crowd` first (sessions, sockets, the event loop), then the rows; `login` and `keys` are the way in.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;

mod options;

mod crowd;
mod framing;
mod keys;
mod login;
mod tls;
mod websocket;

mod histogram;
mod measure;
mod report;

mod rows;

fn main() -> ExitCode {
    let options = options::Options::parse();
    match rows::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "load: {error:#}");
            let failure = error.downcast_ref::<report::Failure>();
            ExitCode::from(failure.map_or(1, report::Failure::exit_code))
        }
    }
}
