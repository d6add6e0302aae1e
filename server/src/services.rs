//! `[services]`: what runs once per node, beside its host types.
//!
//! A service is a field of [`Services`] with the configuration that belongs to it: `Some` starts it. Which
//! services a module needs is its own business (see `modules`); it does not start without them.

use daemon::config::Check;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What runs once per node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Services {}

impl Services {
    /// Keys of the services that are configured.
    pub fn keys(&self) -> &'static [&'static str] {
        let Self {} = self;
        &[]
    }
}

impl Check for Services {}
