//! DeleteRecords: the log start moves up, on request.

use std::sync::Arc;

use metadata::Command;
use records::{Offset, TopicPartition};
use tokio::time::Instant;
use wire::delete_records::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult, Request, Response};
use wire::error_code::ErrorCode;

use super::Api;
use super::error::Code;

/// Up to the high watermark, in the request.
const EVERYTHING: i64 = -1;

pub(super) async fn delete(api: &Arc<Api>, _request: &super::Request, body: Request) -> Response {
    let deadline = super::deadline(body.timeout_ms);
    let mut topics = Vec::with_capacity(body.topics.len());
    for topic in body.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for asked in topic.partitions {
            let mut answer = DeleteRecordsPartitionResult {
                partition_index: asked.partition_index,
                low_watermark: -1,
                ..Default::default()
            };
            match delete_before(api, &topic.name, asked.partition_index, asked.offset, deadline).await {
                Ok(log_start) => answer.low_watermark = log_start.0,
                Err(code) => answer.error_code = code.code(),
            }
            partitions.push(answer);
        }
        topics.push(DeleteRecordsTopicResult { name: topic.name, partitions, ..Default::default() });
    }
    Response { topics, ..Response::default() }
}

/// The log start afterwards.
async fn delete_before(
    api: &Api,
    topic: &str,
    index: i32,
    offset: i64,
    deadline: Instant,
) -> Result<Offset, ErrorCode> {
    let image = api.metadata.image();
    let topic = image.topic(topic).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let id = TopicPartition { topic: topic.id, partition: index.into() };
    let partition = api.log.partition(id).map_err(|error| error.code())?;
    let high_watermark = partition.high_watermark();
    let offset = if offset == EVERYTHING { high_watermark } else { Offset(offset) };
    if offset.0 < 0 || offset > high_watermark {
        return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
    }
    if offset > partition.log_start() {
        let command = Command::SetLogStart { topic_partition: id, offset };
        api.metadata.submit_until(command, deadline).await.map_err(|error| error.code())?;
        api.log.refresh();
    }
    Ok(partition.log_start())
}
