//! What the journal's thread tells: appends are committed, segments are sealed, the disk failed.

use std::io;
use std::sync::Arc;

use journal::{Committed, Segment, Stats};
use records::Offset;
use tokio::sync::Notify;

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

/// Runs on the journal's thread: moves high watermarks and never blocks.
pub(crate) struct Commits {
    pub(crate) ring: Ring,
    pub(crate) sealed: Arc<Notify>,
    pub(crate) metrics: Metrics,
}

impl Committed<Token> for Commits {
    fn committed(&mut self, tokens: &mut dyn Iterator<Item = Token>) {
        for token in tokens {
            token.partition.committed(token.next_offset);
            self.ring.push(token.partition, token.next_offset, token.bytes);
        }
    }

    fn sealed(&mut self, segment: Arc<Segment>) {
        tracing::debug!(journal = %segment.journal(), first = %segment.first(), bytes = segment.len(), "segment sealed");
        self.sealed.notify_one();
    }

    fn synced(&mut self, stats: Stats) {
        self.metrics.synced(stats);
    }

    fn failed(&mut self, error: &io::Error) {
        self.metrics.journal_failed();
        tracing::error!(%error, "the staging disk failed: nothing is appended until the broker is started again");
        self.sealed.notify_one();
    }
}
