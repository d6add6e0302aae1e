//! RFC 5280, section 4.1: the few fields of a certificate that rustls does not tell.

use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

/// What we need to know of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CertificateFields {
    /// The hash function of the certificate's own signature, if it has exactly one that we know.
    pub(super) signature_hash: Option<SignatureHash>,
    /// Unix time in seconds from which it is valid.
    pub(super) not_before: i64,
    /// Unix time in seconds until which it is valid, inclusive.
    pub(super) not_after: i64,
}

/// A hash function within a signature algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SignatureHash {
    /// No longer a hash to rely on: RFC 5929 puts SHA-256 in its place.
    Broken,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl SignatureHash {
    /// The hash for `tls-server-end-point`, RFC 5929 section 4.1.
    pub(super) fn end_point(self, certificate: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha224 => Sha224::digest(certificate).to_vec(),
            Self::Broken | Self::Sha256 => Sha256::digest(certificate).to_vec(),
            Self::Sha384 => Sha384::digest(certificate).to_vec(),
            Self::Sha512 => Sha512::digest(certificate).to_vec(),
        }
    }
}

/// Reads a certificate in DER. `None` if it is not one.
pub(super) fn read_certificate(certificate: &[u8]) -> Option<CertificateFields> {
    let mut outer = Der(certificate);
    let mut certificate = outer.enter(SEQUENCE)?;
    outer.end()?;

    let mut signed = certificate.enter(SEQUENCE)?;
    let mut algorithm = certificate.enter(SEQUENCE)?;
    certificate.enter(BIT_STRING)?;
    certificate.end()?;

    signed.skip_optional(VERSION);
    signed.enter(INTEGER)?; // serial number
    signed.enter(SEQUENCE)?; // signature algorithm once more
    signed.enter(SEQUENCE)?; // issuer
    let mut validity = signed.enter(SEQUENCE)?;
    let not_before = validity.time()?;
    let not_after = validity.time()?;
    validity.end()?;

    Some(CertificateFields {
        signature_hash: signature_hash(&mut algorithm)?,
        not_before,
        not_after,
    })
}

/// Reads an AlgorithmIdentifier. The outer `Option` says whether it is well-formed.
#[expect(
    clippy::option_option,
    reason = "no hash is a sound answer, not a fault"
)]
fn signature_hash(algorithm: &mut Der<'_>) -> Option<Option<SignatureHash>> {
    let oid = algorithm.enter(OBJECT_IDENTIFIER)?.0;
    if oid != RSASSA_PSS {
        return Some(hash_of(&SIGNATURES, oid));
    }
    // RFC 4055, section 3.1: the hash is the first parameter, by default SHA-1.
    let mut parameters = algorithm.enter(SEQUENCE)?;
    let Some(mut tagged) = parameters.enter(PSS_HASH) else {
        return Some(Some(SignatureHash::Broken));
    };
    let hash = tagged.enter(SEQUENCE)?.enter(OBJECT_IDENTIFIER)?.0;
    Some(hash_of(&HASHES, hash))
}

fn hash_of(table: &[(&[u8], SignatureHash)], oid: &[u8]) -> Option<SignatureHash> {
    table
        .iter()
        .find(|(known, _)| *known == oid)
        .map(|(_, hash)| *hash)
}

/// What is left of a DER encoding.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// Takes the next value, which must have this tag, and returns its contents.
    fn enter(&mut self, tag: u8) -> Option<Self> {
        let (&found, rest) = self.0.split_first()?;
        if found != tag {
            return None;
        }
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // The shortest form only, and at most 64 kB: a certificate is far smaller.
            0x81 => match *rest {
                [length, ref rest @ ..] if length >= 0x80 => (usize::from(length), rest),
                _ => return None,
            },
            0x82 => match *rest {
                [high, low, ref rest @ ..] if high > 0 => {
                    (usize::from(u16::from_be_bytes([high, low])), rest)
                }
                _ => return None,
            },
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(Self(contents))
    }

    fn skip_optional(&mut self, tag: u8) {
        // A value with another tag, or a broken one, is left for the next step to find.
        let _absent = self.enter(tag);
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }

    /// Takes a time in one of the two forms of RFC 5280, section 4.1.2.5, as Unix time in seconds.
    fn time(&mut self) -> Option<i64> {
        let (year, rest) = if let Some(contents) = self.enter(UTC_TIME) {
            let (year, rest) = contents.0.split_at_checked(2)?;
            let year = digits(year)?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        } else {
            let contents = self.enter(GENERALIZED_TIME)?.0;
            let (year, rest) = contents.split_at_checked(4)?;
            (digits(year)?, rest)
        };
        let [month @ .., _, _, _, _, _, _, _, _, b'Z'] = rest else {
            return None;
        };
        let part = |index: usize| digits(rest.get(index..index + 2)?);
        let (month, day) = (digits(month)?, part(2)?);
        let (hour, minute, second) = (part(4)?, part(6)?, part(8)?);
        let sound = rest.len() == 11
            && (1..=12).contains(&month)
            && (1..=31).contains(&day)
            && hour < 24
            && minute < 60
            && second < 60;
        sound.then(|| {
            days_since_1970(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second
        })
    }
}

fn digits(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |number, &byte| {
        byte.is_ascii_digit()
            .then(|| number * 10 + i64::from(byte - b'0'))
    })
}

/// Days from 1970-01-01 to a day of the Gregorian calendar. Years are counted from March, so that a leap day is the
/// last of its year.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days_before_month = (153 * month + 2) / 5;
    const MARCH_1_OF_YEAR_0: i64 = -719_468;
    MARCH_1_OF_YEAR_0 + year * 365 + leap_days + days_before_month + day - 1
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0]` of a TBSCertificate.
const VERSION: u8 = 0xa0;
/// `[0]` of RSASSA-PSS-params.
const PSS_HASH: u8 = 0xa0;

/// 1.2.840.113549.1.1.10
const RSASSA_PSS: &[u8] = b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a";

/// Signature algorithms with one hash function (RFC 3279, 4055, 5758). Ed25519 and Ed448 have none of their own.
const SIGNATURES: [(&[u8], SignatureHash); 11] = [
    (
        b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04",
        SignatureHash::Broken,
    ), // md5WithRSAEncryption
    (
        b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x05",
        SignatureHash::Broken,
    ), // sha1WithRSAEncryption
    (
        b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0e",
        SignatureHash::Sha224,
    ), // sha224WithRSAEncryption
    (
        b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0b",
        SignatureHash::Sha256,
    ), // sha256WithRSAEncryption
    (
        b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0c",
        SignatureHash::Sha384,
    ), // sha384WithRSAEncryption
    (
        b"\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0d",
        SignatureHash::Sha512,
    ), // sha512WithRSAEncryption
    (b"\x2a\x86\x48\xce\x3d\x04\x01", SignatureHash::Broken), // ecdsa-with-SHA1
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x01", SignatureHash::Sha224), // ecdsa-with-SHA224
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x02", SignatureHash::Sha256), // ecdsa-with-SHA256
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x03", SignatureHash::Sha384), // ecdsa-with-SHA384
    (b"\x2a\x86\x48\xce\x3d\x04\x03\x04", SignatureHash::Sha512), // ecdsa-with-SHA512
];

/// Hash functions of RSASSA-PSS (RFC 4055, section 2.1).
const HASHES: [(&[u8], SignatureHash); 5] = [
    (b"\x2b\x0e\x03\x02\x1a", SignatureHash::Broken), // SHA-1
    (
        b"\x60\x86\x48\x01\x65\x03\x04\x02\x04",
        SignatureHash::Sha224,
    ),
    (
        b"\x60\x86\x48\x01\x65\x03\x04\x02\x01",
        SignatureHash::Sha256,
    ),
    (
        b"\x60\x86\x48\x01\x65\x03\x04\x02\x02",
        SignatureHash::Sha384,
    ),
    (
        b"\x60\x86\x48\x01\x65\x03\x04\x02\x03",
        SignatureHash::Sha512,
    ),
];
