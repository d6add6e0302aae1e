//! Turns sockets into bytes for the stream reader: TCP sockets, listeners, TLS records, certificates.
//!
//! A server binds a listener ([`bind`]), wraps what it accepts in a [`Socket`], and passes the bytes of an encrypted
//! connection through the [`TlsRecords`] that [`ServerTls::accept`] makes. Nothing here knows XMPP, and nothing here
//! owns a buffer while a connection is idle. This is the only crate that names `rustls`.
#![deny(missing_docs)]

pub mod certificates;
pub mod listener;
pub mod pipe;
pub mod socket;
pub mod tls;

#[cfg(test)]
mod testing;

pub use certificates::{
    AcceptKind, CertificatePaths, Reloaded, ServerTls, TlsFileProblem, TlsFileReason,
    TlsFilesError, TlsSettings, TlsVersions,
};
pub use listener::{ListenOptions, bind};
pub use pipe::{FarEnd, NearEnd, pipe};
pub use socket::Socket;
pub use tls::{Feed, Handshake, TlsError, TlsLimit, TlsRecords, TlsVersion};
