//! What serves requests: the log, the groups' coordinator and the API over them. They stand and fall with the journal, so
//! when its disk fails they go on with what they have, and are opened anew once the disk works again. Listeners and
//! connections stay as they are.
//!
//! A failed write or sync ends a journal for good (what it left on the disk cannot be known); opening anew is the same
//! recovery as after a crash, with an end that was written down.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use arc_swap::ArcSwap;
use bytes::Bytes;
use coordinator::Coordinator;
use futures::future::join_all;
use kafka::api::{Api, ApiMetrics, Handler, Parts, SessionLimits, Settings};
use kafka::{Frame, Service, Step, Weight};
use log::{Depth, Log};
use metadata::{Command, Configs, Refusal, Reply, SubmitError};
use objects::cache::Reader;
use records::TopicId;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::broker::bytes;
use crate::config::{self, Config};
use crate::environment::Environment;
use crate::lag::{self, Lag};
use crate::offsets;
use crate::shards::Shards;

/// How long an append waits for room before it is refused.
const ADMISSION_TIMEOUT: Duration = Duration::from_secs(5);
/// Batches that are not uploaded: their index takes up to 128 MiB of memory.
const STAGED_BATCHES_MAX: u64 = 4 << 20;
/// The longest that a fetch waits, whatever it asks for.
const FETCH_WAIT_MS_MAX: i32 = 60_000;
/// Partitions of the topic that keeps consumers' offsets.
const OFFSETS_PARTITIONS: i32 = 16;
/// The first wait before a disk that failed is tried again; it doubles from there.
const HEAL_FIRST: Duration = Duration::from_millis(500);
/// The longest wait between two tries.
const HEAL_LAST: Duration = Duration::from_secs(30);

/// What everything is opened on.
pub(crate) struct Ground {
    pub(crate) config: Config,
    pub(crate) environment: Environment,
    pub(crate) store: objects::Store,
    pub(crate) reader: Reader,
    pub(crate) metadata: metadata::Handle,
    /// Where this broker listens, as others are told.
    pub(crate) endpoints: Vec<metadata::Endpoint>,
    pub(crate) api_metrics: ApiMetrics,
    pub(crate) log_metrics: log::Metrics,
    pub(crate) lag_metrics: lag::Metrics,
}

/// Serves requests, on one journal after another.
pub(crate) struct Serving {
    ground: Ground,
    now: ArcSwap<Opened>,
}

/// What stands and falls with one journal.
struct Opened {
    log: Log,
    coordinator: Arc<Coordinator>,
    handler: Handler,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Service for Serving {
    fn weight(&self, payload: &Bytes) -> Weight {
        self.now.load().handler.weight(payload)
    }

    async fn start(&self, context: &Arc<kafka::Context>, frame: Frame) -> Step {
        let now = self.now.load_full();
        now.handler.start(context, frame).await
    }
}

impl Serving {
    /// Registers the broker, recovers what earlier incarnations left on the staging disk, and loads the groups.
    pub(crate) async fn open(ground: Ground) -> anyhow::Result<Self> {
        let now = ArcSwap::from_pointee(ground.open(Depth::Footers).await?);
        Ok(Self { ground, now })
    }

    /// The log as it is now.
    pub(crate) fn log(&self) -> Log {
        self.now.load().log.clone()
    }

    /// Answers what was taken, and uploads what it can in that time. Returns the bytes that stay on the staging disk.
    pub(crate) async fn close(&self, deadline: Duration) -> u64 {
        let now = self.now.load_full();
        let left = now.retire(deadline).await;
        now.log.end();
        left
    }

    /// Opens everything anew whenever the journal failed and its disk works again, until the stop. Reading goes on while
    /// the disk does not take anything.
    pub(crate) async fn heal(self: Arc<Self>, stop: CancellationToken) {
        let healing = async {
            loop {
                self.log().failed().await;
                let mut delay = HEAL_FIRST;
                while let Err(error) = self.reopen().await {
                    tracing::warn!(error = %format_args!("{error:#}"), "the staging disk does not work yet");
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(HEAL_LAST);
                }
                tracing::info!("the staging disk works again, with a new journal");
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = healing => {}
        }
    }

    async fn reopen(&self) -> anyhow::Result<()> {
        let old = self.now.load_full();
        old.log.probe().await.context("the staging disk")?;
        old.retire(Duration::ZERO).await;
        // Until this is done, and however often it fails, the old one is read from.
        // A disk that failed once is not believed: what it holds is read.
        self.now.store(Arc::new(self.ground.open(Depth::Batches).await?));
        old.log.end();
        Ok(())
    }
}

impl Opened {
    /// Ends everything but reading. Returns the bytes that stay on the staging disk.
    async fn retire(&self, deadline: Duration) -> u64 {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.coordinator.shutdown().await;
        self.log.retire(deadline).await
    }
}

impl Ground {
    async fn open(&self, depth: Depth) -> anyhow::Result<Opened> {
        let Environment { clock, random } = self.environment.clone();
        let metadata = self.metadata.clone();
        let identity = self.register(&metadata).await?;
        let environment = log::Environment {
            metadata: metadata.clone(),
            objects: self.store.clone(),
            cluster: self.config.cluster.name.clone(),
            reader: self.reader.clone(),
            clock: clock.clone(),
            random: random.clone(),
            metrics: self.log_metrics.clone(),
        };
        let log =
            Log::open(log_options(&self.config, depth), identity, environment).await.context("recovery failed")?;
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let coordinator = self.coordinator(&log, &metadata, &stop, &tasks).await?;
        let parts = Parts {
            log: log.clone(),
            metadata: metadata.clone(),
            coordinator: coordinator.clone(),
            broker: identity.broker,
            settings: settings(&self.config),
            clock: clock.clone(),
            random,
            metrics: self.api_metrics.clone(),
        };
        let api = Arc::new(Api::new(parts));
        api.prepare();
        let handler = Handler(api);
        let lag = Lag {
            coordinator: coordinator.clone(),
            log: log.clone(),
            metadata,
            clock,
            metrics: self.lag_metrics.clone(),
        };
        tasks.spawn(lag.run(Duration::from_millis(self.config.telemetry.lag_interval_ms), stop.clone()));
        Ok(Opened { log, coordinator, handler, stop, tasks })
    }

    async fn register(&self, metadata: &metadata::Handle) -> anyhow::Result<log::Identity> {
        let register = Command::RegisterBroker {
            name: self.config.broker.name.clone(),
            zone: self.config.broker.zone.clone().unwrap_or_default(),
            endpoints: self.endpoints.clone(),
            at: self.environment.clock.now(),
        };
        match metadata.submit(register).await.context("the broker cannot register")? {
            Reply::Registered { broker, incarnation } => Ok(log::Identity { broker, incarnation }),
            other => Err(anyhow!("registration was answered with {other:?}")),
        }
    }

    /// The coordinator over the partitions of the internal topic that this broker leads. The topic is made by the first
    /// broker that starts.
    async fn coordinator(
        &self,
        log: &Log,
        metadata: &metadata::Handle,
        stop: &CancellationToken,
        tasks: &TaskTracker,
    ) -> anyhow::Result<Arc<Coordinator>> {
        let Environment { clock, random } = self.environment.clone();
        if metadata.image().topic(offsets::TOPIC).is_none() {
            let create = Command::CreateTopic {
                name: offsets::TOPIC.to_owned(),
                id: TopicId(random.uuid()),
                partitions: OFFSETS_PARTITIONS.unsigned_abs(),
                configs: Configs::from([("cleanup.policy".to_owned(), "compact".to_owned())]),
                at: clock.now(),
            };
            match metadata.submit(create).await {
                // Another broker was first.
                Ok(_) | Err(SubmitError::Refused(Refusal::TopicExists { .. })) => {}
                Err(error) => return Err(error).context("the topic for consumers' offsets cannot be made"),
            }
        }
        let topic =
            metadata.image().topic(offsets::TOPIC).cloned().context("the topic for consumers' offsets is gone")?;
        let partitions = i32::try_from(topic.partitions.len()).context("too many partitions of consumers' offsets")?;
        let config = group_config(&self.config.groups);
        let coordinator = Arc::new(Coordinator::new(config, partitions, clock.clone(), random));
        let shards =
            Shards::new(coordinator.clone(), log.clone(), metadata.clone(), clock.clone(), topic.id, partitions);
        let open = shards.open_led();
        for loaded in join_all(open.iter().map(|partition| coordinator.ready(*partition))).await {
            loaded.context("committed offsets cannot be loaded")?;
        }
        tasks.spawn(shards.follow(open, stop.clone()));
        Ok(coordinator)
    }
}

fn log_options(config: &Config, depth: Depth) -> log::Options {
    log::Options {
        depth,
        staging: log::Staging::new(&config.staging.dir),
        segment_bytes: config.staging.segment_bytes,
        seal_interval: Duration::from_millis(config.staging.seal_interval_ms),
        staging_bytes_max: config.staging.bytes_max,
        staged_batches_max: STAGED_BATCHES_MAX,
        tail_bytes_max: bytes(config.cache.tail_bytes),
        inflight_bytes_max: bytes(config.limits.appends_memory_bytes),
        uploads_bytes_max: config.limits.uploads_memory_bytes,
        admission_timeout: ADMISSION_TIMEOUT,
        producers_max: 10_000,
        producer_expiration: Duration::from_secs(24 * 3600),
        retention_check_interval: Duration::from_millis(config.log.retention_check_interval_ms),
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
