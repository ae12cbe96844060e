//! The facade: finds the shard of a group, and hands requests to it.
//!
//! Every method takes its request in before it returns, so requests made one after the other keep their order whoever
//! awaits their answers when. Before a shard is loaded it refuses with `CoordinatorLoadInProgress`; groups of partitions
//! that are not open here get `NotCoordinator`.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use records::{Clock, Random};
use tokio::time::Instant;

use crate::group::Answer;
use crate::groups::Room;
use crate::hash::partition_for;
use crate::pending::{Pending, done, joined, partitions, synced};
use crate::shard::{Environment, Shard};
use crate::storage::Storage;
use crate::{
    CommitRequest, CommittedOffset, Config, GroupDescription, GroupError, GroupListing, HeartbeatRequest, JoinRefused,
    JoinRequest, Joined, LeavingMember, ListFilter, PartitionResults, Stats, SyncRequest, Synced, TopicOffsets,
    TopicPartitions,
};

/// The groups that this broker coordinates.
pub struct Coordinator {
    environment: Arc<Environment>,
    partitions: i32,
    shards: RwLock<BTreeMap<i32, Arc<Shard>>>,
}

impl Coordinator {
    /// A coordinator without shards. `partitions` is the number of partitions of `__consumer_offsets`, which never changes.
    ///
    /// # Panics
    /// When `partitions` is not positive.
    pub fn new(config: Config, partitions: i32, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        assert!(partitions > 0, "the internal topic has partitions");
        let room = Arc::new(Room::new(config.groups_max));
        let environment = Environment { config: Arc::new(config), room, clock, random, origin: Instant::now() };
        Self { environment: Arc::new(environment), partitions, shards: RwLock::default() }
    }

    /// The partition of the internal topic that keeps a group.
    #[must_use]
    pub fn partition_for(&self, group: &str) -> i32 {
        partition_for(group, self.partitions)
    }

    /// Begins to coordinate the groups of a partition, of which this broker became leader: loads them in the background.
    /// Does nothing when it is open already.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn open(&self, partition: i32, storage: Arc<dyn Storage>) {
        let mut shards = self.shards.write();
        if shards.get(&partition).is_none_or(|shard| shard.is_closed()) {
            let shard = Shard::open(partition, Arc::clone(&self.environment), storage);
            shards.insert(partition, Arc::new(shard));
        }
    }

    /// Waits until an open partition is loaded. Cancellation safe.
    pub async fn ready(&self, partition: i32) -> Result<(), GroupError> {
        let shard = self.shards.read().get(&partition).cloned();
        shard.ok_or(GroupError::NotCoordinator)?.ready().await
    }

    /// Stops coordinating the groups of a partition; requests that wait get `NotCoordinator`. Once it began it ends the
    /// shard even when it is dropped.
    pub async fn close(&self, partition: i32) {
        let shard = self.shards.write().remove(&partition);
        if let Some(shard) = shard {
            shard.close().await;
        }
    }

    /// Closes all partitions.
    pub async fn shutdown(&self) {
        let shards = std::mem::take(&mut *self.shards.write());
        for shard in shards.into_values() {
            shard.close().await;
        }
    }

    fn shard(&self, group: &str) -> Result<Arc<Shard>, GroupError> {
        self.shards.read().get(&self.partition_for(group)).cloned().ok_or(GroupError::NotCoordinator)
    }

    fn open_shards(&self) -> Vec<Arc<Shard>> {
        self.shards.read().values().cloned().collect()
    }

    /// JoinGroup. The answer comes when the generation begins.
    pub fn join(&self, group: &str, request: JoinRequest) -> Pending<Result<Joined, JoinRefused>> {
        match self.shard(group) {
            Ok(shard) => {
                let random = self.environment.random.next();
                shard.request(joined, |groups, now, out, token| groups.join(now, out, token, group, request, random))
            }
            Err(error) => Pending::ready(joined(Answer::Refused(error))),
        }
    }

    /// SyncGroup. The answer comes when the leader's assignment is stored.
    pub fn sync(&self, group: &str, request: SyncRequest) -> Pending<Result<Synced, GroupError>> {
        match self.shard(group) {
            Ok(shard) => shard.request(synced, |groups, now, out, token| groups.sync(now, out, token, group, &request)),
            Err(error) => Pending::ready(Err(error)),
        }
    }

    /// Heartbeat.
    pub fn heartbeat(&self, group: &str, request: HeartbeatRequest<'_>) -> Result<(), GroupError> {
        self.shard(group)?.apply(|groups, now, out| groups.heartbeat(now, out, group, request))?
    }

    /// LeaveGroup: one result for each member, in order. Versions 0 to 2 put their only member's error at the top.
    pub fn leave(&self, group: &str, members: &[LeavingMember<'_>]) -> Result<Vec<Result<(), GroupError>>, GroupError> {
        self.shard(group)?.apply(|groups, now, out| groups.leave(now, out, group, members))?
    }

    /// OffsetCommit. The caller has checked that the topics and partitions exist. `Err` is the error of every partition.
    /// The answer comes when the offsets are stored.
    pub fn commit(&self, group: &str, request: CommitRequest) -> Pending<Result<PartitionResults, GroupError>> {
        match self.shard(group) {
            Ok(shard) if shard.is_full() => Pending::ready(Err(GroupError::CoordinatorNotAvailable)),
            Ok(shard) => {
                shard.request(partitions, |groups, now, out, token| groups.commit(now, out, token, group, &request))
            }
            Err(error) => Pending::ready(Err(error)),
        }
    }

    /// OffsetFetch of these partitions, or of everything committed. Nothing committed, or no such group, is no error.
    pub fn fetch_offsets(
        &self,
        group: &str,
        topics: Option<&[TopicPartitions]>,
    ) -> Result<Vec<TopicOffsets>, GroupError> {
        self.shard(group)?.read(|groups| groups.fetch_offsets(group, topics))
    }

    /// OffsetDelete. The answer comes when the deletion is stored.
    pub fn delete_offsets(
        &self,
        group: &str,
        topics: &[TopicPartitions],
    ) -> Pending<Result<PartitionResults, GroupError>> {
        match self.shard(group) {
            Ok(shard) => shard
                .request(partitions, |groups, now, out, token| groups.delete_offsets(now, out, token, group, topics)),
            Err(error) => Pending::ready(Err(error)),
        }
    }

    /// DescribeGroups, one group. `GroupIdNotFound` is state `Dead` without an error before version 6.
    pub fn describe(&self, group: &str) -> Result<GroupDescription, GroupError> {
        self.shard(group)?.read(|groups| groups.describe(group))?
    }

    /// ListGroups: the groups that this broker coordinates.
    pub fn list(&self, filter: &ListFilter) -> Result<Vec<GroupListing>, GroupError> {
        let mut all = Vec::new();
        for shard in self.open_shards().iter().filter(|shard| !shard.is_closed()) {
            shard.read(|groups| groups.list(filter, &mut all))?;
        }
        Ok(all)
    }

    /// DeleteGroups, one group. The answer comes when the deletion is stored.
    pub fn delete(&self, group: &str) -> Pending<Result<(), GroupError>> {
        match self.shard(group) {
            Ok(shard) => shard.request(done, |groups, now, out, token| groups.delete(now, out, token, group)),
            Err(error) => Pending::ready(Err(error)),
        }
    }

    /// A topic was deleted: its committed offsets go, in every open shard. A failure is logged; what it leaves expires.
    /// Dropping it loses only the wait.
    pub async fn topic_deleted(&self, topic: &str) {
        let mut pending = Vec::new();
        let mut failed = 0_usize;
        for shard in self.open_shards() {
            match shard.topic_deleted(topic) {
                Ok(more) => pending.extend(more),
                Err(_) => failed += 1,
            }
        }
        for deleted in pending {
            failed += usize::from(deleted.await.is_err());
        }
        if failed > 0 {
            tracing::warn!(topic, failed, "some committed offsets of a deleted topic remain until they expire");
        }
    }

    /// Every committed offset, for the lag of groups. Copied one shard at a time.
    pub fn committed_offsets(&self) -> impl Iterator<Item = CommittedOffset> + use<> {
        let shards = self.open_shards().into_iter();
        shards.flat_map(|shard| shard.read(|groups| groups.committed_offsets()).unwrap_or_default())
    }

    /// How much is kept.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        self.open_shards().iter().for_each(|shard| shard.count(&mut stats));
        stats
    }
}
