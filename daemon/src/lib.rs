//! What each of our binaries needs to be a good daemon: configuration loading, shutdown, logs, TLS files.
//!
//! A thing enters this crate only if all our binaries use it. Start reading at [`config::load`], which
//! turns a file into a checked struct, and at [`Shutdown`], which ends what [`Tasks`] started.
#![deny(missing_docs)]

pub mod checks;
pub mod config;
pub mod logs;
pub mod notify;
mod secret;
mod self_signed;
mod shutdown;
mod tasks;

pub use secret::{SECRET_BYTES_MAX, SECRET_MODE_MAX, Secret, SecretError};
pub use self_signed::{CertificatePaths, DOMAINS_MAX, SelfSignedError, self_signed};
pub use shutdown::{ABORT_WAIT_MAX, Drained, Reloads, Shutdown};
pub use tasks::Tasks;
