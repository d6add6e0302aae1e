//! A node as a process of its own: started, killed, stopped, and looked at from outside.
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use parking_lot::{Condvar, Mutex};
use protocol::sasl::{PassDetails, ScramHash};
use rustix::process::{Pid, Signal, kill_process};
use server::storage::accounts::{AccountStore, Credentials, NewAccount};
use server::storage::{Db, Options, Place};

use crate::light;
use crate::target::{DOMAIN, Directory};

/// How long a node may take to start, and to end once it has said that it does.
const PROCESS_SECS_MAX: u64 = 60;

/// The database in the data directory.
const DATABASE: &str = "meerkat.db";

/// What outlives a process: its directory, with configuration, database and accounts.
pub struct Home {
    directory: Directory,
}

/// What differs from one test to the next.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Lines of `[general]`.
    pub general: String,
    /// Lines of both `[[listen.c2s]]`.
    pub listener: String,
    /// Lines of `[modules.mod_stream_management]`.
    pub stream_management: String,
    /// Whole tables.
    pub tables: String,
}

impl Home {
    /// Writes the configuration and makes the accounts, all with [`light::PASSWORD`] and the same salt, so that neither
    /// side derives keys again and again.
    pub async fn new(setup: &Setup, accounts: &[String]) -> Result<Self> {
        let directory = Directory::new()?;
        let data_dir = directory.path.join("data");
        fs::create_dir(&data_dir)?;
        let Setup {
            general,
            listener,
            stream_management,
            tables,
        } = setup;
        let text = format!(
            "[general]\nhosts = [\"{DOMAIN}\"]\nloglevel = \"info\"\ndata_dir = \"{}\"\n{general}\n\
             [[listen.c2s]]\nport = 0\nip_address = \"127.0.0.1\"\n{listener}\n\
             [[listen.c2s]]\nport = 0\nip_address = \"127.0.0.1\"\ntls.mode = \"tls\"\n{listener}\n\
             [[listen.http]]\nport = 0\nip_address = \"127.0.0.1\"\n\
             [[listen.http.handlers.mongoose_prometheus_handler]]\nhost = \"_\"\npath = \"/metrics\"\n\
             [auth.password]\nhash = [\"sha256\"]\n\
             [modules.mod_roster]\n[modules.mod_presence]\n[modules.mod_offline]\n\
             [modules.mod_stream_management]\n{stream_management}\n{tables}",
            data_dir.display()
        );
        fs::write(directory.path.join("node.toml"), text)?;
        let db = Db::open(Options::new(Place::File(data_dir.join(DATABASE)))).await?;
        db.migrate().await?;
        let details = PassDetails::derive(
            light::PASSWORD,
            &[ScramHash::Sha256],
            light::ITERATIONS,
            light::SALT,
        );
        let new_account = |local: &String| NewAccount {
            username: local.clone(),
            domain: DOMAIN.to_owned(),
            credentials: Credentials {
                password: String::new(),
                pass_details: Some(details.to_string()),
            },
        };
        let accounts = accounts.iter().map(new_account).collect();
        AccountStore::new(db.clone()).create_many(accounts).await?;
        db.close().await;
        Ok(Self { directory })
    }

    /// The configuration file.
    pub fn config(&self) -> PathBuf {
        self.directory.path.join("node.toml")
    }

    /// The data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.directory.path.join("data")
    }

    /// Replaces a text in the configuration file, which must be there.
    pub fn change_config(&self, before: &str, after: &str) -> Result<()> {
        let text = fs::read_to_string(self.config())?;
        ensure!(text.contains(before), "no {before} in\n{text}");
        fs::write(self.config(), text.replacen(before, after, 1))?;
        Ok(())
    }
}

/// Runs the node's program to its end, which it must come to by itself. Returns its exit code and what it said.
pub async fn run_to_the_end(args: Vec<String>) -> Result<(Option<i32>, String)> {
    let running = tokio::task::spawn_blocking(move || -> Result<_> {
        let output = Command::new(binary()?)
            .args(args)
            .stdin(Stdio::null())
            .output()?;
        let said = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8(said)?))
    });
    tokio::time::timeout(Duration::from_secs(PROCESS_SECS_MAX), running).await??
}

/// The same with a file as the node's standard error, which it takes for the journal of systemd. Returns its exit code
/// and what the file holds then.
pub async fn run_for_the_journal(args: Vec<String>) -> Result<(Option<i32>, String)> {
    let running = tokio::task::spawn_blocking(move || -> Result<_> {
        let directory = Directory::new()?;
        let path = directory.path.join("journal");
        let file = fs::File::create(&path)?;
        let identity = file.metadata()?;
        let status = Command::new(binary()?)
            .args(args)
            .env(
                "JOURNAL_STREAM",
                format!("{}:{}", identity.dev(), identity.ino()),
            )
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .status()?;
        Ok((status.code(), fs::read_to_string(path)?))
    });
    tokio::time::timeout(Duration::from_secs(PROCESS_SECS_MAX), running).await??
}

/// How `meerkatctl` ended: its exit code, and what it wrote.
pub struct Ended {
    /// The exit code.
    pub code: Option<i32>,
    /// The standard output.
    pub stdout: String,
    /// The standard error.
    pub stderr: String,
}

/// Runs `meerkatctl`, which stands beside the node's program, with that text as its standard input.
pub async fn meerkatctl(args: &[&str], input: &str) -> Result<Ended> {
    let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
    let input = input.to_owned();
    let running = tokio::task::spawn_blocking(move || -> Result<_> {
        let mut child = Command::new(binary()?.with_file_name("meerkatctl"))
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot start meerkatctl")?;
        let mut stdin = child.stdin.take().context("the input is piped")?;
        // It reads only what it has to.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output()?;
        Ok(Ended {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        })
    });
    tokio::time::timeout(Duration::from_secs(PROCESS_SECS_MAX), running).await??
}

/// A running node. Killed when dropped.
pub struct Process {
    child: Child,
    /// Where clients connect without TLS.
    pub c2s: SocketAddr,
    /// Where they connect with TLS from the first byte.
    pub c2s_tls: SocketAddr,
    /// Where metrics and readiness are.
    pub metrics: SocketAddr,
    log: Arc<Log>,
}

/// What the process has said so far.
#[derive(Default)]
struct Log {
    lines: Mutex<(Vec<String>, bool)>,
    more: Condvar,
}

impl Log {
    /// Blocks until a line with that text has been logged.
    fn await_line(&self, text: &str) -> Result<()> {
        let deadline = std::time::Instant::now() + Duration::from_secs(PROCESS_SECS_MAX);
        let mut seen = self.lines.lock();
        loop {
            if seen.0.iter().any(|line| line.contains(text)) {
                return Ok(());
            }
            let late = self.more.wait_until(&mut seen, deadline).timed_out();
            if seen.1 || late {
                bail!("it never logged {text:?}; it said\n{}", seen.0.join("\n"));
            }
        }
    }
}

impl Process {
    /// Starts a node and waits until it serves.
    pub async fn start(home: &Home) -> Result<Self> {
        Self::start_with(home, Vec::new()).await
    }

    /// The same with variables in its environment, as a service manager sets them.
    pub async fn start_with(home: &Home, variables: Vec<(&'static str, String)>) -> Result<Self> {
        let config = home.config();
        // Building and waiting block.
        tokio::task::spawn_blocking(move || {
            let mut child = Command::new(binary()?)
                .arg("--config")
                .arg(config)
                .envs(variables)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped())
                .spawn()?;
            let output = child.stderr.take().context("the output is piped")?;
            let log = Arc::new(Log::default());
            let filled = Arc::clone(&log);
            std::thread::spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    filled.lines.lock().0.push(line);
                    filled.more.notify_all();
                }
                filled.lines.lock().1 = true;
                filled.more.notify_all();
            });
            let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
            let mut process = Self {
                child,
                c2s: nowhere,
                c2s_tls: nowhere,
                metrics: nowhere,
                log,
            };
            process.log.await_line("ready data_dir")?;
            let addresses = |text: &str| -> Vec<SocketAddr> {
                let lines = process.log_lines();
                let of_text = lines.iter().filter(|line| line.contains(text));
                of_text
                    .filter_map(|line| line.split_once("address=")?.1.parse().ok())
                    .collect()
            };
            let (clients, metrics) = (
                addresses("clients are served"),
                addresses("metrics are served"),
            );
            let ([c2s, c2s_tls], [metrics]) = (&clients[..], &metrics[..]) else {
                bail!("it listens on {clients:?} and {metrics:?}")
            };
            (process.c2s, process.c2s_tls, process.metrics) = (*c2s, *c2s_tls, *metrics);
            Ok(process)
        })
        .await?
    }

    /// What it has logged.
    pub fn log_lines(&self) -> Vec<String> {
        self.log.lines.lock().0.clone()
    }

    /// Lines of the log that are complaints.
    pub fn complaints(&self) -> Vec<String> {
        let mut lines = self.log_lines();
        lines.retain(|line| is_complaint(line));
        lines
    }

    /// Ends it as a power cut would, seen from its program: SIGKILL.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Asks it to drain and end: SIGTERM.
    pub fn terminate(&self) -> Result<()> {
        kill_process(self.pid()?, Signal::TERM)?;
        Ok(())
    }

    /// Asks it to read its files again: SIGHUP.
    pub fn hang_up(&self) -> Result<()> {
        kill_process(self.pid()?, Signal::HUP)?;
        Ok(())
    }

    /// Waits until it has logged a line with that text.
    pub async fn logged(&self, text: &'static str) -> Result<()> {
        let log = Arc::clone(&self.log);
        // Waiting blocks.
        tokio::task::spawn_blocking(move || log.await_line(text)).await?
    }

    /// Waits for its end. Returns how it ended and what it has logged.
    pub async fn ended(mut self) -> Result<(ExitStatus, Vec<String>)> {
        let waiting = tokio::task::spawn_blocking(move || -> Result<_> {
            let deadline = std::time::Instant::now() + Duration::from_secs(PROCESS_SECS_MAX);
            // Its end of the pipe closes with it.
            let mut seen = self.log.lines.lock();
            while !seen.1 {
                let late = self.log.more.wait_until(&mut seen, deadline).timed_out();
                ensure!(!late, "it did not end; it said\n{}", seen.0.join("\n"));
            }
            let lines = seen.0.clone();
            drop(seen);
            Ok((self.child.wait()?, lines))
        });
        waiting.await?
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        Ok(kib.context("no VmRSS")? * 1024)
    }

    /// Its process id, for programs that look at it.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its process id.
    fn pid(&self) -> Result<Pid> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        pid.context("a process has an id")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a line of the log is a warning or an error. That a query was slow is not the node's fault here: a disk that
/// other tests write to takes its time. Nor is what the machine has too little of.
pub fn is_complaint(line: &str) -> bool {
    let is_of_others =
        line.contains(": slow query ") || line.contains(": the machine has too little ");
    (line.contains(" WARN ") || line.contains(" ERROR ")) && !is_of_others
}

/// The node's program: the one that `MEERKAT_BINARY` names, or built here. The packages are those that are being
/// tested, so that nothing but the program itself is built anew.
fn binary() -> Result<PathBuf> {
    static BINARY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BINARY.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.clone().map_err(|error| anyhow!(error))
}

fn build() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("MEERKAT_BINARY") {
        return Ok(path.into());
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "build",
            "--locked",
            "--package",
            "server",
            "--package",
            "tests",
        ])
        .args(["--bin", "meerkat", "--bin", "meerkatctl"])
        .args(["--message-format", "json"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .context("cannot run cargo")?;
    ensure!(
        output.status.success(),
        "the node cannot be built: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let messages = String::from_utf8_lossy(&output.stdout);
    let executables = messages.lines().filter_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message.get("executable")?.as_str()?))
    });
    let mut nodes = executables.filter(|path| path.file_stem().is_some_and(|of| of == "meerkat"));
    nodes.next_back().context("cargo names no program")
}
