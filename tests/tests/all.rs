//! The one binary of fast whole-system tests (and of slow ones, which run when `RUN_SLOW_TESTS=1` says so).
#![allow(
    clippy::large_futures,
    reason = "a test has a handful of clients, each with its future"
)]

#[cfg(test)]
mod admin;
#[cfg(test)]
mod bosh;
#[cfg(test)]
mod certificates;
#[cfg(test)]
mod databases;
#[cfg(test)]
mod delivery;
#[cfg(test)]
mod docs;
#[cfg(test)]
mod interop;
#[cfg(test)]
mod load;
#[cfg(test)]
mod payloads;
#[cfg(test)]
mod proof;
#[cfg(test)]
mod resumption;
#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod security;
#[cfg(test)]
mod service;
#[cfg(test)]
mod strangers;

use tests::target::Peer;

/// Which server the tests run against.
fn peer() -> Peer {
    match std::env::var_os("SCENARIO_PEER")
        .map(|name| name.to_string_lossy().into_owned())
        .as_deref()
    {
        None | Some("meerkat") => Peer::Meerkat,
        Some("prosody") => Peer::Prosody,
        other => panic!("unknown SCENARIO_PEER {other:?}"),
    }
}
