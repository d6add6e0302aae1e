//! The socket: who may use it, and what a request may be.
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

fn request(command: &str, args: Value) -> Vec<u8> {
    json!({ "category": "account", "command": command, "args": args })
        .to_string()
        .into_bytes()
}

#[tokio::test]
async fn accounts_are_made_counted_and_found() {
    let node = TestNode::start().await;
    let user = json!({ "domain": "LOCALHOST", "username": "Romeo", "password": "secret" });
    let made = ask(&node, &request("registerUser", user.clone())).await;
    assert_eq!(
        made["data"]["account"]["registerUser"]["jid"],
        json!("romeo@localhost")
    );
    let again = ask(&node, &request("registerUser", user)).await;
    let text = again["errors"][0]["message"].as_str().unwrap();
    assert!(text.contains("exists already"), "{text}");
    let count = ask(
        &node,
        &request("countUsers", json!({ "domain": "Localhost" })),
    )
    .await;
    assert_eq!(count["data"]["account"]["countUsers"], json!(1));
    let found = ask(
        &node,
        &request("checkUser", json!({ "user": "romeo@localhost" })),
    )
    .await;
    assert_eq!(found["data"]["account"]["checkUser"]["exist"], json!(true));
}

#[tokio::test]
async fn what_is_no_request_is_told() {
    let node = TestNode::start().await;
    let large = vec![b' '; usize::try_from(REQUEST_BYTES_MAX).unwrap() + 1];
    let unknown = request("blow", json!({}));
    let bare = request("registerUser", json!({}));
    let table: [(&[u8], &str); 5] = [
        (b"", "no JSON"),
        (b"[1]", "no command"),
        (&unknown, "no command"),
        (&bare, "is missing"),
        (&large, "larger than"),
    ];
    for (request, expected) in table {
        let answer = ask(&node, request).await;
        let text = answer["errors"][0]["message"].as_str().unwrap();
        assert!(text.contains(expected), "{text}");
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
