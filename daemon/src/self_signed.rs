//! A certificate of our own making, for a daemon that was given none.
//!
//! ECDSA P-256, made once and kept in a directory: clients that trusted it by hand keep trusting it. It is
//! remade when it no longer covers the domains, comes close to its end, or does not fit its key.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use rcgen::{
    CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose, PublicKeyData,
};
use tracing::info;

/// How long a new certificate is valid: what browsers accept at most.
const VALID_FOR: Duration = Duration::from_hours(397 * 24);

/// A certificate that ends sooner than this is remade.
const REMADE_BEFORE_END: Duration = Duration::from_hours(30 * 24);

/// A new certificate is valid from this long ago, for peers whose clock is late.
const VALID_SINCE: Duration = Duration::from_hours(1);

/// A certificate covers at most this many domains; more make it too big for a handshake.
pub const DOMAINS_MAX: usize = 100;

const CERTIFICATE_FILE: &str = "self-signed-cert.pem";
const KEY_FILE: &str = "self-signed-key.pem";

/// Where the two halves are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificatePaths {
    /// The certificate, PEM. Above it the file says in words what it is.
    pub cert: PathBuf,
    /// The private key, PKCS#8 PEM, mode 0600.
    pub key: PathBuf,
}

/// Finds the certificate for `domains` in `directory`, or makes it there.
///
/// Domains may be given as Unicode or as A-labels; addresses are allowed. The directory is made, with mode
/// 0700, if it is not there.
///
/// # Errors
/// No domain or more than [`DOMAINS_MAX`], a domain that is none, or the files cannot be written.
pub fn self_signed<D: AsRef<str>>(
    directory: &Path,
    domains: &[D],
) -> Result<CertificatePaths, SelfSignedError> {
    let names = names(domains)?;
    let paths = CertificatePaths {
        cert: directory.join(CERTIFICATE_FILE),
        key: directory.join(KEY_FILE),
    };
    let now = SystemTime::now();
    if still_good(&paths, &names, now) {
        return Ok(paths);
    }
    make_directory(directory)?;
    let (certificate, key) = make(&names, now)?;
    // If we are stopped between the two, they do not fit each other, and the next start makes them anew.
    write_whole(&paths.key, &key, 0o600)?;
    write_whole(&paths.cert, &certificate, 0o644)?;
    info!(path = %paths.cert.display(), names = names.len(), "self-signed certificate made");
    Ok(paths)
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum SelfSignedError {
    /// No domain, or more than [`DOMAINS_MAX`].
    #[error("a self-signed certificate is for 1 to {DOMAINS_MAX} domains, not for {0}")]
    Count(usize),
    /// Not a domain name.
    #[error("`{0}` is not a domain name")]
    Domain(String),
    /// A file or the directory could not be written.
    #[error("cannot write {0}: {1}")]
    Write(PathBuf, io::Error),
    /// The key or the signature could not be made.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// The names that go into the certificate: sorted, each once, as A-labels.
fn names<D: AsRef<str>>(domains: &[D]) -> Result<Vec<String>, SelfSignedError> {
    let mut names = Vec::with_capacity(domains.len());
    for domain in domains {
        let domain = domain.as_ref();
        let address = domain.trim_start_matches('[').trim_end_matches(']');
        let name = match address.parse::<IpAddr>() {
            Ok(address) => address.to_string(),
            Err(_) => idna::domain_to_ascii_strict(domain)
                .ok()
                .filter(|name| !name.is_empty())
                .ok_or_else(|| SelfSignedError::Domain(domain.into()))?,
        };
        names.push(name);
    }
    names.sort_unstable();
    names.dedup();
    if names.is_empty() || names.len() > DOMAINS_MAX {
        return Err(SelfSignedError::Count(names.len()));
    }
    Ok(names)
}

/// Whether the files are there, fit each other, are for these names and last a while.
fn still_good(paths: &CertificatePaths, names: &[String], now: SystemTime) -> bool {
    let (Ok(certificate), Ok(key)) = (
        fs::read_to_string(&paths.cert),
        fs::read_to_string(&paths.key),
    ) else {
        return false;
    };
    let Ok(key_file) = fs::metadata(&paths.key) else {
        return false;
    };
    key_file.permissions().mode() & 0o077 == 0
        && said(&certificate, "Names:").is_some_and(|said| said.split(' ').eq(names))
        && said(&certificate, "Valid until:")
            .and_then(|said| said.split(' ').next()?.parse().ok())
            .and_then(|end| UNIX_EPOCH.checked_add(Duration::from_secs(end)))
            .is_some_and(|end| end > now + REMADE_BEFORE_END)
        && fits(&certificate, &key)
}

/// What the words above the certificate say after `label`.
fn said<'a>(certificate: &'a str, label: &str) -> Option<&'a str> {
    certificate
        .lines()
        .find_map(|line| line.strip_prefix(label))
        .map(str::trim)
}

/// Whether the certificate holds the public half of the key. Both are files that we wrote: this finds a
/// mix-up, not an attack.
fn fits(certificate: &str, key: &str) -> bool {
    let Ok(key) = KeyPair::from_pem(key) else {
        return false;
    };
    let Some((_, body)) = certificate.split_once(PEM_BEGIN) else {
        return false;
    };
    let Some((body, _)) = body.split_once(PEM_END) else {
        return false;
    };
    let base64: String = body.split_ascii_whitespace().collect();
    let Ok(der) = base64::engine::general_purpose::STANDARD.decode(base64) else {
        return false;
    };
    let public = key.der_bytes();
    der.windows(public.len()).any(|window| window == public)
}

const PEM_BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const PEM_END: &str = "-----END CERTIFICATE-----";

/// Certificate and key as the text of their files.
fn make(names: &[String], now: SystemTime) -> Result<(String, String), rcgen::Error> {
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    let mut params = CertificateParams::new(names)?;
    let end = now + VALID_FOR;
    params.not_before = (now - VALID_SINCE).into();
    params.not_after = end.into();
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.distinguished_name = rcgen::DistinguishedName::new();
    let common_name = names.first().map_or("", String::as_str);
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    let certificate = params.self_signed(&key)?;

    let until = end
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let text = format!(
        "Self-signed certificate, made since no other was configured; remade when it ends.\n\
         Names: {}\nValid until: {until} (seconds since 1970)\n{}",
        names.join(" "),
        certificate.pem(),
    );
    Ok((text, key.serialize_pem()))
}

fn make_directory(directory: &Path) -> Result<(), SelfSignedError> {
    if directory.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(directory)
        .and_then(|()| fs::set_permissions(directory, Permissions::from_mode(0o700)))
        .map_err(|error| SelfSignedError::Write(directory.into(), error))
}

/// Writes a file that is there as a whole or not at all, and never, not even for a moment, with another mode.
fn write_whole(path: &Path, text: &str, mode: u32) -> Result<(), SelfSignedError> {
    let new = path.with_extension("new");
    let write = || {
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(|error| SelfSignedError::Write(path.into(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(paths: &CertificatePaths) -> (String, String) {
        let read = |path| fs::read_to_string(path).unwrap();
        (read(&paths.cert), read(&paths.key))
    }

    #[test]
    fn it_is_made_once_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data/tls");
        let paths = self_signed(&data, &["localhost", "b.example"]).unwrap();
        let first = read(&paths);
        assert!(first.0.contains("Names: b.example localhost\n"));
        assert!(first.1.starts_with("-----BEGIN PRIVATE KEY-----"));
        let mode = fs::metadata(&paths.key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let again = self_signed(&data, &["b.example", "localhost", "localhost"]).unwrap();
        assert_eq!(again, paths);
        assert_eq!(read(&again), first);
    }

    #[test]
    fn it_is_remade_when_the_domains_change() {
        let directory = tempfile::tempdir().unwrap();
        let paths = self_signed(directory.path(), &["localhost"]).unwrap();
        let first = read(&paths);
        self_signed(directory.path(), &["localhost", "b.example"]).unwrap();
        assert_ne!(read(&paths), first);
    }

    #[test]
    fn it_is_remade_when_something_is_wrong_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        let domains = ["localhost"];
        let paths = self_signed(directory.path(), &domains).unwrap();
        let other = self_signed(other.path(), &domains).unwrap();
        let broken: [(&str, &dyn Fn()); 5] = [
            ("no key", &|| fs::remove_file(&paths.key).unwrap()),
            ("no certificate", &|| fs::remove_file(&paths.cert).unwrap()),
            ("another's key", &|| {
                fs::copy(&other.key, &paths.key).map(drop).unwrap();
            }),
            ("half a key", &|| {
                let key = fs::read_to_string(&paths.key).unwrap();
                fs::write(&paths.key, &key[..key.len() / 2]).unwrap();
            }),
            ("a key that all may read", &|| {
                fs::set_permissions(&paths.key, Permissions::from_mode(0o644)).unwrap();
            }),
        ];
        for (what, damage) in broken {
            let before = read(&paths);
            damage();
            self_signed(directory.path(), &domains).unwrap();
            assert_ne!(read(&paths), before, "{what}");
            assert!(
                still_good(&paths, &["localhost".into()], SystemTime::now()),
                "{what}"
            );
        }
    }

    #[test]
    fn it_is_remade_thirty_days_before_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let paths = self_signed(directory.path(), &["localhost"]).unwrap();
        let names = ["localhost".to_owned()];
        let later = |days: u64| SystemTime::now() + Duration::from_hours(days * 24);
        assert!(still_good(&paths, &names, later(366)));
        assert!(!still_good(&paths, &names, later(367)));
    }

    #[test]
    fn names_are_checked_and_written_as_they_go_on_the_wire() {
        #[track_caller]
        fn check(domains: &[&str], expected: Result<&str, &str>) {
            let found = names(domains).map(|names| names.join(" "));
            let found = found.map_err(|error| error.to_string());
            assert_eq!(found, expected.map(str::to_owned).map_err(str::to_owned));
        }
        check(&["Bücher.example"], Ok("xn--bcher-kva.example"));
        check(&["LOCALHOST", "localhost"], Ok("localhost"));
        check(&["127.0.0.1", "[::1]"], Ok("127.0.0.1 ::1"));
        check(&[""], Err("`` is not a domain name"));
        check(&["a b"], Err("`a b` is not a domain name"));
        let none = "a self-signed certificate is for 1 to 100 domains, not for 0";
        check(&[], Err(none));
        let many: Vec<String> = (0..=DOMAINS_MAX).map(|n| format!("d{n}.example")).collect();
        assert!(matches!(names(&many), Err(SelfSignedError::Count(101))));
    }
}
