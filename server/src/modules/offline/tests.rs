//! What is kept, and that it arrives; the words of the XEP are in `tests/scenarios/offline.txt`.
use std::collections::BTreeSet;

use super::backlog::to_stanza;
use super::store::Message;
use super::*;
use crate::modules::testing::{
    ChatNode, account, condition, fence, limit_offline_messages, stanza,
};
use crate::testing::{Client, Heard, soon, until};

fn parse(xml: &str) -> Stanza {
    let element = Element::parse(xml.as_bytes(), ns::CLIENT).unwrap();
    Stanza::from_element(&element).unwrap()
}

#[test]
#[expect(clippy::too_many_lines, reason = "one story from start to end")]
fn what_somebody_may_want_to_see_later_is_kept() {
    use Fate::{Forget, Keep, Refuse};
    let states = "xmlns='http://jabber.org/protocol/chatstates'";
    let hints = "xmlns='urn:xmpp:hints'";
    for (attributes, content, expected) in [
        ("type='chat'", "<body>hi</body>".to_owned(), Keep),
        ("", "<body>hi</body>".into(), Keep),
        ("type='strange'", "<body>hi</body>".into(), Keep),
        ("", "<subject>s</subject>".into(), Keep),
        (
            "type='chat'",
            "<encrypted xmlns='eu.siacs.conversations.axolotl'/>".into(),
            Keep,
        ),
        (
            "type='chat'",
            "<received xmlns='urn:xmpp:receipts' id='1'/>".into(),
            Keep,
        ),
        (
            "",
            "<x xmlns='http://jabber.org/protocol/muc#user'><invite/></x>".into(),
            Keep,
        ),
        (
            "type='chat'",
            format!("<body>hi</body><active {states}/>"),
            Keep,
        ),
        ("type='chat'", String::new(), Forget),
        ("type='chat'", format!("<composing {states}/>"), Forget),
        (
            "type='chat'",
            format!("<paused {states}/><thread>t</thread>"),
            Forget,
        ),
        (
            "type='chat'",
            format!("<gone {states}/><origin-id xmlns='urn:xmpp:sid:0' id='1'/>"),
            Forget,
        ),
        (
            "type='chat'",
            format!("<composing {states}/><store {hints}/>"),
            Keep,
        ),
        (
            "type='chat'",
            format!("<composing {states}/><no-store {hints}/>"),
            Forget,
        ),
        (
            "type='chat'",
            format!("<body>hi</body><no-store {hints}/>"),
            Refuse,
        ),
        (
            "type='chat'",
            format!("<body>hi</body><no-store {hints}/><store {hints}/>"),
            Refuse,
        ),
        (
            "type='chat'",
            format!("<body>hi</body><no-permanent-store {hints}/>"),
            Keep,
        ),
        (
            "type='chat'",
            format!("<body>hi</body><no-copy {hints}/>"),
            Keep,
        ),
        ("type='headline'", "<body>hi</body>".into(), Forget),
        ("type='error'", "<body>hi</body><error/>".into(), Forget),
        ("type='groupchat'", "<body>hi</body>".into(), Refuse),
    ] {
        let message = parse(&format!("<message {attributes}>{content}</message>"));
        assert_eq!(fate(&message, false), expected, "{attributes} {content}");
    }
    let room = parse("<message type='groupchat'><body>hi</body></message>");
    assert_eq!(fate(&room, true), Keep);
    let silent = parse("<message type='groupchat'/>");
    assert_eq!(fate(&silent, true), Forget);
}

#[test]
fn the_time_is_said_once_in_the_name_of_the_domain() {
    let stored = |xml: &str| Message {
        id: 1,
        from: "romeo@localhost/orchard".into(),
        stanza: xml.into(),
        received_at: 1_031_699_305_123_456,
    };
    let delays = |xml: &str| -> Vec<String> {
        let stanza = to_stanza(&stored(xml), "localhost").unwrap();
        let element = stanza.to_element();
        let delays = element
            .elements()
            .filter(|child| child.is("delay", ns::DELAY));
        delays
            .map(|delay| {
                format!(
                    "{} {}",
                    delay.attr("from").unwrap(),
                    delay.attr("stamp").unwrap()
                )
            })
            .collect()
    };
    let ours = "localhost 2002-09-10T23:08:25.123Z";
    assert_eq!(delays("<message><body>hi</body></message>"), [ours]);
    let theirs = "<message><delay xmlns='urn:xmpp:delay' from='room@muc.b' stamp='2001-01-01T00:00:00Z'/></message>";
    assert_eq!(delays(theirs), ["room@muc.b 2001-01-01T00:00:00Z", ours]);
    let known = "<message><delay xmlns='urn:xmpp:delay' from='localhost' stamp='2001-01-01T00:00:00Z'/></message>";
    assert_eq!(delays(known), ["localhost 2001-01-01T00:00:00Z"]);
    for broken in ["", "<message>", "<iq/>", "nonsense"] {
        assert!(to_stanza(&stored(broken), "localhost").is_none());
    }
}

async fn store_many(chat: &ChatNode, count: usize) {
    let mut romeo = chat.node.session("romeo", "orchard").await;
    for index in 0..count {
        romeo.chat("juliet@localhost", &index.to_string()).await;
    }
    assert_eq!(fence(&mut romeo).await, []);
}

async fn waiting(chat: &ChatNode) -> u64 {
    let store = OfflineStore::new(chat.db.clone(), Quota::default());
    store
        .count(&account("juliet"), stamp::now_us())
        .await
        .unwrap()
}

fn ids(stanzas: &[Element]) -> Vec<usize> {
    let messages = stanzas.iter().filter(|stanza| stanza.name() == "message");
    messages
        .map(|message| message.attr("id").unwrap().parse().unwrap())
        .collect()
}

#[tokio::test]
async fn many_messages_come_in_order_page_by_page_and_are_deleted() {
    let chat = ChatNode::start(&["romeo", "juliet"]).await;
    store_many(&chat, 330).await;
    assert_eq!(waiting(&chat).await, 330);
    let mut juliet = chat.node.session("juliet", "balcony").await;
    juliet.send("<presence/>").await;
    let mut came = Vec::new();
    while came.len() < 331 {
        came.push(stanza(&mut juliet).await);
    }
    assert_eq!(ids(&came), (0..330).collect::<Vec<_>>());
    soon(async { while waiting(&chat).await > 0 {} }).await;
    chat.stop().await;
}

#[tokio::test]
async fn what_the_client_has_not_acknowledged_comes_again_and_nothing_else() {
    let chat = ChatNode::start(&["romeo", "juliet"]).await;
    store_many(&chat, 120).await;
    let mut juliet = chat.node.session("juliet", "balcony").await;
    juliet
        .send("<enable xmlns='urn:xmpp:sm:3'/><presence/>")
        .await;
    let came = fence(&mut juliet).await;
    assert_eq!(
        ids(&came),
        (0..50).collect::<Vec<_>>(),
        "one page at a time"
    );
    assert_eq!(waiting(&chat).await, 120, "written is not received");
    // Her own presence and thirty messages.
    juliet.send("<a xmlns='urn:xmpp:sm:3' h='31'/>").await;
    fence(&mut juliet).await;
    soon(async { while waiting(&chat).await > 90 {} }).await;
    juliet.cut();
    until(|| chat.node.find("juliet@localhost/balcony").is_none()).await;
    let mut juliet = chat.node.session("juliet", "phone").await;
    juliet.send("<presence/>").await;
    let mut came = Vec::new();
    while ids(&came).len() < 90 {
        came.push(stanza(&mut juliet).await);
    }
    assert_eq!(ids(&came), (30..120).collect::<Vec<_>>());
    soon(async { while waiting(&chat).await > 0 {} }).await;
    assert_eq!(ids(&fence(&mut juliet).await), [0; 0]);
    chat.stop().await;
}

#[tokio::test]
async fn a_session_that_is_resumed_goes_on_with_its_backlog() {
    let chat = ChatNode::start(&["romeo", "juliet"]).await;
    store_many(&chat, 70).await;
    let mut juliet = chat.node.session("juliet", "balcony").await;
    let id = juliet.enable().await;
    juliet.send("<presence/>").await;
    assert_eq!(ids(&fence(&mut juliet).await).len(), 50);
    juliet.cut();
    let mut juliet = Client::logged_in(chat.node.address, "juliet").await;
    juliet
        .send(&format!(
            "<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='11'/>"
        ))
        .await;
    juliet.expect("resumed").await;
    let mut came = Vec::new();
    while ids(&came).len() < 40 {
        came.push(stanza(&mut juliet).await);
    }
    assert_eq!(ids(&came), (10..50).collect::<Vec<_>>());
    // With the answer to the ping of before.
    juliet.send("<a xmlns='urn:xmpp:sm:3' h='52'/>").await;
    let mut rest = Vec::new();
    while ids(&rest).len() < 20 {
        rest.push(stanza(&mut juliet).await);
    }
    assert_eq!(ids(&rest), (50..70).collect::<Vec<_>>());
    chat.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_sessions_at_once_one_gets_the_messages() {
    let chat = ChatNode::start(&["romeo", "juliet"]).await;
    store_many(&chat, 30).await;
    let mut one = chat.node.session("juliet", "one").await;
    let mut other = chat.node.session("juliet", "other").await;
    for client in [&mut one, &mut other] {
        client.send("<enable xmlns='urn:xmpp:sm:3'/>").await;
        fence(client).await;
    }
    let (came, as_well) = tokio::join!(come(&mut one), come(&mut other));
    assert_eq!(ids(&came).len() + ids(&as_well).len(), 30);
    // The one that has them goes without a word: the other gets them.
    let (gone, mut left, jid) = if ids(&came).is_empty() {
        (other, one, "juliet@localhost/other")
    } else {
        (one, other, "juliet@localhost/one")
    };
    gone.cut();
    until(|| chat.node.find(jid).is_none()).await;
    let mut came = Vec::new();
    while ids(&came).len() < 30 {
        came.push(stanza(&mut left).await);
    }
    assert_eq!(ids(&came), (0..30).collect::<Vec<_>>());
    chat.stop().await;
}

/// The sender has been told that the message is safe, as it was committed where it waited for the receiver's word, and is
/// gone. The receiver never took it, and its store is full.
#[tokio::test]
async fn what_was_acknowledged_is_kept_when_the_session_ends_although_the_store_is_full() {
    let chat =
        ChatNode::start_with(&["romeo", "juliet"], |host| limit_offline_messages(host, 1)).await;
    store_many(&chat, 1).await;
    let mut juliet = chat.node.session("juliet", "balcony").await;
    // Of negative priority, so that what is stored stays there.
    juliet
        .send("<enable xmlns='urn:xmpp:sm:3'/><presence><priority>-1</priority></presence>")
        .await;
    fence(&mut juliet).await;
    let mut romeo = chat.node.session("romeo", "orchard").await;
    romeo.send("<enable xmlns='urn:xmpp:sm:3'/>").await;
    for id in ["1", "2"] {
        romeo.chat("juliet@localhost/balcony", id).await;
    }
    romeo.acknowledged(2).await;
    romeo.send("</stream:stream>").await;
    until(|| chat.node.find("romeo@localhost/orchard").is_none()).await;
    juliet.cut();
    until(|| chat.node.find("juliet@localhost/balcony").is_none()).await;
    soon(async { while waiting(&chat).await < 3 {} }).await;

    // Whoever is not owed anything is refused as ever.
    let mut romeo = chat.node.session("romeo", "orchard").await;
    romeo.chat("juliet@localhost", "4").await;
    assert_eq!(
        condition(&stanza(&mut romeo).await),
        Some("service-unavailable")
    );
    let mut juliet = chat.node.session("juliet", "balcony").await;
    assert_eq!(ids(&come(&mut juliet).await), [0, 1, 2]);
    chat.stop().await;
}

async fn come(client: &mut Client) -> Vec<Element> {
    client.send("<presence/>").await;
    fence(client).await
}

#[tokio::test]
async fn a_row_that_is_no_message_is_deleted_and_hides_no_other() {
    let chat = ChatNode::start(&["romeo", "juliet"]).await;
    let store = OfflineStore::new(chat.db.clone(), Quota::default());
    for stanza in ["nonsense", "<message id='7'><body>hi</body></message>"] {
        let message = NewMessage {
            from: "a@b".into(),
            stanza: stanza.into(),
            received_at: 1,
            expires_at: None,
        };
        store.push(&account("juliet"), message).await.unwrap();
    }
    let mut juliet = chat.node.session("juliet", "balcony").await;
    juliet.send("<presence/>").await;
    assert_eq!(ids(&fence(&mut juliet).await), [7]);
    assert_eq!(waiting(&chat).await, 0);
    chat.stop().await;
}

/// A sender that never stops, a receiver that comes and goes: nothing is lost, whatever falls between two chairs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_come_while_their_receiver_comes_and_goes_all_arrive() {
    const MESSAGES: usize = 400;
    let chat = ChatNode::start(&["romeo", "juliet"]).await;
    let sends = async {
        let mut romeo = chat.node.session("romeo", "orchard").await;
        for index in 0..MESSAGES {
            romeo.chat("juliet@localhost", &index.to_string()).await;
            if index % 8 == 0 {
                assert_eq!(fence(&mut romeo).await, []);
            }
        }
        assert_eq!(fence(&mut romeo).await, []);
    };
    let receives = async {
        let mut seen = BTreeSet::new();
        for round in 0.. {
            let mut juliet = chat.node.session("juliet", "balcony").await;
            juliet.send("<presence/>").await;
            seen.extend(ids(&fence(&mut juliet).await));
            if seen.len() == MESSAGES {
                return seen;
            }
            // Sometimes she waits for more, as what was stored a moment ago has to come without being asked for.
            if round % 3 == 0 {
                juliet.send("<presence><show>away</show></presence>").await;
                seen.extend(ids(&fence(&mut juliet).await));
            }
            juliet.send("</stream:stream>").await;
            loop {
                match juliet.next().await {
                    Heard::Element(element) => seen.extend(ids(&[element])),
                    Heard::Close | Heard::End => break,
                    Heard::Header(_) | Heard::Frame(..) => {}
                }
            }
        }
        seen
    };
    let ((), seen) = soon(async { tokio::join!(sends, receives) }).await;
    assert_eq!(seen.len(), MESSAGES);
    chat.stop().await;
}

/// A message that is stored at the very moment at which its receiver becomes available does not wait for the next
/// login.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_stored_while_its_receiver_arrives_is_delivered_at_once() {
    let chat = ChatNode::start(&["romeo", "juliet"]).await;
    let mut romeo = chat.node.session("romeo", "orchard").await;
    for round in 0..60_usize {
        let mut juliet = chat.node.session("juliet", "balcony").await;
        let id = round.to_string();
        let (came, ()) = tokio::join!(
            async {
                juliet.send("<presence/>").await;
                let mut came = Vec::new();
                while ids(&came).is_empty() {
                    came.push(soon(stanza(&mut juliet)).await);
                }
                came
            },
            romeo.chat("juliet@localhost", &id)
        );
        assert_eq!(ids(&came), [round]);
        // In order: of a connection that is cut nobody knows what arrived, and the message would come again.
        juliet.send("</stream:stream>").await;
        while !matches!(juliet.next().await, Heard::Close) {}
        soon(async { while waiting(&chat).await > 0 {} }).await;
    }
    chat.stop().await;
}
