//! The changes that commands come down to: each is one row of the database, or the end of one.

use std::sync::Arc;

use objects::Extent;
use records::{BrokerId, JournalId, Offset, Timestamp, TopicId, TopicPartition};
use uuid::Uuid;

use super::command::ObjectMeta;
use super::image::{Broker, Configs, Counters, DeletedTopic, Journal, PartitionState};

/// One change of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// A broker is as given.
    PutBroker(Arc<Broker>),
    /// A topic is as given; its partitions are changes of their own.
    PutTopic {
        /// Its id.
        id: TopicId,
        /// Its name, which never changes.
        name: Arc<str>,
        /// Its configuration.
        configs: Arc<Configs>,
        /// When it was created.
        created_at: Timestamp,
    },
    /// A partition is as given: one that exists, or the next of its topic.
    PutPartition(TopicPartition, Arc<PartitionState>),
    /// A topic and all its partitions are gone.
    DeleteTopic {
        /// The topic.
        id: TopicId,
        /// How many partitions it has.
        partitions: u32,
    },
    /// The extents of a deleted topic are still to be removed.
    PutDeleted(TopicId, DeletedTopic),
    /// They are removed.
    EndDeleted(TopicId),
    /// Extents below the partition's log start are still to be removed.
    PutTrim(TopicPartition),
    /// They are removed.
    EndTrim(TopicPartition),
    /// A journal is as given.
    PutJournal(Arc<Journal>),
    /// A drained journal is forgotten.
    ForgetJournal(JournalId),
    /// The dynamic configuration of all brokers or one is as given.
    PutBrokerConfigs(Option<BrokerId>, Arc<Configs>),
    /// The next numbers to give out.
    PutCounters(NextIds),
    /// An extent is part of the log (database only).
    PutExtent(Box<Extent>),
    /// An extent is no longer part of the log (database only).
    DeleteExtent {
        /// The partition.
        topic_partition: TopicPartition,
        /// The offset after its last.
        end_offset: Offset,
    },
    /// An object is referred to by `live` extents (database only).
    PutObject {
        /// The object.
        object: ObjectMeta,
        /// How many extents of it are part of the log.
        live: u32,
    },
    /// An object is no longer referred to (database only).
    DeleteObject(Uuid),
    /// An object may be deleted after the grace time (database only).
    PutGarbage {
        /// The object.
        object: ObjectMeta,
        /// Since when nothing refers to it.
        since: Timestamp,
    },
    /// An object that was garbage is deleted from the store (database only).
    EndGarbage(ObjectMeta),
}

/// The next numbers to give out, as one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextIds(pub(crate) Counters);
