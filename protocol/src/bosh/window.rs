//! Whose turn it is, and who is answered when (XEP-0124 sections 8 to 15).
//!
//! Requests are processed in the order of their ids, whatever order they come in, and answered in that order. Answers are
//! kept for clients that did not get them. Times are milliseconds of any clock that does not go back.
use std::collections::VecDeque;
use std::sync::Arc;

use sha1::{Digest as _, Sha1};

use super::{Condition, HOLD_MAX, POLLING_SECS, RID_MAX, Request, WAIT_SECS_MAX};

/// What client and server have agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Longest time that a request is held.
    pub wait_secs: u32,
    /// Requests that are held at a time.
    pub hold: u32,
    /// Time without a request that ends the session.
    pub inactivity_secs: Option<u32>,
    /// Longest time that a client may be away if it says so.
    pub pause_max_secs: u32,
    /// The client says what it has received.
    pub client_acks: bool,
    /// We say what we have received.
    pub server_acks: bool,
}

impl Terms {
    /// What a client gets that asks for a session by this request.
    pub fn agree(
        first: &Request,
        wait_max_secs: u32,
        inactivity_secs: Option<u32>,
        pause_max_secs: u32,
        server_acks: bool,
    ) -> Self {
        let wait_max_secs = wait_max_secs.min(WAIT_SECS_MAX);
        let wait_secs = first.wait_secs.unwrap_or(wait_max_secs).min(wait_max_secs);
        let hold = first.hold.unwrap_or(HOLD_MAX).min(HOLD_MAX);
        let is_polling = wait_secs == 0 || hold == 0;
        Self {
            wait_secs: if is_polling { 0 } else { wait_secs },
            hold: if is_polling { 0 } else { hold },
            // Who polls may stay away for as long as it takes until the next poll.
            inactivity_secs: inactivity_secs
                .map(|secs| secs.max(if is_polling { 2 * POLLING_SECS } else { 1 })),
            pause_max_secs,
            client_acks: first.ack.is_some(),
            server_acks,
        }
    }

    /// Requests that a client may have under way.
    pub fn requests(&self) -> u32 {
        self.hold.saturating_add(1)
    }

    /// Seconds between two polls; none if requests are held.
    pub fn polling_secs(&self) -> Option<u32> {
        (self.hold == 0).then_some(POLLING_SECS)
    }
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Arrival {
    /// It is its turn, and perhaps that of others that had come too early: they are to be processed in this order.
    InTurn(Vec<Request>),
    /// Others have to come first.
    Early,
    /// It is waiting already: who asks now gets the answer, and who asked before does not.
    Again,
    /// It was answered: this is the answer.
    Repeated(Arc<[u8]>),
    /// The session is over.
    Broken(Condition),
}

/// How much of what the client has sent is still to be read by the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inbound {
    /// Nothing.
    Read,
    /// Something: the client is not asked for more before its time.
    Waiting,
    /// So much that the client has to wait.
    Full,
}

/// Where a request stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has not been answered.
    Waiting,
    /// That is the answer.
    Answered(Arc<[u8]>),
    /// Somebody else waits for the answer.
    Replaced,
}

/// The request that is answered next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Front {
    /// Its number.
    pub rid: u64,
    /// What our `ack` has to say.
    pub ack: Option<u64>,
    /// What our `report` and `time` have to say.
    pub report: Option<(u64, u64)>,
    /// Its answer may bring something: somebody waits for it, and all that was brought before has been received.
    pub may_carry: bool,
}

/// The requests and answers of one session.
#[derive(Debug)]
pub struct Window {
    terms: Terms,
    /// The number whose turn it is.
    next: u64,
    /// Those that have come before their turn; fewer than [`Terms::requests`].
    early: Vec<Early>,
    /// Those that were processed and not answered, in their order.
    open: VecDeque<Open>,
    /// The last answers, in their order: as many as may be under way.
    kept: VecDeque<Kept>,
    /// The bytes that the last answer brought, if the client is not known to have it. There is no more than one.
    unreceived: Option<(u64, usize)>,
    /// Bytes that the client has received, until they are asked for.
    received: usize,
    /// What the key of the next request comes to.
    key: Option<Box<str>>,
    /// When the last request has come, if it was empty.
    empty_at: Option<u64>,
    /// Since when nobody waits for an answer.
    idle_since: Option<u64>,
    /// The time without a request that ends the session: the agreed one, or that of a pause.
    inactivity_ms: Option<u64>,
}

#[derive(Debug)]
struct Early {
    request: Request,
    /// As in [`Open`].
    ticket: Option<u64>,
    arrived_at: u64,
}

#[derive(Debug)]
struct Open {
    rid: u64,
    /// Who waits for the answer; nobody if the connection is gone.
    ticket: Option<u64>,
    arrived_at: u64,
    key: Option<Box<str>>,
    /// Answered at once, and with nothing in it.
    is_urgent: bool,
    /// The client lacks this answer: it is told at once.
    report: Option<u64>,
}

#[derive(Debug)]
struct Kept {
    rid: u64,
    key: Option<Box<str>>,
    answered_at: u64,
    /// It brought something.
    is_full: bool,
    bytes: Arc<[u8]>,
}

impl Window {
    /// The window of a session that `first` asks for; `ticket` stands for who waits for the answer.
    pub fn new(terms: Terms, first: &Request, ticket: u64, now: u64) -> Self {
        let mut window = Self {
            terms,
            next: first.rid,
            early: Vec::new(),
            open: VecDeque::new(),
            kept: VecDeque::new(),
            unreceived: None,
            received: 0,
            key: first.newkey.clone(),
            empty_at: None,
            idle_since: None,
            inactivity_ms: millis(terms.inactivity_secs),
        };
        window.admit(first, Some(ticket), now);
        window
    }

    /// What was agreed on.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// A request has come; `ticket` stands for who waits for its answer, and was never used before.
    pub fn arrive(&mut self, request: Request, ticket: u64, now: u64) -> Arrival {
        let rid = request.rid;
        if rid < self.next || self.early.iter().any(|early| early.request.rid == rid) {
            return self.arrive_again(&request, ticket);
        }
        if rid > RID_MAX {
            return Arrival::Broken(Condition::BadRequest);
        }
        let spare = u32::from(request.is_urgent());
        let allowed = u64::from(self.terms.requests().saturating_add(spare));
        let ahead = rid.saturating_sub(self.next);
        if ahead >= allowed {
            return Arrival::Broken(Condition::ItemNotFound);
        }
        let open = u64::try_from(self.open.len()).unwrap_or(u64::MAX);
        if ahead.saturating_add(open) >= allowed || self.is_too_soon(&request, now) {
            return Arrival::Broken(Condition::PolicyViolation);
        }
        if let Some(secs) = request.pause_secs
            && secs > self.terms.pause_max_secs
        {
            return Arrival::Broken(Condition::PolicyViolation);
        }
        self.empty_at = request.is_empty().then_some(now);
        self.note_received(&request);
        self.early.push(Early {
            request,
            ticket: Some(ticket),
            arrived_at: now,
        });
        if ahead > 0 {
            return Arrival::Early;
        }
        self.take_turns(now)
    }

    /// A number that has come before.
    fn arrive_again(&mut self, request: &Request, ticket: u64) -> Arrival {
        let rid = request.rid;
        let has_key = |key: &Option<Box<str>>| *key == request.key;
        if let Some(kept) = self.kept.iter().find(|kept| kept.rid == rid) {
            return if has_key(&kept.key) {
                Arrival::Repeated(Arc::clone(&kept.bytes))
            } else {
                Arrival::Broken(Condition::ItemNotFound)
            };
        }
        if let Some(open) = self.open.iter_mut().find(|open| open.rid == rid)
            && has_key(&open.key)
        {
            open.ticket = Some(ticket);
            self.idle_since = None;
            return Arrival::Again;
        }
        let mut early = self.early.iter_mut();
        if let Some(early) = early.find(|early| early.request.rid == rid)
            && has_key(&early.request.key)
        {
            early.ticket = Some(ticket);
            return Arrival::Again;
        }
        Arrival::Broken(Condition::ItemNotFound)
    }

    /// Whether a client that polls does it too often (section 12).
    fn is_too_soon(&self, request: &Request, now: u64) -> bool {
        let (Some(polling_ms), Some(before)) = (millis(self.terms.polling_secs()), self.empty_at)
        else {
            return false;
        };
        let brought_nothing = self.kept.back().is_none_or(|kept| !kept.is_full);
        request.is_empty() && brought_nothing && now.saturating_sub(before) < polling_ms
    }

    /// What the request proves to have been received. A client that does not say is believed to have what was given
    /// before its request came; one that lost it asks again by the same number.
    fn note_received(&mut self, request: &Request) {
        let before = request.rid.saturating_sub(1);
        let received = match request.ack {
            Some(ack) => ack.min(before),
            None => before,
        };
        if let Some((rid, bytes)) = self.unreceived
            && rid <= received
        {
            self.unreceived = None;
            self.received = self.received.saturating_add(bytes);
        }
    }

    fn take_turns(&mut self, now: u64) -> Arrival {
        let mut ready = Vec::new();
        while let Some(index) = self
            .early
            .iter()
            .position(|early| early.request.rid == self.next)
        {
            let Early {
                request,
                ticket,
                arrived_at,
            } = self.early.swap_remove(index);
            if !self.has_right_key(&request) {
                return Arrival::Broken(Condition::ItemNotFound);
            }
            self.key = request.newkey.clone().or_else(|| request.key.clone());
            self.admit(&request, ticket, arrived_at);
            ready.push(request);
        }
        self.idle_since = None;
        // A pause is over with the next request, unless that is one too.
        let pause = ready.last().and_then(|request| request.pause_secs);
        self.inactivity_ms = match pause {
            Some(secs) => millis(Some(secs)),
            None => millis(self.terms.inactivity_secs),
        };
        self.note_no_one(now);
        Arrival::InTurn(ready)
    }

    /// Section 15.4.
    fn has_right_key(&self, request: &Request) -> bool {
        let Some(expected) = &self.key else {
            return true;
        };
        let Some(key) = &request.key else {
            return false;
        };
        let digest = Sha1::digest(key.as_bytes());
        let found: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        expected.eq_ignore_ascii_case(&found)
    }

    fn admit(&mut self, request: &Request, ticket: Option<u64>, arrived_at: u64) {
        let lacking = match (request.ack, self.unreceived) {
            (Some(ack), Some((rid, _))) if self.terms.client_acks && ack < rid => {
                Some(ack.saturating_add(1))
            }
            _ => None,
        };
        self.open.push_back(Open {
            rid: request.rid,
            ticket,
            arrived_at,
            key: request.key.clone(),
            is_urgent: request.is_urgent(),
            report: lacking,
        });
        self.next = request.rid.saturating_add(1);
        if request.is_urgent() {
            for open in &mut self.open {
                open.is_urgent = true;
            }
        }
    }

    /// Nobody waits for the answer any more. The next who asks by the same number gets it.
    pub fn leave(&mut self, rid: u64, ticket: u64, now: u64) {
        let mut open = self.open.iter_mut();
        if let Some(open) = open.find(|open| open.rid == rid && open.ticket == Some(ticket)) {
            open.ticket = None;
        }
        let mut early = self.early.iter_mut();
        if let Some(early) = early.find(|early| early.ticket == Some(ticket)) {
            early.ticket = None;
        }
        self.note_no_one(now);
    }

    fn note_no_one(&mut self, now: u64) {
        if self.open.iter().all(|open| open.ticket.is_none()) && self.idle_since.is_none() {
            self.idle_since = Some(now);
        }
    }

    /// Where a request stands.
    pub fn standing(&self, rid: u64, ticket: u64) -> Standing {
        if let Some(kept) = self.kept.iter().find(|kept| kept.rid == rid) {
            return Standing::Answered(Arc::clone(&kept.bytes));
        }
        let open = self.open.iter().find(|open| open.rid == rid);
        let holder = match open {
            Some(open) => open.ticket,
            None => {
                let mut early = self.early.iter();
                let early = early.find(|early| early.request.rid == rid);
                early.and_then(|early| early.ticket)
            }
        };
        if holder == Some(ticket) {
            Standing::Waiting
        } else {
            Standing::Replaced
        }
    }

    /// The request that is answered next.
    pub fn front(&self, now: u64) -> Option<Front> {
        let open = self.open.front()?;
        let highest = self.next.saturating_sub(1);
        let report = open.report.and_then(|rid| {
            let kept = self.kept.iter().find(|kept| kept.rid == rid)?;
            Some((rid, now.saturating_sub(kept.answered_at)))
        });
        Some(Front {
            rid: open.rid,
            ack: (self.terms.server_acks && highest != open.rid).then_some(highest),
            report,
            may_carry: open.ticket.is_some() && !open.is_urgent && self.unreceived.is_none(),
        })
    }

    /// Whether the request that is answered next has to be answered now, although it brings nothing. If something
    /// `waits` until what was brought before is known to have been received, only a further request can tell, and the
    /// client makes none while this one is held.
    pub fn is_due(&self, now: u64, inbound: Inbound, waits: bool) -> bool {
        let Some(open) = self.open.front() else {
            return false;
        };
        let hold = usize::try_from(self.terms.hold).unwrap_or(usize::MAX);
        match inbound {
            Inbound::Full => false,
            Inbound::Waiting => now >= self.held_until(open),
            Inbound::Read => {
                open.is_urgent
                    || (waits && self.unreceived.is_some() && open.ticket.is_some())
                    || open.report.is_some()
                    || self.open.len() > hold
                    || now >= self.held_until(open)
            }
        }
    }

    fn held_until(&self, open: &Open) -> u64 {
        let wait_ms = u64::from(self.terms.wait_secs).saturating_mul(1_000);
        open.arrived_at.saturating_add(wait_ms)
    }

    /// When the request that is answered next has waited for long enough.
    pub fn front_held_until(&self) -> Option<u64> {
        self.open.front().map(|open| self.held_until(open))
    }

    /// The first request that waits gets `bytes`, which bring `carried` bytes of the stream.
    pub fn answer(&mut self, bytes: Arc<[u8]>, carried: usize, now: u64) {
        let Some(open) = self.open.pop_front() else {
            return;
        };
        if carried > 0 {
            self.unreceived = Some((open.rid, carried));
        }
        self.keep(open.rid, open.key, bytes, carried > 0, now);
        self.note_no_one(now);
    }

    fn keep(&mut self, rid: u64, key: Option<Box<str>>, bytes: Arc<[u8]>, is_full: bool, now: u64) {
        let room = usize::try_from(self.terms.requests()).unwrap_or(usize::MAX);
        // Pauses and ends may come on top of what may be under way.
        while self.kept.len() > room {
            self.kept.pop_front();
        }
        self.kept.push_back(Kept {
            rid,
            key,
            answered_at: now,
            is_full,
            bytes,
        });
    }

    /// The session is over: everybody who waits gets `bytes`.
    pub fn end(&mut self, bytes: &Arc<[u8]>, now: u64) {
        self.early.sort_by_key(|early| early.request.rid);
        let early = std::mem::take(&mut self.early);
        let open = std::mem::take(&mut self.open);
        self.kept.clear();
        let open = open.into_iter().map(|open| (open.rid, open.key));
        let early = early
            .into_iter()
            .map(|early| (early.request.rid, early.request.key));
        for (rid, key) in open.chain(early) {
            self.keep(rid, key, Arc::clone(bytes), false, now);
        }
        self.note_no_one(now);
    }

    /// Bytes of the stream that the client has received since this was last asked.
    pub fn take_received(&mut self) -> usize {
        std::mem::take(&mut self.received)
    }

    /// When the session ends if no request comes; none if somebody waits, or if it never does.
    pub fn inactive_at(&self) -> Option<u64> {
        Some(self.idle_since?.saturating_add(self.inactivity_ms?))
    }

    /// Bytes that are held: answers, and requests before their turn.
    pub fn held_bytes(&self) -> usize {
        let kept = self.kept.iter().map(|kept| kept.bytes.len());
        let early = self.early.iter().map(|early| early.request.stream.len());
        kept.chain(early).fold(0, usize::saturating_add)
    }
}

fn millis(secs: Option<u32>) -> Option<u64> {
    secs.map(|secs| u64::from(secs).saturating_mul(1_000))
}
