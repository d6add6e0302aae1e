//! Handshakes: versions, suites, keys, application protocols, names, resumption.

use std::sync::Arc;

use rcgen::{
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
    SignatureAlgorithm,
};
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::crypto::aws_lc_rs::cipher_suite;
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, NamedGroup, SupportedCipherSuite};
use sha2::{Digest, Sha256, Sha384};

use crate::testing::{Pair, TempDir, TestCertificate, client_config, server, settings};
use crate::{AcceptKind, Feed, ServerTls, TlsError, TlsVersion, TlsVersions};

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
    let handshake = pair.server.take_handshake().unwrap();
    let suite = suite.suite().as_str().unwrap().replace("TLS13_", "TLS_");
    assert_eq!(
        (handshake.version, handshake.cipher_suite),
        (version, &suite[..])
    );
    assert!(!handshake.resumed);
    assert_eq!(handshake.server_name.as_deref(), Some("example.org"));
    assert_eq!(handshake.alpn, None);
    assert_eq!(handshake.exporter, exporter);
    assert_eq!(
        handshake.end_point,
        end_point_hash.map(|hash| hash(&certificate.der))
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

#[test]
fn clients_without_our_versions_are_refused() {
    let dir = TempDir::new();
    let mut settings = settings(dir.certificate("default", &TestCertificate::new("example.org")));
    let (old, new) = (TlsVersion::Tls12, TlsVersion::Tls13);
    for (min, max, client, accepted) in [
        (old, new, old, true),
        (old, new, new, true),
        (new, new, old, false),
        (new, new, new, true),
        (old, old, old, true),
        (old, old, new, false),
        (new, old, old, false),
        (new, old, new, true),
    ] {
        settings.versions = TlsVersions { min, max };
        let tls = ServerTls::load(&settings).unwrap();
        let mut pair = Pair::new(
            &tls,
            AcceptKind::Direct,
            client_config(client, &[]),
            "example.org",
        );
        let mut answer = Vec::new();
        let mut hello = pair.client_bytes();
        let outcome = pair.server.feed(&mut hello, &mut Vec::new(), &mut answer);
        assert_eq!(
            outcome.is_ok(),
            accepted,
            "{min} to {max}, client {client}: {outcome:?}"
        );
        if !accepted {
            assert!(
                matches!(outcome, Err(TlsError::Incompatible(_))),
                "{outcome:?}"
            );
            assert_eq!(
                pair.client_takes(&answer),
                Some(rustls::Error::AlertReceived(
                    AlertDescription::ProtocolVersion
                ))
            );
        }
    }
}

/// Both channel bindings of a resumed session are sound, too: the exporter's is new, the certificate's the old one.
#[test]
fn sessions_are_resumed_until_the_certificate_changes() {
    let dir = TempDir::new();
    let first = TestCertificate::new("example.org");
    let tls = ServerTls::load(&settings(dir.certificate("default", &first))).unwrap();
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let config = client_config(version, &[]);
        let connect = || {
            let mut pair = Pair::new(&tls, AcceptKind::StartTls, config.clone(), "example.org");
            pair.exchange().unwrap();
            pair.server.take_handshake().unwrap()
        };
        let full = connect();
        let resumed = connect();
        assert_eq!((full.resumed, resumed.resumed), (false, true), "{version}");
        assert_eq!(full.end_point, resumed.end_point);
        assert_eq!(full.exporter.is_some(), version == TlsVersion::Tls13);
        assert!(full.exporter.is_none() || full.exporter != resumed.exporter);

        tls.reload().unwrap();
        assert!(connect().resumed, "the same certificate again");
        dir.certificate("default", &TestCertificate::new("example.org"));
        tls.reload().unwrap();
        let renewed = connect();
        assert!(!renewed.resumed);
        assert_ne!(renewed.end_point, full.end_point);
    }
}

/// Security case T08: what comes along with a ClientHello could be sent again by whoever has seen it.
#[test]
fn t08_no_early_data_is_offered_or_taken() {
    let tls = server();
    let mut config = client_config(TlsVersion::Tls13, &[]);
    config.enable_early_data = true;
    for is_resumed in [false, true] {
        let mut pair = Pair::new(&tls, AcceptKind::Direct, config.clone(), "example.org");
        assert!(pair.client.early_data().is_none());
        pair.exchange().unwrap();
        assert!(!pair.client.is_early_data_accepted());
        assert_eq!(pair.server.take_handshake().unwrap().resumed, is_resumed);
    }
}

#[test]
fn a_session_is_not_resumed_under_another_name() {
    let tls = server();
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let mut config = client_config(version, &[]);
        config.resumption = Resumption::store(Arc::new(OneSession::default()));
        let mut resumed = Vec::new();
        for name in ["a.example.org", "a.example.org", "b.example.org"] {
            let mut pair = Pair::new(&tls, AcceptKind::StartTls, config.clone(), name);
            pair.exchange().unwrap();
            resumed.push(pair.server.take_handshake().unwrap().resumed);
        }
        assert_eq!(resumed, [false, true, false], "{version}");
    }
}

/// Offers the latest session to whatever server is asked for.
#[derive(Debug)]
struct OneSession(ClientSessionMemoryCache, ServerName<'static>);

impl Default for OneSession {
    fn default() -> Self {
        Self(
            ClientSessionMemoryCache::new(8),
            ServerName::try_from("any").unwrap(),
        )
    }
}

impl ClientSessionStore for OneSession {
    fn set_kx_hint(&self, _name: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(self.1.clone(), group);
    }

    fn kx_hint(&self, _name: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(&self.1)
    }

    fn set_tls12_session(&self, _name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(self.1.clone(), value);
    }

    fn tls12_session(&self, _name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&self.1)
    }

    fn remove_tls12_session(&self, _name: &ServerName<'static>) {
        self.0.remove_tls12_session(&self.1);
    }

    fn insert_tls13_ticket(&self, _name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(self.1.clone(), value);
    }

    fn take_tls13_ticket(&self, _name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&self.1)
    }
}
