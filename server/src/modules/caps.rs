//! XEP-0115 and XEP-0390: Entity Capabilities.
//!
//! The server's own stand in the features of its streams; whoever knows them need not ask. What clients can do is asked
//! of them when they come with a name that nobody has explained yet. An answer is believed, and kept for all, only if the
//! name is that of the answer; one that is not changes nothing for anybody. [`known`] keeps them.
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use daemon::Tasks;
use protocol::caps::{self, HashName, Name, Named, Version};
use protocol::{Element, ns};

use self::known::{Known, Turn};
use super::{Needs, Start, StartError};
use crate::hooks::{Handle, Outcome, PresenceSet, Stage};
use crate::iq::Target;
use crate::outlet::SessionRef;
use crate::router::Route;
use crate::router::questions::Question;

pub mod known;

pub use super::config::Caps as Config;
pub use known::Abilities;

/// Bytes of an answer that is looked at; a longer one counts as none.
pub const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// The server's node by XEP-0115.
const NODE: &str = "urn:meerkat";

/// Presence, which is where clients name what they can do.
pub fn needs(_config: &Config) -> Needs {
    Needs::module("mod_presence")
}

/// Learns what clients can do.
pub async fn start(config: Config, start: &mut Start<'_>) -> Result<(), StartError> {
    let versions: Vec<Version> = config.versions.iter().map(|word| word.version()).collect();
    for version in &versions {
        let feature = match version {
            Version::V1 => ns::CAPS,
            Version::V2 => ns::CAPS_2,
        };
        start.feature(Target::Server, feature);
    }
    let caps = Arc::new(Caps {
        versions,
        answer_timeout: config.iq_response_timeout.duration(),
        known: Arc::default(),
        tasks: start.tasks.clone(),
    });
    start.provide(caps.clone());
    start.on::<PresenceSet, _>(Stage::Observe, &caps);
    Ok(())
}

/// What is known of clients.
pub struct Caps {
    versions: Vec<Version>,
    answer_timeout: Duration,
    known: Arc<Known>,
    tasks: Tasks,
}

// ---- the server's own

impl Caps {
    /// Names a description of the server in the features of its streams. Returns the nodes under which the same
    /// description is asked for.
    pub fn announce(&self, start: &mut Start<'_>, info: &Element) -> Vec<String> {
        let mut nodes = Vec::new();
        for version in &self.versions {
            let hash = match version {
                Version::V1 => HashName::Sha1,
                Version::V2 => HashName::Sha256,
            };
            let Ok(digest) = caps::digest(info, *version, hash) else {
                tracing::warn!("what the server says of itself cannot be named by a hash");
                continue;
            };
            let (feature, node) = match version {
                Version::V1 => feature_v1(hash, &digest),
                Version::V2 => feature_v2(hash, &digest),
            };
            start.stream_feature(feature);
            nodes.push(node);
        }
        nodes
    }
}

fn feature_v1(hash: HashName, digest: &str) -> (Element, String) {
    let feature = Element::new("c", ns::CAPS)
        .with_attr("hash", hash.name())
        .with_attr("node", NODE)
        .with_attr("ver", digest);
    (feature, format!("{NODE}#{digest}"))
}

fn feature_v2(hash: HashName, digest: &str) -> (Element, String) {
    let child = Element::new("hash", ns::HASHES)
        .with_attr("algo", hash.name())
        .with_text(digest);
    let feature = Element::new("c", ns::CAPS_2).with_child(child);
    (feature, caps::node_v2(hash, digest))
}

// ---- those of clients

impl Caps {
    /// What a client can do, as far as that is known: `None` if it has not said it, or what it said is not verified.
    pub fn of_session(&self, session: &SessionRef) -> Option<Arc<Abilities>> {
        self.known.find(&self.named(session)?.name)
    }

    fn named(&self, session: &SessionRef) -> Option<Named> {
        let presence = session.presence()?;
        let text = std::str::from_utf8(presence.bytes()).unwrap_or_default();
        // Namespaces are written out, unless characters of theirs are escaped.
        let is_named = [ns::CAPS, ns::CAPS_2, "&#"]
            .iter()
            .any(|word| text.contains(word));
        let presence = is_named.then(|| presence.to_element())?;
        Named::of_presence(&presence, &self.versions)
    }
}

impl Handle<PresenceSet> for Caps {
    async fn handle(&self, route: &mut Route, event: &mut PresenceSet) -> Outcome<PresenceSet> {
        if let Some(named) = self.named(&event.session)
            && let Some(turn) = self.known.turn(&named.name, event.session.jid().bare_str())
        {
            self.ask(route, &event.session, named, turn);
        }
        Ok(ControlFlow::Continue(()))
    }
}

impl Caps {
    fn ask(&self, route: &mut Route, session: &SessionRef, named: Named, turn: Turn) {
        let query = Element::new("query", ns::DISCO_INFO).with_attr("node", &named.node);
        let Some((stanza, question)) = route.router.question(session, query) else {
            return;
        };
        let _closed = session.push(stanza, None, &mut route.batch);
        let (known, timeout) = (self.known.clone(), self.answer_timeout);
        self.tasks.spawn("caps", async move {
            learn(&known, question, timeout, named.name).await;
            drop(turn);
        });
    }
}

async fn learn(known: &Known, question: Question, timeout: Duration, name: Name) {
    let Some(query) = question.answer(timeout).await else {
        return;
    };
    let is_sound = query.is("query", ns::DISCO_INFO) && query.to_xml().len() <= ANSWER_BYTES_MAX;
    if is_sound && name.is_of(&query) {
        known.insert(name, Abilities::of_answer(&query));
    }
}

#[cfg(test)]
mod tests;
