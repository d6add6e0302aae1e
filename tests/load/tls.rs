//! TLS on the client's side: rustls between byte buffers, since one thread drives all sockets.

use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use tests::wire::AnyCertificate;
use tokio_rustls::rustls::client::{ClientConnection, Resumption};
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// Whom the generator trusts.
pub(crate) enum Trust<'a> {
    /// Any certificate: it says nothing, but signatures are still checked, as a client would. For measuring only.
    Anyone,
    /// Certificates signed by those of a PEM file.
    File(&'a Path),
}

/// A configuration without resumption, so that each login is a full handshake.
pub(crate) fn config(trust: &Trust<'_>, direct: bool) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .context("TLS versions")?;
    let mut config = match trust {
        Trust::Anyone => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
            .with_no_client_auth(),
        Trust::File(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_file_iter(path)
                .with_context(|| format!("cannot read {}", path.display()))?
            {
                roots.add(certificate.with_context(|| format!("in {}", path.display()))?)?;
            }
            ensure!(!roots.is_empty(), "no certificate in {}", path.display());
            builder.with_root_certificates(roots).with_no_client_auth()
        }
    };
    config.resumption = Resumption::disabled();
    if direct {
        // XEP-0368: the protocol's name in ALPN.
        config.alpn_protocols = vec![b"xmpp-client".to_vec()];
    }
    Ok(Arc::new(config))
}

/// One connection's TLS state.
pub(crate) struct Tls(ClientConnection);

impl Tls {
    pub(crate) fn start(config: &Arc<ClientConfig>, domain: &str) -> Result<Self> {
        let name =
            ServerName::try_from(domain.to_owned()).context("domain as a TLS server name")?;
        let mut connection = ClientConnection::new(Arc::clone(config), name)?;
        connection.set_buffer_limit(None);
        Ok(Self(connection))
    }

    pub(crate) fn is_handshaking(&self) -> bool {
        self.0.is_handshaking()
    }

    /// Appends the plaintext of `ciphertext` to `plain`.
    pub(crate) fn open(&mut self, mut ciphertext: &[u8], plain: &mut Vec<u8>) -> Result<()> {
        while !ciphertext.is_empty() {
            self.0.read_tls(&mut ciphertext)?;
            let ready = self.0.process_new_packets()?.plaintext_bytes_to_read();
            if ready > 0 {
                self.0.reader().take(ready as u64).read_to_end(plain)?;
            }
        }
        Ok(())
    }

    /// Appends the records for `plain`, and whatever the handshake wants to say, to `ciphertext`.
    pub(crate) fn seal(&mut self, plain: &[u8], ciphertext: &mut Vec<u8>) -> io::Result<()> {
        self.0.writer().write_all(plain)?;
        while self.0.wants_write() {
            self.0.write_tls(ciphertext)?;
        }
        Ok(())
    }
}
