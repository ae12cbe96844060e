//! The crate against a real S3 (MinIO), and against one whose answers get lost or that throttles.
//! `WEIR_TEST_S3` names its endpoint; the bucket is `weir`, the key `weir` / `weirsecret`. `cargo xtask test` sets it.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::ObjectStoreExt;
use objects::cache::Options;
use objects::conditional::{self, Outcome};
use objects::format::{ExtentSource, Footer, ObjectBuilder};
use objects::preflight::{self, PreflightError};
use objects::{ExtentReader, Object, Path, ReadAhead, Reader, Store, keys};
use records::{
    Builder, Codec, Headers, JournalId, LeaderEpoch, Offset, Partition, Position, Random, Timestamp, TopicId,
    TopicPartition,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

struct Seeds(RandomState, AtomicU32);

impl Random for Seeds {
    fn next(&self) -> u128 {
        let half = || {
            let mut hasher = self.0.build_hasher();
            hasher.write_u32(self.1.fetch_add(1, Ordering::Relaxed));
            u128::from(hasher.finish())
        };
        half() << 64 | half()
    }
}

fn random() -> Arc<dyn Random> {
    Arc::new(Seeds(RandomState::new(), AtomicU32::new(0)))
}

fn endpoint() -> String {
    std::env::var("WEIR_TEST_S3").expect(
        "these tests need an S3: run `cargo xtask test`, which starts MinIO, or set WEIR_TEST_S3 to the endpoint of one \
         with the bucket `weir` and the key `weir` / `weirsecret`",
    )
}

fn open_at(endpoint: &str, bucket: &str, secret: &str) -> Store {
    let prefix = random().uuid();
    let option = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    objects::open(
        &format!("s3://{bucket}/objects-{prefix}?region=us-east-1"),
        &[option("endpoint", endpoint), option("access_key_id", "weir"), option("secret_access_key", secret)],
    )
    .expect("the options are right")
}

fn open() -> Store {
    open_at(&endpoint(), "weir", "weirsecret")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_preflight_passes_and_leaves_nothing() {
    let store = open();
    let report = preflight::run(&store, &random()).await.unwrap();
    assert_eq!(report.leftover, 0);
    let left: Vec<_> = store.object_store().list(None).try_collect().await.unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_and_missing_buckets_are_told() {
    let refused = preflight::run(&open_at(&endpoint(), "weir", "wrong"), &random()).await.unwrap_err();
    assert!(matches!(refused, PreflightError::Refused { .. }), "{refused}");
    assert!(!refused.is_retriable() && refused.to_string().contains("Check the credentials"), "{refused}");
    let missing = preflight::run(&open_at(&endpoint(), "nowhere", "weirsecret"), &random()).await.unwrap_err();
    assert!(matches!(missing, PreflightError::NoBucket { .. }), "{missing}");
    assert!(missing.to_string().contains("s3://nowhere"), "{missing}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_goes_up_and_comes_back() {
    let store = open();
    let random = random();
    let id = random.uuid();
    let topic_partition = TopicPartition { topic: TopicId(random.uuid()), partition: Partition(0) };
    let mut next = Offset(1000);
    let batches: Vec<_> = (0..200_u8)
        .map(|number| {
            let mut builder = Builder::new(Codec::None);
            builder.push(Timestamp(i64::from(number)), None, Some(&vec![number; 50_000]), &Headers::NONE).unwrap();
            let mut batch = builder.build();
            batch.assign(next, LeaderEpoch(1));
            next = batch.next_offset();
            batch
        })
        .collect();
    let mut builder = ObjectBuilder::new(id, JournalId(1), Position(0), Position(1 << 24));
    let source = ExtentSource {
        topic_partition,
        batches: batches.clone(),
        producer_snapshot: Bytes::from_static(b"state"),
        aborted: Vec::new(),
    };
    builder.push(source).unwrap();
    let built = builder.finish();
    let key = keys::data_key("c1", JournalId(1), Position(0), id);
    store.object_store().put(&key, built.payload).await.unwrap();

    let listed: Vec<_> = store.object_store().list(None).try_collect().await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].size, built.size);
    assert!(matches!(keys::parse(&listed[0].location), keys::Kind::Data { id: listed, .. } if listed == id));

    let footer = Footer::read(&**store.object_store(), &key, built.size).await.unwrap();
    assert_eq!(footer.extents, built.extents);
    let reader = Reader::new(Arc::clone(store.object_store()), Options::default());
    let object = Object { id, key, size: built.size };
    let extent = ExtentReader::new(&reader, &object, &footer.extents[0]);
    assert_eq!(extent.producer_snapshot().await.unwrap(), "state");
    let mut ahead = ReadAhead::new();
    let mut from = Offset(1000);
    let mut read = Vec::new();
    while from < next {
        let some = extent.read(from, 500_000, &[], &mut ahead).await.unwrap();
        from = some.last().unwrap().next_offset();
        read.extend(some);
    }
    assert_eq!(read, batches);
    let found = extent.find_timestamp(Timestamp(123), Offset(0)).await.unwrap().unwrap();
    assert_eq!(found, batches[123]);
    // The end of an object can be asked for: the store never is.
    assert!(reader.read(&object, built.size..built.size).await.unwrap().is_empty());
    let chunks = built.size.div_ceil(1 << 20);
    assert_eq!(reader.metrics().gets.get(), chunks, "one GET per chunk");
    assert_eq!(reader.metrics().get_bytes.get(), built.size);
    // The first, and that of the index, were asked for at once.
    assert!(reader.metrics().prefetches.get() >= chunks - 2, "of {chunks}");
    reader.close().await;
}

/// What the proxy does to the next requests.
#[derive(Clone, Copy)]
enum Trouble {
    /// The store carries a PUT out; its answer is lost.
    LoseAnswers,
    /// The store does not see the request, and asks to slow down.
    SlowDown,
}

/// A proxy that makes trouble for the next `count` requests it is asked to. Ends when dropped.
struct Proxy {
    address: String,
    left: Arc<AtomicU32>,
    _task: JoinSet<()>,
}

impl Proxy {
    async fn start(trouble: Trouble) -> Self {
        let upstream = endpoint().trim_start_matches("http://").trim_end_matches('/').to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("there is a free port");
        let address = format!("http://{}", listener.local_addr().expect("it is bound"));
        let left = Arc::new(AtomicU32::new(0));
        let mut task = JoinSet::new();
        let count = Arc::clone(&left);
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&upstream).await.expect("the S3 is reachable");
                connections.spawn(carry(client, server, trouble, Arc::clone(&count)));
            }
        });
        Self { address, left, _task: task }
    }
}

async fn carry(mut client: TcpStream, mut server: TcpStream, trouble: Trouble, left: Arc<AtomicU32>) {
    let (mut request, mut answer) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let mut lose_answer = false;
    loop {
        tokio::select! {
            read = client.read(&mut request) => {
                let Ok(len @ 1..) = read else { return };
                // These requests are small: each starts in a read of its own.
                let begins = request.starts_with(b"PUT ");
                let take = || left.try_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
                if begins && take() {
                    match trouble {
                        Trouble::LoseAnswers => lose_answer = true,
                        Trouble::SlowDown => {
                            let slow = b"HTTP/1.1 503 Slow Down\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                            let _ = client.write_all(slow).await;
                            return;
                        }
                    }
                }
                if server.write_all(&request[..len]).await.is_err() { return }
            }
            read = server.read(&mut answer) => {
                let Ok(len @ 1..) = read else { return };
                if lose_answer { return }
                if client.write_all(&answer[..len]).await.is_err() { return }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_winner_knows_that_it_won_when_its_answer_was_lost() {
    let proxy = Proxy::start(Trouble::LoseAnswers).await;
    let store = open_at(&proxy.address, "weir", "weirsecret");
    let store = &**store.object_store();
    let key = Path::from("leader");
    proxy.left.store(1, Ordering::SeqCst);
    let Outcome::Won(first) = conditional::create(store, &key, "one".into()).await.unwrap() else {
        panic!("ours stands")
    };
    assert_eq!(proxy.left.load(Ordering::SeqCst), 0, "the answer was lost");
    proxy.left.store(1, Ordering::SeqCst);
    let Outcome::Won(second) = conditional::replace(store, &key, "two".into(), &first).await.unwrap() else {
        panic!("ours stands")
    };
    assert_eq!(proxy.left.load(Ordering::SeqCst), 0, "the answer was lost");
    let Outcome::Lost(seen) = conditional::replace(store, &key, "three".into(), &first).await.unwrap() else {
        panic!("the version is old")
    };
    assert_eq!(seen.value, "two");
    assert_eq!(seen.version.e_tag, second.e_tag);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_preflight_judges_right_when_answers_are_lost() {
    let proxy = Proxy::start(Trouble::LoseAnswers).await;
    proxy.left.store(12, Ordering::SeqCst);
    let store = open_at(&proxy.address, "weir", "weirsecret");
    preflight::run(&store, &random()).await.unwrap();
    assert_eq!(proxy.left.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn throttling_only_slows_us() {
    let proxy = Proxy::start(Trouble::SlowDown).await;
    proxy.left.store(3, Ordering::SeqCst);
    let store = open_at(&proxy.address, "weir", "weirsecret");
    store.object_store().put(&Path::from("a"), "1".into()).await.unwrap();
    assert_eq!(proxy.left.load(Ordering::SeqCst), 0);
    assert_eq!(store.object_store().get(&Path::from("a")).await.unwrap().bytes().await.unwrap(), "1");
}
