//! Start: the journals that earlier incarnations of this broker left are ended, then a new one is opened.
//!
//! Step by step as in the design, with one member:
//! 1. The controller commits *recovering(journal, epoch)*.
//! 2. The only member is this disk. Its answer is what it holds, or, without its marker, *unknown* (J4).
//! 3. `end` is its durable position; the scan synced what it found.
//! 4. *sealed(journal, end)* is committed, with a new leader epoch for each of its partitions, each starting where the
//!    journal ends (R1, R2). A disk that is lost gives no end: partitions start [`metadata::OFFSET_RESERVE`] above
//!    their frontier, so that no offset is used twice (decision 0001).
//! 5. The uploader takes the segments to the object store; then the folder is deleted.
//!
//! A crash at any step is a start of the same procedure (R3): the controller's commits decide.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use journal::{Catalog, RecoverError, Segment, Writer};
use metadata::{Command, Image, JournalState, PartitionStart, Reply, SubmitError};
use objects::cache::Reader;
use records::{Clock, JournalId, Offset, Position, Random, Timestamp, TopicPartition};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::commit::Commits;
use crate::metrics::Metrics;
use crate::producers::Producers;
use crate::store::{Identity, Inner, Log, Options};
use crate::tail::Ring;
use crate::upload;

/// Why the log could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The staging disk refused: repair it, or start with an empty folder.
    #[error("the staging folder {path}: {source}")]
    Disk {
        /// The folder.
        path: PathBuf,
        /// What the disk said.
        source: std::io::Error,
    },
    /// A journal cannot be read.
    #[error("journal {journal}: {source}")]
    Journal {
        /// Which.
        journal: JournalId,
        /// What is wrong.
        source: RecoverError,
    },
    /// The controller refused, or cannot be reached.
    #[error("the metadata: {0}")]
    Metadata(#[from] SubmitError),
}

/// What a log needs of its surroundings.
pub struct Environment {
    /// The metadata.
    pub metadata: metadata::Handle,
    /// The object store.
    pub objects: objects::Store,
    /// The folder of this cluster's objects in it.
    pub cluster: String,
    /// The cache over it.
    pub reader: Reader,
    /// The wall clock.
    pub clock: Arc<dyn Clock>,
    /// Randomness for ids.
    pub random: Arc<dyn Random>,
    /// The counters.
    pub metrics: Metrics,
}

/// What the scans found, of all journals.
#[derive(Default)]
struct Found {
    segments: Vec<Arc<Segment>>,
    producers: HashMap<TopicPartition, Producers>,
}

/// A journal of an earlier incarnation, and what this disk holds of it.
struct Ended {
    journal: Arc<metadata::Journal>,
    /// The epoch under which it is being recovered; `None` when it was sealed before.
    epoch: Option<u64>,
    /// Its end, and that of each partition in it; `None` when this disk does not hold it.
    held: Option<(Position, HashMap<TopicPartition, Offset>)>,
}

impl Log {
    /// Recovers what earlier incarnations left, opens a journal, and starts the uploader.
    ///
    /// # Errors
    /// [`OpenError`]; a second try goes on where this one stopped.
    pub async fn open(options: Options, identity: Identity, environment: Environment) -> Result<Self, OpenError> {
        let Environment { metadata, objects, cluster, reader, clock, random, metrics } = environment;
        let image = metadata.image();
        let mine = image.journals.values().filter(|journal| journal.owner == identity.broker);
        let mut ended = Vec::new();
        let mut found = Found::default();
        for journal in mine.filter(|journal| journal.state != JournalState::Drained) {
            let epoch = match journal.state {
                JournalState::Sealed { .. } | JournalState::Drained => None,
                JournalState::Open | JournalState::Recovering { .. } => Some(recovering(&metadata, journal.id, identity).await?),
            };
            let held = scan(&options, journal, &image, &mut found, &metrics).await?;
            ended.push(Ended { journal: journal.clone(), epoch, held });
        }
        let at = clock.now();
        let open = Command::OpenJournal {
            owner: identity.broker,
            incarnation: identity.incarnation,
            members: vec![identity.broker],
            ack_quorum: 1,
            at,
        };
        let Reply::JournalOpened { journal: journal_id } = metadata.submit(open).await? else {
            unreachable!("OpenJournal is answered with JournalOpened")
        };
        let folder = journal::create_folder(&options.staging, journal_id)
            .map_err(|source| OpenError::Disk { path: options.staging.clone(), source })?;
        for one in ended {
            seal(&metadata, one, journal_id, at).await?;
        }
        let catalog = Arc::new(Catalog::default());
        for segment in found.segments {
            catalog.add(segment);
        }
        let sealed = Arc::new(Notify::new());
        let commits =
            Commits { ring: Ring::new(options.tail_bytes_max), sealed: sealed.clone(), metrics: metrics.clone() };
        let writer = journal::Options {
            folder,
            journal: journal_id,
            segment_bytes: options.segment_bytes,
            seal_interval: options.seal_interval,
            queue_bytes_max: options.inflight_bytes_max,
        };
        let journal = Writer::start(writer, catalog.clone(), commits)
            .map_err(|source| OpenError::Disk { path: options.staging.clone(), source })?;
        let log = Log {
            inner: Arc::new(Inner {
                inflight: Arc::new(Semaphore::new(options.inflight_bytes_max)),
                options,
                identity,
                metadata,
                objects,
                cluster,
                reader,
                clock,
                random,
                metrics,
                journal_id,
                journal,
                catalog,
                partitions: parking_lot::RwLock::default(),
                recovered: parking_lot::Mutex::new(found.producers),
                sealed,
                trimmed: Notify::new(),
                tasks: TaskTracker::new(),
                stop: CancellationToken::new(),
            }),
        };
        log.inner.tasks.spawn(upload::run(log.clone()));
        log.inner.tasks.spawn(follow(log.clone()));
        Ok(log)
    }
}

/// Ends a journal where its disk ends; partitions go on in the successor.
async fn seal(
    metadata: &metadata::Handle,
    ended: Ended,
    successor: JournalId,
    at: Timestamp,
) -> Result<(), OpenError> {
    let journal = ended.journal.id;
    let command = match (ended.epoch, ended.held) {
        (Some(epoch), Some((end, ends))) => {
            // Partitions that were deleted, or that are led elsewhere by now, do not go on from here.
            let image = metadata.image();
            let goes_on = |id: &TopicPartition| image.partition(*id).is_some_and(|state| state.journal == journal);
            let mut partitions: Vec<_> = ends
                .into_iter()
                .filter(|(id, _)| goes_on(id))
                .map(|(topic_partition, start_offset)| PartitionStart { topic_partition, start_offset })
                .collect();
            partitions.sort_unstable_by_key(|start| start.topic_partition);
            tracing::info!(%journal, %end, partitions = partitions.len(), "the journal of an earlier incarnation is sealed");
            Command::SealJournal { journal, epoch, end: Some(end), successor, partitions, at }
        }
        (Some(epoch), None) => {
            Command::SealJournal { journal, epoch, end: None, successor, partitions: Vec::new(), at }
        }
        (None, Some(_)) => return Ok(()),
        (None, None) => Command::AbandonJournal { journal, at },
    };
    metadata.submit(command).await?;
    Ok(())
}

async fn recovering(
    metadata: &metadata::Handle,
    journal: JournalId,
    identity: Identity,
) -> Result<u64, OpenError> {
    match metadata.submit(Command::RecoverJournal { journal, by: identity.broker }).await? {
        Reply::Recovering { epoch } => Ok(epoch),
        other => unreachable!("RecoverJournal is answered with Recovering, not {other:?}"),
    }
}

/// Reads what this disk holds of a journal; `None` when it does not hold it.
async fn scan(
    options: &Options,
    journal: &metadata::Journal,
    image: &Image,
    found: &mut Found,
    metrics: &Metrics,
) -> Result<Option<(Position, HashMap<TopicPartition, Offset>)>, OpenError> {
    let (staging, id, uploaded) = (options.staging.clone(), journal.id, journal.uploaded);
    let scan = move || {
        let (mut ends, mut producers) = (HashMap::new(), HashMap::<TopicPartition, Producers>::new());
        let recovered = journal::recover(&staging, id, uploaded, &mut |topic_partition, batch| {
            ends.insert(topic_partition, batch.next_offset());
            producers.entry(topic_partition).or_default().applied(batch);
        });
        recovered.map(|recovered| (recovered, ends, producers))
    };
    let scanned = match tokio::task::spawn_blocking(scan).await {
        Ok(scanned) => scanned,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    match scanned {
        Ok((recovered, ends, producers)) => {
            let bytes = recovered.end.0 - uploaded.0;
            tracing::info!(journal = %id, bytes, segments = recovered.segments.len(), "recovered from the staging disk");
            if let Some(torn) = &recovered.torn {
                tracing::warn!(
                    journal = %id, path = %torn.path.display(), position = %torn.position, reason = torn.reason,
                    "the journal ends in bytes that were never acknowledged, or its disk is damaged"
                );
            }
            if let JournalState::Sealed { end } = journal.state {
                // R2: what lies above the end of a sealed journal is never served.
                if recovered.end < end {
                    tracing::error!(journal = %id, %end, found = %recovered.end, "a sealed journal is cut short: records are lost");
                }
            }
            found.segments.extend(recovered.segments);
            for (topic_partition, producers) in producers {
                // Journals come oldest first: what was known before is older.
                let older = found.producers.insert(topic_partition, producers);
                if let (Some(older), Some(newer)) = (older, found.producers.get_mut(&topic_partition)) {
                    newer.add_older(older);
                }
            }
            Ok(Some((recovered.end, ends)))
        }
        Err(RecoverError::Lost(_)) => {
            report_loss(journal, image, metrics);
            Ok(None)
        }
        Err(source) => Err(OpenError::Journal { journal: id, source }),
    }
}

/// Says which appends were lost, as far as anyone can know: what the metadata saw of the journal last.
fn report_loss(journal: &metadata::Journal, image: &Image, metrics: &Metrics) {
    let partitions = image.topics.values().flat_map(|topic| &topic.partitions);
    let affected = partitions.filter(|state| state.epochs.iter().any(|epoch| epoch.journal == journal.id)).count();
    if affected == 0 {
        // Killed between opening the journal and making its folder: nothing was ever appended.
        return;
    }
    metrics.get().lost_journals.inc();
    let last = &journal.last_commit;
    tracing::warn!(
        journal = %journal.id, incarnation = %journal.incarnation, partitions = affected, uploaded_bytes = %journal.uploaded,
        lost_bytes_at_least = last.durable_seen.0.saturating_sub(journal.uploaded.0), lost_after_unix_ms = %last.newest_append.max(journal.opened_at),
        "the staging disk was lost: appends after this time that were not uploaded are gone; \
         partitions go on at offsets that were never used"
    );
}

/// Follows the metadata until the log stops.
async fn follow(log: Log) {
    let mut images = log.inner.metadata.watch();
    loop {
        let image = images.borrow_and_update().clone();
        log.follow(&image);
        tokio::select! {
            () = log.inner.stop.cancelled() => return,
            changed = images.changed() => if changed.is_err() { return },
        }
    }
}
