//! RFC 7468: certificates and keys read from PEM files, and what can be wrong with them.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls::{Error, InconsistentKeys};

use super::der::{CertificateFields, read_certificate};
use super::{CertificatePaths, ServedCertificate};

/// Certificate files that cannot be used, one problem for each.
#[derive(Debug)]
pub struct TlsFilesError {
    /// At least one.
    pub problems: Vec<TlsFileProblem>,
}

impl fmt::Display for TlsFilesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for TlsFilesError {}

/// What is wrong with one file. Its text names the file and says how to mend it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", path.display())]
pub struct TlsFileProblem {
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub reason: TlsFileReason,
}

/// Why a certificate or key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsFileReason {
    /// The file is not there, or not for us.
    #[error("cannot be read ({0}); check the path and that the server's user may read the file")]
    Unreadable(io::Error),
    /// The file is larger than [`FILE_BYTES_MAX`], or for authorities than
    /// [`TRUST_BYTES_MAX`](super::TRUST_BYTES_MAX).
    #[error("has more than {0} bytes; it should hold what it is for only")]
    TooLarge(u64),
    /// A PEM section is broken.
    #[error("is not sound PEM ({0}); fetch or convert the file anew")]
    Pem(String),
    /// No certificate in it.
    #[error(
        "holds no certificate; it needs a PEM section \"BEGIN CERTIFICATE\", the server's certificate first"
    )]
    NoCertificate,
    /// More than [`CHAIN_CERTIFICATES_MAX`].
    #[error(
        "holds more than {CHAIN_CERTIFICATES_MAX} certificates; keep the server's and those between it and its root"
    )]
    ChainTooLong,
    /// A certificate that is none.
    #[error("certificate {number} of the file cannot be parsed; fetch the chain anew")]
    Certificate {
        /// Its place in the file, from 1.
        number: usize,
    },
    /// Its time has not come.
    #[error("the certificate becomes valid in {0} seconds only; check the clock")]
    NotYetValid(u64),
    /// Its time is over.
    #[error("the certificate expired {0} seconds ago; renew it")]
    Expired(u64),
    /// No certificate of an authority in it.
    #[error("holds no certificate; it needs those of the authorities that vouch for clients")]
    NoAuthority,
    /// More than [`AUTHORITIES_MAX`](super::AUTHORITIES_MAX).
    #[error(
        "holds more than {} certificates of authorities",
        super::AUTHORITIES_MAX
    )]
    TooManyAuthorities,
    /// No revocation list in it.
    #[error("holds no revocation list; it needs a PEM section \"BEGIN X509 CRL\"")]
    NoRevocationList,
    /// Authorities or revocation lists that cannot be used.
    #[error("cannot be used to check certificates of clients: {0}")]
    RevocationList(String),
    /// No key in it.
    #[error("holds no private key; it needs a PEM section \"BEGIN PRIVATE KEY\"")]
    NoKey,
    /// A key that needs a passphrase.
    #[error("the private key is encrypted; decrypt it with \"openssl pkey -in FILE -out NEW\"")]
    EncryptedKey,
    /// A key of a kind that we cannot use.
    #[error(
        "the private key cannot be used ({0}); use an ECDSA P-256 or P-384, RSA or Ed25519 key"
    )]
    Key(String),
    /// The key belongs to another certificate.
    #[error("the private key does not belong to the certificate in {}; take both from the same order", certificate.display())]
    KeyMismatch {
        /// The file with the certificate.
        certificate: PathBuf,
    },
    /// A domain for the certificate that no client can ask for.
    #[error(
        "is given for \"{0}\", which is no domain name; write it as in \"example.org\" or \"*.example.org\""
    )]
    DomainName(String),
}

impl TlsFileReason {
    pub(super) fn of(self, path: &Path) -> TlsFileProblem {
        TlsFileProblem {
            path: path.to_owned(),
            reason: self,
        }
    }
}

/// Reads and checks a certificate chain and its key.
pub(super) fn load(
    paths: &CertificatePaths,
    now: SystemTime,
) -> Result<ServedCertificate, TlsFileProblem> {
    let (chain, fields) = load_chain(&paths.cert)?;
    check_validity(&fields, now).map_err(|reason| reason.of(&paths.cert))?;
    let key = signing_key(&paths.key)?;
    let end_point = fields.signature_hash.map(|hash| hash.end_point(&chain[0]));
    let key = CertifiedKey::new(chain, key);
    check_match(&key, paths)?;
    Ok(ServedCertificate::new(
        key,
        end_point,
        time(fields.not_after),
    ))
}

/// What is to be known of a certificate before it is served.
#[derive(Debug)]
pub struct CertificateReview {
    /// When it expires.
    pub expiry: SystemTime,
    leaf: CertificateDer<'static>,
}

impl CertificateReview {
    /// Reads and checks a certificate chain and its key as a start does. This blocks.
    ///
    /// # Errors
    /// All that is wrong with both files.
    pub fn of(paths: &CertificatePaths, now: SystemTime) -> Result<Self, Vec<TlsFileProblem>> {
        let mut problems = Vec::new();
        let chain = load_chain(&paths.cert)
            .map_err(|problem| problems.push(problem))
            .ok();
        if let Some((_, fields)) = &chain
            && let Err(reason) = check_validity(fields, now)
        {
            problems.push(reason.of(&paths.cert));
        }
        let key = signing_key(&paths.key)
            .map_err(|problem| problems.push(problem))
            .ok();
        let (Some((chain, fields)), Some(key)) = (chain, key) else {
            return Err(problems);
        };
        let leaf = chain[0].clone();
        problems.extend(check_match(&CertifiedKey::new(chain, key), paths).err());
        if problems.is_empty() {
            let expiry = time(fields.not_after);
            Ok(Self { expiry, leaf })
        } else {
            Err(problems)
        }
    }

    /// Whether it is for a domain; `*.example.org` stands for the names with one label more.
    pub fn covers(&self, domain: &str) -> bool {
        super::server_name(domain).is_some_and(|(below, name)| covers(&self.leaf, below, &name))
    }
}

/// Whether a certificate is for a name, or for the names below it.
pub(super) fn covers(certificate: &CertificateDer<'_>, below: bool, name: &str) -> bool {
    // Only a wildcard covers a name that nobody has thought of.
    let name = if below {
        format!("any.{name}")
    } else {
        name.to_owned()
    };
    let (Ok(certificate), Ok(name)) = (
        ParsedCertificate::try_from(certificate),
        ServerName::try_from(name),
    ) else {
        return false;
    };
    verify_server_name(&certificate, &name).is_ok()
}

fn load_chain(
    path: &Path,
) -> Result<(Vec<CertificateDer<'static>>, CertificateFields), TlsFileProblem> {
    let text = read(path)?;
    let mut chain = Vec::new();
    let mut leaf = None;
    for (index, certificate) in CertificateDer::pem_slice_iter(&text).enumerate() {
        let certificate =
            certificate.map_err(|error| TlsFileReason::Pem(error.to_string()).of(path))?;
        if index == CHAIN_CERTIFICATES_MAX {
            return Err(TlsFileReason::ChainTooLong.of(path));
        }
        let fields = read_certificate(&certificate);
        let (Some(fields), Ok(_)) = (fields, ParsedCertificate::try_from(&certificate)) else {
            return Err(TlsFileReason::Certificate { number: index + 1 }.of(path));
        };
        leaf.get_or_insert(fields);
        chain.push(certificate);
    }
    let leaf = leaf.ok_or_else(|| TlsFileReason::NoCertificate.of(path))?;
    Ok((chain, leaf))
}

/// Checks the server's certificate alone: a root or an old cross-signature that has expired harms nobody.
fn check_validity(fields: &CertificateFields, now: SystemTime) -> Result<(), TlsFileReason> {
    if let Ok(wait) = time(fields.not_before).duration_since(now)
        && !wait.is_zero()
    {
        return Err(TlsFileReason::NotYetValid(wait.as_secs().max(1)));
    }
    match now.duration_since(time(fields.not_after)) {
        Ok(since) if !since.is_zero() => Err(TlsFileReason::Expired(since.as_secs().max(1))),
        _ => Ok(()),
    }
}

fn signing_key(path: &Path) -> Result<Arc<dyn SigningKey>, TlsFileProblem> {
    aws_lc_rs::default_provider()
        .key_provider
        .load_private_key(load_key(path)?)
        .map_err(|error| TlsFileReason::Key(error.to_string()).of(path))
}

/// Whether the key belongs to the certificate, as far as that can be told.
fn check_match(key: &CertifiedKey, paths: &CertificatePaths) -> Result<(), TlsFileProblem> {
    match key.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(()),
        Err(_) => {
            let certificate = paths.cert.clone();
            Err(TlsFileReason::KeyMismatch { certificate }.of(&paths.key))
        }
    }
}

fn load_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsFileProblem> {
    let text = read(path)?;
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let encrypted = text
            .windows(ENCRYPTED_KEY.len())
            .any(|window| window == ENCRYPTED_KEY);
        match error {
            pem::Error::NoItemsFound if encrypted => TlsFileReason::EncryptedKey,
            pem::Error::NoItemsFound => TlsFileReason::NoKey,
            error => TlsFileReason::Pem(error.to_string()),
        }
        .of(path)
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsFileProblem> {
    read_bytes(path, FILE_BYTES_MAX)
}

/// A file of so many bytes at most.
pub(super) fn read_bytes(path: &Path, bytes_max: u64) -> Result<Vec<u8>, TlsFileProblem> {
    let read = || {
        let mut text = Vec::new();
        // Never more than the limit, whatever the path names: it might be a device.
        File::open(path)?
            .take(bytes_max + 1)
            .read_to_end(&mut text)?;
        Ok(text)
    };
    let text = read().map_err(|error| TlsFileReason::Unreadable(error).of(path))?;
    if text.len() as u64 > bytes_max {
        return Err(TlsFileReason::TooLarge(bytes_max).of(path));
    }
    Ok(text)
}

fn time(unix_seconds: i64) -> SystemTime {
    let distance = Duration::from_secs(unix_seconds.unsigned_abs());
    if unix_seconds < 0 {
        UNIX_EPOCH - distance
    } else {
        UNIX_EPOCH + distance
    }
}

/// The largest certificate or key file, bytes. A chain of RSA certificates has some 8 kB.
pub const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Certificates in a chain. They are sent whole in each handshake.
pub const CHAIN_CERTIFICATES_MAX: usize = 10;

const ENCRYPTED_KEY: &[u8] = b"ENCRYPTED";
