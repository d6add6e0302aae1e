//! Accept loops: connection limits, and a task for each connection. HTTP has its own in [`http`].
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use daemon::{Shutdown, Tasks};
use prometheus_client::metrics::gauge::Gauge;
use protocol::StreamCondition;
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};
use transport::{ProxyProtocol, Socket};

use crate::c2s::negotiate::negotiate;
use crate::c2s::session::Session;
use crate::c2s::task::ConnectionTask;
use crate::c2s::{Admission, Connection, End, ListenerSettings, close_gently};
use crate::metrics::{Metrics, Surface};
use crate::outlet::Outlet;
use crate::router::Router;

pub mod config;
pub mod http;

/// Wait after an accept that failed for want of descriptors or memory, so that the loop does not spin.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A bound listener of clients.
pub struct ClientListener {
    /// The socket.
    pub socket: TcpListener,
    /// What its connections get.
    pub settings: Arc<ListenerSettings>,
    /// What they share with those of all other listeners.
    pub admission: Arc<Admission>,
}

impl ClientListener {
    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts until the node is stopped.
    pub async fn serve(self, router: Arc<Router>, tasks: Tasks, shutdown: Shutdown) {
        let open = Arc::new(AtomicUsize::new(0));
        accept_each(&self.socket, &shutdown, |stream, peer| {
            let gauge = &router.metrics.connections;
            let place = OpenPlace::take(&open, self.settings.connections_max, gauge);
            let Some(place) = place else {
                let condition = StreamCondition::ResourceConstraint;
                return router.metrics.reject(Surface::Connection, condition);
            };
            router.metrics.connections_accepted.inc();
            let accepted = Accepted {
                stream,
                peer,
                settings: self.settings.clone(),
                admission: self.admission.clone(),
            };
            tasks.spawn("c2s", serve(accepted, router.clone(), place));
        })
        .await;
    }
}

/// Accepts until `end` begins, and hands on each connection with its address.
pub(crate) async fn accept_each(
    socket: &TcpListener,
    end: &Shutdown,
    mut take: impl FnMut(TcpStream, SocketAddr),
) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = end.cancelled() => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => take(stream, peer),
            Err(error) => {
                warn!(%error, "connection could not be accepted");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// A connection's place among those that its listener may have.
pub struct OpenPlace {
    open: Arc<AtomicUsize>,
    gauge: Gauge,
}

impl OpenPlace {
    /// One of `max` places, shown by `gauge`. `None` if all are taken; only the accept loop takes any.
    pub(crate) fn take(open: &Arc<AtomicUsize>, max: usize, gauge: &Gauge) -> Option<Self> {
        if open.load(Ordering::Relaxed) >= max {
            return None;
        }
        open.fetch_add(1, Ordering::Relaxed);
        gauge.inc();
        Some(Self {
            open: open.clone(),
            gauge: gauge.clone(),
        })
    }

    /// The same place, shown by another gauge from now on.
    fn shown_by(mut self, gauge: &Gauge) -> Self {
        gauge.inc();
        std::mem::replace(&mut self.gauge, gauge.clone()).dec();
        self
    }
}

impl Drop for OpenPlace {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
        self.gauge.dec();
    }
}

/// A connection that nothing has been done with.
struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    settings: Arc<ListenerSettings>,
    admission: Arc<Admission>,
}

impl Accepted {
    fn into_connection(self, router: Arc<Router>) -> io::Result<Connection> {
        let Self {
            stream,
            peer,
            settings,
            admission,
        } = self;
        let socket = Socket::from_accepted(stream)?;
        let outlet = Outlet::new(router.sessions.next_id(), socket, router.ledger.clone());
        Ok(Connection::new(
            outlet,
            router,
            settings,
            peer.ip(),
            admission,
        ))
    }
}

/// One connection from accept to end.
fn serve(accepted: Accepted, router: Arc<Router>, place: OpenPlace) -> ConnectionTask<OpenPlace> {
    let begun = async {
        match accepted_connection(accepted, router).await {
            Some(conn) => Box::pin(negotiated(conn)).await,
            None => None,
        }
    };
    ConnectionTask::new(Box::pin(begun), place)
}

/// A client's connection that came by another way, to its end.
fn connection_task(conn: Connection, place: OpenPlace) -> ConnectionTask<OpenPlace> {
    ConnectionTask::new(Box::pin(negotiated(conn)), place)
}

/// The client's address: the connection's, or what a balancer announces where one has to. `None` if the connection is
/// to be closed.
pub(crate) async fn client_address(
    stream: &TcpStream,
    peer: SocketAddr,
    proxy: Option<&ProxyProtocol>,
    metrics: &Metrics,
) -> Option<SocketAddr> {
    let Some(proxy) = proxy else {
        return Some(peer);
    };
    match proxy.accept(stream, peer).await {
        Ok(client) => Some(client),
        Err(refused) => {
            debug!(%refused, "connection was not announced");
            metrics.proxy_refused.of(refused.label()).inc();
            None
        }
    }
}

/// A connection that nothing but a PROXY header was read from.
async fn accepted_connection(mut accepted: Accepted, router: Arc<Router>) -> Option<Connection> {
    let proxy = accepted.settings.proxy_protocol.as_ref();
    let address = client_address(&accepted.stream, accepted.peer, proxy, &router.metrics);
    accepted.peer = tokio::select! {
        biased;
        _ = router.leaving.begun() => return None,
        address = address => address?,
    };
    match accepted.into_connection(router) {
        Ok(conn) => Some(conn),
        Err(error) => {
            debug!(%error, "socket could not be set up");
            None
        }
    }
}

/// A connection from its first byte to its session, if it gets that far.
pub(crate) async fn negotiated(mut conn: Connection) -> Option<Box<Session>> {
    match negotiate(&mut conn).await {
        Ok(session) => {
            let unparsed = conn.take_unparsed();
            Box::pin(session.begin(conn.into_intake(), unparsed)).await
        }
        Err(end) => {
            debug!(?end, "connection ended before login");
            if matches!(end, End::Lost) {
                conn.outlet.close();
            } else {
                close_gently(&conn.outlet).await;
            }
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use protocol::ns;
    use protocol::proxy::Network;

    use super::*;
    use crate::c2s::newcomers::{NEWCOMERS_PER_ADDRESS_MAX, Newcomers};
    use crate::testing::{self, Client, Heard, TestNode};
    use crate::turns::Turns;

    /// There is one for every session, while it is idle too.
    #[tokio::test]
    async fn the_task_of_a_session_is_small() {
        let node = TestNode::start().await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (client, accepted) = tokio::join!(client, listener.accept());
        let (stream, peer) = accepted.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let listener = testing::plan(&dir).listeners.remove(0);
        let accepted = Accepted {
            stream,
            peer,
            settings: Arc::new(listener.settings),
            admission: Arc::new(Admission {
                newcomers: Newcomers::new(1),
                handshakes: Turns::new(1, 1),
            }),
        };
        let place = OpenPlace::take(&Arc::default(), 1, &node.router.metrics.connections).unwrap();
        let task = serve(accepted, node.router.clone(), place);
        println!(
            "task {} session {}",
            size_of_val(&task),
            size_of::<Session>()
        );
        assert!(size_of_val(&task) <= 48);
        assert!(size_of::<Session>() <= 192);
        drop(client);
    }

    const ANNOUNCED: &str = "PROXY TCP4 192.0.2.1 198.51.100.2 56324 5222\r\n";

    async fn node_behind(networks: &[Network]) -> TestNode {
        TestNode::start_with(|plan| {
            plan.listeners[0].settings.proxy_protocol = Some(ProxyProtocol::new(networks));
        })
        .await
    }

    /// Security case K19: from here all addresses are one, for which no limit of an address holds.
    #[tokio::test]
    async fn k19_limits_hold_for_the_announced_address() {
        let node = node_behind(&Network::LOOPBACK).await;
        let mut clients = Vec::new();
        for _ in 0..=NEWCOMERS_PER_ADDRESS_MAX {
            let mut client = Client::dial(node.address).await;
            client.send(ANNOUNCED).await;
            client.open().await;
            clients.push(client);
        }
        assert_eq!(clients[0].stream_error().await, "policy-violation");
        let mut other = Client::dial(node.address).await;
        other
            .send("PROXY TCP6 2001:db8::1 2001:db8::2 1 5222\r\n")
            .await;
        other.open().await;
        clients[1].send("</stream:stream>").await;
        assert!(matches!(clients[1].next().await, Heard::Close));
        node.stop().await;
    }

    /// Security cases K17 and K18.
    #[tokio::test]
    async fn k17_k18_connections_that_are_not_announced_are_closed_and_counted() {
        let node = node_behind(&Network::LOOPBACK).await;
        let refused = |node: &TestNode, reason| node.router.metrics.proxy_refused.of(reason).get();
        let mut client = Client::dial(node.address).await;
        client.send(&testing::header("localhost")).await;
        assert!(matches!(client.next().await, Heard::End), "not a byte");
        assert_eq!(refused(&node, "missing"), 1);
        // A check of the port.
        let mut client = Client::dial(node.address).await;
        client.half_close().await;
        assert!(matches!(client.next().await, Heard::End));
        assert_eq!(refused(&node, "ended"), 1);
        node.stop().await;

        let node = node_behind(&["10.0.0.0/8".parse().unwrap()]).await;
        let mut client = Client::dial(node.address).await;
        client.send(ANNOUNCED).await;
        assert!(matches!(client.next().await, Heard::End));
        assert_eq!(refused(&node, "untrusted"), 1);
        node.stop().await;
    }

    /// The balancer's own check, with and without a stream.
    #[tokio::test]
    async fn a_balancer_may_speak_for_itself() {
        let node = node_behind(&Network::LOOPBACK).await;
        for header in [
            "PROXY UNKNOWN\r\n",
            "\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
            "\r\n\r\n\0\r\nQUIT\n\x21\0\0\0",
        ] {
            let mut client = Client::dial(node.address).await;
            client.send(header).await;
            client.open().await;
            client.send("</stream:stream>").await;
            assert!(matches!(client.next().await, Heard::Close));
        }
        node.stop().await;
    }

    /// Security case K20: what the balancer says of TLS is not what counts.
    #[tokio::test]
    async fn where_a_balancer_ends_tls_nothing_is_bound_to_it() {
        let mechanisms = async |at_balancer: bool| {
            let node = TestNode::start_with(|plan| {
                plan.listeners[0].settings.tls_at_balancer = at_balancer;
            })
            .await;
            let mut client = Client::dial(node.address).await;
            client.open().await;
            let features = client.features.take().unwrap();
            node.stop().await;
            assert!(features.child("starttls", ns::TLS).is_none());
            let binding = features.child("sasl-channel-binding", ns::SASL_CHANNEL_BINDING);
            assert!(binding.is_none());
            let mechanisms = features.child("mechanisms", ns::SASL).unwrap();
            let names = mechanisms.elements().map(|name| name.text().into_owned());
            names.collect::<Vec<_>>()
        };
        let without = mechanisms(false).await;
        assert_eq!(without, ["SCRAM-SHA-1", "ANONYMOUS"]);
        let with = mechanisms(true).await;
        assert_eq!(with, ["SCRAM-SHA-1", "PLAIN", "ANONYMOUS"]);
    }
}
