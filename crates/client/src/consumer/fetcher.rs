//! The task that reads ahead: one fetch under way to each leader of assigned partitions, for those that have room in the
//! buffer. A fetch waits at the broker until there is something to read, so an idle consumer asks little.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use records::Offset;
use tokio::time::{Instant, sleep, sleep_until};
use wire::{ErrorCode, Text, fetch};

use super::ConsumerConfig;
use super::buffer::{Buffer, Fault, Got, Want};
use crate::cluster::{Cluster, Lane};
use crate::{Error, TopicPartition};

/// Topics are named up to this version.
const FETCH_CAP: i16 = 12;

enum Event {
    Fetched(i32, Vec<Want>, Result<fetch::Response, Error>),
    Learned(Arc<str>),
}

/// See the module.
pub(super) struct Fetcher {
    cluster: Arc<Cluster>,
    lane: Lane,
    config: ConsumerConfig,
    buffer: Arc<Buffer>,
    events: FuturesUnordered<BoxFuture<'static, Event>>,
    busy: HashSet<i32>,
    learning: HashSet<Arc<str>>,
}

impl Fetcher {
    pub(super) fn new(cluster: Arc<Cluster>, lane: Lane, config: ConsumerConfig, buffer: Arc<Buffer>) -> Self {
        Self {
            cluster,
            lane,
            config,
            buffer,
            events: FuturesUnordered::new(),
            busy: HashSet::new(),
            learning: HashSet::new(),
        }
    }

    /// Runs until it is aborted.
    pub(super) async fn run(mut self) {
        loop {
            let now = Instant::now();
            let (wants, later) = self.buffer.wants(self.config.buffer_bytes, self.config.partition_bytes, now);
            self.plan(wants);
            tokio::select! {
                Some(event) = self.events.next(), if !self.events.is_empty() => self.handle(event),
                () = self.buffer.wanted.notified() => {}
                () = async { sleep_until(later.expect("it is checked")).await }, if later.is_some() => {}
            }
        }
    }

    fn plan(&mut self, wants: Vec<Want>) {
        let metadata = self.cluster.metadata();
        let mut by_leader: HashMap<i32, Vec<(Want, i32)>> = HashMap::new();
        for want in wants {
            let topic = self.cluster.known_topic(&want.partition.topic);
            let found = topic.as_ref().and_then(|topic| topic.partition(want.partition.partition));
            match found.filter(|found| metadata.brokers.contains_key(&found.leader)) {
                Some(found) => by_leader.entry(found.leader).or_default().push((want, found.leader_epoch)),
                None => self.learn(want, topic.is_some()),
            }
        }
        for (leader, wants) in by_leader {
            if !self.busy.insert(leader) {
                continue;
            }
            let request = self.request(&wants);
            let wants: Vec<Want> = wants.into_iter().map(|(want, _)| want).collect();
            self.buffer.fetching(&wants, true);
            let (cluster, lane, wait) = (self.cluster.clone(), self.lane, self.config.fetch_wait);
            self.events.push(Box::pin(async move {
                let fetched = async {
                    let connection = cluster.connect_broker(leader, lane).await?;
                    let version = connection.version(wire::ApiKey::Fetch, FETCH_CAP)?;
                    connection.call(&request, version, wait).await
                };
                Event::Fetched(leader, wants, fetched.await)
            }));
        }
    }

    /// Asks for a topic whose leader is not known.
    fn learn(&mut self, want: Want, known: bool) {
        let topic = want.partition.topic.clone();
        if !self.learning.insert(topic.clone()) {
            return;
        }
        let (cluster, buffer) = (self.cluster.clone(), self.buffer.clone());
        self.events.push(Box::pin(async move {
            if known {
                cluster.forget(&topic);
            }
            match cluster.topic(&topic, false).await {
                Ok(found) if found.partition(want.partition.partition).is_some_and(|found| found.leader >= 0) => {}
                Ok(_) => sleep(cluster.backoff(2)).await,
                Err(error) => {
                    if !error.is_retriable() {
                        buffer.failed(&want, Some(Fault::Failed(error)), |_| Instant::now());
                    }
                    sleep(cluster.backoff(3)).await;
                }
            }
            Event::Learned(topic)
        }));
    }

    fn request(&self, wants: &[(Want, i32)]) -> fetch::Request {
        let mut topics: Vec<fetch::FetchTopic> = Vec::new();
        let number = |bytes: usize| i32::try_from(bytes).unwrap_or(i32::MAX);
        for (want, leader_epoch) in wants {
            let partition = fetch::FetchPartition {
                partition: want.partition.partition,
                current_leader_epoch: *leader_epoch,
                fetch_offset: want.at.0,
                partition_max_bytes: number(self.config.partition_bytes),
                ..Default::default()
            };
            // Sorted by topic, as the buffer is.
            match topics.last_mut().filter(|last| last.topic == *want.partition.topic) {
                Some(last) => last.partitions.push(partition),
                None => topics.push(fetch::FetchTopic {
                    topic: Text::from(&want.partition.topic),
                    partitions: vec![partition],
                    ..Default::default()
                }),
            }
        }
        fetch::Request {
            max_wait_ms: i32::try_from(self.config.fetch_wait.as_millis()).unwrap_or(i32::MAX),
            min_bytes: number(self.config.fetch_bytes_min),
            max_bytes: number(self.config.fetch_bytes_max),
            isolation_level: i8::from(self.config.committed_only),
            topics,
            rack_id: Text::from(self.config.rack.as_str()),
            ..Default::default()
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Learned(topic) => {
                self.learning.remove(&topic);
            }
            Event::Fetched(leader, wants, result) => {
                self.busy.remove(&leader);
                self.buffer.fetching(&wants, false);
                match result.and_then(|response| {
                    crate::error::check(response.error_code, || "fetching".into())?;
                    Ok(response)
                }) {
                    Ok(response) => self.sort(wants, response),
                    Err(error) => {
                        tracing::debug!(broker = leader, %error, "a fetch failed");
                        self.cluster.forget_leaders();
                        let fatal = !error.is_retriable();
                        for want in &wants {
                            let fault = fatal.then(|| Fault::Failed(error.clone()));
                            self.fail(want, fault);
                        }
                    }
                }
            }
        }
    }

    fn fail(&self, want: &Want, fault: Option<Fault>) {
        self.buffer.failed(want, fault, |failures| Instant::now() + self.cluster.backoff(failures));
    }

    /// Gives each partition what came for it.
    fn sort(&self, wants: Vec<Want>, response: fetch::Response) {
        let mut wants: HashMap<TopicPartition, Want> =
            wants.into_iter().map(|want| (want.partition.clone(), want)).collect();
        for topic in response.responses {
            for data in topic.partitions {
                let name = TopicPartition::new(&*topic.topic, data.partition_index);
                let Some(want) = wants.remove(&name) else { continue };
                let code = ErrorCode::from(data.error_code);
                match code {
                    ErrorCode::NONE => {
                        let aborted = data.aborted_transactions.unwrap_or_default();
                        let mut aborted: Vec<_> =
                            aborted.into_iter().map(|one| (one.producer_id, Offset(one.first_offset))).collect();
                        aborted.sort_by_key(|(_, first)| *first);
                        let bytes = data.records.map(wire::Records::into_bytes).unwrap_or_default();
                        self.buffer.put(&want, Got { bytes, aborted, end: Offset(data.high_watermark) });
                    }
                    ErrorCode::OFFSET_OUT_OF_RANGE => self.fail(&want, Some(Fault::OutOfRange)),
                    code => {
                        tracing::debug!(partition = %name, %code, "a partition could not be fetched");
                        self.cluster.forget(&name.topic);
                        let error = || Error::broker(code, format!("reading {name}"));
                        self.fail(&want, (!code.retriable()).then(|| Fault::Failed(error())));
                    }
                }
            }
        }
        // What the broker left out is asked for again, not at once.
        for want in wants.values() {
            self.fail(want, None);
        }
    }
}
