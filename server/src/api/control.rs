//! The control socket: a Unix socket in the data directory, for the user that runs the node.
//!
//! One JSON object per connection: `{"category": …, "command": …, "args": {…}}`. The answer has GraphQL's shape,
//! `{"data": …}` or `{"errors": [{"message": …}]}`, and the words are MongooseIM's.
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use daemon::Shutdown;
use protocol::BareJid;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tracing::warn;

use crate::auth::RegisterError;
use crate::router::Router;
use crate::storage::accounts::{Credentials, NewAccount};

/// Its name in the data directory.
pub const SOCKET_NAME: &str = "meerkat.sock";
/// Bytes of one request.
pub const REQUEST_BYTES_MAX: u64 = 1024 * 1024;
/// A request must be complete by then.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a file of accounts to be imported.
const IMPORT_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// Listens until the drain is over. A socket that a dead node left behind is replaced.
pub fn serve(
    data_dir: &Path,
    router: &Arc<Router>,
    end: &Shutdown,
) -> Result<(), (PathBuf, io::Error)> {
    let path = data_dir.join(SOCKET_NAME);
    let bind = || {
        if std::os::unix::net::UnixStream::connect(&path).is_ok() {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                "another node uses this data directory",
            ));
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
        Ok(listener)
    };
    let listener = bind().map_err(|error| (path.clone(), error))?;
    let (router, end_of_node, tasks) = (router.clone(), end.clone(), end.tasks().clone());
    end.tasks().spawn("control", async move {
        loop {
            let accepted = tokio::select! {
                biased;
                () = end_of_node.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    tasks.spawn("control_request", answer(stream, router.clone()));
                }
                Err(error) => {
                    warn!(%error, "control connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        let _ = std::fs::remove_file(&path);
    });
    Ok(())
}

async fn answer(mut stream: UnixStream, router: Arc<Router>) {
    let mut request = Vec::new();
    let mut limited = (&mut stream).take(REQUEST_BYTES_MAX);
    let read = tokio::time::timeout(REQUEST_TIMEOUT, limited.read_to_end(&mut request)).await;
    let answer = match read {
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
    let _ = stream.write_all(answer.to_string().as_bytes()).await;
    let _ = stream.shutdown().await;
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
        ("account", "importUsers") => import_users(router, &args).await?,
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
    let domain = args.text("domain")?;
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

/// Lines that cannot be imported are reported by number; the others are.
async fn import_users(router: &Arc<Router>, args: &Args<'_>) -> Result<Value, String> {
    let filename = args.text("filename")?;
    let too_large = format!("{filename} is larger than {IMPORT_BYTES_MAX} bytes");
    let metadata = tokio::fs::metadata(filename)
        .await
        .map_err(|e| format!("{filename}: {e}"))?;
    if metadata.len() > IMPORT_BYTES_MAX {
        return Err(too_large);
    }
    let text = tokio::fs::read_to_string(filename)
        .await
        .map_err(|e| format!("{filename}: {e}"))?;
    let mut accounts = Vec::new();
    let mut refused = Vec::new();
    for (index, line) in text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty())
    {
        match import_line(router, line).await {
            Ok(account) => accounts.push(account),
            Err(reason) => refused.push(json!({ "line": index + 1, "reason": reason })),
        }
    }
    let Some(host) = router.hosts().into_iter().next() else {
        return Err("no host".into());
    };
    let made = host
        .auth
        .store()
        .create_many(accounts)
        .await
        .map_err(|error| error.to_string())?;
    let created = made.iter().filter(|made| **made).count();
    Ok(json!({
        "status": "Completed",
        "created": created,
        "existing": made.len() - created,
        "refused": refused,
    }))
}

async fn import_line(router: &Arc<Router>, line: &str) -> Result<NewAccount, String> {
    let mut fields = line.trim().splitn(3, ',');
    let (Some(domain), Some(local), Some(password)) = (fields.next(), fields.next(), fields.next())
    else {
        return Err("expected domain,username,password".into());
    };
    let account = account(local, domain)?;
    let host = router
        .host(account.domain())
        .ok_or("this node does not serve that domain")?;
    let details = host
        .auth
        .new_details(password)
        .await
        .map_err(|error| error.to_string())?;
    Ok(NewAccount {
        username: account.local().unwrap_or_default().to_owned(),
        domain: account.domain().to_owned(),
        credentials: Credentials {
            password: String::new(),
            pass_details: Some(details),
        },
    })
}
