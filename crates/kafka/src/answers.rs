//! The budget of answers: how many bytes may wait, in the whole process, until clients take them.
//!
//! Whoever makes a large answer reserves its bytes before it reads them. A reservation gets at most half of what is free,
//! so that clients which never take their answers get ever less and those which do always find some. When next to
//! nothing is left, who wants more waits, holding nothing. Answers whose size is known only when they are there are
//! counted all the same, and may take the budget below zero; no other large one is made then.

use std::sync::Arc;

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Notify;

/// A reservation that has to be smaller than this is not worth reading for: its maker waits.
const SHARE_BYTES_MIN: usize = 64 << 10;

/// The budget.
#[derive(Debug)]
pub struct Answers {
    bytes_max: i64,
    /// What must be free for a reservation.
    share_min: i64,
    free: Mutex<i64>,
    /// Told when enough is free; each who is woken and leaves enough wakes the next.
    freed: Notify,
    waiting: Gauge,
}

/// Bytes of the budget, given back when dropped.
#[derive(Debug)]
pub struct Reservation {
    answers: Arc<Answers>,
    bytes: usize,
}

impl Answers {
    /// A budget of so many bytes, shown in this gauge.
    #[must_use]
    pub(crate) fn new(bytes_max: usize, waiting: Gauge) -> Arc<Self> {
        let bytes_max = signed(bytes_max.max(1));
        let share_min = bytes_max.min(signed(SHARE_BYTES_MIN));
        Arc::new(Self { bytes_max, share_min, free: Mutex::new(bytes_max), freed: Notify::new(), waiting })
    }

    /// Waits until there is a share to have; gives `wanted` bytes, or fewer. First come, first served. Cancellation safe.
    /// Who waits must hold no reservation.
    pub async fn reserve(self: &Arc<Self>, wanted: usize) -> Reservation {
        loop {
            if let Some(reservation) = self.try_reserve(wanted) {
                return reservation;
            }
            self.freed.notified().await;
        }
    }

    /// As [`Answers::reserve`], where nothing is waited for.
    pub fn try_reserve(self: &Arc<Self>, wanted: usize) -> Option<Reservation> {
        let mut free = self.free.lock();
        if *free < self.share_min {
            return None;
        }
        let bytes = signed(wanted).min((*free / 2).max(self.share_min));
        self.take(&mut free, bytes);
        Some(Reservation { answers: Arc::clone(self), bytes: usize::try_from(bytes).unwrap_or(0) })
    }

    /// Waits until an answer of unknown size may be made. Cancellation safe.
    pub async fn turn(&self) {
        loop {
            {
                let mut free = self.free.lock();
                if *free >= self.share_min {
                    return self.take(&mut free, 0);
                }
            }
            self.freed.notified().await;
        }
    }

    /// Counts an answer that is there already.
    pub(crate) fn count(self: &Arc<Self>, bytes: usize) -> Reservation {
        self.take(&mut self.free.lock(), signed(bytes));
        Reservation { answers: Arc::clone(self), bytes }
    }

    /// Whether clients that do not take their answers stand in the way of others.
    pub(crate) fn is_short(&self) -> bool {
        *self.free.lock() < self.bytes_max / 4
    }

    fn take(&self, free: &mut i64, bytes: i64) {
        *free -= bytes;
        self.waiting.set(self.bytes_max - *free);
        if *free >= self.share_min {
            self.freed.notify_one();
        }
    }
}

impl Reservation {
    /// How many bytes were given.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What is really needed is known now.
    pub fn set(&mut self, bytes: usize) {
        self.answers.take(&mut self.answers.free.lock(), signed(bytes) - signed(self.bytes));
        self.bytes = bytes;
    }

    /// Two of one answer become one.
    pub fn merge(&mut self, mut other: Self) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.answers.take(&mut self.answers.free.lock(), -signed(self.bytes));
        }
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    const MIB: usize = 1 << 20;

    fn answers(bytes_max: usize) -> Arc<Answers> {
        Answers::new(bytes_max, Gauge::default())
    }

    #[tokio::test(start_paused = true)]
    async fn hoarders_get_ever_less_and_others_still_get_some() {
        let answers = answers(64 * MIB);
        let mut hoarded = Vec::new();
        while let Some(reservation) = answers.try_reserve(55 * MIB) {
            hoarded.push(reservation);
        }
        let got: Vec<usize> = hoarded.iter().map(Reservation::bytes).collect();
        assert_eq!(&got[..4], [32 * MIB, 16 * MIB, 8 * MIB, 4 * MIB]);
        assert!(got.len() > 8, "{got:?}");
        assert!(got.iter().sum::<usize>() <= 64 * MIB);
        assert!(answers.is_short());
        assert!(timeout(Duration::from_secs(60), answers.reserve(1)).await.is_err(), "nothing is left to have");
        let waiting: Vec<_> = (0..3)
            .map(|_| {
                tokio::spawn({
                    let answers = answers.clone();
                    async move { answers.reserve(10).await }
                })
            })
            .collect();
        hoarded.remove(0);
        for one in waiting {
            assert_eq!(timeout(Duration::from_secs(1), one).await.unwrap().unwrap().bytes(), 10);
        }
        drop(hoarded);
        assert_eq!((*answers.free.lock(), answers.waiting.get()), (64 << 20, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_there_already_counts_and_the_next_large_one_waits() {
        let answers = answers(MIB);
        let mut first = answers.try_reserve(1000).unwrap();
        first.set(3 * MIB);
        assert!(*answers.free.lock() < 0);
        let second = answers.count(5);
        assert!(timeout(Duration::from_secs(60), answers.turn()).await.is_err());
        first.merge(second);
        assert_eq!(first.bytes(), 3 * MIB + 5);
        drop(first);
        answers.turn().await;
        assert_eq!(*answers.free.lock(), 1 << 20);
    }
}
