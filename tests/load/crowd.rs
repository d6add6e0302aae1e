//! All sessions of this process and their sockets: one thread, one epoll, a few hundred bytes per session.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use rustix::event::{Timespec, epoll};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};
use tokio_rustls::rustls::ClientConfig;

use crate::framing::{self, ELEMENT_BYTES_MAX, Token};
use crate::keys::KeyCache;
use crate::login::{Login, Phase, Plan, Step};
use crate::measure;
use crate::options::{Common, TlsMode};
use crate::tls::{self, Tls, Trust};
use crate::websocket;

/// Bytes taken from a socket at once; shared by all sessions.
const READ_BYTES: usize = 64 * 1024;
/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 1024;
/// Bytes that wait for a socket to take them; a server that reads nothing of all this is stuck.
const UNSENT_BYTES_MAX: usize = 64 << 20;
/// Descriptors beside the sessions: epoll, standard streams, `/proc` files.
const OTHER_DESCRIPTORS: u64 = 64;
/// The shortest rest worth going to sleep for.
const REST_MIN: Duration = Duration::from_micros(500);

/// What a run does with its sessions.
pub(crate) trait Workload {
    /// A session has become usable. Bytes put into `out` are sent on it.
    fn ready(&mut self, _index: usize, _session: &mut Session, _out: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }

    /// A stanza has come, stream management already counted.
    fn stanza(
        &mut self,
        index: usize,
        session: &mut Session,
        stanza: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<()>;

    /// The server has acknowledged up to `session.sm.acked`.
    fn acked(&mut self, _index: usize, _session: &mut Session, _out: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }

    /// All tokens of one read have been handed over: the moment to ask for an ack once.
    fn read_ended(&mut self, _index: usize, _session: &mut Session, _out: &mut Vec<u8>) {}

    /// A login that was to close has closed. Others that end are an error of the run.
    fn finished(&mut self, _index: usize) {}

    /// The connection of a ready session has ended.
    fn lost(&mut self, index: usize, session: &Session, why: &anyhow::Error) -> Result<()> {
        Err(anyhow!(
            "session {index} (account {}) ended: {why:#}",
            session.login.number
        ))
    }
}

/// For the time when nothing but logins is wanted.
pub(crate) struct OnlyLogins;

impl Workload for OnlyLogins {
    fn stanza(&mut self, _: usize, _: &mut Session, _: &[u8], _: &mut Vec<u8>) -> Result<()> {
        Ok(())
    }
}

/// Stream management of one session (XEP-0198), counters modulo 2^32.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StreamManagement {
    pub(crate) enabled: bool,
    /// Stanzas received since it was enabled.
    pub(crate) received: u32,
    /// Stanzas sent since it was enabled.
    pub(crate) sent: u32,
    /// The server's last `h`.
    pub(crate) acked: u32,
    /// An `<r/>` of ours is unanswered.
    pub(crate) asked: bool,
    /// The server's `<r/>` are left unanswered for now.
    pub(crate) withhold: bool,
    /// A withheld answer is owed.
    owes: bool,
}

impl StreamManagement {
    /// Stanzas sent that `h` does not cover yet.
    pub(crate) fn unacked(&self) -> u32 {
        self.sent.wrapping_sub(self.acked)
    }

    /// Asks for an ack unless one is asked for already or nothing is unacknowledged.
    pub(crate) fn ask(&mut self, out: &mut Vec<u8>) {
        if self.enabled && !self.asked && self.unacked() > 0 {
            self.asked = true;
            out.extend_from_slice(b"<r xmlns='urn:xmpp:sm:3'/>");
        }
    }

    fn answer(&mut self, out: &mut Vec<u8>) {
        if self.withhold {
            self.owes = true;
        } else {
            self.owes = false;
            let _ = write!(out, "<a xmlns='urn:xmpp:sm:3' h='{}'/>", self.received);
        }
    }
}

/// One connection and what it needs while idle.
pub(crate) struct Session {
    pub(crate) login: Login,
    pub(crate) sm: StreamManagement,
    /// Its socket is not read: the kernel's receive buffer fills.
    pub(crate) paused: bool,
    socket: Option<TcpStream>,
    tls: Option<Box<Tls>>,
    /// Elements go in frames.
    framed: bool,
    /// The beginning of a token whose end has not come.
    partial: Vec<u8>,
    /// Bytes the socket did not take.
    unsent: Vec<u8>,
}

impl Session {
    fn new() -> Self {
        Self {
            login: Login::new(0),
            sm: StreamManagement::default(),
            paused: false,
            socket: None,
            tls: None,
            framed: false,
            partial: Vec::new(),
            unsent: Vec::new(),
        }
    }

    pub(crate) fn local_address(&self) -> Option<SocketAddr> {
        self.socket.as_ref()?.local_addr().ok()
    }
}

/// Keeps the generator below a share of its core by sleeping.
struct Rest {
    share: f64,
    start: Instant,
    cpu: Duration,
    rested: Duration,
}

/// All sessions, driven by `turn`.
pub(crate) struct Crowd {
    pub(crate) sessions: Vec<Session>,
    pub(crate) plan: Plan,
    pub(crate) keys: KeyCache,
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    address: SocketAddr,
    sources: u8,
    next_source: u8,
    tls_config: Option<Arc<ClientConfig>>,
    websocket: bool,
    rest: Option<Rest>,
    patience: Duration,
    last_event: Instant,
    /// Sessions that have reached their goal since the start.
    pub(crate) reached: u64,
    input: Vec<u8>,
    plain: Vec<u8>,
    output: Vec<u8>,
    frames: Vec<u8>,
    sealed: Vec<u8>,
}

impl Crowd {
    /// An empty crowd for `count` sessions.
    pub(crate) fn new(common: &Common, plan: Plan, count: u32) -> Result<Self> {
        raise_descriptor_limit(u64::from(count) + OTHER_DESCRIPTORS)?;
        let trust = match &common.ca {
            Some(file) => Trust::File(file),
            None => Trust::Anyone,
        };
        let tls_config = match common.tls {
            TlsMode::None => None,
            mode => Some(tls::config(
                &trust,
                mode == TlsMode::Direct && !common.websocket,
            )?),
        };
        let now = Instant::now();
        Ok(Self {
            sessions: (0..count).map(|_| Session::new()).collect(),
            keys: KeyCache::open(&plan.account.password, common.keys.as_deref())?,
            plan,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(EVENTS_MAX),
            address: common.connect,
            sources: common.sources,
            next_source: 0,
            tls_config,
            websocket: common.websocket,
            rest: common.rest_above.map(|percent| Rest {
                share: f64::from(percent) / 100.0,
                start: now,
                cpu: measure::own_cpu(),
                rested: Duration::ZERO,
            }),
            patience: common.patience(),
            last_event: now,
            reached: 0,
            input: vec![0; READ_BYTES],
            plain: Vec::new(),
            output: Vec::new(),
            frames: Vec::new(),
            sealed: Vec::new(),
        })
    }

    /// Connects session `index` to log in as account `number`, with a receive buffer of the kernel's size or a
    /// given one in bytes.
    pub(crate) fn open(&mut self, index: usize, number: u32, buffer: Option<usize>) -> Result<()> {
        let domain = Domain::for_address(self.address);
        let socket = Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))
            .context("cannot make a socket")?;
        if let Some(bytes) = buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.set_tcp_nodelay(true)?;
        if self.sources > 1 {
            self.next_source = self.next_source % self.sources + 1;
            let source = IpAddr::V4(Ipv4Addr::new(127, 1, 0, self.next_source));
            socket
                .bind(&SocketAddr::new(source, 0).into())
                .context("cannot bind a source address")?;
        }
        match socket.connect(&self.address.into()) {
            Err(error)
                if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) =>
            {
                return Err(error).with_context(|| format!("cannot connect to {}", self.address));
            }
            _ => {}
        }
        let flags = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        epoll::add(
            &self.epoll,
            &socket,
            epoll::EventData::new_u64(index as u64),
            flags,
        )?;
        let mut session = Session::new();
        session.login = Login::new(number);
        session.login.phase = Phase::Connecting;
        session.socket = Some(socket.into());
        self.sessions[index] = session;
        Ok(())
    }

    /// Waits at most `wait` for events and handles them; rests before if the generator is above its share.
    pub(crate) fn turn<W: Workload>(&mut self, workload: &mut W, wait: Duration) -> Result<()> {
        self.rest_if_due();
        let timeout = Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: wait.subsec_nanos().into(),
        };
        let mut events = std::mem::take(&mut self.events);
        events.clear();
        match epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut events),
            Some(&timeout),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("epoll"),
        }
        if !events.is_empty() {
            self.last_event = Instant::now();
        }
        for event in &events {
            let index = usize::try_from(event.data.u64()).expect("indexes come from us");
            self.event(index, event.flags, workload)?;
        }
        self.events = events;
        Ok(())
    }

    /// Turns until `done`; fails when nothing has happened for as long as the user is patient.
    pub(crate) fn turn_until<W: Workload>(
        &mut self,
        workload: &mut W,
        what: &str,
        mut done: impl FnMut(&mut Self, &mut W) -> Result<bool>,
    ) -> Result<()> {
        self.last_event = Instant::now();
        while !done(self, workload)? {
            self.turn(workload, Duration::from_millis(100))?;
            if self.last_event.elapsed() > self.patience {
                bail!("nothing has happened for {:?} while {what}", self.patience);
            }
        }
        Ok(())
    }

    /// Turns for a time without expecting anything.
    pub(crate) fn turn_for<W: Workload>(&mut self, workload: &mut W, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while let Some(left) = end
            .checked_duration_since(Instant::now())
            .filter(|d| !d.is_zero())
        {
            self.turn(workload, left.min(Duration::from_millis(100)))?;
        }
        Ok(())
    }

    /// Logs in `indexes`, `in_flight` at a time, session `i` as account `first + i`.
    pub(crate) fn log_in<W: Workload>(
        &mut self,
        workload: &mut W,
        indexes: std::ops::Range<usize>,
        first: u32,
        in_flight: u32,
    ) -> Result<()> {
        let last = u32::try_from(indexes.end)?;
        ensure!(first.checked_add(last).is_some(), "too many accounts");
        let number = |index: usize| first + u32::try_from(index).unwrap_or(last);
        self.log_in_as(workload, indexes, number, in_flight)
    }

    /// The same, session `i` as account `number(i)`.
    pub(crate) fn log_in_as<W: Workload>(
        &mut self,
        workload: &mut W,
        indexes: std::ops::Range<usize>,
        number: impl Fn(usize) -> u32,
        in_flight: u32,
    ) -> Result<()> {
        let (mut next, end) = (indexes.start, indexes.end);
        let goal = self.reached + indexes.len() as u64;
        let mut opened = self.reached;
        self.turn_until(workload, "logging in", |crowd, _| {
            while next < end && opened - crowd.reached < u64::from(in_flight) {
                crowd.open(next, number(next), None)?;
                (next, opened) = (next + 1, opened + 1);
            }
            Ok(crowd.reached >= goal)
        })
    }

    /// Sends what `fill` writes on session `index`.
    pub(crate) fn send(
        &mut self,
        index: usize,
        fill: impl FnOnce(&mut Session, &mut Vec<u8>),
    ) -> Result<()> {
        let mut output = std::mem::take(&mut self.output);
        fill(&mut self.sessions[index], &mut output);
        let sent = self.flush(index, &mut output);
        self.output = output;
        sent.with_context(|| format!("sending on session {index}"))
    }

    /// Lets the session answer requests for acks again, the withheld ones at once.
    pub(crate) fn stop_withholding(&mut self, index: usize) -> Result<()> {
        self.send(index, |session, out| {
            session.sm.withhold = false;
            if session.sm.owes {
                session.sm.answer(out);
            }
        })
    }

    /// Closes all streams and waits for the server's ends, so that nothing of this run meets the next.
    pub(crate) fn close_all(&mut self) -> Result<()> {
        for index in 0..self.sessions.len() {
            if self.sessions[index].login.phase == Phase::Ready && !self.sessions[index].paused {
                self.sessions[index].login.phase = Phase::Closing;
                self.send(index, |_, out| out.extend_from_slice(b"</stream:stream>"))?;
                // Answers are read as we go, lest thousands of sockets fill.
                self.turn(&mut OnlyLogins, Duration::ZERO)?;
            }
        }
        self.turn_until(&mut OnlyLogins, "closing streams", |crowd, _| {
            Ok(crowd
                .sessions
                .iter()
                .all(|session| session.login.phase != Phase::Closing))
        })
    }

    /// The time the generator has slept to stay below its share.
    pub(crate) fn rested(&self) -> Duration {
        self.rest
            .as_ref()
            .map_or(Duration::ZERO, |rest| rest.rested)
    }

    /// Starts the account of the generator's share anew, as a window begins.
    pub(crate) fn restart_rest(&mut self) {
        if let Some(rest) = &mut self.rest {
            *rest = Rest {
                start: Instant::now(),
                cpu: measure::own_cpu(),
                rested: Duration::ZERO,
                share: rest.share,
            };
        }
    }

    fn rest_if_due(&mut self) {
        let Some(rest) = &mut self.rest else { return };
        let busy = measure::own_cpu() - rest.cpu;
        let due = busy
            .div_f64(rest.share)
            .saturating_sub(rest.start.elapsed());
        if due >= REST_MIN {
            let before = Instant::now();
            std::thread::sleep(due);
            rest.rested += before.elapsed();
        }
    }

    fn event<W: Workload>(
        &mut self,
        index: usize,
        flags: epoll::EventFlags,
        workload: &mut W,
    ) -> Result<()> {
        let session = &self.sessions[index];
        if session.socket.is_none() {
            return Ok(());
        }
        let ended = flags
            .intersects(epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR);
        let outcome = if session.login.phase == Phase::Connecting {
            self.connected(index)
        } else {
            Ok(())
        };
        let outcome = outcome.and_then(|()| {
            if flags.contains(epoll::EventFlags::OUT) && !self.sessions[index].unsent.is_empty() {
                self.flush_unsent(index)?;
            }
            let readable = flags.contains(epoll::EventFlags::IN) || ended;
            if readable && !self.sessions[index].paused {
                self.read(index, ended, workload)?;
            }
            Ok(())
        });
        match outcome {
            Ok(()) => Ok(()),
            Err(why) => self.ended(index, &why, workload),
        }
    }

    /// A connection is over: as planned, or a loss.
    fn ended<W: Workload>(
        &mut self,
        index: usize,
        why: &anyhow::Error,
        workload: &mut W,
    ) -> Result<()> {
        let session = &mut self.sessions[index];
        session.socket = None;
        session.tls = None;
        session.partial = Vec::new();
        session.unsent = Vec::new();
        let phase = std::mem::replace(&mut session.login.phase, Phase::Idle);
        match phase {
            Phase::Closing if why.is::<StreamEnded>() => {
                self.reached += 1;
                workload.finished(index);
                Ok(())
            }
            Phase::Ready => workload.lost(index, session, why),
            phase => bail!(
                "account {} in phase {phase:?}: {why:#}",
                session.login.number
            ),
        }
    }

    fn connected(&mut self, index: usize) -> Result<()> {
        let session = &mut self.sessions[index];
        let socket = session.socket.as_ref().expect("the caller has looked");
        if let Some(error) = socket.take_error()? {
            return Err(error).with_context(|| format!("cannot connect to {}", self.address));
        }
        if self.plan.tls == TlsMode::Direct {
            session.login.phase = Phase::Handshake;
            return self.start_tls(index);
        }
        let mut output = std::mem::take(&mut self.output);
        self.begin_stream(index, false, &mut output);
        let sent = self.flush(index, &mut output);
        self.output = output;
        sent
    }

    /// Opens the first stream, or asks for the WebSocket that it goes through.
    fn begin_stream(&mut self, index: usize, encrypted: bool, output: &mut Vec<u8>) {
        let login = &mut self.sessions[index].login;
        if self.websocket {
            login.phase = Phase::Upgrade;
            output.extend_from_slice(&websocket::handshake(&self.plan.account.domain));
        } else {
            login.open_stream(&self.plan, encrypted, output);
        }
    }

    /// What came over a WebSocket, or the answer to the question for it.
    fn messages<W: Workload>(
        &mut self,
        index: usize,
        bytes: &[u8],
        workload: &mut W,
        output: &mut Vec<u8>,
    ) -> Result<()> {
        let mut come = std::mem::take(&mut self.sessions[index].partial);
        come.extend_from_slice(bytes);
        if self.sessions[index].login.phase == Phase::Upgrade
            && let Some(rest) = websocket::behind_answer(&come)?
        {
            come = rest.to_vec();
            let session = &mut self.sessions[index];
            session.framed = true;
            session
                .login
                .open_stream(&self.plan, session.tls.is_some(), output);
        }
        if self.sessions[index].framed {
            while let Some(message) = websocket::next(&mut come) {
                self.token(index, &websocket::token(&message), workload, output)?;
            }
        }
        ensure!(
            come.len() <= ELEMENT_BYTES_MAX,
            "a message of more than {ELEMENT_BYTES_MAX} bytes"
        );
        if !come.is_empty() {
            self.sessions[index].partial = come;
        }
        Ok(())
    }

    fn start_tls(&mut self, index: usize) -> Result<()> {
        let config = self
            .tls_config
            .as_ref()
            .expect("made when TLS was asked for");
        let tls = Tls::start(config, &self.plan.account.domain)?;
        self.sessions[index].tls = Some(Box::new(tls));
        self.flush(index, &mut Vec::new())
    }

    fn read<W: Workload>(&mut self, index: usize, ended: bool, workload: &mut W) -> Result<()> {
        let mut input = std::mem::take(&mut self.input);
        let mut output = std::mem::take(&mut self.output);
        let outcome = self.read_all(index, ended, workload, &mut input, &mut output);
        self.input = input;
        // What was answered before an end or an error may still be of use to the server.
        let flushed = match self.sessions[index].socket {
            Some(_) => self.flush(index, &mut output),
            None => Ok(()),
        };
        output.clear();
        self.output = output;
        outcome.and(flushed)
    }

    fn read_all<W: Workload>(
        &mut self,
        index: usize,
        ended: bool,
        workload: &mut W,
        input: &mut [u8],
        output: &mut Vec<u8>,
    ) -> Result<()> {
        loop {
            let socket = self.sessions[index]
                .socket
                .as_mut()
                .expect("open while it is read");
            let count = match socket.read(input) {
                Ok(0) => return Err(StreamEnded.into()),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            self.received(index, &input[..count], workload, output)?;
            if self.sessions[index].login.phase == Phase::Ready {
                workload.read_ended(index, &mut self.sessions[index], output);
            }
            // A short read means that the socket is empty, but says nothing of its end.
            if count < input.len() && !ended {
                return Ok(());
            }
        }
    }

    fn received<W: Workload>(
        &mut self,
        index: usize,
        bytes: &[u8],
        workload: &mut W,
        output: &mut Vec<u8>,
    ) -> Result<()> {
        let session = &mut self.sessions[index];
        let Some(tls) = &mut session.tls else {
            return self.tokens(index, bytes, workload, output);
        };
        let mut plain = std::mem::take(&mut self.plain);
        plain.clear();
        tls.open(bytes, &mut plain)?;
        if session.login.phase == Phase::Handshake && !tls.is_handshaking() {
            self.begin_stream(index, true, output);
        }
        let outcome = self.tokens(index, &plain, workload, output);
        self.plain = plain;
        if output.is_empty() {
            // Handshake messages and key updates want out even when we have nothing to say.
            self.flush(index, output)?;
        }
        outcome
    }

    fn tokens<W: Workload>(
        &mut self,
        index: usize,
        bytes: &[u8],
        workload: &mut W,
        output: &mut Vec<u8>,
    ) -> Result<()> {
        if self.websocket {
            return self.messages(index, bytes, workload, output);
        }
        let mut joined = std::mem::take(&mut self.sessions[index].partial);
        let mut data = bytes;
        if !joined.is_empty() {
            joined.extend_from_slice(bytes);
            data = &joined;
        }
        loop {
            let Some((token, used)) = framing::next(data)
                .map_err(|_| anyhow!("no XML stream: {}", crate::login::readable(data)))?
            else {
                break;
            };
            data = &data[used..];
            if self.token(index, &token, workload, output)? == Step::StartTls {
                // Nothing that came before the handshake survives it.
                ensure!(
                    data.is_empty(),
                    "the server sent bytes between <proceed/> and TLS"
                );
                output.clear();
                return self.start_tls(index);
            }
        }
        ensure!(
            data.len() <= ELEMENT_BYTES_MAX,
            "an element of more than {ELEMENT_BYTES_MAX} bytes"
        );
        if !data.is_empty() {
            self.sessions[index].partial = data.to_vec();
        }
        Ok(())
    }

    fn token<W: Workload>(
        &mut self,
        index: usize,
        token: &Token<'_>,
        workload: &mut W,
        output: &mut Vec<u8>,
    ) -> Result<Step> {
        let session = &mut self.sessions[index];
        if session.login.phase == Phase::Ready {
            ready_token(index, session, token, workload, output)?;
            return Ok(Step::Continue);
        }
        let step = session
            .login
            .token(token, &self.plan, &mut self.keys, output)?;
        match step {
            Step::Ready => {
                self.reached += 1;
                if self.plan.goal
                    == (crate::login::Goal::Session {
                        stream_management: true,
                    })
                {
                    session.sm.enabled = true;
                    // The presence at the end of the login.
                    session.sm.sent = 1;
                }
                workload.ready(index, session, output)?;
            }
            Step::Done => return Err(StreamEnded.into()),
            Step::Continue | Step::StartTls => {}
        }
        Ok(step)
    }

    /// Encrypts and writes; keeps what the socket does not take. Leaves `output` empty.
    fn flush(&mut self, index: usize, output: &mut Vec<u8>) -> Result<()> {
        let session = &mut self.sessions[index];
        let Some(socket) = &mut session.socket else {
            bail!("the connection has ended")
        };
        if session.framed {
            let mut frames = std::mem::take(&mut self.frames);
            websocket::frame_all(output, &self.plan.account.domain, &mut frames)?;
            std::mem::swap(output, &mut frames);
            frames.clear();
            self.frames = frames;
        }
        let bytes = match &mut session.tls {
            Some(tls) => {
                self.sealed.clear();
                tls.seal(output, &mut self.sealed)?;
                &self.sealed
            }
            None => &*output,
        };
        let mut taken = 0;
        if session.unsent.is_empty() {
            while taken < bytes.len() {
                match socket.write(&bytes[taken..]) {
                    Ok(count) => taken += count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        if taken < bytes.len() {
            session.unsent.extend_from_slice(&bytes[taken..]);
            ensure!(
                session.unsent.len() <= UNSENT_BYTES_MAX,
                "the server does not read"
            );
        }
        output.clear();
        Ok(())
    }

    fn flush_unsent(&mut self, index: usize) -> Result<()> {
        let session = &mut self.sessions[index];
        let Some(socket) = &mut session.socket else {
            return Ok(());
        };
        let mut taken = 0;
        while taken < session.unsent.len() {
            match socket.write(&session.unsent[taken..]) {
                Ok(count) => taken += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if taken == session.unsent.len() {
            session.unsent = Vec::new();
        } else {
            session.unsent.drain(..taken);
        }
        Ok(())
    }
}

fn ready_token<W: Workload>(
    index: usize,
    session: &mut Session,
    token: &Token<'_>,
    workload: &mut W,
    output: &mut Vec<u8>,
) -> Result<()> {
    let element = match token {
        Token::Element(element) => *element,
        Token::StreamOpen(_) => bail!("a second stream header"),
        Token::StreamClose => return Err(StreamEnded.into()),
    };
    match framing::name(element) {
        b"message" | b"presence" | b"iq" => {
            session.sm.received = session.sm.received.wrapping_add(1);
            workload.stanza(index, session, element, output)
        }
        b"r" if session.sm.enabled => {
            session.sm.answer(output);
            Ok(())
        }
        b"a" if session.sm.enabled => {
            let h = framing::attribute(element, b"h")
                .and_then(|h| std::str::from_utf8(h).ok()?.parse::<u32>().ok())
                .context("an <a/> without h")?;
            let newly = h.wrapping_sub(session.sm.acked);
            ensure!(
                newly <= session.sm.unacked(),
                "the server acknowledged {h} of {} stanzas, and {} before",
                session.sm.sent,
                session.sm.acked
            );
            session.sm.acked = h;
            session.sm.asked = false;
            workload.acked(index, session, output)
        }
        b"stream:error" => bail!("stream error: {}", crate::login::readable(element)),
        _ => Ok(()),
    }
}

/// The server's end of stream, where it may be what was wanted.
#[derive(Debug)]
struct StreamEnded;

impl std::fmt::Display for StreamEnded {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the server ended the stream")
    }
}

impl std::error::Error for StreamEnded {}

fn raise_descriptor_limit(needed: u64) -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|current| current < needed) {
        ensure!(
            limit.maximum.is_none_or(|maximum| maximum >= needed),
            "{needed} descriptors are needed, the limit is {:?} (ulimit -Hn)",
            limit.maximum
        );
        setrlimit(
            Resource::Nofile,
            Rlimit {
                current: limit.maximum,
                maximum: limit.maximum,
            },
        )?;
    }
    Ok(())
}
