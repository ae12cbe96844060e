//! One Kafka connection, over anything that reads and writes bytes.
//!
//! Two halves run side by side in one task. The reading half takes requests off the wire and begins each with the
//! service, in order. The writing half sends the answers, in the same order, each as soon as it and all before it are
//! ready. Between them is a queue of at most `requests_in_flight_max` answers; when it is full, reading stops, and the
//! client's own send buffer fills.
//!
//! ```text
//!  bytes ─► Frames ─► service.start ─► queue of answers, some still being waited for ─► Outbox ─► bytes
//! ```
//!
//! However the connection ends, it ends here: both halves are dropped, and with them every answer nobody waits for.

use std::{
    borrow::Cow,
    collections::VecDeque,
    io::{self, IoSlice},
    sync::Arc,
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use futures::{FutureExt as _, future::BoxFuture};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, timeout},
};
use tokio_util::{sync::CancellationToken, task::AbortOnDropHandle};

use crate::{
    Answer, Context, Frame, Front, Limits, Reservation, Service, Step, Weight,
    frames::{FrameError, Frames, Patience},
    metrics::{Counted, ListenerMetrics},
};

/// Answers that are ready together leave in one write, up to about this size.
const COALESCED_BYTES: usize = 1 << 20;
/// Segments given to the system in one write.
const SEGMENTS_PER_WRITE: usize = 64;
/// Bytes given to the system in one write: copying more takes a thread longer than others should wait for it.
const BYTES_PER_WRITE: usize = 128 << 10;
/// How often a write that does not go on is looked at.
const SHORT_LOOK: Duration = Duration::from_secs(1);

/// Why a connection ended.
#[derive(Debug)]
pub(crate) enum End {
    /// The client closed it.
    ClientClosed,
    /// Nothing happened on it for the idle time.
    Idle,
    /// The broker stops.
    Shutdown,
    /// The client sent what is no request.
    Protocol(String),
    /// The service asked for it.
    Service(Cow<'static, str>),
    /// The client did not take its answers.
    WriteTimeout,
    /// The client takes its answers, but slowly, and others have no memory for theirs.
    SlowReader,
    /// The client began a large request, and others have no memory for theirs.
    NoRoom,
    /// The network failed, or the client vanished.
    Io(io::Error),
}

impl End {
    /// How long answers are still finished: `None` when nobody is there to take them.
    fn grace(&self, limits: &Limits) -> Option<Duration> {
        match self {
            Self::ClientClosed | Self::Protocol(_) | Self::Service(_) | Self::NoRoom => Some(limits.end_grace),
            Self::Shutdown => Some(limits.shutdown_grace),
            Self::Idle | Self::WriteTimeout | Self::SlowReader | Self::Io(_) => None,
        }
    }

    /// Whether the client may still be reading.
    pub(crate) fn is_orderly(&self) -> bool {
        !matches!(self, Self::WriteTimeout | Self::SlowReader | Self::Io(_))
    }

    /// The label of the metric.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::ClientClosed => "client_closed",
            Self::Idle => "idle",
            Self::Shutdown => "shutdown",
            Self::Protocol(_) => "protocol",
            Self::Service(_) => "request",
            Self::WriteTimeout => "write_timeout",
            Self::SlowReader => "slow_reader",
            Self::NoRoom => "requests_memory",
            Self::Io(_) => "network",
        }
    }
}

/// What a connection needs besides its two ends.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) context: Arc<Context>,
    pub(crate) front: Arc<Front>,
    pub(crate) metrics: ListenerMetrics,
    pub(crate) shutdown: CancellationToken,
    /// When the last answer went out: a connection is not idle while it is being answered.
    answered_at: Mutex<Instant>,
}

/// An answer in the queue, with what it holds until it is written.
struct Pending {
    answer: Coming,
    _in_flight: InFlight,
}

enum Coming {
    Ready(Answer),
    Later(BoxFuture<'static, Option<Answer>>),
}

/// A request that has not been answered: its place in the connection's queue, its bytes in the broker's budget.
struct InFlight {
    _slot: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
    _counted: Counted,
}

impl Connection {
    pub(crate) fn new(
        context: Arc<Context>,
        front: Arc<Front>,
        metrics: ListenerMetrics,
        shutdown: CancellationToken,
    ) -> Self {
        Self { context, front, metrics, shutdown, answered_at: Mutex::new(Instant::now()) }
    }

    /// Serves requests until the connection ends. The writer is shut down when the client may still be reading.
    pub(crate) async fn serve<S, R, W>(&self, service: &Arc<S>, reader: R, writer: &mut W) -> End
    where
        S: Service,
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let limits = self.context.limits();
        let (queue, answers) = mpsc::channel(self.in_flight_max());
        let end = {
            let mut reading = Box::pin(self.read_requests(service, reader, queue));
            let mut writing = Box::pin(self.write_answers(writer, answers));
            tokio::select! {
                end = &mut reading => match end.grace(limits) {
                    // The queue has no sender any more: the writing half ends when the last answer is out.
                    Some(grace) => match timeout(grace, writing).await {
                        Ok(Err(end)) => end,
                        Ok(Ok(())) | Err(_) => end,
                    },
                    None => end,
                },
                Err(end) = &mut writing => end,
            }
        };
        if end.is_orderly() {
            // A client that is gone by now is no news.
            let _ = timeout(limits.end_grace, writer.shutdown()).await;
        }
        end
    }

    /// The reading half: returns when no further request will be read.
    async fn read_requests<S: Service, R: AsyncRead + Unpin>(
        &self,
        service: &Arc<S>,
        reader: R,
        queue: mpsc::Sender<Pending>,
    ) -> End {
        let limits = self.context.limits();
        let slots = Arc::new(Semaphore::new(self.in_flight_max()));
        let received = self.metrics.received_bytes.clone();
        let patience = Patience { idle: limits.idle_timeout, short: limits.short_patience };
        let budget = self.front.requests.clone();
        let mut frames = Frames::new(reader, limits.frame_bytes_max, patience, budget, received);
        loop {
            let request = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => return End::Shutdown,
                request = self.next_request(service, &mut frames, &slots) => request,
            };
            let (frame, is_long, in_flight) = match request {
                Ok(request) => request,
                Err(error) => return End::from(error),
            };
            let answer = match self.start(service, frame, is_long).await {
                Step::Reply(bytes) => Coming::Ready(self.counted(bytes.into())),
                Step::Later(later) => Coming::Later(later),
                Step::NoReply => continue,
                Step::Close(reason) => return End::Service(reason),
            };
            // The slot is a place in the queue, so this never waits; it fails when the writing half is gone.
            if queue.try_send(Pending { answer, _in_flight: in_flight }).is_err() {
                return End::Io(io::ErrorKind::BrokenPipe.into());
            }
        }
    }

    /// The next request, once there is room for it: in the connection's queue, and in the broker's budget of bytes.
    async fn next_request<S: Service, R: AsyncRead + Unpin>(
        &self,
        service: &Arc<S>,
        frames: &mut Frames<R>,
        slots: &Arc<Semaphore>,
    ) -> Result<(Frame, bool, InFlight), FrameError> {
        self.context.throttled().await;
        let slot = Arc::clone(slots).acquire_owned().await.expect("the slots are never closed");
        let (payload, held) = loop {
            match frames.next().await {
                // Answers that are awaited hold slots; so do we.
                Err(FrameError::Idle) if slots.available_permits() + 1 < self.in_flight_max() => {}
                Err(FrameError::Idle) if self.answered_at.lock().elapsed() < self.context.limits().idle_timeout => {}
                other => break other?,
            }
        };
        let received_at = Instant::now();
        let Weight { bytes: weight, is_long } = service.weight(&payload);
        let besides = weight.saturating_sub(payload.len());
        if besides > self.front.requests.bytes_max() {
            let reason = format!("a request of {} bytes would take {weight} bytes of memory", payload.len());
            return Err(FrameError::Length(reason));
        }
        let bytes = match held {
            None => self.front.requests.whole(weight).await,
            Some(mut held) => {
                let until = Instant::now() + self.context.limits().short_patience;
                let more = self.front.requests.more(Some(&held), besides, until).await.ok_or(FrameError::NoRoom)?;
                held.merge(more);
                held
            }
        };
        let in_flight = InFlight { _slot: slot, _bytes: bytes, _counted: Counted::new(&self.metrics.in_flight) };
        Ok((Frame { payload, received_at }, is_long, in_flight))
    }

    /// Begins a request; one that takes long, where it holds up no other connection.
    async fn start<S: Service>(&self, service: &Arc<S>, frame: Frame, is_long: bool) -> Step {
        let Some(aside) = self.front.threads.aside().filter(|_| is_long) else {
            return service.start(&self.context, frame).await;
        };
        let (service, context) = (Arc::clone(service), Arc::clone(&self.context));
        let step = run_on(aside, async move { service.start(&context, frame).await }).await;
        match step {
            Some(Step::Later(later)) => {
                let later = run_on(aside, later);
                Step::Later(Box::pin(async move { later.await.flatten() }))
            }
            Some(step) => step,
            None => Step::Close("the broker stops".into()),
        }
    }

    /// An answer whose bytes are in the budget.
    fn counted(&self, mut answer: Answer) -> Answer {
        if answer.reserved.is_none() {
            answer.reserved = Some(self.front.answers.count(answer.bytes.len()));
        }
        answer
    }

    fn in_flight_max(&self) -> usize {
        self.context.limits().requests_in_flight_max.max(1)
    }

    /// The writing half: returns `Ok` when the reading half has ended and every answer is out.
    async fn write_answers<W: AsyncWrite + Unpin>(
        &self,
        writer: &mut W,
        queue: mpsc::Receiver<Pending>,
    ) -> Result<(), End> {
        let mut answers = Answers { queue, head: None };
        let mut outbox = Outbox::default();
        while let Some(first) = answers.next().await {
            outbox.push(self, first);
            while outbox.bytes < COALESCED_BYTES
                && let Some(Some(next)) = answers.next().now_or_never()
            {
                outbox.push(self, next);
            }
            let written = outbox.write(writer, &self.front).await?;
            self.metrics.sent_bytes.inc_by(written);
            *self.answered_at.lock() = Instant::now();
        }
        Ok(())
    }
}

/// Runs this on another runtime, and gives what it gives; nothing when that runtime ends. A panic goes on here. Once it is
/// dropped, so is the work.
fn run_on<T, F>(runtime: &Handle, work: F) -> impl Future<Output = Option<T>> + Send + use<T, F>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let task = AbortOnDropHandle::new(runtime.spawn(work));
    async move {
        match task.await {
            Ok(done) => Some(done),
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => None,
            },
        }
    }
}

impl From<FrameError> for End {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Closed => Self::ClientClosed,
            FrameError::Truncated => Self::Io(io::Error::new(io::ErrorKind::UnexpectedEof, "closed within a request")),
            FrameError::Idle => Self::Idle,
            FrameError::Length(reason) => Self::Protocol(reason),
            FrameError::NoRoom => Self::NoRoom,
            FrameError::Io(error) => Self::Io(error),
        }
    }
}

/// The queue's receiving end, and the answer at its head, which may have to be waited for.
struct Answers {
    queue: mpsc::Receiver<Pending>,
    head: Option<Pending>,
}

impl Answers {
    /// The next answer in order, when it is ready; `None` when no more will come. Cancellation safe.
    async fn next(&mut self) -> Option<(Option<Answer>, InFlight)> {
        if self.head.is_none() {
            self.head = Some(self.queue.recv().await?);
        }
        if let Some(Pending { answer: Coming::Later(later), .. }) = &mut self.head {
            let answer = later.await;
            let Pending { _in_flight, .. } = self.head.take()?;
            return Some((answer, _in_flight));
        }
        match self.head.take()? {
            Pending { answer: Coming::Ready(answer), _in_flight } => Some((Some(answer), _in_flight)),
            Pending { answer: Coming::Later(_), .. } => unreachable!("a later answer returned above"),
        }
    }
}

/// Answers on their way out.
#[derive(Default)]
struct Outbox {
    segments: VecDeque<Bytes>,
    bytes: usize,
    answered: Vec<(InFlight, Option<Reservation>)>,
}

impl Outbox {
    fn push(&mut self, connection: &Connection, (answer, in_flight): (Option<Answer>, InFlight)) {
        let Some(Answer { bytes, reserved }) = answer.map(|answer| connection.counted(answer)) else {
            return self.answered.push((in_flight, None));
        };
        for segment in bytes.into_segments() {
            if !segment.is_empty() {
                self.bytes += segment.len();
                self.segments.push_back(segment);
            }
        }
        self.answered.push((in_flight, reserved));
    }

    /// Writes and flushes everything, then lets go of the requests that are thereby answered. Gives the bytes written.
    async fn write<W: AsyncWrite + Unpin>(&mut self, writer: &mut W, front: &Front) -> Result<u64, End> {
        let total = self.bytes as u64;
        let limits = &front.limits;
        let due = Instant::now() + limits.short_patience;
        // Where memory for answers is short, all of them must be taken within the time, else some bytes.
        let too_slow = || Instant::now() >= due && front.answers.is_short();
        while !self.segments.is_empty() {
            let mut slices = [IoSlice::new(&[]); SEGMENTS_PER_WRITE];
            let (mut count, mut room) = (0, BYTES_PER_WRITE);
            for (slice, segment) in slices.iter_mut().zip(&self.segments) {
                let len = segment.len().min(room);
                *slice = IoSlice::new(&segment[..len]);
                count += 1;
                room -= len;
                if room == 0 {
                    break;
                }
            }
            let since = Instant::now();
            let written = loop {
                // What was not written is offered again: a write that is dropped has written nothing.
                match timeout(limits.write_timeout.min(SHORT_LOOK), writer.write_vectored(&slices[..count])).await {
                    Ok(written) => break written.map_err(End::Io)?,
                    Err(_) if since.elapsed() >= limits.write_timeout => return Err(End::WriteTimeout),
                    Err(_) if too_slow() => return Err(End::SlowReader),
                    Err(_) => {}
                }
            };
            if written == 0 {
                return Err(End::Io(io::ErrorKind::WriteZero.into()));
            }
            self.consume(written);
            if !self.segments.is_empty() {
                if too_slow() {
                    return Err(End::SlowReader);
                }
                // One who is given much gives way to those who are given little.
                tokio::task::yield_now().await;
            }
        }
        within(limits.write_timeout, writer.flush()).await?;
        self.answered.clear();
        Ok(total)
    }

    fn consume(&mut self, mut written: usize) {
        self.bytes -= written;
        while written > 0 {
            let segment = self.segments.front_mut().expect("no more is written than was there");
            if segment.len() > written {
                segment.advance(written);
                return;
            }
            written -= segment.len();
            self.segments.pop_front();
        }
    }
}

/// One step of writing: some bytes must move within the time.
async fn within<T>(patience: Duration, step: impl Future<Output = io::Result<T>>) -> Result<T, End> {
    match timeout(patience, step).await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(End::Io(error)),
        Err(_) => Err(End::WriteTimeout),
    }
}
