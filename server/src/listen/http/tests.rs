//! Requests as strangers make them, byte by byte, against a node's own ports.
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::testing::{TestNode, soon};

/// A node with one port for metrics, on any host and on one.
async fn node() -> (TestNode, SocketAddr) {
    node_with(|_| {}).await
}

async fn node_with(change: impl FnOnce(&mut HttpPlan)) -> (TestNode, SocketAddr) {
    let route = |host: Option<&str>, path: &str| RoutePlan {
        host: host.map(Into::into),
        path: path.into(),
        handler: HandlerPlan::Prometheus,
    };
    let mut plan = HttpPlan {
        address: "127.0.0.1:0".parse().unwrap(),
        tls: None,
        tls_at_balancer: false,
        proxy_protocol: None,
        connections_max: 100,
        routes: vec![
            route(None, "/metrics"),
            route(Some("metrics.example"), "/of-host"),
        ],
    };
    change(&mut plan);
    let node = TestNode::start_with(|all| all.http.push(plan)).await;
    let address = node.http[0];
    (node, address)
}

/// All that comes after these bytes, up to the end of the connection.
async fn said(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // Some tests let more time pass than anything takes.
    let read = timeout(HEAD_TIMEOUT * 4, stream.read_to_end(&mut answer));
    read.await.unwrap().unwrap();
    String::from_utf8(answer).unwrap()
}

async fn request(address: SocketAddr, line: &str) -> String {
    let head = format!("{line}\r\nHost: any.example\r\nConnection: close\r\n\r\n");
    said(address, head.as_bytes()).await
}

fn has_line(answer: &str, line: &str) -> bool {
    answer.lines().any(|other| other.eq_ignore_ascii_case(line))
}

#[tokio::test]
async fn answers_each_path() {
    let (_node, address) = node().await;
    let metrics = request(address, "GET /metrics HTTP/1.1").await;
    assert!(metrics.starts_with("HTTP/1.1 200 "), "{metrics}");
    assert!(
        metrics.contains("content-type: application/openmetrics-text"),
        "{metrics}"
    );
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    for (path, status, body) in [
        ("/healthz", 200, "ok\n"),
        ("/readyz?verbose", 200, "ready\n"),
        ("/nothing", 404, "not found\n"),
        ("/metrics/", 404, "not found\n"),
        ("/of-host", 404, "not found\n"),
    ] {
        let answer = request(address, &format!("GET {path} HTTP/1.1")).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(answer.ends_with(&format!("\r\n\r\n{body}")), "{answer}");
    }
}

#[tokio::test]
async fn a_handler_of_a_host_answers_for_that_host() {
    let (_node, address) = node().await;
    for host in ["metrics.example", "METRICS.example:5280"] {
        let head = format!("GET /of-host HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = said(address, head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    let absolute =
        "GET http://metrics.example/of-host HTTP/1.1\r\nHost: other\r\nConnection: close\r\n\r\n";
    let answer = said(address, absolute.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn methods_are_refused_or_listed() {
    let (_node, address) = node().await;
    let answer = request(address, "POST /metrics HTTP/1.1").await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
    assert!(has_line(&answer, "allow: GET, HEAD, OPTIONS"), "{answer}");
    let answer = request(address, "OPTIONS /metrics HTTP/1.1").await;
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    assert!(has_line(&answer, "allow: GET, HEAD, OPTIONS"), "{answer}");
    assert!(!answer.contains("access-control"), "{answer}");
    let answer = request(address, "HEAD /healthz HTTP/1.1").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn w09_heads_that_are_too_large_or_wrong_are_refused() {
    let (_node, address) = node().await;
    let host = "Host: any.example\r\n";
    let many = "X: y\r\n".repeat(HEAD_FIELDS_MAX + 1);
    let long = format!("X: {}\r\n", "y".repeat(HEAD_BYTES_MAX));
    let rows = [
        (format!("GET /healthz HTTP/1.1\r\n{host}{many}\r\n"), 431),
        (format!("GET /healthz HTTP/1.1\r\n{host}{long}\r\n"), 431),
        ("GET /healthz HTTP/1.1\r\n\r\n".to_owned(), 400),
        (format!("GET /healthz HTTP/1.1\r\n{host}{host}\r\n"), 400),
        (
            "\u{16}\u{3}\u{1}\u{0}\u{ff} not a request\r\n\r\n".to_owned(),
            400,
        ),
        ("GET /healthz HTTP/1.0\r\n\r\n".to_owned(), 200),
    ];
    for (head, status) in rows {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // It may be refused before all of it was sent.
        let _ = stream.write_all(head.as_bytes()).await;
        let mut start = [0; 13];
        soon(stream.read_exact(&mut start)).await.unwrap();
        let start = String::from_utf8_lossy(&start);
        assert!(start.ends_with(&format!(" {status} ")), "{start} {status}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_takes_too_long_is_cut_off() {
    let (_node, address) = node().await;
    let began = Instant::now();
    assert_eq!(said(address, b"").await, "");
    let answer = said(address, b"GET /healthz HTTP/1.1\r\nHo").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(began.elapsed() >= HEAD_TIMEOUT * 2);
}

#[tokio::test]
async fn connections_over_the_limit_are_closed_at_once() {
    let (node, address) = node_with(|plan| plan.connections_max = 1).await;
    let mut first = TcpStream::connect(address).await.unwrap();
    first
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let mut start = [0; 13];
    soon(first.read_exact(&mut start)).await.unwrap();
    assert_eq!(said(address, b"").await, "");
    drop(first);
    crate::testing::until(|| node.router.metrics.http.connections.get() == 0).await;
    let answer = request(address, "GET /healthz HTTP/1.1").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

/// Security cases K17 and K18.
#[tokio::test]
async fn k17_k18_connections_that_are_not_announced_are_closed() {
    let networks = &protocol::proxy::Network::LOOPBACK[..];
    let (node, address) =
        node_with(|plan| plan.proxy_protocol = Some(ProxyProtocol::new(networks))).await;
    let ask = "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let announced = format!("PROXY TCP4 192.0.2.1 198.51.100.2 56324 80\r\n{ask}");
    let answer = said(address, announced.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(ask.as_bytes()).await.unwrap();
    // Whatever the kernel makes of the unread request, there is no answer.
    let mut answer = Vec::new();
    let _reset = soon(stream.read_to_end(&mut answer)).await;
    assert_eq!(answer, b"");
    assert_eq!(node.router.metrics.proxy_refused.of("missing").get(), 1);
}

#[tokio::test]
async fn an_idle_connection_ends_with_the_node() {
    let (node, address) = node().await;
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n")
        .await
        .unwrap();
    let mut start = [0; 13];
    soon(idle.read_exact(&mut start)).await.unwrap();
    node.stop().await;
    let mut rest = Vec::new();
    soon(idle.read_to_end(&mut rest)).await.unwrap();
    assert!(rest.ends_with(b"ready\n"));
}
