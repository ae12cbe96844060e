//! Reading apart from writing: a consumer that reads a long backlog out of the object store, as fast as it can, takes
//! nothing from those who read what was just written, and no producer has to wait for it.
//!
//! Windows without and with that consumer take turns within one run, so that what else the machine does falls on both.
//! What is not the broker (the object store, the consumer itself) runs only where nobody else wants the processor: what is
//! measured is what the broker does to its producers, not how two processors are shared by four programs.
//!
//! The tail is checked strictly: its reader gets every byte from memory. The producers' latency is checked for what a shared
//! machine can show, which is that nobody waits for the backlog; `WEIR_COLD_NOISE_MS=0` on a quiet machine is the strict
//! form. `WEIR_COLD_BACKLOG_MIB` sets the length of the backlog (10240 is the long form), `WEIR_COLD_ROUNDS` the number of
//! pairs of windows, `WEIR_COLD_PERCENT` by how much the latency may grow.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use records::Offset;
use weir_tests::broker::{Options, Weir};
use weir_tests::clock::Deadline;
use weir_tests::connection::Connection;
use weir_tests::http::metric;
use weir_tests::process::nicest;
use weir_tests::stores::{Kind, S3};
use weir_tests::topic::{produce, try_produce};
use wire::ErrorCode;

const BACKLOG: &str = "backlog";
const LIVE: &str = "live";
const MIB: u64 = 1 << 20;
const BATCH_BYTES: usize = 256 << 10;
/// The chunk cache and the staging disk are as small against the backlog as they are against 10 GiB on a small machine.
const CACHE_BYTES: u64 = 16 << 20;
const STAGING_BYTES: u64 = 48 << 20;
const SEGMENT_BYTES: u64 = 8 << 20;
const TAIL_BYTES: u64 = 8 << 20;
/// A record of 1 KiB is due so often, whatever became of the one before.
const EVERY: Duration = Duration::from_millis(5);
const WINDOW: Duration = Duration::from_secs(5);
/// What the machine may add to a median of 99th percentiles, in milliseconds: it is shared, and so is its disk.
const NOISE_MS: u64 = 150;

fn setting(name: &str, default: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| format!("{name} is a whole number, not {text}")),
        Err(_) => Ok(default),
    }
}

#[allow(clippy::disallowed_methods)] // Tests of real processes run in real time.
fn now() -> Instant {
    Instant::now()
}

#[test]
fn a_consumer_of_a_long_backlog_leaves_the_tail_in_memory_and_holds_no_producer_up() -> Result<()> {
    let backlog_bytes = setting("WEIR_COLD_BACKLOG_MIB", 384)? * MIB;
    let rounds = setting("WEIR_COLD_ROUNDS", 5)?;
    let ratio_max = 1.0 + setting("WEIR_COLD_PERCENT", 20)? as f64 / 100.0;
    let noise = Duration::from_millis(setting("WEIR_COLD_NOISE_MS", NOISE_MS)?);
    let store = S3::start_nicest(Kind::VersityGw)?;
    let sets = [
        format!("cache.memory_bytes={CACHE_BYTES}"),
        format!("cache.tail_bytes={TAIL_BYTES}"),
        format!("staging.bytes_max={STAGING_BYTES}"),
        format!("staging.segment_bytes={SEGMENT_BYTES}"),
    ];
    let mut weir = Weir::start_with(Options {
        store: Some(store.new_store()),
        sets: sets.to_vec(),
        environment: S3::credentials(),
        ..Options::default()
    })?;
    let mut connection = Connection::open(&weir.bootstrap())?;
    connection.create_topic(BACKLOG, 1)?;
    connection.create_topic(LIVE, 1)?;
    let cold_end = fill(&mut connection, backlog_bytes)?;

    let producer = Producer::start(&weir.bootstrap())?;
    let tail = Tail::start(&weir.bootstrap())?;
    Deadline::after(Duration::from_secs(60)).wait("both are at work", || {
        Ok((producer.count() >= 200 && tail.records.load(Ordering::Acquire) >= 200).then_some(()))
    })?;
    let cold = Cold::start(&weir.bootstrap(), cold_end)?;
    let (mut without, mut with, mut cold_mib) = (Vec::new(), Vec::new(), Vec::new());
    let mut round = 0;
    while round < rounds || cold.bytes() < backlog_bytes && round < 500 {
        without.push(producer.window()?);
        let cold_bytes = cold.bytes();
        cold.running.store(true, Ordering::Release);
        with.push(producer.window()?);
        cold.running.store(false, Ordering::Release);
        cold_mib.push((cold.bytes() - cold_bytes) / MIB);
        round += 1;
        weir.check_running()?;
    }
    cold.finish()?;
    let produced = producer.finish()?;
    let tail = tail.finish(produced)?;
    println!("p99 without, in ms: {}", shown(&without));
    println!("p99 with, in ms:    {}", shown(&with));
    println!("cold reading, MiB in each window: {cold_mib:?}");
    let (before, during) = (median(&without), median(&with));
    println!("medians {before:?} and {during:?}: a ratio of {:.2}", during.as_secs_f64() / before.as_secs_f64());
    // The tail: every byte that its reader got came from memory.
    let memory = from_memory(&weir)?;
    println!("the reader of the tail got {tail} bytes; {memory} were read from memory");
    ensure!(memory >= tail as f64, "{tail} bytes were read at the tail, {memory} of them from memory");
    let cold_least = cold_mib.iter().copied().min().unwrap_or(0);
    ensure!(cold_least >= 4, "the consumer of the backlog read {cold_least} MiB in a window: nothing was measured");
    ensure!(
        during <= before.mul_f64(ratio_max) + noise,
        "producers' p99 went from {before:?} to {during:?} while a backlog was read"
    );
    weir.finish()
}

fn from_memory(weir: &Weir) -> Result<f64> {
    metric(&weir.http(), "weir_read_memory_bytes_total")
}

fn shown(latencies: &[Duration]) -> String {
    let ms = latencies.iter().map(|latency| format!("{:.1}", latency.as_secs_f64() * 1e3));
    ms.collect::<Vec<_>>().join(" ")
}

fn median(latencies: &[Duration]) -> Duration {
    let mut sorted = latencies.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() / 2]
}

/// Produces the backlog, and waits until it lies in the store and nowhere else. Gives the offset up to which it does.
fn fill(connection: &mut Connection, bytes: u64) -> Result<i64> {
    let value = "x".repeat(BATCH_BYTES);
    let count = i64::try_from(bytes / BATCH_BYTES as u64)?;
    // What follows pushes the last of the backlog out of memory and off the disk.
    let more = i64::try_from((STAGING_BYTES + TAIL_BYTES) / BATCH_BYTES as u64)?;
    for number in 0..count + more {
        let offset = loop {
            match try_produce(connection, BACKLOG, &value)? {
                Ok(offset) => break offset,
                // The staging disk is full until the store has taken more.
                Err(ErrorCode::NOT_ENOUGH_REPLICAS) => {}
                Err(other) => bail!("refused with {}", other.name()),
            }
        };
        ensure!(offset == number, "record {number} got offset {offset}");
    }
    Deadline::after(Duration::from_secs(120))
        .wait("the backlog is uploaded", || Ok((connection.last_uploaded(BACKLOG, 0)? >= count - 1).then_some(())))?;
    Ok(count)
}

/// Produces at a steady rate, and measures each record from when it was due.
struct Producer {
    shared: Arc<Measured>,
    thread: JoinHandle<Result<i64>>,
}

#[derive(Default)]
struct Measured {
    stop: AtomicBool,
    latencies: Mutex<Vec<Duration>>,
}

impl Producer {
    fn start(address: &str) -> Result<Self> {
        let mut connection = Connection::open(address)?;
        let shared = Arc::new(Measured::default());
        let measured = shared.clone();
        let thread = std::thread::spawn(move || {
            let value = "y".repeat(1000);
            let mut due = now();
            let mut count = 0;
            while !measured.stop.load(Ordering::Acquire) {
                std::thread::sleep(due.saturating_duration_since(now()));
                let offset = produce(&mut connection, LIVE, &value)?;
                ensure!(offset == count, "record {count} got offset {offset}");
                count += 1;
                measured.latencies.lock().unwrap_or_else(PoisonError::into_inner).push(due.elapsed());
                due += EVERY;
            }
            Ok(count)
        });
        Ok(Self { shared, thread })
    }

    fn take(&self) -> Vec<Duration> {
        std::mem::take(&mut *self.shared.latencies.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn count(&self) -> usize {
        self.shared.latencies.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The 99th percentile of a window that begins now.
    fn window(&self) -> Result<Duration> {
        self.take();
        std::thread::sleep(WINDOW);
        let mut latencies = self.take();
        latencies.sort_unstable();
        let last = latencies.len().checked_sub(1).context("the producer was not served at all")?;
        Ok(latencies[last * 99 / 100])
    }

    fn finish(self) -> Result<i64> {
        self.shared.stop.store(true, Ordering::Release);
        self.thread.join().map_err(|_| anyhow!("the producer panicked"))?
    }
}

/// Reads what was just produced, in order and without a gap.
struct Tail {
    stop: Arc<AtomicBool>,
    records: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
    thread: JoinHandle<Result<()>>,
}

impl Tail {
    fn start(address: &str) -> Result<Self> {
        let mut connection = Connection::open(address)?;
        let (stop, records, bytes) =
            (Arc::new(AtomicBool::new(false)), Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let (stopped, counted, summed) = (stop.clone(), records.clone(), bytes.clone());
        let thread = std::thread::spawn(move || {
            let mut next = Offset(0);
            loop {
                let over = stopped.load(Ordering::Acquire);
                let (batches, _) = connection.fetch(LIVE, 0, next)?;
                if over && batches.is_empty() {
                    return Ok(());
                }
                for batch in batches {
                    ensure!(batch.base_offset() == next, "{} where {next} was due", batch.base_offset());
                    next = batch.next_offset();
                    summed.fetch_add(batch.len() as u64, Ordering::AcqRel);
                }
                counted.store(u64::try_from(next.0)?, Ordering::Release);
                std::thread::sleep(EVERY);
            }
        });
        Ok(Self { stop, records, bytes, thread })
    }

    /// Reads to the end; gives the bytes of all batches.
    fn finish(self, produced: i64) -> Result<u64> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().map_err(|_| anyhow!("the reader of the tail panicked"))??;
        let records = self.records.load(Ordering::Acquire);
        ensure!(records == u64::try_from(produced)?, "{records} records were read, {produced} produced");
        Ok(self.bytes.load(Ordering::Acquire))
    }
}

/// Reads the backlog from the beginning as fast as it can, again and again, while it is told to.
struct Cold {
    running: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    bytes: Arc<AtomicU64>,
    thread: JoinHandle<Result<()>>,
}

impl Cold {
    fn start(address: &str, end: i64) -> Result<Self> {
        let mut connection = Connection::open(address)?;
        let (running, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let bytes = Arc::<AtomicU64>::default();
        let (run, stopped, summed) = (running.clone(), stop.clone(), bytes.clone());
        let thread = std::thread::spawn(move || {
            nicest()?;
            let mut next = Offset(0);
            while !stopped.load(Ordering::Acquire) {
                if !run.load(Ordering::Acquire) {
                    std::thread::sleep(Duration::from_millis(1));
                    continue;
                }
                let (batches, _) = connection.fetch(BACKLOG, 0, next)?;
                for batch in batches {
                    ensure!(batch.base_offset() == next, "{} where {next} was due", batch.base_offset());
                    next = batch.next_offset();
                    summed.fetch_add(batch.len() as u64, Ordering::AcqRel);
                }
                if next.0 >= end {
                    next = Offset(0);
                }
            }
            Ok(())
        });
        Ok(Self { running, stop, bytes, thread })
    }

    fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    fn finish(self) -> Result<()> {
        self.stop.store(true, Ordering::Release);
        self.thread.join().map_err(|_| anyhow!("the consumer of the backlog panicked"))?
    }
}
