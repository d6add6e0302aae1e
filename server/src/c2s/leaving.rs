//! Whether the node lets go of its clients: known to connections that are not sessions yet.
use std::sync::OnceLock;

use protocol::StreamError;
use tokio_util::sync::CancellationToken;

/// Set once, when the drain begins.
#[derive(Default)]
pub struct Leaving {
    error: OnceLock<StreamError>,
    begun: CancellationToken,
}

impl Leaving {
    /// From now on everybody gets that error.
    pub fn begin(&self, error: StreamError) {
        // The first error stays.
        let _ = self.error.set(error);
        self.begun.cancel();
    }

    /// What to tell a client, if the node lets go of them.
    pub fn error(&self) -> Option<StreamError> {
        self.error.get().cloned()
    }

    /// Waits until it does.
    pub async fn begun(&self) -> StreamError {
        self.begun.cancelled().await;
        let error = self.error.get().cloned();
        error.expect("the error is set before the token is cancelled")
    }
}
