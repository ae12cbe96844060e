//! A long history does not make a slow start.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::storage::StorageError;

/// The promise: ready within two seconds.
const READY: Duration = Duration::from_secs(2);

/// Starts over the log, and gives how long that took: again while that is too long and gets shorter, for other tests run at the same time.
#[expect(clippy::disallowed_methods, reason = "the promise is about real time")]
async fn restart(memory: &Arc<Memory>) -> (Coordinator, Duration) {
    let mut best = Duration::MAX;
    loop {
        let begin = Instant::now();
        let coordinator = started(memory, config()).await;
        let took = begin.elapsed();
        if took < READY || took >= best {
            return (coordinator, took.min(best));
        }
        best = took;
    }
}

async fn commit_all(coordinator: &Coordinator, requests: impl Iterator<Item = (String, CommitRequest)>) {
    let mut answers = Vec::new();
    for (group, request) in requests {
        answers.push(coordinator.commit(&group, request));
        if answers.len() == 1_000 {
            for answer in answers.drain(..) {
                answer.await.unwrap();
            }
        }
    }
    for answer in answers {
        answer.await.unwrap();
    }
}

#[tokio::test]
async fn a_coordinator_with_a_million_commits_behind_it_is_ready_at_once() {
    let memory = Arc::new(Memory::default());
    let coordinator = started(&memory, config()).await;
    let requests = (0..1_000_000)
        .map(|index| (format!("group-{}", index % 100), commit("log_topic", index / 100 % 10, i64::from(index))));
    commit_all(&coordinator, requests).await;
    idle().await;
    let stats = coordinator.stats();
    assert_eq!(stats.offsets, 1_000);
    assert!(memory.bytes() < 3 << 20, "the log is kept short: {} bytes in {} records", memory.bytes(), memory.len());
    let (after, took) = restart(&memory).await;
    assert!(took < READY, "{took:?}");
    assert_eq!(after.committed_offsets().collect::<Vec<_>>(), coordinator.committed_offsets().collect::<Vec<_>>());
    assert!(after.committed_offsets().all(|committed| committed.offset.0 >= 999_000));
    assert_eq!(after.stats().live_bytes, stats.live_bytes);
}

#[tokio::test]
async fn a_coordinator_with_many_offsets_is_ready_soon() {
    let memory = Arc::new(Memory::default());
    let coordinator = started(&memory, config()).await;
    for round in 0..4 {
        let requests = (0..2_000).map(|index| {
            (
                format!("group-{}", index % 1_000),
                commits("log_topic", index / 1_000 * 100..(index / 1_000 + 1) * 100, round),
            )
        });
        commit_all(&coordinator, requests).await;
    }
    assert_eq!(coordinator.stats().offsets, 200_000);
    let (after, took) = restart(&memory).await;
    assert!(took < READY, "{took:?} for {} records", memory.len());
    assert_eq!(after.stats().offsets, 200_000);
    assert!(after.committed_offsets().all(|committed| committed.offset == Offset(3)));
}

#[tokio::test(start_paused = true)]
async fn a_log_that_cannot_be_truncated_is_truncated_later() {
    let memory = Arc::new(Memory::default());
    let coordinator = started(&memory, Config { rewrite_bytes_min: 10_000, ..config() }).await;
    memory.fail_truncations([StorageError::Unavailable; 3]);
    commit_all(&coordinator, (0..500).map(|offset| ("g".to_owned(), commit("t", 0, offset)))).await;
    idle().await;
    assert!(memory.len() >= 500);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert!(memory.len() < 500, "{}", memory.len());
    assert_eq!(committed(&started(&memory, config()).await, "g", "t", 0), Some(499));
}
