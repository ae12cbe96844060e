//! What a group shows: OffsetFetch, DescribeGroups, ListGroups, figures.

use std::sync::Arc;

use bytes::Bytes;

use super::Group;
use crate::{
    CommittedOffset, GroupDescription, GroupListing, MemberDescription, State, Stats, TopicOffsets, TopicPartitions,
};

impl Group {
    /// Committed offsets: of these partitions, or all.
    pub(crate) fn fetch_offsets(&self, topics: Option<&[TopicPartitions]>) -> Vec<TopicOffsets> {
        let Some(topics) = topics else {
            let all = self.offsets.topics().iter().map(|(topic, slots)| {
                let known =
                    slots.iter().filter_map(|(partition, slot)| Some((*partition, Some(slot.current.clone()?))));
                TopicOffsets { topic: Arc::clone(topic), partitions: known.collect() }
            });
            return all.filter(|topic| !topic.partitions.is_empty()).collect();
        };
        let fetch = |wanted: &TopicPartitions| TopicOffsets {
            topic: Arc::clone(&wanted.topic),
            partitions: (wanted.partitions.iter())
                .map(|partition| {
                    (*partition, self.offsets.slot(&wanted.topic, *partition).and_then(|slot| slot.current.clone()))
                })
                .collect(),
        };
        topics.iter().map(fetch).collect()
    }

    /// Puts its committed offsets into the list.
    pub(crate) fn committed_offsets(&self, into: &mut Vec<CommittedOffset>) {
        for (topic, slots) in self.offsets.topics() {
            into.extend(slots.iter().filter_map(|(partition, slot)| {
                let committed = slot.current.as_ref()?;
                Some(CommittedOffset {
                    group_id: Arc::clone(&self.id),
                    topic: Arc::clone(topic),
                    partition: *partition,
                    offset: committed.offset,
                    commit_timestamp: committed.commit_timestamp,
                })
            }));
        }
    }

    /// The group and its members.
    pub(crate) fn describe(&self) -> GroupDescription {
        let stable = self.state == State::Stable;
        let members = self.members.iter().map(|(id, member)| MemberDescription {
            member_id: Arc::clone(id),
            instance_id: member.instance_id.clone(),
            client_id: Arc::clone(&member.client_id),
            client_host: Arc::clone(&member.client_host),
            metadata: if stable { member.metadata(self.protocol.as_deref()) } else { Bytes::new() },
            assignment: if stable { member.assignment.clone() } else { Bytes::new() },
        });
        GroupDescription {
            group_id: Arc::clone(&self.id),
            state: self.shown_state(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: if stable { self.protocol.clone().unwrap_or_default() } else { Arc::default() },
            members: members.collect(),
        }
    }

    /// The group in a list.
    pub(crate) fn listing(&self) -> GroupListing {
        GroupListing {
            group_id: Arc::clone(&self.id),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            state: self.shown_state(),
        }
    }

    /// Adds its figures.
    pub(crate) fn count(&self, stats: &mut Stats) {
        stats.groups += 1;
        stats.members += self.members.len();
        let known = self.offsets.topics().values().flat_map(|slots| slots.values());
        stats.offsets += known.filter(|slot| slot.current.is_some()).count();
        stats.live_bytes += self.live_bytes();
    }

    #[cfg(test)]
    pub(crate) fn generation_and_leader(&self) -> (i32, Option<Arc<str>>) {
        (self.generation, self.leader.clone())
    }
}
