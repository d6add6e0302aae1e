//! An element cut by the end of a read: its bytes, and the state of the pass at its last whole event.
use super::Fault;
use super::pass::{Level, Progress, Stack};
use super::pending::Pending;

/// Bytes that are taken at first to complete an element; doubled while it stays unfinished. What follows the element
/// in the same read is then not copied for nothing.
const STEP_BYTES: usize = 512;

/// Reads of at most so many bytes are looked at one by one first.
const QUIET_BYTES_MAX: usize = 8;

/// Exists only while an element is cut, and until the item that ends it has been looked at.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) text: String,
    tail: Tail,
    pub(crate) progress: Progress,
    pub(crate) stack: Stack,
    pub(crate) pending: Pending,
    /// What follows `text` is no UTF-8. That matters only if the element does not end before it.
    is_broken: bool,
    /// The element is whole: it is dropped with the next read.
    pub(crate) is_whole: bool,
}

/// The start of a character whose rest has not come.
#[derive(Clone, Copy, Debug, Default)]
struct Tail {
    bytes: [u8; 4],
    count: u8,
}

impl Tail {
    fn as_bytes(&self) -> &[u8] {
        self.bytes
            .get(..usize::from(self.count))
            .unwrap_or_default()
    }

    fn of(bytes: &[u8]) -> Self {
        let mut tail = Self::default();
        for (slot, byte) in tail.bytes.iter_mut().zip(bytes) {
            *slot = *byte;
            tail.count = tail.count.saturating_add(1);
        }
        tail
    }
}

impl Held {
    /// Holds `bytes`, which the pass has read up to `progress`.
    pub(crate) fn new(
        bytes: &[u8],
        progress: Progress,
        stack: &mut Stack,
        pending: Pending,
    ) -> Result<Box<Self>, Fault> {
        let (text, tail) = valid_prefix(bytes);
        Ok(Box::new(Self {
            text: text.to_owned(),
            tail: Tail::of(tail.ok_or(Fault::MALFORMED)?),
            progress,
            stack: stack.hold(),
            pending,
            is_broken: false,
            is_whole: false,
        }))
    }

    /// Bytes of the element that have come.
    pub(crate) fn len(&self) -> usize {
        self.text.len().saturating_add(usize::from(self.tail.count))
    }

    /// Bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        size_of::<Self>()
            .saturating_add(self.text.capacity())
            .saturating_add(self.stack.heap_bytes())
    }

    /// How many more bytes to take for the `round`-th time within one read.
    pub(crate) fn step(&self, round: u32) -> usize {
        let step = 1_usize.checked_shl(round).unwrap_or(usize::MAX);
        STEP_BYTES.saturating_mul(step)
    }

    /// Appends a few bytes that cannot matter yet. `false`, without a change, if they may, or if the limit is near: then
    /// the usual way is to be taken, which costs several times as much.
    #[inline]
    pub(crate) fn take_quiet(&mut self, bytes: &[u8], max: u32) -> bool {
        let is_quiet = bytes.len() <= QUIET_BYTES_MAX
            && bytes
                .iter()
                .all(|&byte| byte.is_ascii() && self.pending.is_quiet(byte))
            && self.tail.count == 0
            && !self.is_whole
            && self.text.len().saturating_add(bytes.len()) < max as usize;
        if is_quiet {
            for byte in bytes {
                self.text.push(char::from(*byte));
            }
        }
        is_quiet
    }

    /// Appends bytes. `true` if the unfinished token can have ended in them.
    pub(crate) fn take(&mut self, bytes: &[u8], level: Level<'_>) -> Result<bool, Fault> {
        let from = self.text.len();
        self.append(bytes);
        let token = self
            .text
            .as_bytes()
            .get(self.progress.offset as usize..)
            .unwrap_or_default();
        if self.pending == Pending::Unknown {
            let (pending, may_end) = Pending::of(token, level, self.stack.is_inside())?;
            self.pending = pending;
            return Ok(may_end);
        }
        let from = from.saturating_sub(self.progress.offset as usize);
        self.pending.advance(token, from)
    }

    /// What was taken last did not end the element, so it must be characters at least.
    pub(crate) fn check_characters(&self) -> Result<(), Fault> {
        if self.is_broken {
            Err(Fault::MALFORMED)
        } else {
            Ok(())
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        // At most three bytes complete a character.
        while self.tail.count > 0 {
            let Some((first, rest)) = bytes.split_first() else {
                return;
            };
            bytes = rest;
            let mut char = [0; 4];
            for (slot, byte) in char
                .iter_mut()
                .zip(self.tail.as_bytes().iter().chain(Some(first)))
            {
                *slot = *byte;
            }
            let count = usize::from(self.tail.count);
            self.append_valid(char.get(..=count).unwrap_or_default());
            if self.is_broken {
                return;
            }
        }
        self.append_valid(bytes);
    }

    fn append_valid(&mut self, bytes: &[u8]) {
        let (text, tail) = valid_prefix(bytes);
        self.text.push_str(text);
        self.is_broken = tail.is_none();
        self.tail = Tail::of(tail.unwrap_or_default());
    }

    /// Forgets what follows the element's end, which the caller gives back to the input.
    pub(crate) fn finish(&mut self, end: usize) {
        self.text.truncate(end);
        self.tail = Tail::default();
        self.is_broken = false;
        self.is_whole = true;
    }
}

/// The characters at the start of `bytes`, and the unfinished one at their end; `None` if something else follows.
fn valid_prefix(bytes: &[u8]) -> (&str, Option<&[u8]>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text, Some(&[])),
        Err(error) => {
            let (valid, tail) = bytes
                .split_at_checked(error.valid_up_to())
                .unwrap_or((bytes, &[]));
            let valid = std::str::from_utf8(valid).unwrap_or_default();
            (valid, error.error_len().is_none().then_some(tail))
        }
    }
}
