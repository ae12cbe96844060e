//! The rows: under which key each thing lies, and its encoding. The prost messages are in `proto::metadata`.
//!
//! A key starts with a byte that says what it is; numbers follow with their most significant byte first, so that a scan
//! gives them in order.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use objects::Extent;
use prost::Message;
use prost::bytes::Bytes;
use proto::metadata as stored;
use records::{
    BrokerId, Incarnation, JournalId, LeaderEpoch, Offset, Partition, Position, ProducerId, Timestamp, TopicId,
    TopicPartition,
};
use slatedb::{DbReadOps, WriteBatch};
use uuid::Uuid;

use super::database::read_options;
use crate::handle::QueryError;
use crate::machine::{
    Broker, Change, Configs, Counters, DeletedTopic, Endpoint, EpochStart, Image, Journal, JournalState, LastCommit,
    NextIds, ObjectMeta, PartitionState,
};

/// The layout that this code writes, and the newest that it reads.
pub(super) const LAYOUT: u32 = 1;

const COMMIT: u8 = b'!';
const COUNTERS: u8 = b'#';
const BROKER: u8 = b'b';
const CONFIGS: u8 = b'c';
const DELETED: u8 = b'd';
const EXTENT: u8 = b'e';
const GARBAGE: u8 = b'g';
const JOURNAL: u8 = b'j';
const OBJECT: u8 = b'o';
const PARTITION: u8 = b'p';
const TRIM: u8 = b'r';
const TOPIC: u8 = b't';

/// The kinds of rows that the image is made of, in an order in which they can be applied.
pub(super) const IMAGE_KINDS: [u8; 8] = [COUNTERS, BROKER, CONFIGS, JOURNAL, TOPIC, PARTITION, DELETED, TRIM];

/// Whether a key's row is a part of the image.
pub(super) fn is_image(key: &[u8]) -> bool {
    key.first().is_some_and(|kind| IMAGE_KINDS.contains(kind))
}

/// A stored row that cannot be understood.
#[derive(Debug, thiserror::Error)]
#[error("row {key}: {why}")]
pub(super) struct RowError {
    key: String,
    why: String,
}

fn broken(key: &[u8], why: impl std::fmt::Display) -> RowError {
    let key = key.iter().map(|byte| format!("{byte:02x}")).collect();
    RowError { key, why: why.to_string() }
}

/// All keys of a kind.
pub(super) fn all_of(kind: u8) -> Range<Vec<u8>> {
    vec![kind]..vec![kind + 1]
}

pub(super) fn commit_key() -> [u8; 1] {
    [COMMIT]
}

fn key(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut key = vec![kind];
    parts.iter().for_each(|part| key.extend_from_slice(part));
    key
}

fn partition_part(of: TopicPartition) -> [u8; 20] {
    let mut part = [0; 20];
    part[..16].copy_from_slice(of.topic.0.as_bytes());
    part[16..].copy_from_slice(&of.partition.0.cast_unsigned().to_be_bytes());
    part
}

fn extent_key(of: TopicPartition, last: Offset) -> Vec<u8> {
    key(EXTENT, &[&partition_part(of), &last.0.cast_unsigned().to_be_bytes()])
}

/// An extent's key, by where it ends.
pub(super) fn extent_of(of: TopicPartition, end: Offset) -> Vec<u8> {
    extent_key(of, Offset(end.0.saturating_sub(1)))
}

/// All extents of the partitions after one.
pub(super) fn extents_after(after: Option<TopicPartition>) -> Range<Vec<u8>> {
    let mut all = all_of(EXTENT);
    if let Some(after) = after {
        // No offset is larger, and a key that goes on is.
        all.start = key(EXTENT, &[&partition_part(after), &u64::MAX.to_be_bytes(), &[0]]);
    }
    all
}

pub(super) fn partition_key(of: TopicPartition) -> Vec<u8> {
    key(PARTITION, &[&partition_part(of)])
}

pub(super) fn trim_key(of: TopicPartition) -> Vec<u8> {
    key(TRIM, &[&partition_part(of)])
}

pub(super) fn deleted_key(topic: TopicId) -> Vec<u8> {
    key(DELETED, &[topic.0.as_bytes()])
}

/// All partitions, or those after one.
pub(super) fn partitions(after: Option<TopicPartition>) -> Range<Vec<u8>> {
    let mut all = all_of(PARTITION);
    if let Some(after) = after {
        all.start = key(PARTITION, &[&partition_part(after), &[0]]);
    }
    all
}

/// The extents of a partition that end above `from`, up to those that hold offsets below `to`.
pub(super) fn extents(of: TopicPartition, from: Offset, to: Offset) -> Range<Vec<u8>> {
    extent_key(of, from)..extent_key(of, to)
}

/// The extents of all partitions of a topic.
pub(super) fn extents_of_topic(topic: TopicId) -> Range<Vec<u8>> {
    let end =
        topic.0.as_u128().checked_add(1).map_or_else(|| vec![EXTENT + 1], |next| key(EXTENT, &[&next.to_be_bytes()]));
    key(EXTENT, &[topic.0.as_bytes()])..end
}

pub(super) fn object_key(id: Uuid) -> Vec<u8> {
    key(OBJECT, &[id.as_bytes()])
}

/// All objects that extents refer to, or those after one.
pub(super) fn objects(after: Option<Uuid>) -> Range<Vec<u8>> {
    after_id(OBJECT, after)
}

pub(super) fn garbage_key(id: Uuid) -> Vec<u8> {
    key(GARBAGE, &[id.as_bytes()])
}

/// All garbage, or that after an object's.
pub(super) fn garbage(after: Option<Uuid>) -> Range<Vec<u8>> {
    after_id(GARBAGE, after)
}

/// All keys of a kind that ends with an id, or those after one.
fn after_id(kind: u8, after: Option<Uuid>) -> Range<Vec<u8>> {
    let mut all = all_of(kind);
    if let Some(after) = after {
        // The least key that is larger.
        all.start.extend_from_slice(after.as_bytes());
        all.start.push(0);
    }
    all
}

/// The state of a partition's row.
pub(super) fn partition_state(key: &[u8], value: &[u8]) -> Result<PartitionState, RowError> {
    state_of(key, stored::Partition::decode(value).map_err(|error| broken(key, error))?)
}

/// Whether a partition's row says nothing of its bytes: an earlier version wrote it.
pub(super) fn is_uncounted(key: &[u8], value: &[u8]) -> Result<bool, RowError> {
    let row = stored::Partition::decode(value).map_err(|error| broken(key, error))?;
    Ok(row.bytes.is_none())
}

/// How a journal stands, or the id of the next one when there is none: then one with a lower id is forgotten.
pub(super) async fn journal(
    rows: &impl DbReadOps,
    id: JournalId,
) -> Result<Result<Arc<Journal>, JournalId>, QueryError> {
    let journal = key(JOURNAL, &[&id.0.to_be_bytes()]);
    if let Some(row) = rows.get_with_options(&journal, &read_options()).await? {
        let Change::PutJournal(journal) = decode(&journal, &row)? else { unreachable!("the key is a journal's") };
        return Ok(Ok(journal));
    }
    let next = match rows.get_with_options([COUNTERS], &read_options()).await? {
        Some(row) => stored::Counters::decode(row).map_err(|error| broken(&[COUNTERS], error))?.journal,
        None => 0,
    };
    Ok(Err(JournalId(next)))
}

/// The object of a row.
pub(super) fn decode_object_row(key: &[u8], value: &[u8]) -> Result<(ObjectMeta, u32), RowError> {
    let [id] = split(key, [16])?;
    decode_object(Uuid::from_slice(id).expect("16 bytes were split off"), value)
}

/// What every batch writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Commit {
    pub(super) revision: u64,
    pub(super) id: Uuid,
}

impl Commit {
    pub(super) fn decode(value: &[u8]) -> Result<Self, RowError> {
        let row = stored::Commit::decode(value).map_err(|error| broken(&[COMMIT], error))?;
        if row.layout > LAYOUT {
            return Err(broken(
                &[COMMIT],
                format!("layout {} is newer than this version, which knows {LAYOUT}", row.layout),
            ));
        }
        let id = Uuid::from_slice(&row.id).map_err(|error| broken(&[COMMIT], error))?;
        Ok(Self { revision: row.revision, id })
    }
}

fn bytes(id: Uuid) -> Bytes {
    Bytes::copy_from_slice(id.as_bytes())
}

/// Where rows are written to.
pub(super) trait Rows {
    fn put(&mut self, key: &[u8], value: Vec<u8>);
    fn delete(&mut self, key: &[u8]);
}

impl Rows for WriteBatch {
    fn put(&mut self, key: &[u8], value: Vec<u8>) {
        WriteBatch::put(self, key, value);
    }

    fn delete(&mut self, key: &[u8]) {
        WriteBatch::delete(self, key);
    }
}

fn put(rows: &mut impl Rows, key: &[u8], row: &impl Message) {
    rows.put(key, row.encode_to_vec());
}

/// One batch: changes, and the row that says that they were written.
pub(super) fn batch(changes: &[Change], commit: Commit) -> WriteBatch {
    let mut batch = WriteBatch::new();
    for change in changes {
        add(&mut batch, change);
    }
    let row = stored::Commit { revision: commit.revision, id: bytes(commit.id), layout: LAYOUT };
    put(&mut batch, &[COMMIT], &row);
    batch
}

/// Writes the row that a change is, or its end.
pub(super) fn add(batch: &mut impl Rows, change: &Change) {
    match change {
        Change::PutBroker(broker) => {
            put(batch, &key(BROKER, &[&broker.id.0.cast_unsigned().to_be_bytes()]), &broker_row(broker));
        }
        Change::PutTopic { id, name, configs, created_at } => {
            let row = stored::Topic { name: name.to_string(), configs: (**configs).clone(), created_at: created_at.0 };
            put(batch, &key(TOPIC, &[id.0.as_bytes()]), &row);
        }
        Change::PutPartition(of, state) => {
            put(batch, &key(PARTITION, &[&partition_part(*of)]), &partition_row(state));
        }
        Change::DeleteTopic { id, partitions } => {
            batch.delete(&key(TOPIC, &[id.0.as_bytes()]));
            for partition in (0..).map(Partition).take(usize::try_from(*partitions).unwrap_or(usize::MAX)) {
                let of = TopicPartition { topic: *id, partition };
                batch.delete(&key(PARTITION, &[&partition_part(of)]));
            }
        }
        Change::PutDeleted(id, deleted) => {
            let row = stored::DeletedTopic { partitions: deleted.partitions, at: deleted.at.0 };
            put(batch, &key(DELETED, &[id.0.as_bytes()]), &row);
        }
        Change::EndDeleted(id) => batch.delete(&key(DELETED, &[id.0.as_bytes()])),
        Change::PutTrim(of) => put(batch, &key(TRIM, &[&partition_part(*of)]), &stored::Trim {}),
        Change::EndTrim(of) => batch.delete(&key(TRIM, &[&partition_part(*of)])),
        Change::PutJournal(journal) => {
            put(batch, &key(JOURNAL, &[&journal.id.0.to_be_bytes()]), &journal_row(journal));
        }
        Change::ForgetJournal(id) => batch.delete(&key(JOURNAL, &[&id.0.to_be_bytes()])),
        Change::PutBrokerConfigs(broker, configs) => {
            let id = broker.map(|broker| broker.0.cast_unsigned().to_be_bytes());
            let key = key(CONFIGS, &[id.as_ref().map_or(&[], |id| &id[..])]);
            if configs.is_empty() {
                batch.delete(&key);
            } else {
                put(batch, &key, &stored::Configs { values: (**configs).clone() });
            }
        }
        Change::PutCounters(next) => {
            let Counters { broker, journal, producer } = next.0;
            let row = stored::Counters { broker: broker.0, journal: journal.0, producer: producer.0 };
            put(batch, &[COUNTERS], &row);
        }
        Change::PutExtent(extent) => {
            let mut row = extent.to_proto();
            (row.topic, row.partition, row.end_offset) = (Bytes::new(), 0, 0);
            let row = stored::Extent { object: bytes(extent.object), extent: Some(row) };
            put(batch, &extent_key(extent.topic_partition, Offset(extent.end_offset.0 - 1)), &row);
        }
        Change::DeleteExtent { topic_partition, end_offset } => {
            batch.delete(&extent_key(*topic_partition, Offset(end_offset.0 - 1)));
        }
        Change::PutObject { object, live } => {
            let row = stored::Object { key: object.key.clone(), size: object.size, live: *live };
            put(batch, &object_key(object.id), &row);
        }
        Change::DeleteObject(id) => batch.delete(&object_key(*id)),
        Change::PutGarbage { object, since } => {
            let row = stored::Garbage { key: object.key.clone(), size: object.size, since: since.0 };
            put(batch, &garbage_key(object.id), &row);
        }
        Change::EndGarbage(object) => batch.delete(&garbage_key(object.id)),
    }
}

fn broker_row(broker: &Broker) -> stored::Broker {
    let endpoint = |at: &Endpoint| stored::Endpoint {
        listener: at.listener.clone(),
        host: at.host.clone(),
        port: u32::from(at.port),
    };
    stored::Broker {
        name: broker.name.to_string(),
        zone: broker.zone.clone(),
        endpoints: broker.endpoints.iter().map(endpoint).collect(),
        incarnation: broker.incarnation.0,
        registered_at: broker.registered_at.0,
        fenced: broker.fenced,
    }
}

fn partition_row(state: &PartitionState) -> stored::Partition {
    let epoch = |epoch: &EpochStart| stored::EpochStart {
        epoch: epoch.epoch.0,
        start: epoch.start.0,
        journal: epoch.journal.0,
        after_loss: epoch.after_loss,
    };
    stored::Partition {
        leader: state.leader.0,
        epochs: state.epochs.iter().map(epoch).collect(),
        log_start: state.log_start.0,
        frontier: state.frontier.0,
        bytes: Some(state.bytes),
    }
}

fn journal_row(journal: &Journal) -> stored::Journal {
    use stored::journal::{Drained, Open, Recovering, Sealed, State};
    let state = match journal.state {
        JournalState::Open => State::Open(Open {}),
        JournalState::Recovering { epoch, by } => State::Recovering(Recovering { epoch, by: by.0 }),
        JournalState::Sealed { end } => State::Sealed(Sealed { end: end.0 }),
        JournalState::Drained => State::Drained(Drained {}),
    };
    let last = &journal.last_commit;
    stored::Journal {
        owner: journal.owner.0,
        incarnation: journal.incarnation.0,
        members: journal.members.iter().map(|member| member.0).collect(),
        ack_quorum: u32::from(journal.ack_quorum),
        state: Some(state),
        epoch: journal.epoch,
        successor: journal.successor.map_or(0, |successor| successor.0),
        uploaded: journal.uploaded.0,
        opened_at: journal.opened_at.0,
        sealed_at: journal.sealed_at.map(|at| at.0),
        last_commit: Some(stored::LastCommit {
            object: bytes(last.object),
            at: last.at.0,
            newest_append: last.newest_append.0,
            durable_seen: last.durable_seen.0,
        }),
        lost: journal.lost.map(|end| end.0),
        closed: journal.closed.map(|end| end.0),
    }
}

/// Splits a key after its first byte into parts of the asked lengths.
fn split<const N: usize>(whole: &[u8], lengths: [usize; N]) -> Result<[&[u8]; N], RowError> {
    let mut rest = whole.get(1..).unwrap_or_default();
    let mut parts = [&[][..]; N];
    for (part, length) in parts.iter_mut().zip(lengths) {
        (*part, rest) = rest.split_at_checked(length).ok_or_else(|| broken(whole, "the key is too short"))?;
    }
    if rest.is_empty() { Ok(parts) } else { Err(broken(whole, "the key is too long")) }
}

fn topic_of(part: &[u8]) -> TopicId {
    TopicId(Uuid::from_slice(part).expect("16 bytes were split off"))
}

fn i32_of(part: &[u8]) -> i32 {
    i32::from_be_bytes(part.try_into().expect("4 bytes were split off"))
}

fn u64_of(part: &[u8]) -> u64 {
    u64::from_be_bytes(part.try_into().expect("8 bytes were split off"))
}

pub(super) fn partition_of(key: &[u8]) -> Result<TopicPartition, RowError> {
    let [topic, partition] = split(key, [16, 4])?;
    Ok(TopicPartition { topic: topic_of(topic), partition: Partition(i32_of(partition)) })
}

/// The change that a row of the image stands for.
pub(super) fn decode(key: &[u8], value: &[u8]) -> Result<Change, RowError> {
    fn row<M: Message + Default>(key: &[u8], value: &[u8]) -> Result<M, RowError> {
        M::decode(value).map_err(|error| broken(key, error))
    }
    match key.first().copied().unwrap_or_default() {
        COUNTERS => {
            let row: stored::Counters = row(key, value)?;
            let (broker, journal, producer) = (BrokerId(row.broker), JournalId(row.journal), ProducerId(row.producer));
            Ok(Change::PutCounters(NextIds(Counters { broker, journal, producer })))
        }
        BROKER => {
            let [id] = split(key, [4])?;
            broker_of(key, BrokerId(i32_of(id)), row(key, value)?)
        }
        CONFIGS => {
            let broker = if key.len() == 1 { None } else { Some(BrokerId(i32_of(split(key, [4])?[0]))) };
            let row: stored::Configs = row(key, value)?;
            Ok(Change::PutBrokerConfigs(broker, configs(row.values)))
        }
        JOURNAL => {
            let [id] = split(key, [8])?;
            journal_of(key, JournalId(u64_of(id)), row(key, value)?)
        }
        TOPIC => {
            let [id] = split(key, [16])?;
            let row: stored::Topic = row(key, value)?;
            let (name, created_at) = (row.name.into(), Timestamp(row.created_at));
            Ok(Change::PutTopic { id: topic_of(id), name, configs: configs(row.configs), created_at })
        }
        PARTITION => {
            let of = partition_of(key)?;
            state_of(key, row(key, value)?).map(|state| Change::PutPartition(of, Arc::new(state)))
        }
        DELETED => {
            let [id] = split(key, [16])?;
            let row: stored::DeletedTopic = row(key, value)?;
            Ok(Change::PutDeleted(topic_of(id), DeletedTopic { partitions: row.partitions, at: Timestamp(row.at) }))
        }
        TRIM => Ok(Change::PutTrim(partition_of(key)?)),
        _ => Err(broken(key, "unknown kind")),
    }
}

/// The change that the end of a row of the image stands for; nothing where another row's end says it.
pub(super) fn ended(key: &[u8], image: &Image) -> Result<Option<Change>, RowError> {
    let end = match key.first().copied().unwrap_or_default() {
        CONFIGS => {
            let broker = if key.len() == 1 { None } else { Some(BrokerId(i32_of(split(key, [4])?[0]))) };
            Change::PutBrokerConfigs(broker, Arc::default())
        }
        JOURNAL => Change::ForgetJournal(JournalId(u64_of(split(key, [8])?[0]))),
        TOPIC => {
            let id = topic_of(split(key, [16])?[0]);
            let topic = image.topics.get(&id).ok_or_else(|| broken(key, "there is no such topic"))?;
            let partitions = u32::try_from(topic.partitions.len()).map_err(|error| broken(key, error))?;
            Change::DeleteTopic { id, partitions }
        }
        // They go with their topic.
        PARTITION => return Ok(None),
        DELETED => Change::EndDeleted(topic_of(split(key, [16])?[0])),
        TRIM => Change::EndTrim(partition_of(key)?),
        _ => return Err(broken(key, "such rows do not end")),
    };
    Ok(Some(end))
}

fn configs(values: BTreeMap<String, String>) -> Arc<Configs> {
    Arc::new(values)
}

fn broker_of(key: &[u8], id: BrokerId, row: stored::Broker) -> Result<Change, RowError> {
    let endpoint = |at: stored::Endpoint| {
        let port = u16::try_from(at.port).map_err(|error| broken(key, error))?;
        Ok(Endpoint { listener: at.listener, host: at.host, port })
    };
    Ok(Change::PutBroker(Arc::new(Broker {
        id,
        name: row.name.into(),
        zone: row.zone,
        endpoints: row.endpoints.into_iter().map(endpoint).collect::<Result<_, _>>()?,
        incarnation: Incarnation(row.incarnation),
        registered_at: Timestamp(row.registered_at),
        fenced: row.fenced,
    })))
}

fn state_of(key: &[u8], row: stored::Partition) -> Result<PartitionState, RowError> {
    let epochs: Vec<EpochStart> = row
        .epochs
        .into_iter()
        .map(|epoch| EpochStart {
            epoch: LeaderEpoch(epoch.epoch),
            start: Offset(epoch.start),
            journal: JournalId(epoch.journal),
            after_loss: epoch.after_loss,
        })
        .collect();
    let last = epochs.last().ok_or_else(|| broken(key, "a partition without a leader epoch"))?;
    Ok(PartitionState {
        leader: BrokerId(row.leader),
        leader_epoch: last.epoch,
        journal: last.journal,
        log_start: Offset(row.log_start),
        frontier: Offset(row.frontier),
        bytes: row.bytes.unwrap_or_default(),
        epochs,
    })
}

fn journal_of(key: &[u8], id: JournalId, row: stored::Journal) -> Result<Change, RowError> {
    use stored::journal::State;
    let state = match row.state.ok_or_else(|| broken(key, "a journal without a state"))? {
        State::Open(_) => JournalState::Open,
        State::Recovering(at) => JournalState::Recovering { epoch: at.epoch, by: BrokerId(at.by) },
        State::Sealed(at) => JournalState::Sealed { end: Position(at.end) },
        State::Drained(_) => JournalState::Drained,
    };
    let last = row.last_commit.ok_or_else(|| broken(key, "a journal without its last commit"))?;
    Ok(Change::PutJournal(Arc::new(Journal {
        id,
        owner: BrokerId(row.owner),
        incarnation: Incarnation(row.incarnation),
        members: row.members.into_iter().map(BrokerId).collect(),
        ack_quorum: u8::try_from(row.ack_quorum).map_err(|error| broken(key, error))?,
        state,
        epoch: row.epoch,
        successor: Some(JournalId(row.successor)).filter(|successor| successor.0 != 0),
        uploaded: Position(row.uploaded),
        opened_at: Timestamp(row.opened_at),
        sealed_at: row.sealed_at.map(Timestamp),
        last_commit: LastCommit {
            object: Uuid::from_slice(&last.object).map_err(|error| broken(key, error))?,
            at: Timestamp(last.at),
            newest_append: Timestamp(last.newest_append),
            durable_seen: Position(last.durable_seen),
        },
        lost: row.lost.map(Position),
        closed: row.closed.map(Position),
    })))
}

/// The extent of a row.
pub(super) fn decode_extent(key: &[u8], value: &[u8]) -> Result<Extent, RowError> {
    let [topic, partition, last] = split(key, [16, 4, 8])?;
    let row = stored::Extent::decode(value).map_err(|error| broken(key, error))?;
    let object = Uuid::from_slice(&row.object).map_err(|error| broken(key, error))?;
    let mut extent = row.extent.ok_or_else(|| broken(key, "an extent without what it is"))?;
    extent.topic = Bytes::copy_from_slice(topic);
    extent.partition = i32_of(partition).cast_unsigned();
    extent.end_offset = u64_of(last).cast_signed().checked_add(1).ok_or_else(|| broken(key, "no such offset"))?;
    Extent::from_proto(&extent, object).map_err(|error| broken(key, error))
}

/// The object of a row, and how many of its extents are part of the log.
pub(super) fn decode_object(id: Uuid, value: &[u8]) -> Result<(ObjectMeta, u32), RowError> {
    let row = stored::Object::decode(value).map_err(|error| broken(&object_key(id), error))?;
    Ok((ObjectMeta { id, key: row.key, size: row.size }, row.live))
}

/// An object that nothing refers to, and since when.
pub(super) fn decode_garbage(key: &[u8], value: &[u8]) -> Result<(ObjectMeta, Timestamp), RowError> {
    let [id] = split(key, [16])?;
    let row = stored::Garbage::decode(value).map_err(|error| broken(key, error))?;
    let id = Uuid::from_slice(id).expect("16 bytes were split off");
    Ok((ObjectMeta { id, key: row.key, size: row.size }, Timestamp(row.since)))
}
