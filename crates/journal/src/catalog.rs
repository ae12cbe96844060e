//! Which segments there are, across journals: where a fetch finds what is no longer in memory. Those that are not
//! uploaded are the only copy; those that are stay as a cache, until their room is needed.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use parking_lot::RwLock;
use records::{JournalId, Offset, Position, Timestamp, TopicPartition};

use crate::segment::{Entry, Segment};

/// Batches of one partition in one segment.
#[derive(Debug, Clone)]
pub struct Located {
    /// The segment that holds them.
    pub segment: Arc<Segment>,
    /// Where they lie in it, in the order of their offsets.
    pub entries: Vec<Entry>,
}

/// What segments take up, on disk and in memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of frames that are not in the object store.
    pub staged_bytes: u64,
    /// Bytes of frames that are.
    pub cached_bytes: u64,
    /// Batches in the indexes, of both kinds: some 32 bytes of memory each.
    pub entries: u64,
}

/// The segments on this broker's disk, in the order they were written.
#[derive(Debug, Default)]
pub struct Catalog {
    segments: RwLock<BTreeMap<(JournalId, Position), Arc<Segment>>>,
}

impl Catalog {
    /// Takes a segment in.
    pub fn add(&self, segment: Arc<Segment>) {
        self.segments.write().insert((segment.journal(), segment.first()), segment);
    }

    /// All of them, oldest first.
    #[must_use]
    pub fn segments(&self) -> Vec<Arc<Segment>> {
        self.segments.read().values().cloned().collect()
    }

    /// Those that are not in the object store, oldest first.
    #[must_use]
    pub fn staged(&self) -> Vec<Arc<Segment>> {
        self.segments.read().values().filter(|segment| !segment.is_uploaded()).cloned().collect()
    }

    /// What all of them take up.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for segment in self.segments.read().values() {
            let bytes = if segment.is_uploaded() { &mut usage.cached_bytes } else { &mut usage.staged_bytes };
            *bytes += segment.len();
            usage.entries += segment.entries();
        }
        usage
    }

    /// Bytes of one partition's batches in those that are not in the object store.
    #[must_use]
    pub fn staged_bytes_of(&self, topic_partition: TopicPartition) -> u64 {
        let segments = self.segments.read();
        segments.values().filter(|segment| !segment.is_uploaded()).map(|one| one.bytes_of(topic_partition)).sum()
    }

    /// The oldest of those that are in the object store too.
    #[must_use]
    pub fn oldest_uploaded(&self) -> Option<Arc<Segment>> {
        self.segments.read().values().find(|segment| segment.is_uploaded()).cloned()
    }

    /// Forgets a segment that is uploaded, and deletes its file. Who reads it now reads on undisturbed. Blocks.
    ///
    /// # Errors
    /// When the file cannot be deleted; the segment is forgotten all the same.
    ///
    /// # Panics
    /// When it is not uploaded (J1): its bytes may be the only copy.
    pub fn delete(&self, segment: &Segment) -> io::Result<()> {
        assert!(segment.is_uploaded(), "J1: {} is deleted before it is uploaded", segment.path().display());
        self.segments.write().remove(&(segment.journal(), segment.first()));
        segment.delete()
    }

    /// The batches from the one that holds `from`, or the next one on this disk; see [`Segment::locate`].
    #[must_use]
    pub fn locate(&self, topic_partition: TopicPartition, from: Offset, bytes_max: usize) -> Option<Located> {
        self.find(|segment| {
            let (_, next) = segment.offsets(topic_partition)?;
            if next <= from {
                return None;
            }
            Some(segment.locate(topic_partition, from, bytes_max)).filter(|entries| !entries.is_empty())
        })
    }

    /// The first batch on this disk, from offset `from` on, that holds a record of this time or a later one.
    #[must_use]
    pub fn locate_timestamp(&self, topic_partition: TopicPartition, at: Timestamp, from: Offset) -> Option<Located> {
        self.find(|segment| segment.locate_timestamp(topic_partition, at, from).map(|entry| vec![entry]))
    }

    /// The largest timestamp of a partition's records on this disk.
    #[must_use]
    pub fn max_timestamp(&self, topic_partition: TopicPartition) -> Option<Timestamp> {
        self.segments.read().values().filter_map(|segment| segment.max_timestamp(topic_partition)).max()
    }

    fn find(&self, look: impl Fn(&Segment) -> Option<Vec<Entry>>) -> Option<Located> {
        let segments = self.segments.read();
        segments.values().find_map(|segment| look(segment).map(|entries| Located { segment: segment.clone(), entries }))
    }
}
