//! A node administrated as an operator does it: `meerkatctl` as a program, through the socket and over HTTP.
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context, Result, ensure};
use protocol::Element;
use serde_json::{Value, json};
use tests::light::{Light, Way};
use tests::process::{Ended, Home, Process, Setup, meerkatctl};

/// The admin API with a password, plain and with TLS.
const PORTS: &str = "\n[[listen.http]]\nport = 0\nip_address = \"127.0.0.1\"\n\
     [[listen.http.handlers.mongoose_graphql_handler]]\nhost = \"_\"\nschema_endpoint = \"admin\"\n\
     username = \"admin\"\npassword = \"well chosen\"\n\
     [[listen.http]]\nport = 0\nip_address = \"127.0.0.1\"\ntls = {}\n\
     [[listen.http.handlers.mongoose_graphql_handler]]\nhost = \"localhost\"\nschema_endpoint = \"admin\"\n\
     username = \"admin\"\npassword = \"well chosen\"\nallowed_categories = [\"account\"]\n";

struct Operator {
    home: Home,
    node: Process,
    ports: Vec<SocketAddr>,
}

impl Operator {
    async fn new(accounts: &[&str]) -> Result<Self> {
        let setup = Setup {
            tables: PORTS.to_owned(),
            ..Setup::default()
        };
        let accounts: Vec<String> = accounts.iter().map(|name| (*name).to_owned()).collect();
        let home = Home::new(&setup, &accounts).await?;
        // There is a password in it.
        fs::set_permissions(home.config(), fs::Permissions::from_mode(0o600))?;
        let node = Process::start(&home).await?;
        let lines = node.log_lines();
        let lines = lines
            .iter()
            .filter(|line| line.contains("the admin api is served"));
        let ports = lines.filter_map(|line| line.split_once("address=")?.1.parse().ok());
        let ports = ports.collect();
        Ok(Self { home, node, ports })
    }

    /// Through the socket.
    async fn here(&self, args: &[&str], input: &str) -> Result<Ended> {
        let data_dir = self.home.data_dir().display().to_string();
        meerkatctl(&[args, &["--data-dir", &data_dir]].concat(), input).await
    }

    /// What a command through the socket answers with.
    async fn answer(&self, args: &[&str]) -> Result<Value> {
        let ended = self.here(args, "").await?;
        ensure!(
            ended.code == Some(0),
            "{args:?}: {}{}",
            ended.stdout,
            ended.stderr
        );
        ensure!(ended.stderr.is_empty(), "{}", ended.stderr);
        Ok(serde_json::from_str(&ended.stdout)?)
    }
}

/// The next element of that name.
async fn next(client: &mut Light, name: &str) -> Result<Element> {
    loop {
        let element = client.element().await?;
        if element.name() == name {
            return Ok(element);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_works_through_the_socket() {
    through_the_socket().await.unwrap();
}

async fn through_the_socket() -> Result<()> {
    let operator = Operator::new(&["juliet"]).await?;
    accounts(&operator).await?;
    sessions(&operator).await?;
    levels(&operator).await?;
    let document = "query($d: DomainName!) { account { countUsers(domain: $d) } }";
    let variables = r#"{"d": "localhost"}"#;
    let counted = operator
        .answer(&["graphql", document, "--variables", variables])
        .await?;
    ensure!(counted["data"]["account"]["countUsers"] == 2, "{counted}");
    operator.answer(&["stop"]).await?;
    let (status, _) = operator.node.ended().await?;
    ensure!(status.success(), "{status}");
    let nobody = meerkatctl(&["status", "--data-dir", "nowhere"], "").await?;
    ensure!(nobody.code == Some(3) && nobody.stderr.contains("no node answers"));
    Ok(())
}

/// An account is made, and its password is asked for and not told.
async fn accounts(operator: &Operator) -> Result<()> {
    let register = [
        "account",
        "registerUser",
        "--username",
        "romeo",
        "--domain",
        "localhost",
    ];
    let register = [&register[..], &["--password", "-"]].concat();
    let made = operator.here(&register, "pass word\n").await?;
    ensure!(made.code == Some(0), "{}{}", made.stdout, made.stderr);
    let made: Value = serde_json::from_str(&made.stdout)?;
    ensure!(made["data"]["account"]["registerUser"]["jid"] == "romeo@localhost");
    let again = operator.here(&register, "pass word\n").await?;
    ensure!(
        again.code == Some(1) && again.stderr.contains("(exists)"),
        "{}",
        again.stderr
    );
    ensure!(
        again.stdout.contains("\"code\": \"exists\""),
        "{}",
        again.stdout
    );
    let checked = operator
        .here(
            &[
                "account",
                "checkPassword",
                "--user",
                "romeo@localhost",
                "--password",
                "-",
            ],
            "pass word\n",
        )
        .await?;
    ensure!(
        checked.stdout.contains("\"correct\": true"),
        "{}",
        checked.stdout
    );
    ensure!(!checked.stdout.contains("pass word"));
    Ok(())
}

/// What a command does is seen by those who are there.
async fn sessions(operator: &Operator) -> Result<()> {
    let mut juliet = Light::log_in(Way::Tls(operator.node.c2s_tls), "juliet").await?;
    juliet.bind("balcony").await?;
    let listed = operator.answer(&["session", "listSessions"]).await?;
    let sessions = &listed["data"]["session"]["listSessions"];
    ensure!(
        sessions[0]["user"] == "juliet@localhost/balcony",
        "{listed}"
    );
    ensure!(sessions[0]["connection"] == "c2s_tls", "{listed}");
    let kicked = operator
        .answer(&["session", "kickUser", "--user", "juliet@localhost"])
        .await?;
    ensure!(kicked["data"]["session"]["kickUser"][0]["kicked"] == json!(true));
    let left = operator.answer(&["session", "countSessions"]).await?;
    ensure!(left["data"]["session"]["countSessions"] == 0, "{left}");
    Ok(())
}

/// The level of the log is set, and what was done is written down whatever it is.
async fn levels(operator: &Operator) -> Result<()> {
    for level in ["WARNING", "INFO"] {
        operator
            .answer(&["server", "setLoglevel", "--level", level])
            .await?;
        let found = operator.answer(&["server", "getLoglevel"]).await?;
        ensure!(found["data"]["server"]["getLoglevel"] == level, "{found}");
    }
    let lines = operator.node.log_lines();
    for command in [
        "account.registerUser",
        "session.kickUser",
        "server.setLoglevel",
    ] {
        let is_written =
            |line: &String| line.contains("admin commands ran") && line.contains(command);
        ensure!(
            lines.iter().any(is_written),
            "{command}: {}",
            lines.join("\n")
        );
    }
    ensure!(!lines.iter().any(|line| line.contains("pass word")));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_works_over_http() {
    over_http().await.unwrap();
}

async fn over_http() -> Result<()> {
    let operator = Operator::new(&[]).await?;
    let [plain, tls] = operator.ports[..] else {
        anyhow::bail!("it serves {:?}", operator.ports)
    };
    let (plain, tls) = (
        format!("http://{plain}/api/graphql"),
        format!("https://localhost:{}/api/graphql", tls.port()),
    );
    let password = operator.home.data_dir().join("password");
    fs::write(&password, "well chosen\n")?;
    let password = password.display().to_string();
    let login = ["--user", "admin", "--password-file", &password];
    let ask = async |args: &[&str], input: &str| meerkatctl(args, input).await;

    let status = ask(&[&["--url", &plain], &login[..], &["status"]].concat(), "").await?;
    ensure!(status.code == Some(0), "{}{}", status.stdout, status.stderr);
    ensure!(status.stdout.contains("RUNNING"), "{}", status.stdout);
    let from_input = [
        "--url",
        &plain,
        "--user",
        "admin",
        "--password-file",
        "-",
        "status",
    ];
    let status = ask(&from_input, "well chosen\n").await?;
    ensure!(status.code == Some(0), "{}", status.stderr);
    let wrong = ask(&from_input, "well chosem\n").await?;
    is_refused(&wrong, "(wrong_credentials)")?;
    let none = ask(&["--url", &plain, "status"], "").await?;
    is_refused(&none, "(no_permissions)")?;

    // The node's certificate is of its own making: it has to be named.
    let count = ["account", "countUsers", "--domain", "localhost"];
    let secure = [&["--url", &tls], &login[..]].concat();
    let refused = ask(&[&secure[..], &count].concat(), "").await?;
    ensure!(
        refused.code == Some(3),
        "{}{}",
        refused.stdout,
        refused.stderr
    );
    let cert = operator.home.data_dir().join("self-signed-cert.pem");
    let cert = cert.display().to_string();
    let secure = [&secure[..], &["--cacert", &cert]].concat();
    let counted = ask(&[&secure[..], &count].concat(), "").await?;
    ensure!(
        counted.code == Some(0),
        "{}{}",
        counted.stdout,
        counted.stderr
    );
    ensure!(
        counted.stdout.contains("\"countUsers\": 0"),
        "{}",
        counted.stdout
    );
    let closed = ask(&[&secure[..], &["status"]].concat(), "").await?;
    is_refused(&closed, "(category_disabled)")
}

fn is_refused(ended: &Ended, code: &str) -> Result<()> {
    ensure!(
        ended.code == Some(1) && ended.stderr.contains(code),
        "{}",
        ended.stderr
    );
    Ok(())
}

/// Who was told that a message is sent can rely on it, as can its receiver: it survives the node.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_operator_has_sent_survives_a_crash() {
    survive().await.unwrap();
}

async fn survive() -> Result<()> {
    let operator = Operator::new(&["romeo", "juliet"]).await?;
    let mut juliet = Light::log_in(Way::Tls(operator.node.c2s_tls), "juliet").await?;
    juliet.bind("balcony").await?;
    juliet.enable().await?;
    juliet.send("<presence/>").await?;
    next(&mut juliet, "presence").await?;
    // It stands in her outlet, and she has not said that she has it.
    let sent = operator
        .answer(&[
            "stanza",
            "sendMessage",
            "--from",
            "romeo@localhost",
            "--to",
            "juliet@localhost",
            "--body",
            "hi",
        ])
        .await?;
    let id = sent["data"]["stanza"]["sendMessage"]["id"].as_str();
    let id = id.context("it has an id")?.to_owned();
    let Operator { home, node, .. } = operator;
    node.kill()?;
    drop(juliet);
    let node = Process::start(&home).await?;
    let mut juliet = Light::log_in(Way::Tls(node.c2s_tls), "juliet").await?;
    juliet.bind("balcony").await?;
    juliet.send("<presence/>").await?;
    let message = next(&mut juliet, "message").await?;
    ensure!(message.attr("id") == Some(&id), "{message:?}");
    Ok(())
}
