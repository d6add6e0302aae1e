//! Clients of others against our node. Slow, so they run with `RUN_SLOW_TESTS=1`. `INTEROP_PYTHON` names a Python that
//! has what `tests/interop/requirements.txt` lists, `DEBIAN_PYTHON` one that has Debian's packages, `INTEROP_MODULES` the
//! folder with what `tests/interop/web/package.json` lists; Profanity, Node and Chromium are taken from the path.
//! `cargo xtask test` sees to all of that.
use std::path::{Path, PathBuf};
use std::process::Command;

use tests::client::{Account, Security};
use tests::scenario::PASSWORD;
use tests::target::{DOMAIN, Setup, Target};

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
    if std::env::var_os("RUN_SLOW_TESTS").is_none() {
        return;
    }
    let modules = std::env::var_os("INTEROP_MODULES").expect("INTEROP_MODULES names a folder");
    let target = start("").await;
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
    run(command, script, target).await;
}

/// Runs a script with the accounts romeo and juliet on a server of its own. `interpreter` is the variable that names
/// what runs it.
async fn run_script(interpreter: &str, script: &str) {
    run_script_with(interpreter, script, "").await;
}

/// The same on a server with more in its configuration.
async fn run_script_with(interpreter: &str, script: &str, config: &str) {
    if std::env::var_os("RUN_SLOW_TESTS").is_none() {
        return;
    }
    let python = std::env::var_os(interpreter).unwrap_or_else(|| "python3".into());
    let target = start(config).await;
    let (address, tls_address) = (
        target.address(Security::StartTls),
        target.address(Security::DirectTls),
    );
    let mut command = Command::new(python);
    command
        // No byte code beside the sources.
        .arg("-B")
        .arg(directory().join(script))
        .args(["--host", &address.ip().to_string()])
        .args(["--port", &address.port().to_string()])
        .args(["--tls-port", &tls_address.port().to_string()])
        .args(["--domain", DOMAIN, "--password", PASSWORD])
        .arg("--certificate")
        .arg(target.certificate());
    run(command, script, target).await;
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("interop")
}

/// A server with the accounts romeo and juliet, and with more in its configuration.
async fn start(config: &str) -> Target {
    let accounts = ["romeo", "juliet"].map(|local| Account {
        local: local.to_owned(),
        domain: DOMAIN.to_owned(),
        password: PASSWORD.to_owned(),
    });
    let setup = Setup {
        accounts: accounts.to_vec(),
        config: config.to_owned(),
        ..Setup::default()
    };
    Target::start(peer(), setup).await.unwrap()
}

/// Waits for the end of a script, which says what went wrong.
async fn run(mut command: Command, script: &str, target: Target) {
    let output = tokio::task::spawn_blocking(move || command.output())
        .await
        .unwrap()
        .unwrap();
    target.stop().await.unwrap();
    assert!(
        output.status.success(),
        "{script}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
}
