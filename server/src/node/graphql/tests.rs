//! The admin schema over HTTP, byte by byte.
use std::net::SocketAddr;

use daemon::Secret;
use protocol::sasl::encode_base64;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::listen::http::{GraphqlPlan, HandlerPlan, HttpPlan, RoutePlan};
use crate::testing::{TestNode, soon};

/// A node with a handler that asks for credentials and one that allows two categories.
async fn node() -> (TestNode, SocketAddr) {
    let route = |path: &str, plan| RoutePlan {
        host: None,
        path: path.into(),
        handler: HandlerPlan::Graphql(plan),
    };
    let closed = GraphqlPlan {
        credentials: Some(("admin".into(), Secret::new("s:ecret"))),
        categories: None,
    };
    let part = GraphqlPlan {
        credentials: None,
        categories: Some(vec!["account".into(), "checkAuth".into()]),
    };
    let plan = HttpPlan {
        address: "127.0.0.1:0".parse().unwrap(),
        tls: None,
        tls_at_balancer: false,
        proxy_protocol: None,
        connections_max: 100,
        routes: vec![route("/api/graphql", closed), route("/part", part)],
    };
    let node = TestNode::start_with(|all| all.http.push(plan)).await;
    let address = node.http[0];
    (node, address)
}

/// Status line, head and body of an answer.
async fn said(address: SocketAddr, request: String) -> (u16, String, Value) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon(stream.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.get(9..12).unwrap().parse().unwrap();
    let body = serde_json::from_str(body).unwrap_or_default();
    (status, head.to_ascii_lowercase(), body)
}

async fn post(address: SocketAddr, path: &str, headers: &str, body: &str) -> (u16, String, Value) {
    let length = body.len();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    );
    said(address, request).await
}

const JSON: &str = "Content-Type: application/json; charset=utf-8\r\n";

fn login(user: &str, password: &str) -> String {
    let encoded = encode_base64(format!("{user}:{password}").as_bytes());
    format!("{JSON}Authorization: Basic {encoded}\r\n")
}

fn code(body: &Value) -> &str {
    body["errors"][0]["extensions"]["code"].as_str().unwrap()
}

const STATUS: &str = r#"{"query": "{ server { status { statusCode } } }"}"#;
const WHO: &str = r#"{"query": "{ checkAuth { authStatus authType } }"}"#;

#[tokio::test]
async fn an_administrator_is_answered() {
    let (_node, address) = node().await;
    let (status, head, body) =
        post(address, "/api/graphql", &login("admin", "s:ecret"), STATUS).await;
    assert_eq!(status, 200, "{body}");
    assert!(head.contains("content-type: application/json") && head.contains("no-store"));
    let expected = json!({ "data": { "server": { "status": { "statusCode": "RUNNING" } } } });
    assert_eq!(body, expected);
    let (_, _, body) = post(address, "/api/graphql", &login("admin", "s:ecret"), WHO).await;
    assert_eq!(body["data"]["checkAuth"]["authType"], "ADMIN");
}

/// Security case G07.
#[tokio::test]
async fn g07_who_shows_no_or_wrong_credentials_is_nobody() {
    let (_node, address) = node().await;
    let (status, head, body) = post(address, "/api/graphql", JSON, STATUS).await;
    assert_eq!((status, code(&body)), (401, "no_permissions"));
    assert!(head.contains("www-authenticate: basic"));
    let (status, _, body) = post(address, "/api/graphql", JSON, WHO).await;
    assert_eq!(status, 200);
    assert_eq!(body["data"]["checkAuth"]["authStatus"], "UNAUTHORIZED");
    for (user, password) in [
        ("admin", "s:ecre"),
        ("", ""),
        ("Admin", "s:ecret"),
        ("admin", ""),
    ] {
        let (status, _, body) = post(address, "/api/graphql", &login(user, password), STATUS).await;
        assert_eq!((status, code(&body)), (401, "wrong_credentials"));
        // Not even what everybody may ask.
        let text = body.to_string();
        assert!(!text.contains("ecret") && !text.contains("data"), "{text}");
    }
    let odd = format!("{JSON}Authorization: Bearer x\r\n");
    let (status, _, body) = post(address, "/api/graphql", &odd, STATUS).await;
    assert_eq!((status, code(&body)), (401, "request_error"));
}

/// Guesses take turns, as those of logins: after a few failures nobody is answered at once.
#[tokio::test(start_paused = true)]
async fn g07_guesses_are_slowed_down() {
    let (node, _address) = node().await;
    let throttle = &node.router.throttle;
    let peer = "192.0.2.1".parse().unwrap();
    for _ in 0..9 {
        throttle.failed("admin api", peer);
    }
    let began = tokio::time::Instant::now();
    assert!(
        throttle
            .turn("admin api", "198.51.100.1".parse().unwrap())
            .await
    );
    assert!(began.elapsed() >= crate::auth::throttle::DELAY_MAX);
}

/// Security cases G01 and G08.
#[tokio::test]
async fn g08_only_json_changes_anything() {
    let (_node, address) = node().await;
    let stop = r#"{"query": "mutation { account { removeUser(user: \"a@b\") { jid } } }"}"#;
    for content_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/jsonx",
    ] {
        let headers = format!("Content-Type: {content_type}\r\n");
        let (status, _, body) = post(address, "/part", &headers, stop).await;
        assert_eq!((status, code(&body)), (415, "unsupported_media_type"));
    }
    let (status, ..) = post(address, "/part", "", stop).await;
    assert_eq!(status, 415);
    let get = async |query: &str| {
        let request = format!("GET /part?{query} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        said(address, request).await
    };
    let (status, _, body) =
        get("query=mutation%20%7Baccount%7BremoveUser(user:%22a@b%22)%7Bjid%7D%7D%7D").await;
    assert_eq!((status, code(&body)), (405, "unsupported_operation"));
    let (status, _, body) = get("query=%7BcheckAuth%7BauthType%7D%7D").await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(body["data"]["checkAuth"]["authType"], "ADMIN");
    for (query, expected) in [
        ("", "no_query_supplied"),
        ("query=%f", "invalid_query_parameters"),
    ] {
        let (status, _, body) = get(query).await;
        assert_eq!((status, code(&body)), (400, expected));
    }
    let preflight = "OPTIONS /part HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n".to_owned();
    let (_, head, _) = said(address, preflight).await;
    assert!(!head.contains("access-control-allow-origin"), "{head}");
}

#[tokio::test]
async fn a_category_that_is_not_allowed_is_closed_whatever_it_is_called() {
    let (_node, address) = node().await;
    for query in [
        "{ server { status { statusCode } } }",
        "{ account: server { status { statusCode } } }",
        "{ ...f } fragment f on AdminQuery { server { status { statusCode } } }",
        "mutation { server { stop } }",
    ] {
        let body = json!({ "query": query }).to_string();
        let (status, _, body) = post(address, "/part", JSON, &body).await;
        assert_eq!((status, code(&body)), (200, "category_disabled"), "{query}");
        let data = body["data"].as_object().unwrap();
        assert!(data.values().all(Value::is_null));
    }
    let count = json!({ "query": "{ account { countUsers(domain: \"localhost\") } }" });
    let (_, _, body) = post(address, "/part", JSON, &count.to_string()).await;
    assert_eq!(body["data"]["account"]["countUsers"], 0);
}

#[tokio::test]
async fn what_is_no_question_is_told_with_its_status() {
    let (_node, address) = node().await;
    for (body, status, expected) in [
        ("{", 400, "invalid_json_body"),
        ("[]", 400, "invalid_json_body"),
        ("{}", 400, "no_query_supplied"),
        (r#"{"query": "{"}"#, 400, "parser_error"),
        (r#"{"query": "{ nope }"}"#, 400, "unknown_field"),
        (
            r#"{"query": "{ account { countUsers(domain: \"elsewhere\") } }"}"#,
            200,
            "domain_not_found",
        ),
    ] {
        let (found, _, answer) = post(address, "/part", JSON, body).await;
        assert_eq!((found, code(&answer)), (status, expected), "{body}");
    }
    // A stranger may send less.
    let length = crate::api::engine::REQUEST_BYTES_MAX;
    for (path, length) in [("/part", length + 1), ("/api/graphql", 64 * 1024 + 1)] {
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\n{JSON}Content-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        let (status, ..) = said(address, request).await;
        assert_eq!(status, 413, "{path}");
    }
}
