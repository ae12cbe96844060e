//! The budget of requests: how many bytes of them may be in memory, in the whole process, from the first byte of a large
//! one on until it is answered.
//!
//! A small request is counted when it has come whole. A large one is counted as it comes, so that announcing much costs
//! the sender as much as sending it; large ones that are not whole yet never take the last quarter, so that small ones
//! still find room. Where there is no room they wait, and who waits for long makes room: see
//! [`Requests::more`].

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

/// The budget is counted in these: a semaphore's permits are too few for single bytes.
const UNIT: usize = 1 << 10;
/// How often one that waits for more looks for it. There are few of these, and only when memory is short.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// The budget. A clone is the same one.
#[derive(Debug, Clone)]
pub(crate) struct Requests {
    free: Arc<Semaphore>,
    units: u32,
}

impl Requests {
    pub(crate) fn new(bytes_max: usize) -> Self {
        let units = (bytes_max / UNIT).clamp(1, Semaphore::MAX_PERMITS);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        Self { free: Arc::new(Semaphore::new(units as usize)), units }
    }

    /// All of it, in bytes.
    pub(crate) fn bytes_max(&self) -> usize {
        self.units as usize * UNIT
    }

    /// Waits until a request of this size fits. First come, first served; a request that is larger than the whole
    /// budget takes all of it. Cancellation safe.
    pub(crate) async fn whole(&self, bytes: usize) -> OwnedSemaphorePermit {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).min(self.units);
        Arc::clone(&self.free).acquire_many_owned(units).await.expect("the budget is never closed")
    }

    /// More for a request that is not whole yet and holds `held`; `None` when there was no room for it until the
    /// deadline. Cancellation safe.
    pub(crate) async fn more(
        &self,
        held: Option<&OwnedSemaphorePermit>,
        bytes: usize,
        deadline: Instant,
    ) -> Option<OwnedSemaphorePermit> {
        let held = held.map_or(0, OwnedSemaphorePermit::num_permits);
        let missing = (self.units as usize).saturating_sub(held);
        let wanted = bytes.div_ceil(UNIT).min(missing);
        // Only one can hold more than half: it may go on to the end.
        let left = if held * 2 > self.units as usize { 0 } else { self.units as usize / 4 };
        loop {
            if self.free.available_permits() >= wanted + left.min(missing - wanted) {
                let units = u32::try_from(wanted).unwrap_or(u32::MAX);
                if let Ok(permit) = Arc::clone(&self.free).try_acquire_many_owned(units) {
                    return Some(permit);
                }
            }
            if Instant::now() >= deadline {
                return None;
            }
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// Whether large requests that are not whole yet stand in the way of others.
    pub(crate) fn is_short(&self) -> bool {
        self.free.available_permits() <= self.units as usize / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(1)
    }

    #[tokio::test(start_paused = true)]
    async fn requests_that_are_not_whole_leave_room_for_small_ones() {
        let requests = Requests::new(100 * UNIT);
        let mut large = Vec::new();
        while let Some(permit) = requests.more(None, 10 * UNIT, soon()).await {
            large.push(permit);
        }
        assert_eq!(large.len(), 7, "three quarters of it");
        assert!(requests.is_short());
        let small = requests.whole(20 * UNIT).await;
        assert!(requests.more(Some(&large[0]), 10 * UNIT, soon()).await.is_none());
        drop((large, small));
        assert!(requests.more(None, 10 * UNIT, soon()).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_as_large_as_the_budget_comes_through() {
        let requests = Requests::new(100 * UNIT);
        let mut held = requests.more(None, 10 * UNIT, soon()).await.unwrap();
        for _ in 0..9 {
            let more = requests.more(Some(&held), 10 * UNIT, soon()).await.unwrap();
            held.merge(more);
        }
        assert_eq!(held.num_permits(), 100);
        // And one that is larger still takes all of it and no more.
        assert_eq!(requests.more(Some(&held), 10 * UNIT, soon()).await.unwrap().num_permits(), 0);
    }
}
