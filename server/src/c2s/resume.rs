//! XEP-0198: Stream Management, as state: what the client has not acknowledged, and what we may acknowledge to it.
//!
//! The gate: `h` covers only the prefix of the client's stanzas that are *settled*, that is for every target either
//! acknowledged by it, committed to a store, or answered with an error. Nothing waits for a settlement but `h`.
use std::collections::VecDeque;
use std::io::Write as _;

use protocol::{Framing, Stanza};

pub use crate::host::StreamManagement as Settings;
use crate::receipts::Receipt;

/// Stanzas of one client that may be unsettled at a time; it is not read any further beyond that.
pub const UNSETTLED_MAX: usize = 1_000;
/// Bytes of unacknowledged stanzas kept for one client.
pub const OUTBOX_BYTES_MAX: usize = 1024 * 1024;
/// How long a full outbox may wait for the answer to our `<r/>`, in milliseconds.
pub const ACK_WAIT_MS_MAX: u64 = 10_000;
/// Stanzas above `buffer_max` that are kept while we wait for that answer.
pub const OUTBOX_OVERRUN_MAX: usize = 1_000;
/// How long an `<r/>` may wait for a settlement before it is answered with what there is, in milliseconds; the sweep
/// sees to it.
pub const ANSWER_WAIT_MS_MAX: u64 = 50;
/// Stanzas that an empty outbox keeps room for.
const OUTBOX_KEEP: usize = 4;
/// Stanzas of the client that the list of unsettled ones keeps room for when it is empty.
const PENDING_KEEP: usize = 32;
/// Room for what goes along with a stanza: an `<a/>` and an `<r/>`.
pub const NONZAS_BYTES: usize = 80;
/// Settled stanzas that an `<a/>` may be owed for before it is written on its own.
pub const OWED_MAX: u32 = 5;

/// A stanza of a sender whose `h` waits for it: looked up when it is settled, so that it holds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// The sender's session.
    pub session: u64,
    /// The number of the stanza on the sender's stream, as in `h`.
    pub stanza: u32,
}

impl Token {
    /// The session of tokens that no client waits for but an in-flight row does; sessions are counted from 1.
    pub const OF_ROW: u64 = 0;

    /// The sender was told already that the stanza is safe.
    pub fn is_of_row(self) -> bool {
        self.session == Self::OF_ROW
    }
}

/// A stanza that has been pushed and whose fate is not known yet.
#[derive(Debug)]
pub struct Kept {
    /// As it was pushed.
    pub stanza: Stanza,
    /// Whom to tell when it is settled; `None` if nobody waits any more.
    pub token: Option<Token>,
    /// When it was pushed, in milliseconds of the ledger's clock.
    pub at_ms: u64,
    /// Number of the write of its in-flight row; 0 if there is none.
    pub serial: u64,
    /// Where it is stored, too.
    pub row: Option<KeptRow>,
}

/// A row that can be deleted when the client has the stanza.
#[derive(Debug)]
pub enum KeptRow {
    /// Written since the stanza waited too long.
    InFlight(i64),
    /// The stanza comes from a store, which waits for word of it; that keeps it if the session ends.
    Store(Receipt),
}

impl Kept {
    /// A stanza that was pushed now.
    pub fn new(stanza: Stanza, token: Option<Token>, at_ms: u64) -> Self {
        Self {
            stanza,
            token,
            at_ms,
            serial: 0,
            row: None,
        }
    }

    /// The same for a stanza that is pushed with a receipt.
    pub fn with_receipt(self, receipt: Option<Receipt>) -> Self {
        Self {
            row: receipt.map(KeptRow::Store),
            ..self
        }
    }
}

/// More was acknowledged than had been sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HandledCountTooHigh {
    /// What the client said.
    pub h: u32,
    /// What we had sent.
    pub sent: u32,
}

/// What a settlement asks of the caller, the most urgent last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Settled {
    /// Nothing.
    Nothing,
    /// An `<a/>` is owed; the sweep writes it if nothing takes it along before.
    Owed,
    /// Write the `<a/>` now.
    WriteNow,
}

/// Both directions of one managed session.
pub struct Managed {
    settings: Settings,
    /// The id by which the session may be resumed.
    pub resume_id: Option<Box<str>>,
    outbox: VecDeque<Kept>,
    outbox_bytes: usize,
    /// Sent and not acknowledged, where none of it is kept.
    sent: u32,
    acked: u32,
    /// Stanzas sent since our last request.
    unasked: u32,
    /// When the request that is not answered yet was made.
    asked_at_ms: Option<u64>,
    /// Read from the client, over all its streams.
    received: u32,
    /// Read on this stream, plus what earlier streams had settled when it began: `h` never exceeds it.
    seen: u32,
    settled: u32,
    /// For each stanza behind `settled`: targets that are not done with it.
    pending: VecDeque<u16>,
    told: u32,
    owes: bool,
    /// Since when an `<r/>` of the client has not been answered.
    asked_by_client_ms: Option<u64>,
}

impl Managed {
    /// A session that has just enabled stream management.
    pub fn new(settings: Settings, resume_id: Option<Box<str>>) -> Self {
        Self::starting_at(settings, resume_id, 0)
    }

    /// The same with all counters at `count`: for tests of the wrap at 2^32.
    pub fn starting_at(settings: Settings, resume_id: Option<Box<str>>, count: u32) -> Self {
        Self {
            settings,
            resume_id,
            outbox: VecDeque::new(),
            outbox_bytes: 0,
            sent: 0,
            acked: count,
            unasked: 0,
            asked_at_ms: None,
            received: count,
            seen: count,
            settled: count,
            pending: VecDeque::new(),
            told: count,
            owes: false,
            asked_by_client_ms: None,
        }
    }

    /// The host's settings.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    // ---- from us to the client

    /// Whether stanzas are kept until they are acknowledged, or only counted.
    pub fn is_buffered(&self) -> bool {
        self.settings.buffer
    }

    /// Counts a stanza that is being sent and not kept.
    pub fn count_sent(&mut self) {
        self.sent = self.sent.saturating_add(1);
        self.unasked = self.unasked.saturating_add(1);
    }

    /// Keeps a stanza that is being sent.
    pub fn keep(&mut self, kept: Kept) {
        self.outbox_bytes += kept.stanza.bytes().len();
        self.outbox.push_back(kept);
        self.unasked = self.unasked.saturating_add(1);
    }

    /// Stanzas that wait for an acknowledgement.
    pub fn outbox_len(&self) -> usize {
        self.outbox.len()
    }

    /// The client had its chance: the session has to end.
    pub fn is_over_limit(&self) -> bool {
        self.outbox_bytes > OUTBOX_BYTES_MAX
            || self.outbox.len() > self.settings.buffer_max.saturating_add(OUTBOX_OVERRUN_MAX)
    }

    /// A full outbox whose `<r/>` has been unanswered for too long.
    pub fn is_overdue(&self, now_ms: u64) -> bool {
        self.outbox.len() > self.settings.buffer_max
            && self
                .asked_at_ms
                .is_some_and(|at| now_ms.saturating_sub(at) > ACK_WAIT_MS_MAX)
    }

    /// The client says it has handled `h` stanzas. Calls `done` with each that is acknowledged.
    pub fn acknowledge(
        &mut self,
        h: u32,
        mut done: impl FnMut(Kept),
    ) -> Result<(), HandledCountTooHigh> {
        let count = h.wrapping_sub(self.acked);
        let outstanding = self.outstanding();
        if count > outstanding {
            let sent = self.acked.wrapping_add(outstanding);
            return Err(HandledCountTooHigh { h, sent });
        }
        self.sent = self.sent.saturating_sub(count);
        let kept_count = self.outbox.len().min(count as usize);
        for kept in self.outbox.drain(..kept_count) {
            self.outbox_bytes -= kept.stanza.bytes().len();
            done(kept);
        }
        self.acked = h;
        self.asked_at_ms = None;
        if self.outbox.is_empty() && self.outbox.capacity() > OUTBOX_KEEP {
            // A burst is over: its room goes back.
            self.outbox = VecDeque::new();
        }
        Ok(())
    }

    /// Stanzas sent and not acknowledged.
    fn outstanding(&self) -> u32 {
        u32::try_from(self.outbox.len())
            .unwrap_or(u32::MAX)
            .saturating_add(self.sent)
    }

    /// Appends what has to go along with the next bytes: an `<a/>` that is owed, a request.
    pub fn append_nonzas(&mut self, out: &mut Vec<u8>, framing: Framing, now_ms: u64) {
        if self.tellable() != self.told || self.is_answer_due(now_ms) {
            framing.nonza(out, |out| self.append_answer(out));
        }
        let due = self.unasked >= self.settings.ack_freq.max(1) && self.outstanding() > 0;
        if self.settings.ack && due && self.asked_at_ms.is_none() {
            framing.nonza(out, |out| self.append_request(out, now_ms));
        }
    }

    /// Appends `<r/>` as a question whether the client is there, unless it is never asked (`ack = false`).
    pub fn append_probe(&mut self, out: &mut Vec<u8>, now_ms: u64) {
        if self.settings.ack {
            self.append_request(out, now_ms);
        }
    }

    /// Appends `<r/>`.
    pub fn append_request(&mut self, out: &mut Vec<u8>, now_ms: u64) {
        out.extend_from_slice(b"<r xmlns='urn:xmpp:sm:3'/>");
        self.asked_at_ms = Some(now_ms);
        self.unasked = 0;
    }

    /// Appends everything unacknowledged, in order, for a resumed stream; it starts with no request outstanding.
    pub fn resend(&mut self, out: &mut Vec<u8>, framing: Framing) {
        for kept in &self.outbox {
            framing.element(out, kept.stanza.bytes());
        }
        self.asked_at_ms = None;
        self.unasked = u32::try_from(self.outbox.len()).unwrap_or(u32::MAX);
    }

    /// The connection is lost; whatever was asked is not going to be answered.
    pub fn detach(&mut self) {
        self.asked_at_ms = None;
    }

    /// Takes everything unacknowledged out.
    pub fn take_kept(&mut self) -> VecDeque<Kept> {
        self.outbox_bytes = 0;
        std::mem::take(&mut self.outbox)
    }

    /// Gives back the room of queues that are empty: a client that is quiet needs none.
    pub fn tidy(&mut self) {
        if self.outbox.is_empty() {
            self.outbox = VecDeque::new();
        }
        if self.pending.is_empty() {
            self.pending = VecDeque::new();
        }
    }

    /// The last stanzas that are kept, at most so many.
    pub fn last_kept(&self, count: usize) -> impl Iterator<Item = &Kept> {
        let first = self.outbox.len().saturating_sub(count);
        self.outbox.range(first..)
    }

    /// Everything unacknowledged.
    pub fn kept_mut(&mut self) -> impl Iterator<Item = &mut Kept> {
        self.outbox.iter_mut()
    }

    // ---- from the client to us

    /// Counts a stanza of the client. Returns its number, or `None` if it is a repeat that was read before the
    /// stream was resumed: the caller ignores it.
    pub fn receive(&mut self) -> Option<u32> {
        self.seen = self.seen.wrapping_add(1);
        let behind = self.received.wrapping_sub(self.seen);
        if behind < u32::MAX / 2 {
            return None;
        }
        self.received = self.seen;
        self.pending.push_back(1);
        Some(self.received)
    }

    /// The stanza has `more` further targets.
    pub fn expect(&mut self, stanza: u32, more: u16) {
        if let Some(targets) = self.slot(stanza) {
            *targets = targets.saturating_add(more);
        }
    }

    /// One target is done with the stanza.
    pub fn settle(&mut self, stanza: u32) -> Settled {
        let Some(targets) = self.slot(stanza) else {
            return Settled::Nothing;
        };
        *targets = targets.saturating_sub(1);
        let before = self.settled;
        while self.pending.front() == Some(&0) {
            self.pending.pop_front();
            self.settled = self.settled.wrapping_add(1);
        }
        if self.pending.is_empty() && self.pending.capacity() > PENDING_KEEP {
            self.pending = VecDeque::new();
        }
        let owed = self.tellable().wrapping_sub(self.told);
        let waits_for_all = self.is_asked() && self.tellable() == self.seen;
        if before == self.settled || !self.owes || owed == 0 {
            // Without having been asked for, it goes along with whatever is written next.
            Settled::Nothing
        } else if owed >= OWED_MAX || waits_for_all {
            Settled::WriteNow
        } else {
            Settled::Owed
        }
    }

    fn slot(&mut self, stanza: u32) -> Option<&mut u16> {
        let index = stanza.wrapping_sub(self.settled).wrapping_sub(1);
        self.pending.get_mut(index as usize)
    }

    /// Too much is unsettled: the client is not read for now.
    pub fn is_congested(&self) -> bool {
        self.pending.len() >= UNSETTLED_MAX
    }

    /// Stanzas of the client that are not settled.
    pub fn unsettled_len(&self) -> usize {
        self.pending.len()
    }

    /// What `h` may say now.
    pub fn tellable(&self) -> u32 {
        // `seen` lags behind only after a resumption, while the client repeats what we already had.
        if self.seen.wrapping_sub(self.settled) < u32::MAX / 2 {
            self.settled
        } else {
            self.seen
        }
    }

    /// Appends `<a/>`. What is settled later is told without being asked again.
    pub fn append_answer(&mut self, out: &mut Vec<u8>) {
        let h = self.tellable();
        // Writing to a vector does not fail.
        let _written = write!(out, "<a xmlns='urn:xmpp:sm:3' h='{h}'/>");
        self.told = h;
        self.owes = h != self.seen;
        self.asked_by_client_ms = None;
    }

    /// `<r/>`: appends the answer if everything is settled. Else the answer waits for a settlement, for something
    /// that takes it along, or for [`ANSWER_WAIT_MS_MAX`] (XEP-0198 section 4 allows a time-out): then `true`.
    pub fn answer_or_wait(&mut self, out: &mut Vec<u8>, now_ms: u64) -> bool {
        if self.tellable() == self.seen {
            self.append_answer(out);
            return false;
        }
        self.owes = true;
        self.asked_by_client_ms.get_or_insert(now_ms);
        true
    }

    /// There is something new to tell, or an `<r/>` has waited long enough.
    pub fn is_answer_due(&self, now_ms: u64) -> bool {
        let has_waited = |at: u64| now_ms.saturating_sub(at) >= ANSWER_WAIT_MS_MAX;
        self.owes
            && (self.tellable() != self.told || self.asked_by_client_ms.is_some_and(has_waited))
    }

    /// An `<r/>` of the client waits.
    pub fn is_asked(&self) -> bool {
        self.asked_by_client_ms.is_some()
    }

    /// A new stream goes on with this session. Returns the `h` of `<resumed/>`; the client repeats what lies behind.
    pub fn resume(&mut self) -> u32 {
        self.seen = self.tellable();
        self.told = self.seen;
        self.owes = false;
        self.asked_by_client_ms = None;
        self.told
    }
}

#[cfg(test)]
mod tests;
