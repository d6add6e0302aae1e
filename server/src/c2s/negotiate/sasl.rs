//! SASL on a client stream (RFC 6120 section 6).
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::sasl::{ChannelBinding, ScramServer, decode_base64, plain};
use protocol::stream::secure_id;
use protocol::{BareJid, Element, SaslFailure, StreamCondition, StreamError, ns};

use super::{ATTEMPTS_MAX, BINDINGS_REFUSED_MAX, End, Incoming, Negotiation, Step};
use crate::auth::mechanisms::Mechanism;
use crate::auth::throttle::Verdict;

impl Negotiation<'_> {
    /// `<auth/>`: one attempt.
    pub(super) async fn authenticate(&mut self, element: &Element) -> Result<Step, End> {
        let name = element.attr("mechanism").unwrap_or_default();
        let offered = self.mechanisms();
        let Some(mechanism) = offered
            .into_iter()
            .find(|mechanism| mechanism.name() == name)
        else {
            let failure = if name == "PLAIN" && !self.encrypted {
                SaslFailure::EncryptionRequired
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
    ) -> Result<Result<(BareJid, Option<Vec<u8>>), SaslFailure>, End> {
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
            Mechanism::Plain => Ok(self.plain(&message).await),
            Mechanism::Anonymous => Ok(self.anonymous()),
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

    async fn plain(&mut self, message: &[u8]) -> Result<(BareJid, Option<Vec<u8>>), SaslFailure> {
        let fields = plain::parse(message)?;
        let account = self.account_of(fields.authcid, fields.authzid)?;
        self.admit(&account).await?;
        let Some(host) = self.host.clone() else {
            return Err(SaslFailure::NotAuthorized);
        };
        match host.auth.check_password(&account, fields.password).await {
            Ok(true) => Ok((account, None)),
            Ok(false) => self.refuse(&account),
            Err(error) => Err(unavailable(&error)),
        }
    }

    fn anonymous(&self) -> Result<(BareJid, Option<Vec<u8>>), SaslFailure> {
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
    ) -> Result<Result<(BareJid, Option<Vec<u8>>), SaslFailure>, End> {
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
        if let Some(account) = &account
            && let Err(failure) = self.admit(account).await
        {
            return Ok(Err(failure));
        }
        let keys = match host
            .auth
            .scram_keys(hash, account.as_ref(), scram.username())
            .await
        {
            Ok(keys) => keys,
            Err(error) => return Ok(Err(unavailable(&error))),
        };
        let first = scram.challenge(keys, &secure_id());
        let response = match self.challenge(&first).await? {
            Ok(response) => response,
            Err(failure) => return Ok(Err(failure)),
        };
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
    async fn admit(&mut self, account: &BareJid) -> Result<(), SaslFailure> {
        match self
            .conn
            .router
            .throttle
            .admit(account.as_str(), self.conn.peer)
        {
            Verdict::Go => Ok(()),
            Verdict::Wait(delay) => {
                tokio::time::sleep(delay).await;
                // Our pause is not the client's.
                self.deadline += delay;
                Ok(())
            }
            Verdict::Refuse => Err(SaslFailure::TemporaryAuthFailure),
        }
    }

    fn refuse<T>(&self, account: &BareJid) -> Result<T, SaslFailure> {
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
        self.conn.router.throttle.succeeded(account.as_str());
        self.conn.router.metrics.logins.ok.inc();
        tracing::debug!(mechanism = mechanism.name(), "logged in");
        self.account = Some(account);
        self.handshake = None;
        self.conn.reader.restart();
        Ok(Step::Restart)
    }

    /// Tells the client; it may try again on the same stream a few times.
    pub(super) fn fail_login(&mut self, failure: SaslFailure) -> Result<Step, End> {
        self.conn.router.metrics.logins.failed.inc();
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
}

fn unavailable(error: &crate::auth::Error) -> SaslFailure {
    tracing::error!(%error, "credentials could not be read");
    SaslFailure::TemporaryAuthFailure
}
