//! What clients may send on QUIC connections before it is read: a budget for the whole process.
//!
//! A connection begins with a small window. While it is used and at least half of the budget is free, the window grows, to
//! four times its size at each look. So many clients together always find room to begin, a few find room to be fast, and
//! all windows together never pass the budget. TCP's buffers are the system's, which bounds them itself.

use std::sync::Arc;

use parking_lot::Mutex;

/// The window of a new connection.
pub(crate) const FIRST_BYTES: u32 = 64 << 10;
const GROWTH: u32 = 4;

/// The budget.
#[derive(Debug)]
pub(crate) struct Windows {
    bytes_max: u64,
    /// The largest window of one connection.
    window_max: u32,
    used: Mutex<u64>,
}

/// The window of one connection, given back when dropped.
#[derive(Debug)]
pub(crate) struct Window {
    windows: Arc<Windows>,
    bytes: u32,
    /// What had come when it was last looked at.
    received: u64,
}

impl Windows {
    pub(crate) fn new(bytes_max: u64, window_max: u32) -> Arc<Self> {
        Arc::new(Self { bytes_max, window_max: window_max.max(FIRST_BYTES), used: Mutex::new(0) })
    }

    /// What is promised to all connections now.
    #[cfg(test)]
    pub(crate) fn used(&self) -> u64 {
        *self.used.lock()
    }

    /// The first window of a connection, where there is room for it.
    pub(crate) fn begin(self: &Arc<Self>) -> Option<Window> {
        let mut used = self.used.lock();
        if *used + u64::from(FIRST_BYTES) > self.bytes_max {
            return None;
        }
        *used += u64::from(FIRST_BYTES);
        Some(Window { windows: Arc::clone(self), bytes: FIRST_BYTES, received: 0 })
    }
}

impl Window {
    /// Looks at a connection on which so many bytes have come since it began: a larger window, where it needs one and may
    /// have it.
    pub(crate) fn look(&mut self, received: u64) -> Option<u32> {
        let since = received.saturating_sub(self.received);
        self.received = received;
        // One that takes less than its window between two looks does not wait for it.
        let wanted = self.bytes.saturating_mul(GROWTH).min(self.windows.window_max);
        if since < u64::from(self.bytes) || wanted == self.bytes {
            return None;
        }
        let more = u64::from(wanted - self.bytes);
        let mut used = self.windows.used.lock();
        if *used + more > self.windows.bytes_max / 2 {
            return None;
        }
        *used += more;
        self.bytes = wanted;
        Some(wanted)
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        *self.windows.used.lock() -= u64::from(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: u64 = FIRST_BYTES as u64;

    #[test]
    fn a_window_grows_with_use_and_all_keep_to_the_budget() {
        let windows = Windows::new(16 * FIRST, 5 * FIRST_BYTES);
        let mut busy = windows.begin().unwrap();
        assert_eq!(busy.look(FIRST - 1), None, "it does not wait for its window");
        assert_eq!(busy.look(2 * FIRST - 1), Some(4 * FIRST_BYTES));
        assert_eq!(busy.look(4 * FIRST), None);
        assert_eq!(busy.look(8 * FIRST), Some(5 * FIRST_BYTES), "the largest there is");
        assert_eq!(busy.look(100 * FIRST), None);
        let mut other = windows.begin().unwrap();
        assert_eq!(other.look(FIRST), None, "half is left for those who begin");
        let mut begun: Vec<_> = std::iter::from_fn(|| windows.begin()).collect();
        assert_eq!((begun.len(), *windows.used.lock()), (10, 16 * FIRST));
        drop(busy);
        begun.truncate(1);
        assert_eq!(other.look(2 * FIRST), Some(4 * FIRST_BYTES));
        drop((other, begun));
        assert_eq!(*windows.used.lock(), 0);
    }
}
