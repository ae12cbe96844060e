//! What all listeners of a broker share: bounds, counters, the budgets of requests and answers, connection numbers.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::FutureExt as _;

use crate::{
    Answers, Context, Limits, Metrics, Threads,
    connection::End,
    limits::{Admission, Handshakes, LogLimit, Refusal},
    metrics::ListenerMetrics,
    requests::Requests,
    windows::Windows,
};

/// What all listeners of a broker share.
#[derive(Debug)]
pub struct Front {
    pub(crate) limits: Arc<Limits>,
    pub(crate) metrics: Metrics,
    pub(crate) admission: Arc<Admission>,
    pub(crate) refusals: LogLimit,
    complaints: LogLimit,
    pub(crate) handshakes: Arc<Handshakes>,
    pub(crate) requests: Requests,
    pub(crate) answers: Arc<Answers>,
    pub(crate) windows: Arc<Windows>,
    pub(crate) threads: Threads,
    connections: AtomicU64,
}

impl Front {
    /// A front door with these bounds, counting into these metrics, that serves connections where they are accepted.
    #[must_use]
    pub fn new(limits: Limits, metrics: Metrics) -> Arc<Self> {
        Self::on_threads(limits, metrics, Threads::none())
    }

    /// A front door with these bounds, counting into these metrics, that serves connections over TCP on these threads.
    #[must_use]
    pub fn on_threads(limits: Limits, metrics: Metrics, threads: Threads) -> Arc<Self> {
        Arc::new(Self {
            threads,
            admission: Admission::new(&limits),
            handshakes: Handshakes::new(&limits),
            requests: Requests::new(limits.request_bytes_in_flight_max),
            answers: Answers::new(limits.answer_bytes_max, metrics.answer_bytes.clone()),
            windows: Windows::new(limits.quic_windows_bytes_max as u64, limits.quic_connection_window_bytes),
            limits: Arc::new(limits),
            metrics,
            refusals: LogLimit::default(),
            complaints: LogLimit::default(),
            connections: AtomicU64::new(1),
        })
    }

    /// The budget that answers of all connections are made from.
    #[must_use]
    pub fn answers(&self) -> &Arc<Answers> {
        &self.answers
    }

    /// A number for a new connection.
    pub(crate) fn next_id(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed)
    }

    /// Says that a connection was not let in.
    pub(crate) fn refused(&self, refusal: Refusal, listener: &str, peer: std::net::IpAddr, metrics: &ListenerMetrics) {
        metrics.refused(refusal.label());
        let Some(left_out) = self.refusals.pass() else { return };
        match refusal {
            Refusal::Full => tracing::warn!(
                listener, %peer, connections_max = self.limits.connections_max, left_out,
                "connection refused: all connections are taken; raise limits.connections_max or add a broker"
            ),
            Refusal::NoWindow => tracing::warn!(
                listener, %peer, quic_windows_bytes = self.limits.quic_windows_bytes_max, left_out,
                "connection refused: no memory for what it may send; raise limits.quic_windows_bytes or add a broker"
            ),
            Refusal::AddressFull => tracing::warn!(
                listener, %peer, connections_per_address_max = self.limits.connections_per_address_max, left_out,
                "connection refused: this address has all it may have; close some or raise limits.connections_per_address_max"
            ),
            Refusal::AddressBusy => tracing::warn!(
                listener, %peer, handshakes_per_address_max = self.limits.handshakes_per_address_max, left_out,
                "handshake refused: this address has all it may have at once; raise limits.handshakes_per_address_max"
            ),
        }
    }

    /// Runs a connection to its end and says how it ended. A panic in a request's handler stops here.
    pub(crate) async fn watch(
        &self,
        context: &Context,
        metrics: &ListenerMetrics,
        connection: impl Future<Output = End>,
    ) -> Option<End> {
        let (id, listener) = (context.id(), context.listener().name.as_str());
        match AssertUnwindSafe(connection).catch_unwind().await {
            Ok(end) => {
                metrics.closed(end.label());
                self.report(context, &end);
                Some(end)
            }
            Err(panic) => {
                metrics.closed("panic");
                let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
                let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
                tracing::error!(id, listener, panic = text, "a request handler panicked; its connection is closed");
                None
            }
        }
    }

    fn report(&self, context: &Context, end: &End) {
        let (id, listener, peer) = (context.id(), context.listener().name.as_str(), context.peer_address());
        let reason: &str = match end {
            End::ClientClosed => return tracing::debug!(id, listener, %peer, "closed by the client"),
            End::Shutdown => return tracing::debug!(id, listener, %peer, "closed for shutdown"),
            End::Idle => return tracing::debug!(id, listener, %peer, "closed: idle"),
            End::Io(error) => return tracing::debug!(id, listener, %peer, %error, "connection lost"),
            End::Protocol(reason) => reason,
            End::Service(reason) => reason,
            End::WriteTimeout => "the client does not take its answers",
            End::SlowReader => {
                "the client takes its answers slowly while memory for answers is short (limits.answers_memory_bytes)"
            }
            End::NoRoom => {
                "a large request did not go on while memory for requests is short (limits.requests_memory_bytes)"
            }
        };
        if let Some(left_out) = self.complaints.pass() {
            tracing::warn!(id, listener, %peer, reason, left_out, "connection closed");
        }
    }
}
