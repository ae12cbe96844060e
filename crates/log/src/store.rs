//! All partitions of this broker, and what they share: the journal, the segments on disk, the object store, the budget
//! of bytes in memory.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use journal::{Catalog, Depth, Staging, Writer};
use metadata::Command;
use parking_lot::RwLock;
use records::{Batch, BrokerId, Clock, Incarnation, JournalId, Random, Timestamp, TopicPartition};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::commit::{Shared, Token};
use crate::metrics::Metrics;
use crate::partition::{AppendError, Appended, Partition, Sink, Start};
use crate::producers::Producers;
use crate::snapshot::{self, SnapshotRef};

/// How the log works; every size in bytes.
#[derive(Debug, Clone)]
pub struct Options {
    /// Folder on local SSD.
    pub staging: Staging,
    /// How closely what lies there is looked at first.
    pub depth: Depth,
    /// A segment is sealed before it grows beyond this.
    pub segment_bytes: u64,
    /// A segment is sealed this long after its first byte.
    pub seal_interval: Duration,
    /// What may lie on the staging disk and not in the object store; beyond it, appends slow and are then refused.
    pub staging_bytes_max: u64,
    /// How many batches those may be: the index of each costs some 32 bytes of memory.
    pub staged_batches_max: u64,
    /// The newest batches kept in memory for readers.
    pub tail_bytes_max: usize,
    /// Batches that were received and are not committed.
    pub inflight_bytes_max: usize,
    /// Objects that are put at once; one always is.
    pub uploads_bytes_max: u64,
    /// How long an append waits for room before it is refused.
    pub admission_timeout: Duration,
    /// Idempotent producers remembered per partition.
    pub producers_max: usize,
    /// How long an idle idempotent producer is remembered.
    pub producer_expiration: Duration,
    /// How often partitions are looked at for records that are too old or too many.
    pub retention_check_interval: Duration,
}

/// Who this broker is, as the metadata knows it.
#[derive(Debug, Clone, Copy)]
pub struct Identity {
    /// Its id.
    pub broker: BrokerId,
    /// Its incarnation.
    pub incarnation: Incarnation,
}

/// Why a partition cannot be used here.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
pub enum PartitionError {
    /// There is no such topic or partition.
    #[error("there is no such topic or partition")]
    Unknown,
    /// Another broker leads it.
    #[error("another broker leads the partition")]
    NotLeader,
}

/// Bodies of batches below this are copied for the tail: they are slices of larger requests, which they would keep in
/// memory whole. Copying these costs less than their journal entry does.
const COPIED_BELOW_BYTES: usize = 16 << 10;

/// How long a log that closes tries to write down where its journal ended, at least.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// The log of one broker. A clone is the same log; when the last one goes without [`Log::close`], its tasks end and
/// nothing more is uploaded.
#[derive(Clone)]
pub struct Log {
    pub(crate) inner: Arc<Inner>,
    /// None in the log's own tasks.
    _owner: Option<Arc<DropGuard>>,
}

pub(crate) struct Inner {
    pub(crate) options: Options,
    pub(crate) identity: Identity,
    pub(crate) metadata: metadata::Handle,
    pub(crate) objects: objects::Store,
    /// The folder of this cluster's objects.
    pub(crate) cluster: String,
    pub(crate) reader: objects::cache::Reader,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    pub(crate) metrics: Metrics,
    pub(crate) journal_id: JournalId,
    pub(crate) journal: Writer<Token>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) partitions: RwLock<HashMap<TopicPartition, Arc<Partition>>>,
    /// What recovery found of producers, until their partition is opened.
    pub(crate) recovered: parking_lot::Mutex<HashMap<TopicPartition, Producers>>,
    pub(crate) inflight: Arc<Semaphore>,
    /// What the journal's thread tells.
    pub(crate) shared: Arc<Shared>,
    /// Woken when less is on the staging disk and nowhere else.
    pub(crate) unstaged: Notify,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl Log {
    pub(crate) fn new(inner: Inner) -> Self {
        let owner = Some(Arc::new(inner.stop.clone().drop_guard()));
        Self { inner: Arc::new(inner), _owner: owner }
    }

    /// The same log for one of its own tasks, which do not keep it from ending.
    pub(crate) fn for_task(&self) -> Self {
        Self { inner: self.inner.clone(), _owner: None }
    }

    /// The partition, if this broker leads it.
    ///
    /// # Errors
    /// [`PartitionError`].
    pub fn partition(&self, id: TopicPartition) -> Result<Arc<Partition>, PartitionError> {
        if let Some(partition) = self.inner.partitions.read().get(&id).filter(|partition| !partition.is_closed()) {
            return Ok(partition.clone());
        }
        self.open_partition(id)
    }

    fn open_partition(&self, id: TopicPartition) -> Result<Arc<Partition>, PartitionError> {
        let inner = &self.inner;
        let mut partitions = inner.partitions.write();
        // Read under the lock: a topic deleted meanwhile is swept after it was opened, or is not found here.
        let image = inner.metadata.image();
        let state = image.partition(id).ok_or(PartitionError::Unknown)?;
        if inner.stop.is_cancelled() {
            // What this partition was is gone from memory, and its journal has ended.
            return Err(PartitionError::NotLeader);
        }
        if state.leader != inner.identity.broker || state.journal != inner.journal_id {
            return Err(PartitionError::NotLeader);
        }
        if let Some(partition) = partitions.get(&id).filter(|partition| !partition.is_closed()) {
            return Ok(partition.clone());
        }
        let (leader_epoch, epoch_start) = (state.leader_epoch, state.epoch_start());
        let producers = inner.recovered.lock().remove(&id).unwrap_or_default();
        let start = Start {
            leader_epoch,
            log_start: state.log_start,
            frontier: state.frontier,
            assign_limit: state.assign_limit(),
            next_offset: epoch_start.max(state.frontier),
            producers,
            producers_max: inner.options.producers_max,
            older: (state.frontier.0 > 0).then_some(SnapshotRef { below: state.frontier }),
        };
        let partition = Arc::new(Partition::new(id, start));
        partitions.insert(id, partition.clone());
        Ok(partition)
    }

    /// The partitions that are open, in no order.
    #[must_use]
    pub fn open_partitions(&self) -> Vec<Arc<Partition>> {
        self.inner.partitions.read().values().cloned().collect()
    }

    /// Waits for room in memory and on the staging disk. What is waited for is the room that a batch will take up until
    /// it is committed. Cancellation safe.
    ///
    /// # Errors
    /// [`AppendError::Busy`] when there is no room in time.
    pub async fn admit(&self, bytes: usize) -> Result<OwnedSemaphorePermit, AppendError> {
        let inner = &self.inner;
        // A batch larger than the whole budget takes all of it, and travels alone.
        let bytes = u32::try_from(bytes.min(inner.options.inflight_bytes_max)).map_err(|_| AppendError::Busy)?;
        let room = async {
            loop {
                let unstaged = inner.unstaged.notified();
                let staged_batches = inner.shared.staged_batches.load(Ordering::Acquire);
                if self.staged_bytes() < inner.options.staging_bytes_max
                    && staged_batches < inner.options.staged_batches_max
                {
                    break;
                }
                unstaged.await;
            }
            inner.inflight.clone().acquire_many_owned(bytes).await
        };
        let admitted = tokio::select! {
            biased;
            () = inner.shared.failed.cancelled() => return Err(AppendError::JournalEnded),
            admitted = tokio::time::timeout(inner.options.admission_timeout, room) => admitted,
        };
        match admitted {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(AppendError::JournalEnded),
            Err(_) => Err(AppendError::Busy),
        }
    }

    /// Makes sure that what is needed to judge this producer's batches is in memory. Cancellation safe.
    ///
    /// # Errors
    /// [`AppendError::Busy`] when the object store cannot be read now.
    pub async fn load_producers(&self, partition: &Partition) -> Result<(), AppendError> {
        if let Some(older) = partition.older_producers() {
            let producers = snapshot::load(&self.inner, partition.id(), &older).await.map_err(|error| {
                tracing::warn!(%error, partition = %partition.id(), "the producers' snapshot cannot be read");
                AppendError::Busy
            })?;
            partition.add_older_producers(producers);
        }
        Ok(())
    }

    /// Appends a batch that was checked. Does not wait: the order of calls is the order of offsets.
    /// `log_append_time` is the time to stamp it with, where the topic wants the broker's. For a batch of an idempotent
    /// producer, [`Log::load_producers`] came before.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was appended then.
    pub fn append(
        &self,
        partition: &Arc<Partition>,
        mut batch: Batch,
        log_append_time: Option<Timestamp>,
        permit: OwnedSemaphorePermit,
    ) -> Result<Appended, AppendError> {
        if let Some(now) = log_append_time {
            batch.stamp_log_append_time(now);
        }
        let tail = if batch.body().len() < COPIED_BELOW_BYTES {
            Batch::decode(batch.to_bytes()).expect("a batch encodes to a batch")
        } else {
            batch.clone()
        };
        let sink = Sink { journal: &self.inner.journal, failed: &self.inner.shared.failed };
        let appended = partition.append(batch, tail, self.inner.clock.now(), permit, sink)?;
        Ok(Appended { log_append_time, ..appended })
    }

    /// Whether appends can be taken.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.inner.journal.is_open() && !self.inner.shared.failed.is_cancelled()
    }

    /// How long the staging disk has been writing or syncing one group: a disk that hangs shows here.
    #[must_use]
    pub fn waits_for_disk(&self) -> Duration {
        self.inner.journal.waits_for()
    }

    /// Waits until the journal has failed: from then on nothing is appended, and reading goes on. Cancellation safe.
    pub async fn failed(&self) {
        self.inner.shared.failed.cancelled().await;
    }

    /// Whether the staging disk would take a new journal.
    ///
    /// # Errors
    /// What the disk says.
    pub async fn probe(&self) -> std::io::Result<()> {
        let (staging, bytes) = (self.inner.options.staging.clone(), self.inner.options.segment_bytes);
        tokio::task::spawn_blocking(move || staging.probe(bytes)).await.map_err(std::io::Error::other)?
    }

    /// Bytes on the staging disk and not in the object store.
    #[must_use]
    pub fn staged_bytes(&self) -> u64 {
        self.inner.shared.staged.load(Ordering::Acquire)
    }

    /// Seals what was appended so far, so that it is uploaded now.
    pub fn seal(&self) {
        self.inner.journal.roll();
    }

    /// Bytes of one partition that lie on the staging disk and not in the object store.
    #[must_use]
    pub fn staged_bytes_of(&self, id: TopicPartition) -> u64 {
        self.inner.catalog.staged_bytes_of(id)
    }

    /// The staging folder.
    #[must_use]
    pub fn staging(&self) -> &std::path::Path {
        self.inner.options.staging.path()
    }

    /// All bytes of the staging disk, and those that are free.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn disk_space(&self) -> std::io::Result<(u64, u64)> {
        self.inner.options.staging.space()
    }

    /// What the log counts.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// Takes in the newest metadata now, for one who just changed it.
    pub fn refresh(&self) {
        self.follow();
    }

    /// Follows the metadata: closes partitions that were deleted, moves log starts and frontiers.
    pub(crate) fn follow(&self) {
        let inner = &self.inner;
        let leads = |state: &metadata::PartitionState| {
            state.leader == inner.identity.broker && state.journal == inner.journal_id
        };
        let image = inner.metadata.image();
        let mut gone = Vec::new();
        for partition in inner.partitions.read().values() {
            match image.partition(partition.id()).filter(|state| leads(state)) {
                Some(state) => partition.update(state.log_start, state.frontier, state.assign_limit()),
                None => gone.push(partition.id()),
            }
        }
        if gone.is_empty() {
            return;
        }
        let mut partitions = inner.partitions.write();
        // Looked at again under the lock under which partitions are opened: one that was created after the image above
        // must not be closed by it. Opened again, it would assign the same offsets twice.
        let image = inner.metadata.image();
        for id in gone {
            if image.partition(id).is_some_and(|state| leads(state)) {
                continue;
            }
            if let Some(partition) = partitions.remove(&id) {
                partition.close();
            }
        }
    }

    /// Ends the log: as [`Log::retire`], and reading ends too.
    pub async fn close(self, deadline: Duration) -> u64 {
        let left = self.retire(deadline).await;
        self.end();
        left
    }

    /// Nothing is read any more; whoever waits is told to ask again.
    pub fn end(&self) {
        for partition in self.inner.partitions.write().drain() {
            partition.1.close();
        }
    }

    /// Takes no more appends, commits those it took, uploads everything if the store lets it within `deadline`, and
    /// ends the log's tasks. What is committed can still be read.
    ///
    /// Returns the bytes that are left on the staging disk for the next start.
    pub async fn retire(&self, deadline: Duration) -> u64 {
        let inner = self.inner.clone();
        let closer = inner.clone();
        let closed = tokio::task::spawn_blocking(move || closer.journal.close()).await;
        if closed.is_err() {
            tracing::error!("closing the journal failed");
        }
        let uploaded = async {
            loop {
                let unstaged = inner.unstaged.notified();
                // The segment that a failed journal ends in is not sealed: the next start looks at it.
                if !inner.catalog.staged().iter().any(|segment| segment.is_sealed()) {
                    break;
                }
                unstaged.await;
            }
        };
        let deadline = tokio::time::Instant::now() + deadline;
        let _ = tokio::time::timeout_at(deadline, uploaded).await;
        {
            // Also of a journal that failed: what lies above is not known to be durable, and was never acknowledged.
            let close = Command::CloseJournal { journal: inner.journal_id, end: inner.journal.committed() };
            // Also with a deadline of nothing: it is one small write.
            let deadline = deadline.max(tokio::time::Instant::now() + CLOSE_TIMEOUT);
            match tokio::time::timeout_at(deadline, inner.metadata.submit(close)).await {
                Ok(Ok(_)) => {}
                Ok(Err(error)) => tracing::warn!(%error, "that the journal is closed could not be written down"),
                Err(_) => tracing::warn!("that the journal is closed could not be written down in time"),
            }
        }
        inner.stop.cancel();
        inner.tasks.close();
        inner.tasks.wait().await;
        inner.catalog.usage().staged_bytes
    }
}
