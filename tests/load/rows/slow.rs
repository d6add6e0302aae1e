//! Receivers that stop reading: what the server and the kernel keep for each, and whether others notice.
//!
//! Headlines are pushed to all stalled receivers in small steps until the server closes them or the amount is
//! reached; after each step the server's memory and the kernel's send queues are read. Before that, the same
//! amount goes to receivers that read, so that what the server allocates once is not counted.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use hashbrown::HashMap;

use super::numbered::{Ledger, Template, partner};
use crate::crowd::{Crowd, Session, Workload};
use crate::framing;
use crate::histogram::Histogram;
use crate::login::{Goal, Phase};
use crate::measure::{Server, Used, Window};
use crate::options::{Common, Message, Slow};
use crate::report::{Report, Row};

/// Length of a pushed message.
const PUSH_BYTES: u32 = 1024;
/// Receive buffer of a stalled receiver: as small as the kernel allows, so that bytes wait at the server.
const STALLED_RECEIVE_BUFFER: usize = 4096;
/// Length of the messages whose round trips are watched.
const OTHERS_BYTES: u32 = 242;

pub(crate) fn run(common: &Common, row: &Slow) -> Result<()> {
    let server = Server::find(&common.server_pid)?;
    ensure!(server.is_observed(), "the slow row needs --server-pid");
    let layout = Layout::new(row);
    let count = u32::try_from(layout.receivers.end)?;
    let goal = Goal::Session {
        stream_management: false,
    };
    let mut crowd = Crowd::new(common, common.plan(goal), count)?;
    let mut watch = Watch::new(&layout);
    log_in(&mut crowd, &mut watch, common, &layout)?;
    let template = |crowd: &Crowd, bytes, kind| {
        let message = Message {
            bytes,
            to_bare: false,
        };
        Template::new(crowd, common.first, message, kind)
    };
    watch.template = Some(template(&crowd, OTHERS_BYTES, "chat"));
    let push = Push {
        template: template(&crowd, PUSH_BYTES, "headline"),
        layout: layout.clone(),
        steps: row.push_kib.div_ceil(row.step_kib),
        per_step: row.step_kib * 1024 / PUSH_BYTES,
        server_port: common.connect.port(),
    };
    for index in 0..layout.pusher {
        crowd.send(index, |_, out| watch.write(index, out))?;
    }
    // The rehearsal: everybody reads.
    push.run(&mut crowd, &mut watch, &server)?;

    for index in layout.receivers.clone() {
        crowd.sessions[index].paused = true;
    }
    crowd.turn_for(&mut watch, Duration::from_secs(row.settle_s))?;
    watch.round_trips.clear();
    watch.worst_ns = 0;
    let before = server.user_memory_bytes()?;
    crowd.restart_rest();
    let window = Window::open(&server)?;
    let seen = push.run(&mut crowd, &mut watch, &server)?;
    let used = window.close()?;
    watch.running = false;
    crowd.turn_until(&mut watch, "finishing", |_, watch| {
        Ok(watch.ledger.is_complete())
    })?;
    watch.ledger.verdict()?;
    crowd.close_all()?;
    let line = line(common, row, &seen, &watch, before, &used);
    Report::new(common.json).print(line, &used)
}

/// Logs in everybody, the receivers with a small receive buffer.
fn log_in(crowd: &mut Crowd, watch: &mut Watch, common: &Common, layout: &Layout) -> Result<()> {
    let readers = 0..layout.receivers.start;
    crowd.log_in(watch, readers, common.first, common.logins_in_flight)?;
    for index in layout.receivers.clone() {
        let number = common.first + u32::try_from(index)?;
        crowd.open(index, number, Some(STALLED_RECEIVE_BUFFER))?;
    }
    let all = layout.receivers.end as u64;
    crowd.turn_until(watch, "logging in", |crowd, _| Ok(crowd.reached == all))?;
    crowd.keys.save()
}

fn line(common: &Common, row: &Slow, seen: &Seen, watch: &Watch, before: u64, used: &Used) -> Row {
    let grown = seen.memory_bytes_max.saturating_sub(before) as f64;
    let user = grown / f64::from(row.stalled) / 1024.0;
    let kernel = seen.queue_bytes_max as f64 / 1024.0;
    Row::new("slow")
        .with("tls", common.tls.name())
        .with("stalled", row.stalled)
        .with("pushed_kib", row.push_kib)
        .with("closed", seen.closed)
        .figure("closed_at_kib", seen.first_closed_at_kib, 0)
        .figure("user_kib_each", Some(user), 1)
        .figure("kernel_kib_max", Some(kernel), 1)
        .figure("kib_together", Some(user + kernel), 1)
        .with("others", watch.sent_at.len())
        .figure(
            "others_p50_us",
            watch.round_trips.quantile_microseconds(0.5),
            0,
        )
        .figure(
            "others_p99_us",
            watch.round_trips.quantile_microseconds(0.99),
            0,
        )
        .figure("others_worst_ms", Some(watch.worst_ns as f64 / 1e6), 2)
        .figure("own_cpu_percent", Some(used.own_share() * 100.0), 1)
}

/// Which sessions do what: others in pairs, then a pusher with a partner of its own, then the receivers.
#[derive(Clone, Debug)]
struct Layout {
    pusher: usize,
    receivers: std::ops::Range<usize>,
}

impl Layout {
    fn new(row: &Slow) -> Self {
        let others = (row.others & !1).max(2) as usize;
        let first = others + 2;
        Self {
            pusher: others,
            receivers: first..first + row.stalled as usize,
        }
    }
}

/// The largest values seen while pushing.
#[derive(Debug, Default)]
struct Seen {
    memory_bytes_max: u64,
    queue_bytes_max: u64,
    closed: usize,
    first_closed_at_kib: Option<f64>,
}

struct Push {
    template: Template,
    layout: Layout,
    steps: u32,
    per_step: u32,
    server_port: u16,
}

impl Push {
    /// Pushes step by step to all receivers that the server has not closed.
    fn run(&self, crowd: &mut Crowd, watch: &mut Watch, server: &Server) -> Result<Seen> {
        let mut seen = Seen::default();
        // Not accounted for: what a stalled receiver does not read never arrives.
        let mut pushed = Ledger::new(crowd.sessions.len());
        for step in 0..self.steps {
            for to in self.layout.receivers.clone() {
                if watch.stopped[to] {
                    continue;
                }
                crowd.send(self.layout.pusher, |_, out| {
                    for _ in 0..self.per_step {
                        pushed.write(&self.template, self.layout.pusher, to, out);
                    }
                })?;
                crowd.turn(watch, Duration::ZERO)?;
            }
            self.wait_until_routed(crowd, watch)?;
            self.look(crowd, watch, server, &mut seen)?;
            if seen.closed > 0 && seen.first_closed_at_kib.is_none() {
                let bytes = (step + 1) * self.per_step * PUSH_BYTES;
                seen.first_closed_at_kib = Some(f64::from(bytes) / 1024.0);
            }
            if seen.closed == self.layout.receivers.len() {
                break;
            }
        }
        Ok(seen)
    }

    /// A message to the pusher's partner comes after all that was pushed before it.
    fn wait_until_routed(&self, crowd: &mut Crowd, watch: &mut Watch) -> Result<()> {
        let pusher = self.layout.pusher;
        let goal = watch.ledger.received_of(pusher) + 1;
        crowd.send(pusher, |_, out| watch.write(pusher, out))?;
        crowd.turn_until(
            watch,
            "pushing to receivers that do not read",
            |_, watch| Ok(watch.ledger.received_of(pusher) == goal),
        )
    }

    fn look(
        &self,
        crowd: &Crowd,
        watch: &mut Watch,
        server: &Server,
        seen: &mut Seen,
    ) -> Result<()> {
        seen.memory_bytes_max = seen.memory_bytes_max.max(server.user_memory_bytes()?);
        let queues = send_queues(self.server_port)?;
        seen.closed = 0;
        for index in self.layout.receivers.clone() {
            let session = &crowd.sessions[index];
            let queue = session
                .local_address()
                .and_then(|address| queues.get(&(address.ip(), address.port())));
            if let Some(bytes) = queue.filter(|_| session.login.phase == Phase::Ready) {
                seen.queue_bytes_max = seen.queue_bytes_max.max(*bytes);
            } else {
                watch.stopped[index] = true;
                seen.closed += 1;
            }
        }
        Ok(())
    }
}

/// Watches the round trips of pairs that talk all the time.
struct Watch {
    ledger: Ledger,
    template: Option<Template>,
    sent_at: Vec<u64>,
    round_trips: Histogram,
    worst_ns: u64,
    running: bool,
    /// Receivers whose connection the server has closed.
    stopped: Vec<bool>,
}

impl Watch {
    fn new(layout: &Layout) -> Self {
        Self {
            ledger: Ledger::new(layout.receivers.end),
            template: None,
            sent_at: vec![0; layout.pusher],
            round_trips: Histogram::new(),
            worst_ns: 0,
            running: true,
            stopped: vec![false; layout.receivers.end],
        }
    }

    fn write(&mut self, index: usize, out: &mut Vec<u8>) {
        let template = self
            .template
            .as_ref()
            .expect("made before the first message");
        if let Some(sent_at) = self.sent_at.get_mut(index) {
            *sent_at = self.ledger.now();
        }
        self.ledger.write(template, index, partner(index), out);
    }
}

impl Workload for Watch {
    fn stanza(
        &mut self,
        index: usize,
        _session: &mut Session,
        stanza: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let is_message = framing::name(stanza) == b"message"
            && framing::attribute(stanza, b"type") != Some(b"headline");
        if !is_message || !self.ledger.arrived(partner(index), stanza)? {
            return Ok(());
        }
        if index < self.sent_at.len() {
            // The partner answers what we sent last: one message each way.
            let round_trip = self.ledger.now() - self.sent_at[index];
            self.round_trips.record(round_trip);
            self.worst_ns = self.worst_ns.max(round_trip);
            if self.running {
                self.write(index, out);
            }
        }
        Ok(())
    }

    fn lost(&mut self, index: usize, session: &Session, why: &anyhow::Error) -> Result<()> {
        ensure!(
            session.paused,
            "session {index} was closed though it reads: {why:#}"
        );
        self.stopped[index] = true;
        Ok(())
    }
}

/// Bytes in the kernel's send queues of the server's connections, by the client's address.
fn send_queues(server_port: u16) -> Result<HashMap<(IpAddr, u16), u64, ahash::RandomState>> {
    let mut queues = HashMap::default();
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let Ok(table) = fs::read_to_string(file) else {
            continue;
        };
        for line in table.lines().skip(1) {
            if let Some((client, bytes)) = queue_of_line(line, server_port)? {
                queues.insert(client, bytes);
            }
        }
    }
    Ok(queues)
}

/// A line of `/proc/net/tcp` or `tcp6`, when it is an established connection of the server's port.
fn queue_of_line(line: &str, server_port: u16) -> Result<Option<((IpAddr, u16), u64)>> {
    const ESTABLISHED: &str = "01";
    let malformed = || format!("unexpected line of /proc/net/tcp: {line}");
    let fields: Vec<&str> = line.split_whitespace().collect();
    let [_, local, remote, state, queues, ..] = fields[..] else {
        return Ok(None);
    };
    let (_, local_port) = local.split_once(':').with_context(malformed)?;
    if state != ESTABLISHED || u16::from_str_radix(local_port, 16)? != server_port {
        return Ok(None);
    }
    let (address, port) = remote.split_once(':').with_context(malformed)?;
    let (send, _) = queues.split_once(':').with_context(malformed)?;
    // Addresses are words in the machine's byte order.
    let mut bytes = Vec::new();
    for start in (0..address.len()).step_by(8) {
        let word = u32::from_str_radix(address.get(start..start + 8).with_context(malformed)?, 16)?;
        bytes.extend_from_slice(&word.to_ne_bytes());
    }
    let address = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(four) => IpAddr::from(four),
        Err(_) => IpAddr::from(<[u8; 16]>::try_from(bytes.as_slice())?).to_canonical(),
    };
    Ok(Some((
        (address, u16::from_str_radix(port, 16)?),
        u64::from_str_radix(send, 16)?,
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_endian = "little")]
    fn send_queues_are_read_from_both_tables() {
        let check = |line: &str, expected: Option<(&str, u64)>| {
            let found = queue_of_line(line, 5222).unwrap();
            let found = found.map(|((ip, port), bytes)| (format!("{ip} {port}"), bytes));
            assert_eq!(
                found,
                expected.map(|(client, bytes)| (client.to_owned(), bytes)),
                "{line}"
            );
        };
        check(
            "   1: 0100007F:1466 0200017F:C350 01 00008000:00000000 01:00000014 00000000 0 0 1",
            Some(("127.1.0.2 50000", 32768)),
        );
        check(
            "   1: 0000000000000000FFFF00000100007F:1466 0000000000000000FFFF00000100007F:C351 01 \
             00000010:00000000 01:00000014 00000000 0 0 1",
            Some(("127.0.0.1 50001", 16)),
        );
        check(
            "   1: 0100007F:1466 0200017F:C350 04 00008000:00000000",
            None,
        );
        check(
            "   1: 0100007F:1467 0200017F:C350 01 00008000:00000000",
            None,
        );
    }

    #[test]
    fn a_socket_of_ours_is_in_the_table() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        std::io::Write::write_all(&mut server, b"hello").unwrap();
        let queues = send_queues(listener.local_addr().unwrap().port()).unwrap();
        let address = client.local_addr().unwrap();
        assert!(
            queues.contains_key(&(address.ip(), address.port())),
            "{queues:?}"
        );
    }
}
