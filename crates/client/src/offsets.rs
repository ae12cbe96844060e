//! Offsets as the cluster knows them: the ends of partitions, places in time, and what groups have committed. Used by
//! consumers and by administration.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use records::{Offset, Timestamp};
use wire::{ErrorCode, Text, find_coordinator, list_offsets, offset_commit, offset_fetch};

use crate::Error;
use crate::cluster::{Cluster, Lane};

/// A partition of a topic, by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: i32,
}

impl TopicPartition {
    /// A partition of a topic.
    #[must_use]
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.topic, self.partition)
    }
}

/// A place in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OffsetSpec {
    /// The first offset that is still there.
    Start,
    /// The offset that the next record will get.
    End,
    /// This one.
    At(Offset),
    /// The first record with this timestamp or a later one; the end, if there is none.
    Time(Timestamp),
    /// The record with the largest timestamp.
    MaxTime,
}

impl OffsetSpec {
    fn wire(self) -> i64 {
        match self {
            Self::Start => -2,
            Self::End | Self::At(_) => -1,
            Self::Time(at) => at.0.max(0),
            Self::MaxTime => -3,
        }
    }
}

/// What a group has committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to read.
    pub offset: Offset,
    /// The leader epoch of the last record read, if it was given.
    pub leader_epoch: Option<i32>,
    /// Whatever the committer wrote beside it.
    pub metadata: String,
}

/// The broker that coordinates a group.
pub(crate) async fn coordinator(cluster: &Cluster, group: &str) -> Result<i32, Error> {
    let known = cluster.coordinators.lock().get(group).copied();
    if let Some(broker) = known {
        return Ok(broker);
    }
    let request = find_coordinator::Request { coordinator_keys: vec![Text::from(group)], ..Default::default() };
    let response = cluster.call_any(&request).await?;
    let what = || format!("finding the coordinator of group {group}");
    let found = response.coordinators.into_iter().find(|found| found.key == *group);
    let found = found.ok_or_else(|| Error::broker(ErrorCode::COORDINATOR_NOT_AVAILABLE, what()))?;
    crate::error::check(found.error_code, what).map_err(|error| error.with_message(found.error_message.as_ref()))?;
    if !cluster.metadata().brokers.contains_key(&found.node_id) {
        cluster.refresh().await?;
    }
    cluster.coordinators.lock().insert(group.to_owned(), found.node_id);
    Ok(found.node_id)
}

/// Forgets who coordinates a group, if the error says that this is out of date.
pub(crate) fn check_coordinator(cluster: &Cluster, group: &str, error: &Error) {
    let moved = [ErrorCode::NOT_COORDINATOR, ErrorCode::COORDINATOR_NOT_AVAILABLE, ErrorCode::BROKER_NOT_AVAILABLE];
    if error.code().is_none_or(|code| moved.contains(&code)) {
        cluster.coordinators.lock().remove(group);
    }
}

/// Asks the leaders of partitions for places in them.
pub(crate) async fn list(
    cluster: &Cluster,
    wanted: &[(TopicPartition, OffsetSpec)],
    committed_only: bool,
) -> Result<HashMap<TopicPartition, Offset>, Error> {
    let mut found = HashMap::new();
    let mut by_leader: HashMap<i32, Vec<(TopicPartition, i64)>> = HashMap::new();
    for (partition, spec) in wanted {
        if let OffsetSpec::At(offset) = spec {
            found.insert(partition.clone(), *offset);
            continue;
        }
        let (leader, _) = cluster.leader(&partition.topic, partition.partition).await?;
        by_leader.entry(leader).or_default().push((partition.clone(), spec.wire()));
    }
    let asked = by_leader.iter().map(|(leader, partitions)| ask_leader(cluster, *leader, partitions, committed_only));
    let mut without = Vec::new();
    for answer in join_all(asked).await {
        for (partition, offset) in answer? {
            match offset {
                Some(offset) => drop(found.insert(partition, offset)),
                None => without.push((partition, OffsetSpec::End)),
            }
        }
    }
    if !without.is_empty() {
        // Nothing is that late: the end.
        found.extend(Box::pin(list(cluster, &without, committed_only)).await?);
    }
    Ok(found)
}

async fn ask_leader(
    cluster: &Cluster,
    leader: i32,
    partitions: &[(TopicPartition, i64)],
    committed_only: bool,
) -> Result<Vec<(TopicPartition, Option<Offset>)>, Error> {
    let mut topics: HashMap<Arc<str>, Vec<list_offsets::ListOffsetsPartition>> = HashMap::new();
    for (partition, timestamp) in partitions {
        topics.entry(partition.topic.clone()).or_default().push(list_offsets::ListOffsetsPartition {
            partition_index: partition.partition,
            timestamp: *timestamp,
            ..Default::default()
        });
    }
    let request = list_offsets::Request {
        replica_id: -1,
        isolation_level: i8::from(committed_only),
        topics: topics
            .into_iter()
            .map(|(topic, partitions)| list_offsets::ListOffsetsTopic {
                name: Text::from(&topic),
                partitions,
                ..Default::default()
            })
            .collect(),
        timeout_ms: i32::try_from(cluster.config.request_timeout.as_millis()).unwrap_or(i32::MAX),
        ..Default::default()
    };
    let response = cluster.call(leader, Lane::CONTROL, i16::MAX, &request).await?;
    let mut found = Vec::new();
    for topic in response.topics {
        for partition in topic.partitions {
            let name = TopicPartition::new(&*topic.name, partition.partition_index);
            if partition.error_code != 0 {
                cluster.forget(&topic.name);
                return Err(Error::broker(partition.error_code, format!("finding an offset in {name}")));
            }
            found.push((name, (partition.offset >= 0).then_some(Offset(partition.offset))));
        }
    }
    if found.len() != partitions.len() {
        return Err(Error::broker(ErrorCode::UNKNOWN_SERVER_ERROR, "the broker left out partitions"));
    }
    Ok(found)
}

/// What a group has committed; all of it, or for some partitions. Partitions without a commit are left out.
pub(crate) async fn committed(
    cluster: &Cluster,
    group: &str,
    partitions: Option<&[TopicPartition]>,
) -> Result<HashMap<TopicPartition, Committed>, Error> {
    let asked = ask_committed(cluster, group, partitions).await;
    asked.inspect_err(|error| check_coordinator(cluster, group, error))
}

async fn ask_committed(
    cluster: &Cluster,
    group: &str,
    partitions: Option<&[TopicPartition]>,
) -> Result<HashMap<TopicPartition, Committed>, Error> {
    let topics = partitions.map(|partitions| {
        let grouped = by_topic(partitions.iter().map(|partition| (partition, partition.partition)));
        let topic = |(name, partition_indexes)| offset_fetch::OffsetFetchRequestTopics {
            name: Text::from(&name),
            partition_indexes,
            ..Default::default()
        };
        grouped.into_iter().map(topic).collect()
    });
    let request = offset_fetch::Request {
        groups: vec![offset_fetch::OffsetFetchRequestGroup {
            group_id: Text::from(group),
            topics,
            ..Default::default()
        }],
        require_stable: true,
        ..Default::default()
    };
    let broker = coordinator(cluster, group).await?;
    let response = cluster.call(broker, Lane::CONTROL, 9, &request).await?;
    let mut found = HashMap::new();
    for answered in response.groups {
        crate::error::check(answered.error_code, || format!("reading the offsets of group {group}"))?;
        for topic in answered.topics {
            for partition in topic.partitions {
                let name = TopicPartition::new(&*topic.name, partition.partition_index);
                crate::error::check(partition.error_code, || format!("reading the offset of group {group} in {name}"))?;
                if partition.committed_offset >= 0 {
                    found.insert(
                        name,
                        Committed {
                            offset: Offset(partition.committed_offset),
                            leader_epoch: Some(partition.committed_leader_epoch).filter(|epoch| *epoch >= 0),
                            metadata: partition.metadata.map(Into::into).unwrap_or_default(),
                        },
                    );
                }
            }
        }
    }
    Ok(found)
}

/// A member of a group, as its commits name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) id: Text,
    pub(crate) generation: i32,
    pub(crate) instance: Option<Text>,
}

/// Commits offsets for a group: as one of its members, or as nobody, which only a group without members takes.
pub(crate) async fn commit(
    cluster: &Cluster,
    group: &str,
    member: Option<&Member>,
    lane: Lane,
    offsets: &HashMap<TopicPartition, Offset>,
) -> Result<(), Error> {
    if offsets.is_empty() {
        return Ok(());
    }
    let grouped = by_topic(offsets.iter().map(|(partition, offset)| (partition, (partition.partition, *offset))));
    let topic = |(name, partitions): (Arc<str>, Vec<(i32, Offset)>)| offset_commit::OffsetCommitRequestTopic {
        name: Text::from(&name),
        partitions: partitions
            .into_iter()
            .map(|(partition_index, offset)| offset_commit::OffsetCommitRequestPartition {
                partition_index,
                committed_offset: offset.0,
                committed_metadata: Some(Text::default()),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    let request = offset_commit::Request {
        group_id: Text::from(group),
        generation_id_or_member_epoch: member.map_or(-1, |member| member.generation),
        member_id: member.map(|member| member.id.clone()).unwrap_or_default(),
        group_instance_id: member.and_then(|member| member.instance.clone()),
        topics: grouped.into_iter().map(topic).collect(),
        ..Default::default()
    };
    let committing = async {
        let broker = coordinator(cluster, group).await?;
        let response = cluster.call(broker, lane, 9, &request).await?;
        for topic in response.topics {
            for partition in topic.partitions {
                let what = || format!("committing {}/{} for group {group}", topic.name, partition.partition_index);
                crate::error::check(partition.error_code, what)?;
            }
        }
        Ok(())
    };
    committing.await.inspect_err(|error| check_coordinator(cluster, group, error))
}

fn by_topic<'a, T>(partitions: impl Iterator<Item = (&'a TopicPartition, T)>) -> HashMap<Arc<str>, Vec<T>> {
    let mut topics: HashMap<Arc<str>, Vec<T>> = HashMap::new();
    for (partition, value) in partitions {
        topics.entry(partition.topic.clone()).or_default().push(value);
    }
    topics
}

/// How long commits on the way out may take.
pub(crate) const FAREWELL: Duration = Duration::from_secs(5);
