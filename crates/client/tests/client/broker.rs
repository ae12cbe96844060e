//! A small cluster inside the test: as many brokers as wanted over one state, in memory. It checks producers' sequences as
//! a real broker does, and does wrong what a test asks it to.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use records::{Batch, LeaderEpoch, Offset};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use wire::{ApiKey, ErrorCode, Message, Request, RequestHeader, Text};

use crate::coordinator::Groups;

/// What a broker does wrong with one request.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// Closes the connection and does nothing.
    Lose,
    /// Does what it was asked, and closes the connection instead of answering.
    LoseAnswer,
    /// Answers with this error, for every partition.
    Refuse(ErrorCode),
    /// Waits until it is told to go on.
    Hold(Arc<Notify>),
}

/// One partition.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) batches: Vec<Batch>,
    pub(crate) start: i64,
    pub(crate) aborted: Vec<(i64, i64)>,
    leader: i32,
    epoch: i32,
    producers: HashMap<i64, ProducerState>,
}

struct ProducerState {
    epoch: i16,
    /// First and last sequence and base offset of the last five batches.
    recent: VecDeque<(i32, i32, i64)>,
}

impl Log {
    pub(crate) fn end(&self) -> i64 {
        self.batches.last().map_or(self.start, |batch| batch.next_offset().0)
    }

    /// Appends a batch at the end, or says why not. A repeated one is not appended again.
    pub(crate) fn append(&mut self, mut batch: Batch) -> Result<i64, ErrorCode> {
        if batch.check_produced(1 << 20).is_err() {
            return Err(if batch.len() > 1 << 20 { ErrorCode::MESSAGE_TOO_LARGE } else { ErrorCode::INVALID_RECORD });
        }
        let header = batch.header().clone();
        let end = self.end();
        if header.producer_id.0 >= 0 {
            let (first, last) = (header.base_sequence, header.base_sequence + header.last_offset_delta);
            let state = self.producers.entry(header.producer_id.0);
            let state =
                state.or_insert_with(|| ProducerState { epoch: header.producer_epoch.0, recent: VecDeque::new() });
            if header.producer_epoch.0 < state.epoch {
                return Err(ErrorCode::INVALID_PRODUCER_EPOCH);
            }
            if let Some(known) = state.recent.iter().find(|known| (known.0, known.1) == (first, last)) {
                return Ok(known.2);
            }
            let expected = state.recent.back().map_or(0, |known| known.1 + 1);
            if first != expected {
                return Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
            }
            state.recent.push_back((first, last, end));
            if state.recent.len() > 5 {
                state.recent.pop_front();
            }
        }
        batch.assign(Offset(end), LeaderEpoch(self.epoch));
        self.batches.push(batch);
        Ok(end)
    }
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) topics: BTreeMap<String, Vec<Log>>,
    nodes: BTreeMap<i32, SocketAddr>,
    faults: VecDeque<(ApiKey, Fault)>,
    offsets: HashMap<(String, String, i32), i64>,
    next_producer: i64,
    /// Topics that are asked for come to be, with so many partitions.
    pub(crate) auto_create: Option<usize>,
    /// How many of each kind came.
    pub(crate) requests: HashMap<ApiKey, usize>,
}

pub(crate) struct Shared {
    pub(crate) state: Mutex<State>,
    appended: Notify,
    groups: Groups,
    pub(crate) connections: AtomicUsize,
    pub(crate) quic_connections: AtomicUsize,
}

/// The brokers; they end when it is dropped.
pub(crate) struct Cluster {
    pub(crate) shared: Arc<Shared>,
    tasks: JoinSet<()>,
}

/// How a broker listens.
pub(crate) enum Listen {
    Plain,
    Tls(Arc<tls::Server>),
    Quic(Arc<tls::Server>),
}

impl Cluster {
    /// One broker on plain TCP.
    pub(crate) async fn start() -> Self {
        let mut cluster = Self::empty();
        cluster.add(1, Listen::Plain).await;
        cluster
    }

    pub(crate) fn empty() -> Self {
        let shared = Shared {
            state: Mutex::default(),
            appended: Notify::new(),
            groups: Groups::default(),
            connections: AtomicUsize::new(0),
            quic_connections: AtomicUsize::new(0),
        };
        Self { shared: Arc::new(shared), tasks: JoinSet::new() }
    }

    /// One more broker, with this id.
    pub(crate) async fn add(&mut self, node: i32, listen: Listen) -> SocketAddr {
        let shared = self.shared.clone();
        let address = match listen {
            Listen::Plain => {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                self.tasks.spawn(async move {
                    let mut connections = JoinSet::new();
                    while let Ok((stream, _)) = listener.accept().await {
                        stream.set_nodelay(true).unwrap();
                        let (reader, writer) = stream.into_split();
                        connections.spawn(serve(shared.clone(), node, reader, writer));
                    }
                });
                address
            }
            Listen::Tls(server) => {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let address = listener.local_addr().unwrap();
                self.tasks.spawn(async move {
                    let mut connections = JoinSet::new();
                    while let Ok((stream, _)) = listener.accept().await {
                        let (shared, server) = (shared.clone(), server.clone());
                        connections.spawn(async move {
                            let accepting = tokio_rustls::TlsAcceptor::from(server.tcp()).accept(stream);
                            if let Ok(stream) = accepting.await {
                                let (reader, writer) = tokio::io::split(stream);
                                serve(shared, node, reader, writer).await;
                            }
                        });
                    }
                });
                address
            }
            Listen::Quic(server) => {
                let config = quinn::ServerConfig::with_crypto(server.quic());
                let endpoint = quinn::Endpoint::server(config, "127.0.0.1:0".parse().unwrap()).unwrap();
                let address = endpoint.local_addr().unwrap();
                self.tasks.spawn(async move {
                    let mut connections = JoinSet::new();
                    while let Some(incoming) = endpoint.accept().await {
                        let shared = shared.clone();
                        connections.spawn(async move {
                            let Ok(connection) = incoming.await else { return };
                            shared.quic_connections.fetch_add(1, Ordering::Relaxed);
                            let mut streams = JoinSet::new();
                            while let Ok((writer, reader)) = connection.accept_bi().await {
                                streams.spawn(serve(shared.clone(), node, reader, writer));
                            }
                        });
                    }
                });
                address
            }
        };
        self.shared.state.lock().nodes.insert(node, address);
        address
    }

    pub(crate) fn url(&self, scheme: &str) -> String {
        let state = self.shared.state.lock();
        format!("{scheme}://127.0.0.1:{}", state.nodes.values().next().unwrap().port())
    }

    /// A topic whose partitions are all led by this broker.
    pub(crate) fn topic(&self, name: &str, partitions: usize, leader: i32) {
        let logs = (0..partitions).map(|_| Log { leader, ..Log::default() }).collect();
        self.shared.state.lock().topics.insert(name.into(), logs);
    }

    pub(crate) fn move_leader(&self, name: &str, partition: usize, leader: i32) {
        let mut state = self.shared.state.lock();
        let log = &mut state.topics.get_mut(name).unwrap()[partition];
        log.leader = leader;
        log.epoch += 1;
    }

    /// Does this wrong with the next request of this kind that no other fault is waiting for.
    pub(crate) fn fault(&self, key: ApiKey, fault: Fault) {
        self.shared.state.lock().faults.push_back((key, fault));
    }

    pub(crate) fn faults_left(&self) -> usize {
        self.shared.state.lock().faults.len()
    }

    pub(crate) fn requests(&self, key: ApiKey) -> usize {
        self.shared.state.lock().requests.get(&key).copied().unwrap_or(0)
    }

    /// The values of all records of a partition, as text.
    pub(crate) fn values(&self, name: &str, partition: usize) -> Vec<String> {
        let state = self.shared.state.lock();
        let records = state.topics[name][partition].batches.iter().flat_map(|batch| batch.records(1 << 30).unwrap());
        records.map(|record| String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap()).collect()
    }

    pub(crate) fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        self.shared.state.lock().offsets.get(&(group.into(), topic.into(), partition)).copied()
    }

    /// Forgets a member, as if its session had ended.
    pub(crate) fn expel_members(&self, group: &str) {
        self.shared.groups.expel(group);
    }

    pub(crate) fn members(&self, group: &str) -> usize {
        self.shared.groups.members(group)
    }
}

async fn serve(
    shared: Arc<Shared>,
    node: i32,
    mut reader: impl AsyncRead + Unpin,
    mut writer: impl AsyncWrite + Unpin,
) {
    shared.connections.fetch_add(1, Ordering::Relaxed);
    while let Ok(len) = reader.read_u32().await {
        let mut frame = vec![0; len as usize];
        if reader.read_exact(&mut frame).await.is_err() {
            return;
        }
        let mut input = Bytes::from(frame);
        let header = RequestHeader::decode(&mut input).unwrap();
        let key = ApiKey::from_i16(header.api_key).unwrap();
        let request = Request::decode(key, header.api_version, &mut input).unwrap();
        assert!(input.is_empty());
        let fault = {
            let mut state = shared.state.lock();
            *state.requests.entry(key).or_default() += 1;
            let at = state.faults.iter().position(|(of, _)| *of == key);
            at.and_then(|at| state.faults.remove(at)).map(|(_, fault)| fault)
        };
        if let Some(Fault::Lose) = fault {
            return;
        }
        if let Some(Fault::Hold(until)) = &fault {
            until.notified().await;
        }
        let refuse = match fault {
            Some(Fault::Refuse(code)) => Some(code),
            _ => None,
        };
        let answer = Handler { shared: &shared, node, refuse, header: &header }.answer(request).await;
        if let Some(Fault::LoseAnswer) = fault {
            return;
        }
        if let Some(answer) = answer
            && writer.write_all(&answer).await.is_err()
        {
            return;
        }
    }
}

struct Handler<'a> {
    shared: &'a Shared,
    node: i32,
    refuse: Option<ErrorCode>,
    header: &'a RequestHeader,
}

impl Handler<'_> {
    fn encode(&self, body: &impl Message) -> Option<Bytes> {
        let key = ApiKey::from_i16(self.header.api_key).unwrap();
        let rope = wire::encode_response(key, self.header.api_version, self.header.correlation_id, body);
        Some(rope.unwrap().into_bytes())
    }

    fn code(&self, otherwise: ErrorCode) -> i16 {
        self.refuse.unwrap_or(otherwise).code()
    }

    async fn answer(&self, request: Request) -> Option<Bytes> {
        match request {
            Request::ApiVersions(_) => self.encode(&self.api_versions()),
            Request::Metadata(request) => self.encode(&self.metadata(&request)),
            Request::InitProducerId(_) => {
                let mut state = self.shared.state.lock();
                state.next_producer += 1;
                self.encode(&wire::init_producer_id::Response {
                    error_code: self.code(ErrorCode::NONE),
                    producer_id: state.next_producer,
                    ..Default::default()
                })
            }
            Request::Produce(request) => {
                let acks = request.acks;
                let response = self.produce(request);
                self.shared.appended.notify_waiters();
                if acks == 0 { None } else { self.encode(&response) }
            }
            Request::Fetch(request) => self.encode(&self.fetch(&request).await),
            Request::ListOffsets(request) => self.encode(&self.list_offsets(request)),
            Request::FindCoordinator(request) => self.encode(&self.find_coordinator(request)),
            Request::OffsetCommit(request) => self.encode(&self.offset_commit(request)),
            Request::OffsetFetch(request) => self.encode(&self.offset_fetch(request)),
            Request::JoinGroup(request) => self.encode(&self.shared.groups.join(request).await),
            Request::SyncGroup(request) => self.encode(&self.shared.groups.sync(request).await),
            Request::Heartbeat(request) => self.encode(&self.shared.groups.heartbeat(&request, self.refuse)),
            Request::LeaveGroup(request) => self.encode(&self.shared.groups.leave(&request)),
            Request::CreateTopics(request) => self.encode(&self.create_topics(&request)),
            other => panic!("this broker does not serve {:?}", other.key()),
        }
    }

    fn api_versions(&self) -> wire::api_versions::Response {
        let served = wire::VERSIONS_DECODABLE.iter().map(|api| wire::api_versions::ApiVersion {
            api_key: api.key.code(),
            min_version: api.versions.0,
            max_version: api.versions.1,
            ..Default::default()
        });
        wire::api_versions::Response { api_keys: served.collect(), ..Default::default() }
    }

    fn metadata(&self, request: &wire::metadata::Request) -> wire::metadata::Response {
        use wire::metadata::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};
        let mut state = self.shared.state.lock();
        let names: Vec<String> = match &request.topics {
            Some(topics) => topics.iter().map(|topic| topic.name.as_ref().unwrap().to_string()).collect(),
            None => state.topics.keys().cloned().collect(),
        };
        let brokers = state.nodes.iter().map(|(node, address)| MetadataResponseBroker {
            node_id: *node,
            host: Text::from(address.ip().to_string()),
            port: address.port().into(),
            ..Default::default()
        });
        let brokers = brokers.collect();
        let topics = names.into_iter().map(|name| {
            if let Some(count) = state.auto_create.filter(|_| request.allow_auto_topic_creation)
                && !state.topics.contains_key(&name)
            {
                let logs = (0..count).map(|_| Log { leader: 1, ..Log::default() }).collect();
                state.topics.insert(name.clone(), logs);
            }
            let Some(logs) = state.topics.get(&name) else {
                let error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.code();
                return MetadataResponseTopic { error_code, name: Some(Text::from(name)), ..Default::default() };
            };
            let partitions = logs.iter().zip(0..).map(|(log, partition_index)| MetadataResponsePartition {
                partition_index,
                leader_id: log.leader,
                leader_epoch: log.epoch,
                replica_nodes: vec![log.leader],
                isr_nodes: vec![log.leader],
                ..Default::default()
            });
            MetadataResponseTopic {
                name: Some(Text::from(&name)),
                partitions: partitions.collect(),
                ..Default::default()
            }
        });
        let topics = topics.collect();
        wire::metadata::Response {
            brokers,
            cluster_id: Some(Text::from_static("fake")),
            controller_id: 1,
            topics,
            ..Default::default()
        }
    }

    fn create_topics(&self, request: &wire::create_topics::Request) -> wire::create_topics::Response {
        let mut state = self.shared.state.lock();
        let topics = request.topics.iter().map(|topic| {
            let exists = state.topics.contains_key(&*topic.name);
            if !exists && self.refuse.is_none() {
                let count = usize::try_from(topic.num_partitions.max(1)).unwrap();
                let logs = (0..count).map(|_| Log { leader: 1, ..Log::default() }).collect();
                state.topics.insert(topic.name.to_string(), logs);
            }
            wire::create_topics::CreatableTopicResult {
                name: topic.name.clone(),
                error_code: self.code(if exists { ErrorCode::TOPIC_ALREADY_EXISTS } else { ErrorCode::NONE }),
                num_partitions: topic.num_partitions,
                ..Default::default()
            }
        });
        let topics = topics.collect();
        wire::create_topics::Response { topics, ..Default::default() }
    }

    fn produce(&self, request: wire::produce::Request) -> wire::produce::Response {
        use wire::produce::{PartitionProduceResponse, TopicProduceResponse};
        let mut state = self.shared.state.lock();
        let mut responses = vec![];
        for topic in request.topic_data {
            let mut partition_responses = vec![];
            for data in topic.partition_data {
                let logs = state.topics.get_mut(&*topic.name).unwrap();
                let log = &mut logs[usize::try_from(data.index).unwrap()];
                let outcome = match self.refuse {
                    Some(code) => Err(code),
                    None if log.leader != self.node => Err(ErrorCode::NOT_LEADER_OR_FOLLOWER),
                    None => log.append(Batch::decode(data.records.unwrap().into_bytes()).unwrap()),
                };
                partition_responses.push(PartitionProduceResponse {
                    index: data.index,
                    error_code: outcome.err().unwrap_or(ErrorCode::NONE).code(),
                    base_offset: outcome.unwrap_or(-1),
                    ..Default::default()
                });
            }
            responses.push(TopicProduceResponse { name: topic.name, partition_responses, ..Default::default() });
        }
        wire::produce::Response { responses, ..Default::default() }
    }

    async fn fetch(&self, request: &wire::fetch::Request) -> wire::fetch::Response {
        let deadline = Instant::now() + Duration::from_millis(request.max_wait_ms.try_into().unwrap());
        loop {
            let appended = self.shared.appended.notified();
            tokio::pin!(appended);
            appended.as_mut().enable();
            let (response, enough) = self.read(request);
            if enough || timeout(deadline.duration_since(Instant::now()), appended).await.is_err() {
                return response;
            }
        }
    }

    fn read(&self, request: &wire::fetch::Request) -> (wire::fetch::Response, bool) {
        use wire::fetch::{AbortedTransaction, FetchableTopicResponse, PartitionData};
        let state = self.shared.state.lock();
        let mut enough = false;
        let topics = request.topics.iter().map(|topic| {
            let partitions = topic.partitions.iter().map(|wanted| {
                let log =
                    state.topics.get(&*topic.topic).and_then(|logs| logs.get(usize::try_from(wanted.partition).ok()?));
                let mut data = PartitionData { partition_index: wanted.partition, ..Default::default() };
                let code = match (self.refuse, log) {
                    (Some(code), _) => code,
                    (None, None) => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                    (None, Some(log)) if log.leader != self.node => ErrorCode::NOT_LEADER_OR_FOLLOWER,
                    (None, Some(log)) if wanted.current_leader_epoch < log.epoch => ErrorCode::FENCED_LEADER_EPOCH,
                    (None, Some(log)) if wanted.fetch_offset < log.start || wanted.fetch_offset > log.end() => {
                        ErrorCode::OFFSET_OUT_OF_RANGE
                    }
                    (None, Some(log)) => {
                        let mut bytes = 0;
                        let batches = log.batches.iter().filter(|batch| batch.next_offset().0 > wanted.fetch_offset);
                        let taken = batches.take_while(|batch| {
                            let room = bytes == 0
                                || bytes + batch.len() <= usize::try_from(wanted.partition_max_bytes).unwrap();
                            bytes += batch.len();
                            room
                        });
                        data.records = Some(taken.map(Batch::to_bytes).collect());
                        data.high_watermark = log.end();
                        let aborted = log.aborted.iter().map(|(producer_id, first_offset)| AbortedTransaction {
                            producer_id: *producer_id,
                            first_offset: *first_offset,
                            ..Default::default()
                        });
                        data.aborted_transactions = (request.isolation_level == 1).then(|| aborted.collect());
                        ErrorCode::NONE
                    }
                };
                enough |= code.is_error() || data.records.as_ref().is_some_and(|records| !records.is_empty());
                data.error_code = code.code();
                data
            });
            FetchableTopicResponse {
                topic: topic.topic.clone(),
                partitions: partitions.collect(),
                ..Default::default()
            }
        });
        let responses = topics.collect();
        (wire::fetch::Response { responses, ..Default::default() }, enough)
    }

    fn list_offsets(&self, request: wire::list_offsets::Request) -> wire::list_offsets::Response {
        use wire::list_offsets::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
        let state = self.shared.state.lock();
        let topics = request.topics.into_iter().map(|topic| {
            let logs = &state.topics[&*topic.name];
            let partitions = topic.partitions.into_iter().map(|wanted| {
                let log = &logs[usize::try_from(wanted.partition_index).unwrap()];
                let offset = match wanted.timestamp {
                    -1 => log.end(),
                    -2 => log.start,
                    at => {
                        let mut records = log.batches.iter().flat_map(|batch| batch.records(1 << 30).unwrap());
                        let found = records.find(|record| record.as_ref().unwrap().timestamp.0 >= at);
                        found.map_or(-1, |record| record.unwrap().offset.0)
                    }
                };
                let code = if log.leader == self.node { ErrorCode::NONE } else { ErrorCode::NOT_LEADER_OR_FOLLOWER };
                ListOffsetsPartitionResponse {
                    partition_index: wanted.partition_index,
                    error_code: self.code(code),
                    offset,
                    ..Default::default()
                }
            });
            ListOffsetsTopicResponse { name: topic.name, partitions: partitions.collect(), ..Default::default() }
        });
        let topics = topics.collect();
        wire::list_offsets::Response { topics, ..Default::default() }
    }

    fn find_coordinator(&self, request: wire::find_coordinator::Request) -> wire::find_coordinator::Response {
        let coordinators = request.coordinator_keys.into_iter().map(|key| wire::find_coordinator::Coordinator {
            key,
            node_id: 1,
            error_code: self.code(ErrorCode::NONE),
            ..Default::default()
        });
        wire::find_coordinator::Response { coordinators: coordinators.collect(), ..Default::default() }
    }

    fn offset_commit(&self, request: wire::offset_commit::Request) -> wire::offset_commit::Response {
        use wire::offset_commit::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
        let allowed = self.shared.groups.may_commit(&request);
        let code = self.code(allowed.err().unwrap_or(ErrorCode::NONE));
        let mut state = self.shared.state.lock();
        let topics = request.topics.into_iter().map(|topic| {
            let partitions = topic.partitions.into_iter().map(|partition| {
                if code == 0 {
                    let key = (request.group_id.to_string(), topic.name.to_string(), partition.partition_index);
                    state.offsets.insert(key, partition.committed_offset);
                }
                OffsetCommitResponsePartition {
                    partition_index: partition.partition_index,
                    error_code: code,
                    ..Default::default()
                }
            });
            OffsetCommitResponseTopic { partitions: partitions.collect(), name: topic.name, ..Default::default() }
        });
        let topics = topics.collect();
        wire::offset_commit::Response { topics, ..Default::default() }
    }

    fn offset_fetch(&self, request: wire::offset_fetch::Request) -> wire::offset_fetch::Response {
        use wire::offset_fetch::{OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics};
        let state = self.shared.state.lock();
        let groups = request.groups.into_iter().map(|group| {
            let topics = group.topics.unwrap().into_iter().map(|topic| {
                let partitions = topic.partition_indexes.iter().map(|partition_index| {
                    let key = (group.group_id.to_string(), topic.name.to_string(), *partition_index);
                    OffsetFetchResponsePartitions {
                        partition_index: *partition_index,
                        committed_offset: state.offsets.get(&key).copied().unwrap_or(-1),
                        error_code: self.code(ErrorCode::NONE),
                        ..Default::default()
                    }
                });
                let partitions = partitions.collect();
                OffsetFetchResponseTopics { name: topic.name, partitions, ..Default::default() }
            });
            let topics = topics.collect();
            OffsetFetchResponseGroup { group_id: group.group_id, topics, ..Default::default() }
        });
        let groups = groups.collect();
        wire::offset_fetch::Response { groups, ..Default::default() }
    }
}

/// Waits for a condition, and fails when it does not come.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}
