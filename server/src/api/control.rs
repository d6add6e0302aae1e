//! The control socket: a Unix socket in the data directory, for the user that runs the node.
//!
//! One JSON object per connection: `{"category": …, "command": …, "args": {…}}`. The answer has GraphQL's shape,
//! `{"data": …}` or `{"errors": [{"message": …}]}`, and the words are MongooseIM's.
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use daemon::Shutdown;
use protocol::BareJid;
use protocol::jid::prepare_domain;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tracing::warn;

use crate::auth::RegisterError;
use crate::router::Router;

mod import;

/// Its name in the data directory.
pub const SOCKET_NAME: &str = "meerkat.sock";
/// Bytes of one request.
pub const REQUEST_BYTES_MAX: u64 = 1024 * 1024;
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
    pub fn serve(self, router: &Arc<Router>, end: &Shutdown) {
        let (router, tasks) = (router.clone(), end.tasks().clone());
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
                        let router = router.clone();
                        tasks.spawn("control_request", async move {
                            Box::pin(answer(stream, router)).await;
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

async fn answer(mut stream: UnixStream, router: Arc<Router>) {
    let mut request = Vec::new();
    let mut limited = (&mut stream).take(REQUEST_BYTES_MAX + 1);
    let read = timeout(TRANSFER_TIMEOUT, limited.read_to_end(&mut request)).await;
    let answer = match read {
        Ok(Ok(count)) if count as u64 > REQUEST_BYTES_MAX => Err(format!(
            "the request is larger than {REQUEST_BYTES_MAX} bytes"
        )),
        Ok(Ok(_)) => match serde_json::from_slice::<Value>(&request) {
            Ok(request) => run(&router, &request).await,
            Err(error) => Err(format!("the request is no JSON: {error}")),
        },
        _ => return,
    };
    let answer = match answer {
        Ok(data) => json!({ "data": data }),
        Err(message) => json!({ "errors": [{ "message": message }] }),
    };
    let written = async {
        stream.write_all(answer.to_string().as_bytes()).await?;
        stream.shutdown().await
    };
    let _in_time = timeout(TRANSFER_TIMEOUT, written).await;
}

/// A command, for the node and for the help of `meerkatctl`.
pub struct Command {
    /// Its category.
    pub category: &'static str,
    /// Its name within the category.
    pub name: &'static str,
    /// Its arguments; all are required.
    pub args: &'static [&'static str],
    /// What it does.
    pub help: &'static str,
}

/// All commands.
pub const COMMANDS: &[Command] = &[
    Command {
        category: "account",
        name: "registerUser",
        args: &["domain", "username", "password"],
        help: "Creates an account.",
    },
    Command {
        category: "account",
        name: "importUsers",
        args: &["filename"],
        help: "Creates accounts from a CSV file on the node's machine: domain,username,password.",
    },
    Command {
        category: "account",
        name: "countUsers",
        args: &["domain"],
        help: "Counts the accounts of a domain.",
    },
    Command {
        category: "account",
        name: "checkUser",
        args: &["user"],
        help: "Tells whether an account exists.",
    },
];

async fn run(router: &Arc<Router>, request: &Value) -> Result<Value, String> {
    let word = |key: &str| request.get(key).and_then(Value::as_str).unwrap_or_default();
    let (category, command) = (word("category"), word("command"));
    let empty = Map::new();
    let args = Args(
        request
            .get("args")
            .and_then(Value::as_object)
            .unwrap_or(&empty),
    );
    let result = match (category, command) {
        ("account", "registerUser") => register_user(router, &args).await?,
        ("account", "importUsers") => import::run(router, args.text("filename")?).await?,
        ("account", "countUsers") => count_users(router, &args).await?,
        ("account", "checkUser") => check_user(router, &args).await?,
        _ => return Err(format!("there is no command {category} {command}")),
    };
    Ok(json!({ category: { command: result } }))
}

struct Args<'a>(&'a Map<String, Value>);

impl Args<'_> {
    fn text(&self, name: &str) -> Result<&str, String> {
        let value = self.0.get(name).and_then(Value::as_str);
        value.ok_or_else(|| format!("the argument {name} is missing"))
    }
}

fn account(local: &str, domain: &str) -> Result<BareJid, String> {
    BareJid::from_parts(Some(local), domain).map_err(|error| error.to_string())
}

async fn register_user(router: &Arc<Router>, args: &Args<'_>) -> Result<Value, String> {
    let account = account(args.text("username")?, args.text("domain")?)?;
    let host = router
        .host(account.domain())
        .ok_or("this node does not serve that domain")?;
    match host.auth.register(&account, args.text("password")?).await {
        Ok(()) => Ok(json!({
            "jid": account.as_str(),
            "message": format!("User {} successfully registered", account.as_str()),
        })),
        Err(RegisterError::Exists) => {
            Err(format!("the account {} exists already", account.as_str()))
        }
        Err(error) => Err(error.to_string()),
    }
}

async fn count_users(router: &Arc<Router>, args: &Args<'_>) -> Result<Value, String> {
    let domain = prepare_domain(args.text("domain")?).map_err(|error| error.to_string())?;
    let domain = &*domain;
    let host = router
        .host(domain)
        .ok_or("this node does not serve that domain")?;
    let count = host
        .auth
        .store()
        .count(domain)
        .await
        .map_err(|error| error.to_string())?;
    Ok(json!(count))
}

async fn check_user(router: &Arc<Router>, args: &Args<'_>) -> Result<Value, String> {
    let account = BareJid::parse(args.text("user")?).map_err(|error| error.to_string())?;
    let host = router
        .host(account.domain())
        .ok_or("this node does not serve that domain")?;
    let exists = host
        .auth
        .exists(&account)
        .await
        .map_err(|error| error.to_string())?;
    let message = if exists {
        "User exists"
    } else {
        "User does not exist"
    };
    Ok(json!({ "exist": exists, "message": format!("{message}: {}", account.as_str()) }))
}

#[cfg(test)]
mod tests;
