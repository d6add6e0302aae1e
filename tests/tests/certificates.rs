//! XEP-0178: clients that log in by a certificate, over both ways to TLS.
use std::fs;

use anyhow::{Context, Result, ensure};
use protocol::sasl::encode_base64;
use protocol::{Element, ns};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use tests::client::Security;
use tests::target::{DOMAIN, Directory, Setup, Target};
use tests::wire::{ClientCertificate, Event, Wire};

use crate::peer;

/// `id-on-xmppAddr`.
const XMPP_ADDRESS: [u64; 9] = [1, 3, 6, 1, 5, 5, 7, 8, 5];

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::CommonName, "ca");
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn vouch(
    authority: &Authority,
    addresses: &[&str],
    change: impl FnOnce(&mut CertificateParams),
) -> ClientCertificate {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let names = addresses
        .iter()
        .map(|&address| SanType::OtherName((XMPP_ADDRESS.to_vec(), address.into())));
    params.subject_alt_names = names.collect();
    change(&mut params);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    ClientCertificate {
        certificate: certificate.der().to_vec(),
        key: key.serialize_der(),
    }
}

/// A node that believes the authority.
async fn node(authority: &Authority, directory: &Directory, auth: &str, tls: &str) -> Target {
    let path = directory.path.join("ca.pem");
    fs::write(&path, authority.pem()).unwrap();
    let setup = Setup {
        config: format!(
            "[auth]\nmethods = [\"internal\", \"pki\"]\n\
             sasl_mechanisms = [\"external\", \"scram_sha256\", \"plain\"]\n{auth}\n"
        ),
        listener: format!("tls.cacertfile = \"{}\"\n{tls}", path.display()),
        ..Setup::default()
    };
    Target::start(peer(), setup).await.unwrap()
}

/// A stream over TLS, and the mechanisms that it offers.
struct Stream {
    wire: Wire,
    mechanisms: Vec<String>,
}

impl Stream {
    async fn open(target: &Target, certificate: Option<&ClientCertificate>) -> Result<Self> {
        let mut wire = Wire::connect(target.address(Security::DirectTls)).await?;
        let alpn = Some("xmpp-client");
        wire.start_tls_as(DOMAIN, alpn, certificate).await?;
        let features = open_stream(&mut wire).await?;
        let mechanisms = features.child("mechanisms", ns::SASL);
        let names = mechanisms.into_iter().flat_map(Element::elements);
        let mechanisms = names.map(|name| name.text().into_owned()).collect();
        Ok(Self { wire, mechanisms })
    }

    fn offers(&self) -> bool {
        self.mechanisms.iter().any(|name| name == "EXTERNAL")
    }

    /// What the server says to an `<auth/>` with this text.
    async fn auth(&mut self, text: &str) -> Result<Element> {
        let sasl = ns::SASL;
        let auth = format!("<auth xmlns='{sasl}' mechanism='EXTERNAL'>{text}</auth>");
        self.wire.send(auth.as_bytes()).await?;
        element(&mut self.wire).await
    }

    /// The account that is logged in, or the condition of the failure.
    async fn outcome(&mut self, answer: Element) -> Result<String> {
        if answer.name() == "failure" {
            let condition = answer.elements().next().context("a failure says why")?;
            return Ok(condition.name().to_owned());
        }
        ensure!(answer.name() == "success", "{}", answer.to_xml());
        open_stream(&mut self.wire).await?;
        let bind = "<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>";
        self.wire.send(bind.as_bytes()).await?;
        let bound = element(&mut self.wire).await?;
        let bind = bound.child("bind", ns::BIND).context("it is bound")?;
        let jid = bind.child("jid", ns::BIND).context("to an address")?.text();
        Ok(jid.split('/').next().unwrap_or_default().to_owned())
    }
}

async fn open_stream(wire: &mut Wire) -> Result<Element> {
    let header = format!(
        "<stream:stream to='{DOMAIN}' version='1.0' xmlns='jabber:client' \
         xmlns:stream='http://etherx.jabber.org/streams'>"
    );
    wire.send(header.as_bytes()).await?;
    ensure!(
        matches!(wire.next().await?, Event::Header(_)),
        "a header comes first"
    );
    element(wire).await
}

async fn element(wire: &mut Wire) -> Result<Element> {
    match wire.next().await? {
        Event::Element(element) => Ok(element),
        other => anyhow::bail!("expected an element, got {other:?}"),
    }
}

/// Security case A15.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a15_a_certificate_logs_in_whom_it_names() {
    let authority = authority();
    let directory = Directory::new().unwrap();
    let target = node(&authority, &directory, "", "").await;
    let one = ["romeo@localhost"];
    let two = ["romeo@localhost", "x@example.org", "juliet@localhost"];
    for (addresses, text, expected) in [
        (&one[..], "=".to_owned(), "romeo@localhost"),
        (&one, encode_base64(b"romeo@localhost"), "romeo@localhost"),
        (&one, encode_base64(b"ROMEO@localhost"), "romeo@localhost"),
        (&one, encode_base64(b"juliet@localhost"), "invalid-authzid"),
        (&one, encode_base64(b"romeo@localhost/x"), "invalid-authzid"),
        (&one, encode_base64(b"romeo"), "invalid-authzid"),
        (&one, encode_base64(b"\xff"), "malformed-request"),
        (&one, "?".to_owned(), "incorrect-encoding"),
        (&two, "=".to_owned(), "not-authorized"),
        (&two, encode_base64(b"juliet@localhost"), "juliet@localhost"),
        (&two, encode_base64(b"x@example.org"), "invalid-authzid"),
    ] {
        let certificate = vouch(&authority, addresses, |_| {});
        let mut stream = Stream::open(&target, Some(&certificate)).await.unwrap();
        assert!(stream.offers());
        let answer = stream.auth(&text).await.unwrap();
        let outcome = stream.outcome(answer).await.unwrap();
        assert_eq!(outcome, expected, "{addresses:?} {text}");
    }
    // Without an initial response it is asked for one (RFC 4422 appendix A).
    let certificate = vouch(&authority, &one, |_| {});
    let mut stream = Stream::open(&target, Some(&certificate)).await.unwrap();
    let challenge = stream.auth("").await.unwrap();
    assert_eq!(challenge.name(), "challenge");
    let response = format!("<response xmlns='{}'/>", ns::SASL);
    stream.wire.send(response.as_bytes()).await.unwrap();
    let answer = element(&mut stream.wire).await.unwrap();
    assert_eq!(stream.outcome(answer).await.unwrap(), "romeo@localhost");
    target.stop().await.unwrap();
}

/// Security case A15.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a15_without_a_good_certificate_nobody_logs_in_by_it() {
    let authority = authority();
    let directory = Directory::new().unwrap();
    let lenient = "tls.disconnect_on_failure = false";
    let target = node(&authority, &directory, "", lenient).await;
    let expired = |params: &mut CertificateParams| params.not_after = date_time_ymd(2020, 1, 1);
    let named = |params: &mut CertificateParams| {
        params.distinguished_name.push(DnType::CommonName, "romeo");
    };
    let romeo = ["romeo@localhost"];
    let certificates = [
        None,
        Some(vouch(&authority, &romeo, expired)),
        Some(vouch(&self::authority(), &romeo, |_| {})),
        Some(vouch(&authority, &["romeo@example.org"], |_| {})),
        Some(vouch(&authority, &[], named)),
    ];
    for certificate in &certificates {
        let mut stream = Stream::open(&target, certificate.as_ref()).await.unwrap();
        assert!(!stream.offers());
        assert!(stream.mechanisms.iter().any(|name| name == "PLAIN"));
        let answer = stream
            .auth(&encode_base64(b"romeo@localhost"))
            .await
            .unwrap();
        assert_eq!(stream.outcome(answer).await.unwrap(), "not-authorized");
    }
    target.stop().await.unwrap();
    // Or it is sent away at once.
    let target = node(&authority, &directory, "", "").await;
    let bad = Stream::open(&target, certificates[1].as_ref()).await;
    assert!(bad.is_err());
    assert!(Stream::open(&target, None).await.is_ok());
    target.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_common_name_logs_in_where_it_may() {
    let authority = authority();
    let directory = Directory::new().unwrap();
    let auth = "sasl_external = [\"standard\", \"common_name\"]\n\
                sasl_external_common_name.prefix = \"user-\"";
    let target = node(&authority, &directory, auth, "").await;
    for (name, is_offered) in [("user-romeo", true), ("romeo", false)] {
        let certificate = vouch(&authority, &[], |params| {
            params.distinguished_name.push(DnType::CommonName, name);
        });
        let mut stream = Stream::open(&target, Some(&certificate)).await.unwrap();
        assert_eq!(stream.offers(), is_offered, "{name}");
        if is_offered {
            let answer = stream.auth("=").await.unwrap();
            assert_eq!(stream.outcome(answer).await.unwrap(), "romeo@localhost");
        }
    }
    target.stop().await.unwrap();
}
