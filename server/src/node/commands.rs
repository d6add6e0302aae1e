//! What the admin commands get to work with.
use std::sync::Arc;
use std::time::Instant;

use daemon::Shutdown;
use daemon::logs::LevelControl;

use super::{HostPlan, NodePlan};
use crate::api::engine::Engine;
use crate::api::terms::{Admin, HostTypeFacts};
use crate::auth::Method;
use crate::router::Router;
use crate::storage::in_flight::InFlightStore;

/// What commands tell of the node, as it was planned.
pub(super) struct Facts {
    started: Instant,
    log_level: Option<LevelControl>,
    host_types: Vec<HostTypeFacts>,
    services: Vec<String>,
}

impl Facts {
    /// Of a node that starts now.
    pub(super) fn of(plan: &NodePlan) -> Self {
        Self {
            started: Instant::now(),
            log_level: plan.logs.clone(),
            host_types: plan.hosts.iter().map(host_type).collect(),
            services: plan.services.clone(),
        }
    }

    /// What runs commands; it works until `late` ends.
    pub(super) fn engine(
        self,
        router: &Arc<Router>,
        in_flight: &InFlightStore,
        shutdown: &Shutdown,
        late: &Shutdown,
    ) -> Arc<Engine> {
        Engine::new(Arc::new(Admin {
            router: router.clone(),
            in_flight: in_flight.clone(),
            started: self.started,
            shutdown: shutdown.clone(),
            tasks: late.tasks().clone(),
            log_level: self.log_level,
            host_types: self.host_types,
            services: self.services,
        }))
    }
}

fn host_type(plan: &HostPlan) -> HostTypeFacts {
    let methods = plan.auth.methods.iter().map(Method::name);
    HostTypeFacts {
        name: plan.host_type.to_string(),
        modules: plan.modules.facts(),
        auth_methods: methods.map(Into::into).collect(),
    }
}
