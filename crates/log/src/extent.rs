//! Reading one extent: from its index to its batches, each checked before it is served.

use bytes::{Bytes, BytesMut};
use metadata::LocatedExtent;
use objects::cache::{Object, ReadAhead, Reader};
use objects::format::Index;
use records::{Batch, Offset, Timestamp};

use crate::fetch::FetchError;

/// Extents up to this many bytes are read from their start: their index would save nothing.
const UNINDEXED_BYTES: u64 = 128 << 10;

/// An extent and the cache to read it through.
pub(crate) struct ExtentReader<'a> {
    reader: &'a Reader,
    located: &'a LocatedExtent,
    object: Object,
}

impl<'a> ExtentReader<'a> {
    pub(crate) fn new(reader: &'a Reader, located: &'a LocatedExtent) -> Self {
        let object = Object { id: located.extent.object, key: located.key.clone(), size: located.size };
        Self { reader, located, object }
    }

    /// Whole batches from the one that holds `from` (or the extent's first) on: about `bytes_max`, at least one.
    pub(crate) async fn read(
        &self,
        from: Offset,
        bytes_max: usize,
        ahead: &mut ReadAhead,
    ) -> Result<Vec<Batch>, FetchError> {
        let extent = &self.located.extent;
        let range = if extent.len <= UNINDEXED_BYTES {
            extent.range()
        } else {
            let index = self.index().await?;
            let place = index.find_offset(from.max(extent.base_offset)).ok_or(FetchError::Damaged("an extent's index"))?;
            index.stretch(place, bytes_max as u64)
        };
        let bytes = self.reader.read_on(&self.object, range, extent.range().end, ahead).await?;
        let batches = decode(bytes)?;
        Ok(batches.into_iter().skip_while(|batch| batch.next_offset() <= from).collect())
    }

    /// The first batch, from the one that holds `from` on, with a record at `at` or later.
    pub(crate) async fn find_timestamp(&self, at: Timestamp, from: Offset) -> Result<Option<Batch>, FetchError> {
        let extent = &self.located.extent;
        let index = self.index().await?;
        let Some(by_time) = index.find_timestamp(at) else { return Ok(None) };
        let by_offset = index.find_offset(from.max(extent.base_offset)).ok_or(FetchError::Damaged("an extent's index"))?;
        let mut place = if by_time.position > by_offset.position { by_time } else { by_offset };
        loop {
            // The index leads to within 64 KiB, unless the batches there are older than what is asked for.
            let range = index.stretch(place, 1);
            let end = range.end;
            for batch in decode(self.reader.read(&self.object, range).await?)? {
                place.offset = batch.next_offset();
                if batch.next_offset() > from && batch.header().max_timestamp >= at {
                    return Ok(Some(batch));
                }
            }
            if end >= extent.range().end {
                return Ok(None);
            }
            place.position = end;
        }
    }

    /// The producers' snapshot as of the extent's end.
    pub(crate) async fn producer_snapshot(&self) -> Result<Bytes, FetchError> {
        let extent = &self.located.extent;
        if extent.producers.len == 0 {
            return Ok(Bytes::new());
        }
        let bytes = self.reader.read(&self.object, extent.producers.range()).await?;
        extent.check_producers(concat(bytes)).map_err(|_| FetchError::Damaged("a producers' snapshot"))
    }

    async fn index(&self) -> Result<Index, FetchError> {
        let extent = &self.located.extent;
        let bytes = self.reader.read(&self.object, extent.index.range()).await?;
        Index::decode(&concat(bytes), extent).map_err(|_| FetchError::Damaged("an extent's index"))
    }
}

/// The whole batches in these bytes, their CRCs checked: what comes from the store is not trusted.
fn decode(bytes: Vec<Bytes>) -> Result<Vec<Batch>, FetchError> {
    let damaged = |_| FetchError::Damaged("a record batch");
    let mut bytes = concat(bytes);
    let mut batches = Vec::new();
    while let Some(batch) = Batch::split_first(&mut bytes).map_err(damaged)? {
        batch.check_crc().map_err(damaged)?;
        batches.push(batch);
    }
    Ok(batches)
}

/// One slice; copied only where the bytes lie in more than one chunk.
fn concat(mut slices: Vec<Bytes>) -> Bytes {
    if slices.len() == 1 {
        return slices.pop().unwrap_or_default();
    }
    let mut all = BytesMut::with_capacity(slices.iter().map(Bytes::len).sum());
    for slice in slices {
        all.extend_from_slice(&slice);
    }
    all.freeze()
}
