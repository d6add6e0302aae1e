//! From the words of the configuration to what a node is made of.
use std::path::{Path, PathBuf};
use std::sync::Arc;

use daemon::Secret;
use daemon::config::{Millis, OrInfinity};
use protocol::jid::prepare_domain;
use transport::{ClientCertificates, ListenOptions, ServerTls, TlsSettings, TlsVersions};

use super::components::ComponentPlan;
use super::{HostPlan, ListenerPlan, NodePlan, drain};
use crate::access::{AccessRules, ShaperConfig};
use crate::auth::config::{Auth, Mechanism as MechanismWord, Method as MethodWord, SaslExternal};
use crate::auth::external;
use crate::auth::mechanisms::Mechanism;
use crate::auth::{Method, Settings as AuthSettings};
use crate::bosh;
use crate::c2s::ListenerSettings;
use crate::c2s::config::TlsMode;
use crate::c2s::timing::Timing;
use crate::component;
use crate::component::config::ComponentListener;
use crate::config::{Config, HostSettings};
use crate::listen::config::{
    C2sListener, C2sTls, HttpListener, Place as HandlerPlace, TlsFiles, TlsMode as TlsWord,
    TlsVersion as VersionWord, VerifyMode, WebSocketHandler, proxy_protocol,
};
use crate::listen::http::{GraphqlPlan, HandlerPlan, HttpPlan, RoutePlan, WebSocketPlan};
use crate::modules::needs::{self, Clash};

/// Bytes that a client may send before it has logged in.
pub const BYTES_BEFORE_LOGIN_MAX: usize = 64 * 1024;

/// Something that shows only when files are opened or modules are put together.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The data directory.
    #[error("the data directory {path} cannot be used: {error}")]
    DataDir {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A certificate.
    #[error("{0}")]
    Certificate(String),
    /// A password.
    #[error("{0}")]
    Secret(String),
    /// What modules need.
    #[error("modules of {host_type}: {}", listed(clashes))]
    Modules {
        /// Of which host type.
        host_type: String,
        /// All there is to mend.
        clashes: Vec<Clash>,
    },
    /// An access list.
    #[error("access rules of {host_type}: {reason}")]
    Access {
        /// Of which host type.
        host_type: String,
        /// Why.
        reason: String,
    },
    /// The password for the database.
    #[error("the password for the database: {0}")]
    DatabasePassword(daemon::SecretError),
    /// A domain.
    #[error("{0:?} is not a domain")]
    Domain(String),
}

fn listed(clashes: &[Clash]) -> String {
    let lines = clashes.iter().map(|clash| format!("\n  {clash}"));
    lines.collect()
}

/// The plan of a checked configuration. Makes the data directory and, where no certificate is configured, one of our
/// own.
pub fn of(config: &Config) -> Result<NodePlan, Problem> {
    let data_dir = &config.general.data_dir;
    make_private_dir(data_dir)?;
    let hosts: Vec<HostPlan> = {
        let services = config.services.keys();
        let hosts = config.hosts();
        let plans = hosts.iter().map(|settings| host(settings, services));
        plans.collect::<Result<_, _>>()?
    };
    let domains: Vec<Box<str>> = hosts.iter().flat_map(|host| host.domains.clone()).collect();
    let methods = config.methods();
    let listener = |listener: &C2sListener| {
        let asks = listener.asks_for_certificates(&methods);
        client_listener(listener, asks, &config.shaper, data_dir, &domains)
    };
    let http =
        |listener: &HttpListener| http_listener(listener, &config.shaper, data_dir, &domains);
    Ok(NodePlan {
        storage: config
            .database()
            .options()
            .map_err(Problem::DatabasePassword)?,
        data_dir: data_dir.clone(),
        listeners: config
            .listen
            .c2s
            .iter()
            .map(listener)
            .collect::<Result<_, _>>()?,
        http: config
            .listen
            .http
            .iter()
            .map(http)
            .collect::<Result<_, _>>()?,
        components: components(config, data_dir, &domains)?,
        bosh: bosh::Settings::new(
            &config.services.service_bosh.clone().unwrap_or_default(),
            BYTES_BEFORE_LOGIN_MAX,
        ),
        hosts,
        default_domain: domain(config.general.default_domain())?,
        language: config.general.language.as_str().into(),
        acknowledge: config.general.acknowledge,
        hide_service_name: config.general.hide_service_name,
        registration_pause: match config.general.registration_timeout {
            OrInfinity::Value(pause) => Some(pause.duration()),
            OrInfinity::Infinity => None,
        },
        drain: drain::Settings {
            grace: config.general.shutdown_grace(),
            sessions_per_sec: config.general.shutdown_sessions_per_sec,
            see_other_host: config
                .general
                .shutdown_see_other_host
                .as_deref()
                .map(Into::into),
        },
        logs: None,
        services: config
            .services
            .keys()
            .iter()
            .map(ToString::to_string)
            .collect(),
    })
}

/// The directory holds keys and passwords: nobody else looks into it.
fn make_private_dir(path: &Path) -> Result<(), Problem> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.map_err(|error| Problem::DataDir {
        path: path.to_owned(),
        // A directory that is there is no error: this is something else.
        error: match error.kind() {
            std::io::ErrorKind::AlreadyExists => std::io::ErrorKind::NotADirectory.into(),
            _ => error,
        },
    })
}

fn domain(text: &str) -> Result<Box<str>, Problem> {
    prepare_domain(text)
        .map(Into::into)
        .map_err(|_| Problem::Domain(text.to_owned()))
}

fn host(settings: &HostSettings, services: &[&str]) -> Result<HostPlan, Problem> {
    let host_type = || settings.host_type.clone();
    let modules =
        needs::resolve(&settings.modules, services).map_err(|clashes| Problem::Modules {
            host_type: host_type(),
            clashes,
        })?;
    let access =
        AccessRules::new(&settings.acl, &settings.access).map_err(|bad| Problem::Access {
            host_type: host_type(),
            reason: bad.to_string(),
        })?;
    Ok(HostPlan {
        host_type: settings.host_type.as_str().into(),
        domains: settings
            .domains
            .iter()
            .map(|text| domain(text))
            .collect::<Result<_, _>>()?,
        auth: auth(&settings.auth),
        modules,
        access,
        replaced_wait_timeout: settings.replaced_wait_timeout,
    })
}

fn auth(config: &Auth) -> AuthSettings {
    let method = |word: MethodWord| match word {
        MethodWord::Internal | MethodWord::Rdbms => Method::Stored,
        MethodWord::Anonymous => Method::Anonymous,
        MethodWord::Pki => Method::Pki,
        MethodWord::Dummy => {
            let dummy = config.dummy.clone().unwrap_or_default();
            Method::Dummy {
                base_ms: dummy.base_time.0,
                variance_ms: dummy.variance.0,
            }
        }
    };
    let mechanism = |word: &MechanismWord| match word.scram() {
        Some((hash, plus)) => Mechanism::Scram { hash, plus },
        None => match word {
            MechanismWord::Anonymous => Mechanism::Anonymous,
            MechanismWord::External => Mechanism::External,
            _ => Mechanism::Plain,
        },
    };
    AuthSettings {
        methods: config.methods().into_iter().map(method).collect(),
        mechanisms: config.sasl_mechanisms.iter().map(mechanism).collect(),
        hashes: config
            .password
            .hash
            .iter()
            .map(|hash| hash.scram())
            .collect(),
        iterations: config.password.scram_iterations,
        users_max: match config.max_users_per_domain {
            OrInfinity::Value(users_max) => Some(users_max),
            OrInfinity::Infinity => None,
        },
        certificates: naming(config),
    }
}

fn naming(config: &Auth) -> external::Naming {
    let has = |word| config.sasl_external.contains(&word);
    let around = &config.sasl_external_common_name;
    external::Naming {
        by_address: has(SaslExternal::Standard),
        by_common_name: has(SaslExternal::CommonName).then(|| external::CommonName {
            prefix: around.prefix.as_str().into(),
            suffix: around.suffix.as_str().into(),
        }),
    }
}

fn client_listener(
    config: &C2sListener,
    asks_for_certificates: bool,
    shapers: &ShaperConfig,
    data_dir: &Path,
    domains: &[Box<str>],
) -> Result<ListenerPlan, Problem> {
    let tls = config
        .tls
        .as_ref()
        .map(|tls| {
            let clients = asks_for_certificates.then(|| client_certificates(tls));
            let alpn: &[u8] = b"xmpp-client";
            server_tls(&tls.files(), Some(alpn), clients, data_dir, domains)
        })
        .transpose()?;
    let tls_mode = match config.tls.as_ref().map(|tls| tls.mode) {
        None => TlsMode::None,
        Some(TlsWord::Tls) => TlsMode::Direct,
        Some(TlsWord::Starttls) => TlsMode::StartTls,
        Some(TlsWord::StarttlsRequired) => TlsMode::StartTlsRequired,
    };
    let allowed = config.allowed_auth_methods.as_ref();
    Ok(ListenerPlan {
        address: config.address(),
        options: ListenOptions {
            backlog: config.backlog,
            reuse_port: config.reuse_port,
        },
        settings: ListenerSettings {
            tls_mode,
            tls,
            tls_at_balancer: config.tls_at_balancer,
            proxy_protocol: config.proxy_protocol(),
            state_timeout: config.state_timeout(),
            stanza_bytes_max: u32::try_from(config.max_stanza_size.0).unwrap_or(u32::MAX),
            access: config.access.as_str().into(),
            allowed_methods: allowed
                .map(|words| words.iter().map(|word| method_kind(*word)).collect()),
            shaper_rate: shaper_rate(config.shaper(), shapers),
            backwards_compatible_session: config.backwards_compatible_session,
            bytes_before_login_max: BYTES_BEFORE_LOGIN_MAX,
            connections_max: connections_max(config.max_connections),
        },
    })
}

/// How certificates of clients are looked at.
fn client_certificates(tls: &C2sTls) -> ClientCertificates {
    ClientCertificates {
        authorities: tls.cacertfile.clone(),
        self_signed: tls.verify_mode == VerifyMode::SelfsignedPeer,
        revocation_lists: tls.crl_files.clone(),
        refuse_bad: tls.disconnect_on_failure,
    }
}

fn connections_max(option: OrInfinity<u64>) -> usize {
    match option {
        OrInfinity::Value(count) => usize::try_from(count).unwrap_or(usize::MAX),
        OrInfinity::Infinity => usize::MAX,
    }
}

fn components(
    config: &Config,
    data_dir: &Path,
    domains: &[Box<str>],
) -> Result<Vec<ComponentPlan>, Problem> {
    if config.listen.component.is_empty() {
        return Ok(Vec::new());
    }
    let rules = AccessRules::new(&config.acl, &config.access).map_err(|bad| Problem::Access {
        host_type: "the node".into(),
        reason: bad.to_string(),
    })?;
    let rules = Arc::new(rules);
    let plan = |listener: &ComponentListener| {
        component_listener(listener, &config.shaper, &rules, data_dir, domains)
    };
    config.listen.component.iter().map(plan).collect()
}

fn component_listener(
    config: &ComponentListener,
    shapers: &ShaperConfig,
    rules: &Arc<AccessRules>,
    data_dir: &Path,
    domains: &[Box<str>],
) -> Result<ComponentPlan, Problem> {
    let tls = config
        .tls
        .as_ref()
        .map(|tls| server_tls(&tls.files(), None, None, data_dir, domains))
        .transpose()?;
    let secret = Secret::resolve(config.password.as_ref(), config.password_file.as_deref());
    let secret = secret.map_err(|error| Problem::Secret(error.to_string()))?;
    Ok(ComponentPlan {
        address: config.address(),
        options: ListenOptions {
            backlog: config.backlog,
            reuse_port: config.reuse_port,
        },
        settings: ListenerSettings {
            tls_mode: match tls {
                Some(_) => TlsMode::Direct,
                None => TlsMode::None,
            },
            tls,
            tls_at_balancer: false,
            proxy_protocol: config.proxy_protocol(),
            state_timeout: config.state_timeout(),
            stanza_bytes_max: u32::try_from(config.max_stanza_size.0).unwrap_or(u32::MAX),
            access: "all".into(),
            allowed_methods: None,
            shaper_rate: shaper_rate(config.shaper(), shapers),
            backwards_compatible_session: false,
            bytes_before_login_max: BYTES_BEFORE_LOGIN_MAX,
            connections_max: connections_max(config.max_connections),
        },
        component: component::Settings {
            secret: secret
                .ok_or_else(|| Problem::Secret("a component's secret is missing".into()))?,
            access: config.access.as_str().into(),
            rules: rules.clone(),
            check_from: config.check_from,
            conflict_behaviour: config.conflict_behaviour,
            is_hidden: config.hidden_components,
        },
    })
}

fn http_listener(
    config: &HttpListener,
    shapers: &ShaperConfig,
    data_dir: &Path,
    domains: &[Box<str>],
) -> Result<HttpPlan, Problem> {
    let tls = config
        .tls
        .as_ref()
        .map(|tls| server_tls(&tls.files(), Some(b"http/1.1"), None, data_dir, domains))
        .transpose()?;
    let route = |place: HandlerPlace<'_>, handler| RoutePlan {
        host: place.host(),
        path: place.path().into(),
        handler,
    };
    let connections_max = connections_max(config.transport.max_connections);
    let bosh = config.handlers.mongoose_bosh_handler.iter();
    let bosh = bosh.map(|of| route(of.place(), HandlerPlan::Bosh));
    let websocket = config.handlers.mongoose_websocket_handler.iter();
    let websocket = websocket.map(|of| {
        let plan = websocket_plan(of, shapers, connections_max);
        route(of.place(), HandlerPlan::WebSocket(Box::new(plan)))
    });
    let prometheus = config.handlers.mongoose_prometheus_handler.iter();
    let prometheus = prometheus.map(|of| route(of.place(), HandlerPlan::Prometheus));
    let mut routes: Vec<_> = bosh.chain(websocket).chain(prometheus).collect();
    for of in &config.handlers.mongoose_graphql_handler {
        let categories = of.allowed_categories.as_ref();
        let plan = GraphqlPlan {
            credentials: of
                .credentials()
                .map_err(|error| Problem::Secret(error.to_string()))?,
            categories: categories
                .map(|all| all.iter().map(|category| category.name().into()).collect()),
        };
        routes.push(route(of.place(), HandlerPlan::Graphql(plan)));
    }
    Ok(HttpPlan {
        address: config.address(),
        tls,
        tls_at_balancer: config.tls_at_balancer,
        proxy_protocol: proxy_protocol(
            config.proxy_protocol,
            config.proxy_protocol_networks.as_deref(),
        ),
        connections_max,
        routes,
    })
}

fn websocket_plan(
    config: &WebSocketHandler,
    shapers: &ShaperConfig,
    connections_max: usize,
) -> WebSocketPlan {
    let allowed = config.allowed_auth_methods.as_ref();
    let secs = |millis: Millis| {
        let secs = millis.duration().as_millis().div_ceil(1_000);
        u32::try_from(secs).unwrap_or(u32::MAX)
    };
    WebSocketPlan {
        settings: ListenerSettings {
            // Below, if at all: the stream has none of its own (RFC 7395 section 3.9).
            tls_mode: TlsMode::None,
            tls: None,
            tls_at_balancer: false,
            proxy_protocol: None,
            state_timeout: config.state_timeout(),
            stanza_bytes_max: u32::try_from(config.max_stanza_size.0).unwrap_or(u32::MAX),
            access: config.access.as_str().into(),
            allowed_methods: allowed
                .map(|words| words.iter().map(|word| method_kind(*word)).collect()),
            shaper_rate: shaper_rate(config.shaper(), shapers),
            backwards_compatible_session: config.backwards_compatible_session,
            bytes_before_login_max: BYTES_BEFORE_LOGIN_MAX,
            connections_max,
        },
        timing: Timing {
            ask_secs: config.ping_rate.map(secs),
            gone_secs: config.timeout.finite().map(secs),
        },
    }
}

fn shaper_rate(name: Option<&str>, shapers: &ShaperConfig) -> Option<u32> {
    let rate = shapers.get(name?)?.max_rate;
    Some(u32::try_from(rate).unwrap_or(u32::MAX))
}

fn method_kind(word: MethodWord) -> crate::auth::MethodKind {
    match word {
        MethodWord::Internal | MethodWord::Rdbms => crate::auth::MethodKind::Stored,
        MethodWord::Anonymous => crate::auth::MethodKind::Anonymous,
        MethodWord::Pki => crate::auth::MethodKind::Pki,
        MethodWord::Dummy => crate::auth::MethodKind::Dummy,
    }
}

fn server_tls(
    config: &TlsFiles<'_>,
    alpn: Option<&[u8]>,
    client_certificates: Option<ClientCertificates>,
    data_dir: &Path,
    domains: &[Box<str>],
) -> Result<ServerTls, Problem> {
    let problem = |error: &dyn std::error::Error| Problem::Certificate(error.to_string());
    let default = match (config.certfile, config.keyfile) {
        (Some(cert), key) => transport::CertificatePaths {
            cert: cert.to_owned(),
            key: key.unwrap_or(cert).to_owned(),
        },
        (None, _) => {
            let made = daemon::self_signed(data_dir, domains).map_err(|error| problem(&error))?;
            transport::CertificatePaths {
                cert: made.cert,
                key: made.key,
            }
        }
    };
    let version = |word: &VersionWord| match word {
        VersionWord::Tls12 => transport::TlsVersion::Tls12,
        VersionWord::Tls13 => transport::TlsVersion::Tls13,
    };
    let spoken: Vec<_> = config.versions.iter().map(version).collect();
    let default_versions = TlsVersions::default();
    let settings = TlsSettings {
        default,
        by_name: config
            .certificates
            .iter()
            .map(|of| {
                let paths = transport::CertificatePaths {
                    cert: of.certfile.clone(),
                    key: of.keyfile.clone(),
                };
                (of.domain.clone(), paths)
            })
            .collect(),
        versions: TlsVersions {
            min: spoken.iter().min().copied().unwrap_or(default_versions.min),
            max: spoken.iter().max().copied().unwrap_or(default_versions.max),
        },
        alpn: alpn.map(<[u8]>::to_vec).into_iter().collect(),
        client_certificates,
    };
    ServerTls::load(&settings).map_err(|error| problem(&error))
}
