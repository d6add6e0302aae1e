//! Who are you: mechanisms, credentials, and the limits on guessing.
//!
//! Passwords are kept as SCRAM keys only. An unknown user and a wrong password take the same steps and give the same
//! answer: the salt of an unknown user is invented, always the same for the same name, and its keys never match.
use std::sync::Arc;
use std::time::Duration;

use protocol::BareJid;
use protocol::sasl::{PassDetails, ScramHash, ScramKeys, random_salt};

use transport::ClientIdentity;

use crate::storage;
use crate::storage::accounts::{AccountStore, Credentials};

pub mod config;
pub mod external;
pub mod hashing;
pub mod mechanisms;
pub mod registration;
pub mod throttle;

use hashing::{Hashing, Overloaded};
use mechanisms::{Mechanism, Offer};

/// Longest delay that the method `dummy` may be configured to fake, in milliseconds.
pub const DUMMY_DELAY_MS_MAX: u64 = 60_000;

/// Where credentials come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Method {
    /// Table `users` (`internal` and `rdbms` mean the same here).
    Stored,
    /// Everybody, under a name that we make.
    Anonymous,
    /// Everybody, after a delay; for load tests.
    Dummy {
        /// Milliseconds at least.
        base_ms: u64,
        /// Milliseconds more at most.
        variance_ms: u64,
    },
    /// Whoever has a certificate that names them.
    Pki,
}

/// Which method, without its settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MethodKind {
    /// See [`Method::Stored`].
    Stored,
    /// See [`Method::Anonymous`].
    Anonymous,
    /// See [`Method::Dummy`].
    Dummy,
    /// See [`Method::Pki`].
    Pki,
}

impl Method {
    /// MongooseIM's word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Stored => "rdbms",
            Self::Anonymous => "anonymous",
            Self::Dummy { .. } => "dummy",
            Self::Pki => "pki",
        }
    }

    /// Which method it is.
    pub fn kind(&self) -> MethodKind {
        match self {
            Self::Stored => MethodKind::Stored,
            Self::Anonymous => MethodKind::Anonymous,
            Self::Dummy { .. } => MethodKind::Dummy,
            Self::Pki => MethodKind::Pki,
        }
    }
}

/// Settings of authentication for one host.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Methods in the order in which they are tried.
    pub methods: Vec<Method>,
    /// Mechanisms in the order in which they are offered.
    pub mechanisms: Vec<Mechanism>,
    /// SCRAM variants that are stored.
    pub hashes: Vec<ScramHash>,
    /// PBKDF2 rounds of new passwords.
    pub iterations: u32,
    /// Accounts that a domain may have; `None` is no limit.
    pub users_max: Option<u64>,
    /// How certificates name accounts.
    pub certificates: external::Naming,
}

/// Why credentials could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The database failed.
    #[error(transparent)]
    Storage(#[from] storage::Error),
    /// More passwords wait to be hashed than there is time for.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
}

/// Authentication of one host.
pub struct Auth {
    settings: Settings,
    store: AccountStore,
    /// Key of the invented salts. Kept in the database, so that a restart does not tell invented from real ones.
    secret: Arc<[u8]>,
    /// Shared by all hosts of the node.
    hashing: Arc<Hashing>,
}

/// Why an account could not be made.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// Somebody has that name.
    #[error("the account exists already")]
    Exists,
    /// The password is empty, too long or has forbidden characters.
    #[error("the password is empty, longer than 1024 bytes or has characters that are not allowed")]
    Password,
    /// The domain has as many accounts as it may have.
    #[error("the domain has reached its limit of {0} accounts")]
    Full(u64),
    /// This host's methods keep no accounts.
    #[error("the configured authentication methods keep no accounts")]
    NotStored,
    /// The database failed, or too much is going on.
    #[error(transparent)]
    Auth(#[from] Error),
}

impl From<storage::Error> for RegisterError {
    fn from(error: storage::Error) -> Self {
        Self::Auth(error.into())
    }
}

impl Auth {
    /// Authentication with these settings.
    pub fn new(
        settings: Settings,
        store: AccountStore,
        secret: Arc<[u8]>,
        hashing: Arc<Hashing>,
    ) -> Self {
        Self {
            settings,
            store,
            secret,
            hashing,
        }
    }

    /// The mechanisms that are offered, and so accepted, on such a stream; in order of preference.
    pub fn offered(&self, offer: Offer, allowed: Option<&[MethodKind]>) -> Vec<Mechanism> {
        if offer.starttls_first {
            return Vec::new();
        }
        let has = |kind: MethodKind| {
            self.settings
                .methods
                .iter()
                .any(|method| method.kind() == kind)
                && allowed.is_none_or(|allowed| allowed.contains(&kind))
        };
        let works = |mechanism: &Mechanism| match mechanism {
            Mechanism::Plain => {
                offer.encrypted && (has(MethodKind::Stored) || has(MethodKind::Dummy))
            }
            Mechanism::Anonymous => has(MethodKind::Anonymous),
            Mechanism::External => offer.named && has(MethodKind::Pki),
            Mechanism::Scram { hash, plus } => {
                has(MethodKind::Stored)
                    && self.settings.hashes.contains(hash)
                    && (!plus || (offer.encrypted && offer.end_point))
            }
        };
        self.settings
            .mechanisms
            .iter()
            .copied()
            .filter(works)
            .collect()
    }

    /// The accounts of a domain that a client's certificate names.
    pub fn named(&self, certificate: &ClientIdentity, domain: &str) -> Vec<BareJid> {
        self.settings.certificates.accounts(certificate, domain)
    }

    /// Whether a mechanism is configured, offered or not.
    pub fn has_mechanism(&self, mechanism: Mechanism) -> bool {
        self.settings.mechanisms.contains(&mechanism)
    }

    /// The keys of an account for one hash; invented ones for a name that is no account (`None`) or has none.
    pub async fn scram_keys(
        &self,
        hash: ScramHash,
        account: Option<&BareJid>,
        name: &str,
    ) -> Result<ScramKeys, Error> {
        let credentials = match account {
            // The same work for names that cannot exist.
            None => self.store.credentials(name, "").await?,
            Some(account) => {
                self.store
                    .credentials(account.local().unwrap_or_default(), account.domain())
                    .await?
            }
        };
        let known = account.map_or(name, BareJid::as_str);
        let invented = || ScramKeys::invented(&self.secret, known, hash, self.settings.iterations);
        let Some(Credentials {
            password,
            pass_details,
        }) = credentials
        else {
            return Ok(invented());
        };
        match pass_details {
            Some(details) => match PassDetails::parse(&details) {
                Ok(details) => Ok(details.key(hash).cloned().unwrap_or_else(invented)),
                Err(error) => {
                    tracing::error!(%error, "column pass_details of table users is malformed");
                    Ok(invented())
                }
            },
            // A row of an operator who keeps plain passwords: the salt stays the same by being derived.
            None => {
                let salt = invented().salt().to_vec();
                let iterations = self.settings.iterations;
                let derive = move || ScramKeys::derive(hash, &password, &salt, iterations);
                Ok(self.hashing.run(derive).await?)
            }
        }
    }

    /// Whether that is the account's password.
    pub async fn check_password(&self, account: &BareJid, password: &str) -> Result<bool, Error> {
        for method in &self.settings.methods {
            if let Method::Dummy {
                base_ms,
                variance_ms,
            } = method
            {
                tokio::time::sleep(dummy_delay(*base_ms, *variance_ms)).await;
                return Ok(true);
            }
        }
        let name = account.local().unwrap_or_default();
        let mut stored_text = None;
        let details = match self.store.credentials(name, account.domain()).await? {
            Some(Credentials {
                password: _,
                pass_details: Some(details),
            }) => PassDetails::parse(stored_text.insert(details)).ok(),
            Some(Credentials {
                password: stored,
                pass_details: None,
            }) => {
                let hashes = self.settings.hashes.clone();
                let iterations = self.settings.iterations;
                let derive = move || PassDetails::derive(&stored, &hashes, iterations, &[0; 16]);
                Some(self.hashing.run(derive).await?)
            }
            None => None,
        };
        let Settings {
            hashes, iterations, ..
        } = &self.settings;
        // An unknown user costs the same as a wrong password.
        let details = details.unwrap_or_else(|| {
            PassDetails::invented(&self.secret, account.as_str(), hashes, *iterations)
        });
        let is_strong = details.is_as_strong_as(hashes, *iterations);
        let password = password.to_owned();
        let verify = move || {
            let form = details.matching_form(&password);
            form.map(std::borrow::Cow::into_owned)
        };
        let form = self.hashing.run(verify).await?;
        if let (Some(form), Some(stored_text), false) = (&form, stored_text, is_strong) {
            Box::pin(self.strengthen(account, form.clone(), stored_text)).await;
        }
        Ok(form.is_some())
    }

    /// XEP-0438: keys that were made by fewer iterations, or not for all hashes, are made anew when their password is
    /// told. Whatever goes wrong goes wrong again at the next login.
    async fn strengthen(&self, account: &BareJid, password: String, weak: String) {
        let Settings {
            hashes, iterations, ..
        } = self.settings.clone();
        let salt = random_salt();
        let derive = move || PassDetails::derive(&password, &hashes, iterations, &salt).to_string();
        let Ok(details) = self.hashing.run(derive).await else {
            return;
        };
        let name = account.local().unwrap_or_default();
        let domain = account.domain();
        let replaced = self.store.replace_details(name, domain, &weak, &details);
        if let Err(error) = replaced.await {
            tracing::warn!(%error, "keys could not be made anew");
        }
    }

    /// What modules may ask about accounts.
    pub fn accounts(&self) -> Accounts {
        let has = |kind| {
            self.settings
                .methods
                .iter()
                .any(|method| method.kind() == kind)
        };
        Accounts {
            store: has(MethodKind::Stored).then(|| self.store.clone()),
            everybody: has(MethodKind::Dummy) || has(MethodKind::Pki),
        }
    }

    /// Whether the account exists.
    pub async fn exists(&self, account: &BareJid) -> Result<bool, storage::Error> {
        self.accounts().exists(account).await
    }

    /// Makes an account.
    pub async fn register(&self, account: &BareJid, password: &str) -> Result<(), RegisterError> {
        let details = self.new_details(password).await?;
        if self.room_for(account.domain()).await? == 0 {
            return Err(RegisterError::Full(self.settings.users_max.unwrap_or(0)));
        }
        let name = account.local().unwrap_or_default();
        match self.store.create(name, account.domain(), &details).await {
            Ok(()) => Ok(()),
            Err(storage::Error::Conflict { .. }) => Err(RegisterError::Exists),
            Err(error) => Err(error.into()),
        }
    }

    /// How many accounts a domain may still get.
    pub async fn room_for(&self, domain: &str) -> Result<u64, storage::Error> {
        match self.settings.users_max {
            None => Ok(u64::MAX),
            Some(users_max) => Ok(users_max.saturating_sub(self.store.count(domain).await?)),
        }
    }

    /// Changes a password. `false` if there is no such account.
    pub async fn set_password(
        &self,
        account: &BareJid,
        password: &str,
    ) -> Result<bool, RegisterError> {
        let details = self.new_details(password).await?;
        let name = account.local().unwrap_or_default();
        Ok(self
            .store
            .set_password(name, account.domain(), &details)
            .await?)
    }

    /// Whether there can be accounts at all.
    pub fn keeps_accounts(&self) -> bool {
        self.settings.methods.contains(&Method::Stored)
    }

    /// What is stored of a new password.
    pub async fn new_details(&self, password: &str) -> Result<String, RegisterError> {
        if !self.keeps_accounts() {
            return Err(RegisterError::NotStored);
        }
        let password = protocol::jid::prepare_password(password).ok_or(RegisterError::Password)?;
        let password = password.into_owned();
        let hashes = self.settings.hashes.clone();
        let iterations = self.settings.iterations;
        let salt = random_salt();
        let derive = move || PassDetails::derive(&password, &hashes, iterations, &salt).to_string();
        let details = self.hashing.run(derive).await;
        Ok(details.map_err(Error::from)?)
    }

    /// The turns of its password hashing, for tests.
    #[cfg(test)]
    pub(crate) fn hashing(&self) -> &Hashing {
        &self.hashing
    }

    /// The store behind it, for the admin interface.
    pub fn store(&self) -> &AccountStore {
        &self.store
    }
}

/// Which accounts a host has.
#[derive(Clone)]
pub struct Accounts {
    store: Option<AccountStore>,
    everybody: bool,
}

impl Accounts {
    /// Whether the account exists. Anonymous ones do only while they have a session.
    pub async fn exists(&self, account: &BareJid) -> Result<bool, storage::Error> {
        match &self.store {
            _ if self.everybody => Ok(true),
            None => Ok(false),
            Some(store) => {
                store
                    .exists(account.local().unwrap_or_default(), account.domain())
                    .await
            }
        }
    }
}

/// Between `base` and `base + variance` milliseconds.
fn dummy_delay(base_ms: u64, variance_ms: u64) -> Duration {
    let mut random = [0_u8; 8];
    // Without randomness the delay is the base.
    let _ = getrandom::fill(&mut random);
    let more = u64::from_le_bytes(random) % variance_ms.saturating_add(1);
    Duration::from_millis(base_ms.saturating_add(more).min(DUMMY_DELAY_MS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{Db, Options, Place};

    const WEAK: u32 = 2;
    const STRONG: u32 = 3;

    async fn auth(db: &Db, hashes: &[ScramHash], iterations: u32) -> Auth {
        let settings = Settings {
            methods: vec![Method::Stored],
            mechanisms: vec![Mechanism::Plain],
            hashes: hashes.to_vec(),
            iterations,
            users_max: None,
            certificates: external::Naming::default(),
        };
        let hashing = Arc::new(Hashing::new(1));
        Auth::new(
            settings,
            AccountStore::new(db.clone()),
            Arc::new([0; 32]),
            hashing,
        )
    }

    async fn details(auth: &Auth) -> PassDetails {
        let credentials = auth.store().credentials("romeo", "localhost").await;
        let details = credentials.unwrap().unwrap().pass_details.unwrap();
        PassDetails::parse(&details).unwrap()
    }

    /// XEP-0438.
    #[tokio::test]
    async fn weak_keys_are_made_anew_when_the_password_is_told() {
        let db = Db::open(Options::new(Place::Memory)).await.unwrap();
        db.migrate().await.unwrap();
        let romeo = BareJid::parse("romeo@localhost").unwrap();
        let weak = auth(&db, &[ScramHash::Sha1], WEAK).await;
        weak.register(&romeo, "secret").await.unwrap();
        let before = details(&weak).await.to_string();

        let hashes = [ScramHash::Sha1, ScramHash::Sha256];
        let strong = auth(&db, &hashes, STRONG).await;
        assert!(!strong.check_password(&romeo, "wrong").await.unwrap());
        assert_eq!(details(&strong).await.to_string(), before);
        assert!(strong.check_password(&romeo, "secret").await.unwrap());
        let after = details(&strong).await;
        assert!(after.is_as_strong_as(&hashes, STRONG));
        assert!(strong.check_password(&romeo, "secret").await.unwrap());
        assert_eq!(
            details(&strong).await.to_string(),
            after.to_string(),
            "once"
        );
        // Who asks for less takes what is there.
        assert!(weak.check_password(&romeo, "secret").await.unwrap());
        assert_eq!(details(&strong).await.to_string(), after.to_string());
        assert!(!strong.check_password(&romeo, "wrong").await.unwrap());
    }
}
