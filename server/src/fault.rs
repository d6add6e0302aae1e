//! Whose fault an error is: it decides the answer, the log level and a metric's label.

/// Who caused an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The client asked for what cannot be: debug level.
    Client,
    /// The other server: info level.
    Peer,
    /// This server or what it stands on: error level.
    Ours,
}
