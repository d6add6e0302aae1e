//! Optional features of the server, one file each.
pub mod offline;
pub mod roster;
