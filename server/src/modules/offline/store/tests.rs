use super::*;
use crate::storage::Place;
use crate::storage::tests::{Folder, check_statements, on_each_place, open, run_raw};

const NOW: i64 = 1_700_000_000_000_000;

fn account(text: &str) -> BareJid {
    BareJid::parse(text).unwrap()
}

fn message(text: &str) -> NewMessage {
    NewMessage {
        from: "romeo@localhost/orchard".into(),
        stanza: text.into(),
        received_at: NOW,
        expires_at: None,
    }
}

fn store(db: Db) -> OfflineStore {
    OfflineStore::new(db, Quota::default())
}

/// Every message of the account, page by page.
async fn texts(offline: &OfflineStore, account: &BareJid) -> Vec<String> {
    let mut all: Vec<Message> = Vec::new();
    loop {
        let after = all.last().map_or(0, |message| message.id);
        let page = offline.list(account, after, NOW).await.unwrap();
        if page.is_empty() {
            return all.into_iter().map(|message| message.stanza).collect();
        }
        assert!(page.len() <= 50);
        all.extend(page);
    }
}

#[tokio::test]
async fn the_database_takes_every_statement() {
    // It scans a page that it has found by the index.
    check_statements(STATEMENTS, &["offline_list"]).await;
}

#[tokio::test]
async fn messages_are_read_in_order_and_deleted_when_delivered() {
    on_each_place(|db| async move {
        let offline = store(db);
        let juliet = account("juliet@localhost");
        let expected: Vec<_> = (0..120)
            .map(|index| format!("<message id='{index}'>\u{1f9a1}</message>"))
            .collect();
        for text in &expected {
            assert_eq!(
                offline.push(&juliet, message(text)).await.unwrap(),
                Pushed::Stored
            );
        }
        assert_eq!(texts(&offline, &juliet).await, expected);
        let first = offline.list(&juliet, 0, NOW).await.unwrap();
        assert_eq!(
            (first[0].from.as_str(), first[0].received_at),
            ("romeo@localhost/orchard", NOW)
        );
        let delivered: Vec<_> = first[..37].iter().map(|message| message.id).collect();
        offline.delete(&juliet, &delivered).await.unwrap();
        offline.delete(&juliet, &delivered[..3]).await.unwrap();
        assert_eq!(texts(&offline, &juliet).await, expected[37..]);
        assert_eq!(offline.count(&juliet, NOW).await.unwrap(), 83);
        assert_eq!(offline.remove_all(&juliet).await.unwrap(), 83);
        assert_eq!(offline.list(&juliet, 0, NOW).await.unwrap(), []);
        offline.delete(&juliet, &[]).await.unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_page_ends_behind_its_bytes_and_has_a_message_at_least() {
    on_each_place(|db| async move {
        let offline = store(db);
        let juliet = account("juliet@localhost");
        let texts: Vec<_> = [20_000, 12_000, 2_000, 40_000, 50_000, 10]
            .map(|bytes| "\u{e9}".repeat(bytes / 2))
            .into();
        for text in &texts {
            offline.push(&juliet, message(text)).await.unwrap();
        }
        let mut sizes = Vec::new();
        let mut after = 0;
        loop {
            let page = offline.list(&juliet, after, NOW).await.unwrap();
            let Some(last) = page.last() else { break };
            after = last.id;
            sizes.push(page.iter().map(|m| m.stanza.len()).collect::<Vec<_>>());
        }
        let expected = [
            vec![20_000, 12_000, 2_000],
            vec![40_000],
            vec![50_000],
            vec![10],
        ];
        assert_eq!(sizes, expected);
    })
    .await;
}

#[tokio::test]
async fn nobody_touches_the_messages_of_another() {
    on_each_place(|db| async move {
        let offline = store(db);
        let (juliet, nurse) = (account("juliet@localhost"), account("nurse@localhost"));
        let elsewhere = account("juliet@example.org");
        for account in [&juliet, &nurse, &elsewhere] {
            offline
                .push(account, message(account.as_str()))
                .await
                .unwrap();
        }
        let ids: Vec<_> = offline
            .list(&juliet, 0, NOW)
            .await
            .unwrap()
            .iter()
            .map(|message| message.id)
            .collect();
        offline.delete(&nurse, &ids).await.unwrap();
        offline.remove_all(&elsewhere).await.unwrap();
        assert_eq!(texts(&offline, &juliet).await, ["juliet@localhost"]);
        assert_eq!(texts(&offline, &nurse).await, ["nurse@localhost"]);
        assert_eq!(texts(&offline, &elsewhere).await, [""; 0]);
    })
    .await;
}

#[tokio::test]
async fn the_thousand_and_first_message_is_refused() {
    on_each_place(|db| async move {
        let offline = store(db);
        let juliet = account("juliet@localhost");
        let mut pushes = tokio::task::JoinSet::new();
        for _ in 0..1_005 {
            let (offline, juliet) = (offline.clone(), juliet.clone());
            pushes
                .spawn(async move { offline.push(&juliet, message("<message/>")).await.unwrap() });
        }
        let outcomes = pushes.join_all().await;
        assert_eq!(
            outcomes
                .iter()
                .filter(|outcome| **outcome == Pushed::Full)
                .count(),
            5
        );
        assert_eq!(offline.count(&juliet, NOW).await.unwrap(), 1_000);
        // Another account has a quota of its own; a delivered message makes room.
        let nurse = account("nurse@localhost");
        assert_eq!(
            offline.push(&nurse, message("<message/>")).await.unwrap(),
            Pushed::Stored
        );
        let first = offline.list(&juliet, 0, NOW).await.unwrap()[0].id;
        offline.delete(&juliet, &[first]).await.unwrap();
        assert_eq!(
            offline.push(&juliet, message("<message/>")).await.unwrap(),
            Pushed::Stored
        );
        assert_eq!(
            offline.push(&juliet, message("<message/>")).await.unwrap(),
            Pushed::Full
        );
    })
    .await;
}

#[tokio::test]
async fn bytes_count_and_not_characters() {
    on_each_place(|db| async move {
        let offline = OfflineStore::new(
            db,
            Quota {
                messages: 100,
                bytes: 1_000,
            },
        );
        let juliet = account("juliet@localhost");
        // 4 bytes each.
        let badgers = "\u{1f9a1}".repeat(200);
        assert_eq!(
            offline.push(&juliet, message(&badgers)).await.unwrap(),
            Pushed::Stored
        );
        assert_eq!(
            offline.push(&juliet, message(&badgers)).await.unwrap(),
            Pushed::Full
        );
        assert_eq!(
            offline
                .push(&juliet, message(&"x".repeat(201)))
                .await
                .unwrap(),
            Pushed::Full
        );
        assert_eq!(
            offline
                .push(&juliet, message(&"x".repeat(200)))
                .await
                .unwrap(),
            Pushed::Stored
        );
        assert_eq!(
            offline.push(&juliet, message("x")).await.unwrap(),
            Pushed::Full
        );
    })
    .await;
}

#[tokio::test]
async fn a_message_that_has_expired_is_neither_read_nor_counted() {
    on_each_place(|db| async move {
        let offline = OfflineStore::new(
            db,
            Quota {
                messages: 2,
                bytes: 1_000,
            },
        );
        let juliet = account("juliet@localhost");
        let until = |expires_at| NewMessage {
            expires_at: Some(expires_at),
            ..message("<message/>")
        };
        offline.push(&juliet, until(NOW + 1)).await.unwrap();
        offline
            .push(
                &juliet,
                NewMessage {
                    received_at: NOW - 10,
                    ..until(NOW)
                },
            )
            .await
            .unwrap();
        assert_eq!(offline.count(&juliet, NOW).await.unwrap(), 1);
        assert_eq!(offline.list(&juliet, 0, NOW).await.unwrap().len(), 1);
        assert_eq!(
            offline.push(&juliet, message("<message/>")).await.unwrap(),
            Pushed::Stored
        );
        assert_eq!(
            offline.push(&juliet, message("<message/>")).await.unwrap(),
            Pushed::Full
        );
        assert_eq!(offline.remove_expired("localhost", NOW).await.unwrap(), 1);
        assert_eq!(offline.remove_expired("localhost", NOW).await.unwrap(), 0);
        assert_eq!(offline.count(&juliet, NOW).await.unwrap(), 2);
        assert_eq!(
            offline.remove_expired("localhost", NOW + 1).await.unwrap(),
            1
        );
    })
    .await;
}

#[tokio::test]
async fn an_id_is_never_used_again() {
    let folder = Folder::new();
    let offline = store(open(folder.database()).await);
    let juliet = account("juliet@localhost");
    offline.push(&juliet, message("<message/>")).await.unwrap();
    let first = offline.list(&juliet, 0, NOW).await.unwrap()[0].id;
    offline.remove_all(&juliet).await.unwrap();
    let offline = store(open(folder.database()).await);
    offline.push(&juliet, message("<message/>")).await.unwrap();
    // A reader that goes on after the first one sees it.
    assert_eq!(offline.list(&juliet, first, NOW).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_row_of_mongooseim_is_read() {
    let db = open(Place::Memory).await;
    run_raw(
        &db,
        "INSERT INTO offline_message (timestamp, expire, server, username, from_jid, packet, permanent_fields)
         VALUES (1650000000000000, NULL, 'localhost', 'juliet', 'romeo@localhost', '<message/>', x'8301')",
    )
    .await;
    let messages = store(db)
        .list(&account("juliet@localhost"), 0, NOW)
        .await
        .unwrap();
    assert_eq!(messages.len(), 1);
    assert_eq!(
        (messages[0].received_at, messages[0].stanza.as_str()),
        (1_650_000_000_000_000, "<message/>")
    );
}

#[tokio::test]
async fn a_packet_that_is_no_text_is_an_error() {
    let db = open(Place::Memory).await;
    run_raw(
        &db,
        "INSERT INTO offline_message (timestamp, server, username, from_jid, packet)
         VALUES (1, 'localhost', 'juliet', '', CAST(x'3cff3e' AS TEXT))",
    )
    .await;
    let read = store(db).list(&account("juliet@localhost"), 0, NOW).await;
    assert!(matches!(read, Err(Error::Corrupt { .. })), "{read:?}");
}

#[tokio::test]
async fn a_message_comes_back_as_it_was() {
    on_each_place(|db| async move {
        let offline = store(db);
        let juliet = account("juliet@localhost");
        let xml = "<message from='romeo@localhost/orchard' to='juliet@localhost'><body>\u{1f9a1} &amp;</body></message>";
        let stanza = crate::storage::to_stanza(xml).unwrap();
        for text in [std::str::from_utf8(stanza.bytes()).unwrap(), "nonsense"] {
            offline.push(&juliet, message(text)).await.unwrap();
        }
        let messages = offline.list(&juliet, 0, NOW).await.unwrap();
        assert_eq!(messages[0].to_stanza().unwrap().bytes(), stanza.bytes());
        assert!(messages[1].to_stanza().is_none());
    })
    .await;
}
