//! Facts of a handshake that rustls tells only to the shared configuration, brought to the connection they belong to.
//!
//! rustls 0.23 asks the configuration's certificate resolver and key log while it processes a connection's bytes, and
//! its unbuffered API tells the connection neither the server name nor the exporter's secret. Both run on the thread
//! of the processing call, so that call puts its connection's [`Observed`] into a thread-local and takes it out again.

use std::cell::Cell;
use std::sync::Arc;

use crate::certificates::{ClientIdentity, ServedCertificate};

/// What has been seen of one connection's handshake.
#[derive(Debug, Default)]
pub(super) struct Observed {
    pub(super) server_name: Option<String>,
    pub(super) certificate: Option<Arc<ServedCertificate>>,
    pub(super) exporter: Option<[u8; 32]>,
    pub(super) client: Option<Box<ClientIdentity>>,
}

/// Runs `process`, and takes what the resolver and the key log see meanwhile down in `observed`.
pub(super) fn observing<T>(observed: &mut Option<Box<Observed>>, process: impl FnOnce() -> T) -> T {
    OBSERVED.set(observed.take());
    let outcome = process();
    *observed = OBSERVED.take();
    outcome
}

/// Notes which certificate the connection in hand is served, and the name it asked for.
pub(crate) fn observe_certificate(server_name: Option<&str>, certificate: &Arc<ServedCertificate>) {
    note(|observed| {
        observed.server_name = server_name.map(str::to_owned);
        observed.certificate = Some(Arc::clone(certificate));
    });
}

/// Notes the channel binding of the connection in hand.
pub(super) fn observe_exporter(exporter: [u8; 32]) {
    note(|observed| observed.exporter = Some(exporter));
}

/// Notes whom the good certificate of the connection in hand names.
pub(crate) fn observe_client(identity: ClientIdentity) {
    note(|observed| observed.client = Some(Box::new(identity)));
}

fn note(change: impl FnOnce(&mut Observed)) {
    let mut slot = OBSERVED.take();
    if let Some(observed) = slot.as_deref_mut() {
        change(observed);
    }
    OBSERVED.set(slot);
}

thread_local! {
    /// The connection that this thread is processing.
    static OBSERVED: Cell<Option<Box<Observed>>> = const { Cell::new(None) };
}
