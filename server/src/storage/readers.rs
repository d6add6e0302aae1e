//! A fixed number of connections that read.
//!
//! Not sqlx's pool: that spawns a task to give a connection back, pings before use and keeps timers; here taking and
//! giving back is a lock around a `Vec`.
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::dialect::{self, Connection, Connector};
use super::{Cause, Error};

/// Statements that wait for a connection; the next one is answered [`Cause::Overloaded`].
const WAITING_MAX: usize = 16_384;

pub(super) struct Readers {
    connector: Connector,
    /// As a stack: the connection used last has the warmest cache.
    idle: Mutex<Vec<Connection>>,
    permits: Semaphore,
    waiting: AtomicUsize,
}

impl Readers {
    /// These connections, and others in their place when they fail.
    pub(super) fn new(connector: Connector, connections: Vec<Connection>) -> Self {
        let permits = Semaphore::new(connections.len());
        Self {
            connector,
            idle: Mutex::new(connections),
            permits,
            waiting: AtomicUsize::new(0),
        }
    }

    /// The right to use one connection.
    pub(super) async fn acquire(&self, query: &'static str) -> Result<Lease<'_>, Error> {
        let permit = match self.permits.try_acquire() {
            Ok(permit) => permit,
            Err(_) => self.wait(query).await?,
        };
        Ok(Lease {
            readers: self,
            connection: self.idle.lock().pop(),
            is_broken: false,
            _permit: permit,
        })
    }

    async fn wait(&self, query: &'static str) -> Result<SemaphorePermit<'_>, Error> {
        let place = Waiting::enter(&self.waiting).ok_or(Error::Unavailable {
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
    fn enter(count: &'w AtomicUsize) -> Option<Self> {
        // Entered before it is checked, so that `drop` mends the count in both cases.
        let place = Self(count);
        (count.fetch_add(1, Ordering::Relaxed) < WAITING_MAX).then_some(place)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection on loan. One that was dropped amid a statement is given back too: its thread finishes or drops the
/// statement before it takes the next.
pub(super) struct Lease<'r> {
    readers: &'r Readers,
    connection: Option<Connection>,
    is_broken: bool,
    _permit: SemaphorePermit<'r>,
}

impl Lease<'_> {
    /// The connection, opened again if the last one was lost.
    pub(super) async fn connection(
        &mut self,
        query: &'static str,
    ) -> Result<&mut Connection, Error> {
        match &mut self.connection {
            Some(connection) => Ok(connection),
            empty => {
                let opened = self.readers.connector.open_reader().await;
                Ok(empty.insert(opened.map_err(|error| dialect::classify(query, error))?))
            }
        }
    }

    /// Decides by the outcome whether the connection can be used again.
    pub(super) fn settle<T>(&mut self, outcome: &Result<T, Error>) {
        let failed = outcome
            .as_ref()
            .is_err_and(|error| !error.concerns_one_job());
        self.is_broken = failed && !self.readers.connector.is_memory();
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
