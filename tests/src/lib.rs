//! Whole-system tests: a client of our own, the servers it runs against, and the scenario runner.
//!
//! A scenario (`tests/scenarios/*.txt`) is a script of clients: who sends which XML and what each must receive. Start
//! with [`scenario`] for the language and [`runner`] for how it is played. [`client::Client`] is also what table-driven
//! tests and `cargo xtask demo --check` log in with.
#![allow(
    clippy::large_futures,
    reason = "a test has a handful of clients, each with its future"
)]

pub mod actors;
pub mod book;
pub mod bosh;
pub mod client;
pub mod expect;
pub mod http;
pub mod light;
pub mod process;
pub mod runner;
pub mod scenario;
pub mod target;
pub mod wire;
