//! How many groups there may be, over all shards.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::GroupError;

/// Counts the groups of a coordinator.
#[derive(Debug)]
pub(crate) struct Room {
    used: AtomicUsize,
    max: usize,
}

impl Room {
    pub(crate) fn new(max: usize) -> Self {
        Self { used: AtomicUsize::new(0), max }
    }

    /// One more group, if there may be one.
    pub(crate) fn enter(&self) -> Result<(), GroupError> {
        let more = |used| if used < self.max { Some(used + 1) } else { None };
        let entered = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        entered.map(drop).map_err(|_| GroupError::PolicyViolation)
    }

    /// One more group that exists already.
    pub(crate) fn enter_anyway(&self) {
        self.used.fetch_add(1, Ordering::Relaxed);
    }

    /// Groups went.
    pub(crate) fn leave(&self, count: usize) {
        self.used.fetch_sub(count, Ordering::Relaxed);
    }
}
