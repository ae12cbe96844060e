//! One client's connection: bytes both ways, requests untouched, answers that name addresses rewritten.
//!
//! Answers come in the order of the requests, so a queue of what was asked says what each answer is. Either side may
//! end its direction first; the other then goes on to its own end.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use parking_lot::Mutex;
use quinn::{RecvStream, SendStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Semaphore;

use super::addresses::Proxy;
use super::rewrite::{Answer, names_addresses};
use super::scan::{Request, Scanner};
use super::upstream::Upstream;

/// How much is read at once, in each direction.
const BUFFER_BYTES: usize = 64 * 1024;
/// How many requests of a connection may wait for their answers; the client is not read beyond that.
const REQUESTS_MAX: usize = 4096;
/// The largest answer that is kept whole to be rewritten.
const ANSWER_BYTES_MAX: usize = 128 << 20;
/// How long a client may go on sending after the broker has ended its direction.
const END_TIMEOUT: Duration = Duration::from_secs(30);
/// The length and the correlation id.
const PREFIX: usize = 8;

/// Carries one connection to its end.
pub(super) async fn carry(client: TcpStream, upstream: &Upstream, proxy: &Arc<Proxy>) {
    let peer = client.peer_addr().ok();
    if let Err(error) = try_carry(client, upstream, proxy).await {
        // A connection that ends in the middle is the business of its client, which sees it; it is no failure of ours.
        tracing::debug!(?peer, error = %format_args!("{error:#}"), "a connection ended early");
    }
}

async fn try_carry(client: TcpStream, upstream: &Upstream, proxy: &Arc<Proxy>) -> anyhow::Result<()> {
    client.set_nodelay(true)?;
    let (mut send, mut recv) = match upstream.open().await {
        Ok(stream) => stream,
        Err(error) => {
            tracing::warn!(error = %format_args!("{error:#}"), "a client was turned away");
            return Err(error);
        }
    };
    let seen = client.local_addr()?.ip();
    let (read, write) = client.into_split();
    let asked = Asked::new();
    let ended = {
        let mut requests = pin!(requests(read, &mut send, &asked));
        let mut answers = pin!(answers(&mut recv, write, &asked, proxy, seen));
        tokio::select! {
            ended = requests.as_mut() => match ended {
                Ok(()) => answers.await,
                error => error,
            },
            ended = answers.as_mut() => match ended {
                Ok(()) => tokio::time::timeout(END_TIMEOUT, requests).await.context("the client does not end").flatten(),
                error => error,
            },
        }
    };
    if ended.is_err() {
        // The broker sees an abrupt end, as it would have from the client itself. Streams already at their end do not mind.
        let _ = send.reset(0_u32.into());
        let _ = recv.stop(0_u32.into());
    }
    ended
}

/// What was asked and not answered yet, in order.
struct Asked {
    queue: Mutex<VecDeque<Request>>,
    places: Semaphore,
}

impl Asked {
    fn new() -> Asked {
        Asked { queue: Mutex::default(), places: Semaphore::new(REQUESTS_MAX) }
    }

    async fn push(&self, request: Request) -> anyhow::Result<()> {
        self.places.acquire().await?.forget();
        self.queue.lock().push_back(request);
        Ok(())
    }

    fn pop(&self) -> Option<Request> {
        let request = self.queue.lock().pop_front()?;
        self.places.add_permits(1);
        Some(request)
    }
}

/// From the client to the broker.
async fn requests(mut read: OwnedReadHalf, send: &mut SendStream, asked: &Asked) -> anyhow::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut scanner = Scanner::default();
    let mut found = Vec::new();
    loop {
        let length = read.read(&mut buffer).await.context("the client")?;
        if length == 0 {
            send.finish()?;
            return Ok(());
        }
        scanner.feed(&buffer[..length], &mut found)?;
        // Whoever is in the queue may be answered, so it is there before the request leaves.
        for request in found.drain(..) {
            asked.push(request).await?;
        }
        send.write_all(&buffer[..length]).await.context("the broker")?;
    }
}

/// From the broker to the client.
async fn answers(
    recv: &mut RecvStream,
    mut write: OwnedWriteHalf,
    asked: &Asked,
    proxy: &Arc<Proxy>,
    seen: IpAddr,
) -> anyhow::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let mut prefix = [0; PREFIX];
        if !read_prefix(recv, &mut prefix).await? {
            write.shutdown().await.context("the client")?;
            return Ok(());
        }
        let [l0, l1, l2, l3, c0, c1, c2, c3] = prefix;
        let length = usize::try_from(i32::from_be_bytes([l0, l1, l2, l3])).unwrap_or_default();
        let correlation_id = i32::from_be_bytes([c0, c1, c2, c3]);
        ensure!(length >= 4, "the broker sends a frame that is no answer");
        let Some(request) = asked.pop() else { bail!("the broker answers what was not asked") };
        ensure!(request.correlation_id == correlation_id, "the broker answers out of order");
        let mut left = length - 4;
        if let Some(key) = names_addresses(request.key, request.version) {
            ensure!(left <= ANSWER_BYTES_MAX, "an answer of {left} bytes is too large to be rewritten");
            let frame = read_frame(recv, &prefix[4..], left).await?;
            for segment in localised(key, request.version, frame, proxy, seen).await {
                write.write_all(&segment).await.context("the client")?;
            }
            continue;
        }
        write.write_all(&prefix).await.context("the client")?;
        while left > 0 {
            let part = left.min(BUFFER_BYTES);
            let got = recv
                .read(&mut buffer[..part])
                .await
                .context("the broker")?
                .context("the broker ended an answer early")?;
            write.write_all(&buffer[..got]).await.context("the client")?;
            left -= got;
        }
    }
}

/// Fills the prefix; false when the broker has ended its direction between two answers.
async fn read_prefix(recv: &mut RecvStream, prefix: &mut [u8; PREFIX]) -> anyhow::Result<bool> {
    let mut have = 0;
    while have < PREFIX {
        match recv.read(&mut prefix[have..]).await.context("the broker")? {
            Some(got) => have += got,
            None if have == 0 => return Ok(false),
            None => bail!("the broker ended an answer early"),
        }
    }
    Ok(true)
}

/// The whole frame without its length. Memory grows with what arrives, not with what was announced.
async fn read_frame(recv: &mut RecvStream, begin: &[u8], left: usize) -> anyhow::Result<Bytes> {
    let mut frame = Vec::with_capacity(begin.len() + left.min(BUFFER_BYTES));
    frame.extend_from_slice(begin);
    let mut rest = AsyncReadExt::take(recv, left as u64);
    rest.read_to_end(&mut frame).await.context("the broker")?;
    ensure!(frame.len() == begin.len() + left, "the broker ended an answer early");
    Ok(frame.into())
}

/// The answer with our addresses, as segments with the length in front; as it was where it cannot be read.
async fn localised(key: wire::ApiKey, version: i16, frame: Bytes, proxy: &Arc<Proxy>, seen: IpAddr) -> Vec<Bytes> {
    let unchanged = |frame: Bytes| {
        // A frame that was read had a length that fits.
        let length = i32::try_from(frame.len()).unwrap_or(i32::MAX);
        vec![Bytes::copy_from_slice(&length.to_be_bytes()), frame]
    };
    let (correlation_id, mut answer) = match Answer::decode(key, version, frame.clone()) {
        Ok(decoded) => decoded,
        Err(error) => {
            tracing::warn!(api = key.name(), version, %error, "an answer passes with the brokers' own addresses");
            return unchanged(frame);
        }
    };
    if answer.endpoints().iter().all(|endpoint| endpoint.get().is_none()) {
        return unchanged(frame);
    }
    proxy.localise(&mut answer, seen).await;
    match answer.encode(version, correlation_id) {
        Ok(rope) => rope.into_segments(),
        Err(error) => {
            tracing::warn!(api = key.name(), version, %error, "an answer passes with the brokers' own addresses");
            unchanged(frame)
        }
    }
}
