//! What writing needs beside the output itself: errors, lengths, numbers of variable size.

use crate::field::{At, Field};
use crate::reader::STRING_MAX;
use crate::rope::Rope;

/// Why a message cannot be written at a version. Each is a mistake of the code that made the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The version is outside of [`ApiKey::versions_decodable`](crate::ApiKey::versions_decodable).
    #[error("version {version} of {api} is not served")]
    Version {
        /// The API's name.
        api: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// The version has no such field, and its value may not be dropped.
    #[error("{field} is set, but version {version} has no such field")]
    NotInVersion {
        /// The structure and field.
        field: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// Null where the version has no null.
    #[error("{0} must not be null")]
    Null(&'static str),
    /// Longer than the protocol can say.
    #[error("{0} is too long")]
    TooLong(&'static str),
    /// Header and message belong to different APIs or versions.
    #[error("the header is not of this message's API")]
    Header,
}

/// Bytes that [`put_varint`] writes.
pub(crate) const fn varint_size(value: u32) -> usize {
    match value {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        0x4000..0x20_0000 => 3,
        0x20_0000..0x1000_0000 => 4,
        0x1000_0000.. => 5,
    }
}

/// Seven bits a byte, lowest first.
pub(crate) fn put_varint(out: &mut Rope, mut value: u32) {
    while value >= 0x80 {
        out.put_slice(&[value.to_le_bytes()[0] | 0x80]);
        value >>= 7;
    }
    out.put_slice(&[value.to_le_bytes()[0]]);
}

/// Writes the length of bytes, records or an array; none is null.
pub(crate) fn put_length(out: &mut Rope, len: Option<usize>, at: At, field: &Field) -> Result<(), EncodeError> {
    let len = match len {
        None if !field.is_nullable(at.version) => return Err(EncodeError::Null(field.name)),
        None => -1,
        Some(len) => i32::try_from(len).map_err(|_| EncodeError::TooLong(field.name))?,
    };
    if at.flexible {
        put_varint(out, (len + 1).unsigned_abs());
    } else {
        out.put_slice(&len.to_be_bytes());
    }
    Ok(())
}

/// Writes the length of a string; none is null.
pub(crate) fn put_string_length(out: &mut Rope, len: Option<usize>, at: At, field: &Field) -> Result<(), EncodeError> {
    if len.is_some_and(|len| len > STRING_MAX) {
        return Err(EncodeError::TooLong(field.name));
    }
    if at.flexible {
        return put_length(out, len, at, field);
    }
    let len = match len {
        None if !field.is_nullable(at.version) => return Err(EncodeError::Null(field.name)),
        None => -1,
        Some(len) => i16::try_from(len).map_err(|_| EncodeError::TooLong(field.name))?,
    };
    out.put_slice(&len.to_be_bytes());
    Ok(())
}

/// Bytes that [`put_length`] writes.
pub(crate) fn length_size(len: Option<usize>, at: At) -> usize {
    if !at.flexible {
        return 4;
    }
    let compact = len.map_or(0, |len| len.saturating_add(1));
    u32::try_from(compact).map_or(5, varint_size)
}

/// Bytes that [`put_string_length`] writes.
pub(crate) fn string_length_size(len: Option<usize>, at: At) -> usize {
    if at.flexible { length_size(len, at) } else { 2 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::{DecodeError, Reader};
    use bytes::Bytes;

    #[test]
    fn numbers_of_variable_size_come_back_and_are_as_long_as_said() {
        for shift in 0..32 {
            for value in [(1u32 << shift) - 1, 1 << shift, u32::MAX >> shift] {
                let mut out = Rope::new();
                put_varint(&mut out, value);
                assert_eq!(out.len(), varint_size(value), "{value}");
                let mut reader = Reader::new(out.into_bytes());
                assert_eq!((reader.varint(), reader.remaining()), (Ok(value), 0));
            }
        }
    }

    #[test]
    fn numbers_beyond_32_bits_are_refused() {
        for (bytes, error) in [
            (&[0xff, 0xff, 0xff, 0xff, 0x10][..], DecodeError::Length),
            (&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00], DecodeError::Length),
            (&[0xff, 0xff], DecodeError::Truncated),
        ] {
            assert_eq!(Reader::new(Bytes::copy_from_slice(bytes)).varint(), Err(error), "{bytes:?}");
        }
    }
}
