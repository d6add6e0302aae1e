//! Good and bad certificates of clients, and whom they name.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

use super::*;
use crate::certificates::{ServerTls, TlsSettings};
use crate::testing::{Pair, TempDir, TestCertificate, client_config, settings};
use crate::{AcceptKind, Handshake, TlsVersion};

const XMPP_ADDRESS: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 8, 5];

/// Somebody who vouches for clients.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::self_signed(params, key).unwrap())
    }

    fn vouch(&self, change: impl FnOnce(&mut CertificateParams)) -> Client {
        let key = KeyPair::generate().unwrap();
        let params = params(change);
        let certificate = params.signed_by(&key, &self.0).unwrap();
        Client::new(certificate.der().clone(), &key)
    }

    /// A list with one serial number.
    fn revoke(&self, serial: u64, next_update: i32) -> String {
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2020, 1, 1),
            next_update: date_time_ymd(next_update, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(serial),
                revocation_time: date_time_ymd(2020, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap().pem().unwrap()
    }
}

fn params(change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    change(&mut params);
    params
}

fn address(params: &mut CertificateParams, text: &str) {
    let name = SanType::OtherName((XMPP_ADDRESS.to_vec(), text.into()));
    params.subject_alt_names.push(name);
}

fn romeo(params: &mut CertificateParams) {
    address(params, "romeo@localhost");
}

/// A client with a certificate.
struct Client {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Client {
    fn new(certificate: CertificateDer<'static>, key: &KeyPair) -> Self {
        Self {
            certificate,
            key: key.serialize_der(),
        }
    }

    fn self_signed(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = params(change).self_signed(&key).unwrap();
        Self::new(certificate.der().clone(), &key)
    }
}

/// A server with these rules.
struct Server {
    tls: ServerTls,
    _dir: TempDir,
}

impl Server {
    fn new(dir: TempDir, clients: ClientCertificates) -> Self {
        let certificate = dir.certificate("server", &TestCertificate::new("example.org"));
        let settings = TlsSettings {
            client_certificates: Some(clients),
            ..settings(certificate)
        };
        let tls = ServerTls::load(&settings).unwrap();
        Self { tls, _dir: dir }
    }

    /// One that believes this authority.
    fn believing(authority: &Authority) -> Self {
        let dir = TempDir::new();
        let authorities = Some(dir.write("ca.pem", authority.0.pem()));
        Self::new(dir, rules(authorities))
    }

    fn greet(&self, client: Option<&Client>, version: TlsVersion) -> Option<Handshake> {
        let mut config = client_config(version, &[]);
        if let Some(client) = client {
            let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(client.key.clone()));
            let provider = super::super::provider();
            let key = provider.key_provider.load_private_key(key).unwrap();
            let chain = vec![client.certificate.clone()];
            let key = rustls::sign::CertifiedKey::new(chain, key);
            let resolver = rustls::sign::SingleCertAndKey::from(key);
            config.client_auth_cert_resolver = Arc::new(resolver);
        }
        let mut pair = Pair::new(&self.tls, AcceptKind::StartTls, config, "example.org");
        pair.exchange().ok()?;
        pair.server.take_handshake()
    }

    /// Whom the client is, in both versions of TLS; `None` if it is sent away.
    fn identity(&self, client: &Client) -> Option<Option<ClientIdentity>> {
        let [one, other] = [TlsVersion::Tls12, TlsVersion::Tls13].map(|version| {
            let handshake = self.greet(Some(client), version)?;
            assert!(!handshake.resumed);
            Some(handshake.client.map(|identity| *identity))
        });
        assert_eq!(one, other);
        one
    }
}

fn rules(authorities: Option<PathBuf>) -> ClientCertificates {
    ClientCertificates {
        authorities,
        self_signed: false,
        revocation_lists: Vec::new(),
        refuse_bad: true,
    }
}

#[test]
fn a_good_certificate_names_its_client() {
    let authority = Authority::new("ca");
    let server = Server::believing(&authority);
    let client = authority.vouch(|params| {
        romeo(params);
        address(params, "juliet@localhost");
        let dns = SanType::DnsName("example.org".try_into().unwrap());
        params.subject_alt_names.push(dns);
        params.distinguished_name.push(DnType::CommonName, "Romeo");
        params.distinguished_name.push(DnType::CountryName, "IT");
    });
    let identity = server.identity(&client).unwrap().unwrap();
    assert_eq!(
        identity.xmpp_addresses,
        ["romeo@localhost", "juliet@localhost"]
    );
    assert_eq!(identity.common_names, ["Romeo"]);
    let nameless = authority.vouch(|_| {});
    let identity = server.identity(&nameless).unwrap().unwrap();
    assert_eq!(identity, ClientIdentity::default());
}

#[test]
fn a_client_need_not_have_one() {
    let server = Server::believing(&Authority::new("ca"));
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let handshake = server.greet(None, version).unwrap();
        assert_eq!(handshake.client, None);
    }
}

/// Security cases A15 and T12.
#[test]
fn a15_t12_bad_certificates_name_nobody() {
    let authority = Authority::new("ca");
    let believing = Server::believing(&authority);
    let dir = TempDir::new();
    let authorities = Some(dir.write("ca.pem", authority.0.pem()));
    let lenient = Server::new(
        dir,
        ClientCertificates {
            refuse_bad: false,
            ..rules(authorities)
        },
    );
    let bad = [
        (
            "expired",
            authority.vouch(|params| {
                romeo(params);
                params.not_after = date_time_ymd(2020, 1, 1);
            }),
        ),
        (
            "future",
            authority.vouch(|params| {
                romeo(params);
                params.not_before = date_time_ymd(4000, 1, 1);
            }),
        ),
        ("of another authority", Authority::new("other").vouch(romeo)),
        (
            "of another authority of the same name",
            Authority::new("ca").vouch(romeo),
        ),
        ("self-signed", Client::self_signed(romeo)),
        (
            "for servers",
            authority.vouch(|params| {
                romeo(params);
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            }),
        ),
        (
            "unknown critical extension",
            authority.vouch(|params| {
                romeo(params);
                let mut extension =
                    rcgen::CustomExtension::from_oid_content(&[1, 2, 3], vec![5, 0]);
                extension.set_criticality(true);
                params.custom_extensions.push(extension);
            }),
        ),
        (
            "too many names",
            authority.vouch(|params| {
                (0..100).for_each(|number| address(params, &format!("{number}@localhost")));
            }),
        ),
        (
            "huge",
            authority.vouch(|params| address(params, &"x".repeat(40_000))),
        ),
    ];
    for (what, client) in bad {
        assert_eq!(believing.identity(&client), None, "{what} is sent away");
        // Too large for any handshake, and one whose key cannot be taken out of it.
        let is_unreadable = ["huge", "unknown critical extension"].contains(&what);
        let expected = if is_unreadable { None } else { Some(None) };
        assert_eq!(lenient.identity(&client), expected, "{what} is nobody");
    }
    assert!(lenient.identity(&authority.vouch(romeo)).unwrap().is_some());
}

#[test]
fn self_signed_certificates_are_good_where_they_may_be() {
    let self_signed = ClientCertificates {
        self_signed: true,
        ..rules(None)
    };
    let server = Server::new(TempDir::new(), self_signed);
    let identity = server
        .identity(&Client::self_signed(romeo))
        .unwrap()
        .unwrap();
    assert_eq!(identity.xmpp_addresses, ["romeo@localhost"]);
    let expired = Client::self_signed(|params| {
        romeo(params);
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    assert_eq!(server.identity(&expired), None);
    let of_another = Authority::new("ca").vouch(|params| {
        romeo(params);
        params.distinguished_name.push(DnType::CommonName, "romeo");
    });
    assert_eq!(server.identity(&of_another), None);
}

#[test]
fn revoked_certificates_are_bad_and_lists_must_be_fresh() {
    let authority = Authority::new("ca");
    let with_lists = |lists: &[String]| {
        let dir = TempDir::new();
        let authorities = Some(dir.write("ca.pem", authority.0.pem()));
        let write = |(index, list): (usize, &String)| dir.write(&format!("{index}.crl"), list);
        let revocation_lists = lists.iter().enumerate().map(write).collect();
        Server::new(
            dir,
            ClientCertificates {
                revocation_lists,
                ..rules(authorities)
            },
        )
    };
    let client = |serial: u64| {
        authority.vouch(|params| {
            romeo(params);
            params.serial_number = Some(SerialNumber::from(serial));
        })
    };
    let server = with_lists(&[authority.revoke(7, 4000)]);
    assert!(server.identity(&client(8)).unwrap().is_some());
    assert_eq!(server.identity(&client(7)), None);
    let out_of_date = with_lists(&[authority.revoke(7, 2021)]);
    assert_eq!(out_of_date.identity(&client(8)), None);
    let of_another = with_lists(&[Authority::new("other").revoke(7, 4000)]);
    assert_eq!(of_another.identity(&client(8)), None);
}

#[test]
fn files_are_read_again_and_bad_ones_leave_the_old() {
    let authority = Authority::new("ca");
    let dir = TempDir::new();
    let path = dir.write("ca.pem", authority.0.pem());
    let list = dir.write("list.crl", authority.revoke(7, 4000));
    let server = Server::new(
        dir,
        ClientCertificates {
            revocation_lists: vec![list.clone()],
            ..rules(Some(path.clone()))
        },
    );
    let client = authority.vouch(|params| {
        romeo(params);
        params.serial_number = Some(SerialNumber::from(8_u64));
    });
    assert!(server.identity(&client).unwrap().is_some());
    std::fs::write(&path, "nothing").unwrap();
    let problems = server.tls.reload().unwrap_err().to_string();
    assert!(
        problems.contains("ca.pem: holds no certificate"),
        "{problems}"
    );
    assert!(server.identity(&client).unwrap().is_some());
    std::fs::write(&path, authority.0.pem()).unwrap();
    std::fs::write(&list, authority.revoke(8, 4000)).unwrap();
    server.tls.reload().unwrap();
    assert_eq!(server.identity(&client), None);
}

#[test]
fn files_that_say_nothing_are_refused_with_their_name() {
    let authority = Authority::new("ca");
    let problem = |ca: &str, list: Option<&str>| {
        let dir = TempDir::new();
        let authorities = Some(dir.write("ca.pem", ca));
        let lists = list.map(|list| dir.write("list.crl", list));
        let rules = ClientCertificates {
            revocation_lists: lists.into_iter().collect(),
            ..rules(authorities)
        };
        let certificate = dir.certificate("server", &TestCertificate::new("example.org"));
        let settings = TlsSettings {
            client_certificates: Some(rules),
            ..settings(certificate)
        };
        ServerTls::load(&settings).unwrap_err().to_string()
    };
    let good = authority.0.pem();
    for (ca, list, expected) in [
        ("", None, "ca.pem: holds no certificate"),
        (
            &*authority.revoke(1, 4000),
            None,
            "ca.pem: holds no certificate",
        ),
        (
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
            None,
            "ca.pem: certificate 1",
        ),
        (&good, Some(&*good), "list.crl: holds no revocation list"),
        (
            &good,
            Some("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"),
            "list.crl: cannot be used",
        ),
    ] {
        let problem = problem(ca, list);
        assert!(problem.contains(expected), "{problem}");
    }
}

/// Nobody else pays for what only some listeners do.
#[test]
fn a_listener_that_asks_gives_no_tickets() {
    let authority = Authority::new("ca");
    let server = Server::believing(&authority);
    let config = Arc::new(client_config(TlsVersion::Tls13, &[]));
    for _ in 0..2 {
        let mut pair = Pair::new(
            &server.tls,
            AcceptKind::StartTls,
            (*config).clone(),
            "example.org",
        );
        pair.exchange().unwrap();
        assert!(!pair.server.take_handshake().unwrap().resumed);
    }
}

#[test]
fn what_is_cut_or_changed_does_no_harm() {
    let client = Authority::new("ca").vouch(|params| {
        romeo(params);
        params.distinguished_name.push(DnType::CommonName, "Romeo");
    });
    let der = client.certificate.to_vec();
    assert_eq!(
        read_subject(&der).unwrap().xmpp_addresses,
        ["romeo@localhost"]
    );
    for cut in 0..der.len() {
        assert_eq!(read_subject(&der[..cut]), None, "{cut}");
    }
    for index in 0..der.len() {
        for change in [1, 0x7f, 0x80, 0xff] {
            let mut changed = der.clone();
            changed[index] ^= change;
            // Any answer is right that is not a panic.
            let _any = read_subject(&changed);
        }
    }
}
