//! Sealed segments become data objects: read, sort by partition, PUT, commit the extents, move the frontier; from then on
//! the segment is a cache (`room.rs`).
//!
//! Objects are built one after another and put several at once, as many as their bytes in memory allow; they are committed
//! in the order of the journal. Uploading twice is harmless (O3): a commit names the frontier it starts from, and one that
//! does not match is refused. Nothing but a stop ends the uploader: a store that is slow, throttling or away only delays it.
//!
//! Cost: one PUT per segment (64 MiB, or 10 s of data) and one commit to the metadata.

mod object;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use journal::{Pool, Segment};
use metadata::{Command, JournalState, SubmitError};
use object_store::ObjectStoreExt;
use objects::format::BuildError;
use records::{JournalId, Position, Timestamp, TopicPartition};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use self::object::SegmentObject;
use crate::fetch::FetchError;
use crate::producers::Producers;
use crate::room;
use crate::store::{Inner, Log};

/// The first delay after a failure; it doubles from there.
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// The longest delay between two tries: producers that wait for room wait for it too, once the store is back.
const RETRY_LAST: Duration = Duration::from_secs(1);
/// How often a segment that cannot be read is tried before it is taken for damaged.
const READS_MAX: u32 = 3;
/// Objects that are put at once: with this many a store that answers in its time is kept busy.
const PUTS_MAX: usize = 4;

#[derive(Debug, thiserror::Error)]
enum UploadError {
    #[error(transparent)]
    Read(#[from] FetchError),
    #[error("what is staged cannot be read: {0}")]
    Staged(#[from] journal::ReadError),
    #[error("putting the object: {0}")]
    Put(#[from] object_store::Error),
    #[error("committing the object: {0}")]
    Commit(#[from] SubmitError),
    #[error("building the object: {0}")]
    Build(#[from] BuildError),
}

impl UploadError {
    /// Whether trying again cannot help: a person must look.
    fn is_grave(&self) -> bool {
        match self {
            Self::Read(error) => matches!(error, FetchError::Damaged(_)),
            Self::Build(_) | Self::Commit(SubmitError::Refused(_)) => true,
            Self::Staged(_) | Self::Put(_) | Self::Commit(_) => false,
        }
    }
}

/// Uploads what is sealed until the log stops.
pub(crate) async fn run(log: Log) {
    let options = &log.inner.options;
    let fit = usize::try_from(options.uploads_bytes_max / options.segment_bytes.max(1)).unwrap_or(PUTS_MAX);
    let puts = Arc::new(Semaphore::new(fit.clamp(1, PUTS_MAX)));
    let (sender, receiver) = mpsc::channel(PUTS_MAX);
    let builder =
        Builder { log: log.clone(), producers: HashMap::new(), started: Vec::new(), pool: Pool::new(), puts, sender };
    let committer = Committer { log: log.clone(), receiver };
    // What is being put when the log stops is not committed: it is put again by the next start, and swept where it lies.
    tokio::select! {
        () = log.inner.stop.cancelled() => {}
        () = builder.run() => {}
        () = committer.run() => {}
    }
}

/// A segment between its sealing and the commit of its object.
struct UnderWay {
    segment: Arc<Segment>,
    since: Instant,
    /// What is put, and what puts it; nothing where the segment's bytes were found to be in committed objects.
    object: Option<(Arc<SegmentObject>, AbortOnDropHandle<()>)>,
    _permit: OwnedSemaphorePermit,
}

/// Builds the objects of sealed segments, in the order of the journal, and begins to put them.
struct Builder {
    log: Log,
    /// What is remembered of producers as of where the last segment that was started ends.
    producers: HashMap<TopicPartition, Producers>,
    /// Those that are not committed yet.
    started: Vec<Arc<Segment>>,
    /// For segments that are no longer in memory.
    pool: Pool,
    puts: Arc<Semaphore>,
    sender: mpsc::Sender<UnderWay>,
}

impl Builder {
    async fn run(mut self) {
        let inner = self.log.inner.clone();
        loop {
            let Ok(permit) = self.puts.clone().acquire_owned().await else { return };
            let segment = loop {
                match self.next() {
                    Some(segment) => break segment,
                    None => {
                        self.pool.rest();
                        inner.shared.sealed.notified().await;
                    }
                }
            };
            self.started.push(segment.clone());
            let since = Instant::now();
            let object = self.start(&segment).await;
            if self.sender.send(UnderWay { segment, since, object, _permit: permit }).await.is_err() {
                return;
            }
        }
    }

    /// The sealed segment that follows those that were started.
    fn next(&mut self) -> Option<Arc<Segment>> {
        self.started.retain(|segment| !segment.is_uploaded());
        let staged = self.log.inner.catalog.staged();
        let is_started = |segment: &Arc<Segment>| self.started.iter().any(|started| Arc::ptr_eq(started, segment));
        staged.into_iter().find(|segment| !is_started(segment)).filter(|segment| segment.is_sealed())
    }

    /// Builds the segment's object, however often it takes, and begins to put it.
    async fn start(&mut self, segment: &Arc<Segment>) -> Option<(Arc<SegmentObject>, AbortOnDropHandle<()>)> {
        let inner = &self.log.inner;
        if uploaded(inner, segment.journal()) >= segment.end() {
            // Committed by others, or by a start before this one: what is remembered here is out of date.
            self.producers.clear();
            return None;
        }
        self.forget_producers();
        let inner = &self.log.inner;
        let mut trouble = Trouble::new(inner, segment);
        let mut unread = 0;
        let object = loop {
            let error = match object::build(inner, segment, &mut self.producers, &self.pool).await {
                Ok(object) => break Arc::new(object),
                Err(error) => error,
            };
            if matches!(error, UploadError::Staged(_)) {
                unread += 1;
                if unread == READS_MAX {
                    tracing::error!(
                        %error, journal = %segment.journal(),
                        "the staging disk lost what it had: the journal ends, and what can be read of it is recovered"
                    );
                    inner.metrics.journal_failed();
                    inner.shared.failed.cancel();
                    // Whoever recovers it stops this log first.
                    return std::future::pending().await;
                }
            }
            trouble.wait_after(&error).await;
        };
        let put = tokio::spawn(put(inner.clone(), segment.clone(), object.clone()));
        Some((object, AbortOnDropHandle::new(put)))
    }

    /// Forgets producers that are idle, and those of partitions that are gone.
    fn forget_producers(&mut self) {
        let inner = &self.log.inner;
        let idle = idle_before(inner);
        let image = inner.metadata.image();
        self.producers.retain(|id, _| image.partition(*id).is_some());
        for remembered in self.producers.values_mut() {
            remembered.expire(idle, inner.options.producers_max);
        }
    }
}

/// Commits objects that are stored, in the order of the journal.
struct Committer {
    log: Log,
    receiver: mpsc::Receiver<UnderWay>,
}

impl Committer {
    async fn run(mut self) {
        let inner = self.log.inner.clone();
        while let Some(UnderWay { segment, since, object, _permit }) = self.receiver.recv().await {
            let object = match object {
                Some((object, put)) => match put.await {
                    Ok(()) => Some(object),
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
                None => None,
            };
            let mut trouble = Trouble::new(&inner, &segment);
            while let Err(error) = self.commit(&segment, object.as_deref()).await {
                trouble.wait_after(&error.into()).await;
            }
            let idle = idle_before(&inner);
            for partition in self.log.open_partitions() {
                partition.expire_producers(idle);
            }
            // The frontier moves before the segment may go, so that a reader who misses it on disk finds it in the store.
            self.log.follow();
            room::uploaded(&inner, &segment);
            inner.metrics.get().upload_seconds.observe(since.elapsed().as_secs_f64());
            inner.shared.newest.lock().remove(&segment.first());
        }
    }

    async fn commit(&self, segment: &Segment, object: Option<&SegmentObject>) -> Result<(), SubmitError> {
        let inner = &self.log.inner;
        if let Some(SegmentObject { built, key, newest_append }) = object
            && uploaded(inner, segment.journal()) < segment.end()
        {
            let own = segment.journal() == inner.journal_id;
            let command = Command::CommitObject {
                journal: segment.journal(),
                from: segment.first(),
                to: segment.end(),
                object: metadata::ObjectMeta { id: built.object, key: key.to_string(), size: built.size },
                extents: built.extents.clone(),
                newest_append: *newest_append,
                durable_seen: if own { inner.journal.committed() } else { segment.end() },
                at: inner.clock.now(),
            };
            inner.metadata.submit(command).await?;
            inner.metrics.get().uploads.inc();
            inner.metrics.get().uploaded_bytes.inc_by(built.size);
            tracing::debug!(%key, size = built.size, "segment uploaded");
        }
        self.give_up_rest(segment).await
    }

    /// With the last segment of a journal that is shorter than its end, the rest is known to be lost: it is given up, so
    /// that what came later can be uploaded.
    async fn give_up_rest(&self, segment: &Segment) -> Result<(), SubmitError> {
        let inner = &self.log.inner;
        let journal = segment.journal();
        let is_last =
            inner.catalog.staged().iter().all(|other| other.journal() != journal || other.end() <= segment.end());
        let image = inner.metadata.image();
        let state = image.journals.get(&journal).map(|journal| journal.state);
        if is_last
            && let Some(JournalState::Sealed { end }) = state
            && segment.end() < end
        {
            tracing::warn!(%journal, %end, readable_end = %segment.end(), "the lost rest of a journal is given up");
            inner.metadata.submit(Command::AbandonJournal { journal, at: inner.clock.now() }).await?;
        }
        Ok(())
    }
}

/// Puts an object, however often it takes.
async fn put(inner: Arc<Inner>, segment: Arc<Segment>, object: Arc<SegmentObject>) {
    let mut trouble = Trouble::new(&inner, &segment);
    while let Err(error) = inner.objects.object_store().put(&object.key, object.built.payload.clone()).await {
        trouble.wait_after(&error.into()).await;
    }
}

/// What goes wrong with one segment: counted, told, and waited out.
struct Trouble {
    inner: Arc<Inner>,
    segment: Arc<Segment>,
    delay: Duration,
    was_grave: bool,
}

impl Trouble {
    fn new(inner: &Arc<Inner>, segment: &Arc<Segment>) -> Self {
        Self { inner: inner.clone(), segment: segment.clone(), delay: RETRY_FIRST, was_grave: false }
    }

    async fn wait_after(&mut self, error: &UploadError) {
        let segment = &self.segment;
        self.inner.metrics.get().upload_retries.inc();
        if error.is_grave() && !self.was_grave {
            self.was_grave = true;
            tracing::error!(
                %error, journal = %segment.journal(), path = %segment.path().display(),
                "a segment cannot be uploaded, nor any after it: a person must look"
            );
        } else {
            tracing::warn!(
                %error, journal = %segment.journal(), first = %segment.first(), bytes = segment.len(),
                retry_ms = u64::try_from(self.delay.as_millis()).unwrap_or(u64::MAX),
                "a segment could not be uploaded yet"
            );
        }
        tokio::time::sleep(self.delay).await;
        self.delay = (self.delay * 2).min(RETRY_LAST);
    }
}

/// How far a journal is uploaded, as the metadata knows it.
fn uploaded(inner: &Inner, journal: JournalId) -> Position {
    inner.metadata.image().journals.get(&journal).map_or(Position(0), |journal| journal.uploaded)
}

/// Producers not heard of since then are forgotten.
fn idle_before(inner: &Inner) -> Timestamp {
    let expiration = i64::try_from(inner.options.producer_expiration.as_millis()).unwrap_or(i64::MAX);
    Timestamp(inner.clock.now().0.saturating_sub(expiration))
}
