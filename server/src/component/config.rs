//! `[[listen.component]]`: a port for external components.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use daemon::Secret;
use daemon::config::{Bytes, Check, Checks, Millis, OrInfinity};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use transport::ProxyProtocol;

use crate::listen::config::{
    Proto, STATE_TIMEOUT_MAX, TlsFiles, TlsVersion, VerifyMode, address, check_family,
    check_proxy_protocol, proxy_protocol,
};

/// A port for external components (XEP-0114).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ComponentListener {
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
    #[serde(default = "ComponentListener::default_backlog")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub backlog: u32,
    /// How many connections this port has at the same time; further ones are closed at once.
    #[serde(default = "ComponentListener::default_max_connections")]
    pub max_connections: OrInfinity<u64>,
    /// The greatest stanza that a component may send. A greater one is answered with `not-allowed`; one of more than
    /// twice that size ends the stream with `policy-violation`.
    #[serde(default = "ComponentListener::default_max_stanza_size")]
    #[schemars(range(min = 10_000, max = 262_144))]
    pub max_stanza_size: Bytes,
    /// Accepted and not used: one task accepts.
    #[serde(default = "ComponentListener::default_num_acceptors")]
    #[schemars(range(min = 1, max = 100_000))]
    pub num_acceptors: u32,
    /// How long a component may take for each step until it has proven who it is; `"infinity"` is a minute.
    #[serde(default = "ComponentListener::default_state_timeout")]
    pub state_timeout: OrInfinity<Millis>,
    /// The shaper that slows components down, by its name in `[shaper]`, or `none`.
    #[serde(default = "ComponentListener::default_shaper")]
    pub shaper: String,
    /// The access rule that says who may send something to components of this port. Classes and rules are those of
    /// the node, not of a host type.
    #[serde(default = "ComponentListener::default_access")]
    pub access: String,
    /// The secret that components of this port have to know.
    #[serde(default)]
    pub password: Option<Secret>,
    /// A file with that secret, instead of `password`. Ours.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Whether a component speaks for its own domain alone. Without it, one may write in anybody's name.
    #[serde(default = "ComponentListener::default_true")]
    pub check_from: bool,
    /// What happens when a component connects for a domain that another one has.
    #[serde(default)]
    pub conflict_behaviour: ConflictBehaviour,
    /// Hides components of this port from service discovery.
    #[serde(default)]
    pub hidden_components: bool,
    /// Each connection begins with a header that tells the component's address (the PROXY protocol, version 1 or 2),
    /// as a balancer sends it. A connection without one is closed.
    #[serde(default)]
    pub proxy_protocol: bool,
    /// The networks that may send such a header, as in `["10.0.0.0/8"]`; connections from elsewhere are closed. By
    /// default this machine alone. Ours.
    #[serde(default)]
    pub proxy_protocol_networks: Option<Vec<String>>,
    /// Lets several sockets listen on the same port (`SO_REUSEPORT`).
    #[serde(default)]
    pub reuse_port: bool,
    /// Accepted and not used: an idle connection holds no buffer anyway.
    #[serde(default = "ComponentListener::default_hibernate_after")]
    pub hibernate_after: OrInfinity<Millis>,
    /// Encryption; absent means none.
    #[serde(default)]
    pub tls: Option<ComponentTls>,
}

/// Who stays when a domain comes twice.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConflictBehaviour {
    /// The one that is there; the new one gets `conflict`.
    #[default]
    Disconnect,
    /// The new one; the one that is there gets `conflict`.
    KickOld,
}

/// Encryption of a port for components.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ComponentTls {
    /// When encryption begins: with the connection, as components have no STARTTLS.
    pub mode: ComponentTlsMode,
    /// The certificate chain, PEM, the server's own certificate first. Without it the node makes a
    /// self-signed certificate for its domains and keeps it in `data_dir`.
    pub certfile: Option<PathBuf>,
    /// The private key of `certfile`, PEM, without a passphrase.
    pub keyfile: Option<PathBuf>,
    /// The versions of TLS to speak.
    pub versions: Vec<TlsVersion>,
    /// Accepted: components are asked for no certificate, so none is checked, whatever stands here.
    pub verify_mode: VerifyMode,
}

/// When encryption of a component's connection begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ComponentTlsMode {
    /// With the connection.
    #[default]
    Tls,
}

impl Default for ComponentTls {
    fn default() -> Self {
        Self {
            mode: ComponentTlsMode::Tls,
            certfile: None,
            keyfile: None,
            versions: vec![TlsVersion::Tls12, TlsVersion::Tls13],
            verify_mode: VerifyMode::Peer,
        }
    }
}

impl ComponentTls {
    /// What it has in common with other listeners.
    pub fn files(&self) -> TlsFiles<'_> {
        TlsFiles {
            certfile: self.certfile.as_deref(),
            keyfile: self.keyfile.as_deref(),
            versions: &self.versions,
            certificates: &[],
        }
    }
}

impl ComponentListener {
    /// Where to listen.
    pub fn address(&self) -> SocketAddr {
        address(self.ip_address, self.ip_version, self.port)
    }

    /// Whether only this machine can reach it.
    pub fn is_local(&self) -> bool {
        self.address().ip().is_loopback()
    }

    /// How long a component may take for each step, at most [`STATE_TIMEOUT_MAX`].
    pub fn state_timeout(&self) -> Duration {
        let timeout = self.state_timeout.finite().map(Millis::duration);
        timeout.map_or(STATE_TIMEOUT_MAX, |timeout| timeout.min(STATE_TIMEOUT_MAX))
    }

    /// The name of the shaper; `None` for `none`.
    pub fn shaper(&self) -> Option<&str> {
        Some(self.shaper.as_str()).filter(|name| *name != "none")
    }

    /// Who may announce components' addresses, if anybody does.
    pub fn proxy_protocol(&self) -> Option<ProxyProtocol> {
        proxy_protocol(self.proxy_protocol, self.proxy_protocol_networks.as_deref())
    }

    fn default_backlog() -> u32 {
        1024
    }

    /// MongooseIM has no limit.
    fn default_max_connections() -> OrInfinity<u64> {
        OrInfinity::Value(1_000)
    }

    /// MongooseIM has no limit.
    fn default_max_stanza_size() -> Bytes {
        Bytes(65_536)
    }

    fn default_num_acceptors() -> u32 {
        100
    }

    fn default_state_timeout() -> OrInfinity<Millis> {
        OrInfinity::Value(Millis(5000))
    }

    fn default_shaper() -> String {
        "none".into()
    }

    fn default_access() -> String {
        "all".into()
    }

    fn default_true() -> bool {
        true
    }

    fn default_hibernate_after() -> OrInfinity<Millis> {
        OrInfinity::Value(Millis(0))
    }
}

impl Check for ComponentListener {
    fn check(&self, checks: &mut Checks<'_>) {
        check_family(self.ip_address, self.ip_version, checks);
        if let Some(tls) = &self.tls {
            checks.within("tls", |checks| tls.files().check(checks));
        }
        if self.max_connections == OrInfinity::Value(0) {
            let message = "no connection is allowed on this port";
            checks.finding("max_connections", message, "");
        }
        let networks = self.proxy_protocol_networks.as_deref();
        check_proxy_protocol(self.proxy_protocol, networks, self.is_local(), checks);
        self.check_password(checks);
    }
}

impl ComponentListener {
    fn check_password(&self, checks: &mut Checks<'_>) {
        if !checks.is_sound("password") || !checks.is_sound("password_file") {
            return;
        }
        match (&self.password, &self.password_file) {
            (None, None) => {
                let message = "`password` is missing in `[[listen.component]]`";
                let hint =
                    "add `password_file = \"…\"`, a file with the secret that components know";
                checks.finding("", message, hint);
            }
            (Some(_), Some(_)) => {
                let message = "`password` and `password_file` are both given";
                checks.finding("password_file", message, "remove one of them");
            }
            (None, Some(file)) => checks.file("password_file", file),
            (Some(_), None) => {}
        }
    }
}
