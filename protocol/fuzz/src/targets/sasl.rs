//! Messages of SASL mechanisms and stored passwords: nothing but the right proof gets in, and nothing panics.
use std::sync::OnceLock;

use protocol::sasl::{
    ClientBinding, PassDetails, Plain, ScramClient, ScramHash, ScramKeys, ScramServer,
    decode_base64, encode_base64,
};

use super::Target;

pub(crate) const TARGET: Target = Target {
    name: "sasl",
    run,
    seeds: &[
        b"\x00\0user\0pencil",
        b"\x01n,,n=user,r=fyko+d2lbbFgONRv9qkxdawL\nc=biws,r=fyko+d2lbbFgONRv9qkxdawLserver,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
        b"\x05p=tls-exporter,a=other,n=us=2Cer,r=abc\nc=cD10bHMtZXhwb3J0ZXIs,r=abcserver,p=AAAA",
        b"\x02r=clientserver,s=QSXCR+Q6sek8bf92,i=64\nv=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
        b"\x03==SCRAM==,QUJD,REVG,R0hJ,4096",
        b"\x03==MULTI_SCRAM==,4096,===SHA1===QUJD|QUJD|QUJD,==SHA256==QUJD|QUJD|QUJD",
        b"\x04QUJD",
    ],
    words: &[
        b"n,,", b"y,,", b"p=tls-exporter,,", b"p=tls-server-end-point,,", b"a=", b"n=", b"r=", b"c=", b"p=", b"m=", b"s=", b"i=",
        b"v=", b"e=", b"d=", b",", b"=2C", b"=3D", b"=", b"\0", b"\n", b"biws", b"eSws", b"server", b"1000000", b"1000001", b"0",
        b"==SHA224==", b"==SHA256==", b"==SHA384==", b"==SHA512==", b"|", b"====", b"\xc3\xa9", b"\xff",
    ],
};

/// What the server adds to a nonce.
const NONCE: &str = "server";

fn run(input: &[u8]) {
    let [kind, rest @ ..] = input else {
        return;
    };
    let (first, second) = match rest.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&rest[..end], &rest[end + 1..]),
        None => (rest, &[][..]),
    };
    let text = std::str::from_utf8(rest).unwrap_or_default();
    match kind & 7 {
        0 => {
            if let Ok(plain) = Plain::parse(rest) {
                assert!(!plain.authcid.is_empty() && !plain.password.is_empty());
                let joined = [
                    plain.authzid.unwrap_or_default(),
                    plain.authcid,
                    plain.password,
                ]
                .join("\0");
                assert_eq!(joined.as_bytes(), rest, "nothing is left out");
            }
        }
        1 | 5 => serve(
            first,
            second,
            kind & 4 != 0,
            ScramHash::ALL[usize::from(kind >> 3) % ScramHash::ALL.len()],
        ),
        2 => answer(first, second),
        3 => {
            if let Ok(details) = PassDetails::parse(text) {
                let written = details.to_string();
                let again = PassDetails::parse(&written).map(|details| details.to_string());
                assert_eq!(again, Ok(written), "the written form is one");
            }
        }
        _ => {
            if let Ok(message) = decode_base64(text) {
                let encoded = encode_base64(&message);
                assert_eq!(
                    decode_base64(&encoded),
                    Ok(message),
                    "an encoding is read back"
                );
            }
        }
    }
}

/// A server whose client does not know the password.
fn serve(first: &[u8], last: &[u8], plus: bool, hash: ScramHash) {
    static KEYS: OnceLock<Vec<ScramKeys>> = OnceLock::new();
    let keys = KEYS.get_or_init(|| {
        let derive =
            |hash: &ScramHash| ScramKeys::derive(*hash, "a password that nobody finds", b"salt", 2);
        ScramHash::ALL.iter().map(derive).collect()
    });
    let Ok(mut server) = ScramServer::start(hash, plus, plus, first) else {
        return;
    };
    assert!(!server.username().is_empty());
    assert_eq!(server.channel_binding_type().is_some(), plus);
    let keys = keys
        .iter()
        .find(|keys| keys.hash() == hash)
        .expect("all were derived");
    let challenge = server.challenge(keys.clone(), NONCE);
    assert!(challenge.starts_with(b"r="));
    assert!(
        server
            .finish(last, plus.then_some(&b"binding"[..]))
            .is_err(),
        "nobody gets in"
    );
}

/// A client whose server does not know the password.
fn answer(first: &[u8], last: &[u8]) {
    // Each iteration costs the client; a server may ask for a million.
    if first
        .windows(6)
        .any(|window| window.iter().all(u8::is_ascii_digit))
    {
        return;
    }
    let mut client = ScramClient::new(
        ScramHash::Sha1,
        ClientBinding::None,
        "user",
        "pencil",
        "client",
    );
    if client.respond(first).is_ok() {
        // A server that knows nothing of the password has no signature either, but by chance.
        assert!(
            client.verify(last).is_err(),
            "the server has to know the password"
        );
    }
}
