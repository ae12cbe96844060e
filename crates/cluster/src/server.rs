//! The side that is called: accepts streams within its bounds, and hands them to the gRPC services.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport::server::Connected;

use crate::net::{Network, Stream};

/// After an error of accepting (no file descriptors, say), so that it is not repeated without a pause.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Streams that are accepted and not yet served.
const ACCEPTED_MAX: usize = 16;
/// How often a silent connection is asked whether it is still there, and how long it may take to answer.
const KEEPALIVE: Duration = Duration::from_secs(2);

/// The bounds of one server.
#[derive(Debug, Clone)]
pub struct ServerLimits {
    /// Connections at once; more wait to be accepted.
    pub connections_max: usize,
    /// Handshakes at once; more wait to be accepted.
    pub handshakes_max: usize,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
    /// Calls at once on one connection.
    pub streams_max: u32,
    /// Bytes of one connection that may be on their way to us and not taken yet.
    pub window_bytes: u32,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections_max: 1024,
            handshakes_max: 64,
            handshake_timeout: Duration::from_secs(10),
            streams_max: 256,
            window_bytes: 8 << 20,
        }
    }
}

/// Serves other brokers until it is stopped.
#[derive(Debug)]
pub struct Server {
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Begins to serve.
    pub fn start(network: Arc<dyn Network>, routes: Routes, limits: ServerLimits) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let (accepted, streams) = mpsc::channel(ACCEPTED_MAX);
        let serving = tonic::transport::Server::builder()
            .max_concurrent_streams(limits.streams_max)
            .initial_connection_window_size(limits.window_bytes)
            .initial_stream_window_size(limits.window_bytes)
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(KEEPALIVE))
            .add_routes(routes)
            .serve_with_incoming_shutdown(ReceiverStream::new(streams), stop.clone().cancelled_owned());
        tasks.spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "brokers are not served any more");
            }
        });
        tasks.spawn(accept(network, accepted, limits, stop.clone(), tasks.clone()));
        Self { stop, tasks }
    }

    /// Takes no more calls, and waits for those that are under way for this long.
    pub async fn stop(self, deadline: Duration) {
        self.stop.cancel();
        self.tasks.close();
        if timeout(deadline, self.tasks.wait()).await.is_err() {
            tracing::debug!("calls of other brokers were cut off");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn accept(
    network: Arc<dyn Network>,
    accepted: mpsc::Sender<io::Result<Served>>,
    limits: ServerLimits,
    stop: CancellationToken,
    tasks: TaskTracker,
) {
    let handshakes = Arc::new(Semaphore::new(limits.handshakes_max));
    let connections = Arc::new(Semaphore::new(limits.connections_max));
    let accepting = async {
        loop {
            let handshake = handshakes.clone().acquire_owned().await.expect("the semaphore is never closed");
            let place = connections.clone().acquire_owned().await.expect("the semaphore is never closed");
            let incoming = match network.accept().await {
                Ok(incoming) => incoming,
                Err(error) => {
                    tracing::warn!(%error, "a broker's call was not accepted");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (accepted, deadline, stop) = (accepted.clone(), limits.handshake_timeout, stop.clone());
            tasks.spawn(async move {
                let done = tokio::select! {
                    () = stop.cancelled() => return,
                    done = timeout(deadline, incoming.handshake) => done,
                };
                drop(handshake);
                match done {
                    Ok(Ok(stream)) => drop(accepted.send(Ok(Served { stream, _place: place })).await),
                    Ok(Err(error)) => tracing::debug!(%error, from = incoming.from, "a caller is no broker of ours"),
                    Err(_) => tracing::debug!(from = incoming.from, "a caller's handshake took too long"),
                }
            });
        }
    };
    tokio::select! {
        () = stop.cancelled() => {}
        () = accepting => {}
    }
}

/// A stream that is served, and the place it takes.
struct Served {
    stream: Stream,
    _place: OwnedSemaphorePermit,
}

impl Connected for Served {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Served {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Served {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
