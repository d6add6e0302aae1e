//! SASL mechanisms by name, and what a stream must have for them.
use protocol::sasl::ScramHash;

/// A mechanism that we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    /// SCRAM, with or without channel binding (RFC 5802).
    Scram {
        /// The hash.
        hash: ScramHash,
        /// `-PLUS`.
        plus: bool,
    },
    /// RFC 4616; on encrypted streams only.
    Plain,
    /// RFC 4505.
    Anonymous,
    /// RFC 4422 appendix A: by the client's certificate (XEP-0178).
    External,
}

impl Mechanism {
    /// Its name on the wire.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scram { hash, plus: false } => hash.name(),
            Self::Scram { hash, plus: true } => hash.plus_name(),
            Self::Plain => "PLAIN",
            Self::Anonymous => "ANONYMOUS",
            Self::External => "EXTERNAL",
        }
    }

    /// Whether it binds the channel.
    pub fn binds_channel(self) -> bool {
        matches!(self, Self::Scram { plus: true, .. })
    }
}

/// What a stream has that decides which mechanisms it offers.
#[derive(Clone, Copy, Debug)]
pub struct Offer {
    /// TLS is on.
    pub encrypted: bool,
    /// STARTTLS must come first.
    pub starttls_first: bool,
    /// `tls-exporter` can be checked (TLS 1.3).
    pub exporter: bool,
    /// `tls-server-end-point` can be checked.
    pub end_point: bool,
    /// The client's certificate names an account of the stream's domain.
    pub named: bool,
}
