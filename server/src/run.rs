//! What the binary `meerkat` does with its flags.
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use daemon::logs::{Format, LIFECYCLE};
use daemon::{Reloads, Shutdown};
use tracing::{error, info, warn};

use crate::config::{self, Config};
use crate::node::Node;
use crate::node::plan;

/// Where a node without configuration keeps its things, below the working directory.
pub const DATA_DIR_DEFAULT: &str = "meerkat-data";
/// The configuration or the start-up is at fault (`EX_CONFIG`).
const EXIT_CONFIG: u8 = 78;

/// What the flags say.
pub struct Start {
    /// The configuration file, if any.
    pub config: Option<PathBuf>,
    /// Overrides the data directory.
    pub data_dir: Option<PathBuf>,
    /// Logs as JSON, whatever the configuration says.
    pub log_json: bool,
}

/// Prints all findings of a configuration file.
pub fn check_config(file: &Path) -> ExitCode {
    let (report, code) = config::check_report(file);
    let _ = std::io::stdout().write_all(report.as_bytes());
    code
}

/// Runs a node until it is stopped.
pub fn node(start: &Start) -> ExitCode {
    let mut config = match &start.config {
        None => Config::zero(),
        Some(file) => match Config::load(file) {
            Ok(config) => config,
            Err(findings) => return complain(&findings.to_string()),
        },
    };
    if let Some(data_dir) = &start.data_dir {
        config.general.data_dir.clone_from(data_dir);
    }
    let format = if start.log_json {
        Format::Json
    } else {
        config.general.log_format
    };
    let logs = match daemon::logs::init(config.general.loglevel, format) {
        Ok(logs) => logs,
        Err(error) => return complain(&error.to_string()),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(serve(&config, start.config.as_deref(), &logs)),
        Err(error) => Err(format!("the runtime could not be started: {error}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => complain(&problem),
    }
}

fn complain(problem: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "meerkat: {}", problem.trim_end());
    ExitCode::from(EXIT_CONFIG)
}

async fn serve(
    config: &Config,
    file: Option<&Path>,
    logs: &daemon::logs::Logs,
) -> Result<(), String> {
    let shutdown = Shutdown::on_signals().map_err(|error| format!("signals: {error}"))?;
    let mut reloads = Reloads::on_sighup().map_err(|error| format!("signals: {error}"))?;
    raise_limits();
    let plan = plan::of(config).map_err(|problem| problem.to_string())?;
    let node = Box::pin(Node::start(plan, shutdown.clone()))
        .await
        .map_err(|error| explain(&error))?;
    announce(&node, config);
    daemon::notify::notify_ready();
    daemon::notify::watchdog(&shutdown);
    let certificates = node.certificates();
    let reload = async {
        loop {
            reloads.next().await;
            let (certificates, file) = (certificates.clone(), file.map(Path::to_owned));
            // Files are read: the sessions of a thread would wait.
            let read = move || {
                certificates.reload();
                file.map(|file| Config::load(&file))
            };
            match tokio::task::spawn_blocking(read).await {
                Ok(Some(Ok(config))) => {
                    logs.set_level(config.general.loglevel);
                    info!("configuration read again for the level of the log");
                }
                Ok(Some(Err(findings))) => {
                    error!(%findings, "configuration is at fault, the level of the log stays");
                }
                Ok(None) => {}
                Err(error) => error!(%error, "configuration could not be read again"),
            }
        }
    };
    tokio::select! {
        () = node.run() => {}
        () = reload => {}
    }
    info!(target: LIFECYCLE, "stopped");
    Ok(())
}

/// An error with everything that caused it, on one line.
fn explain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

fn raise_limits() {
    match daemon::checks::raise_open_files() {
        Ok(files) => info!(files, "open files allowed"),
        Err(error) => warn!(%error, "the limit of open files could not be raised"),
    }
}

fn announce(node: &Node, config: &Config) {
    for address in &node.clients {
        info!(target: LIFECYCLE, %address, "clients are served");
    }
    if let Some(address) = node.metrics {
        info!(target: LIFECYCLE, %address, "metrics are served");
    }
    if node.clients.is_empty() {
        error!("no listener for clients is configured");
    }
    info!(target: LIFECYCLE, data_dir = %config.general.data_dir.display(), "ready");
}
