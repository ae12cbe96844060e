//! Tagged fields that no table line knows (KIP-482): kept as they came, so that a message passed on loses nothing.

use bytes::Bytes;

use crate::encode::{EncodeError, put_varint, varint_size};
use crate::rope::Rope;

/// The unknown tagged fields of one structure, in the order of their tags. One pointer wide, and null nearly always.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[expect(clippy::box_collection, reason = "one pointer in every structure, where a vector would be three")]
pub struct Tags(Option<Box<Vec<(u32, Bytes)>>>);

impl Tags {
    /// What a non-empty value takes beside its fields.
    pub(crate) const MEMORY: usize = size_of::<Vec<(u32, Bytes)>>();

    /// How many there are.
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.as_slice().is_empty()
    }

    /// Tags and values, in the order of the tags.
    pub fn as_slice(&self) -> &[(u32, Bytes)] {
        self.0.as_ref().map_or(&[], |fields| fields.as_slice())
    }

    pub(crate) fn start(&mut self, fields: Vec<(u32, Bytes)>) {
        self.0 = Some(Box::new(fields));
    }

    pub(crate) fn push(&mut self, tag: u32, value: Bytes) {
        self.0.get_or_insert_default().push((tag, value));
    }

    pub(crate) fn size(&self) -> usize {
        let size = |(tag, value): &(u32, Bytes)| varint_size(*tag) + value_size(value.len());
        self.as_slice().iter().map(size).sum()
    }
}

/// What a tagged field's value of `len` bytes takes, with its length.
pub(crate) fn value_size(len: usize) -> usize {
    u32::try_from(len).map_or(5, varint_size) + len
}

/// Writes a section of tagged fields: the known ones as they are handed in, by ascending tags, the unknown between them.
pub(crate) struct TagWriter<'a> {
    unknown: &'a [(u32, Bytes)],
}

impl<'a> TagWriter<'a> {
    pub(crate) fn start(out: &mut Rope, known: usize, unknown: &'a Tags) -> Result<Self, EncodeError> {
        let unknown = unknown.as_slice();
        put_varint(out, length(known + unknown.len())?);
        Ok(Self { unknown })
    }

    /// Writes tag and length of a known field; its value follows.
    pub(crate) fn known(&mut self, out: &mut Rope, tag: u32, size: usize) -> Result<(), EncodeError> {
        while let [(lower, value), rest @ ..] = self.unknown {
            if *lower >= tag {
                break;
            }
            put_unknown(out, *lower, value)?;
            self.unknown = rest;
        }
        put_varint(out, tag);
        put_varint(out, length(size)?);
        Ok(())
    }

    pub(crate) fn finish(self, out: &mut Rope) -> Result<(), EncodeError> {
        for (tag, value) in self.unknown {
            put_unknown(out, *tag, value)?;
        }
        Ok(())
    }
}

fn put_unknown(out: &mut Rope, tag: u32, value: &Bytes) -> Result<(), EncodeError> {
    put_varint(out, tag);
    put_varint(out, length(value.len())?);
    out.put_bytes(value);
    Ok(())
}

fn length(len: usize) -> Result<u32, EncodeError> {
    u32::try_from(len).map_err(|_| EncodeError::TooLong("tagged fields"))
}
