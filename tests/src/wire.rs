//! A client's connection: bytes out, stream events in, over TCP or TLS.
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use protocol::stream::StreamHeader;
use protocol::websocket::{self, client::FromServer};
use protocol::xml::{Item, Limits, StreamReader};
use protocol::{Element, ns};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error as TlsError, SignatureScheme,
};

/// How long a client waits for what it expects. A test that is right never waits this long.
pub const WAIT_SECS_MAX: u64 = 10;

/// Bytes asked for with one read.
const READ_BYTES: usize = 16 * 1024;

/// What came in.
#[derive(Debug)]
pub enum Event {
    /// The server's stream header.
    Header(StreamHeader),
    /// A stanza or another element of the stream's level.
    Element(Element),
    /// `</stream:stream>`.
    Close,
    /// Bytes that are no XML of a stream; what follows them on this connection is not read.
    Garbage(String),
    /// The end of the connection, clean or not.
    End,
}

/// A connection and the XML stream on it.
pub struct Wire {
    socket: Option<Socket>,
    reader: StreamReader,
    /// What has come of frames, over WebSocket.
    frames: Option<Vec<u8>>,
    /// Where a read goes.
    buffer: Box<[u8]>,
    events: VecDeque<Event>,
    is_ended: bool,
    is_garbage: bool,
}

enum Socket {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    /// Connects; nothing is sent.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = timeout(
            Duration::from_secs(WAIT_SECS_MAX),
            TcpStream::connect(address),
        )
        .await
        .context("no answer to the connection")?
        .with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            socket: Some(Socket::Tcp(stream)),
            reader: StreamReader::new(client_limits()),
            frames: None,
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            events: VecDeque::new(),
            is_ended: false,
            is_garbage: false,
        })
    }

    /// Does the TLS handshake and expects a new stream on top of it. Any certificate will do.
    pub async fn start_tls(&mut self, domain: &str, alpn: Option<&str>) -> Result<()> {
        self.start_tls_as(domain, alpn, None).await
    }

    /// The same for a client that may have a certificate.
    pub async fn start_tls_as(
        &mut self,
        domain: &str,
        alpn: Option<&str>,
        certificate: Option<&ClientCertificate>,
    ) -> Result<()> {
        let Some(Socket::Tcp(stream)) = self.socket.take() else {
            bail!("TLS is on already, or the connection gone")
        };
        let name = ServerName::try_from(domain.to_owned()).context("no name for a certificate")?;
        let connector = TlsConnector::from(Arc::new(tls_config(alpn, certificate)?));
        let stream = timeout(
            Duration::from_secs(WAIT_SECS_MAX),
            connector.connect(name, stream),
        )
        .await
        .context("no answer to the TLS handshake")?
        .context("the TLS handshake failed")?;
        self.socket = Some(Socket::Tls(Box::new(stream)));
        self.reader = StreamReader::new(client_limits());
        Ok(())
    }

    /// Opens a WebSocket (RFC 7395): from here on each element is a message.
    pub async fn open_websocket(&mut self, host: &str, path: &str) -> Result<()> {
        let request = websocket::client::handshake(host, path);
        self.send(request.as_bytes()).await?;
        let mut come = Vec::new();
        let end = loop {
            if let Some(end) = memchr::memmem::find(&come, b"\r\n\r\n") {
                break end;
            }
            match timeout(Duration::from_secs(WAIT_SECS_MAX), self.read()).await {
                Ok(Ok(0)) => bail!("the server ended the connection amid the handshake"),
                Ok(Ok(count)) => come.extend_from_slice(&self.buffer[..count]),
                Ok(Err(error)) => return Err(error).context("cannot read"),
                Err(_) => bail!("no answer to the WebSocket's handshake"),
            }
        };
        let head = String::from_utf8_lossy(&come[..end]).into_owned();
        ensure!(head.starts_with("HTTP/1.1 101 "), "the answer was {head}");
        self.frames = Some(come.split_off(end + 4));
        self.reader = StreamReader::framed(client_limits());
        Ok(())
    }

    /// Whether elements go in frames.
    pub fn is_framed(&self) -> bool {
        self.frames.is_some()
    }

    /// Whether TLS is on.
    pub fn is_tls(&self) -> bool {
        matches!(self.socket, Some(Socket::Tls(_)))
    }

    /// What `tls-exporter` binds a login to (RFC 9266). TLS 1.3 only.
    pub fn exported_key(&self) -> Result<[u8; 32]> {
        let Some(Socket::Tls(stream)) = &self.socket else {
            bail!("TLS is not on")
        };
        Ok(stream
            .get_ref()
            .1
            .export_keying_material([0; 32], b"EXPORTER-Channel-Binding", None)?)
    }

    /// Writes all bytes. A connection that the server has closed is no error here: what matters is what it sent before.
    pub async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let result = match &mut self.socket {
            Some(Socket::Tcp(stream)) => stream.write_all(bytes).await,
            Some(Socket::Tls(stream)) => match stream.write_all(bytes).await {
                Ok(()) => stream.flush().await,
                error => error,
            },
            None => bail!("not connected"),
        };
        match result {
            Err(error) if !is_end(&error) => Err(error).context("cannot send"),
            _ => Ok(()),
        }
    }

    /// The next event, however long it takes. Cancel safe.
    pub async fn event(&mut self) -> Result<Event> {
        self.next_event().await
    }

    /// The socket, for its options; None after the end.
    pub fn tcp(&self) -> Option<&TcpStream> {
        match self.socket.as_ref()? {
            Socket::Tcp(stream) => Some(stream),
            Socket::Tls(stream) => Some(stream.get_ref().0),
        }
    }

    /// The next event, waiting at most [`WAIT_SECS_MAX`].
    pub async fn next(&mut self) -> Result<Event> {
        match timeout(Duration::from_secs(WAIT_SECS_MAX), self.next_event()).await {
            Ok(event) => event,
            Err(_) => bail!("nothing came within {WAIT_SECS_MAX} s"),
        }
    }

    async fn next_event(&mut self) -> Result<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            if self.is_ended {
                return Ok(Event::End);
            }
            ensure!(self.socket.is_some(), "not connected");
            match self.read().await {
                Ok(0) => self.is_ended = true,
                Ok(count) => match &mut self.frames {
                    None => self.feed(count),
                    Some(frames) => {
                        frames.extend_from_slice(&self.buffer[..count]);
                        self.feed_frames();
                    }
                },
                Err(error) if is_end(&error) => self.is_ended = true,
                Err(error) => return Err(error).context("cannot read"),
            }
        }
    }

    async fn read(&mut self) -> io::Result<usize> {
        match &mut self.socket {
            Some(Socket::Tcp(stream)) => stream.read(&mut self.buffer).await,
            Some(Socket::Tls(stream)) => stream.read(&mut self.buffer).await,
            None => Err(io::ErrorKind::NotConnected.into()),
        }
    }

    /// Reads the frames that are whole.
    fn feed_frames(&mut self) {
        let Some(frames) = &mut self.frames else {
            return;
        };
        while let Some(frame) = websocket::client::take_frame(frames) {
            let text = match frame {
                FromServer::Text(text) => text,
                // The end of the connection follows; pings are for browsers to answer.
                FromServer::Close(_) | FromServer::Other(..) => continue,
            };
            let event = match self.reader.next(&mut &*text) {
                Ok(Some(Item::Element(frame))) if text.starts_with(b"<") => {
                    let element = frame.to_element();
                    match (element.name(), element.ns()) {
                        ("open", ns::FRAMING) => Event::Header(StreamHeader::of_open(&element)),
                        ("close", ns::FRAMING) => Event::Close,
                        _ => Event::Element(element),
                    }
                }
                other => {
                    Event::Garbage(format!("{other:?} in {:?}", String::from_utf8_lossy(&text)))
                }
            };
            self.events.push_back(event);
        }
    }

    /// Reads the first bytes of the buffer as XML.
    fn feed(&mut self, count: usize) {
        let mut input = &self.buffer[..count];
        if self.is_garbage {
            return;
        }
        loop {
            let item = match self.reader.next(&mut input) {
                Ok(item) => item,
                Err(error) => {
                    let bytes = String::from_utf8_lossy(&self.buffer[..count]);
                    self.events
                        .push_back(Event::Garbage(format!("{error:?} in {bytes:?}")));
                    self.is_garbage = true;
                    return;
                }
            };
            match item {
                Some(Item::Header(header)) => self.events.push_back(Event::Header(header)),
                Some(Item::Element(frame)) => {
                    let element = frame.to_element();
                    // RFC 6120 section 6.4.6: a new stream begins behind it.
                    let is_restart = element.is("success", protocol::ns::SASL);
                    self.events.push_back(Event::Element(element));
                    if is_restart {
                        self.reader.restart();
                    }
                }
                Some(Item::Close) => self.events.push_back(Event::Close),
                None => return,
            }
        }
    }

    /// Ends the connection with a reset, as a network that is gone would: nothing is said.
    pub fn cut(&mut self) -> Result<()> {
        let stream = match self.socket.take() {
            Some(Socket::Tcp(stream)) => stream,
            Some(Socket::Tls(stream)) => stream.into_inner().0,
            None => bail!("not connected"),
        };
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        Ok(())
    }

    /// Closes without a word on the XML level; over TLS without `close_notify` too.
    pub fn drop_connection(&mut self) {
        self.socket = None;
        self.is_ended = true;
    }
}

/// Servers may send more than clients: a roster is one element.
fn client_limits() -> Limits {
    Limits {
        element_bytes_max: 4 << 20,
        elements_max: 65_536,
        ..Limits::AUTHENTICATED
    }
}

fn is_end(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(
        error.kind(),
        BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof
    )
}

/// A client's certificate and its key, in DER.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    /// The certificate.
    pub certificate: Vec<u8>,
    /// Its key (PKCS #8).
    pub key: Vec<u8>,
}

fn tls_config(alpn: Option<&str>, certificate: Option<&ClientCertificate>) -> Result<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = AnyCertificate(Arc::clone(&provider));
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let key = PrivatePkcs8KeyDer::from(own.key.clone());
            let chain = vec![CertificateDer::from(own.certificate.clone())];
            builder.with_client_auth_cert(chain, key.into())?
        }
    };
    config.alpn_protocols = alpn
        .into_iter()
        .map(|name| name.as_bytes().to_vec())
        .collect();
    Ok(config)
}

/// Takes any certificate, as those of tests are self-signed; signatures are checked all the same.
#[derive(Debug)]
pub struct AnyCertificate(pub Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
