//! ListOffsets: offsets by name (start, end, …) or by time.

use std::sync::Arc;

use records::{Timestamp, TopicPartition};
use wire::error_code::ErrorCode;
use wire::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsTopicResponse, Request, Response,
};

use super::Api;
use super::error::Code;
use super::inflate::SEARCHED_MAX;

/// The end: the high watermark, or for `read_committed` the last stable offset.
const LATEST: i64 = -1;
/// The start.
const EARLIEST: i64 = -2;
/// The record with the largest timestamp (KIP-734).
const MAX_TIMESTAMP: i64 = -3;
/// The first offset that lies on a broker's disk (KIP-405).
const EARLIEST_LOCAL: i64 = -4;
/// The last offset that lies in the object store (KIP-1005).
const LATEST_TIERED: i64 = -5;

pub(super) async fn answer(api: &Arc<Api>, request: &super::Request, body: Request) -> Response {
    let mut topics = Vec::with_capacity(body.topics.len());
    for topic in body.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let mut answer = ListOffsetsPartitionResponse {
                partition_index: asked.partition_index,
                timestamp: -1,
                offset: -1,
                leader_epoch: -1,
                ..Default::default()
            };
            match find(api, &topic.name, &asked, body.isolation_level == 1).await {
                Ok((offset, timestamp, epoch)) => {
                    (answer.offset, answer.timestamp) = (offset, timestamp);
                    // Versions before 4 have no place for it.
                    answer.leader_epoch = if request.version() >= 4 { epoch } else { -1 };
                }
                Err(code) => answer.error_code = code.code(),
            }
            partitions.push(answer);
        }
        topics.push(ListOffsetsTopicResponse { name: topic.name, partitions, ..Default::default() });
    }
    Response { topics, ..Response::default() }
}

/// Offset, timestamp and leader epoch.
async fn find(
    api: &Api,
    topic: &str,
    asked: &ListOffsetsPartition,
    committed_only: bool,
) -> Result<(i64, i64, i32), ErrorCode> {
    let image = api.metadata.image();
    let topic = image.topic(topic).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let id = TopicPartition { topic: topic.id, partition: asked.partition_index.into() };
    let partition = api.log.partition(id).map_err(|error| error.code())?;
    super::fetch::check_epoch(asked.current_leader_epoch, partition.leader_epoch().0)?;
    let state = topic.partition(id.partition).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let end = if committed_only { partition.last_stable_offset() } else { partition.high_watermark() };
    let at = |offset: records::Offset| (offset.0, -1, epoch_at(state, offset));
    let found = |found: log::Found| (found.offset.0, found.timestamp.0, epoch_at(state, found.offset));
    let failed = |error: log::FetchError| {
        tracing::warn!(%error, partition = %id, "offsets could not be listed");
        error.code()
    };
    Ok(match asked.timestamp {
        LATEST => (end.0, -1, partition.leader_epoch().0),
        EARLIEST => at(partition.log_start()),
        // What is uploaded leaves the local disk: the local log begins at the frontier.
        EARLIEST_LOCAL => at(partition.frontier().max(partition.log_start())),
        LATEST_TIERED if partition.frontier() > partition.log_start() => {
            at(records::Offset(partition.frontier().0 - 1))
        }
        LATEST_TIERED => (-1, -1, -1),
        MAX_TIMESTAMP => {
            let _inflating = api.inflating.pass(SEARCHED_MAX).await;
            api.log.find_max_timestamp(&partition).await.map_err(failed)?.map_or((-1, -1, -1), found)
        }
        time if time >= 0 => {
            let _inflating = api.inflating.pass(SEARCHED_MAX).await;
            let first = api.log.find_timestamp(&partition, Timestamp(time)).await.map_err(failed)?;
            first.filter(|first| first.offset < end).map_or((-1, -1, -1), found)
        }
        _ => return Err(ErrorCode::UNSUPPORTED_VERSION),
    })
}

/// The leader epoch under which an offset was written.
fn epoch_at(state: &metadata::PartitionState, offset: records::Offset) -> i32 {
    let after = state.epochs.partition_point(|epoch| epoch.start <= offset);
    after.checked_sub(1).map_or(-1, |index| state.epochs[index].epoch.0)
}
