//! The one writer: takes queued jobs in batches, runs each batch in one transaction and answers after its commit.
//!
//! While a commit waits for the disk, the next jobs queue up, so the batches grow with the load and the price of a
//! flush is shared. Nobody waits for a batch to fill.
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::dialect::{self, Connection, Connector};
use super::readers::Readers;
use super::timing::Timing;
use super::{Cause, Error, Query, Transaction, Work};

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
    ) -> Self {
        let (queue, jobs) = mpsc::channel(QUEUE_MAX);
        tasks.spawn(WriterTask { home, timing, jobs }.run(stop));
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
        let name = query.statement.name;
        Self {
            name,
            queued_at: Instant::now(),
            task: Box::new(OneStatement {
                query: Some(query),
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
    /// Whether an error may leave something behind that has to be undone: one statement undoes itself.
    fn needs_savepoint(&self) -> bool;

    /// Does the work and keeps what it returns.
    fn perform<'t>(&'t mut self, connection: &'t mut Connection) -> Work<'t, ()>;

    /// Tells the caller, after the commit. A caller that is gone needs no answer.
    fn answer(self: Box<Self>, outcome: Result<(), Error>);
}

struct OneStatement {
    query: Option<Query>,
    changed: u64,
    answer: oneshot::Sender<Result<u64, Error>>,
}

impl Task for OneStatement {
    fn needs_savepoint(&self) -> bool {
        false
    }

    fn perform<'t>(&'t mut self, connection: &'t mut Connection) -> Work<'t, ()> {
        Box::pin(async {
            if let Some(query) = self.query.take() {
                self.changed = super::execute(connection, query).await?;
            }
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
    fn needs_savepoint(&self) -> bool {
        true
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
        {
            use sqlx::Connection as _;
            if let Err(error) = connection.close().await {
                tracing::warn!(%error, "database not closed cleanly");
            }
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
        if let Err(error) = &committed {
            tracing::error!(%error, jobs = batch.len(), "write batch failed");
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
        Some(open) => open,
        None => connector
            .open_writer()
            .await
            .map_err(|error| dialect::classify("open", error))?,
    };
    run_transaction(&mut open, batch, outcomes).await?;
    // Kept only after success: a connection that failed may still be inside of a transaction.
    *connection = Some(open);
    Ok(())
}

async fn write_shared(
    readers: &Readers,
    batch: &mut [Job],
    outcomes: &mut Outcomes,
) -> Result<(), Error> {
    let mut lease = readers.acquire("batch").await?;
    let connection = lease.connection("batch").await?;
    let outcome = run_transaction(connection, batch, outcomes).await;
    if outcome.is_err() {
        // The connection cannot be replaced: what it holds is all there is. Fails if the transaction is gone already.
        let _ = control(connection, "rollback", dialect::ROLLBACK).await;
    }
    outcome
}

/// Runs all jobs in one transaction. An error concerns all of them: then nothing is committed.
async fn run_transaction(
    connection: &mut Connection,
    batch: &mut [Job],
    outcomes: &mut Outcomes,
) -> Result<(), Error> {
    control(connection, "begin", dialect::BEGIN_WRITE).await?;
    for job in batch {
        outcomes.push(run_job(connection, job).await?);
    }
    control(connection, "commit", dialect::COMMIT).await
}

/// Runs one job. The inner error is the job's own; the outer one means that the transaction is lost.
async fn run_job(connection: &mut Connection, job: &mut Job) -> Result<Result<(), Error>, Error> {
    let needs_savepoint = job.task.needs_savepoint();
    if needs_savepoint {
        control(connection, "savepoint", dialect::SAVEPOINT).await?;
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
            control(connection, "undo", dialect::ROLLBACK_TO_SAVEPOINT).await?
        }
        _ => {}
    }
    if needs_savepoint {
        control(connection, "release", dialect::RELEASE_SAVEPOINT).await?;
    }
    Ok(outcome)
}

/// Runs a statement that steers the transaction.
async fn control(
    connection: &mut Connection,
    name: &'static str,
    sql: &'static str,
) -> Result<(), Error> {
    let done = sqlx::query(sql).execute(connection).await;
    done.map(drop)
        .map_err(|error| dialect::classify(name, error))
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
