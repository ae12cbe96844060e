//! OffsetForLeaderEpoch: where an epoch ended, so that a client can tell whether its position is still on the log (KIP-320).

use std::sync::Arc;

use records::{LeaderEpoch, TopicPartition};
use wire::error_code::ErrorCode;
use wire::offset_for_leader_epoch::{
    EpochEndOffset, OffsetForLeaderPartition, OffsetForLeaderTopicResult, Request, Response,
};

use super::Api;
use super::error::Code;

pub(super) async fn for_leader_epoch(api: &Arc<Api>, _request: &super::Request, body: Request) -> Response {
    let topics = body.topics.into_iter().map(|topic| OffsetForLeaderTopicResult {
        partitions: topic.partitions.iter().map(|asked| answer(api, &topic.topic, asked)).collect(),
        topic: topic.topic,
        ..Default::default()
    });
    Response { topics: topics.collect(), ..Response::default() }
}

fn answer(api: &Api, topic: &str, asked: &OffsetForLeaderPartition) -> EpochEndOffset {
    let mut end = EpochEndOffset { partition: asked.partition, leader_epoch: -1, end_offset: -1, ..Default::default() };
    match find(api, topic, asked) {
        Ok((epoch, offset)) => (end.leader_epoch, end.end_offset) = (epoch, offset),
        Err(code) => end.error_code = code.code(),
    }
    end
}

/// The largest epoch up to the one asked for, and where it ends: where the next one begins, or at the end of the log.
fn find(api: &Api, topic: &str, asked: &OffsetForLeaderPartition) -> Result<(i32, i64), ErrorCode> {
    let image = api.metadata.image();
    let topic = image.topic(topic).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    let id = TopicPartition { topic: topic.id, partition: asked.partition.into() };
    let partition = api.log.partition(id).map_err(|error| error.code())?;
    super::fetch::check_epoch(asked.current_leader_epoch, partition.leader_epoch().0)?;
    let state = topic.partition(id.partition).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
    if asked.leader_epoch == partition.leader_epoch().0 {
        return Ok((asked.leader_epoch, partition.high_watermark().0));
    }
    if asked.leader_epoch > partition.leader_epoch().0 {
        return Ok((-1, -1));
    }
    let after = state.epochs.partition_point(|start| start.epoch <= LeaderEpoch(asked.leader_epoch));
    // Epochs in which nothing was written are left out: one older than all that is known ended where the log begins.
    let epoch = after.checked_sub(1).map_or(asked.leader_epoch, |index| state.epochs[index].epoch.0);
    let end = state.epochs.get(after).map_or(partition.high_watermark(), |start| start.start);
    Ok((epoch, end.0))
}
