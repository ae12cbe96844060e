//! Finding offsets by time: the first record that is not older than a timestamp, and the record with the largest.

use std::sync::Arc;

use records::{Batch, Offset, Timestamp};

use crate::fetch::FetchError;
use crate::partition::Partition;
use crate::store::Log;

/// Bytes that a compressed batch may inflate to while it is searched.
const INFLATED_MAX: usize = 256 << 20;

/// Rows of metadata asked for at once.
const EXTENTS_A_PAGE: usize = 1000;

/// A record found by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: Timestamp,
}

impl Log {
    /// The first record at or after a time, if there is one. Cancellation safe.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn find_timestamp(
        &self,
        partition: &Arc<Partition>,
        at: Timestamp,
    ) -> Result<Option<Found>, FetchError> {
        let mut from = partition.log_start();
        // A batch whose largest timestamp qualifies may hold the record in a part that was deleted: look further then.
        while let Some(batch) = self.batch_by_timestamp(partition, at, from).await? {
            let log_start = partition.log_start();
            let found = records_of(&batch)?.into_iter().find(|found| found.timestamp >= at && found.offset >= log_start);
            if found.is_some() {
                return Ok(found);
            }
            from = batch.next_offset();
        }
        Ok(None)
    }

    /// The record with the largest timestamp, the first of them if several have it. Cancellation safe.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn find_max_timestamp(&self, partition: &Arc<Partition>) -> Result<Option<Found>, FetchError> {
        let mut largest = self.inner.catalog.max_timestamp(partition.id());
        let mut next = partition.log_start();
        while next < partition.frontier() {
            let extents = self.inner.metadata.extents(partition.id(), next, EXTENTS_A_PAGE).await?;
            let Some(last) = extents.last() else { break };
            next = last.extent.end_offset;
            largest = largest.max(extents.iter().map(|extent| extent.extent.max_timestamp).max());
        }
        match largest {
            Some(largest) => self.find_timestamp(partition, largest).await,
            None => Ok(None),
        }
    }

    /// The first batch from `from` on whose largest timestamp is at least `at`.
    async fn batch_by_timestamp(
        &self,
        partition: &Arc<Partition>,
        at: Timestamp,
        from: Offset,
    ) -> Result<Option<Batch>, FetchError> {
        let inner = &self.inner;
        let mut next = from;
        while next < partition.frontier() {
            let Some(extent) = inner.metadata.extent_by_timestamp(partition.id(), next, at).await? else { break };
            if let Some(batch) = inner.reader_of(&extent).find_timestamp(at, next).await? {
                return Ok(Some(batch));
            }
            next = extent.extent.end_offset;
        }
        // Linear in what is not uploaded yet: seconds of data.
        if let Some(located) = inner.catalog.locate_timestamp(partition.id(), at, next) {
            let read = tokio::task::spawn_blocking(move || located.segment.read(&located.entries));
            return Ok(read.await.map_err(|_| FetchError::Stopping)??.pop());
        }
        Ok(None)
    }
}

fn records_of(batch: &Batch) -> Result<Vec<Found>, FetchError> {
    let records = batch.records(INFLATED_MAX).map_err(|_| FetchError::Damaged("a record batch"))?;
    records
        .map(|record| {
            let record = record.map_err(|_| FetchError::Damaged("a record"))?;
            Ok(Found { offset: record.offset, timestamp: record.timestamp })
        })
        .collect()
}
