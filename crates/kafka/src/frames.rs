//! Cuts a byte stream into requests: four bytes of length, then so many bytes.
//!
//! Small requests are slices of one shared read buffer, so they are not copied; its size follows the traffic (4 to
//! 64 KiB). A larger request gets one allocation of its own, which grows with the bytes that have come, not with the
//! length that was announced: announcing much costs the sender as much as sending it.

use std::{io, time::Duration};

use bytes::{Buf as _, Bytes, BytesMut};
use prometheus_client::metrics::counter::Counter;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    time::timeout,
};

/// The smallest request header: API key, version, correlation id.
const FRAME_BYTES_MIN: usize = 8;
const PREFIX_LEN: usize = 4;
const READ_BYTES_MIN: usize = 4 << 10;
/// The largest read, and the largest frame that is a slice of the shared buffer.
pub(crate) const READ_BYTES_MAX: usize = 64 << 10;
/// A large frame is given at least so much room at once, and as much again as it has already filled.
const LARGE_STEP: usize = 256 << 10;

/// Why there is no next frame.
#[derive(Debug)]
pub(crate) enum FrameError {
    /// The sender closed between two frames.
    Closed,
    /// The sender closed within a frame.
    Truncated,
    /// Nothing came for the idle time. Nothing is lost: ask again to wait on.
    Idle,
    /// A length that no request has.
    Length(String),
    /// The connection failed.
    Io(io::Error),
}

/// The frames of one byte stream.
#[derive(Debug)]
pub(crate) struct Frames<R> {
    reader: R,
    buffer: BytesMut,
    read_bytes: usize,
    large: Option<Large>,
    bytes_max: usize,
    idle: Duration,
    received: Counter,
}

/// A frame that is larger than the shared buffer, as far as it has come.
#[derive(Debug)]
struct Large {
    bytes: Vec<u8>,
    len: usize,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub(crate) fn new(reader: R, bytes_max: usize, idle: Duration, received: Counter) -> Self {
        let buffer = BytesMut::new();
        Self { reader, buffer, read_bytes: READ_BYTES_MIN, large: None, bytes_max, idle, received }
    }

    /// The next frame, without its length. Cancellation safe: what has been read stays for the next call.
    pub(crate) async fn next(&mut self) -> Result<Bytes, FrameError> {
        loop {
            if self.large.is_some() {
                return self.next_large().await;
            }
            if let Some(len) = self.announced()? {
                let whole = PREFIX_LEN + len;
                if self.buffer.len() >= whole {
                    self.buffer.advance(PREFIX_LEN);
                    return Ok(self.buffer.split_to(len).freeze());
                }
                if whole > READ_BYTES_MAX {
                    self.begin_large(len);
                    continue;
                }
                self.buffer.reserve(whole - self.buffer.len());
            }
            self.fill().await?;
        }
    }

    /// The announced length of the frame at the buffer's beginning, once it is there and found good.
    fn announced(&self) -> Result<Option<usize>, FrameError> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX_LEN>() else { return Ok(None) };
        match usize::try_from(i32::from_be_bytes(*prefix)) {
            Ok(len) if (FRAME_BYTES_MIN..=self.bytes_max).contains(&len) => Ok(Some(len)),
            _ => Err(FrameError::Length(self.explain(*prefix))),
        }
    }

    /// Says what is wrong with a length, and what the sender seems to speak instead.
    fn explain(&self, prefix: [u8; PREFIX_LEN]) -> String {
        let announced = i32::from_be_bytes(prefix);
        let guess = match &prefix {
            [0x16, 0x03, _, _] => "; it looks like a TLS handshake: the client wants TLS, this listener is plain",
            b"GET " | b"POST" | b"PUT " | b"HEAD" | b"OPTI" | b"PRI " => "; it looks like HTTP: this port speaks Kafka",
            _ => "",
        };
        format!("a request announced {announced} bytes, {FRAME_BYTES_MIN} to {} are allowed{guess}", self.bytes_max)
    }

    /// Reads once into the shared buffer.
    async fn fill(&mut self) -> Result<(), FrameError> {
        let spare = self.buffer.capacity() - self.buffer.len();
        if spare < self.read_bytes / 8 {
            self.buffer.reserve(self.read_bytes);
        }
        let offered = self.buffer.capacity() - self.buffer.len();
        let read = timeout(self.idle, self.reader.read_buf(&mut self.buffer)).await;
        let count = self.received(read)?;
        if count == 0 {
            return Err(if self.buffer.is_empty() { FrameError::Closed } else { FrameError::Truncated });
        }
        if count == offered {
            self.read_bytes = (self.read_bytes * 2).min(READ_BYTES_MAX);
        } else if count < self.read_bytes / 4 {
            self.read_bytes = (self.read_bytes / 2).max(READ_BYTES_MIN);
        }
        Ok(())
    }

    /// Moves what has come of a large frame into an allocation of its own.
    fn begin_large(&mut self, len: usize) {
        self.buffer.advance(PREFIX_LEN);
        let mut large = Large { bytes: Vec::new(), len };
        large.make_room();
        large.bytes.extend_from_slice(&self.buffer);
        self.buffer = BytesMut::new();
        self.large = Some(large);
    }

    async fn next_large(&mut self) -> Result<Bytes, FrameError> {
        loop {
            let large = self.large.as_mut().expect("the caller saw a large frame");
            let missing = large.len - large.bytes.len();
            if missing == 0 {
                let large = self.large.take().expect("it was there a line ago");
                return Ok(Bytes::from(large.bytes));
            }
            large.make_room();
            let mut rest = (&mut self.reader).take(missing as u64);
            let read = timeout(self.idle, rest.read_buf(&mut large.bytes)).await;
            if self.received(read)? == 0 {
                return Err(FrameError::Truncated);
            }
        }
    }

    /// Counts what a read gave.
    fn received(&self, read: Result<io::Result<usize>, tokio::time::error::Elapsed>) -> Result<usize, FrameError> {
        match read {
            Err(_) => Err(FrameError::Idle),
            // A TLS client that leaves without saying goodbye: as good as closed.
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            Ok(Err(error)) => Err(FrameError::Io(error)),
            Ok(Ok(count)) => {
                self.received.inc_by(count as u64);
                Ok(count)
            }
        }
    }
}

impl Large {
    fn make_room(&mut self) {
        if self.bytes.len() == self.bytes.capacity() {
            let missing = self.len - self.bytes.len();
            self.bytes.reserve_exact(missing.min(self.bytes.len().max(LARGE_STEP)));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    const BYTES_MAX: usize = 3 << 20;

    fn frames<R: AsyncRead + Unpin>(reader: R) -> Frames<R> {
        Frames::new(reader, BYTES_MAX, Duration::from_secs(60), Counter::default())
    }

    fn framed(payload: &[u8]) -> Vec<u8> {
        let mut bytes = i32::try_from(payload.len()).unwrap().to_be_bytes().to_vec();
        bytes.extend_from_slice(payload);
        bytes
    }

    #[tokio::test]
    async fn frames_are_whole_wherever_the_stream_is_split() {
        let payloads = [vec![1; 8], vec![2; 9], vec![3; 40]];
        let bytes = payloads.iter().flat_map(|payload| framed(payload)).collect::<Vec<_>>();
        for split in 0..=bytes.len() {
            let (head, tail) = bytes.split_at(split);
            let reader = tokio_test_io(&[head, tail]);
            let mut frames = frames(reader);
            for payload in &payloads {
                assert_eq!(frames.next().await.unwrap(), payload, "split at {split}");
            }
            assert!(matches!(frames.next().await, Err(FrameError::Closed)), "split at {split}");
        }
    }

    /// A reader that gives each part in one read.
    fn tokio_test_io(parts: &[&[u8]]) -> impl AsyncRead + Unpin + use<> {
        let parts: Vec<io::Result<Bytes>> =
            parts.iter().filter(|part| !part.is_empty()).map(|part| Ok(Bytes::copy_from_slice(part))).collect();
        tokio_util::io::StreamReader::new(futures::stream::iter(parts))
    }

    proptest! {
        #[test]
        fn frames_of_any_size_come_through_any_splitting(
            sizes in proptest::collection::vec(prop_oneof![8_usize..200, 60_000_usize..70_000, 200_000_usize..1_200_000], 1..6),
            cut in 1_usize..100_000,
        ) {
            let payloads: Vec<Vec<u8>> =
                sizes.iter().map(|size| (0..*size).map(|at| u8::try_from(at % 251).unwrap()).collect()).collect();
            let bytes: Vec<u8> = payloads.iter().flat_map(|payload| framed(payload)).collect();
            let parts: Vec<&[u8]> = bytes.chunks(cut).collect();
            let mut frames = frames(tokio_test_io(&parts));
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                for payload in &payloads {
                    let frame = frames.next().await.unwrap();
                    assert!(frame == payload, "a frame of {} bytes", payload.len());
                }
                assert!(matches!(frames.next().await, Err(FrameError::Closed)));
            });
            assert_eq!(frames.received.get(), bytes.len() as u64);
        }
    }

    #[tokio::test]
    async fn illegal_lengths_are_refused_at_once() {
        let largest = i32::try_from(BYTES_MAX).unwrap();
        for length in [-1, i32::MIN, 0, 7, largest + 1, i32::MAX] {
            let bytes = length.to_be_bytes();
            let mut frames = frames(bytes.as_slice());
            let Err(FrameError::Length(reason)) = frames.next().await else { panic!("{length} was accepted") };
            assert!(reason.contains(&length.to_string()), "{reason}");
            assert_eq!(frames.buffer.capacity(), READ_BYTES_MIN);
        }
        let Err(FrameError::Length(reason)) = frames(&[0x16, 3, 1, 2][..]).next().await else { panic!() };
        assert!(reason.contains("TLS"), "{reason}");
        let Err(FrameError::Length(reason)) = frames(&b"GET / HTTP/1.1\r\n"[..]).next().await else { panic!() };
        assert!(reason.contains("HTTP"), "{reason}");
    }

    #[tokio::test]
    async fn a_large_frame_takes_memory_as_it_comes_and_ends_exact() {
        let payload = vec![7; BYTES_MAX];
        let bytes = framed(&payload);
        let (mut near, far) = tokio::io::duplex(1 << 20);
        let mut frames = frames(far);
        near.write_all(&bytes[..12]).await.unwrap();
        assert!(futures::FutureExt::now_or_never(frames.next()).is_none());
        assert!(frames.large.as_ref().unwrap().bytes.capacity() <= LARGE_STEP + READ_BYTES_MIN);
        near.write_all(&bytes[12..600_000]).await.unwrap();
        assert!(futures::FutureExt::now_or_never(frames.next()).is_none());
        assert!(frames.large.as_ref().unwrap().bytes.capacity() <= 1_200_000);
        let (frame, written) = tokio::join!(frames.next(), near.write_all(&bytes[600_000..]));
        written.unwrap();
        assert!(frame.unwrap() == payload);
    }

    #[tokio::test]
    async fn small_frames_share_the_buffer() {
        let bytes: Vec<u8> = [framed(&[1; 100]), framed(&[2; 100])].concat();
        let mut frames = frames(bytes.as_slice());
        let (a, b) = (frames.next().await.unwrap(), frames.next().await.unwrap());
        assert_eq!(a.as_ptr() as usize + 104, b.as_ptr() as usize, "slices of one buffer, four bytes apart");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_reported_and_nothing_is_lost_by_it() {
        let (mut near, far) = tokio::io::duplex(100);
        let mut frames = frames(far);
        near.write_all(&framed(&[5; 10])[..7]).await.unwrap();
        assert!(matches!(frames.next().await, Err(FrameError::Idle)));
        near.write_all(&framed(&[5; 10])[7..]).await.unwrap();
        assert_eq!(frames.next().await.unwrap(), [5; 10].as_slice());
        near.write_all(&[0, 0]).await.unwrap();
        drop(near);
        assert!(matches!(frames.next().await, Err(FrameError::Truncated)));
    }
}
