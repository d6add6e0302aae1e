//! PostgreSQL.
use std::time::Duration;

use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgRow, PgSslMode};
use sqlx::{Arguments as _, ConnectOptions as _, Connection as _, Executor as _, Row as _};

use super::problem::Kind;
use super::server::{Server, Tls, Trust};
use super::{STATEMENTS_MAX, Value};

/// The table of the migrations that were applied.
pub(super) const CREATE_MIGRATIONS: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (
    version bigint NOT NULL PRIMARY KEY,
    name text NOT NULL,
    applied_at timestamp NOT NULL DEFAULT now()
)";

/// Held while the schema is brought up to date, so that two nodes that start at once take turns. The number is ours:
/// any that no other program of the database uses will do.
pub(super) const LOCK_MIGRATIONS: &str = "SELECT pg_advisory_lock(5641003)";
pub(super) const UNLOCK_MIGRATIONS: &str = "SELECT pg_advisory_unlock(5641003)";

/// Settings by which the disk may lose what was committed, as rows of name and value.
pub(super) const LOOSE_SETTINGS: &str = "SELECT name, setting FROM pg_settings
    WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'";

/// How a connection is made.
pub(super) fn options(server: &Server) -> PgConnectOptions {
    let mut options = PgConnectOptions::new_without_pgpass()
        .host(&server.host)
        .port(server.port)
        .username(&server.username)
        .password(server.password.reveal())
        .database(&server.database)
        .application_name("meerkat")
        .statement_cache_capacity(STATEMENTS_MAX)
        .disable_statement_logging();
    let Some(tls) = &server.tls else {
        return options.ssl_mode(PgSslMode::Disable);
    };
    let Tls {
        trust,
        ca,
        certificate,
    } = tls;
    options = options.ssl_mode(match trust {
        Trust::Verified => PgSslMode::VerifyFull,
        Trust::Encrypted => PgSslMode::Require,
        Trust::IfOffered => PgSslMode::Prefer,
    });
    if let Some(ca) = ca {
        options = options.ssl_root_cert(ca);
    }
    if let Some((certificate, key)) = certificate {
        options = options.ssl_client_cert(certificate).ssl_client_key(key);
    }
    options
}

/// A connection with our settings.
///
/// Durability: a commit waits for the disk (`synchronous_commit`), whatever the server's default is; one that waits for
/// standbys too is left as it is. A statement and a transaction of ours that nobody waits for any more end by
/// themselves, so that their locks do not outlive a lost connection.
pub(super) async fn connect(
    options: &PgConnectOptions,
    query_timeout: Duration,
    is_reader: bool,
) -> Result<PgConnection, sqlx::Error> {
    let mut connection = Box::pin(PgConnection::connect_with(options)).await?;
    let millis = query_timeout.as_millis();
    // A writer keeps the server's default: a database that its administrator made read-only stays that.
    let read_only = if is_reader {
        "SET default_transaction_read_only = on;"
    } else {
        ""
    };
    let settings = format!(
        "SET statement_timeout = {millis};
         SET idle_in_transaction_session_timeout = {millis};
         SET default_transaction_isolation = 'read committed';
         {read_only}
         SELECT set_config('synchronous_commit', 'on', false)
         WHERE current_setting('synchronous_commit') IN ('off', 'local')"
    );
    connection
        .execute(sqlx::raw_sql(sqlx::AssertSqlSafe(settings)))
        .await?;
    Ok(connection)
}

/// The values of a query in the driver's form.
pub(super) fn arguments(values: &[Value]) -> Result<PgArguments, sqlx::Error> {
    let mut arguments = PgArguments::default();
    arguments.reserve(values.len(), 0);
    for value in values {
        match value {
            Value::Integer(number) => arguments.add(*number),
            Value::Text(text) => arguments.add(text.as_deref()),
            Value::Truth(truth) => arguments.add(*truth),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

/// A whole number of any size.
pub(super) fn integer(row: &PgRow, column: usize) -> Option<i64> {
    use sqlx::{TypeInfo as _, ValueRef as _};
    let value = row.try_get_raw(column).ok()?;
    match value.type_info().name() {
        "INT2" | "INT4" | "INT8" => row.try_get_unchecked(column).ok(),
        _ => None,
    }
}

/// What is wrong by the SQLSTATE.
pub(super) fn kind(code: Option<&str>) -> Kind {
    match code.unwrap_or_default() {
        // Text that is too long for its column or an index, a character that is refused, a number out of range.
        "22001" | "22021" | "22P05" | "22003" | "54000" => Kind::Unfit,
        // Data or an index are damaged.
        "XX001" | "XX002" => Kind::Corrupt,
        // Login, unknown database, privileges.
        code if code.starts_with("28") || code == "3D000" || code == "42501" => Kind::Refused,
        _ => Kind::Away,
    }
}
