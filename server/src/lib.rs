//! The XMPP node.
