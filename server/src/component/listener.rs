//! The port for components: who connects becomes a component, or is gone.
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use daemon::{Shutdown, Tasks};
use protocol::StreamCondition;
use tokio::net::{TcpListener, TcpStream};
use transport::Socket;

use super::Settings;
use super::negotiate::negotiate;
use crate::c2s::{Admission, Connection, End, ListenerSettings, close_gently};
use crate::listen::{OpenPlace, accept_each, client_address};
use crate::metrics::Surface;
use crate::outlet::Outlet;
use crate::router::Router;

/// A bound listener of components.
pub struct ComponentSocket {
    /// The socket.
    pub socket: TcpListener,
    /// What its connections get, as those of clients do.
    pub settings: Arc<ListenerSettings>,
    /// What components get beside that.
    pub component: Arc<Settings>,
    /// What they share with those of all other listeners.
    pub admission: Arc<Admission>,
}

impl ComponentSocket {
    /// Where it listens.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts until the node is stopped.
    pub async fn serve(self, router: Arc<Router>, tasks: Tasks, shutdown: Shutdown) {
        let open = Arc::new(AtomicUsize::new(0));
        accept_each(&self.socket, &shutdown, |stream, peer| {
            let gauge = &router.metrics.components.connections;
            let place = OpenPlace::take(&open, self.settings.connections_max, gauge);
            let Some(place) = place else {
                let condition = StreamCondition::ResourceConstraint;
                return router.metrics.reject(Surface::Component, condition);
            };
            let accepted = Accepted {
                stream,
                peer,
                settings: self.settings.clone(),
                component: self.component.clone(),
                admission: self.admission.clone(),
                _place: place,
            };
            tasks.spawn("component", Box::pin(serve(accepted, router.clone())));
        })
        .await;
    }
}

/// A connection that nothing has been done with.
struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    settings: Arc<ListenerSettings>,
    component: Arc<Settings>,
    admission: Arc<Admission>,
    _place: OpenPlace,
}

/// One connection from accept to end.
async fn serve(accepted: Accepted, router: Arc<Router>) {
    let Accepted {
        stream,
        peer,
        settings,
        component,
        admission,
        _place,
    } = accepted;
    let proxy = settings.proxy_protocol.as_ref();
    let address = client_address(&stream, peer, proxy, &router.metrics);
    let address = tokio::select! {
        biased;
        _ = router.leaving.begun() => return,
        address = address => address,
    };
    let Some(peer) = address else { return };
    let socket = transport::socket::keep_alive(&stream);
    let socket = match socket.and_then(|()| Socket::from_accepted(stream)) {
        Ok(socket) => socket,
        Err(error) => return tracing::debug!(%error, "socket could not be set up"),
    };
    let outlet = Outlet::new(router.sessions.next_id(), socket, router.ledger.clone());
    let mut conn = Connection::new(outlet, router, settings, peer.ip(), admission);
    match negotiate(&mut conn, component).await {
        Ok(session) => {
            let unparsed = conn.take_unparsed();
            Box::pin(session.run(conn.into_intake(), unparsed)).await;
        }
        Err(end) => {
            tracing::debug!(?end, "connection ended before it was a component");
            if matches!(end, End::Lost) {
                conn.outlet.close();
            } else {
                close_gently(&conn.outlet).await;
            }
        }
    }
}
