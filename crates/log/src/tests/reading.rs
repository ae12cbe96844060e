//! Fetch and search by time, over memory, disk and objects.

use std::sync::Arc;

use metadata::Command;
use records::{Batch, Builder, Codec, Headers, Offset, Timestamp};

use super::cluster::{Cluster, Options, Puts, batch, batch_at, bytes_of, options, within};
use crate::{FetchError, Found, Waiter};

/// A partition whose first part is in objects, the next on the disk only, and the last in memory too; of the same bytes
/// as `expected`.
async fn three_tiers() -> (Cluster, records::TopicPartition, Vec<Batch>) {
    let cluster = Cluster::new(Options { segment_bytes: 64 << 10, ..options() }).await;
    let t = cluster.create("t", 1).await[0];
    let mut expected = Vec::new();
    let mut offset = 0_i64;
    for n in 0..90_usize {
        if n == 30 {
            cluster.upload().await;
        }
        if n == 60 {
            cluster.store.puts(Puts::Blocked);
            cluster.log().seal();
            cluster.forget_tail(t);
        }
        let value = format!("{n}-").repeat(1 + (n * 7919) % 1500);
        let mut batch = batch(&vec![&*value; 1 + n % 3]);
        assert_eq!(cluster.append(t, batch.clone()).await, Offset(offset));
        batch.assign(Offset(offset), cluster.partition(t).leader_epoch());
        offset += i64::try_from(1 + n % 3).unwrap();
        expected.push(batch);
    }
    (cluster, t, expected)
}

#[tokio::test]
async fn every_offset_gives_the_same_bytes_from_whichever_tier() {
    let (cluster, t, expected) = three_tiers().await;
    let partition = cluster.partition(t);
    let end = partition.high_watermark();
    for bytes_max in [0, 1, 4000, 100_000, usize::MAX >> 1] {
        for from in 0..end.0 {
            let found = cluster.log().read(&partition, Offset(from), end, bytes_max).await.unwrap();
            let first = expected.iter().position(|batch| batch.next_offset().0 > from).unwrap();
            let same = &expected[first..first + found.len()];
            assert_eq!(bytes_of(&found), bytes_of(same), "from {from}, {bytes_max} bytes");
            let bytes: usize = found.iter().map(Batch::len).sum();
            assert!(found.len() == 1 || bytes <= bytes_max, "{bytes} bytes of {bytes_max}");
            let more = expected.get(first + found.len()).map_or(usize::MAX, Batch::len);
            assert!(!found.is_empty() && bytes.saturating_add(more) > bytes_max, "as many as fit, one at least");
        }
    }
    let metrics = cluster.metrics.get();
    for bytes in [&metrics.read_memory_bytes, &metrics.read_disk_bytes, &metrics.read_store_bytes] {
        assert!(bytes.get() > 0, "every tier was read");
    }
    assert_eq!(cluster.log().read(&partition, end, end, 100).await.unwrap().len(), 0, "nothing at the end");
}

#[tokio::test]
async fn a_read_stays_below_what_the_reader_may_see() {
    let (cluster, t, expected) = three_tiers().await;
    let partition = cluster.partition(t);
    for up_to in [0, 1, 30, 59, 60, 61, 100, 121, 122, 150, 180] {
        let found = cluster.log().read(&partition, Offset(0), Offset(up_to), usize::MAX >> 1).await.unwrap();
        let below = expected.iter().take_while(|batch| batch.next_offset().0 <= up_to).cloned().collect::<Vec<_>>();
        assert_eq!(bytes_of(&found), bytes_of(&below), "up to {up_to}");
    }
}

#[tokio::test]
async fn deleted_records_are_out_of_range_and_the_rest_stays() {
    let (cluster, t, _) = three_tiers().await;
    let partition = cluster.partition(t);
    let all = cluster.read(t).await;
    let end = partition.high_watermark();
    for below in [10, 70, 150] {
        cluster.delete_records(t, Offset(below)).await;
        assert_eq!(partition.log_start(), Offset(below));
        for gone in [0, below - 1] {
            let read = cluster.log().read(&partition, Offset(gone), end, 100).await;
            assert!(matches!(read, Err(FetchError::OutOfRange { log_start, .. }) if log_start.0 == below), "{read:?}");
        }
        assert_eq!(cluster.read(t).await, all[usize::try_from(below).unwrap()..]);
    }
    let beyond = cluster.log().read(&partition, end.after(1), end, 100).await;
    assert!(matches!(beyond, Err(FetchError::OutOfRange { .. })));
    // What was deleted before it was uploaded is uploaded all the same, and changes nothing.
    cluster.store.puts(Puts::Pass);
    cluster.upload().await;
    assert_eq!(cluster.read(t).await, all[150..]);
}

#[tokio::test]
async fn readers_that_wait_wake_at_the_commit_and_at_the_close() {
    let cluster = Cluster::new(options()).await;
    let t = cluster.create("t", 2).await;
    let waiter = Waiter::new();
    for id in &t {
        cluster.partition(*id).notify(&waiter);
    }
    let before = cluster.partition(t[1]).high_watermark();
    cluster.append(t[1], batch(&["a"])).await;
    within("the waiter wakes", waiter.changed()).await;
    assert!(cluster.partition(t[1]).high_watermark() > before);

    let (waiter, partition) = (Waiter::new(), cluster.partition(t[0]));
    partition.notify(&waiter);
    cluster.submit(Command::DeleteTopic { id: t[0].topic, at: Timestamp(0) }).await;
    cluster.log().refresh();
    within("the waiter wakes", waiter.changed()).await;
    assert!(partition.is_closed());
    // One who comes too late is not left waiting.
    let late = Waiter::new();
    partition.notify(&late);
    within("the late waiter wakes", late.changed()).await;
}

#[tokio::test]
async fn waiters_that_went_away_do_not_pile_up() {
    let waiters = crate::waiter::Waiters::default();
    let kept = Waiter::new();
    waiters.add(&kept);
    for _ in 0..10_000 {
        waiters.add(&Waiter::new());
    }
    assert!(waiters.len() < 100, "{} entries for one waiter", waiters.len());
    waiters.wake();
    within("the one that stayed wakes", kept.changed()).await;
}

fn found(offset: i64, timestamp: i64) -> Option<Found> {
    Some(Found { offset: Offset(offset), timestamp: Timestamp(timestamp) })
}

async fn check_times(cluster: &Cluster, t: records::TopicPartition, times: &[i64], log_start: usize) {
    let partition: Arc<_> = cluster.partition(t);
    let largest = times[log_start..].iter().max();
    for at in 0..=1 + times.iter().max().unwrap() {
        let first = (log_start..times.len()).find(|n| times[*n] >= at);
        let want = first.and_then(|n| found(i64::try_from(n).unwrap(), times[n]));
        let got = cluster.log().find_timestamp(&partition, Timestamp(at)).await.unwrap();
        assert_eq!(got, want, "at {at}, from {log_start}");
    }
    let want = largest.map(|largest| {
        let n = (log_start..times.len()).find(|n| times[*n] == *largest).unwrap();
        Found { offset: Offset(i64::try_from(n).unwrap()), timestamp: Timestamp(*largest) }
    });
    assert_eq!(cluster.log().find_max_timestamp(&partition).await.unwrap(), want, "the largest from {log_start}");
}

#[tokio::test]
async fn records_are_found_by_time_in_every_tier_and_after_deletions() {
    // Not in the order of time, and the largest first.
    let times = [90, 5, 20, 20, 80, 10, 30, 60, 15, 70, 40, 65];
    let mut cluster = Cluster::new(options()).await;
    let t = cluster.create("t", 2).await;
    let empty = cluster.partition(t[1]);
    assert_eq!(cluster.log().find_timestamp(&empty, Timestamp(0)).await.unwrap(), None);
    assert_eq!(cluster.log().find_max_timestamp(&empty).await.unwrap(), None);
    for codec in [Codec::None, Codec::Lz4] {
        let t = cluster.create(&format!("{codec:?}"), 1).await[0];
        // Batches of three: a part of one can be deleted.
        for three in times.chunks(3) {
            let mut builder = Builder::new(codec);
            for time in three {
                builder.push(Timestamp(*time), None, Some(b"v"), &Headers::NONE).unwrap();
            }
            let base = cluster.append(t, builder.build()).await;
            if base.0 == 3 {
                cluster.upload().await;
            }
        }
        cluster.forget_tail(t);
        check_times(&cluster, t, &times, 0).await;
        cluster.delete_records(t, Offset(1)).await;
        check_times(&cluster, t, &times, 1).await;
        cluster.delete_records(t, Offset(5)).await;
        check_times(&cluster, t, &times, 5).await;
        cluster.delete_records(t, Offset(8)).await;
        check_times(&cluster, t, &times, 8).await;
        cluster.upload().await;
        check_times(&cluster, t, &times, 8).await;
        cluster.restart_without_disk().await;
        check_times(&cluster, t, &times, 8).await;
        cluster.delete_records(t, Offset(12)).await;
        let partition = cluster.partition(t);
        assert_eq!(cluster.log().find_timestamp(&partition, Timestamp(0)).await.unwrap(), None);
        assert_eq!(cluster.log().find_max_timestamp(&partition).await.unwrap(), None);
    }
}

#[tokio::test]
async fn the_time_of_the_append_is_what_is_found_where_the_topic_wants_it() {
    let cluster = Cluster::new(options()).await;
    let t = cluster.create("t", 1).await[0];
    let partition = cluster.partition(t);
    let permit = cluster.log().admit(100).await.unwrap();
    let appended = cluster.log().append(&partition, batch_at(5, &["a", "b"]), Some(Timestamp(777)), permit).unwrap();
    assert_eq!(appended.log_append_time, Some(Timestamp(777)));
    within("it is committed", appended.committed).await.unwrap();
    assert_eq!(cluster.log().find_timestamp(&partition, Timestamp(6)).await.unwrap(), found(0, 777));
}

#[tokio::test]
async fn the_tail_holds_no_more_than_its_budget_and_small_batches_do_not_pin_large_requests() {
    let cluster = Cluster::new(Options { tail_bytes_max: 10_000, ..options() }).await;
    let t = cluster.create("t", 2).await;
    for n in 0..200 {
        cluster.append(t[n % 2], batch(&["some value"])).await;
    }
    let held = |id| cluster.partition(id).tail_bytes();
    cluster.until("the oldest are evicted", || held(t[0]) + held(t[1]) <= 10_000).await;
    assert!(held(t[0]) > 0 && held(t[1]) > 0);
    // A slice of a request of a MiB.
    let mut request = bytes::BytesMut::zeroed(1 << 20);
    let small = batch(&["v"]).to_bytes();
    request[1000..1000 + small.len()].copy_from_slice(&small);
    let request = request.freeze();
    let sliced = Batch::decode(request.slice(1000..1000 + small.len())).unwrap();
    cluster.append(t[0], sliced).await;
    let is_free = || request.is_unique();
    cluster.until("the request is let go", is_free).await;
    assert_eq!(cluster.read(t[0]).await.len(), 101);
}
