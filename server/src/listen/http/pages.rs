//! `mongoose_prometheus_handler`: metrics, health and readiness.
use std::sync::Arc;

use hyper::Method;
use monitoring::{Exporter, Page};

use super::{Answering, Exchange, Handler, Route, answers};

/// Answers with one page of the exporter.
struct ExporterPage {
    exporter: Arc<Exporter>,
    page: fn(&Exporter) -> Page,
}

impl Handler for ExporterPage {
    fn methods(&self) -> &'static [Method] {
        const { &[Method::GET] }
    }

    fn answer(self: Arc<Self>, _exchange: Exchange) -> Answering {
        Box::pin(async move {
            let page = (self.page)(&self.exporter);
            answers::text(page.status, page.content_type, page.body)
        })
    }
}

/// The page of metrics at this place; health and readiness for any host, since balancers ask for addresses.
pub fn routes(exporter: &Arc<Exporter>, host: Option<Box<str>>, path: Box<str>) -> [Route; 3] {
    let route = |host, path, page| Route {
        host,
        path,
        handler: Arc::new(ExporterPage {
            exporter: exporter.clone(),
            page,
        }),
    };
    [
        route(host, path, Exporter::metrics),
        route(None, "/healthz".into(), Exporter::health),
        route(None, "/readyz".into(), Exporter::readiness),
    ]
}
