use super::*;
use crate::storage::Place;
use crate::storage::tests::{check_statements, on_each_place, open, run_raw};

fn account(text: &str) -> BareJid {
    BareJid::parse(text).unwrap()
}

fn store(db: Db) -> PrivateStore {
    PrivateStore::new(db, Quota::default())
}

async fn load(store: &PrivateStore, account: &BareJid, namespace: &str) -> Option<String> {
    let kept = store.load(account, namespace).await.unwrap();
    kept.map(|element| element.to_xml())
}

#[tokio::test]
async fn the_database_takes_every_statement() {
    check_statements(STATEMENTS, &[]).await;
}

#[tokio::test]
async fn each_account_has_one_element_for_each_namespace() {
    on_each_place(|db| async move {
        let store = store(db);
        let juliet = account("juliet@localhost");
        let others = [account("nurse@localhost"), account("juliet@example.org")];
        let first = "<a xmlns='n1'><b c='d'>\u{1f9a1} &amp;</b></a>";
        for (namespace, xml) in [("n1", first), ("n2", "<a xmlns='n2'/>")] {
            let set = store.set(&juliet, namespace, xml.to_owned()).await.unwrap();
            assert_eq!(set, Set::Kept);
        }
        assert_eq!(load(&store, &juliet, "n1").await.as_deref(), Some(first));
        let second = "<z xmlns='n1'/>";
        let set = store.set(&juliet, "n1", second.to_owned()).await.unwrap();
        assert_eq!(set, Set::Kept);
        assert_eq!(load(&store, &juliet, "n1").await.as_deref(), Some(second));
        let untouched = load(&store, &juliet, "n2").await;
        assert_eq!(untouched.as_deref(), Some("<a xmlns='n2'/>"));
        assert_eq!(load(&store, &juliet, "N1").await, None);
        for other in &others {
            assert_eq!(load(&store, other, "n1").await, None);
        }
    })
    .await;
}

#[tokio::test]
async fn the_hundred_and_first_namespace_is_refused() {
    on_each_place(|db| async move {
        let store = store(db);
        let juliet = account("juliet@localhost");
        let mut sets = tokio::task::JoinSet::new();
        for index in 0..103 {
            let (store, juliet) = (store.clone(), juliet.clone());
            sets.spawn(async move {
                let namespace = format!("n{index}");
                let xml = format!("<a xmlns='{namespace}'/>");
                let set = store.set(&juliet, &namespace, xml).await.unwrap();
                (namespace, set)
            });
        }
        let sets = sets.join_all().await;
        let kept: Vec<_> = sets.iter().filter(|(_, set)| *set == Set::Kept).collect();
        assert_eq!(kept.len(), 100);
        // What is there can be replaced, and others have a quota of their own.
        let (namespace, _) = kept[0];
        let xml = format!("<b xmlns='{namespace}'/>");
        let again = store.set(&juliet, namespace, xml.clone()).await.unwrap();
        assert_eq!(again, Set::Kept);
        let nurse = account("nurse@localhost");
        assert_eq!(store.set(&nurse, "n", xml).await.unwrap(), Set::Kept);
    })
    .await;
}

#[tokio::test]
async fn bytes_count_and_what_is_replaced_does_not() {
    on_each_place(|db| async move {
        let quota = Quota {
            namespaces: 10,
            bytes: 101,
        };
        let store = PrivateStore::new(db, quota);
        let juliet = account("juliet@localhost");
        // 4 bytes a badger, and 17 around them.
        let badgers = |count: usize| format!("<a xmlns='n'>{}</a>", "\u{1f9a1}".repeat(count));
        for (namespace, count, expected) in [
            ("n1", 14, Set::Kept),
            ("n2", 14, Set::Full),
            ("n1", 22, Set::Full),
            ("n1", 21, Set::Kept),
            ("n2", 0, Set::Full),
            ("n1", 0, Set::Kept),
            ("n2", 14, Set::Kept),
        ] {
            let set = store.set(&juliet, namespace, badgers(count)).await.unwrap();
            assert_eq!(set, expected, "{namespace} {count}");
        }
        let kept = load(&store, &juliet, "n1").await;
        assert_eq!(kept.as_deref(), Some("<a xmlns='n'/>"));
    })
    .await;
}

#[tokio::test]
async fn a_row_of_mongooseim_is_read_and_one_without_meaning_is_an_error() {
    let db = open(Place::Memory).await;
    run_raw(
        &db,
        "INSERT INTO private_storage (server, username, namespace, data, created_at) VALUES
         ('localhost', 'juliet', 'storage:bookmarks', '<storage xmlns=\"storage:bookmarks\"/>', '2022-01-01 00:00:00'),
         ('localhost', 'juliet', 'n', '<storage', '2022-01-01 00:00:00')",
    )
    .await;
    let store = store(db);
    let juliet = account("juliet@localhost");
    let kept = load(&store, &juliet, "storage:bookmarks").await;
    assert_eq!(
        kept.as_deref(),
        Some("<storage xmlns='storage:bookmarks'/>")
    );
    let read = store.load(&juliet, "n").await;
    assert!(matches!(read, Err(Error::Corrupt { .. })), "{read:?}");
}
