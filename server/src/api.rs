//! Administration: the admin schema of GraphQL, and the ways to it.
pub mod admin;
pub mod control;
pub mod engine;
pub mod http;
pub mod terms;
