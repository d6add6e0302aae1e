//! The one reader for everything that comes off a wire: quick-xml plus our own checks (RFC 6120 section 11).
//!
//! [`StreamReader`] takes slices as they come and gives [`Item`]s. Between two elements it holds nothing on the heap;
//! an element that a read has cut is kept in a box with the state of the pass at its last whole event.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::cell::RefCell;

use crate::stream::StreamHeader;
use crate::{StreamCondition, StreamError};

mod characters;
mod context;
mod declaration;
mod frame;
mod held;
mod names;
mod pass;
mod pending;
mod server_owned;
#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests;
mod tree;
mod wrapper;

pub use characters::{Place, escape, is_writable};
pub use frame::{Frame, Refused, Stamp};

pub(crate) use characters::{Sink, attribute_value, escape_to, escaped};
pub(crate) use context::is_language;
pub(crate) use pass::{Outside, Span};
pub(crate) use tree::build;
pub(crate) use wrapper::read_wrapper;

use characters::is_space;
use context::Context;
use held::Held;
use pass::{Found, Level, Pass, Progress, Stack};
use pending::Pending;

/// Limits of one stream; each breach is `policy-violation`, one by size with `<stanza-too-big xmlns='urn:xmpp:errors'/>`
/// (XEP-0205).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of an element of the stream's level, and of the stream header.
    pub element_bytes_max: u32,
    /// Elements in such an element, itself included.
    pub elements_max: u32,
    /// Elements inside of each other, the outermost included.
    pub depth_max: u16,
    /// Attributes of one tag, namespace declarations included.
    pub attributes_per_element_max: u16,
    /// Attributes of all tags of an element of the stream's level.
    pub attributes_max: u32,
    /// Namespace declarations of all tags of an element of the stream's level.
    pub namespaces_max: u16,
    /// Bytes of a name with its prefix.
    pub name_bytes_max: u16,
    /// Bytes of the name of a namespace.
    pub namespace_bytes_max: u16,
    /// Bytes of an attribute's value as it was sent.
    pub attribute_value_bytes_max: u32,
    /// A stanza of up to so many times `element_bytes_max` is read to its end, and [`Frame::to_stanza`] refuses it with
    /// an answer: a client that is told which of its stanzas was too large goes on, where one that is thrown out may
    /// send it again and again. 1 for none.
    pub oversize_factor: u8,
}

impl Limits {
    /// Before login.
    pub const PRE_AUTH: Self = Self {
        element_bytes_max: 16_384,
        elements_max: 32,
        depth_max: 8,
        attributes_per_element_max: 16,
        attributes_max: 64,
        namespaces_max: 16,
        name_bytes_max: 256,
        namespace_bytes_max: 1_024,
        attribute_value_bytes_max: 4_096,
        oversize_factor: 1,
    };
    /// A client after login.
    pub const AUTHENTICATED: Self = Self {
        element_bytes_max: 65_536,
        elements_max: 2_048,
        depth_max: 64,
        attributes_per_element_max: 32,
        attributes_max: 4_096,
        namespaces_max: 256,
        name_bytes_max: 1_024,
        namespace_bytes_max: 1_024,
        attribute_value_bytes_max: 65_536,
        oversize_factor: 2,
    };
    /// What we have stored ourselves: wide enough for a stanza of the greatest size that can be configured, wrapped.
    pub const STORED: Self = Self {
        element_bytes_max: 1_048_576,
        elements_max: 65_536,
        depth_max: 96,
        attributes_per_element_max: 64,
        attributes_max: 65_536,
        namespaces_max: 4_096,
        name_bytes_max: 1_024,
        namespace_bytes_max: 1_024,
        attribute_value_bytes_max: 1_048_576,
        oversize_factor: 1,
    };

    /// Bytes that are read of one element.
    fn read_bytes_max(&self) -> u32 {
        self.element_bytes_max
            .saturating_mul(u32::from(self.oversize_factor.max(1)))
    }
}

/// Why the pass refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Condition(StreamCondition),
    /// A limit of ours, as a text for people.
    Limit(&'static str),
    /// `element_bytes_max`, for a stanza times `oversize_factor`.
    TooBig,
}

impl Fault {
    const MALFORMED: Self = Self::Condition(StreamCondition::NotWellFormed);
}

impl From<Fault> for StreamError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Condition(condition) => Self::new(condition),
            Fault::Limit(text) => Self::new(StreamCondition::PolicyViolation).with_text(text),
            Fault::TooBig => Self::too_big(),
        }
    }
}

thread_local! {
    /// The pass's stack, kept by the thread so that an uncut element allocates none. It is bounded by the limits.
    static STACK: RefCell<Stack> = const { RefCell::new(Stack::new()) };
}

/// Reads one XML stream. Holds nothing on the heap between two elements.
#[derive(Debug)]
pub struct StreamReader {
    limits: Limits,
    state: State,
    context: Context,
    held: Option<Box<Held>>,
}

/// Where in the stream the reader is while no element is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the first byte.
    Start,
    /// After the first byte of a byte order mark.
    Mark1,
    /// After the second one.
    Mark2,
    /// After a byte order mark: a declaration may follow.
    Marked,
    /// As at the first byte, but white space that ended the former stream may come before it.
    Restarted,
    /// After a declaration or white space: only the header may follow.
    Prolog,
    /// Inside of the stream.
    Open,
    /// After its end tag, or after an error.
    Closed,
}

/// What the reader found.
#[derive(Debug)]
pub enum Item<'a> {
    /// `<stream:stream …>`.
    Header(StreamHeader),
    /// One complete element of the stream's level.
    Element(Frame<'a>),
    /// `</stream:stream>`.
    Close,
}

/// What came to its end.
enum Whole<'i> {
    Declaration,
    Header(Box<(StreamHeader, Context)>),
    /// The element's bytes, if they are not in `held`.
    Element(Option<&'i str>),
    Close,
}

/// What the pass leaves behind of a whole element.
#[derive(Default)]
struct Findings {
    progress: Progress,
    spilled: Vec<Box<str>>,
}

impl StreamReader {
    /// A reader before the stream header.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Start,
            context: Context::None,
            held: None,
        }
    }

    /// A reader of elements that stand alone, each with all its namespaces declared (RFC 7395 section 3.3.3). There is
    /// no header and no end tag, and the content namespace is `jabber:client`. Whoever frames the elements has to see
    /// to it that a frame holds exactly one: [`Self::is_inside`] after it means that the element is not whole.
    pub fn framed(limits: Limits) -> Self {
        Self {
            state: State::Open,
            context: Context::Framed,
            ..Self::new(limits)
        }
    }

    /// Other limits, from the next element on; for an unfinished one from its next byte on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Expects a new stream header (after SASL, RFC 6120 section 6.4.6); nothing is held from before. To be called
    /// between two calls of [`Self::next`]: what stands behind the last item belongs to the new stream.
    pub fn restart(&mut self) {
        self.held = None;
        if self.is_framed() {
            // Each element stands alone anyway.
            self.state = State::Open;
            return;
        }
        self.state = State::Restarted;
        self.context = Context::None;
    }

    /// Whether it was made by [`Self::framed`].
    pub fn is_framed(&self) -> bool {
        matches!(self.context, Context::Framed)
    }

    /// Bytes that are read of one element, before it is refused unread.
    pub fn element_bytes_max(&self) -> u32 {
        self.limits.read_bytes_max()
    }

    /// The next item. Takes from the front of `input` what it has read; `Ok(None)` means that all of `input` is taken
    /// and more is needed: the unfinished element is kept inside. Call until then, so that nothing stays held.
    ///
    /// # Errors
    /// What the other side is to be told. Afterwards the stream is over: the rest of `input` is ignored, as is what
    /// follows the end tag.
    #[inline]
    pub fn next<'r, 'i: 'r>(
        &'r mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Item<'r>>, StreamError> {
        if let Some(held) = &mut self.held
            && held.take_quiet(input, self.limits.read_bytes_max())
        {
            *input = &[];
            return Ok(None);
        }
        self.next_item(input)
    }

    fn next_item<'r, 'i: 'r>(
        &'r mut self,
        input: &mut &'i [u8],
    ) -> Result<Option<Item<'r>>, StreamError> {
        if self.held.as_ref().is_some_and(|held| held.is_whole) {
            self.held = None;
        }
        let mut findings = Findings::default();
        loop {
            let whole = match self.read(input, &mut findings) {
                Ok(Some(whole)) => whole,
                Ok(None) => return Ok(None),
                Err(fault) => {
                    self.held = None;
                    self.state = State::Closed;
                    return Err(fault.into());
                }
            };
            let text = match whole {
                Whole::Element(text) => text,
                Whole::Declaration => {
                    self.state = State::Prolog;
                    self.held = None;
                    findings = Findings::default();
                    continue;
                }
                Whole::Header(read) => {
                    let (header, context) = *read;
                    self.state = State::Open;
                    self.context = context;
                    self.held = None;
                    return Ok(Some(Item::Header(header)));
                }
                Whole::Close => {
                    self.state = State::Closed;
                    self.held = None;
                    return Ok(Some(Item::Close));
                }
            };
            let text = match (text, &self.held) {
                (Some(text), _) => text,
                (None, Some(held)) => &held.text,
                (None, None) => "",
            };
            let Findings { progress, spilled } = findings;
            let mut frame = Frame::new(text, progress.index, &self.context, spilled);
            frame.is_oversized = self.is_oversized(text);
            return Ok(Some(Item::Element(frame)));
        }
    }

    /// An element is open or a token is cut.
    pub fn is_inside(&self) -> bool {
        matches!(self.state, State::Mark1 | State::Mark2)
            || self.held.as_ref().is_some_and(|held| !held.is_whole)
    }

    /// Bytes held on the heap for an unfinished element.
    pub fn held_bytes(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.heap_bytes())
    }

    fn read<'i>(
        &mut self,
        input: &mut &'i [u8],
        findings: &mut Findings,
    ) -> Result<Option<Whole<'i>>, Fault> {
        if self.held.is_some() {
            self.resume(input, findings)
        } else if self.skip_to_tag(input)? {
            STACK.with_borrow_mut(|stack| {
                let whole = self.start(input, findings, stack);
                stack.clear();
                whole
            })
        } else {
            Ok(None)
        }
    }

    /// Reads an element whose first byte is the first of `input`.
    fn start<'i>(
        &mut self,
        input: &mut &'i [u8],
        findings: &mut Findings,
        stack: &mut Stack,
    ) -> Result<Option<Whole<'i>>, Fault> {
        let bytes = *input;
        let max = self.limits.read_bytes_max() as usize;
        let window = bytes.get(..max).unwrap_or(bytes);
        if self.state != State::Open {
            // The start of a stream tells its encoding, which the pass could only find malformed.
            Pending::of(window.get(..2).unwrap_or(window), self.level(), false)?;
        }
        match self.run(window, stack, &mut findings.progress)? {
            Found::Nothing(pending) => {
                *input = &[];
                let held = Held::new(window, findings.progress, stack, pending)?;
                if window.len() >= max {
                    return Err(Fault::TooBig);
                }
                self.held = Some(held);
                Ok(None)
            }
            found => {
                // quick-xml has looked at each event's bytes; this is one look at all that the compiler believes.
                let text = window.get(..found.end()).map(std::str::from_utf8);
                let text = text.and_then(Result::ok).ok_or(Fault::MALFORMED)?;
                *input = bytes.get(found.end()..).unwrap_or_default();
                findings.spilled = std::mem::take(&mut stack.spilled);
                self.whole(found, text, stack, findings).map(Some)
            }
        }
    }

    /// Reads on in the element that is held.
    fn resume<'i>(
        &mut self,
        input: &mut &'i [u8],
        findings: &mut Findings,
    ) -> Result<Option<Whole<'i>>, Fault> {
        let Some(mut held) = self.held.take() else {
            return Ok(None);
        };
        let max = self.limits.read_bytes_max() as usize;
        let mut round = 0;
        while !input.is_empty() {
            let before = held.len();
            let wanted = held.step(round).min(max.saturating_sub(before));
            round = round.saturating_add(1);
            let bytes = *input;
            let taken = bytes.get(..wanted).unwrap_or(bytes);
            *input = bytes.get(taken.len()..).unwrap_or_default();
            if held.take(taken, self.level())? {
                match self.run_held(&mut held)? {
                    Found::Nothing(pending) => held.pending = pending,
                    found => {
                        // The end lies in what was just taken: what had come before was not whole.
                        let end = found.end();
                        *input = bytes.get(end.saturating_sub(before)..).unwrap_or_default();
                        held.finish(end);
                        findings.progress = held.progress;
                        findings.spilled = std::mem::take(&mut held.stack.spilled);
                        let whole = match self.whole(found, &held.text, &held.stack, findings)? {
                            Whole::Element(_) => Whole::Element(None),
                            Whole::Declaration => Whole::Declaration,
                            Whole::Header(header) => Whole::Header(header),
                            Whole::Close => Whole::Close,
                        };
                        self.held = Some(held);
                        return Ok(Some(whole));
                    }
                }
            }
            held.check_characters()?;
            if held.len() >= max {
                return Err(Fault::TooBig);
            }
        }
        self.held = Some(held);
        Ok(None)
    }

    fn run_held(&self, held: &mut Held) -> Result<Found, Fault> {
        let Held {
            text,
            stack,
            progress,
            ..
        } = held;
        self.run(text.as_bytes(), stack, progress)
    }

    /// What `text`, found by the pass, is for the stream.
    fn whole<'t>(
        &self,
        found: Found,
        text: &'t str,
        stack: &Stack,
        findings: &Findings,
    ) -> Result<Whole<'t>, Fault> {
        Ok(match found {
            Found::Nothing(_) => return Err(Fault::MALFORMED),
            Found::Declaration(_) => Whole::Declaration,
            Found::Close(_) => Whole::Close,
            Found::Element(_) if self.is_oversized(text) && !self.is_stanza(text, findings) => {
                return Err(Fault::TooBig);
            }
            Found::Element(_) => Whole::Element(Some(text)),
            Found::Header(_) => Whole::Header(Box::new(context::header(
                text,
                &findings.progress.index,
                stack,
                &findings.spilled,
            )?)),
        })
    }

    fn is_oversized(&self, text: &str) -> bool {
        text.len() > self.limits.element_bytes_max as usize
    }

    fn is_stanza(&self, text: &str, findings: &Findings) -> bool {
        let spilled = findings.spilled.clone();
        let frame = Frame::new(text, findings.progress.index, &self.context, spilled);
        frame.kind().is_some()
    }

    fn run(
        &self,
        bytes: &[u8],
        stack: &mut Stack,
        progress: &mut Progress,
    ) -> Result<Found, Fault> {
        Pass {
            bytes,
            limits: &self.limits,
            outside: self.outside(),
            level: self.level(),
            stack,
            progress,
        }
        .run()
    }

    fn outside(&self) -> Outside<'_> {
        self.context.outside()
    }

    fn level(&self) -> Level<'_> {
        match self.state {
            State::Open | State::Closed => Level::Stream {
                root: self.context.root(),
            },
            State::Prolog => Level::Prolog {
                allows_declaration: false,
                allows_empty: false,
            },
            _ => Level::Prolog {
                allows_declaration: true,
                allows_empty: false,
            },
        }
    }

    /// Takes what may stand between elements. `true` if `input` now starts with a `<`, else it is empty.
    fn skip_to_tag(&mut self, input: &mut &[u8]) -> Result<bool, Fault> {
        loop {
            let Some((&first, rest)) = input.split_first() else {
                return Ok(false);
            };
            self.state = match (self.state, first) {
                (State::Closed, _) => {
                    *input = &[];
                    return Ok(false);
                }
                (State::Mark1, 0xbb) => State::Mark2,
                (State::Mark2, 0xbf) => State::Marked,
                (State::Mark1 | State::Mark2, _) => return Err(Fault::MALFORMED),
                (_, b'<') => return Ok(true),
                (State::Start | State::Marked, _) if is_space(first) => State::Prolog,
                (state, _) if is_space(first) => state,
                (State::Start | State::Restarted, 0xef) => State::Mark1,
                (State::Start | State::Restarted, 0xfe | 0xff | 0) => {
                    return Err(Fault::Condition(StreamCondition::UnsupportedEncoding));
                }
                // Characters that may be text, inside of a stream.
                (State::Open, b' '..=0x7f | 0xc2..=0xf4) => {
                    return Err(Fault::Condition(StreamCondition::BadFormat));
                }
                _ => return Err(Fault::MALFORMED),
            };
            *input = rest;
        }
    }
}

/// Checks that `xml` is one element with white space around it at most.
pub(crate) fn check_element<'x>(
    xml: &'x [u8],
    limits: &Limits,
    outside: Outside<'_>,
) -> Result<&'x str, StreamError> {
    let xml = xml.trim_ascii();
    if xml.len() > limits.element_bytes_max as usize {
        return Err(Fault::TooBig.into());
    }
    let found = STACK.with_borrow_mut(|stack| {
        let mut pass = Pass {
            bytes: xml,
            limits,
            outside,
            level: Level::Stream { root: "" },
            stack,
            progress: &mut Progress::default(),
        };
        let found = pass.run();
        stack.clear();
        found
    });
    match found? {
        Found::Element(end) if end == xml.len() => {
            std::str::from_utf8(xml).map_err(|_| Fault::MALFORMED.into())
        }
        _ => Err(Fault::MALFORMED.into()),
    }
}
