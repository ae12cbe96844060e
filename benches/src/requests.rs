//! Requests as clients send them: a produce of one batch, a fetch of one partition.

use bytes::Bytes;
use records::{Batch, Builder, Codec, Headers, ProducerEpoch, ProducerId, Timestamp};
use wire::{ApiKey, Message, RequestHeader, fetch, produce};

use crate::ground::TOPIC;

/// The newest versions that clients of today speak with a topic's name in them.
pub const PRODUCE_VERSION: i16 = 12;
/// As [`PRODUCE_VERSION`].
pub const FETCH_VERSION: i16 = 12;

/// A batch of so many records of so many bytes; the bytes are the same in every run.
///
/// # Panics
/// The batch would be larger than a batch can be.
#[must_use]
pub fn batch(records: u32, bytes: usize) -> Batch {
    let mut builder = Builder::new(Codec::None);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..records {
        let value: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        })
        .take(bytes)
        .collect();
        let pushed = builder.push(Timestamp(1_800_000_000_000), None, Some(&value), &Headers::default());
        pushed.expect("the batch is far smaller than a batch can be");
    }
    builder.build()
}

/// As [`batch`], from an idempotent producer whose next sequence number this is.
///
/// # Panics
/// As [`batch`].
#[must_use]
pub fn sequenced(records: u32, bytes: usize, sequence: i32) -> Batch {
    let mut builder = Builder::new(Codec::None).producer(ProducerId(1), ProducerEpoch(0), sequence);
    for record in batch(records, bytes).records(usize::MAX).expect("it is not compressed") {
        let record = record.expect("it was just made");
        let pushed = builder.push(record.timestamp, None, record.value.as_deref(), &Headers::default());
        pushed.expect("the batch is far smaller than a batch can be");
    }
    builder.build()
}

/// A produce request of a batch, without its length prefix.
///
/// # Panics
/// It cannot be encoded: a bug.
#[must_use]
pub fn produce(batch: &Batch, correlation_id: i32) -> Bytes {
    let data = produce::PartitionProduceData {
        index: 0,
        records: Some(batch.to_segments().into_iter().collect()),
        ..Default::default()
    };
    let topic = produce::TopicProduceData { name: TOPIC.into(), partition_data: vec![data], ..Default::default() };
    let body = produce::Request { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() };
    frame(ApiKey::Produce, PRODUCE_VERSION, correlation_id, &body)
}

/// A fetch request from an offset on, of so many bytes at most, without its length prefix.
///
/// # Panics
/// As [`produce`].
#[must_use]
pub fn fetch(offset: i64, bytes_max: i32, correlation_id: i32) -> Bytes {
    let partition = fetch::FetchPartition {
        partition: 0,
        current_leader_epoch: -1,
        fetch_offset: offset,
        partition_max_bytes: bytes_max,
        ..Default::default()
    };
    let topic = fetch::FetchTopic { topic: TOPIC.into(), partitions: vec![partition], ..Default::default() };
    let body = fetch::Request {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 50 << 20,
        session_id: 0,
        session_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    };
    frame(ApiKey::Fetch, FETCH_VERSION, correlation_id, &body)
}

fn frame(key: ApiKey, version: i16, correlation_id: i32, body: &impl Message) -> Bytes {
    let header =
        RequestHeader { api_key: key as i16, api_version: version, correlation_id, client_id: Some("bench".into()) };
    let whole = wire::encode_request(&header, body).expect("a request of ours can be encoded").into_bytes();
    // In one piece and its own, as a connection reads it.
    Bytes::copy_from_slice(&whole[4..])
}
