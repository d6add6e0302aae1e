//! RFC 6121 sections 2 and 3: rosters and presence subscriptions.
pub mod store;
pub mod subscription;
