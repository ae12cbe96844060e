//! Retention by time and size: the oldest extents of a partition are given up by moving its log start, as Kafka gives up
//! its oldest segments. Only what is uploaded goes, in whole extents, up to the upload frontier at most; removing extents
//! and objects is the metadata's business.
//!
//! - By time: an extent goes once its largest timestamp is older than `retention.ms`. One with a timestamp in the future
//!   stays. One whose records have no timestamps goes with the first after it that has.
//! - By size: an extent goes while what remains has `retention.bytes` at least. What counts is what is uploaded.
//! - Topics whose `cleanup.policy` does not say `delete`, and Weir's own, keep everything.
//!
//! Cost: what is known of the first extent of each partition says when it can go at the earliest, so a look at ten
//! thousand idle partitions is a pass over memory. Those that are due cost a row or two of metadata each, spread over
//! half of the interval; the moves of up to 256 of them share one PUT.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use futures::stream;
use metadata::{Command, PartitionState, SubmitError, Topic, TopicConfig};
use records::{Offset, Partition, Timestamp, TopicPartition};

use crate::fetch::FetchError;
use crate::store::Log;

/// How many partitions are looked at, and moved, together.
const CHUNK: usize = 256;
/// How many of them at the same time.
const LOOKS: usize = 8;
/// How many extents one look takes from the metadata at once.
const EXTENTS: usize = 64;

/// What a topic's configuration asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Milliseconds.
    age_max: Option<i64>,
    bytes_max: Option<u64>,
}

impl Rules {
    /// Nothing where everything is kept.
    fn of(topic: &Topic, config: &TopicConfig) -> Option<Self> {
        let rules = Self { age_max: config.retention_ms, bytes_max: config.retention_bytes };
        let any = rules.age_max.is_some() || rules.bytes_max.is_some();
        (any && config.deleted && !topic.internal).then_some(rules)
    }

    fn is_too_old(&self, newest: Timestamp, now: Timestamp) -> bool {
        self.age_max.is_some_and(|age_max| newest.0 >= 0 && now.0.saturating_sub(newest.0) > age_max)
    }

    /// Whether so many bytes can go of those that are there.
    fn is_too_much(&self, bytes: u64, going: u64) -> bool {
        self.bytes_max.is_some_and(|bytes_max| bytes.checked_sub(going).is_some_and(|rest| rest >= bytes_max))
    }
}

/// The first extent that a partition keeps. It says when there is something to do at the earliest.
#[derive(Debug, Clone, Copy)]
struct First {
    /// The log start that it is the first at.
    log_start: Offset,
    len: u64,
    newest: Timestamp,
    /// How far the partition was uploaded then.
    frontier: Offset,
}

impl First {
    fn is_due(&self, rules: &Rules, state: &PartitionState, now: Timestamp) -> bool {
        // Without timestamps, it waits for what comes after it.
        let unknown = self.newest.0 < 0 && rules.age_max.is_some() && self.frontier != state.frontier;
        unknown || rules.is_too_old(self.newest, now) || rules.is_too_much(state.bytes, self.len)
    }
}

/// What was found about one partition.
#[derive(Debug, Default)]
struct Found {
    /// Where its log is to start, when that moves.
    log_start: Option<Offset>,
    bytes: u64,
    first: Option<First>,
    /// Whether the last extent that goes holds what is remembered of producers.
    has_producers: bool,
}

/// Looks from time to time until the log stops.
pub(crate) async fn run(log: Log) {
    let inner = log.inner.clone();
    let interval = inner.options.retention_check_interval;
    // Brokers that start together do not look together.
    let spread = inner.random.next() % interval.as_millis().max(1);
    let mut wait = Duration::from_millis(u64::try_from(spread).unwrap_or(0));
    let mut retention = Retention::new(log);
    let looking = async {
        loop {
            tokio::time::sleep(wait).await;
            retention.look().await;
            wait = interval;
        }
    };
    tokio::select! {
        () = inner.stop.cancelled() => {}
        () = looking => {}
    }
}

/// Carries retention out for the partitions that this broker leads.
pub(crate) struct Retention {
    log: Log,
    first: HashMap<TopicPartition, First>,
}

impl Retention {
    pub(crate) fn new(log: Log) -> Self {
        Self { log, first: HashMap::new() }
    }

    /// Looks at all partitions once.
    pub(crate) async fn look(&mut self) {
        let due = self.due();
        if due.is_empty() {
            return;
        }
        let chunks = u32::try_from(due.len().div_ceil(CHUNK)).unwrap_or(u32::MAX);
        let pause = self.log.inner.options.retention_check_interval / 2 / chunks;
        let (mut moved, mut bytes, mut failed) = (0_u64, 0_u64, 0_u64);
        for (nth, chunk) in due.chunks(CHUNK).enumerate() {
            if nth > 0 {
                tokio::time::sleep(pause).await;
            }
            let log = &self.log;
            let looks = chunk.iter().cloned().map(|(id, rules, state)| {
                let log = log.for_task();
                async move { (id, find(&log, id, rules, &state).await) }
            });
            let found: Vec<_> = stream::iter(looks).buffer_unordered(LOOKS).collect().await;
            let moves = found.into_iter().map(|(id, found)| {
                let log = log.for_task();
                async move {
                    let Ok(found) = found else { return (id, found) };
                    let moved = log.move_log_start(id, &found).await;
                    (id, moved.map(|()| found))
                }
            });
            let moves = join_all(moves).await;
            for (id, found) in moves {
                match found {
                    Ok(found) => {
                        moved += u64::from(found.log_start.is_some());
                        bytes += found.bytes;
                        match found.first {
                            Some(first) => self.first.insert(id, first),
                            None => self.first.remove(&id),
                        };
                    }
                    Err(error) => {
                        tracing::debug!(%error, partition = %id, "retention could not be carried out yet");
                        failed += 1;
                    }
                }
            }
        }
        self.log.inner.metrics.get().retention_bytes.inc_by(bytes);
        if failed > 0 {
            tracing::warn!(
                partitions = failed,
                "retention could not be carried out: it is tried again at the next look"
            );
        }
        if moved > 0 {
            tracing::info!(partitions = moved, bytes, "records are given up for their age or size");
        }
    }

    /// Partitions of which something may have to go.
    pub(crate) fn due(&mut self) -> Vec<(TopicPartition, Rules, Arc<PartitionState>)> {
        let inner = &self.log.inner;
        let image = inner.metadata.image();
        let defaults = image.broker_config(inner.identity.broker);
        let now = inner.clock.now();
        self.first.retain(|id, _| image.partition(*id).is_some());
        let mut due = Vec::new();
        for topic in image.topics.values() {
            let Some(rules) = Rules::of(topic, &topic.config(&defaults)) else { continue };
            for (partition, state) in (0..).map(Partition).zip(&topic.partitions) {
                let id = TopicPartition { topic: topic.id, partition };
                let leads = state.leader == inner.identity.broker && state.journal == inner.journal_id;
                // While extents below the log start are being removed, the bytes still count them.
                if !leads || state.frontier <= state.log_start || image.trims.contains(&id) {
                    continue;
                }
                let first = self.first.get(&id).filter(|first| first.log_start == state.log_start);
                if first.is_none_or(|first| first.is_due(&rules, state, now)) {
                    due.push((id, rules, state.clone()));
                }
            }
        }
        due
    }
}

/// Finds what of a partition is to go.
async fn find(log: &Log, id: TopicPartition, rules: Rules, state: &PartitionState) -> Result<Found, RetentionError> {
    let now = log.inner.clock.now();
    let mut found = Found::default();
    let (mut from, mut rest) = (state.log_start, state.bytes);
    // Extents without timestamps, which go with one after them or not at all.
    let mut passed: Option<(u64, First)> = None;
    loop {
        let extents = log.inner.metadata.extents(id, from, EXTENTS).await?;
        for located in &extents {
            let extent = &located.extent;
            let log_start = found.log_start.unwrap_or(state.log_start);
            let first = First { log_start, len: extent.len, newest: extent.max_timestamp, frontier: state.frontier };
            let passed_len = passed.map_or(0, |(len, _)| len);
            let going = passed_len.saturating_add(extent.len);
            if rules.is_too_old(extent.max_timestamp, now) || rules.is_too_much(rest, going) {
                rest = rest.saturating_sub(going);
                found.log_start = Some(extent.end_offset);
                found.bytes += going;
                found.has_producers = extent.producers.len > 0;
                passed = None;
            } else if extent.max_timestamp.0 < 0 && rules.age_max.is_some() {
                passed = Some((going, passed.map_or(first, |(_, first)| first)));
            } else {
                found.first = Some(passed.map_or(first, |(_, first)| first));
                return Ok(found);
            }
        }
        match extents.last() {
            Some(last) if last.extent.end_offset < state.frontier => from = last.extent.end_offset,
            _ => break,
        }
    }
    found.first = passed.map(|(_, first)| first);
    Ok(found)
}

/// Why nothing was given up now: it is tried again.
#[derive(Debug, thiserror::Error)]
enum RetentionError {
    #[error(transparent)]
    Query(#[from] metadata::QueryError),
    #[error(transparent)]
    Submit(#[from] SubmitError),
    #[error(transparent)]
    Producers(#[from] FetchError),
}

impl Log {
    async fn move_log_start(&self, id: TopicPartition, found: &Found) -> Result<(), RetentionError> {
        let Some(offset) = found.log_start else { return Ok(()) };
        let inner = &self.inner;
        let Ok(partition) = self.partition(id) else { return Ok(()) };
        if offset >= partition.frontier() && found.has_producers {
            // The last extent goes, and with it the snapshot of its producers: they stay in memory.
            if self.load_producers(&partition).await.is_err() {
                return Err(FetchError::Damaged("the producers' snapshot").into());
            }
        }
        tracing::debug!(partition = %id, log_start = %offset, bytes = found.bytes, "the log start moves");
        inner.metadata.submit(Command::SetLogStart { topic_partition: id, offset }).await?;
        Ok(())
    }
}
