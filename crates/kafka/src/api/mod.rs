//! What answers Kafka's requests: one module per API or family of APIs, and the table that leads to them.
//!
//! A request is decoded, checked and, where it appends, appended in its order of arrival (the *start*); what it then has
//! to wait for is waited for later, so that a connection's next request is not held up ([`Step::Later`]).
//! An API is advertised when it stands in [`SERVED`], and only then.

mod configs;
mod create_topics;
mod describe;
mod error;
mod fetch;
mod groups;
mod inflate;
mod init_producer_id;
mod list_offsets;
mod metadata;
mod metrics;
mod offsets;
mod produce;
mod records_admin;
mod topic_configs;
mod versions;

use std::sync::Arc;
use std::time::Duration;

use ::metadata::{Configs, Image, Topic, TopicConfig};
use ::records::{Clock, Random};
use bytes::Bytes;
use coordinator::Coordinator;
use log::Log;
use tokio::time::Instant;
use wire::error_code::ErrorCode;
use wire::{ApiKey, DecodeError, Message, RequestHeader};

use crate::{Answer, Context, Frame, Reservation, Service, Step, Weight};

pub use fetch::SessionLimits;
pub use metrics::Metrics as ApiMetrics;
pub use versions::SERVED;

/// What a broker answers with where a request leaves it open.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whether a topic is made when a client asks for its metadata by name.
    pub auto_create_topics: bool,
    /// Partitions of a topic whose creator names no number.
    pub num_partitions: i32,
    /// The replication factor that is reported. Durability does not hang on it.
    pub default_replication_factor: i16,
    /// Whether a larger replication factor than there are brokers is accepted, kept and reported.
    pub replication_factor_lenient: bool,
    /// What the configuration file says of broker keys, by Kafka's names.
    pub file_configs: Configs,
    /// The most bytes of records one fetch returns, whatever it asks for.
    pub fetch_bytes_max: usize,
    /// The longest that a fetch waits.
    pub fetch_wait_ms_max: i32,
    /// How many bytes batches may be inflated to at once, by all requests together.
    pub inflated_bytes_max: usize,
    /// How many fetch sessions are kept.
    pub fetch_sessions: SessionLimits,
}

/// What an API is made of.
pub struct Parts {
    /// The log.
    pub log: Log,
    /// The metadata.
    pub metadata: ::metadata::Handle,
    /// The coordinator of consumer groups.
    pub coordinator: Arc<Coordinator>,
    /// This broker's id.
    pub broker: ::records::BrokerId,
    /// What the configuration says.
    pub settings: Settings,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness for ids.
    pub random: Arc<dyn Random>,
    /// The counters.
    pub metrics: ApiMetrics,
}

/// How much more memory a request takes when it is decoded.
const DECODED_FACTOR: usize = 8;
/// What a partition (or a topic) of a Produce takes besides its records, decoded and until it is answered.
const PRODUCED_PARTITION_BYTES: usize = 1 << 10;
/// The largest request of an API other than Produce, in bytes: a fetch of half a million partitions.
const PLAIN_BYTES_MAX: usize = 16 << 20;

/// Working on so many partitions takes about a millisecond.
const LONG_PARTITIONS: usize = 1000;
/// A request of an API other than Produce names about as many things in so many bytes.
const LONG_BYTES: usize = 16 << 10;

/// Whether an answer may be large though its request is small: it is not begun while memory for answers is short.
fn may_answer_much(key: ApiKey) -> bool {
    matches!(
        key,
        ApiKey::Metadata
            | ApiKey::DescribeTopicPartitions
            | ApiKey::DescribeConfigs
            | ApiKey::DescribeLogDirs
            | ApiKey::DescribeProducers
            | ApiKey::ElectLeaders
            | ApiKey::ListGroups
            | ApiKey::DescribeGroups
            | ApiKey::OffsetFetch
    )
}

/// Answers requests.
pub struct Api {
    parts: Parts,
    producer_ids: init_producer_id::ProducerIds,
    fetch_sessions: fetch::Sessions,
    inflating: inflate::Gate,
    topic_configs: topic_configs::TopicConfigs,
}

impl std::ops::Deref for Api {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl Api {
    /// An API over these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let limits = parts.settings.fetch_sessions;
        let fetch_sessions = fetch::Sessions::new(limits, parts.random.clone(), parts.metrics.clone());
        let inflating = inflate::Gate::new(parts.settings.inflated_bytes_max);
        let topic_configs = topic_configs::TopicConfigs::new(parts.broker, parts.settings.file_configs.clone());
        let producer_ids = init_producer_id::ProducerIds::new(parts.metadata.clone());
        Self { parts, producer_ids, fetch_sessions, inflating, topic_configs }
    }

    /// Fetches in the background what is to be there before it is asked for. Needs a tokio runtime.
    pub fn prepare(&self) {
        self.producer_ids.refill();
    }
}

/// The least and the most that a change of the metadata is waited for. Whoever asks for less would seldom get an answer.
const CHANGE_WAIT_MS: std::ops::RangeInclusive<i32> = 1_000..=60_000;

/// Until when a change of the metadata is waited for. What ran out of time may still come to pass.
fn deadline(timeout_ms: i32) -> Instant {
    let wait_ms = timeout_ms.clamp(*CHANGE_WAIT_MS.start(), *CHANGE_WAIT_MS.end());
    Instant::now() + Duration::from_millis(u64::from(wait_ms.unsigned_abs()))
}

impl Api {
    /// The configuration that holds for a topic.
    fn topic_config(&self, image: &Image, topic: &Topic) -> TopicConfig {
        self.topic_configs.of(image, topic)
    }
}

/// One request on its way: what every handler gets besides the body.
#[derive(Clone)]
pub(crate) struct Request {
    pub(crate) context: Arc<Context>,
    pub(crate) header: RequestHeader,
}

impl Request {
    pub(crate) fn version(&self) -> i16 {
        self.header.api_version
    }

    pub(crate) fn reply(&self, response: &impl Message) -> Step {
        match self.encode(response) {
            Ok(rope) => Step::Reply(rope),
            Err(error) => {
                tracing::error!(%error, key = self.header.api_key, version = self.header.api_version, "an answer could not be encoded");
                Step::Close("an answer could not be encoded".into())
            }
        }
    }

    pub(crate) fn encode(&self, response: &impl Message) -> Result<wire::Rope, wire::EncodeError> {
        wire::encode_response(self.header.api_key, self.header.api_version, self.header.correlation_id, response)
    }

    /// An answer that is still to be waited for.
    pub(crate) fn later<R: Message + Send>(self, response: impl Future<Output = R> + Send + 'static) -> Step {
        self.later_reserved(async move { (response.await, None) })
    }

    /// The same, where memory was reserved for it.
    pub(crate) fn later_reserved<R: Message + Send>(
        self,
        response: impl Future<Output = (R, Option<Reservation>)> + Send + 'static,
    ) -> Step {
        Step::Later(Box::pin(async move {
            let (response, mut reserved) = response.await;
            match self.encode(&response) {
                Ok(bytes) => {
                    if let Some(reserved) = &mut reserved {
                        reserved.set(bytes.len());
                    }
                    Some(Answer { bytes, reserved })
                }
                Err(error) => {
                    tracing::error!(%error, key = self.header.api_key, version = self.header.api_version, "an answer could not be encoded");
                    None
                }
            }
        }))
    }
}

/// The API as the listeners call it.
pub struct Handler(pub Arc<Api>);

impl Service for Handler {
    /// Records are not copied; everything else is decoded, which may take some times its size (see
    /// [`wire::memory_max`]). What is kept for each partition of a Produce counts, however little it brings.
    fn weight(&self, payload: &Bytes) -> Weight {
        let key = payload.first_chunk().map_or(-1, |key| i16::from_be_bytes(*key));
        if key == ApiKey::Produce as i16 {
            // One that cannot be counted cannot be decoded either: it closes its connection.
            let partitions = wire::produced_partitions(payload).unwrap_or(0);
            let bytes = payload.len().saturating_add(partitions.saturating_mul(PRODUCED_PARTITION_BYTES));
            return Weight { bytes, is_long: partitions > LONG_PARTITIONS };
        }
        let answers_much = ApiKey::try_from(key).is_ok_and(may_answer_much);
        Weight {
            bytes: payload.len().saturating_mul(DECODED_FACTOR),
            is_long: payload.len() > LONG_BYTES
                || answers_much && self.0.metadata.image().partition_count() > LONG_PARTITIONS,
        }
    }

    async fn start(&self, context: &Arc<Context>, frame: Frame) -> Step {
        let mut body = frame.payload;
        let header = match RequestHeader::decode(&mut body) {
            Ok(header) => header,
            Err(error) => return Step::Close(format!("a request's header cannot be read: {error}").into()),
        };
        let key = header.api_key;
        let Some(served) = versions::served(key, header.api_version) else {
            if key == ApiKey::ApiVersions as i16 {
                return versions::unsupported(&header);
            }
            // No error format exists that a client of an unknown version could read.
            return Step::Close(format!("API {key} version {} is not served", header.api_version).into());
        };
        if served != ApiKey::Produce && body.len() > PLAIN_BYTES_MAX {
            let (name, length) = (served.name(), body.len());
            return Step::Close(format!("a {name} request has {length} bytes; {PLAIN_BYTES_MAX} are allowed").into());
        }
        self.0.metrics.request(served);
        if may_answer_much(served) {
            context.answers().turn().await;
        }
        let request = Request { context: context.clone(), header };
        match self.0.dispatch(served, request, body).await {
            Ok(step) => step,
            Err(error) => Step::Close(format!("a {} request cannot be read: {error}", served.name()).into()),
        }
    }
}

impl Api {
    async fn dispatch(self: &Arc<Self>, key: ApiKey, request: Request, body: Bytes) -> Result<Step, DecodeError> {
        use wire::*;
        /// Decodes the body, asks the handler, encodes its answer.
        macro_rules! answer {
            ($module:ident => $handler:path) => {{
                let decoded = decode::<$module::Request>(body, request.version())?;
                let response = $handler(self, &request, decoded).await;
                request.reply(&response)
            }};
        }
        /// The same for those that may wait: the connection goes on.
        macro_rules! later {
            ($module:ident => $handler:path) => {{
                let decoded = decode::<$module::Request>(body, request.version())?;
                let (api, asked) = (self.clone(), request.clone());
                request.later(async move { $handler(&api, &asked, decoded).await })
            }};
        }
        Ok(match key {
            ApiKey::ApiVersions => answer!(api_versions => versions::answer),
            ApiKey::Produce => {
                let decoded = decode::<produce::Request>(body, request.version())?;
                self::produce::start(self, request, decoded).await
            }
            ApiKey::Fetch => {
                let decoded = decode::<fetch::Request>(body, request.version())?;
                let (api, asked) = (self.clone(), request.clone());
                request.later_reserved(async move { self::fetch::answer(&api, &asked, decoded).await })
            }
            ApiKey::ListOffsets => later!(list_offsets => self::list_offsets::answer),
            ApiKey::Metadata => answer!(metadata => self::metadata::answer),
            ApiKey::InitProducerId => answer!(init_producer_id => self::init_producer_id::answer),
            ApiKey::OffsetForLeaderEpoch => answer!(offset_for_leader_epoch => offsets::for_leader_epoch),
            ApiKey::DeleteRecords => answer!(delete_records => records_admin::delete),
            ApiKey::CreateTopics => answer!(create_topics => self::create_topics::create),
            ApiKey::DeleteTopics => answer!(delete_topics => self::create_topics::delete),
            ApiKey::CreatePartitions => answer!(create_partitions => self::create_topics::create_partitions),
            ApiKey::DescribeConfigs => answer!(describe_configs => configs::describe),
            ApiKey::AlterConfigs => answer!(alter_configs => configs::alter),
            ApiKey::IncrementalAlterConfigs => answer!(incremental_alter_configs => configs::incremental_alter),
            ApiKey::ListConfigResources => answer!(list_config_resources => configs::list_resources),
            ApiKey::DescribeCluster => answer!(describe_cluster => describe::cluster),
            ApiKey::DescribeTopicPartitions => answer!(describe_topic_partitions => describe::topic_partitions),
            ApiKey::DescribeProducers => answer!(describe_producers => describe::producers),
            ApiKey::DescribeLogDirs => answer!(describe_log_dirs => describe::log_dirs),
            ApiKey::ElectLeaders => answer!(elect_leaders => describe::elect_leaders),
            ApiKey::ListPartitionReassignments => answer!(list_partition_reassignments => describe::reassignments),
            ApiKey::FindCoordinator => answer!(find_coordinator => groups::find_coordinator),
            ApiKey::JoinGroup => later!(join_group => groups::join),
            ApiKey::SyncGroup => later!(sync_group => groups::sync),
            ApiKey::Heartbeat => later!(heartbeat => groups::heartbeat),
            ApiKey::LeaveGroup => later!(leave_group => groups::leave),
            ApiKey::OffsetCommit => later!(offset_commit => groups::commit),
            ApiKey::OffsetFetch => later!(offset_fetch => groups::fetch_offsets),
            ApiKey::DescribeGroups => later!(describe_groups => groups::describe),
            ApiKey::ListGroups => later!(list_groups => groups::list),
            ApiKey::DeleteGroups => later!(delete_groups => groups::delete),
            ApiKey::OffsetDelete => later!(offset_delete => groups::delete_offsets),
            other => Step::Close(format!("{} is not served", other.name()).into()),
        })
    }
}

fn decode<M: Message>(mut body: Bytes, version: i16) -> Result<M, DecodeError> {
    M::decode(&mut body, version)
}

/// The topic that a request names by id or, in older versions, by name.
pub(crate) fn topic_of(image: &::metadata::Image, name: &str, id: uuid::Uuid) -> Result<Arc<Topic>, ErrorCode> {
    if id.is_nil() {
        image.topic(name).cloned().ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    } else {
        image.topics.get(&::records::TopicId(id)).cloned().ok_or(ErrorCode::UNKNOWN_TOPIC_ID)
    }
}
