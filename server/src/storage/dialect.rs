//! What differs between the varieties of SQL, save for the drivers: see `sqlite`, `postgres` and `mysql` beside this.
//!
//! A statement has one text for all, or one of its own where a dialect would have to say it in other words
//! ([`super::statements!`]); migrations are files of their own in `migrations/{sqlite,postgres,mysql}`.
use super::Query;

/// A variety of SQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// In the process.
    Sqlite,
    /// PostgreSQL.
    Postgres,
    /// MySQL and MariaDB.
    MySql,
}

impl Dialect {
    /// Starts a transaction that will write. SQLite takes its lock now, as a deferred transaction that reads first
    /// and writes then fails at once when another process wrote in between.
    pub(super) fn begin(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::Postgres => "BEGIN",
            Self::MySql => "START TRANSACTION",
        }
    }

    /// Whether an error of one statement loses the transaction, unless there is a savepoint before it.
    pub(super) fn is_transaction_lost_by_an_error(self) -> bool {
        match self {
            Self::Sqlite | Self::MySql => false,
            Self::Postgres => true,
        }
    }
}

pub(super) const COMMIT: &str = "COMMIT";
pub(super) const ROLLBACK: &str = "ROLLBACK";
/// Encloses the statements of one job within the transaction of its batch.
pub(super) const SAVEPOINT: &str = "SAVEPOINT job";
pub(super) const ROLLBACK_TO_SAVEPOINT: &str = "ROLLBACK TO SAVEPOINT job";
pub(super) const RELEASE_SAVEPOINT: &str = "RELEASE SAVEPOINT job";

/// What a statement says in each dialect.
#[derive(Debug)]
pub(crate) struct Texts {
    pub(crate) sqlite: &'static str,
    pub(crate) postgres: &'static str,
    /// With `?` for each value.
    pub(crate) mysql: &'static str,
    /// Which value each `?` takes, from 0.
    pub(crate) mysql_order: &'static [usize],
}

impl Texts {
    pub(super) fn of(&self, dialect: Dialect) -> &'static str {
        match dialect {
            Dialect::Sqlite => self.sqlite,
            Dialect::Postgres => self.postgres,
            Dialect::MySql => self.mysql,
        }
    }
}

impl Query {
    pub(super) fn text(&self, dialect: Dialect) -> &'static str {
        self.statement.texts.of(dialect)
    }
}

/// One step of the schema. A step that was released is never edited: a later one changes what it made.
pub(super) struct Migration {
    pub(super) version: i64,
    pub(super) name: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
    mysql: &'static str,
}

impl Migration {
    pub(super) fn text(&self, dialect: Dialect) -> &'static str {
        match dialect {
            Dialect::Sqlite => self.sqlite,
            Dialect::Postgres => self.postgres,
            Dialect::MySql => self.mysql,
        }
    }
}

macro_rules! migration {
    ($version:literal, $file:literal, $name:literal) => {
        Migration {
            version: $version,
            name: $name,
            sqlite: include_str!(concat!("../../migrations/sqlite/", $file, ".sql")),
            postgres: include_str!(concat!("../../migrations/postgres/", $file, ".sql")),
            mysql: include_str!(concat!("../../migrations/mysql/", $file, ".sql")),
        }
    };
}

/// All steps, in order.
pub(super) const MIGRATIONS: &[Migration] = &[
    migration!(1, "0001_accounts", "accounts"),
    migration!(2, "0002_roster", "roster"),
    migration!(3, "0003_offline", "offline"),
    migration!(4, "0004_in_flight", "in_flight"),
    migration!(5, "0005_secrets", "secrets"),
    migration!(6, "0006_private", "private"),
    migration!(7, "0007_last", "last"),
    migration!(8, "0008_privacy", "privacy"),
    migration!(9, "0009_vcard", "vcard"),
];
