//! What can be asked of the machine, and what it answers.

use objects::Extent;
use records::{BrokerId, Incarnation, JournalId, Offset, Position, ProducerId, Timestamp, TopicId, TopicPartition};
use uuid::Uuid;

use super::image::{Configs, Endpoint};

/// A data object that was PUT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its unique id.
    pub id: Uuid,
    /// Its key in the store.
    pub key: String,
    /// How many bytes it has.
    pub size: u64,
}

/// Where a partition goes on when its journal ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionStart {
    /// The partition.
    pub topic_partition: TopicPartition,
    /// Its first offset that is not in the journal.
    pub start_offset: Offset,
}

impl From<(TopicPartition, Offset)> for PartitionStart {
    fn from((topic_partition, start_offset): (TopicPartition, Offset)) -> Self {
        Self { topic_partition, start_offset }
    }
}

/// What to do with a configuration value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigOp {
    /// Set it.
    Set(String),
    /// Take it away, so that the default holds again.
    Delete,
    /// Add to a list what is not in it yet (comma-separated).
    Append(String),
    /// Take from a list (comma-separated).
    Subtract(String),
}

/// A change of one configuration key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigChange {
    /// The key.
    pub key: String,
    /// What to do with it.
    pub op: ConfigOp,
}

/// A change that somebody wants. `at` is the caller's wall clock; nothing that safety rests on depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Leases an id to a broker's name, and raises its incarnation. Answers [`Reply::Registered`].
    RegisterBroker {
        /// The broker's name.
        name: String,
        /// Its zone; may be empty.
        zone: String,
        /// Where it listens.
        endpoints: Vec<Endpoint>,
        /// When.
        at: Timestamp,
    },
    /// Says whether the controller hears from a broker, which gets nothing to lead while it does not. Answers
    /// [`Reply::Done`].
    FenceBroker {
        /// The broker.
        broker: BrokerId,
        /// Its incarnation that is meant; another one is left alone.
        incarnation: Incarnation,
        /// Whether it is not heard from.
        fenced: bool,
    },
    /// Opens a new journal. Answers [`Reply::JournalOpened`]; one that stays unused is sealed when its owner returns.
    OpenJournal {
        /// Who appends to it.
        owner: BrokerId,
        /// The owner's incarnation.
        incarnation: Incarnation,
        /// Who holds it, the owner among them.
        members: Vec<BrokerId>,
        /// How many members must have a byte on stable storage.
        ack_quorum: u8,
        /// When.
        at: Timestamp,
    },
    /// Begins the recovery of a journal under a new fencing epoch. Answers [`Reply::Recovering`].
    RecoverJournal {
        /// The journal.
        journal: JournalId,
        /// Who recovers it.
        by: BrokerId,
    },
    /// Ends a journal, once, and moves every partition that points at it to another under a new leader epoch. Answers
    /// [`Reply::JournalSealed`].
    SealJournal {
        /// The journal that ends.
        journal: JournalId,
        /// The epoch of its recovery, or 0 when its owner closes it while it is open.
        epoch: u64,
        /// Where it ends. `None`: its members' disks are lost, and it ends with what is uploaded; its partitions then
        /// restart at their [`super::PartitionState::assign_limit`], whatever `partitions` says.
        end: Option<Position>,
        /// The open journal that its partitions go to.
        successor: JournalId,
        /// Where partitions go on that have appends in the journal which are not uploaded. Partitions that are not
        /// listed go on where their epoch began, or at their frontier when that is further on. Those listed that do not
        /// point at the journal are passed over.
        partitions: Vec<PartitionStart>,
        /// When.
        at: Timestamp,
    },
    /// Says where an open journal ends that its owner closed: everything below is committed, nothing will be appended. It
    /// stays open until it is sealed. When its disk is lost before that, it is known what was on it, and that nothing is
    /// missing when all of it was uploaded. Answers [`Reply::Done`].
    CloseJournal {
        /// The journal.
        journal: JournalId,
        /// The position after its last byte.
        end: Position,
    },
    /// Gives up what a sealed journal has not uploaded, because the disks that held it are lost. The partitions' upload
    /// frontiers go on to where their next epochs begin. Answers [`Reply::Done`].
    AbandonJournal {
        /// The journal.
        journal: JournalId,
        /// When.
        at: Timestamp,
    },
    /// Makes an uploaded object part of the log. Answers [`Reply::Committed`], also when it is repeated.
    CommitObject {
        /// The journal whose appends it holds.
        journal: JournalId,
        /// The first position it holds: the journal's `uploaded`, or the commit is refused (O3).
        from: Position,
        /// The position after the last it holds.
        to: Position,
        /// The object.
        object: ObjectMeta,
        /// What is in it. Extents of deleted topics are dropped.
        extents: Vec<Extent>,
        /// When its newest record was appended.
        newest_append: Timestamp,
        /// How far the journal is durable now.
        durable_seen: Position,
        /// When.
        at: Timestamp,
    },
    /// Makes a topic. Its partitions are spread over the open journals. Answers [`Reply::TopicCreated`].
    CreateTopic {
        /// Its name.
        name: String,
        /// A fresh random id; a repeat with the same id and name succeeds again.
        id: TopicId,
        /// How many partitions.
        partitions: u32,
        /// Its configuration.
        configs: Configs,
        /// When.
        at: Timestamp,
    },
    /// Deletes a topic. Its extents are removed afterwards, in the background.
    DeleteTopic {
        /// The topic.
        id: TopicId,
        /// When.
        at: Timestamp,
    },
    /// Gives a topic more partitions.
    CreatePartitions {
        /// The topic.
        topic: TopicId,
        /// How many it shall have then.
        total: u32,
    },
    /// Changes a topic's configuration.
    AlterTopicConfigs {
        /// The topic.
        topic: TopicId,
        /// What to change; each key once.
        changes: Vec<ConfigChange>,
        /// Whether keys that are not named lose their value (the older AlterConfigs).
        replace: bool,
    },
    /// Changes the dynamic configuration of all brokers or of one.
    AlterBrokerConfigs {
        /// The broker; `None` is all of them.
        broker: Option<BrokerId>,
        /// What to change; each key once.
        changes: Vec<ConfigChange>,
        /// Whether keys that are not named lose their value.
        replace: bool,
    },
    /// Moves a partition's log start up. One below where it is already is answered as done.
    SetLogStart {
        /// The partition.
        topic_partition: TopicPartition,
        /// The first offset that may be read from now on; the leader vouches that it is not above the high watermark.
        offset: Offset,
    },
    /// Allocates producer ids that nobody had before. Answers [`Reply::ProducerIds`].
    AllocateProducerIds {
        /// How many.
        count: u32,
    },
}

/// The answer to a command that was carried out. What it says is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// The broker is registered.
    Registered {
        /// The id of its name.
        broker: BrokerId,
        /// Its new incarnation.
        incarnation: Incarnation,
    },
    /// The journal is open.
    JournalOpened {
        /// Its id.
        journal: JournalId,
    },
    /// The caller recovers the journal.
    Recovering {
        /// The epoch to fence members with.
        epoch: u64,
    },
    /// The journal ended.
    JournalSealed {
        /// Where.
        end: Position,
    },
    /// The object is part of the log.
    Committed {
        /// The journal's upload frontier after it.
        uploaded: Position,
    },
    /// The topic exists.
    TopicCreated {
        /// Its id.
        id: TopicId,
    },
    /// The ids `first..first + count` are the caller's.
    ProducerIds {
        /// The first of them.
        first: ProducerId,
        /// How many.
        count: u32,
    },
    /// It is done.
    Done,
}

/// Why a command was not carried out. Nothing changed. Each variant says what its caller can do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Tell the client: there is no such topic.
    #[error("topic {0} does not exist")]
    UnknownTopic(TopicId),
    /// Tell the client: the topic has no such partition.
    #[error("partition {0} does not exist")]
    UnknownPartition(TopicPartition),
    /// Tell the client: no such broker registered.
    #[error("broker {0} is not registered")]
    UnknownBroker(BrokerId),
    /// A mistake of the caller, or the journal was drained and forgotten: look at the image.
    #[error("journal {0} does not exist")]
    UnknownJournal(JournalId),
    /// Tell the client: the name is taken. One that wants the topic to exist may use `id`.
    #[error("topic '{name}' exists already")]
    TopicExists {
        /// The name.
        name: String,
        /// The id of the topic that has it.
        id: TopicId,
    },
    /// Tell the client: metrics would confuse the two names.
    #[error("topic '{name}' collides with '{existing}': names may not differ only in '.' and '_'")]
    TopicCollision {
        /// The name that was asked for.
        name: String,
        /// The topic that is there.
        existing: String,
    },
    /// Tell the client: this is no name for a topic.
    #[error("{0}")]
    InvalidTopicName(String),
    /// Tell the client: not a possible number of partitions.
    #[error("{0}")]
    InvalidPartitions(String),
    /// Tell the client: an unknown key or a value that it cannot have.
    #[error("{0}")]
    InvalidConfig(String),
    /// Tell the client: the offset is beyond what the log can hold.
    #[error("offset {offset} of partition {topic_partition} is out of range")]
    OffsetOutOfRange {
        /// The partition.
        topic_partition: TopicPartition,
        /// The offset that was asked for.
        offset: Offset,
    },
    /// Tell the client, or raise the limit in the configuration.
    #[error("the cluster may have {limit} {what} at most")]
    LimitReached {
        /// What there would be too many of.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// Try again when a broker has opened a journal.
    #[error("no broker has an open journal")]
    NoOpenJournal,
    /// Give up: a newer process runs under this broker's name.
    #[error("broker {broker} registered again as incarnation {current}")]
    StaleIncarnation {
        /// The broker.
        broker: BrokerId,
        /// Its incarnation now.
        current: Incarnation,
    },
    /// Give up: somebody recovers the journal under another epoch, or it is no longer open.
    #[error("journal {journal} is at epoch {current}")]
    StaleEpoch {
        /// The journal.
        journal: JournalId,
        /// Its epoch now.
        current: u64,
    },
    /// Give up, and use the end that is written: it is written once.
    #[error("journal {journal} ended at {end}")]
    JournalEnded {
        /// The journal.
        journal: JournalId,
        /// Its end.
        end: Position,
    },
    /// Go on from `uploaded`: what lies below it is committed, whoever did it.
    #[error("journal {journal} is uploaded up to {uploaded}")]
    WrongFrontier {
        /// The journal.
        journal: JournalId,
        /// Where a commit must start.
        uploaded: Position,
    },
    /// Wait until the journals before this one are uploaded, then commit again (O2).
    #[error("partition {topic_partition} is uploaded up to offset {frontier} only")]
    NotContiguous {
        /// The first partition that is not far enough.
        topic_partition: TopicPartition,
        /// Its upload frontier.
        frontier: Offset,
    },
    /// A mistake of the caller: do not repeat it.
    #[error("{0}")]
    Invalid(String),
}
