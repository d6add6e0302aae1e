//! Addresses (RFC 7622).
use std::borrow::Cow;

/// An address that is no JID, and which part is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JidError {
    /// The local part is empty, longer than 1,023 bytes, or has a character that PRECIS or RFC 7622 forbids.
    #[error("the local part of the address is not allowed")]
    Local,
    /// The domain part is empty, longer than 1,023 bytes or no domain.
    #[error("the domain part of the address is not allowed")]
    Domain,
    /// The resource part is empty, longer than 1,023 bytes or has a forbidden character.
    #[error("the resource part of the address is not allowed")]
    Resource,
}

/// Any address in normal form: `[local@]domain[/resource]`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Jid {
    text: Box<str>,
    /// Index of the `@`, 0 if there is no local part.
    at: u16,
    /// Index of the `/`, `text.len()` if there is no resource.
    slash: u16,
}

/// A borrowed address in normal form.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct JidRef<'a> {
    text: &'a str,
    at: u16,
    slash: u16,
}

/// An address without a resource.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BareJid(Jid);

/// An address with a resource.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FullJid(Jid);

#[allow(missing_docs, unused, clippy::all)]
impl<'a> JidRef<'a> {
    /// `text` as an address if it is one *and* already in normal form; allocates nothing for ASCII.
    pub fn new_normal(text: &'a str) -> Option<Self> { todo!() }
    pub fn local(self) -> Option<&'a str> { todo!() }
    pub fn domain(self) -> &'a str { todo!() }
    pub fn resource(self) -> Option<&'a str> { todo!() }
    /// `local@domain` without the resource.
    pub fn bare_str(self) -> &'a str { todo!() }
    pub fn as_str(self) -> &'a str { self.text }
    pub fn is_bare(self) -> bool { todo!() }
    pub fn to_jid(self) -> Jid { todo!() }
    pub fn to_bare(self) -> BareJid { todo!() }
    pub fn to_full(self) -> Option<FullJid> { todo!() }
}

#[allow(missing_docs, unused, clippy::all)]
impl Jid {
    /// Parses and normalises.
    pub fn parse(text: &str) -> Result<Self, JidError> { todo!() }
    pub fn from_parts(local: Option<&str>, domain: &str, resource: Option<&str>) -> Result<Self, JidError> { todo!() }
    pub fn as_ref(&self) -> JidRef<'_> { todo!() }
    pub fn as_str(&self) -> &str { &self.text }
    pub fn local(&self) -> Option<&str> { todo!() }
    pub fn domain(&self) -> &str { todo!() }
    pub fn resource(&self) -> Option<&str> { todo!() }
    pub fn bare_str(&self) -> &str { todo!() }
    pub fn to_bare(&self) -> BareJid { todo!() }
    pub fn into_full(self) -> Option<FullJid> { todo!() }
}

#[allow(missing_docs, unused, clippy::all)]
impl BareJid {
    pub fn parse(text: &str) -> Result<Self, JidError> { todo!() }
    pub fn from_parts(local: Option<&str>, domain: &str) -> Result<Self, JidError> { todo!() }
    pub fn as_ref(&self) -> JidRef<'_> { todo!() }
    pub fn as_str(&self) -> &str { todo!() }
    pub fn local(&self) -> Option<&str> { todo!() }
    pub fn domain(&self) -> &str { todo!() }
    pub fn with_resource(&self, resource: &str) -> Result<FullJid, JidError> { todo!() }
}

#[allow(missing_docs, unused, clippy::all)]
impl FullJid {
    pub fn parse(text: &str) -> Result<Self, JidError> { todo!() }
    pub fn as_ref(&self) -> JidRef<'_> { todo!() }
    pub fn as_str(&self) -> &str { todo!() }
    pub fn local(&self) -> Option<&str> { todo!() }
    pub fn domain(&self) -> &str { todo!() }
    pub fn resource(&self) -> &str { todo!() }
    pub fn bare_str(&self) -> &str { todo!() }
    pub fn to_bare(&self) -> BareJid { todo!() }
}

/// Prepares a local part (RFC 7622 section 3.3, UsernameCaseMapped).
pub fn prepare_local(_text: &str) -> Result<Cow<'_, str>, JidError> { todo!() }
/// Prepares a domain (RFC 7622 section 3.2): U-labels, no final dot, IP literals allowed.
pub fn prepare_domain(_text: &str) -> Result<Cow<'_, str>, JidError> { todo!() }
/// Prepares a resource (RFC 7622 section 3.4, OpaqueString).
pub fn prepare_resource(_text: &str) -> Result<Cow<'_, str>, JidError> { todo!() }
/// Prepares a password (RFC 8265 section 4, OpaqueString); `None` if it is empty or not allowed.
pub fn prepare_password(_text: &str) -> Option<Cow<'_, str>> { todo!() }
