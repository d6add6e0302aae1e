//! Bad input that takes a whole process: files that are at fault, and logs that could tell secrets. What clients send is
//! in the scenarios and in the unit tests; `docs/security.md` lists them all.
use std::fs;
use std::net::TcpListener;

use anyhow::{Context, Result, ensure};
use protocol::sasl::{ClientBinding, ScramClient, ScramHash, encode_base64, random_nonce};
use protocol::{Element, ns};
use tests::http;
use tests::light::{self, Light, Way};
use tests::process::{Home, Process, Setup, run_to_the_end};
use tests::target::DOMAIN;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// The node's exit codes.
const FAILED: Option<i32> = Some(1);
const WRONG_USAGE: Option<i32> = Some(2);
const CONFIGURATION: Option<i32> = Some(78);

/// Security cases K05 and T13.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k05_a_broken_file_is_told_and_leaves_the_old_one_in_use() {
    break_files().await.unwrap();
}

async fn break_files() -> Result<()> {
    let home = Home::new(&Setup::default(), &["romeo".to_owned()]).await?;
    let node = Process::start(&home).await?;
    let failures = async |what: &str| -> Result<u64> {
        let page = http::get(node.metrics, "/metrics").await?.body;
        let name = format!("xmpp_reload_failures_total{{what=\"{what}\"}} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&name));
        Ok(line.with_context(|| page.clone())?.trim().parse()?)
    };
    ensure!(failures("configuration").await? == 0);
    home.change_config("loglevel = \"info\"", "loglvel = \"debug\"")?;
    node.hang_up()?;
    node.logged("configuration is at fault").await?;
    log_in(&node).await?;
    ensure!(failures("configuration").await? == 1);

    let certificate = home.data_dir().join("self-signed-cert.pem");
    let good = fs::read(&certificate)?;
    fs::write(&certificate, "-----BEGIN CERTIFICATE-----\nbroken\n")?;
    node.hang_up()?;
    node.logged("certificates stay as they were").await?;
    log_in(&node).await?;
    ensure!(failures("certificates").await? == 1);

    fs::write(&certificate, good)?;
    home.change_config("loglvel = \"debug\"", "loglevel = \"debug\"")?;
    node.hang_up()?;
    node.logged("configuration read again").await?;
    // Only now is it told.
    log_in(&node).await?;
    node.logged("logged in").await?;
    ensure!(failures("certificates").await? == 1);
    Ok(())
}

async fn log_in(node: &Process) -> Result<()> {
    let mut client = Light::log_in(Way::Tls(node.c2s_tls), "romeo").await?;
    client.bind("home").await?;
    client.close().await
}

/// Security case K01: what a service manager has to know is whether a restart can help.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k01_exit_codes_tell_what_is_at_fault() {
    let home = Home::new(&Setup::default(), &[]).await.unwrap();
    let config = home.config().display().to_string();
    let run = async |args: &[&str]| {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        run_to_the_end(args).await.unwrap()
    };
    let (code, said) = run(&["--confg", &config]).await;
    assert_eq!(code, WRONG_USAGE, "{said}");
    let (code, said) = run(&["--check-config", &config]).await;
    assert_eq!((code, said.contains("no findings")), (Some(0), true));
    let (code, said) = run(&["--config", "/does/not/exist.toml"]).await;
    assert_eq!(code, CONFIGURATION, "{said}");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("port = {}", taken.local_addr().unwrap().port());
    home.change_config("port = 0", &port).unwrap();
    let (code, said) = run(&["--config", &config]).await;
    assert_eq!(code, FAILED, "{said}");
    assert!(said.contains("cannot listen on"), "{said}");

    home.change_config(&port, "port = 0").unwrap();
    let _node = Process::start(&home).await.unwrap();
    let (code, said) = run(&["--config", &config]).await;
    assert_eq!(code, FAILED, "{said}");
    assert!(said.contains("another node uses"), "{said}");

    home.change_config("[auth.password]", "[auth.pasword]")
        .unwrap();
    for flag in ["--config", "--check-config"] {
        let (code, said) = run(&[flag, &config]).await;
        assert_eq!(code, CONFIGURATION, "{said}");
        assert!(said.contains("did you mean `password`?"), "{said}");
    }
}

/// Security case A23. The log is as talkative as it can be.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a23_no_secret_and_no_content_is_logged() {
    let home = Home::new(&Setup::default(), &["romeo".to_owned()])
        .await
        .unwrap();
    home.change_config("loglevel = \"info\"", "loglevel = \"debug\"")
        .unwrap();
    let node = Process::start(&home).await.unwrap();
    let secrets = tell_secrets(&home, &node).await.unwrap();
    node.terminate().unwrap();
    let (status, lines) = node.ended().await.unwrap();
    assert!(status.success());
    let log = lines.join("\n");
    assert!(log.contains("logged in"), "it tells of logins:\n{log}");
    for secret in &secrets {
        assert!(!log.contains(secret), "{secret} stands in\n{log}");
    }
    assert_eq!(secrets.len(), 9);
}

/// Logs in, rightly and wrongly, and sends a message. Returns what nobody else may learn.
async fn tell_secrets(home: &Home, node: &Process) -> Result<Vec<String>> {
    let mut secrets = vec![light::PASSWORD.to_owned()];
    let made = "made-by-the-command-line";
    secrets.push(made.to_owned());
    register(home, "juliet", made).await?;

    let way = Way::Tls(node.c2s_tls);
    for (name, password, answer) in [
        ("romeo", light::PASSWORD, "success"),
        ("juliet", made, "success"),
        ("romeo", "wrong-and-not-for-you", "failure"),
        ("nobody", "wrong-for-nobody", "failure"),
    ] {
        let mut client = Light::dial(way).await?;
        client.open_stream().await?;
        let text = encode_base64(format!("\0{name}\0{password}").as_bytes());
        let answered = auth(&mut client, "PLAIN", &text).await?;
        ensure!(answered.name() == answer, "{}", answered.to_xml());
        secrets.extend([text]);
    }
    // What is not well-formed, in the middle of a login.
    let mut client = Light::dial(way).await?;
    client.open_stream().await?;
    let broken = "c2VjcmV0LW9mLWEtYnJva2VuLWNsaWVudA";
    client
        .send(&format!(
            "<auth xmlns='{}' mechanism='PLAIN'>{broken}<</auth>",
            ns::SASL
        ))
        .await?;
    ensure!(client.element().await?.is("error", ns::STREAM));
    secrets.push(broken.to_owned());

    secrets.push(guess_by_scram(way).await?);
    let mut client = Light::log_in(way, "romeo").await?;
    client.bind("home").await?;
    let words = "words for one reader alone";
    client
        .send(&format!(
            "<message to='juliet@{DOMAIN}'><body>{words}</body></message>"
        ))
        .await?;
    client.close().await?;
    secrets.push(words.to_owned());
    Ok(secrets)
}

async fn auth(client: &mut Light, mechanism: &str, text: &str) -> Result<Element> {
    let sasl = ns::SASL;
    client
        .send(&format!(
            "<auth xmlns='{sasl}' mechanism='{mechanism}'>{text}</auth>"
        ))
        .await?;
    client.element().await
}

/// A wrong password by SCRAM; returns the proof, from which it could be found.
async fn guess_by_scram(way: Way) -> Result<String> {
    let mut client = Light::dial(way).await?;
    client.open_stream().await?;
    let nonce = random_nonce();
    let mut scram = ScramClient::new(
        ScramHash::Sha256,
        ClientBinding::None,
        "romeo",
        "a guess",
        &nonce,
    );
    let challenge = auth(&mut client, "SCRAM-SHA-256", &encode_base64(&scram.first())).await?;
    let challenge = protocol::sasl::decode_base64(&challenge.text());
    let challenge = challenge.ok().context("the challenge is base64")?;
    let response = scram.respond(&challenge)?;
    let text = encode_base64(&response);
    client
        .send(&format!("<response xmlns='{}'>{text}</response>", ns::SASL))
        .await?;
    ensure!(client.element().await?.name() == "failure");
    let response = String::from_utf8(response)?;
    let (_, proof) = response.rsplit_once(",p=").context("it has a proof")?;
    Ok(proof.to_owned())
}

/// As `meerkatctl` does it.
async fn register(home: &Home, username: &str, password: &str) -> Result<()> {
    let mut socket = UnixStream::connect(home.data_dir().join("meerkat.sock")).await?;
    let request = serde_json::json!({
        "query": "mutation($domain: DomainName!, $username: UserName, $password: String!) { account { \
            registerUser(domain: $domain, username: $username, password: $password) { message } } }",
        "variables": { "domain": DOMAIN, "username": username, "password": password },
    });
    socket.write_all(request.to_string().as_bytes()).await?;
    socket.shutdown().await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    ensure!(answer.contains("successfully registered"), "{answer}");
    Ok(())
}
