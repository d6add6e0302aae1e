//! One BOSH session: the window of its requests, and the far end of the pipe that its stream runs through.
//!
//! What the stream's session writes is taken only when a request waits that can carry it, and counts as written only
//! when the client's next request shows that it has arrived. Until then the session has it: if the client is lost
//! together with an answer, its stanzas find another way.
//!
//! No task belongs to it. Whoever holds a request of it moves it on: by a request, by what the stream writes, by time.
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use protocol::bosh::{
    Arrival, BODY_BYTES_MAX, Condition, Created, Ending, Front, Inbound, Payload, Request,
    Response, Standing, Window,
};
use protocol::xml::{Frame, Item, Limits, StreamReader};
use protocol::{ns, stream};
use tokio::time::Instant;
use transport::FarEnd;

use crate::outlet::SessionRef;

/// One answer brings whole stanzas, and no further one above this size.
pub const RESPONSE_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a client that its session has not read; above it no request is answered, so that no further one comes.
pub const UNREAD_BYTES_MAX: usize = BODY_BYTES_MAX;
/// How long a session that is over is remembered, for clients that did not hear of it.
const REMEMBERED_MS: u64 = 30_000;

/// What our own sessions write: larger than anything they do.
const OWN_STREAM: Limits = Limits {
    element_bytes_max: 16 * 1024 * 1024,
    elements_max: 1_000_000,
    depth_max: 256,
    attributes_max: 1_000_000,
    namespaces_max: u16::MAX,
    ..Limits::STORED
};

/// What a request is answered with.
#[derive(Debug)]
pub enum Answer {
    /// That `<body/>`.
    Body(Arc<[u8]>),
    /// The same `<body/>` as before.
    Repeated(Arc<[u8]>),
    /// Somebody else asked for the same later, and gets it.
    Replaced,
    /// The session is over.
    Broken(Condition),
}

/// One session.
pub struct BoshSession {
    /// The connection's outlet, as its stream's session has it; for signs of life.
    outlet: SessionRef,
    far: FarEnd,
    began: Instant,
    state: Mutex<State>,
    /// When the session may be forgotten, in milliseconds since it began; never: [`NEVER`].
    expires_at: AtomicU64,
}

const NEVER: u64 = u64::MAX;

struct State {
    window: Window,
    /// Reads what the stream's session writes.
    reader: StreamReader,
    /// Bytes that were read of it since the last element.
    passed: usize,
    /// What was read and not answered with, and what it costs in bytes of the stream.
    pieces: VecDeque<(Payload, usize)>,
    /// Told with the first answer.
    created: Option<Box<Created>>,
    /// For the headers of its streams.
    from: Option<Box<str>>,
    to: Box<str>,
    lang: Option<Box<str>>,
    next_ticket: u64,
    /// Why the stream has ended, if it has said so.
    stream_error: Option<Condition>,
    /// The last `<body/>`.
    over: Option<Arc<[u8]>>,
}

impl BoshSession {
    /// The session that `first` asks for; `to` is the domain in normal form.
    pub fn new(
        outlet: SessionRef,
        far: FarEnd,
        window: Window,
        created: Created,
        first: &Request,
    ) -> Self {
        let session = Self {
            outlet,
            far,
            began: Instant::now(),
            state: Mutex::new(State {
                window,
                reader: StreamReader::new(OWN_STREAM),
                passed: 0,
                pieces: VecDeque::new(),
                from: first.from.clone(),
                to: created.from.clone(),
                lang: first.lang.clone(),
                created: Some(Box::new(created)),
                next_ticket: FIRST_TICKET + 1,
                stream_error: None,
                over: None,
            }),
            expires_at: AtomicU64::new(NEVER),
        };
        session.feed(&mut session.state.lock(), first, true);
        session
    }

    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(NEVER)
    }

    /// Whether nobody will ask for it any more.
    pub fn is_expired(&self) -> bool {
        self.expires_at.load(Ordering::Relaxed) <= self.now()
    }

    /// The client is gone: its stream is lost.
    pub fn expire(&self) {
        self.far.break_off();
    }

    /// The stream's task has ended.
    pub fn stream_ended(&self) {
        self.far.break_off();
        let mut state = self.state.lock();
        self.move_on(&mut state);
        self.end(&mut state, Some(Condition::RemoteConnectionFailed));
    }

    /// Waits for the answer to the request that the session began with.
    pub async fn begin(self: &Arc<Self>, rid: u64) -> Answer {
        self.wait(rid, FIRST_TICKET).await
    }

    /// Takes a request and waits for its answer.
    pub async fn ask(self: &Arc<Self>, request: Request) -> Answer {
        let rid = request.rid;
        let ticket = match self.arrive(request) {
            Ok(ticket) => ticket,
            Err(answer) => return answer,
        };
        self.wait(rid, ticket).await
    }

    fn arrive(&self, request: Request) -> Result<u64, Answer> {
        let mut state = self.state.lock();
        // A whole request is a sign of life, whatever is in it.
        self.outlet.heard(false, false);
        self.move_on(&mut state);
        if let Some(last) = &state.over {
            return Err(Answer::Body(last.clone()));
        }
        let ticket = state.next_ticket;
        state.next_ticket += 1;
        match state.window.arrive(request, ticket, self.now()) {
            Arrival::InTurn(ready) => {
                for request in &ready {
                    self.feed(&mut state, request, request.restarts);
                }
            }
            Arrival::Early => {}
            // Whoever waited before learns of it.
            Arrival::Again => self.far.changed().notify_waiters(),
            Arrival::Repeated(bytes) => return Err(Answer::Repeated(bytes)),
            Arrival::Broken(condition) => {
                self.far.break_off();
                self.end(&mut state, Some(condition));
                return Err(Answer::Broken(condition));
            }
        }
        Ok(ticket)
    }

    /// Gives the stream's session what a request brings.
    fn feed(&self, state: &mut State, request: &Request, begins_stream: bool) {
        if begins_stream {
            let mut header = Vec::new();
            let version = request.version.as_deref();
            stream::write_wrapped_header(
                &mut header,
                state.from.as_deref(),
                request.to.as_deref().unwrap_or(&state.to),
                request.lang.as_deref().or(state.lang.as_deref()),
                version.unwrap_or("1.0"),
            );
            self.far.push(&header);
        }
        self.far.push(&request.stream);
        if request.terminates {
            self.far.push(stream::STREAM_END);
            self.far.close();
            self.end(state, None);
        }
    }

    async fn wait(self: &Arc<Self>, rid: u64, ticket: u64) -> Answer {
        let mut waiting = Waiting {
            session: self,
            rid,
            ticket,
            is_answered: false,
        };
        loop {
            let mut changed = std::pin::pin!(self.far.changed().notified());
            // From here on nothing is missed.
            changed.as_mut().enable();
            let held_until = {
                let mut state = self.state.lock();
                self.move_on(&mut state);
                match state.window.standing(rid, ticket) {
                    Standing::Answered(bytes) => {
                        waiting.is_answered = true;
                        return Answer::Body(bytes);
                    }
                    Standing::Replaced => {
                        waiting.is_answered = true;
                        return Answer::Replaced;
                    }
                    Standing::Waiting => state.window.front_held_until(),
                }
            };
            let Some(held_until) = held_until else {
                // Others have to come first.
                changed.await;
                continue;
            };
            // What is overdue waits for the stream's session, which says so when it has read.
            let now = self.now();
            if held_until <= now {
                changed.await;
                continue;
            }
            let wait = Duration::from_millis(held_until.saturating_sub(now));
            tokio::select! {
                biased;
                () = &mut changed => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Does everything that can be done now.
    fn move_on(&self, state: &mut State) {
        let now = self.now();
        let received = state.window.take_received();
        if received > 0 {
            self.far.arrived(received);
        }
        self.take_output(state);
        let mut has_answered = false;
        while state.over.is_none()
            && let Some(front) = state.window.front(now)
            && let Some((bytes, carried)) = self.answer_to(state, &front, now)
        {
            state.window.answer(bytes.into(), carried, now);
            has_answered = true;
        }
        let can_carry = state.over.is_none()
            && state.pieces.is_empty()
            && state.window.front(now).is_some_and(|front| front.may_carry);
        self.far.want(can_carry);
        if state.over.is_none() {
            self.note_expiry(state);
        }
        if has_answered {
            self.far.changed().notify_waiters();
        }
    }

    /// What the first request that waits is answered with, if it is time.
    fn answer_to(&self, state: &mut State, front: &Front, now: u64) -> Option<(Vec<u8>, usize)> {
        let has_something = front.may_carry && !state.pieces.is_empty();
        // The first answer has the stream's id in it.
        let is_awaited = state.created.as_ref().is_some_and(|of| of.authid.is_none());
        let waits = !state.pieces.is_empty() || self.far.has_more();
        let is_due = !is_awaited && state.window.is_due(now, self.inbound(), waits);
        if !has_something && !is_due {
            return None;
        }
        let (payload, carried) = if has_something {
            state.payload()
        } else {
            Default::default()
        };
        let created = state.created.take();
        // A session's first answer tells whether there will be others.
        let server_acks = state.window.terms().server_acks;
        let first_ack = (created.is_some() && server_acks).then_some(front.rid);
        let response = Response {
            created: created.as_deref(),
            ending: None,
            ack: front.ack.or(first_ack),
            report: front.report,
            payload: Some(&payload),
        };
        Some((response.to_bytes(), carried))
    }

    fn inbound(&self) -> Inbound {
        match self.far.unread() {
            0 => Inbound::Read,
            unread if unread <= UNREAD_BYTES_MAX => Inbound::Waiting,
            _ => Inbound::Full,
        }
    }

    /// Takes what the stream's session has written.
    fn take_output(&self, state: &mut State) {
        if state.over.is_some() {
            return;
        }
        // Asked first: what was written before the end is there then.
        let is_closed = self.far.is_near_closed();
        let bytes = self.far.take();
        match state.read(&bytes) {
            Ok(false) if !is_closed => {}
            Ok(_) => {
                let condition = state.stream_error;
                // Whoever said goodbye does not wait for an acknowledgement of it.
                self.far.all_arrived();
                let lost = is_closed.then_some(Condition::RemoteConnectionFailed);
                self.end(state, condition.or(lost));
            }
            Err(error) => {
                tracing::error!(%error, "our own stream cannot be read");
                self.far.break_off();
                self.end(state, Some(Condition::InternalServerError));
            }
        }
    }

    /// The last answer: everybody who waits gets it, and whoever still asks.
    fn end(&self, state: &mut State, condition: Option<Condition>) {
        if state.over.is_some() {
            return;
        }
        let mut payload = Payload::default();
        // What was not answered with yet. The stream's session has given it up already, or takes it elsewhere.
        if state.stream_error.is_some() {
            for (piece, _) in state.pieces.drain(..) {
                payload.append(&piece);
            }
        }
        let response = Response {
            ending: Some(Ending(condition)),
            payload: Some(&payload),
            ..Response::default()
        };
        let last: Arc<[u8]> = response.to_bytes().into();
        state.pieces = VecDeque::new();
        state.window.end(&last, self.now());
        state.over = Some(last);
        self.note_expiry(state);
        self.far.changed().notify_waiters();
    }

    fn note_expiry(&self, state: &State) {
        let at = match (&state.over, state.window.inactive_at()) {
            (None, at) => at.unwrap_or(NEVER),
            (Some(_), None) => self.now().saturating_add(REMEMBERED_MS),
            (Some(_), Some(at)) => at.min(self.now().saturating_add(REMEMBERED_MS)),
        };
        self.expires_at.store(at, Ordering::Relaxed);
    }
}

/// Who waits for the first answer.
pub const FIRST_TICKET: u64 = 0;

impl State {
    /// Reads bytes of our own stream. Returns whether it has ended.
    fn read(&mut self, bytes: &[u8]) -> Result<bool, protocol::StreamError> {
        let mut input = bytes;
        loop {
            // Only a new stream begins so.
            if input.starts_with(b"<?xml") && !self.reader.is_inside() {
                self.reader.restart();
            }
            let before = input.len();
            let item = self.reader.next(&mut input)?;
            self.passed += before - input.len();
            match item {
                None => return Ok(false),
                Some(Item::Close) => return Ok(true),
                Some(Item::Header(header)) => {
                    if let Some(created) = &mut self.created {
                        created.authid = header.id;
                    }
                }
                Some(Item::Element(frame)) => {
                    if frame.is("error", ns::STREAM) {
                        self.stream_error = Some(condition(&frame));
                    }
                    let mut payload = Payload::default();
                    payload.push(&frame);
                    let cost = std::mem::take(&mut self.passed);
                    self.pieces.push_back((payload, cost));
                }
            }
        }
    }

    /// The next whole elements, and what they cost.
    fn payload(&mut self) -> (Payload, usize) {
        let (mut payload, mut carried) = self.pieces.pop_front().unwrap_or_default();
        while let Some((next, cost)) = self
            .pieces
            .pop_front_if(|(next, _)| payload.len() + next.len() <= RESPONSE_BYTES_MAX)
        {
            payload.append(&next);
            carried += cost;
        }
        (payload, carried)
    }
}

/// What a stream error is for the wrapper.
fn condition(error: &Frame<'_>) -> Condition {
    match error.first_child() {
        Some(("host-unknown", _)) => Condition::HostUnknown,
        Some(("system-shutdown", _)) => Condition::SystemShutdown,
        _ => Condition::RemoteStreamError,
    }
}

/// Somebody waits for an answer. If they go before it is there, nothing is given to them.
struct Waiting<'a> {
    session: &'a BoshSession,
    rid: u64,
    ticket: u64,
    is_answered: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            let mut state = self.session.state.lock();
            let now = self.session.now();
            state.window.leave(self.rid, self.ticket, now);
            self.session.move_on(&mut state);
        }
    }
}
