//! Counters and histograms of the log.

use std::sync::Arc;

use journal::Stats;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// Seconds, from 100 µs on.
pub(crate) const SECONDS: [f64; 15] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// What the log counts. A clone counts into the same.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    appended_bytes: Counter,
    appends: Counter,
    syncs: Counter,
    sync_seconds: Histogram,
    journal_failed: Gauge,
    staged_bytes: Gauge,
    cached_bytes: Gauge,
    pub(crate) uploads: Counter,
    pub(crate) uploaded_bytes: Counter,
    pub(crate) upload_retries: Counter,
    pub(crate) upload_seconds: Histogram,
    pub(crate) read_memory_bytes: Counter,
    pub(crate) read_disk_bytes: Counter,
    pub(crate) read_store_bytes: Counter,
    pub(crate) lost_journals: Counter,
    pub(crate) retention_bytes: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self(Arc::new(Inner {
            appended_bytes: Counter::default(),
            appends: Counter::default(),
            syncs: Counter::default(),
            sync_seconds: Histogram::new(SECONDS),
            journal_failed: Gauge::default(),
            staged_bytes: Gauge::default(),
            cached_bytes: Gauge::default(),
            uploads: Counter::default(),
            uploaded_bytes: Counter::default(),
            upload_retries: Counter::default(),
            upload_seconds: Histogram::new(SECONDS),
            read_memory_bytes: Counter::default(),
            read_disk_bytes: Counter::default(),
            read_store_bytes: Counter::default(),
            lost_journals: Counter::default(),
            retention_bytes: Counter::default(),
        }))
    }
}

impl Metrics {
    /// Makes them part of what `/metrics` shows.
    pub fn register(&self, registry: &mut Registry) {
        let m = &self.0;
        registry.register("weir_journal_appends", "Batches appended to the journal", m.appends.clone());
        registry.register("weir_journal_bytes", "Bytes appended to the journal", m.appended_bytes.clone());
        registry.register("weir_journal_syncs", "Group commits of the journal", m.syncs.clone());
        registry.register("weir_journal_sync_seconds", "Time to write and sync one group", m.sync_seconds.clone());
        registry.register("weir_journal_failed", "1 while the staging disk does not work", m.journal_failed.clone());
        registry.register("weir_staged_bytes", "Bytes on the staging disk and nowhere else", m.staged_bytes.clone());
        registry.register(
            "weir_staging_cached_bytes",
            "Bytes on the staging disk that are uploaded",
            m.cached_bytes.clone(),
        );
        registry.register("weir_uploads", "Data objects uploaded", m.uploads.clone());
        registry.register("weir_uploaded_bytes", "Bytes of data objects uploaded", m.uploaded_bytes.clone());
        registry.register("weir_upload_retries", "Uploads tried again", m.upload_retries.clone());
        registry.register("weir_upload_seconds", "Time from sealed to committed", m.upload_seconds.clone());
        registry.register("weir_read_memory_bytes", "Bytes read from memory", m.read_memory_bytes.clone());
        registry.register("weir_read_disk_bytes", "Bytes read from the staging disk", m.read_disk_bytes.clone());
        registry.register("weir_read_store_bytes", "Bytes read from data objects", m.read_store_bytes.clone());
        registry.register("weir_lost_journals", "Journals whose disk lost some or all of it", m.lost_journals.clone());
        let what = "Bytes of records given up for their age or size";
        registry.register("weir_retention_bytes", what, m.retention_bytes.clone());
    }

    pub(crate) fn get(&self) -> &Inner {
        &self.0
    }

    pub(crate) fn synced(&self, stats: Stats) {
        self.0.appends.inc_by(stats.appends as u64);
        self.0.appended_bytes.inc_by(stats.bytes);
        self.0.syncs.inc();
        self.0.sync_seconds.observe(stats.duration.as_secs_f64());
    }

    pub(crate) fn staged(&self, bytes: u64) {
        self.0.staged_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(crate) fn cached(&self, bytes: u64) {
        self.0.cached_bytes.set(i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    pub(crate) fn journal_opened(&self) {
        self.0.journal_failed.set(0);
    }

    pub(crate) fn journal_failed(&self) {
        self.0.journal_failed.set(1);
    }
}
