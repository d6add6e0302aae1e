//! Who waits for what: settles senders' stanzas, and writes in-flight rows for those that wait too long.
//!
//! One sweep every [`SWEEP_MS`] looks at the outlets that have asked for it: it writes the `<a/>` that nothing took
//! along, and commits stanzas that have waited for [`IN_FLIGHT_AFTER_MS`] as rows, so that their senders are settled
//! although the receiver is silent.
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ahash::RandomState;
use daemon::Shutdown;
use parking_lot::Mutex;
use protocol::Kind;
use tokio::time::MissedTickBehavior;
use tracing::{error, warn};

use crate::c2s::resume::{KeptRow, Settled, Token};
use crate::metrics::LedgerMetrics;
use crate::outlet::{Outlet, SessionRef, Settlement};
use crate::storage::in_flight::{InFlight, InFlightStore};

/// Milliseconds between two sweeps.
pub const SWEEP_MS: u64 = 50;
/// Milliseconds after which an unsettled stanza gets a row.
pub const IN_FLIGHT_AFTER_MS: u64 = 250;
/// Rows that one sweep commits at most; the rest waits for the next one.
pub const IN_FLIGHT_BATCH_MAX: usize = 1_000;
/// Milliseconds that the database is left alone after it has failed.
const REST_MS: u64 = 1_000;
/// Rows of this run that stay since a store is full for their stanzas, over all: further ones are given up. Else two
/// accounts that work together could fill the disk.
pub const LEFT_ROWS_MAX: u64 = 1_000;
const SHARDS: usize = 64;

/// A coarse clock that costs a load: milliseconds since the node started, moved by the sweep.
#[derive(Debug, Default)]
pub struct Clock {
    ms: AtomicU64,
}

impl Clock {
    /// Milliseconds since the node started.
    pub fn now_ms(&self) -> u64 {
        self.ms.load(Ordering::Relaxed)
    }

    /// Lets time pass, for tests.
    #[cfg(test)]
    pub(crate) fn pass(&self, ms: u64) {
        self.ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Seconds since the node started.
    pub fn now_secs(&self) -> u32 {
        u32::try_from(self.now_ms() / 1_000).unwrap_or(u32::MAX)
    }
}

type Shard = Mutex<hashbrown::HashMap<u64, SessionRef, RandomState>>;

/// The node's book of unsettled stanzas.
pub struct Ledger {
    /// The coarse clock.
    pub clock: Clock,
    /// Counters of this part.
    pub metrics: LedgerMetrics,
    next_serial: AtomicU64,
    managed: Vec<Shard>,
    enrolled: Mutex<Vec<SessionRef>>,
    /// In-flight rows whose stanza is acknowledged or stored elsewhere.
    done_rows: Mutex<Vec<i64>>,
    own: Mutex<OwnTokens>,
    /// The database is not written to before.
    rest_until_ms: AtomicU64,
    /// See [`LEFT_ROWS_MAX`].
    left_rows: AtomicU64,
}

/// Stanzas that no client waits for but a row does: it is deleted when another target is done with its stanza.
#[derive(Default)]
struct OwnTokens {
    next: u32,
    rows: hashbrown::HashMap<u32, OwnToken, RandomState>,
}

struct OwnToken {
    row: i64,
    targets: u16,
    origin: Origin,
}

/// Why a row stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// A fault of ours: the database.
    Fault,
    /// The store of the receiver is full, for owed stanzas too.
    StoreIsFull,
}

/// Who has written a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This run of the node.
    ThisRun,
    /// An earlier one, that was killed.
    EarlierRun,
}

impl Ledger {
    /// An empty book.
    pub fn new(metrics: LedgerMetrics) -> Arc<Self> {
        Arc::new(Self {
            clock: Clock::default(),
            metrics,
            next_serial: AtomicU64::new(1),
            managed: (0..SHARDS).map(|_| Shard::default()).collect(),
            enrolled: Mutex::default(),
            done_rows: Mutex::default(),
            own: Mutex::default(),
            rest_until_ms: AtomicU64::new(0),
            left_rows: AtomicU64::new(0),
        })
    }

    fn shard(&self, session: u64) -> &Shard {
        let index = usize::try_from(session).unwrap_or(0) % SHARDS;
        self.managed.get(index).expect("the index is below SHARDS")
    }

    /// A session with stream management exists, or goes on with another outlet.
    pub fn add(&self, session: u64, outlet: SessionRef) {
        self.shard(session).lock().insert(session, outlet);
    }

    /// A session has ended; nobody waits for its stanzas any more.
    pub fn remove(&self, session: u64) {
        self.shard(session).lock().remove(&session);
    }

    /// Puts an outlet on the list of the next sweep. [`Outlet`] sees to it that it stands there once.
    pub fn enroll(&self, outlet: SessionRef) {
        self.enrolled.lock().push(outlet);
    }

    /// A row is not needed any more: the next sweep deletes it, or its store does.
    pub fn row_done(&self, row: KeptRow) {
        match row {
            KeptRow::InFlight(id) => self.done_rows.lock().push(id),
            KeptRow::Store(receipt) => receipt.taken(),
        }
    }

    /// The stanza of that row finds another way: a token for it, which keeps the row until the stanza is settled there.
    /// So it stands in the database all the time, although its sender was told long ago.
    pub fn token_of_row(&self, row: i64, origin: Origin) -> Token {
        let mut own = self.own.lock();
        let mut stanza = own.next;
        while own.rows.contains_key(&stanza) {
            stanza = stanza.wrapping_add(1);
        }
        own.next = stanza.wrapping_add(1);
        let token = OwnToken {
            row,
            targets: 1,
            origin,
        };
        own.rows.insert(stanza, token);
        Token {
            session: Token::OF_ROW,
            stanza,
        }
    }

    /// The stanza of a row finds no way now, but may later: the row stays for the next start. `false` if the token is
    /// not that of a row, or if too many stay already.
    pub fn leave_row(&self, token: Option<Token>, why: Left) -> bool {
        let Some(token) = token.filter(|token| token.is_of_row()) else {
            return false;
        };
        let mut own = self.own.lock();
        let is_of_this_run = own
            .rows
            .get(&token.stanza)
            .is_some_and(|row| row.origin == Origin::ThisRun);
        if why == Left::StoreIsFull
            && is_of_this_run
            && self.left_rows.fetch_add(1, Ordering::Relaxed) >= LEFT_ROWS_MAX
        {
            return false;
        }
        own.rows.remove(&token.stanza);
        self.metrics.in_flight_left.inc();
        true
    }

    fn settle_own(&self, stanza: u32) {
        let mut own = self.own.lock();
        let Some(token) = own.rows.get_mut(&stanza) else {
            return;
        };
        token.targets = token.targets.saturating_sub(1);
        if token.targets == 0 {
            let row = token.row;
            own.rows.remove(&stanza);
            drop(own);
            self.row_done(KeptRow::InFlight(row));
        }
    }

    /// One more target is done with each of the stanzas. Takes one sender's lock at a time.
    pub fn settle_all(&self, tokens: &mut Vec<Token>) {
        while let Some(token) = tokens.last().copied() {
            if token.is_of_row() {
                tokens.pop();
                self.settle_own(token.stanza);
                continue;
            }
            let sender = self
                .shard(token.session)
                .lock()
                .get(&token.session)
                .cloned();
            let Some(mut sender) = sender else {
                tokens.pop();
                continue;
            };
            let (settled, reads_again) = loop {
                match sender.settle(token.session, tokens) {
                    Settlement::Noted {
                        settled,
                        reads_again,
                    } => break (settled, reads_again),
                    Settlement::Moved(successor) => sender = successor,
                }
            };
            match settled {
                Settled::Nothing => {}
                Settled::Owed => sender.enroll_now(),
                Settled::WriteNow => sender.flush(tokens),
            }
            if reads_again {
                sender.wake();
            }
        }
    }

    /// The sender's stanza goes to `more` further targets.
    pub fn expect(&self, token: Token, more: u16) {
        if token.is_of_row() {
            if let Some(own) = self.own.lock().rows.get_mut(&token.stanza) {
                own.targets = own.targets.saturating_add(more);
            }
            return;
        }
        let sender = self
            .shard(token.session)
            .lock()
            .get(&token.session)
            .cloned();
        if let Some(sender) = sender {
            sender.expect(token.stanza, more);
        }
    }

    /// Runs the sweep until `end`, and once more then: a node that is stopped in order leaves no row of a stanza that
    /// its receiver has. The caller spawns it.
    pub async fn run(self: Arc<Self>, store: InFlightStore, end: Shutdown) {
        let mut interval = tokio::time::interval(Duration::from_millis(SWEEP_MS));
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let started = tokio::time::Instant::now();
        // Neither the clock nor an `<a/>` waits for the database. A write that is cut in its middle would not know its
        // rows, so it is awaited at the end.
        let mut writing = None;
        loop {
            let now = tokio::select! {
                biased;
                () = end.cancelled() => break,
                () = maybe(&mut writing) => {
                    writing = None;
                    continue;
                }
                now = interval.tick() => now,
            };
            let ms = u64::try_from(now.duration_since(started).as_millis());
            self.clock
                .ms
                .store(ms.unwrap_or(u64::MAX), Ordering::Relaxed);
            let may_write = writing.is_none() && self.clock.now_ms() >= self.rest_until_ms();
            let rows = self.sweep(may_write);
            if may_write && (!rows.is_empty() || self.has_done_rows()) {
                writing = Some(Box::pin(self.write(&store, rows)));
            }
        }
        maybe_now(writing).await;
        let rows = self.sweep(true);
        self.write(&store, rows).await;
    }

    fn rest_until_ms(&self) -> u64 {
        self.rest_until_ms.load(Ordering::Relaxed)
    }

    /// The database has failed: it is left alone for a while.
    fn rest(&self) {
        let until = self.clock.now_ms().saturating_add(REST_MS);
        self.rest_until_ms.store(until, Ordering::Relaxed);
    }

    /// Writes what is owed to clients, and collects stanzas that need a row if there `is_room` for them.
    fn sweep(&self, is_room: bool) -> Vec<Waiting> {
        let due = std::mem::take(&mut *self.enrolled.lock());
        let rows_max = if is_room { IN_FLIGHT_BATCH_MAX } else { 0 };
        let mut rows = Vec::new();
        let mut tokens = Vec::new();
        for outlet in due {
            self.look_at(&outlet, &mut rows, rows_max);
            outlet.flush(&mut tokens);
        }
        self.settle_all(&mut tokens);
        rows
    }

    async fn write(&self, store: &InFlightStore, rows: Vec<Waiting>) {
        if !rows.is_empty() {
            self.commit(store, rows).await;
        }
        let done = self.take_done_rows();
        if !done.is_empty()
            && let Err(error) = store.delete(&done).await
        {
            warn!(%error, "in-flight rows could not be deleted");
            self.done_rows.lock().extend(done);
            self.rest();
        }
    }

    fn has_done_rows(&self) -> bool {
        !self.done_rows.lock().is_empty()
    }

    /// Rows that are not needed any more, for whoever deletes them.
    pub fn take_done_rows(&self) -> Vec<i64> {
        std::mem::take(&mut *self.done_rows.lock())
    }

    /// Collects what has waited long enough; enrols the outlet again if something is younger.
    fn look_at(&self, outlet: &SessionRef, rows: &mut Vec<Waiting>, rows_max: usize) {
        let now = self.clock.now_ms();
        let (mut again, mut asked) = (false, false);
        outlet.taken_off_list();
        outlet.with_kept(|managed, kept| {
            let mut look = |kept: &mut crate::c2s::resume::Kept| {
                // Nobody waits, or the stanza has a row already.
                let waits = kept.token.is_some_and(|token| !token.is_of_row());
                if !waits || kept.serial != 0 || kept.stanza.kind() == Kind::Presence {
                    return;
                }
                let old = now.saturating_sub(kept.at_ms) >= IN_FLIGHT_AFTER_MS;
                if !old || rows.len() >= rows_max {
                    again = true;
                    return;
                }
                kept.serial = self.next_serial.fetch_add(1, Ordering::Relaxed);
                rows.push((outlet.clone(), kept.serial, InFlight::of(&kept.stanza)));
            };
            if let Some(managed) = managed {
                managed.kept_mut().for_each(&mut look);
                asked = managed.is_asked() && !managed.is_answer_due(now);
            }
            kept.iter_mut().for_each(look);
        });
        if again || asked {
            outlet.enroll_now();
        }
    }

    /// Commits rows and settles their senders. If the database fails, nobody is told anything and the next sweep
    /// tries again.
    async fn commit(&self, store: &InFlightStore, rows: Vec<Waiting>) {
        let stanzas: Vec<_> = rows.iter().map(|(_, _, row)| row.clone()).collect();
        let ids = match store.insert(stanzas).await {
            Ok(ids) => ids,
            Err(error) => {
                error!(%error, "in-flight rows could not be written");
                for (outlet, serial, _) in &rows {
                    with_kept(outlet, *serial, |kept| kept.serial = 0);
                    outlet.enroll_now();
                }
                self.rest();
                return;
            }
        };
        self.metrics.in_flight_rows.inc_by(ids.len() as u64);
        let mut tokens = Vec::new();
        for ((outlet, serial, _), id) in rows.iter().zip(ids) {
            let token = with_kept(outlet, *serial, |kept| {
                kept.row = Some(KeptRow::InFlight(id));
                kept.token.take()
            });
            match token {
                Some(token) => tokens.extend(token),
                // Acknowledged or taken elsewhere meanwhile.
                None => self.row_done(KeptRow::InFlight(id)),
            }
        }
        self.settle_all(&mut tokens);
    }
}

/// A stanza that needs a row: where it is kept, the number of this write, and what is written.
type Waiting = (SessionRef, u64, InFlight);

/// Ready when the work is done; never if there is none.
async fn maybe(work: &mut Option<impl Future<Output = ()> + Unpin>) {
    match work {
        Some(work) => work.await,
        None => std::future::pending().await,
    }
}

/// Ready when the work is done, or at once if there is none.
async fn maybe_now(work: Option<impl Future<Output = ()>>) {
    if let Some(work) = work {
        work.await;
    }
}

/// Runs `f` on the kept stanza with that serial, if the outlet still has it.
fn with_kept<T>(
    outlet: &Outlet,
    serial: u64,
    mut f: impl FnMut(&mut crate::c2s::resume::Kept) -> T,
) -> Option<T> {
    outlet.with_kept(|managed, kept| {
        let mut all = managed
            .map(|managed| managed.kept_mut())
            .into_iter()
            .flatten()
            .chain(kept.iter_mut());
        all.find(|kept| kept.serial == serial).map(&mut f)
    })
}

#[cfg(test)]
mod tests;
