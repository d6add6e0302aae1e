//! What is particular to one variety of SQL: everything that a second database would have to say differently stands
//! in this file, so that stores and the rest of `storage` never name a driver.
//!
//! SQL texts number their parameters `$1`, `$2` …, which SQLite and PostgreSQL both take. What another database would
//! have to say in other words: `INSERT … ON CONFLICT`, `json_group_array` (rosters), `octet_length` (the quotas of
//! offline messages and private storage) and the files in `migrations/sqlite`, whose tables are `STRICT` and often `WITHOUT ROWID`.
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::Connection as _;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteRow,
    SqliteSynchronous,
};

use tokio::time::Instant;

use super::{Cause, Error, Value};

/// A connection of the driver.
pub(super) type Connection = SqliteConnection;
/// A row of the driver.
pub(super) type DriverRow = SqliteRow;

/// How long a statement waits for the lock of another process (a backup, an administrator's shell).
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long to wait before a busy file is opened again.
const BUSY_INTERVAL: Duration = Duration::from_millis(10);
/// The write-ahead log is cut back to this size when it was longer, in bytes: a burst does not keep the disk full.
const WAL_BYTES_MAX: &str = "67108864";
/// Prepared statements kept for each connection; more than we have, so that none is ever prepared twice.
const STATEMENTS_MAX: usize = 256;

/// Starts a transaction that will write. The lock is taken now, as a deferred one that reads first and writes then
/// fails at once when another process wrote in between.
pub(super) const BEGIN_WRITE: &str = "BEGIN IMMEDIATE";
pub(super) const COMMIT: &str = "COMMIT";
pub(super) const ROLLBACK: &str = "ROLLBACK";
/// Encloses the statements of one job within the transaction of its batch.
pub(super) const SAVEPOINT: &str = "SAVEPOINT job";
pub(super) const ROLLBACK_TO_SAVEPOINT: &str = "ROLLBACK TO job";
pub(super) const RELEASE_SAVEPOINT: &str = "RELEASE job";

/// The table of the migrations that were applied.
pub(super) const CREATE_MIGRATIONS: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (
    version INTEGER NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    applied_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP
) STRICT";

/// One step of the schema. A step that was released is never edited: a later one changes what it made.
pub(super) struct Migration {
    pub(super) version: i64,
    pub(super) name: &'static str,
    pub(super) sql: &'static str,
}

/// All steps, in order.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration {
        version: 1,
        name: "accounts",
        sql: include_str!("../../migrations/sqlite/0001_accounts.sql"),
    },
    Migration {
        version: 2,
        name: "roster",
        sql: include_str!("../../migrations/sqlite/0002_roster.sql"),
    },
    Migration {
        version: 3,
        name: "offline",
        sql: include_str!("../../migrations/sqlite/0003_offline.sql"),
    },
    Migration {
        version: 4,
        name: "in_flight",
        sql: include_str!("../../migrations/sqlite/0004_in_flight.sql"),
    },
    Migration {
        version: 5,
        name: "secrets",
        sql: include_str!("../../migrations/sqlite/0005_secrets.sql"),
    },
    Migration {
        version: 6,
        name: "private",
        sql: include_str!("../../migrations/sqlite/0006_private.sql"),
    },
    Migration {
        version: 7,
        name: "last",
        sql: include_str!("../../migrations/sqlite/0007_last.sql"),
    },
    Migration {
        version: 8,
        name: "privacy",
        sql: include_str!("../../migrations/sqlite/0008_privacy.sql"),
    },
];

/// Pages that each reader keeps: 256 KiB, for the inner pages of the trees. The kernel has the rest, once for all
/// readers, where SQLite's 2 MB would be kept by each.
const READER_CACHE: &str = "-256";

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
    pub(super) async fn open_writer(&self) -> Result<Connection, sqlx::Error> {
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
    pub(super) async fn open_reader(&self) -> Result<Connection, sqlx::Error> {
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
        .statement_cache_capacity(STATEMENTS_MAX)
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
            Value::Null => arguments.add(None::<i64>),
            Value::Integer(number) => arguments.add(number),
            Value::Text(text) => arguments.add(text),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

/// What an error of the driver means to a caller.
pub(super) fn classify(query: &'static str, error: sqlx::Error) -> Error {
    match &error {
        sqlx::Error::Database(database)
            if database.is_unique_violation()
                || database.is_foreign_key_violation()
                || database.is_check_violation() =>
        {
            Error::Conflict {
                query,
                cause: Cause::driver(error),
            }
        }
        sqlx::Error::Database(database) if is_corrupt(database.code().as_deref()) => {
            Error::Corrupt {
                query,
                cause: Cause::driver(error),
            }
        }
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::ColumnNotFound(_) => Error::Corrupt {
            query,
            cause: Cause::driver(error),
        },
        _ => Error::Unavailable {
            query,
            cause: Cause::driver(error),
        },
    }
}

/// What SQLite says is wrong: the low byte of its code; the rest says where that was found.
fn primary_code(code: Option<&str>) -> Option<u32> {
    Some(code?.parse::<u32>().ok()? & 0xff)
}

fn is_corrupt(code: Option<&str>) -> bool {
    const CORRUPT: u32 = 11;
    const NOT_A_DATABASE: u32 = 26;
    matches!(primary_code(code), Some(CORRUPT | NOT_A_DATABASE))
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
    connection: &mut Connection,
    statement: &super::Statement,
) -> Result<Vec<String>, sqlx::Error> {
    use sqlx::{AssertSqlSafe, Row as _};
    let text = format!("EXPLAIN QUERY PLAN {}", statement.sql);
    let rows = sqlx::query(AssertSqlSafe(text))
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| row.try_get::<String, _>(3)).collect()
}
