//! The task that sends batches. One loop over events: something new was gathered, a batch has lingered, a broker
//! answered, a connection was made. Everything it knows is its own; the accumulator is all it shares.
//!
//! Order and idempotence, per partition:
//! - Sequence numbers are given when a batch is first sent, and batches of a partition are sent in that order.
//! - When one fails and may be sent again, nothing more is sent until all others under way are answered; then the failed
//!   ones go first, in sequence.
//! - When a batch is given up, later ones may be refused for the gap. The partition then takes a new producer id and
//!   counts from 0. Batches that the broker surely does not have are sent under it; one whose fate is unknown is not, as
//!   it could be written twice: its callers are told so.

mod outcome;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use records::{Batch, ProducerEpoch, ProducerId};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use wire::{Text, init_producer_id, produce};

use super::accumulator::{Accumulator, Answer, Gathered, Ready, Ticket};
use super::{Acks, ProducerConfig};
use crate::Error;
use crate::cluster::{Cluster, Lane, Lanes, Purpose};
use crate::connection::Connection;

/// Topics are named up to this version.
const PRODUCE_CAP: i16 = 12;
/// The farewell of a producer without acks.
const BARRIER_TIMEOUT: Duration = Duration::from_secs(5);

type Key = (Arc<str>, i32);

/// What an idempotent producer calls itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    id: ProducerId,
    epoch: ProducerEpoch,
}

/// A batch that was sent, or is about to be.
struct Outgoing {
    batch: Batch,
    answers: Vec<Answer>,
    created: Instant,
    /// Its place among the partition's batches.
    number: u64,
    /// Whether the broker may have it although it did not say so.
    uncertain: bool,
    // Held until the outcome is known.
    _memory: tokio::sync::OwnedSemaphorePermit,
    _ticket: Ticket,
}

#[derive(Default)]
struct Partition {
    identity: Option<Identity>,
    next_sequence: i32,
    next_number: u64,
    /// To be sent again, by number.
    again: BTreeMap<u64, Outgoing>,
    /// Batches under way.
    in_flight: BTreeMap<u64, ()>,
    /// Nothing is sent while batches are under way: one of them failed.
    draining: bool,
    /// A new identity is needed before anything is sent.
    renewing: bool,
    failures: u32,
    not_before: Option<Instant>,
}

#[derive(Default)]
struct Broker {
    connection: Option<Connection>,
    connecting: bool,
    in_flight: usize,
    not_before: Option<Instant>,
}

/// One request under way.
struct Request {
    broker: i32,
    /// Whether it was handed to a connection: then its fate may be unknown.
    left: bool,
    batches: Vec<(Key, Outgoing)>,
}

enum Event {
    Connected(i32, Result<Connection, Error>),
    Learned(Arc<str>, Result<(), Error>),
    Identity(Option<Key>, Result<Identity, Error>),
    Answered(Request, Result<Option<produce::Response>, Error>),
}

/// See the module.
pub(super) struct Sender {
    cluster: Arc<Cluster>,
    lanes: Lanes,
    config: ProducerConfig,
    accumulator: Arc<Accumulator>,
    stop: CancellationToken,
    events: FuturesUnordered<BoxFuture<'static, Event>>,
    partitions: HashMap<Key, Partition>,
    brokers: HashMap<i32, Broker>,
    /// Topics that are being asked for, and those that were not found, until when they are left alone.
    learning: HashSet<Arc<str>>,
    unlearned: HashMap<Arc<str>, Instant>,
    identity: Option<Identity>,
    identifying: bool,
    failures: u32,
    not_before: Option<Instant>,
    /// When to look again, if nothing happens before.
    wake_at: Option<Instant>,
}

impl Sender {
    pub(super) fn new(
        cluster: Arc<Cluster>,
        lanes: Lanes,
        config: ProducerConfig,
        accumulator: Arc<Accumulator>,
        stop: CancellationToken,
    ) -> Self {
        Self {
            cluster,
            lanes,
            config,
            accumulator,
            stop,
            events: FuturesUnordered::new(),
            partitions: HashMap::new(),
            brokers: HashMap::new(),
            learning: HashSet::new(),
            unlearned: HashMap::new(),
            identity: None,
            identifying: false,
            failures: 0,
            not_before: None,
            wake_at: None,
        }
    }

    /// Runs until the producer is closed.
    pub(super) async fn run(mut self) {
        loop {
            self.wake_at = None;
            self.plan(Instant::now());
            let wake_at = self.wake_at;
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break,
                Some(event) = self.events.next(), if !self.events.is_empty() => self.handle(event),
                () = self.accumulator.wake.notified() => {}
                () = async { sleep_until(wake_at.expect("it is checked")).await }, if wake_at.is_some() => {}
            }
        }
        if self.config.acks == Acks::None {
            self.barrier().await;
        }
    }

    fn lane(&self) -> Lane {
        self.lanes.lane(Purpose::Produce)
    }

    fn wake_at(&mut self, at: Instant) {
        self.wake_at = Some(self.wake_at.map_or(at, |other| other.min(at)));
    }

    /// Sends whatever can be sent now.
    fn plan(&mut self, now: Instant) {
        let mut keys = self.accumulator.partitions();
        let waiting = |partition: &Partition| !partition.again.is_empty();
        keys.extend(self.partitions.iter().filter(|(_, partition)| waiting(partition)).map(|(key, _)| key.clone()));
        keys.sort_unstable();
        keys.dedup();
        for key in &keys {
            self.expire(key, now);
        }
        if keys.is_empty() || !self.identified(now) {
            return;
        }
        // One batch of each partition a round, so that none waits for the others' queues.
        loop {
            let mut requests: BTreeMap<i32, Request> = BTreeMap::new();
            let mut sizes: HashMap<i32, usize> = HashMap::new();
            for key in &keys {
                let Some(broker) = self.sendable(key, now) else { continue };
                let size = sizes.entry(broker).or_default();
                if *size >= self.config.request_bytes {
                    continue;
                }
                let Some(outgoing) = self.next_batch(key, now) else { continue };
                *size += outgoing.batch.len();
                let request = requests.entry(broker).or_insert_with(|| Request { broker, left: true, batches: vec![] });
                request.batches.push((key.clone(), outgoing));
            }
            if requests.is_empty() {
                return;
            }
            for request in requests.into_values() {
                self.send(request);
            }
        }
    }

    /// Whether the producer has what it needs to send anything at all.
    fn identified(&mut self, now: Instant) -> bool {
        if !self.config.idempotent || self.identity.is_some() {
            return true;
        }
        match self.not_before {
            Some(at) if at > now => self.wake_at(at),
            _ => self.identify(None, Duration::ZERO),
        }
        false
    }

    /// Asks for an identity, for all partitions or for one that cannot go on with its own.
    fn identify(&mut self, key: Option<Key>, after: Duration) {
        if key.is_none() && std::mem::replace(&mut self.identifying, true) {
            return;
        }
        let cluster = self.cluster.clone();
        self.events.push(Box::pin(async move {
            sleep(after).await;
            Event::Identity(key, ask_identity(&cluster).await)
        }));
    }

    /// The broker that a batch of the partition can go to now. Starts what is missing for it.
    fn sendable(&mut self, key: &Key, now: Instant) -> Option<i32> {
        let partition = self.partitions.entry(key.clone()).or_default();
        if partition.draining || partition.renewing || partition.in_flight.len() >= self.config.in_flight_max {
            return None;
        }
        if let Some(at) = partition.not_before.filter(|at| *at > now) {
            self.wake_at(at);
            return None;
        }
        if partition.again.is_empty() && self.accumulator.oldest(&key.0, key.1).is_none() {
            return None;
        }
        let metadata = self.cluster.metadata();
        let leader = metadata.topics.get(&key.0).and_then(|topic| topic.partition(key.1)).map(|found| found.leader);
        let Some(leader) = leader.filter(|leader| metadata.brokers.contains_key(leader)) else {
            self.learn(&key.0, now);
            return None;
        };
        let lane = self.lane();
        let broker = self.brokers.entry(leader).or_default();
        if broker.in_flight >= self.config.in_flight_max {
            return None;
        }
        if broker.connection.as_ref().is_some_and(|connection| !connection.is_closed()) {
            return Some(leader);
        }
        broker.connection = None;
        if let Some(at) = broker.not_before.filter(|at| *at > now) {
            self.wake_at(at);
        } else if !std::mem::replace(&mut broker.connecting, true) {
            let cluster = self.cluster.clone();
            self.events
                .push(Box::pin(async move { Event::Connected(leader, cluster.connect_broker(leader, lane).await) }));
        }
        None
    }

    /// Asks for a topic whose leader is not known.
    fn learn(&mut self, topic: &Arc<str>, now: Instant) {
        if let Some(at) = self.unlearned.get(topic).copied().filter(|at| *at > now) {
            self.wake_at(at);
        } else if self.learning.insert(topic.clone()) {
            let (cluster, topic) = (self.cluster.clone(), topic.clone());
            self.events.push(Box::pin(async move {
                cluster.forget(&topic);
                let learned = cluster.topic(&topic, false).await.map(|_| ());
                Event::Learned(topic, learned)
            }));
        }
    }

    /// The partition's next batch: one that is to be sent again, or a new one.
    fn next_batch(&mut self, key: &Key, now: Instant) -> Option<Outgoing> {
        let identity = self.identity;
        let partition = self.partitions.get_mut(key)?;
        if let Some((_, outgoing)) = partition.again.pop_first() {
            return Some(outgoing);
        }
        let gathered = match self.accumulator.take(&key.0, key.1, now) {
            Ready::Batch(gathered) => gathered,
            Ready::At(at) => {
                self.wake_at(at);
                return None;
            }
            Ready::Empty => return None,
        };
        let Gathered { mut builder, answers, created, memory, ticket } = gathered;
        if let Some(identity) = identity {
            let identity = *partition.identity.get_or_insert(identity);
            builder.set_producer(identity.id, identity.epoch, partition.next_sequence);
            partition.next_sequence = sequence_after(partition.next_sequence, builder.record_count());
        }
        let number = partition.next_number;
        partition.next_number += 1;
        let batch = builder.build();
        Some(Outgoing { batch, answers, created, number, uncertain: false, _memory: memory, _ticket: ticket })
    }

    fn send(&mut self, mut request: Request) {
        let message = self.message(&request);
        let broker = self.brokers.entry(request.broker).or_default();
        for (key, outgoing) in &request.batches {
            self.partitions.entry(key.clone()).or_default().in_flight.insert(outgoing.number, ());
        }
        broker.in_flight += 1;
        let connection = broker.connection.clone().expect("a batch is only taken for a broker that is connected");
        let begun = connection.version(wire::ApiKey::Produce, PRODUCE_CAP).and_then(|version| {
            if self.config.acks == Acks::None {
                let sending = async move { connection.send(&message, version).await.map(|()| None) };
                return Ok(Box::pin(sending) as BoxFuture<'static, _>);
            }
            // The broker itself may wait as long as it is told for its quorum.
            let answer = connection.begin(&message, version, self.cluster.config.request_timeout)?;
            Ok(Box::pin(async move { answer.await.map(Some) }) as BoxFuture<'static, _>)
        });
        match begun {
            Ok(answer) => self.events.push(Box::pin(async move { Event::Answered(request, answer.await) })),
            Err(error) => {
                request.left = false;
                self.events.push(Box::pin(async move { Event::Answered(request, Err(error)) }));
            }
        }
    }

    fn message(&self, request: &Request) -> produce::Request {
        let mut topics: Vec<produce::TopicProduceData> = Vec::new();
        for ((topic, partition), outgoing) in &request.batches {
            let data = produce::PartitionProduceData {
                index: *partition,
                records: Some(outgoing.batch.to_segments().into_iter().collect()),
                ..Default::default()
            };
            // Sorted by topic.
            match topics.last_mut().filter(|last| last.name == **topic) {
                Some(last) => last.partition_data.push(data),
                None => topics.push(produce::TopicProduceData {
                    name: Text::from(topic),
                    partition_data: vec![data],
                    ..Default::default()
                }),
            }
        }
        produce::Request {
            acks: self.config.acks.number(),
            timeout_ms: i32::try_from(self.cluster.config.request_timeout.as_millis()).unwrap_or(i32::MAX),
            topic_data: topics,
            ..Default::default()
        }
    }

    fn handle(&mut self, event: Event) {
        let now = Instant::now();
        match event {
            Event::Connected(id, result) => {
                let broker = self.brokers.entry(id).or_default();
                broker.connecting = false;
                match result {
                    Ok(connection) => broker.connection = Some(connection),
                    Err(error) => {
                        tracing::debug!(broker = id, %error, "the producer cannot reach a leader");
                        // The cluster paces the attempts to connect; this paces the looks at what it knows.
                        broker.not_before = Some(now + self.cluster.backoff(0));
                    }
                }
            }
            Event::Learned(topic, result) => {
                self.learning.remove(&topic);
                if let Err(error) = result {
                    if error.is_retriable() {
                        let pause = self.cluster.backoff(4);
                        self.unlearned.insert(topic, now + pause);
                    } else {
                        self.give_up_topic(&topic, &error);
                    }
                } else {
                    // It may still lack a leader.
                    self.unlearned.insert(topic, now + self.cluster.backoff(0));
                }
            }
            Event::Identity(None, result) => {
                self.identifying = false;
                match result {
                    Ok(identity) => {
                        self.identity = Some(identity);
                        self.failures = 0;
                    }
                    Err(error) if error.is_retriable() => {
                        self.not_before = Some(now + self.cluster.backoff(self.failures));
                        self.failures = self.failures.saturating_add(1);
                    }
                    Err(error) => {
                        self.not_before = Some(now + self.cluster.backoff(self.failures));
                        let keys = self.accumulator.partitions();
                        keys.iter().for_each(|key| self.give_up(key, &error));
                    }
                }
            }
            Event::Identity(Some(key), result) => self.renewed(&key, result),
            Event::Answered(request, result) => self.answered(request, result, now),
        }
        self.settle();
    }

    /// Without acks, only the order of a connection tells that a broker has read what was sent: a question after it that
    /// the broker answers.
    async fn barrier(&mut self) {
        for broker in self.brokers.values() {
            let Some(connection) = &broker.connection else { continue };
            let question = wire::metadata::Request { topics: Some(vec![]), ..Default::default() };
            let Ok(version) = connection.version(wire::ApiKey::Metadata, i16::MAX) else { continue };
            let asked =
                tokio::time::timeout(BARRIER_TIMEOUT, connection.call(&question, version, Duration::ZERO)).await;
            if !matches!(asked, Ok(Ok(_))) {
                tracing::warn!(address = %connection.address(), "the last records may not have reached the broker");
            }
        }
    }
}

async fn ask_identity(cluster: &Cluster) -> Result<Identity, Error> {
    let request = init_producer_id::Request { transaction_timeout_ms: i32::MAX, ..Default::default() };
    let response = cluster.call_any(&request).await?;
    crate::error::check(response.error_code, || "asking for a producer id".into())?;
    Ok(Identity { id: ProducerId(response.producer_id), epoch: ProducerEpoch(response.producer_epoch) })
}

/// Sequence numbers go from 2147483647 to 0.
fn sequence_after(sequence: i32, count: i32) -> i32 {
    let next = (i64::from(sequence) + i64::from(count)) & i64::from(i32::MAX);
    i32::try_from(next).expect("31 bits fit")
}

#[cfg(test)]
mod tests {
    use super::sequence_after;

    #[test]
    fn sequences_wrap_to_zero() {
        assert_eq!(sequence_after(0, 5), 5);
        assert_eq!(sequence_after(i32::MAX, 1), 0);
        assert_eq!(sequence_after(i32::MAX - 1, 3), 1);
    }
}
