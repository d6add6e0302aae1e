//! RFC 7395, RFC 6455: `mongoose_websocket_handler` takes a connection from HTTP to a client's stream.
//!
//! Behind the handshake there is nothing of HTTP left: the socket and its TLS go into an outlet like those of the
//! listeners for clients, and the same negotiation and the same session follow. Only how elements are put on the wire
//! differs, see [`protocol::framing`].
use std::sync::Arc;

use daemon::Tasks;
use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{Method, StatusCode, Version};
use protocol::Framing;
use protocol::websocket::accept_key;

use super::answers::{empty, refusal};
use super::{Answering, Exchange, Handler, Request, Response, Taken};
use crate::c2s::{Admission, Connection, ListenerSettings};
use crate::listen::connection_task;
use crate::outlet::Outlet;
use crate::router::Router;

/// The subprotocol of RFC 7395.
const SUBPROTOCOL: &str = "xmpp";
/// The version of RFC 6455.
const VERSION: &str = "13";

/// Serves clients over WebSocket.
pub struct WebSocketHandler {
    /// What their connections get.
    pub settings: Arc<ListenerSettings>,
    /// What they share with those of all listeners.
    pub admission: Arc<Admission>,
    /// The node.
    pub router: Arc<Router>,
    /// Where their tasks run: the drain waits for them, as it does for all clients.
    pub tasks: Tasks,
    /// Number of its time-outs with the router.
    pub timing: u8,
}

impl Handler for WebSocketHandler {
    fn methods(&self) -> &'static [Method] {
        const { &[Method::GET] }
    }

    fn answer(self: Arc<Self>, exchange: Exchange) -> Answering {
        Box::pin(async move {
            if self.router.leaving.error().is_some() {
                return refusal(503, "the node lets go of its clients");
            }
            let encrypted = exchange.encrypted;
            let response = handshake(&exchange.request);
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                exchange.take_over(Box::new(move |taken| self.begin(taken, encrypted)));
            }
            response
        })
    }
}

impl WebSocketHandler {
    /// From here on it is a client's connection.
    fn begin(&self, taken: Taken, encrypted: bool) {
        let Taken {
            stream,
            read_ahead,
            peer,
            place,
        } = taken;
        let (socket, tls, plain) = stream.into_parts();
        let router = self.router.clone();
        let outlet = Outlet::with_framing(
            router.sessions.next_id(),
            socket,
            router.ledger.clone(),
            Framing::WebSocket,
            self.timing,
        );
        if let Some(tls) = tls {
            outlet.start_tls(tls);
        }
        let metrics = router.metrics.clone();
        let settings = self.settings.clone();
        let mut conn = Connection::new(outlet, router, settings, peer, self.admission.clone());
        let unparsed = [&*read_ahead, &plain].concat();
        conn.begin_with(unparsed, encrypted);
        metrics.websocket.accepted.inc();
        let place = place.shown_by(&metrics.websocket.connections);
        self.tasks.spawn("c2s", connection_task(conn, place));
    }
}

/// The server's part of the opening handshake (RFC 6455 section 4.2): 101, or why not.
fn handshake(request: &Request) -> Response {
    let headers = request.headers();
    if request.version() < Version::HTTP_11 {
        return refusal(400, "a WebSocket needs HTTP/1.1");
    }
    if !lists(headers, &UPGRADE, "websocket") || !lists(headers, &CONNECTION, "upgrade") {
        let mut response = refusal(426, "this is the place of a WebSocket");
        let upgrade = HeaderValue::from_static("websocket");
        response.headers_mut().insert(UPGRADE, upgrade);
        let connection = HeaderValue::from_static("upgrade");
        response.headers_mut().insert(CONNECTION, connection);
        return response;
    }
    if single(headers, &SEC_WEBSOCKET_VERSION) != Some(VERSION) {
        let mut response = refusal(426, "another version of WebSocket is spoken here");
        let version = HeaderValue::from_static(VERSION);
        response
            .headers_mut()
            .insert(SEC_WEBSOCKET_VERSION, version);
        return response;
    }
    let accept = single(headers, &SEC_WEBSOCKET_KEY).and_then(accept_key);
    let accept = accept.and_then(|accept| HeaderValue::from_str(&accept).ok());
    let Some(accept) = accept else {
        return refusal(400, "the key of the WebSocket is malformed");
    };
    // Of the subprotocols that the client offers, by their exact names.
    let mut offered = values(headers, &SEC_WEBSOCKET_PROTOCOL);
    if !offered.any(|name| name == SUBPROTOCOL) {
        return refusal(400, "the subprotocol must be \"xmpp\"");
    }
    let mut response = empty(101);
    let answer = response.headers_mut();
    answer.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    answer.insert(UPGRADE, HeaderValue::from_static("websocket"));
    answer.insert(SEC_WEBSOCKET_ACCEPT, accept);
    let subprotocol = HeaderValue::from_static(SUBPROTOCOL);
    answer.insert(SEC_WEBSOCKET_PROTOCOL, subprotocol);
    response
}

/// The items of a list, which may stand in several fields.
fn values<'h>(headers: &'h HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'h str> {
    let fields = headers.get_all(name).iter();
    fields
        .filter_map(|field| field.to_str().ok())
        .flat_map(|field| field.split(','))
        .map(str::trim)
}

fn lists(headers: &HeaderMap, name: &HeaderName, item: &str) -> bool {
    values(headers, name).any(|other| other.eq_ignore_ascii_case(item))
}

/// The value of a field that may stand there once.
fn single<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h str> {
    let mut fields = headers.get_all(name).iter();
    match (fields.next(), fields.next()) {
        (Some(field), None) => field.to_str().ok().map(str::trim),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
