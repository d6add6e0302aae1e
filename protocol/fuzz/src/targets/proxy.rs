//! Headers of the PROXY protocol: pieces change nothing, nothing behind the header is taken, and nothing panics.
use protocol::proxy::{HEADER_BYTES_MAX, Network, ProxyError, ProxyHeader, ProxyReader};

use super::Target;

pub(crate) const TARGET: Target = Target {
    name: "proxy",
    run,
    seeds: &[
        b"\x01PROXY TCP4 192.0.2.1 198.51.100.2 56324 5222\r\n<stream:stream",
        b"\x05PROXY TCP6 2001:db8::1 2001:db8::2 56324 5222\r\n",
        b"\x07PROXY UNKNOWN\r\n",
        b"\x03\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
        b"\x03\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc6\x33\x64\x02\xdc\x04\x14\x66<",
        b"\x09\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x13\xc0\0\x02\x01\xc6\x33\x64\x02\xdc\x04\x14\x66\x03\0\x04\0\0\0\0",
        b"\x0010.0.0.0/8",
        b"\0::ffff:10.0.0.0/104",
    ],
    words: &[
        b"PROXY ", b"TCP4 ", b"TCP6 ", b"UNKNOWN", b"\r\n", b" ", b"192.0.2.1", b"::1", b"::ffff:10.0.0.1", b"65535", b"0",
        b"\r\n\r\n\0\r\nQUIT\n", b"\x20", b"\x21", b"\x11", b"\x12", b"\x22", b"\x31", b"\0\x0c", b"\0\x24", b"\0\xd8", b"\xff\xff",
        b"\x03\0\x04", b"\x04\0\0", b"\x20\0\x05", b"/", b"/8", b"/128",
    ],
};

fn run(input: &[u8]) {
    let [size, rest @ ..] = input else {
        return;
    };
    if let Ok(text) = std::str::from_utf8(rest)
        && let Ok(network) = text.parse::<Network>()
    {
        let address = text.split('/').next().unwrap_or_default();
        let address = address.parse().expect("it is the address of a network");
        assert!(network.contains(address), "its first address is in it");
    }
    let whole = read(rest, rest.len());
    let pieces = read(rest, usize::from(*size).max(1));
    assert_eq!(whole, pieces, "pieces change nothing");
    if let Ok(Some((taken, header))) = whole {
        assert!(taken <= HEADER_BYTES_MAX);
        assert_eq!(
            read(&rest[..taken], taken),
            Ok(Some((taken, header))),
            "what is behind it changes nothing"
        );
        assert_eq!(
            read(&rest[..taken - 1], taken),
            Ok(None),
            "nothing behind it is taken"
        );
    }
}

/// Reads in pieces of that size. How many bytes the header has, and what it says; `None` if it is not whole.
fn read(input: &[u8], size: usize) -> Result<Option<(usize, ProxyHeader)>, ProxyError> {
    let mut reader = ProxyReader::new();
    let mut before = 0;
    for piece in input.chunks(size.max(1)) {
        let (taken, header) = reader.take(piece)?;
        assert!(taken <= piece.len());
        if let Some(header) = header {
            return Ok(Some((before + taken, header)));
        }
        assert_eq!(taken, piece.len(), "all is taken while more is needed");
        before += taken;
    }
    Ok(None)
}
