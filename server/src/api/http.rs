//! The admin schema over HTTP (`mongoose_graphql_handler`): who asks, and how a request becomes a question.
//!
//! HTTP Basic (RFC 7617). Both names are compared in constant time, after the guess has had its turn: as a login's.
use std::net::IpAddr;
use std::sync::Arc;

use daemon::Secret;
use protocol::sasl::decode_base64;
use subtle::ConstantTimeEq as _;

use super::engine::{Engine, Question, REQUEST_BYTES_MAX, Reply, is_mutation};
use super::terms::errors::Problem;
use super::terms::{Caller, Rights, Via};
use crate::router::Router;

/// Whose guesses take turns: no account has a space in its name.
const THROTTLED_AS: &str = "admin api";

/// One handler.
pub struct Endpoint {
    engine: Arc<Engine>,
    router: Arc<Router>,
    credentials: Option<(String, Secret)>,
    categories: Option<Arc<[String]>>,
}

/// Bytes of a request of somebody without credentials: what strangers may cost.
const STRANGER_BYTES_MAX: usize = 64 * 1024;

/// Bytes that the body of a request may have.
pub fn body_bytes_max(rights: &Rights) -> usize {
    match rights.caller {
        Caller::Admin => REQUEST_BYTES_MAX,
        Caller::Nobody => STRANGER_BYTES_MAX,
    }
}

impl Endpoint {
    /// An endpoint; without `credentials` everybody who reaches it is an administrator.
    pub fn new(
        engine: Arc<Engine>,
        router: Arc<Router>,
        credentials: Option<(String, Secret)>,
        categories: Option<Vec<String>>,
    ) -> Self {
        Self {
            engine,
            router,
            credentials,
            categories: categories.map(Into::into),
        }
    }

    /// A question in the body of a POST.
    pub async fn post(&self, rights: Rights, body: &[u8]) -> Reply {
        match Question::parse(body) {
            Ok(question) => self.engine.run(question, rights).await,
            Err(problem) => Reply::refused(400, &problem),
        }
    }

    /// A question in the query string of a GET, which changes nothing.
    pub async fn get(&self, rights: Rights, query: &str) -> Reply {
        let Some(fields) = fields(query) else {
            let problem = Problem::new("invalid_query_parameters", "the query string is malformed");
            return Reply::refused(400, &problem);
        };
        match Question::of_fields(fields.into_iter()) {
            Ok(question) if is_mutation(&question) => {
                let text = "a GET changes nothing: use POST";
                Reply::refused(405, &Problem::new("unsupported_operation", text))
            }
            Ok(question) => self.engine.run(question, rights).await,
            Err(problem) => Reply::refused(400, &problem),
        }
    }

    /// Who asks, before anything else is looked at: the value of `Authorization` decides, if there is one.
    pub async fn rights(&self, authorization: Option<&str>, peer: IpAddr) -> Result<Rights, Reply> {
        let caller = match (&self.credentials, authorization) {
            (None, _) => Caller::Admin,
            (Some(_), None) => Caller::Nobody,
            (Some(expected), Some(given)) => self.check(expected, given, peer).await?,
        };
        Ok(Rights {
            caller,
            categories: self.categories.clone(),
            via: Via::Http,
        })
    }

    async fn check(
        &self,
        (user, password): &(String, Secret),
        given: &str,
        peer: IpAddr,
    ) -> Result<Caller, Reply> {
        let refuse = |code, text| Err(Reply::refused(401, &Problem::new(code, text)));
        let Some((given_user, given_password)) = basic(given) else {
            return refuse(
                "request_error",
                "the Authorization header is not HTTP Basic",
            );
        };
        let throttle = &self.router.throttle;
        if !throttle.turn(THROTTLED_AS, peer).await {
            let text = "too many wrong passwords: wait a minute";
            return Err(Reply::refused(429, &Problem::new("too_many_guesses", text)));
        }
        let is_user = given_user.as_bytes().ct_eq(user.as_bytes());
        let is_password = given_password
            .as_bytes()
            .ct_eq(password.reveal().as_bytes());
        if !bool::from(is_user & is_password) {
            throttle.failed(THROTTLED_AS, peer);
            return refuse("wrong_credentials", "the credentials are wrong");
        }
        throttle.succeeded(THROTTLED_AS, peer);
        Ok(Caller::Admin)
    }
}

/// Name and password of `Basic …`.
fn basic(header: &str) -> Option<(String, String)> {
    let (scheme, rest) = header.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = decode_base64(rest.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// Names and values of a query string (`application/x-www-form-urlencoded`). `None` if something in it is no UTF-8, or
/// no encoding.
fn fields(query: &str) -> Option<Vec<(String, String)>> {
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts
        .map(|part| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            Some((decode(name)?, decode(value)?))
        })
        .collect()
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_strings_are_decoded() {
        let check = |query: &str, expected: Option<&[(&str, &str)]>| {
            let expected = expected.map(|fields| {
                let owned = |(name, value): &(&str, &str)| ((*name).into(), (*value).into());
                fields.iter().map(owned).collect::<Vec<(String, String)>>()
            });
            assert_eq!(fields(query), expected, "{query}");
        };
        check("", Some(&[]));
        check("a=b&c", Some(&[("a", "b"), ("c", "")]));
        check("a=%7Bx+%22%C3%A4%22%7D", Some(&[("a", "{x \"ä\"}")]));
        check("a=b=c", Some(&[("a", "b=c")]));
        for bad in ["a=%", "a=%4", "a=%zz", "a=%ff", "%=a"] {
            check(bad, None);
        }
    }

    #[test]
    fn credentials_are_read_or_refused() {
        let check = |header: &str, expected: Option<(&str, &str)>| {
            let expected = expected.map(|(user, password)| (user.into(), password.into()));
            assert_eq!(basic(header), expected, "{header}");
        };
        check("Basic YTpiOmM=", Some(("a", "b:c")));
        check("bASIC  YTpi", Some(("a", "b")));
        check("Basic Og==", Some(("", "")));
        for bad in [
            "",
            "Basic",
            "Basic ",
            "Basic !",
            "Basic YQ==",
            "Bearer YTpi",
            "Basic /zo=",
        ] {
            check(bad, None);
        }
    }
}
