//! Producers that load a broker and remember every acknowledgement, on plain connections of their own so that a test
//! knows exactly which bytes were sent and answered.
//!
//! An *idempotent* producer keeps up to five batches in flight, and after a broken connection sends those that were not
//! answered again, with the same sequence numbers, until they are answered. A *plain* one never sends again.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use records::{Builder, Clock as _, Codec, Headers, ProducerEpoch, ProducerId};
use wire::{ErrorCode, Records, produce};

use crate::clock::WallClock;
use crate::connection::Connection;
use crate::dice::Dice;
use crate::history::{Acknowledged, value};

const PRODUCE_VERSION: i16 = 9;
/// As many as an idempotent producer may have (kafka.md).
const IN_FLIGHT_MAX: usize = 5;
const RECORDS_MAX: u64 = 8;
/// Filling of a record, at most; one in sixteen gets a hundred times as much.
const FILLING_MAX: u64 = 200;

/// What is to be sent.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The broker.
    pub address: String,
    /// The topic.
    pub topic: String,
    /// Its partitions.
    pub partitions: u64,
    /// Idempotent producers, numbered from 0.
    pub idempotent: u32,
    /// Plain producers, numbered after them.
    pub plain: u32,
}

/// Running producers.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    answers: AtomicU64,
    acknowledged: Mutex<Vec<Acknowledged>>,
}

impl Load {
    /// Starts them; the broker must be up.
    ///
    /// # Errors
    /// A producer cannot get its id.
    pub fn start(plan: &Plan, dice: &mut Dice) -> Result<Self> {
        let mut load = Self { shared: Arc::default(), threads: vec![] };
        for number in 0..plan.idempotent + plan.plain {
            let id = if number < plan.idempotent {
                Some(Connection::open(&plan.address)?.init_producer_id()?)
            } else {
                None
            };
            let producer = Producer {
                plan: plan.clone(),
                number,
                id,
                dice: dice.split(),
                next: HashMap::new(),
                pending: VecDeque::new(),
                shared: Arc::clone(&load.shared),
            };
            load.threads.push(std::thread::spawn(move || producer.run()));
        }
        Ok(load)
    }

    /// Acknowledged batches so far.
    #[must_use]
    pub fn answers(&self) -> u64 {
        self.shared.answers.load(Ordering::Acquire)
    }

    /// What was acknowledged since the last call.
    #[must_use]
    pub fn take_acknowledged(&self) -> Vec<Acknowledged> {
        std::mem::take(&mut *self.shared.acknowledged.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// An error that has ended a producer. Call it now and then: without producers a test would wait for nothing.
    ///
    /// # Errors
    /// The producer's.
    pub fn check(&mut self) -> Result<()> {
        match self.threads.iter().position(JoinHandle::is_finished) {
            Some(index) => self.threads.swap_remove(index).join().map_err(|_| anyhow!("a producer panicked"))?,
            None => Ok(()),
        }
    }

    /// Ends it: idempotent producers first get every batch answered, so the broker must be up.
    ///
    /// # Errors
    /// A producer failed.
    pub fn finish(self) -> Result<Vec<Acknowledged>> {
        self.shared.stop.store(true, Ordering::Release);
        for thread in self.threads {
            thread.join().map_err(|_| anyhow!("a producer panicked"))??;
        }
        let mut acknowledged = self.shared.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(std::mem::take(&mut *acknowledged))
    }
}

/// A batch that was not answered yet.
struct Pending {
    partition: i32,
    first: u64,
    count: u32,
    records: Records,
}

struct Producer {
    plan: Plan,
    number: u32,
    id: Option<(i64, i16)>,
    dice: Dice,
    /// By partition: the next record's number, which is its sequence number too.
    next: HashMap<i32, u64>,
    pending: VecDeque<Pending>,
    shared: Arc<Shared>,
}

/// Why a producer's work on one connection ended.
enum Broken {
    /// The broker went away, or asked to try again.
    Connection,
    /// The test has failed.
    Failure(anyhow::Error),
}

impl Producer {
    fn run(mut self) -> Result<()> {
        loop {
            let stopping = self.shared.stop.load(Ordering::Acquire);
            if stopping && self.pending.is_empty() {
                return Ok(());
            }
            let Ok(mut connection) = Connection::open(&self.plan.address) else {
                // The broker is being started again.
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            match self.work(&mut connection) {
                Ok(()) => return Ok(()),
                Err(Broken::Connection) => {}
                Err(Broken::Failure(error)) => return Err(error.context(format!("producer {}", self.number))),
            }
            if self.id.is_none() {
                self.pending.clear();
            }
        }
    }

    /// Sends until told to stop; everything is answered then.
    fn work(&mut self, connection: &mut Connection) -> Result<(), Broken> {
        let mut sent = VecDeque::new();
        for index in 0..self.pending.len() {
            sent.push_back(self.send(connection, index)?);
        }
        loop {
            let stopping = self.shared.stop.load(Ordering::Acquire);
            while !stopping && self.pending.len() < IN_FLIGHT_MAX && (sent.is_empty() || self.dice.of(0..4) > 0) {
                self.build().map_err(Broken::Failure)?;
                sent.push_back(self.send(connection, self.pending.len() - 1)?);
            }
            let Some(expected) = sent.pop_front() else { return Ok(()) };
            let (answered, response) =
                connection.receive::<produce::Response>(PRODUCE_VERSION).map_err(|_| Broken::Connection)?;
            if answered != expected {
                return Err(Broken::Failure(anyhow!("answer {answered} where {expected} was next")));
            }
            self.accept(&response)?;
        }
    }

    fn send(&self, connection: &mut Connection, index: usize) -> Result<i32, Broken> {
        let pending = &self.pending[index];
        let data = produce::PartitionProduceData {
            index: pending.partition,
            records: Some(pending.records.clone()),
            ..Default::default()
        };
        let topic = produce::TopicProduceData {
            name: self.plan.topic.as_str().into(),
            partition_data: vec![data],
            ..Default::default()
        };
        let acks = if self.id.is_some() || self.number.is_multiple_of(2) { -1 } else { 1 };
        let request = produce::Request { acks, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() };
        connection.send(PRODUCE_VERSION, &request).map_err(|_| Broken::Connection)
    }

    fn build(&mut self) -> Result<()> {
        let partition = i32::try_from(self.dice.of(0..self.plan.partitions))?;
        let first = *self.next.entry(partition).or_default();
        let mut builder = Builder::new(Codec::None);
        if let Some((id, epoch)) = self.id {
            builder = builder.producer(ProducerId(id), ProducerEpoch(epoch), i32::try_from(first)?);
        }
        let count = self.dice.of(1..RECORDS_MAX + 1);
        for number in first..first + count {
            let much = if self.dice.of(0..16) == 0 { 100 } else { 1 };
            let filling = usize::try_from(self.dice.of(0..FILLING_MAX) * much)?;
            let text = format!("{} {}", value(self.number, number), "x".repeat(filling));
            builder.push(WallClock.now(), None, Some(text.as_bytes()), &Headers::NONE)?;
        }
        self.next.insert(partition, first + count);
        let records = Records::from(builder.build().to_bytes());
        self.pending.push_back(Pending { partition, first, count: u32::try_from(count)?, records });
        Ok(())
    }

    /// Takes the answer to the oldest batch.
    fn accept(&mut self, response: &produce::Response) -> Result<(), Broken> {
        let answer = (|| {
            let topic = response.responses.first()?;
            topic.partition_responses.first()
        })();
        let answer = answer.context("an answer for the partition").map_err(Broken::Failure)?;
        let code = ErrorCode::from_code(answer.error_code);
        if code.is_error() {
            if code.retriable() {
                return Err(Broken::Connection);
            }
            return Err(Broken::Failure(anyhow!("error {}: {}", code.code(), code.name())));
        }
        let check = || -> Result<()> {
            let pending = self.pending.front().context("a batch in flight")?;
            ensure!(answer.index == pending.partition, "an answer for another partition");
            ensure!(answer.base_offset >= 0, "no offset in the answer");
            if !response.node_endpoints.is_empty() {
                bail!("a success names another leader");
            }
            Ok(())
        };
        check().map_err(Broken::Failure)?;
        let Some(pending) = self.pending.pop_front() else { return Ok(()) };
        let acknowledged = Acknowledged {
            producer: self.number,
            partition: pending.partition,
            base_offset: answer.base_offset,
            first: pending.first,
            count: pending.count,
        };
        self.shared.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).push(acknowledged);
        self.shared.answers.fetch_add(1, Ordering::Release);
        Ok(())
    }
}
