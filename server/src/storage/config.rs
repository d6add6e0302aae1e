//! `[outgoing_pools]`: the database.

use std::path::PathBuf;

use daemon::config::{Check, Checks, Millis};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Connections to what is outside of the node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OutgoingPools {
    /// SQL databases by name.
    pub rdbms: RdbmsPools,
}

/// SQL databases by name.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RdbmsPools {
    /// The database of everything. Without it the node has an SQLite database in its `data_dir`.
    pub default: Option<RdbmsPool>,
}

/// A SQL database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RdbmsPool {
    /// Whether all host types share the pool.
    #[serde(default)]
    pub scope: Scope,
    /// How many connections read at the same time. One more writes.
    #[serde(default = "RdbmsPool::default_workers")]
    #[schemars(range(min = 1, max = 1000))]
    pub workers: u32,
    /// How long a call to the database may take, waiting for a connection included.
    #[serde(default = "RdbmsPool::default_call_timeout")]
    #[schemars(range(min = 1, max = 3_600_000))]
    pub call_timeout: Millis,
    /// Which database.
    pub connection: RdbmsConnection,
}

/// Who shares a pool.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All host types.
    #[default]
    Global,
}

/// Which database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RdbmsConnection {
    /// The kind of database.
    pub driver: Driver,
    /// The file of the database. Its directory must be there.
    pub database: PathBuf,
}

/// A kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// SQLite, in the process. Ours.
    Sqlite,
}

impl RdbmsPool {
    /// An SQLite database in this file.
    pub fn sqlite(database: PathBuf) -> Self {
        Self {
            scope: Scope::Global,
            workers: Self::default_workers(),
            call_timeout: Self::default_call_timeout(),
            connection: RdbmsConnection {
                driver: Driver::Sqlite,
                database,
            },
        }
    }

    fn default_workers() -> u32 {
        10
    }

    fn default_call_timeout() -> Millis {
        Millis(60_000)
    }
}

impl Check for OutgoingPools {
    fn check(&self, checks: &mut Checks<'_>) {
        let Some(pool) = &self.rdbms.default else {
            return;
        };
        if pool.connection.database.as_os_str().is_empty() {
            let path = "rdbms.default.connection.database";
            checks.finding(path, "the file has no name", "");
        }
    }
}
