use super::*;

/// Reads in one piece; the client's address, and what is behind the header.
fn read(input: &[u8]) -> Result<(Option<SocketAddr>, &[u8]), ProxyError> {
    let mut reader = ProxyReader::new();
    match reader.take(input)? {
        (taken, Some(header)) => Ok((header.client, &input[taken..])),
        (taken, None) => {
            assert_eq!(taken, input.len(), "all is taken while more is needed");
            Err(ProxyError::Malformed("it is cut"))
        }
    }
}

/// The same, and byte by byte: the pieces change nothing.
#[track_caller]
fn check(input: &[u8], expected: Result<Option<&str>, ProxyError>) {
    let expected = expected.map(|client| client.map(|client| client.parse().unwrap()));
    let followed = [input, b"<stream:stream"].concat();
    let whole = read(&followed);
    if expected.is_ok() {
        assert_eq!(whole.map(|(_, rest)| rest.len()), Ok(14), "nothing is read");
    }
    assert_eq!(whole.map(|(client, _)| client), expected);
    let mut reader = ProxyReader::new();
    for (index, byte) in followed.iter().enumerate() {
        match reader.take(std::slice::from_ref(byte)) {
            Ok((1, None)) => {}
            Ok((1, Some(header))) => {
                assert_eq!(index + 1, input.len());
                return assert_eq!(Ok(header.client), expected);
            }
            Ok(other) => panic!("one byte is taken, not {other:?}"),
            Err(error) => return assert_eq!(Err(error), expected),
        }
    }
    panic!("the header never ends");
}

#[track_caller]
fn check_malformed(input: &[u8]) {
    let error = read(input).unwrap_err();
    assert!(matches!(error, ProxyError::Malformed(_)), "{error}");
}

#[test]
fn lines_say_who_connects() {
    check(
        b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 5222\r\n",
        Ok(Some("192.0.2.1:56324")),
    );
    check(
        b"PROXY TCP6 2001:db8::1 2001:db8::2 56324 5222\r\n",
        Ok(Some("[2001:db8::1]:56324")),
    );
    check(
        b"PROXY TCP4 192.0.2.1 198.51.100.2 0 0\r\n",
        Ok(Some("192.0.2.1:0")),
    );
}

/// Security case K19.
#[test]
fn k19_an_ipv4_address_in_the_form_of_ipv6_is_one_of_ipv4() {
    check(
        b"PROXY TCP6 ::ffff:192.0.2.1 ::ffff:198.51.100.2 65535 5222\r\n",
        Ok(Some("192.0.2.1:65535")),
    );
    let mut addresses = Ipv4Addr::new(192, 0, 2, 1)
        .to_ipv6_mapped()
        .octets()
        .to_vec();
    addresses.extend([0; 16]);
    addresses.extend([0, 0, 0, 0]);
    check(&binary(0x21, 0x21, &addresses), Ok(Some("192.0.2.1:0")));
}

#[test]
fn lines_that_know_nobody_keep_the_connections_address() {
    check(b"PROXY UNKNOWN\r\n", Ok(None));
    check(
        b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535 and more\r\n",
        Ok(None),
    );
}

/// Security case K18.
#[test]
fn k18_lines_of_another_form_are_refused() {
    for line in [
        &b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 5222\n"[..],
        b"PROXY TCP4 192.0.2.1 198.51.100.2 56324\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 5222 \r\n",
        b"PROXY TCP4  192.0.2.1 198.51.100.2 56324 5222\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 056324 5222\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 56324 65536\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2 +5 5222\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.2  5222\r\n",
        b"PROXY TCP4 192.0.2.01 198.51.100.2 56324 5222\r\n",
        b"PROXY TCP4 192.0.2.1 2001:db8::2 56324 5222\r\n",
        b"PROXY TCP4 2001:db8::1 2001:db8::2 56324 5222\r\n",
        b"PROXY TCP6 192.0.2.1 198.51.100.2 56324 5222\r\n",
        b"PROXY TCP6 fe80::1%lo fe80::2 56324 5222\r\n",
        b"PROXY TCP4 romeo 198.51.100.2 56324 5222\r\n",
        b"PROXY UDP4 192.0.2.1 198.51.100.2 56324 5222\r\n",
        b"PROXY tcp4 192.0.2.1 198.51.100.2 56324 5222\r\n",
        b"PROXY TCP4 192.0.2.1\xff 198.51.100.2 56324 5222\r\n",
        b"PROXY \r\n",
        b"PROXY unknown\r\n",
    ] {
        check_malformed(line);
    }
}

/// Security case K18.
#[test]
fn k18_what_is_no_header_is_noticed_at_once() {
    for input in [
        &b"<stream:stream to='localhost'>"[..],
        b"\x16\x03\x01\x02\x00\x01",
        b"GET / HTTP/1.1\r\n",
        b"POST / HTTP/1.1\r\n",
        b"PROXYTCP4",
        b"\r\n\r\n\0\r\nQUIT\r",
        b"\0",
        b"proxy TCP4",
    ] {
        check(input, Err(ProxyError::Missing));
    }
}

/// Security case K18.
#[test]
fn k18_headers_have_an_end() {
    let fits = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE_BYTES_MAX - 16));
    assert_eq!(fits.len(), LINE_BYTES_MAX);
    check(fits.as_bytes(), Ok(None));
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE_BYTES_MAX - 15));
    check(long.as_bytes(), Err(ProxyError::TooLong));

    let fits = binary(0x20, 0, &[0; HEADER_BYTES_MAX - PREFIX_BYTES]);
    check(&fits, Ok(None));
    for length in [HEADER_BYTES_MAX - PREFIX_BYTES + 1, 65_535] {
        let long = binary(0x20, 0, &vec![0; length]);
        let mut reader = ProxyReader::new();
        assert_eq!(reader.take(&long), Err(ProxyError::TooLong));
        assert_eq!(reader.bytes.len(), PREFIX_BYTES, "before it is read");
    }
}

/// A header of version 2.
fn binary(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
    let length = u16::try_from(block.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, block].concat()
}

/// 192.0.2.1:56324 to 198.51.100.2:5222.
const INET: [u8; INET_BYTES] = [192, 0, 2, 1, 198, 51, 100, 2, 0xdc, 0x04, 0x14, 0x66];

fn with_extensions(extensions: &[u8]) -> Vec<u8> {
    binary(0x21, 0x11, &[&INET[..], extensions].concat())
}

#[test]
fn blocks_say_who_connects() {
    check(&binary(0x21, 0x11, &INET), Ok(Some("192.0.2.1:56324")));
    let mut inet6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)
        .octets()
        .to_vec();
    inet6.extend([0; 16]);
    inet6.extend([0xdc, 0x04, 0x14, 0x66]);
    check(&binary(0x21, 0x21, &inet6), Ok(Some("[2001:db8::1]:56324")));
}

/// Security case K18: what others have crashed on.
#[test]
fn k18_blocks_without_a_clients_address_keep_the_connections() {
    check(&binary(0x20, 0x00, &[]), Ok(None));
    check(&binary(0x20, 0x11, &INET), Ok(None));
    // Whatever a health check carries says nothing, not even that it is malformed.
    check(&binary(0x20, 0x11, &[1, 2, 3]), Ok(None));
    check(&binary(0x20, 0xff, &[4, 0xff]), Ok(None));
    check(&binary(0x21, 0x00, &[]), Ok(None));
    check(&binary(0x21, 0x00, &[1, 2, 3]), Ok(None));
    check(&binary(0x21, 0x12, &INET), Ok(None));
    check(&binary(0x21, 0x22, &[0; INET6_BYTES]), Ok(None));
    check(&binary(0x21, 0x31, &[b'/'; UNIX_BYTES]), Ok(None));
    check(&binary(0x21, 0x32, &[0; UNIX_BYTES]), Ok(None));
}

/// Security case K18.
#[test]
fn k18_blocks_of_another_form_are_refused() {
    check_malformed(&binary(0x21, 0x11, &INET[..11]));
    check_malformed(&binary(0x21, 0x21, &[0; INET6_BYTES - 1]));
    check_malformed(&binary(0x21, 0x31, &[0; UNIX_BYTES - 1]));
    check_malformed(&binary(0x11, 0x11, &INET));
    check_malformed(&binary(0x31, 0x11, &INET));
    check_malformed(&binary(0x22, 0x11, &INET));
    check_malformed(&binary(0x21, 0x10, &INET));
    check_malformed(&binary(0x21, 0x13, &INET));
    check_malformed(&binary(0x21, 0x41, &INET));
    check_malformed(&with_extensions(&[4]));
    check_malformed(&with_extensions(&[4, 0]));
    check_malformed(&with_extensions(&[4, 0, 1]));
    check_malformed(&with_extensions(&[4, 0xff, 0xff, 0]));
}

/// Security case K20: TLS at the balancer and the name in a client's certificate.
#[test]
fn k20_extensions_say_nothing() {
    let name = b"romeo@localhost";
    let common_name = [&[0x22, 0, 15][..], name].concat();
    let ssl = [&[0x20, 0, 23, 7, 0, 0, 0, 0][..], &common_name].concat();
    for extensions in [
        &[][..],
        &[4, 0, 0],
        &[4, 0, 3, 0, 0, 0],
        &ssl,
        &[&ssl[..], &[0x01, 0, 2, b'h', b'2', 0xea, 0, 1, 1]].concat(),
    ] {
        check(&with_extensions(extensions), Ok(Some("192.0.2.1:56324")));
    }
}

#[test]
fn a_checksum_holds_or_the_header_does_not() {
    // The test vector of RFC 3720 appendix B.4.
    assert_eq!(crc32c([&[0; 32], &[], &[]]), 0x8a91_36aa);
    let digits = b"123456789";
    assert_eq!(
        crc32c([&digits[..3], &digits[3..4], &digits[4..]]),
        0xe306_9283
    );

    let mut header = with_extensions(&[4, 0, 1, 0, 3, 0, 4, 0, 0, 0, 0, 4, 0, 0]);
    let sum = crc32c([&header, &[], &[]]).to_be_bytes();
    let at = header.len() - 3 - CHECKSUM_BYTES;
    header[at..at + CHECKSUM_BYTES].copy_from_slice(&sum);
    check(&header, Ok(Some("192.0.2.1:56324")));
    // Without its type there is no checksum.
    for index in (PREFIX_BYTES..header.len()).filter(|index| *index != at - 3) {
        let mut changed = header.clone();
        changed[index] ^= 1;
        check_malformed(&changed);
    }
    check_malformed(&with_extensions(&[3, 0, 3, 0, 0, 0]));
    check_malformed(&with_extensions(&[3, 0, 5, 0, 0, 0, 0, 0]));
    let twice = [&header[PREFIX_BYTES + INET_BYTES..]; 2].concat();
    check_malformed(&with_extensions(&twice));
}

#[test]
fn networks_contain_their_addresses() {
    let check = |network: &str, address: &str, expected: bool| {
        let network: Network = network.parse().unwrap();
        let address: IpAddr = address.parse().unwrap();
        assert_eq!(network.contains(address), expected, "{network:?} {address}");
    };
    check("10.0.0.0/8", "10.255.0.1", true);
    check("10.0.0.0/8", "11.0.0.1", false);
    check("10.0.0.0/8", "::ffff:10.0.0.1", true);
    check("10.0.0.7", "10.0.0.7", true);
    check("10.0.0.7", "10.0.0.6", false);
    check("0.0.0.0/0", "198.51.100.2", true);
    check("0.0.0.0/0", "2001:db8::1", false);
    check("2001:db8::/33", "2001:db8:7fff::1", true);
    check("2001:db8::/33", "2001:db8:8000::1", false);
    check("::/0", "2001:db8::1", true);
    check("::/0", "10.0.0.1", false);
    check("::1/128", "::1", true);
    check("::ffff:10.0.0.0/104", "10.255.0.1", true);
    check("::ffff:10.0.0.0/104", "11.0.0.1", false);
    check("::ffff:10.0.0.7", "10.0.0.7", true);
    for address in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
        let address = address.parse().unwrap();
        assert!(Network::LOOPBACK.iter().any(|own| own.contains(address)));
    }
}

#[test]
fn texts_that_are_no_networks_are_refused() {
    for text in [
        "",
        "10.0.0.0/33",
        "10.0.0.0/",
        "10.0.0.0/-1",
        "10.0.0.0/08",
        "10.0.0/8",
        "::/129",
        "a/8",
        "10.0.0.0/8/8",
    ] {
        assert_eq!(text.parse::<Network>(), Err(NetworkError::Form), "{text}");
    }
    for text in [
        "10.0.0.1/8",
        "2001:db8::1/64",
        "::ffff:10.0.0.0/8",
        "::ffff:10.0.0.1/104",
    ] {
        assert_eq!(
            text.parse::<Network>(),
            Err(NetworkError::HostBits),
            "{text}"
        );
    }
}
