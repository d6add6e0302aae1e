//! RFC 6455: the frames of a WebSocket, as the server's end reads and writes them, and the answer to its handshake.
//!
//! [`FrameReader`] takes slices as they come, unmasks them in place and gives [`Part`]s. Between two messages it holds
//! nothing on the heap. Extensions are never negotiated, so no reserved bit has a meaning.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest as _, Sha1};

pub mod client;

/// Opcodes (section 5.2).
const CONTINUATION: u8 = 0x0;
pub(crate) const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
pub(crate) const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const MASKED: u8 = 0x80;

/// Bytes of the payload of a control frame (section 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;
/// Frames of one message; more are refused, since empty ones cost time and no bytes.
pub const FRAMES_MAX: u32 = 4_096;
/// Bytes in front of a payload that we write.
pub(crate) const HEADER_BYTES_MAX: usize = 10;
/// Bytes in front of a payload that we read.
const MASKED_HEADER_BYTES_MAX: usize = 14;

/// Status codes of the end (section 7.4.1).
pub mod code {
    /// The end was wanted.
    pub const NORMAL: u16 = 1_000;
    /// The server goes.
    pub const GOING_AWAY: u16 = 1_001;
    /// The frames are wrong.
    pub const PROTOCOL_ERROR: u16 = 1_002;
    /// Something other than text came.
    pub const UNACCEPTABLE: u16 = 1_003;
    /// The text is no UTF-8.
    pub const NOT_UTF8: u16 = 1_007;
    /// Something else was wrong.
    pub const POLICY: u16 = 1_008;
    /// A message is too long.
    pub const TOO_BIG: u16 = 1_009;
}

/// What comes in.
#[derive(Debug, PartialEq, Eq)]
pub enum Part<'i> {
    /// Text of a message, perhaps not all of it.
    Text {
        /// As it was before the mask.
        bytes: &'i [u8],
        /// Nothing of the message was given before.
        begins: bool,
        /// Nothing more of it follows.
        ends: bool,
    },
    /// To be answered with a pong of the same payload.
    Ping(Control),
    /// A sign of life.
    Pong,
    /// The client's end: nothing follows.
    Close,
}

/// The payload of a control frame.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Control {
    bytes: [u8; CONTROL_BYTES_MAX],
    length: u8,
}

impl Control {
    /// The payload.
    pub fn bytes(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.length))
            .unwrap_or_default()
    }
}

impl std::fmt::Debug for Control {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Control").field(&self.bytes()).finish()
    }
}

/// Why a connection has to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameFault {
    /// A client's frames are masked.
    #[error("a frame is not masked")]
    NotMasked,
    /// Bits or opcodes that mean nothing, a length that is not written in the shortest way.
    #[error("a frame is malformed")]
    Malformed,
    /// A control frame in pieces, or a longer one than there may be.
    #[error("a control frame is cut or too long")]
    Control,
    /// A continuation of nothing, or a message within another one.
    #[error("the frames of messages are mixed up")]
    Order,
    /// Only text is spoken here.
    #[error("only text is spoken here")]
    Binary,
    /// The text is no UTF-8.
    #[error("the text is not UTF-8")]
    NotUtf8,
    /// A message is too long, or in too many pieces.
    #[error("a message is too long")]
    TooBig,
}

impl FrameFault {
    /// The status code to close with.
    pub fn code(self) -> u16 {
        match self {
            Self::NotMasked | Self::Malformed | Self::Control | Self::Order => code::PROTOCOL_ERROR,
            Self::Binary => code::UNACCEPTABLE,
            Self::NotUtf8 => code::NOT_UTF8,
            Self::TooBig => code::TOO_BIG,
        }
    }
}

/// Reads a client's frames. Holds nothing on the heap between two messages.
#[derive(Debug, Default)]
pub struct FrameReader {
    held: Option<Box<Held>>,
}

/// What is known of a message, or of a frame, that is not whole.
#[derive(Debug, Default)]
struct Held {
    /// Of a header that was cut.
    header: [u8; MASKED_HEADER_BYTES_MAX],
    header_bytes: u8,
    /// The frame whose payload comes.
    frame: Option<Frame>,
    /// The payload of a control frame that was cut.
    control: Vec<u8>,
    message: Option<Message>,
}

/// A message that has begun and not ended.
#[derive(Clone, Copy, Debug, Default)]
struct Message {
    /// Bytes announced so far.
    bytes: u64,
    frames: u32,
    /// Some of its text was given out.
    was_given: bool,
    /// An element of it has come to its end.
    has_element: bool,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    opcode: u8,
    is_last: bool,
    mask: [u8; 4],
    /// Bytes of the payload that have not come.
    left: u64,
}

impl FrameReader {
    /// A reader before the first frame.
    pub fn new() -> Self {
        Self::default()
    }

    /// A frame or a message is not whole.
    pub fn is_inside(&self) -> bool {
        self.held.is_some()
    }

    /// Bytes held on the heap.
    pub fn held_bytes(&self) -> usize {
        let held = self.held.as_ref();
        held.map_or(0, |held| {
            size_of::<Held>().saturating_add(held.control.capacity())
        })
    }

    /// Whether an element of the unfinished message has come to its end, as [`Self::set_has_element`] was told.
    pub fn has_element(&self) -> bool {
        let message = self.held.as_ref().and_then(|held| held.message);
        message.is_some_and(|message| message.has_element)
    }

    /// Notes that, for the rest of the unfinished message.
    pub fn set_has_element(&mut self) {
        if let Some(message) = self.held.as_mut().and_then(|held| held.message.as_mut()) {
            message.has_element = true;
        }
    }

    /// The next part. Takes from the front of `input` what it has read; `Ok(None)` means that all of it is taken.
    /// Messages have at most `bytes_max` bytes.
    ///
    /// # Errors
    /// The connection has to end: nothing that follows means anything.
    pub fn next<'i>(
        &mut self,
        input: &mut &'i mut [u8],
        bytes_max: u32,
    ) -> Result<Option<Part<'i>>, FrameFault> {
        loop {
            let frame = match self.held.as_mut().and_then(|held| held.frame.take()) {
                Some(frame) => frame,
                None => match self.header(input)? {
                    Some(frame) => self.begin(frame, bytes_max)?,
                    None => return Ok(None),
                },
            };
            let part = if frame.opcode >= CLOSE {
                self.control(frame, input)?
            } else {
                self.text(frame, input)
            };
            match part {
                // An empty piece in the middle of a message says nothing.
                Some(Part::Text {
                    bytes: [],
                    ends: false,
                    ..
                }) => {}
                Some(part) => return Ok(Some(part)),
                None => return Ok(None),
            }
        }
    }

    /// The next frame's header, if it is whole.
    fn header(&mut self, input: &mut &mut [u8]) -> Result<Option<Frame>, FrameFault> {
        let held = self.held.as_ref();
        let kept = held.map_or(0, |held| usize::from(held.header_bytes));
        if kept == 0 {
            if let Some((frame, bytes)) = parse_header(input)? {
                skip(input, bytes);
                return Ok(Some(frame));
            }
            if input.is_empty() {
                return Ok(None);
            }
        }
        // A header is short: it is put together byte by byte.
        let held = self.held.get_or_insert_with(Box::default);
        while let Some(&byte) = input.first() {
            skip(input, 1);
            if let Some(place) = held.header.get_mut(usize::from(held.header_bytes)) {
                *place = byte;
                held.header_bytes = held.header_bytes.saturating_add(1);
            }
            let so_far = held.header.get(..usize::from(held.header_bytes));
            if let Some((frame, _)) = parse_header(so_far.unwrap_or_default())? {
                held.header_bytes = 0;
                return Ok(Some(frame));
            }
        }
        Ok(None)
    }

    /// Checks that the frame may come here.
    fn begin(&mut self, frame: Frame, bytes_max: u32) -> Result<Frame, FrameFault> {
        if frame.opcode >= CLOSE {
            return Ok(frame);
        }
        let message = self.held.as_ref().and_then(|held| held.message);
        let mut message = match (frame.opcode, message) {
            (BINARY, _) => return Err(FrameFault::Binary),
            (TEXT, None) => Message::default(),
            (CONTINUATION, Some(message)) => message,
            _ => return Err(FrameFault::Order),
        };
        message.bytes = message.bytes.saturating_add(frame.left);
        message.frames = message.frames.saturating_add(1);
        if message.bytes > u64::from(bytes_max) || message.frames > FRAMES_MAX {
            return Err(FrameFault::TooBig);
        }
        // A message in one frame that is all here needs no memory: `text` takes it away again at its end.
        if self.held.is_some() || !frame.is_last {
            self.held.get_or_insert_with(Box::default).message = Some(message);
        }
        Ok(frame)
    }

    /// What is there of the payload of a frame of text.
    fn text<'i>(&mut self, frame: Frame, input: &mut &'i mut [u8]) -> Option<Part<'i>> {
        let (bytes, rest) = unmasked(frame, input);
        let message = self.held.as_ref().and_then(|held| held.message);
        let mut message = message.unwrap_or_else(|| Message {
            bytes: frame.left,
            frames: 1,
            ..Message::default()
        });
        let begins = !message.was_given;
        let ends = rest.is_none() && frame.is_last;
        if ends {
            self.held = None;
        } else {
            message.was_given |= !bytes.is_empty();
            let held = self.held.get_or_insert_with(Box::default);
            held.message = Some(message);
            held.frame = rest;
            if bytes.is_empty() && rest.is_some() {
                // Nothing of it is there.
                return None;
            }
        }
        Some(Part::Text {
            bytes,
            begins,
            ends,
        })
    }

    /// A control frame, if it is whole.
    fn control<'i>(
        &mut self,
        frame: Frame,
        input: &mut &mut [u8],
    ) -> Result<Option<Part<'i>>, FrameFault> {
        let (bytes, rest) = unmasked(frame, input);
        if let Some(rest) = rest {
            let held = self.held.get_or_insert_with(Box::default);
            held.control.extend_from_slice(bytes);
            held.frame = Some(rest);
            return Ok(None);
        }
        let mut payload = Control {
            bytes: [0; CONTROL_BYTES_MAX],
            length: 0,
        };
        let kept = self
            .held
            .as_mut()
            .map(|held| std::mem::take(&mut held.control));
        let all = kept.iter().flatten().chain(bytes.iter());
        for (place, byte) in payload.bytes.iter_mut().zip(all) {
            *place = *byte;
            payload.length = payload.length.saturating_add(1);
        }
        // Amid a message its state stays.
        if self
            .held
            .as_ref()
            .is_some_and(|held| held.message.is_none())
        {
            self.held = None;
        }
        Ok(Some(match frame.opcode {
            PING => Part::Ping(payload),
            PONG => Part::Pong,
            _ => {
                check_close(payload.bytes())?;
                Part::Close
            }
        }))
    }
}

/// Takes what is there of a frame's payload, without its mask, and gives out what is left of the frame.
fn unmasked<'i>(frame: Frame, input: &mut &'i mut [u8]) -> (&'i [u8], Option<Frame>) {
    let left = usize::try_from(frame.left).unwrap_or(usize::MAX);
    let count = left.min(input.len());
    let whole = std::mem::take(input);
    let (bytes, rest) = whole.split_at_mut(count);
    *input = rest;
    unmask(bytes, frame.mask);
    if count == left {
        return (bytes, None);
    }
    let mut mask = frame.mask;
    mask.rotate_left(count & 3);
    let left = frame.left.saturating_sub(count as u64);
    (
        bytes,
        Some(Frame {
            mask,
            left,
            ..frame
        }),
    )
}

/// Section 5.3. Eight bytes at a time, which the compiler makes more of.
fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut chunks = bytes.chunks_exact_mut(size_of::<u64>());
    for chunk in &mut chunks {
        let mut word = [0; size_of::<u64>()];
        word.copy_from_slice(chunk);
        chunk.copy_from_slice(&(u64::from_ne_bytes(word) ^ wide).to_ne_bytes());
    }
    for (byte, mask) in chunks.into_remainder().iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

fn skip(input: &mut &mut [u8], count: usize) {
    let whole = std::mem::take(input);
    *input = whole.get_mut(count..).unwrap_or_default();
}

/// A header and its bytes, if it is whole (section 5.2). What is wrong is said as soon as it shows.
fn parse_header(bytes: &[u8]) -> Result<Option<(Frame, usize)>, FrameFault> {
    let Some(&first) = bytes.first() else {
        return Ok(None);
    };
    let opcode = first & 0x0f;
    let is_last = first & FIN != 0;
    if first & RESERVED != 0 || !matches!(opcode, CONTINUATION..=BINARY | CLOSE..=PONG) {
        return Err(FrameFault::Malformed);
    }
    let is_control = opcode >= CLOSE;
    if is_control && !is_last {
        return Err(FrameFault::Control);
    }
    let Some(&second) = bytes.get(1) else {
        return Ok(None);
    };
    if second & MASKED == 0 {
        return Err(FrameFault::NotMasked);
    }
    let short = second & !MASKED;
    if is_control && usize::from(short) > CONTROL_BYTES_MAX {
        return Err(FrameFault::Control);
    }
    let length_bytes = match short {
        126 => 2,
        127 => 8,
        _ => 0_usize,
    };
    let mask_at = length_bytes.saturating_add(2);
    let Some(extended) = bytes.get(2..mask_at) else {
        return Ok(None);
    };
    let left = match extended {
        [] => u64::from(short),
        [high, low] => match u16::from_be_bytes([*high, *low]) {
            0..126 => return Err(FrameFault::Malformed),
            length => u64::from(length),
        },
        _ => {
            let length = extended
                .iter()
                .fold(0, |length: u64, byte| (length << 8) | u64::from(*byte));
            if length <= u64::from(u16::MAX) || length >> 63 != 0 {
                return Err(FrameFault::Malformed);
            }
            length
        }
    };
    let whole = mask_at.saturating_add(4);
    let Some(&[a, b, c, d]) = bytes.get(mask_at..whole) else {
        return Ok(None);
    };
    let frame = Frame {
        opcode,
        is_last,
        mask: [a, b, c, d],
        left,
    };
    Ok(Some((frame, whole)))
}

/// Section 7.4: a code that may be sent, and a reason in UTF-8; or nothing at all.
fn check_close(payload: &[u8]) -> Result<(), FrameFault> {
    let (code, reason) = match payload {
        [] => return Ok(()),
        [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        [_] => return Err(FrameFault::Malformed),
    };
    if !matches!(code, 1_000..=1_003 | 1_007..=1_014 | 3_000..=4_999) {
        return Err(FrameFault::Malformed);
    }
    match std::str::from_utf8(reason) {
        Ok(_) => Ok(()),
        Err(_) => Err(FrameFault::NotUtf8),
    }
}

/// Appends the header of a whole, unmasked frame.
pub(crate) fn push_frame_header(out: &mut Vec<u8>, opcode: u8, length: usize) {
    out.push(FIN | opcode);
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => out.push(short),
        (_, Ok(length)) => {
            out.push(126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// Appends a ping without a payload.
pub fn push_ping(out: &mut Vec<u8>) {
    push_frame_header(out, PING, 0);
}

/// Appends the answer to a ping.
pub fn push_pong(out: &mut Vec<u8>, ping: &Control) {
    push_frame_header(out, PONG, ping.bytes().len());
    out.extend_from_slice(ping.bytes());
}

/// Whether a fault of the XML in these bytes, the newest of a message, is that they are no UTF-8. A character that the
/// bytes before have begun is not looked at.
pub fn is_not_utf8(bytes: &[u8]) -> bool {
    let is_continued = |byte: &&u8| **byte & 0xc0 == 0x80;
    let cut = bytes.iter().take(3).take_while(is_continued).count();
    let whole = bytes.get(cut..).unwrap_or_default();
    std::str::from_utf8(whole).is_err_and(|error| error.error_len().is_some())
}

/// The value of `Sec-WebSocket-Accept` for a client's `Sec-WebSocket-Key` (section 4.2.2). `None` if that is not 16
/// bytes in base64.
pub fn accept_key(key: &str) -> Option<String> {
    let key = key.trim();
    let is_key = STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16);
    is_key.then(|| {
        let mut hash = Sha1::new();
        hash.update(key.as_bytes());
        hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
        STANDARD.encode(hash.finalize())
    })
}

#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
mod tests;
