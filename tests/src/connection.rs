//! One blocking connection that speaks the protocol: for tests that must know which request was answered, and how.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use bytes::{Buf as _, Bytes};
use records::{Batch, Offset};
use wire::{
    Call, ErrorCode, Message, RequestHeader, Rope, create_topics, delete_topics, fetch, init_producer_id, list_offsets,
    offset_commit, offset_fetch,
};

use crate::clock::Deadline;

/// An answer that takes longer means that the broker hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
const CREATE_TOPICS_VERSION: i16 = 5;
const DELETE_TOPICS_VERSION: i16 = 4;
const INIT_PRODUCER_ID_VERSION: i16 = 4;
const FETCH_VERSION: i16 = 12;
/// Of OffsetCommit and OffsetFetch.
const OFFSETS_VERSION: i16 = 7;
const LIST_OFFSETS_VERSION: i16 = 9;
/// The special time that asks for the first offset.
const EARLIEST: i64 = -2;
/// The special time that asks for the last offset in the object store.
const LATEST_TIERED: i64 = -5;
const FETCH_BYTES: i32 = 8 << 20;

/// A connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    next_correlation_id: i32,
}

impl Connection {
    /// Connects; nothing is sent yet.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn open(address: &str) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.set_write_timeout(Some(ANSWER_WITHIN))?;
        Ok(Self { stream, next_correlation_id: 0 })
    }

    /// Sends a request and gives its correlation id.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send<M: Message>(&mut self, version: i16, body: &M) -> Result<i32> {
        let correlation_id = self.next_correlation_id;
        self.next_correlation_id = self.next_correlation_id.wrapping_add(1);
        let header = RequestHeader {
            api_key: M::KEY.into(),
            api_version: version,
            correlation_id,
            client_id: Some("weir-tests".into()),
        };
        let frame: Rope = wire::encode_request(&header, body)?;
        for segment in frame.into_segments() {
            self.stream.write_all(&segment)?;
        }
        Ok(correlation_id)
    }

    /// Reads the next answer.
    ///
    /// # Errors
    /// The connection is broken, or the bytes are no such answer.
    pub fn receive<M: Message>(&mut self, version: i16) -> Result<(i32, M)> {
        let mut frame = self.frame()?;
        let correlation_id = wire::decode_response_header(M::KEY, version, &mut frame)?;
        let body = M::decode(&mut frame, version)?;
        if frame.has_remaining() {
            bail!("{} bytes after the answer", frame.remaining());
        }
        Ok((correlation_id, body))
    }

    /// Sends a body that is encoded already.
    ///
    /// # Errors
    /// The connection is broken.
    pub fn send_raw(&mut self, key: wire::ApiKey, version: i16, body: &[u8]) -> Result<()> {
        let header = RequestHeader { api_key: key.code(), api_version: version, correlation_id: 0, client_id: None };
        let mut head = Rope::new();
        header.encode(&mut head)?;
        let head = head.into_bytes();
        self.stream.write_all(&u32::try_from(head.len() + body.len())?.to_be_bytes())?;
        self.stream.write_all(&head)?;
        self.stream.write_all(body)?;
        Ok(())
    }

    /// Reads the next answer, of an API that is known only now.
    ///
    /// # Errors
    /// As [`Connection::receive`].
    pub fn receive_any(&mut self, key: wire::ApiKey, version: i16) -> Result<wire::Response> {
        let mut frame = self.frame()?;
        wire::decode_response_header(key, version, &mut frame)?;
        let body = wire::Response::decode(key, version, &mut frame)?;
        if frame.has_remaining() {
            bail!("{} bytes after the answer", frame.remaining());
        }
        Ok(body)
    }

    fn frame(&mut self) -> Result<Bytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut frame = vec![0; usize::try_from(i32::from_be_bytes(length)).context("a frame's length")?];
        self.stream.read_exact(&mut frame)?;
        Ok(Bytes::from(frame))
    }

    /// A request and its answer.
    ///
    /// # Errors
    /// As [`Connection::receive`].
    pub fn call<R: Call>(&mut self, version: i16, request: &R) -> Result<R::Response> {
        let sent = self.send(version, request)?;
        let (answered, response) = self.receive(version)?;
        if sent != answered {
            bail!("answer {answered} to request {sent}");
        }
        Ok(response)
    }

    /// Makes a topic, and waits until all its partitions are led (Apache Kafka answers before that).
    ///
    /// # Errors
    /// The broker refuses.
    pub fn create_topic(&mut self, name: &str, partitions: i32) -> Result<()> {
        self.create_topic_with(name, partitions, &[])
    }

    /// As [`Connection::create_topic`], with settings.
    ///
    /// # Errors
    /// The broker refuses.
    pub fn create_topic_with(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Result<()> {
        self.make_topic(name, partitions, configs)?;
        Deadline::after(ANSWER_WITHIN).wait("the topic is led", || {
            Ok((0..partitions).all(|partition| self.fetch(name, partition, Offset(0)).is_ok()).then_some(()))
        })
    }

    /// Makes a topic, whose partitions other brokers may lead.
    ///
    /// # Errors
    /// The broker refuses.
    pub fn make_topic(&mut self, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Result<()> {
        let config = |(key, value): &(&str, &str)| create_topics::CreatableTopicConfig {
            name: (*key).into(),
            value: Some((*value).into()),
            ..Default::default()
        };
        let topic = create_topics::CreatableTopic {
            name: name.into(),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.iter().map(config).collect(),
            ..Default::default()
        };
        let request = create_topics::Request { topics: vec![topic], ..Default::default() };
        let response: create_topics::Response = self.call(CREATE_TOPICS_VERSION, &request)?;
        for topic in &response.topics {
            no_error(topic.error_code).with_context(|| format!("create topic {name}"))?;
        }
        Ok(())
    }

    /// Deletes a topic.
    ///
    /// # Errors
    /// The broker refuses.
    pub fn delete_topic(&mut self, name: &str) -> Result<()> {
        let request =
            delete_topics::Request { topic_names: vec![name.into()], timeout_ms: 30_000, ..Default::default() };
        let response: delete_topics::Response = self.call(DELETE_TOPICS_VERSION, &request)?;
        for topic in &response.responses {
            no_error(topic.error_code).with_context(|| format!("delete topic {name}"))?;
        }
        Ok(())
    }

    /// A new producer's id and epoch.
    ///
    /// # Errors
    /// The broker refuses.
    pub fn init_producer_id(&mut self) -> Result<(i64, i16)> {
        let request = init_producer_id::Request { transaction_timeout_ms: 60_000, ..Default::default() };
        let response: init_producer_id::Response = self.call(INIT_PRODUCER_ID_VERSION, &request)?;
        no_error(response.error_code).context("InitProducerId")?;
        Ok((response.producer_id, response.producer_epoch))
    }

    /// Commits a group's offset in partition 0 of a topic, as one who reads without a group's members.
    ///
    /// # Errors
    /// The broker refuses.
    pub fn commit_offset(&mut self, group: &str, topic: &str, offset: i64) -> Result<()> {
        let partition = offset_commit::OffsetCommitRequestPartition { committed_offset: offset, ..Default::default() };
        let topic = offset_commit::OffsetCommitRequestTopic {
            name: topic.into(),
            partitions: vec![partition],
            ..Default::default()
        };
        let request = offset_commit::Request { group_id: group.into(), topics: vec![topic], ..Default::default() };
        let response: offset_commit::Response = self.call(OFFSETS_VERSION, &request)?;
        let partition = response.topics.first().and_then(|topic| topic.partitions.first());
        no_error(partition.context("an answer without the partition")?.error_code).context("OffsetCommit")
    }

    /// What [`Connection::commit_offset`] committed last, −1 where there is nothing.
    ///
    /// # Errors
    /// The broker refuses.
    pub fn committed_offset(&mut self, group: &str, topic: &str) -> Result<i64> {
        let topic = offset_fetch::OffsetFetchRequestTopic {
            name: topic.into(),
            partition_indexes: vec![0],
            ..Default::default()
        };
        let request = offset_fetch::Request { group_id: group.into(), topics: Some(vec![topic]), ..Default::default() };
        let response: offset_fetch::Response = self.call(OFFSETS_VERSION, &request)?;
        no_error(response.error_code).context("OffsetFetch")?;
        let partition = response.topics.first().and_then(|topic| topic.partitions.first());
        let partition = partition.context("an answer without the partition")?;
        no_error(partition.error_code).context("OffsetFetch")?;
        Ok(partition.committed_offset)
    }

    /// The last offset of a partition that lies in the object store, −1 where there is none.
    ///
    /// # Errors
    /// The broker refuses.
    pub fn last_uploaded(&mut self, topic: &str, partition: i32) -> Result<i64> {
        self.list_offset(topic, partition, LATEST_TIERED)
    }

    /// The first offset of a partition that may be read.
    ///
    /// # Errors
    /// The broker refuses.
    pub fn log_start(&mut self, topic: &str, partition: i32) -> Result<i64> {
        self.list_offset(topic, partition, EARLIEST)
    }

    fn list_offset(&mut self, topic: &str, partition: i32, timestamp: i64) -> Result<i64> {
        let place = list_offsets::ListOffsetsPartition { partition_index: partition, timestamp, ..Default::default() };
        let topic =
            list_offsets::ListOffsetsTopic { name: topic.into(), partitions: vec![place], ..Default::default() };
        let request = list_offsets::Request { replica_id: -1, topics: vec![topic], ..Default::default() };
        let response: list_offsets::Response = self.call(LIST_OFFSETS_VERSION, &request)?;
        let found = response.topics.first().and_then(|topic| topic.partitions.first()).context("the partition")?;
        no_error(found.error_code).context("ListOffsets")?;
        Ok(found.offset)
    }

    /// The batches from an offset on, as many as one answer holds, and the high watermark. Does not wait for more.
    ///
    /// # Errors
    /// The broker refuses, or a batch is damaged.
    pub fn fetch(&mut self, topic: &str, partition: i32, offset: Offset) -> Result<(Vec<Batch>, Offset)> {
        let place = fetch::FetchPartition {
            partition,
            fetch_offset: offset.0,
            partition_max_bytes: FETCH_BYTES,
            ..Default::default()
        };
        let topic = fetch::FetchTopic { topic: topic.into(), partitions: vec![place], ..Default::default() };
        let request = fetch::Request { max_bytes: FETCH_BYTES, topics: vec![topic], ..Default::default() };
        let response: fetch::Response = self.call(FETCH_VERSION, &request)?;
        no_error(response.error_code).context("fetch")?;
        let found = response.responses.first().and_then(|topic| topic.partitions.first()).context("the partition")?;
        no_error(found.error_code).with_context(|| format!("fetch of partition {partition} from {offset:?}"))?;
        let mut bytes = found.records.clone().context("records are never null")?.into_bytes();
        let mut batches = vec![];
        while let Some(batch) = Batch::split_first(&mut bytes)? {
            batch.check_crc()?;
            batches.push(batch);
        }
        Ok((batches, Offset(found.high_watermark)))
    }
}

/// The protocol's error as one of ours.
///
/// # Errors
/// The code is not 0.
pub fn no_error(code: i16) -> Result<()> {
    let code = ErrorCode::from_code(code);
    if code.is_error() { bail!("error {}: {}", code.code(), code.name()) } else { Ok(()) }
}
