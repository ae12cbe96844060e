//! `weir produce`: records from standard input into a topic.

mod input;

use std::io;

use bytes::Bytes;
use clap::ValueEnum;
use client::{Acks, Codec, Delivery, NewRecord, Producer, ProducerConfig, Timestamp};
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::connection::ConnectionArgs;
use crate::exit::{Failure, Outcome};
use crate::interrupt::graceful;
use crate::progress::Progress;
use crate::text::unescape;

use self::input::{InputRecord, Layout};

/// How many records may be under way; more are not read.
const IN_FLIGHT_MAX: usize = 100_000;

/// Write records from standard input to a topic.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  echo 'key-1:hello' | weir produce greetings --key-separator :\n\n\
    With --format json each line is an object such as {\"key\": \"k\", \"value\": \"v\", \"headers\": [{\"key\": \"h\", \
    \"value\": \"1\"}]}, the form that `weir consume --format json` prints.")]
pub(crate) struct ProduceArgs {
    /// The topic; made where it is missing, if the cluster allows it.
    topic: String,
    /// How the input is divided: a record a line, a JSON object a line, or all of it as one value.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: InputFormat,
    /// What stands between key and value in a line, for instance : or \t; without it there are no keys.
    #[arg(long, value_name = "TEXT")]
    key_separator: Option<String>,
    /// A header for every record; may be given several times.
    #[arg(long = "header", value_name = "KEY=VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// The partition; by default the key decides, and without a key the producer.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// Whom to wait for: all that the cluster wants, the leader, or none.
    #[arg(long, value_enum, default_value_t, value_name = "WHO")]
    acks: WhichAcks,
    /// How batches are compressed.
    #[arg(long, value_enum, default_value_t, value_name = "CODEC")]
    compression: Compression,
    /// Write each record once and in order, whatever happens on the way; on by default where --acks is all.
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    idempotent: Option<bool>,
    #[command(flatten)]
    connection: ConnectionArgs,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum InputFormat {
    /// One record a line.
    #[default]
    Lines,
    /// One JSON object a line.
    Json,
    /// All of the input is one record's value.
    Raw,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum WhichAcks {
    /// As many as the cluster is configured to wait for.
    #[default]
    #[value(alias = "-1")]
    All,
    /// The leader.
    #[value(alias = "1")]
    Leader,
    /// Nobody.
    #[value(alias = "0")]
    None,
}

/// How batches are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Compression {
    /// Not at all.
    #[default]
    None,
    /// gzip.
    Gzip,
    /// Snappy.
    Snappy,
    /// LZ4.
    Lz4,
    /// Zstandard.
    Zstd,
}

impl Compression {
    /// The codec.
    pub(crate) fn codec(self) -> Codec {
        match self {
            Compression::None => Codec::None,
            Compression::Gzip => Codec::Gzip,
            Compression::Snappy => Codec::Snappy,
            Compression::Lz4 => Codec::Lz4,
            Compression::Zstd => Codec::Zstd,
        }
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Runs the command.
pub(crate) async fn run(args: ProduceArgs) -> Outcome {
    graceful(|stop| produce(args, stop)).await
}

async fn produce(args: ProduceArgs, stop: CancellationToken) -> Outcome {
    let layout = layout(&args)?;
    let acks = match args.acks {
        WhichAcks::All => Acks::All,
        WhichAcks::Leader => Acks::Leader,
        WhichAcks::None => Acks::None,
    };
    let config = ProducerConfig {
        acks,
        idempotent: args.idempotent.unwrap_or(acks == Acks::All),
        compression: args.compression.codec(),
        ..ProducerConfig::default()
    };
    let client = args.connection.client().await?;
    let producer = client.producer(config)?;
    let begun = Instant::now();
    let mut sent = Sent::new(&args);
    let outcome = sent.send_all(&producer, layout, &stop).await;
    producer.close().await?;
    client.close().await;
    sent.progress.finish();
    let (records, bytes) = (sent.records, sent.bytes);
    let seconds = begun.elapsed().as_secs_f64();
    let which = if records == 1 { "record" } else { "records" };
    eprint(&format!("{records} {which} ({bytes} bytes) written to {} in {seconds:.3} s", args.topic));
    outcome
}

fn layout(args: &ProduceArgs) -> Result<Layout, Failure> {
    match args.format {
        InputFormat::Lines => {
            let key_separator = args.key_separator.as_deref().map(unescape);
            if key_separator.as_deref() == Some("") {
                return Err(Failure::usage("--key-separator must not be empty"));
            }
            Ok(Layout::Lines { key_separator })
        }
        _ if args.key_separator.is_some() => {
            Err(Failure::usage("--key-separator is for --format lines: the other formats have no separators"))
        }
        InputFormat::Json => Ok(Layout::Json),
        InputFormat::Raw => Ok(Layout::Raw),
    }
}

/// What is under way and what has arrived.
struct Sent<'a> {
    args: &'a ProduceArgs,
    headers: Vec<(Bytes, Option<Bytes>)>,
    under_way: FuturesOrdered<Counted>,
    records: u64,
    bytes: u64,
    progress: Progress,
}

/// A delivery with the size of its record.
type Counted = futures::future::Map<Delivery, Box<dyn FnOnce(Result<client::Delivered, client::Error>) -> Done + Send>>;
type Done = Result<u64, client::Error>;

impl<'a> Sent<'a> {
    fn new(args: &'a ProduceArgs) -> Sent<'a> {
        let headers =
            args.headers.iter().map(|(key, value)| (key.clone().into(), Some(value.clone().into()))).collect();
        let progress = Progress::new("records", None);
        Sent { args, headers, under_way: FuturesOrdered::new(), records: 0, bytes: 0, progress }
    }

    /// Until the input ends, something fails, or the person has enough; what was taken is then waited for.
    async fn send_all(&mut self, producer: &Producer, layout: Layout, stop: &CancellationToken) -> Outcome {
        let mut input = input::start(io::stdin(), layout);
        let mut outcome = Ok(());
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(done) = self.under_way.next(), if !self.under_way.is_empty() => {
                    if let Err(failure) = self.count(done) {
                        outcome = Err(failure);
                        break;
                    }
                }
                batch = input.recv(), if self.under_way.len() < IN_FLIGHT_MAX => match batch {
                    None => break,
                    Some(Err(problem)) => {
                        outcome = Err(anyhow::anyhow!(problem).into());
                        break;
                    }
                    Some(Ok(batch)) => {
                        if let Err(failure) = self.send(producer, batch).await {
                            outcome = Err(failure);
                            break;
                        }
                    }
                },
            }
        }
        producer.flush().await;
        while let Some(done) = self.under_way.next().await {
            // The first thing that went wrong is what is told.
            outcome = outcome.and(self.count(done));
        }
        outcome
    }

    async fn send(&mut self, producer: &Producer, batch: Vec<InputRecord>) -> Outcome {
        for record in batch {
            let bytes = size(&record);
            let delivery = producer.send(self.new_record(record)).await?;
            let counted: Box<dyn FnOnce(_) -> Done + Send> =
                Box::new(move |done: Result<client::Delivered, client::Error>| done.map(|_| bytes));
            self.under_way.push_back(futures::FutureExt::map(delivery, counted));
        }
        Ok(())
    }

    fn count(&mut self, done: Done) -> Outcome {
        self.bytes += done?;
        self.records += 1;
        self.progress.add(1);
        Ok(())
    }

    fn new_record(&self, record: InputRecord) -> NewRecord {
        let mut new = NewRecord::to(self.args.topic.as_str());
        new.key = record.key;
        new.value = record.value;
        new.partition = self.args.partition.or(record.partition);
        new.timestamp = record.timestamp.map(Timestamp);
        new.headers = record.headers;
        new.headers.extend(self.headers.iter().cloned());
        new
    }
}

fn size(record: &InputRecord) -> u64 {
    let length = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
    (length(&record.key) + length(&record.value)) as u64
}

/// A line on standard error; nothing can be done when that is closed.
fn eprint(line: &str) {
    let _ = io::Write::write_fmt(&mut io::stderr(), format_args!("{line}\n"));
}
