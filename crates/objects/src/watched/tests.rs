use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use object_store::memory::InMemory;
use tokio::time::Instant;

use super::*;

/// While it is silent, it swallows requests: they are never answered, also later.
#[derive(Debug, Default)]
struct Silent {
    inner: InMemory,
    silent: AtomicBool,
    carries_out: AtomicBool,
    heads: AtomicUsize,
    slow: AtomicBool,
}

impl Silent {
    async fn swallow(&self) {
        if self.silent.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
    }
}

impl fmt::Display for Silent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("silent")
    }
}

#[async_trait]
impl ObjectStore for Silent {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        if self.carries_out.load(Ordering::SeqCst) {
            self.inner.put_opts(location, payload.clone(), options.clone()).await?;
        }
        self.swallow().await;
        if self.slow.load(Ordering::SeqCst) {
            sleep(Duration::from_secs(50)).await;
        }
        self.inner.put_opts(location, payload, options).await
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotImplemented { operation: "put_multipart".into(), implementer: "silent".into() })
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        if options.head {
            self.heads.fetch_add(1, Ordering::SeqCst);
        }
        self.swallow().await;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.swallow().await;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn key() -> Path {
    Path::from("k")
}

fn put(store: &Arc<Watched>, mode: PutMode) -> tokio::task::JoinHandle<Result<PutResult>> {
    let store = store.clone();
    tokio::spawn(async move { store.put_opts(&key(), "v".into(), mode.into()).await })
}

#[tokio::test(start_paused = true)]
async fn what_waited_is_sent_again_soon_after_the_store_is_back() {
    let silent = Arc::new(Silent::default());
    let store = Arc::new(Watched::new(silent.clone()));
    silent.silent.store(true, Ordering::SeqCst);
    let puts: Vec<_> = (0..3).map(|_| put(&store, PutMode::Overwrite)).collect();
    sleep(Duration::from_secs(3600)).await;
    assert!(puts.iter().all(|put| !put.is_finished()));
    silent.silent.store(false, Ordering::SeqCst);
    let back = Instant::now();
    for put in puts {
        put.await.unwrap().unwrap();
    }
    assert!(back.elapsed() < Duration::from_millis(1500), "it took {:?}", back.elapsed());
    // Reads too.
    silent.silent.store(true, Ordering::SeqCst);
    let get = tokio::spawn({
        let store = store.clone();
        async move { store.get(&key()).await.unwrap().bytes().await.unwrap() }
    });
    sleep(Duration::from_secs(10)).await;
    silent.silent.store(false, Ordering::SeqCst);
    assert_eq!(get.await.unwrap(), "v");
}

#[tokio::test(start_paused = true)]
async fn a_conditional_write_is_given_up_and_never_sent_twice() {
    let silent = Arc::new(Silent::default());
    let store = Arc::new(Watched::new(silent.clone()));
    silent.silent.store(true, Ordering::SeqCst);
    silent.carries_out.store(true, Ordering::SeqCst);
    let create = put(&store, PutMode::Create);
    sleep(Duration::from_secs(10)).await;
    silent.silent.store(false, Ordering::SeqCst);
    let answer = create.await.unwrap();
    assert!(matches!(answer, Err(Error::Generic { .. })), "its outcome is not known: {answer:?}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_request_to_a_store_that_answers_others_is_left_alone() {
    let silent = Arc::new(Silent::default());
    let store = Arc::new(Watched::new(silent.clone()));
    silent.slow.store(true, Ordering::SeqCst);
    let begun = Instant::now();
    let puts: Vec<_> = (0..5).map(|_| put(&store, PutMode::Overwrite)).collect();
    for put in puts {
        put.await.unwrap().unwrap();
    }
    assert_eq!(begun.elapsed().as_secs(), 50, "none was sent again");
    let heads = silent.heads.load(Ordering::SeqCst);
    assert!((20..30).contains(&heads), "one looks for all of them: {heads}");
    // Nobody looks while nothing waits.
    sleep(Duration::from_secs(3600)).await;
    assert_eq!(silent.heads.load(Ordering::SeqCst), heads);
}
