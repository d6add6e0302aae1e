//! SASL mechanisms as state machines (RFC 4422, RFC 5802, RFC 4616), without a clock and without I/O.
//!
//! See the submodules' documentation.
