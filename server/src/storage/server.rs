//! A database that is another process, here or on another machine: how it is reached, and what happens when it is not.
//!
//! Whoever finds no connection tries to make one. After a failure nobody tries for a while, which doubles up to
//! [`Server::max_start_interval`]: calls fail at once meanwhile, so that clients are told to try again instead of
//! waiting for what does not come. The first attempt that succeeds ends it, without hands.
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use daemon::Secret;
use parking_lot::Mutex;
use sqlx::mysql::MySqlConnectOptions;
use sqlx::postgres::PgConnectOptions;
use tokio::time::Instant;

use super::connection::Connection;
use super::dialect::Dialect;
use super::{Cause, Error, mysql, postgres, problem};

/// After the first failure nobody tries for so long.
const WAIT_MIN: Duration = Duration::from_millis(100);
/// A start waits so long for a database that is not there yet, as after a power cut, when all machines start at once.
const START_PATIENCE: Duration = Duration::from_secs(60);
/// While a start waits, it tries so often.
const START_INTERVAL: Duration = Duration::from_secs(1);
/// So long may one statement of a migration take: it may have to rebuild a large table.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(86_400);

/// Where a database server is and how we log in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// What it speaks.
    pub kind: ServerKind,
    /// Name or address of its machine.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Name of the database.
    pub database: String,
    /// Who we are.
    pub username: String,
    /// How we show it.
    pub password: Secret,
    /// Encryption; None means none.
    pub tls: Option<Tls>,
    /// How long a statement may take.
    pub query_timeout: Duration,
    /// The longest time between two attempts to reach it.
    pub max_start_interval: Duration,
    /// How often an idle connection is used, so that no firewall forgets it.
    pub keepalive_interval: Option<Duration>,
}

/// Servers that we can talk to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerKind {
    /// PostgreSQL.
    Postgres,
    /// MySQL and MariaDB.
    MySql,
}

/// Encryption of the way to a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tls {
    /// What is asked of the server.
    pub trust: Trust,
    /// Certificates that are trusted beside the public ones, PEM.
    pub ca: Option<PathBuf>,
    /// Our certificate chain and its key, PEM.
    pub certificate: Option<(PathBuf, PathBuf)>,
}

/// What is asked of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// A certificate for its name by somebody we trust.
    Verified,
    /// Encryption, with whomever.
    Encrypted,
    /// Encryption if it has it.
    IfOffered,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let driver = match self.kind {
            ServerKind::Postgres => "pgsql",
            ServerKind::MySql => "mysql",
        };
        let Self {
            host,
            port,
            database,
            username,
            ..
        } = self;
        write!(f, "{driver}://{username}@{host}:{port}/{database}")
    }
}

/// Opens connections to a server.
pub(super) struct ServerConnector {
    target: Target,
    is_encrypted: bool,
    query_timeout: Duration,
    wait_max: Duration,
    away: Mutex<Option<Away>>,
}

enum Target {
    Postgres(Box<PgConnectOptions>),
    MySql(Box<MySqlConnectOptions>),
}

/// The server could not be reached.
struct Away {
    since: Instant,
    wait: Duration,
    until: Instant,
}

impl ServerConnector {
    pub(super) fn new(server: &Server) -> Self {
        let target = match server.kind {
            ServerKind::Postgres => Target::Postgres(Box::new(postgres::options(server))),
            ServerKind::MySql => Target::MySql(Box::new(mysql::options(server))),
        };
        Self {
            target,
            is_encrypted: server.tls.is_some(),
            query_timeout: server.query_timeout,
            wait_max: server.max_start_interval.max(WAIT_MIN),
            away: Mutex::default(),
        }
    }

    pub(super) fn dialect(&self) -> Dialect {
        match self.target {
            Target::Postgres(_) => Dialect::Postgres,
            Target::MySql(_) => Dialect::MySql,
        }
    }

    /// The first connection of a start: waits for a server that is not there yet, and says why.
    pub(super) async fn open_first(&self) -> Result<Connection, Error> {
        let started = Instant::now();
        loop {
            let error = match self.connect(false, self.query_timeout).await {
                Ok(connection) => return Ok(connection),
                Err(error) => error,
            };
            let waited = started.elapsed();
            if problem::is_hopeless(&error) || waited + START_INTERVAL > START_PATIENCE {
                return Err(error);
            }
            tracing::warn!(
                cause = %error.cause(),
                waited_secs = waited.as_secs(),
                patience_secs = START_PATIENCE.as_secs(),
                "database not reached yet"
            );
            tokio::time::sleep(START_INTERVAL).await;
        }
    }

    /// A connection for readers or for the writer. Fails at once while nobody tries.
    pub(super) async fn open(&self, is_reader: bool) -> Result<Connection, Error> {
        if self.is_waiting() {
            return Err(Error::Unavailable {
                query: "open",
                cause: Cause::Away,
            });
        }
        let opened = self.connect(is_reader, self.query_timeout).await;
        match &opened {
            Ok(_) => self.note_success(),
            Err(error) => self.note_failure(error),
        }
        opened
    }

    /// A connection whose statements may take long.
    pub(super) async fn open_for_migrations(&self) -> Result<Connection, Error> {
        self.connect(false, MIGRATION_TIMEOUT).await
    }

    async fn connect(
        &self,
        is_reader: bool,
        statement_timeout: Duration,
    ) -> Result<Connection, Error> {
        let connecting = async {
            Ok(match &self.target {
                Target::Postgres(options) => {
                    let opened = postgres::connect(options, statement_timeout, is_reader).await?;
                    Connection::Postgres(opened, statement_timeout)
                }
                Target::MySql(options) => {
                    let opened = mysql::connect(options, statement_timeout, is_reader).await?;
                    Connection::MySql(opened, statement_timeout)
                }
            })
        };
        match tokio::time::timeout(self.query_timeout, connecting).await {
            Ok(connected) => connected.map_err(|error| self.explain(error)),
            Err(_) => Err(Error::Unavailable {
                query: "open",
                cause: Cause::TimedOut,
            }),
        }
    }

    /// The error for an operator: the driver has another word for one that can be mended here.
    fn explain(&self, error: sqlx::Error) -> Error {
        match (&self.target, &error) {
            (Target::MySql(_), sqlx::Error::Configuration(_)) if !self.is_encrypted => {
                Error::Unavailable {
                    query: "open",
                    cause: Cause::NeedsTls,
                }
            }
            _ => problem::classify("open", error),
        }
    }

    fn is_waiting(&self) -> bool {
        let away = self.away.lock();
        away.as_ref()
            .is_some_and(|away| Instant::now() < away.until)
    }

    fn note_success(&self) {
        if let Some(away) = self.away.lock().take() {
            let seconds = away.since.elapsed().as_secs();
            tracing::warn!(seconds, "database is back");
        }
    }

    fn note_failure(&self, error: &Error) {
        let now = Instant::now();
        let mut away = self.away.lock();
        let (since, wait) = match &*away {
            // Somebody else tried at the same time and has noted it.
            Some(away) if now < away.until => return,
            Some(away) => (away.since, (away.wait * 2).min(self.wait_max)),
            None => (now, WAIT_MIN),
        };
        *away = Some(Away {
            since,
            wait,
            until: now + wait,
        });
        drop(away);
        tracing::error!(cause = %error.cause(), retry_ms = wait.as_millis(), "database is away");
    }
}
