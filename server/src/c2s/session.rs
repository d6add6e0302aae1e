//! The loop of a bound session, and what it does with each element.
use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use protocol::websocket::code;
use protocol::xml::Stamp;
use protocol::{
    BareJid, Element, Kind, Stanza, StanzaCondition, StanzaError, StanzaType, StreamCondition,
    StreamError, ns,
};
use tokio::sync::oneshot;

use super::resume::{HandledCountTooHigh, Kept, KeptRow, Managed, Token};
use super::shaper::Shaper;
use super::{End, Incoming, Intake, ListenerSettings, Received};
use crate::hooks::{
    Halt, MaySend, SessionClosed, SessionOpened, UserSendIq, UserSendMessage, UserSendPresence,
};
use crate::host::Host;
use crate::host::config::Acknowledge;
use crate::iq::Target;
use crate::ledger::Origin;
use crate::outlet::{Batch, Event, Flag, Order, SessionRef};
use crate::router::{Delivery, Destination, Route, Router, copies};

/// A bound session. Its own task owns it; others see its outlet only.
pub struct Session {
    /// The write half, and what others may know.
    pub outlet: SessionRef,
    /// The host of its domain.
    pub host: Arc<Host>,
    /// The node.
    pub router: Arc<Router>,
    /// What was appended and not flushed.
    pub batch: Batch,
    /// The read half's memory: between two elements, next to nothing.
    intake: Intake,
    lang: Option<Box<str>>,
    shaper: Option<Box<Shaper>>,
    /// Modules know of it, and have to be told of its end.
    opened: bool,
    /// Everything that has to happen at its end has happened.
    over: bool,
}

/// What the loop comes to when it cannot go on at once.
pub(super) enum Work {
    /// The connection is over.
    Over(Box<Outcome>),
    /// Something has to be waited for first.
    Wait(Box<Rest>),
}

/// What one read brought and has not been handled.
pub(super) struct Rest {
    slow: Option<Slow>,
    items: VecDeque<Incoming>,
    end: Option<End>,
    /// How long the client is not read afterwards.
    pause: Option<Duration>,
}

/// How long a client with a full socket may take for what stands in line when its session is closed.
const WRITE_REST_TIMEOUT: Duration = Duration::from_secs(1);

/// How the loop of one connection ended.
pub(super) enum Outcome {
    /// The session is over.
    Over(End),
    /// Another connection has it now.
    HandedOver(oneshot::Sender<Box<Session>>),
}

impl Session {
    /// A session that was bound just now.
    pub fn new(
        outlet: SessionRef,
        host: Arc<Host>,
        router: Arc<Router>,
        lang: Option<Box<str>>,
        listener: &ListenerSettings,
    ) -> Self {
        let batch = Batch::new(&router.ledger);
        Self {
            outlet,
            host,
            router,
            batch,
            intake: Intake::none(),
            lang,
            shaper: Shaper::new(listener),
            opened: false,
            over: false,
        }
    }

    /// Goes on with the settings of another connection.
    pub(super) fn take_connection(&mut self, listener: &ListenerSettings, lang: Option<Box<str>>) {
        self.shaper = Shaper::new(listener);
        self.lang = lang;
    }

    /// The account.
    pub fn account(&self) -> BareJid {
        self.outlet.jid().to_bare()
    }

    /// Begins to serve a connection: `unparsed` was read behind the negotiation. Gives the session back if it goes on.
    pub async fn begin(
        mut self: Box<Self>,
        intake: Intake,
        mut unparsed: Vec<u8>,
    ) -> Option<Box<Self>> {
        self.intake = intake;
        if !self.opened {
            self.opened = true;
            self.open().await;
        }
        if unparsed.is_empty() {
            return Some(self);
        }
        let received =
            self.receive(|intake, _, stamp| super::frame_unparsed(intake, &mut unparsed, stamp));
        drop(unparsed);
        match self.handle_quickly(received, None) {
            None => Some(self),
            Some(work) => Box::pin(self.go_on(work)).await,
        }
    }

    /// Does what [`Self::poll_work`] could not do at once. Gives the session back if it goes on.
    pub(super) async fn go_on(mut self: Box<Self>, work: Work) -> Option<Box<Self>> {
        let outcome = match work {
            Work::Over(outcome) => outcome,
            Work::Wait(rest) => match self.handle_rest(rest).await {
                None => return Some(self),
                Some(outcome) => outcome,
            },
        };
        self.intake = Intake::none();
        Box::pin(self.leave(*outcome)).await;
        None
    }

    /// Reads by `read`, with what is stamped on each stanza of this session.
    fn receive(
        &mut self,
        read: impl FnOnce(&mut Intake, &SessionRef, &Stamp<'_>) -> Received,
    ) -> Received {
        let Self {
            outlet,
            router,
            intake,
            lang,
            ..
        } = self;
        with_stamp(router, outlet, lang.as_deref(), |stamp| {
            read(intake, outlet, stamp)
        })
    }

    /// Does what can be done at once, until something has to be waited for or the connection is over.
    /// Nothing else runs while a session is idle: what that costs is what the session itself needs.
    pub(super) fn poll_work(&mut self, cx: &mut Context<'_>) -> Poll<Work> {
        let over = |outcome| Poll::Ready(Work::Over(Box::new(outcome)));
        loop {
            match ready!(self.outlet.poll_event(cx)) {
                Event::Order(Order::Close(error, reason)) => {
                    return over(Outcome::Over(End::Ordered(error, reason)));
                }
                Event::Order(Order::HandOver(taker)) if taker.is_closed() => {
                    self.may_be_claimed_again();
                }
                Event::Order(Order::HandOver(taker)) => return over(Outcome::HandedOver(taker)),
                Event::Order(Order::Presence(ordered)) => {
                    return Poll::Ready(Work::Wait(Box::new(Rest {
                        slow: Some(Slow::Ordered(ordered)),
                        items: VecDeque::new(),
                        end: None,
                        pause: None,
                    })));
                }
                Event::Order(Order::Lost) | Event::Lost => return over(Outcome::Over(End::Lost)),
                Event::Writable => {
                    if self.outlet.flush_blocked(&mut self.batch.settled).is_err() {
                        return over(Outcome::Over(End::Lost));
                    }
                    self.batch.flush();
                }
                Event::Readable => {
                    let received = self.receive(|intake, outlet, stamp| {
                        super::receive_items(outlet, intake, stamp)
                    });
                    let pause = self.shaper.as_mut().and_then(|s| s.spend(received.bytes));
                    if let Some(work) = self.handle_quickly(received, pause) {
                        return Poll::Ready(work);
                    }
                }
            }
        }
    }

    /// The client has used up its rate: it is not read for a while, but written to, and orders are heard.
    async fn pause(&mut self, pause: Duration) {
        let end = tokio::time::Instant::now() + pause;
        loop {
            let event = std::future::poll_fn(|cx| self.outlet.poll_unread(cx));
            match tokio::time::timeout_at(end, event).await {
                Ok(Event::Writable) => {
                    if self.outlet.flush_blocked(&mut self.batch.settled).is_err() {
                        return;
                    }
                    self.batch.flush();
                }
                // The loop takes it from there.
                Ok(Event::Order(order)) => return self.outlet.order_first(order),
                Ok(Event::Lost | Event::Readable) | Err(_) => return,
            }
        }
    }

    /// Handles what one read brought, as far as nothing has to be waited for, and flushes once.
    fn handle_quickly(&mut self, received: Received, pause: Option<Duration>) -> Option<Work> {
        let Received {
            mut items, mut end, ..
        } = received;
        let mut slow = None;
        let mut drained = items.drain(..);
        for item in drained.by_ref() {
            match self.handle_now(item) {
                ControlFlow::Continue(None) => {}
                ControlFlow::Continue(found) => {
                    slow = found;
                    break;
                }
                ControlFlow::Break(why) => {
                    end = Some(why);
                    break;
                }
            }
        }
        if slow.is_some() {
            let left: VecDeque<_> = drained.collect();
            super::give_back(items);
            return Some(Work::Wait(Box::new(Rest {
                slow,
                items: left,
                end,
                pause,
            })));
        }
        drop(drained);
        super::give_back(items);
        self.batch.flush();
        match (end, pause) {
            (Some(end), _) => Some(Work::Over(Box::new(Outcome::Over(end)))),
            (None, None) => None,
            (None, pause) => Some(Work::Wait(Box::new(Rest {
                slow,
                items: VecDeque::new(),
                end: None,
                pause,
            }))),
        }
    }

    /// Goes on with what one read brought, waits where that is needed, then flushes once.
    async fn handle_rest(&mut self, mut rest: Box<Rest>) -> Option<Box<Outcome>> {
        let mut slow = rest.slow.take();
        loop {
            if let Some(slow) = slow.take()
                && let ControlFlow::Break(why) = self.handle_slowly(slow).await
            {
                rest.end = Some(why);
                break;
            }
            let Some(item) = rest.items.pop_front() else {
                break;
            };
            match self.handle_now(item) {
                ControlFlow::Continue(found) => slow = found,
                ControlFlow::Break(why) => {
                    rest.end = Some(why);
                    break;
                }
            }
        }
        self.batch.flush();
        if let Some(end) = rest.end.take() {
            return Some(Box::new(Outcome::Over(end)));
        }
        if let Some(pause) = rest.pause {
            self.pause(pause).await;
        }
        None
    }

    // ---- elements

    /// What can be done without waiting: nearly every message. Gives back the rest.
    fn handle_now(&mut self, item: Incoming) -> ControlFlow<End, Option<Slow>> {
        match item {
            Incoming::Stanza(stanza) => {
                let Some(token) = self.count() else {
                    return ControlFlow::Continue(None);
                };
                self.router.metrics.stanzas_received.of(stanza.kind()).inc();
                let delivery = Delivery { stanza, token };
                if delivery.stanza.kind() == Kind::Message
                    && self.host.hooks.is_silent::<UserSendMessage>()
                    && !self.is_restricted()
                {
                    self.copy_sent(&delivery.stanza);
                    return match self.router.try_route(delivery, &mut self.batch) {
                        Ok(()) => ControlFlow::Continue(None),
                        Err(delivery) => ControlFlow::Continue(Some(Slow::Routed(delivery))),
                    };
                }
                ControlFlow::Continue(Some(Slow::Stanza(delivery)))
            }
            Incoming::Refused(reply) => {
                if let Some(token) = self.count() {
                    if let Some(reply) = reply {
                        let _closed = self.outlet.push(reply, None, &mut self.batch);
                    }
                    self.batch.settle(token);
                }
                ControlFlow::Continue(None)
            }
            Incoming::AckRequest => {
                self.asked_for_ack();
                ControlFlow::Continue(None)
            }
            Incoming::Ack(h) => self.acknowledged(h),
            Incoming::Element(element) => self.nonza(&element),
            Incoming::Close => ControlFlow::Break(End::Closed),
            Incoming::Ping(ping) => {
                self.outlet.push_pong(&ping, &mut self.batch);
                ControlFlow::Continue(None)
            }
            Incoming::HungUp => {
                self.outlet.push_hang_up(&mut self.batch);
                self.batch.flush();
                ControlFlow::Break(End::Lost)
            }
            Incoming::Header(_) => ControlFlow::Break(StreamCondition::BadFormat.into()),
        }
    }

    /// Counts a stanza of the client. `None` means that it is a repeat; without stream management nobody waits.
    fn count(&mut self) -> Option<Option<Token>> {
        let id = self.outlet.id();
        match self.outlet.with_managed(Managed::receive) {
            None => Some(None),
            Some(None) => None,
            Some(Some(stanza)) => {
                let token = Token {
                    session: id,
                    stanza,
                };
                if self.router.acknowledge() == Acknowledge::Routed {
                    // Settled by standing anywhere at all: at the end of this batch.
                    self.batch.settle(Some(token));
                    return Some(None);
                }
                Some(Some(token))
            }
        }
    }

    /// As soon as something has to be waited for, what this batch has appended so far goes out: stanzas of others for
    /// the same clients would wait behind it.
    async fn handle_slowly(&mut self, slow: Slow) -> ControlFlow<End> {
        let fresh = Batch::new(&self.router.ledger);
        let mut appended = std::mem::replace(&mut self.batch, fresh);
        let flow = {
            let mut handling = std::pin::pin!(self.handle(slow));
            std::future::poll_fn(|cx| {
                let poll = handling.as_mut().poll(cx);
                if poll.is_pending() {
                    appended.flush();
                }
                poll
            })
            .await
        };
        self.batch.absorb(&mut appended);
        flow
    }

    async fn handle(&mut self, slow: Slow) -> ControlFlow<End> {
        match slow {
            Slow::Routed(delivery) => self.route(delivery).await,
            Slow::Enable(element) => self.enable(&element),
            Slow::Ordered(ordered) => self.ordered(*ordered).await,
            // Boxed, or every handler that waits would hold room for it.
            Slow::Stanza(delivery) => return Box::pin(self.stanza(delivery)).await,
        }
        ControlFlow::Continue(())
    }

    async fn stanza(&mut self, delivery: Delivery) -> ControlFlow<End> {
        let Some(delivery) = self.restrict(delivery).await else {
            return ControlFlow::Continue(());
        };
        match delivery.stanza.kind() {
            Kind::Message => self.message(delivery).await,
            Kind::Presence => self.presence(delivery).await,
            Kind::Iq => return self.iq(delivery).await,
        }
        ControlFlow::Continue(())
    }

    /// Whether a list of the account may have to be asked about what the session sends.
    fn is_restricted(&self) -> bool {
        !self.outlet.has(Flag::Unrestricted) && !self.host.hooks.is_silent::<MaySend>()
    }

    /// Answers what a list of the account does not let out.
    async fn restrict(&mut self, delivery: Delivery) -> Option<Delivery> {
        if delivery.stanza.to().is_none() || !self.is_restricted() {
            return Some(delivery);
        }
        let (mut route, outlet) = (self.scope(), self.outlet.clone());
        // Few sessions get here.
        Box::pin(async move { route.release(&outlet, delivery).await }).await
    }

    /// A scope for handlers that route.
    pub fn scope(&self) -> Route {
        self.router.scope()
    }

    /// Everything that this session has written so far goes out before others write to it.
    async fn route(&mut self, mut delivery: Delivery) {
        if delivery.stanza.to().is_none() {
            let own = self.account();
            delivery.stanza = delivery.stanza.with_to(own.as_ref());
        }
        self.router.route(delivery).await;
    }

    async fn message(&mut self, delivery: Delivery) {
        let mut event = UserSendMessage {
            stanza: delivery.stanza,
        };
        let host = self.host.clone();
        let flow = host.hooks.run(self, &mut event).await;
        let delivery = Delivery {
            stanza: event.stanza,
            token: delivery.token,
        };
        match flow {
            ControlFlow::Continue(()) => {
                if self.copy_sent(&delivery.stanza) {
                    // Routing may have to wait for something, and the copies should not.
                    self.batch.flush();
                }
                self.route(delivery).await;
            }
            ControlFlow::Break(halt) => self.halt(delivery, &halt),
        }
    }

    /// Copies a message to the account's other sessions, before an error can come for it.
    fn copy_sent(&mut self, stanza: &Stanza) -> bool {
        let Self {
            outlet,
            router,
            batch,
            ..
        } = self;
        router.copy_sent(outlet, stanza, batch)
    }

    async fn presence(&mut self, delivery: Delivery) {
        let token = delivery.token;
        let mut event = UserSendPresence {
            stanza: delivery.stanza,
        };
        let host = self.host.clone();
        let flow = host.hooks.run(self, &mut event).await;
        let delivery = Delivery {
            stanza: event.stanza,
            token,
        };
        match flow {
            ControlFlow::Continue(()) if delivery.stanza.to().is_some() => {
                self.route(delivery).await;
            }
            // Presence is state: it is settled when it has been handed on.
            ControlFlow::Continue(()) => self.batch.settle(token),
            ControlFlow::Break(halt) => self.halt(delivery, &halt),
        }
    }

    /// Sets the presence that somebody else wants the session to have.
    async fn ordered(&mut self, (stanza, done): (Stanza, oneshot::Sender<()>)) {
        let token = None;
        Box::pin(self.presence(Delivery { stanza, token })).await;
        self.batch.flush();
        // Whoever asked may have gone.
        let _gone = done.send(());
    }

    async fn iq(&mut self, delivery: Delivery) -> ControlFlow<End> {
        let is_request = matches!(
            delivery.stanza.stanza_type(),
            StanzaType::Get | StanzaType::Set
        );
        match own_target(self, &delivery.stanza) {
            Some(_) if !is_request => {
                self.router.questions.take(&delivery.stanza);
                self.batch.settle(delivery.token);
            }
            Some(_) if delivery.stanza.payload() == Some(("session", ns::SESSION)) => {
                let reply = delivery.stanza.result_reply(None);
                let _closed = self.outlet.push(reply, None, &mut self.batch);
                self.batch.settle(delivery.token);
            }
            Some(_) if delivery.stanza.payload() == Some(("bind", ns::BIND)) => {
                let error = StanzaError::new(StanzaCondition::NotAllowed)
                    .with_text("this stream has bound a resource already");
                self.halt(delivery, &Halt::Bounce(error));
            }
            Some(target) => {
                let mut route = self.scope();
                let session = Some(self.outlet.clone());
                let host = self.host.clone();
                Box::pin(route.answer(&host, delivery, target, session)).await;
                drop(route);
                // What the client wanted may be its end: then nothing behind it counts.
                if let Some((error, reason)) = self.outlet.take_close() {
                    return ControlFlow::Break(End::Ordered(error, reason));
                }
            }
            None => {
                let mut event = UserSendIq {
                    stanza: delivery.stanza,
                };
                let host = self.host.clone();
                let flow = host.hooks.run(self, &mut event).await;
                let delivery = Delivery {
                    stanza: event.stanza,
                    token: delivery.token,
                };
                match flow {
                    ControlFlow::Continue(()) => self.route(delivery).await,
                    ControlFlow::Break(halt) => self.halt(delivery, &halt),
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn halt(&mut self, delivery: Delivery, halt: &Halt) {
        let mut route = self.scope();
        route.halt(delivery, halt);
    }

    // ---- stream management

    fn nonza(&mut self, element: &Element) -> ControlFlow<End, Option<Slow>> {
        if element.is("error", ns::STREAM) {
            // Never answered with an error.
            return ControlFlow::Break(End::Closed);
        }
        match (element.name(), element.ns()) {
            ("enable", ns::STREAM_MANAGEMENT) => {
                ControlFlow::Continue(Some(Slow::Enable(Box::new(element.clone()))))
            }
            ("resume", ns::STREAM_MANAGEMENT) => {
                let failed = failed(StanzaCondition::UnexpectedRequest, None);
                self.outlet.push_bytes(&failed, &mut self.batch);
                ControlFlow::Continue(None)
            }
            (state @ ("active" | "inactive"), ns::CSI) => self.client_state(state == "active"),
            _ => ControlFlow::Break(StreamCondition::UnsupportedStanzaType.into()),
        }
    }

    /// XEP-0352: whether somebody looks at the client.
    fn client_state(&mut self, is_active: bool) -> ControlFlow<End, Option<Slow>> {
        let Some(held_max) = self.host.held_max else {
            return ControlFlow::Break(StreamCondition::UnsupportedStanzaType.into());
        };
        if is_active {
            self.outlet.set_active(&mut self.batch);
        } else {
            self.outlet.set_inactive(held_max);
        }
        ControlFlow::Continue(None)
    }

    /// `<r/>`: answered with this batch if there is all to tell, else when there is or after a short while, since an
    /// answer that tells nothing new costs a packet and helps nobody.
    fn asked_for_ack(&mut self) {
        let now = self.router.ledger.clock.now_ms();
        let mut answer = Vec::new();
        let waits = self
            .outlet
            .with_managed(|managed| managed.answer_or_wait(&mut answer, now));
        if !answer.is_empty() {
            self.outlet.push_bytes(&answer, &mut self.batch);
        }
        if waits == Some(true) {
            self.outlet.enroll_now();
        }
    }

    fn acknowledged(&mut self, h: Option<u32>) -> ControlFlow<End, Option<Slow>> {
        let Some(h) = h else {
            return ControlFlow::Break(StreamCondition::BadFormat.into());
        };
        let Self {
            outlet,
            batch,
            router,
            ..
        } = self;
        let result = outlet.with_managed(|managed| {
            managed.acknowledge(h, |kept| {
                batch.settle(kept.token);
                if let Some(row) = kept.row {
                    router.ledger.row_done(row);
                }
            })
        });
        match result {
            Some(Err(too_high)) => ControlFlow::Break(handled_count_too_high(&too_high).into()),
            _ => ControlFlow::Continue(None),
        }
    }

    /// Settles what a resumption acknowledged.
    pub(super) fn settle_acknowledged(&mut self, done: Vec<Kept>) {
        for kept in done {
            self.batch.settle(kept.token);
            if let Some(row) = kept.row {
                self.router.ledger.row_done(row);
            }
        }
        // The client may not send anything for long.
        self.batch.flush();
    }

    fn enable(&mut self, element: &Element) {
        let Some(settings) = self.host.stream_management else {
            let failed = failed(StanzaCondition::ServiceUnavailable, None);
            return self.outlet.push_bytes(&failed, &mut self.batch);
        };
        let wants_resume = settings.buffer && matches!(element.attr("resume"), Some("true" | "1"));
        let resume_id = wants_resume.then(|| protocol::stream::secure_id().into_boxed_str());
        let mut enabled = String::from("<enabled xmlns='urn:xmpp:sm:3'");
        if let Some(id) = &resume_id {
            let max = settings.resume_timeout_secs;
            enabled.push_str(&format!(" id='{id}' resume='true' max='{max}'"));
        }
        enabled.push_str("/>");
        let managed = Box::new(Managed::new(settings, resume_id.clone()));
        if !self
            .outlet
            .manage(managed, enabled.as_bytes(), &mut self.batch)
        {
            let failed = failed(StanzaCondition::UnexpectedRequest, None);
            return self.outlet.push_bytes(&failed, &mut self.batch);
        }
        self.router
            .ledger
            .add(self.outlet.id(), self.outlet.clone());
        if let Some(id) = &resume_id {
            self.router.resumable.put(id, self.outlet.clone());
        }
    }

    // ---- beginning and end

    async fn open(&mut self) {
        let host = self.host.clone();
        let _ = host.hooks.run(self, &mut SessionOpened).await;
        self.router.metrics.sessions_opened.inc();
    }

    /// The connection is over. What can be resumed waits; everything else ends.
    async fn leave(mut self: Box<Self>, mut outcome: Outcome) {
        loop {
            if let Outcome::Over(End::Lost) = outcome
                && let Some(wait) = self.resumable_for()
            {
                self.outlet.detach();
                self.router.metrics.sessions_detached.inc();
                outcome = self.wait_for_client(wait).await;
                self.router.metrics.sessions_detached.dec();
            }
            let taker = match outcome {
                Outcome::HandedOver(taker) => taker,
                Outcome::Over(end) => return self.finish(&end).await,
            };
            let old = self.outlet.clone();
            match self.hand_over(taker) {
                None => return super::let_go(&old).await,
                // Whoever asked has gone meanwhile; the session waits for the next.
                Some(session) => {
                    self = session;
                    self.may_be_claimed_again();
                    outcome = Outcome::Over(End::Lost);
                }
            }
        }
    }

    fn resumable_for(&self) -> Option<Duration> {
        self.outlet
            .with_managed(|managed| {
                let secs = u64::from(managed.settings().resume_timeout_secs);
                managed
                    .resume_id
                    .is_some()
                    .then(|| Duration::from_secs(secs))
            })
            .flatten()
    }

    async fn wait_for_client(&mut self, wait: Duration) -> Outcome {
        let wait = tokio::time::sleep(wait);
        tokio::pin!(wait);
        loop {
            let event = tokio::select! {
                biased;
                event = std::future::poll_fn(|cx| self.outlet.poll_event(cx)) => event,
                () = &mut wait => {
                    let error = StreamCondition::ConnectionTimeout.into();
                    return Outcome::Over(End::Ordered(error, "resume_timeout"));
                }
            };
            match event {
                Event::Order(Order::HandOver(taker)) if taker.is_closed() => {
                    self.may_be_claimed_again();
                }
                Event::Order(Order::HandOver(taker)) => return Outcome::HandedOver(taker),
                Event::Order(Order::Close(error, reason)) => {
                    return Outcome::Over(End::Ordered(error, reason));
                }
                Event::Order(Order::Presence(ordered)) => Box::pin(self.ordered(*ordered)).await,
                // A detached outlet yields orders only, and it cannot be lost once more.
                Event::Order(Order::Lost) | Event::Lost | Event::Readable | Event::Writable => {}
            }
        }
    }

    /// A connection that wanted the session has given up: the next may have it.
    fn may_be_claimed_again(&self) {
        let id = self
            .outlet
            .with_managed(|managed| managed.resume_id.clone());
        if let Some(id) = id.flatten() {
            self.router.resumable.put(&id, self.outlet.clone());
        }
    }

    /// Gives the session to the connection that resumes it. The old connection, if there is one yet, learns why.
    /// Gives it back if nobody takes it.
    fn hand_over(mut self: Box<Self>, taker: oneshot::Sender<Box<Self>>) -> Option<Box<Self>> {
        self.batch.flush();
        if !self.outlet.has(Flag::Detached) {
            let mut out = Vec::new();
            StreamError::new(StreamCondition::Conflict)
                .with_text("the session goes on elsewhere")
                .write(&mut out);
            let Self { outlet, batch, .. } = &mut *self;
            // Not one more reason to end the session if the old connection takes nothing.
            outlet.push_end(&[&out], code::NORMAL, &mut batch.settled);
            batch.flush();
        }
        taker.send(self).err()
    }

    /// The session is over: others are told, what was not acknowledged finds another way, and then the client is told,
    /// so whoever logs in again at once finds everything where it belongs.
    pub(super) async fn finish(mut self: Box<Self>, end: &End) {
        let outlet = self.outlet.clone();
        let mut is_heard = !matches!(end, End::Lost) && !outlet.has(Flag::Detached);
        // A stanza that was pushed behind the end of the stream would be lost.
        outlet.set(Flag::Closed);
        if is_heard {
            outlet.flush(&mut self.batch.settled);
            // What it has not taken finds another way now, so it must not be written any more.
            is_heard = self.write_rest().await;
        }
        self.end(reason(end)).await;
        if is_heard {
            self.say_goodbye(end);
            self.write_rest().await;
        }
        drop(self);
        if is_heard {
            super::close_gently(&outlet).await;
        } else {
            outlet.close();
        }
    }

    /// Gives a client whose socket is full a moment to take what stands in line; whether it has.
    async fn write_rest(&mut self) -> bool {
        let written = std::future::poll_fn(|cx| self.outlet.poll_written(cx));
        let in_time = tokio::time::timeout(WRITE_REST_TIMEOUT, written).await;
        in_time.unwrap_or(false)
    }

    /// The session cannot be resumed any more. A client that tries it may still be told what was handled.
    fn forget_resumption(&self) {
        let stale_h_secs = self.host.stream_management.and_then(|of| of.stale_h_secs);
        let now = self.router.ledger.clock.now_secs();
        let until = stale_h_secs.map(|secs| now.saturating_add(secs));
        self.router
            .resumable
            .forget_session(&self.outlet, until, now);
    }

    /// What has to happen at the end of a session, whatever became of its connection. Once.
    async fn end(&mut self, reason: &'static str) {
        self.forget_resumption();
        self.router.sessions.remove(&self.outlet);
        let kept = self.outlet.take_kept();
        if std::mem::take(&mut self.opened) {
            let host = self.host.clone();
            let _ = host.hooks.run(self, &mut SessionClosed { reason }).await;
            self.router.metrics.sessions_closed.of(reason).inc();
        }
        for kept in kept {
            self.reroute(kept).await;
        }
        self.batch.flush();
        self.router.ledger.remove(self.outlet.id());
        self.outlet.ended();
        self.over = true;
    }

    fn say_goodbye(&mut self, end: &End) {
        let mut out = Vec::new();
        if let Some(error) = end.error(self.outlet.framing()) {
            self.router
                .metrics
                .reject(crate::metrics::Surface::Stream, error.condition);
            error.write(&mut out);
        }
        // The last `<a/>` (XEP-0198 section 5): what is settled now is not sent again.
        let mut answer = Vec::new();
        self.outlet.with_managed(|managed| {
            if managed.tellable() != 0 {
                managed.append_answer(&mut answer);
            }
        });
        self.outlet
            .push_end(&[&answer, &out], end.code(), &mut self.batch.settled);
        self.batch.flush();
    }

    /// A stanza that was sent and never acknowledged (XEP-0198 section 6, RFC 6121 section 8.5.3.2): messages go to
    /// another resource or the offline store, requests are answered with an error, presence is dropped.
    async fn reroute(&mut self, kept: Kept) {
        let Kept {
            stanza, token, row, ..
        } = kept;
        let token = match row {
            None => token,
            // A row stays until the stanza has another one, or is settled where it goes now.
            Some(KeptRow::InFlight(row)) => {
                let of_row = || self.router.ledger.token_of_row(row, Origin::ThisRun);
                token.or_else(|| Some(of_row()))
            }
            // Its store has it and delivers it again.
            Some(KeptRow::Store(_returned)) => return self.batch.settle(token),
        };
        let mut route = self.scope();
        route.is_again = true;
        match (stanza.kind(), stanza.stanza_type()) {
            // Whoever wants it knows that it is only a copy.
            (Kind::Message, _) if copies::is_copy(&stanza) => route.settle(token),
            (Kind::Message, StanzaType::Chat | StanzaType::Normal) => {
                let to = stanza.to().map(|to| to.to_bare());
                let stanza = match to {
                    Some(to) => stanza.with_to(to.as_ref()),
                    None => stanza,
                };
                route.route(Delivery { stanza, token }).await;
            }
            (Kind::Iq, StanzaType::Get | StanzaType::Set) => {
                let error = StanzaCondition::RecipientUnavailable;
                route.bounce(Delivery { stanza, token }, &error.into());
            }
            _ => route.settle(token),
        }
    }
}

/// A session that was broken off, by a mistake of ours, is ended all the same: else stanzas would go into the void.
impl Drop for Session {
    fn drop(&mut self) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        self.outlet.set(Flag::Closed);
        tracing::error!(session = self.outlet.id(), "session was broken off");
        let mut remains = Remains(Self {
            outlet: self.outlet.clone(),
            host: self.host.clone(),
            router: self.router.clone(),
            batch: Batch::new(&self.router.ledger),
            intake: Intake::none(),
            lang: None,
            shaper: None,
            opened: self.opened,
            over: false,
        });
        if let Some(tasks) = self.router.tasks() {
            tasks.spawn("c2s_remains", async move {
                remains.0.end("broken_off").await;
                remains.0.outlet.close();
            });
        }
    }
}

/// What is left of a session that was broken off. If its end fails too, it is at least out of everybody's way.
struct Remains(Session);

impl Drop for Remains {
    fn drop(&mut self) {
        let Session {
            outlet,
            router,
            over,
            ..
        } = &mut self.0;
        if !std::mem::replace(over, true) {
            router.resumable.forget_session(outlet, None, 0);
            router.sessions.remove(outlet);
            router.ledger.remove(outlet.id());
            outlet.close();
            outlet.ended();
        }
    }
}

/// What needs a future of its own.
enum Slow {
    /// A stanza whose hooks have handlers, or that is no message.
    Stanza(Delivery),
    /// A message that nothing but the router has to see.
    Routed(Delivery),
    /// `<enable/>`.
    Enable(Box<Element>),
    /// See [`Order::Presence`].
    Ordered(Box<(Stanza, oneshot::Sender<()>)>),
}

/// Who answers an IQ that is addressed to nobody, the own account or the domain; `None`: somebody else.
fn own_target(session: &Session, stanza: &Stanza) -> Option<Target> {
    let Some(to) = stanza.to() else {
        return Some(Target::Account);
    };
    if to.as_str() == session.outlet.jid().bare_str() {
        return Some(Target::Account);
    }
    let is_server = to.local().is_none()
        && to.resource().is_none()
        && matches!(session.router.destination(to), Destination::Server(_));
    is_server.then_some(Target::Server)
}

fn with_stamp<T>(
    router: &Router,
    outlet: &SessionRef,
    lang: Option<&str>,
    f: impl FnOnce(&Stamp<'_>) -> T,
) -> T {
    // Whoever is on one of our domains: only we speak for them and for their archives.
    let is_ours = |by: &str| {
        let domain = by.rsplit_once('@').map_or(by, |(_, domain)| domain);
        router.host(domain).is_some()
    };
    f(&Stamp {
        from: outlet.jid().as_ref(),
        lang,
        is_ours: &is_ours,
    })
}

/// `<failed/>` of XEP-0198, with `h` where it is still known.
pub(super) fn failed(condition: StanzaCondition, h: Option<u32>) -> Vec<u8> {
    let h = h.map(|h| format!(" h='{h}'")).unwrap_or_default();
    format!(
        "<failed xmlns='urn:xmpp:sm:3'{h}><{} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></failed>",
        condition.name()
    )
    .into_bytes()
}

/// The stream error of XEP-0198 section 4.
pub(super) fn handled_count_too_high(too_high: &HandledCountTooHigh) -> StreamError {
    StreamError::new(StreamCondition::UndefinedCondition).with_application(format!(
        "<handled-count-too-high xmlns='urn:xmpp:sm:3' h='{}' send-count='{}'/>",
        too_high.h, too_high.sent
    ))
}

/// A count of XEP-0198: an unsigned 32-bit number in digits.
pub(super) fn parse_h(text: &str) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

/// The closed word of a session's end.
fn reason(end: &End) -> &'static str {
    match end {
        End::Closed => "closed",
        End::Lost => "lost",
        End::Error(_) | End::Frame(_) => "error",
        End::Ordered(_, reason) => reason,
    }
}
