//! RFC 6121 section 2: rosters in MongooseIM's tables `rosterusers`, `rostergroups` and `roster_version`.
//!
//! Two columns and a table are ours: `rosterusers.approved` (pre-approval), `rosterusers.listed` (a contact that has
//! only asked is no item of the roster) and `roster_changes`.
//!
//! **Versions** (section 2.6). Each change that clients see gets a number and a random part, as in
//! `17-89abcdef01234567`; `roster_changes` keeps the last [`CHANGES_MAX`] of an account. A version that is found there
//! was made by this very store, so the changes since it are known; any other one gets the whole roster. After an older
//! dump was restored, numbers come again but the random parts do not: no version is ever used twice. An account
//! without a change has a version that follows from its items, or the one that MongooseIM left.
//!
//! **Decisions** are made by [`super::subscription`] within the transaction that writes them, so two stanzas at once
//! cannot both start from the same state.
use std::collections::BTreeMap;

use protocol::{BareJid, Element, Jid, Stanza, StanzaType, ns};
use serde::de::DeserializeOwned;

use super::subscription::{
    self, Contact, Inbound, Outbound, Removal, State, Subscription, SubscriptionType,
};
use crate::storage::{self, Db, Error, Row, Transaction, Value, statements};

/// Items of one roster; the next one is refused.
pub const ITEMS_MAX: u64 = 1_000;
/// Bytes of all addresses, names and groups of one roster; what would go beyond is refused. The whole roster is one
/// stanza, and one that is larger than what a session may have unsent would end every session that asks for it.
pub const ROSTER_BYTES_MAX: u64 = 512 * 1024;
/// Groups of one item.
pub const GROUPS_MAX: usize = 64;
/// Bytes of a group's name.
pub const GROUP_BYTES_MAX: usize = 1_023;
/// Bytes of a contact's name.
pub const NAME_BYTES_MAX: usize = 1_023;
/// Requests of contacts that are not in the roster, for one account; the next one takes the place of the newest, so a
/// flood does not push out those that were there before.
pub const REQUESTS_MAX: u64 = 100;
/// Bytes of a request that are kept; of a longer one only the fact.
pub const REQUEST_BYTES_MAX: usize = 8_192;
/// Requests that [`RosterStore::requests`] returns at most.
pub const REQUESTS_PAGE_MAX: u32 = 100;
/// Changes of one roster that are remembered; a client that has missed more gets the whole roster.
pub const CHANGES_MAX: i64 = 128;
/// Old changes are deleted each time so many have come.
const CHANGES_SLACK: i64 = 16;

/// Kinds of the rows of the statements that load, in their first column.
const KIND_VERSION: i64 = 0;
const KIND_ITEMS: i64 = 1;
const KIND_GROUPS: i64 = 2;
const KIND_CHANGES: i64 = 3;

statements! {
    VERSION = "roster_version":
        "SELECT version FROM roster_version WHERE server = $1 AND username = $2";
    // One statement, as two would see the roster at two times and the version of the one for the items of the other.
    // Contacts come as one text of JSON: as rows, a roster of a hundred would cost five times as much.
    LOAD = "roster_load":
        "SELECT 0, version FROM roster_version WHERE server = $1 AND username = $2
         UNION ALL
         SELECT 1, json_group_array(json_array(jid, nick, subscription, ask, approved, listed))
          FROM rosterusers WHERE server = $1 AND username = $2
         UNION ALL
         SELECT 2, json_group_array(json_array(jid, grp))
          FROM rostergroups WHERE server = $1 AND username = $2",
        postgres: "SELECT 0, version FROM roster_version WHERE server = $1 AND username = $2
                   UNION ALL
                   SELECT 1, COALESCE(json_agg(json_build_array(jid, nick, subscription, ask, approved::int, listed::int)),
                                      '[]')::text
                    FROM rosterusers WHERE server = $1 AND username = $2
                   UNION ALL
                   SELECT 2, COALESCE(json_agg(json_build_array(jid, grp)), '[]')::text
                    FROM rostergroups WHERE server = $1 AND username = $2",
        mysql: "SELECT 0, version FROM roster_version WHERE server = $1 AND username = $2
                UNION ALL
                SELECT 1, COALESCE(JSON_ARRAYAGG(JSON_ARRAY(jid, nick, subscription, ask, approved, listed)), '[]')
                 FROM rosterusers WHERE server = $1 AND username = $2
                UNION ALL
                SELECT 2, COALESCE(JSON_ARRAYAGG(JSON_ARRAY(jid, grp)), '[]')
                 FROM rostergroups WHERE server = $1 AND username = $2";
    LOAD_WITH_CHANGES = "roster_load_with_changes":
        "SELECT 0, version FROM roster_version WHERE server = $1 AND username = $2
         UNION ALL
         SELECT 1, json_group_array(json_array(jid, nick, subscription, ask, approved, listed))
          FROM rosterusers WHERE server = $1 AND username = $2
         UNION ALL
         SELECT 2, json_group_array(json_array(jid, grp))
          FROM rostergroups WHERE server = $1 AND username = $2
         UNION ALL
         SELECT 3, json_group_array(json_array(change_id, version, jid))
          FROM roster_changes WHERE server = $1 AND username = $2",
        postgres: "SELECT 0, version FROM roster_version WHERE server = $1 AND username = $2
                   UNION ALL
                   SELECT 1, COALESCE(json_agg(json_build_array(jid, nick, subscription, ask, approved::int, listed::int)),
                                      '[]')::text
                    FROM rosterusers WHERE server = $1 AND username = $2
                   UNION ALL
                   SELECT 2, COALESCE(json_agg(json_build_array(jid, grp)), '[]')::text
                    FROM rostergroups WHERE server = $1 AND username = $2
                   UNION ALL
                   SELECT 3, COALESCE(json_agg(json_build_array(change_id, version, jid)), '[]')::text
                    FROM roster_changes WHERE server = $1 AND username = $2",
        mysql: "SELECT 0, version FROM roster_version WHERE server = $1 AND username = $2
                UNION ALL
                SELECT 1, COALESCE(JSON_ARRAYAGG(JSON_ARRAY(jid, nick, subscription, ask, approved, listed)), '[]')
                 FROM rosterusers WHERE server = $1 AND username = $2
                UNION ALL
                SELECT 2, COALESCE(JSON_ARRAYAGG(JSON_ARRAY(jid, grp)), '[]')
                 FROM rostergroups WHERE server = $1 AND username = $2
                UNION ALL
                SELECT 3, COALESCE(JSON_ARRAYAGG(JSON_ARRAY(change_id, version, jid)), '[]')
                 FROM roster_changes WHERE server = $1 AND username = $2";
    LOAD_ITEM = "roster_load_item":
        "SELECT 0, version FROM roster_version WHERE server = $1 AND username = $2
         UNION ALL
         SELECT 1, json_group_array(json_array(jid, nick, subscription, ask, approved, listed))
          FROM rosterusers WHERE server = $1 AND username = $2 AND jid = $3
         UNION ALL
         SELECT 2, json_group_array(json_array(jid, grp))
          FROM rostergroups WHERE server = $1 AND username = $2 AND jid = $3",
        postgres: "SELECT 0, version FROM roster_version WHERE server = $1 AND username = $2
                   UNION ALL
                   SELECT 1, COALESCE(json_agg(json_build_array(jid, nick, subscription, ask, approved::int, listed::int)),
                                      '[]')::text
                    FROM rosterusers WHERE server = $1 AND username = $2 AND jid = $3
                   UNION ALL
                   SELECT 2, COALESCE(json_agg(json_build_array(jid, grp)), '[]')::text
                    FROM rostergroups WHERE server = $1 AND username = $2 AND jid = $3",
        mysql: "SELECT 0, version FROM roster_version WHERE server = $1 AND username = $2
                UNION ALL
                SELECT 1, COALESCE(JSON_ARRAYAGG(JSON_ARRAY(jid, nick, subscription, ask, approved, listed)), '[]')
                 FROM rosterusers WHERE server = $1 AND username = $2 AND jid = $3
                UNION ALL
                SELECT 2, COALESCE(JSON_ARRAYAGG(JSON_ARRAY(jid, grp)), '[]')
                 FROM rostergroups WHERE server = $1 AND username = $2 AND jid = $3";
    SUBSCRIPTIONS = "roster_subscriptions":
        "SELECT json_group_array(json_array(jid, subscription, ask)) FROM rosterusers
         WHERE server = $1 AND username = $2 AND subscription <> 'N'",
        postgres: "SELECT COALESCE(json_agg(json_build_array(jid, subscription, ask)), '[]')::text FROM rosterusers
                   WHERE server = $1 AND username = $2 AND subscription <> 'N'",
        mysql: "SELECT COALESCE(JSON_ARRAYAGG(JSON_ARRAY(jid, subscription, ask)), '[]') FROM rosterusers
                WHERE server = $1 AND username = $2 AND subscription <> 'N'";
    // All that the first presence of a session needs, in one statement; the rest is read only if it is there.
    OVERVIEW = "roster_overview":
        "SELECT (SELECT json_group_array(json_array(jid, subscription, ask)) FROM rosterusers
                 WHERE server = $1 AND username = $2 AND subscription <> 'N'),
                EXISTS (SELECT 1 FROM rosterusers WHERE server = $1 AND username = $2 AND ask IN ('I', 'B')),
                EXISTS (SELECT 1 FROM offline_message WHERE server = $1 AND username = $2)",
        postgres: "SELECT (SELECT COALESCE(json_agg(json_build_array(jid, subscription, ask)), '[]')::text
                           FROM rosterusers WHERE server = $1 AND username = $2 AND subscription <> 'N'),
                          EXISTS (SELECT 1 FROM rosterusers WHERE server = $1 AND username = $2 AND ask IN ('I', 'B')),
                          EXISTS (SELECT 1 FROM offline_message WHERE server = $1 AND username = $2)",
        mysql: "SELECT (SELECT COALESCE(JSON_ARRAYAGG(JSON_ARRAY(jid, subscription, ask)), '[]')
                        FROM rosterusers WHERE server = $1 AND username = $2 AND subscription <> 'N'),
                       EXISTS (SELECT 1 FROM rosterusers WHERE server = $1 AND username = $2 AND ask IN ('I', 'B')),
                       EXISTS (SELECT 1 FROM offline_message WHERE server = $1 AND username = $2)";
    REQUESTS = "roster_requests":
        "SELECT jid, subscription, ask, askmessage FROM rosterusers
         WHERE server = $1 AND username = $2 AND jid > $3 AND ask IN ('I', 'B') ORDER BY jid LIMIT $4",
        postgres: "SELECT jid, subscription, ask, askmessage FROM rosterusers
                   WHERE server = $1 AND username = $2 AND jid COLLATE \"C\" > $3 AND ask IN ('I', 'B')
                   ORDER BY jid COLLATE \"C\" LIMIT $4";
    COUNT_ITEMS = "roster_count_items":
        "SELECT COUNT(*) FROM rosterusers WHERE server = $1 AND username = $2
         AND (listed OR (listed IS NULL AND NOT (subscription = 'N' AND ask = 'I')))";
    COUNT_BYTES = "roster_count_bytes":
        "SELECT (SELECT COALESCE(SUM(octet_length(jid) + octet_length(nick)), 0) FROM rosterusers
                 WHERE server = $1 AND username = $2)
              + (SELECT COALESCE(SUM(octet_length(grp)), 0) FROM rostergroups
                 WHERE server = $1 AND username = $2)",
        mysql: "SELECT CAST((SELECT COALESCE(SUM(octet_length(jid) + octet_length(nick)), 0) FROM rosterusers
                             WHERE server = $1 AND username = $2)
                          + (SELECT COALESCE(SUM(octet_length(grp)), 0) FROM rostergroups
                             WHERE server = $1 AND username = $2) AS SIGNED)";
    COUNT_REQUESTS = "roster_count_requests":
        "SELECT COUNT(*) FROM rosterusers WHERE server = $1 AND username = $2
         AND (NOT listed OR (listed IS NULL AND subscription = 'N' AND ask = 'I'))";
    DELETE_NEWEST_REQUEST = "roster_delete_newest_request":
        "DELETE FROM rosterusers WHERE server = $1 AND username = $2 AND jid =
         (SELECT jid FROM rosterusers WHERE server = $1 AND username = $2
          AND (NOT listed OR (listed IS NULL AND subscription = 'N' AND ask = 'I'))
          ORDER BY created_at DESC, jid DESC LIMIT 1)",
        mysql: "DELETE FROM rosterusers WHERE server = $1 AND username = $2
                AND (NOT listed OR (listed IS NULL AND subscription = 'N' AND ask = 'I'))
                ORDER BY created_at DESC, jid DESC LIMIT 1";
    PUT_NAME = "roster_put_name":
        "INSERT INTO rosterusers (server, username, jid, nick, subscription, ask, askmessage, listed)
         VALUES ($1, $2, $3, $4, 'N', 'N', '', TRUE)
         ON CONFLICT (server, username, jid) DO UPDATE SET nick = excluded.nick, listed = TRUE",
        mysql: "INSERT INTO rosterusers (server, username, jid, nick, subscription, ask, askmessage, listed)
                VALUES ($1, $2, $3, $4, 'N', 'N', '', TRUE)
                ON DUPLICATE KEY UPDATE nick = VALUES(nick), listed = TRUE";
    // A request that is NULL stays what it is.
    PUT_CONTACT = "roster_put_contact":
        "INSERT INTO rosterusers (server, username, jid, nick, subscription, ask, approved, listed, askmessage)
         VALUES ($1, $2, $3, '', $4, $5, $6, $7, COALESCE($8, ''))
         ON CONFLICT (server, username, jid) DO UPDATE SET subscription = excluded.subscription, ask = excluded.ask,
         approved = excluded.approved, listed = excluded.listed, askmessage = COALESCE($8, rosterusers.askmessage)",
        mysql: "INSERT INTO rosterusers (server, username, jid, nick, subscription, ask, approved, listed, askmessage)
                VALUES ($1, $2, $3, '', $4, $5, $6, $7, COALESCE($8, ''))
                ON DUPLICATE KEY UPDATE subscription = VALUES(subscription), ask = VALUES(ask),
                approved = VALUES(approved), listed = VALUES(listed), askmessage = COALESCE($8, askmessage)";
    DELETE_CONTACT = "roster_delete_contact":
        "DELETE FROM rosterusers WHERE server = $1 AND username = $2 AND jid = $3";
    PUT_GROUP = "roster_put_group":
        "INSERT INTO rostergroups (server, username, jid, grp) VALUES ($1, $2, $3, $4)";
    DELETE_GROUPS = "roster_delete_groups":
        "DELETE FROM rostergroups WHERE server = $1 AND username = $2 AND jid = $3";
    LAST_CHANGE = "roster_last_change":
        "SELECT COALESCE(MAX(change_id), 0) FROM roster_changes WHERE server = $1 AND username = $2";
    PUT_VERSION = "roster_put_version":
        "INSERT INTO roster_version (server, username, version) VALUES ($1, $2, $3)
         ON CONFLICT (server, username) DO UPDATE SET version = excluded.version",
        mysql: "INSERT INTO roster_version (server, username, version) VALUES ($1, $2, $3)
                ON DUPLICATE KEY UPDATE version = VALUES(version)";
    PUT_CHANGE = "roster_put_change":
        "INSERT INTO roster_changes (server, username, change_id, version, jid) VALUES ($1, $2, $3, $4, $5)";
    DELETE_OLD_CHANGES = "roster_delete_old_changes":
        "DELETE FROM roster_changes WHERE server = $1 AND username = $2 AND change_id <= $3";
}

/// A contact with what the user calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its address, mostly bare.
    pub jid: Jid,
    /// The user's name for it; empty for none.
    pub name: String,
    /// The user's groups, sorted.
    pub groups: Vec<String>,
    /// What the server knows of it.
    pub contact: Contact,
}

/// A roster at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roster {
    /// The `ver` of this roster.
    pub version: String,
    /// All contacts, sorted by address; with those that have only asked, which no client is shown
    /// ([`Contact::listed`]).
    pub items: Vec<Item>,
}

/// What a client that knows a version still has to learn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Since {
    /// Nothing.
    Current,
    /// These pushes, in order.
    Changes(Vec<Push>),
    /// All of it: the version is too old or unknown.
    Whole(Roster),
}

/// A change for all interested resources of the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Push {
    /// Address of the contact.
    pub jid: Jid,
    /// The item as it is now; None if it was removed.
    pub item: Option<Item>,
    /// The `ver` of the roster after the change.
    pub version: String,
}

/// What became of a change that may add an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done<T> {
    /// It is committed.
    Changed(T),
    /// Refused: the roster would have more than [`ITEMS_MAX`] items or [`ROSTER_BYTES_MAX`] bytes.
    Full,
}

/// A name and groups for an item, within their limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    name: String,
    groups: Vec<String>,
}

/// Why a name or groups are refused (RFC 6121 section 2.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The name is longer than [`NAME_BYTES_MAX`]: `not-acceptable`.
    #[error("the name is too long")]
    NameTooLong,
    /// A group has no name: `not-acceptable`.
    #[error("a group has no name")]
    GroupEmpty,
    /// The name of a group is longer than [`GROUP_BYTES_MAX`]: `not-acceptable`.
    #[error("the name of a group is too long")]
    GroupTooLong,
    /// There are more than [`GROUPS_MAX`] groups: `not-acceptable`.
    #[error("there are too many groups")]
    TooManyGroups,
    /// A group is named twice: `bad-request`.
    #[error("a group is named twice")]
    GroupTwice,
}

impl Edit {
    /// Checks the limits.
    pub fn new(name: String, mut groups: Vec<String>) -> Result<Self, EditError> {
        if name.len() > NAME_BYTES_MAX {
            return Err(EditError::NameTooLong);
        }
        if groups.len() > GROUPS_MAX {
            return Err(EditError::TooManyGroups);
        }
        for group in &groups {
            match group.len() {
                0 => return Err(EditError::GroupEmpty),
                1..=GROUP_BYTES_MAX => {}
                _ => return Err(EditError::GroupTooLong),
            }
        }
        groups.sort();
        if groups.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(EditError::GroupTwice);
        }
        Ok(Self { name, groups })
    }
}

/// A request that waits for the user's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Who asks.
    pub from: Jid,
    /// The stanza as XML, or (from MongooseIM) the text of its status.
    text: String,
}

impl Request {
    /// The request as it is delivered to `account`.
    pub fn to_stanza(&self, account: &BareJid) -> Option<Stanza> {
        let kept = storage::to_stanza(&self.text);
        if let Some(stanza) = kept.filter(|stanza| stanza.stanza_type() == StanzaType::Subscribe) {
            return Some(stanza);
        }
        let mut element = Element::new("presence", ns::CLIENT)
            .with_attr("type", SubscriptionType::Subscribe.as_str())
            .with_attr("from", self.from.as_str())
            .with_attr("to", account.as_str());
        if !self.text.is_empty() {
            element.push(Element::new("status", ns::CLIENT).with_text(&self.text));
        }
        Stanza::from_element(&element).ok()
    }
}

/// What the first presence of a session needs to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overview {
    /// Contacts where anybody sees anybody's presence.
    pub subscriptions: Vec<(Jid, State)>,
    /// Requests wait for an answer.
    pub has_requests: bool,
    /// Messages were stored while nobody was there.
    pub has_messages: bool,
}

/// The rosters of all accounts.
#[derive(Clone)]
pub struct RosterStore {
    db: Db,
}

impl RosterStore {
    /// The rosters in `db`.
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// The whole roster. One statement.
    pub async fn load(&self, account: &BareJid) -> Result<Roster, Error> {
        let mut found = Found::default();
        self.db
            .fetch_all(LOAD.bind(Key::of(account).values()), |row| found.take(row))
            .await?;
        Ok(found.into_roster())
    }

    /// What a client has to learn that knows version `known` (section 2.6.2). One statement if it is current.
    pub async fn load_since(&self, account: &BareJid, known: &str) -> Result<Since, Error> {
        let key = Key::of(account);
        let version = self
            .db
            .fetch_optional(VERSION.bind(key.values()), |row| row.text(0))
            .await?;
        if version.is_some_and(|version| version == known) {
            return Ok(Since::Current);
        }
        let mut found = Found::default();
        self.db
            .fetch_all(LOAD_WITH_CHANGES.bind(key.values()), |row| found.take(row))
            .await?;
        let changes = found.take_changes_since(known);
        let roster = found.into_roster();
        Ok(match changes {
            _ if roster.version == known => Since::Current,
            Some(changes) => Since::Changes(
                changes
                    .into_iter()
                    .map(|change| change.into_push(&roster))
                    .collect(),
            ),
            None => Since::Whole(roster),
        })
    }

    /// One contact. One statement.
    pub async fn load_item(&self, account: &BareJid, jid: &Jid) -> Result<Option<Item>, Error> {
        let mut found = Found::default();
        self.db
            .fetch_all(LOAD_ITEM.bind(Key::of(account).with(jid.as_str())), |row| {
                found.take(row)
            })
            .await?;
        Ok(found.into_roster().items.pop())
    }

    /// Who sees whose presence, for those contacts where anybody does. One statement.
    pub async fn subscriptions(&self, account: &BareJid) -> Result<Vec<(Jid, State)>, Error> {
        let query = SUBSCRIPTIONS.bind(Key::of(account).values());
        Ok(self
            .db
            .fetch_optional(query, read_subscriptions)
            .await?
            .unwrap_or_default())
    }

    /// What the first presence of a session needs to know. One statement.
    pub async fn overview(&self, account: &BareJid) -> Result<Overview, Error> {
        let query = OVERVIEW.bind(Key::of(account).values());
        let read = |row: &Row<'_>| {
            Ok(Overview {
                subscriptions: read_subscriptions(row)?,
                has_requests: row.truth(1)?,
                has_messages: row.truth(2)?,
            })
        };
        Ok(self
            .db
            .fetch_optional(query, read)
            .await?
            .unwrap_or_default())
    }

    /// Requests that wait for an answer, sorted by address, after that of `after`; at most [`REQUESTS_PAGE_MAX`].
    pub async fn requests(
        &self,
        account: &BareJid,
        after: Option<&Jid>,
    ) -> Result<Vec<Request>, Error> {
        let [server, username, after] = Key::of(account).with(after.map_or("", Jid::as_str));
        let query = REQUESTS.bind([server, username, after, i64::from(REQUESTS_PAGE_MAX).into()]);
        let read = |row: &Row<'_>| {
            let state = read_state(&row.text(1)?, &row.text(2)?).ok_or_else(|| row.corrupt(1))?;
            let from = Jid::parse(&row.text(0)?).map_err(|_| row.corrupt(0))?;
            Ok(state.is_pending_in().then_some(Request {
                from,
                text: row.text(3)?,
            }))
        };
        Ok(self
            .db
            .fetch_all(query, read)
            .await?
            .into_iter()
            .flatten()
            .collect())
    }

    /// Adds a contact to the roster, or changes its name and groups. What a client says of the subscription is not
    /// heard (section 2.1.2).
    pub async fn set_item(
        &self,
        account: &BareJid,
        jid: &Jid,
        edit: Edit,
    ) -> Result<Done<Push>, Error> {
        let (key, jid) = (Key::of(account), jid.clone());
        self.db
            .transaction("roster_set_item", move |transaction| {
                Box::pin(async move { set_item(transaction, &key, jid, edit).await })
            })
            .await
    }

    /// Removes an item and tells what its contact is sent; None if there is none.
    pub async fn remove_item(
        &self,
        account: &BareJid,
        jid: &Jid,
    ) -> Result<Option<(Removal, Push)>, Error> {
        let (key, jid) = (Key::of(account), jid.clone());
        self.db
            .transaction("roster_remove_item", move |transaction| {
                Box::pin(async move { remove_item(transaction, &key, jid).await })
            })
            .await
    }

    /// Does what a stanza of the user to a contact does, and tells what is left to do: route, push, share presence.
    pub async fn outbound(
        &self,
        account: &BareJid,
        contact: &BareJid,
        stanza: SubscriptionType,
    ) -> Result<Done<(Outbound, Option<Push>)>, Error> {
        let (key, jid) = (Key::of(account), contact.as_ref().to_jid());
        self.db
            .transaction("roster_outbound", move |transaction| {
                Box::pin(async move { outbound(transaction, &key, jid, stanza).await })
            })
            .await
    }

    /// Does what a stanza of a contact to the user does, and tells what is left to do: deliver, push, reply, share
    /// presence. `xml` is the stanza, kept if it is a request.
    pub async fn inbound(
        &self,
        account: &BareJid,
        contact: &BareJid,
        stanza: SubscriptionType,
        xml: &str,
    ) -> Result<(Inbound, Option<Push>), Error> {
        let (key, jid) = (Key::of(account), contact.as_ref().to_jid());
        let request = if xml.len() <= REQUEST_BYTES_MAX {
            xml
        } else {
            ""
        };
        let request = request.to_owned();
        self.db
            .transaction("roster_inbound", move |transaction| {
                Box::pin(async move { inbound(transaction, &key, jid, stanza, request).await })
            })
            .await
    }
}

/// The first column as contacts with the state of their subscription.
fn read_subscriptions(row: &Row<'_>) -> Result<Vec<(Jid, State)>, Error> {
    let rows = read_json::<(String, String, String)>(row, 0)?;
    let read = |(jid, subscription, ask): (String, String, String)| {
        Some((Jid::parse(&jid).ok()?, read_state(&subscription, &ask)?))
    };
    rows.into_iter()
        .map(read)
        .collect::<Option<Vec<_>>>()
        .ok_or_else(|| row.corrupt(0))
}

async fn set_item(
    transaction: &mut Transaction<'_>,
    key: &Key,
    jid: Jid,
    edit: Edit,
) -> Result<Done<Push>, Error> {
    let (old, version) = find(transaction, key, &jid).await?;
    let contact = Contact {
        listed: true,
        ..old.contact
    };
    let item = Item {
        jid: jid.clone(),
        name: edit.name,
        groups: edit.groups,
        contact,
    };
    if let (true, Some(version)) = (item == old, version) {
        return Ok(Done::Changed(Push {
            jid,
            item: Some(item),
            version,
        }));
    }
    if !old.contact.listed && is_full(transaction, key).await? {
        return Ok(Done::Full);
    }
    let grows_by = bytes_of(&item).saturating_sub(bytes_of(&old));
    if grows_by > 0 && count_bytes(transaction, key).await? + grows_by > ROSTER_BYTES_MAX {
        return Ok(Done::Full);
    }
    let [server, username, address] = key.with(jid.as_str());
    transaction
        .execute(PUT_NAME.bind([server, username, address, item.name.as_str().into()]))
        .await?;
    if item.groups != old.groups {
        transaction
            .execute(DELETE_GROUPS.bind(key.with(jid.as_str())))
            .await?;
        for group in &item.groups {
            let [server, username, address] = key.with(jid.as_str());
            transaction
                .execute(PUT_GROUP.bind([server, username, address, group.as_str().into()]))
                .await?;
        }
    }
    let version = note_change(transaction, key, &jid).await?;
    Ok(Done::Changed(Push {
        jid,
        item: Some(item),
        version,
    }))
}

async fn remove_item(
    transaction: &mut Transaction<'_>,
    key: &Key,
    jid: Jid,
) -> Result<Option<(Removal, Push)>, Error> {
    let (old, _) = find(transaction, key, &jid).await?;
    if !old.contact.listed {
        return Ok(None);
    }
    transaction
        .execute(DELETE_CONTACT.bind(key.with(jid.as_str())))
        .await?;
    transaction
        .execute(DELETE_GROUPS.bind(key.with(jid.as_str())))
        .await?;
    let version = note_change(transaction, key, &jid).await?;
    Ok(Some((
        subscription::removal(old.contact),
        Push {
            jid,
            item: None,
            version,
        },
    )))
}

async fn outbound(
    transaction: &mut Transaction<'_>,
    key: &Key,
    jid: Jid,
    stanza: SubscriptionType,
) -> Result<Done<(Outbound, Option<Push>)>, Error> {
    let (old, _) = find(transaction, key, &jid).await?;
    let decided = subscription::outbound(old.contact, stanza);
    if decided.contact.listed && !old.contact.listed && is_full(transaction, key).await? {
        return Ok(Done::Full);
    }
    let push = put_contact(transaction, key, old, decided.contact, decided.push, None).await?;
    Ok(Done::Changed((decided, push)))
}

async fn inbound(
    transaction: &mut Transaction<'_>,
    key: &Key,
    jid: Jid,
    stanza: SubscriptionType,
    request: String,
) -> Result<(Inbound, Option<Push>), Error> {
    let (old, _) = find(transaction, key, &jid).await?;
    let decided = subscription::inbound(old.contact, stanza);
    if decided.keep_request && !old.contact.listed {
        let count = transaction
            .fetch_optional(COUNT_REQUESTS.bind(key.values()), |row| row.count(0))
            .await?;
        if count.unwrap_or(0) >= REQUESTS_MAX {
            transaction
                .execute(DELETE_NEWEST_REQUEST.bind(key.values()))
                .await?;
        }
    }
    let request = decided.keep_request.then_some(request);
    let push = put_contact(
        transaction,
        key,
        old,
        decided.contact,
        decided.push,
        request,
    )
    .await?;
    Ok((decided, push))
}

/// Writes what is known of a contact, if that is new. A request is kept while it waits.
async fn put_contact(
    transaction: &mut Transaction<'_>,
    key: &Key,
    old: Item,
    contact: Contact,
    push: bool,
    request: Option<String>,
) -> Result<Option<Push>, Error> {
    if contact == old.contact {
        return Ok(None);
    }
    let Item {
        jid, name, groups, ..
    } = old;
    let [server, username, address] = key.with(jid.as_str());
    if contact.is_unknown() {
        transaction
            .execute(DELETE_CONTACT.bind([server, username, address]))
            .await?;
    } else {
        let (subscription, ask) = write_state(contact.state);
        let answered = || (!contact.state.is_pending_in()).then(String::new);
        let query = PUT_CONTACT.bind([
            server,
            username,
            address,
            subscription.into(),
            ask.into(),
            contact.approved.into(),
            contact.listed.into(),
            request.or_else(answered).into(),
        ]);
        transaction.execute(query).await?;
    }
    if !push {
        return Ok(None);
    }
    let version = note_change(transaction, key, &jid).await?;
    let item = Item {
        jid: jid.clone(),
        name,
        groups,
        contact,
    };
    Ok(Some(Push {
        jid,
        item: Some(item),
        version,
    }))
}

/// What is known of a contact (of a stranger: nothing), and the version of the roster, if it has one of its own.
async fn find(
    transaction: &mut Transaction<'_>,
    key: &Key,
    jid: &Jid,
) -> Result<(Item, Option<String>), Error> {
    let mut found = Found::default();
    transaction
        .fetch_all(LOAD_ITEM.bind(key.with(jid.as_str())), |row| {
            found.take(row)
        })
        .await?;
    let version = found.version.take();
    let stranger = || Item {
        jid: jid.clone(),
        name: String::new(),
        groups: Vec::new(),
        contact: Contact::UNKNOWN,
    };
    Ok((
        found.into_roster().items.pop().unwrap_or_else(stranger),
        version,
    ))
}

async fn is_full(transaction: &mut Transaction<'_>, key: &Key) -> Result<bool, Error> {
    let count = transaction
        .fetch_optional(COUNT_ITEMS.bind(key.values()), |row| row.count(0))
        .await?;
    Ok(count.unwrap_or(0) >= ITEMS_MAX)
}

async fn count_bytes(transaction: &mut Transaction<'_>, key: &Key) -> Result<u64, Error> {
    let bytes = transaction
        .fetch_optional(COUNT_BYTES.bind(key.values()), |row| row.count(0))
        .await?;
    Ok(bytes.unwrap_or(0))
}

/// What the user can make larger.
fn bytes_of(item: &Item) -> u64 {
    let groups: usize = item.groups.iter().map(String::len).sum();
    (item.name.len() + groups) as u64
}

/// Gives the roster a new version after a change of this contact.
async fn note_change(
    transaction: &mut Transaction<'_>,
    key: &Key,
    jid: &Jid,
) -> Result<String, Error> {
    let last = transaction
        .fetch_optional(LAST_CHANGE.bind(key.values()), |row| row.integer(0))
        .await?;
    let number = last.unwrap_or(0).saturating_add(1);
    let random = getrandom::u64().expect("the operating system has random numbers");
    let version = format!("{number}-{random:016x}");
    let [server, username] = key.values();
    transaction
        .execute(PUT_VERSION.bind([server, username, version.as_str().into()]))
        .await?;
    let [server, username] = key.values();
    let values = [
        server,
        username,
        number.into(),
        version.as_str().into(),
        jid.as_str().into(),
    ];
    transaction.execute(PUT_CHANGE.bind(values)).await?;
    if number % CHANGES_SLACK == 0 {
        let [server, username] = key.values();
        transaction
            .execute(DELETE_OLD_CHANGES.bind([server, username, (number - CHANGES_MAX).into()]))
            .await?;
    }
    Ok(version)
}

/// The columns `server` and `username`.
struct Key {
    server: std::sync::Arc<str>,
    username: std::sync::Arc<str>,
}

impl Key {
    fn of(account: &BareJid) -> Self {
        Self {
            server: account.domain().into(),
            username: account.local().unwrap_or_default().into(),
        }
    }

    fn values(&self) -> [Value; 2] {
        [self.server.clone().into(), self.username.clone().into()]
    }

    /// With the column `jid`.
    fn with(&self, jid: &str) -> [Value; 3] {
        [
            self.server.clone().into(),
            self.username.clone().into(),
            jid.into(),
        ]
    }
}

/// What a statement that loads has returned so far; its rows come in any order.
#[derive(Default)]
struct Found {
    version: Option<String>,
    items: BTreeMap<String, Item>,
    groups: Vec<(String, String)>,
    changes: BTreeMap<i64, Change>,
}

/// Columns of `rosterusers`: jid, nick, subscription, ask, approved, listed.
type ItemRow = (String, String, String, String, i64, Option<i64>);

struct Change {
    jid: Jid,
    version: String,
}

impl Change {
    fn into_push(self, roster: &Roster) -> Push {
        let found = roster
            .items
            .iter()
            .find(|item| item.jid == self.jid && item.contact.listed);
        Push {
            jid: self.jid,
            item: found.cloned(),
            version: self.version,
        }
    }
}

impl Found {
    fn take(&mut self, row: &Row<'_>) -> Result<(), Error> {
        match row.integer(0)? {
            KIND_VERSION => self.version = Some(row.text(1)?),
            KIND_ITEMS => {
                for item in read_json::<ItemRow>(row, 1)? {
                    self.take_item(item).ok_or_else(|| row.corrupt(1))?;
                }
            }
            KIND_GROUPS => self.groups = read_json(row, 1)?,
            KIND_CHANGES => {
                for (number, version, jid) in read_json::<(i64, String, String)>(row, 1)? {
                    let jid = Jid::parse(&jid).map_err(|_| row.corrupt(1))?;
                    self.changes.insert(number, Change { jid, version });
                }
            }
            _ => return Err(row.corrupt(0)),
        }
        Ok(())
    }

    fn take_item(
        &mut self,
        (text, name, subscription, ask, approved, listed): ItemRow,
    ) -> Option<()> {
        let jid = Jid::parse(&text).ok()?;
        let state = read_state(&subscription, &ask)?;
        let listed = listed.map_or(state != State::NonePendingIn, |listed| listed != 0);
        let contact = Contact {
            state,
            approved: approved != 0,
            listed,
        };
        self.items.insert(
            text,
            Item {
                jid,
                name,
                groups: Vec::new(),
                contact,
            },
        );
        Some(())
    }

    /// The last change of each contact after the one that made version `known`, in order; None if that is not found.
    fn take_changes_since(&mut self, known: &str) -> Option<Vec<Change>> {
        let number = self
            .changes
            .iter()
            .find(|(_, change)| change.version == known)
            .map(|(number, _)| *number)?;
        let later = self.changes.split_off(&number.saturating_add(1));
        let mut changes: Vec<Change> = Vec::new();
        for (_, change) in later {
            changes.retain(|earlier| earlier.jid != change.jid);
            changes.push(change);
        }
        Some(changes)
    }

    fn into_roster(mut self) -> Roster {
        for (jid, group) in self.groups {
            // A group of nobody is left over from a row that another program has removed.
            if let Some(item) = self.items.get_mut(&jid) {
                item.groups.push(group);
            }
        }
        let mut items: Vec<Item> = self.items.into_values().collect();
        items.iter_mut().for_each(|item| item.groups.sort());
        let version = self.version.unwrap_or_else(|| version_by_content(&items));
        Roster { version, items }
    }
}

/// The version of a roster that was never changed here: follows from what a client sees of it, so it needs no row and
/// is another one after a dump was loaded. FNV-1a: opaque to clients, and only the user can make two rosters collide,
/// who gains nothing by it.
fn version_by_content(items: &[Item]) -> String {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut hash = OFFSET;
    let mut add = |text: &str| {
        // Each text ends with a byte that is in no text.
        for byte in text.bytes().chain([0xff]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(PRIME);
        }
    };
    for item in items.iter().filter(|item| item.contact.listed) {
        let (subscription, ask) = write_state(item.contact.state);
        let flags = [
            subscription,
            ask,
            if item.contact.approved { "1" } else { "0" },
        ];
        [item.jid.as_str(), item.name.as_str()]
            .into_iter()
            .chain(flags)
            .for_each(&mut add);
        item.groups.iter().for_each(|group| add(group));
        add("");
    }
    format!("0-{hash:016x}")
}

/// Rows that the database has put together as JSON.
fn read_json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> Result<Vec<T>, Error> {
    serde_json::from_str(&row.text(column)?).map_err(|_| row.corrupt(column))
}

/// The state that columns `subscription` and `ask` mean, if they mean one.
fn read_state(subscription: &str, ask: &str) -> Option<State> {
    let subscription = match subscription {
        "N" => Subscription::None,
        "T" => Subscription::To,
        "F" => Subscription::From,
        "B" => Subscription::Both,
        _ => return None,
    };
    let (pending_out, pending_in) = match ask {
        // "Unsubscribe" of old rows waits for nothing.
        "N" | "U" => (false, false),
        "O" | "S" => (true, false),
        "I" => (false, true),
        "B" => (true, true),
        _ => return None,
    };
    Some(State::new(subscription, pending_out, pending_in))
}

/// Columns `subscription` and `ask` for a state.
fn write_state(state: State) -> (&'static str, &'static str) {
    let subscription = match state.subscription() {
        Subscription::None => "N",
        Subscription::To => "T",
        Subscription::From => "F",
        Subscription::Both => "B",
    };
    let ask = match (state.is_pending_out(), state.is_pending_in()) {
        (false, false) => "N",
        (true, false) => "O",
        (false, true) => "I",
        (true, true) => "B",
    };
    (subscription, ask)
}

#[cfg(test)]
mod tests;
