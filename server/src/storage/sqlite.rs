//! SQLite, in the process.
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous,
};
use tokio::time::Instant;

use super::Value;
use super::problem::Kind;

/// How long a statement waits for the lock of another process (a backup, an administrator's shell).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait before a busy file is opened again.
const BUSY_INTERVAL: Duration = Duration::from_millis(10);
/// The write-ahead log is cut back to this size when it was longer, in bytes: a burst does not keep the disk full.
const WAL_BYTES_MAX: &str = "67108864";
/// Pages that each reader keeps: 256 KiB, for the inner pages of the trees. The kernel has the rest, once for all
/// readers, where SQLite's 2 MB would be kept by each.
const READER_CACHE: &str = "-256";

/// The table of the migrations that were applied.
pub(super) const CREATE_MIGRATIONS: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (
    version INTEGER NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
) STRICT";

/// Opens connections to one database.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    options: Arc<SqliteConnectOptions>,
    is_memory: bool,
}

impl Connector {
    /// A database file, made if it is missing.
    ///
    /// Durability: `synchronous = FULL`, so the log is flushed to the disk before a `COMMIT` returns. With SQLite's
    /// usual choice for this journal mode, `NORMAL`, a committed row survives a killed process but not a power cut,
    /// and we acknowledge what is committed. Group commit pays one flush for a whole batch.
    pub(super) fn file(path: &Path) -> Self {
        let options = common_options()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .pragma("journal_size_limit", WAL_BYTES_MAX);
        Self {
            options: Arc::new(options),
            is_memory: false,
        }
    }

    /// A database that is gone with its only connection.
    pub(super) fn memory() -> Self {
        Self {
            options: Arc::new(common_options().filename(":memory:")),
            is_memory: true,
        }
    }

    /// Whether the database lives in its one connection, which must be shared and never be replaced.
    pub(super) fn is_memory(&self) -> bool {
        self.is_memory
    }

    /// A connection that may write.
    ///
    /// Two processes that put a new file into its journal mode at once are in each other's way, and there SQLite does
    /// not wait by itself: so we do.
    pub(super) async fn open_writer(&self) -> Result<SqliteConnection, sqlx::Error> {
        let started = Instant::now();
        loop {
            match SqliteConnection::connect_with(&self.options).await {
                Err(error) if is_busy(&error) && started.elapsed() < BUSY_TIMEOUT => {
                    tokio::time::sleep(BUSY_INTERVAL).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// A connection that may only read, unless it is the only one.
    pub(super) async fn open_reader(&self) -> Result<SqliteConnection, sqlx::Error> {
        if self.is_memory {
            return self.open_writer().await;
        }
        let options = self.options.as_ref().clone();
        let options = options
            .pragma("query_only", "ON")
            .pragma("cache_size", READER_CACHE);
        SqliteConnection::connect_with(&options).await
    }
}

fn common_options() -> SqliteConnectOptions {
    use sqlx::ConnectOptions as _;
    SqliteConnectOptions::new()
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(super::STATEMENTS_MAX)
        // A database file that was tampered with cannot make us call functions by its schema.
        .pragma("trusted_schema", "OFF")
        .pragma("temp_store", "MEMORY")
        // We measure and log ourselves, with the statement's name and never its text.
        .disable_statement_logging()
}

/// The values of a query in the driver's form.
pub(super) fn arguments(values: Vec<Value>) -> Result<SqliteArguments, sqlx::Error> {
    use sqlx::Arguments as _;
    let mut arguments = SqliteArguments::default();
    arguments.reserve(values.len(), 0);
    for value in values {
        match value {
            Value::Integer(number) => arguments.add(number),
            Value::Text(text) => arguments.add(text),
            Value::Truth(truth) => arguments.add(truth.map(i64::from)),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

/// What is wrong by SQLite's code; the rest says where that was found.
pub(super) fn kind(code: Option<&str>) -> Kind {
    const CORRUPT: u32 = 11;
    const NOT_A_DATABASE: u32 = 26;
    match primary_code(code) {
        Some(CORRUPT | NOT_A_DATABASE) => Kind::Corrupt,
        _ => Kind::Away,
    }
}

fn primary_code(code: Option<&str>) -> Option<u32> {
    Some(code?.parse::<u32>().ok()? & 0xff)
}

fn is_busy(error: &sqlx::Error) -> bool {
    const BUSY: u32 = 5;
    error
        .as_database_error()
        .is_some_and(|error| primary_code(error.code().as_deref()) == Some(BUSY))
}

/// How the database would run a statement, one line per step: tests look for scans of whole tables.
#[cfg(test)]
pub(super) async fn query_plan(
    connection: &mut SqliteConnection,
    sql: &str,
) -> Result<Vec<String>, sqlx::Error> {
    use sqlx::{AssertSqlSafe, Row as _};
    let text = format!("EXPLAIN QUERY PLAN {sql}");
    let rows = sqlx::query(AssertSqlSafe(text))
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| row.try_get::<String, _>(3)).collect()
}
