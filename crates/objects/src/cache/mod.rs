//! Reads data objects through a cache of fixed, aligned chunks (the last one of an object is short), weighed in bytes.
//!
//! - One GET per chunk, whoever asks and however many ask at once. A fetch that began goes on when the asking client went
//!   away, and its result stays for the next.
//! - The missing chunks of one read are fetched in parallel, within a bound for the read and one for all; at the bound,
//!   readers wait.
//! - A reader that goes through much ([`ReadAhead`] tells it) reads what nobody wants again. Its chunks have a part of the
//!   cache of their own, and it gets half of the GETs at most: it takes nothing from those who come back to what they read.
//! - A reader that goes forward ([`ReadAhead`]) has the chunks before it fetched, 1 to 16 of them, as long as it stays
//!   sequential, and from one object to the next. These fetches have a bound of their own, and are left out when it is
//!   reached: they never delay a reader. So have the chunks that were fetched ahead and that nobody has read yet, of all
//!   readers together: they are still there when their readers come.
//!
//! Objects are immutable, so nothing here ever gets old. What is read is not checked: the format's checksums do that.
//! Request cost: one GET per chunk that was not there, 1 GiB read once in sequence is 1024 GETs.

mod ahead;
mod metrics;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::Lane;
use crate::format::FormatError;

use ahead::Part;
pub use ahead::ReadAhead;
pub use metrics::Metrics;

/// What one cached chunk costs besides its bytes.
const ENTRY_OVERHEAD_BYTES: u32 = 256;
/// How many chunks readers may wait for at once; above it they wait for their turn to ask.
const WAITING_MAX: usize = 1024;
/// How many chunks of one read are fetched at once, so that one large read does not take all turns.
const FETCHES_PER_READ: usize = 4;
/// The least that each part of the cache holds, in chunks.
const PART_CHUNKS_MIN: u64 = 4;

/// How a [`Reader`] works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// The size of a chunk.
    pub chunk_bytes: u64,
    /// How many bytes the cache may hold. At least eight chunks, whatever is given.
    pub capacity_bytes: u64,
    /// How many of these are for readers that go through much. At least four chunks, and four are left to others.
    pub scan_bytes: u64,
    /// How many GETs for waiting readers may run at once.
    pub fetches_max: usize,
    /// How many GETs ahead of readers may run at once; 0 reads nothing ahead.
    pub prefetches_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            chunk_bytes: 1 << 20,
            capacity_bytes: 256 << 20,
            scan_bytes: 128 << 20,
            fetches_max: 32,
            prefetches_max: 16,
        }
    }
}

/// An object to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Its unique id, under which its chunks are cached.
    pub id: Uuid,
    /// Its key.
    pub key: Path,
    /// How many bytes it has.
    pub size: u64,
}

/// A part of an object through which somebody reads.
#[derive(Debug, Clone)]
pub struct Stretch<'a> {
    /// The object.
    pub object: &'a Object,
    /// Where in it the bytes lie.
    pub range: Range<u64>,
    /// What is needed before any of them, if anything: an index, say.
    pub first: Range<u64>,
}

impl Stretch<'_> {
    fn part(&self) -> Part {
        Part { object: self.object.id, range: self.range.start..self.range.end.min(self.object.size) }
    }
}

/// Why bytes could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The store did not give the bytes: ask again later.
    #[error("cannot read {key}: {source}")]
    Store {
        /// The object's key.
        key: Path,
        /// What the store said.
        source: Arc<object_store::Error>,
    },
    /// The object is not there: the metadata that named it are old, or it was lost.
    #[error("{key} is not in the store")]
    Missing {
        /// The object's key.
        key: Path,
    },
    /// The object is shorter than the metadata say.
    #[error("{key} gave {found} bytes where {expected} should be")]
    Short {
        /// The object's key.
        key: Path,
        /// How many bytes were asked for.
        expected: u64,
        /// How many came.
        found: u64,
    },
    /// The range does not lie in the object.
    #[error("bytes {start}..{end} do not lie in {key}, which has {size}")]
    Bounds {
        /// The object's key.
        key: Path,
        /// The first byte.
        start: u64,
        /// The byte after the last.
        end: u64,
        /// How many bytes the object has.
        size: u64,
    },
    /// The object is damaged.
    #[error("{key} is damaged: {source}")]
    Format {
        /// The object's key.
        key: Path,
        /// What is wrong with it.
        source: FormatError,
    },
    /// The reader was closed.
    #[error("the reader is closed")]
    Closed,
}

/// Reads objects through one cache. Cheap to clone; when the last clone is dropped, fetches that still run are stopped.
#[derive(Clone)]
pub struct Reader {
    inner: Arc<Inner>,
    _stop: Arc<DropGuard>,
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("options", &self.inner.options).finish_non_exhaustive()
    }
}

struct Inner {
    store: Arc<dyn ObjectStore>,
    options: Options,
    lane: Lane,
    cache: Cache<(Uuid, u64), Arc<Chunk>>,
    /// The part for readers that go through much.
    scanned: Cache<(Uuid, u64), Arc<Chunk>>,
    metrics: Metrics,
    waiting: Arc<Semaphore>,
    fetches: Semaphore,
    /// Of these, what readers that go through much may have.
    scans: Semaphore,
    prefetches: Arc<Semaphore>,
    /// Chunks that were fetched ahead and that nobody has read yet.
    unread: Arc<Semaphore>,
    /// How far ahead a reader is fetched for at most, in chunks.
    window_max: u64,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// On whose behalf a chunk is fetched. Held, with its permit, until the fetch ends.
struct Ask {
    /// Whether the GET has to wait for its turn among those of readers.
    in_turn: bool,
    /// Whether the reader goes through much.
    scan: bool,
    /// A reader's place among those that wait; or the right to one GET ahead of readers.
    _permit: OwnedSemaphorePermit,
    /// The right of a chunk to be there before anybody reads it.
    unread: Mutex<Option<OwnedSemaphorePermit>>,
}

/// A part of an object in memory.
struct Chunk {
    bytes: Bytes,
    /// Until somebody reads it; gone with the chunk if nobody does.
    unread: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Chunk {
    fn read(&self) -> Bytes {
        self.unread.lock().take();
        self.bytes.clone()
    }
}

impl Reader {
    /// A reader of `store` with an empty cache, which works on the threads of those who ask.
    ///
    /// # Panics
    /// When an option is 0, or a chunk is larger than 1 GiB.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, options: Options) -> Self {
        Self::in_lane(store, options, Lane::none())
    }

    /// A reader that fetches in a lane of its own. Connections of `store` may come to belong to that lane's threads: it is
    /// shared with nobody who must not wait for them.
    ///
    /// # Panics
    /// As [`Self::new`].
    #[must_use]
    pub fn in_lane(store: Arc<dyn ObjectStore>, options: Options, lane: Lane) -> Self {
        assert!((1..=1 << 30).contains(&options.chunk_bytes), "a chunk has 1 byte to 1 GiB");
        assert!(options.fetches_max > 0, "a reader needs to fetch");
        let stop = CancellationToken::new();
        let part_min = PART_CHUNKS_MIN * (options.chunk_bytes + u64::from(ENTRY_OVERHEAD_BYTES));
        let capacity = options.capacity_bytes.max(2 * part_min);
        let for_scans = options.scan_bytes.clamp(part_min, capacity - part_min);
        // What is on its way counts for no part of the cache: all of it together is less than half of its size.
        let at_once = usize::try_from((capacity / 4 / options.chunk_bytes).max(1)).unwrap_or(usize::MAX);
        let fetches_max = options.fetches_max.min(at_once);
        let ahead_max = (for_scans / 2 / options.chunk_bytes).max(1);
        let inner = Inner {
            store,
            options,
            lane,
            cache: part(capacity - for_scans),
            scanned: part(for_scans),
            metrics: Metrics::default(),
            waiting: Arc::new(Semaphore::new(WAITING_MAX)),
            fetches: Semaphore::new(fetches_max),
            scans: Semaphore::new((fetches_max / 2).max(1)),
            prefetches: Arc::new(Semaphore::new(options.prefetches_max.min((at_once / 2).max(1)))),
            unread: Arc::new(Semaphore::new(usize::try_from(ahead_max).unwrap_or(Semaphore::MAX_PERMITS))),
            window_max: ahead_max.min(at_once as u64 / 2).max(1),
            tasks: TaskTracker::new(),
            stop: stop.clone(),
        };
        Self { inner: Arc::new(inner), _stop: Arc::new(stop.drop_guard()) }
    }

    /// Where the reader works; also for others who do what is not urgent.
    #[must_use]
    pub fn lane(&self) -> &Lane {
        &self.inner.lane
    }

    /// The counters.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// The bytes of `range`, in order, as slices of cached chunks. Cancellation safe; what was asked for is fetched
    /// all the same.
    ///
    /// # Errors
    /// When the range does not lie in the object, or the store does not give it.
    pub async fn read(&self, object: &Object, range: Range<u64>) -> Result<Vec<Bytes>, ReadError> {
        self.read_range(object, range, false).await
    }

    async fn read_range(&self, object: &Object, range: Range<u64>, scan: bool) -> Result<Vec<Bytes>, ReadError> {
        if range.start > range.end || range.end > object.size {
            let Range { start, end } = range;
            return Err(ReadError::Bounds { key: object.key.clone(), start, end, size: object.size });
        }
        // A range that starts at the object's end is an error to a store; here an empty range asks for nothing.
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let chunk_bytes = self.inner.options.chunk_bytes;
        let numbers = range.start / chunk_bytes..=(range.end - 1) / chunk_bytes;
        let chunks = stream::iter(numbers.clone()).map(|number| self.chunk(object, number, scan));
        let chunks: Vec<Bytes> = chunks.buffered(FETCHES_PER_READ).try_collect().await?;
        Ok(numbers
            .zip(chunks)
            .map(|(number, chunk)| {
                let chunk_start = number * chunk_bytes;
                let from = range.start.saturating_sub(chunk_start);
                let to = (range.end - chunk_start).min(chunk.len() as u64);
                let within = "a place in a chunk fits, as the chunk does";
                chunk.slice(usize::try_from(from).expect(within)..usize::try_from(to).expect(within))
            })
            .collect())
    }

    /// As [`Self::read`] of `at`'s object, for one who goes forward through that stretch and those that follow: what comes
    /// next is fetched ahead while it does.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub async fn read_on(
        &self,
        at: &Stretch<'_>,
        range: Range<u64>,
        following: &[Stretch<'_>],
        ahead: &mut ReadAhead,
    ) -> Result<Vec<Bytes>, ReadError> {
        let chunk_bytes = self.inner.options.chunk_bytes;
        let parts: Vec<Part> = following.iter().map(Stretch::part).collect();
        // The more readers there are, the less far ahead each of them is fetched for: what waits for long is evicted.
        let free = self.inner.unread.available_permits() as u64;
        let window_max = (free / 4).clamp(1, self.inner.window_max);
        let next = ahead.note(range.clone(), &at.part(), &parts, chunk_bytes, window_max);
        for (id, chunks) in next {
            let Some(stretch) = std::iter::once(at).chain(following).find(|stretch| stretch.object.id == id) else {
                continue;
            };
            if id != at.object.id && chunks.start == stretch.range.start / chunk_bytes {
                let first = stretch.first.start / chunk_bytes..stretch.first.end.div_ceil(chunk_bytes);
                self.prefetch(stretch.object, first, ahead.is_scan());
            }
            self.prefetch(stretch.object, chunks, ahead.is_scan());
        }
        self.read_range(at.object, range, ahead.is_scan()).await
    }

    /// Stops what is being fetched and waits for it to end. Reads that wait, and later ones, fail with
    /// [`ReadError::Closed`] unless the cache has what they ask for.
    pub async fn close(&self) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    async fn chunk(&self, object: &Object, number: u64, scan: bool) -> Result<Bytes, ReadError> {
        for part in [&self.inner.cache, &self.inner.scanned] {
            if let Some(chunk) = part.get(&(object.id, number)).await {
                self.inner.metrics.hits.inc();
                return Ok(chunk.read());
            }
        }
        self.inner.metrics.misses.inc();
        let place = Arc::clone(&self.inner.waiting).acquire_owned().await.map_err(|_| ReadError::Closed)?;
        let ask = Ask { in_turn: true, scan, _permit: place, unread: Mutex::default() };
        let filled = self.fill(object, number, ask).await;
        Ok(filled.unwrap_or(Err(ReadError::Closed))?.read())
    }

    fn prefetch(&self, object: &Object, numbers: Range<u64>, scan: bool) {
        for number in numbers {
            let key = (object.id, number);
            if self.inner.cache.contains_key(&key) || self.inner.scanned.contains_key(&key) {
                continue;
            }
            let permits = Arc::clone(&self.inner.prefetches)
                .try_acquire_owned()
                .and_then(|permit| Ok((permit, Arc::clone(&self.inner.unread).try_acquire_owned()?)));
            let Ok((permit, unread)) = permits else {
                self.inner.metrics.prefetches_left_out.inc();
                continue;
            };
            self.inner.metrics.prefetches.inc();
            // The tracker owns the task; an error comes up again when a reader asks.
            let ask = Ask { in_turn: false, scan, _permit: permit, unread: Mutex::new(Some(unread)) };
            drop(self.fill(object, number, ask));
        }
    }

    /// Fetches a chunk into the cache in a task of its own, so that it goes on when nobody waits any more. The number of
    /// such tasks is bounded by the permits in `ask`.
    fn fill(&self, object: &Object, number: u64, ask: Ask) -> JoinHandle<Result<Arc<Chunk>, ReadError>> {
        let inner = Arc::clone(&self.inner);
        let object = object.clone();
        let fill = async move {
            let stop = inner.stop.clone();
            let part = if ask.scan { &inner.scanned } else { &inner.cache };
            let filled = part.try_get_with((object.id, number), inner.fetch(&object, number, &ask));
            let filled = tokio::select! {
                biased;
                () = stop.cancelled() => Err(ReadError::Closed),
                filled = filled => filled.map_err(|error| ReadError::clone(&error)),
            };
            drop(ask);
            filled
        };
        self.inner.lane.spawn(&self.inner.tasks, fill)
    }
}

/// A part of the cache, of so many bytes.
fn part(capacity_bytes: u64) -> Cache<(Uuid, u64), Arc<Chunk>> {
    Cache::builder()
        // A chunk that was just fetched must get in, however often older ones were asked for: else it is fetched again
        // for the next few records in it.
        .eviction_policy(EvictionPolicy::lru())
        .weigher(|_, chunk: &Arc<Chunk>| {
            u32::try_from(chunk.bytes.len()).unwrap_or(u32::MAX).saturating_add(ENTRY_OVERHEAD_BYTES)
        })
        .max_capacity(capacity_bytes)
        .build()
}

impl Inner {
    async fn fetch(&self, object: &Object, number: u64, ask: &Ask) -> Result<Arc<Chunk>, ReadError> {
        // Its own turn first, so that one who waits for it holds none of the others'.
        let _scan = match ask.in_turn && ask.scan {
            true => Some(self.scans.acquire().await.map_err(|_| ReadError::Closed)?),
            false => None,
        };
        let _turn = match ask.in_turn {
            true => Some(self.fetches.acquire().await.map_err(|_| ReadError::Closed)?),
            false => None,
        };
        let start = number * self.options.chunk_bytes;
        let end = (start + self.options.chunk_bytes).min(object.size);
        assert!(start < end, "only chunks inside of the object are asked for");
        self.metrics.gets.inc();
        if ask.scan {
            self.metrics.scan_gets.inc();
        }
        let got = self.store.get_range(&object.key, start..end).await;
        let got = match got {
            Ok(bytes) if bytes.len() as u64 == end - start => Ok(bytes),
            Ok(bytes) => {
                Err(ReadError::Short { key: object.key.clone(), expected: end - start, found: bytes.len() as u64 })
            }
            Err(object_store::Error::NotFound { .. }) => Err(ReadError::Missing { key: object.key.clone() }),
            Err(source) => Err(ReadError::Store { key: object.key.clone(), source: Arc::new(source) }),
        };
        match &got {
            Ok(bytes) => self.metrics.get_bytes.inc_by(bytes.len() as u64),
            Err(_) => self.metrics.get_errors.inc(),
        };
        let unread = Mutex::new(ask.unread.lock().take());
        got.map(|bytes| Arc::new(Chunk { bytes, unread }))
    }
}
