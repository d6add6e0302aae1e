//! What a start makes of what an earlier run has left.
use std::ops::ControlFlow;
use std::sync::Arc;

use parking_lot::Mutex;
use protocol::StanzaCondition;

use super::*;
use crate::hooks::{Error, Handle, OfflineMessage, Outcome, Stage};
use crate::storage::Place;
use crate::storage::in_flight::InFlight;
use crate::testing::{self, TestNode, message};

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

#[tokio::test]
async fn a_row_is_deleted_when_its_stanza_is_stored_and_not_before() {
    let node = TestNode::start().await;
    let handler = Arc::new(Store::default());
    node.use_hooks(|hooks| hooks.add::<OfflineMessage, _>(Stage::Archive, "test", &handler))
        .await;
    let db = Db::open(storage::Options::new(Place::Memory))
        .await
        .unwrap();
    db.migrate().await.unwrap();
    let earlier = InFlightStore::new(db.clone());
    let rows = ["1", "2"].map(|id| InFlight::of(&message("romeo@localhost/orchard", id, 10)));
    earlier.insert(rows.to_vec()).await.unwrap();

    let store = InFlightStore::new(db);
    recover(&node.router, &store).await.unwrap();
    assert_eq!(
        store.list(10).await.unwrap().len(),
        2,
        "they could not be stored"
    );

    *handler.works.lock() = true;
    recover(&node.router, &store).await.unwrap();
    assert!(store.list(10).await.unwrap().is_empty());
    assert_eq!(*handler.stored.lock(), ["1", "2"]);
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
