//! RFC 7622 sections 3.2 to 3.4 and RFC 8265: preparation of the parts of an address and of passwords.
use std::borrow::Cow;
use std::net::Ipv6Addr;

use idna::uts46::{AsciiDenyList, Hyphens, Uts46};

use super::precis::{enforce_opaque, enforce_username};
use super::{JidError, PART_BYTES_MAX};

/// Longest password in bytes, before and after preparation. A longer one is refused before it is hashed.
pub const PASSWORD_BYTES_MAX: usize = 1_024;

/// Longest part that is looked at, in bytes. Preparation may shorten a part, at most to a third (fullwidth forms); what
/// is longer is refused without more work.
const RAW_PART_BYTES_MAX: usize = 3 * PART_BYTES_MAX;

/// Longest label of a domain in bytes, as an A-label (RFC 1035 section 2.3.4, RFC 5890 section 2.3.2.1).
const LABEL_BYTES_MAX: usize = 63;

/// Prepares a local part (RFC 7622 section 3.3, UsernameCaseMapped).
pub fn prepare_local(text: &str) -> Result<Cow<'_, str>, JidError> {
    // One pass for the usual name; bytes above ASCII are left to PRECIS.
    let is_normal =
        |byte: u8| is_allowed_in_local(byte) && byte.is_ascii() && !byte.is_ascii_uppercase();
    if is_part_length(text) && all_bytes(text, is_normal) {
        return Ok(Cow::Borrowed(text));
    }
    if text.len() > RAW_PART_BYTES_MAX {
        return Err(JidError::Local);
    }
    let prepared = if text.is_ascii() {
        text.to_ascii_lowercase()
    } else {
        enforce_username(text).ok_or(JidError::Local)?
    };
    // Checked afterwards, since fullwidth forms are mapped to the very characters that are forbidden.
    let allowed = is_part_length(&prepared) && prepared.bytes().all(is_allowed_in_local);
    if allowed {
        Ok(Cow::Owned(prepared))
    } else {
        Err(JidError::Local)
    }
}

/// Prepares a domain (RFC 7622 section 3.2): U-labels, no final dot, IP literals allowed.
pub fn prepare_domain(text: &str) -> Result<Cow<'_, str>, JidError> {
    if is_normal_hostname(text) {
        return Ok(Cow::Borrowed(text));
    }
    prepare_rare_domain(text)
        .map(Cow::Owned)
        .ok_or(JidError::Domain)
}

/// Prepares a resource (RFC 7622 section 3.4, OpaqueString).
pub fn prepare_resource(text: &str) -> Result<Cow<'_, str>, JidError> {
    let prepared = prepare_opaque(text, RAW_PART_BYTES_MAX).ok_or(JidError::Resource)?;
    if is_part_length(&prepared) {
        Ok(prepared)
    } else {
        Err(JidError::Resource)
    }
}

/// Prepares a password (RFC 8265 section 4, OpaqueString); `None` if it is empty, longer than [`PASSWORD_BYTES_MAX`] or
/// not allowed.
pub fn prepare_password(text: &str) -> Option<Cow<'_, str>> {
    let prepared = prepare_opaque(text, PASSWORD_BYTES_MAX)?;
    if prepared.is_empty() || prepared.len() > PASSWORD_BYTES_MAX {
        None
    } else {
        Some(prepared)
    }
}

/// Looks at every byte, also after one that is wrong: without the early end, the loop is a few vector instructions.
fn all_bytes(text: &str, is_right: impl Fn(u8) -> bool) -> bool {
    text.bytes().fold(true, |all, byte| all & is_right(byte))
}

fn is_part_length(prepared: &str) -> bool {
    (1..=PART_BYTES_MAX).contains(&prepared.len())
}

/// ASCII without controls, space and what RFC 7622 section 3.3.1 forbids; bytes above ASCII were judged by PRECIS.
fn is_allowed_in_local(byte: u8) -> bool {
    !matches!(
        byte,
        0..=b' ' | 0x7F | b'"' | b'&' | b'\'' | b'/' | b':' | b'<' | b'>' | b'@'
    )
}

/// A domain of LDH labels in lower case, none of them an A-label: what nearly all domains are.
fn is_normal_hostname(text: &str) -> bool {
    let mut label_bytes = 0_usize;
    let mut has_two_hyphens = false;
    let mut previous = b'.';
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' => label_bytes = label_bytes.saturating_add(1),
            b'-' if previous != b'.' => {
                has_two_hyphens |= previous == b'-';
                label_bytes = label_bytes.saturating_add(1);
            }
            b'.' if previous != b'.' && previous != b'-' => label_bytes = 0,
            _ => return false,
        }
        if label_bytes > LABEL_BYTES_MAX {
            return false;
        }
        previous = byte;
    }
    // An empty text ends with the `.` before it, so to say.
    let is_whole = previous != b'.' && previous != b'-' && text.len() <= PART_BYTES_MAX;
    is_whole && !(has_two_hyphens && text.split('.').any(|label| label.starts_with("xn--")))
}

/// Any other spelling of a domain: upper case, final dot, U-labels, A-labels, IPv6 in brackets.
fn prepare_rare_domain(text: &str) -> Option<String> {
    if text.len() > RAW_PART_BYTES_MAX {
        return None;
    }
    if let Some(literal) = text.strip_prefix('[') {
        let address: Ipv6Addr = literal.strip_suffix(']')?.parse().ok()?;
        return Some(format!("[{address}]"));
    }
    let (mapped, result) = Uts46::new().to_unicode(
        text.as_bytes(),
        AsciiDenyList::STD3,
        Hyphens::CheckFirstLast,
    );
    result.ok()?;
    let mut domain = mapped.into_owned();
    // Only now, since other full stops are mapped to this one.
    if domain.ends_with('.') {
        domain.pop();
    }
    let allowed = is_part_length(&domain) && domain.split('.').all(is_label);
    allowed.then_some(domain)
}

/// The label, which UTS #46 has let through, is not empty and not too long for DNS.
fn is_label(label: &str) -> bool {
    if label.is_ascii() {
        return (1..=LABEL_BYTES_MAX).contains(&label.len());
    }
    // Every character of a U-label takes at least one byte of the A-label; so Punycode never sees a long one.
    label.chars().count() <= LABEL_BYTES_MAX
        && idna::punycode::encode_str(label)
            .is_some_and(|encoded| "xn--".len().saturating_add(encoded.len()) <= LABEL_BYTES_MAX)
}

/// OpaqueString, with a fast path; may return the empty text if it was given one.
fn prepare_opaque(text: &str, raw_bytes_max: usize) -> Option<Cow<'_, str>> {
    if text.len() > raw_bytes_max {
        return None;
    }
    if all_bytes(text, |byte| matches!(byte, b' '..=b'~')) {
        return Some(Cow::Borrowed(text));
    }
    if text.is_ascii() {
        None
    } else {
        enforce_opaque(text).map(Cow::Owned)
    }
}
