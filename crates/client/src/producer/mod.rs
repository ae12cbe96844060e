//! The producer: gathers records into batches, sends them to the leaders of their partitions, and tells each record's
//! caller where it was written.
//!
//! With [`ProducerConfig::idempotent`] (the default) a record is written once and in order, however often the producer
//! had to send it: the broker knows the producer's id and the sequence of its batches. Where even that cannot tell
//! whether a record was written, its caller gets [`Error::Unknown`](crate::Error::Unknown), and it is not sent again.

mod accumulator;
mod partitioner;
mod sender;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use records::{Builder, Codec, HEADER_LEN, RecordHeader, Timestamp};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::accumulator::Accumulator;
use crate::cluster::{Cluster, Lanes};
use crate::metadata::Topic;
use crate::{Error, Offset};

/// How many brokers must have a record before its caller is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Acks {
    /// None: the record is written to the socket, and nothing is known of its fate.
    None,
    /// The leader.
    Leader,
    /// As many as the cluster is configured to wait for.
    #[default]
    All,
}

impl Acks {
    fn number(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// How a producer behaves.
#[derive(Debug, Clone)]
pub struct ProducerConfig {
    /// Whom to wait for. [`Acks::All`].
    pub acks: Acks,
    /// Write each record once and in order, whatever happens. Needs [`Acks::All`]. On.
    pub idempotent: bool,
    /// How batches are compressed. Not at all.
    pub compression: Codec,
    /// How large a batch may grow before it is sent, in bytes before compression. A larger record gets a batch of its own;
    /// what a broker takes is the broker's choice (Kafka's default: 1 MiB). 256 KiB.
    pub batch_bytes: usize,
    /// How long a batch may wait for more records. 5 ms.
    pub linger: Duration,
    /// The most bytes of records that wait for their answers; beyond it [`Producer::send`] waits. 64 MiB.
    pub memory_bytes: usize,
    /// The most bytes in one request. 8 MiB.
    pub request_bytes: usize,
    /// How many requests may be under way to one broker, 1 to 5: a broker remembers the last five batches. 5.
    pub in_flight_max: usize,
    /// How long a record may take from [`Producer::send`] to its outcome, retries included. 120 s.
    pub delivery_timeout: Duration,
    /// How long [`Producer::send`] waits for memory or to learn of the topic. 60 s.
    pub block_timeout: Duration,
    /// Let the broker make topics that do not exist, where it is configured to. On.
    pub create_topics: bool,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            acks: Acks::All,
            idempotent: true,
            compression: Codec::None,
            batch_bytes: 256 << 10,
            linger: Duration::from_millis(5),
            memory_bytes: 64 << 20,
            request_bytes: 8 << 20,
            in_flight_max: 5,
            delivery_timeout: Duration::from_secs(120),
            block_timeout: Duration::from_secs(60),
            create_topics: true,
        }
    }
}

impl ProducerConfig {
    fn check(&self) -> Result<(), Error> {
        let wrong = |text: &str| Err(Error::Config(text.into()));
        if self.idempotent && self.acks != Acks::All {
            return wrong("an idempotent producer needs acks from all: set `acks` to all, or turn `idempotent` off");
        }
        if !(1..=5).contains(&self.in_flight_max) {
            return wrong("in_flight_max must be 1 to 5");
        }
        if self.memory_bytes == 0 || self.memory_bytes > Semaphore::MAX_PERMITS.min(u32::MAX as usize) {
            return wrong("memory_bytes must be above 0 and below 4 GiB");
        }
        if self.batch_bytes > 1 << 30 {
            return wrong("batch_bytes must not be above 1 GiB");
        }
        Ok(())
    }
}

/// A record to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRecord {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition; without one the key decides, and without a key the producer.
    pub partition: Option<i32>,
    /// When it was made; without it, now.
    pub timestamp: Option<Timestamp>,
    /// The key.
    pub key: Option<Bytes>,
    /// The value.
    pub value: Option<Bytes>,
    /// The headers, in order; names may repeat.
    pub headers: Vec<RecordHeader>,
}

impl NewRecord {
    /// An empty record for a topic.
    #[must_use]
    pub fn to(topic: impl Into<Arc<str>>) -> Self {
        Self { topic: topic.into(), partition: None, timestamp: None, key: None, value: None, headers: vec![] }
    }

    /// With this key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// With this value.
    #[must_use]
    pub fn value(mut self, value: impl Into<Bytes>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// For this partition.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Made at this time.
    #[must_use]
    pub fn timestamp(mut self, timestamp: Timestamp) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        self.headers.push((name.into(), Some(value.into())));
        self
    }
}

/// Where a record was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// The partition.
    pub partition: i32,
    /// Its offset; `None` where the broker did not say: with [`Acks::None`], or when it had the batch already and no
    /// longer remembered where.
    pub offset: Option<Offset>,
    /// The time of the append, where the topic's records have that instead of their own.
    pub append_time: Option<Timestamp>,
}

/// The future of a sent record. Dropping it does not take the record back.
#[derive(Debug)]
#[must_use = "only the outcome tells whether the record was written"]
pub struct Delivery(oneshot::Receiver<Result<Delivered, Error>>);

impl Future for Delivery {
    type Output = Result<Delivered, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|answer| answer.unwrap_or(Err(Error::Closed("producer"))))
    }
}

/// Writes records. Shared by reference between tasks; records that one task sends to one partition keep their order.
///
/// ```no_run
/// # async fn example(client: client::Client) -> Result<(), client::Error> {
/// use client::{NewRecord, ProducerConfig};
///
/// let producer = client.producer(ProducerConfig::default())?;
/// let mut deliveries = Vec::new();
/// for number in 0..1000 {
///     deliveries.push(producer.send(NewRecord::to("numbers").value(format!("{number}"))).await?);
/// }
/// for delivery in deliveries {
///     delivery.await?;
/// }
/// producer.close().await
/// # }
/// ```
pub struct Producer {
    cluster: Arc<Cluster>,
    config: ProducerConfig,
    accumulator: Arc<Accumulator>,
    memory: Arc<Semaphore>,
    stop: CancellationToken,
    /// The sender; aborted when the producer is dropped.
    sender: Mutex<JoinSet<()>>,
    number: u64,
}

impl Producer {
    pub(crate) fn start(cluster: &Arc<Cluster>, config: ProducerConfig) -> Result<Self, Error> {
        config.check()?;
        let accumulator = Arc::new(Accumulator::new(config.compression, config.batch_bytes, config.linger));
        let stop = CancellationToken::new();
        let lanes = Lanes::new(cluster);
        let number = lanes.number();
        let mut sender = JoinSet::new();
        sender.spawn(
            sender::Sender::new(cluster.clone(), lanes, config.clone(), accumulator.clone(), stop.clone()).run(),
        );
        Ok(Self {
            cluster: cluster.clone(),
            memory: Arc::new(Semaphore::new(config.memory_bytes)),
            config,
            accumulator,
            stop,
            sender: Mutex::new(sender),
            number,
        })
    }

    /// Takes a record for sending. Waits while the producer's memory is full (backpressure), and, for a topic that was not
    /// used before, until the cluster has told of it. The [`Delivery`] gives the outcome.
    ///
    /// Safe to cancel: until it returns, the record is not taken.
    ///
    /// # Errors
    /// The topic or partition does not exist, the record is larger than the producer's memory, or the wait took longer
    /// than [`ProducerConfig::block_timeout`].
    pub async fn send(&self, record: NewRecord) -> Result<Delivery, Error> {
        let size =
            HEADER_LEN + Builder::record_size_max(record.key.as_deref(), record.value.as_deref(), &record.headers);
        if size > self.config.memory_bytes {
            return Err(Error::TooLarge { len: size, bytes_max: self.config.memory_bytes });
        }
        let permits = u32::try_from(size).map_err(|_| Error::TooLarge { len: size, bytes_max: u32::MAX as usize })?;
        let topic = match self.cluster.known_topic(&record.topic) {
            Some(topic) => topic,
            None => self.learn(&record.topic).await?,
        };
        let memory = match self.memory.clone().try_acquire_many_owned(permits) {
            Ok(memory) => memory,
            Err(_) => {
                // What lingers holds the memory that is waited for.
                let _hurry = self.accumulator.hurry();
                let acquired =
                    timeout(self.config.block_timeout, self.memory.clone().acquire_many_owned(permits)).await;
                acquired
                    .map_err(|_| self.blocked("waiting for the producer's memory"))?
                    .map_err(|_| Error::Closed("producer"))?
            }
        };
        let timestamp = record.timestamp.unwrap_or_else(|| self.cluster.config.clock.now());
        self.accumulator.append(&record, &topic, timestamp, memory, self.number).map(Delivery)
    }

    /// How many partitions a topic has: for callers that choose partitions themselves. Safe to cancel.
    ///
    /// # Errors
    /// The topic does not exist, or the cluster cannot be reached within [`ProducerConfig::block_timeout`].
    pub async fn partition_count(&self, topic: &str) -> Result<i32, Error> {
        Ok(self.learn(topic).await?.count())
    }

    async fn learn(&self, topic: &str) -> Result<Arc<Topic>, Error> {
        let limit = self.config.block_timeout;
        let asking = self.cluster.retry(limit, || self.cluster.topic(topic, self.config.create_topics));
        timeout(limit, asking).await.map_err(|_| self.blocked("learning of the topic"))?
    }

    fn blocked(&self, what: &str) -> Error {
        Error::TimedOut { what: what.into(), after: self.config.block_timeout }
    }

    /// Sends what waits without lingering, and waits until every record sent before has its outcome. The outcomes
    /// themselves are in the [`Delivery`]s. Safe to cancel.
    pub async fn flush(&self) {
        self.accumulator.flush().await;
    }

    /// Takes no more records, waits for the outcomes of those it has, and ends. If cancelled, the producer is closed and
    /// the records under way go on until it is dropped.
    ///
    /// # Errors
    /// None today; outcomes are in the [`Delivery`]s.
    pub async fn close(&self) -> Result<(), Error> {
        self.accumulator.close();
        self.accumulator.flush().await;
        self.stop.cancel();
        let mut sender = std::mem::take(&mut *self.sender.lock());
        while sender.join_next().await.is_some() {}
        Ok(())
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        // The sender is aborted with its JoinSet; whoever still waits for an outcome is told that there is none.
        self.accumulator.clear();
    }
}
