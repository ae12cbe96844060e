//! Which groups this broker coordinates: those that are kept in partitions that it leads. Partitions come and go with the
//! leadership, and what other brokers delete is forgotten here too.

use std::collections::BTreeSet;
use std::sync::Arc;

use coordinator::Coordinator;
use log::Log;
use metadata::Image;
use records::{Clock, TopicId, TopicPartition};
use tokio_util::sync::CancellationToken;

use crate::offsets::OffsetsPartition;

/// Keeps the coordinator's partitions open that this broker leads, and only those.
pub(crate) struct Shards {
    coordinator: Arc<Coordinator>,
    log: Log,
    metadata: metadata::Handle,
    clock: Arc<dyn Clock>,
    topic: TopicId,
    partitions: i32,
}

impl Shards {
    pub(crate) fn new(
        coordinator: Arc<Coordinator>,
        log: Log,
        metadata: metadata::Handle,
        clock: Arc<dyn Clock>,
        topic: TopicId,
        partitions: i32,
    ) -> Self {
        Self { coordinator, log, metadata, clock, topic, partitions }
    }

    /// Opens those that are led here now, and says which.
    pub(crate) fn open_led(&self) -> BTreeSet<i32> {
        let led: BTreeSet<i32> = (0..self.partitions).filter(|partition| self.leads(*partition)).collect();
        led.iter().for_each(|partition| self.open(*partition));
        led
    }

    fn id(&self, partition: i32) -> TopicPartition {
        TopicPartition { topic: self.topic, partition: partition.into() }
    }

    fn leads(&self, partition: i32) -> bool {
        self.log.partition(self.id(partition)).is_ok()
    }

    fn open(&self, partition: i32) {
        let (log, metadata, clock) = (self.log.clone(), self.metadata.clone(), self.clock.clone());
        let storage = OffsetsPartition::new(log, metadata, clock, self.id(partition));
        self.coordinator.open(partition, Arc::new(storage));
    }

    /// Follows the leadership until the stop.
    pub(crate) async fn follow(self, mut open: BTreeSet<i32>, stop: CancellationToken) {
        let mut images = self.metadata.watch();
        let mut before = images.borrow_and_update().clone();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                changed = images.changed() => if changed.is_err() { return },
            }
            let image = images.borrow_and_update().clone();
            for partition in 0..self.partitions {
                match (self.leads(partition), open.contains(&partition)) {
                    (true, false) => {
                        tracing::info!(partition, "this broker coordinates the groups of one more partition");
                        self.open(partition);
                        open.insert(partition);
                    }
                    (false, true) => {
                        tracing::info!(partition, "the groups of a partition are coordinated elsewhere");
                        self.coordinator.close(partition).await;
                        open.remove(&partition);
                    }
                    _ => {}
                }
            }
            for name in gone(&before, &image) {
                self.coordinator.topic_deleted(&name).await;
            }
            before = image;
        }
    }
}

/// The names of topics that were there before. Looks at them only where one was deleted.
fn gone(before: &Image, now: &Image) -> Vec<Arc<str>> {
    if now.deleted.keys().all(|id| before.deleted.contains_key(id)) {
        return Vec::new();
    }
    let topics = before.topics.values().filter(|topic| !now.topics.contains_key(&topic.id));
    topics.map(|topic| topic.name.clone()).collect()
}
