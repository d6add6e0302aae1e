//! XMPP on the wire, without I/O and without a clock: addresses, XML, stanzas, streams, SASL.
//!
//! Start with [`xml::StreamReader`], which turns bytes into [`xml::Frame`]s, and [`stanza::Stanza`], which is what
//! the router carries.
#![deny(missing_docs)]

pub mod bosh;
pub mod caps;
pub mod component;
pub mod element;
pub mod error;
pub mod framing;
pub mod jid;
pub mod ns;
pub mod proxy;
pub mod sasl;
pub mod stanza;
pub mod stream;
pub mod websocket;
pub mod xml;

pub use element::Element;
pub use error::{SaslFailure, StanzaCondition, StanzaError, StreamCondition, StreamError};
pub use framing::Framing;
pub use jid::{BareJid, FullJid, Jid, JidRef};
pub use stanza::{Kind, Stanza, StanzaType};
