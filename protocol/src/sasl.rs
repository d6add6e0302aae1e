//! RFC 4422, RFC 5802, RFC 7677, RFC 4616: SASL mechanisms as state machines, without a clock and without I/O.
//!
//! [`scram`] has the server's and the client's side of SCRAM, [`plain`] the one message of PLAIN, [`pass_details`] the
//! stored form of a password. Decisions are the caller's: which mechanisms are offered, who the named user is, and
//! whether an authorization identity may be used.
//!
//! Secrets here have neither `Debug` nor `Display` nor `PartialEq`, are compared in constant time only, and are
//! overwritten when they are dropped.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::SaslFailure;

mod hash;
mod keys;
pub mod pass_details;
pub mod plain;
pub mod scram;
#[cfg(test)]
mod tests;

pub use hash::ScramHash;
pub use keys::{
    ITERATIONS_MAX, SALT_BYTES, SALT_BYTES_MAX, SaltedPassword, ScramKeys, random_salt,
};
pub use pass_details::{PassDetails, PassDetailsError};
pub use plain::{Plain, password_forms};
pub use scram::{
    ClientBinding, ScramClient, ScramClientError, ScramServer, downgrade_hash, random_nonce,
};

/// Longest base64 text of one SASL element that is decoded, in bytes: what the limit of an element before login
/// leaves. A longer one is `malformed-request`.
pub const BASE64_BYTES_MAX: usize = 16_384;

/// Channel bindings for `-PLUS` mechanisms; `tls-unique` is not one of them, since TLS 1.3 does not define it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChannelBinding {
    /// Keying material of the TLS connection (RFC 9266).
    TlsExporter,
    /// Hash of the server's certificate (RFC 5929 section 4).
    TlsServerEndPoint,
}

impl ChannelBinding {
    /// All types, strongest first.
    pub const ALL: [Self; 2] = [Self::TlsExporter, Self::TlsServerEndPoint];

    /// The registered name, as in `p=` and in XEP-0440.
    pub fn name(self) -> &'static str {
        match self {
            Self::TlsExporter => "tls-exporter",
            Self::TlsServerEndPoint => "tls-server-end-point",
        }
    }

    /// The type with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|binding| binding.name() == name)
    }
}

/// Decodes the text of a SASL element (RFC 6120 section 6.4.2): `=` is empty, and so is no text at all; white space,
/// other alphabets, missing or wrong padding and left-over bits are `incorrect-encoding`; a text of more than
/// [`BASE64_BYTES_MAX`] bytes is `malformed-request`.
pub fn decode_base64(text: &str) -> Result<Vec<u8>, SaslFailure> {
    if text.len() > BASE64_BYTES_MAX {
        return Err(SaslFailure::MalformedRequest);
    }
    if text == "=" {
        return Ok(Vec::new());
    }
    STANDARD
        .decode(text)
        .map_err(|_| SaslFailure::IncorrectEncoding)
}

/// Encodes a message as the text of a SASL element; an empty one is `=` (RFC 6120 section 6.4.2).
pub fn encode_base64(message: &[u8]) -> String {
    if message.is_empty() {
        "=".to_owned()
    } else {
        STANDARD.encode(message)
    }
}
