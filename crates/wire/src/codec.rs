//! How each type of the protocol is read, written and measured: numbers, strings, bytes, records, arrays, and null.
//! Structures implement the same trait through their tables.

use bytes::Bytes;
use uuid::Uuid;

use crate::encode::{EncodeError, length_size, put_length, put_string_length, string_length_size};
use crate::field::{At, Field};
use crate::reader::{DecodeError, Reader, not_null};
use crate::records::Records;
use crate::rope::Rope;
use crate::text::Text;

/// A type that a table may give to a field.
pub(crate) trait Wire: Sized {
    fn read(input: &mut Reader, at: At, field: &Field) -> Result<Self, DecodeError>;
    fn write(&self, out: &mut Rope, at: At, field: &Field) -> Result<(), EncodeError>;
    /// Bytes that [`Wire::write`] writes.
    fn size(&self, at: At, field: &Field) -> usize;
    /// The fewest bytes that any value takes.
    fn size_min(at: At, field: &Field) -> usize;
}

/// A type that has a null on the wire; `None` is null, and is refused where `field` has no null in the version.
pub(crate) trait Nullable: Wire {
    fn read_nullable(input: &mut Reader, at: At, field: &Field) -> Result<Option<Self>, DecodeError>;
    fn write_nullable(value: Option<&Self>, out: &mut Rope, at: At, field: &Field) -> Result<(), EncodeError>;
    fn size_nullable(value: Option<&Self>, at: At, field: &Field) -> usize;
    fn size_min_nullable(at: At, field: &Field) -> usize;
}

impl<T: Nullable> Wire for Option<T> {
    fn read(input: &mut Reader, at: At, field: &Field) -> Result<Self, DecodeError> {
        T::read_nullable(input, at, field)
    }

    fn write(&self, out: &mut Rope, at: At, field: &Field) -> Result<(), EncodeError> {
        T::write_nullable(self.as_ref(), out, at, field)
    }

    fn size(&self, at: At, field: &Field) -> usize {
        T::size_nullable(self.as_ref(), at, field)
    }

    fn size_min(at: At, field: &Field) -> usize {
        T::size_min_nullable(at, field)
    }
}

macro_rules! number {
    ($($of:ty),*) => {
        $(impl Wire for $of {
            fn read(input: &mut Reader, _: At, _: &Field) -> Result<Self, DecodeError> {
                Ok(Self::from_be_bytes(input.array()?))
            }

            fn write(&self, out: &mut Rope, _: At, _: &Field) -> Result<(), EncodeError> {
                out.put_slice(&self.to_be_bytes());
                Ok(())
            }

            fn size(&self, _: At, _: &Field) -> usize {
                size_of::<Self>()
            }

            fn size_min(_: At, _: &Field) -> usize {
                size_of::<Self>()
            }
        })*
    };
}

number!(i8, i16, u16, i32, u32, i64, f64);

impl Wire for bool {
    fn read(input: &mut Reader, _: At, _: &Field) -> Result<Self, DecodeError> {
        Ok(input.array::<1>()? != [0])
    }

    fn write(&self, out: &mut Rope, _: At, _: &Field) -> Result<(), EncodeError> {
        out.put_slice(&[u8::from(*self)]);
        Ok(())
    }

    fn size(&self, _: At, _: &Field) -> usize {
        1
    }

    fn size_min(_: At, _: &Field) -> usize {
        1
    }
}

impl Wire for Uuid {
    fn read(input: &mut Reader, _: At, _: &Field) -> Result<Self, DecodeError> {
        Ok(Self::from_bytes(input.array()?))
    }

    fn write(&self, out: &mut Rope, _: At, _: &Field) -> Result<(), EncodeError> {
        out.put_slice(self.as_bytes());
        Ok(())
    }

    fn size(&self, _: At, _: &Field) -> usize {
        size_of::<Self>()
    }

    fn size_min(_: At, _: &Field) -> usize {
        size_of::<Self>()
    }
}

/// The not-null form of a type that has a null whose encoding carries its own length: null is simply refused.
macro_rules! never_null {
    ($(($($generic:tt)*) $of:ty),*) => {
        $(impl<$($generic)*> Wire for $of {
            fn read(input: &mut Reader, at: At, field: &Field) -> Result<Self, DecodeError> {
                Self::read_nullable(input, at, &field.element())?.ok_or(DecodeError::Null(field.name))
            }

            fn write(&self, out: &mut Rope, at: At, field: &Field) -> Result<(), EncodeError> {
                Self::write_nullable(Some(self), out, at, field)
            }

            fn size(&self, at: At, field: &Field) -> usize {
                Self::size_nullable(Some(self), at, field)
            }

            fn size_min(at: At, field: &Field) -> usize {
                Self::size_min_nullable(at, field)
            }
        })*
    };
}

never_null!(() Text, () Bytes, () Records, (T: Wire) Vec<T>);

impl Nullable for Text {
    fn read_nullable(input: &mut Reader, at: At, field: &Field) -> Result<Option<Self>, DecodeError> {
        let Some(len) = not_null(input.string_length(at)?, at, field)? else { return Ok(None) };
        Self::from_utf8(input.slice(len)?).map(Some).map_err(|_| DecodeError::NotUtf8(field.name))
    }

    fn write_nullable(value: Option<&Self>, out: &mut Rope, at: At, field: &Field) -> Result<(), EncodeError> {
        put_string_length(out, value.map(|text| text.len()), at, field)?;
        out.put_slice(value.map_or(&[], |text| text.as_bytes()));
        Ok(())
    }

    fn size_nullable(value: Option<&Self>, at: At, _: &Field) -> usize {
        string_length_size(value.map(|text| text.len()), at) + value.map_or(0, |text| text.len())
    }

    fn size_min_nullable(at: At, _: &Field) -> usize {
        string_length_size(None, at)
    }
}

impl Nullable for Bytes {
    fn read_nullable(input: &mut Reader, at: At, field: &Field) -> Result<Option<Self>, DecodeError> {
        let Some(len) = not_null(input.length(at)?, at, field)? else { return Ok(None) };
        input.slice(len).map(Some)
    }

    fn write_nullable(value: Option<&Self>, out: &mut Rope, at: At, field: &Field) -> Result<(), EncodeError> {
        put_length(out, value.map(Self::len), at, field)?;
        if let Some(bytes) = value {
            out.put_bytes(bytes);
        }
        Ok(())
    }

    fn size_nullable(value: Option<&Self>, at: At, _: &Field) -> usize {
        length_size(value.map(Self::len), at) + value.map_or(0, Self::len)
    }

    fn size_min_nullable(at: At, _: &Field) -> usize {
        length_size(None, at)
    }
}

impl Nullable for Records {
    fn read_nullable(input: &mut Reader, at: At, field: &Field) -> Result<Option<Self>, DecodeError> {
        Ok(Bytes::read_nullable(input, at, field)?.map(Self::from))
    }

    fn write_nullable(value: Option<&Self>, out: &mut Rope, at: At, field: &Field) -> Result<(), EncodeError> {
        put_length(out, value.map(Self::len), at, field)?;
        for segment in value.map_or(&[][..], Self::segments) {
            out.put_shared(segment.clone());
        }
        Ok(())
    }

    fn size_nullable(value: Option<&Self>, at: At, _: &Field) -> usize {
        let len = value.map(Self::len);
        length_size(len, at) + len.unwrap_or(0)
    }

    fn size_min_nullable(at: At, _: &Field) -> usize {
        length_size(None, at)
    }
}

impl<T: Wire> Nullable for Vec<T> {
    fn read_nullable(input: &mut Reader, at: At, field: &Field) -> Result<Option<Self>, DecodeError> {
        let Some(count) = not_null(input.length(at)?, at, field)? else { return Ok(None) };
        let element = field.element();
        let mut elements = input.reserve(count, T::size_min(at, &element))?;
        for _ in 0..count {
            elements.push(T::read(input, at, &element)?);
        }
        Ok(Some(elements))
    }

    fn write_nullable(value: Option<&Self>, out: &mut Rope, at: At, field: &Field) -> Result<(), EncodeError> {
        put_length(out, value.map(Self::len), at, field)?;
        let element = field.element();
        value.into_iter().flatten().try_for_each(|value| value.write(out, at, &element))
    }

    fn size_nullable(value: Option<&Self>, at: At, field: &Field) -> usize {
        let element = field.element();
        let elements: usize = value.into_iter().flatten().map(|value| value.size(at, &element)).sum();
        length_size(value.map(Self::len), at) + elements
    }

    fn size_min_nullable(at: At, _: &Field) -> usize {
        length_size(None, at)
    }
}

/// The byte before a structure that may be null: below zero it is.
pub(crate) mod presence {
    use super::{At, DecodeError, EncodeError, Field, Reader, Rope, not_null};

    pub(crate) fn read(input: &mut Reader, at: At, field: &Field) -> Result<Option<()>, DecodeError> {
        if !field.is_nullable(at.version) {
            return Ok(Some(()));
        }
        let present = i8::from_be_bytes(input.array()?) >= 0;
        not_null(present.then_some(()), at, field)
    }

    pub(crate) fn write(present: bool, out: &mut Rope, at: At, field: &Field) -> Result<(), EncodeError> {
        if field.is_nullable(at.version) {
            out.put_slice(&(if present { 1i8 } else { -1 }).to_be_bytes());
        } else if !present {
            return Err(EncodeError::Null(field.name));
        }
        Ok(())
    }

    pub(crate) fn size(at: At, field: &Field) -> usize {
        usize::from(field.is_nullable(at.version))
    }
}
