//! The Kafka protocol's messages: one table per message, from which the struct, its size, encode and decode follow.
//!
//! Promises:
//! - **Decode** takes `Bytes` and slices it: record data, strings and byte fields share the frame's memory. Lengths are
//!   checked against what is left before anything is reserved, and the structures built for one message never take more
//!   than [`memory_max`] bytes, whatever the input says. No input panics.
//! - **Encode** makes a [`Rope`]: all small fields in one buffer, record data by reference.
//! - A message decodes and encodes only at the versions of [`ApiKey::versions_decodable`]; what is advertised to
//!   clients is chosen by the crate `kafka` from that table.
//!
//! Left to others: what a message means, frames on sockets, and record batches ([`Records`] is opaque here).
//! Strings and bytes that outlive their request should be [detached](Text::detach), or they keep its frame alive.
//!
//! ```
//! use wire::{ApiKey, ErrorCode, Message, Records, fetch};
//!
//! let partition = fetch::PartitionData {
//!     error_code: ErrorCode::NONE.code(),
//!     records: Some(Records::from(wire::Bytes::from_static(b"batches"))),
//!     ..Default::default()
//! };
//! let topic = fetch::FetchableTopicResponse { topic: "t".into(), partitions: vec![partition], ..Default::default() };
//! let response = fetch::Response { responses: vec![topic], ..Default::default() };
//!
//! let frame = wire::encode_response(ApiKey::Fetch, 12, 7, &response)?;
//! let mut input = frame.into_bytes().slice(4..);
//! assert_eq!(wire::decode_response_header(ApiKey::Fetch, 12, &mut input)?, 7);
//! assert_eq!(fetch::Response::decode(&mut input, 12)?, response);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod api;
mod codec;
mod encode;
pub mod error_code;
mod field;
mod frame;
mod header;
mod measure;
#[macro_use]
mod message;
mod messages;
mod reader;
mod records;
mod rope;
mod tags;
mod text;

pub use api::{Api, ApiKey, Request, Response, VERSIONS_DECODABLE};
pub use encode::EncodeError;
pub use error_code::ErrorCode;
pub use frame::{decode_response_header, encode_request, encode_response};
pub use header::RequestHeader;
pub use measure::produced_partitions;
pub use message::{Call, Message};
pub use messages::*;
pub use reader::{DecodeError, memory_max};
pub use records::Records;
pub use rope::Rope;
pub use tags::Tags;
pub use text::Text;

pub use bytes::Bytes;
pub use uuid::Uuid;
