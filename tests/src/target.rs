//! The servers that scenarios run against: each with its own directory, on loopback.
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use daemon::Shutdown;
use protocol::BareJid;
use server::config::Config;
use server::node::{Node, plan};
use tokio::task::JoinHandle;

use crate::client::{Account, Security};

/// How long a server may take to start.
const START_SECS_MAX: u64 = 30;

/// The domain that every target serves.
pub const DOMAIN: &str = "localhost";

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Our node, in this process.
    Meerkat,
    /// Debian's Prosody: what a scenario claims holds on a server that is not ours, too.
    Prosody,
}

impl Peer {
    /// The name in `not on NAME: …`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Meerkat => "meerkat",
            Self::Prosody => "prosody",
        }
    }
}

/// A running server. It ends when this is dropped; [`Target::stop`] waits for that.
pub struct Target {
    c2s: SocketAddr,
    c2s_tls: SocketAddr,
    c2s_starttls: Option<SocketAddr>,
    component: Option<SocketAddr>,
    http: Vec<SocketAddr>,
    running: Running,
    directory: Directory,
}

enum Running {
    Node {
        shutdown: Shutdown,
        run: JoinHandle<()>,
    },
    Process {
        _process: Process,
    },
}

impl Target {
    /// Starts a server that has never run before.
    pub async fn start(peer: Peer, setup: Setup) -> Result<Self> {
        match peer {
            Peer::Meerkat => start_meerkat(&setup).await,
            // Waiting for a process blocks.
            Peer::Prosody => tokio::task::spawn_blocking(move || start_prosody(&setup)).await?,
        }
    }

    /// Stops the server and waits for its end.
    pub async fn stop(mut self) -> Result<()> {
        if let Running::Node { shutdown, run } = &mut self.running {
            shutdown.begin_at_once();
            run.await.context("the node panicked")?;
        }
        Ok(())
    }

    /// The port where STARTTLS is required, if the server can have one beside the others.
    pub fn starttls_required(&self) -> Option<SocketAddr> {
        self.c2s_starttls
    }

    /// The first port for components, if the configuration has any.
    pub fn component(&self) -> Option<SocketAddr> {
        self.component
    }

    /// HTTP ports of the setup's own configuration, in its order.
    pub fn http(&self) -> &[SocketAddr] {
        self.http.get(WEBSOCKET_PORTS..).unwrap_or_default()
    }

    /// The self-signed certificate that clients are shown, in PEM.
    pub fn certificate(&self) -> PathBuf {
        let name = match self.running {
            Running::Node { .. } => "self-signed-cert.pem",
            Running::Process { .. } => "cert.pem",
        };
        self.directory.path.join(name)
    }

    /// Where a client of this kind connects.
    pub fn address(&self, security: Security) -> SocketAddr {
        match security {
            Security::None | Security::StartTls => self.c2s,
            Security::DirectTls => self.c2s_tls,
            // A scenario over WebSocket is not for peers without one: its clients find nobody there.
            Security::WebSocket => self.http.first().copied().unwrap_or(NOWHERE),
            Security::SecureWebSocket => self.http.get(1).copied().unwrap_or(NOWHERE),
        }
    }
}

/// Each node has WebSocket without TLS, and with it; these ports come first.
const WEBSOCKET_PORTS: usize = 2;

/// Nobody listens there.
const NOWHERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// What the server under test is made with.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Accounts that exist, and nothing else does.
    pub accounts: Vec<Account>,
    /// Text added to the configuration. A module that is named here takes the place of the usual one.
    pub config: String,
    /// Text added to each listener for clients.
    pub listener: String,
}

/// Modules of a node under test, with their options.
const MODULES: &[(&str, &str)] = &[
    ("mod_roster", "versioning = true\n"),
    ("mod_presence", ""),
    ("mod_privacy", ""),
    ("mod_blocking", ""),
    ("mod_offline", ""),
    ("mod_carboncopy", ""),
    ("mod_csi", ""),
    ("mod_caps", ""),
    ("mod_ping", ""),
    ("mod_version", ""),
    ("mod_time", ""),
    ("mod_private", ""),
    ("mod_vcard", ""),
    ("mod_last", ""),
    ("mod_disco", ""),
    ("mod_stream_management", ""),
];

fn meerkat_config(data_dir: &Path, setup: &Setup) -> String {
    let mut text = format!(
        "[general]\nhosts = [\"{DOMAIN}\"]\ndata_dir = \"{}\"\n\
         [auth.password]\nhash = [\"sha\", \"sha256\"]\n",
        data_dir.display()
    );
    for mode in ["starttls", "tls", "starttls_required"] {
        let listener = &setup.listener;
        text += &format!(
            "[[listen.c2s]]\nport = 0\nip_address = \"127.0.0.1\"\ntls.mode = \"{mode}\"\n{listener}\n"
        );
    }
    for tls in ["", "tls = {}\n"] {
        text += &format!(
            "[[listen.http]]\nport = 0\nip_address = \"127.0.0.1\"\n{tls}\
             [[listen.http.handlers.mongoose_websocket_handler]]\nhost = \"_\"\npath = \"/ws-xmpp\"\n\
             [[listen.http.handlers.mongoose_bosh_handler]]\nhost = \"_\"\npath = \"/http-bind\"\n"
        );
    }
    for (module, options) in MODULES {
        let table = format!("[modules.{module}]\n");
        if !setup.config.contains(&table) {
            text += &format!("{table}{options}");
        }
    }
    text + &setup.config
}

async fn start_meerkat(setup: &Setup) -> Result<Target> {
    let directory = Directory::new()?;
    let text = meerkat_config(&directory.path, setup);
    let config = Config::parse(&text, "scenario").map_err(|findings| anyhow!("{findings}"))?;
    let shutdown = Shutdown::new();
    let node = Node::start(plan::of(&config)?, shutdown.clone()).await?;
    let host = node
        .router
        .host(DOMAIN)
        .context("the node does not serve the domain")?;
    for account in &setup.accounts {
        let jid = BareJid::parse(&account.bare())?;
        host.auth.register(&jid, &account.password).await?;
    }
    let [c2s, c2s_tls, c2s_starttls] = node.clients[..] else {
        bail!("the node listens on {:?}", node.clients)
    };
    let component = node.components.first().copied();
    let http = node.http.iter().map(|served| served.address).collect();
    // The test waits for it in `stop`.
    #[allow(clippy::disallowed_methods)]
    let run = tokio::spawn(node.run());
    Ok(Target {
        c2s,
        c2s_tls,
        c2s_starttls: Some(c2s_starttls),
        component,
        http,
        running: Running::Node { shutdown, run },
        directory,
    })
}

fn start_prosody(setup: &Setup) -> Result<Target> {
    let directory = Directory::new()?;
    let path = directory.path.display();
    write_certificate(&directory.path)?;
    let accounts_path = directory.path.join("data").join(DOMAIN).join("accounts");
    fs::create_dir_all(&accounts_path)?;
    for account in &setup.accounts {
        let file = accounts_path.join(format!("{}.dat", prosody_file_name(&account.local)));
        fs::write(
            file,
            format!("return {{ [\"password\"] = \"{}\"; }};\n", account.password),
        )?;
    }
    let (c2s, c2s_tls) = (free_address()?, free_address()?);
    let text = format!(
        "run_as_root = true\ndaemonize = false\npidfile = \"{path}/pid\"\ndata_path = \"{path}/data\"\n\
         interfaces = {{ \"127.0.0.1\" }}\nc2s_ports = {{ {} }}\nc2s_direct_tls_ports = {{ {} }}\n\
         log = {{ {{ levels = {{ min = \"info\" }}, to = \"console\" }} }}\n\
         modules_enabled = {{ \"roster\", \"saslauth\", \"tls\", \"disco\", \"ping\", \"version\", \"time\", \"private\", \"smacks\", \"offline\", \"carbons\" }}\n\
         modules_disabled = {{ \"s2s\", \"http\" }}\nauthentication = \"internal_plain\"\n\
         c2s_require_encryption = false\nallow_unencrypted_plain_auth = false\n\
         ssl = {{ key = \"{path}/key.pem\", certificate = \"{path}/cert.pem\" }}\n{}\n\
         VirtualHost \"{DOMAIN}\"\n",
        c2s.port(),
        c2s_tls.port(),
        setup.config,
    );
    let config_path = directory.path.join("prosody.cfg.lua");
    fs::write(&config_path, text)?;
    let mut command = Command::new("prosody");
    command.arg("-F").arg("--config").arg(&config_path);
    let process = Process::start(
        command,
        &[
            "Activated service 'c2s' on",
            "Activated service 'c2s_direct_tls' on",
        ],
    )
    .context("cannot start Prosody; on Debian: `apt-get install prosody`")?;
    Ok(Target {
        c2s,
        c2s_tls,
        c2s_starttls: None,
        component: None,
        http: Vec::new(),
        running: Running::Process { _process: process },
        directory,
    })
}

/// Prosody keeps letters and digits and writes the rest as `%xx`.
fn prosody_file_name(local: &str) -> String {
    let mut name = String::new();
    for byte in local.bytes() {
        if byte.is_ascii_alphanumeric() {
            name.push(byte.into());
        } else {
            name.push_str(&format!("%{byte:02x}"));
        }
    }
    name
}

fn write_certificate(directory: &Path) -> Result<()> {
    let certified = rcgen::generate_simple_self_signed(vec![DOMAIN.to_owned()])?;
    fs::write(directory.join("cert.pem"), certified.cert.pem())?;
    fs::write(
        directory.join("key.pem"),
        certified.signing_key.serialize_pem(),
    )?;
    Ok(())
}

/// For servers that cannot be told to choose a port themselves. Another process may take it in between: then the
/// server does not start, and the test says so.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Self::Node { shutdown, .. } = self {
            shutdown.begin_at_once();
        }
    }
}

/// A child process whose output is read to its end. Killed when dropped.
struct Process {
    child: Child,
}

impl Process {
    /// Starts and waits until each of these texts has stood in a line of its output.
    fn start(mut command: Command, awaited: &[&'static str]) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut process = Self { child };
        let output = process.child.stdout.take().context("the output is piped")?;
        let (line_sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                // Nobody listens after the start; the pipe is emptied all the same.
                let _ = line_sender.send(line);
            }
        });
        let mut awaited = awaited.to_vec();
        let mut seen = Vec::new();
        while !awaited.is_empty() {
            let Ok(line) = lines.recv_timeout(Duration::from_secs(START_SECS_MAX)) else {
                bail!("it did not get ready; its output was\n{}", seen.join("\n"));
            };
            awaited.retain(|text| !line.contains(text));
            seen.push(line);
        }
        Ok(process)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A directory of its own, removed when dropped.
pub struct Directory {
    /// Where it is.
    pub path: PathBuf,
}

impl Directory {
    /// A new one.
    pub fn new() -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "meerkat-test-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self { path })
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}
