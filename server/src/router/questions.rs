//! What the server asks its clients: requests of ours whose answers somebody waits for (RFC 6120 section 8.2.3).
//!
//! An answer is one only if it comes from whom was asked and has the id of the question, which nobody guesses.
use std::sync::Arc;
use std::time::Duration;

use ahash::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;
use protocol::stream::secure_id;
use protocol::{Element, FullJid, Stanza, StanzaType, ns};
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Router;
use crate::outlet::SessionRef;

/// Questions of the node that may be open at a time; beyond that nothing is asked.
pub const QUESTIONS_MAX: usize = 10_000;

/// The open questions.
#[derive(Debug, Default)]
pub struct Questions(Mutex<HashMap<Box<str>, Open, RandomState>>);

#[derive(Debug)]
struct Open {
    asked: FullJid,
    answer: oneshot::Sender<Element>,
}

/// A question that is open as long as this is there.
pub struct Question {
    id: Box<str>,
    router: Arc<Router>,
    answer: oneshot::Receiver<Element>,
}

impl Router {
    /// A question of a client's own server, and how to wait for its answer: the caller sends it. `None` if there are
    /// too many.
    pub fn question(
        self: &Arc<Self>,
        session: &SessionRef,
        payload: Element,
    ) -> Option<(Stanza, Question)> {
        let id: Box<str> = secure_id().into();
        let jid = session.jid();
        let request = Element::new("iq", ns::CLIENT)
            .with_attr("type", "get")
            .with_attr("from", jid.domain())
            .with_attr("to", jid.as_str())
            .with_attr("id", &id)
            .with_child(payload);
        let stanza = Stanza::from_element(&request).ok()?;
        let (sender, answer) = oneshot::channel();
        let open = Open {
            asked: jid.clone(),
            answer: sender,
        };
        let mut all = self.questions.0.lock();
        if all.len() >= QUESTIONS_MAX {
            return None;
        }
        all.insert(id.clone(), open);
        drop(all);
        let router = self.clone();
        Some((stanza, Question { id, router, answer }))
    }
}

impl Question {
    /// What the client answers; `None` if that is an error, or nothing in time.
    pub async fn answer(mut self, within: Duration) -> Option<Element> {
        let answer = timeout(within, &mut self.answer).await.ok()?.ok()?;
        let is_result = answer.attr("type") == StanzaType::Result.name();
        let payload = answer.elements().next().filter(|_| is_result);
        payload.cloned()
    }
}

impl Drop for Question {
    fn drop(&mut self) {
        self.router.questions.0.lock().remove(&self.id);
    }
}

impl Questions {
    /// Whether nobody waits for an answer.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// Takes a result or an error that a client has sent to its server; nothing happens if it answers no question.
    pub fn take(&self, stanza: &Stanza) {
        let (Some(id), Some(from)) = (stanza.id(), stanza.from()) else {
            return;
        };
        let mut all = self.0.lock();
        let is_asked = |open: &Open| open.asked.as_ref() == from;
        if !all.get(&*id).is_some_and(is_asked) {
            return;
        }
        if let Some(open) = all.remove(&*id) {
            drop(all);
            // Who asked may have stopped waiting.
            let _late = open.answer.send(stanza.to_element());
        }
    }
}
