//! The socket: who may use it, and what a request may be.
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::testing::{TestNode, soon};

async fn ask(node: &TestNode, request: &[u8]) -> Value {
    let mut stream = UnixStream::connect(node.dir().join(SOCKET_NAME))
        .await
        .unwrap();
    // A request that is too large is not read to its end.
    let _ = stream.write_all(request).await;
    let _ = stream.shutdown().await;
    let mut answer = Vec::new();
    soon(stream.read_to_end(&mut answer)).await.unwrap();
    serde_json::from_slice(&answer).unwrap()
}

#[tokio::test]
async fn a_document_is_run_with_its_variables() {
    let node = TestNode::start().await;
    let request = json!({
        "query": "query Other { checkAuth { authType } }
                  mutation Make($name: UserName) { account {
                      registerUser(domain: \"LOCALHOST\", username: $name, password: \"secret\") { jid } } }",
        "variables": { "name": "Romeo" },
        "operationName": "Make",
    });
    let made = ask(&node, request.to_string().as_bytes()).await;
    let expected = json!({ "account": { "registerUser": { "jid": "romeo@localhost" } } });
    assert_eq!(made, json!({ "data": expected }));
    let again = ask(&node, request.to_string().as_bytes()).await;
    assert_eq!(again["errors"][0]["extensions"]["code"], json!("exists"));
}

#[tokio::test]
async fn what_is_no_request_is_told() {
    let node = TestNode::start().await;
    let large = vec![b' '; REQUEST_BYTES_MAX + 1];
    let table: [(&[u8], &str); 7] = [
        (b"", "invalid_json_body"),
        (b"[1]", "invalid_json_body"),
        (b"{}", "no_query_supplied"),
        (br#"{"query": 1}"#, "no_query_supplied"),
        (
            br#"{"query": "{a}", "variables": 1}"#,
            "variables_invalid_json",
        ),
        (
            br#"{"query": "{a}", "operationName": 1}"#,
            "invalid_json_body",
        ),
        (&large, "request_too_large"),
    ];
    for (request, expected) in table {
        let answer = ask(&node, request).await;
        assert_eq!(answer["errors"][0]["extensions"]["code"], json!(expected));
    }
}

#[tokio::test]
async fn only_its_owner_gets_at_the_socket() {
    let node = TestNode::start().await;
    let metadata = std::fs::metadata(node.dir().join(SOCKET_NAME)).unwrap();
    assert_eq!(metadata.mode() & 0o777, 0o600);

    let dir = tempfile::tempdir().unwrap();
    let mut socket = bind(dir.path()).unwrap();
    let places = Arc::new(Semaphore::new(1));
    for (owner, is_root) in [
        (socket.owner, true),
        (socket.owner + 1, socket.owner == ROOT),
    ] {
        socket.owner = owner;
        let _client = UnixStream::connect(&socket.path).await.unwrap();
        let accepted = soon(socket.accept(&places)).await.unwrap();
        assert_eq!(accepted.is_some(), is_root, "root may do everything anyway");
    }
}

#[tokio::test]
async fn a_socket_that_was_left_behind_is_replaced_and_removed_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    drop(bind(dir.path()).unwrap());
    assert!(dir.path().join(SOCKET_NAME).exists());
    bind(dir.path()).unwrap();
    let node = TestNode::start().await;
    let path = node.dir().join(SOCKET_NAME);
    let _dir = node.stop().await;
    assert!(!path.exists());
}
