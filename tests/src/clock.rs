//! Time for tests: a deadline that conditions are waited for with, and the wall clock for certificates.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Result, bail};
use records::{Clock, Timestamp};

/// How long a wait sleeps between two looks at its condition.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A moment that something must have happened by.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// So long from now.
    #[must_use]
    #[allow(clippy::disallowed_methods)] // Tests of real processes run in real time.
    pub fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// Whether it is over.
    #[must_use]
    #[allow(clippy::disallowed_methods)] // As above.
    pub fn is_over(self) -> bool {
        Instant::now() >= self.0
    }

    /// Waits for the condition: `Some` ends the wait.
    ///
    /// # Errors
    /// The deadline is over, or the condition fails for good.
    pub fn wait<T>(self, what: &str, mut condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        loop {
            if let Some(found) = condition()? {
                return Ok(found);
            }
            if self.is_over() {
                bail!("not so before the deadline: {what}");
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// The wall clock.
#[derive(Debug)]
pub struct WallClock;

impl Clock for WallClock {
    #[allow(clippy::disallowed_methods)] // Here is where the wall clock comes in.
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970");
        Timestamp(i64::try_from(since.as_millis()).expect("the clock is before the year 292 million"))
    }
}
