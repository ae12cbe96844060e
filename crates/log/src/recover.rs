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
//! A disk that is damaged below what is known to have been durable is lost in part: the journal is sealed at that known
//! end, its partitions go on above the reserve as for a lost disk, what can be read is uploaded, and the rest is given up
//! (`AbandonJournal`) by the uploader, which finds the journal shorter than its end. Until then appends are refused: the
//! reserve above the restart is only given out with the record of the loss.
//!
//! A crash at any step is a start of the same procedure (R3): the controller's commits decide.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use journal::{Catalog, RecoverError, Segment, Staging, Writer};
use metadata::{Command, Image, JournalState, PartitionStart, Reply, SubmitError};
use objects::cache::Reader;
use records::{Clock, JournalId, Offset, Partition, Position, Random, Timestamp, TopicPartition};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::commit::{Commits, Shared};
use crate::metrics::Metrics;
use crate::producers::Producers;
use crate::store::{Identity, Inner, Log, Options};
use crate::tail::Ring;
use crate::{retention, room, upload};

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
    /// The folder was written for another cluster, and may hold the only copy of its records.
    #[error(
        "the staging folder {path} belongs to {found}, and the object store holds cluster {cluster}: name the store that \
         it belongs to, or another `staging.dir`; deleting the folder gives up what was not uploaded from it"
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// The cluster of the object store.
        cluster: uuid::Uuid,
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
    /// `None` when this disk does not hold it.
    held: Option<Held>,
}

/// What this disk holds of a journal.
struct Held {
    /// Where what can be read ends.
    end: Position,
    /// Where each partition ends in it, of those that are not uploaded.
    ends: HashMap<TopicPartition, Offset>,
    /// Where the journal ended at least, when that is further on than `end`: what lies between is lost.
    known_end: Option<Position>,
}

impl Log {
    /// Recovers what earlier incarnations left, opens a journal, and starts the uploader.
    ///
    /// # Errors
    /// [`OpenError`]; a second try goes on where this one stopped.
    pub async fn open(options: Options, identity: Identity, environment: Environment) -> Result<Self, OpenError> {
        let Environment { metadata, objects, cluster, reader, clock, random, metrics } = environment;
        let image = metadata.image();
        belongs(&options.staging, &image)?;
        let mine = image.journals.values().filter(|journal| journal.owner == identity.broker);
        let mut ended = Vec::new();
        let mut found = Found::default();
        for journal in mine.filter(|journal| journal.state != JournalState::Drained) {
            let epoch = match journal.state {
                JournalState::Sealed { .. } | JournalState::Drained => None,
                JournalState::Open | JournalState::Recovering { .. } => {
                    Some(recovering(&metadata, journal.id, identity).await?)
                }
            };
            let held = scan(&options, journal, &image, &mut found, &*clock, &metrics).await?;
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
        let disk = |source| OpenError::Disk { path: options.staging.path().to_owned(), source };
        let folder = options.staging.create(journal_id).map_err(disk)?;
        for one in ended {
            seal(&metadata, one, journal_id, at).await?;
        }
        let catalog = Arc::new(Catalog::default());
        for segment in found.segments {
            catalog.add(segment);
        }
        remove_drained(&options, &metadata.image(), |journal| {
            journal == journal_id || catalog.segments().iter().any(|segment| segment.journal() == journal)
        });
        let shared = Arc::new(Shared::default());
        let staged = catalog.usage().staged_bytes;
        shared.staged.store(staged, Ordering::Release);
        // Nothing is cached yet: all that the indexes hold is staged.
        shared.staged_batches.store(catalog.usage().entries, Ordering::Release);
        metrics.staged(staged);
        let commits = Commits {
            ring: Ring::new(options.tail_bytes_max),
            shared: shared.clone(),
            clock: clock.clone(),
            newest: at,
            metrics: metrics.clone(),
        };
        let writer = journal::Options {
            disk: options.staging.disk().clone(),
            folder,
            journal: journal_id,
            segment_bytes: options.segment_bytes,
            seal_interval: options.seal_interval,
            queue_bytes_max: options.inflight_bytes_max,
        };
        let journal = Writer::start(writer, catalog.clone(), commits).map_err(disk)?;
        metrics.journal_opened();
        let log = Log::new(Inner {
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
            shared,
            unstaged: Notify::new(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        });
        log.inner.shared.crowded.notify_one();
        log.inner.tasks.spawn(room::run(log.for_task()));
        log.inner.tasks.spawn(upload::run(log.for_task()));
        log.inner.tasks.spawn(follow(log.for_task()));
        log.inner.tasks.spawn(retention::run(log.for_task()));
        Ok(log)
    }
}

/// Ends a journal where its disk ends; partitions go on in the successor.
async fn seal(metadata: &metadata::Handle, ended: Ended, successor: JournalId, at: Timestamp) -> Result<(), OpenError> {
    let journal = ended.journal.id;
    let command = match (ended.epoch, ended.held) {
        (Some(epoch), Some(Held { known_end: Some(end), .. })) => {
            let image = metadata.image();
            let partitions = partitions_of(&image, journal)
                .map(|(topic_partition, state)| PartitionStart { topic_partition, start_offset: state.assign_limit() })
                .collect();
            Command::SealJournal { journal, epoch, end: Some(end), successor, partitions, at }
        }
        (Some(epoch), Some(Held { end, ends, known_end: None })) => {
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
        // Sealed before, cut short since, and nothing left to upload.
        (None, Some(Held { end, known_end: Some(_), .. })) if end == ended.journal.uploaded => {
            Command::AbandonJournal { journal, at }
        }
        (None, Some(_)) => return Ok(()),
        (None, None) => Command::AbandonJournal { journal, at },
    };
    metadata.submit(command).await?;
    Ok(())
}

/// The partitions whose appends go to this journal, in order.
fn partitions_of(
    image: &Image,
    journal: JournalId,
) -> impl Iterator<Item = (TopicPartition, &Arc<metadata::PartitionState>)> {
    let mut topics: Vec<_> = image.topics.values().collect();
    topics.sort_unstable_by_key(|topic| topic.id);
    topics
        .into_iter()
        .flat_map(|topic| {
            let id = topic.id;
            let numbered = (0..).map(Partition).zip(&topic.partitions);
            numbered.map(move |(partition, state)| (TopicPartition { topic: id, partition }, state))
        })
        .filter(move |(_, state)| state.journal == journal)
}

/// Refuses a folder of another cluster; a folder that nobody wrote yet becomes this one's.
fn belongs(staging: &Staging, image: &Image) -> Result<(), OpenError> {
    let folder = staging.path().to_owned();
    let disk = |source| OpenError::Disk { path: folder.clone(), source };
    let foreign = |found: String| OpenError::Foreign { path: folder.clone(), found, cluster: image.cluster_id };
    let path = folder.join("cluster");
    staging.disk().make_folder(&folder).map_err(disk)?;
    match staging.disk().read(&path) {
        Ok(found) if found.trim_ascii() == image.cluster_id.to_string().as_bytes() => {}
        Ok(found) => return Err(foreign(format!("cluster {}", String::from_utf8_lossy(found.trim_ascii())))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            staging.disk().write(&path, format!("{}\n", image.cluster_id).as_bytes()).map_err(disk)?;
        }
        Err(error) => return Err(disk(error)),
    }
    // The metadata may also be older than the folder: a bucket that was put back to what it once was.
    let unknown = staging.folders().map_err(disk)?.into_iter().find(|id| *id >= image.next_journal());
    match unknown {
        Some(journal) => Err(foreign(format!("metadata that know a journal {journal}"))),
        None => Ok(()),
    }
}

/// Deletes the folders of journals that have nothing left to upload and nothing in use. Those of a journal that was given
/// up are put aside, for a person to look at.
pub(crate) fn remove_drained(options: &Options, image: &Image, is_used: impl Fn(JournalId) -> bool) {
    let staging = &options.staging;
    let folders = staging.folders().unwrap_or_else(|error| {
        tracing::warn!(%error, path = %staging.path().display(), "the staging folder cannot be listed");
        Vec::new()
    });
    for id in folders.into_iter().filter(|id| !is_used(*id)) {
        // What the metadata knew and forgot was drained.
        let done = match image.journals.get(&id) {
            Some(journal) if journal.state != JournalState::Drained => Ok(()),
            Some(journal) if journal.lost.is_some() => staging.keep_aside(id).map(|path| {
                tracing::warn!(journal = %id, path = %path.display(), "what is left of a journal that was given up is kept");
            }),
            _ => staging.remove(id),
        };
        if let Err(error) = done {
            tracing::warn!(%error, journal = %id, "a drained journal's folder could not be deleted");
        }
    }
}

async fn recovering(metadata: &metadata::Handle, journal: JournalId, identity: Identity) -> Result<u64, OpenError> {
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
    clock: &dyn Clock,
    metrics: &Metrics,
) -> Result<Option<Held>, OpenError> {
    let (staging, id, uploaded, now) = (options.staging.clone(), journal.id, journal.uploaded, clock.now());
    // What lies above the end that its owner wrote down was never acknowledged, whatever reads back now: the journal may have
    // been closed because a sync failed.
    let written_end = match journal.state {
        JournalState::Sealed { end } => Some(end),
        _ => journal.closed,
    };
    let depth = options.depth;
    let scan = move || {
        let (mut ends, mut producers) = (HashMap::new(), HashMap::<TopicPartition, Producers>::new());
        let recovered = journal::recover(&staging, id, uploaded, written_end, depth, &mut |topic_partition, header| {
            ends.insert(topic_partition, header.next_offset());
            producers.entry(topic_partition).or_default().applied(header, now);
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
            let folder = options.staging.folder(id);
            let behind =
                recovered.torn.as_ref().and_then(|torn| segment_behind(&options.staging, &folder, torn.position));
            let known_end = match journal.state {
                JournalState::Sealed { end } => {
                    // R2: what lies above the end of a sealed journal is never served. Nothing is written to a journal
                    // after its end was found, so nothing can lie there.
                    assert!(recovered.end <= end, "R2: journal {id} ended at {end} and holds {}", recovered.end);
                    end
                }
                // Durable when an object was committed, or when it was closed; or below a segment that was begun later, or
                // a frame that was written later.
                _ => journal
                    .last_commit
                    .durable_seen
                    .max(behind.unwrap_or_default())
                    .max(recovered.durable)
                    .max(journal.closed.unwrap_or_default()),
            };
            let known_end = Some(known_end).filter(|end| *end > recovered.end);
            if let Some(known_end) = known_end {
                metrics.get().lost_journals.inc();
                tracing::error!(
                    journal = %id, readable_end = %recovered.end, %known_end, folder = %folder.display(),
                    "the staging disk is damaged: acknowledged records are lost; \
                     partitions go on at offsets that were never used, and the folder is kept"
                );
            }
            found.segments.extend(recovered.segments);
            for (topic_partition, producers) in producers {
                // Journals come oldest first: what was known before is older.
                let older = found.producers.insert(topic_partition, producers);
                if let (Some(older), Some(newer)) = (older, found.producers.get_mut(&topic_partition)) {
                    newer.add_older(older);
                }
            }
            Ok(Some(Held { end: recovered.end, ends, known_end }))
        }
        Err(RecoverError::Lost(_)) if journal.closed == Some(uploaded) => {
            tracing::info!(journal = %id, "the staging disk is a new one; everything of the journal before was uploaded");
            Ok(Some(Held { end: uploaded, ends: HashMap::new(), known_end: None }))
        }
        Err(RecoverError::Lost(_)) => {
            report_loss(journal, image, metrics);
            Ok(None)
        }
        Err(source) => Err(OpenError::Journal { journal: id, source }),
    }
}

/// The first position of the last segment file behind `position`, if there is one. A segment is begun only after all
/// before it was durable, so what lies below was, whatever is read there now.
fn segment_behind(staging: &Staging, folder: &Path, position: Position) -> Option<Position> {
    let names = staging.disk().list(folder).ok()?;
    let firsts = names.iter().filter_map(|name| name.strip_suffix(".seg")?.parse().ok().map(Position));
    firsts.filter(|first| *first > position).max()
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
        lost_bytes_at_least = last.durable_seen.max(journal.closed.unwrap_or_default()).0.saturating_sub(journal.uploaded.0), lost_after_unix_ms = %last.newest_append.max(journal.opened_at),
        "the staging disk was lost: appends after this time that were not uploaded are gone; \
         partitions go on at offsets that were never used"
    );
}

/// Follows the metadata until the log stops, and tells those who wait when the journal fails.
async fn follow(log: Log) {
    let mut images = log.inner.metadata.watch();
    let mut failed = false;
    loop {
        drop(images.borrow_and_update());
        log.follow();
        tokio::select! {
            () = log.inner.stop.cancelled() => return,
            () = log.inner.shared.failed.cancelled(), if !failed => {
                failed = true;
                for partition in log.open_partitions() {
                    partition.fail();
                }
            }
            changed = images.changed() => if changed.is_err() { return },
        }
    }
}
