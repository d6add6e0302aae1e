//! What is written and how it is counted; who may ask is in `tests/scenarios/last.txt`.
use super::*;
use crate::modules::testing::{ChatNode, account, fence};
use crate::testing::{Client, until};

fn leaving(content: &str) -> Stanza {
    let xml = format!("<presence type='unavailable'>{content}</presence>");
    let element = Element::parse(xml.as_bytes(), ns::CLIENT).unwrap();
    Stanza::from_element(&element).unwrap()
}

#[test]
fn the_words_are_cut_between_two_characters() {
    let badgers = "\u{1f9a1}".repeat(300);
    let shifted = format!("x{badgers}");
    for (text, expected) in [("to bed", 6), (&*badgers, 1_024), (&*shifted, 1_021)] {
        let kept = status(&leaving(&format!("<status>{text}</status>")));
        assert_eq!(kept, text[..expected]);
    }
    for nothing in [
        "",
        "<show>xa</show>",
        "<status/>",
        "<status xmlns='other'>x</status>",
    ] {
        assert_eq!(status(&leaving(nothing)), "", "{nothing}");
    }
}

#[test]
fn seconds_are_never_negative() {
    for (then, now, expected) in [
        (100, 100, 0),
        (100, 1_000, 900),
        (1_000, 100, 0),
        (i64::MIN, i64::MAX, i64::MAX as u64),
        (i64::MAX, i64::MIN, 0),
    ] {
        assert_eq!(seconds_since(then, now), expected, "{then} {now}");
    }
}

async fn seen(chat: &ChatNode, name: &str) -> Option<Seen> {
    let store = LastStore::new(chat.db.clone());
    store.load(&account(name)).await.unwrap()
}

#[tokio::test]
async fn each_end_of_a_presence_is_written_once_and_before_contacts_are_told() {
    let chat = ChatNode::start(&["romeo", "juliet"]).await;
    chat.befriend("romeo", "juliet").await;
    let mut juliet = chat.online("juliet", "balcony").await;
    let before = now();
    let mut romeo = chat.online("romeo", "orchard").await;
    fence(&mut juliet).await;
    assert_eq!(seen(&chat, "romeo").await, None);
    chat.statements();
    romeo
        .send("<presence type='unavailable'><status>to Mantua</status></presence>")
        .await;
    let told = juliet.expect("presence").await;
    assert_eq!(told.attr("type"), Some("unavailable"));
    let first = seen(&chat, "romeo").await.unwrap();
    assert_eq!(first.status, "to Mantua");
    assert!((before..=now()).contains(&first.at), "{first:?}");
    // Who is not there does not leave.
    romeo.send("<presence type='unavailable'/>").await;
    fence(&mut romeo).await;
    romeo.cut();
    until(|| chat.node.find("romeo@localhost/orchard").is_none()).await;
    assert_eq!(chat.statements(), ["account_exists", "commit", "last_set"]);
    assert_eq!(seen(&chat, "romeo").await, Some(first));
    let romeo = chat.online("romeo", "orchard").await;
    romeo.cut();
    juliet.expect("presence").await;
    let told = juliet.expect("presence").await;
    assert_eq!(told.attr("type"), Some("unavailable"));
    assert_eq!(seen(&chat, "romeo").await.unwrap().status, "");
    chat.stop().await;
}

#[tokio::test]
async fn nothing_is_written_of_an_account_that_ends_with_its_session() {
    let chat = ChatNode::start(&["romeo"]).await;
    let mut nobody = Client::anonymous(chat.node.address).await;
    nobody.send("<presence/>").await;
    fence(&mut nobody).await;
    nobody.send("<presence type='unavailable'/>").await;
    fence(&mut nobody).await;
    let name = nobody.jid.split('@').next().unwrap().to_owned();
    assert_eq!(seen(&chat, &name).await, None);
    chat.stop().await;
}
