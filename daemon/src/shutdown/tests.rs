use super::*;
use std::future::pending;
use std::process::Command;

use tokio::net::TcpListener;

const LONG: Duration = Duration::from_secs(3600);

fn kill(signal: &str) {
    let pid = std::process::id().to_string();
    let status = Command::new("kill").args([signal, &pid]).status().unwrap();
    assert!(status.success());
}

#[tokio::test(start_paused = true)]
async fn a_drain_without_tasks_is_immediate() {
    let shutdown = Shutdown::new();
    assert!(!shutdown.is_cancelled());
    assert_eq!(shutdown.drain(LONG).await, Drained::default());
    assert!(shutdown.is_cancelled());
}

#[tokio::test(start_paused = true)]
async fn tasks_that_listen_end_before_the_deadline() {
    let shutdown = Shutdown::new();
    for _ in 0..3 {
        let me = shutdown.clone();
        shutdown
            .tasks()
            .spawn("polite", async move { me.cancelled().await });
    }
    let before = tokio::time::Instant::now();
    assert_eq!(shutdown.drain(LONG).await.cut, 0);
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn what_outlives_the_deadline_is_cut_and_named() {
    let shutdown = Shutdown::new();
    let deaf = shutdown.tasks().spawn("deaf", pending::<()>());
    let before = tokio::time::Instant::now();
    let drained = shutdown.drain(Duration::from_secs(7)).await;
    assert_eq!(before.elapsed(), Duration::from_secs(7));
    assert_eq!(drained.cut, 1);
    assert_eq!(drained.names, BTreeMap::from([("deaf", 1)]));
    assert!(deaf.await.unwrap_err().is_cancelled());
    assert!(shutdown.tasks().is_empty());
}

#[tokio::test(start_paused = true)]
async fn at_once_ends_the_wait() {
    let shutdown = Shutdown::new();
    shutdown.tasks().spawn("deaf", pending::<()>());
    shutdown.begin_at_once();
    let before = tokio::time::Instant::now();
    assert_eq!(shutdown.drain(LONG).await.cut, 1);
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn a_cut_task_frees_its_port() {
    let shutdown = Shutdown::new();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    shutdown.tasks().spawn("accept", async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
        }
    });
    assert_eq!(shutdown.drain(Duration::ZERO).await.cut, 1);
    TcpListener::bind(address).await.unwrap();
}

/// One test for all signals: they belong to the process, so two tests would hear each other's.
#[tokio::test]
async fn signals_begin_end_and_reload() {
    let shutdown = Shutdown::on_signals().unwrap();
    let mut reloads = Reloads::on_sighup().unwrap();

    kill("-HUP");
    reloads.next().await;
    assert!(!shutdown.is_cancelled());

    kill("-TERM");
    shutdown.cancelled().await;
    shutdown.tasks().spawn("deaf", pending::<()>());
    let interrupt = async {
        kill("-INT");
        shutdown.at_once().await;
    };
    let (drained, ()) = tokio::join!(shutdown.drain(LONG), interrupt);
    assert_eq!(drained.cut, 1);
}
