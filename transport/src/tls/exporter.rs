//! RFC 9266: Channel Bindings for TLS 1.3, `tls-exporter`, by RFC 8446 section 7.5.

use rustls::crypto::aws_lc_rs::cipher_suite;
use rustls::crypto::tls13::OkmBlock;
use rustls::{KeyLog, SupportedCipherSuite, Tls13CipherSuite};

use super::observe::observe_exporter;

/// A key log that takes the exporter's secret alone, derives the channel binding at once and forgets the secret.
#[derive(Debug)]
pub(crate) struct ExporterLog;

impl KeyLog for ExporterLog {
    fn will_log(&self, label: &str) -> bool {
        label == EXPORTER_SECRET
    }

    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        // The TLS 1.2 code logs without asking `will_log`.
        if label == EXPORTER_SECRET
            && let Some(binding) = channel_binding(secret)
        {
            observe_exporter(binding);
        }
    }
}

/// `TLS-Exporter("EXPORTER-Channel-Binding", "", 32)` from the exporter's secret; the secret's length tells the hash.
fn channel_binding(secret: &[u8]) -> Option<[u8; 32]> {
    let suite = match secret.len() {
        32 => tls13(cipher_suite::TLS13_AES_128_GCM_SHA256),
        48 => tls13(cipher_suite::TLS13_AES_256_GCM_SHA384),
        _ => None,
    }?;
    let nothing = suite.common.hash_provider.hash(&[]);

    // Derive-Secret(secret, label, "")
    let mut derived = [0; 48];
    let derived = &mut derived[..secret.len()];
    expand_label(
        suite,
        &OkmBlock::new(secret),
        CHANNEL_BINDING_LABEL,
        nothing.as_ref(),
        derived,
    )?;
    let derived = OkmBlock::new(derived);

    let mut binding = [0; 32];
    expand_label(suite, &derived, b"exporter", nothing.as_ref(), &mut binding)?;
    Some(binding)
}

/// HKDF-Expand-Label, RFC 8446 section 7.1.
fn expand_label(
    suite: &Tls13CipherSuite,
    secret: &OkmBlock,
    label: &[u8],
    context: &[u8],
    output: &mut [u8],
) -> Option<()> {
    const PREFIX: &[u8] = b"tls13 ";
    let output_bytes = u16::try_from(output.len()).ok()?.to_be_bytes();
    let label_bytes = [u8::try_from(PREFIX.len() + label.len()).ok()?];
    let context_bytes = [u8::try_from(context.len()).ok()?];
    suite
        .hkdf_provider
        .expander_for_okm(secret)
        .expand_slice(
            &[
                &output_bytes,
                &label_bytes,
                PREFIX,
                label,
                &context_bytes,
                context,
            ],
            output,
        )
        .ok()
}

fn tls13(suite: SupportedCipherSuite) -> Option<&'static Tls13CipherSuite> {
    suite.tls13()
}

/// The label by which a key log is given the secret, in the format of NSS.
const EXPORTER_SECRET: &str = "EXPORTER_SECRET";

/// RFC 9266, section 4.
const CHANNEL_BINDING_LABEL: &[u8] = b"EXPORTER-Channel-Binding";
