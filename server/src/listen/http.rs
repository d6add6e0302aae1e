//! HTTP/1.1 (RFC 9112): one accept loop for a port; a handler is chosen by host and path.
//!
//! Requests are read by hyper from [`stream::HttpStream`], which is our own socket with our own TLS. A handler gets an
//! [`Exchange`] with the whole head and answers with a whole response; the body it reads by [`answers::read_body`],
//! within limits. What every handler would have to do is done here: unknown paths (404), methods (405), `OPTIONS`,
//! CORS, heads that are too large (431) or come too slowly (408), the number of connections, and the end of the node.
//!
//! A new handler takes: a type that implements [`Handler`]; its options in `listen/config.rs` ([`Place`] has what all
//! handlers share); a variant of [`HandlerPlan`] with what the node has to know of it, made in `node/plan.rs`; and one
//! line in `node/http.rs`, where the node turns plans into handlers. A handler may hold a request for as long as it
//! likes. Connections are served until the drain of the node is over, so a handler that has nothing to do then looks at
//! [`crate::router::Router::leaving`] itself.
//!
//! [`Place`]: super::config::Place
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use ahash::RandomState;
use daemon::{Shutdown, Tasks};
use hashbrown::HashMap;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ACCESS_CONTROL_ALLOW_ORIGIN, HOST, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Version};
use hyper_util::rt::TokioTimer;
use parking_lot::Mutex;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};
use transport::{ProxyProtocol, ServerTls, Socket};

use super::{ACCEPT_RETRY, OpenPlace};
use crate::auth::throttle::client_network;
use crate::c2s::Admission;
use crate::c2s::newcomers::{Newcomer, Whom};
use crate::metrics::{Metrics, Surface};

pub mod answers;
pub mod host_meta;
pub mod pages;
pub mod routes;
pub mod stream;
pub mod websocket;

pub use routes::{GraphqlPlan, HandlerPlan, Route, RoutePlan, Routes, WebSocketPlan};

use answers::refusal;
use stream::HttpStream;

/// Bytes of a request's head, and of what is read ahead of it; a longer head is answered with 431.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Fields of a request's head; more are answered with 431.
pub const HEAD_FIELDS_MAX: usize = 64;
/// How long a request's head may take, and how long a connection may be idle before it: then 408, or nothing if no
/// byte of it has come.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may take to hang up after our last byte; what it sends meanwhile is thrown away.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(2);
/// HTTP connections of one IPv4 address or one IPv6 /64 to one port; further ones are closed at once. Loopback is
/// exempt: balancers connect from there. Those that were upgraded do not count.
pub const CONNECTIONS_PER_ADDRESS_MAX: usize = 256;

/// A request as it comes from hyper.
pub type Request = hyper::Request<Incoming>;
/// An answer: all of it is there.
pub type Response = hyper::Response<Full<Bytes>>;
/// An answer that may take its time.
pub type Answering = Pin<Box<dyn Future<Output = Response> + Send>>;

/// Something that answers requests for a path.
pub trait Handler: Send + Sync {
    /// The methods it knows. `HEAD` comes with `GET`, and `OPTIONS` is always answered.
    fn methods(&self) -> &'static [Method];

    /// Whether pages of all origins may use it (Fetch standard, CORS). Nothing that believes in cookies may say so.
    fn is_open_to_all_origins(&self) -> bool {
        false
    }

    /// Answers a request of one of its methods.
    fn answer(self: Arc<Self>, exchange: Exchange) -> Answering;
}

/// A request, and what is known of its connection.
pub struct Exchange {
    /// Head and body.
    pub request: Request,
    /// Where it comes from, for limits.
    pub peer: IpAddr,
    /// Whether it came through TLS, of ours or of a balancer's.
    pub encrypted: bool,
    visit: Arc<Visit>,
}

impl Exchange {
    /// Hands the connection to `taker` after the answer, which must be 101: hyper has done with it then.
    pub fn take_over(&self, taker: Taker) {
        *self.visit.taker.lock() = Some(taker);
    }
}

/// What takes a connection over after a 101.
pub type Taker = Box<dyn FnOnce(Taken) + Send>;

/// A connection that is no HTTP any more.
pub struct Taken {
    /// The socket and its TLS. All that hyper had to write is written.
    pub stream: HttpStream,
    /// What was read behind the request.
    pub read_ahead: Bytes,
    /// Where it comes from.
    pub peer: IpAddr,
    /// Its place among the connections of the listener.
    pub place: OpenPlace,
}

/// What an HTTP port is made of.
pub struct HttpPlan {
    /// Where.
    pub address: SocketAddr,
    /// Certificates; `None` is plain HTTP.
    pub tls: Option<ServerTls>,
    /// What comes without TLS counts as encrypted.
    pub tls_at_balancer: bool,
    /// Who announces the clients' addresses, where somebody has to.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Connections at a time.
    pub connections_max: usize,
    /// What it serves.
    pub routes: Vec<RoutePlan>,
}

/// What all connections of a port share.
pub struct Port {
    /// Certificates; `None` is plain HTTP.
    pub tls: Option<ServerTls>,
    /// What comes without TLS counts as encrypted.
    pub tls_at_balancer: bool,
    /// Who announces the clients' addresses, where somebody has to.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Connections at a time.
    pub connections_max: usize,
    /// Who answers what.
    pub routes: Routes,
    /// Limits that it shares with all other listeners.
    pub admission: Arc<Admission>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Connections by network, those from this machine excepted.
    pub by_network: Arc<Mutex<HashMap<IpAddr, usize, RandomState>>>,
}

/// A bound HTTP port.
pub struct HttpListener {
    /// The socket.
    pub socket: TcpListener,
    /// For its connections.
    pub port: Arc<Port>,
}

impl HttpListener {
    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts until `end` begins; then the requests under way are finished.
    pub async fn serve(self, tasks: Tasks, end: Shutdown) {
        let open = Arc::new(AtomicUsize::new(0));
        loop {
            let accepted = tokio::select! {
                biased;
                () = end.cancelled() => return,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let metrics = &self.port.metrics;
                    let gauge = &metrics.http.connections;
                    let place = OpenPlace::take(&open, self.port.connections_max, gauge);
                    let Some(place) = place else {
                        metrics
                            .reject(Surface::Http, protocol::StreamCondition::ResourceConstraint);
                        continue;
                    };
                    metrics.http.connections_accepted.inc();
                    let serve = serve(self.port.clone(), stream, peer, place, end.clone());
                    tasks.spawn("http", serve);
                }
                Err(error) => {
                    warn!(%error, "connection could not be accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        }
    }
}

/// One connection, as its requests see it.
struct Visit {
    port: Arc<Port>,
    peer: IpAddr,
    encrypted: bool,
    /// Until there was a whole request.
    newcomer: Mutex<Option<Newcomer>>,
    taker: Mutex<Option<Taker>>,
}

/// One connection from accept to end.
async fn serve(
    port: Arc<Port>,
    stream: TcpStream,
    peer: SocketAddr,
    place: OpenPlace,
    end: Shutdown,
) {
    // Before TLS, and before anything is decided by the client's address.
    let peer = match &port.proxy_protocol {
        None => peer.ip(),
        Some(proxy) => match proxy.accept(&stream, peer).await {
            Ok(client) => client.ip(),
            Err(refused) => {
                port.metrics.proxy_refused.of(refused.label()).inc();
                return debug!(%refused, "connection was not announced");
            }
        },
    };
    let Some(of_network) = NetworkPlace::take(&port, peer) else {
        port.metrics
            .reject(Surface::Http, protocol::StreamCondition::PolicyViolation);
        return;
    };
    let socket = match Socket::from_accepted(stream) {
        Ok(socket) => socket,
        Err(error) => return debug!(%error, "socket could not be set up"),
    };
    let told_to_go = CancellationToken::new();
    let newcomers = &port.admission.newcomers;
    let newcomer = newcomers.enter(peer, Whom::Http(told_to_go.clone()));
    let mut stream = HttpStream::new(socket);
    if let Some(tls) = &port.tls {
        let handshake = stream.accept_tls(tls, &port.admission.handshakes);
        let counters = &port.metrics.tls_handshakes;
        tokio::select! {
            biased;
            () = told_to_go.cancelled() => return,
            done = timeout(HANDSHAKE_TIMEOUT, handshake) => match done {
                Ok(Ok(())) => _ = counters.ok.inc(),
                Ok(Err(error)) => {
                    counters.failed.inc();
                    return debug!(%error, "TLS handshake failed");
                }
                Err(_) => {
                    counters.timeout.inc();
                    return;
                }
            },
        }
    }
    let visit = Arc::new(Visit {
        encrypted: port.tls.is_some() || port.tls_at_balancer,
        port,
        peer,
        newcomer: Mutex::new(Some(newcomer)),
        taker: Mutex::default(),
    });
    let Some((stream, read_ahead)) = converse(stream, &visit, told_to_go, end).await else {
        return;
    };
    drop(of_network);
    let taker = visit.taker.lock().take();
    if let Some(taker) = taker {
        taker(Taken {
            stream,
            read_ahead,
            peer,
            place,
        });
    }
}

/// Serves requests until the connection ends, or until somebody takes it over: then gives it out.
async fn converse(
    stream: HttpStream,
    visit: &Arc<Visit>,
    told_to_go: CancellationToken,
    end: Shutdown,
) -> Option<(HttpStream, Bytes)> {
    let service = {
        let visit = visit.clone();
        service_fn(move |request| -> Pin<Box<dyn Future<Output = _> + Send>> {
            let visit = visit.clone();
            Box::pin(async move { Ok::<_, Infallible>(visit.answer(request).await) })
        })
    };
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEAD_FIELDS_MAX)
        .serve_connection(stream, service);
    let mut is_ending = false;
    let served = loop {
        tokio::select! {
            biased;
            () = told_to_go.cancelled() => return None,
            () = end.cancelled(), if !is_ending => {
                is_ending = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            served = std::future::poll_fn(|cx| connection.poll_without_shutdown(cx)) => break served,
        }
    };
    let parts = connection.into_parts();
    let mut stream = parts.io;
    match served {
        Ok(()) if visit.taker.lock().is_some() => {
            let written = timeout(GOODBYE_TIMEOUT, stream.write_rest()).await;
            return matches!(written, Ok(Ok(()))).then_some((stream, parts.read_buf));
        }
        Ok(()) => {}
        Err(error) => {
            if error.is_timeout() && !parts.read_buf.is_empty() {
                stream.put(answers::HEAD_TOO_SLOW);
            }
            debug!(%error, "HTTP connection ended");
        }
    }
    let deadline = Instant::now() + GOODBYE_TIMEOUT;
    tokio::select! {
        biased;
        () = stream.hang_up() => {}
        () = sleep_until(deadline) => {}
    }
    None
}

impl Visit {
    /// Answers one request, whatever it is.
    async fn answer(self: Arc<Self>, request: Request) -> Response {
        drop(self.newcomer.lock().take());
        let metrics = self.port.metrics.clone();
        let response = self.dispatch(request).await;
        metrics.http.responses.of(response.status().as_u16()).inc();
        response
    }

    async fn dispatch(self: Arc<Self>, request: Request) -> Response {
        let Some(host) = host_of(&request) else {
            return refusal(400, "the request names no host");
        };
        let found = self.port.routes.find(host, request.uri().path());
        let Some(handler) = found.cloned() else {
            return refusal(404, "not found");
        };
        let methods = handler.methods();
        let method = request.method();
        let is_known =
            methods.contains(method) || (*method == Method::HEAD && methods.contains(&Method::GET));
        if *method == Method::OPTIONS && !is_known {
            return answers::options(methods, handler.is_open_to_all_origins());
        }
        if !is_known {
            return answers::method_not_allowed(methods);
        }
        let is_open = handler.is_open_to_all_origins();
        let exchange = Exchange {
            request,
            peer: self.peer,
            encrypted: self.encrypted,
            visit: self,
        };
        let mut response = handler.answer(exchange).await;
        if is_open {
            let any = HeaderValue::from_static("*");
            response
                .headers_mut()
                .insert(ACCESS_CONTROL_ALLOW_ORIGIN, any);
        }
        response
    }
}

/// The host asked for, without a port. `None` if there is none although HTTP/1.1 demands it (RFC 9112 section 3.2), or
/// more than one.
fn host_of(request: &Request) -> Option<&str> {
    let mut fields = request.headers().get_all(HOST).iter();
    let field = match (fields.next(), fields.next()) {
        (None, _) if request.version() < Version::HTTP_11 => "",
        (Some(field), None) => field.to_str().ok()?,
        _ => return None,
    };
    Some(request.uri().host().unwrap_or_else(|| without_port(field)))
}

fn without_port(host: &str) -> &str {
    // The colons of an IPv6 address stand in brackets.
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// A connection's place among those of its network.
struct NetworkPlace {
    port: Arc<Port>,
    /// `None` for this machine.
    network: Option<IpAddr>,
}

impl NetworkPlace {
    /// `None` if the network has [`CONNECTIONS_PER_ADDRESS_MAX`] already.
    fn take(port: &Arc<Port>, peer: IpAddr) -> Option<Self> {
        let is_known = !peer.to_canonical().is_loopback();
        let network = is_known.then(|| client_network(peer));
        if let Some(network) = network {
            let mut by_network = port.by_network.lock();
            let count = by_network.entry(network).or_default();
            if *count >= CONNECTIONS_PER_ADDRESS_MAX {
                return None;
            }
            *count += 1;
        }
        Some(Self {
            port: port.clone(),
            network,
        })
    }
}

impl Drop for NetworkPlace {
    fn drop(&mut self) {
        let Some(network) = self.network else { return };
        let mut by_network = self.port.by_network.lock();
        if let Some(count) = by_network.get_mut(&network) {
            *count -= 1;
            if *count == 0 {
                by_network.remove(&network);
            }
        }
    }
}

#[cfg(test)]
mod tests;
