//! `[services]`: what runs once per node, beside its host types.
//!
//! A service is a field of [`Services`] with the configuration that belongs to it: `Some` starts it. Which
//! services a module needs is its own business (see `modules`); it does not start without them.

use daemon::config::{Check, Checks};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bosh::config::BoshService;

/// What runs once per node.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Services {
    /// BOSH.
    pub service_bosh: Option<BoshService>,
}

impl Services {
    /// Keys of the services that are configured.
    pub fn keys(&self) -> &'static [&'static str] {
        let Self { service_bosh } = self;
        match service_bosh {
            None => &[],
            Some(_) => &["service_bosh"],
        }
    }
}

impl Check for Services {
    fn check(&self, checks: &mut Checks<'_>) {
        if let Some(bosh) = &self.service_bosh {
            checks.part("service_bosh", bosh);
        }
    }
}
