//! What strangers cost: time and memory.
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use tests::process::{Home, Process, Setup};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What a stranger may cost, in bytes.
const STRANGER_BYTES_MAX: u64 = 64 * 1024;
/// How long a client may stay in one state here.
const STATE: Duration = Duration::from_secs(2);
/// How late the end may be on a busy machine.
const LATE: Duration = Duration::from_secs(3);
/// Strangers at a time.
const STRANGERS: usize = 400;

/// Ways to waste a server's patience.
#[derive(Clone, Copy, Debug)]
enum Stranger {
    /// Says nothing.
    Silent,
    /// Opens a stream.
    Header,
    /// Begins an element and leaves it at that.
    HalfElement,
    /// Goes on with one element, a byte at a time.
    Dripping,
    /// Sends as much as it may of an element that does not end.
    Large,
    /// Says nothing on the port of TLS, where the time is that of a handshake.
    SilentTls,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_cut_off_in_time_and_costs_little() {
    let setup = Setup {
        listener: format!("state_timeout = {}", STATE.as_millis()),
        ..Setup::default()
    };
    let home = Home::new(&setup, &[]).await.unwrap();
    let node = Process::start(&home).await.unwrap();
    let kinds = [
        (Stranger::Silent, STATE),
        (Stranger::Header, STATE),
        (Stranger::HalfElement, STATE),
        (Stranger::Dripping, STATE),
        (Stranger::Large, STATE),
        (Stranger::SilentTls, Duration::from_secs(10)),
    ];
    // Whatever is set up once is set up.
    visit(&node, Stranger::Header, 50, STATE).await.unwrap();
    for (kind, patience) in kinds {
        let result = visit(&node, kind, STRANGERS, patience).await;
        let cost = result.unwrap_or_else(|error| panic!("{kind:?}: {error:#}"));
        assert!(cost <= STRANGER_BYTES_MAX, "{kind:?} costs {cost} bytes");
    }
    assert_eq!(node.complaints(), Vec::<String>::new());
}

/// Many of a kind come at once. Returns what each costs.
async fn visit(node: &Process, kind: Stranger, count: usize, patience: Duration) -> Result<u64> {
    let address = match kind {
        Stranger::SilentTls => node.c2s_tls,
        _ => node.c2s,
    };
    let before = node.resident_bytes()?;
    let mut strangers = JoinSet::new();
    for _ in 0..count {
        strangers.spawn(be_strange(address, kind));
    }
    // All are there, and none has been cut off.
    tokio::time::sleep(STATE / 2).await;
    let most = node.resident_bytes()?;
    while let Some(done) = strangers.join_next().await {
        let (lasted, said) = done??;
        ensure!(
            lasted >= patience - Duration::from_millis(50) && lasted <= patience + LATE,
            "cut off after {lasted:?}"
        );
        // Over TLS nothing can be said before the handshake.
        let is_told = matches!(kind, Stranger::SilentTls) || said.contains("<connection-timeout");
        ensure!(is_told, "it was told {said:?}");
    }
    let cost = most.saturating_sub(before) / count as u64;
    eprintln!("{kind:?}: {count} strangers cost {cost} bytes each");
    Ok(cost)
}

/// Returns how long it was let be, and what it was told.
async fn be_strange(address: SocketAddr, kind: Stranger) -> Result<(Duration, String)> {
    const HEADER: &str = "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' \
                          xmlns:stream='http://etherx.jabber.org/streams'>";
    const AUTH: &str = "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='SCRAM-SHA-256'>";
    let mut stream = TcpStream::connect(address).await?;
    let first = match kind {
        Stranger::Silent | Stranger::SilentTls => String::new(),
        Stranger::Header => HEADER.to_owned(),
        Stranger::HalfElement | Stranger::Dripping => format!("{HEADER}{AUTH}"),
        Stranger::Large => format!("{HEADER}{AUTH}{}", "A".repeat(7_000)),
    };
    let began = Instant::now();
    stream.write_all(first.as_bytes()).await?;
    let mut told = Vec::new();
    let mut buffer = [0; 2048];
    loop {
        let drip = tokio::time::sleep(Duration::from_millis(200));
        tokio::select! {
            count = stream.read(&mut buffer) => match count {
                Ok(0) | Err(_) => break,
                Ok(count) => told.extend_from_slice(&buffer[..count]),
            },
            () = drip, if matches!(kind, Stranger::Dripping) => {
                // The end shows on the next read.
                let _ = stream.write_all(b"A").await;
            }
        }
    }
    Ok((began.elapsed(), String::from_utf8_lossy(&told).into_owned()))
}
