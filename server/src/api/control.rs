//! The control socket: a Unix socket in the data directory, for the user that runs the node.
//!
//! One JSON object per connection, as over HTTP: `{"query": …, "variables": …, "operationName": …}`. The answer is
//! GraphQL's, `{"data": …}` or `{"errors": [{"message": …}]}`.
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use daemon::Shutdown;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::warn;

use super::engine::{Engine, Question, REQUEST_BYTES_MAX, Reply};
use super::terms::errors::Problem;
use super::terms::{Caller, Rights, Via};

/// Its name in the data directory.
pub const SOCKET_NAME: &str = "meerkat.sock";
/// A request must have come, and its answer have been taken, within this time.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests at a time; more wait to be accepted.
const REQUESTS_MAX: usize = 16;
/// Wait after an accept that failed, so that the loop does not spin.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The bound socket.
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Whose processes may ask: the socket's owner.
    owner: u32,
}

/// Binds the socket. One that a dead node left behind is replaced: who calls this has the data directory to itself.
pub fn bind(data_dir: &Path) -> Result<ControlSocket, (PathBuf, io::Error)> {
    let path = data_dir.join(SOCKET_NAME);
    let bind = || {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        // Who connects before this is not of our user, and is sent away.
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        let owner = std::fs::metadata(&path)?.uid();
        Ok((listener, owner))
    };
    match bind() {
        Ok((listener, owner)) => Ok(ControlSocket {
            listener,
            path,
            owner,
        }),
        Err(error) => Err((path, error)),
    }
}

impl ControlSocket {
    /// Answers until the drain is over.
    pub fn serve(self, engine: &Arc<Engine>, end: &Shutdown) {
        let (engine, tasks) = (engine.clone(), end.tasks().clone());
        let end_of_node = end.clone();
        let places = Arc::new(Semaphore::new(REQUESTS_MAX));
        end.tasks().spawn("control", async move {
            loop {
                let accepted = tokio::select! {
                    biased;
                    () = end_of_node.cancelled() => break,
                    accepted = self.accept(&places) => accepted,
                };
                match accepted {
                    Ok(Some((stream, place))) => {
                        let engine = engine.clone();
                        tasks.spawn("control_request", async move {
                            Box::pin(answer(stream, &engine)).await;
                            drop(place);
                        });
                    }
                    Ok(None) => warn!("a process of another user wanted to control the node"),
                    Err(error) => {
                        warn!(%error, "control connection could not be accepted");
                        tokio::time::sleep(ACCEPT_RETRY).await;
                    }
                }
            }
            let _ = std::fs::remove_file(&self.path);
        });
    }

    /// The next connection, when there is a place for it; `None` if it is not of our user.
    async fn accept(
        &self,
        places: &Arc<Semaphore>,
    ) -> io::Result<Option<(UnixStream, OwnedSemaphorePermit)>> {
        let place = places
            .clone()
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        let (stream, _) = self.listener.accept().await?;
        let user = stream.peer_cred()?.uid();
        let is_ours = user == self.owner || user == ROOT;
        Ok(is_ours.then_some((stream, place)))
    }
}

/// The user who may do everything anyway.
const ROOT: u32 = 0;

/// Who has come this far runs the node, and may do everything.
const RIGHTS: Rights = Rights {
    caller: Caller::Admin,
    categories: None,
    via: Via::Socket,
};

async fn answer(mut stream: UnixStream, engine: &Arc<Engine>) {
    let bytes_max = u64::try_from(REQUEST_BYTES_MAX).unwrap_or(u64::MAX);
    let mut request = Vec::new();
    let mut limited = (&mut stream).take(bytes_max.saturating_add(1));
    let read = timeout(TRANSFER_TIMEOUT, limited.read_to_end(&mut request)).await;
    let Ok(Ok(count)) = read else { return };
    let question = if count > REQUEST_BYTES_MAX {
        let text = format!("a request has at most {REQUEST_BYTES_MAX} bytes");
        Err(Problem::new("request_too_large", text))
    } else {
        Question::parse(&request)
    };
    let reply = match question {
        Ok(question) => engine.run(question, RIGHTS).await,
        Err(problem) => Reply::refused(400, &problem),
    };
    let written = async {
        stream.write_all(reply.body.to_string().as_bytes()).await?;
        stream.shutdown().await
    };
    let _in_time = timeout(TRANSFER_TIMEOUT, written).await;
}

#[cfg(test)]
mod tests;
