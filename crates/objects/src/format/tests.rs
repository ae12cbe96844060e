use object_store::memory::InMemory;
use object_store::{ObjectStoreExt, path::Path};
use proptest::prelude::*;
use records::{
    Batch, Builder, Codec, Headers, JournalId, LeaderEpoch, Offset, Partition, Position, ProducerId, Timestamp,
    TopicId, TopicPartition,
};
use uuid::Uuid;

use super::*;
use bytes::Bytes;

/// What one extent is made from: batches of (records, bytes, timestamp), and the length of its producer state.
#[derive(Debug, Clone)]
struct Made {
    start: i64,
    batches: Vec<(u32, usize, i64)>,
    state_len: usize,
}

fn topic_partition(number: usize) -> TopicPartition {
    let topic = TopicId(Uuid::from_u128(number as u128 / 3));
    TopicPartition { topic, partition: Partition(i32::try_from(number % 3).unwrap()) }
}

fn batches(made: &Made, seed: u8) -> Vec<Batch> {
    let mut next = Offset(made.start);
    made.batches
        .iter()
        .enumerate()
        .map(|(number, &(records, len, timestamp))| {
            let fill = seed.wrapping_add(u8::try_from(number % 251).unwrap());
            let mut builder = Builder::new(Codec::None);
            for record in 0..records {
                let value = if record == 0 { vec![fill; len] } else { Vec::new() };
                builder.push(Timestamp(timestamp), None, Some(&value), &Headers::NONE).unwrap();
            }
            let mut batch = builder.build();
            batch.assign(next, LeaderEpoch(4));
            next = batch.next_offset();
            batch
        })
        .collect()
}

fn source(number: usize, made: &Made) -> ExtentSource {
    ExtentSource {
        topic_partition: topic_partition(number),
        batches: batches(made, u8::try_from(number % 251).unwrap()),
        producer_snapshot: Bytes::from(vec![7; made.state_len]),
        aborted: vec![Aborted {
            producer_id: ProducerId(i64::try_from(number).unwrap()),
            first_offset: Offset(made.start),
            last_offset: Offset(made.start + 1),
        }],
    }
}

fn build(made: &[Made]) -> Built {
    let mut builder = ObjectBuilder::new(Uuid::from_u128(77), JournalId(3), Position(4096), Position(9000));
    for (number, one) in made.iter().enumerate() {
        builder.push(source(number, one)).unwrap();
    }
    builder.finish()
}

fn whole(built: &Built) -> Bytes {
    built.payload.clone().into()
}

fn slice(bytes: &Bytes, range: std::ops::Range<u64>) -> Bytes {
    bytes.slice(usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap())
}

fn made() -> impl Strategy<Value = Vec<Made>> {
    let batch = (1..50_u32, prop_oneof![0..200_usize, 900..1200_usize, 20_000..90_000_usize], -1..1000_i64);
    let one = (0..1_i64 << 40, prop::collection::vec(batch, 1..12), 0..100_usize);
    prop::collection::vec(one.prop_map(|(start, batches, state_len)| Made { start, batches, state_len }), 0..7)
}

/// Reads everything of an object, and gives an error where anything is damaged.
fn read_all(bytes: &Bytes) -> Result<(), FormatError> {
    let footer = Footer::decode(bytes, bytes.len() as u64)?;
    for extent in &footer.extents {
        extent.check(&[slice(bytes, extent.range())])?;
        extent.check_producers(slice(bytes, extent.producers.range()))?;
        Index::decode(&slice(bytes, extent.index.range()), extent)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_built_is_read_back(made in made()) {
        let built = build(&made);
        let bytes = whole(&built);
        prop_assert_eq!(built.size, bytes.len() as u64);
        let footer = Footer::decode(&bytes, built.size).unwrap();
        prop_assert_eq!(&footer.extents, &built.extents);
        prop_assert_eq!((footer.object, footer.journal), (Uuid::from_u128(77), JournalId(3)));
        prop_assert_eq!((footer.from, footer.to), (Position(4096), Position(9000)));
        prop_assert_eq!(footer.extents.len(), made.len());
        read_all(&bytes).unwrap();
        for (number, (extent, one)) in footer.extents.iter().zip(&made).enumerate() {
            let batches = source(number, one).batches;
            let expected: Vec<u8> = batches.iter().flat_map(Batch::to_bytes).collect();
            prop_assert_eq!(slice(&bytes, extent.range()), expected);
            prop_assert_eq!(extent.topic_partition, topic_partition(number));
            prop_assert_eq!(footer.extents_of(extent.topic_partition), std::slice::from_ref(extent));
            prop_assert_eq!(extent.batch_count as usize, batches.len());
            prop_assert_eq!(extent.record_count, one.batches.iter().map(|batch| u64::from(batch.0)).sum::<u64>());
            prop_assert_eq!(extent.max_timestamp, Timestamp(one.batches.iter().map(|batch| batch.2).max().unwrap()));
            let stored = extent.to_proto();
            prop_assert_eq!(&Extent::from_proto(&stored, extent.object).unwrap(), extent);
            check_index(&bytes, extent, &batches);
        }
    }

    #[test]
    fn a_flipped_byte_is_noticed(made in made(), at: prop::sample::Index, flip in 1..=255_u8) {
        let mut bytes = whole(&build(&made)).to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        prop_assert!(read_all(&bytes.into()).is_err(), "byte {at}");
    }

    #[test]
    fn a_cut_object_is_noticed(made in made(), keep: prop::sample::Index) {
        let bytes = whole(&build(&made));
        let cut = bytes.slice(..keep.index(bytes.len()));
        prop_assert!(read_all(&cut).is_err());
    }

    #[test]
    fn bytes_that_are_no_object_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200), magic: bool, size: u64) {
        let mut bytes = bytes;
        if magic {
            bytes.extend_from_slice(&VERSION.to_le_bytes());
            bytes.extend_from_slice(&MAGIC);
        }
        prop_assert!(Footer::decode(&bytes, size).is_err());
    }

    /// Right checksums over wrong messages: what a bug of ours, or somebody else's file, could bring.
    #[test]
    fn a_signed_but_impossible_footer_is_an_error_or_consistent(
        made in made(), field in 0..9_usize, extent: prop::sample::Index, value: u64, size: u64,
    ) {
        prop_assume!(!made.is_empty());
        let built = build(&made);
        let bytes = whole(&built);
        let mut stored = stored_footer(&bytes);
        let count = stored.extents.len();
        let one = &mut stored.extents[extent.index(count)];
        match field {
            0 => one.position = value,
            1 => one.len = value,
            2 => one.base_offset = value.cast_signed(),
            3 => one.end_offset = value.cast_signed(),
            4 => one.index.as_mut().unwrap().position = value,
            5 => one.producers = None,
            6 => one.topic = Bytes::from(vec![1; usize::try_from(value % 32).unwrap()]),
            7 => one.partition = u32::try_from(value >> 32).unwrap(),
            _ => stored.data_len = value,
        }
        let signed = sign(&stored);
        for size in [size, built.size, signed.len() as u64] {
            if let Ok(footer) = Footer::decode(&signed, size) {
                // What passes is usable: nothing overflows, all blocks lie inside.
                for extent in &footer.extents {
                    prop_assert!(extent.range().end <= size && extent.index.range().end <= size);
                    prop_assert!(extent.base_offset < extent.end_offset);
                }
            }
        }
    }

    #[test]
    fn a_signed_but_impossible_index_is_an_error_or_consistent(
        entries in prop::collection::vec((any::<u64>(), any::<u64>(), any::<i64>()), 0..4), small: bool, offset: i64, bytes_max: u64,
    ) {
        let entries = entries
            .into_iter()
            .enumerate()
            .map(|(number, (offset_delta, position, max_timestamp_before))| proto::objects::IndexEntry {
                offset_delta: if small { number as u64 } else { offset_delta },
                position: if small { number as u64 * 61 } else { position },
                max_timestamp_before,
            })
            .collect();
        let bytes = prost::Message::encode_to_vec(&proto::objects::Index { entries, aborted: Vec::new() });
        let built = build(&[Made { start: i64::MAX - 100, batches: vec![(10, 100, 5), (10, 100, 6)], state_len: 0 }]);
        let mut extent = built.extents[0].clone();
        extent.index.crc = crc32c::crc32c(&bytes);
        if let Ok(index) = Index::decode(&bytes, &extent)
            && let Some(place) = index.find_offset(Offset(offset)).or(index.find_timestamp(Timestamp(5)))
        {
            let range = index.stretch(place, bytes_max);
            prop_assert!(extent.position <= range.start && range.start < range.end && range.end <= extent.range().end);
        }
    }
}

/// For every batch: its offset and its time lead to an entry at or before it, not further than the interval allows.
fn check_index(bytes: &Bytes, extent: &Extent, batches: &[Batch]) {
    let index = Index::decode(&slice(bytes, extent.index.range()), extent).unwrap();
    assert_eq!(index.aborted().len(), 1);
    let mut starts = Vec::new();
    let mut position = extent.position;
    for batch in batches {
        starts.push((batch.base_offset(), position));
        position += batch.len() as u64;
    }
    let place = |offset: Offset| index.find_offset(offset);
    assert_eq!(place(Offset(extent.base_offset.0 - 1)), None);
    assert_eq!(place(extent.end_offset), None);
    for (number, batch) in batches.iter().enumerate() {
        for offset in [batch.base_offset(), batch.last_offset()] {
            let place = place(offset).unwrap();
            assert!(starts.contains(&(place.offset, place.position)), "an entry is a batch");
            assert!(place.offset <= offset);
            assert!(starts[number].1 - place.position < INDEX_INTERVAL_BYTES, "entries stand close enough");
            for bytes_max in [0, 1, 70_000, 150_000, u64::MAX] {
                let range = index.stretch(place, bytes_max);
                assert_eq!(range.start, place.position);
                assert!(range.end > starts[number].1, "the batch itself is in it");
                let ends_a_batch = range.end == extent.range().end || starts.iter().any(|start| start.1 == range.end);
                assert!(ends_a_batch, "only whole batches");
                let next = index.stretch(place, 0).end;
                assert!(range.end <= (place.position.saturating_add(bytes_max)).max(next), "no more than asked for");
            }
        }
    }
    for timestamp in -2..1001 {
        let first = batches.iter().position(|batch| batch.header().max_timestamp.0 >= timestamp);
        match (index.find_timestamp(Timestamp(timestamp)), first) {
            (None, None) => {}
            (Some(place), Some(first)) => {
                assert!(place.position <= starts[first].1, "nothing before the place is late enough");
            }
            (found, first) => panic!("{found:?} for {first:?}"),
        }
    }
}

fn stored_footer(bytes: &Bytes) -> proto::objects::Footer {
    let end = bytes.len() - TAIL_LEN;
    let len = u32::from_le_bytes(bytes[end..end + 4].try_into().unwrap());
    prost::Message::decode(&bytes[end - len as usize..end]).unwrap()
}

fn sign(footer: &proto::objects::Footer) -> Vec<u8> {
    let mut out = prost::Message::encode_to_vec(footer);
    let len = u32::try_from(out.len()).unwrap().to_le_bytes();
    let crc = crc32c::crc32c(&[&out[..], &len, &VERSION.to_le_bytes()].concat());
    out.extend_from_slice(&len);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&MAGIC);
    out
}

#[test]
fn records_are_handed_on_by_reference() {
    let source = source(0, &Made { start: 0, batches: vec![(1, 100_000, 1), (1, 5, 1), (1, 50_000, 1)], state_len: 0 });
    let bodies: Vec<Bytes> = source.batches.iter().map(|batch| batch.body().clone()).collect();
    let mut builder = ObjectBuilder::new(Uuid::nil(), JournalId(1), Position(0), Position(1));
    builder.push(source).unwrap();
    let built = builder.finish();
    for body in [&bodies[0], &bodies[2]] {
        assert!(built.payload.iter().any(|part| part.as_ptr() == body.as_ptr() && part.len() == body.len()));
    }
    assert_eq!(built.payload.iter().count(), 5, "what is small shares a slice with its neighbours");
}

#[test]
fn a_damaged_batch_never_becomes_an_object() {
    let mut source = source(0, &Made { start: 0, batches: vec![(1, 100, 1), (1, 100, 1)], state_len: 0 });
    let mut bytes = source.batches[1].to_bytes().to_vec();
    bytes[100] ^= 1;
    source.batches[1] = Batch::decode(bytes.into()).unwrap();
    let mut builder = ObjectBuilder::new(Uuid::nil(), JournalId(1), Position(0), Position(1));
    let error = builder.push(source).unwrap_err();
    assert_eq!((error.topic_partition, error.offset), (topic_partition(0), Offset(1)));
}

#[test]
fn a_newer_version_says_so() {
    let mut bytes = whole(&build(&[])).to_vec();
    let at = bytes.len() - 12;
    bytes[at] = 2;
    assert_eq!(Footer::decode(&bytes, bytes.len() as u64), Err(FormatError::Version(2)));
    assert!(FormatError::Version(2).to_string().contains("upgrade"));
}

/// The bytes of version 1 must never change: objects outlive the code.
#[test]
fn version_1_is_what_it_was() {
    let built = build(&[Made { start: 5, batches: vec![(2, 3, 9)], state_len: 2 }]);
    let bytes = whole(&built);
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, VERSION_1_HEX);
}

const VERSION_1_HEX: &str = concat!(
    "0000000000000005000000420000000402c0763bf800000000000100000000000000090000000000000009ffffffffffffff",
    "ffffffffffffff00000002120000000106000000000c00000201000007070a0218011204100518060a100000000000000000",
    "000000000000004d100318802020a846284e32390a100000000000000000000000000000000018052007304e3de31e8c1d40",
    "01480250125a090850100a1ddc1dd6d86209084e10021d7cdac65f57000000a22ed755010000007765697264617461",
);

#[test]
#[should_panic(expected = "contiguous")]
fn a_gap_between_batches_never_becomes_an_object() {
    let mut gap = source(0, &Made { start: 0, batches: vec![(1, 1, 1), (1, 1, 1)], state_len: 0 });
    gap.batches[1].assign(Offset(2), LeaderEpoch(4));
    let mut builder = ObjectBuilder::new(Uuid::nil(), JournalId(1), Position(0), Position(1));
    let _ = builder.push(gap);
}

#[test]
#[should_panic(expected = "sorted")]
fn unsorted_extents_never_become_an_object() {
    let mut builder = ObjectBuilder::new(Uuid::nil(), JournalId(1), Position(0), Position(1));
    for number in [4, 3] {
        builder.push(source(number, &Made { start: 0, batches: vec![(1, 1, 1)], state_len: 0 })).unwrap();
    }
}

/// A partition whose leader moved away and came back has two runs in one journal.
#[test]
fn a_partition_may_have_two_runs() {
    let mut builder = ObjectBuilder::new(Uuid::nil(), JournalId(1), Position(0), Position(1));
    for (number, start) in [(0, 5), (1, 0), (1, 10), (2, 7)] {
        builder.push(source(number, &Made { start, batches: vec![(3, 1, 1)], state_len: 0 })).unwrap();
    }
    let built = builder.finish();
    let footer = Footer::decode(&whole(&built), built.size).unwrap();
    let runs: Vec<_> = footer.extents_of(topic_partition(1)).iter().map(|extent| extent.base_offset.0).collect();
    assert_eq!(runs, [0, 10]);
}

#[tokio::test]
async fn a_footer_is_read_from_a_store_small_or_large() {
    let store = InMemory::new();
    // The last has more extents than the first guess holds.
    for count in [0, 1, 2500] {
        let one = Made { start: 1, batches: vec![(1, 300, 1)], state_len: 0 };
        let built = build(&vec![one; count]);
        let key = Path::from(format!("{count}"));
        store.put(&key, built.payload.clone()).await.unwrap();
        let footer = Footer::read(&store, &key, built.size).await.unwrap();
        assert_eq!(footer.extents, built.extents);
        if count == 2500 {
            assert!(built.size - footer.extents.last().unwrap().index.range().end > TAIL_GUESS_LEN);
        }
        // A size that is not the object's is an error.
        for size in [0, 10, built.size - 1, built.size + 1, built.size * 2] {
            let error = Footer::read(&store, &key, size).await.unwrap_err();
            assert!(error.to_string().contains(&key.to_string()), "{error}");
        }
    }
    let missing = Footer::read(&store, &Path::from("none"), 100).await.unwrap_err();
    assert!(matches!(missing, FooterError::Store { .. }));
}
