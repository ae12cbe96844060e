//! Consumer groups of the classic protocol, complete, over an internal topic in Kafka's own formats.
//!
//! Three layers: [`Coordinator`] finds the shard of a group; a shard (one for each partition of `__consumer_offsets`) runs
//! requests through its groups and stores what they want stored through the [`Storage`] trait; a group is a state machine
//! without I/O. Requests and answers are plain structs: the front door translates them, and [`GroupError::code`] is the
//! one table of error codes.
//!
//! Promises: an answer that says success is durable; a request is taken in, in order, when its method returns, and dropping
//! the wait for its answer is safe; queues and tables are bounded by [`Config`]; a start reads a few times the live
//! records, never the whole history. Leaves to others: which topics exist, authorisation, versions of the protocol.
//!
//! Reading order: `types`, `group/mod.rs`, `group/join.rs`, `group/rebalance.rs`, `group/settle.rs`, `shard/mod.rs`.

mod config;
mod coordinator;
mod error;
mod group;
mod groups;
mod hash;
mod pending;
pub mod record;
mod shard;
pub mod storage;
mod subscription;
mod types;

/// The topic that keeps groups and their offsets, by the name that Kafka's tools know.
pub const TOPIC: &str = "__consumer_offsets";

pub use config::Config;
pub use coordinator::Coordinator;
pub use error::GroupError;
pub use hash::partition_for;
pub use pending::Pending;
pub use storage::{Entry, Page, Storage, StorageError, StoredEntry};
pub use types::*;
