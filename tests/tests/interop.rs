//! Clients of others against our node. Slow, so they run with `RUN_SLOW_TESTS=1`. `INTEROP_PYTHON` names a Python that
//! has what `tests/interop/requirements.txt` lists, `DEBIAN_PYTHON` one that has Debian's packages, `INTEROP_MODULES` the
//! folder with what `tests/interop/web/package.json` lists; Profanity, HAProxy, Node and Chromium are taken from the
//! path. `cargo xtask test` sees to all of that.
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use tests::client::{Account, Security};
use tests::scenario::PASSWORD;
use tests::target::{DOMAIN, Directory, Setup, Target, free_address};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::peer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interop_slixmpp_chats_and_resumes() {
    run_script("INTEROP_PYTHON", "slixmpp_chat.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interop_slixmpp_registers_is_asked_and_rests() {
    let config = "[modules.mod_register]\n";
    run_script_with("INTEROP_PYTHON", "slixmpp_account.py", config).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interop_profanity_chats_and_resumes() {
    run_script("INTEROP_PYTHON", "profanity_chat.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interop_nbxmpp_chats_and_resumes() {
    run_script("DEBIAN_PYTHON", "nbxmpp_chat.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interop_slixmpp_component_answers_and_reconnects() {
    let config = format!(
        "[[listen.component]]\nport = 0\nip_address = \"127.0.0.1\"\npassword = \"{PASSWORD}\"\n\
         conflict_behaviour = \"kick_old\"\n"
    );
    run_script_with("INTEROP_PYTHON", "slixmpp_component.py", &config).await;
}

/// A balancer of Debian in front of the node: it announces clients in both versions of the PROXY protocol, and checks
/// the port. Past it nobody gets in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interop_haproxy_announces_clients() {
    for word in ["send-proxy", "send-proxy-v2 proxy-v2-options crc32c"] {
        let Some(target) = start_for_script("", "proxy_protocol = true").await else {
            return;
        };
        let balancer = Balancer::start(target.address(Security::StartTls), word).await;
        let ports = Ports {
            starttls: balancer.address,
            tls: target.address(Security::DirectTls),
        };
        run_python("INTEROP_PYTHON", "slixmpp_chat.py", &target, ports).await;
        let mut direct = TcpStream::connect(ports.tls).await.unwrap();
        direct.write_all(b"\x16\x03\x01").await.unwrap();
        let got = direct.read(&mut [0; 16]).await.unwrap_or(0);
        assert_eq!(got, 0, "a client that is not announced gets nothing");
        target.stop().await.unwrap();
    }
}

/// HAProxy in the foreground. Killed when dropped.
struct Balancer {
    child: Child,
    address: SocketAddr,
    _directory: Directory,
}

impl Balancer {
    /// Starts it and waits until it has its port.
    async fn start(node: SocketAddr, word: &str) -> Self {
        let directory = Directory::new().unwrap();
        let address = free_address().unwrap();
        let config = directory.path.join("haproxy.cfg");
        let text = format!(
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n\
             listen xmpp\n  bind {address}\n  server node {node} check inter 50ms {word}\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new("haproxy");
        let child = command.arg("-db").arg("-f").arg(config).spawn().unwrap();
        let balancer = Self {
            child,
            address,
            _directory: directory,
        };
        let open = async {
            while TcpStream::connect(address).await.is_err() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let open = tokio::time::timeout(Duration::from_secs(20), open).await;
        open.expect("the balancer starts");
        balancer
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interop_scramp_logs_in_with_channel_binding() {
    run_script("INTEROP_PYTHON", "channel_binding.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interop_strophe_chats_and_goes_on_after_a_reload() {
    run_in_browser("strophe_chat.mjs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interop_xmppjs_chats_and_resumes() {
    run_in_browser("xmppjs_chat.mjs").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interop_converse_is_used_by_two_people() {
    run_in_browser("converse_chat.mjs").await;
}

/// Runs a script that drives Chromium, with the accounts romeo and juliet on a server of its own.
async fn run_in_browser(script: &str) {
    let Some(target) = start_for_script("", "").await else {
        return;
    };
    let modules = std::env::var_os("INTEROP_MODULES").expect("INTEROP_MODULES names a folder");
    let (address, tls_address) = (
        target.address(Security::WebSocket),
        target.address(Security::SecureWebSocket),
    );
    let mut command = Command::new("node");
    command
        .arg(directory().join("web").join(script))
        .arg("--modules")
        .arg(modules)
        .args(["--host", &address.ip().to_string()])
        .args(["--port", &address.port().to_string()])
        .args(["--tls-port", &tls_address.port().to_string()])
        .args(["--domain", DOMAIN, "--password", PASSWORD]);
    run(command, script).await;
    target.stop().await.unwrap();
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("interop")
}

/// Runs a script with the accounts romeo and juliet on a server of its own. `interpreter` is the variable that names
/// what runs it.
async fn run_script(interpreter: &str, script: &str) {
    run_script_with(interpreter, script, "").await;
}

/// The same on a server with more in its configuration.
async fn run_script_with(interpreter: &str, script: &str, config: &str) {
    if let Some(target) = start_for_script(config, "").await {
        let ports = Ports {
            starttls: target.address(Security::StartTls),
            tls: target.address(Security::DirectTls),
        };
        run_python(interpreter, script, &target, ports).await;
        target.stop().await.unwrap();
    }
}

/// A server with the accounts romeo and juliet, if slow tests are to run.
async fn start_for_script(config: &str, listener: &str) -> Option<Target> {
    std::env::var_os("RUN_SLOW_TESTS")?;
    let accounts = ["romeo", "juliet"].map(|local| Account {
        local: local.to_owned(),
        domain: DOMAIN.to_owned(),
        password: PASSWORD.to_owned(),
    });
    let setup = Setup {
        accounts: accounts.to_vec(),
        config: config.to_owned(),
        listener: listener.to_owned(),
    };
    Some(Target::start(peer(), setup).await.unwrap())
}

/// Where the clients of a script connect.
#[derive(Clone, Copy)]
struct Ports {
    starttls: SocketAddr,
    tls: SocketAddr,
}

async fn run_python(interpreter: &str, script: &str, target: &Target, ports: Ports) {
    let python = std::env::var_os(interpreter).unwrap_or_else(|| "python3".into());
    let mut command = Command::new(python);
    command
        // No byte code beside the sources.
        .arg("-B")
        .arg(directory().join(script))
        .args(["--host", &ports.starttls.ip().to_string()])
        .args(["--port", &ports.starttls.port().to_string()])
        .args(["--tls-port", &ports.tls.port().to_string()])
        .args(["--domain", DOMAIN, "--password", PASSWORD])
        .arg("--certificate")
        .arg(target.certificate());
    if let Some(component) = target.component() {
        command.args(["--component-port", &component.port().to_string()]);
    }
    run(command, script).await;
}

/// Waits for the end of a script, which says what went wrong.
async fn run(mut command: Command, script: &str) {
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    assert!(
        output.status.success(),
        "{script}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}
