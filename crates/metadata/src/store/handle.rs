//! What everybody but the controller holds: reads the published image, submits commands.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use moka::future::Cache;
use records::{Offset, TopicId, TopicPartition};
use slatedb::Db;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use uuid::Uuid;

use super::extents::StoredObject;
use super::{Metrics, StopReason};
use crate::machine::{Change, Command, Image, Refusal, Reply, check};

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
}

impl From<StopReason> for SubmitError {
    fn from(reason: StopReason) -> Self {
        match reason {
            StopReason::Fenced => Self::Fenced,
            reason => Self::Unavailable(reason),
        }
    }
}

/// A command and where its answer goes.
#[derive(Debug)]
pub(super) struct Submitted {
    pub(super) command: Command,
    pub(super) answer: oneshot::Sender<Result<Reply, SubmitError>>,
}

/// What the sweeper comes to the end of.
#[derive(Debug, Clone, Copy)]
pub(super) enum SweepEnd {
    /// All extents of a deleted topic.
    Deleted(TopicId),
    /// All extents below this log start.
    Trim(TopicPartition, Offset),
}

/// What the sweeper found to remove, and where it hears that it is removed.
#[derive(Debug)]
pub(super) struct Swept {
    pub(super) changes: Vec<Change>,
    /// How many bytes of each partition those are.
    pub(super) bytes: BTreeMap<TopicPartition, u64>,
    pub(super) ends: Vec<SweepEnd>,
    pub(super) done: oneshot::Sender<()>,
}

#[derive(Debug)]
pub(super) enum Work {
    Command(Submitted),
    Sweep(Swept),
}

/// What is known in memory of the objects that wait to be deleted.
#[derive(Debug)]
pub(super) struct Garbage {
    /// Woken when there is more of it.
    pub(super) more: Notify,
    pub(super) metrics: Metrics,
}

impl Garbage {
    /// Counts what became durable.
    pub(super) fn changed(&self, changes: &[Change]) {
        for change in changes {
            match change {
                Change::PutGarbage { object, .. } => {
                    self.metrics.garbage(1, object.size);
                    self.more.notify_one();
                }
                Change::EndGarbage(object) => self.metrics.garbage(-1, object.size),
                _ => {}
            }
        }
    }
}

/// Reads the cluster's state and submits commands. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

pub(super) struct Shared {
    pub(super) work: mpsc::Sender<Work>,
    pub(super) image: watch::Receiver<Arc<Image>>,
    pub(super) stopped: watch::Receiver<Option<StopReason>>,
    pub(super) db: ArcSwap<Db>,
    pub(super) objects: Cache<Uuid, StoredObject>,
    pub(super) garbage: Garbage,
}

impl std::fmt::Debug for Handle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle").field("revision", &self.image().revision).finish_non_exhaustive()
    }
}

impl Handle {
    /// The cluster's state as the last committed batch left it.
    #[must_use]
    pub fn image(&self) -> Arc<Image> {
        self.shared.image.borrow().clone()
    }

    /// Follows the state. Images in between may be passed over; each is whole.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Arc<Image>> {
        self.shared.image.clone()
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
        let (answer, answered) = oneshot::channel();
        if self.shared.work.send(Work::Command(Submitted { command, answer })).await.is_err() {
            return Err(self.stop_reason().into());
        }
        match answered.await {
            Ok(answer) => answer,
            Err(_) => Err(self.stop_reason().into()),
        }
    }

    /// Waits until the controller has stopped. Cancellation safe.
    pub async fn stopped(&self) -> StopReason {
        let mut stopped = self.shared.stopped.clone();
        match stopped.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or(StopReason::Closed),
            Err(_) => StopReason::Closed,
        }
    }

    fn stop_reason(&self) -> StopReason {
        self.shared.stopped.borrow().clone().unwrap_or(StopReason::Closed)
    }
}
