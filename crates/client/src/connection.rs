//! One Kafka connection: requests go out in the order in which they were begun, answers come back in the same order and
//! find their callers by correlation id. Many requests may be under way at once, up to a bound.
//!
//! A request that is not answered in time closes the connection, for everything behind it waits too. A caller that goes
//! away leaves its request under way; the answer is then read and dropped.

use std::collections::HashMap;
use std::future::Future;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use wire::{ApiKey, Call, Message as _, RequestHeader, Text};

use crate::transport::{Reader, Writer};
use crate::{Address, ClientConfig, Error};

/// Frames that are written with one system call at most.
const GATHERED_MAX: usize = 64;

/// A connection; clones are the same one. The last clone that goes closes it.
#[derive(Clone)]
pub(crate) struct Connection(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    frames: mpsc::Sender<Vec<Bytes>>,
    next_id: AtomicI32,
    client_id: Text,
    /// By API key: lowest and highest version that the broker serves.
    served: HashMap<i16, (i16, i16)>,
    request_timeout: Duration,
    /// The reader and the writer; they end with the connection.
    _tasks: JoinSet<()>,
}

/// What the tasks and the callers share.
struct Shared {
    address: Address,
    in_flight: Arc<Semaphore>,
    state: Mutex<State>,
    closing: tokio_util::sync::CancellationToken,
}

#[derive(Default)]
struct State {
    waiting: HashMap<i32, Waiting>,
    /// Why the connection ended.
    ended: Option<Error>,
}

struct Waiting {
    answer: oneshot::Sender<Result<Bytes, Error>>,
    _permit: OwnedSemaphorePermit,
}

impl Shared {
    fn disconnected(&self, reason: impl ToString) -> Error {
        Error::Disconnected { address: self.address.clone(), reason: reason.to_string() }
    }

    fn protocol(&self, reason: impl ToString) -> Error {
        Error::Protocol { address: self.address.clone(), reason: reason.to_string() }
    }

    /// Ends the connection: everybody who waits is told why.
    fn end(&self, error: Error) {
        let waiting = {
            let mut state = self.state.lock();
            state.ended.get_or_insert_with(|| error.clone());
            std::mem::take(&mut state.waiting)
        };
        self.closing.cancel();
        for (_, waiting) in waiting {
            // Whoever went away does not care.
            let _ = waiting.answer.send(Err(error.clone()));
        }
    }
}

impl Connection {
    /// Starts the Kafka protocol on a stream: asks what the broker serves.
    pub(crate) async fn start(
        address: Address,
        (reader, writer): (Reader, Writer),
        config: &ClientConfig,
    ) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            address,
            in_flight: Arc::new(Semaphore::new(config.in_flight_max.max(1))),
            state: Mutex::default(),
            closing: tokio_util::sync::CancellationToken::new(),
        });
        // Every frame holds a permit, so that this never fills.
        let (frames, queue) = mpsc::channel(config.in_flight_max.max(1));
        let mut tasks = JoinSet::new();
        tasks.spawn(run(shared.clone(), write(writer, queue)));
        tasks.spawn(run(shared.clone(), read(shared.clone(), reader, config.response_bytes_max)));
        let mut inner = Inner {
            shared,
            frames,
            next_id: AtomicI32::new(0),
            client_id: Text::from(config.client_id.as_str()),
            served: HashMap::new(),
            request_timeout: config.request_timeout,
            _tasks: tasks,
        };
        inner.served = inner.ask_versions().await?;
        Ok(Self(Arc::new(inner)))
    }

    pub(crate) fn address(&self) -> &Address {
        &self.0.shared.address
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.0.shared.closing.is_cancelled()
    }

    /// The highest version that both sides speak, and that is not above `cap`.
    pub(crate) fn version(&self, key: ApiKey, cap: i16) -> Result<i16, Error> {
        let unsupported = || Error::Unsupported { address: self.address().clone(), api: key.name() };
        let (ours_min, ours_max) = key.versions_decodable().ok_or_else(unsupported)?;
        let (theirs_min, theirs_max) = *self.0.served.get(&key.code()).ok_or_else(unsupported)?;
        let version = ours_max.min(theirs_max).min(cap);
        if version < ours_min.max(theirs_min) { Err(unsupported()) } else { Ok(version) }
    }

    /// Sends a request and waits for its answer, at most `wait` (which the broker was asked to wait) and the request
    /// time-out. Dropping the future does not take the request back.
    pub(crate) async fn call<C: Call>(&self, request: &C, version: i16, wait: Duration) -> Result<C::Response, Error> {
        let inner = &self.0;
        let permit = tokio::select! {
            permit = inner.shared.in_flight.clone().acquire_owned() => permit.map_err(|_| Error::Closed("connection"))?,
            () = inner.shared.closing.cancelled() => return Err(inner.ended()),
        };
        inner.begin(request, version, permit)?.await_within(inner.request_timeout + wait).await
    }

    /// Puts a request on its way at once, in the order of the calls; the future is its answer. Fails where as many
    /// requests as allowed are under way.
    pub(crate) fn begin<C: Call>(
        &self,
        request: &C,
        version: i16,
        wait: Duration,
    ) -> Result<impl Future<Output = Result<C::Response, Error>> + Send + use<C>, Error>
    where
        C::Response: Send,
    {
        let inner = &self.0;
        let permit = inner.shared.in_flight.clone().try_acquire_owned();
        let permit = permit.map_err(|_| Error::Config("too many requests in flight on one connection".into()))?;
        Ok(inner.begin::<C>(request, version, permit)?.await_within(inner.request_timeout + wait))
    }

    /// Puts a request on its way that has no answer (produce with acks 0).
    pub(crate) async fn send<C: Call>(&self, request: &C, version: i16) -> Result<(), Error> {
        let frame = self.0.encode(request, version, 0)?;
        self.0.frames.send(frame).await.map_err(|_| self.0.ended())
    }
}

impl Inner {
    fn ended(&self) -> Error {
        let ended = self.shared.state.lock().ended.clone();
        ended.unwrap_or_else(|| self.shared.disconnected("it was closed"))
    }

    fn encode<C: Call>(&self, request: &C, version: i16, correlation_id: i32) -> Result<Vec<Bytes>, Error> {
        let header = RequestHeader {
            api_key: C::KEY.code(),
            api_version: version,
            correlation_id,
            client_id: Some(self.client_id.clone()),
        };
        let rope = wire::encode_request(&header, request).map_err(|error| self.shared.protocol(error))?;
        Ok(rope.into_segments())
    }

    fn begin<C: Call>(&self, request: &C, version: i16, permit: OwnedSemaphorePermit) -> Result<Answer<C>, Error> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let frame = self.encode(request, version, id)?;
        let (answer, receiver) = oneshot::channel();
        {
            let mut state = self.shared.state.lock();
            if let Some(error) = &state.ended {
                return Err(error.clone());
            }
            state.waiting.insert(id, Waiting { answer, _permit: permit });
        }
        if self.frames.try_send(frame).is_err() {
            self.shared.end(self.shared.disconnected("it was closed"));
            return Err(self.ended());
        }
        Ok(Answer { shared: self.shared.clone(), receiver, version, call: std::marker::PhantomData })
    }

    /// What the broker serves. One that does not know our version of the question says so in the oldest form.
    async fn ask_versions(&self) -> Result<HashMap<i16, (i16, i16)>, Error> {
        let request = wire::api_versions::Request {
            client_software_name: Text::from_static("weir"),
            client_software_version: Text::from_static(env!("CARGO_PKG_VERSION")),
            ..Default::default()
        };
        let (_, highest) = wire::api_versions::VERSIONS_DECODABLE;
        let permit = self.shared.in_flight.clone().acquire_owned().await.map_err(|_| Error::Closed("connection"))?;
        let answer = self.begin(&request, highest, permit)?;
        let mut body = answer.bytes_within(self.request_timeout).await?;
        body.advance(4);
        let refused = body.first_chunk() == Some(&wire::ErrorCode::UNSUPPORTED_VERSION.code().to_be_bytes());
        let version = if refused { 0 } else { highest };
        let decoded = wire::api_versions::Response::decode(&mut body, version);
        let response = decoded.map_err(|error| self.shared.protocol(error))?;
        if !refused {
            crate::error::check(response.error_code, || "asking for the broker's versions".into())?;
        }
        let mut served: HashMap<_, _> =
            response.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        if refused && served.len() <= 1 {
            let permit =
                self.shared.in_flight.clone().acquire_owned().await.map_err(|_| Error::Closed("connection"))?;
            let response = self.begin(&request, 0, permit)?.await_within(self.request_timeout).await?;
            served = response.api_keys.iter().map(|api| (api.api_key, (api.min_version, api.max_version))).collect();
        }
        Ok(served)
    }
}

/// An answer that is due.
struct Answer<C> {
    shared: Arc<Shared>,
    receiver: oneshot::Receiver<Result<Bytes, Error>>,
    version: i16,
    call: std::marker::PhantomData<fn() -> C>,
}

impl<C: Call> Answer<C> {
    /// The frame, correlation id first.
    async fn bytes_within(self, limit: Duration) -> Result<Bytes, Error> {
        match timeout(limit, self.receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(self.shared.disconnected("it was closed")),
            Err(_) => {
                let what = format!("{} by {}", C::KEY.name(), self.shared.address);
                let error = Error::TimedOut { what, after: limit };
                self.shared.end(error.clone());
                Err(error)
            }
        }
    }

    async fn await_within(self, limit: Duration) -> Result<C::Response, Error> {
        let (shared, version) = (self.shared.clone(), self.version);
        let mut bytes = self.bytes_within(limit).await?;
        let decoded = wire::decode_response_header(C::KEY, version, &mut bytes)
            .and_then(|_| C::Response::decode(&mut bytes, version));
        decoded.map_err(|error| {
            let error = shared.protocol(format!("{} version {version}: {error}", C::KEY.name()));
            shared.end(error.clone());
            error
        })
    }
}

/// Runs one direction until it fails or the connection is closed.
async fn run(shared: Arc<Shared>, direction: impl Future<Output = Result<(), String>>) {
    let ended = tokio::select! {
        ended = direction => ended,
        () = shared.closing.cancelled() => return,
    };
    let reason = ended.err().unwrap_or_else(|| "it was closed".into());
    shared.end(shared.disconnected(reason));
}

async fn write(mut writer: Writer, mut queue: mpsc::Receiver<Vec<Bytes>>) -> Result<(), String> {
    let mut gathered = Vec::new();
    while queue.recv_many(&mut gathered, GATHERED_MAX).await > 0 {
        let mut segments: Vec<Bytes> = gathered.drain(..).flatten().collect();
        let mut first = 0;
        while first < segments.len() {
            let slices: Vec<_> = segments[first..].iter().take(GATHERED_MAX).map(|bytes| IoSlice::new(bytes)).collect();
            let mut written = writer.write_vectored(&slices).await.map_err(|error| error.to_string())?;
            if written == 0 {
                return Err("nothing more could be written".into());
            }
            while written > 0 {
                let segment = &mut segments[first];
                let taken = written.min(segment.len());
                segment.advance(taken);
                written -= taken;
                if segment.is_empty() {
                    first += 1;
                }
            }
        }
        writer.flush().await.map_err(|error| error.to_string())?;
    }
    // The last handle is gone.
    let _ = writer.shutdown().await;
    Ok(())
}

async fn read(shared: Arc<Shared>, mut reader: Reader, bytes_max: usize) -> Result<(), String> {
    loop {
        let len = match reader.read_i32().await {
            Ok(len) => len,
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err("the broker closed it".into());
            }
            Err(error) => return Err(error.to_string()),
        };
        let len = usize::try_from(len).ok().filter(|len| (4..=bytes_max).contains(len));
        let len = len.ok_or("the broker sent a frame of a length that is not allowed")?;
        // Grows with what really arrives; the announced length alone reserves little.
        let mut frame = BytesMut::with_capacity(len.min(1 << 20));
        let mut limited = (&mut reader).take(len as u64);
        while frame.len() < len {
            if limited.read_buf(&mut frame).await.map_err(|error| error.to_string())? == 0 {
                return Err("the broker closed it in the middle of an answer".into());
            }
        }
        let frame = frame.freeze();
        let id = i32::from_be_bytes(*frame.first_chunk().ok_or("an answer without a correlation id")?);
        let waiting = shared.state.lock().waiting.remove(&id);
        let waiting = waiting.ok_or("the broker answered what was not asked")?;
        let _ = waiting.answer.send(Ok(frame));
    }
}
