//! What a removed account leaves behind, and logins that are under way meanwhile; what clients see is in
//! `tests/scenarios/register.txt`.
use protocol::Element;

use super::Config;
use crate::modules::testing::{ChatNode, condition, fence, stanza};
use crate::testing::{Client, Heard};

async fn start(accounts: &[&str]) -> ChatNode {
    ChatNode::start_with(accounts, |host| {
        host.modules.register = Some(Config::default());
    })
    .await
}

const REMOVE: &str = "<iq type='set' id='remove' to='localhost'><query xmlns='jabber:iq:register'><remove/></query></iq>";

async fn removed(client: &mut Client) {
    loop {
        let answer = stanza(client).await;
        if answer.attr("id") == Some("remove") {
            assert_eq!(answer.attr("type"), Some("result"), "{}", answer.to_xml());
            return;
        }
    }
}

#[tokio::test]
async fn who_gets_the_name_later_gets_nothing_of_the_account() {
    let chat = start(&["romeo", "juliet"]).await;
    chat.befriend("romeo", "juliet").await;
    let mut juliet = chat.online("juliet", "balcony").await;
    let mut romeo = chat.online("romeo", "orchard").await;
    let storage = "<query xmlns='jabber:iq:private'><x xmlns='urn:example'>mine</x></query>";
    romeo
        .send(&format!("<iq type='set' id='1'>{storage}</iq>"))
        .await;
    fence(&mut romeo).await;
    // What is sent behind the request comes too late.
    let contact = "<query xmlns='jabber:iq:roster'><item jid='late@localhost'/></query>";
    romeo
        .send(&format!("{REMOVE}<iq type='set' id='2'>{contact}</iq>"))
        .await;
    removed(&mut romeo).await;
    assert_eq!(romeo.stream_error().await, "not-authorized");
    let told = fence(&mut juliet).await;
    let types: Vec<_> = told.iter().filter_map(|told| told.attr("type")).collect();
    assert!(types.contains(&"unavailable"), "{types:?}");
    assert!(types.contains(&"unsubscribed"), "{types:?}");

    let message =
        "<message to='romeo@localhost' type='chat' id='3'><body>are you there</body></message>";
    juliet.send(message).await;
    assert_eq!(
        condition(&stanza(&mut juliet).await),
        Some("service-unavailable")
    );

    chat.node.register("romeo").await;
    let mut romeo = chat.node.session("romeo", "orchard").await;
    let empty = "<query xmlns='jabber:iq:private'><x xmlns='urn:example'/></query>";
    romeo
        .send(&format!(
            "<iq type='get' id='1'><query xmlns='jabber:iq:roster'/></iq>\
             <iq type='get' id='2'>{empty}</iq><presence/>"
        ))
        .await;
    let came = fence(&mut romeo).await;
    let roster = came.iter().find(|stanza| stanza.attr("id") == Some("1"));
    let items = roster.unwrap().elements().next().unwrap();
    assert_eq!(items.elements().count(), 0, "{}", items.to_xml());
    assert!(!came.iter().any(|came| came.to_xml().contains("mine")));
    assert!(
        fence(&mut juliet).await.is_empty(),
        "she sees nothing of it"
    );
    chat.stop().await;
}

/// Security case: a login that is under way is one of the account that was removed.
#[tokio::test]
async fn who_has_not_bound_a_resource_yet_is_ended_too() {
    let chat = start(&["romeo"]).await;
    let mut romeo = chat.node.session("romeo", "orchard").await;
    let mut slow = Client::logged_in(chat.node.address, "romeo").await;
    romeo.send(REMOVE).await;
    removed(&mut romeo).await;
    slow.bind("ghost").await;
    assert_eq!(slow.stream_error().await, "not-authorized");
    assert!(chat.node.find("romeo@localhost/ghost").is_none());

    // A new account of this name is another matter.
    chat.node.register("romeo").await;
    let mut romeo = chat.node.session("romeo", "orchard").await;
    assert_eq!(fence(&mut romeo).await.len(), 0);
    chat.stop().await;
}

#[tokio::test]
async fn a_session_that_waits_for_its_client_ends_with_the_account() {
    let chat = start(&["romeo"]).await;
    let mut romeo = chat.node.session("romeo", "orchard").await;
    let mut phone = chat.node.session("romeo", "phone").await;
    let id = phone.enable().await;
    let jid = phone.jid.clone();
    phone.cut();
    romeo.send(REMOVE).await;
    removed(&mut romeo).await;
    crate::testing::until(|| chat.node.find(&jid).is_none()).await;
    chat.node.register("romeo").await;
    let mut phone = Client::logged_in(chat.node.address, "romeo").await;
    phone
        .send(&format!(
            "<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>"
        ))
        .await;
    assert_eq!(phone.expect("failed").await.elements().count(), 1);
    chat.stop().await;
}

#[tokio::test]
async fn who_has_no_account_of_their_own_changes_and_removes_nothing() {
    let chat = start(&[]).await;
    let mut guest = Client::anonymous(chat.node.address).await;
    let name = guest.jid.split('@').next().unwrap().to_owned();
    let fields = format!("<username>{name}</username><password>secret</password>");
    for children in ["<remove/>", &fields] {
        let query = format!("<query xmlns='jabber:iq:register'>{children}</query>");
        guest
            .send(&format!("<iq type='set' id='1'>{query}</iq>"))
            .await;
        let answer: Element = stanza(&mut guest).await;
        assert_eq!(condition(&answer), Some("not-allowed"), "{children}");
    }
    assert!(!matches!(
        guest_still_there(&mut guest).await,
        Heard::Close | Heard::End
    ));
    chat.stop().await;
}

async fn guest_still_there(guest: &mut Client) -> Heard {
    guest
        .send("<iq type='get' id='ping'><ping xmlns='urn:xmpp:ping'/></iq>")
        .await;
    guest.next().await
}
