//! Where the coordinator keeps its records: partitions of the internal topic `__consumer_offsets`, in the log like any
//! other. They are committed, uploaded and recovered as records are.

use std::sync::Arc;

pub(crate) use coordinator::TOPIC;
use coordinator::{Entry, Page, Storage, StorageError, StoredEntry};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use log::{AppendError, FetchError, Log, Partition, PartitionError};
use metadata::Command;
use records::{Batch, Builder, Clock, Codec, Headers, Offset, TopicPartition};

/// Bytes of one append.
const APPEND_BYTES_MAX: usize = 512 << 10;
/// Bytes read at once while loading.
const PAGE_BYTES: usize = 4 << 20;

/// One partition of the internal topic.
pub(crate) struct OffsetsPartition {
    pub(crate) log: Log,
    pub(crate) metadata: metadata::Handle,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) id: TopicPartition,
    /// Taken in the order of calls; held until the batch has its place in the log, so that the order is kept.
    order: tokio::sync::Mutex<()>,
}

impl OffsetsPartition {
    pub(crate) fn new(log: Log, metadata: metadata::Handle, clock: Arc<dyn Clock>, id: TopicPartition) -> Self {
        Self { log, metadata, clock, id, order: tokio::sync::Mutex::default() }
    }

    fn partition(&self) -> Result<Arc<Partition>, StorageError> {
        self.log.partition(self.id).map_err(|error| match error {
            PartitionError::Unknown | PartitionError::NotLeader => StorageError::NotLeader,
        })
    }

    async fn store(&self, entries: Vec<Entry>) -> Result<Offset, StorageError> {
        let order = self.order.lock().await;
        let partition = self.partition()?;
        let batch = self.batch(&entries)?;
        let permit = self.log.admit(batch.len()).await.map_err(refused)?;
        let appended = self.log.append(&partition, batch, None, permit).map_err(refused)?;
        drop(order);
        appended.committed.await.map_err(|_| StorageError::Unknown)?;
        Ok(appended.base_offset)
    }

    fn batch(&self, entries: &[Entry]) -> Result<Batch, StorageError> {
        let now = self.clock.now();
        let mut builder = Builder::new(Codec::None);
        for entry in entries {
            builder.push(now, Some(&entry.key), entry.value.as_deref(), &Headers::NONE).map_err(|error| {
                tracing::error!(%error, "a record of the coordinator does not fit into a batch");
                StorageError::Unavailable
            })?;
        }
        Ok(builder.build())
    }

    async fn page(&self, from: Offset) -> Result<Page, StorageError> {
        let partition = self.partition()?;
        let end = partition.high_watermark();
        let from = from.max(partition.log_start());
        let batches = self.log.read(&partition, from, end, PAGE_BYTES).await.map_err(|error| {
            if !matches!(error, FetchError::Stopping) {
                tracing::warn!(%error, partition = %self.id, "committed offsets cannot be read yet");
            }
            StorageError::Unavailable
        })?;
        let next = batches.last().map_or(end, Batch::next_offset);
        let mut entries = Vec::new();
        for batch in &batches {
            let damaged = |error| {
                tracing::error!(%error, partition = %self.id, "a batch of committed offsets is damaged");
                StorageError::Unavailable
            };
            for record in batch.records(usize::MAX).map_err(damaged)? {
                let record = record.map_err(damaged)?;
                if record.offset >= from {
                    let entry = Entry { key: record.key.unwrap_or_default(), value: record.value };
                    entries.push(StoredEntry { offset: record.offset, entry });
                }
            }
        }
        Ok(Page { entries, next, last: next >= end })
    }
}

fn refused(error: AppendError) -> StorageError {
    match error {
        AppendError::NotLeader => StorageError::NotLeader,
        AppendError::Sequence(_) | AppendError::Busy | AppendError::JournalEnded => StorageError::Unavailable,
    }
}

impl Storage for OffsetsPartition {
    fn append(&self, entries: Vec<Entry>) -> BoxFuture<'_, Result<Offset, StorageError>> {
        self.store(entries).boxed()
    }

    fn load(&self, from: Offset) -> BoxFuture<'_, Result<Page, StorageError>> {
        self.page(from).boxed()
    }

    fn truncate_before(&self, offset: Offset) -> BoxFuture<'_, Result<(), StorageError>> {
        async move {
            let command = Command::SetLogStart { topic_partition: self.id, offset };
            self.metadata.submit(command).await.map(|_| ()).map_err(|error| {
                tracing::warn!(%error, partition = %self.id, "committed offsets could not be trimmed");
                StorageError::Unavailable
            })
        }
        .boxed()
    }

    fn append_bytes_max(&self) -> usize {
        APPEND_BYTES_MAX
    }
}
