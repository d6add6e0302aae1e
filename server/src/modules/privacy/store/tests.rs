use super::*;
use crate::storage::Place;
use crate::storage::tests::{check_statements, on_each_place, open, run_raw};

fn account(text: &str) -> BareJid {
    BareJid::parse(text).unwrap()
}

fn jid(text: &str) -> Jid {
    Jid::parse(text).unwrap()
}

fn list(name: &str, addresses: &[&str]) -> List {
    let item = |(order, address): (u32, &&str)| Item {
        action: Action::Deny,
        ..Item::block(order, jid(address))
    };
    List::new(name, (1..).zip(addresses).map(item).collect()).unwrap()
}

fn blocked(list: Option<&List>) -> Vec<&str> {
    list.map_or_else(Vec::new, |list| list.blocked().map(Jid::as_str).collect())
}

async fn edit(store: &PrivacyStore, account: &BareJid, edit: Edit) -> Option<Vec<String>> {
    match store.edit(account, edit).await.unwrap() {
        Done::Full => panic!("there is room"),
        Done::Changed(changed) => {
            let names = |jids: Vec<Jid>| jids.iter().map(|jid| jid.as_str().to_owned()).collect();
            changed.map(names)
        }
    }
}

#[tokio::test]
async fn the_database_takes_every_statement() {
    check_statements(STATEMENTS, &[]).await;
}

#[tokio::test]
async fn lists_are_what_was_put_there() {
    on_each_place(|db| async move {
        let store = PrivacyStore::new(db);
        let juliet = account("juliet@localhost");
        let others = [account("nurse@localhost"), account("juliet@example.org")];
        let some = Kinds {
            message: true,
            presence_out: true,
            ..Kinds::default()
        };
        let subjects = [
            Subject::Address(jid("a@b/\u{1f9a1}")),
            Subject::Group("Foes & friends".into()),
            Subject::Subscription(Subscription::None),
            Subject::Everybody,
        ];
        let items = (0..).zip(subjects).map(|(order, subject)| Item {
            order: order * 1_000,
            subject,
            action: if order == 1 {
                Action::Allow
            } else {
                Action::Deny
            },
            kinds: if order == 2 { some } else { Kinds::ALL },
        });
        let first = List::new("first \u{e9}", items.collect()).unwrap();
        assert_eq!(
            store.put(&juliet, first.clone()).await.unwrap(),
            Done::Changed(())
        );
        let empty = List::new("empty", Vec::new()).unwrap();
        store.put(&juliet, empty.clone()).await.unwrap();
        let read = store.list(&juliet, &first.name).await.unwrap();
        assert_eq!(read.as_ref(), Some(&first));
        assert_eq!(store.list(&juliet, "empty").await.unwrap(), Some(empty));
        assert_eq!(store.list(&juliet, "First \u{e9}").await.unwrap(), None);
        for other in &others {
            assert_eq!(store.list(other, &first.name).await.unwrap(), None);
            assert_eq!(store.names(other).await.unwrap(), Names::default());
        }
        // Items go, come, and change their places.
        let second = list(&first.name, &["x@y", "a@b/\u{1f9a1}"]);
        store.put(&juliet, second.clone()).await.unwrap();
        let read = store.list(&juliet, &first.name).await.unwrap();
        assert_eq!(read, Some(second));
    })
    .await;
}

#[tokio::test]
async fn the_default_list_is_one_of_them() {
    on_each_place(|db| async move {
        let store = PrivacyStore::new(db);
        let juliet = account("juliet@localhost");
        store.put(&juliet, list("a", &["a@b"])).await.unwrap();
        store.put(&juliet, list("b", &["b@b"])).await.unwrap();
        assert_eq!(store.default_list(&juliet).await.unwrap(), None);
        assert!(!store.set_default(&juliet, Some("c")).await.unwrap());
        assert!(store.set_default(&juliet, Some("a")).await.unwrap());
        assert!(store.set_default(&juliet, Some("b")).await.unwrap());
        let default = store.default_list(&juliet).await.unwrap();
        assert_eq!(blocked(default.as_ref()), ["b@b"]);
        let names = Names {
            all: vec!["a".into(), "b".into()],
            default: Some("b".into()),
        };
        assert_eq!(store.names(&juliet).await.unwrap(), names);
        for (name, expected) in [
            ("b", Removal::IsDefault),
            ("c", Removal::Missing),
            ("a", Removal::Removed),
            ("a", Removal::Missing),
        ] {
            assert_eq!(
                store.remove(&juliet, name).await.unwrap(),
                expected,
                "{name}"
            );
        }
        assert!(store.set_default(&juliet, None).await.unwrap());
        assert_eq!(store.default_list(&juliet).await.unwrap(), None);
        assert_eq!(store.remove(&juliet, "b").await.unwrap(), Removal::Removed);
        assert_eq!(store.names(&juliet).await.unwrap(), Names::default());
    })
    .await;
}

#[tokio::test]
async fn what_is_blocked_comes_first_in_the_default_list() {
    on_each_place(|db| async move {
        let store = PrivacyStore::new(db);
        let juliet = account("juliet@localhost");
        let block = |all: &[&str]| Edit::Block(all.iter().map(|text| jid(text)).collect());
        let unblock = |all: &[&str]| Edit::Unblock(all.iter().map(|text| jid(text)).collect());
        assert_eq!(edit(&store, &juliet, unblock(&["a@b"])).await, None);
        assert_eq!(edit(&store, &juliet, Edit::UnblockAll).await, None);
        let changed = edit(&store, &juliet, block(&["c@b", "a@b", "a@b"])).await;
        assert_eq!(changed.unwrap(), ["a@b", "c@b"]);
        assert_eq!(edit(&store, &juliet, block(&["a@b"])).await, None);
        let changed = edit(&store, &juliet, block(&["a@b", "d@b"])).await;
        assert_eq!(changed.unwrap(), ["d@b"]);
        let default = store.default_list(&juliet).await.unwrap().unwrap();
        assert_eq!(&*default.name, BLOCKED);
        assert_eq!(blocked(Some(&default)), ["a@b", "c@b", "d@b"]);
        // A list that allows somebody does not allow who is blocked.
        let mut items = default.items().to_vec();
        items.push(Item {
            order: 900,
            subject: Subject::Everybody,
            action: Action::Allow,
            kinds: Kinds::ALL,
        });
        let list = List::new(BLOCKED, items).unwrap();
        store.put(&juliet, list).await.unwrap();
        edit(&store, &juliet, block(&["e@b"])).await.unwrap();
        let default = store.default_list(&juliet).await.unwrap().unwrap();
        assert_eq!(blocked(Some(&default)), ["e@b", "a@b", "c@b", "d@b"]);
        assert_eq!(default.items().last().unwrap().subject, Subject::Everybody);
        let changed = edit(&store, &juliet, unblock(&["a@b", "x@b"])).await;
        assert_eq!(changed.unwrap(), ["a@b"]);
        let changed = edit(&store, &juliet, Edit::UnblockAll).await;
        assert_eq!(changed.unwrap(), ["e@b", "c@b", "d@b"]);
        let default = store.default_list(&juliet).await.unwrap().unwrap();
        assert_eq!(default.items().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_list_that_nothing_is_left_of_is_removed() {
    on_each_place(|db| async move {
        let store = PrivacyStore::new(db);
        let juliet = account("juliet@localhost");
        let block = Edit::Block(vec![jid("a@b")]);
        edit(&store, &juliet, block.clone()).await.unwrap();
        edit(&store, &juliet, Edit::UnblockAll).await.unwrap();
        assert_eq!(store.names(&juliet).await.unwrap(), Names::default());
        assert_eq!(store.default_list(&juliet).await.unwrap(), None);
        // A list that is out of force is in force again with the next that is blocked.
        edit(&store, &juliet, block.clone()).await.unwrap();
        store.set_default(&juliet, None).await.unwrap();
        let changed = edit(&store, &juliet, block).await;
        assert_eq!(changed, Some(Vec::new()));
        let default = store.default_list(&juliet).await.unwrap();
        assert_eq!(blocked(default.as_ref()), ["a@b"]);
    })
    .await;
}

#[tokio::test]
async fn there_are_as_many_lists_items_and_bytes_as_there_may_be() {
    on_each_place(|db| async move {
        let store = PrivacyStore::new(db);
        let juliet = account("juliet@localhost");
        for index in 0..LISTS_MAX {
            let put = store.put(&juliet, list(&format!("list{index}"), &["a@b"]));
            assert_eq!(put.await.unwrap(), Done::Changed(()));
        }
        let more = store.put(&juliet, list("more", &["a@b"])).await.unwrap();
        assert_eq!(more, Done::Full);
        let block = store.edit(&juliet, Edit::Block(vec![jid("a@b")])).await;
        assert_eq!(block.unwrap(), Done::Full, "it would be one more list");
        let again = store.put(&juliet, list("list0", &["c@b"])).await.unwrap();
        assert_eq!(again, Done::Changed(()));
        let nurse = account("nurse@localhost");
        let addresses = |count: usize| -> Vec<Jid> {
            (0..count)
                .map(|index| jid(&format!("a{index}@b")))
                .collect()
        };
        let block = store.edit(&nurse, Edit::Block(addresses(ITEMS_MAX))).await;
        assert!(matches!(block.unwrap(), Done::Changed(Some(_))));
        let block = store.edit(&nurse, Edit::Block(vec![jid("more@b")])).await;
        assert_eq!(block.unwrap(), Done::Full);
        let again = store.edit(&nurse, Edit::Block(addresses(10))).await;
        assert_eq!(again.unwrap(), Done::Changed(None));
        let romeo = account("romeo@localhost");
        let long = |index: usize| jid(&format!("a{index}@b/{}", "x".repeat(1_000)));
        let block = Edit::Block((0..LIST_BYTES_MAX / 1_000).map(long).collect());
        assert_eq!(store.edit(&romeo, block).await.unwrap(), Done::Full);
        assert_eq!(store.default_list(&romeo).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn lists_of_mongooseim_are_read_and_rows_without_meaning_are_errors() {
    let db = open(Place::Memory).await;
    run_raw(
        &db,
        "INSERT INTO privacy_list (server, username, name, id) VALUES
         ('localhost', 'juliet', 'blocked', 7), ('localhost', 'nurse', 'bad', 8);
         INSERT INTO privacy_default_list (server, username, name) VALUES
         ('localhost', 'juliet', 'blocked'), ('localhost', 'nurse', 'bad'), ('localhost', 'tybalt', 'gone');
         INSERT INTO privacy_list_data (id, t, value, action, ord,
         match_all, match_iq, match_message, match_presence_in, match_presence_out) VALUES
         (7, 'j', 'tybalt@localhost', 'b', 1, 1, 0, 0, 0, 0),
         (7, 's', 'both', 'a', 2, 1, 0, 0, 0, 0),
         (7, 'n', 'none', 'd', 3, 0, 1, 0, 0, 0),
         (8, 'j', 'tybalt@localhost', 'x', 1, 1, 0, 0, 0, 0)",
    )
    .await;
    let store = PrivacyStore::new(db);
    let juliet = store.default_list(&account("juliet@localhost")).await;
    let juliet = juliet.unwrap().unwrap();
    assert_eq!(blocked(Some(&juliet)), ["tybalt@localhost"]);
    assert_eq!(juliet.items().len(), 3);
    let iq = Kinds {
        iq: true,
        ..Kinds::default()
    };
    assert_eq!(juliet.items().last().unwrap().kinds, iq);
    let nurse = store.default_list(&account("nurse@localhost")).await;
    assert!(matches!(nurse, Err(Error::Corrupt { .. })), "{nurse:?}");
    let tybalt = store.default_list(&account("tybalt@localhost")).await;
    assert_eq!(tybalt.unwrap(), None);
}

#[tokio::test]
async fn half_a_list_is_not_read() {
    let db = open(Place::Memory).await;
    run_raw(
        &db,
        "INSERT INTO privacy_list (server, username, name, id) VALUES ('localhost', 'juliet', 'huge', 7);
         INSERT INTO privacy_list_data
         WITH RECURSIVE n (ord) AS (SELECT 1 UNION ALL SELECT ord + 1 FROM n WHERE ord <= 10000)
         SELECT 7, 'j', 'a' || ord || '@b', 'd', ord, 1, 0, 0, 0, 0 FROM n",
    )
    .await;
    let store = PrivacyStore::new(db);
    let huge = store.list(&account("juliet@localhost"), "huge").await;
    assert!(matches!(huge, Err(Error::Corrupt { .. })), "{huge:?}");
}
