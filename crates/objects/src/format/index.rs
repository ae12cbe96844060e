//! The sparse index of an extent: from an offset, or from a time, to the byte where reading starts.
//!
//! An entry is a batch; entries stand about 64 KiB apart. Reading starts at an entry and goes forward batch by batch. To
//! end a read at an entry too ([`Index::stretch`]) means to get whole batches only.

use std::ops::Range;

use bytes::Bytes;
use prost::Message;
use records::{Offset, ProducerId, Timestamp};

use super::{Block, Extent, FormatError, INDEX_INTERVAL_BYTES, check_crc};

/// Where a batch starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The batch's base offset.
    pub offset: Offset,
    /// Its first byte in the object.
    pub position: u64,
}

/// A transaction that was aborted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aborted {
    /// Whose transaction it was.
    pub producer_id: ProducerId,
    /// The transaction's first offset in the partition.
    pub first_offset: Offset,
    /// The offset of the control batch that aborted it.
    pub last_offset: Offset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    place: Place,
    max_timestamp_before: Timestamp,
}

/// The index of one extent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Index {
    entries: Vec<Entry>,
    aborted: Vec<Aborted>,
    end_offset: Offset,
    end_position: u64,
    max_timestamp: Timestamp,
}

impl Index {
    /// Decodes the bytes at `extent.index`.
    ///
    /// # Errors
    /// When they are damaged, or do not fit the extent.
    pub fn decode(bytes: &[u8], extent: &Extent) -> Result<Self, FormatError> {
        let invalid = |why| FormatError::Invalid { what: "index", why };
        check_crc("index", extent.index.crc, bytes)?;
        let stored = proto::objects::Index::decode(bytes).map_err(|_| invalid("it is no message"))?;
        let mut entries: Vec<Entry> = Vec::with_capacity(stored.entries.len());
        for entry in &stored.entries {
            let offset = i64::try_from(entry.offset_delta)
                .ok()
                .and_then(|delta| extent.base_offset.0.checked_add(delta))
                .filter(|offset| *offset < extent.end_offset.0)
                .ok_or(invalid("an offset lies outside of the extent"))?;
            if entry.position >= extent.len {
                return Err(invalid("a position lies outside of the extent"));
            }
            let place = Place { offset: Offset(offset), position: extent.position + entry.position };
            if let Some(before) = entries.last() {
                let ascending = before.place.offset < place.offset
                    && before.place.position < place.position
                    && before.max_timestamp_before.0 <= entry.max_timestamp_before;
                if !ascending {
                    return Err(invalid("its entries are not ascending"));
                }
            } else if place.position != extent.position {
                return Err(invalid("it does not start with the first batch"));
            }
            entries.push(Entry { place, max_timestamp_before: Timestamp(entry.max_timestamp_before) });
        }
        if entries.is_empty() {
            return Err(invalid("it is empty"));
        }
        let aborted = stored
            .aborted
            .iter()
            .map(|aborted| Aborted {
                producer_id: ProducerId(aborted.producer_id),
                first_offset: Offset(aborted.first_offset),
                last_offset: Offset(aborted.last_offset),
            })
            .collect();
        Ok(Self {
            entries,
            aborted,
            end_offset: extent.end_offset,
            end_position: extent.range().end,
            max_timestamp: extent.max_timestamp,
        })
    }

    /// Where to start reading to find `offset`: the last entry at or before it. `None` when the extent does not cover it.
    #[must_use]
    pub fn find_offset(&self, offset: Offset) -> Option<Place> {
        if offset >= self.end_offset {
            return None;
        }
        let after = self.entries.partition_point(|entry| entry.place.offset <= offset);
        Some(self.entries[after.checked_sub(1)?].place)
    }

    /// Where to start reading to find the first record at or after `timestamp`: no batch before that place holds one.
    /// `None` when the extent holds none at all.
    #[must_use]
    pub fn find_timestamp(&self, timestamp: Timestamp) -> Option<Place> {
        if self.max_timestamp < timestamp {
            return None;
        }
        // The first entry has nothing before it.
        let after = 1 + self.entries[1..].partition_point(|entry| entry.max_timestamp_before < timestamp);
        Some(self.entries[after - 1].place)
    }

    /// The bytes to read from `place` on, in the object: whole batches only, as many as fit into `bytes_max`, but at least
    /// up to the next entry.
    #[must_use]
    pub fn stretch(&self, place: Place, bytes_max: u64) -> Range<u64> {
        let limit = place.position.saturating_add(bytes_max);
        if self.end_position <= limit {
            return place.position..self.end_position;
        }
        let next = self.entries.partition_point(|entry| entry.place.position <= place.position);
        let fitting = self.entries.partition_point(|entry| entry.place.position <= limit);
        let end = self
            .entries
            .get(fitting.saturating_sub(1).max(next))
            .map_or(self.end_position, |entry| entry.place.position);
        place.position..end
    }

    /// The transactions that were aborted and reach into this extent.
    #[must_use]
    pub fn aborted(&self) -> &[Aborted] {
        &self.aborted
    }
}

/// Gathers an index while an extent is written.
#[derive(Debug, Default)]
pub(super) struct IndexBuilder {
    entries: Vec<proto::objects::IndexEntry>,
    max_timestamp: Option<i64>,
}

impl IndexBuilder {
    /// Notes a batch; `offset_delta` and `position` count from the extent's start.
    pub(super) fn push(&mut self, offset_delta: u64, position: u64, max_timestamp: Timestamp) {
        let due = self.entries.last().is_none_or(|last| position - last.position >= INDEX_INTERVAL_BYTES);
        if due {
            let max_timestamp_before = self.max_timestamp().0;
            self.entries.push(proto::objects::IndexEntry { offset_delta, position, max_timestamp_before });
        }
        self.max_timestamp = Some(self.max_timestamp.map_or(max_timestamp.0, |max| max.max(max_timestamp.0)));
    }

    /// The largest timestamp so far; −1 when there is none.
    pub(super) fn max_timestamp(&self) -> Timestamp {
        Timestamp(self.max_timestamp.unwrap_or(-1).max(-1))
    }

    /// The index's bytes, and the block that describes them once its position is known.
    pub(super) fn finish(self, aborted: &[Aborted]) -> (Bytes, Block) {
        let aborted = aborted
            .iter()
            .map(|aborted| proto::objects::AbortedTransaction {
                producer_id: aborted.producer_id.0,
                first_offset: aborted.first_offset.0,
                last_offset: aborted.last_offset.0,
            })
            .collect();
        let bytes = Bytes::from(proto::objects::Index { entries: self.entries, aborted }.encode_to_vec());
        let block = super::builder::block_of(&bytes);
        (bytes, block)
    }
}
