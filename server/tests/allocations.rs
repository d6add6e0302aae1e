//! What a routed message costs in allocations: a count, so it is the same on any machine.
//!
//! The node runs on the thread of the test, which is the one that is counted; its clients run on another, and the
//! database has threads of its own. Two clients throw one message back and forth, as in the benchmark's rows with one
//! message in flight.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use allocation_counter::{AllocationInfo, measure};
use daemon::Shutdown;
use protocol::websocket::client::{self as websocket, FromServer};
use server::config::Config;
use server::node::{Node, plan};
use tokio::sync::mpsc;
use tokio_rustls::rustls;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};

/// Messages that go round before counting starts: buffers have their sizes then.
const WARM_UP: usize = 200;
/// Messages that are counted.
const COUNTED: usize = 2_000;
/// What sweeps and timers allocate meanwhile, per message, on a slow machine.
const ASIDE_MAX: f64 = 0.3;

/// Whether streams are encrypted and managed, and go over WebSocket.
#[derive(Clone, Copy)]
struct Case {
    tls: bool,
    managed: bool,
    websocket: bool,
}

#[test]
fn allocations_per_routed_message() {
    let limits = [
        ("plain", false, false, false, 6.0),
        ("tls", true, false, false, 9.0),
        ("sm", false, true, false, 10.0),
        ("tls_sm", true, true, false, 13.0),
        ("websocket", false, false, true, 6.0),
        ("websocket_sm", false, true, true, 10.0),
    ];
    let mut line = "allocations per routed message:".to_owned();
    for (name, tls, managed, websocket, limit) in limits {
        let each = allocations_per_message(Case {
            tls,
            managed,
            websocket,
        });
        assert!(each <= limit + ASIDE_MAX, "{name}: {each:.2} of {limit}");
        line.push_str(&format!(" {name}={each:.2}"));
    }
    // The benchmark reads it.
    println!("{line}");
}

fn allocations_per_message(case: Case) -> f64 {
    let info = counted(case, play);
    info.count_total as f64 / COUNTED as f64
}

/// Sessions that stay while their bytes are counted.
const IDLE: usize = 200;

#[test]
fn an_idle_session_costs_few_bytes() {
    for (tls, managed, limit) in [
        (false, false, 2_000),
        (false, true, 3_000),
        (true, false, 5_500),
        (true, true, 6_500),
    ] {
        let each = |websocket| {
            let case = Case {
                tls,
                managed,
                websocket,
            };
            counted(case, idle).bytes_current / i64::try_from(IDLE).unwrap()
        };
        let (stream, websocket) = (each(false), each(true));
        println!(
            "TLS {tls}, stream management {managed}: {stream} bytes per idle session, {websocket} over WebSocket"
        );
        assert!(stream <= limit, "{stream} of {limit}");
        // RFC 7395 is framing, and frames cost nothing while there are none.
        assert!(websocket * 100 <= stream * 105, "{websocket} and {stream}");
    }
}

/// Readers that stop while their bytes are counted.
const STALLED: usize = 20;
/// The kernel's buffer of such a reader, in bytes: as small as the kernel allows.
const STALLED_RECEIVE_BYTES: usize = 1;
/// Bytes of a message to them.
const STALLED_MESSAGE_BYTES: usize = 1_024;
/// By then so many were sent to each that the node must have given them up.
const STALLED_ROUNDS_MAX: usize = 1_000;

#[test]
fn a_reader_that_stops_costs_few_bytes() {
    for (tls, managed, limit) in [
        (false, false, 90_000),
        (false, true, 125_000),
        (true, false, 90_000),
        (true, true, 125_000),
    ] {
        let case = Case {
            tls,
            managed,
            websocket: false,
        };
        let info = counted(case, stall);
        // At the worst moment, which is shortly before they are given up.
        let each = info.bytes_max / STALLED as u64;
        println!(
            "TLS {tls}, stream management {managed}: {each} bytes per reader that has stopped"
        );
        assert!(each <= limit, "{each} of {limit}");
    }
}

/// What the node's thread allocates between the two times that `work` on another thread says something. After the
/// second time `work` waits before it hangs up.
fn counted(case: Case, work: Work) -> AllocationInfo {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "[general]\nhosts = [\"localhost\"]\ndata_dir = \"{}\"\n\
         [[listen.c2s]]\nport = 0\nip_address = \"127.0.0.1\"\n{}\
         [[listen.http]]\nport = 0\nip_address = \"127.0.0.1\"\n{}\
         [[listen.http.handlers.mongoose_websocket_handler]]\nhost = \"_\"\npath = \"/ws-xmpp\"\n\
         [auth.anonymous]\n\
         [modules.mod_roster]\n[modules.mod_presence]\n[modules.mod_offline]\n[modules.mod_ping]\n\
         [modules.mod_stream_management]\n",
        dir.path().display(),
        if case.tls { "tls.mode = \"tls\"\n" } else { "" },
        if case.tls { "tls = {}\n" } else { "" },
    );
    let config = Config::parse(&text, "allocations").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let shutdown = Shutdown::new();
    let start = Node::start(plan::of(&config).unwrap(), shutdown.clone());
    let node = runtime.block_on(Box::pin(start)).unwrap();
    let address = match case.websocket {
        false => node.clients[0],
        true => node.http[0].address,
    };
    let running = runtime.spawn(node.run());

    let (told, mut heard) = mpsc::channel(1);
    let (go_on, may_go_on) = channel();
    let clients = thread::spawn(move || work(address, case, &told, &may_go_on));
    runtime.block_on(heard.recv()).unwrap();
    let info = measure(|| {
        go_on.send(()).unwrap();
        runtime.block_on(heard.recv()).unwrap();
    });
    go_on.send(()).unwrap();
    clients.join().unwrap();
    shutdown.begin_at_once();
    runtime.block_on(running).unwrap();
    info
}

/// What clients do.
type Work = fn(SocketAddr, Case, &mpsc::Sender<()>, &Receiver<()>);

/// Clients that log in, send presence and get one message, and then nothing happens.
fn idle(address: SocketAddr, case: Case, told: &mpsc::Sender<()>, may_go_on: &Receiver<()>) {
    let log_in = |_| {
        let mut client = Client::log_in(address, case);
        client.send("<presence/>");
        client.until("<presence ");
        let jid = client.jid.clone();
        client.say(&jid);
        client.hear();
        if case.managed {
            // The presence and the message.
            client.send("<a xmlns='urn:xmpp:sm:3' h='2'/>");
        }
        client
    };
    // What only the first ones cost.
    let first: Vec<_> = (0..20).map(log_in).collect();
    told.blocking_send(()).unwrap();
    may_go_on.recv().unwrap();
    let clients: Vec<_> = (0..IDLE).map(log_in).collect();
    told.blocking_send(()).unwrap();
    may_go_on.recv().unwrap();
    drop((first, clients));
}

/// Readers that have logged in, and messages to them until the node has given up all.
fn stall(address: SocketAddr, case: Case, told: &mpsc::Sender<()>, may_go_on: &Receiver<()>) {
    let log_in = |_| {
        let client = Client::log_in(address, case);
        let socket = socket2::SockRef::from(&client.socket);
        socket.set_recv_buffer_size(STALLED_RECEIVE_BYTES).unwrap();
        client
    };
    let readers: Vec<_> = (0..STALLED).map(log_in).collect();
    // It waits for no acknowledgement, so that no row is made, which a thread of the database would let go.
    let mut sender = Client::log_in(
        address,
        Case {
            managed: false,
            ..case
        },
    );
    told.blocking_send(()).unwrap();
    may_go_on.recv().unwrap();
    let body = "x".repeat(STALLED_MESSAGE_BYTES);
    let mut listening: Vec<&Client> = readers.iter().collect();
    for round in 0..STALLED_ROUNDS_MAX {
        for reader in &listening {
            let to = &reader.jid;
            sender.send(&format!(
                "<message to='{to}' type='chat'><body>{body}</body></message>"
            ));
        }
        sender.send(&format!(
            "<iq type='get' id='round-{round}-' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>"
        ));
        let answers = sender.until(&format!("round-{round}-"));
        // What comes from one is an error: it has gone.
        listening.retain(|reader| !answers.contains(&reader.jid));
        if listening.is_empty() {
            break;
        }
    }
    assert!(listening.is_empty(), "{} go on", listening.len());
    told.blocking_send(()).unwrap();
    may_go_on.recv().unwrap();
    drop(readers);
}

/// Logs two clients in and lets them talk; says when all is warm, and when all was counted.
fn play(address: SocketAddr, case: Case, told: &mpsc::Sender<()>, may_go_on: &Receiver<()>) {
    let mut clients = [0, 1].map(|_| Client::log_in(address, case));
    let mut talk = |count: usize| {
        for _ in 0..count {
            let [from, to] = &mut clients;
            from.say(&to.jid);
            to.hear();
            clients.reverse();
        }
    };
    talk(WARM_UP);
    told.blocking_send(()).unwrap();
    may_go_on.recv().unwrap();
    talk(COUNTED);
    told.blocking_send(()).unwrap();
    may_go_on.recv().unwrap();
}

trait Duplex: Read + Write {}
impl<T: Read + Write> Duplex for T {}

struct Client {
    stream: Box<dyn Duplex>,
    /// The same, for its options.
    socket: TcpStream,
    unread: Vec<u8>,
    /// What has come of frames, over WebSocket.
    frames: Option<Vec<u8>>,
    jid: String,
    managed: bool,
    received: u32,
}

impl Client {
    fn log_in(address: SocketAddr, case: Case) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let patience = Duration::from_secs(20);
        stream.set_read_timeout(Some(patience)).unwrap();
        let socket = stream.try_clone().unwrap();
        let stream: Box<dyn Duplex> = if case.tls {
            Box::new(encrypted(stream))
        } else {
            Box::new(stream)
        };
        let mut client = Self {
            stream,
            socket,
            unread: Vec::new(),
            frames: None,
            jid: String::new(),
            managed: case.managed,
            received: 0,
        };
        if case.websocket {
            client.send(&websocket::handshake("localhost", "/ws-xmpp"));
            client.until("\r\n\r\n");
            client.frames = Some(Vec::new());
        }
        let header = match case.websocket {
            false => {
                "<stream:stream to='localhost' version='1.0' xmlns='jabber:client' \
                 xmlns:stream='http://etherx.jabber.org/streams'>"
            }
            true => {
                "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='localhost' version='1.0'/>"
            }
        };
        client.send(header);
        client.until("</stream:features>");
        client
            .send("<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='ANONYMOUS'>=</auth>");
        client.until("</success>");
        client.send(header);
        client.until("</stream:features>");
        client.send("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>");
        let bound = client.until("</jid>");
        let (_, jid) = bound.rsplit_once("<jid>").unwrap();
        client.jid = jid.trim_end_matches("</jid>").to_owned();
        client.until("</iq>");
        if case.managed {
            client.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>");
            client.until("<enabled ");
            client.until("/>");
        }
        client
    }

    fn send(&mut self, text: &str) {
        self.send_all(&[text]);
    }

    /// Sends elements with one write.
    fn send_all(&mut self, elements: &[&str]) {
        let mut bytes = Vec::new();
        for element in elements.iter().filter(|element| !element.is_empty()) {
            match self.frames {
                None => bytes.extend_from_slice(element.as_bytes()),
                Some(_) => websocket::push_element(&mut bytes, element.as_bytes(), [1, 2, 3, 4]),
            }
        }
        self.stream.write_all(&bytes).unwrap();
        self.stream.flush().unwrap();
    }

    /// What comes up to and with that text.
    fn until(&mut self, end: &str) -> String {
        let mut buffer = [0; 4_096];
        loop {
            let text = String::from_utf8_lossy(&self.unread).into_owned();
            if let Some(at) = text.find(end) {
                self.unread.drain(..at + end.len());
                return text[..at + end.len()].to_owned();
            }
            let count = self.stream.read(&mut buffer).unwrap();
            assert!(count > 0, "the connection ended after {text:?}");
            let Some(frames) = &mut self.frames else {
                self.unread.extend_from_slice(&buffer[..count]);
                continue;
            };
            frames.extend_from_slice(&buffer[..count]);
            while let Some(frame) = websocket::take_frame(frames) {
                if let FromServer::Text(text) = frame {
                    self.unread.extend(text);
                }
            }
        }
    }

    /// Sends a message of some 240 bytes, with the acknowledgement of what came before, and asks for one.
    fn say(&mut self, to: &str) {
        let (ack, request) = if self.managed {
            let ack = format!("<a xmlns='urn:xmpp:sm:3' h='{}'/>", self.received);
            (ack, "<r xmlns='urn:xmpp:sm:3'/>")
        } else {
            Default::default()
        };
        let body = "x".repeat(120);
        let message = format!(
            "<message to='{to}' type='chat' id='of-some-length'><body>{body}</body></message>"
        );
        self.send_all(&[&ack, &message, request]);
    }

    fn hear(&mut self) {
        self.until("</message>");
        self.received += 1;
    }
}

fn encrypted(stream: TcpStream) -> StreamOwned<ClientConnection, TcpStream> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    StreamOwned::new(connection, stream)
}

/// The node has made its certificate itself.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
