//! Reading from the nearest copy: the tail in memory, a segment on the local SSD, an extent in the object store through
//! the cache. Bytes go out as they came in.
//!
//! The tiers are asked in that order, and a batch leaves one only after it arrived in the next: evicted from memory
//! after it was indexed on disk, deleted from disk after its extent was committed. So no moment finds it nowhere.
//!
//! What is not in memory is read and checked in the reader's [`objects::Lane`]: it gives way to appends.

use std::collections::VecDeque;
use std::sync::Arc;

use metadata::LocatedExtent;
use objects::cache::ReadAhead;
use objects::{ExtentReader, Object};
use records::{Batch, Offset};

use crate::partition::Partition;
use crate::room;
use crate::store::Log;

/// How many extents a reader of the object store asks for at once. What lies in them is fetched ahead while it goes
/// forward, and they are asked for again when it has come through them.
const EXTENTS_AT_ONCE: usize = 8;

/// A reader of the object store that goes forward: the extents before it, and how far it fetches ahead.
#[derive(Debug, Default)]
pub(crate) struct Forward {
    extents: VecDeque<LocatedExtent>,
    ahead: ReadAhead,
}

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
        let mut reader = partition.take_forward(from);
        while reader.extents.front().is_some_and(|located| located.extent.end_offset <= from) {
            reader.extents.pop_front();
        }
        let is_known = !reader.extents.is_empty();
        let batches = match self.read_forward(partition, &mut reader, from, bytes_max).await {
            // The object went since it was asked for: where the batches lie now is known by the metadata.
            Err(FetchError::Store(objects::cache::ReadError::Missing { .. })) if is_known => {
                reader = Forward::default();
                self.read_forward(partition, &mut reader, from, bytes_max).await?
            }
            other => other?,
        };
        if let Some(last) = batches.last() {
            partition.keep_forward(last.next_offset(), reader);
        }
        Ok(batches.into_iter().take_while(|batch| batch.next_offset() <= up_to).collect())
    }

    /// From the first of the reader's extents; where it has none, the metadata are asked for them.
    async fn read_forward(
        &self,
        partition: &Partition,
        reader: &mut Forward,
        from: Offset,
        bytes_max: usize,
    ) -> Result<Vec<Batch>, FetchError> {
        if reader.extents.is_empty() {
            reader.extents = self.inner.metadata.extents(partition.id(), from, EXTENTS_AT_ONCE).await?.into();
        }
        let objects: Vec<Object> = reader.extents.iter().map(object_of).collect();
        let extents: Vec<_> = objects
            .iter()
            .zip(&reader.extents)
            .map(|(object, located)| ExtentReader::new(&self.inner.reader, object, &located.extent))
            .collect();
        let Some((extent, following)) = extents.split_first() else { return Ok(Vec::new()) };
        Ok(extent.read(from, bytes_max as u64, following, &mut reader.ahead).await?)
    }
}

/// What the cache needs to know of the object that holds an extent.
pub(crate) fn object_of(located: &LocatedExtent) -> Object {
    Object { id: located.extent.object, key: located.key.clone(), size: located.size }
}
