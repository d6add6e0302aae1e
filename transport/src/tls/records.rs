//! RFC 8446, RFC 5246: TLS records through rustls 0.23's unbuffered connections, which keep 4 kB less than its
//! buffered ones.

use std::mem;
use std::sync::Arc;

use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, InsufficientSizeError,
    UnbufferedStatus, WriteTraffic,
};
use rustls::{
    CipherSuite, ContentType, HandshakeKind, InvalidMessage, ProtocolVersion, ServerConfig,
};
use tokio::time::Instant;

use super::budget::RecordBudget;
use super::observe::{Observed, observing};
use super::{Feed, Handshake, TlsError, TlsLimit, TlsRecords, TlsVersion};

/// A connection's TLS.
pub(crate) struct UnbufferedRecords {
    connection: UnbufferedServerConnection,
    /// Received bytes that rustls has not done with: an unfinished record, after the records of an unfinished
    /// handshake message. Nothing is allocated while there are none.
    held: Vec<u8>,
    /// How many of the held bytes rustls has been shown already. It remembers places among them, so each call must
    /// bring them again.
    shown: usize,
    /// What has been seen of the handshake, until it is taken.
    observed: Option<Box<Observed>>,
    budget: RecordBudget,
    /// Bytes of the client's handshake so far.
    handshake_bytes: usize,
    /// We have sent something, so the ClientHello was whole.
    answered: bool,
    reading: Reading,
    writing: Writing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Open,
    /// The peer sent `close_notify`; what follows is ignored (RFC 8446, section 6.1).
    PeerClosed,
    Faulty,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    Open,
    Closed,
}

impl UnbufferedRecords {
    pub(crate) fn new(config: Arc<ServerConfig>) -> Self {
        Self {
            connection: UnbufferedServerConnection::new(config).expect(
                "a server configuration fails only by its fragment size, which is the default",
            ),
            held: Vec::new(),
            shown: 0,
            observed: Some(Box::default()),
            budget: RecordBudget::default(),
            handshake_bytes: 0,
            answered: false,
            reading: Reading::Open,
            writing: Writing::Open,
        }
    }

    /// Shows `buffer`, which begins with the held bytes, to rustls record by record, and returns how many bytes rustls
    /// has done with.
    fn process(
        &mut self,
        buffer: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<usize, TlsError> {
        let mut done = 0;
        let mut shown = mem::take(&mut self.shown);
        while let Some(record_bytes) = next_record(&buffer[shown..]) {
            let handshaking = self.connection.is_handshaking();
            if handshaking {
                self.count_handshake(record_bytes)?;
            }
            shown += record_bytes;
            let plain_before = plain.len();
            let driven = self.drive(&mut buffer[done..shown], plain, out)?;
            done += driven.done;
            if driven.peer_closed {
                self.reading = Reading::PeerClosed;
                return Ok(buffer.len());
            }
            if !handshaking
                && let Err(limit) = self.budget.take(plain.len() - plain_before, Instant::now)
            {
                self.reading = Reading::Faulty;
                self.hold(&buffer[done..shown], shown - done);
                return Err(TlsError::Limit(limit));
            }
        }
        self.shown = shown - done;
        Ok(done)
    }

    /// Lets rustls work on complete records until it wants more.
    fn drive(
        &mut self,
        records: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Driven, TlsError> {
        let out_before = out.len();
        let outcome = if self.connection.is_handshaking() {
            let connection = &mut self.connection;
            observing(&mut self.observed, || {
                drive(connection, records, plain, out)
            })
        } else {
            drive(&mut self.connection, records, plain, out)
        };
        let first = !self.answered;
        self.answered |= out.len() > out_before;
        outcome.map_err(|error| {
            if self.writing == Writing::Closed {
                // Nothing follows close_notify, not even an alert.
                out.truncate(out_before);
            }
            self.fail();
            TlsError::from_rustls(error, first)
        })
    }

    /// Refuses a client that sends on and on before the first answer, without having looked at its bytes.
    fn check_client_hello(&mut self, ciphertext: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        if self.answered || self.held.len() + ciphertext.len() <= CLIENT_HELLO_BYTES_MAX {
            return Ok(());
        }
        let first_byte = self.held.first().or_else(|| ciphertext.first());
        if first_byte != Some(&u8::from(ContentType::Handshake)) {
            self.fail();
            return Err(TlsError::NotTls);
        }
        out.extend_from_slice(&PLAINTEXT_ALERT_DECODE_ERROR);
        self.fail();
        Err(TlsError::Limit(TlsLimit::ClientHelloBytes))
    }

    fn count_handshake(&mut self, record_bytes: usize) -> Result<(), TlsError> {
        self.handshake_bytes += record_bytes;
        if self.handshake_bytes > HANDSHAKE_BYTES_MAX {
            self.fail();
            return Err(TlsError::Limit(TlsLimit::HandshakeBytes));
        }
        Ok(())
    }

    /// Keeps bytes, at their exact size, for the next call.
    fn hold(&mut self, bytes: &[u8], shown: usize) {
        self.held = bytes.to_vec();
        self.shown = shown;
    }

    fn fail(&mut self) {
        self.reading = Reading::Faulty;
        self.writing = Writing::Closed;
        self.held = Vec::new();
        self.shown = 0;
        self.observed = None;
    }

    /// Runs `write` on a connection that can write.
    fn write(
        &mut self,
        out: &mut Vec<u8>,
        mut write: impl FnMut(
            &mut WriteTraffic<'_, ServerConnectionData>,
            &mut [u8],
        ) -> Result<usize, EncryptError>,
        expected_bytes: usize,
    ) -> Result<(), TlsError> {
        loop {
            let UnbufferedStatus { state, .. } =
                self.connection.process_tls_records(&mut self.held);
            match state.map_err(|error| TlsError::from_rustls(error, false))? {
                ConnectionState::WriteTraffic(mut traffic) => {
                    let outcome = append(out, expected_bytes, |room| write(&mut traffic, room));
                    if outcome.is_err() {
                        self.writing = Writing::Closed;
                        take_alert(&mut self.connection, &mut self.held, out);
                    }
                    return outcome;
                }
                ConnectionState::EncodeTlsData(mut data) => encode(&mut data, out),
                ConnectionState::TransmitTlsData(data) => data.done(),
                state => return Err(TlsError::Internal(format!("cannot write in {state:?}"))),
            }
        }
    }
}

impl TlsRecords for UnbufferedRecords {
    fn feed(
        &mut self,
        ciphertext: &mut [u8],
        plain: &mut Vec<u8>,
        out: &mut Vec<u8>,
    ) -> Result<Feed, TlsError> {
        match self.reading {
            Reading::Open => {}
            Reading::PeerClosed => return Ok(Feed { peer_closed: true }),
            Reading::Faulty => return Err(TlsError::Closed),
        }
        self.check_client_hello(ciphertext, out)?;
        if self.held.is_empty() {
            let done = self.process(ciphertext, plain, out)?;
            if done < ciphertext.len() {
                self.hold(&ciphertext[done..], self.shown);
            }
        } else {
            let mut held = mem::take(&mut self.held);
            held.extend_from_slice(ciphertext);
            let done = self.process(&mut held, plain, out)?;
            if done > 0 {
                self.hold(&held[done..], self.shown);
            } else {
                self.held = held;
            }
        }
        if self.held.len() > HELD_BYTES_MAX {
            self.reading = Reading::Faulty;
            return Err(TlsError::Limit(TlsLimit::HeldBytes));
        }
        Ok(Feed {
            peer_closed: self.reading == Reading::PeerClosed,
        })
    }

    fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking()
    }

    fn seal(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<(), TlsError> {
        if self.writing == Writing::Closed {
            return Err(TlsError::Closed);
        }
        if self.connection.is_handshaking() {
            return Err(TlsError::Handshaking);
        }
        if plain.is_empty() {
            return Ok(());
        }
        let overhead = match self.connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => RECORD_OVERHEAD_BYTES_TLS13,
            _ => RECORD_OVERHEAD_BYTES_TLS12,
        };
        let records = plain.len().div_ceil(RECORD_PLAINTEXT_BYTES_MAX);
        self.write(
            out,
            |traffic, room| traffic.encrypt(plain, room),
            plain.len() + records * overhead,
        )
    }

    fn close_notify(&mut self, out: &mut Vec<u8>) {
        if self.writing == Writing::Closed || self.connection.is_handshaking() {
            return;
        }
        self.writing = Writing::Closed;
        // It can only fail for want of keys, and then there is nothing to send.
        let _nothing = self.write(
            out,
            |traffic, room| traffic.queue_close_notify(room),
            ALERT_BYTES,
        );
    }

    fn take_handshake(&mut self) -> Option<Handshake> {
        if self.connection.is_handshaking() {
            return None;
        }
        let observed = *self.observed.take()?;
        Some(Handshake {
            version: match self.connection.protocol_version()? {
                ProtocolVersion::TLSv1_3 => TlsVersion::Tls13,
                _ => TlsVersion::Tls12,
            },
            cipher_suite: suite_name(self.connection.negotiated_cipher_suite()?.suite()),
            resumed: self.connection.handshake_kind() == Some(HandshakeKind::Resumed),
            server_name: observed.server_name,
            alpn: self.connection.alpn_protocol().map(<[u8]>::to_vec),
            exporter: observed.exporter,
            end_point: observed
                .certificate
                .and_then(|certificate| certificate.end_point().map(<[u8]>::to_vec)),
            client: observed.client,
        })
    }
}

/// What rustls did with a number of records.
struct Driven {
    /// The bytes it has done with.
    done: usize,
    peer_closed: bool,
}

fn drive(
    connection: &mut UnbufferedServerConnection,
    records: &mut [u8],
    plain: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<Driven, rustls::Error> {
    let mut done = 0;
    loop {
        let UnbufferedStatus { mut discard, state } =
            connection.process_tls_records(&mut records[done..]);
        let mut finished = None;
        let read = matches!(state, Ok(ConnectionState::ReadTraffic(_)));
        match state {
            Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                while let Some(record) = traffic.next_record() {
                    let record = record?;
                    discard += record.discard;
                    plain.extend_from_slice(record.payload);
                }
            }
            Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, out),
            Ok(ConnectionState::TransmitTlsData(data)) => data.done(),
            Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => finished = Some(true),
            Ok(ConnectionState::WriteTraffic(_) | ConnectionState::BlockedHandshake) => {
                finished = Some(false)
            }
            Ok(state) => return Err(rustls::Error::General(format!("unexpected {state:?}"))),
            Err(error) => {
                done += discard;
                take_alert(connection, &mut records[done..], out);
                return Err(error);
            }
        }
        done += discard;
        if finished.is_none() && read && done == records.len() && !connection.wants_write() {
            finished = Some(false);
        }
        if let Some(peer_closed) = finished {
            return Ok(Driven { done, peer_closed });
        }
    }
}

/// Appends what rustls has queued before it gave up. While something is queued it does not look at `records`.
fn take_alert(connection: &mut UnbufferedServerConnection, records: &mut [u8], out: &mut Vec<u8>) {
    while connection.wants_write() {
        match connection.process_tls_records(records).state {
            Ok(ConnectionState::EncodeTlsData(mut data)) => encode(&mut data, out),
            _ => return,
        }
    }
}

fn encode(data: &mut EncodeTlsData<'_, ServerConnectionData>, out: &mut Vec<u8>) {
    // The first call learns the size.
    let mut room_bytes = 0;
    let start = out.len();
    loop {
        out.resize(start + room_bytes, 0);
        match data.encode(&mut out[start..]) {
            Ok(written) => return out.truncate(start + written),
            Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
                room_bytes = required_size
            }
            Err(EncodeError::AlreadyEncoded) => return,
        }
    }
}

/// Appends what `write` writes. It is called again if it needs more room, as when a key update goes in front.
fn append(
    out: &mut Vec<u8>,
    expected_bytes: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, EncryptError>,
) -> Result<(), TlsError> {
    let start = out.len();
    let mut room_bytes = expected_bytes;
    loop {
        // An exact size on a filled buffer would copy all of it each time.
        if out.is_empty() {
            out.reserve_exact(room_bytes);
        }
        out.resize(start + room_bytes, 0);
        match write(&mut out[start..]) {
            Ok(written) => {
                out.truncate(start + written);
                return Ok(());
            }
            Err(EncryptError::InsufficientSize(InsufficientSizeError { required_size })) => {
                room_bytes = required_size
            }
            Err(EncryptError::EncryptExhausted) => {
                out.truncate(start);
                return Err(TlsError::KeysExhausted);
            }
        }
    }
}

/// The length of the record at the front of `buffer`: `None` if it is not all there. What cannot be a record is given
/// as a whole, for rustls to refuse it.
fn next_record(buffer: &[u8]) -> Option<usize> {
    let whatever_it_is = Some(buffer.len());
    match *buffer {
        [] => None,
        [content, ..] if !(20..=24).contains(&content) => whatever_it_is,
        [_, major, _, ..] if major != 3 => whatever_it_is,
        [content, _, _, high, low, ..] => {
            let payload_bytes = usize::from(u16::from_be_bytes([high, low]));
            let empty = payload_bytes == 0 && content != u8::from(ContentType::ApplicationData);
            if empty || payload_bytes >= RECORD_PAYLOAD_BYTES_LIMIT {
                return whatever_it_is;
            }
            let record_bytes = RECORD_HEADER_BYTES + payload_bytes;
            (record_bytes <= buffer.len()).then_some(record_bytes)
        }
        _ => None,
    }
}

/// The name at IANA. rustls has names of its own for those of TLS 1.3.
fn suite_name(suite: CipherSuite) -> &'static str {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => "TLS_AES_128_GCM_SHA256",
        CipherSuite::TLS13_AES_256_GCM_SHA384 => "TLS_AES_256_GCM_SHA384",
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => "TLS_CHACHA20_POLY1305_SHA256",
        suite => suite.as_str().unwrap_or("unknown"),
    }
}

impl TlsError {
    /// `first` says that the client has not been answered yet.
    fn from_rustls(error: rustls::Error, first: bool) -> Self {
        use rustls::Error;
        match error {
            Error::InvalidMessage(
                InvalidMessage::InvalidContentType
                | InvalidMessage::UnknownProtocolVersion
                | InvalidMessage::MessageTooLarge
                | InvalidMessage::InvalidEmptyPayload,
            ) if first => Self::NotTls,
            Error::NoApplicationProtocol => Self::NoApplicationProtocol,
            Error::PeerIncompatible(why) => Self::Incompatible(format!("{why:?}")),
            Error::AlertReceived(alert) => Self::AlertReceived(format!("{alert:?}")),
            Error::General(_)
            | Error::FailedToGetCurrentTime
            | Error::FailedToGetRandomBytes
            | Error::EncryptError
            | Error::HandshakeNotComplete
            | Error::Other(_) => Self::Internal(error.to_string()),
            error => Self::Violation(error.to_string()),
        }
    }
}

/// What a client may send until its ClientHello is whole and answered, bytes. With post-quantum key shares and a ticket
/// one has some 2 kB; rustls would take 64 kB.
pub const CLIENT_HELLO_BYTES_MAX: usize = 16 * 1024;

/// What a client may send until the handshake is finished, bytes: a ClientHello, a second one if we ask for another key
/// share, and the little that ends it.
pub const HANDSHAKE_BYTES_MAX: usize = 32 * 1024;

/// What is kept of an unfinished record or message, bytes: the largest record there can be.
pub const HELD_BYTES_MAX: usize = RECORD_HEADER_BYTES + RECORD_PAYLOAD_BYTES_LIMIT;

/// What a record can carry, bytes (RFC 8446, section 5.1).
pub const RECORD_PLAINTEXT_BYTES_MAX: usize = 16 * 1024;

const RECORD_HEADER_BYTES: usize = 5;

/// A record's payload is shorter than this (RFC 5246, section 6.2.3).
const RECORD_PAYLOAD_BYTES_LIMIT: usize = RECORD_PLAINTEXT_BYTES_MAX + 2048;

/// Header, content type, authentication tag.
const RECORD_OVERHEAD_BYTES_TLS13: usize = RECORD_HEADER_BYTES + 1 + 16;

/// Header, explicit nonce, authentication tag.
const RECORD_OVERHEAD_BYTES_TLS12: usize = RECORD_HEADER_BYTES + 8 + 16;

/// An alert of two bytes in a record of either version.
const ALERT_BYTES: usize = 2 + RECORD_OVERHEAD_BYTES_TLS12;

/// The alert `decode_error`, fatal, in a record of its own before any keys are agreed on.
const PLAINTEXT_ALERT_DECODE_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 50];
