//! RFC 6121 sections 4.2.1, 4.3 and 3.1.3: what a session learns when it becomes available.
//!
//! The presence of its contacts, then requests that wait for an answer, then stored messages. Some of that fits into
//! one turn of the session's task. A user with hundreds of contacts online would be told more than may wait for a
//! socket, so the rest is told by a task of its own, a part at a time: the next one when the client has the last.
use std::collections::VecDeque;
use std::sync::Arc;

use protocol::{BareJid, Element, JidRef, Stanza, ns};

use super::{Shared, announce, available, deliver_from};
use crate::hooks::{DeliverLocal, Error, PresenceSet};
use crate::modules::roster::known::Subscriptions;
use crate::modules::roster::show_with;
use crate::modules::roster::store::Overview;
use crate::outlet::SessionRef;
use crate::receipts::Receipts;
use crate::router::Route;

/// Stanzas of one part.
pub const PART_STANZAS_MAX: usize = 50;
/// Bytes of one part, apart from its last stanza: a quarter of what may wait for a socket.
pub const PART_BYTES_MAX: usize = 16 * 1024;

/// What a session has to be told.
pub(super) struct Arrival {
    shared: Arc<Shared>,
    session: SessionRef,
    priority: i8,
    has_messages: bool,
    due: VecDeque<Due>,
    /// Of the part that is being told.
    stanzas: usize,
    bytes: usize,
}

enum Due {
    /// A contact's presence.
    Contact(BareJid),
    /// Requests that wait, which have to be read.
    Requests,
    /// One of them.
    Request(Stanza),
}

impl Arrival {
    pub(super) fn new(
        shared: Arc<Shared>,
        session: SessionRef,
        priority: i8,
        subscriptions: &Subscriptions,
        overview: &Overview,
    ) -> Self {
        let contacts = subscriptions.subscribed_to().cloned().map(Due::Contact);
        let requests = overview.has_requests.then_some(Due::Requests);
        Self {
            shared,
            session,
            priority,
            has_messages: overview.has_messages,
            due: contacts.chain(requests).collect(),
            stanzas: 0,
            bytes: 0,
        }
    }

    /// Tells what fits, and lets a task tell the rest.
    pub(super) async fn begin(mut self, route: &mut Route) -> Result<(), Error> {
        self.tell_part(route, None).await?;
        if self.due.is_empty() {
            self.end(route).await;
            return Ok(());
        }
        let tasks = self.shared.tasks.clone();
        let route = route.router.scope();
        tasks.spawn("arrival", async move {
            if let Err(error) = self.tell_rest(route).await {
                tracing::warn!(%error, "a session was not told everything");
            }
        });
        Ok(())
    }

    async fn tell_rest(mut self, mut route: Route) -> Result<(), Error> {
        let receipts = Receipts::new();
        while !self.due.is_empty() {
            self.tell_part(&mut route, Some(&receipts)).await?;
            self.session.request_acknowledgement(&mut route.batch);
            route.batch.flush();
            loop {
                let progress = receipts.progress();
                if progress.returned > 0 {
                    // The session has ended.
                    return Ok(());
                }
                if progress.outstanding == 0 {
                    break;
                }
                receipts.changed().await;
            }
        }
        self.end(&mut route).await;
        Ok(())
    }

    async fn end(self, route: &mut Route) {
        let set = PresenceSet {
            session: self.session,
            priority: self.priority,
            before: None,
            has_messages: self.has_messages,
        };
        announce(route, set).await;
    }

    /// Tells until the part is full.
    async fn tell_part(
        &mut self,
        route: &mut Route,
        receipts: Option<&Arc<Receipts>>,
    ) -> Result<(), Error> {
        (self.stanzas, self.bytes) = (0, 0);
        while self.stanzas < PART_STANZAS_MAX
            && self.bytes < PART_BYTES_MAX
            && let Some(due) = self.due.pop_front()
        {
            match due {
                Due::Contact(contact) => self.contact(route, receipts, &contact).await?,
                Due::Request(stanza) => self.push(route, receipts, stanza),
                Due::Requests => {
                    let account = self.session.jid().to_bare();
                    let requests = self.shared.roster.requests(&account).await?;
                    let stanzas = requests
                        .iter()
                        .filter_map(|request| request.to_stanza(&account));
                    self.due.extend(stanzas.map(Due::Request));
                }
            }
        }
        Ok(())
    }

    /// Asks for a contact's presence (section 4.3). An account of this host answers at once, unless somebody wants to
    /// see what it is asked.
    async fn contact(
        &mut self,
        route: &mut Route,
        receipts: Option<&Arc<Receipts>>,
        contact: &BareJid,
    ) -> Result<(), Error> {
        if !self.shared.may_be_there(route, contact) {
            return Ok(());
        }
        let own = self.session.clone();
        let host = route.router.host(contact.domain());
        let is_seen_by_nobody = host.is_some_and(|host| host.hooks.is_silent::<DeliverLocal>());
        let sessions = available(route, contact.as_str());
        // A list is asked on the way of a probe and of the answer.
        let is_free = !std::iter::once(&own)
            .chain(&sessions)
            .any(|session| route.is_restricted(session));
        if !self.shared.is_ours(contact.domain()) || !is_seen_by_nobody || !is_free {
            self.stanzas += 1;
            let stanza = probe(own.jid().as_ref(), contact);
            deliver_from(route, &own, stanza).await;
            return Ok(());
        }
        let roster = &self.shared.roster;
        if sessions.is_empty() || !roster.is_subscriber(contact, own.jid().as_ref()).await? {
            return Ok(());
        }
        for session in &sessions {
            show_with(session, own.jid().as_ref(), |stanza| {
                self.push(route, receipts, stanza);
            });
        }
        Ok(())
    }

    fn push(&mut self, route: &mut Route, receipts: Option<&Arc<Receipts>>, stanza: Stanza) {
        self.stanzas += 1;
        self.bytes += stanza.bytes().len();
        let batch = &mut route.batch;
        match receipts {
            None => _ = self.session.push(stanza, None, batch),
            Some(receipts) => {
                _ = self
                    .session
                    .push_with_receipt(stanza, receipts.receipt(0), batch);
            }
        }
    }
}

fn probe(from: JidRef<'_>, to: &BareJid) -> Option<Stanza> {
    let probe = Element::new("presence", ns::CLIENT)
        .with_attr("type", "probe")
        .with_attr("from", from.as_str())
        .with_attr("to", to.as_str());
    Stanza::from_element(&probe).ok()
}
