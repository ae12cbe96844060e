//! A cursor over one frame that trusts nothing: every length is compared with what is left before it is used, and the
//! memory of everything built from the frame is counted before it is reserved.

use bytes::Bytes;

use crate::field::{At, Field};
use crate::tags::Tags;

/// Why bytes are not the message they are said to be. The caller closes the connection, or answers INVALID_REQUEST
/// where the API has a way to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The bytes end before the value does, or a length says more than is left.
    #[error("the bytes end before the message does")]
    Truncated,
    /// No API has this key.
    #[error("unknown API key {0}")]
    UnknownKey(i16),
    /// The version is outside of [`ApiKey::versions_decodable`](crate::ApiKey::versions_decodable).
    #[error("version {version} of {api} is not served")]
    Version {
        /// The API's name.
        api: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// Null where the version has no null.
    #[error("{0} must not be null")]
    Null(&'static str),
    /// A negative or absurd length.
    #[error("a length is out of range")]
    Length,
    /// A string that is not UTF-8.
    #[error("{0} is not UTF-8")]
    NotUtf8(&'static str),
    /// Tagged fields out of order, repeated, or not as long as they say.
    #[error("tagged fields are malformed")]
    Tags,
    /// The message would take more memory than [`memory_max`] allows for its size.
    #[error("the message would take too much memory for its size")]
    Memory,
}

/// What decoding a message of so many bytes may allocate at most.
///
/// Eight bytes for each, and a constant so that small messages of many tiny elements pass.
pub const fn memory_max(len: usize) -> usize {
    len.saturating_mul(8).saturating_add(64 * 1024)
}

/// The longest string of the protocol, compact or not.
pub(crate) const STRING_MAX: usize = 0x7fff;

pub(crate) struct Reader {
    frame: Bytes,
    position: usize,
    end: usize,
    memory: usize,
}

impl Reader {
    /// Reads `frame` from its start, sharing it.
    pub(crate) fn new(frame: Bytes) -> Self {
        let (end, memory) = (frame.len(), memory_max(frame.len()));
        Self { frame, position: 0, end, memory }
    }

    pub(crate) fn position(&self) -> usize {
        self.position
    }

    pub(crate) fn remaining(&self) -> usize {
        self.end - self.position
    }

    /// Moves past `len` bytes and says where they lie.
    fn advance(&mut self, len: usize) -> Result<std::ops::Range<usize>, DecodeError> {
        if len > self.remaining() {
            return Err(DecodeError::Truncated);
        }
        let start = self.position;
        self.position += len;
        Ok(start..self.position)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let range = self.advance(N)?;
        let mut array = [0; N];
        array.copy_from_slice(&self.frame[range]);
        Ok(array)
    }

    /// Moves past bytes that are not looked at.
    pub(crate) fn skip(&mut self, len: usize) -> Result<(), DecodeError> {
        self.advance(len).map(drop)
    }

    /// The next bytes, as a slice of the frame.
    pub(crate) fn slice(&mut self, len: usize) -> Result<Bytes, DecodeError> {
        let range = self.advance(len)?;
        Ok(self.frame.slice(range))
    }

    /// An unsigned number of seven bits a byte, lowest first.
    pub(crate) fn varint(&mut self) -> Result<u32, DecodeError> {
        let mut value = 0u64;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).map_err(|_| DecodeError::Length);
            }
        }
        Err(DecodeError::Length)
    }

    fn compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        match self.varint()?.checked_sub(1) {
            None => Ok(None),
            Some(len) => usize::try_from(len).map(Some).map_err(|_| DecodeError::Length),
        }
    }

    /// The length of bytes, records or an array; none is null.
    pub(crate) fn length(&mut self, at: At) -> Result<Option<usize>, DecodeError> {
        if at.flexible {
            return self.compact_length();
        }
        match i32::from_be_bytes(self.array()?) {
            -1 => Ok(None),
            len => usize::try_from(len).map(Some).map_err(|_| DecodeError::Length),
        }
    }

    /// The length of a string; none is null.
    pub(crate) fn string_length(&mut self, at: At) -> Result<Option<usize>, DecodeError> {
        if at.flexible {
            let len = self.compact_length()?;
            return if len.is_some_and(|len| len > STRING_MAX) { Err(DecodeError::Length) } else { Ok(len) };
        }
        match i16::from_be_bytes(self.array()?) {
            -1 => Ok(None),
            len => usize::try_from(len).map(Some).map_err(|_| DecodeError::Length),
        }
    }

    /// Counts memory that is about to be reserved.
    fn charge(&mut self, bytes: usize) -> Result<(), DecodeError> {
        self.memory = self.memory.checked_sub(bytes).ok_or(DecodeError::Memory)?;
        Ok(())
    }

    /// Room for `count` elements that take at least `size_min` bytes each on the wire, once it is clear that the frame
    /// can hold them and that they do not take more memory than the frame is worth.
    pub(crate) fn reserve<T>(&mut self, count: usize, size_min: usize) -> Result<Vec<T>, DecodeError> {
        if count.checked_mul(size_min).is_none_or(|least| least > self.remaining()) {
            return Err(DecodeError::Truncated);
        }
        self.charge(count.checked_mul(size_of::<T>()).ok_or(DecodeError::Memory)?)?;
        Ok(Vec::with_capacity(count))
    }

    /// Reads a section of tagged fields. `known` reads the field of a tag, or says that it knows none of that tag;
    /// such fields are kept as they are.
    pub(crate) fn tagged_fields(
        &mut self,
        unknown: &mut Tags,
        mut known: impl FnMut(&mut Self, u32) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        let count = self.varint()?;
        let mut least = 0u64;
        for left in (1..=count).rev() {
            let tag = self.varint()?;
            if u64::from(tag) < least {
                return Err(DecodeError::Tags);
            }
            least = u64::from(tag) + 1;
            let len = usize::try_from(self.varint()?).map_err(|_| DecodeError::Length)?;
            if len > self.remaining() {
                return Err(DecodeError::Truncated);
            }
            let (outer, inner) = (self.end, self.position + len);
            self.end = inner;
            if known(self, tag)? {
                if self.position != inner {
                    return Err(DecodeError::Tags);
                }
            } else {
                let value = self.slice(len)?;
                self.end = outer;
                self.keep_unknown(unknown, left, tag, value)?;
            }
            self.end = outer;
        }
        Ok(())
    }

    fn keep_unknown(&mut self, unknown: &mut Tags, left: u32, tag: u32, value: Bytes) -> Result<(), DecodeError> {
        if unknown.is_empty() {
            let count = usize::try_from(left).map_err(|_| DecodeError::Length)?;
            // Each field that follows takes at least a tag and a length.
            if (count - 1).checked_mul(2).is_none_or(|least| least > self.remaining()) {
                return Err(DecodeError::Truncated);
            }
            self.charge(Tags::MEMORY)?;
            unknown.start(self.reserve(count, 0)?);
        }
        unknown.push(tag, value);
        Ok(())
    }
}

/// Refuses null where `field` has none in this version.
pub(crate) fn not_null<T>(value: Option<T>, at: At, field: &Field) -> Result<Option<T>, DecodeError> {
    if value.is_none() && !field.is_nullable(at.version) {
        return Err(DecodeError::Null(field.name));
    }
    Ok(value)
}
