//! Databases on PostgreSQL and MariaDB for tests.
//!
//! `cargo xtask test` starts both and says where they are in two variables; a run without them tests SQLite alone. With
//! them, a server that cannot be reached fails every test that wants it.
use daemon::Secret;
use sqlx::AssertSqlSafe;

use super::*;
use crate::storage::server::{Server, ServerKind};

/// Variables with `host port username password` of an administrator.
const VARIABLES: [(&str, ServerKind); 2] = [
    ("MEERKAT_TEST_PGSQL", ServerKind::Postgres),
    ("MEERKAT_TEST_MYSQL", ServerKind::MySql),
];

/// The file with the certificate of a server of this run.
pub(crate) fn certificate(kind: ServerKind) -> PathBuf {
    let variable = match kind {
        ServerKind::Postgres => "MEERKAT_TEST_PGSQL_CA",
        ServerKind::MySql => "MEERKAT_TEST_MYSQL_CA",
    };
    std::env::var_os(variable)
        .expect("a server comes with its certificate")
        .into()
}

/// The servers that this run has.
pub(super) fn of_this_run() -> Vec<Server> {
    VARIABLES
        .into_iter()
        .filter_map(|(variable, kind)| {
            let value = std::env::var_os(variable)?;
            let value = value.into_string().expect("the variable is UTF-8");
            let [host, port, username, password] = value.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{variable} is not `host port username password`");
            };
            Some(Server {
                kind,
                host: host.to_owned(),
                port: port.parse().expect("a port"),
                database: match kind {
                    ServerKind::Postgres => "postgres".to_owned(),
                    ServerKind::MySql => "mysql".to_owned(),
                },
                username: username.to_owned(),
                password: Secret::new(password),
                tls: None,
                query_timeout: Duration::from_secs(30),
                max_start_interval: Duration::from_secs(1),
                keepalive_interval: None,
            })
        })
        .collect()
}

/// An empty database on a server.
pub(crate) struct Database {
    admin: Server,
    name: String,
}

impl Database {
    pub(crate) async fn create(admin: &Server) -> Self {
        let name = format!("test_{:016x}", getrandom::u64().expect("random numbers"));
        // Copying the few files of an empty one is what takes least time.
        let strategy = match admin.kind {
            ServerKind::Postgres => " STRATEGY file_copy",
            ServerKind::MySql => "",
        };
        run(admin, format!("CREATE DATABASE {name}{strategy}")).await;
        Self {
            admin: admin.clone(),
            name,
        }
    }

    /// As the administrator.
    pub(crate) fn server(&self) -> Server {
        Server {
            database: self.name.clone(),
            ..self.admin.clone()
        }
    }

    pub(crate) fn place(&self) -> Place {
        Place::Server(Box::new(self.server()))
    }

    /// Runs statements in it, on a connection of their own.
    pub(crate) async fn run(&self, sql: impl Into<String>) {
        run(&self.server(), sql.into()).await;
    }

    /// Runs statements beside it.
    pub(crate) async fn run_as_admin(&self, sql: impl Into<String>) {
        run(&self.admin, sql.into()).await;
    }

    pub(crate) async fn remove(self) {
        let force = match self.admin.kind {
            ServerKind::Postgres => " WITH (FORCE)",
            ServerKind::MySql => "",
        };
        run(&self.admin, format!("DROP DATABASE {}{force}", self.name)).await;
    }
}

async fn run(server: &Server, sql: String) {
    let connector = ServerConnector::new(server);
    let mut connection = connector.open(false).await.expect("reach the server");
    connection
        .run_text("raw", AssertSqlSafe(sql.clone()))
        .await
        .unwrap_or_else(|error| panic!("{sql}: {}", error.cause()));
    connection.close().await.expect("close");
}
