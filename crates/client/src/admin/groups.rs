//! Consumer groups and what they have committed.

use std::collections::{BTreeMap, HashMap};

use records::Offset;
use wire::{ErrorCode, Text, delete_groups, describe_groups, list_groups, offset_delete};

use super::Admin;
use crate::cluster::Lane;
use crate::consumer::assigned_partitions;
use crate::offsets::{self, Committed, check_coordinator, coordinator};
use crate::{Error, TopicPartition};

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// Its name.
    pub name: String,
    /// What its members speak among themselves: `consumer` for consumers, empty for a group that only commits.
    pub protocol_type: String,
    /// `Empty`, `Stable`, `PreparingRebalance`, …
    pub state: String,
}

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// Its name.
    pub name: String,
    /// `Empty`, `Stable`, `PreparingRebalance`, …
    pub state: String,
    /// What its members speak among themselves.
    pub protocol_type: String,
    /// How partitions are divided.
    pub assignor: String,
    /// The broker that coordinates it.
    pub coordinator: i32,
    /// Its members, by id.
    pub members: Vec<GroupMember>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupMember {
    /// The id that the coordinator gave it.
    pub id: String,
    /// The name of a static member.
    pub instance: Option<String>,
    /// What the client calls itself.
    pub client_id: String,
    /// Where it comes from.
    pub host: String,
    /// What it reads.
    pub partitions: Vec<TopicPartition>,
}

impl Admin {
    /// All groups, by name.
    ///
    /// # Errors
    /// A broker cannot be reached: the list would not be whole.
    pub async fn groups(&self) -> Result<Vec<GroupListing>, Error> {
        let request = list_groups::Request::default();
        self.retry(|| self.cluster.refresh()).await?;
        let brokers: Vec<i32> = self.cluster.metadata().brokers.keys().copied().collect();
        let mut found = BTreeMap::new();
        for broker in brokers {
            let response = self
                .retry(|| async {
                    let response = self.cluster.call(broker, Lane::CONTROL, i16::MAX, &request).await?;
                    crate::error::check(response.error_code, || "listing groups".into())?;
                    Ok(response)
                })
                .await?;
            for group in response.groups {
                let listing = GroupListing {
                    name: group.group_id.into(),
                    protocol_type: group.protocol_type.into(),
                    state: group.group_state.into(),
                };
                found.insert(listing.name.clone(), listing);
            }
        }
        Ok(found.into_values().collect())
    }

    /// One group. One that does not exist is an error from newer brokers (GROUP_ID_NOT_FOUND) and has the state `Dead`
    /// with older ones, which this makes the same error.
    ///
    /// # Errors
    /// It does not exist, or the cluster cannot be reached.
    pub async fn group(&self, name: &str) -> Result<GroupDescription, Error> {
        let request = describe_groups::Request { groups: vec![Text::from(name)], ..Default::default() };
        let what = || format!("group {name}");
        let (coordinator, group) = self
            .retry(|| async {
                let broker = coordinator(&self.cluster, name).await?;
                let answer = self.cluster.call(broker, Lane::CONTROL, i16::MAX, &request).await;
                let answer = answer.inspect_err(|error| check_coordinator(&self.cluster, name, error))?;
                let group = answer.groups.into_iter().next();
                let group = group.ok_or_else(|| Error::broker(ErrorCode::UNKNOWN_SERVER_ERROR, what()))?;
                self.check_group(name, group.error_code, what)?;
                Ok((broker, group))
            })
            .await?;
        if group.group_state == "Dead" {
            return Err(Error::broker(ErrorCode::GROUP_ID_NOT_FOUND, what()));
        }
        let member = |member: describe_groups::DescribedGroupMember| GroupMember {
            id: member.member_id.into(),
            instance: member.group_instance_id.map(Into::into),
            client_id: member.client_id.into(),
            host: member.client_host.into(),
            partitions: assigned_partitions(&member.member_assignment),
        };
        let mut members: Vec<_> = group.members.into_iter().map(member).collect();
        members.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(GroupDescription {
            name: group.group_id.into(),
            state: group.group_state.into(),
            protocol_type: group.protocol_type.into(),
            assignor: group.protocol_data.into(),
            coordinator,
            members,
        })
    }

    /// Deletes a group and what it has committed. It must have no members.
    ///
    /// # Errors
    /// It does not exist or has members, or the cluster cannot be reached.
    pub async fn delete_group(&self, name: &str) -> Result<(), Error> {
        let request = delete_groups::Request { groups_names: vec![Text::from(name)], ..Default::default() };
        let what = || format!("deleting group {name}");
        self.retry(|| async {
            let broker = coordinator(&self.cluster, name).await?;
            let answer = self.cluster.call(broker, Lane::CONTROL, i16::MAX, &request).await;
            let answer = answer.inspect_err(|error| check_coordinator(&self.cluster, name, error))?;
            let answer = answer.results.into_iter().next();
            let answer = answer.ok_or_else(|| Error::broker(ErrorCode::UNKNOWN_SERVER_ERROR, what()))?;
            self.check_group(name, answer.error_code, what)
        })
        .await
    }

    /// What a group has committed.
    ///
    /// # Errors
    /// The cluster cannot be reached. A group that does not exist has committed nothing.
    pub async fn group_offsets(&self, name: &str) -> Result<HashMap<TopicPartition, Committed>, Error> {
        self.retry(|| offsets::committed(&self.cluster, name, None)).await
    }

    /// Sets what a group has committed. It must have no members.
    ///
    /// # Errors
    /// It has members (UNKNOWN_MEMBER_ID), or the cluster cannot be reached.
    pub async fn set_group_offsets(&self, name: &str, offsets: &HashMap<TopicPartition, Offset>) -> Result<(), Error> {
        self.retry(|| offsets::commit(&self.cluster, name, None, Lane::CONTROL, offsets)).await
    }

    /// Forgets what a group has committed for partitions. It must not be reading their topics.
    ///
    /// # Errors
    /// It does not exist or reads them, or the cluster cannot be reached.
    pub async fn delete_group_offsets(&self, name: &str, partitions: &[TopicPartition]) -> Result<(), Error> {
        let mut topics: BTreeMap<&str, Vec<offset_delete::OffsetDeleteRequestPartition>> = BTreeMap::new();
        for partition in partitions {
            topics.entry(&partition.topic).or_default().push(offset_delete::OffsetDeleteRequestPartition {
                partition_index: partition.partition,
                ..Default::default()
            });
        }
        let topic = |(name, partitions)| offset_delete::OffsetDeleteRequestTopic {
            name: Text::from(name),
            partitions,
            ..Default::default()
        };
        let request = offset_delete::Request {
            group_id: Text::from(name),
            topics: topics.into_iter().map(topic).collect(),
            ..Default::default()
        };
        let what = || format!("deleting offsets of group {name}");
        self.retry(|| async {
            let broker = coordinator(&self.cluster, name).await?;
            let answer = self.cluster.call(broker, Lane::CONTROL, i16::MAX, &request).await;
            let answer = answer.inspect_err(|error| check_coordinator(&self.cluster, name, error))?;
            self.check_group(name, answer.error_code, what)?;
            for partition in answer.topics.into_iter().flat_map(|topic| topic.partitions) {
                self.check_group(name, partition.error_code, what)?;
            }
            Ok(())
        })
        .await
    }

    fn check_group(&self, name: &str, code: i16, what: impl FnOnce() -> String) -> Result<(), Error> {
        crate::error::check(code, what).inspect_err(|error| check_coordinator(&self.cluster, name, error))
    }
}
