//! Opening, time, dropped requests, closing; and what the facade puts together.

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::storage::StorageError;
use crate::{ListFilter, State};

#[tokio::test(start_paused = true)]
async fn requests_are_refused_until_the_shard_is_loaded() {
    let memory = Arc::new(Memory::default());
    memory.fail_loads([StorageError::Unavailable, StorageError::Unknown]);
    let coordinator = open(&memory, config());
    idle().await;
    let loading = GroupError::CoordinatorLoadInProgress;
    assert_eq!(coordinator.commit("g", commit("t", 0, 1)).await, Err(loading));
    assert_eq!(coordinator.join("g", member(&"".into())).await.unwrap_err().error, loading);
    assert_eq!(coordinator.fetch_offsets("g", None), Err(loading));
    assert_eq!(coordinator.describe("g"), Err(loading));
    assert_eq!(coordinator.list(&ListFilter::default()), Err(loading));
    coordinator.ready(0).await.unwrap();
    coordinator.commit("g", commit("t", 0, 1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn groups_of_partitions_that_are_not_open_are_somewhere_else() {
    let coordinator = Coordinator::new(config(), 4, Arc::new(Fixed), Arc::new(Counter::default()));
    let logs: Vec<_> = (0..4).map(|_| Arc::new(Memory::default())).collect();
    for partition in [0, 2] {
        coordinator.open(partition, Arc::clone(&logs[usize::try_from(partition).unwrap()]) as Arc<_>);
        coordinator.ready(partition).await.unwrap();
    }
    assert_eq!(coordinator.ready(1).await, Err(GroupError::NotCoordinator));
    let mut served = Vec::new();
    for index in 0..20 {
        let group = format!("group-{index}");
        let answer = coordinator.commit(&group, commit("t", 0, 1)).await;
        if [0, 2].contains(&coordinator.partition_for(&group)) {
            answer.unwrap();
            served.push(group);
        } else {
            assert_eq!(answer, Err(GroupError::NotCoordinator));
            assert_eq!(coordinator.delete(&group).await, Err(GroupError::NotCoordinator));
        }
    }
    assert!((1..20).contains(&served.len()));
    served.sort();
    let mut listed: Vec<_> =
        coordinator.list(&ListFilter::default()).unwrap().into_iter().map(|it| it.group_id.to_string()).collect();
    listed.sort();
    assert_eq!(listed, served);
    let mut lags: Vec<_> = coordinator.committed_offsets().map(|it| it.group_id.to_string()).collect();
    lags.sort();
    assert_eq!(lags, served);
    let stats = coordinator.stats();
    assert_eq!((stats.groups, stats.offsets, stats.members), (served.len(), served.len(), 0));
    coordinator.topic_deleted("t").await;
    assert_eq!(coordinator.committed_offsets().count(), 0);
    assert_eq!(coordinator.list(&ListFilter::default()), Ok(vec![]));
    assert_eq!((logs[1].len(), logs[3].len()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn sessions_end_by_themselves() {
    let memory = Arc::new(Memory::default());
    let coordinator = started(&memory, config()).await;
    let joined = stable(&coordinator, "g").await;
    tokio::time::sleep(Duration::from_millis(9_000)).await;
    assert_eq!(heartbeat(&coordinator, "g", &joined), Ok(()));
    tokio::time::sleep(Duration::from_millis(9_999)).await;
    assert_eq!(coordinator.describe("g").unwrap().state, State::Stable);
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert_eq!(coordinator.describe("g").unwrap().state, State::Empty);
}

#[tokio::test(start_paused = true)]
async fn the_initial_delay_passes_by_itself() {
    let memory = Arc::new(Memory::default());
    let coordinator = started(&memory, Config::default()).await;
    let begin = tokio::time::Instant::now();
    let (first, second) = (coordinator.join("g", member(&"".into())), coordinator.join("g", member(&"".into())));
    assert_eq!(first.await.unwrap().members.len(), 2);
    assert_eq!(second.await.unwrap().generation, 1);
    assert_eq!(begin.elapsed().as_secs(), 6);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_dropped_takes_its_course() {
    let memory = Arc::new(Memory::default());
    let coordinator = started(&memory, config()).await;
    let joined = stable(&coordinator, "g").await;
    drop(
        coordinator
            .commit("g", CommitRequest { member_id: joined.member_id.clone(), generation: 1, ..commit("t", 0, 5) }),
    );
    // A second member's client goes away while it waits: it has a place, is told the generation, and is never heard of.
    drop(coordinator.join("g", member(&"".into())));
    let again = coordinator.join("g", member(&joined.member_id)).await.unwrap();
    assert_eq!((again.generation, again.members.len()), (2, 2));
    drop(coordinator.sync("g", sync(&again, b"half")));
    idle().await;
    assert_eq!(coordinator.describe("g").unwrap().state, State::Stable);
    assert_eq!(committed(&coordinator, "g", "t", 0), Some(5));
    for _ in 0..4 {
        tokio::time::sleep(Duration::from_secs(3)).await;
        heartbeat(&coordinator, "g", &again).ok();
    }
    let alone = coordinator.join("g", member(&joined.member_id)).await.unwrap();
    assert_eq!((alone.generation, alone.members.len()), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn closing_refuses_what_waits_and_ends_the_task() {
    let memory = Arc::new(Memory::default());
    let coordinator = started(&memory, Config::default()).await;
    memory.hold();
    let (join, commit) = (coordinator.join("g", member(&"".into())), coordinator.commit("h", commit("t", 0, 1)));
    until(|| memory.held() == 1).await;
    coordinator.shutdown().await;
    assert_eq!(join.await.unwrap_err().error, GroupError::NotCoordinator);
    assert_eq!(commit.await, Err(GroupError::NotCoordinator));
    assert_eq!(coordinator.describe("g"), Err(GroupError::NotCoordinator));
    assert_eq!(Arc::strong_count(&memory), 1, "nobody holds the log any more");
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_is_dropped_ends_its_tasks() {
    let memory = Arc::new(Memory::default());
    let coordinator = started(&memory, config()).await;
    assert!(Arc::strong_count(&memory) > 1);
    drop(coordinator);
    until(|| Arc::strong_count(&memory) == 1).await;
}

#[tokio::test(start_paused = true)]
async fn closing_one_partition_frees_its_groups_room() {
    let memory = Arc::new(Memory::default());
    let coordinator = started(&memory, Config { groups_max: 1, ..config() }).await;
    coordinator.commit("g", commit("t", 0, 1)).await.unwrap();
    assert_eq!(coordinator.commit("h", commit("t", 0, 1)).await, Err(GroupError::PolicyViolation));
    coordinator.close(0).await;
    coordinator.open(0, Arc::new(Memory::default()));
    coordinator.ready(0).await.unwrap();
    coordinator.commit("h", commit("t", 0, 1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn expired_offsets_go_by_themselves() {
    let memory = Arc::new(Memory::default());
    let coordinator = started(&memory, config()).await;
    // The wall clock of these tests stands, so the commit itself has to be old.
    let request = CommitRequest { retention_ms: Some(0), ..commit("t", 0, 5) };
    coordinator.commit("g", request).await.unwrap();
    tokio::time::sleep(Duration::from_secs(599)).await;
    assert_eq!(committed(&coordinator, "g", "t", 0), Some(5));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(committed(&coordinator, "g", "t", 0), None);
    assert_eq!(coordinator.stats().groups, 0);
}

#[tokio::test(start_paused = true)]
async fn requests_keep_their_order_whoever_awaits_them_when() {
    let memory = Arc::new(Memory::default());
    let coordinator = started(&memory, config()).await;
    let answers: Vec<_> = (0..50).map(|offset| coordinator.commit("g", commit("t", 0, offset))).collect();
    for answer in answers.into_iter().rev() {
        answer.await.unwrap();
    }
    assert_eq!(committed(&coordinator, "g", "t", 0), Some(49));
    assert_eq!(committed(&started(&memory, config()).await, "g", "t", 0), Some(49));
}
