//! XEP-0114: Jabber Component Protocol, the part that proves that both sides know the secret.
#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)
)]

use std::fmt::Write as _;

use sha1::{Digest, Sha1};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The text of `<handshake/>` for a stream with this id: SHA-1 of the id and the secret, 40 hexadecimal digits in lower
/// case (section 3).
pub fn handshake(id: &str, secret: &str) -> String {
    let joined = Zeroizing::new([id, secret].concat());
    Sha1::digest(joined.as_bytes())
        .iter()
        .fold(String::new(), |mut text, byte| {
            let _infallible = write!(text, "{byte:02x}");
            text
        })
}

/// Whether `given` is that text, in digits of either case. How long it takes says nothing about the right one.
pub fn is_handshake(given: &str, id: &str, secret: &str) -> bool {
    let expected = handshake(id, secret);
    let given = given.trim().to_ascii_lowercase();
    given.as_bytes().ct_eq(expected.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As `printf 3BF96D32secret | sha1sum` says.
    const HANDSHAKE: &str = "b09ea9b3b7f586be8a08d0a3dd7466f110aeb136";

    #[test]
    fn a_handshake_is_a_digest_of_id_and_secret() {
        assert_eq!(handshake("3BF96D32", "secret"), HANDSHAKE);
        assert!(is_handshake(HANDSHAKE, "3BF96D32", "secret"));
        assert!(is_handshake(
            &HANDSHAKE.to_uppercase(),
            "3BF96D32",
            "secret"
        ));
        assert!(is_handshake(
            &format!("\n {HANDSHAKE} "),
            "3BF96D32",
            "secret"
        ));
    }

    #[test]
    fn nothing_else_is_a_handshake() {
        for given in [
            "",
            "secret",
            &HANDSHAKE[1..],
            &format!("{HANDSHAKE}0"),
            &HANDSHAKE.replace('3', "4"),
            &"0".repeat(10_000),
        ] {
            assert!(!is_handshake(given, "3BF96D32", "secret"), "{given}");
        }
        assert!(!is_handshake(HANDSHAKE, "3BF96D33", "secret"));
        assert!(!is_handshake(HANDSHAKE, "3BF96D32", "Secret"));
    }
}
