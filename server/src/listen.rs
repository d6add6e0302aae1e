//! Accept loops: connection limits, and a task for each connection. HTTP has its own in [`http`].
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use daemon::{Shutdown, Tasks};
use prometheus_client::metrics::gauge::Gauge;
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};
use transport::Socket;

use crate::c2s::negotiate::negotiate;
use crate::c2s::session::Session;
use crate::c2s::task::ConnectionTask;
use crate::c2s::{Admission, Connection, End, ListenerSettings, close_gently};
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
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                accepted = self.socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let gauge = &router.metrics.connections;
                    let place = OpenPlace::take(&open, self.settings.connections_max, gauge);
                    let Some(place) = place else {
                        router.metrics.reject(
                            crate::metrics::Surface::Connection,
                            protocol::StreamCondition::ResourceConstraint,
                        );
                        continue;
                    };
                    router.metrics.connections_accepted.inc();
                    let accepted = Accepted {
                        stream,
                        peer,
                        settings: self.settings.clone(),
                        admission: self.admission.clone(),
                    };
                    tasks.spawn("c2s", serve(accepted, router.clone(), place));
                }
                Err(error) => {
                    warn!(%error, "connection could not be accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
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
    fn take(open: &Arc<AtomicUsize>, max: usize, gauge: &Gauge) -> Option<Self> {
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
    let negotiation = async move {
        match accepted.into_connection(router) {
            Ok(conn) => negotiated(conn).await,
            Err(error) => {
                debug!(%error, "socket could not be set up");
                None
            }
        }
    };
    ConnectionTask::new(Box::pin(negotiation), place)
}

/// A client's connection that came by another way, to its end.
fn connection_task(conn: Connection, place: OpenPlace) -> ConnectionTask<OpenPlace> {
    ConnectionTask::new(Box::pin(negotiated(conn)), place)
}

/// A connection from its first byte to its session, if it gets that far.
async fn negotiated(mut conn: Connection) -> Option<Box<Session>> {
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

    use super::*;
    use crate::c2s::newcomers::Newcomers;
    use crate::testing::{self, TestNode};
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
}
