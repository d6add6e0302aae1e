//! Stop in order: tell everyone, wait until a deadline, cut what is left and say how much that was.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::Tasks;

/// The daemon's end, in two steps: *stopping* (finish what you do) and *at once* (the operator asked twice).
///
/// Clones speak of the same end. Several daemons may live in one process: only [`Shutdown::on_signals`]
/// ties one to the signals of the process.
#[derive(Clone, Default)]
pub struct Shutdown {
    stopping: CancellationToken,
    at_once: CancellationToken,
    drained: CancellationToken,
    tasks: Tasks,
}

impl Shutdown {
    /// A shutdown that begins when [`Shutdown::begin`] is called.
    pub fn new() -> Self {
        Self::default()
    }

    /// A shutdown that begins with SIGTERM or SIGINT; the second such signal ends the wait of
    /// [`Shutdown::drain`] at once.
    ///
    /// # Errors
    /// The handlers cannot be installed.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn on_signals() -> io::Result<Self> {
        let shutdown = Self::new();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (stopping, at_once) = (shutdown.stopping.clone(), shutdown.at_once.clone());
        let listen = async move {
            let name = next_signal(&mut terminate, &mut interrupt).await;
            info!(signal = name, "shutdown begins");
            stopping.cancel();
            let name = next_signal(&mut terminate, &mut interrupt).await;
            warn!(signal = name, "shutdown at once");
            at_once.cancel();
        };
        // Not among the tasks: a drain waits for those, and this one ends with the process.
        #[expect(clippy::disallowed_methods, reason = "must not be waited for")]
        tokio::spawn(listen);
        Ok(shutdown)
    }

    /// Begins the shutdown; a second call changes nothing.
    pub fn begin(&self) {
        self.stopping.cancel();
    }

    /// Ends the wait of a drain, now or later, as a second signal does. Begins the shutdown too.
    pub fn begin_at_once(&self) {
        self.stopping.cancel();
        self.at_once.cancel();
    }

    /// Returns when the shutdown has begun.
    pub async fn cancelled(&self) {
        self.stopping.cancelled().await;
    }

    /// Returns when nobody should wait any more: the second signal came.
    pub async fn at_once(&self) {
        self.at_once.cancelled().await;
    }

    /// Returns when a drain has ended.
    pub async fn drained(&self) {
        self.drained.cancelled().await;
    }

    /// Whether the shutdown has begun.
    pub fn is_cancelled(&self) -> bool {
        self.stopping.is_cancelled()
    }

    /// The token behind [`Shutdown::cancelled`], for what wants a child of it.
    pub fn token(&self) -> &CancellationToken {
        &self.stopping
    }

    /// The tasks that [`Shutdown::drain`] waits for.
    pub fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// Begins the shutdown if nobody has, waits until every task has ended, at most `deadline`, and then
    /// aborts those that are left. When it returns, no task of [`Shutdown::tasks`] runs, except one that
    /// blocks its thread for more than [`ABORT_WAIT_MAX`].
    pub async fn drain(&self, deadline: Duration) -> Drained {
        self.begin();
        let drained = self.finish(deadline).await;
        self.drained.cancel();
        drained
    }

    async fn finish(&self, deadline: Duration) -> Drained {
        tokio::select! {
            biased;
            () = self.tasks.finished() => return Drained::default(),
            () = tokio::time::sleep(deadline) => {}
            () = self.at_once.cancelled() => {}
        }
        let names = self.tasks.names();
        let drained = Drained {
            cut: names.values().sum(),
            names,
        };
        self.tasks.abort();
        let ended = tokio::time::timeout(ABORT_WAIT_MAX, self.tasks.finished()).await;
        if ended.is_err() {
            warn!(tasks = self.tasks.len(), "tasks do not yield to an abort");
        }
        drained
    }
}

/// How long a drain waits for tasks that it has aborted. An aborted task ends at its next `.await`, so a
/// task that needs longer computes without a pause; it is left to the end of the process.
pub const ABORT_WAIT_MAX: Duration = Duration::from_secs(1);

/// What a drain had to cut.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drained {
    /// How many tasks were aborted since they did not end in time.
    pub cut: usize,
    /// The same by name.
    pub names: BTreeMap<&'static str, usize>,
}

async fn next_signal(terminate: &mut Signal, interrupt: &mut Signal) -> &'static str {
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

/// Requests to read the TLS files and the log level again, one per SIGHUP. Signals that come while one
/// request is worked on count as one.
pub struct Reloads(Signal);

impl Reloads {
    /// Requests by SIGHUP. From here on the signal no longer ends the process.
    ///
    /// # Errors
    /// The handler cannot be installed.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn on_sighup() -> io::Result<Self> {
        signal(SignalKind::hangup()).map(Self)
    }

    /// Waits for the next request. Cancel safe.
    pub async fn next(&mut self) {
        if self.0.recv().await.is_none() {
            // The runtime is going away: no further request comes.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests;
