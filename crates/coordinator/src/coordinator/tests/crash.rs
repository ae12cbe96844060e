//! Whatever the log does, what was acknowledged is there after a restart.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::pending::Pending;
use crate::storage::StorageError;
use crate::storage::memory::Fate;
use crate::{PartitionResults, State};

#[derive(Debug, Clone)]
enum Step {
    Commit { group: u8, partitions: i32 },
    Delete { group: u8 },
    Rebalance,
    Fate(Fate),
    Hold,
    ReleaseOne,
    Release,
    Idle,
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let fate = prop_oneof![
        Just(Fate::Stored),
        Just(Fate::Refused(StorageError::Unavailable)),
        Just(Fate::Refused(StorageError::Unknown)),
        Just(Fate::StoredUntold),
    ];
    let step = prop_oneof![
        10 => (0_u8..4, prop_oneof![4 => Just(1), 1 => Just(5), 1 => Just(1_000)]).prop_map(|(group, partitions)| Step::Commit { group, partitions }),
        1 => (0_u8..4).prop_map(|group| Step::Delete { group }),
        2 => Just(Step::Rebalance),
        2 => fate.prop_map(Step::Fate),
        1 => Just(Step::Hold),
        2 => Just(Step::ReleaseOne),
        1 => Just(Step::Release),
        5 => Just(Step::Idle),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..80)
}

/// A commit under way: group, partitions, offset.
type Under = (Pending<Result<PartitionResults, GroupError>>, u8, i32, i64);

/// A deletion under way: group, and the offset of the next commit when it was asked for.
type Deletion = (Pending<Result<(), GroupError>>, u8, i64);

struct Model {
    memory: Arc<Memory>,
    coordinator: Coordinator,
    under_way: Vec<Under>,
    deletions: Vec<Deletion>,
    /// The last offset acknowledged; offsets grow with every commit.
    acknowledged: BTreeMap<(u8, i32), i64>,
    next: i64,
    joined: Option<Joined>,
}

impl Model {
    fn config() -> Config {
        Config {
            rewrite_bytes_min: 2_000,
            rewrite_factor: 2,
            rewrite_chunk_bytes: 500,
            appends_in_flight_max: 3,
            ..config()
        }
    }

    async fn step(&mut self, step: &Step) {
        match *step {
            Step::Commit { group, partitions } => {
                let answer = self.coordinator.commit(&format!("g{group}"), commits("t", 0..partitions, self.next));
                self.under_way.push((answer, group, partitions, self.next));
                self.next += 1;
            }
            Step::Delete { group } => {
                let answer = self.coordinator.delete(&format!("g{group}"));
                self.deletions.push((answer, group, self.next));
            }
            Step::Rebalance => {
                let id = self.joined.as_ref().map_or_else(|| "".into(), |joined| joined.member_id.clone());
                let mut answer = self.coordinator.join("members", member(&id));
                idle().await;
                self.joined = (&mut answer).now_or_never().and_then(Result::ok);
                if let Some(joined) = &self.joined {
                    drop(self.coordinator.sync("members", sync(joined, joined.generation.to_string().as_bytes())));
                }
            }
            Step::Fate(fate) => self.memory.decide([fate]),
            Step::Hold => self.memory.hold(),
            Step::ReleaseOne => {
                self.memory.release_one();
            }
            Step::Release => self.memory.release(),
            Step::Idle => idle().await,
            Step::Restart => self.restart().await,
        }
        self.judge();
    }

    fn judge(&mut self) {
        let acknowledged = &mut self.acknowledged;
        self.under_way.retain_mut(|(answer, group, partitions, offset)| match answer.now_or_never() {
            None => true,
            Some(Err(_)) => false,
            Some(Ok(_)) => {
                for partition in 0..*partitions {
                    let last = acknowledged.entry((*group, partition)).or_default();
                    *last = (*last).max(*offset);
                }
                false
            }
        });
        self.deletions.retain_mut(|(answer, group, before)| match answer.now_or_never() {
            None => true,
            // A deletion whose outcome is unknown may have taken place, too.
            Some(Ok(()) | Err(GroupError::CoordinatorNotAvailable | GroupError::NotCoordinator)) => {
                acknowledged.retain(|(of, _), offset| of != group || *offset >= *before);
                false
            }
            Some(Err(_)) => false,
        });
    }

    async fn restart(&mut self) {
        // As after kill -9: nothing more is told, and held appends never happen.
        self.judge();
        let abandoned = std::mem::take(&mut self.under_way);
        let deletions = std::mem::take(&mut self.deletions);
        self.coordinator.shutdown().await;
        self.memory.release();
        drop(abandoned);
        for (_, group, before) in deletions {
            self.acknowledged.retain(|(of, _), offset| *of != group || *offset >= before);
        }
        self.coordinator = started(&self.memory, Self::config()).await;
        self.check();
        self.joined = None;
    }

    fn check(&self) {
        let all: BTreeMap<(String, i32), i64> = self
            .coordinator
            .committed_offsets()
            .map(|it| ((it.group_id.to_string(), it.partition), it.offset.0))
            .collect();
        for ((group, partition), offset) in &self.acknowledged {
            let there = all.get(&(format!("g{group}"), *partition)).copied();
            assert!(
                there.is_some_and(|there| there >= *offset),
                "g{group}-{partition}: {offset} was acknowledged, {there:?} is there"
            );
        }
        if let Ok(group) = self.coordinator.describe("members") {
            assert!(matches!(group.state, State::Stable | State::Empty), "{group:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn acknowledged_offsets_survive_whatever_the_log_does(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let memory = Arc::new(Memory::new(50, 64 << 10));
            let coordinator = started(&memory, Model::config()).await;
            let mut model = Model {
                memory,
                coordinator,
                under_way: Vec::new(),
                deletions: Vec::new(),
                acknowledged: BTreeMap::new(),
                next: 1,
                joined: None,
            };
            for step in &steps {
                model.step(step).await;
            }
            model.memory.release();
            for _ in 0..10 {
                // Time for what is tried again.
                tokio::time::sleep(Duration::from_secs(2)).await;
                idle().await;
            }
            model.judge();
            assert!(model.under_way.is_empty() && model.deletions.is_empty(), "requests without an answer");
            model.restart().await;
        });
    }
}
