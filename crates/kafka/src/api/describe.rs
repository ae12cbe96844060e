//! The cluster as administrators see it: brokers, partitions page by page, producers, disks; and what has no meaning
//! where partitions have no replicas to elect or move.

use std::sync::Arc;

use records::TopicPartition;
use wire::error_code::ErrorCode;
use wire::{
    describe_cluster, describe_log_dirs, describe_producers, describe_topic_partitions, elect_leaders,
    list_partition_reassignments,
};

use super::error::Code;
use super::metadata::{Node, OPERATIONS_UNKNOWN, brokers, cluster_id, leader};
use super::{Api, Request};

pub(super) async fn cluster(
    api: &Arc<Api>,
    request: &Request,
    body: describe_cluster::Request,
) -> describe_cluster::Response {
    use describe_cluster::{DescribeClusterBroker, Response};
    let image = api.metadata.image();
    /// `endpoint_type` of brokers; 2 is controllers, which clients cannot reach.
    const BROKERS: i8 = 1;
    if request.version() >= 1 && body.endpoint_type != BROKERS {
        return Response {
            error_code: ErrorCode::MISMATCHED_ENDPOINT_TYPE.code(),
            error_message: Some("only brokers can be described".into()),
            cluster_authorized_operations: OPERATIONS_UNKNOWN,
            ..Default::default()
        };
    }
    let brokers = brokers(api, &image, &request.context).into_iter();
    Response {
        endpoint_type: BROKERS,
        cluster_id: cluster_id(&image).into(),
        controller_id: api.broker.0,
        brokers: brokers
            .map(|Node { id, host, port, rack }| DescribeClusterBroker {
                broker_id: id.0,
                host,
                port: i32::from(port),
                rack,
                ..Default::default()
            })
            .collect(),
        cluster_authorized_operations: OPERATIONS_UNKNOWN,
        ..Default::default()
    }
}

/// Partitions in one answer, whatever the client asks for.
const PARTITIONS_MAX: usize = 2000;

pub(super) async fn topic_partitions(
    api: &Arc<Api>,
    _request: &Request,
    body: describe_topic_partitions::Request,
) -> describe_topic_partitions::Response {
    use describe_topic_partitions::{
        Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic, Response,
    };
    let image = api.metadata.image();
    let mut left = usize::try_from(body.response_partition_limit).unwrap_or(0).clamp(1, PARTITIONS_MAX);
    let mut names: Vec<wire::Text> = if body.topics.is_empty() {
        image.by_name.keys().map(|name| (&**name).into()).collect()
    } else {
        body.topics.into_iter().map(|topic| topic.name).collect()
    };
    names.sort_unstable();
    names.dedup();
    let (mut from_name, mut from_partition) = (None, 0);
    if let Some(cursor) = body.cursor {
        from_partition = usize::try_from(cursor.partition_index).unwrap_or(0);
        from_name = Some(cursor.topic_name);
    }
    let mut response = Response::default();
    for name in names {
        if from_name.as_ref().is_some_and(|from| name < *from) {
            continue;
        }
        let first = if from_name.as_ref() == Some(&name) { from_partition } else { 0 };
        if left == 0 {
            let partition_index = i32::try_from(first).unwrap_or(0);
            response.next_cursor = Some(Cursor { topic_name: name, partition_index, ..Default::default() });
            break;
        }
        let Some(topic) = image.topic(&name) else {
            response.topics.push(DescribeTopicPartitionsResponseTopic {
                error_code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.code(),
                name: Some(name),
                topic_authorized_operations: OPERATIONS_UNKNOWN,
                ..Default::default()
            });
            continue;
        };
        let page = topic.partitions.iter().zip(0_i32..).skip(first).take(left);
        let partitions: Vec<_> = page
            .map(|(state, partition_index)| {
                let (leader_id, error) = leader(api, &image, state);
                DescribeTopicPartitionsResponsePartition {
                    error_code: error.code(),
                    partition_index,
                    leader_id,
                    leader_epoch: state.leader_epoch.0,
                    replica_nodes: vec![state.leader.0],
                    isr_nodes: vec![state.leader.0],
                    // Java's client takes null for a list that it can walk.
                    eligible_leader_replicas: Some(Vec::new()),
                    last_known_elr: Some(Vec::new()),
                    ..Default::default()
                }
            })
            .collect();
        left -= partitions.len();
        let next = first + partitions.len();
        response.topics.push(DescribeTopicPartitionsResponseTopic {
            name: Some(name.clone()),
            topic_id: topic.id.0,
            is_internal: topic.internal,
            partitions,
            topic_authorized_operations: OPERATIONS_UNKNOWN,
            ..Default::default()
        });
        if next < topic.partitions.len() {
            let partition_index = i32::try_from(next).unwrap_or(i32::MAX);
            response.next_cursor = Some(Cursor { topic_name: name, partition_index, ..Default::default() });
            break;
        }
    }
    response
}

pub(super) async fn producers(
    api: &Arc<Api>,
    _request: &Request,
    body: describe_producers::Request,
) -> describe_producers::Response {
    use describe_producers::{PartitionResponse, ProducerState, Response, TopicResponse};
    let image = api.metadata.image();
    let mut topics = Vec::with_capacity(body.topics.len());
    for topic in body.topics {
        let mut partitions = Vec::with_capacity(topic.partition_indexes.len());
        for partition_index in topic.partition_indexes {
            let mut answer = PartitionResponse { partition_index, ..Default::default() };
            let id = image
                .topic(&topic.name)
                .map(|known| TopicPartition { topic: known.id, partition: partition_index.into() });
            let known = match id.map(|id| api.log.partition(id)) {
                Some(Ok(partition)) => match api.log.load_producers(&partition).await {
                    Ok(()) => Ok(partition.producers()),
                    Err(error) => Err(error.code()),
                },
                Some(Err(error)) => Err(error.code()),
                None => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            };
            match known {
                Ok(known) => {
                    let states = known.iter().map(|(id, producer)| ProducerState {
                        producer_id: id.0,
                        producer_epoch: i32::from(producer.epoch.0),
                        last_sequence: producer.batches.back().map_or(-1, |past| past.last_sequence),
                        last_timestamp: producer.batches.back().map_or(-1, |past| past.timestamp.0),
                        coordinator_epoch: -1,
                        current_txn_start_offset: -1,
                        ..Default::default()
                    });
                    answer.active_producers = states.collect();
                }
                Err(code) => {
                    answer.error_code = code.code();
                    answer.error_message = Some(code.name().into());
                }
            }
            partitions.push(answer);
        }
        topics.push(TopicResponse { name: topic.name, partitions, ..Default::default() });
    }
    Response { topics, ..Default::default() }
}

/// One "directory": the staging disk. What it reports of a partition is what is not in the object store yet.
pub(super) async fn log_dirs(
    api: &Arc<Api>,
    _request: &Request,
    body: describe_log_dirs::Request,
) -> describe_log_dirs::Response {
    use describe_log_dirs::{DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic, Response};
    let image = api.metadata.image();
    let mut wanted: Vec<(wire::Text, Vec<i32>)> = match body.topics {
        None => image
            .topics
            .values()
            .map(|topic| ((&*topic.name).into(), (0..).take(topic.partitions.len()).collect()))
            .collect(),
        Some(topics) => topics.into_iter().map(|topic| (topic.topic, topic.partitions)).collect(),
    };
    wanted.sort_unstable();
    let topics = wanted.into_iter().filter_map(|(name, partitions)| {
        let topic = image.topic(&name)?;
        let partitions = partitions.into_iter().filter_map(|partition_index| {
            let id = TopicPartition { topic: topic.id, partition: partition_index.into() };
            // What is in the object store, and what is not there yet.
            let bytes = topic.partition(id.partition)?.bytes.saturating_add(api.log.staged_bytes_of(id));
            let partition_size = i64::try_from(bytes).unwrap_or(i64::MAX);
            Some(DescribeLogDirsPartition { partition_index, partition_size, ..Default::default() })
        });
        Some(DescribeLogDirsTopic { partitions: partitions.collect(), name, ..Default::default() })
    });
    let unknown = |_| (-1, -1);
    let signed = |(total, free)| (i64::try_from(total).unwrap_or(i64::MAX), i64::try_from(free).unwrap_or(i64::MAX));
    let (total_bytes, usable_bytes) = api.log.disk_space().map_or_else(unknown, signed);
    let result = DescribeLogDirsResult {
        log_dir: api.log.staging().display().to_string().into(),
        topics: topics.collect(),
        total_bytes,
        usable_bytes,
        ..Default::default()
    };
    Response { results: vec![result], ..Default::default() }
}

/// Every partition has its one leader: there is nothing to elect, and that is said for each.
pub(super) async fn elect_leaders(
    api: &Arc<Api>,
    _request: &Request,
    body: elect_leaders::Request,
) -> elect_leaders::Response {
    use elect_leaders::{PartitionResult, ReplicaElectionResult, Response};
    let image = api.metadata.image();
    let results = body.topic_partitions.into_iter().flatten().map(|topic| {
        let known = image.topic(&topic.topic);
        let partition_result = topic.partitions.iter().map(|index| {
            let (code, message) = match known.and_then(|known| known.partition((*index).into())) {
                Some(_) => (ErrorCode::ELECTION_NOT_NEEDED, "the leader is the only one there is"),
                None => (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, "there is no such partition"),
            };
            let error_message = Some(message.into());
            PartitionResult { partition_id: *index, error_code: code.code(), error_message, ..Default::default() }
        });
        ReplicaElectionResult { partition_result: partition_result.collect(), topic: topic.topic, ..Default::default() }
    });
    Response { replica_election_results: results.collect(), ..Default::default() }
}

/// Nothing is ever being moved.
pub(super) async fn reassignments(
    _api: &Arc<Api>,
    _request: &Request,
    _body: list_partition_reassignments::Request,
) -> list_partition_reassignments::Response {
    list_partition_reassignments::Response::default()
}
