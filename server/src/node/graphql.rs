//! `mongoose_graphql_handler`: the admin schema at a path of an HTTP port.
use std::sync::Arc;

use hyper::Method;
use hyper::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE,
};

use crate::api::engine::Reply;
use crate::api::http::{Endpoint, body_bytes_max};
use crate::api::terms::errors::Problem;
use crate::listen::http::{Answering, Exchange, Handler, Response, answers};

/// Answers with what the engine says.
pub(super) struct GraphqlHandler(pub(super) Endpoint);

impl Handler for GraphqlHandler {
    fn methods(&self) -> &'static [Method] {
        const { &[Method::GET, Method::POST] }
    }

    fn answer(self: Arc<Self>, exchange: Exchange) -> Answering {
        Box::pin(async move {
            let Exchange { request, peer, .. } = exchange;
            let headers = request.headers().clone();
            let authorization = headers.get(AUTHORIZATION);
            // What is no text is no credentials.
            let authorization = authorization.map(|value| value.to_str().unwrap_or_default());
            let rights = match self.0.rights(authorization, peer).await {
                Ok(rights) => rights,
                Err(refused) => return response(&refused),
            };
            let reply = if request.method() == Method::GET {
                let query = request.uri().query().unwrap_or_default().to_owned();
                self.0.get(rights, &query).await
            } else if !is_json(&headers) {
                let text = "the body has to be application/json";
                Reply::refused(415, &Problem::new("unsupported_media_type", text))
            } else {
                match answers::read_body(request, body_bytes_max(&rights)).await {
                    Ok(body) => self.0.post(rights, &body).await,
                    Err(refused) => return refused,
                }
            };
            response(&reply)
        })
    }
}

/// Nothing else is taken, so that no page of another origin can ask without asking first (security case G08).
fn is_json(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    content_type.is_some_and(|value| {
        let media_type = value.split(';').next().unwrap_or_default().trim();
        media_type.eq_ignore_ascii_case("application/json")
    })
}

fn response(reply: &Reply) -> Response {
    let body = reply.body.to_string();
    let mut response = answers::text(reply.status, "application/json", body);
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if reply.status == 401 {
        let realm = HeaderValue::from_static("Basic realm=\"meerkat\", charset=\"UTF-8\"");
        headers.insert(WWW_AUTHENTICATE, realm);
    }
    response
}

#[cfg(test)]
mod tests;
