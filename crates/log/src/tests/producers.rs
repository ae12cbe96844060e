//! Idempotent producers: the rules by themselves, and through restarts.

use proptest::prelude::*;
use records::{Batch, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

use super::cluster::{Cluster, Puts, batch, of_producer, options, within};
use crate::AppendError;
use crate::producers::{Producers, SequenceError, Verdict};

const NOW: Timestamp = Timestamp(5_000);
const P: ProducerId = ProducerId(7);

/// A batch of `count` records at an offset.
fn at(offset: i64, epoch: i16, sequence: i32, count: usize) -> Batch {
    let mut batch = of_producer(P.0, epoch, sequence, &vec!["v"; count]);
    batch.assign(Offset(offset), LeaderEpoch(1));
    batch
}

/// What is known after batches of one record at offsets 0, 1, …
fn after(batches: &[(i16, i32)]) -> Producers {
    let mut producers = Producers::default();
    for (offset, (epoch, sequence)) in (0..).zip(batches) {
        producers.applied(at(offset, *epoch, *sequence, 1).header(), NOW);
    }
    producers
}

/// What it is about; the batches before; epoch, sequence and number of records of the one that is judged; the verdict.
type Case = (&'static str, &'static [(i16, i32)], (i16, i32, usize), Want);

#[derive(Debug, Clone, Copy)]
enum Want {
    Fresh,
    Duplicate(i64),
    Expected(i32),
    Fenced(i16),
}

#[test]
fn batches_are_judged_by_epoch_and_sequence() {
    const MAX: i32 = i32::MAX;
    let six: &[(i16, i32)] = &[(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (0, 5)];
    let table: &[Case] = &[
        ("unknown, from 0", &[], (0, 0, 1), Want::Fresh),
        ("unknown, from anywhere", &[], (3, 500, 2), Want::Fresh),
        ("the next", six, (0, 6, 1), Want::Fresh),
        ("the next, several records", six, (0, 6, 9), Want::Fresh),
        ("the last again", six, (0, 5, 1), Want::Duplicate(5)),
        ("the fifth last again", six, (0, 1, 1), Want::Duplicate(1)),
        ("the sixth last again", six, (0, 0, 1), Want::Expected(6)),
        ("a gap", six, (0, 7, 1), Want::Expected(6)),
        ("the last again, but longer", six, (0, 5, 2), Want::Expected(6)),
        ("an older epoch", &[(2, 0)], (1, 1, 1), Want::Fenced(2)),
        ("an older epoch, again", &[(1, 0), (2, 0)], (1, 0, 1), Want::Fenced(2)),
        ("a newer epoch, from 0", six, (1, 0, 1), Want::Fresh),
        ("a newer epoch, from elsewhere", six, (1, 6, 1), Want::Expected(0)),
        ("a newer epoch goes on", &[(0, 0), (1, 0)], (1, 1, 1), Want::Fresh),
        ("the wrap", &[(0, MAX)], (0, 0, 1), Want::Fresh),
        ("the wrap, not at 0", &[(0, MAX)], (0, 1, 1), Want::Expected(0)),
        ("before the wrap again", &[(0, MAX), (0, 0)], (0, MAX, 1), Want::Duplicate(0)),
    ];
    for (what, known, (epoch, sequence, count), want) in table {
        let found = after(known).check(at(100, *epoch, *sequence, *count).header());
        let right = match (want, found) {
            (Want::Fresh, Ok(Verdict::Fresh)) => true,
            (Want::Duplicate(offset), Ok(Verdict::Duplicate(past))) => past.base_offset.0 == *offset,
            (Want::Expected(want), Err(SequenceError::OutOfOrder { expected, found, .. })) => {
                expected == *want && found == *sequence
            }
            (Want::Fenced(want), Err(SequenceError::Fenced { current, .. })) => current == ProducerEpoch(*want),
            _ => false,
        };
        assert!(right, "{what}: {found:?}, not {want:?}");
    }
}

#[test]
fn a_batch_may_lie_across_the_wrap() {
    let mut producers = Producers::default();
    let across = at(0, 0, i32::MAX - 1, 4);
    producers.applied(across.header(), NOW);
    assert_eq!(producers.check(at(9, 0, 2, 1).header()), Ok(Verdict::Fresh), "MAX-1, MAX, 0, 1 and then 2");
    assert!(matches!(producers.check(across.header()), Ok(Verdict::Duplicate(_))));
    assert!(producers.check(at(9, 0, 3, 1).header()).is_err());
}

#[test]
fn batches_without_a_producer_are_always_fresh_and_not_remembered() {
    let mut producers = Producers::default();
    let plain = batch(&["a"]);
    producers.applied(plain.header(), NOW);
    assert!(producers.is_empty());
    assert_eq!(producers.check(plain.header()), Ok(Verdict::Fresh));
}

#[test]
fn a_snapshot_goes_under_what_is_newer_and_what_both_know_counts_once() {
    let all: Vec<(i16, i32)> = (0..8).map(|sequence| (0, sequence)).collect();
    let whole = after(&all);
    for split in 0..=8 {
        for overlap in 0..=split {
            let older = after(&all[..split]);
            let mut newer = Producers::default();
            for n in split - overlap..8 {
                newer.applied(at(i64::try_from(n).unwrap(), 0, i32::try_from(n).unwrap(), 1).header(), NOW);
            }
            newer.add_older(older);
            assert_eq!(newer, whole, "{split} in the snapshot, {overlap} of them known");
        }
    }
    let mut newer = after(&[(1, 0)]);
    newer.add_older(after(&[(0, 0), (0, 1)]));
    assert_eq!(newer, after(&[(1, 0)]), "an older epoch counts no more");
    let mut other = Producers::default();
    other.add_older(after(&[(0, 0)]));
    assert_eq!(other, after(&[(0, 0)]));
}

#[test]
fn producers_expire_by_the_time_they_were_heard_of_and_by_number() {
    let mut producers = Producers::default();
    for id in 0..10_i64 {
        let mut batch = of_producer(id, 0, 0, &["v"]);
        batch.assign(Offset(id), LeaderEpoch(1));
        // Their records are all of the same, distant time.
        producers.applied(batch.header(), Timestamp(100 * id));
    }
    producers.expire(Timestamp(300), 100);
    assert_eq!(producers.len(), 7, "those heard of at 300 or later");
    producers.expire(Timestamp(0), 2);
    let mut left: Vec<_> = producers.iter().map(|(id, _)| id.0).collect();
    left.sort_unstable();
    assert_eq!(left, [8, 9], "the two heard of last");
}

#[test]
fn a_snapshot_reads_back_as_it_was_written() {
    let producers = after(&[(3, 0), (3, 1), (3, 2)]);
    let bytes = crate::snapshot::encode(&producers);
    assert_eq!(crate::snapshot::decode(bytes, NOW).unwrap(), producers);
    assert!(crate::snapshot::encode(&Producers::default()).is_empty());
    assert!(crate::snapshot::decode(bytes::Bytes::from_static(b"\xff\xff"), NOW).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A producer with up to five batches in flight over a line that repeats, and a snapshot taken and merged at any
    /// time: everything is stored once, in order.
    #[test]
    fn retries_of_the_last_five_are_never_stored_twice(
        start in prop_oneof![Just(0), Just(i32::MAX - 20)],
        steps in prop::collection::vec((0_usize..6, 1_usize..4, any::<bool>()), 1..60),
    ) {
        let mut producers = Producers::default();
        let mut snapshot = Producers::default();
        let mut sent: Vec<Batch> = Vec::new();
        let (mut next, mut offset) = (start, 0_i64);
        for (back, count, snap) in steps {
            if back > 0 && back <= sent.len() {
                let again = &sent[sent.len() - back];
                let found = producers.check(again.header());
                prop_assert!(matches!(found, Ok(Verdict::Duplicate(past)) if past.base_offset == again.base_offset()), "{:?}", found);
            } else {
                let batch = at(offset, 0, next, count);
                prop_assert_eq!(producers.check(batch.header()), Ok(Verdict::Fresh));
                producers.applied(batch.header(), NOW);
                offset += i64::try_from(count).unwrap();
                next = i32::try_from((i64::from(next) + i64::try_from(count).unwrap()) % (1 << 31)).unwrap();
                sent.push(batch);
            }
            if snap {
                // What is newer than the last snapshot, over the snapshot, is what there was.
                let from = snapshot.iter().next().and_then(|(_, p)| p.batches.back()).map_or(Offset(0), |past| past.next_offset);
                let mut newer = Producers::default();
                for batch in sent.iter().filter(|batch| batch.base_offset() >= from) {
                    newer.applied(batch.header(), NOW);
                }
                newer.add_older(snapshot);
                prop_assert_eq!(&newer, &producers);
                snapshot = producers.clone();
            }
        }
    }
}

#[tokio::test]
async fn a_retry_in_flight_is_answered_with_the_first_ones_place_when_that_is_committed() {
    let cluster = Cluster::new(options()).await;
    let t = cluster.create("t", 1).await[0];
    let batches: Vec<_> = (0..5).map(|n| of_producer(1, 0, n, &["v"])).collect();
    let mut waiting = Vec::new();
    for batch in &batches {
        waiting.push(cluster.send(t, batch.clone()).await.unwrap());
    }
    for batch in &batches {
        waiting.push(cluster.send(t, batch.clone()).await.unwrap());
    }
    for (n, appended) in (0..).zip(waiting) {
        assert_eq!(appended.base_offset.0, n % 5);
        within("it is committed", appended.committed).await.unwrap();
        assert!(cluster.partition(t).high_watermark().0 > n % 5, "J2");
    }
    assert_eq!(cluster.read(t).await.len(), 5);
    let gap = cluster.send(t, of_producer(1, 0, 6, &["v"])).await;
    assert!(
        matches!(gap, Err(AppendError::Sequence(SequenceError::OutOfOrder { expected: 5, found: 6, .. }))),
        "{gap:?}"
    );
}

#[tokio::test]
async fn a_retry_is_recognised_after_a_restart_from_the_journal() {
    let mut cluster = Cluster::new(options()).await;
    let t = cluster.create("t", 1).await[0];
    cluster.store.puts(Puts::Blocked);
    for n in 0..3 {
        cluster.append(t, of_producer(1, 0, n, &["v"])).await;
        cluster.restart().await;
    }
    for n in 0..3 {
        assert_eq!(cluster.append(t, of_producer(1, 0, n, &["v"])).await, Offset(n.into()));
    }
    assert_eq!(cluster.append(t, of_producer(1, 0, 3, &["v"])).await, Offset(3));
    assert_eq!(cluster.read(t).await.len(), 4);
}

#[tokio::test]
async fn a_retry_is_recognised_from_the_journal_over_the_objects_snapshot() {
    let mut cluster = Cluster::new(options()).await;
    let t = cluster.create("t", 1).await[0];
    for n in 0..3 {
        cluster.append(t, of_producer(1, 0, n, &["v"])).await;
    }
    cluster.upload().await;
    for n in 3..5 {
        cluster.append(t, of_producer(1, 0, n, &["v"])).await;
    }
    cluster.restart().await;
    // Uploaded before the partition is opened: snapshot and journal then know the same.
    cluster.upload().await;
    for n in 0..5 {
        assert_eq!(cluster.append(t, of_producer(1, 0, n, &["v"])).await, Offset(n.into()));
    }
    assert_eq!(cluster.read(t).await.len(), 5);
}

#[tokio::test]
async fn a_retry_is_recognised_from_the_objects_snapshot_when_the_disk_is_lost() {
    let mut cluster = Cluster::new(options()).await;
    let t = cluster.create("t", 1).await[0];
    for n in 0..4 {
        cluster.append(t, of_producer(1, 0, n, &["v"])).await;
        if n % 2 == 1 {
            cluster.upload().await;
        }
    }
    for _ in 0..2 {
        cluster.append(t, of_producer(2, 0, 0, &["lost"])).await;
        cluster.restart_without_disk().await;
        for n in 0..4 {
            assert_eq!(cluster.append(t, of_producer(1, 0, n, &["v"])).await, Offset(n.into()), "stored before");
        }
    }
    let again = cluster.append(t, of_producer(2, 0, 0, &["kept"])).await;
    assert!(again.0 > 4, "the lost one is not taken for stored");
    assert_eq!(cluster.append(t, of_producer(1, 0, 4, &["v"])).await, Offset(again.0 + 1));
    // The uploader too builds on the snapshot from before the loss.
    cluster.upload().await;
    cluster.restart_without_disk().await;
    assert_eq!(cluster.append(t, of_producer(1, 0, 1, &["v"])).await, Offset(1));
    assert_eq!(cluster.append(t, of_producer(2, 0, 0, &["kept"])).await, again);
    assert_eq!(cluster.read(t).await.len(), 6);
}

#[tokio::test]
async fn remembered_producers_are_bounded_in_number_and_in_time() {
    let cluster = Cluster::new(super::cluster::Options { producers_max: 16, ..options() }).await;
    let t = cluster.create("t", 1).await[0];
    for id in 0..100 {
        cluster.append(t, of_producer(id, 0, 0, &["v"])).await;
        assert!(cluster.partition(t).producers().len() <= 18);
    }
    cluster.clock.advance(2 * 3600 * 1000);
    cluster.append(t, of_producer(1000, 0, 0, &["v"])).await;
    cluster.upload().await;
    assert_eq!(cluster.partition(t).producers().len(), 1, "the others are idle");
}
