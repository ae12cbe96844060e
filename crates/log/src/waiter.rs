//! Fetches that wait for something to read: one waiter can watch many partitions.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Waits for the first of many partitions to change.
#[derive(Debug, Default)]
pub struct Waiter {
    notify: Notify,
}

impl Waiter {
    /// A waiter that nothing wakes yet: give it to [`crate::Partition::notify`].
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Resolves when a partition changed since the last time; a change in between is not missed. May be dropped.
    pub async fn changed(&self) {
        self.notify.notified().await;
    }
}

/// Who waits for one partition. An entry leaves when it is woken, or when its waiter is gone.
#[derive(Debug, Default)]
pub(crate) struct Waiters {
    list: Mutex<Vec<Weak<Waiter>>>,
}

impl Waiters {
    pub(crate) fn add(&self, waiter: &Arc<Waiter>) {
        let mut list = self.list.lock();
        // Readers that give up while nothing is written leave dead entries: sweep when the list would grow.
        if list.len() == list.capacity() {
            list.retain(|waiter| waiter.strong_count() > 0);
        }
        list.push(Arc::downgrade(waiter));
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.list.lock().len()
    }

    pub(crate) fn wake(&self) {
        let mut list = self.list.lock();
        for waiter in list.drain(..) {
            if let Some(waiter) = waiter.upgrade() {
                waiter.notify.notify_one();
            }
        }
    }
}
