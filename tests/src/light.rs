//! A client for tests with thousands of connections: no transcript, no inbox, keys derived once.
use std::net::SocketAddr;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};
use protocol::sasl::{
    ClientBinding, SaltedPassword, ScramClient, ScramHash, decode_base64, encode_base64,
    random_nonce,
};
use protocol::{Element, ns};

use crate::target::DOMAIN;
use crate::wire::{Event, Wire};

/// The password of every account.
pub const PASSWORD: &str = "one for all";
/// Rounds of PBKDF2: what a node asks for at least.
pub const ITERATIONS: u32 = 10_000;
/// The salt of every account.
pub const SALT: &[u8] = b"salt of the tests";

/// Where and how a client connects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// TCP.
    Plain(SocketAddr),
    /// TLS from the first byte.
    Tls(SocketAddr),
}

impl Way {
    /// The listener.
    pub fn address(self) -> SocketAddr {
        match self {
            Self::Plain(address) | Self::Tls(address) => address,
        }
    }
}

/// One connection.
pub struct Light {
    wire: Wire,
}

/// Whether an element is counted by stream management.
pub fn is_stanza(element: &Element) -> bool {
    element.ns() == ns::CLIENT && matches!(element.name(), "message" | "presence" | "iq")
}

/// What a resumption led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumed {
    /// The session goes on; the server has handled so many of the client's stanzas.
    Goes(u32),
    /// The session is gone.
    Gone,
}

impl Light {
    /// Connects and authenticates; the next thing may be bind or resume.
    pub async fn log_in(way: Way, local: &str) -> Result<Self> {
        let mut client = Self::dial(way).await?;
        client.open_stream().await?;
        client.authenticate(local).await?;
        client.open_stream().await?;
        Ok(client)
    }

    /// Connects; over TLS the handshake is done.
    pub async fn dial(way: Way) -> Result<Self> {
        let wire = match way {
            Way::Plain(address) => Wire::connect(address).await?,
            Way::Tls(address) => {
                let mut wire = Wire::connect(address).await?;
                wire.start_tls(DOMAIN, Some("xmpp-client")).await?;
                wire
            }
        };
        Ok(Self { wire })
    }

    /// Opens a stream and takes the features.
    pub async fn open_stream(&mut self) -> Result<()> {
        self.send(&format!(
            "<stream:stream to='{DOMAIN}' version='1.0' xmlns='jabber:client' \
             xmlns:stream='http://etherx.jabber.org/streams'>"
        ))
        .await?;
        match self.wire.next().await? {
            Event::Header(_) => {}
            other => bail!("expected a stream header, got {other:?}"),
        }
        let features = self.element().await?;
        ensure!(
            features.is("features", ns::STREAM),
            "expected features, got {}",
            features.to_xml()
        );
        Ok(())
    }

    async fn authenticate(&mut self, local: &str) -> Result<()> {
        static SALTED: OnceLock<SaltedPassword> = OnceLock::new();
        let derive = || SaltedPassword::derive(ScramHash::Sha256, PASSWORD, SALT, ITERATIONS);
        let salted = SALTED.get_or_init(derive).clone();
        let nonce = random_nonce();
        let mut scram = ScramClient::with_salted(ClientBinding::None, local, salted, &nonce);
        let (mechanism, first) = (ScramHash::Sha256.name(), encode_base64(&scram.first()));
        self.send(&format!(
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='{mechanism}'>{first}</auth>"
        ))
        .await?;
        let challenge = self.answer("challenge").await?;
        let response = encode_base64(&scram.respond(&challenge)?);
        self.send(&format!(
            "<response xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>{response}</response>"
        ))
        .await?;
        let success = self.answer("success").await?;
        scram.verify(&success)?;
        Ok(())
    }

    async fn answer(&mut self, name: &str) -> Result<Vec<u8>> {
        let answer = self.element().await?;
        ensure!(
            answer.is(name, ns::SASL),
            "expected {name}, got {}",
            answer.to_xml()
        );
        decode_base64(&answer.text()).map_err(|error| anyhow::anyhow!("no base64: {error:?}"))
    }

    /// Binds a resource and returns the full address.
    pub async fn bind(&mut self, resource: &str) -> Result<String> {
        self.send(&format!(
            "<iq type='set' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
             <resource>{resource}</resource></bind></iq>"
        ))
        .await?;
        // Nothing may come before the answer.
        let answer = self.element().await?;
        let bound = answer.child("bind", ns::BIND);
        let jid = bound.and_then(|bind| bind.child("jid", ns::BIND));
        let jid = jid.with_context(|| format!("bind: {}", answer.to_xml()))?;
        Ok(jid.text().into_owned())
    }

    /// Turns stream management on; returns the id by which the session may be resumed, and what came before the
    /// answer and so is not counted.
    pub async fn enable(&mut self) -> Result<(String, Vec<Element>)> {
        self.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
            .await?;
        let mut early = Vec::new();
        loop {
            let element = self.element().await?;
            if element.is("enabled", ns::STREAM_MANAGEMENT) {
                let id = element.attr("id").context("no id to resume with")?;
                return Ok((id.to_owned(), early));
            }
            ensure!(is_stanza(&element), "enable: {}", element.to_xml());
            early.push(element);
        }
    }

    /// Asks for a resumption, having received `h` stanzas.
    pub async fn resume(&mut self, previd: &str, h: u32) -> Result<Resumed> {
        self.send(&format!(
            "<resume xmlns='urn:xmpp:sm:3' previd='{previd}' h='{h}'/>"
        ))
        .await?;
        let answer = self.element().await?;
        if answer.is("failed", ns::STREAM_MANAGEMENT) {
            return Ok(Resumed::Gone);
        }
        ensure!(
            answer.is("resumed", ns::STREAM_MANAGEMENT),
            "resume: {}",
            answer.to_xml()
        );
        let h = answer.attr("h").and_then(|h| h.parse().ok());
        Ok(Resumed::Goes(h.context("no h")?))
    }

    /// Sends text as it is.
    pub async fn send(&mut self, text: &str) -> Result<()> {
        self.wire.send(text.as_bytes()).await
    }

    /// The next event, however long it takes. Cancel safe.
    pub async fn event(&mut self) -> Result<Event> {
        self.wire.event().await
    }

    /// The next element; an end is an error.
    pub async fn element(&mut self) -> Result<Element> {
        match self.wire.next().await? {
            Event::Element(element) => Ok(element),
            other => bail!("expected an element, got {other:?}"),
        }
    }

    /// Closes the stream and waits for the server's end of it.
    pub async fn close(mut self) -> Result<()> {
        self.send("</stream:stream>").await?;
        while !matches!(self.wire.next().await?, Event::Close | Event::End) {}
        Ok(())
    }

    /// Ends the connection with a reset: nothing is said.
    pub fn cut(mut self) -> Result<()> {
        self.wire.cut()
    }

    /// The connection below.
    pub fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }
}
