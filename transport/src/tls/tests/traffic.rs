//! Data of established connections: sizes, key updates, unfinished records, the end.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs::{self, cipher_suite};
use rustls::crypto::{CipherSuiteCommon, CryptoProvider};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ServerConfig, SupportedCipherSuite, Tls12CipherSuite, Tls13CipherSuite};

use crate::testing::{Pair, RawClient, TestCertificate, client_config, server};
use crate::tls::RECORD_PLAINTEXT_BYTES_MAX;
use crate::tls::records::UnbufferedRecords;
use crate::{AcceptKind, Feed, TlsError, TlsVersion};

const OPEN: Feed = Feed { peer_closed: false };
const PEER_CLOSED: Feed = Feed { peer_closed: true };

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
fn keys_are_updated_amid_traffic() {
    for chunk_bytes in [usize::MAX, 1] {
        let mut pair = Pair::connected(&server());
        pair.chunk_bytes = chunk_bytes;
        let mut expected = Vec::new();
        for round in 0..200 {
            let plain = format!("<message id='{round}'/>");
            if round % 20 == 0 {
                // The client's keys at once, and ours with our next record.
                pair.client.refresh_traffic_keys().unwrap();
            }
            pair.client_sends(plain.as_bytes()).unwrap();
            expected.extend_from_slice(plain.as_bytes());
            assert_eq!(pair.server_sends(plain.as_bytes()), plain.as_bytes());
        }
        assert_eq!(pair.received, expected);
    }
}

#[test]
fn several_key_updates_are_answered_before_one_record() {
    let mut pair = Pair::connected(&server());
    for _ in 0..5 {
        pair.client.refresh_traffic_keys().unwrap();
        pair.exchange().unwrap();
    }
    let mut records = Vec::new();
    pair.server.seal(b"<presence/>", &mut records).unwrap();
    assert!(records.len() > 11 + 22, "an answer goes in front");
    assert_eq!(pair.client_reads(&records), b"<presence/>");
    assert_eq!(pair.server_sends(b"<message/>"), b"<message/>");
}

#[test]
fn sealing_goes_on_beside_an_unfinished_record() {
    let mut pair = Pair::connected(&server());
    let mut record = pair.client_encrypts(&[b'x'; 300]);
    for byte in record.chunks_mut(1) {
        let mut out = Vec::new();
        assert_eq!(
            pair.server.feed(byte, &mut pair.received, &mut out),
            Ok(OPEN)
        );
        assert!(out.is_empty());
        assert_eq!(pair.server_sends(b"<r/>"), b"<r/>");
    }
    assert_eq!(pair.received, [b'x'; 300]);
}

#[test]
fn sealing_goes_on_beside_an_unfinished_key_update() {
    let (mut client, mut server) = RawClient::connected(&server());
    let key_update = [24, 0, 0, 1, 1];
    let (mut plain, mut out) = (Vec::new(), Vec::new());
    for byte in &key_update[..4] {
        let mut record = client.record(RawClient::HANDSHAKE, &[*byte]);
        assert_eq!(server.feed(&mut record, &mut plain, &mut out), Ok(OPEN));
        server.seal(b"<r/>", &mut out).unwrap();
    }
    assert_eq!(out.len(), 4 * (4 + 22));
    // Half of the last record, too.
    let mut record = client.record(RawClient::HANDSHAKE, &key_update[4..]);
    let (first, second) = record.split_at_mut(7);
    assert_eq!(server.feed(first, &mut plain, &mut out), Ok(OPEN));
    server.seal(b"<r/>", &mut out).unwrap();
    assert_eq!(server.feed(second, &mut plain, &mut out), Ok(OPEN));
    out.clear();
    server.seal(b"<r/>", &mut out).unwrap();
    assert_eq!(
        out.len(),
        (5 + 22) + (4 + 22),
        "our own key update, then the data"
    );
    assert!(plain.is_empty());
}

#[test]
fn other_records_amid_an_unfinished_message_are_a_fault() {
    let (mut client, mut server) = RawClient::connected(&server());
    let mut records = client.record(RawClient::HANDSHAKE, &[24, 0]);
    records.extend(client.record(RawClient::DATA, b"<message/>"));
    let mut plain = Vec::new();
    let outcome = server.feed(&mut records, &mut plain, &mut Vec::new());
    assert!(
        matches!(outcome, Err(TlsError::Violation(_))),
        "{outcome:?}"
    );
    assert!(plain.is_empty());
}

#[test]
fn the_peer_closes_its_direction_alone() {
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let mut pair = Pair::connected_with(&server(), version);
        let mut records = pair.client_encrypts(b"</stream:stream>");
        pair.client.send_close_notify();
        records.extend(pair.client_bytes());
        records.extend(b"and noise after the end, which is ignored");
        assert_eq!(
            pair.server
                .feed(&mut records, &mut pair.received, &mut Vec::new()),
            Ok(PEER_CLOSED)
        );
        assert_eq!(pair.received, b"</stream:stream>");
        assert_eq!(
            pair.server
                .feed(&mut [1, 2, 3], &mut pair.received, &mut Vec::new()),
            Ok(PEER_CLOSED)
        );
        assert_eq!(pair.received, b"</stream:stream>");

        assert_eq!(pair.server_sends(b"</stream:stream>"), b"</stream:stream>");
        let mut out = Vec::new();
        pair.server.close_notify(&mut out);
        assert!(!out.is_empty());
        assert_eq!(pair.client_takes(&out), None);
        assert!(pair.client_saw_close_notify());
    }
}

#[test]
fn nothing_is_sealed_after_our_end_but_reading_goes_on() {
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let mut pair = Pair::connected_with(&server(), version);
        let mut out = Vec::new();
        pair.server.close_notify(&mut out);
        let once = out.len();
        assert!(once > 0);
        pair.server.close_notify(&mut out);
        assert_eq!(out.len(), once, "the alert is sent once");
        assert_eq!(
            pair.server.seal(b"<message/>", &mut out),
            Err(TlsError::Closed)
        );
        assert_eq!(out.len(), once);
        assert_eq!(pair.client_takes(&out), None);
        assert!(pair.client_saw_close_notify());

        let mut last = pair.client_encrypts(b"</stream:stream>");
        assert_eq!(
            pair.server.feed(&mut last, &mut pair.received, &mut out),
            Ok(OPEN)
        );
        assert_eq!(pair.received, b"</stream:stream>");
        let outcome = pair
            .server
            .feed(&mut b"noise".to_vec(), &mut pair.received, &mut out);
        assert!(
            matches!(outcome, Err(TlsError::Violation(_))),
            "{outcome:?}"
        );
    }
}

#[test]
fn the_end_during_a_handshake_is_silent() {
    let mut server = server().accept(AcceptKind::Direct);
    let mut out = Vec::new();
    server.close_notify(&mut out);
    assert!(out.is_empty());
}

/// A connection whose keys may encrypt `limit` records only, by rustls's own settings otherwise.
fn connected_with_few_keys(suite: SupportedCipherSuite, limit: u64) -> Pair {
    fn common(common: &CipherSuiteCommon, limit: u64) -> CipherSuiteCommon {
        let (suite, hash_provider) = (common.suite, common.hash_provider);
        CipherSuiteCommon {
            suite,
            hash_provider,
            confidentiality_limit: limit,
        }
    }
    let (version, limited) = match suite {
        SupportedCipherSuite::Tls12(suite) => {
            let common = common(&suite.common, limit);
            let suite = Box::leak(Box::new(Tls12CipherSuite { common, ..*suite }));
            (TlsVersion::Tls12, SupportedCipherSuite::Tls12(suite))
        }
        SupportedCipherSuite::Tls13(suite) => {
            let common = common(&suite.common, limit);
            let suite = Box::leak(Box::new(Tls13CipherSuite { common, ..*suite }));
            (TlsVersion::Tls13, SupportedCipherSuite::Tls13(suite))
        }
    };
    let provider = CryptoProvider {
        cipher_suites: vec![limited],
        ..aws_lc_rs::default_provider()
    };
    let certificate = TestCertificate::new("example.org");
    let key = PrivateKeyDer::from_pem_slice(certificate.key_pem.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der], key)
        .unwrap();

    let client = client_config(version, &[suite]);
    let mut pair = Pair::new(&server(), AcceptKind::Direct, client, "example.org");
    pair.server = Box::new(UnbufferedRecords::new(Arc::new(config)));
    pair.exchange().unwrap();
    pair
}

#[test]
fn keys_are_renewed_before_they_are_used_up() {
    let mut pair = connected_with_few_keys(cipher_suite::TLS13_AES_128_GCM_SHA256, 8);
    let (mut plain_bytes, mut sealed_bytes) = (0, 0);
    for _ in 0..50 {
        let mut records = Vec::new();
        pair.server.seal(b"<message/>", &mut records).unwrap();
        assert_eq!(pair.client_reads(&records), b"<message/>");
        plain_bytes += 10;
        sealed_bytes += records.len();
    }
    let updates = (sealed_bytes - plain_bytes - 50 * 22) / (5 + 22);
    assert!((6..=9).contains(&updates), "{updates} key updates");
    // Several records at once, more than are left.
    let plain = vec![b'x'; 6 * RECORD_PLAINTEXT_BYTES_MAX];
    for _ in 0..5 {
        assert!(pair.server_sends(&plain) == plain);
    }
    // The client answers each, and its answers are no flood.
    pair.client_sends(b"<presence/>").unwrap();
    assert_eq!(pair.received, b"<presence/>");
}

#[test]
fn a_connection_whose_keys_are_used_up_ends() {
    let suite = cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
    let mut pair = connected_with_few_keys(suite, 8);
    let mut sealed = 0;
    let mut out = Vec::new();
    while pair.server.seal(b"<message/>", &mut out).is_ok() {
        assert_eq!(pair.client_reads(&out), b"<message/>");
        out.clear();
        sealed += 1;
    }
    assert!((5..=8).contains(&sealed), "{sealed} records");
    assert_eq!(pair.client_takes(&out), None, "the last words are sound");
    assert!(pair.client_saw_close_notify());
    assert_eq!(
        pair.server.seal(b"<message/>", &mut out),
        Err(TlsError::Closed)
    );
}
