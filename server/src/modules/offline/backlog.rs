//! Delivery of stored messages: page by page, to one session, at the pace at which its client takes them.
//!
//! An account has one backlog at a time, so two sessions that come at once do not both get the messages. A message is
//! deleted when its client has it: with stream management when that has acknowledged it, else when it is written to
//! the socket. If the session ends before, the messages are still there, for another session or the next login. A
//! message may be delivered twice if the node is killed in between, never not at all.
use std::sync::Arc;

use ahash::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;
use protocol::{BareJid, Element, Stanza, StanzaError, ns};
use tracing::warn;

use super::store::{Message, OfflineStore};
use crate::outlet::{Batch, Flag, SessionRef};
use crate::receipts::Receipts;
use crate::router::local::takes_messages;
use crate::router::restrictions::Kept;
use crate::router::{Route, Router};
use crate::stamp;
use crate::storage;

/// Pages that are delivered in the turn of a session that becomes available; then a task goes on.
const PAGES_AT_ONCE_MAX: usize = 4;

/// The backlogs that are being delivered.
pub struct Backlogs {
    store: OfflineStore,
    active: Mutex<HashMap<Box<str>, Active, RandomState>>,
}

/// What others want of a backlog that is being delivered.
#[derive(Default)]
struct Active {
    /// Something was stored, or somebody came, since it last looked.
    look_again: bool,
}

/// One account's messages on their way to one session.
pub struct Backlog {
    backlogs: Arc<Backlogs>,
    router: Arc<Router>,
    account: BareJid,
    /// The session that is preferred, by its id.
    session: u64,
    receipts: Arc<Receipts>,
    /// The last message that was pushed to the session.
    after: i64,
    /// Nothing was found, and nobody has asked since: the account may have another backlog already.
    is_over: bool,
}

/// What came of looking for a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Page {
    /// Messages are on their way.
    Pushed,
    /// There are none, or nobody takes them.
    None,
}

impl Backlogs {
    /// None is being delivered.
    pub fn new(store: OfflineStore) -> Arc<Self> {
        Arc::new(Self {
            store,
            active: Mutex::default(),
        })
    }

    /// The account's backlog for a session; `None` if it is being delivered already, which then looks again.
    pub fn begin(self: &Arc<Self>, router: &Arc<Router>, session: &SessionRef) -> Option<Backlog> {
        let account = session.jid().to_bare();
        let mut active = self.active.lock();
        if let Some(active) = active.get_mut(account.as_str()) {
            active.look_again = true;
            return None;
        }
        active.insert(account.as_str().into(), Active::default());
        Some(Backlog {
            backlogs: self.clone(),
            router: router.clone(),
            account,
            session: session.id(),
            receipts: Receipts::new(),
            after: 0,
            is_over: false,
        })
    }

    /// The same for any session of the account that takes messages, if there is one.
    pub fn begin_for_anybody(
        self: &Arc<Self>,
        router: &Arc<Router>,
        account: &BareJid,
    ) -> Option<Backlog> {
        let session = taker(router, account, 0)?;
        self.begin(router, &session)
    }
}

/// The session that gets the messages: the preferred one, else the one of the highest priority.
fn taker(router: &Router, account: &BareJid, preferred: u64) -> Option<SessionRef> {
    router.sessions.with_account(account.as_str(), |sessions| {
        let willing = sessions
            .iter()
            .filter(|session| takes_messages(session) && !session.has(Flag::Closed));
        let best = willing.max_by_key(|session| (session.id() == preferred, session.priority()));
        best.cloned()
    })
}

impl Backlog {
    /// Delivers as much as the client takes at once. `true` if nothing is left to do.
    pub async fn deliver(&mut self, route: &mut Route) -> Result<bool, storage::Error> {
        for _ in 0..PAGES_AT_ONCE_MAX {
            if self.push_page(&mut route.batch).await? == Page::None {
                return Ok(self.end());
            }
            if !self.clear().await? {
                return Ok(false);
            }
        }
        Ok(false)
    }

    /// Delivers the rest.
    pub async fn run(mut self) {
        if let Err(error) = self.run_to_the_end().await {
            // They are still there, for the next login.
            warn!(%error, "stored messages could not be delivered");
        }
    }

    async fn run_to_the_end(&mut self) -> Result<(), storage::Error> {
        loop {
            while !self.clear().await? {
                self.receipts.changed().await;
            }
            let mut batch = Batch::new(&self.router.ledger);
            if self.push_page(&mut batch).await? == Page::None && self.end() {
                return Ok(());
            }
        }
    }

    /// Deletes what the client has. `true` if nothing is under way any more.
    async fn clear(&mut self) -> Result<bool, storage::Error> {
        let progress = self.receipts.progress();
        if progress.returned > 0 {
            // The session has ended: somebody else gets them, from the first that is left.
            self.after = 0;
        }
        if !progress.taken.is_empty() {
            let taken = progress.taken.len() as u64;
            self.router.metrics.modules.offline_delivered.inc_by(taken);
            let store = &self.backlogs.store;
            store.delete(&self.account, &progress.taken).await?;
        }
        Ok(progress.outstanding == 0)
    }

    /// Pushes the next page and writes it. Its receipts tell what became of it.
    async fn push_page(&mut self, batch: &mut Batch) -> Result<Page, storage::Error> {
        let Some(session) = taker(&self.router, &self.account, self.session) else {
            return Ok(Page::None);
        };
        if session.id() != self.session {
            self.session = session.id();
            self.after = 0;
        }
        let store = &self.backlogs.store;
        let page = store.list(&self.account, self.after, stamp::now_us());
        let page = page.await?;
        if page.is_empty() {
            return Ok(Page::None);
        }
        for message in page {
            self.after = message.id;
            let receipt = |receipts: &Arc<Receipts>| receipts.receipt(message.id);
            let Some(stanza) = to_stanza(&message, self.account.domain()) else {
                warn!(id = message.id, "a stored message is none and is deleted");
                receipt(&self.receipts).taken();
                continue;
            };
            match self.admit(&session, &stanza).await {
                Ok(Kept::Deliver) => {
                    let receipt = receipt(&self.receipts);
                    _ = session.push_with_receipt(stanza, receipt, batch);
                }
                Ok(Kept::Forget) => receipt(&self.receipts).taken(),
                Ok(Kept::Leave) => {}
                Err(error) => {
                    let condition = error.condition.name();
                    warn!(condition, "stored messages wait for the next login");
                    return Ok(Page::None);
                }
            }
        }
        session.request_acknowledgement(batch);
        batch.flush();
        Ok(Page::Pushed)
    }

    /// Asks the lists of the account, which may be newer than the message.
    async fn admit(&self, session: &SessionRef, stanza: &Stanza) -> Result<Kept, StanzaError> {
        if session.has(Flag::Unrestricted) {
            return Ok(Kept::Deliver);
        }
        Box::pin(self.router.scope().admit_kept(session, stanza)).await
    }

    /// Nothing was found. `false` if something may have come meanwhile: then it has to be looked again.
    fn end(&mut self) -> bool {
        let mut active = self.backlogs.active.lock();
        if let Some(active) = active.get_mut(self.account.as_str())
            && std::mem::take(&mut active.look_again)
        {
            return false;
        }
        active.remove(self.account.as_str());
        self.is_over = true;
        true
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        if !self.is_over {
            let mut active = self.backlogs.active.lock();
            active.remove(self.account.as_str());
        }
    }
}

/// The message as it is delivered: with the time at which it came, said by the account's domain (XEP-0203), unless
/// that has said it already.
pub(super) fn to_stanza(message: &Message, domain: &str) -> Option<Stanza> {
    let mut element = Element::parse(message.stanza.as_bytes(), ns::CLIENT).ok()?;
    let is_ours =
        |child: &Element| child.is("delay", ns::DELAY) && child.attr("from") == Some(domain);
    if !element.elements().any(is_ours) {
        let stamp = stamp::format_us(message.received_at);
        let delay = Element::new("delay", ns::DELAY)
            .with_attr("from", domain)
            .with_attr("stamp", &stamp);
        element.push(delay);
    }
    Stanza::from_element(&element).ok()
}
