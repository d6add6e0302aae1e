//! `[modules]`: which features a host type has (RFC 6121 and XEPs), and their options.

use std::borrow::Cow;

use daemon::config::{Check, Checks, Millis, OrInfinity, Seconds};
use protocol::BareJid;
use protocol::caps;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::ModulesConfig;
use crate::auth::registration::network::Network;
use crate::router::subdomains;

impl ModulesConfig {
    /// What a node without a configuration file has.
    pub fn zero() -> Self {
        Self {
            stream_management: Some(StreamManagement::default()),
            roster: Some(Roster {
                versioning: true,
                ..Roster::default()
            }),
            presence: Some(Presence {}),
            privacy: Some(Privacy::default()),
            blocking: Some(Blocking::default()),
            offline: Some(Offline::default()),
            carbons: Some(Carbons::default()),
            csi: Some(Csi::default()),
            ping: Some(Ping::default()),
            version: Some(Version::default()),
            time: Some(Time::default()),
            private: Some(Private::default()),
            vcard: Some(Vcard::default()),
            last: Some(Last::default()),
            register: None,
            caps: Some(Caps::default()),
            disco: Some(Disco::default()),
        }
    }
}

impl Check for ModulesConfig {
    fn check(&self, checks: &mut Checks<'_>) {
        for (path, pattern) in self.subdomains() {
            if checks.is_sound(path) && subdomains::name(pattern, "example.org").is_none() {
                let message = format!("{pattern:?} is not a domain");
                checks.finding(path, message, "such as `vjud.@HOST@`");
            }
        }
    }
}

impl ModulesConfig {
    /// Subdomains that the modules would own, with the paths of the options that say so.
    pub fn subdomains(&self) -> Vec<(&'static str, &str)> {
        let vcard = self.vcard.as_ref().filter(|vcard| vcard.search);
        let vcard = vcard.map(|vcard| ("mod_vcard.host", vcard.host.as_str()));
        vcard.into_iter().collect()
    }
}

impl StreamManagement {
    /// Stanzas that may be unacknowledged; without a limit the bytes are one.
    pub fn outbox_max(&self) -> usize {
        match self.buffer_max {
            OrInfinity::Value(max) => usize::try_from(max).unwrap_or(usize::MAX),
            OrInfinity::Infinity => usize::MAX,
        }
    }
}

/// Where a module keeps what it stores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// The database.
    #[default]
    Rdbms,
}

/// How requests to a module are queued.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Iqdisc {
    /// Accepted and not used: each session's task answers its own requests.
    #[serde(rename = "type")]
    pub kind: IqdiscType,
    /// Accepted and not used.
    #[schemars(range(min = 1, max = 100_000))]
    pub workers: Option<u32>,
}

/// A way to queue requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "accepted and not used")]
pub enum IqdiscType {
    NoQueue,
    #[default]
    OneQueue,
    Queues,
    Parallel,
}

/// Options of `mod_roster`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Roster {
    /// Where rosters are kept.
    pub backend: Backend,
    /// Tells clients the version of their roster, and sends it only when it changed.
    pub versioning: bool,
    /// Stores the version, where it would otherwise be computed from the whole roster.
    pub store_current_id: bool,
    /// How requests are queued.
    pub iqdisc: Iqdisc,
}

/// Options of `mod_presence`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Presence {}

/// Options of `mod_privacy`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Privacy {
    /// Where lists are kept.
    pub backend: Backend,
}

/// Options of `mod_blocking`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Blocking {
    /// Where it is kept: in the lists of `mod_privacy`.
    pub backend: Backend,
}

/// Options of `mod_carboncopy`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Carbons {
    /// How requests are queued.
    pub iqdisc: Iqdisc,
}

impl Default for Carbons {
    fn default() -> Self {
        Self {
            iqdisc: Iqdisc {
                kind: IqdiscType::NoQueue,
                workers: None,
            },
        }
    }
}

/// Options of `mod_csi`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Csi {
    /// How many stanzas are held back for an inactive client; one more and all are sent. Never more than 500, nor
    /// than 64 KiB of them.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub buffer_max: OrInfinity<u64>,
}

impl Default for Csi {
    fn default() -> Self {
        Self {
            buffer_max: OrInfinity::Value(20),
        }
    }
}

/// Options of `mod_ping`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Ping {
    /// Asks silent clients for a sign of life sooner than the node does anyway.
    pub send_pings: bool,
    /// After how much silence a client is asked.
    #[schemars(range(min = 1, max = 86_400))]
    pub ping_interval: Seconds,
    /// What becomes of a client that does not answer.
    pub timeout_action: TimeoutAction,
    /// How long a client has to answer.
    #[schemars(range(min = 1, max = 86_400))]
    pub ping_req_timeout: Seconds,
    /// How requests are queued.
    pub iqdisc: Iqdisc,
}

impl Default for Ping {
    fn default() -> Self {
        Self {
            send_pings: false,
            ping_interval: Seconds(60),
            timeout_action: TimeoutAction::None,
            ping_req_timeout: Seconds(32),
            iqdisc: Iqdisc {
                kind: IqdiscType::NoQueue,
                workers: None,
            },
        }
    }
}

/// What becomes of a client that does not answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TimeoutAction {
    /// Nothing yet: the node ends it when it has been silent for seven minutes.
    #[default]
    None,
    /// Its connection counts as lost.
    Kill,
}

/// Options of `mod_version`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Version {
    /// Tells on which operating system the server runs.
    pub os_info: bool,
    /// How requests are queued.
    pub iqdisc: Iqdisc,
}

impl Default for Version {
    fn default() -> Self {
        Self {
            os_info: false,
            iqdisc: Iqdisc {
                kind: IqdiscType::NoQueue,
                workers: None,
            },
        }
    }
}

/// Options of `mod_time`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Time {
    /// How requests are queued.
    pub iqdisc: Iqdisc,
}

/// Options of `mod_private`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Private {
    /// Where it is kept.
    pub backend: Backend,
    /// How requests are queued.
    pub iqdisc: Iqdisc,
}

/// Options of `mod_vcard`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Vcard {
    /// Where vCards are kept.
    pub backend: Backend,
    /// The subdomain at which people are searched; `@HOST@` stands for the domain.
    pub host: String,
    /// Lets users search for each other.
    pub search: bool,
    /// People that a search finds at most; never more than a thousand.
    pub matches: OrInfinity<u32>,
    /// How requests are queued.
    pub iqdisc: Iqdisc,
}

impl Default for Vcard {
    fn default() -> Self {
        Self {
            backend: Backend::Rdbms,
            host: "vjud.@HOST@".into(),
            search: true,
            matches: OrInfinity::Value(30),
            iqdisc: Iqdisc {
                kind: IqdiscType::Parallel,
                workers: None,
            },
        }
    }
}

/// Options of `mod_last`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Last {
    /// Where it is kept.
    pub backend: Backend,
    /// How requests are queued.
    pub iqdisc: Iqdisc,
}

/// Options of `mod_register`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Register {
    /// The access rule that the address of a new account has to pass.
    pub access: String,
    /// A message to each new account.
    pub welcome_message: WelcomeMessage,
    /// Who is told of each new account.
    pub registration_watchers: Vec<Watcher>,
    /// How hard a password must be to guess, in bits of entropy; 0 is any.
    #[schemars(range(min = 0, max = 1_000))]
    pub password_strength: u32,
    /// From which addresses accounts may be made. The first network that has the address says it; without one,
    /// they may.
    pub ip_access: Vec<IpAccess>,
    /// How requests are queued.
    pub iqdisc: Iqdisc,
}

impl Default for Register {
    fn default() -> Self {
        Self {
            access: "all".into(),
            welcome_message: WelcomeMessage::default(),
            registration_watchers: Vec::new(),
            password_strength: 0,
            ip_access: Vec::new(),
            iqdisc: Iqdisc::default(),
        }
    }
}

/// A message to each new account.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WelcomeMessage {
    /// Its subject.
    pub subject: String,
    /// Its text. Without either no message is sent.
    pub body: String,
}

/// What holds for a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IpAccess {
    /// An address, or a network such as `192.0.2.0/24`; `0.0.0.0` and `::` are all addresses of their kind.
    pub address: Network,
    /// Whether accounts may be made from there.
    pub policy: IpPolicy,
}

/// Whether something may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IpPolicy {
    /// It may.
    Allow,
    /// It may not.
    Deny,
}

impl IpPolicy {
    /// Whether it may.
    pub fn is_allowed(self) -> bool {
        self == Self::Allow
    }
}

/// The address of somebody who is told something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Watcher(BareJid);

impl Watcher {
    /// The address.
    pub fn address(&self) -> &BareJid {
        &self.0
    }
}

impl TryFrom<String> for Watcher {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let address = BareJid::parse(&text);
        address
            .map(Self)
            .map_err(|error| format!("{text:?} is no address: {error}"))
    }
}

impl From<Watcher> for String {
    fn from(watcher: Watcher) -> Self {
        watcher.0.as_str().to_owned()
    }
}

impl JsonSchema for Watcher {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Watcher".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

/// Options of `mod_caps`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Caps {
    /// Where it is kept what clients can do. Each node learns it for itself.
    pub backend: CapsBackend,
    /// How long a client has to answer what it can do.
    #[schemars(range(min = 1, max = 600_000))]
    pub iq_response_timeout: Millis,
    /// The specifications by which the server and clients name what they can do.
    pub versions: Vec<CapsVersion>,
}

impl Default for Caps {
    fn default() -> Self {
        Self {
            backend: CapsBackend::Cets,
            iq_response_timeout: Millis(5_000),
            versions: vec![CapsVersion::V1, CapsVersion::V2],
        }
    }
}

/// Where it is kept what clients can do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CapsBackend {
    /// In memory.
    #[default]
    Cets,
}

/// A way to name what one can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CapsVersion {
    /// XEP-0115.
    V1,
    /// XEP-0390.
    V2,
}

impl CapsVersion {
    /// The specification.
    pub fn version(self) -> caps::Version {
        match self {
            Self::V1 => caps::Version::V1,
            Self::V2 => caps::Version::V2,
        }
    }
}

/// Options of `mod_disco`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Disco {
    /// Further domains that the server lists when it is asked for its items.
    pub extra_domains: Vec<String>,
    /// Addresses of those who run the server (XEP-0157).
    pub server_info: Vec<ServerInfo>,
    /// How requests are queued.
    pub iqdisc: Iqdisc,
}

/// Addresses of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerInfo {
    /// The kind, such as `abuse-addresses`.
    pub name: String,
    /// The addresses, as URIs.
    pub urls: Vec<String>,
    /// The modules whose answers have it; by default all.
    pub modules: Option<Vec<String>>,
}

/// Options of `mod_offline`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Offline {
    /// Where messages are kept.
    pub backend: Backend,
    /// The access rule whose value is how many messages one account may have stored. If there is no such
    /// rule it is a thousand.
    pub access_max_user_messages: String,
    /// Stores messages of type `groupchat` too.
    pub store_groupchat_messages: bool,
}

impl Default for Offline {
    fn default() -> Self {
        Self {
            backend: Backend::Rdbms,
            access_max_user_messages: "max_user_offline_messages".into(),
            store_groupchat_messages: false,
        }
    }
}

/// Options of `mod_stream_management`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StreamManagement {
    /// Keeps stanzas that are not acknowledged, so that a session can be resumed.
    pub buffer: bool,
    /// How many stanzas are kept before the session is ended with `resource-constraint`; `"infinity"` is
    /// bounded by their bytes.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub buffer_max: OrInfinity<u64>,
    /// Asks clients for acknowledgements.
    pub ack: bool,
    /// After how many stanzas the client is asked.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub ack_freq: u32,
    /// How long a session may be resumed after its connection was lost.
    #[schemars(range(min = 1, max = 86_400))]
    pub resume_timeout: Seconds,
    /// Remembers how much a lost session had received, so that a client that comes too late can be told.
    pub stale_h: StaleH,
}

/// What is remembered of sessions that can no longer be resumed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct StaleH {
    /// Whether it is remembered.
    pub enabled: bool,
    /// How often old entries are removed.
    #[schemars(range(min = 1, max = 86_400))]
    pub repeat_after: Seconds,
    /// How old an entry gets.
    #[schemars(range(min = 1, max = 604_800))]
    pub geriatric: Seconds,
}

impl Default for StreamManagement {
    fn default() -> Self {
        Self {
            buffer: true,
            buffer_max: OrInfinity::Value(100),
            ack: true,
            ack_freq: 1,
            resume_timeout: Seconds(600),
            stale_h: StaleH::default(),
        }
    }
}

impl Default for StaleH {
    fn default() -> Self {
        Self {
            enabled: false,
            repeat_after: Seconds(1800),
            geriatric: Seconds(3600),
        }
    }
}
