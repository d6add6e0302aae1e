//! Plays `tests/scenarios/*.txt`: one test per file, one server per scenario.
//!
//! `SCENARIO=word` plays only scenarios with that word in their name; `SCENARIO_PEER=prosody` plays them on Debian's
//! Prosody, which shows that a scenario asks for XMPP and not for us.
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use tests::client::{Account, Security};
use tests::scenario::{Scenario, parse};
use tests::target::{Peer, Setup, Target};

use crate::peer;

/// One test per file, so that a failure names its file and files run side by side.
macro_rules! scenario_files {
    ($($name:ident)*) => {
        const FILES: &[&str] = &[$(stringify!($name)),*];
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                play_file(stringify!($name)).await;
            }
        )*
    };
}

scenario_files! {
    streams starttls direct_tls sasl bind resource_conflict session ping version time private last disco addresses messages spoofing routing roster subscriptions presence
    offline caps carbons csi register stream_management privacy blocking vcard search websocket
}

/// Files that say nothing of the transport hold over WebSocket as they do over TCP; these have most to do with it.
macro_rules! files_over_websocket {
    ($($test:ident $name:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                play_file_over_websocket(stringify!($name)).await;
            }
        )*
    };
}

files_over_websocket! {
    messages_over_websocket messages
    presence_over_websocket presence
    roster_over_websocket roster
    offline_over_websocket offline
    carbons_over_websocket carbons
    csi_over_websocket csi
    stream_management_over_websocket stream_management
}

/// Each scenario of the file whose clients do nothing with the stream itself, with all of them over WebSocket.
async fn play_file_over_websocket(name: &str) {
    if peer() != Peer::Meerkat {
        return;
    }
    let (mut failures, mut count) = (Vec::new(), 0);
    for mut scenario in read_file(name) {
        if !scenario.takes_any_transport() {
            continue;
        }
        scenario.use_transport(Security::WebSocket);
        count += 1;
        if let Err(error) = play(Peer::Meerkat, &scenario, "").await {
            failures.push(format!(
                "{name}.txt:{}: {} (over WebSocket)\n{error:#}",
                scenario.line, scenario.name
            ));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n\n"));
    assert!(count > 0, "{name}.txt speaks of the stream everywhere");
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

#[test]
fn every_file_of_scenarios_is_played() {
    let files = fs::read_dir(directory())
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let names: BTreeSet<String> = files
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    let listed: BTreeSet<String> = FILES.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(
        names, listed,
        "tests/scenarios and the list in tests/tests/scenarios.rs differ"
    );
}

fn read_file(name: &str) -> Vec<Scenario> {
    let path = directory().join(format!("{name}.txt"));
    let text =
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    parse(&text).unwrap_or_else(|error| panic!("{name}.txt: {error:#}"))
}

async fn play_file(name: &str) {
    play_file_on(name, &String::new).await;
}

/// Plays a file with more configuration for each scenario.
pub(crate) async fn play_file_on(name: &str, config: &(dyn Fn() -> String + Sync)) {
    let scenarios = read_file(name);
    let wanted = std::env::var_os("SCENARIO")
        .map(|word| word.to_string_lossy().into_owned())
        .unwrap_or_default();
    let peer = peer();
    let mut failures = Vec::new();
    for scenario in scenarios
        .iter()
        .filter(|scenario| scenario.name.contains(&wanted))
    {
        if scenario
            .skipped_peers
            .iter()
            .any(|skipped| skipped == peer.name())
        {
            continue;
        }
        if let Err(error) = play(peer, scenario, &config()).await {
            failures.push(format!(
                "{name}.txt:{}: {}\n{error:#}",
                scenario.line, scenario.name
            ));
        }
    }
    assert!(failures.is_empty(), "\n{}", failures.join("\n\n"));
}

async fn play(peer: Peer, scenario: &Scenario, config: &str) -> anyhow::Result<()> {
    let mut accounts: Vec<Account> = Vec::new();
    for client in scenario
        .clients
        .values()
        .filter(|client| client.has_account)
    {
        if accounts
            .iter()
            .all(|account| account.local != client.account.local)
        {
            accounts.push(client.account.clone());
        }
    }
    let setup = Setup {
        accounts,
        config: format!("{}\n{config}", scenario.config),
        listener: scenario.listener.clone(),
    };
    let target = Target::start(peer, setup).await?;
    let played = tests::runner::play(scenario, &target).await;
    target.stop().await?;
    played
}
