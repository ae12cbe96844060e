//! The time that SlateDB sees: ours, but never earlier than what the database has seen.
//!
//! SlateDB stamps every batch and refuses a batch whose time is before the last one's. A controller whose clock is behind
//! that of the one before could then not write until its clock caught up, and nothing here may depend on clocks.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use records::Clock;
use slatedb_common::clock::{SystemClock, SystemClockTicker};

pub(super) struct FlooredClock {
    clock: Arc<dyn Clock>,
    floor: AtomicI64,
}

impl FlooredClock {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, floor: AtomicI64::new(0) }
    }

    /// From now on it is not earlier than `ms`.
    pub(super) fn raise(&self, ms: i64) {
        self.floor.fetch_max(ms, Ordering::AcqRel);
    }
}

impl fmt::Debug for FlooredClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlooredClock").field("floor", &self.floor).finish_non_exhaustive()
    }
}

impl SystemClock for FlooredClock {
    fn now(&self) -> DateTime<Utc> {
        let now = self.clock.now().0;
        let now = now.max(self.floor.fetch_max(now, Ordering::AcqRel));
        DateTime::from_timestamp_millis(now).unwrap_or(DateTime::UNIX_EPOCH)
    }

    fn sleep<'a>(&'a self, duration: Duration) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>> {
        Box::pin(tokio::time::sleep(duration))
    }

    fn ticker<'a>(&'a self, duration: Duration) -> SystemClockTicker<'a> {
        SystemClockTicker::new(self, duration)
    }
}
