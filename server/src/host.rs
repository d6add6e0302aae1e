//! One host type: its settings, hooks, IQ table and modules. A thousand domains of one type share one [`Host`].
use std::any::{Any, TypeId};
use std::sync::Arc;
use std::time::Duration;

use ahash::RandomState;
use hashbrown::HashMap;
use protocol::{BareJid, Element, StreamError};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::access::AccessRules;
use crate::auth::Auth;
use crate::auth::registration::Registration;
use crate::hooks::Hooks;
use crate::iq::IqTable;
use crate::outlet::{Order, SessionRef};
use crate::router::Router;
use crate::router::subdomains::Subdomain;

pub mod config;

/// What is the same for all domains of one type. Immutable after the start.
pub struct Host {
    /// Its name; for a static domain the domain itself.
    pub host_type: Box<str>,
    /// Its domains, prepared.
    pub domains: Vec<Box<str>>,
    /// Who reacts to what.
    pub hooks: Hooks,
    /// Who answers which request.
    pub iq: IqTable,
    /// Who may log in, and how.
    pub auth: Auth,
    /// Access lists and rules.
    pub access: AccessRules,
    /// Features announced after login.
    pub stream_features: Vec<Element>,
    /// Settings of stream management, if the module runs.
    pub stream_management: Option<StreamManagement>,
    /// Stanzas that may be held back for an inactive client (XEP-0352), if clients may say that they are.
    pub held_max: Option<usize>,
    /// How silent clients are asked for a sign of life, if sooner than by the node itself.
    pub pings: Option<Pings>,
    /// Who may make an account for themselves, if anybody may.
    pub registration: Option<Arc<Registration>>,
    /// How long a new session waits for its predecessor of the same name to end.
    pub replaced_wait_timeout: Duration,
    /// What modules own beside each of its domains.
    pub subdomains: Vec<Subdomain>,
    /// What its modules let others use.
    pub parts: Parts,
}

/// What modules let others use, by its type.
#[derive(Default)]
pub struct Parts(HashMap<TypeId, Arc<dyn Any + Send + Sync>, RandomState>);

impl Parts {
    /// Lets others use a thing.
    pub fn insert<T: Any + Send + Sync>(&mut self, thing: Arc<T>) {
        self.0.insert(TypeId::of::<T>(), thing);
    }

    /// The thing of that type, if a module provides one.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        let thing = self.0.get(&TypeId::of::<T>()).cloned()?;
        thing.downcast().ok()
    }
}

/// How long a session that is sent away may take to end: its client is perhaps gone, and its contacts are told.
const KICK_TIMEOUT: Duration = Duration::from_secs(5);

/// Ends a session and waits for that. `false` if it takes too long; it ends all the same.
pub async fn kick(session: &SessionRef, error: &StreamError, reason: &'static str) -> bool {
    let (sender, ended) = oneshot::channel();
    session.notify_end(sender);
    session.order(Order::Close(error.clone(), reason));
    // The sender is dropped when the session is gone.
    timeout(KICK_TIMEOUT, ended).await.is_ok()
}

/// Ends all sessions of an account, at the same time, and waits for that.
pub async fn kick_all(
    router: &Router,
    account: &BareJid,
    error: &StreamError,
    reason: &'static str,
) {
    let mut ends = Vec::new();
    for session in router.sessions.of_account(account.as_str()) {
        let (sender, ended) = oneshot::channel();
        session.notify_end(sender);
        session.order(Order::Close(error.clone(), reason));
        ends.push(ended);
    }
    let all = async {
        for ended in ends {
            let _ended = ended.await;
        }
    };
    let _in_time = timeout(KICK_TIMEOUT, all).await;
}

impl Host {
    /// What a module of it lets others use.
    pub fn part<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.parts.get()
    }
}

/// All hosts, by domain.
#[derive(Default)]
pub struct Hosts {
    by_domain: HashMap<Box<str>, Arc<Host>, RandomState>,
    by_subdomain: HashMap<Box<str>, Arc<Owned>, RandomState>,
}

/// A subdomain of one of our domains.
pub struct Owned {
    /// The host of the domain.
    pub host: Arc<Host>,
    /// The domain.
    pub domain: Box<str>,
    /// Whose it is.
    pub subdomain: Subdomain,
}

impl Hosts {
    /// The hosts of a node.
    pub fn new(hosts: Vec<Host>) -> Self {
        let mut all = Self::default();
        for host in hosts {
            let host = Arc::new(host);
            for domain in &host.domains {
                all.add(&host, domain);
            }
        }
        all
    }

    /// One more domain of a host, with what its modules own. Of two that want one name the first has it.
    fn add(&mut self, host: &Arc<Host>, domain: &str) {
        self.by_domain.insert(domain.into(), host.clone());
        for subdomain in &host.subdomains {
            let Some(name) = subdomain.of(domain) else {
                tracing::error!(module = subdomain.module(), "a subdomain has no name");
                continue;
            };
            self.by_subdomain.entry(name).or_insert_with(|| {
                Arc::new(Owned {
                    host: host.clone(),
                    domain: domain.into(),
                    subdomain: subdomain.clone(),
                })
            });
        }
    }

    /// The host of one of our domains, given in its prepared form.
    pub fn find(&self, domain: &str) -> Option<&Arc<Host>> {
        self.by_domain.get(domain)
    }

    /// The subdomain of that name, given in its prepared form. A domain of this name goes first.
    pub fn find_subdomain(&self, name: &str) -> Option<&Arc<Owned>> {
        self.by_subdomain.get(name)
    }

    /// Every domain, in order.
    pub fn domains(&self) -> Vec<String> {
        let mut domains: Vec<String> = self.by_domain.keys().map(ToString::to_string).collect();
        domains.sort_unstable();
        domains
    }

    /// Each host once.
    pub fn all(&self) -> Vec<Arc<Host>> {
        let mut all: Vec<Arc<Host>> = Vec::new();
        for host in self.by_domain.values() {
            if !all.iter().any(|other| Arc::ptr_eq(other, host)) {
                all.push(host.clone());
            }
        }
        all.sort_by(|a, b| a.host_type.cmp(&b.host_type));
        all
    }
}

/// How silent clients are asked for a sign of life (`[modules.mod_ping]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pings {
    /// Seconds of silence after which a client is asked.
    pub interval_secs: u32,
    /// Seconds it has to answer.
    pub answer_secs: u32,
    /// Whether the connection of who does not answer counts as lost then.
    pub is_lost: bool,
}

/// Settings of stream management for one host (`[modules.mod_stream_management]`).
#[derive(Clone, Copy, Debug)]
pub struct StreamManagement {
    /// Whether stanzas are kept until they are acknowledged. If not, a client counts as one without stream management
    /// for those who write to it, and no session can be resumed.
    pub buffer: bool,
    /// Stanzas that may be unacknowledged before the client is asked with urgency.
    pub buffer_max: usize,
    /// How many stanzas are sent between two of our requests.
    pub ack_freq: u32,
    /// Whether we ask for acknowledgements.
    pub ack: bool,
    /// How long a session waits for its client to come back.
    pub resume_timeout_secs: u32,
    /// How long a client that comes too late is told what had been handled; `None`: not at all.
    pub stale_h_secs: Option<u32>,
}
