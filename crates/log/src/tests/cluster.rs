//! One broker's log and what survives it: the object store, the metadata, the clock; and, if we like, its disk.

use std::fmt;
use std::future::Future;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use journal::memory::Memory;
use journal::{Depth, Staging};
use metadata::{Command, Configs, Controller, Image, PartitionState, Reply};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result as StoreResult,
};
use objects::cache::Reader;
use records::{
    Batch, Builder, Clock, Codec, Headers, Offset, ProducerEpoch, ProducerId, Random, Timestamp, TopicId,
    TopicPartition,
};
use tempfile::TempDir;
use tokio::sync::watch;

pub(super) use crate::Options;
use crate::{AppendError, Appended, Environment, Identity, Log, Metrics, OpenError, Partition};

pub(super) const DEADLINE: Duration = Duration::from_secs(30);

/// What happens to PUTs of data objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Puts {
    Pass,
    /// They wait.
    Blocked,
    /// The first object's.
    FirstBlocked,
    /// So many fail, nothing is stored.
    Fail(usize),
    /// So many are stored, and answered with an error.
    LoseAnswer(usize),
}

pub(super) struct TestStore {
    inner: InMemory,
    puts: watch::Sender<Puts>,
    /// The data objects that PUTs were tried of, in order, whatever came of it.
    pub(super) tried: std::sync::Mutex<Vec<Path>>,
    pub(super) gets: AtomicU64,
}

impl TestStore {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: InMemory::new(),
            puts: watch::channel(Puts::Pass).0,
            tried: std::sync::Mutex::default(),
            gets: AtomicU64::new(0),
        })
    }

    pub(super) fn puts(&self, puts: Puts) {
        self.puts.send_replace(puts);
    }

    pub(super) fn tried(&self) -> Vec<Path> {
        self.tried.lock().unwrap().clone()
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

fn is_data(location: &Path) -> bool {
    location.as_ref().contains("/data/")
}

#[async_trait]
impl ObjectStore for TestStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> StoreResult<PutResult> {
        if !is_data(location) {
            return self.inner.put_opts(location, payload, options).await;
        }
        self.tried.lock().unwrap().push(location.clone());
        let gone = || Error::Generic { store: "test", source: "the connection was reset".into() };
        let is_first = self.tried.lock().unwrap().first() == Some(location);
        let is_blocked = |puts: &Puts| *puts == Puts::Blocked || *puts == Puts::FirstBlocked && is_first;
        self.puts.subscribe().wait_for(|puts| !is_blocked(puts)).await.map_err(|_| gone())?;
        let mut now = Puts::Pass;
        self.puts.send_modify(|puts| {
            now = *puts;
            *puts = match now {
                Puts::Fail(left) if left > 1 => Puts::Fail(left - 1),
                Puts::LoseAnswer(left) if left > 1 => Puts::LoseAnswer(left - 1),
                Puts::Blocked | Puts::FirstBlocked => now,
                _ => Puts::Pass,
            };
        });
        match now {
            Puts::Fail(_) => Err(gone()),
            Puts::LoseAnswer(_) => {
                self.inner.put_opts(location, payload, options).await?;
                Err(gone())
            }
            _ => self.inner.put_opts(location, payload, options).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        assert!(!is_data(location), "data objects are put whole");
        self.inner.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> StoreResult<GetResult> {
        if is_data(location) {
            self.gets.fetch_add(1, Ordering::SeqCst);
        }
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, StoreResult<Path>>) -> BoxStream<'static, StoreResult<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> StoreResult<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> StoreResult<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

/// Stands still until it is told to move.
pub(super) struct TestClock(AtomicI64);

impl TestClock {
    pub(super) fn advance(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

/// Every number is another, and the same in every run.
struct TestRandom(AtomicU64);

impl Random for TestRandom {
    fn next(&self) -> u128 {
        let n = u128::from(self.0.fetch_add(1, Ordering::SeqCst)) + 1;
        n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
    }
}

pub(super) struct Cluster {
    pub(super) store: Arc<TestStore>,
    pub(super) clock: Arc<TestClock>,
    random: Arc<TestRandom>,
    controller: Controller,
    pub(super) metadata: metadata::Handle,
    staging: TempDir,
    /// In place of the folder.
    pub(super) disk: Option<Memory>,
    pub(super) options: Options,
    pub(super) metrics: Metrics,
    running: Option<Log>,
}

/// Segments are sealed by hand, and everything has room.
pub(super) fn options() -> Options {
    Options {
        staging: Staging::new(""),
        depth: Depth::Footers,
        segment_bytes: 256 << 10,
        seal_interval: Duration::from_secs(3600),
        staging_bytes_max: 1 << 30,
        staged_batches_max: 1 << 20,
        tail_bytes_max: 16 << 20,
        inflight_bytes_max: 8 << 20,
        uploads_bytes_max: 8 << 20,
        admission_timeout: DEADLINE,
        producers_max: 100,
        producer_expiration: Duration::from_secs(3600),
        retention_check_interval: Duration::from_secs(3600),
    }
}

impl Cluster {
    pub(super) async fn new(options: Options) -> Self {
        let store = TestStore::new();
        let clock = Arc::new(TestClock(AtomicI64::new(1_800_000_000_000)));
        let random = Arc::new(TestRandom(AtomicU64::new(0)));
        let of_metadata =
            metadata::Options::new(objects::Store::new(store.clone(), "memory"), "c1", clock.clone(), random.clone());
        let controller = Controller::open(of_metadata).await.unwrap();
        let metadata = controller.handle();
        let mut cluster = Self {
            store,
            clock,
            random,
            controller,
            metadata,
            staging: TempDir::new().unwrap(),
            disk: None,
            options,
            metrics: Metrics::default(),
            running: None,
        };
        cluster.start().await;
        cluster
    }

    pub(super) fn log(&self) -> &Log {
        self.running.as_ref().unwrap()
    }

    pub(super) fn staging(&self) -> &FilePath {
        self.staging.path()
    }

    pub(super) async fn submit(&self, command: Command) -> Reply {
        self.metadata.submit(command).await.unwrap()
    }

    pub(super) fn image(&self) -> Arc<Image> {
        self.metadata.image()
    }

    pub(super) fn state(&self, id: TopicPartition) -> Arc<PartitionState> {
        self.image().partition(id).unwrap().clone()
    }

    /// A new incarnation on the staging folder as it is.
    pub(super) async fn start(&mut self) {
        assert!(self.running.is_none(), "one at a time");
        let staging = self.staging.path().to_owned();
        self.running = Some(self.try_start_on(&staging).await.unwrap());
    }

    /// A new incarnation on any folder.
    pub(super) async fn try_start_on(&self, staging: &FilePath) -> Result<Log, OpenError> {
        let at = self.clock.now();
        let register = Command::RegisterBroker { name: "b".into(), zone: String::new(), endpoints: Vec::new(), at };
        let Reply::Registered { broker, incarnation } = self.submit(register).await else { panic!("registered") };
        let store = objects::Store::new(self.store.clone(), "memory");
        let environment = Environment {
            metadata: self.metadata.clone(),
            reader: Reader::new(self.store.clone(), objects::cache::Options::default()),
            objects: store,
            cluster: "c1".into(),
            clock: self.clock.clone(),
            random: self.random.clone(),
            metrics: self.metrics.clone(),
        };
        let staging = match &self.disk {
            Some(disk) => Staging::on(Arc::new(disk.clone()), "/staging"),
            None => Staging::new(staging),
        };
        let options = Options { staging, ..self.options.clone() };
        Log::open(options, Identity { broker, incarnation }, environment).await
    }

    /// Kills the process: its disk stays as it is in this moment, with whatever was being written.
    pub(super) async fn kill(&mut self) {
        let log = self.running.take().unwrap();
        log.inner.stop.cancel();
        log.inner.tasks.close();
        within("its tasks end", log.inner.tasks.wait()).await;
        // What it had handed to the controller is carried out, or never will be.
        self.submit(Command::AllocateProducerIds { count: 1 }).await;
        let disk = TempDir::new().unwrap();
        copy(self.staging.path(), disk.path());
        // What the old process still does happens on a disk that nobody looks at any more.
        self.staging = disk;
        tokio::task::spawn_blocking(move || log.inner.journal.close()).await.unwrap();
    }

    /// Kills the process, and its disk is gone.
    pub(super) async fn kill_and_lose_disk(&mut self) {
        self.kill().await;
        self.lose_disk();
    }

    /// A cluster whose staging disk can be made to fail.
    pub(super) async fn on_faulty_disk(options: Options) -> (Self, Memory) {
        let mut cluster = Self::new(options).await;
        cluster.close(DEADLINE).await;
        let disk = Memory::new();
        cluster.disk = Some(disk.clone());
        cluster.start().await;
        (cluster, disk)
    }

    /// What lies on the staging disk is gone.
    pub(super) fn lose_disk(&mut self) {
        self.staging = TempDir::new().unwrap();
    }

    pub(super) async fn restart(&mut self) {
        self.kill().await;
        self.start().await;
    }

    pub(super) async fn restart_without_disk(&mut self) {
        self.kill_and_lose_disk().await;
        self.start().await;
    }

    pub(super) fn take(&mut self) -> Log {
        self.running.take().unwrap()
    }

    pub(super) async fn close(&mut self, deadline: Duration) -> u64 {
        self.running.take().unwrap().close(deadline).await
    }

    pub(super) async fn create(&self, name: &str, partitions: u32) -> Vec<TopicPartition> {
        self.create_with(name, partitions, &[]).await
    }

    pub(super) async fn create_with(
        &self,
        name: &str,
        partitions: u32,
        configs: &[(&str, &str)],
    ) -> Vec<TopicPartition> {
        let id = TopicId(self.random.uuid());
        let configs: Configs = configs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let create = Command::CreateTopic { name: name.into(), id, partitions, configs, at: self.clock.now() };
        self.submit(create).await;
        (0..i32::try_from(partitions).unwrap())
            .map(|partition| TopicPartition { topic: id, partition: partition.into() })
            .collect()
    }

    pub(super) fn partition(&self, id: TopicPartition) -> Arc<Partition> {
        self.log().partition(id).unwrap()
    }

    /// Appends without waiting for the commit.
    pub(super) async fn send(&self, id: TopicPartition, batch: Batch) -> Result<Appended, AppendError> {
        let partition = self.partition(id);
        let permit = self.log().admit(batch.len()).await?;
        if batch.header().producer_id.0 >= 0 {
            self.log().load_producers(&partition).await?;
        }
        self.log().append(&partition, batch, None, permit)
    }

    /// Appends, and waits until it is acknowledged.
    pub(super) async fn append(&self, id: TopicPartition, batch: Batch) -> Offset {
        let appended = self.send(id, batch).await.unwrap();
        within("it is committed", appended.committed).await.unwrap();
        appended.base_offset
    }

    /// Appends one record for each value, one after another.
    pub(super) async fn append_values(&self, id: TopicPartition, values: &[&str]) -> Vec<(i64, String)> {
        let mut all = Vec::new();
        for value in values {
            all.push((self.append(id, batch(&[value])).await.0, (*value).to_owned()));
        }
        all
    }

    /// All records from an offset on.
    pub(super) async fn read_from(&self, id: TopicPartition, from: Offset) -> Vec<(i64, String)> {
        let partition = self.partition(id);
        let (mut next, end) = (from, partition.high_watermark());
        let mut all = Vec::new();
        while next < end {
            let batches = self.log().read(&partition, next, end, 1 << 20).await.unwrap();
            let Some(last) = batches.last() else { break };
            for record in values(&batches) {
                if record.0 >= next.0 {
                    all.push(record);
                }
            }
            next = last.next_offset();
        }
        all
    }

    pub(super) async fn read(&self, id: TopicPartition) -> Vec<(i64, String)> {
        self.read_from(id, self.partition(id).log_start()).await
    }

    /// Seals what there is, and waits until it is uploaded and gone from the disk.
    pub(super) async fn upload(&self) {
        self.log().seal();
        self.uploaded().await;
    }

    pub(super) async fn uploaded(&self) {
        self.uploaded_and_kept().await;
        crate::room::empty(&self.log().inner);
    }

    /// Seals what there is, and waits until it is uploaded; the disk keeps it while there is room.
    pub(super) async fn upload_and_keep(&self) {
        self.log().seal();
        self.uploaded_and_kept().await;
    }

    async fn uploaded_and_kept(&self) {
        let inner = &self.log().inner;
        within("all is uploaded", async {
            loop {
                let unstaged = inner.unstaged.notified();
                if inner.catalog.usage().staged_bytes == 0 {
                    break;
                }
                unstaged.await;
            }
        })
        .await;
        assert_eq!(self.log().staged_bytes(), 0, "the running count says the same");
    }

    /// Waits until a PUT of the nth data object was tried.
    pub(super) async fn tried(&self, count: usize) {
        self.until("data objects were tried", || self.store.tried().len() >= count).await;
    }

    /// Looks again and again until it is so.
    pub(super) async fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        let mut looks = tokio::time::interval(Duration::from_millis(2));
        within(what, async {
            while !is_so() {
                looks.tick().await;
            }
        })
        .await;
    }

    /// Everything memory has is evicted, so that reads go to the disk.
    pub(super) fn forget_tail(&self, id: TopicPartition) {
        let partition = self.partition(id);
        partition.evict(partition.high_watermark());
    }

    pub(super) async fn delete_records(&self, id: TopicPartition, below: Offset) {
        self.submit(Command::SetLogStart { topic_partition: id, offset: below }).await;
        self.log().refresh();
    }

    pub(super) async fn stop_controller(self) {
        drop(self.running);
        self.controller.close().await;
    }
}

/// Waits, but not for ever.
pub(super) async fn within<F: Future>(what: &str, future: F) -> F::Output {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited in vain until {what}"),
    }
}

fn copy(from: &FilePath, to: &FilePath) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// The segment files on a disk, oldest first.
pub(super) fn segment_files(staging: &FilePath) -> Vec<PathBuf> {
    let mut all = Vec::new();
    let Ok(journals) = std::fs::read_dir(staging.join("journals")) else { return all };
    for journal in journals {
        for file in std::fs::read_dir(journal.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "seg") {
                all.push(path);
            }
        }
    }
    all.sort();
    all
}

pub(super) fn batch(values: &[&str]) -> Batch {
    build(Builder::new(Codec::None), values, Timestamp(1000))
}

pub(super) fn batch_at(timestamp: i64, values: &[&str]) -> Batch {
    build(Builder::new(Codec::None), values, Timestamp(timestamp))
}

pub(super) fn of_producer(id: i64, epoch: i16, sequence: i32, values: &[&str]) -> Batch {
    let builder = Builder::new(Codec::None).producer(ProducerId(id), ProducerEpoch(epoch), sequence);
    build(builder, values, Timestamp(1000))
}

fn build(mut builder: Builder, values: &[&str], timestamp: Timestamp) -> Batch {
    for value in values {
        builder.push(timestamp, None, Some(value.as_bytes()), &Headers::NONE).unwrap();
    }
    builder.build()
}

pub(super) fn values(batches: &[Batch]) -> Vec<(i64, String)> {
    let records = batches.iter().flat_map(|batch| batch.records(1 << 20).unwrap());
    records
        .map(|record| {
            let record = record.unwrap();
            (record.offset.0, String::from_utf8(record.value.unwrap().to_vec()).unwrap())
        })
        .collect()
}

pub(super) fn bytes_of(batches: &[Batch]) -> Vec<Bytes> {
    batches.iter().map(Batch::to_bytes).collect()
}
