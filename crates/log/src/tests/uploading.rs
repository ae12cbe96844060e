//! From sealed segments to data objects: once, in order, whatever the store does.

use futures::TryStreamExt;
use metadata::Command;
use object_store::ObjectStore;
use records::{Offset, Timestamp};

use super::cluster::{Cluster, DEADLINE, Options, Puts, batch, options, within};

/// The data objects that lie in the store.
async fn stored(cluster: &Cluster) -> usize {
    let listed: Vec<_> = cluster.store.list(None).try_collect().await.unwrap();
    listed.iter().filter(|object| object.location.as_ref().contains("/data/")).count()
}

/// What was appended is a segment of its own.
async fn seal(cluster: &Cluster) {
    cluster.log().seal();
    let catalog = &cluster.log().inner.catalog;
    cluster.until("it is sealed", || catalog.segments().iter().all(|segment| segment.is_sealed())).await;
}

#[tokio::test]
async fn a_failing_store_delays_and_nothing_is_stored_or_committed_twice() {
    for puts in [Puts::Fail(3), Puts::LoseAnswer(3)] {
        let mut cluster = Cluster::new(options()).await;
        let t = cluster.create("t", 1).await[0];
        cluster.store.puts(puts);
        let mut all = cluster.append_values(t, &["a", "b"]).await;
        cluster.upload().await;
        assert_eq!(cluster.store.tried().len(), 4, "{puts:?}");
        assert_eq!(stored(&cluster).await, 1, "{puts:?}: tried again under the same key");
        assert_eq!(cluster.metrics.get().upload_retries.get(), 3);
        let extents = cluster.metadata.extents(t, Offset(0), 10).await.unwrap();
        assert_eq!(extents.len(), 1);
        all.extend(cluster.append_values(t, &["c"]).await);
        cluster.upload().await;
        assert_eq!(cluster.read(t).await, all);
        cluster.restart_without_disk().await;
        assert_eq!(cluster.read(t).await, all);
    }
}

#[tokio::test]
async fn a_segment_that_was_put_but_not_committed_is_uploaded_again_by_the_next_start() {
    let mut cluster = Cluster::new(options()).await;
    let t = cluster.create("t", 1).await[0];
    let all = cluster.append_values(t, &["a", "b"]).await;
    cluster.store.puts(Puts::LoseAnswer(1));
    cluster.log().seal();
    cluster.until("the first try failed", || cluster.metrics.get().upload_retries.get() == 1).await;
    // The uploader waits for its second try: the process dies between the PUT and the commit.
    cluster.kill().await;
    assert_eq!(cluster.state(t).frontier, Offset(0));
    cluster.start().await;
    cluster.uploaded().await;
    assert_eq!(cluster.state(t).frontier, Offset(2));
    assert_eq!(cluster.read(t).await, all);
    let extents = cluster.metadata.extents(t, Offset(0), 10).await.unwrap();
    assert_eq!(extents.len(), 1);
}

#[tokio::test]
async fn several_objects_are_put_at_once_and_committed_in_order() {
    let mut cluster = Cluster::new(options()).await;
    let t = cluster.create("t", 1).await[0];
    cluster.store.puts(Puts::FirstBlocked);
    let mut all = Vec::new();
    for value in ["a", "b", "c", "d", "e", "f"] {
        all.extend(cluster.append_values(t, &[value]).await);
        seal(&cluster).await;
    }
    cluster.tried(4).await;
    within("three are stored", async {
        while stored(&cluster).await < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(cluster.store.tried().len(), 4, "no more than four are put at once");
    assert_eq!(cluster.state(t).frontier, Offset(0), "what follows a gap is not committed");
    // The process dies with three objects stored that nothing refers to.
    cluster.kill().await;
    cluster.store.puts(Puts::Pass);
    cluster.start().await;
    cluster.uploaded().await;
    assert_eq!(cluster.state(t).frontier, Offset(6));
    let extents = cluster.metadata.extents(t, Offset(0), 10).await.unwrap();
    let bounds: Vec<_> = extents.iter().map(|one| (one.extent.base_offset.0, one.extent.end_offset.0)).collect();
    assert_eq!(bounds, [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6)]);
    assert_eq!(cluster.read(t).await, all);
    cluster.restart_without_disk().await;
    assert_eq!(cluster.read(t).await, all);
}

#[tokio::test]
async fn one_object_is_put_at_once_where_there_is_room_for_no_more() {
    let cluster = Cluster::new(Options { uploads_bytes_max: 1, ..options() }).await;
    let t = cluster.create("t", 1).await[0];
    cluster.store.puts(Puts::Blocked);
    for value in ["a", "b", "c"] {
        cluster.append_values(t, &[value]).await;
        seal(&cluster).await;
    }
    cluster.tried(1).await;
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!(cluster.store.tried().len(), 1);
    cluster.store.puts(Puts::Pass);
    cluster.uploaded().await;
    assert_eq!(cluster.state(t).frontier, Offset(3));
}

#[tokio::test]
async fn segments_are_sealed_by_size_and_by_time() {
    let cluster = Cluster::new(Options { segment_bytes: 4096, ..options() }).await;
    let t = cluster.create("t", 1).await[0];
    let value = "v".repeat(1000);
    cluster.append_values(t, &[value.as_str(); 8]).await;
    cluster.until("full segments are uploaded", || cluster.state(t).frontier >= Offset(6)).await;

    let cluster = Cluster::new(Options { seal_interval: std::time::Duration::from_millis(20), ..options() }).await;
    let t = cluster.create("t", 1).await[0];
    cluster.append_values(t, &["a"]).await;
    cluster.uploaded().await;
    assert_eq!(cluster.state(t).frontier, Offset(1));
}

#[tokio::test]
async fn an_idle_log_puts_nothing() {
    let cluster = Cluster::new(Options { seal_interval: std::time::Duration::from_millis(1), ..options() }).await;
    let t = cluster.create("t", 1).await[0];
    cluster.append_values(t, &["a"]).await;
    cluster.uploaded().await;
    let revision = cluster.image().revision;
    // Asked to seal nothing; and what came of it would come before what is uploaded now.
    for _ in 0..20 {
        cluster.log().seal();
        tokio::task::yield_now().await;
    }
    assert_eq!(cluster.image().revision, revision, "no metadata either");
    cluster.append_values(t, &["b"]).await;
    cluster.uploaded().await;
    assert_eq!(cluster.store.tried().len(), 2, "one for each of the two times there was something");
    assert_eq!(cluster.image().revision, revision + 1);
}

#[tokio::test]
async fn a_topic_that_is_deleted_while_its_segment_waits_holds_nothing_up() {
    let mut cluster = Cluster::new(options()).await;
    let gone = cluster.create("gone", 1).await[0];
    let t = cluster.create("t", 1).await[0];
    cluster.store.puts(Puts::Blocked);
    cluster.append_values(gone, &["x"]).await;
    let mut all = cluster.append_values(t, &["a"]).await;
    cluster.log().seal();
    cluster.tried(1).await;
    // One segment is built already, another is not, and a third has nothing else in it.
    cluster.append_values(gone, &["y"]).await;
    all.extend(cluster.append_values(t, &["b"]).await);
    cluster.log().seal();
    cluster.append_values(gone, &["z"]).await;
    let partition = cluster.partition(gone);
    cluster.submit(Command::DeleteTopic { id: gone.topic, at: Timestamp(0) }).await;
    cluster.log().refresh();
    assert!(partition.is_closed());
    assert!(matches!(cluster.log().partition(gone), Err(crate::PartitionError::Unknown)));
    let permit = cluster.log().admit(100).await.unwrap();
    let late = cluster.log().append(&partition, batch(&["late"]), None, permit);
    assert!(matches!(late, Err(crate::AppendError::NotLeader)), "{late:?}");
    cluster.store.puts(Puts::Pass);
    cluster.upload().await;
    assert_eq!(cluster.read(t).await, all);
    // The same through a restart.
    let again = cluster.create("again", 1).await[0];
    cluster.append_values(again, &["x"]).await;
    all.extend(cluster.append_values(t, &["c"]).await);
    cluster.kill().await;
    cluster.submit(Command::DeleteTopic { id: again.topic, at: Timestamp(0) }).await;
    cluster.start().await;
    cluster.uploaded().await;
    assert_eq!(cluster.read(t).await, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_new_partition_is_not_closed_by_metadata_that_do_not_know_it_yet() {
    let cluster = std::sync::Arc::new(Cluster::new(options()).await);
    let stop = tokio_util::sync::CancellationToken::new();
    // The metadata are taken in all the time.
    let follower = tokio::spawn({
        let (log, stop) = (cluster.log().clone(), stop.clone());
        async move {
            while !stop.is_cancelled() {
                log.refresh();
                tokio::task::yield_now().await;
            }
        }
    });
    for n in 0..60 {
        let t = cluster.create(&format!("t{n}"), 1).await[0];
        let partition = cluster.partition(t);
        assert_eq!(cluster.append(t, batch(&["a"])).await, Offset(0));
        assert_eq!(cluster.append(t, batch(&["b"])).await, Offset(1));
        assert!(!partition.is_closed(), "topic {n}");
        assert!(std::sync::Arc::ptr_eq(&partition, &cluster.partition(t)), "the same all the time");
    }
    stop.cancel();
    within("it stops", follower).await.unwrap();
}

#[tokio::test]
async fn what_the_metadata_learn_of_time_is_when_records_were_appended_not_when_they_were_uploaded() {
    let cluster = Cluster::new(options()).await;
    let t = cluster.create("t", 1).await[0];
    cluster.store.puts(Puts::Blocked);
    cluster.clock.advance(1000);
    cluster.append_values(t, &["a"]).await;
    let appended = records::Clock::now(&*cluster.clock);
    cluster.log().seal();
    cluster.tried(1).await;
    cluster.clock.advance(3_600_000);
    // If the disk went now, this is what was lost: an hour later than the last record that is safe.
    cluster.append_values(t, &["b"]).await;
    cluster.store.puts(Puts::Pass);
    cluster.until("the first is uploaded", || cluster.state(t).frontier == Offset(1)).await;
    let image = cluster.image();
    let journal = &image.journals[&cluster.state(t).journal];
    assert_eq!(journal.last_commit.newest_append, appended);
    assert!(journal.last_commit.durable_seen > journal.uploaded, "what would be missed is known");
}

#[tokio::test]
async fn close_uploads_everything() {
    let mut cluster = Cluster::new(options()).await;
    let t = cluster.create("t", 3).await;
    let mut all = Vec::new();
    for id in &t {
        all.push(cluster.append_values(*id, &["a", "b"]).await);
    }
    cluster.store.puts(Puts::Fail(1));
    assert_eq!(cluster.close(DEADLINE).await, 0);
    cluster.start().await;
    for (id, all) in t.iter().zip(all) {
        assert_eq!(cluster.read(*id).await, all);
    }
}
