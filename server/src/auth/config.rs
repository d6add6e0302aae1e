//! `[auth]`: how users of a host type prove who they are.

use daemon::config::{Check, Checks, Millis, OrInfinity};
use protocol::sasl::ScramHash;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How users prove who they are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Auth {
    /// The methods, in the order in which they are tried; by default those that have a section here, by the
    /// alphabet, and `internal` if there is none.
    pub methods: Option<Vec<Method>>,
    /// The SASL mechanisms that may be offered, best first.
    pub sasl_mechanisms: Vec<Mechanism>,
    /// How a client's certificate names its account, for the mechanism EXTERNAL. The first that fits counts.
    pub sasl_external: Vec<SaslExternal>,
    /// What stands around the local part in a common name.
    pub sasl_external_common_name: SaslExternalCommonName,
    /// How many accounts one domain may have.
    pub max_users_per_domain: OrInfinity<u64>,
    /// How passwords are stored.
    pub password: Password,
    /// Users without an account (XEP-0175).
    pub anonymous: Option<Anonymous>,
    /// Everyone is let in with any password: for load tests.
    pub dummy: Option<Dummy>,
    /// Accounts in the node's own database.
    pub internal: Option<Internal>,
    /// Clients show a certificate that names them (XEP-0178). There need be no account of that name.
    pub pki: Option<Pki>,
    /// Accounts in the database of `[outgoing_pools.rdbms.default]`: the same, where that is configured.
    pub rdbms: Option<Rdbms>,
}

/// A way to find out whether somebody is who he says.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Nobody is asked; the server makes up the name.
    Anonymous,
    /// Nobody is asked; every name and password will do.
    Dummy,
    /// By the accounts in the node's own database.
    Internal,
    /// By a certificate of the client's.
    Pki,
    /// By the accounts in the configured database.
    Rdbms,
}

/// A SASL mechanism.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Mechanism {
    ScramSha512Plus,
    ScramSha512,
    ScramSha384Plus,
    ScramSha384,
    ScramSha256Plus,
    ScramSha256,
    ScramSha224Plus,
    ScramSha224,
    ScramSha1Plus,
    ScramSha1,
    Plain,
    Anonymous,
    External,
}

/// How a client's certificate names its account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SaslExternal {
    /// By the XMPP address in it (`id-on-xmppAddr`). Of several the client chooses one.
    Standard,
    /// By the common name of its subject, if there is no XMPP address in it.
    CommonName,
}

/// What stands around the local part in a common name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SaslExternalCommonName {
    /// What stands before it, and is taken off. A common name without it names nobody.
    pub prefix: String,
    /// What stands behind it, and is taken off. A common name without it names nobody.
    pub suffix: String,
}

/// Certificates of clients.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Pki {}

/// How passwords are stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Password {
    /// The form.
    pub format: PasswordFormat,
    /// The hashes that keys are stored for; a client can only use a mechanism whose hash is here.
    pub hash: Vec<Hash>,
    /// Rounds of PBKDF2 for keys that are made from here on. The client does them at each login.
    #[schemars(range(min = 10_000, max = 1_000_000))]
    pub scram_iterations: u32,
}

/// The form in which passwords are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PasswordFormat {
    /// Keys from which the password cannot be found (RFC 5802).
    #[default]
    Scram,
}

/// A hash of SCRAM.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Hash {
    Sha,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

/// Users without an account.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Anonymous {
    /// Lets the same anonymous address have several sessions.
    pub allow_multiple_connections: bool,
    /// How they log in.
    pub protocol: AnonymousProtocol,
}

/// How anonymous users log in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnonymousProtocol {
    /// By the SASL mechanism ANONYMOUS (RFC 4505).
    #[default]
    SaslAnon,
}

/// The pretended cost of looking a password up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Dummy {
    /// The time that each answer takes at least.
    #[schemars(range(min = 0, max = 60_000))]
    pub base_time: Millis,
    /// What is added at most, by chance.
    #[schemars(range(min = 0, max = 60_000))]
    pub variance: Millis,
}

/// Accounts in the node's own database.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Internal {}

/// Accounts in the configured database.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rdbms {
    /// Counts users by what the database estimates, which is fast and not exact.
    pub users_number_estimate: bool,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            methods: None,
            sasl_mechanisms: Mechanism::ALL.to_vec(),
            sasl_external: vec![SaslExternal::Standard],
            sasl_external_common_name: SaslExternalCommonName::default(),
            max_users_per_domain: OrInfinity::Infinity,
            password: Password::default(),
            anonymous: None,
            dummy: None,
            internal: None,
            pki: None,
            rdbms: None,
        }
    }
}

impl Default for Password {
    fn default() -> Self {
        Self {
            format: PasswordFormat::Scram,
            hash: Hash::ALL.to_vec(),
            scram_iterations: 10_000,
        }
    }
}

impl Default for Dummy {
    fn default() -> Self {
        Self {
            base_time: Millis(50),
            variance: Millis(450),
        }
    }
}

impl Auth {
    /// The methods in the order in which they are tried.
    pub fn methods(&self) -> Vec<Method> {
        if let Some(methods) = &self.methods {
            return methods.clone();
        }
        let sections = [
            (Method::Anonymous, self.anonymous.is_some()),
            (Method::Dummy, self.dummy.is_some()),
            (Method::Internal, self.internal.is_some()),
            (Method::Pki, self.pki.is_some()),
            (Method::Rdbms, self.rdbms.is_some()),
        ];
        let given = sections.into_iter().filter(|(_, given)| *given);
        let methods: Vec<Method> = given.map(|(method, _)| method).collect();
        if methods.is_empty() {
            return vec![Method::Internal];
        }
        methods
    }
}

impl Mechanism {
    /// All but EXTERNAL, best first: the default.
    pub const ALL: [Self; 12] = [
        Self::ScramSha512Plus,
        Self::ScramSha512,
        Self::ScramSha384Plus,
        Self::ScramSha384,
        Self::ScramSha256Plus,
        Self::ScramSha256,
        Self::ScramSha224Plus,
        Self::ScramSha224,
        Self::ScramSha1Plus,
        Self::ScramSha1,
        Self::Plain,
        Self::Anonymous,
    ];

    /// The name on the wire.
    pub fn name(self) -> &'static str {
        match (self.scram(), self) {
            (Some((hash, true)), _) => hash.plus_name(),
            (Some((hash, false)), _) => hash.name(),
            (None, Self::Anonymous) => "ANONYMOUS",
            (None, Self::External) => "EXTERNAL",
            (None, _) => "PLAIN",
        }
    }

    /// Hash and channel binding of a SCRAM mechanism.
    pub fn scram(self) -> Option<(ScramHash, bool)> {
        match self {
            Self::ScramSha512Plus => Some((ScramHash::Sha512, true)),
            Self::ScramSha512 => Some((ScramHash::Sha512, false)),
            Self::ScramSha384Plus => Some((ScramHash::Sha384, true)),
            Self::ScramSha384 => Some((ScramHash::Sha384, false)),
            Self::ScramSha256Plus => Some((ScramHash::Sha256, true)),
            Self::ScramSha256 => Some((ScramHash::Sha256, false)),
            Self::ScramSha224Plus => Some((ScramHash::Sha224, true)),
            Self::ScramSha224 => Some((ScramHash::Sha224, false)),
            Self::ScramSha1Plus => Some((ScramHash::Sha1, true)),
            Self::ScramSha1 => Some((ScramHash::Sha1, false)),
            Self::Plain | Self::Anonymous | Self::External => None,
        }
    }
}

impl Hash {
    /// All of them: the default.
    pub const ALL: [Self; 5] = [
        Self::Sha,
        Self::Sha224,
        Self::Sha256,
        Self::Sha384,
        Self::Sha512,
    ];

    /// The same for SCRAM.
    pub fn scram(self) -> ScramHash {
        match self {
            Self::Sha => ScramHash::Sha1,
            Self::Sha224 => ScramHash::Sha224,
            Self::Sha256 => ScramHash::Sha256,
            Self::Sha384 => ScramHash::Sha384,
            Self::Sha512 => ScramHash::Sha512,
        }
    }
}

impl Check for Auth {
    fn check(&self, checks: &mut Checks<'_>) {
        if let Some(methods) = &self.methods
            && methods.is_empty()
        {
            let message = "no method is left: nobody could log in";
            checks.finding("methods", message, "take the line out for the default");
        }
        for key in repeated(&self.methods.clone().unwrap_or_default()) {
            checks.finding(&format!("methods[{key}]"), "this method stands twice", "");
        }
        if self.sasl_mechanisms.is_empty() {
            let message = "no mechanism is left: nobody could log in";
            checks.finding(
                "sasl_mechanisms",
                message,
                "take the line out for the default",
            );
        }
        self.check_certificates(checks);
        for key in repeated(&self.sasl_mechanisms) {
            let path = format!("sasl_mechanisms[{key}]");
            checks.finding(&path, "this mechanism stands twice", "");
        }
        if self.password.hash.is_empty() {
            let message = "no hash is left: no password could be stored";
            checks.finding(
                "password.hash",
                message,
                "take the line out for the default",
            );
        }
        for key in repeated(&self.password.hash) {
            checks.finding(
                &format!("password.hash[{key}]"),
                "this hash stands twice",
                "",
            );
        }
    }
}

impl Auth {
    /// The method `pki` and the mechanism EXTERNAL belong together.
    fn check_certificates(&self, checks: &mut Checks<'_>) {
        if !["methods", "pki", "sasl_mechanisms"]
            .iter()
            .all(|key| checks.is_sound(key))
        {
            return;
        }
        let has_method = self.methods().contains(&Method::Pki);
        let has_mechanism = self.sasl_mechanisms.contains(&Mechanism::External);
        if has_method && !has_mechanism {
            let key = if self.methods.is_some() {
                "methods"
            } else {
                "pki"
            };
            let message = "nobody could log in by certificate: the mechanism is not offered";
            checks.finding(key, message, "add `\"external\"` to `sasl_mechanisms`");
        }
        if has_mechanism && !has_method {
            let message = "EXTERNAL is never offered without the method `pki`";
            checks.finding("sasl_mechanisms", message, "add `[auth.pki]`");
        }
        if has_method && self.sasl_external.is_empty() {
            let message = "no certificate would name anybody";
            checks.finding(
                "sasl_external",
                message,
                "take the line out for the default",
            );
        }
        for index in repeated(&self.sasl_external) {
            checks.finding(&format!("sasl_external[{index}]"), "this stands twice", "");
        }
    }
}

/// The indexes of what stood in the list before.
fn repeated<T: PartialEq>(list: &[T]) -> Vec<usize> {
    let is_repeated = |index: &usize| list[..*index].contains(&list[*index]);
    (0..list.len()).filter(is_repeated).collect()
}
