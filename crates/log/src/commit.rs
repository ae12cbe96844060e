//! What the journal's thread tells: appends are committed, segments are sealed, the disk failed.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use journal::{Committed, Segment, Stats};
use parking_lot::Mutex;
use records::{Clock, Offset, Position, Timestamp};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::partition::Partition;
use crate::tail::Ring;

/// Travels with an append through the journal: whom to tell when it is committed.
#[derive(Debug)]
pub struct Token {
    pub(crate) partition: Arc<Partition>,
    pub(crate) next_offset: Offset,
    pub(crate) bytes: usize,
}

/// What the journal's thread tells the rest of the log.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Bytes of frames on the staging disk: those of [`journal::Catalog::bytes`], counted as they come and go.
    pub(crate) staged: AtomicU64,
    /// Batches in them.
    pub(crate) staged_batches: AtomicU64,
    /// Woken when a segment is sealed.
    pub(crate) sealed: Notify,
    /// Woken when the staging disk may have less room than it should.
    pub(crate) crowded: Notify,
    /// When the newest append of each sealed segment was committed, by the segment's first position. The uploader takes
    /// entries out.
    pub(crate) newest: Mutex<HashMap<Position, Timestamp>>,
    /// Cancelled when the journal ended by a failure.
    pub(crate) failed: CancellationToken,
}

/// Runs on the journal's thread: moves high watermarks and never blocks.
pub(crate) struct Commits {
    pub(crate) ring: Ring,
    pub(crate) shared: Arc<Shared>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) newest: Timestamp,
    pub(crate) metrics: Metrics,
}

impl Committed<Token> for Commits {
    fn committed(&mut self, tokens: &mut dyn Iterator<Item = Token>) {
        self.newest = self.clock.now();
        for token in tokens {
            token.partition.committed(token.next_offset);
            self.ring.push(token.partition, token.next_offset, token.bytes);
        }
    }

    fn sealed(&mut self, segment: Arc<Segment>) {
        tracing::debug!(journal = %segment.journal(), first = %segment.first(), bytes = segment.len(), "segment sealed");
        self.shared.newest.lock().insert(segment.first(), self.newest);
        self.shared.sealed.notify_one();
        self.shared.crowded.notify_one();
    }

    fn synced(&mut self, stats: Stats) {
        let staged = self.shared.staged.fetch_add(stats.bytes, Ordering::AcqRel) + stats.bytes;
        self.shared.staged_batches.fetch_add(stats.appends as u64, Ordering::AcqRel);
        self.metrics.staged(staged);
        self.metrics.synced(stats);
    }

    fn failed(&mut self, error: &io::Error) {
        self.metrics.journal_failed();
        tracing::error!(%error, "the staging disk failed: nothing is appended until it works again, in a new journal");
        self.shared.failed.cancel();
    }
}

impl Drop for Commits {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // An assertion failed on the journal's thread: nothing is committed any more, and nobody may wait for it.
            self.metrics.journal_failed();
            self.shared.failed.cancel();
        }
    }
}
