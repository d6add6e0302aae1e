//! RFC 5802, RFC 7677: SCRAM, both sides, with channel binding (RFC 5929, RFC 9266) and XEP-0474 Downgrade Protection.
//!
//! A server's exchange is [`ScramServer::start`] with the client's first message, [`ScramServer::challenge`] once the
//! user's keys are known, and [`ScramServer::finish`] with the client's final message. Verifying costs four hashes of a
//! few hundred bytes; the iterations are the client's work.
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use super::hash::Key;
use super::{ChannelBinding, ScramHash, ScramKeys};
use crate::SaslFailure;
use crate::jid::{JID_BYTES_MAX, PART_BYTES_MAX};

mod client;
#[cfg(test)]
mod tests;

pub use client::{ClientBinding, ScramClient, ScramClientError};

/// Longest message of either side in bytes: what [`super::BASE64_BYTES_MAX`] of base64 can carry.
pub const MESSAGE_BYTES_MAX: usize = 12_288;

/// Longest nonce of one side, in bytes. Clients use 16 to 64.
pub const NONCE_BYTES_MAX: usize = 256;

/// A server's exchange with one client. Holds secrets from [`Self::challenge`] on.
pub struct ScramServer {
    hash: ScramHash,
    binding: Option<ChannelBinding>,
    /// `n,,` and the like, byte for byte: comes back in `c=`.
    gs2_header: Box<str>,
    first_bare: Box<str>,
    client_nonce: Box<str>,
    username: Box<str>,
    authzid: Option<Box<str>>,
    challenge: Option<Challenge>,
}

/// What a server remembers of its challenge.
struct Challenge {
    keys: ScramKeys,
    message: Box<str>,
    nonce: Box<str>,
}

impl ScramServer {
    /// Reads the client-first-message. `plus` says that the mechanism's name ended in `-PLUS`; `plus_offered`, that any
    /// `-PLUS` mechanism was advertised on this stream.
    ///
    /// # Errors
    /// - `not-authorized`: the flag is `y`, "you did not offer channel binding", though it was offered: somebody took it
    ///   out of the list. Or the channel binding is of a type we do not know.
    /// - `invalid-mechanism`: a `-PLUS` mechanism that was not offered.
    /// - `malformed-request`: flag and mechanism contradict each other, or the message is not by the grammar: an
    ///   attribute is missing, in the wrong place, empty or too long ([`NONCE_BYTES_MAX`], [`MESSAGE_BYTES_MAX`], names
    ///   by RFC 7622), or there is an `m=`, which asks for extensions that nobody has defined.
    pub fn start(
        hash: ScramHash,
        plus: bool,
        plus_offered: bool,
        message: &[u8],
    ) -> Result<Self, SaslFailure> {
        if plus && !plus_offered {
            return Err(SaslFailure::InvalidMechanism);
        }
        let first = ClientFirst::parse(message).ok_or(SaslFailure::MalformedRequest)?;
        let binding = match (first.flag, plus) {
            ("y", _) if plus_offered => return Err(SaslFailure::NotAuthorized),
            ("n" | "y", false) => None,
            (flag, true) => {
                let name = flag
                    .strip_prefix("p=")
                    .ok_or(SaslFailure::MalformedRequest)?;
                Some(ChannelBinding::from_name(name).ok_or(SaslFailure::NotAuthorized)?)
            }
            _ => return Err(SaslFailure::MalformedRequest),
        };
        let username =
            decode_name(first.username, PART_BYTES_MAX).ok_or(SaslFailure::MalformedRequest)?;
        let authzid = match first.authzid {
            Some(authzid) => {
                Some(decode_name(authzid, JID_BYTES_MAX).ok_or(SaslFailure::MalformedRequest)?)
            }
            None => None,
        };
        Ok(Self {
            hash,
            binding,
            gs2_header: first.gs2_header.into(),
            first_bare: first.bare.into(),
            client_nonce: first.nonce.into(),
            username,
            authzid,
            challenge: None,
        })
    }

    /// The client-first-message has the flag `y`. If [`Self::start`] refused it though `-PLUS` was offered, somebody
    /// between us and the client is at work: worth counting apart from wrong passwords.
    pub fn says_not_offered(message: &[u8]) -> bool {
        message.starts_with(b"y,")
    }

    /// The client-first-message binds to the TLS connection in a way that we do not know, such as `tls-unique`. Clients
    /// that do not look at the list of XEP-0440 find out only by being refused.
    pub fn binds_otherwise(message: &[u8]) -> bool {
        let flag = ClientFirst::parse(message).map(|first| first.flag);
        let name = flag.and_then(|flag| flag.strip_prefix("p="));
        name.is_some_and(|name| ChannelBinding::from_name(name).is_none())
    }

    /// The name to log in with, as given: not prepared, not empty, at most 1,023 bytes.
    pub fn username(&self) -> &str {
        &self.username
    }

    /// Whom to act as, as given; `None` if it is empty.
    pub fn authzid(&self) -> Option<&str> {
        self.authzid.as_deref()
    }

    /// Name of the type of channel binding that the client uses.
    pub fn channel_binding(&self) -> Option<&str> {
        self.binding.map(ChannelBinding::name)
    }

    /// Type of channel binding that the client uses.
    pub fn channel_binding_type(&self) -> Option<ChannelBinding> {
        self.binding
    }

    /// The server-first-message, for keys of the mechanism's hash. `nonce` is new for each exchange, and not guessable;
    /// see [`random_nonce`].
    pub fn challenge(&mut self, keys: ScramKeys, nonce: &str) -> Vec<u8> {
        self.challenge_with_hash(keys, nonce, None)
    }

    /// As [`Self::challenge`], with the hash of what was offered on this stream (XEP-0474; see [`downgrade_hash`]).
    pub fn challenge_with_hash(
        &mut self,
        keys: ScramKeys,
        nonce: &str,
        offered: Option<&str>,
    ) -> Vec<u8> {
        debug_assert!(keys.hash() == self.hash, "keys are of the mechanism's hash");
        debug_assert!(
            is_nonce(nonce),
            "a nonce is printable, without a comma, and not too long"
        );
        let nonce = format!("{}{nonce}", self.client_nonce);
        let mut message = format!(
            "r={nonce},s={},i={}",
            STANDARD.encode(keys.salt()),
            keys.iterations()
        );
        if let Some(offered) = offered {
            message.push_str(",h=");
            message.push_str(offered);
        }
        let bytes = message.clone().into_bytes();
        self.challenge = Some(Challenge {
            keys,
            message: message.into(),
            nonce: nonce.into(),
        });
        bytes
    }

    /// Reads the client-final-message and answers with the server-final-message, which goes out with the success.
    /// `binding_data` is that of [`Self::channel_binding_type`], from the TLS connection.
    ///
    /// # Errors
    /// `not-authorized`, whatever was wrong; nothing of the exchange is left.
    pub fn finish(
        self,
        message: &[u8],
        binding_data: Option<&[u8]>,
    ) -> Result<Vec<u8>, SaslFailure> {
        self.verify(message, binding_data)
            .ok_or(SaslFailure::NotAuthorized)
    }

    fn verify(self, message: &[u8], binding_data: Option<&[u8]>) -> Option<Vec<u8>> {
        let challenge = self.challenge.as_ref()?;
        let last = ClientFinal::parse(message)?;
        let mut expected_binding = self.gs2_header.as_bytes().to_vec();
        if self.binding.is_some() {
            expected_binding.extend_from_slice(binding_data?);
        }
        let expected_binding = STANDARD.encode(expected_binding);
        let is_bound = last.binding.as_bytes().ct_eq(expected_binding.as_bytes());
        let is_ours = last.nonce.as_bytes().ct_eq(challenge.nonce.as_bytes());

        let keys = &challenge.keys;
        let proof = STANDARD.decode(last.proof).ok()?;
        let proof = Key::from_bytes(keys.hash(), &proof)?;
        let transcript = transcript(&self.first_bare, &challenge.message, last.without_proof);
        let signature = keys.hash().hmac(keys.stored_key().bytes(), &transcript);
        let client_key = proof.xor(signature.bytes());
        let is_proven = keys
            .hash()
            .digest(client_key.bytes())
            .ct_eq(keys.stored_key());
        let server_signature = keys.hash().hmac(keys.server_key().bytes(), &transcript);

        let is_right = keys.judge(is_bound & is_ours & is_proven);
        is_right.then(|| format!("v={}", server_signature.to_base64()).into_bytes())
    }
}

/// A new nonce from the operating system's random numbers: 144 bits in 24 printable characters.
pub fn random_nonce() -> String {
    let mut bytes = [0; 18];
    getrandom::fill(&mut bytes).expect("the operating system has random numbers");
    STANDARD.encode(bytes)
}

/// The hash of the mechanisms and, if any were advertised by XEP-0440, the types of channel binding that a server
/// offered on a stream, in any order (XEP-0474 section 5.1). Base64.
pub fn downgrade_hash(hash: ScramHash, mechanisms: &[&str], bindings: Option<&[&str]>) -> String {
    let sorted = |names: &[&str]| {
        let mut names = names.to_vec();
        names.sort_unstable();
        names.join("\u{1e}")
    };
    let mut offered = sorted(mechanisms);
    if let Some(bindings) = bindings {
        offered.push('\u{1f}');
        offered.push_str(&sorted(bindings));
    }
    hash.digest(offered.as_bytes()).to_base64()
}

/// AuthMessage, in parts.
fn transcript<'a>(
    first_bare: &'a str,
    challenge: &'a str,
    without_proof: &'a str,
) -> [&'a [u8]; 5] {
    [
        first_bare.as_bytes(),
        b",",
        challenge.as_bytes(),
        b",",
        without_proof.as_bytes(),
    ]
}

/// `client-first-message` of RFC 5802 section 7.
struct ClientFirst<'a> {
    /// `n`, `y` or `p=name`.
    flag: &'a str,
    authzid: Option<&'a str>,
    gs2_header: &'a str,
    bare: &'a str,
    username: &'a str,
    nonce: &'a str,
}

impl<'a> ClientFirst<'a> {
    fn parse(message: &'a [u8]) -> Option<Self> {
        let text = message_text(message)?;
        let (flag, rest) = text.split_once(',')?;
        let is_flag =
            matches!(flag, "n" | "y") || flag.strip_prefix("p=").is_some_and(is_binding_name);
        let (authzid, bare) = rest.split_once(',')?;
        let authzid = match authzid {
            "" => None,
            authzid => Some(authzid.strip_prefix("a=")?),
        };
        let gs2_header = text.strip_suffix(bare)?;
        let mut attributes = bare.split(',');
        let username = attributes.next()?.strip_prefix("n=")?;
        let nonce = attributes.next()?.strip_prefix("r=")?;
        let is_right = is_flag && is_nonce(nonce) && attributes.all(is_extension);
        is_right.then_some(Self {
            flag,
            authzid,
            gs2_header,
            bare,
            username,
            nonce,
        })
    }
}

/// `client-final-message` of RFC 5802 section 7.
struct ClientFinal<'a> {
    binding: &'a str,
    nonce: &'a str,
    without_proof: &'a str,
    proof: &'a str,
}

impl<'a> ClientFinal<'a> {
    fn parse(message: &'a [u8]) -> Option<Self> {
        let (without_proof, proof) = message_text(message)?.rsplit_once(",p=")?;
        let mut attributes = without_proof.split(',');
        let binding = attributes.next()?.strip_prefix("c=")?;
        let nonce = attributes.next()?.strip_prefix("r=")?;
        attributes.all(is_extension).then_some(Self {
            binding,
            nonce,
            without_proof,
            proof,
        })
    }
}

fn message_text(message: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(message).ok()?;
    if text.len() <= MESSAGE_BYTES_MAX && !text.contains('\0') {
        Some(text)
    } else {
        None
    }
}

/// `cb-name`: what a registered type of channel binding may be called.
fn is_binding_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
}

/// `c-nonce`, `s-nonce`: printable ASCII without the comma.
fn is_nonce(nonce: &str) -> bool {
    (1..=NONCE_BYTES_MAX).contains(&nonce.len())
        && nonce
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b',')
}

/// An optional attribute after the known ones: a letter that RFC 5802 does not use, and a value.
fn is_extension(attribute: &str) -> bool {
    let mut characters = attribute.chars();
    let (Some(name), Some('='), Some(_)) =
        (characters.next(), characters.next(), characters.next())
    else {
        return false;
    };
    name.is_ascii_alphabetic() && !"anmrcsipve".contains(name)
}

/// A `saslname`: `=2C` is a comma and `=3D` an equals sign; no other `=` may be there. Not empty.
fn decode_name(name: &str, bytes_max: usize) -> Option<Box<str>> {
    let mut pieces = name.split('=');
    let mut decoded = String::with_capacity(name.len());
    decoded.push_str(pieces.next()?);
    for piece in pieces {
        if let Some(rest) = piece.strip_prefix("2C") {
            decoded.push(',');
            decoded.push_str(rest);
        } else {
            decoded.push('=');
            decoded.push_str(piece.strip_prefix("3D")?);
        }
    }
    (1..=bytes_max)
        .contains(&decoded.len())
        .then(|| decoded.into_boxed_str())
}
