//! Every metric that this binary exports.
//!
//! Handles of all label values are made once, so that counting is one atomic addition. Label values come from closed
//! sets: conditions, kinds, reasons, names of hooks, queries and modules; never an address or a domain.
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ahash::RandomState;
use daemon::checks::{self, Disk};
use hashbrown::HashMap;
use monitoring::Registry;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use protocol::{Kind, StreamCondition};

use crate::hooks::EVENT_NAMES;

type Labels = [(&'static str, &'static str); 1];
type PairLabels = [(&'static str, &'static str); 2];

/// A counter per kind of stanza.
#[derive(Clone, Debug)]
pub struct ByKind {
    /// Messages.
    pub message: Counter,
    presence: Counter,
    iq: Counter,
}

impl ByKind {
    fn register(registry: &mut Registry, name: &'static str, help: &'static str) -> Self {
        let family = Family::<Labels, Counter>::default();
        registry.register(name, help, &["kind"], family.clone());
        let of = |kind| family.get_or_create(&[("kind", kind)]).clone();
        Self {
            message: of("message"),
            presence: of("presence"),
            iq: of("iq"),
        }
    }

    /// The counter of one kind.
    pub fn of(&self, kind: Kind) -> &Counter {
        match kind {
            Kind::Message => &self.message,
            Kind::Presence => &self.presence,
            Kind::Iq => &self.iq,
        }
    }
}

/// Results of something that works or does not.
#[derive(Clone, Debug)]
pub struct ByResult {
    /// It worked.
    pub ok: Counter,
    /// It did not.
    pub failed: Counter,
    /// It took too long.
    pub timeout: Counter,
}

impl ByResult {
    fn register(registry: &mut Registry, name: &'static str, help: &'static str) -> Self {
        let family = Family::<Labels, Counter>::default();
        registry.register(name, help, &["result"], family.clone());
        let of = |result| family.get_or_create(&[("result", result)]).clone();
        Self {
            ok: of("ok"),
            failed: of("failed"),
            timeout: of("timeout"),
        }
    }
}

/// A counter per closed word.
#[derive(Clone, Debug)]
pub struct ByReason(Family<Labels, Counter>);

impl ByReason {
    fn register(registry: &mut Registry, name: &'static str, help: &'static str) -> Self {
        let family = Family::<Labels, Counter>::default();
        registry.register(name, help, &["reason"], family.clone());
        Self(family)
    }

    /// The counter of one reason.
    pub fn of(&self, reason: &'static str) -> Counter {
        self.0.get_or_create(&[("reason", reason)]).clone()
    }
}

/// What could not be read again on request.
#[derive(Clone, Debug)]
pub struct ReloadFailures {
    /// The configuration file.
    pub configuration: Counter,
    /// The certificates of a listener.
    pub certificates: Counter,
}

impl ReloadFailures {
    fn register(registry: &mut Registry) -> Self {
        let family = Family::<Labels, Counter>::default();
        registry.register(
            "xmpp_reload_failures_total",
            "Files that could not be read again on request; what was read before stays in use",
            &["what"],
            family.clone(),
        );
        let of = |what| family.get_or_create(&[("what", what)]).clone();
        Self {
            configuration: of("configuration"),
            certificates: of("certificates"),
        }
    }
}

/// Where something was rejected.
#[derive(Clone, Copy, Debug)]
pub enum Surface {
    /// A client's stream.
    Stream,
    /// An accept.
    Connection,
    /// An HTTP connection.
    Http,
    /// A component's stream or connection.
    Component,
}

impl Surface {
    fn name(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Connection => "connection",
            Self::Http => "http",
            Self::Component => "component",
        }
    }
}

/// Times of hooks, by event.
#[derive(Debug)]
pub struct HookMetrics {
    seconds: HashMap<&'static str, Histogram, RandomState>,
    failures: Family<PairLabels, Counter>,
}

impl HookMetrics {
    /// A chain with at least one handler took that long.
    pub fn observe(&self, event: &'static str, took: Duration) {
        if let Some(histogram) = self.seconds.get(event) {
            histogram.observe(took.as_secs_f64());
        }
    }

    /// A handler failed.
    pub fn failed(&self, event: &'static str, module: &'static str) {
        self.failures
            .get_or_create(&[("event", event), ("module", module)])
            .inc();
    }
}

/// Times of statements, by name.
#[derive(Debug)]
pub struct QueryMetrics {
    seconds: Family<Labels, Histogram>,
    failures: Family<Labels, Counter>,
    /// Names of all statements, for tests that count them.
    #[cfg(test)]
    pub(crate) seen: parking_lot::Mutex<Vec<&'static str>>,
}

impl QueryMetrics {
    /// A statement took that long.
    pub fn observe(&self, query: &'static str, took: Duration, ok: bool) {
        self.seconds
            .get_or_create(&[("query", query)])
            .observe(took.as_secs_f64());
        #[cfg(test)]
        self.seen.lock().push(query);
        if !ok {
            self.failures.get_or_create(&[("query", query)]).inc();
        }
    }
}

/// Counters of logins.
#[derive(Clone, Debug)]
pub struct LoginMetrics {
    /// Attempts to log in.
    pub attempts: ByResult,
    /// Passwords that were tried later, since others had failed for the account.
    pub guesses_delayed: Counter,
    /// Passwords that were not tried at all, since too many had failed for the account or from the address.
    pub guesses_refused: Counter,
    /// Logins refused since too many passwords waited to be hashed.
    pub hashes_refused: Counter,
    /// Accounts made by those who have them.
    pub registered: Counter,
    /// Requests for an account that were refused.
    pub registrations_refused: Counter,
}

/// Counters of unsettled stanzas and slow readers.
#[derive(Clone, Debug)]
pub struct LedgerMetrics {
    /// Sessions closed because their client did not read.
    pub slow_readers_closed: Counter,
    /// Sessions closed because their client did not acknowledge.
    pub outboxes_overrun: Counter,
    /// Stanzas committed because they had waited too long.
    pub in_flight_rows: Counter,
    /// In-flight rows of an earlier run that were routed at the start.
    pub in_flight_recovered: Counter,
    /// In-flight rows that stay for the next start, as their stanzas could neither be delivered nor stored.
    pub in_flight_left: Counter,
}

/// Counters of HTTP.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    /// Connections accepted.
    pub connections_accepted: Counter,
    /// Connections that are open and speak HTTP.
    pub connections: Gauge,
    /// Answers.
    pub responses: ByStatus,
}

/// Counters of WebSockets.
#[derive(Clone, Debug)]
pub struct WebSocketMetrics {
    /// Opened by clients.
    pub accepted: Counter,
    /// Open now.
    pub connections: Gauge,
}

/// Counters of BOSH.
#[derive(Clone, Debug)]
pub struct BoshMetrics {
    /// Sessions whose stream is open.
    pub sessions: Gauge,
    /// Requests by what became of them.
    pub requests: BoshRequests,
    /// Requests that ended a session or found none, by condition.
    pub refusals: ByCondition,
}

/// A counter per outcome of a request.
#[derive(Clone, Debug)]
pub struct BoshRequests {
    /// Answered.
    pub answered: Counter,
    /// Answered as before.
    pub repeated: Counter,
    /// The same request came once more before its answer.
    pub replaced: Counter,
    /// Answered with the end of the session.
    pub refused: Counter,
}

/// A counter per closed word of an error.
#[derive(Clone, Debug)]
pub struct ByCondition(Family<Labels, Counter>);

impl ByCondition {
    /// The counter of one condition.
    pub fn of(&self, condition: &'static str) -> Counter {
        self.0.get_or_create(&[("condition", condition)]).clone()
    }
}

/// A counter per class of status codes.
#[derive(Clone, Debug)]
pub struct ByStatus([Counter; 5]);

impl ByStatus {
    fn register(registry: &mut Registry, name: &'static str, help: &'static str) -> Self {
        let family = Family::<Labels, Counter>::default();
        registry.register(name, help, &["status"], family.clone());
        let of = |status| family.get_or_create(&[("status", status)]).clone();
        Self(["1xx", "2xx", "3xx", "4xx", "5xx"].map(of))
    }

    /// The counter of one status code.
    pub fn of(&self, status: u16) -> &Counter {
        let [
            informational,
            successful,
            redirection,
            client_error,
            server_error,
        ] = &self.0;
        match status {
            0..=199 => informational,
            200..=299 => successful,
            300..=399 => redirection,
            400..=499 => client_error,
            _ => server_error,
        }
    }
}

/// Counters of the modules.
#[derive(Clone, Debug)]
pub struct ModuleMetrics {
    /// Roster pushes sent.
    pub roster_pushes: Counter,
    /// Presence changes told to contacts and own resources.
    pub presence_broadcasts: Counter,
    /// Presence changes that were told later, or were overtaken by newer ones, since they came too fast.
    pub presence_held_back: Counter,
    /// Subscription requests refused since an account sent too many.
    pub subscriptions_refused: Counter,
    /// Messages committed to the offline store.
    pub offline_stored: Counter,
    /// Messages refused since the offline store of their receiver is full.
    pub offline_refused: Counter,
    /// Stored messages that their receiver has.
    pub offline_delivered: Counter,
}

/// Counters of external components.
#[derive(Clone, Debug)]
pub struct ComponentMetrics {
    /// Connections that are open.
    pub connections: Gauge,
    /// Proofs of the secret.
    pub handshakes: ByResult,
    /// Stanzas read from components.
    pub stanzas_received: ByKind,
    /// Stanzas handed to components.
    pub stanzas_delivered: ByKind,
}

/// All metrics of the node.
pub struct Metrics {
    /// Stanzas read from clients.
    pub stanzas_received: ByKind,
    /// Stanzas handed to sessions.
    pub stanzas_delivered: ByKind,
    /// Stanzas answered with an error.
    pub stanzas_bounced: Counter,
    /// Stanzas discarded knowingly.
    pub stanzas_dropped: Counter,
    /// Sessions that began.
    pub sessions_opened: Counter,
    /// Sessions that ended, by reason.
    pub sessions_closed: ByReason,
    /// Sessions that wait for their client.
    pub sessions_detached: Gauge,
    /// Sessions taken over by a new connection.
    pub resumptions: Counter,
    /// Connections accepted.
    pub connections_accepted: Counter,
    /// Connections that are open.
    pub connections: Gauge,
    /// WebSockets.
    pub websocket: WebSocketMetrics,
    /// Connections closed before their first byte was used, by why their PROXY header was refused.
    pub proxy_refused: ByReason,
    /// Logins.
    pub logins: LoginMetrics,
    /// TLS handshakes.
    pub tls_handshakes: ByResult,
    /// HTTP.
    pub http: HttpMetrics,
    /// External components.
    pub components: ComponentMetrics,
    /// BOSH.
    pub bosh: BoshMetrics,
    /// Unsettled stanzas and slow readers.
    pub ledger: LedgerMetrics,
    /// Modules.
    pub modules: ModuleMetrics,
    /// Hooks.
    pub hooks: Arc<HookMetrics>,
    /// Statements.
    pub queries: Arc<QueryMetrics>,
    /// Seconds until the first certificate expires; negative if it has.
    pub certificate_expiry: Gauge,
    /// Files that could not be read again.
    pub reload_failures: ReloadFailures,
    /// What the machine had too little of at start.
    pub start_warnings: Gauge,
    rejected: Family<PairLabels, Counter>,
}

fn counter(registry: &mut Registry, name: &'static str, help: &'static str) -> Counter {
    registry.register(name, help, &[], Counter::default())
}

fn gauge(registry: &mut Registry, name: &'static str, help: &'static str) -> Gauge {
    registry.register(name, help, &[], Gauge::default())
}

fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_01, 4.0, 9))
}

impl Metrics {
    /// Registers everything.
    pub fn register(registry: &mut Registry) -> Arc<Self> {
        Arc::new(Self {
            stanzas_received: ByKind::register(
                registry,
                "xmpp_c2s_stanzas_received_total",
                "Stanzas read from clients",
            ),
            stanzas_delivered: ByKind::register(
                registry,
                "xmpp_c2s_stanzas_delivered_total",
                "Stanzas handed to sessions",
            ),
            stanzas_bounced: counter(
                registry,
                "xmpp_router_stanzas_bounced_total",
                "Stanzas answered with an error",
            ),
            stanzas_dropped: counter(
                registry,
                "xmpp_router_stanzas_dropped_total",
                "Stanzas discarded as the RFC asks",
            ),
            sessions_opened: counter(
                registry,
                "xmpp_c2s_sessions_opened_total",
                "Sessions that began",
            ),
            sessions_closed: ByReason::register(
                registry,
                "xmpp_c2s_sessions_closed_total",
                "Sessions that ended, by reason",
            ),
            sessions_detached: gauge(
                registry,
                "xmpp_c2s_sessions_detached",
                "Sessions whose client is away and may resume",
            ),
            resumptions: counter(
                registry,
                "xmpp_c2s_resumptions_total",
                "Sessions taken over by a new connection of their client",
            ),
            connections_accepted: counter(
                registry,
                "xmpp_c2s_connections_accepted_total",
                "Connections accepted from clients",
            ),
            connections: gauge(
                registry,
                "xmpp_c2s_connections",
                "Open client connections, those over HTTP excepted",
            ),
            websocket: websocket(registry),
            proxy_refused: proxy_refused(registry),
            logins: logins(registry),
            tls_handshakes: tls_handshakes(registry),
            http: http(registry),
            components: components(registry),
            bosh: bosh(registry),
            ledger: ledger(registry),
            modules: modules(registry),
            hooks: hooks(registry),
            queries: queries(registry),
            certificate_expiry: certificate_expiry(registry),
            reload_failures: ReloadFailures::register(registry),
            start_warnings: start_warnings(registry),
            rejected: rejected(registry),
        })
    }

    /// Counts something that a client did wrong.
    pub fn reject(&self, surface: Surface, condition: StreamCondition) {
        self.rejected
            .get_or_create(&[("surface", surface.name()), ("reason", condition.name())])
            .inc();
    }
}

fn tls_handshakes(registry: &mut Registry) -> ByResult {
    ByResult::register(
        registry,
        "xmpp_tls_handshakes_total",
        "TLS handshakes of clients",
    )
}

fn certificate_expiry(registry: &mut Registry) -> Gauge {
    gauge(
        registry,
        "xmpp_tls_certificate_remaining_seconds",
        "Time until the first of our certificates expires; negative if it has",
    )
}

fn proxy_refused(registry: &mut Registry) -> ByReason {
    ByReason::register(
        registry,
        "xmpp_proxy_refused_total",
        "Connections closed for want of a PROXY header of a trusted network, by reason",
    )
}

fn start_warnings(registry: &mut Registry) -> Gauge {
    gauge(
        registry,
        "xmpp_start_warnings",
        "What the machine had too little of when the node started; the log has it in words",
    )
}

fn rejected(registry: &mut Registry) -> Family<PairLabels, Counter> {
    let family = Family::<PairLabels, Counter>::default();
    registry.register(
        "xmpp_rejected_total",
        "Streams and connections ended because of what the client did, by condition",
        &["surface", "reason"],
        family.clone(),
    );
    family
}

fn logins(registry: &mut Registry) -> LoginMetrics {
    LoginMetrics {
        attempts: ByResult::register(registry, "xmpp_auth_logins_total", "Attempts to log in"),
        guesses_delayed: counter(
            registry,
            "xmpp_auth_guesses_delayed_total",
            "Passwords that were tried later because others had failed for the account",
        ),
        guesses_refused: counter(
            registry,
            "xmpp_auth_guesses_refused_total",
            "Passwords not tried because too many had failed for the account or from the address",
        ),
        hashes_refused: counter(
            registry,
            "xmpp_auth_hashes_refused_total",
            "Logins refused because too many passwords waited to be hashed",
        ),
        registered: counter(
            registry,
            "xmpp_auth_registered_total",
            "Accounts that people made for themselves",
        ),
        registrations_refused: counter(
            registry,
            "xmpp_auth_registrations_refused_total",
            "Requests for an account that were refused",
        ),
    }
}

fn http(registry: &mut Registry) -> HttpMetrics {
    HttpMetrics {
        connections_accepted: counter(
            registry,
            "xmpp_http_connections_accepted_total",
            "HTTP connections accepted",
        ),
        connections: gauge(
            registry,
            "xmpp_http_connections",
            "Open HTTP connections, those that became WebSockets excepted",
        ),
        responses: ByStatus::register(
            registry,
            "xmpp_http_responses_total",
            "HTTP requests answered, by class of status",
        ),
    }
}

fn components(registry: &mut Registry) -> ComponentMetrics {
    ComponentMetrics {
        connections: gauge(
            registry,
            "xmpp_component_connections",
            "Open connections of components",
        ),
        handshakes: ByResult::register(
            registry,
            "xmpp_component_handshakes_total",
            "Components that had to prove that they know the secret",
        ),
        stanzas_received: ByKind::register(
            registry,
            "xmpp_component_stanzas_received_total",
            "Stanzas read from components",
        ),
        stanzas_delivered: ByKind::register(
            registry,
            "xmpp_component_stanzas_delivered_total",
            "Stanzas handed to components",
        ),
    }
}

fn websocket(registry: &mut Registry) -> WebSocketMetrics {
    WebSocketMetrics {
        accepted: counter(
            registry,
            "xmpp_websocket_connections_accepted_total",
            "WebSockets opened by clients",
        ),
        connections: gauge(
            registry,
            "xmpp_websocket_connections",
            "Open client connections over WebSocket",
        ),
    }
}

fn bosh(registry: &mut Registry) -> BoshMetrics {
    let requests = Family::<Labels, Counter>::default();
    registry.register(
        "xmpp_bosh_requests_total",
        "BOSH requests, by what became of them",
        &["outcome"],
        requests.clone(),
    );
    let of = |outcome| requests.get_or_create(&[("outcome", outcome)]).clone();
    let refusals = Family::<Labels, Counter>::default();
    registry.register(
        "xmpp_bosh_refusals_total",
        "BOSH requests that ended a session or found none, by condition",
        &["condition"],
        refusals.clone(),
    );
    BoshMetrics {
        sessions: gauge(
            registry,
            "xmpp_bosh_sessions",
            "BOSH sessions whose stream is open",
        ),
        requests: BoshRequests {
            answered: of("answered"),
            repeated: of("repeated"),
            replaced: of("replaced"),
            refused: of("refused"),
        },
        refusals: ByCondition(refusals),
    }
}

fn ledger(registry: &mut Registry) -> LedgerMetrics {
    LedgerMetrics {
        slow_readers_closed: counter(
            registry,
            "xmpp_c2s_slow_readers_closed_total",
            "Sessions closed because their client did not read",
        ),
        outboxes_overrun: counter(
            registry,
            "xmpp_c2s_outboxes_overrun_total",
            "Sessions closed because their client did not acknowledge",
        ),
        in_flight_rows: counter(
            registry,
            "xmpp_ledger_in_flight_rows_total",
            "Stanzas committed because their receiver was silent",
        ),
        in_flight_recovered: counter(
            registry,
            "xmpp_ledger_in_flight_recovered_total",
            "Stanzas of an earlier run that were routed at the start",
        ),
        in_flight_left: counter(
            registry,
            "xmpp_ledger_in_flight_left_total",
            "Acknowledged stanzas that could neither be delivered nor stored and stay for the next start",
        ),
    }
}

fn modules(registry: &mut Registry) -> ModuleMetrics {
    ModuleMetrics {
        roster_pushes: counter(
            registry,
            "xmpp_roster_pushes_total",
            "Roster pushes sent to clients",
        ),
        presence_broadcasts: counter(
            registry,
            "xmpp_presence_broadcasts_total",
            "Presence changes told to contacts and own resources",
        ),
        presence_held_back: counter(
            registry,
            "xmpp_presence_held_back_total",
            "Presence changes that came too fast and were told later or not at all",
        ),
        subscriptions_refused: counter(
            registry,
            "xmpp_presence_subscriptions_refused_total",
            "Subscription requests refused because an account sent too many",
        ),
        offline_stored: counter(
            registry,
            "xmpp_offline_stored_total",
            "Messages committed to the offline store",
        ),
        offline_refused: counter(
            registry,
            "xmpp_offline_refused_total",
            "Messages refused because the offline store of their receiver is full",
        ),
        offline_delivered: counter(
            registry,
            "xmpp_offline_delivered_total",
            "Stored messages that their receiver has taken",
        ),
    }
}

fn hooks(registry: &mut Registry) -> Arc<HookMetrics> {
    let family = Family::<Labels, Histogram>::new_with_constructor(seconds as fn() -> Histogram);
    registry.register(
        "xmpp_hook_seconds",
        "Time of a hook with all its handlers",
        &["event"],
        family.clone(),
    );
    let failures = Family::default();
    registry.register(
        "xmpp_hook_failures_total",
        "Handlers that failed",
        &["event", "module"],
        Family::<PairLabels, Counter>::clone(&failures),
    );
    let of = |name: &&'static str| (*name, family.get_or_create(&[("event", *name)]).clone());
    Arc::new(HookMetrics {
        seconds: EVENT_NAMES.iter().map(of).collect(),
        failures,
    })
}

fn queries(registry: &mut Registry) -> Arc<QueryMetrics> {
    let family = Family::<Labels, Histogram>::new_with_constructor(seconds as fn() -> Histogram);
    registry.register(
        "xmpp_storage_query_seconds",
        "Time of a statement, by its name",
        &["query"],
        family.clone(),
    );
    let failures = Family::default();
    registry.register(
        "xmpp_storage_query_failures_total",
        "Statements that failed",
        &["query"],
        Family::<Labels, Counter>::clone(&failures),
    );
    Arc::new(QueryMetrics {
        seconds: family,
        failures,
        #[cfg(test)]
        seen: parking_lot::Mutex::default(),
    })
}

/// Adds what the disk of the data directory has left. Without an answer of the file system it is not a number.
pub fn observe_disk(registry: &mut Registry, data_dir: &Path) {
    let observe = |read: fn(Disk) -> u64| {
        let path = data_dir.to_owned();
        // Nobody has so much that the last bits count.
        move || checks::disk(&path).map_or(f64::NAN, |disk| read(disk) as f64)
    };
    registry.observe(
        "xmpp_data_dir_free_bytes",
        "Space that is left for the data directory",
        observe(|disk| disk.free_bytes),
    );
    registry.observe(
        "xmpp_data_dir_free_inodes",
        "Files that can still be made on the disk of the data directory",
        observe(|disk| disk.free_inodes),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_space_is_exported() {
        let mut registry = Registry::new();
        let directory = tempfile::tempdir().unwrap();
        observe_disk(&mut registry, directory.path());
        let text = registry.to_text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("xmpp_data_dir_free_bytes "));
        let free: f64 = line.unwrap().parse().unwrap();
        assert!(free > 0.0, "{text}");
        drop(directory);
        let mut registry = Registry::new();
        observe_disk(&mut registry, Path::new("/dev/null/none"));
        assert!(
            registry.to_text().contains("xmpp_data_dir_free_bytes NaN"),
            "{}",
            registry.to_text()
        );
    }

    /// `docs/metrics.md` is written from what the node registers.
    #[test]
    fn generated_page_of_metrics_is_fresh() {
        let mut registry = Registry::new();
        monitoring::register_process(&mut registry, "");
        Metrics::register(&mut registry);
        registry.observe("xmpp_c2s_sessions", "Bound sessions of this node", || 0.0);
        observe_disk(&mut registry, Path::new("/"));
        let page = registry.to_markdown("meerkat");
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, &page).expect("the page can be written");
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == page,
            "docs/metrics.md is stale: run `cargo xtask gen`"
        );
    }
}
