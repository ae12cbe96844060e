//! The producers' snapshot that travels with each extent: what is remembered of idempotent producers, as of the
//! extent's end and not a batch further. If it knew of later batches and those were lost with a disk, their retry would
//! be taken for a repeat, and acknowledged without being stored.

use bytes::Bytes;
use prost::Message;
use proto::log as stored;
use records::{Offset, ProducerEpoch, ProducerId, Timestamp, TopicPartition};

use crate::fetch::FetchError;
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

/// Reads what [`encode`] wrote.
pub(crate) fn decode(bytes: Bytes) -> Result<Producers, FetchError> {
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
        producers.restore(ProducerId(producer.id), Producer { epoch: ProducerEpoch(epoch), batches });
    }
    Ok(producers)
}

/// Reads the snapshot of the last extent below `at.below`: one row of metadata, and one read of the object.
pub(crate) async fn load(inner: &Inner, id: TopicPartition, at: &SnapshotRef) -> Result<Producers, FetchError> {
    if at.below == Offset(0) {
        return Ok(Producers::default());
    }
    let extents = inner.metadata.extents(id, Offset(at.below.0 - 1), 1).await?;
    let Some(last) = extents.first() else { return Ok(Producers::default()) };
    decode(inner.reader_of(last).producer_snapshot().await?)
}
