//! `[shaper]`, `[acl]`, `[access]`: how fast, who, and what they may do.
//!
//! An access rule is a list of classes with a value each; the first class that the asker belongs to gives
//! the value, and nobody who belongs to none is allowed. A class is a list of patterns, of which one must
//! match; a pattern is a set of conditions, of which all must hold. All of it is pure: who asks, and for
//! which domain, is passed in.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use daemon::config::{Check, Checks, OrInfinity};
use protocol::JidRef;
use protocol::jid::{prepare_domain, prepare_local, prepare_resource};
use regex::{Regex, RegexBuilder};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `[shaper]`: limits by name.
pub type ShaperConfig = BTreeMap<String, Shaper>;
/// `[acl]`: classes of users by name.
pub type AclConfig = BTreeMap<String, Vec<AclPattern>>;
/// `[access]`: rules by name.
pub type AccessConfig = BTreeMap<String, Vec<AccessClause>>;

/// How fast something may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Shaper {
    /// Bytes per second for connections, requests per second for the archive. What was not used in the last
    /// four seconds may be used at once.
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub max_rate: u64,
}

/// Conditions that must all hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AclPattern {
    /// Whose users are meant at all.
    #[serde(rename = "match")]
    pub scope: Scope,
    /// The local part of the address.
    pub user: Option<String>,
    /// The domain.
    pub server: Option<String>,
    /// The resource.
    pub resource: Option<String>,
    /// A regular expression for the local part.
    pub user_regexp: Option<String>,
    /// A regular expression for the domain.
    pub server_regexp: Option<String>,
    /// A regular expression for the resource.
    pub resource_regexp: Option<String>,
    /// A pattern with `*`, `?` and `[…]` for the local part.
    pub user_glob: Option<String>,
    /// The same for the domain.
    pub server_glob: Option<String>,
    /// The same for the resource.
    pub resource_glob: Option<String>,
}

/// Whose users a pattern is about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Everybody's.
    All,
    /// Nobody's.
    None,
    /// Those of the domain that is asked about.
    #[default]
    CurrentDomain,
    /// Those of any domain that we serve.
    AnyHostedDomain,
}

/// One clause of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessClause {
    /// The class: a name in `[acl]`, or `all` or `none`. A name that is not there is a class of nobody.
    pub acl: String,
    /// What users of this class get: `"allow"`, `"deny"`, a number, `"infinity"`, `"default"` or the name of
    /// a shaper.
    pub value: AccessValue,
}

/// What a rule gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessValue {
    /// They may.
    Allow,
    /// They may not.
    Deny,
    /// This many.
    Number(u64),
    /// As many as they like.
    Infinity,
    /// The name of a shaper, or another word that the rule knows.
    Name(String),
}

/// Sessions per account where no rule `max_user_sessions` says otherwise.
pub const USER_SESSIONS_MAX_DEFAULT: u64 = 10;

/// Offline messages per account where no rule says otherwise. (MongooseIM has no limit.)
pub const USER_OFFLINE_MESSAGES_MAX_DEFAULT: u64 = 1000;

/// Who asks.
#[derive(Clone, Copy)]
pub struct Asker<'a> {
    local: &'a str,
    domain: &'a str,
    resource: &'a str,
    /// The domain that is asked about.
    current_domain: &'a str,
    is_hosted: &'a (dyn Fn(&str) -> bool + 'a),
}

impl<'a> Asker<'a> {
    /// Somebody who asks for something of `current_domain`; `is_hosted` says which domains are ours.
    pub fn new(
        jid: JidRef<'a>,
        current_domain: &'a str,
        is_hosted: &'a (dyn Fn(&str) -> bool + 'a),
    ) -> Self {
        Self {
            local: jid.local().unwrap_or(""),
            domain: jid.domain(),
            resource: jid.resource().unwrap_or(""),
            current_domain,
            is_hosted,
        }
    }
}

/// The classes and rules of a host type, ready to be asked.
#[derive(Debug, Clone, Default)]
pub struct AccessRules {
    classes: BTreeMap<String, Vec<Pattern>>,
    rules: BTreeMap<String, Vec<AccessClause>>,
}

impl AccessRules {
    /// Prepares classes and rules.
    ///
    /// # Errors
    /// A condition that cannot be one; a checked configuration has none.
    pub fn new(acl: &AclConfig, access: &AccessConfig) -> Result<Self, BadCondition> {
        let mut classes = BTreeMap::new();
        for (name, patterns) in acl {
            let patterns = patterns.iter().map(Pattern::new);
            classes.insert(name.clone(), patterns.collect::<Result<_, _>>()?);
        }
        Ok(Self {
            classes,
            rules: access.clone(),
        })
    }

    /// Whether the rule lets them. The names `all` and `none` are rules by themselves; a rule that is not
    /// there lets nobody.
    pub fn allows(&self, rule: &str, asker: &Asker<'_>) -> bool {
        match rule {
            ALL => true,
            NONE => false,
            rule => self.value(rule, asker) == Some(&AccessValue::Allow),
        }
    }

    /// The number that the rule gives them; `undefined` if the rule is not there or gives none.
    pub fn limit(
        &self,
        rule: &str,
        asker: &Asker<'_>,
        undefined: OrInfinity<u64>,
    ) -> OrInfinity<u64> {
        match self.value(rule, asker) {
            Some(AccessValue::Number(number)) => OrInfinity::Value(*number),
            Some(AccessValue::Infinity) => OrInfinity::Infinity,
            _ => undefined,
        }
    }

    /// The shaper that the rule gives them.
    pub fn shaper(&self, rule: &str, asker: &Asker<'_>) -> Option<&str> {
        match self.value(rule, asker) {
            Some(AccessValue::Name(name)) if name != NONE => Some(name),
            _ => None,
        }
    }

    /// The value that the rule gives them; `Deny` if no class of the rule is theirs, `None` if the rule is
    /// not there.
    pub fn value(&self, rule: &str, asker: &Asker<'_>) -> Option<&AccessValue> {
        let clauses = self.rules.get(rule)?;
        let first = clauses.iter().find(|clause| self.is_in(&clause.acl, asker));
        Some(first.map_or(&AccessValue::Deny, |clause| &clause.value))
    }

    /// Whether they belong to a class.
    pub fn is_in(&self, class: &str, asker: &Asker<'_>) -> bool {
        match class {
            ALL => true,
            NONE => false,
            class => self
                .classes
                .get(class)
                .is_some_and(|patterns| patterns.iter().any(|pattern| pattern.matches(asker))),
        }
    }
}

const ALL: &str = "all";
const NONE: &str = "none";

/// The rules of a host type: those of the node, with the host type's own clauses put before a last clause
/// that allows all.
pub fn merge_access(global: &AccessConfig, own: &AccessConfig) -> AccessConfig {
    let mut merged = global.clone();
    for (name, clauses) in own {
        let rule = merged.entry(name.clone()).or_default();
        let catches_all = rule
            .last()
            .is_some_and(|last| last.acl == ALL && last.value == AccessValue::Allow);
        let at = rule.len() - usize::from(catches_all);
        rule.splice(at..at, clauses.iter().cloned());
    }
    merged
}

/// The classes of a host type: those of the node and its own, united.
pub fn merge_acl(global: &AclConfig, own: &AclConfig) -> AclConfig {
    let mut merged = global.clone();
    for (name, patterns) in own {
        let class = merged.entry(name.clone()).or_default();
        class.extend(patterns.iter().cloned());
    }
    merged
}

/// A pattern, ready to be asked.
#[derive(Debug, Clone)]
struct Pattern {
    scope: Scope,
    user: Vec<Condition>,
    server: Vec<Condition>,
    resource: Vec<Condition>,
}

#[derive(Debug, Clone)]
enum Condition {
    Is(String),
    Matches(Regex),
}

impl Pattern {
    fn new(config: &AclPattern) -> Result<Self, BadCondition> {
        let mut pattern = Self {
            scope: config.scope,
            user: Vec::new(),
            server: Vec::new(),
            resource: Vec::new(),
        };
        for (key, part, text) in config.conditions() {
            let condition = Condition::new(key, text)?;
            match part {
                Part::User => pattern.user.push(condition),
                Part::Server => pattern.server.push(condition),
                Part::Resource => pattern.resource.push(condition),
            }
        }
        Ok(pattern)
    }

    fn matches(&self, asker: &Asker<'_>) -> bool {
        let is_in_scope = match self.scope {
            Scope::All => true,
            Scope::None => false,
            Scope::CurrentDomain => asker.domain == asker.current_domain,
            Scope::AnyHostedDomain => (asker.is_hosted)(asker.domain),
        };
        let hold = |conditions: &[Condition], text| conditions.iter().all(|it| it.holds(text));
        is_in_scope
            && hold(&self.user, asker.local)
            && hold(&self.server, asker.domain)
            && hold(&self.resource, asker.resource)
    }
}

/// Which part of an address a condition is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    User,
    Server,
    Resource,
}

impl AclPattern {
    /// The conditions that are given: the option, the part that it is about, and its value.
    fn conditions(&self) -> impl Iterator<Item = (&'static str, Part, &str)> {
        [
            ("user", Part::User, &self.user),
            ("server", Part::Server, &self.server),
            ("resource", Part::Resource, &self.resource),
            ("user_regexp", Part::User, &self.user_regexp),
            ("server_regexp", Part::Server, &self.server_regexp),
            ("resource_regexp", Part::Resource, &self.resource_regexp),
            ("user_glob", Part::User, &self.user_glob),
            ("server_glob", Part::Server, &self.server_glob),
            ("resource_glob", Part::Resource, &self.resource_glob),
        ]
        .into_iter()
        .filter_map(|(key, part, value)| Some((key, part, value.as_deref()?)))
    }
}

impl Condition {
    /// The condition of the option `key`, whose name says what kind it is.
    fn new(key: &'static str, text: &str) -> Result<Self, BadCondition> {
        let bad = |reason: String| BadCondition { key, reason };
        let prepared = |prepared: Result<Cow<'_, str>, _>| {
            let not_a_part = |error: protocol::jid::JidError| bad(error.to_string());
            prepared
                .map(|text| Self::Is(text.into_owned()))
                .map_err(not_a_part)
        };
        // Local parts and domains have no upper case in normal form; resources do.
        let ignores_case = !key.starts_with("resource");
        match key {
            "user" => prepared(prepare_local(text)),
            "server" => prepared(prepare_domain(text)),
            "resource" => prepared(prepare_resource(text)),
            key if key.ends_with("_glob") => {
                let expression = glob_to_regexp(text).map_err(bad)?;
                compile(&expression, ignores_case).map_err(bad)
            }
            _ => compile(text, ignores_case).map_err(bad),
        }
    }

    fn holds(&self, text: &str) -> bool {
        match self {
            Self::Is(expected) => expected == text,
            Self::Matches(expression) => expression.is_match(text),
        }
    }
}

/// A regular expression takes at most this much memory; it runs in linear time whatever it is.
const REGEXP_BYTES_MAX: usize = 256 * 1024;

fn compile(expression: &str, ignores_case: bool) -> Result<Condition, String> {
    let built = RegexBuilder::new(expression)
        .case_insensitive(ignores_case)
        .size_limit(REGEXP_BYTES_MAX)
        .build();
    let last_line = |error: regex::Error| {
        let text = error.to_string();
        let line = text.lines().last().unwrap_or_default();
        line.trim_start_matches("error: ").to_owned()
    };
    built.map(Condition::Matches).map_err(last_line)
}

/// A shell pattern as a regular expression that must match the whole text.
fn glob_to_regexp(glob: &str) -> Result<String, String> {
    let mut expression = String::from("(?s)^");
    let mut chars = glob.chars();
    while let Some(char) = chars.next() {
        match char {
            '*' => expression.push_str(".*"),
            '?' => expression.push('.'),
            '[' => {
                let rest = chars.as_str();
                // A bracket right at the beginning of a set stands for itself.
                let from = rest.strip_prefix(['!', '^']).unwrap_or(rest);
                let from = rest.len() - from.len() + usize::from(from.starts_with(']'));
                let end = rest[from..].find(']').ok_or("a `[` is not closed")? + from;
                let (negation, set) = match rest[..end].strip_prefix(['!', '^']) {
                    Some(set) => ("^", set),
                    None => ("", &rest[..end]),
                };
                expression.push_str(&format!("[{negation}{}]", escaped_set(set)));
                chars = rest[end + 1..].chars();
            }
            char => expression.push_str(&regex::escape(char.encode_utf8(&mut [0; 4]))),
        }
    }
    expression.push('$');
    Ok(expression)
}

/// What stands between the brackets of a shell pattern, with ranges, for those of a regular expression.
fn escaped_set(set: &str) -> String {
    let mut escaped = String::with_capacity(set.len());
    for char in set.chars() {
        if matches!(char, '\\' | '[' | ']' | '&' | '~' | '^') {
            escaped.push('\\');
        }
        escaped.push(char);
    }
    escaped
}

/// A condition that cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}`: {reason}")]
pub struct BadCondition {
    key: &'static str,
    reason: String,
}

impl Check for AclPattern {
    fn check(&self, checks: &mut Checks<'_>) {
        for (key, _, text) in self.conditions() {
            if let Err(error) = Condition::new(key, text) {
                checks.finding(key, error.to_string(), "");
            }
        }
    }
}

/// How fast a connection may be read from. It has 16 bytes, since there is one per connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// Units per second.
    rate: u64,
    /// When what was taken so far would be paid for at this rate: nanoseconds on the caller's clock.
    paid_at: u64,
}

/// What was not used for this long may be used at once.
const BURST: Duration = Duration::from_secs(4);

impl Bucket {
    /// A bucket that is full.
    pub fn new(shaper: Shaper) -> Self {
        Self {
            rate: shaper.max_rate.max(1),
            paid_at: 0,
        }
    }

    /// Takes `units`, which were used already, at the time `now` since some fixed moment. Answers how long
    /// to wait before the next ones.
    pub fn take(&mut self, units: u64, now: Duration) -> Duration {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let burst = u64::try_from(BURST.as_nanos()).expect("a few seconds");
        let cost = u128::from(units) * 1_000_000_000 / u128::from(self.rate);
        let cost = u64::try_from(cost).unwrap_or(u64::MAX);
        self.paid_at = self.paid_at.max(now).saturating_add(cost);
        let ahead = self.paid_at - now;
        Duration::from_nanos(ahead.saturating_sub(burst))
    }
}

impl Serialize for AccessValue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Allow => serializer.serialize_str("allow"),
            Self::Deny => serializer.serialize_str("deny"),
            Self::Number(number) => serializer.serialize_u64(*number),
            Self::Infinity => serializer.serialize_str("infinity"),
            Self::Name(name) => serializer.serialize_str(name),
        }
    }
}

/// Written by hand: `untagged` would buffer the value and lose the line of an error.
impl<'de> Deserialize<'de> for AccessValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AccessValueVisitor)
    }
}

struct AccessValueVisitor;

impl Visitor<'_> for AccessValueVisitor {
    type Value = AccessValue;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a word or a number")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<AccessValue, E> {
        let negative = |_| E::custom("a number below 0");
        u64::try_from(number)
            .map(AccessValue::Number)
            .map_err(negative)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<AccessValue, E> {
        Ok(AccessValue::Number(number))
    }

    fn visit_str<E: de::Error>(self, word: &str) -> Result<AccessValue, E> {
        Ok(match word {
            "allow" => AccessValue::Allow,
            "deny" => AccessValue::Deny,
            "infinity" => AccessValue::Infinity,
            word => AccessValue::Name(word.into()),
        })
    }
}

impl JsonSchema for AccessValue {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "AccessValue".into()
    }

    fn json_schema(_generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["string", "integer"], "minimum": 0, "minLength": 1 })
    }
}

#[cfg(test)]
mod tests;
