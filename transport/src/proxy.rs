//! The PROXY protocol: who really connects, when a balancer stands in between.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use protocol::proxy::{Network, ProxyError, ProxyReader};
use tokio::net::TcpStream;

/// The balancer must have sent its header by then. It does so at once; what is left is a lost packet or two.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes that are looked at in one go. A usual header has less.
const LOOK_BYTES: usize = 512;

/// Who may announce a client's address on a listener that expects it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyProtocol {
    trusted: Box<[Network]>,
}

/// Why a connection is closed before its first byte was used.
#[derive(Debug, thiserror::Error)]
pub enum ProxyRefused {
    /// It comes from no network that may send a header.
    #[error("the connection comes from none of the balancer's networks")]
    Untrusted,
    /// It ended before the header was whole, as a balancer's check of the port does.
    #[error("the connection ended before its PROXY header")]
    Ended,
    /// Nothing came, or not all of it, for [`HEADER_TIMEOUT`].
    #[error("the PROXY header did not come in time")]
    Timeout,
    /// What came is no header.
    #[error(transparent)]
    Header(#[from] ProxyError),
    /// The socket failed.
    #[error("the connection failed: {0}")]
    Socket(#[from] io::Error),
}

impl ProxyRefused {
    /// A word for a metric's label; there are as many as kinds of refusal.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Untrusted => "untrusted",
            Self::Ended => "ended",
            Self::Timeout => "timeout",
            Self::Header(ProxyError::Missing) => "missing",
            Self::Header(ProxyError::TooLong) => "too_long",
            Self::Header(ProxyError::Malformed(_)) => "malformed",
            Self::Socket(_) => "socket",
        }
    }
}

impl ProxyProtocol {
    /// Headers are believed if they come from one of these networks, and from nowhere else.
    pub fn new(trusted: impl Into<Box<[Network]>>) -> Self {
        Self {
            trusted: trusted.into(),
        }
    }

    /// Reads the header of an accepted connection, and nothing behind it: the client's address, or `peer` if the
    /// balancer speaks for itself. To be called before anything else is read, TLS included.
    ///
    /// # Errors
    /// The connection is to be closed: it is not the balancer's, or its header is missing, late or malformed.
    pub async fn accept(
        &self,
        stream: &TcpStream,
        peer: SocketAddr,
    ) -> Result<SocketAddr, ProxyRefused> {
        if !self.trusted.iter().any(|own| own.contains(peer.ip())) {
            return Err(ProxyRefused::Untrusted);
        }
        let read = tokio::time::timeout(HEADER_TIMEOUT, read_header(stream));
        let client = read.await.map_err(|_| ProxyRefused::Timeout)??;
        Ok(client.unwrap_or(peer))
    }
}

async fn read_header(stream: &TcpStream) -> Result<Option<SocketAddr>, ProxyRefused> {
    let mut reader = ProxyReader::new();
    let mut look = [0; LOOK_BYTES];
    loop {
        // Looked at first and taken then: what is behind the header is for others.
        let count = stream.peek(&mut look).await?;
        if count == 0 {
            return Err(ProxyRefused::Ended);
        }
        let (taken, header) = reader.take(&look[..count])?;
        discard(stream, &mut look[..taken]).await?;
        if let Some(header) = header {
            return Ok(header.client);
        }
    }
}

/// Takes as many bytes as `bytes` has, which are there, off the socket.
async fn discard(stream: &TcpStream, mut bytes: &mut [u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.readable().await?;
        match stream.try_read(bytes) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => bytes = &mut bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::listener::{ListenOptions, bind};

    /// What a listener has accepted, and the other end.
    async fn connected() -> (TcpStream, SocketAddr, TcpStream) {
        let listener = bind("127.0.0.1:0".parse().unwrap(), &ListenOptions::default()).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        (stream, peer, client)
    }

    fn loopback() -> ProxyProtocol {
        ProxyProtocol::new(Network::LOOPBACK)
    }

    const LINE: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 5222\r\n";

    #[tokio::test]
    async fn what_is_behind_the_header_is_left_there() {
        let (mut stream, peer, mut client) = connected().await;
        let sent = [LINE, b"PROXY and the rest"].concat();
        client.write_all(&sent).await.unwrap();
        let address = loopback().accept(&stream, peer).await.unwrap();
        assert_eq!(address, "192.0.2.1:56324".parse().unwrap());
        let mut rest = [0; 64];
        let count = stream.read(&mut rest).await.unwrap();
        assert_eq!(&rest[..count], b"PROXY and the rest");
    }

    #[tokio::test]
    async fn a_header_comes_in_any_pieces() {
        let (mut stream, peer, mut client) = connected().await;
        client.set_nodelay(true).unwrap();
        let proxy = loopback();
        let accept = proxy.accept(&stream, peer);
        let send = async {
            for byte in LINE {
                client.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
            client.write_all(b"<a/>").await.unwrap();
        };
        let (address, ()) = tokio::join!(accept, send);
        assert_eq!(address.unwrap(), "192.0.2.1:56324".parse().unwrap());
        let mut rest = [0; 4];
        stream.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"<a/>");
    }

    /// A block that is longer than what is looked at in one go.
    #[tokio::test]
    async fn a_long_header_is_taken_whole() {
        let (mut stream, peer, mut client) = connected().await;
        let length = 3 * LOOK_BYTES;
        let mut header = b"\r\n\r\n\0\r\nQUIT\n\x20\0".to_vec();
        header.extend(u16::try_from(length).unwrap().to_be_bytes());
        header.extend(vec![7; length]);
        header.extend(b"<a/>");
        client.write_all(&header).await.unwrap();
        let address = loopback().accept(&stream, peer).await.unwrap();
        assert_eq!(address, peer, "a health check is the balancer itself");
        let mut rest = [0; 4];
        stream.read_exact(&mut rest).await.unwrap();
        assert_eq!(&rest, b"<a/>");
    }

    /// Security case K17.
    #[tokio::test]
    async fn k17_a_header_of_a_stranger_is_not_even_read() {
        let (mut stream, peer, mut client) = connected().await;
        client.write_all(LINE).await.unwrap();
        let others = ProxyProtocol::new(["10.0.0.0/8".parse().unwrap()]);
        let refused = others.accept(&stream, peer).await.unwrap_err();
        assert_eq!(refused.label(), "untrusted");
        let mut rest = [0; LINE.len()];
        stream.read_exact(&mut rest).await.unwrap();
        assert_eq!(rest, LINE);
        let none = ProxyProtocol::new([]);
        let refused = none.accept(&stream, peer).await.unwrap_err();
        assert_eq!(refused.label(), "untrusted");
    }

    /// Security case K18.
    #[tokio::test]
    async fn k18_a_connection_without_a_whole_header_is_refused() {
        for (sent, expected) in [
            (&b"<stream:stream>"[..], "missing"),
            (b"\x16\x03\x01\x02\x00", "missing"),
            (b"PROXY TCP4 localhost\r\n", "malformed"),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", "too_long"),
            (b"", "ended"),
            (b"PROXY TCP4 ", "ended"),
        ] {
            let (stream, peer, mut client) = connected().await;
            client.write_all(sent).await.unwrap();
            client.shutdown().await.unwrap();
            let refused = loopback().accept(&stream, peer).await.unwrap_err();
            assert_eq!(refused.label(), expected, "{refused}");
        }
    }

    /// Security case K18.
    #[tokio::test(start_paused = true)]
    async fn k18_a_header_that_does_not_come_is_not_waited_for() {
        let (stream, peer, _client) = connected().await;
        let began = tokio::time::Instant::now();
        let refused = loopback().accept(&stream, peer).await.unwrap_err();
        assert_eq!(refused.label(), "timeout");
        assert!(began.elapsed() <= Duration::from_secs(6));
    }
}
