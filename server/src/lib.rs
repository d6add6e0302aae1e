//! The XMPP node.
pub mod access;
pub mod auth {
    //! Who are you: configuration.
    pub mod config;
}
pub mod config;
pub mod fault;
pub mod host {
    //! Host types: configuration.
    pub mod config;
}
pub mod listen {
    //! Where the node listens: configuration.
    pub mod config;
}
pub mod modules {
    //! Features: configuration.
    pub mod config;
}
pub mod services;
pub mod storage;
