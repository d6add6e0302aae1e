//! MongooseIM's `users.pass_details`: SCRAM keys as text.
//!
//! Two forms are read, the first is written; parts are base64:
//!
//! - `==MULTI_SCRAM==,ITERATIONS,===SHA1===SALT|STOREDKEY|SERVERKEY,==SHA224==…,==SHA256==…,==SHA384==…,==SHA512==…`
//!   with any non-empty choice of the hashes in any order. (The tag of SHA-1 does have three equals signs.)
//! - `==SCRAM==,STOREDKEY,SERVERKEY,SALT,ITERATIONS` for SHA-1.
use std::borrow::Cow;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::keys::is_acceptable;
use super::{ScramHash, ScramKeys, password_forms};

const MULTI_PREFIX: &str = "==MULTI_SCRAM==,";
const LEGACY_PREFIX: &str = "==SCRAM==,";

/// Longest text that is read, in bytes: five keys with the longest salts take a third of it.
const TEXT_BYTES_MAX: usize = 24_576;

/// Keys of one password for one or more hash functions, all with the same iteration count.
#[derive(Clone)]
pub struct PassDetails {
    /// Not empty, each hash once, weakest first.
    keys: Vec<ScramKeys>,
}

/// A stored password that cannot be read. The text itself is never shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PassDetailsError {
    /// Neither of the two prefixes.
    #[error("stored password has an unknown format")]
    Format,
    /// A part is missing, one too many, not base64, or has another length than its hash.
    #[error("stored password is damaged")]
    Damaged,
    /// The tag of a hash is unknown, or a hash is there twice.
    #[error("stored password has an unknown or repeated hash")]
    Hash,
    /// Iterations are 0 or above 1,000,000, a salt is empty or above 1,024 bytes, or the text above 24,576 bytes.
    #[error("stored password exceeds a limit")]
    Limit,
}

impl PassDetails {
    /// Reads either form.
    pub fn parse(text: &str) -> Result<Self, PassDetailsError> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(PassDetailsError::Limit);
        }
        if let Some(multi) = text.strip_prefix(MULTI_PREFIX) {
            parse_multi(multi)
        } else if let Some(legacy) = text.strip_prefix(LEGACY_PREFIX) {
            parse_legacy(legacy)
        } else {
            Err(PassDetailsError::Format)
        }
    }

    /// Derives keys of a *prepared* password for each of the hashes, of which there is at least one. Takes `iterations`
    /// HMACs for each.
    pub fn derive(password: &str, hashes: &[ScramHash], iterations: u32, salt: &[u8]) -> Self {
        Self::from_hashes(hashes, |hash| {
            ScramKeys::derive(hash, password, salt, iterations)
        })
    }

    /// Keys for a user who does not exist; see [`ScramKeys::invented`].
    pub fn invented(
        server_secret: &[u8],
        username: &str,
        hashes: &[ScramHash],
        iterations: u32,
    ) -> Self {
        Self::from_hashes(hashes, |hash| {
            ScramKeys::invented(server_secret, username, hash, iterations)
        })
    }

    /// The keys for that hash, if they are stored.
    pub fn key(&self, hash: ScramHash) -> Option<&ScramKeys> {
        self.keys.iter().find(|keys| keys.hash() == hash)
    }

    /// All keys, weakest hash first; at least one.
    pub fn keys(&self) -> &[ScramKeys] {
        &self.keys
    }

    /// The password as somebody typed it is the stored one. One set of keys decides, since all are of one password;
    /// each of the [`password_forms`] is tried, so it takes at most twice the iterations. In constant time but for the
    /// number of forms, which depends on the given password alone.
    pub fn verify_password(&self, password: &str) -> bool {
        self.matching_form(password).is_some()
    }

    /// The same; gives the form of the password that the keys are of.
    pub fn matching_form<'a>(&self, password: &'a str) -> Option<Cow<'a, str>> {
        let keys = self.keys.first()?;
        password_forms(password).find(|form| keys.verify_password(form))
    }

    /// Whether there are keys for each of these hashes, of so many iterations at least.
    pub fn is_as_strong_as(&self, hashes: &[ScramHash], iterations: u32) -> bool {
        let is_enough = |hash: &ScramHash| {
            let keys = self.key(*hash);
            keys.is_some_and(|keys| keys.iterations() >= iterations)
        };
        hashes.iter().all(is_enough)
    }

    /// The multi form.
    #[expect(
        clippy::inherent_to_string,
        reason = "with `Display`, stored keys would be one `%` away from a log"
    )]
    pub fn to_string(&self) -> String {
        let iterations = self.keys.first().map_or(0, ScramKeys::iterations);
        let mut text = format!("{MULTI_PREFIX}{iterations}");
        for keys in &self.keys {
            let salt = STANDARD.encode(keys.salt());
            let (stored_key, server_key) =
                (keys.stored_key().to_base64(), keys.server_key().to_base64());
            write!(
                text,
                ",{}{salt}|{stored_key}|{server_key}",
                tag(keys.hash())
            )
            .expect("a string grows");
        }
        text
    }

    fn from_hashes(hashes: &[ScramHash], keys: impl FnMut(ScramHash) -> ScramKeys) -> Self {
        debug_assert!(
            !hashes.is_empty(),
            "a password is stored for at least one hash"
        );
        let mut hashes = hashes.to_vec();
        hashes.sort_unstable();
        hashes.dedup();
        Self {
            keys: hashes.into_iter().map(keys).collect(),
        }
    }
}

fn tag(hash: ScramHash) -> &'static str {
    match hash {
        ScramHash::Sha1 => "===SHA1===",
        ScramHash::Sha224 => "==SHA224==",
        ScramHash::Sha256 => "==SHA256==",
        ScramHash::Sha384 => "==SHA384==",
        ScramHash::Sha512 => "==SHA512==",
    }
}

/// What follows the prefix of the multi form.
fn parse_multi(text: &str) -> Result<PassDetails, PassDetailsError> {
    let mut parts = text.split(',');
    let iterations = parse_iterations(parts.next().unwrap_or_default())?;
    let mut keys: Vec<ScramKeys> = Vec::with_capacity(ScramHash::ALL.len());
    for part in parts {
        let (hash, part) = ScramHash::ALL
            .into_iter()
            .find_map(|hash| Some((hash, part.strip_prefix(tag(hash))?)))
            .ok_or(PassDetailsError::Hash)?;
        if keys.iter().any(|earlier| earlier.hash() == hash) {
            return Err(PassDetailsError::Hash);
        }
        let mut fields = part.split('|');
        let (Some(salt), Some(stored_key), Some(server_key), None) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(PassDetailsError::Damaged);
        };
        keys.push(parse_keys(hash, salt, iterations, stored_key, server_key)?);
    }
    if keys.is_empty() {
        return Err(PassDetailsError::Damaged);
    }
    keys.sort_unstable_by_key(ScramKeys::hash);
    Ok(PassDetails { keys })
}

/// What follows the prefix of the legacy form.
fn parse_legacy(text: &str) -> Result<PassDetails, PassDetailsError> {
    let mut fields = text.split(',');
    let (Some(stored_key), Some(server_key), Some(salt), Some(iterations), None) = (
        fields.next(),
        fields.next(),
        fields.next(),
        fields.next(),
        fields.next(),
    ) else {
        return Err(PassDetailsError::Damaged);
    };
    let iterations = parse_iterations(iterations)?;
    let keys = parse_keys(ScramHash::Sha1, salt, iterations, stored_key, server_key)?;
    Ok(PassDetails { keys: vec![keys] })
}

/// Digits without a sign; any number of them, since a large number is beyond a limit, not damaged.
fn parse_iterations(text: &str) -> Result<u32, PassDetailsError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(PassDetailsError::Damaged);
    }
    text.parse().map_err(|_| PassDetailsError::Limit)
}

fn parse_keys(
    hash: ScramHash,
    salt: &str,
    iterations: u32,
    stored_key: &str,
    server_key: &str,
) -> Result<ScramKeys, PassDetailsError> {
    let decode = |text: &str| STANDARD.decode(text).map_err(|_| PassDetailsError::Damaged);
    let salt = decode(salt)?;
    if !is_acceptable(&salt, iterations) {
        return Err(PassDetailsError::Limit);
    }
    ScramKeys::from_stored(
        hash,
        &salt,
        iterations,
        &decode(stored_key)?,
        &decode(server_key)?,
    )
    .ok_or(PassDetailsError::Damaged)
}
