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

/// Whom a certificate names, as far as we look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    /// Subject and issuer are the same.
    pub(super) is_own_issuer: bool,
    /// The common names of the subject (RFC 5280, section 4.1.2.6), in their order.
    pub(super) common_names: Vec<String>,
    /// `id-on-xmppAddr` among the alternative names (RFC 6120, section 13.7.1.4).
    pub(super) xmpp_addresses: Vec<String>,
}

/// A certificate names so many of each at most; one with more is taken for none.
pub(super) const NAMES_MAX: usize = 16;

/// Reads whom a certificate in DER names. `None` if it is not one, or names somebody in a way that we do not read.
pub(super) fn read_subject(certificate: &[u8]) -> Option<Subject> {
    let mut certificate = Der(certificate).enter(SEQUENCE)?;
    let mut signed = certificate.enter(SEQUENCE)?;
    signed.skip_optional(VERSION);
    signed.enter(INTEGER)?; // serial number
    signed.enter(SEQUENCE)?; // signature algorithm
    let issuer = signed.enter(SEQUENCE)?;
    signed.enter(SEQUENCE)?; // validity
    let subject = signed.enter(SEQUENCE)?;
    signed.enter(SEQUENCE)?; // public key
    signed.skip_optional(ISSUER_ID);
    signed.skip_optional(SUBJECT_ID);
    let xmpp_addresses = match signed.enter(EXTENSIONS) {
        None => Vec::new(),
        Some(mut extensions) => xmpp_addresses(extensions.enter(SEQUENCE)?)?,
    };
    signed.end()?;
    Some(Subject {
        is_own_issuer: issuer.0 == subject.0,
        common_names: common_names(subject)?,
        xmpp_addresses,
    })
}

/// The common names in a list of relative names.
fn common_names(mut subject: Der<'_>) -> Option<Vec<String>> {
    let mut names = Vec::new();
    while !subject.0.is_empty() {
        let mut relative = subject.enter(SET)?;
        while !relative.0.is_empty() {
            let mut attribute = relative.enter(SEQUENCE)?;
            if attribute.enter(OBJECT_IDENTIFIER)?.0 != COMMON_NAME {
                continue;
            }
            let text = [UTF8_STRING, PRINTABLE_STRING, IA5_STRING]
                .into_iter()
                .find_map(|tag| attribute.enter(tag))?;
            attribute.end()?;
            push_name(&mut names, text)?;
        }
    }
    Some(names)
}

fn xmpp_addresses(mut extensions: Der<'_>) -> Option<Vec<String>> {
    let mut addresses = Vec::new();
    while !extensions.0.is_empty() {
        let mut extension = extensions.enter(SEQUENCE)?;
        let oid = extension.enter(OBJECT_IDENTIFIER)?.0;
        extension.skip_optional(BOOLEAN); // critical
        let mut value = extension.enter(OCTET_STRING)?;
        extension.end()?;
        if oid != ALTERNATIVE_NAMES {
            continue;
        }
        let mut names = value.enter(SEQUENCE)?;
        value.end()?;
        while let Some(&tag) = names.0.first() {
            let mut name = names.enter(tag)?;
            if tag != OTHER_NAME || name.enter(OBJECT_IDENTIFIER)?.0 != XMPP_ADDRESS {
                continue;
            }
            let mut tagged = name.enter(OTHER_NAME)?;
            name.end()?;
            let text = tagged.enter(UTF8_STRING)?;
            tagged.end()?;
            push_name(&mut addresses, text)?;
        }
    }
    Some(addresses)
}

fn push_name(names: &mut Vec<String>, text: Der<'_>) -> Option<()> {
    names.push(std::str::from_utf8(text.0).ok()?.to_owned());
    (names.len() <= NAMES_MAX).then_some(())
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
const BOOLEAN: u8 = 0x01;
const OCTET_STRING: u8 = 0x04;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;
const SET: u8 = 0x31;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `[0]` of a TBSCertificate.
const VERSION: u8 = 0xa0;
/// `[1]`, `[2]` and `[3]` of a TBSCertificate.
const ISSUER_ID: u8 = 0x81;
const SUBJECT_ID: u8 = 0x82;
const EXTENSIONS: u8 = 0xa3;
/// `[0]` of a GeneralName, and of what is in one.
const OTHER_NAME: u8 = 0xa0;
/// 2.5.4.3
const COMMON_NAME: &[u8] = b"\x55\x04\x03";
/// 2.5.29.17
const ALTERNATIVE_NAMES: &[u8] = b"\x55\x1d\x11";
/// 1.3.6.1.5.5.7.8.5
const XMPP_ADDRESS: &[u8] = b"\x2b\x06\x01\x05\x05\x07\x08\x05";
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

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;

    fn der(tag: u8, contents: &[u8]) -> Vec<u8> {
        let [high, low] = u16::try_from(contents.len()).unwrap().to_be_bytes();
        let mut value = match (high, low) {
            (0, 0..0x80) => vec![tag, low],
            (0, _) => vec![tag, 0x81, low],
            _ => vec![tag, 0x82, high, low],
        };
        value.extend_from_slice(contents);
        value
    }

    /// The skeleton of a certificate.
    fn certificate(algorithm: &[u8], not_before: (u8, &str), not_after: (u8, &str)) -> Vec<u8> {
        let validity = [
            der(not_before.0, not_before.1.as_bytes()),
            der(not_after.0, not_after.1.as_bytes()),
        ];
        let signed = [
            der(VERSION, &der(INTEGER, &[2])),
            der(INTEGER, &[1; 20]),
            der(SEQUENCE, algorithm),
            der(SEQUENCE, &[7; 200]),
            der(SEQUENCE, &validity.concat()),
            der(SEQUENCE, &[7; 300]),
        ];
        let parts = [
            der(SEQUENCE, &signed.concat()),
            der(SEQUENCE, algorithm),
            der(BIT_STRING, &[0; 70]),
        ];
        der(SEQUENCE, &parts.concat())
    }

    const BEFORE: (u8, &str) = (UTC_TIME, "700101000000Z");
    const AFTER: (u8, &str) = (GENERALIZED_TIME, "99991231235959Z");

    #[test]
    fn each_signature_algorithm_has_its_hash() {
        for (oid, hash) in SIGNATURES {
            let fields =
                read_certificate(&certificate(&der(OBJECT_IDENTIFIER, oid), BEFORE, AFTER))
                    .unwrap();
            assert_eq!(fields.signature_hash, Some(hash), "{oid:x?}");
        }
        let ed25519 = der(OBJECT_IDENTIFIER, b"\x2b\x65\x70");
        assert_eq!(
            read_certificate(&certificate(&ed25519, BEFORE, AFTER))
                .unwrap()
                .signature_hash,
            None
        );
        for (oid, hash) in HASHES {
            let tagged = der(PSS_HASH, &der(SEQUENCE, &der(OBJECT_IDENTIFIER, oid)));
            let pss = [der(OBJECT_IDENTIFIER, RSASSA_PSS), der(SEQUENCE, &tagged)].concat();
            let fields = read_certificate(&certificate(&pss, BEFORE, AFTER)).unwrap();
            assert_eq!(fields.signature_hash, Some(hash), "{oid:x?}");
        }
    }

    #[test]
    fn broken_hashes_are_replaced() {
        for (hash, bytes) in [
            (SignatureHash::Broken, 32),
            (SignatureHash::Sha224, 28),
            (SignatureHash::Sha256, 32),
            (SignatureHash::Sha384, 48),
            (SignatureHash::Sha512, 64),
        ] {
            assert_eq!(hash.end_point(b"certificate").len(), bytes);
        }
        assert_eq!(
            SignatureHash::Broken.end_point(b"x"),
            SignatureHash::Sha256.end_point(b"x")
        );
    }

    /// The forms of OpenSSL, with what it says of them.
    #[test]
    fn certificates_of_openssl_are_read() {
        let pss_sha384 = CertificateDer::from_pem_slice(PSS_SHA384.as_bytes()).unwrap();
        let fields = read_certificate(&pss_sha384).unwrap();
        assert_eq!(fields.not_before, 1_795_267_510);
        assert_eq!(fields.not_after, 3_523_267_510);
        let end_point = fields.signature_hash.unwrap().end_point(&pss_sha384);
        assert_eq!(
            end_point[..8],
            [0xa9, 0xe3, 0xc2, 0x9a, 0xff, 0x8b, 0x18, 0x3e]
        );
        assert_eq!(end_point.len(), 48);

        let pss_sha1 = CertificateDer::from_pem_slice(PSS_SHA1.as_bytes()).unwrap();
        let fields = read_certificate(&pss_sha1).unwrap();
        assert_eq!(fields.not_after, 1_795_526_710);
        let end_point = fields.signature_hash.unwrap().end_point(&pss_sha1);
        assert_eq!(
            end_point[..8],
            [0x5f, 0x22, 0xe0, 0x53, 0xcb, 0x3c, 0xa9, 0x66]
        );
        assert_eq!(end_point.len(), 32);
    }

    #[test]
    fn times_are_read_in_both_forms() {
        let algorithm = der(OBJECT_IDENTIFIER, SIGNATURES[0].0);
        let check = |time: (u8, &str), expected: Option<i64>| {
            let read = read_certificate(&certificate(&algorithm, BEFORE, time));
            assert_eq!(read.map(|fields| fields.not_after), expected, "{time:?}");
        };
        check((UTC_TIME, "700101000000Z"), Some(0));
        check((UTC_TIME, "500101000000Z"), Some(-631_152_000));
        check((UTC_TIME, "491231235959Z"), Some(2_524_607_999));
        check((UTC_TIME, "000229000000Z"), Some(951_782_400));
        check((GENERALIZED_TIME, "20810824132510Z"), Some(3_523_267_510));
        check((GENERALIZED_TIME, "99991231235959Z"), Some(253_402_300_799));
        for broken in [
            "",
            "Z",
            "7001010000Z",
            "700101000000",
            "700101000000+0100",
            "70010100000xZ",
            "701301000000Z",
        ] {
            check((UTC_TIME, broken), None);
        }
        for broken in [
            "700101000000Z",
            "20260230000000.5Z",
            "20260232000000Z",
            "20260101240000Z",
            "20260101006000Z",
        ] {
            check((GENERALIZED_TIME, broken), None);
        }
        check((INTEGER, "700101000000Z"), None);
    }

    #[test]
    fn what_is_cut_or_changed_does_no_harm() {
        let sound = certificate(&der(OBJECT_IDENTIFIER, SIGNATURES[0].0), BEFORE, AFTER);
        for cut in 0..sound.len() {
            assert_eq!(read_certificate(&sound[..cut]), None, "{cut}");
        }
        let followed = [&sound[..], &[0]].concat();
        assert_eq!(read_certificate(&followed), None);
        for index in 0..sound.len() {
            for change in [1, 0x7f, 0x80, 0xff] {
                let mut changed = sound.clone();
                changed[index] ^= change;
                // Any answer is right that is not a panic.
                let _any = read_certificate(&changed);
            }
        }
        // Lengths that are not the shortest form, indefinite, or beyond what there is.
        for length in [
            &[0x81, 0x05][..],
            &[0x82, 0, 5],
            &[0x80],
            &[0x83, 0, 0, 5],
            &[0x84, 0xff, 0xff, 0xff, 0xff],
        ] {
            let value = [&[SEQUENCE], length, &[0; 5]].concat();
            assert!(Der(&value).enter(SEQUENCE).is_none(), "{length:x?}");
        }
    }

    const PSS_SHA384: &str = "\
-----BEGIN CERTIFICATE-----
MIICXjCCAZOgAwIBAgIUI0g4zAee6V5LSR5QGjX5JAU2fvYwQQYJKoZIhvcNAQEK
MDSgDzANBglghkgBZQMEAgIFAKEcMBoGCSqGSIb3DQEBCDANBglghkgBZQMEAgIF
AKIDAgEgMAwxCjAIBgNVBAMMAWEwIBcNMjYxMTIxMTMyNTEwWhgPMjA4MTA4MjQx
MzI1MTBaMAwxCjAIBgNVBAMMAWEwgZ8wDQYJKoZIhvcNAQEBBQADgY0AMIGJAoGB
ANPRwjpe2nXRbrUwnENPHJM3DB4OsyFvZj3zZ170tJ/4Gv4exQ39rbZOpX2NUTY0
tC5ApwOJY6R9YyD0khYVHynQiwjNIqYh4O/6vtsU7AXPxT47o5cjFqr2PaQ0rlzD
gyAuC7RxSByChIqMN4qkZj2u4LXX22nhxtOqWsyZVFKFAgMBAAGjUzBRMB0GA1Ud
DgQWBBRDWn3uekvwGgfncKOBDQFDspS7mjAfBgNVHSMEGDAWgBRDWn3uekvwGgfn
cKOBDQFDspS7mjAPBgNVHRMBAf8EBTADAQH/MEEGCSqGSIb3DQEBCjA0oA8wDQYJ
YIZIAWUDBAICBQChHDAaBgkqhkiG9w0BAQgwDQYJYIZIAWUDBAICBQCiAwIBIAOB
gQBkbWXp0/bkhoHrl5gxVAmLm9tkyz1TNjVZLOwSk9IGDJ6F+KE7eprmOHEbJkBm
RKvFGfWyUQGknaQtlmzTeh57P/1qV0FWwoeAdBgVHsGBb4uYudRaUJNHy1uataeP
C7k8fBXSQJ0Yc/dUalmoeQljXPMfFyOsAcQ123im08ZrqQ==
-----END CERTIFICATE-----
";

    const PSS_SHA1: &str = "\
-----BEGIN CERTIFICATE-----
MIIB/jCCAWKgAwIBAgIUI4COolkptX26baLL18KECfyV6KwwEgYJKoZIhvcNAQEK
MAWiAwIBajAMMQowCAYDVQQDDAFhMB4XDTI2MTEyMTEzMjUxMFoXDTI2MTEyNDEz
MjUxMFowDDEKMAgGA1UEAwwBYTCBnzANBgkqhkiG9w0BAQEFAAOBjQAwgYkCgYEA
yAPSy9cbKO4wUvhPHOv1EvYR9Zno/0Sgb4qLcAWwuhQAbOQNvzCrYXOcRqLhXOpO
tZEsdXX2yti+YFjaHweeg6TIr0Z5xYaTyzSGivYe4XEPioFqCL1w/W55Pw8JbhFH
hA2dAR7hFO/eI3CSiv6hZp53ZhaAp20eeIZw9j5NB28CAwEAAaNTMFEwHQYDVR0O
BBYEFDg57AqD69d/aeVYkUqQEYKjmFoLMB8GA1UdIwQYMBaAFDg57AqD69d/aeVY
kUqQEYKjmFoLMA8GA1UdEwEB/wQFMAMBAf8wEgYJKoZIhvcNAQEKMAWiAwIBagOB
gQAJutQA6ouBKj42r6TsXjie84r9WnPx/+HdhjP2U7JUPGlSWqeJAcCiXWmSXjN7
EeKTDlGoCq5pw2p2ob+HfBgMJ3N06CwcVaevV5yF6Pww9mLOk67YKgPB5/ZKv+/y
mkinbdBKlmQ1iYXLOuyOBCKeugQ/U6DEG8mLnMkTvpvp6g==
-----END CERTIFICATE-----
";
}
