//! What was fetched and not yet handed out, and where each partition stands. Shared by the consumer and its
//! [fetcher](super::fetcher); bounded by what the fetcher asks for.
//!
//! Record batches stay as they came until they are handed out: one batch at a time is checked and inflated.

use std::collections::{BTreeMap, HashSet, VecDeque};

use bytes::Bytes;
use parking_lot::Mutex;
use records::{Batch, BatchError, ControlType, Offset, Records};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Record;
use crate::{Error, TopicPartition};

/// A run of batches from one answer.
struct Chunk {
    bytes: Bytes,
    /// Producers of aborted transactions, by first offset; only for readers of what is committed.
    aborted: VecDeque<(i64, Offset)>,
}

/// What keeps a partition from being fetched.
#[derive(Debug, Clone)]
pub(super) enum Fault {
    /// The position is not in the log.
    OutOfRange,
    /// Fetching goes on only after the caller has seen it.
    Failed(Error),
}

/// Where a partition stands.
#[derive(Default)]
pub(super) struct Slot {
    /// The next offset to hand out; none until it is known where to start.
    position: Option<Offset>,
    /// The next offset to fetch.
    fetch_at: Offset,
    /// Changes when the position is set: answers to what was asked before are dropped.
    version: u64,
    pub(super) paused: bool,
    chunks: VecDeque<Chunk>,
    open: Option<Open>,
    bytes: usize,
    fetching: bool,
    failures: u32,
    not_before: Option<Instant>,
    fault: Option<Fault>,
    /// As the last answer told it.
    end: Option<Offset>,
    /// Producers whose transaction here was aborted, until its marker comes.
    aborted_now: HashSet<i64>,
}

/// A batch that is being handed out.
struct Open {
    records: Records,
    next_offset: Offset,
}

#[derive(Default)]
struct State {
    slots: BTreeMap<TopicPartition, Slot>,
    next_version: u64,
    /// Who is handed out first, so that all get their turn.
    first: usize,
}

/// See the module.
#[derive(Default)]
pub(super) struct Buffer {
    state: Mutex<State>,
    /// Tells the fetcher that there may be something to ask for.
    pub(super) wanted: Notify,
    /// Tells the consumer that there is something to hand out, or a fault.
    pub(super) arrived: Notify,
}

/// A partition to be fetched.
#[derive(Debug, Clone)]
pub(super) struct Want {
    pub(super) partition: TopicPartition,
    pub(super) at: Offset,
    pub(super) version: u64,
}

/// What came for a partition.
pub(super) struct Got {
    pub(super) bytes: Bytes,
    pub(super) aborted: Vec<(i64, Offset)>,
    pub(super) end: Offset,
}

impl Buffer {
    /// Makes these the partitions. Those that stay keep their place and what was fetched.
    pub(super) fn assign(&self, partitions: &[TopicPartition]) {
        let mut state = self.state.lock();
        let State { slots, next_version, .. } = &mut *state;
        slots.retain(|partition, _| partitions.contains(partition));
        for partition in partitions {
            slots.entry(partition.clone()).or_insert_with(|| {
                *next_version += 1;
                Slot { version: *next_version, ..Slot::default() }
            });
        }
        self.wanted.notify_one();
    }

    pub(super) fn partitions(&self) -> Vec<TopicPartition> {
        self.state.lock().slots.keys().cloned().collect()
    }

    /// The partitions for which it is not known where to start.
    pub(super) fn unplaced(&self) -> Vec<TopicPartition> {
        let state = self.state.lock();
        state.slots.iter().filter(|(_, slot)| slot.position.is_none()).map(|(partition, _)| partition.clone()).collect()
    }

    /// Goes on reading from an offset; what was fetched is dropped.
    pub(super) fn place(&self, partition: &TopicPartition, at: Option<Offset>) -> bool {
        let mut state = self.state.lock();
        let placed = state.place(partition, at);
        drop(state);
        self.wanted.notify_one();
        placed
    }

    pub(super) fn pause(&self, partition: &TopicPartition, paused: bool) -> bool {
        let mut state = self.state.lock();
        let Some(slot) = state.slots.get_mut(partition) else { return false };
        slot.paused = paused;
        if paused {
            // What nobody takes must not fill the buffer.
            let at = slot.position;
            state.place(partition, at);
        }
        drop(state);
        self.wanted.notify_one();
        self.arrived.notify_one();
        true
    }

    /// Where each partition stands.
    pub(super) fn positions(&self) -> Vec<(TopicPartition, Offset)> {
        let state = self.state.lock();
        state.slots.iter().filter_map(|(partition, slot)| Some((partition.clone(), slot.position?))).collect()
    }

    pub(super) fn position(&self, partition: &TopicPartition) -> Option<Offset> {
        self.state.lock().slots.get(partition)?.position
    }

    /// The end of a partition as the last answer told it.
    pub(super) fn end(&self, partition: &TopicPartition) -> Option<Offset> {
        self.state.lock().slots.get(partition)?.end
    }

    /// Partitions that could be fetched now, and when to look again for those that pause after a failure. At most
    /// `bytes_max` wait in all, at most `partition_bytes` in one partition, each beyond it by one answer.
    pub(super) fn wants(&self, bytes_max: usize, partition_bytes: usize, now: Instant) -> (Vec<Want>, Option<Instant>) {
        let state = self.state.lock();
        let buffered: usize = state.slots.values().map(|slot| slot.bytes).sum();
        let mut later: Option<Instant> = None;
        let mut found = Vec::new();
        for (partition, slot) in &state.slots {
            let room = slot.bytes < partition_bytes && buffered < bytes_max;
            if slot.position.is_none() || slot.paused || slot.fetching || slot.fault.is_some() || !room {
                continue;
            }
            match slot.not_before {
                Some(at) if at > now => later = Some(later.map_or(at, |other| other.min(at))),
                _ => found.push(Want { partition: partition.clone(), at: slot.fetch_at, version: slot.version }),
            }
        }
        (found, later)
    }

    /// Marks partitions as being fetched, or not any more.
    pub(super) fn fetching(&self, wants: &[Want], on: bool) {
        let mut state = self.state.lock();
        for want in wants {
            if let Some(slot) = state.slots.get_mut(&want.partition).filter(|slot| slot.version == want.version) {
                slot.fetching = on;
            }
        }
    }

    /// Takes what came, unless the reader has gone elsewhere since.
    pub(super) fn put(&self, want: &Want, got: Got) {
        let mut state = self.state.lock();
        let Some(slot) = state.slots.get_mut(&want.partition).filter(|slot| slot.version == want.version) else {
            return;
        };
        slot.failures = 0;
        slot.not_before = None;
        slot.end = Some(got.end);
        // Only whole batches count; the last one may be cut off.
        let mut rest = got.bytes.clone();
        let next = loop {
            match Batch::split_first(&mut rest) {
                Ok(Some(batch)) => slot.fetch_at = slot.fetch_at.max(batch.next_offset()),
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let whole = got.bytes.slice(..got.bytes.len() - rest.len());
        if !whole.is_empty() {
            slot.bytes += whole.len();
            slot.chunks.push_back(Chunk { bytes: whole, aborted: got.aborted.into() });
        }
        if let Err(source) = next {
            slot.fault = Some(Fault::Failed(damaged(&want.partition, slot.fetch_at, source)));
        }
        drop(state);
        self.arrived.notify_one();
    }

    /// Remembers that a partition could not be fetched: pauses, or waits for the caller.
    pub(super) fn failed(&self, want: &Want, fault: Option<Fault>, pause_until: impl FnOnce(u32) -> Instant) {
        let mut state = self.state.lock();
        let Some(slot) = state.slots.get_mut(&want.partition).filter(|slot| slot.version == want.version) else {
            return;
        };
        slot.not_before = Some(pause_until(slot.failures));
        slot.failures = slot.failures.saturating_add(1);
        let arrived = fault.is_some();
        slot.fault = fault.or(slot.fault.take());
        drop(state);
        if arrived {
            self.arrived.notify_one();
        }
    }

    /// Partitions whose position is gone.
    pub(super) fn out_of_range(&self) -> Vec<TopicPartition> {
        let state = self.state.lock();
        // What was fetched before is handed out first.
        let gone = |slot: &Slot| slot.bytes == 0 && matches!(slot.fault, Some(Fault::OutOfRange));
        state.slots.iter().filter(|(_, slot)| gone(slot)).map(|(partition, _)| partition.clone()).collect()
    }

    /// Hands out up to `count` records, each partition in its order.
    ///
    /// # Errors
    /// A partition's fault, once its records before are handed out. A failed fetch is then tried again.
    pub(super) fn take(&self, count: usize, inflated_max: usize, committed_only: bool) -> Result<Vec<Record>, Error> {
        let mut taken = Vec::new();
        let mut state = self.state.lock();
        let len = state.slots.len();
        if len == 0 {
            return Ok(taken);
        }
        state.first = (state.first + 1) % len;
        let order: Vec<TopicPartition> = state.slots.keys().cycle().skip(state.first).take(len).cloned().collect();
        let mut failure = None;
        for partition in order {
            let Some(slot) = state.slots.get_mut(&partition) else { continue };
            if slot.paused || taken.len() >= count {
                continue;
            }
            if let Err(error) = slot.take(&partition, &mut taken, count, inflated_max, committed_only) {
                failure = Some(error);
                // Read it again, from the same place: what is damaged is never stepped over.
                let at = slot.position;
                state.place(&partition, at);
                break;
            }
            if slot.bytes == 0
                && let Some(Fault::Failed(error)) = &slot.fault
            {
                failure = Some(error.clone());
                if taken.is_empty() {
                    slot.fault = None;
                }
                break;
            }
        }
        drop(state);
        self.wanted.notify_one();
        match failure {
            // First what is good; the fault is met again next time.
            Some(error) if taken.is_empty() => Err(error),
            _ => Ok(taken),
        }
    }
}

impl State {
    fn place(&mut self, partition: &TopicPartition, at: Option<Offset>) -> bool {
        self.next_version += 1;
        let version = self.next_version;
        let Some(slot) = self.slots.get_mut(partition) else { return false };
        *slot = Slot {
            position: at,
            fetch_at: at.unwrap_or_default(),
            version,
            paused: slot.paused,
            end: slot.end,
            aborted_now: std::mem::take(&mut slot.aborted_now),
            ..Slot::default()
        };
        true
    }
}

impl Slot {
    fn take(
        &mut self,
        partition: &TopicPartition,
        taken: &mut Vec<Record>,
        count: usize,
        inflated_max: usize,
        committed_only: bool,
    ) -> Result<(), Error> {
        let Some(mut position) = self.position else { return Ok(()) };
        let at_error = |position: Offset| move |source| damaged(partition, position, source);
        while taken.len() < count {
            if self.open.is_none() {
                let Some(open) = self.open_next(position, inflated_max, committed_only).map_err(at_error(position))?
                else {
                    break;
                };
                self.open = Some(open);
            }
            let Some(open) = &mut self.open else { break };
            match open.records.next() {
                Some(Ok(record)) if record.offset < position => {}
                Some(Ok(record)) => {
                    position = record.offset.after(1);
                    self.position = Some(position);
                    taken.push(Record {
                        topic: partition.topic.clone(),
                        partition: partition.partition,
                        offset: record.offset,
                        timestamp: record.timestamp,
                        key: record.key,
                        value: record.value,
                        headers: record.headers.iter().collect(),
                    });
                }
                Some(Err(source)) => {
                    self.open = None;
                    return Err(damaged(partition, position, source));
                }
                None => {
                    // Compaction may have taken the last records of the batch.
                    position = position.max(open.next_offset);
                    self.position = Some(position);
                    self.open = None;
                }
            }
        }
        Ok(())
    }

    /// The next batch with records to hand out. Moves over control batches and aborted ones.
    fn open_next(
        &mut self,
        position: Offset,
        inflated_max: usize,
        committed_only: bool,
    ) -> Result<Option<Open>, BatchError> {
        while let Some(chunk) = self.chunks.front_mut() {
            let before = chunk.bytes.len();
            let batch = Batch::split_first(&mut chunk.bytes)?;
            self.bytes -= before - chunk.bytes.len();
            let Some(batch) = batch else {
                self.bytes -= chunk.bytes.len();
                self.chunks.pop_front();
                continue;
            };
            batch.check_crc()?;
            let header = batch.header();
            let mut skipped = batch.next_offset() <= position || header.attributes.is_control();
            if committed_only {
                while chunk.aborted.front().is_some_and(|(_, first)| *first <= batch.last_offset()) {
                    self.aborted_now.extend(chunk.aborted.pop_front().map(|(producer, _)| producer));
                }
                if header.attributes.is_control() {
                    let ended = batch.records(inflated_max)?.next().transpose()?;
                    let kind = ended.and_then(|record| ControlType::of_key(record.key.as_deref().unwrap_or_default()));
                    if kind == Some(ControlType::Abort) {
                        self.aborted_now.remove(&header.producer_id.0);
                    }
                } else if header.attributes.is_transactional() && self.aborted_now.contains(&header.producer_id.0) {
                    skipped = true;
                }
            }
            if skipped {
                let next = self.position.unwrap_or(position).max(batch.next_offset());
                self.position = Some(next);
                continue;
            }
            return Ok(Some(Open { records: batch.records(inflated_max)?, next_offset: batch.next_offset() }));
        }
        Ok(None)
    }
}

fn damaged(partition: &TopicPartition, at: Offset, source: BatchError) -> Error {
    Error::Records { topic: partition.topic.to_string(), partition: partition.partition, offset: at.0, source }
}
