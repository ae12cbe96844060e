//! The producers' snapshot that travels with each extent: what is remembered of idempotent producers, as of the
//! extent's end and not a batch further. If it knew of later batches and those were lost with a disk, their retry would
//! be taken for a repeat, and acknowledged without being stored.

use bytes::Bytes;
use metadata::LocatedExtent;
use objects::ExtentReader;
use prost::Message;
use proto::log as stored;
use records::{Offset, ProducerEpoch, ProducerId, Timestamp, TopicPartition};

use crate::fetch::{FetchError, object_of};
use crate::producers::{Past, Producer, Producers};
use crate::store::Inner;

/// A snapshot that lies in the object store: that of the last extent below a partition's upload frontier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SnapshotRef {
    pub(crate) below: Offset,
}

/// The bytes to store; empty when nothing is remembered.
pub(crate) fn encode(producers: &Producers) -> Bytes {
    let mut all: Vec<_> = producers
        .iter()
        .map(|(id, producer)| stored::Producer {
            id: id.0,
            epoch: i32::from(producer.epoch.0),
            batches: producer.batches.iter().map(encode_past).collect(),
        })
        .collect();
    all.sort_unstable_by_key(|producer| producer.id);
    stored::ProducerSnapshot { producers: all }.encode_to_vec().into()
}

fn encode_past(past: &Past) -> stored::PastBatch {
    stored::PastBatch {
        first_sequence: past.first_sequence,
        last_sequence: past.last_sequence,
        base_offset: past.base_offset.0,
        next_offset: past.next_offset.0,
        timestamp_ms: past.timestamp.0,
    }
}

/// Reads what [`encode`] wrote. Every producer in it counts as heard of `now`.
pub(crate) fn decode(bytes: Bytes, now: Timestamp) -> Result<Producers, FetchError> {
    let snapshot = stored::ProducerSnapshot::decode(bytes).map_err(|_| FetchError::Damaged("a producers' snapshot"))?;
    let mut producers = Producers::default();
    for producer in snapshot.producers {
        let epoch = i16::try_from(producer.epoch).map_err(|_| FetchError::Damaged("a producer's epoch"))?;
        let batches = producer.batches.iter().map(|past| Past {
            first_sequence: past.first_sequence,
            last_sequence: past.last_sequence,
            base_offset: Offset(past.base_offset),
            next_offset: Offset(past.next_offset),
            timestamp: Timestamp(past.timestamp_ms),
        });
        let batches = batches.collect();
        let producer_id = ProducerId(producer.id);
        producers.restore(producer_id, Producer { epoch: ProducerEpoch(epoch), last_seen: now, batches });
    }
    Ok(producers)
}

/// Reads the snapshot of the last extent below `at.below`: one row of metadata, and one read of the object.
pub(crate) async fn load(inner: &Inner, id: TopicPartition, at: &SnapshotRef) -> Result<Producers, FetchError> {
    if at.below == Offset(0) {
        return Ok(Producers::default());
    }
    let Some(last) = last_extent(inner, id, at.below).await? else { return Ok(Producers::default()) };
    let object = object_of(&last);
    let bytes = ExtentReader::new(&inner.reader, &object, &last.extent).producer_snapshot().await?;
    decode(bytes, inner.clock.now())
}

/// The last extent below an upload frontier. It ends there, unless what lies in between was lost: then it is searched
/// for, in some 40 rows of metadata.
async fn last_extent(inner: &Inner, id: TopicPartition, below: Offset) -> Result<Option<LocatedExtent>, FetchError> {
    let first_from =
        async |from: i64| inner.metadata.extents(id, Offset(from), 1).await.map(|mut extents| extents.pop());
    // No extent reaches to `high` or beyond it; `best` is the last of those that end at or below `low`.
    let mut high = below.0 - 1;
    if let Some(last) = first_from(high).await? {
        return Ok(Some(last));
    }
    let Some(mut best) = first_from(0).await? else { return Ok(None) };
    let mut low = best.extent.end_offset.0;
    while low < high {
        let middle = low + (high - low) / 2;
        match first_from(middle).await? {
            Some(found) => {
                low = found.extent.end_offset.0;
                best = found;
            }
            None => high = middle,
        }
    }
    Ok(Some(best))
}
