//! Time of what each stanza and each login does: addresses, SCRAM. Prints nanoseconds; judges nothing.
#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::time::Instant;

use protocol::jid::{Jid, JidRef, prepare_domain, prepare_local, prepare_resource};
use protocol::sasl::{ClientBinding, ScramClient, ScramHash, ScramKeys, ScramServer};

/// Rounds; the fastest is printed, since everything else on the machine only adds.
const ROUNDS: u32 = 15;

fn measure<T>(what: &str, calls: u32, mut call: impl FnMut() -> T) {
    let fastest = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        for _ in 0..calls {
            black_box(call());
        }
        start.elapsed() / calls
    });
    println!(
        "{:>10} ns  {what}",
        fastest.min().unwrap_or_default().as_nanos()
    );
}

fn main() {
    // `cargo test --benches` runs this too: once is enough then.
    let calls = if std::env::args().any(|argument| argument == "--bench") {
        20_000
    } else {
        1
    };
    addresses(calls);
    costly_addresses(calls.div_ceil(200));
    logins(calls.div_ceil(10));
}

fn addresses(calls: u32) {
    let text = "juliet@im.example.com/Balcony.1b2c3d4e";
    measure("address, normal, borrowed", calls, || {
        JidRef::new_normal(black_box(text)).is_some()
    });
    measure("address, normal, owned", calls, || {
        Jid::parse(black_box(text))
    });
    measure("address, upper case", calls, || {
        Jid::parse(black_box("Juliet@IM.example.com/Balcony"))
    });
    measure("address, local part with an umlaut", calls, || {
        Jid::parse(black_box("j\u{fc}rgen@example.com"))
    });
    measure("address, domain with an umlaut", calls, || {
        Jid::parse(black_box("juliet@b\u{fc}cher.example"))
    });
    measure("address, resource with an umlaut", calls, || {
        Jid::parse(black_box("example.com/K\u{fc}che"))
    });
}

/// The most expensive parts that anybody can send.
fn costly_addresses(calls: u32) {
    for (name, character) in [
        ("accented letters", '\u{e9}'),
        ("fullwidth letters", '\u{ff21}'),
        ("accents", '\u{301}'),
        ("Arabic digits", '\u{660}'),
        ("katakana dots", '\u{30fb}'),
        ("newer letters", '\u{1e900}'),
    ] {
        let text = String::from(character).repeat(3_069 / character.len_utf8());
        measure(&format!("longest local part of {name}"), calls, || {
            prepare_local(black_box(&text)).is_ok()
        });
        measure(&format!("longest domain of {name}"), calls, || {
            prepare_domain(black_box(&text)).is_ok()
        });
        measure(&format!("longest resource of {name}"), calls, || {
            prepare_resource(black_box(&text)).is_ok()
        });
    }
    let mixed = format!("{}{}", "\u{660}".repeat(64), "\u{e9}".repeat(1_470));
    measure("longest resource with 64 Arabic digits", calls, || {
        prepare_resource(black_box(&mixed)).is_ok()
    });
}

fn logins(calls: u32) {
    for hash in ScramHash::ALL {
        let keys = ScramKeys::derive(hash, "pencil", b"0123456789abcdef", 4_096);
        let nonces = ("fyko+d2lbbFgONRv9qkxdawL", "3rfcNHYJY1ZVvWVs7j0AAAAA");
        let mut client = ScramClient::new(hash, ClientBinding::None, "user", "pencil", nonces.0);
        let first = client.first();
        let start = || {
            let mut server =
                ScramServer::start(hash, false, true, &first).expect("the message is right");
            let challenge = server.challenge(keys.clone(), nonces.1);
            (server, challenge)
        };
        let answer = client.respond(&start().1).expect("the challenge is right");
        let name = hash.name();
        measure(
            &format!("{name}: first message and challenge"),
            calls,
            start,
        );
        measure(
            &format!("{name}: whole login with stored keys"),
            calls,
            || start().0.finish(&answer, None).is_ok(),
        );
        measure(&format!("{name}: unknown user"), calls, || {
            ScramKeys::invented(b"secret of the node", "user@example.com", hash, 4_096)
        });
        measure(
            &format!("{name}: password, 4,096 iterations"),
            calls.div_ceil(2_000),
            || keys.verify_password("pencil"),
        );
    }
}
