//! The XMPP node: a message router that modules shape.
//!
//! Start reading at [`node`], which builds all parts; a stanza's life goes through [`c2s`], [`hooks`], [`router`],
//! [`outlet`] and [`ledger`].
#![cfg_attr(
    test,
    allow(
        clippy::large_futures,
        reason = "a test has a handful of clients, each with its future"
    )
)]

pub mod access;
pub mod api;
pub mod auth;
pub mod bosh;
pub mod c2s;
pub mod check;
pub mod cluster;
pub mod component;
pub mod config;
pub mod ctl;
pub mod fault;
pub mod hooks;
pub mod host;
pub mod iq;
pub mod ledger;
pub mod listen;
pub mod metrics;
pub mod modules;
pub mod node;
pub mod outlet;
pub mod receipts;
pub mod router;
pub mod run;
pub mod services;
pub mod stamp;
pub mod storage;
#[cfg(test)]
mod testing;
pub mod turns;
