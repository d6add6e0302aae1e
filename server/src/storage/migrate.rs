//! Brings the schema up to date.
//!
//! On a server, the tables may be there already: MongooseIM made them. What is missing is added to them, nothing is
//! taken away, and MongooseIM goes on to work with them.
use sqlx::AssertSqlSafe;

use super::connection::Connection;
use super::dialect::{self, Dialect, Migration};
use super::server::ServerConnector;
use super::{Cause, Error, Transaction, mysql, postgres, sqlite, statements};

statements! {
    FIND = "migration_find": "SELECT 1 FROM schema_migrations WHERE version = $1";
    LAST = "migration_last": "SELECT COALESCE(MAX(version), 0) FROM schema_migrations";
    RECORD = "migration_record": "INSERT INTO schema_migrations (version, name) VALUES ($1, $2)";
    COLUMNS = "migration_columns":
        "SELECT name FROM pragma_table_info($1)",
        postgres: "SELECT column_name::text FROM information_schema.columns
                   WHERE table_schema = current_schema() AND table_name = $1",
        mysql: "SELECT column_name FROM information_schema.columns
                WHERE table_schema = DATABASE() AND table_name = $1";
}

/// Columns that a table must have if it was there before us. Those of today's MongooseIM: older ones lack `server`.
const TAKEN_OVER: &[(&str, &[&str])] = &[
    ("users", &["server", "username", "password", "pass_details"]),
    (
        "rosterusers",
        &[
            "server",
            "username",
            "jid",
            "nick",
            "subscription",
            "ask",
            "askmessage",
        ],
    ),
    ("rostergroups", &["server", "username", "jid", "grp"]),
    ("roster_version", &["server", "username", "version"]),
    (
        "offline_message",
        &[
            "id",
            "timestamp",
            "expire",
            "server",
            "username",
            "from_jid",
            "packet",
        ],
    ),
    (
        "private_storage",
        &["server", "username", "namespace", "data"],
    ),
    ("last", &["server", "username", "seconds", "state"]),
    ("privacy_default_list", &["server", "username", "name"]),
    ("privacy_list", &["server", "username", "name", "id"]),
    (
        "privacy_list_data",
        &[
            "id",
            "t",
            "value",
            "action",
            "ord",
            "match_all",
            "match_iq",
            "match_message",
            "match_presence_in",
            "match_presence_out",
        ],
    ),
    ("vcard", &["username", "server", "vcard"]),
    (
        "vcard_search",
        &[
            "username",
            "lusername",
            "server",
            "fn",
            "lfn",
            "family",
            "lfamily",
            "given",
            "lgiven",
            "middle",
            "lmiddle",
            "nickname",
            "lnickname",
            "bday",
            "lbday",
            "ctry",
            "lctry",
            "locality",
            "llocality",
            "email",
            "lemail",
            "orgname",
            "lorgname",
            "orgunit",
            "lorgunit",
        ],
    ),
];

/// Applies one step of those `known`, unless it was applied before.
pub(super) async fn apply(
    transaction: &mut Transaction<'_>,
    migration: &'static Migration,
    known: &'static [Migration],
) -> Result<(), Error> {
    let connection = &mut *transaction.connection;
    connection
        .run_text("migration_table", sqlite::CREATE_MIGRATIONS)
        .await?;
    if is_applied(connection, migration, known).await? {
        return Ok(());
    }
    let text = migration.text(Dialect::Sqlite);
    connection.run_text(migration.name, text).await?;
    record(connection, migration).await
}

async fn is_applied(
    connection: &mut Connection,
    migration: &'static Migration,
    known: &'static [Migration],
) -> Result<bool, Error> {
    let last_known = known.last().map_or(0, |migration| migration.version);
    let last = connection.fetch_optional(&mut LAST.bind([])).await?;
    let found = last.map(|row| row.read(LAST.name(), |row| row.integer(0)));
    let found = found.transpose()?.unwrap_or(0);
    if found > last_known {
        let cause = Cause::Newer {
            found,
            known: last_known,
        };
        return Err(Error::Unavailable {
            query: "migrate",
            cause,
        });
    }
    let mut find = FIND.bind([migration.version.into()]);
    Ok(connection.fetch_optional(&mut find).await?.is_some())
}

async fn record(connection: &mut Connection, migration: &'static Migration) -> Result<(), Error> {
    let mut record = RECORD.bind([migration.version.into(), migration.name.into()]);
    connection.execute(&mut record).await?;
    tracing::info!(
        version = migration.version,
        name = migration.name,
        "schema step applied"
    );
    Ok(())
}

/// Brings the schema of a server up to date, on a connection of its own: nodes that start at once take turns.
pub(super) async fn migrate_server(
    connector: &ServerConnector,
    known: &'static [Migration],
) -> Result<(), Error> {
    let mut connection = connector.open_for_migrations().await?;
    let connection = &mut connection;
    match connector.dialect() {
        // Not reached: a server speaks one of the others.
        Dialect::Sqlite => Ok(()),
        Dialect::Postgres => {
            connection
                .run_text("migration_lock", postgres::LOCK_MIGRATIONS)
                .await?;
            migrate_postgres(connection, known).await?;
            warn_of_loose_settings(connection, postgres::LOOSE_SETTINGS).await?;
            // Lost with the connection if something fails before.
            connection
                .run_text("migration_unlock", postgres::UNLOCK_MIGRATIONS)
                .await
        }
        Dialect::MySql => {
            connection
                .run_text("migration_lock", mysql::LOCK_MIGRATIONS)
                .await?;
            migrate_mysql(connection, known).await?;
            warn_of_loose_settings(connection, mysql::LOOSE_SETTINGS).await?;
            connection
                .run_text("migration_unlock", mysql::UNLOCK_MIGRATIONS)
                .await
        }
    }
}

/// Each step in a transaction.
async fn migrate_postgres(
    connection: &mut Connection,
    known: &'static [Migration],
) -> Result<(), Error> {
    check_columns(connection).await?;
    connection
        .run_text("migration_table", postgres::CREATE_MIGRATIONS)
        .await?;
    for migration in known {
        if is_applied(connection, migration, known).await? {
            continue;
        }
        connection
            .control("begin", Dialect::Postgres.begin())
            .await?;
        let text = migration.text(Dialect::Postgres);
        connection.run_text(migration.name, text).await?;
        record(connection, migration).await?;
        connection.control("commit", dialect::COMMIT).await?;
    }
    Ok(())
}

/// MySQL commits each change of the schema by itself: a step that ended half way is done again, and does no harm to
/// what is there.
async fn migrate_mysql(
    connection: &mut Connection,
    known: &'static [Migration],
) -> Result<(), Error> {
    check_columns(connection).await?;
    connection
        .run_text("migration_table", mysql::CREATE_MIGRATIONS)
        .await?;
    let collation = exact_collation(connection).await?;
    for migration in known {
        if is_applied(connection, migration, known).await? {
            continue;
        }
        let text = migration
            .text(Dialect::MySql)
            .replace(mysql::EXACT, collation);
        connection
            .run_text(migration.name, AssertSqlSafe(text))
            .await?;
        record(connection, migration).await?;
    }
    make_exact(connection, collation).await
}

/// A table that is there may be of an older MongooseIM: then nothing is touched.
async fn check_columns(connection: &mut Connection) -> Result<(), Error> {
    for (table, columns) in TAKEN_OVER {
        let rows = connection
            .fetch_all(&mut COLUMNS.bind([(*table).into()]))
            .await?;
        let found = rows.read(COLUMNS.name(), |row| row.text(0))?;
        let missing = columns
            .iter()
            .find(|column| !found.iter().any(|found| found == *column));
        if let Some(column) = missing.filter(|_| !found.is_empty()) {
            let cause = Cause::Older { table, column };
            return Err(Error::Unavailable {
                query: "migrate",
                cause,
            });
        }
    }
    Ok(())
}

/// The server's collation that compares text byte by byte.
async fn exact_collation(connection: &mut Connection) -> Result<&'static str, Error> {
    const NAME: &str = "migration_collations";
    let rows = connection.fetch_text(NAME, mysql::FIND_COLLATIONS).await?;
    let found = rows.read(NAME, |row| row.text(0))?;
    let known = mysql::EXACT_COLLATIONS.iter().copied();
    let exact = known
        .into_iter()
        .find(|known| found.iter().any(|name| name == known));
    exact.ok_or(Error::Unavailable {
        query: "migrate",
        cause: Cause::NoCollation,
    })
}

/// MongooseIM's tables have the server's usual collation, by which `a` is `A` and `u` with dots is `u`: they are made to
/// tell them apart. Whatever was unique before is unique still.
async fn make_exact(connection: &mut Connection, collation: &'static str) -> Result<(), Error> {
    const NAME: &str = "migration_exact";
    let names: Vec<_> = TAKEN_OVER
        .iter()
        .map(|(table, _)| format!("'{table}'"))
        .collect();
    let find = format!(
        "SELECT DISTINCT table_name FROM information_schema.columns
         WHERE table_schema = DATABASE() AND table_name IN ({}) AND collation_name <> '{collation}'",
        names.join(", ")
    );
    let rows = connection.fetch_text(NAME, AssertSqlSafe(find)).await?;
    for table in rows.read(NAME, |row| row.text(0))? {
        let convert =
            format!("ALTER TABLE \"{table}\" CONVERT TO CHARACTER SET utf8mb4 COLLATE {collation}");
        connection.run_text(NAME, AssertSqlSafe(convert)).await?;
        tracing::info!(table, "table compares text byte by byte from now on");
    }
    Ok(())
}

/// Says what the operator may not know: that a power cut may lose what was acknowledged.
async fn warn_of_loose_settings(
    connection: &mut Connection,
    sql: &'static str,
) -> Result<(), Error> {
    const NAME: &str = "durability";
    let rows = connection.fetch_text(NAME, sql).await?;
    for (setting, value) in rows.read(NAME, |row| Ok((row.text(0)?, row.text(1)?)))? {
        tracing::warn!(
            setting,
            value,
            "a power cut may lose what the database has committed"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::STATEMENTS;
    use crate::storage::tests::check_statements;

    #[tokio::test]
    async fn the_database_takes_every_statement() {
        check_statements(STATEMENTS, &["migration_columns"]).await;
    }
}
