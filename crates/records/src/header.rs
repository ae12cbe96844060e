//! The 61 bytes that open a record batch (magic 2), big-endian:
//!
//! `base offset 8 · length of what follows 4 · leader epoch 4 · magic 1 · CRC 4 ‖ attributes 2 · last offset delta 4 ·
//! base timestamp 8 · max timestamp 8 · producer id 8 · producer epoch 2 · base sequence 4 · record count 4`
//!
//! The CRC-32C covers everything right of the double bar, to the end of the batch. What a broker assigns, base offset
//! and leader epoch, lies left of it.

use bytes::{Buf, BufMut};

use crate::{BatchError, Codec, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp};

/// Bytes of a batch's header.
pub const HEADER_LEN: usize = 61;

/// Bytes at the start of a batch that its CRC does not cover.
pub const UNSUMMED_LEN: usize = 21;

/// Bytes before those that [`Header::batch_length`] counts.
pub(crate) const LENGTH_END: usize = 12;

/// The only format version that is read and written.
pub(crate) const MAGIC: i8 = 2;

/// Who set the records' timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// The producer.
    CreateTime,
    /// The broker: every record has the batch's max timestamp.
    LogAppendTime,
}

/// The flags of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Attributes(pub i16);

impl Attributes {
    const CODEC: i16 = 0x07;
    const LOG_APPEND_TIME: i16 = 0x08;
    const TRANSACTIONAL: i16 = 0x10;
    const CONTROL: i16 = 0x20;
    const DELETE_HORIZON: i16 = 0x40;

    /// How the records are compressed.
    ///
    /// # Errors
    /// The number, when no codec has it.
    pub fn codec(self) -> Result<Codec, BatchError> {
        let number = self.0 & Self::CODEC;
        Codec::from_number(number).ok_or(BatchError::UnknownCodec(number))
    }

    /// Who set the timestamps.
    #[must_use]
    pub fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME == 0 { TimestampType::CreateTime } else { TimestampType::LogAppendTime }
    }

    /// Whether the batch is part of a transaction.
    #[must_use]
    pub fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Whether the batch holds a marker that a broker wrote, not records of a client.
    #[must_use]
    pub fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// Whether the base timestamp is the time at which compaction may drop the batch's tombstones (KIP-534).
    #[must_use]
    pub fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    /// The same flags with this codec.
    #[must_use]
    pub fn with_codec(self, codec: Codec) -> Self {
        Self(self.0 & !Self::CODEC | codec.number())
    }

    /// The same flags with this timestamp type.
    #[must_use]
    pub fn with_timestamp_type(self, kind: TimestampType) -> Self {
        self.with(Self::LOG_APPEND_TIME, kind == TimestampType::LogAppendTime)
    }

    /// The same flags, transactional or not.
    #[must_use]
    pub fn with_transactional(self, on: bool) -> Self {
        self.with(Self::TRANSACTIONAL, on)
    }

    /// The same flags, control or not.
    #[must_use]
    pub fn with_control(self, on: bool) -> Self {
        self.with(Self::CONTROL, on)
    }

    fn with(self, flag: i16, on: bool) -> Self {
        Self(if on { self.0 | flag } else { self.0 & !flag })
    }
}

/// A batch's header, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The offset of the first record. Outside the CRC.
    pub base_offset: Offset,
    /// Bytes of the batch after this field: 12 less than all of it.
    pub batch_length: i32,
    /// The epoch of the leader that appended it. Outside the CRC.
    pub leader_epoch: LeaderEpoch,
    /// The format version: 2.
    pub magic: i8,
    /// CRC-32C of everything from the attributes on.
    pub crc: u32,
    /// Flags.
    pub attributes: Attributes,
    /// The last record's offset less the base offset. Compaction keeps it when it removes the last record.
    pub last_offset_delta: i32,
    /// What the records' timestamps count from.
    pub base_timestamp: Timestamp,
    /// The largest timestamp of the records, or the time of the append ([`TimestampType::LogAppendTime`]).
    pub max_timestamp: Timestamp,
    /// The idempotent producer, or [`ProducerId::NONE`].
    pub producer_id: ProducerId,
    /// Its epoch, or −1.
    pub producer_epoch: ProducerEpoch,
    /// The first record's sequence number, or −1.
    pub base_sequence: i32,
    /// How many records follow.
    pub record_count: i32,
}

impl Header {
    /// Reads the header at the start of `bytes`, of which more than the header may be there, or less than the batch.
    ///
    /// # Errors
    /// [`BatchError`] when the header is cut short, is not of format v2, or names a length or offsets that no batch has.
    pub fn decode(bytes: &[u8]) -> Result<Self, BatchError> {
        let Some(mut input) = bytes.get(..HEADER_LEN) else {
            // The magic of the two older formats lies at the same place: say what is wrong as early as can be.
            return match bytes.get(16).map(|byte| byte.cast_signed()) {
                Some(magic) if magic != MAGIC => Err(BatchError::Magic(magic)),
                _ => Err(BatchError::Truncated { have: bytes.len(), want: HEADER_LEN }),
            };
        };
        let header = Self {
            base_offset: Offset(input.get_i64()),
            batch_length: input.get_i32(),
            leader_epoch: LeaderEpoch(input.get_i32()),
            magic: input.get_i8(),
            crc: input.get_u32(),
            attributes: Attributes(input.get_i16()),
            last_offset_delta: input.get_i32(),
            base_timestamp: Timestamp(input.get_i64()),
            max_timestamp: Timestamp(input.get_i64()),
            producer_id: ProducerId(input.get_i64()),
            producer_epoch: ProducerEpoch(input.get_i16()),
            base_sequence: input.get_i32(),
            record_count: input.get_i32(),
        };
        if header.magic != MAGIC {
            return Err(BatchError::Magic(header.magic));
        }
        if header.len() < HEADER_LEN {
            return Err(BatchError::Length(header.batch_length));
        }
        if header.base_offset.0 < 0 || header.last_offset_delta < 0 {
            return Err(BatchError::Invalid("its offsets are negative"));
        }
        if header.base_offset.0.checked_add(i64::from(header.last_offset_delta) + 1).is_none() {
            return Err(BatchError::Invalid("its offsets end beyond 2^63"));
        }
        Ok(header)
    }

    /// Bytes of the whole batch; 0 when the length field is negative.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.batch_length).map_or(0, |len| len + LENGTH_END)
    }

    /// Whether the length field is negative, which no decoded header's is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The offset of the last record.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        self.base_offset.after(i64::from(self.last_offset_delta))
    }

    /// The offset after the last record.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.last_offset().after(1)
    }

    /// The header as it lies on disk and on the wire.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        let mut out = &mut bytes[..];
        out.put_i64(self.base_offset.0);
        out.put_i32(self.batch_length);
        out.put_i32(self.leader_epoch.0);
        out.put_i8(self.magic);
        out.put_u32(self.crc);
        out.put_i16(self.attributes.0);
        out.put_i32(self.last_offset_delta);
        out.put_i64(self.base_timestamp.0);
        out.put_i64(self.max_timestamp.0);
        out.put_i64(self.producer_id.0);
        out.put_i16(self.producer_epoch.0);
        out.put_i32(self.base_sequence);
        out.put_i32(self.record_count);
        bytes
    }
}
