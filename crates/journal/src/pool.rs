//! Memory for reading segments whole, used again: fresh memory of this size costs the system as much to hand out as the
//! bytes cost to read.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::blocks::Buffer;

/// Buffers that were given back. A clone is the same pool.
#[derive(Debug, Clone, Default)]
pub struct Pool(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    free: Vec<Buffer>,
    is_busy: bool,
}

impl Pool {
    /// An empty one.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Nothing more is read for now: what nobody uses goes back to the system, and so does what is given back, until the
    /// next read.
    pub fn rest(&self) {
        let mut state = self.0.lock();
        state.is_busy = false;
        state.free.clear();
    }

    /// A buffer of at least so many bytes, on whole blocks; what it holds is arbitrary.
    pub(crate) fn take(&self, len: usize) -> Buffer {
        let mut state = self.0.lock();
        state.is_busy = true;
        let fits = state.free.iter().position(|buffer| buffer.len() >= len);
        fits.map_or_else(|| Buffer::new(len), |at| state.free.swap_remove(at))
    }

    /// The first bytes of a buffer, which comes back when the last slice of them goes.
    pub(crate) fn lend(&self, buffer: Buffer, len: usize) -> Bytes {
        Bytes::from_owner(Lent { pool: self.clone(), buffer: Some(buffer), len })
    }
}

struct Lent {
    pool: Pool,
    /// There until it is given back.
    buffer: Option<Buffer>,
    len: usize,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.buffer.as_ref().map_or(&[], |buffer| &buffer.as_slice()[..self.len])
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let mut state = self.pool.0.lock();
        if state.is_busy {
            state.free.extend(self.buffer.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_with_the_last_slice_and_is_used_again() {
        let pool = Pool::new();
        let mut buffer = pool.take(10_000);
        buffer.bytes()[..3].copy_from_slice(b"abc");
        let at = buffer.as_slice().as_ptr();
        let bytes = pool.lend(buffer, 3);
        let slice = bytes.slice(1..);
        drop(bytes);
        assert_eq!(slice, "bc");
        assert_ne!(pool.take(10_000).as_slice().as_ptr(), at, "it is in use");
        drop(slice);
        assert_eq!(pool.0.lock().free.len(), 1);
        assert_ne!(pool.take(20_000).as_slice().as_ptr(), at, "it is too small");
        assert_eq!(pool.take(9_000).as_slice().as_ptr(), at);
        let late = pool.lend(Buffer::new(1), 1);
        pool.lend(Buffer::new(1), 1);
        pool.rest();
        assert!(pool.0.lock().free.is_empty());
        drop(late);
        assert!(pool.0.lock().free.is_empty());
    }
}
