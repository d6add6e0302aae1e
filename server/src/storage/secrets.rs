//! Random values that the server makes once and keeps: table `secrets`, one of ours.
use super::{Cause, Db, Error, statements};

/// Bytes of a secret.
pub const SECRET_BYTES: usize = 32;

statements! {
    LOAD = "secret_load": "SELECT secret FROM secrets WHERE name = $1";
    CREATE = "secret_create":
        "INSERT INTO secrets (name, secret) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING",
        mysql: "INSERT INTO secrets (name, secret) SELECT $1, $2 FROM DUAL
                WHERE NOT EXISTS (SELECT 1 FROM secrets WHERE name = $1)";
}

/// The secrets of this database: all nodes that share it share them.
#[derive(Clone)]
pub struct SecretStore {
    db: Db,
}

impl SecretStore {
    /// The secrets in `db`.
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// The secret of that name, [`SECRET_BYTES`] long, made now if it is missing. Who asks at the same time gets the
    /// same one.
    pub async fn load(&self, name: &'static str) -> Result<Vec<u8>, Error> {
        if let Some(secret) = self.find(name).await? {
            return Ok(secret);
        }
        let mut random = [0; SECRET_BYTES];
        getrandom::fill(&mut random).expect("the operating system has random numbers");
        self.db
            .execute(CREATE.bind([name.into(), to_hex(&random).into()]))
            .await?;
        let gone = Error::Corrupt {
            query: LOAD.name(),
            cause: Cause::Value { column: 0 },
        };
        self.find(name).await?.ok_or(gone)
    }

    async fn find(&self, name: &'static str) -> Result<Option<Vec<u8>>, Error> {
        self.db
            .fetch_optional(LOAD.bind([name.into()]), |row| {
                from_hex(&row.text(0)?).ok_or_else(|| row.corrupt(0))
            })
            .await
    }
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// None unless it is a whole secret.
fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|d| u8::try_from(d).ok()))
        .collect();
    let digits = digits.filter(|digits| digits.len() == 2 * SECRET_BYTES)?;
    Some(
        digits
            .chunks_exact(2)
            .map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::Place;
    use crate::storage::tests::{Folder, check_statements, open, run_raw};

    #[tokio::test]
    async fn the_database_takes_every_statement() {
        check_statements(STATEMENTS, &[]).await;
    }

    #[tokio::test]
    async fn a_secret_is_made_once_and_kept() {
        let folder = Folder::new();
        let (one, other) = tokio::join!(open(folder.database()), open(folder.database()));
        let (one, other) = (SecretStore::new(one), SecretStore::new(other));
        let (first, second) = tokio::join!(one.load("a"), other.load("a"));
        let first = first.unwrap();
        assert_eq!(first.len(), SECRET_BYTES);
        assert_eq!(first, second.unwrap());
        assert_ne!(first, one.load("b").await.unwrap());
        assert_eq!(
            first,
            SecretStore::new(open(folder.database()).await)
                .load("a")
                .await
                .unwrap()
        );
    }

    #[tokio::test]
    async fn a_secret_that_is_none_is_an_error() {
        let db = open(Place::Memory).await;
        run_raw(
            &db,
            "INSERT INTO secrets VALUES ('short', 'abcd'), ('odd', 'xyz'), ('none', '')",
        )
        .await;
        let secrets = SecretStore::new(db);
        for name in ["short", "odd", "none"] {
            assert!(
                matches!(secrets.load(name).await, Err(Error::Corrupt { .. })),
                "{name}"
            );
        }
    }
}
