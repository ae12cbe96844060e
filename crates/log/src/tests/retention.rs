//! Retention by time and size, with a clock that stands still until it is moved.

use std::sync::atomic::Ordering;

use proptest::prelude::*;
use records::{Clock as _, Offset, TopicPartition};

use super::cluster::{Cluster, batch_at, of_producer, options};
use crate::FetchError;
use crate::retention::Retention;

const HOUR: i64 = 3_600_000;

impl Cluster {
    /// One look at everything, and waits until what it gave up is removed.
    async fn look(&self, retention: &mut Retention) {
        retention.look().await;
        self.log().refresh();
        let mut images = self.metadata.watch();
        let swept = images.wait_for(|image| image.trims.is_empty());
        super::cluster::within("the extents are removed", swept).await.unwrap();
    }

    fn retention(&self) -> Retention {
        Retention::new(self.log().for_task())
    }

    /// An extent of one record with this timestamp; gives its bytes.
    async fn extent(&self, id: TopicPartition, timestamp: i64) -> u64 {
        let before = self.state(id).bytes;
        self.append(id, batch_at(timestamp, &["value"])).await;
        self.upload().await;
        self.state(id).bytes - before
    }

    fn start_of(&self, id: TopicPartition) -> i64 {
        self.partition(id).log_start().0
    }
}

#[tokio::test]
async fn what_is_too_old_goes_and_what_is_not_uploaded_or_in_the_future_stays() {
    let cluster = Cluster::new(options()).await;
    let t = cluster.create_with("t", 1, &[("retention.ms", "3600000")]).await[0];
    let now = cluster.clock.now().0;
    for at in [now, now + HOUR / 2, now + 48 * HOUR, now] {
        cluster.extent(t, at).await;
    }
    cluster.append(t, batch_at(now - 100 * HOUR, &["staged"])).await;
    let mut retention = cluster.retention();
    cluster.look(&mut retention).await;
    assert_eq!(cluster.start_of(t), 0);
    cluster.clock.advance(HOUR);
    cluster.look(&mut retention).await;
    assert_eq!(cluster.start_of(t), 0, "it is an hour old, and no older");
    cluster.clock.advance(1);
    cluster.look(&mut retention).await;
    assert_eq!(cluster.start_of(t), 1);
    let refused = cluster.log().read(&cluster.partition(t), Offset(0), Offset(1), 1 << 20).await;
    assert!(matches!(refused, Err(FetchError::OutOfRange { log_start: Offset(1), .. })), "{refused:?}");
    assert_eq!(cluster.read(t).await.len(), 4);
    cluster.clock.advance(24 * HOUR);
    cluster.look(&mut retention).await;
    assert_eq!(cluster.start_of(t), 2, "one in the future keeps all that come after it");
    cluster.clock.advance(48 * HOUR);
    cluster.look(&mut retention).await;
    assert_eq!(cluster.start_of(t), 4, "what is not uploaded stays, however old");
    cluster.upload().await;
    cluster.look(&mut retention).await;
    assert_eq!((cluster.start_of(t), cluster.state(t).bytes), (5, 0), "then it goes");
    assert_eq!(cluster.append(t, batch_at(now, &["next"])).await, Offset(5));
    assert!(cluster.metrics.get().retention_bytes.get() > 0);
    cluster.stop_controller().await;
}

#[tokio::test]
async fn what_is_too_much_goes_while_the_bound_remains() {
    let cluster = Cluster::new(options()).await;
    let probe = cluster.create("probe", 1).await[0];
    let bytes = cluster.extent(probe, 0).await;
    for (name, bound, left) in
        [("exact", 2 * bytes, 2), ("more", 2 * bytes + 1, 3), ("all", 4 * bytes, 4), ("none", 0, 0)]
    {
        let bound = bound.to_string();
        let t = cluster.create_with(name, 1, &[("retention.bytes", &bound), ("retention.ms", "-1")]).await[0];
        for _ in 0..4 {
            assert_eq!(cluster.extent(t, 0).await, bytes);
        }
        let mut retention = cluster.retention();
        cluster.look(&mut retention).await;
        assert_eq!(cluster.state(t).bytes, left * bytes, "{name}");
        assert_eq!(cluster.start_of(t), 4 - i64::try_from(left).unwrap(), "{name}");
        cluster.look(&mut retention).await;
        assert_eq!(cluster.state(t).bytes, left * bytes, "{name}: and no more of it later");
    }
    cluster.stop_controller().await;
}

#[tokio::test]
async fn topics_that_are_not_to_be_deleted_from_keep_everything() {
    let cluster = Cluster::new(options()).await;
    let rules = [("retention.ms", "1"), ("retention.bytes", "0")];
    let mut kept = Vec::new();
    for (name, policy) in [("compacted", "compact"), ("__consumer_offsets", "delete")] {
        let configs = [rules[0], rules[1], ("cleanup.policy", policy)];
        kept.push(cluster.create_with(name, 1, &configs).await[0]);
    }
    kept.push(cluster.create_with("for-ever", 1, &[("retention.ms", "-1")]).await[0]);
    let configs = [rules[0], ("cleanup.policy", "compact,delete")];
    let both = cluster.create_with("both", 1, &configs).await[0];
    for id in kept.iter().chain([&both]) {
        cluster.extent(*id, 0).await;
    }
    let mut retention = cluster.retention();
    cluster.look(&mut retention).await;
    assert!(kept.iter().all(|id| cluster.start_of(*id) == 0));
    assert_eq!(cluster.start_of(both), 1, "as in Kafka, where both policies hold at once");
    cluster.stop_controller().await;
}

#[tokio::test]
async fn records_without_a_timestamp_go_with_the_first_after_them_that_has_one() {
    let cluster = Cluster::new(options()).await;
    let t = cluster.create_with("t", 1, &[("retention.ms", "3600000")]).await[0];
    let now = cluster.clock.now().0;
    cluster.extent(t, -1).await;
    cluster.extent(t, -1).await;
    let mut retention = cluster.retention();
    cluster.look(&mut retention).await;
    assert_eq!(cluster.start_of(t), 0);
    assert!(retention.due().is_empty(), "nothing can change before more is uploaded");
    cluster.extent(t, now).await;
    cluster.extent(t, -1).await;
    cluster.look(&mut retention).await;
    assert_eq!(cluster.start_of(t), 0);
    cluster.clock.advance(2 * HOUR);
    cluster.look(&mut retention).await;
    assert_eq!(cluster.start_of(t), 0, "the first has no time, so nothing says that it is due");
    cluster.extent(t, -1).await;
    cluster.look(&mut retention).await;
    assert_eq!(cluster.start_of(t), 3);
    cluster.stop_controller().await;
}

#[tokio::test]
async fn a_look_at_idle_partitions_asks_nothing() {
    let cluster = Cluster::new(options()).await;
    let all = cluster.create_with("t", 250, &[("retention.ms", "3600000"), ("retention.bytes", "1000000")]).await;
    let now = cluster.clock.now().0;
    for id in &all {
        cluster.append(*id, batch_at(now, &["value"])).await;
    }
    cluster.upload().await;
    let mut retention = cluster.retention();
    assert_eq!(retention.due().len(), 250);
    retention.look().await;
    assert!(retention.due().is_empty(), "what was seen once tells when it is due");
    cluster.clock.advance(HOUR + 1);
    assert_eq!(retention.due().len(), 250);
    let before = cluster.image().revision;
    cluster.look(&mut retention).await;
    assert!(all.iter().all(|id| cluster.state(*id).log_start == Offset(1)));
    let batches = cluster.image().revision - before;
    assert!(batches <= 20, "{batches} batches of metadata for 250 partitions");
    assert!(retention.due().is_empty());
    assert_eq!(cluster.store.gets.load(Ordering::SeqCst), 0, "no object is read for it");
    cluster.stop_controller().await;
}

#[tokio::test]
async fn producers_are_remembered_when_all_their_records_are_gone() {
    let cluster = Cluster::new(options()).await;
    let t = cluster.create_with("t", 1, &[("retention.ms", "1")]).await[0];
    cluster.append(t, of_producer(7, 0, 0, &["a"])).await;
    cluster.upload().await;
    let mut cluster = cluster;
    cluster.restart().await;
    cluster.look(&mut cluster.retention()).await;
    assert_eq!(cluster.start_of(t), 1);
    let again = cluster.send(t, of_producer(7, 0, 0, &["a"])).await.unwrap();
    assert_eq!(again.base_offset, Offset(0), "a repeat is known");
    assert_eq!(cluster.append(t, of_producer(7, 0, 1, &["b"])).await, Offset(1));
    cluster.stop_controller().await;
}

#[derive(Debug, Clone)]
enum Step {
    /// An extent whose record is so old.
    Extent {
        partition: usize,
        age: i64,
    },
    Staged {
        partition: usize,
    },
    Wait(i64),
    Look,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..2_usize, -20..60_i64).prop_map(|(partition, age)| Step::Extent { partition, age }),
        2 => (0..2_usize).prop_map(|partition| Step::Staged { partition }),
        3 => (0..40_i64).prop_map(Step::Wait),
        4 => Just(Step::Look),
        1 => Just(Step::Restart),
    ]
}

/// One partition: the end, the timestamp and the bytes of each extent that is kept; how many records are staged.
#[derive(Default)]
struct Model {
    extents: Vec<(i64, i64, u64)>,
    start: i64,
    end: i64,
}

impl Model {
    /// What Kafka does with segments: the oldest goes while it is too old; then while the rest is still enough.
    fn look(&mut self, now: i64, age_max: i64, bytes_max: u64) {
        while let Some((end, at, len)) = self.extents.first().copied() {
            let bytes: u64 = self.extents.iter().map(|(.., len)| len).sum();
            if now - at <= age_max && bytes - len < bytes_max {
                break;
            }
            self.start = end;
            self.extents.remove(0);
        }
    }
}

async fn live(steps: &[Step]) {
    let mut cluster = Cluster::new(options()).await;
    let rules = [("retention.ms", "30"), ("retention.bytes", "400")];
    let ids = cluster.create_with("t", 2, &rules).await;
    let mut models = [Model::default(), Model::default()];
    let mut retention = cluster.retention();
    let upload = async |cluster: &Cluster, models: &mut [Model; 2], stamps: &mut [Vec<i64>; 2]| {
        let before: Vec<u64> = ids.iter().map(|id| cluster.state(*id).bytes).collect();
        cluster.upload().await;
        for ((id, model), (stamps, before)) in ids.iter().zip(models).zip(stamps.iter_mut().zip(before)) {
            if let Some(newest) = std::mem::take(stamps).into_iter().max() {
                model.extents.push((model.end, newest, cluster.state(*id).bytes - before));
            }
        }
    };
    let mut stamps: [Vec<i64>; 2] = Default::default();
    for step in steps {
        let now = cluster.clock.now().0;
        match step {
            Step::Extent { partition, age } => {
                cluster.append(ids[*partition], batch_at(now - age, &["value"])).await;
                stamps[*partition].push(now - age);
                models[*partition].end += 1;
                upload(&cluster, &mut models, &mut stamps).await;
            }
            Step::Staged { partition } => {
                cluster.append(ids[*partition], batch_at(now - 1000, &["value"])).await;
                stamps[*partition].push(now - 1000);
                models[*partition].end += 1;
            }
            Step::Wait(ms) => cluster.clock.advance(*ms),
            Step::Look => {
                cluster.look(&mut retention).await;
                models.iter_mut().for_each(|model| model.look(now, 30, 400));
            }
            Step::Restart => {
                upload(&cluster, &mut models, &mut stamps).await;
                cluster.restart().await;
                retention = cluster.retention();
            }
        }
        for (id, model) in ids.iter().zip(&models) {
            let kept: u64 = model.extents.iter().map(|(.., len)| len).sum();
            assert_eq!((cluster.start_of(*id), cluster.state(*id).bytes), (model.start, kept), "{id} after {step:?}");
            let read: Vec<i64> = cluster.read(*id).await.into_iter().map(|(offset, _)| offset).collect();
            assert_eq!(read, (model.start..model.end).collect::<Vec<_>>());
        }
    }
    cluster.stop_controller().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn what_goes_is_what_kafka_would_give_up(steps in prop::collection::vec(step(), 5..40)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(live(&steps));
    }
}
