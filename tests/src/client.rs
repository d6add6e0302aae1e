//! A client that logs in and keeps what came in until somebody asks for it.
use std::collections::VecDeque;
use std::net::SocketAddr;

use anyhow::{Context, Result, bail, ensure};
use protocol::sasl::{ChannelBinding, ClientBinding, ScramClient, ScramHash, random_nonce};
use protocol::xml::{Item, Limits, StreamReader};
use protocol::{Element, ns, sasl, websocket};

use crate::wire::{Event, Wire};

/// How a client connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// Plain TCP to the end.
    None,
    /// RFC 6120 section 5: STARTTLS.
    StartTls,
    /// XEP-0368: TLS from the first byte.
    DirectTls,
    /// RFC 7395: WebSocket without TLS, as behind a balancer.
    WebSocket,
    /// RFC 7395: WebSocket over TLS.
    SecureWebSocket,
}

/// Where the WebSocket is.
const WEBSOCKET_PATH: &str = "/ws-xmpp";
/// The mask of our frames.
const MASK: [u8; 4] = [0x1b, 0xd0, 0x7e, 0xa5];

/// Who logs in.
#[derive(Clone, Debug)]
pub struct Account {
    /// Local part.
    pub local: String,
    /// The served domain.
    pub domain: String,
    /// Password, as prepared.
    pub password: String,
}

impl Account {
    /// `local@domain`.
    pub fn bare(&self) -> String {
        format!("{}@{}", self.local, self.domain)
    }
}

/// How far a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing has been negotiated by the client itself.
    Raw,
    /// Logged in, no resource.
    Authenticated,
    /// Has a full address.
    Bound,
}

/// One client connection.
pub struct Client {
    account: Account,
    wire: Wire,
    stage: Stage,
    /// Full address, once bound.
    jid: String,
    /// Features of the newest stream.
    features: Option<Element>,
    /// Elements that came while something else was waited for.
    inbox: VecDeque<Element>,
    /// XEP-0198 is on: questions may be asked without a stanza, which would be counted.
    is_managed: bool,
    fences: u32,
    /// Everything sent and received, newest last, for the report of a failure.
    transcript: Vec<String>,
}

impl Client {
    /// Connects and does nothing more.
    pub async fn dial(address: SocketAddr, account: Account) -> Result<Self> {
        Ok(Self {
            account,
            wire: Wire::connect(address).await?,
            stage: Stage::Raw,
            jid: String::new(),
            features: None,
            inbox: VecDeque::new(),
            is_managed: false,
            fences: 0,
            transcript: Vec::new(),
        })
    }

    /// Connects, secures and authenticates; the next thing may be bind or resume.
    pub async fn log_in(address: SocketAddr, account: Account, security: Security) -> Result<Self> {
        let mut client = Self::dial(address, account).await?;
        client.secure(security).await?;
        client.authenticate().await?;
        client.open_stream().await?;
        client.stage = Stage::Authenticated;
        Ok(client)
    }

    /// Logs in and binds the resource, or one of the server's choice.
    pub async fn connect(
        address: SocketAddr,
        account: Account,
        resource: Option<&str>,
        security: Security,
    ) -> Result<Self> {
        let mut client = Self::log_in(address, account, security).await?;
        client.bind(resource).await?;
        Ok(client)
    }

    /// Opens streams until the connection is as secure as asked for and the features are known.
    async fn secure(&mut self, security: Security) -> Result<()> {
        let domain = self.account.domain.clone();
        if security == Security::DirectTls {
            self.wire.start_tls(&domain, Some("xmpp-client")).await?;
        }
        self.open_websocket(security).await?;
        self.open_stream().await?;
        if security == Security::StartTls {
            self.send("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")
                .await?;
            let answer = self.next_element().await?;
            ensure!(
                answer.is("proceed", ns::TLS),
                "STARTTLS was answered with {}",
                answer.to_xml()
            );
            self.wire.start_tls(&domain, None).await?;
            self.open_stream().await?;
        }
        Ok(())
    }

    /// Opens a WebSocket, if that is how this client connects.
    pub async fn open_websocket(&mut self, security: Security) -> Result<()> {
        let domain = self.account.domain.clone();
        if security == Security::SecureWebSocket {
            self.wire.start_tls(&domain, Some("http/1.1")).await?;
        }
        if matches!(security, Security::WebSocket | Security::SecureWebSocket) {
            self.transcript.push("-- WebSocket handshake".to_owned());
            self.wire.open_websocket(&domain, WEBSOCKET_PATH).await?;
        }
        Ok(())
    }

    /// Sends a stream header and takes the server's header and features.
    pub async fn open_stream(&mut self) -> Result<()> {
        let domain = &self.account.domain;
        let header = if self.wire.is_framed() {
            format!(
                "<open xmlns='{}' to='{domain}' version='1.0' xml:lang='en'/>",
                ns::FRAMING
            )
        } else {
            format!(
                "<?xml version='1.0'?><stream:stream to='{domain}' version='1.0' xml:lang='en' \
                 xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>"
            )
        };
        self.send(&header).await?;
        match self.next_event().await? {
            Event::Header(_) => {}
            other => bail!("expected a stream header, got {other:?}"),
        }
        let features = self.next_element().await?;
        ensure!(
            features.is("features", ns::STREAM),
            "expected features, got {}",
            features.to_xml()
        );
        self.features = Some(features);
        Ok(())
    }

    /// SASL with the strongest SCRAM that is offered, bound to the TLS connection where that can be.
    pub async fn authenticate(&mut self) -> Result<()> {
        let offered = self.offered_mechanisms();
        let is_offered = |name: &str| offered.iter().any(|other| other == name);
        let strongest = ScramHash::ALL
            .into_iter()
            .rev()
            .find(|hash| is_offered(hash.name()));
        let hash = strongest.context("no SCRAM mechanism is offered")?;
        let can_bind = is_offered(hash.plus_name()) && self.is_binding_offered();
        let mechanism = if can_bind {
            hash.plus_name()
        } else {
            hash.name()
        };
        self.authenticate_by(mechanism).await
    }

    /// SASL with a mechanism of the SCRAM family; a `-PLUS` one is bound by `tls-exporter` (RFC 9266).
    pub async fn authenticate_by(&mut self, mechanism: &str) -> Result<()> {
        let (hash, is_plus) = ScramHash::from_mechanism(mechanism)
            .with_context(|| format!("{mechanism} is no SCRAM mechanism"))?;
        let key = if is_plus {
            self.wire.exported_key()?
        } else {
            [0; 32]
        };
        let binding = match is_plus {
            true => ClientBinding::Bound(ChannelBinding::TlsExporter, &key),
            false => ClientBinding::None,
        };
        let Account {
            local, password, ..
        } = self.account.clone();
        let mut scram = ScramClient::new(hash, binding, &local, &password, &random_nonce());
        let first = sasl::encode_base64(&scram.first());
        self.send(&format!(
            "<auth xmlns='{}' mechanism='{mechanism}'>{first}</auth>",
            ns::SASL
        ))
        .await?;
        let challenge = self.next_element().await?;
        ensure!(
            challenge.is("challenge", ns::SASL),
            "expected a challenge, got {}",
            challenge.to_xml()
        );
        let response = sasl::encode_base64(&scram.respond(&decode(&challenge)?)?);
        self.send(&format!(
            "<response xmlns='{}'>{response}</response>",
            ns::SASL
        ))
        .await?;
        let success = self.next_element().await?;
        ensure!(
            success.is("success", ns::SASL),
            "login failed: {}",
            success.to_xml()
        );
        scram.verify(&decode(&success)?)?;
        Ok(())
    }

    fn offered_mechanisms(&self) -> Vec<String> {
        let mechanisms = self
            .features
            .as_ref()
            .and_then(|features| features.child("mechanisms", ns::SASL));
        let names = mechanisms.into_iter().flat_map(Element::elements);
        names
            .map(|mechanism| mechanism.text().into_owned())
            .collect()
    }

    /// XEP-0440: the server says that it takes `tls-exporter`.
    fn is_binding_offered(&self) -> bool {
        let features = self.features.as_ref();
        let types = features
            .and_then(|features| features.child("sasl-channel-binding", ns::SASL_CHANNEL_BINDING));
        types
            .into_iter()
            .flat_map(Element::elements)
            .any(|kind| kind.attr("type") == Some("tls-exporter"))
    }

    /// RFC 6120 section 7.
    pub async fn bind(&mut self, resource: Option<&str>) -> Result<()> {
        let wish = resource
            .map(|name| format!("<resource>{}</resource>", escape(name)))
            .unwrap_or_default();
        self.send(&format!(
            "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>{wish}</bind></iq>"
        ))
        .await?;
        let answer = self.next_element().await?;
        let bound = answer
            .child("bind", ns::BIND)
            .and_then(|bind| bind.child("jid", ns::BIND));
        let Some(jid) = bound else {
            bail!("bind was answered with {}", answer.to_xml())
        };
        self.jid = jid.text().into_owned();
        self.stage = Stage::Bound;
        Ok(())
    }

    /// Takes over a session that the caller resumed with XEP-0198.
    pub fn set_resumed(&mut self, jid: &str) {
        jid.clone_into(&mut self.jid);
        self.stage = Stage::Bound;
        self.is_managed = true;
    }

    /// The full address, empty before bind.
    pub fn jid(&self) -> &str {
        &self.jid
    }

    /// Features of the newest stream.
    pub fn features(&self) -> Option<&Element> {
        self.features.as_ref()
    }

    /// TLS on a connection that was dialled or has just seen `<proceed/>`.
    pub async fn start_tls(&mut self, alpn: Option<&str>) -> Result<()> {
        self.transcript.push("-- TLS handshake".to_owned());
        let domain = self.account.domain.clone();
        self.wire.start_tls(&domain, alpn).await
    }

    /// Sends text as it is; over WebSocket each of its elements is a message, which declares what it would inherit.
    pub async fn send(&mut self, text: &str) -> Result<()> {
        if !self.wire.is_framed() {
            return self.send_bytes(text.as_bytes()).await;
        }
        self.transcript.push(format!(">> {}", shortened(text)));
        let mut frames = Vec::new();
        match elements_of(text) {
            Some(elements) => elements.iter().for_each(|element| {
                websocket::client::push_element(&mut frames, element.as_bytes(), MASK);
            }),
            None => {
                let first = websocket::client::WHOLE_TEXT;
                websocket::client::push_frame(&mut frames, first, text.as_bytes(), MASK);
            }
        }
        self.wire.send(&frames).await
    }

    /// Sends bytes as they are.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.transcript
            .push(format!(">> {}", shortened(&String::from_utf8_lossy(bytes))));
        self.wire.send(bytes).await
    }

    /// The next element, from the inbox or the wire.
    pub async fn next_element(&mut self) -> Result<Element> {
        if let Some(element) = self.inbox.pop_front() {
            return Ok(element);
        }
        match self.next_event().await? {
            Event::Element(element) => Ok(element),
            Event::Header(_) => bail!("a stream header came"),
            Event::Garbage(what) => bail!("something came that is no XML: {what}"),
            Event::Close => bail!("the server closed the stream"),
            Event::End => bail!("the connection ended"),
        }
    }

    /// The next event of the wire. The inbox must be empty: it holds what came earlier.
    pub async fn next_event(&mut self) -> Result<Event> {
        if let Some(element) = self.inbox.pop_front() {
            return Ok(Event::Element(element));
        }
        let event = self.wire.next().await?;
        self.transcript.push(match &event {
            Event::Header(header) => format!("<< header {header:?}"),
            Event::Element(element) => format!("<< {}", shortened(&element.to_xml())),
            Event::Garbage(what) => format!("<< no XML: {what}"),
            Event::Close => "<< </stream:stream>".to_owned(),
            Event::End => "<< end of the connection".to_owned(),
        });
        if let Event::Element(element) = &event {
            if element.is("enabled", ns::STREAM_MANAGEMENT) {
                self.is_managed = true;
            }
            if element.is("features", ns::STREAM) {
                self.features = Some(element.clone());
            }
        }
        Ok(event)
    }

    /// Asks the server something and takes all that comes up to the answer into the inbox. What the server did because
    /// of this client's earlier stanzas has then reached every outlet. Before bind there is nothing to ask.
    pub async fn fence(&mut self) -> Result<()> {
        if self.stage != Stage::Bound {
            return Ok(());
        }
        self.fences += 1;
        let id = format!("fence-{}", self.fences);
        if self.is_managed {
            self.ask_acknowledgement().await?;
        } else {
            let domain = self.account.domain.clone();
            self.send(&format!(
                "<iq type='get' id='{id}' to='{domain}'><ping xmlns='urn:xmpp:ping'/></iq>"
            ))
            .await?;
            self.await_element(|element| {
                element.is("iq", ns::CLIENT) && element.attr("id") == Some(&id)
            })
            .await?;
        }
        Ok(())
    }

    /// Asks with `<r/>` (XEP-0198) and returns the answer's `h`. What comes before it goes to the inbox.
    pub async fn ask_acknowledgement(&mut self) -> Result<String> {
        self.send("<r xmlns='urn:xmpp:sm:3'/>").await?;
        let answer = self
            .await_element(|element| element.is("a", ns::STREAM_MANAGEMENT))
            .await?;
        answer
            .attr("h")
            .map(str::to_owned)
            .with_context(|| format!("no h in {}", answer.to_xml()))
    }

    /// Waits for an element; what comes before it goes to the inbox.
    async fn await_element(&mut self, is_awaited: impl Fn(&Element) -> bool) -> Result<Element> {
        // Set aside, as `next_event` would take what is in it for news.
        let mut arrived = std::mem::take(&mut self.inbox);
        loop {
            match self.next_event().await? {
                Event::Element(element) if is_awaited(&element) => {
                    self.inbox = arrived;
                    return Ok(element);
                }
                Event::Element(element) => arrived.push_back(element),
                other => bail!("the server ended the stream while it was asked: {other:?}"),
            }
        }
    }

    /// What waits in the inbox.
    pub fn inbox(&mut self) -> &mut VecDeque<Element> {
        &mut self.inbox
    }

    /// Closes the stream and the connection as RFC 6120 section 4.4 says, and waits for the server's end tag. Returns
    /// what came before it.
    pub async fn disconnect(&mut self) -> Result<()> {
        let end = if self.wire.is_framed() {
            "<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>"
        } else {
            "</stream:stream>"
        };
        self.send(end).await?;
        loop {
            match self.next_event().await? {
                Event::Element(element) => self
                    .transcript
                    .push(format!("-- unread {}", element.to_xml())),
                Event::Close | Event::End => break,
                other => bail!("expected the stream's end, got {other:?}"),
            }
        }
        self.wire.drop_connection();
        Ok(())
    }

    /// Ends the connection with a reset.
    pub fn cut(&mut self) -> Result<()> {
        self.transcript.push("-- cut".to_owned());
        self.wire.cut()
    }

    /// The last lines of what was said, for the report of a failure.
    pub fn transcript(&self, lines: usize) -> &[String] {
        &self.transcript[self.transcript.len().saturating_sub(lines)..]
    }
}

/// The elements of a text, each as it stands there; `None` if it holds something else.
fn elements_of(text: &str) -> Option<Vec<&str>> {
    let header = format!(
        "<stream:stream xmlns='{}' xmlns:stream='{}'>",
        ns::CLIENT,
        ns::STREAM
    );
    let mut reader = StreamReader::new(Limits::STORED);
    let is_open = reader.next(&mut header.as_bytes()).is_ok();
    let mut rest = text.as_bytes();
    let mut elements = Vec::new();
    loop {
        let start = text.len() - rest.len();
        let is_element = match reader.next(&mut rest) {
            Ok(item) => item.map(|item| matches!(item, Item::Element(_))),
            Err(_) => return None,
        };
        match is_element {
            Some(true) if is_open => elements.push(text[start..text.len() - rest.len()].trim()),
            None if !reader.is_inside() && !elements.is_empty() => return Some(elements),
            _ => return None,
        }
    }
}

fn decode(element: &Element) -> Result<Vec<u8>> {
    sasl::decode_base64(&element.text())
        .map_err(|error| anyhow::anyhow!("no base64 in {}: {error:?}", element.to_xml()))
}

/// Escapes text for an attribute value or character data.
pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('\'', "&apos;")
        .replace('"', "&quot;")
}

/// A long text is not worth reading in a report.
fn shortened(text: &str) -> String {
    const CHARS_MAX: usize = 600;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}
