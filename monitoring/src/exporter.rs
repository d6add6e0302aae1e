//! `/metrics`, `/healthz` and `/readyz` over HTTP/1.1 on a port of their own.
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::State as Extracted;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

use crate::{Readiness, Registry};

/// Connections served at once. Further ones wait in the kernel's queue, unread: monitoring asks a few times a minute,
/// so only a flood gets there, and it must not take memory from the clients.
pub const CONNECTIONS_MAX: usize = 32;

/// Seconds from accepting a connection to the end of its response; then it is cut. Each connection carries one
/// request, so nobody can hold one of the [`CONNECTIONS_MAX`] places longer than this.
pub const CONNECTION_SECS_MAX: u64 = 10;

/// Wait after a failed accept (no file descriptors left, say), so that the loop does not spin.
const ACCEPT_RETRY_MS: u64 = 500;

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Serves a registry and the readiness of this process.
#[derive(Debug)]
pub struct Exporter {
    router: Router,
}

struct Shared {
    registry: Registry,
    readiness: Readiness,
}

impl Exporter {
    /// An exporter that is not listening yet.
    pub fn new(registry: Registry, readiness: Readiness) -> Self {
        let router = Router::new()
            .route("/metrics", get(metrics))
            .route("/healthz", get(healthz))
            .route("/readyz", get(readyz))
            .fallback(not_found)
            .with_state(Arc::new(Shared {
                registry,
                readiness,
            }));
        Self { router }
    }

    /// Serves until `shutdown` is done, then finishes the responses that are under way (at most
    /// [`CONNECTION_SECS_MAX`]). To have `/readyz` answer while draining, let `shutdown` be the end of the drain and
    /// not its beginning.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let listener = LimitedListener {
            listener,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
        };
        axum::serve(listener, self.router)
            .with_graceful_shutdown(shutdown)
            .await
    }
}

async fn metrics(Extracted(shared): Extracted<Arc<Shared>>) -> impl IntoResponse {
    (
        [
            (header::CONTENT_TYPE, OPEN_METRICS),
            (header::CONNECTION, "close"),
        ],
        shared.registry.to_text(),
    )
}

async fn healthz() -> impl IntoResponse {
    ([(header::CONNECTION, "close")], "ok\n")
}

async fn readyz(Extracted(shared): Extracted<Arc<Shared>>) -> impl IntoResponse {
    let state = shared.readiness.state();
    let status = if state == crate::State::Ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (
        status,
        [(header::CONNECTION, "close")],
        format!("{state}\n"),
    )
}

async fn not_found() -> impl IntoResponse {
    (
        StatusCode::NOT_FOUND,
        [(header::CONNECTION, "close")],
        "not found\n",
    )
}

/// Accepts only while there is a free place.
struct LimitedListener {
    listener: TcpListener,
    places: Arc<Semaphore>,
}

impl Listener for LimitedListener {
    type Io = LimitedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (LimitedStream, SocketAddr) {
        let place = Arc::clone(&self.places)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        loop {
            match self.listener.accept().await {
                Ok((stream, address)) => {
                    let deadline =
                        Box::pin(tokio::time::sleep(Duration::from_secs(CONNECTION_SECS_MAX)));
                    return (
                        LimitedStream {
                            stream,
                            deadline,
                            _place: place,
                        },
                        address,
                    );
                }
                Err(error) => {
                    tracing::warn!(%error, "exporter cannot accept");
                    tokio::time::sleep(Duration::from_millis(ACCEPT_RETRY_MS)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails at its deadline, whichever side it waits for.
struct LimitedStream {
    stream: TcpStream,
    deadline: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

impl LimitedStream {
    fn check_deadline(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.deadline.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for LimitedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check_deadline(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for LimitedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_deadline(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::oneshot;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::State;

    struct Running {
        address: SocketAddr,
        readiness: Readiness,
        stop: oneshot::Sender<()>,
        served: JoinHandle<io::Result<()>>,
    }

    async fn start() -> Running {
        let mut registry = Registry::new();
        crate::register_process(&mut registry, "0.0.0-test");
        let readiness = Readiness::starting();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let exporter = Exporter::new(registry, readiness.clone());
        // The test itself waits for the task; there is no tracker here.
        #[allow(clippy::disallowed_methods)]
        let served = tokio::spawn(exporter.serve(listener, async {
            let _ = stopped.await;
        }));
        Running {
            address,
            readiness,
            stop,
            served,
        }
    }

    async fn request(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn answers_each_path() {
        let running = start().await;
        let metrics = request(running.address, "/metrics").await;
        assert!(metrics.starts_with("HTTP/1.1 200 "), "{metrics}");
        assert!(
            metrics.contains("content-type: application/openmetrics-text"),
            "{metrics}"
        );
        assert!(
            metrics.contains("process_resident_memory_bytes "),
            "{metrics}"
        );
        assert!(metrics.ends_with("# EOF\n"), "{metrics}");
        assert!(
            request(running.address, "/healthz")
                .await
                .ends_with("\r\n\r\nok\n")
        );
        assert!(
            request(running.address, "/nothing")
                .await
                .starts_with("HTTP/1.1 404 ")
        );
    }

    #[tokio::test]
    async fn ready_only_between_start_and_drain() {
        let running = start().await;
        assert!(
            request(running.address, "/readyz")
                .await
                .starts_with("HTTP/1.1 503 ")
        );
        running.readiness.set(State::Ready);
        let ready = request(running.address, "/readyz").await;
        assert!(
            ready.starts_with("HTTP/1.1 200 ") && ready.ends_with("\r\n\r\nready\n"),
            "{ready}"
        );
        running.readiness.set(State::Draining);
        let draining = request(running.address, "/readyz").await;
        assert!(
            draining.starts_with("HTTP/1.1 503 ") && draining.ends_with("draining\n"),
            "{draining}"
        );
        assert!(
            request(running.address, "/healthz")
                .await
                .starts_with("HTTP/1.1 200 ")
        );
    }

    #[tokio::test]
    async fn stops_and_frees_its_port() {
        let running = start().await;
        running.stop.send(()).unwrap();
        running.served.await.unwrap().unwrap();
        TcpListener::bind(running.address).await.unwrap();
    }

    /// With all places taken by silent strangers the next request waits, and is served once their time is over.
    #[tokio::test(start_paused = true)]
    async fn silent_connections_are_cut() {
        let running = start().await;
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            silent.push(TcpStream::connect(running.address).await.unwrap());
        }
        let began = tokio::time::Instant::now();
        assert!(request(running.address, "/healthz").await.ends_with("ok\n"));
        assert!(began.elapsed() >= Duration::from_secs(CONNECTION_SECS_MAX));
        for stream in &mut silent {
            assert_eq!(stream.read(&mut [0; 16]).await.unwrap_or(0), 0);
        }
    }

    #[tokio::test]
    async fn refuses_what_is_not_http() {
        let running = start().await;
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream
            .write_all(b"\x16\x03\x01\x00\xff not a request\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert!(String::from_utf8_lossy(&answer).starts_with("HTTP/1.1 400 "));
    }
}
