//! Cuts a byte stream into requests: four bytes of length, then so many bytes.
//!
//! Small requests are slices of one shared read buffer, so they are not copied; its size follows the traffic (4 to
//! 64 KiB). A larger request gets one allocation of its own, which grows with the bytes that have come, not with the
//! length that was announced: announcing much costs the sender as much as sending it. It is
//! counted in the broker's budget as it comes.

use std::{io, time::Duration};

use bytes::{Buf as _, Bytes, BytesMut};
use prometheus_client::metrics::counter::Counter;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    sync::OwnedSemaphorePermit,
    time::{Instant, timeout},
};

use crate::requests::Requests;

/// The smallest request header: API key, version, correlation id.
const FRAME_BYTES_MIN: usize = 8;
const PREFIX_LEN: usize = 4;
const READ_BYTES_MIN: usize = 4 << 10;
/// The largest read, and the largest frame that is a slice of the shared buffer.
pub(crate) const READ_BYTES_MAX: usize = 64 << 10;
/// A large frame is given at least so much room at once, and as much again as it has already filled.
const LARGE_STEP: usize = 256 << 10;
/// How fast a large frame comes at least, where memory is short: so many bytes a second.
const LARGE_BYTES_PER_S: u64 = 1 << 20;
/// How often a large frame that does not come is looked at.
const LARGE_LOOK: Duration = Duration::from_secs(1);

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
    /// A large frame did not go on while memory is short.
    NoRoom,
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
    patience: Patience,
    budget: Requests,
    received: Counter,
}

/// How long is waited for bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For any.
    pub(crate) idle: Duration,
    /// For the rest of a large frame, where memory is short.
    pub(crate) short: Duration,
}

/// A frame that is larger than the shared buffer, as far as it has come.
#[derive(Debug)]
struct Large {
    bytes: Vec<u8>,
    len: usize,
    /// The part of the budget that it holds.
    held: Option<OwnedSemaphorePermit>,
    /// When it must be whole, where memory is short.
    due: Instant,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub(crate) fn new(reader: R, bytes_max: usize, patience: Patience, budget: Requests, received: Counter) -> Self {
        let buffer = BytesMut::new();
        Self { reader, buffer, read_bytes: READ_BYTES_MIN, large: None, bytes_max, patience, budget, received }
    }

    /// The next frame, without its length, and what it holds of the budget already. Cancellation safe: what has been
    /// read stays for the next call.
    pub(crate) async fn next(&mut self) -> Result<(Bytes, Option<OwnedSemaphorePermit>), FrameError> {
        loop {
            if self.large.is_some() {
                return self.next_large().await;
            }
            if let Some(len) = self.announced()? {
                let whole = PREFIX_LEN + len;
                if self.buffer.len() >= whole {
                    self.buffer.advance(PREFIX_LEN);
                    return Ok((self.buffer.split_to(len).freeze(), None));
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
        let read = timeout(self.patience.idle, self.reader.read_buf(&mut self.buffer)).await;
        let count = self.received(read.map_err(|_| FrameError::Idle)?)?;
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
        let time = self.patience.short + Duration::from_secs(len as u64 / LARGE_BYTES_PER_S);
        let mut large = Large { bytes: Vec::new(), len, held: None, due: Instant::now() + time };
        large.bytes.extend_from_slice(&self.buffer);
        self.buffer = BytesMut::new();
        self.large = Some(large);
    }

    async fn next_large(&mut self) -> Result<(Bytes, Option<OwnedSemaphorePermit>), FrameError> {
        let mut silent_since = Instant::now();
        loop {
            let large = self.large.as_mut().expect("the caller saw a large frame");
            let missing = large.len - large.bytes.len();
            if missing == 0 {
                let large = self.large.take().expect("it was there a line ago");
                return Ok((Bytes::from(large.bytes), large.held));
            }
            if large.held.is_none() || large.bytes.len() == large.bytes.capacity() {
                let step = missing.min(large.bytes.len().max(LARGE_STEP));
                let wanted = if large.held.is_none() { large.bytes.len() + step } else { step };
                let until = Instant::now() + self.patience.short;
                let more = self.budget.more(large.held.as_ref(), wanted, until).await.ok_or(FrameError::NoRoom)?;
                match &mut large.held {
                    Some(held) => held.merge(more),
                    None => large.held = Some(more),
                }
                large.bytes.reserve_exact(step);
                silent_since = Instant::now();
            }
            if self.budget.is_short() && Instant::now() >= large.due {
                return Err(FrameError::NoRoom);
            }
            let mut rest = (&mut self.reader).take(missing as u64);
            match timeout(self.patience.idle.min(LARGE_LOOK), rest.read_buf(&mut large.bytes)).await {
                Err(_) if silent_since.elapsed() >= self.patience.idle => return Err(FrameError::Idle),
                Err(_) => {}
                Ok(read) => {
                    if self.received(read)? == 0 {
                        return Err(FrameError::Truncated);
                    }
                    silent_since = Instant::now();
                }
            }
        }
    }

    /// Counts what a read gave.
    fn received(&self, read: io::Result<usize>) -> Result<usize, FrameError> {
        match read {
            // A TLS client that leaves without saying goodbye: as good as closed.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            Err(error) => Err(FrameError::Io(error)),
            Ok(count) => {
                self.received.inc_by(count as u64);
                Ok(count)
            }
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
        frames_within(reader, &Requests::new(64 << 20))
    }

    fn frames_within<R: AsyncRead + Unpin>(reader: R, budget: &Requests) -> Frames<R> {
        let patience = Patience { idle: Duration::from_secs(60), short: Duration::from_secs(10) };
        Frames::new(reader, BYTES_MAX, patience, budget.clone(), Counter::default())
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
                assert_eq!(frames.next().await.unwrap().0, payload, "split at {split}");
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
                    let (frame, _) = frames.next().await.unwrap();
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
        let (frame, held) = frame.unwrap();
        assert!(frame == payload);
        assert!(held.is_some_and(|held| held.num_permits() >= BYTES_MAX >> 10), "all of it is counted");
    }

    #[tokio::test]
    async fn small_frames_share_the_buffer() {
        let bytes: Vec<u8> = [framed(&[1; 100]), framed(&[2; 100])].concat();
        let mut frames = frames(bytes.as_slice());
        let (a, b) = (frames.next().await.unwrap().0, frames.next().await.unwrap().0);
        assert_eq!(a.as_ptr() as usize + 104, b.as_ptr() as usize, "slices of one buffer, four bytes apart");
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_reported_and_nothing_is_lost_by_it() {
        let (mut near, far) = tokio::io::duplex(100);
        let mut frames = frames(far);
        near.write_all(&framed(&[5; 10])[..7]).await.unwrap();
        assert!(matches!(frames.next().await, Err(FrameError::Idle)));
        near.write_all(&framed(&[5; 10])[7..]).await.unwrap();
        assert_eq!(frames.next().await.unwrap().0, [5; 10].as_slice());
        near.write_all(&[0, 0]).await.unwrap();
        drop(near);
        assert!(matches!(frames.next().await, Err(FrameError::Truncated)));
    }

    #[tokio::test(start_paused = true)]
    async fn large_frames_that_do_not_go_on_are_ended_where_memory_is_short_and_only_there() {
        let budget = Requests::new(4 << 20);
        let begun = framed(&vec![7; BYTES_MAX])[..700_000].to_vec();
        let begin = |mut near: tokio::io::DuplexStream| {
            let begun = begun.clone();
            async move {
                near.write_all(&begun).await.unwrap();
                near
            }
        };
        let ((near_a, far_a), (near_b, far_b)) = (tokio::io::duplex(1 << 20), tokio::io::duplex(1 << 20));
        let (_near_a, _near_b) = (begin(near_a).await, begin(near_b).await);
        let mut alone = frames_within(far_a, &budget);
        assert!(timeout(Duration::from_secs(30), alone.next()).await.is_err(), "there is room: it may take its time");
        let mut other = frames_within(far_b, &budget);
        let ended = timeout(Duration::from_secs(30), async {
            tokio::select! { ended = alone.next() => ended, ended = other.next() => ended }
        });
        assert!(matches!(ended.await, Ok(Err(FrameError::NoRoom))));
    }
}
