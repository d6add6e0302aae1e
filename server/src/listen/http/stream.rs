//! A connection as hyper reads and writes it: our socket, and our TLS on it. It can be taken back at any time.
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::time::{Sleep, sleep};
use transport::{AcceptKind, ServerTls, Socket, TlsRecords};

use crate::turns::Turns;

/// Bytes of one read.
const READ_BYTES: usize = 8 * 1024;
/// Plaintext that is sealed at a time.
const SEAL_BYTES_MAX: usize = 16 * 1024;
/// How long a client may take nothing of what is written to it.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);

/// One HTTP connection.
pub struct HttpStream {
    socket: Socket,
    tls: Option<Box<dyn TlsRecords>>,
    /// Plaintext that came and was not asked for yet.
    plain: Vec<u8>,
    /// For the wire.
    unsent: Vec<u8>,
    is_ended: bool,
    /// Runs while the socket takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl HttpStream {
    /// A connection without TLS.
    pub fn new(socket: Socket) -> Self {
        Self {
            socket,
            tls: None,
            plain: Vec::new(),
            unsent: Vec::new(),
            is_ended: false,
            stalled: None,
        }
    }

    /// Does the handshake. Its computation takes turns with those of other connections.
    ///
    /// # Errors
    /// The client speaks no TLS that we do, or has gone, or too many wait for their turn.
    pub async fn accept_tls(&mut self, tls: &ServerTls, turns: &Turns) -> io::Result<()> {
        self.tls = Some(tls.accept(AcceptKind::Direct));
        while self.tls.as_ref().is_some_and(|tls| tls.is_handshaking()) {
            poll_fn(|cx| self.socket.poll_readable(cx)).await?;
            {
                let Some(_turn) = turns.take().await else {
                    return Err(io::Error::other("too many handshakes wait"));
                };
                self.receive()?;
            }
            self.write_rest().await?;
            if self.is_ended {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        // Nobody here needs to know more of the handshake, so that nothing is kept of it.
        let _facts = self.tls.as_mut().and_then(|tls| tls.take_handshake());
        Ok(())
    }

    /// Takes what the socket has into `plain`, if it has something.
    fn receive(&mut self) -> io::Result<()> {
        let mut buffer = [0; READ_BYTES];
        let count = match self.socket.try_read(&mut buffer) {
            Ok(0) => {
                self.is_ended = true;
                return Ok(());
            }
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        };
        let received = buffer.get_mut(..count).unwrap_or_default();
        let Some(tls) = &mut self.tls else {
            self.plain.extend_from_slice(received);
            return Ok(());
        };
        let fed = tls.feed(received, &mut self.plain, &mut self.unsent);
        match fed {
            Ok(fed) => {
                self.is_ended |= fed.peer_closed;
                Ok(())
            }
            Err(error) => {
                // The alert, as far as the socket takes it at once.
                let _gone = self.socket.try_write(&self.unsent);
                Err(io::Error::other(error))
            }
        }
    }

    /// Writes bytes behind everything else; they leave with [`Self::write_rest`] or [`Self::hang_up`].
    pub fn put(&mut self, bytes: &[u8]) {
        match &mut self.tls {
            None => self.unsent.extend_from_slice(bytes),
            // What cannot be sealed cannot be said.
            Some(tls) => _ = tls.seal(bytes, &mut self.unsent),
        }
    }

    /// Writes what has not gone out yet.
    ///
    /// # Errors
    /// The client has gone, or takes nothing.
    pub async fn write_rest(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_send(cx)).await
    }

    /// Says goodbye and waits for the client to hang up: a socket that is closed with unread bytes sends a reset, which
    /// takes from the client what it has not read yet.
    pub async fn hang_up(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.close_notify(&mut self.unsent);
        }
        let is_written = self.write_rest().await.is_ok();
        self.socket.shutdown_write();
        while is_written && poll_fn(|cx| self.socket.poll_readable(cx)).await.is_ok() {
            if !self.discard() {
                return;
            }
        }
    }

    /// Throws away what has come; whether more may come.
    fn discard(&self) -> bool {
        match self.socket.try_read(&mut [0; READ_BYTES]) {
            Ok(count) => count > 0,
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        }
    }

    /// The socket, its TLS, and plaintext that came and nobody has read.
    pub fn into_parts(self) -> (Socket, Option<Box<dyn TlsRecords>>, Vec<u8>) {
        (self.socket, self.tls, self.plain)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut sent = 0;
        let outcome = loop {
            let rest = self.unsent.get(sent..).unwrap_or_default();
            if rest.is_empty() {
                break Poll::Ready(Ok(()));
            }
            match self.socket.try_write(rest) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    match self.socket.poll_writable(cx) {
                        Poll::Ready(Ok(())) => {}
                        Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                        Poll::Pending => break Poll::Pending,
                    }
                }
                Err(error) => break Poll::Ready(Err(error)),
            }
        };
        if sent > 0 {
            self.stalled = None;
        }
        if sent >= self.unsent.len() {
            self.unsent = Vec::new();
        } else {
            self.unsent.drain(..sent);
        }
        if outcome.is_pending() {
            let stalled = self
                .stalled
                .get_or_insert_with(|| Box::pin(sleep(STALL_TIMEOUT)));
            ready!(stalled.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        outcome
    }
}

impl Read for HttpStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if !self.plain.is_empty() {
                let count = self.plain.len().min(buffer.remaining());
                buffer.put_slice(self.plain.get(..count).unwrap_or_default());
                if count == self.plain.len() {
                    self.plain = Vec::new();
                } else {
                    self.plain.drain(..count);
                }
                return Poll::Ready(Ok(()));
            }
            if self.is_ended {
                return Poll::Ready(Ok(()));
            }
            ready!(self.socket.poll_readable(cx))?;
            self.receive()?;
            // An answer that TLS itself has made.
            if !self.unsent.is_empty()
                && let Poll::Ready(Err(error)) = self.poll_send(cx)
            {
                return Poll::Ready(Err(error));
            }
        }
    }
}

impl Write for HttpStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(cx))?;
        let taken = bytes.get(..SEAL_BYTES_MAX).unwrap_or(bytes);
        let Self { tls, unsent, .. } = &mut *self;
        match tls {
            None => unsent.extend_from_slice(taken),
            Some(tls) => tls.seal(taken, unsent).map_err(io::Error::other)?,
        }
        // What the socket refuses waits here, at most one such piece.
        if let Poll::Ready(Err(error)) = self.poll_send(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx)
    }

    /// The connection is ended by [`HttpStream::hang_up`], never by hyper.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}
