//! `account importUsers`: accounts from a file, as quickly as their passwords can be hashed.
use std::sync::Arc;
use std::time::Duration;

use async_graphql::SimpleObject;
use hashbrown::HashMap;
use protocol::BareJid;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::api::terms::errors::Problem;
use crate::api::terms::scalars::JidText;
use crate::auth::{Error, RegisterError};
use crate::host::Host;
use crate::router::Router;
use crate::storage::accounts::{Credentials, NewAccount};

/// Bytes of a file of accounts.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Lines that are hashed and then stored together.
const BATCH_LINES: usize = 500;
/// Elements of each list of the report; the others are only counted, and the status says how many there were.
const REPORTED_MAX: usize = 10_000;
/// Bytes of a line that the report repeats.
const REPORTED_BYTES_MAX: usize = 200;
/// Lines that are hashed, or wait for their turn, at a time: the other places in that queue are for logins.
const HASHES_AT_ONCE_MAX: usize = 16;
/// How often a password is put in the queue again when logins have filled it.
const HASH_ATTEMPTS_MAX: u32 = 30;
/// How long it is left to them then.
const HASH_PAUSE: Duration = Duration::from_secs(1);

/// What became of a file.
#[derive(SimpleObject)]
pub struct ImportPayload {
    /// `Completed`, with numbers if the lists are too long to be shown, or that it has begun.
    pub status: String,
    /// Accounts that were made.
    pub created: Option<Vec<JidText>>,
    /// Accounts that were there already.
    pub existing: Option<Vec<JidText>>,
    /// Accounts that may not be made: of a domain that is not served, or that is full.
    pub not_allowed: Option<Vec<JidText>>,
    /// Lines whose name and domain are no address, without their passwords.
    #[graphql(name = "invalidJID")]
    pub invalid_jid: Option<Vec<String>>,
    /// Accounts whose password is empty, or has characters that are not allowed.
    pub empty_password: Option<Vec<JidText>>,
    /// Lines that are no record, by their numbers.
    pub invalid_record: Option<Vec<String>>,
}

impl ImportPayload {
    /// It goes on after the answer.
    pub fn scheduled() -> Self {
        Self {
            status: "ImportUsers scheduled".into(),
            created: None,
            existing: None,
            not_allowed: None,
            invalid_jid: None,
            empty_password: None,
            invalid_record: None,
        }
    }
}

/// A list whose length is counted also where it is not kept.
struct Counted<T> {
    kept: Vec<T>,
    count: usize,
}

impl<T> Default for Counted<T> {
    fn default() -> Self {
        Self {
            kept: Vec::new(),
            count: 0,
        }
    }
}

impl<T> Counted<T> {
    fn push(&mut self, element: T) {
        self.count += 1;
        if self.kept.len() < REPORTED_MAX {
            self.kept.push(element);
        }
    }

    /// Nothing is null, as where a list has no elements MongooseIM leaves it out.
    fn into_list(self) -> Option<Vec<T>> {
        Some(self.kept).filter(|kept| !kept.is_empty())
    }
}

#[derive(Default)]
struct Report {
    created: Counted<JidText>,
    existing: Counted<JidText>,
    not_allowed: Counted<JidText>,
    invalid_jid: Counted<String>,
    empty_password: Counted<JidText>,
    invalid_record: Counted<String>,
}

impl Report {
    fn refuse(&mut self, account: &BareJid, error: &RegisterError) {
        let list = match error {
            RegisterError::Password => &mut self.empty_password,
            _ => &mut self.not_allowed,
        };
        list.push(jid(account));
    }

    fn into_payload(self) -> ImportPayload {
        let counts = [
            ("created", self.created.count),
            ("existing", self.existing.count),
            ("notAllowed", self.not_allowed.count),
            ("invalidJID", self.invalid_jid.count),
            ("emptyPassword", self.empty_password.count),
            ("invalidRecord", self.invalid_record.count),
        ];
        let mut status = "Completed".to_owned();
        if counts.iter().any(|(_, count)| *count > REPORTED_MAX) {
            let all = counts.map(|(name, count)| format!("{name} {count}"));
            status = format!("Completed: {}", all.join(", "));
        }
        ImportPayload {
            status,
            created: self.created.into_list(),
            existing: self.existing.into_list(),
            not_allowed: self.not_allowed.into_list(),
            invalid_jid: self.invalid_jid.into_list(),
            empty_password: self.empty_password.into_list(),
            invalid_record: self.invalid_record.into_list(),
        }
    }
}

fn jid(account: &BareJid) -> JidText {
    JidText(account.as_jid().clone())
}

/// One account to be made.
struct Line {
    host: Arc<Host>,
    account: BareJid,
    password: String,
}

/// Lines that cannot be imported are reported; the others are imported.
pub(super) async fn run(router: &Arc<Router>, filename: &str) -> Result<ImportPayload, Problem> {
    let text = read(filename).await?;
    let mut report = Report::default();
    let mut room = Room::default();
    let mut lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    loop {
        let mut batch = Vec::with_capacity(BATCH_LINES);
        let mut is_over = true;
        for (index, line) in lines.by_ref().take(BATCH_LINES) {
            is_over = false;
            batch.extend(parse(router, index + 1, line, &mut report));
        }
        if is_over {
            return Ok(report.into_payload());
        }
        import(batch, &mut room, &mut report).await?;
    }
}

/// Whether there is a file that could be imported.
pub(super) async fn check(filename: &str) -> Result<(), Problem> {
    let named = |code, text: String| Problem::new(code, text).with("filename", filename);
    let metadata = tokio::fs::metadata(filename).await;
    let metadata = metadata
        .ok()
        .filter(std::fs::Metadata::is_file)
        .ok_or_else(|| named("file_not_found", format!("{filename} is no file")))?;
    if metadata.len() > FILE_BYTES_MAX {
        let text = format!("{filename} is larger than {FILE_BYTES_MAX} bytes");
        return Err(named("file_too_large", text));
    }
    Ok(())
}

async fn read(filename: &str) -> Result<String, Problem> {
    check(filename).await?;
    let text = tokio::fs::read_to_string(filename).await;
    text.map_err(|error| {
        let text = format!("{filename} cannot be read: {error}");
        Problem::new("file_not_found", text).with("filename", filename)
    })
}

/// `username,domain,password`, each perhaps in quotes. A password without them is all that stands behind the second
/// comma. Earlier versions of ours had the domain first: that is still read where the second field is no domain of ours
/// and the first is.
fn parse(router: &Router, number: usize, line: &str, report: &mut Report) -> Option<Line> {
    let Some([first, second, password]) = fields(line) else {
        report
            .invalid_record
            .push(format!("line {number}: not username,domain,password"));
        return None;
    };
    let (first, second) = (first.trim(), second.trim());
    let serves = |domain: &str| {
        protocol::jid::prepare_domain(domain)
            .ok()
            .and_then(|domain| router.host(&domain))
    };
    let (name, domain) = match serves(second) {
        None if serves(first).is_some() => (second, first),
        _ => (first, second),
    };
    let Ok(account) = BareJid::from_parts(Some(name), domain) else {
        let mut shown = format!("line {number}: {name}@{domain}");
        shown.truncate(shown.floor_char_boundary(REPORTED_BYTES_MAX));
        report.invalid_jid.push(shown);
        return None;
    };
    let Some(host) = router.host(account.domain()) else {
        report.not_allowed.push(jid(&account));
        return None;
    };
    Some(Line {
        host,
        account,
        password,
    })
}

/// The three fields of a line.
fn fields(line: &str) -> Option<[String; 3]> {
    let (first, rest) = field(line)?;
    let (second, rest) = field(rest?)?;
    let rest = rest?;
    let password = match field(rest) {
        Some((password, None)) if rest.starts_with('"') => password,
        _ => rest.to_owned(),
    };
    Some([first, second, password])
}

/// The first field of a line, and what is behind its comma. In quotes, two quotes stand for one.
fn field(text: &str) -> Option<(String, Option<&str>)> {
    let Some(quoted) = text.strip_prefix('"') else {
        return Some(match text.split_once(',') {
            Some((field, rest)) => (field.to_owned(), Some(rest)),
            None => (text.to_owned(), None),
        });
    };
    let mut field = String::new();
    let mut rest = quoted;
    loop {
        let (part, behind) = rest.split_once('"')?;
        field.push_str(part);
        match behind.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None if behind.is_empty() => return Some((field, None)),
            None => return Some((field, Some(behind.strip_prefix(',')?))),
        }
    }
}

async fn import(batch: Vec<Line>, room: &mut Room, report: &mut Report) -> Result<(), Problem> {
    let Some(store) = batch.first().map(|line| line.host.auth.store().clone()) else {
        return Ok(());
    };
    let mut work = JoinSet::new();
    let turns = Arc::new(Semaphore::new(HASHES_AT_ONCE_MAX));
    for line in batch {
        if line.host.auth.exists(&line.account).await? {
            report.existing.push(jid(&line.account));
        } else if room.take(&line.host, line.account.domain()).await? {
            let turns = turns.clone();
            // They end with this future.
            work.spawn(async move {
                let _turn = turns.acquire().await;
                let account = line.account.clone();
                (account, hash(line).await)
            });
        } else {
            report.not_allowed.push(jid(&line.account));
        }
    }
    let (mut accounts, mut rows) = (Vec::new(), Vec::new());
    while let Some(done) = work.join_next().await {
        match done {
            Ok((account, Ok(row))) => {
                accounts.push(account);
                rows.push(row);
            }
            Ok((account, Err(error))) => report.refuse(&account, &error),
            Err(error) => return Err(Problem::fault(&error)),
        }
    }
    let made = store.create_many(rows).await?;
    for (account, made) in accounts.iter().zip(made) {
        // If not: twice in the file, or made by somebody else meanwhile.
        let list = if made {
            &mut report.created
        } else {
            &mut report.existing
        };
        list.push(jid(account));
    }
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
    async fn take(&mut self, host: &Host, domain: &str) -> Result<bool, Problem> {
        if !self.0.contains_key(domain) {
            let room = host.auth.room_for(domain).await?;
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

    async fn import_text(node: &TestNode, text: &str) -> ImportPayload {
        let path = node.dir().join("users.csv");
        std::fs::write(&path, text).unwrap();
        run(&node.router, path.to_str().unwrap()).await.unwrap()
    }

    fn names(list: Option<&Vec<JidText>>) -> Vec<&str> {
        let names = list.into_iter().flatten().map(|jid| jid.0.as_str());
        let mut names: Vec<_> = names.collect();
        names.sort_unstable();
        names
    }

    #[tokio::test]
    async fn good_lines_are_imported_and_bad_ones_reported() {
        let node = TestNode::start().await;
        node.register("there").await;
        let text = "one,localhost,secret\r\n\n two , localhost ,secret\nthree,localhost\n\
                    four,elsewhere,secret\na@b,localhost,secret\nfive,localhost,\n\
                    there,localhost,secret\none,localhost,secret\n\"six\",\"localhost\",\"se,\"\"cret\"\n\
                    localhost,seven,secret\n";
        let report = import_text(&node, text).await;
        assert_eq!(report.status, "Completed");
        let made = [
            "one@localhost",
            "seven@localhost",
            "six@localhost",
            "two@localhost",
        ];
        assert_eq!(names(report.created.as_ref()), made);
        assert_eq!(
            names(report.existing.as_ref()),
            ["one@localhost", "there@localhost"]
        );
        assert_eq!(names(report.not_allowed.as_ref()), ["four@elsewhere"]);
        assert_eq!(names(report.empty_password.as_ref()), ["five@localhost"]);
        assert_eq!(report.invalid_jid.unwrap(), ["line 6: a@b@localhost"]);
        assert_eq!(
            report.invalid_record.unwrap(),
            ["line 4: not username,domain,password"]
        );
        for name in ["one", "two", "seven"] {
            Client::logged_in(node.address, name).await;
        }
    }

    #[test]
    fn fields_may_stand_in_quotes() {
        let check = |line, expected: Option<[&str; 3]>| {
            let expected = expected.map(|fields| fields.map(str::to_owned));
            assert_eq!(fields(line), expected, "{line}");
        };
        check("a,b,c", Some(["a", "b", "c"]));
        check("a,b, c,d \"e\" ", Some(["a", "b", " c,d \"e\" "]));
        check("\"a\",\"b\",\"c,\"\"d\"", Some(["a", "b", "c,\"d"]));
        check("a,b,\"c", Some(["a", "b", "\"c"]));
        check("a,b,\"c\"d", Some(["a", "b", "\"c\"d"]));
        check("a,b", None);
        check("\"a,b,c", None);
        check("\"a\"x,b,c", None);
    }

    #[tokio::test]
    async fn a_password_is_what_stands_behind_the_second_comma() {
        let node = TestNode::start().await;
        import_text(&node, "one,localhost, a,b \"c\" \n").await;
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
            .map(|n| format!("user{n},localhost,secret\n"))
            .collect();
        let report = import_text(&node, &lines).await;
        assert_eq!(names(report.created.as_ref()).len(), 2);
        assert_eq!(names(report.not_allowed.as_ref()).len(), 3);
    }

    #[tokio::test]
    async fn a_file_that_is_none_is_told() {
        let node = TestNode::start().await;
        for path in [node.dir().join("missing"), node.dir().to_owned()] {
            let run = run(&node.router, path.to_str().unwrap()).await;
            let Err(problem) = run else {
                panic!("it is no file")
            };
            assert_eq!(problem.code(), "file_not_found");
        }
    }
}
