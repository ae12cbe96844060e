//! What a client is told: where the cluster is, whom to trust, how long to wait.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use records::Clock;

use crate::Target;

/// Whom to trust and who to be, for `quic://` and `kafkas://`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// A PEM file with the CAs to trust; without it, those that the operating system trusts.
    pub ca: Option<PathBuf>,
    /// A PEM file with the client's certificate chain, for clusters that ask for one. Needs `key`.
    pub cert: Option<PathBuf>,
    /// A PEM file with the key of `cert`.
    pub key: Option<PathBuf>,
    /// Trust anybody. The traffic is encrypted, but to whom is not known. Never without a person having asked for it.
    pub insecure: bool,
}

/// How to reach a cluster. All times are real durations on tokio's clock.
#[derive(Clone)]
pub struct ClientConfig {
    /// Where the cluster is; `quic://localhost:9092` by default.
    pub target: Target,
    /// Certificates.
    pub tls: TlsOptions,
    /// What the client calls itself to the brokers, for their logs and quotas.
    pub client_id: String,
    /// Tells the time that records are stamped with.
    pub clock: Arc<dyn Clock>,
    /// How long one attempt to connect may take. 10 s.
    pub connect_timeout: Duration,
    /// How long one request may take, beyond what it asks the broker to wait. 30 s. After it the connection is closed.
    pub request_timeout: Duration,
    /// How long an operation may take with all its retries, where nothing else is said. 60 s.
    pub operation_timeout: Duration,
    /// The wait before the first retry; it doubles with each. 50 ms.
    pub retry_backoff_min: Duration,
    /// The longest wait before a retry. 1 s.
    pub retry_backoff_max: Duration,
    /// How old what is known of topics and leaders may become before it is asked for again. 5 min.
    pub metadata_age_max: Duration,
    /// The largest response that is read, in bytes. 128 MiB.
    pub response_bytes_max: usize,
    /// How many requests may wait for an answer on one connection. 64; producers set their own, lower limit.
    pub in_flight_max: usize,
}

impl ClientConfig {
    /// The defaults for a cluster.
    #[must_use]
    pub fn new(target: Target, clock: Arc<dyn Clock>) -> Self {
        Self {
            target,
            tls: TlsOptions::default(),
            client_id: "weir".into(),
            clock,
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            operation_timeout: Duration::from_secs(60),
            retry_backoff_min: Duration::from_millis(50),
            retry_backoff_max: Duration::from_secs(1),
            metadata_age_max: Duration::from_secs(300),
            response_bytes_max: 128 << 20,
            in_flight_max: 64,
        }
    }

    /// With these certificates.
    #[must_use]
    pub fn tls(mut self, tls: TlsOptions) -> Self {
        self.tls = tls;
        self
    }

    /// With this name.
    #[must_use]
    pub fn client_id(mut self, client_id: impl Into<String>) -> Self {
        self.client_id = client_id.into();
        self
    }
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig")
            .field("target", &self.target)
            .field("tls", &self.tls)
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}
