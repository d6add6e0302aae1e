//! The one writer: takes queued jobs in batches, runs each batch in one transaction and answers after its commit.
//!
//! While a commit waits for the disk, the next jobs queue up, so the batches grow with the load and the price of a
//! flush is shared. Nobody waits for a batch to fill.
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::connection::Connection;
use super::connector::Connector;
use super::readers::Readers;
use super::timing::Timing;
use super::{Cause, Error, Query, Transaction, Work, dialect, problem};

/// Jobs that wait for the writer. When it is full, whoever wants to write waits: a session that writes does nothing
/// else meanwhile, so the number of those who wait is bounded by the number of sessions.
const QUEUE_MAX: usize = 1_024;
/// Jobs in one transaction: bounds how long the first of them waits for the last.
const BATCH_MAX: usize = 256;

/// The way to the writer.
pub(super) struct Writer {
    queue: mpsc::Sender<Job>,
}

impl Writer {
    /// Starts the task.
    pub(super) fn start(
        home: Home,
        timing: Arc<Timing>,
        tasks: &TaskTracker,
        stop: CancellationToken,
        keepalive: Option<Duration>,
    ) -> Self {
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        let task = WriterTask {
            home,
            timing,
            jobs,
            keepalive,
        };
        tasks.spawn(task.run(stop));
        Self { queue }
    }

    /// Queues a job; waits while the queue is full.
    pub(super) async fn submit(&self, job: Job) -> Result<(), Error> {
        let query = job.name;
        self.queue.send(job).await.map_err(|_| Error::Unavailable {
            query,
            cause: Cause::Closed,
        })
    }
}

/// Something to be written.
pub(super) struct Job {
    name: &'static str,
    queued_at: Instant,
    task: Box<dyn Task>,
}

impl Job {
    /// One statement.
    pub(super) fn statement(query: Query, answer: oneshot::Sender<Result<u64, Error>>) -> Self {
        let name = query.name();
        Self {
            name,
            queued_at: Instant::now(),
            task: Box::new(OneStatement {
                query,
                changed: 0,
                answer,
            }),
        }
    }

    /// Several statements.
    pub(super) fn work<T, W>(
        name: &'static str,
        work: W,
        answer: oneshot::Sender<Result<T, Error>>,
    ) -> Self
    where
        T: Send + 'static,
        W: for<'t> FnOnce(&'t mut Transaction<'_>) -> Work<'t, T> + Send + 'static,
    {
        let task = ManyStatements {
            work: Some(work),
            value: None,
            answer,
        };
        Self {
            name,
            queued_at: Instant::now(),
            task: Box::new(task),
        }
    }
}

/// A job without the type of its answer.
trait Task: Send {
    /// Whether it is one statement: that undoes itself when it fails, and can be run again after it was undone.
    fn is_one_statement(&self) -> bool;

    /// Does the work and keeps what it returns.
    fn perform<'t>(&'t mut self, connection: &'t mut Connection) -> Work<'t, ()>;

    /// Tells the caller, after the commit. A caller that is gone needs no answer.
    fn answer(self: Box<Self>, outcome: Result<(), Error>);
}

struct OneStatement {
    query: Query,
    changed: u64,
    answer: oneshot::Sender<Result<u64, Error>>,
}

impl Task for OneStatement {
    fn is_one_statement(&self) -> bool {
        true
    }

    fn perform<'t>(&'t mut self, connection: &'t mut Connection) -> Work<'t, ()> {
        Box::pin(async {
            self.changed = connection.execute(&mut self.query).await?;
            Ok(())
        })
    }

    fn answer(self: Box<Self>, outcome: Result<(), Error>) {
        let _ = self.answer.send(outcome.map(|()| self.changed));
    }
}

struct ManyStatements<T, W> {
    work: Option<W>,
    value: Option<T>,
    answer: oneshot::Sender<Result<T, Error>>,
}

impl<T, W> Task for ManyStatements<T, W>
where
    T: Send + 'static,
    W: for<'t> FnOnce(&'t mut Transaction<'_>) -> Work<'t, T> + Send + 'static,
{
    fn is_one_statement(&self) -> bool {
        false
    }

    fn perform<'t>(&'t mut self, connection: &'t mut Connection) -> Work<'t, ()> {
        Box::pin(async {
            if let Some(work) = self.work.take() {
                let mut transaction = Transaction { connection };
                self.value = Some(work(&mut transaction).await?);
            }
            Ok(())
        })
    }

    fn answer(self: Box<Self>, outcome: Result<(), Error>) {
        let _ = match (outcome, self.value) {
            (Ok(()), Some(value)) => self.answer.send(Ok(value)),
            (Err(error), _) => self.answer.send(Err(error)),
            // Dropping the channel tells the caller that the job was never run.
            (Ok(()), None) => return,
        };
    }
}

/// Where the writer's connection lives.
pub(super) enum Home {
    /// A file: a connection of its own, opened again after it failed.
    Own {
        /// Opens another one.
        connector: Connector,
        /// None after a failure.
        connection: Option<Connection>,
    },
    /// In memory: the only connection there is, borrowed for each batch.
    Shared(Arc<Readers>),
}

struct WriterTask {
    home: Home,
    timing: Arc<Timing>,
    jobs: mpsc::Receiver<Job>,
    /// How long the connection may be idle.
    keepalive: Option<Duration>,
}

impl WriterTask {
    async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            let taken = tokio::select! {
                biased;
                () = stop.cancelled(), if !self.jobs.is_closed() => {
                    // No job comes after this; those that are queued are still taken.
                    self.jobs.close();
                    continue;
                }
                taken = self.jobs.recv_many(&mut batch, BATCH_MAX) => taken,
                () = tokio::time::sleep(self.keepalive.unwrap_or_default()), if self.keepalive.is_some() => {
                    self.keep_alive().await;
                    continue;
                }
            };
            if taken == 0 {
                break;
            }
            self.write(&mut batch).await;
        }
        if let Home::Own {
            connection: Some(connection),
            ..
        } = self.home
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, cause = %error.cause(), "database not closed cleanly");
        }
    }

    /// A connection that was lost while it was idle is opened again by the next batch.
    async fn keep_alive(&mut self) {
        if let Home::Own { connection, .. } = &mut self.home
            && let Some(open) = connection
            && open.ping().await.is_err()
        {
            *connection = None;
        }
    }

    /// Runs a batch and answers each job.
    async fn write(&mut self, batch: &mut Vec<Job>) {
        let started = Instant::now();
        let mut outcomes = Vec::with_capacity(batch.len());
        let committed = match &mut self.home {
            Home::Own {
                connector,
                connection,
            } => write_own(connector, connection, batch, &mut outcomes).await,
            Home::Shared(readers) => write_shared(readers, batch, &mut outcomes).await,
        };
        self.timing
            .observe_batch(batch.len(), started, committed.is_ok());
        // That the database is away was logged once.
        if let Err(error) = &committed
            && !matches!(error.cause(), Cause::Away)
        {
            tracing::error!(%error, cause = %error.cause(), jobs = batch.len(), "write batch failed");
        }
        let mut outcomes = outcomes.into_iter();
        for job in batch.drain(..) {
            // A failed batch has written nothing, whatever its jobs thought.
            let outcome = match (&committed, outcomes.next()) {
                (Ok(()), Some(outcome)) => outcome,
                (Ok(()), None) => Err(Error::Unavailable {
                    query: job.name,
                    cause: Cause::Closed,
                }),
                (Err(error), _) => Err(error.clone()),
            };
            self.timing
                .observe(job.name, job.queued_at, outcome.is_ok());
            job.task.answer(outcome);
        }
    }
}

type Outcomes = Vec<Result<(), Error>>;

async fn write_own(
    connector: &Connector,
    connection: &mut Option<Connection>,
    batch: &mut [Job],
    outcomes: &mut Outcomes,
) -> Result<(), Error> {
    let mut open = match connection.take() {
        Some(mut open) => match begin(&mut open).await {
            // Lost while nobody used it: nothing was done yet, so another connection will do.
            Err(error) if problem::is_lost(&error) => open_and_begin(connector).await?,
            begun => begun.map(|()| open)?,
        },
        None => open_and_begin(connector).await?,
    };
    run_transaction(&mut open, batch, outcomes).await?;
    // Kept only after success: a connection that failed may still be inside of a transaction.
    *connection = Some(open);
    Ok(())
}

async fn open_and_begin(connector: &Connector) -> Result<Connection, Error> {
    let mut open = connector.open_writer().await?;
    begin(&mut open).await?;
    Ok(open)
}

async fn begin(connection: &mut Connection) -> Result<(), Error> {
    let begin = connection.dialect().begin();
    connection.control("begin", begin).await
}

async fn write_shared(
    readers: &Readers,
    batch: &mut [Job],
    outcomes: &mut Outcomes,
) -> Result<(), Error> {
    let mut lease = readers.acquire("batch").await?;
    let connection = lease.connection().await?;
    begin(connection).await?;
    let outcome = run_transaction(connection, batch, outcomes).await;
    if outcome.is_err() {
        // The connection cannot be replaced: what it holds is all there is. Fails if the transaction is gone already.
        let _ = connection.control("rollback", dialect::ROLLBACK).await;
    }
    outcome
}

/// Runs all jobs in the transaction that was begun. An error concerns all of them: then nothing is committed.
async fn run_transaction(
    connection: &mut Connection,
    batch: &mut [Job],
    outcomes: &mut Outcomes,
) -> Result<(), Error> {
    let needs_groups = connection.dialect().is_transaction_lost_by_an_error();
    let mut rest = batch;
    while let [first, ..] = rest {
        let count = match first.task.is_one_statement() {
            true if needs_groups => {
                let is_one = |job: &&Job| job.task.is_one_statement();
                rest.iter().take_while(is_one).count()
            }
            _ => 1,
        };
        let (now, later) = rest.split_at_mut(count);
        match now {
            [job] => {
                let needs_savepoint = needs_groups || !job.task.is_one_statement();
                outcomes.push(run_job(connection, job, needs_savepoint).await?);
            }
            group => run_group(connection, group, outcomes).await?,
        }
        rest = later;
    }
    let is_server = match connection.dialect() {
        dialect::Dialect::Sqlite => false,
        dialect::Dialect::Postgres | dialect::Dialect::MySql => true,
    };
    match connection.control("commit", dialect::COMMIT).await {
        Err(error)
            if is_server
                && (problem::is_lost(&error) || matches!(error.cause(), Cause::Silent)) =>
        {
            tracing::error!(cause = %error.cause(), "connection lost amid a commit");
            Err(Error::Unavailable {
                query: "commit",
                cause: Cause::InDoubt,
            })
        }
        committed => committed,
    }
}

/// Runs jobs of one statement each where an error loses the transaction: under one savepoint for all, as errors are
/// rare; when one fails, all are undone and run again, each under its own.
async fn run_group(
    connection: &mut Connection,
    group: &mut [Job],
    outcomes: &mut Outcomes,
) -> Result<(), Error> {
    connection.control("savepoint", dialect::SAVEPOINT).await?;
    let mut failed = false;
    for job in &mut *group {
        match job.task.perform(connection).await {
            Ok(()) => {}
            Err(error) if error.concerns_one_job() => {
                failed = true;
                break;
            }
            Err(error) => return Err(error),
        }
    }
    if failed {
        connection
            .control("undo", dialect::ROLLBACK_TO_SAVEPOINT)
            .await?;
    }
    connection
        .control("release", dialect::RELEASE_SAVEPOINT)
        .await?;
    for job in group {
        outcomes.push(match failed {
            true => run_job(connection, job, true).await?,
            false => Ok(()),
        });
    }
    Ok(())
}

/// Runs one job. The inner error is the job's own; the outer one means that the transaction is lost.
async fn run_job(
    connection: &mut Connection,
    job: &mut Job,
    needs_savepoint: bool,
) -> Result<Result<(), Error>, Error> {
    if needs_savepoint {
        connection.control("savepoint", dialect::SAVEPOINT).await?;
    }
    let outcome = match catch_panic(job.task.perform(connection)).await {
        Some(outcome) => outcome,
        None => Err(Error::Unavailable {
            query: job.name,
            cause: Cause::Panicked,
        }),
    };
    match &outcome {
        Err(error) if !error.concerns_one_job() => return Err(error.clone()),
        Err(_) if needs_savepoint => {
            connection
                .control("undo", dialect::ROLLBACK_TO_SAVEPOINT)
                .await?;
        }
        _ => {}
    }
    if needs_savepoint {
        connection
            .control("release", dialect::RELEASE_SAVEPOINT)
            .await?;
    }
    Ok(outcome)
}

/// The outcome of a future, or None if it panicked: a mistake in one job must not end the writer.
async fn catch_panic<T>(mut future: Pin<Box<dyn Future<Output = T> + Send + '_>>) -> Option<T> {
    let mut future = pin!(future.as_mut());
    poll_fn(
        move |context| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Ready(value)) => Poll::Ready(Some(value)),
            Ok(Poll::Pending) => Poll::Pending,
            Err(_) => Poll::Ready(None),
        },
    )
    .await
}
