//! Batches that another implementation wrote (see make_vectors.py) decode to the records that were put in.

use bytes::Bytes;
use records::{Batch, Builder, Codec, Headers, Offset, ProducerEpoch, ProducerId, Record, Timestamp, UNSUMMED_LEN};

const BASE: i64 = 1_700_000_000_000;

fn vectors() -> Vec<(&'static str, Bytes)> {
    let lines = include_str!("vectors.hex").lines();
    let vectors: Vec<_> = lines
        .map(|line| {
            let (name, hex) = line.split_once(' ').expect("a name and hex");
            let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("hex"));
            (name, digits.map(|pair| u8::from_str_radix(pair, 16).expect("hex")).collect())
        })
        .collect();
    assert_eq!(vectors.len(), 12);
    vectors
}

fn vector(name: &str) -> Bytes {
    vectors().into_iter().find(|(found, _)| *found == name).expect("the vector").1
}

fn record(offset: i64, timestamp: i64, key: Option<&[u8]>, value: Option<&[u8]>) -> Record {
    let copy = |bytes: &[u8]| Bytes::copy_from_slice(bytes);
    Record {
        offset: Offset(offset),
        timestamp: Timestamp(timestamp),
        key: key.map(copy),
        value: value.map(copy),
        headers: Headers::NONE,
    }
}

fn expected() -> Vec<Record> {
    let header = |name: &str, value: Option<Bytes>| (Bytes::copy_from_slice(name.as_bytes()), value);
    let mut records = vec![
        record(0, BASE, Some(b"key"), Some(b"value")),
        record(1, BASE + 5, None, Some(b"only a value")),
        record(2, BASE - 1_000, Some(b"tombstone"), None),
        record(3, BASE + 10_000_000_000, Some(b""), Some(b"")),
        record(4, BASE, Some("schlüssel".as_bytes()), Some(&b"0123456789".repeat(200))),
        record(5, BASE, None, None),
    ];
    let several = [
        header("name", Some(Bytes::from_static(b"one"))),
        header("name", Some(Bytes::from_static(b"two"))),
        header("nothing", None),
        header("", Some(Bytes::new())),
    ];
    records[3].headers = several.into_iter().collect();
    records[4].headers = [header("übung", Some((0..=255).collect()))].into_iter().collect();
    records
}

#[test]
fn batches_of_another_implementation_decode_to_the_same_records() {
    for (name, bytes) in vectors() {
        let batch = Batch::decode(bytes.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
        batch.check_produced(1 << 20).unwrap_or_else(|error| panic!("{name}: {error}"));
        let records: Vec<_> =
            batch.records(1 << 20).and_then(Iterator::collect).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(records, expected(), "{name}");
        assert_eq!(batch.to_bytes(), bytes, "{name}");
        assert_eq!(batch.header().max_timestamp, Timestamp(BASE + 10_000_000_000), "{name}");
    }
}

#[test]
fn the_codec_is_the_one_that_the_name_says() {
    for codec in Codec::ALL {
        let batch = Batch::decode(vector(codec.name())).unwrap();
        assert_eq!(batch.header().attributes.codec(), Ok(codec));
    }
}

#[test]
fn a_built_batch_is_byte_for_byte_the_other_implementations() {
    for (name, producer) in [("none", (-1, -1, -1)), ("idempotent", (4_000_000_000, 7, 2_147_483_640))] {
        let (id, epoch, sequence) = producer;
        let mut builder = Builder::new(Codec::None).producer(ProducerId(id), ProducerEpoch(epoch), sequence);
        for record in expected() {
            builder.push(record.timestamp, record.key.as_deref(), record.value.as_deref(), &record.headers).unwrap();
        }
        let estimate = builder.size_estimate();
        let bytes = builder.build().to_bytes();
        assert_eq!(bytes.len(), estimate);
        // What a broker overwrites differs: we send leader epoch −1, as Java does, and they send 0.
        assert_eq!(bytes[UNSUMMED_LEN - 4..], vector(name)[UNSUMMED_LEN - 4..], "{name}");
    }
}

#[test]
fn a_truncated_vector_never_parses_whole() {
    for (name, bytes) in vectors() {
        for len in 0..bytes.len() {
            assert!(Batch::decode(bytes.slice(..len)).is_err(), "{name} cut to {len}");
            let mut run = bytes.slice(..len);
            assert_eq!(Batch::split_first(&mut run), Ok(None), "{name} cut to {len}");
            assert_eq!(run.len(), len);
        }
    }
}

#[test]
fn a_flipped_bit_is_noticed_or_lies_outside_the_crc() {
    for (name, bytes) in vectors() {
        for at in 0..bytes.len() {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 1 << (at % 8);
            let Ok(batch) = Batch::decode(flipped.into()) else { continue };
            let unsummed = at < 8 || (12..16).contains(&at);
            assert_eq!(batch.check_crc().is_ok(), unsummed, "{name} flipped at {at}");
            // Walking the damaged records may fail, and must end.
            if let Ok(records) = batch.records(1 << 20) {
                assert!(records.count() <= 7, "{name} flipped at {at}");
            }
        }
    }
}
