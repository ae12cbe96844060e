//! Fetch: whole batches from each partition, as they lie; or a wait until there are some.
//!
//! The answer leaves when `min_bytes` are there, when `max_wait` is over, or when any partition has an error. The first
//! partition with anything gives at least one whole batch, whatever the limits. An answer within a session leaves out
//! the partitions without news ([`sessions`]).

mod sessions;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use log::Waiter;
use records::{Batch, Offset, TopicPartition};
use tokio::time::{Instant, timeout_at};
use wire::error_code::ErrorCode;
use wire::fetch::{FetchPartition, FetchableTopicResponse, LeaderIdAndEpoch, PartitionData, Request, Response};

pub use self::sessions::SessionLimits;
pub(super) use self::sessions::Sessions;

use self::sessions::{Answered, Kind};
use super::error::Code;
use super::{Api, topic_of};
use crate::{Answers, Reservation};

/// How long a fetch waits at least for memory that is short, whatever it says itself.
const SHORT_WAIT: Duration = Duration::from_secs(1);

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

/// What one look at all partitions found.
#[derive(Default)]
struct Found {
    data: Vec<PartitionData>,
    /// Bytes of records in it, and what was reserved for them.
    bytes: usize,
    reserved: Option<Reservation>,
    failed: bool,
}

/// Where memory for the answer comes from.
#[derive(Clone, Copy)]
struct Memory<'a> {
    answers: &'a Arc<Answers>,
    until: Instant,
}

/// The answer, and the memory that was reserved for it.
pub(super) async fn answer(
    api: &Arc<Api>,
    request: &super::Request,
    mut body: Request,
) -> (Response, Option<Reservation>) {
    let kind = match api.fetch_sessions.begin(&request.context.principal(), request.version(), &mut body) {
        Ok(kind) => kind,
        Err(code) => return (Response { error_code: code.code(), ..Response::default() }, None),
    };
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
    let answers = request.context.answers();
    let memory = Memory { answers, until: deadline.max(Instant::now() + SHORT_WAIT) };
    // What is kept for each partition while the request waits is memory for the answer too.
    answers.turn().await;
    let mut overhead = answers.count(wanted.len() * (size_of::<Wanted>() + size_of::<PartitionData>()));
    loop {
        let waiter = Waiter::new();
        let mut found = read_all(api, &wanted, bytes_max, asks, &waiter, memory).await;
        let mut over = found.bytes >= bytes_min || found.failed || Instant::now() >= deadline;
        if !over {
            // What is not enough is not kept while more is waited for: it is read again then.
            if found.bytes > 0 {
                found = Found::default();
            }
            let changed = timeout_at(deadline, waiter.changed()).await.is_ok();
            over = !changed && !found.data.is_empty();
        }
        if over {
            api.metrics.fetched(found.bytes);
            if let Some(reserved) = found.reserved {
                overhead.merge(reserved);
            }
            return (respond(api, request, kind, topics, &wanted, found.data), Some(overhead));
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
    memory: Memory<'_>,
) -> Found {
    let mut found = Found { data: Vec::with_capacity(wanted.len()), ..Found::default() };
    for one in wanted {
        let room = bytes_max.saturating_sub(found.bytes);
        let (data, reserved) = read_one(api, one, room, found.bytes == 0, asks, waiter, memory).await;
        found.bytes += data.records.as_ref().map_or(0, wire::Records::len);
        found.failed |= data.error_code != ErrorCode::NONE.code();
        found.data.push(data);
        match (&mut found.reserved, reserved) {
            (Some(all), Some(reserved)) => all.merge(reserved),
            (all, reserved) => *all = all.take().or(reserved),
        }
    }
    found
}

async fn read_one(
    api: &Arc<Api>,
    wanted: &Wanted,
    room: usize,
    at_least_one: bool,
    asks: Asks,
    waiter: &Arc<Waiter>,
    memory: Memory<'_>,
) -> (PartitionData, Option<Reservation>) {
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
        (data, None)
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
    let offset = Offset(asked.fetch_offset);
    let wanted_bytes = partition_max.min(room);
    // Nothing is reserved where there is nothing to read. Who has nothing yet waits for memory, and for at least one
    // batch's worth; who has something takes what can be had.
    let mut reserved = match (offset < up_to, at_least_one) {
        (false, _) => None,
        (true, true) => timeout_at(memory.until, memory.answers.reserve(wanted_bytes.max(1))).await.ok(),
        (true, false) if wanted_bytes == 0 => None,
        (true, false) => memory.answers.try_reserve(wanted_bytes),
    };
    // At most one batch that is too large, and only as the first of all.
    let bytes_max = reserved.as_ref().map_or(0, Reservation::bytes).min(wanted_bytes);
    let read = match &reserved {
        None => check_range(&partition, offset).map(|()| Vec::new()),
        Some(_) => api.log.read(&partition, offset, up_to, bytes_max).await,
    };
    data.high_watermark = partition.high_watermark().0;
    data.last_stable_offset = partition.last_stable_offset().0;
    data.log_start_offset = partition.log_start().0;
    match read {
        Ok(mut batches) => {
            if !at_least_one && batches.first().is_some_and(|batch| batch.len() > bytes_max) {
                batches.clear();
            }
            if let Some(reserved) = &mut reserved {
                reserved.set(batches.iter().map(Batch::len).sum());
            }
            data.records = Some(batches.iter().flat_map(Batch::to_segments).collect());
            data.aborted_transactions = asks.committed_only.then(Vec::new);
            (data, reserved)
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

/// Puts the answer together: all of it, or the news of a session.
fn respond(
    api: &Api,
    request: &super::Request,
    kind: Kind,
    topics: Vec<(wire::Text, uuid::Uuid)>,
    wanted: &[Wanted],
    found: Vec<PartitionData>,
) -> Response {
    let answered = wanted.iter().zip(&found).map(|(one, data)| {
        let (topic, topic_id) = &topics[one.topic_index];
        Answered { topic, topic_id: *topic_id, asked: &one.asked, data }
    });
    let mut response = Response::default();
    let told = match kind {
        Kind::Full { wants_session: false } => None,
        Kind::Full { wants_session: true } => {
            let principal = request.context.principal();
            response.session_id = api.fetch_sessions.create(&principal, request.version(), answered);
            None
        }
        Kind::Incremental { id, next_epoch } => {
            response.session_id = id;
            match api.fetch_sessions.news(id, next_epoch, answered) {
                Ok(news) => Some(news),
                Err(code) => {
                    response.error_code = code.code();
                    return response;
                }
            }
        }
    };
    response.responses = topics
        .into_iter()
        .map(|(topic, topic_id)| FetchableTopicResponse { topic, topic_id, ..Default::default() })
        .collect();
    for (index, (one, data)) in wanted.iter().zip(found).enumerate() {
        if told.as_ref().is_none_or(|news| news[index]) {
            response.responses[one.topic_index].partitions.push(data);
        }
    }
    if told.is_some() {
        response.responses.retain(|topic| !topic.partitions.is_empty());
    }
    response
}
