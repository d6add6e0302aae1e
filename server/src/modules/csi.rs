//! XEP-0352: Client State Indication, as a module: its option, and the feature after login.
//!
//! What is held back lies in the outlet: `outlet/held.rs`.
use daemon::config::OrInfinity;
use protocol::{Element, ns};

use super::{Needs, Start, StartError};

pub use super::config::Csi as Config;

/// Nothing.
pub fn needs(_config: &Config) -> Needs {
    Needs::none()
}

/// Announces the feature.
pub async fn start(config: Config, start: &mut Start<'_>) -> Result<(), StartError> {
    start.made.held_max = Some(match config.buffer_max {
        OrInfinity::Value(max) => usize::try_from(max).unwrap_or(usize::MAX),
        OrInfinity::Infinity => usize::MAX,
    });
    start.stream_feature(Element::new("csi", ns::CSI));
    Ok(())
}
