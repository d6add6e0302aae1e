//! Handshakes and records against rustls's own client.

use rcgen::{
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
    SignatureAlgorithm,
};
use rustls::crypto::aws_lc_rs::cipher_suite;
use rustls::{AlertDescription, SupportedCipherSuite};
use sha2::{Digest, Sha256, Sha384};

use super::*;
use crate::testing::{Pair, TempDir, TestCertificate, client_config, server, settings};
use crate::{AcceptKind, ServerTls};

static TLS13_SUITES: [SupportedCipherSuite; 3] = [
    cipher_suite::TLS13_AES_128_GCM_SHA256,
    cipher_suite::TLS13_AES_256_GCM_SHA384,
    cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
];

static TLS12_ECDSA_SUITES: [SupportedCipherSuite; 3] = [
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
];

static TLS12_RSA_SUITES: [SupportedCipherSuite; 3] = [
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
];

type Hash = fn(&[u8]) -> Vec<u8>;

/// One handshake with everything that is known of it afterwards, then data both ways.
fn check_handshake(
    algorithm: &'static SignatureAlgorithm,
    version: TlsVersion,
    suite: SupportedCipherSuite,
    chunk_bytes: usize,
    end_point_hash: Option<Hash>,
) {
    let dir = TempDir::new();
    let certificate = TestCertificate::with("example.org", algorithm, |_| {});
    let tls = ServerTls::load(&settings(dir.certificate("default", &certificate))).unwrap();
    let mut pair = Pair::new(
        &tls,
        AcceptKind::StartTls,
        client_config(version, &[suite]),
        "Example.Org",
    );
    pair.chunk_bytes = chunk_bytes;

    assert!(pair.server.is_handshaking());
    assert_eq!(pair.server.take_handshake(), None);
    assert_eq!(
        pair.server.seal(b"early", &mut Vec::new()),
        Err(TlsError::Handshaking)
    );
    pair.exchange().unwrap();
    assert!(!pair.server.is_handshaking());

    let exporter = (version == TlsVersion::Tls13).then(|| {
        let label = b"EXPORTER-Channel-Binding";
        pair.client
            .export_keying_material([0; 32], label, Some(b""))
            .unwrap()
    });
    assert_eq!(
        pair.server.take_handshake(),
        Some(Handshake {
            version,
            cipher_suite: suite.suite().as_str().unwrap(),
            resumed: false,
            server_name: Some("example.org".to_owned()),
            alpn: None,
            exporter,
            end_point: end_point_hash.map(|hash| hash(&certificate.der)),
        })
    );
    assert_eq!(
        pair.server.take_handshake(),
        None,
        "facts are given out once"
    );

    assert_eq!(
        pair.client_sends(b"<presence/>"),
        Ok(Feed { peer_closed: false })
    );
    assert_eq!(pair.received, b"<presence/>");
    assert_eq!(pair.server_sends(b"<message/>"), b"<message/>");
}

#[test]
fn every_version_and_suite_shakes_hands() {
    let sha256: Hash = |der| Sha256::digest(der).to_vec();
    let sha384: Hash = |der| Sha384::digest(der).to_vec();
    for chunk_bytes in [usize::MAX, 1, 7] {
        for suite in TLS13_SUITES {
            check_handshake(
                &PKCS_ECDSA_P256_SHA256,
                TlsVersion::Tls13,
                suite,
                chunk_bytes,
                Some(sha256),
            );
            check_handshake(
                &PKCS_ECDSA_P384_SHA384,
                TlsVersion::Tls13,
                suite,
                chunk_bytes,
                Some(sha384),
            );
            check_handshake(&PKCS_ED25519, TlsVersion::Tls13, suite, chunk_bytes, None);
        }
        for suite in TLS12_ECDSA_SUITES {
            check_handshake(
                &PKCS_ECDSA_P256_SHA256,
                TlsVersion::Tls12,
                suite,
                chunk_bytes,
                Some(sha256),
            );
            check_handshake(&PKCS_ED25519, TlsVersion::Tls12, suite, chunk_bytes, None);
        }
    }
    check_handshake(
        &PKCS_RSA_SHA256,
        TlsVersion::Tls13,
        TLS13_SUITES[0],
        usize::MAX,
        Some(sha256),
    );
    for suite in TLS12_RSA_SUITES {
        check_handshake(
            &PKCS_RSA_SHA256,
            TlsVersion::Tls12,
            suite,
            usize::MAX,
            Some(sha256),
        );
    }
}

#[test]
fn data_goes_both_ways() {
    let mut pair = Pair::connected(&server());
    for size in [1, 300, 16_383, 16_384, 16_385, 32_768, 32_769, 1 << 20] {
        let plain: Vec<u8> = (0..size).map(|index| (index % 251) as u8).collect();
        let mut records = b"before".to_vec();
        pair.server.seal(&plain, &mut records).unwrap();
        assert_eq!(&records[..6], b"before");
        assert_eq!(
            records.len(),
            6 + plain.len() + 22 * plain.len().div_ceil(RECORD_PLAINTEXT_BYTES_MAX)
        );
        assert!(
            pair.client_reads(&records[6..]) == plain,
            "{size} bytes to the client"
        );

        pair.received.clear();
        pair.client.set_buffer_limit(None);
        pair.client_sends(&plain).unwrap();
        assert!(pair.received == plain, "{size} bytes to the server");
    }
}

#[test]
fn alpn_is_required_of_direct_clients_that_offer_any() {
    let tls = server();
    for (kind, offered, agreed) in [
        (AcceptKind::Direct, &[][..], Ok(None)),
        (
            AcceptKind::Direct,
            &["xmpp-client"][..],
            Ok(Some("xmpp-client")),
        ),
        (
            AcceptKind::Direct,
            &["h2", "xmpp-client"],
            Ok(Some("xmpp-client")),
        ),
        (AcceptKind::Direct, &["http/1.1"], Err(())),
        (AcceptKind::Direct, &["h2", "http/1.1"], Err(())),
        (AcceptKind::Direct, &["xmpp-server"], Err(())),
        (AcceptKind::StartTls, &[], Ok(None)),
        (AcceptKind::StartTls, &["xmpp-client"], Ok(None)),
        (AcceptKind::StartTls, &["http/1.1"], Ok(None)),
    ] {
        for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
            let mut config = client_config(version, &[]);
            config.alpn_protocols = offered
                .iter()
                .map(|name| name.as_bytes().to_vec())
                .collect();
            let mut pair = Pair::new(&tls, kind, config, "example.org");
            match agreed {
                Ok(agreed) => {
                    pair.exchange().unwrap();
                    let handshake = pair.server.take_handshake().unwrap();
                    assert_eq!(
                        handshake.alpn.as_deref(),
                        agreed.map(str::as_bytes),
                        "{kind:?} {offered:?}"
                    );
                }
                Err(()) => {
                    let mut answer = Vec::new();
                    let mut hello = pair.client_bytes();
                    let outcome = pair.server.feed(&mut hello, &mut Vec::new(), &mut answer);
                    assert_eq!(
                        outcome,
                        Err(TlsError::NoApplicationProtocol),
                        "{kind:?} {offered:?}"
                    );
                    assert_eq!(
                        pair.client_takes(&answer),
                        Some(rustls::Error::AlertReceived(
                            AlertDescription::NoApplicationProtocol
                        ))
                    );
                }
            }
        }
    }
}
