//! Connections against rustls's own client, by topic.

mod costs;
mod handshake;
mod hostile;
mod traffic;
