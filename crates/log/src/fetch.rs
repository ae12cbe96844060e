//! Reading from the nearest copy: the tail in memory, a segment on the local SSD, an extent in the object store through
//! the cache. Bytes go out as they came in.
//!
//! The tiers are asked in that order, and a batch leaves one only after it arrived in the next: evicted from memory
//! after it was indexed on disk, deleted from disk after its extent was committed. So no moment finds it nowhere.
//!
//! What is not in memory is read and checked in the reader's [`objects::Lane`]: it gives way to appends.

use std::sync::Arc;

use metadata::LocatedExtent;
use objects::{ExtentReader, Object};
use records::{Batch, Offset};

use crate::partition::Partition;
use crate::room;
use crate::store::Log;

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The offset is below the log start or above the high watermark.
    #[error("offset {offset} is outside of {log_start} to {high_watermark}")]
    OutOfRange {
        /// What was asked for.
        offset: Offset,
        /// The first offset there is.
        log_start: Offset,
        /// The first offset that is not committed yet.
        high_watermark: Offset,
    },
    /// The staging disk refused, or what it holds is damaged.
    #[error(transparent)]
    Disk(#[from] journal::ReadError),
    /// The object store could not be read now.
    #[error(transparent)]
    Store(#[from] objects::cache::ReadError),
    /// The metadata could not be asked now.
    #[error(transparent)]
    Metadata(#[from] metadata::QueryError),
    /// Stored bytes are not what was written.
    #[error("{0} is damaged")]
    Damaged(&'static str),
    /// The broker is stopping.
    #[error("the broker is stopping")]
    Stopping,
}

impl Log {
    /// Whole batches from the one that holds `from` on, all below `up_to` (which is at most the high watermark), about
    /// `bytes_max` of them, and at least one if there is one. Empty at the end. The first batch may begin before `from`.
    /// Cancellation safe.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn read(
        &self,
        partition: &Arc<Partition>,
        from: Offset,
        up_to: Offset,
        bytes_max: usize,
    ) -> Result<Vec<Batch>, FetchError> {
        let (log_start, high_watermark) = (partition.log_start(), partition.high_watermark());
        if from < log_start || from > high_watermark {
            return Err(FetchError::OutOfRange { offset: from, log_start, high_watermark });
        }
        let up_to = up_to.min(high_watermark);
        let mut batches: Vec<Batch> = Vec::new();
        let mut bytes = 0;
        let mut next = from;
        while next < up_to && (bytes == 0 || bytes < bytes_max) {
            let more = self.read_once(partition, next, up_to, bytes_max.saturating_sub(bytes)).await?;
            let Some(last) = more.last() else { break };
            next = last.next_offset();
            for batch in more {
                if bytes > 0 && bytes + batch.len() > bytes_max {
                    return Ok(batches);
                }
                bytes += batch.len();
                batches.push(batch);
            }
        }
        Ok(batches)
    }

    /// What the nearest tier that has `from` gives.
    async fn read_once(
        &self,
        partition: &Arc<Partition>,
        from: Offset,
        up_to: Offset,
        bytes_max: usize,
    ) -> Result<Vec<Batch>, FetchError> {
        let metrics = self.inner.metrics.get();
        let sum = |batches: &[Batch]| batches.iter().map(|batch| batch.len() as u64).sum::<u64>();
        if let Some(batches) = partition.read_tail(from, up_to, bytes_max) {
            metrics.read_memory_bytes.inc_by(sum(&batches));
            return Ok(batches);
        }
        let located = self.inner.catalog.locate(partition.id(), from, bytes_max);
        // Asked after the disk was: what left the disk meanwhile is below it.
        let frontier = partition.frontier();
        let on_disk = located.as_ref().and_then(|located| located.entries.first()).map(|entry| entry.base_offset);
        if from < frontier && on_disk.is_none_or(|base| base > from) {
            let batches = self.read_object(partition, from, up_to, bytes_max).await?;
            if !batches.is_empty() {
                metrics.read_store_bytes.inc_by(sum(&batches));
                return Ok(batches);
            }
        }
        let Some(mut located) = located else { return Ok(Vec::new()) };
        located.entries.retain(|entry| entry.next_offset <= up_to);
        let segment = located.segment.clone();
        let read = self.inner.reader.lane().run(move || located.segment.read(&located.entries));
        let batches = match read.await.ok_or(FetchError::Stopping)? {
            Ok(batches) => batches,
            // There is another copy: this one is not asked again.
            Err(error) if segment.is_uploaded() => {
                tracing::warn!(%error, "a cached segment cannot be read: it is deleted, and the object store is read");
                room::discard(&self.inner, &segment);
                return self.read_object(partition, from, up_to, bytes_max).await;
            }
            Err(error) => return Err(error.into()),
        };
        metrics.read_disk_bytes.inc_by(sum(&batches));
        Ok(batches)
    }

    /// From the extent that holds `from`, or the next one.
    async fn read_object(
        &self,
        partition: &Arc<Partition>,
        from: Offset,
        up_to: Offset,
        bytes_max: usize,
    ) -> Result<Vec<Batch>, FetchError> {
        let extents = self.inner.metadata.extents(partition.id(), from, 1).await?;
        let Some(located) = extents.first() else { return Ok(Vec::new()) };
        let object = object_of(located);
        let mut ahead = partition.take_read_ahead(from);
        let reader = ExtentReader::new(&self.inner.reader, &object, &located.extent);
        let batches = reader.read(from, bytes_max as u64, &mut ahead).await?;
        if let Some(last) = batches.last() {
            partition.keep_read_ahead(last.next_offset(), ahead);
        }
        Ok(batches.into_iter().take_while(|batch| batch.next_offset() <= up_to).collect())
    }
}

/// What the cache needs to know of the object that holds an extent.
pub(crate) fn object_of(located: &LocatedExtent) -> Object {
    Object { id: located.extent.object, key: located.key.clone(), size: located.size }
}
