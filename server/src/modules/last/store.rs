//! XEP-0012: when accounts were there, in table `last`, with MongooseIM's columns.
use protocol::BareJid;

use crate::storage::{Db, Error, Value, statements};

/// Bytes of the words with which somebody leaves. More are cut off.
pub const STATUS_BYTES_MAX: usize = 1_024;

/// Accounts that [`LastStore::list_old`] returns at most.
pub const OLD_PAGE_MAX: u32 = 1_000;

statements! {
    LOAD = "last_load":
        "SELECT seconds, state FROM last WHERE server = $1 AND username = $2";
    SET = "last_set":
        "INSERT INTO last (server, username, seconds, state) VALUES ($1, $2, $3, $4)
         ON CONFLICT (server, username) DO UPDATE SET seconds = excluded.seconds, state = excluded.state",
        mysql: "INSERT INTO last (server, username, seconds, state) VALUES ($1, $2, $3, $4)
                ON DUPLICATE KEY UPDATE seconds = VALUES(seconds), state = VALUES(state)";
    COUNT_ACTIVE = "last_count_active":
        "SELECT COUNT(*) FROM last WHERE server = $1 AND seconds > $2";
    LIST_OLD = "last_list_old":
        "SELECT users.username, COALESCE(last.seconds, -1) FROM users
         LEFT JOIN last ON last.server = users.server AND last.username = users.username
         WHERE users.server = $1 AND users.username > $2 AND (last.seconds IS NULL OR last.seconds < $3)
         ORDER BY users.username LIMIT $4";
}

/// The end of an account's presence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When, in seconds since 1970.
    pub at: i64,
    /// With which words.
    pub status: String,
}

/// An account that has not been there for long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Old {
    /// Its local part.
    pub username: String,
    /// When it was there, in seconds since 1970; None: never.
    pub at: Option<i64>,
}

/// When all accounts were there.
#[derive(Clone)]
pub struct LastStore {
    db: Db,
}

impl LastStore {
    /// That in `db`.
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// The last end of the account's presence, if it ever had one.
    pub async fn load(&self, account: &BareJid) -> Result<Option<Seen>, Error> {
        self.db
            .fetch_optional(LOAD.bind(key(account)), |row| {
                Ok(Seen {
                    at: row.integer(0)?,
                    status: row.text(1)?,
                })
            })
            .await
    }

    /// How many accounts of a domain have been there since a time (seconds since 1970).
    pub async fn count_active(&self, domain: &str, since: i64) -> Result<u64, Error> {
        let query = COUNT_ACTIVE.bind([domain.into(), since.into()]);
        let count = self.db.fetch_optional(query, |row| row.count(0)).await?;
        Ok(count.unwrap_or(0))
    }

    /// Accounts of a domain that have not been there since a time (seconds since 1970), or never, in order of their
    /// names: at most [`OLD_PAGE_MAX`], after that of `after`.
    pub async fn list_old(&self, domain: &str, after: &str, since: i64) -> Result<Vec<Old>, Error> {
        let limit = i64::from(OLD_PAGE_MAX);
        let query = LIST_OLD.bind([domain.into(), after.into(), since.into(), limit.into()]);
        self.db
            .fetch_all(query, |row| {
                Ok(Old {
                    username: row.text(0)?,
                    at: Some(row.integer(1)?).filter(|at| *at >= 0),
                })
            })
            .await
    }

    /// Keeps that in place of what was there.
    pub async fn set(&self, account: &BareJid, seen: Seen) -> Result<(), Error> {
        let [server, username] = key(account);
        let query = SET.bind([server, username, seen.at.into(), seen.status.into()]);
        self.db.execute(query).await.map(drop)
    }
}

/// The columns `server` and `username`.
fn key(account: &BareJid) -> [Value; 2] {
    [
        account.domain().into(),
        account.local().unwrap_or_default().into(),
    ]
}

#[cfg(test)]
mod tests;
