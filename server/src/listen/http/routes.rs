//! Which handler answers which host and path.
use std::sync::Arc;

use super::Handler;

/// A handler as the configuration has it, to be made by the node.
pub enum HandlerPlan {
    /// BOSH.
    Bosh,
    /// Metrics; and beside them, for any host, health and readiness.
    Prometheus,
}

/// A handler and where it is.
pub struct RoutePlan {
    /// The host, in lower case; `None` is any.
    pub host: Option<Box<str>>,
    /// The path.
    pub path: Box<str>,
    /// What is there.
    pub handler: HandlerPlan,
}

/// A handler that was made.
pub struct Route {
    /// The host, in lower case; `None` is any.
    pub host: Option<Box<str>>,
    /// The path.
    pub path: Box<str>,
    /// Who answers.
    pub handler: Arc<dyn Handler>,
}

/// All handlers of a port.
#[derive(Default)]
pub struct Routes(Vec<Route>);

impl Routes {
    /// In the order of the configuration.
    pub fn new(routes: Vec<Route>) -> Self {
        Self(routes)
    }

    /// Who answers for that host and path: first those that name the host, then those for any; of equals, the first.
    pub fn find(&self, host: &str, path: &str) -> Option<&Arc<dyn Handler>> {
        let mut of_any_host = None;
        for route in self.0.iter().filter(|route| *route.path == *path) {
            match &route.host {
                Some(name) if name.eq_ignore_ascii_case(host) => return Some(&route.handler),
                None if of_any_host.is_none() => of_any_host = Some(&route.handler),
                _ => {}
            }
        }
        of_any_host
    }
}
