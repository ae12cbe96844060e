//! The Kafka record batch (v2), and the names every floor uses. Pure: no I/O, no clock, no randomness.
//!
//! - [`Batch`] is a parsed [`Header`] and the bytes behind it, shared and never copied. The hot path decodes it, checks
//!   it ([`Batch::check_produced`]) and gives it its place ([`Batch::assign`]) without looking at a single record.
//! - [`Records`] walks the records where something needs them, inflating compressed ones up to a limit that the caller sets.
//! - [`Builder`] makes batches; [`Codec`] is the five compressions of the protocol.
//!
//! No input panics: whatever does not fit is a [`BatchError`].

mod batch;
mod builder;
mod codec;
mod environment;
mod header;
mod headers;
mod ids;
mod record;
#[cfg(test)]
mod tests;
mod varint;

pub use batch::{Batch, BatchError};
pub use builder::{BuildError, Builder};
pub use codec::{Codec, CodecError};
pub use environment::{Clock, Random};
pub use header::{Attributes, HEADER_LEN, Header, TimestampType, UNSUMMED_LEN};
pub use headers::{Headers, RecordHeader};
pub use ids::{
    BrokerId, Incarnation, JournalId, LeaderEpoch, Offset, Partition, Position, ProducerEpoch, ProducerId, Timestamp,
    TopicId, TopicPartition,
};
pub use record::{ControlType, Record, Records};
