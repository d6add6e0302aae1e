//! `relay`: the floor that servers are compared with. The same sockets and logins as an XMPP server, any
//! credentials welcome, and then nothing but framing with memchr, a look-up of `to`, and coalesced writes.
//!
//! No TLS, no checks, no limits but one: for measuring on a machine of one's own.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io::{self, ErrorKind, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::{Parser, ValueEnum};
use hashbrown::HashMap;
use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::ReadBuf;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

#[path = "framing.rs"]
#[allow(dead_code, reason = "the generator uses all of it")]
mod framing;

use framing::Token;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Bytes read at once; one buffer for all connections.
const READ_BYTES: usize = 64 * 1024;
/// Bytes a destination may owe its socket; beyond it messages are dropped.
const UNSENT_BYTES_MAX: usize = 1 << 20;
/// Connections the kernel keeps until they are accepted.
const BACKLOG: i32 = 4096;

/// Relays messages between sessions: the least a server can do.
#[derive(Parser)]
struct Options {
    /// Address to listen on; port 0 takes a free one. The address is printed.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Do this wrong with each session's tenth stanza, to see whether a generator notices.
    #[arg(long, value_enum)]
    fault: Option<Fault>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Fault {
    Lose,
    Double,
    /// Let the eleventh go first.
    Swap,
}

/// Which stanza of a session is treated wrong.
const FAULT_AT: u32 = 10;

fn main() -> Result<()> {
    let options = Options::parse();
    // One thread, as the servers it is compared with are given one core.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(serve(&options))
}

async fn serve(options: &Options) -> Result<()> {
    let address = options.listen;
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket
        .bind(&address.into())
        .with_context(|| format!("cannot listen on {address}"))?;
    socket.listen(BACKLOG)?;
    let listener = TcpListener::from_std(socket.into())?;
    writeln!(io::stdout(), "listening on {}", listener.local_addr()?)?;
    let routes = Arc::new(Routes::default());
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                stream.set_nodelay(true)?;
                connections.spawn(converse(stream, Arc::clone(&routes), options.fault));
            }
        }
    }
}

/// Connections by full JID.
type Routes = Mutex<HashMap<Box<[u8]>, Arc<Connection>, ahash::RandomState>>;

struct Connection {
    stream: TcpStream,
    outlet: Mutex<Outlet>,
}

#[derive(Default)]
struct Outlet {
    unsent: Vec<u8>,
    /// Bytes were added since the last flush, and the connection stands in a list to be flushed.
    dirty: bool,
    /// The socket refused bytes; the connection's own task flushes when it takes more.
    blocked: bool,
    owner: Option<Waker>,
}

impl Connection {
    /// Appends; answers whether the caller has to flush.
    fn append(&self, bytes: &[u8]) -> bool {
        let mut outlet = self.outlet.lock();
        if outlet.unsent.len() + bytes.len() > UNSENT_BYTES_MAX {
            return false;
        }
        outlet.unsent.extend_from_slice(bytes);
        !std::mem::replace(&mut outlet.dirty, true)
    }

    fn flush(&self) {
        let mut outlet = self.outlet.lock();
        outlet.dirty = false;
        let mut taken = 0;
        while !outlet.blocked && taken < outlet.unsent.len() {
            match self.stream.try_write(&outlet.unsent[taken..]) {
                Ok(count) => taken += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => outlet.blocked = true,
                // Its own task will see the end.
                Err(_) => taken = outlet.unsent.len(),
            }
        }
        outlet.unsent.drain(..taken);
        if outlet.unsent.is_empty() {
            outlet.unsent.shrink_to(0);
        }
        if outlet.blocked
            && let Some(owner) = outlet.owner.take()
        {
            owner.wake();
        }
    }

    /// Flushes while the socket is writable; pending for ever when nothing waits.
    fn poll_unblock(&self, context: &mut Context<'_>) {
        loop {
            {
                let mut outlet = self.outlet.lock();
                outlet.owner = Some(context.waker().clone());
                if !outlet.blocked {
                    return;
                }
            }
            match self.stream.poll_write_ready(context) {
                Poll::Ready(_) => {
                    self.outlet.lock().blocked = false;
                    self.flush();
                }
                Poll::Pending => return,
            }
        }
    }
}

thread_local! {
    static INPUT: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

async fn converse(stream: TcpStream, routes: Arc<Routes>, fault: Option<Fault>) {
    let Some(jid) = log_in(&stream).await else {
        return;
    };
    let connection = Arc::new(Connection {
        stream,
        outlet: Mutex::default(),
    });
    routes.lock().insert(jid.clone(), Arc::clone(&connection));
    let mut session = Session {
        routes,
        connection,
        partial: Vec::new(),
        dirty: Vec::new(),
        fault: fault.map(|fault| (fault, 0)),
        held: Vec::new(),
    };
    poll_fn(|context| session.poll(context)).await;
    session.routes.lock().remove(&jid);
}

struct Session {
    routes: Arc<Routes>,
    connection: Arc<Connection>,
    partial: Vec<u8>,
    dirty: Vec<Arc<Connection>>,
    /// What to do wrong, and the stanzas so far.
    fault: Option<(Fault, u32)>,
    held: Vec<u8>,
}

impl Session {
    /// Relays until the stream ends.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.connection.poll_unblock(context);
        INPUT.with_borrow_mut(|input| {
            loop {
                let mut buffer = ReadBuf::new(input);
                match poll_read(&self.connection.stream, context, &mut buffer) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Ready(Ok(())) if buffer.filled().is_empty() => return Poll::Ready(()),
                    Poll::Ready(Ok(())) => {}
                }
                let go_on = self.relay(buffer.filled());
                for connection in self.dirty.drain(..) {
                    connection.flush();
                }
                if !go_on {
                    return Poll::Ready(());
                }
            }
        })
    }

    /// Hands on the whole stanzas of a read; answers whether the stream goes on.
    fn relay(&mut self, bytes: &[u8]) -> bool {
        let mut joined = std::mem::take(&mut self.partial);
        let mut data = bytes;
        if !joined.is_empty() {
            joined.extend_from_slice(bytes);
            data = &joined;
        }
        while let Ok(Some((token, used))) = framing::next(data) {
            data = &data[used..];
            match token {
                Token::Element(stanza) if self.fault.is_some() => self.route_wrongly(stanza),
                Token::Element(stanza) => self.route(stanza),
                Token::StreamOpen(_) => {}
                Token::StreamClose => {
                    if self.connection.append(b"</stream:stream>") {
                        self.dirty.push(Arc::clone(&self.connection));
                    }
                    return false;
                }
            }
        }
        self.partial = data.to_vec();
        self.partial.len() <= framing::ELEMENT_BYTES_MAX
    }

    fn route_wrongly(&mut self, stanza: &[u8]) {
        let Some((fault, count)) = &mut self.fault else {
            return;
        };
        let fault = *fault;
        // Presence has no address and goes nowhere.
        *count += u32::from(framing::attribute(stanza, b"to").is_some());
        match (fault, *count) {
            (Fault::Lose, FAULT_AT) => {}
            (Fault::Swap, FAULT_AT) => self.held = stanza.to_vec(),
            (Fault::Double, FAULT_AT) => {
                self.route(stanza);
                self.route(stanza);
            }
            _ => {
                self.route(stanza);
                let held = std::mem::take(&mut self.held);
                if !held.is_empty() {
                    self.route(&held);
                }
            }
        }
    }

    fn route(&mut self, stanza: &[u8]) {
        let Some(to) = framing::attribute(stanza, b"to") else {
            return;
        };
        let target = self.routes.lock().get(to).map(Arc::clone);
        if let Some(target) = target
            && target.append(stanza)
        {
            self.dirty.push(target);
        }
    }
}

/// Reads once by shared reference; a short read clears tokio's readiness, so that no second read is made.
fn poll_read(
    stream: &TcpStream,
    context: &mut Context<'_>,
    buffer: &mut ReadBuf<'_>,
) -> Poll<io::Result<()>> {
    loop {
        std::task::ready!(stream.poll_read_ready(context))?;
        let mut count = None;
        let outcome = stream.try_io(tokio::io::Interest::READABLE, || {
            let socket = socket2::SockRef::from(stream);
            let read = io::Read::read(&mut &*socket, buffer.initialize_unfilled())?;
            count = Some(read);
            if read < READ_BYTES && read > 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            Ok(())
        });
        match (count, outcome) {
            (Some(count), _) => {
                buffer.advance(count);
                return Poll::Ready(Ok(()));
            }
            (None, Err(error)) if error.kind() == ErrorKind::WouldBlock => {}
            (None, outcome) => return Poll::Ready(outcome),
        }
    }
}

/// The shortest answers that a client takes for a login; the session's full JID.
async fn log_in(stream: &TcpStream) -> Option<Box<[u8]>> {
    let mut login = Login::default();
    let (mut input, mut output) = (Vec::new(), Vec::new());
    loop {
        let mut read = |context: &mut Context<'_>| {
            INPUT.with_borrow_mut(|chunk| {
                let mut buffer = ReadBuf::new(chunk);
                let outcome = std::task::ready!(poll_read(stream, context, &mut buffer));
                input.extend_from_slice(buffer.filled());
                Poll::Ready(outcome.map(|()| buffer.filled().len()))
            })
        };
        if poll_fn(&mut read).await.ok()? == 0 || input.len() > READ_BYTES {
            return None;
        }
        let mut used = 0;
        let mut jid = None;
        while let (None, Ok(Some((token, length)))) = (&jid, framing::next(&input[used..])) {
            used += length;
            jid = login.token(&token, &mut output)?;
        }
        input.drain(..used);
        stream.writable().await.ok()?;
        // A few hundred bytes always fit into a fresh socket.
        (stream.try_write(&output).ok()? == output.len()).then_some(())?;
        output.clear();
        if jid.is_some() {
            return jid;
        }
    }
}

#[derive(Default)]
struct Login {
    domain: String,
    user: Option<String>,
}

impl Login {
    /// `None` ends the connection; an inner JID ends the login.
    #[allow(clippy::option_option, reason = "two different ends")]
    fn token(&mut self, token: &Token<'_>, out: &mut Vec<u8>) -> Option<Option<Box<[u8]>>> {
        match token {
            Token::StreamClose => return None,
            Token::StreamOpen(header) => {
                let domain = framing::attribute(header, b"to")?;
                self.domain = String::from_utf8(domain.to_vec()).ok()?;
                out.extend_from_slice(
                    b"<?xml version='1.0'?><stream:stream xmlns='jabber:client' version='1.0' \
                      xmlns:stream='http://etherx.jabber.org/streams' id='relay'><stream:features>",
                );
                out.extend_from_slice(if self.user.is_some() {
                    b"<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>".as_slice()
                } else {
                    b"<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
                      <mechanism>PLAIN</mechanism></mechanisms>"
                });
                out.extend_from_slice(b"</stream:features>");
            }
            Token::Element(element) if framing::name(element) == b"auth" => {
                let response = BASE64.decode(framing::text(element)).ok()?;
                let user = response.split(|byte| *byte == 0).nth(1)?;
                self.user = Some(String::from_utf8(user.to_vec()).ok()?);
                out.extend_from_slice(b"<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>");
            }
            Token::Element(element) if framing::name(element) == b"iq" => {
                let resource = framing::child_text(element, "resource")?;
                let resource = std::str::from_utf8(resource).ok()?;
                let jid = format!("{}@{}/{resource}", self.user.as_ref()?, self.domain);
                let _ = write!(
                    out,
                    "<iq type='result' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
                     <jid>{jid}</jid></bind></iq>"
                );
                return Some(Some(jid.into_bytes().into()));
            }
            Token::Element(_) => {}
        }
        Some(None)
    }
}
