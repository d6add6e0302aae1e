//! Resource binding (RFC 6120 section 7) and resumption (XEP-0198 section 5).
use std::time::Duration;

use protocol::stream::secure_id;
use protocol::xml::Limits;
use protocol::{BareJid, Element, FullJid, StanzaCondition, StreamCondition, StreamError, ns};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::super::session::{self, Session};
use super::{End, Negotiation, Step};
use crate::outlet::{Order, SessionRef};

/// Letters of a resource that we make.
const RESOURCE_BYTES: usize = 16;
/// How long a resumption waits for the session's task to let go of it.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(2);

impl Negotiation<'_> {
    /// Limits and marks of a stream that has logged in.
    fn limits(&self) -> Limits {
        let stanza_bytes_max = self.conn.listener.stanza_bytes_max;
        Limits {
            element_bytes_max: stanza_bytes_max,
            attribute_value_bytes_max: stanza_bytes_max,
            ..Limits::AUTHENTICATED
        }
    }

    pub(super) async fn bind(&mut self, iq: &Element) -> Result<Step, End> {
        let id = iq.attr("id").unwrap_or_default().to_owned();
        let bind = iq.child("bind", ns::BIND);
        let (Some(bind), false, Some("set")) = (bind, id.is_empty(), iq.attr("type")) else {
            self.send_iq_error(&id, &StanzaCondition::BadRequest.into());
            return Ok(Step::Stay);
        };
        let Some(account) = self.account.clone() else {
            return Err(StreamCondition::NotAuthorized.into());
        };
        let wanted = bind
            .child("resource", ns::BIND)
            .map(|resource| resource.text().into_owned());
        let made = || secure_id().chars().take(RESOURCE_BYTES).collect();
        let resource: String = wanted.filter(|text| !text.is_empty()).unwrap_or_else(made);
        let Ok(jid) = account.with_resource(&resource) else {
            self.send_iq_error(&id, &StanzaCondition::BadRequest.into());
            return Ok(Step::Stay);
        };
        self.conn.outlet.bind(jid.clone());
        // From here on the session ends in order whatever happens.
        let session = self.session(self.conn.outlet.clone())?;
        if let Some(predecessor) = self.conn.router.sessions.find(jid.as_ref()) {
            self.replace(&predecessor).await;
        }
        let mut answer = Element::new("iq", ns::CLIENT).with_attr("type", "result");
        answer.set_attr("id", Some(&id));
        answer.push(
            Element::new("bind", ns::BIND)
                .with_child(Element::new("jid", ns::BIND).with_text(jid.as_str())),
        );
        // In line before anybody finds the session: nothing comes before the answer.
        self.send_element(&answer);
        self.enter_table(&jid).await;
        self.leave_if_all_do();
        self.leave_if_removed(&account);
        Ok(Step::Bound(session))
    }

    /// Who removed the account while this login was under way did not find it in the table.
    fn leave_if_removed(&self, account: &BareJid) {
        let removals = &self.conn.router.removals;
        if removals.is_removed_since(account, self.login_begun) {
            self.conn.outlet.order(Order::Close(
                StreamError::new(StreamCondition::NotAuthorized)
                    .with_text("the account was removed"),
                "account_removed",
            ));
        }
    }

    /// Puts the session into the table.
    async fn enter_table(&mut self, jid: &FullJid) {
        let Some(host) = &self.host else { return };
        let sessions_max = self.conn.router.sessions_max(&host.access, jid.as_ref());
        let displaced = self
            .conn
            .router
            .sessions
            .add(&self.conn.outlet, sessions_max);
        if let Some(evicted) = displaced.evicted {
            evicted.order(Order::Close(
                StreamError::new(StreamCondition::PolicyViolation)
                    .with_text("a newer session of this account needs the place"),
                "too_many_sessions",
            ));
        }
        // Somebody was quicker, and is the older one now.
        if let Some(replaced) = displaced.replaced {
            self.replace(&replaced).await;
        }
    }

    /// Who counted the sessions when the drain began may have missed this one.
    fn leave_if_all_do(&self) {
        if let Some(error) = self.conn.router.leaving.error() {
            self.conn.outlet.order(Order::Close(error, "drained"));
        }
    }

    /// Ends a session of the same name and waits until it is gone, so that watchers see its end before the new
    /// beginning.
    async fn replace(&mut self, predecessor: &SessionRef) {
        self.conn.batch.flush();
        let (sender, ended) = oneshot::channel();
        predecessor.notify_end(sender);
        predecessor.order(Order::Close(
            StreamError::new(StreamCondition::Conflict)
                .with_text("replaced by a new session of the same resource"),
            "replaced",
        ));
        // The sender is dropped when the old session is gone; if that takes too long the new one goes on.
        let wait = self.host.as_ref().map(|host| host.replaced_wait_timeout);
        let _ended = timeout(wait.unwrap_or_default(), ended).await;
    }

    fn session(&mut self, outlet: SessionRef) -> Result<Box<Session>, End> {
        let Some(host) = self.host.clone() else {
            return Err(StreamCondition::InternalServerError.into());
        };
        self.conn.intake.set_limits(self.limits());
        Ok(Box::new(Session::new(
            outlet,
            host,
            self.conn.router.clone(),
            self.lang.take(),
            &self.conn.listener,
        )))
    }

    /// `<resume/>`: takes over a session of the same account. A failure leaves binding possible.
    pub(super) async fn resume(&mut self, element: &Element) -> Result<Step, End> {
        let Some(h) = element.attr("h").and_then(session::parse_h) else {
            return Err(StreamCondition::BadFormat.into());
        };
        let previd = element.attr("previd").unwrap_or_default().to_owned();
        match self.take_over(&previd, h).await? {
            Some(session) => Ok(Step::Bound(session)),
            None => {
                let router = &self.conn.router;
                let account = self.account.as_ref().map_or("", |account| account.as_str());
                let now = router.ledger.clock.now_secs();
                let h = router.resumable.stale_h(&previd, account, now);
                let failed = session::failed(StanzaCondition::ItemNotFound, h);
                self.conn.send(&failed);
                Ok(Step::Stay)
            }
        }
    }

    async fn take_over(&mut self, previd: &str, h: u32) -> Result<Option<Box<Session>>, End> {
        let Some(mut session) = self.claim(previd).await else {
            return Ok(None);
        };
        let old = session.outlet.clone();
        let mut done = Vec::new();
        let acknowledged =
            old.with_managed(|managed| managed.acknowledge(h, |kept| done.push(kept)));
        let error = match acknowledged {
            Some(Ok(())) => None,
            Some(Err(too_high)) => Some(session::handled_count_too_high(&too_high)),
            None => Some(StreamCondition::InternalServerError.into()),
        };
        if let Some(error) = error {
            // The client has lost count, so nothing can be resumed; what it has not got finds another way.
            Box::pin(session.finish(&End::Lost)).await;
            return Err(error.into());
        }
        let router = self.conn.router.clone();
        let new = self.conn.outlet.clone();
        new.bind(old.jid().clone());
        new.begin_install();
        let mut handed = old.hand_over(&new);
        // If it stands there no longer, a new session has replaced it: then the order to end is among the orders.
        let _replaced = router.sessions.replace(&old, &new);
        let told = handed
            .managed
            .as_mut()
            .map_or(h, |managed| managed.resume());
        session.outlet = new.clone();
        session.take_connection(&self.conn.listener, self.lang.take());
        router.ledger.add(handed.id(), new.clone());
        let greeting = format!(
            "<resumed xmlns='urn:xmpp:sm:3' h='{told}' previd='{previd}'/>",
            previd = previd_text(previd)
        );
        new.install(handed, greeting.as_bytes(), &mut self.conn.batch);
        router.resumable.put(previd, new);
        session.settle_acknowledged(done);
        self.conn.intake.set_limits(self.limits());
        router.metrics.resumptions.inc();
        self.leave_if_all_do();
        Ok(Some(session))
    }

    /// The session of that id, taken from its task: of two that try, one gets it.
    async fn claim(&mut self, previd: &str) -> Option<Box<Session>> {
        let account = self.account.as_ref()?;
        let old = self.conn.router.resumable.claim(previd, account.as_str())?;
        let (sender, mut session) = oneshot::channel();
        old.order(Order::HandOver(sender));
        match timeout(HAND_OVER_TIMEOUT, &mut session).await {
            Ok(session) => session.ok(),
            Err(_) => {
                // It may have been sent at this very moment; if not, its task learns that nobody waits.
                session.close();
                session.try_recv().ok()
            }
        }
    }
}

/// Ids are ours, letters and digits; anything else never gets here, as it is not found.
fn previd_text(previd: &str) -> String {
    previd.chars().filter(char::is_ascii_alphanumeric).collect()
}
