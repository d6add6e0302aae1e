//! `/metrics`, `/healthz` and `/readyz` as pages. How they come over HTTP is the program's affair.
use crate::{Readiness, Registry, State};

/// Text as Prometheus and OpenMetrics scrapers read it.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// A word for people and load balancers.
const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

/// What is answered to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The HTTP status code.
    pub status: u16,
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// The text.
    pub body: String,
}

/// Knows the pages of a registry and of the readiness of this process.
#[derive(Debug)]
pub struct Exporter {
    registry: Registry,
    readiness: Readiness,
}

impl Exporter {
    /// The pages of this registry and this readiness.
    pub fn new(registry: Registry, readiness: Readiness) -> Self {
        Self {
            registry,
            readiness,
        }
    }

    /// Every metric with its present value.
    pub fn metrics(&self) -> Page {
        Page {
            status: 200,
            content_type: OPEN_METRICS,
            body: self.registry.to_text(),
        }
    }

    /// The process answers: that is all this page says.
    pub fn health(&self) -> Page {
        Page {
            status: 200,
            content_type: PLAIN_TEXT,
            body: "ok\n".to_owned(),
        }
    }

    /// Whether work may be sent here: 200 if so, else 503; the text is the state.
    pub fn readiness(&self) -> Page {
        let state = self.readiness.state();
        Page {
            status: if state == State::Ready { 200 } else { 503 },
            content_type: PLAIN_TEXT,
            body: format!("{state}\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exporter() -> (Exporter, Readiness) {
        let mut registry = Registry::new();
        crate::register_process(&mut registry, "0.0.0-test");
        let readiness = Readiness::starting();
        (Exporter::new(registry, readiness.clone()), readiness)
    }

    #[test]
    fn the_page_of_metrics_is_whole() {
        let page = exporter().0.metrics();
        assert_eq!(page.status, 200);
        assert!(
            page.content_type
                .starts_with("application/openmetrics-text"),
            "{page:?}"
        );
        assert!(
            page.body.contains("process_resident_memory_bytes "),
            "{page:?}"
        );
        assert!(page.body.ends_with("# EOF\n"), "{page:?}");
    }

    #[test]
    fn ready_only_between_start_and_drain() {
        let (exporter, readiness) = exporter();
        let states = [
            (State::Starting, 503, "starting\n"),
            (State::Ready, 200, "ready\n"),
            (State::Draining, 503, "draining\n"),
        ];
        for (state, status, body) in states {
            readiness.set(state);
            let page = exporter.readiness();
            assert_eq!((page.status, page.body.as_str()), (status, body));
            assert_eq!(exporter.health().body, "ok\n");
        }
    }
}
