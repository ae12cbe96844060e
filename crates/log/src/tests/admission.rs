//! The bounds: on the staging disk, in memory, and what happens there.

use std::time::Duration;

use super::cluster::{Cluster, Options, Puts, batch, options, within};
use crate::AppendError;

#[tokio::test]
async fn a_full_staging_disk_slows_then_refuses_and_resumes_after_the_upload() {
    let admission_timeout = Duration::from_millis(50);
    refuses_and_resumes(Options { admission_timeout, staging_bytes_max: 20_000, ..options() }).await;
    refuses_and_resumes(Options { admission_timeout, staged_batches_max: 20, ..options() }).await;
}

async fn refuses_and_resumes(options: Options) {
    let Options { admission_timeout, staging_bytes_max, staged_batches_max, .. } = options;
    let cluster = Cluster::new(options).await;
    let t = cluster.create("t", 1).await[0];
    cluster.store.puts(Puts::Blocked);
    let value = "v".repeat(1000);
    let mut taken = 0;
    let refused = loop {
        let started = tokio::time::Instant::now();
        match cluster.send(t, batch(&[&value])).await {
            Ok(appended) => within("it is committed", appended.committed).await.unwrap(),
            Err(error) => {
                assert!(started.elapsed() >= admission_timeout, "it was slowed first");
                break error;
            }
        }
        taken += 1;
        assert!(taken < 100, "there is a bound");
        cluster
            .until("the count follows", || {
                cluster.log().staged_bytes() == cluster.log().inner.catalog.usage().staged_bytes
            })
            .await;
    };
    assert!(matches!(refused, AppendError::Busy));
    assert!(taken > 10);
    assert!(cluster.log().staged_bytes() < staging_bytes_max + 2000 && taken as u64 <= staged_batches_max + 1);
    assert_eq!(cluster.read(t).await.len(), taken, "reads go on");
    // One that waits gets in when there is room.
    cluster.log().seal();
    cluster.tried(1).await;
    cluster.store.puts(Puts::Pass);
    cluster.uploaded().await;
    cluster.append(t, batch(&[&value])).await;
    assert_eq!(cluster.read(t).await.len(), taken + 1);
}

#[tokio::test]
async fn what_is_in_flight_is_bounded_and_a_batch_larger_than_that_travels_alone() {
    let admission_timeout = Duration::from_millis(50);
    let cluster = Cluster::new(Options { admission_timeout, inflight_bytes_max: 10_000, ..options() }).await;
    let t = cluster.create("t", 1).await[0];
    let first = cluster.log().admit(6000).await.unwrap();
    assert!(matches!(cluster.log().admit(6000).await, Err(AppendError::Busy)));
    let _second = cluster.log().admit(4000).await.unwrap();
    assert!(matches!(cluster.log().admit(20_000).await, Err(AppendError::Busy)));
    drop((first, _second));
    cluster.append(t, batch(&[&"v".repeat(20_000)])).await;
    // The room comes back with the commit.
    drop(cluster.log().admit(10_000).await.unwrap());
}

#[tokio::test]
async fn a_failed_disk_is_told_to_those_who_wait_and_to_those_who_come() {
    let cluster = Cluster::new(options()).await;
    let t = cluster.create("t", 1).await[0];
    let all = cluster.append_values(t, &["a"]).await;
    cluster.upload().await;
    assert!(cluster.log().is_writable());
    // The journal cannot make its next segment.
    let journals = cluster.staging().join("journals");
    let folder = std::fs::read_dir(&journals).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_dir_all(&folder).unwrap();
    let appended = cluster.send(t, batch(&["b"])).await.unwrap();
    assert!(within("the outcome is told", appended.committed).await.is_err());
    cluster.until("it is known", || !cluster.log().is_writable()).await;
    let refused = cluster.send(t, batch(&["c"])).await;
    assert!(matches!(refused, Err(AppendError::JournalEnded)), "{refused:?}");
    let all_room = cluster.options.inflight_bytes_max;
    assert_eq!(cluster.log().inner.inflight.available_permits(), all_room, "nothing is held any more");
    assert_eq!(cluster.read(t).await, all, "readers go on");
}

#[tokio::test]
async fn offsets_are_not_assigned_beyond_the_reserve() {
    let cluster = Cluster::new(options()).await;
    let t = cluster.create("t", 1).await[0];
    let partition = cluster.partition(t);
    cluster.append_values(t, &["a"]).await;
    partition.set_next_offset(records::Offset(metadata::OFFSET_RESERVE - 1));
    assert_eq!(cluster.append(t, batch(&["last"])).await.0, metadata::OFFSET_RESERVE - 1);
    let refused = cluster.send(t, batch(&["beyond"])).await;
    assert!(matches!(refused, Err(AppendError::Busy)), "{refused:?}");
}
