//! What the API counts.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use wire::ApiKey;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByApi {
    api: &'static str,
}

/// Counters of requests. A clone counts into the same.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    requests: Family<ByApi, Counter>,
    produced_bytes: Counter,
    produced_records: Counter,
    fetched_bytes: Counter,
    fetches_started: Arc<AtomicUsize>,
}

impl Metrics {
    /// Makes them part of what `/metrics` shows.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("weir_requests", "Requests by API", self.requests.clone());
        registry.register("weir_produced_bytes", "Bytes of record batches received", self.produced_bytes.clone());
        registry.register("weir_produced_records", "Records received", self.produced_records.clone());
        registry.register("weir_fetched_bytes", "Bytes of record batches sent to readers", self.fetched_bytes.clone());
    }

    pub(crate) fn request(&self, key: ApiKey) {
        self.requests.get_or_create(&ByApi { api: key.name() }).inc();
    }

    pub(crate) fn produced(&self, bytes: usize, records: i32) {
        self.produced_bytes.inc_by(bytes as u64);
        self.produced_records.inc_by(u64::try_from(records).unwrap_or(0));
    }

    pub(crate) fn fetched(&self, bytes: usize) {
        self.fetched_bytes.inc_by(bytes as u64);
    }

    pub(crate) fn fetches_started(&self) -> &AtomicUsize {
        &self.fetches_started
    }
}
