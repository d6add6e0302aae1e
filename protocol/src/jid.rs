//! RFC 7622: addresses (JIDs), prepared with PRECIS (RFC 8265) and IDNA (UTS #46, non-transitional).
//!
//! An address is normalised once, where it enters; afterwards two addresses are equal if and only if their texts are.
//! The usual address is ASCII: for it, checks are one pass over the bytes, and nothing is allocated but the address
//! itself. All other spellings take a slower path.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use std::borrow::{Borrow, Cow};
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use memchr::memchr;

mod precis;
mod prepare;
#[cfg(test)]
mod tests;

pub use prepare::{
    PASSWORD_BYTES_MAX, prepare_domain, prepare_local, prepare_password, prepare_resource,
};

/// Longest part of an address in bytes, after preparation (RFC 7622 sections 3.2 to 3.4).
pub const PART_BYTES_MAX: usize = 1_023;

/// Longest address in bytes, after preparation: three parts, `@` and `/`.
pub const JID_BYTES_MAX: usize = 3_071;

/// An address that is no JID, and which part is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JidError {
    /// The local part is empty, longer than 1,023 bytes, or has a character that PRECIS or RFC 7622 forbids.
    #[error("the local part of the address is not allowed")]
    Local,
    /// The domain part is empty, longer than 1,023 bytes or no domain.
    #[error("the domain part of the address is not allowed")]
    Domain,
    /// The resource part is empty, longer than 1,023 bytes or has a forbidden character; or there is a resource where
    /// a bare address is wanted, or none where a full one is.
    #[error("the resource part of the address is not allowed")]
    Resource,
}

/// Any address in normal form: `[local@]domain[/resource]`.
#[derive(Clone)]
pub struct Jid {
    text: Box<str>,
    /// Index of the `@`, 0 if there is no local part.
    at: u16,
    /// Index of the `/`, `text.len()` if there is no resource.
    slash: u16,
}

/// A borrowed address in normal form.
#[derive(Clone, Copy)]
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

impl<'a> JidRef<'a> {
    /// `text` as an address if it is one *and* already in normal form; allocates nothing for ASCII.
    pub fn new_normal(text: &'a str) -> Option<Self> {
        let parts = Parts::split(text);
        let is_normal = |prepared: Result<Cow<'_, str>, JidError>, part: &str| match prepared {
            Ok(Cow::Borrowed(prepared)) => prepared.len() == part.len(),
            Ok(Cow::Owned(prepared)) => *prepared == *part,
            Err(_) => false,
        };
        let normal = parts
            .local
            .is_none_or(|local| is_normal(prepare_local(local), local))
            && is_normal(prepare_domain(parts.domain), parts.domain)
            && parts
                .resource
                .is_none_or(|resource| is_normal(prepare_resource(resource), resource));
        if normal {
            Self::from_prepared(text, parts.local, parts.domain)
        } else {
            None
        }
    }

    /// The part before the `@`.
    pub fn local(self) -> Option<&'a str> {
        if self.at == 0 {
            None
        } else {
            self.text.get(..usize::from(self.at))
        }
    }

    /// The domain: U-labels without a final dot, or an IP address (IPv6 in brackets).
    pub fn domain(self) -> &'a str {
        let start = if self.at == 0 {
            0
        } else {
            usize::from(self.at).saturating_add(1)
        };
        self.text
            .get(start..usize::from(self.slash))
            .unwrap_or_default()
    }

    /// The part after the first `/`.
    pub fn resource(self) -> Option<&'a str> {
        self.text.get(usize::from(self.slash).saturating_add(1)..)
    }

    /// `local@domain` without the resource.
    pub fn bare_str(self) -> &'a str {
        self.text.get(..usize::from(self.slash)).unwrap_or_default()
    }

    /// The whole address.
    pub fn as_str(self) -> &'a str {
        self.text
    }

    /// There is no resource.
    pub fn is_bare(self) -> bool {
        usize::from(self.slash) == self.text.len()
    }

    /// The same address without its resource, still borrowed.
    pub fn without_resource(self) -> Self {
        Self {
            text: self.bare_str(),
            at: self.at,
            slash: self.slash,
        }
    }

    /// An owned copy.
    pub fn to_jid(self) -> Jid {
        Jid {
            text: self.text.into(),
            at: self.at,
            slash: self.slash,
        }
    }

    /// An owned copy without the resource.
    pub fn to_bare(self) -> BareJid {
        BareJid(self.without_resource().to_jid())
    }

    /// An owned copy, if there is a resource.
    pub fn to_full(self) -> Option<FullJid> {
        if self.is_bare() {
            None
        } else {
            Some(FullJid(self.to_jid()))
        }
    }

    /// An address that [`Self::offsets`] told the offsets of; `text` is in normal form.
    pub(crate) fn from_offsets(text: &'a str, at: u16, slash: u16) -> Self {
        Self { text, at, slash }
    }

    /// Index of the `@` (0 if there is no local part) and of the `/` (the length if there is no resource).
    pub(crate) fn offsets(self) -> (u16, u16) {
        (self.at, self.slash)
    }

    /// Offsets of prepared parts, which stand in `text` with their separators. `None` if `text` is longer than three
    /// prepared parts can be.
    fn from_prepared(text: &'a str, local: Option<&str>, domain: &str) -> Option<Self> {
        if text.len() > JID_BYTES_MAX {
            return None;
        }
        let at = local.map_or(0, str::len);
        let slash = match local {
            Some(local) => local.len().saturating_add(1).saturating_add(domain.len()),
            None => domain.len(),
        };
        Some(Self {
            text,
            at: u16::try_from(at).ok()?,
            slash: u16::try_from(slash).ok()?,
        })
    }
}

impl Jid {
    /// Parses and normalises.
    pub fn parse(text: &str) -> Result<Self, JidError> {
        let Parts {
            local,
            domain,
            resource,
        } = Parts::split(text);
        Self::from_parts(local, domain, resource)
    }

    /// Normalises the parts and joins them. A separator inside of a part is refused (a resource may have any).
    pub fn from_parts(
        local: Option<&str>,
        domain: &str,
        resource: Option<&str>,
    ) -> Result<Self, JidError> {
        let local = local.map(prepare_local).transpose()?;
        let domain = prepare_domain(domain)?;
        let resource = resource.map(prepare_resource).transpose()?;
        Ok(Self::join(local.as_deref(), &domain, resource.as_deref()))
    }

    /// Borrows the address.
    pub fn as_ref(&self) -> JidRef<'_> {
        JidRef {
            text: &self.text,
            at: self.at,
            slash: self.slash,
        }
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The part before the `@`.
    pub fn local(&self) -> Option<&str> {
        self.as_ref().local()
    }

    /// The domain.
    pub fn domain(&self) -> &str {
        self.as_ref().domain()
    }

    /// The part after the first `/`.
    pub fn resource(&self) -> Option<&str> {
        self.as_ref().resource()
    }

    /// `local@domain` without the resource.
    pub fn bare_str(&self) -> &str {
        self.as_ref().bare_str()
    }

    /// There is no resource.
    pub fn is_bare(&self) -> bool {
        self.as_ref().is_bare()
    }

    /// A copy without the resource.
    pub fn to_bare(&self) -> BareJid {
        self.as_ref().to_bare()
    }

    /// The address without its resource.
    pub fn into_bare(self) -> BareJid {
        if self.is_bare() {
            BareJid(self)
        } else {
            self.to_bare()
        }
    }

    /// The address as a full one, if it has a resource.
    pub fn into_full(self) -> Option<FullJid> {
        if self.is_bare() {
            None
        } else {
            Some(FullJid(self))
        }
    }

    /// Joins prepared parts with one allocation of the exact size.
    fn join(local: Option<&str>, domain: &str, resource: Option<&str>) -> Self {
        let with_separator =
            |part: Option<&str>| part.map_or(0, |part| part.len().saturating_add(1));
        let bytes = with_separator(local)
            .saturating_add(domain.len())
            .saturating_add(with_separator(resource));
        let mut text = String::with_capacity(bytes);
        if let Some(local) = local {
            text.push_str(local);
            text.push('@');
        }
        text.push_str(domain);
        let slash = text.len();
        if let Some(resource) = resource {
            text.push('/');
            text.push_str(resource);
        }
        Self {
            text: text.into_boxed_str(),
            at: offset(local.map_or(0, str::len)),
            slash: offset(slash),
        }
    }
}

impl BareJid {
    /// Parses and normalises; a resource is refused.
    pub fn parse(text: &str) -> Result<Self, JidError> {
        let Parts {
            local,
            domain,
            resource,
        } = Parts::split(text);
        if resource.is_some() {
            Err(JidError::Resource)
        } else {
            Self::from_parts(local, domain)
        }
    }

    /// Normalises the parts and joins them.
    pub fn from_parts(local: Option<&str>, domain: &str) -> Result<Self, JidError> {
        Jid::from_parts(local, domain, None).map(Self)
    }

    /// Borrows the address.
    pub fn as_ref(&self) -> JidRef<'_> {
        self.0.as_ref()
    }

    /// The address as one that may have a resource.
    pub fn as_jid(&self) -> &Jid {
        &self.0
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The part before the `@`.
    pub fn local(&self) -> Option<&str> {
        self.0.local()
    }

    /// The domain.
    pub fn domain(&self) -> &str {
        self.0.domain()
    }

    /// The address with a resource, which is normalised.
    pub fn with_resource(&self, resource: &str) -> Result<FullJid, JidError> {
        let resource = prepare_resource(resource)?;
        Ok(FullJid(Jid::join(
            self.local(),
            self.domain(),
            Some(&resource),
        )))
    }
}

impl FullJid {
    /// Parses and normalises; there must be a resource.
    pub fn parse(text: &str) -> Result<Self, JidError> {
        let Parts {
            local,
            domain,
            resource,
        } = Parts::split(text);
        let resource = resource.ok_or(JidError::Resource)?;
        Self::from_parts(local, domain, resource)
    }

    /// Normalises the parts and joins them.
    pub fn from_parts(local: Option<&str>, domain: &str, resource: &str) -> Result<Self, JidError> {
        Jid::from_parts(local, domain, Some(resource)).map(Self)
    }

    /// Borrows the address.
    pub fn as_ref(&self) -> JidRef<'_> {
        self.0.as_ref()
    }

    /// The address as one that need not have a resource.
    pub fn as_jid(&self) -> &Jid {
        &self.0
    }

    /// The whole address.
    pub fn as_str(&self) -> &str {
        &self.0.text
    }

    /// The part before the `@`.
    pub fn local(&self) -> Option<&str> {
        self.0.local()
    }

    /// The domain.
    pub fn domain(&self) -> &str {
        self.0.domain()
    }

    /// The part after the first `/`.
    pub fn resource(&self) -> &str {
        self.0.resource().unwrap_or_default()
    }

    /// `local@domain` without the resource.
    pub fn bare_str(&self) -> &str {
        self.0.bare_str()
    }

    /// A copy without the resource.
    pub fn to_bare(&self) -> BareJid {
        self.0.to_bare()
    }
}

/// An address cut at its separators, nothing checked (RFC 7622 section 3.1): first the resource is what follows the
/// first `/`, then the local part is what precedes the first `@` of the rest.
struct Parts<'a> {
    local: Option<&'a str>,
    domain: &'a str,
    resource: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn split(text: &'a str) -> Self {
        let cut = |text: &'a str, separator: u8| match memchr(separator, text.as_bytes()) {
            Some(index) => (text.get(..index), text.get(index.saturating_add(1)..)),
            None => (None, None),
        };
        let (bare, resource) = cut(text, b'/');
        let bare = bare.unwrap_or(text);
        let (local, domain) = cut(bare, b'@');
        let domain = domain.unwrap_or(bare);
        Self {
            local,
            domain,
            resource,
        }
    }
}

/// An offset in an address whose parts were prepared: at most [`JID_BYTES_MAX`].
fn offset(bytes: usize) -> u16 {
    u16::try_from(bytes).expect("prepared parts are at most 1,023 bytes each")
}

// Equality, order and hash are those of the text (the offsets follow from it), so that maps keyed by addresses can be
// asked with a `&str`.
macro_rules! compare_by_text {
    ($($type:ty),*) => { $(
        impl PartialEq for $type {
            fn eq(&self, other: &Self) -> bool {
                self.text == other.text
            }
        }
        impl Eq for $type {}
        impl Hash for $type {
            fn hash<H: Hasher>(&self, state: &mut H) {
                self.text.hash(state);
            }
        }
        impl PartialOrd for $type {
            fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
                Some(self.cmp(other))
            }
        }
        impl Ord for $type {
            fn cmp(&self, other: &Self) -> Ordering {
                self.text.cmp(&other.text)
            }
        }
    )* };
}
compare_by_text!(Jid, JidRef<'_>);

macro_rules! convert_text {
    ($($type:ident),*) => { $(
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_tuple(stringify!($type)).field(&self.as_str()).finish()
            }
        }
        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                self.as_str()
            }
        }
        impl Borrow<str> for $type {
            fn borrow(&self) -> &str {
                self.as_str()
            }
        }
        impl PartialEq<str> for $type {
            fn eq(&self, other: &str) -> bool {
                self.as_str() == other
            }
        }
        impl PartialEq<&str> for $type {
            fn eq(&self, other: &&str) -> bool {
                self.as_str() == *other
            }
        }
        impl TryFrom<&str> for $type {
            type Error = JidError;
            fn try_from(text: &str) -> Result<Self, JidError> {
                Self::parse(text)
            }
        }
        impl FromStr for $type {
            type Err = JidError;
            fn from_str(text: &str) -> Result<Self, JidError> {
                Self::parse(text)
            }
        }
    )* };
}
convert_text!(Jid, BareJid, FullJid);

impl fmt::Display for JidRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text)
    }
}

impl fmt::Debug for JidRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("JidRef").field(&self.text).finish()
    }
}

impl AsRef<str> for JidRef<'_> {
    fn as_ref(&self) -> &str {
        self.text
    }
}

impl<'a> From<&'a Jid> for JidRef<'a> {
    fn from(jid: &'a Jid) -> Self {
        jid.as_ref()
    }
}

impl<'a> From<&'a BareJid> for JidRef<'a> {
    fn from(jid: &'a BareJid) -> Self {
        jid.as_ref()
    }
}

impl<'a> From<&'a FullJid> for JidRef<'a> {
    fn from(jid: &'a FullJid) -> Self {
        jid.as_ref()
    }
}

impl From<BareJid> for Jid {
    fn from(jid: BareJid) -> Self {
        jid.0
    }
}

impl From<FullJid> for Jid {
    fn from(jid: FullJid) -> Self {
        jid.0
    }
}
