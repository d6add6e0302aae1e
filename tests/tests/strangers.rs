//! What strangers and slow readers cost: time, memory, and nobody else's patience.
use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::book::Book;
use tests::http;
use tests::light::{Light, Way, is_stanza};
use tests::process::{Home, Process, Setup};
use tests::target::DOMAIN;
use tests::wire::Event;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What a stranger may cost, in bytes.
const STRANGER_BYTES_MAX: u64 = 64 * 1024;
/// What a reader that has stopped may cost the process, and the kernel on our side.
const READER_BYTES_MAX: u64 = 64 * 1024;
const READER_KERNEL_BYTES_MAX: u64 = 128 * 1024;
/// How long a client may stay in one state here.
const STATE: Duration = Duration::from_secs(2);
/// How late the end may be on a busy machine.
const LATE: Duration = Duration::from_secs(3);
/// Strangers at a time.
const STRANGERS: usize = 400;
/// Readers that stop at a time.
const READERS: usize = 40;
/// Messages to each of them, and their bytes: much more than may wait.
const ROUNDS: usize = 200;
const MESSAGE_BYTES: usize = 1_024;
/// A message to a reader that has stopped is acknowledged after 250 ms and a commit; the rest is for a busy machine.
const SENDER_WAIT: Duration = Duration::from_secs(3);
/// Round trips of others meanwhile, on a machine that may be busy with other tests.
const ROUND_TRIP_MEDIAN_MAX: Duration = Duration::from_millis(100);
const ROUND_TRIP_MAX: Duration = Duration::from_secs(1);

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

// ---- readers that stop

/// How a reader is connected that stops reading.
#[derive(Clone, Copy, Debug)]
struct Kind {
    is_tls: bool,
    is_managed: bool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "with time to spare for nothing else: cargo xtask test proof"]
async fn a_reader_that_stops_is_cut_off_and_blocks_nobody() {
    for (is_tls, is_managed) in [(false, false), (false, true), (true, false), (true, true)] {
        let kind = Kind { is_tls, is_managed };
        stop_reading(kind)
            .await
            .unwrap_or_else(|error| panic!("{kind:?}: {error:#}"));
    }
}

#[expect(
    clippy::disallowed_methods,
    clippy::too_many_lines,
    reason = "one story, and its other task is waited for at the end"
)]
async fn stop_reading(kind: Kind) -> Result<()> {
    let mut accounts: Vec<String> = (0..READERS).map(reader).collect();
    accounts.extend(["sender", "ping", "pong"].map(str::to_owned));
    let home = Home::new(&Setup::default(), &accounts).await?;
    let node = Process::start(&home).await?;
    let book = Arc::<Book>::default();
    let way = if kind.is_tls {
        Way::Tls(node.c2s_tls)
    } else {
        Way::Plain(node.c2s)
    };
    let mut readers = Vec::new();
    for index in 0..READERS {
        readers.push(enter(way, &reader(index), kind.is_managed, true).await?);
    }
    let (stop, stopped) = watch::channel(false);
    let others = tokio::spawn(play_ping_pong(Way::Plain(node.c2s), stopped));

    let mut load = Load {
        book: Arc::clone(&book),
        sender: enter(Way::Plain(node.c2s), "sender", true, false).await?,
        acked: 0,
        // Its own presence.
        uncounted: 1,
    };
    let before = node.resident_bytes()?;
    let (mut process_most, mut kernel_most) = (0, 0);
    for round in 0..ROUNDS {
        load.send_to_all().await?;
        load.await_answers(round.saturating_sub(1) * READERS)
            .await?;
        process_most = process_most.max(node.resident_bytes()?);
        kernel_most = kernel_most.max(send_queue_bytes(way.address())?);
    }
    load.await_answers(ROUNDS * READERS).await?;
    let process = process_most.saturating_sub(before) / READERS as u64;
    eprintln!("{kind:?}: {process} bytes of the process each, {kernel_most} of the kernel at most");
    ensure!(
        kernel_most <= READER_KERNEL_BYTES_MAX,
        "the kernel keeps {kernel_most} bytes"
    );
    ensure!(
        process <= READER_BYTES_MAX,
        "a reader costs {process} bytes"
    );
    stop.send_replace(true);
    let round_trips = others.await??;
    check_round_trips(round_trips)?;
    let closed = counter(&node, "xmpp_c2s_slow_readers_closed_total").await?;
    ensure!(closed == READERS as u64, "{closed} readers were cut off");

    // What was written before the end counts, the rest comes with the next login.
    for (index, client) in readers.into_iter().enumerate() {
        drain(client, &reader(index), &book).await?;
    }
    let mut again = JoinSet::new();
    for index in 0..READERS {
        let client = enter(way, &reader(index), false, false).await?;
        let book = Arc::clone(&book);
        again.spawn(async move { drain(client, &reader(index), &book).await });
    }
    let missing = book.settle(Duration::from_secs(20)).await;
    let totals = book.totals();
    eprintln!("{totals:?}");
    ensure!(
        missing.is_empty(),
        "{} acknowledged and lost, as {}",
        missing.len(),
        missing[0]
    );
    let problems = book.problems();
    ensure!(problems.is_empty(), "{problems:#?}");
    ensure!(totals.bounced == 0, "{totals:?}");
    Ok(())
}

fn reader(index: usize) -> String {
    format!("reader-{index}")
}

/// Logs in and becomes available. A reader that is going to stop has as small a buffer as the kernel allows.
async fn enter(way: Way, local: &str, is_managed: bool, will_stop: bool) -> Result<Light> {
    let mut client = Light::log_in(way, local).await?;
    client.bind("home").await?;
    if is_managed {
        client.enable().await?;
    }
    if will_stop {
        let tcp = client.wire().tcp().context("connected")?;
        socket2::SockRef::from(tcp).set_recv_buffer_size(1)?;
    }
    client.send("<presence/>").await?;
    Ok(client)
}

/// One sender, and a message to each reader again and again.
struct Load {
    book: Arc<Book>,
    sender: Light,
    acked: usize,
    uncounted: usize,
}

impl Load {
    async fn send_to_all(&mut self) -> Result<()> {
        for index in 0..READERS {
            let to = format!("{}@{DOMAIN}", reader(index));
            let from = format!("sender@{DOMAIN}");
            let (_, xml) = self.book.send(&from, &to, true, "chat", MESSAGE_BYTES);
            self.sender.send(&xml).await?;
        }
        self.sender.send("<r xmlns='urn:xmpp:sm:3'/>").await
    }

    /// Waits until so many messages are acknowledged: a sender waits no longer than others need to be given up.
    async fn await_answers(&mut self, count: usize) -> Result<()> {
        let began = Instant::now();
        while self.acked < count {
            let element = self.sender.element().await?;
            if is_stanza(&element) {
                self.book.received(&format!("sender@{DOMAIN}"), &element);
                continue;
            }
            let h = element.attr("h").and_then(|h| h.parse::<usize>().ok());
            match (element.name(), h) {
                ("a", Some(h)) => {
                    for number in self.acked..h.saturating_sub(self.uncounted) {
                        self.book.acknowledged(number);
                    }
                    self.acked = self.acked.max(h.saturating_sub(self.uncounted));
                }
                ("r", _) => {}
                _ => anyhow::bail!("unexpected {}", element.to_xml()),
            }
        }
        let waited = began.elapsed();
        ensure!(
            waited < SENDER_WAIT,
            "the sender waited {waited:?} for its acknowledgements"
        );
        Ok(())
    }
}

/// Reads to the end, or as long as the test lasts.
async fn drain(mut client: Light, local: &str, book: &Book) -> Result<()> {
    let account = format!("{local}@{DOMAIN}");
    loop {
        match client.event().await? {
            Event::Element(element) if element.name() == "message" => {
                book.received(&account, &element);
            }
            Event::End => return Ok(()),
            _ => {}
        }
    }
}

/// Two that read everything: how long a message takes from one to the other and back.
async fn play_ping_pong(way: Way, stop: watch::Receiver<bool>) -> Result<Vec<Duration>> {
    let mut ping = enter(way, "ping", false, false).await?;
    let mut pong = enter(way, "pong", false, false).await?;
    let mut round_trips = Vec::new();
    while !*stop.borrow() {
        let began = Instant::now();
        hand_on(&mut ping, &mut pong, "pong").await?;
        hand_on(&mut pong, &mut ping, "ping").await?;
        round_trips.push(began.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(round_trips)
}

async fn hand_on(from: &mut Light, to: &mut Light, name: &str) -> Result<()> {
    from.send(&format!(
        "<message to='{name}@{DOMAIN}/home' type='chat'><body>!</body></message>"
    ))
    .await?;
    while to.element().await?.name() != "message" {}
    Ok(())
}

fn check_round_trips(mut round_trips: Vec<Duration>) -> Result<()> {
    round_trips.sort();
    let count = round_trips.len();
    let (median, worst) = (round_trips[count / 2], round_trips[count - 1]);
    eprintln!("{count} round trips of others: median {median:.1?}, worst {worst:.1?}");
    ensure!(
        median < ROUND_TRIP_MEDIAN_MAX && worst < ROUND_TRIP_MAX,
        "{median:?} {worst:?}"
    );
    Ok(())
}

/// The longest queue of bytes that the kernel keeps for one of the node's connections, acknowledged by the peer's
/// kernel or not yet sent.
fn send_queue_bytes(listener: SocketAddr) -> Result<u64> {
    let port = format!(":{:04X}", listener.port());
    let table = fs::read_to_string("/proc/net/tcp")?;
    let queues = table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, _peer, _state, queues) = (
            fields.next()?,
            fields.next()?,
            fields.next()?,
            fields.next()?,
        );
        let is_ours = local.ends_with(&port);
        let queue = queues.split_once(':')?.0;
        is_ours
            .then(|| u64::from_str_radix(queue, 16).ok())
            .flatten()
    });
    Ok(queues.max().unwrap_or(0))
}

async fn counter(node: &Process, name: &str) -> Result<u64> {
    let page = http::get(node.metrics, "/metrics").await?.body;
    let line = page
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = line.with_context(|| format!("no {name} in\n{page}"))?;
    Ok(value.trim().parse()?)
}
