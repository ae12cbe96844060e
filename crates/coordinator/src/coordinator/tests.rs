//! The whole crate over a log in memory; time is paused where it matters.

mod crash;
mod durability;
mod life;
mod scale;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use records::{Clock, LeaderEpoch, Offset, Random, Timestamp};

use crate::storage::memory::Memory;
use crate::{
    CommitPartition, CommitRequest, CommitTopic, Config, Coordinator, GroupError, JoinRequest, Joined, SyncRequest,
    TopicPartitions,
};

struct Fixed;

impl Clock for Fixed {
    fn now(&self) -> Timestamp {
        Timestamp(1_700_000_000_000)
    }
}

#[derive(Default)]
struct Counter(AtomicU64);

impl Random for Counter {
    fn next(&self) -> u128 {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed)) << 64
    }
}

fn config() -> Config {
    Config { initial_rebalance_delay: Duration::ZERO, ..Config::default() }
}

/// A coordinator with one shard over the log, not necessarily loaded.
fn open(memory: &Arc<Memory>, config: Config) -> Coordinator {
    let coordinator = Coordinator::new(config, 1, Arc::new(Fixed), Arc::new(Counter::default()));
    coordinator.open(0, Arc::clone(memory) as Arc<_>);
    coordinator
}

/// The same, loaded.
async fn started(memory: &Arc<Memory>, config: Config) -> Coordinator {
    let coordinator = open(memory, config);
    coordinator.ready(0).await.unwrap();
    coordinator
}

fn commit(topic: &str, partition: i32, offset: i64) -> CommitRequest {
    commits(topic, [partition], offset)
}

fn commits(topic: &str, partitions: impl IntoIterator<Item = i32>, offset: i64) -> CommitRequest {
    let partitions = partitions.into_iter().map(|partition| CommitPartition {
        partition,
        offset: Offset(offset),
        leader_epoch: LeaderEpoch(-1),
        metadata: "".into(),
    });
    CommitRequest {
        member_id: "".into(),
        instance_id: None,
        generation: -1,
        retention_ms: None,
        topics: vec![CommitTopic { topic: topic.into(), partitions: partitions.collect() }],
    }
}

fn committed(coordinator: &Coordinator, group: &str, topic: &str, partition: i32) -> Option<i64> {
    let wanted = [TopicPartitions { topic: topic.into(), partitions: vec![partition] }];
    let fetched = coordinator.fetch_offsets(group, Some(&wanted)).unwrap();
    fetched[0].partitions[0].1.as_ref().map(|committed| committed.offset.0)
}

fn member(member_id: &Arc<str>) -> JoinRequest {
    JoinRequest {
        member_id: Arc::clone(member_id),
        instance_id: None,
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".into(),
        protocols: vec![("range".into(), vec![0, 0, 0, 0, 0, 0].into())],
        member_id_required: false,
        skip_assignment: false,
        reason: None,
    }
}

fn sync(joined: &Joined, assignment: &[u8]) -> SyncRequest {
    SyncRequest {
        member_id: Arc::clone(&joined.member_id),
        instance_id: None,
        generation: joined.generation,
        protocol_type: None,
        protocol: None,
        assignments: vec![(Arc::clone(&joined.member_id), assignment.to_vec().into())],
    }
}

/// A group of one stable member.
async fn stable(coordinator: &Coordinator, group: &str) -> Joined {
    let joined = coordinator.join(group, member(&"".into())).await.unwrap();
    coordinator.sync(group, sync(&joined, b"all")).await.unwrap();
    joined
}

fn heartbeat(coordinator: &Coordinator, group: &str, joined: &Joined) -> Result<(), GroupError> {
    let request =
        crate::HeartbeatRequest { member_id: &joined.member_id, instance_id: None, generation: joined.generation };
    coordinator.heartbeat(group, request)
}

/// Lets the shards' tasks run until the condition holds.
async fn until(condition: impl Fn() -> bool) {
    for _ in 0..10_000 {
        if condition() {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("the condition never held");
}

/// Lets the shards' tasks do all they can do now.
async fn idle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

fn waits<T>(answer: &mut (impl Future<Output = T> + Unpin)) -> bool {
    answer.now_or_never().is_none()
}
