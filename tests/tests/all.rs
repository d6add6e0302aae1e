//! The one binary of fast whole-system tests (and of slow ones, which run when `RUN_SLOW_TESTS=1` says so).
mod crash;
mod delivery;
mod load;
mod scenarios;

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
