//! The newest batches of a partition, in memory: what producers just sent is what most readers want next.
//!
//! The tails of all partitions share one budget of bytes. Batches leave in the order in which they were committed,
//! whichever partition they are of; readers that lag never push anything out.

use std::collections::VecDeque;
use std::sync::Arc;

use records::{Batch, Offset};

use crate::partition::Partition;

/// What a batch costs in memory besides its bytes: its header, its place in the tail and in the ring.
const BATCH_OVERHEAD_BYTES: usize = 256;

/// One partition's batches in memory, without a gap.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    batches: VecDeque<Batch>,
}

impl Tail {
    pub(crate) fn push(&mut self, batch: Batch) {
        debug_assert!(self.batches.back().is_none_or(|last| last.next_offset() == batch.base_offset()));
        self.batches.push_back(batch);
    }

    /// The first offset that can be read from here.
    pub(crate) fn first(&self) -> Option<Offset> {
        self.batches.front().map(Batch::base_offset)
    }

    /// Batches from the one that holds `from`, all of them below `up_to`, as many as fit; at least one if there is one.
    pub(crate) fn read(&self, from: Offset, up_to: Offset, bytes_max: usize) -> Vec<Batch> {
        let start = self.batches.partition_point(|batch| batch.next_offset() <= from);
        let mut bytes = 0;
        self.batches
            .range(start..)
            .take_while(|batch| {
                let first = bytes == 0;
                bytes += batch.len();
                batch.next_offset() <= up_to && (first || bytes <= bytes_max)
            })
            .cloned()
            .collect()
    }

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.batches.iter().map(|batch| batch.len() + BATCH_OVERHEAD_BYTES).sum()
    }

    /// Drops every batch below `offset`.
    pub(crate) fn evict(&mut self, offset: Offset) {
        while self.batches.front().is_some_and(|batch| batch.next_offset() <= offset) {
            self.batches.pop_front();
        }
        if self.batches.is_empty() {
            // An idle partition keeps no memory for the batches it once had.
            self.batches = VecDeque::new();
        }
    }
}

/// The order in which batches leave memory.
#[derive(Debug)]
pub(crate) struct Ring {
    entries: VecDeque<(Arc<Partition>, Offset, usize)>,
    bytes: usize,
    bytes_max: usize,
}

impl Ring {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { entries: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// A batch was committed; what no longer fits is evicted.
    pub(crate) fn push(&mut self, partition: Arc<Partition>, next_offset: Offset, bytes: usize) {
        let bytes = bytes + BATCH_OVERHEAD_BYTES;
        self.entries.push_back((partition, next_offset, bytes));
        self.bytes += bytes;
        while self.bytes > self.bytes_max {
            let Some((partition, next_offset, bytes)) = self.entries.pop_front() else { break };
            self.bytes -= bytes;
            partition.evict(next_offset);
        }
    }
}
