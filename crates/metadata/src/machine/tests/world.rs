//! A cluster of two brokers that really append, upload, crash and lose disks, in memory, driven by random steps.
//!
//! It knows what was written where, and checks after every step what the machine must never break: an offset is given
//! to one record only; extents are contiguous but for losses; what survives on disks can always be uploaded, and then
//! lies in extents; the rows make the same image; repeated commands change nothing.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use records::{BrokerId, Incarnation, JournalId, Offset, Partition, Position, TopicPartition};
use uuid::Uuid;

use super::super::*;
use super::{AT, commit, create, extent};
use crate::codec::tests::{answered, sent};
use crate::store::{Follower, rows_for_tests::Table, told_for_tests as told};

#[derive(Debug, Clone)]
pub(super) enum Step {
    Append { pick: usize, count: i64 },
    Upload { pick: usize, frames: usize },
    Restart { broker: i32, lose: Vec<bool> },
    CreateTopic { partitions: u32 },
    Grow { pick: usize, more: u32 },
    DeleteTopic { pick: usize },
    SetLogStart { pick: usize, percent: u8 },
    Sweep { pick: usize, most: usize },
    Roll { broker: i32 },
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let count = prop_oneof![9 => 1..5i64, 1 => Just(OFFSET_RESERVE / 2), 1 => Just(OFFSET_RESERVE)];
    prop_oneof![
        12 => (any::<usize>(), count).prop_map(|(pick, count)| Step::Append { pick, count }),
        8 => (any::<usize>(), 1..6usize).prop_map(|(pick, frames)| Step::Upload { pick, frames }),
        3 => (1..3i32, proptest::collection::vec(proptest::bool::weighted(0.3), 8))
            .prop_map(|(broker, lose)| Step::Restart { broker, lose }),
        2 => (1..4u32).prop_map(|partitions| Step::CreateTopic { partitions }),
        1 => (any::<usize>(), 1..3u32).prop_map(|(pick, more)| Step::Grow { pick, more }),
        1 => any::<usize>().prop_map(|pick| Step::DeleteTopic { pick }),
        3 => (any::<usize>(), 0..=100u8).prop_map(|(pick, percent)| Step::SetLogStart { pick, percent }),
        3 => (any::<usize>(), 1..4usize).prop_map(|(pick, most)| Step::Sweep { pick, most }),
        2 => (1..3i32).prop_map(|broker| Step::Roll { broker }),
    ]
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    of: TopicPartition,
    base: i64,
    end: i64,
    /// Every frame is one byte long.
    at: u64,
}

#[derive(Debug, Default)]
struct Disk {
    frames: Vec<Frame>,
    lost: bool,
}

pub(super) struct World {
    image: Image,
    table: Table,
    follower: Follower,
    disks: BTreeMap<JournalId, Disk>,
    /// The open journal of each broker.
    current: BTreeMap<i32, (Incarnation, JournalId)>,
    /// The next offset that each partition's leader assigns.
    next: BTreeMap<TopicPartition, i64>,
    assigned: BTreeMap<TopicPartition, Vec<(i64, i64)>>,
    extents: BTreeMap<TopicPartition, BTreeMap<i64, i64>>,
    names: u128,
}

impl World {
    pub(super) fn new() -> Self {
        let mut world = Self {
            image: Image::new(Uuid::from_u128(7), Limits { partitions_max: 20, ..Limits::default() }),
            table: Table::default(),
            follower: Follower::new(Limits { partitions_max: 20, ..Limits::default() }),
            disks: BTreeMap::new(),
            current: BTreeMap::new(),
            next: BTreeMap::new(),
            assigned: BTreeMap::new(),
            extents: BTreeMap::new(),
            names: 1,
        };
        let id = bytes::Bytes::copy_from_slice(world.image.cluster_id.as_bytes());
        let beginning = proto::controller::Beginning { cluster_id: id, layout: 1 };
        let beginning = proto::controller::Followed { beginning: Some(beginning), ..Default::default() };
        world.follower.take(beginning).unwrap();
        world.restart(1, &[]);
        world.restart(2, &[]);
        world.take(&Step::CreateTopic { partitions: 3 });
        world
    }

    pub(super) fn live(mut self, steps: &[Step]) {
        for step in steps {
            self.take(step);
        }
        self.drain();
    }

    /// Carries changes out, in memory, in the database, and at a follower.
    fn apply(&mut self, changes: &[Change]) {
        self.image.apply(changes);
        self.table.write(changes);
        for message in told(changes, 0) {
            if let Some(image) = self.follower.take(message).unwrap() {
                assert_eq!(*image, self.image, "followers have the same image after {changes:?}");
            }
        }
    }

    /// Carries a command out as the store does.
    fn submit(&mut self, command: &Command) -> Result<Reply, Refusal> {
        assert_eq!(&sent(command), command, "it arrives as it was sent");
        let checked = check(&self.image, command);
        let outcome = checked.clone().map(|(reply, _)| reply);
        assert_eq!(answered(outcome.clone()), outcome, "the answer arrives as it was sent");
        let (reply, changes) = checked?;
        self.apply(&changes);
        for change in &changes {
            if let Change::PutExtent(extent) = change {
                let of = self.extents.entry(extent.topic_partition).or_default();
                of.insert(extent.base_offset.0, extent.end_offset.0);
            }
        }
        let rebuilt = self.table.rebuild(Image::new(self.image.cluster_id, self.image.limits));
        assert_eq!(rebuilt, self.image, "the rows make the same image (M1) after {command:?}");
        let repeats = !matches!(
            command,
            Command::RegisterBroker { .. }
                | Command::OpenJournal { .. }
                | Command::RecoverJournal { .. }
                | Command::AllocateProducerIds { .. }
                | Command::CreatePartitions { .. }
        );
        if repeats {
            assert_eq!(check(&self.image, command), Ok((reply.clone(), Vec::new())), "{command:?} is repeated");
        }
        self.check_extents();
        Ok(reply)
    }

    #[track_caller]
    fn must(&mut self, command: &Command) -> Reply {
        self.submit(command).unwrap_or_else(|refusal| panic!("{command:?} was refused: {refusal:?}"))
    }

    /// O2: holes are there only where an epoch says that something was lost, or below the log start.
    fn check_extents(&self) {
        for topic in self.image.topics.values() {
            for (partition, state) in (0..).map(Partition).zip(&topic.partitions) {
                let of = TopicPartition { topic: topic.id, partition };
                let starts: BTreeSet<i64> =
                    state.epochs.iter().filter(|epoch| epoch.after_loss).map(|epoch| epoch.start.0).collect();
                let mut at = state.log_start.0;
                for (base, end) in self.extents.get(&of).into_iter().flatten() {
                    if *end <= at {
                        continue;
                    }
                    assert!(*base <= at || starts.contains(base), "{of}: offsets {at} to {base} are missing");
                    at = *end;
                }
                let all = self.extents.get(&of).into_iter().flatten();
                let bytes: u64 = all.map(|(base, end)| extent(of, *base, *end, 1).len).sum();
                assert_eq!(state.bytes, bytes, "{of}: the bytes are those of its extents");
                let complete = at >= state.frontier.0 || starts.contains(&state.frontier.0);
                assert!(complete, "{of}: offsets {at} to {} are missing", state.frontier);
            }
        }
    }

    fn partitions(&self) -> Vec<TopicPartition> {
        let mut topics: Vec<_> = self.image.topics.values().collect();
        topics.sort_by_key(|topic| topic.id);
        let of = |topic: &&std::sync::Arc<Topic>| {
            let (id, count) = (topic.id, i32::try_from(topic.partitions.len()).unwrap());
            (0..count).map(move |partition| TopicPartition { topic: id, partition: Partition(partition) })
        };
        topics.iter().flat_map(of).collect()
    }

    fn take(&mut self, step: &Step) {
        let partitions = self.partitions();
        let picked = |pick: usize| partitions.get(pick % partitions.len().max(1)).copied();
        match step {
            Step::Append { pick, count } => picked(*pick).into_iter().for_each(|of| self.append(of, *count)),
            Step::Upload { pick, frames } => {
                let journals: Vec<JournalId> = self.disks.keys().copied().collect();
                self.upload(journals[pick % journals.len()], *frames);
            }
            Step::Restart { broker, lose } => self.restart(*broker, lose),
            Step::Roll { broker } => self.roll(*broker),
            Step::CreateTopic { partitions } => {
                let n = self.names;
                self.names += 1;
                match self.submit(&create(&format!("t{n}"), n, *partitions)) {
                    Ok(_) | Err(Refusal::LimitReached { .. }) => {}
                    Err(refusal) => panic!("{refusal:?}"),
                }
            }
            Step::Grow { pick, more } => {
                let Some(of) = picked(*pick) else { return };
                let now = u32::try_from(self.image.topics[&of.topic].partitions.len()).unwrap();
                match self.submit(&Command::CreatePartitions { topic: of.topic, total: now + more }) {
                    Ok(_) | Err(Refusal::LimitReached { .. }) => {}
                    Err(refusal) => panic!("{refusal:?}"),
                }
            }
            Step::DeleteTopic { pick } => {
                let Some(of) = picked(*pick) else { return };
                self.must(&Command::DeleteTopic { id: of.topic, at: AT });
                for disk in self.disks.values_mut() {
                    disk.frames.iter_mut().filter(|frame| frame.of.topic == of.topic).for_each(|frame| frame.end = 0);
                }
                // The background sweep.
                self.apply(&[Change::EndDeleted(of.topic)]);
            }
            Step::Sweep { pick, most } => {
                let trims: Vec<TopicPartition> = self.image.trims.iter().copied().collect();
                if let Some(of) = trims.get(pick % trims.len().max(1)) {
                    self.sweep(*of, *most);
                }
            }
            Step::SetLogStart { pick, percent } => {
                let Some(topic_partition) = picked(*pick) else { return };
                let (from, to) =
                    (self.image.partition(topic_partition).unwrap().log_start.0, self.next_of(topic_partition));
                let offset = Offset(from + (to - from) / 100 * i64::from(*percent));
                self.must(&Command::SetLogStart { topic_partition, offset });
            }
        }
    }

    /// Removes some of the extents below the log start, as the background sweep does.
    fn sweep(&mut self, of: TopicPartition, most: usize) {
        let log_start = self.image.partition(of).unwrap().log_start.0;
        let extents = self.extents.entry(of).or_default();
        let below: Vec<(i64, i64)> =
            extents.iter().map(|(base, end)| (*base, *end)).filter(|(_, end)| *end <= log_start).collect();
        let mut changes = Vec::new();
        let mut bytes = 0;
        for (base, end) in below.iter().take(most) {
            extents.remove(base);
            bytes += extent(of, *base, *end, 1).len;
            changes.push(Change::DeleteExtent { topic_partition: of, end_offset: Offset(*end) });
        }
        changes.extend(swept(&self.image, of, bytes));
        if below.len() <= most {
            changes.push(Change::EndTrim(of));
        }
        self.apply(&changes);
        self.check_extents();
    }

    fn next_of(&self, of: TopicPartition) -> i64 {
        self.next.get(&of).copied().unwrap_or_else(|| self.image.partition(of).unwrap().epoch_start().0)
    }

    fn append(&mut self, of: TopicPartition, count: i64) {
        let state = self.image.partition(of).unwrap().clone();
        let base = self.next_of(of);
        if base + count > state.assign_limit().0 {
            return; // The leader waits for uploads.
        }
        assert!(base >= state.epoch_start().0 && base >= state.log_start.0);
        let given = self.assigned.entry(of).or_default();
        let twice = given.iter().find(|(from, to)| *from < base + count && base < *to);
        assert_eq!(twice, None, "{of}: offsets from {base} on are given again");
        given.push((base, base + count));
        self.next.insert(of, base + count);
        let frames = &mut self.disks.get_mut(&state.journal).unwrap().frames;
        let at = u64::try_from(frames.len()).unwrap();
        frames.push(Frame { of, base, end: base + count, at });
    }

    /// Uploads the next frames of a journal. Says whether it got further.
    fn upload(&mut self, journal: JournalId, frames: usize) -> bool {
        let (known, disk) = (self.image.journals.get(&journal).cloned(), &self.disks[&journal]);
        let Some(known) = known.filter(|known| known.state != JournalState::Drained && !disk.lost) else {
            return false;
        };
        let from = known.uploaded.0;
        let batch: Vec<Frame> = disk.frames.iter().filter(|frame| frame.at >= from).take(frames).copied().collect();
        let Some(last) = batch.last() else { return false };
        let to = last.at + 1;
        let object = u128::from(journal.0) << 64 | u128::from(to);
        let mut by_partition: BTreeMap<TopicPartition, (i64, i64)> = BTreeMap::new();
        for frame in batch.iter().filter(|frame| frame.end > 0) {
            by_partition.entry(frame.of).or_insert((frame.base, frame.base)).1 = frame.end;
        }
        let extents = by_partition.into_iter().map(|(of, (base, end))| extent(of, base, end, object)).collect();
        match self.submit(&commit(journal.0, from, to, object, extents)) {
            Ok(reply) => {
                assert_eq!(reply, Reply::Committed { uploaded: Position(to) });
                true
            }
            Err(Refusal::NotContiguous { .. }) => false,
            Err(refusal) => panic!("upload of {journal} from {from} to {to}: {refusal:?}"),
        }
    }

    /// The broker comes back, perhaps without some of its journals' disks.
    fn restart(&mut self, broker: i32, lose: &[bool]) {
        let name = format!("b{broker}");
        let register = Command::RegisterBroker { name, zone: String::new(), endpoints: Vec::new(), at: AT };
        let Reply::Registered { incarnation, broker: id } = self.must(&register) else { unreachable!() };
        assert_eq!(id, BrokerId(broker));
        let left: Vec<JournalId> = self
            .image
            .journals
            .values()
            .filter(|journal| journal.owner == id && journal.state != JournalState::Drained)
            .map(|journal| journal.id)
            .collect();
        for (journal, lose) in left.iter().zip(lose) {
            self.disks.get_mut(journal).unwrap().lost |= lose;
        }
        let successor = self.open(broker, incarnation);
        for journal in left {
            let by = id;
            if let JournalState::Sealed { .. } = self.image.journals[&journal].state {
                if self.disks[&journal].lost {
                    self.must(&Command::AbandonJournal { journal, at: AT });
                }
                continue;
            }
            let Reply::Recovering { epoch } = self.must(&Command::RecoverJournal { journal, by }) else {
                unreachable!()
            };
            self.seal(journal, epoch, successor);
        }
    }

    /// The owner closes its journal and goes on in another.
    fn roll(&mut self, broker: i32) {
        let (incarnation, journal) = self.current[&broker];
        let successor = self.open(broker, incarnation);
        self.seal(journal, 0, successor);
    }

    fn open(&mut self, broker: i32, incarnation: Incarnation) -> JournalId {
        let owner = BrokerId(broker);
        let open = Command::OpenJournal { owner, incarnation, members: vec![owner], ack_quorum: 1, at: AT };
        let Reply::JournalOpened { journal } = self.must(&open) else { unreachable!() };
        assert!(self.disks.insert(journal, Disk::default()).is_none(), "a journal's id is given once");
        self.current.insert(broker, (incarnation, journal));
        journal
    }

    fn seal(&mut self, journal: JournalId, epoch: u64, successor: JournalId) {
        let disk = &self.disks[&journal];
        let mut ends: BTreeMap<TopicPartition, Offset> = BTreeMap::new();
        for frame in disk.frames.iter().filter(|frame| frame.end > 0) {
            ends.insert(frame.of, Offset(frame.end));
        }
        let end = (!disk.lost).then(|| Position(u64::try_from(disk.frames.len()).unwrap()));
        let uploaded = self.image.journals[&journal].uploaded;
        let partitions = ends.into_iter().map(PartitionStart::from).collect();
        let reply = self.must(&Command::SealJournal { journal, epoch, end, successor, partitions, at: AT });
        assert_eq!(reply, Reply::JournalSealed { end: end.unwrap_or(uploaded) });
        // New leaders start where the metadata says.
        let moved: Vec<TopicPartition> = self
            .partitions()
            .into_iter()
            .filter(|of| self.image.partition(*of).is_some_and(|state| state.journal == successor))
            .collect();
        for of in moved {
            let start = self.image.partition(of).unwrap().epoch_start().0;
            self.next.insert(of, start);
        }
    }

    /// Everything that is on disks can be uploaded, and then lies in extents.
    fn drain(&mut self) {
        let journals: Vec<JournalId> = self.disks.keys().copied().collect();
        while journals.iter().filter(|journal| self.upload(**journal, 3)).count() > 0 {}
        for (id, disk) in &self.disks {
            let Some(journal) = self.image.journals.get(id) else { continue };
            let open = self.current.values().any(|(_, current)| current == id);
            assert!(open || journal.state == JournalState::Drained, "{journal:?} is stuck");
            for frame in disk.frames.iter().filter(|frame| !disk.lost && frame.end > 0) {
                let Some(state) = self.image.partition(frame.of) else { continue };
                let held = |(base, end): (&i64, &i64)| *base <= frame.base && frame.end <= *end;
                let below = frame.end <= state.log_start.0;
                let kept = below || self.extents.get(&frame.of).is_some_and(|extents| extents.iter().any(held));
                assert!(kept, "{frame:?} of {id} was lost");
            }
        }
    }
}
