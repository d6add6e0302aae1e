//! The drain: SIGTERM to a node with thousands of clients that talk. Clients are told at the configured pace, nothing
//! that was acknowledged is lost, and it is over before the deadline.
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use parking_lot::Mutex;
use tests::actors::{Destination, Dice, Farewell, Phase, Sender, Stage, send};
use tests::book::Book;
use tests::http;
use tests::light::{Light, Way};
use tests::process::{Home, Process, Setup, is_complaint};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Clients of the large drain.
const CLIENTS: usize = 2_000;
/// Everybody must have logged in by then.
const LOGINS: Duration = Duration::from_secs(60);
/// Messages that arrive before the drain begins, and how long that may take.
const ARRIVED_BEFORE: usize = 200;
const LOAD: Duration = Duration::from_secs(20);
/// How far the pace may be off.
const TOLERANCE: f64 = 0.1;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_of_2000_clients_keeps_its_pace_and_loses_nothing() {
    let drain = Drain {
        clients: CLIENTS,
        pace: 500,
        grace_secs: 20,
        see_other_host: None,
    };
    let told = drain.run().await.unwrap();
    assert!(
        told.iter()
            .all(|farewell| farewell.condition == "system-shutdown")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_sent_to_another_host_at_a_slow_pace() {
    let drain = Drain {
        clients: 60,
        pace: 17,
        grace_secs: 20,
        see_other_host: Some("other.example:5222"),
    };
    let told = drain.run().await.unwrap();
    let is_right = |told: &Farewell| {
        (told.condition.as_str(), told.content.as_str()) == ("see-other-host", "other.example:5222")
    };
    assert!(told.iter().all(is_right), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_is_quicker_than_configured_where_its_deadline_asks_for_it() {
    let drain = Drain {
        clients: 300,
        pace: 20,
        grace_secs: 4,
        see_other_host: None,
    };
    drain.run().await.unwrap();
}

struct Drain {
    clients: usize,
    /// Sessions per second.
    pace: u32,
    grace_secs: u64,
    see_other_host: Option<&'static str>,
}

/// A node with clients.
struct Crowd {
    tasks: JoinSet<()>,
    phase: watch::Sender<Phase>,
    farewells: Arc<Mutex<Vec<Farewell>>>,
}

impl Drain {
    /// Fills a node, drains it under load, and looks at what is left. Returns what clients were told.
    async fn run(&self) -> Result<Vec<Farewell>> {
        let home = self.home().await?;
        let book = Arc::<Book>::default();
        let node = Process::start(&home).await?;
        let mut crowd = self.enter(&node, &book).await?;
        crowd.phase.send_replace(Phase::Load);
        let loaded = tokio::time::timeout(LOAD, book.wait_until_arrived(ARRIVED_BEFORE));
        loaded.await.context("hardly any load")?;
        let stranger = Light::dial(Way::Plain(node.c2s)).await?;
        let (c2s, c2s_tls, metrics) = (node.c2s, node.c2s_tls, node.metrics);

        let began = Instant::now();
        node.terminate()?;
        #[expect(clippy::disallowed_methods, reason = "the test waits for it below")]
        let telling = tokio::spawn(while_draining(c2s, c2s_tls, metrics, stranger));
        while crowd.tasks.join_next().await.is_some() {}
        telling.await??;
        let (status, log) = node.ended().await?;
        let took = began.elapsed();
        book.next_boot(std::time::Instant::now());
        ensure!(
            status.success(),
            "it ended with {status}:\n{}",
            log.join("\n")
        );
        ensure!(
            took < Duration::from_secs(self.grace_secs),
            "the drain took {took:?}"
        );
        let told = std::mem::take(&mut *crowd.farewells.lock());
        self.check_pace(&told, began)?;
        self.check_log(&log)?;

        let node = Process::start(&home).await?;
        let crowd = self.enter(&node, &book).await?;
        let missing = book.settle(Duration::from_secs(20)).await;
        ensure!(missing.is_empty(), "acknowledged and lost: {missing:#?}");
        node.kill()?;
        crowd.phase.send_replace(Phase::Over);
        let problems = book.problems();
        ensure!(problems.is_empty(), "{problems:#?}");
        let totals = book.totals();
        ensure!(
            totals.acked > ARRIVED_BEFORE,
            "the drain was quiet: {totals:?}"
        );
        eprintln!("{} clients in {took:.1?}: {totals:?}", self.clients);
        Ok(told)
    }

    async fn home(&self) -> Result<Home> {
        let (pace, grace_secs) = (self.pace, self.grace_secs);
        let other = self.see_other_host;
        let other = other.map(|to| format!("shutdown_see_other_host = \"{to}\""));
        let setup = Setup {
            general: format!(
                "shutdown_sessions_per_sec = {pace}\nshutdown_grace_secs = {grace_secs}\n{}",
                other.unwrap_or_default()
            ),
            ..Setup::default()
        };
        let accounts: Vec<String> = (0..self.clients).map(local).collect();
        Home::new(&setup, &accounts).await
    }

    /// Everybody logs in, and talks in the phase of load.
    async fn enter(&self, node: &Process, book: &Arc<Book>) -> Result<Crowd> {
        let (phase, seen) = watch::channel(Phase::Settling);
        let farewells = Arc::<Mutex<Vec<Farewell>>>::default();
        let mut stage = Stage::new(node, book, seen);
        stage.farewells = Some(Arc::clone(&farewells));
        let destinations: Vec<_> = (0..self.clients).map(destination).collect();
        let destinations: Arc<[Destination]> = destinations.into();
        let mut dice = Dice::new(1);
        let mut tasks = JoinSet::new();
        for index in 0..self.clients {
            let sender = Sender {
                local: local(index),
                is_tls: index % 10 == 0,
                is_restless: false,
                is_available: true,
                // 200 messages a second, by all together.
                pause: Duration::from_millis(5 * self.clients as u64),
            };
            let (stage, destinations) = (stage.clone(), Arc::clone(&destinations));
            tasks.spawn(send(sender, stage, destinations, dice.roll()));
        }
        let mut ready = stage.ready.subscribe();
        let all = ready.wait_for(|count| *count == self.clients);
        let waited = tokio::time::timeout(LOGINS, all).await.is_ok();
        let count = *stage.ready.borrow();
        ensure!(
            waited,
            "{count} clients are ready; problems: {:#?}",
            book.problems()
        );
        Ok(Crowd {
            tasks,
            phase,
            farewells,
        })
    }

    /// Each client is told once; as many in each second as configured.
    fn check_pace(&self, told: &[Farewell], began: Instant) -> Result<()> {
        ensure!(
            told.len() == self.clients,
            "{} clients were told",
            told.len()
        );
        let mut at: Vec<f64> = told
            .iter()
            .map(|told| told.at.duration_since(began).as_secs_f64())
            .collect();
        at.sort_by(f64::total_cmp);
        let (first, last) = (at[0], at[at.len() - 1]);
        let pace = (self.clients - 1) as f64 / (last - first);
        let configured = f64::from(self.pace);
        // The same share of the grace as in the node is left for the end.
        let needed = self.clients as f64 / (self.grace_secs as f64 * 0.75);
        let expected = configured.max(needed);
        eprintln!("the first was told after {first:.2} s, the last after {last:.2} s: {pace:.1}/s");
        ensure!(
            (pace - expected).abs() <= expected * TOLERANCE,
            "{pace:.1} clients a second were told, not {expected:.1}"
        );
        // No crowd at any time: what a second may have, and what a busy machine may have held up.
        for (index, start) in at.iter().enumerate() {
            let within = at[index..]
                .iter()
                .take_while(|at| **at < start + 1.0)
                .count();
            let most = expected * (1.0 + 2.0 * TOLERANCE) + 2.0;
            ensure!(
                within as f64 <= most,
                "{within} clients were told within a second"
            );
        }
        Ok(())
    }

    /// The log says how far it is.
    fn check_log(&self, log: &[String]) -> Result<()> {
        let progress: Vec<&String> = log
            .iter()
            .filter(|line| line.contains(" draining told="))
            .collect();
        let secs = self.clients as u64 / u64::from(self.pace);
        let at_least = usize::try_from(secs.min(self.grace_secs / 2))?.saturating_sub(1);
        ensure!(
            progress.len() >= at_least,
            "progress was shown {} times: {log:#?}",
            progress.len()
        );
        let is_unexpected =
            |line: &&String| is_complaint(line) && !line.contains("has to be quicker");
        let complaints: Vec<&String> = log.iter().filter(is_unexpected).collect();
        ensure!(complaints.is_empty(), "{complaints:#?}");
        Ok(())
    }
}

/// The node says that it is not ready, takes no connection, and lets go of one that has not logged in.
async fn while_draining(
    c2s: SocketAddr,
    c2s_tls: SocketAddr,
    metrics: SocketAddr,
    mut stranger: Light,
) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(2);
    // The signal takes its way; from the first answer on it is the only one.
    while http::get(metrics, "/readyz").await?.status != 503 {
        ensure!(
            Instant::now() < deadline,
            "the node still says that it is ready"
        );
    }
    for address in [c2s, c2s_tls] {
        while TcpStream::connect(address).await.is_ok() {
            ensure!(
                Instant::now() < deadline,
                "{address} still takes connections"
            );
        }
    }
    let answer = tokio::time::timeout(Duration::from_secs(2), stranger.open_stream()).await;
    ensure!(
        answer.context("a stranger is left waiting")?.is_err(),
        "a stranger is offered features"
    );
    let (ready, healthy) = (
        http::get(metrics, "/readyz").await?.status,
        http::get(metrics, "/healthz").await?.status,
    );
    ensure!(
        (ready, healthy) == (503, 200),
        "/readyz {ready}, /healthz {healthy}"
    );
    Ok(())
}

fn local(index: usize) -> String {
    format!("user-{index}")
}

fn destination(index: usize) -> Destination {
    Destination {
        local: local(index),
        resource: None,
        is_single: true,
        bytes_max: 300,
        weight: 1,
    }
}
