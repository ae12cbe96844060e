//! One partition on its leader: offsets are assigned here, under its lock, in the order of the journal.
//!
//! ```text
//! log start ≤ frontier ≤ high watermark ≤ next offset
//!            (in objects)  (committed)    (handed to the journal)
//! ```

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use parking_lot::Mutex;
use records::{Batch, LeaderEpoch, Offset, Timestamp, TopicPartition};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio_util::sync::CancellationToken;

use crate::Token;
use crate::fetch::Forward;
use crate::producers::{Producers, SequenceError, Verdict};
use crate::snapshot::SnapshotRef;
use crate::tail::Tail;
use crate::waiter::{Waiter, Waiters};

/// Readers of one partition's objects whose direction is remembered.
const READERS_MAX: usize = 16;

/// Why a batch was not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// This broker does not lead the partition (any more): ask for the leader and try there.
    #[error("this broker no longer leads the partition")]
    NotLeader,
    /// The idempotent producer's sequence does not follow.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// Too much waits to be stored: try again later.
    #[error("too much waits to be stored")]
    Busy,
    /// The staging disk failed; nothing is appended until the broker has a new journal.
    #[error("the journal has ended")]
    JournalEnded,
}

/// Where a batch was put.
#[derive(Debug)]
pub struct Appended {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// First offset of the partition that is not deleted.
    pub log_start: Offset,
    /// When the broker set the time (`LogAppendTime`): that time.
    pub log_append_time: Option<Timestamp>,
    /// Resolves when the batch is committed, J2: only then may the producer be answered. An error means that the
    /// outcome is unknown. May be dropped at any time; the append goes on.
    pub committed: oneshot::Receiver<()>,
}

/// One partition that this broker leads.
#[derive(Debug)]
pub struct Partition {
    id: TopicPartition,
    leader_epoch: LeaderEpoch,
    state: Mutex<State>,
    high_watermark: AtomicI64,
    log_start: AtomicI64,
    frontier: AtomicI64,
    assign_limit: AtomicI64,
    closed: AtomicBool,
    producers_max: usize,
    waiters: Waiters,
    /// Readers of the object store that go forward, by where each reads next.
    forwards: Mutex<VecDeque<(Offset, Forward)>>,
}

#[derive(Debug)]
struct State {
    next_offset: Offset,
    tail: Tail,
    producers: Producers,
    /// A snapshot that `producers` builds upon and that was not read yet.
    older: Option<SnapshotRef>,
    /// Who waits for which high watermark, in its order. The permit bounds what is in memory and not committed.
    waiting: VecDeque<(Offset, oneshot::Sender<()>, Option<OwnedSemaphorePermit>)>,
}

/// Where a partition begins under this leader.
#[derive(Debug)]
pub(crate) struct Start {
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) log_start: Offset,
    pub(crate) frontier: Offset,
    pub(crate) assign_limit: Offset,
    pub(crate) next_offset: Offset,
    pub(crate) producers: Producers,
    pub(crate) producers_max: usize,
    pub(crate) older: Option<SnapshotRef>,
}

/// The journal, as an append sees it.
#[derive(Clone, Copy)]
pub(crate) struct Sink<'a> {
    pub(crate) journal: &'a journal::Writer<Token>,
    /// Cancelled when the journal ended by a failure: what was not committed by then never will be.
    pub(crate) failed: &'a CancellationToken,
}

impl Partition {
    pub(crate) fn new(id: TopicPartition, start: Start) -> Self {
        assert!(
            start.frontier <= start.next_offset,
            "{id}: frontier {} above the end {}",
            start.frontier,
            start.next_offset
        );
        Self {
            id,
            leader_epoch: start.leader_epoch,
            state: Mutex::new(State {
                next_offset: start.next_offset,
                tail: Tail::default(),
                producers: start.producers,
                older: start.older,
                waiting: VecDeque::new(),
            }),
            // All that was there before this leader is committed: recovery saw to it (R1).
            high_watermark: AtomicI64::new(start.next_offset.0),
            log_start: AtomicI64::new(start.log_start.0),
            frontier: AtomicI64::new(start.frontier.0),
            assign_limit: AtomicI64::new(start.assign_limit.0),
            closed: AtomicBool::new(false),
            producers_max: start.producers_max,
            waiters: Waiters::default(),
            forwards: Mutex::default(),
        }
    }

    /// Which partition it is.
    #[must_use]
    pub fn id(&self) -> TopicPartition {
        self.id
    }

    /// The epoch under which this broker leads it.
    #[must_use]
    pub fn leader_epoch(&self) -> LeaderEpoch {
        self.leader_epoch
    }

    /// The first offset that is not committed yet; readers see what is below.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        Offset(self.high_watermark.load(Ordering::Acquire))
    }

    /// The offset the next record will get.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.state.lock().next_offset
    }

    /// The last stable offset: no transactions yet, so it is the high watermark.
    #[must_use]
    pub fn last_stable_offset(&self) -> Offset {
        self.high_watermark()
    }

    /// The first offset that is not deleted.
    #[must_use]
    pub fn log_start(&self) -> Offset {
        Offset(self.log_start.load(Ordering::Acquire))
    }

    /// The first offset that is not in a committed object.
    #[must_use]
    pub fn frontier(&self) -> Offset {
        Offset(self.frontier.load(Ordering::Acquire))
    }

    /// A copy of what is remembered of its producers.
    #[must_use]
    pub fn producers(&self) -> Producers {
        self.state.lock().producers.clone()
    }

    /// Wakes `waiter` at the next change of the high watermark, or when the partition closes.
    pub fn notify(&self, waiter: &Arc<Waiter>) {
        self.waiters.add(waiter);
        if self.is_closed() {
            // It may have closed just before: then nobody else wakes them.
            self.waiters.wake();
        }
    }

    pub(crate) fn older_producers(&self) -> Option<SnapshotRef> {
        self.state.lock().older
    }

    /// The snapshot was read. Reading it twice at once does no harm: the first one in settles it.
    pub(crate) fn add_older_producers(&self, producers: Producers) {
        let mut state = self.state.lock();
        if state.older.take().is_some() {
            state.producers.add_older(producers);
        }
    }

    /// Assigns offsets and hands the batch to the journal, in one step under the lock, so that the order of offsets is
    /// the order of the journal. At `assign_limit` it waits for the upload (decision 0001).
    ///
    /// `tail` is the same batch, in memory that nothing else shares, or `batch` again where sharing is no waste.
    pub(crate) fn append(
        self: &Arc<Self>,
        mut batch: Batch,
        mut tail: Batch,
        at: Timestamp,
        permit: OwnedSemaphorePermit,
        sink: Sink<'_>,
    ) -> Result<Appended, AppendError> {
        let (sender, committed) = oneshot::channel();
        let mut state = self.state.lock();
        if self.closed.load(Ordering::Acquire) {
            return Err(AppendError::NotLeader);
        }
        if sink.failed.is_cancelled() {
            // Asked under the lock: who comes later than `fail` must not wait for a commit that never comes.
            return Err(AppendError::JournalEnded);
        }
        assert!(state.older.is_none() || batch.header().producer_id.0 < 0, "the producers' snapshot was read before");
        if let Verdict::Duplicate(past) = state.producers.check(batch.header())? {
            // The first one may still be in flight: the repeat is answered when that is committed, not before (J2).
            if past.next_offset <= self.high_watermark() {
                let _ = sender.send(());
            } else {
                let at = state.waiting.partition_point(|(offset, ..)| *offset <= past.next_offset);
                state.waiting.insert(at, (past.next_offset, sender, None));
            }
            return Ok(Appended {
                base_offset: past.base_offset,
                log_start: self.log_start(),
                log_append_time: None,
                committed,
            });
        }
        let base_offset = state.next_offset;
        let next_offset = base_offset.after(i64::from(batch.header().last_offset_delta) + 1);
        if next_offset > Offset(self.assign_limit.load(Ordering::Acquire)) {
            return Err(AppendError::Busy);
        }
        batch.assign(base_offset, self.leader_epoch);
        tail.assign(base_offset, self.leader_epoch);
        let token = Token { partition: self.clone(), next_offset, bytes: batch.len() };
        sink.journal.append(self.id, batch, token).map_err(|error| match error {
            journal::AppendError::Full => AppendError::Busy,
            journal::AppendError::Ended => AppendError::JournalEnded,
        })?;
        state.next_offset = next_offset;
        state.producers.applied(tail.header(), at);
        if state.producers.len() > self.producers_max + self.producers_max / 8 {
            state.producers.expire(Timestamp(i64::MIN), self.producers_max);
        }
        state.waiting.push_back((next_offset, sender, Some(permit)));
        state.tail.push(tail);
        Ok(Appended { base_offset, log_start: self.log_start(), log_append_time: None, committed })
    }

    /// Everything below `next_offset` is committed: producers are answered, readers wake.
    pub(crate) fn committed(&self, next_offset: Offset) {
        let mut state = self.state.lock();
        assert!(next_offset <= state.next_offset, "{}: commit of {next_offset} above the end", self.id);
        let before = self.high_watermark.swap(next_offset.0, Ordering::AcqRel);
        assert!(before <= next_offset.0, "{}: the high watermark moved back from {before} to {next_offset}", self.id);
        while state.waiting.front().is_some_and(|(offset, ..)| *offset <= next_offset) {
            if let Some((_, sender, _)) = state.waiting.pop_front() {
                // Nobody waits where the producer asked for no acknowledgement or went away.
                let _ = sender.send(());
            }
        }
        drop(state);
        self.waiters.wake();
    }

    /// Forgets producers that are idle, or too many.
    pub(crate) fn expire_producers(&self, before: Timestamp) {
        self.state.lock().producers.expire(before, self.producers_max);
    }

    pub(crate) fn evict(&self, below: Offset) {
        self.state.lock().tail.evict(below);
    }

    pub(crate) fn read_tail(&self, from: Offset, up_to: Offset, bytes_max: usize) -> Option<Vec<Batch>> {
        let state = self.state.lock();
        let first = state.tail.first()?;
        (first <= from).then(|| state.tail.read(from, up_to, bytes_max))
    }

    /// The state of the reader that reads on at `offset`; that of a new one if there is none.
    pub(crate) fn take_forward(&self, offset: Offset) -> Forward {
        let mut known = self.forwards.lock();
        let at = known.iter().position(|(next, _)| *next == offset);
        at.and_then(|at| known.remove(at)).map_or_else(Forward::default, |(_, reader)| reader)
    }

    pub(crate) fn keep_forward(&self, next: Offset, reader: Forward) {
        let mut known = self.forwards.lock();
        if known.len() == READERS_MAX {
            known.pop_front();
        }
        known.push_back((next, reader));
    }

    #[cfg(test)]
    pub(crate) fn tail_bytes(&self) -> usize {
        self.state.lock().tail.bytes()
    }

    /// Leaves a hole, which only a test may do.
    #[cfg(test)]
    pub(crate) fn set_next_offset(&self, offset: Offset) {
        let mut state = self.state.lock();
        state.tail = Tail::default();
        state.next_offset = offset;
    }

    /// Takes in what the metadata says; all of it only ever grows.
    pub(crate) fn update(&self, log_start: Offset, frontier: Offset, assign_limit: Offset) {
        self.assign_limit.fetch_max(assign_limit.0, Ordering::AcqRel);
        self.log_start.fetch_max(log_start.0, Ordering::AcqRel);
        let before = self.frontier.fetch_max(frontier.0, Ordering::AcqRel);
        debug_assert!(before.max(frontier.0) <= self.high_watermark().0, "J1: uploaded above committed");
    }

    /// The partition was deleted, is led elsewhere, or the log stops: whoever waits is told that the outcome is unknown,
    /// for what they appended may yet be committed.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.state.lock().waiting.clear();
        self.waiters.wake();
    }

    /// The journal failed: what is not committed now never will be in this process. Recovery may still find it on the
    /// disk, so whoever waits is told that the outcome is unknown. Readers go on.
    pub(crate) fn fail(&self) {
        self.state.lock().waiting.clear();
    }

    /// Whether it takes no more appends.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }
}
