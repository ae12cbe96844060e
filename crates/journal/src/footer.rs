//! The end of a sealed segment: the heads of all its frames once more, so that a start need not read the rest.
//!
//! ```text
//! frames … │ mark 8 B │ heads, 117 B each … │ their bytes u64 │ CRC-32C u32 over mark, heads and their bytes
//! ```
//!
//! What it says of batches that the disk lost since is found out when they are read: each head holds its batch's CRC. A
//! segment with very many small batches has none, and is read whole.

use bytes::Buf;
use records::{Header, Position, TopicPartition};

use crate::frame::{self, HEAD_LEN, Head};

/// What no frame begins with: its first bytes would be a length of two thousand million.
pub(crate) const MARK: &[u8; 8] = b"weirseal";
/// Bytes behind the heads.
const TRAILER_LEN: usize = 12;
/// The most that is kept of one segment, in bytes.
const HEADS_MAX: usize = 4 << 20;

/// Gathers the heads of a segment that is being written.
#[derive(Debug)]
pub(crate) struct Footer {
    bytes: Vec<u8>,
    is_full: bool,
}

impl Footer {
    pub(crate) fn new() -> Self {
        Self { bytes: MARK.to_vec(), is_full: false }
    }

    pub(crate) fn push(&mut self, head: &Head) {
        if self.bytes.len() + HEAD_LEN > MARK.len() + HEADS_MAX {
            (self.bytes, self.is_full) = (Vec::new(), true);
        }
        if !self.is_full {
            self.bytes.extend_from_slice(head);
        }
    }

    /// What is written behind the last frame, if anything.
    pub(crate) fn finish(mut self) -> Option<Vec<u8>> {
        if self.is_full {
            return None;
        }
        let heads = (self.bytes.len() - MARK.len()) as u64;
        self.bytes.extend_from_slice(&heads.to_be_bytes());
        let crc = crc32c::crc32c(&self.bytes);
        self.bytes.extend_from_slice(&crc.to_be_bytes());
        Some(self.bytes)
    }
}

/// A frame as its head tells it.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) topic_partition: TopicPartition,
    pub(crate) position: Position,
    pub(crate) header: Header,
}

/// Reads the footer of a file of `size` bytes by way of `read`, which fills a buffer from a place in the file. `None` when
/// there is none, or not whole, or not of frames that fill the file from `frames_at` on, where `first` is.
pub(crate) fn read(
    size: u64,
    frames_at: u64,
    first: Position,
    mut read: impl FnMut(&mut [u8], u64) -> std::io::Result<()>,
) -> Option<Vec<Known>> {
    let mut trailer = [0; TRAILER_LEN];
    read(&mut trailer, size.checked_sub(TRAILER_LEN as u64)?).ok()?;
    let heads = usize::try_from((&trailer[..]).get_u64()).ok().filter(|heads| *heads <= HEADS_MAX)?;
    let footer_at = size.checked_sub((MARK.len() + heads + TRAILER_LEN) as u64).filter(|at| *at >= frames_at)?;
    let mut bytes = vec![0; MARK.len() + heads + TRAILER_LEN];
    read(&mut bytes, footer_at).ok()?;
    let (summed, crc) = bytes.split_last_chunk::<4>()?;
    if !summed.starts_with(MARK) || crc32c::crc32c(summed) != u32::from_be_bytes(*crc) {
        return None;
    }
    let mut position = first;
    let mut known = Vec::with_capacity(heads / HEAD_LEN);
    for head in summed[MARK.len()..MARK.len() + heads].chunks(HEAD_LEN) {
        let frame = frame::decode_head(head, position).ok()?;
        known.push(Known { topic_partition: frame.topic_partition, position, header: frame.header });
        position = position.after(frame.len as u64);
    }
    (position.0 - first.0 == footer_at - frames_at).then_some(known)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use records::{Builder, Codec, Headers, LeaderEpoch, Offset, Timestamp};

    use super::*;
    use crate::frame::{encode_head, frame_len};

    /// A file of a few frames and their footer, and where the frames begin in it.
    fn file() -> (Vec<u8>, u64) {
        let (mut bytes, mut footer, mut position) = (vec![7; 64], Footer::new(), Position(1000));
        for offset in 0..5 {
            let mut builder = Builder::new(Codec::None);
            builder.push(Timestamp(offset), None, Some(&[1; 100]), &Headers::NONE).unwrap();
            let mut batch = builder.build();
            batch.assign(Offset(offset), LeaderEpoch(0));
            let head = encode_head(position, Position(0), TopicPartition::default(), &batch);
            footer.push(&head);
            bytes.extend_from_slice(&head);
            bytes.extend_from_slice(batch.body());
            position = position.after(frame_len(&batch) as u64);
        }
        bytes.extend(footer.finish().unwrap());
        (bytes, 64)
    }

    fn known(bytes: &[u8], frames_at: u64, first: u64) -> Option<Vec<Known>> {
        read(bytes.len() as u64, frames_at, Position(first), |buffer, at| {
            let at = usize::try_from(at).unwrap();
            let found = bytes.get(at..at + buffer.len()).ok_or(std::io::ErrorKind::UnexpectedEof)?;
            buffer.copy_from_slice(found);
            Ok(())
        })
    }

    #[test]
    fn a_footer_tells_every_frame() {
        let (bytes, frames_at) = file();
        let known = known(&bytes, frames_at, 1000).unwrap();
        assert_eq!(known.iter().map(|one| one.header.base_offset.0).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        for one in &known {
            let at = 64 + usize::try_from(one.position.0 - 1000).unwrap();
            let frame = frame::decode(&Bytes::copy_from_slice(&bytes[at..]), one.position).unwrap();
            assert_eq!((frame.topic_partition, frame.batch.header()), (one.topic_partition, &one.header));
        }
    }

    #[test]
    fn a_footer_that_is_not_whole_or_of_other_frames_is_none() {
        let (bytes, frames_at) = file();
        let footer_at = bytes.len() - (MARK.len() + 5 * HEAD_LEN + TRAILER_LEN);
        for at in footer_at..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(known(&flipped, frames_at, 1000).is_none(), "byte {at}");
            assert!(known(&bytes[..at], frames_at, 1000).is_none(), "cut at {at}");
        }
        assert!(known(&bytes, frames_at, 999).is_none(), "frames of another place");
        assert!(known(&bytes, frames_at + 1, 1000).is_none(), "frames that leave something out");
        assert!(known(&[0; 4096], frames_at, 1000).is_none(), "a file that was never written");
        assert!(known(&[], frames_at, 1000).is_none());
    }

    #[test]
    fn a_segment_of_very_many_batches_has_none() {
        let mut footer = Footer::new();
        for _ in 0..HEADS_MAX / HEAD_LEN {
            footer.push(&[1; HEAD_LEN]);
        }
        assert!(!footer.is_full);
        footer.push(&[1; HEAD_LEN]);
        assert_eq!(footer.finish(), None);
    }
}
