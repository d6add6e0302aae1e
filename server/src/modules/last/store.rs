//! XEP-0012: when accounts were there, in table `last`, with MongooseIM's columns.
use protocol::BareJid;

use crate::storage::{Db, Error, Value, statements};

/// Bytes of the words with which somebody leaves. More are cut off.
pub const STATUS_BYTES_MAX: usize = 1_024;

statements! {
    LOAD = "last_load":
        "SELECT seconds, state FROM last WHERE server = $1 AND username = $2";
    SET = "last_set":
        "INSERT INTO last (server, username, seconds, state) VALUES ($1, $2, $3, $4)
         ON CONFLICT (server, username) DO UPDATE SET seconds = excluded.seconds, state = excluded.state",
        mysql: "INSERT INTO last (server, username, seconds, state) VALUES ($1, $2, $3, $4)
                ON DUPLICATE KEY UPDATE seconds = VALUES(seconds), state = VALUES(state)";
}

/// The end of an account's presence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When, in seconds since 1970.
    pub at: i64,
    /// With which words.
    pub status: String,
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
