//! The controller of this process as others see it: its queue of work, the image it published, its database.

use std::collections::BTreeMap;
use std::sync::Arc;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use moka::future::Cache;
use records::{Offset, TopicId, TopicPartition};
use slatedb::Db;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use uuid::Uuid;

use super::extents::StoredObject;
use super::{Metrics, StopReason};
use crate::handle::{Backend, ExtentQuery, LocatedExtent, QueryError, SubmitError};
use crate::machine::{Change, Command, Image, Reply};

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

/// The controller of this process, as its own tasks and the [`Handle`](crate::Handle) use it. Cheap to clone.
#[derive(Clone)]
pub(super) struct Local {
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

impl Local {
    pub(super) fn image(&self) -> Arc<Image> {
        self.shared.image.borrow().clone()
    }

    pub(super) fn watch(&self) -> watch::Receiver<Arc<Image>> {
        self.shared.image.clone()
    }

    fn stop_reason(&self) -> StopReason {
        self.shared.stopped.borrow().clone().unwrap_or(StopReason::Closed)
    }
}

#[async_trait]
impl Backend for Local {
    async fn submit(&self, command: Command) -> Result<Reply, SubmitError> {
        let (answer, answered) = oneshot::channel();
        if self.shared.work.send(Work::Command(Submitted { command, answer })).await.is_err() {
            return Err(self.stop_reason().into());
        }
        match answered.await {
            Ok(answer) => answer,
            Err(_) => Err(self.stop_reason().into()),
        }
    }

    async fn extents(&self, query: ExtentQuery) -> Result<Vec<LocatedExtent>, QueryError> {
        self.located(query).await
    }

    async fn stopped(&self) -> StopReason {
        let mut stopped = self.shared.stopped.clone();
        match stopped.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or(StopReason::Closed),
            Err(_) => StopReason::Closed,
        }
    }
}
