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
        });
        let object = Object { id: Uuid::from_u128(9), key: Path::from("o"), size: size as u64 };
        store.put(&object.key, bytes.clone().into()).await.unwrap();
        let reader = Reader::new(Arc::clone(&store) as _, Options { chunk_bytes: CHUNK, ..options });
        Self { store, reader, object, bytes }
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
    let options = Options { capacity_bytes: 16 * (CHUNK + u64::from(ENTRY_OVERHEAD_BYTES)), ..Options::default() };
    let bench = Bench::new(100_000, options).await;
    // The cache is full of chunks that were asked for often.
    for _ in 0..20 {
        bench.read(0..16_000).await;
    }
    assert_eq!(gets(&bench), 16);
    let mut ahead = ReadAhead::new();
    for start in (20_000..100_000).step_by(250) {
        let range = start..start + 250;
        let read = bench.reader.read_on(&bench.object, range.clone(), 100_000, &mut ahead).await.unwrap();
        assert_eq!(read.concat(), bench.expected(range));
    }
    let metrics = bench.reader.metrics();
    assert_eq!(gets(&bench), 16 + 80, "one GET for each chunk, also ahead");
    assert!(metrics.prefetches.get() >= 75, "{}", metrics.prefetches.get());
}

#[tokio::test]
async fn a_jumping_reader_causes_no_prefetch() {
    let bench = Bench::new(100_000, Options::default()).await;
    let mut ahead = ReadAhead::new();
    for start in [50_000, 10_000, 90_000, 30_000, 70_000] {
        bench.reader.read_on(&bench.object, start..start + 100, 100_000, &mut ahead).await.unwrap();
    }
    assert_eq!(bench.reader.metrics().prefetches.get(), 0);
    assert_eq!(gets(&bench), 5);
}

#[tokio::test]
async fn prefetches_never_hold_up_a_reader() {
    let bench = Bench::new(100_000, Options { fetches_max: 1, prefetches_max: 2, ..Options::default() }).await;
    let mut ahead = ReadAhead::new();
    for start in [0, 1000, 2000, 3000] {
        bench.reader.read_on(&bench.object, start..start + 1000, 100_000, &mut ahead).await.unwrap();
    }
    bench.close_gate();
    // Chunks 4 to 7 were asked for; now 8 to 12 would be, of which two get a permit.
    let before = bench.reader.metrics().prefetches_left_out.get();
    let read = bench.reader.read_on(&bench.object, 4000..5000, 100_000, &mut ahead);
    let (read, ()) = tokio::join!(read, async { bench.open_gate() });
    assert_eq!(read.unwrap().concat(), bench.expected(4000..5000));
    assert!(bench.reader.metrics().prefetches_left_out.get() > before);
    // Other readers get their turn while prefetches hang.
    bench.close_gate();
    bench.reader.prefetch(&bench.object, 90..95);
    let started = *bench.store.started.borrow();
    let (read, ()) = tokio::join!(bench.read(60_000..60_100), async {
        bench.gets_started(started + 1).await;
        bench.open_gate();
    });
    assert_eq!(read, bench.expected(60_000..60_100));
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
    assert_eq!(text.matches("# HELP").count(), 7);
}
