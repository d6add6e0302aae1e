//! A client's way from a fresh connection to a bound session (RFC 6120 sections 4 to 7), or to a new account
//! (XEP-0077). Pure: a token of the server's stream goes in, bytes to send and the next step come out.

use std::fmt::Write as _;

use anyhow::{Result, bail, ensure};

use crate::framing::{self, Token};
use crate::keys::{self, Exchange, Hash, KeyCache};
use crate::options::{Mechanism, TlsMode};

/// What all logins of a run have in common.
#[derive(Clone, Debug)]
pub(crate) struct Account {
    pub(crate) domain: String,
    pub(crate) users_prefix: String,
    pub(crate) password: String,
    pub(crate) resource: String,
}

impl Account {
    /// The local part of account `number`: a fixed width keeps all messages equally long.
    pub(crate) fn user(&self, number: u32) -> String {
        format!("{}{number:06}", self.users_prefix)
    }
}

/// What a login does on its way.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) account: Account,
    pub(crate) tls: TlsMode,
    pub(crate) mechanism: Mechanism,
    pub(crate) goal: Goal,
}

/// Where a login ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Goal {
    /// Bound, with presence sent.
    Session {
        /// Stream management (XEP-0198) switched on before the presence.
        stream_management: bool,
    },
    /// Bound, presence sent, and the stream closed in the same breath.
    LoginAndClose,
    /// The account exists, made now or earlier.
    Registration,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No connection.
    Idle,
    /// TCP is being connected.
    Connecting,
    /// Waiting for the features of an unencrypted stream.
    PlainFeatures,
    /// `<starttls/>` is sent.
    StartTls,
    /// TLS is being negotiated.
    Handshake,
    /// The WebSocket is asked for.
    Upgrade,
    /// Waiting for features with mechanisms.
    MechanismFeatures,
    /// SCRAM's first message is sent.
    ScramFirst,
    /// The last message of the mechanism is sent.
    SaslFinal,
    /// Authenticated; waiting for features with bind.
    BindFeatures,
    Bind,
    /// The session request of RFC 3921, for servers that insist on it.
    LegacySession,
    EnableStreamManagement,
    /// The session is usable.
    Ready,
    Registering,
    /// Our stream is closed; waiting for the server's end.
    Closing,
}

/// What the owner of the socket has to do after a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Continue,
    /// Start TLS; a new stream begins inside.
    StartTls,
    /// The goal is a session, and it is reached.
    Ready,
    /// The server closed its stream after ours: done.
    Done,
}

/// One connection's negotiation state.
pub(crate) struct Login {
    pub(crate) number: u32,
    pub(crate) phase: Phase,
    exchange: Option<Box<Exchange>>,
    /// The resource the server chose, if it is not the one asked for.
    pub(crate) resource: Option<Box<str>>,
    /// Whether features offered the session request as compulsory.
    wants_legacy_session: bool,
}

impl Login {
    pub(crate) fn new(number: u32) -> Self {
        Self {
            number,
            phase: Phase::Idle,
            exchange: None,
            resource: None,
            wants_legacy_session: false,
        }
    }

    /// Opens the first stream, or the one inside TLS.
    pub(crate) fn open_stream(&mut self, plan: &Plan, encrypted: bool, out: &mut Vec<u8>) {
        let domain = &plan.account.domain;
        stream_header(domain, out);
        self.phase = if plan.tls == TlsMode::Starttls && !encrypted {
            Phase::PlainFeatures
        } else {
            Phase::MechanismFeatures
        };
    }

    /// Takes one token before the session is ready.
    pub(crate) fn token(
        &mut self,
        token: &Token<'_>,
        plan: &Plan,
        keys: &mut KeyCache,
        out: &mut Vec<u8>,
    ) -> Result<Step> {
        let element = match token {
            Token::StreamOpen(_) => return Ok(Step::Continue),
            Token::StreamClose if self.phase == Phase::Closing => return Ok(Step::Done),
            Token::StreamClose => bail!("the server closed its stream in phase {:?}", self.phase),
            Token::Element(element) => *element,
        };
        let name = framing::name(element);
        if name == b"stream:error" {
            bail!(
                "stream error in phase {:?}: {}",
                self.phase,
                readable(element)
            );
        }
        if name == b"failure" {
            bail!(
                "{} of {:?} failed: {}",
                if self.phase == Phase::StartTls {
                    "STARTTLS"
                } else {
                    "login"
                },
                plan.account.user(self.number),
                readable(element)
            );
        }
        match (self.phase, name) {
            (Phase::PlainFeatures, b"stream:features") => self.start_tls(element, out),
            (Phase::StartTls, b"proceed") => {
                self.phase = Phase::Handshake;
                Ok(Step::StartTls)
            }
            (Phase::MechanismFeatures, b"stream:features") => self.authenticate(element, plan, out),
            (Phase::ScramFirst, b"challenge") => self.prove(element, keys, out),
            (Phase::SaslFinal, b"success") => self.restart(element, plan, out),
            (Phase::BindFeatures, b"stream:features") => self.bind(element, plan, out),
            (Phase::Bind, b"iq") => self.bound(element, plan, out),
            (Phase::LegacySession, b"iq") => {
                ensure_result(element, "session request")?;
                self.after_bind(plan, out)
            }
            (Phase::EnableStreamManagement, b"enabled") => Ok(self.become_ready(out)),
            (Phase::EnableStreamManagement, b"failed") => {
                bail!("no stream management: {}", readable(element))
            }
            (Phase::Registering, b"iq") => self.registered(element, out),
            // Rosters, presence and what else a server sends by itself.
            _ => Ok(Step::Continue),
        }
    }

    fn start_tls(&mut self, features: &[u8], out: &mut Vec<u8>) -> Result<Step> {
        const NAMESPACE: &str = "urn:ietf:params:xml:ns:xmpp-tls";
        ensure!(
            framing::mentions(features, NAMESPACE),
            "the server offers no STARTTLS"
        );
        out.extend_from_slice(b"<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>");
        self.phase = Phase::StartTls;
        Ok(Step::Continue)
    }

    fn authenticate(&mut self, features: &[u8], plan: &Plan, out: &mut Vec<u8>) -> Result<Step> {
        if plan.goal == Goal::Registration {
            let (user, password) = (plan.account.user(self.number), &plan.account.password);
            push(
                out,
                format_args!(
                    "<iq type='set' id='register'><query xmlns='jabber:iq:register'>\
                     <username>{user}</username><password>{password}</password></query></iq>"
                ),
            );
            self.phase = Phase::Registering;
            return Ok(Step::Continue);
        }
        let hash = choose(features, plan.mechanism)?;
        let user = plan.account.user(self.number);
        let (mechanism, initial) = match hash {
            Some(hash) => {
                let (exchange, first) = Exchange::start(hash, &user)?;
                self.exchange = Some(Box::new(exchange));
                self.phase = Phase::ScramFirst;
                (hash.mechanism(), first)
            }
            None => {
                self.phase = Phase::SaslFinal;
                ("PLAIN", keys::plain(&user, &plan.account.password))
            }
        };
        push(
            out,
            format_args!(
                "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='{mechanism}'>{initial}</auth>"
            ),
        );
        Ok(Step::Continue)
    }

    fn prove(&mut self, challenge: &[u8], keys: &mut KeyCache, out: &mut Vec<u8>) -> Result<Step> {
        let exchange = self
            .exchange
            .as_mut()
            .expect("phase ScramFirst has an exchange");
        let answer = exchange.answer(framing::text(challenge), keys)?;
        push(
            out,
            format_args!("<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{answer}</response>"),
        );
        self.phase = Phase::SaslFinal;
        Ok(Step::Continue)
    }

    fn restart(&mut self, success: &[u8], plan: &Plan, out: &mut Vec<u8>) -> Result<Step> {
        if let Some(exchange) = self.exchange.take() {
            exchange.finish(framing::text(success))?;
        }
        stream_header(&plan.account.domain, out);
        self.phase = Phase::BindFeatures;
        Ok(Step::Continue)
    }

    fn bind(&mut self, features: &[u8], plan: &Plan, out: &mut Vec<u8>) -> Result<Step> {
        const SESSION: &str = "urn:ietf:params:xml:ns:xmpp-session";
        ensure!(
            framing::mentions(features, "urn:ietf:params:xml:ns:xmpp-bind"),
            "no bind offered"
        );
        self.wants_legacy_session = framing::mentions(features, SESSION)
            && !framing::child_text(features, "session")
                .is_some_and(|inner| framing::mentions(inner, "<optional"));
        push(
            out,
            format_args!(
                "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
                 <resource>{}</resource></bind></iq>",
                plan.account.resource
            ),
        );
        self.phase = Phase::Bind;
        Ok(Step::Continue)
    }

    fn bound(&mut self, result: &[u8], plan: &Plan, out: &mut Vec<u8>) -> Result<Step> {
        ensure_result(result, "bind")?;
        let jid = framing::child_text(result, "jid").unwrap_or_default();
        let jid = String::from_utf8_lossy(jid);
        let Some((_, resource)) = jid.split_once('/') else {
            bail!("bound to {jid:?}")
        };
        if resource != plan.account.resource {
            self.resource = Some(resource.into());
        }
        if self.wants_legacy_session {
            out.extend_from_slice(
                b"<iq type='set' id='session'>\
                  <session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></iq>",
            );
            self.phase = Phase::LegacySession;
            return Ok(Step::Continue);
        }
        self.after_bind(plan, out)
    }

    fn after_bind(&mut self, plan: &Plan, out: &mut Vec<u8>) -> Result<Step> {
        match plan.goal {
            Goal::Session {
                stream_management: true,
            } => {
                out.extend_from_slice(b"<enable xmlns='urn:xmpp:sm:3'/>");
                self.phase = Phase::EnableStreamManagement;
                Ok(Step::Continue)
            }
            Goal::Session {
                stream_management: false,
            } => Ok(self.become_ready(out)),
            Goal::LoginAndClose => {
                out.extend_from_slice(b"<presence/></stream:stream>");
                self.phase = Phase::Closing;
                Ok(Step::Continue)
            }
            Goal::Registration => bail!("a registration does not bind"),
        }
    }

    fn become_ready(&mut self, out: &mut Vec<u8>) -> Step {
        out.extend_from_slice(b"<presence/>");
        self.phase = Phase::Ready;
        Step::Ready
    }

    fn registered(&mut self, answer: &[u8], out: &mut Vec<u8>) -> Result<Step> {
        // `conflict` means that the account is there already, which is all that is wanted.
        if framing::attribute(answer, b"type") != Some(b"result")
            && !framing::mentions(answer, "<conflict")
        {
            bail!("registration failed: {}", readable(answer));
        }
        out.extend_from_slice(b"</stream:stream>");
        self.phase = Phase::Closing;
        Ok(Step::Continue)
    }
}

/// SCRAM's hash function, or `None` for PLAIN.
fn choose(features: &[u8], wanted: Mechanism) -> Result<Option<Hash>> {
    let offered = |name: &str| framing::mentions(features, &format!(">{name}<"));
    let order = [
        (Mechanism::ScramSha256, Some(Hash::Sha256), "SCRAM-SHA-256"),
        (Mechanism::ScramSha1, Some(Hash::Sha1), "SCRAM-SHA-1"),
        (Mechanism::Plain, None, "PLAIN"),
    ];
    for (mechanism, hash, name) in order {
        if (wanted == Mechanism::Best || wanted == mechanism) && offered(name) {
            return Ok(hash);
        }
    }
    bail!(
        "the server offers no mechanism for --mechanism {wanted:?}: {}",
        readable(features)
    )
}

fn stream_header(domain: &str, out: &mut Vec<u8>) {
    push(
        out,
        format_args!(
            "<?xml version='1.0'?><stream:stream to='{domain}' version='1.0' \
             xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
        ),
    );
}

fn ensure_result(iq: &[u8], what: &str) -> Result<()> {
    ensure!(
        framing::attribute(iq, b"type") == Some(b"result"),
        "{what} failed: {}",
        readable(iq)
    );
    Ok(())
}

/// A server's words in an error message, cut to a sane length.
pub(crate) fn readable(element: &[u8]) -> String {
    String::from_utf8_lossy(&element[..element.len().min(400)]).into_owned()
}

fn push(out: &mut Vec<u8>, arguments: std::fmt::Arguments<'_>) {
    let mut text = String::new();
    text.write_fmt(arguments)
        .expect("writing to a string does not fail");
    out.extend_from_slice(text.as_bytes());
}
