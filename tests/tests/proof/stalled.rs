//! Readers that stop reading: they are cut off, the kernel keeps little for them, nobody waits for them, and they find
//! what they missed when they come back.
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
use tokio::task::JoinSet;
use tokio::time::timeout;

/// What the kernel on our side may keep for a reader that has stopped, in bytes.
const KERNEL_BYTES_MAX: u64 = 128 * 1024;
/// Readers that stop at a time.
const READERS: usize = 20;
/// Bytes of the text of a message.
const MESSAGE_BYTES: usize = 4 * 1024;
/// By then so much has been sent to each that everybody must have been cut off: 480 KiB.
const ROUNDS_MAX: usize = 120;
/// Messages to each that the sender is ahead of its acknowledgements, which wait for rows.
const ROUNDS_AHEAD: usize = 8;
/// The kernel's buffer of a reader that is going to stop, in bytes: as small as the kernel allows.
const STALLED_RECEIVE_BYTES: usize = 1;
/// The same when it reads again.
const QUICK_RECEIVE_BYTES: usize = 256 * 1024;
/// Acknowledged messages must have arrived so long after everybody is back.
const ARRIVAL: Duration = Duration::from_secs(20);
/// Counts readers that are cut off.
const CUT_OFF: &str = "xmpp_c2s_slow_readers_closed_total";
/// The same, when what they were not written has found another way.
const ENDED: &str = "xmpp_c2s_sessions_closed_total{reason=\"slow_reader\"}";
/// From the one to the other.
const END: Duration = Duration::from_secs(20);

/// How a reader is connected that stops reading.
#[derive(Clone, Copy, Debug)]
struct Kind {
    is_tls: bool,
    is_managed: bool,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_stop_are_cut_off_and_block_nobody() {
    // Beside each other, each with a node of its own: most of the time is spent waiting for those who do not read.
    let mut stories = JoinSet::new();
    for (is_tls, is_managed) in [(false, false), (false, true), (true, false), (true, true)] {
        let kind = Kind { is_tls, is_managed };
        stories.spawn(async move { (kind, stop_reading(kind).await) });
    }
    while let Some(done) = stories.join_next().await {
        let (kind, result) = done.unwrap();
        result.unwrap_or_else(|error| panic!("{kind:?}: {error:#}"));
    }
}

async fn stop_reading(kind: Kind) -> Result<()> {
    let mut accounts: Vec<String> = (0..READERS).map(reader).collect();
    accounts.extend(["sender", "ping", "pong"].map(str::to_owned));
    let home = Home::new(&Setup::default(), &accounts).await?;
    let node = Process::start(&home).await?;
    let book = Arc::<Book>::default();
    let way = match kind.is_tls {
        true => Way::Tls(node.c2s_tls),
        false => Way::Plain(node.c2s),
    };
    let mut readers = Vec::new();
    for index in 0..READERS {
        readers.push(enter_and_stop(way, &reader(index), kind.is_managed).await?);
    }

    send_until_all_are_cut_off(&node, way, &book).await?;

    // What was written before the end counts, the rest comes with the next login.
    let mut reading = JoinSet::new();
    for (index, client) in readers.into_iter().enumerate() {
        reading.spawn(read_to_the_end(client, index, Arc::clone(&book)));
    }
    while let Some(done) = reading.join_next().await {
        done??;
    }
    for index in 0..READERS {
        let mut client = Light::log_in(way, &reader(index)).await?;
        client.bind("again").await?;
        client.send("<presence/>").await?;
        reading.spawn(read_to_the_end(client, index, Arc::clone(&book)));
    }
    let missing = book.settle(ARRIVAL).await;
    ensure!(missing.is_empty(), "acknowledged and lost: {missing:#?}");
    let (problems, totals) = (book.problems(), book.totals());
    eprintln!("{kind:?}: {totals:?}");
    ensure!(problems.is_empty(), "{problems:#?}");
    ensure!(totals.bounced == 0, "{totals:?}");
    // With stream management, what was written and not acknowledged has to come again. Without, each message is a write
    // of its own until one is refused: nothing else comes in part, so nothing comes twice.
    ensure!(kind.is_managed || totals.repeats == 0, "{totals:?}");
    let complaints = node.complaints();
    ensure!(complaints.is_empty(), "{complaints:#?}");
    Ok(())
}

/// Messages to everybody who does not read, and in between a message from one to another who both do: each must come,
/// and each of the others must be acknowledged, although nobody reads them.
async fn send_until_all_are_cut_off(node: &Process, way: Way, book: &Arc<Book>) -> Result<()> {
    let mut pair = Vec::new();
    for local in ["ping", "pong"] {
        let mut client = Light::log_in(way, local).await?;
        client.bind("home").await?;
        pair.push(client);
    }
    let mut load = Load::new(Way::Plain(node.c2s), Arc::clone(book)).await?;
    let (mut rounds, mut cut_off, mut kernel_bytes) = (0, 0, 0);
    while cut_off < READERS {
        ensure!(
            rounds < ROUNDS_MAX,
            "{cut_off} of {READERS} were cut off after {rounds} messages to each"
        );
        load.send_to_all().await?;
        rounds += 1;
        play_ping_pong(&mut pair).await?;
        let answered = rounds.saturating_sub(ROUNDS_AHEAD) * READERS;
        load.await_answers(answered).await?;
        kernel_bytes = kernel_bytes.max(send_queue_bytes(way.address())?);
        cut_off = counter(node, CUT_OFF).await?;
    }
    load.await_answers(rounds * READERS).await?;
    let all_ended = async {
        while counter(node, ENDED).await? < READERS {
            play_ping_pong(&mut pair).await?;
        }
        anyhow::Ok(())
    };
    let ended = timeout(END, all_ended).await;
    ended.context("sessions of readers that were cut off go on")??;
    eprintln!(
        "after {rounds} messages to each; {kernel_bytes} bytes were in a queue of the kernel at most"
    );
    ensure!(
        (1..=KERNEL_BYTES_MAX).contains(&kernel_bytes),
        "the kernel keeps {kernel_bytes} bytes"
    );
    Ok(())
}

fn reader(index: usize) -> String {
    format!("reader-{index}")
}

/// Logs in, becomes available, and reads no more.
async fn enter_and_stop(way: Way, local: &str, is_managed: bool) -> Result<Light> {
    let mut client = Light::log_in(way, local).await?;
    client.bind("home").await?;
    if is_managed {
        client.enable().await?;
    }
    set_receive_bytes(&mut client, STALLED_RECEIVE_BYTES)?;
    client.send("<presence/>").await?;
    // It is there when its own presence has come.
    while client.element().await?.name() != "presence" {}
    Ok(client)
}

fn set_receive_bytes(client: &mut Light, bytes: usize) -> Result<()> {
    let tcp = client.wire().tcp().context("connected")?;
    Ok(socket2::SockRef::from(tcp).set_recv_buffer_size(bytes)?)
}

/// Reads until the node ends the stream.
async fn read_to_the_end(mut client: Light, index: usize, book: Arc<Book>) -> Result<()> {
    set_receive_bytes(&mut client, QUICK_RECEIVE_BYTES)?;
    let account = format!("{}@{DOMAIN}", reader(index));
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

/// One sender, and a message to each reader again and again.
struct Load {
    book: Arc<Book>,
    sender: Light,
    acked: usize,
}

impl Load {
    /// The sender is not available: nothing but errors would come to it.
    async fn new(way: Way, book: Arc<Book>) -> Result<Self> {
        let mut sender = Light::log_in(way, "sender").await?;
        sender.bind("home").await?;
        sender.enable().await?;
        Ok(Self {
            book,
            sender,
            acked: 0,
        })
    }

    async fn send_to_all(&mut self) -> Result<()> {
        for index in 0..READERS {
            let to = format!("{}@{DOMAIN}", reader(index));
            let from = format!("sender@{DOMAIN}");
            let (_, xml) = self.book.send(&from, &to, true, "chat", MESSAGE_BYTES);
            self.sender.send(&xml).await?;
        }
        self.sender.send("<r xmlns='urn:xmpp:sm:3'/>").await
    }

    /// Waits until so many messages are acknowledged.
    async fn await_answers(&mut self, count: usize) -> Result<()> {
        while self.acked < count {
            let element = self.sender.element().await?;
            if is_stanza(&element) {
                self.book.received(&format!("sender@{DOMAIN}"), &element);
                continue;
            }
            let h = element.attr("h").and_then(|h| h.parse::<usize>().ok());
            match (element.name(), h) {
                ("a", Some(h)) => {
                    // It alone sends, so the number of a message is its place on the stream.
                    (self.acked..h).for_each(|number| self.book.acknowledged(number));
                    self.acked = h;
                }
                ("r", _) => {}
                _ => anyhow::bail!("unexpected {}", element.to_xml()),
            }
        }
        Ok(())
    }
}

/// A message from the first to the second, and one back.
async fn play_ping_pong(pair: &mut [Light]) -> Result<()> {
    let [ping, pong] = pair else {
        anyhow::bail!("a pair has two")
    };
    hand_on(ping, pong, "pong").await?;
    hand_on(pong, ping, "ping").await
}

async fn hand_on(from: &mut Light, to: &mut Light, name: &str) -> Result<()> {
    from.send(&format!(
        "<message to='{name}@{DOMAIN}/home' type='chat'><body>!</body></message>"
    ))
    .await?;
    while to.element().await?.name() != "message" {}
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

/// A counter, 0 as long as it is not there: that of a reason comes with the first case.
async fn counter(node: &Process, name: &str) -> Result<usize> {
    let page = http::get(node.metrics, "/metrics").await?.body;
    let mut values = page
        .lines()
        .filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = values.next().map_or(Ok(0), |value| value.trim().parse());
    Ok(value?)
}
