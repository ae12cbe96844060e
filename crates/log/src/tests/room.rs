//! Uploaded segments as a cache on the staging disk.

use std::sync::atomic::Ordering;

use records::Offset;

use super::cluster::{Cluster, Options, Puts, options, segment_files};

#[tokio::test]
async fn an_uploaded_segment_is_read_from_the_disk_while_it_has_room() {
    let cluster = Cluster::new(options()).await;
    let t = cluster.create("t", 1).await[0];
    let all = cluster.append_values(t, &["a", "b", "c"]).await;
    cluster.upload_and_keep().await;
    cluster.forget_tail(t);
    assert_eq!(cluster.state(t).frontier, Offset(3));
    assert_eq!(cluster.read(t).await, all);
    assert_eq!(cluster.store.gets.load(Ordering::SeqCst), 0, "the store is not asked");
    assert!(cluster.metrics.get().read_disk_bytes.get() > 0);
}

#[tokio::test]
async fn a_cached_segment_that_is_damaged_is_read_from_the_store() {
    let cluster = Cluster::new(options()).await;
    let t = cluster.create("t", 1).await[0];
    let all = cluster.append_values(t, &["a", "b", "c"]).await;
    cluster.upload_and_keep().await;
    cluster.forget_tail(t);
    let [file] = &segment_files(cluster.staging())[..] else { panic!("one segment") };
    let mut bytes = std::fs::read(file).unwrap();
    bytes[100] ^= 1;
    std::fs::write(file, bytes).unwrap();
    assert_eq!(cluster.read(t).await, all);
    assert!(cluster.store.gets.load(Ordering::SeqCst) > 0);
    assert!(segment_files(cluster.staging()).is_empty(), "the damaged copy is gone");
}

#[tokio::test]
async fn cached_segments_make_room_oldest_first_and_staged_ones_stay() {
    const SEGMENT: u64 = 4096;
    let cluster = Cluster::new(Options { segment_bytes: SEGMENT, staging_bytes_max: 8 * SEGMENT, ..options() }).await;
    let t = cluster.create("t", 1).await[0];
    let value = "v".repeat(1000);
    let mut all = cluster.append_values(t, &[value.as_str(); 60]).await;
    cluster.upload_and_keep().await;
    let inner = &cluster.log().inner;
    let fits = || inner.catalog.usage().cached_bytes <= 6 * SEGMENT;
    cluster.until("the cache fits", fits).await;
    assert!(inner.catalog.usage().cached_bytes > 3 * SEGMENT, "and is used");
    let (oldest, newest) = (inner.catalog.segments()[0].clone(), inner.catalog.segments().len());
    assert!(oldest.offsets(t).unwrap().0 > Offset(30), "the oldest went: {:?} of {newest}", oldest.offsets(t));
    // The store is away: what is staged grows into the room of the cache, and none of it goes.
    cluster.store.puts(Puts::Blocked);
    all.extend(cluster.append_values(t, &[value.as_str(); 24]).await);
    cluster.until("the cache gave way", || inner.catalog.usage().cached_bytes < SEGMENT).await;
    assert!(inner.catalog.usage().staged_bytes > 24_000);
    cluster.forget_tail(t);
    assert_eq!(cluster.read(t).await, all);
}
