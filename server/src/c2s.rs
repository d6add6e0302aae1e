//! A client's stream: one task from the first byte to the last.
//!
//! [`negotiate`] takes a connection to a bound session, in a boxed future that is gone afterwards; [`session`] is the
//! loop of the bound session; [`resume`] is what stream management knows. This file has what both phases share: the
//! connection and how it is read. Nothing is held while a session is idle: bytes are read into a buffer of the worker
//! thread, framed there, copied out at their exact size, and the buffer is free again before anything is awaited.
use std::cell::RefCell;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use protocol::stream::{ResponseHeader, StreamHeader};
use protocol::websocket::{Control, FrameFault, code};
use protocol::xml::{Frame, Item, Limits, Stamp};
use protocol::{Element, Framing, Stanza, StreamCondition, StreamError, ns};
use transport::{AcceptKind, Handshake, TlsError};

use crate::outlet::{Batch, Decrypted, Event, Flag, Order, SessionRef};
use crate::router::Router;
use crate::turns::Turns;

pub mod config;
pub mod intake;
pub mod leaving;
pub mod negotiate;
pub mod newcomers;
pub mod resumable;
pub mod resume;
pub mod session;
pub(crate) mod shaper;
pub mod task;
pub mod timing;

pub use config::ListenerSettings;
pub use intake::Intake;

use intake::Found;
use newcomers::{Newcomer, Newcomers, Whom};

/// Bytes of one read. All sessions of a worker thread share one such buffer.
pub const READ_BYTES: usize = 64 * 1024;
/// Longest time between our last bytes and the end of the connection.
pub const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);
/// A TLS handshake must be finished by then.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Items of one read that a thread keeps room for.
const ITEMS_KEEP_MAX: usize = 1_024;

thread_local! {
    static RECEIVED: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
    static DECRYPTED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static ITEMS: RefCell<Vec<Incoming>> = const { RefCell::new(Vec::new()) };
}

/// One thing that a client has sent, copied out of the read buffer.
#[derive(Debug)]
pub enum Incoming {
    /// A stream header.
    Header(Box<StreamHeader>),
    /// A stanza with its `from` stamped. Only after bind.
    Stanza(Stanza),
    /// A stanza that cannot be routed, and what to answer. Only after bind.
    Refused(Option<Stanza>),
    /// `<r/>` of XEP-0198. Only after bind.
    AckRequest,
    /// `<a/>` of XEP-0198 with its `h`, if that is a number. Only after bind.
    Ack(Option<u32>),
    /// Any other element of the stream's level; before bind, stanzas too.
    Element(Box<Element>),
    /// `</stream:stream>`.
    Close,
    /// A ping of the WebSocket, to be answered.
    Ping(Box<Control>),
    /// The end of the WebSocket, without that of the stream.
    HungUp,
}

/// Why a connection yields nothing more.
#[derive(Debug)]
pub enum End {
    /// The client closed its stream.
    Closed,
    /// The connection ended with the stream open, in order or not: a client that is killed, or a phone that sleeps,
    /// looks like either (XEP-0198 section 5).
    Lost,
    /// The stream is at fault; the client gets this error.
    Error(StreamError),
    /// The frames of the WebSocket are at fault; the client gets an error that says so.
    Frame(FrameFault),
    /// Somebody ordered it.
    Ordered(StreamError, &'static str),
}

impl End {
    /// What the client is told of it.
    pub(crate) fn error(&self, framing: Framing) -> Option<StreamError> {
        let error = match self {
            Self::Closed | Self::Lost => return None,
            Self::Error(error) | Self::Ordered(error, _) => error.clone(),
            Self::Frame(FrameFault::NotUtf8) => StreamCondition::NotWellFormed.into(),
            Self::Frame(FrameFault::TooBig) => StreamError::too_big(),
            Self::Frame(fault) => {
                StreamError::new(StreamCondition::BadFormat).with_text(fault.to_string())
            }
        };
        Some(match (framing, error.condition) {
            // A host and a port say nothing to a client that has the address of a web page.
            (Framing::WebSocket, StreamCondition::SeeOtherHost) => {
                StreamCondition::SystemShutdown.into()
            }
            _ => error,
        })
    }

    /// The status code with which a WebSocket ends (RFC 6455 section 7.4.1).
    pub(crate) fn code(&self) -> u16 {
        match self {
            Self::Frame(fault) => fault.code(),
            Self::Error(error) if error.is_too_big() => code::TOO_BIG,
            Self::Error(error) | Self::Ordered(error, _) => match error.condition {
                StreamCondition::PolicyViolation => code::POLICY,
                StreamCondition::SystemShutdown | StreamCondition::SeeOtherHost => code::GOING_AWAY,
                _ => code::NORMAL,
            },
            Self::Closed | Self::Lost => code::NORMAL,
        }
    }
}

impl From<StreamError> for End {
    fn from(error: StreamError) -> Self {
        Self::Error(error)
    }
}

impl From<StreamCondition> for End {
    fn from(condition: StreamCondition) -> Self {
        Self::Error(condition.into())
    }
}

/// What one read brought.
pub(crate) struct Received {
    /// Items in order.
    pub items: Vec<Incoming>,
    /// Plaintext bytes of it.
    pub bytes: usize,
    /// Why there is nothing after them, if so.
    pub end: Option<End>,
}

/// Connections that may wait for their turn to compute a handshake; more are dropped. At 100 us each that is a wait of
/// 0.1 s.
pub const HANDSHAKES_WAITING_MAX: usize = 1_000;

/// What limits the connections of all listeners of a node before they have a session.
pub struct Admission {
    /// Those that have none.
    pub newcomers: Arc<Newcomers>,
    /// Security case T05: TLS handshakes take turns, so that a storm of them leaves half of the cores to the others.
    /// Only the computation has a turn, some 100 us of it; who waits for a slow client does not hold one.
    pub handshakes: Turns,
}

/// A client's connection before it is bound.
pub struct Connection {
    /// The write half.
    pub outlet: SessionRef,
    /// The reader, which holds nothing between two elements.
    pub intake: Intake,
    /// What was appended and not flushed.
    pub batch: Batch,
    /// The node.
    pub router: Arc<Router>,
    /// The settings of its listener.
    pub listener: Arc<ListenerSettings>,
    /// Where it comes from, for limits.
    pub peer: IpAddr,
    /// TLS was there before the stream, below of what it goes through.
    pub is_encrypted_below: bool,
    /// What all connections of the node share.
    pub admission: Arc<Admission>,
    /// Its place among those that have no session yet, given up with this connection.
    _newcomer: Newcomer,
    /// Plaintext that was read and not parsed yet.
    unparsed: Vec<u8>,
    /// Bytes read so far, limited before login.
    read_bytes: usize,
}

impl Connection {
    /// A connection that nothing has been read from.
    pub fn new(
        outlet: SessionRef,
        router: Arc<Router>,
        listener: Arc<ListenerSettings>,
        peer: IpAddr,
        admission: Arc<Admission>,
    ) -> Self {
        let batch = Batch::new(&router.ledger);
        let intake = Intake::new(outlet.framing(), Limits::PRE_AUTH);
        let newcomer = admission
            .newcomers
            .enter(peer, Whom::Stream(outlet.clone()));
        Self {
            admission,
            _newcomer: newcomer,
            outlet,
            intake,
            batch,
            router,
            listener,
            peer,
            is_encrypted_below: false,
            unparsed: Vec::new(),
            read_bytes: 0,
        }
    }

    /// The next item of the stream: one at a time, since each may change what the next bytes mean.
    pub async fn next(&mut self) -> Result<Incoming, End> {
        loop {
            match self.parse_one()? {
                Some(Incoming::Ping(ping)) => self.outlet.push_pong(&ping, &mut self.batch),
                Some(Incoming::HungUp) => {
                    self.outlet.push_hang_up(&mut self.batch);
                    self.batch.flush();
                    return Err(End::Lost);
                }
                Some(item) => return Ok(item),
                None => {
                    self.batch.flush();
                    self.read_more().await?;
                }
            }
        }
    }

    fn parse_one(&mut self) -> Result<Option<Incoming>, End> {
        let mut item = None;
        let Self {
            intake, unparsed, ..
        } = self;
        let read = intake.read(unparsed, |found| {
            item = Some(match found {
                Found::Item(Item::Header(header)) => Incoming::Header(Box::new(header)),
                Found::Item(Item::Close) => Incoming::Close,
                Found::Item(Item::Element(frame)) => {
                    Incoming::Element(Box::new(frame.to_element()))
                }
                Found::Ping(ping) => Incoming::Ping(Box::new(ping)),
                Found::HungUp => Incoming::HungUp,
            });
            Ok(ControlFlow::Break(()))
        })?;
        unparsed.drain(..read);
        Ok(item)
    }

    /// Takes over what came before the stream, through TLS or not.
    pub fn begin_with(&mut self, unparsed: Vec<u8>, is_encrypted_below: bool) {
        self.unparsed = unparsed;
        self.is_encrypted_below = is_encrypted_below;
    }

    /// Whether plaintext was sent behind the element that was just handled.
    pub fn has_unparsed(&self) -> bool {
        !self.unparsed.is_empty() || self.intake.is_inside()
    }

    /// What was read behind the last item of the negotiation: the session parses it first.
    pub fn take_unparsed(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.unparsed)
    }

    /// The reader, for the session; what was appended goes out first.
    pub fn into_intake(mut self) -> Intake {
        self.batch.flush();
        std::mem::replace(&mut self.intake, Intake::none())
    }

    /// Waits for bytes and takes them as plaintext.
    pub async fn read_more(&mut self) -> Result<(), End> {
        self.readable().await?;
        self.take_received()
    }

    /// Waits for bytes, or for the end of the connection.
    pub async fn readable(&mut self) -> Result<(), End> {
        loop {
            match std::future::poll_fn(|cx| self.outlet.poll_event(cx)).await {
                Event::Order(Order::Close(error, reason)) => {
                    return Err(End::Ordered(error, reason));
                }
                Event::Order(Order::HandOver(_) | Order::Presence(_)) => {}
                Event::Order(Order::Lost) => return Err(End::Lost),
                Event::Lost => return Err(End::Lost),
                Event::Writable => {
                    let flushed = self.outlet.flush_blocked(&mut self.batch.settled);
                    flushed.map_err(|_| End::Lost)?;
                }
                Event::Readable => return Ok(()),
            }
        }
    }

    /// Waits for an order to end, or for the end of the connection, while the client is not read. What waits for its
    /// socket is written.
    pub async fn ended(&mut self) -> End {
        loop {
            match std::future::poll_fn(|cx| self.outlet.poll_unread(cx)).await {
                Event::Order(Order::Close(error, reason)) => return End::Ordered(error, reason),
                Event::Order(Order::Lost) | Event::Lost => return End::Lost,
                Event::Order(Order::HandOver(_) | Order::Presence(_)) | Event::Readable => {}
                Event::Writable => {
                    let flushed = self.outlet.flush_blocked(&mut self.batch.settled);
                    if flushed.is_err() {
                        return End::Lost;
                    }
                }
            }
        }
    }

    /// Takes what has come as plaintext.
    pub fn take_received(&mut self) -> Result<(), End> {
        let before = self.unparsed.len();
        let end = receive(&self.outlet, |plain| self.unparsed.extend_from_slice(plain));
        self.read_bytes += self.unparsed.len() - before;
        if self.read_bytes > self.listener.bytes_before_login_max {
            return Err(StreamError::new(StreamCondition::PolicyViolation)
                .with_text("too many bytes before login")
                .into());
        }
        match end {
            Some(_) if self.unparsed.len() > before => Ok(()),
            Some(end) => Err(end),
            None => Ok(()),
        }
    }

    /// Writes everything that waits, to the last byte.
    pub async fn flush_all(&mut self) -> Result<(), End> {
        self.batch.flush();
        while !self.outlet.is_drained() {
            if let Event::Writable = std::future::poll_fn(|cx| self.outlet.poll_event(cx)).await {
                let flushed = self.outlet.flush_blocked(&mut self.batch.settled);
                flushed.map_err(|_| End::Lost)?;
            } else {
                return Err(End::Lost);
            }
        }
        Ok(())
    }

    /// TLS, from its first byte to the end of the handshake: what login has to know of it.
    pub async fn handshake(&mut self, kind: AcceptKind) -> Result<Option<Handshake>, End> {
        let tls = self.listener.tls.as_ref().map(|tls| tls.accept(kind));
        let Some(tls) = tls else {
            return Err(StreamCondition::InternalServerError.into());
        };
        self.outlet.start_tls(tls);
        let done = tokio::time::timeout(HANDSHAKE_TIMEOUT, async {
            while self.outlet.with_tls(|tls| tls.is_handshaking()) == Some(true) {
                self.readable().await?;
                let admission = self.admission.clone();
                let Some(_turn) = admission.handshakes.take().await else {
                    return Err(StreamCondition::ResourceConstraint.into());
                };
                self.take_received()?;
            }
            Ok::<(), End>(())
        });
        let done = done.await;
        let metrics = &self.router.metrics.tls_handshakes;
        match done {
            Ok(Ok(())) => metrics.ok.inc(),
            Ok(Err(_)) => {
                metrics.failed.inc();
                return Err(End::Lost);
            }
            Err(_) => {
                metrics.timeout.inc();
                return Err(End::Lost);
            }
        };
        let handshake = self.outlet.with_tls(|tls| tls.take_handshake());
        Ok(handshake.flatten())
    }

    /// Appends our header.
    pub fn send_header(&mut self, header: &ResponseHeader<'_>) {
        self.outlet.push_header(header, &mut self.batch);
    }

    /// Appends an element for the client; it leaves with the next flush.
    pub fn send(&mut self, element: &[u8]) {
        self.outlet.push_bytes(element, &mut self.batch);
    }
}

/// One `recv`, decrypted: calls `take` with the plaintext. Returns why nothing more will come, if so.
fn receive(outlet: &SessionRef, take: impl FnOnce(&mut [u8])) -> Option<End> {
    RECEIVED.with_borrow_mut(|buffer| {
        let count = match outlet.socket().try_read(buffer) {
            Ok(0) => return Some(End::Lost),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return None,
            Err(_) => return Some(End::Lost),
        };
        let received = buffer.get_mut(..count)?;
        DECRYPTED.with_borrow_mut(|plain| {
            plain.clear();
            let end = match outlet.decrypt(received, plain) {
                Ok(Decrypted::NotEncrypted) => {
                    take(received);
                    return None;
                }
                Ok(Decrypted::Open) => None,
                Ok(Decrypted::Closed) => Some(End::Lost),
                // The client can still be told: security case T10.
                Err(error @ TlsError::Limit(_)) => Some(End::Error(
                    StreamError::new(StreamCondition::PolicyViolation).with_text(error.to_string()),
                )),
                Err(error) => {
                    tracing::debug!(%error, "record refused");
                    Some(End::Lost)
                }
            };
            take(plain);
            end
        })
    })
}

/// Ends a connection so that the client gets the last bytes (RFC 6120 section 4.4): waits until they are written, and
/// then for the client to hang up. A socket that is closed with unread bytes sends a reset, which takes from the
/// client what it has not read yet. A client that lets us wait gets no more than [`GOODBYE_TIMEOUT`].
pub(crate) async fn close_gently(outlet: &SessionRef) {
    outlet.set(Flag::Closed);
    hang_up(outlet).await;
}

/// Ends the connection of a session that goes on elsewhere.
pub(crate) async fn let_go(outlet: &SessionRef) {
    if outlet.has(Flag::Detached) {
        outlet.close_write_side();
    } else {
        hang_up(outlet).await;
    }
}

/// Writes what waits, closes our side, and waits for the client's.
async fn hang_up(outlet: &SessionRef) {
    let deadline = tokio::time::Instant::now() + GOODBYE_TIMEOUT;
    let written = std::future::poll_fn(|cx| outlet.poll_written(cx));
    let is_written = tokio::time::timeout_at(deadline, written).await;
    outlet.close_write_side();
    if is_written == Ok(true) {
        let gone = std::future::poll_fn(|cx| poll_gone(outlet, cx));
        let _ = tokio::time::timeout_at(deadline, gone).await;
    }
}

/// Throws away what the client sends; ready when nothing more can come.
fn poll_gone(outlet: &SessionRef, cx: &mut Context<'_>) -> Poll<()> {
    loop {
        match outlet.socket().poll_readable(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Err(_)) => return Poll::Ready(()),
            Poll::Ready(Ok(())) => {}
        }
        match RECEIVED.with_borrow_mut(|buffer| outlet.socket().try_read(buffer)) {
            Ok(0) => return Poll::Ready(()),
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return Poll::Ready(()),
        }
    }
}

/// Reads what is there and frames it into items for a bound session. Holds no buffer when it returns.
pub(crate) fn receive_items(
    outlet: &SessionRef,
    intake: &mut Intake,
    stamp: &Stamp<'_>,
) -> Received {
    receive_with(outlet, intake, |frame| copy_out(frame, stamp))
}

/// The same for others than clients: `copy` makes something of each element that outlives the read buffer.
pub(crate) fn receive_with(
    outlet: &SessionRef,
    intake: &mut Intake,
    copy: impl Fn(&Frame<'_>) -> Result<Incoming, End>,
) -> Received {
    let mut items = ITEMS.take();
    let mut fault = None;
    let mut bytes = 0;
    let end = receive(outlet, |plain| {
        bytes = plain.len();
        fault = frame_all(intake, plain, copy, &mut items);
    });
    let is_element = |item: &Incoming| !matches!(item, Incoming::Ping(_));
    outlet.heard(intake.is_inside(), items.iter().any(is_element));
    Received {
        items,
        bytes,
        end: fault.or(end),
    }
}

/// Frames bytes that the negotiation had read ahead.
pub(crate) fn frame_unparsed(intake: &mut Intake, bytes: &mut [u8], stamp: &Stamp<'_>) -> Received {
    frame_with(intake, bytes, |frame| copy_out(frame, stamp))
}

/// The same for others than clients.
pub(crate) fn frame_with(
    intake: &mut Intake,
    bytes: &mut [u8],
    copy: impl Fn(&Frame<'_>) -> Result<Incoming, End>,
) -> Received {
    let mut items = ITEMS.take();
    let end = frame_all(intake, bytes, copy, &mut items);
    Received {
        items,
        bytes: bytes.len(),
        end,
    }
}

/// Gives the list back to the thread that handles the session now.
pub(crate) fn give_back(mut items: Vec<Incoming>) {
    items.clear();
    if items.capacity() <= ITEMS_KEEP_MAX {
        ITEMS.set(items);
    }
}

fn frame_all(
    intake: &mut Intake,
    input: &mut [u8],
    copy: impl Fn(&Frame<'_>) -> Result<Incoming, End>,
    items: &mut Vec<Incoming>,
) -> Option<End> {
    let read = intake.read(input, |found| {
        let (item, flow) = match found {
            Found::Item(Item::Element(frame)) => (copy(&frame)?, ControlFlow::Continue(())),
            Found::Item(Item::Close) => (Incoming::Close, ControlFlow::Break(())),
            Found::Item(Item::Header(_)) => return Err(StreamCondition::BadFormat.into()),
            Found::Ping(ping) => (Incoming::Ping(Box::new(ping)), ControlFlow::Continue(())),
            Found::HungUp => (Incoming::HungUp, ControlFlow::Break(())),
        };
        items.push(item);
        Ok(flow)
    });
    read.err()
}

/// The element as something that outlives the read buffer.
fn copy_out(frame: &Frame<'_>, stamp: &Stamp<'_>) -> Result<Incoming, End> {
    if frame.kind().is_none() {
        // As frequent as messages, and nothing is in them: no tree.
        return Ok(match (frame.name(), frame.ns()) {
            ("r", ns::STREAM_MANAGEMENT) => Incoming::AckRequest,
            ("a", ns::STREAM_MANAGEMENT) => {
                Incoming::Ack(frame.attr("h").and_then(|h| session::parse_h(&h)))
            }
            _ => Incoming::Element(Box::new(frame.to_element())),
        });
    }
    if let Some(from) = frame.attr("from")
        && !is_sender(&from, stamp)
    {
        // RFC 6120 section 8.1.2.1: of the two ways, the one that tells the client.
        return Err(StreamCondition::InvalidFrom.into());
    }
    Ok(match frame.to_stanza(stamp) {
        Ok(stanza) => Incoming::Stanza(stanza),
        Err(refused) => Incoming::Refused(refused.reply),
    })
}

/// Whether a given `from` is the session's own address, full or bare.
fn is_sender(from: &str, stamp: &Stamp<'_>) -> bool {
    let own = stamp.from;
    if from == own.as_str() || from == own.bare_str() {
        return true;
    }
    protocol::Jid::parse(from)
        .is_ok_and(|from| from.as_str() == own.as_str() || from.as_str() == own.bare_str())
}

#[cfg(test)]
mod tests;
