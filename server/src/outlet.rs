//! A session's write half: unsent bytes, TLS, flush, and what waits for an acknowledgement.
//!
//! Whoever routes a stanza appends it here and flushes at the end of the batch; no channel and no second task lies in
//! between. The lock is held for the append, the encryption and the bookkeeping, never across an `.await`, never
//! together with another outlet's, and not while the socket is written: a flag keeps others from writing meanwhile.
//!
//! Bytes that the socket refuses wait in front of all others, `blocked` is set before the session's task is woken, and
//! only that task goes on when the socket is writable again. Never are `writing` and `blocked` set at once: whoever
//! ends a write hands on to the session's task what TLS has put behind it meanwhile. This is the only file that locks
//! an outlet.
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicI16, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use ahash::{HashSet, HashSetExt as _};
use parking_lot::{Mutex, MutexGuard};
use protocol::stream::ResponseHeader;
use protocol::websocket::{self, Control, code};
use protocol::{Framing, FullJid, Jid, Kind, Stanza, StreamCondition, StreamError};
use transport::{Socket, TlsError, TlsRecords};

use crate::c2s::resume::{Kept, Managed, NONZAS_BYTES, Settled, Token};
use crate::ledger::Ledger;
use crate::receipts::Receipt;

use held::{Held, Offered};

mod held;

/// A session as others see it.
pub type SessionRef = Arc<Outlet>;

/// A destination is flushed at this many bytes, even amid a batch.
pub const FLUSH_BYTES: usize = 16 * 1024;
/// Bytes that may wait for a socket that refuses them; a session over it is closed with `resource-constraint`.
pub const OUTLET_BYTES_MAX: usize = 64 * 1024;
/// The same where nothing is taken for the time of a round trip, whatever the client does (XEP-0124): everything that
/// contacts and rooms say meanwhile, at a login too.
pub const OUTLET_BYTES_BETWEEN_REQUESTS_MAX: usize = 512 * 1024;
/// Before login nobody needs more (security limit of half-open connections).
pub const OUTLET_BYTES_BEFORE_LOGIN_MAX: usize = 16 * 1024;
/// Addresses one session may have sent directed presence to; the oldest knowledge is refused, not replaced.
pub const DIRECTED_PRESENCE_MAX: usize = 1_000;
/// Orders that may wait for a session's task; more are dropped, since each ends or hands over the session.
const ORDERS_MAX: usize = 8;

/// The priority of a session that is not available.
const UNAVAILABLE: i16 = i16::MIN;

/// Facts of one bit about a session that other tasks read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Flag {
    /// Asked for the roster in this session: gets roster pushes (RFC 6121 section 2.1.6).
    Interested = 1,
    /// The stream is closed or closing: nothing is taken any more.
    Closed = 2,
    /// Stream management is on and the connection is lost: stanzas wait for a resumption.
    Detached = 4,
    /// Was asked for a sign of life and has not given one.
    Asked = 8,
    /// The session is over and everybody who had to know was told: no order reaches it any more.
    Ended = 16,
    /// Wants copies of what the account's other sessions send and receive (XEP-0280).
    Carbons = 32,
    /// The account has other sessions. The session table sees to it.
    Accompanied = 64,
    /// It is known that no list of the account restricts what the session sends and receives (XEP-0016). A session
    /// begins, and goes on after a resumption, without knowing.
    Unrestricted = 128,
    /// Asked for the block list in this session: learns of its changes (XEP-0191).
    Blocklist = 256,
}

/// What stays with a session whose connection changes.
const MOVING_FLAGS: u16 = Flag::Interested as u16 | Flag::Carbons as u16 | Flag::Blocklist as u16;

/// Something the session's own task has to do, before it reads on.
pub enum Order {
    /// Write the error, close, end the session.
    Close(StreamError, &'static str),
    /// The client gives no sign of life: the connection counts as lost, the session may be resumed.
    Lost,
    /// Another connection takes the session over (XEP-0198 section 5).
    HandOver(tokio::sync::oneshot::Sender<Box<crate::c2s::session::Session>>),
    /// Presence as if the client had sent it; the sender is told when that is done.
    Presence(Box<(Stanza, tokio::sync::oneshot::Sender<()>)>),
}

/// The write half of one client connection and, after bind, what others may know of its session.
pub struct Outlet {
    id: AtomicU64,
    socket: Socket,
    jid: OnceLock<FullJid>,
    ledger: Arc<Ledger>,
    priority: AtomicI16,
    flags: AtomicU16,
    /// Seconds of the ledger's clock at the last byte from the client.
    heard_at: AtomicU32,
    /// Seconds of the ledger's clock since when a stanza has been incomplete; 0 if none is.
    cut_since: AtomicU32,
    /// Seconds of the ledger's clock when the session was bound.
    bound_at: AtomicU32,
    state: Mutex<State>,
}

struct State {
    /// Plaintext that nobody has begun to write.
    out: Vec<u8>,
    refused: Option<Box<Refused>>,
    tls: Option<Box<dyn TlsRecords>>,
    waker: Option<Waker>,
    managed: Option<Box<Managed>>,
    rare: Option<Box<Rare>>,
    presence: Option<Arc<Stanza>>,
    /// Somebody writes to the socket at this moment.
    writing: bool,
    /// The session's task waits for the end of that.
    awaited: bool,
    /// The socket has refused bytes; the session's task goes on when it is writable.
    blocked: bool,
    /// Stands in somebody's batch.
    dirty: bool,
    /// Stands in the ledger's list of outlets to look at.
    enrolled: bool,
    /// Nothing can be written any more: the session's task takes the connection for lost.
    broken: bool,
    /// How elements are put on the wire.
    framing: Framing,
    /// See [`Outlet::timing`].
    timing: u8,
    bytes_max: u32,
}

/// What a full socket leaves to be written.
#[derive(Default)]
struct Refused {
    /// For the wire; they go first.
    bytes: Vec<u8>,
    /// How many of the kept stanzas lie in there with their last byte.
    kept_count: usize,
    /// How many of the kept stanzas, from the last one on, come behind `State::out` without being copied there, and their
    /// bytes: nothing is held twice for a reader that has stopped.
    behind_count: usize,
    behind_bytes: usize,
}

impl Refused {
    /// The kept stanzas are written elsewhere, if at all. Returns how many came behind `State::out`.
    fn take_behind(&mut self) -> usize {
        self.behind_bytes = 0;
        std::mem::take(&mut self.behind_count)
    }
}

/// What few sessions have.
#[derive(Default)]
struct Rare {
    orders: VecDeque<Order>,
    /// Without stream management: stanzas that are kept until their bytes are written.
    kept: VecDeque<Kept>,
    /// Bytes that may wait beyond `bytes_max`, as we have caused it: a resumption sends everything again.
    bytes_more: usize,
    directed: HashSet<Jid>,
    successor: Option<SessionRef>,
    /// The client is inactive (XEP-0352): what it need not get at once.
    held: Option<Box<Held>>,
    /// Dropped when the session has ended altogether.
    waiting_for_end: Vec<tokio::sync::oneshot::Sender<()>>,
    /// What waits until a resumption has put its state in place. That happens between two awaits of the task that
    /// resumes, so it is short.
    installing: Option<Installing>,
}

#[derive(Default)]
struct Installing {
    pushed: Vec<(Stanza, Option<Token>, Option<Receipt>)>,
    /// Stanzas of the client that were settled, and those that got further targets.
    settled: Vec<u32>,
    expected: Vec<(u32, u16)>,
}

/// What became of a pushed stanza.
pub enum Pushed {
    /// It stands in the outlet.
    Taken,
    /// The session is closed: the stanza comes back.
    Closed(Stanza, Option<Token>),
}

/// What became of a settlement.
pub enum Settlement {
    /// It is noted.
    Noted {
        /// What has to be done about `h`.
        settled: Settled,
        /// The client was not read, and is from now on: its task has to be woken.
        reads_again: bool,
    },
    /// The session goes on with another outlet: that one has to be asked.
    Moved(SessionRef),
}

thread_local! {
    /// Ciphertext of the flush in progress on this thread.
    static SEALED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    /// Room for the tokens of the next batch on this thread.
    static SETTLED: Cell<Vec<Token>> = const { Cell::new(Vec::new()) };
}

/// Tokens that a thread keeps room for.
const SETTLED_KEEP_MAX: usize = 1_024;
/// Outlets that a batch keeps room for while it is empty.
const MORE_KEEP_MAX: usize = 8;

/// Ciphertext buffers above this size are given back after use.
const SEALED_KEEP_BYTES_MAX: usize = 128 * 1024;

impl Outlet {
    /// The outlet of a fresh connection.
    pub fn new(id: u64, socket: Socket, ledger: Arc<Ledger>) -> SessionRef {
        Self::with_framing(id, socket, ledger, Framing::Stream, 0)
    }

    /// The outlet of a fresh connection whose elements go like that. `timing` is for [`Self::timing`].
    pub fn with_framing(
        id: u64,
        socket: Socket,
        ledger: Arc<Ledger>,
        framing: Framing,
        timing: u8,
    ) -> SessionRef {
        let heard_at = AtomicU32::new(ledger.clock.now_secs());
        Arc::new(Self {
            id: AtomicU64::new(id),
            socket,
            jid: OnceLock::new(),
            ledger,
            priority: AtomicI16::new(UNAVAILABLE),
            flags: AtomicU16::new(0),
            heard_at,
            cut_since: AtomicU32::new(0),
            bound_at: AtomicU32::new(0),
            state: Mutex::new(State {
                out: Vec::new(),
                refused: None,
                tls: None,
                waker: None,
                managed: None,
                rare: None,
                presence: None,
                writing: false,
                awaited: false,
                blocked: false,
                dirty: false,
                enrolled: false,
                broken: false,
                framing,
                timing,
                bytes_max: u32::try_from(OUTLET_BYTES_BEFORE_LOGIN_MAX).unwrap_or(u32::MAX),
            }),
        })
    }

    /// Unique on this node for its lifetime; stays with a session over resumptions.
    pub fn id(&self) -> u64 {
        self.id.load(Ordering::Relaxed)
    }

    /// The connection itself.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// How elements are put on the wire.
    pub fn framing(&self) -> Framing {
        self.state.lock().framing
    }

    /// Which of the router's timings the connection has; 0 is that of the node.
    pub fn timing(&self) -> u8 {
        self.state.lock().timing
    }

    /// The bound address.
    ///
    /// # Panics
    /// Before bind; sessions are in no table then.
    pub fn jid(&self) -> &FullJid {
        self.jid.get().expect("a session in a table is bound")
    }

    /// Gives the session its address and the limits of a client that has logged in.
    pub fn bind(&self, jid: FullJid) {
        let bound = self.jid.set(jid).is_ok();
        debug_assert!(bound, "a stream binds once");
        self.bound_at
            .store(self.ledger.clock.now_secs(), Ordering::Relaxed);
        let bytes_max = if self.socket.is_pipe() {
            OUTLET_BYTES_BETWEEN_REQUESTS_MAX
        } else {
            OUTLET_BYTES_MAX
        };
        self.state.lock().bytes_max = u32::try_from(bytes_max).unwrap_or(u32::MAX);
    }

    /// Gives a component's connection its limit: it has no address of a session.
    pub fn admit(&self, bytes_max: u32) {
        self.state.lock().bytes_max = bytes_max;
    }

    /// Seconds of the ledger's clock when the session was bound, on whichever connection.
    pub fn bound_at(&self) -> u32 {
        self.bound_at.load(Ordering::Relaxed)
    }

    /// Priority of an available session (RFC 6121 section 4.7.2.3), `None` if it is not available.
    pub fn priority(&self) -> Option<i8> {
        match self.priority.load(Ordering::Relaxed) {
            UNAVAILABLE => None,
            value => i8::try_from(value).ok(),
        }
    }

    /// The last broadcast presence of the session, wherever it goes on.
    pub fn presence(&self) -> Option<Arc<Stanza>> {
        let state = self.state.lock();
        let successor = state.rare.as_ref().and_then(|rare| rare.successor.clone());
        match successor {
            None => state.presence.clone(),
            Some(successor) => {
                drop(state);
                successor.presence()
            }
        }
    }

    /// Takes messages by that priority from now on, or none, although nobody has seen the presence yet.
    pub fn set_priority(&self, priority: Option<i8>) {
        let value = priority.map_or(UNAVAILABLE, i16::from);
        self.priority.store(value, Ordering::Relaxed);
    }

    /// Sets what others see; `None` makes the session unavailable. Returns what stood there before.
    pub fn set_presence(&self, presence: Option<(Arc<Stanza>, i8)>) -> Option<Arc<Stanza>> {
        let mut state = self.state.lock();
        let (stanza, priority) = match presence {
            Some((stanza, priority)) => (Some(stanza), i16::from(priority)),
            None => (None, UNAVAILABLE),
        };
        self.priority.store(priority, Ordering::Relaxed);
        std::mem::replace(&mut state.presence, stanza)
    }

    /// Whether a fact holds.
    pub fn has(&self, flag: Flag) -> bool {
        self.flags.load(Ordering::Acquire) & flag as u16 != 0
    }

    /// Notes that a fact holds; returns whether it held before.
    pub fn set(&self, flag: Flag) -> bool {
        self.flags.fetch_or(flag as u16, Ordering::AcqRel) & flag as u16 != 0
    }

    /// Notes that a fact holds no longer.
    pub fn clear(&self, flag: Flag) {
        self.flags.fetch_and(!(flag as u16), Ordering::AcqRel);
    }

    /// Notes a sign of life: whether a stanza is incomplete after it, and whether one was completed by it.
    pub fn heard(&self, inside_stanza: bool, completed: bool) {
        let now = self.ledger.clock.now_secs();
        self.heard_at.store(now, Ordering::Relaxed);
        if self.has(Flag::Asked) {
            self.clear(Flag::Asked);
        }
        let since = self.cut_since.load(Ordering::Relaxed);
        if inside_stanza != (since != 0) || (inside_stanza && completed) {
            self.cut_since.store(
                if inside_stanza { now.max(1) } else { 0 },
                Ordering::Relaxed,
            );
        }
    }

    /// Seconds since the client's last byte, and since when a stanza has been incomplete (0: none is).
    pub fn quiet_secs(&self) -> (u32, u32) {
        let now = self.ledger.clock.now_secs();
        let cut = self.cut_since.load(Ordering::Relaxed);
        let cut = if cut == 0 { 0 } else { now.saturating_sub(cut) };
        (
            now.saturating_sub(self.heard_at.load(Ordering::Relaxed)),
            cut,
        )
    }

    /// Remembers an address that got directed presence. `false` if there are too many.
    pub fn add_directed(&self, to: Jid) -> bool {
        let mut state = self.state.lock();
        let directed = &mut state.rare().directed;
        if directed.len() >= DIRECTED_PRESENCE_MAX && !directed.contains(&to) {
            return false;
        }
        directed.insert(to);
        true
    }

    /// Forgets an address that was told `unavailable`.
    pub fn remove_directed(&self, to: &Jid) {
        if let Some(rare) = &mut self.state.lock().rare {
            rare.directed.remove(to);
        }
    }

    /// Whether `to` (as it was addressed: bare or full) got directed presence.
    pub fn has_directed(&self, to: &Jid) -> bool {
        self.state
            .lock()
            .rare
            .as_ref()
            .is_some_and(|rare| rare.directed.contains(to))
    }

    /// All addresses that got directed presence.
    pub fn directed(&self) -> Vec<Jid> {
        let state = self.state.lock();
        let directed = state.rare.as_ref().map(|rare| &rare.directed);
        directed.map_or_else(Vec::new, |all| all.iter().cloned().collect())
    }

    /// All addresses that got directed presence; they are forgotten.
    pub fn take_directed(&self) -> HashSet<Jid> {
        let mut state = self.state.lock();
        state
            .rare
            .as_mut()
            .map_or_else(HashSet::new, |rare| std::mem::take(&mut rare.directed))
    }

    // ---- writing -----------------------------------------------------------------------------------------------

    /// Appends a stanza. The batch flushes it.
    pub fn push(
        self: &Arc<Self>,
        stanza: Stanza,
        token: Option<Token>,
        batch: &mut Batch,
    ) -> Pushed {
        self.push_any(stanza, token, None, batch)
    }

    /// The same for a stanza that its sender still has. `false` if the session is closed: the receipt comes back.
    pub fn push_with_receipt(
        self: &Arc<Self>,
        stanza: Stanza,
        receipt: Receipt,
        batch: &mut Batch,
    ) -> bool {
        let pushed = self.push_any(stanza, None, Some(receipt), batch);
        matches!(pushed, Pushed::Taken)
    }

    fn push_any(
        self: &Arc<Self>,
        stanza: Stanza,
        token: Option<Token>,
        receipt: Option<Receipt>,
        batch: &mut Batch,
    ) -> Pushed {
        let mut state = self.state.lock();
        if let Some(successor) = state.rare.as_ref().and_then(|rare| rare.successor.clone()) {
            drop(state);
            return successor.push_any(stanza, token, receipt, batch);
        }
        if self.has(Flag::Closed) {
            return Pushed::Closed(stanza, token);
        }
        // Presence is state, not content: it is settled when it has been handed on, and no row is made of it.
        let token = match stanza.kind() {
            Kind::Presence => {
                batch.settle(token);
                None
            }
            Kind::Message | Kind::Iq => token,
        };
        if let Some(waiting) = state
            .rare
            .as_mut()
            .and_then(|rare| rare.installing.as_mut())
        {
            waiting.pushed.push((stanza, token, receipt));
            return Pushed::Taken;
        }
        let waiting = state.waiting_bytes();
        if receipt.is_none()
            && let Some(held) = state.held()
        {
            match held.offer(stanza) {
                Offered::Held => {
                    drop(state);
                    // Of no use to anybody later, so nobody waits for it.
                    batch.settle(token);
                    return Pushed::Taken;
                }
                Offered::Full(stanzas) => {
                    self.append_held(&mut state, stanzas);
                    self.after_append(state, waiting, batch);
                    batch.settle(token);
                    return Pushed::Taken;
                }
                Offered::Passes { first, stanza } => {
                    self.append_held(&mut state, first);
                    self.append(&mut state, stanza, token, None);
                }
            }
        } else {
            self.release(&mut state);
            self.append(&mut state, stanza, token, receipt);
        }
        self.after_append(state, waiting, batch);
        Pushed::Taken
    }

    // ---- client state (XEP-0352)

    /// The client is not looked at: presence and the like may wait, at most `stanzas_max` of it.
    pub fn set_inactive(&self, stanzas_max: usize) {
        let mut state = self.state.lock();
        let held = &mut state.rare().held;
        held.get_or_insert_with(|| Box::new(Held::new(stanzas_max)));
    }

    /// The client is looked at again: what has waited goes out.
    pub fn set_active(self: &Arc<Self>, batch: &mut Batch) {
        let mut state = self.state.lock();
        let waiting = state.waiting_bytes();
        if self.has(Flag::Closed) || !self.release(&mut state) {
            return;
        }
        state.rare().held = None;
        self.after_append(state, waiting, batch);
    }

    /// Whether the client has said that it is not looked at.
    pub fn is_inactive(&self) -> bool {
        let state = self.state.lock();
        state.rare.as_ref().is_some_and(|rare| rare.held.is_some())
    }

    /// Appends what is held back; `false` if the client is active.
    fn release(self: &Arc<Self>, state: &mut State) -> bool {
        let Some(held) = state.held() else {
            return false;
        };
        let stanzas = held.take();
        self.append_held(state, stanzas);
        true
    }

    fn append_held(self: &Arc<Self>, state: &mut State, stanzas: Vec<Stanza>) {
        for stanza in stanzas {
            self.append(state, stanza, None, None);
        }
    }

    /// Asks the client for an acknowledgement of everything so far, if it manages its stream.
    pub fn request_acknowledgement(self: &Arc<Self>, batch: &mut Batch) {
        if self.has(Flag::Detached) {
            return;
        }
        let now = self.ledger.clock.now_ms();
        let mut request = Vec::new();
        self.with_managed(|managed| managed.append_request(&mut request, now));
        if !request.is_empty() {
            self.push_bytes(&request, batch);
        }
    }

    /// Appends one element that is no stanza of the router's: features, nonzas. A closed session ignores it.
    pub fn push_bytes(self: &Arc<Self>, element: &[u8], batch: &mut Batch) {
        self.push_raw(batch, |state| state.append_element(element));
    }

    /// Appends our header.
    pub fn push_header(self: &Arc<Self>, header: &ResponseHeader<'_>, batch: &mut Batch) {
        self.push_raw(batch, |state| {
            state.append_with(|framing, out| framing.header(out, header));
        });
    }

    /// Appends a ping of the WebSocket.
    pub fn push_ping(self: &Arc<Self>, batch: &mut Batch) {
        self.push_raw(batch, |state| {
            state.append_with(|_, out| websocket::push_ping(out));
        });
    }

    /// Answers a ping of the WebSocket.
    pub fn push_pong(self: &Arc<Self>, ping: &Control, batch: &mut Batch) {
        self.push_raw(batch, |state| {
            state.append_with(|_, out| websocket::push_pong(out, ping));
        });
    }

    /// Answers the client's end of the WebSocket, which is not that of the stream.
    pub fn push_hang_up(self: &Arc<Self>, batch: &mut Batch) {
        self.push_raw(batch, |state| {
            state.append_with(|framing, out| framing.hang_up(out, code::NORMAL));
        });
    }

    fn push_raw(self: &Arc<Self>, batch: &mut Batch, append: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        if self.has(Flag::Closed) {
            return;
        }
        let waiting = state.waiting_bytes();
        append(&mut state);
        self.after_append(state, waiting, batch);
    }

    /// Appends the last elements and the end of the stream, even when stanzas are not taken any more and whatever waits
    /// already, and flushes. A WebSocket ends with this status code.
    pub fn push_end(self: &Arc<Self>, elements: &[&[u8]], code: u16, settled: &mut Vec<Token>) {
        let mut state = self.state.lock();
        for element in elements.iter().filter(|element| !element.is_empty()) {
            state.append_element(element);
        }
        state.append_with(|framing, out| framing.end(out, code));
        drop(state);
        self.flush(settled);
    }

    fn append(
        self: &Arc<Self>,
        state: &mut State,
        stanza: Stanza,
        token: Option<Token>,
        receipt: Option<Receipt>,
    ) {
        // What is kept for a resumption need not stand in line for a connection that is gone.
        let gone = self.has(Flag::Detached) || (state.broken && state.managed.is_some());
        let managed = state.managed.as_ref();
        let is_buffered = managed.is_some_and(|managed| managed.is_buffered());
        // Kept until the socket has taken the bytes, so that a lost connection loses no message.
        let is_kept = is_buffered
            || token.is_some()
            || receipt.is_some()
            || (state.blocked && stanza.kind() != Kind::Presence);
        match (gone, is_kept && state.blocked) {
            (true, _) => {}
            (false, true) => state.stand_behind(stanza.bytes().len()),
            (false, false) => state.append_element(stanza.bytes()),
        }
        if !is_buffered && let Some(managed) = &mut state.managed {
            managed.count_sent();
        }
        if !is_kept {
            return;
        }
        let is_row_due = token.is_some() && (is_buffered || state.blocked);
        let now = self.ledger.clock.now_ms();
        state.keep(Kept::new(stanza, token, now).with_receipt(receipt));
        if is_row_due {
            self.enroll(state);
        }
    }

    /// `waiting` bytes waited before: what one append adds may be as large as it likes, as it is bounded elsewhere; a
    /// roster may have half a megabyte.
    fn after_append(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State>,
        waiting: usize,
        batch: &mut Batch,
    ) {
        let limit =
            state.bytes_max as usize + state.rare.as_ref().map_or(0, |rare| rare.bytes_more);
        if (state.blocked || state.broken) && waiting > limit {
            drop(state);
            self.ledger.metrics.slow_readers_closed.inc();
            self.order(Order::Close(
                StreamError::new(StreamCondition::ResourceConstraint)
                    .with_text("the client does not read what is sent to it"),
                "slow_reader",
            ));
            self.set(Flag::Closed);
            return;
        }
        if state
            .managed
            .as_ref()
            .is_some_and(|managed| managed.is_over_limit())
        {
            self.set(Flag::Closed);
            drop(state);
            self.ledger.metrics.outboxes_overrun.inc();
            self.order(Order::Close(
                StreamError::new(StreamCondition::ResourceConstraint)
                    .with_text("too many stanzas wait for an acknowledgement"),
                "unacknowledged",
            ));
            return;
        }
        let full = state.out.len() >= FLUSH_BYTES;
        if !state.dirty {
            state.dirty = true;
            drop(state);
            batch.add(self);
        } else {
            drop(state);
        }
        if full {
            self.flush(&mut batch.settled);
        }
    }

    /// Writes what waits, unless somebody else writes or the socket is full. Tokens that are settled by the write are
    /// added to `settled`.
    pub fn flush(self: &Arc<Self>, settled: &mut Vec<Token>) {
        let mut state = self.state.lock();
        state.dirty = false;
        while !state.writing && !state.blocked && !state.broken {
            if self.has(Flag::Detached) {
                return;
            }
            let State {
                managed,
                out,
                framing,
                ..
            } = &mut *state;
            if let Some(managed) = managed {
                managed.append_nonzas(out, *framing, self.ledger.clock.now_ms());
            }
            if state.out.is_empty() {
                return;
            }
            state = self.write_out(state, settled);
        }
        if state.blocked && self.socket.is_pipe() {
            drop(state);
            self.socket.has_more();
        }
    }

    /// One round: take what waits, seal it under the lock, write it under the flag.
    fn write_out<'a>(
        self: &'a Arc<Self>,
        mut state: MutexGuard<'a, State>,
        settled: &mut Vec<Token>,
    ) -> MutexGuard<'a, State> {
        let plain = std::mem::take(&mut state.out);
        let kept_count = state.rare.as_ref().map_or(0, |rare| rare.kept.len());
        if state.tls.is_none() {
            state.writing = true;
            drop(state);
            let written = self.socket.try_write(&plain);
            let mut state = self.state.lock();
            self.after_write(&mut state, &plain, written, kept_count, settled);
            return state;
        }
        SEALED.with_borrow_mut(|sealed| {
            sealed.clear();
            let tls = state.tls.as_mut().expect("checked above");
            if let Err(error) = tls.seal(&plain, sealed) {
                tracing::debug!(%error, "record could not be sealed");
                state.fail();
                return state;
            }
            state.writing = true;
            drop(state);
            let written = self.socket.try_write(sealed);
            let mut state = self.state.lock();
            self.after_write(&mut state, sealed, written, kept_count, settled);
            if sealed.capacity() > SEALED_KEEP_BYTES_MAX {
                *sealed = Vec::new();
            }
            state
        })
    }

    fn after_write(
        self: &Arc<Self>,
        state: &mut State,
        bytes: &[u8],
        written: std::io::Result<usize>,
        kept_count: usize,
        settled: &mut Vec<Token>,
    ) {
        state.writing = false;
        if self.has(Flag::Detached) {
            return;
        }
        let count = match written {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => 0,
            Err(_) => return state.fail(),
        };
        let rest = bytes.get(count..).unwrap_or_default();
        if rest.is_empty() {
            self.written(state, kept_count, settled);
        } else {
            let refused = state.refused();
            refused.kept_count = kept_count;
            // An answer of TLS that was made meanwhile was sealed later, so it stands behind.
            refused.bytes.splice(..0, rest.iter().copied());
            if state
                .rare
                .as_ref()
                .is_some_and(|rare| !rare.kept.is_empty())
            {
                self.enroll(state);
            }
        }
        if state.refused.is_some() {
            state.blocked = true;
            state.wake();
        }
        if std::mem::take(&mut state.awaited) {
            state.wake();
        }
    }

    /// The socket has taken the first `count` of the stanzas that were kept for it.
    fn written(&self, state: &mut State, count: usize, settled: &mut Vec<Token>) {
        let Some(rare) = &mut state.rare else { return };
        // They may have been taken out meanwhile, as the session has ended or moved.
        let count = count.min(rare.kept.len());
        for kept in rare.kept.drain(..count) {
            settled.extend(kept.token);
            if let Some(row) = kept.row {
                self.ledger.row_done(row);
            }
        }
    }

    /// Goes on after the socket became writable: what was refused first. Only the session's task calls it.
    pub fn flush_blocked(self: &Arc<Self>, settled: &mut Vec<Token>) -> std::io::Result<()> {
        let mut state = self.state.lock();
        if !state.blocked {
            return Ok(());
        }
        while let Some(refused) = &mut state.refused {
            match self.socket.try_write(&refused.bytes) {
                Ok(count) if count == refused.bytes.len() => {
                    let kept_count = refused.kept_count;
                    state.catch_up();
                    state.refused = None;
                    self.written(&mut state, kept_count, settled);
                }
                Ok(count) => {
                    // What is left moves into a buffer of its size.
                    refused.bytes = refused.bytes.get(count..).unwrap_or_default().to_vec();
                    return Ok(());
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        state.blocked = false;
        if let Some(rare) = &mut state.rare {
            rare.bytes_more = 0;
        }
        drop(state);
        self.flush(settled);
        Ok(())
    }

    /// Waits until the socket has taken all bytes (`true`), or never will. Only the session's task calls it, when
    /// nothing is pushed any more.
    pub fn poll_written(self: &Arc<Self>, cx: &mut Context<'_>) -> Poll<bool> {
        let mut settled = Vec::new();
        let polled = loop {
            let mut state = self.state.lock();
            state.remember(cx);
            if state.writing {
                state.awaited = true;
                break Poll::Pending;
            }
            if state.broken {
                break Poll::Ready(false);
            }
            if !state.blocked {
                break Poll::Ready(true);
            }
            drop(state);
            match self.socket.poll_writable(cx) {
                Poll::Pending => break Poll::Pending,
                Poll::Ready(Err(_)) => break Poll::Ready(false),
                Poll::Ready(Ok(())) if self.flush_blocked(&mut settled).is_err() => {
                    break Poll::Ready(false);
                }
                Poll::Ready(Ok(())) => {}
            }
        };
        self.ledger.settle_all(&mut settled);
        polled
    }

    /// Whether all that was pushed has been taken by the socket.
    pub fn is_drained(&self) -> bool {
        let state = self.state.lock();
        state.out.is_empty() && state.refused.is_none() && !state.writing
    }

    // ---- the session's task ------------------------------------------------------------------------------------

    /// As [`Self::poll_event`] for a client that is not read for now: never [`Event::Readable`].
    pub fn poll_unread(&self, cx: &mut Context<'_>) -> Poll<Event> {
        let blocked = {
            let mut state = self.state.lock();
            if let Some(order) = state.rare.as_mut().and_then(|rare| rare.orders.pop_front()) {
                return Poll::Ready(Event::Order(order));
            }
            state.remember(cx);
            if state.broken {
                return Poll::Ready(Event::Lost);
            }
            state.blocked
        };
        if blocked && let Poll::Ready(result) = self.socket.poll_writable(cx) {
            return Poll::Ready(result.map_or(Event::Lost, |()| Event::Writable));
        }
        Poll::Pending
    }

    /// Waits for an order, a writable socket (while bytes wait) or a readable one, in this order. A client with too
    /// many unsettled stanzas is not read.
    pub fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Event> {
        let (blocked, congested) = {
            let mut state = self.state.lock();
            if let Some(order) = state.rare.as_mut().and_then(|rare| rare.orders.pop_front()) {
                return Poll::Ready(Event::Order(order));
            }
            state.remember(cx);
            if self.has(Flag::Detached) {
                return Poll::Pending;
            }
            if state.broken {
                return Poll::Ready(Event::Lost);
            }
            (
                state.blocked,
                state
                    .managed
                    .as_ref()
                    .is_some_and(|managed| managed.is_congested()),
            )
        };
        if blocked && let Poll::Ready(result) = self.socket.poll_writable(cx) {
            return Poll::Ready(result.map_or(Event::Lost, |()| Event::Writable));
        }
        if congested {
            return Poll::Pending;
        }
        match self.socket.poll_readable(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Event::Readable),
            Poll::Ready(Err(_)) => Poll::Ready(Event::Lost),
            Poll::Pending => Poll::Pending,
        }
    }

    /// Gives the session's task something to do.
    pub fn order(&self, order: Order) {
        let mut state = self.state.lock();
        if self.has(Flag::Ended) {
            return;
        }
        let rare = state.rare();
        if let Some(successor) = &rare.successor {
            let successor = successor.clone();
            drop(state);
            return successor.order(order);
        }
        if rare.orders.len() < ORDERS_MAX {
            rare.orders.push_back(order);
        }
        state.wake();
    }

    /// Takes the order to close that waits, if one does.
    pub fn take_close(&self) -> Option<(StreamError, &'static str)> {
        let mut state = self.state.lock();
        let orders = &mut state.rare.as_mut()?.orders;
        let index = orders
            .iter()
            .position(|order| matches!(order, Order::Close(..)))?;
        match orders.remove(index) {
            Some(Order::Close(error, reason)) => Some((error, reason)),
            _ => None,
        }
    }

    /// Gives back an order that the session's task has taken and cannot carry out where it stands.
    pub fn order_first(&self, order: Order) {
        self.state.lock().rare().orders.push_front(order);
    }

    /// Wakes the session's task.
    pub fn wake(&self) {
        self.state.lock().wake();
    }

    // ---- TLS ---------------------------------------------------------------------------------------------------

    /// Puts TLS on the connection; what is pushed from now on is encrypted.
    pub fn start_tls(&self, tls: Box<dyn TlsRecords>) {
        let mut state = self.state.lock();
        debug_assert!(
            state.out.is_empty(),
            "plaintext is flushed before TLS starts"
        );
        state.tls = Some(tls);
    }

    /// Decrypts received bytes into `plain`; without TLS returns `false` and touches nothing. Answers that TLS itself
    /// makes are written at once.
    pub fn decrypt(
        self: &Arc<Self>,
        received: &mut [u8],
        plain: &mut Vec<u8>,
    ) -> Result<Decrypted, TlsError> {
        let mut state = self.state.lock();
        let Some(tls) = &mut state.tls else {
            return Ok(Decrypted::NotEncrypted);
        };
        let mut answer = Vec::new();
        let fed = tls.feed(received, plain, &mut answer);
        if !answer.is_empty() {
            self.write_records(&mut state, &answer);
        }
        let fed = fed?;
        Ok(if fed.peer_closed {
            Decrypted::Closed
        } else {
            Decrypted::Open
        })
    }

    /// Runs `f` on the TLS state, if there is one.
    pub fn with_tls<T>(&self, f: impl FnOnce(&mut dyn TlsRecords) -> T) -> Option<T> {
        let mut state = self.state.lock();
        let tls = state.tls.as_mut()?;
        Some(f(&mut **tls))
    }

    /// Bytes for the wire that are already records (handshake, alerts).
    fn write_records(&self, state: &mut State, bytes: &[u8]) {
        if state.blocked || state.writing {
            // Whoever writes finds it there.
            return state.refused().bytes.extend_from_slice(bytes);
        }
        let count = match self.socket.try_write(bytes) {
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => 0,
            Err(_) => return state.fail(),
        };
        if count < bytes.len() {
            let rest = bytes.get(count..).unwrap_or_default();
            state.refused().bytes.extend_from_slice(rest);
            state.blocked = true;
            state.wake();
        }
    }

    /// Says goodbye on the TLS layer and closes the write side. Nothing can be pushed afterwards.
    pub fn close(&self) {
        self.set(Flag::Closed);
        self.close_write_side();
    }

    /// Ends the connection only: pushes find the successor of the session.
    pub fn close_write_side(&self) {
        let mut state = self.state.lock();
        if let Some(tls) = &mut state.tls {
            let mut goodbye = Vec::new();
            tls.close_notify(&mut goodbye);
            if !state.blocked && !state.writing {
                let _ = self.socket.try_write(&goodbye);
            }
        }
        drop(state);
        self.socket.shutdown_write();
    }

    // ---- stream management -------------------------------------------------------------------------------------

    /// Runs `f` on the state of stream management, if it is on.
    pub fn with_managed<T>(&self, f: impl FnOnce(&mut Managed) -> T) -> Option<T> {
        self.state.lock().managed.as_deref_mut().map(f)
    }

    /// Turns stream management on and appends `answer`: in one step, since the client counts what comes behind it and
    /// nothing else. `false` if it is on already.
    pub fn manage(
        self: &Arc<Self>,
        managed: Box<Managed>,
        answer: &[u8],
        batch: &mut Batch,
    ) -> bool {
        let mut state = self.state.lock();
        if state.managed.is_some() {
            return false;
        }
        let waiting = state.waiting_bytes();
        state.append_element(answer);
        state.managed = Some(managed);
        self.after_append(state, waiting, batch);
        true
    }

    /// For each of the last tokens that are of `session`, which is this one: one more target is done with the stanza.
    /// They are taken off, unless the session has moved.
    pub fn settle(&self, session: u64, tokens: &mut Vec<Token>) -> Settlement {
        let mut state = self.state.lock();
        let mut noted = Settled::Nothing;
        let mut reads_again = false;
        let State { managed, rare, .. } = &mut *state;
        if let (None, Some(rare)) = (&managed, &rare)
            && let Some(successor) = &rare.successor
        {
            return Settlement::Moved(successor.clone());
        }
        while let Some(token) = tokens.pop_if(|token| token.session == session) {
            if let Some(managed) = managed {
                let was_congested = managed.is_congested();
                noted = noted.max(managed.settle(token.stanza));
                reads_again |= was_congested && !managed.is_congested();
            } else if let Some(waiting) = rare.as_mut().and_then(|rare| rare.installing.as_mut()) {
                waiting.settled.push(token.stanza);
            }
        }
        Settlement::Noted {
            settled: noted,
            reads_again,
        }
    }

    /// A stanza of this session's client goes to `more` further targets.
    pub fn expect(&self, stanza: u32, more: u16) {
        let mut state = self.state.lock();
        if let Some(managed) = &mut state.managed {
            managed.expect(stanza, more);
        } else if let Some(rare) = &mut state.rare {
            if let Some(successor) = rare.successor.clone() {
                drop(state);
                successor.expect(stanza, more);
            } else if let Some(waiting) = &mut rare.installing {
                waiting.expected.push((stanza, more));
            }
        }
    }

    /// The connection is lost but the session stays: what waits for the socket is forgotten, since everything that
    /// matters is kept for the resumption.
    pub fn detach(&self) {
        self.set(Flag::Detached);
        let mut state = self.state.lock();
        state.out = Vec::new();
        state.refused = None;
        state.tls = None;
        state.blocked = false;
        if let Some(managed) = &mut state.managed {
            managed.detach();
        }
        drop(state);
        self.socket.shutdown_write();
    }

    /// Nothing may be pushed until [`Self::install`]: pushes wait in order.
    pub fn begin_install(&self) {
        self.state.lock().rare().installing = Some(Installing::default());
    }

    /// `sender` is dropped when the session has ended and everybody who had to know was told.
    pub fn notify_end(&self, sender: tokio::sync::oneshot::Sender<()>) {
        let mut state = self.state.lock();
        if self.has(Flag::Ended) {
            return;
        }
        let rare = state.rare();
        if let Some(successor) = &rare.successor {
            let successor = successor.clone();
            drop(state);
            return successor.notify_end(sender);
        }
        rare.waiting_for_end.push(sender);
    }

    /// The session has ended: tells those who wait for it, and those who ask something of it from now on.
    pub fn ended(&self) {
        self.set(Flag::Ended);
        let mut state = self.state.lock();
        if let Some(rare) = &mut state.rare {
            rare.waiting_for_end.clear();
            rare.orders.clear();
        }
    }

    /// Ends this outlet's part of a session that `successor` takes over: gives out the state that moves there.
    /// Later pushes, settlements and orders go to the successor.
    pub fn hand_over(&self, successor: &SessionRef) -> HandedOver {
        let flags = self.flags.load(Ordering::Acquire) & MOVING_FLAGS;
        let priority = self.priority.load(Ordering::Relaxed);
        let presence = self.state.lock().presence.clone();
        successor.adopt(presence, priority, flags);
        successor.bound_at.store(self.bound_at(), Ordering::Relaxed);
        let mut state = self.state.lock();
        let mut managed = state.managed.take();
        for kept in managed.iter_mut().flat_map(|managed| managed.kept_mut()) {
            // A row that is being written finds nothing here when it is committed, and is deleted.
            if kept.row.is_none() {
                kept.serial = 0;
            }
        }
        state.presence = None;
        state.forget_behind();
        let rare = state.rare();
        rare.successor = Some(successor.clone());
        let directed = std::mem::take(&mut rare.directed);
        let mut kept = std::mem::take(&mut rare.kept);
        // A resumed stream starts active (XEP-0352 section 5.1).
        let held = rare.held.take();
        let now = self.ledger.clock.now_ms();
        let held = held.into_iter().flat_map(|mut held| held.take());
        kept.extend(held.map(|stanza| Kept::new(stanza, None, now)));
        let orders = std::mem::take(&mut rare.orders);
        let waiting_for_end = std::mem::take(&mut rare.waiting_for_end);
        drop(state);
        HandedOver {
            id: self.id(),
            managed,
            directed,
            kept,
            orders,
            waiting_for_end,
        }
    }

    /// Is seen as the session before it is one: nobody may take it for unavailable meanwhile.
    fn adopt(&self, presence: Option<Arc<Stanza>>, priority: i16, flags: u16) {
        let mut state = self.state.lock();
        state.presence = presence;
        self.priority.store(priority, Ordering::Relaxed);
        self.flags.fetch_or(flags, Ordering::AcqRel);
    }

    /// Puts the state of the resumed session in place, writes `greeting` (the `<resumed/>`), then what is
    /// unacknowledged, then what was pushed meanwhile.
    pub fn install(self: &Arc<Self>, handed: HandedOver, greeting: &[u8], batch: &mut Batch) {
        let mut state = self.state.lock();
        self.id.store(handed.id, Ordering::Relaxed);
        let waiting = state.rare().installing.take().unwrap_or_default();
        let mut managed = handed.managed;
        if let Some(managed) = &mut managed {
            waiting
                .expected
                .iter()
                .for_each(|(stanza, more)| managed.expect(*stanza, *more));
            waiting
                .settled
                .iter()
                .for_each(|stanza| _ = managed.settle(*stanza));
            let framing = state.framing;
            let mut again = Vec::new();
            framing.element(&mut again, greeting);
            managed.resend(&mut again, framing);
            state.rare().bytes_more = again.len();
            state.append_with(|_, out| out.append(&mut again));
        }
        state.managed = managed;
        // What was pushed before stream management was turned on and never written is now counted as well.
        let now = self.ledger.clock.now_ms();
        let pushed = waiting.pushed.into_iter();
        let pushed = pushed
            .map(|(stanza, token, receipt)| Kept::new(stanza, token, now).with_receipt(receipt));
        for mut kept in handed.kept.into_iter().chain(pushed) {
            if kept.row.is_none() {
                kept.serial = 0;
            }
            state.append_element(kept.stanza.bytes());
            state.keep(kept);
        }
        let rare = state.rare();
        rare.directed = handed.directed;
        rare.orders.extend(handed.orders);
        rare.waiting_for_end.extend(handed.waiting_for_end);
        self.enroll(&mut state);
        self.after_append(state, 0, batch);
    }

    /// Everything that was pushed and not acknowledged (or not written), in order. The outlet takes nothing more.
    pub fn take_kept(&self) -> Vec<Kept> {
        self.set(Flag::Closed);
        let mut state = self.state.lock();
        let mut all: Vec<Kept> = Vec::new();
        if let Some(managed) = &mut state.managed {
            all.extend(managed.take_kept());
        }
        if let Some(rare) = &mut state.rare {
            all.extend(std::mem::take(&mut rare.kept));
            let now = self.ledger.clock.now_ms();
            let held = rare.held.take();
            let held = held.into_iter().flat_map(|mut held| held.take());
            all.extend(held.map(|stanza| Kept::new(stanza, None, now)));
            if let Some(waiting) = rare.installing.take() {
                let pushed = waiting.pushed.into_iter();
                all.extend(pushed.map(|(stanza, token, receipt)| {
                    Kept::new(stanza, token, now).with_receipt(receipt)
                }));
            }
        }
        // What somebody is about to write goes out; what the socket refuses finds its way as one of these, and only
        // so: its bytes must not count as written.
        if state.blocked || state.broken {
            state.out = Vec::new();
        }
        state.forget_behind();
        all
    }

    /// The ledger has taken the outlet off its list.
    pub fn taken_off_list(&self) {
        self.state.lock().enrolled = false;
    }

    /// Runs `f` on everything kept, for the ledger.
    pub fn with_kept<T>(
        &self,
        f: impl FnOnce(Option<&mut Managed>, &mut VecDeque<Kept>) -> T,
    ) -> T {
        let mut state = self.state.lock();
        let mut none = VecDeque::new();
        let State { managed, rare, .. } = &mut *state;
        let kept = rare.as_mut().map_or(&mut none, |rare| &mut rare.kept);
        f(managed.as_deref_mut(), kept)
    }

    /// Puts the outlet on the ledger's list, once.
    pub fn enroll_now(self: &Arc<Self>) {
        let mut state = self.state.lock();
        self.enroll(&mut state);
    }

    fn enroll(self: &Arc<Self>, state: &mut State) {
        if !state.enrolled {
            state.enrolled = true;
            self.ledger.enroll(self.clone());
        }
    }
}

/// The movable state of a session whose connection changes.
pub struct HandedOver {
    id: u64,
    /// Its stream management.
    pub managed: Option<Box<Managed>>,
    directed: HashSet<Jid>,
    kept: VecDeque<Kept>,
    orders: VecDeque<Order>,
    waiting_for_end: Vec<tokio::sync::oneshot::Sender<()>>,
}

impl HandedOver {
    /// The session's id.
    pub fn id(&self) -> u64 {
        self.id
    }
}

/// What the session's task wakes up for.
pub enum Event {
    /// Somebody wants something of the session itself.
    Order(Order),
    /// Bytes that were refused may go on.
    Writable,
    /// The client has sent something, or has gone.
    Readable,
    /// The socket failed.
    Lost,
}

/// What decryption said about the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decrypted {
    /// No TLS on this connection: the bytes are plaintext as they are.
    NotEncrypted,
    /// The plaintext was appended.
    Open,
    /// The peer has said goodbye; plaintext before it was appended.
    Closed,
}

impl State {
    /// Bytes that wait for a socket that refuses them; of what was refused no more than one flush, as above.
    fn waiting_bytes(&self) -> usize {
        let refused = self
            .refused
            .as_ref()
            .map_or(0, |of| of.bytes.len().min(FLUSH_BYTES) + of.behind_bytes);
        self.out.len() + refused
    }

    fn refused(&mut self) -> &mut Refused {
        self.refused.get_or_insert_with(Box::default)
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_with(Box::default)
    }

    fn held(&mut self) -> Option<&mut Held> {
        self.rare.as_mut()?.held.as_deref_mut()
    }

    /// Exact size on an empty outlet, amortised on a filled one.
    fn append_element(&mut self, element: &[u8]) {
        self.catch_up();
        if self.out.is_empty() {
            let nonzas = self.managed.as_ref().map_or(0, |_| NONZAS_BYTES);
            let bytes = self.framing.element_bytes(element.len());
            self.out.reserve_exact(bytes + nonzas);
        }
        self.framing.element(&mut self.out, element);
    }

    /// Appends what is no single element.
    fn append_with(&mut self, write: impl FnOnce(Framing, &mut Vec<u8>)) {
        self.catch_up();
        write(self.framing, &mut self.out);
    }

    /// Keeps a stanza until it is acknowledged or, where nobody acknowledges, written.
    fn keep(&mut self, kept: Kept) {
        match &mut self.managed {
            Some(managed) if managed.is_buffered() => managed.keep(kept),
            _ => self.rare().kept.push_back(kept),
        }
    }

    /// The stanza that is going to be kept next is written from where it is kept.
    fn stand_behind(&mut self, bytes: usize) {
        let refused = self.refused();
        refused.behind_count += 1;
        refused.behind_bytes += bytes;
    }

    fn forget_behind(&mut self) {
        if let Some(refused) = &mut self.refused {
            refused.take_behind();
        }
    }

    /// Copies what comes behind `out` there: it may go on, or something else has to come after it.
    fn catch_up(&mut self) {
        let refused = self.refused.as_mut();
        let (bytes, count) = refused.map_or((0, 0), |of| (of.behind_bytes, of.take_behind()));
        if count == 0 {
            return;
        }
        self.out
            .reserve_exact(bytes + count * self.framing.element_bytes(0));
        let Self {
            out,
            managed,
            rare,
            framing,
            ..
        } = self;
        let append = |kept: &Kept| framing.element(out, kept.stanza.bytes());
        // A client that acknowledges what it was never sent does not get it.
        match (managed, rare) {
            (Some(managed), _) if managed.is_buffered() => {
                managed.last_kept(count).for_each(append);
            }
            (_, Some(rare)) => {
                let first = rare.kept.len().saturating_sub(count);
                rare.kept.range(first..).for_each(append);
            }
            _ => {}
        }
    }

    /// Whom to wake: the session's task, which is nearly always the one remembered already.
    fn remember(&mut self, cx: &Context<'_>) {
        if !self
            .waker
            .as_ref()
            .is_some_and(|waker| waker.will_wake(cx.waker()))
        {
            self.waker = Some(cx.waker().clone());
        }
    }

    fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    /// Nothing can be written any more: the session's task sees to what that means.
    fn fail(&mut self) {
        self.broken = true;
        self.wake();
    }
}

/// Outlets that were appended to and not flushed yet. Flushed at the end of a batch, at the latest when dropped.
pub struct Batch {
    ledger: Arc<Ledger>,
    first: Option<SessionRef>,
    more: Vec<SessionRef>,
    /// Tokens that are settled; told to their senders after all locks are free.
    pub settled: Vec<Token>,
}

impl Batch {
    /// An empty batch.
    pub fn new(ledger: &Arc<Ledger>) -> Self {
        Self {
            ledger: ledger.clone(),
            first: None,
            more: Vec::new(),
            settled: Vec::new(),
        }
    }

    /// Notes that a sender's stanza needs nothing more for this target.
    pub fn settle(&mut self, token: Option<Token>) {
        if self.settled.capacity() == 0 && token.is_some() {
            self.settled = SETTLED.take();
        }
        self.settled.extend(token);
    }

    fn add(&mut self, outlet: &SessionRef) {
        if self.first.is_none() {
            self.first = Some(outlet.clone());
        } else {
            self.more.push(outlet.clone());
        }
    }

    /// Takes over what another batch has not flushed.
    pub fn absorb(&mut self, other: &mut Self) {
        for outlet in other.first.take().into_iter().chain(other.more.drain(..)) {
            self.add(&outlet);
        }
        self.settled.append(&mut other.settled);
    }

    /// Flushes every outlet and settles what that settles.
    pub fn flush(&mut self) {
        // First, so that an `<a/>` that becomes due goes along with what is flushed.
        if !self.settled.is_empty() {
            self.ledger.settle_all(&mut self.settled);
        }
        if let Some(outlet) = self.first.take() {
            outlet.flush(&mut self.settled);
        }
        for outlet in self.more.drain(..) {
            outlet.flush(&mut self.settled);
        }
        if !self.settled.is_empty() {
            self.ledger.settle_all(&mut self.settled);
        }
        // A batch lives as long as its session, which may have nothing more to do for hours.
        if (1..=SETTLED_KEEP_MAX).contains(&self.settled.capacity()) {
            SETTLED.set(std::mem::take(&mut self.settled));
        } else {
            self.settled = Vec::new();
        }
        if self.more.capacity() > MORE_KEEP_MAX {
            self.more = Vec::new();
        }
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.flush();
    }
}

#[cfg(test)]
mod tests;
