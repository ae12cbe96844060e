//! Random histories against a model: what was acknowledged is read back once, at its offset, in order.

use std::collections::BTreeMap;

use proptest::prelude::*;
use records::{Offset, TopicPartition};

use super::cluster::{Cluster, Options, Puts, batch, of_producer, options, within};

const PARTITIONS: u32 = 3;

#[derive(Debug, Clone)]
enum Step {
    /// Appends so many batches to each partition named, and waits for the acknowledgements, or not.
    Append {
        partitions: Vec<usize>,
        records: usize,
        wait: bool,
    },
    /// The last batch of an idempotent producer again, or its next.
    Produce {
        partition: usize,
        again: bool,
    },
    Seal,
    Upload,
    Store(Puts),
    Restart,
    Lose,
    DeleteRecords {
        partition: usize,
        part: u8,
    },
    Forget,
}

fn step() -> impl Strategy<Value = Step> {
    let partition = 0..PARTITIONS as usize;
    prop_oneof![
        8 => (prop::collection::vec(partition.clone(), 1..6), 1_usize..4, prop::bool::weighted(0.8))
            .prop_map(|(partitions, records, wait)| Step::Append { partitions, records, wait }),
        4 => (partition.clone(), any::<bool>()).prop_map(|(partition, again)| Step::Produce { partition, again }),
        3 => Just(Step::Seal),
        1 => Just(Step::Upload),
        2 => prop_oneof![
            Just(Puts::Pass), Just(Puts::Pass), Just(Puts::Blocked), Just(Puts::Fail(1)), Just(Puts::LoseAnswer(1))
        ].prop_map(Step::Store),
        3 => Just(Step::Restart),
        1 => Just(Step::Lose),
        1 => (partition, any::<u8>()).prop_map(|(partition, part)| Step::DeleteRecords { partition, part }),
        1 => Just(Step::Forget),
    ]
}

/// What a partition must hold.
#[derive(Default)]
struct Model {
    /// Acknowledged, by offset.
    acked: BTreeMap<i64, String>,
    /// Handed over, but not acknowledged when the process died: may be there.
    unknown: BTreeMap<i64, String>,
    /// The highest offset that was ever given out.
    highest: i64,
    log_start: i64,
    /// The idempotent producer: its last batch, where that was acknowledged, and its next sequence.
    last: Option<(i32, i64, String)>,
    next_sequence: i32,
    /// Its last batch was lost with a disk: what comes next is a new producer.
    producer: i64,
}

struct World {
    cluster: Cluster,
    ids: Vec<TopicPartition>,
    models: Vec<Model>,
    count: usize,
}

impl World {
    async fn step(&mut self, step: &Step) {
        match step {
            Step::Append { partitions, records, wait } => self.append(partitions, *records, *wait).await,
            Step::Produce { partition, again } => self.produce(*partition, *again).await,
            Step::Seal => self.cluster.log().seal(),
            Step::Upload => {
                self.cluster.store.puts(Puts::Pass);
                self.cluster.upload().await;
            }
            Step::Store(puts) => self.cluster.store.puts(*puts),
            Step::Restart => {
                self.cluster.restart().await;
                for (id, model) in self.ids.iter().zip(&mut self.models) {
                    // What was not durable was never acknowledged and never served: its offsets are free.
                    let end = self.cluster.partition(*id).high_watermark().0;
                    model.unknown.retain(|offset, _| *offset < end);
                    model.highest = model.highest.min(end - 1);
                }
                self.check().await;
            }
            Step::Lose => {
                self.cluster.kill_and_lose_disk().await;
                for (id, model) in self.ids.iter().zip(&mut self.models) {
                    let frontier = self.cluster.state(*id).frontier.0;
                    // What is not uploaded is lost; what is must stay.
                    model.acked.retain(|offset, _| *offset < frontier);
                    model.unknown.retain(|offset, _| *offset < frontier);
                    if model.last.as_ref().is_some_and(|(_, offset, _)| *offset >= frontier) {
                        (model.last, model.next_sequence) = (None, 0);
                        model.producer += 100;
                    }
                }
                self.cluster.start().await;
                self.check().await;
            }
            Step::DeleteRecords { partition, part } => {
                let (id, model) = (self.ids[*partition], &mut self.models[*partition]);
                let (start, end) = (model.log_start, self.cluster.partition(id).high_watermark().0);
                let below = start + (end - start) * i64::from(*part) / 256;
                self.cluster.delete_records(id, Offset(below)).await;
                model.log_start = below;
                model.acked.retain(|offset, _| *offset >= below);
                model.unknown.retain(|offset, _| *offset >= below);
                if model.last.as_ref().is_some_and(|(_, offset, _)| *offset < below) {
                    // The snapshot may go with the records.
                    (model.last, model.next_sequence) = (None, 0);
                    model.producer += 100;
                }
            }
            Step::Forget => self.ids.iter().for_each(|id| self.cluster.forget_tail(*id)),
        }
    }

    fn values(&mut self, count: usize) -> Vec<String> {
        (0..count)
            .map(|_| {
                self.count += 1;
                format!("{}-{}", self.count, "v".repeat(self.count * 37 % 400))
            })
            .collect()
    }

    async fn append(&mut self, partitions: &[usize], records: usize, wait: bool) {
        let mut waiting = Vec::new();
        for partition in partitions {
            let values = self.values(records);
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            let appended = self.cluster.send(self.ids[*partition], batch(&values)).await.unwrap();
            let model = &mut self.models[*partition];
            let base = appended.base_offset.0;
            assert!(base > model.highest, "offset {base} was given out before (up to {})", model.highest);
            model.highest = base + i64::try_from(records).unwrap() - 1;
            let numbered = (base..).zip(values.into_iter().map(str::to_owned));
            match wait {
                true => {
                    let numbered: Vec<_> = numbered.collect();
                    waiting.push((*partition, numbered, appended.committed));
                }
                false => model.unknown.extend(numbered),
            }
        }
        for (partition, numbered, committed) in waiting {
            within("it is acknowledged", committed).await.unwrap();
            self.models[partition].acked.extend(numbered);
        }
    }

    async fn produce(&mut self, partition: usize, again: bool) {
        let id = self.ids[partition];
        let model = &self.models[partition];
        if let Some((sequence, offset, value)) = model.last.clone().filter(|_| again) {
            let found = self.cluster.append(id, of_producer(model.producer, 0, sequence, &[&value])).await;
            assert_eq!(found.0, offset, "a retry is answered with the first one's place");
            return;
        }
        let value = self.values(1).remove(0);
        let model = &mut self.models[partition];
        let offset = self.cluster.append(id, of_producer(model.producer, 0, model.next_sequence, &[&value])).await.0;
        assert!(offset > model.highest, "offset {offset} was given out before (up to {})", model.highest);
        model.highest = offset;
        model.acked.insert(offset, value.clone());
        model.last = Some((model.next_sequence, offset, value));
        model.next_sequence += 1;
    }

    async fn check(&self) {
        for (id, model) in self.ids.iter().zip(&self.models) {
            let partition = self.cluster.partition(*id);
            assert_eq!(partition.log_start().0, model.log_start);
            let found = self.cluster.read(*id).await;
            assert!(found.windows(2).all(|two| two[0].0 < two[1].0), "in order, each once: {found:?}");
            for (offset, value) in &found {
                let known = model.acked.get(offset).or_else(|| model.unknown.get(offset));
                assert_eq!(known, Some(value), "offset {offset} of {id}");
            }
            let found: BTreeMap<_, _> = found.into_iter().collect();
            for offset in model.acked.keys() {
                assert!(found.contains_key(offset), "acknowledged offset {offset} of {id} is missing");
            }
        }
        let log = self.cluster.log();
        self.cluster.until("the count follows", || log.staged_bytes() == log.inner.catalog.usage().staged_bytes).await;
    }
}

async fn run(steps: &[Step]) {
    let cluster = Cluster::new(Options { segment_bytes: 3000, ..options() }).await;
    let ids = cluster.create("t", PARTITIONS).await;
    let models =
        (0..PARTITIONS).map(|n| Model { highest: -1, producer: 1 + i64::from(n), ..Model::default() }).collect();
    let mut world = World { cluster, ids, models, count: 0 };
    for step in steps {
        world.step(step).await;
    }
    world.check().await;
    world.cluster.store.puts(Puts::Pass);
    world.cluster.upload().await;
    world.check().await;
    // Everything is in the store now.
    world.cluster.restart_without_disk().await;
    world.check().await;
    world.append(&[0, 1, 2], 2, true).await;
    world.cluster.restart().await;
    world.check().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_was_acknowledged_is_read_once_at_its_offset_and_in_order(steps in prop::collection::vec(step(), 5..40)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(run(&steps));
    }
}
