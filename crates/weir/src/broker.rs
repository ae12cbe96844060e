//! One broker, assembled from the crates below: this is where everything meets, and nothing is decided.
//!
//! [`start`] binds the listeners and says where they are; the rest boots behind it: pre-flight, the cluster's metadata
//! (`peers.rs`), recovery of what earlier incarnations left on the staging disk, groups. Requests are answered from [`Broker::ready`] on.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow};
use cluster::Node;
use kafka::api::ApiMetrics;
use kafka::{Front, Listener, ListenerConfig, Threads};
use metadata::Endpoint;
use objects::cache::Reader;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use records::Random;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::certificates;
use crate::config::{self, Authentication, Config, Protocol};
use crate::environment::Environment;
use crate::lag;
use crate::peers::{self, PeerListener};
use crate::serving::{Ground, Serving};

/// How long the metadata may take to close.
const NODE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long answers to other brokers may take that are under way at the end.
const PEERS_TIMEOUT: Duration = Duration::from_secs(1);
/// A disk that writes or syncs one group for so long is not ready.
const DISK_HANGS: Duration = Duration::from_secs(5);
/// A start that waits for the object store says so this often.
const STORE_SLOW: Duration = Duration::from_secs(3);
/// The pause between two tries to use a store that did not answer.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// A shorter secret could be guessed.
const QUIC_TOKEN_SECRET_LEN_MIN: usize = 32;

/// A running broker.
pub(crate) struct Broker {
    /// Where it listens, in the order of the configuration; one entry for each bound socket.
    pub(crate) addresses: Vec<Address>,
    http: Vec<http::Server>,
    booting: Mutex<Option<JoinHandle<anyhow::Result<Running>>>>,
    running: Mutex<Option<Running>>,
    /// Why the broker ended by itself, once it did.
    failed: watch::Receiver<Option<String>>,
    drain_timeout: Duration,
}

/// One bound socket.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    /// The listener's name.
    pub(crate) listener: String,
    /// What is spoken there.
    pub(crate) protocol: Protocol,
    /// Whether it is encrypted.
    pub(crate) tls: bool,
    /// The socket's own address, with the real port.
    pub(crate) bound: SocketAddr,
    /// The host and port that clients are told.
    pub(crate) advertised: (String, u16),
}

impl Address {
    /// `HOST:PORT` as clients are told.
    pub(crate) fn advertised(&self) -> String {
        let (host, port) = &self.advertised;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

/// What runs once the broker has booted.
struct Running {
    serving: Arc<Serving>,
    node: Node,
    /// What other brokers call.
    peers: Option<cluster::Server>,
    /// Ends the listeners.
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// What the HTTP server is asked about.
#[derive(Default)]
struct Status {
    booted: AtomicBool,
    /// What the start waits for, while it does.
    waits_for: Mutex<Option<String>>,
    serving: Mutex<Option<Arc<Serving>>>,
}

/// Starts a broker; returns when it listens.
pub(crate) async fn start(config: Config, environment: Environment) -> anyhow::Result<Broker> {
    std::fs::create_dir_all(&config.staging.dir)
        .with_context(|| format!("cannot make the staging folder {}", config.staging.dir.display()))?;
    let options = config.store.options().context("the object store's credentials")?;
    let store = objects::open(&config.store.url, &options).context("the object store cannot be opened")?;
    let mut registry = Registry::default();
    let front_metrics = kafka::Metrics::default();
    front_metrics.register(&mut registry);
    let api_metrics = ApiMetrics::default();
    api_metrics.register(&mut registry);
    let threads = Threads::start(processors()).context("the threads for connections cannot be started")?;
    let front = Front::on_threads(front_limits(&config.limits), front_metrics, threads);
    let lane =
        objects::Lane::start(lane_threads(&config.cache)).context("the threads for readers cannot be started")?;
    let reader = Reader::in_lane(store.for_reading().clone(), cache_options(&config.cache), lane);
    reader.metrics().register(&mut registry);
    let log_metrics = log::Metrics::default();
    log_metrics.register(&mut registry);
    let metadata_metrics = metadata::Metrics::default();
    metadata_metrics.register(&mut registry);
    let cluster_metrics = cluster::Metrics::default();
    cluster_metrics.register(&mut registry);
    let lag_metrics = lag::Metrics::default();
    lag_metrics.register(&mut registry);

    let certificate_metrics = certificates::Metrics::default();
    certificate_metrics.register(&mut registry);

    let Bound { listeners, mut addresses, mut certificates } = bind(&config, &front)?;
    let peers = peers::bind(&config).await?;
    if let Some(peers) = &peers {
        certificates.push(peers.network.certificates());
        addresses.push(peers.address.clone());
    }
    let status = Arc::new(Status::default());
    let sources = http::Sources { health: health(&status), metrics: Arc::new(registry) };
    let mut http = Vec::new();
    for listener in config.listeners.iter().filter(|listener| listener.protocol == Protocol::Http) {
        for address in listener.bind_addresses().with_context(|| format!("listener {}", listener.name))? {
            let server = http::Server::start(address, sources.clone(), http::Limits::default()).await?;
            addresses.push(Address {
                listener: listener.name.clone(),
                protocol: Protocol::Http,
                tls: false,
                bound: server.address(),
                advertised: listener.advertised(server.address()),
            });
            http.push(server);
        }
    }
    let (fail, failed) = watch::channel(None);
    let drain_timeout = Duration::from_millis(config.limits.drain_timeout_ms);
    let boot = Boot {
        endpoints: endpoints(&addresses),
        config,
        environment,
        store,
        reader,
        listeners,
        peers,
        certificates,
        status,
        api_metrics,
        log_metrics,
        metadata_metrics,
        cluster_metrics,
        lag_metrics,
        certificate_metrics,
        fail,
    };
    let booting = Mutex::new(Some(tokio::spawn(boot.run())));
    Ok(Broker { addresses, http, booting, running: Mutex::default(), failed, drain_timeout })
}

impl Broker {
    /// Waits until the broker can serve.
    pub(crate) async fn ready(&self) -> anyhow::Result<()> {
        let Some(booting) = self.booting.lock().take() else { return Ok(()) };
        let running = booting.await.context("the start was cut off")??;
        *self.running.lock() = Some(running);
        Ok(())
    }

    /// Waits until the broker ends by itself, which is always a failure; never returns while it works.
    pub(crate) async fn failed(&self) -> anyhow::Error {
        let mut failed = self.failed.clone();
        match failed.wait_for(Option::is_some).await {
            Ok(reason) => anyhow!("{}", reason.as_deref().unwrap_or_default()),
            Err(_) => std::future::pending().await,
        }
    }

    /// Stops: takes nothing new, answers what was taken, uploads what it can in the time the configuration gives.
    pub(crate) async fn drain(self) -> anyhow::Result<()> {
        if let Some(booting) = self.booting.lock().take() {
            booting.abort();
        }
        let running = self.running.lock().take();
        if let Some(running) = running {
            running.stop.cancel();
            running.tasks.close();
            running.tasks.wait().await;
            let left = running.serving.close(self.drain_timeout).await;
            if left > 0 {
                tracing::warn!(bytes = left, "left on the staging disk: uploaded after the next start");
            }
            // A store that hangs does not hold up the end: what is not written down is found again at the next start.
            if tokio::time::timeout(NODE_TIMEOUT, running.node.close()).await.is_err() {
                tracing::warn!("the metadata could not be closed in time");
            }
            if let Some(peers) = running.peers {
                peers.stop(PEERS_TIMEOUT).await;
            }
        }
        for server in self.http {
            server.stop().await;
        }
        Ok(())
    }
}

/// What others are told of where this broker listens: each listener once.
fn endpoints(addresses: &[Address]) -> Vec<Endpoint> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for address in addresses.iter().filter(|address| address.protocol != Protocol::Http) {
        let listener = match address.protocol {
            Protocol::Peer => cluster::PEER_LISTENER.to_owned(),
            _ => address.listener.clone(),
        };
        if endpoints.iter().all(|known| known.listener != listener) {
            let (host, port) = address.advertised.clone();
            endpoints.push(Endpoint { listener, host, port });
        }
    }
    endpoints
}

fn front_limits(limits: &config::Limits) -> kafka::Limits {
    kafka::Limits {
        connections_max: limits.connections_max as usize,
        connections_per_address_max: limits.connections_per_address_max as usize,
        handshakes_max: limits.handshakes_max as usize,
        handshakes_per_address_max: limits.handshakes_per_address_max as usize,
        unvalidated_handshakes_max: limits.unvalidated_handshakes_max as usize,
        handshake_timeout: Duration::from_millis(limits.handshake_timeout_ms),
        frame_bytes_max: limits.request_bytes_max as usize,
        requests_in_flight_max: limits.requests_in_flight_max as usize,
        request_bytes_in_flight_max: bytes(limits.requests_memory_bytes),
        answer_bytes_max: bytes(limits.answers_memory_bytes),
        write_timeout: Duration::from_millis(limits.write_timeout_ms),
        idle_timeout: Duration::from_millis(limits.idle_timeout_ms),
        quic_streams_max: limits.streams_per_connection_max,
        quic_windows_bytes_max: bytes(limits.quic_windows_bytes),
        ..kafka::Limits::default()
    }
}

/// A number of bytes in memory.
pub(crate) fn bytes(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Half of the processors, unless a number is given.
fn lane_threads(cache: &config::Cache) -> usize {
    match cache.threads {
        0 => processors().div_ceil(2),
        threads => threads as usize,
    }
}

/// What this process may use.
fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn cache_options(cache: &config::Cache) -> objects::cache::Options {
    objects::cache::Options {
        chunk_bytes: u64::from(cache.chunk_bytes),
        capacity_bytes: cache.memory_bytes,
        scan_bytes: cache.scan_bytes,
        fetches_max: cache.fetches_max as usize,
        prefetches_max: cache.prefetches_max as usize,
    }
}

fn health(status: &Arc<Status>) -> Arc<http::Health> {
    let booted = |status: &Arc<Status>| {
        let status = status.clone();
        move || match status.booted.load(Ordering::Acquire) {
            true => Ok(()),
            false => Err(status.waits_for.lock().clone().unwrap_or_else(|| {
                "the broker is starting: it reads the metadata and recovers the staging disk".to_owned()
            })),
        }
    };
    let writable = {
        let status = status.clone();
        move || {
            let Some(log) = status.serving.lock().as_ref().map(|serving| serving.log()) else {
                return Err("the log is not open yet".to_owned());
            };
            let waits_for = log.waits_for_disk();
            if !log.is_writable() {
                Err("the staging disk failed: nothing is appended until it works again".to_owned())
            } else if waits_for > DISK_HANGS {
                Err(format!("the staging disk has not answered for {} s: nothing is acknowledged", waits_for.as_secs()))
            } else {
                Ok(())
            }
        }
    };
    Arc::new(http::Health {
        started: vec![http::Check::new("started", booted(status))],
        ready: vec![http::Check::new("started", booted(status)), http::Check::new("journal", writable)],
    })
}

/// The Kafka listeners, where they are, and the certificates that they use.
#[derive(Default)]
struct Bound {
    listeners: Vec<Listener>,
    addresses: Vec<Address>,
    certificates: Vec<Arc<tls::Server>>,
}

/// Binds every Kafka listener, so that a taken port is reported before anything else is done.
fn bind(config: &Config, front: &Arc<Front>) -> anyhow::Result<Bound> {
    let Bound { mut listeners, mut addresses, mut certificates } = Bound::default();
    let token_key = config.tls.quic_token_key.as_ref().map(token_key).transpose()?;
    let for_clients = |listener: &&config::Listener| matches!(listener.protocol, Protocol::Kafka | Protocol::Quic);
    for listener in config.listeners.iter().filter(for_clients) {
        let protocol = match (listener.protocol, listener.tls) {
            (Protocol::Quic, _) => kafka::Protocol::Quic(tls_server(config, listener.authentication)?),
            (_, true) => kafka::Protocol::Tls(tls_server(config, listener.authentication)?),
            (_, false) => kafka::Protocol::Tcp,
        };
        if let kafka::Protocol::Quic(server) | kafka::Protocol::Tls(server) = &protocol {
            certificates.push(server.clone());
        }
        for address in listener.bind_addresses().with_context(|| format!("listener {}", listener.name))? {
            // What is told is known before the port is only where the port is given.
            let (host, port) = listener.advertised(SocketAddr::new(address.ip(), 0));
            let bound = Listener::bind(
                ListenerConfig {
                    name: listener.name.clone(),
                    address,
                    protocol: protocol.clone(),
                    advertised: Some(kafka::Address { host, port }),
                    quic_token_key: token_key.clone(),
                },
                front,
            )?;
            addresses.push(Address {
                listener: listener.name.clone(),
                protocol: listener.protocol,
                tls: listener.uses_tls(),
                bound: bound.local_address(),
                advertised: listener.advertised(bound.local_address()),
            });
            listeners.push(bound);
        }
    }
    Ok(Bound { listeners, addresses, certificates })
}

fn token_key(secret: &config::Secret) -> anyhow::Result<kafka::QuicTokenKey> {
    let secret = secret.read().context("tls.quic_token_key")?;
    let bytes = secret.reveal().as_bytes();
    if bytes.len() < QUIC_TOKEN_SECRET_LEN_MIN {
        let count = bytes.len();
        return Err(anyhow!("tls.quic_token_key has {count} bytes; it needs {QUIC_TOKEN_SECRET_LEN_MIN} at least"));
    }
    Ok(kafka::QuicTokenKey::from_secret(bytes))
}

fn tls_server(config: &Config, authentication: Authentication) -> anyhow::Result<Arc<tls::Server>> {
    let missing = |key: &str| anyhow!("a listener with TLS or QUIC needs {key}");
    let certificate = config.tls.certificate_file.clone().ok_or_else(|| missing("tls.certificate_file"))?;
    let key = config.tls.key_file.clone().ok_or_else(|| missing("tls.key_file"))?;
    let client_auth = match authentication {
        Authentication::None => tls::ClientAuth::None,
        Authentication::MutualTls => tls::ClientAuth::Required {
            ca: config.tls.client_ca_file.clone().ok_or_else(|| missing("tls.client_ca_file"))?,
        },
    };
    let settings = tls::ServerSettings { identity: tls::IdentityFiles { certificate, key }, client_auth };
    Ok(tls::Server::load(settings)?)
}

/// Everything between bound listeners and the first request.
struct Boot {
    config: Config,
    environment: Environment,
    store: objects::Store,
    reader: Reader,
    listeners: Vec<Listener>,
    /// What clients and other brokers are told, wherever they ask.
    endpoints: Vec<Endpoint>,
    peers: Option<PeerListener>,
    certificates: Vec<Arc<tls::Server>>,
    status: Arc<Status>,
    api_metrics: ApiMetrics,
    log_metrics: log::Metrics,
    metadata_metrics: metadata::Metrics,
    cluster_metrics: cluster::Metrics,
    lag_metrics: lag::Metrics,
    certificate_metrics: certificates::Metrics,
    fail: watch::Sender<Option<String>>,
}

impl Boot {
    async fn run(mut self) -> anyhow::Result<Running> {
        let Environment { clock, random } = self.environment.clone();
        self.saying_so("the object store", self.preflight(&random)).await?;
        let mut options = metadata::Options::new(self.store.clone(), &self.config.cluster.name, clock, random);
        options.limits.topics_max = self.config.limits.topics_max as usize;
        options.limits.partitions_max = self.config.limits.partitions_max as usize;
        options.delete_grace = Duration::from_millis(self.config.store.delete_grace_ms);
        options.sweep_interval = Duration::from_millis(self.config.store.sweep_interval_ms);
        options.orphan_age = Duration::from_millis(self.config.store.orphan_age_ms);
        options.metrics = self.metadata_metrics.clone();
        let (node, peers) = peers::join(&self.config, self.peers.take(), options, self.cluster_metrics.clone());
        let metadata = self.saying_so("the metadata", node.joined()).await;
        let metadata = metadata.context("the cluster's metadata cannot be opened")?;
        let ground = Ground {
            config: self.config,
            environment: self.environment,
            store: self.store,
            reader: self.reader,
            metadata: metadata.clone(),
            endpoints: self.endpoints,
            api_metrics: self.api_metrics,
            log_metrics: self.log_metrics,
            lag_metrics: self.lag_metrics,
        };
        let reload_interval = Duration::from_millis(ground.config.tls.reload_interval_ms);
        let serving = Arc::new(Serving::open(ground).await?);
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        tasks.spawn(certificates::watch(self.certificates, reload_interval, self.certificate_metrics, stop.clone()));
        for listener in self.listeners {
            tasks.spawn(listener.run(serving.clone(), stop.clone()));
        }
        tasks.spawn(serving.clone().heal(stop.clone()));
        let (fail, stopped) = (self.fail, stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                reason = metadata.stopped() => { let _ = fail.send(Some(format!("the controller ended: {reason}"))); }
            }
        });
        *self.status.serving.lock() = Some(serving.clone());
        self.status.booted.store(true, Ordering::Release);
        Ok(Running { serving, node, peers, stop, tasks })
    }

    /// Proves that the store can be used, and waits for one that does not answer.
    async fn preflight(&self, random: &Arc<dyn Random>) -> anyhow::Result<()> {
        loop {
            match objects::preflight::run(&self.store, random).await {
                Err(error) if error.is_retriable() => {
                    tracing::warn!(%error, "the object store does not answer: the start tries again");
                    tokio::time::sleep(STORE_RETRY).await;
                }
                proven => return proven.map(drop).context("the object store cannot be used"),
            }
        }
    }

    /// Does the work, and says in the log and in `/readyz` while something keeps it waiting.
    async fn saying_so<T>(&self, what: &str, work: impl Future<Output = T>) -> T {
        let started = Instant::now();
        let mut work = Box::pin(work);
        loop {
            if let Ok(done) = tokio::time::timeout(STORE_SLOW, &mut work).await {
                *self.status.waits_for.lock() = None;
                return done;
            }
            let waited_s = started.elapsed().as_secs();
            *self.status.waits_for.lock() = Some(format!("the start waits for {what} (store {})", self.store));
            tracing::warn!(store = %self.store, waited_s, "{what} cannot be used yet: the start waits");
        }
    }
}
