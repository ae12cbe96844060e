//! The server: accepts up to a bound, gives each connection time-outs, and stops when it is told.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::Response;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::Sources;
use crate::routes;

/// How long accepting pauses after the system refused a connection (no file descriptors left, say).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a client may take of the broker.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at one time; one more waits in the system's queue.
    pub connections_max: usize,
    /// How long a client may take to send the head of a request, or to send none on an open connection.
    pub header_timeout: Duration,
    /// How long an answer may take to be made.
    pub answer_timeout: Duration,
    /// The largest body of a request, in bytes.
    pub body_bytes_max: usize,
    /// How long connections have to end when the server stops.
    pub stop_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 256,
            header_timeout: Duration::from_secs(15),
            answer_timeout: Duration::from_secs(15),
            body_bytes_max: 64 * 1024,
            stop_timeout: Duration::from_secs(2),
        }
    }
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for HTTP on {address}: {error}")]
pub struct StartError {
    /// The address asked for.
    pub address: SocketAddr,
    /// What the system said.
    #[source]
    pub error: io::Error,
}

/// A running server. Dropping it stops accepting and ends its connections; [`Server::stop`] lets them finish.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: CancellationToken,
    abort: CancellationToken,
    accepting: Option<JoinHandle<()>>,
    connections: TaskTracker,
    stop_timeout: Duration,
}

impl Server {
    /// Binds the address and serves until stopped.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start(address: SocketAddr, sources: Sources, limits: Limits) -> Result<Server, StartError> {
        let failed = |error| StartError { address, error };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        let stop = CancellationToken::new();
        let abort = CancellationToken::new();
        let connections = TaskTracker::new();
        let answer_timeout = limits.answer_timeout;
        let router = routes::router(sources, limits.body_bytes_max)
            .layer(middleware::from_fn(move |request, next| in_time(answer_timeout, request, next)));
        let stop_timeout = limits.stop_timeout;
        let loop_ = Acceptor {
            listener,
            router,
            limits,
            stop: stop.clone(),
            abort: abort.clone(),
            connections: connections.clone(),
        };
        let accepting = Some(tokio::spawn(loop_.run()));
        Ok(Server { address: bound, stop, abort, accepting, connections, stop_timeout })
    }

    /// Where it listens, with the real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops: takes no more connections, finishes the requests it has, and after a while cuts what is left.
    pub async fn stop(mut self) {
        self.stop.cancel();
        if let Some(accepting) = self.accepting.take() {
            // The loop ends at the cancellation and cannot fail otherwise.
            let _ = accepting.await;
        }
        self.connections.close();
        if tokio::time::timeout(self.stop_timeout, self.connections.wait()).await.is_err() {
            self.abort.cancel();
            self.connections.wait().await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        self.abort.cancel();
    }
}

struct Acceptor {
    listener: TcpListener,
    router: Router,
    limits: Limits,
    stop: CancellationToken,
    abort: CancellationToken,
    connections: TaskTracker,
}

impl Acceptor {
    async fn run(self) {
        let slots = Arc::new(Semaphore::new(self.limits.connections_max));
        loop {
            let accepted = tokio::select! {
                () = self.stop.cancelled() => return,
                accepted = accept(&self.listener, &slots) => accepted,
            };
            match accepted {
                Ok((stream, slot)) => {
                    let connection = self.connection(stream);
                    self.connections.spawn(async move {
                        connection.await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "an HTTP connection cannot be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// One connection, until it ends or is ended.
    fn connection(&self, stream: TcpStream) -> impl Future<Output = ()> + Send + use<> {
        let service = TowerToHyperService::new(self.router.clone());
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(self.limits.header_timeout);
        let connection = builder.serve_connection(TokioIo::new(stream), service);
        let (stop, abort) = (self.stop.clone(), self.abort.clone());
        async move {
            let mut connection = std::pin::pin!(connection);
            let served = tokio::select! {
                served = connection.as_mut() => served,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    tokio::select! {
                        served = connection => served,
                        () = abort.cancelled() => return,
                    }
                }
            };
            if let Err(error) = served {
                tracing::debug!(%error, "an HTTP connection ended early");
            }
        }
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, slot))
}

async fn in_time(limit: Duration, request: Request, next: Next) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => routes::problem(StatusCode::SERVICE_UNAVAILABLE, "timeout", "the answer took too long"),
    }
}
