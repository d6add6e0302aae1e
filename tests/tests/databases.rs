//! Whole nodes on PostgreSQL and MariaDB, where the run has them: `cargo xtask test` does, and
//! `cargo xtask databases cargo test -p tests --test all databases`.
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, ensure};
use protocol::{Element, ns};
use tests::client::{Account, Client, Security};
use tests::scenario::PASSWORD;
use tests::target::{DOMAIN, Peer, Setup, Target};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::scenarios::play_file_on;

/// Scenarios whose answers come from the database.
const FILES: &[&str] = &[
    "roster",
    "subscriptions",
    "offline",
    "private",
    "last",
    "privacy",
    "blocking",
];

/// A server: what the configuration calls it, and how an administrator reaches it.
struct Server {
    driver: &'static str,
    variable: &'static str,
    /// Runs a statement: the program, and the variable with its password.
    shell: (&'static str, &'static str),
}

const SERVERS: [Server; 2] = [
    Server {
        driver: "pgsql",
        variable: "MEERKAT_TEST_PGSQL",
        shell: ("psql", "PGPASSWORD"),
    },
    Server {
        driver: "mysql",
        variable: "MEERKAT_TEST_MYSQL",
        shell: ("mariadb", "MYSQL_PWD"),
    },
];

/// An empty database on a server.
struct Database {
    driver: &'static str,
    address: SocketAddr,
    username: String,
    password: String,
    name: String,
}

impl Database {
    /// None if this run has no such server.
    fn create(server: &Server) -> Result<Option<Self>> {
        let Some(value) = std::env::var_os(server.variable) else {
            return Ok(None);
        };
        let value = value
            .into_string()
            .ok()
            .context("the variable is not UTF-8")?;
        let words: Vec<&str> = value.split(' ').collect();
        let [host, port, username, password] = words[..] else {
            anyhow::bail!("{} is not `host port username password`", server.variable);
        };
        let name = format!("whole_{:016x}", getrandom::u64()?);
        let (program, variable) = server.shell;
        let mut shell = Command::new(program);
        shell.env(variable, password);
        match server.driver {
            "pgsql" => shell.args([
                "-h", host, "-p", port, "-U", username, "-d", "postgres", "-qc",
            ]),
            _ => shell.args(["-h", host, "-P", port, "-u", username, "-e"]),
        };
        let output = shell.arg(format!("CREATE DATABASE {name}")).output()?;
        ensure!(
            output.status.success(),
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(Some(Self {
            driver: server.driver,
            address: format!("{host}:{port}").parse()?,
            username: username.to_owned(),
            password: password.to_owned(),
            name,
        }))
    }

    /// The section of the configuration, for a way to the server.
    fn section(&self, address: SocketAddr) -> String {
        format!(
            "[outgoing_pools.rdbms.default]\nworkers = 3\n[outgoing_pools.rdbms.default.connection]\n\
             driver = \"{}\"\nhost = \"{}\"\nport = {}\ndatabase = \"{}\"\nusername = \"{}\"\npassword = \"{}\"\n\
             query_timeout = 2000\nmax_start_interval = 1\n",
            self.driver,
            address.ip(),
            address.port(),
            self.name,
            self.username,
            self.password
        )
    }
}

async fn play_on(server: &Server) {
    for file in FILES {
        let database = || Database::create(server).unwrap_or_else(|error| panic!("{error:#}"));
        if database().is_none() {
            return;
        }
        let section = || {
            let database = database().expect("it was there a moment ago");
            database.section(database.address)
        };
        play_file_on(file, &section).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenarios_are_played_on_postgresql() {
    play_on(&SERVERS[0]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scenarios_are_played_on_mariadb() {
    play_on(&SERVERS[1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_goes_away_costs_errors_and_nothing_else() {
    for server in &SERVERS {
        let database = Database::create(server).unwrap();
        if let Some(database) = database {
            let outcome = go_away(&database).await;
            outcome.unwrap_or_else(|error| panic!("{}: {error:#}", database.driver));
        }
    }
}

/// Messages before, amid and after the outage.
const MESSAGES: usize = 20;

async fn go_away(database: &Database) -> Result<()> {
    let proxy = Proxy::start(database.address).await?;
    let account = |local: &str| Account {
        local: local.to_owned(),
        domain: DOMAIN.to_owned(),
        password: PASSWORD.to_owned(),
    };
    let setup = Setup {
        accounts: vec![account("romeo"), account("juliet")],
        config: database.section(proxy.address),
        listener: String::new(),
    };
    let target = Target::start(Peer::Meerkat, setup).await?;
    let address = target.address(Security::DirectTls);
    let connect = |local| Client::connect(address, account(local), None, Security::DirectTls);
    let mut romeo = connect("romeo").await?;
    romeo.send("<enable xmlns='urn:xmpp:sm:3'/>").await?;
    romeo.next_element().await?;

    let mut sent = BTreeSet::new();
    for index in 0..3 * MESSAGES {
        if index == MESSAGES {
            // What came before is settled: it is in the database.
            await_settled(&mut romeo, index).await?;
            proxy.cut();
            ensure!(connect("juliet").await.is_err(), "nobody can log in now");
        }
        if index == 2 * MESSAGES {
            await_settled(&mut romeo, index).await?;
            proxy.mend();
            // As a client does, until it is let in.
            while connect("juliet").await.is_err() {}
        }
        let message = format!(
            "<message to='juliet@{DOMAIN}' type='chat' id='m{index}'><body>{index}</body></message>"
        );
        romeo.send(&message).await?;
        sent.insert(format!("m{index}"));
    }
    await_settled(&mut romeo, 3 * MESSAGES).await?;
    let bounced: BTreeSet<String> = romeo.inbox().drain(..).filter_map(bounced_id).collect();
    ensure!(
        bounced.len() >= MESSAGES / 2,
        "only {bounced:?} came back as errors"
    );

    let mut juliet = connect("juliet").await?;
    juliet.send("<presence/>").await?;
    let mut missing: BTreeSet<_> = sent.difference(&bounced).cloned().collect();
    while !missing.is_empty() {
        let element = juliet.next_element().await;
        let element = element.with_context(|| format!("{missing:?} did not come"))?;
        if element.is("message", ns::CLIENT) {
            missing.remove(element.attr("id").unwrap_or_default());
        }
    }
    target.stop().await
}

/// The id of a message that came back, with an error that says to try again.
fn bounced_id(element: Element) -> Option<String> {
    if element.attr("type") != Some("error") {
        return None;
    }
    let error = element
        .elements()
        .find(|child| child.is("error", ns::CLIENT))?;
    assert_eq!(error.attr("type"), Some("wait"), "{}", element.to_xml());
    element.attr("id").map(str::to_owned)
}

/// Asks until so many stanzas are acknowledged: each is committed then, or was answered with an error.
async fn await_settled(client: &mut Client, count: usize) -> Result<()> {
    while client.ask_acknowledgement().await? != count.to_string() {}
    Ok(())
}

/// Stands between a node and its database.
struct Proxy {
    address: SocketAddr,
    wires: Arc<Wires>,
    /// Aborted when it is dropped.
    _tasks: JoinSet<()>,
}

struct Wires {
    is_open: AtomicBool,
    cut: Notify,
}

impl Proxy {
    async fn start(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let wires = Arc::new(Wires {
            is_open: AtomicBool::new(true),
            cut: Notify::new(),
        });
        let accepting = Arc::clone(&wires);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                if accepting.is_open.load(Ordering::SeqCst) {
                    connections.spawn(Arc::clone(&accepting).pass(client, server));
                }
            }
        });
        Ok(Self {
            address,
            wires,
            _tasks: tasks,
        })
    }

    fn cut(&self) {
        self.wires.is_open.store(false, Ordering::SeqCst);
        self.wires.cut.notify_waiters();
    }

    fn mend(&self) {
        self.wires.is_open.store(true, Ordering::SeqCst);
    }
}

impl Wires {
    async fn pass(self: Arc<Self>, mut client: TcpStream, server: SocketAddr) {
        let cut = self.cut.notified();
        let Ok(mut server) = TcpStream::connect(server).await else {
            return;
        };
        tokio::select! {
            biased;
            () = cut => {}
            _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
        }
    }
}
