//! What a client's `<body/>` says (XEP-0124 sections 6 to 15, XEP-0206 section 4).
use super::{ATTRIBUTE_BYTES_MAX, BODY_BYTES_MAX, CHILDREN_MAX, Condition, RID_MAX};
use crate::xml::{Limits, is_language, read_wrapper};
use crate::{Element, StreamCondition, StreamError, ns};

/// One request. Attributes that we do not know are ignored, as are `route` (who may choose where we connect to could
/// reach what is behind us) and `content` (a header that a stranger chooses).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// The request's number, 1 to [`RID_MAX`].
    pub rid: u64,
    /// The session; none asks for a new one.
    pub sid: Option<Box<str>>,
    /// The highest response that the client has, with all before it.
    pub ack: Option<u64>,
    /// The key of this request (section 15).
    pub key: Option<Box<str>>,
    /// What the next request's key comes to.
    pub newkey: Option<Box<str>>,
    /// How long the client will be away, seconds.
    pub pause_secs: Option<u32>,
    /// The client ends the session.
    pub terminates: bool,
    /// The client begins a new stream (`xmpp:restart`).
    pub restarts: bool,
    /// The domain.
    pub to: Option<Box<str>>,
    /// Who the client says it is: a hint, never an identity.
    pub from: Option<Box<str>>,
    /// `xml:lang`, if it is a language tag.
    pub lang: Option<Box<str>>,
    /// `xmpp:version`.
    pub version: Option<Box<str>>,
    /// How long a request may be held at most, seconds; of a creation request only.
    pub wait_secs: Option<u32>,
    /// How many requests may be held at most; of a creation request only.
    pub hold: Option<u32>,
    /// The version of BOSH that the client knows; of a creation request only.
    pub ver: Option<(u32, u32)>,
    /// How many children there are.
    pub children: usize,
    /// The children as bytes of a client's stream.
    pub stream: Vec<u8>,
}

impl Request {
    /// Reads a `<body/>`. Its children are checked by the reader of streams, with the limits of a client that has logged
    /// in: the session checks them once more, with those that hold for it.
    ///
    /// # Errors
    /// What the client is told: `bad-request`, or `policy-violation` if it is too much of something.
    pub fn parse(bytes: &[u8]) -> Result<Self, Condition> {
        if bytes.len() > BODY_BYTES_MAX {
            return Err(Condition::PolicyViolation);
        }
        let mut stream = Vec::new();
        let mut children = 0_usize;
        let body = read_wrapper(bytes, Limits::AUTHENTICATED, |frame| {
            children = children.saturating_add(1);
            if children <= CHILDREN_MAX {
                frame.write_to_stream(&mut stream);
            }
        });
        let body = body.map_err(|error| condition(&error))?;
        if !body.is("body", ns::HTTP_BIND) {
            return Err(Condition::BadRequest);
        }
        let is_long = |value: &str| value.len() > ATTRIBUTE_BYTES_MAX;
        if children > CHILDREN_MAX || body.attributes().iter().any(|a| is_long(&a.value)) {
            return Err(Condition::PolicyViolation);
        }
        let request = Self {
            children,
            stream,
            ..Self::of_attributes(&body)?
        };
        Ok(request)
    }

    fn of_attributes(body: &Element) -> Result<Self, Condition> {
        let text = |name: &str| body.attr(name).map(Into::into);
        let rid = number(body, "rid")?.ok_or(Condition::BadRequest)?;
        if !(1..=RID_MAX).contains(&rid) {
            return Err(Condition::BadRequest);
        }
        let xmpp = |name: &str| {
            let mut all = body.attributes().iter();
            all.find(|attribute| *attribute.name == *name && attribute.ns == ns::XMPP_BOSH)
                .map(|attribute| &*attribute.value)
        };
        let lang = body.lang().filter(|tag| is_language(tag));
        Ok(Self {
            rid,
            sid: text("sid"),
            ack: number(body, "ack")?,
            key: text("key"),
            newkey: text("newkey"),
            pause_secs: number(body, "pause")?.map(clamped),
            terminates: match body.attr("type") {
                None => false,
                Some("terminate") => true,
                Some(_) => return Err(Condition::BadRequest),
            },
            restarts: matches!(xmpp("restart"), Some("true" | "1")),
            to: text("to"),
            from: text("from"),
            lang: lang.map(Into::into),
            version: xmpp("version").map(Into::into),
            wait_secs: number(body, "wait")?.map(clamped),
            hold: number(body, "hold")?.map(clamped),
            ver: body.attr("ver").and_then(version),
            ..Self::default()
        })
    }

    /// It brings nothing: no payload, and nothing to do but to wait for one.
    pub fn is_empty(&self) -> bool {
        self.children == 0 && !self.is_urgent() && !self.restarts
    }

    /// It may come although as many are waiting as may (section 11).
    pub fn is_urgent(&self) -> bool {
        self.terminates || self.pause_secs.is_some()
    }
}

fn condition(error: &StreamError) -> Condition {
    match error.condition {
        StreamCondition::PolicyViolation => Condition::PolicyViolation,
        _ => Condition::BadRequest,
    }
}

/// A number in digits; a number too great to be one is a great one.
fn number(body: &Element, name: &str) -> Result<Option<u64>, Condition> {
    let Some(text) = body.attr(name) else {
        return Ok(None);
    };
    digits(text).map(Some).ok_or(Condition::BadRequest)
}

fn digits(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

fn clamped(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((clamped(digits(major)?), clamped(digits(minor)?)))
}
