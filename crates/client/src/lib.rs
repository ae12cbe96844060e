//! The Rust client of Weir, or of any other cluster that speaks the Kafka protocol: [`Producer`], [`Consumer`] and
//! [`Admin`], over QUIC, TLS or TCP. It reconnects by itself and follows partitions to their leaders.
//!
//! ```no_run
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use client::{Client, ClientConfig, ConsumerConfig, NewRecord, ProducerConfig, StartAt};
//!
//! # struct WallClock;
//! # impl records::Clock for WallClock {
//! #     fn now(&self) -> records::Timestamp { records::Timestamp(0) }
//! # }
//! # async fn example() -> Result<(), client::Error> {
//! // WallClock is yours: it implements records::Clock.
//! let config = ClientConfig::new("quic://localhost:9092".parse()?, Arc::new(WallClock));
//! let client = Client::new(config)?;
//!
//! let producer = client.producer(ProducerConfig::default())?;
//! let delivery = producer.send(NewRecord::to("greetings").key("en").value("hello")).await?;
//! let written = delivery.await?;
//! println!("partition {} offset {:?}", written.partition, written.offset);
//!
//! let mut consumer = client.consumer(ConsumerConfig { start_at: StartAt::Earliest, ..ConsumerConfig::group("readers") })?;
//! consumer.subscribe(["greetings"]).await?;
//! for record in consumer.poll(Duration::from_secs(5)).await? {
//!     println!("{:?}", record.value);
//! }
//! consumer.commit().await?;
//! consumer.close().await?;
//! producer.close().await?;
//! client.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! Units: offsets count records, sizes are bytes, times are [`std::time::Duration`]s on tokio's clock; only record
//! timestamps (milliseconds since 1970) come from the [`records::Clock`] in the configuration.
//!
//! Every async function says whether it is safe to cancel (to drop its future before it is done).

mod admin;
mod client;
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

pub use admin::{
    Admin, BrokerDescription, ClusterDescription, Config, ConfigChange, ConfigSource, CreatedTopic, GroupDescription,
    GroupListing, GroupMember, NewTopic, PartitionDescription, Resource, TopicDescription,
};
pub use client::Client;
pub use config::{ClientConfig, TlsOptions};
pub use consumer::{Assignor, Consumer, ConsumerConfig, Record, StartAt};
pub use error::{Error, ErrorKind};
pub use offsets::{Committed, OffsetSpec, TopicPartition};
pub use producer::{Acks, Delivered, Delivery, NewRecord, Producer, ProducerConfig};
pub use records::{Clock, Codec, Offset, Timestamp};
pub use target::{Address, Scheme, Target};
