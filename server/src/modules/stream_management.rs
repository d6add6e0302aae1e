//! XEP-0198: Stream Management, as a module: its options, and the feature after login.
//!
//! What it does lies in the session: `c2s/resume.rs`.
use protocol::{Element, ns};

use super::{Needs, Start, StartError};
use crate::host::StreamManagement;

pub use super::config::StreamManagement as Config;

/// Nothing.
pub fn needs(_config: &Config) -> Needs {
    Needs::none()
}

/// Announces the feature.
pub async fn start(config: Config, start: &mut Start<'_>) -> Result<(), StartError> {
    let secs = |seconds: daemon::config::Seconds| {
        u32::try_from(seconds.duration().as_secs()).unwrap_or(u32::MAX)
    };
    start.made.stream_management = Some(StreamManagement {
        buffer: config.buffer,
        buffer_max: config.outbox_max(),
        ack_freq: config.ack_freq,
        ack: config.ack,
        resume_timeout_secs: secs(config.resume_timeout),
        stale_h_secs: config
            .stale_h
            .enabled
            .then(|| secs(config.stale_h.geriatric)),
    });
    start.stream_feature(Element::new("sm", ns::STREAM_MANAGEMENT));
    Ok(())
}
