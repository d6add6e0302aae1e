//! From the plans of HTTP ports to handlers: each kind of handler has one line here.
use std::net::SocketAddr;
use std::sync::Arc;

use daemon::{Shutdown, Tasks};
use monitoring::Exporter;
use tokio::net::TcpListener;
use transport::{ListenOptions, ServerTls};

use super::StartError;
use super::graphql::GraphqlHandler;
use crate::api::engine::Engine;
use crate::api::http::Endpoint;
use crate::bosh::{Bosh, BoshHandler};
use crate::c2s::Admission;
use crate::listen::http::websocket::WebSocketHandler;
use crate::listen::http::{
    Handler, HandlerPlan, HttpListener, HttpPlan, Port, Route, RoutePlan, Routes, WebSocketPlan,
    host_meta, pages,
};
use crate::router::Router;

/// What handlers are made of.
pub(super) struct Parts<'a> {
    /// Metrics, health, readiness.
    pub(super) exporter: Arc<Exporter>,
    /// The node.
    pub(super) router: &'a Arc<Router>,
    /// What runs commands.
    pub(super) engine: &'a Arc<Engine>,
    /// Limits of all listeners.
    pub(super) admission: &'a Arc<Admission>,
    /// The sessions of BOSH.
    pub(super) bosh: &'a Arc<Bosh>,
    /// Where the tasks of clients run.
    pub(super) tasks: &'a Tasks,
}

impl Parts<'_> {
    fn websocket(&self, plan: WebSocketPlan) -> Arc<dyn Handler> {
        Arc::new(WebSocketHandler {
            settings: Arc::new(plan.settings),
            admission: self.admission.clone(),
            router: self.router.clone(),
            tasks: self.tasks.clone(),
            timing: self.router.timings.add(plan.timing),
        })
    }
}

/// What an HTTP port serves, for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Where.
    pub address: SocketAddr,
    /// Metrics, health and readiness.
    pub metrics: bool,
    /// Clients over WebSocket.
    pub websocket: bool,
    /// The admin API.
    pub graphql: bool,
    /// Clients, over BOSH.
    pub bosh: bool,
}

/// A port that is bound and does not accept yet.
pub(super) struct Bound {
    socket: TcpListener,
    address: SocketAddr,
    plan: HttpPlan,
}

/// Binds all ports.
pub(super) fn bind(plans: Vec<HttpPlan>) -> Result<Vec<Bound>, StartError> {
    let bind = |plan: HttpPlan| {
        let address = plan.address;
        let bound = transport::bind(address, &ListenOptions::default())
            .and_then(|socket| Ok((socket.local_addr()?, socket)));
        let (address, socket) = bound.map_err(|error| StartError::Listen {
            address,
            what: "HTTP",
            error,
        })?;
        Ok(Bound {
            socket,
            address,
            plan,
        })
    };
    plans.into_iter().map(bind).collect()
}

/// Makes the handlers and serves until `end` begins. Returns what is served.
pub(super) fn serve(ports: Vec<Bound>, parts: &Parts<'_>, end: &Shutdown) -> Vec<Served> {
    if ports.iter().any(|port| port.served().bosh) {
        let sweep = super::until(end.clone(), parts.bosh.clone().sweep());
        end.tasks().spawn("bosh_sweep", sweep);
    }
    let serve = |port: Bound| {
        let served = port.served();
        let listener = port.listener(parts);
        let serve = listener.serve(end.tasks().clone(), end.clone());
        end.tasks().spawn("http_listener", serve);
        served
    };
    ports.into_iter().map(serve).collect()
}

impl Bound {
    /// Its certificates.
    pub(super) fn tls(&self) -> Option<ServerTls> {
        self.plan.tls.clone()
    }

    /// What it serves, and where.
    fn served(&self) -> Served {
        let has = |is: fn(&HandlerPlan) -> bool| self.plan.routes.iter().any(|of| is(&of.handler));
        Served {
            address: self.address,
            metrics: has(|handler| matches!(handler, HandlerPlan::Prometheus)),
            websocket: has(|handler| matches!(handler, HandlerPlan::WebSocket(_))),
            graphql: has(|handler| matches!(handler, HandlerPlan::Graphql(_))),
            bosh: has(|handler| matches!(handler, HandlerPlan::Bosh)),
        }
    }

    /// The listener with its handlers.
    fn listener(self, parts: &Parts<'_>) -> HttpListener {
        let links = self.plan.routes.iter().filter_map(RoutePlan::link);
        let links = host_meta::routes(links.collect());
        let routes = self.plan.routes.into_iter();
        let routes = routes.flat_map(|plan| made(plan, parts));
        let routes = routes.chain(links).collect();
        HttpListener {
            socket: self.socket,
            port: Arc::new(Port {
                tls: self.plan.tls,
                tls_at_balancer: self.plan.tls_at_balancer,
                proxy_protocol: self.plan.proxy_protocol,
                connections_max: self.plan.connections_max,
                routes: Routes::new(routes),
                admission: parts.admission.clone(),
                metrics: parts.router.metrics.clone(),
                by_network: Arc::default(),
            }),
        }
    }
}

/// The handlers of one plan.
fn made(plan: RoutePlan, parts: &Parts<'_>) -> Vec<Route> {
    let RoutePlan {
        host,
        path,
        handler,
    } = plan;
    let one = |handler| {
        vec![Route {
            host: host.clone(),
            path: path.clone(),
            handler,
        }]
    };
    match handler {
        HandlerPlan::Bosh => one(Arc::new(BoshHandler(parts.bosh.clone()))),
        HandlerPlan::Prometheus => {
            pages::routes(&parts.exporter, host.clone(), path.clone()).into()
        }
        HandlerPlan::WebSocket(plan) => one(parts.websocket(*plan)),
        HandlerPlan::Graphql(plan) => one(Arc::new(GraphqlHandler(Endpoint::new(
            parts.engine.clone(),
            parts.router.clone(),
            plan.credentials,
            plan.categories,
        )))),
    }
}
