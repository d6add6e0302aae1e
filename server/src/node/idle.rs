//! The sweep over quiet sessions: one task, no timer per session.
//!
//! A session is asked for a sign of life after [`QUIET_SECS`] of silence, by a ping of the WebSocket if it has one, by
//! `<r/>` if it manages its stream, else by a ping (XEP-0199), and is cut [`ANSWER_SECS`] later. A stanza that stays
//! incomplete, and a full outbox that is not acknowledged, end it sooner. A host may ask sooner by its settings
//! ([`Pings`]), though not clients that have said that nobody looks at them (XEP-0352): that would wake their radio. A
//! listener may have times of its own, which count before all others ([`Timing`]).
use std::sync::Arc;
use std::time::Duration;

use protocol::{Element, Framing, Stanza, StreamCondition, StreamError, ns};

use crate::c2s::timing::Timing;
use crate::host::Pings;
use crate::outlet::{Batch, Flag, Order, SessionRef};
use crate::router::Router;

/// Seconds of silence after which a client is asked.
pub const QUIET_SECS: u32 = 300;
/// Seconds it has to answer.
pub const ANSWER_SECS: u32 = 120;
/// Seconds of silence after which a session gives back the room of its empty queues.
const TIDY_SECS: u32 = 10;
/// Seconds that one stanza may take from its first to its last byte.
pub const STANZA_SECS_MAX: u32 = 60;
/// The table is looked at in as many steps as it has shards, all in this time.
const ROUND: Duration = Duration::from_secs(5);
const STEPS: usize = 64;

/// Runs until it is dropped.
pub async fn run(router: Arc<Router>) {
    let mut interval = tokio::time::interval(ROUND / u32::try_from(STEPS).unwrap_or(1));
    loop {
        for step in 0..STEPS {
            interval.tick().await;
            let mut batch = Batch::new(&router.ledger);
            for session in router.sessions.shard_sessions(step) {
                look_at(&router, &session, &mut batch);
            }
        }
    }
}

fn look_at(router: &Router, session: &SessionRef, batch: &mut Batch) {
    if session.has(Flag::Detached) || session.has(Flag::Closed) {
        return;
    }
    let (quiet, cut) = session.quiet_secs();
    let now = router.ledger.clock.now_ms();
    let overdue = session.with_managed(|managed| {
        if quiet > TIDY_SECS {
            managed.tidy();
        }
        managed.is_overdue(now)
    });
    let overdue = overdue == Some(true);
    if overdue {
        router.metrics.ledger.outboxes_overrun.inc();
        let error = StreamError::new(StreamCondition::ResourceConstraint)
            .with_text("too many stanzas wait for an acknowledgement");
        session.order(Order::Close(error, "unacknowledged"));
    } else if cut > STANZA_SECS_MAX {
        session.order(Order::Close(
            StreamCondition::ConnectionTimeout.into(),
            "slow_stanza",
        ));
    }
    if overdue || cut > STANZA_SECS_MAX {
        return;
    }
    let pings = router.host(session.jid().domain()).and_then(|of| of.pings);
    let patience = Patience::of(pings.filter(|_| !session.is_inactive()));
    let patience = patience.with(router.timings.of(session.timing()));
    if quiet > patience.lost_after {
        session.order(Order::Lost);
    } else if quiet > patience.asked_after && !session.set(Flag::Asked) {
        ask(router, session, batch);
    }
}

/// Seconds of silence, and what happens then.
#[derive(Debug, PartialEq, Eq)]
struct Patience {
    asked_after: u32,
    lost_after: u32,
}

impl Patience {
    fn of(pings: Option<Pings>) -> Self {
        let asked_after = pings.map_or(QUIET_SECS, |pings| pings.interval_secs.min(QUIET_SECS));
        let lost_after = match pings {
            Some(pings) if pings.is_lost => asked_after.saturating_add(pings.answer_secs),
            _ => u32::MAX,
        };
        Self {
            asked_after,
            lost_after: lost_after.min(QUIET_SECS + ANSWER_SECS),
        }
    }

    /// What the client's listener says of it counts before all.
    fn with(self, timing: Timing) -> Self {
        Self {
            asked_after: timing.ask_secs.unwrap_or(self.asked_after),
            lost_after: timing.gone_secs.unwrap_or(self.lost_after),
        }
    }
}

fn ask(router: &Router, session: &SessionRef, batch: &mut Batch) {
    if session.framing() == Framing::WebSocket {
        return session.push_ping(batch);
    }
    let now = router.ledger.clock.now_ms();
    let mut request = Vec::new();
    session.with_managed(|managed| managed.append_probe(&mut request, now));
    if !request.is_empty() {
        return session.push_bytes(&request, batch);
    }
    let id = protocol::stream::secure_id();
    let ping = Element::new("iq", ns::CLIENT)
        .with_attr("type", "get")
        .with_attr("from", session.jid().domain())
        .with_attr("to", session.jid().as_str())
        .with_attr("id", &id)
        .with_child(Element::new("ping", ns::PING));
    if let Ok(stanza) = Stanza::from_element(&ping) {
        let _closed = session.push(stanza, None, batch);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use protocol::FullJid;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpStream;

    use super::*;
    use crate::c2s::resume::Managed;
    use crate::ledger::Ledger;
    use crate::outlet::Event;
    use crate::router;
    use crate::testing::{SETTINGS, framed_outlet, message, metrics, outlet, soon};

    /// A session and the client at its other end, on a node whose clock stands still.
    struct Quiet {
        router: Arc<Router>,
        session: SessionRef,
        client: TcpStream,
    }

    impl Quiet {
        async fn new() -> Self {
            Self::with(async |router| outlet(&router.ledger, 1).await).await
        }

        /// Over WebSocket, with these time-outs.
        async fn framed(timing: Timing) -> Self {
            Self::with(async |router| {
                let timing = router.timings.add(timing);
                framed_outlet(&router.ledger, 1, timing).await
            })
            .await
        }

        async fn with(connect: impl AsyncFnOnce(&Arc<Router>) -> (SessionRef, TcpStream)) -> Self {
            let metrics = metrics();
            let ledger = Ledger::new(metrics.ledger.clone());
            let settings = router::Settings {
                default_domain: "localhost".into(),
                language: "en".into(),
                acknowledge: crate::host::config::Acknowledge::Settled,
                hide_service_name: false,
                registration_pause: None,
            };
            let router = Router::new(ledger, metrics, settings);
            // 0 stands for no time at all.
            router.ledger.clock.pass(1_000);
            let (session, client) = connect(&router).await;
            session.bind(FullJid::parse("romeo@localhost/orchard").unwrap());
            session.heard(false, true);
            Self {
                router,
                session,
                client,
            }
        }

        /// Lets time pass, looks, and returns what the session is ordered to do.
        async fn after(&self, secs: u32) -> Option<Order> {
            self.router.ledger.clock.pass(u64::from(secs) * 1_000);
            let mut batch = Batch::new(&self.router.ledger);
            look_at(&self.router, &self.session, &mut batch);
            batch.flush();
            let event = poll_fn(|cx| {
                let poll = self.session.poll_unread(cx);
                std::task::Poll::Ready(match poll {
                    std::task::Poll::Ready(event) => Some(event),
                    std::task::Poll::Pending => None,
                })
            });
            match event.await {
                None => None,
                Some(Event::Order(order)) => Some(order),
                Some(_) => panic!("nothing else happens to it"),
            }
        }

        async fn heard_by_client(&mut self) -> String {
            let mut buffer = [0; 1_024];
            let count = soon(self.client.read(&mut buffer)).await.unwrap();
            buffer[..count]
                .iter()
                .map(|byte| char::from(*byte))
                .collect()
        }
    }

    #[track_caller]
    fn check_close(order: Option<Order>, expected: StreamCondition, word: &str) {
        let Some(Order::Close(error, reason)) = order else {
            panic!("it is not closed");
        };
        assert_eq!((error.condition, reason), (expected, word));
    }

    /// Security case X19: a byte now and then is a sign of life, and no excuse.
    #[tokio::test]
    async fn x19_a_stanza_that_never_ends_is_cut_off() {
        let quiet = Quiet::new().await;
        for _ in 0..STANZA_SECS_MAX / 20 {
            quiet.session.heard(true, false);
            assert!(quiet.after(20).await.is_none());
        }
        quiet.session.heard(true, false);
        let order = quiet.after(1).await;
        check_close(order, StreamCondition::ConnectionTimeout, "slow_stanza");

        // Whoever goes on with the next one has done nothing wrong.
        let quiet = Quiet::new().await;
        for _ in 0..20 {
            quiet.session.heard(true, true);
            assert!(quiet.after(20).await.is_none());
        }
    }

    #[tokio::test]
    async fn a_silent_client_is_asked_and_then_given_up() {
        let mut quiet = Quiet::new().await;
        assert!(quiet.after(QUIET_SECS).await.is_none());
        assert!(quiet.after(1).await.is_none());
        let asked = quiet.heard_by_client().await;
        assert!(asked.contains("<ping xmlns='urn:xmpp:ping'/>"), "{asked}");
        // Once is enough.
        assert!(quiet.after(ANSWER_SECS - 1).await.is_none());
        assert!(matches!(quiet.after(1).await, Some(Order::Lost)));

        let quiet = Quiet::new().await;
        assert!(quiet.after(QUIET_SECS + 1).await.is_none());
        quiet.session.heard(false, true);
        assert!(quiet.after(ANSWER_SECS).await.is_none(), "it has answered");
    }

    #[tokio::test]
    async fn a_websocket_is_pinged_at_its_own_rate_and_given_up_at_its_own_time() {
        let mut quiet = Quiet::framed(Timing {
            ask_secs: Some(20),
            gone_secs: Some(50),
        })
        .await;
        for _ in 0..3 {
            assert!(quiet.after(20).await.is_none());
            assert!(quiet.after(1).await.is_none());
            assert_eq!(quiet.heard_by_client().await, "\u{89}\0");
            // The pong.
            quiet.session.heard(false, false);
        }
        assert!(quiet.after(50).await.is_none());
        assert!(matches!(quiet.after(1).await, Some(Order::Lost)));

        let quiet = Quiet::framed(Timing::default()).await;
        assert!(quiet.after(QUIET_SECS + ANSWER_SECS).await.is_none());
        assert!(matches!(quiet.after(1).await, Some(Order::Lost)));
    }

    #[test]
    fn a_host_asks_sooner_and_never_later() {
        let pings = |interval_secs, answer_secs, is_lost| {
            Some(Pings {
                interval_secs,
                answer_secs,
                is_lost,
            })
        };
        for (pings, asked_after, lost_after) in [
            (None, 300, 420),
            (pings(60, 32, true), 60, 92),
            (pings(60, 32, false), 60, 420),
            (pings(60, 86_400, true), 60, 420),
            (pings(86_400, 32, true), 300, 332),
            (pings(86_400, 32, false), 300, 420),
        ] {
            let expected = Patience {
                asked_after,
                lost_after,
            };
            assert_eq!(Patience::of(pings), expected);
        }
    }

    /// Security case M06.
    #[tokio::test]
    async fn m06_a_client_that_never_acknowledges_is_asked_and_then_ended() {
        let quiet = Quiet::new().await;
        let mut batch = Batch::new(&quiet.router.ledger);
        let managed = Box::new(Managed::new(SETTINGS, None));
        quiet.session.manage(managed, b"", &mut batch);
        for _ in 0..=SETTINGS.buffer_max {
            let stanza = message("romeo@localhost/orchard", "1", 1);
            quiet.session.push(stanza, None, &mut batch);
        }
        batch.flush();
        assert!(quiet.after(10).await.is_none(), "it has ten seconds");
        let order = quiet.after(1).await;
        check_close(order, StreamCondition::ResourceConstraint, "unacknowledged");
        assert_eq!(quiet.router.metrics.ledger.outboxes_overrun.get(), 1);
    }
}
