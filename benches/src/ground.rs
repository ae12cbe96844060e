//! A broker's API without sockets: requests go in as frames, answers come out as bytes. The disk and the object store are
//! memory, the clock stands still and random numbers are the same in every run, so that the same requests cost the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use coordinator::Coordinator;
use journal::{Depth, Staging};
use kafka::api::{Api, ApiMetrics, Handler, Parts, SessionLimits, Settings};
use kafka::{Frame, Front, ListenerInfo, Peer, Service as _, Session, Step, Transport};
use log::{Environment, Identity, Log, Metrics};
use metadata::{Command, Configs, Controller, Reply};
use object_store::memory::InMemory;
use objects::cache::Reader;
use records::{Clock, Random, TopicId};
use tokio::time::Instant;

use crate::Void;

/// The name of the topic that is there.
pub(crate) const TOPIC: &str = "bench";
const CLUSTER: &str = "bench";
const NEVER: Duration = Duration::from_secs(24 * 3600);

struct Still;

impl Clock for Still {
    fn now(&self) -> records::Timestamp {
        records::Timestamp(1_800_000_000_000)
    }
}

struct Same(AtomicU64);

impl Random for Same {
    fn next(&self) -> u128 {
        let number = u128::from(self.0.fetch_add(1, Ordering::Relaxed)) + 1;
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
    }
}

/// The API and what it stands on.
pub struct Ground {
    handler: Handler,
    context: Arc<kafka::Context>,
    log: Log,
}

impl std::fmt::Debug for Ground {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ground").finish_non_exhaustive()
    }
}

impl Ground {
    /// One with a topic of one partition, whose newest so many bytes are in memory. The controller is closed once everything
    /// is there: nothing runs beside the requests. Needs a tokio runtime.
    ///
    /// # Errors
    /// It does not open: a bug.
    pub async fn open(tail_bytes_max: usize) -> Result<Self> {
        let (clock, random) = (Arc::new(Still), Arc::new(Same(AtomicU64::new(0))));
        let store = Arc::new(InMemory::new());
        let objects = objects::Store::new(store.clone(), "memory");
        let controller =
            Controller::open(metadata::Options::new(objects.clone(), CLUSTER, clock.clone(), random.clone())).await?;
        let metadata = controller.handle();
        let at = clock.now();
        let register = Command::RegisterBroker { name: "b".into(), zone: String::new(), endpoints: Vec::new(), at };
        let Reply::Registered { broker, incarnation } = metadata.submit(register).await? else {
            bail!("a registration is answered with its ids")
        };
        let environment = Environment {
            metadata: metadata.clone(),
            reader: Reader::new(store, objects::cache::Options::default()),
            objects,
            cluster: CLUSTER.into(),
            clock: clock.clone(),
            random: random.clone(),
            metrics: Metrics::default(),
        };
        let identity = Identity { broker, incarnation };
        let log = Log::open(Self::options(tail_bytes_max), identity, environment).await.context("the log opens")?;
        // Only now has a broker a journal that the partition can be given to.
        let create = Command::CreateTopic {
            name: TOPIC.into(),
            id: TopicId(random.uuid()),
            partitions: 1,
            configs: Configs::new(),
            at,
        };
        metadata.submit(create).await?;
        controller.close().await;
        let coordinator = Coordinator::new(coordinator::Config::default(), 1, clock.clone(), random.clone());
        let parts = Parts {
            log: log.clone(),
            metadata,
            coordinator: Arc::new(coordinator),
            broker,
            settings: Self::settings(),
            clock,
            random,
            metrics: ApiMetrics::default(),
        };
        let limits = kafka::Limits::default();
        let front = Front::new(limits.clone(), kafka::Metrics::default());
        let listener =
            ListenerInfo { name: "plain".into(), transport: Transport::Tcp, advertised: "localhost:9092".parse()? };
        let context = kafka::Context::new(
            1,
            Arc::new(listener),
            Peer::Fixed("127.0.0.1:1".parse()?),
            Arc::new(Session::default()),
            Arc::new(limits),
            front.answers().clone(),
        );
        Ok(Self { handler: Handler(Arc::new(Api::new(parts))), context, log })
    }

    /// Puts a request, without its length prefix, and gives the whole answer, not yet put together.
    ///
    /// # Errors
    /// It is not answered.
    pub async fn ask(&self, payload: Bytes) -> Result<wire::Rope> {
        self.ask_slowly(payload, Duration::ZERO).await
    }

    /// As [`Ground::ask`], with a pause of the whole thread between the beginning of a request and its answer: the journal's
    /// thread then always is the one that waits, and always done before it is asked for, so that every request goes the same
    /// way through both threads.
    ///
    /// # Errors
    /// As [`Ground::ask`].
    pub async fn ask_slowly(&self, payload: Bytes, pause: Duration) -> Result<wire::Rope> {
        let frame = Frame { payload, received_at: Instant::now() };
        let step = self.handler.start(&self.context, frame).await;
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
        match step {
            Step::Reply(rope) => Ok(rope),
            Step::Later(answer) => Ok(answer.await.context("an answer")?.bytes),
            other => bail!("no answer but {other:?}"),
        }
    }

    /// Ends the tasks and the journal's thread.
    pub async fn close(self) {
        drop(self.handler);
        self.log.close(Duration::ZERO).await;
    }

    fn options(tail_bytes_max: usize) -> log::Options {
        log::Options {
            staging: Staging::on(Arc::new(Void::default()), "/staging"),
            depth: Depth::Footers,
            segment_bytes: 1 << 30,
            seal_interval: NEVER,
            staging_bytes_max: 4 << 30,
            staged_batches_max: 1 << 20,
            tail_bytes_max,
            inflight_bytes_max: 8 << 20,
            uploads_bytes_max: 8 << 20,
            admission_timeout: NEVER,
            producers_max: 100,
            producer_expiration: NEVER,
            retention_check_interval: NEVER,
        }
    }

    fn settings() -> Settings {
        Settings {
            auto_create_topics: false,
            num_partitions: 1,
            default_replication_factor: 1,
            replication_factor_lenient: true,
            file_configs: Configs::new(),
            fetch_bytes_max: 50 << 20,
            fetch_wait_ms_max: 60_000,
            inflated_bytes_max: 64 << 20,
            fetch_sessions: SessionLimits { sessions_max: 10, partitions_max: 1000 },
        }
    }
}
