//! `[outgoing_pools]`: the database.

use std::path::{Path, PathBuf};

use daemon::config::{Check, Checks, Millis, Seconds};
use daemon::{Secret, SecretError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::server::{Server, ServerKind, Tls, Trust};
use super::{Options, Place};

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
    /// Accepted: a call goes to whichever connection is free, and waits only if none is.
    #[serde(default)]
    pub strategy: Strategy,
    /// How long a call to the database may take, waiting for a connection included.
    #[serde(default = "RdbmsPool::default_call_timeout")]
    #[schemars(range(min = 1, max = 3_600_000))]
    pub call_timeout: Millis,
    /// How many calls may wait, for each connection that reads; one more is refused. By default 16384 in all.
    #[serde(default)]
    #[schemars(range(max = 100_000))]
    pub max_worker_queue_len: Option<u32>,
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

/// MongooseIM's ways to choose a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// One that is free.
    #[default]
    BestWorker,
    /// One that is free.
    RandomWorker,
    /// One that is free.
    NextWorker,
    /// One that is free.
    AvailableWorker,
    /// One that is free.
    NextAvailableWorker,
}

/// Which database.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RdbmsConnection {
    /// The kind of database.
    pub driver: Driver,
    /// The name of the database; with `sqlite` its file, whose directory must be there.
    pub database: PathBuf,
    /// The name or address of the server. Not with `sqlite`, as all that follows.
    #[serde(default)]
    pub host: Option<String>,
    /// Its port. By default 5432 with `pgsql` and 3306 with `mysql`.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
    /// Who the node is for the server.
    #[serde(default)]
    pub username: Option<String>,
    /// The password.
    #[serde(default)]
    pub password: Option<Secret>,
    /// A file with the password, readable by nobody else. Ours.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// How often an idle connection is used, so that nothing on the way forgets it. By default never.
    #[serde(default)]
    #[schemars(range(min = 1, max = 86_400))]
    pub keepalive_interval: Option<Seconds>,
    /// How long the server may take for a statement. A connection that took longer is given up.
    #[serde(default = "RdbmsConnection::default_query_timeout")]
    #[schemars(range(min = 100, max = 600_000))]
    pub query_timeout: Millis,
    /// The longest time between two attempts to reach a server that is away.
    #[serde(default = "RdbmsConnection::default_max_start_interval")]
    #[schemars(range(min = 1, max = 3_600))]
    pub max_start_interval: Seconds,
    /// Encryption; absent means none.
    #[serde(default)]
    pub tls: Option<RdbmsTls>,
}

/// A kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Driver {
    /// SQLite, in the process. Ours.
    Sqlite,
    /// A server of PostgreSQL.
    Pgsql,
    /// A server of MySQL or MariaDB.
    Mysql,
}

/// Encryption of the way to a database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RdbmsTls {
    /// Whether a server without encryption is refused. By default it is, which is safer than MongooseIM's default;
    /// `false` goes only with `verify_mode = "none"`, as who can take away encryption can take away the certificate.
    pub required: Option<bool>,
    /// Which certificates of the server are accepted.
    pub verify_mode: ServerVerifyMode,
    /// Certificates of authorities that are trusted beside the public ones, PEM.
    pub cacertfile: Option<PathBuf>,
    /// The node's own certificate chain for a server that asks for one, PEM.
    pub certfile: Option<PathBuf>,
    /// The private key of `certfile`, PEM, without a passphrase.
    pub keyfile: Option<PathBuf>,
}

/// Which certificates of a server are accepted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ServerVerifyMode {
    /// Those for `host` that an authority vouches for.
    #[default]
    Peer,
    /// All: nobody can listen, but anybody can answer.
    None,
}

impl RdbmsPool {
    /// An SQLite database in this file.
    pub fn sqlite(database: PathBuf) -> Self {
        Self {
            scope: Scope::Global,
            workers: Self::default_workers(),
            strategy: Strategy::default(),
            call_timeout: Self::default_call_timeout(),
            max_worker_queue_len: None,
            connection: RdbmsConnection {
                driver: Driver::Sqlite,
                database,
                host: None,
                port: None,
                username: None,
                password: None,
                password_file: None,
                keepalive_interval: None,
                query_timeout: RdbmsConnection::default_query_timeout(),
                max_start_interval: RdbmsConnection::default_max_start_interval(),
                tls: None,
            },
        }
    }

    /// What the pool says to the storage.
    ///
    /// # Errors
    /// The file with the password is refused.
    pub fn options(&self) -> Result<Options, SecretError> {
        let mut options = Options::new(self.connection.place()?);
        options.readers = usize::try_from(self.workers).unwrap_or(1);
        options.call_timeout = self.call_timeout.duration();
        if let Some(each) = self.max_worker_queue_len {
            let waiting = usize::try_from(each).unwrap_or(usize::MAX);
            options.waiting_max = waiting.saturating_mul(options.readers);
        }
        Ok(options)
    }

    fn default_workers() -> u32 {
        10
    }

    fn default_call_timeout() -> Millis {
        Millis(60_000)
    }
}

impl RdbmsConnection {
    fn default_query_timeout() -> Millis {
        Millis(5_000)
    }

    fn default_max_start_interval() -> Seconds {
        Seconds(30)
    }

    fn place(&self) -> Result<Place, SecretError> {
        let (kind, port) = match self.driver {
            Driver::Sqlite => return Ok(Place::File(self.database.clone())),
            Driver::Pgsql => (ServerKind::Postgres, 5_432),
            Driver::Mysql => (ServerKind::MySql, 3_306),
        };
        let password = Secret::resolve(self.password.as_ref(), self.password_file.as_deref())?;
        Ok(Place::Server(Box::new(Server {
            kind,
            host: self.host.clone().unwrap_or_default(),
            port: self.port.unwrap_or(port),
            database: self.database.to_string_lossy().into_owned(),
            username: self.username.clone().unwrap_or_default(),
            password: password.unwrap_or_else(|| Secret::new("")),
            tls: self.tls.as_ref().map(RdbmsTls::tls),
            query_timeout: self.query_timeout.duration(),
            max_start_interval: self.max_start_interval.duration(),
            keepalive_interval: self.keepalive_interval.map(Seconds::duration),
        })))
    }

    /// What has no meaning for a file.
    fn check_file(checks: &mut Checks<'_>) {
        for key in [
            "host",
            "port",
            "username",
            "password",
            "password_file",
            "keepalive_interval",
            "query_timeout",
            "max_start_interval",
            "tls",
        ] {
            if checks.is_given(key) {
                let message = format!("`{key}` is for servers: SQLite is in the process");
                checks.finding(key, message, "remove it, or choose another `driver`");
            }
        }
    }

    /// What a server needs.
    fn check_server(&self, checks: &mut Checks<'_>) {
        for (key, value) in [("host", &self.host), ("username", &self.username)] {
            if value.as_ref().is_none_or(String::is_empty) && checks.is_sound(key) {
                let message =
                    format!("`{key}` is missing in `[outgoing_pools.rdbms.default.connection]`");
                checks.finding("", message, "");
            }
        }
        if self.database.to_str().is_none() {
            checks.finding("database", "the name is not UTF-8", "");
        }
        match (&self.password, &self.password_file) {
            (Some(_), Some(_)) => {
                let message = "`password` and `password_file` are both given";
                checks.finding("password_file", message, "remove one of them");
            }
            (None, None) => {
                let has_certificate = self.tls.as_ref().is_some_and(|tls| tls.certfile.is_some());
                if !has_certificate
                    && checks.is_sound("password")
                    && checks.is_sound("password_file")
                {
                    let message =
                        "`password` is missing in `[outgoing_pools.rdbms.default.connection]`";
                    checks.finding("", message, "or name a file with it: `password_file`");
                }
            }
            (None, Some(path)) => checks.file("password_file", path),
            (Some(_), None) => {}
        }
        if let Some(tls) = &self.tls {
            checks.part("tls", tls);
        }
    }
}

impl RdbmsTls {
    fn tls(&self) -> Tls {
        let trust = match (self.verify_mode, self.required) {
            (ServerVerifyMode::Peer, _) => Trust::Verified,
            (ServerVerifyMode::None, Some(false)) => Trust::IfOffered,
            (ServerVerifyMode::None, _) => Trust::Encrypted,
        };
        Tls {
            trust,
            ca: self.cacertfile.clone(),
            certificate: self.certfile.clone().zip(self.keyfile.clone()),
        }
    }
}

impl Check for OutgoingPools {
    fn check(&self, checks: &mut Checks<'_>) {
        if let Some(pool) = &self.rdbms.default {
            checks.within("rdbms", |checks| {
                checks.within("default", |checks| {
                    checks.part("connection", &pool.connection)
                });
            });
        }
    }
}

impl Check for RdbmsConnection {
    fn check(&self, checks: &mut Checks<'_>) {
        if !checks.is_sound("driver") {
            return;
        }
        match self.driver {
            Driver::Sqlite => {
                if self.database.as_os_str().is_empty() {
                    checks.finding("database", "the file has no name", "");
                }
                Self::check_file(checks);
            }
            Driver::Pgsql | Driver::Mysql => {
                if self.database.as_os_str().is_empty() {
                    checks.finding("database", "the database has no name", "");
                }
                self.check_server(checks);
            }
        }
    }
}

impl Check for RdbmsTls {
    fn check(&self, checks: &mut Checks<'_>) {
        if self.required == Some(false) && self.verify_mode == ServerVerifyMode::Peer {
            let message = "without encryption no certificate is checked: `required = false` needs `verify_mode = \"none\"`";
            checks.finding(
                "required",
                message,
                "remove it, so that encryption is required",
            );
        }
        match (&self.certfile, &self.keyfile) {
            (Some(_), None) if checks.is_sound("keyfile") => {
                let message = "`certfile` without `keyfile`: the private key is missing";
                checks.finding("certfile", message, "");
            }
            (None, Some(_)) if checks.is_sound("certfile") => {
                let message = "`keyfile` without `certfile`: the certificate is missing";
                checks.finding("keyfile", message, "");
            }
            _ => {}
        }
        for (key, path) in [
            ("cacertfile", &self.cacertfile),
            ("certfile", &self.certfile),
            ("keyfile", &self.keyfile),
        ] {
            if let Some(path) = path {
                checks.file(key, Path::new(path));
            }
        }
    }
}
