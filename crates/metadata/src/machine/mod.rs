//! The cluster's state and the rules by which it changes: no I/O, no clock, no randomness.
//!
//! [`check`] looks at a [`Command`] and the [`Image`] and either refuses, telling the caller what to do next, or answers
//! with a [`Reply`] and the [`Change`]s that make it true. [`Image::apply`] carries changes out and asserts the
//! invariants. Each change is also one row (or its deletion) in the database; extents and objects are rows only, and
//! have no place in the image.
//!
//! Commands are written so that repeating one does no harm: either it is answered as the first time, or it allocates
//! something (an incarnation, a journal, producer ids) that stays unused.

mod apply;
mod change;
mod check;
mod check_journals;
mod check_topics;
mod command;
mod image;
mod names;
#[cfg(test)]
mod tests;

pub use change::{Change, NextIds};
pub use check::check;
pub(crate) use check_topics::swept;
pub use command::{Command, ConfigChange, ConfigOp, ObjectMeta, PartitionStart, Refusal, Reply};
pub(crate) use image::Counters;
pub use image::{
    Broker, Configs, DeletedTopic, Endpoint, EpochStart, Image, Journal, JournalState, LastCommit, Limits,
    PartitionState, Topic,
};
pub use names::{check_topic_name, is_internal};

/// How far above [`PartitionState::reserve_base`] a leader may assign offsets.
///
/// When the disks of a journal are lost, nobody knows which offsets above the upload frontier were given to records that
/// somebody has read. Because the leader stayed below `reserve base + OFFSET_RESERVE`, a partition that starts again
/// there never gives one offset to two records.
pub const OFFSET_RESERVE: i64 = 1 << 32;
