//! The other end, for tests and tools: frames as a client writes and reads them. It trusts the server.
use super::{CLOSE, FIN, MASKED, TEXT, push_frame_header};
use crate::framing::put_alone;

/// The first byte of a whole text message.
pub const WHOLE_TEXT: u8 = FIN | TEXT;

/// A key for [`handshake`]: its secrecy protects nothing but proxies.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// The request that opens a WebSocket of the subprotocol `xmpp` (RFC 6455 section 4.1).
pub fn handshake(host: &str, path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: xmpp\r\n\r\n"
    )
}

/// Appends a frame with this first byte and this mask.
pub fn push_frame(out: &mut Vec<u8>, first: u8, payload: &[u8], mask: [u8; 4]) {
    let at = out.len();
    push_frame_header(out, 0, payload.len());
    if let Some([start, length]) = out.get_mut(at..at.saturating_add(2)) {
        *start = first;
        *length |= MASKED;
    }
    out.extend_from_slice(&mask);
    let masked = payload.iter().zip(mask.iter().cycle());
    out.extend(masked.map(|(byte, mask)| byte ^ mask));
}

/// Appends one element, which is given as it stands inside of a client's stream, as a message.
pub fn push_element(out: &mut Vec<u8>, element: &[u8], mask: [u8; 4]) {
    let mut alone = Vec::new();
    put_alone(&mut alone, element);
    push_frame(out, WHOLE_TEXT, &alone, mask);
}

/// What a server sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FromServer {
    /// One element.
    Text(Vec<u8>),
    /// The end, with its status code.
    Close(Option<u16>),
    /// Another frame: its first byte and its payload.
    Other(u8, Vec<u8>),
}

/// Takes a frame off the front of what has come, if it is whole.
pub fn take_frame(input: &mut Vec<u8>) -> Option<FromServer> {
    let &[first, short] = input.first_chunk::<2>()?;
    let (start, length) = match short {
        126 => {
            let &[_, _, high, low] = input.first_chunk::<4>()?;
            (4, usize::from(u16::from_be_bytes([high, low])))
        }
        127 => {
            let bytes = input.get(2..10)?.try_into().ok()?;
            (10, usize::try_from(u64::from_be_bytes(bytes)).ok()?)
        }
        _ => (2, usize::from(short)),
    };
    let end = length.saturating_add(start);
    let payload = input.get(start..end)?.to_vec();
    input.drain(..end);
    Some(match first {
        WHOLE_TEXT => FromServer::Text(payload),
        _ if first == FIN | CLOSE => {
            let code = payload.first_chunk::<2>();
            FromServer::Close(code.map(|code| u16::from_be_bytes(*code)))
        }
        _ => FromServer::Other(first, payload),
    })
}
