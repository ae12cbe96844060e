//! The bytes of one append: a fixed header, then the record batch as it came.
//!
//! ```text
//! length u32 │ crc u32 │ position u64 │ durable u64 │ topic id 16 B │ partition u32 │ leader epoch i32 │ base offset i64 │ batch …
//!            └ CRC-32C ┴───────────────── over this and the batch's header ───────────────────────────────────────────────────────┘
//! ```
//!
//! Big-endian; `length` counts the whole frame. `durable` is how far the journal was on stable storage when the frame was
//! written: damage below it is no write that was cut off, but a disk that lost what it had.
//!
//! The batch's body is covered by the CRC in the batch's header, which was checked when the batch came in: so no byte is
//! summed twice on the way in, and a byte that changes in memory in between is found when the frame is read (decision 0003).

use bytes::{Buf, BufMut, Bytes};
use records::{
    Batch, BatchError, HEADER_LEN, Header, LeaderEpoch, Offset, Partition, Position, TopicId, TopicPartition,
};

/// Bytes of a frame before its batch.
pub const FRAME_HEADER_LEN: usize = 56;

/// Where the summed part of a frame begins.
const SUMMED_FROM: usize = 8;
/// What is written before the batch's body.
pub(crate) const HEAD_LEN: usize = FRAME_HEADER_LEN + HEADER_LEN;

/// Why bytes are not a frame.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FrameError {
    /// Nothing was written here: the preallocated rest of a segment.
    #[error("no frame was written here")]
    Empty,
    /// The bytes end before the frame does.
    #[error("the frame is cut off: {have} bytes of {want}")]
    Short {
        /// Bytes there are.
        have: usize,
        /// Bytes the frame says it has.
        want: usize,
    },
    /// The frame says it lies elsewhere.
    #[error("a frame of position {found} at position {expected}")]
    Position {
        /// Where it was read.
        expected: Position,
        /// What it says.
        found: Position,
    },
    /// The header's bytes are not those that were written.
    #[error("CRC {found:08x} where {expected:08x} was written")]
    Crc {
        /// As stored.
        expected: u32,
        /// As computed.
        found: u32,
    },
    /// The batch's bytes are not those that were written.
    #[error("the frame holds no record batch: {0}")]
    Batch(#[from] BatchError),
    /// The frame and its batch name different offsets, epochs or lengths.
    #[error("frame and batch disagree about base offset, leader epoch or length")]
    Disagree,
}

/// A frame as it was read.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) topic_partition: TopicPartition,
    pub(crate) batch: Batch,
    /// Everything below was durable before the frame was written.
    pub(crate) durable: Position,
    pub(crate) len: usize,
}

/// Header of the frame and header of the batch, ready to be written before the batch's body.
pub(crate) type Head = [u8; HEAD_LEN];

/// The bytes a batch takes up in a journal.
pub(crate) fn frame_len(batch: &Batch) -> usize {
    FRAME_HEADER_LEN + batch.len()
}

/// Writes what comes before the batch's body.
pub(crate) fn encode_head(
    position: Position,
    durable: Position,
    topic_partition: TopicPartition,
    batch: &Batch,
) -> Head {
    let header = batch.header();
    let mut head = [0; HEAD_LEN];
    let mut out = &mut head[..];
    out.put_u32(u32::try_from(frame_len(batch)).expect("a batch is at most 2 GiB"));
    out.put_u32(0);
    out.put_u64(position.0);
    out.put_u64(durable.0);
    out.put_slice(topic_partition.topic.0.as_bytes());
    out.put_i32(topic_partition.partition.0);
    out.put_i32(header.leader_epoch.0);
    out.put_i64(header.base_offset.0);
    out.put_slice(&batch.header_bytes());
    let crc = crc32c::crc32c(&head[SUMMED_FROM..]);
    head[4..8].copy_from_slice(&crc.to_be_bytes());
    head
}

/// What comes before a batch's body, as it was read.
#[derive(Debug)]
pub(crate) struct ReadHead {
    pub(crate) topic_partition: TopicPartition,
    pub(crate) header: Header,
    /// Everything below was durable before the frame was written.
    pub(crate) durable: Position,
    /// Bytes of the whole frame.
    pub(crate) len: usize,
}

/// Reads what comes before a batch's body, at the start of `bytes`, of a frame that lies at `position` in its journal.
/// Checks all that was promised of it when it was written.
pub(crate) fn decode_head(bytes: &[u8], position: Position) -> Result<ReadHead, FrameError> {
    if bytes.len() < FRAME_HEADER_LEN {
        return if bytes.iter().all(|byte| *byte == 0) {
            Err(FrameError::Empty)
        } else {
            Err(FrameError::Short { have: bytes.len(), want: FRAME_HEADER_LEN })
        };
    }
    let mut head = &bytes[..FRAME_HEADER_LEN];
    let len = head.get_u32() as usize;
    let expected = head.get_u32();
    if len == 0 {
        return Err(FrameError::Empty);
    }
    if len < HEAD_LEN || bytes.len() < HEAD_LEN {
        return Err(FrameError::Short { have: bytes.len(), want: len.max(HEAD_LEN) });
    }
    let found_position = Position(head.get_u64());
    if found_position != position {
        return Err(FrameError::Position { expected: position, found: found_position });
    }
    let found = crc32c::crc32c(&bytes[SUMMED_FROM..HEAD_LEN]);
    if found != expected {
        return Err(FrameError::Crc { expected, found });
    }
    let durable = Position(head.get_u64());
    let mut topic = [0; 16];
    head.copy_to_slice(&mut topic);
    let topic_partition =
        TopicPartition { topic: TopicId(uuid::Uuid::from_bytes(topic)), partition: Partition(head.get_i32()) };
    let epoch = LeaderEpoch(head.get_i32());
    let base_offset = Offset(head.get_i64());
    let header = Header::decode(&bytes[FRAME_HEADER_LEN..HEAD_LEN])?;
    if header.base_offset != base_offset || header.leader_epoch != epoch || FRAME_HEADER_LEN + header.len() != len {
        return Err(FrameError::Disagree);
    }
    Ok(ReadHead { topic_partition, header, durable, len })
}

/// Reads the frame at the start of `bytes`, which lie at `position` in their journal. Checks everything that was
/// promised when it was written; the batch is a slice of `bytes`.
pub(crate) fn decode(bytes: &Bytes, position: Position) -> Result<Frame, FrameError> {
    let ReadHead { topic_partition, durable, len, .. } = decode_head(bytes, position)?;
    if len > bytes.len() {
        return Err(FrameError::Short { have: bytes.len(), want: len });
    }
    let batch = Batch::decode(bytes.slice(FRAME_HEADER_LEN..len))?;
    batch.check_crc()?;
    Ok(Frame { topic_partition, batch, durable, len })
}

/// Looks for frames behind damage, and tells the furthest that one of them knew the journal to be durable. `bytes` lie at
/// `position`.
pub(crate) fn durable_behind(bytes: &Bytes, position: Position) -> Option<Position> {
    let mut durable = None;
    let mut at = 0;
    // A frame says where it lies, so that hardly any other place is looked at twice.
    while let Some(head) = bytes.get(at..).filter(|rest| rest.len() >= FRAME_HEADER_LEN) {
        let here = position.after(at as u64);
        let frame = (head[8..16] == here.0.to_be_bytes()).then(|| decode(&bytes.slice(at..), here).ok()).flatten();
        at += frame.as_ref().map_or(1, |frame| frame.len);
        durable = durable.max(frame.map(|frame| frame.durable));
    }
    durable
}
