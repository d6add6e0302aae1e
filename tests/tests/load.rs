//! The load generator against the relay: its rows come, and what a relay does wrong does not escape it.
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Output, Stdio};

use tests::client::{Account, Security};
use tests::light;
use tests::process::{Home, Process, Setup};
use tests::target::{self, DOMAIN, Peer, Target};

/// A relay on a free port that ends with the test.
struct Relay {
    process: Child,
    address: String,
}

impl Relay {
    fn start(options: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_relay"))
            .args(options)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line
            .trim()
            .strip_prefix("listening on ")
            .unwrap()
            .to_owned();
        Self { process, address }
    }

    /// Runs the generator with a JSON row as its output.
    fn load(&self, row: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_load"))
            .args(["--json", "--patience-s", "2", "--connect", &self.address])
            .args(["--server-pid", &self.process.id().to_string()])
            // Unoptimised and beside other tests, it would use more than its share.
            .args(["--rest-above", "50"])
            .args(row)
            .output()
            .unwrap()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn row(output: &Output) -> serde_json::Value {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|problem| panic!("{problem}: {output:?}"))
}

const SHORT_TALK: [&str; 9] = [
    "messages",
    "--sessions",
    "20",
    "--in-flight",
    "4",
    "--warm-up-s",
    "0.1",
    "--seconds",
    "0.3",
];

#[test]
fn messages_are_counted_and_timed() {
    let relay = Relay::start(&[]);
    let row = row(&relay.load(&SHORT_TALK));
    assert_eq!(
        (&row["row"], &row["sessions"], &row["in_flight"]),
        (&"messages".into(), &20.into(), &4.into())
    );
    assert!(row["messages"].as_u64().unwrap() >= 80, "{row}");
    assert!(row["server_cpu_us"].as_f64().unwrap() > 0.0, "{row}");
    assert!(
        row["p50_us"].as_f64().unwrap() <= row["p99_us"].as_f64().unwrap(),
        "{row}"
    );
}

#[test]
fn a_pace_is_kept() {
    let relay = Relay::start(&[]);
    let row = row(&relay.load(&[
        "messages",
        "--sessions",
        "10",
        "--rate",
        "50",
        "--warm-up-s",
        "0.1",
        "--seconds",
        "2",
    ]));
    let messages = row["messages"].as_u64().unwrap();
    assert!((90..=110).contains(&messages), "{row}");
}

#[test]
fn lost_doubled_and_swapped_messages_end_the_run() {
    for (fault, expected) in [
        ("lose", "20 did not arrive"),
        ("double", "20 came twice"),
        ("swap", "20 out of order"),
    ] {
        let output = Relay::start(&["--fault", fault]).load(&SHORT_TALK);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{fault}: {error}");
        assert!(error.contains(expected), "{fault}: {error}");
        assert!(output.stdout.is_empty(), "{fault}: {output:?}");
    }
}

#[test]
fn logins_and_idle_sessions_have_rows() {
    let relay = Relay::start(&[]);
    let logins = row(&relay.load(&["login", "--sessions", "60", "--logins", "100"]));
    assert!(logins["per_second"].as_f64().unwrap() > 1.0, "{logins}");
    let idle = row(&relay.load(&[
        "idle",
        "--sessions",
        "100",
        "--warm-up",
        "10",
        "--settle-s",
        "1",
    ]));
    assert!(idle["after_kib"].as_f64().unwrap() > 0.0, "{idle}");
}

#[test]
fn a_stalled_receiver_is_seen_in_the_kernels_queue() {
    let relay = Relay::start(&[]);
    let row = row(&relay.load(&[
        "slow",
        "--stalled",
        "2",
        "--others",
        "4",
        "--push-kib",
        "256",
        "--step-kib",
        "64",
        "--settle-s",
        "0",
    ]));
    assert!(row["kernel_kib_max"].as_f64().unwrap() > 100.0, "{row}");
    assert!(row["others_worst_ms"].as_f64().unwrap() > 0.0, "{row}");
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let output = Command::new(env!("CARGO_BIN_EXE_load"))
        .args([
            "--connect",
            "127.0.0.1:1",
            "login",
            "--sessions",
            "50",
            "--logins",
            "1",
        ])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("cannot connect to 127.0.0.1:1"), "{error}");
}

/// SCRAM, both ways to TLS and stream management, against the real thing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_is_measured_over_tls_with_settled_acknowledgements() {
    let accounts: Vec<Account> = (0..4)
        .map(|number| Account {
            local: format!("load{number:06}"),
            domain: DOMAIN.to_owned(),
            password: "load-secret".to_owned(),
        })
        .collect();
    let setup = target::Setup {
        accounts,
        ..target::Setup::default()
    };
    let target = Target::start(Peer::Meerkat, setup).await.unwrap();
    for (tls, way, security) in [
        ("starttls", None, Security::StartTls),
        ("direct", None, Security::DirectTls),
        ("none", Some("--websocket"), Security::WebSocket),
        ("direct", Some("--websocket"), Security::SecureWebSocket),
    ] {
        let address = target.address(security).to_string();
        let output = tokio::task::spawn_blocking(move || {
            Command::new(env!("CARGO_BIN_EXE_load"))
                .args(["--json", "--connect", &address, "--tls", tls, "--insecure"])
                .args(way)
                .args(["--rest-above", "50", "messages", "--sessions", "4"])
                .args(["--settled", "--ask", "waiting", "--in-flight", "2"])
                .args(["--warm-up-s", "0.1", "--seconds", "0.3"])
                .output()
        });
        let row = row(&output.await.unwrap().unwrap());
        assert_eq!(
            (&row["tls"], &row["acks"]),
            (&tls.into(), &"settled".into())
        );
        assert!(row["messages"].as_u64().unwrap() >= 8, "{row}");
    }
    target.stop().await.unwrap();
}

/// Runs the generator against a node of ours.
async fn load_node(args: &[&str]) -> serde_json::Value {
    let accounts: Vec<String> = (0..12).map(|number| format!("load{number:06}")).collect();
    let setup = Setup {
        tables: "[modules.mod_carboncopy]\n".to_owned(),
        ..Setup::default()
    };
    let home = Home::new(&setup, &accounts).await.unwrap();
    let node = Process::start(&home).await.unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_load"))
        .args(["--json", "--patience-s", "20", "--rest-above", "50"])
        .args(["--connect", &node.c2s.to_string()])
        .args(["--domain", DOMAIN, "--password", light::PASSWORD])
        .args(["--server-pid", &node.id().to_string()])
        .args(args.iter().map(|arg| match *arg {
            "METRICS" => node.metrics.to_string(),
            arg => arg.to_owned(),
        }))
        .output()
        .unwrap();
    row(&output)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_copy_of_presence_is_counted() {
    let row = load_node(&[
        "presence",
        "--sessions",
        "12",
        "--contacts",
        "4",
        "--waves",
        "2",
    ])
    .await;
    assert_eq!(row["copies"], 12 * 4 * 2);
    assert!(row["server_cpu_us"].as_f64().unwrap() > 0.0, "{row}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_carbon_is_held_against_a_message() {
    let times = ["--warm-up-s", "0.1", "--seconds", "0.5"];
    let row = load_node(
        &[
            &["carbons", "--sessions", "4", "--clients", "3"],
            &times[..],
        ]
        .concat(),
    )
    .await;
    assert_eq!(row["copies_per_message"], 4);
    assert!(row["message_us"].as_f64().unwrap() > 0.0, "{row}");
    assert!(row["copy_to_message"].is_number(), "{row}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_are_asked_for_while_all_are_idle() {
    let row = load_node(&[
        "idle",
        "--sessions",
        "4",
        "--warm-up",
        "2",
        "--settle-s",
        "1",
        "--scrape",
        "METRICS",
    ])
    .await;
    assert!(row["series"].as_u64().unwrap() > 100, "{row}");
    assert!(row["scrape_ms"].as_f64().unwrap() > 0.0, "{row}");
}
