//! Which segments there are, across journals: where a fetch finds what is no longer in memory and not yet, or still,
//! in the object store.

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

    /// Bytes of frames in all of them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.segments.read().values().map(|segment| segment.len()).sum()
    }

    /// Bytes of one partition's batches in all of them.
    #[must_use]
    pub fn bytes_of(&self, topic_partition: TopicPartition) -> u64 {
        self.segments.read().values().map(|segment| segment.bytes_of(topic_partition)).sum()
    }

    /// Forgets a segment and deletes its file. Who reads it now reads on undisturbed.
    ///
    /// # Errors
    /// When the file cannot be deleted; the segment is forgotten all the same.
    pub fn delete(&self, segment: &Segment) -> io::Result<()> {
        self.segments.write().remove(&(segment.journal(), segment.first()));
        std::fs::remove_file(segment.path())
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
