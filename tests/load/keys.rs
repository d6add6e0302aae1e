//! SCRAM on the client's side (RFC 5802, RFC 7677), with derived keys kept.
//!
//! SCRAM costs the client a PBKDF2 of thousands of rounds per login. A generator that ran it each time would
//! measure itself, so the keys made of a (mechanism, salt, rounds) are kept, in memory and, on request, in a
//! file from one run to the next.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hashbrown::HashMap;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// Rounds beyond this are refused: a server could otherwise keep the generator busy for minutes.
const ROUNDS_MAX: u32 = 1_000_000;

/// The two hash functions a client of today meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Hash {
    Sha1,
    Sha256,
}

impl Hash {
    pub(crate) fn mechanism(self) -> &'static str {
        match self {
            Self::Sha1 => "SCRAM-SHA-1",
            Self::Sha256 => "SCRAM-SHA-256",
        }
    }

    fn hmac(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        const ANY_LENGTH: &str = "HMAC takes keys of any length";
        match self {
            Self::Sha1 => {
                let mac = Hmac::<Sha1>::new_from_slice(key).expect(ANY_LENGTH);
                mac.chain_update(message).finalize().into_bytes().to_vec()
            }
            Self::Sha256 => {
                let mac = Hmac::<Sha256>::new_from_slice(key).expect(ANY_LENGTH);
                mac.chain_update(message).finalize().into_bytes().to_vec()
            }
        }
    }

    fn digest(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => Sha1::digest(message).to_vec(),
            Self::Sha256 => Sha256::digest(message).to_vec(),
        }
    }

    fn salted_password(self, password: &str, salt: &[u8], rounds: u32) -> Vec<u8> {
        match self {
            Self::Sha1 => {
                let mut salted = vec![0; 20];
                pbkdf2::pbkdf2_hmac::<Sha1>(password.as_bytes(), salt, rounds, &mut salted);
                salted
            }
            Self::Sha256 => {
                let mut salted = vec![0; 32];
                pbkdf2::pbkdf2_hmac::<Sha256>(password.as_bytes(), salt, rounds, &mut salted);
                salted
            }
        }
    }
}

/// What a login needs of the password.
#[derive(Clone, Debug, PartialEq, Eq)]
struct DerivedKeys {
    client: Box<[u8]>,
    server: Box<[u8]>,
}

/// Derived keys of one password by mechanism, salt and rounds: accounts with a common salt share them.
pub(crate) struct KeyCache {
    password: String,
    keys: HashMap<(Hash, Box<[u8]>, u32), DerivedKeys, ahash::RandomState>,
    file: Option<PathBuf>,
    /// How many times PBKDF2 ran in this process.
    pub(crate) derived_count: u64,
}

impl KeyCache {
    /// Reads the keys of `file` when it exists; keys of another password in it are passed over.
    pub(crate) fn open(password: &str, file: Option<&Path>) -> Result<Self> {
        let mut cache = Self {
            password: password.to_owned(),
            keys: HashMap::default(),
            file: file.map(Path::to_owned),
            derived_count: 0,
        };
        if let Some(file) = file.filter(|file| file.exists()) {
            let text = fs::read_to_string(file)
                .with_context(|| format!("cannot read keys from {}", file.display()))?;
            for line in text.lines() {
                cache
                    .read_line(line)
                    .with_context(|| format!("in {}", file.display()))?;
            }
        }
        Ok(cache)
    }

    fn fingerprint(&self) -> String {
        BASE64.encode(&Hash::Sha256.digest(self.password.as_bytes())[..12])
    }

    fn read_line(&mut self, line: &str) -> Result<()> {
        let fields: Vec<&str> = line.split(' ').collect();
        let [password, hash, salt, rounds, client, server] = fields[..] else {
            bail!("six fields expected in {line:?}");
        };
        let hash = match hash {
            "SCRAM-SHA-1" => Hash::Sha1,
            "SCRAM-SHA-256" => Hash::Sha256,
            other => bail!("unknown mechanism {other:?}"),
        };
        if password == self.fingerprint() {
            let keys = DerivedKeys {
                client: BASE64.decode(client)?.into(),
                server: BASE64.decode(server)?.into(),
            };
            self.keys
                .insert((hash, BASE64.decode(salt)?.into(), rounds.parse()?), keys);
        }
        Ok(())
    }

    /// Writes the keys to the file given to `open`, if any new one was derived.
    pub(crate) fn save(&self) -> Result<()> {
        let Some(file) = self.file.as_ref().filter(|_| self.derived_count > 0) else {
            return Ok(());
        };
        let fingerprint = self.fingerprint();
        let mut text = String::new();
        for ((hash, salt, rounds), keys) in &self.keys {
            let (salt, client) = (BASE64.encode(salt), BASE64.encode(&keys.client));
            let (mechanism, server) = (hash.mechanism(), BASE64.encode(&keys.server));
            writeln!(
                text,
                "{fingerprint} {mechanism} {salt} {rounds} {client} {server}"
            )?;
        }
        fs::write(file, text).with_context(|| format!("cannot write keys to {}", file.display()))
    }

    fn keys(&mut self, hash: Hash, salt: &[u8], rounds: u32) -> &DerivedKeys {
        let Self {
            password,
            keys,
            derived_count,
            ..
        } = self;
        keys.entry((hash, salt.into(), rounds)).or_insert_with(|| {
            *derived_count += 1;
            let salted = hash.salted_password(password, salt, rounds);
            DerivedKeys {
                client: hash.hmac(&salted, b"Client Key").into(),
                server: hash.hmac(&salted, b"Server Key").into(),
            }
        })
    }
}

/// One SCRAM exchange between the first and the last message.
pub(crate) struct Exchange {
    hash: Hash,
    nonce: String,
    first_bare: String,
    server_signature: Vec<u8>,
}

impl Exchange {
    /// The exchange and its client-first message, in base64.
    pub(crate) fn start(hash: Hash, user: &str) -> Result<(Self, String)> {
        let mut random = [0; 18];
        getrandom::fill(&mut random).context("no random bytes")?;
        Ok(Self::with_nonce(hash, user, BASE64.encode(random)))
    }

    fn with_nonce(hash: Hash, user: &str, nonce: String) -> (Self, String) {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let first_bare = format!("n={user},r={nonce}");
        let message = BASE64.encode(format!("n,,{first_bare}"));
        (
            Self {
                hash,
                nonce,
                first_bare,
                server_signature: Vec::new(),
            },
            message,
        )
    }

    /// The client-final message, in base64, for a server-first message in base64.
    pub(crate) fn answer(&mut self, challenge: &[u8], cache: &mut KeyCache) -> Result<String> {
        let server_first = decode(challenge)?;
        let (mut nonce, mut salt, mut rounds) = ("", Vec::new(), 0);
        for field in server_first.split(',') {
            match field.split_once('=') {
                Some(("r", value)) => nonce = value,
                Some(("s", value)) => salt = BASE64.decode(value).context("salt")?,
                Some(("i", value)) => rounds = value.parse::<u32>().context("rounds")?,
                _ => {}
            }
        }
        ensure!(
            nonce.starts_with(&self.nonce),
            "the server's nonce does not continue ours"
        );
        ensure!(
            (1..=ROUNDS_MAX).contains(&rounds),
            "{rounds} rounds of PBKDF2"
        );
        let without_proof = format!("c=biws,r={nonce}");
        let signed = format!("{},{server_first},{without_proof}", self.first_bare);
        let keys = cache.keys(self.hash, &salt, rounds);
        let stored = self.hash.digest(&keys.client);
        let mut proof = self.hash.hmac(&stored, signed.as_bytes());
        proof
            .iter_mut()
            .zip(&keys.client)
            .for_each(|(byte, key)| *byte ^= key);
        self.server_signature = self.hash.hmac(&keys.server, signed.as_bytes());
        Ok(BASE64.encode(format!("{without_proof},p={}", BASE64.encode(proof))))
    }

    /// Checks the server-final message of `<success/>`.
    pub(crate) fn finish(&self, success: &[u8]) -> Result<()> {
        let server_final = decode(success)?;
        let expected = format!("v={}", BASE64.encode(&self.server_signature));
        ensure!(
            server_final.split(',').next() == Some(&expected),
            "wrong server signature"
        );
        Ok(())
    }
}

fn decode(message: &[u8]) -> Result<String> {
    let bytes = BASE64
        .decode(message)
        .context("SASL message is not base64")?;
    String::from_utf8(bytes).context("SASL message is not UTF-8")
}

/// The initial response of SASL PLAIN (RFC 4616), in base64.
pub(crate) fn plain(user: &str, password: &str) -> String {
    BASE64.encode(format!("\0{user}\0{password}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(hash: Hash, nonce: &str, server_first: &str, client_final: &str, server_final: &str) {
        let mut cache = KeyCache::open("pencil", None).unwrap();
        for derived in [1, 1] {
            let (mut exchange, first) = Exchange::with_nonce(hash, "user", nonce.to_owned());
            assert_eq!(
                decode(first.as_bytes()).unwrap(),
                format!("n,,n=user,r={nonce}")
            );
            let answer = exchange
                .answer(BASE64.encode(server_first).as_bytes(), &mut cache)
                .unwrap();
            assert_eq!(decode(answer.as_bytes()).unwrap(), client_final);
            exchange
                .finish(BASE64.encode(server_final).as_bytes())
                .unwrap();
            assert!(exchange.finish(BASE64.encode("v=AAAA").as_bytes()).is_err());
            assert_eq!(
                cache.derived_count, derived,
                "the second login reuses the keys"
            );
        }
    }

    #[test]
    fn the_examples_of_the_rfcs_hold() {
        check(
            Hash::Sha1,
            "fyko+d2lbbFgONRv9qkxdawL",
            "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
            "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
            "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
        );
        check(
            Hash::Sha256,
            "rOprNGfwEbeRWgbNEkqO",
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
             p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        );
    }

    #[test]
    fn a_foreign_nonce_and_absurd_rounds_are_refused() {
        let mut cache = KeyCache::open("pencil", None).unwrap();
        for first in [
            "r=other,s=QUJD,i=4096",
            "r=mine1,s=QUJD,i=0",
            "r=mine1,s=QUJD,i=2000000",
        ] {
            let (mut exchange, _) = Exchange::with_nonce(Hash::Sha1, "user", "mine".to_owned());
            assert!(
                exchange
                    .answer(BASE64.encode(first).as_bytes(), &mut cache)
                    .is_err(),
                "{first}"
            );
        }
        assert_eq!(cache.derived_count, 0);
    }

    #[test]
    fn kept_keys_are_read_back_for_the_same_password_only() {
        let file = std::env::temp_dir().join(format!("load-keys-{}", std::process::id()));
        let mut cache = KeyCache::open("pencil", Some(&file)).unwrap();
        let keys = cache.keys(Hash::Sha256, b"salt", 2).clone();
        cache.save().unwrap();
        let mut again = KeyCache::open("pencil", Some(&file)).unwrap();
        assert_eq!(again.keys(Hash::Sha256, b"salt", 2), &keys);
        assert_eq!(again.derived_count, 0);
        let other = KeyCache::open("pen", Some(&file)).unwrap();
        assert!(other.keys.is_empty());
        fs::remove_file(&file).unwrap();
    }
}
