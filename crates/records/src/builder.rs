//! Builds batches: what producers send, and the control batches that brokers write.
//!
//! Records are encoded as they are pushed and compressed as one piece at the end, so a [`Builder`] holds the plain bytes
//! once.

use bytes::{BufMut, BytesMut};

use crate::header::{Attributes, HEADER_LEN, Header, MAGIC};
use crate::headers::{Headers, RecordHeader};
use crate::{
    Batch, Codec, ControlType, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp, TimestampType, varint,
};

/// The most plain bytes in one batch: far above any broker's limit, and low enough that no codec can push the batch
/// beyond its 31-bit length.
const PLAIN_MAX: usize = 1 << 30;

/// Why a record does not go into the batch. The batch stays as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The batch would be larger than 1 GiB.
    #[error("a record batch holds at most 1 GiB")]
    TooLarge,
    /// The timestamp is more than 63 bits away from that of the first record.
    #[error("the timestamp is too far from that of the batch's first record")]
    Timestamp,
}

/// Gathers records into one batch.
///
/// ```
/// use records::{Builder, Codec, Headers, Timestamp};
///
/// let mut builder = Builder::new(Codec::Lz4);
/// builder.push(Timestamp(1_700_000_000_000), Some(b"key"), Some(b"value"), &Headers::NONE)?;
/// let batch = builder.build();
/// assert_eq!(batch.header().record_count, 1);
/// batch.check_produced(1 << 20).expect("a broker takes it");
/// # Ok::<(), records::BuildError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Builder {
    attributes: Attributes,
    codec: Codec,
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    base_sequence: i32,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
    record_count: i32,
    plain: BytesMut,
}

impl Builder {
    /// An empty batch of no producer.
    #[must_use]
    pub fn new(codec: Codec) -> Self {
        Self {
            attributes: Attributes::default(),
            codec,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch(-1),
            base_sequence: -1,
            base_timestamp: Timestamp(-1),
            max_timestamp: Timestamp(-1),
            record_count: 0,
            plain: BytesMut::new(),
        }
    }

    /// Marks the batch as an idempotent producer's; `base_sequence` is the first record's.
    #[must_use]
    pub fn producer(mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: i32) -> Self {
        self.set_producer(id, epoch, base_sequence);
        self
    }

    /// The same for a batch that is already being filled.
    pub fn set_producer(&mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: i32) {
        self.producer_id = id;
        self.producer_epoch = epoch;
        self.base_sequence = base_sequence;
    }

    /// Marks the batch as part of a transaction.
    #[must_use]
    pub fn transactional(mut self) -> Self {
        self.attributes = self.attributes.with_transactional(true);
        self
    }

    /// Marks the batch's timestamps as the broker's.
    #[must_use]
    pub fn log_append_time(mut self) -> Self {
        self.attributes = self.attributes.with_timestamp_type(TimestampType::LogAppendTime);
        self
    }

    /// Adds a record. Names and order of headers are kept as they are.
    ///
    /// # Errors
    /// [`BuildError`] when it does not fit; the batch is as it was.
    pub fn push(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &Headers,
    ) -> Result<(), BuildError> {
        let base = if self.record_count == 0 { timestamp } else { self.base_timestamp };
        let delta = timestamp.0.checked_sub(base.0).ok_or(BuildError::Timestamp)?;
        let len = 1
            + varint::len(delta)
            + varint::len(i64::from(self.record_count))
            + bytes_len(key)
            + bytes_len(value)
            + varint::len(len_i64(headers.len()))
            + headers.bytes().len();
        if len + varint::LEN_MAX > PLAIN_MAX - self.plain.len() {
            return Err(BuildError::TooLarge);
        }
        let out = &mut self.plain;
        out.reserve(len + varint::LEN_MAX);
        varint::put(out, len_i64(len));
        out.put_i8(0);
        varint::put(out, delta);
        varint::put(out, i64::from(self.record_count));
        varint::put_bytes(out, key);
        varint::put_bytes(out, value);
        varint::put(out, len_i64(headers.len()));
        out.extend_from_slice(headers.bytes());
        self.base_timestamp = base;
        self.max_timestamp = if self.record_count == 0 { timestamp } else { self.max_timestamp.max(timestamp) };
        self.record_count += 1;
        Ok(())
    }

    /// How many records there are.
    #[must_use]
    pub fn record_count(&self) -> i32 {
        self.record_count
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.record_count == 0
    }

    /// Bytes of the batch if it were not compressed: exact for [`Codec::None`].
    #[must_use]
    pub fn size_estimate(&self) -> usize {
        HEADER_LEN + self.plain.len()
    }

    /// Bytes that a record adds to [`Builder::size_estimate`], at most.
    #[must_use]
    pub fn record_size_max(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[RecordHeader]) -> usize {
        let field = |bytes: Option<&[u8]>| 5 + bytes.map_or(0, <[u8]>::len);
        let headers: usize = headers.iter().map(|(name, value)| field(Some(name)) + field(value.as_deref())).sum();
        5 + 1 + 10 + 5 + field(key) + field(value) + 5 + headers
    }

    /// Ends the batch; it starts at offset 0 and has no leader epoch (−1), as a producer sends it.
    ///
    /// # Panics
    /// When there is no record: an empty batch is never sent.
    #[must_use]
    pub fn build(self) -> Batch {
        assert!(self.record_count > 0, "a batch is built of at least one record");
        let header = Header {
            base_offset: Offset(0),
            batch_length: 0,
            leader_epoch: LeaderEpoch(-1),
            magic: MAGIC,
            crc: 0,
            attributes: self.attributes.with_codec(self.codec),
            last_offset_delta: self.record_count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            record_count: self.record_count,
        };
        Batch::seal(header, self.codec.deflate(self.plain.freeze()))
    }

    /// The control batch that ends a producer's transaction in one partition. It takes one offset.
    #[must_use]
    pub fn control(
        kind: ControlType,
        producer_id: ProducerId,
        producer_epoch: ProducerEpoch,
        coordinator_epoch: i32,
        timestamp: Timestamp,
    ) -> Batch {
        let mut key = [0; 4];
        key[2..].copy_from_slice(&kind.number().to_be_bytes());
        let mut value = [0; 6];
        value[2..].copy_from_slice(&coordinator_epoch.to_be_bytes());
        let mut builder = Self::new(Codec::None).producer(producer_id, producer_epoch, -1).transactional();
        builder.attributes = builder.attributes.with_control(true);
        builder.push(timestamp, Some(&key), Some(&value), &Headers::NONE).expect("a first small record fits");
        builder.build()
    }
}

fn bytes_len(bytes: Option<&[u8]>) -> usize {
    let len = bytes.map_or(0, <[u8]>::len);
    varint::len(if bytes.is_some() { len_i64(len) } else { -1 }) + len
}

fn len_i64(len: usize) -> i64 {
    i64::try_from(len).expect("a length is below 2^63")
}
