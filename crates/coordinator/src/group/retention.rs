//! Offsets and groups that go: by request, with their topic, or because nobody used them for long. And the rewriting of
//! live records, so that the log before them can go.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use records::{Offset, Timestamp};

use super::settle::Change;
use super::{Answer, Env, Group, Token};
use crate::record::Key;
use crate::storage::Entry;
use crate::subscription::CONSUMER;
use crate::{Committed, GroupError, State, TopicPartitions, TopicResults};

/// Where a rewriting of a group's records goes on.
#[derive(Debug, Clone)]
pub(crate) struct Cursor {
    topic: Arc<str>,
    partition: i32,
}

/// How far a rewriting of a group's records got.
#[derive(Debug)]
pub(crate) enum Refreshed {
    /// Every record lies where it may.
    Done,
    /// The budget is used up.
    More(Cursor),
    /// Some records are being replaced: look again from the start.
    Waits,
}

impl Group {
    /// Deletes committed offsets, but not of topics that the group reads.
    pub(crate) fn delete_offsets(&mut self, env: &mut Env<'_>, token: Token, topics: &[TopicPartitions]) {
        if let Err(error) = self.check_alive() {
            return env.out.refuse(token, error);
        }
        if self.state != State::Empty && self.protocol_type.as_deref() != Some(CONSUMER) {
            return env.out.refuse(token, GroupError::NonEmptyGroup);
        }
        let mut items = Vec::new();
        let mut results = Vec::with_capacity(topics.len());
        for TopicPartitions { topic, partitions } in topics {
            let read = self.state != State::Empty && self.reads(topic);
            let result = if read { Err(GroupError::GroupSubscribedToTopic) } else { Ok(()) };
            if !read {
                let known = partitions.iter().filter(|partition| self.offsets.slot(topic, **partition).is_some());
                items.extend(known.map(|partition| (Arc::clone(topic), *partition)));
            }
            let partitions = partitions.iter().map(|partition| (*partition, result)).collect();
            results.push(TopicResults { topic: Arc::clone(topic), partitions });
        }
        self.forget(env, Some((token, Answer::Partitions(results))), items, false);
    }

    /// Whether offsets of the topic are committed, or about to be.
    pub(crate) fn has_offsets_of(&self, topic: &str) -> bool {
        self.offsets.topics().contains_key(topic)
    }

    /// A topic is gone, and its offsets with it.
    pub(crate) fn topic_deleted(&mut self, env: &mut Env<'_>, token: Token, topic: &str) {
        if let Err(error) = self.check_alive() {
            return env.out.refuse(token, error);
        }
        let known = self.offsets.topics().get_key_value(topic);
        let items = known.map(|(name, slots)| slots.keys().map(|it| (Arc::clone(name), *it)).collect());
        self.forget(env, Some((token, Answer::Done)), items.unwrap_or_default(), false);
    }

    fn forget(
        &mut self,
        env: &mut Env<'_>,
        answer: Option<(Token, Answer)>,
        items: Vec<(Arc<str>, i32)>,
        expired: bool,
    ) {
        if items.is_empty() {
            if let Some((token, answer)) = answer {
                env.out.answer(token, answer);
            }
            return;
        }
        let mut entries = Vec::with_capacity(items.len());
        for (topic, partition) in &items {
            self.offsets.begin(topic, *partition);
            entries.push(Key::Offset { group: &self.id, topic, partition: *partition }.tombstone());
        }
        self.store(env, Change::Forget { answer, items, expired }, entries);
    }

    /// Whether its members read the topic; when what they read is unknown, they may.
    fn reads(&self, topic: &str) -> bool {
        self.subscribed.as_ref().is_none_or(|topics| topics.contains(topic))
    }

    /// Deletes the group, if nobody is in it.
    pub(crate) fn delete(&mut self, env: &mut Env<'_>, token: Token) {
        if let Err(error) = self.check_alive() {
            return env.out.refuse(token, error);
        }
        if self.state != State::Empty {
            return env.out.refuse(token, GroupError::NonEmptyGroup);
        }
        self.pending_members.clear();
        self.deleting = Some(token);
        self.delete_when_settled(env);
    }

    /// Deletes the group once nothing else is under way: a commit that is stored after the tombstones would survive.
    pub(super) fn delete_when_settled(&mut self, env: &mut Env<'_>) {
        let Some(token) = self.deleting else { return };
        if self.gone || !self.changes.is_empty() {
            return;
        }
        let mut entries: Vec<Entry> = Vec::new();
        for (topic, slots) in self.offsets.topics() {
            let tombstone = |partition: &i32| Key::Offset { group: &self.id, topic, partition: *partition }.tombstone();
            entries.extend(slots.keys().map(tombstone));
        }
        if self.metadata.value.is_some() {
            entries.push(Entry { key: self.metadata_key(), value: None });
        }
        if entries.is_empty() {
            self.gone = true;
            return env.out.answer(token, Answer::Done);
        }
        self.store(env, Change::Delete { token }, entries);
    }

    /// Forgets expired offsets, and the group itself when nothing is left of it. Gives how many offsets it looked at.
    pub(crate) fn expire(&mut self, env: &mut Env<'_>) -> usize {
        let mut items = Vec::new();
        let mut seen = 1;
        if self.deleting.is_none() {
            for (topic, slots) in self.offsets.topics() {
                seen += slots.len();
                let Some(retained_from) = self.retained_from(topic) else { continue };
                let old = slots.iter().filter(|(_, slot)| slot.in_flight == 0).filter(|(_, slot)| {
                    slot.current.as_ref().is_some_and(|committed| expired(committed, retained_from, env))
                });
                items.extend(old.map(|(partition, _)| (Arc::clone(topic), *partition)));
            }
            if !items.is_empty() {
                tracing::info!(group = %self.id, offsets = items.len(), "committed offsets expired");
                self.forget(env, None, items, true);
            }
            self.remove_record_if_unused(env);
        }
        seen
    }

    /// From when on the retention of a topic's offsets counts, at the earliest; none while they are kept in any case.
    fn retained_from(&self, topic: &str) -> Option<Timestamp> {
        const ALWAYS: Timestamp = Timestamp(i64::MIN);
        match (self.protocol_type.as_deref(), self.state) {
            // Nobody ever joined: a simple consumer's offsets live from their commit on.
            (None, State::Empty) => Some(ALWAYS),
            (Some(_), State::Empty) => Some(self.state_since),
            (Some(CONSUMER), State::Stable) if !self.reads(topic) => Some(ALWAYS),
            _ => None,
        }
    }

    pub(super) fn remove_record_if_unused(&mut self, env: &mut Env<'_>) {
        if self.is_idle() && self.offsets.is_empty() && self.metadata.value.is_some() {
            self.metadata.in_flight += 1;
            let entry = Entry { key: self.metadata_key(), value: None };
            self.store(env, Change::RemoveRecord, vec![entry]);
        }
    }

    /// Stores live records that lie before the offset once more, about as many bytes as the budget.
    ///
    /// A record that is being replaced is left out: written after its successor, it would undo it.
    pub(crate) fn refresh(
        &mut self,
        env: &mut Env<'_>,
        before: Offset,
        from: Option<Cursor>,
        budget: usize,
    ) -> Refreshed {
        if self.deleting.is_some() {
            return Refreshed::Waits;
        }
        let mut waits = false;
        let mut entries = Vec::new();
        let mut bytes = 0;
        let metadata = match &self.metadata.value {
            Some(value) if from.is_none() && self.metadata.offset < before => {
                if self.metadata.in_flight == 0 {
                    entries.push(Entry { key: self.metadata_key(), value: Some(value.clone()) });
                    bytes += entries[0].size();
                }
                waits = self.metadata.in_flight > 0;
                !waits
            }
            _ => false,
        };
        let mut items: Vec<(Arc<str>, i32)> = Vec::new();
        let mut next = None;
        let first = from.as_ref().map_or(Bound::Unbounded, |cursor| Bound::Included(&*cursor.topic));
        'topics: for (topic, slots) in self.offsets.topics().range::<str, _>((first, Bound::Unbounded)) {
            let start =
                from.as_ref().filter(|cursor| cursor.topic == *topic).map_or(i32::MIN, |cursor| cursor.partition);
            for (partition, slot) in slots.range(start..) {
                let Some(committed) = slot.current.as_ref().filter(|_| slot.offset < before) else { continue };
                if slot.in_flight > 0 {
                    waits = true;
                    continue;
                }
                if bytes >= budget {
                    next = Some(Cursor { topic: Arc::clone(topic), partition: *partition });
                    break 'topics;
                }
                let entry = self.offset_entry(topic, *partition, committed);
                bytes += entry.size();
                entries.push(entry);
                items.push((Arc::clone(topic), *partition));
            }
        }
        for (topic, partition) in &items {
            self.offsets.begin(topic, *partition);
        }
        self.metadata.in_flight += u32::from(metadata);
        // Only a look from the start that finds nothing is the last: what is stored now, or was before the cursor, may fail.
        waits |= !entries.is_empty() || from.is_some();
        if !entries.is_empty() {
            self.store(env, Change::Refresh { items, metadata }, entries);
        }
        match next {
            Some(cursor) => Refreshed::More(cursor),
            None if waits => Refreshed::Waits,
            None => Refreshed::Done,
        }
    }
}

fn expired(committed: &Committed, retained_from: Timestamp, env: &Env<'_>) -> bool {
    let now = env.now.wall.0;
    if let Some(at) = committed.expire_timestamp {
        return now >= at.0;
    }
    let start = committed.commit_timestamp.0.max(retained_from.0);
    now.saturating_sub(start) >= millis(env.config.offsets_retention)
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
