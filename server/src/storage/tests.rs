//! The same suite runs on a database in memory, on a file, and on PostgreSQL and MariaDB where the run has them: see
//! [`servers`].
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use sqlx::{AssertSqlSafe, Executor as _, SqlSafeStr as _};
use tokio::task::JoinSet;

use super::connection::{Connection, DriverRow};
use super::dialect::Dialect;
use super::*;

mod outages;
pub(crate) mod servers;

use servers::Database;

/// A folder that is removed with the test that made it.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let name = format!(
            "meerkat-storage-{:016x}",
            getrandom::u64().expect("random numbers")
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a new folder");
        Self(path)
    }

    pub(crate) fn database(&self) -> Place {
        Place::File(self.path())
    }

    fn path(&self) -> PathBuf {
        self.0.join("meerkat.db")
    }

    fn log_path(&self) -> PathBuf {
        self.0.join("meerkat.db-wal")
    }

    /// What a start finds after this process was killed now: the files as the kernel has them.
    pub(crate) fn copy_as_if_killed(&self) -> Self {
        let copy = Self::new();
        std::fs::copy(self.path(), copy.path()).expect("copy the database");
        std::fs::copy(self.log_path(), copy.log_path()).expect("copy the log");
        copy
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs `suite` on an empty database in memory, on one in a file, and on one of each server.
pub(crate) async fn on_each_place<F: Future<Output = ()>>(suite: impl Fn(Db) -> F) {
    with_each_place(async |place| suite(open(place).await).await).await;
}

/// The same for those that are in the process.
async fn on_sqlite<F: Future<Output = ()>>(suite: impl Fn(Db) -> F) {
    Box::pin(suite(open(Place::Memory).await)).await;
    let folder = Folder::new();
    Box::pin(suite(open(folder.database()).await)).await;
}

/// Runs `suite` for each place of an empty database.
async fn with_each_place(suite: impl AsyncFn(Place)) {
    Box::pin(suite(Place::Memory)).await;
    with_each_lasting_place(suite).await;
}

/// The same for those that more than one process can use.
async fn with_each_lasting_place(suite: impl AsyncFn(Place)) {
    let folder = Folder::new();
    Box::pin(suite(folder.database())).await;
    with_each_server(async |database| suite(database.place()).await).await;
}

/// Runs `suite` on an empty database of each server.
pub(crate) async fn with_each_server(suite: impl AsyncFn(&Database)) {
    for admin in servers::of_this_run() {
        let database = Database::create(&admin).await;
        Box::pin(suite(&database)).await;
        database.remove().await;
    }
}

/// A database with the whole schema.
pub(crate) async fn open(place: Place) -> Db {
    open_with(Options::new(place)).await
}

async fn open_with(options: Options) -> Db {
    let db = Db::open(options).await.expect("open");
    db.migrate().await.expect("migrate");
    db
}

/// Checks that each database takes every statement, and that none walks through a whole table of SQLite, save for
/// those named.
pub(crate) async fn check_statements(
    statements: &'static [&'static Statement],
    scans_allowed: &'static [&'static str],
) {
    let mut names = HashSet::new();
    for statement in statements {
        assert!(
            names.insert(statement.name),
            "two statements have the name {}",
            statement.name
        );
    }
    with_each_place(async |place| {
        if matches!(place, Place::File(_)) {
            return;
        }
        let db = open(place).await;
        db.transaction("check", move |transaction| {
            Box::pin(async move {
                for statement in statements {
                    check_statement(transaction.connection, statement, scans_allowed).await;
                }
                Ok(())
            })
        })
        .await
        .expect("checked");
    })
    .await;
}

async fn check_statement(
    connection: &mut Connection,
    statement: &'static Statement,
    scans_allowed: &[&str],
) {
    let name = statement.name;
    let sql = statement.texts.of(connection.dialect());
    let prepared = match connection {
        Connection::Sqlite(connection) => connection.prepare(sql.into_sql_str()).await.map(drop),
        Connection::Postgres(connection, _) => {
            connection.prepare(sql.into_sql_str()).await.map(drop)
        }
        Connection::MySql(connection, _) => connection.prepare(sql.into_sql_str()).await.map(drop),
    };
    prepared.unwrap_or_else(|error| panic!("{name}: {error}"));
    let Connection::Sqlite(connection) = connection else {
        return;
    };
    let plan = sqlite::query_plan(connection, sql).await.expect("a plan");
    let is_scan = |step: &String| {
        step.starts_with("SCAN")
            && !step.contains("CONSTANT ROW")
            && !step.contains("VALUES CLAUSE")
    };
    let scans: Vec<_> = plan.into_iter().filter(is_scan).collect();
    assert!(
        scans.is_empty() || scans_allowed.contains(&name),
        "{name}: {scans:?}"
    );
}

/// Runs a text as it is, to bring about what no store would.
pub(crate) async fn run_raw(db: &Db, sql: impl Into<String>) {
    let sql = AssertSqlSafe(sql.into());
    db.transaction("raw", move |transaction| {
        Box::pin(async move {
            let done = transaction.connection.run_text("raw", sql).await;
            done.expect("raw statement");
            Ok(())
        })
    })
    .await
    .expect("committed");
}

/// The rows of any statement, each column as text or NULL.
pub(crate) async fn fetch_raw(db: &Db, sql: impl Into<String>) -> Vec<Vec<Option<String>>> {
    use sqlx::Row as _;
    let sql = AssertSqlSafe(sql.into());
    db.transaction("raw", move |transaction| {
        Box::pin(async move {
            let rows = transaction.connection.fetch_text("raw", sql).await;
            let texts = |row: &DriverRow| match row {
                DriverRow::Sqlite(row) => (0..row.len())
                    .map(|column| row.try_get_unchecked(column).expect("a text"))
                    .collect(),
                DriverRow::Postgres(row) => (0..row.len())
                    .map(|column| row.try_get_unchecked(column).expect("a text"))
                    .collect(),
                // MongooseIM has terms of Erlang there.
                DriverRow::MySql(row) => (0..row.len())
                    .map(|column| row.try_get_unchecked(column).expect("bytes"))
                    .map(|bytes: Option<Vec<u8>>| {
                        bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                    })
                    .collect(),
            };
            Ok(rows
                .expect("raw statement")
                .into_rows()
                .iter()
                .map(texts)
                .collect())
        })
    })
    .await
    .expect("read")
}

/// What `db` speaks.
pub(crate) async fn dialect(db: &Db) -> Dialect {
    db.transaction("dialect", |transaction| {
        Box::pin(async move { Ok(transaction.connection.dialect()) })
    })
    .await
    .expect("a dialect")
}

statements! {
    PUT = "test_put": "INSERT INTO users (server, username, \"password\") VALUES ('test', $1, $2)";
    BUMP = "test_bump": "UPDATE users SET \"password\" = $2 WHERE server = 'test' AND username = $1";
    GET = "test_get": "SELECT \"password\" FROM users WHERE server = 'test' AND username = $1";
    ALL = "test_all": "SELECT username, \"password\" FROM users WHERE server = 'test' ORDER BY username";
}

async fn put(db: &Db, name: &str, value: &str) -> Result<u64, Error> {
    db.execute(PUT.bind([name.into(), value.into()])).await
}

async fn get(db: &Db, name: &str) -> Result<Option<String>, Error> {
    db.fetch_optional(GET.bind([name.into()]), |row| row.text(0))
        .await
}

async fn names(db: &Db) -> Vec<String> {
    db.fetch_all(ALL.bind([]), |row| row.text(0))
        .await
        .expect("all")
}

/// Adds one to a number kept as text: a read, then a write.
async fn bump(db: &Db, name: &'static str) -> Result<u64, Error> {
    db.transaction("test_bump", move |transaction| {
        Box::pin(async move {
            let text = transaction
                .fetch_optional(GET.bind([name.into()]), |row| row.text(0))
                .await?;
            let next = text.expect("a row").parse::<u64>().expect("a number") + 1;
            transaction
                .execute(BUMP.bind([name.into(), next.to_string().into()]))
                .await?;
            Ok(next)
        })
    })
    .await
}

#[derive(Default)]
struct Counts {
    queries: Mutex<Vec<(&'static str, bool)>>,
    batches: AtomicUsize,
    largest_batch: AtomicUsize,
}

impl Observer for Counts {
    fn query(&self, name: &'static str, _: Duration, succeeded: bool) {
        self.queries.lock().push((name, succeeded));
    }

    fn batch(&self, jobs: usize, _: Duration, _: bool) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.largest_batch.fetch_max(jobs, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn the_database_takes_every_statement() {
    check_statements(STATEMENTS, &["test_all"]).await;
}

#[tokio::test]
async fn a_text_comes_back_byte_for_byte() {
    on_each_place(|db| async move {
        let texts = [
            "",
            " ",
            "a ",
            "\u{1f9a1} \u{10ffff}",
            "Admin",
            "admin",
            "ADMIN",
            "e\u{301}",
            "\u{e9}",
            "'; --",
        ];
        for text in texts {
            put(&db, text, text).await.unwrap();
        }
        for text in texts {
            assert_eq!(get(&db, text).await.unwrap().as_deref(), Some(text));
        }
        assert_eq!(get(&db, "aDMIN").await.unwrap(), None);
        assert_eq!(get(&db, "a").await.unwrap(), None, "a space counts");
        assert_eq!(names(&db).await.len(), texts.len());
        // XML has no NUL, and PostgreSQL does not take it.
        let with_nul = "b\0c";
        match put(&db, with_nul, with_nul).await {
            Ok(_) => assert_eq!(get(&db, with_nul).await.unwrap().as_deref(), Some(with_nul)),
            Err(error) => assert!(matches!(error, Error::Unfit { .. }), "{error:?}"),
        }
        assert_eq!(
            get(&db, "b").await.unwrap(),
            None,
            "the text does not end at its NUL"
        );
    })
    .await;
}

#[tokio::test]
async fn jobs_that_come_at_once_share_a_commit_and_fail_alone() {
    with_each_place(async |place| {
        let counts = Arc::new(Counts::default());
        let db = open_with(Options {
            observer: counts.clone(),
            ..Options::new(place)
        })
        .await;
        counts.batches.store(0, Ordering::Relaxed);
        let mut jobs = JoinSet::new();
        for index in 0..1_000 {
            let db = db.clone();
            // Each tenth takes the name of its predecessor.
            let name = format!("{:04}", if index % 10 == 9 { index - 1 } else { index });
            jobs.spawn(async move { put(&db, &name, "").await });
        }
        let outcomes = jobs.join_all().await;
        let conflicts = outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Err(Error::Conflict { .. })))
            .count();
        let made = outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Ok(1)))
            .count();
        assert_eq!((made, conflicts), (900, 100));
        assert_eq!(names(&db).await.len(), 900);
        let batches = counts.batches.load(Ordering::Relaxed);
        assert!((4..500).contains(&batches), "{batches} batches");
        assert!(counts.largest_batch.load(Ordering::Relaxed) <= 256);
    })
    .await;
}

#[tokio::test]
async fn a_job_that_fails_in_the_middle_leaves_nothing_behind() {
    on_each_place(|db| async move {
        put(&db, "b", "").await.unwrap();
        let failing = db.transaction("failing", |transaction| {
            Box::pin(async move {
                transaction
                    .execute(PUT.bind(["a".into(), "".into()]))
                    .await?;
                transaction
                    .execute(PUT.bind(["b".into(), "".into()]))
                    .await?;
                Ok(())
            })
        });
        let (failed, before, after) = tokio::join!(failing, put(&db, "c", ""), put(&db, "d", ""));
        assert!(matches!(
            failed,
            Err(Error::Conflict {
                query: "test_put",
                ..
            })
        ));
        before.unwrap();
        after.unwrap();
        assert_eq!(names(&db).await, ["b", "c", "d"]);
    })
    .await;
}

#[tokio::test]
async fn a_job_that_panics_is_undone_and_the_writer_goes_on() {
    on_each_place(|db| async move {
        let panicking = db.transaction::<(), _>("panicking", |transaction| {
            Box::pin(async move {
                transaction
                    .execute(PUT.bind(["a".into(), "".into()]))
                    .await?;
                panic!("as the test wants it")
            })
        });
        let (panicked, other) = tokio::join!(panicking, put(&db, "b", ""));
        assert!(matches!(
            panicked,
            Err(Error::Unavailable {
                cause: Cause::Panicked,
                ..
            })
        ));
        other.unwrap();
        put(&db, "c", "").await.unwrap();
        assert_eq!(names(&db).await, ["b", "c"]);
    })
    .await;
}

#[tokio::test]
async fn a_write_happens_even_if_its_caller_is_dropped() {
    on_each_place(|db| async move {
        {
            let mut dropped = std::pin::pin!(put(&db, "a", ""));
            let once = std::future::poll_fn(|context| {
                std::task::Poll::Ready(dropped.as_mut().poll(context))
            })
            .await;
            assert!(once.is_pending());
        }
        // Jobs are done in order.
        put(&db, "b", "").await.unwrap();
        assert_eq!(names(&db).await, ["a", "b"]);
    })
    .await;
}

#[tokio::test]
async fn closing_finishes_what_is_queued_and_refuses_the_rest() {
    on_each_place(|db| async move {
        let mut jobs = JoinSet::new();
        for index in 0..100 {
            let db = db.clone();
            jobs.spawn(async move { put(&db, &format!("{index}"), "").await });
        }
        // The jobs stand in the queue after the tasks ran once.
        tokio::task::yield_now().await;
        db.close().await;
        let made = jobs
            .join_all()
            .await
            .iter()
            .filter(|outcome| outcome.is_ok())
            .count();
        assert_eq!(made, 100);
        let refused = put(&db, "late", "").await;
        assert!(matches!(
            refused,
            Err(Error::Unavailable {
                cause: Cause::Closed,
                ..
            })
        ));
        assert_eq!(names(&db).await.len(), 100);
        db.close().await;
    })
    .await;
}

#[tokio::test]
async fn reads_that_are_dropped_give_their_connections_back() {
    on_each_place(|db| async move {
        put(&db, "a", "1").await.unwrap();
        for _ in 0..100 {
            let mut dropped = std::pin::pin!(get(&db, "a"));
            let once = std::future::poll_fn(|context| {
                std::task::Poll::Ready(dropped.as_mut().poll(context))
            })
            .await;
            // Mostly pending; one that the connection answered amid the poll does no harm.
            drop(once);
        }
        let mut reads = JoinSet::new();
        for _ in 0..100 {
            let db = db.clone();
            reads.spawn(async move { get(&db, "a").await });
        }
        for found in reads.join_all().await {
            assert_eq!(found.unwrap().as_deref(), Some("1"));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_see_each_write_once_it_is_answered() {
    on_each_place(|db| async move {
        put(&db, "n", "0").await.unwrap();
        let mut tasks = JoinSet::new();
        for _ in 0..8 {
            let db = db.clone();
            tasks.spawn(async move {
                for _ in 0..25 {
                    let written = bump(&db, "n").await.unwrap();
                    let read: u64 = get(&db, "n").await.unwrap().unwrap().parse().unwrap();
                    assert!(read >= written, "{read} < {written}");
                }
            });
        }
        tasks.join_all().await;
        assert_eq!(get(&db, "n").await.unwrap().as_deref(), Some("200"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_who_start_at_once_make_one_schema() {
    for _ in 0..5 {
        with_each_lasting_place(async |place| {
            let mut starts = JoinSet::new();
            for _ in 0..6 {
                let place = place.clone();
                starts.spawn(async move { open(place).await });
            }
            for db in starts.join_all().await {
                assert_eq!(names(&db).await, [""; 0]);
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_processes_that_read_and_write_lose_nothing() {
    // On a server, two nodes at once take locks of their own where they need them.
    let folder = Folder::new();
    let (one, other) = tokio::join!(open(folder.database()), open(folder.database()));
    put(&one, "n", "0").await.unwrap();
    let mut tasks = JoinSet::new();
    for db in [one.clone(), other.clone()] {
        for _ in 0..4 {
            let db = db.clone();
            tasks.spawn(async move {
                for _ in 0..25 {
                    bump(&db, "n").await.unwrap();
                }
            });
        }
    }
    tasks.join_all().await;
    assert_eq!(get(&other, "n").await.unwrap().as_deref(), Some("200"));
}

#[tokio::test]
async fn a_killed_process_loses_nothing_that_was_answered() {
    let folder = Folder::new();
    let db = open(folder.database()).await;
    for index in 0..20 {
        put(&db, &format!("{index:02}"), "").await.unwrap();
        let copy = folder.copy_as_if_killed();
        let found = open(copy.database()).await;
        assert_eq!(names(&found).await.len(), index + 1);
    }
}

#[tokio::test]
async fn a_torn_commit_is_undone_as_a_whole() {
    let folder = Folder::new();
    let db = open(folder.database()).await;
    put(&db, "a", "").await.unwrap();
    let length_before = std::fs::metadata(folder.log_path()).unwrap().len();
    put(&db, "b", &"x".repeat(20_000)).await.unwrap();
    let length_after = std::fs::metadata(folder.log_path()).unwrap().len();
    assert!(length_after > length_before + 20_000);
    for length in (length_before..length_after).step_by(1_999) {
        let copy = folder.copy_as_if_killed();
        let log = std::fs::OpenOptions::new()
            .write(true)
            .open(copy.log_path())
            .unwrap();
        log.set_len(length).unwrap();
        let found = open(copy.database()).await;
        assert_eq!(
            names(&found).await,
            ["a"],
            "log cut to {length} of {length_after} bytes"
        );
    }
}

#[tokio::test]
async fn a_full_disk_fails_the_batch_and_the_writer_recovers() {
    on_sqlite(|db| async move {
        put(&db, "a", "").await.unwrap();
        run_raw(&db, "PRAGMA max_page_count = 40").await;
        let large = "x".repeat(500_000);
        let (small, too_large) = tokio::join!(put(&db, "b", ""), put(&db, "c", &large));
        assert!(
            matches!(too_large, Err(Error::Unavailable { .. })),
            "{too_large:?}"
        );
        assert_eq!(too_large.unwrap_err().fault(), Fault::Ours);
        // In one batch with the other or before it: answered as it was committed.
        let expected: &[&str] = if small.is_ok() { &["a", "b"] } else { &["a"] };
        assert_eq!(names(&db).await, expected);
        put(&db, "d", "").await.unwrap();
        assert!(names(&db).await.contains(&"d".to_owned()));
    })
    .await;
}

#[tokio::test]
async fn a_value_without_meaning_is_an_error() {
    on_sqlite(|db| async move {
        run_raw(&db, "INSERT INTO users (server, username, \"password\") VALUES ('test', 'a', CAST(x'ff' AS TEXT))").await;
        put(&db, "b", "fine").await.unwrap();
        let found = get(&db, "a").await;
        assert!(matches!(&found, Err(Error::Corrupt { query: "test_get", .. })), "{found:?}");
        assert_eq!(found.unwrap_err().fault(), Fault::Ours);
        let all = db.fetch_all(ALL.bind([]), |row| row.text(1)).await;
        assert!(matches!(all, Err(Error::Corrupt { cause: Cause::Value { column: 1 }, .. })));
        let number = db.fetch_optional(GET.bind(["b".into()]), |row| row.integer(0)).await;
        assert!(matches!(number, Err(Error::Corrupt { .. })), "{number:?}");
        assert_eq!(get(&db, "b").await.unwrap().as_deref(), Some("fine"));
    })
    .await;
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let folder = Folder::new();
    std::fs::write(
        folder.path(),
        "this is no database, but a text of more than a hundred bytes ".repeat(9),
    )
    .unwrap();
    let opened = Db::open(Options::new(folder.database())).await;
    assert!(matches!(opened.map(drop), Err(Error::Corrupt { .. })));
    let missing = Place::File(folder.0.join("missing/meerkat.db"));
    let opened = Db::open(Options::new(missing)).await;
    assert!(matches!(opened.map(drop), Err(Error::Unavailable { .. })));
}

#[tokio::test]
async fn the_schema_is_made_once_and_a_newer_one_is_refused() {
    on_each_place(|db| async move {
        db.migrate().await.unwrap();
        put(&db, "a", "").await.unwrap();
        db.migrate().await.unwrap();
        assert_eq!(names(&db).await, ["a"]);
        run_raw(
            &db,
            "INSERT INTO schema_migrations (version, name) VALUES (9999, 'tomorrow')",
        )
        .await;
        let refused = db.migrate().await;
        assert!(matches!(
            refused,
            Err(Error::Unavailable {
                cause: Cause::Newer { found: 9999, .. },
                ..
            })
        ));
    })
    .await;
}

#[test]
fn schema_steps_are_numbered_without_gaps() {
    for (index, migration) in dialect::MIGRATIONS.iter().enumerate() {
        assert_eq!(
            usize::try_from(migration.version).unwrap(),
            index + 1,
            "{}",
            migration.name
        );
    }
}

#[tokio::test]
async fn only_the_owner_can_read_the_file() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new();
    let db = open(folder.database()).await;
    put(&db, "a", "").await.unwrap();
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&folder.path()), 0o600);
    assert_eq!(mode(&folder.log_path()), 0o600);
}

#[tokio::test]
async fn a_reader_cannot_write() {
    with_each_lasting_place(async |place| {
        let db = open(place).await;
        let written = db
            .fetch_optional(PUT.bind(["a".into(), "".into()]), |_| Ok(()))
            .await;
        assert!(
            matches!(written, Err(Error::Unavailable { .. })),
            "{written:?}"
        );
        assert_eq!(names(&db).await, [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn what_is_committed_is_on_the_disk() {
    let folder = Folder::new();
    let db = open(folder.database()).await;
    let mut values = Vec::new();
    for pragma in [
        "PRAGMA journal_mode",
        "PRAGMA synchronous",
        "PRAGMA foreign_keys",
    ] {
        values.push(fetch_raw(&db, pragma).await[0][0].clone().expect("a value"));
    }
    // 2 is FULL.
    assert_eq!(values, ["wal", "2", "1"]);
}

/// Another process holds the lock: SQLite would wait for 5 seconds.
#[tokio::test]
async fn a_call_that_takes_too_long_is_an_error() {
    let folder = Folder::new();
    let other = open(folder.database()).await;
    let call_timeout = Duration::from_millis(50);
    let db = open_with(Options {
        call_timeout,
        ..Options::new(folder.database())
    })
    .await;
    let (release, released) = oneshot::channel::<()>();
    let (locked, is_locked) = oneshot::channel();
    let holding = other.transaction("holding", |transaction| {
        Box::pin(async move {
            transaction
                .execute(PUT.bind(["a".into(), "".into()]))
                .await?;
            let _ = locked.send(());
            let _ = released.await;
            Ok(())
        })
    });
    let late = async {
        is_locked.await.unwrap();
        let late = put(&db, "b", "").await;
        // Readers do not wait for a writer.
        assert_eq!(names(&db).await, [""; 0]);
        release.send(()).unwrap();
        late
    };
    let (held, late) = tokio::join!(holding, late);
    held.unwrap();
    assert!(
        matches!(
            late,
            Err(Error::Unavailable {
                cause: Cause::TimedOut,
                ..
            })
        ),
        "{late:?}"
    );
    // It stands in the queue still, and is done in its turn.
    db.close().await;
    assert_eq!(names(&other).await, ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_does_not_end_calls_in_memory() {
    let db = open(Place::Memory).await;
    for index in 0..100 {
        put(&db, &index.to_string(), "").await.unwrap();
        assert_eq!(
            get(&db, &index.to_string()).await.unwrap().as_deref(),
            Some("")
        );
    }
}

#[test]
fn strangers_learn_nothing_of_the_database() {
    let driver = || Cause::driver(sqlx::Error::Protocol("secret".into()));
    let (query, value) = ("users", Cause::Value { column: 1 });
    let cases = [
        (
            Error::Unavailable {
                query,
                cause: driver(),
            },
            StanzaCondition::ResourceConstraint,
            Fault::Ours,
        ),
        (
            Error::overloaded(),
            StanzaCondition::ResourceConstraint,
            Fault::Ours,
        ),
        (
            Error::Conflict {
                query,
                cause: driver(),
            },
            StanzaCondition::Conflict,
            Fault::Client,
        ),
        (
            Error::Corrupt {
                query,
                cause: value,
            },
            StanzaCondition::InternalServerError,
            Fault::Ours,
        ),
    ];
    for (error, condition, fault) in cases {
        let told = error.to_stanza_error();
        assert_eq!(
            (told.condition, told.text, told.application),
            (condition, None, None)
        );
        assert_eq!(error.fault(), fault);
    }
}

/// Keeps what is logged as slow: names of statements and how many were not logged before.
#[derive(Clone, Default)]
struct SlowLines(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for SlowLines {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "server::storage::timing"
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn event(&self, event: &tracing::Event<'_>) {
        struct Fields(String);
        impl tracing::field::Visit for Fields {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                if ["message", "query", "suppressed"].contains(&field.name()) {
                    self.0.push_str(&format!("{value:?} "));
                }
            }
        }
        let mut fields = Fields(String::new());
        event.record(&mut fields);
        self.0.lock().push(fields.0);
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test(start_paused = true)]
async fn slow_statements_are_logged_once_a_second() {
    let lines = SlowLines::default();
    let _guard = tracing::subscriber::set_default(lines.clone());
    let db = open_with(Options {
        slow_query: Duration::ZERO,
        ..Options::new(Place::Memory)
    })
    .await;
    for _ in 0..2 {
        tokio::time::advance(Duration::from_secs(2)).await;
        lines.0.lock().clear();
        for _ in 0..5 {
            get(&db, "a").await.unwrap();
        }
        assert_eq!(lines.0.lock().len(), 1);
    }
    assert_eq!(lines.0.lock()[0], "slow query \"test_get\" 4 ");
}

#[tokio::test]
async fn every_statement_is_counted_by_its_name() {
    on_each_place_observed(|db, counts| async move {
        counts.queries.lock().clear();
        put(&db, "a", "").await.unwrap();
        put(&db, "a", "").await.unwrap_err();
        get(&db, "a").await.unwrap();
        names(&db).await;
        let expected = [
            ("test_put", true),
            ("test_put", false),
            ("test_get", true),
            ("test_all", true),
        ];
        assert_eq!(*counts.queries.lock(), expected);
    })
    .await;
}

async fn on_each_place_observed<F: Future<Output = ()>>(suite: impl Fn(Db, Arc<Counts>) -> F) {
    with_each_place(async |place| {
        let counts = Arc::new(Counts::default());
        let db = open_with(Options {
            observer: counts.clone(),
            ..Options::new(place)
        })
        .await;
        suite(db, counts).await;
    })
    .await;
}

#[tokio::test]
async fn what_does_not_fit_fails_alone() {
    with_each_server(async |database| {
        let db = open(database.place()).await;
        let long = "x".repeat(251);
        let (before, too_long, after) =
            tokio::join!(put(&db, "a", ""), put(&db, &long, ""), put(&db, "b", ""));
        before.unwrap();
        after.unwrap();
        let error = too_long.unwrap_err();
        assert!(matches!(error, Error::Unfit { .. }), "{error:?}");
        assert_eq!(
            error.to_stanza_error().condition,
            StanzaCondition::NotAcceptable
        );
        assert_eq!(names(&db).await, ["a", "b"]);
    })
    .await;
}
