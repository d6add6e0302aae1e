//! What an error of a driver means.
use sqlx::mysql::MySqlDatabaseError;
use sqlx::postgres::PgDatabaseError;

use super::{Cause, Error, mysql, postgres, sqlite};

/// What is wrong, whatever the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A row with this key is there, or one that it needs is not.
    Conflict,
    /// The database cannot hold the value.
    Unfit,
    /// What is stored is damaged.
    Corrupt,
    /// The database does not want us: waiting does not help.
    Refused,
    /// Anything else: lost, full, locked, read-only. Waiting may help.
    Away,
}

pub(super) fn kind(error: &sqlx::Error) -> Kind {
    match error {
        sqlx::Error::Database(database) => {
            if database.is_unique_violation()
                || database.is_foreign_key_violation()
                || database.is_check_violation()
            {
                return Kind::Conflict;
            }
            if let Some(error) = database.try_downcast_ref::<MySqlDatabaseError>() {
                return mysql::kind(error.number());
            }
            let code = database.code();
            if database.try_downcast_ref::<PgDatabaseError>().is_some() {
                return postgres::kind(code.as_deref());
            }
            sqlite::kind(code.as_deref())
        }
        sqlx::Error::ColumnDecode { .. }
        | sqlx::Error::Decode(_)
        | sqlx::Error::ColumnNotFound(_) => Kind::Corrupt,
        // A certificate that is not trusted comes as data that make no sense.
        sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => Kind::Refused,
        sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) | sqlx::Error::Protocol(_) => {
            Kind::Refused
        }
        _ => Kind::Away,
    }
}

/// What an error of the driver means to a caller.
pub(super) fn classify(query: &'static str, error: sqlx::Error) -> Error {
    let kind = kind(&error);
    let cause = Cause::driver(error);
    match kind {
        Kind::Conflict => Error::Conflict { query, cause },
        Kind::Unfit => Error::Unfit { query, cause },
        Kind::Corrupt => Error::Corrupt { query, cause },
        Kind::Refused | Kind::Away => Error::Unavailable { query, cause },
    }
}

/// Whether waiting does not help: a wrong password, an unknown database, no TLS.
pub(super) fn is_hopeless(error: &Error) -> bool {
    match error {
        Error::Unavailable {
            cause: Cause::Driver(error),
            ..
        } => kind(error) == Kind::Refused,
        Error::Unavailable { cause, .. } => matches!(cause, Cause::NeedsTls),
        Error::Conflict { .. } | Error::Corrupt { .. } | Error::Unfit { .. } => true,
    }
}

/// Whether the connection was lost, so that another one may be tried.
pub(super) fn is_lost(error: &Error) -> bool {
    /// The server shuts down or has ended this connection.
    const POSTGRES_ENDED: [&str; 4] = ["57P01", "57P02", "57P03", "57P05"];
    /// The same, and: it was idle for too long.
    const MYSQL_ENDED: [u16; 4] = [1053, 1927, 2013, 4031];
    let Error::Unavailable {
        cause: Cause::Driver(error),
        ..
    } = error
    else {
        return false;
    };
    match &**error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(database) => {
            if let Some(error) = database.try_downcast_ref::<MySqlDatabaseError>() {
                return MYSQL_ENDED.contains(&error.number());
            }
            database
                .code()
                .is_some_and(|code| POSTGRES_ENDED.contains(&code.as_ref()))
        }
        _ => false,
    }
}
