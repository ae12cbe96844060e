//! Property tests of batches as a whole, and of the limits.

use bytes::{BufMut, Bytes, BytesMut};
use proptest::prelude::*;

use crate::*;

const INFLATED_MAX: usize = 1 << 22;

fn bytes(len: usize) -> impl Strategy<Value = Bytes> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..len).prop_map(Bytes::from),
        (any::<u8>(), 0..len * 20).prop_map(|(byte, len)| Bytes::from(vec![byte; len])),
    ]
}

fn some_record() -> impl Strategy<Value = Record> {
    let optional = || proptest::option::of(bytes(200));
    let headers = proptest::collection::vec((bytes(20), optional()), 0..4);
    let timestamp = prop_oneof![0..i64::from(u32::MAX) * 1000, Just(1), Just(i64::MAX - 5)];
    (timestamp, optional(), optional(), headers).prop_map(|(timestamp, key, value, headers)| Record {
        offset: Offset(0),
        timestamp: Timestamp(timestamp),
        key,
        value,
        headers: headers.into_iter().collect(),
    })
}

fn some_codec() -> impl Strategy<Value = Codec> {
    proptest::sample::select(&Codec::ALL[..])
}

fn build(codec: Codec, records: &[Record]) -> Batch {
    let mut builder = Builder::new(codec).producer(ProducerId(9), ProducerEpoch(1), 17);
    for record in records {
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        let before = builder.size_estimate();
        match builder.push(record.timestamp, key, value, &record.headers) {
            Ok(()) => {
                let headers: Vec<_> = record.headers.iter().collect();
                let max = Builder::record_size_max(key, value, &headers);
                assert!(builder.size_estimate() - before <= max);
            }
            Err(error) => panic!("{error}"),
        }
    }
    builder.build()
}

fn collect(batch: &Batch) -> Result<Vec<Record>, BatchError> {
    batch.records(INFLATED_MAX)?.collect()
}

proptest! {
    #[test]
    fn what_is_built_is_read_back(
        codec in some_codec(),
        mut records in proptest::collection::vec(some_record(), 1..20),
        base in 0..i64::MAX - 100,
        epoch in any::<i32>(),
    ) {
        let mut batch = build(codec, &records);
        batch.check_produced(INFLATED_MAX).unwrap();
        batch.assign(Offset(base), LeaderEpoch(epoch));
        batch.check_crc().unwrap();
        for (record, delta) in records.iter_mut().zip(0..) {
            record.offset = Offset(base).after(delta);
        }
        let decoded = Batch::decode(batch.to_bytes()).unwrap();
        prop_assert_eq!(&decoded, &batch);
        prop_assert_eq!(decoded.base_offset(), Offset(base));
        prop_assert_eq!(decoded.next_offset(), records.last().unwrap().offset.after(1));
        prop_assert_eq!(decoded.header().max_timestamp, records.iter().map(|r| r.timestamp).max().unwrap());
        prop_assert_eq!(collect(&decoded).unwrap(), records);
    }

    #[test]
    fn flipped_or_cut_batches_are_errors_or_fail_their_crc(
        codec in some_codec(),
        records in proptest::collection::vec(some_record(), 1..10),
        at in any::<prop::sample::Index>(),
        flip in 1..=255_u8,
        cut in any::<prop::sample::Index>(),
    ) {
        let whole = build(codec, &records).to_bytes();
        let at = at.index(whole.len());
        let mut flipped = whole.to_vec();
        flipped[at] ^= flip;
        if let Ok(batch) = Batch::decode(flipped.into()) {
            prop_assert_eq!(batch.check_crc().is_ok(), at < 8 || (12..16).contains(&at));
            let _ = collect(&batch);
        }
        let cut = whole.slice(..cut.index(whole.len()));
        prop_assert!(Batch::decode(cut).is_err());
    }

    /// As above, but the header is right and the CRC too: nothing but the walk itself stands between damage and us.
    #[test]
    fn damaged_bodies_with_a_right_crc_never_panic(
        codec in some_codec(),
        records in proptest::collection::vec(some_record(), 1..10),
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let batch = build(codec, &records);
        let mut body = batch.body().to_vec();
        for (at, byte) in damage {
            let at = at.index(body.len());
            body[at] = byte;
        }
        if let Some(cut) = cut {
            body.truncate(cut.index(body.len()));
        }
        let damaged = Batch::seal(batch.header().clone(), body.into());
        damaged.check_crc().unwrap();
        if let Ok(read) = collect(&damaged) {
            prop_assert_eq!(read.len(), records.len());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(codec in some_codec(), input in bytes(2_000)) {
        let _ = codec.inflate(&input, 10_000);
        let _ = Header::decode(&input);
        let mut run = input.clone();
        while let Ok(Some(batch)) = Batch::split_first(&mut run) {
            let _ = collect(&batch);
        }
        let header = build(codec, &[Record {
            offset: Offset(0), timestamp: Timestamp(0), key: None, value: None, headers: Headers::NONE,
        }]).header().clone();
        let _ = collect(&Batch::seal(header, input));
    }

    #[test]
    fn a_run_splits_into_its_batches(
        runs in proptest::collection::vec(proptest::collection::vec(some_record(), 1..4), 0..4),
        partial in any::<prop::sample::Index>(),
    ) {
        let batches: Vec<_> = runs.iter().map(|records| build(Codec::None, records)).collect();
        let mut run = BytesMut::new();
        for batch in &batches {
            run.extend_from_slice(&batch.to_bytes());
        }
        if let Some(last) = batches.last() {
            run.extend_from_slice(&last.to_bytes()[..partial.index(last.len())]);
        }
        let mut run = run.freeze();
        let mut found = vec![];
        while let Some(batch) = Batch::split_first(&mut run).unwrap() {
            found.push(batch);
        }
        prop_assert_eq!(found, batches);
    }

    #[test]
    fn varints_are_read_back(value in any::<i64>()) {
        let mut out = vec![];
        varint::put(&mut out, value);
        prop_assert_eq!(out.len(), varint::len(value));
        let mut input = &out[..];
        prop_assert_eq!(varint::get(&mut input), Some(value));
        prop_assert!(input.is_empty());
    }
}

#[test]
fn the_ends_of_the_varint_range_are_read_and_longer_ones_refused() {
    for value in [0, -1, 1, 63, 64, -64, -65, i64::MAX, i64::MIN] {
        let mut out = vec![];
        varint::put(&mut out, value);
        assert_eq!(out.len(), varint::len(value));
        assert_eq!(varint::get(&mut &out[..]), Some(value));
    }
    assert_eq!(varint::get(&mut &[0xff; 10][..]), None);
    assert_eq!(varint::get(&mut &[0x80; 3][..]), None);
    assert_eq!(varint::get_i32(&mut &[0xff, 0xff, 0xff, 0xff, 0x1f][..]), None);
}

fn one(codec: Codec) -> Batch {
    let mut builder = Builder::new(codec);
    builder.push(Timestamp(5), Some(b"k"), Some(b"v"), &Headers::NONE).unwrap();
    builder.push(Timestamp(3), None, Some(b"w"), &Headers::NONE).unwrap();
    builder.build()
}

/// The batch with a changed header and a CRC that fits.
fn with(change: impl FnOnce(&mut Header)) -> Batch {
    let batch = one(Codec::None);
    let mut header = batch.header().clone();
    change(&mut header);
    Batch::seal(header, batch.body().clone())
}

#[test]
fn a_broken_rule_of_produce_is_named() {
    let check = |batch: Batch| batch.check_produced(1000).unwrap_err();
    assert!(one(Codec::None).check_produced(1000).is_ok());
    assert_eq!(
        one(Codec::None).check_produced(60),
        Err(BatchError::TooLarge { len: one(Codec::None).len(), bytes_max: 60 })
    );
    assert!(matches!(check(with(|h| h.base_offset = Offset(1))), BatchError::Invalid(_)));
    assert!(matches!(check(with(|h| h.record_count = 1)), BatchError::Invalid(_)));
    assert!(matches!(check(with(|h| h.record_count = -1)), BatchError::Invalid(_)));
    assert!(matches!(check(with(|h| h.attributes = Attributes(0x20))), BatchError::Invalid(_)));
    assert!(matches!(check(with(|h| h.attributes = Attributes(0x10))), BatchError::Invalid(_)));
    assert!(matches!(check(with(|h| h.attributes = Attributes(0x08))), BatchError::Invalid(_)));
    assert_eq!(check(with(|h| h.attributes = Attributes(5))), BatchError::UnknownCodec(5));
    assert!(matches!(check(with(|h| h.producer_id = ProducerId(3))), BatchError::Invalid(_)));
    assert!(matches!(check(with(|h| h.producer_id = ProducerId(-2))), BatchError::Invalid(_)));
    let many = |h: &mut Header| (h.record_count, h.last_offset_delta) = (1_000_000, 999_999);
    assert!(matches!(check(with(many)), BatchError::Invalid(_)));
    let mut wrong = one(Codec::None).to_bytes().to_vec();
    *wrong.last_mut().unwrap() ^= 1;
    assert!(matches!(check(Batch::decode(wrong.into()).unwrap()), BatchError::Crc { .. }));
}

#[test]
fn headers_that_no_batch_has_are_refused() {
    let decode = |at: usize, bytes: &[u8]| {
        let mut whole = one(Codec::None).to_bytes().to_vec();
        whole[at..at + bytes.len()].copy_from_slice(bytes);
        Batch::decode(whole.into()).unwrap_err()
    };
    assert_eq!(decode(16, &[1]), BatchError::Magic(1));
    assert_eq!(decode(8, &48_i32.to_be_bytes()), BatchError::Length(48));
    assert_eq!(decode(8, &i32::MIN.to_be_bytes()), BatchError::Length(i32::MIN));
    assert!(matches!(decode(8, &i32::MAX.to_be_bytes()), BatchError::Truncated { .. }));
    assert!(matches!(decode(8, &50_i32.to_be_bytes()), BatchError::Trailing(_)));
    assert!(matches!(decode(0, &(-1_i64).to_be_bytes()), BatchError::Invalid(_)));
    assert!(matches!(decode(0, &i64::MAX.to_be_bytes()), BatchError::Invalid(_)));
    assert!(matches!(decode(23, &(-1_i32).to_be_bytes()), BatchError::Invalid(_)));
    // The older formats may be shorter than our header.
    assert_eq!(Batch::decode(Bytes::from_static(&[1; 20])), Err(BatchError::Magic(1)));
}

#[test]
fn records_that_disagree_with_their_header_are_damage() {
    let read = |change: fn(&mut Header)| collect(&with(change)).unwrap_err();
    assert!(matches!(read(|h| h.record_count = 1), BatchError::Damaged(_)));
    assert!(matches!(read(|h| h.record_count = 3), BatchError::Damaged(_)));
    assert!(matches!(read(|h| h.last_offset_delta = 0), BatchError::Damaged(_)));
    assert!(matches!(read(|h| h.base_timestamp = Timestamp(i64::MIN)), BatchError::Damaged(_)));
}

#[test]
fn a_compacted_batch_keeps_its_offsets() {
    let batch = one(Codec::None);
    let mut records = collect(&batch).unwrap();
    // The first record is gone; the second keeps its delta, and the batch its range.
    let mut first = &batch.body()[..];
    let len = usize::try_from(varint::get(&mut first).unwrap()).unwrap();
    let rest = batch.body().slice_ref(&first[len..]);
    let header = Header { record_count: 1, ..batch.header().clone() };
    let compacted = Batch::seal(header, rest);
    records.remove(0);
    assert_eq!(collect(&compacted).unwrap(), records);
    assert_eq!(compacted.next_offset(), Offset(2));
    let empty = Batch::seal(Header { record_count: 0, ..batch.header().clone() }, Bytes::new());
    assert_eq!(collect(&empty).unwrap(), vec![]);
}

#[test]
fn log_append_time_is_every_records_time() {
    for codec in Codec::ALL {
        let mut batch = one(codec);
        batch.stamp_log_append_time(Timestamp(77));
        let batch = Batch::decode(batch.to_bytes()).unwrap();
        batch.check_crc().unwrap();
        assert_eq!(batch.header().attributes.timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!(batch.header().attributes.codec(), Ok(codec));
        assert!(collect(&batch).unwrap().iter().all(|record| record.timestamp == Timestamp(77)));
    }
}

#[test]
fn a_batch_can_be_given_to_another_producer() {
    for codec in Codec::ALL {
        let mut batch = one(codec);
        let records = collect(&batch).unwrap();
        batch.stamp_producer(ProducerId(9), ProducerEpoch(3), 44);
        let batch = Batch::decode(batch.to_bytes()).unwrap();
        batch.check_produced(1000).unwrap();
        let header = batch.header();
        assert_eq!(
            (header.producer_id, header.producer_epoch, header.base_sequence),
            (ProducerId(9), ProducerEpoch(3), 44)
        );
        assert_eq!(collect(&batch).unwrap(), records);
    }
}

#[test]
fn control_batches_say_what_they_end() {
    let batch = Builder::control(ControlType::Commit, ProducerId(8), ProducerEpoch(2), 3, Timestamp(1));
    batch.check_crc().unwrap();
    assert!(batch.header().attributes.is_control() && batch.header().attributes.is_transactional());
    assert!(batch.check_produced(1000).is_err());
    let record = collect(&batch).unwrap().remove(0);
    assert_eq!(ControlType::of_key(&record.key.unwrap()), Some(ControlType::Commit));
    assert_eq!(&record.value.unwrap()[..], [0, 0, 0, 0, 0, 3]);
}

#[test]
fn a_bomb_is_refused_at_the_limit() {
    const MAX: usize = 1 << 20;
    let zeros = Bytes::from(vec![0; 256 << 20]);
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let bomb = codec.deflate(zeros.clone());
        let ratio = zeros.len() / bomb.len();
        assert!(ratio > 15, "{codec} makes no bomb: {ratio}");
        assert_eq!(codec.inflate(&bomb, MAX), Err(CodecError::TooLarge { codec, bytes_max: MAX }));
        let just = codec.deflate(zeros.slice(..MAX));
        assert_eq!(codec.inflate(&just, MAX).map(|plain| plain.len()), Ok(MAX));
        assert!(matches!(codec.inflate(&just, MAX - 1), Err(CodecError::TooLarge { .. })));
    }
    // A plain snappy block names its size: the name alone reserves nothing.
    let mut liar = BytesMut::new();
    liar.put_slice(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
    assert!(matches!(Codec::Snappy.inflate(&liar.freeze(), MAX), Err(CodecError::TooLarge { .. })));
}

#[test]
fn codecs_are_found_by_their_names() {
    for codec in Codec::ALL {
        assert_eq!(codec.name().parse(), Ok(codec));
        assert_eq!(Codec::from_number(codec.number()), Some(codec));
    }
    assert!("brotli".parse::<Codec>().is_err());
    assert_eq!(Codec::from_number(5), None);
}

#[test]
fn a_record_too_far_in_time_leaves_the_batch_as_it_was() {
    let mut builder = Builder::new(Codec::None);
    builder.push(Timestamp(i64::MAX), None, None, &Headers::NONE).unwrap();
    assert_eq!(builder.push(Timestamp(-2), None, None, &Headers::NONE), Err(BuildError::Timestamp));
    assert_eq!(collect(&builder.build()).unwrap().len(), 1);
}

/// A body of records in the rawest form: the varint-encoded fields after the attributes byte.
fn raw(records: &[&[i64]]) -> Bytes {
    let mut body = vec![];
    for fields in records {
        let mut record = vec![0];
        fields.iter().for_each(|field| varint::put(&mut record, *field));
        varint::put(&mut body, i64::try_from(record.len()).unwrap());
        body.extend_from_slice(&record);
    }
    body.into()
}

#[test]
fn records_that_lie_about_themselves_are_damage() {
    let read = |records: &[&[i64]]| {
        let header = Header { record_count: records.len().try_into().unwrap(), ..one(Codec::None).header().clone() };
        collect(&Batch::seal(header, raw(records)))
    };
    // Time, offset, null key, null value, headers.
    assert_eq!(read(&[&[0, 0, -1, -1, 0], &[0, 1, -1, -1, 0]]).unwrap().len(), 2);
    let damaged = |records: &[&[i64]]| assert!(matches!(read(records), Err(BatchError::Damaged(_))), "{records:?}");
    damaged(&[&[0, 1, -1, -1, 0], &[0, 1, -1, -1, 0]]);
    damaged(&[&[0, 1, -1, -1, 0], &[0, 0, -1, -1, 0]]);
    damaged(&[&[0, 2, -1, -1, 0]]);
    damaged(&[&[0, -1, -1, -1, 0]]);
    // Lengths and counts beyond the record, which must not be reserved for.
    damaged(&[&[0, 0, -2, -1, 0]]);
    damaged(&[&[0, 0, i64::from(i32::MAX), -1, 0]]);
    damaged(&[&[0, 0, -1, -1, i64::from(i32::MAX)]]);
    damaged(&[&[0, 0, -1, -1, i64::MAX]]);
    damaged(&[&[0, 0, -1, -1, -1]]);
    damaged(&[&[0, 0, -1, -1, 1, -1, -1]]);
    damaged(&[&[0, 0, -1, -1, 0, 0]]);
    damaged(&[&[0, 0, -1]]);
}
