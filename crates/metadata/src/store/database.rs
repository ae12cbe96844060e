//! One opening of the database: its settings, loading the image, and writing a batch so that it is durable.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use object_store::{Error as StoreError, ObjectStoreExt};
use objects::conditional::{self, Outcome};
use records::{Offset, TopicPartition};
use slatedb::config::{
    CompactionWorkerOptions, CompactorOptions, DurabilityLevel, FlushOptions, FlushType,
    GarbageCollectorDirectoryOptions, GarbageCollectorOptions, ReadOptions, ScanOptions, Settings,
};
use slatedb::db_cache::SplitCache;
use slatedb::db_cache::moka::{MokaCache, MokaCacheOptions};
use slatedb::{CloseReason, Db, ErrorKind};
use uuid::Uuid;

use super::clock::FlooredClock;
use super::rows::{self, Commit};
use super::settled::Settled;
use super::{OpenError, Options};
use crate::machine::{Change, Image};

/// How often the background tasks look at the store when nothing happens. All of them together, and listing for garbage,
/// are to stay below 400 requests an hour.
const POLL: Duration = Duration::from_secs(120);
/// How often files that are no longer needed are looked for.
const COLLECT: Duration = Duration::from_secs(1800);
/// How long files that are no longer needed are kept.
const KEEP: Duration = Duration::from_secs(900);
/// How many batches are written before they are merged out of the write-ahead log, which an opening must read.
const BATCHES_PER_MERGE: u64 = 500;
/// How long closing may take.
const CLOSE_MAX: Duration = Duration::from_secs(10);
/// The size at which rows in memory are merged out, however many batches they are.
const MERGE_BYTES: usize = 16 << 20;

/// Why a batch is not known to be durable.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    #[error("another broker opened the database")]
    Fenced,
    /// It may be written or not: only opening the database again tells.
    #[error("{0}")]
    Unclear(slatedb::Error),
}

impl From<slatedb::Error> for WriteError {
    fn from(error: slatedb::Error) -> Self {
        if error.kind() == ErrorKind::Closed(CloseReason::Fenced) { Self::Fenced } else { Self::Unclear(error) }
    }
}

/// Scans whatever is durable, and nothing that is not.
pub(super) fn scan_options() -> ScanOptions {
    ScanOptions::new().with_durability_filter(DurabilityLevel::Remote).with_cache_blocks(true)
}

/// Reads what is durable, and nothing that is not.
pub(super) fn read_options() -> ReadOptions {
    ReadOptions::new().with_durability_filter(DurabilityLevel::Remote)
}

/// The database, opened as its only writer.
pub(super) struct Database {
    pub(super) db: Db,
    epoch: u64,
    batches: u64,
    merging: Option<tokio::task::JoinHandle<()>>,
}

impl Database {
    /// Opens the database and fences the writer before. With `after`, only if that was the last writer.
    pub(super) async fn open(options: &Options, after: Option<u64>) -> Result<Self, slatedb::Error> {
        let path = objects::keys::metadata_path(&options.cluster).join("db");
        let clock = Arc::new(FlooredClock::new(options.clock.clone()));
        let cache = |capacity| {
            let options = MokaCacheOptions { max_capacity: capacity, time_to_live: None, time_to_idle: None };
            Some(Arc::new(MokaCache::new_with_opts(options)) as _)
        };
        // Indexes and filters are small, and every read asks them.
        let split = SplitCache::new()
            .with_block_cache(cache(options.cache_bytes / 4 * 3))
            .with_meta_cache(cache(options.cache_bytes / 4))
            .build();
        let mut builder = Db::builder(path, Arc::new(Settled::new(options.store.object_store().clone())))
            .with_settings(settings())
            .with_system_clock(clock.clone())
            .with_db_cache(Arc::new(split), 0);
        if let Some(after) = after {
            builder = builder.with_expected_epoch(after);
        }
        // SlateDB's future is large; on the heap it does not make every caller's so.
        let db = Box::pin(builder.build()).await?;
        let epoch = db.manifest().writer_epoch();
        // Every batch writes this row, so its time is the last that the database has seen.
        if let Some(row) = db.get_key_value(rows::commit_key()).await? {
            clock.raise(row.create_ts);
        }
        Ok(Self { db, epoch, batches: 0, merging: None })
    }

    /// The epoch under which this opening writes.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The row of the last batch.
    pub(super) async fn last_commit(&self) -> Result<Option<Commit>, LoadError> {
        match self.db.get(rows::commit_key()).await? {
            Some(row) => Ok(Some(Commit::decode(&row)?)),
            None => Ok(None),
        }
    }

    /// The image that the rows make.
    pub(super) async fn load(&self, mut image: Image) -> Result<Image, LoadError> {
        for kind in rows::IMAGE_KINDS {
            let mut scan = self.db.scan_with_options(rows::all_of(kind), &ScanOptions::new()).await?;
            while let Some(row) = scan.next().await? {
                let mut change = rows::decode(&row.key, &row.value)?;
                if let Change::PutPartition(of, state) = &mut change
                    && rows::is_uncounted(&row.key, &row.value)?
                {
                    Arc::make_mut(state).bytes = self.bytes_of(*of).await?;
                }
                image.apply(&[change]);
            }
        }
        image.revision = self.last_commit().await?.map_or(0, |commit| commit.revision);
        Ok(image)
    }

    /// Bytes of record batches in a partition's extents. Only rows that an earlier version wrote need them summed up.
    async fn bytes_of(&self, of: TopicPartition) -> Result<u64, LoadError> {
        let all = rows::extents(of, Offset(0), Offset(i64::MAX));
        let mut scan = self.db.scan_with_options(all, &ScanOptions::new()).await?;
        let mut bytes = 0_u64;
        while let Some(row) = scan.next().await? {
            bytes = bytes.saturating_add(rows::decode_extent(&row.key, &row.value)?.len);
        }
        Ok(bytes)
    }

    /// How many objects wait to be deleted, and their bytes.
    pub(super) async fn garbage(&self) -> Result<(u64, u64), LoadError> {
        let mut scan = self.db.scan_with_options(rows::garbage(None), &ScanOptions::new()).await?;
        let (mut objects, mut bytes) = (0, 0_u64);
        while let Some(row) = scan.next().await? {
            let (object, _) = rows::decode_garbage(&row.key, &row.value)?;
            objects += 1;
            bytes = bytes.saturating_add(object.size);
        }
        Ok((objects, bytes))
    }

    /// Writes a batch and waits until it is durable: nothing less counts, for a writer that is fenced is told only then.
    /// Not cancellation safe: the batch may be written or not.
    pub(super) async fn write(&mut self, batch: slatedb::WriteBatch) -> Result<(), WriteError> {
        let written = self.db.write(batch).await?;
        // No timer flushes: this is what sends it.
        self.db.flush().await?;
        written.await_durable().await?;
        self.batches += 1;
        if self.batches.is_multiple_of(BATCHES_PER_MERGE) {
            self.merge();
        }
        Ok(())
    }

    /// Begins to merge what is in the write-ahead log, so that the next opening need not read it.
    fn merge(&mut self) {
        if self.merging.as_ref().is_some_and(|merging| !merging.is_finished()) {
            return;
        }
        let db = self.db.clone();
        self.merging = Some(tokio::spawn(async move {
            let merge = FlushOptions { flush_type: FlushType::MemTable };
            if let Err(error) = db.flush_with_options(merge).await {
                tracing::debug!(%error, "the metadata's write-ahead log was not merged");
            }
        }));
    }

    /// Merges what is left, so that the next opening is quick, and closes. Nothing is lost when there is no time for that.
    pub(super) async fn close(self) {
        if let Some(merging) = self.merging {
            merging.abort();
        }
        match tokio::time::timeout(CLOSE_MAX, self.db.close()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, "the metadata database was not closed in order"),
            Err(_) => tracing::warn!("the metadata database was not merged before it was closed: the store is slow"),
        }
    }
}

fn settings() -> Settings {
    let collect = Some(GarbageCollectorDirectoryOptions { interval: Some(COLLECT), min_age: KEEP, dry_run: false });
    Settings {
        flush_interval: None,
        manifest_poll_interval: POLL,
        l0_sst_size_bytes: MERGE_BYTES,
        // Compaction looks rarely; a burst of merges in between must not be held up by it.
        l0_max_ssts: 64,
        l0_max_ssts_per_key: 64,
        max_unflushed_bytes: 16 * MERGE_BYTES,
        compactor_options: Some(CompactorOptions {
            poll_interval: POLL,
            commit_compacted_interval: POLL,
            max_concurrent_compactions: 1,
            worker: Some(CompactionWorkerOptions {
                max_concurrent_compactions: 1,
                compactions_poll_interval: POLL,
                max_sst_size: 64 << 20,
                ..CompactionWorkerOptions::default()
            }),
            ..CompactorOptions::default()
        }),
        garbage_collector_options: Some(GarbageCollectorOptions {
            manifest_options: collect,
            wal_options: collect,
            wal_fence_options: collect,
            compacted_options: collect,
            compactions_options: collect,
            detach_options: None,
            ..GarbageCollectorOptions::default()
        }),
        ..Settings::default()
    }
}

/// Why rows could not be loaded.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error(transparent)]
    Store(#[from] slatedb::Error),
    #[error(transparent)]
    Row(#[from] rows::RowError),
}

impl From<LoadError> for OpenError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Store(error) => error.into(),
            LoadError::Row(error) => Self::Corrupt(error.to_string()),
        }
    }
}

impl From<slatedb::Error> for OpenError {
    fn from(error: slatedb::Error) -> Self {
        match error.kind() {
            ErrorKind::Closed(CloseReason::Fenced) => Self::Fenced,
            ErrorKind::Data | ErrorKind::Invalid => Self::Corrupt(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

/// The first line of the object that holds the cluster's id.
const CLUSTER_ID_HEAD: &str = "weir cluster 1 ";

/// The cluster's id, which the first opening decides by creating an object that is never changed.
pub(super) async fn cluster_id(options: &Options) -> Result<Uuid, OpenError> {
    let key = objects::keys::metadata_path(&options.cluster).join("cluster");
    let store = options.store.object_store();
    let value = match store.get(&key).await {
        Ok(found) => found.bytes().await.map_err(unavailable)?,
        Err(StoreError::NotFound { .. }) => {
            let ours = Bytes::from(format!("{CLUSTER_ID_HEAD}{}\n", options.random.uuid()));
            match conditional::create(store.as_ref(), &key, ours.clone()).await.map_err(unavailable)? {
                Outcome::Won(_) => ours,
                Outcome::Lost(current) => current.value,
            }
        }
        Err(error) => return Err(unavailable(error)),
    };
    parse_cluster_id(&value).ok_or_else(|| OpenError::Corrupt(format!("the object {key} does not hold a cluster's id")))
}

fn parse_cluster_id(value: &[u8]) -> Option<Uuid> {
    let text = std::str::from_utf8(value).ok()?;
    text.strip_prefix(CLUSTER_ID_HEAD)?.trim_end().parse().ok()
}

fn unavailable(error: impl std::fmt::Display) -> OpenError {
    OpenError::Unavailable(error.to_string())
}
