//! RFC 5802: the client's side of SCRAM, for server-to-server use, probes, load and tests.
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::hash::Key;
use super::super::keys::{SaltedPassword, is_acceptable};
use super::{ChannelBinding, ScramHash, is_extension, is_nonce, message_text, transcript};

/// What a client says about channel binding.
#[derive(Clone, Copy)]
pub enum ClientBinding<'a> {
    /// `n`: the client cannot do it.
    None,
    /// `y`: the client could, but the server did not offer it.
    NotOffered,
    /// `p=`: the type and the data of this TLS connection. The mechanism is a `-PLUS` one.
    Bound(ChannelBinding, &'a [u8]),
}

/// Why a client gives up. None of them says that the password was wrong: that is the server's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramClientError {
    /// The server's message is not by the grammar, or out of turn.
    #[error("the server's message is malformed")]
    Malformed,
    /// The server's nonce does not begin with ours, or adds nothing.
    #[error("the server's nonce is not made from ours")]
    Nonce,
    /// Salt or iterations are beyond the limits.
    #[error("the server's salt or iteration count is beyond the limits")]
    Limit,
    /// A salted password was given, but the server asks for another salt or iteration count.
    #[error("the server's salt or iteration count has changed")]
    SaltChanged,
    /// The mechanisms or bindings that the server offered are not those that reached us (XEP-0474).
    #[error("the list of mechanisms was tampered with")]
    Downgrade,
    /// The server does not know the password either.
    #[error("the server's signature is wrong")]
    Signature,
}

/// A client's exchange.
pub struct ScramClient {
    hash: ScramHash,
    secret: Secret,
    /// `n`, `y` or `p=name`.
    flag: String,
    authzid: String,
    binding_data: Vec<u8>,
    first_bare: String,
    nonce: String,
    offered: Option<String>,
    /// What the server will sign with if it knows the password.
    expected_signature: Option<Key>,
}

enum Secret {
    Password(zeroize::Zeroizing<String>),
    Salted(SaltedPassword),
}

impl ScramClient {
    /// A client that knows the *prepared* password.
    pub fn new(
        hash: ScramHash,
        binding: ClientBinding<'_>,
        username: &str,
        password: &str,
        nonce: &str,
    ) -> Self {
        Self::start(
            hash,
            binding,
            username,
            Secret::Password(password.to_owned().into()),
            nonce,
        )
    }

    /// A client that has salted the password before, see [`SaltedPassword::derive`]: costs no iterations, and fails if
    /// the server's salt has changed.
    pub fn with_salted(
        binding: ClientBinding<'_>,
        username: &str,
        salted: SaltedPassword,
        nonce: &str,
    ) -> Self {
        Self::start(
            salted.hash(),
            binding,
            username,
            Secret::Salted(salted),
            nonce,
        )
    }

    /// Asks to act as somebody else, before [`Self::first`].
    pub fn with_authzid(self, authzid: &str) -> Self {
        Self {
            authzid: format!("a={}", encode_name(authzid)),
            ..self
        }
    }

    /// Expects this hash of what the server offered, if the server sends one (see [`super::downgrade_hash`]).
    pub fn with_offered(self, offered: String) -> Self {
        Self {
            offered: Some(offered),
            ..self
        }
    }

    /// The client-first-message.
    pub fn first(&self) -> Vec<u8> {
        format!("{}{}", self.gs2_header(), self.first_bare).into_bytes()
    }

    /// Reads the server-first-message and answers with the client-final-message. With a password, this takes as many
    /// HMACs as the server asks for, at most [`super::super::ITERATIONS_MAX`].
    pub fn respond(&mut self, message: &[u8]) -> Result<Vec<u8>, ScramClientError> {
        let text = message_text(message).ok_or(ScramClientError::Malformed)?;
        let first = ServerFirst::parse(text).ok_or(ScramClientError::Malformed)?;
        let added = first
            .nonce
            .strip_prefix(self.nonce.as_str())
            .ok_or(ScramClientError::Nonce)?;
        if !is_nonce(added) {
            return Err(ScramClientError::Nonce);
        }
        if let (Some(offered), Some(expected)) = (first.offered, &self.offered)
            && offered != expected
        {
            return Err(ScramClientError::Downgrade);
        }
        if !is_acceptable(&first.salt, first.iterations) {
            return Err(ScramClientError::Limit);
        }
        let salted = match &self.secret {
            Secret::Password(password) => {
                SaltedPassword::derive(self.hash, password, &first.salt, first.iterations)
            }
            Secret::Salted(salted) if salted.fits(self.hash, &first.salt, first.iterations) => {
                salted.clone()
            }
            Secret::Salted(_) => return Err(ScramClientError::SaltChanged),
        };
        let binding = [self.gs2_header().as_bytes(), &self.binding_data].concat();
        let without_proof = format!("c={},r={}", STANDARD.encode(binding), first.nonce);
        let transcript = transcript(&self.first_bare, text, &without_proof);
        let client_key = salted.client_key();
        let stored_key = self.hash.digest(client_key.bytes());
        let signature = self.hash.hmac(stored_key.bytes(), &transcript);
        let proof = client_key.xor(signature.bytes()).to_base64();
        self.expected_signature = Some(self.hash.hmac(salted.server_key().bytes(), &transcript));
        Ok(format!("{without_proof},p={proof}").into_bytes())
    }

    /// Reads the server-final-message: the server knows the password too.
    pub fn verify(self, message: &[u8]) -> Result<(), ScramClientError> {
        let expected = self.expected_signature.ok_or(ScramClientError::Malformed)?;
        let text = message_text(message).ok_or(ScramClientError::Malformed)?;
        let mut attributes = text.split(',');
        let signature = attributes
            .next()
            .and_then(|attribute| attribute.strip_prefix("v="));
        let signature = signature.and_then(|signature| STANDARD.decode(signature).ok());
        let signature = signature.and_then(|signature| Key::from_bytes(self.hash, &signature));
        let signature = signature
            .filter(|_| attributes.all(is_extension))
            .ok_or(ScramClientError::Malformed)?;
        if bool::from(signature.ct_eq(&expected)) {
            Ok(())
        } else {
            Err(ScramClientError::Signature)
        }
    }

    fn start(
        hash: ScramHash,
        binding: ClientBinding<'_>,
        username: &str,
        secret: Secret,
        nonce: &str,
    ) -> Self {
        debug_assert!(
            is_nonce(nonce),
            "a nonce is printable, without a comma, and not too long"
        );
        let (flag, binding_data) = match binding {
            ClientBinding::None => ("n".to_owned(), Vec::new()),
            ClientBinding::NotOffered => ("y".to_owned(), Vec::new()),
            ClientBinding::Bound(binding, data) => (format!("p={}", binding.name()), data.to_vec()),
        };
        Self {
            hash,
            secret,
            flag,
            authzid: String::new(),
            binding_data,
            first_bare: format!("n={},r={nonce}", encode_name(username)),
            nonce: nonce.to_owned(),
            offered: None,
            expected_signature: None,
        }
    }

    fn gs2_header(&self) -> String {
        format!("{},{},", self.flag, self.authzid)
    }
}

/// `server-first-message` of RFC 5802 section 7.
struct ServerFirst<'a> {
    nonce: &'a str,
    salt: Vec<u8>,
    iterations: u32,
    /// `h` of XEP-0474.
    offered: Option<&'a str>,
}

impl<'a> ServerFirst<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut attributes = text.split(',');
        let nonce = attributes.next()?.strip_prefix("r=")?;
        let salt = STANDARD
            .decode(attributes.next()?.strip_prefix("s=")?)
            .ok()?;
        let iterations = attributes.next()?.strip_prefix("i=")?;
        let mut offered = None;
        for attribute in attributes {
            if !is_extension(attribute) {
                return None;
            }
            offered = attribute.strip_prefix("h=").or(offered);
        }
        let is_number =
            !iterations.is_empty() && iterations.bytes().all(|byte| byte.is_ascii_digit());
        // A number that does not fit is one beyond the limit.
        is_number.then(|| Self {
            nonce,
            salt,
            iterations: iterations.parse().unwrap_or(u32::MAX),
            offered,
        })
    }
}

/// A `saslname`.
fn encode_name(name: &str) -> String {
    name.replace('=', "=3D").replace(',', "=2C")
}
