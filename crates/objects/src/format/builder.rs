//! Makes an object: extents in, one payload out. Record bytes are handed on by reference, never gathered into one buffer;
//! only small pieces (batch headers, tiny batches) are, because a reference to them costs more than their bytes.

use bytes::{Bytes, BytesMut};
use object_store::PutPayload;
use records::{Batch, BatchError, JournalId, Offset, Position, TopicPartition};
use uuid::Uuid;

use super::index::IndexBuilder;
use super::{Aborted, Block, Extent, Footer};

/// Pieces below this size are gathered; larger ones are handed on by reference.
const GATHER_BELOW_BYTES: usize = 1024;
/// How large a buffer of gathered pieces becomes.
const GATHER_BUFFER_BYTES: usize = 256 * 1024;

/// One extent to be: the batches of one partition.
#[derive(Debug, Clone)]
pub struct ExtentSource {
    /// Whose records these are.
    pub topic_partition: TopicPartition,
    /// The batches, in order, without a gap between their offsets; at least one.
    pub batches: Vec<Batch>,
    /// The producer state after the last batch, in the encoding of the crate `log`.
    pub producer_snapshot: Bytes,
    /// The aborted transactions that reach into these batches.
    pub aborted: Vec<Aborted>,
}

/// A batch was damaged before it came here: on the journal's disk, or in memory. The object must not be uploaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the batch at offset {offset} of {topic_partition} is damaged: {source}")]
pub struct BuildError {
    /// Whose batch it is.
    pub topic_partition: TopicPartition,
    /// Its base offset.
    pub offset: Offset,
    /// What is wrong with it.
    pub source: BatchError,
}

/// Builds one object. Extents come in order of topic id, partition and offset.
#[derive(Debug)]
pub struct ObjectBuilder {
    footer: Footer,
    payload: Gather,
    producers: Vec<Bytes>,
    indexes: Vec<Bytes>,
}

/// A finished object.
#[derive(Debug, Clone)]
pub struct Built {
    /// The object's id.
    pub object: Uuid,
    /// The bytes to PUT: a list of slices, cheap to clone.
    pub payload: PutPayload,
    /// What the object holds.
    pub extents: Vec<Extent>,
    /// How many bytes it has.
    pub size: u64,
}

impl ObjectBuilder {
    /// Starts the object `object`, which holds the appends of `journal` in `[from, to)`.
    ///
    /// # Panics
    /// When `from` lies after `to`.
    #[must_use]
    pub fn new(object: Uuid, journal: JournalId, from: Position, to: Position) -> Self {
        assert!(from <= to, "journal positions ascend: {from}, {to}");
        Self {
            footer: Footer { object, journal, from, to, extents: Vec::new() },
            payload: Gather::default(),
            producers: Vec::new(),
            indexes: Vec::new(),
        }
    }

    /// How many bytes of record batches it holds so far.
    #[must_use]
    pub fn data_len(&self) -> u64 {
        self.payload.len
    }

    /// Adds an extent.
    ///
    /// # Errors
    /// When a batch does not have the checksum that its header says. The builder is of no use then.
    ///
    /// # Panics
    /// When the extents are not sorted, or batches are missing between two others: an object that breaks this would lose
    /// records (invariant O2), so it must not come to be.
    pub fn push(&mut self, source: ExtentSource) -> Result<(), BuildError> {
        let ExtentSource { topic_partition, batches, producer_snapshot, aborted } = source;
        let base_offset = batches.first().expect("an extent has a batch").base_offset();
        assert!(base_offset.0 >= 0, "offsets are not negative: {base_offset}");
        if let Some(before) = self.footer.extents.last() {
            let sorted = (before.topic_partition, before.end_offset) <= (topic_partition, base_offset);
            assert!(sorted, "extents are sorted: {topic_partition} at {base_offset}");
        }
        let position = self.payload.len;
        let mut index = IndexBuilder::default();
        let mut next = base_offset;
        let mut crc = 0;
        let mut batch_count = 0_u32;
        let mut record_count = 0_u64;
        for batch in batches {
            let offset = batch.base_offset();
            assert!(offset == next, "batches of {topic_partition} are contiguous: {offset} after {next}");
            // The last look at the batch before its journal's bytes go.
            batch.check_crc().map_err(|source| BuildError { topic_partition, offset, source })?;
            let header = batch.header();
            index.push((offset.0 - base_offset.0).cast_unsigned(), self.payload.len - position, header.max_timestamp);
            let header_bytes = batch.header_bytes();
            crc = crc32c::crc32c_append(crc32c::crc32c_append(crc, &header_bytes), batch.body());
            next = batch.next_offset();
            batch_count += 1;
            record_count += u64::from(header.record_count.max(0).cast_unsigned());
            self.payload.gather(&header_bytes);
            self.payload.push(batch.body().clone());
        }
        let max_timestamp = index.max_timestamp();
        let (index, index_block) = index.finish(&aborted);
        let producers_block = block_of(&producer_snapshot);
        self.indexes.push(index);
        self.producers.push(producer_snapshot);
        self.footer.extents.push(Extent {
            topic_partition,
            base_offset,
            end_offset: next,
            position,
            len: self.payload.len - position,
            crc,
            batch_count,
            record_count,
            max_timestamp,
            index: index_block,
            producers: producers_block,
            object: self.footer.object,
        });
        Ok(())
    }

    /// Ends the object.
    #[must_use]
    pub fn finish(mut self) -> Built {
        let data_len = self.payload.len;
        for (extent, bytes) in self.footer.extents.iter_mut().zip(self.producers) {
            extent.producers.position = self.payload.len;
            self.payload.push(bytes);
        }
        for (extent, bytes) in self.footer.extents.iter_mut().zip(self.indexes) {
            extent.index.position = self.payload.len;
            self.payload.push(bytes);
        }
        let end = self.footer.encode(data_len);
        // The other half of the pair of checks: what was written can be read, before it replaces the journal's bytes.
        let size = self.payload.len + end.len() as u64;
        let read_back = Footer::decode(&end, size);
        assert!(read_back.as_ref() == Ok(&self.footer), "a footer reads back as it was written: {read_back:?}");
        self.payload.push(end);
        Built { object: self.footer.object, payload: self.payload.finish(), extents: self.footer.extents, size }
    }
}

/// The block that describes `bytes`, once its position is known.
pub(super) fn block_of(bytes: &Bytes) -> Block {
    let len = u32::try_from(bytes.len()).expect("a block has less than 4 GiB");
    Block { position: 0, len, crc: crc32c::crc32c(bytes) }
}

/// A list of slices, in which small neighbours share a buffer.
#[derive(Debug, Default)]
struct Gather {
    parts: Vec<Bytes>,
    buffer: BytesMut,
    len: u64,
}

impl Gather {
    fn push(&mut self, bytes: Bytes) {
        if bytes.len() < GATHER_BELOW_BYTES {
            self.gather(&bytes);
        } else {
            self.len += bytes.len() as u64;
            self.flush();
            self.parts.push(bytes);
        }
    }

    fn gather(&mut self, bytes: &[u8]) {
        self.len += bytes.len() as u64;
        if self.buffer.capacity() - self.buffer.len() < bytes.len() {
            self.flush();
            self.buffer.reserve(GATHER_BUFFER_BYTES);
        }
        self.buffer.extend_from_slice(bytes);
    }

    fn flush(&mut self) {
        if !self.buffer.is_empty() {
            // What is left of the buffer goes on being filled.
            self.parts.push(self.buffer.split().freeze());
        }
    }

    fn finish(mut self) -> PutPayload {
        self.flush();
        self.parts.into_iter().collect()
    }
}
