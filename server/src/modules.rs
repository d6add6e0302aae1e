//! The module registry: one list, in the order in which modules start and, within a stage, run.
//!
//! A module file has its parts in this order: `Config`, `needs`, `start`, the handlers, the tests. There is no `stop`:
//! what a module registers belongs to its host and goes away with it. To add a module, add two lines here.
use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use daemon::Tasks;
use protocol::Element;

use crate::auth::Auth;
use crate::auth::registration::Registration;
use crate::hooks::{Event, Handle, Hooks, Stage};
use crate::host::{Parts, Pings, StreamManagement};
use crate::iq::{HandleIq, IqTable, Target};
use crate::metrics::HookMetrics;
use crate::router::Router;
use crate::router::subdomains::{self, Serve, Subdomain};
use crate::storage::Db;

pub mod blocking;
pub mod caps;
pub mod carbons;
pub mod config;
pub mod csi;
pub mod disco;
pub mod last;
pub mod needs;
pub mod offline;
pub mod ping;
pub mod presence;
pub mod privacy;
pub mod private;
pub mod register;
pub mod roster;
pub mod stream_management;
#[cfg(test)]
mod takeover;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub mod time;
pub mod vcard;
pub mod version;

pub use needs::{Need, Needs};

/// A module that could not start.
#[derive(Debug, thiserror::Error)]
#[error("{module} of {host_type} could not start: {reason}")]
pub struct StartError {
    /// Its configuration key.
    pub module: &'static str,
    /// For which host type.
    pub host_type: Box<str>,
    /// Why.
    pub reason: String,
}

/// What a module may use while it starts.
pub struct Start<'a> {
    module: &'static str,
    /// The name of the host type.
    pub host_type: &'a str,
    /// Domains of this host.
    pub domains: &'a [Box<str>],
    /// The node's router.
    pub router: &'a Arc<Router>,
    /// The database.
    pub db: &'a Db,
    /// Background tasks; they end with the node.
    pub tasks: &'a Tasks,
    /// Accounts of this host.
    pub auth: &'a Auth,
    /// Access rules of this host.
    pub access: &'a crate::access::AccessRules,
    /// What the modules make of the host.
    pub made: &'a mut Made,
}

/// What a host's modules register.
pub struct Made {
    /// Handlers.
    pub hooks: Hooks,
    /// Owners of requests.
    pub iq: IqTable,
    /// Features announced after login.
    pub stream_features: Vec<Element>,
    /// Features of domains and accounts (XEP-0030).
    features: Vec<(Target, &'static str)>,
    /// Settings of stream management.
    pub stream_management: Option<StreamManagement>,
    /// Stanzas that may be held back for an inactive client (XEP-0352).
    pub held_max: Option<usize>,
    /// What modules own beside each domain.
    pub subdomains: Vec<Subdomain>,
    /// How silent clients are asked (XEP-0199).
    pub pings: Option<Pings>,
    /// Who may make an account for themselves (XEP-0077).
    pub registration: Option<Arc<Registration>>,
    /// What modules let others use.
    pub parts: Parts,
}

impl Made {
    /// Nothing yet.
    pub fn new(metrics: Arc<HookMetrics>) -> Self {
        Self {
            hooks: Hooks::new(metrics),
            iq: IqTable::default(),
            stream_features: Vec::new(),
            features: Vec::new(),
            stream_management: None,
            held_max: None,
            subdomains: Vec::new(),
            registration: None,
            pings: None,
            parts: Parts::default(),
        }
    }
}

impl Start<'_> {
    /// Reacts to an event.
    pub fn on<E: Event, H: Handle<E>>(&mut self, stage: Stage, handler: &Arc<H>) {
        self.made.hooks.add::<E, H>(stage, self.module, handler);
    }

    /// Answers requests with that payload.
    pub fn iq<H: HandleIq>(
        &mut self,
        payload: (&'static str, &'static str),
        target: Target,
        handler: &Arc<H>,
    ) -> Result<(), StartError> {
        let added = self.made.iq.add(self.module, payload, target, handler);
        added.map_err(|reason| self.error(reason))
    }

    /// Announces something after login.
    pub fn stream_feature(&mut self, feature: Element) {
        self.made.stream_features.push(feature);
    }

    /// Announces what a domain or an account can do to those who ask it (XEP-0030).
    pub fn feature(&mut self, target: Target, feature: &'static str) {
        self.made.features.push((target, feature));
    }

    /// What has been announced so far, in an order that does not depend on that of the modules.
    pub fn features(&self, target: Target) -> Vec<&'static str> {
        let announced = self.made.features.iter();
        let mut features: Vec<_> = announced
            .filter(|(of, _)| *of == target)
            .map(|(_, feature)| *feature)
            .collect();
        features.sort_unstable();
        features
    }

    /// Owns a subdomain of each domain: `pattern` has [`AT_HOST`](crate::router::subdomains::AT_HOST) in its place. Who
    /// asks for the server's items finds it.
    pub fn subdomain<S: Serve>(&mut self, pattern: &str, owner: &Arc<S>) -> Result<(), StartError> {
        for domain in self.domains {
            let name = subdomains::name(pattern, domain);
            let name = name.ok_or_else(|| self.error(format!("{pattern:?} is no domain")))?;
            let mut made = self.made.subdomains.iter();
            if let Some(other) = made.find(|other| other.of(domain).as_ref() == Some(&name)) {
                let module = other.module();
                return Err(self.error(format!("{name} is a subdomain of {module}")));
            }
        }
        let subdomain = Subdomain::new(pattern, self.module, owner);
        self.made.subdomains.push(subdomain);
        Ok(())
    }

    /// Subdomains that have been made so far.
    pub fn subdomains(&self) -> &[Subdomain] {
        &self.made.subdomains
    }

    /// Lets later modules use something of this one.
    pub fn provide<T: Any + Send + Sync>(&mut self, thing: Arc<T>) {
        self.made.parts.insert(thing);
    }

    /// What an earlier module provides; the module that does must stand in [`Needs`].
    pub fn get<T: Any + Send + Sync>(&self) -> Result<Arc<T>, StartError> {
        let thing = self.made.parts.get::<T>();
        thing.ok_or_else(|| self.error(format!("{} is not provided", std::any::type_name::<T>())))
    }

    /// This module cannot start.
    pub fn error(&self, reason: impl Into<String>) -> StartError {
        StartError {
            module: self.module,
            host_type: self.host_type.into(),
            reason: reason.into(),
        }
    }
}

/// Options whose names end in `backend`.
fn backends(config: &impl serde::Serialize) -> BTreeMap<String, String> {
    let options = serde_json::to_value(config).unwrap_or_default();
    let options = options.as_object().into_iter().flatten();
    options
        .filter(|(key, _)| key.ends_with("backend"))
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

macro_rules! modules {
    ($($name:ident = $key:literal)*) => {
        /// `[modules]`: a table under its key switches a module on.
        #[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct ModulesConfig {
            $(
                #[doc = concat!("Options of `", $key, "`.")]
                #[serde(rename = $key, skip_serializing_if = "Option::is_none")]
                pub $name: Option<$name::Config>,
            )*
        }

        /// Settings of one module, as another one asks for them.
        #[derive(Clone, Debug, PartialEq)]
        #[allow(non_camel_case_types, missing_docs)]
        pub enum ModuleConfig { $($name($name::Config),)* }

        impl ModuleConfig {
            /// The key of the module.
            pub fn key(&self) -> &'static str {
                match self { $(Self::$name(_) => $key,)* }
            }
        }

        impl ModulesConfig {
            /// Keys of all modules there are, in start order.
            pub const KEYS: &'static [&'static str] = &[$($key),*];

            /// The settings of a module, if it is switched on.
            pub fn get(&self, key: &str) -> Option<ModuleConfig> {
                match key {
                    $($key => self.$name.clone().map(ModuleConfig::$name),)*
                    _ => None,
                }
            }

            /// Switches a module on.
            pub fn set(&mut self, config: ModuleConfig) {
                match config { $(ModuleConfig::$name(config) => self.$name = Some(config),)* }
            }

            /// The modules that are switched on, each with its options that say where it keeps what it stores.
            pub fn facts(&self) -> BTreeMap<String, BTreeMap<String, String>> {
                let mut all = BTreeMap::new();
                $(if let Some(config) = &self.$name {
                    all.insert($key.to_owned(), backends(config));
                })*
                all
            }

            /// The settings that a module has by default.
            pub fn default_of(key: &str) -> Option<ModuleConfig> {
                match key {
                    $($key => Some(ModuleConfig::$name(<$name::Config as Default>::default())),)*
                    _ => None,
                }
            }

            /// What the modules that are switched on need, with their keys.
            pub fn needs(&self) -> Vec<(&'static str, Needs)> {
                let mut all = Vec::new();
                $(if let Some(config) = &self.$name { all.push(($key, $name::needs(config))); })*
                all
            }
        }

        /// Starts the modules of a host that are switched on, in order.
        pub async fn start_all(config: &ModulesConfig, mut start: Start<'_>) -> Result<(), StartError> {
            $(if let Some(config) = &config.$name {
                start.module = $key;
                $name::start(config.clone(), &mut start).await?;
            })*
            Ok(())
        }
    };
}

modules! { // start order; within a stage, also run order
    stream_management = "mod_stream_management"
    roster = "mod_roster"
    presence = "mod_presence"
    privacy = "mod_privacy"
    blocking = "mod_blocking"
    offline = "mod_offline"
    carbons = "mod_carboncopy"
    csi = "mod_csi"
    ping = "mod_ping"
    version = "mod_version"
    time = "mod_time"
    private = "mod_private"
    vcard = "mod_vcard"
    last = "mod_last"
    register = "mod_register"
    caps = "mod_caps"
    disco = "mod_disco" // last: it tells what the others have announced
}

impl<'a> Start<'a> {
    /// A start of no module yet.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        host_type: &'a str,
        domains: &'a [Box<str>],
        router: &'a Arc<Router>,
        db: &'a Db,
        tasks: &'a Tasks,
        auth: &'a Auth,
        access: &'a crate::access::AccessRules,
        made: &'a mut Made,
    ) -> Self {
        Self {
            module: "",
            host_type,
            domains,
            router,
            db,
            tasks,
            auth,
            access,
            made,
        }
    }
}
