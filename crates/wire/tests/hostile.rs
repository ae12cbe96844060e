//! Input that means harm: no panic, no memory beyond the bound, and whatever does decode can be passed on.

mod support;

use std::sync::LazyLock;

use allocation_counter::measure;
use proptest::prelude::*;
use support::{Any, Vector, vectors};
use wire::{Bytes, DecodeError, Message, RequestHeader, VERSIONS_DECODABLE, memory_max, metadata};

static VECTORS: LazyLock<Vec<Vector>> = LazyLock::new(|| vectors().into_iter().filter(Vector::is_served).collect());

/// What sharing a frame costs beside the structures, whatever the frame.
const SHARING: u64 = 256;

/// Decodes under the eyes of a counting allocator.
fn decode(response: bool, key: wire::ApiKey, version: i16, bytes: &Bytes) -> Result<Any, DecodeError> {
    let mut result = None;
    let mut input = bytes.clone();
    let memory = measure(|| result = Some(Any::decode(response, key, version, &mut input)));
    let max = u64::try_from(memory_max(bytes.len())).expect("64 bits") + SHARING;
    assert!(memory.bytes_max <= max, "{key} v{version}: {} bytes for a frame of {}", memory.bytes_max, bytes.len());
    result.expect("the closure ran")
}

/// One way to spoil a frame.
#[derive(Debug, Clone)]
enum Harm {
    Set(prop::sample::Index, u8),
    /// Overwrites with a number as an attacker would write one.
    Number(prop::sample::Index, i32),
    Varint(prop::sample::Index, u32),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index),
}

impl Harm {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let overwrite = |bytes: &mut Vec<u8>, at: usize, with: &[u8]| {
            for (byte, with) in bytes[at..].iter_mut().zip(with) {
                *byte = *with;
            }
        };
        match self {
            Self::Set(at, value) => {
                let at = at.index(bytes.len());
                bytes[at] = *value;
            }
            Self::Number(at, value) => overwrite(bytes, at.index(bytes.len()), &value.to_be_bytes()),
            Self::Varint(at, value) => {
                let (at, mut value) = (at.index(bytes.len()), *value);
                let mut with = Vec::new();
                while value >= 0x80 {
                    with.push(value.to_le_bytes()[0] | 0x80);
                    value >>= 7;
                }
                with.push(value.to_le_bytes()[0]);
                overwrite(bytes, at, &with);
            }
            Self::Cut(at) => {
                let len = at.index(bytes.len());
                bytes.truncate(len);
            }
            Self::Insert(at, with) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, with.iter().copied());
            }
            Self::Remove(at) => {
                let at = at.index(bytes.len());
                bytes.remove(at);
            }
        }
    }
}

fn harm() -> impl Strategy<Value = Harm> {
    use prop::sample::Index;
    let number = prop_oneof![Just(-1), Just(-2), Just(i32::MIN), Just(i32::MAX), Just(0x7fff), 0..200i32];
    let varint = prop_oneof![Just(0), Just(u32::MAX), Just(1 << 31), Just(0x8000), 0..300u32];
    prop_oneof![
        4 => (any::<Index>(), any::<u8>()).prop_map(|(at, value)| Harm::Set(at, value)),
        3 => (any::<Index>(), number).prop_map(|(at, value)| Harm::Number(at, value)),
        3 => (any::<Index>(), varint).prop_map(|(at, value)| Harm::Varint(at, value)),
        1 => any::<Index>().prop_map(Harm::Cut),
        1 => (any::<Index>(), prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(at, with)| Harm::Insert(at, with)),
        1 => any::<Index>().prop_map(Harm::Remove),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// A spoiled message is refused, or is another message that survives being written and read.
    #[test]
    fn spoiled_vectors_never_panic_and_what_decodes_encodes(
        at in any::<prop::sample::Index>(),
        harms in prop::collection::vec(harm(), 1..5),
        other_version in prop::option::weighted(0.2, any::<prop::sample::Index>()),
    ) {
        let vector = &VECTORS[at.index(VECTORS.len())];
        let mut bytes = vector.bytes.to_vec();
        for harm in harms {
            harm.apply(&mut bytes);
        }
        let (min, max) = vector.key.versions_decodable().expect("a served API");
        let version = other_version.map_or(vector.version, |at| {
            let versions: Vec<i16> = (min..=max).collect();
            versions[at.index(versions.len())]
        });
        if let Ok(body) = decode(vector.response, vector.key, version, &Bytes::from(bytes)) {
            let out = body.encode(version).expect("what was decoded encodes");
            prop_assert_eq!(out.len(), body.size(version));
            let again = Any::decode(vector.response, vector.key, version, &mut out.into_bytes()).expect("decodes again");
            prop_assert_eq!(again, body);
        }
    }

    #[test]
    fn random_headers_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..40), key in 0i16..80, version in 0i16..20) {
        let mut frame = [key.to_be_bytes(), version.to_be_bytes()].concat();
        frame.extend(bytes);
        let mut input = Bytes::from(frame);
        if let Ok(header) = RequestHeader::decode(&mut input) {
            let mut out = wire::Rope::new();
            header.encode(&mut out).expect("what was decoded encodes");
            prop_assert_eq!(RequestHeader::decode(&mut out.into_bytes()).expect("decodes again"), header);
        }
    }
}

/// Every frame of one repeated byte, large and small, and each after every possible count of 32 bits: the cheapest
/// ways to make a decoder reserve more than it was sent.
#[test]
fn lying_counts_and_tiny_elements_stay_within_the_bound() {
    let mut refused = 0;
    for api in VERSIONS_DECODABLE {
        for version in api.versions.0..=api.versions.1 {
            for response in [false, true] {
                for fill in [0x00, 0x01, 0x02, 0x7f, 0x80, 0xff] {
                    for len in [0, 1, 4, 7, 64, 4096, 1 << 18] {
                        let filled = vec![fill; len];
                        for start in [&[][..], &[0, 0, 0, 4], &[0, 0, 0xff, 0xff], &[0x7f; 4], &[0xff, 0xff, 0x3f, 0]] {
                            let frame = Bytes::from([start, &filled].concat());
                            refused += usize::from(decode(response, api.key, version, &frame).is_err());
                        }
                    }
                }
            }
        }
    }
    assert!(refused > 10_000, "most of it is nonsense: {refused}");
}

#[test]
fn a_frame_of_empty_names_is_refused_for_its_memory() {
    let count = 1 << 16;
    let mut frame = vec![0x81, 0x80, 0x04]; // a compact count of 65536
    frame.extend([0x01, 0x00].repeat(count)); // an empty name, no tagged fields
    frame.extend([0, 0, 0, 0]);
    let error = metadata::Request::decode(&mut Bytes::from(frame.clone()), 9).unwrap_err();
    assert_eq!(error, DecodeError::Memory);
    // As is one of unknown tagged fields: two bytes each on the wire, forty and more in memory.
    let mut frame = vec![0x00, 0x01, 0x00, 0x00, 0xff, 0x7f]; // no topics, flags, 16383 tagged fields
    for tag in 0..16383u16 {
        let [low, high] = [tag % 0x80, tag / 0x80].map(|digit| digit.to_le_bytes()[0]);
        frame.extend(if high == 0 { vec![low, 0] } else { vec![low | 0x80, high, 0] });
    }
    let error = metadata::Request::decode(&mut Bytes::from(frame), 9).unwrap_err();
    assert_eq!(error, DecodeError::Memory);
}

/// The bound must not refuse what honest clients send, even with very many short names.
#[test]
fn ten_thousand_short_topic_names_are_within_the_bound() {
    let topics = (0..10_000)
        .map(|n| metadata::MetadataRequestTopic { name: Some(format!("t{n}").into()), ..Default::default() })
        .collect();
    let request = metadata::Request { topics: Some(topics), ..Default::default() };
    for version in [0, 1, 4, 9, 10, 12, 13] {
        let mut out = wire::Rope::new();
        request.encode(&mut out, version).unwrap_or_else(|error| panic!("version {version}: {error}"));
        let bytes = out.into_bytes();
        let mut input = bytes.clone();
        let read = metadata::Request::decode(&mut input, version);
        let read = read.unwrap_or_else(|error| panic!("version {version}: {error} for {} bytes", bytes.len()));
        assert_eq!(read, request, "version {version}");
    }
}

/// What the fuzzer starts from (and has found before) runs here too, without a fuzzer.
#[test]
fn the_corpus_of_the_fuzzer_holds_messages_of_every_api() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fuzz/corpus/frame");
    let mut decoded = std::collections::BTreeSet::new();
    for file in std::fs::read_dir(folder).expect("the corpus") {
        let data = Bytes::from(std::fs::read(file.expect("a file").path()).expect("a file"));
        let Some(kind) = data.first() else { continue };
        let (response, mut input) = (kind % 2 == 1, data.slice(1..));
        let number = |at: usize| i16::from_be_bytes([input[at], input[at + 1]]);
        let (key, version) = (number(0), number(2));
        let Ok(key) = wire::ApiKey::try_from(key) else { continue };
        let header = if response {
            input = input.slice(4..);
            wire::decode_response_header(key, version, &mut input).map(drop)
        } else {
            RequestHeader::decode(&mut input).map(drop)
        };
        if header.is_ok() && decode(response, key, version, &input).is_ok() {
            decoded.insert((key, response));
        }
    }
    assert_eq!(decoded.len(), VERSIONS_DECODABLE.len() * 2, "APIs and directions: {decoded:?}");
}
