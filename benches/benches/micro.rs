//! Micro-benchmarks: `cargo bench -p weir-benches`. What they show is where a change went, not what a broker can do.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::Duration;

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use journal::{Catalog, Committed, Options, Segment, Staging, Stats, Writer};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt as _};
use objects::cache::{Object, Reader};
use records::{Batch, JournalId, TopicId, TopicPartition};
use weir_benches::{Ground, requests};
use wire::{Message as _, RequestHeader};

/// A batch as the Java client makes it by default, of records of 1 KiB.
const RECORDS: u32 = 15;
const RECORD_BYTES: usize = 1024;

fn codec(c: &mut Criterion) {
    let produce = requests::produce(&requests::batch(RECORDS, RECORD_BYTES), 1);
    let fetch = requests::fetch(0, 1 << 20, 1);
    let mut group = c.benchmark_group("codec");
    group.bench_function("decode a produce request", |b| {
        b.iter(|| {
            let mut body = black_box(&produce).clone();
            let header = RequestHeader::decode(&mut body).expect("a header");
            wire::produce::Request::decode(&mut body, header.api_version).expect("a body")
        });
    });
    group.bench_function("decode a fetch request", |b| {
        b.iter(|| {
            let mut body = black_box(&fetch).clone();
            let header = RequestHeader::decode(&mut body).expect("a header");
            wire::fetch::Request::decode(&mut body, header.api_version).expect("a body")
        });
    });
    let part = wire::produce::PartitionProduceResponse { base_offset: 7, ..Default::default() };
    let topic = wire::produce::TopicProduceResponse { partition_responses: vec![part; 8], ..Default::default() };
    let response = wire::produce::Response { responses: vec![topic], ..Default::default() };
    group.bench_function("encode a produce response of 8 partitions", |b| {
        b.iter(|| wire::encode_response(0_i16, requests::PRODUCE_VERSION, 1, black_box(&response)).expect("an answer"));
    });
}

fn batches(c: &mut Criterion) {
    let mut group = c.benchmark_group("batch");
    for (name, records) in [("16 KiB", RECORDS), ("1 MiB", 1000)] {
        let bytes = requests::batch(records, RECORD_BYTES).to_segments().concat();
        let bytes = Bytes::from(bytes);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("header and checksum of {name}"), |b| {
            b.iter(|| {
                let batch = Batch::decode(black_box(&bytes).clone()).expect("a batch");
                batch.check_produced(2 << 20).expect("a good one");
            });
        });
    }
}

/// Tells how many appends are committed.
struct Told(SyncSender<usize>);

impl Committed<()> for Told {
    fn committed(&mut self, tokens: &mut dyn Iterator<Item = ()>) {
        let _ = self.0.send(tokens.count());
    }

    fn sealed(&mut self, _: Arc<Segment>) {}

    fn synced(&mut self, _: Stats) {}

    fn failed(&mut self, error: &std::io::Error) {
        panic!("the folder for temporary files does not take a journal: {error}");
    }
}

/// Groups of appends, from the queue to the disk of the folder for temporary files and back.
fn group_commit(c: &mut Criterion) {
    let batch = requests::batch(RECORDS, RECORD_BYTES);
    let partition = TopicPartition { topic: TopicId(uuid::Uuid::nil()), partition: 0.into() };
    let mut group = c.benchmark_group("group commit");
    for appends in [1_usize, 32] {
        let folder = tempfile::tempdir().expect("a folder");
        let staging = Staging::new(folder.path());
        let journal = JournalId(1);
        let options = Options {
            disk: staging.disk().clone(),
            folder: staging.create(journal).expect("a folder of the journal"),
            journal,
            segment_bytes: 64 << 20,
            seal_interval: Duration::from_secs(3600),
            queue_bytes_max: 64 << 20,
        };
        let (sender, told) = sync_channel(1024);
        let writer = Writer::start(options, Arc::new(Catalog::default()), Told(sender)).expect("a journal");
        group.throughput(Throughput::Bytes((batch.len() * appends) as u64));
        group.bench_function(format!("{appends} appends"), |b| {
            b.iter(|| {
                for _ in 0..appends {
                    writer.append(partition, batch.clone(), ()).expect("room in the queue");
                }
                let mut left = appends;
                while left > 0 {
                    left -= told.recv().expect("the journal's thread lives");
                }
            });
        });
        writer.close();
    }
}

fn cache(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let store = Arc::new(InMemory::new());
    let object = Object { id: uuid::Uuid::from_u128(1), key: Path::from("object"), size: 4 << 20 };
    runtime.block_on(store.put(&object.key, vec![7; 4 << 20].into())).expect("memory takes it");
    let reader = Reader::new(store as Arc<dyn ObjectStore>, objects::cache::Options::default());
    runtime.block_on(reader.read(&object, 0..4 << 20)).expect("it is there");
    c.bench_function("cache: 64 KiB that are there", |b| {
        b.iter(|| runtime.block_on(reader.read(black_box(&object), 65_536..131_072)).expect("it is there"));
    });
}

/// A request from its frame to its answer's bytes, on a disk in memory.
fn requests_whole(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let ground = runtime.block_on(Ground::open(8 << 20)).expect("a ground");
    let produce = requests::produce(&requests::batch(RECORDS, RECORD_BYTES), 1);
    let ask = |payload: Bytes| runtime.block_on(ground.ask(payload)).expect("an answer");
    ask(produce.clone());
    let fetch = requests::fetch(0, 1, 1);
    c.bench_function("fetch 16 KiB from memory", |b| b.iter_batched(|| fetch.clone(), &ask, BatchSize::SmallInput));
}

criterion_group!(micro, codec, batches, group_commit, cache, requests_whole);
criterion_main!(micro);
