//! The XMPP node.
pub mod fault;
pub mod storage;
