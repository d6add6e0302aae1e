//! RFC 8446, RFC 5246: a connection's TLS as bytes in and bytes out; what the rest of the server sees of it.

mod budget;
mod exporter;
mod observe;
mod records;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::certificates::ClientIdentity;

pub use budget::{
    EMPTY_RECORDS_BURST_MAX, EMPTY_RECORDS_PER_SECOND_MAX, TINY_RECORD_BYTES,
    TINY_RECORDS_BURST_MAX, TINY_RECORDS_PER_SECOND_MAX,
};
pub(crate) use exporter::ExporterLog;
pub(crate) use observe::{observe_certificate, observe_client};
pub(crate) use records::UnbufferedRecords;
pub use records::{
    CLIENT_HELLO_BYTES_MAX, HANDSHAKE_BYTES_MAX, HELD_BYTES_MAX, RECORD_PLAINTEXT_BYTES_MAX,
};

/// One connection's TLS, server side. It does no I/O and keeps no buffer but an unfinished record.
///
/// One state serves both directions, so whoever holds it for writing also holds it for reading.
pub trait TlsRecords: Send {
    /// Takes received bytes, which may be changed in place, appends what they decrypt to to `plain`, and bytes that
    /// must be sent (handshake, tickets, alerts) to `out`. An unfinished record is kept inside.
    ///
    /// # Errors
    /// Ends the reading side: further calls answer [`TlsError::Closed`]. `plain` then holds what came before the
    /// fault and `out` the alert to send, if there is one. After a [`TlsError::Limit`] on an established connection
    /// there is none, so that a stream error can still be sealed and [`close_notify`](Self::close_notify) follow it;
    /// after any other error sealing is over as well.
    fn feed(
        &mut self,
        ciphertext: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Feed, TlsError>;

    /// Whether application data can neither be sealed nor come in yet.
    fn is_handshaking(&self) -> bool;

    /// Encrypts `plain` and appends it to `out`: one record if it fits into [`RECORD_PLAINTEXT_BYTES_MAX`], else as
    /// many as it takes. Answers to the peer's key updates go in front.
    ///
    /// # Errors
    /// `out` is as it was, or holds a last alert after [`TlsError::KeysExhausted`].
    fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError>;

    /// Appends the `close_notify` alert, once; nothing can be sealed after it. Without effect during the handshake and
    /// after a fault.
    fn close_notify(&mut self, out: &mut Vec<u8>);

    /// The facts of the finished handshake, given out once and then forgotten; `None` before it is finished.
    fn take_handshake(&mut self) -> Option<Handshake>;
}

/// What [`TlsRecords::feed`] found besides data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feed {
    /// The peer sent `close_notify`: no data follows. A socket that ends without it was cut.
    pub peer_closed: bool,
}

/// What login and logs need to know of a finished handshake.
#[derive(Clone, PartialEq, Eq)]
pub struct Handshake {
    /// The version agreed on.
    pub version: TlsVersion,
    /// The cipher suite agreed on, by its IANA name.
    pub cipher_suite: &'static str,
    /// Whether an earlier session was resumed by its ticket.
    pub resumed: bool,
    /// The name that the client asked for (RFC 6066), in lower case; it need not be one we have.
    pub server_name: Option<String>,
    /// The protocol agreed on (RFC 7301).
    pub alpn: Option<Vec<u8>>,
    /// Channel binding `tls-exporter` (RFC 9266); on TLS 1.3 only.
    pub exporter: Option<[u8; 32]>,
    /// Channel binding `tls-server-end-point` (RFC 5929): the hash of the certificate that this connection was served,
    /// whatever has been loaded since. `None` where it is not defined (Ed25519).
    pub end_point: Option<Vec<u8>>,
    /// Whom the client's certificate names, if it has shown one that is good.
    pub client: Option<Box<ClientIdentity>>,
}

/// Without the channel bindings: whoever knows them from a log is one step nearer to a login.
impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake")
            .field("version", &self.version)
            .field("cipher_suite", &self.cipher_suite)
            .field("resumed", &self.resumed)
            .field("server_name", &self.server_name)
            .field("alpn", &self.alpn.as_deref().map(String::from_utf8_lossy))
            .finish_non_exhaustive()
    }
}

/// The versions we speak (RFC 8996 has ended the others).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// RFC 5246, with ephemeral keys, AEAD and the extended master secret only.
    Tls12,
    /// RFC 8446.
    Tls13,
}

impl fmt::Display for TlsVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls12 => "TLSv1.2",
            Self::Tls13 => "TLSv1.3",
        })
    }
}

/// Why a connection's TLS ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// The first bytes are no TLS record: plain XMPP, HTTP, a scanner.
    #[error("the client does not speak TLS")]
    NotTls,
    /// No version, cipher suite, group or signature scheme in common, or something we require is missing.
    #[error("no common ground with the client: {0}")]
    Incompatible(String),
    /// The client offers application protocols (RFC 7301), and ours is not among them.
    #[error("the client offers other application protocols only")]
    NoApplicationProtocol,
    /// The client gave up with this alert.
    #[error("the client sent the alert {0}")]
    AlertReceived(String),
    /// The client breaks the protocol, or the bytes were changed on their way.
    #[error("TLS protocol violation: {0}")]
    Violation(String),
    /// The client uses up more than it may.
    #[error("TLS limit: {0}")]
    Limit(TlsLimit),
    /// The keys of a TLS 1.2 connection have sealed all that they may.
    #[error("TLS keys are used up")]
    KeysExhausted,
    /// Sealing was tried before the handshake was finished.
    #[error("the TLS handshake is not finished")]
    Handshaking,
    /// This direction was ended before, by a fault or by `close_notify`.
    #[error("TLS is closed")]
    Closed,
    /// The fault is ours, for instance no random numbers.
    #[error("TLS failed: {0}")]
    Internal(String),
}

impl TlsError {
    /// A word for a metric's label; there are as many as kinds of error.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotTls => "not_tls",
            Self::Incompatible(_) => "incompatible",
            Self::NoApplicationProtocol => "no_application_protocol",
            Self::AlertReceived(_) => "alert_received",
            Self::Violation(_) => "violation",
            Self::Limit(_) => "limit",
            Self::KeysExhausted => "keys_exhausted",
            Self::Handshaking => "handshaking",
            Self::Closed => "closed",
            Self::Internal(_) => "internal",
        }
    }
}

/// Which limit a client went over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TlsLimit {
    /// [`CLIENT_HELLO_BYTES_MAX`].
    #[error("more than {CLIENT_HELLO_BYTES_MAX} bytes before the ClientHello ended")]
    ClientHelloBytes,
    /// [`HANDSHAKE_BYTES_MAX`].
    #[error("more than {HANDSHAKE_BYTES_MAX} bytes before the handshake ended")]
    HandshakeBytes,
    /// [`HELD_BYTES_MAX`].
    #[error("more than {HELD_BYTES_MAX} bytes of one unfinished message")]
    HeldBytes,
    /// [`EMPTY_RECORDS_BURST_MAX`], [`EMPTY_RECORDS_PER_SECOND_MAX`].
    #[error("too many records without data (key updates, empty records, warnings)")]
    EmptyRecords,
    /// [`TINY_RECORDS_BURST_MAX`], [`TINY_RECORDS_PER_SECOND_MAX`].
    #[error("too many records of less than {TINY_RECORD_BYTES} bytes")]
    TinyRecords,
}
