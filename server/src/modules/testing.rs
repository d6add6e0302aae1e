//! For tests of modules: a node with all of them, its database to look into, and accounts that are contacts
//! (RFC 6121).
use protocol::{BareJid, Element, ns};

use super::ModulesConfig;
use super::roster::store::RosterStore;
use super::roster::subscription::SubscriptionType::{Subscribe, Subscribed};
use crate::access::{AccessClause, AccessRules, AccessValue, AclConfig};
use crate::storage::{Db, Options, Place};
use crate::testing::{Client, DOMAIN, HostPlan, TestNode, soon};

/// A node with all modules.
pub(crate) struct ChatNode {
    pub(crate) node: TestNode,
    pub(crate) db: Db,
}

impl ChatNode {
    /// A node with these accounts.
    pub(crate) async fn start(accounts: &[&str]) -> Self {
        Self::start_with(accounts, |_| {}).await
    }

    /// The same with a host that is changed.
    pub(crate) async fn start_with(accounts: &[&str], change: impl Fn(&mut HostPlan)) -> Self {
        let mut place = Place::Memory;
        let node = TestNode::start_with(|plan| {
            place = Place::File(plan.data_dir.join("test.sqlite"));
            plan.storage = Options::new(place.clone());
            for host in &mut plan.hosts {
                host.modules = ModulesConfig::zero();
                change(host);
            }
        })
        .await;
        for account in accounts {
            node.register(account).await;
        }
        let db = Db::open(Options::new(place)).await.unwrap();
        Self { node, db }
    }

    /// Lets two accounts see each other, while both are offline.
    pub(crate) async fn befriend(&self, one: &str, other: &str) {
        let rosters = RosterStore::new(self.db.clone());
        for (user, contact) in [(one, other), (other, one)] {
            let (user, contact) = (account(user), account(contact));
            rosters.outbound(&user, &contact, Subscribe).await.unwrap();
            rosters
                .inbound(&contact, &user, Subscribe, "")
                .await
                .unwrap();
            rosters.outbound(&contact, &user, Subscribed).await.unwrap();
            rosters
                .inbound(&user, &contact, Subscribed, "")
                .await
                .unwrap();
        }
    }

    /// A session that has asked for its roster, has sent presence and knows what came of it.
    pub(crate) async fn online(&self, name: &str, resource: &str) -> Client {
        let mut client = self.node.session(name, resource).await;
        client
            .send("<iq type='get' id='roster'><query xmlns='jabber:iq:roster'/></iq><presence/>")
            .await;
        fence(&mut client).await;
        client
    }

    /// Stops the node without a word to its clients, and waits for its end.
    pub(crate) async fn stop(self) {
        self.node.shutdown.begin_at_once();
        soon(self.node.running).await.unwrap();
    }

    /// Names of the statements since the last call.
    pub(crate) fn statements(&self) -> Vec<&'static str> {
        std::mem::take(&mut *self.node.router.metrics.queries.seen.lock())
    }
}

/// Lets the offline store keep so many messages for each account.
pub(crate) fn limit_offline_messages(host: &mut HostPlan, messages: u64) {
    let clause = AccessClause {
        acl: "all".into(),
        value: AccessValue::Number(messages),
    };
    let rules = [("max_user_offline_messages".into(), vec![clause])];
    host.access = AccessRules::new(&AclConfig::default(), &rules.into()).unwrap();
}

pub(crate) fn account(name: &str) -> BareJid {
    BareJid::from_parts(Some(name), DOMAIN).unwrap()
}

/// What has come when everything that the client has sent is handled. Acknowledgements and requests for them are left
/// out.
pub(crate) async fn fence(client: &mut Client) -> Vec<Element> {
    client
        .send("<iq type='get' id='fence'><ping xmlns='urn:xmpp:ping'/></iq>")
        .await;
    let mut all = Vec::new();
    loop {
        let element = client.element().await;
        if element.attr("id") == Some("fence") {
            return all;
        }
        if element.ns() != ns::STREAM_MANAGEMENT {
            all.push(element);
        }
    }
}

/// The condition of a stanza error.
pub(crate) fn condition(stanza: &Element) -> Option<&str> {
    let error = stanza.child("error", ns::CLIENT)?;
    Some(error.elements().next()?.name())
}

/// The next element that is a stanza.
pub(crate) async fn stanza(client: &mut Client) -> Element {
    loop {
        let element = client.element().await;
        if element.ns() != ns::STREAM_MANAGEMENT {
            return element;
        }
    }
}
