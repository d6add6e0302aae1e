//! A BOSH client (XEP-0124, XEP-0206) that keeps every request in its own hands, so that tests can lose, double and
//! disorder them. Each request has a connection of its own.
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use protocol::sasl::{ClientBinding, ScramClient, ScramHash, decode_base64, encode_base64};
use protocol::{Element, ns};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::target::DOMAIN;

/// How long an answer may take. A test that is right never waits this long.
const ANSWER_SECS_MAX: u64 = 20;
/// The path of every test.
pub const PATH: &str = "/http-bind";
/// The first request's number; a test counts on from it.
pub const FIRST_RID: u64 = 1_000;

/// A request that was sent.
pub struct Pending {
    stream: TcpStream,
}

/// What it was answered with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Everything before the body, in lower case.
    pub head: String,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The `<body/>`.
    pub fn element(&self) -> Result<Element> {
        ensure!(self.status == 200, "{self:?}");
        let content_type = "content-type: text/xml; charset=utf-8";
        ensure!(self.head.contains(content_type), "{self:?}");
        let element = Element::parse(self.body.as_bytes(), "")
            .map_err(|error| anyhow::anyhow!("{}: {error}", self.body))?;
        ensure!(element.is("body", ns::HTTP_BIND), "{}", self.body);
        Ok(element)
    }

    /// The condition of a `<body/>` that ends the session; empty if it has none.
    pub fn condition(&self) -> Result<String> {
        let element = self.element()?;
        ensure!(element.attr("type") == Some("terminate"), "{}", self.body);
        Ok(element.attr("condition").unwrap_or_default().to_owned())
    }
}

/// Sends a request as it is.
pub async fn start(address: SocketAddr, request: &str) -> Result<Pending> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    Ok(Pending { stream })
}

/// Sends a `<body/>`.
pub async fn post(address: SocketAddr, body: &str) -> Result<Pending> {
    let length = body.len();
    let request = format!(
        "POST {PATH} HTTP/1.1\r\nHost: {address}\r\nContent-Type: text/xml; charset=utf-8\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    start(address, &request).await
}

impl Pending {
    /// Waits for the answer.
    pub async fn answer(mut self) -> Result<Answer> {
        let mut text = String::new();
        let read = self.stream.read_to_string(&mut text);
        timeout(Duration::from_secs(ANSWER_SECS_MAX), read)
            .await
            .context("no answer")??;
        let (head, body) = text.split_once("\r\n\r\n").context("no HTTP answer")?;
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        Ok(Answer {
            status: status.context("no status")?,
            head: head.to_ascii_lowercase(),
            body: body.to_owned(),
        })
    }
}

/// One session.
pub struct Bosh {
    address: SocketAddr,
    sid: String,
    /// The number of the next request.
    pub rid: u64,
    pending: Option<Pending>,
    inbox: VecDeque<Element>,
}

/// A `<body/>` that asks for a session.
pub fn creation(attributes: &str) -> String {
    format!(
        "<body xmlns='http://jabber.org/protocol/httpbind' xmlns:xmpp='urn:xmpp:xbosh' rid='{FIRST_RID}' \
         content='text/xml; charset=utf-8' ver='1.6' xmpp:version='1.0' xml:lang='en' {attributes}/>"
    )
}

impl Bosh {
    /// Asks for a session. Returns it with the first answer; features come with that.
    pub async fn create(address: SocketAddr, attributes: &str) -> Result<(Self, Element)> {
        let body = creation(&format!("to='{DOMAIN}' {attributes}"));
        let answer = post(address, &body).await?.answer().await?.element()?;
        let sid = answer.attr("sid").context("no session")?.to_owned();
        let session = Self {
            address,
            sid,
            rid: FIRST_RID + 1,
            pending: None,
            inbox: VecDeque::new(),
        };
        Ok((session, answer))
    }

    /// Creates a session and logs in; the next thing may be bind or resume.
    pub async fn log_in(
        address: SocketAddr,
        attributes: &str,
        local: &str,
        password: &str,
    ) -> Result<Self> {
        let (mut bosh, _) = Self::create(address, attributes).await?;
        let nonce = protocol::sasl::random_nonce();
        let hash = ScramHash::Sha256;
        let mut scram = ScramClient::new(hash, ClientBinding::None, local, password, &nonce);
        let (mechanism, first) = (hash.name(), encode_base64(&scram.first()));
        bosh.say(&format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='{mechanism}'>{first}</auth>"
        ))
        .await?;
        let challenge = bosh.sasl("challenge").await?;
        let response = encode_base64(&scram.respond(&challenge)?);
        bosh.say(&format!(
            "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{response}</response>"
        ))
        .await?;
        scram.verify(&bosh.sasl("success").await?)?;
        let restart = bosh.body(
            &format!("to='{DOMAIN}' xmpp:restart='true' xmlns:xmpp='urn:xmpp:xbosh'"),
            "",
        );
        bosh.send(&restart).await?;
        let features = bosh.element().await?;
        ensure!(features.is("features", ns::STREAM), "{}", features.to_xml());
        Ok(bosh)
    }

    async fn sasl(&mut self, name: &str) -> Result<Vec<u8>> {
        let answer = self.element().await?;
        ensure!(answer.is(name, ns::SASL), "{}", answer.to_xml());
        decode_base64(&answer.text()).map_err(|error| anyhow::anyhow!("{error:?}"))
    }

    /// Logs in, binds, and becomes available.
    pub async fn connect(
        address: SocketAddr,
        attributes: &str,
        local: &str,
        password: &str,
    ) -> Result<Self> {
        let mut bosh = Self::log_in(address, attributes, local, password).await?;
        bosh.say(
            "<iq xmlns='jabber:client' type='set' id='bind'>\
             <bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><resource>web</resource></bind></iq>",
        )
        .await?;
        let bound = bosh.element().await?;
        ensure!(bound.attr("type") == Some("result"), "{}", bound.to_xml());
        bosh.say("<presence xmlns='jabber:client'/>").await?;
        let own = bosh.element().await?;
        ensure!(own.is("presence", ns::CLIENT), "{}", own.to_xml());
        Ok(bosh)
    }

    /// The next request's `<body/>`; its number is used up.
    pub fn body(&mut self, attributes: &str, payload: &str) -> String {
        let rid = self.rid;
        self.rid += 1;
        self.body_of(rid, attributes, payload)
    }

    /// A `<body/>` of this session with any number.
    pub fn body_of(&self, rid: u64, attributes: &str, payload: &str) -> String {
        let sid = &self.sid;
        format!(
            "<body xmlns='http://jabber.org/protocol/httpbind' rid='{rid}' sid='{sid}' {attributes}>{payload}</body>"
        )
    }

    /// The session's name.
    pub fn sid(&self) -> &str {
        &self.sid
    }

    /// Sends a `<body/>`; it waits beside this client's own requests.
    pub async fn post(&self, body: &str) -> Result<Pending> {
        post(self.address, body).await
    }

    /// Sends a payload as a browser's client does: the request that was held meanwhile comes back.
    pub async fn say(&mut self, payload: &str) -> Result<()> {
        let body = self.body("", payload);
        self.send(&body).await
    }

    async fn send(&mut self, body: &str) -> Result<()> {
        let next = self.post(body).await?;
        if let Some(before) = self.pending.replace(next) {
            let answer = before.answer().await?;
            self.take(&answer)?;
        }
        Ok(())
    }

    fn take(&mut self, answer: &Answer) -> Result<()> {
        let element = answer.element()?;
        self.inbox.extend(element.elements().cloned());
        if element.attr("type") == Some("terminate") && self.inbox.is_empty() {
            bail!("the session is over: {}", answer.body);
        }
        Ok(())
    }

    /// The next element; asks for it by an empty request if none waits.
    pub async fn element(&mut self) -> Result<Element> {
        loop {
            if let Some(element) = self.inbox.pop_front() {
                return Ok(element);
            }
            let pending = match self.pending.take() {
                Some(pending) => pending,
                None => {
                    let body = self.body("", "");
                    self.post(&body).await?
                }
            };
            let answer = pending.answer().await?;
            self.take(&answer)?;
        }
    }

    /// Sees to it that a request is held, which has the number that is returned.
    pub async fn hold(&mut self) -> Result<u64> {
        if self.pending.is_none() {
            let body = self.body("", "");
            self.pending = Some(self.post(&body).await?);
        }
        Ok(self.rid - 1)
    }

    /// The request that is held, from now on in the hands of the test.
    pub fn take_held(&mut self) -> Result<Pending> {
        self.pending.take().context("no request is held")
    }
}
