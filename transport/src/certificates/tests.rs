//! Which certificate is served to whom, and what happens to files that cannot be used.

use std::time::{Duration, UNIX_EPOCH};

use rcgen::{PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P521_SHA512, PKCS_ED25519, date_time_ymd};
use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};

use super::*;
use crate::testing::{Pair, TempDir, TestCertificate, client_config, settings};

/// The certificate that a client is served which asks for this name; an IP address asks for none.
fn served(tls: &ServerTls, server_name: &str) -> CertificateDer<'static> {
    let config = client_config(TlsVersion::Tls13, &[]);
    let mut pair = Pair::new(tls, AcceptKind::Direct, config, server_name);
    pair.exchange().unwrap();
    let served = pair.client.peer_certificates().unwrap()[0].clone();
    let end_point = pair.server.take_handshake().unwrap().end_point;
    assert_eq!(
        end_point,
        Some(Sha256::digest(&served).to_vec()),
        "the facts are of the certificate served"
    );
    served
}

#[test]
fn the_server_name_chooses_the_certificate() {
    let dir = TempDir::new();
    let certificates = [
        "default",
        "example.org",
        "*.example.org",
        "chat.example.org",
        "bücher.example",
    ];
    let certificates = certificates.map(|name| (name, TestCertificate::new("any.test")));
    let mut paths = Vec::new();
    for (index, (_, certificate)) in certificates.iter().enumerate() {
        paths.push(dir.certificate(&index.to_string(), certificate));
    }
    let mut settings = settings(paths[0].clone());
    for ((name, _), paths) in certificates.iter().zip(&paths).skip(1) {
        settings.by_name.push(((*name).to_owned(), paths.clone()));
    }
    // One more name of the second one's, with a final dot and in capitals.
    settings
        .by_name
        .push(("Example.NET.".to_owned(), paths[1].clone()));
    let tls = ServerTls::load(&settings).unwrap();

    for (server_name, expected) in [
        ("127.0.0.1", "default"),
        ("unknown.test", "default"),
        ("org", "default"),
        ("notexample.org", "default"),
        ("example.org", "example.org"),
        ("EXAMPLE.org", "example.org"),
        ("example.net", "example.org"),
        ("a.example.net", "default"),
        ("a.example.org", "*.example.org"),
        ("chat.example.org", "chat.example.org"),
        ("a.chat.example.org", "default"),
        ("a.b.example.org", "default"),
        ("xn--bcher-kva.example", "bücher.example"),
    ] {
        let served = served(&tls, server_name);
        let (name, _) = certificates
            .iter()
            .find(|(_, certificate)| certificate.der == served)
            .unwrap();
        assert_eq!(*name, expected, "{server_name}");
    }

    let names: Vec<_> = tls
        .expiry_by_name()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(
        names,
        [
            "default",
            "chat.example.org",
            "example.net",
            "example.org",
            "xn--bcher-kva.example",
            "*.example.org"
        ]
    );
}

#[test]
fn a_reload_concerns_new_connections_only() {
    let dir = TempDir::new();
    let old = TestCertificate::new("example.org");
    let tls = ServerTls::load(&settings(dir.certificate("default", &old))).unwrap();
    let mut before = Pair::connected(&tls);
    // Another one amid its handshake.
    let config = client_config(TlsVersion::Tls13, &[]);
    let mut amid = Pair::new(&tls, AcceptKind::Direct, config, "example.org");
    let mut hello = amid.client_bytes();
    let mut flight = Vec::new();
    amid.server
        .feed(&mut hello, &mut Vec::new(), &mut flight)
        .unwrap();

    let new = TestCertificate::new("example.org");
    dir.certificate("default", &new);
    assert_eq!(
        tls.reload().unwrap(),
        Reloaded {
            certificates: 1,
            replaced: 1
        }
    );
    assert_eq!(
        tls.reload().unwrap(),
        Reloaded {
            certificates: 1,
            replaced: 0
        }
    );

    assert_eq!(amid.client_takes(&flight), None);
    amid.exchange().unwrap();
    for pair in [&mut before, &mut amid] {
        let handshake = pair.server.take_handshake().unwrap();
        assert_eq!(handshake.end_point, Some(Sha256::digest(&old.der).to_vec()));
        pair.client_sends(b"<presence/>").unwrap();
        assert_eq!(pair.received, b"<presence/>");
        assert_eq!(pair.server_sends(b"<message/>"), b"<message/>");
    }
    assert_eq!(served(&tls, "example.org"), new.der);
}

#[test]
fn a_bad_file_leaves_the_old_certificate_and_hinders_no_other() {
    let dir = TempDir::new();
    let old: Vec<_> = (0..3)
        .map(|_| TestCertificate::new("example.org"))
        .collect();
    let mut settings = settings(dir.certificate("default", &old[0]));
    for (index, name) in [(1, "a.example.org"), (2, "b.example.org")] {
        settings
            .by_name
            .push((name.to_owned(), dir.certificate(name, &old[index])));
    }
    let tls = ServerTls::load(&settings).unwrap();

    dir.write("default.crt", "nothing");
    let expired = TestCertificate::with("example.org", &PKCS_ECDSA_P256_SHA256, |params| {
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    dir.certificate("a.example.org", &expired);
    let new = TestCertificate::new("example.org");
    dir.certificate("b.example.org", &new);

    let TlsFilesError { problems } = tls.reload().unwrap_err();
    let paths: Vec<_> = problems
        .iter()
        .map(|problem| problem.path.clone())
        .collect();
    assert_eq!(
        paths,
        [dir.path("default.crt"), dir.path("a.example.org.crt")]
    );
    assert!(matches!(problems[0].reason, TlsFileReason::NoCertificate));
    assert!(matches!(problems[1].reason, TlsFileReason::Expired(_)));
    assert_eq!(served(&tls, "other.test"), old[0].der);
    assert_eq!(served(&tls, "a.example.org"), old[1].der);
    assert_eq!(served(&tls, "b.example.org"), new.der);

    // At start there is nothing to fall back on.
    assert_eq!(ServerTls::load(&settings).unwrap_err().problems.len(), 2);
}

#[test]
fn expiry_is_known_for_each_certificate() {
    let dir = TempDir::new();
    let until = |year| {
        TestCertificate::with("example.org", &PKCS_ECDSA_P256_SHA256, |params| {
            params.not_after = date_time_ymd(year, 1, 1);
        })
    };
    let mut settings = settings(dir.certificate("default", &until(2090)));
    settings
        .by_name
        .push(("example.org".to_owned(), dir.certificate("a", &until(2080))));
    settings.by_name.push((
        "*.example.org".to_owned(),
        dir.certificate("b", &until(2085)),
    ));
    let tls = ServerTls::load(&settings).unwrap();
    let days = |days: u64| UNIX_EPOCH + Duration::from_secs(days * 86_400);
    assert_eq!(
        tls.expiry_by_name(),
        [
            (DEFAULT_NAME.to_owned(), days(43_830)),
            ("example.org".to_owned(), days(40_177)),
            ("*.example.org".to_owned(), days(42_004)),
        ]
    );
    assert_eq!(tls.earliest_expiry(), days(40_177));
}

/// What loading these two files says, with the directory's name left out.
fn check_refused(cert: Option<&str>, key: Option<&str>, expected: &str) {
    let dir = TempDir::new();
    let [cert, key] = [("file.crt", cert), ("file.key", key)].map(|(name, text)| match text {
        Some(text) => dir.write(name, text),
        None => dir.path(name),
    });
    let error = ServerTls::load(&settings(CertificatePaths { cert, key })).unwrap_err();
    let text = error
        .to_string()
        .replace(dir.path("").to_str().unwrap(), "");
    assert!(text.starts_with(expected), "{text}\n{expected}");
}

#[test]
fn errors_name_the_file_the_reason_and_the_way_out() {
    let good = TestCertificate::new("example.org");
    let (cert, key) = (Some(good.pem.as_str()), Some(good.key_pem.as_str()));
    let unreadable = "cannot be read (No such file or directory (os error 2)); check the path";
    check_refused(None, key, &format!("file.crt: {unreadable}"));
    check_refused(cert, None, &format!("file.key: {unreadable}"));
    check_refused(
        Some(&"x".repeat(300_000)),
        key,
        "file.crt: has more than 262144 bytes",
    );

    check_refused(
        Some(""),
        key,
        "file.crt: holds no certificate; it needs a PEM section",
    );
    check_refused(
        key,
        key,
        "file.crt: holds no certificate; it needs a PEM section",
    );
    check_refused(Some(&good.pem[..200]), key, "file.crt: is not sound PEM");
    let noise = pem("CERTIFICATE");
    check_refused(
        Some(&noise),
        key,
        "file.crt: certificate 1 of the file cannot be parsed",
    );
    let second = format!("{}{noise}", good.pem);
    check_refused(
        Some(&second),
        key,
        "file.crt: certificate 2 of the file cannot be parsed",
    );
    let many = good.pem.repeat(11);
    check_refused(
        Some(&many),
        key,
        "file.crt: holds more than 10 certificates",
    );

    check_refused(
        cert,
        Some(""),
        "file.key: holds no private key; it needs a PEM section",
    );
    check_refused(
        cert,
        cert,
        "file.key: holds no private key; it needs a PEM section",
    );
    check_refused(
        cert,
        Some(&good.key_pem[..60]),
        "file.key: is not sound PEM",
    );
    let noise = pem("PRIVATE KEY");
    check_refused(
        cert,
        Some(&noise),
        "file.key: the private key cannot be used (",
    );
    let encrypted = pem("ENCRYPTED PRIVATE KEY");
    check_refused(
        cert,
        Some(&encrypted),
        "file.key: the private key is encrypted; decrypt it",
    );
    let other = TestCertificate::new("example.org").key_pem;
    let mismatch = "file.key: the private key does not belong to the certificate in file.crt;";
    check_refused(cert, Some(&other), mismatch);
}

/// A section of noise.
fn pem(kind: &str) -> String {
    format!("-----BEGIN {kind}-----\nTm90aGluZyB0byByZWFk\n-----END {kind}-----\n")
}

#[test]
fn a_certificate_must_be_valid_now() {
    for (not_before, not_after, expected) in [
        (2000, 2020, "file.crt: the certificate expired "),
        (2090, 2091, "file.crt: the certificate becomes valid in "),
    ] {
        let certificate = TestCertificate::with("example.org", &PKCS_ECDSA_P256_SHA256, |params| {
            params.not_before = date_time_ymd(not_before, 1, 1);
            params.not_after = date_time_ymd(not_after, 1, 1);
        });
        check_refused(Some(&certificate.pem), Some(&certificate.key_pem), expected);
    }
}

#[test]
fn a_file_may_hold_both_and_chains_and_all_kinds_of_keys() {
    let dir = TempDir::new();
    for algorithm in [
        &PKCS_ECDSA_P256_SHA256,
        &PKCS_ECDSA_P521_SHA512,
        &PKCS_ED25519,
    ] {
        let certificate = TestCertificate::with("example.org", algorithm, |_| {});
        let issuer = TestCertificate::new("issuer");
        let text = format!("{}{}{}", certificate.key_pem, certificate.pem, issuer.pem);
        let path = dir.write("both.pem", text);
        let tls = ServerTls::load(&settings(CertificatePaths {
            cert: path.clone(),
            key: path,
        }))
        .unwrap();
        let config = client_config(TlsVersion::Tls13, &[]);
        let mut pair = Pair::new(&tls, AcceptKind::Direct, config, "example.org");
        pair.exchange().unwrap();
        assert_eq!(
            pair.client.peer_certificates().unwrap(),
            [certificate.der, issuer.der]
        );
    }
}

#[test]
fn a_domain_that_is_none_is_refused() {
    let dir = TempDir::new();
    let paths = dir.certificate("default", &TestCertificate::new("example.org"));
    for domain in [
        "",
        "*.",
        "127.0.0.1",
        "::1",
        "exa mple.org",
        "a.*.example.org",
        "*",
        "..",
        &"a.".repeat(200),
    ] {
        let mut settings = settings(paths.clone());
        settings.by_name.push((domain.to_owned(), paths.clone()));
        let error = ServerTls::load(&settings).unwrap_err();
        assert!(
            matches!(
                &error.problems[..],
                [TlsFileProblem {
                    reason: TlsFileReason::DomainName(_),
                    ..
                }]
            ),
            "{domain}"
        );
        assert!(error.to_string().contains(&format!(
            "is given for \"{domain}\", which is no domain name"
        )));
    }
}

#[test]
fn a_certificate_for_other_names_is_told() {
    let certificate = TestCertificate::with("example.org", &PKCS_ECDSA_P256_SHA256, |params| {
        let wildcard = "*.example.net".try_into().unwrap();
        params
            .subject_alt_names
            .push(rcgen::SanType::DnsName(wildcard));
    });
    for (domain, covered) in [
        ("example.org", true),
        ("EXAMPLE.org", true),
        ("a.example.org", false),
        ("*.example.org", false),
        ("*.example.net", true),
        ("a.example.net", true),
        ("example.net", false),
    ] {
        let (below, name) = server_name(domain).unwrap();
        assert_eq!(
            files::covers(&certificate.der, below, &name),
            covered,
            "{domain}"
        );
    }
}

#[test]
fn a_review_tells_all_that_is_wrong_with_both_files() {
    let dir = TempDir::new();
    let now = SystemTime::now();
    let paths = dir.certificate("default", &TestCertificate::new("example.org"));
    let review = CertificateReview::of(&paths, now).unwrap();
    assert!(review.expiry > now);
    assert!(review.covers("example.org"));
    assert!(!review.covers("*.example.org"));
    assert!(!review.covers("not a domain"));

    let expired = TestCertificate::with("example.org", &PKCS_ECDSA_P256_SHA256, |params| {
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    dir.write("default.crt", &expired.pem);
    let problems = CertificateReview::of(&paths, now).unwrap_err();
    assert!(
        matches!(
            &problems[..],
            [
                TlsFileProblem {
                    reason: TlsFileReason::Expired(_),
                    ..
                },
                TlsFileProblem {
                    reason: TlsFileReason::KeyMismatch { .. },
                    ..
                }
            ]
        ),
        "{problems:?}"
    );
    dir.write("default.crt", "");
    dir.write("default.key", "");
    assert_eq!(CertificateReview::of(&paths, now).unwrap_err().len(), 2);
}
