//! The rules of journals: opening, recovering, sealing, committing objects.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use objects::Extent;
use records::{BrokerId, Incarnation, JournalId, LeaderEpoch, Offset, Partition, Position, Timestamp, TopicPartition};

use uuid::Uuid;

use super::Change;
use super::change::NextIds;
use super::check::{Checked, forgettable, invalid};
use super::command::{ObjectMeta, PartitionStart, Refusal, Reply};
use super::image::{Counters, EpochStart, Image, Journal, JournalState, LastCommit, PartitionState};

fn find(image: &Image, journal: JournalId) -> Result<&Arc<Journal>, Refusal> {
    image.journals.get(&journal).ok_or(Refusal::UnknownJournal(journal))
}

pub(super) fn open(
    image: &Image,
    owner: BrokerId,
    incarnation: Incarnation,
    members: &[BrokerId],
    ack_quorum: u8,
    at: Timestamp,
) -> Checked {
    let broker = image.brokers.get(&owner).ok_or(Refusal::UnknownBroker(owner))?;
    if broker.incarnation != incarnation {
        return Err(Refusal::StaleIncarnation { broker: owner, current: broker.incarnation });
    }
    let distinct: BTreeSet<BrokerId> = members.iter().copied().collect();
    if let Some(unknown) = distinct.iter().find(|member| !image.brokers.contains_key(member)) {
        return Err(Refusal::UnknownBroker(*unknown));
    }
    if distinct.len() != members.len() || !distinct.contains(&owner) {
        return invalid("a journal's members are distinct brokers, its owner among them");
    }
    if ack_quorum == 0 || usize::from(ack_quorum) > members.len() {
        return invalid(format!(
            "an acknowledgement quorum of {ack_quorum} of {} members is impossible",
            members.len()
        ));
    }
    let mut changes: Vec<Change> = Vec::new();
    if image.journals.len() >= image.limits.journals_max {
        changes.extend(forgettable(image, owner, Incarnation(incarnation.0.saturating_add(1))));
        if changes.is_empty() {
            return Err(Refusal::LimitReached { what: "journals", limit: image.limits.journals_max });
        }
    }
    let id = image.counters.journal;
    let next = JournalId(id.0.checked_add(1).expect("journal ids stay below 2^64"));
    changes.push(Change::PutCounters(NextIds(Counters { journal: next, ..image.counters })));
    changes.push(Change::PutJournal(Arc::new(Journal {
        id,
        owner,
        incarnation,
        members: members.to_vec(),
        ack_quorum,
        state: JournalState::Open,
        epoch: 0,
        successor: None,
        uploaded: Position(0),
        opened_at: at,
        sealed_at: None,
        last_commit: LastCommit { object: Uuid::nil(), at, newest_append: at, durable_seen: Position(0) },
        closed: None,
        lost: None,
    })));
    Ok((Reply::JournalOpened { journal: id }, changes))
}

pub(super) fn recover(image: &Image, journal: JournalId, by: BrokerId) -> Checked {
    let known = find(image, journal)?;
    if !image.brokers.contains_key(&by) {
        return Err(Refusal::UnknownBroker(by));
    }
    if let Some(end) = known.end() {
        return Err(Refusal::JournalEnded { journal, end });
    }
    // Always a new epoch: two recoveries, also by the same broker, never share one (R3).
    let epoch = known.epoch.checked_add(1).expect("a journal is not recovered 2^64 times");
    let state = JournalState::Recovering { epoch, by };
    let changes = vec![Change::PutJournal(Arc::new(Journal { state, epoch, ..(**known).clone() }))];
    Ok((Reply::Recovering { epoch }, changes))
}

pub(super) fn close(image: &Image, journal: JournalId, end: Position) -> Checked {
    let known = find(image, journal)?;
    if known.closed == Some(end) {
        return Ok((Reply::Done, Vec::new()));
    }
    match known.state {
        JournalState::Open if known.closed.is_none() && end >= known.uploaded => {
            let closed = Journal { closed: Some(end), ..(**known).clone() };
            Ok((Reply::Done, vec![Change::PutJournal(Arc::new(closed))]))
        }
        JournalState::Open => invalid(format!("journal {journal} cannot be closed at {end}")),
        JournalState::Recovering { epoch, .. } => Err(Refusal::StaleEpoch { journal, current: epoch }),
        JournalState::Sealed { end } => Err(Refusal::JournalEnded { journal, end }),
        JournalState::Drained => Err(Refusal::JournalEnded { journal, end: known.uploaded }),
    }
}

/// See [`super::Command::SealJournal`].
pub(super) struct Seal<'a> {
    pub(super) journal: JournalId,
    pub(super) epoch: u64,
    pub(super) end: Option<Position>,
    pub(super) successor: JournalId,
    pub(super) partitions: &'a [PartitionStart],
    pub(super) at: Timestamp,
}

impl Seal<'_> {
    pub(super) fn check(&self, image: &Image) -> Checked {
        let known = find(image, self.journal)?;
        if let Some(end) = known.end() {
            // Written once (R2). Whoever wrote it and repeats it is told the same again.
            let same = known.epoch == self.epoch
                && known.successor == Some(self.successor)
                && self.end.is_none_or(|wanted| wanted == end);
            return if same {
                Ok((Reply::JournalSealed { end }, Vec::new()))
            } else {
                Err(Refusal::JournalEnded { journal: self.journal, end })
            };
        }
        if known.epoch != self.epoch {
            return Err(Refusal::StaleEpoch { journal: self.journal, current: known.epoch });
        }
        let end = self.end.unwrap_or(known.uploaded);
        if end < known.uploaded {
            // What is uploaded is committed (J1): the end cannot lie below it.
            return Err(Refusal::WrongFrontier { journal: self.journal, uploaded: known.uploaded });
        }
        let successor = find(image, self.successor)?;
        if self.successor == self.journal || successor.state != JournalState::Open {
            return invalid(format!("journal {} is not open to take over partitions", self.successor));
        }
        let starts = self.starts(image, end > known.uploaded)?;

        let state = if end == known.uploaded { JournalState::Drained } else { JournalState::Sealed { end } };
        let sealed = Journal { state, successor: Some(self.successor), sealed_at: Some(self.at), ..(**known).clone() };
        let mut changes = vec![Change::PutJournal(Arc::new(sealed))];
        let drained = state == JournalState::Drained;
        for_each_partition(image, |of, state| {
            let mut moved = None;
            if state.journal == self.journal {
                moved = Some(self.moved(state, starts.get(&of).copied(), successor));
            }
            if drained {
                settle(image, self.journal, state, &mut moved);
            }
            changes.extend(moved.map(|moved| Change::PutPartition(of, Arc::new(moved))));
            Ok(())
        })?;
        Ok((Reply::JournalSealed { end }, changes))
    }

    /// The listed starts, checked.
    fn starts(&self, image: &Image, has_tail: bool) -> Result<HashMap<TopicPartition, Offset>, Refusal> {
        if self.end.is_none() {
            return Ok(HashMap::new()); // Nobody knows any better than the reserve.
        }
        let mut starts = HashMap::with_capacity(self.partitions.len());
        for &PartitionStart { topic_partition, start_offset } in self.partitions {
            if !image.topics.contains_key(&topic_partition.topic) {
                continue; // Deleted meanwhile.
            }
            let state = image.partition(topic_partition).ok_or(Refusal::UnknownPartition(topic_partition))?;
            if state.journal != self.journal {
                continue; // It left the journal before.
            }
            let least = state.epoch_start();
            let most = if has_tail { state.assign_limit() } else { least };
            if start_offset < least || start_offset > most {
                return invalid(format!(
                    "partition {topic_partition} cannot go on at offset {start_offset}: {least} to {most} is possible"
                ));
            }
            if starts.insert(topic_partition, start_offset).is_some() {
                return invalid(format!("partition {topic_partition} is listed twice"));
            }
        }
        Ok(starts)
    }

    fn moved(&self, state: &PartitionState, listed: Option<Offset>, successor: &Journal) -> PartitionState {
        let lost = self.end.is_none();
        let start = if lost { state.assign_limit() } else { listed.unwrap_or_else(|| state.epoch_start()) };
        let epoch = LeaderEpoch(state.leader_epoch.0.checked_add(1).expect("leader epochs stay below 2^31"));
        let mut epochs = state.epochs.clone();
        let mut after_loss = lost;
        // An epoch in which nothing was written makes room for the one that begins where it did.
        if let Some(last) = epochs.last()
            && last.start == start
        {
            after_loss |= last.after_loss;
            epochs.pop();
        }
        epochs.push(EpochStart { epoch, start, journal: successor.id, after_loss });
        PartitionState { leader: successor.owner, leader_epoch: epoch, journal: successor.id, epochs, ..*state }
    }
}

/// See [`super::Command::CommitObject`].
pub(super) struct Commit<'a> {
    pub(super) journal: JournalId,
    pub(super) from: Position,
    pub(super) to: Position,
    pub(super) object: &'a ObjectMeta,
    pub(super) extents: &'a [Extent],
    pub(super) newest_append: Timestamp,
    pub(super) durable_seen: Position,
    pub(super) at: Timestamp,
}

impl Commit<'_> {
    pub(super) fn check(&self, image: &Image) -> Checked {
        let known = find(image, self.journal)?;
        if self.object.id.is_nil() {
            return invalid("an object has an id");
        }
        if known.last_commit.object == self.object.id {
            return if self.to == known.uploaded {
                Ok((Reply::Committed { uploaded: known.uploaded }, Vec::new()))
            } else {
                invalid(format!("object {} was committed up to {} before", self.object.id, known.uploaded))
            };
        }
        if known.state == JournalState::Drained {
            // Also of one that was given up: what it had left is behind the frontiers already.
            return Err(Refusal::JournalEnded { journal: self.journal, end: known.end().unwrap_or(known.uploaded) });
        }
        if self.from != known.uploaded {
            return Err(Refusal::WrongFrontier { journal: self.journal, uploaded: known.uploaded });
        }
        if self.to <= self.from {
            return invalid(format!(
                "positions {} to {} cannot be committed: they are not ascending",
                self.from, self.to
            ));
        }
        if let Some(end) = known.end().filter(|end| self.to > *end) {
            return Err(Refusal::JournalEnded { journal: self.journal, end });
        }
        let mut touched: BTreeMap<TopicPartition, PartitionState> = BTreeMap::new();
        let mut changes = Vec::with_capacity(self.extents.len() * 2 + 2);
        let mut live: u32 = 0;
        for extent in self.extents {
            let of = extent.topic_partition;
            if !image.topics.contains_key(&of.topic) {
                continue; // Deleted meanwhile: nobody will read it.
            }
            let before = image.partition(of).ok_or(Refusal::UnknownPartition(of))?;
            let state = touched.entry(of).or_insert_with(|| (**before).clone());
            self.check_extent(extent, state, before.assign_limit())?;
            state.frontier = extent.end_offset;
            // What DeleteRecords took away before it was uploaded is in the object, but not in the log.
            if extent.end_offset > state.log_start {
                live += 1;
                state.bytes = state.bytes.saturating_add(extent.len);
                changes.push(Change::PutExtent(Box::new(extent.clone())));
            }
        }
        let drained = known.end() == Some(self.to);
        if drained {
            for_each_partition(image, |of, state| {
                let mut moved = touched.remove(&of);
                self.check_nothing_is_missing(of, moved.as_ref().unwrap_or(state))?;
                settle(image, self.journal, state, &mut moved);
                changes.extend(moved.map(|moved| Change::PutPartition(of, Arc::new(moved))));
                Ok(())
            })?;
        }
        changes.extend(touched.into_iter().map(|(of, state)| Change::PutPartition(of, Arc::new(state))));
        changes.push(Change::PutJournal(Arc::new(Journal {
            uploaded: self.to,
            state: if drained { JournalState::Drained } else { known.state },
            last_commit: LastCommit {
                object: self.object.id,
                at: self.at,
                newest_append: self.newest_append,
                durable_seen: self.durable_seen,
            },
            ..(**known).clone()
        })));
        let object = self.object.clone();
        changes.push(if live > 0 {
            Change::PutObject { object, live }
        } else {
            Change::PutGarbage { object, since: self.at }
        });
        Ok((Reply::Committed { uploaded: self.to }, changes))
    }

    fn check_extent(&self, extent: &Extent, state: &PartitionState, assign_limit: Offset) -> Result<(), Refusal> {
        let of = extent.topic_partition;
        let (base, end) = (extent.base_offset, extent.end_offset);
        if extent.object != self.object.id || base >= end || end > assign_limit {
            return invalid(format!("extent {base}..{end} of partition {of} is not possible"));
        }
        if base < state.frontier {
            return invalid(format!("offsets {base} to {} of partition {of} are committed already", state.frontier));
        }
        // The offsets must belong to an epoch of this journal, up to the first epoch of another one (R2).
        let Some(at) = state.epoch_of(base).filter(|at| state.epochs[*at].journal == self.journal) else {
            return invalid(format!("offset {base} of partition {of} does not belong to journal {}", self.journal));
        };
        if let Some(next) = state.epochs[at..].iter().find(|epoch| epoch.journal != self.journal)
            && end > next.start
        {
            return invalid(format!("offset {} of partition {of} belongs to journal {}", next.start, next.journal));
        }
        // Contiguous (O2). What is lost is behind the frontier already.
        if base > state.frontier {
            return Err(Refusal::NotContiguous { topic_partition: of, frontier: state.frontier });
        }
        Ok(())
    }

    /// A journal that becomes drained is deleted everywhere: before that, a partition must have been uploaded up to where
    /// it left the journal. Anything else would lose acknowledged records without a word.
    fn check_nothing_is_missing(&self, of: TopicPartition, state: &PartitionState) -> Result<(), Refusal> {
        match missing(state, self.journal).next() {
            Some(at) => invalid(format!(
                "journal {} is not drained: offsets {} to {} of partition {of} are in no object",
                self.journal, state.frontier, state.epochs[at].start
            )),
            None => Ok(()),
        }
    }
}

/// The epochs by which the partition left `journal`, where it is not uploaded up to there and that is not known to be lost.
fn missing(state: &PartitionState, journal: JournalId) -> impl Iterator<Item = usize> {
    (1..state.epochs.len()).filter(move |at| {
        let (before, after) = (&state.epochs[at - 1], &state.epochs[*at]);
        let left = before.journal == journal && after.journal != journal;
        left && !after.after_loss && state.frontier < after.start
    })
}

pub(super) fn abandon(image: &Image, journal: JournalId, at: Timestamp) -> Checked {
    let known = find(image, journal)?;
    let end = match known.state {
        JournalState::Drained => return Ok((Reply::Done, Vec::new())),
        JournalState::Sealed { end } => end,
        JournalState::Open | JournalState::Recovering { .. } => {
            return invalid(format!("journal {journal} has not ended: seal it without an end"));
        }
    };
    let abandoned = Journal { state: JournalState::Drained, lost: Some(end), sealed_at: Some(at), ..(**known).clone() };
    let mut changes = vec![Change::PutJournal(Arc::new(abandoned))];
    for_each_partition(image, |of, state| {
        let mut moved: Option<PartitionState> = None;
        for at in missing(state, journal) {
            moved.get_or_insert_with(|| (**state).clone()).epochs[at].after_loss = true;
        }
        settle(image, journal, state, &mut moved);
        changes.extend(moved.map(|moved| Change::PutPartition(of, Arc::new(moved))));
        Ok(())
    })?;
    Ok((Reply::Done, changes))
}

/// Moves the frontier beyond what is lost, now that `drained` has nothing to upload any more. `moved` is the partition
/// as it will be, when it changes anyway.
fn settle(image: &Image, drained: JournalId, state: &PartitionState, moved: &mut Option<PartitionState>) {
    let is_drained = |journal| journal == drained || image.is_drained(journal);
    if let Some(frontier) = moved.as_ref().unwrap_or(state).beyond_loss(is_drained) {
        moved.get_or_insert_with(|| state.clone()).frontier = frontier;
    }
}

/// All partitions, in the order of their ids.
fn for_each_partition(
    image: &Image,
    mut f: impl FnMut(TopicPartition, &Arc<PartitionState>) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let mut topics: Vec<_> = image.topics.values().collect();
    topics.sort_unstable_by_key(|topic| topic.id);
    for topic in topics {
        for (partition, state) in (0..).map(Partition).zip(&topic.partitions) {
            f(TopicPartition { topic: topic.id, partition }, state)?;
        }
    }
    Ok(())
}
