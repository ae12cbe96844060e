//! A staging disk that fails: nothing is acknowledged after it, nothing acknowledged is lost, and a new journal goes on.

use std::io::ErrorKind;

use journal::Depth;
use journal::memory::{Call, Memory};

use super::cluster::{Cluster, DEADLINE, Options, Puts, batch, of_producer, options, within};
use crate::AppendError;

/// Makes the next call fail, and appends until the journal has failed. Returns what was acknowledged meanwhile.
async fn fail(cluster: &Cluster, disk: &Memory, t: records::TopicPartition, call: Call) -> Vec<(i64, String)> {
    disk.fail(call, ErrorKind::StorageFull, usize::MAX);
    let mut acked = Vec::new();
    for n in 0..1000 {
        // Large, so that segments are made too.
        let value = format!("{n}-{}", "v".repeat(20_000));
        let Ok(appended) = cluster.send(t, batch(&[&value])).await else { break };
        if within("it is answered", appended.committed).await.is_err() {
            break;
        }
        acked.push((appended.base_offset.0, value));
    }
    within("it fails", cluster.log().failed()).await;
    acked
}

/// Long enough that a batch is not in the block that is written again with the next.
const LONG: [&str; 3] = ["a", "b", "c"];

#[tokio::test]
async fn a_disk_that_fails_and_works_again_goes_on_in_a_new_journal_and_loses_nothing() {
    for call in [Call::Write, Call::Sync, Call::Create, Call::Allocate, Call::SyncFolder] {
        let (mut cluster, disk) = Cluster::on_faulty_disk(options()).await;
        let t = cluster.create("t", 1).await[0];
        cluster.store.puts(Puts::Blocked);
        let mut all = cluster.append_values(t, &["a", "b"]).await;
        all.extend(fail(&cluster, &disk, t, call).await);
        assert!(matches!(cluster.send(t, batch(&["late"])).await, Err(AppendError::JournalEnded)), "{call:?}");
        assert_eq!(
            cluster.read(t).await,
            all,
            "{call:?}: reading goes on, and shows nothing that was not acknowledged"
        );
        let high_watermark = cluster.partition(t).high_watermark();

        disk.heal();
        cluster.close(std::time::Duration::ZERO).await;
        cluster.start().await;
        assert_eq!(
            cluster.partition(t).high_watermark(),
            high_watermark,
            "{call:?}: what failed is not part of the log"
        );
        all.extend(cluster.append_values(t, &["c"]).await);
        assert_eq!(cluster.read(t).await, all, "{call:?}");
        assert!(all.windows(2).all(|two| two[0].0 + 1 == two[1].0), "{call:?}: without a gap");
        // And when the power goes.
        cluster.close(std::time::Duration::ZERO).await;
        disk.cut_power();
        cluster.start().await;
        assert_eq!(cluster.read(t).await, all, "{call:?}");
        cluster.store.puts(Puts::Pass);
        cluster.upload().await;
        assert_eq!(cluster.read(t).await, all, "{call:?}");
        assert_eq!(cluster.metrics.get().lost_journals.get(), 0, "{call:?}");
    }
}

#[tokio::test]
async fn a_producer_that_tries_again_after_a_failed_sync_is_stored_once() {
    let (mut cluster, disk) = Cluster::on_faulty_disk(options()).await;
    let t = cluster.create("t", 1).await[0];
    cluster.append(t, of_producer(7, 0, 0, &["a"])).await;
    disk.fail(Call::Sync, ErrorKind::Other, 1);
    let unknown = cluster.send(t, of_producer(7, 0, 1, &["b"])).await.unwrap();
    assert!(within("it is answered", unknown.committed).await.is_err(), "not acknowledged");
    cluster.close(DEADLINE).await;
    cluster.start().await;
    assert_eq!(cluster.append(t, of_producer(7, 0, 1, &["b"])).await.0, 1);
    assert_eq!(cluster.append(t, of_producer(7, 0, 1, &["b"])).await.0, 1, "the same again");
    assert_eq!(cluster.read(t).await.len(), 2);
}

#[tokio::test]
async fn a_probe_tells_whether_the_disk_works() {
    let (cluster, disk) = Cluster::on_faulty_disk(options()).await;
    cluster.log().probe().await.unwrap();
    for call in [Call::Create, Call::Allocate, Call::Write, Call::Sync] {
        disk.fail(call, ErrorKind::Other, 1);
        assert!(cluster.log().probe().await.is_err(), "{call:?}");
        cluster.log().probe().await.unwrap();
    }
}

#[tokio::test]
async fn a_batch_that_the_disk_lost_is_uploaded_from_memory() {
    let (mut cluster, disk) = Cluster::on_faulty_disk(options()).await;
    let t = cluster.create("t", 2).await[0];
    let all = cluster.append_values(t, &LONG.map(|value| value.repeat(6000)).each_ref().map(String::as_str)).await;
    let segment = cluster.log().inner.catalog.segments().remove(0);
    disk.flip(segment.path(), 64 + usize::try_from(segment.len()).unwrap() / 2, 2);
    cluster.upload().await;
    // The staging disk goes: what was uploaded is whole.
    disk.cut_power();
    cluster.close(DEADLINE).await;
    cluster.start().await;
    crate::room::empty(&cluster.log().inner);
    assert_eq!(cluster.read(t).await, all);
    assert_eq!(cluster.metrics.get().lost_journals.get(), 0);
}

#[tokio::test]
async fn a_batch_that_is_nowhere_ends_the_journal_and_what_is_left_goes_on() {
    let (mut cluster, disk) = Cluster::on_faulty_disk(Options { tail_bytes_max: 1, ..options() }).await;
    let t = cluster.create("t", 1).await[0];
    let all = cluster.append_values(t, &LONG.map(|value| value.repeat(6000)).each_ref().map(String::as_str)).await;
    let segment = cluster.log().inner.catalog.segments().remove(0);
    disk.flip(segment.path(), 64 + usize::try_from(segment.len()).unwrap() / 2, 2);
    cluster.log().seal();
    within("the journal ends", cluster.log().failed()).await;
    cluster.close(std::time::Duration::ZERO).await;
    cluster.options.depth = Depth::Batches;
    cluster.start().await;
    assert_eq!(cluster.metrics.get().lost_journals.get(), 1, "the loss is reported");
    cluster.upload().await;
    let mut kept = all[..1].to_vec();
    assert_eq!(cluster.read(t).await, kept);
    kept.extend(cluster.append_values(t, &["d"]).await);
    assert!(kept[1].0 >= 3, "offset {} was used before", kept[1].0);
    cluster.upload().await;
    assert_eq!(cluster.read(t).await, kept);
}
