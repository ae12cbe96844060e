//! The staging disk's room. What is not uploaded comes first; uploaded segments stay as a cache in what is left, and go
//! oldest first when it is needed: when the configured bytes, the disk itself, or the memory for indexes run short.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use journal::Segment;

use crate::recover;
use crate::store::{Inner, Log};

/// Batches that the indexes of cached segments hold at most: 32 MiB of memory.
const CACHED_ENTRIES_MAX: u64 = 1 << 20;

/// Makes room whenever a segment was sealed or uploaded, until the log stops.
pub(crate) async fn run(log: Log) {
    let inner = log.inner;
    loop {
        tokio::select! {
            () = inner.stop.cancelled() => return,
            () = inner.shared.crowded.notified() => {}
        }
        let worker = inner.clone();
        // Unlinking a large file takes a while.
        if let Err(error) = tokio::task::spawn_blocking(move || make_room(&worker)).await {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

/// All of a segment is in committed objects: it no longer counts as staged.
pub(crate) fn uploaded(inner: &Inner, segment: &Segment) {
    if segment.journal() == inner.journal_id {
        inner.journal.uploaded(segment.end());
    }
    segment.mark_uploaded();
    let staged = inner.shared.staged.fetch_sub(segment.len(), Ordering::AcqRel) - segment.len();
    inner.shared.staged_batches.fetch_sub(segment.entries(), Ordering::AcqRel);
    inner.metrics.staged(staged);
    inner.unstaged.notify_waiters();
    inner.shared.crowded.notify_one();
}

/// Deletes cached segments, oldest first, until the rest fits.
fn make_room(inner: &Inner) {
    while is_crowded(inner)
        && let Some(segment) = inner.catalog.oldest_uploaded()
    {
        trim(inner, &segment);
    }
    inner.metrics.cached(inner.catalog.usage().cached_bytes);
}

/// Deletes all cached segments.
#[cfg(test)]
pub(crate) fn empty(inner: &Inner) {
    while let Some(segment) = inner.catalog.oldest_uploaded() {
        trim(inner, &segment);
    }
}

fn is_crowded(inner: &Inner) -> bool {
    let usage = inner.catalog.usage();
    // The segment that is being written, and the next one, are preallocated whole.
    let reserve = inner.options.segment_bytes.saturating_mul(2);
    let budget = inner.options.staging_bytes_max.saturating_sub(reserve);
    let disk_is_full = || inner.options.staging.space().is_ok_and(|(total, free)| free < reserve.min(total / 2));
    usage.staged_bytes + usage.cached_bytes > budget || usage.entries > CACHED_ENTRIES_MAX || disk_is_full()
}

/// Deletes a cached segment that cannot be read.
pub(crate) fn discard(inner: &Inner, segment: &Segment) {
    if let Err(error) = inner.catalog.delete(segment) {
        tracing::warn!(%error, path = %segment.path().display(), "an uploaded segment could not be deleted");
    }
}

/// Takes a segment that is uploaded from the disk; a journal that ended leaves with its last one.
fn trim(inner: &Inner, segment: &Arc<Segment>) {
    let journal = segment.journal();
    discard(inner, segment);
    if journal == inner.journal_id {
        inner.journal.trimmed(segment.end());
    } else if inner.catalog.segments().iter().all(|other| other.journal() != journal) {
        recover::remove_drained(&inner.options, &inner.metadata.image(), |journal| {
            journal == inner.journal_id || inner.catalog.segments().iter().any(|segment| segment.journal() == journal)
        });
    }
}
