//! The loop of a component, and what it does with each stanza.
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;

use protocol::xml::{Frame, Stamp};
use protocol::{Element, Jid, Stanza, StanzaCondition, StanzaError, StreamCondition, ns};
use tracing::info;

use super::{ComponentRef, Found};
use crate::c2s::resume::{Kept, KeptRow};
use crate::c2s::shaper::Shaper;
use crate::c2s::{
    End, Incoming, Intake, ListenerSettings, Received, close_gently, frame_with, give_back,
    receive_with,
};
use crate::ledger::Origin;
use crate::metrics::Surface;
use crate::outlet::{Batch, Event, Flag, Order};
use crate::router::{Delivery, Router};

/// How long a component with a full socket may take for what stands in line when it is closed.
const WRITE_REST_TIMEOUT: Duration = Duration::from_secs(1);

/// A component's connection. Its own task owns it; others see its outlet only.
pub(super) struct ComponentSession {
    component: ComponentRef,
    router: Arc<Router>,
    /// What was appended and not flushed.
    batch: Batch,
    lang: Option<Box<str>>,
    shaper: Option<Box<Shaper>>,
}

impl ComponentSession {
    /// One that has its domain from now on.
    pub(super) fn new(
        component: ComponentRef,
        router: Arc<Router>,
        listener: &ListenerSettings,
        lang: Option<Box<str>>,
    ) -> Self {
        let batch = Batch::new(&router.ledger);
        Self {
            component,
            router,
            batch,
            lang,
            shaper: Shaper::new(listener),
        }
    }

    /// Serves it to its end. `unparsed` was read behind the negotiation.
    pub(super) async fn run(mut self, mut intake: Intake, mut unparsed: Vec<u8>) {
        let received = frame_with(&mut intake, &mut unparsed, |frame| self.copy_out(frame));
        drop(unparsed);
        let end = match self.handle(received).await {
            Some(end) => end,
            None => self.serve(&mut intake).await,
        };
        drop(intake);
        self.finish(&end).await;
    }

    async fn serve(&mut self, intake: &mut Intake) -> End {
        let outlet = self.component.outlet.clone();
        loop {
            match poll_fn(|cx| outlet.poll_event(cx)).await {
                Event::Order(Order::Close(error, reason)) => return End::Ordered(error, reason),
                Event::Order(Order::Lost) | Event::Lost => return End::Lost,
                Event::Order(Order::HandOver(_) | Order::Presence(_)) => {}
                Event::Writable => {
                    if outlet.flush_blocked(&mut self.batch.settled).is_err() {
                        return End::Lost;
                    }
                    self.batch.flush();
                }
                Event::Readable => {
                    let received = receive_with(&outlet, intake, |frame| self.copy_out(frame));
                    let pause = self.shaper.as_mut().and_then(|s| s.spend(received.bytes));
                    if let Some(end) = self.handle(received).await {
                        return end;
                    }
                    if let Some(pause) = pause {
                        self.pause(pause).await;
                    }
                }
            }
        }
    }

    /// It has used up its rate: it is not read for a while, but written to, and orders are heard.
    async fn pause(&mut self, pause: Duration) {
        let outlet = self.component.outlet.clone();
        let end = tokio::time::Instant::now() + pause;
        loop {
            let event = poll_fn(|cx| outlet.poll_unread(cx));
            match tokio::time::timeout_at(end, event).await {
                Ok(Event::Writable) => {
                    if outlet.flush_blocked(&mut self.batch.settled).is_err() {
                        return;
                    }
                    self.batch.flush();
                }
                // The loop takes it from there.
                Ok(Event::Order(order)) => return outlet.order_first(order),
                Ok(Event::Lost | Event::Readable) | Err(_) => return,
            }
        }
    }

    // ---- what it sends

    /// The element as something that outlives the read buffer.
    fn copy_out(&self, frame: &Frame<'_>) -> Result<Incoming, End> {
        if frame.kind().is_none() {
            return Ok(Incoming::Element(Box::new(frame.to_element())));
        }
        let from = frame.attr("from").and_then(|from| Jid::parse(&from).ok());
        let is_own = |from: &Jid| from.domain() == &*self.component.domain;
        let is_checked = self.component.settings.check_from;
        let Some(from) = from.filter(|from| !is_checked || is_own(from)) else {
            return Err(StreamCondition::InvalidFrom.into());
        };
        let is_ours = |by: &str| {
            let domain = by.rsplit_once('@').map_or(by, |(_, domain)| domain);
            self.router.host(domain).is_some()
        };
        let stamp = Stamp {
            from: from.as_ref(),
            lang: self.lang.as_deref(),
            is_ours: &is_ours,
        };
        Ok(match frame.to_service_stanza(&stamp) {
            Ok(stanza) => Incoming::Stanza(stanza),
            Err(refused) => Incoming::Refused(refused.reply),
        })
    }

    /// Handles what one read brought, and flushes once.
    async fn handle(&mut self, received: Received) -> Option<End> {
        let Received {
            mut items, mut end, ..
        } = received;
        for item in items.drain(..) {
            let why = match item {
                Incoming::Stanza(stanza) => {
                    self.route(stanza).await;
                    continue;
                }
                Incoming::Refused(reply) => {
                    if let Some(reply) = reply {
                        self.answer(reply);
                    }
                    continue;
                }
                Incoming::Element(element) => nonza(&element),
                Incoming::Close => End::Closed,
                Incoming::Header(_) => StreamCondition::BadFormat.into(),
                Incoming::AckRequest | Incoming::Ack(_) | Incoming::Ping(_) | Incoming::HungUp => {
                    StreamCondition::UnsupportedStanzaType.into()
                }
            };
            end = Some(why);
            break;
        }
        give_back(items);
        self.batch.flush();
        end
    }

    async fn route(&mut self, stanza: Stanza) {
        let metrics = &self.router.metrics.components;
        metrics.stanzas_received.of(stanza.kind()).inc();
        if stanza.to().is_none() {
            let error = StanzaError::new(StanzaCondition::BadRequest)
                .with_text("a stanza of a component needs a receiver");
            if let Some(reply) = stanza.error_reply(&error) {
                self.answer(reply);
            }
            return;
        }
        // Nobody acknowledges to a component, so nobody waits.
        let delivery = Delivery {
            stanza,
            token: None,
        };
        if let Err(delivery) = self.router.try_route(delivery, &mut self.batch) {
            // What it has sent before goes first.
            self.batch.flush();
            self.router.route(delivery).await;
        }
    }

    fn answer(&mut self, reply: Stanza) {
        let outlet = &self.component.outlet;
        let _closed = outlet.push(reply, None, &mut self.batch);
    }

    // ---- the end

    /// Its domain is free again, what it has not taken finds another way, and then it is told.
    async fn finish(mut self, end: &End) {
        let outlet = self.component.outlet.clone();
        let mut is_heard = !matches!(end, End::Lost);
        // A stanza that was pushed behind the end of the stream would be lost.
        outlet.set(Flag::Closed);
        self.router.components.remove(&self.component);
        if is_heard {
            outlet.flush(&mut self.batch.settled);
            is_heard = self.write_rest().await;
        }
        for kept in outlet.take_kept() {
            self.reroute(kept).await;
        }
        self.batch.flush();
        outlet.ended();
        info!(reason = reason(end), "component gone");
        if !is_heard {
            return outlet.close();
        }
        self.say_goodbye(end);
        self.write_rest().await;
        drop(self);
        close_gently(&outlet).await;
    }

    /// Gives it a moment to take what stands in line; whether it has.
    async fn write_rest(&mut self) -> bool {
        let outlet = self.component.outlet.clone();
        let written = poll_fn(|cx| outlet.poll_written(cx));
        let in_time = tokio::time::timeout(WRITE_REST_TIMEOUT, written).await;
        in_time.unwrap_or(false)
    }

    /// A stanza that was never written: the connection that has taken this one's place gets it, else its sender is told.
    async fn reroute(&mut self, kept: Kept) {
        let token = match kept.row {
            // A row stays until the stanza is settled where it goes now.
            Some(KeptRow::InFlight(row)) => {
                let of_row = || self.router.ledger.token_of_row(row, Origin::ThisRun);
                kept.token.or_else(|| Some(of_row()))
            }
            Some(KeptRow::Store(_returned)) => return self.batch.settle(kept.token),
            None => kept.token,
        };
        let mut route = self.router.scope();
        route.is_again = true;
        let delivery = Delivery {
            stanza: kept.stanza,
            token,
        };
        match self.router.components.find(&self.component.domain) {
            Found::Connected(component) => route.component_stanza(&component, delivery),
            Found::Away | Found::Unknown => {
                route.bounce(delivery, &StanzaCondition::RecipientUnavailable.into());
            }
        }
    }

    fn say_goodbye(&mut self, end: &End) {
        let mut out = Vec::new();
        if let Some(error) = end.error(self.component.outlet.framing()) {
            let metrics = &self.router.metrics;
            metrics.reject(Surface::Component, error.condition);
            error.write(&mut out);
        }
        let outlet = &self.component.outlet;
        outlet.push_end(&[&out], end.code(), &mut self.batch.settled);
        self.batch.flush();
    }
}

/// However its task ends, its domain is free afterwards.
impl Drop for ComponentSession {
    fn drop(&mut self) {
        self.component.outlet.set(Flag::Closed);
        self.router.components.remove(&self.component);
    }
}

/// An element of the stream's level that is no stanza: nobody sends one.
fn nonza(element: &Element) -> End {
    if element.is("error", ns::STREAM) {
        // Never answered with an error.
        return End::Closed;
    }
    StreamCondition::UnsupportedStanzaType.into()
}

/// The closed word of its end.
fn reason(end: &End) -> &'static str {
    match end {
        End::Closed => "closed",
        End::Lost => "lost",
        End::Error(_) | End::Frame(_) => "error",
        End::Ordered(_, reason) => reason,
    }
}
