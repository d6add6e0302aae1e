//! `[general]`: what holds for the node as a whole, and defaults of its host types.

use std::path::PathBuf;
use std::time::Duration;

use daemon::config::{Check, Checks, Millis, OrInfinity, Seconds};
use daemon::logs;
use protocol::jid::prepare_domain;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What holds for the node as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct General {
    /// The XMPP domains that this node serves. Each is a host type of the same name.
    pub hosts: Vec<String>,
    /// The domain that speaks where no other is known, such as to a client that names none; by default the
    /// first of `hosts`.
    pub default_server_domain: Option<String>,
    /// How much is logged.
    pub loglevel: logs::Level,
    /// The form of the log's lines. Ours.
    pub log_format: logs::Format,
    /// The language of streams and of texts to clients that name none.
    pub language: String,
    /// How long a new session waits for the old one of the same resource to close.
    pub replaced_wait_timeout: Millis,
    /// Where the connected components stand: in the memory of this node, which is all that there is yet.
    pub component_backend: ComponentBackend,
    /// Leaves the server's name out of stream errors and of its identity.
    pub hide_service_name: bool,
    /// How long one address waits between two registrations.
    pub registration_timeout: OrInfinity<Seconds>,
    /// When a client's stanza is acknowledged (XEP-0198). Ours.
    pub acknowledge: Acknowledge,
    /// Where the node keeps what no option names: its database, its self-signed certificate, its control
    /// socket. Relative to the working directory; made if it is not there. Ours.
    pub data_dir: PathBuf,
    /// How long a shutdown waits for sessions and tasks before it cuts them, in seconds. Ours.
    #[schemars(range(min = 0, max = 3600))]
    pub shutdown_grace_secs: Seconds,
    /// How many sessions are told per second to go elsewhere while the node shuts down, so that those who
    /// take them over are not run down. Ours.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub shutdown_sessions_per_sec: u32,
    /// Where sessions are told to go when the node shuts down (`see-other-host`): a name or an address,
    /// with a port if it is not 5222. Without it they are told `system-shutdown`. Ours.
    pub shutdown_see_other_host: Option<String>,
    /// Unsafe settings that are meant; without their name here they are findings. Ours.
    pub i_know_unsafe: Vec<Unsafe>,
}

/// When a client's stanza counts as acknowledged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Acknowledge {
    /// It was acknowledged by its receiver, is committed to the database, or was answered with an error.
    #[default]
    Settled,
    /// It was handed on: it stands in an outlet, a queue or the store, and a crash can lose it.
    Routed,
}

/// Where the connected components stand.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ComponentBackend {
    /// In the memory of each node.
    #[default]
    Mnesia,
}

/// A setting that hurts who does not know what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unsafe {
    /// A `[[listen.c2s]]` without `tls` on an address that others can reach: passwords and messages can be
    /// read on the way.
    C2sWithoutTls,
    /// A `[[listen.component]]` without `tls` on an address that others can reach: what its components send and get
    /// can be read and changed on the way.
    ComponentWithoutTls,
    /// `verify_mode = "selfsigned_peer"` on a port where the method `pki` may be used: whoever makes a certificate with
    /// somebody's name in it is let in as them.
    SelfSignedLogin,
    /// The authentication method `dummy` on a node that others can reach: it lets everyone in as anyone.
    DummyAuth,
    /// `mongoose_graphql_handler` on a port without `tls` that others can reach: the administrator's password can be
    /// read on the way.
    GraphqlWithoutTls,
}

impl Default for General {
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            default_server_domain: None,
            loglevel: logs::Level::Warning,
            log_format: logs::Format::Text,
            language: "en".into(),
            replaced_wait_timeout: Millis(2000),
            component_backend: ComponentBackend::Mnesia,
            hide_service_name: false,
            registration_timeout: OrInfinity::Value(Seconds(600)),
            acknowledge: Acknowledge::Settled,
            data_dir: "meerkat-data".into(),
            shutdown_grace_secs: Seconds(30),
            shutdown_sessions_per_sec: 500,
            shutdown_see_other_host: None,
            i_know_unsafe: Vec::new(),
        }
    }
}

/// A node serves at most this many domains that are named in its file.
pub const HOSTS_MAX: usize = 10_000;

impl General {
    /// The domain that speaks where no other is known. Empty only if there are no hosts.
    pub fn default_domain(&self) -> &str {
        let first = || self.hosts.first().map_or("", String::as_str);
        self.default_server_domain.as_deref().unwrap_or_else(first)
    }

    /// How long a shutdown waits before it cuts.
    pub fn shutdown_grace(&self) -> Duration {
        self.shutdown_grace_secs.duration()
    }
}

impl Check for General {
    fn check(&self, checks: &mut Checks<'_>) {
        if checks.is_sound("hosts") {
            self.check_hosts(checks);
        }
        if let Some(domain) = &self.default_server_domain
            && prepare_domain(domain).is_err()
        {
            let message = format!("{domain:?} is not a domain");
            checks.finding("default_server_domain", message, "");
        }
        if self.data_dir.as_os_str().is_empty() {
            checks.finding("data_dir", "the directory has no name", "");
        }
        if !is_language(&self.language) {
            let message = format!("{:?} is not a language tag", self.language);
            checks.finding("language", message, "such as `en` or `pt-BR`");
        }
    }
}

impl General {
    fn check_hosts(&self, checks: &mut Checks<'_>) {
        if self.hosts.is_empty() {
            let message = "`hosts` is empty: the node would serve no domain";
            checks.finding("hosts", message, "add `hosts = [\"example.org\"]`");
        }
        if self.hosts.len() > HOSTS_MAX {
            let message = format!("`hosts` has more than {HOSTS_MAX} domains");
            checks.finding("hosts", message, "");
            return;
        }
        let mut seen = std::collections::BTreeMap::new();
        for (index, host) in self.hosts.iter().enumerate() {
            let path = format!("hosts[{index}]");
            match prepare_domain(host) {
                Err(_) => checks.finding(&path, format!("{host:?} is not a domain"), ""),
                Ok(domain) if domain != *host => {
                    let message = format!("{host:?} is not how this domain is written");
                    checks.finding(&path, message, format!("write {domain:?}"));
                }
                Ok(domain) => {
                    if seen.insert(domain.into_owned(), index).is_some() {
                        checks.finding(&path, format!("{host:?} stands twice in `hosts`"), "");
                    }
                }
            }
        }
    }
}

/// Whether a text has the form of a language tag (RFC 5646, without its registry).
fn is_language(tag: &str) -> bool {
    let is_subtag = |part: &str| {
        (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    tag.len() <= 35
        && tag.starts_with(|first: char| first.is_ascii_alphabetic())
        && tag.split('-').all(is_subtag)
}
