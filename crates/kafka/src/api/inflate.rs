//! The gate before inflating: how many bytes compressed batches are inflated to at once, in the whole process. What is
//! inflated has a bound for each batch; this bounds the sum.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes that a batch may inflate to where the broker has to look at its records.
pub(super) const PRODUCED_MAX: usize = 64 << 20;
/// Bytes that the log inflates a batch to at most, where it searches it by time.
pub(super) const SEARCHED_MAX: usize = 256 << 20;
/// A semaphore's permits are too few for single bytes.
const UNIT: usize = 1 << 20;

/// The gate. First come, first served.
#[derive(Debug)]
pub(super) struct Gate {
    free: Arc<Semaphore>,
    units: u32,
}

impl Gate {
    pub(super) fn new(bytes_max: usize) -> Self {
        let units = u32::try_from((bytes_max / UNIT).clamp(1, Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        Self { free: Arc::new(Semaphore::new(units as usize)), units }
    }

    /// Waits until so many bytes may be inflated; they may while the permit lives. Cancellation safe.
    pub(super) async fn pass(&self, bytes: usize) -> OwnedSemaphorePermit {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.units);
        Arc::clone(&self.free).acquire_many_owned(units).await.expect("the gate is never closed")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_so_many_inflate_at_once() {
        let gate = Gate::new(2 * PRODUCED_MAX);
        let (first, _second) = (gate.pass(PRODUCED_MAX).await, gate.pass(PRODUCED_MAX).await);
        assert!(timeout(Duration::from_secs(60), gate.pass(PRODUCED_MAX)).await.is_err());
        drop(first);
        let _third = gate.pass(PRODUCED_MAX).await;
        drop((_second, _third));
        // One that is larger than the gate takes all of it.
        let _large = gate.pass(SEARCHED_MAX).await;
    }
}
