//! Finds objects in the store that never became part of the log, and never will: an upload was cut off between its PUT
//! and its commit. They are deleted once they are a day old.
//!
//! **Why nothing that is needed is ever taken for an orphan.** An object's key names its journal, the position `from`
//! that it begins at, and its id. It becomes part of the log by one commit only, which must start exactly at the
//! journal's `uploaded` (O3), and that only grows; a journal that is forgotten never returns, for ids are not used twice.
//! So an object can no longer be committed once `uploaded > from`, or once its journal is forgotten. It is looked at in
//! this order:
//! 1. the object is *listed*: it exists;
//! 2. its journal is read, later than that: no commit of it succeeds from here on;
//! 3. the rows of the object are read, later than that: one that was committed before has one, as live or as garbage,
//!    until it is deleted from the store.
//!
//! So an object without a row in step 3 never was part of the log, or is deleted already. Its age decides nothing that
//! safety needs; it is there for mistakes that people make (a second cluster of the same name, say).
//!
//! Cost: one LIST for each thousand objects of the cluster, and one pass over the rows of all objects for each hundred
//! thousand that are old enough. Memory: what is remembered of so many, some 20 MiB.

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt;
use object_store::ObjectStore;
use objects::{Path, keys};
use records::{JournalId, Position, Timestamp};
use slatedb::{Db, DbReadOps};
use uuid::Uuid;

use super::Options;
use super::collect::delete_keys;
use super::database::{read_options, scan_options};
use super::local::Local;
use super::rows;
use crate::handle::QueryError;

/// How many objects of the store are looked at together.
const CANDIDATES_MAX: usize = 100_000;
/// How many objects are deleted with one request.
const CHUNK: usize = 1000;
/// Bytes that a pass over the rows reads at once.
const READ_AHEAD: usize = 1 << 20;
/// After a failure the next try comes so much sooner.
const SOONER: u32 = 24;

/// An object that no commit will ever refer to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// Its key.
    pub key: Path,
    /// How many bytes it has.
    pub size: u64,
    /// When it was written, by the store's clock.
    pub written_at: Timestamp,
}

/// What a sweep found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Objects that were listed.
    pub listed: u64,
    /// Those that are too young to be judged.
    pub young: u64,
    /// Those that may yet be committed, by the upload that wrote them.
    pub open: u64,
    /// What lies there and is none of ours: never touched.
    pub foreign: u64,
    /// Those that nothing refers to, nor ever will.
    pub orphans: u64,
    /// Bytes of these.
    pub orphan_bytes: u64,
}

/// Why a sweep ended early. What it had deleted by then was rightly deleted.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The metadata does not answer, or cannot be understood.
    #[error(transparent)]
    Metadata(#[from] QueryError),
    /// The object store does not answer: try again.
    #[error("the object store: {0}")]
    Store(#[from] object_store::Error),
}

/// Gives the rows as they are now, or later.
pub(super) trait Views {
    type Rows: DbReadOps + Sync;
    async fn newest(&self) -> Result<Self::Rows, QueryError>;
    /// They are not needed any more.
    async fn done(&self, _rows: Self::Rows) {}
}

impl Views for Local {
    type Rows = Db;

    async fn newest(&self) -> Result<Db, QueryError> {
        Ok((**self.shared.db.load()).clone())
    }
}

/// How to sweep.
pub(super) struct Sweep<'a> {
    pub(super) store: &'a dyn ObjectStore,
    pub(super) cluster: &'a str,
    /// Objects written after this are left alone.
    pub(super) before: Timestamp,
    pub(super) delete: bool,
}

/// Sweeps from time to time, until the controller stops.
pub(super) async fn run(local: Local, options: Options) {
    let interval = options.sweep_interval;
    if interval.is_zero() {
        return;
    }
    // Also a broker that starts anew every day gets to it.
    let mut wait = interval / SOONER;
    loop {
        tokio::time::sleep(wait).await;
        let sweep = Sweep {
            store: options.store.object_store().as_ref(),
            cluster: &options.cluster,
            before: before(options.clock.now(), options.orphan_age),
            delete: true,
        };
        let (mut objects, mut bytes) = (0, 0);
        let swept = sweep
            .run(&local, |orphan| {
                tracing::debug!(key = %orphan.key, size = orphan.size, "an object that was never committed is deleted");
                (objects, bytes) = (objects + 1, bytes + orphan.size);
            })
            .await;
        options.metrics.orphans_deleted(objects, bytes);
        wait = match swept {
            Ok(swept) => {
                if objects > 0 {
                    tracing::info!(
                        objects,
                        bytes,
                        listed = swept.listed,
                        "objects that were never committed are deleted"
                    );
                }
                interval
            }
            Err(error) => {
                options.metrics.failed();
                tracing::warn!(%error, "the search for objects that were never committed was cut off");
                interval / SOONER
            }
        };
    }
}

/// The time before which an object is old enough.
pub(super) fn before(now: Timestamp, age: Duration) -> Timestamp {
    Timestamp(now.0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)))
}

/// An object of the store that is old enough.
struct Candidate {
    orphan: Orphan,
    journal: JournalId,
    from: Position,
}

impl Sweep<'_> {
    /// Sweeps once. `found` is told of each orphan: before it is deleted, or, of a dry run, that it would be.
    pub(super) async fn run(&self, views: &impl Views, mut found: impl FnMut(&Orphan)) -> Result<Swept, SweepError> {
        let mut swept = Swept::default();
        // Asked once more after its end, a listing of S3 panics.
        let mut listing = self.store.list(Some(&keys::data_path(self.cluster))).fuse();
        loop {
            let mut candidates = HashMap::new();
            while candidates.len() < CANDIDATES_MAX
                && let Some(listed) = listing.next().await
            {
                self.sort(listed?, &mut candidates, &mut swept);
            }
            if candidates.is_empty() {
                return Ok(swept);
            }
            let rows = views.newest().await?;
            let orphans = orphans(&rows, candidates, &mut swept).await;
            views.done(rows).await;
            let orphans = orphans?;
            for chunk in orphans.chunks(CHUNK) {
                chunk.iter().for_each(&mut found);
                if self.delete {
                    let keys = chunk.iter().map(|orphan| orphan.key.clone()).collect();
                    let (_, failure) = delete_keys(self.store, keys).await;
                    if let Some(error) = failure {
                        return Err(error.into());
                    }
                }
            }
        }
    }

    fn sort(&self, listed: object_store::ObjectMeta, candidates: &mut HashMap<Uuid, Candidate>, swept: &mut Swept) {
        swept.listed += 1;
        let written_at = Timestamp(listed.last_modified.timestamp_millis());
        match keys::parse(&listed.location) {
            keys::Kind::Data { cluster, journal, from, id } if cluster == self.cluster => {
                if written_at > self.before {
                    swept.young += 1;
                } else {
                    let orphan = Orphan { key: listed.location, size: listed.size, written_at };
                    candidates.insert(id, Candidate { orphan, journal, from });
                }
            }
            _ => swept.foreign += 1,
        }
    }
}

/// Those of the candidates, which were listed before, that are orphans, in the order of their keys.
async fn orphans(
    rows: &impl DbReadOps,
    mut candidates: HashMap<Uuid, Candidate>,
    swept: &mut Swept,
) -> Result<Vec<Orphan>, QueryError> {
    // Most are referred to: one pass over the rows is cheaper than a look for each.
    let options = scan_options().with_read_ahead_bytes(READ_AHEAD).with_cache_blocks(false);
    let mut scan = rows.scan_with_options(rows::objects(None), &options).await?;
    while !candidates.is_empty()
        && let Some(row) = scan.next().await?
    {
        candidates.remove(&rows::decode_object_row(&row.key, &row.value)?.0.id);
    }
    let mut scan = rows.scan_with_options(rows::garbage(None), &options).await?;
    while !candidates.is_empty()
        && let Some(row) = scan.next().await?
    {
        candidates.remove(&rows::decode_garbage(&row.key, &row.value)?.0.id);
    }
    let mut found = Vec::new();
    for (id, candidate) in candidates {
        if !can_be_committed(rows, candidate.journal, candidate.from).await? {
            // Only now: it may have been committed since the pass above.
            if !is_known(rows, id).await? {
                found.push(candidate.orphan);
            }
        } else {
            swept.open += 1;
        }
    }
    found.sort_by(|one, other| one.key.cmp(&other.key));
    swept.orphans += found.len() as u64;
    swept.orphan_bytes += found.iter().map(|orphan| orphan.size).sum::<u64>();
    Ok(found)
}

/// Whether a commit of an object that begins there may yet succeed.
async fn can_be_committed(rows: &impl DbReadOps, journal: JournalId, from: Position) -> Result<bool, QueryError> {
    Ok(match rows::journal(rows, journal).await? {
        Ok(known) => known.uploaded <= from,
        // Forgotten; or, where the rows are older than the object, not heard of yet.
        Err(next) => journal >= next,
    })
}

/// Whether there is a row of the object.
async fn is_known(rows: &impl DbReadOps, id: Uuid) -> Result<bool, QueryError> {
    for key in [rows::object_key(id), rows::garbage_key(id)] {
        if rows.get_with_options(key, &read_options()).await?.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}
