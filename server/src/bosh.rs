//! XEP-0124: Bidirectional-streams Over Synchronous HTTP, and XEP-0206: XMPP Over BOSH. `service_bosh` and
//! `mongoose_bosh_handler`.
//!
//! A session of BOSH is a connection like any other: [`transport::pipe`] stands in for its socket, and everything behind
//! it is the code that clients on TCP have. [`session`] is what stands at the other end of the pipe.
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use ahash::RandomState;
use hashbrown::HashMap;
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{CACHE_CONTROL, HeaderValue};
use parking_lot::Mutex;
use protocol::bosh::{
    BODY_BYTES_MAX, Condition, Created, Ending, Request, Response as Body, Terms, WAIT_SECS_MAX,
    Window,
};
use transport::Socket;

use crate::c2s::config::TlsMode;
use crate::c2s::task::ConnectionTask;
use crate::c2s::{Admission, Connection, ListenerSettings};
use crate::listen::http::{Answering, Exchange, Handler, Response, answers};
use crate::listen::negotiated;
use crate::outlet::Outlet;
use crate::router::Router;

pub mod config;
pub mod session;

use session::{Answer, BoshSession, FIRST_TICKET};

/// Sessions of the node, those that are over and still remembered included.
pub const SESSIONS_MAX: usize = 100_000;
/// How often it is looked which clients have stayed away for too long.
const SWEEP: Duration = Duration::from_secs(1);
/// Longest time in one state before bind: there may be a poll in between.
const STATE_TIMEOUT: Duration = Duration::from_secs(30);
/// The largest stanza of a client, bytes; as on TCP by default.
const STANZA_BYTES_MAX: u32 = 65_536;
/// What answers are.
const CONTENT_TYPE: &str = "text/xml; charset=utf-8";

/// What the configuration says.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Seconds without a request that end a session; `None` is no end.
    pub inactivity_secs: Option<u32>,
    /// Seconds that a request is held at most.
    pub wait_max_secs: u32,
    /// Whether we say what we have received.
    pub server_acks: bool,
    /// Seconds that a client may stay away if it announces it.
    pub pause_max_secs: u32,
    /// Whose domains may be used; `None`: all.
    pub host_types: Option<Vec<Box<str>>>,
    /// Bytes that a client may send before it has logged in.
    pub bytes_before_login_max: usize,
}

/// All sessions of the node.
pub struct Bosh {
    settings: Settings,
    router: Arc<Router>,
    admission: Arc<Admission>,
    /// For the streams of sessions that were asked for over TLS.
    over_tls: Arc<ListenerSettings>,
    /// For those of others.
    in_clear: Arc<ListenerSettings>,
    sessions: Mutex<HashMap<Box<str>, Arc<BoshSession>, RandomState>>,
}

impl Bosh {
    /// No session yet.
    pub fn new(settings: Settings, router: Arc<Router>, admission: Arc<Admission>) -> Arc<Self> {
        // TLS ends below the stream, as it does at a balancer: passwords may be sent, and nothing can be bound to it.
        let listener = |tls_at_balancer: bool| ListenerSettings {
            tls_mode: TlsMode::None,
            tls: None,
            tls_at_balancer,
            proxy_protocol: None,
            state_timeout: STATE_TIMEOUT,
            stanza_bytes_max: STANZA_BYTES_MAX,
            access: "all".into(),
            allowed_methods: None,
            shaper_rate: None,
            backwards_compatible_session: true,
            bytes_before_login_max: settings.bytes_before_login_max,
            connections_max: SESSIONS_MAX,
        };
        Arc::new(Self {
            over_tls: Arc::new(listener(true)),
            in_clear: Arc::new(listener(false)),
            settings,
            router,
            admission,
            sessions: Mutex::default(),
        })
    }

    /// Ends the sessions of clients that have stayed away for too long. Runs until it is dropped.
    pub async fn sweep(self: Arc<Self>) {
        let mut interval = tokio::time::interval(SWEEP);
        loop {
            interval.tick().await;
            let expired: Vec<_> = {
                let mut sessions = self.sessions.lock();
                let expired = sessions.extract_if(|_, session| session.is_expired());
                expired.map(|(_, session)| session).collect()
            };
            for session in expired {
                session.expire();
            }
        }
    }

    /// How many sessions there are.
    pub fn count(&self) -> usize {
        self.sessions.lock().len()
    }

    /// Answers the body of a request.
    async fn answer(self: &Arc<Self>, body: &[u8], peer: IpAddr, encrypted: bool) -> Arc<[u8]> {
        let metrics = &self.router.metrics.bosh;
        let answer = match Request::parse(body) {
            Err(condition) => Answer::Broken(condition),
            Ok(request) => Box::pin(self.ask(request, peer, encrypted)).await,
        };
        match answer {
            Answer::Body(bytes) => {
                metrics.requests.answered.inc();
                bytes
            }
            Answer::Repeated(bytes) => {
                metrics.requests.repeated.inc();
                bytes
            }
            // Nobody reads it.
            Answer::Replaced => {
                metrics.requests.replaced.inc();
                Body::default().to_bytes().into()
            }
            Answer::Broken(condition) => {
                metrics.requests.refused.inc();
                metrics.refusals.of(condition.name()).inc();
                ended(condition)
            }
        }
    }

    async fn ask(self: &Arc<Self>, request: Request, peer: IpAddr, encrypted: bool) -> Answer {
        let Some(sid) = &request.sid else {
            let rid = request.rid;
            return match self.create(request, peer, encrypted) {
                Ok(session) => session.begin(rid).await,
                Err(condition) => Answer::Broken(condition),
            };
        };
        let session = self.sessions.lock().get(sid).cloned();
        match session {
            Some(session) => session.ask(request).await,
            // Who let go of its clients has forgotten some of them.
            None if self.router.leaving.error().is_some() => {
                Answer::Broken(Condition::SystemShutdown)
            }
            None => Answer::Broken(Condition::ItemNotFound),
        }
    }

    fn create(
        self: &Arc<Self>,
        first: Request,
        peer: IpAddr,
        encrypted: bool,
    ) -> Result<Arc<BoshSession>, Condition> {
        if self.router.leaving.error().is_some() {
            return Err(Condition::SystemShutdown);
        }
        let domain = self.domain(&first)?;
        if first.is_urgent() {
            // Neither an end nor a pause before the beginning.
            return Err(Condition::BadRequest);
        }
        let tasks = self.router.tasks().ok_or(Condition::SystemShutdown)?;
        let settings = &self.settings;
        let terms = Terms::agree(
            &first,
            settings.wait_max_secs,
            settings.inactivity_secs,
            settings.pause_max_secs,
            settings.server_acks,
        );
        let sid: Box<str> = protocol::stream::secure_id().into();
        let created = Created {
            sid: sid.clone(),
            wait_secs: terms.wait_secs,
            requests: terms.requests(),
            hold: terms.hold,
            inactivity_secs: terms.inactivity_secs,
            polling_secs: terms.polling_secs(),
            pause_max_secs: terms.pause_max_secs,
            ver: first.ver,
            from: domain,
            authid: None,
        };
        let window = Window::new(terms, &first, FIRST_TICKET, 0);
        let router = self.router.clone();
        let (near, far) = transport::pipe();
        let outlet = Outlet::new(
            router.sessions.next_id(),
            Socket::from_pipe(near),
            router.ledger.clone(),
        );
        let session = Arc::new(BoshSession::new(
            outlet.clone(),
            far,
            window,
            created,
            &first,
        ));
        {
            let mut sessions = self.sessions.lock();
            if sessions.len() >= SESSIONS_MAX {
                return Err(Condition::RemoteConnectionFailed);
            }
            sessions.insert(sid, session.clone());
        }
        let listener = if encrypted {
            self.over_tls.clone()
        } else {
            self.in_clear.clone()
        };
        let conn = Connection::new(outlet, router, listener, peer, self.admission.clone());
        let place = Place::take(&session, &self.router);
        let task = ConnectionTask::new(Box::pin(negotiated(conn)), place);
        tasks.spawn("bosh", task);
        Ok(session)
    }

    /// The domain that is asked for, in normal form, if it may be used over BOSH.
    fn domain(&self, first: &Request) -> Result<Box<str>, Condition> {
        let to = first.to.as_deref().filter(|to| !to.is_empty());
        let to = to.ok_or(Condition::ImproperAddressing)?;
        let domain =
            protocol::jid::prepare_domain(to).map_err(|_| Condition::ImproperAddressing)?;
        let host = self.router.host(&domain).ok_or(Condition::HostUnknown)?;
        let may_use = match &self.settings.host_types {
            None => true,
            Some(host_types) => host_types.contains(&host.host_type),
        };
        if may_use {
            Ok(domain.into())
        } else {
            Err(Condition::HostUnknown)
        }
    }
}

/// A `<body/>` that ends a session, or says that there is none.
fn ended(condition: Condition) -> Arc<[u8]> {
    let body = Body {
        ending: Some(Ending(Some(condition))),
        ..Body::default()
    };
    body.to_bytes().into()
}

/// The stream of a session runs; tells it when that is over.
struct Place {
    session: Weak<BoshSession>,
    router: Arc<Router>,
}

impl Place {
    fn take(session: &Arc<BoshSession>, router: &Arc<Router>) -> Self {
        router.metrics.bosh.sessions.inc();
        Self {
            session: Arc::downgrade(session),
            router: router.clone(),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.router.metrics.bosh.sessions.dec();
        if let Some(session) = self.session.upgrade() {
            session.stream_ended();
        }
    }
}

/// `mongoose_bosh_handler`.
pub struct BoshHandler(
    /// The sessions.
    pub Arc<Bosh>,
);

impl Handler for BoshHandler {
    fn methods(&self) -> &'static [Method] {
        const { &[Method::POST] }
    }

    /// No cookie is read and no password is asked for by HTTP: a page can do nothing here in somebody else's name.
    fn is_open_to_all_origins(&self) -> bool {
        true
    }

    fn answer(self: Arc<Self>, exchange: Exchange) -> Answering {
        Box::pin(async move {
            let Exchange {
                request,
                peer,
                encrypted,
                ..
            } = exchange;
            let bytes = match answers::read_body(request, BODY_BYTES_MAX).await {
                Ok(body) => self.0.answer(&body, peer, encrypted).await,
                Err(refusal) => return refusal,
            };
            let mut response: Response = answers::text(200, CONTENT_TYPE, Bytes::from_owner(bytes));
            let no_store = HeaderValue::from_static("no-store");
            response.headers_mut().insert(CACHE_CONTROL, no_store);
            response
        })
    }
}

impl Settings {
    /// From the section of the configuration.
    pub fn new(config: &config::BoshService, bytes_before_login_max: usize) -> Self {
        let secs = |of: daemon::config::Seconds| u32::try_from(of.0).unwrap_or(u32::MAX);
        Self {
            inactivity_secs: config.inactivity.finite().map(secs),
            wait_max_secs: config.max_wait.finite().map_or(WAIT_SECS_MAX, secs),
            server_acks: config.server_acks,
            pause_max_secs: secs(config.max_pause),
            host_types: config
                .host_types
                .as_ref()
                .map(|names| names.iter().map(|name| name.as_str().into()).collect()),
            bytes_before_login_max,
        }
    }
}

#[cfg(test)]
mod tests;
