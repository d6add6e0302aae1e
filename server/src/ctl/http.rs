//! A node elsewhere: one request over HTTP or HTTPS (RFC 9112), and its answer.
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use protocol::sasl::encode_base64;
use serde_json::Value;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::{ANSWER_BYTES_MAX, ANSWER_TIMEOUT};

/// A connection that takes longer than this does not come.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of the head of an answer.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Where systems keep the authorities that they trust.
const AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Where to ask, and as whom.
#[derive(PartialEq)]
pub struct Target {
    is_https: bool,
    host: String,
    port: u16,
    path: String,
    credentials: Option<(String, String)>,
    cacert: Option<PathBuf>,
}

/// Without the password.
impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.is_https { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}{}", self.host, self.port, self.path)
    }
}

impl Target {
    /// Reads a URL. A password does not go in the clear to another machine.
    pub fn new(
        url: &str,
        credentials: Option<(String, String)>,
        cacert: Option<PathBuf>,
    ) -> Result<Self, String> {
        let bad = |text: &str| format!("--url {url:?}: {text}");
        let (is_https, rest) = match url.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => return Err(bad("it begins with https:// or http://")),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, "/api/graphql"),
        };
        let default_port = if is_https { 443 } else { 80 };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                let port = port.parse().map_err(|_| bad("the port is no number"))?;
                (host, port)
            }
            _ => (authority, default_port),
        };
        let is_odd = |c: char| c.is_whitespace() || c.is_control();
        if host.is_empty() || host.contains('@') || url.contains(is_odd) {
            return Err(bad("the name of the host is missing or odd"));
        }
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let target = Self {
            is_https,
            host: host.to_owned(),
            port,
            path: path.to_owned(),
            credentials,
            cacert,
        };
        if target.credentials.is_some() && !is_https && !target.is_loopback() {
            return Err(bad("a password would be sent in the clear: use https"));
        }
        Ok(target)
    }

    fn is_loopback(&self) -> bool {
        let address: Result<std::net::IpAddr, _> = self.host.parse();
        self.host == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }

    /// Asks and waits for the answer.
    pub fn ask(&self, question: &Value) -> Result<Value, String> {
        let failed =
            |error: &dyn std::fmt::Display| format!("no node answers at {self:?}: {error}");
        let stream = self.connect().map_err(|error| failed(&error))?;
        let request = self.request(&question.to_string());
        let answer = if self.is_https {
            let connection = self.tls().map_err(|error| failed(&error))?;
            exchange(StreamOwned::new(connection, stream), &request)
        } else {
            exchange(stream, &request)
        };
        let answer = answer.map_err(|error| failed(&error))?;
        let (status, body) = read_answer(&answer).map_err(|error| failed(&error))?;
        serde_json::from_slice(&body).map_err(|_| {
            failed(&format!(
                "it answered with {status}, and no JSON; is the path right?"
            ))
        })
    }

    fn connect(&self) -> std::io::Result<TcpStream> {
        let mut last = std::io::Error::other("the name has no address");
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
                    stream.set_write_timeout(Some(CONNECT_TIMEOUT))?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn request(&self, body: &str) -> Vec<u8> {
        let host = match self.host.contains(':') {
            true => format!("[{}]", self.host),
            false => self.host.clone(),
        };
        let credentials = self.credentials.as_ref().map(|(user, password)| {
            let encoded = encode_base64(format!("{user}:{password}").as_bytes());
            format!("Authorization: Basic {encoded}\r\n")
        });
        format!(
            "POST {} HTTP/1.1\r\nHost: {host}:{}\r\nContent-Type: application/json\r\nAccept: application/json\r\n\
             Connection: close\r\n{}Content-Length: {}\r\n\r\n{body}",
            self.path,
            self.port,
            credentials.unwrap_or_default(),
            body.len()
        )
        .into_bytes()
    }

    fn tls(&self) -> Result<ClientConnection, String> {
        let mut roots = RootCertStore::empty();
        let file = match &self.cacert {
            Some(file) => file.as_path(),
            None => AUTHORITIES
                .iter()
                .map(Path::new)
                .find(|file| file.exists())
                .ok_or("this machine trusts no authorities: name some with --cacert")?,
        };
        let certificates = CertificateDer::pem_file_iter(file);
        let certificates = certificates.map_err(|error| format!("{}: {error}", file.display()))?;
        roots.add_parsable_certificates(certificates.flatten());
        if roots.is_empty() {
            return Err(format!("{} has no certificate", file.display()));
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(self.host.clone());
        let name = name.map_err(|error| error.to_string())?;
        ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())
    }
}

/// All that comes until the other side hangs up.
fn exchange(mut stream: impl Read + Write, request: &[u8]) -> std::io::Result<Vec<u8>> {
    stream.write_all(request)?;
    stream.flush()?;
    let mut answer = Vec::new();
    let read = stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer);
    match read {
        // Some hang up without the end of TLS: what is missing shows below.
        Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => Err(error),
        _ => Ok(answer),
    }
}

/// Status and body.
fn read_answer(answer: &[u8]) -> Result<(u16, Vec<u8>), String> {
    let bad = || "the answer is no HTTP".to_owned();
    let end = answer
        .windows(4)
        .take(HEAD_BYTES_MAX)
        .position(|four| four == b"\r\n\r\n")
        .ok_or_else(bad)?;
    let (head, body) = answer.split_at(end + 4);
    let head = std::str::from_utf8(head).map_err(|_| bad())?;
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|line| line.strip_prefix("HTTP/1."))
        .and_then(|line| line.get(2..5))
        .and_then(|status| status.parse().ok())
        .ok_or_else(bad)?;
    let field = |wanted: &str| {
        lines.clone().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case(wanted).then(|| value.trim())
        })
    };
    if field("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
        return Ok((status, unchunk(body).ok_or_else(bad)?));
    }
    let cut = || "the answer is cut off".to_owned();
    let body = match field("content-length") {
        None => body,
        Some(length) => {
            let length: usize = length.parse().map_err(|_| bad())?;
            body.get(..length).ok_or_else(cut)?
        }
    };
    Ok((status, body.to_vec()))
}

fn unchunk(mut body: &[u8]) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    loop {
        let end = body.windows(2).position(|two| two == b"\r\n")?;
        let size = std::str::from_utf8(body.get(..end)?).ok()?;
        let size = size.split(';').next()?.trim();
        let size = usize::from_str_radix(size, 16).ok()?;
        body = body.get(end + 2..)?;
        if size == 0 {
            return Some(whole);
        }
        whole.extend_from_slice(body.get(..size)?);
        body = body.get(size.checked_add(2)?..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target, String> {
        Target::new(url, None, None)
    }

    #[test]
    fn urls_are_taken_apart() {
        let check = |url, expected| assert_eq!(format!("{:?}", target(url).unwrap()), expected);
        check("https://a.b", "https://a.b:443/api/graphql");
        check("https://a.b:5551/x?y", "https://a.b:5551/x?y");
        check("http://127.0.0.1", "http://127.0.0.1:80/api/graphql");
        check("http://[::1]:5551/", "http://::1:5551/");
        for bad in [
            "a.b",
            "ftp://a",
            "https://",
            "https://a:b",
            "https://u@a",
            "http://a b",
        ] {
            assert!(target(bad).is_err(), "{bad}");
        }
    }

    /// Security case K06: a password is shown nowhere, and is not sent where others can read it.
    #[test]
    fn k06_a_password_does_not_go_in_the_clear() {
        let secret = || Some(("admin".to_owned(), "secret".to_owned()));
        for url in ["http://a.b/", "http://192.0.2.1/"] {
            let refused = Target::new(url, secret(), None).unwrap_err();
            assert!(refused.contains("in the clear"), "{refused}");
        }
        for url in ["https://a.b/", "http://localhost/", "http://[::1]/"] {
            let target = Target::new(url, secret(), None).unwrap();
            assert!(!format!("{target:?}").contains("secret"));
        }
    }

    #[test]
    fn answers_are_read_however_their_end_is_told() {
        let check = |answer: &str, expected: Option<(u16, &str)>| {
            let found = read_answer(answer.as_bytes()).ok();
            let expected = expected.map(|(status, body)| (status, body.as_bytes().to_vec()));
            assert_eq!(found, expected, "{answer}");
        };
        check("HTTP/1.1 200 OK\r\n\r\nbody", Some((200, "body")));
        check(
            "HTTP/1.1 400 Bad\r\ncontent-LENGTH: 2\r\n\r\nbody",
            Some((400, "bo")),
        );
        check("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbody", None);
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2;x\r\ndy\r\n0\r\n\r\n",
            Some((200, "body")),
        );
        for bad in [
            "zz\r\n",
            "5\r\nbody\r\n0\r\n",
            "ffffffffffffffff\r\n",
            "2\r\nbo",
        ] {
            check(
                &format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{bad}"),
                None,
            );
        }
        for bad in ["", "HTTP/1.1 200 OK\r\n", "x\r\n\r\n", "HTTP/1.1 2\r\n\r\n"] {
            check(bad, None);
        }
    }
}
