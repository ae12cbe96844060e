//! The header before every request. Which of its forms is used follows from the API's key and version, which the
//! header itself begins with.

use bytes::Bytes;

use crate::api::ApiKey;
use crate::codec::Wire;
use crate::encode::EncodeError;
use crate::field::{At, Field};
use crate::reader::{DecodeError, Reader};
use crate::rope::Rope;
use crate::tags::{TagWriter, Tags};
use crate::text::Text;

/// The line of the client id: in the old form in every version of the header.
const CLIENT_ID: Field = Field::new("RequestHeader.client_id", "0+").nullable("0+");
const PLAIN: At = At { version: 0, flexible: false };

/// What stands before a request's body.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestHeader {
    /// The API; [`ApiKey::from_i16`] says whether we know it.
    pub api_key: i16,
    /// The version of the body.
    pub api_version: i16,
    /// Chosen by the client, given back in the response.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<Text>,
}

impl RequestHeader {
    /// Whether the header of this API and version ends with tagged fields.
    fn is_flexible(&self) -> bool {
        ApiKey::from_i16(self.api_key).is_some_and(|key| key.is_flexible(self.api_version))
    }

    /// Reads a header from the start of `input` and moves past it; on an error `input` stays as it was.
    ///
    /// The API and version need not be known: the caller decides what to do about such a request.
    pub fn decode(input: &mut Bytes) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(input.clone());
        let mut header = Self {
            api_key: i16::from_be_bytes(reader.array()?),
            api_version: i16::from_be_bytes(reader.array()?),
            correlation_id: i32::from_be_bytes(reader.array()?),
            client_id: None,
        };
        header.client_id = Wire::read(&mut reader, PLAIN, &CLIENT_ID)?;
        if header.is_flexible() {
            reader.tagged_fields(&mut Tags::default(), |_, _| Ok(false))?;
        }
        *input = input.split_off(reader.position());
        Ok(header)
    }

    /// Writes the header to the end of `out`.
    pub fn encode(&self, out: &mut Rope) -> Result<(), EncodeError> {
        out.put_slice(&self.api_key.to_be_bytes());
        out.put_slice(&self.api_version.to_be_bytes());
        out.put_slice(&self.correlation_id.to_be_bytes());
        self.client_id.write(out, PLAIN, &CLIENT_ID)?;
        if self.is_flexible() {
            TagWriter::start(out, 0, &Tags::default())?.finish(out)?;
        }
        Ok(())
    }
}

/// Writes the header of a response. ApiVersions always has the old form, so that a client can read the answer before
/// it knows what the broker speaks.
pub(crate) fn encode_response_header(
    out: &mut Rope,
    key: ApiKey,
    version: i16,
    correlation_id: i32,
) -> Result<(), EncodeError> {
    out.put_slice(&correlation_id.to_be_bytes());
    if is_response_flexible(key, version) {
        TagWriter::start(out, 0, &Tags::default())?.finish(out)?;
    }
    Ok(())
}

/// Reads a response's header and moves past it.
pub(crate) fn decode_response_header(input: &mut Bytes, key: ApiKey, version: i16) -> Result<i32, DecodeError> {
    let mut reader = Reader::new(input.clone());
    let correlation_id = i32::from_be_bytes(reader.array()?);
    if is_response_flexible(key, version) {
        reader.tagged_fields(&mut Tags::default(), |_, _| Ok(false))?;
    }
    *input = input.split_off(reader.position());
    Ok(correlation_id)
}

fn is_response_flexible(key: ApiKey, version: i16) -> bool {
    key != ApiKey::ApiVersions && key.is_flexible(version)
}
