//! Requests, pushes and what becomes of contacts; the words of the RFC are in `tests/scenarios/roster.txt`.
use std::collections::BTreeMap;

use super::*;
use crate::modules::testing::{ChatNode, account, condition, fence};
use crate::testing::{Client, DOMAIN, soon};

fn query(items: &str) -> Element {
    let xml = format!("<query xmlns='jabber:iq:roster'>{items}</query>");
    Element::parse(xml.as_bytes(), ns::CLIENT).unwrap()
}

#[test]
fn a_set_has_one_item_that_is_one() {
    use StanzaCondition::{BadRequest, NotAcceptable};
    let long = "x".repeat(1_024);
    let groups: String = (0..65)
        .map(|index| format!("<group>{index}</group>"))
        .collect();
    for (items, expected) in [
        (String::new(), BadRequest),
        ("<item/>".into(), BadRequest),
        ("<item jid=''/>".into(), BadRequest),
        ("<item jid='@b'/>".into(), BadRequest),
        ("<item jid='a@b'/><item jid='c@b'/>".into(), BadRequest),
        ("<thing jid='a@b'/>".into(), BadRequest),
        ("<item xmlns='other' jid='a@b'/>".into(), BadRequest),
        ("<item jid='romeo@localhost'/>".into(), BadRequest),
        ("<item jid='ROMEO@localhost/x'/>".into(), BadRequest),
        (
            "<item jid='romeo@localhost' subscription='remove'/>".into(),
            BadRequest,
        ),
        (
            "<item jid='a@b'><group>g</group><group>g</group></item>".into(),
            BadRequest,
        ),
        ("<item jid='a@b'><group/></item>".into(), NotAcceptable),
        (format!("<item jid='a@b' name='{long}'/>"), NotAcceptable),
        (
            format!("<item jid='a@b'><group>{long}</group></item>"),
            NotAcceptable,
        ),
        (format!("<item jid='a@b'>{groups}</item>"), NotAcceptable),
    ] {
        let refused = parse_set(&account("romeo"), &query(&items)).err();
        let condition = refused.map(|error| error.condition);
        assert_eq!(condition, Some(expected), "{items}");
    }
}

#[test]
fn a_set_hears_nothing_of_the_subscription_but_its_end() {
    let parse = |items: &str| parse_set(&account("romeo"), &query(items)).unwrap();
    let put = "<item jid='A@b' subscription='both' ask='subscribe' approved='true' name='n'><group>g</group></item>";
    match parse(put) {
        Set::Put(jid, edit) => {
            assert_eq!(jid.as_str(), "a@b");
            assert_eq!(edit, Edit::new("n".into(), vec!["g".into()]).unwrap());
        }
        Set::Remove(_) => panic!("nothing is removed"),
    }
    assert!(matches!(
        parse("<item jid='a@b' subscription='remove'><group/></item>"),
        Set::Remove(jid) if jid.as_str() == "a@b"
    ));
}

#[test]
fn an_item_shows_what_the_rfc_names() {
    let state = subscription::State::FromPendingOut;
    let item = Item {
        jid: Jid::parse("a@b").unwrap(),
        name: "<&>".into(),
        groups: vec!["g".into()],
        contact: Contact {
            state,
            approved: true,
            listed: true,
        },
    };
    let expected = "<item xmlns='jabber:iq:roster' jid='a@b' name='&lt;&amp;&gt;' subscription='from' \
                    ask='subscribe' approved='true'><group>g</group></item>";
    assert_eq!(
        item_element(&item),
        Element::parse(expected.as_bytes(), "").unwrap()
    );
}

async fn set(client: &mut Client, item: &str) -> Option<String> {
    client
        .send(&format!(
            "<iq type='set' id='s'><query xmlns='jabber:iq:roster'>{item}</query></iq>"
        ))
        .await;
    let came = fence(client).await;
    let answer = came.iter().find(|stanza| stanza.attr("id") == Some("s"));
    answer.and_then(condition).map(str::to_owned)
}

#[tokio::test]
async fn an_account_that_ends_with_its_session_keeps_no_contacts() {
    let chat = ChatNode::start(&[]).await;
    let mut nobody = Client::anonymous(chat.node.address).await;
    let condition = set(&mut nobody, "<item jid='a@b'/>").await;
    assert_eq!(condition.as_deref(), Some("not-allowed"));
    chat.stop().await;
}

/// What a client knows of its roster.
#[derive(Default)]
struct Model(BTreeMap<String, String>);

impl Model {
    fn apply(&mut self, stanza: &Element) {
        let Some(query) = stanza.child("query", ns::ROSTER) else {
            return;
        };
        if stanza.attr("type") == Some("result") {
            self.0.clear();
        }
        for item in query.elements() {
            let jid = item.attr("jid").unwrap().to_owned();
            if item.attr("subscription") == Some("remove") {
                self.0.remove(&jid);
            } else {
                let name = item.attr("name").unwrap_or_default();
                self.0.insert(jid, name.to_owned());
            }
        }
    }
}

/// One client changes the roster, the other reads it over and over: whatever the order, what it was told last is true.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pushes_never_come_before_the_roster_that_they_change() {
    let chat = ChatNode::start(&["romeo"]).await;
    let mut writer = chat.online("romeo", "writer").await;
    let mut reader = chat.node.session("romeo", "reader").await;
    let writes = async {
        for index in 0..150 {
            let contact = index % 7;
            let item = match index % 5 {
                4 => format!("<item jid='c{contact}@b' subscription='remove'/>"),
                _ => format!("<item jid='c{contact}@b' name='{index}'/>"),
            };
            set(&mut writer, &item).await;
        }
    };
    let reads = async {
        let mut model = Model::default();
        for _ in 0..60 {
            reader
                .send("<iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")
                .await;
            let came = fence(&mut reader).await;
            came.iter().for_each(|stanza| model.apply(stanza));
        }
        model
    };
    let ((), mut model) = soon(async { tokio::join!(writes, reads) }).await;
    fence(&mut reader)
        .await
        .iter()
        .for_each(|stanza| model.apply(stanza));
    let store = RosterStore::new(chat.db.clone());
    let roster = store.load(&account("romeo")).await.unwrap();
    let expected: BTreeMap<_, _> = roster
        .items
        .into_iter()
        .map(|item| (item.jid.as_str().to_owned(), item.name))
        .collect();
    assert_eq!(model.0, expected);
    chat.stop().await;
}

/// The same without chance: the turn lasts until the answer stands in the outlet.
#[tokio::test]
async fn nobody_pushes_between_a_roster_that_was_read_and_its_answer() {
    let chat = ChatNode::start(&["romeo"]).await;
    let router = &chat.node.router;
    let roster = Roster {
        store: RosterStore::new(chat.db.clone()),
        known: Known::new(),
        accounts: router.host(DOMAIN).unwrap().auth.accounts(),
        versioning: true,
    };
    let (session, _socket) = crate::testing::outlet(&router.ledger, 99).await;
    session.bind(protocol::FullJid::parse("romeo@localhost/orchard").unwrap());
    let mut route = router.scope();
    let romeo = account("romeo");
    let answer = roster.get(&mut route, &romeo, &session, &query("")).await;
    assert!(answer.unwrap().is_some() && session.has(Flag::Interested));
    let mut push = Box::pin(roster.known.turn(&romeo));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(push.as_mut().poll(&mut cx).is_pending());
    route.until_answered = None;
    assert!(push.as_mut().poll(&mut cx).is_ready());
    chat.stop().await;
}

#[tokio::test]
async fn what_is_shown_last_is_what_holds() {
    let ledger = crate::ledger::Ledger::new(crate::testing::metrics().ledger.clone());
    let (session, _socket) = crate::testing::outlet(&ledger, 1).await;
    session.bind(protocol::FullJid::parse("juliet@localhost/balcony").unwrap());
    let presence = |status: &str| {
        let xml = format!("<presence><status>{status}</status></presence>");
        let element = Element::parse(xml.as_bytes(), ns::CLIENT).unwrap();
        Some((Arc::new(Stanza::from_element(&element).unwrap()), 0))
    };
    let to = Jid::parse("romeo@localhost").unwrap();
    // While one thing is shown, the next one happens.
    for (happens, expected) in [
        (vec![], vec!["one"]),
        (
            vec![presence("two"), presence("three")],
            vec!["one", "two", "three"],
        ),
        (vec![None], vec!["one", ""]),
        (vec![None, presence("two")], vec!["one", "", "two"]),
    ] {
        session.set_presence(presence("one"));
        let mut happens = happens.into_iter();
        let mut shown = Vec::new();
        show_with(&session, to.as_ref(), |stanza| {
            assert_eq!(stanza.to().unwrap().as_str(), "romeo@localhost");
            let element = stanza.to_element();
            let status = element.child("status", ns::CLIENT);
            assert_eq!(
                status.is_none(),
                element.attr("type") == Some("unavailable")
            );
            shown.push(status.map_or(String::new(), |status| status.text().into_owned()));
            if let Some(next) = happens.next() {
                session.set_presence(next);
            }
        });
        assert_eq!(shown, expected);
    }
    session.set_presence(None);
    show_with(&session, to.as_ref(), |_| {
        panic!("there is nothing to show")
    });
}

#[tokio::test]
async fn contacts_of_a_removed_account_are_told_and_see_no_successor() {
    let chat = ChatNode::start(&["romeo", "juliet"]).await;
    chat.befriend("romeo", "juliet").await;
    let mut juliet = chat.online("juliet", "balcony").await;
    let host = chat.node.router.host(DOMAIN).unwrap();
    let mut event = AccountRemoved {
        account: account("romeo"),
    };
    let mut route = chat.node.router.scope();
    assert!(host.hooks.run(&mut route, &mut event).await.is_continue());
    drop(route);
    let came = fence(&mut juliet).await;
    let kinds: Vec<_> = came
        .iter()
        .filter(|stanza| stanza.name() == "presence")
        .map(|stanza| (stanza.attr("from"), stanza.attr("type")))
        .collect();
    let from = Some("romeo@localhost");
    assert_eq!(
        kinds,
        [(from, Some("unsubscribe")), (from, Some("unsubscribed"))]
    );
    let store = RosterStore::new(chat.db.clone());
    let roster = store.load(&account("juliet")).await.unwrap();
    assert_eq!(roster.items[0].contact.state, subscription::State::None);
    chat.stop().await;
}

#[tokio::test]
async fn a_roster_that_is_half_a_megabyte_reaches_a_slow_client() {
    let chat = ChatNode::start(&["romeo", "juliet"]).await;
    let store = RosterStore::new(chat.db.clone());
    for index in 0..500 {
        let jid = Jid::parse(&format!("c{index}@localhost")).unwrap();
        let edit = Edit::new("x".repeat(1_000), Vec::new()).unwrap();
        let done = store.set_item(&account("romeo"), &jid, edit).await.unwrap();
        assert!(matches!(done, Done::Changed(_)));
    }
    let mut romeo = chat.node.session("romeo", "orchard").await;
    romeo
        .send("<presence/><iq type='get' id='r'><query xmlns='jabber:iq:roster'/></iq>")
        .await;
    // More comes in while the roster waits for the socket.
    let mut juliet = chat.node.session("juliet", "balcony").await;
    for index in 0..20 {
        juliet
            .chat("romeo@localhost/orchard", &index.to_string())
            .await;
    }
    fence(&mut juliet).await;
    let came = fence(&mut romeo).await;
    let roster = came.iter().find(|stanza| stanza.attr("id") == Some("r"));
    let query = roster.unwrap().child("query", ns::ROSTER).unwrap();
    assert_eq!(query.elements().count(), 500);
    assert_eq!(
        came.iter()
            .filter(|stanza| stanza.name() == "message")
            .count(),
        20
    );
    chat.stop().await;
}
