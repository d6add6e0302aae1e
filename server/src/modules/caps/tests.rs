//! Answers that are right, false, late, or somebody else's.
use std::sync::Arc;
use std::time::Duration;

use protocol::Element;
use protocol::caps::{HashName, Version, digest};

use super::{ANSWER_BYTES_MAX, Abilities, Caps, ns};
use crate::hooks::{Handle as _, PresenceSet};
use crate::modules::testing::{ChatNode, fence};
use crate::testing::{Client, until};

const FEATURE: &str = "urn:example:feature";

/// A node whose own module is off, and one to be looked into.
async fn start(accounts: &[&str]) -> (ChatNode, Caps) {
    let chat = ChatNode::start_with(accounts, |host| host.modules.caps = None).await;
    let caps = Caps {
        versions: vec![Version::V1, Version::V2],
        answer_timeout: Duration::from_secs(10),
        known: Arc::default(),
        tasks: chat.node.router.tasks().unwrap().clone(),
    };
    (chat, caps)
}

fn info(name: &str) -> Element {
    let identity = Element::new("identity", ns::DISCO_INFO)
        .with_attr("category", "client")
        .with_attr("type", "pc")
        .with_attr("name", name);
    let feature = Element::new("feature", ns::DISCO_INFO).with_attr("var", FEATURE);
    Element::new("query", ns::DISCO_INFO)
        .with_child(identity)
        .with_child(feature)
}

/// Sends presence that names the description, and lets the module see it.
async fn name(chat: &ChatNode, caps: &Caps, client: &mut Client, info: &Element) {
    let ver = digest(info, Version::V1, HashName::Sha1).unwrap();
    let (ns, node) = (ns::CAPS, "urn:example:client");
    client
        .send(&format!(
            "<presence><c xmlns='{ns}' hash='sha-1' node='{node}' ver='{ver}'/></presence>"
        ))
        .await;
    fence(client).await;
    let mut event = PresenceSet {
        session: chat.node.find(&client.jid).unwrap(),
        priority: 0,
        before: None,
        has_messages: false,
    };
    let mut route = chat.node.router.scope();
    let handled = caps.handle(&mut route, &mut event).await;
    assert!(handled.unwrap().is_continue());
}

/// The id of the question that the client is asked, if it is.
async fn question(client: &mut Client) -> Option<String> {
    let came = fence(client).await;
    let asked = |stanza: &&Element| stanza.elements().any(|of| of.is("query", ns::DISCO_INFO));
    let asked: Vec<&Element> = came.iter().filter(asked).collect();
    assert!(asked.len() < 2);
    asked
        .first()
        .map(|question| question.attr("id").unwrap().to_owned())
}

async fn answer(client: &mut Client, id: &str, kind: &str, payload: &str) {
    client
        .send(&format!(
            "<iq type='{kind}' id='{id}' to='localhost'>{payload}</iq>"
        ))
        .await;
    fence(client).await;
}

fn abilities(chat: &ChatNode, caps: &Caps, client: &Client) -> Option<Arc<Abilities>> {
    caps.of_session(&chat.node.find(&client.jid).unwrap())
}

/// Nobody waits for an answer any more.
async fn idle(chat: &ChatNode, caps: &Caps) {
    until(|| caps.known.is_idle() && chat.node.router.questions.is_empty()).await;
}

#[tokio::test]
async fn one_question_explains_a_hash_to_all() {
    let (chat, caps) = start(&["romeo", "juliet"]).await;
    let mut romeo = chat.online("romeo", "orchard").await;
    let mut juliet = chat.online("juliet", "balcony").await;
    let info = info("client");
    name(&chat, &caps, &mut romeo, &info).await;
    assert!(abilities(&chat, &caps, &romeo).is_none());
    let id = question(&mut romeo).await.unwrap();
    answer(&mut romeo, &id, "result", &info.to_xml()).await;
    until(|| abilities(&chat, &caps, &romeo).is_some()).await;
    let can = abilities(&chat, &caps, &romeo).unwrap();
    assert!(can.has(FEATURE) && !can.has("urn:example:other"));

    name(&chat, &caps, &mut juliet, &info).await;
    assert_eq!(question(&mut juliet).await, None);
    assert!(abilities(&chat, &caps, &juliet).unwrap().has(FEATURE));
    idle(&chat, &caps).await;
    // Who names nothing can do nothing that we know of.
    juliet.send("<presence/>").await;
    fence(&mut juliet).await;
    assert!(abilities(&chat, &caps, &juliet).is_none());
    chat.stop().await;
}

#[tokio::test]
async fn r20_a_false_answer_changes_nothing_for_anybody() {
    let (chat, caps) = start(&["mallory", "juliet"]).await;
    let mut mallory = chat.online("mallory", "lair").await;
    let mut juliet = chat.online("juliet", "balcony").await;
    let info = info("client");
    let extra = Element::new("feature", ns::DISCO_INFO).with_attr("var", "urn:example:evil");
    let more = info.clone().with_child(extra).to_xml();
    let long = info.clone().with_attr("x", &"x".repeat(ANSWER_BYTES_MAX));
    let other = info.to_xml().replace("disco#info", "disco#items");
    for (kind, payload) in [
        ("result", more.as_str()),
        ("result", &long.to_xml()),
        ("result", &other),
        ("result", ""),
        ("error", &info.to_xml()),
    ] {
        name(&chat, &caps, &mut mallory, &info).await;
        let id = question(&mut mallory).await.unwrap();
        answer(&mut mallory, &id, kind, payload).await;
        idle(&chat, &caps).await;
        assert!(
            abilities(&chat, &caps, &mallory).is_none(),
            "{kind} {payload}"
        );
    }
    name(&chat, &caps, &mut juliet, &info).await;
    let id = question(&mut juliet).await.unwrap();
    answer(&mut juliet, &id, "result", &info.to_xml()).await;
    until(|| abilities(&chat, &caps, &juliet).is_some()).await;
    assert!(
        !abilities(&chat, &caps, &juliet)
            .unwrap()
            .has("urn:example:evil")
    );
    chat.stop().await;
}

#[tokio::test]
async fn r20_nobody_answers_for_somebody_else() {
    let (chat, caps) = start(&["mallory", "juliet"]).await;
    let mut mallory = chat.online("mallory", "lair").await;
    let mut juliet = chat.online("juliet", "balcony").await;
    let info = info("client");
    // While one is silent another one is asked.
    name(&chat, &caps, &mut mallory, &info).await;
    question(&mut mallory).await.unwrap();
    name(&chat, &caps, &mut juliet, &info).await;
    let id = question(&mut juliet).await.unwrap();
    // Even who knows the id is not whom it was put to.
    answer(&mut mallory, &id, "result", &info.to_xml()).await;
    answer(&mut mallory, "1", "result", &info.to_xml()).await;
    assert!(abilities(&chat, &caps, &juliet).is_none());
    answer(&mut juliet, &id, "result", &info.to_xml()).await;
    until(|| abilities(&chat, &caps, &juliet).is_some()).await;
    // An answer that comes again is nobody's.
    answer(&mut juliet, &id, "result", "<x xmlns='urn:example'/>").await;
    assert!(abilities(&chat, &caps, &juliet).unwrap().has(FEATURE));
    chat.stop().await;
}
