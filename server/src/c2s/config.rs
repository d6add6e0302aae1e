//! What a listener gives to the connections it accepts.
use std::time::Duration;

use transport::{ProxyProtocol, ServerTls};

use crate::auth::MethodKind;

/// Whether and when a stream is encrypted (`listen.c2s.tls.mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsMode {
    /// No TLS at all.
    None,
    /// From the first byte (XEP-0368).
    Direct,
    /// STARTTLS is offered.
    StartTls,
    /// Nothing but STARTTLS is offered before it.
    StartTlsRequired,
}

/// Settings of one client listener, shared by its connections.
pub struct ListenerSettings {
    /// When TLS starts.
    pub tls_mode: TlsMode,
    /// Certificates, unless the mode is `None`.
    pub tls: Option<ServerTls>,
    /// A balancer in front ends TLS: what comes here counts as encrypted.
    pub tls_at_balancer: bool,
    /// Who may announce clients' addresses, if anybody has to.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Longest time in one state before bind.
    pub state_timeout: Duration,
    /// Largest stanza in bytes after login.
    pub stanza_bytes_max: u32,
    /// The access rule that says who may open a session.
    pub access: Box<str>,
    /// Methods that may be used here; `None`: all that the host has.
    pub allowed_methods: Option<Vec<MethodKind>>,
    /// Bytes per second that a client may send on the average; `None` is no limit.
    pub shaper_rate: Option<u32>,
    /// Whether the session of RFC 3921 is advertised.
    pub backwards_compatible_session: bool,
    /// Bytes a client may send before it has logged in.
    pub bytes_before_login_max: usize,
    /// Connections of this listener at a time.
    pub connections_max: usize,
}
