use super::*;
use crate::storage::Place;
use crate::storage::tests::{check_statements, on_each_place, open, run_raw};

fn account(text: &str) -> BareJid {
    BareJid::parse(text).unwrap()
}

#[tokio::test]
async fn the_database_takes_every_statement() {
    check_statements(STATEMENTS, &[]).await;
}

#[tokio::test]
async fn each_account_has_its_last_end() {
    on_each_place(|db| async move {
        let last = LastStore::new(db);
        let juliet = account("juliet@localhost");
        assert_eq!(last.load(&juliet).await.unwrap(), None);
        for (at, status) in [(1_700_000_000, "to bed"), (1_700_000_001, "\u{1f9a1}")] {
            let seen = Seen {
                at,
                status: status.to_owned(),
            };
            last.set(&juliet, seen.clone()).await.unwrap();
            assert_eq!(last.load(&juliet).await.unwrap(), Some(seen));
        }
        for other in ["nurse@localhost", "juliet@example.org"] {
            assert_eq!(last.load(&account(other)).await.unwrap(), None);
        }
    })
    .await;
}

#[tokio::test]
async fn a_row_of_mongooseim_is_read() {
    let db = open(Place::Memory).await;
    run_raw(
        &db,
        "INSERT INTO last (server, username, seconds, state) VALUES ('localhost', 'juliet', 1650000000, 'bye')",
    )
    .await;
    let seen = LastStore::new(db).load(&account("juliet@localhost")).await;
    let expected = Seen {
        at: 1_650_000_000,
        status: "bye".to_owned(),
    };
    assert_eq!(seen.unwrap(), Some(expected));
}
