//! Where lists are asked, by real sessions; the words of the XEPs are in `tests/scenarios/{privacy,blocking}.txt`.
use super::*;
use crate::modules::offline::store::{OfflineStore, Quota};
use crate::modules::testing::{ChatNode, account, condition, fence, stanza};
use crate::storage::tests::run_raw;
use crate::testing::{Client, DOMAIN, until};

/// Sends a request and waits for its answer; what comes meanwhile is left out.
async fn ask(client: &mut Client, kind: &str, payload: &str) -> Element {
    client
        .send(&format!("<iq type='{kind}' id='ask'>{payload}</iq>"))
        .await;
    loop {
        let came = stanza(client).await;
        if came.attr("id") == Some("ask") {
            return came;
        }
    }
}

async fn done(client: &mut Client, payload: &str) {
    let answer = ask(client, "set", payload).await;
    assert_eq!(answer.attr("type"), Some("result"), "{}", answer.to_xml());
    fence(client).await;
}

async fn block(client: &mut Client, address: &str) {
    let payload = format!("<block xmlns='urn:xmpp:blocking'><item jid='{address}'/></block>");
    done(client, &payload).await;
}

async fn put(client: &mut Client, name: &str, items: &str) {
    let list = format!("<list name='{name}'>{items}</list>");
    done(
        client,
        &format!("<query xmlns='jabber:iq:privacy'>{list}</query>"),
    )
    .await;
}

async fn activate(client: &mut Client, name: &str) {
    let active = format!("<query xmlns='jabber:iq:privacy'><active name='{name}'/></query>");
    done(client, &active).await;
}

fn is_unrestricted(chat: &ChatNode, client: &Client) -> bool {
    let session = chat.node.find(&client.jid).unwrap();
    session.has(Flag::Unrestricted)
}

/// Ids of the messages among what came.
fn messages(came: &[Element]) -> Vec<&str> {
    let messages = came.iter().filter(|stanza| stanza.name() == "message");
    messages
        .map(|message| message.attr("id").unwrap_or_default())
        .collect()
}

async fn kept(chat: &ChatNode, name: &str) -> u64 {
    let store = OfflineStore::new(chat.db.clone(), Quota::default());
    store.count(&account(name), 0).await.unwrap()
}

#[tokio::test]
async fn who_has_no_list_is_asked_for_it_once() {
    let chat = ChatNode::start(&["romeo", "juliet"]).await;
    let mut romeo = chat.online("romeo", "orchard").await;
    let mut juliet = chat.online("juliet", "balcony").await;
    assert!(is_unrestricted(&chat, &romeo) && is_unrestricted(&chat, &juliet));
    chat.statements();
    for id in ["1", "2"] {
        romeo.chat(&juliet.jid, id).await;
        romeo.chat("juliet@localhost", id).await;
    }
    romeo
        .send("<presence to='juliet@localhost/balcony'/>")
        .await;
    fence(&mut romeo).await;
    assert_eq!(messages(&fence(&mut juliet).await), ["1", "1", "2", "2"]);
    assert_eq!(chat.statements(), [""; 0]);
    // With a list, and without one again.
    block(&mut juliet, "tybalt@localhost").await;
    assert!(!is_unrestricted(&chat, &juliet) && is_unrestricted(&chat, &romeo));
    chat.statements();
    for id in ["3", "4"] {
        romeo.chat(&juliet.jid, id).await;
    }
    fence(&mut romeo).await;
    assert_eq!(messages(&fence(&mut juliet).await), ["3", "4"]);
    assert_eq!(chat.statements(), ["privacy_default"]);
    done(&mut juliet, "<unblock xmlns='urn:xmpp:blocking'/>").await;
    juliet.chat(&romeo.jid, "5").await;
    fence(&mut juliet).await;
    assert!(is_unrestricted(&chat, &juliet));
    chat.stop().await;
}

#[tokio::test]
async fn a_session_that_is_resumed_is_asked_again_and_keeps_its_list() {
    let chat = ChatNode::start(&["romeo", "juliet"]).await;
    let mut romeo = chat.online("romeo", "orchard").await;
    let mut juliet = chat.online("juliet", "balcony").await;
    let deny = "<item type='jid' value='romeo@localhost' action='deny' order='1'><message/></item>";
    put(&mut juliet, "a", deny).await;
    activate(&mut juliet, "a").await;
    let mut ids = [romeo.enable().await, juliet.enable().await];
    let jids = [romeo.jid.clone(), juliet.jid.clone()];
    romeo.cut();
    juliet.cut();
    for (name, jid) in [("romeo", &jids[0]), ("juliet", &jids[1])] {
        let session = chat.node.find(jid).unwrap();
        until(|| session.has(Flag::Detached)).await;
        assert!(session.jid().as_str().starts_with(name));
    }
    let mut clients = Vec::new();
    for (name, id) in ["romeo", "juliet"].into_iter().zip(&mut ids) {
        let mut client = Client::logged_in(chat.node.address, name).await;
        client
            .send(&format!(
                "<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>"
            ))
            .await;
        client.expect("resumed").await;
        fence(&mut client).await;
        clients.push(client);
    }
    let [mut romeo, mut juliet] = <[Client; 2]>::try_from(clients).ok().unwrap();
    romeo.chat(&jids[1], "1").await;
    let answer = romeo.expect("message").await;
    assert_eq!(condition(&answer), Some("service-unavailable"));
    assert_eq!(messages(&fence(&mut juliet).await), [""; 0]);
    let session = chat.node.find(&jids[0]).unwrap();
    assert!(session.has(Flag::Unrestricted), "it has sent something");
    chat.stop().await;
}

/// What cannot be decided is refused for now, in both directions, and never stored.
#[tokio::test]
async fn nothing_passes_a_list_that_cannot_be_read() {
    let chat = ChatNode::start(&["romeo", "juliet"]).await;
    chat.befriend("romeo", "juliet").await;
    run_raw(
        &chat.db,
        "INSERT INTO privacy_list (server, username, name, id) VALUES ('localhost', 'juliet', 'bad', 1);
         INSERT INTO privacy_default_list (server, username, name) VALUES ('localhost', 'juliet', 'bad');
         INSERT INTO privacy_list_data VALUES (1, 'j', 'a@b', 'x', 1, 1, 0, 0, 0, 0)",
    )
    .await;
    let mut romeo = chat.online("romeo", "orchard").await;
    romeo.enable().await;
    let refused = |answer: Element| {
        let error = answer.child("error", ns::CLIENT).unwrap();
        assert_eq!(error.attr("type"), Some("wait"));
        assert_eq!(condition(&answer), Some("internal-server-error"));
    };
    romeo.chat("juliet@localhost", "1").await;
    refused(romeo.expect("message").await);
    let mut juliet = chat.online("juliet", "balcony").await;
    assert!(!is_unrestricted(&chat, &juliet));
    romeo.chat(&juliet.jid, "2").await;
    refused(romeo.expect("message").await);
    romeo.send("<presence to='juliet@localhost'/>").await;
    romeo.acknowledged(3).await;
    juliet.chat(&romeo.jid, "3").await;
    refused(juliet.expect("message").await);
    juliet.send("<presence><show>away</show></presence>").await;
    let came = fence(&mut juliet).await;
    assert_eq!(came.len(), 1, "the own presence alone: {came:?}");
    let came = fence(&mut romeo).await;
    assert!(came.is_empty(), "{came:?}");
    assert_eq!(kept(&chat, "juliet").await, 0);
    // Who has it can still mend it.
    let put = "<list name='bad'><item action='deny' order='1'/></list>";
    let query = format!("<query xmlns='jabber:iq:privacy'>{put}</query>");
    let answer = ask(&mut juliet, "set", &query).await;
    assert_eq!(condition(&answer), Some("internal-server-error"));
    done(
        &mut juliet,
        "<query xmlns='jabber:iq:privacy'><default/></query>",
    )
    .await;
    romeo.chat(&juliet.jid, "4").await;
    fence(&mut romeo).await;
    assert_eq!(messages(&fence(&mut juliet).await), ["4"]);
    chat.stop().await;
}

/// Security case R19: what somebody who is blocked sees is what everybody sees of an account that does not exist.
#[tokio::test]
async fn who_is_blocked_sees_no_account() {
    let chat = ChatNode::start(&["romeo", "juliet"]).await;
    let mut juliet = chat.online("juliet", "balcony").await;
    block(&mut juliet, "romeo@localhost").await;
    let mut romeo = chat.online("romeo", "orchard").await;
    romeo.enable().await;
    let mut sent = 0;
    for is_there in [true, false] {
        for stanza in [
            "<message id='x' type='chat' to='TO@localhost'><body>hi</body></message>",
            "<message id='x' type='chat' to='TO@localhost/balcony'><body>hi</body></message>",
            "<message id='x' type='groupchat' to='TO@localhost'><body>hi</body></message>",
            "<iq id='x' type='get' to='TO@localhost/balcony'><ping xmlns='urn:xmpp:ping'/></iq>",
            "<iq id='x' type='get' to='TO@localhost'><ping xmlns='urn:xmpp:ping'/></iq>",
            "<presence id='x' type='probe' to='TO@localhost'/>",
            "<presence id='x' type='subscribe' to='TO@localhost'/>",
            "<presence id='x' type='unsubscribe' to='TO@localhost'/>",
        ] {
            let mut answers = Vec::new();
            for name in ["juliet", "nobody"] {
                let text = stanza.replace("TO", name);
                romeo.send(&text).await;
                sent += 1;
                let came = fence(&mut romeo).await;
                sent += 1;
                let answer = |answer: &Element| answer.to_xml().replace(name, "TO");
                let is_answer = |stanza: &&Element| stanza.attr("id") == Some("x");
                answers.push(
                    came.iter()
                        .filter(is_answer)
                        .map(answer)
                        .collect::<Vec<_>>(),
                );
            }
            assert_eq!(answers[0], answers[1], "{stanza}, {is_there}");
        }
        if is_there {
            let came = fence(&mut juliet).await;
            assert!(came.is_empty(), "{came:?}");
            juliet.send("</stream:stream>").await;
            until(|| chat.node.find("juliet@localhost/balcony").is_none()).await;
        }
    }
    assert_eq!(kept(&chat, "juliet").await, 0);
    // Every one of them was answered, or dropped knowingly.
    romeo.acknowledged(sent).await;
    chat.stop().await;
}

#[tokio::test]
async fn messages_that_were_kept_before_the_list_are_not_delivered_past_it() {
    let chat = ChatNode::start(&["romeo", "nurse", "juliet"]).await;
    let mut romeo = chat.online("romeo", "orchard").await;
    let mut nurse = chat.online("nurse", "chamber").await;
    for id in ["1", "2", "3"] {
        let client = if id == "2" { &mut nurse } else { &mut romeo };
        client.chat("juliet@localhost", id).await;
        fence(client).await;
    }
    assert_eq!(kept(&chat, "juliet").await, 3);
    let mut juliet = chat.node.session("juliet", "balcony").await;
    // A list of this session leaves them to others …
    let deny = "<item type='jid' value='nurse@localhost' action='deny' order='1'><message/></item>";
    put(&mut juliet, "a", deny).await;
    activate(&mut juliet, "a").await;
    juliet.send("<presence/>").await;
    assert_eq!(messages(&fence(&mut juliet).await), ["1", "3"]);
    until_kept(&chat, 1).await;
    // … and nobody gets what the account does not want.
    nurse.chat("juliet@localhost", "4").await;
    let answer = nurse.expect("message").await;
    assert_eq!(condition(&answer), Some("service-unavailable"));
    drop(juliet);
    until(|| chat.node.find("juliet@localhost/balcony").is_none()).await;
    let mut phone = chat.node.session("juliet", "phone").await;
    block(&mut phone, "nurse@localhost").await;
    phone.send("<presence/>").await;
    assert_eq!(messages(&fence(&mut phone).await), [""; 0]);
    until_kept(&chat, 0).await;
    chat.stop().await;
}

async fn until_kept(chat: &ChatNode, expected: u64) {
    crate::testing::soon(async {
        while kept(chat, "juliet").await != expected {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test]
async fn each_session_goes_by_its_own_list() {
    let chat = ChatNode::start(&["romeo", "juliet"]).await;
    let mut romeo = chat.online("romeo", "orchard").await;
    let mut balcony = chat.online("juliet", "balcony").await;
    let mut phone = chat.online("juliet", "phone").await;
    for client in [&mut balcony, &mut phone] {
        done(client, "<enable xmlns='urn:xmpp:carbons:2'/>").await;
    }
    let deny = "<item type='jid' value='romeo@localhost' action='deny' order='1'/>";
    put(&mut phone, "a", deny).await;
    activate(&mut phone, "a").await;
    fence(&mut balcony).await;
    romeo.chat("juliet@localhost", "1").await;
    romeo.chat(&balcony.jid, "2").await;
    romeo.chat(&phone.jid, "3").await;
    let came = fence(&mut romeo).await;
    assert_eq!(messages(&came), ["3"]);
    assert_eq!(condition(&came[0]), Some("service-unavailable"));
    assert_eq!(messages(&fence(&mut balcony).await), ["1", "2"]);
    // Not even as a copy.
    assert_eq!(messages(&fence(&mut phone).await), [""; 0]);
    phone.chat(&romeo.jid, "4").await;
    let came = fence(&mut phone).await;
    assert_eq!(condition(&came[0]), Some("not-acceptable"));
    // What was not sent is not copied, nor is the answer.
    assert_eq!(messages(&fence(&mut balcony).await), [""; 0]);
    // The session that takes messages does not want these: they are not kept behind its back.
    drop(balcony);
    until(|| chat.node.find("juliet@localhost/balcony").is_none()).await;
    romeo.chat("juliet@localhost", "5").await;
    let came = fence(&mut romeo).await;
    assert_eq!(messages(&came), ["5"]);
    assert_eq!(kept(&chat, "juliet").await, 0);
    chat.stop().await;
}

#[tokio::test]
async fn the_choice_of_a_session_ends_with_it() {
    let chat = ChatNode::start(&["romeo", "juliet"]).await;
    let mut romeo = chat.online("romeo", "orchard").await;
    let mut juliet = chat.online("juliet", "balcony").await;
    let deny = "<item action='deny' order='1'/>";
    put(&mut juliet, "a", deny).await;
    activate(&mut juliet, "a").await;
    romeo.chat(&juliet.jid, "1").await;
    assert_eq!(messages(&fence(&mut romeo).await), ["1"]);
    juliet.send("</stream:stream>").await;
    until(|| chat.node.find("juliet@localhost/balcony").is_none()).await;
    let mut juliet = chat.online("juliet", "balcony").await;
    assert!(is_unrestricted(&chat, &juliet));
    romeo.chat(&juliet.jid, "2").await;
    assert_eq!(messages(&fence(&mut romeo).await), [""; 0]);
    assert_eq!(messages(&fence(&mut juliet).await), ["2"]);
    chat.stop().await;
}

#[tokio::test]
async fn a_successor_finds_no_list_of_an_account_that_was_removed() {
    let chat = ChatNode::start(&["romeo", "juliet"]).await;
    let mut juliet = chat.online("juliet", "balcony").await;
    block(&mut juliet, "romeo@localhost").await;
    juliet.send("</stream:stream>").await;
    until(|| chat.node.find("juliet@localhost/balcony").is_none()).await;
    let mut romeo = chat.online("romeo", "orchard").await;
    romeo.chat("juliet@localhost", "1").await;
    assert_eq!(messages(&fence(&mut romeo).await), ["1"]);
    let host = chat.node.router.host(DOMAIN).unwrap();
    let mut event = AccountRemoved {
        account: account("juliet"),
    };
    let mut route = chat.node.router.scope();
    assert!(host.hooks.run(&mut route, &mut event).await.is_continue());
    drop(route);
    let accounts = crate::storage::accounts::AccountStore::new(chat.db.clone());
    assert!(accounts.remove("juliet", DOMAIN).await.unwrap());
    chat.node.register("juliet").await;
    let store = PrivacyStore::new(chat.db.clone());
    assert_eq!(
        store.names(&account("juliet")).await.unwrap(),
        store::Names::default()
    );
    romeo.chat("juliet@localhost", "2").await;
    assert_eq!(messages(&fence(&mut romeo).await), [""; 0]);
    assert_eq!(kept(&chat, "juliet").await, 1);
    chat.stop().await;
}

#[tokio::test]
async fn an_account_without_a_row_keeps_no_lists() {
    let chat = ChatNode::start(&[]).await;
    let mut guest = Client::anonymous(chat.node.address).await;
    for payload in [
        "<block xmlns='urn:xmpp:blocking'><item jid='a@b'/></block>",
        "<query xmlns='jabber:iq:privacy'><list name='a'><item action='deny' order='1'/></list></query>",
    ] {
        let answer = ask(&mut guest, "set", payload).await;
        assert_eq!(condition(&answer), Some("not-allowed"));
    }
    let answer = ask(&mut guest, "get", "<blocklist xmlns='urn:xmpp:blocking'/>").await;
    assert_eq!(answer.attr("type"), Some("result"));
    chat.stop().await;
}

/// Security case R19: a list is no way to make the node hold or do much.
#[tokio::test]
async fn a_list_is_as_long_as_it_may_be() {
    let chat = ChatNode::start(&["romeo"]).await;
    let mut romeo = chat.node.session("romeo", "orchard").await;
    let mut refused = 0;
    for part in 0..12 {
        let item = |index| format!("<item jid='a{part}-{index}@b'/>");
        let items: String = (0..100).map(item).collect();
        let payload = format!("<block xmlns='urn:xmpp:blocking'>{items}</block>");
        let answer = ask(&mut romeo, "set", &payload).await;
        if answer.attr("type") == Some("error") {
            assert_eq!(condition(&answer), Some("policy-violation"));
            refused += 1;
        }
    }
    assert_eq!(refused, 2);
    let answer = ask(&mut romeo, "get", "<blocklist xmlns='urn:xmpp:blocking'/>").await;
    let blocklist = answer.elements().next().unwrap();
    assert_eq!(blocklist.elements().count(), 1_000);
    chat.stop().await;
}
