use std::collections::HashSet;

use super::SubscriptionType::{Subscribe, Subscribed, Unsubscribe, Unsubscribed};
use super::*;
use crate::modules::roster::subscription::Share;
use crate::storage::Place;
use crate::storage::tests::{Folder, check_statements, fetch_raw, on_each_place, open, run_raw};

const REQUEST: &str = "<presence type='subscribe'><status>\u{1f9a1}</status></presence>";

fn bare(text: &str) -> BareJid {
    BareJid::parse(text).unwrap()
}

fn jid(text: &str) -> Jid {
    Jid::parse(text).unwrap()
}

fn romeo() -> BareJid {
    bare("romeo@localhost")
}

fn edit(name: &str, groups: &[&str]) -> Edit {
    Edit::new(
        name.into(),
        groups.iter().map(|group| (*group).into()).collect(),
    )
    .unwrap()
}

fn changed<T: std::fmt::Debug>(done: Result<Done<T>, Error>) -> T {
    match done.unwrap() {
        Done::Changed(value) => value,
        Done::Full => panic!("the roster is full"),
    }
}

async fn set(rosters: &RosterStore, contact: &str, name: &str, groups: &[&str]) -> Push {
    changed(
        rosters
            .set_item(&romeo(), &jid(contact), edit(name, groups))
            .await,
    )
}

async fn send(
    rosters: &RosterStore,
    contact: &str,
    stanza: SubscriptionType,
) -> (Outbound, Option<Push>) {
    changed(rosters.outbound(&romeo(), &bare(contact), stanza).await)
}

async fn receive(
    rosters: &RosterStore,
    contact: &str,
    stanza: SubscriptionType,
) -> (Inbound, Option<Push>) {
    rosters
        .inbound(&romeo(), &bare(contact), stanza, REQUEST)
        .await
        .unwrap()
}

async fn load(rosters: &RosterStore) -> Roster {
    rosters.load(&romeo()).await.unwrap()
}

async fn state(rosters: &RosterStore, contact: &str) -> Option<State> {
    rosters
        .load_item(&romeo(), &jid(contact))
        .await
        .unwrap()
        .map(|item| item.contact.state)
}

async fn requesters(rosters: &RosterStore) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = rosters.requests(&romeo(), after.as_ref()).await.unwrap();
        let Some(last) = page.last() else { return all };
        assert!(page.len() <= 100);
        after = Some(last.from.clone());
        all.extend(
            page.into_iter()
                .map(|request| request.from.as_str().to_owned()),
        );
    }
}

#[tokio::test]
async fn the_database_takes_every_statement() {
    check_statements(STATEMENTS, &[]).await;
}

#[tokio::test]
async fn an_item_comes_back_as_it_was_set() {
    on_each_place(|db| async move {
        let rosters = RosterStore::new(db);
        let push = set(
            &rosters,
            "juliet@example.org",
            "Juliet \u{1f9a1}",
            &["b", "a", "A", "e\u{301}", "\u{e9}"],
        )
        .await;
        let expected = Item {
            jid: jid("juliet@example.org"),
            name: "Juliet \u{1f9a1}".into(),
            groups: ["A", "a", "b", "e\u{301}", "\u{e9}"]
                .map(String::from)
                .into(),
            contact: Contact {
                state: State::None,
                approved: false,
                listed: true,
            },
        };
        assert_eq!(push.item.as_ref(), Some(&expected));
        assert_eq!(
            load(&rosters).await,
            Roster {
                version: push.version,
                items: vec![expected.clone()]
            }
        );
        let found = rosters
            .load_item(&romeo(), &jid("juliet@example.org"))
            .await
            .unwrap();
        assert_eq!(found, Some(expected));
        // Other names and groups replace the old ones.
        let push = set(&rosters, "juliet@example.org", "", &["c", "a"]).await;
        let item = push.item.unwrap();
        assert_eq!(
            (item.name.as_str(), item.groups.as_slice()),
            ("", ["a".to_owned(), "c".to_owned()].as_slice())
        );
        assert_eq!(load(&rosters).await.items, [item]);
    })
    .await;
}

#[tokio::test]
async fn any_text_comes_back_byte_for_byte() {
    on_each_place(|db| async move {
        let rosters = RosterStore::new(db);
        for text in [
            "\u{1}\u{1f}\u{7f}",
            "\"\\/'",
            "\u{2028}\u{10ffff}",
            "[\"x\",1]",
            " ",
        ] {
            let set = set(&rosters, "juliet@x", text, &[text]).await.item.unwrap();
            assert_eq!(
                (set.name.as_str(), set.groups.as_slice()),
                (text, [text.to_owned()].as_slice())
            );
            assert_eq!(load(&rosters).await.items, [set]);
        }
    })
    .await;
}

#[tokio::test]
async fn rosters_are_apart() {
    on_each_place(|db| async move {
        let rosters = RosterStore::new(db);
        set(&rosters, "juliet@example.org", "Juliet", &["a"]).await;
        for other in ["juliet@localhost", "romeo@example.org"] {
            assert_eq!(rosters.load(&bare(other)).await.unwrap().items, []);
            assert_eq!(
                rosters
                    .remove_item(&bare(other), &jid("juliet@example.org"))
                    .await
                    .unwrap(),
                None
            );
        }
        for other in [
            "juliet@example.com",
            "example.org",
            "juliet@example.org/balcony",
        ] {
            assert_eq!(
                rosters.load_item(&romeo(), &jid(other)).await.unwrap(),
                None
            );
        }
        assert_eq!(load(&rosters).await.items.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_removed_item_is_gone_with_its_groups() {
    on_each_place(|db| async move {
        let rosters = RosterStore::new(db.clone());
        set(&rosters, "juliet@example.org", "Juliet", &["a"]).await;
        set(&rosters, "nurse@example.org", "Nurse", &["a"]).await;
        let (removal, push) = rosters
            .remove_item(&romeo(), &jid("juliet@example.org"))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            removal,
            Removal {
                unsubscribe: false,
                unsubscribed: false,
                share: None
            }
        );
        assert_eq!((push.jid, push.item), (jid("juliet@example.org"), None));
        assert_eq!(
            rosters
                .remove_item(&romeo(), &jid("juliet@example.org"))
                .await
                .unwrap(),
            None
        );
        let roster = load(&rosters).await;
        assert_eq!((roster.version, roster.items.len()), (push.version, 1));
        assert_eq!(fetch_raw(&db, "SELECT * FROM rostergroups").await.len(), 1);
        // Added again it starts anew.
        let push = set(&rosters, "juliet@example.org", "", &[]).await;
        assert_eq!(push.item.unwrap().groups, [""; 0]);
    })
    .await;
}

/// Both users' servers, with what they tell to do done.
#[tokio::test]
async fn two_users_subscribe_to_each_other_and_part() {
    on_each_place(|db| async move {
        let rosters = RosterStore::new(db);
        let (romeo, juliet) = (bare("romeo@localhost"), bare("juliet@localhost"));
        let steps = [
            (
                &romeo,
                &juliet,
                Subscribe,
                State::NonePendingOut,
                State::NonePendingIn,
            ),
            (&juliet, &romeo, Subscribed, State::From, State::To),
            (
                &juliet,
                &romeo,
                Subscribe,
                State::FromPendingOut,
                State::ToPendingIn,
            ),
            (&romeo, &juliet, Subscribed, State::Both, State::Both),
            (&romeo, &juliet, Unsubscribe, State::From, State::To),
            (&romeo, &juliet, Unsubscribed, State::None, State::None),
        ];
        for (from, to, stanza, sender_state, receiver_state) in steps {
            let (out, push) = changed(rosters.outbound(from, to, stanza).await);
            assert!(out.route && push.is_some(), "{stanza:?}");
            let (inbound, _) = rosters.inbound(to, from, stanza, REQUEST).await.unwrap();
            assert!(inbound.deliver, "{stanza:?}");
            let item = async |one: &BareJid, other: &BareJid| {
                let found = rosters
                    .load_item(one, &jid(other.as_str()))
                    .await
                    .unwrap()
                    .unwrap();
                found.contact.state
            };
            assert_eq!(
                (item(from, to).await, item(to, from).await),
                (sender_state, receiver_state),
                "{stanza:?}"
            );
        }
        let subscriptions = rosters.subscriptions(&romeo).await.unwrap();
        assert_eq!(subscriptions, []);
    })
    .await;
}

#[tokio::test]
async fn subscriptions_are_those_where_anybody_sees_anything() {
    let db = open(Place::Memory).await;
    let rosters = RosterStore::new(db);
    set(&rosters, "none@x", "", &[]).await;
    send(&rosters, "asked@x", Subscribe).await;
    receive(&rosters, "asks@x", Subscribe).await;
    send(&rosters, "to@x", Subscribe).await;
    receive(&rosters, "to@x", Subscribed).await;
    receive(&rosters, "from@x", Subscribe).await;
    send(&rosters, "from@x", Subscribed).await;
    let subscriptions = rosters.subscriptions(&romeo()).await.unwrap();
    assert_eq!(
        subscriptions,
        [(jid("from@x"), State::From), (jid("to@x"), State::To)]
    );
}

#[tokio::test]
async fn a_change_keeps_name_and_groups() {
    on_each_place(|db| async move {
        let rosters = RosterStore::new(db);
        set(&rosters, "juliet@x", "Juliet", &["a"]).await;
        let (_, push) = send(&rosters, "juliet@x", Subscribe).await;
        let item = push.unwrap().item.unwrap();
        assert_eq!(
            (item.name.as_str(), item.groups.as_slice()),
            ("Juliet", ["a".to_owned()].as_slice())
        );
        assert_eq!(load(&rosters).await.items, [item]);
        // And an edit keeps the subscription.
        let item = set(&rosters, "juliet@x", "Other", &[]).await.item.unwrap();
        assert_eq!(item.contact.state, State::NonePendingOut);
        assert_eq!(load(&rosters).await.items, [item]);
    })
    .await;
}

#[tokio::test]
async fn a_stranger_who_asks_is_no_item_until_the_user_answers() {
    on_each_place(|db| async move {
        let rosters = RosterStore::new(db.clone());
        let before = load(&rosters).await.version;
        let (decided, push) = receive(&rosters, "stranger@x", Subscribe).await;
        assert!(decided.deliver && push.is_none());
        let roster = load(&rosters).await;
        assert_eq!(roster.version, before, "no client sees a difference");
        assert!(!roster.items[0].contact.listed);
        assert_eq!(
            rosters
                .remove_item(&romeo(), &jid("stranger@x"))
                .await
                .unwrap(),
            None,
            "it is no item"
        );
        assert_eq!(requesters(&rosters).await, ["stranger@x"]);
        let (again, _) = receive(&rosters, "stranger@x", Subscribe).await;
        assert!(!again.deliver);
        // The user may name it without answering; then it is an item and still waits.
        let item = set(&rosters, "stranger@x", "Stranger", &[])
            .await
            .item
            .unwrap();
        assert!(item.contact.listed && item.contact.state == State::NonePendingIn);
        assert_eq!(requesters(&rosters).await, ["stranger@x"]);
        let (decided, push) = send(&rosters, "stranger@x", Subscribed).await;
        assert_eq!(
            (decided.route, decided.share),
            (true, Some(Share::Available))
        );
        assert_eq!(push.unwrap().item.unwrap().contact.state, State::From);
        assert_eq!(requesters(&rosters).await, [""; 0]);
        let kept = fetch_raw(&db, "SELECT 1 FROM rosterusers WHERE askmessage <> ''").await;
        assert!(kept.is_empty(), "an answered request is not kept");
    })
    .await;
}

#[tokio::test]
async fn a_stranger_leaves_nothing_when_refused_or_gone() {
    on_each_place(|db| async move {
        let rosters = RosterStore::new(db.clone());
        receive(&rosters, "refused@x", Subscribe).await;
        let (decided, push) = send(&rosters, "refused@x", Unsubscribed).await;
        assert!(decided.route && push.is_none());
        receive(&rosters, "gone@x", Subscribe).await;
        receive(&rosters, "gone@x", Unsubscribe).await;
        for stanza in [Subscribed, Unsubscribed, Unsubscribe] {
            receive(&rosters, "never@x", stanza).await;
        }
        send(&rosters, "never@x", Unsubscribe).await;
        assert!(fetch_raw(&db, "SELECT * FROM rosterusers").await.is_empty());
        assert!(
            fetch_raw(&db, "SELECT * FROM roster_changes")
                .await
                .is_empty()
        );
    })
    .await;
}

#[tokio::test]
async fn an_approval_in_advance_is_kept_and_used_once() {
    on_each_place(|db| async move {
        let rosters = RosterStore::new(db);
        let (decided, push) = send(&rosters, "friend@x", Subscribed).await;
        assert!(!decided.route);
        assert!(push.unwrap().item.unwrap().contact.approved);
        assert!(load(&rosters).await.items[0].contact.approved);
        let (decided, push) = receive(&rosters, "friend@x", Subscribe).await;
        assert_eq!((decided.reply, decided.deliver), (Some(Subscribed), false));
        let contact = push.unwrap().item.unwrap().contact;
        assert_eq!(
            contact,
            Contact {
                state: State::From,
                approved: false,
                listed: true
            }
        );
        assert_eq!(load(&rosters).await.items[0].contact, contact);
    })
    .await;
}

#[tokio::test]
async fn requests_are_kept_with_their_payload_up_to_a_size() {
    on_each_place(|db| async move {
        let rosters = RosterStore::new(db);
        receive(&rosters, "a@x", Subscribe).await;
        let long = format!(
            "<presence type='subscribe'>{}</presence>",
            "x".repeat(REQUEST_BYTES_MAX)
        );
        rosters
            .inbound(&romeo(), &bare("b@x"), Subscribe, &long)
            .await
            .unwrap();
        // The first of several is the one that is kept.
        rosters
            .inbound(
                &romeo(),
                &bare("a@x"),
                Subscribe,
                "<presence type='subscribe'/>",
            )
            .await
            .unwrap();
        let requests = rosters.requests(&romeo(), None).await.unwrap();
        let kept: Vec<_> = requests
            .iter()
            .map(|request| (request.from.as_str(), request.text.as_str()))
            .collect();
        assert_eq!(kept, [("a@x", REQUEST), ("b@x", "")]);
    })
    .await;
}

#[tokio::test]
async fn a_flood_of_requests_replaces_only_its_own() {
    on_each_place(|db| async move {
        let rosters = RosterStore::new(db.clone());
        set(&rosters, "friend@x", "", &[]).await;
        receive(&rosters, "first@x", Subscribe).await;
        // As if it had come before the flood: the column has whole seconds.
        run_raw(
            &db,
            "UPDATE rosterusers SET created_at = '2020-01-01 00:00:00'",
        )
        .await;
        for index in 0..150 {
            let (decided, _) = receive(&rosters, &format!("flood{index:03}@x"), Subscribe).await;
            assert!(decided.deliver);
        }
        let kept = requesters(&rosters).await;
        assert_eq!(kept.len(), 100);
        assert!(kept.contains(&"first@x".to_owned()) && kept.contains(&"flood149@x".to_owned()));
        // A contact of the roster is not part of the flood.
        receive(&rosters, "friend@x", Subscribe).await;
        let kept = requesters(&rosters).await;
        assert_eq!(kept.len(), 101);
        assert!(kept.contains(&"friend@x".to_owned()));
    })
    .await;
}

/// Contacts c0001@x to c1000@x.
async fn fill_with_a_thousand(db: &Db) {
    let row = |index| format!("('localhost', 'romeo', 'c{index:04}@x', '', 'N', 'N', '', TRUE)");
    let rows: Vec<_> = (1..=1_000).map(row).collect();
    let insert = "INSERT INTO rosterusers (server, username, jid, nick, subscription, ask, askmessage, listed) VALUES";
    run_raw(db, format!("{insert} {}", rows.join(", "))).await;
}

#[tokio::test]
async fn the_thousand_and_first_item_is_refused() {
    on_each_place(|db| async move {
        let rosters = RosterStore::new(db.clone());
        fill_with_a_thousand(&db).await;
        let version = load(&rosters).await.version;
        assert_eq!(
            rosters
                .set_item(&romeo(), &jid("new@x"), edit("", &[]))
                .await
                .unwrap(),
            Done::Full
        );
        for stanza in [Subscribe, Subscribed] {
            assert_eq!(
                rosters
                    .outbound(&romeo(), &bare("new@x"), stanza)
                    .await
                    .unwrap(),
                Done::Full
            );
        }
        assert_eq!(load(&rosters).await.version, version);
        assert_eq!(
            rosters.load_item(&romeo(), &jid("new@x")).await.unwrap(),
            None
        );
        // What is there can change; a stranger can ask, be refused, and takes no place.
        set(&rosters, "c0001@x", "renamed", &["a"]).await;
        send(&rosters, "c0002@x", Subscribe).await;
        receive(&rosters, "new@x", Subscribe).await;
        assert_eq!(
            rosters
                .outbound(&romeo(), &bare("new@x"), Subscribed)
                .await
                .unwrap(),
            Done::Full
        );
        send(&rosters, "new@x", Unsubscribed).await;
        rosters
            .remove_item(&romeo(), &jid("c0003@x"))
            .await
            .unwrap();
        set(&rosters, "new@x", "", &[]).await;
        assert_eq!(
            rosters
                .set_item(&romeo(), &jid("newer@x"), edit("", &[]))
                .await
                .unwrap(),
            Done::Full
        );
        // Another account has a roster of its own.
        changed(
            rosters
                .set_item(&bare("juliet@localhost"), &jid("new@x"), edit("", &[]))
                .await,
        );
    })
    .await;
}

#[tokio::test]
async fn a_roster_has_a_limit_of_bytes() {
    on_each_place(|db| async move {
        let rosters = RosterStore::new(db);
        // What differs stands in front: the key of MySQL's table holds only the beginning.
        let groups: Vec<String> = (0..50).map(|index| format!("{index:x<1000}")).collect();
        let large = || Edit::new(String::new(), groups.clone()).unwrap();
        for index in 0..10 {
            let contact = jid(&format!("c{index}@localhost"));
            changed(rosters.set_item(&romeo(), &contact, large()).await);
        }
        let last = jid("last@localhost");
        let refused = rosters.set_item(&romeo(), &last, large()).await.unwrap();
        assert_eq!(refused, Done::Full);
        assert_eq!(
            rosters.load_item(&romeo(), &last).await.unwrap(),
            None,
            "nothing of it is kept"
        );
        set(&rosters, "last@localhost", "small", &["one"]).await;
        // What gets smaller, or stays as large, is never refused.
        let first = jid("c0@localhost");
        changed(rosters.set_item(&romeo(), &first, edit("", &["two"])).await);
        changed(rosters.set_item(&romeo(), &last, large()).await);
    })
    .await;
}

#[tokio::test]
async fn a_login_learns_in_one_statement_what_waits() {
    on_each_place(|db| async move {
        let rosters = RosterStore::new(db.clone());
        let login = || async { rosters.overview(&romeo()).await.unwrap() };
        let nothing = Overview {
            subscriptions: Vec::new(),
            has_requests: false,
            has_messages: false,
        };
        assert_eq!(login().await, nothing);
        receive(&rosters, "nurse@localhost", Subscribe).await;
        assert!(login().await.has_requests);
        send(&rosters, "nurse@localhost", Subscribed).await;
        let expected = Overview {
            subscriptions: vec![(jid("nurse@localhost"), State::From)],
            ..nothing
        };
        assert_eq!(login().await, expected);
        let message = "INSERT INTO offline_message (server, username, timestamp, from_jid, packet)
                       VALUES ('localhost', 'romeo', 1, 'a@b', '<message/>')";
        run_raw(&db, message).await;
        assert!(login().await.has_messages);
    })
    .await;
}

#[test]
fn names_and_groups_have_limits() {
    let check = |name: usize, groups: Vec<String>| Edit::new("x".repeat(name), groups).map(drop);
    let numbered = |count: usize| (0..count).map(|index| index.to_string()).collect();
    assert_eq!(check(1_023, Vec::new()), Ok(()));
    assert_eq!(check(1_024, Vec::new()), Err(EditError::NameTooLong));
    assert_eq!(check(0, vec!["x".repeat(1_023)]), Ok(()));
    assert_eq!(
        check(0, vec!["x".repeat(1_024)]),
        Err(EditError::GroupTooLong)
    );
    assert_eq!(
        check(0, vec!["a".into(), String::new()]),
        Err(EditError::GroupEmpty)
    );
    assert_eq!(
        check(0, vec!["a".into(), "b".into(), "a".into()]),
        Err(EditError::GroupTwice)
    );
    assert_eq!(check(0, vec!["a".into(), "A".into()]), Ok(()));
    assert_eq!(check(0, numbered(64)), Ok(()));
    assert_eq!(check(0, numbered(65)), Err(EditError::TooManyGroups));
}

async fn since(rosters: &RosterStore, known: &str) -> Since {
    rosters.load_since(&romeo(), known).await.unwrap()
}

/// Addresses of changes; removed ones with a minus sign.
async fn changes(rosters: &RosterStore, known: &str) -> Vec<String> {
    match since(rosters, known).await {
        Since::Changes(pushes) => {
            let current = load(rosters).await;
            assert_eq!(pushes.last().unwrap().version, current.version);
            for push in &pushes {
                let there = current.items.iter().find(|item| item.jid == push.jid);
                assert_eq!(push.item.as_ref(), there);
            }
            let name = |push: &Push| {
                format!(
                    "{}{}",
                    if push.item.is_none() { "-" } else { "" },
                    push.jid.as_str()
                )
            };
            pushes.iter().map(name).collect()
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_client_learns_what_it_has_missed() {
    on_each_place(|db| async move {
        let rosters = RosterStore::new(db);
        let v0 = load(&rosters).await.version;
        assert_eq!(since(&rosters, &v0).await, Since::Current);
        let v1 = set(&rosters, "a@x", "", &[]).await.version;
        let v2 = set(&rosters, "b@x", "", &["g"]).await.version;
        let v3 = set(&rosters, "a@x", "again", &[]).await.version;
        assert_eq!(since(&rosters, &v3).await, Since::Current);
        assert_eq!(changes(&rosters, &v2).await, ["a@x"]);
        assert_eq!(
            changes(&rosters, &v1).await,
            ["b@x", "a@x"],
            "each contact once, by its last change"
        );
        rosters.remove_item(&romeo(), &jid("b@x")).await.unwrap();
        assert_eq!(changes(&rosters, &v1).await, ["a@x", "-b@x"]);
        let v5 = set(&rosters, "b@x", "", &[]).await.version;
        assert_eq!(changes(&rosters, &v3).await, ["b@x"]);
        let versions = HashSet::from([v0.clone(), v1, v2, v3, v5.clone()]);
        assert_eq!(versions.len(), 5);
        // From the end on, nothing; what was never a version of this roster, all.
        assert_eq!(since(&rosters, &v5).await, Since::Current);
        for unknown in ["", "nonsense", "1-0000000000000000", "\u{1f9a1}"] {
            assert_eq!(
                since(&rosters, unknown).await,
                Since::Whole(load(&rosters).await),
                "{unknown}"
            );
        }
        let of_another = rosters
            .load_since(&bare("juliet@localhost"), &v5)
            .await
            .unwrap();
        assert!(matches!(of_another, Since::Whole(Roster { items, .. }) if items.is_empty()));
    })
    .await;
}

#[tokio::test]
async fn a_set_that_changes_nothing_makes_no_version() {
    on_each_place(|db| async move {
        let rosters = RosterStore::new(db);
        let first = set(&rosters, "a@x", "Name", &["g", "h"]).await;
        let second = set(&rosters, "a@x", "Name", &["h", "g"]).await;
        assert_eq!(first, second);
    })
    .await;
}

#[tokio::test]
async fn changes_are_forgotten_after_a_while() {
    let db = open(Place::Memory).await;
    let rosters = RosterStore::new(db.clone());
    let mut versions = Vec::new();
    for index in 0..400 {
        versions.push(set(&rosters, "a@x", &index.to_string(), &[]).await.version);
    }
    let kept = i64::try_from(fetch_raw(&db, "SELECT * FROM roster_changes").await.len()).unwrap();
    assert!(
        (CHANGES_MAX..CHANGES_MAX + CHANGES_SLACK).contains(&kept),
        "{kept}"
    );
    assert!(matches!(
        since(&rosters, &versions[0]).await,
        Since::Whole(_)
    ));
    assert_eq!(changes(&rosters, &versions[399 - 100]).await, ["a@x"]);
}

#[tokio::test]
async fn a_restored_dump_never_brings_a_version_twice() {
    let folder = Folder::new();
    let rosters = RosterStore::new(open(folder.database()).await);
    let before = set(&rosters, "a@x", "", &[]).await.version;
    let dump = folder.copy_as_if_killed();
    let mut lost = Vec::new();
    for index in 0..5 {
        lost.push(
            set(&rosters, "lost@x", &index.to_string(), &[])
                .await
                .version,
        );
    }

    let restored = RosterStore::new(open(dump.database()).await);
    for version in &lost {
        assert!(matches!(since(&restored, version).await, Since::Whole(_)));
    }
    let mut new = Vec::new();
    for index in 0..5 {
        new.push(
            set(&restored, "lost@x", &index.to_string(), &[])
                .await
                .version,
        );
    }
    for (lost, new) in lost.iter().zip(&new) {
        assert_ne!(lost, new);
        let Since::Whole(roster) = since(&restored, lost).await else {
            panic!("the client's roster is not ours")
        };
        assert_eq!(roster.items.len(), 2);
    }
    // What both have in common is still known.
    assert_eq!(changes(&restored, &before).await, ["lost@x"]);
}

#[tokio::test]
async fn a_roster_without_a_version_has_one_by_its_content() {
    let db = open(Place::Memory).await;
    let rosters = RosterStore::new(db.clone());
    let mut seen = HashSet::<String>::new();
    let steps = [
        "SELECT 1",
        "INSERT INTO rosterusers (server, username, jid, nick, subscription, ask, askmessage)
         VALUES ('localhost', 'romeo', 'a@x', '', 'N', 'N', '')",
        "UPDATE rosterusers SET nick = 'n'",
        "UPDATE rosterusers SET subscription = 'B'",
        "UPDATE rosterusers SET subscription = 'F', ask = 'O'",
        "UPDATE rosterusers SET approved = 1",
        "INSERT INTO rostergroups VALUES ('localhost', 'romeo', 'a@x', 'g')",
        "UPDATE rostergroups SET grp = 'n'",
        "INSERT INTO rosterusers (server, username, jid, nick, subscription, ask, askmessage)
         VALUES ('localhost', 'romeo', 'b@x', '', 'N', 'N', '')",
        "UPDATE rostergroups SET jid = 'b@x'",
    ];
    for step in steps {
        run_raw(&db, step).await;
        let version = load(&rosters).await.version;
        assert_eq!(since(&rosters, &version).await, Since::Current);
        for old in &seen {
            assert!(
                matches!(since(&rosters, old).await, Since::Whole(_)),
                "{step}"
            );
        }
        assert!(seen.insert(version), "{step}");
    }
    // Somebody who has only asked is not seen.
    let version = load(&rosters).await.version;
    receive(&rosters, "stranger@x", Subscribe).await;
    assert_eq!(load(&rosters).await.version, version);
}

#[tokio::test]
async fn rows_of_mongooseim_are_read() {
    let db = open(Place::Memory).await;
    run_raw(
        &db,
        "INSERT INTO rosterusers (server, username, jid, nick, subscription, ask, askmessage) VALUES
         ('localhost', 'romeo', 'a@x', 'A', 'N', 'N', ''), ('localhost', 'romeo', 'b@x', '', 'N', 'O', ''),
         ('localhost', 'romeo', 'c@x', '', 'N', 'I', 'Let me in'), ('localhost', 'romeo', 'd@x', '', 'N', 'B', ''),
         ('localhost', 'romeo', 'e@x', '', 'T', 'N', ''), ('localhost', 'romeo', 'f@x', '', 'T', 'I', ''),
         ('localhost', 'romeo', 'g@x', '', 'F', 'N', ''), ('localhost', 'romeo', 'h@x', '', 'F', 'O', ''),
         ('localhost', 'romeo', 'i@x', '', 'B', 'N', ''), ('localhost', 'romeo', 'j@x', '', 'N', 'S', ''),
         ('localhost', 'romeo', 'k@x', '', 'F', 'U', ''), ('localhost', 'romeo', 'l@x', '', 'B', 'B', '');
         INSERT INTO rostergroups VALUES ('localhost', 'romeo', 'a@x', 'Friends'), ('localhost', 'romeo', 'z@x', 'g');
         INSERT INTO roster_version VALUES ('localhost', 'romeo', 'theirs');",
    )
    .await;
    let rosters = RosterStore::new(db);
    let roster = load(&rosters).await;
    let states: Vec<_> = roster
        .items
        .iter()
        .map(|item| (item.contact.state, item.contact.listed))
        .collect();
    let expected = [
        (State::None, true),
        (State::NonePendingOut, true),
        (State::NonePendingIn, false),
        (State::NonePendingOutIn, true),
        (State::To, true),
        (State::ToPendingIn, true),
        (State::From, true),
        (State::FromPendingOut, true),
        (State::Both, true),
        (State::NonePendingOut, true),
        (State::From, true),
        (State::Both, true),
    ];
    assert_eq!(states, expected);
    assert_eq!(roster.items[0].groups, ["Friends"]);
    // A client keeps its cache when the server is replaced.
    assert_eq!(since(&rosters, "theirs").await, Since::Current);
    let requests = rosters.requests(&romeo(), None).await.unwrap();
    let texts: Vec<_> = requests
        .iter()
        .map(|request| (request.from.as_str(), request.text.as_str()))
        .collect();
    assert_eq!(texts, [("c@x", "Let me in"), ("d@x", ""), ("f@x", "")]);
    // And changes begin.
    send(&rosters, "c@x", Subscribed).await;
    assert_eq!(state(&rosters, "c@x").await, Some(State::From));
    assert!(matches!(since(&rosters, "theirs").await, Since::Whole(_)));
}

#[tokio::test]
async fn every_state_survives_the_columns() {
    for wanted in State::ALL {
        let (subscription, ask) = write_state(wanted);
        let db = open(Place::Memory).await;
        run_raw(&db, "INSERT INTO rosterusers (server, username, jid, nick, subscription, ask, askmessage, listed)
                      VALUES ('localhost', 'romeo', 'a@x', '', '', '', '', 1)")
        .await;
        run_raw(
            &db,
            format!("UPDATE rosterusers SET subscription = '{subscription}', ask = '{ask}'"),
        )
        .await;
        assert_eq!(state(&RosterStore::new(db), "a@x").await, Some(wanted));
    }
}

#[tokio::test]
async fn rows_without_meaning_are_errors() {
    let broken = [
        "UPDATE rosterusers SET subscription = 'X'",
        "UPDATE rosterusers SET subscription = ''",
        "UPDATE rosterusers SET subscription = 'both'",
        "UPDATE rosterusers SET ask = 'X'",
        "UPDATE rosterusers SET jid = ''",
        "UPDATE rosterusers SET jid = 'a@b@c'",
        "UPDATE rosterusers SET jid = CAST(x'ff' AS TEXT)",
        "UPDATE rosterusers SET nick = CAST(x'ff' AS TEXT)",
        "UPDATE rostergroups SET grp = CAST(x'ff' AS TEXT)",
        "UPDATE roster_version SET version = CAST(x'ff' AS TEXT)",
    ];
    for sql in broken {
        let db = open(Place::Memory).await;
        let rosters = RosterStore::new(db.clone());
        set(&rosters, "a@x", "A", &["g"]).await;
        run_raw(&db, sql).await;
        let loaded = rosters.load(&romeo()).await;
        assert!(
            matches!(loaded, Err(Error::Corrupt { .. })),
            "{sql}: {loaded:?}"
        );
        let changed = rosters.load_since(&romeo(), "1-0").await;
        assert!(
            matches!(changed, Err(Error::Corrupt { .. })),
            "{sql}: {changed:?}"
        );
    }
    let db = open(Place::Memory).await;
    let rosters = RosterStore::new(db.clone());
    set(&rosters, "a@x", "A", &["g"]).await;
    run_raw(&db, "UPDATE rosterusers SET subscription = 'X'").await;
    let sent = rosters.outbound(&romeo(), &bare("a@x"), Subscribe).await;
    assert!(matches!(sent, Err(Error::Corrupt { .. })), "{sent:?}");
    let came = rosters
        .inbound(&romeo(), &bare("a@x"), Subscribe, REQUEST)
        .await;
    assert!(matches!(came, Err(Error::Corrupt { .. })), "{came:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn changes_at_once_do_not_overwrite_each_other() {
    on_each_place(|db| async move {
        let rosters = RosterStore::new(db);
        let start = set(&rosters, "shared@x", "", &[]).await.version;
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..20 {
            let rosters = rosters.clone();
            tasks.spawn(async move {
                let mut versions = vec![
                    set(&rosters, &format!("own{task:02}@x"), "", &["g"])
                        .await
                        .version,
                ];
                let stanza = if task % 2 == 0 {
                    Subscribe
                } else {
                    Unsubscribe
                };
                versions.extend(
                    send(&rosters, "shared@x", stanza)
                        .await
                        .1
                        .map(|push| push.version),
                );
                versions.push(
                    set(&rosters, "shared@x", &task.to_string(), &[])
                        .await
                        .version,
                );
                versions
            });
        }
        let versions = tasks.join_all().await.concat();
        assert_eq!(
            versions.iter().collect::<HashSet<_>>().len(),
            versions.len()
        );
        let roster = load(&rosters).await;
        assert_eq!(roster.items.len(), 21);
        assert!(versions.contains(&roster.version));
        let mut missed = changes(&rosters, &start).await;
        missed.sort();
        let all: Vec<_> = roster
            .items
            .iter()
            .map(|item| item.jid.as_str().to_owned())
            .collect();
        assert_eq!(missed, all);
    })
    .await;
}

#[test]
fn a_request_is_delivered_as_it_came_or_made_again() {
    let delivered = |text: &str| {
        let stanza = Request {
            from: jid("a@x"),
            text: text.into(),
        }
        .to_stanza(&romeo())
        .unwrap();
        assert_eq!(stanza.stanza_type(), StanzaType::Subscribe);
        assert_eq!(stanza.from().unwrap().as_str(), "a@x");
        assert_eq!(stanza.to().unwrap().as_str(), "romeo@localhost");
        stanza.to_element()
    };
    let status = |text: &str| {
        delivered(text)
            .child("status", ns::CLIENT)
            .map(|status| status.text().into_owned())
    };
    let whole = "<presence type='subscribe' from='a@x' to='romeo@localhost' id='1'><status>hi</status>\
                 <nick xmlns='http://jabber.org/protocol/nick'>A</nick></presence>";
    let element = delivered(whole);
    assert_eq!(element.attr("id"), Some("1"));
    assert!(
        element
            .child("nick", "http://jabber.org/protocol/nick")
            .is_some()
    );
    assert_eq!(status(""), None);
    // Texts that MongooseIM has kept.
    for text in [
        "Let me in",
        "<3",
        "<presence",
        "<presence type='unavailable'/>",
        "a & b",
    ] {
        assert_eq!(status(text).as_deref(), Some(text));
    }
}
