//! From the first byte to a component: XEP-0114 section 3.
use std::sync::Arc;
use std::time::Duration;

use protocol::stream::{StreamHeader, secure_id, write_component_header};
use protocol::xml::Limits;
use protocol::{Element, Framing, StreamCondition, StreamError, component, ns};
use tokio::time::{Instant, timeout_at};
use transport::AcceptKind;

use super::session::ComponentSession;
use super::{Component, Refused, Settings};
use crate::c2s::config::TlsMode;
use crate::c2s::{Connection, End, Incoming};
use crate::metrics::Surface;
use crate::outlet::{Order, SessionRef};

/// A component must have proven who it is by then.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(30);

struct Negotiation<'a> {
    conn: &'a mut Connection,
    header_sent: bool,
    deadline: Instant,
}

/// Takes a connection to a component. An error has been told to the other side already, as far as it can be.
pub(super) async fn negotiate(
    conn: &mut Connection,
    settings: Arc<Settings>,
) -> Result<ComponentSession, End> {
    let mut negotiation = Negotiation {
        conn,
        header_sent: false,
        deadline: Instant::now(),
    };
    let result = negotiation.run(settings).await;
    if let Err(end) = &result {
        negotiation.say_goodbye(end);
    }
    result
}

impl Negotiation<'_> {
    async fn run(&mut self, settings: Arc<Settings>) -> Result<ComponentSession, End> {
        if self.conn.listener.tls_mode == TlsMode::Direct {
            self.conn.handshake(AcceptKind::Direct).await?;
        }
        self.deadline = Instant::now() + HANDSHAKE_TIMEOUT;
        let header = match self.next().await? {
            Incoming::Header(header) => header,
            Incoming::Close => return Err(End::Closed),
            _ => return Err(StreamCondition::BadFormat.into()),
        };
        let domain = checked(&header);
        let id = secure_id();
        self.send_header(domain.as_deref().unwrap_or_default(), &id);
        let domain = domain?;
        let element = match self.next().await? {
            Incoming::Element(element) => element,
            Incoming::Close => return Err(End::Closed),
            _ => return Err(StreamCondition::BadFormat.into()),
        };
        self.check_handshake(&element, &domain, &id, &settings)?;
        self.admit(domain, settings, header.lang)
    }

    async fn next(&mut self) -> Result<Incoming, End> {
        let limit = (Instant::now() + self.conn.listener.state_timeout).min(self.deadline);
        let router = self.conn.router.clone();
        tokio::select! {
            biased;
            error = router.leaving.begun() => Err(End::Ordered(error, "drained")),
            next = timeout_at(limit, self.conn.next()) => match next {
                Ok(next) => next,
                Err(_) => Err(StreamCondition::ConnectionTimeout.into()),
            },
        }
    }

    fn send_header(&mut self, from: &str, id: &str) {
        let mut out = Vec::new();
        write_component_header(&mut out, from, id);
        self.conn.send(&out);
        self.header_sent = true;
    }

    /// Whether it knows the secret. Addresses from which it was guessed at too often are not asked again.
    fn check_handshake(
        &mut self,
        element: &Element,
        domain: &str,
        id: &str,
        settings: &Settings,
    ) -> Result<(), End> {
        if element.is("error", ns::STREAM) {
            // Never answered with an error.
            return Err(End::Closed);
        }
        if !element.is("handshake", ns::COMPONENT) {
            return Err(StreamCondition::NotAuthorized.into());
        }
        let (router, peer) = (&self.conn.router, self.conn.peer);
        let secret = settings.secret.reveal();
        let is_right =
            !router.throttle.refuses(peer) && component::is_handshake(&element.text(), id, secret);
        if is_right {
            router.throttle.succeeded(domain, peer);
            router.metrics.components.handshakes.ok.inc();
            return Ok(());
        }
        router.throttle.failed(domain, peer);
        router.metrics.components.handshakes.failed.inc();
        Err(StreamCondition::NotAuthorized.into())
    }

    /// It has the domain from now on, if nobody else has it.
    fn admit(
        &mut self,
        domain: Box<str>,
        settings: Arc<Settings>,
        lang: Option<Box<str>>,
    ) -> Result<ComponentSession, End> {
        let conn = &mut *self.conn;
        if conn.router.has_domain(&domain) {
            return Err(conflict("the domain is one of this server's own"));
        }
        let component = Arc::new(Component {
            domain,
            outlet: conn.outlet.clone(),
            settings,
        });
        let (outlet, batch) = (&conn.outlet, &mut conn.batch);
        let greet = || outlet.push_bytes(b"<handshake/>", batch);
        match conn.router.components.add(&component, greet) {
            Ok(replaced) => {
                if let Some(replaced) = replaced {
                    kick(&replaced.outlet);
                }
            }
            Err(Refused::Taken) => return Err(conflict("another component has the domain")),
            Err(Refused::TooMany) => return Err(StreamCondition::ResourceConstraint.into()),
        }
        outlet.admit(super::OUTLET_BYTES_MAX);
        conn.intake.set_limits(Limits {
            element_bytes_max: conn.listener.stanza_bytes_max,
            ..Limits::AUTHENTICATED
        });
        tracing::info!("component connected");
        let router = conn.router.clone();
        Ok(ComponentSession::new(
            component,
            router,
            &conn.listener,
            lang,
        ))
    }

    /// Tells the other side why, as far as it can be told, and ends the stream.
    fn say_goodbye(&mut self, end: &End) {
        if matches!(end, End::Lost) {
            return;
        }
        let error = end.error(Framing::Stream);
        if !self.header_sent {
            if error.is_none() {
                return;
            }
            self.send_header("", &secure_id());
        }
        let mut out = Vec::new();
        if let Some(error) = error {
            let metrics = &self.conn.router.metrics;
            metrics.reject(Surface::Component, error.condition);
            error.write(&mut out);
        }
        let Connection { outlet, batch, .. } = &mut *self.conn;
        outlet.push_end(&[&out], end.code(), &mut batch.settled);
        batch.flush();
    }
}

/// The domain that the component is, from its header.
fn checked(header: &StreamHeader) -> Result<Box<str>, End> {
    if &*header.content_ns != ns::COMPONENT {
        return Err(StreamCondition::InvalidNamespace.into());
    }
    let domain = header.to.as_deref().unwrap_or_default();
    match protocol::jid::prepare_domain(domain) {
        Ok(domain) => Ok(domain.into()),
        Err(_) => Err(StreamCondition::HostUnknown.into()),
    }
}

fn conflict(text: &'static str) -> End {
    StreamError::new(StreamCondition::Conflict)
        .with_text(text)
        .into()
}

/// Another connection has its place.
fn kick(outlet: &SessionRef) {
    let error = StreamError::new(StreamCondition::Conflict)
        .with_text("another connection has taken the domain");
    outlet.order(Order::Close(error, "replaced"));
}
