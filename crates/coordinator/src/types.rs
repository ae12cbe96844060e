//! Requests and answers as plain structs; the front door translates from and to the protocol's messages.
//!
//! Names that outlive a request are `Arc<str>`; `Bytes` that are kept are copied, so that no frame is held alive.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use records::{LeaderEpoch, Offset, Timestamp};

use crate::GroupError;

/// The time of an input: a monotonic clock for time-outs, the wall clock for what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Since an origin that the caller chooses and keeps.
    pub monotonic: Duration,
    /// The wall clock.
    pub wall: Timestamp,
}

/// JoinGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRequest {
    /// Empty when the member has none yet.
    pub member_id: Arc<str>,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Arc<str>>,
    /// The client id of the request's header.
    pub client_id: Arc<str>,
    /// Where the request came from, as Kafka shows it (`/127.0.0.1`).
    pub client_host: Arc<str>,
    /// The session time-out.
    pub session_timeout_ms: i32,
    /// The rebalance time-out; version 0 has none and gives its session time-out.
    pub rebalance_timeout_ms: i32,
    /// `consumer`, `connect` …
    pub protocol_type: Arc<str>,
    /// Names and metadata, the most wanted first.
    pub protocols: Vec<(Arc<str>, Bytes)>,
    /// Version 4 and later: a member without an id is told one and must join again with it.
    pub member_id_required: bool,
    /// Version 9 and later: a static leader can be told to skip the assignment.
    pub skip_assignment: bool,
    /// Why the member joins, for people (version 8 and later).
    pub reason: Option<Box<str>>,
}

/// The answer to a join that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The generation.
    pub generation: i32,
    /// The group's protocol type.
    pub protocol_type: Option<Arc<str>>,
    /// The protocol that the members voted for.
    pub protocol: Option<Arc<str>>,
    /// The leader's member id.
    pub leader: Arc<str>,
    /// Version 9 and later: the leader must not assign.
    pub skip_assignment: bool,
    /// The member's own id.
    pub member_id: Arc<str>,
    /// All members, for the leader only.
    pub members: Vec<JoinedMember>,
}

/// A member as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: Arc<str>,
    /// Its `group.instance.id`.
    pub instance_id: Option<Arc<str>>,
    /// Its metadata for the protocol chosen.
    pub metadata: Bytes,
}

/// A join that did not succeed. The response carries the member id too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRefused {
    /// Why.
    pub error: GroupError,
    /// With `MemberIdRequired` the id to join with; otherwise the request's, or empty.
    pub member_id: Arc<str>,
}

/// SyncGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncRequest {
    /// The member.
    pub member_id: Arc<str>,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Arc<str>>,
    /// The generation that the member joined.
    pub generation: i32,
    /// Checked where given (version 5 and later).
    pub protocol_type: Option<Arc<str>>,
    /// Checked where given (version 5 and later).
    pub protocol: Option<Arc<str>>,
    /// Member ids and their assignments; from the leader only.
    pub assignments: Vec<(Arc<str>, Bytes)>,
}

/// The answer to a sync that succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    /// The group's protocol type.
    pub protocol_type: Option<Arc<str>>,
    /// The group's protocol.
    pub protocol: Option<Arc<str>>,
    /// The member's assignment, as the leader made it.
    pub assignment: Bytes,
}

/// Heartbeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeartbeatRequest<'a> {
    /// The member.
    pub member_id: &'a str,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<&'a str>,
    /// The generation that the member joined.
    pub generation: i32,
}

/// One member of a LeaveGroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeavingMember<'a> {
    /// The member's id; empty to remove a static member by its instance id alone.
    pub member_id: &'a str,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<&'a str>,
    /// Why it leaves, for people (version 5 and later).
    pub reason: Option<&'a str>,
}

/// OffsetCommit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitRequest {
    /// Empty for a simple consumer.
    pub member_id: Arc<str>,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Arc<str>>,
    /// −1 for a simple consumer.
    pub generation: i32,
    /// Versions 2 to 4: keep the offsets this long, whatever the group does.
    pub retention_ms: Option<i64>,
    /// What to commit.
    pub topics: Vec<CommitTopic>,
}

/// One topic of an [`CommitRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitTopic {
    /// The topic's name.
    pub topic: Arc<str>,
    /// Its partitions.
    pub partitions: Vec<CommitPartition>,
}

/// One partition of an [`CommitRequest`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitPartition {
    /// The partition's number.
    pub partition: i32,
    /// The next offset to read.
    pub offset: Offset,
    /// The leader epoch of the last record read; −1 where unknown.
    pub leader_epoch: LeaderEpoch,
    /// Whatever the client wants to keep with it; empty where it gave none.
    pub metadata: Box<str>,
}

/// What became of each partition of a request, in the request's order.
pub type PartitionResults = Vec<TopicResults>;

/// What became of each partition of one topic of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicResults {
    /// The topic's name.
    pub topic: Arc<str>,
    /// Its partitions.
    pub partitions: Vec<(i32, Result<(), GroupError>)>,
}

/// Partitions of one topic, for OffsetFetch and OffsetDelete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPartitions {
    /// The topic's name.
    pub topic: Arc<str>,
    /// Its partitions.
    pub partitions: Vec<i32>,
}

/// An offset as it was committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to read.
    pub offset: Offset,
    /// The leader epoch of the last record read; −1 where unknown.
    pub leader_epoch: LeaderEpoch,
    /// Whatever the client keeps with it.
    pub metadata: Box<str>,
    /// When it was committed.
    pub commit_timestamp: Timestamp,
    /// When it expires, where the commit said so itself.
    pub expire_timestamp: Option<Timestamp>,
}

/// The committed offsets of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicOffsets {
    /// The topic's name.
    pub topic: Arc<str>,
    /// Its partitions; `None` where nothing is committed (offset −1 on the wire, and no error).
    pub partitions: Vec<(i32, Option<Committed>)>,
}

/// The states of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum State {
    /// No members; perhaps offsets.
    Empty,
    /// Waiting for the members to join the next generation.
    PreparingRebalance,
    /// Waiting for the leader's assignment.
    CompletingRebalance,
    /// Every member can have its assignment.
    Stable,
    /// Being deleted.
    Dead,
}

impl State {
    /// Kafka's name of the state.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Dead => "Dead",
        }
    }
}

/// Kafka's name of this kind of group, in ListGroups v5 and later.
pub const GROUP_TYPE: &str = "classic";

/// The answer to DescribeGroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// The group's id.
    pub group_id: Arc<str>,
    /// Its state.
    pub state: State,
    /// Its protocol type; empty when it never had members.
    pub protocol_type: Arc<str>,
    /// Its protocol; empty unless it is stable.
    pub protocol: Arc<str>,
    /// Its members.
    pub members: Vec<MemberDescription>,
}

/// A member in a [`GroupDescription`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    /// Its id.
    pub member_id: Arc<str>,
    /// Its `group.instance.id`.
    pub instance_id: Option<Arc<str>>,
    /// Its client id.
    pub client_id: Arc<str>,
    /// Where it joined from.
    pub client_host: Arc<str>,
    /// Its metadata for the group's protocol; empty unless the group is stable.
    pub metadata: Bytes,
    /// Its assignment; empty unless the group is stable.
    pub assignment: Bytes,
}

/// One group in the answer to ListGroups. Its type is [`GROUP_TYPE`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// The group's id.
    pub group_id: Arc<str>,
    /// Its protocol type; empty when it never had members.
    pub protocol_type: Arc<str>,
    /// Its state.
    pub state: State,
}

/// One committed offset, for the lag of groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The group.
    pub group_id: Arc<str>,
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: i32,
    /// The next offset the group reads.
    pub offset: Offset,
    /// When it was committed.
    pub commit_timestamp: Timestamp,
}

/// How much a coordinator keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Groups.
    pub groups: usize,
    /// Members of all groups.
    pub members: usize,
    /// Committed offsets of all groups.
    pub offsets: usize,
    /// The bytes of all live records.
    pub live_bytes: usize,
    /// The bytes that a start would have to read.
    pub log_bytes: usize,
}

/// Which groups ListGroups lists. An empty list does not filter.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ListFilter {
    /// Names of states, in any case.
    pub states: Vec<String>,
    /// Names of group types, in any case.
    pub types: Vec<String>,
}
