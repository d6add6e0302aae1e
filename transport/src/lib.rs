//! Turns sockets into bytes for the stream reader: TCP sockets, listeners, TLS records, certificates.
//!
//! A server binds a listener ([`bind`]), wraps what it accepts in a [`Socket`] (behind a
//! balancer, [`ProxyProtocol::accept`] tells the client's address first), and passes the bytes of an encrypted
//! connection through the [`TlsRecords`] that [`ServerTls::accept`] makes. Nothing here knows XMPP, and nothing here
//! owns a buffer while a connection is idle. This is the only crate that names `rustls`.
#![deny(missing_docs)]

pub mod certificates;
pub mod listener;
pub mod pipe;
pub mod proxy;
pub mod socket;
pub mod tls;

#[cfg(test)]
mod testing;

pub use certificates::{
    AcceptKind, CertificatePaths, CertificateReview, ClientCertificates, ClientIdentity, Reloaded,
    ServerTls, TlsFileProblem, TlsFileReason, TlsFilesError, TlsSettings, TlsVersions,
};
pub use listener::{ListenOptions, bind, try_bind};
pub use pipe::{FarEnd, NearEnd, pipe};
pub use proxy::{ProxyProtocol, ProxyRefused};
pub use socket::Socket;
pub use tls::{Feed, Handshake, TlsError, TlsLimit, TlsRecords, TlsVersion};
