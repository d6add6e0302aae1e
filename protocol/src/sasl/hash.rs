//! RFC 5802 section 2.2: the hash functions of the SCRAM family, and the keys they make.
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{EagerHash, Hmac, KeyInit, Mac};
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use subtle::{Choice, ConstantTimeEq};
use zeroize::Zeroize;

/// Longest digest in bytes (SHA-512).
const DIGEST_BYTES_MAX: usize = 64;

/// Hash function of a SCRAM mechanism, weakest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum ScramHash {
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

/// A digest that is a key or a signature: secret, so overwritten when dropped and never printed.
#[derive(Clone)]
pub(super) struct Key {
    bytes: [u8; DIGEST_BYTES_MAX],
    length: usize,
}

/// Does the same for each of the hash functions.
macro_rules! with_hash {
    ($hash:expr, $function:ident($($argument:expr),*)) => {
        match $hash {
            ScramHash::Sha1 => $function::<Sha1>($($argument),*),
            ScramHash::Sha224 => $function::<Sha224>($($argument),*),
            ScramHash::Sha256 => $function::<Sha256>($($argument),*),
            ScramHash::Sha384 => $function::<Sha384>($($argument),*),
            ScramHash::Sha512 => $function::<Sha512>($($argument),*),
        }
    };
}

impl ScramHash {
    /// All of them, weakest first.
    pub const ALL: [Self; 5] = [
        Self::Sha1,
        Self::Sha224,
        Self::Sha256,
        Self::Sha384,
        Self::Sha512,
    ];

    /// The mechanism without channel binding.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "SCRAM-SHA-1",
            Self::Sha224 => "SCRAM-SHA-224",
            Self::Sha256 => "SCRAM-SHA-256",
            Self::Sha384 => "SCRAM-SHA-384",
            Self::Sha512 => "SCRAM-SHA-512",
        }
    }

    /// The mechanism with channel binding.
    pub fn plus_name(self) -> &'static str {
        match self {
            Self::Sha1 => "SCRAM-SHA-1-PLUS",
            Self::Sha224 => "SCRAM-SHA-224-PLUS",
            Self::Sha256 => "SCRAM-SHA-256-PLUS",
            Self::Sha384 => "SCRAM-SHA-384-PLUS",
            Self::Sha512 => "SCRAM-SHA-512-PLUS",
        }
    }

    /// The hash of a mechanism's name, and whether the name ends in `-PLUS`. Names are compared exactly.
    pub fn from_mechanism(name: &str) -> Option<(Self, bool)> {
        Self::ALL.into_iter().find_map(|hash| match name {
            _ if name == hash.name() => Some((hash, false)),
            _ if name == hash.plus_name() => Some((hash, true)),
            _ => None,
        })
    }

    /// Length of a digest.
    pub fn digest_bytes(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// H(data).
    pub(super) fn digest(self, data: &[u8]) -> Key {
        with_hash!(self, digest(data))
    }

    /// HMAC(key, parts joined).
    pub(super) fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Key {
        #[cfg(test)]
        super::tests::count_work(1);
        with_hash!(self, hmac(key, parts))
    }

    /// Hi(password, salt, iterations), which is PBKDF2 with one block.
    pub(super) fn salt(self, password: &[u8], salt: &[u8], iterations: u32) -> Key {
        #[cfg(test)]
        super::tests::count_work(iterations);
        with_hash!(self, salt_password(password, salt, iterations))
    }
}

impl Key {
    /// A digest from a store, if it has the right length.
    pub(super) fn from_bytes(hash: ScramHash, bytes: &[u8]) -> Option<Self> {
        if bytes.len() == hash.digest_bytes() {
            Some(Self::copy(bytes))
        } else {
            None
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    pub(super) fn to_base64(&self) -> String {
        STANDARD.encode(self.bytes())
    }

    /// Bytewise exclusive or with another digest of the same hash.
    pub(super) fn xor(&self, other: &[u8]) -> Self {
        let mut result = self.clone();
        for (byte, other) in result.bytes.iter_mut().zip(other) {
            *byte ^= other;
        }
        result
    }

    /// Equality in constant time.
    pub(super) fn ct_eq(&self, other: &Self) -> Choice {
        self.bytes.ct_eq(&other.bytes)
    }

    fn copy(from: &[u8]) -> Self {
        let mut key = Self {
            bytes: [0; DIGEST_BYTES_MAX],
            length: from.len().min(DIGEST_BYTES_MAX),
        };
        for (byte, from) in key.bytes.iter_mut().zip(from) {
            *byte = *from;
        }
        key
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

fn digest<D: Digest>(data: &[u8]) -> Key {
    Key::copy(&D::digest(data))
}

fn hmac<D: EagerHash>(key: &[u8], parts: &[&[u8]]) -> Key {
    let mut mac = Hmac::<D>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in parts {
        mac.update(part);
    }
    Key::copy(&mac.finalize().into_bytes())
}

fn salt_password<D: EagerHash + Digest>(password: &[u8], salt: &[u8], iterations: u32) -> Key {
    let mut key = Key {
        bytes: [0; DIGEST_BYTES_MAX],
        length: <D as Digest>::output_size(),
    };
    let length = key.length;
    pbkdf2::pbkdf2_hmac::<D>(
        password,
        salt,
        iterations,
        key.bytes.get_mut(..length).unwrap_or_default(),
    );
    key
}
