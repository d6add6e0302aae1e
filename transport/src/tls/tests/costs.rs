//! What a connection's TLS costs in memory and allocations; run with `--nocapture` to see the figures.

use std::mem::size_of;

use allocation_counter::{AllocationInfo, measure};

use crate::testing::{Pair, client_config, server};
use crate::tls::CLIENT_HELLO_BYTES_MAX;
use crate::tls::records::UnbufferedRecords;
use crate::{AcceptKind, ServerTls, TlsVersion};

/// Adds up what the server's side alone allocates during a handshake with its client on the same thread.
struct Measured {
    pair: Pair,
    bytes: i64,
    blocks: i64,
    peak_bytes: i64,
}

impl Measured {
    fn new(tls: &ServerTls, version: TlsVersion) -> Self {
        let pair = Pair::new(
            tls,
            AcceptKind::Direct,
            client_config(version, &[]),
            "example.org",
        );
        let mut measured = Self {
            pair,
            bytes: 0,
            blocks: 0,
            peak_bytes: 0,
        };
        measured.count(|pair| pair.server = tls.accept(AcceptKind::Direct));
        // The server that Pair::new made was freed in exchange for this one.
        let freed = Self::of_one(tls);
        measured.bytes += freed.bytes_current;
        measured.blocks += freed.count_current;
        measured
    }

    fn of_one(tls: &ServerTls) -> AllocationInfo {
        let mut made = None;
        measure(|| made = Some(tls.accept(AcceptKind::Direct)))
    }

    fn count(&mut self, act: impl FnOnce(&mut Pair)) {
        let info = measure(|| act(&mut self.pair));
        self.peak_bytes = self
            .peak_bytes
            .max(self.bytes + i64::try_from(info.bytes_max).unwrap());
        self.bytes += info.bytes_current;
        self.blocks += info.count_current;
    }

    /// Lets the server take what the client sends, until neither has anything left to say.
    fn exchange(&mut self) {
        let mut plain = Vec::with_capacity(64 * 1024);
        let mut answers = Vec::with_capacity(64 * 1024);
        loop {
            let mut bytes = self.pair.client_bytes();
            if bytes.is_empty() {
                return;
            }
            self.count(|pair| {
                pair.server
                    .feed(&mut bytes, &mut plain, &mut answers)
                    .unwrap();
            });
            assert_eq!(self.pair.client_takes(&answers), None);
            answers.clear();
        }
    }
}

#[test]
fn an_idle_connection_is_small() {
    let tls = server();
    println!(
        "bytes of a server's connection: inline {}",
        size_of::<UnbufferedRecords>()
    );
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let mut measured = Measured::new(&tls, version);
        let begun = measured.bytes;
        measured.exchange();
        let finished = measured.bytes;
        measured.count(|pair| assert!(pair.server.take_handshake().is_some()));
        let taken = measured.bytes;

        let mut out = Vec::with_capacity(1024);
        for _ in 0..10 {
            measured.count(|pair| pair.server.seal(&[b'x'; 300], &mut out).unwrap());
            out.clear();
            std::io::Write::write_all(&mut measured.pair.client.writer(), &[b'x'; 300]).unwrap();
            measured.exchange();
        }
        println!(
            "{version}: accepted {begun}, handshake done {finished}, facts taken {taken}, after traffic {} in {} \
             blocks; peak {}",
            measured.bytes, measured.blocks, measured.peak_bytes
        );
        assert!(
            measured.bytes <= IDLE_BYTES_MAX,
            "{version}: {} bytes",
            measured.bytes
        );
    }
}

#[test]
fn an_unfinished_record_is_held_at_its_size_and_let_go() {
    let tls = server();
    let mut pair = Pair::connected(&tls);
    std::io::Write::write_all(&mut pair.client.writer(), &[b'x'; 300]).unwrap();
    let mut record = pair.client_bytes();
    let (first, second) = record.split_at_mut(100);
    let mut plain = Vec::with_capacity(1024);
    let held = measure(|| {
        pair.server
            .feed(first, &mut plain, &mut Vec::new())
            .unwrap();
    });
    assert_eq!(held.bytes_current, 100);
    let let_go = measure(|| {
        pair.server
            .feed(second, &mut plain, &mut Vec::new())
            .unwrap();
    });
    // rustls has made its queue for plaintext, once and for all.
    println!("after the first record: {} bytes", let_go.bytes_current);
    assert!(let_go.bytes_current <= 0);
    assert_eq!(plain.len(), 300);
}

#[test]
fn a_stranger_costs_little() {
    let tls = server();
    let mut server = tls.accept(AcceptKind::Direct);
    // A ClientHello of 60,000 bytes, dribbled until it is refused.
    let mut dribble = vec![22, 3, 1, 0x3e, 0x80, 1, 0, 0xea, 0x60];
    dribble.resize(20_000, 0);
    let info = measure(|| {
        let mut fed = 0;
        for chunk in dribble.chunks_mut(100) {
            if server
                .feed(chunk, &mut Vec::new(), &mut Vec::new())
                .is_err()
            {
                break;
            }
            fed += chunk.len();
        }
        assert!(fed <= CLIENT_HELLO_BYTES_MAX);
    });
    println!(
        "a dribbled ClientHello: peak {} bytes, {} in the end",
        info.bytes_max, info.bytes_current
    );
    assert!(info.bytes_max <= 64 * 1024);
    assert!(
        info.bytes_current <= 100,
        "a refused client's bytes are let go"
    );
}

#[test]
fn records_cost_few_allocations() {
    let tls = server();
    let mut pair = Pair::connected(&tls);
    pair.server.take_handshake().unwrap();
    pair.client_sends(b"first").unwrap();
    pair.server_sends(b"first");

    std::io::Write::write_all(&mut pair.client.writer(), &[b'x'; 300]).unwrap();
    let mut record = pair.client_bytes();
    let (mut plain, mut out) = (Vec::with_capacity(1024), Vec::with_capacity(1024));
    let fed = measure(|| {
        pair.server.feed(&mut record, &mut plain, &mut out).unwrap();
    });
    assert_eq!(plain.len(), 300);
    let sealed = measure(|| pair.server.seal(&plain, &mut out).unwrap());
    println!(
        "allocations per record of 300 bytes: feed {}, seal {}",
        fed.count_total, sealed.count_total
    );
    assert!(fed.count_total + sealed.count_total <= 3);
    assert_eq!((fed.bytes_current, sealed.bytes_current), (0, 0));

    let mut fresh = Vec::new();
    let info = measure(|| pair.server.seal(&plain, &mut fresh).unwrap());
    assert_eq!(
        info.count_total,
        sealed.count_total + 1,
        "an empty output is allocated once"
    );
    assert_eq!(fresh.capacity(), 322, "and at its size");
}

/// Heap bytes that an idle connection may hold, as asked of the allocator.
const IDLE_BYTES_MAX: i64 = 3_800;
