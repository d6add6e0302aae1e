//! Answers that several handlers give, and how the body of a request is read.
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Bytes};
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue,
};
use hyper::{Method, StatusCode};

use super::{Request, Response};

/// How long the body of a request may take.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a browser may remember what it may send here, seconds.
const CORS_MAX_AGE: &str = "86400";

/// What a client gets whose head took too long; hyper has no answer for it.
pub(super) const HEAD_TOO_SLOW: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// An answer without a body.
pub fn empty(status: u16) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    response
}

/// An answer with a text.
pub fn text(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Response {
    let mut response = empty(status);
    *response.body_mut() = Full::new(body.into());
    let content_type = HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}

/// A refusal with one line for people.
pub fn refusal(status: u16, why: &str) -> Response {
    text(status, "text/plain; charset=utf-8", format!("{why}\n"))
}

/// `GET, HEAD, OPTIONS`.
fn listed(methods: &[Method]) -> HeaderValue {
    let mut names: Vec<&str> = methods.iter().map(Method::as_str).collect();
    if methods.contains(&Method::GET) {
        names.push("HEAD");
    }
    if !methods.contains(&Method::OPTIONS) {
        names.push("OPTIONS");
    }
    HeaderValue::from_str(&names.join(", ")).unwrap_or(HeaderValue::from_static("OPTIONS"))
}

/// 405 with what would be allowed.
pub(super) fn method_not_allowed(methods: &[Method]) -> Response {
    let mut response = refusal(405, "method not allowed");
    response.headers_mut().insert(ALLOW, listed(methods));
    response
}

/// `OPTIONS`, and with it the question of a browser whether pages of another origin may ask.
pub(super) fn options(methods: &[Method], is_open_to_all_origins: bool) -> Response {
    let mut response = empty(204);
    let headers = response.headers_mut();
    headers.insert(ALLOW, listed(methods));
    if is_open_to_all_origins {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(ACCESS_CONTROL_ALLOW_METHODS, listed(methods));
        let content_type = HeaderValue::from_static("content-type");
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, content_type);
        let max_age = HeaderValue::from_static(CORS_MAX_AGE);
        headers.insert(ACCESS_CONTROL_MAX_AGE, max_age);
    }
    response
}

/// The body of a request of at most `bytes_max`. Else the answer: 413 if it is larger, 415 if it is compressed, 408 if
/// it takes longer than [`BODY_TIMEOUT`], 400 if it breaks off. Nothing else is read from that connection then.
pub async fn read_body(request: Request, bytes_max: usize) -> Result<Bytes, Response> {
    let (head, body) = request.into_parts();
    if head.headers.contains_key(CONTENT_ENCODING) {
        return Err(last_refusal(415, "a body must come as it is"));
    }
    if body.size_hint().lower() > bytes_max as u64 {
        return Err(last_refusal(413, "the body is too large"));
    }
    let limited = Limited::new(body, bytes_max);
    match tokio::time::timeout(BODY_TIMEOUT, limited.collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(last_refusal(413, "the body is too large"))
        }
        Ok(Err(_)) => Err(last_refusal(400, "the body is not whole")),
        Err(_) => Err(last_refusal(408, "the body took too long")),
    }
}

/// A refusal after which the connection ends: what follows on it would be the rest of the body.
fn last_refusal(status: u16, why: &str) -> Response {
    let mut response = refusal(status, why);
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(CONNECTION, close);
    response
}
