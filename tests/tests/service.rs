//! A node as a service: what it tells the service manager and when, what the journal gets, and what a check before the
//! start says.
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::light::{Light, Way};
use tests::process::{Home, Process, Setup, run_for_the_journal, run_to_the_end};
use tokio::net::TcpStream;

/// The node is asked for a sign of life this often, in microseconds; it gives them twice as often.
const WATCHDOG_USEC: &str = "200000";
/// Longer than any of it takes.
const TOLD_SECS_MAX: u64 = 60;

/// The end of the service manager.
struct Manager(UnixDatagram);

impl Manager {
    fn new(socket: UnixDatagram) -> Result<Self> {
        socket.set_read_timeout(Some(Duration::from_secs(TOLD_SECS_MAX)))?;
        Ok(Self(socket))
    }

    fn next(&self) -> Result<String> {
        let mut buffer = [0; 4096];
        let length = self.0.recv(&mut buffer).context("nothing is told")?;
        Ok(String::from_utf8(buffer[..length].to_vec())?)
    }

    /// What is told up to the first message that begins so, which is the last of them.
    fn until(&self, beginning: &str) -> Result<Vec<String>> {
        let mut told = Vec::new();
        loop {
            told.push(
                self.next()
                    .with_context(|| format!("{beginning}: {told:?}"))?,
            );
            if told.last().is_some_and(|last| last.starts_with(beginning)) {
                return Ok(told);
            }
        }
    }
}

fn variables(socket: String) -> Vec<(&'static str, String)> {
    vec![
        ("NOTIFY_SOCKET", socket),
        ("WATCHDOG_USEC", WATCHDOG_USEC.to_owned()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_service_manager_is_told_of_each_step() {
    tell_each_step().await.unwrap();
}

async fn tell_each_step() -> Result<()> {
    let home = Home::new(&Setup::default(), &["romeo".to_owned()]).await?;
    let path = home.data_dir().join("notify");
    let manager = Manager::new(UnixDatagram::bind(&path)?)?;
    let node = Process::start_with(&home, variables(path.display().to_string())).await?;

    let told = manager.until("READY=1")?;
    let expected = ["EXTEND_TIMEOUT_USEC=15000000", "STATUS=starting"];
    ensure!(
        expected
            .iter()
            .all(|line| told.iter().any(|told| told == line)),
        "{told:?}"
    );
    TcpStream::connect(node.c2s).await?;
    manager.until("STATUS=serving, 0 sessions")?;
    manager.until("WATCHDOG=1")?;
    let mut client = Light::log_in(Way::Tls(node.c2s_tls), "romeo").await?;
    client.bind("home").await?;
    manager.until("STATUS=serving, 1 sessions")?;

    node.hang_up()?;
    let told = manager.until("RELOADING=1")?;
    let reloading = told.last().context("told")?;
    let time = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=");
    ensure!(
        time.is_some_and(|time| time.parse::<u64>().is_ok_and(|time| time > 0)),
        "{reloading}"
    );
    manager.until("READY=1")?;

    node.terminate()?;
    manager.until("STOPPING=1")?;
    manager.until("EXTEND_TIMEOUT_USEC=15000000")?;
    let (status, lines) = node.ended().await?;
    ensure!(status.success(), "{lines:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_manager_may_have_a_socket_without_a_path() {
    let home = Home::new(&Setup::default(), &[]).await.unwrap();
    let name = format!("meerkat-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let manager = Manager::new(UnixDatagram::bind_addr(&address).unwrap()).unwrap();
    let _node = Process::start_with(&home, variables(format!("@{name}")))
        .await
        .unwrap();
    manager.until("READY=1").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_gets_priorities_and_no_times() {
    let home = Home::new(&Setup::default(), &[]).await.unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = format!("port = {}", taken.local_addr().unwrap().port());
    home.change_config("port = 0", &port).unwrap();
    let args = || vec!["--config".to_owned(), home.config().display().to_string()];
    let (code, journal) = run_for_the_journal(args()).await.unwrap();
    assert_eq!(code, Some(1), "{journal}");
    let lines: Vec<&str> = journal.lines().collect();
    let has_priority = |line: &&&str| ["<3>", "<4>", "<6>"].iter().any(|p| line.starts_with(p));
    assert_eq!(
        lines.iter().filter(has_priority).count(),
        lines.len(),
        "{journal}"
    );
    assert!(
        journal.contains("<6> INFO server::run: open files allowed files="),
        "{journal}"
    );
    assert!(
        journal.contains("\n<3>meerkat: cannot listen on "),
        "{journal}"
    );

    let (code, said) = run_to_the_end(args()).await.unwrap();
    assert_eq!(code, Some(1), "{said}");
    assert!(!said.contains("<6>") && !said.contains("<3>"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn warnings_do_not_change_the_exit_code_of_a_check() {
    let home = Home::new(&Setup::default(), &[]).await.unwrap();
    let many = "max_connections = 1_000_000_000_000";
    home.change_config("port = 0", &format!("port = 0\n{many}"))
        .unwrap();
    let config = home.config().display().to_string();
    let check = async |args: &[&str]| {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        run_to_the_end(args).await.unwrap()
    };
    let (code, said) = check(&["--check-config", &config]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("no findings\n"), "{said}");
    let expected = "warning: this machine: open files limit (RLIMIT_NOFILE) is ";
    assert!(said.contains(expected), "{said}");
    let (code, said) = check(&["--check-config", &config, "--data-dir", "/dev/null/x"]).await;
    assert_eq!(code, Some(78), "{said}");
    assert!(said.contains("the data directory /dev/null/x: "), "{said}");
}
