//! `weir bench e2e`: from the moment at which a record was due to the moment at which a consumer has it. Producers and
//! consumer are one process, so that one clock tells both.

use std::time::Duration;

use client::{Consumer, ConsumerConfig, OffsetSpec};
use records::Random;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::command::topic;
use crate::environment::SystemRandom;
use crate::exit::{Failure, Outcome};
use crate::progress;

use super::load::{self, Stamp};
use super::report::Tally;
use super::{LoadArgs, ensure_topic, failed_if_none_arrived};

/// The rate where none is given: as fast as it goes would measure queues.
const RATE: u64 = 1000;
/// How long one poll waits.
const POLL: Duration = Duration::from_millis(100);
/// How many records one poll gives.
const POLL_RECORDS: usize = 10_000;
/// How long the last records are waited for.
const LAST_TIMEOUT: Duration = Duration::from_secs(30);

/// Runs the command.
pub(super) async fn run(args: LoadArgs) -> Outcome {
    let rate = args.rate.or(Some(RATE));
    let client = args.connection.client().await?;
    let partitions = ensure_topic(&client, &args.topic, args.partitions).await?;
    let all = topic::partitions(&client, &args.topic, &[]).await?;
    let mut consumer = client.consumer(ConsumerConfig { poll_records: POLL_RECORDS, ..ConsumerConfig::default() })?;
    consumer.assign(all.iter().cloned()).await?;
    for partition in &all {
        consumer.seek(partition, OffsetSpec::End).await?;
    }
    let load = args.load(rate);
    let run = SystemRandom.next();
    let start = Instant::now();
    let counted_from = start + load.warmup;
    let (done, produced) = oneshot::channel();
    let producing = async {
        let outcome = load::run_stamped(&client, &load, partitions, run, start).await;
        // The consumer is told how many to expect; it ends before that only when it fails.
        let expected = outcome.as_ref().map_or(0, |(tally, _)| tally.records);
        let _ = done.send(expected);
        outcome
    };
    let reading = receive(&mut consumer, Expected { run, start, counted_from }, produced);
    let both = async { tokio::try_join!(producing, reading) };
    let ((sent, _), mut received) = progress::timed(load.length(), both).await?;
    let elapsed = Instant::now().saturating_duration_since(counted_from);
    drop(consumer);
    client.close().await;
    received.errors += sent.errors;
    if received.first_error.is_none() {
        received.first_error.clone_from(&sent.first_error);
    }
    received.report("e2e", &args.topic, elapsed, args.settings(rate, partitions)).write(args.output.output)?;
    failed_if_none_arrived(&received)
}

/// Which records belong to the run, and since when they count.
struct Expected {
    run: u128,
    start: Instant,
    counted_from: Instant,
}

/// Reads until everything that was acknowledged has come, or nothing comes any more.
async fn receive(
    consumer: &mut Consumer,
    expected: Expected,
    mut produced: oneshot::Receiver<u64>,
) -> Result<Tally, Failure> {
    let mut tally = Tally::new();
    let mut awaited = None;
    let mut last = Instant::now();
    loop {
        let records = consumer.poll(POLL).await?;
        let now = Instant::now();
        for record in &records {
            let value = record.value.as_deref().unwrap_or_default();
            let Some(stamp) = Stamp::of(value).filter(|stamp| stamp.run == expected.run) else { continue };
            last = now;
            let due = expected.start + Duration::from_nanos(stamp.due_ns);
            if due >= expected.counted_from {
                tally.arrived(value.len() as u64, Some(now.saturating_duration_since(due)));
            }
        }
        if awaited.is_none() {
            awaited = produced.try_recv().ok();
            last = now;
        }
        if let Some(awaited) = awaited {
            if tally.records >= awaited {
                return Ok(tally);
            }
            if now.saturating_duration_since(last) >= LAST_TIMEOUT {
                tally.failed(format!("{} acknowledged records did not come", awaited - tally.records));
                return Ok(tally);
            }
        }
    }
}
