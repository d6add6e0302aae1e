//! A client's frames in arbitrary pieces: whatever the pieces, the messages and the fault are the same, no more is given
//! out than came in, and nothing is held between two messages.
use protocol::websocket::client::{WHOLE_TEXT, push_frame};
use protocol::websocket::{FrameReader, Part};

use super::Target;
use crate::mutate::Random;

pub(crate) const TARGET: Target = Target {
    name: "websocket",
    run,
    seeds: &[
        b"\x07\x10\x81\x84\x01\x02\x03\x04=pk*",
        b"\x01\x00\x01\x81\0\0\0\0<\x89\x80\0\0\0\0\x80\x83\0\0\0\0r/>",
        b"\x05\xff\x88\x82\0\0\0\0\x03\xe8",
        b"\x03\x20\x81\xfe\x00\x80\x01\x01\x01\x01",
        b"\x83\x00<presence/><r/>",
    ],
    words: &[
        b"\x81",
        b"\x01",
        b"\x00",
        b"\x80",
        b"\x82",
        b"\x88",
        b"\x89",
        b"\x8a",
        b"\xfe",
        b"\xff",
        b"\xfd",
        b"\x84",
        b"\0\0\0\0",
        b"\x00\x7e",
        b"\x03\xe8",
        b"\x01\x02\x03\x04",
        b"\xc1",
        b"\x81\x80\0\0\0\0",
        b"\x89\x80\0\0\0\0",
        b"\x00\x80\0\0\0\0",
        b"\x80\x80\0\0\0\0",
    ],
};

/// Small enough that a mutation reaches it.
const BYTES_MAX: u32 = 300;
/// The box of an unfinished message, with nothing in it, and a control frame.
const HELD_BYTES_MAX: usize = 512;

fn run(input: &[u8]) {
    let [flags, seed, content @ ..] = input else {
        return;
    };
    let content = if flags & 0x80 == 0 {
        content.to_vec()
    } else {
        // Frames that are good, of texts that the input holds.
        let mut frames = Vec::new();
        for text in content.split(|byte| *byte == b'>') {
            push_frame(&mut frames, WHOLE_TEXT, text, [*flags, *seed, 3, 4]);
        }
        frames
    };
    let whole = read(&content, || usize::MAX);
    let mut sizes = Random(u64::from(*seed));
    let bound = 1 + usize::from(flags & 0x7f);
    let pieces = read(&content, || 1 + sizes.below(bound));
    assert_eq!(pieces, whole, "pieces change what is read");
}

/// Messages, control frames and the fault, as lines. A message that is not whole is left out.
fn read(content: &[u8], mut size: impl FnMut() -> usize) -> Vec<String> {
    let mut reader = FrameReader::new();
    let mut lines = Vec::new();
    let mut text = Vec::new();
    let mut given = 0;
    let mut content = content.to_vec();
    let mut left = content.as_mut_slice();
    while !left.is_empty() {
        let count = size().clamp(1, left.len());
        let (mut piece, after) = left.split_at_mut(count);
        left = after;
        loop {
            match reader.next(&mut piece, BYTES_MAX) {
                Ok(None) => break,
                Ok(Some(Part::Text {
                    bytes,
                    begins,
                    ends,
                })) => {
                    assert_eq!(begins, text.is_empty());
                    given += bytes.len();
                    text.extend_from_slice(bytes);
                    assert!(text.len() <= BYTES_MAX as usize, "over the limit");
                    if ends {
                        lines.push(format!("{:?}", std::mem::take(&mut text)));
                    }
                }
                Ok(Some(other)) => lines.push(format!("{other:?}")),
                Err(fault) => {
                    lines.push(format!("{fault:?}"));
                    return lines;
                }
            }
            assert!(reader.held_bytes() <= HELD_BYTES_MAX);
        }
        assert!(piece.is_empty());
    }
    assert!(given <= content.len());
    if !reader.is_inside() {
        assert_eq!(reader.held_bytes(), 0);
        assert!(text.is_empty());
    }
    lines
}
