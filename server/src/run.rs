//! What the binary `meerkat` does with its flags.
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use daemon::checks::{OpenFiles, Warning};
use daemon::config::{EXIT_CONFIG, Findings};
use daemon::logs::{Format, LIFECYCLE, Logs};
use daemon::{Reloads, Shutdown, notify};
use tracing::{error, info, warn};

use crate::check;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::node::plan::{self, Problem};
use crate::node::{Certificates, Node, StartError};

/// Where a node without configuration keeps its things, below the working directory.
pub const DATA_DIR_DEFAULT: &str = "meerkat-data";
/// Where the packaged service keeps them.
pub const DATA_DIR_PACKAGED: &str = "/var/lib/meerkat";
/// The node could not start, or could not go on: a port is taken, the database cannot be opened. The next start may
/// succeed. Wrong flags are 2.
pub const EXIT_FAILED: u8 = 1;
/// For `meerkat --help`.
pub const EXIT_CODES: &str = "Exit codes: 0 stopped in order, 1 could not start or go on, 2 wrong flags, \
                              78 the configuration is at fault and a restart of no use.";

/// What the flags say.
pub struct Start {
    /// The configuration file, if any.
    pub config: Option<PathBuf>,
    /// Overrides the data directory.
    pub data_dir: Option<PathBuf>,
    /// Logs as JSON, whatever the configuration says.
    pub log_json: bool,
}

/// Prints all findings of a configuration file, and warnings.
pub fn check_config(file: &Path, data_dir: Option<&Path>) -> ExitCode {
    let (report, code) = check::report(file, data_dir);
    let _ = std::io::stdout().write_all(report.as_bytes());
    code
}

/// Why there is no node, or none any more.
enum Failure {
    /// [`EXIT_CONFIG`].
    Configuration(String),
    /// [`EXIT_FAILED`].
    Other(String),
}

impl Failure {
    fn other(what: &str, error: &dyn std::error::Error) -> Self {
        Self::Other(format!("{what}: {}", explain(error)))
    }

    fn of_plan(problem: &Problem) -> Self {
        match problem {
            Problem::DataDir { .. } => Self::Other(problem.to_string()),
            Problem::Certificate(_)
            | Problem::Secret(_)
            | Problem::Modules { .. }
            | Problem::Access { .. }
            | Problem::DatabasePassword(_)
            | Problem::Domain(_) => Self::Configuration(problem.to_string()),
        }
    }
}

/// Runs a node until it is stopped.
pub fn node(start: &Start) -> ExitCode {
    let (problem, code) = match try_node(start) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Configuration(problem)) => (problem, EXIT_CONFIG),
        Err(Failure::Other(problem)) => (problem, EXIT_FAILED),
    };
    daemon::logs::last_words(&format!("meerkat: {problem}"));
    ExitCode::from(code)
}

fn try_node(start: &Start) -> Result<(), Failure> {
    let (mut config, warnings) = match &start.config {
        None => (Config::zero(), None),
        Some(file) => {
            let review = Config::review(file, |_, _| {});
            let at_fault = |findings: Findings| Failure::Configuration(findings.to_string());
            (review.outcome.map_err(at_fault)?, Some(review.warnings))
        }
    };
    if let Some(data_dir) = &start.data_dir {
        config.general.data_dir.clone_from(data_dir);
    }
    let format = if start.log_json {
        Format::Json
    } else {
        config.general.log_format
    };
    let logs = daemon::logs::init(config.general.loglevel, format)
        .map_err(|error| Failure::other("logs", &error))?;
    for finding in warnings.iter().flat_map(Findings::iter) {
        let line = finding.place.as_ref().map(|place| place.line);
        warn!(
            line,
            what = finding.message.trim_start_matches("warning: "),
            mend = finding.hint,
            "configuration"
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::other("the runtime could not be started", &error))?;
    runtime.block_on(serve(&config, start.config.as_deref(), &logs))
}

async fn serve(config: &Config, file: Option<&Path>, logs: &Logs) -> Result<(), Failure> {
    let signals = |error: std::io::Error| Failure::other("signals", &error);
    let shutdown = Shutdown::on_signals().map_err(signals)?;
    let mut reloads = Reloads::on_sighup().map_err(signals)?;
    // Ended by being dropped, however the start goes.
    let (starting, started) = tokio::sync::oneshot::channel::<()>();
    notify::extend_timeouts(async { started.await.unwrap_or_default() });
    notify::notify_status("starting");
    raise_limits();
    let mut plan = plan::of(config).map_err(|problem| Failure::of_plan(&problem))?;
    plan.logs = Some(logs.levels());
    let warnings = look_at_machine(config);
    let node = match Box::pin(Node::start(plan, shutdown.clone())).await {
        Ok(node) => node,
        // Who stops a start that waits for its database gets what they asked for.
        Err(StartError::Stopped) => {
            info!(target: LIFECYCLE, "stopped before the database was there");
            return Ok(());
        }
        Err(error) => return Err(Failure::Other(explain(&error))),
    };
    node.router.metrics.start_warnings.set(warnings);
    announce(&node, config);
    drop(starting);
    notify::notify_ready();
    notify::watchdog(&shutdown);
    let router = Arc::clone(&node.router);
    notify::statuses(&shutdown, STATUS_EVERY, move || {
        format!("serving, {} sessions", router.sessions.count())
    });
    let (certificates, metrics) = (node.certificates(), node.router.metrics.clone());
    let reload = async {
        loop {
            reloads.next().await;
            notify::notify_reloading();
            read_again(&certificates, file, logs, &metrics).await;
            notify::notify_ready();
        }
    };
    tokio::select! {
        () = node.run() => {}
        () = reload => {}
    }
    info!(target: LIFECYCLE, "stopped");
    Ok(())
}

/// SIGHUP: certificates and the level of the log. What cannot be read stays as it was, and is counted.
async fn read_again(
    certificates: &Certificates,
    file: Option<&Path>,
    logs: &Logs,
    metrics: &Arc<Metrics>,
) {
    let (certificates, file) = (certificates.clone(), file.map(Path::to_owned));
    // Files are read: the sessions of a thread would wait.
    let read = move || {
        certificates.reload();
        file.map(|file| Config::load(&file))
    };
    match tokio::task::spawn_blocking(read).await {
        Ok(None) => {}
        Ok(Some(Ok(config))) => {
            logs.set_level(config.general.loglevel);
            info!("configuration read again for the level of the log");
        }
        Ok(Some(Err(findings))) => {
            metrics.reload_failures.configuration.inc();
            error!(%findings, "configuration is at fault, the level of the log stays");
        }
        Err(error) => {
            metrics.reload_failures.configuration.inc();
            error!(%error, "configuration could not be read again");
        }
    }
}

/// An error with everything that caused it, on one line.
pub(crate) fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // Some say what caused them themselves.
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

/// The service manager is told this often how many sessions there are.
const STATUS_EVERY: Duration = Duration::from_secs(5);

/// Logs what the machine has too little of; returns how much that is.
fn look_at_machine(config: &Config) -> i64 {
    let warnings = check::machine(&check::needs(config, &config.general.data_dir));
    for warning in &warnings {
        let Warning {
            what,
            found,
            needed,
            mend,
        } = warning;
        warn!(what, found, needed, mend, "the machine has too little");
    }
    i64::try_from(warnings.len()).unwrap_or(i64::MAX)
}

fn raise_limits() {
    match daemon::checks::raise_open_files() {
        Ok(OpenFiles { before, now }) => info!(files = now, before, "open files allowed"),
        Err(error) => warn!(%error, "the limit of open files could not be raised"),
    }
}

fn announce(node: &Node, config: &Config) {
    for address in &node.clients {
        info!(target: LIFECYCLE, %address, "clients are served");
    }
    for served in &node.http {
        let address = served.address;
        if served.websocket {
            info!(target: LIFECYCLE, %address, "clients over WebSocket are served");
        }
        if served.metrics {
            info!(target: LIFECYCLE, %address, "metrics are served");
        }
        if served.graphql {
            info!(target: LIFECYCLE, %address, "the admin api is served");
        }
        if served.bosh {
            info!(target: LIFECYCLE, %address, "BOSH is served");
        }
    }
    for address in &node.components {
        info!(target: LIFECYCLE, %address, "components are served");
    }
    if node.clients.is_empty() {
        error!("no listener for clients is configured");
    }
    info!(target: LIFECYCLE, data_dir = %config.general.data_dir.display(), "ready");
}
