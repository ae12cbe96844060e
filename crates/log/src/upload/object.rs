//! A sealed segment's data object: the segment's batches sorted by partition, and with each extent what is remembered of
//! its producers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use journal::{Entry, Pool, Segment};
use object_store::path::Path;
use objects::format::{Built, ExtentSource, ObjectBuilder};
use records::{Batch, Timestamp, TopicPartition};

use super::{UploadError, idle_before};
use crate::fetch::FetchError;
use crate::producers::Producers;
use crate::snapshot::{self, SnapshotRef};
use crate::store::Inner;

/// One segment's object. It keeps its id through all tries, so that a PUT or a commit whose answer was lost is repeated,
/// not made a second time.
pub(super) struct SegmentObject {
    pub(super) built: Built,
    pub(super) key: Path,
    pub(super) newest_append: Timestamp,
}

/// Builds a segment's object; `producers` are those as of where the segment begins, and then as of its end. They are as
/// they were when it fails.
pub(super) async fn build(
    inner: &Arc<Inner>,
    segment: &Arc<Segment>,
    producers: &mut HashMap<TopicPartition, Producers>,
    pool: &Pool,
) -> Result<SegmentObject, UploadError> {
    let extents = by_partition(inner, segment, pool).await?;
    let id = inner.random.uuid();
    let image = inner.metadata.image();
    let (now, idle) = (inner.clock.now(), idle_before(inner));
    let mut after = HashMap::new();
    let mut builder = ObjectBuilder::new(id, segment.journal(), segment.first(), segment.end());
    for (topic_partition, batches) in extents {
        // A partition deleted meanwhile needs no extent.
        let Some(state) = image.partition(topic_partition) else { continue };
        let mut known = match producers.get(&topic_partition) {
            Some(known) => known.clone(),
            None => snapshot::load(inner, topic_partition, &SnapshotRef { below: state.frontier }).await?,
        };
        for batch in &batches {
            known.applied(batch.header(), now);
        }
        known.expire(idle, inner.options.producers_max);
        let producer_snapshot = snapshot::encode(&known);
        builder.push(ExtentSource { topic_partition, batches, producer_snapshot, aborted: Vec::new() })?;
        after.insert(topic_partition, known);
    }
    producers.extend(after);
    // Of a segment that an earlier process wrote, nobody knows; then what was known before still holds.
    let known =
        inner.shared.newest.lock().get(&segment.first()).copied().filter(|_| segment.journal() == inner.journal_id);
    let before = image.journals.get(&segment.journal()).map(|journal| journal.last_commit.newest_append);
    Ok(SegmentObject {
        built: builder.finish(),
        key: objects::keys::data_key(&inner.cluster, segment.journal(), segment.first(), id),
        newest_append: known.or(before).unwrap_or(now),
    })
}

/// The segment's batches, checked once more, sorted by partition. Most are still in memory, and are taken from there.
async fn by_partition(
    inner: &Arc<Inner>,
    segment: &Arc<Segment>,
    pool: &Pool,
) -> Result<BTreeMap<TopicPartition, Vec<Batch>>, UploadError> {
    let (worker, segment, pool) = (inner.clone(), segment.clone(), pool.clone());
    let read = move || {
        let is_own = segment.journal() == worker.journal_id;
        segment.read_all(|of, entry| if is_own { remembered(&worker, of, entry) } else { None }, &pool)
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
