//! The lag of consumer groups, in records and in seconds, for `/metrics`: how far behind the end of its partition each
//! committed offset is, and how old the first record is that the group has not committed.
//!
//! Cost: every interval one look at each committed offset, and for those that lag one read of the batch at that place
//! (for a group that is far behind, from the cache over the object store).

use std::sync::Arc;
use std::time::Duration;

use coordinator::{CommittedOffset, Coordinator};
use log::Log;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use records::{Clock, TopicPartition};
use tokio_util::sync::CancellationToken;

/// Committed offsets shown at most; those of further ones are left out, so that groups cannot fill the memory of whoever
/// collects metrics.
const SHOWN_MAX: usize = 10_000;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    group: String,
    topic: String,
    partition: i32,
}

/// The figures. A clone is the same figures.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    records: Family<Labels, Gauge>,
    seconds: Family<Labels, Gauge>,
}

impl Metrics {
    /// Makes them part of what `/metrics` shows.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("weir_group_lag_records", "Records that a group has not committed", self.records.clone());
        let seconds = "Age of the first record that a group has not committed";
        registry.register("weir_group_lag_seconds", seconds, self.seconds.clone());
    }
}

/// What the figures are computed from.
pub(crate) struct Lag {
    pub(crate) coordinator: Arc<Coordinator>,
    pub(crate) log: Log,
    pub(crate) metadata: metadata::Handle,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Metrics,
}

impl Lag {
    /// Computes the figures at every interval until it is stopped.
    pub(crate) async fn run(self, interval: Duration, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.compute() => {}
            }
        }
    }

    async fn compute(&self) {
        let committed: Vec<CommittedOffset> = self.coordinator.committed_offsets().take(SHOWN_MAX).collect();
        let mut figures = Vec::with_capacity(committed.len());
        for one in committed {
            if let Some((records, seconds)) = self.lag(&one).await {
                let labels =
                    Labels { group: one.group_id.to_string(), topic: one.topic.to_string(), partition: one.partition };
                figures.push((labels, records, seconds));
            }
        }
        // Groups and partitions that are gone leave no figures behind.
        self.metrics.records.clear();
        self.metrics.seconds.clear();
        for (labels, records, seconds) in figures {
            self.metrics.records.get_or_create(&labels).set(records);
            self.metrics.seconds.get_or_create(&labels).set(seconds);
        }
    }

    /// Records and whole seconds; nothing for a partition that is not here.
    async fn lag(&self, committed: &CommittedOffset) -> Option<(i64, i64)> {
        let topic = self.metadata.image().topic(&committed.topic)?.id;
        let partition = self.log.partition(TopicPartition { topic, partition: committed.partition.into() }).ok()?;
        let end = partition.high_watermark();
        let from = committed.offset.max(partition.log_start());
        if from >= end {
            return Some((0, 0));
        }
        let batches = self.log.read(&partition, from, end, 1).await.ok()?;
        let first = batches.first()?;
        // A batch that begins above the place: what lay between is gone, and nobody waits for it.
        let records = end.0 - from.max(first.base_offset()).0;
        let age_ms = self.clock.now().0.saturating_sub(first.header().base_timestamp.0).max(0);
        Some((records, age_ms / 1000))
    }
}
