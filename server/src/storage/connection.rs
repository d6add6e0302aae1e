//! A connection, whatever the database, and what comes back from it.
use std::future::Future;
use std::time::Duration;

use sqlx::mysql::{MySqlConnection, MySqlRow};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Connection as _, Executor as _, Row as _, SqlSafeStr};

use super::dialect::Dialect;
use super::problem::classify;
use super::{Cause, Error, Query, mysql, postgres, sqlite};

/// A connection of a driver; to a server, with the time that a statement may take.
pub(super) enum Connection {
    Sqlite(SqliteConnection),
    Postgres(PgConnection, Duration),
    MySql(MySqlConnection, Duration),
}

/// What a statement returned.
pub(super) enum Rows {
    Sqlite(Vec<SqliteRow>),
    Postgres(Vec<PgRow>),
    MySql(Vec<MySqlRow>),
}

/// One row of a driver.
pub(super) enum DriverRow {
    Sqlite(SqliteRow),
    Postgres(PgRow),
    MySql(MySqlRow),
}

#[derive(Clone, Copy)]
enum RowRef<'r> {
    Sqlite(&'r SqliteRow),
    Postgres(&'r PgRow),
    MySql(&'r MySqlRow),
}

/// The statement and its values for a driver: `prepared!(Dialect, query => arguments)`.
macro_rules! prepare {
    ($dialect:expr, $query:expr, $arguments:expr) => {{
        let arguments = $arguments.map_err(|error| classify($query.name(), error))?;
        sqlx::query_with($query.text($dialect), arguments)
    }};
}

/// Runs `$method` of the driver for a query, and puts what comes back into `$sqlite`, `$postgres` or `$mysql`.
macro_rules! run {
    ($connection:expr, $query:expr, $method:ident, $sqlite:expr, $postgres:expr, $mysql:expr) => {{
        let (connection, query): (&mut Connection, &mut Query) = ($connection, $query);
        let name = query.name();
        match connection {
            Connection::Sqlite(connection) => {
                // Moved, not copied: a statement of SQLite runs once.
                let values = std::mem::take(&mut query.values);
                let statement = prepare!(Dialect::Sqlite, query, sqlite::arguments(values));
                let done = statement.$method(connection).await;
                done.map($sqlite).map_err(|error| classify(name, error))
            }
            Connection::Postgres(connection, limit) => {
                let arguments = postgres::arguments(&query.values);
                let statement = prepare!(Dialect::Postgres, query, arguments);
                let done = in_time(name, *limit, statement.$method(connection)).await;
                done.map($postgres)
            }
            Connection::MySql(connection, limit) => {
                let order = query.statement.texts.mysql_order;
                let arguments = mysql::arguments(&query.values, order);
                let statement = prepare!(Dialect::MySql, query, arguments);
                let done = in_time(name, *limit, statement.$method(connection)).await;
                done.map($mysql)
            }
        }
    }};
}

impl Connection {
    pub(super) fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::Postgres(..) => Dialect::Postgres,
            Self::MySql(..) => Dialect::MySql,
        }
    }

    /// All rows of a statement.
    pub(super) async fn fetch_all(&mut self, query: &mut Query) -> Result<Rows, Error> {
        run!(
            self,
            query,
            fetch_all,
            Rows::Sqlite,
            Rows::Postgres,
            Rows::MySql
        )
    }

    /// The first row of a statement.
    pub(super) async fn fetch_optional(
        &mut self,
        query: &mut Query,
    ) -> Result<Option<DriverRow>, Error> {
        run!(
            self,
            query,
            fetch_optional,
            |row: Option<SqliteRow>| row.map(DriverRow::Sqlite),
            |row: Option<PgRow>| row.map(DriverRow::Postgres),
            |row: Option<MySqlRow>| row.map(DriverRow::MySql)
        )
    }

    /// Runs a statement and tells how many rows it changed.
    pub(super) async fn execute(&mut self, query: &mut Query) -> Result<u64, Error> {
        run!(
            self,
            query,
            execute,
            |done: sqlx::sqlite::SqliteQueryResult| done.rows_affected(),
            |done: sqlx::postgres::PgQueryResult| done.rows_affected(),
            |done: sqlx::mysql::MySqlQueryResult| done.rows_affected()
        )
    }

    /// Runs a statement that steers the transaction: kept prepared where that is cheaper than reading it anew.
    pub(super) async fn control(
        &mut self,
        name: &'static str,
        sql: &'static str,
    ) -> Result<(), Error> {
        let Self::Sqlite(connection) = self else {
            return self.run_text(name, sql).await;
        };
        let done = sqlx::query(sql).execute(connection).await;
        done.map(drop).map_err(|error| classify(name, error))
    }

    /// Runs a text of one or more statements that are used only once.
    pub(super) async fn run_text(
        &mut self,
        name: &'static str,
        sql: impl SqlSafeStr,
    ) -> Result<(), Error> {
        let text = sqlx::raw_sql(sql);
        match self {
            Self::Sqlite(connection) => {
                let done = connection.execute(text).await;
                done.map(drop).map_err(|error| classify(name, error))
            }
            Self::Postgres(connection, limit) => {
                let done = in_time(name, *limit, connection.execute(text)).await;
                done.map(drop)
            }
            Self::MySql(connection, limit) => {
                let done = in_time(name, *limit, connection.execute(text)).await;
                done.map(drop)
            }
        }
    }

    /// The rows of a text that is used only once.
    pub(super) async fn fetch_text(
        &mut self,
        name: &'static str,
        sql: impl SqlSafeStr,
    ) -> Result<Rows, Error> {
        let text = sqlx::raw_sql(sql);
        match self {
            Self::Sqlite(connection) => {
                let rows = text.fetch_all(connection).await;
                rows.map(Rows::Sqlite)
                    .map_err(|error| classify(name, error))
            }
            Self::Postgres(connection, limit) => {
                let rows = in_time(name, *limit, text.fetch_all(connection)).await;
                rows.map(Rows::Postgres)
            }
            Self::MySql(connection, limit) => {
                let rows = in_time(name, *limit, text.fetch_all(connection)).await;
                rows.map(Rows::MySql)
            }
        }
    }

    /// Ends it in good order.
    pub(super) async fn close(self) -> Result<(), Error> {
        match self {
            Self::Sqlite(connection) => connection
                .close()
                .await
                .map_err(|error| classify("close", error)),
            Self::Postgres(connection, limit) => in_time("close", limit, connection.close()).await,
            Self::MySql(connection, limit) => in_time("close", limit, connection.close()).await,
        }
    }

    /// Whether the other side is still there.
    pub(super) async fn ping(&mut self) -> Result<(), Error> {
        match self {
            Self::Sqlite(_) => Ok(()),
            Self::Postgres(connection, limit) => in_time("ping", *limit, connection.ping()).await,
            Self::MySql(connection, limit) => in_time("ping", *limit, connection.ping()).await,
        }
    }
}

/// A server that does not answer is as good as lost.
async fn in_time<T>(
    query: &'static str,
    limit: Duration,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Error> {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done.map_err(|error| classify(query, error)),
        Err(_) => Err(Error::Unavailable {
            query,
            cause: Cause::Silent,
        }),
    }
}

impl Rows {
    /// Reads each row.
    pub(super) fn read<T>(
        &self,
        query: &'static str,
        mut read: impl FnMut(&Row<'_>) -> Result<T, Error>,
    ) -> Result<Vec<T>, Error> {
        let mut read = |row| read(&Row { query, row });
        match self {
            Self::Sqlite(rows) => rows.iter().map(|row| read(RowRef::Sqlite(row))).collect(),
            Self::Postgres(rows) => rows.iter().map(|row| read(RowRef::Postgres(row))).collect(),
            Self::MySql(rows) => rows.iter().map(|row| read(RowRef::MySql(row))).collect(),
        }
    }
}

#[cfg(test)]
impl Rows {
    pub(super) fn into_rows(self) -> Vec<DriverRow> {
        match self {
            Self::Sqlite(rows) => rows.into_iter().map(DriverRow::Sqlite).collect(),
            Self::Postgres(rows) => rows.into_iter().map(DriverRow::Postgres).collect(),
            Self::MySql(rows) => rows.into_iter().map(DriverRow::MySql).collect(),
        }
    }
}

impl DriverRow {
    /// Reads it.
    pub(super) fn read<T>(
        &self,
        query: &'static str,
        read: impl FnOnce(&Row<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let row = match self {
            Self::Sqlite(row) => RowRef::Sqlite(row),
            Self::Postgres(row) => RowRef::Postgres(row),
            Self::MySql(row) => RowRef::MySql(row),
        };
        read(&Row { query, row })
    }
}

/// A row of an answer. A value of another type than asked for is [`Error::Corrupt`].
pub struct Row<'r> {
    query: &'static str,
    row: RowRef<'r>,
}

impl Row<'_> {
    /// Text.
    pub(crate) fn text(&self, column: usize) -> Result<String, Error> {
        let text = self.optional_text(column)?;
        text.ok_or_else(|| self.corrupt(column))
    }

    /// Text or NULL.
    pub(crate) fn optional_text(&self, column: usize) -> Result<Option<String>, Error> {
        let text = match self.row {
            RowRef::Sqlite(row) => row.try_get(column).ok(),
            RowRef::Postgres(row) => row.try_get(column).ok(),
            RowRef::MySql(row) => mysql::text(row, column),
        };
        text.ok_or_else(|| self.corrupt(column))
    }

    /// A whole number.
    pub(crate) fn integer(&self, column: usize) -> Result<i64, Error> {
        let number = match self.row {
            RowRef::Sqlite(row) => row.try_get(column).ok(),
            RowRef::Postgres(row) => postgres::integer(row, column),
            RowRef::MySql(row) => mysql::integer(row, column),
        };
        number.ok_or_else(|| self.corrupt(column))
    }

    /// A count or a size, which cannot be negative.
    pub(crate) fn count(&self, column: usize) -> Result<u64, Error> {
        u64::try_from(self.integer(column)?).map_err(|_| self.corrupt(column))
    }

    /// True or false: a column of that type, or the outcome of a comparison. 0 and 1 where the database has no such type.
    pub(crate) fn truth(&self, column: usize) -> Result<bool, Error> {
        if let RowRef::Postgres(row) = self.row {
            return row.try_get(column).map_err(|_| self.corrupt(column));
        }
        Ok(self.integer(column)? != 0)
    }

    /// The error that says that a value of this row has no meaning.
    pub(crate) fn corrupt(&self, column: usize) -> Error {
        Error::Corrupt {
            query: self.query,
            cause: Cause::Value { column },
        }
    }
}
