//! What is looked at before a start: the configuration file with all that it names (`meerkat --check-config`), and
//! whether this machine has what the configuration wants.
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use daemon::checks::{self, Needs, Warning};
use daemon::config::{Checks, EXIT_CONFIG};
use protocol::jid::prepare_domain;
use rustix::fs::{Access, access};
use transport::{CertificatePaths, CertificateReview};

use crate::config::Config;
use crate::node::data_dir;
use crate::storage::config::{Driver, RdbmsPool};

/// Connections that a node is to have room for where the file chooses no `max_connections`.
pub const CONNECTIONS_EXPECTED: u64 = 10_000;

/// Files that are open beside those that are counted: logs, sockets of the node itself, libraries, files being read.
const FILES_BASE: u64 = 256;

/// Files of one connection to a database: the database, its journal and the index of that.
const FILES_PER_WORKER: u64 = 3;

/// Reads a configuration file, looks at what it names and at the machine, and says all there is to say: the text, and 0
/// or `EX_CONFIG`. Warnings change nothing of the exit code. `data_dir` takes the place of the file's.
pub fn report(file: &Path, data_dir: Option<&Path>) -> (String, ExitCode) {
    let mut needs = None;
    let review = Config::review(file, |config, checks| {
        let data_dir = data_dir.unwrap_or(&config.general.data_dir);
        check_data_dir(data_dir, checks);
        check_database(config, checks);
        check_coverage(config, checks);
        if !data_dir::is_in_use(data_dir) {
            check_addresses(config, checks);
        }
        needs = Some(self::needs(config, data_dir));
    });
    let (mut text, code) = match &review.outcome {
        Ok(_) => (
            format!("{}: no findings\n", file.display()),
            ExitCode::SUCCESS,
        ),
        Err(findings) => (findings.to_string(), ExitCode::from(EXIT_CONFIG)),
    };
    text.push_str(&review.warnings.to_string());
    for warning in needs.iter().flat_map(machine) {
        let _infallible = writeln!(text, "warning: this machine: {warning}");
    }
    (text, code)
}

/// What this machine has too little of. The soft limit of open files is raised first, as a node does.
pub fn machine(needs: &Needs) -> Vec<Warning> {
    // What cannot be raised is told as too low.
    let _raised = checks::raise_open_files();
    checks::run(needs)
}

/// What a node with this configuration needs of its machine.
pub fn needs(config: &Config, data_dir: &Path) -> Needs {
    let listeners = &config.listen.c2s;
    let chosen = listeners.iter().filter_map(|c2s| c2s.chosen_connections());
    let chosen = chosen.fold(0, u64::saturating_add);
    let is_open = listeners
        .iter()
        .any(|c2s| c2s.chosen_connections().is_none());
    let expected = if is_open { CONNECTIONS_EXPECTED } else { 0 };
    let http = config.listen.http.iter();
    let http = http.filter_map(|http| http.transport.max_connections.finite());
    let http = http.fold(0, u64::saturating_add);
    let addresses = addresses(config);
    let pool = config.database();
    Needs {
        connections: chosen.saturating_add(expected).saturating_add(http),
        other_files: FILES_BASE + FILES_PER_WORKER * (u64::from(pool.workers) + 1),
        backlog: listeners
            .iter()
            .map(|c2s| u64::from(c2s.backlog))
            .max()
            .unwrap_or(0),
        directories: [Some(data_dir.to_owned()), database_dir(&pool)]
            .into_iter()
            .flatten()
            .collect(),
        ports: addresses
            .iter()
            .map(|(_, address)| address.port())
            .filter(|port| *port != 0)
            .collect(),
    }
}

/// Where the node listens, with the path of each listener in the file.
fn addresses(config: &Config) -> Vec<(String, SocketAddr)> {
    let c2s = config.listen.c2s.iter().enumerate();
    let c2s = c2s.map(|(index, listener)| (format!("listen.c2s[{index}]"), listener.address()));
    let http = config.listen.http.iter().enumerate();
    let http = http.map(|(index, listener)| (format!("listen.http[{index}]"), listener.address()));
    c2s.chain(http).collect()
}

/// The folder of a database that is a file.
fn database_dir(pool: &RdbmsPool) -> Option<PathBuf> {
    // Another one keeps its files on a machine of its own.
    let is_file = pool.connection.driver == Driver::Sqlite;
    let file = std::path::absolute(&pool.connection.database).ok()?;
    is_file.then(|| file.parent().map(Path::to_owned))?
}

/// The directory, or if it is not there the next one around it, takes new files.
fn check_data_dir(data_dir: &Path, checks: &mut Checks<'_>) {
    let path = "general.data_dir";
    if !checks.is_sound(path) {
        return;
    }
    if let Err(problem) = takes_files(data_dir) {
        let message = format!("the data directory {}: {problem}", data_dir.display());
        checks.finding(path, message, "chown it to the user that runs the node");
    } else if others_may_look_into(data_dir) {
        let message = format!("others may look into {}", data_dir.display());
        let hint = "it holds keys and passwords: chmod 0700";
        checks.warning(path, message, hint);
    }
}

/// The folder of a database that is a file has to be there.
fn check_database(config: &Config, checks: &mut Checks<'_>) {
    let path = "outgoing_pools.rdbms.default.connection.database";
    let Some(pool) = &config.outgoing_pools.rdbms.default else {
        return;
    };
    let Some(folder) = database_dir(pool).filter(|_| checks.is_sound(path)) else {
        return;
    };
    if !folder.is_dir() {
        let message = format!("there is no directory {}", folder.display());
        checks.finding(path, message, "make it, for the user that runs the node");
    } else if let Err(problem) = takes_files(&folder) {
        let message = format!("the database's directory {}: {problem}", folder.display());
        checks.finding(path, message, "chown it to the user that runs the node");
    }
}

/// Why a directory takes no files of ours.
fn takes_files(directory: &Path) -> Result<(), String> {
    let absolute = std::path::absolute(directory).map_err(|error| error.to_string())?;
    for around in absolute.ancestors() {
        match std::fs::metadata(around) {
            Ok(found) if !found.is_dir() => {
                return Err(format!("{} is not a directory", around.display()));
            }
            Ok(_) => {
                return access(around, Access::WRITE_OK | Access::EXEC_OK)
                    .map_err(|error| format!("{} cannot be written: {error}", around.display()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error.to_string()),
        }
    }
    Err("is nowhere".to_owned())
}

fn others_may_look_into(directory: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(directory).map(|found| found.permissions().mode());
    mode.is_ok_and(|mode| mode & 0o007 != 0)
}

/// Each domain has a certificate that is for it.
fn check_coverage(config: &Config, checks: &mut Checks<'_>) {
    if !checks.is_sound("general.hosts") {
        return;
    }
    for (index, listener) in config.listen.c2s.iter().enumerate() {
        let path = format!("listen.c2s[{index}].tls");
        if let Some(tls) = listener.tls.as_ref().filter(|_| checks.is_sound(&path)) {
            let own: Vec<&str> = tls
                .certificates
                .iter()
                .map(|own| own.domain.as_str())
                .collect();
            let files = (tls.certfile.as_deref(), tls.keyfile.as_deref());
            check_covered(config, &path, files, &own, checks);
        }
    }
    for (index, listener) in config.listen.http.iter().enumerate() {
        let path = format!("listen.http[{index}].tls");
        if let Some(tls) = listener.tls.as_ref().filter(|_| checks.is_sound(&path)) {
            let files = (tls.certfile.as_deref(), tls.keyfile.as_deref());
            check_covered(config, &path, files, &[], checks);
        }
    }
}

/// A certificate is for all domains but those that have one of their own.
fn check_covered(
    config: &Config,
    path: &str,
    files: (Option<&Path>, Option<&Path>),
    own: &[&str],
    checks: &mut Checks<'_>,
) {
    let (Some(cert), Some(key)) = files else {
        return;
    };
    let paths = CertificatePaths {
        cert: cert.to_owned(),
        key: key.to_owned(),
    };
    // What is wrong with the files is told already.
    let Ok(review) = CertificateReview::of(&paths, std::time::SystemTime::now()) else {
        return;
    };
    let has_own = |host: &str| {
        let mut own = own.iter();
        own.any(|own| prepare_domain(own).is_ok_and(|domain| domain == host))
    };
    for host in &config.general.hosts {
        if !review.covers(host) && !has_own(host) {
            let message = format!("the certificate is not for {host:?}");
            let hint = "clients of that domain will not accept it";
            checks.warning(&format!("{path}.certfile"), message, hint);
        }
    }
}

/// Each address can be listened on now. Another day it may be different, so this is no finding.
fn check_addresses(config: &Config, checks: &mut Checks<'_>) {
    for (path, address) in addresses(config) {
        if address.port() == 0 || !checks.is_sound(&path) {
            continue;
        }
        if let Err(error) = transport::try_bind(address) {
            let hint = match error.kind() {
                io::ErrorKind::AddrInUse => "stop the program that has it, or take another port",
                io::ErrorKind::PermissionDenied => {
                    "ports below 1024 need the capability CAP_NET_BIND_SERVICE"
                }
                io::ErrorKind::AddrNotAvailable => "this machine has no such address",
                _ => "",
            };
            let message = format!("cannot listen on {address}: {error}");
            checks.warning(&format!("{path}.port"), message, hint);
        }
    }
}

#[cfg(test)]
mod tests;
