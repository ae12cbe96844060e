//! What the API counts.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
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
    fetch_sessions: Gauge,
    fetch_session_partitions: Gauge,
    fetch_sessions_evicted: Counter,
    fetch_sessions_refused: Counter,
}

impl Metrics {
    /// Makes them part of what `/metrics` shows.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("weir_requests", "Requests by API", self.requests.clone());
        registry.register("weir_produced_bytes", "Bytes of record batches received", self.produced_bytes.clone());
        registry.register("weir_produced_records", "Records received", self.produced_records.clone());
        registry.register("weir_fetched_bytes", "Bytes of record batches sent to readers", self.fetched_bytes.clone());
        registry.register("weir_fetch_sessions", "Fetch sessions kept now", self.fetch_sessions.clone());
        let partitions = self.fetch_session_partitions.clone();
        registry.register("weir_fetch_session_partitions", "Partitions in all fetch sessions", partitions);
        let evicted = self.fetch_sessions_evicted.clone();
        registry.register("weir_fetch_sessions_evicted", "Unused fetch sessions closed for new ones", evicted);
        let refused = self.fetch_sessions_refused.clone();
        registry.register("weir_fetch_sessions_refused", "Fetches of a session that is not as they say", refused);
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

    pub(crate) fn fetch_sessions(&self, sessions: usize, partitions: usize) {
        self.fetch_sessions.set(i64::try_from(sessions).unwrap_or(i64::MAX));
        self.fetch_session_partitions.set(i64::try_from(partitions).unwrap_or(i64::MAX));
    }

    pub(crate) fn fetch_session_evicted(&self) {
        self.fetch_sessions_evicted.inc();
    }

    pub(crate) fn fetch_session_refused(&self) {
        self.fetch_sessions_refused.inc();
    }

    pub(crate) fn fetches_started(&self) -> &AtomicUsize {
        &self.fetches_started
    }
}
