use super::*;

/// A client's frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    client::push_frame(&mut out, first, payload, [0x37, 0xfa, 0x21, 0x3d]);
    out
}

/// What came, with the pieces of each text put together.
#[derive(Debug, PartialEq, Eq)]
enum Whole {
    Text(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close,
}

const BYTES_MAX: u32 = 100_000;

/// Reads in pieces of that many bytes.
fn read(bytes: &[u8], step: usize) -> Result<(Vec<Whole>, FrameReader), FrameFault> {
    let mut reader = FrameReader::new();
    let mut found = Vec::new();
    let mut text = Vec::new();
    for piece in bytes.chunks(step) {
        let mut piece = piece.to_vec();
        let mut input = piece.as_mut_slice();
        while let Some(part) = reader.next(&mut input, BYTES_MAX)? {
            match part {
                Part::Text {
                    bytes,
                    begins,
                    ends,
                } => {
                    assert_eq!(begins, text.is_empty());
                    text.extend_from_slice(bytes);
                    if ends {
                        found.push(Whole::Text(std::mem::take(&mut text)));
                    } else {
                        assert!(reader.is_inside());
                    }
                }
                Part::Ping(payload) => found.push(Whole::Ping(payload.bytes().to_vec())),
                Part::Pong => found.push(Whole::Pong),
                Part::Close => found.push(Whole::Close),
            }
        }
        assert!(input.is_empty());
    }
    Ok((found, reader))
}

fn check(bytes: &[u8], expected: &[Whole]) {
    for step in [1, 2, 3, 5, 7, 13, 64, 1_000, bytes.len().max(1)] {
        let (found, reader) = read(bytes, step).unwrap();
        assert_eq!(found, expected, "in pieces of {step}");
        assert!(!reader.is_inside(), "in pieces of {step}");
        assert_eq!(reader.held_bytes(), 0);
    }
}

#[test]
fn messages_are_whole_in_any_pieces() {
    for length in [0, 1, 7, 8, 9, 125, 126, 127, 0xffff, 0x1_0000] {
        let text: Vec<u8> = (0_u8..=255).cycle().take(length).collect();
        check(&frame(0x81, &text), &[Whole::Text(text)]);
    }
}

#[test]
fn fragments_are_put_together_and_control_frames_come_between() {
    let bytes = [
        frame(0x01, b"<mes"),
        frame(0x89, b"are you there"),
        frame(0x00, b""),
        frame(0x00, b"sage"),
        frame(0x8a, b""),
        frame(0x80, b"/>"),
        frame(0x81, b"<r/>"),
        frame(0x88, b"\x03\xe8bye"),
    ]
    .concat();
    check(
        &bytes,
        &[
            Whole::Ping(b"are you there".to_vec()),
            Whole::Pong,
            Whole::Text(b"<message/>".to_vec()),
            Whole::Text(b"<r/>".to_vec()),
            Whole::Close,
        ],
    );
}

#[test]
fn a_message_that_is_all_there_needs_no_memory() {
    let mut bytes = frame(0x81, b"<presence/>");
    let mut reader = FrameReader::new();
    let mut input = bytes.as_mut_slice();
    let part = reader.next(&mut input, BYTES_MAX).unwrap();
    assert_eq!(
        part,
        Some(Part::Text {
            bytes: b"<presence/>",
            begins: true,
            ends: true
        })
    );
    assert_eq!(reader.held_bytes(), 0);
    assert_eq!(size_of::<FrameReader>(), size_of::<usize>());
}

#[track_caller]
fn refused(bytes: &[u8], fault: FrameFault) {
    for step in [1, 3, bytes.len()] {
        assert_eq!(read(bytes, step).err(), Some(fault), "in pieces of {step}");
    }
}

#[test]
fn w02_w03_what_breaks_the_rules_ends_the_connection() {
    // RFC 6455 section 5.1: unmasked.
    refused(b"\x81\x05Hello", FrameFault::NotMasked);
    refused(b"\x89\x00", FrameFault::NotMasked);
    // Section 5.2: reserved bits and opcodes, lengths that could be shorter.
    for first in [0xc1, 0xa1, 0x91, 0x83, 0x87, 0x8b, 0x8f] {
        refused(&frame(first, b"<r/>"), FrameFault::Malformed);
    }
    refused(b"\x81\xfe\x00\x05", FrameFault::Malformed);
    refused(b"\x81\xff\0\0\0\0\0\0\xff\xff", FrameFault::Malformed);
    refused(b"\x81\xff\x80\0\0\0\0\0\0\0", FrameFault::Malformed);
    // Section 5.5: control frames are short and whole.
    refused(&frame(0x09, b""), FrameFault::Control);
    refused(&frame(0x08, b""), FrameFault::Control);
    refused(b"\x89\xfe\x00\x7e", FrameFault::Control);
    // Section 5.4: the order of fragments.
    refused(&frame(0x80, b"x"), FrameFault::Order);
    let two = [frame(0x01, b"<"), frame(0x81, b"r/>")].concat();
    refused(&two, FrameFault::Order);
    // RFC 7395 section 3.2: text only.
    refused(&frame(0x82, b"<r/>"), FrameFault::Binary);
    // Section 7.4: codes of the end.
    for code in [0_u16, 999, 1_004, 1_005, 1_006, 1_015, 2_999, 5_000] {
        refused(&frame(0x88, &code.to_be_bytes()), FrameFault::Malformed);
    }
    refused(&frame(0x88, b"\x03"), FrameFault::Malformed);
    refused(&frame(0x88, b"\x03\xe8\xff"), FrameFault::NotUtf8);
}

#[test]
fn w03_messages_have_a_limit_of_bytes_and_of_frames() {
    // As soon as it is announced.
    let announced = frame(0x81, &vec![b'x'; BYTES_MAX as usize + 1]);
    refused(&announced[..14], FrameFault::TooBig);
    let mut endless = frame(0x01, &[b'x'; 1_000]);
    for _ in 0..BYTES_MAX / 1_000 {
        endless.extend(frame(0x00, &[b'x'; 1_000]));
    }
    refused(&endless, FrameFault::TooBig);
    let mut empty = frame(0x01, b"");
    for _ in 0..FRAMES_MAX {
        empty.extend(frame(0x00, b""));
    }
    refused(&empty, FrameFault::TooBig);
}

#[test]
fn an_element_of_an_unfinished_message_is_remembered() {
    let mut bytes = [frame(0x01, b"<r/>"), frame(0x00, b" ")].concat();
    let mut reader = FrameReader::new();
    let mut input = bytes.as_mut_slice();
    assert!(!reader.has_element());
    reader.set_has_element();
    assert!(!reader.has_element(), "there is no message");
    reader.next(&mut input, BYTES_MAX).unwrap().unwrap();
    reader.set_has_element();
    reader.next(&mut input, BYTES_MAX).unwrap().unwrap();
    assert!(reader.has_element());
    let mut end = frame(0x80, b"");
    let mut input = end.as_mut_slice();
    reader.next(&mut input, BYTES_MAX).unwrap().unwrap();
    assert!(!reader.has_element());
}

#[test]
fn codes_are_those_of_the_rfc() {
    for (fault, code) in [
        (FrameFault::NotMasked, 1_002),
        (FrameFault::Malformed, 1_002),
        (FrameFault::Control, 1_002),
        (FrameFault::Order, 1_002),
        (FrameFault::Binary, 1_003),
        (FrameFault::NotUtf8, 1_007),
        (FrameFault::TooBig, 1_009),
    ] {
        assert_eq!(fault.code(), code);
    }
}

#[test]
fn bytes_that_are_no_utf_8_are_told_from_those_that_are_cut() {
    for (bytes, expected) in [
        (&b"abc"[..], false),
        (b"\xff", true),
        (b"a\xc3", false),
        (b"\xbc rest of a character", false),
        (b"\x80\x80\x80\x80", true),
        ("stra\u{df}e".as_bytes(), false),
        (b"\xed\xa0\x80", true),
        (b"\xc0\xaf", true),
    ] {
        assert_eq!(is_not_utf8(bytes), expected, "{bytes:?}");
    }
}

#[test]
fn pings_are_answered_with_their_payload() {
    let (found, _) = read(&frame(0x89, b"tick"), 100).unwrap();
    assert_eq!(found, [Whole::Ping(b"tick".to_vec())]);
    let mut control = Control {
        bytes: [0; CONTROL_BYTES_MAX],
        length: 4,
    };
    control.bytes[..4].copy_from_slice(b"tick");
    let mut out = Vec::new();
    push_pong(&mut out, &control);
    push_ping(&mut out);
    assert_eq!(out, b"\x8a\x04tick\x89\x00");
}

#[test]
fn a_client_reads_what_a_server_writes() {
    let long = "x".repeat(70_000);
    let elements = ["<r xmlns='x'/>", &"y".repeat(200), &long];
    let mut out = Vec::new();
    for element in elements {
        crate::Framing::WebSocket.element(&mut out, element.as_bytes());
    }
    push_ping(&mut out);
    crate::Framing::WebSocket.hang_up(&mut out, code::TOO_BIG);
    let (mut come, mut found) = (Vec::new(), Vec::new());
    for byte in out {
        come.push(byte);
        found.extend(client::take_frame(&mut come));
    }
    let text = |element: &str| client::FromServer::Text(element.as_bytes().to_vec());
    let mut expected: Vec<_> = elements.into_iter().map(text).collect();
    expected.push(client::FromServer::Other(0x89, Vec::new()));
    expected.push(client::FromServer::Close(Some(1_009)));
    assert_eq!(found, expected);
    assert!(come.is_empty());
}

#[test]
fn the_key_is_answered_as_the_rfc_shows() {
    assert_eq!(
        accept_key("dGhlIHNhbXBsZSBub25jZQ==").as_deref(),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    for key in ["", "dGhlIHNhbXBsZQ==", "not base64 at all ===="] {
        assert_eq!(accept_key(key), None);
    }
}
