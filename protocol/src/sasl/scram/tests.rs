use super::super::tests::measure;
use super::super::{SaltedPassword, random_salt};
use super::*;

const SECRET: &[u8] = b"the same on all nodes";

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Keys with few iterations, which tests need not wait for.
fn keys(hash: ScramHash, password: &str) -> ScramKeys {
    ScramKeys::derive(hash, password, b"0123456789abcdef", 64)
}

fn start(message: &str) -> Result<ScramServer, SaslFailure> {
    ScramServer::start(ScramHash::Sha256, false, false, message.as_bytes())
}

/// A server that has sent its challenge to a client with the password `pencil`, and the client's answer.
fn challenged(hash: ScramHash) -> (ScramServer, String) {
    let mut client = ScramClient::new(hash, ClientBinding::None, "user", "pencil", "abc");
    let mut server = ScramServer::start(hash, false, false, &client.first()).unwrap();
    let challenge = server.challenge(keys(hash, "pencil"), "def");
    let answer = client.respond(&challenge).unwrap();
    (server, String::from_utf8(answer).unwrap())
}

#[test]
fn the_exchange_of_rfc_5802_is_reproduced() {
    check_rfc_exchange(
        ScramHash::Sha1,
        ["fyko+d2lbbFgONRv9qkxdawL", "3rfcNHYJY1ZVvWVs7j"],
        "QSXCR+Q6sek8bf92",
        [
            "v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
            "rmF9pqV8S7suAoZWja4dJRkFsKQ=",
        ],
    );
}

#[test]
fn the_exchange_of_rfc_7677_is_reproduced() {
    check_rfc_exchange(
        ScramHash::Sha256,
        ["rOprNGfwEbeRWgbNEkqO", "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"],
        "W22ZaJ0SNY7soEsUEjb6gQ==",
        [
            "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        ],
    );
}

fn check_rfc_exchange(
    hash: ScramHash,
    nonces: [&str; 2],
    salt: &str,
    [proof, signature]: [&str; 2],
) {
    let nonce = nonces.concat();
    let mut client = ScramClient::new(hash, ClientBinding::None, "user", "pencil", nonces[0]);
    assert_eq!(text(&client.first()), format!("n,,n=user,r={}", nonces[0]));
    let keys = ScramKeys::derive(hash, "pencil", &STANDARD.decode(salt).unwrap(), 4_096);
    let mut server = ScramServer::start(hash, false, true, &client.first()).unwrap();
    assert_eq!(server.username(), "user");
    let challenge = server.challenge(keys, nonces[1]);
    assert_eq!(text(&challenge), format!("r={nonce},s={salt},i=4096"));
    let answer = client.respond(&challenge).unwrap();
    assert_eq!(text(&answer), format!("c=biws,r={nonce},p={proof}"));
    let success = server.finish(&answer, None).unwrap();
    assert_eq!(text(&success), format!("v={signature}"));
    assert_eq!(client.verify(&success), Ok(()));
}

#[test]
fn the_example_of_xep_0474_is_reproduced() {
    let client_nonce = "12C4CD5C-E38E-4A98-8F6D-15C38F51CCC6";
    let server_nonce = "a09117a6-ac50-4f2f-93f1-93799c2bddf6";
    let offered = downgrade_hash(
        ScramHash::Sha1,
        &["SCRAM-SHA-1-PLUS", "SCRAM-SHA-1"],
        Some(&["tls-server-end-point", "tls-exporter"]),
    );
    assert_eq!(offered, "G6k/rBLDqgOhRRaCuuatSDFkJ08=");
    let first = format!("p=tls-exporter,,n=user,r={client_nonce}");
    let mut server = ScramServer::start(ScramHash::Sha1, true, true, first.as_bytes()).unwrap();
    let salt = STANDARD.decode("QSXCR+Q6sek8bf92").unwrap();
    let keys = ScramKeys::derive(ScramHash::Sha1, "pencil", &salt, 4_096);
    let challenge = server.challenge_with_hash(keys, server_nonce, Some(&offered));
    assert_eq!(
        text(&challenge),
        format!(
            "r={client_nonce}{server_nonce},s=QSXCR+Q6sek8bf92,i=4096,h=G6k/rBLDqgOhRRaCuuatSDFkJ08="
        )
    );
    let answer = format!(
        "c=cD10bHMtZXhwb3J0ZXIsLFRISVMgSVMgRkFLRSBDQiBEQVRB,r={client_nonce}{server_nonce},\
         x=19C6532F-1CF4-4A27-A18D-DC9CEA41BBB3,p=M/SIDjT+dfcxUh89jZEypRvFxB4="
    );
    let success = server
        .finish(answer.as_bytes(), Some(b"THIS IS FAKE CB DATA"))
        .unwrap();
    assert_eq!(text(&success), "v=MQrMPvv7yv4x4Cq4W4Ih25EqS2c=");
}

#[test]
fn transcripts_of_another_implementation_are_reproduced_with_every_hash() {
    let fixture = include_str!("../../../tests/fixtures/scram_transcripts.txt");
    let rows: Vec<_> = fixture
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    assert_eq!(rows.len(), ScramHash::ALL.len());
    let data: Vec<u8> = (0..32).collect();
    for (hash, row) in ScramHash::ALL.into_iter().zip(rows) {
        let [name, first, challenge, answer, success] = row.split('\t').collect::<Vec<_>>()[..]
        else {
            panic!("five columns: {row}")
        };
        assert_eq!(hash.name().replace("SCRAM-SHA-", "SHA"), name);
        let binding = ClientBinding::Bound(ChannelBinding::TlsExporter, &data);
        let mut client = ScramClient::new(
            hash,
            binding,
            "us=er,",
            "pencil",
            "fyko+d2lbbFgONRv9qkxdawL",
        )
        .with_authzid("other");
        assert_eq!(text(&client.first()), first);
        let mut server = ScramServer::start(hash, true, true, first.as_bytes()).unwrap();
        assert_eq!(
            (server.username(), server.authzid()),
            ("us=er,", Some("other"))
        );
        assert_eq!(server.channel_binding(), Some("tls-exporter"));
        let salt = challenge
            .split(",s=")
            .nth(1)
            .unwrap()
            .split(',')
            .next()
            .unwrap();
        let keys = ScramKeys::derive(hash, "pencil", &STANDARD.decode(salt).unwrap(), 4_096);
        assert_eq!(
            text(&server.challenge(keys, "3rfcNHYJY1ZVvWVs7j")),
            challenge
        );
        assert_eq!(text(&client.respond(challenge.as_bytes()).unwrap()), answer);
        assert_eq!(
            text(&server.finish(answer.as_bytes(), Some(&data)).unwrap()),
            success
        );
        assert_eq!(client.verify(success.as_bytes()), Ok(()));
    }
}

#[test]
fn flag_mechanism_and_offer_must_agree() {
    // C10, A09: flag, mechanism is -PLUS, -PLUS was offered on this stream.
    let refused = SaslFailure::NotAuthorized;
    let malformed = SaslFailure::MalformedRequest;
    let not_offered = SaslFailure::InvalidMechanism;
    let table = [
        ("n", false, false, Ok(())),
        ("n", false, true, Ok(())),
        ("n", true, false, Err(not_offered)),
        ("n", true, true, Err(malformed)),
        ("y", false, false, Ok(())),
        ("y", false, true, Err(refused)),
        ("y", true, false, Err(not_offered)),
        ("y", true, true, Err(refused)),
        ("p=tls-exporter", false, false, Err(malformed)),
        ("p=tls-exporter", false, true, Err(malformed)),
        ("p=tls-exporter", true, false, Err(not_offered)),
        ("p=tls-exporter", true, true, Ok(())),
        ("p=tls-server-end-point", true, true, Ok(())),
        ("p=tls-unique", true, true, Err(refused)),
        ("p=TLS-EXPORTER", true, true, Err(refused)),
        ("p=tls_exporter", true, true, Err(malformed)),
        ("p=", true, true, Err(malformed)),
        ("p", true, true, Err(malformed)),
        ("N", false, false, Err(malformed)),
        ("", false, false, Err(malformed)),
        ("F,n", false, false, Err(malformed)),
    ];
    for (flag, plus, plus_offered, expected) in table {
        let message = format!("{flag},,n=user,r=abc");
        assert_eq!(
            ScramServer::says_not_offered(message.as_bytes()),
            flag == "y"
        );
        let result = ScramServer::start(ScramHash::Sha1, plus, plus_offered, message.as_bytes());
        assert_eq!(result.map(|_| ()), expected, "{flag} {plus} {plus_offered}");
    }
}

#[test]
fn client_first_is_read_by_the_grammar() {
    // A07 and more.
    let accepted = [
        "n,,n=user,r=abc",
        "y,,n=user,r=abc",
        "n,a=user@example.com,n=user,r=abc",
        "n,,n=user,r=!~",
        "n,,n=user,r=abc,x=1,Y=a=b",
        "n,,n=\u{e9}\u{1f412},r=abc",
    ];
    for message in accepted {
        assert!(start(message).is_ok(), "{message}");
    }
    let refused = [
        "",
        "n",
        "n,",
        "n,,",
        ",,n=user,r=abc",
        "n,,n=user",
        "n,,n=user,",
        "n,,n=,r=abc",
        "n,,n=user,r=",
        "n,,r=abc,n=user",
        "n,,r=abc",
        "n,,u=user,r=abc",
        "n,,m=1,n=user,r=abc",
        "n,,n=user,m=1,r=abc",
        "n,,n=user,r=abc,m=1",
        "n,,n=user,r=abc,",
        "n,,n=user,r=abc,x",
        "n,,n=user,r=abc,x=",
        "n,,n=user,r=abc,xy=1",
        "n,,n=user,r=abc,1=1",
        "n,,n=user,r=abc,r=def",
        "n,,n=user,r=abc,n=other",
        "n,,n=user,r=a b",
        "n,,n=user,r=a\u{e9}",
        "n,,n=user,r=a\tb",
        "n,,n=us\0er,r=abc",
        "n,a=,n=user,r=abc",
        "n,b=c,n=user,r=abc",
        "n,user,n=user,r=abc",
        " n,,n=user,r=abc",
    ];
    for message in refused {
        assert_eq!(
            start(message).map(|_| ()),
            Err(SaslFailure::MalformedRequest),
            "{message:?}"
        );
    }
    let not_utf8 = ScramServer::start(ScramHash::Sha1, false, false, b"n,,n=us\xffer,r=abc");
    assert_eq!(not_utf8.map(|_| ()), Err(SaslFailure::MalformedRequest));
}

#[test]
fn a_client_nonce_has_a_limit() {
    for (length, is_accepted) in [
        (1, true),
        (NONCE_BYTES_MAX, true),
        (NONCE_BYTES_MAX + 1, false),
        (10_000, false),
    ] {
        assert_eq!(
            start(&format!("n,,n=user,r={}", "x".repeat(length))).is_ok(),
            is_accepted,
            "{length}"
        );
    }
}

#[test]
fn names_have_the_limits_of_addresses() {
    for (length, is_accepted) in [(1_023, true), (1_024, false), (1_025, false)] {
        assert_eq!(
            start(&format!("n,,n={},r=abc", "x".repeat(length))).is_ok(),
            is_accepted,
            "{length}"
        );
        assert_eq!(
            start(&format!("n,,n={},r=abc", "=2C".repeat(length))).is_ok(),
            is_accepted,
            "{length}"
        );
    }
    for (length, is_accepted) in [(3_071, true), (3_072, false)] {
        assert_eq!(
            start(&format!("n,a={},n=u,r=abc", "x".repeat(length))).is_ok(),
            is_accepted,
            "{length}"
        );
    }
    // Within all other limits, but longer than any message.
    let extension = |length: usize| format!("n,,n=u,r=abc,x={}", "x".repeat(length));
    assert!(start(&extension(MESSAGE_BYTES_MAX - 15)).is_ok());
    assert!(start(&extension(MESSAGE_BYTES_MAX - 14)).is_err());
}

#[test]
fn names_decode_comma_and_equals_sign_only() {
    let table = [
        ("user", Some("user")),
        ("=2C", Some(",")),
        ("=3D", Some("=")),
        ("a=3D2Cb=2C=2C", Some("a=2Cb,,")),
        (" user ", Some(" user ")),
        ("a\\40b", Some("a\\40b")),
        ("=", None),
        ("=2", None),
        ("=2c", None),
        ("=3d", None),
        ("=40", None),
        ("a=b", None),
        ("a==3D", None),
        ("user=", None),
    ];
    for (name, expected) in table {
        let server = start(&format!("n,a={name},n={name},r=abc")).ok();
        assert_eq!(
            server.as_ref().map(ScramServer::username),
            expected,
            "{name}"
        );
        assert_eq!(
            server.as_ref().and_then(ScramServer::authzid),
            expected,
            "{name}"
        );
    }
}

/// A client's answer, changed.
type Change = fn(&str) -> String;

/// A08: what is done to the answer, which is `c=biws,r=abcdef,p=PROOF`.
const CHANGES_OF_CLIENT_FINAL: [(&str, Change); 22] = [
    ("changed nonce", |answer| {
        answer.replace("r=abcdef", "r=abcdeg")
    }),
    ("cut nonce", |answer| answer.replace("r=abcdef", "r=abcde")),
    ("longer nonce", |answer| {
        answer.replace("r=abcdef", "r=abcdefg")
    }),
    ("the client's nonce alone", |answer| {
        answer.replace("r=abcdef", "r=abc")
    }),
    ("another flag", |answer| answer.replace("c=biws", "c=eSws")),
    ("with an authorization identity", |answer| {
        answer.replace("c=biws", "c=bixhPW8s")
    }),
    ("no padding in c=", |answer| {
        answer.replace("c=biws", "c=biws=")
    }),
    ("empty c=", |answer| answer.replace("c=biws", "c=")),
    ("without c=", |answer| answer.replace("c=biws,", "")),
    ("reordered", |answer| {
        answer.replace("c=biws,r=abcdef", "r=abcdef,c=biws")
    }),
    ("proof first", |answer| {
        let (rest, proof) = answer.rsplit_once(',').unwrap();
        format!("{proof},{rest}")
    }),
    ("two proofs", |answer| {
        format!("{answer},{}", answer.rsplit_once(',').unwrap().1)
    }),
    ("an extension after the proof", |answer| {
        format!("{answer},x=1")
    }),
    ("an extension that was not signed", |answer| {
        answer.replace(",p=", ",x=1,p=")
    }),
    ("a mandatory extension", |answer| {
        answer.replace(",p=", ",m=1,p=")
    }),
    ("without a proof", |answer| {
        answer.rsplit_once(',').unwrap().0.to_owned()
    }),
    ("empty proof", |answer| {
        format!("{},p=", answer.rsplit_once(',').unwrap().0)
    }),
    ("short proof", |answer| {
        format!("{},p=AAAA", answer.rsplit_once(',').unwrap().0)
    }),
    ("proof of zeros", |answer| {
        format!(
            "{},p={}",
            answer.rsplit_once(',').unwrap().0,
            STANDARD.encode([0; 32])
        )
    }),
    ("one more byte", |answer| format!("{answer} ")),
    ("too long", |answer| {
        answer.replace(",p=", &format!(",x={},p=", "x".repeat(MESSAGE_BYTES_MAX)))
    }),
    ("nothing", |_| String::new()),
];

#[test]
fn any_fault_in_client_final_is_not_authorized() {
    for (what, change) in CHANGES_OF_CLIENT_FINAL {
        let (server, answer) = challenged(ScramHash::Sha256);
        let changed = change(&answer);
        assert_ne!(changed, answer, "{what}");
        assert_eq!(
            server.finish(changed.as_bytes(), None),
            Err(SaslFailure::NotAuthorized),
            "{what}"
        );
    }
    let (server, answer) = challenged(ScramHash::Sha256);
    assert!(server.finish(answer.as_bytes(), None).is_ok());
}

#[test]
fn a_response_without_a_challenge_is_not_authorized() {
    let (_, answer) = challenged(ScramHash::Sha256);
    let server = start("n,,n=user,r=abc").unwrap();
    assert_eq!(
        server.finish(answer.as_bytes(), None),
        Err(SaslFailure::NotAuthorized)
    );
}

#[test]
fn a_signed_extension_of_the_client_is_accepted() {
    // The proof covers the extension, so it is made by hand.
    let hash = ScramHash::Sha256;
    let mut server = start("n,,n=user,r=abc").unwrap();
    let challenge = server.challenge(keys(hash, "pencil"), "def");
    let without_proof = "c=biws,r=abcdef,x=1";
    let transcript = transcript("n=user,r=abc", text(&challenge), without_proof);
    let client_key = SaltedPassword::derive(hash, "pencil", b"0123456789abcdef", 64).client_key();
    let signature = hash.hmac(hash.digest(client_key.bytes()).bytes(), &transcript);
    let proof = client_key.xor(signature.bytes()).to_base64();
    assert!(
        server
            .finish(format!("{without_proof},p={proof}").as_bytes(), None)
            .is_ok()
    );
}

#[test]
fn channel_binding_data_must_be_those_of_this_connection() {
    for binding in ChannelBinding::ALL {
        let run = |data: Option<&[u8]>| {
            let bound = ClientBinding::Bound(binding, b"this connection");
            let mut client = ScramClient::new(ScramHash::Sha512, bound, "user", "pencil", "abc");
            let mut server =
                ScramServer::start(ScramHash::Sha512, true, true, &client.first()).unwrap();
            assert_eq!(server.channel_binding_type(), Some(binding));
            assert_eq!(server.channel_binding(), Some(binding.name()));
            let answer = client
                .respond(&server.challenge(keys(ScramHash::Sha512, "pencil"), "def"))
                .unwrap();
            server
                .finish(&answer, data)
                .map(|success| client.verify(&success))
        };
        assert_eq!(run(Some(b"this connection")), Ok(Ok(())));
        assert_eq!(
            run(Some(b"another connection")),
            Err(SaslFailure::NotAuthorized)
        );
        assert_eq!(run(Some(b"")), Err(SaslFailure::NotAuthorized));
        assert_eq!(run(None), Err(SaslFailure::NotAuthorized));
    }
    // Without channel binding the data do not matter.
    let (server, answer) = challenged(ScramHash::Sha1);
    assert!(server.finish(answer.as_bytes(), Some(b"whatever")).is_ok());
}

#[test]
fn an_unknown_user_looks_like_a_wrong_password() {
    // A06: same shape of the challenge, same failure, same number of HMACs.
    for hash in ScramHash::ALL {
        let run = |keys: ScramKeys| {
            let first = ScramClient::new(hash, ClientBinding::None, "user", "wrong", "abc");
            let mut server = ScramServer::start(hash, false, false, &first.first()).unwrap();
            let challenge = server.challenge(keys, "def");
            let mut client = first;
            let answer = client.respond(&challenge).unwrap();
            let (result, work) = measure(|| server.finish(&answer, None));
            let shape: Vec<_> = text(&challenge)
                .split(',')
                .map(|part| (part[..2].to_owned(), part.len()))
                .collect();
            let iterations = text(&challenge).rsplit_once(",i=").unwrap().1.to_owned();
            (result, work, shape, iterations)
        };
        let known = run(ScramKeys::derive(hash, "pencil", &random_salt(), 64));
        let unknown = run(ScramKeys::invented(SECRET, "user@example.com", hash, 64));
        assert_eq!(known, unknown);
        assert_eq!(known.0, Err(SaslFailure::NotAuthorized));
        assert_eq!((known.1, known.3.as_str()), (2, "64"));
    }
}

#[test]
fn invented_keys_are_stable_and_match_nothing() {
    for hash in ScramHash::ALL {
        let salt =
            |secret: &[u8], name: &str| ScramKeys::invented(secret, name, hash, 64).salt().to_vec();
        assert_eq!(
            salt(SECRET, "user@example.com"),
            salt(SECRET, "user@example.com")
        );
        assert_ne!(
            salt(SECRET, "user@example.com"),
            salt(SECRET, "user@example.org")
        );
        assert_ne!(
            salt(SECRET, "user@example.com"),
            salt(b"another secret", "user@example.com")
        );
        assert_ne!(
            salt(SECRET, "user@example.com"),
            ScramKeys::invented(SECRET, "user@example.com", next(hash), 64).salt()
        );
        let invented = ScramKeys::invented(SECRET, "user@example.com", hash, 64);
        assert!(!invented.judge(invented.stored_key().ct_eq(invented.stored_key())));
        let real = keys(hash, "pencil");
        let judged = measure(|| invented.verify_password("wrong"));
        assert_eq!(judged, (false, 64 + 2));
        assert_eq!(judged, measure(|| real.verify_password("wrong")));
    }
}

fn next(hash: ScramHash) -> ScramHash {
    ScramHash::ALL[(hash as usize + 1) % ScramHash::ALL.len()]
}

#[test]
fn verifying_stored_keys_takes_two_hmacs_whatever_the_iterations() {
    // A12: the iterations are the client's work.
    let keys =
        ScramKeys::from_stored(ScramHash::Sha1, b"salt", 1_000_000, &[1; 20], &[2; 20]).unwrap();
    let mut server = ScramServer::start(ScramHash::Sha1, false, false, b"n,,n=user,r=abc").unwrap();
    server.challenge(keys, "def");
    let answer = format!("c=biws,r=abcdef,p={}", STANDARD.encode([3; 20]));
    let (result, work) = measure(|| server.finish(answer.as_bytes(), None));
    assert_eq!((result, work), (Err(SaslFailure::NotAuthorized), 2));
}

#[test]
fn passwords_are_told_apart() {
    for hash in ScramHash::ALL {
        let keys = keys(hash, "pencil");
        assert!(keys.verify_password("pencil"));
        for wrong in ["", "Pencil", "pencil ", "penci", "pencill"] {
            assert!(!keys.verify_password(wrong), "{wrong:?}");
        }
    }
}

#[test]
fn a_changed_list_of_mechanisms_is_noticed() {
    // A10. Somebody in the middle took -PLUS away; what the client saw differs from what the server offered.
    let hash = ScramHash::Sha256;
    let offered = downgrade_hash(
        hash,
        &["SCRAM-SHA-256", "SCRAM-SHA-256-PLUS"],
        Some(&["tls-exporter"]),
    );
    let seen = downgrade_hash(hash, &["SCRAM-SHA-256"], None);
    assert_ne!(offered, seen);
    let exchange = |expected: &str| {
        let client = ScramClient::new(hash, ClientBinding::None, "user", "pencil", "abc");
        let client = client.with_offered(expected.to_owned());
        let mut server = ScramServer::start(hash, false, true, &client.first()).unwrap();
        let challenge = server.challenge_with_hash(keys(hash, "pencil"), "def", Some(&offered));
        (client, server, String::from_utf8(challenge).unwrap())
    };
    let (mut client, server, challenge) = exchange(&offered);
    let answer = client.respond(challenge.as_bytes()).unwrap();
    assert!(server.finish(&answer, None).is_ok());

    let (mut client, _, challenge) = exchange(&seen);
    assert_eq!(
        client.respond(challenge.as_bytes()),
        Err(ScramClientError::Downgrade)
    );

    // If the hash is changed too, the client is content, but its proof covers another challenge than ours.
    let (mut client, server, challenge) = exchange(&seen);
    let answer = client
        .respond(challenge.replace(&offered, &seen).as_bytes())
        .unwrap();
    assert_eq!(
        server.finish(&answer, None),
        Err(SaslFailure::NotAuthorized)
    );
}

#[test]
fn the_downgrade_hash_tells_no_bindings_from_an_empty_list() {
    let hash = |bindings: Option<&[&str]>| downgrade_hash(ScramHash::Sha1, &["PLAIN"], bindings);
    assert_ne!(hash(None), hash(Some(&[])));
    assert_eq!(hash(Some(&["a", "b"])), hash(Some(&["b", "a"])));
}

#[test]
fn a_client_checks_the_challenge() {
    let long_salt = format!("r=abcd,s={},i=1", STANDARD.encode([0; 1_025]));
    let table = [
        ("r=abcd,s=AAAA,i=1", Ok(())),
        ("r=abcd,s=AAAA,i=1,x=1", Ok(())),
        ("r=abc,s=AAAA,i=1", Err(ScramClientError::Nonce)),
        ("r=abd,s=AAAA,i=1", Err(ScramClientError::Nonce)),
        ("r=,s=AAAA,i=1", Err(ScramClientError::Nonce)),
        ("r=abcd,s=AAAA,i=0", Err(ScramClientError::Limit)),
        ("r=abcd,s=AAAA,i=1000001", Err(ScramClientError::Limit)),
        (
            "r=abcd,s=AAAA,i=99999999999999999999",
            Err(ScramClientError::Limit),
        ),
        ("r=abcd,s=,i=1", Err(ScramClientError::Limit)),
        (long_salt.as_str(), Err(ScramClientError::Limit)),
        ("r=abcd,s=AAAA,i=", Err(ScramClientError::Malformed)),
        ("r=abcd,s=AAAA,i=+1", Err(ScramClientError::Malformed)),
        ("r=abcd,s=A,i=1", Err(ScramClientError::Malformed)),
        ("r=abcd,i=1,s=AAAA", Err(ScramClientError::Malformed)),
        ("m=1,r=abcd,s=AAAA,i=1", Err(ScramClientError::Malformed)),
        ("r=abcd,s=AAAA,i=1,m=1", Err(ScramClientError::Malformed)),
        ("r=abcd,s=AAAA", Err(ScramClientError::Malformed)),
        ("e=unknown-user", Err(ScramClientError::Malformed)),
        ("", Err(ScramClientError::Malformed)),
    ];
    for (challenge, expected) in table {
        let mut client = ScramClient::new(
            ScramHash::Sha1,
            ClientBinding::NotOffered,
            "user",
            "pencil",
            "abc",
        );
        assert_eq!(
            client.respond(challenge.as_bytes()).map(|_| ()),
            expected,
            "{challenge}"
        );
    }
}

#[test]
fn a_client_checks_that_the_server_knows_the_password() {
    let signed = |change: fn(String) -> String| {
        let mut client = ScramClient::new(
            ScramHash::Sha1,
            ClientBinding::None,
            "user",
            "pencil",
            "abc",
        );
        let mut server =
            ScramServer::start(ScramHash::Sha1, false, false, &client.first()).unwrap();
        let answer = client
            .respond(&server.challenge(keys(ScramHash::Sha1, "pencil"), "def"))
            .unwrap();
        let success = String::from_utf8(server.finish(&answer, None).unwrap()).unwrap();
        client.verify(change(success).as_bytes())
    };
    assert_eq!(signed(|success| success), Ok(()));
    assert_eq!(signed(|success| success + ",x=1"), Ok(()));
    assert_eq!(
        signed(|_| format!("v={}", STANDARD.encode([0; 20]))),
        Err(ScramClientError::Signature)
    );
    assert_eq!(
        signed(|_| format!("v={}", STANDARD.encode([0; 32]))),
        Err(ScramClientError::Malformed)
    );
    assert_eq!(
        signed(|_| "e=other-error".to_owned()),
        Err(ScramClientError::Malformed)
    );
    assert_eq!(signed(|_| String::new()), Err(ScramClientError::Malformed));
    let early = ScramClient::new(
        ScramHash::Sha1,
        ClientBinding::None,
        "user",
        "pencil",
        "abc",
    );
    assert_eq!(early.verify(b"v=AAAA"), Err(ScramClientError::Malformed));
}

#[test]
fn a_client_with_a_salted_password_needs_no_iterations() {
    let hash = ScramHash::Sha256;
    let salted = SaltedPassword::derive(hash, "pencil", b"0123456789abcdef", 64);
    let login = |salted: SaltedPassword, keys: ScramKeys| {
        let mut client = ScramClient::with_salted(ClientBinding::None, "user", salted, "abc");
        let mut server = ScramServer::start(hash, false, false, &client.first()).unwrap();
        let answer = client.respond(&server.challenge(keys, "def"))?;
        client.verify(&server.finish(&answer, None).expect("the password is right"))
    };
    let stored = keys(hash, "pencil");
    let (result, work) = measure(|| login(salted.clone(), stored.clone()));
    assert_eq!((result, work), (Ok(()), 6));
    let changed = ScramKeys::derive(hash, "pencil", b"another", 64);
    assert_eq!(
        login(salted.clone(), changed),
        Err(ScramClientError::SaltChanged)
    );
    let changed = ScramKeys::derive(hash, "pencil", b"0123456789abcdef", 65);
    assert_eq!(login(salted, changed), Err(ScramClientError::SaltChanged));
}

#[test]
fn nonces_are_new_and_printable() {
    let nonce = random_nonce();
    assert_eq!(nonce.len(), 24);
    assert!(is_nonce(&nonce));
    assert_ne!(nonce, random_nonce());
    assert_ne!(random_salt(), random_salt());
}

#[test]
fn no_message_makes_either_side_panic() {
    let parts = [
        "n",
        "y",
        "p=tls-exporter",
        ",",
        ",",
        ",",
        "n=",
        "r=",
        "a=",
        "m=",
        "c=",
        "p=",
        "s=",
        "i=",
        "v=",
        "=",
        "=2C",
        "biws",
        "abc",
        "def",
        "AAAA",
        "\0",
        "\u{e9}",
        "\u{1f412}",
        " ",
        "1",
        "99999999999",
    ];
    let mut random = super::super::tests::Random::new(5_802);
    for _ in 0..20_000 {
        let mut message = Vec::new();
        for _ in 0..random.below(14) {
            message.extend_from_slice(parts[random.below(parts.len())].as_bytes());
        }
        if random.below(8) == 0 {
            message.push(0xff);
        }
        let plus = random.below(2) == 0;
        if let Ok(server) = ScramServer::start(ScramHash::Sha1, plus, true, &message) {
            assert!(!server.username().is_empty());
        }
        let mut server = start("n,,n=user,r=abc").unwrap();
        server.challenge(
            ScramKeys::invented(SECRET, "user", ScramHash::Sha256, 1),
            "def",
        );
        assert_eq!(
            server.finish(&message, None),
            Err(SaslFailure::NotAuthorized)
        );
        let mut client =
            ScramClient::new(ScramHash::Sha1, ClientBinding::None, "user", "pencil", "a");
        let _ = client.respond(&message);
        assert!(client.verify(&message).is_err());
    }
}

#[test]
fn a_binding_that_is_not_known_is_told_from_a_message_that_is_none() {
    let check = |message: &str, expected: bool| {
        assert_eq!(
            ScramServer::binds_otherwise(message.as_bytes()),
            expected,
            "{message}"
        );
    };
    check("p=tls-unique,,n=user,r=abcdefghijkl", true);
    check("p=x,,n=user,r=abcdefghijkl", true);
    check("p=tls-exporter,,n=user,r=abcdefghijkl", false);
    check("p=tls-server-end-point,,n=user,r=abcdefghijkl", false);
    check("n,,n=user,r=abcdefghijkl", false);
    check("y,,n=user,r=abcdefghijkl", false);
    check("p=tls-unique,,", false);
    check("p=tls-unique", false);
    check("", false);
}
