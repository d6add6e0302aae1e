//! Presence by real sessions; the words of the RFC are in `tests/scenarios/{presence,subscriptions}.txt`.
use protocol::{Element, Jid, Stanza, ns};

use super::*;
use crate::modules::testing::{ChatNode, account, condition, fence, stanza};
use crate::testing::{Client, soon};

fn parse(xml: &str) -> Stanza {
    let element = Element::parse(xml.as_bytes(), ns::CLIENT).unwrap();
    Stanza::from_element(&element).unwrap()
}

#[test]
fn the_priority_is_a_number_of_one_byte() {
    for (content, expected) in [
        ("", Some(0)),
        ("<show>away</show>", Some(0)),
        ("<priority>5</priority>", Some(5)),
        ("<status/><priority> -128\n</priority>", Some(-128)),
        ("<priority>127</priority>", Some(127)),
        ("<priority>+1</priority>", Some(1)),
        ("<priority>128</priority>", None),
        ("<priority>-129</priority>", None),
        ("<priority/>", None),
        ("<priority>1.0</priority>", None),
        ("<priority>high</priority>", None),
        ("<priority>1</priority><priority>1</priority>", None),
        ("<priority xmlns='other'>900</priority>", Some(0)),
    ] {
        let presence = parse(&format!("<presence>{content}</presence>"));
        assert_eq!(priority(&presence), expected, "{content}");
    }
}

async fn bounced(client: &mut Client, text: &str) -> Option<String> {
    client.send(text).await;
    let came = fence(client).await;
    let error = came
        .iter()
        .find(|stanza| stanza.attr("type") == Some("error"));
    error.and_then(condition).map(str::to_owned)
}

#[tokio::test]
async fn presence_that_cannot_be_is_refused() {
    let chat = ChatNode::start(&["romeo"]).await;
    let mut romeo = chat.node.session("romeo", "orchard").await;
    let large = format!(
        "<presence><status>{}</status></presence>",
        "x".repeat(8_200)
    );
    for (text, expected) in [
        (large.as_str(), "policy-violation"),
        (
            "<presence><priority>900</priority></presence>",
            "bad-request",
        ),
        ("<presence type='subscribe'/>", "bad-request"),
    ] {
        let condition = bounced(&mut romeo, text).await;
        assert_eq!(condition.as_deref(), Some(expected), "{text}");
    }
    // None of them has made the session available.
    let session = chat.node.find("romeo@localhost/orchard").unwrap();
    assert_eq!(
        (session.priority(), session.presence().is_some()),
        (None, false)
    );
    assert_eq!(bounced(&mut romeo, "<presence/>").await, None);
    assert_eq!(session.priority(), Some(0));
    chat.stop().await;
}

#[tokio::test]
async fn a_first_presence_costs_one_statement_and_a_login_three() {
    let chat = ChatNode::start(&["romeo", "juliet", "nurse"]).await;
    chat.befriend("romeo", "juliet").await;
    let mut juliet = chat.online("juliet", "balcony").await;
    chat.statements();
    let mut romeo = chat.node.session("romeo", "orchard").await;
    romeo.send("<presence/>").await;
    let came = fence(&mut romeo).await;
    assert_eq!(came.len(), 2, "the own and the contact's: {came:?}");
    assert_eq!(
        chat.statements(),
        ["account_credentials", "privacy_default", "roster_overview"]
    );
    romeo.send("<presence><show>away</show></presence>").await;
    fence(&mut romeo).await;
    drop(romeo);
    while juliet.expect("presence").await.attr("type") != Some("unavailable") {}
    assert_eq!(
        chat.statements(),
        ["account_exists", "commit", "last_set"],
        "who has to be told is remembered"
    );
    chat.stop().await;
}

/// `romeo` with ten contacts who have ten clients each: more than one part of an arrival.
async fn with_a_hundred_online() -> (ChatNode, Vec<Client>) {
    let names: Vec<String> = (0..10).map(|index| format!("contact{index}")).collect();
    let mut accounts: Vec<&str> = names.iter().map(String::as_str).collect();
    accounts.push("romeo");
    let chat = ChatNode::start(&accounts).await;
    let mut clients = Vec::new();
    for name in &names {
        chat.befriend("romeo", name).await;
        for index in 0..10 {
            let mut client = chat.node.session(name, &index.to_string()).await;
            client.send("<presence/>").await;
            fence(&mut client).await;
            clients.push(client);
        }
    }
    (chat, clients)
}

fn froms(stanzas: &[Element]) -> Vec<Jid> {
    let mut froms: Vec<Jid> = stanzas
        .iter()
        .filter_map(|stanza| Jid::parse(stanza.attr("from")?).ok())
        .collect();
    froms.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    froms.dedup();
    froms
}

#[tokio::test]
async fn a_user_with_many_contacts_online_is_told_of_all_and_then_of_requests() {
    let (chat, _clients) = with_a_hundred_online().await;
    chat.node.register("stranger").await;
    let mut stranger = chat.node.session("stranger", "x").await;
    stranger
        .send("<presence type='subscribe' to='romeo@localhost'/>")
        .await;
    fence(&mut stranger).await;
    stranger.chat("romeo@localhost", "m1").await;
    fence(&mut stranger).await;
    let mut romeo = chat.node.session("romeo", "orchard").await;
    romeo.send("<presence/>").await;
    let mut came = Vec::new();
    while came.len() < 103 {
        came.push(stanza(&mut romeo).await);
    }
    assert_eq!(
        froms(&came[..1]),
        [Jid::parse("romeo@localhost/orchard").unwrap()]
    );
    assert_eq!(
        froms(&came[1..101]).len(),
        100,
        "each contact's resource once"
    );
    assert_eq!(came[101].attr("type"), Some("subscribe"));
    assert_eq!(came[102].attr("id"), Some("m1"));
    assert_eq!(fence(&mut romeo).await, []);
    chat.stop().await;
}

#[tokio::test]
async fn a_client_that_manages_its_stream_gets_the_next_part_when_it_has_the_last() {
    let (chat, _clients) = with_a_hundred_online().await;
    let mut romeo = chat.node.session("romeo", "orchard").await;
    romeo.enable().await;
    romeo.send("<presence/>").await;
    let mut count = fence(&mut romeo).await.len();
    let first_parts = count;
    assert!(first_parts < 101, "not all at once: {first_parts}");
    // What it has got, with the answers to its two pings.
    let mut handled = count + 1;
    while count < 101 {
        romeo
            .send(&format!("<a xmlns='urn:xmpp:sm:3' h='{handled}'/>"))
            .await;
        let more = fence(&mut romeo).await.len();
        (count, handled) = (count + more, handled + more + 1);
    }
    assert_eq!(count, 101);
    chat.stop().await;
}

#[tokio::test]
async fn presence_that_changes_too_fast_is_told_at_a_pace_the_newest_last() {
    let chat = ChatNode::start(&["romeo", "juliet"]).await;
    chat.befriend("romeo", "juliet").await;
    let mut juliet = chat.online("juliet", "balcony").await;
    let mut romeo = chat.online("romeo", "orchard").await;
    fence(&mut juliet).await;
    for index in 0..200 {
        romeo
            .send(&format!("<presence><status>{index}</status></presence>"))
            .await;
    }
    fence(&mut romeo).await;
    let mut seen = Vec::new();
    while seen.last().is_none_or(|last| last != "199") {
        let presence = stanza(&mut juliet).await;
        let status = presence.child("status", ns::CLIENT).unwrap();
        seen.push(status.text().into_owned());
    }
    assert!(seen.len() <= 12, "{seen:?}");
    // The end is told at once, and is the last word.
    romeo
        .send("<presence><status>again</status></presence>")
        .await;
    romeo.send("<presence type='unavailable'/>").await;
    let mut last = String::new();
    while last != "unavailable" {
        let presence = stanza(&mut juliet).await;
        last = presence.attr("type").unwrap_or_default().to_owned();
    }
    // Whoever waited to tell "again" has nothing to tell.
    tokio::time::sleep(Duration::from_millis(pace::CHANGE_MS + 200)).await;
    assert_eq!(fence(&mut juliet).await, []);
    chat.stop().await;
}

#[tokio::test]
async fn presence_that_comes_and_goes_too_fast_is_refused() {
    let chat = ChatNode::start(&["romeo"]).await;
    let mut romeo = chat.node.session("romeo", "orchard").await;
    for _ in 0..pace::CHANGES_BURST {
        romeo
            .send("<presence/><presence type='unavailable'/>")
            .await;
    }
    fence(&mut romeo).await;
    let condition = bounced(&mut romeo, "<presence/>").await;
    assert_eq!(condition.as_deref(), Some("policy-violation"));
    assert_eq!(
        chat.node
            .find("romeo@localhost/orchard")
            .unwrap()
            .priority(),
        None
    );
    chat.stop().await;
}

#[tokio::test]
async fn an_account_sends_thirty_requests_and_no_more_in_any_session() {
    let chat = ChatNode::start(&["romeo"]).await;
    let mut romeo = chat.node.session("romeo", "orchard").await;
    for index in 0..pace::REQUESTS_BURST {
        let request = format!("<presence type='subscribe' to='c{index}@localhost'/>");
        assert_eq!(bounced(&mut romeo, &request).await, None);
    }
    let one_more = "<presence type='subscribe' to='more@localhost'/>";
    let condition = bounced(&mut romeo, one_more).await;
    assert_eq!(condition.as_deref(), Some("policy-violation"));
    let mut again = chat.node.session("romeo", "phone").await;
    let condition = bounced(&mut again, one_more).await;
    assert_eq!(condition.as_deref(), Some("policy-violation"));
    // Ending something is always possible.
    let end = "<presence type='unsubscribe' to='c1@localhost'/>";
    assert_eq!(bounced(&mut again, end).await, None);
    chat.stop().await;
}

#[tokio::test]
async fn directed_presence_has_a_limit() {
    let chat = ChatNode::start(&["romeo"]).await;
    let mut romeo = chat.node.session("romeo", "orchard").await;
    let max = crate::outlet::DIRECTED_PRESENCE_MAX;
    let all: String = (0..max)
        .map(|index| format!("<presence to='c{index}@localhost'/>"))
        .collect();
    assert_eq!(bounced(&mut romeo, &all).await, None);
    let condition = bounced(&mut romeo, "<presence to='more@localhost'/>").await;
    assert_eq!(condition.as_deref(), Some("policy-violation"));
    assert_eq!(
        bounced(&mut romeo, "<presence to='c1@localhost'/>").await,
        None
    );
    romeo
        .send("<presence to='c1@localhost' type='unavailable'/>")
        .await;
    assert_eq!(
        bounced(&mut romeo, "<presence to='more@localhost'/>").await,
        None
    );
    chat.stop().await;
}

#[tokio::test]
async fn only_who_may_see_a_session_may_ask_it() {
    let chat = ChatNode::start(&["romeo", "juliet", "nurse"]).await;
    chat.befriend("romeo", "juliet").await;
    let mut juliet = chat.node.session("juliet", "balcony").await;
    let mut romeo = chat.node.session("romeo", "orchard").await;
    let mut nurse = chat.node.session("nurse", "house").await;
    let ask = "<iq type='get' id='q' to='juliet@localhost/balcony'><query xmlns='urn:x'/></iq>";
    // Before she has told where she is, not even a contact learns that she is there.
    let unavailable = Some("service-unavailable".to_owned());
    assert_eq!(bounced(&mut romeo, ask).await, unavailable);
    juliet.send("<presence/>").await;
    fence(&mut juliet).await;
    assert_eq!(bounced(&mut romeo, ask).await, None);
    assert_eq!(fence(&mut juliet).await[0].attr("id"), Some("q"));
    assert_eq!(bounced(&mut nurse, ask).await, unavailable);
    juliet.send("<presence to='nurse@localhost'/>").await;
    fence(&mut juliet).await;
    assert_eq!(bounced(&mut nurse, ask).await, None);
    chat.stop().await;
}

#[tokio::test]
async fn a_probe_of_an_offline_contact_is_answered_and_one_by_a_stranger_is_not() {
    let chat = ChatNode::start(&["romeo", "juliet", "nurse"]).await;
    chat.befriend("romeo", "juliet").await;
    let probe = "<presence type='probe' to='juliet@localhost'/>";
    let mut romeo = chat.node.session("romeo", "orchard").await;
    romeo.send(probe).await;
    let came = fence(&mut romeo).await;
    let seen: Vec<_> = came
        .iter()
        .map(|stanza| (stanza.attr("from"), stanza.attr("type")))
        .collect();
    assert_eq!(seen, [(Some("juliet@localhost"), Some("unavailable"))]);
    let mut nurse = chat.node.session("nurse", "house").await;
    nurse.send(probe).await;
    assert_eq!(fence(&mut nurse).await, []);
    chat.stop().await;
}

/// Each round one client comes while its contact changes, goes or comes: at the end each has to see what is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_left_with_presence_that_does_not_hold() {
    let chat = ChatNode::start(&["romeo", "juliet"]).await;
    chat.befriend("romeo", "juliet").await;
    for round in 0..40 {
        let mut juliet = chat.node.session("juliet", "balcony").await;
        let mut romeo = chat.node.session("romeo", "orchard").await;
        juliet.send("<presence><status>0</status></presence>").await;
        let changes = async {
            for index in 1..6 {
                let change = format!("<presence><status>{index}</status></presence>");
                juliet.send(&change).await;
            }
            if round % 2 == 0 {
                juliet.send("<presence type='unavailable'/>").await;
            }
            fence(&mut juliet).await;
        };
        let comes = async {
            romeo.send("<presence/>").await;
            let mut came = fence(&mut romeo).await;
            (came.append(&mut fence(&mut romeo).await), came).1
        };
        let ((), mut came) = soon(async { tokio::join!(changes, comes) }).await;
        came.append(&mut fence(&mut romeo).await);
        let of_juliet = came
            .iter()
            .rfind(|stanza| stanza.attr("from") == Some("juliet@localhost/balcony"));
        let seen = of_juliet.map(|presence| match presence.attr("type") {
            Some(kind) => kind.to_owned(),
            None => presence
                .child("status", ns::CLIENT)
                .unwrap()
                .text()
                .into_owned(),
        });
        match (round % 2, seen.as_deref()) {
            (0, None | Some("unavailable")) | (1, Some("5")) => {}
            (_, seen) => panic!("round {round}: {seen:?} is not what holds"),
        }
        for (client, jid) in [
            (juliet, "juliet@localhost/balcony"),
            (romeo, "romeo@localhost/orchard"),
        ] {
            client.cut();
            crate::testing::until(|| chat.node.find(jid).is_none()).await;
        }
    }
    chat.stop().await;
}

#[tokio::test]
async fn an_anonymous_user_asks_nobody() {
    let chat = ChatNode::start(&["juliet"]).await;
    let mut nobody = Client::anonymous(chat.node.address).await;
    let request = "<presence type='subscribe' to='juliet@localhost'/>";
    let condition = bounced(&mut nobody, request).await;
    assert_eq!(condition.as_deref(), Some("not-allowed"));
    let rosters = crate::modules::roster::store::RosterStore::new(chat.db.clone());
    let roster = rosters.load(&account("juliet")).await.unwrap();
    assert_eq!(roster.items, []);
    chat.stop().await;
}
