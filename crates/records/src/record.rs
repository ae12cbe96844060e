//! The records of a batch, one after another: `length · attributes · timestamp delta · offset delta · key · value ·
//! headers`, all numbers as varints. Keys, values and headers are slices of the batch's (inflated) bytes.

use bytes::Bytes;

use crate::header::{Header, TimestampType};
use crate::headers::{self, Headers};
use crate::{BatchError, Offset, Timestamp, varint};

/// One record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its place in the partition.
    pub offset: Offset,
    /// When it was made or appended; −1 when its producer gave no time.
    pub timestamp: Timestamp,
    /// The key.
    pub key: Option<Bytes>,
    /// The value; none is a tombstone in a compacted topic.
    pub value: Option<Bytes>,
    /// The headers.
    pub headers: Headers,
}

/// What a control record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ControlType {
    /// The producer's transaction did not happen.
    Abort,
    /// The producer's transaction happened.
    Commit,
    /// Another kind, which a client skips.
    Other(i16),
}

impl ControlType {
    /// Reads the kind from a control record's key: version (2 bytes), kind (2 bytes).
    #[must_use]
    pub fn of_key(key: &[u8]) -> Option<Self> {
        let kind = i16::from_be_bytes([*key.get(2)?, *key.get(3)?]);
        Some(match kind {
            0 => Self::Abort,
            1 => Self::Commit,
            other => Self::Other(other),
        })
    }

    pub(crate) fn number(self) -> i16 {
        match self {
            Self::Abort => 0,
            Self::Commit => 1,
            Self::Other(number) => number,
        }
    }
}

/// Iterates over the records of a batch. After an error it ends.
#[derive(Debug, Clone)]
pub struct Records {
    bytes: Bytes,
    at: usize,
    left: i32,
    base_offset: Offset,
    last_delta: i32,
    previous_delta: i32,
    base_timestamp: Timestamp,
    append_time: Option<Timestamp>,
}

impl Records {
    pub(crate) fn new(header: &Header, bytes: Bytes) -> Self {
        let append_time =
            (header.attributes.timestamp_type() == TimestampType::LogAppendTime).then_some(header.max_timestamp);
        Self {
            bytes,
            at: 0,
            left: header.record_count,
            base_offset: header.base_offset,
            last_delta: header.last_offset_delta,
            previous_delta: -1,
            base_timestamp: header.base_timestamp,
            append_time,
        }
    }

    fn read(&mut self) -> Result<Record, &'static str> {
        let all = self.bytes.clone();
        let mut input = &all[self.at..];
        let len = varint::get_i32(&mut input).ok_or("a record's length")?;
        let len = usize::try_from(len).map_err(|_| "a record's length")?;
        if len > input.len() {
            return Err("a record is cut off");
        }
        let start = all.len() - input.len();
        self.at = start + len;
        let mut fields = Fields { all: &all, rest: &input[..len] };
        let _attributes = fields.byte().ok_or("a record's attributes")?;
        let timestamp_delta = varint::get(&mut fields.rest).ok_or("a record's timestamp")?;
        let delta = varint::get_i32(&mut fields.rest).ok_or("a record's offset")?;
        if delta <= self.previous_delta || delta > self.last_delta {
            return Err("the records' offsets do not grow, or leave the batch");
        }
        self.previous_delta = delta;
        let timestamp = match self.append_time {
            Some(time) => time,
            None => Timestamp(self.base_timestamp.0.checked_add(timestamp_delta).ok_or("a record's timestamp")?),
        };
        let key = fields.bytes().ok_or("a record's key")?;
        let value = fields.bytes().ok_or("a record's value")?;
        let headers = Headers::read(all.slice_ref(fields.rest))?;
        Ok(Record { offset: self.base_offset.after(i64::from(delta)), timestamp, key, value, headers })
    }
}

impl Iterator for Records {
    type Item = Result<Record, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left <= 0 {
            let trailing = self.left == 0 && self.at < self.bytes.len();
            self.left = -1;
            return trailing.then_some(Err(BatchError::Damaged("bytes follow the last record")));
        }
        self.left -= 1;
        let record = self.read().map_err(BatchError::Damaged);
        if record.is_err() {
            self.left = -1;
        }
        Some(record)
    }
}

/// What is left of one record.
struct Fields<'a> {
    all: &'a Bytes,
    rest: &'a [u8],
}

impl Fields<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    /// Length and bytes; length −1 is null. The outer `None` is damage.
    #[expect(clippy::option_option, reason = "damage and null are two things")]
    fn bytes(&mut self) -> Option<Option<Bytes>> {
        Some(headers::field(&mut self.rest)?.map(|field| self.all.slice_ref(field)))
    }
}
