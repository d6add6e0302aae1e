//! MySQL and MariaDB.
use std::time::Duration;

use sqlx::mysql::{MySqlArguments, MySqlConnectOptions, MySqlConnection, MySqlRow, MySqlSslMode};
use sqlx::{Arguments as _, ConnectOptions as _, Connection as _, Executor as _, Row as _};

use super::problem::Kind;
use super::server::{Server, Tls, Trust};
use super::{STATEMENTS_MAX, Value};

/// The table of the migrations that were applied.
pub(super) const CREATE_MIGRATIONS: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (
    version bigint NOT NULL PRIMARY KEY,
    name varchar(250) NOT NULL,
    applied_at timestamp NOT NULL DEFAULT CURRENT_TIMESTAMP
) CHARACTER SET utf8mb4 ROW_FORMAT=DYNAMIC";

/// Held while the schema is brought up to date, so that two nodes that start at once take turns. As long as a step may
/// take that rebuilds a large table, in seconds.
pub(super) const LOCK_MIGRATIONS: &str = "SELECT GET_LOCK('meerkat_migrations', 86400)";
pub(super) const UNLOCK_MIGRATIONS: &str = "SELECT RELEASE_LOCK('meerkat_migrations')";

/// Settings by which the disk may lose what was committed, as rows of name and value.
pub(super) const LOOSE_SETTINGS: &str = "SELECT 'innodb_flush_log_at_trx_commit',
    CAST(@@innodb_flush_log_at_trx_commit AS CHAR) FROM DUAL WHERE @@innodb_flush_log_at_trx_commit <> 1";

/// Collations that compare text byte by byte, trailing spaces included: MariaDB's, then MySQL's. The first that the
/// server has takes the place of [`EXACT`] in migrations.
pub(super) const EXACT_COLLATIONS: [&str; 2] = ["utf8mb4_nopad_bin", "utf8mb4_0900_bin"];
pub(super) const FIND_COLLATIONS: &str = "SELECT collation_name FROM information_schema.collations
    WHERE collation_name IN ('utf8mb4_nopad_bin', 'utf8mb4_0900_bin')";
/// The word in a migration that stands for such a collation.
pub(super) const EXACT: &str = "exact_collation";

/// Bytes of a roster as JSON: MariaDB cuts off what is longer than this setting. Twice what a roster and its
/// requests can have.
const GROUP_CONCAT_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// How a connection is made.
pub(super) fn options(server: &Server) -> MySqlConnectOptions {
    let mut options = MySqlConnectOptions::new()
        .host(&server.host)
        .port(server.port)
        .username(&server.username)
        .password(server.password.reveal())
        .database(&server.database)
        .charset("utf8mb4")
        .statement_cache_capacity(STATEMENTS_MAX)
        .disable_statement_logging();
    let Some(tls) = &server.tls else {
        return options.ssl_mode(MySqlSslMode::Disabled);
    };
    let Tls {
        trust,
        ca,
        certificate,
    } = tls;
    options = options.ssl_mode(match trust {
        Trust::Verified => MySqlSslMode::VerifyIdentity,
        Trust::Encrypted => MySqlSslMode::Required,
        Trust::IfOffered => MySqlSslMode::Preferred,
    });
    if let Some(ca) = ca {
        options = options.ssl_ca(ca);
    }
    if let Some((certificate, key)) = certificate {
        options = options.ssl_client_cert(certificate).ssl_client_key(key);
    }
    options
}

/// A connection with our settings.
///
/// Strict, so that nothing is cut off to fit; `"` quotes names as in the other dialects; `\` is a character like any
/// other. Each statement sees what is committed when it begins: with MySQL's default, the second job of a batch would
/// see what was there when the first began.
pub(super) async fn connect(
    options: &MySqlConnectOptions,
    query_timeout: Duration,
    is_reader: bool,
) -> Result<MySqlConnection, sqlx::Error> {
    let mut connection = Box::pin(MySqlConnection::connect_with(options)).await?;
    // In whole seconds, and less than the client waits.
    let lock_wait = (query_timeout.as_secs() / 2).max(1);
    let access = if is_reader { ", READ ONLY" } else { "" };
    let settings = format!(
        "SET SESSION sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES,STRICT_ALL_TABLES,\
         NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO';
         SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED{access};
         SET SESSION innodb_lock_wait_timeout = {lock_wait};
         SET SESSION group_concat_max_len = {GROUP_CONCAT_BYTES_MAX}"
    );
    connection
        .execute(sqlx::raw_sql(sqlx::AssertSqlSafe(settings)))
        .await?;
    Ok(connection)
}

/// The values of a query in the driver's form, for each place in `order`.
pub(super) fn arguments(values: &[Value], order: &[usize]) -> Result<MySqlArguments, sqlx::Error> {
    let mut arguments = MySqlArguments::default();
    arguments.reserve(order.len(), 0);
    for index in order {
        let Some(value) = values.get(*index) else {
            let missing = format!("there is no value for ${}", index + 1);
            return Err(sqlx::Error::Encode(missing.into()));
        };
        match value {
            Value::Integer(number) => arguments.add(*number),
            Value::Text(text) => arguments.add(text.as_deref()),
            Value::Truth(truth) => arguments.add(*truth),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

/// A whole number of any size, with or without sign.
pub(super) fn integer(row: &MySqlRow, column: usize) -> Option<i64> {
    use sqlx::{TypeInfo as _, ValueRef as _};
    let value = row.try_get_raw(column).ok()?;
    let kind = value.type_info().name().to_owned();
    if kind.ends_with("UNSIGNED") {
        let number: u64 = row.try_get_unchecked(column).ok()?;
        return i64::try_from(number).ok();
    }
    match kind.as_str() {
        "BOOLEAN" | "TINYINT" | "SMALLINT" | "MEDIUMINT" | "INT" | "BIGINT" => {
            row.try_get_unchecked(column).ok()
        }
        _ => None,
    }
}

/// Text, also from a column of bytes: MongooseIM keeps stanzas in one.
pub(super) fn text(row: &MySqlRow, column: usize) -> Option<Option<String>> {
    use sqlx::{TypeInfo as _, ValueRef as _};
    let value = row.try_get_raw(column).ok()?;
    if value.is_null() {
        return Some(None);
    }
    match value.type_info().name() {
        "CHAR" | "VARCHAR" | "TINYTEXT" | "TEXT" | "MEDIUMTEXT" | "LONGTEXT" | "BINARY"
        | "VARBINARY" | "TINYBLOB" | "BLOB" | "MEDIUMBLOB" | "LONGBLOB" | "JSON" | "ENUM" => {
            row.try_get_unchecked(column).ok()
        }
        _ => None,
    }
}

/// What is wrong by the number of the error.
pub(super) fn kind(number: u16) -> Kind {
    match number {
        // Too long, out of range, no text of the character set.
        1264 | 1366 | 1406 | 3988 => Kind::Unfit,
        // A table or index is damaged.
        126 | 127 | 1034 | 1035 | 1194 | 1712 => Kind::Corrupt,
        // Login, unknown database, privileges.
        1044 | 1045 | 1049 | 1142 | 1143 | 1227 | 1251 | 1698 | 3159 => Kind::Refused,
        _ => Kind::Away,
    }
}
