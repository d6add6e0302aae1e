//! The XMPP node.
pub mod fault;
pub mod modules;
pub mod storage;
