//! Produce: check each batch, append it, and answer when it is committed (J2).
//!
//! Checking and appending happen in the order in which requests arrive on their connection; waiting for the commit does
//! not hold up the next request. Records are neither decompressed nor copied.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use log::{AppendError, Appended};
use metadata::TopicConfig;
use metadata::topic_config::CompressionType;
use records::{Batch, BatchError, Builder, Codec, Timestamp, TopicPartition};
use tokio::time::{Instant, timeout_at};
use wire::error_code::ErrorCode;
use wire::produce::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, PartitionProduceData, PartitionProduceResponse, Request, Response,
    TopicProduceResponse,
};

use super::error::Code;
use super::inflate::PRODUCED_MAX;
use super::{Api, topic_of};
use crate::Step;

/// A batch that was appended, or why it was not.
type Outcome = Result<Appended, Refused>;

struct Refused {
    code: ErrorCode,
    message: String,
    current_leader: Option<(i32, i32)>,
    /// The records without a key, in a topic that needs one.
    keyless: Vec<i32>,
}

impl Refused {
    fn new(code: ErrorCode, message: impl ToString) -> Self {
        Self { code, message: message.to_string(), current_leader: None, keyless: Vec::new() }
    }
}

impl<E: Code + ToString> From<E> for Refused {
    fn from(error: E) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

/// Appends, in order of arrival; what is returned waits for the commits.
pub(super) async fn start(api: &Arc<Api>, request: super::Request, body: Request) -> Step {
    let deadline = Instant::now() + Duration::from_millis(u64::try_from(body.timeout_ms).unwrap_or(0));
    let whole = if body.transactional_id.is_some() {
        Some((ErrorCode::INVALID_REQUEST, "transactions are not served yet: produce without a transactional id"))
    } else if !(-1..=1).contains(&body.acks) {
        Some((ErrorCode::INVALID_REQUIRED_ACKS, "acks must be -1 (all), 0 or 1"))
    } else {
        None
    };
    let image = api.metadata.image();
    let mut topics = Vec::with_capacity(body.topic_data.len());
    for data in body.topic_data {
        let topic = topic_of(&image, &data.name, data.topic_id);
        let topic = topic.map(|topic| (api.topic_config(&image, &topic), topic));
        let mut outcomes = Vec::with_capacity(data.partition_data.len());
        for partition in data.partition_data {
            let index = partition.index;
            let outcome = match (&whole, &topic) {
                (Some((code, message)), _) => Err(Refused::new(*code, message)),
                (None, Err(code)) => Err(Refused::new(*code, "there is no such topic")),
                (None, Ok((config, topic))) => append(api, topic, *config, partition).await,
            };
            outcomes.push((index, outcome));
        }
        topics.push((data.name, data.topic_id, outcomes));
    }
    if body.acks == 0 {
        // No answer at all; a batch that was refused closes the connection, so that the client hears of it (as Kafka does).
        return match topics.iter().flat_map(|(.., outcomes)| outcomes).find_map(|(_, outcome)| outcome.as_ref().err()) {
            Some(refused) => Step::Close(format!("a produce with acks=0 was refused: {}", refused.message).into()),
            None => Step::NoReply,
        };
    }
    // KIP-951 came with version 10.
    let says_leader = request.version() >= 10;
    request.later(async move {
        let mut response = Response::default();
        for (name, topic_id, outcomes) in topics {
            let partition_responses =
                join_all(outcomes.into_iter().map(|(index, outcome)| settle(index, outcome, deadline, says_leader)));
            response.responses.push(TopicProduceResponse {
                name,
                topic_id,
                partition_responses: partition_responses.await,
                ..TopicProduceResponse::default()
            });
        }
        response
    })
}

async fn append(api: &Arc<Api>, topic: &metadata::Topic, config: TopicConfig, data: PartitionProduceData) -> Outcome {
    let id = TopicPartition { topic: topic.id, partition: data.index.into() };
    let partition = api.log.partition(id).map_err(|error| leader_hint(error.into(), topic, data.index))?;
    let bytes = data.records.map(wire::Records::into_bytes).unwrap_or_default();
    let batch = Batch::decode(bytes)?;
    batch.check_produced(config.max_message_bytes)?;
    let now = api.clock.now();
    let log_append_time = check_timestamp(&config, &batch, now)?;
    let batch = if config.compacted || wanted_codec(&config).is_some_and(|codec| Ok(codec) != codec_of(&batch)) {
        look_inside(api, config, batch).await?
    } else {
        batch
    };
    let permit = api.log.admit(batch.len()).await?;
    if batch.header().producer_id.0 >= 0 {
        api.log.load_producers(&partition).await?;
    }
    api.metrics.produced(batch.len(), batch.header().record_count);
    api.log
        .append(&partition, batch, log_append_time, permit)
        .map_err(|error| leader_hint(error.into(), topic, data.index))
}

/// `LogAppendTime` gives the time to stamp; `CreateTime` refuses what is too far off the broker's clock (KIP-937).
fn check_timestamp(config: &TopicConfig, batch: &Batch, now: Timestamp) -> Result<Option<Timestamp>, Refused> {
    if config.log_append_time {
        return Ok(Some(now));
    }
    let newest = batch.header().max_timestamp.0;
    let oldest = batch.header().base_timestamp.0;
    if newest.saturating_sub(now.0) > config.timestamp_after_max_ms {
        return Err(Refused::new(
            ErrorCode::INVALID_TIMESTAMP,
            "a record's timestamp is too far in the future (message.timestamp.after.max.ms)",
        ));
    }
    if oldest >= 0 && now.0.saturating_sub(oldest) > config.timestamp_before_max_ms {
        return Err(Refused::new(
            ErrorCode::INVALID_TIMESTAMP,
            "a record's timestamp is too old (message.timestamp.before.max.ms)",
        ));
    }
    Ok(None)
}

/// What has to be done to the records of a batch. They may have to be inflated: not on the runtime's threads, and only so
/// many at once: what is inflated, and the new batch that it is built into.
async fn look_inside(api: &Api, config: TopicConfig, batch: Batch) -> Result<Batch, Refused> {
    let permit = api.inflating.pass(2 * PRODUCED_MAX).await;
    let look = move || {
        if config.compacted {
            check_keys(&batch)?;
        }
        let batch = recompress(&config, batch);
        drop(permit);
        batch
    };
    let looked = tokio::task::spawn_blocking(look).await;
    looked.map_err(|_| Refused::new(ErrorCode::UNKNOWN_SERVER_ERROR, "the batch could not be looked at"))?
}

/// Every record of a compacted topic has a key; those that have none are named.
fn check_keys(batch: &Batch) -> Result<(), Refused> {
    let mut keyless = Vec::new();
    for (record, index) in batch.records(PRODUCED_MAX)?.zip(0_i32..) {
        if record?.key.is_none() {
            keyless.push(index);
        }
    }
    if keyless.is_empty() {
        return Ok(());
    }
    let message = "a record of a compacted topic needs a key";
    Err(Refused { keyless, ..Refused::new(ErrorCode::INVALID_RECORD, message) })
}

/// The codec that the topic wants, where it wants one (`compression.type`).
fn wanted_codec(config: &TopicConfig) -> Option<Codec> {
    match config.compression_type {
        CompressionType::Producer => None,
        CompressionType::Uncompressed => Some(Codec::None),
        CompressionType::Gzip => Some(Codec::Gzip),
        CompressionType::Snappy => Some(Codec::Snappy),
        CompressionType::Lz4 => Some(Codec::Lz4),
        CompressionType::Zstd => Some(Codec::Zstd),
    }
}

fn codec_of(batch: &Batch) -> Result<Codec, BatchError> {
    batch.header().attributes.codec()
}

/// Stores records with the codec that the topic wants, where it wants one.
fn recompress(config: &TopicConfig, batch: Batch) -> Result<Batch, Refused> {
    let Some(codec) = wanted_codec(config) else { return Ok(batch) };
    let header = batch.header();
    if codec_of(&batch)? == codec {
        return Ok(batch);
    }
    let mut builder = Builder::new(codec).producer(header.producer_id, header.producer_epoch, header.base_sequence);
    for record in batch.records(PRODUCED_MAX)? {
        let record = record?;
        let pushed = builder.push(record.timestamp, record.key.as_deref(), record.value.as_deref(), &record.headers);
        pushed.map_err(|error| Refused::new(ErrorCode::INVALID_RECORD, error))?;
    }
    Ok(builder.build())
}

/// Who is asked in vain says who leads (KIP-951).
fn leader_hint(mut refused: Refused, topic: &metadata::Topic, index: i32) -> Refused {
    let state = usize::try_from(index).ok().and_then(|index| topic.partitions.get(index));
    if refused.code == ErrorCode::NOT_LEADER_OR_FOLLOWER {
        refused.current_leader = state.map(|state| (state.leader.0, state.leader_epoch.0));
    }
    refused
}

/// Waits until the batch is committed.
async fn settle(index: i32, outcome: Outcome, deadline: Instant, says_leader: bool) -> PartitionProduceResponse {
    let mut answer = PartitionProduceResponse {
        index,
        base_offset: -1,
        log_append_time_ms: -1,
        log_start_offset: -1,
        ..Default::default()
    };
    let refused = match outcome {
        Ok(appended) => match timeout_at(deadline, appended.committed).await {
            Ok(Ok(())) => {
                answer.base_offset = appended.base_offset.0;
                answer.log_append_time_ms = appended.log_append_time.map_or(-1, |time| time.0);
                answer.log_start_offset = appended.log_start.0;
                return answer;
            }
            Ok(Err(_)) => Refused::from(AppendError::JournalEnded),
            Err(_) => Refused::new(ErrorCode::REQUEST_TIMED_OUT, "not yet stored when the request's time was over"),
        },
        Err(refused) => refused,
    };
    answer.error_code = refused.code.code();
    let records = refused.keyless.into_iter().map(|batch_index| BatchIndexAndErrorMessage {
        batch_index,
        batch_index_error_message: Some("it has no key".into()),
        ..Default::default()
    });
    answer.record_errors = records.collect();
    answer.error_message = Some(refused.message.into());
    if let Some((leader_id, leader_epoch)) = refused.current_leader.filter(|_| says_leader) {
        answer.current_leader = LeaderIdAndEpoch { leader_id, leader_epoch, ..Default::default() };
    }
    answer
}
