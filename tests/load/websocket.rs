//! RFC 7395: XMPP over WebSocket (RFC 6455), a client's side. What goes in and comes out is a stream as over TCP, so that
//! nothing else of the generator knows the difference.

use anyhow::{Context as _, Result, bail, ensure};
use memchr::memmem;

use crate::framing::{self, ELEMENT_BYTES_MAX, Token};

/// An answer to the request for an upgrade is at most this long.
const ANSWER_BYTES_MAX: usize = 16 * 1024;
/// Any key will do: the server's answer to it is not checked.
const KEY: &str = "bG9hZC1nZW5lcmF0b3Ih";

const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// One connection.
#[derive(Debug, Default)]
pub(crate) struct WebSocket {
    is_upgraded: bool,
    /// Bytes that are no whole frame yet, or no whole answer to the request.
    partial: Vec<u8>,
    /// The beginning of a message that comes in several frames.
    message: Vec<u8>,
    /// Answers to pings, framed.
    answers: Vec<u8>,
    frames: u32,
}

impl WebSocket {
    /// The request for the upgrade.
    pub(crate) fn request(host: &str, path: &str, out: &mut Vec<u8>) {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Protocol: xmpp\r\n\r\n"
        );
        out.extend_from_slice(request.as_bytes());
    }

    /// Takes bytes of the server and appends what they are of a stream. Whether the upgrade came with them.
    pub(crate) fn open(&mut self, bytes: &[u8], stream: &mut Vec<u8>) -> Result<bool> {
        let mut joined = std::mem::take(&mut self.partial);
        let mut data = bytes;
        if !joined.is_empty() {
            joined.extend_from_slice(bytes);
            data = &joined;
        }
        let was_upgraded = self.is_upgraded;
        if !was_upgraded {
            match answer_length(data)? {
                Some(length) => data = &data[length..],
                None => {
                    self.partial = data.to_vec();
                    return Ok(false);
                }
            }
            self.is_upgraded = true;
        }
        while let Some((first, payload, used)) = frame(data)? {
            self.take(first, payload, stream)?;
            data = &data[used..];
        }
        self.partial = data.to_vec();
        Ok(!was_upgraded)
    }

    fn take(&mut self, first: u8, payload: &[u8], stream: &mut Vec<u8>) -> Result<()> {
        match first & 0x0f {
            TEXT | CONTINUATION => {
                self.message.extend_from_slice(payload);
                ensure!(
                    self.message.len() <= ELEMENT_BYTES_MAX,
                    "a message of more than {ELEMENT_BYTES_MAX} bytes"
                );
                if first & FIN != 0 {
                    let message = std::mem::take(&mut self.message);
                    match message.trim_ascii_start() {
                        text if text.starts_with(b"<open") => {
                            stream.extend_from_slice(b"<stream:stream>");
                        }
                        text if text.starts_with(b"<close") => {
                            stream.extend_from_slice(b"</stream:stream>");
                        }
                        text => stream.extend_from_slice(text),
                    }
                }
            }
            PING => {
                let mut answers = std::mem::take(&mut self.answers);
                self.frame(PONG, &[payload], &mut answers);
                self.answers = answers;
            }
            PONG => {}
            CLOSE => stream.extend_from_slice(b"</stream:stream>"),
            opcode => bail!("a frame with the opcode {opcode}"),
        }
        Ok(())
    }

    /// Appends a piece of a stream as frames, one for each element. Before the upgrade it is the request as it is.
    pub(crate) fn seal(&mut self, stream: &[u8], out: &mut Vec<u8>) -> Result<()> {
        if !self.is_upgraded {
            out.extend_from_slice(stream);
            return Ok(());
        }
        out.append(&mut self.answers);
        let mut data = stream;
        while !data.is_empty() {
            let (token, used) = framing::next(data)
                .ok()
                .flatten()
                .context("what is sent is whole elements")?;
            data = &data[used..];
            match token {
                Token::StreamOpen(header) => {
                    let to = framing::attribute(header, b"to").unwrap_or_default();
                    const OPEN: &[u8] =
                        b"<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' version='1.0' to='";
                    self.frame(TEXT, &[OPEN, to, b"'/>"], out);
                }
                Token::StreamClose => {
                    const END: &[u8] = b"<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>";
                    self.frame(TEXT, &[END], out);
                }
                Token::Element(element) => {
                    let name = framing::name(element);
                    let behind = 1 + name.len();
                    // Each frame stands for itself: no namespace comes from a stream around it.
                    let namespace: &[u8] = match name {
                        b"message" | b"presence" | b"iq" => b" xmlns='jabber:client'",
                        _ => b"",
                    };
                    let parts = [&element[..behind], namespace, &element[behind..]];
                    self.frame(TEXT, &parts, out);
                }
            }
        }
        Ok(())
    }

    /// Appends a masked frame.
    fn frame(&mut self, opcode: u8, parts: &[&[u8]], out: &mut Vec<u8>) {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        out.push(FIN | opcode);
        match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short), _) if short < 126 => out.push(MASKED | short),
            (_, Ok(middle)) => {
                out.push(MASKED | 126);
                out.extend_from_slice(&middle.to_be_bytes());
            }
            _ => {
                out.push(MASKED | 127);
                out.extend_from_slice(&(length as u64).to_be_bytes());
            }
        }
        // Another one each time, as clients do; nobody is between us and the server whom it would have to surprise.
        self.frames = self.frames.wrapping_add(0x9e37_79b9);
        let mask = self.frames.to_be_bytes();
        out.extend_from_slice(&mask);
        let bytes = parts.iter().flat_map(|part| part.iter());
        out.extend(
            bytes
                .zip(mask.iter().cycle())
                .map(|(byte, mask)| byte ^ mask),
        );
    }
}

/// How long the answer to the request is, if it has come whole; an error if it is no upgrade.
fn answer_length(data: &[u8]) -> Result<Option<usize>> {
    let Some(end) = memmem::find(data, b"\r\n\r\n") else {
        ensure!(
            data.len() <= ANSWER_BYTES_MAX,
            "an answer of more than {ANSWER_BYTES_MAX} bytes"
        );
        return Ok(None);
    };
    ensure!(
        data.starts_with(b"HTTP/1.1 101 "),
        "no upgrade: {}",
        crate::login::readable(&data[..end])
    );
    Ok(Some(end + 4))
}

/// The first byte and the payload of the first frame, and its length as a whole; `None` if it has not come whole.
fn frame(data: &[u8]) -> Result<Option<(u8, &[u8], usize)>> {
    let &[first, second, ref rest @ ..] = data else {
        return Ok(None);
    };
    ensure!(second & MASKED == 0, "a server does not mask its frames");
    let (length, rest) = match second {
        126 => match rest.split_first_chunk() {
            Some((length, rest)) => (u64::from(u16::from_be_bytes(*length)), rest),
            None => return Ok(None),
        },
        127 => match rest.split_first_chunk() {
            Some((length, rest)) => (u64::from_be_bytes(*length), rest),
            None => return Ok(None),
        },
        short => (u64::from(short), rest),
    };
    ensure!(
        length <= ELEMENT_BYTES_MAX as u64,
        "a frame of {length} bytes"
    );
    let length = usize::try_from(length)?;
    let payload = rest.get(..length);
    Ok(payload.map(|payload| (first, payload, data.len() - rest.len() + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upgraded() -> WebSocket {
        WebSocket {
            is_upgraded: true,
            ..WebSocket::default()
        }
    }

    /// What a server reads: payloads of masked frames.
    fn unmasked(mut data: &[u8]) -> Vec<String> {
        let mut texts = Vec::new();
        while let [first, second, rest @ ..] = data {
            assert!(first & FIN != 0 && second & MASKED != 0);
            let (length, rest) = match second & 0x7f {
                126 => (usize::from(rest[0]) << 8 | usize::from(rest[1]), &rest[2..]),
                length => (usize::from(length), rest),
            };
            let (mask, rest) = rest.split_at(4);
            let bytes = rest[..length].iter().zip(mask.iter().cycle());
            let bytes = bytes.map(|(byte, mask)| byte ^ mask).collect();
            texts.push(String::from_utf8(bytes).unwrap());
            data = &rest[length..];
        }
        texts
    }

    #[test]
    fn each_element_has_a_frame_and_its_namespace() {
        let mut out = Vec::new();
        let long = format!("<message to='a'><body>{}</body></message>", "x".repeat(200));
        let stream = format!(
            "<?xml version='1.0'?><stream:stream to='localhost' version='1.0'><auth xmlns='s'>x</auth>\
             {long}</stream:stream>"
        );
        upgraded().seal(stream.as_bytes(), &mut out).unwrap();
        let expected = [
            "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' version='1.0' to='localhost'/>",
            "<auth xmlns='s'>x</auth>",
            &long.replace("<message", "<message xmlns='jabber:client'"),
            "<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>",
        ];
        assert_eq!(unmasked(&out), expected);
    }

    #[test]
    fn a_stream_is_put_together_from_any_pieces() {
        let mut bytes = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n".to_vec();
        for (first, text) in [
            (FIN | TEXT, "<open xmlns='f' id='1'/>"),
            (FIN | PING, "are you there"),
            (TEXT, "<message>"),
            (FIN | CONTINUATION, "</message>"),
            (FIN | TEXT, "<close xmlns='f'/>"),
        ] {
            bytes.extend([first, u8::try_from(text.len()).unwrap()]);
            bytes.extend(text.as_bytes());
        }
        for size in [1, 7, bytes.len()] {
            let mut socket = WebSocket::default();
            let (mut stream, mut upgrades) = (Vec::new(), 0);
            for piece in bytes.chunks(size) {
                upgrades += u32::from(socket.open(piece, &mut stream).unwrap());
            }
            let expected = "<stream:stream><message></message></stream:stream>";
            assert_eq!(String::from_utf8(stream).unwrap(), expected, "{size}");
            assert_eq!(upgrades, 1);
            let mut out = Vec::new();
            socket.seal(b"", &mut out).unwrap();
            assert_eq!(unmasked(&out), ["are you there"]);
            assert_eq!(out[0], FIN | PONG);
        }
    }

    #[test]
    fn what_is_no_websocket_is_an_error() {
        let refused = |bytes: &[u8], mut socket: WebSocket| {
            let error = socket.open(bytes, &mut Vec::new()).unwrap_err();
            error.to_string()
        };
        let text = refused(b"HTTP/1.1 404 Not Found\r\n\r\n", WebSocket::default());
        assert!(text.starts_with("no upgrade: HTTP/1.1 404"), "{text}");
        assert!(refused(&[FIN | TEXT, MASKED, 0, 0, 0, 0], upgraded()).contains("mask"));
        assert!(refused(&[FIN | 3, 0], upgraded()).contains("opcode 3"));
        let huge = [FIN | TEXT, 127, 0, 0, 0, 1, 0, 0, 0, 0];
        assert!(refused(&huge, upgraded()).contains("4294967296 bytes"));
    }
}
