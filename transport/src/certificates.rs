//! RFC 6066 server names, RFC 7301 application protocols, RFC 5929 end points: which certificate a client is served.

mod clients;
mod der;
mod files;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedProtocolVersion, version};

pub use clients::{AUTHORITIES_MAX, ClientCertificates, ClientIdentity, TRUST_BYTES_MAX};
pub use files::{
    CHAIN_CERTIFICATES_MAX, CertificateReview, FILE_BYTES_MAX, TlsFileProblem, TlsFileReason,
    TlsFilesError,
};

use clients::ClientVerifier;

use crate::tls::{ExporterLog, TlsRecords, TlsVersion, UnbufferedRecords, observe_certificate};

/// What a listener's TLS is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsSettings {
    /// For clients that name no domain, or one that is not in `by_name`.
    pub default: CertificatePaths,
    /// Domains with a certificate of their own; `*.example.org` stands for one label more than `example.org`. Unicode
    /// and ASCII spellings of a domain are the same.
    pub by_name: Vec<(String, CertificatePaths)>,
    /// The versions to speak.
    pub versions: TlsVersions,
    /// Application protocols of direct TLS, for instance `xmpp-client` (XEP-0368). If there are none, what clients
    /// offer is ignored.
    pub alpn: Vec<Vec<u8>>,
    /// Whether and how clients are asked for a certificate. A connection whose client may have one is never resumed, so
    /// that its certificate is looked at each time.
    pub client_certificates: Option<ClientCertificates>,
}

/// The files of a certificate. Both may be the same.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CertificatePaths {
    /// The chain in PEM, the server's own certificate first.
    pub cert: PathBuf,
    /// The private key in PEM, unencrypted.
    pub key: PathBuf,
}

/// A range of versions, both ends included. If `min` is the newer one, it counts alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsVersions {
    /// The oldest.
    pub min: TlsVersion,
    /// The newest.
    pub max: TlsVersion,
}

impl Default for TlsVersions {
    fn default() -> Self {
        Self {
            min: TlsVersion::Tls12,
            max: TlsVersion::Tls13,
        }
    }
}

/// How a connection came to TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptKind {
    /// From its first byte (XEP-0368): a client that offers application protocols must offer one of ours.
    Direct,
    /// By `<starttls/>` (RFC 6120, section 5), where application protocols say nothing.
    StartTls,
}

/// The TLS of a listener; clones share it.
///
/// Certificates can be loaded anew at any time: each handshake uses those there are when it begins, and no connection
/// is touched.
#[derive(Clone)]
pub struct ServerTls {
    shared: Arc<Shared>,
}

struct Shared {
    settings: TlsSettings,
    current: ArcSwap<Snapshot>,
}

/// All that handshakes need, consistent with itself.
struct Snapshot {
    certificates: Arc<Certificates>,
    clients: Option<Arc<ClientVerifier>>,
    direct: Arc<ServerConfig>,
    start_tls: Arc<ServerConfig>,
}

/// What a reload found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reloaded {
    /// How many certificates there are.
    pub certificates: usize,
    /// How many of them are others than before.
    pub replaced: usize,
}

impl ServerTls {
    /// Reads and checks all files. This blocks.
    ///
    /// # Errors
    /// All files that cannot be used, with reasons.
    pub fn load(settings: &TlsSettings) -> Result<Self, TlsFilesError> {
        let (certificates, mut problems) = Certificates::load(settings, None, SystemTime::now());
        let clients = load_clients(settings, &mut problems);
        let Some(certificates) = certificates.filter(|_all| problems.is_empty()) else {
            return Err(TlsFilesError { problems });
        };
        let current = ArcSwap::from_pointee(Snapshot::new(settings, certificates, clients));
        Ok(Self {
            shared: Arc::new(Shared {
                settings: settings.clone(),
                current,
            }),
        })
    }

    /// Reads and checks all files anew. This blocks.
    ///
    /// Each certificate stands for itself: sound ones are taken over even if others are not. If any has changed,
    /// sessions from before can no longer be resumed, as a resumed session would be bound to the old certificate.
    ///
    /// # Errors
    /// The files that cannot be used, with reasons; in their place the certificates from before stay.
    pub fn reload(&self) -> Result<Reloaded, TlsFilesError> {
        let settings = &self.shared.settings;
        let old = self.shared.current.load();
        let (certificates, mut problems) =
            Certificates::load(settings, Some(&old.certificates), SystemTime::now());
        let clients = load_clients(settings, &mut problems).or_else(|| old.clients.clone());
        let certificates =
            certificates.expect("each certificate that cannot be read anew has one from before");
        let reloaded = Reloaded {
            certificates: certificates.len(),
            replaced: certificates.count_others_than(&old.certificates),
        };
        // Authorities and revocation lists are read again, whether or not they have changed.
        if reloaded.replaced > 0 || clients.is_some() {
            let snapshot = Snapshot::new(settings, certificates, clients);
            self.shared.current.store(Arc::new(snapshot));
        }
        if problems.is_empty() {
            Ok(reloaded)
        } else {
            Err(TlsFilesError { problems })
        }
    }

    /// Begins a connection.
    pub fn accept(&self, kind: AcceptKind) -> Box<dyn TlsRecords> {
        let snapshot = self.shared.current.load();
        let config = match kind {
            AcceptKind::Direct => &snapshot.direct,
            AcceptKind::StartTls => &snapshot.start_tls,
        };
        Box::new(UnbufferedRecords::new(Arc::clone(config)))
    }

    /// When the first of the certificates in use expires.
    pub fn earliest_expiry(&self) -> SystemTime {
        let certificates = &self.shared.current.load().certificates;
        certificates
            .iter()
            .map(|(_, certificate)| certificate.expiry)
            .fold(certificates.default.expiry, SystemTime::min)
    }

    /// When each certificate in use expires, by domain in its ASCII spelling; the default one is
    /// [`DEFAULT_NAME`].
    pub fn expiry_by_name(&self) -> Vec<(String, SystemTime)> {
        let certificates = &self.shared.current.load().certificates;
        certificates
            .iter()
            .map(|(name, certificate)| (name, certificate.expiry))
            .collect()
    }
}

impl fmt::Debug for ServerTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTls")
            .field("settings", &self.shared.settings)
            .finish_non_exhaustive()
    }
}

impl Snapshot {
    fn new(
        settings: &TlsSettings,
        certificates: Certificates,
        clients: Option<Arc<ClientVerifier>>,
    ) -> Self {
        let certificates = Arc::new(certificates);
        let versions = settings.versions;
        let start_tls = server_config(versions, Arc::clone(&certificates), clients.clone());
        let mut direct = start_tls.clone();
        direct.alpn_protocols.clone_from(&settings.alpn);
        Self {
            certificates,
            clients,
            direct: Arc::new(direct),
            start_tls: Arc::new(start_tls),
        }
    }
}

/// Reads what clients' certificates are checked by, if they are asked for any.
fn load_clients(
    settings: &TlsSettings,
    problems: &mut Vec<TlsFileProblem>,
) -> Option<Arc<ClientVerifier>> {
    let clients = settings.client_certificates.as_ref()?;
    match ClientVerifier::load(clients, &Arc::new(provider())) {
        Ok(verifier) => Some(verifier),
        Err(problem) => {
            problems.push(problem);
            None
        }
    }
}

fn server_config(
    versions: TlsVersions,
    certificates: Arc<Certificates>,
    clients: Option<Arc<ClientVerifier>>,
) -> ServerConfig {
    let asks = clients.is_some();
    let builder = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(protocol_versions(versions))
        .expect("our suites serve both versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    let mut config = builder.with_cert_resolver(certificates);
    config.require_ems = true;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    if asks {
        // A ticket would stand for a certificate that nobody looks at any more.
        config.send_tls13_tickets = 0;
    } else {
        config.ticketer = ticketer();
        config.send_tls13_tickets = 1;
    }
    config.max_early_data_size = 0;
    config.key_log = Arc::new(ExporterLog);
    config
}

/// Cipher suites and groups of RFC 9325. Clients choose among them: phones without AES instructions prefer ChaCha20.
fn provider() -> CryptoProvider {
    aws_lc_rs::default_provider()
}

/// Keys are random, change each 6 hours and live 12.
fn ticketer() -> Arc<dyn ProducesTickets> {
    aws_lc_rs::Ticketer::new().expect("the kernel gives random bytes")
}

fn protocol_versions(versions: TlsVersions) -> &'static [&'static SupportedProtocolVersion] {
    static BOTH: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
    match (versions.min, versions.max) {
        (TlsVersion::Tls12, TlsVersion::Tls13) => &BOTH,
        (TlsVersion::Tls12, TlsVersion::Tls12) => &BOTH[1..],
        (TlsVersion::Tls13, _) => &BOTH[..1],
    }
}

/// A certificate with what handshakes and metrics need to know of it.
#[derive(Debug)]
pub(crate) struct ServedCertificate {
    key: Arc<CertifiedKey>,
    end_point: Option<Vec<u8>>,
    expiry: SystemTime,
}

impl ServedCertificate {
    fn new(key: CertifiedKey, end_point: Option<Vec<u8>>, expiry: SystemTime) -> Self {
        Self {
            key: Arc::new(key),
            end_point,
            expiry,
        }
    }

    /// Channel binding `tls-server-end-point`, where it is defined.
    pub(crate) fn end_point(&self) -> Option<&[u8]> {
        self.end_point.as_deref()
    }
}

/// The certificates by the names that clients ask for.
#[derive(Debug)]
struct Certificates {
    default: Arc<ServedCertificate>,
    exact: BTreeMap<String, Arc<ServedCertificate>>,
    /// `*.example.org` under `example.org`.
    wildcard: BTreeMap<String, Arc<ServedCertificate>>,
}

impl Certificates {
    /// Loads all certificates that can be loaded; where one cannot, that of `old` stands in. `None` if none can.
    fn load(
        settings: &TlsSettings,
        old: Option<&Self>,
        now: SystemTime,
    ) -> (Option<Self>, Vec<TlsFileProblem>) {
        let mut loader = Loader {
            now,
            loaded: BTreeMap::new(),
            problems: Vec::new(),
        };
        let default = loader
            .load(&settings.default)
            .or_else(|| old.map(|old| Arc::clone(&old.default)));
        let (mut exact, mut wildcard) = (BTreeMap::new(), BTreeMap::new());
        for (domain, paths) in &settings.by_name {
            let Some((below, name)) = server_name(domain) else {
                loader
                    .problems
                    .push(TlsFileReason::DomainName(domain.clone()).of(&paths.cert));
                continue;
            };
            let (certificates, old) = if below {
                (&mut wildcard, old.map(|old| &old.wildcard))
            } else {
                (&mut exact, old.map(|old| &old.exact))
            };
            let certificate = loader.load(paths);
            if let Some(certificate) = &certificate
                && !files::covers(&certificate.key.cert[0], below, &name)
            {
                tracing::warn!(%domain, path = %paths.cert.display(), "certificate is not for its domain");
            }
            if let Some(certificate) = certificate.or_else(|| old?.get(&name).cloned()) {
                certificates.insert(name, certificate);
            }
        }
        (
            default.map(|default| Self {
                default,
                exact,
                wildcard,
            }),
            loader.problems,
        )
    }

    /// The certificate for a client that asks for `server_name`, in lower case as rustls gives it.
    fn choose(&self, server_name: Option<&str>) -> &Arc<ServedCertificate> {
        let by_name = |name: &str| {
            let below = || self.wildcard.get(name.split_once('.')?.1);
            self.exact.get(name).or_else(below)
        };
        server_name.and_then(by_name).unwrap_or(&self.default)
    }

    fn iter(&self) -> impl Iterator<Item = (String, &Arc<ServedCertificate>)> {
        let wildcard = self
            .wildcard
            .iter()
            .map(|(name, certificate)| (format!("*.{name}"), certificate));
        let exact = self
            .exact
            .iter()
            .map(|(name, certificate)| (name.clone(), certificate));
        std::iter::once((DEFAULT_NAME.to_owned(), &self.default))
            .chain(exact)
            .chain(wildcard)
    }

    fn len(&self) -> usize {
        1 + self.exact.len() + self.wildcard.len()
    }

    /// Both have the same names, as they come from the same settings.
    fn count_others_than(&self, old: &Self) -> usize {
        self.iter()
            .zip(old.iter())
            .filter(|((_, new), (_, old))| new.key.cert != old.key.cert)
            .count()
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let server_name = client_hello.server_name();
        let certificate = self.choose(server_name);
        observe_certificate(server_name, certificate);
        Some(Arc::clone(&certificate.key))
    }
}

/// Reads each pair of files once, however many domains it serves.
struct Loader {
    now: SystemTime,
    loaded: BTreeMap<CertificatePaths, Option<Arc<ServedCertificate>>>,
    problems: Vec<TlsFileProblem>,
}

impl Loader {
    fn load(&mut self, paths: &CertificatePaths) -> Option<Arc<ServedCertificate>> {
        if let Some(loaded) = self.loaded.get(paths) {
            return loaded.clone();
        }
        let loaded = match files::load(paths, self.now) {
            Ok(certificate) => Some(Arc::new(certificate)),
            Err(problem) => {
                self.problems.push(problem);
                None
            }
        };
        self.loaded.insert(paths.clone(), loaded.clone());
        loaded
    }
}

/// A configured domain as clients spell it: ASCII, lower case, no final dot. Also tells whether it stands for the
/// names below it. `None` if it is no domain name.
fn server_name(domain: &str) -> Option<(bool, String)> {
    let (below, domain) = domain
        .strip_prefix("*.")
        .map_or((false, domain), |parent| (true, parent));
    let name = idna::domain_to_ascii(domain).ok()?;
    let name = name.strip_suffix('.').unwrap_or(&name);
    match ServerName::try_from(name) {
        Ok(ServerName::DnsName(_)) => Some((below, name.to_owned())),
        _ => None,
    }
}

/// The name under which [`ServerTls::expiry_by_name`] tells of the default certificate.
pub const DEFAULT_NAME: &str = "default";
