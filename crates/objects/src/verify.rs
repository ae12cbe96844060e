//! Looks at a whole data object in the store: that it is there with its size, that its footer can be read, and that every
//! batch, index and producer state in it is what was written. Repairs nothing.
//!
//! Cost: one GET for the footer (two when it is large); one more for the contents, which are read through once. Memory:
//! what is on its way, and one batch.

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::{Error as StoreError, GetOptions, GetRange, ObjectStore, ObjectStoreExt, path::Path};
use records::Batch;

use crate::format::{Block, Extent, Footer, FooterError, FormatError, Index, TAIL_GUESS_LEN};

/// A batch's base offset and the length of what follows.
const LENGTH_END: usize = 12;

/// What is wrong with an object.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// It is not there.
    #[error("it is not in the store")]
    Missing,
    /// It has another size than it should.
    #[error("it has {found} bytes")]
    Size {
        /// The size it has.
        found: u64,
    },
    /// Its footer is not what was written.
    #[error("its footer: {0}")]
    Footer(FormatError),
    /// Something of one extent is not what was written.
    #[error("offsets {} to {} of {}: {source}", extent.base_offset, extent.end_offset, extent.topic_partition)]
    Extent {
        /// The extent, as the footer has it.
        extent: Box<Extent>,
        /// What is wrong.
        source: FormatError,
    },
    /// The store does not give it: it may be whole.
    #[error("the store does not give it: {0}")]
    Unreadable(StoreError),
}

impl From<StoreError> for Damage {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound { .. } => Self::Missing,
            error => Self::Unreadable(error),
        }
    }
}

/// Reads the footer of an object that should have `size` bytes. Cancellation safe.
///
/// # Errors
/// [`Damage`].
pub async fn footer(store: &dyn ObjectStore, key: &Path, size: u64) -> Result<Footer, Damage> {
    let start = size.saturating_sub(TAIL_GUESS_LEN);
    let options = GetOptions { range: Some(GetRange::Bounded(start..size)), ..GetOptions::default() };
    // The answer to a range that does not lie in the object differs from store to store.
    let found = match store.get_opts(key, options).await {
        Ok(found) => found.meta.size,
        Err(StoreError::NotFound { .. }) => return Err(Damage::Missing),
        Err(_) => store.head(key).await?.size,
    };
    if found != size {
        return Err(Damage::Size { found });
    }
    Footer::read(store, key, size).await.map_err(|error| match error {
        FooterError::Store { source, .. } => source.into(),
        FooterError::Format { source, .. } => Damage::Footer(source),
    })
}

/// Reads all that an object holds, and gives what is wrong with it. Cancellation safe.
pub async fn contents(store: &dyn ObjectStore, key: &Path, footer: &Footer) -> Vec<Damage> {
    let mut found = Vec::new();
    if let Err(error) = read(store, key, footer, &mut found).await {
        found.push(error.into());
    }
    found
}

async fn read(store: &dyn ObjectStore, key: &Path, footer: &Footer, found: &mut Vec<Damage>) -> Result<(), StoreError> {
    let mut body = Body { stream: store.get(key).await?.into_stream(), buffer: BytesMut::new(), position: 0 };
    let mut damaged = |extent: &Extent, source| found.push(Damage::Extent { extent: Box::new(extent.clone()), source });
    for extent in &footer.extents {
        if let Err(source) = records(&mut body, extent).await? {
            damaged(extent, source);
        }
        body.skip(extent.range().end).await?;
    }
    let mut blocks: Vec<(Block, &Extent, bool)> = Vec::with_capacity(footer.extents.len() * 2);
    for extent in &footer.extents {
        blocks.push((extent.producers, extent, false));
        blocks.push((extent.index, extent, true));
    }
    blocks.sort_unstable_by_key(|(block, ..)| block.position);
    for (block, extent, is_index) in blocks {
        body.skip(block.position).await?;
        let Some(bytes) = body.take(u64::from(block.len)).await? else {
            damaged(extent, FormatError::Short { what: "a block", len: body.position });
            continue;
        };
        let checked =
            if is_index { Index::decode(&bytes, extent).map(drop) } else { extent.check_producers(bytes).map(drop) };
        if let Err(source) = checked {
            damaged(extent, source);
        }
    }
    Ok(())
}

/// Checks the batches of one extent. The inner error is what is wrong with them.
async fn records(body: &mut Body, extent: &Extent) -> Result<Result<(), FormatError>, StoreError> {
    let mut next = extent.base_offset;
    let mut all = 0;
    let mut left = extent.len;
    while left > 0 {
        let Some(start) = body.peek(LENGTH_END).await? else {
            return Ok(Err(FormatError::Short { what: "a record batch", len: left }));
        };
        let [.., a, b, c, d] = start;
        let len = u64::try_from(i32::from_be_bytes([a, b, c, d])).ok().map(|len| len + LENGTH_END as u64);
        let Some(len) = len.filter(|len| *len <= left) else {
            return Ok(Err(FormatError::Invalid { what: "record batch", why: "it does not end in its extent" }));
        };
        let Some(bytes) = body.take(len).await? else {
            return Ok(Err(FormatError::Short { what: "a record batch", len: left }));
        };
        all = crc32c::crc32c_append(all, &bytes);
        left -= len;
        let batch = match Batch::decode(bytes) {
            Ok(batch) => batch,
            Err(error) => return Ok(Err(error.into())),
        };
        if let Err(error) = batch.check_crc() {
            return Ok(Err(error.into()));
        }
        if batch.base_offset() != next || batch.next_offset() > extent.end_offset {
            return Ok(Err(FormatError::Invalid { what: "record batch", why: "it has not the offset that is due" }));
        }
        next = batch.next_offset();
    }
    Ok(match (next == extent.end_offset, all == extent.crc) {
        (false, _) => {
            Err(FormatError::Invalid { what: "record batches", why: "they do not reach to the extent's end" })
        }
        // What lies outside of the batches' own checksums: their offsets and leader epochs.
        (true, false) => Err(FormatError::Crc { what: "record batches" }),
        (true, true) => Ok(()),
    })
}

/// An object, read from its beginning on.
struct Body {
    stream: BoxStream<'static, Result<Bytes, StoreError>>,
    buffer: BytesMut,
    /// Of the buffer's first byte.
    position: u64,
}

impl Body {
    /// Has so many bytes in the buffer; says whether there are.
    async fn fill(&mut self, len: usize) -> Result<bool, StoreError> {
        while self.buffer.len() < len {
            match self.stream.next().await {
                Some(more) => self.buffer.extend_from_slice(&more?),
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    async fn peek(&mut self, len: usize) -> Result<Option<[u8; LENGTH_END]>, StoreError> {
        if !self.fill(len).await? {
            return Ok(None);
        }
        let mut start = [0; LENGTH_END];
        start.copy_from_slice(&self.buffer[..LENGTH_END]);
        Ok(Some(start))
    }

    async fn take(&mut self, len: u64) -> Result<Option<Bytes>, StoreError> {
        let Ok(count) = usize::try_from(len) else { return Ok(None) };
        if !self.fill(count).await? {
            return Ok(None);
        }
        self.position += len;
        Ok(Some(self.buffer.split_to(count).freeze()))
    }

    /// Goes on to this position, which is not before where it is.
    async fn skip(&mut self, to: u64) -> Result<(), StoreError> {
        while self.position < to {
            if self.buffer.is_empty() && !self.fill(1).await? {
                return Ok(());
            }
            let step = (to - self.position).min(self.buffer.len() as u64);
            bytes::Buf::advance(&mut self.buffer, usize::try_from(step).unwrap_or(usize::MAX));
            self.position += step;
        }
        Ok(())
    }
}
