//! Error conditions as types: of streams, stanzas and SASL.
use std::borrow::Cow;

/// Conditions of stanza errors (RFC 6120 section 8.3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum StanzaCondition {
    BadRequest, Conflict, FeatureNotImplemented, Forbidden, Gone, InternalServerError, ItemNotFound, JidMalformed,
    NotAcceptable, NotAllowed, NotAuthorized, PolicyViolation, RecipientUnavailable, Redirect, RegistrationRequired,
    RemoteServerNotFound, RemoteServerTimeout, ResourceConstraint, ServiceUnavailable, SubscriptionRequired,
    UndefinedCondition, UnexpectedRequest,
}

/// What the sender may do about a stanza error (RFC 6120 section 8.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum ErrorType { Auth, Cancel, Continue, Modify, Wait }

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

#[allow(missing_docs, unused, clippy::all)]
impl StanzaCondition {
    pub fn name(self) -> &'static str { todo!() }
    /// The type that RFC 6120 section 8.3.3 associates with it.
    pub fn default_type(self) -> ErrorType { todo!() }
}
#[allow(missing_docs, unused, clippy::all)]
impl StanzaError {
    pub fn new(condition: StanzaCondition) -> Self { todo!() }
    pub fn with_text(self, text: impl Into<Cow<'static, str>>) -> Self { todo!() }
    pub fn with_type(self, error_type: ErrorType) -> Self { todo!() }
    pub fn with_application(self, name: &'static str, ns: &'static str) -> Self { todo!() }
    /// Appends `<error type='…'>…</error>` for a stream whose default namespace is the stanza's.
    pub fn write(&self, out: &mut Vec<u8>) { todo!() }
}
impl From<StanzaCondition> for StanzaError {
    fn from(condition: StanzaCondition) -> Self { Self::new(condition) }
}

/// Conditions of stream errors (RFC 6120 section 4.9.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum StreamCondition {
    BadFormat, BadNamespacePrefix, Conflict, ConnectionTimeout, HostGone, HostUnknown, ImproperAddressing,
    InternalServerError, InvalidFrom, InvalidNamespace, InvalidXml, NotAuthorized, NotWellFormed, PolicyViolation,
    RemoteConnectionFailed, Reset, ResourceConstraint, RestrictedXml, SeeOtherHost, SystemShutdown,
    UndefinedCondition, UnsupportedEncoding, UnsupportedFeature, UnsupportedStanzaType, UnsupportedVersion,
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
#[allow(missing_docs, unused, clippy::all)]
impl StreamCondition {
    pub fn name(self) -> &'static str { todo!() }
}
#[allow(missing_docs, unused, clippy::all)]
impl StreamError {
    pub fn new(condition: StreamCondition) -> Self { todo!() }
    pub fn with_text(self, text: impl Into<Cow<'static, str>>) -> Self { todo!() }
    pub fn with_application(self, xml: impl Into<Cow<'static, str>>) -> Self { todo!() }
    pub fn see_other_host(address: &str) -> Self { todo!() }
    /// Appends `<stream:error>…</stream:error>`, without the stream's end tag.
    pub fn write(&self, out: &mut Vec<u8>) { todo!() }
}
impl From<StreamCondition> for StreamError {
    fn from(condition: StreamCondition) -> Self { Self::new(condition) }
}

/// Why SASL failed (RFC 6120 section 6.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum SaslFailure {
    Aborted, AccountDisabled, CredentialsExpired, EncryptionRequired, IncorrectEncoding, InvalidAuthzid,
    InvalidMechanism, MalformedRequest, MechanismTooWeak, NotAuthorized, TemporaryAuthFailure,
}
#[allow(missing_docs, unused, clippy::all)]
impl SaslFailure {
    pub fn name(self) -> &'static str { todo!() }
    /// Appends `<failure xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>…</failure>`.
    pub fn write(self, out: &mut Vec<u8>) { todo!() }
}
