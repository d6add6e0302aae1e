//! Builds every part, in order, and ties them together; shuts down in reverse. The only file that knows all parts.
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use daemon::{Shutdown, Tasks};
use monitoring::{Exporter, Readiness, Registry, State};
use protocol::{JidRef, Kind};
use tracing::{error, info, warn};
use transport::{ListenOptions, ServerTls};

use crate::access::AccessRules;
use crate::api::control;
use crate::auth::hashing::Hashing;
use crate::auth::{self, Auth};
use crate::bosh::{self, Bosh};
use crate::c2s::newcomers::Newcomers;
use crate::c2s::{Admission, HANDSHAKES_WAITING_MAX, ListenerSettings};
use crate::component::listener::ComponentSocket;
use crate::host::config::Acknowledge;
use crate::host::{Host, Hosts};
use crate::ledger::{Ledger, Origin};
use crate::listen::ClientListener;
use crate::listen::http::HttpPlan;
use crate::metrics::{Metrics, observe_disk};
use crate::modules::{self, Made, ModulesConfig, Start};
use crate::router::{self, Delivery, Router};
use crate::storage::accounts::AccountStore;
use crate::storage::in_flight::InFlightStore;
use crate::storage::secrets::SecretStore;
use crate::storage::{self, Db, Observer, Place};
use crate::turns::Turns;

mod commands;
pub mod components;
pub mod data_dir;
pub mod drain;
mod graphql;
mod http;
pub mod idle;
pub mod plan;

use components::ComponentPlan;

/// What a node is made of: the checked configuration, without its words.
pub struct NodePlan {
    /// Where the database is, and how it is used.
    pub storage: storage::Options,
    /// Where sockets and made certificates lie.
    pub data_dir: PathBuf,
    /// Client listeners.
    pub listeners: Vec<ListenerPlan>,
    /// HTTP listeners.
    pub http: Vec<HttpPlan>,
    /// Listeners for components.
    pub components: Vec<ComponentPlan>,
    /// For those of them that serve BOSH.
    pub bosh: bosh::Settings,
    /// Host types.
    pub hosts: Vec<HostPlan>,
    /// `general.default_server_domain`.
    pub default_domain: Box<str>,
    /// `general.language`.
    pub language: Box<str>,
    /// `general.acknowledge`.
    pub acknowledge: Acknowledge,
    /// `general.hide_service_name`.
    pub hide_service_name: bool,
    /// `general.registration_timeout`; `None` is no limit.
    pub registration_pause: Option<Duration>,
    /// How a stop goes.
    pub drain: drain::Settings,
    /// The level of the process's log, for commands.
    pub logs: Option<daemon::logs::LevelControl>,
    /// Services that run.
    pub services: Vec<String>,
}

/// One client listener.
pub struct ListenerPlan {
    /// Where.
    pub address: SocketAddr,
    /// How.
    pub options: ListenOptions,
    /// For its connections.
    pub settings: ListenerSettings,
}

/// One host type.
pub struct HostPlan {
    /// Its name.
    pub host_type: Box<str>,
    /// Its domains.
    pub domains: Vec<Box<str>>,
    /// Who may log in, and how.
    pub auth: auth::Settings,
    /// Modules, resolved.
    pub modules: ModulesConfig,
    /// Access lists and rules.
    pub access: AccessRules,
    /// See [`Host::replaced_wait_timeout`].
    pub replaced_wait_timeout: Duration,
}

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database cannot be opened, or its schema is not ours.
    #[error("the database {place} cannot be opened")]
    Database {
        /// Which.
        place: Place,
        /// Why.
        #[source]
        error: storage::Error,
    },
    /// It was to end before it had begun.
    #[error("stopped while the database was waited for")]
    Stopped,
    /// The database does not do what the start needs of it.
    #[error("the database could not be used")]
    Storage(#[from] storage::Error),
    /// A listener.
    #[error("cannot listen on {address} for {what}: {error}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// For what.
        what: &'static str,
        /// Why.
        error: std::io::Error,
    },
    /// A module.
    #[error(transparent)]
    Module(#[from] modules::StartError),
    /// The data directory.
    #[error(transparent)]
    DataDir(#[from] data_dir::LockError),
    /// The socket of `meerkatctl`.
    #[error("the control socket {path} could not be made: {error}")]
    Control {
        /// Where.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

/// A running node.
pub struct Node {
    /// Addresses of its client listeners, in the order of the plan.
    pub clients: Vec<SocketAddr>,
    /// Addresses of its HTTP listeners, in the order of the plan, and what they serve.
    pub http: Vec<http::Served>,
    /// Addresses of its listeners for components, in the order of the plan.
    pub components: Vec<SocketAddr>,
    /// The router, for in-process tests and the control socket.
    pub router: Arc<Router>,
    tls: Vec<ServerTls>,
    db: Db,
    readiness: Readiness,
    shutdown: Shutdown,
    /// Ends when the drain does: what has to run until then.
    late: Shutdown,
    drain: drain::Settings,
    /// Given back when everything has ended.
    _lock: data_dir::Lock,
}

impl Node {
    /// Starts everything; clients are accepted when it returns.
    pub async fn start(plan: NodePlan, shutdown: Shutdown) -> Result<Self, StartError> {
        let mut registry = Registry::new();
        monitoring::register_process(&mut registry, env!("CARGO_PKG_VERSION"));
        let metrics = Metrics::register(&mut registry);
        observe_disk(&mut registry, &plan.data_dir);
        let readiness = Readiness::starting();
        let tasks = shutdown.tasks().clone();
        let late = Shutdown::new();

        let facts = commands::Facts::of(&plan);
        let lock = data_dir::lock(&plan.data_dir)?;
        let mut options = plan.storage;
        options.observer = Arc::new(QueryObserver(metrics.clone()));
        let db = Box::pin(open_database(options, &shutdown)).await?;

        let ledger = Ledger::new(metrics.ledger.clone());
        let settings = router::Settings {
            default_domain: plan.default_domain,
            language: plan.language,
            acknowledge: plan.acknowledge,
            hide_service_name: plan.hide_service_name,
            registration_pause: plan.registration_pause,
        };
        let router = Router::new(ledger.clone(), metrics.clone(), settings);
        router.set_tasks(tasks.clone());
        observe_sessions(&mut registry, &router);
        // It grows with each module.
        let hosts = Box::pin(start_hosts(plan.hosts, &router, &db, &tasks)).await?;
        router.set_hosts(Hosts::new(hosts));

        // Bind first …
        let admission = Arc::new(admission(&plan.listeners, &plan.http));
        let listeners = bind_clients(plan.listeners, &admission)?;
        let ports = http::bind(plan.http)?;
        let components = components::bind(plan.components, &admission)?;
        let clients = addresses(&listeners);
        let tls = certificates(&listeners, &ports, &components);
        let control = bind_control(&plan.data_dir)?;
        let in_flight = InFlightStore::new(db.clone());
        recover(&router, &in_flight).await?;
        let engine = facts.engine(&router, &in_flight, &shutdown, &late);
        // … then run what a failed start must not leave behind …
        let ledger = ledger.run(in_flight, late.clone());
        late.tasks().spawn("ledger", ledger);
        late.tasks()
            .spawn("idle", until(late.clone(), idle::run(router.clone())));
        control.serve(&engine, &late);
        let parts = http::Parts {
            exporter: Arc::new(Exporter::new(registry, readiness.clone())),
            router: &router,
            engine: &engine,
            admission: &admission,
            tasks: &tasks,
            bosh: &Bosh::new(plan.bosh, router.clone(), admission.clone()),
        };
        let http = http::serve(ports, &parts, &late);
        // … serve last.
        serve_clients(listeners, &router, &tasks, &shutdown);
        let components = components::serve(components, &router, &tasks, &shutdown);
        readiness.set(State::Ready);
        let node = Self {
            clients,
            http,
            components,
            router,
            tls,
            db,
            readiness,
            shutdown,
            late,
            drain: plan.drain,
            _lock: lock,
        };
        node.certificates().note_expiry();
        Ok(node)
    }

    /// The certificates in use, to be read again on request.
    pub fn certificates(&self) -> Certificates {
        Certificates {
            tls: self.tls.clone(),
            metrics: self.router.metrics.clone(),
        }
    }

    /// Serves until the shutdown begins, then drains and stops everything in reverse.
    pub async fn run(self) {
        self.shutdown.cancelled().await;
        daemon::notify::notify_stopping();
        daemon::notify::extend_timeouts(tokio::time::sleep(self.drain.grace + LATE_GRACE));
        self.readiness.set(State::Draining);
        let deadline = tokio::time::Instant::now() + self.drain.grace;
        drain::sessions(&self.router, &self.drain, &self.shutdown, deadline).await;
        let latest = deadline - self.drain.closing() / 2;
        components::drain(&self.router, &self.shutdown, latest).await;
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
        let drained = self.shutdown.drain(left).await;
        if drained.cut > 0 {
            warn!(cut = drained.cut, names = ?drained.names, "tasks were cut at the deadline");
        }
        self.late.begin();
        self.late.drain(LATE_GRACE).await;
        // Hosts, modules and the router point at each other.
        self.router.set_hosts(Hosts::default());
        self.db.close().await;
    }
}

/// The certificates of all listeners.
#[derive(Clone)]
pub struct Certificates {
    tls: Vec<ServerTls>,
    metrics: Arc<Metrics>,
}

impl Certificates {
    /// Reads the files again; a bad file leaves the old ones in use. Open connections keep theirs.
    pub fn reload(&self) {
        for tls in &self.tls {
            match tls.reload() {
                Ok(reloaded) => info!(?reloaded, "certificates read again"),
                Err(error) => {
                    self.metrics.reload_failures.certificates.inc();
                    error!(%error, "certificates stay as they were");
                }
            }
        }
        self.note_expiry();
    }

    fn note_expiry(&self) {
        let all = self.tls.iter();
        if let Some(first) = all.map(ServerTls::earliest_expiry).min() {
            let left = first
                .duration_since(std::time::SystemTime::now())
                .map_or_else(|late| -whole_secs(late.duration()), whole_secs);
            self.metrics.certificate_expiry.set(left);
        }
    }
}

/// What runs until the drain is over has this long to end.
const LATE_GRACE: Duration = Duration::from_secs(5);

fn whole_secs(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

fn bind_control(data_dir: &Path) -> Result<control::ControlSocket, StartError> {
    let bound = control::bind(data_dir);
    bound.map_err(|(path, error)| StartError::Control { path, error })
}

async fn until(end: Shutdown, work: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = end.cancelled() => {}
        () = work => {}
    }
}

fn observe_sessions(registry: &mut Registry, router: &Arc<Router>) {
    let counted = Arc::downgrade(router);
    registry.observe(
        "xmpp_c2s_sessions",
        "Bound sessions of this node",
        move || {
            counted.upgrade().map_or(0.0, |router| {
                f64::from(u32::try_from(router.sessions.count()).unwrap_or(u32::MAX))
            })
        },
    );
}

async fn start_hosts(
    plans: Vec<HostPlan>,
    router: &Arc<Router>,
    db: &Db,
    tasks: &Tasks,
) -> Result<Vec<Host>, StartError> {
    let secret: Arc<[u8]> = SecretStore::new(db.clone())
        .load("scram_invented_salt")
        .await?
        .into();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let hashing = Arc::new(Hashing::new(cores));
    let mut hosts = Vec::with_capacity(plans.len());
    for plan in plans {
        let accounts = AccountStore::new(db.clone());
        let auth = Auth::new(plan.auth, accounts, secret.clone(), hashing.clone());
        let mut made = Made::new(router.metrics.hooks.clone());
        let start = Start::new(
            &plan.host_type,
            &plan.domains,
            router,
            db,
            tasks,
            &auth,
            &plan.access,
            &mut made,
        );
        modules::start_all(&plan.modules, start).await?;
        for (event, order) in made.hooks.all_orders() {
            tracing::debug!(host_type = %plan.host_type, event, ?order, "hook order");
        }
        hosts.push(Host {
            host_type: plan.host_type,
            domains: plan.domains,
            hooks: made.hooks,
            iq: made.iq,
            auth,
            access: plan.access,
            stream_features: made.stream_features,
            stream_management: made.stream_management,
            held_max: made.held_max,
            registration: made.registration,
            pings: made.pings,
            replaced_wait_timeout: plan.replaced_wait_timeout,
            subdomains: made.subdomains,
            parts: made.parts,
        });
    }
    Ok(hosts)
}

fn bind_clients(
    plans: Vec<ListenerPlan>,
    admission: &Arc<Admission>,
) -> Result<Vec<ClientListener>, StartError> {
    let bind = |plan: ListenerPlan| {
        let address = plan.address;
        let socket =
            transport::bind(address, &plan.options).map_err(|error| StartError::Listen {
                address,
                what: "clients",
                error,
            })?;
        Ok(ClientListener {
            socket,
            settings: Arc::new(plan.settings),
            admission: admission.clone(),
        })
    };
    plans.into_iter().map(bind).collect()
}

/// A tenth of the connections that there may be need not have logged in yet.
fn admission(clients: &[ListenerPlan], http: &[HttpPlan]) -> Admission {
    let of_clients = clients.iter().map(|plan| plan.settings.connections_max);
    let of_http = http.iter().map(|plan| plan.connections_max);
    let connections_max = of_clients.chain(of_http).fold(0, usize::saturating_add);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Admission {
        newcomers: Newcomers::new((connections_max / 10).max(NEWCOMERS_MIN)),
        handshakes: Turns::new(cores, HANDSHAKES_WAITING_MAX),
    }
}

/// So many connections may wait for their login at least, however few there may be.
const NEWCOMERS_MIN: usize = 100;

/// Accepts clients until the shutdown begins.
fn serve_clients(
    listeners: Vec<ClientListener>,
    router: &Arc<Router>,
    tasks: &Tasks,
    shutdown: &Shutdown,
) {
    for listener in listeners {
        let serve = listener.serve(router.clone(), tasks.clone(), shutdown.clone());
        tasks.spawn("listener", serve);
    }
}

/// Where they listen.
fn addresses(listeners: &[ClientListener]) -> Vec<SocketAddr> {
    let addresses = listeners.iter().map(ClientListener::address);
    addresses.filter_map(Result::ok).collect()
}

fn certificates(
    clients: &[ClientListener],
    http: &[http::Bound],
    components: &[ComponentSocket],
) -> Vec<ServerTls> {
    let of_clients = clients.iter().filter_map(|l| l.settings.tls.clone());
    of_clients
        .chain(http.iter().filter_map(http::Bound::tls))
        .chain(components::tls(components))
        .collect()
}

/// Opens the database and brings its schema up to date. One that is not there yet is waited for, unless the node is to
/// stop.
async fn open_database(options: storage::Options, shutdown: &Shutdown) -> Result<Db, StartError> {
    let place = options.place.clone();
    let opening = async {
        let db = Box::pin(Db::open(options)).await?;
        Box::pin(db.migrate()).await?;
        Ok(db)
    };
    let opened = shutdown.token().run_until_cancelled(opening).await;
    opened
        .ok_or(StartError::Stopped)?
        .map_err(|error| StartError::Database { place, error })
}

/// Stanzas that were acknowledged by an earlier run and not delivered before it ended: nobody is connected yet, so
/// messages go to the offline store. A row is deleted after its stanza is settled, and stays if that fails: it hinders
/// none behind it, and the next start tries again.
async fn recover(router: &Arc<Router>, store: &InFlightStore) -> Result<(), StartError> {
    let (mut after, mut found, mut routed) = (i64::MIN, 0, 0);
    loop {
        let rows = store.list(after, RECOVER_BATCH).await?;
        let Some(last) = rows.last() else { break };
        after = last.id;
        found += rows.len();
        for row in rows {
            let token = Some(router.ledger.token_of_row(row.id, Origin::EarlierRun));
            let Some(stanza) = row.to_stanza() else {
                warn!("an in-flight row holds no stanza");
                router.ledger.settle_all(&mut token.into_iter().collect());
                continue;
            };
            let stanza = match (stanza.kind(), stanza.to().map(JidRef::to_bare)) {
                // The session that it was for is gone, whatever its name was.
                (Kind::Message, Some(to)) => stanza.with_to(to.as_ref()),
                _ => stanza,
            };
            router.route(Delivery { stanza, token }).await;
            router.metrics.ledger.in_flight_recovered.inc();
        }
        let done = router.ledger.take_done_rows();
        routed += done.len();
        store.delete(&done).await?;
    }
    if found > 0 {
        info!(stanzas = routed, "stanzas of an earlier run were routed");
    }
    if routed < found {
        let left = found - routed;
        error!(left, "stanzas in flight stay for the next start");
    }
    Ok(())
}

/// In-flight rows that are read at a time after a crash.
const RECOVER_BATCH: u32 = 500;

/// Tells the metrics of each statement.
struct QueryObserver(Arc<Metrics>);

impl Observer for QueryObserver {
    fn query(&self, name: &'static str, elapsed: Duration, succeeded: bool) {
        self.0.queries.observe(name, elapsed, succeeded);
    }

    fn batch(&self, _jobs: usize, elapsed: Duration, succeeded: bool) {
        self.0.queries.observe("commit", elapsed, succeeded);
    }
}

#[cfg(test)]
mod tests;
