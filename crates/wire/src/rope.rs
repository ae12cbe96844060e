//! The output of encoding: small fields gathered in one buffer, large data woven in by reference, so that a response
//! leaves in one vectored write and record bytes are never copied.

use bytes::{BufMut, Bytes, BytesMut};

/// From this length on, byte fields are woven in by reference: below, a copy is cheaper than one more segment.
const SHARE_MIN: usize = 1024;

/// An encoded message: one buffer, and shared segments that are inserted at places in it.
#[derive(Debug, Clone, Default)]
pub struct Rope {
    head: BytesMut,
    /// Segments with the place in `head` before which each stands; places never decrease.
    shared: Vec<(usize, Bytes)>,
    shared_len: usize,
}

impl Rope {
    /// An empty rope.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty rope with room for so many bytes of small fields.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { head: BytesMut::with_capacity(capacity), ..Self::default() }
    }

    /// Bytes in all, shared segments included.
    pub fn len(&self) -> usize {
        self.head.len() + self.shared_len
    }

    /// Whether nothing was written yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies bytes to the end.
    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.head.put_slice(bytes);
    }

    /// Adds bytes at the end: large ones by reference, small ones copied.
    pub fn put_bytes(&mut self, bytes: &Bytes) {
        if bytes.len() < SHARE_MIN {
            self.put_slice(bytes);
        } else {
            self.put_shared(bytes.clone());
        }
    }

    /// Adds bytes at the end by reference, whatever their length.
    pub fn put_shared(&mut self, bytes: Bytes) {
        if !bytes.is_empty() {
            self.shared_len += bytes.len();
            self.shared.push((self.head.len(), bytes));
        }
    }

    /// Overwrites bytes of the buffer that were put before any shared segment.
    pub(crate) fn overwrite(&mut self, at: usize, bytes: &[u8]) {
        assert!(
            self.shared.first().is_none_or(|(place, _)| at + bytes.len() <= *place),
            "only the head is overwritten"
        );
        self.head[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// The segments in order, none of them empty: for a vectored write.
    pub fn into_segments(self) -> Vec<Bytes> {
        let head = self.head.freeze();
        let mut segments = Vec::with_capacity(self.shared.len() * 2 + 1);
        let mut written = 0;
        for (place, bytes) in self.shared {
            if place > written {
                segments.push(head.slice(written..place));
                written = place;
            }
            segments.push(bytes);
        }
        if head.len() > written {
            segments.push(head.slice(written..));
        }
        segments
    }

    /// All bytes as one run: free when nothing is shared, else a copy.
    pub fn into_bytes(self) -> Bytes {
        if self.shared.is_empty() {
            return self.head.freeze();
        }
        let mut whole = BytesMut::with_capacity(self.len());
        for segment in self.into_segments() {
            whole.extend_from_slice(&segment);
        }
        whole.freeze()
    }
}
