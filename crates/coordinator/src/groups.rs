//! All groups of one shard, still without I/O: finds or makes the group of a request, keeps their timers, reads them back
//! from the log, rewrites their live records.
//!
//! Every method takes the time and puts what must be done into `Effects`. A group of which nothing is left is forgotten
//! at once.

mod room;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use records::Offset;

use crate::group::{Answer, Cursor, Effects, Env, Group, NAME_BYTES_MAX, Outcome, Refreshed, Ticket, Token};
use crate::record::{Key, OffsetValue, RecordError};
use crate::storage::{Entry, StoredEntry};
use crate::types::Now;
use crate::{
    CommitRequest, CommittedOffset, Config, GROUP_TYPE, GroupDescription, GroupError, GroupListing, HeartbeatRequest,
    JoinRefused, JoinRequest, LeavingMember, ListFilter, Stats, SyncRequest, TopicOffsets, TopicPartitions,
};
pub(crate) use room::Room;

/// How many offsets one step of the search for expired ones looks at.
const SWEEP_STEP: usize = 20_000;

/// How many groups one step of a rewriting looks at.
const REWRITE_STEP: usize = 1_000;

/// The groups of one shard.
#[derive(Debug)]
pub(crate) struct Groups {
    config: Arc<Config>,
    room: Arc<Room>,
    groups: BTreeMap<Arc<str>, Group>,
    /// One for each group that waits for a time.
    timers: BTreeSet<(Duration, Arc<str>)>,
    live_bytes: usize,
    /// When expired offsets are looked for next, and from which group on.
    sweep_at: Duration,
    sweep_from: Option<Arc<str>>,
}

/// A rewriting of all live records that lie before an offset.
#[derive(Debug)]
pub(crate) struct Rewrite {
    /// Everything before it can go once the rewriting is done.
    pub(crate) start: Offset,
    queue: VecDeque<(Arc<str>, Option<Cursor>)>,
}

/// How far a step of a rewriting got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RewriteStep {
    /// All live records lie at its start or later.
    Finished,
    /// There is more to do.
    More,
    /// It goes on when a change that is being stored is settled.
    Waits,
}

impl Drop for Groups {
    fn drop(&mut self) {
        self.room.leave(self.groups.len());
    }
}

impl Groups {
    pub(crate) fn new(config: Arc<Config>, room: Arc<Room>) -> Self {
        Self {
            config,
            room,
            groups: BTreeMap::new(),
            timers: BTreeSet::new(),
            live_bytes: 0,
            sweep_at: Duration::MAX,
            sweep_from: None,
        }
    }

    /// An input for one group, with what follows for timers and figures. `None` when there is no such group.
    fn change<T>(
        &mut self,
        id: &str,
        now: Now,
        out: &mut Effects,
        input: impl FnOnce(&mut Group, &mut Env<'_>) -> T,
    ) -> Option<T> {
        let group = self.groups.get_mut(id)?;
        let (deadline, live_bytes) = (group.next_deadline(), group.live_bytes());
        let result = input(group, &mut Env { now, config: &self.config, out });
        self.live_bytes = self.live_bytes - live_bytes + group.live_bytes();
        let gone = group.is_gone();
        let next = group.next_deadline().filter(|_| !gone);
        if next != deadline {
            let id = Arc::clone(group.id());
            if let Some(at) = deadline {
                self.timers.remove(&(at, Arc::clone(&id)));
            }
            self.timers.extend(next.map(|at| (at, id)));
        }
        if gone {
            self.groups.remove(id);
            self.room.leave(1);
        }
        Some(result)
    }

    fn make(&mut self, id: &str, now: Now) -> Result<(), GroupError> {
        if id.len() > NAME_BYTES_MAX {
            return Err(GroupError::InvalidGroupId);
        }
        if !self.groups.contains_key(id) {
            self.room.enter()?;
            let id: Arc<str> = id.into();
            self.groups.insert(Arc::clone(&id), Group::new(id, now.wall));
        }
        Ok(())
    }

    pub(crate) fn join(
        &mut self,
        now: Now,
        out: &mut Effects,
        token: Token,
        id: &str,
        request: JoinRequest,
        random: u128,
    ) {
        if let Err(error) = self.prepare_join(now, id, &request) {
            return out.answer(token, Answer::Join(Err(JoinRefused { error, member_id: request.member_id })));
        }
        self.change(id, now, out, |group, env| group.join(env, token, request, random));
    }

    fn prepare_join(&mut self, now: Now, id: &str, request: &JoinRequest) -> Result<(), GroupError> {
        check_id(id)?;
        let session = u64::try_from(request.session_timeout_ms).map(Duration::from_millis);
        if !session.is_ok_and(|it| (self.config.session_timeout_min..=self.config.session_timeout_max).contains(&it)) {
            return Err(GroupError::InvalidSessionTimeout);
        }
        if !request.member_id.is_empty() && !self.groups.contains_key(id) {
            return Err(GroupError::UnknownMemberId);
        }
        self.make(id, now)
    }

    pub(crate) fn sync(&mut self, now: Now, out: &mut Effects, token: Token, id: &str, request: &SyncRequest) {
        if let Err(error) = check_id(id) {
            return out.refuse(token, error);
        }
        if self.change(id, now, out, |group, env| group.sync(env, token, request)).is_none() {
            out.refuse(token, GroupError::UnknownMemberId);
        }
    }

    pub(crate) fn heartbeat(
        &mut self,
        now: Now,
        out: &mut Effects,
        id: &str,
        request: HeartbeatRequest<'_>,
    ) -> Result<(), GroupError> {
        check_id(id)?;
        let result = self.change(id, now, out, |group, env| group.heartbeat(env, request));
        result.unwrap_or(Err(GroupError::UnknownMemberId))
    }

    pub(crate) fn leave(
        &mut self,
        now: Now,
        out: &mut Effects,
        id: &str,
        members: &[LeavingMember<'_>],
    ) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        check_id(id)?;
        let result = self.change(id, now, out, |group, env| group.leave(env, members));
        result.unwrap_or_else(|| Ok(vec![Err(GroupError::UnknownMemberId); members.len()]))
    }

    pub(crate) fn commit(&mut self, now: Now, out: &mut Effects, token: Token, id: &str, request: &CommitRequest) {
        if !self.groups.contains_key(id) {
            let made = if request.generation >= 0 { Err(GroupError::IllegalGeneration) } else { self.make(id, now) };
            if let Err(error) = made {
                return out.refuse(token, error);
            }
        }
        self.change(id, now, out, |group, env| group.commit(env, token, request));
    }

    pub(crate) fn fetch_offsets(&self, id: &str, topics: Option<&[TopicPartitions]>) -> Vec<TopicOffsets> {
        if let Some(group) = self.groups.get(id) {
            return group.fetch_offsets(topics);
        }
        let none = |wanted: &TopicPartitions| TopicOffsets {
            topic: Arc::clone(&wanted.topic),
            partitions: wanted.partitions.iter().map(|partition| (*partition, None)).collect(),
        };
        topics.unwrap_or_default().iter().map(none).collect()
    }

    pub(crate) fn delete_offsets(
        &mut self,
        now: Now,
        out: &mut Effects,
        token: Token,
        id: &str,
        topics: &[TopicPartitions],
    ) {
        if self.change(id, now, out, |group, env| group.delete_offsets(env, token, topics)).is_none() {
            out.refuse(token, GroupError::GroupIdNotFound);
        }
    }

    pub(crate) fn delete(&mut self, now: Now, out: &mut Effects, token: Token, id: &str) {
        if self.change(id, now, out, |group, env| group.delete(env, token)).is_none() {
            out.refuse(token, GroupError::GroupIdNotFound);
        }
    }

    /// A topic is gone: `token` gives one for each group that had offsets of it.
    pub(crate) fn topic_deleted(&mut self, now: Now, out: &mut Effects, topic: &str, mut token: impl FnMut() -> Token) {
        let ids: Vec<Arc<str>> = (self.groups.iter())
            .filter(|(_, group)| group.has_offsets_of(topic))
            .map(|(id, _)| Arc::clone(id))
            .collect();
        for id in ids {
            let token = token();
            self.change(&id, now, out, |group, env| group.topic_deleted(env, token, topic));
        }
    }

    pub(crate) fn describe(&self, id: &str) -> Result<GroupDescription, GroupError> {
        self.groups.get(id).map(Group::describe).ok_or(GroupError::GroupIdNotFound)
    }

    pub(crate) fn list(&self, filter: &ListFilter, into: &mut Vec<GroupListing>) {
        let wanted =
            |names: &[String], name: &str| names.is_empty() || names.iter().any(|it| it.eq_ignore_ascii_case(name));
        if wanted(&filter.types, GROUP_TYPE) {
            into.extend(self.groups.values().map(Group::listing).filter(|it| wanted(&filter.states, it.state.name())));
        }
    }

    pub(crate) fn committed_offsets(&self) -> Vec<CommittedOffset> {
        let mut all = Vec::new();
        self.groups.values().for_each(|group| group.committed_offsets(&mut all));
        all
    }

    #[cfg(test)]
    fn generation_and_leader(&self, id: &str) -> (i32, Option<Arc<str>>) {
        self.groups[id].generation_and_leader()
    }

    pub(crate) fn count(&self, stats: &mut Stats) {
        self.groups.values().for_each(|group| group.count(stats));
    }

    /// The bytes of all live records.
    pub(crate) fn live_bytes(&self) -> usize {
        self.live_bytes
    }

    /// A change of a group is settled. Changes are settled in the order of `Effects::stores`.
    pub(crate) fn settle(&mut self, now: Now, out: &mut Effects, id: &str, ticket: Ticket, outcome: Outcome) {
        let settled = self.change(id, now, out, |group, env| group.settle(env, ticket, outcome));
        assert!(settled.is_some(), "a group is kept while changes of it are being stored");
    }

    /// When `tick` has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let sweep = Some(self.sweep_at).filter(|_| !self.groups.is_empty());
        self.timers.first().map(|(at, _)| *at).into_iter().chain(sweep).min()
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Now, out: &mut Effects) {
        let due: Vec<Arc<str>> =
            self.timers.iter().take_while(|(at, _)| *at <= now.monotonic).map(|(_, id)| Arc::clone(id)).collect();
        for id in due {
            self.change(&id, now, out, |group, env| group.tick(env));
        }
        if now.monotonic >= self.sweep_at {
            self.sweep(now, out);
        }
    }

    /// A step of the search for expired offsets.
    fn sweep(&mut self, now: Now, out: &mut Effects) {
        let mut seen = 0;
        while seen < SWEEP_STEP {
            let from = self.sweep_from.as_ref().map_or(Bound::Unbounded, |id| Bound::Excluded(&**id));
            let Some((id, _)) = self.groups.range::<str, _>((from, Bound::Unbounded)).next() else {
                self.sweep_from = None;
                self.sweep_at = now.monotonic + self.config.retention_check_interval;
                return;
            };
            let id = Arc::clone(id);
            seen += self.change(&id, now, out, |group, env| group.expire(env)).unwrap_or(0);
            self.sweep_from = Some(id);
        }
    }

    /// A record is read back at load, in the log's order.
    pub(crate) fn replay(&mut self, now: Now, stored: &StoredEntry) -> Result<(), RecordError> {
        let StoredEntry { offset, entry: Entry { key, value } } = stored;
        match Key::decode(key)? {
            Key::Offset { group, topic, partition } => {
                let value = value.as_ref().map(|value| OffsetValue::decode(value)).transpose()?;
                if let Some(group) = self.replayed(group, now, value.is_some()) {
                    group.load_offset(topic, partition, value, *offset);
                }
            }
            Key::Group { group } => {
                // A copy, so that the group's record does not keep its page alive.
                let value = value.as_ref().map(|value| Bytes::copy_from_slice(value));
                if let Some(group) = self.replayed(group, now, value.is_some()) {
                    group.load_metadata(value, *offset);
                }
            }
            Key::Other(version) => tracing::debug!(version, "skipped a record of another kind"),
        }
        Ok(())
    }

    fn replayed(&mut self, id: &str, now: Now, make: bool) -> Option<&mut Group> {
        if make && !self.groups.contains_key(id) {
            self.room.enter_anyway();
            let id: Arc<str> = id.into();
            self.groups.insert(Arc::clone(&id), Group::new(id, now.wall));
        }
        self.groups.get_mut(id)
    }

    /// The log was read to its end.
    pub(crate) fn loaded(&mut self, now: Now, out: &mut Effects) {
        let ids: Vec<Arc<str>> = self.groups.keys().cloned().collect();
        self.live_bytes = self.groups.values().map(Group::live_bytes).sum();
        for id in ids {
            let loaded = self.change(&id, now, out, |group, env| group.loaded(env));
            if let Some(Err(error)) = loaded {
                tracing::error!(group = %id, %error, "the group's record cannot be read; its offsets are kept, its members must join again");
            }
        }
        self.sweep_at = now.monotonic + self.config.retention_check_interval;
    }

    /// Begins to rewrite everything that lies before the offset.
    pub(crate) fn rewrite(&self, start: Offset) -> Rewrite {
        Rewrite { start, queue: self.groups.keys().map(|id| (Arc::clone(id), None)).collect() }
    }

    /// A step of a rewriting. The next one comes when what this stored is settled.
    pub(crate) fn rewrite_step(&mut self, now: Now, out: &mut Effects, rewrite: &mut Rewrite) -> RewriteStep {
        let mut budget = self.config.rewrite_chunk_bytes;
        let mut progress = false;
        for _ in 0..rewrite.queue.len().min(REWRITE_STEP) {
            let Some((id, cursor)) = rewrite.queue.pop_front() else { break };
            let before = out.stores.len();
            let refreshed = self.change(&id, now, out, |group, env| group.refresh(env, rewrite.start, cursor, budget));
            match refreshed {
                None | Some(Refreshed::Done) => progress = true,
                Some(Refreshed::More(cursor)) => rewrite.queue.push_front((id, Some(cursor))),
                Some(Refreshed::Waits) => rewrite.queue.push_back((id, None)),
            }
            let stored = out.stores.iter().skip(before).flat_map(|store| &store.entries).map(Entry::size).sum();
            progress |= stored > 0;
            budget = budget.saturating_sub(stored);
            if budget == 0 {
                break;
            }
        }
        match (rewrite.queue.is_empty(), progress) {
            (true, _) => RewriteStep::Finished,
            (false, true) => RewriteStep::More,
            (false, false) => RewriteStep::Waits,
        }
    }
}

fn check_id(id: &str) -> Result<(), GroupError> {
    if id.is_empty() || id.len() > NAME_BYTES_MAX { Err(GroupError::InvalidGroupId) } else { Ok(()) }
}
