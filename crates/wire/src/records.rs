//! Record data in a message: a list of byte slices that are one run of bytes on the wire. Nothing here looks inside;
//! the crate `records` does.

use bytes::{Bytes, BytesMut};

/// Record batches as they travel: cheap to clone, never copied on encode. Equal when the bytes are equal, however
/// they are cut.
#[derive(Clone, Default)]
pub struct Records(Repr);

#[derive(Clone)]
enum Repr {
    One(Bytes),
    Many(Vec<Bytes>),
}

impl Default for Repr {
    fn default() -> Self {
        Self::One(Bytes::new())
    }
}

impl Records {
    /// No records, which is not the same as null on the wire.
    pub const fn new() -> Self {
        Self(Repr::One(Bytes::new()))
    }

    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.segments().iter().map(Bytes::len).sum()
    }

    /// Whether there is no byte in it.
    pub fn is_empty(&self) -> bool {
        self.segments().iter().all(Bytes::is_empty)
    }

    /// The slices, in order.
    pub fn segments(&self) -> &[Bytes] {
        match &self.0 {
            Repr::One(bytes) => std::slice::from_ref(bytes),
            Repr::Many(segments) => segments,
        }
    }

    /// Adds bytes at the end, by reference.
    pub fn push(&mut self, bytes: Bytes) {
        match &mut self.0 {
            Repr::One(one) if one.is_empty() => *one = bytes,
            Repr::One(one) => self.0 = Repr::Many(vec![std::mem::take(one), bytes]),
            Repr::Many(segments) => segments.push(bytes),
        }
    }

    /// All bytes as one run: free when there is one slice (as after decode), a copy when there are more.
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Repr::One(bytes) => bytes,
            Repr::Many(segments) => {
                let mut whole = BytesMut::with_capacity(segments.iter().map(Bytes::len).sum());
                for segment in &segments {
                    whole.extend_from_slice(segment);
                }
                whole.freeze()
            }
        }
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Self {
        Self(Repr::One(bytes))
    }
}

impl FromIterator<Bytes> for Records {
    fn from_iter<I: IntoIterator<Item = Bytes>>(segments: I) -> Self {
        let mut records = Self::new();
        records.extend(segments);
        records
    }
}

impl Extend<Bytes> for Records {
    fn extend<I: IntoIterator<Item = Bytes>>(&mut self, segments: I) {
        for segment in segments {
            self.push(segment);
        }
    }
}

impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        let bytes = |records: &Self| records.clone().into_bytes();
        self.len() == other.len() && bytes(self) == bytes(other)
    }
}

impl Eq for Records {}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Records({} bytes in {} segments)", self.len(), self.segments().len())
    }
}
