//! What the front door counts, by listener and transport.

use std::fmt;

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// How a connection travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// Plain TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// A stream of a QUIC connection.
    Quic,
}

impl Transport {
    /// Whether nobody on the way can read along.
    #[must_use]
    pub fn is_encrypted(self) -> bool {
        self != Self::Tcp
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Quic => "quic",
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ListenerLabels {
    listener: String,
    transport: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    listener: String,
    transport: &'static str,
    reason: &'static str,
}

/// What the front door counts. A clone counts into the same.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    open: Family<ListenerLabels, Gauge>,
    streams_open: Family<ListenerLabels, Gauge>,
    accepted: Family<ListenerLabels, Counter>,
    refused: Family<ReasonLabels, Counter>,
    closed: Family<ReasonLabels, Counter>,
    migrated: Family<ListenerLabels, Counter>,
    received_bytes: Family<ListenerLabels, Counter>,
    sent_bytes: Family<ListenerLabels, Counter>,
    in_flight: Family<ListenerLabels, Gauge>,
    retries: Family<ListenerLabels, Counter>,
    pub(crate) answer_bytes: Gauge,
}

impl Metrics {
    /// Makes them part of what `/metrics` shows.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("weir_connections_open", "Client connections open now", self.open.clone());
        registry.register("weir_quic_streams_open", "Streams of QUIC connections open now", self.streams_open.clone());
        registry.register("weir_connections_accepted", "Client connections accepted", self.accepted.clone());
        registry.register("weir_connections_refused", "Connections and streams refused", self.refused.clone());
        registry.register("weir_connections_closed", "Connections and streams closed, by reason", self.closed.clone());
        registry.register("weir_quic_migrations", "Times a QUIC client changed its address", self.migrated.clone());
        registry.register("weir_received_bytes", "Bytes of requests received", self.received_bytes.clone());
        registry.register("weir_sent_bytes", "Bytes of answers sent", self.sent_bytes.clone());
        registry.register("weir_requests_in_flight", "Requests that wait for their answer", self.in_flight.clone());
        let retries = "QUIC clients that were asked to show that they receive at their address";
        registry.register("weir_quic_retries", retries, self.retries.clone());
        let waiting = "Bytes of answers that are made and not yet taken by clients";
        registry.register("weir_answer_bytes", waiting, self.answer_bytes.clone());
    }

    /// The handles of one listener, looked up once.
    pub(crate) fn of_listener(&self, listener: &str, transport: Transport) -> ListenerMetrics {
        let labels = ListenerLabels { listener: listener.to_owned(), transport: transport.as_str() };
        ListenerMetrics {
            open: self.open.get_or_create_owned(&labels),
            streams_open: self.streams_open.get_or_create_owned(&labels),
            accepted: self.accepted.get_or_create_owned(&labels),
            migrated: self.migrated.get_or_create_owned(&labels),
            received_bytes: self.received_bytes.get_or_create_owned(&labels),
            sent_bytes: self.sent_bytes.get_or_create_owned(&labels),
            in_flight: self.in_flight.get_or_create_owned(&labels),
            retries: self.retries.get_or_create_owned(&labels),
            refused: self.refused.clone(),
            closed: self.closed.clone(),
            labels,
        }
    }
}

/// The counters of one listener.
#[derive(Debug, Clone)]
pub(crate) struct ListenerMetrics {
    pub(crate) open: Gauge,
    pub(crate) streams_open: Gauge,
    pub(crate) accepted: Counter,
    pub(crate) migrated: Counter,
    pub(crate) received_bytes: Counter,
    pub(crate) sent_bytes: Counter,
    pub(crate) in_flight: Gauge,
    pub(crate) retries: Counter,
    refused: Family<ReasonLabels, Counter>,
    closed: Family<ReasonLabels, Counter>,
    labels: ListenerLabels,
}

impl ListenerMetrics {
    pub(crate) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&self.reason(reason)).inc();
    }

    /// How many were refused for that reason.
    #[cfg(test)]
    pub(crate) fn refused_now(&self, reason: &'static str) -> u64 {
        self.refused.get_or_create(&self.reason(reason)).get()
    }

    pub(crate) fn closed(&self, reason: &'static str) {
        self.closed.get_or_create(&self.reason(reason)).inc();
    }

    fn reason(&self, reason: &'static str) -> ReasonLabels {
        ReasonLabels { listener: self.labels.listener.clone(), transport: self.labels.transport, reason }
    }
}

/// Adds one to a gauge for as long as it lives.
#[derive(Debug)]
pub(crate) struct Counted(Gauge);

impl Counted {
    pub(crate) fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}
