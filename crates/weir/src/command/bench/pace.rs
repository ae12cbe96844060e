//! When each record is due. An open loop: the times are fixed beforehand and do not wait for answers, so that a slow
//! answer does not lower the load that it is measured under.

use std::time::Duration;

use tokio::time::Instant;

/// The times at which records are due, evenly spread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    start: Instant,
    /// Nanoseconds from one record to the next; 0 is as fast as it goes.
    interval_ns: u64,
}

impl Pace {
    /// So many records a second; no rate is as fast as it goes.
    pub(super) fn new(start: Instant, rate: Option<u64>) -> Pace {
        Pace { start, interval_ns: rate.map_or(0, |rate| 1_000_000_000 / rate.max(1)) }
    }

    /// When the record of this number is due; nothing when there is no rate, and "now" is as good as any time.
    pub(super) fn due(&self, number: u64) -> Option<Instant> {
        let after = self.interval_ns.checked_mul(number)?;
        (self.interval_ns > 0).then(|| self.start + Duration::from_nanos(after))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Pace;

    #[tokio::test(start_paused = true)]
    async fn records_are_due_at_even_times() {
        let start = Instant::now();
        let pace = Pace::new(start, Some(1000));
        assert_eq!(pace.due(0), Some(start));
        assert_eq!(pace.due(2500), Some(start + Duration::from_millis(2500)));
        assert_eq!(Pace::new(start, None).due(9), None);
    }
}
