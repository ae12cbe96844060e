//! One broker, assembled from the crates below: this is where everything meets, and nothing is decided.
//!
//! [`start`] binds the listeners and says where they are; the rest boots behind it: pre-flight, metadata, recovery of
//! what earlier incarnations left on the staging disk, groups. Requests are answered from [`Broker::ready`] on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow};
use coordinator::Coordinator;
use futures::future::join_all;
use kafka::api::{Api, ApiMetrics, Handler, Parts, SessionLimits, Settings};
use kafka::{Front, Listener, ListenerConfig};
use log::Log;
use metadata::{Command, Configs, Controller, Reply};
use objects::cache::Reader;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use records::{TopicId, TopicPartition};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::certificates;
use crate::config::{self, Authentication, Config, Protocol};
use crate::environment::Environment;
use crate::lag::{self, Lag};
use crate::offsets::{self, OffsetsPartition};

/// How long an append waits for room before it is refused.
const ADMISSION_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the metadata may take to close.
const CONTROLLER_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest that a fetch waits, whatever it asks for.
const FETCH_WAIT_MS_MAX: i32 = 60_000;
/// A shorter secret could be guessed.
const QUIC_TOKEN_SECRET_LEN_MIN: usize = 32;
/// Partitions of the topic that keeps consumers' offsets.
const OFFSETS_PARTITIONS: i32 = 16;

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
    log: Log,
    coordinator: Arc<Coordinator>,
    controller: Controller,
    /// Ends the listeners.
    stop: CancellationToken,
    tasks: TaskTracker,
}

/// What the HTTP server is asked about.
#[derive(Default)]
struct Status {
    booted: AtomicBool,
    log: Mutex<Option<Log>>,
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
    let front = Front::new(front_limits(&config.limits), front_metrics);
    let reader = Reader::new(store.object_store().clone(), cache_options(&config.cache));
    reader.metrics().register(&mut registry);
    let log_metrics = log::Metrics::default();
    log_metrics.register(&mut registry);
    let lag_metrics = lag::Metrics::default();
    lag_metrics.register(&mut registry);

    let certificate_metrics = certificates::Metrics::default();
    certificate_metrics.register(&mut registry);

    let Bound { listeners, mut addresses, certificates } = bind(&config, &front)?;
    let status = Arc::new(Status::default());
    let sources = http::Sources { health: health(&status), metrics: Arc::new(registry) };
    let mut http = Vec::new();
    for listener in config.listeners.iter().filter(|listener| listener.protocol == Protocol::Http) {
        for address in listener.bind_addresses().with_context(|| format!("listener {}", listener.name))? {
            let server = http::Server::start(address, sources.clone(), http::Limits::default()).await?;
            addresses.push(Address {
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
        config,
        environment,
        store,
        reader,
        listeners,
        certificates,
        status,
        api_metrics,
        log_metrics,
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
            running.coordinator.shutdown().await;
            let left = running.log.close(self.drain_timeout).await;
            if left > 0 {
                tracing::warn!(bytes = left, "left on the staging disk: uploaded after the next start");
            }
            // A store that hangs does not hold up the end: what is not written down is found again at the next start.
            if tokio::time::timeout(CONTROLLER_TIMEOUT, running.controller.close()).await.is_err() {
                tracing::warn!("the metadata could not be closed in time");
            }
        }
        for server in self.http {
            server.stop().await;
        }
        Ok(())
    }
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
        ..kafka::Limits::default()
    }
}

/// A number of bytes in memory.
fn bytes(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

fn cache_options(cache: &config::Cache) -> objects::cache::Options {
    objects::cache::Options {
        chunk_bytes: u64::from(cache.chunk_bytes),
        capacity_bytes: cache.memory_bytes,
        fetches_max: cache.fetches_max as usize,
        prefetches_max: cache.prefetches_max as usize,
    }
}

fn health(status: &Arc<Status>) -> Arc<http::Health> {
    let booted = |status: &Arc<Status>| {
        let status = status.clone();
        move || match status.booted.load(Ordering::Acquire) {
            true => Ok(()),
            false => Err("the broker is starting: it reads the metadata and recovers the staging disk".to_owned()),
        }
    };
    let writable = {
        let status = status.clone();
        move || match status.log.lock().as_ref().map(Log::is_writable) {
            Some(true) => Ok(()),
            Some(false) => Err("the staging disk failed: look at the log, then start the broker again".to_owned()),
            None => Err("the log is not open yet".to_owned()),
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
    for listener in config.listeners.iter().filter(|listener| listener.protocol != Protocol::Http) {
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
    certificates: Vec<Arc<tls::Server>>,
    status: Arc<Status>,
    api_metrics: ApiMetrics,
    log_metrics: log::Metrics,
    lag_metrics: lag::Metrics,
    certificate_metrics: certificates::Metrics,
    fail: watch::Sender<Option<String>>,
}

impl Boot {
    async fn run(self) -> anyhow::Result<Running> {
        let Environment { clock, random } = self.environment.clone();
        objects::preflight::run(&self.store, &random).await.context("the object store cannot be used")?;
        let cluster = self.config.cluster.name.clone();
        let mut options = metadata::Options::new(self.store.clone(), &cluster, clock.clone(), random.clone());
        options.limits.topics_max = self.config.limits.topics_max as usize;
        options.limits.partitions_max = self.config.limits.partitions_max as usize;
        let controller = Controller::open(options).await.context("the cluster's metadata cannot be opened")?;
        let metadata = controller.handle();
        let identity = self.register(&metadata).await?;
        let environment = log::Environment {
            metadata: metadata.clone(),
            objects: self.store.clone(),
            cluster,
            reader: self.reader.clone(),
            clock: clock.clone(),
            random: random.clone(),
            metrics: self.log_metrics.clone(),
        };
        let log = Log::open(log_options(&self.config), identity, environment).await.context("recovery failed")?;
        let coordinator = self.coordinator(&log, &metadata).await?;
        let parts = Parts {
            log: log.clone(),
            metadata: metadata.clone(),
            coordinator: coordinator.clone(),
            broker: identity.broker,
            settings: settings(&self.config),
            clock,
            random,
            metrics: self.api_metrics,
        };
        let handler = Arc::new(Handler(Arc::new(Api::new(parts))));
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let interval = Duration::from_millis(self.config.tls.reload_interval_ms);
        tasks.spawn(certificates::watch(self.certificates, interval, self.certificate_metrics, stop.clone()));
        for listener in self.listeners {
            tasks.spawn(listener.run(handler.clone(), stop.clone()));
        }
        let lag = Lag {
            coordinator: coordinator.clone(),
            log: log.clone(),
            metadata: metadata.clone(),
            clock: self.environment.clock.clone(),
            metrics: self.lag_metrics,
        };
        tasks.spawn(lag.run(Duration::from_millis(self.config.telemetry.lag_interval_ms), stop.clone()));
        let (fail, stopped) = (self.fail, stop.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                reason = metadata.stopped() => { let _ = fail.send(Some(format!("the controller ended: {reason}"))); }
            }
        });
        *self.status.log.lock() = Some(log.clone());
        self.status.booted.store(true, Ordering::Release);
        Ok(Running { log, coordinator, controller, stop, tasks })
    }

    async fn register(&self, metadata: &metadata::Handle) -> anyhow::Result<log::Identity> {
        let register = Command::RegisterBroker {
            name: self.config.broker.name.clone(),
            zone: self.config.broker.zone.clone().unwrap_or_default(),
            endpoints: Vec::new(),
            at: self.environment.clock.now(),
        };
        match metadata.submit(register).await.context("the broker cannot register")? {
            Reply::Registered { broker, incarnation } => Ok(log::Identity { broker, incarnation }),
            other => Err(anyhow!("registration was answered with {other:?}")),
        }
    }

    /// The coordinator over all partitions of the internal topic, which is made at the first start.
    async fn coordinator(&self, log: &Log, metadata: &metadata::Handle) -> anyhow::Result<Arc<Coordinator>> {
        let Environment { clock, random } = self.environment.clone();
        if metadata.image().topic(offsets::TOPIC).is_none() {
            let create = Command::CreateTopic {
                name: offsets::TOPIC.to_owned(),
                id: TopicId(random.uuid()),
                partitions: OFFSETS_PARTITIONS.unsigned_abs(),
                configs: Configs::from([("cleanup.policy".to_owned(), "compact".to_owned())]),
                at: clock.now(),
            };
            metadata.submit(create).await.context("the topic for consumers' offsets cannot be made")?;
        }
        let topic =
            metadata.image().topic(offsets::TOPIC).cloned().context("the topic for consumers' offsets is gone")?;
        let partitions = i32::try_from(topic.partitions.len()).context("too many partitions of consumers' offsets")?;
        let coordinator = Coordinator::new(group_config(&self.config.groups), partitions, clock.clone(), random);
        for partition in 0..partitions {
            let id = TopicPartition { topic: topic.id, partition: partition.into() };
            let storage = OffsetsPartition::new(log.clone(), metadata.clone(), clock.clone(), id);
            coordinator.open(partition, Arc::new(storage));
        }
        for loaded in join_all((0..partitions).map(|partition| coordinator.ready(partition))).await {
            loaded.context("committed offsets cannot be loaded")?;
        }
        Ok(Arc::new(coordinator))
    }
}

fn log_options(config: &Config) -> log::Options {
    log::Options {
        staging: config.staging.dir.clone(),
        segment_bytes: config.staging.segment_bytes,
        seal_interval: Duration::from_millis(config.staging.seal_interval_ms),
        staging_bytes_max: config.staging.bytes_max,
        tail_bytes_max: bytes(config.cache.tail_bytes),
        inflight_bytes_max: bytes(config.limits.appends_memory_bytes),
        admission_timeout: ADMISSION_TIMEOUT,
        producers_max: 10_000,
        producer_expiration: Duration::from_secs(24 * 3600),
    }
}

fn group_config(groups: &config::Groups) -> coordinator::Config {
    coordinator::Config {
        initial_rebalance_delay: Duration::from_millis(groups.initial_rebalance_delay_ms.into()),
        session_timeout_min: Duration::from_millis(groups.session_timeout_min_ms.into()),
        session_timeout_max: Duration::from_millis(groups.session_timeout_max_ms.into()),
        group_size_max: groups.members_max as usize,
        groups_max: groups.groups_max as usize,
        offset_metadata_bytes_max: groups.offset_metadata_bytes_max as usize,
        offsets_retention: Duration::from_millis(groups.offsets_retention_ms),
        ..coordinator::Config::default()
    }
}

fn settings(config: &Config) -> Settings {
    let topics = &config.topics;
    let file = [
        ("num.partitions", topics.num_partitions.to_string()),
        ("message.max.bytes", topics.message_bytes_max.to_string()),
        ("auto.create.topics.enable", topics.auto_create.to_string()),
        ("default.replication.factor", topics.default_replication_factor.to_string()),
    ];
    Settings {
        auto_create_topics: topics.auto_create,
        num_partitions: topics.num_partitions,
        default_replication_factor: topics.default_replication_factor,
        replication_factor_lenient: topics.replication_factor_lenient,
        file_configs: file.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        fetch_bytes_max: config.limits.fetch_bytes_max as usize,
        fetch_wait_ms_max: FETCH_WAIT_MS_MAX,
        inflated_bytes_max: bytes(config.limits.inflated_memory_bytes),
        fetch_sessions: SessionLimits {
            sessions_max: config.limits.fetch_sessions_max as usize,
            partitions_max: config.limits.fetch_session_partitions_max as usize,
        },
    }
}
