//! What the controller counts of the object store's garbage.

use std::sync::Arc;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Counters and gauges of deleting. A clone counts into the same.
#[derive(Debug, Clone, Default)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    garbage_objects: Gauge,
    garbage_bytes: Gauge,
    deleted_objects: Counter,
    deleted_bytes: Counter,
    failures: Counter,
    orphans: Counter,
}

impl Metrics {
    /// Makes them part of what `/metrics` shows.
    pub fn register(&self, registry: &mut Registry) {
        let m = &self.0;
        let what = "Data objects that nothing refers to, and that wait to be deleted";
        registry.register("weir_store_garbage_objects", what, m.garbage_objects.clone());
        registry.register("weir_store_garbage_bytes", "Bytes of those objects", m.garbage_bytes.clone());
        registry.register("weir_store_objects_deleted", "Data objects deleted", m.deleted_objects.clone());
        registry.register("weir_store_bytes_deleted", "Bytes of data objects deleted", m.deleted_bytes.clone());
        registry.register("weir_store_delete_failures", "Times that deleting was put off", m.failures.clone());
        let what = "Data objects deleted that never became part of the log";
        registry.register("weir_store_orphans_deleted", what, m.orphans.clone());
    }

    /// What was found at the opening.
    pub(super) fn garbage_found(&self, objects: u64, bytes: u64) {
        self.0.garbage_objects.set(signed(objects));
        self.0.garbage_bytes.set(signed(bytes));
    }

    /// One object more, or less.
    pub(super) fn garbage(&self, objects: i64, bytes: u64) {
        self.0.garbage_objects.inc_by(objects);
        self.0.garbage_bytes.inc_by(signed(bytes) * objects);
    }

    pub(super) fn deleted(&self, objects: u64, bytes: u64) {
        self.0.deleted_objects.inc_by(objects);
        self.0.deleted_bytes.inc_by(bytes);
    }

    pub(super) fn failed(&self) {
        self.0.failures.inc();
    }

    pub(super) fn orphans_deleted(&self, objects: u64, bytes: u64) {
        self.0.orphans.inc_by(objects);
        self.deleted(objects, bytes);
    }

    #[cfg(test)]
    pub(super) fn now(&self) -> (i64, i64, u64, u64) {
        let m = &self.0;
        (m.garbage_objects.get(), m.garbage_bytes.get(), m.deleted_objects.get(), m.deleted_bytes.get())
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
