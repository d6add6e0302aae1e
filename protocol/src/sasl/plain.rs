//! RFC 4616: PLAIN.
use std::borrow::Cow;

use crate::SaslFailure;
use crate::jid::{JID_BYTES_MAX, PART_BYTES_MAX, PASSWORD_BYTES_MAX, prepare_password};

/// The one message of PLAIN, nothing of it prepared.
#[derive(Clone, Copy)]
pub struct Plain<'a> {
    /// Whom to act as; `None` if it is empty.
    pub authzid: Option<&'a str>,
    /// Whose password it is: a local part.
    pub authcid: &'a str,
    /// The password.
    pub password: &'a str,
}

impl<'a> Plain<'a> {
    /// See [`parse`].
    pub fn parse(message: &'a [u8]) -> Result<Self, SaslFailure> {
        parse(message)
    }
}

/// Parses `[authzid] NUL authcid NUL password`. `malformed-request` for another number of NULs, text that is not
/// UTF-8, an empty name or password, an authorization identity longer than an address, a name of more than 1,023 bytes
/// and a password of more than [`PASSWORD_BYTES_MAX`] bytes. Nothing is trimmed.
pub fn parse(message: &[u8]) -> Result<Plain<'_>, SaslFailure> {
    let text = std::str::from_utf8(message).map_err(|_| SaslFailure::MalformedRequest)?;
    let mut parts = text.split('\0');
    let (Some(authzid), Some(authcid), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(SaslFailure::MalformedRequest);
    };
    let is_within_limits = authzid.len() <= JID_BYTES_MAX
        && (1..=PART_BYTES_MAX).contains(&authcid.len())
        && (1..=PASSWORD_BYTES_MAX).contains(&password.len());
    if !is_within_limits {
        return Err(SaslFailure::MalformedRequest);
    }
    Ok(Plain {
        authzid: Some(authzid).filter(|authzid| !authzid.is_empty()),
        authcid,
        password,
    })
}

/// The forms of a password to be tried against stored keys, at most two: prepared with OpaqueString (RFC 8265) and, if
/// that differs, with SASLprep (RFC 4013), which older servers and clients applied before they derived keys. None at
/// all for a password that neither allows.
pub fn password_forms(password: &str) -> impl Iterator<Item = Cow<'_, str>> {
    let opaque = prepare_password(password);
    let saslprep = Some(password)
        .filter(|password| password.len() <= PASSWORD_BYTES_MAX)
        .and_then(|password| stringprep::saslprep(password).ok())
        .filter(|prepared| !prepared.is_empty() && opaque.as_ref() != Some(prepared));
    opaque.into_iter().chain(saslprep)
}
