//! Which handler answers which host and path.
use std::sync::Arc;

use daemon::Secret;

use super::Handler;
use super::host_meta::{Link, Way};
use crate::c2s::ListenerSettings;
use crate::c2s::timing::Timing;

/// A handler as the configuration has it, to be made by the node.
pub enum HandlerPlan {
    /// BOSH.
    Bosh,
    /// Metrics; and beside them, for any host, health and readiness.
    Prometheus,
    /// Clients over WebSocket.
    WebSocket(Box<WebSocketPlan>),
    /// The admin API.
    Graphql(GraphqlPlan),
}

/// What clients over WebSocket get.
pub struct WebSocketPlan {
    /// As those of a listener for clients.
    pub settings: ListenerSettings,
    /// When they are taken for gone.
    pub timing: Timing,
}

impl HandlerPlan {
    /// How clients connect to it, if they do.
    fn way(&self) -> Option<Way> {
        match self {
            Self::Prometheus | Self::Graphql(_) => None,
            Self::Bosh => Some(Way::Bosh),
            Self::WebSocket(_) => Some(Way::WebSocket),
        }
    }
}

/// What `mongoose_graphql_handler` is made of.
pub struct GraphqlPlan {
    /// What an administrator has to show; `None`: nothing.
    pub credentials: Option<(String, Secret)>,
    /// Categories that may be used; `None` allows all.
    pub categories: Option<Vec<String>>,
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

impl RoutePlan {
    /// What XEP-0156 tells of it.
    pub fn link(&self) -> Option<Link> {
        Some(Link {
            method: self.handler.way()?,
            host: self.host.clone(),
            path: self.path.clone(),
        })
    }
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
