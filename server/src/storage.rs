//! The database: one writer that commits in groups, a few readers, every statement named, timed and bound.
//!
//! A store (`AccountStore` and others) holds a [`Db`], declares its statements once with [`statements!`] and calls
//! [`Db::fetch_all`], [`Db::fetch_optional`], [`Db::execute`] or [`Db::transaction`]. Nothing outside this folder
//! names the driver.
//!
//! What a write promises: when it returns `Ok`, it is committed and survives a killed process and a power cut. When it
//! returns an error, it is undone, save for one case: an error of the commit itself leaves open whether the database
//! has it. A write that stands in the queue happens even if its caller is dropped.
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use protocol::{Element, Stanza, StanzaCondition, StanzaError, ns};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::fault::Fault;

pub mod accounts;
pub mod config;
mod connection;
mod connector;
mod dialect;
pub mod in_flight;
mod migrate;
mod mysql;
pub(crate) mod positional;
mod postgres;
mod problem;
mod readers;
pub mod secrets;
pub mod server;
mod sqlite;
mod timing;
mod writer;

pub use connection::Row;
pub use timing::Observer;

use connection::Connection;
use connector::Connector;
pub(crate) use dialect::Texts;
use readers::Readers;
use server::{Server, ServerConnector};
use timing::Timing;
use writer::{Home, Job, Writer};

/// Prepared statements kept for each connection; more than we have, so that none is ever prepared twice.
const STATEMENTS_MAX: usize = 256;

/// Where the database is and how it is used.
pub struct Options {
    /// Where it is.
    pub place: Place,
    /// Connections that read at the same time; for a database in memory always one, shared with the writer.
    pub readers: usize,
    /// Statements that wait for a connection; the next one is refused.
    pub waiting_max: usize,
    /// How long a call may take, its time in a queue included. A read that takes longer is given up; a write may still
    /// be committed after its caller was told that it took too long. Not for a database in memory.
    pub call_timeout: Duration,
    /// A statement that takes longer is logged with its name.
    pub slow_query: Duration,
    /// Who counts statements.
    pub observer: Arc<dyn Observer>,
}

/// Where a database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In memory, gone when the last [`Db`] is dropped.
    Memory,
    /// In this file, made with mode 0600 if it is missing; its folder must exist.
    File(PathBuf),
    /// On a server.
    Server(Box<Server>),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("in memory"),
            Self::File(path) => path.display().fmt(f),
            Self::Server(server) => server.fmt(f),
        }
    }
}

/// Connections that read at the same time, unless the configuration says otherwise.
pub const READERS_DEFAULT: usize = 4;
/// Statements that wait for a connection, unless the configuration says otherwise.
pub const WAITING_MAX_DEFAULT: usize = 16_384;
/// How long a call may take, unless the configuration says otherwise, in milliseconds.
pub const CALL_TIMEOUT_MS_DEFAULT: u64 = 60_000;
/// A statement that takes longer than this is logged, in milliseconds.
pub const SLOW_QUERY_MS_DEFAULT: u64 = 200;

impl Options {
    /// The defaults for a database at `place`.
    pub fn new(place: Place) -> Self {
        Self {
            place,
            readers: READERS_DEFAULT,
            waiting_max: WAITING_MAX_DEFAULT,
            call_timeout: Duration::from_millis(CALL_TIMEOUT_MS_DEFAULT),
            slow_query: Duration::from_millis(SLOW_QUERY_MS_DEFAULT),
            observer: Arc::new(timing::Silent),
        }
    }
}

/// A database. Cheap to clone.
#[derive(Clone)]
pub struct Db(Arc<Shared>);

struct Shared {
    connector: Connector,
    readers: Arc<Readers>,
    writer: Writer,
    /// None in memory, where nothing has to be waited for; so tests may pause the clock.
    call_timeout: Option<Duration>,
    timing: Arc<Timing>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Db {
    /// Opens the database and starts its writer. The schema is as it was found: see [`Db::migrate`]. A server that
    /// cannot be reached yet is waited for, for a minute.
    pub async fn open(options: Options) -> Result<Self, Error> {
        let connector = match &options.place {
            Place::Memory => Connector::Sqlite(sqlite::Connector::memory()),
            Place::File(path) => {
                make_private(path).map_err(|error| problem::classify("open", error.into()))?;
                Connector::Sqlite(sqlite::Connector::file(path))
            }
            Place::Server(server) => Connector::Server(Arc::new(ServerConnector::new(server))),
        };
        // The writer comes first: it makes the file and puts it into its journal mode.
        let first = connector.open_first().await?;
        let limit = options.readers.max(1);
        let (readers, home) = if connector.is_memory() {
            let connector = connector.clone();
            let readers = Arc::new(Readers::new(connector, vec![first], 1, options.waiting_max));
            (Arc::clone(&readers), Home::Shared(readers))
        } else {
            // Those to a server are opened when they are needed: each is a process or thread there.
            let count = if connector.is_server() { 0 } else { limit };
            let mut connections = Vec::with_capacity(limit);
            for _ in 0..count {
                connections.push(connector.open_reader().await?);
            }
            let readers = Arc::new(Readers::new(
                connector.clone(),
                connections,
                limit,
                options.waiting_max,
            ));
            let home = Home::Own {
                connector: connector.clone(),
                connection: Some(first),
            };
            (readers, home)
        };
        let call_timeout = (options.place != Place::Memory).then_some(options.call_timeout);
        let timing = Arc::new(Timing::new(options.slow_query, options.observer));
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let keepalive = match &options.place {
            Place::Memory | Place::File(_) => None,
            Place::Server(server) => server.keepalive_interval,
        };
        if let Some(interval) = keepalive {
            tasks.spawn(Arc::clone(&readers).keep_alive(interval, stop.clone()));
        }
        let writer = Writer::start(home, Arc::clone(&timing), &tasks, stop.clone(), keepalive);
        Ok(Self(Arc::new(Shared {
            connector,
            readers,
            writer,
            call_timeout,
            timing,
            tasks,
            stop,
        })))
    }

    /// Brings the schema up to date, each step in a transaction of its own. Two processes that start at once take
    /// turns. A schema that is newer than this program is refused, and so is one of MongooseIM that lacks columns.
    pub async fn migrate(&self) -> Result<(), Error> {
        const MIGRATE: &str = "migrate";
        let known = dialect::MIGRATIONS;
        if let Connector::Server(connector) = &self.0.connector {
            return migrate::migrate_server(connector, known).await;
        }
        for migration in known {
            // Takes as long as it takes.
            self.write(MIGRATE, |answer| {
                Job::work(
                    MIGRATE,
                    move |transaction| {
                        Box::pin(async move { migrate::apply(transaction, migration, known).await })
                    },
                    answer,
                )
            })
            .await?;
        }
        Ok(())
    }

    /// All rows of a statement. What it can return at most is said by the statement's `LIMIT` or by a limit on what
    /// is stored.
    pub async fn fetch_all<T>(
        &self,
        mut query: Query,
        read: impl FnMut(&Row<'_>) -> Result<T, Error> + Send,
    ) -> Result<Vec<T>, Error> {
        let name = query.name();
        let work = Box::pin(async move {
            let mut lease = self.0.readers.acquire(name).await?;
            let rows = lease.fetch_all(&mut query).await?;
            drop(lease);
            rows.read(name, read)
        });
        self.read(name, work).await
    }

    /// The one row of a statement that has one at most.
    pub async fn fetch_optional<T>(
        &self,
        mut query: Query,
        read: impl FnOnce(&Row<'_>) -> Result<T, Error> + Send,
    ) -> Result<Option<T>, Error> {
        let name = query.name();
        let work = Box::pin(async move {
            let mut lease = self.0.readers.acquire(name).await?;
            let row = lease.fetch_optional(&mut query).await?;
            drop(lease);
            row.map(|row| row.read(name, read)).transpose()
        });
        self.read(name, work).await
    }

    /// Runs one statement that writes and returns, after the commit, how many rows it changed. Waits while the queue
    /// of the writer is full.
    pub async fn execute(&self, query: Query) -> Result<u64, Error> {
        let name = query.name();
        self.limited(
            name,
            self.write(name, |answer| Job::statement(query, answer)),
        )
        .await
    }

    /// Runs several statements that belong together and returns, after the commit, what `work` returned. If `work`
    /// returns an error, all it did is undone. It may share its transaction with other jobs but sees them only whole,
    /// as all writes happen one after the other. Waits while the queue of the writer is full.
    pub async fn transaction<T, W>(&self, name: &'static str, work: W) -> Result<T, Error>
    where
        T: Send + 'static,
        W: for<'t> FnOnce(&'t mut Transaction<'_>) -> Work<'t, T> + Send + 'static,
    {
        self.limited(
            name,
            self.write(name, |answer| Job::work(name, work, answer)),
        )
        .await
    }

    /// Runs statements that write, all or none, and returns after the commit. One alone needs no savepoint and is
    /// known by its own name.
    pub(crate) async fn execute_all(
        &self,
        name: &'static str,
        mut queries: Vec<Query>,
    ) -> Result<(), Error> {
        if queries.len() <= 1 {
            return match queries.pop() {
                Some(query) => self.execute(query).await.map(drop),
                None => Ok(()),
            };
        }
        self.transaction(name, |transaction| {
            Box::pin(async move {
                for query in queries {
                    transaction.execute(query).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Finishes the writes that are queued, refuses new ones and closes the file. Reads go on as long as somebody
    /// holds the database.
    pub async fn close(&self) {
        self.0.stop.cancel();
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }
}

impl Db {
    /// Times a read. Boxed, as the future of a session must not hold room for it: one allocation among a dozen of the
    /// driver.
    async fn read<T>(
        &self,
        name: &'static str,
        work: Pin<Box<impl Future<Output = Result<T, Error>>>>,
    ) -> Result<T, Error> {
        let started = Instant::now();
        let outcome = self.limited(name, work).await;
        self.0.timing.observe(name, started, outcome.is_ok());
        outcome
    }

    /// Queues a job and waits for the commit. The writer times it.
    async fn write<T>(
        &self,
        query: &'static str,
        job: impl FnOnce(oneshot::Sender<Result<T, Error>>) -> Job,
    ) -> Result<T, Error> {
        let (answer, committed) = oneshot::channel();
        self.0.writer.submit(job(answer)).await?;
        committed.await.unwrap_or(Err(Error::Unavailable {
            query,
            cause: Cause::Closed,
        }))
    }

    async fn limited<T>(
        &self,
        query: &'static str,
        work: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let Some(limit) = self.0.call_timeout else {
            return work.await;
        };
        let late = |_| {
            Err(Error::Unavailable {
                query,
                cause: Cause::TimedOut,
            })
        };
        tokio::time::timeout(limit, work).await.unwrap_or_else(late)
    }
}

/// Makes the file before SQLite does, readable by nobody else: it holds credentials. A file that is there is not even
/// opened: closing it would drop the locks that this process has on it.
fn make_private(path: &std::path::Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let made = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map(drop),
    }
}

/// A statement: its name in metrics and logs, and its text in each dialect. Made by [`statements!`] alone, so that each
/// stands in the list of its store, which a test prepares.
#[derive(Debug)]
pub struct Statement {
    name: &'static str,
    texts: Texts,
}

impl Statement {
    /// Only for [`statements!`].
    pub(crate) const fn new(name: &'static str, texts: Texts) -> Self {
        Self { name, texts }
    }

    /// The name in metrics and logs.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The statement with values for `$1`, `$2` ….
    pub(crate) fn bind<const COUNT: usize>(&'static self, values: [Value; COUNT]) -> Query {
        self.bind_all(values.into())
    }

    /// The same for a list that is put together.
    pub(crate) fn bind_all(&'static self, values: Vec<Value>) -> Query {
        Query {
            statement: self,
            values,
        }
    }
}

/// Declares the statements of a store: a constant for each, and the list `STATEMENTS` of all. A statement has one text
/// for all dialects, and after it, where one has to say it in other words, `postgres: "…"` and `mysql: "…"`.
macro_rules! statements {
    ($(
        $(#[$doc:meta])*
        $constant:ident = $name:literal: $sql:expr $(, postgres: $postgres:expr)? $(, mysql: $mysql:expr)?;
    )+) => {
        $(
            $(#[$doc])*
            const $constant: &$crate::storage::Statement = {
                use $crate::storage::positional;
                const SQLITE: &str = $sql;
                const POSTGRES: &str = $crate::storage::first_text!($($postgres,)? SQLITE);
                const MYSQL: &str = $crate::storage::first_text!($($mysql,)? SQLITE);
                const MYSQL_TEXT: [u8; positional::length(MYSQL)] = positional::text(MYSQL);
                const MYSQL_ORDER: [usize; positional::count(MYSQL)] = positional::order(MYSQL);
                &$crate::storage::Statement::new($name, $crate::storage::Texts {
                    sqlite: SQLITE,
                    postgres: POSTGRES,
                    mysql: positional::as_text(&MYSQL_TEXT),
                    mysql_order: &MYSQL_ORDER,
                })
            };
        )+
        /// Every statement of this store.
        #[cfg(test)]
        const STATEMENTS: &[&$crate::storage::Statement] = &[$($constant),+];
    };
}
pub(crate) use statements;

/// The first of one or two texts.
macro_rules! first_text {
    ($first:expr $(, $second:expr)?) => {
        $first
    };
}
pub(crate) use first_text;

/// A statement with its values.
pub struct Query {
    statement: &'static Statement,
    values: Vec<Value>,
}

impl Query {
    fn name(&self) -> &'static str {
        self.statement.name
    }
}

/// A value that goes into a statement; None is SQL's NULL, which has a type too.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// A whole number.
    Integer(Option<i64>),
    /// Text in UTF-8, kept byte for byte.
    Text(Option<Arc<str>>),
    /// True or false; 1 or 0 in SQLite.
    Truth(Option<bool>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.into()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(text.into()))
    }
}

impl From<Arc<str>> for Value {
    fn from(text: Arc<str>) -> Self {
        Self::Text(Some(text))
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Integer(Some(number))
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Truth(Some(truth))
    }
}

impl From<Option<&str>> for Value {
    fn from(text: Option<&str>) -> Self {
        Self::Text(text.map(Into::into))
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        Self::Text(text.map(Into::into))
    }
}

impl From<Option<Arc<str>>> for Value {
    fn from(text: Option<Arc<str>>) -> Self {
        Self::Text(text)
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Self::Integer(number)
    }
}

impl From<Option<bool>> for Value {
    fn from(truth: Option<bool>) -> Self {
        Self::Truth(truth)
    }
}

/// A stanza that was stored as XML, in the form of a client stream; None if it is none.
pub(crate) fn to_stanza(xml: &str) -> Option<Stanza> {
    let element = Element::parse(xml.as_bytes(), ns::CLIENT).ok()?;
    Stanza::from_element(&element).ok()
}

/// What [`Db::transaction`] runs.
pub type Work<'t, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 't>>;

/// The statements of one job, which are committed or undone together.
pub struct Transaction<'c> {
    connection: &'c mut Connection,
}

impl Transaction<'_> {
    /// As [`Db::fetch_all`], within the transaction.
    pub(crate) async fn fetch_all<T>(
        &mut self,
        mut query: Query,
        read: impl FnMut(&Row<'_>) -> Result<T, Error> + Send,
    ) -> Result<Vec<T>, Error> {
        let name = query.name();
        self.connection
            .fetch_all(&mut query)
            .await?
            .read(name, read)
    }

    /// As [`Db::fetch_optional`], within the transaction.
    pub(crate) async fn fetch_optional<T>(
        &mut self,
        mut query: Query,
        read: impl FnOnce(&Row<'_>) -> Result<T, Error> + Send,
    ) -> Result<Option<T>, Error> {
        let name = query.name();
        let row = self.connection.fetch_optional(&mut query).await?;
        row.map(|row| row.read(name, read)).transpose()
    }

    /// Runs a statement and returns how many rows it changed. A row that MySQL replaced counts twice.
    pub(crate) async fn execute(&mut self, mut query: Query) -> Result<u64, Error> {
        self.connection.execute(&mut query).await
    }
}

/// Why the database did not do it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The database cannot be reached, is full, locked for too long, or closed. Trying again later may help.
    #[error("the database is not available for {query}")]
    Unavailable {
        /// Name of the statement.
        query: &'static str,
        /// What went wrong.
        #[source]
        cause: Cause,
    },
    /// A row with this key is there already.
    #[error("{query} contradicts what is stored")]
    Conflict {
        /// Name of the statement.
        query: &'static str,
        /// What went wrong.
        #[source]
        cause: Cause,
    },
    /// The database cannot hold a value: it is longer than its column, or has a character that the database refuses.
    #[error("the database cannot hold a value of {query}")]
    Unfit {
        /// Name of the statement.
        query: &'static str,
        /// What went wrong.
        #[source]
        cause: Cause,
    },
    /// What is stored has no meaning: somebody else wrote it, or the disk is at fault.
    #[error("what {query} found is corrupt")]
    Corrupt {
        /// Name of the statement.
        query: &'static str,
        /// What went wrong.
        #[source]
        cause: Cause,
    },
}

impl Error {
    /// Whose fault it is.
    pub fn fault(&self) -> Fault {
        match self {
            Self::Unavailable { .. } | Self::Corrupt { .. } => Fault::Ours,
            Self::Conflict { .. } | Self::Unfit { .. } => Fault::Client,
        }
    }

    /// Something that stands before the database, as the hashing of passwords, has too much to do.
    pub fn overloaded() -> Self {
        Self::Unavailable {
            query: "queue",
            cause: Cause::Overloaded,
        }
    }

    /// What the sender of a stanza learns: that it may try again, or that it need not. Nothing of the database.
    pub fn to_stanza_error(&self) -> StanzaError {
        StanzaError::new(match self {
            Self::Unavailable { .. } => StanzaCondition::ResourceConstraint,
            Self::Conflict { .. } => StanzaCondition::Conflict,
            Self::Unfit { .. } => StanzaCondition::NotAcceptable,
            Self::Corrupt { .. } => StanzaCondition::InternalServerError,
        })
    }

    /// What went wrong, for a log.
    pub fn cause(&self) -> &Cause {
        match self {
            Self::Unavailable { cause, .. }
            | Self::Conflict { cause, .. }
            | Self::Unfit { cause, .. }
            | Self::Corrupt { cause, .. } => cause,
        }
    }

    /// Whether only the job that met this error is at fault, so that others of its batch may be committed.
    fn concerns_one_job(&self) -> bool {
        match self {
            Self::Conflict { .. } | Self::Unfit { .. } => true,
            Self::Unavailable { cause, .. } | Self::Corrupt { cause, .. } => !matches!(
                cause,
                Cause::Driver(_) | Cause::Silent | Cause::Away | Cause::InDoubt
            ),
        }
    }
}

/// What is behind an [`Error`].
#[derive(Clone, Debug, thiserror::Error)]
pub enum Cause {
    /// The driver's own error, shared by all jobs of a batch.
    #[error(transparent)]
    Driver(Arc<sqlx::Error>),
    /// A value of the row has the wrong type or no meaning.
    #[error("column {column} has a value without meaning")]
    Value {
        /// Index of the column, from 0.
        column: usize,
    },
    /// The schema was made by a newer program.
    #[error(
        "the schema has version {found}, this program knows {known}: it is too old for this database"
    )]
    Newer {
        /// Version of the schema.
        found: i64,
        /// The last version that we know.
        known: i64,
    },
    /// A table of MongooseIM is older than what we can take over.
    #[error(
        "table `{table}` has no column `{column}`: bring the database to MongooseIM 6.8 first, then start again"
    )]
    Older {
        /// The table.
        table: &'static str,
        /// What it lacks.
        column: &'static str,
    },
    /// The server has none of the collations that compare text byte by byte.
    #[error("the server is too old: MariaDB 10.3 or MySQL 8.0.17 is needed")]
    NoCollation,
    /// The server asks for the password itself, which we do not send where others can read it.
    #[error(
        "the account is one of `caching_sha2_password`, which needs encryption: add a section `tls` to the connection"
    )]
    NeedsTls,
    /// The server could not be reached a moment ago, and nobody tries again yet.
    #[error("the database is away")]
    Away,
    /// The server did not answer in time.
    #[error("the database does not answer")]
    Silent,
    /// The connection was lost while the transaction was committed.
    #[error("the connection was lost amid the commit: it is not known whether the write happened")]
    InDoubt,
    /// Too many statements wait for a connection.
    #[error("too many statements wait")]
    Overloaded,
    /// The call took too long.
    #[error("the call took too long")]
    TimedOut,
    /// The database was closed.
    #[error("the database was closed")]
    Closed,
    /// The job panicked.
    #[error("the job panicked")]
    Panicked,
}

impl Cause {
    fn driver(error: sqlx::Error) -> Self {
        Self::Driver(Arc::new(error))
    }
}

#[cfg(test)]
pub(crate) mod tests;
