use super::*;
use crate::storage::dialect::Dialect;
use crate::storage::tests::{check_statements, dialect, fetch_raw, on_each_place, open, run_raw};
use crate::storage::{Cause, Place};

fn account(username: &str, password: &str) -> NewAccount {
    let credentials = Credentials {
        password: password.into(),
        pass_details: None,
    };
    NewAccount {
        username: username.into(),
        domain: "localhost".into(),
        credentials,
    }
}

async fn password(accounts: &AccountStore, username: &str) -> Option<String> {
    accounts
        .credentials(username, "localhost")
        .await
        .unwrap()
        .map(|found| found.password)
}

async fn details(accounts: &AccountStore, username: &str) -> Option<String> {
    let found = accounts.credentials(username, "localhost").await.unwrap()?;
    assert_eq!(found.password, "");
    found.pass_details
}

#[tokio::test]
async fn the_database_takes_every_statement() {
    check_statements(STATEMENTS, &["account_count_all"]).await;
}

#[tokio::test]
async fn an_account_is_made_found_and_removed() {
    on_each_place(|db| async move {
        let accounts = AccountStore::new(db);
        assert!(!accounts.exists("romeo", "localhost").await.unwrap());
        accounts.create("romeo", "localhost", "keys").await.unwrap();
        assert!(matches!(
            accounts.create("romeo", "localhost", "other").await,
            Err(Error::Conflict { .. })
        ));
        assert!(accounts.exists("romeo", "localhost").await.unwrap());
        assert_eq!(details(&accounts, "romeo").await.as_deref(), Some("keys"));
        assert!(!accounts.exists("romeo", "example.org").await.unwrap());
        assert!(accounts.credentials("romeo", "").await.unwrap().is_none());
        assert!(accounts.remove("romeo", "localhost").await.unwrap());
        assert!(!accounts.remove("romeo", "localhost").await.unwrap());
        assert!(!accounts.exists("romeo", "localhost").await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn keys_replace_a_password() {
    on_each_place(|db| async move {
        let accounts = AccountStore::new(db);
        accounts
            .create_many(vec![account("romeo", "secret")])
            .await
            .unwrap();
        let before = accounts
            .credentials("romeo", "localhost")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            (before.password.as_str(), before.pass_details),
            ("secret", None)
        );
        let keys = "==MULTI_SCRAM==,4096,===SHA1===c2FsdA==|a2V5|a2V5";
        assert!(
            accounts
                .set_password("romeo", "localhost", keys)
                .await
                .unwrap()
        );
        assert_eq!(details(&accounts, "romeo").await.as_deref(), Some(keys));
        assert!(
            !accounts
                .set_password("juliet", "localhost", keys)
                .await
                .unwrap()
        );
        assert!(!accounts.exists("juliet", "localhost").await.unwrap());
    })
    .await;
}

#[tokio::test]
async fn keys_that_were_replaced_meanwhile_stay() {
    on_each_place(|db| async move {
        let accounts = AccountStore::new(db);
        accounts.create("romeo", "localhost", "weak").await.unwrap();
        let replace = |before: &'static str, after: &'static str| {
            accounts.replace_details("romeo", "localhost", before, after)
        };
        assert!(replace("weak", "strong").await.unwrap());
        assert!(!replace("weak", "late").await.unwrap());
        assert_eq!(details(&accounts, "romeo").await.as_deref(), Some("strong"));
    })
    .await;
}

#[tokio::test]
async fn names_are_compared_byte_by_byte() {
    on_each_place(|db| async move {
        let accounts = AccountStore::new(db);
        let names = [
            "admin",
            "Admin",
            "\u{1f9a1}",
            "e\u{301}",
            "\u{e9}",
            "%",
            "_",
            "a'b",
        ];
        for name in names {
            accounts.create(name, "localhost", name).await.unwrap();
        }
        for name in names {
            assert_eq!(details(&accounts, name).await.as_deref(), Some(name));
        }
        assert_eq!(
            accounts.count("localhost").await.unwrap(),
            names.len() as u64
        );
        assert_eq!(accounts.count("LOCALHOST").await.unwrap(), 0);
    })
    .await;
}

#[tokio::test]
async fn many_accounts_are_made_and_those_that_exist_are_left_alone() {
    on_each_place(|db| async move {
        let accounts = AccountStore::new(db);
        accounts
            .create_many(vec![account("user0007", "kept")])
            .await
            .unwrap();
        let mut many: Vec<_> = (0..1_200)
            .map(|index| account(&format!("user{index:04}"), "new"))
            .collect();
        many.push(account("user0000", "twice in the list"));
        let made = accounts.create_many(many).await.unwrap();
        let refused: Vec<_> = (0..made.len()).filter(|index| !made[*index]).collect();
        assert_eq!(refused, [7, 1_200]);
        assert_eq!(
            password(&accounts, "user0007").await.as_deref(),
            Some("kept")
        );
        assert_eq!(
            password(&accounts, "user0000").await.as_deref(),
            Some("new")
        );
        assert_eq!(accounts.count("localhost").await.unwrap(), 1_200);
        assert_eq!(accounts.create_many(Vec::new()).await.unwrap(), [false; 0]);
    })
    .await;
}

#[tokio::test]
async fn accounts_are_listed_by_page_and_domain() {
    on_each_place(|db| async move {
        let accounts = AccountStore::new(db);
        let many = (0..1_100)
            .map(|index| account(&format!("user{index:04}"), ""))
            .collect();
        accounts.create_many(many).await.unwrap();
        accounts.create("other", "example.org", "").await.unwrap();
        assert_eq!(
            accounts.list("localhost", 2, 0).await.unwrap(),
            ["user0000", "user0001"]
        );
        assert_eq!(
            accounts.list("localhost", 2, 1_099).await.unwrap(),
            ["user1099"]
        );
        assert_eq!(
            accounts.list("localhost", u32::MAX, 0).await.unwrap().len(),
            1_000
        );
        assert_eq!(
            accounts.list("localhost", 10, u64::MAX).await.unwrap(),
            [""; 0]
        );
        assert_eq!(
            accounts.list("example.org", 10, 0).await.unwrap(),
            ["other"]
        );
    })
    .await;
}

#[tokio::test]
async fn one_of_many_who_make_the_same_account_succeeds() {
    on_each_place(|db| async move {
        let mut tasks = tokio::task::JoinSet::new();
        for index in 0..20 {
            let accounts = AccountStore::new(db.clone());
            tasks.spawn(async move {
                let keys = index.to_string();
                accounts
                    .create("romeo", "localhost", &keys)
                    .await
                    .map(|()| keys)
            });
        }
        let outcomes = tasks.join_all().await;
        let made: Vec<_> = outcomes.into_iter().filter_map(Result::ok).collect();
        assert_eq!(made.len(), 1);
        let found = details(&AccountStore::new(db), "romeo").await;
        assert_eq!(found.as_ref(), made.first());
    })
    .await;
}

#[tokio::test]
async fn credentials_that_are_no_text_are_an_error() {
    let db = open(Place::Memory).await;
    run_raw(
        &db,
        "INSERT INTO users (server, username, \"password\", pass_details)
         VALUES ('localhost', 'romeo', '', CAST(x'c328' AS TEXT))",
    )
    .await;
    let found = AccountStore::new(db)
        .credentials("romeo", "localhost")
        .await
        .map(drop);
    assert!(
        matches!(
            found,
            Err(Error::Corrupt {
                cause: Cause::Value { column: 1 },
                ..
            })
        ),
        "{found:?}"
    );
}

/// Every table with a column for the account must be in the list of what is removed with it.
#[tokio::test]
async fn nothing_of_a_removed_account_is_left() {
    let db = open(Place::Memory).await;
    let accounts = AccountStore::new(db.clone());
    accounts.create("romeo", "localhost", "").await.unwrap();
    let tables = tables_by_account(&db).await;
    assert!(tables.contains(&"rosterusers".to_owned()) && tables.contains(&"users".to_owned()));
    let statements = [REMOVE].into_iter().chain(REMOVE_WHAT_BELONGS_TO_IT);
    let removed: Vec<&str> = statements
        .map(|statement| statement.texts.sqlite.split_whitespace().nth(2).unwrap())
        .collect();
    for table in &tables {
        assert!(removed.contains(&table.as_str()), "{table} is left");
    }
    for table in removed {
        let is_known = tables.iter().any(|known| known == table);
        assert!(
            is_known || BY_ANOTHER_KEY.contains(&table),
            "{table} has no columns of an account"
        );
    }
}

/// Tables that know an account by a row of another table.
const BY_ANOTHER_KEY: [&str; 1] = ["privacy_list_data"];

#[tokio::test]
async fn removing_an_account_leaves_others_alone() {
    on_each_place(|db| async move {
        run_raw(
            &db,
            "INSERT INTO rosterusers (server, username, jid, nick, subscription, ask, askmessage) VALUES
             ('localhost', 'romeo', 'a@b', '', 'N', 'N', ''), ('localhost', 'juliet', 'a@b', '', 'N', 'N', '');
             INSERT INTO rostergroups VALUES ('localhost', 'romeo', 'a@b', 'g'), ('example.org', 'romeo', 'a@b', 'g');
             INSERT INTO roster_version VALUES ('localhost', 'romeo', '1'), ('localhost', 'juliet', '1');
             INSERT INTO roster_changes VALUES ('localhost', 'romeo', 1, '1', 'a@b'), ('localhost', 'Romeo', 1, '1', 'a@b');
             INSERT INTO offline_message (timestamp, server, username, from_jid, packet) VALUES
             (1, 'localhost', 'romeo', 'a@b', ''), (1, 'localhost', 'juliet', 'a@b', '');
             INSERT INTO private_storage (server, username, namespace, data) VALUES
             ('localhost', 'romeo', 'n', ''), ('example.org', 'romeo', 'n', '');
             INSERT INTO last VALUES ('localhost', 'romeo', 1, ''), ('localhost', 'Romeo', 1, '');
             INSERT INTO privacy_list (id, server, username, name) VALUES
             (1, 'localhost', 'romeo', 'a'), (2, 'localhost', 'juliet', 'a');
             INSERT INTO privacy_default_list (server, username, name) VALUES
             ('localhost', 'romeo', 'a'), ('localhost', 'juliet', 'a');
             INSERT INTO privacy_list_data (id, t, value, action, ord,
             match_all, match_iq, match_message, match_presence_in, match_presence_out) VALUES
             (1, 'j', 'a@b', 'd', 1, TRUE, FALSE, FALSE, FALSE, FALSE),
             (2, 'j', 'a@b', 'd', 1, TRUE, FALSE, FALSE, FALSE, FALSE);
             INSERT INTO vcard (server, username, vcard) VALUES
             ('localhost', 'romeo', ''), ('localhost', 'juliet', '');
             INSERT INTO vcard_search (server, lusername, username, fn, lfn, family, lfamily, given, lgiven, middle, lmiddle,
             nickname, lnickname, bday, lbday, ctry, lctry, locality, llocality, email, lemail, orgname, lorgname,
             orgunit, lorgunit) VALUES
             ('localhost', 'romeo', 'romeo', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', ''),
             ('localhost', 'nurse', 'nurse', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '', '');",
        )
        .await;
        let accounts = AccountStore::new(db.clone());
        // Rows are removed even where the account itself is gone.
        assert!(!accounts.remove("romeo", "localhost").await.unwrap());
        for table in tables_by_account(&db).await {
            let (rows, own) = count_rows(&db, &table).await;
            let expected = if table == "users" { 0 } else { 1 };
            assert_eq!((rows, own), (expected, 0), "{table}");
        }
        let items = fetch_raw(&db, "SELECT id FROM privacy_list_data").await;
        assert_eq!(items, [[Some("2".to_owned())]]);
    })
    .await;
}

async fn tables_by_account(db: &Db) -> Vec<String> {
    let sql = match dialect(db).await {
        Dialect::Sqlite => {
            "SELECT m.name FROM sqlite_schema m JOIN pragma_table_info(m.name) c
             WHERE m.type = 'table' AND c.name IN ('server', 'username') GROUP BY m.name HAVING COUNT(*) = 2"
        }
        Dialect::Postgres => {
            "SELECT table_name FROM information_schema.columns WHERE table_schema = current_schema()
             AND column_name IN ('server', 'username') GROUP BY table_name HAVING COUNT(*) = 2"
        }
        Dialect::MySql => {
            "SELECT table_name FROM information_schema.columns WHERE table_schema = DATABASE()
             AND column_name IN ('server', 'username') GROUP BY table_name HAVING COUNT(*) = 2"
        }
    };
    let rows = fetch_raw(db, sql).await;
    rows.into_iter()
        .map(|mut row| row.remove(0).unwrap())
        .collect()
}

/// All rows of a table, and those of romeo@localhost.
async fn count_rows(db: &Db, table: &str) -> (usize, usize) {
    let rows = fetch_raw(db, format!("SELECT server, username FROM {table}")).await;
    let own = [Some("localhost".to_owned()), Some("romeo".to_owned())];
    (rows.len(), rows.iter().filter(|row| **row == own).count())
}

/// A session that logs in holds the future of its look-up.
#[tokio::test]
async fn the_future_of_a_look_up_is_small() {
    let accounts = AccountStore::new(open(Place::Memory).await);
    let look_up = accounts.credentials("romeo", "localhost");
    assert!(
        size_of_val(&look_up) <= 512,
        "{} bytes",
        size_of_val(&look_up)
    );
}
