//! What the tests of this crate share: certificates in files, and a TLS client of rustls beside one of our servers.

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, SignatureAlgorithm};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs::cipher_suite;
use rustls::crypto::cipher::{MessageEncrypter, OutboundChunks, OutboundPlainMessage};
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature,
    verify_tls13_signature,
};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, ConnectionTrafficSecrets, ContentType, DigitallySignedStruct,
    Error, ProtocolVersion, SignatureScheme, SupportedCipherSuite, version,
};

use crate::{
    AcceptKind, CertificatePaths, Feed, ServerTls, TlsError, TlsRecords, TlsSettings, TlsVersion,
    TlsVersions,
};

/// A directory that is gone with its test.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let name = format!(
            "transport-test-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path
    }

    /// Writes a self-signed certificate and its key.
    pub(crate) fn certificate(
        &self,
        name: &str,
        certificate: &TestCertificate,
    ) -> CertificatePaths {
        CertificatePaths {
            cert: self.write(&format!("{name}.crt"), &certificate.pem),
            key: self.write(&format!("{name}.key"), &certificate.key_pem),
        }
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A self-signed certificate.
pub(crate) struct TestCertificate {
    pub(crate) der: CertificateDer<'static>,
    pub(crate) pem: String,
    pub(crate) key_pem: String,
}

impl TestCertificate {
    pub(crate) fn new(domain: &str) -> Self {
        Self::with(domain, &PKCS_ECDSA_P256_SHA256, |_| {})
    }

    pub(crate) fn with(
        domain: &str,
        algorithm: &'static SignatureAlgorithm,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let mut params = CertificateParams::new([domain.to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.self_signed(&key).unwrap();
        Self {
            der: certificate.der().clone(),
            pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        }
    }
}

pub(crate) fn settings(default: CertificatePaths) -> TlsSettings {
    TlsSettings {
        default,
        by_name: Vec::new(),
        versions: TlsVersions::default(),
        alpn: vec![b"xmpp-client".to_vec()],
        client_certificates: None,
    }
}

/// A server with one certificate for `example.org`.
pub(crate) fn server() -> ServerTls {
    let dir = TempDir::new();
    ServerTls::load(&settings(
        dir.certificate("default", &TestCertificate::new("example.org")),
    ))
    .unwrap()
}

/// A client's configuration that takes any certificate.
pub(crate) fn client_config(
    tls_version: TlsVersion,
    suites: &[SupportedCipherSuite],
) -> ClientConfig {
    let mut provider = aws_lc_rs::default_provider();
    if !suites.is_empty() {
        provider.cipher_suites = suites.to_vec();
    }
    let versions = match tls_version {
        TlsVersion::Tls12 => [&version::TLS12],
        TlsVersion::Tls13 => [&version::TLS13],
    };
    client_config_with(provider, &versions)
}

pub(crate) fn client_config_with(
    provider: CryptoProvider,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> ClientConfig {
    let verifier = AnyCertificate(provider.signature_verification_algorithms);
    ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth()
}

/// Checks signatures, but not whose certificate it is.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

/// A client and a server with nothing but memory between them.
pub(crate) struct Pair {
    pub(crate) client: ClientConnection,
    pub(crate) server: Box<dyn TlsRecords>,
    /// What the server has decrypted.
    pub(crate) received: Vec<u8>,
    /// How many bytes travel at a time.
    pub(crate) chunk_bytes: usize,
}

impl Pair {
    pub(crate) fn new(
        tls: &ServerTls,
        kind: AcceptKind,
        config: ClientConfig,
        server_name: &str,
    ) -> Self {
        let server_name = ServerName::try_from(server_name.to_owned()).unwrap();
        Self {
            client: ClientConnection::new(Arc::new(config), server_name).unwrap(),
            server: tls.accept(kind),
            received: Vec::new(),
            chunk_bytes: usize::MAX,
        }
    }

    /// A TLS 1.3 connection with its handshake done.
    pub(crate) fn connected(tls: &ServerTls) -> Self {
        Self::connected_with(tls, TlsVersion::Tls13)
    }

    pub(crate) fn connected_with(tls: &ServerTls, version: TlsVersion) -> Self {
        let config = client_config(version, &[]);
        let mut pair = Self::new(tls, AcceptKind::Direct, config, "example.org");
        pair.exchange().unwrap();
        assert!(!pair.server.is_handshaking());
        pair
    }

    /// Passes bytes both ways until both sides are silent.
    pub(crate) fn exchange(&mut self) -> Result<Feed, TlsError> {
        let mut feed = Feed { peer_closed: false };
        loop {
            let mut answers = Vec::new();
            let mut sent = false;
            for chunk in self.client_bytes().chunks_mut(self.chunk_bytes) {
                sent = true;
                let outcome = self.server.feed(chunk, &mut self.received, &mut answers);
                if outcome.is_err() {
                    // The alert reaches the client.
                    self.client_takes(&answers);
                }
                feed = outcome?;
            }
            self.client_takes(&answers);
            if !sent && answers.is_empty() {
                return Ok(feed);
            }
        }
    }

    /// What the client wants to send.
    pub(crate) fn client_bytes(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    /// Hands bytes to the client, whose verdict shows in what it reads and sends afterwards.
    pub(crate) fn client_takes(&mut self, bytes: &[u8]) -> Option<Error> {
        for mut chunk in bytes.chunks(self.chunk_bytes) {
            while !chunk.is_empty() {
                self.client.read_tls(&mut chunk).unwrap();
                if let Err(error) = self.client.process_new_packets() {
                    return Some(error);
                }
            }
        }
        None
    }

    /// The records that the client makes of `plain`.
    pub(crate) fn client_encrypts(&mut self, plain: &[u8]) -> Vec<u8> {
        self.client.writer().write_all(plain).unwrap();
        self.client_bytes()
    }

    pub(crate) fn client_saw_close_notify(&mut self) -> bool {
        matches!(self.client.reader().read(&mut [0]), Ok(0))
    }

    /// Encrypts at the client and decrypts at the server.
    pub(crate) fn client_sends(&mut self, plain: &[u8]) -> Result<Feed, TlsError> {
        self.client.writer().write_all(plain).unwrap();
        self.exchange()
    }

    /// Encrypts at the server and decrypts at the client; returns what the client could read.
    pub(crate) fn server_sends(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut records = Vec::new();
        self.server.seal(plain, &mut records).unwrap();
        self.client_reads(&records)
    }

    /// What the client reads out of these bytes.
    pub(crate) fn client_reads(&mut self, mut records: &[u8]) -> Vec<u8> {
        let mut read = Vec::new();
        while !records.is_empty() {
            let mut chunk = &records[..records.len().min(self.chunk_bytes)];
            let before = chunk.len();
            self.client.read_tls(&mut chunk).unwrap();
            records = &records[before - chunk.len()..];
            self.client.process_new_packets().unwrap();
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = self.client.reader().read(&mut buffer) {
                read.extend_from_slice(&buffer[..count]);
            }
        }
        read
    }
}

/// A TLS 1.3 client that makes records by hand, of any type and content.
pub(crate) struct RawClient {
    encrypter: Box<dyn MessageEncrypter>,
    sequence: u64,
}

impl RawClient {
    pub(crate) const DATA: ContentType = ContentType::ApplicationData;
    pub(crate) const HANDSHAKE: ContentType = ContentType::Handshake;
    pub(crate) const ALERT: ContentType = ContentType::Alert;

    pub(crate) fn connected(tls: &ServerTls) -> (Self, Box<dyn TlsRecords>) {
        let suite = cipher_suite::TLS13_AES_128_GCM_SHA256;
        let mut config = client_config(TlsVersion::Tls13, &[suite]);
        config.enable_secret_extraction = true;
        let mut pair = Pair::new(tls, AcceptKind::Direct, config, "example.org");
        pair.exchange().unwrap();
        let (sequence, secrets) = pair.client.dangerous_extract_secrets().unwrap().tx;
        let ConnectionTrafficSecrets::Aes128Gcm { key, iv } = secrets else {
            unreachable!("the only suite")
        };
        let encrypter = suite.tls13().unwrap().aead_alg.encrypter(key, iv);
        (
            Self {
                encrypter,
                sequence,
            },
            pair.server,
        )
    }

    pub(crate) fn record(&mut self, typ: ContentType, payload: &[u8]) -> Vec<u8> {
        let message = OutboundPlainMessage {
            typ,
            version: ProtocolVersion::TLSv1_2,
            payload: OutboundChunks::Single(payload),
        };
        let record = self.encrypter.encrypt(message, self.sequence).unwrap();
        self.sequence += 1;
        record.encode()
    }
}
