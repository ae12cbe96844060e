//! Fetch: whole batches from each partition, as they lie; or a wait until there are some.
//!
//! The answer leaves when `min_bytes` are there, when `max_wait` is over, or when any partition has an error. The first
//! partition with anything gives at least one whole batch, whatever the limits. Fetch sessions are not made: every
//! answer says session 0, which is always legal (KIP-227).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use log::Waiter;
use records::{Batch, Offset, TopicPartition};
use tokio::time::{Instant, timeout_at};
use wire::error_code::ErrorCode;
use wire::fetch::{FetchPartition, FetchableTopicResponse, LeaderIdAndEpoch, PartitionData, Request, Response};

use super::error::Code;
use super::{Api, topic_of};

/// One partition of the request, and what was found for it.
struct Wanted {
    topic: Result<Arc<metadata::Topic>, ErrorCode>,
    topic_index: usize,
    asked: FetchPartition,
}

/// What holds for all partitions of a request.
#[derive(Clone, Copy)]
struct Asks {
    committed_only: bool,
    says_leader: bool,
}

pub(super) async fn answer(api: &Arc<Api>, request: &super::Request, body: Request) -> Response {
    if body.session_id != 0 {
        return Response { error_code: ErrorCode::FETCH_SESSION_ID_NOT_FOUND.code(), ..Response::default() };
    }
    let image = api.metadata.image();
    let mut topics = Vec::with_capacity(body.topics.len());
    let mut wanted = Vec::new();
    for (topic_index, asked) in body.topics.into_iter().enumerate() {
        let topic = topic_of(&image, &asked.topic, asked.topic_id);
        wanted.extend(asked.partitions.into_iter().map(|asked| Wanted { topic: topic.clone(), topic_index, asked }));
        topics.push((asked.topic, asked.topic_id));
    }
    // Another partition comes first each time, so that none starves behind a busy one.
    if !wanted.is_empty() {
        let first = api.metrics.fetches_started().fetch_add(1, Ordering::Relaxed) % wanted.len();
        wanted.rotate_left(first);
    }
    let wait_ms = body.max_wait_ms.clamp(0, api.settings.fetch_wait_ms_max);
    let deadline = Instant::now() + Duration::from_millis(u64::try_from(wait_ms).unwrap_or(0));
    let bytes_max = usize::try_from(body.max_bytes).unwrap_or(0).min(api.settings.fetch_bytes_max);
    let bytes_min = usize::try_from(body.min_bytes).unwrap_or(0).min(bytes_max);
    let asks = Asks { committed_only: body.isolation_level == 1, says_leader: request.version() >= 12 };
    loop {
        let waiter = Waiter::new();
        let (found, bytes, failed) = read_all(api, &wanted, bytes_max, asks, &waiter).await;
        let over = bytes >= bytes_min || failed || Instant::now() >= deadline;
        if over || timeout_at(deadline, waiter.changed()).await.is_err() {
            api.metrics.fetched(bytes);
            return respond(topics, &wanted, found);
        }
    }
}

/// Reads each partition once. The waiter is registered first: what comes meanwhile wakes it.
async fn read_all(
    api: &Arc<Api>,
    wanted: &[Wanted],
    bytes_max: usize,
    asks: Asks,
    waiter: &Arc<Waiter>,
) -> (Vec<PartitionData>, usize, bool) {
    let mut found = Vec::with_capacity(wanted.len());
    let (mut bytes, mut failed) = (0, false);
    for one in wanted {
        let room = bytes_max.saturating_sub(bytes);
        let data = read_one(api, one, room, bytes == 0, asks, waiter).await;
        bytes += data.records.as_ref().map_or(0, wire::Records::len);
        failed |= data.error_code != ErrorCode::NONE.code();
        found.push(data);
    }
    (found, bytes, failed)
}

async fn read_one(
    api: &Arc<Api>,
    wanted: &Wanted,
    room: usize,
    at_least_one: bool,
    asks: Asks,
    waiter: &Arc<Waiter>,
) -> PartitionData {
    let asked = &wanted.asked;
    let mut data = PartitionData {
        partition_index: asked.partition,
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: -1,
        preferred_read_replica: -1,
        // Empty, never null: librdkafka fails on null.
        records: Some(wire::Records::default()),
        ..PartitionData::default()
    };
    let refuse = |mut data: PartitionData, code: ErrorCode| {
        data.error_code = code.code();
        data
    };
    let topic = match &wanted.topic {
        Ok(topic) => topic,
        Err(code) => return refuse(data, *code),
    };
    let id = TopicPartition { topic: topic.id, partition: asked.partition.into() };
    let partition = match api.log.partition(id) {
        Ok(partition) => partition,
        Err(error) => {
            // KIP-951 came with version 12.
            if let Some(state) = topic.partition(id.partition).filter(|_| asks.says_leader) {
                data.current_leader = LeaderIdAndEpoch {
                    leader_id: state.leader.0,
                    leader_epoch: state.leader_epoch.0,
                    ..Default::default()
                };
            }
            return refuse(data, error.code());
        }
    };
    if let Err(code) = check_epoch(asked.current_leader_epoch, partition.leader_epoch().0) {
        return refuse(data, code);
    }
    partition.notify(waiter);
    let up_to = if asks.committed_only { partition.last_stable_offset() } else { partition.high_watermark() };
    let partition_max = usize::try_from(asked.partition_max_bytes).unwrap_or(0);
    // At most one batch that is too large, and only as the first of all.
    let bytes_max = partition_max.min(room);
    let read = if bytes_max == 0 && !at_least_one {
        check_range(&partition, Offset(asked.fetch_offset)).map(|()| Vec::new())
    } else {
        api.log.read(&partition, Offset(asked.fetch_offset), up_to, bytes_max).await
    };
    data.high_watermark = partition.high_watermark().0;
    data.last_stable_offset = partition.last_stable_offset().0;
    data.log_start_offset = partition.log_start().0;
    match read {
        Ok(mut batches) => {
            if !at_least_one && batches.first().is_some_and(|batch| batch.len() > bytes_max) {
                batches.clear();
            }
            data.records = Some(batches.iter().flat_map(Batch::to_segments).collect());
            data.aborted_transactions = asks.committed_only.then(Vec::new);
            data
        }
        Err(error) => {
            if !matches!(error, log::FetchError::OutOfRange { .. }) {
                tracing::warn!(%error, partition = %id, offset = asked.fetch_offset, "a fetch failed");
            }
            refuse(data, error.code())
        }
    }
}

fn check_range(partition: &log::Partition, offset: Offset) -> Result<(), log::FetchError> {
    let (log_start, high_watermark) = (partition.log_start(), partition.high_watermark());
    if offset < log_start || offset > high_watermark {
        return Err(log::FetchError::OutOfRange { offset, log_start, high_watermark });
    }
    Ok(())
}

/// A client that knows an older epoch is fenced; one that knows a newer epoch is ahead of us (KIP-320). −1 is no epoch.
pub(super) fn check_epoch(asked: i32, current: i32) -> Result<(), ErrorCode> {
    match asked {
        -1 => Ok(()),
        older if older < current => Err(ErrorCode::FENCED_LEADER_EPOCH),
        newer if newer > current => Err(ErrorCode::UNKNOWN_LEADER_EPOCH),
        _ => Ok(()),
    }
}

fn respond(topics: Vec<(wire::Text, uuid::Uuid)>, wanted: &[Wanted], found: Vec<PartitionData>) -> Response {
    let mut responses: Vec<_> = topics
        .into_iter()
        .map(|(topic, topic_id)| FetchableTopicResponse { topic, topic_id, ..Default::default() })
        .collect();
    for (one, data) in wanted.iter().zip(found) {
        responses[one.topic_index].partitions.push(data);
    }
    Response { responses, ..Response::default() }
}
