//! What a start makes of what an earlier run has left.
use std::ops::ControlFlow;
use std::sync::Arc;

use parking_lot::Mutex;
use protocol::StanzaCondition;

use super::*;
use crate::config::Config;
use crate::hooks::{Error, Handle, OfflineMessage, Outcome, Stage};
use crate::modules::offline::store::{OWED_FACTOR, OfflineStore, Quota};
use crate::modules::testing::{ChatNode, account, limit_offline_messages};
use crate::stamp;
use crate::storage::in_flight::InFlight;
use crate::testing::{self, TestNode, message, soon, until};

/// An offline store that does as it is told.
#[derive(Default)]
struct Store {
    works: Mutex<bool>,
    stored: Mutex<Vec<String>>,
}

impl Handle<OfflineMessage> for Store {
    async fn handle(
        &self,
        _: &mut crate::router::Route,
        event: &mut OfflineMessage,
    ) -> Outcome<OfflineMessage> {
        if !*self.works.lock() {
            return Err(Error::Refused(StanzaCondition::InternalServerError.into()));
        }
        self.stored
            .lock()
            .push(event.stanza.id().unwrap_or_default().into_owned());
        event.stored = true;
        Ok(ControlFlow::Continue(()))
    }
}

/// A node with an offline store that fails until it is told to work, and a database for rows of an earlier run.
async fn node_after_another() -> (TestNode, Arc<Store>, Db) {
    let node = TestNode::start().await;
    let handler = Arc::new(Store::default());
    node.use_hooks(|hooks| hooks.add::<OfflineMessage, _>(Stage::Archive, "test", &handler))
        .await;
    let db = Db::open(storage::Options::new(Place::Memory))
        .await
        .unwrap();
    db.migrate().await.unwrap();
    (node, handler, db)
}

#[tokio::test]
async fn a_row_is_deleted_when_its_stanza_is_stored_and_not_before() {
    let (node, handler, db) = node_after_another().await;
    let earlier = InFlightStore::new(db.clone());
    let rows = ["1", "2"].map(|id| InFlight::of(&message("romeo@localhost/orchard", id, 10)));
    earlier.insert(rows.to_vec()).await.unwrap();

    let store = InFlightStore::new(db);
    recover(&node.router, &store).await.unwrap();
    assert_eq!(
        store.list(i64::MIN, 10).await.unwrap().len(),
        2,
        "they could not be stored"
    );

    *handler.works.lock() = true;
    recover(&node.router, &store).await.unwrap();
    assert!(store.list(i64::MIN, 10).await.unwrap().is_empty());
    assert_eq!(*handler.stored.lock(), ["1", "2"]);
}

/// The sender was told that its message is safe, and is not there any more: nobody would hear of an error.
#[tokio::test]
async fn what_an_earlier_run_acknowledged_is_kept_although_the_store_is_full() {
    let limited = |host: &mut HostPlan| limit_offline_messages(host, 2);
    let chat = ChatNode::start_with(&["juliet"], limited).await;
    let juliet = account("juliet");
    let waiting = async || {
        let store = OfflineStore::new(chat.db.clone(), Quota::default());
        store.count(&juliet, stamp::now_us()).await.unwrap()
    };
    let earlier = InFlightStore::new(chat.db.clone());
    let row = |id: usize| InFlight::of(&message("juliet@localhost/balcony", &id.to_string(), 10));
    let fits = 2 * OWED_FACTOR as usize;
    earlier
        .insert((0..fits + 3).map(row).collect())
        .await
        .unwrap();
    // It can never be delivered, and hinders nobody.
    let lost = InFlight::of(&message("nobody@localhost/x", "lost", 10));
    earlier.insert(vec![lost]).await.unwrap();

    let store = InFlightStore::new(chat.db.clone());
    recover(&chat.node.router, &store).await.unwrap();
    assert_eq!(waiting().await, fits as u64);
    let left = store.list(i64::MIN, 100).await.unwrap();
    assert_eq!(left.len(), 3, "what does not fit stays where it is");

    let mut client = chat.online("juliet", "balcony").await;
    soon(async { while waiting().await > 0 {} }).await;
    client.send("</stream:stream>").await;
    until(|| chat.node.find("juliet@localhost/balcony").is_none()).await;
    recover(&chat.node.router, &store).await.unwrap();
    assert_eq!(waiting().await, 3, "now there is room");
    assert_eq!(store.list(i64::MIN, 100).await.unwrap().len(), 0);
    chat.stop().await;
}

/// More rows stay than are read at a time: those behind them are not forgotten.
#[tokio::test]
async fn rows_that_stay_hinder_none_behind_them() {
    let (node, _handler, db) = node_after_another().await;
    let earlier = InFlightStore::new(db.clone());
    let stuck = (0..RECOVER_BATCH).map(|_| InFlight::of(&message("romeo@localhost", "1", 10)));
    earlier.insert(stuck.collect()).await.unwrap();
    // Nobody's answer: it is settled at once.
    let easy = InFlight::of(&message("localhost", "2", 10));
    earlier.insert(vec![easy]).await.unwrap();

    let store = InFlightStore::new(db);
    recover(&node.router, &store).await.unwrap();
    let left = store.list(i64::MIN, u32::MAX).await.unwrap();
    assert_eq!(left.len(), RECOVER_BATCH as usize);
    assert!(
        left.iter()
            .all(|row| &*row.in_flight.to == "romeo@localhost")
    );
}

#[tokio::test]
async fn a_data_directory_belongs_to_one_node_at_a_time() {
    let node = TestNode::start().await;
    let dir = tempfile::tempdir().unwrap();
    let mut plan = testing::plan(&dir);
    plan.data_dir = node.dir().to_owned();
    let Err(error) = Box::pin(Node::start(plan, Shutdown::new())).await else {
        panic!("the first one has it");
    };
    assert!(error.to_string().contains("another node uses"), "{error}");
    assert!(
        node.dir().join(control::SOCKET_NAME).exists(),
        "the first one's socket stays"
    );
    let first_dir = node.stop().await;
    let mut plan = testing::plan(&dir);
    plan.data_dir = first_dir.path().to_owned();
    Box::pin(Node::start(plan, Shutdown::new())).await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named_once_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("meerkat.db");
    std::fs::write(&file, "letters ".repeat(1_000)).unwrap();
    let mut config = Config::zero();
    config.general.data_dir = directory.path().to_owned();
    let plan = plan::of(&config).unwrap();
    let started = Box::pin(Node::start(plan, Shutdown::new())).await;
    let problem = crate::run::explain(&started.err().unwrap());
    assert!(problem.contains(&file.display().to_string()), "{problem}");
    assert_eq!(problem.matches("is not a database").count(), 1, "{problem}");
}
