//! `account importUsers`: accounts from a file, as quickly as their passwords can be hashed.
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use protocol::BareJid;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::auth::{Error, RegisterError};
use crate::host::Host;
use crate::router::Router;
use crate::storage::accounts::{Credentials, NewAccount};

/// Bytes of a file of accounts.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Lines that are hashed and then stored together.
const BATCH_LINES: usize = 500;
/// Lines that could not be imported and are reported; the others are only counted.
const REFUSED_REPORTED_MAX: usize = 1_000;
/// Lines that are hashed, or wait for their turn, at a time: the other places in that queue are for logins.
const HASHES_AT_ONCE_MAX: usize = 16;
/// How often a password is put in the queue again when logins have filled it.
const HASH_ATTEMPTS_MAX: u32 = 30;
/// How long it is left to them then.
const HASH_PAUSE: Duration = Duration::from_secs(1);

/// What became of a file.
#[derive(Default)]
struct Report {
    created: usize,
    existing: usize,
    refused_count: usize,
    refused: Vec<Value>,
}

impl Report {
    fn refuse(&mut self, line: usize, reason: &str) {
        self.refused_count += 1;
        if self.refused.len() < REFUSED_REPORTED_MAX {
            self.refused.push(json!({ "line": line, "reason": reason }));
        }
    }
}

/// One account to be made.
struct Line {
    number: usize,
    host: Arc<Host>,
    account: BareJid,
    password: String,
}

/// Lines that cannot be imported are reported by number; the others are imported.
pub(super) async fn run(router: &Arc<Router>, filename: &str) -> Result<Value, String> {
    let text = read(filename).await?;
    let mut report = Report::default();
    let mut room = Room::default();
    let mut lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    loop {
        let mut batch = Vec::with_capacity(BATCH_LINES);
        for (index, line) in lines.by_ref().take(BATCH_LINES) {
            match parse(router, index + 1, line) {
                Ok(line) => batch.push(line),
                Err(reason) => report.refuse(index + 1, &reason),
            }
        }
        if batch.is_empty() {
            break;
        }
        import(batch, &mut room, &mut report).await?;
    }
    let Report {
        created,
        existing,
        refused_count,
        refused,
    } = report;
    Ok(json!({
        "status": "Completed",
        "created": created,
        "existing": existing,
        "refusedCount": refused_count,
        "refused": refused,
    }))
}

async fn read(filename: &str) -> Result<String, String> {
    let metadata = tokio::fs::metadata(filename).await;
    let metadata = metadata.map_err(|error| format!("{filename}: {error}"))?;
    if !metadata.is_file() {
        return Err(format!("{filename} is no file"));
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(format!("{filename} is larger than {FILE_BYTES_MAX} bytes"));
    }
    let text = tokio::fs::read_to_string(filename).await;
    text.map_err(|error| format!("{filename}: {error}"))
}

/// `domain,username,password`; the password is what stands behind the second comma, whatever it is.
fn parse(router: &Router, number: usize, line: &str) -> Result<Line, String> {
    let mut fields = line.splitn(3, ',');
    let (Some(domain), Some(local), Some(password)) = (fields.next(), fields.next(), fields.next())
    else {
        return Err("expected domain,username,password".into());
    };
    let account = super::account(local.trim(), domain.trim())?;
    let host = router
        .host(account.domain())
        .ok_or("this node does not serve that domain")?;
    Ok(Line {
        number,
        host,
        account,
        password: password.to_owned(),
    })
}

async fn import(batch: Vec<Line>, room: &mut Room, report: &mut Report) -> Result<(), String> {
    let Some(store) = batch.first().map(|line| line.host.auth.store().clone()) else {
        return Ok(());
    };
    let mut work = JoinSet::new();
    let turns = Arc::new(Semaphore::new(HASHES_AT_ONCE_MAX));
    for line in batch {
        let exists = line.host.auth.exists(&line.account).await;
        if exists.map_err(|error| error.to_string())? {
            report.existing += 1;
        } else if room.take(&line.host, line.account.domain()).await? {
            let turns = turns.clone();
            // They end with this future.
            work.spawn(async move {
                let _turn = turns.acquire().await;
                (line.number, hash(line).await)
            });
        } else {
            report.refuse(line.number, "the domain has reached its limit of accounts");
        }
    }
    let mut accounts = Vec::new();
    while let Some(done) = work.join_next().await {
        match done {
            Ok((_, Ok(account))) => accounts.push(account),
            Ok((number, Err(error))) => report.refuse(number, &error.to_string()),
            Err(error) => return Err(error.to_string()),
        }
    }
    let made = store
        .create_many(accounts)
        .await
        .map_err(|error| error.to_string())?;
    let created = made.iter().filter(|made| **made).count();
    report.created += created;
    // Twice in the file, or made by somebody else meanwhile.
    report.existing += made.len() - created;
    Ok(())
}

async fn hash(line: Line) -> Result<NewAccount, RegisterError> {
    let mut attempts = 0;
    let details = loop {
        match line.host.auth.new_details(&line.password).await {
            Err(RegisterError::Auth(Error::Overloaded(_))) if attempts < HASH_ATTEMPTS_MAX => {
                attempts += 1;
                tokio::time::sleep(HASH_PAUSE).await;
            }
            details => break details?,
        }
    };
    Ok(NewAccount {
        username: line.account.local().unwrap_or_default().to_owned(),
        domain: line.account.domain().to_owned(),
        credentials: Credentials {
            password: String::new(),
            pass_details: Some(details),
        },
    })
}

/// How many accounts each domain may still get.
#[derive(Default)]
struct Room(HashMap<String, u64, ahash::RandomState>);

impl Room {
    /// Takes the place of one account, if there is one.
    async fn take(&mut self, host: &Host, domain: &str) -> Result<bool, String> {
        if !self.0.contains_key(domain) {
            let room = host
                .auth
                .room_for(domain)
                .await
                .map_err(|error| error.to_string())?;
            self.0.insert(domain.to_owned(), room);
        }
        let Some(room) = self.0.get_mut(domain).filter(|room| **room > 0) else {
            return Ok(false);
        };
        *room -= 1;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Client, TestNode};

    async fn import_text(node: &TestNode, text: &str) -> Value {
        let path = node.dir().join("users.csv");
        std::fs::write(&path, text).unwrap();
        run(&node.router, path.to_str().unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn good_lines_are_imported_and_bad_ones_reported() {
        let node = TestNode::start().await;
        node.register("there").await;
        let text = "localhost,one,secret\r\n\n localhost , two ,secret\nlocalhost,three\n\
                    elsewhere,four,secret\nlocalhost,a@b,secret\nlocalhost,five,\n\
                    localhost,there,secret\nlocalhost,one,secret\n";
        let report = import_text(&node, text).await;
        assert_eq!(
            (&report["created"], &report["existing"]),
            (&json!(2), &json!(2)),
            "{report}"
        );
        let lines: Vec<_> = report["refused"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["line"].clone())
            .collect();
        assert_eq!(lines, [json!(4), json!(5), json!(6), json!(7)]);
        for name in ["one", "two"] {
            Client::logged_in(node.address, name).await;
        }
    }

    #[tokio::test]
    async fn a_password_is_what_stands_behind_the_second_comma() {
        let node = TestNode::start().await;
        import_text(&node, "localhost,one, a,b \"c\" \n").await;
        let host = node.router.host("localhost").unwrap();
        let account = BareJid::parse("one@localhost").unwrap();
        assert!(
            host.auth
                .check_password(&account, " a,b \"c\" ")
                .await
                .unwrap()
        );
    }

    #[tokio::test]
    async fn a_domain_gets_no_more_accounts_than_it_may_have() {
        let node = TestNode::start_with(|plan| plan.hosts[0].auth.users_max = Some(3)).await;
        node.register("there").await;
        let lines: String = (0..5)
            .map(|n| format!("localhost,user{n},secret\n"))
            .collect();
        let report = import_text(&node, &lines).await;
        assert_eq!(report["created"], json!(2));
        assert_eq!(report["refusedCount"], json!(3));
    }

    #[tokio::test]
    async fn a_file_that_is_none_is_told() {
        let node = TestNode::start().await;
        let missing = node.dir().join("missing");
        assert!(run(&node.router, missing.to_str().unwrap()).await.is_err());
        assert!(
            run(&node.router, node.dir().to_str().unwrap())
                .await
                .is_err()
        );
    }
}
