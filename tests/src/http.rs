//! The smallest HTTP client that can ask a node how it is.
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long an answer may take.
const ANSWER_SECS_MAX: u64 = 10;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// What follows the header.
    pub body: String,
}

/// One request on a connection of its own, which the server must close: our exporter does.
pub async fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    timeout(Duration::from_secs(ANSWER_SECS_MAX), request(address, path))
        .await
        .context("no answer")?
}

async fn request(address: SocketAddr, path: &str) -> Result<Answer> {
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
                .as_bytes(),
        )
        .await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let (header, body) = text.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = header
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .context("no status")?;
    Ok(Answer {
        status,
        body: body.to_owned(),
    })
}
