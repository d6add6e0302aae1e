//! What each of our binaries needs to be a good daemon: configuration loading, shutdown, logs, TLS files.
#![deny(missing_docs)]
