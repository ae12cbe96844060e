//! The protocol's primitive types, as far as these records use them, in both of its encodings.
//!
//! Lengths are checked against what is left before anything is taken.

use bytes::{BufMut, Bytes, BytesMut};

use super::RecordError;

/// Reads primitives from a slice.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    flexible: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(rest: &'a [u8], flexible: bool) -> Self {
        Self { rest, flexible }
    }

    /// From here on lengths are compact and structures end with tagged fields.
    pub(super) fn set_flexible(&mut self, flexible: bool) {
        self.flexible = flexible;
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], RecordError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(RecordError::Malformed)?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(RecordError::Malformed)?;
        self.rest = rest;
        Ok(*taken)
    }

    pub(super) fn i16(&mut self) -> Result<i16, RecordError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    pub(super) fn i32(&mut self) -> Result<i32, RecordError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    pub(super) fn i64(&mut self) -> Result<i64, RecordError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    fn varint(&mut self) -> Result<u32, RecordError> {
        let mut value = 0_u32;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.array()?;
            let bits = u32::from(byte & 0x7F);
            if shift == 28 && bits > 0x0F {
                return Err(RecordError::Malformed);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(RecordError::Malformed)
    }

    /// A length: `None` is null. `plain` reads it in the encoding that is not compact.
    fn len(&mut self, plain: fn(&mut Self) -> Result<i32, RecordError>) -> Result<Option<usize>, RecordError> {
        if self.flexible {
            let len = self.varint()?;
            return Ok(len.checked_sub(1).map(|len| usize::try_from(len).expect("32 bits fit a usize")));
        }
        match plain(self)? {
            -1 => Ok(None),
            len => usize::try_from(len).map(Some).map_err(|_| RecordError::Malformed),
        }
    }

    fn short_len(&mut self) -> Result<i32, RecordError> {
        self.i16().map(i32::from)
    }

    pub(super) fn nullable_string(&mut self) -> Result<Option<&'a str>, RecordError> {
        let Some(len) = self.len(Self::short_len)? else { return Ok(None) };
        std::str::from_utf8(self.take(len)?).map(Some).map_err(|_| RecordError::Malformed)
    }

    pub(super) fn string(&mut self) -> Result<&'a str, RecordError> {
        self.nullable_string()?.ok_or(RecordError::Malformed)
    }

    pub(super) fn bytes(&mut self) -> Result<&'a [u8], RecordError> {
        let len = self.len(Self::i32)?.ok_or(RecordError::Malformed)?;
        self.take(len)
    }

    pub(super) fn array_len(&mut self) -> Result<usize, RecordError> {
        self.len(Self::i32)?.ok_or(RecordError::Malformed)
    }

    /// Skips the tagged fields of a flexible structure.
    pub(super) fn tagged_fields(&mut self) -> Result<(), RecordError> {
        if self.flexible {
            for _ in 0..self.varint()? {
                self.varint()?;
                let len = self.varint()?;
                self.take(usize::try_from(len).map_err(|_| RecordError::Malformed)?)?;
            }
        }
        Ok(())
    }

    pub(super) fn end(&self) -> Result<(), RecordError> {
        if self.rest.is_empty() { Ok(()) } else { Err(RecordError::Malformed) }
    }
}

/// Writes primitives in the encoding that is not compact.
pub(super) struct Writer(BytesMut);

impl Writer {
    pub(super) fn new(capacity: usize) -> Self {
        Self(BytesMut::with_capacity(capacity))
    }

    pub(super) fn i16(&mut self, value: i16) -> &mut Self {
        self.0.put_i16(value);
        self
    }

    pub(super) fn i32(&mut self, value: i32) -> &mut Self {
        self.0.put_i32(value);
        self
    }

    pub(super) fn i64(&mut self, value: i64) -> &mut Self {
        self.0.put_i64(value);
        self
    }

    pub(super) fn string(&mut self, value: &str) -> &mut Self {
        self.i16(i16::try_from(value.len()).expect("names are checked when they come in"));
        self.0.put_slice(value.as_bytes());
        self
    }

    pub(super) fn nullable_string(&mut self, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.string(value),
            None => self.i16(-1),
        }
    }

    pub(super) fn bytes(&mut self, value: &[u8]) -> &mut Self {
        self.array_len(value.len());
        self.0.put_slice(value);
        self
    }

    pub(super) fn array_len(&mut self, len: usize) -> &mut Self {
        self.i32(i32::try_from(len).expect("a frame is shorter than 2 GiB"))
    }

    pub(super) fn finish(self) -> Bytes {
        self.0.freeze()
    }
}
