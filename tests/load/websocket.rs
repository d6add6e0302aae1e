//! RFC 7395: the same streams over WebSocket. What is sent is cut into elements and framed at the very end, what comes
//! is taken out of frames at the very start; everything between knows nothing of it.

use anyhow::{Context as _, Result, anyhow, ensure};
use memchr::memmem;
use protocol::websocket::client::{self, FromServer};

use crate::framing::{self, Token};

/// Where servers have it.
const PATH: &str = "/ws-xmpp";
/// Masks protect proxies, and there is none.
const MASK: [u8; 4] = [0x6d, 0x61, 0x73, 0x6b];

/// The request for the upgrade.
pub(crate) fn handshake(domain: &str) -> Vec<u8> {
    client::handshake(domain, PATH).into_bytes()
}

/// The bytes behind the server's answer, once all of it has come.
pub(crate) fn behind_answer(come: &[u8]) -> Result<Option<&[u8]>> {
    let Some(end) = memmem::find(come, b"\r\n\r\n") else {
        return Ok(None);
    };
    ensure!(
        come.starts_with(b"HTTP/1.1 101 "),
        "no WebSocket: {}",
        crate::login::readable(come)
    );
    Ok(Some(&come[end + 4..]))
}

/// Appends frames for everything in `plain`, which is whole headers, elements and ends of streams.
pub(crate) fn frame_all(mut plain: &[u8], domain: &str, out: &mut Vec<u8>) -> Result<()> {
    while !plain.is_empty() {
        let next = framing::next(plain).map_err(|_| anyhow!("we send no XML stream"))?;
        let (token, used) = next.context("we send half an element")?;
        match token {
            Token::StreamOpen(_) => {
                let open = format!(
                    "<open xmlns='urn:ietf:params:xml:ns:xmpp-framing' to='{domain}' version='1.0'/>"
                );
                client::push_element(out, open.as_bytes(), MASK);
            }
            Token::StreamClose => {
                let close = b"<close xmlns='urn:ietf:params:xml:ns:xmpp-framing'/>";
                client::push_element(out, close, MASK);
            }
            Token::Element(element) => client::push_element(out, element, MASK),
        }
        plain = &plain[used..];
    }
    Ok(())
}

/// The next message that is whole; other frames are left out.
pub(crate) fn next(come: &mut Vec<u8>) -> Option<Vec<u8>> {
    loop {
        if let FromServer::Text(text) = client::take_frame(come)? {
            return Some(text);
        }
    }
}

/// What a message is in the words of a stream.
pub(crate) fn token(message: &[u8]) -> Token<'_> {
    match framing::name(message) {
        b"open" => Token::StreamOpen(message),
        b"close" => Token::StreamClose,
        _ => Token::Element(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_becomes_messages() {
        let plain = b"<?xml version='1.0'?><stream:stream to='d'><presence/><iq id='1'><a/></iq></stream:stream>";
        let mut out = Vec::new();
        frame_all(plain, "d", &mut out).unwrap();
        let mut names = Vec::new();
        // A client's frames have the mask's four bytes behind their length.
        while let [_, length, _, _, _, _, masked @ ..] = out.as_slice() {
            let length = usize::from(length & 0x7f);
            let text = masked[..length].iter().zip(MASK.iter().cycle());
            let text: Vec<u8> = text.map(|(byte, mask)| byte ^ mask).collect();
            names.push(String::from_utf8(framing::name(&text).to_vec()).unwrap());
            out.drain(..length + 6);
        }
        assert_eq!(names, ["open", "presence", "iq", "close"]);
        assert!(frame_all(b"<iq>", "d", &mut Vec::new()).is_err());
    }

    #[test]
    fn messages_become_a_stream() {
        let mut come = vec![0x81, 4];
        come.extend_from_slice(b"<r/>");
        come.extend_from_slice(&[0x89, 0]);
        let mut second = vec![0x81, 8];
        second.extend_from_slice(b"<close/");
        come.extend_from_slice(&second);
        assert_eq!(next(&mut come), Some(b"<r/>".to_vec()));
        assert_eq!(next(&mut come), None);
        come.push(b'>');
        let message = next(&mut come).unwrap();
        assert_eq!(token(&message), Token::StreamClose);
    }

    #[test]
    fn the_answer_is_awaited_and_checked() {
        assert_eq!(behind_answer(b"HTTP/1.1 101 x\r\n").unwrap(), None);
        let whole = b"HTTP/1.1 101 x\r\n\r\nrest";
        assert_eq!(behind_answer(whole).unwrap(), Some(&b"rest"[..]));
        assert!(behind_answer(b"HTTP/1.1 404 x\r\n\r\n").is_err());
    }
}
