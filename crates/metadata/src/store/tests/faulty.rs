//! A store that counts requests and does wrong on demand, a clock that follows tokio's, random numbers that repeat.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use records::{Clock, Random, Timestamp};
use tokio::sync::watch;

/// What happens to a PUT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It is done and answered.
    None,
    /// Not done; the store says it is overloaded.
    Throttled,
    /// Done, and the answer is lost.
    AnswerLost,
    /// Not done; the answer is one that nobody repeats.
    Refused,
    /// Done; the answer is one that nobody repeats.
    DoneAndRefused,
    /// Not done; "already exists", where nothing exists.
    NobodyWon,
}

type Plan = Box<dyn FnMut(&Path) -> Fault + Send>;

pub(crate) struct TestStore {
    inner: Arc<dyn ObjectStore>,
    counts: std::sync::Mutex<BTreeMap<&'static str, u64>>,
    plan: std::sync::Mutex<Plan>,
    attributes: bool,
    open: watch::Sender<bool>,
    deletes: AtomicBool,
}

impl TestStore {
    pub(crate) fn new() -> Arc<Self> {
        Self::over(Arc::new(InMemory::new()), true)
    }

    /// One that keeps no attributes, so that a writer cannot know its own objects again.
    pub(crate) fn without_attributes() -> Arc<Self> {
        Self::over(Arc::new(InMemory::new()), false)
    }

    fn over(inner: Arc<dyn ObjectStore>, attributes: bool) -> Arc<Self> {
        Arc::new(Self {
            inner,
            counts: std::sync::Mutex::default(),
            plan: std::sync::Mutex::new(Box::new(|_| Fault::None)),
            attributes,
            open: watch::channel(true).0,
            deletes: AtomicBool::new(true),
        })
    }

    pub(crate) fn plan(&self, plan: impl FnMut(&Path) -> Fault + Send + 'static) {
        *self.plan.lock().unwrap() = Box::new(plan);
    }

    /// The next `count` PUTs into the log suffer `fault`.
    pub(crate) fn next_log_puts(&self, count: usize, fault: Fault) {
        let mut left = count;
        self.plan(move |path| {
            if left > 0 && path.as_ref().contains("/wal/") {
                left -= 1;
                return fault;
            }
            Fault::None
        });
    }

    /// Lets PUTs wait, or go on.
    pub(crate) fn let_puts_pass(&self, pass: bool) {
        self.open.send_replace(pass);
    }

    /// Carries deletes out, or fails them.
    pub(crate) fn let_deletes_pass(&self, pass: bool) {
        self.deletes.store(pass, Ordering::SeqCst);
    }

    /// The requests since this was asked last.
    pub(crate) fn take_counts(&self) -> BTreeMap<&'static str, u64> {
        std::mem::take(&mut self.counts.lock().unwrap())
    }

    fn count(&self, what: &'static str) {
        *self.counts.lock().unwrap().entry(what).or_default() += 1;
    }
}

impl fmt::Debug for TestStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TestStore")
    }
}

impl fmt::Display for TestStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a store for tests")
    }
}

#[async_trait]
impl ObjectStore for TestStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        self.count("PUT");
        let generic = |why: &str| Error::Generic { store: "test", source: why.into() };
        let refused = || Error::NotFound { path: location.to_string(), source: "no such bucket".into() };
        self.open.subscribe().wait_for(|open| *open).await.map_err(|_| generic("gone"))?;
        if !self.attributes {
            options.attributes = Attributes::default();
        }
        let fault = (self.plan.lock().unwrap())(location);
        match fault {
            Fault::None => self.inner.put_opts(location, payload, options).await,
            Fault::Throttled => Err(generic("503 slow down")),
            Fault::Refused => Err(refused()),
            Fault::NobodyWon => Err(Error::AlreadyExists { path: location.to_string(), source: "409".into() }),
            Fault::AnswerLost => {
                self.inner.put_opts(location, payload, options).await?;
                Err(generic("the connection was reset"))
            }
            Fault::DoneAndRefused => {
                self.inner.put_opts(location, payload, options).await?;
                Err(refused())
            }
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        self.count("PUT");
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.count(if options.head { "HEAD" } else { "GET" });
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.count("DELETE");
        if !self.deletes.load(Ordering::SeqCst) {
            let error = Error::Generic { store: "test", source: "503 slow down".into() };
            return futures::stream::once(async { Err(error) }).boxed();
        }
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.count("LIST");
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.count("LIST");
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.count("LIST");
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.count("PUT");
        self.inner.copy_opts(from, to, options).await
    }
}

/// Goes on as tokio's time does, from a time that can be set.
pub(crate) struct TestClock {
    started: tokio::time::Instant,
    base: AtomicI64,
}

impl TestClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { started: tokio::time::Instant::now(), base: AtomicI64::new(1_800_000_000_000) })
    }

    pub(crate) fn shift(&self, ms: i64) {
        self.base.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.started.elapsed().as_millis()).unwrap();
        Timestamp(self.base.load(Ordering::SeqCst) + elapsed)
    }
}

/// Every number is another, and the same in every run.
pub(crate) struct TestRandom(AtomicU64);

impl TestRandom {
    pub(crate) fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(seed)))
    }
}

impl Random for TestRandom {
    fn next(&self) -> u128 {
        let n = u128::from(self.0.fetch_add(1, Ordering::SeqCst)) + 1;
        n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
    }
}
