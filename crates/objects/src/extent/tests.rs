use std::sync::Arc;

use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use proptest::prelude::*;
use records::{Builder, Codec, Headers, JournalId, LeaderEpoch, Partition, Position, TopicId, TopicPartition};
use uuid::Uuid;

use super::*;
use crate::cache::Options;
use crate::format::{ExtentSource, ObjectBuilder};

struct Bench {
    store: Arc<InMemory>,
    reader: Reader,
    object: Object,
    extents: Vec<Extent>,
    batches: Vec<Batch>,
}

fn batch(offset: Offset, len: usize, timestamp: i64) -> Batch {
    let mut builder = Builder::new(Codec::None);
    builder.push(Timestamp(timestamp), None, Some(&vec![b'x'; len]), &Headers::NONE).unwrap();
    builder.push(Timestamp(timestamp - 1), Some(b"k"), None, &Headers::NONE).unwrap();
    let mut batch = builder.build();
    batch.assign(offset, LeaderEpoch(3));
    batch
}

/// Three extents, of which the middle one has the given batches of two records each, from offset 100 on.
async fn bench(made: &[(usize, i64)], chunk_bytes: u64) -> Bench {
    let id = Uuid::from_u128(5);
    let mut next = Offset(100);
    let batches: Vec<Batch> = made
        .iter()
        .map(|&(len, timestamp)| {
            let batch = batch(next, len, timestamp);
            next = batch.next_offset();
            batch
        })
        .collect();
    let mut builder = ObjectBuilder::new(id, JournalId(1), Position(0), Position(10));
    for partition in 0..3 {
        let batches = if partition == 1 { batches.clone() } else { vec![batch(Offset(0), 777, 1)] };
        let topic_partition = TopicPartition { topic: TopicId(Uuid::from_u128(1)), partition: Partition(partition) };
        let producer_snapshot = Bytes::from(format!("producers of {partition}"));
        builder.push(ExtentSource { topic_partition, batches, producer_snapshot, aborted: Vec::new() }).unwrap();
    }
    let built = builder.finish();
    let object = Object { id, key: Path::from("o"), size: built.size };
    let store = Arc::new(InMemory::new());
    store.put(&object.key, built.payload).await.unwrap();
    let options = Options { chunk_bytes, ..Options::default() };
    let reader = Reader::new(Arc::clone(&store) as Arc<dyn ObjectStore>, options);
    Bench { store, reader, object, extents: built.extents, batches }
}

impl Bench {
    fn extent(&self) -> ExtentReader<'_> {
        ExtentReader::new(&self.reader, &self.object, &self.extents[1])
    }
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn reading_from_offset_to_offset_gives_every_batch_once(
        made in prop::collection::vec((prop_oneof![0..300_usize, 10_000..40_000_usize], 0..50_i64), 1..25),
        chunk_bytes in prop_oneof![Just(700_u64), Just(50_000), Just(1 << 20)],
        bytes_max in prop_oneof![Just(0_u64), Just(5_000), Just(100_000), Just(u64::MAX)],
        first in 0..50_i64,
    ) {
        run(async {
            let bench = bench(&made, chunk_bytes).await;
            let mut ahead = ReadAhead::new();
            let last = bench.extents[1].end_offset;
            let mut from = Offset((100 + first).min(last.0 - 1));
            let expected: Vec<_> = bench.batches.iter().filter(|batch| batch.next_offset() > from).collect();
            let mut read = Vec::new();
            while from < last {
                let batches = bench.extent().read(from, bytes_max, &[], &mut ahead).await.unwrap();
                assert!(batches[0].base_offset() <= from && from < batches[0].next_offset());
                let bytes: u64 = batches.iter().map(|batch| batch.len() as u64).sum();
                assert!(batches.len() == 1 || bytes <= bytes_max);
                from = batches.last().unwrap().next_offset();
                read.extend(batches);
            }
            assert_eq!(read.iter().collect::<Vec<_>>(), expected);
            assert_eq!(bench.extent().read(last, bytes_max, &[], &mut ahead).await.unwrap(), Vec::new());
let first = bench.extent().read(Offset(0), bytes_max, &[], &mut ahead).await.unwrap();
            assert_eq!(first[0], bench.batches[0]);
        });
    }

    #[test]
    fn the_first_batch_late_enough_is_found(
        made in prop::collection::vec((prop_oneof![0..300_usize, 30_000..40_000_usize], 0..50_i64), 1..60),
    ) {
        run(async {
            let bench = bench(&made, 50_000).await;
            for at in (-1..51).step_by(3) {
                for from in [0, 100, 101, 117, 160, 219, 300] {
                    let expected = bench.batches.iter().find(|batch| {
                        batch.header().max_timestamp.0 >= at && batch.last_offset().0 >= from
                    });
                    let found = bench.extent().find_timestamp(Timestamp(at), Offset(from)).await.unwrap();
                    assert_eq!(found.as_ref(), expected, "{at} from {from}");
                }
            }
        });
    }

    /// Whatever byte of the extent is wrong, no reader gets it: but for the leader epoch (4 bytes), which no checksum of a
    /// batch covers; the extent's own checksum does.
    #[test]
    fn damaged_batches_are_never_given_out(at: prop::sample::Index, flip in 1..=255_u8) {
        run(async {
            let bench = bench(&[(500, 1), (500, 1), (500, 1)], 1 << 20).await;
            let mut bytes = bench.store.get(&bench.object.key).await.unwrap().bytes().await.unwrap().to_vec();
            let extent = &bench.extents[1];
            let at = at.index(usize::try_from(extent.len).unwrap());
            let batch_len = bench.batches[0].len();
            let epoch = (12..16).contains(&(at % batch_len));
            bytes[usize::try_from(extent.position).unwrap() + at] ^= flip;
            bench.store.put(&bench.object.key, bytes.into()).await.unwrap();
            let read = bench.extent().read(Offset(100), u64::MAX, &[], &mut ReadAhead::new()).await;
            assert!(epoch || matches!(read, Err(ReadError::Format { .. })), "byte {at}: {read:?}");
            let all = bench.reader.read(&bench.object, extent.range()).await.unwrap();
            assert!(extent.check(&all).is_err());
        });
    }
}

/// The base offset lies outside of a batch's checksum: what shows a wrong one is the batch before it.
#[tokio::test]
async fn a_batch_at_a_wrong_offset_is_never_given_out() {
    let bench = bench(&[(500, 1), (500, 1), (500, 1)], 1 << 20).await;
    let mut bytes = bench.store.get(&bench.object.key).await.unwrap().bytes().await.unwrap().to_vec();
    // The last byte of the second batch's base offset: 102 becomes 103.
    let at = usize::try_from(bench.extents[1].position).unwrap() + bench.batches[0].len() + 7;
    bytes[at] ^= 1;
    bench.store.put(&bench.object.key, bytes.into()).await.unwrap();
    let read = bench.extent().read(Offset(100), u64::MAX, &[], &mut ReadAhead::new()).await;
    assert!(matches!(read, Err(ReadError::Format { source: FormatError::Invalid { .. }, .. })), "{read:?}");
}

#[tokio::test]
async fn the_producer_state_is_given_back_unless_damaged() {
    let bench = bench(&[(500, 1)], 1 << 20).await;
    assert_eq!(bench.extent().producer_snapshot().await.unwrap(), "producers of 1");
    let mut wrong = bench.extents[1].clone();
    wrong.producers = bench.extents[2].producers;
    wrong.producers.crc ^= 1;
    let read = ExtentReader::new(&bench.reader, &bench.object, &wrong).producer_snapshot().await;
    assert!(matches!(read, Err(ReadError::Format { .. })), "{read:?}");
}

#[tokio::test]
async fn only_a_batch_across_chunks_is_copied() {
    let bench = bench(&[(300, 1), (300, 1), (300, 1), (300, 1)], 1 << 20).await;
    let read = bench.extent().read(Offset(100), u64::MAX, &[], &mut ReadAhead::new()).await.unwrap();
    let whole = bench.reader.read(&bench.object, bench.extents[1].range()).await.unwrap();
    assert_eq!(whole.len(), 1);
    let inside = whole[0].as_ptr() as usize..whole[0].as_ptr() as usize + whole[0].len();
    assert!(read.iter().all(|batch| inside.contains(&(batch.body().as_ptr() as usize))));
}
