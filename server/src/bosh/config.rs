//! `[services.service_bosh]`.
use daemon::config::{Check, Checks, OrInfinity, Seconds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// BOSH (XEP-0124): its sessions, whatever ports `mongoose_bosh_handler` serves them on. A handler starts it with the
/// defaults if this section is missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BoshService {
    /// Where the sessions are known: on this node.
    pub backend: Backend,
    /// How long a client may stay away between two requests before its session is lost.
    pub inactivity: OrInfinity<Seconds>,
    /// How long a request is held at most, whatever the client asks for; never more than a minute.
    pub max_wait: OrInfinity<Seconds>,
    /// Tells clients which of their requests have come, where an answer does not say so by itself.
    pub server_acks: bool,
    /// How long a client may stay away if it announces it.
    #[schemars(range(min = 0, max = 86_400))]
    pub max_pause: Seconds,
    /// The host types whose domains may be used over BOSH; by default all.
    pub host_types: Option<Vec<String>>,
}

/// Where sessions are known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// In this node's memory.
    #[default]
    Mnesia,
}

impl Default for BoshService {
    fn default() -> Self {
        Self {
            backend: Backend::Mnesia,
            inactivity: OrInfinity::Value(Seconds(30)),
            max_wait: OrInfinity::Infinity,
            server_acks: false,
            max_pause: Seconds(120),
            host_types: None,
        }
    }
}

impl Check for BoshService {
    fn check(&self, checks: &mut Checks<'_>) {
        let is_zero = |option: OrInfinity<Seconds>| option == OrInfinity::Value(Seconds(0));
        if is_zero(self.inactivity) {
            let message = "sessions would end between any two requests";
            checks.finding("inactivity", message, "some seconds are needed, usually 30");
        }
        if is_zero(self.max_wait) {
            let message = "no request would be held: clients would have to poll";
            checks.finding("max_wait", message, "some seconds are needed, usually 60");
        }
        if self.host_types.as_ref().is_some_and(Vec::is_empty) {
            let message = "no host type may be used over BOSH";
            checks.finding("host_types", message, "remove it for all");
        }
    }
}
