//! Ports for external components: bound, served, and told when the node goes.
use std::net::SocketAddr;
use std::sync::Arc;

use daemon::{Shutdown, Tasks};
use tokio::time::{Instant, interval};
use transport::{ListenOptions, ServerTls};

use super::{StartError, drain};
use crate::c2s::{Admission, ListenerSettings};
use crate::component::Settings;
use crate::component::listener::ComponentSocket;
use crate::outlet::Order;
use crate::router::Router;

/// One port.
pub struct ComponentPlan {
    /// Where.
    pub address: SocketAddr,
    /// How.
    pub options: ListenOptions,
    /// For its connections, as for those of clients.
    pub settings: ListenerSettings,
    /// For its components.
    pub component: Settings,
}

/// Binds all ports.
pub(super) fn bind(
    plans: Vec<ComponentPlan>,
    admission: &Arc<Admission>,
) -> Result<Vec<ComponentSocket>, StartError> {
    let bind = |plan: ComponentPlan| {
        let address = plan.address;
        let socket =
            transport::bind(address, &plan.options).map_err(|error| StartError::Listen {
                address,
                what: "components",
                error,
            })?;
        Ok(ComponentSocket {
            socket,
            settings: Arc::new(plan.settings),
            component: Arc::new(plan.component),
            admission: admission.clone(),
        })
    };
    plans.into_iter().map(bind).collect()
}

/// Their certificates.
pub(super) fn tls(ports: &[ComponentSocket]) -> impl Iterator<Item = ServerTls> {
    ports.iter().filter_map(|port| port.settings.tls.clone())
}

/// Serves all ports until the shutdown begins. Returns where.
pub(super) fn serve(
    ports: Vec<ComponentSocket>,
    router: &Arc<Router>,
    tasks: &Tasks,
    shutdown: &Shutdown,
) -> Vec<SocketAddr> {
    let addresses = ports.iter().filter_map(|port| port.address().ok());
    let addresses = addresses.collect();
    for port in ports {
        let serve = port.serve(router.clone(), tasks.clone(), shutdown.clone());
        tasks.spawn("component_listener", serve);
    }
    addresses
}

/// Ends every component when the last session has ended, which may have something to tell them, or at `latest`.
pub(super) async fn drain(router: &Router, shutdown: &Shutdown, latest: Instant) {
    let mut steps = interval(drain::STEP);
    while router.components.count() > 0 && router.sessions.count() > 0 && Instant::now() < latest {
        tokio::select! {
            biased;
            () = shutdown.at_once() => break,
            _ = steps.tick() => {}
        }
    }
    for component in router.components.all() {
        let error = protocol::StreamCondition::SystemShutdown.into();
        component.outlet.order(Order::Close(error, "drained"));
    }
}
