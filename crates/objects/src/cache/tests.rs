use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, PutMultipartOptions, PutOptions,
    PutPayload, PutResult, Result,
};
use tokio::sync::watch;

use super::*;

/// A store whose GETs wait until they are let go, and can be made to fail.
#[derive(Debug)]
struct Gated {
    inner: InMemory,
    open: watch::Sender<bool>,
    started: watch::Sender<u64>,
    failing: AtomicU64,
    /// The thread of the last GET.
    thread: std::sync::Mutex<Option<String>>,
}

impl fmt::Display for Gated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("gated")
    }
}

#[async_trait]
impl ObjectStore for Gated {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(location, payload, options).await
    }
    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        unreachable!("not used")
    }
    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        *self.thread.lock().unwrap() = std::thread::current().name().map(str::to_owned);
        self.started.send_modify(|started| *started += 1);
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
        if self.failing.try_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(object_store::Error::Generic { store: "gated", source: "made to fail".into() });
        }
        self.inner.get_opts(location, options).await
    }
    fn delete_stream(&self, _: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        unreachable!("not used")
    }
    fn list(&self, _: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        unreachable!("not used")
    }
    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        unreachable!("not used")
    }
    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        unreachable!("not used")
    }
}

const CHUNK: u64 = 1000;

struct Bench {
    store: Arc<Gated>,
    reader: Reader,
    object: Object,
    bytes: Vec<u8>,
}

impl Bench {
    async fn new(size: usize, options: Options) -> Self {
        let bytes: Vec<u8> = (0..size).map(|at| u8::try_from(at * 7 % 251).unwrap()).collect();
        let store = Arc::new(Gated {
            inner: InMemory::new(),
            open: watch::Sender::new(true),
            started: watch::Sender::new(0),
            failing: AtomicU64::new(0),
            thread: std::sync::Mutex::default(),
        });
        let object = Object { id: Uuid::from_u128(9), key: Path::from("o"), size: size as u64 };
        store.put(&object.key, bytes.clone().into()).await.unwrap();
        let reader = Reader::new(Arc::clone(&store) as _, Options { chunk_bytes: CHUNK, ..options });
        Self { store, reader, object, bytes }
    }

    fn whole(&self) -> Stretch<'_> {
        Stretch { object: &self.object, range: 0..self.object.size, first: 0..0 }
    }

    async fn read(&self, range: Range<u64>) -> Vec<u8> {
        soon(self.reader.read(&self.object, range)).await.unwrap().concat()
    }

    fn expected(&self, range: Range<u64>) -> &[u8] {
        &self.bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()]
    }

    async fn gets_started(&self, count: u64) {
        let mut started = self.store.started.subscribe();
        soon(started.wait_for(|now| *now >= count)).await.unwrap();
    }

    fn close_gate(&self) {
        self.store.open.send_replace(false);
    }

    fn open_gate(&self) {
        self.store.open.send_replace(true);
    }
}

/// Waits for what must come to an end; long enough for any machine.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(std::time::Duration::from_secs(20), future).await.expect("it ends in time")
}

fn gets(bench: &Bench) -> u64 {
    bench.reader.metrics().gets.get()
}

#[tokio::test]
async fn every_range_is_read_right_with_one_get_per_chunk() {
    let bench = Bench::new(3500, Options::default()).await;
    for start in (0..=3500).step_by(250) {
        for end in (start..=3500).step_by(250) {
            assert_eq!(bench.read(start..end).await, bench.expected(start..end), "{start}..{end}");
        }
    }
    assert_eq!(gets(&bench), 4);
    assert_eq!(bench.reader.metrics().get_bytes.get(), 3500);
    // An object that ends with a chunk: nothing that starts at its end is asked for.
    let bench = Bench::new(3000, Options::default()).await;
    assert_eq!(bench.read(2900..3000).await, bench.expected(2900..3000));
    assert_eq!(bench.read(3000..3000).await, b"");
    assert_eq!(gets(&bench), 1);
}

#[tokio::test]
async fn a_range_outside_of_the_object_is_an_error() {
    let bench = Bench::new(3500, Options::default()).await;
    let backwards = Range { start: 20, end: 10 };
    for range in [3400..3501, 3501..3501, backwards, 0..u64::MAX] {
        let read = bench.reader.read(&bench.object, range).await;
        assert!(matches!(read, Err(ReadError::Bounds { .. })), "{read:?}");
    }
    assert_eq!(gets(&bench), 0);
}

#[tokio::test]
async fn an_object_that_is_shorter_or_not_there_is_an_error_each_time() {
    let bench = Bench::new(3500, Options::default()).await;
    let longer = Object { size: 3600, ..bench.object.clone() };
    let read = bench.reader.read(&longer, 3400..3600).await;
    assert!(matches!(read, Err(ReadError::Short { expected: 600, found: 500, .. })), "{read:?}");
    let gone = Object { key: Path::from("gone"), id: Uuid::from_u128(10), size: 10 };
    for _ in 0..2 {
        let read = bench.reader.read(&gone, 0..10).await;
        assert!(matches!(read, Err(ReadError::Missing { .. })), "{read:?}");
    }
    assert_eq!(bench.reader.metrics().get_errors.get(), 3);
}

#[tokio::test]
async fn many_readers_of_a_chunk_cause_one_get() {
    let bench = Bench::new(3500, Options::default()).await;
    bench.close_gate();
    let reads = futures::future::join_all((0..100).map(|_| bench.read(1100..1200)));
    let (all, ()) = tokio::join!(reads, async {
        bench.gets_started(1).await;
        bench.open_gate();
    });
    assert!(all.iter().all(|read| read == bench.expected(1100..1200)));
    assert_eq!(gets(&bench), 1);
    assert_eq!(bench.reader.metrics().misses.get() + bench.reader.metrics().hits.get(), 100);
}

#[tokio::test]
async fn a_fetch_goes_on_when_the_reader_went_away() {
    let bench = Bench::new(3500, Options::default()).await;
    bench.close_gate();
    {
        let read = bench.read(0..3500);
        tokio::pin!(read);
        tokio::select! {
            _ = &mut read => panic!("the gate is closed"),
            () = bench.gets_started(4) => {}
        }
    }
    // The reader is gone. The next one finds what it asked for.
    bench.open_gate();
    assert_eq!(bench.read(0..3500).await, bench.expected(0..3500));
    assert_eq!(gets(&bench), 4);
}

#[tokio::test]
async fn chunks_of_one_read_are_fetched_in_parallel_within_the_bound() {
    let bench = Bench::new(9500, Options { fetches_max: 3, ..Options::default() }).await;
    bench.close_gate();
    let (read, ()) = tokio::join!(bench.read(0..9500), async {
        bench.gets_started(3).await;
        // All that could start has started.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(gets(&bench), 3);
        bench.open_gate();
    });
    assert_eq!(read, bench.expected(0..9500));
    assert_eq!(gets(&bench), 10);
}

#[tokio::test]
async fn an_error_is_told_and_not_kept() {
    let bench = Bench::new(3500, Options::default()).await;
    bench.store.failing.store(1, Ordering::SeqCst);
    let read = bench.reader.read(&bench.object, 0..10).await;
    assert!(matches!(&read, Err(ReadError::Store { .. })), "{read:?}");
    assert!(read.unwrap_err().to_string().contains("made to fail"));
    assert_eq!(bench.read(0..10).await, bench.expected(0..10));
}

#[tokio::test]
async fn a_sequential_reader_finds_its_chunks_there_even_when_the_cache_is_small() {
    let options = Options { capacity_bytes: 48 * ENTRY, scan_bytes: 16 * ENTRY, ..Options::default() };
    let bench = Bench::new(100_000, options).await;
    // The cache is full of chunks that were asked for often.
    for _ in 0..20 {
        bench.read(0..16_000).await;
    }
    assert_eq!(gets(&bench), 16);
    let mut ahead = ReadAhead::new();
    for start in (20_000..100_000).step_by(250) {
        let range = start..start + 250;
        let read = bench.reader.read_on(&bench.whole(), range.clone(), &[], &mut ahead).await.unwrap();
        assert_eq!(read.concat(), bench.expected(range));
    }
    let metrics = bench.reader.metrics();
    assert_eq!(gets(&bench), 16 + 80, "one GET for each chunk, also ahead");
    assert!(metrics.prefetches.get() >= 70, "{}", metrics.prefetches.get());
}

#[tokio::test]
async fn what_follows_in_another_object_is_there_when_the_reader_comes() {
    let bench = Bench::new(10_000, Options::default()).await;
    let next = Object { id: Uuid::from_u128(10), key: Path::from("next"), size: 10_000 };
    bench.store.put(&next.key, bench.bytes.clone().into()).await.unwrap();
    let (whole, mut ahead) = (bench.whole(), ReadAhead::new());
    let following = Stretch { object: &next, range: 500..6000, first: 9900..9990 };
    for start in (0..10_000).step_by(1000) {
        bench.reader.read_on(&whole, start..start + 1000, std::slice::from_ref(&following), &mut ahead).await.unwrap();
    }
    bench.gets_started(10 + 7).await;
    bench.close_gate();
    let read = bench.reader.read_on(&following, 500..1500, &[], &mut ahead);
    assert_eq!(soon(read).await.unwrap().concat(), bench.expected(500..1500));
    assert_eq!(soon(bench.reader.read(&next, 9900..9990)).await.unwrap().concat(), bench.expected(9900..9990));
}

#[tokio::test]
async fn a_jumping_reader_causes_no_prefetch() {
    let bench = Bench::new(100_000, Options::default()).await;
    let mut ahead = ReadAhead::new();
    for start in [50_000, 10_000, 90_000, 30_000, 70_000] {
        bench.reader.read_on(&bench.whole(), start..start + 100, &[], &mut ahead).await.unwrap();
    }
    assert_eq!(bench.reader.metrics().prefetches.get(), 0);
    assert_eq!(gets(&bench), 5);
}

#[tokio::test]
async fn prefetches_never_hold_up_a_reader() {
    let bench = Bench::new(100_000, Options { fetches_max: 1, prefetches_max: 2, ..Options::default() }).await;
    let (whole, mut ahead) = (bench.whole(), ReadAhead::new());
    for start in [0, 1000, 2000, 3000] {
        bench.reader.read_on(&whole, start..start + 1000, &[], &mut ahead).await.unwrap();
    }
    bench.close_gate();
    // Chunks 4 to 7 were asked for; now 8 to 12 would be, of which two get a permit.
    let before = bench.reader.metrics().prefetches_left_out.get();
    let read = bench.reader.read_on(&whole, 4000..5000, &[], &mut ahead);
    let (read, ()) = tokio::join!(read, async { bench.open_gate() });
    assert_eq!(read.unwrap().concat(), bench.expected(4000..5000));
    assert!(bench.reader.metrics().prefetches_left_out.get() > before);
    // Other readers get their turn while prefetches hang.
    bench.close_gate();
    bench.reader.prefetch(&bench.object, 90..95, false);
    let started = *bench.store.started.borrow();
    let (read, ()) = tokio::join!(bench.read(60_000..60_100), async {
        bench.gets_started(started + 1).await;
        bench.open_gate();
    });
    assert_eq!(read, bench.expected(60_000..60_100));
}

const ENTRY: u64 = CHUNK + ENTRY_OVERHEAD_BYTES as u64;

/// Goes through so many chunks, from one on.
async fn scan(bench: &Bench, ahead: &mut ReadAhead, chunks: Range<u64>) {
    for start in chunks.start * 4..chunks.end * 4 {
        let range = start * 250..(start + 1) * 250;
        let read = bench.reader.read_on(&bench.whole(), range.clone(), &[], ahead).await.unwrap();
        assert_eq!(read.concat(), bench.expected(range));
    }
}

#[tokio::test]
async fn a_reader_that_goes_through_much_evicts_nothing_that_others_come_back_to() {
    let options = Options { capacity_bytes: 32 * ENTRY, scan_bytes: 8 * ENTRY, ..Options::default() };
    let bench = Bench::new(400_000, options).await;
    // What is read before it is known that it goes through much is no more than this.
    let mut ahead = ReadAhead::new();
    scan(&bench, &mut ahead, 100..109).await;
    let kept = [390_000, 20_000, 350_000, 10_000, 370_000, 30_000];
    for start in kept {
        bench.read(start..start + 100).await;
    }
    let before = gets(&bench);
    scan(&bench, &mut ahead, 109..300).await;
    bench.reader.inner.scanned.run_pending_tasks().await;
    assert!(bench.reader.inner.scanned.weighted_size() <= 8 * ENTRY);
    let after = gets(&bench);
    assert!(after - before <= 191, "one GET for each chunk, also in a small part, not {}", after - before);
    assert!(bench.reader.metrics().scan_gets.get() >= 185, "{}", bench.reader.metrics().scan_gets.get());
    for start in kept {
        bench.read(start..start + 100).await;
    }
    assert_eq!(gets(&bench), after, "what others read is still there");
}

#[tokio::test]
async fn what_is_fetched_ahead_of_many_readers_is_there_when_they_come() {
    let options = Options { capacity_bytes: 128 * ENTRY, scan_bytes: 48 * ENTRY, ..Options::default() };
    let bench = Bench::new(400_000, options).await;
    let (part, unread_max) = (25 * CHUNK, bench.reader.inner.unread.available_permits());
    let mut readers = vec![ReadAhead::new(); 16];
    for done in (0..part).step_by(250) {
        for (ahead, number) in readers.iter_mut().zip(0..) {
            let range = number * part..(number + 1) * part;
            let (at, stretch) = (range.start + done, Stretch { range, ..bench.whole() });
            bench.reader.read_on(&stretch, at..at + 250, &[], ahead).await.unwrap();
            bench.reader.inner.scanned.run_pending_tasks().await;
        }
    }
    assert!(gets(&bench) <= 450, "hardly one of 400 chunks is fetched twice: {} GETs", gets(&bench));
    assert!(bench.reader.metrics().prefetches.get() > 100, "{}", bench.reader.metrics().prefetches.get());
    assert_eq!(bench.reader.inner.unread.available_permits(), unread_max, "all were read");
}

#[tokio::test]
async fn readers_that_go_through_much_leave_turns_to_others() {
    let bench = Bench::new(400_000, Options { fetches_max: 4, prefetches_max: 0, ..Options::default() }).await;
    let mut scanning = Vec::new();
    for first in [0, 50, 100, 150] {
        let mut ahead = ReadAhead::new();
        scan(&bench, &mut ahead, first..first + 10).await;
        scanning.push((ahead, (first + 10) * CHUNK));
    }
    bench.close_gate();
    let (whole, before) = (bench.whole(), gets(&bench));
    let scans = scanning.iter_mut().map(|(ahead, at)| bench.reader.read_on(&whole, *at..*at + 20 * CHUNK, &[], ahead));
    let scans = soon(futures::future::try_join_all(scans));
    let (read, ()) = tokio::join!(scans, async {
        bench.gets_started(before + 2).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(gets(&bench), before + 2, "half of the turns for four of them");
        let other = bench.read(390_000..390_100);
        tokio::join!(other, async {
            bench.gets_started(before + 3).await;
            bench.open_gate();
        });
    });
    assert_eq!(read.unwrap().len(), 4);
}

#[tokio::test]
async fn one_large_read_leaves_turns_to_others() {
    let bench = Bench::new(400_000, Options { fetches_max: 6, ..Options::default() }).await;
    bench.close_gate();
    let (read, _) = tokio::join!(bench.read(0..300_000), async {
        bench.gets_started(4).await;
        tokio::join!(bench.read(390_000..390_100), async {
            bench.gets_started(5).await;
            bench.open_gate();
        })
    });
    assert_eq!(read, bench.expected(0..300_000));
}

#[tokio::test]
async fn what_is_fetched_at_once_is_bounded_by_bytes_too() {
    let options = Options { capacity_bytes: 16 * CHUNK, prefetches_max: 0, ..Options::default() };
    let bench = Bench::new(400_000, options).await;
    bench.close_gate();
    let reads = futures::future::join_all([0, 100_000, 200_000].map(|at| bench.read(at..at + 10 * CHUNK)));
    tokio::join!(reads, async {
        bench.gets_started(4).await;
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(gets(&bench), 4, "a quarter of the cache");
        bench.open_gate();
    });
}

#[tokio::test]
async fn chunks_are_fetched_in_the_readers_lane() {
    let bench = Bench::new(3500, Options::default()).await;
    let store = Arc::clone(&bench.store) as Arc<dyn ObjectStore>;
    let options = bench.reader.inner.options;
    let reader = Reader::in_lane(store, options, Lane::start(1).unwrap());
    assert_eq!(soon(reader.read(&bench.object, 0..3500)).await.unwrap().concat(), bench.expected(0..3500));
    assert_eq!(bench.store.thread.lock().unwrap().as_deref(), Some("weir-cold"));
    reader.close().await;
}

#[tokio::test]
async fn closing_ends_all_fetches() {
    let bench = Bench::new(3500, Options::default()).await;
    bench.read(0..10).await;
    bench.close_gate();
    let (read, ()) = tokio::join!(soon(bench.reader.read(&bench.object, 0..3500)), async {
        bench.gets_started(4).await;
        bench.reader.close().await;
    });
    assert!(matches!(read, Err(ReadError::Closed)), "{read:?}");
    assert_eq!(bench.read(0..10).await, bench.expected(0..10), "what is there can still be read");
    let read = bench.reader.read(&bench.object, 2000..2001).await;
    assert!(matches!(read, Err(ReadError::Closed)), "{read:?}");
}

#[tokio::test]
async fn the_cache_keeps_to_its_weight() {
    let options = Options { capacity_bytes: 8 * (CHUNK + u64::from(ENTRY_OVERHEAD_BYTES)), ..Options::default() };
    let bench = Bench::new(200_000, options).await;
    bench.read(0..200_000).await;
    bench.reader.inner.cache.run_pending_tasks().await;
    assert!(bench.reader.inner.cache.weighted_size() <= options.capacity_bytes);
    assert!(bench.reader.inner.cache.entry_count() > 0);
}

#[test]
fn all_counters_are_registered() {
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = Metrics::default();
    metrics.register(&mut registry);
    metrics.gets.inc_by(3);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains("weir_cache_gets_total 3"), "{text}");
    assert_eq!(text.matches("# HELP").count(), 8);
}
