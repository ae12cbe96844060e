//! A frame as it comes from a socket, without its length: request header and body, or a response.
//!
//! The first byte says which: even is a request; odd is a response, and then key and version follow, which a client
//! knows. Nothing may panic or take more memory than the bound, and what decodes survives being written and read again.

#![no_main]

use allocation_counter::measure;
use libfuzzer_sys::fuzz_target;
use wire::{ApiKey, Bytes, DecodeError, Request, RequestHeader, Response, Rope, memory_max};

/// What sharing the frame costs beside the decoded structures.
const SHARING: u64 = 256;

/// Decodes and watches the memory that it takes.
fn bounded<T>(input: &mut Bytes, decode: impl FnOnce(&mut Bytes) -> Result<T, DecodeError>) -> Option<T> {
    let (len, mut result) = (input.len(), None);
    let memory = measure(|| result = decode(input).ok());
    assert!(memory.bytes_max <= memory_max(len) as u64 + SHARING, "{} bytes for a frame of {len}", memory.bytes_max);
    result
}

macro_rules! round_trip {
    ($of:ident, $key:expr, $version:expr, $input:expr) => {
        let Some(body) = bounded($input, |input| $of::decode($key, $version, input)) else { return };
        let mut out = Rope::new();
        body.encode(&mut out, $version).expect("what was decoded encodes");
        assert_eq!(out.len(), body.size($version), "size and encode agree");
        let mut written = out.into_bytes();
        let again = $of::decode($key, $version, &mut written).expect("what was encoded decodes");
        assert!(written.is_empty(), "nothing is left");
        assert_eq!(again, body);
    };
}

fuzz_target!(|data: &[u8]| {
    let Some((kind, data)) = data.split_first() else { return };
    let mut input = Bytes::copy_from_slice(data);
    if kind % 2 == 0 {
        let Some(header) = bounded(&mut input, RequestHeader::decode) else { return };
        let Some(key) = ApiKey::from_i16(header.api_key) else { return };
        round_trip!(Request, key, header.api_version, &mut input);
    } else {
        if input.len() < 4 {
            return;
        }
        let number = |at: usize| i16::from_be_bytes([input[at], input[at + 1]]);
        let (key, version) = (number(0), number(2));
        let Some(key) = ApiKey::from_i16(key) else { return };
        let mut input = input.slice(4..);
        if bounded(&mut input, |input| wire::decode_response_header(key, version, input)).is_none() {
            return;
        }
        round_trip!(Response, key, version, &mut input);
    }
});
