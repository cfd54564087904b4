//! Metrics for Prometheus, computed on request.

use std::sync::atomic::AtomicU64;

use axum::http::StatusCode;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use shed_api::ShedStatus;
use shed_core::{App, Person};

/// Label pairs.
type Labels = Vec<(String, String)>;

/// Counters over the life of the door.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: Family<Labels, Counter<u64, AtomicU64>>,
}

impl Metrics {
    /// Counts a response by the class of its status.
    pub(crate) fn count(&self, status: StatusCode) {
        let class = format!("{}xx", status.as_u16() / 100);
        self.requests.get_or_create(&vec![("status".to_owned(), class)]).inc();
    }

    /// All metrics in Prometheus's text format. They include only sheds that the person may access.
    pub(crate) fn text(&self, app: &App, person: &Person) -> String {
        let mut registry = Registry::with_prefix("shed");
        registry.register(
            "http_requests",
            "Requests answered, by class of status",
            self.requests.clone(),
        );
        let sheds = app.sheds().list(person).sheds;
        let by_status = Family::<Labels, Gauge>::default();
        for status in ShedStatus::ALL {
            let n_sheds = sheds.iter().filter(|shed| shed.status == *status).count();
            let labels = vec![("status".to_owned(), status.to_string())];
            by_status.get_or_create(&labels).set(i64::try_from(n_sheds).unwrap_or(i64::MAX));
        }
        registry.register("sheds", "Sheds, by status", by_status);
        let n_links = sheds.iter().filter(|shed| shed.link.connected).count();
        registry.register("links", "Sheds whose shed-init answers", gauge(n_links));
        let n_sessions: u32 = sheds.iter().map(|shed| shed.session_count).sum();
        registry.register("sessions", "tmux sessions", gauge(n_sessions as usize));
        let ready = usize::from(app.server().health().ready);
        registry.register("ready", "Whether the server is fully operational", gauge(ready));
        let resident = resident_bytes().unwrap_or_default();
        registry.register("resident_memory_bytes", "Memory of the server", gauge(resident));
        let mut text = String::new();
        // Writing to a string does not fail.
        encode(&mut text, &registry).ok();
        text
    }
}

fn gauge(value: usize) -> Gauge {
    let gauge = Gauge::default();
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
    gauge
}

fn resident_bytes() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: usize = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
