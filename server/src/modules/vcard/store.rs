//! XEP-0054: vCards in table `vcard`, and what they are found by in table `vcard_search`, with MongooseIM's columns.
use protocol::{BareJid, Element, ns};

use super::search::{FIELDS, Fields, folded};
use crate::storage::{Db, Error, Row, Statement, Value, statements};

/// Bytes of a vCard as it is kept: it has to fit into an answer. A larger one is refused.
pub const VCARD_BYTES_MAX: usize = 64 * 1024;
/// People that one search finds at most, whatever `matches` says.
pub const MATCHES_MAX: u32 = 1_000;

/// A search that begins with one column, which has an index, and looks at the others in what that gives.
macro_rules! search_by {
    ($column:literal) => {
        concat!(
            "SELECT username, fn, family, given, middle, nickname, bday, ctry, locality, email, orgname, orgunit
             FROM vcard_search WHERE server = $1 AND ",
            $column,
            " >= $2 AND ",
            $column,
            " <= $3
             AND ($4 = '' OR lusername LIKE $4 ESCAPE '!') AND ($5 = '' OR lfn LIKE $5 ESCAPE '!')
             AND ($6 = '' OR lfamily LIKE $6 ESCAPE '!') AND ($7 = '' OR lgiven LIKE $7 ESCAPE '!')
             AND ($8 = '' OR lmiddle LIKE $8 ESCAPE '!') AND ($9 = '' OR lnickname LIKE $9 ESCAPE '!')
             AND ($10 = '' OR lbday LIKE $10 ESCAPE '!') AND ($11 = '' OR lctry LIKE $11 ESCAPE '!')
             AND ($12 = '' OR llocality LIKE $12 ESCAPE '!') AND ($13 = '' OR lemail LIKE $13 ESCAPE '!')
             AND ($14 = '' OR lorgname LIKE $14 ESCAPE '!') AND ($15 = '' OR lorgunit LIKE $15 ESCAPE '!')
             ORDER BY ",
            $column,
            " LIMIT $16"
        )
    };
}

statements! {
    LOAD = "vcard_load":
        "SELECT vcard FROM vcard WHERE server = $1 AND username = $2";
    REMOVE = "vcard_remove":
        "DELETE FROM vcard WHERE server = $1 AND username = $2";
    CREATE = "vcard_create":
        "INSERT INTO vcard (server, username, vcard) VALUES ($1, $2, $3)";
    REMOVE_FIELDS = "vcard_remove_fields":
        "DELETE FROM vcard_search WHERE server = $1 AND lusername = $2";
    CREATE_FIELDS = "vcard_create_fields":
        "INSERT INTO vcard_search (server, lusername, username, fn, lfn, family, lfamily, given, lgiven, middle, lmiddle,
         nickname, lnickname, bday, lbday, ctry, lctry, locality, llocality, email, lemail, orgname, lorgname,
         orgunit, lorgunit)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22,
         $23, $24, $25)";
    BY_USER = "vcard_search_user": search_by!("lusername");
    BY_FN = "vcard_search_fn": search_by!("lfn");
    BY_FAMILY = "vcard_search_family": search_by!("lfamily");
    BY_GIVEN = "vcard_search_given": search_by!("lgiven");
    BY_MIDDLE = "vcard_search_middle": search_by!("lmiddle");
    BY_NICKNAME = "vcard_search_nickname": search_by!("lnickname");
    BY_BDAY = "vcard_search_bday": search_by!("lbday");
    BY_CTRY = "vcard_search_ctry": search_by!("lctry");
    BY_LOCALITY = "vcard_search_locality": search_by!("llocality");
    BY_EMAIL = "vcard_search_email": search_by!("lemail");
    BY_ORGNAME = "vcard_search_orgname": search_by!("lorgname");
    BY_ORGUNIT = "vcard_search_orgunit": search_by!("lorgunit");
}

/// In the order of the fields.
const SEARCHES: [&Statement; FIELDS] = [
    BY_USER,
    BY_FN,
    BY_FAMILY,
    BY_GIVEN,
    BY_MIDDLE,
    BY_NICKNAME,
    BY_BDAY,
    BY_CTRY,
    BY_LOCALITY,
    BY_EMAIL,
    BY_ORGNAME,
    BY_ORGUNIT,
];

/// What one field has to be, in small letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Pattern {
    /// Whatever it is.
    #[default]
    Any,
    /// This.
    Whole(String),
    /// Something that begins so.
    Beginning(String),
}

impl Pattern {
    /// The first and the last text that fit, in the order of their bytes.
    fn range(&self) -> Option<[String; 2]> {
        match self {
            Self::Any => None,
            Self::Whole(text) => Some([text.clone(), text.clone()]),
            Self::Beginning(text) => Some([text.clone(), format!("{text}{}", char::MAX)]),
        }
    }

    /// For `LIKE`, with `!` before what is meant as it is; empty for whatever.
    fn like(&self) -> String {
        let (text, end) = match self {
            Self::Any => return String::new(),
            Self::Whole(text) => (text, ""),
            Self::Beginning(text) => (text, "%"),
        };
        let mut like = String::with_capacity(text.len() + 1);
        for letter in text.chars() {
            if matches!(letter, '!' | '%' | '_') {
                like.push('!');
            }
            like.push(letter);
        }
        like + end
    }
}

/// What is looked for, in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(pub [Pattern; FIELDS]);

impl Query {
    /// Whether it is nothing.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|pattern| *pattern == Pattern::Any)
    }
}

/// Somebody who was found: what stands in the fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found(pub [String; FIELDS]);

/// The vCards of all accounts.
#[derive(Clone)]
pub struct VcardStore {
    db: Db,
}

impl VcardStore {
    /// The vCards in `db`.
    pub fn new(db: Db) -> Self {
        Self { db }
    }

    /// The account's vCard.
    pub async fn load(&self, account: &BareJid) -> Result<Option<Element>, Error> {
        self.db
            .fetch_optional(LOAD.bind(key(account)), |row| {
                let xml = row.text(0)?;
                Element::parse(xml.as_bytes(), ns::VCARD).map_err(|_| row.corrupt(0))
            })
            .await
    }

    /// Keeps a vCard in place of the one before, and what it is found by.
    pub async fn set(&self, account: &BareJid, xml: String, fields: &Fields) -> Result<(), Error> {
        let [server, username] = key(account);
        let mut queries = vec![
            REMOVE.bind(key(account)),
            CREATE.bind([server, username, xml.into()]),
            REMOVE_FIELDS.bind(key(account)),
        ];
        if !fields.is_empty() {
            let [server, username] = key(account);
            let mut values = vec![server, username.clone(), username];
            for text in &fields.0 {
                values.push(text.as_str().into());
                values.push(folded(text).into());
            }
            queries.push(CREATE_FIELDS.bind_all(values));
        }
        self.db.execute_all("vcard_set", queries).await
    }

    /// People of a domain, at most `limit`, in the order of the first field that is looked for.
    pub async fn search(
        &self,
        domain: &str,
        query: &Query,
        limit: u32,
    ) -> Result<Vec<Found>, Error> {
        let ranges = SEARCHES.iter().zip(&query.0);
        let first = ranges
            .filter_map(|(statement, pattern)| Some((statement, pattern.range()?)))
            .next();
        let Some((statement, [from, to])) = first else {
            return Ok(Vec::new());
        };
        let mut values: Vec<Value> = vec![domain.into(), from.into(), to.into()];
        values.extend(query.0.iter().map(|pattern| Value::from(pattern.like())));
        values.push(i64::from(limit.min(MATCHES_MAX)).into());
        self.db.fetch_all(statement.bind_all(values), read).await
    }
}

fn read(row: &Row<'_>) -> Result<Found, Error> {
    let mut texts: [String; FIELDS] = Default::default();
    for (column, text) in texts.iter_mut().enumerate() {
        *text = row.text(column)?;
    }
    Ok(Found(texts))
}

/// The columns `server` and `username`.
fn key(account: &BareJid) -> [Value; 2] {
    [
        account.domain().into(),
        account.local().unwrap_or_default().into(),
    ]
}

#[cfg(test)]
mod tests;
