//! Consumer groups: between the protocol's messages and the coordinator's requests. The rules are the coordinator's.

use std::sync::Arc;

use bytes::Bytes;
use coordinator::{
    CommitPartition, CommitRequest, CommitTopic, GroupError, HeartbeatRequest, JoinRequest, LeavingMember, ListFilter,
    State, SyncRequest, TopicPartitions,
};
use metadata::Image;
use records::{LeaderEpoch, Offset};
use wire::error_code::ErrorCode;
use wire::{
    Text, delete_groups, describe_groups, find_coordinator, heartbeat, join_group, leave_group, list_groups,
    offset_commit, offset_delete, offset_fetch, sync_group,
};

use super::metadata::{Node, OPERATIONS_UNKNOWN, node};
use super::{Api, Request};
use crate::Context;

/// Kafka's kinds of coordinators.
const GROUP: i8 = 0;

fn shared(text: &Text) -> Arc<str> {
    text.as_str().into()
}

fn shared_opt(text: Option<&Text>) -> Option<Arc<str>> {
    text.map(shared)
}

fn text(shared: &str) -> Text {
    shared.into()
}

fn text_opt(shared: Option<&Arc<str>>) -> Option<Text> {
    shared.map(|shared| text(shared))
}

fn code(result: &Result<(), GroupError>) -> i16 {
    result.as_ref().err().map_or(0, |error| error.code())
}

/// A topic's partitions, and the error code of each.
type TopicCodes = (Arc<str>, Vec<(i32, i16)>);

pub(super) async fn find_coordinator(
    api: &Arc<Api>,
    request: &Request,
    body: find_coordinator::Request,
) -> find_coordinator::Response {
    let image = api.metadata.image();
    let find = |group: &str| match body.key_type {
        GROUP => coordinator_of(api, &image, &request.context, group),
        _ => Err((
            ErrorCode::INVALID_REQUEST,
            "only consumer groups have coordinators here: transactions and share groups are not served yet",
        )),
    };
    if request.version() < 4 {
        return match find(&body.key) {
            Ok(Node { id, host, port, .. }) => {
                find_coordinator::Response { node_id: id.0, host, port: i32::from(port), ..Default::default() }
            }
            Err((code, message)) => find_coordinator::Response {
                error_code: code.code(),
                error_message: Some(message.into()),
                node_id: -1,
                port: -1,
                ..Default::default()
            },
        };
    }
    let coordinators = body.coordinator_keys.into_iter().map(|key| match find(&key) {
        Ok(Node { id, host, port, .. }) => {
            find_coordinator::Coordinator { key, node_id: id.0, host, port: i32::from(port), ..Default::default() }
        }
        Err((code, message)) => find_coordinator::Coordinator {
            key,
            node_id: -1,
            port: -1,
            error_code: code.code(),
            error_message: Some(message.into()),
            ..Default::default()
        },
    });
    find_coordinator::Response { coordinators: coordinators.collect(), ..Default::default() }
}

/// The broker that leads the partition in which a group is kept.
fn coordinator_of(api: &Api, image: &Image, context: &Context, group: &str) -> Result<Node, (ErrorCode, &'static str)> {
    let at = usize::try_from(api.coordinator.partition_for(group)).ok();
    let state = image.topic(coordinator::TOPIC).zip(at).and_then(|(topic, at)| topic.partitions.get(at));
    let leader = state.and_then(|state| image.brokers.get(&state.leader));
    let none = (ErrorCode::COORDINATOR_NOT_AVAILABLE, "the broker that coordinates the group is not there now");
    leader.and_then(|leader| node(api, leader, context)).ok_or(none)
}

pub(super) async fn join(api: &Arc<Api>, request: &Request, body: join_group::Request) -> join_group::Response {
    let version = request.version();
    let join = JoinRequest {
        member_id: shared(&body.member_id),
        instance_id: shared_opt(body.group_instance_id.as_ref()),
        client_id: shared_opt(request.header.client_id.as_ref()).unwrap_or_default(),
        client_host: format!("/{}", request.context.peer_address().ip()).into(),
        session_timeout_ms: body.session_timeout_ms,
        rebalance_timeout_ms: if version == 0 { body.session_timeout_ms } else { body.rebalance_timeout_ms },
        protocol_type: shared(&body.protocol_type),
        protocols: body.protocols.into_iter().map(|protocol| (shared(&protocol.name), protocol.metadata)).collect(),
        member_id_required: version >= 4,
        skip_assignment: version >= 9,
        reason: body.reason.map(|reason| reason.as_str().into()),
    };
    match api.coordinator.join(&body.group_id, join).await {
        Ok(joined) => {
            let members = joined.members.into_iter().map(|member| join_group::JoinGroupResponseMember {
                member_id: text(&member.member_id),
                group_instance_id: text_opt(member.instance_id.as_ref()),
                metadata: member.metadata,
                ..Default::default()
            });
            join_group::Response {
                generation_id: joined.generation,
                protocol_type: text_opt(joined.protocol_type.as_ref()),
                protocol_name: text_opt(joined.protocol.as_ref()).or_else(|| (version < 7).then(Text::default)),
                leader: text(&joined.leader),
                skip_assignment: joined.skip_assignment,
                member_id: text(&joined.member_id),
                members: members.collect(),
                ..Default::default()
            }
        }
        Err(refused) => join_group::Response {
            error_code: refused.error.code(),
            generation_id: -1,
            protocol_name: (version < 7).then(Text::default),
            member_id: text(&refused.member_id),
            ..Default::default()
        },
    }
}

pub(super) async fn sync(api: &Arc<Api>, _request: &Request, body: sync_group::Request) -> sync_group::Response {
    let sync = SyncRequest {
        member_id: shared(&body.member_id),
        instance_id: shared_opt(body.group_instance_id.as_ref()),
        generation: body.generation_id,
        protocol_type: shared_opt(body.protocol_type.as_ref()),
        protocol: shared_opt(body.protocol_name.as_ref()),
        assignments: body.assignments.into_iter().map(|one| (shared(&one.member_id), one.assignment)).collect(),
    };
    match api.coordinator.sync(&body.group_id, sync).await {
        Ok(synced) => sync_group::Response {
            protocol_type: text_opt(synced.protocol_type.as_ref()),
            protocol_name: text_opt(synced.protocol.as_ref()),
            assignment: synced.assignment,
            ..Default::default()
        },
        Err(error) => sync_group::Response { error_code: error.code(), assignment: Bytes::new(), ..Default::default() },
    }
}

pub(super) async fn heartbeat(api: &Arc<Api>, _request: &Request, body: heartbeat::Request) -> heartbeat::Response {
    let beat = HeartbeatRequest {
        member_id: &body.member_id,
        instance_id: body.group_instance_id.as_deref(),
        generation: body.generation_id,
    };
    let result = api.coordinator.heartbeat(&body.group_id, beat);
    heartbeat::Response { error_code: code(&result), ..Default::default() }
}

pub(super) async fn leave(api: &Arc<Api>, request: &Request, body: leave_group::Request) -> leave_group::Response {
    let alone = request.version() < 3;
    let members = if alone {
        vec![leave_group::MemberIdentity { member_id: body.member_id, ..Default::default() }]
    } else {
        body.members
    };
    let leaving: Vec<_> = members
        .iter()
        .map(|member| LeavingMember {
            member_id: &member.member_id,
            instance_id: member.group_instance_id.as_deref(),
            reason: member.reason.as_deref(),
        })
        .collect();
    match api.coordinator.leave(&body.group_id, &leaving) {
        Err(error) => leave_group::Response { error_code: error.code(), ..Default::default() },
        Ok(results) if alone => {
            leave_group::Response { error_code: results.first().map_or(0, code), ..Default::default() }
        }
        Ok(results) => {
            let members = members.into_iter().zip(&results).map(|(member, result)| leave_group::MemberResponse {
                member_id: member.member_id,
                group_instance_id: member.group_instance_id,
                error_code: code(result),
                ..Default::default()
            });
            leave_group::Response { members: members.collect(), ..Default::default() }
        }
    }
}

pub(super) async fn commit(
    api: &Arc<Api>,
    _request: &Request,
    body: offset_commit::Request,
) -> offset_commit::Response {
    let image = api.metadata.image();
    let exists = |topic: &Text, partition: i32| {
        image.topic(topic).is_some_and(|topic| topic.partition(partition.into()).is_some())
    };
    let mut wanted = Vec::with_capacity(body.topics.len());
    let mut response = offset_commit::Response::default();
    for topic in &body.topics {
        let (known, unknown): (Vec<_>, Vec<_>) =
            topic.partitions.iter().partition(|partition| exists(&topic.name, partition.partition_index));
        if !unknown.is_empty() {
            let partitions = unknown.iter().map(|partition| offset_commit::OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.code(),
                ..Default::default()
            });
            response.topics.push(offset_commit::OffsetCommitResponseTopic {
                name: topic.name.clone(),
                partitions: partitions.collect(),
                ..Default::default()
            });
        }
        let partitions = known.iter().map(|partition| CommitPartition {
            partition: partition.partition_index,
            offset: Offset(partition.committed_offset),
            leader_epoch: LeaderEpoch(partition.committed_leader_epoch),
            metadata: partition.committed_metadata.as_deref().unwrap_or_default().into(),
        });
        let partitions: Vec<_> = partitions.collect();
        if !partitions.is_empty() {
            wanted.push(CommitTopic { topic: shared(&topic.name), partitions });
        }
    }
    let asked: Vec<(Arc<str>, Vec<i32>)> = wanted
        .iter()
        .map(|topic| (topic.topic.clone(), topic.partitions.iter().map(|partition| partition.partition).collect()))
        .collect();
    let commit = CommitRequest {
        member_id: shared(&body.member_id),
        instance_id: shared_opt(body.group_instance_id.as_ref()),
        generation: body.generation_id_or_member_epoch,
        retention_ms: (body.retention_time_ms >= 0).then_some(body.retention_time_ms),
        topics: wanted,
    };
    let results: Vec<TopicCodes> = match api.coordinator.commit(&body.group_id, commit).await {
        Ok(results) => results
            .into_iter()
            .map(|topic| (topic.topic, topic.partitions.iter().map(|(index, result)| (*index, code(result))).collect()))
            .collect(),
        Err(error) => asked
            .into_iter()
            .map(|(topic, partitions)| (topic, partitions.into_iter().map(|index| (index, error.code())).collect()))
            .collect(),
    };
    for (topic, partitions) in results {
        let partitions = partitions.into_iter().map(|(partition_index, error_code)| {
            offset_commit::OffsetCommitResponsePartition { partition_index, error_code, ..Default::default() }
        });
        response.topics.push(offset_commit::OffsetCommitResponseTopic {
            name: text(&topic),
            partitions: partitions.collect(),
            ..Default::default()
        });
    }
    response
}

pub(super) async fn fetch_offsets(
    api: &Arc<Api>,
    request: &Request,
    body: offset_fetch::Request,
) -> offset_fetch::Response {
    if request.version() >= 8 {
        let groups = body.groups.into_iter().map(|group| fetch_group(api, group));
        return offset_fetch::Response { groups: groups.collect(), ..Default::default() };
    }
    let topics = body.topics.map(|topics| {
        topics
            .into_iter()
            .map(|topic| offset_fetch::OffsetFetchRequestTopics {
                name: topic.name,
                partition_indexes: topic.partition_indexes,
                ..Default::default()
            })
            .collect()
    });
    let group = offset_fetch::OffsetFetchRequestGroup { group_id: body.group_id, topics, ..Default::default() };
    let group = fetch_group(api, group);
    let topics = group.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.into_iter().map(|partition| offset_fetch::OffsetFetchResponsePartition {
            partition_index: partition.partition_index,
            committed_offset: partition.committed_offset,
            committed_leader_epoch: partition.committed_leader_epoch,
            metadata: partition.metadata,
            error_code: partition.error_code,
            ..Default::default()
        });
        offset_fetch::OffsetFetchResponseTopic {
            name: topic.name,
            partitions: partitions.collect(),
            ..Default::default()
        }
    });
    offset_fetch::Response { error_code: group.error_code, topics: topics.collect(), ..Default::default() }
}

fn fetch_group(api: &Api, asked: offset_fetch::OffsetFetchRequestGroup) -> offset_fetch::OffsetFetchResponseGroup {
    use offset_fetch::{OffsetFetchResponsePartitions, OffsetFetchResponseTopics};
    let wanted: Option<Vec<TopicPartitions>> = asked.topics.map(|topics| {
        let topics = topics.into_iter();
        topics
            .map(|topic| TopicPartitions { topic: shared(&topic.name), partitions: topic.partition_indexes })
            .collect()
    });
    let mut answer = offset_fetch::OffsetFetchResponseGroup { group_id: asked.group_id, ..Default::default() };
    match api.coordinator.fetch_offsets(&answer.group_id, wanted.as_deref()) {
        Err(error) => {
            answer.error_code = error.code();
            // Clients of versions before 2 find errors only beside partitions.
            answer.topics = wanted
                .into_iter()
                .flatten()
                .map(|topic| OffsetFetchResponseTopics {
                    name: text(&topic.topic),
                    partitions: topic
                        .partitions
                        .into_iter()
                        .map(|partition_index| OffsetFetchResponsePartitions {
                            partition_index,
                            committed_offset: -1,
                            committed_leader_epoch: -1,
                            metadata: Some(Text::default()),
                            error_code: error.code(),
                            ..Default::default()
                        })
                        .collect(),
                    ..Default::default()
                })
                .collect();
        }
        Ok(topics) => {
            answer.topics = topics
                .into_iter()
                .map(|topic| OffsetFetchResponseTopics {
                    name: text(&topic.topic),
                    partitions: topic
                        .partitions
                        .into_iter()
                        .map(|(partition_index, committed)| OffsetFetchResponsePartitions {
                            partition_index,
                            committed_offset: committed.as_ref().map_or(-1, |committed| committed.offset.0),
                            committed_leader_epoch: committed.as_ref().map_or(-1, |committed| committed.leader_epoch.0),
                            metadata: Some(committed.map(|committed| text(&committed.metadata)).unwrap_or_default()),
                            ..Default::default()
                        })
                        .collect(),
                    ..Default::default()
                })
                .collect();
        }
    }
    answer
}

pub(super) async fn describe(
    api: &Arc<Api>,
    request: &Request,
    body: describe_groups::Request,
) -> describe_groups::Response {
    let groups = body.groups.into_iter().map(|group_id| {
        let mut answer = describe_groups::DescribedGroup {
            group_id: group_id.clone(),
            authorized_operations: OPERATIONS_UNKNOWN,
            ..Default::default()
        };
        match api.coordinator.describe(&group_id) {
            Ok(group) => {
                answer.group_state = group.state.name().into();
                answer.protocol_type = text(&group.protocol_type);
                answer.protocol_data = text(&group.protocol);
                let members = group.members.into_iter().map(|member| describe_groups::DescribedGroupMember {
                    member_id: text(&member.member_id),
                    group_instance_id: text_opt(member.instance_id.as_ref()),
                    client_id: text(&member.client_id),
                    client_host: text(&member.client_host),
                    member_metadata: member.metadata,
                    member_assignment: member.assignment,
                    ..Default::default()
                });
                answer.members = members.collect();
            }
            Err(GroupError::GroupIdNotFound) => {
                // Before KIP-1043 a group that is not there is a dead one.
                answer.group_state = State::Dead.name().into();
                if request.version() >= 6 {
                    answer.error_code = GroupError::GroupIdNotFound.code();
                    answer.error_message = Some(format!("group '{group_id}' does not exist").into());
                }
            }
            Err(error) => answer.error_code = error.code(),
        }
        answer
    });
    describe_groups::Response { groups: groups.collect(), ..Default::default() }
}

pub(super) async fn list(api: &Arc<Api>, _request: &Request, body: list_groups::Request) -> list_groups::Response {
    let strings = |texts: Vec<Text>| texts.iter().map(ToString::to_string).collect();
    let filter = ListFilter { states: strings(body.states_filter), types: strings(body.types_filter) };
    match api.coordinator.list(&filter) {
        Err(error) => list_groups::Response { error_code: error.code(), ..Default::default() },
        Ok(groups) => {
            let groups = groups.into_iter().map(|group| list_groups::ListedGroup {
                group_id: text(&group.group_id),
                protocol_type: text(&group.protocol_type),
                group_state: group.state.name().into(),
                group_type: coordinator::GROUP_TYPE.into(),
                ..Default::default()
            });
            list_groups::Response { groups: groups.collect(), ..Default::default() }
        }
    }
}

pub(super) async fn delete(
    api: &Arc<Api>,
    _request: &Request,
    body: delete_groups::Request,
) -> delete_groups::Response {
    let mut results = Vec::with_capacity(body.groups_names.len());
    for group_id in body.groups_names {
        let error_code = code(&api.coordinator.delete(&group_id).await);
        results.push(delete_groups::DeletableGroupResult { group_id, error_code, ..Default::default() });
    }
    delete_groups::Response { results, ..Default::default() }
}

pub(super) async fn delete_offsets(
    api: &Arc<Api>,
    _request: &Request,
    body: offset_delete::Request,
) -> offset_delete::Response {
    let topics: Vec<_> = body
        .topics
        .iter()
        .map(|topic| TopicPartitions {
            topic: shared(&topic.name),
            partitions: topic.partitions.iter().map(|partition| partition.partition_index).collect(),
        })
        .collect();
    match api.coordinator.delete_offsets(&body.group_id, &topics).await {
        Err(error) => offset_delete::Response { error_code: error.code(), ..Default::default() },
        Ok(results) => {
            let topics = results.into_iter().map(|topic| offset_delete::OffsetDeleteResponseTopic {
                name: text(&topic.topic),
                partitions: topic
                    .partitions
                    .iter()
                    .map(|(partition_index, result)| offset_delete::OffsetDeleteResponsePartition {
                        partition_index: *partition_index,
                        error_code: code(result),
                        ..Default::default()
                    })
                    .collect(),
                ..Default::default()
            });
            offset_delete::Response { topics: topics.collect(), ..Default::default() }
        }
    }
}
