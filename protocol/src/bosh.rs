//! XEP-0124: Bidirectional-streams Over Synchronous HTTP, and XEP-0206: XMPP Over BOSH.
//!
//! [`Request`] is what a client's `<body/>` says, [`Response`] is what it is answered with, and [`Window`] decides which
//! request's turn it is and when it is answered. Nothing here knows HTTP or the time.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod request;
mod response;
#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests;
mod window;

pub use request::Request;
pub use response::{Created, Ending, Payload, Response};
pub use window::{Arrival, Front, Inbound, Standing, Terms, Window};

/// Bytes of a request's `<body/>`: room for one stanza that is too large and is told so.
pub const BODY_BYTES_MAX: usize = 128 * 1024;
/// Children of one `<body/>`; more are `policy-violation`.
pub const CHILDREN_MAX: usize = 1_000;
/// The greatest request id (section 14.1): what every language's numbers can count to.
pub const RID_MAX: u64 = 9_007_199_254_740_991;
/// Longest time that a request is held, whatever the client asks for, seconds.
pub const WAIT_SECS_MAX: u32 = 60;
/// Requests that are held at a time, whatever the client asks for: a second one would only be needed by who cannot say
/// what was received meanwhile.
pub const HOLD_MAX: u32 = 1;
/// A polling client asks no more often, seconds.
pub const POLLING_SECS: u32 = 5;
/// Bytes of any attribute of a `<body/>`: the longest address.
pub const ATTRIBUTE_BYTES_MAX: usize = 3_071;

/// Why a session ends (section 17.2), as far as we say so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Condition {
    /// The `<body/>` is none.
    BadRequest,
    /// There is no such domain.
    HostUnknown,
    /// No domain is asked for.
    ImproperAddressing,
    /// Our fault.
    InternalServerError,
    /// There is no such session, or no such request in it.
    ItemNotFound,
    /// Too many requests, or too much in one.
    PolicyViolation,
    /// The stream has ended without a word.
    RemoteConnectionFailed,
    /// The stream has ended with the error that goes along.
    RemoteStreamError,
    /// The node stops.
    SystemShutdown,
}

impl Condition {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::BadRequest,
        Self::HostUnknown,
        Self::ImproperAddressing,
        Self::InternalServerError,
        Self::ItemNotFound,
        Self::PolicyViolation,
        Self::RemoteConnectionFailed,
        Self::RemoteStreamError,
        Self::SystemShutdown,
    ];

    /// The value of `condition`.
    pub fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::HostUnknown => "host-unknown",
            Self::ImproperAddressing => "improper-addressing",
            Self::InternalServerError => "internal-server-error",
            Self::ItemNotFound => "item-not-found",
            Self::PolicyViolation => "policy-violation",
            Self::RemoteConnectionFailed => "remote-connection-failed",
            Self::RemoteStreamError => "remote-stream-error",
            Self::SystemShutdown => "system-shutdown",
        }
    }
}
