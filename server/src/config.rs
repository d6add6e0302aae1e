//! The configuration file as a whole. Each part of it is a struct that lives beside the code it is for.

use std::path::Path;
use std::time::Duration;

use daemon::config::{Check, Checks, Findings, Review, Seconds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::access::{AccessConfig, AclConfig, ShaperConfig, merge_access, merge_acl};
use crate::auth::config::{Auth, Method};
use crate::host::config::{General, Unsafe};
use crate::listen::config::{
    BoshHandler, C2sListener, C2sTls, HttpListener, Listen, PrometheusHandler, TlsMode, VerifyMode,
    WebSocketHandler,
};
use crate::modules::{ModulesConfig, needs};
use crate::router::subdomains;
use crate::services::Services;
use crate::storage::config::{OutgoingPools, RdbmsPool};

mod catalogue;

pub use catalogue::CATALOGUE;

/// The whole file. It does not change after the start of the node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What holds for the node as a whole.
    pub general: General,
    /// Where the node listens.
    pub listen: Listen,
    /// How users prove who they are.
    pub auth: Auth,
    /// Connections to what is outside of the node.
    pub outgoing_pools: OutgoingPools,
    /// What runs once per node, beside its host types.
    pub services: Services,
    /// The features of every host type that has no list of its own.
    pub modules: ModulesConfig,
    /// Limits of speed by name.
    pub shaper: ShaperConfig,
    /// Classes of users by name: lists of patterns, of which one must match.
    pub acl: AclConfig,
    /// Rules by name: the first clause whose class the user belongs to gives the value.
    pub access: AccessConfig,
    /// What is different for one host type.
    pub host_config: Vec<HostConfig>,
    /// How the node is measured.
    pub instrumentation: Instrumentation,
}

/// What is different for one host type. `auth` and `modules` replace the sections of the node, `acl` is
/// united with the node's, and clauses of `access` are put before a last clause of the node's that allows
/// all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HostConfig {
    /// The host type: one of `general.hosts`.
    pub host_type: Option<String>,
    /// Another word for `host_type`.
    pub host: Option<String>,
    /// What differs of `[general]`.
    pub general: HostGeneral,
    /// Takes the place of `[auth]`.
    pub auth: Option<Auth>,
    /// Takes the place of `[modules]`, all of it.
    pub modules: Option<ModulesConfig>,
    /// More patterns and classes.
    pub acl: AclConfig,
    /// More clauses and rules.
    pub access: AccessConfig,
}

/// What can differ of `[general]` for one host type.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HostGeneral {
    /// How long a new session waits for the old one of the same resource to close.
    pub replaced_wait_timeout: Option<daemon::config::Millis>,
}

/// How the node is measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Instrumentation {
    /// How often measures that cost something are taken.
    #[schemars(range(min = 1, max = 86_400))]
    pub probe_interval: Seconds,
    /// Accepted: metrics are always kept, and served by `mongoose_prometheus_handler`.
    pub prometheus: Option<Prometheus>,
}

/// Metrics for Prometheus.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Prometheus {}

impl Default for Instrumentation {
    fn default() -> Self {
        Self {
            probe_interval: Seconds(15),
            prometheus: None,
        }
    }
}

/// One host type with all that holds for it.
#[derive(Debug, Clone, PartialEq)]
pub struct HostSettings {
    /// Its name.
    pub host_type: String,
    /// Its domains.
    pub domains: Vec<String>,
    /// How long a new session waits for the old one of the same resource to close.
    pub replaced_wait_timeout: Duration,
    /// How its users prove who they are.
    pub auth: Auth,
    /// Its features.
    pub modules: ModulesConfig,
    /// Its classes of users.
    pub acl: AclConfig,
    /// Its access rules.
    pub access: AccessConfig,
}

impl Config {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, Findings> {
        daemon::config::load(path, &CATALOGUE)
    }

    /// Reads the file at `path` with what stops no start, and runs `rules` for what depends on the machine.
    pub fn review(path: &Path, rules: impl FnOnce(&Self, &mut Checks<'_>)) -> Review<Self> {
        daemon::config::review(path, &CATALOGUE, rules)
    }

    /// Reads a configuration from `text`; `file_name` is what the findings call it. Files that it names are
    /// not looked at.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str, file_name: &str) -> Result<Self, Findings> {
        daemon::config::parse(text, file_name, &CATALOGUE)
    }

    /// The configuration of a node that was given none: the domain `localhost`, reachable from this machine
    /// alone, with a certificate of its own making and SQLite in `data_dir`.
    pub fn zero() -> Self {
        let mut starttls = C2sListener::new(5222);
        starttls.ip_address = Some(LOOPBACK);
        starttls.tls = Some(C2sTls::default());
        let mut direct = C2sListener::new(5223);
        direct.ip_address = Some(LOOPBACK);
        direct.tls = Some(C2sTls {
            mode: TlsMode::Tls,
            ..C2sTls::default()
        });
        let mut metrics = HttpListener::new(9091);
        metrics.ip_address = Some(LOOPBACK);
        metrics.handlers.mongoose_prometheus_handler = vec![PrometheusHandler {
            host: "_".into(),
            path: "/metrics".into(),
        }];
        let mut web = HttpListener::new(5280);
        web.ip_address = Some(LOOPBACK);
        web.handlers.mongoose_bosh_handler = vec![BoshHandler {
            host: "_".into(),
            path: "/http-bind".into(),
        }];
        web.handlers.mongoose_websocket_handler = vec![WebSocketHandler::new("/ws-xmpp")];
        Self {
            general: General {
                hosts: vec!["localhost".into()],
                loglevel: daemon::logs::Level::Info,
                ..General::default()
            },
            listen: Listen {
                c2s: vec![starttls, direct],
                http: vec![web, metrics],
                component: Vec::new(),
            },
            modules: ModulesConfig::zero(),
            ..Self::default()
        }
    }

    /// The host types of the node, in the order of `general.hosts`.
    pub fn hosts(&self) -> Vec<HostSettings> {
        let settings = |host: &String| {
            let own = self.host_config.iter().find(|own| own.name() == Some(host));
            self.host(host, own)
        };
        self.general.hosts.iter().map(settings).collect()
    }

    /// Every method by which users of some host type prove who they are.
    pub fn methods(&self) -> Vec<Method> {
        let own = self.host_config.iter().filter_map(|own| own.auth.as_ref());
        own.chain([&self.auth]).flat_map(Auth::methods).collect()
    }

    /// The database: the configured one, or SQLite in `data_dir`.
    pub fn database(&self) -> RdbmsPool {
        let configured = self.outgoing_pools.rdbms.default.clone();
        configured.unwrap_or_else(|| RdbmsPool::sqlite(self.general.data_dir.join(DATABASE_FILE)))
    }

    fn host(&self, name: &str, own: Option<&HostConfig>) -> HostSettings {
        let none = HostConfig::default();
        let own = own.unwrap_or(&none);
        let wait = own.general.replaced_wait_timeout;
        HostSettings {
            host_type: name.into(),
            domains: vec![name.into()],
            replaced_wait_timeout: wait
                .unwrap_or(self.general.replaced_wait_timeout)
                .duration(),
            auth: own.auth.as_ref().unwrap_or(&self.auth).clone(),
            modules: own.modules.as_ref().unwrap_or(&self.modules).clone(),
            acl: merge_acl(&self.acl, &own.acl),
            access: merge_access(&self.access, &own.access),
        }
    }
}

const LOOPBACK: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// The name of the database in `data_dir`.
const DATABASE_FILE: &str = "meerkat.db";

impl HostConfig {
    /// The host type, by whichever word it is given.
    pub fn name(&self) -> Option<&str> {
        self.host_type.as_deref().or(self.host.as_deref())
    }
}

impl Check for Config {
    fn check(&self, checks: &mut Checks<'_>) {
        checks.part("general", &self.general);
        checks.part("listen", &self.listen);
        checks.part("auth", &self.auth);
        checks.part("outgoing_pools", &self.outgoing_pools);
        checks.part("services", &self.services);
        checks.part("modules", &self.modules);
        check_acl(&self.acl, checks);
        checks.each("host_config", &self.host_config);
        self.check_host_types(checks);
        self.check_references(checks);
        self.check_modules(checks);
        self.check_safety(checks);
        self.check_certificates(checks);
    }
}

impl Check for HostConfig {
    fn check(&self, checks: &mut Checks<'_>) {
        match (&self.host_type, &self.host) {
            (None, None) if checks.is_sound("host_type") && checks.is_sound("host") => {
                let message = "`host_type` is missing in `[[host_config]]`";
                checks.finding(
                    "",
                    message,
                    "add `host_type = \"…\"`, one of `general.hosts`",
                );
            }
            (Some(_), Some(_)) => {
                let message = "`host` is another word for `host_type`: both are given";
                checks.finding("host", message, "remove one of them");
            }
            _ => {}
        }
        if let Some(auth) = &self.auth {
            checks.part("auth", auth);
        }
        if let Some(modules) = &self.modules {
            checks.part("modules", modules);
        }
        check_acl(&self.acl, checks);
    }
}

fn check_acl(acl: &AclConfig, checks: &mut Checks<'_>) {
    checks.within("acl", |checks| {
        for (name, patterns) in acl {
            checks.each(name, patterns);
            if ["all", "none"].contains(&name.as_str()) {
                checks.within(name.as_str(), |checks| {
                    let message =
                        format!("the class `{name}` is there already and cannot be changed");
                    checks.finding("", message, "give it another name");
                });
            }
        }
    });
}

impl Config {
    /// Each host type has one section at most, and is one that we serve.
    fn check_host_types(&self, checks: &mut Checks<'_>) {
        if !checks.is_sound("general.hosts") {
            return;
        }
        let mut seen = Vec::new();
        for (index, own) in self.host_config.iter().enumerate() {
            let key = if own.host_type.is_some() {
                "host_type"
            } else {
                "host"
            };
            let path = format!("host_config[{index}].{key}");
            let Some(name) = own.name().filter(|_| checks.is_sound(&path)) else {
                continue;
            };
            if !self.general.hosts.iter().any(|host| host == name) {
                let message = format!("{name:?} is not one of `general.hosts`");
                checks.finding(&path, message, "add it there");
            } else if seen.contains(&name) {
                let message = format!("{name:?} has a `[[host_config]]` already");
                checks.finding(&path, message, "put both into one");
            }
            seen.push(name);
        }
    }

    /// Names that stand for something elsewhere in the file.
    fn check_references(&self, checks: &mut Checks<'_>) {
        let is_rule = |name: &str| {
            let own = self.host_config.iter().map(|own| &own.access);
            let mut all = own.chain([&self.access]);
            ["all", "none"].contains(&name) || all.any(|rules| rules.contains_key(name))
        };
        let c2s = self.listen.c2s.iter().enumerate();
        let c2s = c2s.map(|(index, listener)| {
            let place = format!("listen.c2s[{index}]");
            let access = listener.access.as_str();
            (place, listener.shaper(), access, "log in")
        });
        let http = self.listen.http.iter().enumerate();
        let websocket = http.flat_map(|(port, http)| {
            let handlers = http.handlers.mongoose_websocket_handler.iter().enumerate();
            handlers.map(move |(index, handler)| {
                let handlers = format!("listen.http[{port}].handlers");
                let place = format!("{handlers}.mongoose_websocket_handler[{index}]");
                (place, handler.shaper(), handler.access.as_str(), "log in")
            })
        });
        let component = self.listen.component.iter().enumerate();
        let component = component.map(|(index, listener)| {
            let place = format!("listen.component[{index}]");
            let access = listener.access.as_str();
            (
                place,
                listener.shaper(),
                access,
                "write to these components",
            )
        });
        for (place, shaper, rule, what) in c2s.chain(websocket).chain(component) {
            if let Some(name) = shaper
                && checks.is_sound("shaper")
                && !self.shaper.contains_key(name)
            {
                let message = format!("there is no `[shaper.{name}]`");
                let known: Vec<&str> = self.shaper.keys().map(String::as_str).collect();
                let hint = daemon::config::nearest(name, known);
                checks.finding(&format!("{place}.shaper"), message, hint);
            }
            if checks.is_sound("access") && checks.is_sound("host_config") && !is_rule(rule) {
                let message =
                    format!("there is no rule `{rule}` in `[access]`: nobody could {what}");
                let known: Vec<&str> = self.access.keys().map(String::as_str).collect();
                let hint = daemon::config::nearest(rule, known);
                checks.finding(&format!("{place}.access"), message, hint);
            }
        }
        let bosh = self.services.service_bosh.as_ref();
        let host_types = bosh.and_then(|bosh| bosh.host_types.as_ref());
        for (index, name) in host_types.into_iter().flatten().enumerate() {
            let path = format!("services.service_bosh.host_types[{index}]");
            if checks.is_sound(&path)
                && checks.is_sound("general.hosts")
                && !self.general.hosts.contains(name)
            {
                let message = format!("{name:?} is not one of `general.hosts`");
                checks.finding(&path, message, "add it there");
            }
        }
    }

    /// Modules that cannot run together, or not without a service.
    fn check_modules(&self, checks: &mut Checks<'_>) {
        let own = self.host_config.iter().enumerate();
        let own = own.filter_map(|(index, own)| {
            let modules = own.modules.as_ref()?;
            Some((format!("host_config[{index}].modules"), modules))
        });
        for (path, modules) in own.chain([("modules".to_owned(), &self.modules)]) {
            if !checks.is_sound(&path) {
                continue;
            }
            let clashes = needs::resolve(modules, self.services.keys()).err();
            for clash in clashes.unwrap_or_default() {
                checks.finding(&path, clash.what, clash.mend);
            }
            self.check_subdomains(checks, &path, modules);
        }
    }

    /// A subdomain of a module is none of the domains whose users log in.
    fn check_subdomains(&self, checks: &mut Checks<'_>, path: &str, modules: &ModulesConfig) {
        if !checks.is_sound("general.hosts") {
            return;
        }
        let hosts = &self.general.hosts;
        let is_taken = |name: &str| hosts.iter().any(|host| *host == name);
        for (option, pattern) in modules.subdomains() {
            let path = format!("{path}.{option}");
            let mut names = hosts
                .iter()
                .filter_map(|host| subdomains::name(pattern, host));
            if let Some(name) = names.find(|name| is_taken(name))
                && checks.is_sound(&path)
            {
                let message = format!("{:?} is one of `general.hosts`", &*name);
                checks.finding(&path, message, "give it another name");
            }
        }
    }

    /// Components whose stanzas others could read on the way.
    fn check_components(&self, is_meant: bool, checks: &mut Checks<'_>) {
        for (index, listener) in self.listen.component.iter().enumerate() {
            let path = format!("listen.component[{index}]");
            let is_open = listener.tls.is_none() && !listener.is_local();
            if is_open && !is_meant && checks.is_sound(&path) {
                let message = "components would send and get messages without encryption";
                let hint = "add `tls = {}`, or say \
                    `i_know_unsafe = [\"component_without_tls\"]` in `[general]`";
                checks.finding(&path, message, hint);
            }
        }
    }

    /// Ports that ask clients for certificates know which are good.
    fn check_certificates(&self, checks: &mut Checks<'_>) {
        let is_sound = ["auth", "host_config", "general.i_know_unsafe"];
        if !is_sound.iter().all(|path| checks.is_sound(path)) {
            return;
        }
        let methods = self.methods();
        for (index, listener) in self.listen.c2s.iter().enumerate() {
            let path = format!("listen.c2s[{index}]");
            let Some(tls) = listener.tls.as_ref().filter(|_| checks.is_sound(&path)) else {
                continue;
            };
            if !listener.asks_for_certificates(&methods) {
                continue;
            }
            let is_meant = self
                .general
                .i_know_unsafe
                .contains(&Unsafe::SelfSignedLogin);
            match tls.verify_mode {
                VerifyMode::Peer if tls.cacertfile.is_none() => {
                    let message = "clients are asked for a certificate (`[auth.pki]`), and nobody \
                        is named who vouches for one";
                    let hint = "add `cacertfile`, or `verify_mode = \"none\"` for a port that \
                        does not ask";
                    checks.finding(&format!("{path}.tls"), message, hint);
                }
                VerifyMode::SelfsignedPeer if !is_meant => {
                    let message = "whoever makes a certificate with somebody's name in it could \
                        log in as them";
                    let hint = "write `verify_mode = \"peer\"`, or say \
                        `i_know_unsafe = [\"self_signed_login\"]` in `[general]`";
                    checks.finding(&format!("{path}.tls.verify_mode"), message, hint);
                }
                _ => {}
            }
        }
    }

    /// What would hurt somebody who does not know what it does.
    fn check_safety(&self, checks: &mut Checks<'_>) {
        if !checks.is_sound("general.i_know_unsafe") {
            return;
        }
        let is_known = |setting: Unsafe| self.general.i_know_unsafe.contains(&setting);
        if !is_known(Unsafe::C2sWithoutTls) {
            for (index, listener) in self.listen.c2s.iter().enumerate() {
                let path = format!("listen.c2s[{index}]");
                let is_open = listener.tls.is_none() && !listener.is_local();
                if is_open && listener.tls_at_balancer && checks.is_sound(&path) {
                    if !listener.proxy_protocol {
                        let message = "whoever reaches this port without the balancer \
                            would send passwords and messages without encryption";
                        let hint = "add `proxy_protocol = true`, which only the balancer's \
                            networks may use, or say \
                            `i_know_unsafe = [\"c2s_without_tls\"]` in `[general]`";
                        checks.finding(&format!("{path}.tls_at_balancer"), message, hint);
                    }
                } else if is_open && checks.is_sound(&path) {
                    let message = "clients would send passwords and messages without encryption";
                    let hint = "add `tls = {}`, or say \
                        `i_know_unsafe = [\"c2s_without_tls\"]` in `[general]`";
                    checks.finding(&path, message, hint);
                }
            }
            for (index, listener) in self.listen.http.iter().enumerate() {
                let path = format!("listen.http[{index}]");
                let handlers = &listener.handlers;
                let has_clients = !handlers.mongoose_websocket_handler.is_empty()
                    || !handlers.mongoose_bosh_handler.is_empty();
                let is_open = listener.tls.is_none() && !listener.is_local();
                let is_announced = listener.tls_at_balancer && listener.proxy_protocol;
                if has_clients && is_open && !is_announced && checks.is_sound(&path) {
                    let message = "clients would send passwords and messages without encryption";
                    let hint = "add `tls = {}`; if a balancer in front of it ends TLS, add \
                        `tls_at_balancer = true` and `proxy_protocol = true`, or say `i_know_unsafe = [\"c2s_without_tls\"]` in \
                        `[general]`";
                    checks.finding(&path, message, hint);
                }
            }
        }
        self.check_components(is_known(Unsafe::ComponentWithoutTls), checks);
        self.check_admin_api(is_known(Unsafe::GraphqlWithoutTls), checks);
        let is_reachable = self.listen.c2s.iter().any(|listener| !listener.is_local());
        if is_reachable && checks.is_sound("listen.c2s") && !is_known(Unsafe::DummyAuth) {
            let own = self.host_config.iter().enumerate();
            let own = own.filter_map(|(index, own)| {
                let auth = own.auth.as_ref()?;
                Some((format!("host_config[{index}].auth"), auth))
            });
            for (path, auth) in own.chain([("auth".to_owned(), &self.auth)]) {
                if auth.methods().contains(&Method::Dummy) {
                    let message = "the method `dummy` lets everyone in as anyone";
                    let hint = "take it out, or say \
                        `i_know_unsafe = [\"dummy_auth\"]` in `[general]`";
                    let key = if auth.methods.is_some() {
                        "methods"
                    } else {
                        "dummy"
                    };
                    checks.finding(&format!("{path}.{key}"), message, hint);
                }
            }
        }
    }
}

impl Config {
    /// Whoever may use the admin API may do everything.
    fn check_admin_api(&self, may_be_plain: bool, checks: &mut Checks<'_>) {
        for (index, listener) in self.listen.http.iter().enumerate() {
            if listener.address().ip().is_loopback() {
                continue;
            }
            for (number, handler) in listener
                .handlers
                .mongoose_graphql_handler
                .iter()
                .enumerate()
            {
                let path =
                    format!("listen.http[{index}].handlers.mongoose_graphql_handler[{number}]");
                if !checks.is_sound(&path) {
                    continue;
                }
                if handler.username.is_none() {
                    let message = "everybody who reaches this port would be an administrator";
                    let hint = "add `username` and `password`, or `ip_address = \"127.0.0.1\"`";
                    checks.finding(&path, message, hint);
                } else if listener.tls.is_none() && !may_be_plain {
                    let message = "the administrator's password would be sent without encryption";
                    let hint = "add `tls = {}`, or say \
                        `i_know_unsafe = [\"graphql_without_tls\"]` in `[general]`";
                    checks.finding(&path, message, hint);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
