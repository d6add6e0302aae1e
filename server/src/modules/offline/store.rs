//! XEP-0160: messages kept in table `offline_message`, with MongooseIM's columns.
//!
//! A message is read, delivered, and deleted when its receiver has it: [`OfflineStore::list`] and
//! [`OfflineStore::delete`] are two steps, so that nothing is lost in between.
use std::sync::Arc;

use protocol::{BareJid, Stanza};

use crate::storage::{self, Db, Error, Value, statements};

/// Messages kept for one account.
pub const MESSAGES_MAX: u32 = 1_000;
/// Bytes of messages kept for one account.
pub const MESSAGES_BYTES_MAX: u32 = 8 * 1024 * 1024;
/// So many times the quota is there for messages whose senders were told that they are safe: those that a client had
/// been sent and had not acknowledged when its session ended, or the node. No sender can be told otherwise any more, and
/// what the sessions of an account may leave behind fits in.
pub const OWED_FACTOR: u32 = 4;
/// Messages that [`OfflineStore::list`] returns at most: a login holds one page in memory.
pub const PAGE_MAX: u32 = 50;
/// Bytes of such a page, apart from its last message: half of what may wait for a socket.
pub const PAGE_BYTES_MAX: u32 = 32 * 1024;
/// Messages that [`OfflineStore::remove_expired`] removes at most in one step, as others wait meanwhile.
pub const EXPIRED_MAX: u32 = 1_000;
/// Messages in one `DELETE`.
const DELETE_MANY: usize = 16;

statements! {
    // One statement checks the quota and inserts, so nobody comes in between. What had expired when this message came
    // does not count.
    PUSH = "offline_push":
        "INSERT INTO offline_message (server, username, timestamp, expire, from_jid, packet)
         SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), $3, CAST($4 AS BIGINT), $5, CAST($6 AS TEXT)
         WHERE (SELECT COUNT(*) < $7 AND COALESCE(SUM(octet_length(packet)), 0) + octet_length($6) <= $8
                FROM offline_message
                WHERE server = $1 AND username = $2 AND (expire IS NULL OR expire > $3))",
        mysql: "INSERT INTO offline_message (server, username, timestamp, expire, from_jid, packet)
                SELECT $1, $2, $3, $4, $5, $6 FROM DUAL
                WHERE (SELECT COUNT(*) < $7 AND COALESCE(SUM(octet_length(packet)), 0) + octet_length($6) <= $8
                       FROM offline_message
                       WHERE server = $1 AND username = $2 AND (expire IS NULL OR expire > $3))";
    LIST = "offline_list":
        "SELECT id, timestamp, from_jid, packet FROM offline_message
         WHERE server = $1 AND username = $2 AND id > $3 AND (expire IS NULL OR expire > $4) AND id <=
         (SELECT MAX(id) FROM
          (SELECT id, SUM(bytes) OVER (ORDER BY id) - bytes AS bytes_before FROM
           (SELECT id, octet_length(packet) AS bytes FROM offline_message
            WHERE server = $1 AND username = $2 AND id > $3 AND (expire IS NULL OR expire > $4)
            ORDER BY id LIMIT $5) AS page) AS summed
          WHERE bytes_before < $6)
         ORDER BY id";
    // Fewer messages repeat the last id.
    DELETE_SIXTEEN = "offline_delete":
        "DELETE FROM offline_message WHERE server = $1 AND username = $2 AND id IN
         ($3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)";
    COUNT = "offline_count":
        "SELECT COUNT(*) FROM offline_message
         WHERE server = $1 AND username = $2 AND (expire IS NULL OR expire > $3)";
    REMOVE_ALL = "offline_remove_all":
        "DELETE FROM offline_message WHERE server = $1 AND username = $2";
    REMOVE_EXPIRED = "offline_remove_expired":
        "DELETE FROM offline_message WHERE id IN
         (SELECT id FROM offline_message WHERE server = $1 AND expire IS NOT NULL AND expire <= $2
          ORDER BY expire LIMIT $3)",
        mysql: "DELETE FROM offline_message WHERE server = $1 AND expire IS NOT NULL AND expire <= $2
                ORDER BY expire LIMIT $3";
    REMOVE_OLD = "offline_remove_old":
        "DELETE FROM offline_message WHERE id IN
         (SELECT id FROM offline_message WHERE server = $1 AND timestamp < $2 ORDER BY timestamp LIMIT $3)",
        mysql: "DELETE FROM offline_message WHERE server = $1 AND timestamp < $2 ORDER BY timestamp LIMIT $3";
}

/// A message to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewMessage {
    /// Its sender.
    pub from: Arc<str>,
    /// The stanza as XML.
    pub stanza: Arc<str>,
    /// When it came, in microseconds since 1970.
    pub received_at: i64,
    /// When it is of no use any more, in microseconds since 1970.
    pub expires_at: Option<i64>,
}

/// A message that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its id among all messages, rising with time.
    pub id: i64,
    /// Its sender.
    pub from: String,
    /// The stanza as XML.
    pub stanza: String,
    /// When it came, in microseconds since 1970.
    pub received_at: i64,
}

impl Message {
    /// The stanza; None if the row holds none, which nobody can deliver.
    pub fn to_stanza(&self) -> Option<Stanza> {
        storage::to_stanza(&self.stanza)
    }
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It is committed.
    Stored,
    /// The account has [`MESSAGES_MAX`] messages or [`MESSAGES_BYTES_MAX`] bytes: its sender gets an error.
    Full,
}

/// How much is kept for one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Messages.
    pub messages: u32,
    /// Bytes of their stanzas.
    pub bytes: u32,
}

impl Quota {
    /// The same for owed messages, see [`OWED_FACTOR`].
    pub fn owed(self) -> Self {
        Self {
            messages: self.messages.saturating_mul(OWED_FACTOR),
            bytes: self.bytes.saturating_mul(OWED_FACTOR),
        }
    }
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            messages: MESSAGES_MAX,
            bytes: MESSAGES_BYTES_MAX,
        }
    }
}

/// The messages of all accounts.
#[derive(Clone)]
pub struct OfflineStore {
    db: Db,
    quota: Quota,
}

impl OfflineStore {
    /// The messages in `db`.
    pub fn new(db: Db, quota: Quota) -> Self {
        Self { db, quota }
    }

    /// Keeps a message, unless the account has too many.
    pub async fn push(&self, account: &BareJid, message: NewMessage) -> Result<Pushed, Error> {
        let NewMessage {
            from,
            stanza,
            received_at,
            expires_at,
        } = message;
        let [server, username] = key(account);
        let limits = [
            i64::from(self.quota.messages).into(),
            i64::from(self.quota.bytes).into(),
        ];
        let [messages, bytes] = limits;
        let query = PUSH.bind([
            server,
            username,
            received_at.into(),
            expires_at.into(),
            from.into(),
            stanza.into(),
            messages,
            bytes,
        ]);
        Ok(if self.db.execute(query).await? == 0 {
            Pushed::Full
        } else {
            Pushed::Stored
        })
    }

    /// The oldest messages with an id after `after` (0 for the first) that have not expired at `now` (microseconds
    /// since 1970), at most [`PAGE_MAX`] with about [`PAGE_BYTES_MAX`] bytes, but at least one.
    pub async fn list(
        &self,
        account: &BareJid,
        after: i64,
        now: i64,
    ) -> Result<Vec<Message>, Error> {
        let [server, username] = key(account);
        let query = LIST.bind([
            server,
            username,
            after.into(),
            now.into(),
            i64::from(PAGE_MAX).into(),
            i64::from(PAGE_BYTES_MAX).into(),
        ]);
        self.db
            .fetch_all(query, |row| {
                Ok(Message {
                    id: row.integer(0)?,
                    received_at: row.integer(1)?,
                    from: row.text(2)?,
                    stanza: row.text(3)?,
                })
            })
            .await
    }

    /// Deletes messages of the account that were delivered. Those that are gone already do no harm. All or none.
    pub async fn delete(&self, account: &BareJid, ids: &[i64]) -> Result<(), Error> {
        let queries: Vec<_> = ids
            .chunks(DELETE_MANY)
            .map(|ids| {
                let last = ids.last().copied().unwrap_or_default();
                let padded = ids
                    .iter()
                    .copied()
                    .chain(std::iter::repeat(last))
                    .take(DELETE_MANY);
                let values = key(account).into_iter().chain(padded.map(Value::from));
                DELETE_SIXTEEN.bind_all(values.collect())
            })
            .collect();
        self.db.execute_all("offline_delete_all", queries).await
    }

    /// Messages of the account that have not expired at `now` (microseconds since 1970).
    pub async fn count(&self, account: &BareJid, now: i64) -> Result<u64, Error> {
        let [server, username] = key(account);
        let count = self
            .db
            .fetch_optional(COUNT.bind([server, username, now.into()]), |row| {
                row.count(0)
            })
            .await?;
        Ok(count.unwrap_or(0))
    }

    /// Removes all messages of the account and tells how many there were.
    pub async fn remove_all(&self, account: &BareJid) -> Result<u64, Error> {
        self.db.execute(REMOVE_ALL.bind(key(account))).await
    }

    /// Removes messages for accounts of a domain that have expired at `now` (microseconds since 1970), at most
    /// [`EXPIRED_MAX`], and tells how many there were.
    pub async fn remove_expired(&self, domain: &str, now: i64) -> Result<u64, Error> {
        let query = REMOVE_EXPIRED.bind([domain.into(), now.into(), i64::from(EXPIRED_MAX).into()]);
        self.db.execute(query).await
    }

    /// The same for those that came before a time.
    pub async fn remove_old(&self, domain: &str, before: i64) -> Result<u64, Error> {
        let query = REMOVE_OLD.bind([domain.into(), before.into(), i64::from(EXPIRED_MAX).into()]);
        self.db.execute(query).await
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
