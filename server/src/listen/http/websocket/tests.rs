//! Clients over WebSocket, good ones and bad ones, against a node.
use std::net::SocketAddr;

use protocol::websocket::client::{WHOLE_TEXT, handshake as request, push_element, push_frame};
use protocol::{Element, ns};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::testing::{
    Client, DOMAIN, Heard, MASK, TestNode, WEBSOCKET_PATH, soon, until, websocket_plan,
};

const OPEN: &str =
    "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='localhost' version='1.0'/>";
/// The last element, as clients compare it.
const END: &str = "<close xmlns=\"urn:ietf:params:xml:ns:xmpp-framing\" />";

async fn node() -> (TestNode, SocketAddr) {
    let node = TestNode::start_with(|plan| plan.http.push(websocket_plan())).await;
    let address = node.http[0];
    (node, address)
}

/// A client over WebSocket with a new account and the resource `web`.
async fn web(node: &TestNode, name: &str) -> Client {
    node.register(name).await;
    let mut client = Client::logged_in_by_websocket(node.http[0], name).await;
    client.bind("web").await;
    client
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    push_frame(&mut out, first, payload, MASK);
    out
}

/// The answer to one request on a connection of its own.
async fn answer(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(soon(stream.read_u8()).await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

#[tokio::test]
async fn w01_w07_the_handshake_is_the_one_of_the_rfc() {
    let (_node, address) = node().await;
    let good = request(DOMAIN, WEBSOCKET_PATH);
    let deflate = good.replace(
        "Sec-WebSocket-Version",
        "Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Version",
    );
    for request in [
        &good,
        &deflate,
        &good.replace("Protocol: xmpp", "Protocol: chat, xmpp"),
    ] {
        let head = answer(address, request).await.to_ascii_lowercase();
        assert!(head.starts_with("http/1.1 101 "), "{head}");
        for line in [
            "upgrade: websocket",
            "connection: upgrade",
            "sec-websocket-protocol: xmpp",
            "sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=",
        ] {
            assert!(head.contains(line), "{line} in {head}");
        }
        assert!(!head.contains("extensions"), "{head}");
    }
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    for (before, after, status) in [
        ("Sec-WebSocket-Protocol: xmpp\r\n", "", 400),
        ("Protocol: xmpp", "Protocol: XMPP", 400),
        ("Upgrade: websocket\r\n", "", 426),
        ("Connection: Upgrade", "Connection: keep-alive", 426),
        ("Version: 13", "Version: 8", 426),
        (key, "Sec-WebSocket-Key: c2hvcnQ=", 400),
        (&format!("{key}\r\n"), "", 400),
        (key, &format!("{key}\r\n{key}"), 400),
        ("HTTP/1.1", "HTTP/1.0", 400),
        ("GET /", "POST /", 405),
        ("GET /ws-xmpp", "GET /ws", 404),
    ] {
        assert!(good.contains(before));
        let head = answer(address, &good.replace(before, after)).await;
        let start = format!("HTTP/1.1 {status} ");
        let start_10 = format!("HTTP/1.0 {status} ");
        assert!(
            head.starts_with(&start) || head.starts_with(&start_10),
            "{after}: {head}"
        );
    }
}

#[tokio::test]
async fn messages_go_between_a_websocket_and_a_stream() {
    let (node, _) = node().await;
    let mut romeo = web(&node, "romeo").await;
    let mut juliet = node.client("juliet").await;
    let features = romeo.features.clone().unwrap();
    assert!(features.is("features", ns::STREAM));
    assert!(features.child("bind", ns::BIND).is_some());
    assert!(features.child("starttls", ns::TLS).is_none());
    romeo.chat(&juliet.jid, "1").await;
    let message = juliet.expect("message").await;
    assert_eq!(message.attr("from"), Some("romeo@localhost/web"));
    assert!(message.is("message", ns::CLIENT));
    juliet.chat(&romeo.jid, "2").await;
    let message = romeo.expect("message").await;
    assert!(message.is("message", ns::CLIENT), "{}", message.to_xml());
    assert!(message.child("body", ns::CLIENT).is_some());
    romeo.send("</stream:stream>").await;
    assert_eq!(romeo.stream_error().await, "not-well-formed");
}

#[tokio::test]
async fn what_a_client_compares_is_written_so() {
    let (node, address) = node().await;
    node.register("romeo").await;
    let mut client = Client::dial_websocket(address).await;
    client.send(OPEN).await;
    client
        .send("<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>")
        .await;
    let mut rest = client.rest().await;
    let mut frames = Vec::new();
    while let Some(frame) = protocol::websocket::client::take_frame(&mut rest) {
        frames.push(frame);
    }
    use protocol::websocket::client::FromServer::{Close, Text};
    let [Text(open), Text(features), Text(end), Close(Some(1_000))] = frames.as_slice() else {
        panic!("{frames:?}")
    };
    let open = String::from_utf8_lossy(open);
    let begin = "<open xmlns=\"urn:ietf:params:xml:ns:xmpp-framing\" from=\"localhost\" id=\"";
    assert!(open.starts_with(begin), "{open}");
    assert!(
        open.ends_with("version=\"1.0\" xml:lang=\"en\"/>"),
        "{open}"
    );
    let features = String::from_utf8_lossy(features);
    assert!(
        features.starts_with("<stream:features xmlns:stream='http://etherx.jabber.org/streams'>"),
        "{features}"
    );
    assert_eq!(String::from_utf8_lossy(end), END);
}

#[tokio::test]
async fn what_follows_the_handshake_at_once_is_read() {
    let (_node, address) = node().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut bytes = request(DOMAIN, WEBSOCKET_PATH).into_bytes();
    push_element(&mut bytes, OPEN.as_bytes(), MASK);
    stream.write_all(&bytes).await.unwrap();
    let mut heard = Vec::new();
    while !heard.ends_with(b"</stream:features>") {
        heard.push(soon(stream.read_u8()).await.unwrap());
    }
}

#[tokio::test]
async fn a_session_goes_on_from_a_stream_to_a_websocket_and_back() {
    let (node, address) = node().await;
    let mut juliet = node.client("juliet").await;
    let mut romeo = node.client("romeo").await;
    let id = romeo.enable().await;
    romeo.chat(&juliet.jid, "from-romeo").await;
    juliet.expect("message").await;
    let session = node.find("romeo@localhost/test").unwrap();
    romeo.cut();
    until(|| session.has(crate::outlet::Flag::Detached)).await;
    juliet.chat("romeo@localhost/test", "1").await;
    juliet.chat("romeo@localhost/test", "2").await;

    let mut romeo = Client::logged_in_by_websocket(address, "romeo").await;
    romeo
        .send(&format!(
            "<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='0'/>"
        ))
        .await;
    let resumed = romeo.element().await;
    assert!(resumed.is("resumed", ns::STREAM_MANAGEMENT), "{resumed:?}");
    for id in ["1", "2"] {
        let message = romeo.expect("message").await;
        assert!(message.is("message", ns::CLIENT));
        assert_eq!(message.attr("id"), Some(id));
    }
    juliet.chat("romeo@localhost/test", "3").await;
    assert_eq!(romeo.expect("message").await.attr("id"), Some("3"));
    romeo.send("<a xmlns='urn:xmpp:sm:3' h='2'/>").await;
    romeo.acknowledged(1).await;
    let session = node.find("romeo@localhost/test").unwrap();
    romeo.cut();
    until(|| session.has(crate::outlet::Flag::Detached)).await;

    let mut romeo = Client::logged_in(node.address, "romeo").await;
    romeo
        .send(&format!(
            "<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='2'/>"
        ))
        .await;
    let resumed = romeo.element().await;
    assert!(resumed.is("resumed", ns::STREAM_MANAGEMENT), "{resumed:?}");
    assert_eq!(romeo.expect("message").await.attr("id"), Some("3"));
}

#[tokio::test]
async fn pings_are_answered_and_the_end_is_answered() {
    let (node, _) = node().await;
    let mut romeo = web(&node, "romeo").await;
    let id = romeo.enable().await;
    // Amid the fragments of a stanza.
    let iq = b"<iq xmlns='jabber:client' type='get' id='p' to='localhost'><x xmlns='urn:x'/></iq>";
    let (start, end) = iq.split_at(20);
    let pieces = [frame(0x01, start), frame(0x89, b"tick"), frame(0x80, end)].concat();
    romeo.send_bytes(&pieces).await;
    assert!(matches!(romeo.next().await, Heard::Frame(0x8a, payload) if payload == b"tick"));
    assert_eq!(romeo.expect("iq").await.attr("id"), Some("p"));
    // Without `<close/>` it is the connection that ends, not the session.
    romeo.send_bytes(&frame(0x88, b"\x03\xe9")).await;
    // A question for an acknowledgement may come before.
    while !matches!(romeo.next().await, Heard::End) {}
    assert_eq!(romeo.code, Some(1_000));
    let session = node.find("romeo@localhost/web").unwrap();
    until(|| session.has(crate::outlet::Flag::Detached)).await;
    let mut romeo = Client::logged_in(node.address, "romeo").await;
    romeo
        .send(&format!(
            "<resume xmlns='urn:xmpp:sm:3' previd='{id}' h='1'/>"
        ))
        .await;
    assert!(romeo.element().await.is("resumed", ns::STREAM_MANAGEMENT));
}

/// What a bad client gets: the condition of the stream error and the status code of the end.
async fn refused(client: &mut Client, bytes: &[u8]) -> (String, Option<u16>) {
    client.send_bytes(bytes).await;
    (client.stream_error().await, client.code)
}

#[tokio::test]
async fn w02_w03_w04_w08_frames_that_break_the_rules_end_the_connection() {
    let (node, address) = node().await;
    node.register("romeo").await;
    let stanza = "<message xmlns='jabber:client' to='a@localhost'/>";
    let text = |text: &str| frame(WHOLE_TEXT, text.as_bytes());
    let header = "<stream:stream xmlns='jabber:client' to='localhost' version='1.0' \
                  xmlns:stream='http://etherx.jabber.org/streams'>";
    let large = format!(
        "<message xmlns='jabber:client'><body>{}",
        "x".repeat(140_000)
    );
    let rows = [
        (frame(0x82, stanza.as_bytes()), "bad-format", 1_003),
        (frame(WHOLE_TEXT, b"<a>\xff</a>"), "not-well-formed", 1_007),
        (b"\x81\x04<r/>".to_vec(), "bad-format", 1_002),
        (frame(0xc1, stanza.as_bytes()), "bad-format", 1_002),
        (frame(0x09, b""), "bad-format", 1_002),
        (frame(0x80, b"<r/>"), "bad-format", 1_002),
        (text(&large), "policy-violation", 1_009),
        (
            [frame(0x01, large.as_bytes()), frame(0x00, large.as_bytes())].concat(),
            "policy-violation",
            1_009,
        ),
        (text(&format!("{stanza}{stanza}")), "bad-format", 1_000),
        (text("<message xmlns='jabber:client'>"), "bad-format", 1_000),
        (text(header), "bad-format", 1_000),
        (text(OPEN), "bad-format", 1_000),
        (text(" "), "bad-format", 1_000),
        (text(""), "bad-format", 1_000),
        (text(&format!(" {stanza}")), "bad-format", 1_000),
        (text("ping"), "bad-format", 1_000),
        (text("<message/>"), "invalid-namespace", 1_000),
        (text("<!DOCTYPE x>"), "restricted-xml", 1_000),
        (text("<a></b>"), "not-well-formed", 1_000),
    ];
    for (bytes, condition, code) in rows {
        let shown = String::from_utf8_lossy(bytes.get(..60).unwrap_or(&bytes)).into_owned();
        // Before the login, where much less may come.
        let mut stranger = Client::dial_websocket(address).await;
        if condition != "policy-violation" && !bytes.ends_with(OPEN.as_bytes()) {
            stranger.open().await;
            let found = refused(&mut stranger, &bytes).await;
            assert_eq!(found, (condition.to_owned(), Some(code)), "{shown}");
        }
        let mut romeo = Client::logged_in_by_websocket(address, "romeo").await;
        romeo.bind("web").await;
        let found = refused(&mut romeo, &bytes).await;
        assert_eq!(found, (condition.to_owned(), Some(code)), "{shown}");
    }
    // What is not the header of the protocol.
    for first in [header, stanza, "<r/>"] {
        let mut stranger = Client::dial_websocket(address).await;
        let found = {
            stranger.send_bytes(&text(first)).await;
            assert!(matches!(stranger.next().await, Heard::Header(_)), "{first}");
            stranger.stream_error().await
        };
        let expected = if first == "<r/>" {
            "invalid-namespace"
        } else {
            "bad-format"
        };
        assert_eq!(found, expected, "{first}");
    }
}

#[tokio::test]
async fn an_oversized_stanza_is_answered_and_the_stream_goes_on() {
    let (node, _) = node().await;
    let mut romeo = web(&node, "romeo").await;
    let body = "x".repeat(70_000);
    romeo
        .send(&format!(
            "<message to='localhost' id='large'><body>{body}</body></message>"
        ))
        .await;
    let error = romeo.expect("message").await;
    let error = error.child("error", ns::CLIENT).unwrap();
    assert!(error.child("not-allowed", ns::STANZA_ERRORS).is_some());
    assert!(error.child("stanza-too-big", ns::ERRORS).is_some());
    romeo
        .send("<iq type='get' id='1' to='localhost'><x xmlns='urn:x'/></iq>")
        .await;
    assert_eq!(romeo.expect("iq").await.attr("id"), Some("1"));
}

#[tokio::test]
async fn w05_a_client_that_pings_and_never_reads_is_closed() {
    let (node, _) = node().await;
    let mut romeo = web(&node, "romeo").await;
    let flood = frame(0x89, &[b'x'; 125]).repeat(1_000);
    soon(async {
        while node.find("romeo@localhost/web").is_some() {
            romeo.send_bytes(&flood).await;
        }
    })
    .await;
    assert_eq!(node.router.metrics.ledger.slow_readers_closed.get(), 1);
}

#[tokio::test]
async fn a_drain_ends_websockets_and_lets_no_new_ones_in() {
    let (node, address) = node().await;
    let mut romeo = web(&node, "romeo").await;
    let error = protocol::StreamError::see_other_host("other.example:5222");
    node.router.leaving.begin(error.clone());
    let head = answer(address, &request(DOMAIN, WEBSOCKET_PATH)).await;
    assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
    let session = node.find("romeo@localhost/web").unwrap();
    session.order(crate::outlet::Order::Close(error, "drained"));
    assert_eq!(romeo.stream_error().await, "system-shutdown");
    assert_eq!(romeo.code, Some(1_001));
}

#[tokio::test]
async fn a_websocket_is_counted_among_its_own() {
    let (node, _) = node().await;
    let metrics = node.router.metrics.clone();
    let romeo = web(&node, "romeo").await;
    until(|| metrics.http.connections.get() == 0).await;
    assert_eq!(metrics.websocket.connections.get(), 1);
    assert_eq!(metrics.websocket.accepted.get(), 1);
    assert_eq!(metrics.connections.get(), 0);
    romeo.cut();
    until(|| metrics.websocket.connections.get() == 0).await;
}

#[tokio::test]
async fn the_port_tells_of_its_websocket() {
    let (_node, address) = node().await;
    let ask = |path: &str, host: &str, more: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n")
    };
    let body = async |request: String| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        soon(stream.read_to_string(&mut answer)).await.unwrap();
        answer
    };
    let json = body(ask("/.well-known/host-meta.json", "chat.example:5280", "")).await;
    assert!(json.contains("access-control-allow-origin: *"), "{json}");
    assert!(
        json.contains("\"href\":\"ws://chat.example:5280/ws-xmpp\""),
        "{json}"
    );
    assert!(
        json.contains("\"rel\":\"urn:xmpp:alt-connections:websocket\""),
        "{json}"
    );
    let proxied = "X-Forwarded-Proto: https\r\n";
    let xml = body(ask("/.well-known/host-meta", "chat.example", proxied)).await;
    assert!(xml.contains("content-type: application/xrd+xml"), "{xml}");
    let (_, xml) = xml.split_once("\r\n\r\n").unwrap();
    let xml = xml.split_once("?>").unwrap().1.trim();
    let xrd = Element::parse(xml.as_bytes(), "").unwrap();
    let link = xrd.elements().next().unwrap();
    assert_eq!(link.attr("href"), Some("wss://chat.example/ws-xmpp"));
    let bad = body(ask("/.well-known/host-meta", "a'b", "")).await;
    assert!(bad.starts_with("HTTP/1.1 400 "), "{bad}");
}
