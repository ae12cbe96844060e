//! What everybody but the controller holds: reads the cluster's state, submits commands, looks up extents.
//!
//! Where the controller is, in this process or in another one, is the [`Backend`]'s to know.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use objects::{Extent, Path};
use records::{Offset, Timestamp, TopicPartition};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::machine::{Command, Image, Refusal, Reply, check};
use crate::store::StopReason;

/// How many extents one query gives at most.
pub const EXTENTS_MAX: usize = 1000;

/// Why a command has no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Nothing changed; the refusal says what to do.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The controller stopped. Whether the command was carried out is not known: submit it again to the next one.
    #[error("{0}")]
    Unavailable(StopReason),
    /// Another broker is the controller now. Whether the command was carried out is not known: submit it again there.
    #[error("another broker took over the metadata")]
    Fenced,
    /// There was no reply in time. Whether the command will be carried out is not known: look, or submit it again.
    #[error("the metadata was not written in time: the object store does not answer")]
    TimedOut,
}

impl From<StopReason> for SubmitError {
    fn from(reason: StopReason) -> Self {
        match reason {
            StopReason::Fenced => Self::Fenced,
            reason => Self::Unavailable(reason),
        }
    }
}

/// Which extents are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtentQuery {
    /// The partition.
    pub of: TopicPartition,
    /// The first is the one that holds this offset; when none does, the next one.
    pub from: Offset,
    /// Those without a record of at least this timestamp are passed over.
    pub at_least: Option<Timestamp>,
    /// How many, at most; never more than [`EXTENTS_MAX`].
    pub limit: usize,
}

/// An extent and the object that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocatedExtent {
    /// The extent.
    pub extent: Extent,
    /// The object's key in the store.
    pub key: Path,
    /// The object's size in bytes.
    pub size: u64,
}

/// Why extents could not be looked up.
#[derive(Debug, Clone, thiserror::Error)]
pub enum QueryError {
    /// The database does not answer now: try again.
    #[error("the metadata cannot be read now: {0}")]
    Unavailable(String),
    /// A stored row cannot be understood: a person must look.
    #[error("the metadata is damaged: {0}")]
    Corrupt(String),
}

/// The way to the controller.
#[async_trait]
pub trait Backend: Send + Sync + 'static {
    /// Has a command carried out. A reply means that it is durable, and that the state that the handle shows has it; a
    /// refusal, that the state has what stands in the way. A command that was submitted may be carried out also when nobody waits for its reply any more.
    async fn submit(&self, command: Command) -> Result<Reply, SubmitError>;

    /// Extents in the order of their offsets; nothing below the log start, and nothing of a partition that is not there.
    /// Linear in the extents that it passes over. Cancellation safe.
    async fn extents(&self, query: ExtentQuery) -> Result<Vec<LocatedExtent>, QueryError>;

    /// Waits until no more commands are carried out, by any controller. Cancellation safe.
    async fn stopped(&self) -> StopReason;
}

/// Reads the cluster's state and submits commands. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    image: watch::Receiver<Arc<Image>>,
    backend: Arc<dyn Backend>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("revision", &self.image().revision).finish_non_exhaustive()
    }
}

impl Handle {
    /// One that shows these images, and asks this backend for all else.
    #[must_use]
    pub fn new(image: watch::Receiver<Arc<Image>>, backend: Arc<dyn Backend>) -> Self {
        Self { image, backend }
    }

    /// The cluster's state as the last committed batch left it.
    #[must_use]
    pub fn image(&self) -> Arc<Image> {
        self.image.borrow().clone()
    }

    /// Follows the state. Images in between may be passed over; each is whole.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Image>> {
        self.image.clone()
    }

    /// What would be answered now, without doing it.
    ///
    /// # Errors
    /// The refusal.
    pub fn check(&self, command: &Command) -> Result<Reply, Refusal> {
        check(&self.image(), command).map(|(reply, _)| reply)
    }

    /// Has a command carried out. The reply means that it is durable, and [`Handle::image`] shows it from then on. Waits
    /// while the queue is full or the object store does not answer: callers that cannot wait set a time-out.
    ///
    /// Cancellation: a command that was submitted is carried out also when nobody waits for its reply.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub async fn submit(&self, command: Command) -> Result<Reply, SubmitError> {
        self.backend.submit(command).await
    }

    /// As [`Handle::submit`], but waits until `deadline` at most.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub async fn submit_until(&self, command: Command, deadline: Instant) -> Result<Reply, SubmitError> {
        timeout_at(deadline, self.backend.submit(command)).await.unwrap_or(Err(SubmitError::TimedOut))
    }

    /// Up to `limit` extents of a partition in the order of their offsets, from the one that holds `from` on; when none
    /// does, from the next one. Nothing below the log start; nothing when there is no such partition. Cancellation safe.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn extents(
        &self,
        of: TopicPartition,
        from: Offset,
        limit: usize,
    ) -> Result<Vec<LocatedExtent>, QueryError> {
        self.backend.extents(ExtentQuery { of, from, at_least: None, limit }).await
    }

    /// Extents, as the query says. Cancellation safe.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn locate(&self, query: ExtentQuery) -> Result<Vec<LocatedExtent>, QueryError> {
        self.backend.extents(query).await
    }

    /// The first extent from `from` on that has a record with a timestamp of at least `at`. Linear in the extents that it
    /// passes over. Cancellation safe.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn extent_by_timestamp(
        &self,
        of: TopicPartition,
        from: Offset,
        at: Timestamp,
    ) -> Result<Option<LocatedExtent>, QueryError> {
        Ok(self.backend.extents(ExtentQuery { of, from, at_least: Some(at), limit: 1 }).await?.pop())
    }

    /// The first extent of a partition that has a record with a timestamp of at least `at`.
    ///
    /// # Errors
    /// [`QueryError`].
    pub async fn first_extent_by_timestamp(
        &self,
        of: TopicPartition,
        at: Timestamp,
    ) -> Result<Option<LocatedExtent>, QueryError> {
        self.extent_by_timestamp(of, Offset(0), at).await
    }

    /// Waits until the controller has stopped. Cancellation safe.
    pub async fn stopped(&self) -> StopReason {
        self.backend.stopped().await
    }
}
