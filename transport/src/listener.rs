//! RFC 9293: listening sockets.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// How to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenOptions {
    /// How many connections the kernel keeps until they are accepted; it takes no more than `net.core.somaxconn`.
    pub backlog: u32,
    /// `SO_REUSEPORT`: several listeners, of this process or another one of the same user, share the address.
    pub reuse_port: bool,
}

impl Default for ListenOptions {
    fn default() -> Self {
        Self {
            backlog: BACKLOG_DEFAULT,
            reuse_port: false,
        }
    }
}

/// Listens on `address`; port 0 takes any free one. To be called within a tokio runtime.
///
/// The address may be bound again right after a restart (`SO_REUSEADDR`).
///
/// # Errors
/// What the kernel reports, for instance that the address is in use or the port needs a privilege.
pub fn bind(address: SocketAddr, options: &ListenOptions) -> io::Result<TcpListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM.nonblocking(),
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(i32::try_from(options.backlog).unwrap_or(i32::MAX))?;
    TcpListener::from_std(socket.into())
}

/// Whether [`bind`] would work now, without listening: nobody is accepted meanwhile.
///
/// # Errors
/// What [`bind`] would report.
pub fn try_bind(address: SocketAddr) -> io::Result<()> {
    let domain = Domain::for_address(address);
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())
}

/// Enough for a login storm between two turns of the accept loop; with 5 a server took 8 logins a second instead of
/// 1,300.
pub const BACKLOG_DEFAULT: u32 = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn any_port() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    #[tokio::test]
    async fn an_address_is_taken_once() {
        let options = ListenOptions::default();
        let listener = bind(any_port(), &options).unwrap();
        let taken = bind(listener.local_addr().unwrap(), &options).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        let address = listener.local_addr().unwrap();
        assert_eq!(
            try_bind(address).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
        drop(listener);
        try_bind(address).unwrap();
    }

    #[tokio::test]
    async fn listeners_share_a_port_if_all_agree() {
        let options = ListenOptions {
            reuse_port: true,
            ..ListenOptions::default()
        };
        let first = bind(any_port(), &options).unwrap();
        bind(first.local_addr().unwrap(), &options).unwrap();
    }

    #[tokio::test]
    async fn a_port_can_be_bound_again_while_old_connections_linger() {
        let options = ListenOptions::default();
        let listener = bind(any_port(), &options).unwrap();
        let address = listener.local_addr().unwrap();
        let client = tokio::net::TcpStream::connect(address).await.unwrap();
        // Our side closes first, so its end waits in TIME_WAIT.
        drop(listener.accept().await.unwrap());
        drop(listener);
        drop(client);
        bind(address, &options).unwrap();
    }
}
