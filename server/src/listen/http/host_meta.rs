//! XEP-0156: Discovering Alternative XMPP Connection Methods: where a web client finds the handlers of this port.
//!
//! A port tells of its own handlers. They are where the question went: the host and port of the request, and `wss:` or
//! `https:` if the port has TLS or a proxy in front of it says that it has (`X-Forwarded-Proto`). Whoever lies there
//! misleads nobody else.
use std::sync::Arc;

use hyper::Method;
use hyper::header::{HOST, HeaderName};
use protocol::xml::{Place, escape};

use super::answers::{refusal, text};
use super::{Answering, Exchange, Handler, Route};

/// Where a client looks for it (RFC 6415 section 2).
pub const XML_PATH: &str = "/.well-known/host-meta";
/// The same in JSON.
pub const JSON_PATH: &str = "/.well-known/host-meta.json";
/// What a proxy that ends TLS says of the client's side.
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Longest host with its port that is repeated in an answer.
const HOST_BYTES_MAX: usize = 261;

/// A way to connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// RFC 7395.
    WebSocket,
    /// XEP-0206.
    Bosh,
}

impl Way {
    fn relation(self) -> &'static str {
        match self {
            Self::WebSocket => "urn:xmpp:alt-connections:websocket",
            Self::Bosh => "urn:xmpp:alt-connections:xbosh",
        }
    }

    fn scheme(self, encrypted: bool) -> &'static str {
        match (self, encrypted) {
            (Self::WebSocket, true) => "wss",
            (Self::WebSocket, false) => "ws",
            (Self::Bosh, true) => "https",
            (Self::Bosh, false) => "http",
        }
    }
}

/// One handler that a client may connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// How.
    pub method: Way,
    /// For which host; `None` is any.
    pub host: Option<Box<str>>,
    /// At which path.
    pub path: Box<str>,
}

/// In which words it is told.
#[derive(Clone, Copy)]
enum Form {
    Xml,
    Json,
}

struct HostMeta {
    links: Arc<[Link]>,
    form: Form,
}

/// Where the links are told; nowhere, if there are none.
pub fn routes(links: Vec<Link>) -> Vec<Route> {
    if links.is_empty() {
        return Vec::new();
    }
    let links: Arc<[Link]> = links.into();
    let route = |(path, form): (&str, Form)| Route {
        host: None,
        path: path.into(),
        handler: Arc::new(HostMeta {
            links: links.clone(),
            form,
        }),
    };
    [(XML_PATH, Form::Xml), (JSON_PATH, Form::Json)]
        .map(route)
        .into()
}

impl Handler for HostMeta {
    fn methods(&self) -> &'static [Method] {
        const { &[Method::GET] }
    }

    fn is_open_to_all_origins(&self) -> bool {
        true
    }

    fn answer(self: Arc<Self>, exchange: Exchange) -> Answering {
        Box::pin(async move {
            let request = &exchange.request;
            let field = |name| request.headers().get(name)?.to_str().ok();
            let authority = request
                .uri()
                .authority()
                .map(|authority| authority.as_str());
            let Some(authority) = authority.or_else(|| field(HOST)).filter(is_authority) else {
                return refusal(400, "the request names no host");
            };
            let encrypted = exchange.encrypted
                || field(FORWARDED_PROTO).is_some_and(|word| word.eq_ignore_ascii_case("https"));
            let name = super::without_port(authority);
            let is_asked = |link: &&Link| {
                let host = link.host.as_deref();
                host.is_none_or(|host| host.eq_ignore_ascii_case(name))
            };
            let links = self.links.iter().filter(is_asked);
            let links: Vec<_> = links
                .map(|link| {
                    let scheme = link.method.scheme(encrypted);
                    let href = format!("{scheme}://{authority}{}", link.path);
                    (link.method.relation(), href)
                })
                .collect();
            match self.form {
                Form::Xml => text(200, "application/xrd+xml; charset=utf-8", as_xml(&links)),
                Form::Json => text(200, "application/json; charset=utf-8", as_json(&links)),
            }
        })
    }
}

/// A host name or address with a port or without.
fn is_authority(text: &&str) -> bool {
    let is_part =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':' | b'[' | b']');
    (1..=HOST_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_part)
}

fn as_xml(links: &[(&str, String)]) -> String {
    let mut out = b"<?xml version='1.0' encoding='utf-8'?>\n\
        <XRD xmlns='http://docs.oasis-open.org/ns/xri/xrd-1.0'>\n"
        .to_vec();
    for (relation, href) in links {
        out.extend_from_slice(b"  <Link rel='");
        escape(relation, Place::Attribute, &mut out);
        out.extend_from_slice(b"' href='");
        escape(href, Place::Attribute, &mut out);
        out.extend_from_slice(b"'/>\n");
    }
    out.extend_from_slice(b"</XRD>\n");
    String::from_utf8_lossy(&out).into_owned()
}

fn as_json(links: &[(&str, String)]) -> String {
    let link =
        |(relation, href): &(&str, String)| serde_json::json!({ "rel": relation, "href": href });
    let links: Vec<_> = links.iter().map(link).collect();
    format!("{}\n", serde_json::json!({ "links": links }))
}
