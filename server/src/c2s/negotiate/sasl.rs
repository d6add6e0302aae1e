//! SASL on a client stream (RFC 6120 section 6).
use std::convert::Infallible;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::sasl::{ChannelBinding, ScramServer, decode_base64, plain};
use protocol::stream::secure_id;
use protocol::{BareJid, Element, SaslFailure, StreamCondition, StreamError, ns};

use tokio::time::Instant;

use super::{ATTEMPTS_MAX, BINDINGS_REFUSED_MAX, End, Incoming, Negotiation, Step};
use crate::auth::{self, mechanisms::Mechanism};

/// Who has logged in, and what the client is told along with it; or why nobody has.
type Attempted = Result<(BareJid, Option<Vec<u8>>), SaslFailure>;

impl Negotiation<'_> {
    /// `<auth/>`: one attempt.
    pub(super) async fn authenticate(&mut self, element: &Element) -> Result<Step, End> {
        self.login_begun = Instant::now();
        let name = element.attr("mechanism").unwrap_or_default();
        let offered = self.mechanisms();
        let Some(mechanism) = offered
            .into_iter()
            .find(|mechanism| mechanism.name() == name)
        else {
            let failure = if name == "PLAIN" && !self.encrypted {
                SaslFailure::EncryptionRequired
            } else if name == "EXTERNAL" && self.knows_certificates() {
                SaslFailure::NotAuthorized
            } else {
                SaslFailure::InvalidMechanism
            };
            return self.fail_login(failure);
        };
        let text = element.text();
        let initial = if text.is_empty() {
            None
        } else {
            Some(text.into_owned())
        };
        let result = self.attempt(mechanism, initial).await?;
        match result {
            Ok((account, last)) => self.succeed(mechanism, account, last),
            Err(failure) => self.fail_login(failure),
        }
    }

    async fn attempt(
        &mut self,
        mechanism: Mechanism,
        initial: Option<String>,
    ) -> Result<Attempted, End> {
        let initial = match initial {
            Some(text) => text,
            // No initial response: the client gives it after an empty challenge.
            None => match self.challenge(&[]).await? {
                Ok(text) => text,
                Err(failure) => return Ok(Err(failure)),
            },
        };
        let message = match decode_base64(&initial) {
            Ok(message) => message,
            Err(failure) => return Ok(Err(failure)),
        };
        match mechanism {
            Mechanism::Plain => self.plain(&message).await,
            Mechanism::Anonymous => Ok(self.anonymous()),
            Mechanism::External => Ok(self.external(&message)),
            Mechanism::Scram { hash, plus } => self.scram(hash, plus, &message).await,
        }
    }

    /// Sends a challenge and waits for the text of the response.
    async fn challenge(&mut self, data: &[u8]) -> Result<Result<String, SaslFailure>, End> {
        let mut out = b"<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>".to_vec();
        out.extend_from_slice(STANDARD.encode(data).as_bytes());
        out.extend_from_slice(b"</challenge>");
        self.conn.send(&out);
        match self.next().await? {
            Incoming::Element(element) if element.is("response", ns::SASL) => {
                Ok(Ok(element.text().into_owned()))
            }
            Incoming::Element(element) if element.is("abort", ns::SASL) => {
                Ok(Err(SaslFailure::Aborted))
            }
            Incoming::Close => Err(End::Closed),
            _ => Err(StreamCondition::NotAuthorized.into()),
        }
    }

    fn domain(&self) -> &str {
        self.asked.as_deref().unwrap_or_default()
    }

    /// The account of a given user name, if it can be one and nobody else is meant.
    fn account_of(&self, name: &str, authzid: Option<&str>) -> Result<BareJid, SaslFailure> {
        let account = BareJid::from_parts(Some(name), self.domain())
            .map_err(|_| SaslFailure::NotAuthorized)?;
        match authzid {
            None | Some("") => Ok(account),
            Some(other) => match BareJid::parse(other) {
                Ok(other) if other == account => Ok(account),
                _ => Err(SaslFailure::InvalidAuthzid),
            },
        }
    }

    async fn plain(&mut self, message: &[u8]) -> Result<Attempted, End> {
        let fields = match plain::parse(message) {
            Ok(fields) => fields,
            Err(failure) => return Ok(Err(failure)),
        };
        let account = match self.account_of(fields.authcid, fields.authzid) {
            Ok(account) => account,
            Err(failure) => return Ok(Err(failure)),
        };
        let Some(host) = self.host.clone() else {
            return Ok(Err(SaslFailure::NotAuthorized));
        };
        if let Err(failure) = self.turn(&account).await? {
            return Ok(Err(failure));
        }
        Ok(
            match host.auth.check_password(&account, fields.password).await {
                Ok(true) => Ok((account, None)),
                Ok(false) => self.refuse(&account),
                Err(error) => Err(self.unavailable(&error)),
            },
        )
    }

    /// Whether clients with a certificate could log in by it here.
    fn knows_certificates(&self) -> bool {
        let host = self.host.as_ref();
        host.is_some_and(|host| host.auth.has_mechanism(Mechanism::External))
    }

    /// XEP-0178 section 2: the certificate was looked at in the handshake. Of several accounts that it names, the client
    /// has to choose one.
    fn external(&self, message: &[u8]) -> Attempted {
        let authzid = std::str::from_utf8(message).map_err(|_| SaslFailure::MalformedRequest)?;
        let mut named = self.named();
        if authzid.is_empty() {
            return match (named.pop(), named.is_empty()) {
                (Some(only), true) => Ok((only, None)),
                _ => Err(SaslFailure::NotAuthorized),
            };
        }
        let wanted = BareJid::parse(authzid).map_err(|_| SaslFailure::InvalidAuthzid)?;
        if named.contains(&wanted) {
            Ok((wanted, None))
        } else {
            Err(SaslFailure::InvalidAuthzid)
        }
    }

    fn anonymous(&self) -> Attempted {
        let local = secure_id().to_ascii_lowercase();
        let account = BareJid::from_parts(Some(&local), self.domain());
        account
            .map(|account| (account, None))
            .map_err(|_| SaslFailure::TemporaryAuthFailure)
    }

    async fn scram(
        &mut self,
        hash: protocol::sasl::ScramHash,
        plus: bool,
        message: &[u8],
    ) -> Result<Attempted, End> {
        let Some(host) = self.host.clone() else {
            return Ok(Err(SaslFailure::NotAuthorized));
        };
        let plus_offered = self
            .mechanisms()
            .iter()
            .any(|offered| offered.binds_channel());
        let started = ScramServer::start(hash, plus, plus_offered, message);
        let mut scram = match started {
            Ok(scram) => scram,
            Err(failure) => {
                self.binds_otherwise = plus && ScramServer::binds_otherwise(message);
                return Ok(Err(failure));
            }
        };
        // A name that is no account goes through the same steps as one that does not exist.
        let account = self.account_of(scram.username(), scram.authzid());
        let account = match account {
            Ok(account) => Some(account),
            Err(SaslFailure::InvalidAuthzid) => return Ok(Err(SaslFailure::InvalidAuthzid)),
            Err(_) => None,
        };
        if account.is_some() && self.conn.router.throttle.refuses(self.conn.peer) {
            return Ok(Err(self.too_many_failures()));
        }
        let keys = match host
            .auth
            .scram_keys(hash, account.as_ref(), scram.username())
            .await
        {
            Ok(keys) => keys,
            Err(error) => return Ok(Err(self.unavailable(&error))),
        };
        let first = scram.challenge(keys, &secure_id());
        let response = match self.challenge(&first).await? {
            Ok(response) => response,
            Err(failure) => return Ok(Err(failure)),
        };
        // Here it is a guess: before, the client has shown nothing that could be right or wrong.
        if let Some(account) = &account
            && let Err(failure) = self.turn(account).await?
        {
            return Ok(Err(failure));
        }
        let binding = self.binding_data(scram.channel_binding());
        let last =
            decode_base64(&response).and_then(|message| scram.finish(&message, binding.as_deref()));
        Ok(match (last, account) {
            (Ok(last), Some(account)) => Ok((account, Some(last))),
            (Err(SaslFailure::NotAuthorized), Some(account)) => self.refuse(&account),
            (Err(failure), _) => Err(failure),
            (Ok(_), None) => Err(SaslFailure::NotAuthorized),
        })
    }

    fn binding_data(&self, kind: Option<&str>) -> Option<Vec<u8>> {
        let handshake = self.handshake.as_ref()?;
        match ChannelBinding::from_name(kind?)? {
            ChannelBinding::TlsExporter => handshake.exporter.map(|data| data.to_vec()),
            ChannelBinding::TlsServerEndPoint => handshake.end_point.clone(),
        }
    }

    /// Makes a guesser wait, or sends it away.
    async fn turn(&mut self, account: &BareJid) -> Result<Result<(), SaslFailure>, End> {
        let router = self.conn.router.clone();
        let (peer, began) = (self.conn.peer, Instant::now());
        self.conn.batch.flush();
        let waits = async {
            router.metrics.logins.guesses_delayed.inc();
            std::future::pending::<Infallible>().await
        };
        let is_admitted = tokio::select! {
            biased;
            is_admitted = router.throttle.turn(account.as_str(), peer) => is_admitted,
            never = waits => match never {},
            error = router.leaving.begun() => return Err(End::Ordered(error, "drained")),
            end = self.conn.ended() => return Err(end),
        };
        // Our pause is not the client's.
        self.deadline += began.elapsed();
        Ok(if is_admitted {
            Ok(())
        } else {
            Err(self.too_many_failures())
        })
    }

    fn too_many_failures(&self) -> SaslFailure {
        self.conn.router.metrics.logins.guesses_refused.inc();
        SaslFailure::TemporaryAuthFailure
    }

    fn refuse(&self, account: &BareJid) -> Attempted {
        self.conn
            .router
            .throttle
            .failed(account.as_str(), self.conn.peer);
        Err(SaslFailure::NotAuthorized)
    }

    fn succeed(
        &mut self,
        mechanism: Mechanism,
        account: BareJid,
        last: Option<Vec<u8>>,
    ) -> Result<Step, End> {
        let router = &self.conn.router;
        let allowed = self.host.as_ref().is_some_and(|host| {
            router.allows(&host.access, &self.conn.listener.access, account.as_ref())
        });
        if !allowed {
            return self.fail_login(SaslFailure::NotAuthorized);
        }
        let mut out = b"<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>".to_vec();
        if let Some(last) = last {
            out.extend_from_slice(STANDARD.encode(last).as_bytes());
        }
        out.extend_from_slice(b"</success>");
        self.conn.send(&out);
        if mechanism != Mechanism::Anonymous {
            let throttle = &self.conn.router.throttle;
            throttle.succeeded(account.as_str(), self.conn.peer);
        }
        self.conn.router.metrics.logins.attempts.ok.inc();
        tracing::debug!(mechanism = mechanism.name(), "logged in");
        self.account = Some(account);
        self.handshake = None;
        self.conn.intake.restart();
        Ok(Step::Restart)
    }

    /// Tells the client; it may try again on the same stream a few times.
    pub(super) fn fail_login(&mut self, failure: SaslFailure) -> Result<Step, End> {
        self.conn.router.metrics.logins.attempts.failed.inc();
        let mut out = Vec::new();
        failure.write(&mut out);
        self.conn.send(&out);
        if std::mem::take(&mut self.binds_otherwise) {
            self.bindings_refused += 1;
        } else {
            self.attempts += 1;
        }
        if self.attempts >= ATTEMPTS_MAX || self.bindings_refused > BINDINGS_REFUSED_MAX {
            return Err(StreamError::new(StreamCondition::PolicyViolation)
                .with_text("too many failed attempts to log in")
                .into());
        }
        Ok(Step::Stay)
    }

    fn unavailable(&self, error: &auth::Error) -> SaslFailure {
        match error {
            // Strangers bring this about at will.
            auth::Error::Overloaded(_) => _ = self.conn.router.metrics.logins.hashes_refused.inc(),
            auth::Error::Storage(error) => tracing::error!(%error, "credentials could not be read"),
        }
        SaslFailure::TemporaryAuthFailure
    }
}
