//! Brings the schema up to date.
use sqlx::Executor as _;

use super::dialect::{self, Migration};
use super::{Cause, Error, Transaction, statements};

statements! {
    FIND = "migration_find": "SELECT 1 FROM schema_migrations WHERE version = $1";
    LAST = "migration_last": "SELECT COALESCE(MAX(version), 0) FROM schema_migrations";
    RECORD = "migration_record": "INSERT INTO schema_migrations (version, name) VALUES ($1, $2)";
}

/// Applies one step of those `known`, unless it was applied before.
pub(super) async fn apply(
    transaction: &mut Transaction<'_>,
    migration: &'static Migration,
    known: &'static [Migration],
) -> Result<(), Error> {
    run(transaction, "migration_table", dialect::CREATE_MIGRATIONS).await?;
    let last_known = known.last().map_or(0, |migration| migration.version);
    let found = transaction
        .fetch_optional(LAST.bind([]), |row| row.integer(0))
        .await?
        .unwrap_or(0);
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
    let applied = transaction
        .fetch_optional(FIND.bind([migration.version.into()]), |row| row.integer(0))
        .await?;
    if applied.is_some() {
        return Ok(());
    }
    run(transaction, migration.name, migration.sql).await?;
    transaction
        .execute(RECORD.bind([migration.version.into(), migration.name.into()]))
        .await?;
    tracing::info!(
        version = migration.version,
        name = migration.name,
        "schema step applied"
    );
    Ok(())
}

/// Runs a text of several statements that are used only once.
async fn run(
    transaction: &mut Transaction<'_>,
    name: &'static str,
    sql: &'static str,
) -> Result<(), Error> {
    let done = transaction.connection.execute(sqlx::raw_sql(sql)).await;
    done.map(drop)
        .map_err(|error| dialect::classify(name, error))
}

#[cfg(test)]
mod tests {
    use super::STATEMENTS;
    use crate::storage::tests::check_statements;

    #[tokio::test]
    async fn the_database_takes_every_statement() {
        check_statements(STATEMENTS, &[]).await;
    }
}
