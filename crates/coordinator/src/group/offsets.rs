//! OffsetCommit, and where the committed offsets are kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use records::{Offset, Timestamp};

use super::settle::Change;
use super::{Answer, Env, Group, NAME_BYTES_MAX, Token};
use crate::record::{Key, OffsetValue, offset_key_size};
use crate::storage::{Entry, entry_size};
use crate::{CommitPartition, CommitRequest, Committed, GroupError, State, TopicResults};

/// The offsets of a group, by topic and partition.
#[derive(Debug, Default)]
pub(super) struct Offsets {
    topics: BTreeMap<Arc<str>, BTreeMap<i32, Slot>>,
    slots: usize,
    live_bytes: usize,
}

/// The place of one partition's offset.
#[derive(Debug, Default)]
pub(super) struct Slot {
    pub(super) current: Option<Committed>,
    /// The live record does not lie before this.
    pub(super) offset: Offset,
    /// Changes of it that are being stored.
    pub(super) in_flight: u32,
}

impl Offsets {
    pub(super) fn is_empty(&self) -> bool {
        self.slots == 0
    }

    pub(super) fn live_bytes(&self) -> usize {
        self.live_bytes
    }

    pub(super) fn topics(&self) -> &BTreeMap<Arc<str>, BTreeMap<i32, Slot>> {
        &self.topics
    }

    pub(super) fn slot(&self, topic: &str, partition: i32) -> Option<&Slot> {
        self.topics.get(topic)?.get(&partition)
    }

    /// A change of the partition's offset is going to be stored.
    pub(super) fn begin(&mut self, topic: &Arc<str>, partition: i32) {
        self.slot_mut(topic, partition).in_flight += 1;
    }

    /// A change ended: with a new value (or none), or, without an outcome, with the one before.
    pub(super) fn end(
        &mut self,
        group: &str,
        topic: &str,
        partition: i32,
        outcome: Option<(Option<Committed>, Offset)>,
    ) {
        let slots = self.topics.get_mut(topic).expect("a change keeps its slot");
        let slot = slots.get_mut(&partition).expect("a change keeps its slot");
        slot.in_flight -= 1;
        if let Some((value, offset)) = outcome {
            self.live_bytes -= slot.current.as_ref().map_or(0, |old| live_size(group, topic, old));
            self.live_bytes += value.as_ref().map_or(0, |new| live_size(group, topic, new));
            slot.current = value;
            slot.offset = offset;
        }
        if slot.in_flight == 0 && slot.current.is_none() {
            slots.remove(&partition);
            self.slots -= 1;
            if slots.is_empty() {
                self.topics.remove(topic);
            }
        }
    }

    /// The live record was stored again.
    pub(super) fn refreshed(&mut self, group: &str, topic: &str, partition: i32, offset: Option<Offset>) {
        if let Some(offset) = offset {
            let slot = self.topics.get_mut(topic).and_then(|slots| slots.get_mut(&partition));
            slot.expect("a change keeps its slot").offset = offset;
        }
        self.end(group, topic, partition, None);
    }

    /// What the log says, while nothing is in flight.
    fn load(&mut self, group: &str, topic: &str, partition: i32, value: Option<Committed>, offset: Offset) {
        if value.is_none() && self.slot(topic, partition).is_none() {
            return;
        }
        let forgotten = value.is_none();
        let size = value.as_ref().map_or(0, |new| live_size(group, topic, new));
        let slot = self.slot_mut(topic, partition);
        slot.offset = offset;
        let old = std::mem::replace(&mut slot.current, value);
        self.live_bytes -= old.map_or(0, |old| live_size(group, topic, &old));
        self.live_bytes += size;
        if forgotten {
            let slots = self.topics.get_mut(topic).expect("the slot was just there");
            slots.remove(&partition);
            self.slots -= 1;
            if slots.is_empty() {
                self.topics.remove(topic);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn slot_mut(&mut self, topic: &str, partition: i32) -> &mut Slot {
        if !self.topics.contains_key(topic) {
            self.topics.insert(topic.into(), BTreeMap::new());
        }
        let slots = self.topics.get_mut(topic).expect("inserted above");
        slots.entry(partition).or_insert_with(|| {
            self.slots += 1;
            Slot::default()
        })
    }
}

fn live_size(group: &str, topic: &str, committed: &Committed) -> usize {
    entry_size(offset_key_size(group, topic), value(committed).size())
}

/// A committed offset as its record has it.
fn value(committed: &Committed) -> OffsetValue<'_> {
    OffsetValue {
        offset: committed.offset,
        leader_epoch: committed.leader_epoch,
        metadata: &committed.metadata,
        commit_timestamp: committed.commit_timestamp,
        expire_timestamp: committed.expire_timestamp,
    }
}

impl Group {
    /// Commits offsets: of a member of the current generation, or of a simple consumer while nobody is in the group.
    pub(crate) fn commit(&mut self, env: &mut Env<'_>, token: Token, request: &CommitRequest) {
        if let Err(error) = self.check_commit(request) {
            return env.out.refuse(token, error);
        }
        self.refresh_session(&request.member_id, env.now.monotonic);
        let expires = |ms: &i64| Timestamp(env.now.wall.0.saturating_add(*ms));
        let expire_timestamp = request.retention_ms.as_ref().filter(|ms| **ms >= 0).map(expires);
        let mut items = Vec::new();
        let mut entries = Vec::new();
        let mut results = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let name = self.offsets.topics.get_key_value(&topic.topic).map_or(&topic.topic, |(name, _)| name).clone();
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for committed in &topic.partitions {
                let result = self.check_partition(env, &name, committed);
                partitions.push((committed.partition, result));
                if result.is_ok() {
                    let partition = committed.partition;
                    let committed = Committed {
                        offset: committed.offset,
                        leader_epoch: committed.leader_epoch,
                        metadata: committed.metadata.clone(),
                        commit_timestamp: env.now.wall,
                        expire_timestamp,
                    };
                    entries.push(self.offset_entry(&name, partition, &committed));
                    self.offsets.begin(&name, partition);
                    items.push((Arc::clone(&name), partition, committed));
                }
            }
            results.push(TopicResults { topic: name, partitions });
        }
        if entries.is_empty() {
            return env.out.answer(token, Answer::Partitions(results));
        }
        self.store(env, Change::Commit { token, items, results }, entries);
    }

    fn check_commit(&self, request: &CommitRequest) -> Result<(), GroupError> {
        self.check_alive()?;
        if request.generation < 0 && self.state == State::Empty {
            // An administrator, or a consumer that assigns its partitions by itself.
            return Ok(());
        }
        if request.generation < 0 && request.member_id.is_empty() && request.instance_id.is_none() {
            return Err(GroupError::UnknownMemberId);
        }
        self.check_member(&request.member_id, request.instance_id.as_deref())?;
        self.check_generation(request.generation)?;
        // While the members join again they may commit what they have done; once they wait for new assignments, no more.
        if self.state == State::CompletingRebalance { Err(GroupError::RebalanceInProgress) } else { Ok(()) }
    }

    fn check_partition(&self, env: &Env<'_>, topic: &str, committed: &CommitPartition) -> Result<(), GroupError> {
        if committed.metadata.len() > env.config.offset_metadata_bytes_max.min(NAME_BYTES_MAX) {
            return Err(GroupError::OffsetMetadataTooLarge);
        }
        let full = self.offsets.slots >= env.config.offsets_per_group_max;
        if topic.len() > NAME_BYTES_MAX || (full && self.offsets.slot(topic, committed.partition).is_none()) {
            return Err(GroupError::InvalidCommitOffsetSize);
        }
        Ok(())
    }

    pub(super) fn offset_entry(&self, topic: &str, partition: i32, committed: &Committed) -> Entry {
        let key = Key::Offset { group: &self.id, topic, partition };
        Entry { key: key.encode(), value: Some(value(committed).encode()) }
    }

    /// A stored offset is read back while loading; `None` is its tombstone.
    pub(crate) fn load_offset(&mut self, topic: &str, partition: i32, value: Option<OffsetValue<'_>>, offset: Offset) {
        let committed = value.map(|value| Committed {
            offset: value.offset,
            leader_epoch: value.leader_epoch,
            metadata: value.metadata.into(),
            commit_timestamp: value.commit_timestamp,
            expire_timestamp: value.expire_timestamp,
        });
        self.offsets.load(&self.id, topic, partition, committed, offset);
    }
}
