//! Clients of others against our node. Slow, so they run with `RUN_SLOW_TESTS=1`. `INTEROP_PYTHON` names a Python that
//! has what `tests/interop/requirements.txt` lists, `DEBIAN_PYTHON` one that has Debian's packages; Profanity is taken
//! from the path. `cargo xtask test` sees to all of that.
use std::path::Path;
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
    let target = Target::start(peer(), setup).await.unwrap();
    let (address, tls_address) = (
        target.address(Security::StartTls),
        target.address(Security::DirectTls),
    );
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("interop")
        .join(script);
    let mut command = Command::new(python);
    command
        // No byte code beside the sources.
        .arg("-B")
        .arg(path)
        .args(["--host", &address.ip().to_string()])
        .args(["--port", &address.port().to_string()])
        .args(["--tls-port", &tls_address.port().to_string()])
        .args(["--domain", DOMAIN, "--password", PASSWORD])
        .arg("--certificate")
        .arg(target.certificate());
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
