//! Producers in an open loop: each record goes out when it is due, or as soon after as the client takes it, and its
//! latency counts from when it was due.

use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use client::{Client, Delivery, NewRecord, Producer, ProducerConfig};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use records::Random;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::environment::SystemRandom;
use crate::exit::Failure;

use super::pace::Pace;
use super::report::Tally;

/// The smallest value: the stamp.
pub(super) const VALUE_BYTES_MIN: usize = STAMP_BYTES;
/// The run's id and the time at which the record was due.
const STAMP_BYTES: usize = 24;
/// Random bytes that values are cut from.
const NOISE_BYTES: usize = 1 << 20;
/// How many records of a producer may be under way.
const UNDER_WAY_MAX: usize = 100_000;
/// How long the last acknowledgements are waited for.
const LAST_TIMEOUT: Duration = Duration::from_secs(60);

/// What is to be made.
#[derive(Clone)]
pub(super) struct Load {
    pub(super) topic: Arc<str>,
    /// Records a second of all producers together.
    pub(super) rate: Option<u64>,
    pub(super) record_bytes: usize,
    /// Whether each record goes to the next partition.
    pub(super) spread: bool,
    pub(super) producers: u64,
    pub(super) warmup: Duration,
    pub(super) duration: Duration,
    pub(super) config: ProducerConfig,
}

impl Load {
    /// How long the run takes.
    pub(super) fn length(&self) -> Duration {
        self.warmup + self.duration
    }
}

/// What stands at the beginning of each value, so that whoever reads it knows when it was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Tells this run's records from others'.
    pub(super) run: u128,
    /// Nanoseconds from the start of the run.
    pub(super) due_ns: u64,
}

impl Stamp {
    fn put(self, value: &mut BytesMut) {
        value.put_u128(self.run);
        value.put_u64(self.due_ns);
    }

    /// Reads the stamp of a value, if it has one.
    pub(super) fn of(value: &[u8]) -> Option<Stamp> {
        let (run, rest) = value.split_first_chunk()?;
        let (due_ns, _) = rest.split_first_chunk()?;
        Some(Stamp { run: u128::from_be_bytes(*run), due_ns: u64::from_be_bytes(*due_ns) })
    }
}

/// Makes the load, and gives what was acknowledged of it and how long that took.
pub(super) async fn run(client: &Client, load: &Load, partitions: i32) -> Result<(Tally, Duration), Failure> {
    let run = SystemRandom.next();
    run_stamped(client, load, partitions, run, Instant::now()).await
}

/// The same with a run id and a start that a consumer knows too.
pub(super) async fn run_stamped(
    client: &Client,
    load: &Load,
    partitions: i32,
    run: u128,
    start: Instant,
) -> Result<(Tally, Duration), Failure> {
    let noise = noise();
    let mut tasks = JoinSet::new();
    for index in 0..load.producers {
        let producer = client.producer(load.config.clone())?;
        let rate = load.rate.map(|rate| share(rate, index, load.producers)).filter(|rate| *rate > 0);
        if load.rate.is_some() && rate.is_none() {
            // More producers than records a second: this one has nothing to do.
            continue;
        }
        let worker = Worker {
            producer,
            load: load.clone(),
            pace: Pace::new(start, rate),
            start,
            run,
            partitions,
            first_partition: i32::try_from(index).unwrap_or(0),
            noise: noise.clone(),
        };
        tasks.spawn(Box::pin(worker.run()));
    }
    let mut total = Tally::new();
    while let Some(tally) = tasks.join_next().await {
        total.merge(&tally.map_err(anyhow::Error::from)?);
    }
    Ok((total, Instant::now().saturating_duration_since(start + load.warmup)))
}

/// What one of several producers takes of a rate; all shares together are the rate.
fn share(rate: u64, index: u64, producers: u64) -> u64 {
    rate / producers + u64::from(index < rate % producers)
}

/// Random bytes, so that nothing on the way can compress them.
fn noise() -> Bytes {
    let mut noise = BytesMut::with_capacity(NOISE_BYTES);
    let mut state = SystemRandom.next() | 1;
    while noise.len() < NOISE_BYTES {
        // A multiplicative generator: the upper half of its state is random enough for bytes that nobody reads.
        state = state.wrapping_mul(0xda94_2042_e4dd_58b5);
        noise.put_slice(&state.to_be_bytes()[..8]);
    }
    noise.freeze()
}

struct Worker {
    producer: Producer,
    load: Load,
    pace: Pace,
    start: Instant,
    run: u128,
    partitions: i32,
    first_partition: i32,
    noise: Bytes,
}

/// A record under way, and when it was due.
struct Sent {
    due: Instant,
    delivery: Delivery,
}

impl Worker {
    async fn run(self) -> Tally {
        let (sender, receiver) = mpsc::channel(1024);
        let counted_from = self.start + self.load.warmup;
        let bytes = self.load.record_bytes as u64;
        let collector = collect(receiver, counted_from, bytes);
        let (sending, mut tally) = tokio::join!(self.send_all(sender), collector);
        if let Some(error) = sending {
            tally.failed(error);
        }
        tally
    }

    /// Sends until the time is over; gives the error that ended it early.
    async fn send_all(&self, sender: mpsc::Sender<Sent>) -> Option<client::Error> {
        let end = self.start + self.load.warmup + self.load.duration;
        let mut failed = None;
        for number in 0.. {
            let due = match self.pace.due(number) {
                Some(due) => {
                    // Records that are overdue go out at once, with the time at which they should have gone.
                    if due > Instant::now() {
                        tokio::time::sleep_until(due.min(end)).await;
                    }
                    due
                }
                None => Instant::now(),
            };
            // A system that cannot keep up is measured until the time is over, not until the last record is out.
            if due >= end || Instant::now() >= end {
                break;
            }
            match self.producer.send(self.record(number, due)).await {
                Ok(delivery) => {
                    if sender.send(Sent { due, delivery }).await.is_err() {
                        break;
                    }
                }
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        drop(sender);
        self.producer.flush().await;
        failed
    }

    fn record(&self, number: u64, due: Instant) -> NewRecord {
        let due_ns = u64::try_from(due.duration_since(self.start).as_nanos()).unwrap_or(u64::MAX);
        let mut value = BytesMut::with_capacity(self.load.record_bytes);
        Stamp { run: self.run, due_ns }.put(&mut value);
        let mut left = self.load.record_bytes - STAMP_BYTES;
        // Another part of the noise for each record.
        let mut at = usize::try_from(number.wrapping_mul(7919) % NOISE_BYTES as u64).unwrap_or(0);
        while left > 0 {
            let part = &self.noise[at..NOISE_BYTES.min(at + left)];
            value.put_slice(part);
            left -= part.len();
            at = 0;
        }
        let record = NewRecord::to(self.load.topic.clone()).value(value.freeze());
        if !self.load.spread {
            return record;
        }
        let partition = i64::from(self.first_partition) + i64::try_from(number % (1 << 62)).unwrap_or(0);
        record.partition(i32::try_from(partition % i64::from(self.partitions.max(1))).unwrap_or(0))
    }
}

/// Notes when each record arrives, at the moment it does.
async fn collect(mut sent: mpsc::Receiver<Sent>, counted_from: Instant, bytes: u64) -> Tally {
    let mut tally = Tally::new();
    let mut under_way = FuturesUnordered::new();
    let mut open = true;
    let mut deadline = None;
    while open || !under_way.is_empty() {
        tokio::select! {
            next = sent.recv(), if open && under_way.len() < UNDER_WAY_MAX => match next {
                Some(Sent { due, delivery }) => {
                    under_way.push(async move { (due, delivery.await) });
                }
                None => {
                    open = false;
                    deadline = Some(Instant::now() + LAST_TIMEOUT);
                }
            },
            Some((due, outcome)) = under_way.next(), if !under_way.is_empty() => {
                if due < counted_from {
                    continue;
                }
                match outcome {
                    Ok(_) => tally.arrived(bytes, Some(Instant::now().saturating_duration_since(due))),
                    Err(error) => tally.failed(error),
                }
            }
            () = until(deadline) => {
                tally.failed(format!("{} records had no answer after {LAST_TIMEOUT:?}", under_way.len()));
                break;
            }
        }
    }
    tally
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::{Stamp, noise, share};

    #[test]
    fn shares_of_a_rate_add_up() {
        for (rate, producers) in [(1000, 3), (2, 5), (7, 7), (1, 1)] {
            let all: u64 = (0..producers).map(|index| share(rate, index, producers)).sum();
            assert_eq!(all, rate);
        }
    }

    #[test]
    fn stamps_are_read_back() {
        let stamp = Stamp { run: 7, due_ns: 99 };
        let mut value = BytesMut::new();
        stamp.put(&mut value);
        value.extend_from_slice(b"more");
        assert_eq!(Stamp::of(&value), Some(stamp));
        assert_eq!(Stamp::of(b"short"), None);
    }

    #[test]
    fn noise_does_not_repeat_itself() {
        let noise = noise();
        let mut words: Vec<&[u8]> = noise.chunks(8).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), noise.len() / 8);
    }
}
