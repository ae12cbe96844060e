//! The cluster as a client uses it: who leads what, one connection per broker and purpose, made when first needed and
//! made again when it breaks, with growing pauses.
//!
//! Each producer and each consumer has connections of its own (a [`Lane`]), so that a fetch that waits for records never
//! stands before somebody's produce in a broker's in-order answers. Over QUIC, lanes to one broker are streams of one
//! QUIC connection.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::time::{Instant, sleep, sleep_until};
use wire::{Call, ErrorCode, Text, metadata};

use crate::connection::Connection;
use crate::metadata::{Metadata, Topic};
use crate::transport::Transport;
use crate::{Address, ClientConfig, Error};

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Purpose {
    /// Short requests of anybody.
    Control,
    /// A producer's batches.
    Produce,
    /// A consumer's fetches.
    Fetch,
    /// A group member's joins and heartbeats.
    Group,
}

/// Requests of one lane to one broker share a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Lane {
    /// The producer or consumer; 0 is shared by all.
    owner: u64,
    purpose: Purpose,
}

impl Lane {
    pub(crate) const CONTROL: Self = Self { owner: 0, purpose: Purpose::Control };
}

/// Gives out the lanes of one producer or consumer, and closes their connections when it goes.
pub(crate) struct Lanes {
    cluster: Arc<Cluster>,
    owner: u64,
}

impl Lanes {
    pub(crate) fn new(cluster: &Arc<Cluster>) -> Self {
        Self { cluster: cluster.clone(), owner: cluster.next_owner.fetch_add(1, Ordering::Relaxed) }
    }

    /// Tells this owner from the others.
    pub(crate) fn number(&self) -> u64 {
        self.owner
    }

    pub(crate) fn lane(&self, purpose: Purpose) -> Lane {
        Lane { owner: self.owner, purpose }
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.cluster.slots.lock().retain(|(_, lane), _| lane.owner != self.owner);
    }
}

/// A place for one connection.
#[derive(Default)]
struct Slot {
    connection: Option<Connection>,
    failures: u32,
    not_before: Option<Instant>,
}

type Slots = HashMap<(Address, Lane), Arc<tokio::sync::Mutex<Slot>>>;

/// See the module.
pub(crate) struct Cluster {
    pub(crate) config: ClientConfig,
    transport: Transport,
    slots: Mutex<Slots>,
    metadata: RwLock<Arc<Metadata>>,
    refreshing: tokio::sync::Mutex<Option<Instant>>,
    next_owner: AtomicU64,
    next_bootstrap: AtomicUsize,
    jitter: AtomicU64,
    /// Who coordinates which group.
    pub(crate) coordinators: Mutex<HashMap<String, i32>>,
}

impl Cluster {
    pub(crate) fn new(config: ClientConfig) -> Result<Self, Error> {
        if config.target.addresses.is_empty() {
            return Err(Error::Target { url: config.target.to_string(), problem: "it has no address" });
        }
        Ok(Self {
            transport: Transport::new(&config)?,
            jitter: AtomicU64::new(config.clock.now().0.cast_unsigned()),
            config,
            slots: Mutex::default(),
            metadata: RwLock::new(Arc::new(Metadata::empty())),
            refreshing: tokio::sync::Mutex::default(),
            next_owner: AtomicU64::new(1),
            next_bootstrap: AtomicUsize::new(0),
            coordinators: Mutex::default(),
        })
    }

    /// The latest snapshot.
    pub(crate) fn metadata(&self) -> Arc<Metadata> {
        self.metadata.read().clone()
    }

    /// Closes what is open.
    pub(crate) async fn close(&self) {
        self.slots.lock().clear();
        self.transport.close().await;
    }

    /// How long to wait before attempt number `attempt` (from 0) is repeated: doubling, and spread by a fifth, so that
    /// many clients do not come back at once.
    pub(crate) fn backoff(&self, attempt: u32) -> Duration {
        let (min, max) = (self.config.retry_backoff_min, self.config.retry_backoff_max);
        let base = min.saturating_mul(1 << attempt.min(16)).min(max);
        // An odd constant walks through all 64-bit numbers; the upper bits are even enough for this.
        let draw = self.jitter.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed) >> 48;
        base.mul_f64(0.8 + 0.4 * (u32::try_from(draw).map_or(0.5, f64::from) / 65536.0))
    }

    /// Repeats an operation while it fails with a retriable error and `limit` is not over.
    pub(crate) async fn retry<T, F: Future<Output = Result<T, Error>>>(
        &self,
        limit: Duration,
        mut operation: impl FnMut() -> F,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + limit;
        let mut attempt = 0;
        loop {
            let error = match operation().await {
                Err(error) if error.is_retriable() => error,
                done => return done,
            };
            let pause = self.backoff(attempt);
            if Instant::now() + pause >= deadline {
                return Err(error);
            }
            tracing::debug!(%error, attempt, "will try again");
            attempt += 1;
            sleep(pause).await;
        }
    }

    /// The lane's connection to an address, made if need be. Safe to cancel.
    pub(crate) async fn connect(&self, address: &Address, lane: Lane) -> Result<Connection, Error> {
        let slot = self.slots.lock().entry((address.clone(), lane)).or_default().clone();
        let mut slot = slot.lock().await;
        if let Some(connection) = slot.connection.as_ref().filter(|connection| !connection.is_closed()) {
            return Ok(connection.clone());
        }
        slot.connection = None;
        if let Some(at) = slot.not_before {
            sleep_until(at).await;
        }
        let opened = async {
            let stream = self.transport.open(address).await?;
            Connection::start(address.clone(), stream, &self.config).await
        };
        match opened.await {
            Ok(connection) => {
                slot.failures = 0;
                slot.not_before = None;
                slot.connection = Some(connection.clone());
                Ok(connection)
            }
            Err(error) => {
                slot.not_before = Some(Instant::now() + self.backoff(slot.failures));
                slot.failures = slot.failures.saturating_add(1);
                tracing::debug!(%address, %error, "could not connect");
                Err(error)
            }
        }
    }

    /// The lane's connection to a broker, whose address is the one it gave to clients.
    pub(crate) async fn connect_broker(&self, broker: i32, lane: Lane) -> Result<Connection, Error> {
        let address = self.metadata().brokers.get(&broker).map(|broker| broker.address.clone());
        let Some(address) = address else {
            return Err(Error::broker(ErrorCode::BROKER_NOT_AVAILABLE, format!("broker {broker}")));
        };
        let connected = self.connect(&address, lane).await;
        if connected.is_err() {
            self.forget_leaders();
        }
        connected
    }

    /// A connection to whichever broker answers: one that is open, a known one, or one of the target's addresses.
    pub(crate) async fn connect_any(&self, lane: Lane) -> Result<Connection, Error> {
        let known: Vec<Address> = self.metadata().brokers.values().map(|broker| broker.address.clone()).collect();
        let seeds = &self.config.target.addresses;
        let first = self.next_bootstrap.load(Ordering::Relaxed);
        let rotated = |list: &[Address]| -> Vec<Address> {
            (0..list.len()).map(|at| list[(first + at) % list.len()].clone()).collect()
        };
        let mut failure = None;
        for address in rotated(&known).into_iter().chain(rotated(seeds)) {
            match self.connect(&address, lane).await {
                Ok(connection) => return Ok(connection),
                Err(error) => {
                    self.next_bootstrap.fetch_add(1, Ordering::Relaxed);
                    failure = Some(error);
                }
            }
        }
        Err(failure.expect("the target has an address"))
    }

    /// Asks one broker.
    pub(crate) async fn call<C: Call>(
        &self,
        broker: i32,
        lane: Lane,
        cap: i16,
        request: &C,
    ) -> Result<C::Response, Error> {
        let connection = self.connect_broker(broker, lane).await?;
        let version = connection.version(C::KEY, cap)?;
        connection.call(request, version, Duration::ZERO).await
    }

    /// Asks any broker.
    pub(crate) async fn call_any<C: Call>(&self, request: &C) -> Result<C::Response, Error> {
        let connection = self.connect_any(Lane::CONTROL).await?;
        let version = connection.version(C::KEY, i16::MAX)?;
        connection.call(request, version, Duration::ZERO).await
    }

    /// Asks the controller, or any broker where none is known.
    pub(crate) async fn call_controller<C: Call>(&self, request: &C) -> Result<C::Response, Error> {
        if self.metadata().generation == 0 {
            self.refresh().await?;
        }
        let controller = self.metadata().controller;
        if self.metadata().brokers.contains_key(&controller) {
            self.call(controller, Lane::CONTROL, i16::MAX, request).await
        } else {
            self.call_any(request).await
        }
    }

    /// The leader of a partition. Asks the cluster when it is not known; an answer without a leader is a retriable error.
    pub(crate) async fn leader(&self, topic: &str, partition: i32) -> Result<(i32, i32), Error> {
        let topic_info = self.topic(topic, false).await?;
        let unknown = || {
            let code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
            Error::broker(code, format!("topic {topic}, partition {partition}"))
        };
        let info = topic_info.partition(partition).ok_or_else(unknown)?;
        if info.leader >= 0 && self.metadata().brokers.contains_key(&info.leader) {
            return Ok((info.leader, info.leader_epoch));
        }
        self.forget(topic);
        let code = if info.error.is_error() { info.error } else { ErrorCode::LEADER_NOT_AVAILABLE };
        Err(Error::broker(code, format!("topic {topic}, partition {partition}")))
    }

    /// A topic, if the snapshot has it and is not too old.
    pub(crate) fn known_topic(&self, name: &str) -> Option<Arc<Topic>> {
        let known = self.metadata.read().topics.get(name).cloned();
        known.filter(|topic| topic.asked_at.elapsed() < self.config.metadata_age_max)
    }

    /// A topic, from the snapshot if it is there and not too old. `create` lets the broker make it.
    pub(crate) async fn topic(&self, name: &str, create: bool) -> Result<Arc<Topic>, Error> {
        if let Some(topic) = self.known_topic(name) {
            return Ok(topic);
        }
        let name: Arc<str> = name.into();
        let errors = self.ask(Some(vec![name.clone()]), create).await?;
        if let Some(error) = errors.get(&name) {
            return Err(error.clone());
        }
        let found = self.metadata().topics.get(&name).cloned();
        found.ok_or_else(|| Error::broker(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, format!("topic {name}")))
    }

    /// Drops what is known of a topic, so that the next look asks the cluster: for errors that say it is out of date.
    pub(crate) fn forget(&self, topic: &str) {
        let mut metadata = self.metadata.write();
        if metadata.topics.contains_key(topic) {
            Arc::make_mut(&mut metadata).topics.remove(topic);
        }
    }

    /// Drops all that is known of leaders.
    pub(crate) fn forget_leaders(&self) {
        let mut metadata = self.metadata.write();
        if !metadata.topics.is_empty() {
            Arc::make_mut(&mut metadata).topics.clear();
        }
    }

    /// Asks for the brokers.
    pub(crate) async fn refresh(&self) -> Result<(), Error> {
        self.ask(Some(vec![]), false).await.map(|_| ())
    }

    /// Asks for topics (`None`: all) and takes the answer over. Gives the errors of topics.
    pub(crate) async fn ask(
        &self,
        topics: Option<Vec<Arc<str>>>,
        create: bool,
    ) -> Result<HashMap<Arc<str>, Error>, Error> {
        let asked = Instant::now();
        let mut last = self.refreshing.lock().await;
        // Somebody else's answer came while we waited for our turn.
        if last.is_some_and(|at| at > asked)
            && let Some(topics) = &topics
        {
            let metadata = self.metadata();
            if metadata.generation > 0 && topics.iter().all(|topic| metadata.topics.contains_key(topic)) {
                return Ok(HashMap::new());
            }
        }
        let request = metadata::Request {
            topics: topics.map(|topics| {
                let topic = |name: &Arc<str>| metadata::MetadataRequestTopic {
                    name: Some(Text::from(name)),
                    ..Default::default()
                };
                topics.iter().map(topic).collect()
            }),
            allow_auto_topic_creation: create,
            ..Default::default()
        };
        let response = self.call_any(&request).await?;
        crate::error::check(response.error_code, || "asking for topics".into())?;
        let now = Instant::now();
        *last = Some(now);
        let mut metadata = self.metadata.write();
        Ok(Arc::make_mut(&mut metadata).apply(response, now))
    }
}
