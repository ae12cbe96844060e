//! Sealed segments become data objects: read, sort by partition, PUT, commit the extents, move the frontier; from then on
//! the segment is a cache (`room.rs`). In the order of the journal, one after another.
//!
//! Uploading twice is harmless (O3): a commit names the frontier it starts from, and one that does not match is refused.
//! Nothing but a stop ends the uploader: a store that is slow, throttling or away only delays it.
//!
//! Cost: one PUT per segment (64 MiB, or 10 s of data) and one commit to the metadata.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use journal::{Entry, Segment};
use metadata::{Command, JournalState, SubmitError};
use object_store::ObjectStoreExt;
use objects::format::{BuildError, Built, ExtentSource, ObjectBuilder};
use records::{Batch, JournalId, Position, Timestamp, TopicPartition};

use crate::fetch::FetchError;
use crate::producers::Producers;
use crate::room;
use crate::snapshot::{self, SnapshotRef};
use crate::store::{Inner, Log};

/// The first delay after a failure; it doubles from there.
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// The longest delay between two tries: producers that wait for room wait for it too, once the store is back.
const RETRY_LAST: Duration = Duration::from_secs(1);
/// How often a segment that cannot be read is tried before it is taken for damaged.
const READS_MAX: u32 = 3;

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

/// One segment's object, once it is built. It keeps its id through all tries, so that a PUT or a commit whose answer was
/// lost is repeated, not made a second time.
struct Attempt {
    object: Built,
    key: object_store::path::Path,
    /// The producers' state as of the object's end; becomes the uploader's once the object is committed.
    producers: HashMap<TopicPartition, Producers>,
    newest_append: Timestamp,
    is_stored: bool,
}

/// Uploads what is sealed until the log stops.
pub(crate) async fn run(log: Log) {
    let inner = log.inner.clone();
    let mut uploader = Uploader { log, producers: HashMap::new() };
    loop {
        let oldest = inner.catalog.staged().into_iter().next().filter(|segment| segment.is_sealed());
        let work = async {
            match oldest {
                Some(segment) => uploader.upload_until_done(&segment).await,
                None => inner.shared.sealed.notified().await,
            }
        };
        tokio::select! {
            () = inner.stop.cancelled() => return,
            () = work => {}
        }
    }
}

struct Uploader {
    log: Log,
    /// What is remembered of producers as of each partition's frontier.
    producers: HashMap<TopicPartition, Producers>,
}

impl Uploader {
    async fn upload_until_done(&mut self, segment: &Arc<Segment>) {
        let metrics = self.log.inner.metrics.clone();
        let started = tokio::time::Instant::now();
        let mut delay = RETRY_FIRST;
        let (mut attempt, mut was_grave, mut unread) = (None, false, 0);
        while let Err(error) = self.upload(segment, &mut attempt).await {
            metrics.get().upload_retries.inc();
            if matches!(error, UploadError::Staged(_)) {
                unread += 1;
                if unread == READS_MAX {
                    tracing::error!(
                        %error, journal = %segment.journal(),
                        "the staging disk lost what it had: the journal ends, and what can be read of it is recovered"
                    );
                    metrics.journal_failed();
                    self.log.inner.shared.failed.cancel();
                    // Whoever recovers it stops this log first.
                    return std::future::pending().await;
                }
            }
            if error.is_grave() && !was_grave {
                was_grave = true;
                tracing::error!(
                    %error, journal = %segment.journal(), path = %segment.path().display(),
                    "a segment cannot be uploaded, nor any after it: a person must look"
                );
            } else {
                tracing::warn!(
                    %error, journal = %segment.journal(), first = %segment.first(), bytes = segment.len(),
                    retry_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), "a segment could not be uploaded yet"
                );
            }
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(RETRY_LAST);
        }
        metrics.get().upload_seconds.observe(started.elapsed().as_secs_f64());
        self.log.inner.shared.newest.lock().remove(&segment.first());
    }

    async fn upload(&mut self, segment: &Arc<Segment>, attempt: &mut Option<Attempt>) -> Result<(), UploadError> {
        let inner = self.log.inner.clone();
        if uploaded(&inner, segment.journal()) < segment.end() {
            let attempt = match attempt {
                Some(attempt) => attempt,
                None => attempt.insert(self.build(segment).await?),
            };
            let Built { object: id, payload, extents, size } = &attempt.object;
            if !attempt.is_stored {
                inner.objects.object_store().put(&attempt.key, payload.clone()).await?;
                attempt.is_stored = true;
            }
            let own = segment.journal() == inner.journal_id;
            let command = Command::CommitObject {
                journal: segment.journal(),
                from: segment.first(),
                to: segment.end(),
                object: metadata::ObjectMeta { id: *id, key: attempt.key.to_string(), size: *size },
                extents: extents.clone(),
                newest_append: attempt.newest_append,
                durable_seen: if own { inner.journal.committed() } else { segment.end() },
                at: inner.clock.now(),
            };
            inner.metadata.submit(command).await?;
            inner.metrics.get().uploads.inc();
            inner.metrics.get().uploaded_bytes.inc_by(*size);
            tracing::debug!(key = %attempt.key, size, "segment uploaded");
        }
        match attempt.take() {
            Some(attempt) => self.advance(attempt.producers),
            // Committed by others, or by a start before this one: what is remembered here is out of date.
            None => self.producers.clear(),
        }
        self.give_up_rest(segment).await?;
        // The frontier moves before the segment may go, so that a reader who misses it on disk finds it in the store.
        self.log.follow();
        room::uploaded(&inner, segment);
        Ok(())
    }

    /// Takes the producers of a committed object over, and forgets those that are idle.
    fn advance(&mut self, producers: HashMap<TopicPartition, Producers>) {
        let inner = &self.log.inner;
        let idle = idle_before(inner);
        for partition in self.log.open_partitions() {
            partition.expire_producers(idle);
        }
        for remembered in self.producers.values_mut() {
            remembered.expire(idle, inner.options.producers_max);
        }
        self.producers.extend(producers);
        let image = inner.metadata.image();
        self.producers.retain(|id, _| image.partition(*id).is_some());
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

    /// Builds the object.
    async fn build(&self, segment: &Arc<Segment>) -> Result<Attempt, UploadError> {
        let inner = &self.log.inner;
        let extents = by_partition(inner, segment).await?;
        let id = inner.random.uuid();
        let image = inner.metadata.image();
        let (now, idle) = (inner.clock.now(), idle_before(inner));
        let mut after = HashMap::new();
        let mut builder = ObjectBuilder::new(id, segment.journal(), segment.first(), segment.end());
        for (topic_partition, batches) in extents {
            // A partition deleted meanwhile needs no extent.
            let Some(state) = image.partition(topic_partition) else { continue };
            let mut producers = match self.producers.get(&topic_partition) {
                Some(producers) => producers.clone(),
                None => snapshot::load(inner, topic_partition, &SnapshotRef { below: state.frontier }).await?,
            };
            for batch in &batches {
                producers.applied(batch.header(), now);
            }
            producers.expire(idle, inner.options.producers_max);
            let producer_snapshot = snapshot::encode(&producers);
            builder.push(ExtentSource { topic_partition, batches, producer_snapshot, aborted: Vec::new() })?;
            after.insert(topic_partition, producers);
        }
        // Of a segment that an earlier process wrote, nobody knows; then what was known before still holds.
        let known =
            inner.shared.newest.lock().get(&segment.first()).copied().filter(|_| segment.journal() == inner.journal_id);
        let before = image.journals.get(&segment.journal()).map(|journal| journal.last_commit.newest_append);
        Ok(Attempt {
            object: builder.finish(),
            key: objects::keys::data_key(&inner.cluster, segment.journal(), segment.first(), id),
            producers: after,
            newest_append: known.or(before).unwrap_or(now),
            is_stored: false,
        })
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

/// The segment's batches, checked once more, sorted by partition. Most are still in memory, and are taken from there.
async fn by_partition(
    inner: &Arc<Inner>,
    segment: &Arc<Segment>,
) -> Result<BTreeMap<TopicPartition, Vec<Batch>>, UploadError> {
    let (worker, segment) = (inner.clone(), segment.clone());
    let read = move || {
        let is_own = segment.journal() == worker.journal_id;
        segment.read_all(|of, entry| if is_own { remembered(&worker, of, entry) } else { None })
    };
    let frames = tokio::task::spawn_blocking(read).await.map_err(|_| FetchError::Stopping)??;
    let image = inner.metadata.image();
    let mut sorted: BTreeMap<TopicPartition, Vec<Batch>> = BTreeMap::new();
    for (topic_partition, batch) in frames {
        if image.partition(topic_partition).is_some() {
            sorted.entry(topic_partition).or_default().push(batch);
        }
    }
    Ok(sorted)
}

/// A batch of this process's journal, from the tail in memory.
fn remembered(inner: &Inner, of: TopicPartition, entry: &Entry) -> Option<Batch> {
    let partition = inner.partitions.read().get(&of).cloned()?;
    let batch = partition.read_tail(entry.base_offset, entry.next_offset, 1)?.into_iter().next()?;
    let is_it = batch.base_offset() == entry.base_offset && batch.next_offset() == entry.next_offset;
    (is_it && batch.check_crc().is_ok()).then_some(batch)
}
