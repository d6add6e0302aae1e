//! What a client is answered with (XEP-0124 sections 7.2, 8, 9, 13 and 17).
use super::Condition;
use crate::ns;
use crate::xml::{Frame, Place, escape};

/// The version of BOSH that we speak.
const OUR_VER: (u32, u32) = (1, 11);

/// Stanzas and other elements for a client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    bytes: Vec<u8>,
    uses_stream: bool,
}

impl Payload {
    /// Appends an element of a stream with the usual header.
    pub fn push(&mut self, frame: &Frame<'_>) {
        self.uses_stream |= frame.write_declared(&mut self.bytes);
    }

    /// Appends all of `other`.
    pub fn append(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes);
        self.uses_stream |= other.uses_stream;
    }

    /// Its size in bytes.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// There is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// What the first response of a session tells (section 7.2, XEP-0206 section 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Created {
    /// The session's name, which nobody can guess.
    pub sid: Box<str>,
    /// How long requests are held, seconds.
    pub wait_secs: u32,
    /// Requests at a time.
    pub requests: u32,
    /// Requests that are held at a time.
    pub hold: u32,
    /// Seconds without a request that end the session; none is no end.
    pub inactivity_secs: Option<u32>,
    /// Seconds between two polls; of a polling session only.
    pub polling_secs: Option<u32>,
    /// Seconds that the client may be away if it says so.
    pub pause_max_secs: u32,
    /// The version of BOSH that the client knows.
    pub ver: Option<(u32, u32)>,
    /// Our domain.
    pub from: Box<str>,
    /// The id of the stream.
    pub authid: Option<Box<str>>,
}

/// The end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ending(
    /// Why, unless the client asked for it.
    pub Option<Condition>,
);

/// One `<body/>` of ours.
#[derive(Clone, Debug, Default)]
pub struct Response<'a> {
    /// If it is the first of its session.
    pub created: Option<&'a Created>,
    /// If it is the last.
    pub ending: Option<Ending>,
    /// The highest request that has come, with all before it.
    pub ack: Option<u64>,
    /// A response that the client has not, and the milliseconds since it was given.
    pub report: Option<(u64, u64)>,
    /// What it brings.
    pub payload: Option<&'a Payload>,
}

impl Response<'_> {
    /// The bytes of the `<body/>`.
    pub fn to_bytes(&self) -> Vec<u8> {
        let payload = self.payload.filter(|payload| !payload.is_empty());
        let room = payload.map_or(0, Payload::len);
        let mut out = Vec::with_capacity(room.saturating_add(512));
        out.extend_from_slice(b"<body xmlns='");
        out.extend_from_slice(ns::HTTP_BIND.as_bytes());
        out.push(b'\'');
        if payload.is_some_and(|payload| payload.uses_stream) {
            attribute(&mut out, "xmlns:stream", ns::STREAM);
        }
        if let Some(created) = self.created {
            created.write(&mut out);
        }
        let mut number = |name, value: Option<u64>| {
            if let Some(value) = value {
                attribute(&mut out, name, &value.to_string());
            }
        };
        number("ack", self.ack);
        number("report", self.report.map(|(rid, _)| rid));
        number("time", self.report.map(|(_, millis)| millis));
        if let Some(Ending(condition)) = self.ending {
            attribute(&mut out, "type", "terminate");
            if let Some(condition) = condition {
                attribute(&mut out, "condition", condition.name());
            }
        }
        match payload {
            None => out.extend_from_slice(b"/>"),
            Some(payload) => {
                out.push(b'>');
                out.extend_from_slice(&payload.bytes);
                out.extend_from_slice(b"</body>");
            }
        }
        out
    }
}

impl Created {
    fn write(&self, out: &mut Vec<u8>) {
        attribute(out, "xmlns:xmpp", ns::XMPP_BOSH);
        attribute(out, "sid", &self.sid);
        let (major, minor) = self.ver.map_or(OUR_VER, |theirs| theirs.min(OUR_VER));
        attribute(out, "ver", &format!("{major}.{minor}"));
        attribute(out, "from", &self.from);
        if let Some(authid) = &self.authid {
            attribute(out, "authid", authid);
        }
        let numbers = [
            ("wait", Some(self.wait_secs)),
            ("requests", Some(self.requests)),
            ("hold", Some(self.hold)),
            ("inactivity", self.inactivity_secs),
            ("polling", self.polling_secs),
            ("maxpause", Some(self.pause_max_secs)),
        ];
        for (name, value) in numbers {
            if let Some(value) = value {
                attribute(out, name, &value.to_string());
            }
        }
        attribute(out, "charsets", "UTF-8");
        attribute(out, "xmpp:version", "1.0");
        attribute(out, "xmpp:restartlogic", "true");
    }
}

fn attribute(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(b' ');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"='");
    escape(value, Place::Attribute, out);
    out.push(b'\'');
}
