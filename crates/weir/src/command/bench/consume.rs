//! `weir bench consume`: how fast what is already in a topic comes out of it.

use std::time::Duration;

use client::{ConsumerConfig, OffsetSpec};
use tokio::time::Instant;

use crate::command::topic;
use crate::connection::ConnectionArgs;
use crate::exit::Outcome;
use crate::output::OutputArgs;
use crate::progress::Progress;

use super::failed_if_none_arrived;
use super::report::{Settings, Tally};

/// How long one poll waits.
const POLL: Duration = Duration::from_millis(100);
/// How many records one poll gives.
const POLL_RECORDS: usize = 10_000;

/// The reading to do.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ConsumeArgs {
    /// The topic.
    #[arg(default_value = "weir-bench")]
    topic: String,
    /// How long to read at most, in seconds; it ends earlier where the topic ended when the command began.
    #[arg(long, value_name = "S", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    duration_s: u64,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Runs the command.
pub(super) async fn run(args: ConsumeArgs) -> Outcome {
    let client = args.connection.client().await?;
    let partitions = topic::partitions(&client, &args.topic, &[]).await?;
    let ends = topic::ends(&client, &partitions).await?;
    let mut consumer = client.consumer(ConsumerConfig { poll_records: POLL_RECORDS, ..ConsumerConfig::default() })?;
    consumer.assign(partitions.iter().cloned()).await?;
    for partition in &partitions {
        consumer.seek(partition, OffsetSpec::Start).await?;
    }
    let begun = Instant::now();
    let deadline = begun + Duration::from_secs(args.duration_s);
    let mut tally = Tally::new();
    let mut progress = Progress::new("records", None);
    loop {
        let records = consumer.poll(POLL).await?;
        for record in &records {
            let bytes = [&record.key, &record.value].into_iter().flatten().map(bytes::Bytes::len).sum::<usize>();
            tally.arrived(bytes as u64, None);
        }
        progress.add(records.len() as u64);
        let reached = partitions.iter().all(|partition| consumer.position(partition) >= ends.get(partition).copied());
        if reached || Instant::now() >= deadline {
            break;
        }
    }
    progress.finish();
    let elapsed = begun.elapsed();
    drop(consumer);
    client.close().await;
    let settings = Settings { partitions: i32::try_from(partitions.len()).unwrap_or(i32::MAX), ..Settings::default() };
    tally.report("consume", &args.topic, elapsed, settings).write(args.output.output)?;
    failed_if_none_arrived(&tally)
}
