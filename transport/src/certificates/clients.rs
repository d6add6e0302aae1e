//! RFC 5280, RFC 6120 section 13.7.1.4: certificates of clients, and whom they name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use super::der::{Subject, read_certificate, read_subject};
use super::files::{TlsFileProblem, TlsFileReason, read_bytes};
use crate::tls::observe_client;

/// How a listener looks at the certificates of its clients. Nobody has to have one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificates {
    /// A file with those who may vouch for clients, PEM; without it nobody may.
    pub authorities: Option<PathBuf>,
    /// Whether a certificate that nobody vouches for is good, if it is signed by its own key. Then a client can say of
    /// itself what it likes.
    pub self_signed: bool,
    /// Files with lists of revoked certificates, PEM. With any, there has to be one for each authority on the way from
    /// the client's certificate up to a root, and none may be out of date.
    pub revocation_lists: Vec<PathBuf>,
    /// Whether a bad certificate ends the handshake. If not, the client is one without a certificate.
    pub refuse_bad: bool,
}

/// Whom a good certificate of a client names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientIdentity {
    /// Its XMPP addresses (`id-on-xmppAddr`), as they stand there.
    pub xmpp_addresses: Vec<String>,
    /// The common names of its subject.
    pub common_names: Vec<String>,
}

/// Certificates of authorities in a file.
pub const AUTHORITIES_MAX: usize = 1_000;

/// Files of authorities and revocation lists have at most so many bytes.
pub const TRUST_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Looks at certificates of clients. What it finds is noted for the connection whose handshake runs.
#[derive(Debug)]
pub(super) struct ClientVerifier {
    authorities: Option<Arc<dyn ClientCertVerifier>>,
    self_signed: bool,
    refuse_bad: bool,
    algorithms: WebPkiSupportedAlgorithms,
    /// Whose certificates a client is asked for; empty where it may have anybody's.
    hints: Vec<DistinguishedName>,
}

impl ClientVerifier {
    /// Reads all files.
    pub(super) fn load(
        settings: &ClientCertificates,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<Self>, TlsFileProblem> {
        let authorities = settings.authorities.as_ref();
        let authorities = authorities
            .map(|path| load_authorities(path, &settings.revocation_lists, provider))
            .transpose()?;
        let hints = match &authorities {
            Some(verifier) if !settings.self_signed => verifier.root_hint_subjects().to_vec(),
            _ => Vec::new(),
        };
        Ok(Arc::new(Self {
            authorities,
            self_signed: settings.self_signed,
            refuse_bad: settings.refuse_bad,
            algorithms: provider.signature_verification_algorithms,
            hints,
        }))
    }

    fn check(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientIdentity, Error> {
        let subject = read_subject(certificate).ok_or(CertificateError::BadEncoding)?;
        let vouched = match &self.authorities {
            Some(verifier) => verifier
                .verify_client_cert(certificate, intermediates, now)
                .map(drop),
            None => Err(CertificateError::UnknownIssuer.into()),
        };
        match vouched {
            Err(_) if self.self_signed && subject.is_own_issuer => {
                check_self_signed(certificate, now)?;
            }
            other => other?,
        }
        let Subject {
            xmpp_addresses,
            common_names,
            ..
        } = subject;
        Ok(ClientIdentity {
            xmpp_addresses,
            common_names,
        })
    }
}

/// That its key is the client's, the handshake shows.
fn check_self_signed(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    ParsedCertificate::try_from(certificate)?;
    let fields = read_certificate(certificate).ok_or(CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < fields.not_before {
        return Err(CertificateError::NotValidYet.into());
    }
    if now > fields.not_after {
        return Err(CertificateError::Expired.into());
    }
    Ok(())
}

fn load_authorities(
    path: &Path,
    revocation_lists: &[PathBuf],
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsFileProblem> {
    let mut roots = RootCertStore::empty();
    let text = read_bytes(path, TRUST_BYTES_MAX)?;
    for (index, certificate) in CertificateDer::pem_slice_iter(&text).enumerate() {
        let certificate =
            certificate.map_err(|error| TlsFileReason::Pem(error.to_string()).of(path))?;
        if index == AUTHORITIES_MAX {
            return Err(TlsFileReason::TooManyAuthorities.of(path));
        }
        let added = roots.add(certificate);
        added.map_err(|_| TlsFileReason::Certificate { number: index + 1 }.of(path))?;
    }
    if roots.is_empty() {
        return Err(TlsFileReason::NoAuthority.of(path));
    }
    let mut lists = Vec::new();
    for path in revocation_lists {
        let before = lists.len();
        let text = read_bytes(path, TRUST_BYTES_MAX)?;
        for list in CertificateRevocationListDer::pem_slice_iter(&text) {
            lists.push(list.map_err(|error| TlsFileReason::Pem(error.to_string()).of(path))?);
        }
        if lists.len() == before {
            return Err(TlsFileReason::NoRevocationList.of(path));
        }
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .with_crls(lists)
        .enforce_revocation_expiration()
        .build()
        .map_err(|error| match (error, revocation_lists.first()) {
            (VerifierBuilderError::InvalidCrl(why), Some(list)) => {
                TlsFileReason::RevocationList(format!("{why:?}")).of(list)
            }
            (error, _) => TlsFileReason::RevocationList(error.to_string()).of(path),
        })
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match self.check(end_entity, intermediates, now) {
            Ok(identity) => observe_client(identity),
            Err(error) if self.refuse_bad => return Err(error),
            // Nothing is noted, so the client has none.
            Err(error) => tracing::debug!(%error, "certificate of a client is not good"),
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
