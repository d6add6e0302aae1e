//! RFC 5802 section 3: what a server stores of a password for one hash function.
use subtle::Choice;

use super::ScramHash;
use super::hash::Key;

/// Length of the salts we make, in bytes.
pub const SALT_BYTES: usize = 16;

/// Longest salt that is read from a store or a server, in bytes.
pub const SALT_BYTES_MAX: usize = 1_024;

/// Highest iteration count that is read from a store or a server: about half a second of one core.
pub const ITERATIONS_MAX: u32 = 1_000_000;

/// The keys of one password for one hash function. Whoever reads them cannot log in with them, but can try passwords.
#[derive(Clone)]
pub struct ScramKeys {
    hash: ScramHash,
    is_invented: bool,
    iterations: u32,
    salt: Box<[u8]>,
    stored_key: Key,
    server_key: Key,
}

/// A salted password: as good as the password itself. Lets a client log in again without the iterations.
#[derive(Clone)]
pub struct SaltedPassword {
    hash: ScramHash,
    iterations: u32,
    salt: Box<[u8]>,
    key: Key,
}

impl ScramKeys {
    /// Derives the keys of a *prepared* password (see [`crate::jid::prepare_password`]): `iterations` HMACs, so not for
    /// a thread that others wait for. `iterations` is at least 1.
    pub fn derive(hash: ScramHash, password: &str, salt: &[u8], iterations: u32) -> Self {
        SaltedPassword::derive(hash, password, salt, iterations).to_keys()
    }

    /// Keys from a store. `None` if a key has not the length of the hash, or salt or iterations are 0 or above
    /// [`SALT_BYTES_MAX`] and [`ITERATIONS_MAX`].
    pub fn from_stored(
        hash: ScramHash,
        salt: &[u8],
        iterations: u32,
        stored_key: &[u8],
        server_key: &[u8],
    ) -> Option<Self> {
        if !is_acceptable(salt, iterations) {
            return None;
        }
        Some(Self {
            hash,
            is_invented: false,
            iterations,
            salt: salt.into(),
            stored_key: Key::from_bytes(hash, stored_key)?,
            server_key: Key::from_bytes(hash, server_key)?,
        })
    }

    /// Keys for a user who does not exist, which no password and no proof ever match. The salt depends on the name and
    /// on `server_secret` alone, so it is the same each time and on every node that has the secret, as a real one is;
    /// `iterations` must be what real accounts have. `username` must be prepared, else its spellings are told apart,
    /// and should name the domain too.
    pub fn invented(
        server_secret: &[u8],
        username: &str,
        hash: ScramHash,
        iterations: u32,
    ) -> Self {
        let parts = |purpose: &'static str| {
            [
                purpose.as_bytes(),
                hash.name().as_bytes(),
                b"\0",
                username.as_bytes(),
            ]
        };
        // SHA-256 for the salt of each of them: its length does not depend on the hash, and real salts are random.
        let salt = ScramHash::Sha256.hmac(server_secret, &parts("salt\0"));
        Self {
            hash,
            is_invented: true,
            iterations,
            salt: salt.bytes().get(..SALT_BYTES).unwrap_or_default().into(),
            stored_key: hash.hmac(server_secret, &parts("stored key\0")),
            server_key: hash.hmac(server_secret, &parts("server key\0")),
        }
    }

    /// The hash function.
    pub fn hash(&self) -> ScramHash {
        self.hash
    }

    /// The salt, which is told to everybody who asks.
    pub fn salt(&self) -> &[u8] {
        &self.salt
    }

    /// The iteration count, which is told to everybody who asks.
    pub fn iterations(&self) -> u32 {
        self.iterations
    }

    /// The *prepared* password is the one these keys were derived from. Takes the time of [`Self::derive`], whatever
    /// the answer; compares in constant time.
    pub fn verify_password(&self, password: &str) -> bool {
        let derived = Self::derive(self.hash, password, &self.salt, self.iterations);
        self.judge(derived.stored_key.ct_eq(&self.stored_key))
    }

    /// StoredKey: H(ClientKey).
    pub(super) fn stored_key(&self) -> &Key {
        &self.stored_key
    }

    /// ServerKey.
    pub(super) fn server_key(&self) -> &Key {
        &self.server_key
    }

    /// The verdict on a comparison with these keys: invented ones never match, whatever the comparison says.
    pub(super) fn judge(&self, equal: Choice) -> bool {
        bool::from(equal & !Choice::from(u8::from(self.is_invented)))
    }
}

impl SaltedPassword {
    /// Salts a *prepared* password: `iterations` HMACs; at least 1.
    pub fn derive(hash: ScramHash, password: &str, salt: &[u8], iterations: u32) -> Self {
        debug_assert!(
            is_acceptable(salt, iterations),
            "salt and iterations are within their limits"
        );
        let key = hash.salt(password.as_bytes(), salt, iterations);
        Self {
            hash,
            iterations,
            salt: salt.into(),
            key,
        }
    }

    /// The keys that a server stores.
    pub fn to_keys(&self) -> ScramKeys {
        ScramKeys {
            hash: self.hash,
            is_invented: false,
            iterations: self.iterations,
            salt: self.salt.clone(),
            stored_key: self.hash.digest(self.client_key().bytes()),
            server_key: self.server_key(),
        }
    }

    /// The hash function.
    pub fn hash(&self) -> ScramHash {
        self.hash
    }

    /// It is the salted password for this challenge.
    pub(super) fn fits(&self, hash: ScramHash, salt: &[u8], iterations: u32) -> bool {
        self.hash == hash && *self.salt == *salt && self.iterations == iterations
    }

    pub(super) fn client_key(&self) -> Key {
        self.hash.hmac(self.key.bytes(), &[b"Client Key"])
    }

    pub(super) fn server_key(&self) -> Key {
        self.hash.hmac(self.key.bytes(), &[b"Server Key"])
    }
}

/// A new salt from the operating system's random numbers.
pub fn random_salt() -> [u8; SALT_BYTES] {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).expect("the operating system has random numbers");
    salt
}

/// The salt and the iterations are within their limits.
pub(super) fn is_acceptable(salt: &[u8], iterations: u32) -> bool {
    (1..=SALT_BYTES_MAX).contains(&salt.len()) && (1..=ITERATIONS_MAX).contains(&iterations)
}
