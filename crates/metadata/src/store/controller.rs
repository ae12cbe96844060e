//! The one writer: takes a batch of commands, checks them in order, writes, awaits durability, publishes, answers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use moka::future::Cache;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::database::{self, Database, WriteError};
use super::feed::Feed;
use super::local::{Garbage, Local, Shared, Submitted, SweepEnd, Swept, Work};
use super::rows::{self, Commit};
use super::{OpenError, Options, StopReason, collect, orphans, sweep};
use crate::handle::{Handle, SubmitError};
use crate::machine::{Change, Image, Reply, check, swept};

/// How many commands are written as one batch at most.
const BATCH_MAX: usize = 256;
/// How many changes one batch takes before the next command waits for the next batch. One command may have more.
const CHANGES_MAX: usize = 20_000;
/// How many objects' places are remembered.
const OBJECTS_MAX: u64 = 16_384;
/// How long a write may take before it is reported that commands wait.
const SLOW: Duration = Duration::from_secs(10);
const REOPEN_FIRST: Duration = Duration::from_millis(100);
const REOPEN_LAST: Duration = Duration::from_secs(10);

/// Holds the database open and carries out commands, until it is closed or dropped.
pub struct Controller {
    pub(super) local: Local,
    feed: Feed,
    stop: CancellationToken,
    running: JoinHandle<StopReason>,
    background: [AbortOnDrop; 3],
}

impl fmt::Debug for Controller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Controller").field("revision", &self.local.image().revision).finish_non_exhaustive()
    }
}

impl Controller {
    /// Opens the cluster's metadata, which fences whoever had it open, and begins to take commands. A store that does not
    /// answer is asked again and again: callers that cannot wait set a time-out. Cancellation safe.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(options: Options) -> Result<Self, OpenError> {
        if !objects::keys::is_cluster_name(&options.cluster) {
            return Err(OpenError::ClusterName(options.cluster));
        }
        let started = Instant::now();
        let cluster_id = database::cluster_id(&options).await?;
        let database = Database::open(&options, None).await?;
        let image = Arc::new(database.load(Image::new(cluster_id, options.limits)).await?);
        let last = database.last_commit().await?;
        let garbage = Garbage { more: Notify::new(), metrics: options.metrics.clone() };
        let (objects, bytes) = database.garbage().await?;
        garbage.metrics.garbage_found(objects, bytes);
        tracing::info!(
            cluster = %options.cluster, %cluster_id, revision = image.revision, topics = image.topics.len(),
            partitions = image.partition_count(), took_ms = started.elapsed().as_millis(), "metadata opened"
        );
        let (work, queue) = mpsc::channel(options.queue_max.max(1));
        let (publish, published) = watch::channel(image.clone());
        let (stopped, stop_seen) = watch::channel(None);
        let local = Local {
            shared: Arc::new(Shared {
                work,
                image: published,
                stopped: stop_seen,
                db: ArcSwap::from_pointee(database.db.clone()),
                objects: Cache::new(OBJECTS_MAX),
                garbage,
            }),
        };
        let feed = Feed { image: local.watch(), batches: Arc::default() };
        let stop = CancellationToken::new();
        let background = [
            tokio::spawn(sweep::run(local.clone(), options.clock.clone())),
            tokio::spawn(collect::run(local.clone(), options.clone())),
            tokio::spawn(orphans::run(local.clone(), options.clone())),
        ];
        let task = Loop {
            options,
            local: local.clone(),
            feed: feed.clone(),
            queue,
            publish,
            image,
            last,
            database: Some(database),
            stop: stop.clone(),
        };
        let running = tokio::spawn(task.run(stopped));
        Ok(Self { local, feed, stop, running, background: background.map(AbortOnDrop) })
    }

    /// The state for brokers that follow.
    #[must_use]
    pub fn feed(&self) -> Feed {
        self.feed.clone()
    }

    /// What others hold of it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle::new(self.local.watch(), Arc::new(self.local.clone()))
    }

    /// Answers the commands that were submitted, closes the database, and says why it stopped if it did so before. Waits
    /// for a store that does not answer: callers set a time-out, after which everything stops as it is, and nothing that
    /// was answered is lost.
    pub async fn close(mut self) -> StopReason {
        self.background.iter().for_each(|task| task.0.abort());
        self.stop.cancel();
        (&mut self.running).await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    }
}

impl Drop for Controller {
    fn drop(&mut self) {
        self.stop.cancel();
        self.running.abort();
    }
}

/// A task that ends with its owner.
#[derive(Debug)]
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Loop {
    options: Options,
    local: Local,
    feed: Feed,
    queue: mpsc::Receiver<Work>,
    publish: watch::Sender<Arc<Image>>,
    /// What is durable.
    image: Arc<Image>,
    /// The row of the last durable batch.
    last: Option<Commit>,
    /// Absent only while it is opened again.
    database: Option<Database>,
    stop: CancellationToken,
}

/// What waits for a batch to be durable.
enum Waiting {
    Command(oneshot::Sender<Result<Reply, SubmitError>>, Result<Reply, SubmitError>),
    Sweep(oneshot::Sender<()>),
}

impl Loop {
    async fn run(mut self, stopped: watch::Sender<Option<StopReason>>) -> StopReason {
        let reason = self.work().await;
        // From here on, whoever submits or waits is told why.
        stopped.send_replace(Some(reason.clone()));
        self.queue.close();
        while let Some(work) = self.queue.recv().await {
            if let Work::Command(Submitted { answer, .. }) = work {
                let _ = answer.send(Err(reason.clone().into()));
            }
        }
        match &reason {
            StopReason::Closed => tracing::info!("metadata closed"),
            StopReason::Fenced => tracing::warn!("another broker took over the metadata: this one stops acting on it"),
            StopReason::Corrupt(why) => tracing::error!(%why, "the stored metadata is not what was written"),
        }
        if let Some(database) = self.database.take() {
            database.close().await;
        }
        reason
    }

    async fn work(&mut self) -> StopReason {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        loop {
            let taken = tokio::select! {
                biased;
                () = self.stop.cancelled() => {
                    // What was submitted before is still carried out.
                    self.queue.close();
                    self.queue.recv_many(&mut batch, BATCH_MAX).await
                }
                taken = self.queue.recv_many(&mut batch, BATCH_MAX) => taken,
            };
            if taken == 0 {
                return StopReason::Closed;
            }
            let mut batch = batch.drain(..).peekable();
            while batch.peek().is_some() {
                if let Err(reason) = self.carry_out(&mut batch).await {
                    batch.for_each(|work| {
                        if let Work::Command(Submitted { answer, .. }) = work {
                            let _ = answer.send(Err(reason.clone().into()));
                        }
                    });
                    return reason;
                }
            }
        }
    }

    /// Carries out as much of `work` as goes into one batch.
    async fn carry_out(&mut self, work: &mut impl Iterator<Item = Work>) -> Result<(), StopReason> {
        let mut changed: Option<Image> = None;
        let mut changes: Vec<Change> = Vec::new();
        let mut waiting = Vec::new();
        while changes.len() < CHANGES_MAX
            && let Some(work) = work.next()
        {
            let new = match work {
                Work::Command(Submitted { command, answer }) => {
                    // Each command sees what those before it do.
                    let image = changed.as_ref().unwrap_or(&self.image);
                    let (reply, new) = match check(image, &command) {
                        Ok((reply, new)) => (Ok(reply), new),
                        Err(refusal) => (Err(refusal.into()), Vec::new()),
                    };
                    waiting.push(Waiting::Command(answer, reply));
                    new
                }
                Work::Sweep(Swept { mut changes, bytes, ends, done }) => {
                    waiting.push(Waiting::Sweep(done));
                    let image = changed.as_ref().unwrap_or(&self.image);
                    changes.extend(bytes.into_iter().filter_map(|(of, bytes)| swept(image, of, bytes)));
                    changes.extend(ends.into_iter().filter_map(|end| ended(image, end)));
                    changes
                }
            };
            if !new.is_empty() {
                changed.get_or_insert_with(|| (*self.image).clone()).apply(&new);
                changes.extend(new);
            }
        }
        if let Some(mut image) = changed {
            image.revision += 1;
            let commit = Commit { revision: image.revision, id: self.options.random.uuid() };
            let written = self.write_reporting(&changes, commit).await;
            if let Err(reason) = written {
                for waiting in waiting {
                    if let Waiting::Command(answer, _) = waiting {
                        let _ = answer.send(Err(reason.clone().into()));
                    }
                }
                return Err(reason);
            }
            self.last = Some(commit);
            self.image = Arc::new(image);
            self.feed.batches.push(self.image.revision, &changes);
            self.publish.send_replace(self.image.clone());
            self.local.shared.garbage.changed(&changes);
        }
        // Whoever asked may have gone.
        for waiting in waiting {
            match waiting {
                Waiting::Command(answer, reply) => drop(answer.send(reply)),
                Waiting::Sweep(done) => drop(done.send(())),
            }
        }
        Ok(())
    }

    /// As [`Loop::write`], and says so while the store keeps everybody waiting.
    async fn write_reporting(&mut self, changes: &[Change], commit: Commit) -> Result<(), StopReason> {
        let started = Instant::now();
        let mut write = Box::pin(self.write(changes, commit));
        loop {
            match tokio::time::timeout(SLOW, &mut write).await {
                Ok(written) => return written,
                Err(_) => tracing::warn!(
                    waited_s = started.elapsed().as_secs(),
                    changes = changes.len(),
                    "the object store does not take the metadata: commands wait"
                ),
            }
        }
    }

    /// Writes a batch, once, whatever the store does meanwhile (see the module [`super`]).
    async fn write(&mut self, changes: &[Change], commit: Commit) -> Result<(), StopReason> {
        loop {
            let database = self.database.as_mut().expect("the database is open between batches");
            match database.write(rows::batch(changes, commit)).await {
                Ok(()) => return Ok(()),
                Err(WriteError::Fenced) => return Err(StopReason::Fenced),
                Err(WriteError::Unclear(error)) => {
                    tracing::warn!(%error, "a metadata write ended unclearly: the database is opened again");
                }
            }
            let stored = self.reopen().await?;
            if stored == Some(commit) {
                return Ok(());
            }
            if stored.zip(self.last).is_some_and(|(stored, last)| stored.revision > last.revision) {
                return Err(StopReason::Fenced);
            }
            if stored != self.last {
                return Err(StopReason::Corrupt(format!(
                    "the last batch is {stored:?}, neither the one before, {:?}, nor the one that was being written",
                    self.last
                )));
            }
        }
    }

    /// Opens the database again as the next writer after ourselves, and reads what the last batch was.
    ///
    /// An opening that fails may have claimed the next epoch already, and then the one after it seems to be fenced. So that
    /// one is made anew after the epoch that may be ours. Should it have been another broker's after all, that one is fenced
    /// in turn, and what it wrote, if anything, shows in the last batch.
    async fn reopen(&mut self) -> Result<Option<Commit>, StopReason> {
        let old = self.database.take().expect("the database is open between batches");
        let mut epoch = old.epoch();
        let mut maybe_ours = epoch;
        old.close().await;
        let mut delay = REOPEN_FIRST;
        loop {
            let opened = match Database::open(&self.options, Some(epoch)).await {
                Ok(database) => database.last_commit().await.map(|last| (database, last)).map_err(OpenError::from),
                Err(error) => Err(error.into()),
            };
            match opened {
                Ok((database, last)) => {
                    self.local.shared.db.store(Arc::new(database.db.clone()));
                    self.database = Some(database);
                    return Ok(last);
                }
                Err(OpenError::Fenced) if epoch < maybe_ours => epoch += 1,
                Err(OpenError::Fenced) => return Err(StopReason::Fenced),
                Err(error) => {
                    maybe_ours = epoch + 1;
                    tracing::warn!(%error, retry_ms = delay.as_millis(), "the metadata database cannot be opened yet");
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(REOPEN_LAST);
                }
            }
        }
    }
}

/// The end of a sweep, unless the log start moved on after the sweeper looked: then there is more to do.
fn ended(image: &Image, end: SweepEnd) -> Option<Change> {
    match end {
        SweepEnd::Deleted(topic) => Some(Change::EndDeleted(topic)),
        SweepEnd::Trim(of, swept) => {
            let moved = image.partition(of).is_some_and(|state| state.log_start > swept);
            (!moved).then_some(Change::EndTrim(of))
        }
    }
}
