//! The Rust client of Weir, or of any other cluster that speaks the Kafka protocol: [`Producer`], [`Consumer`] and
//! [`Admin`], over QUIC, TLS or TCP. It reconnects by itself and follows partitions to their leaders.
//!
//!
//! Units: offsets count records, sizes are bytes, times are [`std::time::Duration`]s on tokio's clock; only record
//! timestamps (milliseconds since 1970) come from the [`records::Clock`] in the configuration.
//!
//! Every async function says whether it is safe to cancel (to drop its future before it is done).

mod cluster;
mod config;
mod connection;
mod consumer;
mod error;
mod metadata;
mod offsets;
mod producer;
mod target;
mod transport;

pub use config::{ClientConfig, TlsOptions};
pub use consumer::{Assignor, Consumer, ConsumerConfig, Record, StartAt};
pub use error::{Error, ErrorKind};
pub use offsets::{Committed, OffsetSpec, TopicPartition};
pub use producer::{Acks, Delivered, Delivery, NewRecord, Producer, ProducerConfig};
pub use records::{Clock, Codec, Offset, Timestamp};
pub use target::{Address, Scheme, Target};
