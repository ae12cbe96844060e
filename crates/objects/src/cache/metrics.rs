//! What the cache counts.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// The counters of a [`super::Reader`]. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    /// Chunks that were there.
    pub hits: Counter,
    /// Chunks that a reader had to wait for.
    pub misses: Counter,
    /// GETs sent, for readers and ahead of them.
    pub gets: Counter,
    /// GETs sent for readers that go through much, and ahead of them.
    pub scan_gets: Counter,
    /// Bytes that GETs brought.
    pub get_bytes: Counter,
    /// GETs that brought nothing usable.
    pub get_errors: Counter,
    /// Chunks asked for ahead of a reader.
    pub prefetches: Counter,
    /// Chunks not asked for ahead of a reader, because too many such GETs were running.
    pub prefetches_left_out: Counter,
}

impl Metrics {
    /// Registers all counters.
    pub fn register(&self, registry: &mut Registry) {
        for (name, help, counter) in [
            ("weir_cache_hits", "Chunks of data objects found in the cache", &self.hits),
            ("weir_cache_misses", "Chunks of data objects that a reader waited for", &self.misses),
            ("weir_cache_gets", "GET requests sent for chunks", &self.gets),
            ("weir_cache_scan_gets", "GET requests sent for readers that go through much", &self.scan_gets),
            ("weir_cache_get_bytes", "Bytes fetched from the object store for chunks", &self.get_bytes),
            ("weir_cache_get_errors", "GET requests for chunks that failed", &self.get_errors),
            ("weir_cache_prefetches", "Chunks fetched ahead of a reader", &self.prefetches),
            (
                "weir_cache_prefetches_left_out",
                "Chunks not fetched ahead of a reader, at the bound",
                &self.prefetches_left_out,
            ),
        ] {
            registry.register(name, help, counter.clone());
        }
    }
}
