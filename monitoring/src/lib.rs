//! The pages that every binary serves: metrics, health, readiness.
//!
//! A binary makes one [`Registry`], registers every metric it has in it (in one file of its own, `metrics.rs`), and
//! hands it to an [`Exporter`] together with its [`Readiness`]. The page `docs/metrics.md` is written from the same
//! registry by [`Registry::to_markdown`].
//!
//! ```
//! use prometheus_client::metrics::{counter::Counter, family::Family};
//!
//! let mut registry = monitoring::Registry::new();
//! monitoring::register_process(&mut registry, "0.1.0");
//! let received = registry.register(
//!     "xmpp_c2s_stanzas_received_total",
//!     "Stanzas read from clients",
//!     &["kind"],
//!     Family::<Vec<(&'static str, &'static str)>, Counter>::default(),
//! );
//! received.get_or_create(&vec![("kind", "message")]).inc();
//!
//! let readiness = monitoring::Readiness::starting();
//! let exporter = monitoring::Exporter::new(registry, readiness.clone());
//! readiness.set(monitoring::State::Ready);
//! assert_eq!(exporter.readiness().status, 200);
//! ```
#![deny(missing_docs)]

mod exporter;
mod process;
mod readiness;
mod registry;

pub use exporter::{Exporter, Page};
pub use process::register_process;
pub use readiness::{Readiness, State};
pub use registry::{Descriptor, Observed, Registry};
