//! When a row is written, who is told, and when it is deleted.
use std::future::poll_fn;

use protocol::FullJid;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use super::*;
use crate::c2s::resume::Managed;
use crate::outlet::{Batch, Event};
use crate::storage::{Db, Options, Place};
use crate::testing::{SETTINGS, message, metrics, outlet, soon};

const SENDER: u64 = 1;
const RECEIVER: u64 = 2;

/// More than a socket takes that nobody reads from.
const LARGE_BYTES: usize = 1_000_000;

/// A sender that manages its stream, a receiver, and the database.
struct Book {
    ledger: Arc<Ledger>,
    sender: SessionRef,
    receiver: SessionRef,
    db: Db,
    store: InFlightStore,
    /// Of the stanza that is on its way.
    token: Token,
    reading: TcpStream,
    _sending: TcpStream,
}

async fn bound(ledger: &Arc<Ledger>, id: u64) -> (SessionRef, TcpStream) {
    let (outlet, client) = outlet(ledger, id).await;
    outlet.bind(FullJid::parse("somebody@localhost/test").unwrap());
    (outlet, client)
}

async fn managed(ledger: &Arc<Ledger>, id: u64) -> (SessionRef, TcpStream) {
    let (outlet, client) = bound(ledger, id).await;
    let managed = Box::new(Managed::new(SETTINGS, None));
    outlet.manage(managed, b"", &mut Batch::new(ledger));
    ledger.add(id, outlet.clone());
    (outlet, client)
}

impl Book {
    /// To a receiver that manages its stream as well.
    async fn with_a_stanza_on_its_way() -> Self {
        let ledger = Ledger::new(metrics().ledger.clone());
        let receiver = managed(&ledger, RECEIVER).await;
        Self::with_a_stanza_to(receiver, ledger, 10).await
    }

    /// To a receiver that does not manage its stream and has not read for a while.
    async fn with_a_stanza_that_is_refused() -> Self {
        let ledger = Ledger::new(metrics().ledger.clone());
        let receiver = bound(&ledger, RECEIVER).await;
        Self::with_a_stanza_to(receiver, ledger, LARGE_BYTES).await
    }

    async fn with_a_stanza_to(
        (receiver, reading): (SessionRef, TcpStream),
        ledger: Arc<Ledger>,
        bytes: usize,
    ) -> Self {
        let db = Db::open(Options::new(Place::Memory)).await.unwrap();
        db.migrate().await.unwrap();
        let store = InFlightStore::new(db.clone());
        let (sender, _sending) = managed(&ledger, SENDER).await;
        let stanza = sender.with_managed(Managed::receive).flatten().unwrap();
        let token = Token {
            session: SENDER,
            stanza,
        };
        let mut batch = Batch::new(&ledger);
        let message = message("romeo@localhost/orchard", "1", bytes);
        receiver.push(message, Some(token), &mut batch);
        batch.flush();
        Self {
            ledger,
            sender,
            receiver,
            db,
            store,
            token,
            reading,
            _sending,
        }
    }

    /// The receiver reads all that waits for it.
    async fn read_all(&mut self) {
        let (mut tokens, mut buffer) = (Vec::new(), vec![0; LARGE_BYTES]);
        while !self.receiver.is_drained() {
            tokio::select! {
                event = poll_fn(|cx| self.receiver.poll_unread(cx)) => {
                    assert!(matches!(event, Event::Writable), "bytes wait, and nothing else");
                    self.receiver.flush_blocked(&mut tokens).unwrap();
                }
                count = self.reading.read(&mut buffer) => assert!(count.unwrap() > 0),
            }
        }
        self.ledger.settle_all(&mut tokens);
    }

    fn pass(&self, ms: u64) {
        self.ledger.clock.pass(ms);
    }

    /// What `h` says to the sender.
    fn h(&self) -> u32 {
        self.sender
            .with_managed(|managed| managed.tellable())
            .unwrap()
    }

    /// Rows in the database.
    async fn rows(&self) -> usize {
        // To another process they are left over.
        InFlightStore::new(self.db.clone())
            .list(i64::MIN, 10)
            .await
            .unwrap()
            .len()
    }

    fn acknowledge(&self) {
        let mut tokens = Vec::new();
        self.receiver.with_managed(|managed| {
            managed.acknowledge(1, |kept| {
                tokens.extend(kept.token);
                if let Some(row) = kept.row {
                    self.ledger.row_done(row);
                }
            })
        });
        self.ledger.settle_all(&mut tokens);
    }
}

#[tokio::test]
async fn a_stanza_that_waits_too_long_gets_a_row_until_it_is_acknowledged() {
    let book = Book::with_a_stanza_on_its_way().await;
    book.pass(IN_FLIGHT_AFTER_MS - 1);
    assert!(book.ledger.sweep(true).is_empty());
    book.pass(1);
    assert!(
        book.ledger.sweep(false).is_empty(),
        "there is no room for it now"
    );
    let rows = book.ledger.sweep(true);
    assert_eq!((rows.len(), book.h()), (1, 0));
    book.ledger.write(&book.store, rows).await;
    assert_eq!((book.rows().await, book.h()), (1, 1));
    assert!(book.ledger.sweep(true).is_empty(), "one row is enough");

    book.acknowledge();
    book.ledger.write(&book.store, Vec::new()).await;
    assert_eq!(book.rows().await, 0);
}

#[tokio::test]
async fn a_stanza_that_is_acknowledged_while_its_row_is_written_leaves_none() {
    let book = Book::with_a_stanza_on_its_way().await;
    book.pass(IN_FLIGHT_AFTER_MS);
    let rows = book.ledger.sweep(true);
    book.acknowledge();
    assert_eq!(book.h(), 1);
    book.ledger.write(&book.store, rows).await;
    assert_eq!(book.rows().await, 0);
}

#[tokio::test]
async fn a_database_that_fails_settles_nobody_and_is_tried_again_later() {
    let book = Book::with_a_stanza_on_its_way().await;
    book.pass(IN_FLIGHT_AFTER_MS);
    let rows = book.ledger.sweep(true);
    book.db.close().await;
    book.ledger.write(&book.store, rows).await;
    assert_eq!(book.h(), 0);
    assert_eq!(
        book.ledger.rest_until_ms(),
        book.ledger.clock.now_ms() + REST_MS
    );
    assert_eq!(book.ledger.sweep(true).len(), 1, "it waits for a row again");
}

#[tokio::test]
async fn a_row_stays_until_its_stanza_is_settled_where_it_goes_now() {
    let book = Book::with_a_stanza_on_its_way().await;
    let token = book.ledger.token_of_row(7, Origin::ThisRun);
    book.ledger.expect(token, 1);
    book.ledger.settle_all(&mut vec![token]);
    assert!(!book.ledger.has_done_rows());
    book.ledger.settle_all(&mut vec![token]);
    assert_eq!(book.ledger.take_done_rows(), [7]);

    let token = book.ledger.token_of_row(8, Origin::ThisRun);
    assert!(book.ledger.leave_row(Some(token), Left::Fault));
    book.ledger.settle_all(&mut vec![token]);
    assert!(!book.ledger.has_done_rows(), "left for the next start");
    assert!(!book.ledger.leave_row(Some(book.token), Left::Fault));
    assert!(!book.ledger.leave_row(None, Left::Fault));
}

/// Two accounts that work together, one of which takes nothing, fill no disk; what an earlier run owes stays in any case.
#[tokio::test]
async fn rows_that_no_store_has_room_for_stay_up_to_a_limit() {
    let ledger = Ledger::new(metrics().ledger.clone());
    let leave = |origin, why| {
        let token = ledger.token_of_row(1, origin);
        let is_left = ledger.leave_row(Some(token), why);
        if !is_left {
            ledger.settle_all(&mut vec![token]);
        }
        is_left
    };
    for _ in 0..LEFT_ROWS_MAX {
        assert!(leave(Origin::ThisRun, Left::StoreIsFull));
    }
    assert!(!leave(Origin::ThisRun, Left::StoreIsFull));
    assert_eq!(ledger.take_done_rows(), [1], "it is given up");
    assert!(leave(Origin::EarlierRun, Left::StoreIsFull));
    assert!(leave(Origin::ThisRun, Left::Fault));
    assert_eq!(ledger.metrics.in_flight_left.get(), LEFT_ROWS_MAX + 2);
}

#[tokio::test]
async fn without_stream_management_a_row_stays_until_its_stanza_is_written() {
    let mut book = Book::with_a_stanza_that_is_refused().await;
    book.pass(IN_FLIGHT_AFTER_MS);
    let rows = book.ledger.sweep(true);
    assert_eq!((rows.len(), book.h()), (1, 0));
    book.ledger.write(&book.store, rows).await;
    assert_eq!((book.rows().await, book.h()), (1, 1));
    soon(book.read_all()).await;
    book.ledger.write(&book.store, Vec::new()).await;
    assert_eq!(book.rows().await, 0);
}

#[tokio::test]
async fn a_stanza_that_is_written_while_its_row_is_leaves_none() {
    let mut book = Book::with_a_stanza_that_is_refused().await;
    book.pass(IN_FLIGHT_AFTER_MS);
    let rows = book.ledger.sweep(true);
    soon(book.read_all()).await;
    assert_eq!(book.h(), 1);
    book.ledger.write(&book.store, rows).await;
    assert_eq!(book.rows().await, 0);
}
