//! A service for the transport's tests: each request says what is to happen to it, in its first four bytes; the next
//! four are its number.

use std::{collections::HashSet, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::watch,
    time::timeout,
};

use crate::{Context, Frame, Rope, Service, Step, Weight};

/// Far longer than anything here takes: when it is over, the test has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// Does what requests ask for.
#[derive(Debug)]
pub(crate) struct Script {
    released: watch::Sender<HashSet<u32>>,
    started: watch::Sender<u32>,
    dropped: watch::Sender<u32>,
}

/// Counts the end of a waiting answer, however it ends.
struct CountDrop(watch::Sender<u32>);

impl Drop for CountDrop {
    fn drop(&mut self) {
        self.0.send_modify(|dropped| *dropped += 1);
    }
}

impl Script {
    pub(crate) fn new() -> Arc<Self> {
        let (released, started, dropped) =
            (watch::Sender::default(), watch::Sender::default(), watch::Sender::default());
        Arc::new(Self { released, started, dropped })
    }

    /// Lets the `wait` request of this number be answered.
    pub(crate) fn release(&self, number: u32) {
        self.released.send_modify(|released| {
            released.insert(number);
        });
    }

    /// Waits until so many requests have been begun.
    pub(crate) async fn started(&self, count: u32) {
        within(self.started.subscribe().wait_for(|started| *started >= count)).await.unwrap();
    }

    /// Requests begun so far.
    pub(crate) fn started_now(&self) -> u32 {
        *self.started.borrow()
    }

    /// Waits until so many waiting answers are gone, answered or not.
    pub(crate) async fn dropped(&self, count: u32) {
        within(self.dropped.subscribe().wait_for(|dropped| *dropped >= count)).await.unwrap();
    }

    /// Waiting answers gone so far.
    pub(crate) fn dropped_now(&self) -> u32 {
        *self.dropped.borrow()
    }
}

impl Service for Script {
    /// As many bytes as it has; `much` counts as its number of bytes more. `long` keeps its thread until it is released.
    fn weight(&self, payload: &Bytes) -> Weight {
        let number = payload.strip_prefix(b"much").and_then(|rest| rest.first_chunk().copied());
        let bytes = payload.len() + number.map_or(0, |number| u32::from_be_bytes(number) as usize);
        Weight { bytes, is_long: payload.starts_with(b"long") }
    }

    async fn start(&self, context: &Arc<Context>, request: Frame) -> Step {
        self.started.send_modify(|started| *started += 1);
        let (command, rest) = request.payload.split_at(4);
        let number = u32::from_be_bytes(rest[..4].try_into().unwrap());
        match command {
            b"echo" | b"much" => Step::Reply(answer(&request.payload)),
            b"wait" => {
                let mut released = self.released.subscribe();
                let counted = CountDrop(self.dropped.clone());
                Step::Later(Box::pin(async move {
                    let _counted = counted;
                    released.wait_for(|released| released.contains(&number)).await.unwrap();
                    Some(answer(&request.payload).into())
                }))
            }
            b"size" => Step::Reply(answer(&Bytes::from(vec![b'x'; number as usize]))),
            b"none" => Step::NoReply,
            b"zero" => Step::Later(Box::pin(async { None })),
            b"long" => {
                let released = self.released.subscribe();
                while !released.borrow().contains(&number) {
                    std::thread::yield_now();
                }
                assert_ne!(number, u32::MAX, "the request asked for it");
                Step::Reply(answer(&request.payload))
            }
            b"shut" => Step::Close("the request asked for it".into()),
            b"boom" => panic!("the request asked for it"),
            b"slow" => {
                context.throttle(Duration::from_secs(u64::from(number)));
                Step::Reply(answer(&request.payload))
            }
            b"auth" => {
                context.session().authenticate(std::str::from_utf8(&rest[4..]).unwrap());
                Step::Reply(answer(&request.payload))
            }
            b"who?" => Step::Reply(answer(&Bytes::copy_from_slice(context.principal().as_bytes()))),
            b"peer" => Step::Reply(answer(&Bytes::from(context.peer_address().to_string()))),
            other => panic!("no such command: {other:?}"),
        }
    }
}

/// An answer whose body is a segment of its own.
fn answer(payload: &Bytes) -> Rope {
    let mut rope = Rope::new();
    rope.put_slice(&u32::try_from(payload.len()).unwrap().to_be_bytes());
    rope.put_shared(payload.clone());
    rope
}

/// A request with its length.
pub(crate) fn request(command: &str, number: u32, extra: &[u8]) -> Vec<u8> {
    let payload = [command.as_bytes(), &number.to_be_bytes(), extra].concat();
    let mut framed = u32::try_from(payload.len()).unwrap().to_be_bytes().to_vec();
    framed.extend(payload);
    framed
}

pub(crate) async fn send<W: AsyncWrite + Unpin>(writer: &mut W, command: &str, number: u32) {
    writer.write_all(&request(command, number, b"")).await.unwrap();
    writer.flush().await.unwrap();
}

/// The next answer's payload.
pub(crate) async fn receive<R: AsyncRead + Unpin>(reader: &mut R) -> Vec<u8> {
    within(async {
        let mut payload = vec![0; reader.read_u32().await.unwrap() as usize];
        reader.read_exact(&mut payload).await.unwrap();
        payload
    })
    .await
}

/// The numbers of the next answers.
pub(crate) async fn receive_numbers<R: AsyncRead + Unpin>(reader: &mut R, count: usize) -> Vec<u32> {
    let mut numbers = Vec::new();
    for _ in 0..count {
        numbers.push(u32::from_be_bytes(receive(reader).await[4..8].try_into().unwrap()));
    }
    numbers
}

/// One request and its answer.
pub(crate) async fn ask<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, command: &str, number: u32) -> Vec<u8> {
    send(stream, command, number).await;
    receive(stream).await
}

/// The connection was closed without another byte.
pub(crate) async fn closed<R: AsyncRead + Unpin>(reader: &mut R) {
    let mut rest = Vec::new();
    // A reset is a close too.
    let _ = within(reader.read_to_end(&mut rest)).await;
    assert!(rest.is_empty(), "{} bytes came before the end", rest.len());
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(DEADLINE, future).await.expect("it happens before the deadline")
}
