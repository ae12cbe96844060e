//! The cluster's state machine and its store.
//!
//! - [`machine`] is pure: an [`Image`] of the cluster, [`Command`]s that want to change it, [`check`] that refuses or
//!   answers with [`Change`]s, and [`Image::apply`].
//! - [`election`] says which broker is the controller.
//! - [`topic_config`] and [`broker_config`] are the tables of configuration keys.
//! - [`store`] keeps the state in SlateDB: a [`Controller`] is the one writer.
//! - [`Feed`] and [`Follower`] carry the state to other brokers, [`codec`] their commands to the controller.
//! - [`Handle`] is what everybody else holds, wherever the controller is.
//!
//! **Invariant M1** The state is a function of the committed commands: the same commands in the same order give the same
//! image, and the image that is loaded from the stored rows equals the one in memory.
//!
//! **Invariant O2** A partition's extents are contiguous from its log start to its upload frontier. The only holes are
//! those that a lost journal left, and they begin at an epoch that says so ([`EpochStart::after_loss`]).
//!
//! **Invariant O3** A commit names the journal position it starts from; one that does not match is refused.
//!
//! **Invariant R2** A journal's end is written once. No extent of a journal is accepted from above it, and none that
//! reaches into offsets that belong to a later journal.
//!
//! **Invariant J1**, the part that the metadata carries: `uploaded ≤ end`, and both the journal's `uploaded` and every
//! partition's log start, frontier and leader epoch only grow.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod broker_config;
pub mod codec;
mod config_value;
pub mod election;
mod handle;
pub mod machine;
pub mod store;
pub mod topic_config;

pub use handle::{Backend, EXTENTS_MAX, ExtentQuery, Handle, LocatedExtent, QueryError, SubmitError};
pub use machine::{
    Broker, Change, Command, ConfigChange, ConfigOp, Configs, DeletedTopic, Endpoint, EpochStart, Image, Journal,
    JournalState, LastCommit, Limits, OFFSET_RESERVE, ObjectMeta, PartitionStart, PartitionState, Refusal, Reply,
    Topic, check, check_topic_name,
};
pub use store::{
    Controller, Depth, Feed, Finding, FindingKind, FollowError, Follower, Following, Inspector, Metrics, OpenError,
    Options, Orphan, Report, StopReason, SweepError, Swept,
};
pub use topic_config::TopicConfig;
