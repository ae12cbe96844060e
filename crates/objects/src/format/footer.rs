//! The footer: which extents an object holds and where, read from its tail with one GET, or two when it is large.

use std::ops::Range;

use bytes::Bytes;
use object_store::{ObjectStore, ObjectStoreExt, path::Path};
use prost::Message;
use records::{JournalId, Offset, Partition, Position, Timestamp, TopicId, TopicPartition};
use uuid::Uuid;

use super::{FormatError, MAGIC, TAIL_LEN, VERSION, check_crc};

/// How many bytes at the object's end the first GET of a footer asks for.
pub const TAIL_GUESS_LEN: u64 = 64 * 1024;

/// A range of bytes in an object, with the checksum of what lies there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Block {
    /// The first byte.
    pub position: u64,
    /// How many bytes; may be 0.
    pub len: u32,
    /// The CRC-32C of the bytes.
    pub crc: u32,
}

impl Block {
    /// Where the block lies in the object.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.position..self.position + u64::from(self.len)
    }
}

/// A contiguous run of record batches of one partition, inside one data object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extent {
    /// Whose records these are.
    pub topic_partition: TopicPartition,
    /// The first offset.
    pub base_offset: Offset,
    /// The offset after the last.
    pub end_offset: Offset,
    /// The first byte in the object.
    pub position: u64,
    /// How many bytes the batches have together; never 0.
    pub len: u64,
    /// The CRC-32C of those bytes.
    pub crc: u32,
    /// How many batches.
    pub batch_count: u32,
    /// How many records.
    pub record_count: u64,
    /// The largest timestamp that a batch header names; −1 when there is none.
    pub max_timestamp: Timestamp,
    /// Where the extent's [`super::Index`] lies.
    pub index: Block,
    /// Where the producer state after the extent's last batch lies.
    pub producers: Block,
    /// The object's id.
    pub object: Uuid,
}

impl Extent {
    /// Where the batches lie in the object.
    #[must_use]
    pub fn range(&self) -> Range<u64> {
        self.position..self.position + self.len
    }

    /// Checks all the extent's bytes, given in order.
    ///
    /// # Errors
    /// When they are not those that were written.
    pub fn check(&self, bytes: &[Bytes]) -> Result<(), FormatError> {
        let crc = bytes.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part));
        if crc == self.crc { Ok(()) } else { Err(FormatError::Crc { what: "record batches" }) }
    }

    /// Checks the bytes of the producer state, and gives them back.
    ///
    /// # Errors
    /// When they are not those that were written.
    pub fn check_producers(&self, bytes: Bytes) -> Result<Bytes, FormatError> {
        check_crc("producer state", self.producers.crc, &bytes)?;
        Ok(bytes)
    }

    /// The message that is stored. It leaves out the object's id, which the one who stores it knows.
    #[must_use]
    pub fn to_proto(&self) -> proto::objects::Extent {
        let block = |block: &Block| proto::objects::Block { position: block.position, len: block.len, crc: block.crc };
        proto::objects::Extent {
            topic: Bytes::copy_from_slice(self.topic_partition.topic.0.as_bytes()),
            partition: self.topic_partition.partition.0.cast_unsigned(),
            base_offset: self.base_offset.0,
            end_offset: self.end_offset.0,
            position: self.position,
            len: self.len,
            crc: self.crc,
            batch_count: self.batch_count,
            record_count: self.record_count,
            max_timestamp: self.max_timestamp.0,
            index: Some(block(&self.index)),
            producers: Some(block(&self.producers)),
        }
    }

    /// The extent that a stored message describes, in the object with the id `object`.
    ///
    /// # Errors
    /// When the message says something impossible.
    pub fn from_proto(stored: &proto::objects::Extent, object: Uuid) -> Result<Self, FormatError> {
        let invalid = |why| FormatError::Invalid { what: "extent", why };
        let block = |stored: Option<&proto::objects::Block>| {
            let stored = stored.ok_or(invalid("a block is missing"))?;
            stored.position.checked_add(u64::from(stored.len)).ok_or(invalid("a block does not end"))?;
            Ok::<_, FormatError>(Block { position: stored.position, len: stored.len, crc: stored.crc })
        };
        let topic = Uuid::from_slice(&stored.topic).map_err(|_| invalid("the topic id has not 16 bytes"))?;
        let partition = i32::try_from(stored.partition).map_err(|_| invalid("the partition is negative"))?;
        if stored.base_offset < 0 || stored.base_offset >= stored.end_offset {
            return Err(invalid("its offsets are not ascending"));
        }
        if stored.len == 0 || stored.position.checked_add(stored.len).is_none() {
            return Err(invalid("its bytes are not ascending"));
        }
        if stored.batch_count == 0 {
            return Err(invalid("it has no batches"));
        }
        Ok(Self {
            topic_partition: TopicPartition { topic: TopicId(topic), partition: Partition(partition) },
            base_offset: Offset(stored.base_offset),
            end_offset: Offset(stored.end_offset),
            position: stored.position,
            len: stored.len,
            crc: stored.crc,
            batch_count: stored.batch_count,
            record_count: stored.record_count,
            max_timestamp: Timestamp(stored.max_timestamp),
            index: block(stored.index.as_ref())?,
            producers: block(stored.producers.as_ref())?,
            object,
        })
    }
}

/// What an object holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footer {
    /// The object's unique id.
    pub object: Uuid,
    /// The journal whose appends it holds.
    pub journal: JournalId,
    /// The first journal position it holds.
    pub from: Position,
    /// The position after the last.
    pub to: Position,
    /// The extents, sorted by topic id, partition and offset.
    pub extents: Vec<Extent>,
}

/// Why a footer could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FooterError {
    /// The store did not give the bytes: ask again later.
    #[error("cannot read the end of {key}: {source}")]
    Store {
        /// The object's key.
        key: Path,
        /// What the store said.
        source: object_store::Error,
    },
    /// The object is not a whole data object.
    #[error("{key} is damaged: {source}")]
    Format {
        /// The object's key.
        key: Path,
        /// What is wrong with it.
        source: FormatError,
    },
}

/// What the last 20 bytes say.
struct Tail {
    footer_len: u32,
    crc: u32,
}

impl Tail {
    fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        let short = || FormatError::Short { what: "a tail", len: bytes.len() as u64 };
        let start = bytes.len().checked_sub(TAIL_LEN).ok_or_else(short)?;
        let (numbers, magic) = bytes[start..].split_at(TAIL_LEN - MAGIC.len());
        if magic != MAGIC {
            return Err(FormatError::Magic);
        }
        let number = |at: usize| u32::from_le_bytes([numbers[at], numbers[at + 1], numbers[at + 2], numbers[at + 3]]);
        let version = number(8);
        if version != VERSION {
            return Err(FormatError::Version(version));
        }
        Ok(Self { footer_len: number(0), crc: number(4) })
    }

    /// The footer's and the tail's bytes together.
    fn total_len(&self) -> u64 {
        u64::from(self.footer_len) + TAIL_LEN as u64
    }
}

fn tail_crc(footer: &[u8], footer_len: u32) -> u32 {
    let crc = crc32c::crc32c(footer);
    crc32c::crc32c_append(crc32c::crc32c_append(crc, &footer_len.to_le_bytes()), &VERSION.to_le_bytes())
}

impl Footer {
    /// Reads the footer of the object `key`, which has `size` bytes. One GET; a second one when the footer is larger than
    /// [`TAIL_GUESS_LEN`].
    ///
    /// # Errors
    /// When the store does not answer, or the object is damaged. Cancellation safe.
    pub async fn read(store: &dyn ObjectStore, key: &Path, size: u64) -> Result<Self, FooterError> {
        let format = |source| FooterError::Format { key: key.clone(), source };
        if size < TAIL_LEN as u64 {
            return Err(format(FormatError::Short { what: "a tail", len: size }));
        }
        let get = async |start: u64| {
            let bytes = store
                .get_range(key, start..size)
                .await
                .map_err(|source| FooterError::Store { key: key.clone(), source })?;
            if bytes.len() as u64 == size - start {
                Ok(bytes)
            } else {
                Err(format(FormatError::Short { what: "its end", len: bytes.len() as u64 }))
            }
        };
        let mut end = get(size.saturating_sub(TAIL_GUESS_LEN)).await?;
        let needed = Tail::decode(&end).map_err(format)?.total_len();
        if needed > end.len() as u64 {
            let start =
                size.checked_sub(needed).ok_or_else(|| format(FormatError::Short { what: "its footer", len: size }))?;
            end = get(start).await?;
        }
        Self::decode(&end, size).map_err(format)
    }

    /// Decodes the footer out of the last bytes of an object of `size` bytes.
    ///
    /// # Errors
    /// When `end` does not hold the whole footer, or it is damaged.
    pub fn decode(end: &[u8], size: u64) -> Result<Self, FormatError> {
        let tail = Tail::decode(end)?;
        let short = FormatError::Short { what: "its footer", len: end.len() as u64 };
        let footer_len = usize::try_from(tail.footer_len).map_err(|_| short.clone())?;
        let footer_end = end.len() - TAIL_LEN;
        let footer = &end[footer_end.checked_sub(footer_len).ok_or_else(|| short.clone())?..footer_end];
        if tail_crc(footer, tail.footer_len) != tail.crc {
            return Err(FormatError::Crc { what: "footer" });
        }
        let footer_start = size.checked_sub(tail.total_len()).ok_or(short)?;
        let stored = proto::objects::Footer::decode(footer)
            .map_err(|_| FormatError::Invalid { what: "footer", why: "it is no message" })?;
        Self::from_proto(&stored, footer_start)
    }

    /// The footer and the tail, as they end an object.
    pub(super) fn encode(&self, data_len: u64) -> Bytes {
        let stored = proto::objects::Footer {
            object: Bytes::copy_from_slice(self.object.as_bytes()),
            journal: self.journal.0,
            from_position: self.from.0,
            to_position: self.to.0,
            data_len,
            extents: self.extents.iter().map(Extent::to_proto).collect(),
        };
        let mut out = stored.encode_to_vec();
        let footer_len = u32::try_from(out.len()).expect("a footer has less than 4 GiB");
        let crc = tail_crc(&out, footer_len);
        for number in [footer_len, crc, VERSION] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&MAGIC);
        out.into()
    }

    fn from_proto(stored: &proto::objects::Footer, footer_start: u64) -> Result<Self, FormatError> {
        let invalid = |why| FormatError::Invalid { what: "footer", why };
        let object = Uuid::from_slice(&stored.object).map_err(|_| invalid("the object id has not 16 bytes"))?;
        if stored.from_position > stored.to_position {
            return Err(invalid("its journal positions are not ascending"));
        }
        if stored.data_len > footer_start {
            return Err(invalid("its data reach over its end"));
        }
        let mut extents: Vec<Extent> = Vec::with_capacity(stored.extents.len());
        let mut position = 0;
        for stored_extent in &stored.extents {
            let extent = Extent::from_proto(stored_extent, object)?;
            if extent.position != position {
                return Err(invalid("an extent does not lie where the one before it ends"));
            }
            position = extent.range().end;
            if let Some(before) = extents.last()
                && (before.topic_partition, before.end_offset) > (extent.topic_partition, extent.base_offset)
            {
                return Err(invalid("its extents are not sorted"));
            }
            for block in [&extent.index, &extent.producers] {
                if block.position < stored.data_len || block.range().end > footer_start {
                    return Err(invalid("a block lies outside of the blocks"));
                }
            }
            extents.push(extent);
        }
        if position != stored.data_len {
            return Err(invalid("its extents do not fill its data"));
        }
        Ok(Self {
            object,
            journal: JournalId(stored.journal),
            from: Position(stored.from_position),
            to: Position(stored.to_position),
            extents,
        })
    }

    /// The extents of one partition, by offset.
    #[must_use]
    pub fn extents_of(&self, topic_partition: TopicPartition) -> &[Extent] {
        let start = self.extents.partition_point(|extent| extent.topic_partition < topic_partition);
        let len = self.extents[start..].partition_point(|extent| extent.topic_partition == topic_partition);
        &self.extents[start..start + len]
    }
}
