//! Stanzas that were acknowledged to their senders and wait for their receivers: table `in_flight`, one of ours.
//!
//! A row belongs to the process that holds the stanza, named by its node and boot. After a process was killed, the next
//! start routes what is left over and deletes it when it was delivered or stored elsewhere: a stanza may then arrive
//! twice, never not at all.
use std::sync::Arc;

use parking_lot::Mutex;
use protocol::Stanza;

use super::{Db, Error, Query, Value, statements};
use crate::stamp::now_us;

/// Rows that [`InFlightStore::list`] returns at most: with stanzas of the usual largest size, 32 MiB.
pub const LIST_MAX: u32 = 500;
/// The node's name where there is but one node.
const NODE_ALONE: &str = "alone";
/// Rows in one `INSERT`: each statement is a trip to another thread, and one for eight rows is little dearer.
const INSERT_MANY: usize = 8;
/// Rows in one `DELETE`.
const DELETE_MANY: usize = 16;

statements! {
    INSERT_ONE = "in_flight_insert":
        "INSERT INTO in_flight (node, boot, in_flight_id, from_jid, to_jid, stanza, stored_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7)";
    INSERT_EIGHT = "in_flight_insert_eight":
        "INSERT INTO in_flight (node, boot, in_flight_id, from_jid, to_jid, stanza, stored_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7), ($1, $2, $8, $9, $10, $11, $12),
                ($1, $2, $13, $14, $15, $16, $17), ($1, $2, $18, $19, $20, $21, $22),
                ($1, $2, $23, $24, $25, $26, $27), ($1, $2, $28, $29, $30, $31, $32),
                ($1, $2, $33, $34, $35, $36, $37), ($1, $2, $38, $39, $40, $41, $42)";
    // Fewer rows repeat the last id.
    DELETE_SIXTEEN = "in_flight_delete":
        "DELETE FROM in_flight WHERE in_flight_id IN
         ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)";
    // In the order of the key, so it stops after its limit; run at a start, when hardly any row is of this process.
    LIST = "in_flight_list":
        "SELECT in_flight_id, from_jid, to_jid, stanza, stored_at FROM in_flight
         WHERE node = $1 AND boot <> $2 AND in_flight_id > $3 ORDER BY in_flight_id LIMIT $4";
}

/// A stanza in flight. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// Its sender; empty if it names none.
    pub from: Arc<str>,
    /// Its receiver; empty if it names none.
    pub to: Arc<str>,
    /// The stanza as XML.
    pub stanza: Arc<str>,
    /// When it was taken here, in microseconds since 1970.
    pub stored_at: i64,
}

impl InFlight {
    /// The row for a stanza, taken now.
    pub fn of(stanza: &Stanza) -> Self {
        let text =
            std::str::from_utf8(stanza.bytes()).expect("the bytes of a stanza were read as UTF-8");
        Self {
            from: stanza.from().map_or("", |from| from.as_str()).into(),
            to: stanza.to().map_or("", |to| to.as_str()).into(),
            stanza: text.into(),
            stored_at: now_us(),
        }
    }
}

/// A row that an earlier process left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOver {
    /// Its id, for [`InFlightStore::delete`]; rising with time among those of one process.
    pub id: i64,
    /// The stanza.
    pub in_flight: InFlight,
}

impl LeftOver {
    /// The stanza; None if the row holds none, which nobody can deliver.
    pub fn to_stanza(&self) -> Option<Stanza> {
        super::to_stanza(&self.in_flight.stanza)
    }
}

/// The stanzas in flight of this process, and those that earlier ones of its node left over.
#[derive(Clone)]
pub struct InFlightStore {
    db: Db,
    node: Arc<str>,
    boot: Arc<str>,
    next_id: Arc<Mutex<i64>>,
}

impl InFlightStore {
    /// The rows of a process that shares its database with no other node.
    pub fn new(db: Db) -> Self {
        Self::for_node(db, NODE_ALONE)
    }

    /// The rows of a process of that node.
    pub fn for_node(db: Db, node: &str) -> Self {
        let boot = format!("{:08x}{:08x}", random_u32(), random_u32());
        Self {
            db,
            node: node.into(),
            boot: boot.into(),
            next_id: Arc::new(Mutex::new(random_first_id())),
        }
    }

    /// Commits stanzas, all or none, and returns their ids in order. After [`Error::Conflict`] the same call can be
    /// tried again: ids start at random, and this process has met those of another.
    pub async fn insert(&self, stanzas: Vec<InFlight>) -> Result<Vec<i64>, Error> {
        let ids = self.take_ids(stanzas.len());
        let mut queries = Vec::with_capacity(stanzas.len().div_ceil(INSERT_MANY) + INSERT_MANY);
        let mut rows = ids.iter().copied().zip(stanzas);
        for _ in 0..ids.len() / INSERT_MANY {
            queries.push(self.insert_query(rows.by_ref().take(INSERT_MANY)));
        }
        queries.extend(rows.map(|row| self.insert_query(std::iter::once(row))));
        match self.db.execute_all("in_flight_insert_all", queries).await {
            Ok(()) => Ok(ids),
            Err(error) => {
                if matches!(error, Error::Conflict { .. }) {
                    *self.next_id.lock() = random_first_id();
                }
                Err(error)
            }
        }
    }

    /// Deletes stanzas that were acknowledged or stored elsewhere, all or none. Those that are gone do no harm.
    pub async fn delete(&self, ids: &[i64]) -> Result<(), Error> {
        let queries = ids.chunks(DELETE_MANY).map(delete_query).collect();
        self.db.execute_all("in_flight_delete_all", queries).await
    }

    /// Rows of earlier processes of this node with ids after `after`, those of one process oldest first, at most `limit`
    /// and [`LIST_MAX`]. Who has seen to them deletes them and asks for the next.
    pub async fn list(&self, after: i64, limit: u32) -> Result<Vec<LeftOver>, Error> {
        let (node, boot) = (Arc::clone(&self.node), Arc::clone(&self.boot));
        let query = LIST.bind([
            node.into(),
            boot.into(),
            after.into(),
            i64::from(limit.min(LIST_MAX)).into(),
        ]);
        self.db
            .fetch_all(query, |row| {
                let (from, to, stanza) = (
                    row.text(1)?.into(),
                    row.text(2)?.into(),
                    row.text(3)?.into(),
                );
                let in_flight = InFlight {
                    from,
                    to,
                    stanza,
                    stored_at: row.integer(4)?,
                };
                Ok(LeftOver {
                    id: row.integer(0)?,
                    in_flight,
                })
            })
            .await
    }

    fn take_ids(&self, count: usize) -> Vec<i64> {
        let mut next = self.next_id.lock();
        let first = *next;
        *next = first.saturating_add_unsigned(count as u64);
        (first..*next).collect()
    }

    fn insert_query(&self, rows: impl Iterator<Item = (i64, InFlight)>) -> Query {
        let mut values: Vec<Value> = Vec::with_capacity(2 + INSERT_MANY * 5);
        values.extend([Arc::clone(&self.node).into(), Arc::clone(&self.boot).into()]);
        let mut count = 0;
        for (
            id,
            InFlight {
                from,
                to,
                stanza,
                stored_at,
            },
        ) in rows
        {
            values.extend([
                id.into(),
                from.into(),
                to.into(),
                stanza.into(),
                stored_at.into(),
            ]);
            count += 1;
        }
        if count == INSERT_MANY {
            INSERT_EIGHT.bind_all(values)
        } else {
            INSERT_ONE.bind_all(values)
        }
    }
}

fn delete_query(ids: &[i64]) -> Query {
    let last = ids.last().copied().unwrap_or_default();
    let padded = ids
        .iter()
        .copied()
        .chain(std::iter::repeat(last))
        .take(DELETE_MANY);
    DELETE_SIXTEEN.bind_all(padded.map(Value::from).collect())
}

/// Ids of a process start at one of 2^30 places, with room for 2^32 after each: no two processes whose rows are there
/// at the same time get in each other's way but once in a million starts, and then [`InFlightStore::insert`] says so.
fn random_first_id() -> i64 {
    i64::from(random_u32() >> 2) << 32
}

fn random_u32() -> u32 {
    getrandom::u32().expect("the operating system has random numbers")
}

#[cfg(test)]
mod tests;
