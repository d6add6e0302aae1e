//! RFC 6120 sections 4.9, 6.5 and 8.3: error conditions of streams, SASL and stanzas as types.
//!
//! What strangers learn about a fault is decided by these types: a condition and at most a sentence in English.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use std::borrow::Cow;
use std::fmt;

use crate::ns;
use crate::xml::{Place, escape};

/// Conditions of stanza errors (RFC 6120 section 8.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum StanzaCondition {
    BadRequest,
    Conflict,
    FeatureNotImplemented,
    Forbidden,
    Gone,
    InternalServerError,
    ItemNotFound,
    JidMalformed,
    NotAcceptable,
    NotAllowed,
    NotAuthorized,
    PolicyViolation,
    RecipientUnavailable,
    Redirect,
    RegistrationRequired,
    RemoteServerNotFound,
    RemoteServerTimeout,
    ResourceConstraint,
    ServiceUnavailable,
    SubscriptionRequired,
    UndefinedCondition,
    UnexpectedRequest,
}

/// What the sender may do about a stanza error (RFC 6120 section 8.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum ErrorType {
    Auth,
    Cancel,
    Continue,
    Modify,
    Wait,
}

/// A stanza error to be sent (RFC 6120 section 8.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StanzaError {
    /// The defined condition.
    pub condition: StanzaCondition,
    /// What the sender may do.
    pub error_type: ErrorType,
    /// A text for people, in English.
    pub text: Option<Cow<'static, str>>,
    /// An application-specific condition: element name and namespace.
    pub application: Option<(&'static str, &'static str)>,
}

impl StanzaCondition {
    /// All conditions, in the order of RFC 6120.
    pub const ALL: [Self; 22] = [
        Self::BadRequest,
        Self::Conflict,
        Self::FeatureNotImplemented,
        Self::Forbidden,
        Self::Gone,
        Self::InternalServerError,
        Self::ItemNotFound,
        Self::JidMalformed,
        Self::NotAcceptable,
        Self::NotAllowed,
        Self::NotAuthorized,
        Self::PolicyViolation,
        Self::RecipientUnavailable,
        Self::Redirect,
        Self::RegistrationRequired,
        Self::RemoteServerNotFound,
        Self::RemoteServerTimeout,
        Self::ResourceConstraint,
        Self::ServiceUnavailable,
        Self::SubscriptionRequired,
        Self::UndefinedCondition,
        Self::UnexpectedRequest,
    ];

    /// The condition's element name.
    pub fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::Conflict => "conflict",
            Self::FeatureNotImplemented => "feature-not-implemented",
            Self::Forbidden => "forbidden",
            Self::Gone => "gone",
            Self::InternalServerError => "internal-server-error",
            Self::ItemNotFound => "item-not-found",
            Self::JidMalformed => "jid-malformed",
            Self::NotAcceptable => "not-acceptable",
            Self::NotAllowed => "not-allowed",
            Self::NotAuthorized => "not-authorized",
            Self::PolicyViolation => "policy-violation",
            Self::RecipientUnavailable => "recipient-unavailable",
            Self::Redirect => "redirect",
            Self::RegistrationRequired => "registration-required",
            Self::RemoteServerNotFound => "remote-server-not-found",
            Self::RemoteServerTimeout => "remote-server-timeout",
            Self::ResourceConstraint => "resource-constraint",
            Self::ServiceUnavailable => "service-unavailable",
            Self::SubscriptionRequired => "subscription-required",
            Self::UndefinedCondition => "undefined-condition",
            Self::UnexpectedRequest => "unexpected-request",
        }
    }

    /// The condition with that element name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|condition| condition.name() == name)
    }

    /// The type that RFC 6120 section 8.3.3 associates with it. Where the RFC names two types, the first of them
    /// (`modify` for policy-violation, `wait` for unexpected-request); `cancel` for undefined-condition, which may
    /// have any: do not try again what nobody can explain.
    pub fn default_type(self) -> ErrorType {
        match self {
            Self::Forbidden
            | Self::NotAuthorized
            | Self::RegistrationRequired
            | Self::SubscriptionRequired => ErrorType::Auth,
            Self::Conflict
            | Self::FeatureNotImplemented
            | Self::Gone
            | Self::InternalServerError
            | Self::ItemNotFound
            | Self::NotAllowed
            | Self::RemoteServerNotFound
            | Self::ServiceUnavailable
            | Self::UndefinedCondition => ErrorType::Cancel,
            Self::BadRequest
            | Self::JidMalformed
            | Self::NotAcceptable
            | Self::PolicyViolation
            | Self::Redirect => ErrorType::Modify,
            Self::RecipientUnavailable
            | Self::RemoteServerTimeout
            | Self::ResourceConstraint
            | Self::UnexpectedRequest => ErrorType::Wait,
        }
    }
}

impl ErrorType {
    /// All types, in the order of RFC 6120.
    pub const ALL: [Self; 5] = [
        Self::Auth,
        Self::Cancel,
        Self::Continue,
        Self::Modify,
        Self::Wait,
    ];

    /// The value of the attribute `type`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::Cancel => "cancel",
            Self::Continue => "continue",
            Self::Modify => "modify",
            Self::Wait => "wait",
        }
    }

    /// The type with that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|error_type| error_type.name() == name)
    }
}

impl StanzaError {
    /// The condition with its default type.
    pub fn new(condition: StanzaCondition) -> Self {
        Self {
            condition,
            error_type: condition.default_type(),
            text: None,
            application: None,
        }
    }

    /// Adds a text for people.
    pub fn with_text(self, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            text: Some(text.into()),
            ..self
        }
    }

    /// Replaces the type.
    pub fn with_type(self, error_type: ErrorType) -> Self {
        Self { error_type, ..self }
    }

    /// Adds an application-specific condition.
    pub fn with_application(self, name: &'static str, ns: &'static str) -> Self {
        Self {
            application: Some((name, ns)),
            ..self
        }
    }

    /// Appends `<error type='…'>…</error>` for a stream whose default namespace is the stanza's.
    pub fn write(&self, out: &mut Vec<u8>) {
        push(out, &["<error type='", self.error_type.name(), "'>"]);
        push(
            out,
            &[
                "<",
                self.condition.name(),
                " xmlns='",
                ns::STANZA_ERRORS,
                "'/>",
            ],
        );
        if let Some(text) = &self.text {
            write_text(out, ns::STANZA_ERRORS, text);
        }
        if let Some((name, application_ns)) = self.application {
            push(out, &["<", name, " xmlns='"]);
            escape(application_ns, Place::Attribute, out);
            push(out, &["'/>"]);
        }
        push(out, &["</error>"]);
    }
}

impl From<StanzaCondition> for StanzaError {
    fn from(condition: StanzaCondition) -> Self {
        Self::new(condition)
    }
}

/// Conditions of stream errors (RFC 6120 section 4.9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum StreamCondition {
    BadFormat,
    BadNamespacePrefix,
    Conflict,
    ConnectionTimeout,
    HostGone,
    HostUnknown,
    ImproperAddressing,
    InternalServerError,
    InvalidFrom,
    InvalidNamespace,
    InvalidXml,
    NotAuthorized,
    NotWellFormed,
    PolicyViolation,
    RemoteConnectionFailed,
    Reset,
    ResourceConstraint,
    RestrictedXml,
    SeeOtherHost,
    SystemShutdown,
    UndefinedCondition,
    UnsupportedEncoding,
    UnsupportedFeature,
    UnsupportedStanzaType,
    UnsupportedVersion,
}

/// A stream error (RFC 6120 section 4.9). It ends the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamError {
    /// The defined condition.
    pub condition: StreamCondition,
    /// A text for people, in English.
    pub text: Option<Cow<'static, str>>,
    /// Character data of the condition's element (the address of `see-other-host`).
    pub content: Option<Box<str>>,
    /// Application-specific condition, already serialised with its namespace.
    pub application: Option<Cow<'static, str>>,
}

impl StreamCondition {
    /// All conditions, in the order of RFC 6120.
    pub const ALL: [Self; 25] = [
        Self::BadFormat,
        Self::BadNamespacePrefix,
        Self::Conflict,
        Self::ConnectionTimeout,
        Self::HostGone,
        Self::HostUnknown,
        Self::ImproperAddressing,
        Self::InternalServerError,
        Self::InvalidFrom,
        Self::InvalidNamespace,
        Self::InvalidXml,
        Self::NotAuthorized,
        Self::NotWellFormed,
        Self::PolicyViolation,
        Self::RemoteConnectionFailed,
        Self::Reset,
        Self::ResourceConstraint,
        Self::RestrictedXml,
        Self::SeeOtherHost,
        Self::SystemShutdown,
        Self::UndefinedCondition,
        Self::UnsupportedEncoding,
        Self::UnsupportedFeature,
        Self::UnsupportedStanzaType,
        Self::UnsupportedVersion,
    ];

    /// The condition's element name.
    pub fn name(self) -> &'static str {
        match self {
            Self::BadFormat => "bad-format",
            Self::BadNamespacePrefix => "bad-namespace-prefix",
            Self::Conflict => "conflict",
            Self::ConnectionTimeout => "connection-timeout",
            Self::HostGone => "host-gone",
            Self::HostUnknown => "host-unknown",
            Self::ImproperAddressing => "improper-addressing",
            Self::InternalServerError => "internal-server-error",
            Self::InvalidFrom => "invalid-from",
            Self::InvalidNamespace => "invalid-namespace",
            Self::InvalidXml => "invalid-xml",
            Self::NotAuthorized => "not-authorized",
            Self::NotWellFormed => "not-well-formed",
            Self::PolicyViolation => "policy-violation",
            Self::RemoteConnectionFailed => "remote-connection-failed",
            Self::Reset => "reset",
            Self::ResourceConstraint => "resource-constraint",
            Self::RestrictedXml => "restricted-xml",
            Self::SeeOtherHost => "see-other-host",
            Self::SystemShutdown => "system-shutdown",
            Self::UndefinedCondition => "undefined-condition",
            Self::UnsupportedEncoding => "unsupported-encoding",
            Self::UnsupportedFeature => "unsupported-feature",
            Self::UnsupportedStanzaType => "unsupported-stanza-type",
            Self::UnsupportedVersion => "unsupported-version",
        }
    }

    /// The condition with that element name. `xml-not-well-formed` is what RFC 3920 called `not-well-formed`.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = if name == "xml-not-well-formed" {
            "not-well-formed"
        } else {
            name
        };
        Self::ALL
            .into_iter()
            .find(|condition| condition.name() == name)
    }
}

/// The application-specific condition of an element over the limit (XEP-0205).
const TOO_BIG: &str = "<stanza-too-big xmlns='urn:xmpp:errors'/>";

impl StreamError {
    /// The condition alone.
    pub fn new(condition: StreamCondition) -> Self {
        Self {
            condition,
            text: None,
            content: None,
            application: None,
        }
    }

    /// Adds a text for people.
    pub fn with_text(self, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            text: Some(text.into()),
            ..self
        }
    }

    /// Adds an application-specific condition: one well-formed element that declares its namespace. It is written as
    /// it is given, so it must not hold foreign text that is not escaped.
    pub fn with_application(self, xml: impl Into<Cow<'static, str>>) -> Self {
        Self {
            application: Some(xml.into()),
            ..self
        }
    }

    /// An element over the limit (XEP-0205).
    pub fn too_big() -> Self {
        Self::new(StreamCondition::PolicyViolation).with_application(TOO_BIG)
    }

    /// Whether it is that.
    pub fn is_too_big(&self) -> bool {
        self.application.as_deref() == Some(TOO_BIG)
    }

    /// The client shall connect to `address` instead: a host name or IP address, IPv6 in brackets, with an optional
    /// port (RFC 6120 section 4.9.3.19).
    pub fn see_other_host(address: &str) -> Self {
        Self {
            content: Some(address.into()),
            ..Self::new(StreamCondition::SeeOtherHost)
        }
    }

    /// Appends `<stream:error>…</stream:error>`, without the stream's end tag.
    pub fn write(&self, out: &mut Vec<u8>) {
        let name = self.condition.name();
        push(
            out,
            &["<stream:error><", name, " xmlns='", ns::STREAM_ERRORS, "'"],
        );
        match &self.content {
            Some(content) => {
                push(out, &[">"]);
                escape(content, Place::Text, out);
                push(out, &["</", name, ">"]);
            }
            None => push(out, &["/>"]),
        }
        if let Some(text) = &self.text {
            write_text(out, ns::STREAM_ERRORS, text);
        }
        if let Some(application) = &self.application {
            push(out, &[application]);
        }
        push(out, &["</stream:error>"]);
    }
}

impl From<StreamCondition> for StreamError {
    fn from(condition: StreamCondition) -> Self {
        Self::new(condition)
    }
}

/// Why SASL failed (RFC 6120 section 6.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum SaslFailure {
    Aborted,
    AccountDisabled,
    CredentialsExpired,
    EncryptionRequired,
    IncorrectEncoding,
    InvalidAuthzid,
    InvalidMechanism,
    MalformedRequest,
    MechanismTooWeak,
    NotAuthorized,
    TemporaryAuthFailure,
}

impl SaslFailure {
    /// All conditions, in the order of RFC 6120.
    pub const ALL: [Self; 11] = [
        Self::Aborted,
        Self::AccountDisabled,
        Self::CredentialsExpired,
        Self::EncryptionRequired,
        Self::IncorrectEncoding,
        Self::InvalidAuthzid,
        Self::InvalidMechanism,
        Self::MalformedRequest,
        Self::MechanismTooWeak,
        Self::NotAuthorized,
        Self::TemporaryAuthFailure,
    ];

    /// The condition's element name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aborted => "aborted",
            Self::AccountDisabled => "account-disabled",
            Self::CredentialsExpired => "credentials-expired",
            Self::EncryptionRequired => "encryption-required",
            Self::IncorrectEncoding => "incorrect-encoding",
            Self::InvalidAuthzid => "invalid-authzid",
            Self::InvalidMechanism => "invalid-mechanism",
            Self::MalformedRequest => "malformed-request",
            Self::MechanismTooWeak => "mechanism-too-weak",
            Self::NotAuthorized => "not-authorized",
            Self::TemporaryAuthFailure => "temporary-auth-failure",
        }
    }

    /// The condition with that element name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|condition| condition.name() == name)
    }

    /// Appends `<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>…</failure>`.
    pub fn write(self, out: &mut Vec<u8>) {
        push(
            out,
            &[
                "<failure xmlns='",
                ns::SASL,
                "'><",
                self.name(),
                "/></failure>",
            ],
        );
    }
}

impl fmt::Display for StanzaCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for StanzaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(
            f,
            "stanza error",
            self.condition.name(),
            self.text.as_deref(),
        )
    }
}

impl std::error::Error for StanzaError {}

impl fmt::Display for StreamCondition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(
            f,
            "stream error",
            self.condition.name(),
            self.text.as_deref(),
        )
    }
}

impl std::error::Error for StreamError {}

impl fmt::Display for SaslFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl std::error::Error for SaslFailure {}

fn describe(f: &mut fmt::Formatter<'_>, what: &str, name: &str, text: Option<&str>) -> fmt::Result {
    match text {
        Some(text) => write!(f, "{what} {name}: {text}"),
        None => write!(f, "{what} {name}"),
    }
}

fn write_text(out: &mut Vec<u8>, ns: &str, text: &str) {
    push(out, &["<text xmlns='", ns, "' xml:lang='en'>"]);
    escape(text, Place::Text, out);
    push(out, &["</text>"]);
}

fn push(out: &mut Vec<u8>, parts: &[&str]) {
    for part in parts {
        out.extend_from_slice(part.as_bytes());
    }
}

#[cfg(test)]
mod tests;
