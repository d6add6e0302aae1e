//! RFC 9293: a client's TCP socket that several tasks may write to, or a pipe in its place.

use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::Interest;
use tokio::net::TcpStream;

use crate::pipe::NearEnd;

/// A client's TCP socket. All methods take `&self`, so that whoever routes a stanza may write to it; who reads is one
/// task.
///
/// `poll_readable` and `poll_writable` each remember the waker of the last caller only.
#[derive(Debug)]
pub struct Socket {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpStream),
    Pipe(NearEnd),
}

impl Socket {
    /// Takes over an accepted stream: small writes go out at once, and the kernel takes at most
    /// [`NOT_SENT_BYTES_MAX`] that the peer's window has no room for.
    ///
    /// # Errors
    /// If the peer has gone already, or the kernel refuses an option.
    pub fn from_accepted(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_notsent_lowat(NOT_SENT_BYTES_MAX)?;
        Ok(Self {
            kind: Kind::Tcp(stream),
        })
    }

    /// An end of a pipe in place of a socket.
    pub fn from_pipe(end: NearEnd) -> Self {
        Self {
            kind: Kind::Pipe(end),
        }
    }

    /// Whether it is a pipe: then nothing is taken for as long as its far end can carry nothing.
    pub fn is_pipe(&self) -> bool {
        matches!(self.kind, Kind::Pipe(_))
    }

    /// Waits until there may be something to read, the end of the stream included.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.kind {
            Kind::Tcp(stream) => stream.poll_read_ready(cx),
            Kind::Pipe(end) => end.poll_readable(cx),
        }
    }

    /// Waits until the kernel may take bytes again.
    pub fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &self.kind {
            Kind::Tcp(stream) => stream.poll_write_ready(cx),
            Kind::Pipe(end) => end.poll_writable(cx),
        }
    }

    /// Receives once into `buffer` and returns how many bytes came; 0 is the end of the stream.
    ///
    /// A read that does not fill the buffer has drained the socket, so it also clears the readiness that tokio keeps;
    /// otherwise each wake would cost a second `recv` that finds nothing.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if nothing is there; else what the kernel reports.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let stream = match &self.kind {
            Kind::Tcp(stream) => stream,
            Kind::Pipe(end) => return end.try_read(buffer),
        };
        let capacity = buffer.len();
        let mut received = None;
        let outcome = stream.try_io(Interest::READABLE, || {
            let socket = SockRef::from(stream);
            let count = (&*socket).read(buffer)?;
            received = Some(count);
            // tokio never clears the flags of a closed direction, so an end that follows this read is not lost.
            if 0 < count && count < capacity {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Ok(count)
        });
        received.map_or(outcome, Ok)
    }

    /// Hands bytes to the kernel and returns how many it took.
    ///
    /// On a socket that no poll has seen yet this may be refused although the kernel has room.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] if it takes none now; else what the kernel reports.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.kind {
            Kind::Tcp(stream) => stream.try_write(bytes),
            Kind::Pipe(end) => end.try_write(bytes),
        }
    }

    /// More waits than what was refused, which the far end of a pipe may want to know. Nothing to a connection.
    pub fn has_more(&self) {
        match &self.kind {
            Kind::Tcp(_) => {}
            Kind::Pipe(end) => end.has_more(),
        }
    }

    /// Tells the peer that nothing more follows. Reading goes on.
    pub fn shutdown_write(&self) {
        match &self.kind {
            Kind::Tcp(stream) => {
                // The one possible failure is that the connection is gone, which is what the caller wants.
                let _gone = SockRef::from(stream).shutdown(Shutdown::Write);
            }
            Kind::Pipe(end) => end.shutdown_write(),
        }
    }

    /// The address the connection came in on.
    ///
    /// # Errors
    /// If the kernel cannot tell; asked anew each time, since nobody needs it often enough to keep it. A pipe has none.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.kind {
            Kind::Tcp(stream) => stream.local_addr(),
            Kind::Pipe(_) => Err(io::ErrorKind::AddrNotAvailable.into()),
        }
    }

    /// The address at the other end.
    ///
    /// # Errors
    /// If the kernel cannot tell, as the peer has gone; asked anew each time, since nobody needs it often enough to
    /// keep it. A pipe has none.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        match &self.kind {
            Kind::Tcp(stream) => stream.peer_addr(),
            Kind::Pipe(_) => Err(io::ErrorKind::AddrNotAvailable.into()),
        }
    }
}

/// `TCP_NOTSENT_LOWAT` of a client's socket, bytes. Without it the kernel takes 2.8 MB for a reader that has stalled,
/// with it 32 kB; throughput is the same.
pub const NOT_SENT_BYTES_MAX: u32 = 16 * 1024;

/// Lets the kernel find out whether a silent peer is still there: it is asked after [`KEEP_ALIVE_AFTER`], and given up
/// after [`KEEP_ALIVE_PROBES`] questions without an answer, one each [`KEEP_ALIVE_INTERVAL`].
///
/// # Errors
/// If the kernel refuses an option.
pub fn keep_alive(stream: &TcpStream) -> io::Result<()> {
    let options = TcpKeepalive::new()
        .with_time(KEEP_ALIVE_AFTER)
        .with_interval(KEEP_ALIVE_INTERVAL)
        .with_retries(KEEP_ALIVE_PROBES);
    SockRef::from(stream).set_tcp_keepalive(&options)
}

/// Silence after which a peer is asked, see [`keep_alive`].
pub const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(60);
/// Time between two questions.
pub const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Questions without an answer.
pub const KEEP_ALIVE_PROBES: u32 = 4;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::listener::{ListenOptions, bind};

    /// A socket of ours and the client at its other end.
    async fn connected() -> (Socket, TcpStream) {
        let listener = bind("127.0.0.1:0".parse().unwrap(), &ListenOptions::default()).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        (Socket::from_accepted(stream).unwrap(), client)
    }

    async fn readable(socket: &Socket) {
        poll_fn(|cx| socket.poll_readable(cx)).await.unwrap();
    }

    fn is_readable_now(socket: &Socket) -> bool {
        socket
            .poll_readable(&mut Context::from_waker(Waker::noop()))
            .is_ready()
    }

    #[tokio::test]
    async fn options_are_set_and_addresses_known() {
        let (socket, client) = connected().await;
        let Kind::Tcp(stream) = &socket.kind else {
            panic!("it was accepted");
        };
        assert!(stream.nodelay().unwrap());
        assert_eq!(
            SockRef::from(stream).tcp_notsent_lowat().unwrap(),
            NOT_SENT_BYTES_MAX
        );
        assert_eq!(socket.local_addr().unwrap(), client.peer_addr().unwrap());
        assert_eq!(socket.peer_addr().unwrap(), client.local_addr().unwrap());
    }

    /// There is one for each session.
    #[test]
    fn a_pipe_makes_no_socket_larger() {
        assert_eq!(size_of::<Socket>(), size_of::<TcpStream>());
    }

    #[tokio::test]
    async fn a_silent_peer_is_asked_by_the_kernel() {
        let (_socket, client) = connected().await;
        let kernel = SockRef::from(&client);
        assert!(!kernel.keepalive().unwrap());
        keep_alive(&client).unwrap();
        assert!(kernel.keepalive().unwrap());
        assert_eq!(kernel.tcp_keepalive_time().unwrap(), KEEP_ALIVE_AFTER);
        assert_eq!(kernel.tcp_keepalive_retries().unwrap(), KEEP_ALIVE_PROBES);
    }

    #[tokio::test]
    async fn a_short_read_needs_no_second_one() {
        let (socket, mut client) = connected().await;
        let mut buffer = [0; 64];
        for _ in 0..100 {
            client.write_all(b"<presence/>").await.unwrap();
            readable(&socket).await;
            assert_eq!(socket.try_read(&mut buffer).unwrap(), 11);
            assert!(
                !is_readable_now(&socket),
                "a short read clears the readiness"
            );
        }
        assert_eq!(
            socket.try_read(&mut buffer).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
    }

    #[tokio::test]
    async fn a_full_read_leaves_the_rest_readable() {
        let (socket, mut client) = connected().await;
        client.write_all(b"<presence/>").await.unwrap();
        let mut buffer = [0; 4];
        let mut received = Vec::new();
        while received.len() < 11 {
            readable(&socket).await;
            let count = socket.try_read(&mut buffer).unwrap();
            received.extend_from_slice(&buffer[..count]);
        }
        assert_eq!(received, b"<presence/>");
    }

    #[tokio::test]
    async fn the_end_of_the_stream_is_seen_after_a_short_read() {
        let (socket, mut client) = connected().await;
        client.write_all(b"</stream:stream>").await.unwrap();
        client.shutdown().await.unwrap();
        let mut buffer = [0; 64];
        readable(&socket).await;
        assert_eq!(socket.try_read(&mut buffer).unwrap(), 16);
        readable(&socket).await;
        assert_eq!(socket.try_read(&mut buffer).unwrap(), 0);
    }

    #[tokio::test]
    async fn writes_resume_when_a_full_socket_drains() {
        let (socket, mut client) = connected().await;
        let piece = [b'x'; 16 * 1024];
        let mut sent = 0;
        poll_fn(|cx| socket.poll_writable(cx)).await.unwrap();
        let refused = loop {
            match socket.try_write(&piece) {
                Ok(count) => sent += count,
                Err(error) => break error,
            }
        };
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);

        let reader = async {
            let mut received = vec![0; sent + 5];
            client.read_exact(&mut received).await.unwrap();
            received
        };
        let writer = async {
            poll_fn(|cx| socket.poll_writable(cx)).await.unwrap();
            assert_eq!(socket.try_write(b"<end>").unwrap(), 5);
            socket.shutdown_write();
        };
        let (received, ()) = tokio::join!(reader, writer);
        assert!(received.ends_with(b"xxx<end>"));
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
    }
}
