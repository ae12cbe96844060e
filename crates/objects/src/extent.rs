//! Reads the record batches of one extent through the cache, and checks them before anybody gets them: the checksum of
//! each, and that each starts at the offset where the one before it ended.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{Buf, Bytes, BytesMut};
use records::{Batch, Offset, Timestamp};

use crate::cache::{Object, ReadAhead, ReadError, Reader, Stretch};
use crate::format::{Extent, FormatError, INDEX_INTERVAL_BYTES, Index, Place};

/// Extents up to this size are read without their index, which would cost a GET and save less.
const UNINDEXED_BYTES: u64 = 2 * INDEX_INTERVAL_BYTES;
/// Checking more than this takes a thread longer than others should wait for it.
const CHECKED_AT_ONCE_BYTES: u64 = 64 << 10;
/// How many bytes a search by time looks at in one read.
const SEARCH_BYTES: u64 = 1 << 20;
/// A batch's base offset and the length of what follows.
const LENGTH_END: usize = 12;

/// Reads one extent. Cheap to make; all methods are cancellation safe.
#[derive(Debug, Clone, Copy)]
pub struct ExtentReader<'a> {
    reader: &'a Reader,
    object: &'a Object,
    extent: &'a Extent,
}

impl<'a> ExtentReader<'a> {
    /// A reader of `extent`, which lies in `object`.
    ///
    /// # Panics
    /// When it lies in another object.
    #[must_use]
    pub fn new(reader: &'a Reader, object: &'a Object, extent: &'a Extent) -> Self {
        assert!(object.id == extent.object, "the extent lies in {}, not in {}", extent.object, object.id);
        Self { reader, object, extent }
    }

    /// The extent's index.
    ///
    /// # Errors
    /// When the store does not give it, or it is damaged.
    pub async fn index(&self) -> Result<Index, ReadError> {
        let bytes = self.block(self.extent.index.range()).await?;
        Index::decode(&bytes, self.extent).map_err(|source| self.damaged(source))
    }

    /// The producer state after the extent's last batch.
    ///
    /// # Errors
    /// When the store does not give it, or it is damaged.
    pub async fn producer_snapshot(&self) -> Result<Bytes, ReadError> {
        let bytes = self.block(self.extent.producers.range()).await?;
        self.extent.check_producers(bytes).map_err(|source| self.damaged(source))
    }

    /// Whole batches, from the one that holds `from` (or the extent's first) on: as many as fit into `bytes_max`, but at
    /// least one; none when the extent ends before `from`. `ahead` is the reader's own, kept from read to read; what
    /// `following` extents hold is fetched ahead too.
    ///
    /// # Errors
    /// When the store does not give them, or they are damaged.
    pub async fn read(
        &self,
        from: Offset,
        bytes_max: u64,
        following: &[ExtentReader<'_>],
        ahead: &mut ReadAhead,
    ) -> Result<Vec<Batch>, ReadError> {
        let Range { start: position, end } = self.extent.range();
        let from = from.max(self.extent.base_offset);
        if from >= self.extent.end_offset {
            return Ok(Vec::new());
        }
        let (place, range) = if !self.is_indexed() {
            (Place { offset: self.extent.base_offset, position }, position..end)
        } else {
            let index = self.index().await?;
            let place = index.find_offset(from).expect("the extent covers the offset");
            (place, index.stretch(place, bytes_max))
        };
        let following: Vec<Stretch<'_>> = following.iter().map(ExtentReader::stretch).collect();
        let len = range.end - range.start;
        let bytes = self.reader.read_on(&self.stretch(), range, &following, ahead).await?;
        let batches = Batches::new(bytes, place.offset, self.extent.end_offset);
        let checked = if len <= CHECKED_AT_ONCE_BYTES {
            batches.from(from, bytes_max)
        } else {
            self.reader.lane().run(move || batches.from(from, bytes_max)).await.ok_or(ReadError::Closed)?
        };
        checked.map_err(|source| self.damaged(source))
    }

    /// The first batch that holds an offset at or above `from` and whose largest timestamp is at or after `at`.
    ///
    /// # Errors
    /// When the store does not give what lies before it, or it is damaged.
    pub async fn find_timestamp(&self, at: Timestamp, from: Offset) -> Result<Option<Batch>, ReadError> {
        let index = self.index().await?;
        let by_time = index.find_timestamp(at);
        let by_offset = index.find_offset(from.max(self.extent.base_offset));
        let (Some(by_time), Some(by_offset)) = (by_time, by_offset) else { return Ok(None) };
        let mut place = if by_time.offset < by_offset.offset { by_offset } else { by_time };
        while place.position < self.extent.range().end {
            let range = index.stretch(place, SEARCH_BYTES);
            let bytes = self.reader.read(self.object, range.clone()).await?;
            let mut batches = Batches::new(bytes, place.offset, self.extent.end_offset);
            while let Some(batch) = batches.next().map_err(|source| self.damaged(source))? {
                if batch.header().max_timestamp >= at && batch.next_offset() > from {
                    return Ok(Some(batch));
                }
            }
            place.offset = batches.next_offset;
            place.position = range.end;
        }
        Ok(None)
    }

    fn is_indexed(&self) -> bool {
        self.extent.len > UNINDEXED_BYTES
    }

    fn stretch(&self) -> Stretch<'a> {
        let first = if self.is_indexed() { self.extent.index.range() } else { 0..0 };
        Stretch { object: self.object, range: self.extent.range(), first }
    }

    async fn block(&self, range: Range<u64>) -> Result<Bytes, ReadError> {
        Ok(gathered(self.reader.read(self.object, range).await?))
    }

    fn damaged(&self, source: FormatError) -> ReadError {
        ReadError::Format { key: self.object.key.clone(), source }
    }
}

/// Splits slices, in which batches lie one after another, into batches. Only a batch that lies across two slices is copied.
struct Batches {
    slices: VecDeque<Bytes>,
    next_offset: Offset,
    end_offset: Offset,
}

impl Batches {
    fn new(slices: Vec<Bytes>, first_offset: Offset, end_offset: Offset) -> Self {
        Self { slices: slices.into(), next_offset: first_offset, end_offset }
    }

    /// All from the one that holds `from` on, as many as fit into `bytes_max`, but at least one.
    fn from(mut self, from: Offset, bytes_max: u64) -> Result<Vec<Batch>, FormatError> {
        let mut read = Vec::new();
        let mut read_bytes = 0;
        while let Some(batch) = self.next()? {
            if batch.next_offset() <= from {
                continue;
            }
            read_bytes += batch.len() as u64;
            if read_bytes > bytes_max && !read.is_empty() {
                break;
            }
            read.push(batch);
        }
        Ok(read)
    }

    fn next(&mut self) -> Result<Option<Batch>, FormatError> {
        let left: usize = self.slices.iter().map(Bytes::len).sum();
        if left == 0 {
            return Ok(None);
        }
        let short = FormatError::Short { what: "a record batch", len: left as u64 };
        let mut start = [0; LENGTH_END];
        if left < LENGTH_END {
            return Err(short);
        }
        let mut at = 0;
        for slice in &self.slices {
            let len = slice.len().min(LENGTH_END - at);
            start[at..at + len].copy_from_slice(&slice[..len]);
            at += len;
        }
        let [.., a, b, c, d] = start;
        let length = usize::try_from(i32::from_be_bytes([a, b, c, d])).map_err(|_| short.clone())?;
        let len = LENGTH_END.checked_add(length).filter(|len| *len <= left).ok_or(short)?;
        let batch = Batch::decode(self.take(len))?;
        batch.check_crc()?;
        if batch.base_offset() != self.next_offset || batch.next_offset() > self.end_offset {
            return Err(FormatError::Invalid { what: "record batch", why: "it has not the offset that is due" });
        }
        self.next_offset = batch.next_offset();
        Ok(Some(batch))
    }

    /// The first `len` bytes of those that are left, which are at least as many.
    fn take(&mut self, len: usize) -> Bytes {
        let mut taken = Vec::new();
        let mut missing = len;
        while missing > 0 {
            let slice = self.slices.front_mut().expect("as many bytes are left");
            let part = slice.split_to(missing.min(slice.len()));
            missing -= part.len();
            if !slice.has_remaining() {
                self.slices.pop_front();
            }
            taken.push(part);
        }
        gathered(taken)
    }
}

fn gathered(mut slices: Vec<Bytes>) -> Bytes {
    if slices.len() == 1 {
        return slices.remove(0);
    }
    let mut all = BytesMut::with_capacity(slices.iter().map(Bytes::len).sum());
    for slice in &slices {
        all.extend_from_slice(slice);
    }
    all.freeze()
}

#[cfg(test)]
mod tests;
