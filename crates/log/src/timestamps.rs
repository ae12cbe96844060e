//! Finding offsets by time: the first record that is not older than a timestamp, and the record with the largest.

use std::sync::Arc;

use journal::Located;
use metadata::LocatedExtent;
use objects::ExtentReader;
use records::{Batch, Offset, Timestamp};

use crate::fetch::{FetchError, object_of};
use crate::partition::Partition;
use crate::store::Log;

/// Bytes that a compressed batch may inflate to while it is searched.
const INFLATED_MAX: usize = 256 << 20;

/// Bytes of batches looked at in one go.
const PAGE_BYTES: usize = 1 << 20;

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
    pub async fn find_timestamp(&self, partition: &Arc<Partition>, at: Timestamp) -> Result<Option<Found>, FetchError> {
        let mut from = partition.log_start();
        // A batch whose largest timestamp qualifies may hold the record in a part that was deleted: look further then.
        while let Some(batch) = self.batch_by_timestamp(partition, at, from).await? {
            let log_start = partition.log_start();
            from = batch.next_offset();
            let mut found = records_of(batch).await?.into_iter();
            let found = found.find(|found| found.timestamp >= at && found.offset >= log_start);
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The record with the largest timestamp, the first of them if several have it. Cancellation safe.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn find_max_timestamp(&self, partition: &Arc<Partition>) -> Result<Option<Found>, FetchError> {
        let inner = &self.inner;
        let (log_start, high_watermark) = (partition.log_start(), partition.high_watermark());
        let mut largest = None;
        let mut next = log_start;
        let on_disk = loop {
            let frontier = partition.frontier();
            while next < frontier {
                let extents = inner.metadata.extents(partition.id(), next, EXTENTS_A_PAGE).await?;
                let Some(last) = extents.last() else { break };
                next = last.extent.end_offset;
                for LocatedExtent { extent, .. } in &extents {
                    largest = largest.max(match extent.base_offset < log_start {
                        true => self.max_timestamp_between(partition, log_start, extent.end_offset).await?,
                        false => Some(extent.max_timestamp),
                    });
                }
            }
            let segments = inner.catalog.segments();
            let entries = segments.iter().flat_map(|segment| segment.locate(partition.id(), next, usize::MAX));
            let entries: Vec<_> = entries.filter(|entry| entry.next_offset <= high_watermark).collect();
            // What left the disk meanwhile is in an object now: look there.
            if partition.frontier() == frontier {
                break entries;
            }
        };
        for entry in on_disk {
            largest = largest.max(match entry.base_offset < log_start {
                true => self.max_timestamp_between(partition, log_start, entry.next_offset).await?,
                false => Some(entry.max_timestamp),
            });
        }
        match largest {
            Some(largest) => self.find_timestamp(partition, largest).await,
            None => Ok(None),
        }
    }

    /// The largest timestamp of the records from `from` to `end`, where a batch or an extent reaches below the log start
    /// and what is known of it as a whole does not hold for the rest.
    async fn max_timestamp_between(
        &self,
        partition: &Arc<Partition>,
        from: Offset,
        end: Offset,
    ) -> Result<Option<Timestamp>, FetchError> {
        let (mut next, mut largest) = (from, None);
        while next < end {
            let batches = self.read(partition, next, end, PAGE_BYTES).await?;
            let Some(last) = batches.last() else { break };
            next = last.next_offset();
            for batch in batches {
                largest = largest.max(match batch.base_offset() < from {
                    true => {
                        let found = records_of(batch).await?.into_iter().filter(|found| found.offset >= from);
                        found.map(|found| found.timestamp).max()
                    }
                    false => Some(batch.header().max_timestamp),
                });
            }
        }
        Ok(largest)
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
        let located = loop {
            let frontier = partition.frontier();
            while next < frontier {
                let Some(located) = inner.metadata.extent_by_timestamp(partition.id(), next, at).await? else { break };
                let object = object_of(&located);
                let reader = ExtentReader::new(&inner.reader, &object, &located.extent);
                if let Some(batch) = reader.find_timestamp(at, next).await? {
                    return Ok(Some(batch));
                }
                next = located.extent.end_offset;
            }
            // Linear in what is not uploaded yet: seconds of data.
            let located = inner.catalog.locate_timestamp(partition.id(), at, next);
            // What left the disk meanwhile is in an object now: look there.
            if partition.frontier() == frontier {
                break located;
            }
        };
        // What is on the disk is not always committed.
        let committed =
            |located: &Located| located.entries.iter().all(|entry| entry.next_offset <= partition.high_watermark());
        let Some(located) = located.filter(committed) else { return Ok(None) };
        let read = inner.reader.lane().run(move || located.segment.read(&located.entries));
        Ok(read.await.ok_or(FetchError::Stopping)??.pop())
    }
}

/// Offsets and timestamps of a batch's records. Not on the runtime's threads: it may have to be inflated.
async fn records_of(batch: Batch) -> Result<Vec<Found>, FetchError> {
    let walk = move || {
        let records = batch.records(INFLATED_MAX).map_err(|_| FetchError::Damaged("a record batch"))?;
        records
            .map(|record| {
                let record = record.map_err(|_| FetchError::Damaged("a record"))?;
                Ok(Found { offset: record.offset, timestamp: record.timestamp })
            })
            .collect()
    };
    tokio::task::spawn_blocking(walk).await.map_err(|_| FetchError::Stopping)?
}
