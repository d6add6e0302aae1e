//! The PROXY protocol, versions 1 and 2: how a balancer says whose connection it passes on.
//!
//! [`ProxyReader`] takes the header off the front of a connection, byte for byte, and nothing behind it. Of what a
//! balancer may say besides the client's address nothing is believed: names, certificates and the version of TLS at
//! the balancer (TLVs) are checked for their form and forgotten.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

/// The longest line of version 1, bytes, its end included: the specification leaves room for no more.
pub const LINE_BYTES_MAX: usize = 107;

/// The longest header of version 2 that is read, bytes. Addresses take 232 at most, and what balancers add (names,
/// checksums, identifiers) some hundreds.
pub const HEADER_BYTES_MAX: usize = 4_096;

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Where the client connects from, an IPv4 address always as such. `None`: the balancer speaks for itself (a
    /// health check), or does not know; then the connection's own address is the right one.
    pub client: Option<SocketAddr>,
}

/// Why the front of a connection is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProxyError {
    /// The connection begins with something else.
    #[error("the connection does not begin with a PROXY header")]
    Missing,
    /// More than [`LINE_BYTES_MAX`] or [`HEADER_BYTES_MAX`].
    #[error("the PROXY header is too long")]
    TooLong,
    /// It breaks the specification.
    #[error("the PROXY header is malformed: {0}")]
    Malformed(&'static str),
}

/// Reads one header from pieces of any size.
#[derive(Debug, Default)]
pub struct ProxyReader {
    bytes: Vec<u8>,
}

/// What has to be read next.
enum Wanted {
    /// The header is whole.
    Nothing,
    /// So many bytes, which certainly belong to it.
    Bytes(usize),
    /// What comes up to the end of the line, so many bytes at most.
    Line(usize),
}

impl ProxyReader {
    /// A reader at the first byte of a connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes from the front of `input` what belongs to the header: how many bytes these are, and the header when it
    /// is whole. Without it all of `input` is taken and more is needed. To be called until it is whole.
    ///
    /// # Errors
    /// The bytes are no header; the connection is of no use.
    pub fn take(&mut self, input: &[u8]) -> Result<(usize, Option<ProxyHeader>), ProxyError> {
        let mut rest = input;
        loop {
            let piece = match self.wanted()? {
                Wanted::Nothing => {
                    let taken = input.len().saturating_sub(rest.len());
                    return Ok((taken, Some(self.read()?)));
                }
                Wanted::Bytes(count) => rest.get(..count).unwrap_or(rest),
                Wanted::Line(count) => {
                    let line = rest.get(..count).unwrap_or(rest);
                    line.split_inclusive(|byte| *byte == b'\n')
                        .next()
                        .unwrap_or_default()
                }
            };
            if piece.is_empty() {
                return Ok((input.len(), None));
            }
            self.bytes.extend_from_slice(piece);
            rest = rest.get(piece.len()..).unwrap_or_default();
        }
    }

    fn wanted(&self) -> Result<Wanted, ProxyError> {
        let bytes = &*self.bytes;
        match bytes.first() {
            None => Ok(Wanted::Bytes(1)),
            Some(b'P') => {
                check_start(bytes, LINE_START)?;
                if bytes.last() == Some(&b'\n') {
                    return Ok(Wanted::Nothing);
                }
                match LINE_BYTES_MAX.saturating_sub(bytes.len()) {
                    0 => Err(ProxyError::TooLong),
                    left => Ok(Wanted::Line(left)),
                }
            }
            Some(_) => {
                check_start(bytes, SIGNATURE)?;
                let Some(length) = bytes.get(14..16) else {
                    return Ok(Wanted::Bytes(PREFIX_BYTES.saturating_sub(bytes.len())));
                };
                let total = PREFIX_BYTES.saturating_add(number(length));
                if total > HEADER_BYTES_MAX {
                    return Err(ProxyError::TooLong);
                }
                Ok(match total.saturating_sub(bytes.len()) {
                    0 => Wanted::Nothing,
                    left => Wanted::Bytes(left),
                })
            }
        }
    }

    fn read(&self) -> Result<ProxyHeader, ProxyError> {
        let client = if self.bytes.starts_with(LINE_START) {
            read_line(&self.bytes)?
        } else {
            read_binary(&self.bytes)?
        };
        Ok(ProxyHeader {
            client: client.map(|client| SocketAddr::new(client.ip().to_canonical(), client.port())),
        })
    }
}

/// Whether `bytes` begin as `start` does, as far as both go.
fn check_start(bytes: &[u8], start: &[u8]) -> Result<(), ProxyError> {
    if bytes.iter().zip(start).all(|(byte, other)| byte == other) {
        Ok(())
    } else {
        Err(ProxyError::Missing)
    }
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number: usize, byte| {
        number.wrapping_shl(8) | usize::from(*byte)
    })
}

const fn malformed<T>(why: &'static str) -> Result<T, ProxyError> {
    Err(ProxyError::Malformed(why))
}

// ---- version 1: a line of text

const LINE_START: &[u8] = b"PROXY ";

fn read_line(line: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
    let line = line
        .strip_suffix(b"\r\n")
        .and_then(|line| std::str::from_utf8(line).ok());
    let Some(line) = line else {
        return malformed("the line does not end in CR LF, or is not text");
    };
    let mut words = line.split(' ').skip(1);
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        // Whatever follows says nothing.
        return Ok(None);
    }
    let rest: Vec<&str> = words.collect();
    let [source, destination, source_port, destination_port] = rest[..] else {
        return malformed("the line has another number of words");
    };
    let (Some(source_port), Some(_)) = (port(source_port), port(destination_port)) else {
        return malformed("a port is none");
    };
    let source = match family {
        "TCP4" => both::<Ipv4Addr>(source, destination),
        "TCP6" => both::<Ipv6Addr>(source, destination),
        _ => return malformed("the family is unknown"),
    };
    match source {
        Some(source) => Ok(Some(SocketAddr::new(source, source_port))),
        None => malformed("an address is none"),
    }
}

/// The first of two addresses that both must be of that family.
fn both<T: FromStr + Into<IpAddr>>(source: &str, destination: &str) -> Option<IpAddr> {
    destination.parse::<T>().ok()?;
    source.parse::<T>().ok().map(Into::into)
}

/// Digits without zeros in front.
fn port(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let is_short = text == "0" || !text.starts_with('0');
    (is_number && is_short).then(|| text.parse().ok())?
}

// ---- version 2: a block of bytes

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The signature, version and command, family and transport, and the length of the rest.
const PREFIX_BYTES: usize = 16;
/// Bytes of the addresses and ports of each family.
const INET_BYTES: usize = 12;
const INET6_BYTES: usize = 36;
const UNIX_BYTES: usize = 216;

fn read_binary(header: &[u8]) -> Result<Option<SocketAddr>, ProxyError> {
    let (Some(&[command, family]), Some(block)) = (
        header.get(12..14).and_then(<[u8]>::first_chunk::<2>),
        header.get(PREFIX_BYTES..),
    ) else {
        return malformed("it is cut");
    };
    match command {
        // The balancer itself: what follows says nothing.
        0x20 => return Ok(None),
        0x21 => {}
        _ => return malformed("the version or the command is unknown"),
    }
    let (client, bytes) = match family {
        // Unspecified: the addresses have no form either.
        0x00 => return Ok(None),
        0x11 => (inet(block), INET_BYTES),
        0x21 => (inet6(block), INET6_BYTES),
        // Datagrams, and clients on the balancer's own machine: no address that could be one of this connection.
        0x12 => (None, INET_BYTES),
        0x22 => (None, INET6_BYTES),
        0x31 | 0x32 => (None, UNIX_BYTES),
        _ => return malformed("the family is unknown"),
    };
    let Some(extensions) = block.get(bytes..) else {
        return malformed("it is shorter than its addresses");
    };
    check_extensions(header, extensions)?;
    Ok(client)
}

fn inet(block: &[u8]) -> Option<SocketAddr> {
    let address = *block.first_chunk::<4>()?;
    let port = block.get(8..10)?.first_chunk::<2>()?;
    Some((address, u16::from_be_bytes(*port)).into())
}

fn inet6(block: &[u8]) -> Option<SocketAddr> {
    let address = *block.first_chunk::<16>()?;
    let port = block.get(32..34)?.first_chunk::<2>()?;
    Some((address, u16::from_be_bytes(*port)).into())
}

/// The type of the extension that has the checksum of the whole header.
const CHECKSUM: u8 = 0x03;
const CHECKSUM_BYTES: usize = 4;

/// Each extension has a type, a length and a value; together they fill the rest.
fn check_extensions(header: &[u8], extensions: &[u8]) -> Result<(), ProxyError> {
    let mut rest = extensions;
    let mut has_checksum = false;
    while let Some((kind, after)) = rest.split_first() {
        let value = after.split_first_chunk::<2>().and_then(|(length, after)| {
            let length = usize::from(u16::from_be_bytes(*length));
            after.split_at_checked(length)
        });
        let Some((value, after)) = value else {
            return malformed("an extension is longer than the rest");
        };
        if *kind == CHECKSUM {
            if std::mem::replace(&mut has_checksum, true) {
                return malformed("there are two checksums");
            }
            let start = header.len().saturating_sub(after.len());
            check_checksum(header, value, start.saturating_sub(CHECKSUM_BYTES))?;
        }
        rest = after;
    }
    Ok(())
}

/// The checksum is that of the header with zeros in its place, which begins at `start`.
fn check_checksum(header: &[u8], value: &[u8], start: usize) -> Result<(), ProxyError> {
    let Ok(value) = <[u8; CHECKSUM_BYTES]>::try_from(value) else {
        return malformed("the checksum has another length");
    };
    let (before, after) = header.split_at_checked(start).unwrap_or_default();
    let after = after.get(CHECKSUM_BYTES..).unwrap_or_default();
    let zeros = [0; CHECKSUM_BYTES];
    if crc32c([before, &zeros, after]) == u32::from_be_bytes(value) {
        Ok(())
    } else {
        malformed("the checksum is wrong")
    }
}

/// RFC 3720 appendix B.4: the Castagnoli polynomial, bits reflected. Once for a connection, so without a table.
fn crc32c(parts: [&[u8]; 3]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut crc = u32::MAX;
    for byte in parts.into_iter().flatten() {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let low = crc & 1;
            crc >>= 1;
            if low == 1 {
                crc ^= POLYNOMIAL;
            }
        }
    }
    !crc
}

// ---- who may send one

/// A network, as in `10.0.0.0/8` or `2001:db8::/32`; a single address is a network of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix_bits: u32,
}

/// A text that is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// Another form.
    #[error("it is not an address with or without a length, as in 10.0.0.0/8")]
    Form,
    /// Bits are set behind the length: which network is meant is not clear.
    #[error("bits are set behind the length of the network")]
    HostBits,
}

impl Network {
    /// This machine.
    pub const LOOPBACK: [Self; 2] = [
        Self {
            address: IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)),
            prefix_bits: 8,
        },
        Self {
            address: IpAddr::V6(Ipv6Addr::LOCALHOST),
            prefix_bits: 128,
        },
    ];

    /// Whether the address lies in it. An IPv4 address in the form of IPv6 is one of IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let (address, of_v4) = bits(address.to_canonical());
        let (own, own_of_v4) = bits(self.address);
        of_v4 == own_of_v4 && (address ^ own) & self.mask() == 0
    }

    /// Ones in the places that count.
    fn mask(&self) -> u128 {
        let width = if self.address.is_ipv4() { 32 } else { 128 };
        let free: u32 = u32::saturating_sub(width, self.prefix_bits);
        u128::MAX.checked_shl(free).unwrap_or(0)
    }
}

/// The address as a number, and whether it is one of IPv4.
fn bits(address: IpAddr) -> (u128, bool) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), true),
        IpAddr::V6(address) => (address.to_bits(), false),
    }
}

/// What is left for IPv4 of the length of a network in the form of IPv6 (RFC 4291 section 2.5.5.2).
fn mapped_bits(prefix_bits: u32) -> Result<u32, NetworkError> {
    // Behind a shorter length stand the ones of that form.
    prefix_bits.checked_sub(96).ok_or(NetworkError::HostBits)
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Form)?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match length {
            None => width,
            Some(length) => port(length).map(u32::from).ok_or(NetworkError::Form)?,
        };
        if prefix_bits > width {
            return Err(NetworkError::Form);
        }
        // As addresses are compared in that form, too.
        let (address, prefix_bits) = match address.to_canonical() {
            mapped @ IpAddr::V4(_) if width == 128 => (mapped, mapped_bits(prefix_bits)?),
            _ => (address, prefix_bits),
        };
        let network = Self {
            address,
            prefix_bits,
        };
        if bits(address).0 & !network.mask() != 0 {
            return Err(NetworkError::HostBits);
        }
        Ok(network)
    }
}

#[cfg(test)]
mod tests;
