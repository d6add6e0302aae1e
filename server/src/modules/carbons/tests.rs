//! Copies by real sessions; who gets which is in `tests/scenarios/carbons.txt`.
use std::ops::ControlFlow;
use std::sync::Arc;

use protocol::{Element, ns};

use crate::c2s::session::Session;
use crate::hooks::{DeliverLocal, Handle, Outcome, Stage, UserSendMessage};
use crate::modules::testing::{ChatNode, condition, fence, stanza};
use crate::outlet::Flag;
use crate::router::Route;
use crate::testing::{Client, Heard, TestNode};

async fn want_copies(client: &mut Client) {
    client
        .send("<iq type='set' id='enable'><enable xmlns='urn:xmpp:carbons:2'/></iq>")
        .await;
    assert_eq!(stanza(client).await.attr("type"), Some("result"));
}

/// The ids of messages, and whether they are copies.
fn messages(came: &[Element]) -> Vec<(&str, bool)> {
    let inner = |message: &Element| {
        let wrapper = message.elements().find(|child| child.ns() == ns::CARBONS)?;
        let forwarded = wrapper.child("forwarded", ns::FORWARD)?;
        forwarded.child("message", ns::CLIENT).cloned()
    };
    came.iter()
        .filter(|stanza| stanza.name() == "message")
        .map(|message| match inner(message) {
            Some(_) => ("", true),
            None => (message.attr("id").unwrap_or_default(), false),
        })
        .collect()
}

#[tokio::test]
async fn a_request_is_one_that_changes_something() {
    let chat = ChatNode::start(&["romeo"]).await;
    let mut romeo = chat.node.session("romeo", "orchard").await;
    for name in ["enable", "disable"] {
        romeo
            .send(&format!(
                "<iq type='get' id='1'><{name} xmlns='urn:xmpp:carbons:2'/></iq>"
            ))
            .await;
        assert_eq!(condition(&stanza(&mut romeo).await), Some("bad-request"));
    }
    let session = chat.node.find(&romeo.jid).unwrap();
    assert!(!session.has(Flag::Carbons));
    want_copies(&mut romeo).await;
    assert!(session.has(Flag::Carbons));
    chat.stop().await;
}

/// What a session sends is looked at only if this holds.
#[tokio::test]
async fn a_session_knows_whether_its_account_has_others() {
    let chat = ChatNode::start(&["romeo", "juliet"]).await;
    let romeo = chat.node.session("romeo", "orchard").await;
    let _juliet = chat.node.session("juliet", "balcony").await;
    let session = chat.node.find(&romeo.jid).unwrap();
    assert!(!session.has(Flag::Accompanied));
    let mut home = chat.node.session("romeo", "home").await;
    let work = chat.node.session("romeo", "work").await;
    for jid in [&romeo.jid, &home.jid, &work.jid] {
        let session = chat.node.find(jid).unwrap();
        assert!(session.has(Flag::Accompanied), "{jid}");
    }
    // It goes on with another outlet.
    let id = home.enable().await;
    let jid = home.jid.clone();
    home.cut();
    let mut home = Client::logged_in(chat.node.address, "romeo").await;
    home.send(&format!(
        "<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>"
    ))
    .await;
    home.expect("resumed").await;
    assert!(chat.node.find(&jid).unwrap().has(Flag::Accompanied));
    // A new session takes the place of another one.
    drop(work);
    let mut work = chat.node.session("romeo", "work").await;
    assert!(session.has(Flag::Accompanied));
    for client in [&mut home, &mut work] {
        assert!(session.has(Flag::Accompanied));
        client.send("</stream:stream>").await;
        while !matches!(client.next().await, Heard::Close) {}
    }
    assert!(!session.has(Flag::Accompanied));
    chat.stop().await;
}

/// The receiver has gone without having acknowledged: the message finds another client, and whoever has got a copy
/// gets no other one.
#[tokio::test]
async fn what_is_routed_again_is_not_copied_again() {
    let chat = ChatNode::start(&["romeo", "juliet"]).await;
    let mut work = chat.online("romeo", "work").await;
    let mut home = chat.node.session("romeo", "home").await;
    let mut orchard = chat.node.session("romeo", "orchard").await;
    let mut juliet = chat.node.session("juliet", "balcony").await;
    want_copies(&mut home).await;
    want_copies(&mut orchard).await;
    orchard.enable().await;
    juliet.enable().await;
    juliet.chat(&orchard.jid, "1").await;
    assert_eq!(stanza(&mut orchard).await.attr("id"), Some("1"));
    assert_eq!(messages(&[stanza(&mut home).await]), [("", true)]);
    // Not acknowledged either: a message from the other client, as a copy.
    let nobody = "nobody@localhost";
    home.chat(nobody, "2").await;
    let copies = [stanza(&mut orchard).await, stanza(&mut orchard).await];
    assert_eq!(messages(&copies), [("", true), ("", true)]);
    orchard.send("</stream:stream>").await;
    while !matches!(orchard.next().await, Heard::Close) {}
    assert_eq!(messages(&fence(&mut work).await), [("1", false)]);
    let came = fence(&mut home).await;
    assert_eq!(
        messages(&came),
        [("2", false)],
        "the error of its own message"
    );
    juliet.acknowledged(1).await;
    chat.stop().await;
}

struct Passing;

impl Handle<UserSendMessage> for Passing {
    async fn handle(&self, _: &mut Session, _: &mut UserSendMessage) -> Outcome<UserSendMessage> {
        Ok(ControlFlow::Continue(()))
    }
}

impl Handle<DeliverLocal> for Passing {
    async fn handle(&self, _: &mut Route, _: &mut DeliverLocal) -> Outcome<DeliverLocal> {
        Ok(ControlFlow::Continue(()))
    }
}

/// Off the fast path, a message is copied just as often.
#[tokio::test]
async fn handlers_of_messages_do_not_change_what_is_copied() {
    for (of_sent, of_received) in [(false, false), (true, false), (false, true), (true, true)] {
        let node = TestNode::start().await;
        node.use_hooks(|hooks| {
            let passing = Arc::new(Passing);
            if of_sent {
                hooks.add::<UserSendMessage, _>(Stage::Observe, "test", &passing);
            }
            if of_received {
                hooks.add::<DeliverLocal, _>(Stage::Observe, "test", &passing);
            }
        })
        .await;
        let mut romeo = node.client("romeo").await;
        let mut home = node.session("romeo", "home").await;
        let mut juliet = node.client("juliet").await;
        let mut garden = node.session("juliet", "garden").await;
        for client in [&home, &garden] {
            node.find(&client.jid).unwrap().set(Flag::Carbons);
        }
        romeo.chat(&juliet.jid, "1").await;
        juliet.chat(&romeo.jid, "2").await;
        for (client, name) in [(&mut home, "sent"), (&mut garden, "received")] {
            let copy = client.expect("message").await;
            assert!(copy.child(name, ns::CARBONS).is_some());
        }
        for (client, name) in [(&mut home, "received"), (&mut garden, "sent")] {
            let copy = client.expect("message").await;
            assert!(copy.child(name, ns::CARBONS).is_some());
        }
        assert_eq!(romeo.expect("message").await.attr("id"), Some("2"));
        assert_eq!(juliet.expect("message").await.attr("id"), Some("1"));
    }
}
