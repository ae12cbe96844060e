//! A record batch: its parsed header, and the bytes behind it as they came. Everything here costs the same however many
//! records there are, but for the CRC, which reads the bytes once.
//!
//! The stored CRC covers the batch from byte [`UNSUMMED_LEN`] (21) on: 40 bytes of header, then the body.

use bytes::{Bytes, BytesMut};

use crate::header::{HEADER_LEN, Header, TimestampType, UNSUMMED_LEN};
use crate::{Codec, CodecError, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Records, Timestamp};

/// What is wrong with a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Bytes are missing. More may come, when this was read from a stream; else the batch is damaged.
    #[error("the record batch is cut off: {have} bytes of {want}")]
    Truncated {
        /// Bytes that are there.
        have: usize,
        /// Bytes that are needed.
        want: usize,
    },
    /// More bytes than the batch's length says.
    #[error("{0} bytes follow the record batch")]
    Trailing(usize),
    /// Not format v2.
    #[error("record batch of format {0}: only format 2 is served")]
    Magic(i8),
    /// A length that no batch can have.
    #[error("the record batch says that it is {0} bytes long")]
    Length(i32),
    /// The bytes are not those that the CRC was made of.
    #[error("the record batch has CRC {stored:08x}, its bytes give {computed:08x}")]
    Crc {
        /// The CRC in the header.
        stored: u32,
        /// The CRC of the bytes.
        computed: u32,
    },
    /// Larger than allowed.
    #[error("the record batch has {len} bytes, at most {bytes_max} are allowed")]
    TooLarge {
        /// Bytes of the batch.
        len: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// It breaks a rule that a client's batch must keep (Kafka: INVALID_RECORD).
    #[error("the record batch is not valid: {0}")]
    Invalid(&'static str),
    /// The records do not parse.
    #[error("the records are damaged: {0}")]
    Damaged(&'static str),
    /// No codec has this number.
    #[error("the record batch is compressed with the unknown codec {0}")]
    UnknownCodec(i16),
    /// The records do not inflate.
    #[error(transparent)]
    Codec(#[from] CodecError),
}

/// A record batch (v2). Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Batch {
    header: Header,
    body: Bytes,
}

/// The fewest bytes a record takes: length, attributes, two deltas, two null lengths, header count.
const RECORD_LEN_MIN: u64 = 7;

impl Batch {
    /// Reads exactly one whole batch. The body stays a slice of `bytes`. The CRC is not checked yet.
    ///
    /// # Errors
    /// [`BatchError`] when the bytes are not one batch of format v2.
    pub fn decode(bytes: Bytes) -> Result<Self, BatchError> {
        let header = Header::decode(&bytes)?;
        let (have, want) = (bytes.len(), header.len());
        if have < want {
            return Err(BatchError::Truncated { have, want });
        }
        if have > want {
            return Err(BatchError::Trailing(have - want));
        }
        Ok(Self { header, body: bytes.slice(HEADER_LEN..) })
    }

    /// Takes the next whole batch off a run of batches. `None` when the run is empty or only a part of a batch is left,
    /// as the end of a fetched run may be; `bytes` then stays as it is.
    ///
    /// # Errors
    /// [`BatchError`] when the next bytes are no batch of format v2.
    pub fn split_first(bytes: &mut Bytes) -> Result<Option<Self>, BatchError> {
        let header = match Header::decode(bytes) {
            Ok(header) => header,
            Err(BatchError::Truncated { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        if bytes.len() < header.len() {
            return Ok(None);
        }
        let body = bytes.split_to(header.len()).slice(HEADER_LEN..);
        Ok(Some(Self { header, body }))
    }

    /// A batch of a header and its body; length and CRC are set to fit.
    ///
    /// # Panics
    /// When the body is larger than 2 GiB: who builds a batch bounds it.
    pub(crate) fn seal(mut header: Header, body: Bytes) -> Self {
        header.batch_length =
            i32::try_from(body.len() + HEADER_LEN - crate::header::LENGTH_END).expect("a built batch is below 2 GiB");
        let mut batch = Self { header, body };
        batch.header.crc = batch.computed_crc();
        batch
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The bytes after the header: the records, compressed or not.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Bytes of header and body.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a batch always has its header")]
    pub fn len(&self) -> usize {
        HEADER_LEN + self.body.len()
    }

    /// The offset of the first record.
    #[must_use]
    pub fn base_offset(&self) -> Offset {
        self.header.base_offset
    }

    /// The offset of the last record.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        self.header.last_offset()
    }

    /// The offset after the last record.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.header.last_offset().after(1)
    }

    /// Compares the stored CRC with the bytes.
    ///
    /// # Errors
    /// [`BatchError::Crc`] when they differ.
    pub fn check_crc(&self) -> Result<(), BatchError> {
        let (stored, computed) = (self.header.crc, self.computed_crc());
        if stored == computed { Ok(()) } else { Err(BatchError::Crc { stored, computed }) }
    }

    /// Checks what a broker must know of a client's batch before it appends it, as far as header and CRC tell: the rules
    /// of Kafka's produce path that need no look at the records. `bytes_max` limits the whole batch.
    ///
    /// # Errors
    /// The first rule that is broken: [`BatchError::TooLarge`], [`BatchError::UnknownCodec`], [`BatchError::Invalid`] or
    /// [`BatchError::Crc`].
    pub fn check_produced(&self, bytes_max: usize) -> Result<(), BatchError> {
        let header = &self.header;
        if self.len() > bytes_max {
            return Err(BatchError::TooLarge { len: self.len(), bytes_max });
        }
        self.check_crc()?;
        let codec = header.attributes.codec()?;
        let invalid = |what| Err(BatchError::Invalid(what));
        if header.base_offset.0 != 0 {
            return invalid("a producer's base offset must be 0");
        }
        if header.record_count < 1 || i64::from(header.record_count) != i64::from(header.last_offset_delta) + 1 {
            return invalid("the record count must be the last offset delta + 1, and at least 1");
        }
        if header.attributes.is_control() {
            return invalid("a client may not write control records");
        }
        if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
            return invalid("only a broker may set the timestamp type to log append time");
        }
        if header.producer_id == ProducerId::NONE {
            if header.attributes.is_transactional() {
                return invalid("a transactional batch needs a producer id");
            }
        } else if header.producer_id.0 < 0 || header.producer_epoch.0 < 0 || header.base_sequence < 0 {
            return invalid("a producer id needs an epoch and a sequence");
        }
        let plausible = match codec {
            Codec::None => u64::from(header.record_count.unsigned_abs()) * RECORD_LEN_MIN <= self.body.len() as u64,
            _ => !self.body.is_empty(),
        };
        if plausible { Ok(()) } else { invalid("its bytes are too few for its record count") }
    }

    /// Gives the batch its place in a partition. Both fields lie outside the CRC.
    ///
    /// # Panics
    /// When the batch would end beyond offset 2^63, which no partition lives to see.
    pub fn assign(&mut self, base_offset: Offset, leader_epoch: LeaderEpoch) {
        assert!(base_offset.0 >= 0, "an assigned offset is not negative");
        let _ = base_offset.after(i64::from(self.header.last_offset_delta) + 1);
        self.header.base_offset = base_offset;
        self.header.leader_epoch = leader_epoch;
    }

    /// Sets the time of the append as the time of every record. Lies within the CRC, which is computed anew.
    pub fn stamp_log_append_time(&mut self, now: Timestamp) {
        self.header.attributes = self.header.attributes.with_timestamp_type(TimestampType::LogAppendTime);
        self.header.max_timestamp = now;
        self.header.crc = self.computed_crc();
    }

    /// Makes the batch another producer's, or gives it another place in its producer's sequence. Lies within the CRC, which
    /// is computed anew.
    pub fn stamp_producer(&mut self, id: ProducerId, epoch: ProducerEpoch, base_sequence: i32) {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self.header.crc = self.computed_crc();
    }

    /// The header as bytes.
    #[must_use]
    pub fn header_bytes(&self) -> [u8; HEADER_LEN] {
        self.header.encode()
    }

    /// The batch for a vectored write: the header, and the shared body.
    #[must_use]
    pub fn to_segments(&self) -> [Bytes; 2] {
        [Bytes::copy_from_slice(&self.header_bytes()), self.body.clone()]
    }

    /// The batch in one piece. Copies the body.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        let mut bytes = BytesMut::with_capacity(self.len());
        bytes.extend_from_slice(&self.header_bytes());
        bytes.extend_from_slice(&self.body);
        bytes.freeze()
    }

    /// Walks the records, in the order in which they lie. Compressed ones are inflated first, to at most `bytes_max`
    /// bytes, and never more than that much memory; uncompressed ones are slices of the body.
    ///
    /// # Errors
    /// [`BatchError::UnknownCodec`], or [`BatchError::Codec`] when the body does not inflate within `bytes_max`. The
    /// iterator itself gives an error, and then ends, where records do not parse.
    pub fn records(&self, bytes_max: usize) -> Result<Records, BatchError> {
        let body = match self.header.attributes.codec()? {
            Codec::None => self.body.clone(),
            codec => codec.inflate(&self.body, bytes_max)?,
        };
        Ok(Records::new(&self.header, body))
    }

    fn computed_crc(&self) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&self.header_bytes()[UNSUMMED_LEN..]), &self.body)
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("header", &self.header).field("body_len", &self.body.len()).finish()
    }
}
