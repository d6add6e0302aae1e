use super::*;
use crate::storage::tests::{Folder, check_statements, on_each_place, open};
use crate::storage::{Place, Statement};

fn stanza(index: usize) -> InFlight {
    InFlight {
        from: "romeo@localhost/orchard".into(),
        to: "juliet@localhost".into(),
        stanza: format!("<message id='{index}'><body>\u{1f9a1}</body></message>").into(),
        stored_at: 1_700_000_000_000_000,
    }
}

/// All rows that the next process of the same node would find.
async fn rows(db: &Db) -> Vec<LeftOver> {
    let (next, mut rows) = (InFlightStore::new(db.clone()), Vec::new());
    loop {
        let page = next.list(i64::MIN, u32::MAX).await.unwrap();
        if page.is_empty() {
            return rows;
        }
        assert!(page.len() <= 500);
        let ids: Vec<_> = page.iter().map(|row| row.id).collect();
        next.delete(&ids).await.unwrap();
        rows.extend(page);
    }
}

#[tokio::test]
async fn the_database_takes_every_statement() {
    check_statements(STATEMENTS, &["in_flight_list"]).await;
}

#[test]
fn a_statement_for_many_rows_has_a_value_for_each() {
    let values = |statement: &Statement| {
        (1..100)
            .filter(|n| statement.texts.sqlite.contains(&format!("${n}")))
            .count()
    };
    assert_eq!(values(INSERT_EIGHT), 2 + 5 * INSERT_MANY);
    assert_eq!(values(DELETE_SIXTEEN), DELETE_MANY);
}

#[tokio::test]
async fn stanzas_of_any_number_are_kept_in_order() {
    on_each_place(|db| async move {
        for count in [0, 1, 2, 7, 8, 9, 16, 17, 250, 1_000] {
            let stanzas: Vec<_> = (0..count).map(stanza).collect();
            let ids = InFlightStore::new(db.clone())
                .insert(stanzas.clone())
                .await
                .unwrap();
            assert!(ids.is_sorted() && ids.len() == count);
            let row = |(id, in_flight): (&i64, InFlight)| LeftOver { id: *id, in_flight };
            let expected: Vec<_> = ids.iter().zip(stanzas).map(row).collect();
            assert_eq!(rows(&db).await, expected);
        }
    })
    .await;
}

#[tokio::test]
async fn any_number_of_stanzas_is_deleted_and_no_other() {
    on_each_place(|db| async move {
        for count in [0, 1, 15, 16, 17, 100] {
            let store = InFlightStore::new(db.clone());
            let ids = store.insert((0..120).map(stanza).collect()).await.unwrap();
            // From the middle, and some that are gone already.
            store.delete(&ids[10..12]).await.unwrap();
            store.delete(&ids[10..10 + count]).await.unwrap();
            let left: Vec<_> = rows(&db).await.iter().map(|row| row.id).collect();
            assert_eq!(left, [&ids[..10], &ids[10 + count.max(2)..]].concat());
        }
    })
    .await;
}

#[tokio::test]
async fn the_next_start_finds_what_a_killed_process_left() {
    let folder = Folder::new();
    let db = open(folder.database()).await;
    let before = InFlightStore::new(db.clone());
    let ids = before.insert((0..3).map(stanza).collect()).await.unwrap();
    before.delete(&ids[1..2]).await.unwrap();
    drop((before, db));

    let db = open(folder.database()).await;
    let now = InFlightStore::new(db.clone());
    // Its own rows are not meant, nor are those of another node.
    let own = now.insert((10..13).map(stanza).collect()).await.unwrap();
    let elsewhere = InFlightStore::for_node(db.clone(), "elsewhere");
    elsewhere.insert(vec![stanza(20)]).await.unwrap();
    let left = now.list(i64::MIN, 1).await.unwrap();
    assert_eq!(
        left,
        [LeftOver {
            id: ids[0],
            in_flight: stanza(0)
        }]
    );
    now.delete(&[left[0].id]).await.unwrap();
    let left = now.list(i64::MIN, 100).await.unwrap();
    assert_eq!(
        left,
        [LeftOver {
            id: ids[2],
            in_flight: stanza(2)
        }]
    );
    now.delete(&[left[0].id]).await.unwrap();
    assert_eq!(now.list(i64::MIN, 100).await.unwrap(), []);
    let kept: Vec<_> = rows(&db).await.iter().map(|row| row.id).collect();
    assert_eq!(kept, own);
}

#[tokio::test]
async fn ids_that_meet_those_of_another_process_are_given_up() {
    let db = open(Place::Memory).await;
    let (one, other) = (
        InFlightStore::new(db.clone()),
        InFlightStore::new(db.clone()),
    );
    let first = one.insert(vec![stanza(0)]).await.unwrap()[0];
    *other.next_id.lock() = first - 1;
    let met = other.insert(vec![stanza(1), stanza(2)]).await;
    assert!(matches!(met, Err(Error::Conflict { .. })), "{met:?}");
    let ids = other.insert(vec![stanza(1), stanza(2)]).await.unwrap();
    assert_ne!(ids[0] >> 32, first >> 32);
    assert_eq!(rows(&db).await.len(), 3);
}

#[tokio::test]
async fn many_insert_and_delete_at_once() {
    on_each_place(|db| async move {
        let store = InFlightStore::new(db.clone());
        let mut tasks = tokio::task::JoinSet::new();
        for task in 0..50 {
            let store = store.clone();
            tasks.spawn(async move {
                let mut kept = Vec::new();
                for index in 0..10 {
                    let ids = store
                        .insert((0..=index % 3).map(|_| stanza(task)).collect())
                        .await
                        .unwrap();
                    store.delete(&ids[1..]).await.unwrap();
                    kept.push(ids[0]);
                }
                kept
            });
        }
        let mut kept = tasks.join_all().await.concat();
        kept.sort_unstable();
        let left: Vec<_> = rows(&db).await.iter().map(|row| row.id).collect();
        assert_eq!(left, kept);
    })
    .await;
}

#[tokio::test]
async fn a_stanza_comes_back_as_it_was() {
    on_each_place(|db| async move {
        let xml = "<message from='romeo@localhost/orchard' to='juliet@localhost' id='&lt;1&gt;'>\
                   <body>\u{1f9a1} &amp; more</body><x xmlns='urn:x'/></message>";
        let stanza = crate::storage::to_stanza(xml).unwrap();
        let before = now_us();
        InFlightStore::new(db.clone())
            .insert(vec![InFlight::of(&stanza)])
            .await
            .unwrap();
        let left = &rows(&db).await[0];
        assert_eq!(
            (&*left.in_flight.from, &*left.in_flight.to),
            ("romeo@localhost/orchard", "juliet@localhost")
        );
        assert!((before..=now_us()).contains(&left.in_flight.stored_at));
        assert_eq!(left.to_stanza().unwrap().bytes(), stanza.bytes());
    })
    .await;
}

#[tokio::test]
async fn a_row_that_holds_no_stanza_is_told_apart() {
    for text in [
        "",
        "x",
        "<message>",
        "<a/>",
        "<message/><message/>",
        "<message xmlns='urn:x'/>",
    ] {
        let in_flight = InFlight {
            stanza: text.into(),
            ..stanza(0)
        };
        assert!(
            LeftOver { id: 1, in_flight }.to_stanza().is_none(),
            "{text}"
        );
    }
}
