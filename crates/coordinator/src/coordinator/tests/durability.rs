//! Answers and the log.

use std::sync::Arc;

use super::*;
use crate::storage::StorageError;
use crate::storage::memory::Fate;

#[tokio::test(start_paused = true)]
async fn a_commit_is_answered_only_when_it_is_stored() {
    let memory = Arc::new(Memory::default());
    let coordinator = started(&memory, config()).await;
    memory.hold();
    let mut answer = coordinator.commit("g", commit("t", 0, 5));
    until(|| memory.held() == 1).await;
    assert!(waits(&mut answer));
    assert_eq!(committed(&coordinator, "g", "t", 0), None);
    memory.release();
    assert_eq!(answer.await.unwrap()[0].partitions, [(0, Ok(()))]);
    assert_eq!(committed(&coordinator, "g", "t", 0), Some(5));
}

#[tokio::test(start_paused = true)]
async fn a_slow_append_holds_up_nobody_else() {
    let memory = Arc::new(Memory::default());
    let coordinator = started(&memory, config()).await;
    let joined = stable(&coordinator, "h").await;
    memory.hold();
    let mut first = coordinator.commit("g", commit("t", 0, 5));
    until(|| memory.held() == 1).await;
    assert_eq!(heartbeat(&coordinator, "h", &joined), Ok(()));
    assert_eq!(coordinator.join("i", member(&"".into())).await.unwrap().generation, 1);
    let mut second = coordinator.commit("g", commit("t", 0, 6));
    until(|| memory.held() == 2).await;
    assert!(waits(&mut first) && waits(&mut second));
    memory.release();
    first.await.unwrap();
    second.await.unwrap();
    assert_eq!(committed(&coordinator, "g", "t", 0), Some(6), "in the order of the requests");
}

#[tokio::test(start_paused = true)]
async fn requests_gather_while_appends_are_under_way() {
    let memory = Arc::new(Memory::default());
    let coordinator = started(&memory, Config { appends_in_flight_max: 1, ..config() }).await;
    memory.hold();
    let first = coordinator.commit("g", commit("t", 0, 1));
    until(|| memory.held() == 1).await;
    let rest: Vec<_> = (1..100).map(|partition| coordinator.commit("g", commit("t", partition, 1))).collect();
    idle().await;
    assert_eq!(memory.held(), 1);
    memory.release();
    first.await.unwrap();
    for answer in rest {
        answer.await.unwrap();
    }
    assert_eq!(memory.appends(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_append_that_is_refused_changes_nothing() {
    let memory = Arc::new(Memory::default());
    let coordinator = started(&memory, config()).await;
    coordinator.commit("g", commit("t", 0, 5)).await.unwrap();
    memory.decide([Fate::Refused(StorageError::Unavailable)]);
    let answer = coordinator.commit("g", commit("t", 0, 6)).await;
    assert_eq!(answer, Err(GroupError::CoordinatorNotAvailable));
    assert_eq!(committed(&coordinator, "g", "t", 0), Some(5));
    coordinator.commit("g", commit("t", 0, 7)).await.unwrap();
    assert_eq!(committed(&started(&memory, config()).await, "g", "t", 0), Some(7));
}

#[tokio::test(start_paused = true)]
async fn when_the_outcome_is_unknown_the_log_decides() {
    for (fate, expected) in [(Fate::StoredUntold, 6), (Fate::Refused(StorageError::Unknown), 5)] {
        let memory = Arc::new(Memory::default());
        let coordinator = started(&memory, config()).await;
        coordinator.commit("g", commit("t", 0, 5)).await.unwrap();
        let joined = stable(&coordinator, "h").await;
        let waiting = coordinator.join("h", member(&joined.member_id));
        let other = coordinator.join("h", member(&"".into()));
        memory.decide([fate]);
        let answer = coordinator.commit("g", commit("t", 0, 6)).await;
        assert_eq!(answer, Err(GroupError::CoordinatorNotAvailable));
        assert_eq!(
            other.await.unwrap_err().error,
            GroupError::CoordinatorNotAvailable,
            "whoever waited has to come again"
        );
        assert_eq!(waiting.await.unwrap().generation, 2, "what was answered before stays so");
        coordinator.ready(0).await.unwrap();
        assert_eq!(committed(&coordinator, "g", "t", 0), Some(expected));
        assert_eq!(heartbeat(&coordinator, "h", &joined), Ok(()), "the stored generation goes on");
    }
}

#[tokio::test(start_paused = true)]
async fn a_shard_whose_partition_moved_closes_and_can_be_opened_again() {
    let memory = Arc::new(Memory::default());
    let coordinator = started(&memory, config()).await;
    coordinator.commit("g", commit("t", 0, 5)).await.unwrap();
    let joined = stable(&coordinator, "h").await;
    memory.decide([Fate::Refused(StorageError::NotLeader)]);
    assert_eq!(coordinator.commit("g", commit("t", 0, 6)).await, Err(GroupError::NotCoordinator));
    until(|| heartbeat(&coordinator, "h", &joined) == Err(GroupError::NotCoordinator)).await;
    assert_eq!(coordinator.ready(0).await, Err(GroupError::NotCoordinator));
    assert_eq!(coordinator.list(&Default::default()), Ok(vec![]));
    coordinator.open(0, Arc::clone(&memory) as Arc<_>);
    assert_eq!(heartbeat(&coordinator, "h", &joined), Err(GroupError::CoordinatorLoadInProgress));
    coordinator.ready(0).await.unwrap();
    assert_eq!(committed(&coordinator, "g", "t", 0), Some(5));
}

#[tokio::test(start_paused = true)]
async fn a_change_larger_than_an_append_is_stored_in_pieces_and_answered_once() {
    let memory = Arc::new(Memory::new(7, 64 << 10));
    let coordinator = started(&memory, config()).await;
    let answer = coordinator.commit("g", commits("t", 0..5_000, 1)).await.unwrap();
    assert_eq!(answer[0].partitions.len(), 5_000);
    assert!(memory.appends() > 2, "{}", memory.appends());
    assert_eq!(started(&memory, config()).await.committed_offsets().count(), 5_000);
    coordinator.delete("g").await.unwrap();
    assert_eq!(
        started(&memory, config()).await.stats(),
        crate::Stats { log_bytes: memory.bytes(), ..Default::default() }
    );
}

#[tokio::test(start_paused = true)]
async fn a_change_of_which_only_pieces_were_stored_is_looked_up_in_the_log() {
    for failing in 0..4 {
        let memory = Arc::new(Memory::new(1_000, 64 << 10));
        let coordinator = started(&memory, config()).await;
        coordinator.commit("g", commits("t", 0..5_000, 1)).await.unwrap();
        let fates =
            (0..4).map(|index| if index == failing { Fate::Refused(StorageError::Unavailable) } else { Fate::Stored });
        memory.decide(fates);
        let answer = coordinator.commit("g", commits("t", 0..5_000, 2)).await;
        assert_eq!(answer, Err(GroupError::CoordinatorNotAvailable));
        coordinator.ready(0).await.unwrap();
        let here: Vec<_> = coordinator.committed_offsets().collect();
        let there: Vec<_> = started(&memory, config()).await.committed_offsets().collect();
        assert_eq!(here, there);
        coordinator.commit("g", commits("t", 0..5_000, 3)).await.unwrap();
        assert!(started(&memory, config()).await.committed_offsets().all(|committed| committed.offset == Offset(3)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_group_too_large_for_the_log_cannot_be_assigned() {
    let memory = Arc::new(Memory::new(1_000, 64 << 10));
    let coordinator = started(&memory, config()).await;
    let joined = coordinator.join("g", member(&"".into())).await.unwrap();
    let answer = coordinator.sync("g", sync(&joined, &[0; 100_000])).await;
    assert_eq!(answer, Err(GroupError::UnknownServerError));
    coordinator.commit("h", commit("t", 0, 1)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn commits_are_refused_when_too_much_waits() {
    let memory = Arc::new(Memory::default());
    let coordinator = started(&memory, Config { queued_bytes_max: 1_000, ..config() }).await;
    memory.hold();
    let mut taken = Vec::new();
    let refused = loop {
        let mut answer = coordinator.commit("g", commit("t", 0, 1));
        match (&mut answer).now_or_never() {
            None => taken.push(answer),
            Some(answer) => break answer,
        }
        assert!(taken.len() < 1_000, "nothing is refused");
    };
    assert_eq!(refused, Err(GroupError::CoordinatorNotAvailable));
    assert!(taken.len() > 5);
    memory.release();
    for answer in taken {
        answer.await.unwrap();
    }
    coordinator.commit("g", commit("t", 0, 2)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_rewriting_that_begins_between_the_pieces_of_a_change_keeps_them() {
    let memory = Arc::new(Memory::new(1_000, 64 << 10));
    let config = Config { rewrite_bytes_min: 60_000, rewrite_factor: 0, appends_in_flight_max: 1, ..config() };
    let coordinator = started(&memory, config.clone()).await;
    coordinator.commit("g", commits("t", 0..2_000, 1)).await.unwrap();
    idle().await;
    assert!(memory.appends() >= 2, "the change is cut");
    assert_eq!(started(&memory, config).await.committed_offsets().count(), 2_000);
}
