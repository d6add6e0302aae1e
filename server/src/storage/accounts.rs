//! Accounts: table `users`, with MongooseIM's columns.
//!
//! `password` holds the password itself, or is empty when `pass_details` holds SCRAM keys. What these texts mean is
//! the business of authentication; here they are only kept.
use super::{Db, Error, Statement, Transaction, Value, statements};

/// Accounts made in one transaction by [`AccountStore::create_many`]: others wait no longer than for so many.
const CREATE_BATCH_MAX: usize = 500;
/// Accounts that [`AccountStore::list`] returns at most.
pub const LIST_MAX: u32 = 1_000;

statements! {
    CREDENTIALS = "account_credentials":
        "SELECT \"password\", pass_details FROM users WHERE server = $1 AND username = $2";
    EXISTS = "account_exists":
        "SELECT 1 FROM users WHERE server = $1 AND username = $2";
    COUNT = "account_count":
        "SELECT COUNT(*) FROM users WHERE server = $1";
    COUNT_ALL = "account_count_all":
        "SELECT COUNT(*) FROM users";
    LIST = "account_list":
        "SELECT username FROM users WHERE server = $1 ORDER BY username LIMIT $2 OFFSET $3",
        postgres: "SELECT username FROM users WHERE server = $1 ORDER BY username COLLATE \"C\" LIMIT $2 OFFSET $3";
    CREATE = "account_create":
        "INSERT INTO users (server, username, \"password\", pass_details) VALUES ($1, $2, $3, $4)";
    CREATE_IF_MISSING = "account_create_if_missing":
        "INSERT INTO users (server, username, \"password\", pass_details) VALUES ($1, $2, $3, $4)
         ON CONFLICT (server, username) DO NOTHING",
        mysql: "INSERT INTO users (server, username, \"password\", pass_details) SELECT $1, $2, $3, $4 FROM DUAL
                WHERE NOT EXISTS (SELECT 1 FROM users WHERE server = $1 AND username = $2)";
    SET_PASSWORD = "account_set_password":
        "UPDATE users SET \"password\" = $3, pass_details = $4 WHERE server = $1 AND username = $2";
    REPLACE_DETAILS = "account_replace_details":
        "UPDATE users SET pass_details = $4 WHERE server = $1 AND username = $2 AND pass_details = $3";
    REMOVE = "account_remove":
        "DELETE FROM users WHERE server = $1 AND username = $2";
    REMOVE_CONTACTS = "account_remove_contacts":
        "DELETE FROM rosterusers WHERE server = $1 AND username = $2";
    REMOVE_GROUPS = "account_remove_groups":
        "DELETE FROM rostergroups WHERE server = $1 AND username = $2";
    REMOVE_ROSTER_VERSION = "account_remove_roster_version":
        "DELETE FROM roster_version WHERE server = $1 AND username = $2";
    REMOVE_ROSTER_CHANGES = "account_remove_roster_changes":
        "DELETE FROM roster_changes WHERE server = $1 AND username = $2";
    REMOVE_OFFLINE_MESSAGES = "account_remove_offline_messages":
        "DELETE FROM offline_message WHERE server = $1 AND username = $2";
    REMOVE_PRIVATE_STORAGE = "account_remove_private_storage":
        "DELETE FROM private_storage WHERE server = $1 AND username = $2";
    REMOVE_LAST = "account_remove_last":
        "DELETE FROM last WHERE server = $1 AND username = $2";
    REMOVE_PRIVACY_ITEMS = "account_remove_privacy_items":
        "DELETE FROM privacy_list_data WHERE id IN
         (SELECT id FROM privacy_list WHERE server = $1 AND username = $2)";
    REMOVE_PRIVACY_LISTS = "account_remove_privacy_lists":
        "DELETE FROM privacy_list WHERE server = $1 AND username = $2";
    REMOVE_PRIVACY_DEFAULT = "account_remove_privacy_default":
        "DELETE FROM privacy_default_list WHERE server = $1 AND username = $2";
    REMOVE_VCARD = "account_remove_vcard":
        "DELETE FROM vcard WHERE server = $1 AND username = $2";
    REMOVE_VCARD_SEARCH = "account_remove_vcard_search":
        "DELETE FROM vcard_search WHERE server = $1 AND lusername = $2";
}

/// What belongs to an account beside its row in `users`: a test finds tables that are missing here.
const REMOVE_WHAT_BELONGS_TO_IT: [&Statement; 12] = [
    REMOVE_CONTACTS,
    REMOVE_GROUPS,
    REMOVE_ROSTER_VERSION,
    REMOVE_ROSTER_CHANGES,
    REMOVE_OFFLINE_MESSAGES,
    REMOVE_PRIVATE_STORAGE,
    REMOVE_LAST,
    REMOVE_PRIVACY_ITEMS,
    REMOVE_PRIVACY_LISTS,
    REMOVE_PRIVACY_DEFAULT,
    REMOVE_VCARD,
    REMOVE_VCARD_SEARCH,
];

/// What an account is authenticated with. Has no `Debug`, so that it cannot end up in a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The password, or empty if there are SCRAM keys.
    pub password: String,
    /// SCRAM keys in MongooseIM's encoding.
    pub pass_details: Option<String>,
}

/// An account to be made.
#[derive(Clone)]
pub struct NewAccount {
    /// The local part, prepared.
    pub username: String,
    /// The domain, prepared.
    pub domain: String,
    /// What it is authenticated with.
    pub credentials: Credentials,
}

/// The accounts of all domains. Local parts and domains are in normal form (RFC 7622); they are compared byte by byte.
#[derive(Clone)]
pub struct AccountStore {
    db: Db,
}

impl AccountStore {
    /// The accounts in `db`.
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// What the account is authenticated with; None if there is no such account. One statement.
    pub async fn credentials(
        &self,
        username: &str,
        domain: &str,
    ) -> Result<Option<Credentials>, Error> {
        let query = CREDENTIALS.bind([domain.into(), username.into()]);
        self.db
            .fetch_optional(query, |row| {
                Ok(Credentials {
                    password: row.text(0)?,
                    pass_details: row.optional_text(1)?,
                })
            })
            .await
    }

    /// Whether there is such an account.
    pub async fn exists(&self, username: &str, domain: &str) -> Result<bool, Error> {
        let query = EXISTS.bind([domain.into(), username.into()]);
        Ok(self.db.fetch_optional(query, |_| Ok(())).await?.is_some())
    }

    /// Accounts of the domain.
    pub async fn count(&self, domain: &str) -> Result<u64, Error> {
        let count = self
            .db
            .fetch_optional(COUNT.bind([domain.into()]), |row| row.count(0))
            .await?;
        Ok(count.unwrap_or(0))
    }

    /// Accounts of all domains.
    pub async fn count_all(&self) -> Result<u64, Error> {
        let count = self
            .db
            .fetch_optional(COUNT_ALL.bind([]), |row| row.count(0))
            .await?;
        Ok(count.unwrap_or(0))
    }

    /// Local parts of the accounts of the domain in order of their bytes, at most [`LIST_MAX`], after the first
    /// `offset`.
    pub async fn list(&self, domain: &str, limit: u32, offset: u64) -> Result<Vec<String>, Error> {
        let limit = i64::from(limit.min(LIST_MAX));
        let offset = i64::try_from(offset).unwrap_or(i64::MAX);
        self.db
            .fetch_all(
                LIST.bind([domain.into(), limit.into(), offset.into()]),
                |row| row.text(0),
            )
            .await
    }

    /// Makes an account with SCRAM keys. [`Error::Conflict`] if it exists.
    pub async fn create(
        &self,
        username: &str,
        domain: &str,
        pass_details: &str,
    ) -> Result<(), Error> {
        let query = CREATE.bind([
            domain.into(),
            username.into(),
            "".into(),
            pass_details.into(),
        ]);
        self.db.execute(query).await?;
        Ok(())
    }

    /// Makes those accounts that do not exist yet and tells for each, in order, whether it was made. Commits every
    /// few hundred: after an error, the first ones may have been made.
    pub async fn create_many(&self, accounts: Vec<NewAccount>) -> Result<Vec<bool>, Error> {
        let mut made = Vec::with_capacity(accounts.len());
        let mut accounts = accounts.into_iter();
        loop {
            let batch: Vec<_> = accounts.by_ref().take(CREATE_BATCH_MAX).collect();
            if batch.is_empty() {
                return Ok(made);
            }
            let outcome = self.db.transaction("account_create_many", |transaction| {
                Box::pin(async move {
                    let mut made = Vec::with_capacity(batch.len());
                    for account in batch {
                        made.push(
                            transaction
                                .execute(CREATE_IF_MISSING.bind(values(account)))
                                .await?
                                == 1,
                        );
                    }
                    Ok(made)
                })
            });
            made.append(&mut outcome.await?);
        }
    }

    /// Replaces what the account is authenticated with by SCRAM keys. False if there is no such account.
    pub async fn set_password(
        &self,
        username: &str,
        domain: &str,
        pass_details: &str,
    ) -> Result<bool, Error> {
        let query = SET_PASSWORD.bind([
            domain.into(),
            username.into(),
            "".into(),
            pass_details.into(),
        ]);
        Ok(self.db.execute(query).await? == 1)
    }

    /// Replaces SCRAM keys, unless they have been replaced meanwhile. Whether they were.
    pub async fn replace_details(
        &self,
        username: &str,
        domain: &str,
        before: &str,
        pass_details: &str,
    ) -> Result<bool, Error> {
        let query = REPLACE_DETAILS.bind([
            domain.into(),
            username.into(),
            before.into(),
            pass_details.into(),
        ]);
        Ok(self.db.execute(query).await? == 1)
    }

    /// Removes the account and every row that belongs to it, in one transaction. False if there was no such account;
    /// rows that an account of this name left behind are removed all the same.
    pub async fn remove(&self, username: &str, domain: &str) -> Result<bool, Error> {
        let (username, domain) = (username.to_owned(), domain.to_owned());
        self.db
            .transaction("account_remove_all", move |transaction| {
                Box::pin(async move { remove(transaction, &username, &domain).await })
            })
            .await
    }
}

fn values(account: NewAccount) -> [Value; 4] {
    let NewAccount {
        username,
        domain,
        credentials,
    } = account;
    let Credentials {
        password,
        pass_details,
    } = credentials;
    [
        domain.into(),
        username.into(),
        password.into(),
        pass_details.into(),
    ]
}

async fn remove(
    transaction: &mut Transaction<'_>,
    username: &str,
    domain: &str,
) -> Result<bool, Error> {
    for statement in REMOVE_WHAT_BELONGS_TO_IT {
        transaction
            .execute(statement.bind([domain.into(), username.into()]))
            .await?;
    }
    Ok(transaction
        .execute(REMOVE.bind([domain.into(), username.into()]))
        .await?
        == 1)
}

#[cfg(test)]
mod tests;
