//! Bytes of strangers: noise, other protocols, floods, oversize and odd ClientHellos.

use rustls::AlertDescription;

use crate::testing::{Pair, RawClient, client_config, server};
use crate::tls::{
    CLIENT_HELLO_BYTES_MAX, EMPTY_RECORDS_BURST_MAX, HELD_BYTES_MAX, TINY_RECORDS_BURST_MAX,
};
use crate::{AcceptKind, Feed, TlsError, TlsLimit, TlsRecords, TlsVersion};

const OPEN: Feed = Feed { peer_closed: false };

/// Feeds `input` in chunks to a new connection until it errs or the input is used up.
fn feed_new(
    input: &[u8],
    chunk_bytes: usize,
) -> (Result<Feed, TlsError>, Vec<u8>, Box<dyn TlsRecords>) {
    let mut server = server().accept(AcceptKind::Direct);
    let mut out = Vec::new();
    let mut plain = Vec::new();
    let mut outcome = Ok(OPEN);
    for chunk in input.to_vec().chunks_mut(chunk_bytes) {
        outcome = server.feed(chunk, &mut plain, &mut out);
        if outcome.is_err() {
            break;
        }
    }
    assert!(plain.is_empty());
    (outcome, out, server)
}

/// A record in the clear.
fn record(content: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    [&[content, 3, 3], &length[..], payload].concat()
}

fn client_hello(version: TlsVersion) -> Vec<u8> {
    Pair::new(
        &server(),
        AcceptKind::Direct,
        client_config(version, &[]),
        "client.example.org",
    )
    .client_bytes()
}

#[test]
fn other_protocols_are_told_from_tls_by_their_first_bytes() {
    let fatal_decode_error = [21, 3, 3, 0, 2, 2, 50];
    for input in [
        &b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n"[..],
        b"<?xml version='1.0'?><stream:stream to='example.org'>",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\0\0\0\0\0\0\0\0\0",
        &[0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10], // SSL 2.0
        &[0x16, 2, 0, 0, 5, 1, 0, 0, 1, 3],             // a version there never was
        &[0x16, 3, 1, 0, 0],                            // an empty handshake record
        &[24, 3, 3, 0, 3, 1, 0, 0],                     // a heartbeat
        &[0x16, 3, 1, 0xff, 0xff],                      // an oversize one
    ] {
        for chunk_bytes in [usize::MAX, 1] {
            let (outcome, out, mut server) = feed_new(input, chunk_bytes);
            assert_eq!(outcome, Err(TlsError::NotTls), "{input:?}");
            assert_eq!(out, fatal_decode_error);
            // Everything is over.
            let mut out = Vec::new();
            assert_eq!(
                server.feed(&mut [22], &mut Vec::new(), &mut out),
                Err(TlsError::Closed)
            );
            server.close_notify(&mut out);
            assert!(out.is_empty());
            assert!(server.seal(b"x", &mut out).is_err());
            assert_eq!(server.take_handshake(), None);
        }
    }
}

#[test]
fn records_that_do_not_belong_into_a_handshake_are_refused() {
    for input in [
        record(23, b"<message/>"),
        record(22, &[11, 0, 0, 1, 0]),         // a Certificate
        record(22, &[1, 0, 0, 4, 3, 3, 0, 0]), // a ClientHello that is cut short
        record(20, &[1]),
    ] {
        let (outcome, out, _) = feed_new(&input, usize::MAX);
        assert!(
            matches!(outcome, Err(TlsError::Violation(_))),
            "{input:?}: {outcome:?}"
        );
        assert_eq!(&out[..6], [21, 3, 3, 0, 2, 2], "a fatal alert");
    }
    let (outcome, out, _) = feed_new(&record(21, &[2, 40]), usize::MAX);
    assert_eq!(
        outcome,
        Err(TlsError::AlertReceived("HandshakeFailure".to_owned()))
    );
    assert!(out.is_empty());
}

#[test]
fn a_client_hello_that_never_ends_is_cut_off() {
    // A handshake message of 60,000 bytes, in records of at most 16 kB.
    let mut input = Vec::new();
    let mut message = vec![1, 0, 0xea, 0x60];
    message.resize(4 + 60_000, 0);
    for fragment in message.chunks(16_000) {
        input.extend(record(22, fragment));
    }
    for chunk_bytes in [usize::MAX, 4096, 1] {
        let (outcome, out, _) = feed_new(&input, chunk_bytes);
        assert_eq!(outcome, Err(TlsError::Limit(TlsLimit::ClientHelloBytes)));
        assert_eq!(out, [21, 3, 3, 0, 2, 2, 50]);
    }
    // The same by one byte for each record: rustls would count only what the records carry.
    let mut input = Vec::new();
    for &byte in &message {
        input.extend_from_slice(&[22, 3, 1, 0, 1, byte]);
    }
    let (outcome, _, _) = feed_new(&input, 1000);
    assert_eq!(outcome, Err(TlsError::Limit(TlsLimit::ClientHelloBytes)));
    // Up to the limit all is patience.
    let (outcome, out, server) = feed_new(&input[..CLIENT_HELLO_BYTES_MAX], 1000);
    assert_eq!(outcome, Ok(OPEN));
    assert!(out.is_empty() && server.is_handshaking());
}

#[test]
fn a_handshake_that_never_ends_is_cut_off() {
    // A ClientKeyExchange of 60,000 bytes, in records of 1,000.
    let mut fragments = Vec::new();
    let mut message = vec![16, 0, 0xea, 0x60];
    message.resize(4 + 60_000, 0);
    for fragment in message.chunks(1000) {
        fragments.extend(record(22, fragment));
    }
    for (chunk_bytes, limit, bytes_max) in [
        (usize::MAX, TlsLimit::HandshakeBytes, usize::MAX),
        (500, TlsLimit::HeldBytes, HELD_BYTES_MAX + 500),
    ] {
        let (outcome, _, mut server) = feed_new(&client_hello(TlsVersion::Tls12), usize::MAX);
        assert_eq!(outcome, Ok(OPEN));
        let mut outcome = Ok(OPEN);
        let mut sent = 0;
        for chunk in fragments.clone().chunks_mut(chunk_bytes) {
            sent += chunk.len();
            outcome = server.feed(chunk, &mut Vec::new(), &mut Vec::new());
            if outcome.is_err() {
                break;
            }
        }
        assert_eq!(outcome, Err(TlsError::Limit(limit)));
        assert!(sent <= bytes_max);
    }
}

#[test]
fn endless_change_cipher_specs_are_refused() {
    let (outcome, _, mut server) = feed_new(&client_hello(TlsVersion::Tls13), usize::MAX);
    assert_eq!(outcome, Ok(OPEN));
    let mut change_cipher_specs = [20, 3, 3, 0, 1, 1].repeat(10);
    let outcome = server.feed(&mut change_cipher_specs, &mut Vec::new(), &mut Vec::new());
    assert!(
        matches!(outcome, Err(TlsError::Violation(_))),
        "{outcome:?}"
    );
}

#[test]
fn a_cut_client_hello_waits() {
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let hello = client_hello(version);
        for cut in 0..hello.len() {
            let (outcome, out, server) = feed_new(&hello[..cut], usize::MAX);
            assert_eq!(outcome, Ok(OPEN));
            assert!(out.is_empty() && server.is_handshaking());
        }
    }
}

/// Every answer is fine but a panic, and a changed ClientHello must never be taken for a finished handshake.
#[test]
fn a_changed_client_hello_does_no_harm() {
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let hello = client_hello(version);
        for index in 0..hello.len() {
            for change in [1, 0x80, 0xff] {
                let mut changed = hello.clone();
                changed[index] ^= change;
                let (_, _, server) = feed_new(&changed, usize::MAX);
                assert!(server.is_handshaking());
            }
        }
    }
}

/// A ClientHello with other server name bytes. The handshake cannot be finished, as the client knows nothing of it.
fn with_server_name(name: &[u8]) -> Vec<u8> {
    let original = b"client.example.org";
    let mut hello = client_hello(TlsVersion::Tls13);
    let place = hello
        .windows(original.len())
        .position(|window| window == original)
        .unwrap();
    let grown = i16::try_from(name.len()).unwrap() - i16::try_from(original.len()).unwrap();
    // Lengths: record, message, extensions, extension, list, name.
    let extensions = 5 + 4 + 2 + 32 + 1 + 32;
    let suites = usize::from(u16::from_be_bytes([
        hello[extensions],
        hello[extensions + 1],
    ]));
    let extensions = extensions + 2 + suites + 2;
    for length_at in [3, 7, extensions, place - 7, place - 5, place - 2] {
        let length = u16::from_be_bytes([hello[length_at], hello[length_at + 1]]);
        let length = length.checked_add_signed(grown).unwrap();
        hello[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
    }
    hello.splice(place..place + original.len(), name.iter().copied());
    hello
}

#[test]
fn odd_server_names_get_the_default_certificate_or_an_alert() {
    let long = "a".repeat(300);
    let label = format!("{}.example.org", "a".repeat(64));
    for (name, accepted) in [
        (&b"client.example.org"[..], true),
        (b"other.example.net", true),
        (b"192.0.2.1", true),
        (b"2001:db8::1", true),
        (b"xn--nxasmq6b.example", true),
        (b"", false),
        (b".", false),
        (b"\xff\xfe", false),
        (b"exa mple.org", false),
        (long.as_bytes(), false),
        (label.as_bytes(), false),
    ] {
        let (outcome, out, _) = feed_new(&with_server_name(name), usize::MAX);
        let server_hello = out.first() == Some(&22);
        assert_eq!(outcome.is_ok(), accepted, "{name:?}: {outcome:?}");
        assert_eq!(server_hello, accepted, "{name:?}");
    }
}

#[test]
fn a_thousand_extensions_are_read_without_harm() {
    let mut hello = client_hello(TlsVersion::Tls12);
    let count = 1000_u16;
    let mut extra = Vec::new();
    for number in 0..count {
        // A range that nobody uses.
        extra.extend_from_slice(&(0x4000 + number).to_be_bytes());
        extra.extend_from_slice(&[0, 0]);
    }
    let mut extensions = 5 + 4 + 2 + 32 + 1 + usize::from(hello[5 + 4 + 2 + 32]);
    extensions +=
        2 + usize::from(u16::from_be_bytes([
            hello[extensions],
            hello[extensions + 1],
        ])) + 2;
    for length_at in [3, 7, extensions] {
        let length = u16::from_be_bytes([hello[length_at], hello[length_at + 1]]) + 4 * count;
        hello[length_at..length_at + 2].copy_from_slice(&length.to_be_bytes());
    }
    hello.extend_from_slice(&extra);
    let (outcome, out, _) = feed_new(&hello, usize::MAX);
    assert_eq!(outcome, Ok(OPEN));
    assert_eq!(out[0], 22, "a ServerHello");
}

/// Floods an established connection with records of `payload`, all in one read.
fn check_flood(typ: rustls::ContentType, payload: &[u8], allowed: u32, limit: TlsLimit) {
    let (mut client, mut server) = RawClient::connected(&server());
    let mut flood = Vec::new();
    for _ in 0..=2 * allowed {
        flood.extend(client.record(typ, payload));
    }
    let (mut plain, mut out) = (Vec::new(), Vec::new());
    assert_eq!(
        server.feed(&mut flood, &mut plain, &mut out),
        Err(TlsError::Limit(limit))
    );
    let passed = u32::try_from(plain.len()).unwrap();
    assert!(
        payload.is_empty() || (allowed..2 * allowed).contains(&passed),
        "{passed} passed"
    );
    assert!(out.is_empty());

    // Reading is over, but a stream error and the end can be told.
    assert_eq!(
        server.feed(&mut [], &mut plain, &mut out),
        Err(TlsError::Closed)
    );
    server.seal(b"<policy-violation/>", &mut out).unwrap();
    server.close_notify(&mut out);
    assert_eq!(out.len(), (19 + 22) + (2 + 22));
}

#[test]
fn floods_of_records_without_worth_are_cut_off() {
    check_flood(
        RawClient::DATA,
        b"",
        EMPTY_RECORDS_BURST_MAX,
        TlsLimit::EmptyRecords,
    );
    check_flood(
        RawClient::DATA,
        b" ",
        TINY_RECORDS_BURST_MAX,
        TlsLimit::TinyRecords,
    );
}

#[test]
fn floods_of_key_updates_are_cut_off_even_amid_data() {
    for with_data in [false, true] {
        let mut pair = Pair::connected(&server());
        let mut flood = Vec::new();
        for _ in 0..2 * EMPTY_RECORDS_BURST_MAX {
            pair.client.refresh_traffic_keys().unwrap();
            flood.extend(pair.client_bytes());
            if with_data {
                flood.extend(pair.client_encrypts(b"<presence/>     "));
            }
        }
        let mut out = Vec::new();
        let outcome = pair.server.feed(&mut flood, &mut pair.received, &mut out);
        assert_eq!(outcome, Err(TlsError::Limit(TlsLimit::EmptyRecords)));
        let data_before = if with_data {
            EMPTY_RECORDS_BURST_MAX as usize
        } else {
            0
        };
        assert_eq!(pair.received.len(), data_before * 16);
        assert_eq!(
            pair.server_sends(b"<policy-violation/>"),
            b"<policy-violation/>"
        );
        pair.server.close_notify(&mut out);
        assert_eq!(pair.client_takes(&out), None);
        assert!(pair.client_saw_close_notify());
    }
}

#[test]
fn a_message_that_never_ends_is_cut_off_after_the_handshake_too() {
    let (mut client, mut server) = RawClient::connected(&server());
    let (mut plain, mut out) = (Vec::new(), Vec::new());
    // A key update that claims 65,000 bytes, in records of 1,000.
    let mut fragment = vec![0; 1000];
    fragment[..4].copy_from_slice(&[24, 0, 0xfd, 0xe8]);
    let mut outcome = Ok(OPEN);
    let mut records = 0;
    while outcome.is_ok() {
        records += 1;
        outcome = server.feed(
            &mut client.record(RawClient::HANDSHAKE, &fragment),
            &mut plain,
            &mut out,
        );
        fragment.fill(0);
    }
    assert_eq!(outcome, Err(TlsError::Limit(TlsLimit::HeldBytes)));
    assert_eq!(records, 19);
    server.seal(b"<policy-violation/>", &mut out).unwrap();
    assert_eq!(out.len(), 19 + 22);
}

#[test]
fn a_changed_record_is_refused() {
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let mut pair = Pair::connected_with(&server(), version);
        let mut records = pair.client_encrypts(b"<presence/>");
        let mut changed = pair.client_encrypts(b"<message/>");
        *changed.last_mut().unwrap() ^= 1;
        records.extend(changed);
        let mut out = Vec::new();
        let outcome = pair.server.feed(&mut records, &mut pair.received, &mut out);
        assert!(
            matches!(outcome, Err(TlsError::Violation(_))),
            "{outcome:?}"
        );
        assert_eq!(pair.received, b"<presence/>", "what came before is good");
        assert_eq!(
            pair.client_takes(&out),
            Some(rustls::Error::AlertReceived(AlertDescription::BadRecordMac))
        );
        assert_eq!(pair.server.seal(b"x", &mut out), Err(TlsError::Closed));
    }
}

#[test]
fn renegotiation_is_refused() {
    let mut pair = Pair::connected_with(&server(), TlsVersion::Tls12);
    // The client asks in the clear, which nobody takes for its own any more.
    let mut hello = client_hello(TlsVersion::Tls12);
    let outcome = pair
        .server
        .feed(&mut hello, &mut pair.received, &mut Vec::new());
    assert!(
        matches!(outcome, Err(TlsError::Violation(_))),
        "{outcome:?}"
    );
}

#[test]
fn a_fatal_alert_ends_the_connection() {
    let (mut client, mut server) = RawClient::connected(&server());
    let mut alert = client.record(RawClient::ALERT, &[2, 80]);
    let mut out = Vec::new();
    let outcome = server.feed(&mut alert, &mut Vec::new(), &mut out);
    assert_eq!(
        outcome,
        Err(TlsError::AlertReceived("InternalError".to_owned()))
    );
    assert!(out.is_empty());
}

/// Numbers that look random and are the same in each run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap()
    }
}

/// One connection with one changed, lost or doubled byte of the client's, somewhere, cut at random.
fn check_disturbed(seed: u64) {
    let mut numbers = Numbers(seed);
    let version = [TlsVersion::Tls12, TlsVersion::Tls13][numbers.below(2)];
    let config = client_config(version, &[]);
    let mut pair = Pair::new(&server(), AcceptKind::Direct, config, "client.example.org");
    let mut countdown = numbers.below(700);
    let mut expected = Vec::new();
    let outcome = loop {
        let mut bytes = pair.client_bytes();
        if bytes.is_empty() {
            expected.extend_from_slice(b"<presence from='client.example.org'/>");
            bytes = pair.client_encrypts(b"<presence from='client.example.org'/>");
        }
        if countdown < bytes.len() {
            match numbers.below(3) {
                0 => bytes[countdown] ^= 1 << numbers.below(8),
                1 => drop(bytes.remove(countdown)),
                _ => bytes.insert(countdown, bytes[countdown]),
            }
        }
        countdown = countdown.checked_sub(bytes.len()).unwrap_or(usize::MAX);
        let mut answers = Vec::new();
        let chunk_bytes = 1 + numbers.below(bytes.len().max(1));
        let mut chunks = bytes.chunks_mut(chunk_bytes);
        let outcome = chunks.try_for_each(|chunk| {
            pair.server
                .feed(chunk, &mut pair.received, &mut answers)
                .map(drop)
        });
        if outcome.is_err() || expected.len() > 2000 {
            break outcome;
        }
        if pair.client_takes(&answers).is_some() {
            return;
        }
    };
    assert!(
        expected.starts_with(&pair.received),
        "what is decrypted was sent"
    );
    if outcome.is_err() {
        let mut out = Vec::new();
        assert_eq!(
            pair.server
                .feed(&mut [0; 100], &mut pair.received, &mut out),
            Err(TlsError::Closed)
        );
        pair.server.close_notify(&mut out);
        assert!(out.is_empty());
    }
}

#[test]
fn a_disturbed_connection_never_yields_what_was_not_sent() {
    for seed in 1..=300 {
        check_disturbed(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
    }
}
