//! The sweep over quiet sessions: one task, no timer per session.
//!
//! A session is asked for a sign of life after [`QUIET_SECS`] of silence, by `<r/>` if it manages its stream, else by a
//! ping (XEP-0199), and is cut [`ANSWER_SECS`] later. A stanza that stays incomplete, and a full outbox that is not
//! acknowledged, end it sooner.
use std::sync::Arc;
use std::time::Duration;

use protocol::{Element, Stanza, StreamCondition, StreamError, ns};

use crate::outlet::{Batch, Flag, Order, SessionRef};
use crate::router::Router;

/// Seconds of silence after which a client is asked.
pub const QUIET_SECS: u32 = 300;
/// Seconds it has to answer.
pub const ANSWER_SECS: u32 = 120;
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
    let overdue = session.with_managed(|managed| managed.is_overdue(now)) == Some(true);
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
    } else if quiet > QUIET_SECS + ANSWER_SECS {
        session.order(Order::Lost);
    } else if quiet > QUIET_SECS && !session.set(Flag::Asked) {
        ask(router, session, batch);
    }
}

fn ask(router: &Router, session: &SessionRef, batch: &mut Batch) {
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
