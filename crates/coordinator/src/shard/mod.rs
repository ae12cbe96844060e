//! One shard: the groups of one partition of the internal topic, and the task that stores their records.
//!
//! A request runs through the pure state machine at once, under a small lock; nothing waits there. What must be stored
//! goes into a queue; the shard's task appends from it, several appends at a time, in order, and gives the answers when
//! they are committed. So a slow append delays only the answers that depend on it, and requests gather for the next one.
//!
//! What the log says counts. A change takes effect when it is stored. When an append fails and nothing was stored, its
//! changes are dropped and their requests refused (`COORDINATOR_NOT_AVAILABLE`). When it is unknown whether something was
//! stored, all requests that wait are refused and the shard loads itself from the log again. When another broker leads the
//! partition, the shard closes (`NOT_COORDINATOR`).
//!
//! - **Invariant C1** An answer that says success is given after its records are committed.
//! - **Invariant C2** Loading the log at any time gives at least every acknowledged change.

mod driver;
mod load;
mod queue;
mod rewrite;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use records::{Clock, Random};
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::group::{Answer, Effects, Token};
use crate::groups::{Groups, Room};
use crate::pending::Pending;
use crate::storage::Storage;
use crate::types::Now;
use crate::{Config, GroupError};
use queue::Queue;
use rewrite::Log;

/// What all shards of a coordinator share.
pub(crate) struct Environment {
    pub(crate) config: Arc<Config>,
    pub(crate) room: Arc<Room>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) random: Arc<dyn Random>,
    /// Monotonic time counts from here.
    pub(crate) origin: Instant,
}

/// Where a shard is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Loading,
    Active,
    Closed,
}

/// A shard and the task that drives it. Dropping it ends the task.
pub(crate) struct Shard {
    inner: Arc<Inner>,
    task: Mutex<Option<JoinHandle<()>>>,
    cancel: CancellationToken,
}

struct Inner {
    partition: i32,
    environment: Arc<Environment>,
    state: Mutex<State>,
    /// Something was queued, or a deadline came that lies before the one the task sleeps until.
    wake: Notify,
    phase: watch::Sender<Phase>,
}

struct State {
    phase: Phase,
    groups: Groups,
    waiters: HashMap<Token, oneshot::Sender<Answer>>,
    next_token: u64,
    queue: Queue,
    log: Log,
    /// Until when the task sleeps.
    asleep_until: Option<Duration>,
}

impl Shard {
    /// A shard that begins to load.
    pub(crate) fn open(partition: i32, environment: Arc<Environment>, storage: Arc<dyn Storage>) -> Self {
        let state = State {
            phase: Phase::Loading,
            groups: environment.new_groups(),
            waiters: HashMap::new(),
            next_token: 0,
            queue: Queue::default(),
            log: Log::default(),
            asleep_until: None,
        };
        let (phase, _) = watch::channel(Phase::Loading);
        let inner = Inner { partition, environment, state: Mutex::new(state), wake: Notify::new(), phase };
        let inner = Arc::new(inner);
        let cancel = CancellationToken::new();
        let task = tokio::spawn(driver::run(Arc::clone(&inner), storage, cancel.clone()));
        Self { inner, task: Mutex::new(Some(task)), cancel }
    }

    /// Ends it: requests that wait get `NotCoordinator`.
    pub(crate) async fn close(self: Arc<Self>) {
        self.cancel.cancel();
        let task = self.task.lock().take();
        let Some(task) = task else { return };
        if let Err(error) = task.await {
            tracing::error!(partition = self.inner.partition, %error, "the coordinator's task failed");
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        *self.inner.phase.borrow() == Phase::Closed
    }

    /// Waits until it is loaded, or closed. Safe to drop.
    pub(crate) async fn ready(&self) -> Result<(), GroupError> {
        let mut phase = self.inner.phase.subscribe();
        let settled = phase.wait_for(|phase| *phase != Phase::Loading).await.map(|phase| *phase);
        if matches!(settled, Ok(Phase::Active)) { Ok(()) } else { Err(GroupError::NotCoordinator) }
    }

    /// A look at the groups.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&Groups) -> T) -> Result<T, GroupError> {
        self.inner.active().map(|state| look(&state.groups))
    }

    /// An input that is answered at once.
    pub(crate) fn apply<T>(&self, input: impl FnOnce(&mut Groups, Now, &mut Effects) -> T) -> Result<T, GroupError> {
        let mut state = self.inner.active()?;
        let mut out = Effects::default();
        let result = input(&mut state.groups, self.inner.environment.now(), &mut out);
        self.inner.carry_out_and_wake(&mut state, out);
        Ok(result)
    }

    /// An input whose answer may come later; `refused` makes the answer of a shard that cannot take it.
    pub(crate) fn request<T>(
        &self,
        convert: fn(Answer) -> T,
        input: impl FnOnce(&mut Groups, Now, &mut Effects, Token),
    ) -> Pending<T> {
        let mut state = match self.inner.active() {
            Ok(state) => state,
            Err(error) => return Pending::ready(convert(Answer::Refused(error))),
        };
        let (token, receiver) = state.wait();
        let mut out = Effects::default();
        input(&mut state.groups, self.inner.environment.now(), &mut out, token);
        self.inner.carry_out_and_wake(&mut state, out);
        Pending::waiting(receiver, convert)
    }

    /// Whether as many records wait as may wait.
    pub(crate) fn is_full(&self) -> bool {
        self.inner.state.lock().queue.bytes() >= self.inner.environment.config.queued_bytes_max
    }

    /// A topic is gone: one answer for each group that had offsets of it.
    pub(crate) fn topic_deleted(&self, topic: &str) -> Result<Vec<Pending<Result<(), GroupError>>>, GroupError> {
        let mut guard = self.inner.active()?;
        let state = &mut *guard;
        let mut out = Effects::default();
        let mut pending = Vec::new();
        let (waiters, next_token) = (&mut state.waiters, &mut state.next_token);
        state.groups.topic_deleted(self.inner.environment.now(), &mut out, topic, || {
            let (token, receiver) = new_waiter(waiters, next_token);
            pending.push(Pending::waiting(receiver, crate::pending::done));
            token
        });
        self.inner.carry_out_and_wake(state, out);
        Ok(pending)
    }

    /// Adds its figures.
    pub(crate) fn count(&self, stats: &mut crate::Stats) {
        let state = self.inner.state.lock();
        state.groups.count(stats);
        stats.log_bytes += state.log.bytes();
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Environment {
    pub(crate) fn now(&self) -> Now {
        Now { monotonic: self.origin.elapsed(), wall: self.clock.now() }
    }

    fn new_groups(&self) -> Groups {
        Groups::new(Arc::clone(&self.config), Arc::clone(&self.room))
    }
}

impl State {
    fn wait(&mut self) -> (Token, oneshot::Receiver<Answer>) {
        new_waiter(&mut self.waiters, &mut self.next_token)
    }
}

fn new_waiter(
    waiters: &mut HashMap<Token, oneshot::Sender<Answer>>,
    next: &mut u64,
) -> (Token, oneshot::Receiver<Answer>) {
    let token = Token(*next);
    *next += 1;
    let (sender, receiver) = oneshot::channel();
    waiters.insert(token, sender);
    (token, receiver)
}

impl Inner {
    /// The state, of a shard that takes requests.
    fn active(&self) -> Result<MutexGuard<'_, State>, GroupError> {
        let state = self.state.lock();
        match state.phase {
            Phase::Active => Ok(state),
            Phase::Loading => Err(GroupError::CoordinatorLoadInProgress),
            Phase::Closed => Err(GroupError::NotCoordinator),
        }
    }

    /// Delivers answers and queues records.
    fn carry_out(&self, state: &mut State, out: Effects) {
        for (token, answer) in out.answers {
            let waiter = state.waiters.remove(&token).expect("a request is answered once");
            // One whose client has gone does not hear it.
            let _ = waiter.send(answer);
        }
        for store in out.stores {
            state.queue.push(store, false);
        }
    }

    /// The same after a request: the task, which sleeps, may have something to do now. (The task itself looks anyway; if
    /// it woke itself up while all its appends are under way, it would never sleep.)
    fn carry_out_and_wake(&self, state: &mut State, out: Effects) {
        self.carry_out(state, out);
        let asleep = |at| state.asleep_until.is_none_or(|until| at < until);
        if !state.queue.is_idle() || state.groups.next_deadline().is_some_and(asleep) {
            self.wake.notify_one();
        }
    }

    /// Stops taking requests; those that wait get this.
    fn stop(&self, phase: Phase, error: GroupError) {
        let mut state = self.state.lock();
        state.phase = phase;
        state.groups = self.environment.new_groups();
        state.queue = Queue::default();
        state.log = Log::default();
        for (_, waiter) in state.waiters.drain() {
            let _ = waiter.send(Answer::Refused(error));
        }
        drop(state);
        self.phase.send_replace(phase);
    }
}
