//! The task of a shard: loads it, appends what is queued, settles what was appended, lets time pass.

use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use futures::{FutureExt, StreamExt};
use records::Offset;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use super::load::load;
use super::queue::Batch;
use super::{Inner, Phase, State};
use crate::GroupError;
use crate::group::{Effects, Outcome, StoreFailure};
use crate::storage::{Storage, StorageError};

/// What the task does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Serve,
    /// It is unknown what the log holds.
    Reload,
    Close,
}

/// An append under way, with what becomes of it.
type Append<'a> = BoxFuture<'a, (Batch, Result<Offset, StorageError>)>;

/// Drives a shard until it is cancelled or another broker leads its partition.
pub(super) async fn run(inner: Arc<Inner>, storage: Arc<dyn Storage>, cancel: CancellationToken) {
    let _closing = Closing(&inner);
    while load(&inner, &*storage, &cancel).await {
        match serve(&inner, &*storage, &cancel).await {
            Next::Serve | Next::Close => break,
            Next::Reload => {
                tracing::warn!(
                    partition = inner.partition,
                    "it is unknown what the groups' log holds; loading it again"
                );
            }
        }
    }
}

/// Closes the shard when its task ends, however it does.
struct Closing<'a>(&'a Inner);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.stop(Phase::Closed, GroupError::NotCoordinator);
    }
}

async fn serve(inner: &Inner, storage: &dyn Storage, cancel: &CancellationToken) -> Next {
    let mut appends: FuturesOrdered<Append<'_>> = FuturesOrdered::new();
    let mut truncation: Option<BoxFuture<'_, Result<(), StorageError>>> = None;
    let append_bytes_max = storage.append_bytes_max();
    loop {
        while appends.len() < inner.environment.config.appends_in_flight_max {
            let next = inner.state.lock().queue.next(append_bytes_max);
            let Some((batch, entries)) = next else { break };
            // The call gives the append its place, so it is made here and not when the future is first polled.
            let stored = if batch.too_large { None } else { Some(storage.append(entries)) };
            appends.push_back(async move { (batch, settled(stored).await) }.boxed());
        }
        if truncation.is_none() {
            truncation = inner.truncation_due().map(|offset| storage.truncate_before(offset));
        }
        let deadline = inner.go_to_sleep();
        let next = tokio::select! {
            biased;
            () = cancel.cancelled() => Next::Close,
            Some((batch, result)) = appends.next(), if !appends.is_empty() => inner.complete(&batch, result),
            result = async { truncation.as_mut().expect("checked").await }, if truncation.is_some() => {
                truncation = None;
                inner.truncated(result)
            }
            () = inner.wake.notified() => inner.woken(),
            () = sleep_until(inner.environment.origin + deadline.unwrap_or_default()), if deadline.is_some() => inner.woken(),
        };
        match next {
            Next::Serve => {}
            Next::Close => return Next::Close,
            Next::Reload => {
                inner.stop(Phase::Loading, GroupError::CoordinatorNotAvailable);
                // What is under way must have its place, or none, before the log is read.
                while !appends.is_empty() {
                    tokio::select! {
                        () = cancel.cancelled() => return Next::Close,
                        _ = appends.next() => {}
                    }
                }
                return Next::Reload;
            }
        }
    }
}

async fn settled(append: Option<BoxFuture<'_, Result<Offset, StorageError>>>) -> Result<Offset, StorageError> {
    match append {
        Some(append) => append.await,
        None => Err(StorageError::Unavailable),
    }
}

impl Inner {
    fn complete(&self, batch: &Batch, result: Result<Offset, StorageError>) -> Next {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.queue.settled(batch);
        let outcome = match result {
            Ok(base) => {
                state.log.appended(base, batch);
                Outcome::Stored(base)
            }
            Err(_) if batch.too_large => Outcome::Failed(StoreFailure::TooLarge),
            Err(StorageError::NotLeader) => return Next::Close,
            Err(StorageError::Unknown) => return Next::Reload,
            // Of a change that was cut some records may be stored and others not.
            Err(StorageError::Unavailable) if batch.cut || batch.ends.iter().any(|end| end.continued) => {
                return Next::Reload;
            }
            Err(StorageError::Unavailable) => Outcome::Failed(StoreFailure::Unavailable),
        };
        self.settle(state, batch, outcome);
        self.advance_rewrite(state);
        Next::Serve
    }

    fn settle(&self, state: &mut State, batch: &Batch, outcome: Outcome) {
        let now = self.environment.now();
        let mut out = Effects::default();
        for end in &batch.ends {
            let began = if end.continued { state.log.cut.take() } else { None };
            let outcome = began.map_or(outcome, Outcome::Stored);
            state.groups.settle(now, &mut out, &end.group, end.ticket, outcome);
            state.log.settled(end);
        }
        match outcome {
            Outcome::Stored(base) if batch.cut => {
                state.log.cut.get_or_insert(base);
            }
            Outcome::Failed(_) => state.log.pause(now.monotonic + self.environment.config.retry_pause),
            Outcome::Stored(_) => {}
        }
        self.carry_out(state, out);
    }

    fn truncation_due(&self) -> Option<Offset> {
        self.state.lock().log.truncation_due(self.environment.now().monotonic)
    }

    fn truncated(&self, result: Result<(), StorageError>) -> Next {
        let mut state = self.state.lock();
        match result {
            Ok(()) => state.log.truncated(),
            Err(StorageError::NotLeader) => return Next::Close,
            Err(error) => {
                tracing::warn!(partition = self.partition, %error, "cannot truncate the groups' log; trying again");
                state.log.pause(self.environment.now().monotonic + self.environment.config.retry_pause);
            }
        }
        Next::Serve
    }

    /// When the task has to wake up by itself.
    fn go_to_sleep(&self) -> Option<Duration> {
        let now = self.environment.now().monotonic;
        let mut state = self.state.lock();
        let deadline = state.groups.next_deadline().into_iter().chain(state.log.retry_at(now)).min();
        state.asleep_until = deadline;
        deadline
    }

    fn woken(&self) -> Next {
        let now = self.environment.now();
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let mut out = Effects::default();
        state.groups.tick(now, &mut out);
        self.carry_out(state, out);
        self.advance_rewrite(state);
        Next::Serve
    }
}
