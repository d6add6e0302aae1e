//! XEP-0049: elements kept in table `private_storage`, with MongooseIM's columns.
use protocol::{BareJid, Element, ns};

use crate::storage::{Db, Error, Value, statements};

/// Namespaces in which one account keeps something. One more is refused.
pub const NAMESPACES_MAX: u32 = 100;
/// Bytes that one account keeps. What does not fit is refused.
pub const BYTES_MAX: u32 = 1024 * 1024;
/// Bytes of one element as it is kept: it has to fit into an answer.
pub const ELEMENT_BYTES_MAX: usize = 256 * 1024;
/// Bytes of the name of a namespace; the column has so many characters where text has a length.
pub const NAMESPACE_BYTES_MAX: usize = 250;

statements! {
    LOAD = "private_load":
        "SELECT data FROM private_storage WHERE server = $1 AND username = $2 AND namespace = $3";
    // One statement checks the quota and writes, so nobody comes in between. What is replaced does not count.
    SET = "private_set":
        "INSERT INTO private_storage (server, username, namespace, data)
         SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), CAST($3 AS TEXT), CAST($4 AS TEXT)
         WHERE (SELECT COUNT(*) < $5 AND COALESCE(SUM(octet_length(data)), 0) + octet_length($4) <= $6
                FROM private_storage
                WHERE server = $1 AND username = $2 AND namespace <> $3)
         ON CONFLICT (server, username, namespace) DO UPDATE SET data = excluded.data",
        mysql: "INSERT INTO private_storage (server, username, namespace, data)
                SELECT $1, $2, $3, $4 FROM DUAL
                WHERE (SELECT COUNT(*) < $5 AND COALESCE(SUM(octet_length(data)), 0) + octet_length($4) <= $6
                       FROM private_storage
                       WHERE server = $1 AND username = $2 AND namespace <> $3)
                ON DUPLICATE KEY UPDATE data = VALUES(data)";
}

/// What became of an element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Set {
    /// It is committed.
    Kept,
    /// The account keeps as much as its [`Quota`] allows; nothing has changed.
    Full,
}

/// How much is kept for one account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Namespaces.
    pub namespaces: u32,
    /// Bytes of their elements.
    pub bytes: u32,
}

impl Default for Quota {
    fn default() -> Self {
        Self {
            namespaces: NAMESPACES_MAX,
            bytes: BYTES_MAX,
        }
    }
}

/// The elements of all accounts.
#[derive(Clone)]
pub struct PrivateStore {
    db: Db,
    quota: Quota,
}

impl PrivateStore {
    /// The elements in `db`.
    pub fn new(db: Db, quota: Quota) -> Self {
        Self { db, quota }
    }

    /// What the account keeps in that namespace.
    pub async fn load(&self, account: &BareJid, namespace: &str) -> Result<Option<Element>, Error> {
        let [server, username] = key(account);
        self.db
            .fetch_optional(LOAD.bind([server, username, namespace.into()]), |row| {
                let xml = row.text(0)?;
                Element::parse(xml.as_bytes(), ns::PRIVATE).map_err(|_| row.corrupt(0))
            })
            .await
    }

    /// Keeps an element, in place of the one that the account had in that namespace.
    pub async fn set(&self, account: &BareJid, namespace: &str, xml: String) -> Result<Set, Error> {
        let [server, username] = key(account);
        let query = SET.bind([
            server,
            username,
            namespace.into(),
            xml.into(),
            i64::from(self.quota.namespaces).into(),
            i64::from(self.quota.bytes).into(),
        ]);
        Ok(match self.db.execute(query).await? {
            0 => Set::Full,
            _ => Set::Kept,
        })
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
