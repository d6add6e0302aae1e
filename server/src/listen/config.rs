//! `[[listen.c2s]]` and `[[listen.http]]`: where the node listens, and what it lets in.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use daemon::config::{Bytes, Check, Checks, Millis, OrInfinity};
use daemon::{Secret, SecretError};
use protocol::jid::prepare_domain;
use protocol::proxy::Network;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use transport::{CertificatePaths, CertificateReview, ProxyProtocol};

use crate::auth::config::Method;
use crate::component::config::ComponentListener;

/// Where the node listens.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Listen {
    /// A port for clients (RFC 6120).
    pub c2s: Vec<C2sListener>,
    /// A port for HTTP.
    pub http: Vec<HttpListener>,
    /// A port for external components (XEP-0114).
    pub component: Vec<ComponentListener>,
}

/// A port for clients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct C2sListener {
    /// The TCP port; 0 lets the system choose.
    pub port: u16,
    /// The address to listen on; by default all of them, of the family that `ip_version` names.
    #[serde(default)]
    pub ip_address: Option<IpAddr>,
    /// The address family, 4 or 6; by default that of `ip_address`, else 4.
    #[serde(default)]
    #[schemars(range(min = 4, max = 6))]
    pub ip_version: Option<u8>,
    /// The transport.
    #[serde(default)]
    pub proto: Proto,
    /// How many connections may wait to be accepted; the kernel cuts it to `net.core.somaxconn`.
    #[serde(default = "C2sListener::default_backlog")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub backlog: u32,
    /// How many connections this port has at the same time; further ones are closed at once. A number of your own is
    /// held against the limits of the machine at start.
    #[serde(default = "C2sListener::default_max_connections")]
    pub max_connections: OrInfinity<u64>,
    /// The greatest stanza that a client may send. A greater one is answered with `not-allowed`; one of more than twice
    /// that size ends the stream with `policy-violation`.
    #[serde(default = "C2sListener::default_max_stanza_size")]
    #[schemars(range(min = 10_000, max = 262_144))]
    pub max_stanza_size: Bytes,
    /// Accepted and not used: one task accepts.
    #[serde(default = "default_num_acceptors")]
    #[schemars(range(min = 1, max = 100_000))]
    pub num_acceptors: u32,
    /// How long a client may stay in one state before it has a session; `"infinity"` is a minute.
    #[serde(default = "C2sListener::default_state_timeout")]
    pub state_timeout: OrInfinity<Millis>,
    /// The shaper that slows clients down, by its name in `[shaper]`, or `none`.
    #[serde(default = "C2sListener::default_shaper")]
    pub shaper: String,
    /// The access rule that says who may have a session.
    #[serde(default = "C2sListener::default_access")]
    pub access: String,
    /// The authentication methods that may be used on this port; by default all of the host type.
    #[serde(default)]
    pub allowed_auth_methods: Option<Vec<Method>>,
    /// Offers the session request of RFC 3921 that old clients insist on.
    #[serde(default = "default_true")]
    pub backwards_compatible_session: bool,
    /// Each connection begins with a header that tells the client's address (the PROXY protocol, version 1 or 2), as
    /// a balancer sends it. A connection without one is closed.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// The networks that may send such a header, as in `["10.0.0.0/8"]`; connections from elsewhere are closed. By
    /// default this machine alone. Ours.
    #[serde(default)]
    pub proxy_protocol_networks: Option<Vec<String>>,
    /// A balancer in front ends TLS, so that what comes here without it counts as encrypted. Channel binding is not
    /// offered then. Ours.
    #[serde(default)]
    pub tls_at_balancer: bool,
    /// Lets several sockets listen on the same port (`SO_REUSEPORT`).
    #[serde(default)]
    pub reuse_port: bool,
    /// Accepted and not used: an idle session holds no buffer anyway.
    #[serde(default = "default_hibernate_after")]
    pub hibernate_after: OrInfinity<Millis>,
    /// Encryption; absent means none.
    #[serde(default)]
    pub tls: Option<C2sTls>,
}

/// A transport below XMPP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    /// TCP.
    #[default]
    Tcp,
}

/// Encryption of a port for clients.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct C2sTls {
    /// When encryption begins.
    pub mode: TlsMode,
    /// The certificate chain, PEM, the server's own certificate first. Without it the node makes a
    /// self-signed certificate for its domains and keeps it in `data_dir`.
    pub certfile: Option<PathBuf>,
    /// The private key of `certfile`, PEM, without a passphrase.
    pub keyfile: Option<PathBuf>,
    /// The versions of TLS to speak.
    pub versions: Vec<TlsVersion>,
    /// Which certificates of clients are good. Clients are asked for one where the method `pki` of `[auth]` may be used
    /// on this port, and never have to have one.
    pub verify_mode: VerifyMode,
    /// The authorities that vouch for clients, PEM.
    pub cacertfile: Option<PathBuf>,
    /// Whether a bad certificate ends the connection. If not, the client can log in by other means.
    pub disconnect_on_failure: bool,
    /// Lists of revoked certificates, PEM. With any, there has to be one of each authority, and none may be out of
    /// date. They are read again on SIGHUP.
    pub crl_files: Vec<PathBuf>,
    /// Certificates of single domains, chosen by the name that the client asks for (SNI). Ours.
    pub certificates: Vec<DomainCertificate>,
}

/// The certificate of one domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DomainCertificate {
    /// The domain; `*.example.org` stands for all with one label more than `example.org`.
    pub domain: String,
    /// The certificate chain, PEM.
    pub certfile: PathBuf,
    /// The private key, PEM.
    pub keyfile: PathBuf,
}

/// When encryption begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TlsMode {
    /// With the connection (XEP-0368).
    Tls,
    /// When the client asks for it.
    #[default]
    Starttls,
    /// When the client asks for it, which it must do before anything else.
    StarttlsRequired,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2 (RFC 5246).
    #[serde(rename = "tlsv1.2")]
    Tls12,
    /// TLS 1.3 (RFC 8446).
    #[serde(rename = "tlsv1.3")]
    Tls13,
}

/// Which certificates of a peer are good.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum VerifyMode {
    /// Those that an authority vouches for.
    #[default]
    Peer,
    /// Self-signed ones too.
    SelfsignedPeer,
    /// None is asked for.
    None,
}

impl Default for C2sTls {
    fn default() -> Self {
        Self {
            mode: TlsMode::Starttls,
            certfile: None,
            keyfile: None,
            versions: vec![TlsVersion::Tls12, TlsVersion::Tls13],
            verify_mode: VerifyMode::Peer,
            cacertfile: None,
            disconnect_on_failure: true,
            crl_files: Vec::new(),
            certificates: Vec::new(),
        }
    }
}

/// A port for HTTP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HttpListener {
    /// The TCP port; 0 lets the system choose.
    pub port: u16,
    /// The address to listen on; by default all of them, of the family that `ip_version` names.
    #[serde(default)]
    pub ip_address: Option<IpAddr>,
    /// The address family, 4 or 6; by default that of `ip_address`, else 4.
    #[serde(default)]
    #[schemars(range(min = 4, max = 6))]
    pub ip_version: Option<u8>,
    /// The transport.
    #[serde(default)]
    pub proto: Proto,
    /// Accepted and not used: an idle connection holds no buffer anyway.
    #[serde(default = "default_hibernate_after")]
    pub hibernate_after: OrInfinity<Millis>,
    /// What is below HTTP.
    #[serde(default)]
    pub transport: HttpTransport,
    /// Each connection begins with a header that tells the client's address (the PROXY protocol, version 1 or 2), as
    /// a balancer sends it. A connection without one is closed. Ours.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// The networks that may send such a header, as in `["10.0.0.0/8"]`; connections from elsewhere are closed. By
    /// default this machine alone. Ours.
    #[serde(default)]
    pub proxy_protocol_networks: Option<Vec<String>>,
    /// A balancer in front ends TLS, so that what comes here without it counts as encrypted. Ours.
    #[serde(default)]
    pub tls_at_balancer: bool,
    /// Encryption from the first byte (HTTPS); absent means none.
    #[serde(default)]
    pub tls: Option<HttpTls>,
    /// What is served, by handler.
    #[serde(default)]
    pub handlers: HttpHandlers,
}

/// What is below HTTP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpTransport {
    /// Accepted and not used: one task accepts.
    #[schemars(range(min = 1, max = 100_000))]
    pub num_acceptors: u32,
    /// How many connections this port has at the same time, WebSocket sessions included; further ones are closed at
    /// once.
    pub max_connections: OrInfinity<u64>,
}

/// Encryption of a port for HTTP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpTls {
    /// The certificate chain, PEM, the server's own certificate first. Without it the node makes a
    /// self-signed certificate for its domains and keeps it in `data_dir`.
    pub certfile: Option<PathBuf>,
    /// The private key of `certfile`, PEM, without a passphrase.
    pub keyfile: Option<PathBuf>,
    /// The versions of TLS to speak.
    pub versions: Vec<TlsVersion>,
    /// Accepted: the node asks clients for no certificate, so none is checked, whatever stands here.
    pub verify_mode: VerifyMode,
    /// Certificates of single domains, chosen by the name that the client asks for (SNI). Ours.
    pub certificates: Vec<DomainCertificate>,
}

impl Default for HttpTls {
    fn default() -> Self {
        Self {
            certfile: None,
            keyfile: None,
            versions: vec![TlsVersion::Tls12, TlsVersion::Tls13],
            verify_mode: VerifyMode::Peer,
            certificates: Vec::new(),
        }
    }
}

/// The files of a listener's TLS, and what it speaks.
#[derive(Debug, Clone, Copy)]
pub struct TlsFiles<'a> {
    /// The certificate chain of everybody.
    pub certfile: Option<&'a Path>,
    /// Its key.
    pub keyfile: Option<&'a Path>,
    /// The versions of TLS to speak.
    pub versions: &'a [TlsVersion],
    /// Certificates of single domains.
    pub certificates: &'a [DomainCertificate],
}

impl C2sTls {
    /// What it has in common with other listeners.
    pub fn files(&self) -> TlsFiles<'_> {
        TlsFiles {
            certfile: self.certfile.as_deref(),
            keyfile: self.keyfile.as_deref(),
            versions: &self.versions,
            certificates: &self.certificates,
        }
    }
}

impl HttpTls {
    /// What it has in common with other listeners.
    pub fn files(&self) -> TlsFiles<'_> {
        TlsFiles {
            certfile: self.certfile.as_deref(),
            keyfile: self.keyfile.as_deref(),
            versions: &self.versions,
            certificates: &self.certificates,
        }
    }
}

impl Default for HttpTransport {
    fn default() -> Self {
        Self {
            num_acceptors: default_num_acceptors(),
            max_connections: OrInfinity::Value(1024),
        }
    }
}

/// What an HTTP port serves.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpHandlers {
    /// BOSH (XEP-0124), for clients in browsers and behind proxies. `[services.service_bosh]` has its options.
    pub mongoose_bosh_handler: Vec<BoshHandler>,
    /// Clients over WebSocket (RFC 7395). A port that has them tells of them at `/.well-known/host-meta` and
    /// `/.well-known/host-meta.json` (XEP-0156).
    pub mongoose_websocket_handler: Vec<WebSocketHandler>,
    /// Metrics for Prometheus; for every host beside them `/healthz` and `/readyz`.
    pub mongoose_prometheus_handler: Vec<PrometheusHandler>,
    /// The admin API: MongooseIM's GraphQL schema.
    pub mongoose_graphql_handler: Vec<GraphqlHandler>,
}

/// Where the admin API is, and who may use it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GraphqlHandler {
    /// The host that is asked for; `_` is any.
    pub host: String,
    /// The path.
    #[serde(default = "GraphqlHandler::default_path")]
    pub path: String,
    /// Which schema.
    pub schema_endpoint: SchemaEndpoint,
    /// Whom an administrator says to be (HTTP Basic). Without `username` and `password` everybody who reaches the port
    /// is an administrator, so it has to listen on loopback.
    #[serde(default)]
    pub username: Option<String>,
    /// The password that goes with `username`.
    #[serde(default)]
    pub password: Option<Secret>,
    /// A file with the password, and nothing else. Ours.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// The categories of commands that may be used here; by default all.
    #[serde(default)]
    pub allowed_categories: Option<Vec<Category>>,
}

/// A schema of GraphQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SchemaEndpoint {
    /// For administrators of the node.
    Admin,
}

/// A category of the admin schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[expect(missing_docs, reason = "the schema says it")]
pub enum Category {
    #[serde(rename = "checkAuth")]
    CheckAuth,
    #[serde(rename = "account")]
    Account,
    #[serde(rename = "last")]
    Last,
    #[serde(rename = "session")]
    Session,
    #[serde(rename = "stanza")]
    Stanza,
    #[serde(rename = "roster")]
    Roster,
    #[serde(rename = "private")]
    Private,
    #[serde(rename = "vcard")]
    Vcard,
    #[serde(rename = "stat")]
    Stat,
    #[serde(rename = "server")]
    Server,
    #[serde(rename = "offline")]
    Offline,
}

impl Category {
    /// Its name in the schema.
    pub fn name(self) -> &'static str {
        match self {
            Self::CheckAuth => "checkAuth",
            Self::Account => "account",
            Self::Last => "last",
            Self::Session => "session",
            Self::Stanza => "stanza",
            Self::Roster => "roster",
            Self::Private => "private",
            Self::Vcard => "vcard",
            Self::Stat => "stat",
            Self::Server => "server",
            Self::Offline => "offline",
        }
    }
}

impl GraphqlHandler {
    /// Where it is.
    pub fn place(&self) -> Place<'_> {
        Place::new(&self.host, &self.path)
    }

    /// MongooseIM's.
    fn default_path() -> String {
        "/api/graphql".into()
    }

    /// Name and password; `None` if none are asked for.
    ///
    /// # Errors
    /// The file of the password cannot be used.
    pub fn credentials(&self) -> Result<Option<(String, Secret)>, SecretError> {
        let password = Secret::resolve(self.password.as_ref(), self.password_file.as_deref())?;
        Ok(self.username.clone().zip(password))
    }
}

/// The password of MongooseIM's template, which everybody knows.
const PASSWORD_OF_TEMPLATE: &str = "secret";

impl Check for GraphqlHandler {
    fn check(&self, checks: &mut Checks<'_>) {
        self.place().check(checks);
        let has_password = self.password.is_some() || self.password_file.is_some();
        match &self.username {
            Some(_) if !has_password && checks.is_sound("password") => {
                let message = "`username` without `password`";
                checks.finding("username", message, "add `password`, or `password_file`");
            }
            None if has_password && checks.is_sound("username") => {
                checks.finding("password", "`password` without `username`", "");
            }
            Some(username) if username.is_empty() || username.contains(':') => {
                let message = "a name is not empty and has no colon";
                checks.finding("username", message, "");
            }
            _ => {}
        }
        if let (Some(_), Some(path)) = (&self.password, &self.password_file) {
            let message = format!(
                "the password is given twice: here and in {}",
                path.display()
            );
            checks.finding("password", message, "");
        }
        if let Some(path) = &self.password_file {
            checks.file("password_file", path);
        }
        match self.password.as_ref().map(Secret::reveal) {
            Some("") => checks.finding("password", "the password is empty", ""),
            Some(PASSWORD_OF_TEMPLATE) => {
                let message = "the password is the one of MongooseIM's template";
                checks.warning("password", message, "everybody knows it: take another");
            }
            _ => {}
        }
        let Some(categories) = &self.allowed_categories else {
            return;
        };
        if categories.is_empty() {
            let message = "no category is left";
            checks.finding(
                "allowed_categories",
                message,
                "take the line out for all of them",
            );
        }
        for (index, category) in categories.iter().enumerate() {
            if categories[..index].contains(category) {
                let path = format!("allowed_categories[{index}]");
                checks.finding(&path, "this category stands twice", "");
            }
        }
    }
}

/// Clients over WebSocket.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WebSocketHandler {
    /// The host that is asked for; `_` is any.
    pub host: String,
    /// The path, usually `/ws-xmpp`.
    pub path: String,
    /// How long a client may be silent, control frames included; then its connection counts as lost. `"infinity"` is
    /// what holds for all clients: it is asked for a sign of life after five minutes. Looked at every five seconds.
    #[serde(default = "WebSocketHandler::default_timeout")]
    pub timeout: OrInfinity<Millis>,
    /// After how long a silence a client is sent a ping, a control frame that browsers answer by themselves; by
    /// default after five minutes. Looked at every five seconds.
    #[serde(default)]
    pub ping_rate: Option<Millis>,
    /// The greatest stanza that a client may send. A greater one is answered with `not-allowed`; one of more than twice
    /// that size ends the stream with `policy-violation`.
    #[serde(default = "C2sListener::default_max_stanza_size")]
    #[schemars(range(min = 10_000, max = 262_144))]
    pub max_stanza_size: Bytes,
    /// How long a client may stay in one state before it has a session; `"infinity"` is a minute.
    #[serde(default = "C2sListener::default_state_timeout")]
    pub state_timeout: OrInfinity<Millis>,
    /// Offers the session request of RFC 3921 that old clients insist on.
    #[serde(default = "default_true")]
    pub backwards_compatible_session: bool,
    /// The shaper that slows clients down, by its name in `[shaper]`, or `none`. Ours.
    #[serde(default = "C2sListener::default_shaper")]
    pub shaper: String,
    /// The access rule that says who may have a session. Ours.
    #[serde(default = "C2sListener::default_access")]
    pub access: String,
    /// The authentication methods that may be used here; by default all of the host type. Ours.
    #[serde(default)]
    pub allowed_auth_methods: Option<Vec<Method>>,
}

impl WebSocketHandler {
    /// A handler with the defaults, for any host.
    pub fn new(path: &str) -> Self {
        Self {
            host: ANY_HOST.into(),
            path: path.into(),
            timeout: Self::default_timeout(),
            ping_rate: None,
            max_stanza_size: C2sListener::default_max_stanza_size(),
            state_timeout: C2sListener::default_state_timeout(),
            backwards_compatible_session: true,
            shaper: C2sListener::default_shaper(),
            access: C2sListener::default_access(),
            allowed_auth_methods: None,
        }
    }

    /// Where it is.
    pub fn place(&self) -> Place<'_> {
        Place::new(&self.host, &self.path)
    }

    /// How long a client may stay in one state, at most [`STATE_TIMEOUT_MAX`].
    pub fn state_timeout(&self) -> Duration {
        state_timeout(self.state_timeout)
    }

    /// The name of the shaper; `None` for `none`.
    pub fn shaper(&self) -> Option<&str> {
        Some(self.shaper.as_str()).filter(|name| *name != NO_SHAPER)
    }

    /// MongooseIM's manual says so; its code has a minute, in which a quiet client that sends no pings is cut.
    fn default_timeout() -> OrInfinity<Millis> {
        OrInfinity::Infinity
    }
}

/// Where BOSH is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BoshHandler {
    /// The host that is asked for; `_` is any.
    pub host: String,
    /// The path, usually `/http-bind`.
    pub path: String,
}

/// Where the metrics are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrometheusHandler {
    /// The host that is asked for; `_` is any.
    pub host: String,
    /// The path, usually `/metrics`.
    pub path: String,
}

impl BoshHandler {
    /// Where it is.
    pub fn place(&self) -> Place<'_> {
        Place::new(&self.host, &self.path)
    }
}

impl PrometheusHandler {
    /// Where it is.
    pub fn place(&self) -> Place<'_> {
        Place::new(&self.host, &self.path)
    }
}

/// Where a handler is, as the options of every handler have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    host: &'a str,
    path: &'a str,
}

impl<'a> Place<'a> {
    /// From the options of a handler.
    pub fn new(host: &'a str, path: &'a str) -> Self {
        Self { host, path }
    }

    /// The host in lower case; `None` is any.
    pub fn host(&self) -> Option<Box<str>> {
        (self.host != ANY_HOST).then(|| self.host.to_ascii_lowercase().into())
    }

    /// The path.
    pub fn path(&self) -> &'a str {
        self.path
    }

    /// To be called by the `check` of every handler.
    pub fn check(&self, checks: &mut Checks<'_>) {
        // What Cowboy, which MongooseIM uses, takes for a pattern.
        let is_pattern = |text: &str| text.contains([':', '[', ']', '*']) || text.contains("...");
        if self.host != ANY_HOST && is_pattern(self.host) {
            let message = "a pattern of hosts is not supported yet";
            checks.finding(
                "host",
                message,
                "name the host, or write `host = \"_\"` for any",
            );
        } else if self.host.is_empty() {
            let message = "the host is empty";
            checks.finding("host", message, "write `host = \"_\"` for any");
        }
        if !self.path.starts_with('/') || self.path.contains(['?', '#']) {
            let message = format!("{:?} is no path", self.path);
            checks.finding("path", message, "a path begins with `/`");
        } else if is_pattern(self.path) {
            let message = "a pattern of paths is not supported yet";
            checks.finding("path", message, "write the whole path");
        }
    }
}

/// The host that is any.
const ANY_HOST: &str = "_";

impl HttpHandlers {
    /// Where each handler is, with its path in the configuration.
    fn places(&self) -> Vec<(String, Place<'_>)> {
        let bosh = self.mongoose_bosh_handler.iter();
        let bosh = bosh.map(BoshHandler::place).enumerate();
        let bosh = bosh.map(|(index, place)| ("mongoose_bosh_handler", index, place));
        let websocket = self.mongoose_websocket_handler.iter();
        let websocket = websocket.map(WebSocketHandler::place).enumerate();
        let websocket =
            websocket.map(|(index, place)| ("mongoose_websocket_handler", index, place));
        let prometheus = self.mongoose_prometheus_handler.iter();
        let prometheus = prometheus.map(PrometheusHandler::place).enumerate();
        let prometheus =
            prometheus.map(|(index, place)| ("mongoose_prometheus_handler", index, place));
        let graphql = self.mongoose_graphql_handler.iter();
        let graphql = graphql.map(GraphqlHandler::place).enumerate();
        let graphql = graphql.map(|(index, place)| ("mongoose_graphql_handler", index, place));
        bosh.chain(websocket)
            .chain(prometheus)
            .chain(graphql)
            .map(|(name, index, place)| (format!("{name}[{index}]"), place))
            .collect()
    }
}

/// How long a client may stay in one state when the file says `"infinity"`.
pub const STATE_TIMEOUT_MAX: Duration = Duration::from_secs(60);

impl C2sListener {
    /// A listener with the defaults.
    pub fn new(port: u16) -> Self {
        Self {
            port,
            ip_address: None,
            ip_version: None,
            proto: Proto::Tcp,
            backlog: Self::default_backlog(),
            max_connections: Self::default_max_connections(),
            max_stanza_size: Self::default_max_stanza_size(),
            num_acceptors: default_num_acceptors(),
            state_timeout: Self::default_state_timeout(),
            shaper: Self::default_shaper(),
            access: Self::default_access(),
            allowed_auth_methods: None,
            backwards_compatible_session: true,
            proxy_protocol: false,
            proxy_protocol_networks: None,
            tls_at_balancer: false,
            reuse_port: false,
            hibernate_after: default_hibernate_after(),
            tls: None,
        }
    }

    /// Where to listen.
    pub fn address(&self) -> SocketAddr {
        address(self.ip_address, self.ip_version, self.port)
    }

    /// How long a client may stay in one state, at most [`STATE_TIMEOUT_MAX`].
    pub fn state_timeout(&self) -> Duration {
        state_timeout(self.state_timeout)
    }

    /// The name of the shaper; `None` for `none`.
    pub fn shaper(&self) -> Option<&str> {
        Some(self.shaper.as_str()).filter(|name| *name != NO_SHAPER)
    }

    /// Whether its clients are asked for a certificate, where `methods` may be used.
    pub fn asks_for_certificates(&self, methods: &[Method]) -> bool {
        let allowed = self.allowed_auth_methods.as_ref();
        let is_allowed = allowed.is_none_or(|allowed| allowed.contains(&Method::Pki));
        let tls = self.tls.as_ref();
        is_allowed
            && methods.contains(&Method::Pki)
            && tls.is_some_and(|tls| tls.verify_mode != VerifyMode::None)
    }

    /// Who may announce clients' addresses, if anybody does.
    pub fn proxy_protocol(&self) -> Option<ProxyProtocol> {
        proxy_protocol(self.proxy_protocol, self.proxy_protocol_networks.as_deref())
    }

    /// The limit of connections, if it is one that somebody chose.
    pub fn chosen_connections(&self) -> Option<u64> {
        let is_chosen = self.max_connections != Self::default_max_connections();
        self.max_connections.finite().filter(|_| is_chosen)
    }

    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        self.address().ip().is_loopback()
    }

    fn default_backlog() -> u32 {
        1024
    }

    /// MongooseIM has no limit. A million is what one machine is made for.
    fn default_max_connections() -> OrInfinity<u64> {
        OrInfinity::Value(1_000_000)
    }

    /// MongooseIM has no limit; its template says this.
    fn default_max_stanza_size() -> Bytes {
        Bytes(65_536)
    }

    fn default_state_timeout() -> OrInfinity<Millis> {
        OrInfinity::Value(Millis(5000))
    }

    fn default_shaper() -> String {
        NO_SHAPER.into()
    }

    fn default_access() -> String {
        "all".into()
    }
}

fn state_timeout(option: OrInfinity<Millis>) -> Duration {
    let timeout = option.finite().map(Millis::duration);
    timeout.map_or(STATE_TIMEOUT_MAX, |timeout| timeout.min(STATE_TIMEOUT_MAX))
}

/// The name that means no shaper.
const NO_SHAPER: &str = "none";

impl HttpListener {
    /// A listener with the defaults, that serves nothing.
    pub fn new(port: u16) -> Self {
        Self {
            port,
            ip_address: None,
            ip_version: None,
            proto: Proto::Tcp,
            hibernate_after: default_hibernate_after(),
            transport: HttpTransport::default(),
            proxy_protocol: false,
            proxy_protocol_networks: None,
            tls_at_balancer: false,
            tls: None,
            handlers: HttpHandlers::default(),
        }
    }

    /// Where to listen.
    pub fn address(&self) -> SocketAddr {
        address(self.ip_address, self.ip_version, self.port)
    }

    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        self.address().ip().is_loopback()
    }
}

/// Where to listen, by the options of a port.
pub fn address(address: Option<IpAddr>, version: Option<u8>, port: u16) -> SocketAddr {
    let any: IpAddr = match version {
        Some(6) => Ipv6Addr::UNSPECIFIED.into(),
        _ => Ipv4Addr::UNSPECIFIED.into(),
    };
    SocketAddr::new(address.unwrap_or(any), port)
}

/// Who may announce clients' addresses on a port, by its options: this machine if no networks are named. What is no
/// network is nobody's; a checked configuration has none.
pub fn proxy_protocol(is_expected: bool, networks: Option<&[String]>) -> Option<ProxyProtocol> {
    is_expected.then(|| match networks {
        None => ProxyProtocol::new(Network::LOOPBACK),
        Some(networks) => {
            let networks = networks.iter().filter_map(|text| text.parse().ok());
            ProxyProtocol::new(networks.collect::<Vec<Network>>())
        }
    })
}

fn default_num_acceptors() -> u32 {
    100
}

fn default_hibernate_after() -> OrInfinity<Millis> {
    OrInfinity::Value(Millis(0))
}

fn default_true() -> bool {
    true
}

impl Check for Listen {
    fn check(&self, checks: &mut Checks<'_>) {
        checks.each("c2s", &self.c2s);
        checks.each("http", &self.http);
        checks.each("component", &self.component);
        let c2s = self.c2s.iter().map(C2sListener::address);
        let c2s = c2s.enumerate().map(|(index, at)| ("c2s", index, at));
        let http = self.http.iter().map(HttpListener::address);
        let http = http.enumerate().map(|(index, at)| ("http", index, at));
        let component = self.component.iter().map(ComponentListener::address);
        let component = component.enumerate();
        let component = component.map(|(index, at)| ("component", index, at));
        let mut taken = BTreeMap::new();
        for (kind, index, address) in c2s.chain(http).chain(component) {
            let place = format!("{kind}[{index}]");
            if address.port() == 0 || !checks.is_sound(&place) {
                continue;
            }
            if let Some(first) = taken.insert(address, kind) {
                let message = format!("{address} is taken by another `[[listen.{first}]]`");
                checks.finding(&format!("{place}.port"), message, "");
            }
        }
    }
}

impl Check for C2sListener {
    fn check(&self, checks: &mut Checks<'_>) {
        check_family(self.ip_address, self.ip_version, checks);
        if let Some(tls) = &self.tls {
            checks.part("tls", tls);
        }
        check_methods(self.allowed_auth_methods.as_deref(), checks);
        if self.max_connections == OrInfinity::Value(0) {
            let message = "no connection is allowed on this port";
            checks.finding("max_connections", message, "");
        }
        let networks = self.proxy_protocol_networks.as_deref();
        check_proxy_protocol(self.proxy_protocol, networks, self.is_local(), checks);
        if self.tls_at_balancer && self.tls.is_some() {
            let message = "TLS ends either at the balancer or here: `tls` is there too";
            checks.finding("tls_at_balancer", message, "remove one of them");
        }
    }
}

/// Rules of the options `proxy_protocol` and `proxy_protocol_networks` of a port.
pub fn check_proxy_protocol(
    is_expected: bool,
    networks: Option<&[String]>,
    is_local: bool,
    checks: &mut Checks<'_>,
) {
    const KEY: &str = "proxy_protocol_networks";
    if !checks.is_sound("proxy_protocol") || !checks.is_sound(KEY) {
        return;
    }
    let Some(networks) = networks else {
        if is_expected && !is_local && checks.is_sound("ip_address") {
            let message = "which networks may send PROXY headers is not said: \
                only this machine could connect";
            let hint = "add the balancer's, as in `proxy_protocol_networks = [\"10.0.0.0/8\"]`";
            checks.finding("proxy_protocol", message, hint);
        }
        return;
    };
    if !is_expected {
        let message = "it says nothing without `proxy_protocol = true`";
        checks.finding(KEY, message, "");
    } else if networks.is_empty() {
        let message = "no network may send PROXY headers: nobody could connect";
        checks.finding(KEY, message, "");
    }
    for (index, text) in networks.iter().enumerate() {
        if let Err(error) = text.parse::<Network>() {
            let message = format!("{text:?} is not a network: {error}");
            checks.finding(&format!("{KEY}[{index}]"), message, "");
        }
    }
}

impl Check for HttpListener {
    fn check(&self, checks: &mut Checks<'_>) {
        check_family(self.ip_address, self.ip_version, checks);
        if let Some(tls) = &self.tls {
            checks.part("tls", tls);
        }
        let networks = self.proxy_protocol_networks.as_deref();
        check_proxy_protocol(self.proxy_protocol, networks, self.is_local(), checks);
        if self.tls_at_balancer && self.tls.is_some() {
            let message = "TLS ends either at the balancer or here: `tls` is there too";
            checks.finding("tls_at_balancer", message, "remove one of them");
        }
        if self.transport.max_connections == OrInfinity::Value(0) {
            let message = "no connection is allowed on this port";
            checks.finding("transport.max_connections", message, "");
        }
        let places = self.handlers.places();
        if checks.is_sound("handlers") && places.is_empty() {
            let message = "this port serves nothing";
            let hint = "add a handler, for instance \
                `[[listen.http.handlers.mongoose_prometheus_handler]]`";
            checks.finding("", message, hint);
        }
        checks.within("handlers", |checks| {
            checks.each(
                "mongoose_bosh_handler",
                &self.handlers.mongoose_bosh_handler,
            );
            checks.each(
                "mongoose_websocket_handler",
                &self.handlers.mongoose_websocket_handler,
            );
            checks.each(
                "mongoose_prometheus_handler",
                &self.handlers.mongoose_prometheus_handler,
            );
            checks.each(
                "mongoose_graphql_handler",
                &self.handlers.mongoose_graphql_handler,
            );
            let mut taken = Vec::new();
            for (key, place) in &places {
                if taken.contains(&place) {
                    let message = "there is a handler for this host and path already";
                    checks.finding(&format!("{key}.path"), message, "");
                }
                taken.push(place);
            }
        });
    }
}

impl Check for HttpTls {
    fn check(&self, checks: &mut Checks<'_>) {
        self.files().check(checks);
    }
}

impl Check for BoshHandler {
    fn check(&self, checks: &mut Checks<'_>) {
        Place::new(&self.host, &self.path).check(checks);
    }
}

impl Check for PrometheusHandler {
    fn check(&self, checks: &mut Checks<'_>) {
        self.place().check(checks);
    }
}

impl Check for WebSocketHandler {
    fn check(&self, checks: &mut Checks<'_>) {
        self.place().check(checks);
        check_methods(self.allowed_auth_methods.as_deref(), checks);
        for (key, option) in [
            ("timeout", self.timeout.finite()),
            ("ping_rate", self.ping_rate),
        ] {
            if option.is_some_and(|option| option.duration() < Duration::from_secs(1)) {
                checks.finding(key, "less than a second is too little", "");
            }
        }
    }
}

fn check_methods(allowed: Option<&[Method]>, checks: &mut Checks<'_>) {
    if allowed.is_some_and(<[Method]>::is_empty) {
        let message = "no method is allowed: nobody could log in on this port";
        checks.finding("allowed_auth_methods", message, "");
    }
}

/// Whether address and family of a port fit together.
pub fn check_family(address: Option<IpAddr>, version: Option<u8>, checks: &mut Checks<'_>) {
    match (address, version) {
        (_, Some(5)) => checks.finding("ip_version", "5 is neither 4 nor 6", ""),
        (Some(IpAddr::V4(_)), Some(6)) | (Some(IpAddr::V6(_)), Some(4)) => {
            let message = "`ip_version` and `ip_address` are of different families";
            checks.finding("ip_version", message, "one of them is enough");
        }
        _ => {}
    }
}

impl Check for C2sTls {
    fn check(&self, checks: &mut Checks<'_>) {
        self.files().check(checks);
        if let Some(file) = &self.cacertfile {
            checks.file("cacertfile", file);
        }
        for (index, file) in self.crl_files.iter().enumerate() {
            checks.file(&format!("crl_files[{index}]"), file);
        }
        if !self.crl_files.is_empty() && self.cacertfile.is_none() && checks.is_sound("cacertfile")
        {
            let message = "`crl_files` without `cacertfile`: nobody vouches for certificates";
            checks.finding("crl_files", message, "");
        }
    }
}

impl TlsFiles<'_> {
    /// Whether they fit together.
    pub fn check(&self, checks: &mut Checks<'_>) {
        match (self.certfile, self.keyfile) {
            (Some(_), None) if checks.is_sound("keyfile") => {
                let message = "`certfile` without `keyfile`: the private key is missing";
                checks.finding("certfile", message, "");
            }
            (None, Some(_)) if checks.is_sound("certfile") => {
                let message = "`keyfile` without `certfile`: the certificate is missing";
                checks.finding("keyfile", message, "");
            }
            _ => {}
        }
        check_pair(self.certfile, self.keyfile, checks);
        if self.versions.is_empty() {
            checks.finding("versions", "no version of TLS is left", "");
        }
        checks.each("certificates", self.certificates);
        let mut seen = Vec::new();
        for (index, certificate) in self.certificates.iter().enumerate() {
            if seen.contains(&&certificate.domain) {
                let message = format!("{:?} has a certificate already", certificate.domain);
                checks.finding(&format!("certificates[{index}].domain"), message, "");
            }
            seen.push(&certificate.domain);
        }
    }
}

impl Check for DomainCertificate {
    fn check(&self, checks: &mut Checks<'_>) {
        let domain = self.domain.strip_prefix("*.").unwrap_or(&self.domain);
        if prepare_domain(domain).is_err() {
            let message = format!("{:?} is not a domain", self.domain);
            checks.finding("domain", message, "");
        }
        let review = check_pair(Some(&self.certfile), Some(&self.keyfile), checks);
        if review.is_some_and(|review| !review.covers(&self.domain)) {
            let message = format!("the certificate is not for {:?}", self.domain);
            checks.warning("certfile", message, "clients will not accept it");
        }
    }
}

/// A certificate that ends sooner than this is warned of: who renews by hand needs the time.
const RENEW_BEFORE: Duration = Duration::from_hours(14 * 24);

/// Reads a certificate and its key as a start does, if both files can be read.
fn check_pair(
    cert: Option<&Path>,
    key: Option<&Path>,
    checks: &mut Checks<'_>,
) -> Option<CertificateReview> {
    let mut is_there =
        |name: &str, path: Option<&Path>| path.is_some_and(|path| checks.opens(name, path));
    let (has_cert, has_key) = (is_there("certfile", cert), is_there("keyfile", key));
    if !has_cert || !has_key {
        return None;
    }
    let paths = CertificatePaths {
        cert: cert?.to_owned(),
        key: key?.to_owned(),
    };
    let now = SystemTime::now();
    match CertificateReview::of(&paths, now) {
        Ok(review) => {
            let left = review.expiry.duration_since(now).unwrap_or_default();
            if left < RENEW_BEFORE {
                let days = left.as_secs() / 86_400;
                let message = format!("the certificate expires in {days} days");
                checks.warning("certfile", message, "renew it");
            }
            Some(review)
        }
        Err(problems) => {
            for problem in problems {
                let name = match problem.path == paths.cert {
                    true => "certfile",
                    false => "keyfile",
                };
                let reason = problem.reason.to_string();
                let (message, hint) = reason.split_once("; ").unwrap_or((&reason, ""));
                checks.finding(name, format!("`{name}`: {message}"), hint);
            }
            None
        }
    }
}
