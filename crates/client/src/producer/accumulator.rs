//! Records that wait to be sent, gathered into one open batch per partition. Callers append; the [sender](super::sender)
//! takes batches out. The lock is held for the copy of one record at most.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use records::{Builder, Codec, Headers, Timestamp};
use tokio::sync::{Notify, OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::{Delivered, NewRecord, partitioner};
use crate::Error;
use crate::metadata::Topic;

/// Where the answer for one record goes.
pub(super) type Answer = oneshot::Sender<Result<Delivered, Error>>;

/// A batch that is being filled, or waits to be sent for the first time.
pub(super) struct Gathered {
    pub(super) builder: Builder,
    pub(super) answers: Vec<Answer>,
    pub(super) created: Instant,
    /// The bytes of all its records, of the producer's memory.
    pub(super) memory: OwnedSemaphorePermit,
    pub(super) ticket: Ticket,
}

/// The batches of one partition.
#[derive(Default)]
struct Queue {
    closed: VecDeque<Gathered>,
    open: Option<Gathered>,
}

#[derive(Default)]
struct State {
    topics: HashMap<Arc<str>, Queues>,
    next_ticket: u64,
    closed: bool,
}

#[derive(Default)]
struct Queues {
    partitions: Vec<Queue>,
    /// Where records without a key go now.
    sticky: usize,
}

/// See the module.
pub(super) struct Accumulator {
    state: Mutex<State>,
    outstanding: Mutex<Outstanding>,
    codec: Codec,
    batch_bytes: usize,
    linger: Duration,
    /// Tells the sender that there is something new to look at.
    pub(super) wake: Notify,
    /// Tells flushes that batches are done.
    done: Notify,
}

#[derive(Default)]
struct Outstanding {
    tickets: BTreeSet<u64>,
    /// How many are waiting for everything to be sent, or for memory: then nothing lingers.
    hurrying: usize,
}

/// Stands for a batch until its outcome is known.
pub(super) struct Ticket {
    accumulator: Arc<Accumulator>,
    number: u64,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.accumulator.outstanding.lock().tickets.remove(&self.number);
        self.accumulator.done.notify_waiters();
    }
}

/// While it lives, batches are sent without lingering.
pub(super) struct Hurry<'a>(&'a Accumulator);

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.0.outstanding.lock().hurrying -= 1;
    }
}

/// What the sender finds in a partition.
pub(super) enum Ready {
    /// A batch to send now.
    Batch(Gathered),
    /// A batch that may grow until then.
    At(Instant),
    /// Nothing.
    Empty,
}

impl Accumulator {
    pub(super) fn new(codec: Codec, batch_bytes: usize, linger: Duration) -> Self {
        Self {
            state: Mutex::default(),
            outstanding: Mutex::default(),
            codec,
            batch_bytes,
            linger,
            wake: Notify::new(),
            done: Notify::new(),
        }
    }

    /// Puts a record into its partition's batch. `memory` covers its size.
    pub(super) fn append(
        self: &Arc<Self>,
        record: &NewRecord,
        topic: &Topic,
        timestamp: Timestamp,
        memory: OwnedSemaphorePermit,
        first_sticky: u64,
    ) -> Result<oneshot::Receiver<Result<Delivered, Error>>, Error> {
        let count = topic.partitions.len();
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        let size = Builder::record_size_max(key, value, &record.headers);
        let headers: Headers = record.headers.iter().map(|(name, value)| (name, value.as_ref())).collect();
        let mut state = self.state.lock();
        if state.closed {
            return Err(Error::Closed("producer"));
        }
        let State { topics, next_ticket, .. } = &mut *state;
        let queues = match topics.get_mut(&record.topic) {
            Some(queues) => queues,
            None => topics.entry(record.topic.clone()).or_insert_with(|| Queues {
                partitions: vec![],
                sticky: usize::try_from(first_sticky).unwrap_or(0) % count.max(1),
            }),
        };
        if queues.partitions.len() < count {
            queues.partitions.resize_with(count, Queue::default);
        }
        let partition = match (record.partition, &record.key) {
            (Some(partition), _) => {
                usize::try_from(partition).map_err(|_| Error::Config("a partition is negative".into()))?
            }
            (None, Some(key)) => usize::try_from(partitioner::of_key(key, topic.count())).expect("it is not negative"),
            (None, None) => queues.stick(topic, size, self.batch_bytes),
        };
        let queue = queues.partitions.get_mut(partition).ok_or_else(|| {
            let what = format!("topic {}, partition {partition} of {count}", record.topic);
            Error::broker(wire::ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, what)
        })?;

        let (answer, receiver) = oneshot::channel();
        let mut memory = Some(memory);
        if let Some(open) = &mut queue.open {
            let fits = open.builder.size_estimate() + size <= self.batch_bytes;
            if fits && open.builder.push(timestamp, key, value, &headers).is_ok() {
                open.answers.push(answer);
                open.memory.merge(memory.take().expect("it was not given away yet"));
                return Ok(receiver);
            }
            queue.closed.extend(queue.open.take());
        }
        let mut builder = Builder::new(self.codec);
        builder.push(timestamp, key, value, &headers).map_err(|error| Error::Config(error.to_string()))?;
        let ticket = Ticket { accumulator: self.clone(), number: *next_ticket };
        *next_ticket += 1;
        self.outstanding.lock().tickets.insert(ticket.number);
        queue.open = Some(Gathered {
            builder,
            answers: vec![answer],
            created: Instant::now(),
            memory: memory.take().expect("it was not given away yet"),
            ticket,
        });
        drop(state);
        // A new batch, or one more that is full: either way the sender has something to plan.
        self.wake.notify_one();
        Ok(receiver)
    }

    /// Takes the next batch of a partition that is full, has lingered long enough, or is wanted at once.
    pub(super) fn take(&self, topic: &str, partition: i32, now: Instant) -> Ready {
        let hurry = self.outstanding.lock().hurrying > 0;
        let mut state = self.state.lock();
        let closing = state.closed;
        let Some(queue) =
            usize::try_from(partition).ok().and_then(|at| state.topics.get_mut(topic)?.partitions.get_mut(at))
        else {
            return Ready::Empty;
        };
        if let Some(batch) = queue.closed.pop_front() {
            return Ready::Batch(batch);
        }
        match queue.open.take() {
            None => Ready::Empty,
            Some(open) if hurry || closing || now >= open.created + self.linger => Ready::Batch(open),
            Some(open) => {
                let at = open.created + self.linger;
                queue.open = Some(open);
                Ready::At(at)
            }
        }
    }

    /// Whether a partition has records, and since when.
    pub(super) fn oldest(&self, topic: &str, partition: i32) -> Option<Instant> {
        let state = self.state.lock();
        let queue = state.topics.get(topic)?.partitions.get(usize::try_from(partition).ok()?)?;
        queue.closed.front().or(queue.open.as_ref()).map(|batch| batch.created)
    }

    /// The partitions that have records.
    pub(super) fn partitions(&self) -> Vec<(Arc<str>, i32)> {
        let state = self.state.lock();
        let mut found = Vec::new();
        for (topic, queues) in &state.topics {
            for (queue, partition) in queues.partitions.iter().zip(0_i32..) {
                if queue.open.is_some() || !queue.closed.is_empty() {
                    found.push((topic.clone(), partition));
                }
            }
        }
        found
    }

    /// Takes out what was created before `limit`: too old to be sent.
    pub(super) fn take_older(&self, topic: &str, partition: i32, limit: Instant) -> Vec<Gathered> {
        let mut old = Vec::new();
        let mut state = self.state.lock();
        let queue = usize::try_from(partition).ok().and_then(|at| state.topics.get_mut(topic)?.partitions.get_mut(at));
        if let Some(queue) = queue {
            while queue.closed.front().is_some_and(|batch| batch.created <= limit) {
                old.extend(queue.closed.pop_front());
            }
            if queue.open.as_ref().is_some_and(|batch| batch.created <= limit) {
                old.extend(queue.open.take());
            }
        }
        old
    }

    /// Refuses new records.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_one();
    }

    /// Drops everything that waits; its callers are told that the producer is closed.
    pub(super) fn clear(&self) {
        let topics = {
            let mut state = self.state.lock();
            state.closed = true;
            std::mem::take(&mut state.topics)
        };
        drop(topics);
    }

    /// Sends without lingering for as long as the guard lives.
    pub(super) fn hurry(&self) -> Hurry<'_> {
        self.outstanding.lock().hurrying += 1;
        self.wake.notify_one();
        Hurry(self)
    }

    /// Waits until every record that was appended before has its outcome.
    pub(super) async fn flush(&self) {
        let _hurry = self.hurry();
        let limit = self.state.lock().next_ticket;
        loop {
            let done = self.done.notified();
            tokio::pin!(done);
            done.as_mut().enable();
            if self.outstanding.lock().tickets.first().is_none_or(|first| *first >= limit) {
                return;
            }
            done.await;
        }
    }
}

impl Queues {
    /// The partition for a record without a key: the same one until its batch is full or on its way, then the next one
    /// with a leader.
    fn stick(&mut self, topic: &Topic, size: usize, batch_bytes: usize) -> usize {
        let count = topic.partitions.len();
        if count == 0 {
            return 0;
        }
        let room = self.partitions.get(self.sticky).and_then(|queue| queue.open.as_ref());
        if room.is_none_or(|open| open.builder.size_estimate() + size > batch_bytes) {
            if let Some(queue) = self.partitions.get_mut(self.sticky) {
                queue.closed.extend(queue.open.take());
            }
            let led = |at: &usize| topic.partitions[*at].leader >= 0;
            let next = (1..=count).map(|step| (self.sticky + step) % count).find(led);
            self.sticky = next.unwrap_or((self.sticky + 1) % count);
        }
        self.sticky
    }
}
