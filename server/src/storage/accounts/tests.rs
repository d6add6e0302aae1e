use super::*;
use crate::storage::tests::{check_statements, on_each_place, open, run_raw};
use crate::storage::{Cause, Place};

fn account_in(domain: &str, username: &str, password: &str) -> NewAccount {
    let credentials = Credentials {
        password: password.into(),
        pass_details: None,
    };
    NewAccount {
        username: username.into(),
        domain: domain.into(),
        credentials,
    }
}

fn account(username: &str, password: &str) -> NewAccount {
    account_in("localhost", username, password)
}

async fn password(accounts: &AccountStore, username: &str) -> Option<String> {
    accounts
        .credentials(username, "localhost")
        .await
        .unwrap()
        .map(|found| found.password)
}

#[tokio::test]
async fn the_database_takes_every_statement() {
    check_statements(STATEMENTS, &[]).await;
}

#[tokio::test]
async fn an_account_is_made_found_and_removed() {
    on_each_place(|db| async move {
        let accounts = AccountStore::new(db);
        assert!(!accounts.exists("romeo", "localhost").await.unwrap());
        accounts.create(account("romeo", "secret")).await.unwrap();
        assert!(matches!(
            accounts.create(account("romeo", "other")).await,
            Err(Error::Conflict { .. })
        ));
        assert!(accounts.exists("romeo", "localhost").await.unwrap());
        assert_eq!(
            password(&accounts, "romeo").await.as_deref(),
            Some("secret")
        );
        assert!(!accounts.exists("romeo", "example.org").await.unwrap());
        assert!(accounts.remove("romeo", "localhost").await.unwrap());
        assert!(!accounts.remove("romeo", "localhost").await.unwrap());
        assert_eq!(password(&accounts, "romeo").await, None);
    })
    .await;
}

#[tokio::test]
async fn a_password_is_replaced_as_a_whole() {
    on_each_place(|db| async move {
        let accounts = AccountStore::new(db);
        accounts.create(account("romeo", "secret")).await.unwrap();
        let details = "==MULTI_SCRAM==,4096,===SHA1===c2FsdA==|a2V5|a2V5";
        let keys = Credentials {
            password: String::new(),
            pass_details: Some(details.into()),
        };
        assert!(
            accounts
                .set_password("romeo", "localhost", keys.clone())
                .await
                .unwrap()
        );
        assert!(
            accounts
                .credentials("romeo", "localhost")
                .await
                .unwrap()
                .unwrap()
                == keys
        );
        let plain = Credentials {
            password: "again".into(),
            pass_details: None,
        };
        assert!(
            accounts
                .set_password("romeo", "localhost", plain.clone())
                .await
                .unwrap()
        );
        assert!(
            accounts
                .credentials("romeo", "localhost")
                .await
                .unwrap()
                .unwrap()
                == plain
        );
        assert!(
            !accounts
                .set_password("juliet", "localhost", plain)
                .await
                .unwrap()
        );
        assert!(!accounts.exists("juliet", "localhost").await.unwrap());
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
            accounts.create(account(name, name)).await.unwrap();
        }
        for name in names {
            assert_eq!(password(&accounts, name).await.as_deref(), Some(name));
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
        accounts.create(account("user0007", "kept")).await.unwrap();
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
        accounts
            .create(account_in("example.org", "other", ""))
            .await
            .unwrap();
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
                accounts
                    .create(account("romeo", &index.to_string()))
                    .await
                    .map(|()| index)
            });
        }
        let outcomes = tasks.join_all().await;
        let made: Vec<_> = outcomes.into_iter().filter_map(Result::ok).collect();
        assert_eq!(made.len(), 1);
        let found = password(&AccountStore::new(db), "romeo").await;
        assert_eq!(found, Some(made[0].to_string()));
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
