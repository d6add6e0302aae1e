//! How a connection's bytes become elements: off a stream (RFC 6120), or out of frames (RFC 7395).
use std::ops::ControlFlow;

use protocol::stream::StreamHeader;
use protocol::websocket::{Control, FrameFault, FrameReader, Part, is_not_utf8};
use protocol::xml::{Item, Limits, StreamReader};
use protocol::{Framing, StreamCondition, ns};

use super::End;

/// The read half's memory: between two elements it holds nothing on the heap.
pub struct Intake {
    reader: StreamReader,
    /// Unused where there are no frames.
    frames: FrameReader,
}

/// What was read.
pub(super) enum Found<'a> {
    /// Of the stream; `<open/>` and `<close/>` are its header and its end.
    Item(Item<'a>),
    /// A control frame that asks for its answer.
    Ping(Control),
    /// The client's end of the WebSocket.
    HungUp,
}

impl Intake {
    /// Before the first byte.
    pub fn new(framing: Framing, limits: Limits) -> Self {
        let reader = match framing {
            Framing::Stream => StreamReader::new(limits),
            Framing::WebSocket => StreamReader::framed(limits),
        };
        Self {
            reader,
            frames: FrameReader::new(),
        }
    }

    /// Reads nothing.
    pub fn none() -> Self {
        Self::new(Framing::Stream, Limits::PRE_AUTH)
    }

    /// Expects a new stream header.
    pub fn restart(&mut self) {
        self.reader.restart();
    }

    /// Other limits from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.reader.set_limits(limits);
    }

    /// An element or a frame has begun and is not whole.
    pub fn is_inside(&self) -> bool {
        self.reader.is_inside() || self.frames.is_inside()
    }

    /// Reads `input`, which may be changed in place, and gives `take` what it finds, until that says to stop. Returns
    /// how many bytes were read.
    #[inline]
    pub(super) fn read(
        &mut self,
        input: &mut [u8],
        mut take: impl FnMut(Found<'_>) -> Result<ControlFlow<()>, End>,
    ) -> Result<usize, End> {
        if self.reader.is_framed() {
            return self.read_frames(input, &mut take);
        }
        let mut rest = &*input;
        while let Some(item) = self.reader.next(&mut rest)? {
            if take(Found::Item(item))?.is_break() {
                break;
            }
        }
        Ok(input.len() - rest.len())
    }

    fn read_frames(
        &mut self,
        mut input: &mut [u8],
        take: &mut impl FnMut(Found<'_>) -> Result<ControlFlow<()>, End>,
    ) -> Result<usize, End> {
        let bytes = input.len();
        loop {
            let bytes_max = self.reader.element_bytes_max();
            let part = self.frames.next(&mut input, bytes_max);
            let flow = match part.map_err(End::Frame)? {
                None => break,
                Some(Part::Text {
                    bytes,
                    begins,
                    ends,
                }) => self.read_text(bytes, begins, ends, take)?,
                Some(Part::Ping(payload)) => take(Found::Ping(payload))?,
                Some(Part::Pong) => ControlFlow::Continue(()),
                Some(Part::Close) => take(Found::HungUp)?,
            };
            if flow.is_break() {
                break;
            }
        }
        Ok(bytes - input.len())
    }

    /// Text of a message, which holds exactly one element and begins with it (RFC 7395 section 3.3.3).
    fn read_text(
        &mut self,
        mut text: &[u8],
        begins: bool,
        ends: bool,
        take: &mut impl FnMut(Found<'_>) -> Result<ControlFlow<()>, End>,
    ) -> Result<ControlFlow<()>, End> {
        let whole = text;
        if begins && text.first() != Some(&b'<') {
            return Err(StreamCondition::BadFormat.into());
        }
        let mut has_element = !begins && self.frames.has_element();
        let mut flow = ControlFlow::Continue(());
        loop {
            let frame = match self.reader.next(&mut text) {
                Ok(None) => break,
                Ok(Some(Item::Element(frame))) => frame,
                Ok(Some(_)) => return Err(StreamCondition::BadFormat.into()),
                Err(error) if error.condition == StreamCondition::NotWellFormed => {
                    return Err(if is_not_utf8(whole) {
                        End::Frame(FrameFault::NotUtf8)
                    } else {
                        End::Error(error)
                    });
                }
                Err(error) => return Err(End::Error(error)),
            };
            if std::mem::replace(&mut has_element, true) {
                return Err(StreamCondition::BadFormat.into());
            }
            let item = match (frame.name(), frame.ns()) {
                ("open", ns::FRAMING) => Item::Header(StreamHeader::of_open(&frame.to_element())),
                ("close", ns::FRAMING) => Item::Close,
                // What it would have inherited, it has to declare.
                (_, "") => return Err(StreamCondition::InvalidNamespace.into()),
                _ => Item::Element(frame),
            };
            flow = take(Found::Item(item))?;
        }
        if !ends && has_element {
            self.frames.set_has_element();
        }
        if ends && (!has_element || self.reader.is_inside()) {
            return Err(StreamCondition::BadFormat.into());
        }
        Ok(flow)
    }
}
