//! The headers of a record. They stay as they lie in the record and are read when someone looks at them: a header may
//! take two bytes there, and thirty times as much when it is taken apart.

use std::fmt;

use bytes::{Bytes, BytesMut};

use crate::varint;

/// A header of a record: name and value. Names may repeat, and their order counts.
pub type RecordHeader = (Bytes, Option<Bytes>);

/// All headers of a record, in their order.
#[derive(Clone, Default)]
pub struct Headers {
    count: usize,
    /// What follows the count in a record: checked, so that it can be taken apart.
    bytes: Bytes,
}

impl Headers {
    /// No headers.
    pub const NONE: Self = Self { count: 0, bytes: Bytes::new() };

    /// Checks what lies in a record behind its value: a count and so many headers, and nothing else.
    pub(crate) fn read(bytes: Bytes) -> Result<Self, &'static str> {
        let mut rest = &bytes[..];
        let count = varint::get_i32(&mut rest).ok_or("a record's header count")?;
        let count = usize::try_from(count).map_err(|_| "a record's header count")?;
        let headers = Self { count, bytes: bytes.slice_ref(rest) };
        for _ in 0..count {
            let name = field(&mut rest).ok_or("the name of a record's header")?;
            name.ok_or("the name of a record's header")?;
            field(&mut rest).ok_or("the value of a record's header")?;
        }
        if rest.is_empty() { Ok(headers) } else { Err("a record is longer than its fields") }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// One after another; names and values are slices of the record.
    pub fn iter(&self) -> impl Iterator<Item = RecordHeader> + '_ {
        let mut rest = &self.bytes[..];
        (0..self.count).map(move |_| {
            let name = field(&mut rest).flatten().expect("checked when it was read");
            let value = field(&mut rest).expect("checked when it was read");
            (self.bytes.slice_ref(name), value.map(|value| self.bytes.slice_ref(value)))
        })
    }

    /// As they lie in a record, behind their count.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl<N: AsRef<[u8]>, V: AsRef<[u8]>> FromIterator<(N, Option<V>)> for Headers {
    fn from_iter<I: IntoIterator<Item = (N, Option<V>)>>(headers: I) -> Self {
        let (mut count, mut bytes) = (0, BytesMut::new());
        for (name, value) in headers {
            count += 1;
            varint::put_bytes(&mut bytes, Some(name.as_ref()));
            varint::put_bytes(&mut bytes, value.as_ref().map(AsRef::as_ref));
        }
        Self { count, bytes: bytes.freeze() }
    }
}

impl PartialEq for Headers {
    fn eq(&self, other: &Self) -> bool {
        self.count == other.count && self.iter().eq(other.iter())
    }
}

impl Eq for Headers {}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Length and bytes; length −1 is null. The outer `None` is damage.
#[expect(clippy::option_option, reason = "damage and null are two things")]
pub(crate) fn field<'a>(rest: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    match varint::get_i32(rest)? {
        -1 => Some(None),
        len => {
            let (field, after) = rest.split_at_checked(usize::try_from(len).ok()?)?;
            *rest = after;
            Some(Some(field))
        }
    }
}
