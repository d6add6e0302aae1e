//! What a stream header leaves behind for the elements after it: namespaces, and the name that the end tag repeats.
use super::pass::{Index, Key, Ns, Outside, Span, Stack};
use super::{Fault, attribute_value, frame};
use crate::stream::StreamHeader;
use crate::{StreamCondition, ns};

/// The tag of a usual stream header.
const USUAL_ROOT: &str = "stream:stream";

/// Longest language tag that we take (RFC 5646 section 4.4.1).
const LANGUAGE_BYTES_MAX: usize = 35;

/// The namespaces in which the elements of a stream stand.
#[derive(Debug)]
pub(crate) enum Context {
    /// There was no header yet.
    None,
    /// Each element declares its own namespaces (RFC 7395).
    Framed,
    /// `<stream:stream xmlns='jabber:client' xmlns:stream='…'>`.
    Client,
    /// The same with `jabber:server`.
    Server,
    /// Anything else.
    Other(Box<Other>),
}

#[derive(Debug)]
pub(crate) struct Other {
    root: Box<str>,
    default: Box<str>,
    has_usual_stream: bool,
    others: Prefixes,
}

/// Prefixes and the names of their namespaces.
type Prefixes = Vec<(Box<str>, Box<str>)>;

impl Context {
    /// What an element finds there.
    pub(crate) fn outside(&self) -> Outside<'_> {
        let (default, has_usual_stream) = match self {
            Self::None | Self::Framed => ("", false),
            Self::Client => (ns::CLIENT, true),
            Self::Server => (ns::SERVER, true),
            Self::Other(other) => {
                return Outside {
                    default: &other.default,
                    has_usual_stream: other.has_usual_stream,
                    others: &other.others,
                };
            }
        };
        Outside {
            has_usual_stream,
            ..Outside::with_default(default)
        }
    }

    /// The name in the header's tag.
    pub(crate) fn root(&self) -> &str {
        match self {
            Self::None | Self::Framed => "",
            Self::Client | Self::Server => USUAL_ROOT,
            Self::Other(other) => &other.root,
        }
    }

    /// The namespace of the stream's stanzas, if it is one that we know stanzas of.
    pub(crate) fn content_ns(&self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Framed | Self::Client => Some(ns::CLIENT),
            Self::Server => Some(ns::SERVER),
            Self::Other(other) => [ns::CLIENT, ns::SERVER, ns::COMPONENT]
                .into_iter()
                .find(|content| *content == &*other.default),
        }
    }
}

/// Reads the start tag of a stream.
pub(crate) fn header(
    text: &str,
    index: &Index,
    stack: &Stack,
    spilled: &[Box<str>],
) -> Result<(StreamHeader, Context), Fault> {
    // Outside of the header there is nothing.
    let outside = Outside::with_default("");
    let name_of = |ns: Ns| outside.name(ns, text, spilled);
    if index.local.of(text) != "stream" {
        return Err(Fault::Condition(StreamCondition::BadFormat));
    }
    if name_of(index.ns) != ns::STREAM {
        return Err(Fault::Condition(StreamCondition::InvalidNamespace));
    }
    let default = name_of(stack.default_inside());
    let value = |key: Key| -> Option<Box<str>> {
        let place = index.place(key)?;
        Some(attribute_value(place.value.of(text)).into())
    };
    let header = StreamHeader {
        content_ns: default.into(),
        to: value(Key::To),
        from: value(Key::From),
        id: value(Key::Id),
        version: frame::attribute(text, index, "version").map(Into::into),
        lang: value(Key::Lang).filter(|tag| is_language(tag)),
    };
    let (has_usual_stream, others) = declared(text, stack, spilled);
    let root = index.name.of(text);
    let is_usual = has_usual_stream && others.is_empty() && root == USUAL_ROOT;
    let context = match default {
        ns::CLIENT if is_usual => Context::Client,
        ns::SERVER if is_usual => Context::Server,
        _ => Context::Other(Box::new(Other {
            root: root.into(),
            default: default.into(),
            has_usual_stream,
            others,
        })),
    };
    Ok((header, context))
}

/// The prefixes that a start tag declares: whether `stream` is the usual one, and the others.
fn declared(text: &str, stack: &Stack, spilled: &[Box<str>]) -> (bool, Prefixes) {
    let outside = Outside::with_default("");
    let name_of = |ns: Ns| outside.name(ns, text, spilled);
    let is_usual_stream =
        |(prefix, ns): &(Span, Ns)| prefix.of(text) == "stream" && name_of(*ns) == ns::STREAM;
    let has_usual_stream = stack.declared().any(|declared| is_usual_stream(&declared));
    let others = stack
        .declared()
        .filter(|declared| !is_usual_stream(declared))
        .map(|(prefix, ns)| (prefix.of(text).into(), name_of(ns).into()))
        .collect();
    (has_usual_stream, others)
}

/// What the root of a document leaves behind for elements of a client's stream that stand in it. An element that
/// declares no namespace is one of the stream's, whatever the root is.
pub(super) fn wrapper(text: &str, index: &Index, stack: &Stack, spilled: &[Box<str>]) -> Context {
    let (has_usual_stream, others) = declared(text, stack, spilled);
    Context::Other(Box::new(Other {
        root: index.name.of(text).into(),
        default: ns::CLIENT.into(),
        has_usual_stream,
        others,
    }))
}

/// `tag` has the form of a language tag (RFC 5646 section 2.1) of a sensible length.
pub(crate) fn is_language(tag: &str) -> bool {
    tag.len() <= LANGUAGE_BYTES_MAX
        && tag.split('-').all(|part| {
            (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
}
