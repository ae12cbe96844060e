//! What every broker keeps in memory of the cluster.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use records::{
    BrokerId, Incarnation, JournalId, LeaderEpoch, Offset, Partition, Position, ProducerId, Timestamp, TopicId,
    TopicPartition,
};
use uuid::Uuid;

use super::OFFSET_RESERVE;
use crate::topic_config::TopicConfig;

/// Configuration values by key; only those that somebody set.
pub type Configs = BTreeMap<String, String>;

/// The bounds on what the machine holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many topics the cluster may have.
    pub topics_max: usize,
    /// How many partitions all topics may have together.
    pub partitions_max: usize,
    /// How many brokers may ever have registered.
    pub brokers_max: usize,
    /// How many journals may wait to be drained.
    pub journals_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { topics_max: 10_000, partitions_max: 100_000, brokers_max: 1_000, journals_max: 10_000 }
    }
}

/// An address that clients or brokers reach a broker at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The name of the listener.
    pub listener: String,
    /// Host name or IP address.
    pub host: String,
    /// The port.
    pub port: u16,
}

/// A broker that registered at least once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// The id that its name got, once.
    pub id: BrokerId,
    /// Its name, from its configuration.
    pub name: Arc<str>,
    /// The zone it is in; empty when it has none.
    pub zone: String,
    /// Where it listens.
    pub endpoints: Vec<Endpoint>,
    /// Raised at every registration.
    pub incarnation: Incarnation,
    /// When it registered last.
    pub registered_at: Timestamp,
    /// The controller does not hear from it: it gets nothing to lead.
    pub fenced: bool,
}

/// A topic and its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its id.
    pub id: TopicId,
    /// Its name.
    pub name: Arc<str>,
    /// Its partitions, by number.
    pub partitions: Vec<Arc<PartitionState>>,
    /// The configuration that was set on it.
    pub configs: Arc<Configs>,
    /// Whether it is one of Weir's own.
    pub internal: bool,
    /// When it was created.
    pub created_at: Timestamp,
}

impl Topic {
    /// The state of one partition.
    #[must_use]
    pub fn partition(&self, partition: Partition) -> Option<&Arc<PartitionState>> {
        self.partitions.get(usize::try_from(partition.0).ok()?)
    }

    /// Its configuration, with `defaults` where nothing is set on it.
    #[must_use]
    pub fn config(&self, defaults: &Configs) -> TopicConfig {
        TopicConfig::resolve(&self.configs, defaults)
    }
}

/// Where a leader epoch begins in a partition. Epochs in which nothing was written are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochStart {
    /// The epoch.
    pub epoch: LeaderEpoch,
    /// Its first offset.
    pub start: Offset,
    /// The journal that its appends go to.
    pub journal: JournalId,
    /// Whether what the epochs before it had not uploaded is lost. Once nothing of them is to be uploaded any more, the
    /// upload frontier goes on to `start`.
    pub after_loss: bool,
}

/// A partition: who leads it, and how far it is uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionState {
    /// The broker that assigns offsets.
    pub leader: BrokerId,
    /// The leader's epoch; 1 at first, and raised at every change of journal.
    pub leader_epoch: LeaderEpoch,
    /// Where epochs begin, ascending; never empty. The last one's journal is `journal`.
    pub epochs: Vec<EpochStart>,
    /// The journal that appends go to.
    pub journal: JournalId,
    /// The first offset that may be read.
    pub log_start: Offset,
    /// The upload frontier: everything below it is in committed objects, or lost.
    pub frontier: Offset,
    /// Bytes of record batches in its extents. Those below the log start count until they are removed, which `trims` of
    /// the image tells.
    pub bytes: u64,
}

impl PartitionState {
    /// What offsets are reserved from: the upload frontier, or the last restart after a loss when that is further on.
    #[must_use]
    pub fn reserve_base(&self) -> Offset {
        let restart = self.epochs.iter().rev().find(|epoch| epoch.after_loss);
        restart.map_or(self.frontier, |epoch| epoch.start.max(self.frontier))
    }

    /// The leader assigns offsets only below this one ([`OFFSET_RESERVE`]).
    #[must_use]
    pub fn assign_limit(&self) -> Offset {
        self.reserve_base().after(OFFSET_RESERVE)
    }

    /// Where the current leader epoch begins. A leader that finds nothing of the partition in its journal goes on here.
    #[must_use]
    pub fn epoch_start(&self) -> Offset {
        self.epochs.last().map_or(self.frontier, |epoch| epoch.start.max(self.frontier))
    }

    /// Where the frontier goes on to when what lies there is lost: beyond epochs whose journals are all drained, to the
    /// start of one that is marked so.
    pub(crate) fn beyond_loss(&self, is_drained: impl Fn(JournalId) -> bool) -> Option<Offset> {
        let mut frontier = self.frontier;
        loop {
            let at = self.epochs.partition_point(|epoch| epoch.start <= frontier);
            let Some(next) = self.epochs.get(at) else { break };
            // Before the first epoch that is kept, its own journal stands for those that are forgotten.
            let here = &self.epochs[at.saturating_sub(1)];
            if !next.after_loss || !is_drained(here.journal) {
                break;
            }
            frontier = next.start;
        }
        (frontier > self.frontier).then_some(frontier)
    }

    /// The index in `epochs` of the one that `offset` belongs to.
    pub(crate) fn epoch_of(&self, offset: Offset) -> Option<usize> {
        self.epochs.partition_point(|epoch| epoch.start <= offset).checked_sub(1)
    }
}

/// How a journal stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JournalState {
    /// Its owner appends.
    Open,
    /// `by` recovers it under a fencing epoch.
    Recovering {
        /// The epoch that members are fenced with.
        epoch: u64,
        /// Who recovers.
        by: BrokerId,
    },
    /// It ended: nothing from `end` on was acknowledged or will be served.
    Sealed {
        /// The position after its last byte.
        end: Position,
    },
    /// It ended, and nothing of it will be uploaded any more, because everything is, or because the rest is lost: members
    /// delete it.
    Drained,
}

/// What the last committed object of a journal said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastCommit {
    /// The object, by which a repeated commit is known.
    pub object: Uuid,
    /// When it was committed.
    pub at: Timestamp,
    /// When the newest record in it was appended.
    pub newest_append: Timestamp,
    /// How far the journal was durable then: what may be missed when its disks are lost.
    pub durable_seen: Position,
}

/// A journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    /// Its id; never used twice.
    pub id: JournalId,
    /// The broker that appends to it.
    pub owner: BrokerId,
    /// The owner's incarnation that opened it.
    pub incarnation: Incarnation,
    /// The brokers that hold it, the owner among them. They never change.
    pub members: Vec<BrokerId>,
    /// How many members must have a byte on stable storage.
    pub ack_quorum: u8,
    /// How it stands.
    pub state: JournalState,
    /// The highest fencing epoch that was given out for it; 0 while nobody recovered it.
    pub epoch: u64,
    /// Where its partitions went when it was sealed.
    pub successor: Option<JournalId>,
    /// The upload frontier: everything below it is in committed objects.
    pub uploaded: Position,
    /// When it was opened.
    pub opened_at: Timestamp,
    /// When it was sealed.
    pub sealed_at: Option<Timestamp>,
    /// What its last committed object said; before the first one, a nil object and the time of the opening.
    pub last_commit: LastCommit,
    /// Where its owner stopped, when it closed the journal before it was sealed.
    pub closed: Option<Position>,
    /// Where it ended, when what lay between `uploaded` and there was lost.
    pub lost: Option<Position>,
}

impl Journal {
    /// Its end, once it has one.
    #[must_use]
    pub fn end(&self) -> Option<Position> {
        match self.state {
            JournalState::Open | JournalState::Recovering { .. } => None,
            JournalState::Sealed { end } => Some(end),
            JournalState::Drained => Some(self.lost.unwrap_or(self.uploaded)),
        }
    }
}

/// A topic that was deleted and whose extents are not all removed yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeletedTopic {
    /// How many partitions it had.
    pub partitions: u32,
    /// When it was deleted.
    pub at: Timestamp,
}

/// The next numbers to give out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) broker: BrokerId,
    pub(crate) journal: JournalId,
    pub(crate) producer: ProducerId,
}

/// The cluster as the last committed batch of commands left it.
///
/// It is shared as `Arc<Image>` and never changes; what a batch does not touch is shared with the image before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The cluster's id.
    pub cluster_id: Uuid,
    /// Grows by one with every committed batch of changes.
    pub revision: u64,
    /// All brokers that ever registered.
    pub brokers: BTreeMap<BrokerId, Arc<Broker>>,
    /// All topics.
    pub topics: HashMap<TopicId, Arc<Topic>>,
    /// Topics by name.
    pub by_name: HashMap<Arc<str>, TopicId>,
    /// All journals, drained ones until they are forgotten.
    pub journals: BTreeMap<JournalId, Arc<Journal>>,
    /// Dynamic configuration: of all brokers (`None`) or of one.
    pub broker_configs: BTreeMap<Option<BrokerId>, Arc<Configs>>,
    /// The bounds.
    pub limits: Limits,
    /// Topics that are deleted, while their extents are being removed.
    pub deleted: BTreeMap<TopicId, DeletedTopic>,
    /// Partitions whose log start moved, while extents below it are being removed.
    pub trims: BTreeSet<TopicPartition>,
    pub(crate) counters: Counters,
    /// Topics whose names clash when `.` and `_` are taken for the same, by the name with `_` for `.`.
    pub(crate) by_flat_name: HashMap<String, TopicId>,
    pub(crate) partition_count: usize,
}

impl Image {
    /// A cluster in which nothing has happened yet.
    #[must_use]
    pub fn new(cluster_id: Uuid, limits: Limits) -> Self {
        Self {
            cluster_id,
            revision: 0,
            brokers: BTreeMap::new(),
            topics: HashMap::new(),
            by_name: HashMap::new(),
            journals: BTreeMap::new(),
            broker_configs: BTreeMap::new(),
            limits,
            deleted: BTreeMap::new(),
            trims: BTreeSet::new(),
            counters: Counters { broker: BrokerId(1), journal: JournalId(1), producer: ProducerId(1) },
            by_flat_name: HashMap::new(),
            partition_count: 0,
        }
    }

    /// The topic of this name.
    #[must_use]
    pub fn topic(&self, name: &str) -> Option<&Arc<Topic>> {
        self.topics.get(self.by_name.get(name)?)
    }

    /// The state of a partition.
    #[must_use]
    pub fn partition(&self, of: TopicPartition) -> Option<&Arc<PartitionState>> {
        self.topics.get(&of.topic)?.partition(of.partition)
    }

    /// The broker of this name.
    #[must_use]
    pub fn broker(&self, name: &str) -> Option<&Arc<Broker>> {
        self.brokers.values().find(|broker| &*broker.name == name)
    }

    /// How many partitions there are.
    #[must_use]
    pub fn partition_count(&self) -> usize {
        self.partition_count
    }

    /// The cluster-wide dynamic broker configuration, and that of one broker over it.
    #[must_use]
    pub fn broker_config(&self, broker: BrokerId) -> Configs {
        let mut configs = self.broker_configs.get(&None).map(|all| (**all).clone()).unwrap_or_default();
        if let Some(own) = self.broker_configs.get(&Some(broker)) {
            configs.extend(own.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        configs
    }

    /// The id that the next journal will get: no journal of this cluster has it, or a higher one.
    #[must_use]
    pub fn next_journal(&self) -> JournalId {
        self.counters.journal
    }

    /// Whether a journal is gone or drained: it holds nothing any more that is not in committed objects.
    #[must_use]
    pub fn is_drained(&self, journal: JournalId) -> bool {
        self.journals.get(&journal).is_none_or(|journal| journal.state == JournalState::Drained)
    }
}
