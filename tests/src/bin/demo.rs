//! What `cargo xtask demo` runs: a node with two accounts, and a page that says how to connect to it.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the page is its purpose"
)]

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::Parser;
use protocol::ns;
use rustix::process::{Pid, Signal, kill_process};
use sha1::{Digest as _, Sha1};
use sha2::Sha256;
use tests::client::{Account, Client, Security};
use tests::http;
use tokio::signal::unix::{SignalKind, signal};
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;

/// Where a node without configuration listens.
const PORTS: Ports = Ports {
    c2s: 5222,
    tls: 5223,
    web: 5280,
    metrics: 9091,
};

/// How long the node may take to get ready, and to end.
const NODE_SECS_MAX: u64 = 60;

/// Pause between two looks at a node that is starting or ending.
const LOOK_MS: u64 = 20;

/// What the node makes in its directory.
const CERTIFICATE: &str = "self-signed-cert.pem";

const DOMAIN: &str = "localhost";
const ACCOUNTS: [(&str, &str); 2] = [("romeo", "balcony-scene"), ("juliet", "nightingale")];

/// Starts a node with two accounts and says how to connect to it.
#[derive(Parser)]
#[command(
    name = "cargo xtask demo",
    override_usage = "cargo xtask demo [--release] [OPTIONS]",
    after_help = "--release builds with optimizations, which takes minutes the first time."
)]
struct Flags {
    /// Where the built programs are.
    #[arg(long, value_name = "DIR", hide = true)]
    binaries: PathBuf,
    /// Logs in with two clients, sends a message, checks that it arrives, and stops.
    #[arg(long)]
    check: bool,
    /// Forgets accounts, messages and certificate of earlier demos.
    #[arg(long)]
    fresh: bool,
    /// Where the node keeps its things.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Port for clients with STARTTLS, if 5222 is taken.
    #[arg(long, value_name = "PORT")]
    c2s_port: Option<u16>,
    /// Port for clients with direct TLS, if 5223 is taken.
    #[arg(long, value_name = "PORT")]
    tls_port: Option<u16>,
    /// Port for web clients, if 5280 is taken.
    #[arg(long, value_name = "PORT")]
    web_port: Option<u16>,
    /// Port for metrics, if 9091 is taken.
    #[arg(long, value_name = "PORT")]
    metrics_port: Option<u16>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Ports {
    c2s: u16,
    tls: u16,
    web: u16,
    metrics: u16,
}

#[tokio::main]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    match Box::pin(run(&flags)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(flags: &Flags) -> Result<()> {
    // Before the node starts: a signal must not leave it behind.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let data_dir = prepare_directory(flags)?;
    let ports = choose_ports(flags)?;
    let node = Node::start(&flags.binaries, &data_dir, ports)?;
    let work = async {
        node.wait_until_ready().await?;
        for (local, password) in ACCOUNTS {
            node.ensure_account(local, password)?;
        }
        if flags.check {
            return Box::pin(check(&node)).await;
        }
        println!("{}", page(&node, &flags.binaries)?);
        node.wait_until_it_ends().await
    };
    let result = tokio::select! {
        result = work => result,
        _ = interrupt.recv() => Ok(()),
        _ = terminate.recv() => Ok(()),
    };
    let status = node.stop().await?;
    result?;
    ensure!(
        status.success(),
        "the node ended with {status}; its log is {}",
        log_path(&data_dir).display()
    );
    println!("stopped");
    Ok(())
}

/// The directory of the demo; that of a check is always a new one.
fn prepare_directory(flags: &Flags) -> Result<PathBuf> {
    let name = if flags.check {
        ".data/check"
    } else {
        ".data/demo"
    };
    let directory = flags.data_dir.clone().unwrap_or_else(|| name.into());
    if (flags.check || flags.fresh) && directory.exists() {
        ensure!(
            is_of_a_demo(&directory)?,
            "{} is not of a demo, and is not removed for one",
            directory.display()
        );
        fs::remove_dir_all(&directory)
            .with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    fs::create_dir_all(&directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    Ok(directory)
}

/// Whether nothing is lost with a directory: an earlier demo wrote its log there, or it is empty.
fn is_of_a_demo(directory: &Path) -> Result<bool> {
    Ok(log_path(directory).is_file() || fs::read_dir(directory)?.next().is_none())
}

/// The ports of the flags, else the usual ones. A check takes others by itself when they are taken; a person is told.
fn choose_ports(flags: &Flags) -> Result<Ports> {
    let chosen = Ports {
        c2s: flags.c2s_port.unwrap_or(PORTS.c2s),
        tls: flags.tls_port.unwrap_or(PORTS.tls),
        web: flags.web_port.unwrap_or(PORTS.web),
        metrics: flags.metrics_port.unwrap_or(PORTS.metrics),
    };
    let named = [
        ("--c2s-port", chosen.c2s),
        ("--tls-port", chosen.tls),
        ("--web-port", chosen.web),
        ("--metrics-port", chosen.metrics),
    ];
    let taken: Vec<String> = named
        .into_iter()
        .filter(|(_, port)| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_err())
        .map(|(flag, port)| {
            let holder =
                holder_of_port(port).map_or_else(String::new, |holder| format!(" by {holder}"));
            format!("port {port} is taken{holder}: stop that, or choose another with {flag}")
        })
        .collect();
    if taken.is_empty() {
        return Ok(chosen);
    }
    if flags.check && chosen == PORTS {
        println!("the usual ports are taken; checking on others");
        return Ok(Ports {
            c2s: free_port()?,
            tls: free_port()?,
            web: free_port()?,
            metrics: free_port()?,
        });
    }
    bail!("{}", taken.join("\n"))
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// Name and number of the process that listens on a port, as far as `/proc` tells us.
fn holder_of_port(port: u16) -> Option<String> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .find_map(|path| listening_inode(path, port))?;
    let link = format!("socket:[{inode}]");
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let name = process.file_name();
        // `self` and others lie there too.
        let Some(id) = name
            .to_str()
            .filter(|name| name.bytes().all(|b| b.is_ascii_digit()))
        else {
            continue;
        };
        let path = process.path();
        let Ok(files) = fs::read_dir(path.join("fd")) else {
            continue;
        };
        if files
            .flatten()
            .any(|file| fs::read_link(file.path()).is_ok_and(|target| target == Path::new(&link)))
        {
            let program = fs::read_to_string(path.join("comm")).unwrap_or_default();
            return Some(format!("{} (process {id})", program.trim()));
        }
    }
    None
}

/// The socket in state LISTEN (`0A`) on a port, from a table of the kernel.
fn listening_inode(path: &str, port: u16) -> Option<String> {
    let table = fs::read_to_string(path).ok()?;
    table.lines().skip(1).find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let is_ours = words.get(1)?.ends_with(&format!(":{port:04X}")) && *words.get(3)? == "0A";
        is_ours
            .then(|| words.get(9).map(|inode| (*inode).to_owned()))
            .flatten()
    })
}

/// A running `meerkat`.
struct Node {
    child: std::cell::RefCell<Child>,
    binaries: PathBuf,
    data_dir: PathBuf,
    ports: Ports,
}

fn log_path(data_dir: &Path) -> PathBuf {
    data_dir.join("node.log")
}

impl Node {
    /// Starts it without a configuration file, unless ports other than the usual ones are asked for.
    fn start(binaries: &Path, data_dir: &Path, ports: Ports) -> Result<Self> {
        let mut command = Command::new(binaries.join("meerkat"));
        command.arg("--data-dir").arg(data_dir);
        if ports != PORTS {
            let path = data_dir.join("demo.toml");
            fs::write(&path, config(ports))?;
            command.arg("--config").arg(path);
        }
        let log_path = log_path(data_dir);
        let log = File::create(&log_path)
            .with_context(|| format!("cannot write {}", log_path.display()))?;
        // Ctrl-C goes to a whole process group. The node gets one signal, from us, not two.
        command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command.spawn().context("cannot start meerkat")?;
        let (binaries, data_dir) = (binaries.to_owned(), data_dir.to_owned());
        Ok(Self {
            child: child.into(),
            binaries,
            data_dir,
            ports,
        })
    }

    fn address(&self, port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, port).into()
    }

    async fn wait_until_ready(&self) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(NODE_SECS_MAX);
        loop {
            let answer = http::get(self.address(self.ports.metrics), "/readyz").await;
            if answer.is_ok_and(|answer| answer.status == 200) {
                return Ok(());
            }
            if let Some(status) = self.child.borrow_mut().try_wait()? {
                bail!("the node ended with {status}:\n{}", self.log_tail());
            }
            ensure!(
                Instant::now() < deadline,
                "the node is not ready after {NODE_SECS_MAX} s:\n{}",
                self.log_tail()
            );
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    }

    async fn wait_until_it_ends(&self) -> Result<()> {
        loop {
            if let Some(status) = self.child.borrow_mut().try_wait()? {
                bail!(
                    "the node ended by itself with {status}:\n{}",
                    self.log_tail()
                );
            }
            tokio::time::sleep(Duration::from_millis(LOOK_MS * 10)).await;
        }
    }

    fn log_tail(&self) -> String {
        let log = fs::read_to_string(log_path(&self.data_dir)).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Creates an account unless an earlier demo has.
    fn ensure_account(&self, local: &str, password: &str) -> Result<()> {
        let answer = self.control(&["checkUser", "--user", &format!("{local}@{DOMAIN}")])?;
        if answer["checkUser"]["exist"].as_bool() == Some(true) {
            return Ok(());
        }
        let register = [
            "registerUser",
            "--username",
            local,
            "--domain",
            DOMAIN,
            "--password",
            password,
        ];
        self.control(&register).map(|_| ())
    }

    fn control(&self, args: &[&str]) -> Result<serde_json::Value> {
        let mut command = Command::new(self.binaries.join("meerkatctl"));
        command
            .arg("--data-dir")
            .arg(&self.data_dir)
            .arg("account")
            .args(args);
        let output = command.output().context("cannot start meerkatctl")?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        ensure!(
            output.status.success(),
            "meerkatctl account {}: {}{}",
            args.join(" "),
            text.trim(),
            errors.trim()
        );
        let answer: serde_json::Value =
            serde_json::from_str(&text).context("meerkatctl answered no JSON")?;
        Ok(answer["data"]["account"].clone())
    }

    /// Asks it to end and waits for that.
    async fn stop(&self) -> Result<ExitStatus> {
        let id = i32::try_from(self.child.borrow().id())
            .ok()
            .and_then(Pid::from_raw);
        let id = id.ok_or_else(|| anyhow!("the node has no process number"))?;
        if self.child.borrow_mut().try_wait()?.is_none() {
            kill_process(id, Signal::TERM).context("cannot send a signal to the node")?;
        }
        let deadline = Instant::now() + Duration::from_secs(NODE_SECS_MAX);
        loop {
            if let Some(status) = self.child.borrow_mut().try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                self.child.borrow_mut().kill()?;
                bail!("the node did not end within {NODE_SECS_MAX} s and was killed");
            }
            tokio::time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    }
}

/// What a node without configuration has, on other ports.
fn config(ports: Ports) -> String {
    let Ports {
        c2s,
        tls,
        web,
        metrics,
    } = ports;
    format!(
        "[general]\nhosts = [\"{DOMAIN}\"]\nloglevel = \"info\"\n\n\
         [[listen.c2s]]\nport = {c2s}\nip_address = \"127.0.0.1\"\ntls.mode = \"starttls\"\n\n\
         [[listen.c2s]]\nport = {tls}\nip_address = \"127.0.0.1\"\ntls.mode = \"tls\"\n\n\
         [[listen.http]]\nport = {web}\nip_address = \"127.0.0.1\"\n\n\
         [[listen.http.handlers.mongoose_bosh_handler]]\nhost = \"_\"\npath = \"/http-bind\"\n\n\
         [[listen.http.handlers.mongoose_websocket_handler]]\nhost = \"_\"\npath = \"/ws-xmpp\"\n\n\
         [[listen.http]]\nport = {metrics}\nip_address = \"127.0.0.1\"\n\n\
         [[listen.http.handlers.mongoose_prometheus_handler]]\nhost = \"_\"\npath = \"/metrics\"\n\n\
         [modules.mod_roster]\nversioning = true\n[modules.mod_presence]\n[modules.mod_offline]\n[modules.mod_ping]\n\
         [modules.mod_version]\n[modules.mod_time]\n[modules.mod_private]\n[modules.mod_vcard]\n[modules.mod_last]\n[modules.mod_privacy]\n[modules.mod_blocking]\n[modules.mod_carboncopy]\n[modules.mod_csi]\n[modules.mod_caps]\n[modules.mod_disco]\n[modules.mod_stream_management]\n"
    )
}

/// Three clients log in, each in its own way, and talk.
async fn check(node: &Node) -> Result<()> {
    let account = |(local, password): (&str, &str)| Account {
        local: local.to_owned(),
        domain: DOMAIN.to_owned(),
        password: password.to_owned(),
    };
    let [romeo, juliet] = ACCOUNTS.map(account);
    let Ports {
        c2s,
        tls,
        web,
        metrics,
        ..
    } = node.ports;
    let connect = async |port, account, resource, security| {
        let address = node.address(port);
        Box::pin(Client::connect(address, account, Some(resource), security)).await
    };
    let mut sender = connect(c2s, romeo, "demo", Security::StartTls).await?;
    let mut receiver = connect(tls, juliet.clone(), "demo", Security::DirectTls).await?;
    receiver.send("<presence/>").await?;
    receiver.fence().await?;
    receiver.inbox().clear();
    let bare = juliet.bare().to_string();
    write(&mut sender, &bare, &mut receiver, "Good night, good night!").await?;
    let metrics = http::get(node.address(metrics), "/metrics").await?;
    ensure!(
        metrics.body.contains("xmpp_c2s_sessions 2"),
        "the metrics do not show two sessions:\n{}",
        metrics.body
    );
    let mut browser = connect(web, juliet, "web", Security::WebSocket).await?;
    let full = browser.jid().to_owned();
    write(
        &mut sender,
        &full,
        &mut browser,
        "A thousand times good night!",
    )
    .await?;
    browser.disconnect().await?;
    sender.disconnect().await?;
    receiver.disconnect().await?;
    println!(
        "three clients logged in, over STARTTLS, direct TLS and WebSocket, and messages went from one to the others"
    );
    Ok(())
}

/// A message goes from one client to another.
async fn write(sender: &mut Client, to: &str, receiver: &mut Client, body: &str) -> Result<()> {
    let message = format!("<message to='{to}' type='chat'><body>{body}</body></message>");
    sender.send(&message).await?;
    let message = receiver.next_element().await?;
    let text = message.child("body", ns::CLIENT);
    ensure!(
        text.is_some_and(|text| text.text() == body),
        "expected the message, got {}",
        message.to_xml()
    );
    ensure!(
        message.attr("from") == Some(sender.jid()),
        "the message is from {:?}",
        message.attr("from")
    );
    Ok(())
}

fn page(node: &Node, binaries: &Path) -> Result<String> {
    let Ports {
        c2s,
        tls,
        web,
        metrics,
    } = node.ports;
    let [(romeo, romeo_password), (juliet, juliet_password)] = ACCOUNTS;
    let data_dir = node.data_dir.display();
    let control = binaries.join("meerkatctl");
    let control = control
        .strip_prefix(std::env::current_dir()?)
        .unwrap_or(&control)
        .display();
    let certificate = node.data_dir.join(CERTIFICATE);
    let der = CertificateDer::from_pem_file(&certificate)
        .with_context(|| format!("no certificate in {}", certificate.display()))?;
    let (sha256, sha1) = (
        fingerprint(&Sha256::digest(&der)),
        fingerprint(&Sha1::digest(&der)),
    );
    Ok(format!(
        "
Meerkat is running on this machine.

  Accounts     {romeo}@{DOMAIN}    password  {romeo_password}
               {juliet}@{DOMAIN}   password  {juliet_password}

  Clients      127.0.0.1:{c2s}   STARTTLS
               127.0.0.1:{tls}   TLS from the first byte (XEP-0368)
               ws://127.0.0.1:{web}/ws-xmpp   WebSocket, for clients in a browser
               http://127.0.0.1:{web}/http-bind   BOSH

  Certificate  {certificate}, made by the node itself, so each client has to be told to trust it
               SHA-256  {sha256}
               SHA-1    {sha1}
{clients}
  Metrics      http://127.0.0.1:{metrics}/metrics   (and /healthz, /readyz)
  Log          {data_dir}/node.log
  Administer   {control} --data-dir {data_dir} --help
  Stop         Ctrl-C
",
        certificate = certificate.display(),
        clients = ways_to_connect(c2s, &certificate),
    ))
}

/// How each client is told where the node is, and that its certificate is good.
fn ways_to_connect(c2s: u16, certificate: &Path) -> String {
    let [(romeo, _), _] = ACCOUNTS;
    let certificate = certificate.display();
    let is_usual = c2s == PORTS.c2s;
    let gajim_settings = match is_usual {
        true => String::new(),
        false => format!(" with the advanced settings host 127.0.0.1, port {c2s}, Start TLS"),
    };
    let dino = match is_usual {
        true => format!(
            "trusts what the system trusts; on Debian:
                 sudo cp {certificate} /usr/local/share/ca-certificates/meerkat-demo.crt
                 sudo update-ca-certificates
               then start Dino and add the account"
        ),
        false => format!("connects to port {} only", PORTS.c2s),
    };
    format!(
        "
  Profanity    /connect {romeo}@{DOMAIN} server 127.0.0.1 port {c2s}
               then compare the fingerprint (SHA-1), and type /tls always
  Gajim        add the account{gajim_settings}; compare the fingerprints behind
               \"Show Certificate\", tick \"Add to Trusted Certificates\", and log in
  Dino         {dino}
  slixmpp      client.ssl_context.load_verify_locations('{certificate}')
               client.connect('127.0.0.1', {c2s})
"
    )
}

/// As programs show it, sixteen bytes a line.
fn fingerprint(digest: &[u8]) -> String {
    let line = |bytes: &[u8]| {
        let pairs: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        pairs.join(":")
    };
    let lines: Vec<String> = digest.chunks(16).map(line).collect();
    lines.join("\n                        ")
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn the_file_for_other_ports_says_what_a_node_without_a_file_does() {
        let parsed = server::config::Config::parse(&config(PORTS), "demo.toml");
        assert_eq!(parsed.unwrap(), server::config::Config::zero());
    }

    #[test]
    fn only_the_directory_of_a_demo_is_removed() {
        let directory = std::env::temp_dir().join(format!("demo-test-{}", std::process::id()));
        fs::create_dir(&directory).unwrap();
        assert!(is_of_a_demo(&directory).unwrap());
        fs::write(directory.join("letters"), "").unwrap();
        assert!(!is_of_a_demo(&directory).unwrap());
        fs::write(log_path(&directory), "").unwrap();
        assert!(is_of_a_demo(&directory).unwrap());
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn clients_are_told_of_another_port() {
        let at = |port| ways_to_connect(port, Path::new("cert.pem"));
        assert!(at(5222).contains("sudo cp cert.pem /usr/local"));
        assert!(at(6222).contains("host 127.0.0.1, port 6222, Start TLS"));
        assert!(!at(6222).contains("sudo cp"));
    }

    #[test]
    fn a_fingerprint_is_as_programs_show_it() {
        assert_eq!(fingerprint(&[0x0a, 0xff, 0x00]), "0A:FF:00");
        assert_eq!(fingerprint(&[1; 20]).lines().count(), 2);
    }

    #[test]
    fn who_holds_a_port_is_named() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let holder = holder_of_port(port).unwrap();
        assert!(
            holder.ends_with(&format!("(process {})", std::process::id())),
            "{holder}"
        );
        drop(listener);
        assert_eq!(holder_of_port(port), None);
    }
}
