//! A fixed number of connections that read.
//!
//! Not sqlx's pool: that spawns a task to give a connection back, pings before use and keeps timers; here taking and
//! giving back is a lock around a `Vec`.
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, DriverRow, Rows};
use super::connector::Connector;
use super::{Cause, Error, Query, problem};

pub(super) struct Readers {
    connector: Connector,
    /// As a stack: the connection used last has the warmest cache.
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
    waiting: AtomicUsize,
    /// The next one is answered [`Cause::Overloaded`].
    waiting_max: usize,
}

impl Readers {
    /// These connections, and others when they fail or are too few, `limit` at most.
    pub(super) fn new(
        connector: Connector,
        connections: Vec<Connection>,
        limit: usize,
        waiting_max: usize,
    ) -> Self {
        let permits = Semaphore::new(limit);
        Self {
            connector,
            idle: Mutex::new(connections),
            permits,
            waiting: AtomicUsize::new(0),
            waiting_max,
        }
    }

    /// The right to use one connection.
    pub(super) async fn acquire(&self, query: &'static str) -> Result<Lease<'_>, Error> {
        let permit = match self.permits.try_acquire() {
            Ok(permit) => permit,
            Err(_) => self.wait(query).await?,
        };
        Ok(self.lease(permit))
    }

    fn lease<'r>(&'r self, permit: SemaphorePermit<'r>) -> Lease<'r> {
        Lease {
            readers: self,
            connection: self.idle.lock().pop(),
            is_broken: false,
            _permit: permit,
        }
    }

    /// Uses each idle connection every `interval`.
    pub(super) async fn keep_alive(self: Arc<Self>, interval: Duration, stop: CancellationToken) {
        while stop
            .run_until_cancelled(tokio::time::sleep(interval))
            .await
            .is_some()
        {
            let mut idle = Vec::new();
            // All at once, as the stack would give the same one again.
            while let Ok(permit) = self.permits.try_acquire() {
                let lease = self.lease(permit);
                if lease.connection.is_none() {
                    break;
                }
                idle.push(lease);
            }
            for mut lease in idle {
                lease.ping().await;
            }
        }
    }

    async fn wait(&self, query: &'static str) -> Result<SemaphorePermit<'_>, Error> {
        let place = Waiting::enter(&self.waiting, self.waiting_max).ok_or(Error::Unavailable {
            query,
            cause: Cause::Overloaded,
        })?;
        let permit = self.permits.acquire().await;
        drop(place);
        permit.map_err(|_| Error::Unavailable {
            query,
            cause: Cause::Closed,
        })
    }
}

/// A place among those who wait, given back also when the waiting task is dropped.
struct Waiting<'w>(&'w AtomicUsize);

impl<'w> Waiting<'w> {
    fn enter(count: &'w AtomicUsize, max: usize) -> Option<Self> {
        // Entered before it is checked, so that `drop` mends the count in both cases.
        let place = Self(count);
        (count.fetch_add(1, Ordering::Relaxed) < max).then_some(place)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection on loan. One of SQLite that was dropped amid a statement is given back too: its thread finishes or drops
/// the statement before it takes the next. One to a server is not: the rest of the answer would come to the next user.
pub(super) struct Lease<'r> {
    readers: &'r Readers,
    connection: Option<Connection>,
    is_broken: bool,
    _permit: SemaphorePermit<'r>,
}

impl Lease<'_> {
    /// The connection, opened again if the last one was lost.
    pub(super) async fn connection(&mut self) -> Result<&mut Connection, Error> {
        match &mut self.connection {
            Some(connection) => Ok(connection),
            empty => Ok(empty.insert(self.readers.connector.open_reader().await?)),
        }
    }

    /// All rows of a statement.
    pub(super) async fn fetch_all(&mut self, query: &mut Query) -> Result<Rows, Error> {
        let is_old = self.begin();
        let mut outcome = self.connection().await?.fetch_all(query).await;
        if is_old && outcome.as_ref().is_err_and(problem::is_lost) {
            self.connection = None;
            outcome = self.connection().await?.fetch_all(query).await;
        }
        self.settle(&outcome);
        outcome
    }

    /// The first row of a statement.
    pub(super) async fn fetch_optional(
        &mut self,
        query: &mut Query,
    ) -> Result<Option<DriverRow>, Error> {
        let is_old = self.begin();
        let mut outcome = self.connection().await?.fetch_optional(query).await;
        if is_old && outcome.as_ref().is_err_and(problem::is_lost) {
            self.connection = None;
            outcome = self.connection().await?.fetch_optional(query).await;
        }
        self.settle(&outcome);
        outcome
    }

    /// Before a statement: whether the connection may have been lost while nobody used it, so that it is worth to read
    /// again by another one.
    fn begin(&mut self) -> bool {
        self.is_broken = self.readers.connector.is_server();
        self.connection.is_some() && self.is_broken
    }

    /// Decides by the outcome whether the connection can be used again.
    pub(super) fn settle<T>(&mut self, outcome: &Result<T, Error>) {
        let failed = outcome
            .as_ref()
            .is_err_and(|error| !error.concerns_one_job());
        self.is_broken = failed && !self.readers.connector.is_memory();
    }

    async fn ping(&mut self) {
        self.is_broken = true;
        if let Some(connection) = &mut self.connection {
            self.is_broken = connection.ping().await.is_err();
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        // Runs before the permit is released, so whoever gets that finds the connection.
        if let Some(connection) = self.connection.take().filter(|_| !self.is_broken) {
            self.readers.idle.lock().push(connection);
        }
    }
}
