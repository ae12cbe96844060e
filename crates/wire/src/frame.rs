//! Whole frames: four bytes of length, header, body.

use bytes::Bytes;

use crate::api::ApiKey;
use crate::encode::EncodeError;
use crate::header::{self, RequestHeader};
use crate::message::Message;
use crate::reader::DecodeError;
use crate::rope::Rope;

const LENGTH: usize = 4;
/// Room for length and header; a longer client id only makes the buffer grow.
const HEADER_ROOM: usize = 64;
/// A message up to this size gets its buffer at once. A larger one is large because of its records, which do not go
/// into the buffer, or is rare: its buffer grows.
const SIZED_MAX: usize = 16 * 1024;

/// The frame of a response: length, header, body. The key is an [`ApiKey`] or the number in the request's header.
///
/// Fails only where the message cannot be said at `version`, which is a mistake of the code that made it.
pub fn encode_response(
    key: impl Into<i16>,
    version: i16,
    correlation_id: i32,
    body: &impl Message,
) -> Result<Rope, EncodeError> {
    let key = ApiKey::from_i16(key.into()).ok_or(EncodeError::Header)?;
    let mut out = start(body.size(version));
    header::encode_response_header(&mut out, key, version, correlation_id)?;
    finish(out, key, version, body)
}

/// The frame of a request: length, header, body. For clients.
pub fn encode_request(header: &RequestHeader, body: &impl Message) -> Result<Rope, EncodeError> {
    let key = ApiKey::from_i16(header.api_key).ok_or(EncodeError::Header)?;
    let mut out = start(body.size(header.api_version));
    header.encode(&mut out)?;
    finish(out, key, header.api_version, body)
}

/// Reads a response's header (the frame's length is gone already), moves `input` to the body, and gives the
/// correlation id. For clients.
pub fn decode_response_header(key: impl Into<i16>, version: i16, input: &mut Bytes) -> Result<i32, DecodeError> {
    header::decode_response_header(input, ApiKey::try_from(key.into())?, version)
}

fn start(body_size: usize) -> Rope {
    let capacity = if body_size <= SIZED_MAX { body_size } else { 1024 };
    let mut out = Rope::with_capacity(capacity + HEADER_ROOM);
    out.put_slice(&[0; LENGTH]);
    out
}

fn finish<M: Message>(mut out: Rope, key: ApiKey, version: i16, body: &M) -> Result<Rope, EncodeError> {
    if M::KEY != key {
        return Err(EncodeError::Header);
    }
    body.encode(&mut out, version)?;
    let len = i32::try_from(out.len() - LENGTH).map_err(|_| EncodeError::TooLong("the frame"))?;
    out.overwrite(0, &len.to_be_bytes());
    Ok(out)
}
