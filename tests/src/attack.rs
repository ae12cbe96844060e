//! What an attack does to a broker and to its other clients: memory from `/proc`, latencies of a bystander, counters.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use records::{Builder, Codec, Headers, Timestamp};
use socket2::{Domain, Protocol, Socket, Type};
use wire::produce;

use crate::broker::Weir;
use crate::clock::Deadline;
use crate::connection::Connection;

const TOPIC: &str = "bystander";
/// How long the bystander is watched before an attack.
const BEFORE: Duration = Duration::from_secs(2);
/// What the machine alone may add to a latency: the tests share it with others.
const NOISE: Duration = Duration::from_millis(150);
/// How long anything may take that must happen at all.
pub const WITHIN: Duration = Duration::from_secs(40);

/// What an attack cost.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// By how much the broker's memory grew at its peak, in bytes.
    pub grown_bytes: u64,
    /// The bystander's 99th percentile before and during it.
    pub p99: (Duration, Duration),
}

/// Runs an attack, and checks what a bystander and the broker's memory notice: the memory grows by `grown_max` bytes at
/// most, and the bystander's 99th percentile at most doubles (but for the noise of the machine).
///
/// # Errors
/// The attack fails, or costs more than it may.
pub fn under<T>(weir: &Weir, name: &str, grown_max: u64, attack: impl FnOnce() -> Result<T>) -> Result<T> {
    let pid = weir.pid().context("the broker runs")?;
    let bystander = Bystander::start(&weir.bootstrap())?;
    Deadline::after(WITHIN).wait("the bystander is served", || Ok((bystander.count() >= 20).then_some(())))?;
    bystander.take();
    std::thread::sleep(BEFORE);
    let before = bystander.take();
    // Forgets the peak so far.
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").context("the peak cannot be reset")?;
    let resident = status(pid, "VmRSS")?;
    let outcome = attack().with_context(|| format!("the attack `{name}`"))?;
    let during = bystander.finish()?;
    let grown_bytes = status(pid, "VmHWM")?.saturating_sub(resident);
    let cost = Cost { grown_bytes, p99: (p99(before)?, p99(during)?) };
    println!("{name}: {cost:?}, of {grown_max} bytes");
    ensure!(cost.grown_bytes <= grown_max, "{name}: the broker grew by {} bytes", cost.grown_bytes);
    let (before, during) = cost.p99;
    ensure!(during <= before * 2 + NOISE, "{name}: others wait {during:?} instead of {before:?}");
    Ok(outcome)
}

/// A line of `/proc/PID/status`, in bytes.
fn status(pid: u32, key: &str) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).context("no such line")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
}

fn p99(mut latencies: Vec<Duration>) -> Result<Duration> {
    latencies.sort_unstable();
    let last = latencies.len().checked_sub(1).context("the bystander was not served at all")?;
    Ok(latencies[last * 99 / 100])
}

/// A client that does nothing wrong: it produces a record and waits for its acknowledgement, again and again.
#[derive(Debug)]
struct Bystander {
    shared: Arc<(AtomicBool, Mutex<Vec<Duration>>)>,
    thread: std::thread::JoinHandle<Result<()>>,
}

impl Bystander {
    fn start(address: &str) -> Result<Self> {
        let mut connection = Connection::open(address)?;
        // The second attack on one broker finds the topic.
        let _ = connection.create_topic(TOPIC, 1);
        let shared = Arc::new((AtomicBool::new(false), Mutex::new(Vec::new())));
        let thread = std::thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                while !shared.0.load(Ordering::Acquire) {
                    let begun = now();
                    produce_to(&mut connection, TOPIC, 0, b"a record")?;
                    shared.1.lock().unwrap_or_else(PoisonError::into_inner).push(begun.elapsed());
                }
                Ok(())
            }
        });
        Ok(Self { shared, thread })
    }

    fn latencies(&self) -> std::sync::MutexGuard<'_, Vec<Duration>> {
        self.shared.1.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self) -> usize {
        self.latencies().len()
    }

    fn take(&self) -> Vec<Duration> {
        std::mem::take(&mut self.latencies())
    }

    /// What it saw since; a short attack is watched a little longer.
    fn finish(self) -> Result<Vec<Duration>> {
        Deadline::after(WITHIN)
            .wait("the bystander is served", || Ok((self.count() >= 20 || self.thread.is_finished()).then_some(())))?;
        let latencies = self.take();
        self.shared.0.store(true, Ordering::Release);
        self.thread.join().map_err(|_| anyhow::anyhow!("the bystander panicked"))??;
        Ok(latencies)
    }
}

#[allow(clippy::disallowed_methods)] // Tests of real processes run in real time.
fn now() -> Instant {
    Instant::now()
}

/// Produces one record.
///
/// # Errors
/// It is not acknowledged.
pub fn produce_to(connection: &mut Connection, topic: &str, partition: i32, value: &[u8]) -> Result<()> {
    let mut batch = Builder::new(Codec::None);
    batch.push(Timestamp(1_700_000_000_000), None, Some(value), &Headers::NONE)?;
    let answer = produce_batch(connection, topic, partition, batch.build().to_bytes())?;
    ensure!(answer.error_code == 0, "{answer:?}");
    Ok(())
}

/// Produces a batch as it is, and gives the answer.
///
/// # Errors
/// There is none.
pub fn produce_batch(
    connection: &mut Connection,
    topic: &str,
    partition: i32,
    batch: bytes::Bytes,
) -> Result<produce::PartitionProduceResponse> {
    let data = produce::PartitionProduceData { index: partition, records: Some(batch.into()), ..Default::default() };
    let topic = produce::TopicProduceData { name: topic.into(), partition_data: vec![data], ..Default::default() };
    let request = produce::Request { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() };
    let answer: produce::Response = connection.call(9, &request)?;
    answer.responses[0].partition_responses.first().cloned().context("the partition's answer")
}

/// The sum of a counter or gauge over the lines of `/metrics` that hold `label`.
///
/// # Errors
/// The broker does not show it.
pub fn metric(weir: &Weir, name: &str, label: &str) -> Result<f64> {
    let mut stream = TcpStream::connect(weir.http())?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
    lines.map(|line| Ok(line.rsplit(' ').next().context("no value")?.parse::<f64>()?)).sum()
}

/// Connects from a loopback address of its own, so that bounds per address hold for it and not for others.
///
/// # Errors
/// The system or the broker refuses.
pub fn connect_from(source: u8, to: SocketAddr) -> Result<TcpStream> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 0, source), 0)).into())?;
    socket.connect(&to.into())?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(WITHIN))?;
    stream.set_write_timeout(Some(WITHIN))?;
    Ok(stream)
}

/// Reads until the broker closes; gives what came. A reset is a close too.
///
/// # Errors
/// It does not close in time.
pub fn until_closed(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
            anyhow::bail!("the broker did not close the connection")
        }
        _ => Ok(bytes),
    }
}

/// Raises the number of files that this process, and the brokers that it starts, may open; gives the number.
#[must_use]
pub fn raise_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
