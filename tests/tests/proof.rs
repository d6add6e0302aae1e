//! The proof of what we promise, on nodes that are processes of their own: killed, drained, and read from by nobody.
//! These tests need the machine for themselves; `cargo xtask test proof` runs one at a time.
mod crash;
mod drain;
mod stalled;
