//! Sealed segments become data objects: read, sort by partition, PUT, commit the extents, move the frontier, delete the
//! segment. In the order of the journal, one after another.
//!
//! Uploading twice is harmless (O3): a commit names the frontier it starts from, and one that does not match is refused.
//! Nothing but a stop ends the uploader: a store that is slow, throttling or away only delays it.
//!
//! Cost: one PUT per segment (64 MiB, or 10 s of data) and one commit to the metadata.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use journal::Segment;
use metadata::{Command, SubmitError};
use object_store::{ObjectStoreExt, PutPayload};
use objects::format::{BuildError, Built, ExtentSource, ObjectBuilder};
use records::{Batch, Position, Timestamp, TopicPartition};

use crate::fetch::FetchError;
use crate::producers::Producers;
use crate::snapshot::{self, SnapshotRef};
use crate::store::{Inner, Log};

/// The first delay after a failure; it doubles from there.
const RETRY_FIRST: Duration = Duration::from_millis(100);
/// The longest delay between two tries.
const RETRY_LAST: Duration = Duration::from_secs(10);

#[derive(Debug, thiserror::Error)]
enum UploadError {
    #[error(transparent)]
    Read(#[from] FetchError),
    #[error("putting the object: {0}")]
    Put(#[from] object_store::Error),
    #[error("committing the object: {0}")]
    Commit(#[from] SubmitError),
    #[error("building the object: {0}")]
    Build(#[from] BuildError),
}

/// Uploads what is sealed until the log stops.
pub(crate) async fn run(log: Log) {
    let inner = log.inner.clone();
    let mut uploader = Uploader { log, producers: HashMap::new() };
    loop {
        let oldest = inner.catalog.segments().into_iter().next().filter(|segment| segment.is_sealed());
        let work = async {
            match oldest {
                Some(segment) => uploader.upload_until_done(&segment).await,
                None => inner.sealed.notified().await,
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
        while let Err(error) = self.upload(segment).await {
            metrics.get().upload_retries.inc();
            tracing::warn!(
                %error, journal = %segment.journal(), first = %segment.first(), bytes = segment.len(),
                retry_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX), "a segment could not be uploaded yet"
            );
            tokio::time::sleep(delay).await;
            delay = (delay * 2).min(RETRY_LAST);
        }
        metrics.get().upload_seconds.observe(started.elapsed().as_secs_f64());
    }

    async fn upload(&mut self, segment: &Arc<Segment>) -> Result<(), UploadError> {
        let inner = self.log.inner.clone();
        let image = inner.metadata.image();
        let uploaded = image.journals.get(&segment.journal()).map_or(Position(0), |journal| journal.uploaded);
        if uploaded < segment.end() {
            let extents = by_partition(&inner, segment).await?;
            let (object, id, producers) = self.build(segment, extents).await?;
            let key = objects::keys::data_key(&inner.cluster, segment.journal(), segment.first(), id);
            let size = object.size;
            let payload: PutPayload = object.payload;
            inner.objects.object_store().put(&key, payload).await?;
            let command = Command::CommitObject {
                journal: segment.journal(),
                from: segment.first(),
                to: segment.end(),
                object: metadata::ObjectMeta { id, key: key.to_string(), size },
                extents: object.extents,
                newest_append: self.log.inner.clock.now(),
                durable_seen: if segment.journal() == inner.journal_id { inner.journal.committed() } else { segment.end() },
                at: inner.clock.now(),
            };
            inner.metadata.submit(command).await?;
            self.producers.extend(producers);
            inner.metrics.get().uploads.inc();
            inner.metrics.get().uploaded_bytes.inc_by(size);
            tracing::debug!(%key, size, "segment uploaded");
        }
        // The frontier moves before the segment goes, so that a reader who misses it on disk finds it in the store.
        self.log.follow(&inner.metadata.image());
        trim(&inner, segment);
        Ok(())
    }

    /// Builds the object. The producers' state as of its end is returned, and becomes ours once the object is committed.
    async fn build(
        &self,
        segment: &Segment,
        extents: BTreeMap<TopicPartition, Vec<Batch>>,
    ) -> Result<(Built, uuid::Uuid, HashMap<TopicPartition, Producers>), UploadError> {
        let inner = &self.log.inner;
        let id = inner.random.uuid();
        let image = inner.metadata.image();
        let expired = Timestamp(
            inner.clock.now().0 - i64::try_from(inner.options.producer_expiration.as_millis()).unwrap_or(i64::MAX),
        );
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
                producers.applied(batch);
            }
            producers.expire(expired, inner.options.producers_max);
            let producer_snapshot = snapshot::encode(&producers);
            builder.push(ExtentSource { topic_partition, batches, producer_snapshot, aborted: Vec::new() })?;
            after.insert(topic_partition, producers);
        }
        Ok((builder.finish(), id, after))
    }
}

/// The segment's batches, checked once more, sorted by partition.
async fn by_partition(
    inner: &Arc<Inner>,
    segment: &Arc<Segment>,
) -> Result<BTreeMap<TopicPartition, Vec<Batch>>, FetchError> {
    let segment = segment.clone();
    let frames = tokio::task::spawn_blocking(move || segment.read_all()).await.map_err(|_| FetchError::Stopping)??;
    let image = inner.metadata.image();
    let mut sorted: BTreeMap<TopicPartition, Vec<Batch>> = BTreeMap::new();
    for (topic_partition, batch) in frames {
        if image.partition(topic_partition).is_some() {
            sorted.entry(topic_partition).or_default().push(batch);
        }
    }
    Ok(sorted)
}

/// The segment is in the object store: it leaves the disk.
fn trim(inner: &Inner, segment: &Segment) {
    if segment.journal() == inner.journal_id {
        inner.journal.uploaded(segment.end());
    }
    if let Err(error) = inner.catalog.delete(segment) {
        tracing::warn!(%error, path = %segment.path().display(), "an uploaded segment could not be deleted");
    }
    if segment.journal() == inner.journal_id {
        inner.journal.trimmed(segment.end());
    } else if inner.catalog.segments().iter().all(|other| other.journal() != segment.journal())
        && let Err(error) = journal::remove(&inner.options.staging, segment.journal())
    {
        tracing::warn!(%error, journal = %segment.journal(), "a drained journal's folder could not be deleted");
    }
    inner.trimmed.notify_waiters();
}
