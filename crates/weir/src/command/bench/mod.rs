//! `weir bench`: load, and what it showed. Latency counts from the moment at which a record was due, whether or not it
//! could be sent then (see `pace` and `report`).

mod consume;
mod e2e;
mod load;
mod pace;
mod report;

use std::time::Duration;

use client::{Client, ProducerConfig};

use crate::command::produce::Compression;
use crate::connection::ConnectionArgs;
use crate::exit::{Failure, Outcome};
use crate::interrupt::interruptible;
use crate::output::OutputArgs;
use crate::progress;

use self::load::Load;
use self::report::Settings;

/// Measure: throughput, and latency percentiles corrected for coordinated omission.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum BenchCommand {
    /// Write records and measure how long their acknowledgements take.
    #[command(
        after_help = "Example:\n  weir bench produce bench --rate 10000 --size 1024 --partitions 8 --duration-s 30 -o json"
    )]
    Produce(LoadArgs),
    /// Read a topic from its start and measure how fast it comes.
    #[command(after_help = "Example:\n  weir bench consume bench --duration-s 30")]
    Consume(consume::ConsumeArgs),
    /// Write records and measure how long they take to reach a consumer.
    #[command(after_help = "Example:\n  weir bench e2e bench --rate 1000 --size 1024 --duration-s 30")]
    E2e(LoadArgs),
}

/// The load to make.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LoadArgs {
    /// The topic; made where it is missing.
    #[arg(default_value = "weir-bench")]
    topic: String,
    /// Records a second, of all producers together; without it produce goes as fast as it can, and e2e at 1000.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    rate: Option<u64>,
    /// The size of a record's value in bytes; at least 24.
    #[arg(long, value_name = "BYTES", default_value_t = 1024, value_parser = size)]
    size: usize,
    /// How many partitions the topic gets where it is made now.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    partitions: i32,
    /// How many producers share the load, each with a connection of its own.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1024))]
    producers: u64,
    /// How long to measure, in seconds.
    #[arg(long, value_name = "S", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    duration_s: u64,
    /// How long to run before measuring, in seconds.
    #[arg(long, value_name = "S", default_value_t = 1, value_parser = clap::value_parser!(u64).range(0..=3600))]
    warmup_s: u64,
    /// How long a batch waits for more records, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    linger_ms: u64,
    /// How large a batch may grow, in bytes.
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 10)]
    batch_bytes: usize,
    /// Send each record to the next partition. Without it a partition gets a batch of them, then the next, as clients do
    /// that send records without keys.
    #[arg(long)]
    spread: bool,
    /// How batches are compressed; the values are random bytes.
    #[arg(long, value_enum, default_value_t, value_name = "CODEC")]
    compression: Compression,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
}

fn size(text: &str) -> Result<usize, String> {
    let bytes: usize = text.parse().map_err(|_| "must be a number of bytes".to_owned())?;
    if (load::VALUE_BYTES_MIN..=64 << 20).contains(&bytes) {
        Ok(bytes)
    } else {
        Err("must be from 24 to 67108864".to_owned())
    }
}

impl LoadArgs {
    fn load(&self, rate: Option<u64>) -> Load {
        let config = ProducerConfig {
            linger: Duration::from_millis(self.linger_ms),
            batch_bytes: self.batch_bytes,
            compression: self.compression.codec(),
            ..ProducerConfig::default()
        };
        Load {
            topic: self.topic.as_str().into(),
            rate,
            record_bytes: self.size,
            spread: self.spread,
            producers: self.producers,
            warmup: Duration::from_secs(self.warmup_s),
            duration: Duration::from_secs(self.duration_s),
            config,
        }
    }

    fn settings(&self, rate: Option<u64>, partitions: i32) -> Settings {
        Settings { rate, record_bytes: Some(self.size), producers: Some(self.producers), partitions }
    }
}

/// Runs the command.
pub(crate) async fn run(command: BenchCommand) -> Outcome {
    interruptible(async {
        match command {
            BenchCommand::Produce(args) => Box::pin(produce(args)).await,
            BenchCommand::Consume(args) => Box::pin(consume::run(args)).await,
            BenchCommand::E2e(args) => Box::pin(e2e::run(args)).await,
        }
    })
    .await
}

async fn produce(args: LoadArgs) -> Outcome {
    let client = args.connection.client().await?;
    let partitions = ensure_topic(&client, &args.topic, args.partitions).await?;
    let load = args.load(args.rate);
    let (tally, elapsed) = progress::timed(load.length(), load::run(&client, &load, partitions)).await?;
    client.close().await;
    tally.report("produce", &args.topic, elapsed, args.settings(args.rate, partitions)).write(args.output.output)?;
    failed_if_none_arrived(&tally)
}

/// A run in which nothing arrived is no measurement.
fn failed_if_none_arrived(tally: &report::Tally) -> Outcome {
    match &tally.first_error {
        Some(error) if tally.records == 0 => Err(anyhow::anyhow!("no record arrived: {error}").into()),
        None if tally.records == 0 => Err(anyhow::anyhow!("no record arrived in the time given").into()),
        _ => Ok(()),
    }
}

/// Makes the topic where it is missing, and gives the number of its partitions.
async fn ensure_topic(client: &Client, topic: &str, partitions: i32) -> Result<i32, Failure> {
    crate::command::topic::ensure(client, topic, partitions).await
}
