//! `weir consume`: records of a topic to standard output.

mod print;

use std::collections::{HashMap, HashSet};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::time::Duration;

use client::{Consumer, ConsumerConfig, Offset, OffsetSpec, Record, StartAt, TopicPartition};
use tokio_util::sync::CancellationToken;

use crate::command::topic;
use crate::connection::ConnectionArgs;
use crate::exit::{Failure, Outcome};
use crate::interrupt::graceful;
use crate::output;
use crate::place::Place;
use crate::progress::Progress;
use crate::text::unescape;

use self::print::{Printer, RecordFormat};

/// How long one poll waits; Ctrl-C does not wait for it.
const POLL: Duration = Duration::from_millis(500);

/// Write the records of a topic to standard output.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  weir consume greetings --until-end\n  \
    weir consume greetings --group billing --format json\n  weir consume greetings --from 2026-01-31T12:00:00Z --max 10\n\n\
    It goes on until Ctrl-C, unless --until-end or --max ends it. With --group the partitions are shared with the other \
    members, and what was written out is committed.")]
pub(crate) struct ConsumeArgs {
    /// The topic.
    topic: String,
    /// The group to be a member of; reading goes on where the group has committed.
    #[arg(long, value_name = "NAME", conflicts_with = "partition")]
    group: Option<String>,
    /// Where to begin: start, end, an offset, @MILLISECONDS since 1970, or a time such as 2026-01-31T12:00:00Z. With
    /// --group only start and end, and only where nothing is committed.
    #[arg(long, value_name = "PLACE", default_value = "start")]
    from: Place,
    /// Only this partition; may be given several times.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Vec<i32>,
    /// End after so many records.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max: Option<u64>,
    /// End where the topic ended when the command began.
    #[arg(long)]
    until_end: bool,
    /// How a record is written.
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: RecordFormat,
    /// Write the key and this text before the value, for instance : or \t.
    #[arg(long, value_name = "TEXT")]
    key_separator: Option<String>,
    #[command(flatten)]
    connection: ConnectionArgs,
}

/// Runs the command.
pub(crate) async fn run(args: ConsumeArgs) -> Outcome {
    graceful(|stop| consume(args, stop)).await
}

async fn consume(args: ConsumeArgs, stop: CancellationToken) -> Outcome {
    if args.key_separator.is_some() && args.format != RecordFormat::Lines {
        return Err(Failure::usage("--key-separator is for --format lines"));
    }
    let start_at = match (&args.group, args.from) {
        (_, Place::End) => StartAt::Latest,
        (None, _) | (_, Place::Start) => StartAt::Earliest,
        (Some(_), _) => {
            let told = "with --group, --from can be start or end only; use `weir group reset` to move a group";
            return Err(Failure::usage(told));
        }
    };
    let client = args.connection.client().await?;
    let partitions = topic::partitions(&client, &args.topic, &args.partition).await?;
    let ends = if args.until_end { Some(topic::ends(&client, &partitions).await?) } else { None };
    let config = ConsumerConfig { group: args.group.clone(), start_at, ..ConsumerConfig::default() };
    let mut consumer = client.consumer(config)?;
    match &args.group {
        Some(_) => consumer.subscribe([args.topic.as_str()]).await?,
        None => {
            consumer.assign(partitions.iter().cloned()).await?;
            for partition in &partitions {
                consumer.seek(partition, args.from.spec()).await?;
            }
        }
    }
    let printer = Printer { format: args.format, key_separator: args.key_separator.as_deref().map(unescape) };
    let left = args.max.unwrap_or(u64::MAX);
    let mut reading = Reading { printer, ends, left, written: HashMap::new(), overrun: HashSet::new() };
    let outcome = reading.read(&mut consumer, &stop).await;
    if args.group.is_some() {
        // What was written out counts as read, and nothing else does.
        let assigned = consumer.assignment();
        reading.written.retain(|partition, _| assigned.contains(partition));
        let committed = consumer.commit_offsets(reading.written).await;
        consumer.unsubscribe().await;
        outcome.and(committed.map_err(Failure::from))?;
    } else {
        outcome?;
    }
    drop(consumer);
    client.close().await;
    Ok(())
}

/// Reading and writing out, until it is enough.
struct Reading {
    printer: Printer,
    /// Where to end, for each partition.
    ends: Option<HashMap<TopicPartition, Offset>>,
    /// How many records may still be written.
    left: u64,
    /// The next offset after what was written, for each partition.
    written: HashMap<TopicPartition, Offset>,
    /// Partitions of which records came that lie behind their end.
    overrun: HashSet<TopicPartition>,
}

impl Reading {
    async fn read(&mut self, consumer: &mut Consumer, stop: &CancellationToken) -> Outcome {
        // A terminal shows the records themselves.
        let mut progress = (!io::stdout().is_terminal()).then(|| Progress::new("records", None));
        while self.left > 0 && !self.is_at_end(consumer) {
            let records = tokio::select! {
                () = stop.cancelled() => break,
                records = consumer.poll(POLL) => records?,
            };
            let count = self.write(&records);
            if let (Some(progress), Ok(count)) = (&mut progress, &count) {
                progress.add(*count);
            }
            output::finish(count.map(drop))?;
            for partition in std::mem::take(&mut self.overrun) {
                // Back to where the partition ended, and no further: what came later is neither written nor committed.
                let end = self.end(&partition).unwrap_or(Offset(0));
                consumer.seek(&partition, OffsetSpec::At(end)).await?;
                consumer.pause(&partition)?;
            }
        }
        if let Some(progress) = progress {
            progress.finish();
        }
        Ok(())
    }

    /// Whether all partitions have been read to where they ended. A partition whose place is not known yet is not.
    fn is_at_end(&self, consumer: &Consumer) -> bool {
        let Some(ends) = &self.ends else { return false };
        let assigned = consumer.assignment();
        let reached = |partition: &TopicPartition| {
            let end = ends.get(partition).copied().unwrap_or(Offset(0));
            consumer.position(partition).is_some_and(|position| position >= end)
        };
        !assigned.is_empty() && assigned.iter().all(reached)
    }

    fn write(&mut self, records: &[Record]) -> io::Result<u64> {
        let mut out = BufWriter::new(io::stdout().lock());
        let mut count = 0;
        let mut reached = HashMap::new();
        for record in records {
            if self.left == 0 {
                break;
            }
            let partition = TopicPartition::new(record.topic.clone(), record.partition);
            if self.end(&partition).is_some_and(|end| record.offset >= end) {
                self.overrun.insert(partition);
                continue;
            }
            self.printer.print(&mut out, record)?;
            reached.insert(partition, Offset(record.offset.0 + 1));
            self.left -= 1;
            count += 1;
        }
        out.flush()?;
        self.written.extend(reached);
        Ok(count)
    }

    /// Where a partition ended when the command began, if that is where to stop.
    fn end(&self, partition: &TopicPartition) -> Option<Offset> {
        self.ends.as_ref()?.get(partition).copied()
    }
}
