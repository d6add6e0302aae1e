//! tmp
pub mod store;
pub use super::config::Offline as Config;
use super::{Needs, Start, StartError};
pub fn needs(_c: &Config) -> Needs {
    Needs::none()
}
pub async fn start(_c: Config, _s: &mut Start<'_>) -> Result<(), StartError> {
    Ok(())
}
