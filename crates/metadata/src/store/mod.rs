//! The cluster's state, kept in SlateDB on the object store.
//!
//! A [`Controller`] is the one writer. Its loop takes a batch of commands, checks them in order against the image in
//! memory, writes one batch of rows, *awaits that it is durable*, and only then publishes the new image and answers: **a
//! reply means durable**. A [`Handle`](crate::Handle) reads the published image, submits commands and looks up extents.
//!
//! **What is known after an error.** SlateDB repeats requests that the store failed or throttled, for ever, with pauses of
//! up to a second: commands then wait, and when the queue is full, those who submit wait too. What else ends a write ends
//! that opening of the database for good, and leaves open whether the batch was written.
//! - *Fenced* (somebody opened the database after us): the batch is not answered as done; the controller stops.
//! - Anything else: we open the database again, claiming exactly the next writer epoch after ours. That fails if anybody
//!   else opened it (then: as fenced), and fences whatever request of the old opening is still under way. So the rows
//!   are now either with the batch or without it, for good. Every batch carries a random id in the `commit` row: if that
//!   row has ours, the batch was written once and is answered; if not, it never will be, and is written again.
//!   (Rows are absolute values, so even writing a batch twice in a row would change nothing; the commands are checked once.)
//!
//! **What it costs in requests.** A batch: 1 PUT (of a write-ahead log file), plus about 1/100 for merging them. An idle
//! controller makes no PUT, and fewer than 400 GET, HEAD and LIST in an hour; a test counts them.

mod check;
mod clock;
mod collect;
mod controller;
mod database;
mod extents;
mod feed;
mod inspect;
mod local;
mod metrics;
mod orphans;
mod rows;
mod settled;
mod sweep;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(crate) use feed::told as told_for_tests;
#[cfg(test)]
pub(crate) use tests::{faulty::TestRandom, table as rows_for_tests};

use std::sync::Arc;
use std::time::Duration;

use records::{Clock, Random};

use crate::machine::Limits;

pub use check::{Depth, Finding, FindingKind, Report};
pub use controller::Controller;
pub use feed::{Feed, FollowError, Follower, Following};
pub use inspect::Inspector;
pub use metrics::Metrics;
pub use orphans::{Orphan, SweepError, Swept};

/// What a [`Controller`] needs to open.
#[derive(Clone)]
pub struct Options {
    /// The object store.
    pub store: objects::Store,
    /// The cluster's name, under which everything lies in the store.
    pub cluster: String,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for the cluster's id and the ids of batches.
    pub random: Arc<dyn Random>,
    /// The bounds on what the cluster may have.
    pub limits: Limits,
    /// How many commands may wait. Beyond, submitting waits.
    pub queue_max: usize,
    /// How many bytes of the database's blocks are cached in memory.
    pub cache_bytes: u64,
    /// How long an object stays that nothing refers to any more: whoever located it just before still reads it.
    pub delete_grace: Duration,
    /// How often the store is searched for objects that never became part of the log; zero is never.
    pub sweep_interval: Duration,
    /// How old such an object must be.
    pub orphan_age: Duration,
    /// What is counted.
    pub metrics: Metrics,
}

/// How long an object stays that nothing refers to, by default.
const DELETE_GRACE: Duration = Duration::from_secs(15 * 60);
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Options {
    /// The usual bounds.
    #[must_use]
    pub fn new(store: objects::Store, cluster: &str, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self {
            store,
            cluster: cluster.to_owned(),
            clock,
            random,
            limits: Limits::default(),
            queue_max: 1024,
            cache_bytes: 32 << 20,
            delete_grace: DELETE_GRACE,
            sweep_interval: DAY,
            orphan_age: DAY,
            metrics: Metrics::default(),
        }
    }
}

/// Why a controller could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The cluster's name cannot be used: change the configuration.
    #[error("'{0}' cannot name a cluster: use 1 to 64 letters, digits, '-', '_' and '.'")]
    ClusterName(String),
    /// There is no such cluster in the store: look at the configuration.
    #[error("there is no cluster '{0}' in this store")]
    NoCluster(String),
    /// Another controller opened the database at the same time, and won.
    #[error("another broker opened the cluster's metadata at the same time")]
    Fenced,
    /// The store does not answer as it must. Trying again may help.
    #[error("the metadata in the store cannot be opened: {0}")]
    Unavailable(String),
    /// The stored rows cannot be read: they are damaged, or a newer version wrote them.
    #[error("the metadata in the store cannot be read: {0}")]
    Corrupt(String),
}

/// Why a controller does not take commands any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StopReason {
    /// It was closed.
    #[error("the controller is closed")]
    Closed,
    /// Another broker opened the database: this one must not act as the controller any longer.
    #[error("another broker took over the metadata")]
    Fenced,
    /// What is stored does not fit what was written: a person must look.
    #[error("the metadata in the store is not what was written: {0}")]
    Corrupt(String),
}
