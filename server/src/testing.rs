//! For tests: a node on loopback with its database in memory, and a client that says exactly what a test wants.
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use daemon::Shutdown;
use protocol::sasl::{
    ClientBinding, ScramClient, ScramHash, decode_base64, encode_base64, random_nonce,
};
use protocol::stream::StreamHeader;
use protocol::websocket::{self, client::FromServer};
use protocol::xml::{Item, Limits, StreamReader};
use protocol::{BareJid, Element, Framing, Stanza, ns};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use transport::{ListenOptions, Socket};

use crate::access::AccessRules;
use crate::auth::hashing::Hashing;
use crate::auth::mechanisms::Mechanism;
use crate::auth::{self, Auth};
use crate::c2s::config::TlsMode;
use crate::c2s::timing::Timing;
use crate::c2s::{ListenerSettings, resume};
use crate::hooks::Hooks;
use crate::host::config::Acknowledge;
use crate::host::{Host, Hosts};
use crate::iq::IqTable;
use crate::ledger::Ledger;
use crate::listen::http::{HandlerPlan, HttpPlan, RoutePlan, WebSocketPlan};
use crate::metrics::Metrics;
use crate::modules::ModulesConfig;
pub(crate) use crate::modules::config::{Disco, Presence, Roster, StaleH, StreamManagement};
pub(crate) use crate::node::HostPlan;
pub(crate) use crate::node::NodePlan;
pub(crate) use crate::node::components::ComponentPlan;
pub(crate) use crate::node::plan::BYTES_BEFORE_LOGIN_MAX;
use crate::node::{ListenerPlan, Node, drain};
use crate::outlet::{Outlet, SessionRef};
use crate::router::Router;
use crate::storage::accounts::AccountStore;
use crate::storage::{self, Db, Options, Place};

/// A test that is right never waits so long.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(20);
/// The domain of test nodes.
pub(crate) const DOMAIN: &str = "localhost";
/// Everybody's password.
pub(crate) const PASSWORD: &str = "secret";
/// Where tests look for the WebSocket.
pub(crate) const WEBSOCKET_PATH: &str = "/ws-xmpp";
/// The mask of the client's frames.
pub(crate) const MASK: [u8; 4] = [0x5a, 0x01, 0xff, 0x80];
const HASH: ScramHash = ScramHash::Sha1;
/// Nobody guesses these passwords, so hashing them may be cheap.
const ITERATIONS: u32 = 2;

/// Waits for something that comes, unless something is wrong.
pub(crate) async fn soon<T>(what: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(WAIT_MAX, what).await;
    waited.expect("it comes at once, unless something is wrong")
}

/// Waits for something to become true that other tasks bring about.
pub(crate) async fn until(mut is_true: impl FnMut() -> bool) {
    soon(async {
        while !is_true() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
}

/// A node of this process.
pub(crate) struct TestNode {
    pub(crate) router: Arc<Router>,
    pub(crate) address: SocketAddr,
    pub(crate) http: Vec<SocketAddr>,
    pub(crate) components: Vec<SocketAddr>,
    pub(crate) shutdown: Shutdown,
    pub(crate) running: JoinHandle<()>,
    dir: TempDir,
}

#[allow(dead_code, reason = "not every test looks at every part")]
impl TestNode {
    /// A node with stream management and accounts, without TLS.
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// The same with something changed.
    pub(crate) async fn start_with(change: impl FnOnce(&mut NodePlan)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut plan = plan(&dir);
        change(&mut plan);
        let shutdown = Shutdown::new();
        let node = Node::start(plan, shutdown.clone()).await.unwrap();
        let (router, address) = (node.router.clone(), node.clients[0]);
        let components = node.components.clone();
        let http = node.http.iter().map(|served| served.address).collect();
        #[expect(clippy::disallowed_methods, reason = "outlives the node's own tasks")]
        let running = tokio::spawn(node.run());
        Self {
            router,
            address,
            http,
            components,
            shutdown,
            running,
            dir,
        }
    }

    /// Its data directory.
    pub(crate) fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    /// Makes an account with everybody's password.
    pub(crate) async fn register(&self, name: &str) -> BareJid {
        let account = BareJid::from_parts(Some(name), DOMAIN).unwrap();
        let host = self.router.host(DOMAIN).unwrap();
        host.auth.register(&account, PASSWORD).await.unwrap();
        account
    }

    /// A client that has logged in with a new account and bound the resource `test`.
    pub(crate) async fn client(&self, name: &str) -> Client {
        self.register(name).await;
        self.session(name, "test").await
    }

    /// One more session of an account.
    pub(crate) async fn session(&self, name: &str, resource: &str) -> Client {
        let mut client = Client::logged_in(self.address, name).await;
        client.bind(resource).await;
        client
    }

    /// From now on new clients find a host with these hooks, which knows no accounts.
    pub(crate) async fn use_hooks(&self, add: impl FnOnce(&mut Hooks)) {
        self.router
            .set_hosts(Hosts::new(vec![host(&self.router, add).await]));
    }

    /// The session with that full address.
    pub(crate) fn find(&self, jid: &str) -> Option<SessionRef> {
        let jid = protocol::Jid::parse(jid).unwrap();
        self.router.sessions.find(jid.as_ref())
    }

    /// Stops the node, waits for its end and gives its data directory.
    pub(crate) async fn stop(self) -> TempDir {
        self.shutdown.begin();
        soon(self.running).await.unwrap();
        self.dir
    }
}

/// An HTTP port for clients over WebSocket.
pub(crate) fn websocket_plan() -> HttpPlan {
    let plan = WebSocketPlan {
        settings: listener_settings(),
        timing: Timing::default(),
    };
    HttpPlan {
        address: "127.0.0.1:0".parse().unwrap(),
        tls: None,
        tls_at_balancer: false,
        proxy_protocol: None,
        connections_max: 1_000,
        routes: vec![RoutePlan {
            host: None,
            path: WEBSOCKET_PATH.into(),
            handler: HandlerPlan::WebSocket(Box::new(plan)),
        }],
    }
}

/// What connections of a test's listener get.
pub(crate) fn listener_settings() -> ListenerSettings {
    ListenerSettings {
        tls_mode: TlsMode::None,
        tls: None,
        tls_at_balancer: false,
        proxy_protocol: None,
        state_timeout: WAIT_MAX,
        stanza_bytes_max: 65_536,
        access: "all".into(),
        allowed_methods: None,
        shaper_rate: None,
        backwards_compatible_session: true,
        bytes_before_login_max: BYTES_BEFORE_LOGIN_MAX,
        connections_max: 1_000,
    }
}

pub(crate) fn plan(dir: &TempDir) -> NodePlan {
    NodePlan {
        storage: Options::new(Place::Memory),
        data_dir: dir.path().to_owned(),
        listeners: vec![ListenerPlan {
            address: "127.0.0.1:0".parse().unwrap(),
            options: ListenOptions::default(),
            settings: listener_settings(),
        }],
        http: Vec::new(),
        components: Vec::new(),
        bosh: crate::bosh::Settings::new(&Default::default(), 64 * 1024),
        hosts: vec![host_plan()],
        default_domain: DOMAIN.into(),
        language: "en".into(),
        acknowledge: Acknowledge::Settled,
        hide_service_name: false,
        registration_pause: None,
        drain: drain::Settings {
            grace: WAIT_MAX,
            sessions_per_sec: 0,
            see_other_host: None,
        },
        logs: None,
        services: Vec::new(),
    }
}

fn host_plan() -> HostPlan {
    HostPlan {
        host_type: DOMAIN.into(),
        domains: vec![DOMAIN.into()],
        auth: auth::Settings {
            methods: vec![auth::Method::Stored, auth::Method::Anonymous],
            mechanisms: vec![
                Mechanism::Scram {
                    hash: HASH,
                    plus: true,
                },
                Mechanism::Scram {
                    hash: HASH,
                    plus: false,
                },
                Mechanism::Plain,
                Mechanism::Anonymous,
            ],
            hashes: vec![HASH],
            iterations: ITERATIONS,
            users_max: None,
            certificates: crate::auth::external::Naming::default(),
        },
        modules: ModulesConfig {
            stream_management: Some(StreamManagement::default()),
            ..ModulesConfig::default()
        },
        access: AccessRules::default(),
        replaced_wait_timeout: WAIT_MAX,
    }
}

/// A host with these hooks and an empty store of accounts.
pub(crate) async fn host(router: &Arc<Router>, add: impl FnOnce(&mut Hooks)) -> Host {
    let plan = host_plan();
    let db = Db::open(storage::Options::new(Place::Memory))
        .await
        .unwrap();
    db.migrate().await.unwrap();
    let mut hooks = Hooks::new(router.metrics.hooks.clone());
    add(&mut hooks);
    Host {
        host_type: plan.host_type,
        domains: plan.domains,
        hooks,
        iq: IqTable::default(),
        auth: Auth::new(
            plan.auth,
            AccountStore::new(db),
            Arc::new([0; 32]),
            Arc::new(Hashing::new(1)),
        ),
        access: plan.access,
        stream_features: Vec::new(),
        stream_management: Some(SETTINGS),
        held_max: None,
        registration: None,
        pings: None,
        replaced_wait_timeout: plan.replaced_wait_timeout,
        subdomains: Vec::new(),
        parts: crate::host::Parts::default(),
    }
}

/// The defaults of stream management.
pub(crate) const SETTINGS: resume::Settings = resume::Settings {
    buffer: true,
    buffer_max: 100,
    ack_freq: 1,
    ack: true,
    resume_timeout_secs: 600,
    stale_h_secs: None,
};

/// Metrics that nobody reads.
pub(crate) fn metrics() -> Arc<Metrics> {
    Metrics::register(&mut monitoring::Registry::new())
}

/// An outlet and the client at its other end. No task reads, nothing is flushed but by the test.
pub(crate) async fn outlet(ledger: &Arc<Ledger>, id: u64) -> (SessionRef, TcpStream) {
    let (socket, client) = connected().await;
    (Outlet::new(id, socket, ledger.clone()), client)
}

/// The same over WebSocket, with its own time-outs.
pub(crate) async fn framed_outlet(
    ledger: &Arc<Ledger>,
    id: u64,
    timing: u8,
) -> (SessionRef, TcpStream) {
    let (socket, client) = connected().await;
    let framing = Framing::WebSocket;
    let outlet = Outlet::with_framing(id, socket, ledger.clone(), framing, timing);
    (outlet, client)
}

async fn connected() -> (Socket, TcpStream) {
    let address = "127.0.0.1:0".parse().unwrap();
    let listener = transport::bind(address, &ListenOptions::default()).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let socket = Socket::from_accepted(stream).unwrap();
    // A new socket has no readiness before the first poll.
    std::future::poll_fn(|cx| socket.poll_writable(cx))
        .await
        .unwrap();
    (socket, client)
}

/// A chat message with a body of so many letters.
pub(crate) fn message(to: &str, id: &str, letters: usize) -> Stanza {
    let body = Element::new("body", ns::CLIENT).with_text(&"x".repeat(letters));
    let element = Element::new("message", ns::CLIENT)
        .with_attr("type", "chat")
        .with_attr("from", "juliet@localhost/balcony")
        .with_attr("to", to)
        .with_attr("id", id)
        .with_child(body);
    Stanza::from_element(&element).unwrap()
}

/// What a client hears.
#[derive(Debug)]
pub(crate) enum Heard {
    Header(StreamHeader),
    Element(Element),
    Close,
    /// A frame of a WebSocket that holds no text: its first byte and its payload.
    Frame(u8, Vec<u8>),
    /// The end of the connection.
    End,
}

/// A client that sends text as it is given, and reads with the server's own reader.
pub(crate) struct Client {
    stream: TcpStream,
    reader: StreamReader,
    /// What has come of frames, over WebSocket.
    frames: Option<Vec<u8>>,
    heard: VecDeque<Heard>,
    /// With what the server has ended the WebSocket.
    pub(crate) code: Option<u16>,
    pub(crate) jid: String,
    pub(crate) features: Option<Element>,
}

impl Client {
    /// Connects and says nothing.
    pub(crate) async fn dial(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            reader: StreamReader::new(Limits::STORED),
            frames: None,
            heard: VecDeque::new(),
            code: None,
            jid: String::new(),
            features: None,
        }
    }

    /// Connects and opens a WebSocket.
    pub(crate) async fn dial_websocket(address: SocketAddr) -> Self {
        let mut client = Self::dial(address).await;
        client
            .send(&websocket::client::handshake("localhost", WEBSOCKET_PATH))
            .await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(soon(client.stream.read_u8()).await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{head:?}");
        client.reader = StreamReader::framed(Limits::STORED);
        client.frames = Some(Vec::new());
        client
    }

    /// The same, and logs in with SCRAM; bind or resume comes next.
    pub(crate) async fn logged_in_by_websocket(address: SocketAddr, name: &str) -> Self {
        let mut client = Self::dial_websocket(address).await;
        client.open().await;
        client.authenticate(name).await;
        client
    }

    /// Sends bytes as they are.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        let _gone = self.stream.write_all(bytes).await;
    }

    /// All that comes until the end of the connection, as it is.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = self.frames.take().unwrap_or_default();
        soon(self.stream.read_to_end(&mut rest)).await.unwrap();
        rest
    }

    /// Connects and logs in with SCRAM; bind or resume comes next.
    pub(crate) async fn logged_in(address: SocketAddr, name: &str) -> Self {
        let mut client = Self::dial(address).await;
        client.open().await;
        client.authenticate(name).await;
        client
    }

    /// Connects, logs in without a name and binds a resource.
    pub(crate) async fn anonymous(address: SocketAddr) -> Self {
        let mut client = Self::dial(address).await;
        client.open().await;
        client
            .send(&format!(
                "<auth xmlns='{}' mechanism='ANONYMOUS'>=</auth>",
                ns::SASL
            ))
            .await;
        assert_eq!(client.element().await.name(), "success");
        client.open().await;
        client.bind("test").await;
        client
    }

    /// Sends text as it is; over WebSocket it is one element.
    pub(crate) async fn send(&mut self, text: &str) {
        if self.frames.is_some() {
            let mut frame = Vec::new();
            websocket::client::push_element(&mut frame, text.as_bytes(), MASK);
            return self.send_bytes(&frame).await;
        }
        // A connection that the server has closed is no matter here: what it said before is.
        let _gone = self.stream.write_all(text.as_bytes()).await;
    }

    /// What the server says next.
    pub(crate) async fn next(&mut self) -> Heard {
        soon(self.hear()).await
    }

    /// The next element; anything else is a mistake.
    pub(crate) async fn element(&mut self) -> Element {
        match self.next().await {
            Heard::Element(element) => element,
            other => panic!("expected an element, heard {other:?}"),
        }
    }

    /// The next element of that name; what comes before it is left out.
    pub(crate) async fn expect(&mut self, name: &str) -> Element {
        loop {
            let element = self.element().await;
            if element.name() == name {
                return element;
            }
        }
    }

    /// The condition of the stream error that comes next, which the end tag and the end follow.
    pub(crate) async fn stream_error(&mut self) -> String {
        let error = self.expect("error").await;
        assert_eq!(error.ns(), ns::STREAM);
        assert!(matches!(self.next().await, Heard::Close));
        assert!(matches!(self.next().await, Heard::End));
        error.elements().next().unwrap().name().to_owned()
    }

    async fn hear(&mut self) -> Heard {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            if let Some(heard) = self.heard.pop_front() {
                return heard;
            }
            let count = self.stream.read(&mut buffer).await.unwrap_or(0);
            if count == 0 {
                return Heard::End;
            }
            if self.frames.is_some() {
                self.hear_frames(&buffer[..count]);
                continue;
            }
            let mut input = &buffer[..count];
            while let Some(item) = self.reader.next(&mut input).unwrap() {
                let heard = match item {
                    Item::Header(header) => Heard::Header(header),
                    Item::Element(frame) => Heard::Element(frame.to_element()),
                    Item::Close => Heard::Close,
                };
                let restarts = matches!(&heard, Heard::Element(e) if e.is("success", ns::SASL));
                self.heard.push_back(heard);
                if restarts {
                    self.reader.restart();
                }
            }
        }
    }

    fn hear_frames(&mut self, bytes: &[u8]) {
        let Self {
            frames,
            reader,
            heard,
            code,
            ..
        } = self;
        let frames = frames.as_mut().unwrap();
        frames.extend_from_slice(bytes);
        while let Some(frame) = websocket::client::take_frame(frames) {
            match frame {
                FromServer::Text(text) => {
                    assert!(text.starts_with(b"<"), "{text:?}");
                    let item = reader.next(&mut &*text).unwrap();
                    let Some(Item::Element(frame)) = item else {
                        panic!("a message holds a whole element: {text:?}")
                    };
                    let element = frame.to_element();
                    heard.push_back(match (element.name(), element.ns()) {
                        ("open", ns::FRAMING) => Heard::Header(StreamHeader::of_open(&element)),
                        ("close", ns::FRAMING) => Heard::Close,
                        _ => Heard::Element(element),
                    });
                }
                FromServer::Close(with) => *code = with,
                FromServer::Other(first, payload) => heard.push_back(Heard::Frame(first, payload)),
            }
        }
    }

    /// Opens a stream and takes the features.
    pub(crate) async fn open(&mut self) {
        let header = match self.frames {
            None => header(DOMAIN),
            Some(_) => format!(
                "<open xmlns='{}' to='{DOMAIN}' version='1.0'/>",
                ns::FRAMING
            ),
        };
        self.send(&header).await;
        let Heard::Header(_) = self.next().await else {
            panic!("expected a header")
        };
        self.features = Some(self.element().await);
    }

    /// SCRAM, and the stream after it.
    pub(crate) async fn authenticate(&mut self, name: &str) {
        let nonce = random_nonce();
        let mut scram = ScramClient::new(HASH, ClientBinding::None, name, PASSWORD, &nonce);
        let first = encode_base64(&scram.first());
        let (sasl, mechanism) = (ns::SASL, HASH.name());
        self.send(&format!(
            "<auth xmlns='{sasl}' mechanism='{mechanism}'>{first}</auth>"
        ))
        .await;
        let challenge = self.element().await;
        assert_eq!(challenge.name(), "challenge");
        let response = scram
            .respond(&decode_base64(&challenge.text()).unwrap())
            .unwrap();
        let response = encode_base64(&response);
        self.send(&format!("<response xmlns='{sasl}'>{response}</response>"))
            .await;
        let success = self.element().await;
        assert_eq!(success.name(), "success");
        scram
            .verify(&decode_base64(&success.text()).unwrap())
            .unwrap();
        self.open().await;
    }

    /// Binds a resource.
    pub(crate) async fn bind(&mut self, resource: &str) {
        self.send(&bind_request(resource)).await;
        let answer = self.element().await;
        let bound = answer
            .child("bind", ns::BIND)
            .and_then(|bind| bind.child("jid", ns::BIND));
        self.jid = bound.expect("bind is granted").text().into_owned();
    }

    /// Turns stream management on; returns the id for a resumption.
    pub(crate) async fn enable(&mut self) -> String {
        self.send("<enable xmlns='urn:xmpp:sm:3' resume='true'/>")
            .await;
        let enabled = self.expect("enabled").await;
        enabled
            .attr("id")
            .expect("resumption is offered")
            .to_owned()
    }

    /// Sends a chat message.
    pub(crate) async fn chat(&mut self, to: &str, id: &str) {
        self.send(&format!(
            "<message type='chat' to='{to}' id='{id}'><body>hi</body></message>"
        ))
        .await;
    }

    /// Asks until that many stanzas are acknowledged.
    pub(crate) async fn acknowledged(&mut self, h: u32) {
        let h = h.to_string();
        soon(async {
            loop {
                self.send("<r xmlns='urn:xmpp:sm:3'/>").await;
                let answer = self.expect("a").await;
                if answer.attr("h") == Some(&h) {
                    return;
                }
            }
        })
        .await;
    }

    /// Lets the kernel keep hardly anything for it that it has not read.
    pub(crate) fn keep_little_unread(&self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_recv_buffer_size(4_096).unwrap();
    }

    /// Ends the connection with a reset, as a network that is gone would.
    pub(crate) fn cut(self) {
        socket2::SockRef::from(&self.stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    }

    /// Says that nothing more comes, without a word on the XML level.
    pub(crate) async fn half_close(&mut self) {
        self.stream.shutdown().await.unwrap();
    }
}

/// The header of a client's stream.
pub(crate) fn header(to: &str) -> String {
    format!(
        "<?xml version='1.0'?><stream:stream to='{to}' version='1.0' xmlns='{}' xmlns:stream='{}'>",
        ns::CLIENT,
        ns::STREAM
    )
}

/// The request for a resource.
pub(crate) fn bind_request(resource: &str) -> String {
    format!(
        "<iq type='set' id='bind'><bind xmlns='{}'><resource>{resource}</resource></bind></iq>",
        ns::BIND
    )
}
