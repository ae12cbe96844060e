//! Where a shard keeps its records: one partition of the internal topic, seen as a log of keys and values.
//!
//! The trait's documentation is its specification; `memory` is the implementation for tests.

pub mod memory;

use bytes::Bytes;
use futures::future::BoxFuture;
use records::Offset;
use thiserror::Error;

/// A record to be stored: no value is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What the record is about.
    pub key: Bytes,
    /// Its new value, or none when it is gone.
    pub value: Option<Bytes>,
}

impl Entry {
    /// About the bytes it takes in the log.
    #[must_use]
    pub fn size(&self) -> usize {
        entry_size(self.key.len(), self.value.as_ref().map_or(0, Bytes::len))
    }
}

/// About the bytes that a record takes in the log: its key, its value, lengths and deltas around them.
pub(crate) const fn entry_size(key: usize, value: usize) -> usize {
    key + value + 12
}

/// A record that was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEntry {
    /// Its offset.
    pub offset: Offset,
    /// The record.
    pub entry: Entry,
}

/// Some records of the log, in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The records; may be empty where a range holds none.
    pub entries: Vec<StoredEntry>,
    /// Where the next page begins; when `last`, the end of the log.
    pub next: Offset,
    /// Nothing was stored after this page when it was read.
    pub last: bool,
}

/// What went wrong with the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum StorageError {
    /// Nothing was stored and nothing will be; trying again may work.
    #[error("the log cannot store now")]
    Unavailable,
    /// The records may or may not be stored; a `load` from now on tells which, and that does not change any more.
    #[error("whether the log stored the records is unknown")]
    Unknown,
    /// This broker does not lead the partition any more.
    #[error("this broker does not lead the partition")]
    NotLeader,
}

/// A partition of the internal topic. One shard at a time uses it, and nobody else writes to it.
pub trait Storage: Send + Sync + 'static {
    /// Stores records at contiguous offsets and gives the first one's once all are committed (durable, and visible to
    /// `load`). The records keep their order, take all or none, and a call's records lie after those of any earlier
    /// call: the order is that of the calls (at the latest of the futures' first polls, which follow it), whichever
    /// is committed or refused. Several calls may be under way at once.
    ///
    /// The sizes ([`Entry::size`]) of one call's entries sum to at most `append_bytes_max`. Dropping the future leaves
    /// open whether the records are stored.
    fn append(&self, entries: Vec<Entry>) -> BoxFuture<'_, Result<Offset, StorageError>>;

    /// The records from the offset on (from the log's start where that is later), as many as make a page. Not called
    /// while appends are under way. Safe to drop.
    fn load(&self, from: Offset) -> BoxFuture<'_, Result<Page, StorageError>>;

    /// Allows the log to forget the records below the offset. It may forget fewer, and none above. Safe to drop.
    fn truncate_before(&self, offset: Offset) -> BoxFuture<'_, Result<(), StorageError>>;

    /// How many bytes one append may have; at least 64 KiB.
    fn append_bytes_max(&self) -> usize;
}
