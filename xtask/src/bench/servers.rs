//! The servers of a benchmark: started with a folder and free ports of their own, each on one core, ended with it.
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::{START_TIME_MAX, Security, scratch};
use crate::run;

/// How long a server may take to end when it is asked to.
const STOP_TIME_MAX: Duration = Duration::from_secs(20);
/// How often something that starts or ends is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Debian's servers that we are compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Peer {
    Ejabberd,
    Prosody,
}

impl Peer {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ejabberd => "ejabberd",
            Self::Prosody => "Prosody",
        }
    }

    pub(super) fn package(self) -> &'static str {
        match self {
            Self::Ejabberd => "ejabberd",
            Self::Prosody => "prosody",
        }
    }

    /// The upstream version of the installed package.
    pub(super) fn version(self) -> Option<String> {
        let mut query = run::command("dpkg-query");
        query.args([
            "--show",
            "--showformat=${db:Status-Abbrev} ${Version}",
            self.package(),
        ]);
        let answer = run::output(&mut query).ok()?;
        let version = answer.strip_prefix("ii")?.trim();
        Some(version.split('-').next().unwrap_or(version).to_owned())
    }
}

/// What a node of ours is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meerkat {
    /// What most figures are of: rosters, presence, stored messages, stream management.
    Core,
    /// All modules of a node without a configuration file.
    Modules,
    /// As `Core`, with a port for WebSockets.
    Web,
}

impl Meerkat {
    fn name(self) -> &'static str {
        match self {
            Self::Core => "meerkat",
            Self::Modules => "meerkat-modules",
            Self::Web => "meerkat-web",
        }
    }
}

/// What all measurements share.
pub(super) struct Bench {
    directory: PathBuf,
    binaries: PathBuf,
    server_core: String,
    generator_core: String,
}

/// A running server; asked to end, then killed, when dropped.
pub(super) struct Server {
    process: Child,
    name: &'static str,
    plain: SocketAddr,
    tls: Option<SocketAddr>,
    /// Where it has WebSockets and metrics.
    http: Option<SocketAddr>,
    /// Options of the generator that only this server needs.
    options: &'static [&'static str],
}

impl Server {
    /// Where its metrics are.
    pub(super) fn metrics(&self) -> Result<SocketAddr> {
        self.http.context("this server has no metrics")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = Command::new("kill")
            .args(["-TERM", &self.process.id().to_string()])
            .status();
        let deadline = Instant::now() + STOP_TIME_MAX;
        while matches!(self.process.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.process.kill();
                let _ = self.process.wait();
                return;
            }
            thread::sleep(LOOK_AGAIN);
        }
    }
}

/// A row that the generator printed.
pub(super) struct Row(String);

impl Row {
    /// A number of the flat JSON object.
    pub(super) fn figure(&self, name: &str) -> Result<f64> {
        let key = format!("\"{name}\":");
        let value = self.0.find(&key).map(|at| &self.0[at + key.len()..]);
        let value = value.and_then(|rest| rest.split([',', '}']).next());
        value
            .and_then(|text| text.trim().parse().ok())
            .with_context(|| format!("the generator's row has no number {name:?}: {}", self.0))
    }
}

impl Bench {
    pub(super) fn new(server_core: &str, generator_core: &str) -> Result<Self> {
        let bench = Self {
            directory: scratch()?,
            binaries: run::target_dir().join("release"),
            server_core: server_core.to_owned(),
            generator_core: generator_core.to_owned(),
        };
        for core in [server_core, generator_core] {
            run::check(bench.pinned(core, "true").stdout(Stdio::null()))
                .with_context(|| format!("core {core} cannot be used; see --cores"))?;
        }
        // The same certificate for all: ECDSA on P-256, as the server makes them.
        run::output(
            run::command("openssl")
                .args([
                    "req",
                    "-x509",
                    "-newkey",
                    "ec",
                    "-pkeyopt",
                    "ec_paramgen_curve:prime256v1",
                    "-nodes",
                    "-days",
                    "2",
                    "-subj",
                    "/CN=localhost",
                    "-addext",
                    "subjectAltName=DNS:localhost",
                ])
                .arg("-keyout")
                .arg(bench.directory.join("key.pem"))
                .arg("-out")
                .arg(bench.directory.join("cert.pem")),
        )
        .context("the benchmark needs a certificate; on Debian: `apt-get install openssl`")?;
        Ok(bench)
    }

    /// A program that ends with us, however we end. The kernel sees to that: a terminal's Ctrl-C reaches only the
    /// programs in the foreground, and a kill reaches only us.
    fn bound_to_us(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = run::command("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program);
        command
    }

    fn pinned(&self, core: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = self.bound_to_us("taskset");
        command.args(["--cpu-list", core]).arg(program);
        command
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Runs the generator against a server and returns its rows.
    pub(super) fn load(
        &self,
        server: &Server,
        security: Security,
        args: &[&str],
    ) -> Result<Vec<Row>> {
        let address = match security {
            Security::Plain => server.plain,
            Security::Tls => server.tls.context("this server has no TLS port")?,
            Security::WebSocket => server.http.context("this server has no WebSockets")?,
        };
        // Nodes of ours have the same accounts.
        let accounts = server.name.split('-').next().unwrap_or(server.name);
        let mut load = self.pinned(&self.generator_core, self.binaries.join("load"));
        load.args(["--json", "--connect", &address.to_string()])
            .args(["--server-pid", &server.process.id().to_string()])
            .args(["--sources", "8", "--patience-s", "120"])
            .arg("--keys")
            .arg(self.path(&format!("{accounts}-keys")))
            .args(server.options);
        match security {
            Security::Plain => {}
            Security::Tls => {
                load.args(["--tls", "direct", "--insecure"]);
            }
            Security::WebSocket => {
                load.arg("--websocket");
            }
        }
        let output = run::output(load.args(args)).with_context(|| {
            let log =
                fs::read_to_string(self.path(&format!("{}.log", server.name))).unwrap_or_default();
            let end: Vec<&str> = log.lines().rev().take(10).collect();
            format!(
                "{} measured; the end of its log, latest first:\n{}",
                server.name,
                end.join("\n")
            )
        })?;
        let rows: Vec<Row> = output.lines().map(|line| Row(line.to_owned())).collect();
        ensure!(!rows.is_empty(), "the generator printed no row");
        Ok(rows)
    }

    /// Starts `command` with its output in `NAME.log` and waits until it takes connections.
    fn start(
        &self,
        name: &'static str,
        mut command: Command,
        plain: SocketAddr,
        tls: Option<SocketAddr>,
        options: &'static [&'static str],
    ) -> Result<Server> {
        let log = File::create(self.path(&format!("{name}.log")))?;
        let process = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let mut server = Server {
            process,
            name,
            plain,
            tls,
            http: None,
            options,
        };
        for address in [Some(plain), tls].into_iter().flatten() {
            self.wait_for(&mut server, || TcpStream::connect(address).is_ok())?;
        }
        Ok(server)
    }

    fn wait_for(&self, server: &mut Server, mut is_ready: impl FnMut() -> bool) -> Result<()> {
        let deadline = Instant::now() + START_TIME_MAX;
        while !is_ready() {
            let ended = server.process.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                let log = fs::read_to_string(self.path(&format!("{}.log", server.name)));
                bail!(
                    "{} did not start; its output:\n{}",
                    server.name,
                    log.unwrap_or_default()
                );
            }
            thread::sleep(LOOK_AGAIN);
        }
        Ok(())
    }

    pub(super) fn start_relay(&self) -> Result<Server> {
        let mut command = self.pinned(&self.server_core, self.binaries.join("relay"));
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the relay")?;
        let mut line = String::new();
        let output = process
            .stdout
            .take()
            .context("the relay's output is piped")?;
        let read = BufReader::new(output).read_line(&mut line);
        let address = line
            .trim()
            .strip_prefix("listening on ")
            .and_then(|text| text.parse().ok());
        let plain = address.unwrap_or_else(|| SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0));
        // From here on the process is ended with the server.
        let server = Server {
            process,
            name: "relay",
            plain,
            tls: None,
            http: None,
            options: &[],
        };
        read?;
        ensure!(
            address.is_some(),
            "the relay did not say where it listens: {line:?}"
        );
        Ok(server)
    }

    pub(super) fn start_meerkat(&self, kind: Meerkat) -> Result<Server> {
        let command = self.pinned(&self.server_core, self.binaries.join("meerkat"));
        self.start_meerkat_as(kind, command)
    }

    fn start_meerkat_as(&self, kind: Meerkat, mut command: Command) -> Result<Server> {
        let (plain, tls, http) = (free_address()?, free_address()?, free_address()?);
        let data = self.path(&format!("{}-data", kind.name()));
        if kind != Meerkat::Core && !data.exists() {
            copy_files(&self.path(&format!("{}-data", Meerkat::Core.name())), &data)?;
        }
        let config = self.path(&format!("{}.toml", kind.name()));
        let text = meerkat_config(&self.directory, &data, plain, tls);
        fs::write(&config, text + &meerkat_extras(kind, http)?)?;
        command.arg("--config").arg(&config);
        let mut server = self.start(kind.name(), command, plain, Some(tls), &[])?;
        server.http = Some(http);
        Ok(server)
    }

    /// Fills the server's store; it may use all cores meanwhile.
    pub(super) fn import_accounts(&self, count: u32) -> Result<()> {
        let file = self.path("accounts.csv");
        let mut accounts = run::command(self.binaries.join("load"));
        fs::write(
            &file,
            run::output(accounts.args(["accounts", "--sessions", &count.to_string()]))?,
        )?;
        let mut server = self.start_meerkat_as(
            Meerkat::Core,
            self.bound_to_us(self.binaries.join("meerkat")),
        )?;
        let control = |args: &[&str]| {
            let mut control = run::command(self.binaries.join("meerkatctl"));
            control
                .arg("--data-dir")
                .arg(self.path("meerkat-data"))
                .args(args);
            control
        };
        let count_users = ["account", "countUsers", "--domain", "localhost"];
        self.wait_for(&mut server, || run::succeeds(&mut control(&count_users)))?;
        let mut import = control(&["account", "importUsers", "--filename"]);
        run::output(import.arg(&file))?;
        let answer = run::output(&mut control(&count_users))?;
        ensure!(
            answer.contains(&format!("\"countUsers\": {count}\n")),
            "not all {count} accounts were imported: {answer}"
        );
        Ok(())
    }

    pub(super) fn start_peer(&self, peer: Peer) -> Result<Server> {
        let (plain, tls) = (free_address()?, free_address()?);
        let directory = self.path(peer.package());
        fs::create_dir_all(directory.join("data"))?;
        // The cheapest login they have, and the one they are known for.
        let options = &["--mechanism", "plain"];
        let command = match peer {
            Peer::Ejabberd => self.ejabberd(&directory, plain, tls)?,
            Peer::Prosody => self.prosody(&directory, plain, tls)?,
        };
        self.start(peer.package(), command, plain, Some(tls), options)
    }

    /// Makes accounts in the peer's store, by in-band registration.
    pub(super) fn register_accounts(&self, peer: Peer, count: u32) -> Result<()> {
        let server = self.start_peer(peer)?;
        let args = ["register", "--sessions", &count.to_string()];
        self.load(&server, Security::Plain, &args)?;
        Ok(())
    }

    fn ejabberd(&self, directory: &Path, plain: SocketAddr, tls: SocketAddr) -> Result<Command> {
        let pem = self.path("cert-and-key.pem");
        let parts = [self.path("cert.pem"), self.path("key.pem")];
        fs::write(
            &pem,
            format!(
                "{}{}",
                fs::read_to_string(&parts[0])?,
                fs::read_to_string(&parts[1])?
            ),
        )?;
        let config = directory.join("ejabberd.yml");
        fs::write(&config, ejabberd_config(&pem, plain, tls))?;
        // The node is not distributed, so it needs no name, no cookie and no port mapper.
        let mut command = self.pinned(&self.server_core, "erl");
        command
            .current_dir(directory)
            .env("EJABBERD_CONFIG_PATH", &config)
            .env("EJABBERD_LOG_PATH", directory.join("log"))
            .env("ERL_LIBS", ejabberd_libraries()?)
            .env("ERL_MAX_PORTS", "32000")
            .env("ERL_CRASH_DUMP", directory.join("crash.dump"))
            .env("HOME", directory)
            .args([
                "+K", "true", "+P", "250000", "+S", "1:1", "-noinput", "-mnesia", "dir",
            ])
            .arg(format!("{:?}", directory.join("data")))
            .args(["-s", "ejabberd"]);
        Ok(command)
    }

    fn prosody(&self, directory: &Path, plain: SocketAddr, tls: SocketAddr) -> Result<Command> {
        let config = directory.join("prosody.cfg.lua");
        fs::write(
            &config,
            prosody_config(&self.directory, directory, plain, tls),
        )?;
        let mut command = self.pinned(&self.server_core, "prosody");
        command.arg("-F").arg("--config").arg(&config);
        Ok(command)
    }
}

/// For servers that cannot be told to choose a port and say which: another program may take it in between, then the
/// server does not start, and the error says so.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Where Debian keeps ejabberd's compiled modules.
fn ejabberd_libraries() -> Result<PathBuf> {
    let files = run::output(run::command("dpkg").args(["--listfiles", "ejabberd"]))?;
    let modules = files
        .lines()
        .find(|line| line.ends_with("/ebin"))
        .map(Path::new);
    let libraries = modules.and_then(|path| path.parent()?.parent());
    libraries
        .map(Path::to_owned)
        .context("the package ejabberd has no folder `ebin`")
}

/// The files of a folder, into a new one.
fn copy_files(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to).with_context(|| format!("cannot make {}", to.display()))?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Listeners and accounts; keys for one hash, so that accounts are made quickly.
fn meerkat_config(directory: &Path, data: &Path, plain: SocketAddr, tls: SocketAddr) -> String {
    let (certificate, key) = (directory.join("cert.pem"), directory.join("key.pem"));
    format!(
        r#"[general]
  hosts = ["localhost"]
  loglevel = "warning"
  data_dir = {data:?}

[[listen.c2s]]
  port = {}
  ip_address = "127.0.0.1"
  backlog = 4096

[[listen.c2s]]
  port = {}
  ip_address = "127.0.0.1"
  backlog = 4096
  tls.mode = "tls"
  tls.certfile = {certificate:?}
  tls.keyfile = {key:?}

[auth]
  password.hash = ["sha256"]
"#,
        plain.port(),
        tls.port()
    )
}

/// What differs from one node of ours to another.
fn meerkat_extras(kind: Meerkat, http: SocketAddr) -> Result<String> {
    const CORE: &str = "
[modules.mod_roster]
  versioning = true

[modules.mod_presence]

[modules.mod_offline]

[modules.mod_stream_management]
";
    let modules = match kind {
        Meerkat::Core | Meerkat::Web => CORE.to_owned(),
        Meerkat::Modules => {
            let path = run::root().join(ZERO_CONFIG);
            let text = fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            modules_of(&text)
        }
    };
    let websocket = match kind {
        Meerkat::Core | Meerkat::Modules => "",
        Meerkat::Web => {
            "  [[listen.http.handlers.mongoose_websocket_handler]]
    host = \"_\"
    path = \"/ws-xmpp\"
"
        }
    };
    Ok(format!(
        "
[[listen.http]]
  port = {}
  ip_address = \"127.0.0.1\"
  transport.max_connections = 100_000

  [[listen.http.handlers.mongoose_prometheus_handler]]
    host = \"_\"
    path = \"/metrics\"

{websocket}{modules}",
        http.port()
    ))
}

/// What a node without a configuration file does, as a file.
const ZERO_CONFIG: &str = "server/examples/config/zero.toml";

/// The tables of modules.
fn modules_of(config: &str) -> String {
    let mut is_module = false;
    let mut lines = String::new();
    for line in config.lines() {
        if line.trim_start().starts_with('[') {
            let header = line.trim_start().trim_start_matches('[');
            is_module = header.starts_with("modules.");
        }
        if is_module {
            lines.push_str(line);
            lines.push('\n');
        }
    }
    lines
}

/// What Debian's configuration switches on for clients, without limits, with passwords stored as they are.
fn ejabberd_config(pem: &Path, plain: SocketAddr, tls: SocketAddr) -> String {
    let (plain, tls) = (plain.port(), tls.port());
    format!(
        "loglevel: warning
hosts: [localhost]
certfiles: [{pem:?}]
listen:
  - {{port: {plain}, ip: \"127.0.0.1\", module: ejabberd_c2s, backlog: 4096, max_stanza_size: 262144, access: all, \
         shaper: none}}
  - {{port: {tls}, ip: \"127.0.0.1\", module: ejabberd_c2s, backlog: 4096, max_stanza_size: 262144, access: all, \
         shaper: none, tls: true}}
auth_method: internal
auth_password_format: plain
registration_timeout: infinity
access_rules:
  register: {{allow: all}}
modules:
  mod_adhoc: {{}}
  mod_blocking: {{}}
  mod_caps: {{}}
  mod_carboncopy: {{}}
  mod_disco: {{}}
  mod_last: {{}}
  mod_offline: {{}}
  mod_ping: {{}}
  mod_privacy: {{}}
  mod_private: {{}}
  mod_pubsub: {{plugins: [flat, pep]}}
  mod_register: {{ip_access: all, access: register}}
  mod_roster: {{versioning: true}}
  mod_stream_mgmt: {{}}
  mod_vcard: {{search: false}}
  mod_version: {{}}
"
    )
}

/// As [`ejabberd_config`].
fn prosody_config(
    certificates: &Path,
    directory: &Path,
    plain: SocketAddr,
    tls: SocketAddr,
) -> String {
    let (plain, tls) = (plain.port(), tls.port());
    let (certificate, key) = (certificates.join("cert.pem"), certificates.join("key.pem"));
    let (data, pid) = (directory.join("data"), directory.join("pid"));
    format!(
        "run_as_root = true
daemonize = false
pidfile = {pid:?}
data_path = {data:?}
interfaces = {{ \"127.0.0.1\" }}
c2s_ports = {{ {plain} }}
c2s_direct_tls_ports = {{ {tls} }}
modules_enabled = {{
    \"roster\", \"saslauth\", \"tls\", \"disco\", \"carbons\", \"pep\", \"private\", \"blocklist\", \"vcard4\",
    \"vcard_legacy\", \"version\", \"uptime\", \"time\", \"ping\", \"register\", \"smacks\", \"offline\",
}}
modules_disabled = {{ \"s2s\" }}
allow_registration = true
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
authentication = \"internal_plain\"
network_settings = {{ tcp_backlog = 4096 }}
log = {{ {{ levels = {{ min = \"warn\" }}, to = \"console\" }} }}
ssl = {{ certificate = {certificate:?}, key = {key:?} }}
VirtualHost \"localhost\"
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_are_taken_from_a_file() {
        let text = "[general]\n  hosts = []\n\n[modules.mod_a]\n  x = 1\n[[listen.c2s]]\n  port = 1\n\
                    [modules.mod_b.c]\n";
        assert_eq!(
            modules_of(text),
            "[modules.mod_a]\n  x = 1\n[modules.mod_b.c]\n"
        );
        let zero = fs::read_to_string(run::root().join(ZERO_CONFIG)).unwrap();
        assert!(modules_of(&zero).contains("[modules.mod_carboncopy]"));
    }

    #[test]
    fn figures_are_found_in_a_row() {
        let row = Row(
            r#"{"bytes":242,"cpu_us":5.17,"per_second":null,"row":"messages","last":-1}"#
                .to_owned(),
        );
        assert_eq!(row.figure("cpu_us").unwrap(), 5.17);
        assert_eq!(row.figure("bytes").unwrap(), 242.0);
        assert_eq!(row.figure("last").unwrap(), -1.0);
        for absent in ["per_second", "row", "us", "speed"] {
            assert!(row.figure(absent).is_err(), "{absent}");
        }
    }
}
