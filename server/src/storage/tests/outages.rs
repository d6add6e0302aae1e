//! What happens when a server is away, does not answer, or does not want us.
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;

use daemon::Secret;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};

use super::*;
use crate::storage::server::{Server, ServerKind, Tls, Trust};

/// Stands between us and a server, and cuts what goes through it.
struct Proxy {
    address: SocketAddr,
    wires: Arc<Wires>,
    tasks: JoinSet<()>,
}

struct Wires {
    server: String,
    /// Whether connections are taken.
    is_open: AtomicBool,
    /// Whether bytes are held back.
    is_stalled: watch::Sender<bool>,
    /// Ends all connections.
    cut: Notify,
    /// How often something was sent to the server.
    sent: AtomicUsize,
    /// Ends a connection when its client sends a commit: before the server has that, or after.
    cut_at_commit: Mutex<Option<Cut>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    Before,
    After,
}

impl Proxy {
    async fn start(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wires = Arc::new(Wires {
            server: format!("{}:{}", server.host, server.port),
            is_open: AtomicBool::new(true),
            is_stalled: watch::Sender::new(false),
            cut: Notify::new(),
            sent: AtomicUsize::new(0),
            cut_at_commit: Mutex::new(None),
        });
        let address = listener.local_addr().unwrap();
        let mut tasks = JoinSet::new();
        let accepting = Arc::clone(&wires);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                if accepting.is_open.load(Ordering::SeqCst) {
                    connections.spawn(Arc::clone(&accepting).pass(client));
                }
            }
        });
        Self {
            address,
            wires,
            tasks,
        }
    }

    /// The way through it, for somebody who soon gives up and soon tries again.
    fn place(&self, server: Server) -> Place {
        Place::Server(Box::new(Server {
            host: self.address.ip().to_string(),
            port: self.address.port(),
            query_timeout: Duration::from_secs(2),
            max_start_interval: Duration::from_millis(200),
            ..server
        }))
    }

    /// Ends all connections and takes no more.
    fn cut(&self) {
        self.wires.is_open.store(false, Ordering::SeqCst);
        self.wires.cut.notify_waiters();
    }

    fn mend(&self) {
        self.wires.is_open.store(true, Ordering::SeqCst);
    }
}

impl Wires {
    async fn pass(self: Arc<Self>, mut client: TcpStream) {
        let mut server = TcpStream::connect(&self.server).await.unwrap();
        let cut = self.cut.notified();
        let mut stalled = self.is_stalled.subscribe();
        let (mut from_client, mut from_server) = ([0; 4_096], [0; 4_096]);
        tokio::pin!(cut);
        loop {
            if stalled.wait_for(|is_stalled| !is_stalled).await.is_err() {
                return;
            }
            tokio::select! {
                biased;
                () = &mut cut => return,
                _ = stalled.changed() => {}
                read = client.read(&mut from_client) => {
                    let bytes = &from_client[..read.unwrap_or(0)];
                    if bytes.is_empty() {
                        return;
                    }
                    let is_commit = bytes.windows(6).any(|window| window == b"COMMIT");
                    let cut = if is_commit { self.cut_at_commit.lock().take() } else { None };
                    if cut == Some(Cut::Before) {
                        return;
                    }
                    self.sent.fetch_add(1, Ordering::SeqCst);
                    if server.write_all(bytes).await.is_err() {
                        return;
                    }
                    if cut == Some(Cut::After) {
                        // Its answer shows that it is done.
                        let _ = server.read(&mut from_server).await;
                        return;
                    }
                }
                read = server.read(&mut from_server) => {
                    let bytes = &from_server[..read.unwrap_or(0)];
                    if bytes.is_empty() || client.write_all(bytes).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// Runs `suite` with a database that is reached through a proxy.
async fn through_a_proxy(suite: impl AsyncFn(Db, &Proxy, &Database)) {
    with_each_server(async |database| {
        let mut proxy = Proxy::start(&database.server()).await;
        let db = open(proxy.place(database.server())).await;
        suite(db, &proxy, database).await;
        proxy.tasks.shutdown().await;
    })
    .await;
}

/// Tries until it works: after an outage the next attempt comes within [`Server::max_start_interval`].
async fn put_in_the_end(db: &Db, name: &str) {
    while put(db, name, "").await.is_err() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What is in the database, whatever the connection of the test is.
async fn names_by_another_way(database: &Database) -> Vec<String> {
    let db = Db::open(Options::new(database.place())).await.unwrap();
    names(&db).await
}

fn is_unavailable<T>(outcome: &Result<T, Error>) -> bool {
    matches!(outcome, Err(Error::Unavailable { .. }))
}

#[tokio::test]
async fn a_connection_that_was_lost_while_idle_costs_nobody_anything() {
    through_a_proxy(async |db, proxy, _| {
        put(&db, "a", "1").await.unwrap();
        assert_eq!(get(&db, "a").await.unwrap().as_deref(), Some("1"));
        for _ in 0..3 {
            proxy.cut();
            proxy.mend();
            put(&db, "a", "1").await.unwrap_err();
            assert_eq!(get(&db, "a").await.unwrap().as_deref(), Some("1"));
        }
        let error = put(&db, "a", "1").await.unwrap_err();
        assert!(matches!(error, Error::Conflict { .. }), "{error:?}");
    })
    .await;
}

#[tokio::test]
async fn a_server_that_goes_away_amid_a_load_loses_nothing_that_was_answered() {
    through_a_proxy(async |db, proxy, database| {
        let (answered, mut tasks) = (Arc::new(Mutex::new(Vec::new())), JoinSet::new());
        let stop = CancellationToken::new();
        for task in 0..8 {
            let (db, answered, stop) = (db.clone(), Arc::clone(&answered), stop.clone());
            tasks.spawn(async move {
                let mut failed = 0;
                for index in 0.. {
                    if stop.is_cancelled() {
                        break;
                    }
                    let name = format!("{task}-{index}");
                    match put(&db, &name, "").await {
                        Ok(_) => answered.lock().push(name),
                        Err(error) => {
                            assert!(matches!(error, Error::Unavailable { .. }), "{error:?}");
                            failed += 1;
                            tokio::task::yield_now().await;
                        }
                    }
                    if is_unavailable(&get(&db, "x").await) {
                        failed += 1;
                    }
                }
                failed
            });
        }
        for round in 1..=3 {
            let before = answered.lock().len();
            while answered.lock().len() < before + 50 {
                tokio::task::yield_now().await;
            }
            proxy.cut();
            // Somebody has noticed.
            while !is_unavailable(&put(&db, &format!("lost{round}"), "").await) {}
            proxy.mend();
            put_in_the_end(&db, &format!("back{round}")).await;
        }
        stop.cancel();
        let failed: usize = tasks.join_all().await.into_iter().sum();
        assert!(failed > 0);
        let kept = names_by_another_way(database).await;
        for name in answered.lock().iter() {
            assert!(kept.contains(name), "{name} was answered and is gone");
        }
    })
    .await;
}

#[tokio::test]
async fn a_connection_lost_amid_a_commit_leaves_it_open_and_says_so() {
    through_a_proxy(async |db, proxy, database| {
        for (name, cut, expected) in [
            ("lost", Cut::Before, ["x"].as_slice()),
            ("kept", Cut::After, &["kept", "x"]),
        ] {
            put_in_the_end(&db, "x").await;
            *proxy.wires.cut_at_commit.lock() = Some(cut);
            let error = put(&db, name, "").await.unwrap_err();
            assert!(matches!(error.cause(), Cause::InDoubt), "{error:?}");
            assert_eq!(names_by_another_way(database).await, expected);
            run_raw(&db, "DELETE FROM users WHERE username = 'x'").await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up() {
    through_a_proxy(async |db, proxy, database| {
        put(&db, "a", "").await.unwrap();
        get(&db, "a").await.unwrap();
        proxy.wires.is_stalled.send_replace(true);
        let (written, read) = tokio::join!(put(&db, "b", ""), get(&db, "a"));
        assert!(matches!(written.unwrap_err().cause(), Cause::Silent));
        assert!(matches!(read.unwrap_err().cause(), Cause::Silent));
        proxy.wires.is_stalled.send_replace(false);
        put_in_the_end(&db, "c").await;
        let kept = names_by_another_way(database).await;
        assert!(
            kept.contains(&"a".to_owned()) && kept.contains(&"c".to_owned()),
            "{kept:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn nobody_tries_all_the_time_to_reach_what_is_away() {
    through_a_proxy(async |db, proxy, _| {
        proxy.cut();
        let mut away = 0;
        for _ in 0..50 {
            let error = put(&db, "a", "").await.unwrap_err();
            assert_eq!(
                error.to_stanza_error().condition,
                StanzaCondition::ResourceConstraint
            );
            away += usize::from(matches!(error.cause(), Cause::Away));
        }
        assert!(away > 40, "{away} of 50 came back at once");
        proxy.mend();
        put_in_the_end(&db, "a").await;
    })
    .await;
}

#[tokio::test]
async fn an_idle_connection_is_used_now_and_then() {
    with_each_server(async |database| {
        let mut proxy = Proxy::start(&database.server()).await;
        let Place::Server(mut server) = proxy.place(database.server()) else {
            unreachable!("a proxy leads to a server");
        };
        server.keepalive_interval = Some(Duration::from_millis(5));
        let db = open(Place::Server(server)).await;
        get(&db, "a").await.unwrap();
        let before = proxy.wires.sent.load(Ordering::SeqCst);
        while proxy.wires.sent.load(Ordering::SeqCst) < before + 10 {
            tokio::task::yield_now().await;
        }
        put(&db, "a", "").await.unwrap();
        assert_eq!(names(&db).await, ["a"]);
        db.close().await;
        proxy.tasks.shutdown().await;
    })
    .await;
}

#[tokio::test]
async fn a_server_that_does_not_want_us_is_told_at_once() {
    with_each_server(async |database| {
        let right = database.server();
        let is_postgres = right.kind == ServerKind::Postgres;
        let cases = [
            (
                Server {
                    password: Secret::new("wrong"),
                    ..right.clone()
                },
                if is_postgres {
                    "password authentication failed"
                } else {
                    "Access denied"
                },
            ),
            (
                Server {
                    database: "no_such".to_owned(),
                    ..right.clone()
                },
                if is_postgres {
                    "does not exist"
                } else {
                    "Unknown database"
                },
            ),
            (
                Server {
                    tls: Some(Tls {
                        trust: Trust::Verified,
                        ca: None,
                        certificate: None,
                    }),
                    ..right.clone()
                },
                "certificate",
            ),
        ];
        for (server, expected) in cases {
            let opened = Db::open(Options::new(Place::Server(Box::new(server)))).await;
            let error = opened.map(drop).unwrap_err();
            let said = error.cause().to_string();
            assert!(said.contains(expected), "{said}");
            assert!(!said.contains("wrong"), "{said}");
        }
    })
    .await;
}

#[tokio::test]
async fn the_way_to_a_server_is_encrypted_as_the_configuration_says() {
    with_each_server(async |database| {
        let kind = database.server().kind;
        let open = async |trust, ca| {
            let server = Server {
                tls: Some(Tls {
                    trust,
                    ca,
                    certificate: None,
                }),
                ..database.server()
            };
            Db::open(Options::new(Place::Server(Box::new(server)))).await
        };
        let certificate = servers::certificate(kind);
        for (trust, ca) in [
            (Trust::Verified, Some(certificate)),
            (Trust::Encrypted, None),
            (Trust::IfOffered, None),
        ] {
            let db = open(trust, ca).await.unwrap();
            let rows = match kind {
                ServerKind::Postgres => {
                    let sql = "SELECT cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
                    fetch_raw(&db, sql).await
                }
                ServerKind::MySql => fetch_raw(&db, "SHOW STATUS LIKE 'Ssl_cipher'").await,
            };
            let cipher = rows[0].last().unwrap().as_deref();
            assert!(
                cipher.is_some_and(|cipher| cipher.starts_with("TLS_")),
                "{rows:?}"
            );
        }
        let refused = open(Trust::Verified, None).await.map(drop).unwrap_err();
        let said = refused.cause().to_string();
        assert!(said.contains("certificate"), "{said}");
    })
    .await;
}

/// The errors of a full disk and of a standby, which are the same as those of a table that refuses.
#[tokio::test]
async fn a_server_that_cannot_write_fails_the_batch_and_nothing_is_half_done() {
    with_each_server(async |database| {
        let db = open(database.place()).await;
        put(&db, "a", "").await.unwrap();
        let (full, mended) = match database.server().kind {
            ServerKind::Postgres => (
                "CREATE FUNCTION is_full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                     IF NEW.username = 'full' THEN
                         RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100';
                     END IF;
                     RETURN NEW; END $$;
                 CREATE TRIGGER is_full BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION is_full()",
                "DROP TRIGGER is_full ON users",
            ),
            ServerKind::MySql => (
                "CREATE TRIGGER is_full BEFORE INSERT ON users FOR EACH ROW
                 IF NEW.username = 'full' THEN
                     SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1114, MESSAGE_TEXT = 'The table is full';
                 END IF",
                "DROP TRIGGER is_full",
            ),
        };
        database.run(full).await;
        let job = db.transaction("job", |transaction| {
            Box::pin(async move {
                transaction.execute(PUT.bind(["b".into(), "".into()])).await?;
                transaction.execute(PUT.bind(["full".into(), "".into()])).await
            })
        });
        let error = job.await.unwrap_err();
        assert_eq!(error.fault(), Fault::Ours);
        let said = error.cause().to_string();
        assert!(said.contains("No space left") || said.contains("is full"), "{said}");
        assert_eq!(names(&db).await, ["a"]);
        database.run(mended).await;
        put(&db, "full", "").await.unwrap();
        assert_eq!(names(&db).await, ["a", "full"]);
    })
    .await;
}

#[tokio::test]
async fn a_read_only_database_is_read_and_says_why_it_is_not_written() {
    with_each_server(async |database| {
        let db = open(database.place()).await;
        put(&db, "a", "").await.unwrap();
        db.close().await;
        let mut server = database.server();
        let (close, open_again) = match server.kind {
            ServerKind::Postgres => {
                let set = |word| {
                    let name = &server.database;
                    format!("ALTER DATABASE {name} SET default_transaction_read_only = {word}")
                };
                (set("on"), set("off"))
            }
            // For all databases, but not for administrators, as other tests are.
            ServerKind::MySql => {
                let name = &server.database;
                database
                    .run(format!(
                        "CREATE USER {name}@'127.0.0.1' IDENTIFIED BY 'secret';
                         GRANT ALL PRIVILEGES ON {name}.* TO {name}@'127.0.0.1'"
                    ))
                    .await;
                server.username = name.clone();
                server.password = Secret::new("secret");
                (
                    "SET GLOBAL read_only = ON".to_owned(),
                    "SET GLOBAL read_only = OFF".to_owned(),
                )
            }
        };
        database.run_as_admin(close).await;
        let db = Db::open(Options::new(Place::Server(Box::new(server))))
            .await
            .unwrap();
        let refused = put(&db, "b", "").await;
        let read = names(&db).await;
        database.run_as_admin(open_again).await;
        let said = refused.unwrap_err().cause().to_string();
        assert!(
            said.contains("read-only") || said.contains("read_only"),
            "{said}"
        );
        assert_eq!(read, ["a"]);
        if database.server().kind == ServerKind::MySql {
            put(&db, "b", "").await.unwrap();
        }
    })
    .await;
}

/// A packet of MySQL's protocol.
fn packet(number: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    [&[length, 0, 0, number], payload].concat()
}

/// MariaDB has no such accounts, so MySQL's side of the conversation is played here.
#[tokio::test]
async fn a_password_that_needs_encryption_is_not_sent_without() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let play = async {
        let (mut client, _) = listener.accept().await.unwrap();
        let greeting = [
            b"\x0a8.0.36\0".as_slice(),
            &[1, 0, 0, 0],
            b"12345678\0",
            // What it can do, its character set and status, and the length of its random text.
            &[0x08, 0x82, 0xff, 2, 0, 0x08, 0, 21],
            &[0; 10],
            b"123456789012\0caching_sha2_password\0",
        ];
        client
            .write_all(&packet(0, &greeting.concat()))
            .await
            .unwrap();
        let mut sent = Vec::new();
        for (number, answer) in [(2, [1, 4].as_slice()), (4, b"\x01a public key")] {
            let read = client.read_buf(&mut sent).await.unwrap();
            assert!(read > 0, "the client went away");
            client.write_all(&packet(number, answer)).await.unwrap();
        }
        client.read_to_end(&mut sent).await.unwrap();
        sent
    };
    let place = Place::Server(Box::new(Server {
        kind: ServerKind::MySql,
        host: address.ip().to_string(),
        port: address.port(),
        database: "meerkat".to_owned(),
        username: "meerkat".to_owned(),
        password: Secret::new("a very long password"),
        tls: None,
        query_timeout: Duration::from_secs(30),
        max_start_interval: Duration::from_secs(1),
        keepalive_interval: None,
    }));
    let (sent, opened) = tokio::join!(play, Db::open(Options::new(place)));
    let error = opened.map(drop).unwrap_err();
    assert!(matches!(error.cause(), Cause::NeedsTls), "{error:?}");
    let password = b"a very long password";
    assert!(
        !sent
            .windows(password.len())
            .any(|window| window == password)
    );
}
