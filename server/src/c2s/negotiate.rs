//! From the first byte to a bound session: RFC 6120 sections 4 to 7.
//!
//! `Connected -> (TLS) -> authenticated -> bound`, one stream after the other on the same connection. Nothing that is
//! offered is refused, nothing that is not offered is accepted: [`Stage`] decides both.
use std::sync::Arc;
use std::time::Duration;

use protocol::stream::{ResponseHeader, StreamHeader, secure_id};
use protocol::xml::Place;
use protocol::{
    BareJid, Element, SaslFailure, StanzaCondition, StanzaError, StreamCondition, StreamError, ns,
};
use tokio::time::{Instant, timeout_at};
use transport::{AcceptKind, Handshake};

use super::config::TlsMode;
use super::session::Session;
use super::{Connection, End, Incoming};
use crate::auth::mechanisms::{Mechanism, Offer};
use crate::host::Host;

mod bind;
mod register;
mod sasl;

/// Login must be finished by then.
const LOGIN_TIMEOUT: Duration = Duration::from_secs(30);
/// A resource must be bound by then.
const BIND_TIMEOUT: Duration = Duration::from_secs(60);
/// Attempts to log in on one stream (RFC 6120 section 6.4.5 asks for two to five).
const ATTEMPTS_MAX: u32 = 3;
/// Attempts to bind to TLS in a way that we do not know: one for each mechanism that binds. They are no guesses, and the
/// client has to get to a mechanism that does not bind. One more ends the stream.
const BINDINGS_REFUSED_MAX: u32 = 5;

/// A connection on its way to a session.
pub(super) struct Negotiation<'a> {
    conn: &'a mut Connection,
    host: Option<Arc<Host>>,
    header_sent: bool,
    handshake: Option<Handshake>,
    /// By us, or by a balancer in front.
    encrypted: bool,
    /// Who has logged in.
    account: Option<BareJid>,
    /// When the last attempt to log in was begun.
    login_begun: Instant,
    attempts: u32,
    bindings_refused: u32,
    /// Why the attempt fails that is being refused.
    binds_otherwise: bool,
    /// When this part of the negotiation must be over. Not a time-out around it all: see [`Negotiation::next`].
    deadline: Instant,
    lang: Option<Box<str>>,
    /// The `to` of the first header; later ones must be the same (security case N12).
    asked: Option<Box<str>>,
}

/// What an element of the stream's level led to.
enum Step {
    /// The same stream goes on.
    Stay,
    /// A new stream is expected.
    Restart,
    /// There is a session.
    Bound(Box<Session>),
}

/// Takes a connection to a session. An error has been told to the client already, as far as it can be.
pub async fn negotiate(conn: &mut Connection) -> Result<Box<Session>, End> {
    let encrypted = conn.is_encrypted_below || conn.listener.tls_at_balancer;
    let mut negotiation = Negotiation {
        conn,
        host: None,
        header_sent: false,
        handshake: None,
        encrypted,
        account: None,
        login_begun: Instant::now(),
        attempts: 0,
        bindings_refused: 0,
        binds_otherwise: false,
        deadline: Instant::now(),
        lang: None,
        asked: None,
    };
    let result = negotiation.run().await;
    if let Err(end) = &result {
        negotiation.say_goodbye(end);
    }
    result
}

impl Negotiation<'_> {
    async fn run(&mut self) -> Result<Box<Session>, End> {
        if self.conn.listener.tls_mode == TlsMode::Direct {
            self.handshake(AcceptKind::Direct).await?;
        }
        self.deadline = Instant::now() + LOGIN_TIMEOUT;
        self.until_login().await?;
        self.deadline = Instant::now() + BIND_TIMEOUT;
        self.until_bound().await
    }

    async fn until_login(&mut self) -> Result<(), End> {
        while self.account.is_none() {
            self.open_stream().await?;
            while let Step::Stay = self.before_login().await? {}
        }
        Ok(())
    }

    async fn until_bound(&mut self) -> Result<Box<Session>, End> {
        self.open_stream().await?;
        loop {
            if let Step::Bound(session) = self.after_login().await? {
                return Ok(session);
            }
        }
    }

    /// The next item, within the time that one state may take. All waiting for the client is done here, so that
    /// whatever follows from an item is not cut in its middle: a session that stands in the table has a task.
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

    // ---- streams

    async fn open_stream(&mut self) -> Result<(), End> {
        // An error before the client's new header needs a new one of ours too.
        self.header_sent = false;
        let header = match self.next().await? {
            Incoming::Header(header) => header,
            Incoming::Close => return Err(End::Closed),
            _ => return Err(StreamCondition::BadFormat.into()),
        };
        let host = self.check_header(&header);
        self.send_header(&header);
        let host = host?;
        self.lang = header.lang.clone();
        self.host = Some(host);
        self.send_features();
        Ok(())
    }

    fn check_header(&mut self, header: &StreamHeader) -> Result<Arc<Host>, End> {
        if &*header.content_ns != ns::CLIENT {
            return Err(StreamCondition::InvalidNamespace.into());
        }
        match header.version.as_deref().map(major_version) {
            Some(Some(major)) if major >= 1 => {}
            _ => return Err(StreamCondition::UnsupportedVersion.into()),
        }
        let Some(to) = header.to.as_deref() else {
            return Err(StreamCondition::HostUnknown.into());
        };
        let domain = protocol::jid::prepare_domain(to).map_err(|_| StreamCondition::HostUnknown)?;
        if self.asked.as_deref().is_some_and(|asked| asked != domain) {
            return Err(StreamCondition::HostUnknown.into());
        }
        let host = self.conn.router.host(&domain);
        self.asked = Some(domain.into());
        host.ok_or_else(|| StreamCondition::HostUnknown.into())
    }

    /// Who speaks in our header: the domain asked for, so that nobody learns of another one.
    fn speaker(&self) -> &str {
        self.asked
            .as_deref()
            .unwrap_or_else(|| self.conn.router.anonymous_speaker())
    }

    fn send_header(&mut self, header: &StreamHeader) {
        let router = self.conn.router.clone();
        let from = self.speaker().to_owned();
        let id = secure_id();
        let to = header
            .from
            .as_deref()
            .and_then(|from| protocol::Jid::parse(from).ok());
        let to = to.as_ref().map(protocol::Jid::as_str);
        let header = ResponseHeader {
            from: &from,
            to,
            id: &id,
            lang: router.language(),
        };
        self.conn.send_header(&header);
        self.header_sent = true;
    }

    fn offer(&self) -> Offer {
        Offer {
            encrypted: self.encrypted,
            starttls_first: self.conn.listener.tls_mode == TlsMode::StartTlsRequired
                && !self.encrypted,
            exporter: self
                .handshake
                .as_ref()
                .is_some_and(|h| h.exporter.is_some()),
            end_point: self
                .handshake
                .as_ref()
                .is_some_and(|h| h.end_point.is_some()),
            named: !self.named().is_empty(),
        }
    }

    /// The accounts of the stream's domain that the client's certificate names.
    fn named(&self) -> Vec<BareJid> {
        let certificate = self.handshake.as_ref().and_then(|h| h.client.as_deref());
        match (certificate, &self.host, &self.asked) {
            (Some(certificate), Some(host), Some(domain)) => host.auth.named(certificate, domain),
            _ => Vec::new(),
        }
    }

    fn may_start_tls(&self) -> bool {
        !self.encrypted
            && matches!(
                self.conn.listener.tls_mode,
                TlsMode::StartTls | TlsMode::StartTlsRequired
            )
    }

    fn send_features(&mut self) {
        let mut out = b"<stream:features>".to_vec();
        if self.account.is_some() {
            self.features_after_login(&mut out);
        } else {
            self.features_before_login(&mut out);
        }
        out.extend_from_slice(b"</stream:features>");
        self.conn.send(&out);
    }

    fn features_before_login(&self, out: &mut Vec<u8>) {
        if self.may_start_tls() {
            out.extend_from_slice(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'>");
            if self.conn.listener.tls_mode == TlsMode::StartTlsRequired {
                out.extend_from_slice(b"<required/>");
            }
            out.extend_from_slice(b"</starttls>");
        }
        if self.registration().is_some() {
            out.extend_from_slice(b"<register xmlns='http://jabber.org/features/iq-register'/>");
        }
        let offer = self.offer();
        let mechanisms = self.mechanisms();
        if mechanisms.is_empty() {
            return;
        }
        out.extend_from_slice(b"<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>");
        for mechanism in &mechanisms {
            out.extend_from_slice(b"<mechanism>");
            out.extend_from_slice(mechanism.name().as_bytes());
            out.extend_from_slice(b"</mechanism>");
        }
        out.extend_from_slice(b"</mechanisms>");
        if mechanisms.iter().any(|mechanism| mechanism.binds_channel()) {
            // XEP-0440: exactly what is accepted.
            out.extend_from_slice(b"<sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'>");
            if offer.exporter {
                out.extend_from_slice(b"<channel-binding type='tls-exporter'/>");
            }
            out.extend_from_slice(b"<channel-binding type='tls-server-end-point'/>");
            out.extend_from_slice(b"</sasl-channel-binding>");
        }
    }

    fn features_after_login(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>");
        if self.conn.listener.backwards_compatible_session {
            out.extend_from_slice(
                b"<session xmlns='urn:ietf:params:xml:ns:xmpp-session'><optional/></session>",
            );
        }
        let Some(host) = &self.host else { return };
        for feature in &host.stream_features {
            feature.write(out, ns::CLIENT);
        }
    }

    // ---- elements

    async fn before_login(&mut self) -> Result<Step, End> {
        let element = match self.next().await? {
            Incoming::Element(element) => element,
            Incoming::Close => return Err(End::Closed),
            _ => return Err(StreamCondition::BadFormat.into()),
        };
        match (element.name(), element.ns()) {
            ("starttls", ns::TLS) => self.start_tls().await,
            ("auth", ns::SASL) => self.authenticate(&element).await,
            ("response", ns::SASL) => self.fail_login(SaslFailure::NotAuthorized),
            ("abort", ns::SASL) => self.fail_login(SaslFailure::Aborted),
            ("resume" | "enable", ns::STREAM_MANAGEMENT) => {
                self.conn.send(&super::session::failed(
                    StanzaCondition::UnexpectedRequest,
                    None,
                ));
                Ok(Step::Stay)
            }
            ("iq", ns::CLIENT) if element.child("query", ns::REGISTER).is_some() => {
                match self.registration() {
                    Some(registration) => Box::pin(self.register(&registration, &element)).await,
                    None => Err(StreamCondition::NotAuthorized.into()),
                }
            }
            ("message" | "presence" | "iq", ns::CLIENT) => {
                Err(StreamCondition::NotAuthorized.into())
            }
            // The client's stream is over; an error is not answered with an error.
            ("error", ns::STREAM) => Err(End::Closed),
            _ => Err(StreamCondition::UnsupportedStanzaType.into()),
        }
    }

    async fn after_login(&mut self) -> Result<Step, End> {
        let element = match self.next().await? {
            Incoming::Element(element) => element,
            Incoming::Close => return Err(End::Closed),
            _ => return Err(StreamCondition::BadFormat.into()),
        };
        match (element.name(), element.ns()) {
            ("iq", ns::CLIENT) if element.child("bind", ns::BIND).is_some() => {
                self.bind(&element).await
            }
            ("resume", ns::STREAM_MANAGEMENT) => self.resume(&element).await,
            ("enable", ns::STREAM_MANAGEMENT) => {
                self.conn.send(&super::session::failed(
                    StanzaCondition::UnexpectedRequest,
                    None,
                ));
                Ok(Step::Stay)
            }
            ("iq", ns::CLIENT) if element.child("session", ns::SESSION).is_some() => {
                let id = element.attr("id").unwrap_or_default();
                let mut answer = Element::new("iq", ns::CLIENT).with_attr("type", "result");
                answer.set_attr("id", Some(id));
                self.send_element(&answer);
                Ok(Step::Stay)
            }
            ("message" | "presence" | "iq", ns::CLIENT) => {
                Err(StreamCondition::NotAuthorized.into())
            }
            // The client's stream is over; an error is not answered with an error.
            ("error", ns::STREAM) => Err(End::Closed),
            _ => Err(StreamCondition::UnsupportedStanzaType.into()),
        }
    }

    fn send_element(&mut self, element: &Element) {
        let mut out = Vec::new();
        element.write(&mut out, ns::CLIENT);
        self.conn.send(&out);
    }

    /// Answers an IQ before there is a session.
    fn send_iq_error(&mut self, id: &str, error: &StanzaError) {
        let mut out = b"<iq type='error' id='".to_vec();
        protocol::xml::escape(id, Place::Attribute, &mut out);
        out.extend_from_slice(b"'>");
        error.write(&mut out);
        out.extend_from_slice(b"</iq>");
        self.conn.send(&out);
    }

    // ---- TLS

    async fn start_tls(&mut self) -> Result<Step, End> {
        if !self.may_start_tls() {
            self.conn
                .send(b"<failure xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
            return Err(End::Closed);
        }
        if self.conn.has_unparsed() {
            // Plaintext behind <starttls/> must never be taken for something that came encrypted.
            return Err(StreamError::new(StreamCondition::PolicyViolation)
                .with_text("nothing may follow <starttls/> before the handshake")
                .into());
        }
        self.conn
            .send(b"<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
        let proceed = timeout_at(self.deadline, self.conn.flush_all()).await;
        proceed.map_err(|_| End::Lost)??;
        self.handshake(AcceptKind::StartTls).await?;
        self.conn.intake.restart();
        Ok(Step::Restart)
    }

    async fn handshake(&mut self, kind: AcceptKind) -> Result<(), End> {
        self.handshake = self.conn.handshake(kind).await?;
        self.encrypted = true;
        Ok(())
    }

    // ---- the end

    /// Tells the client why, as far as it can be told, and ends the stream.
    fn say_goodbye(&mut self, end: &End) {
        if matches!(end, End::Lost) {
            return;
        }
        let error = end.error(self.conn.outlet.framing());
        let mut out = Vec::new();
        if !self.header_sent {
            if error.is_none() {
                return;
            }
            let router = self.conn.router.clone();
            let from = self.speaker().to_owned();
            let id = secure_id();
            let header = ResponseHeader {
                from: &from,
                to: None,
                id: &id,
                lang: router.language(),
            };
            self.conn.send_header(&header);
        }
        if let Some(error) = error {
            self.conn
                .router
                .metrics
                .reject(crate::metrics::Surface::Stream, error.condition);
            error.write(&mut out);
        }
        let Connection { outlet, batch, .. } = &mut *self.conn;
        outlet.push_end(&[&out], end.code(), &mut batch.settled);
        batch.flush();
    }

    /// What this stream offers, and so accepts.
    fn mechanisms(&self) -> Vec<Mechanism> {
        let allowed = self.conn.listener.allowed_methods.as_deref();
        self.host
            .as_ref()
            .map_or_else(Vec::new, |host| host.auth.offered(self.offer(), allowed))
    }
}

/// The major number of `1.0`; a number too great to be one is a great one.
fn major_version(text: &str) -> Option<u32> {
    let (major, minor) = text.split_once('.')?;
    let is_number = |part: &str| {
        (1..=16).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit())
    };
    if is_number(major) && is_number(minor) {
        Some(major.parse().unwrap_or(u32::MAX))
    } else {
        None
    }
}
