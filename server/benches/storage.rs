//! What the database costs: CPU (all threads of the process) and wall time of an operation, by how many are in flight.
//!
//! `cargo bench -p server --bench storage`. Pin it (`taskset -c 0`) to compare with figures for one core. By
//! `cargo xtask databases cargo bench …` it measures in-flight stanzas on PostgreSQL and MariaDB too, which flush nothing there.
#![allow(clippy::print_stdout, clippy::unwrap_used)]
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use protocol::{BareJid, Jid};
use server::modules::offline::store::{NewMessage, OfflineStore, Quota};
use server::modules::roster::store::{Edit, RosterStore, Since};
use server::storage::accounts::{AccountStore, Credentials, NewAccount};
use server::storage::in_flight::{InFlight, InFlightStore};
use server::storage::server::{Server, ServerKind};
use server::storage::{Db, Options, Place};
use tokio::task::JoinSet;

const ACCOUNTS: usize = 10_000;
const DOMAIN: &str = "localhost";

fn main() {
    // `cargo test --all-targets` runs this too, and wants no figures.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let folder = std::env::temp_dir().join(format!("meerkat-bench-{}", std::process::id()));
    std::fs::create_dir(&folder).unwrap();
    println!(
        "{:<44} {:>9} {:>11} {:>11} {:>10}",
        "operation", "in flight", "CPU us/op", "wall us/op", "op/s"
    );
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    for readers in [1, 4] {
        let file = folder.join(format!("{readers}.db"));
        runtime.block_on(measure_reads(&file, readers));
    }
    for fill in [0, 100, 1_000] {
        let file = folder.join(format!("offline{fill}.db"));
        runtime.block_on(measure_offline(&file, fill));
    }
    runtime.block_on(measure_rosters(&folder.join("rosters.db")));
    let file = Place::File(folder.join("in_flight.db"));
    runtime.block_on(measure_in_flight(file, "SQLite"));
    for (place, name) in servers() {
        runtime.block_on(measure_in_flight(place, name));
    }
    std::fs::remove_dir_all(folder).unwrap();
}

/// The servers that this run has: see `cargo xtask databases`.
fn servers() -> Vec<(Place, &'static str)> {
    let known = [
        ("MEERKAT_TEST_PGSQL", ServerKind::Postgres, "postgres"),
        ("MEERKAT_TEST_MYSQL", ServerKind::MySql, "meerkat"),
    ];
    let mut servers = Vec::new();
    for (variable, kind, database) in known {
        let Some(value) = std::env::var_os(variable) else {
            continue;
        };
        let value = value.into_string().unwrap();
        let words: Vec<&str> = value.split(' ').collect();
        let place = Place::Server(Box::new(Server {
            kind,
            host: words[0].to_owned(),
            port: words[1].parse().unwrap(),
            database: database.to_owned(),
            username: words[2].to_owned(),
            password: daemon::Secret::new(words[3]),
            tls: None,
            query_timeout: Duration::from_secs(5),
            max_start_interval: Duration::from_secs(30),
            keepalive_interval: None,
        }));
        let name = match kind {
            ServerKind::Postgres => "PostgreSQL",
            ServerKind::MySql => "MariaDB",
        };
        servers.push((place, name));
    }
    servers
}

async fn open(file: &Path, readers: usize) -> Db {
    open_place(Place::File(PathBuf::from(file)), readers).await
}

async fn open_place(place: Place, readers: usize) -> Db {
    let db = Db::open(Options {
        readers,
        ..Options::new(place)
    })
    .await
    .unwrap();
    db.migrate().await.unwrap();
    db
}

async fn measure_reads(file: &Path, readers: usize) {
    let db = open(file, readers).await;
    let accounts = AccountStore::new(db.clone());
    // As long as SCRAM keys for five hash functions are.
    let details = "k".repeat(700);
    let new = move |index| NewAccount {
        username: format!("user{index}"),
        domain: DOMAIN.to_owned(),
        credentials: Credentials {
            password: String::new(),
            pass_details: Some(details.clone()),
        },
    };
    accounts
        .create_many((0..ACCOUNTS).map(new).collect())
        .await
        .unwrap();
    for in_flight in [1, 8, 50] {
        let accounts = accounts.clone();
        measure(
            &format!("credentials, {readers} readers"),
            in_flight,
            60_000,
            move |index| {
                let accounts = accounts.clone();
                async move {
                    let username = format!("user{}", (index * 7_919) % ACCOUNTS);
                    assert!(
                        accounts
                            .credentials(&username, DOMAIN)
                            .await
                            .unwrap()
                            .is_some()
                    );
                }
            },
        )
        .await;
    }
    db.close().await;
}

/// A push for accounts that have `fill` messages already; from 1,000 on it is refused.
async fn measure_offline(file: &Path, fill: usize) {
    let db = open(file, 4).await;
    let offline = OfflineStore::new(db.clone(), Quota::default());
    let message = || NewMessage {
        from: "romeo@localhost/orchard".into(),
        stanza: "m".repeat(331).into(),
        received_at: 1,
        expires_at: None,
    };
    let account = |index: usize| BareJid::parse(&format!("user{index}@{DOMAIN}")).unwrap();
    const OWNERS: usize = 100;
    for index in 0..OWNERS {
        let mut tasks = JoinSet::new();
        for _ in 0..fill {
            let (offline, account, message) = (offline.clone(), account(index), message());
            tasks.spawn(async move { offline.push(&account, message).await.unwrap() });
        }
        tasks.join_all().await;
    }
    // The next account each time, so that the number there stays what it is.
    for in_flight in [1, 50, 500] {
        let offline = offline.clone();
        measure(
            &format!("offline push, {fill} there"),
            in_flight,
            3_000,
            move |index| {
                let offline = offline.clone();
                async move {
                    offline
                        .push(&account(index % OWNERS), message())
                        .await
                        .unwrap();
                }
            },
        )
        .await;
    }
    db.close().await;
}

/// Whole rosters, each contact in a group, and changes of an item.
async fn measure_rosters(file: &Path) {
    let db = open(file, 4).await;
    let rosters = RosterStore::new(db.clone());
    let account = |name: &str| BareJid::parse(&format!("{name}@{DOMAIN}")).unwrap();
    for items in [0, 20, 100, 1_000] {
        let account = account(&format!("user{items}"));
        let mut tasks = JoinSet::new();
        for index in 0..items {
            let (rosters, account) = (rosters.clone(), account.clone());
            let contact = Jid::parse(&format!("contact{index}@example.org")).unwrap();
            let edit = Edit::new(format!("Contact {index}"), vec!["Friends".to_owned()]).unwrap();
            tasks.spawn(async move { rosters.set_item(&account, &contact, edit).await.unwrap() });
        }
        tasks.join_all().await;
        let version = rosters.load(&account).await.unwrap().version;
        for in_flight in [1, 50] {
            let (rosters, account) = (rosters.clone(), account.clone());
            let count = (100_000 / (items + 10)).min(5_000);
            measure(&format!("roster of {items}"), in_flight, count, move |_| {
                let (rosters, account) = (rosters.clone(), account.clone());
                async move { assert_eq!(rosters.load(&account).await.unwrap().items.len(), items) }
            })
            .await;
        }
        let (rosters, account) = (rosters.clone(), account.clone());
        measure(
            &format!("roster of {items}, version known"),
            50,
            5_000,
            move |_| {
                let (rosters, account, version) =
                    (rosters.clone(), account.clone(), version.clone());
                async move {
                    assert_eq!(
                        rosters.load_since(&account, &version).await.unwrap(),
                        Since::Current
                    );
                }
            },
        )
        .await;
    }
    for in_flight in [1, 50] {
        let rosters = rosters.clone();
        measure("roster set", in_flight, 3_000, move |index| {
            let (rosters, account) = (
                rosters.clone(),
                account(&format!("user{in_flight}-{}", index % 100)),
            );
            async move {
                let contact = Jid::parse("juliet@example.org").unwrap();
                let edit = Edit::new(index.to_string(), vec!["Friends".to_owned()]).unwrap();
                rosters.set_item(&account, &contact, edit).await.unwrap();
            }
        })
        .await;
    }
    db.close().await;
}

/// Batches of stanzas in flight, inserted and deleted.
async fn measure_in_flight(place: Place, database: &str) {
    let db = open_place(place, 4).await;
    let store = InFlightStore::new(db.clone());
    let stanza = InFlight {
        from: "romeo@localhost/orchard".into(),
        to: "juliet@localhost/balcony".into(),
        stanza: "m".repeat(331).into(),
        stored_at: 1,
    };
    for (in_flight, rows) in [(1, 1), (50, 1), (500, 1), (1, 8), (1, 100), (1, 1_000)] {
        let (store, stanza) = (store.clone(), stanza.clone());
        let count = 30_000 / (rows * if in_flight == 1 { 10 } else { 1 }).max(1);
        measure(
            &format!("{database}: in-flight insert + delete of {rows}"),
            in_flight,
            count.max(20),
            move |_| {
                let (store, batch) = (store.clone(), vec![stanza.clone(); rows]);
                async move {
                    let ids = store.insert(batch).await.unwrap();
                    store.delete(&ids).await.unwrap();
                }
            },
        )
        .await;
    }
    db.close().await;
}

/// Runs `operation` so often, by so many tasks, and prints what one costs.
async fn measure<F>(
    name: &str,
    in_flight: usize,
    count: usize,
    operation: impl Fn(usize) -> F + Clone + Send + 'static,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let next = Arc::new(AtomicUsize::new(0));
    let (cpu, started) = (cpu_time(), Instant::now());
    let mut tasks = JoinSet::new();
    for _ in 0..in_flight {
        let (next, operation) = (Arc::clone(&next), operation.clone());
        tasks.spawn(async move {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    return;
                }
                operation(index).await;
            }
        });
    }
    tasks.join_all().await;
    let (cpu, wall) = (cpu_time() - cpu, started.elapsed());
    let each = |time: Duration| time.as_secs_f64() * 1e6 / count as f64;
    let rate = count as f64 / wall.as_secs_f64();
    println!(
        "{name:<44} {in_flight:>9} {:>11.1} {:>11.1} {rate:>10.0}",
        each(cpu),
        each(wall)
    );
}

/// CPU time of all threads that ran so far, from the kernel's count in ticks of 10 ms.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit(") ").next().unwrap();
    let ticks: u64 = after_name
        .split(' ')
        .skip(11)
        .take(2)
        .map(|ticks| ticks.parse::<u64>().unwrap())
        .sum();
    Duration::from_millis(ticks * 10)
}
