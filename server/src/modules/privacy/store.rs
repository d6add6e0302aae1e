//! XEP-0016: privacy lists in MongooseIM's tables `privacy_list`, `privacy_list_data` and `privacy_default_list`.
//!
//! A change is one transaction that writes only those items which are others than before: who blocks one more address
//! costs one row.
use std::sync::Arc;

use protocol::{BareJid, Jid};

use super::list::{Action, Item, Kinds, List, Subject};
use crate::modules::roster::subscription::Subscription;
use crate::storage::{Cause, Db, Error, Row, Transaction, Value, statements};

/// Lists of one account. One more is refused.
pub const LISTS_MAX: u64 = 20;
/// Items of one list. What would have more is refused.
pub const ITEMS_MAX: usize = 1_000;
/// Bytes of what the items of a list name. What would have more is refused: a list is told in one stanza.
pub const LIST_BYTES_MAX: usize = 128 * 1024;
/// Characters of a list's name: the column has so many.
pub const NAME_CHARS_MAX: usize = 250;
/// Items of a list that was made elsewhere. One with more is not read, and lets nothing pass.
pub const ITEMS_READ_MAX: usize = 10_000;
/// The place of an item; the column is a number with a sign.
pub const ORDER_MAX: u32 = i32::MAX.unsigned_abs();
/// The list that holds what is blocked when the account had no default list before, as in MongooseIM.
pub const BLOCKED: &str = "blocked";

statements! {
    // A list without items is one row without an item.
    DEFAULT = "privacy_default":
        "SELECT l.name, i.t, i.value, i.action, i.ord,
         i.match_all, i.match_iq, i.match_message, i.match_presence_in, i.match_presence_out
         FROM privacy_default_list d
         JOIN privacy_list l ON l.server = d.server AND l.username = d.username AND l.name = d.name
         LEFT JOIN privacy_list_data i ON i.id = l.id
         WHERE d.server = $1 AND d.username = $2 LIMIT $3";
    LIST = "privacy_list":
        "SELECT l.name, i.t, i.value, i.action, i.ord,
         i.match_all, i.match_iq, i.match_message, i.match_presence_in, i.match_presence_out
         FROM privacy_list l LEFT JOIN privacy_list_data i ON i.id = l.id
         WHERE l.server = $1 AND l.username = $2 AND l.name = $3 LIMIT $4";
    NAMES = "privacy_names":
        "SELECT l.name, d.name FROM privacy_list l
         LEFT JOIN privacy_default_list d ON d.server = l.server AND d.username = l.username AND d.name = l.name
         WHERE l.server = $1 AND l.username = $2 ORDER BY l.name LIMIT $3";
    FIND = "privacy_find":
        "SELECT id FROM privacy_list WHERE server = $1 AND username = $2 AND name = $3";
    COUNT = "privacy_count":
        "SELECT COUNT(*) FROM privacy_list WHERE server = $1 AND username = $2";
    CREATE = "privacy_create":
        "INSERT INTO privacy_list (server, username, name) VALUES ($1, $2, $3)";
    REMOVE_ITEMS = "privacy_remove_items":
        "DELETE FROM privacy_list_data WHERE id = $1";
    REMOVE = "privacy_remove":
        "DELETE FROM privacy_list WHERE id = $1";
    PUT_ITEM = "privacy_put_item":
        "INSERT INTO privacy_list_data (id, t, value, action, ord,
         match_all, match_iq, match_message, match_presence_in, match_presence_out)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";
    REMOVE_ITEM = "privacy_remove_item":
        "DELETE FROM privacy_list_data WHERE id = $1 AND ord = $2";
    DEFAULT_NAME = "privacy_default_name":
        "SELECT name FROM privacy_default_list WHERE server = $1 AND username = $2";
    CREATE_DEFAULT = "privacy_create_default":
        "INSERT INTO privacy_default_list (server, username, name) VALUES ($1, $2, $3)";
    REMOVE_DEFAULT = "privacy_remove_default":
        "DELETE FROM privacy_default_list WHERE server = $1 AND username = $2";
}

/// The names of an account's lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// All, sorted.
    pub all: Vec<String>,
    /// The default list.
    pub default: Option<String>,
}

/// What became of a change that may need room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done<T> {
    /// It is committed.
    Changed(T),
    /// Refused: [`LISTS_MAX`], [`ITEMS_MAX`] or [`LIST_BYTES_MAX`].
    Full,
}

/// What became of a list that was to be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// It is gone.
    Removed,
    /// There was none.
    Missing,
    /// It is the default list, and stays.
    IsDefault,
}

/// A change of what is blocked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// These too.
    Block(Vec<Jid>),
    /// These not any more.
    Unblock(Vec<Jid>),
    /// Nobody.
    UnblockAll,
}

/// Whether a list is within its limits.
pub fn fits(items: &[Item]) -> bool {
    let bytes: usize = items.iter().map(Item::bytes).sum();
    items.len() <= ITEMS_MAX && bytes <= LIST_BYTES_MAX
}

/// The lists of all accounts.
#[derive(Clone)]
pub struct PrivacyStore {
    db: Db,
}

impl PrivacyStore {
    /// The lists in `db`.
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// The account's default list. One statement.
    pub async fn default_list(&self, account: &BareJid) -> Result<Option<List>, Error> {
        let [server, username] = Key::of(account).values();
        let mut found = Found::default();
        let query = DEFAULT.bind([server, username, limit()]);
        self.db.fetch_all(query, |row| found.take(row)).await?;
        found.into_list(LIST.name())
    }

    /// A list by its name. One statement.
    pub async fn list(&self, account: &BareJid, name: &str) -> Result<Option<List>, Error> {
        let [server, username, name] = Key::of(account).with(name);
        let mut found = Found::default();
        let query = LIST.bind([server, username, name, limit()]);
        self.db.fetch_all(query, |row| found.take(row)).await?;
        found.into_list(LIST.name())
    }

    /// The names of its lists. One statement.
    pub async fn names(&self, account: &BareJid) -> Result<Names, Error> {
        let [server, username] = Key::of(account).values();
        let mut names = Names::default();
        let query = NAMES.bind([server, username, limit()]);
        let read = |row: &Row<'_>| {
            names.all.push(row.text(0)?);
            if let Some(default) = row.optional_text(1)? {
                names.default = Some(default);
            }
            Ok(())
        };
        self.db.fetch_all(query, read).await?;
        Ok(names)
    }

    /// Keeps a list in place of the one of that name.
    pub async fn put(&self, account: &BareJid, list: List) -> Result<Done<()>, Error> {
        if !fits(list.items()) {
            return Ok(Done::Full);
        }
        let key = Key::of(account);
        self.db
            .transaction("privacy_put", move |transaction| {
                Box::pin(async move {
                    let old = load(transaction, &key, &list.name).await?;
                    let Some(id) = find_or_create(transaction, &key, &list.name).await? else {
                        return Ok(Done::Full);
                    };
                    let old = old.as_ref().map_or(&[][..], List::items);
                    write(transaction, id, old, list.items()).await?;
                    Ok(Done::Changed(()))
                })
            })
            .await
    }

    /// Removes a list that is not the default list.
    pub async fn remove(&self, account: &BareJid, name: &str) -> Result<Removal, Error> {
        let (key, name) = (Key::of(account), name.to_owned());
        self.db
            .transaction("privacy_remove_list", move |transaction| {
                Box::pin(async move {
                    let Some(id) = find(transaction, &key, &name).await? else {
                        return Ok(Removal::Missing);
                    };
                    if default_name(transaction, &key).await?.as_ref() == Some(&name) {
                        return Ok(Removal::IsDefault);
                    }
                    remove(transaction, id).await?;
                    Ok(Removal::Removed)
                })
            })
            .await
    }

    /// Makes a list the default list, or none. `false` if there is no such list.
    pub async fn set_default(&self, account: &BareJid, name: Option<&str>) -> Result<bool, Error> {
        let (key, name) = (Key::of(account), name.map(str::to_owned));
        self.db
            .transaction("privacy_set_default", move |transaction| {
                Box::pin(async move {
                    if let Some(name) = &name
                        && find(transaction, &key, name).await?.is_none()
                    {
                        return Ok(false);
                    }
                    put_default(transaction, &key, name.as_deref()).await?;
                    Ok(true)
                })
            })
            .await
    }

    /// Changes what is blocked, in the default list or, if there is none, in one of the name [`BLOCKED`] that becomes it.
    /// Returns the addresses for which it has changed; `None` if nothing was to be done. A list that nothing is left of
    /// is removed.
    pub async fn edit(
        &self,
        account: &BareJid,
        edit: Edit,
    ) -> Result<Done<Option<Vec<Jid>>>, Error> {
        let key = Key::of(account);
        self.db
            .transaction("privacy_edit", move |transaction| {
                Box::pin(async move { apply(transaction, &key, edit).await })
            })
            .await
    }
}

async fn apply(
    transaction: &mut Transaction<'_>,
    key: &Key,
    edit: Edit,
) -> Result<Done<Option<Vec<Jid>>>, Error> {
    let default = default_name(transaction, key).await?;
    let name = default.clone().unwrap_or_else(|| BLOCKED.to_owned());
    let old = load(transaction, key, &name).await?;
    let is_in_force = default.is_some() && old.is_some();
    let (changed, items) = edited(old.as_ref(), edit);
    // A list that was out of force holds what is blocked from now on, if anything new is.
    if changed.is_empty() && (is_in_force || items.is_empty()) {
        return Ok(Done::Changed(None));
    }
    let old = old.as_ref().map_or(&[][..], List::items);
    if items.len() > old.len() && !fits(&items) {
        return Ok(Done::Full);
    }
    let Some(id) = find_or_create(transaction, key, &name).await? else {
        return Ok(Done::Full);
    };
    if items.is_empty() {
        remove(transaction, id).await?;
        put_default(transaction, key, None).await?;
    } else {
        write(transaction, id, old, &items).await?;
        if default.is_none() {
            put_default(transaction, key, Some(&name)).await?;
        }
    }
    Ok(Done::Changed(Some(changed)))
}

/// Addresses whose state changes, and the items after that.
fn edited(old: Option<&List>, edit: Edit) -> (Vec<Jid>, Vec<Item>) {
    let old = old.map_or(&[][..], List::items);
    let is_blocked = |jid: &Jid| old.iter().any(|item| item.blocked() == Some(jid));
    match edit {
        Edit::Block(mut jids) => {
            jids.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
            jids.dedup();
            jids.retain(|jid| !is_blocked(jid));
            let items = with_blocked(old, &jids);
            (jids, items)
        }
        Edit::Unblock(jids) => without_blocked(old, |jid| jids.contains(jid)),
        Edit::UnblockAll => without_blocked(old, |_| true),
    }
}

/// What is blocked comes before everything that could allow it.
fn with_blocked(old: &[Item], jids: &[Jid]) -> Vec<Item> {
    let is_simple = old.iter().all(|item| item.blocked().is_some());
    let last = old.last().map_or(0, |item| item.order);
    let count = u32::try_from(jids.len()).unwrap_or(u32::MAX);
    let new = |first: u32| {
        (first..)
            .zip(jids)
            .map(|(order, jid)| Item::block(order, jid.clone()))
    };
    let end = last.checked_add(count);
    if is_simple && end.is_some_and(|end| end <= ORDER_MAX) {
        return old.iter().cloned().chain(new(last + 1)).collect();
    }
    let moved = (count + 1..).zip(old).map(|(order, item)| Item {
        order,
        ..item.clone()
    });
    new(1).chain(moved).collect()
}

fn without_blocked(old: &[Item], is_meant: impl Fn(&Jid) -> bool) -> (Vec<Jid>, Vec<Item>) {
    let (gone, kept): (Vec<Item>, Vec<Item>) = old
        .iter()
        .cloned()
        .partition(|item| item.blocked().is_some_and(&is_meant));
    (
        gone.iter().filter_map(Item::blocked).cloned().collect(),
        kept,
    )
}

// ---- within a transaction

async fn load(
    transaction: &mut Transaction<'_>,
    key: &Key,
    name: &str,
) -> Result<Option<List>, Error> {
    let [server, username, name] = key.with(name);
    let mut found = Found::default();
    let query = LIST.bind([server, username, name, limit()]);
    transaction.fetch_all(query, |row| found.take(row)).await?;
    found.into_list(LIST.name())
}

async fn find(
    transaction: &mut Transaction<'_>,
    key: &Key,
    name: &str,
) -> Result<Option<i64>, Error> {
    let query = FIND.bind(key.with(name));
    transaction
        .fetch_optional(query, |row| row.integer(0))
        .await
}

/// `None` if the account has as many lists as it may have.
async fn find_or_create(
    transaction: &mut Transaction<'_>,
    key: &Key,
    name: &str,
) -> Result<Option<i64>, Error> {
    if let Some(id) = find(transaction, key, name).await? {
        return Ok(Some(id));
    }
    let query = COUNT.bind(key.values());
    let count = transaction
        .fetch_optional(query, |row| row.count(0))
        .await?;
    if count.unwrap_or(0) >= LISTS_MAX {
        return Ok(None);
    }
    transaction.execute(CREATE.bind(key.with(name))).await?;
    find(transaction, key, name).await
}

async fn remove(transaction: &mut Transaction<'_>, id: i64) -> Result<(), Error> {
    transaction.execute(REMOVE_ITEMS.bind([id.into()])).await?;
    transaction.execute(REMOVE.bind([id.into()])).await?;
    Ok(())
}

/// Makes the rows of a list, which are those of `old`, those of `new`.
async fn write(
    transaction: &mut Transaction<'_>,
    id: i64,
    old: &[Item],
    new: &[Item],
) -> Result<(), Error> {
    let has = |items: &[Item], item: &Item| {
        let found = items.binary_search_by_key(&item.order, |other| other.order);
        found.is_ok_and(|index| items.get(index) == Some(item))
    };
    for item in old.iter().filter(|item| !has(new, item)) {
        let query = REMOVE_ITEM.bind([id.into(), i64::from(item.order).into()]);
        transaction.execute(query).await?;
    }
    for item in new.iter().filter(|item| !has(old, item)) {
        transaction.execute(PUT_ITEM.bind(values(id, item))).await?;
    }
    Ok(())
}

async fn default_name(
    transaction: &mut Transaction<'_>,
    key: &Key,
) -> Result<Option<String>, Error> {
    let query = DEFAULT_NAME.bind(key.values());
    transaction.fetch_optional(query, |row| row.text(0)).await
}

async fn put_default(
    transaction: &mut Transaction<'_>,
    key: &Key,
    name: Option<&str>,
) -> Result<(), Error> {
    transaction
        .execute(REMOVE_DEFAULT.bind(key.values()))
        .await?;
    if let Some(name) = name {
        transaction
            .execute(CREATE_DEFAULT.bind(key.with(name)))
            .await?;
    }
    Ok(())
}

// ---- rows

fn limit() -> Value {
    i64::try_from(ITEMS_READ_MAX + 1).unwrap_or(i64::MAX).into()
}

/// What a statement that loads a list has returned so far; its rows come in any order.
#[derive(Default)]
struct Found {
    name: Option<String>,
    items: Vec<Item>,
}

impl Found {
    fn take(&mut self, row: &Row<'_>) -> Result<(), Error> {
        if self.name.is_none() {
            self.name = Some(row.text(0)?);
        }
        if let Some(kind) = row.optional_text(1)? {
            // Half a list would let pass what the other half keeps out.
            if self.items.len() == ITEMS_READ_MAX {
                return Err(row.corrupt(4));
            }
            self.items.push(read_item(row, &kind)?);
        }
        Ok(())
    }

    fn into_list(self, query: &'static str) -> Result<Option<List>, Error> {
        let Some(name) = self.name else {
            return Ok(None);
        };
        let cause = Cause::Value { column: 4 };
        let list = List::new(&name, self.items).ok_or(Error::Corrupt { query, cause })?;
        Ok(Some(list))
    }
}

fn read_item(row: &Row<'_>, kind: &str) -> Result<Item, Error> {
    let value = row.text(2)?;
    let subject = match kind.trim_end() {
        "n" => Subject::Everybody,
        "j" => Subject::Address(Jid::parse(&value).map_err(|_| row.corrupt(2))?),
        "g" => Subject::Group(value.into()),
        "s" => Subject::Subscription(subscription(&value).ok_or_else(|| row.corrupt(2))?),
        _ => return Err(row.corrupt(1)),
    };
    let action = match row.text(3)?.trim_end() {
        "a" => Action::Allow,
        "d" => Action::Deny,
        "b" => Action::Block,
        _ => return Err(row.corrupt(3)),
    };
    Ok(Item {
        order: u32::try_from(row.integer(4)?).map_err(|_| row.corrupt(4))?,
        subject,
        action,
        kinds: Kinds {
            all: row.truth(5)?,
            iq: row.truth(6)?,
            message: row.truth(7)?,
            presence_in: row.truth(8)?,
            presence_out: row.truth(9)?,
        },
    })
}

/// A subscription by its word (RFC 6121 section 2.1.2.5).
pub fn subscription(word: &str) -> Option<Subscription> {
    let all = [
        Subscription::None,
        Subscription::To,
        Subscription::From,
        Subscription::Both,
    ];
    all.into_iter().find(|of| of.as_str() == word)
}

fn values(id: i64, item: &Item) -> [Value; 10] {
    let (kind, value) = match &item.subject {
        Subject::Everybody => ("n", ""),
        Subject::Address(jid) => ("j", jid.as_str()),
        Subject::Group(group) => ("g", &**group),
        Subject::Subscription(subscription) => ("s", subscription.as_str()),
    };
    let action = match item.action {
        Action::Allow => "a",
        Action::Deny => "d",
        Action::Block => "b",
    };
    [
        id.into(),
        kind.into(),
        value.into(),
        action.into(),
        i64::from(item.order).into(),
        item.kinds.all.into(),
        item.kinds.iq.into(),
        item.kinds.message.into(),
        item.kinds.presence_in.into(),
        item.kinds.presence_out.into(),
    ]
}

/// The columns `server` and `username`.
struct Key {
    server: Arc<str>,
    username: Arc<str>,
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

    /// With the column `name`.
    fn with(&self, name: &str) -> [Value; 3] {
        let [server, username] = self.values();
        [server, username, name.into()]
    }
}

#[cfg(test)]
mod tests;
