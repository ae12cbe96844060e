//! What is too old, deleted or left over leaves a real bucket, and nothing else does; `weir store check` and
//! `weir store sweep` see it as it is.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures::TryStreamExt as _;
use object_store::{ObjectStoreExt as _, PutPayload, path::Path};
use records::{JournalId, Offset, Position};
use serde_json::Value;
use weir_tests::broker::{Options, Weir};
use weir_tests::clock::Deadline;
use weir_tests::connection::Connection;
use weir_tests::http::metric;
use weir_tests::places;
use weir_tests::process::run_to_end;
use weir_tests::stores::{Kind, S3};
use weir_tests::topic::{check_all, produce};

const WITHIN: Duration = Duration::from_secs(60);
const SHORT: &str = "short";
const KEPT: &str = "kept";
const LARGE: &str = "large";

/// The test's own look at the store.
struct Bucket {
    runtime: tokio::runtime::Runtime,
    store: objects::Store,
}

impl Bucket {
    fn open(url: &str) -> Result<Self> {
        let named = |name: &str| S3::credentials().into_iter().find(|(key, _)| key == name).map(|(_, value)| value);
        let options = [
            ("access_key_id".to_owned(), named("AWS_ACCESS_KEY_ID").context("a key")?),
            ("secret_access_key".to_owned(), named("AWS_SECRET_ACCESS_KEY").context("a secret")?),
            ("allow_http".to_owned(), "true".to_owned()),
        ];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Self { runtime, store: objects::open(url, &options)? })
    }

    /// The keys of all data objects.
    fn data(&self) -> Result<Vec<Path>> {
        let all: Vec<_> = self.runtime.block_on(self.store.object_store().list(None).try_collect())?;
        Ok(all.into_iter().map(|object| object.location).filter(|key| key.as_ref().contains("/data/")).collect())
    }

    fn put(&self, key: &Path, bytes: Vec<u8>) -> Result<()> {
        self.runtime.block_on(self.store.object_store().put(key, PutPayload::from(bytes)))?;
        Ok(())
    }

    fn get(&self, key: &Path) -> Result<Vec<u8>> {
        let read = async { self.store.object_store().get(key).await?.bytes().await };
        Ok(self.runtime.block_on(read)?.to_vec())
    }

    fn delete(&self, key: &Path) -> Result<()> {
        Ok(self.runtime.block_on(self.store.object_store().delete(key))?)
    }
}

fn start(store: &S3, sets: &[&str]) -> Result<(Weir, Bucket)> {
    let url = store.new_store();
    let bucket = Bucket::open(&url)?;
    let sets = ["staging.seal_interval_ms=100"].iter().chain(sets).map(|set| (*set).to_owned()).collect();
    let weir =
        Weir::start_with(Options { store: Some(url), sets, environment: S3::credentials(), ..Options::default() })?;
    Ok((weir, bucket))
}

/// `weir store …`: its exit code and the document that it writes.
fn store_command(weir: &Weir, arguments: &[&str]) -> Result<(Option<i32>, Value)> {
    let mut command = Command::new(places::weir()?);
    command.arg("store").args(arguments).args(["-o", "json", "--config"]).arg(weir.config()).envs(S3::credentials());
    let (status, said) = run_to_end(&mut command, Duration::from_secs(120))?;
    // What goes to standard error may stand before and after it.
    let starts = ["{\n", "[\n", "[]"].iter().filter_map(|start| said.find(start)).min();
    let start = starts.with_context(|| format!("no document: {said}"))?;
    let mut documents = serde_json::Deserializer::from_str(&said[start..]).into_iter::<Value>();
    let document = documents.next().with_context(|| said.clone())?.with_context(|| said.clone())?;
    Ok((status.code(), document))
}

fn ensure_clean(weir: &Weir) -> Result<Value> {
    let (code, report) = store_command(weir, &["check"])?;
    ensure!(code == Some(0) && report["finding_count"] == 0, "{code:?} {report}");
    Ok(report)
}

/// The kinds of things that are wrong.
fn findings(weir: &Weir, arguments: &[&str]) -> Result<Vec<String>> {
    let (code, report) = store_command(weir, arguments)?;
    let all = report["findings"].as_array().with_context(|| report.to_string())?;
    ensure!(code == Some(i32::from(!all.is_empty())), "{code:?} {report}");
    ensure!(all.iter().all(|finding| finding["remedy"].is_string() && finding["meaning"].is_string()), "{report}");
    Ok(all.iter().map(|finding| finding["kind"].as_str().unwrap_or_default().to_owned()).collect())
}

#[test]
fn what_is_too_old_too_much_or_deleted_leaves_the_bucket_and_the_rest_stays() -> Result<()> {
    let store = S3::start(Kind::MinIo)?;
    let (mut weir, bucket) = start(&store, &["log.retention_check_interval_ms=100", "store.delete_grace_ms=200"])?;
    let mut connection = Connection::open(&weir.bootstrap())?;
    connection.create_topic_with(SHORT, 1, &[("retention.ms", "1000")])?;
    connection.create_topic(KEPT, 1)?;
    connection.create_topic_with(LARGE, 1, &[("retention.bytes", "60000")])?;
    let mut acknowledged = vec![];
    for number in 0..40 {
        produce(&mut connection, SHORT, &format!("short {number}"))?;
        let value = format!("kept {number}");
        acknowledged.push((produce(&mut connection, KEPT, &value)?, value));
    }
    let deadline = Deadline::after(WITHIN);
    deadline.wait("short ones go", || Ok((connection.log_start(SHORT, 0)? == 40).then_some(())))?;
    let refused = connection.fetch(SHORT, 0, Offset(0)).err().context("what is gone cannot be read")?;
    ensure!(format!("{refused:#}").contains("OFFSET_OUT_OF_RANGE"), "{refused:#}");
    for number in 0..40 {
        ensure!(produce(&mut connection, LARGE, &"x".repeat(10_000))? == number);
        // Several extents, for they go as a whole.
        if number % 4 == 3 {
            deadline.wait("it is uploaded", || Ok((connection.last_uploaded(LARGE, 0)? >= number).then_some(())))?;
        }
    }
    deadline.wait("too much goes", || Ok((connection.log_start(LARGE, 0)? > 0).then_some(())))?;
    let enough = connection.log_start(LARGE, 0)?;
    ensure!(enough <= 34, "less than retention.bytes is left from offset {enough} on");
    check_all(&mut connection, KEPT, &acknowledged)?;
    ensure_clean(&weir)?;

    // Objects of which nothing is left.
    for number in 40..50 {
        ensure!(produce(&mut connection, SHORT, &format!("short {number}"))? == number);
    }
    deadline.wait("short ones go", || Ok((connection.log_start(SHORT, 0)? == 50).then_some(())))?;
    deadline.wait("objects are deleted", || {
        Ok((metric(&weir.http(), "weir_store_objects_deleted_total")? > 0.0).then_some(()))
    })?;
    weir.kill()?;
    weir.restart()?;
    let mut connection = Connection::open(&weir.bootstrap())?;
    ensure!(connection.log_start(SHORT, 0)? == 50, "the log start is kept");
    ensure!(connection.log_start(LARGE, 0)? >= enough);
    check_all(&mut connection, KEPT, &acknowledged)?;
    let report = ensure_clean(&weir)?;
    ensure!(report["objects"].as_u64() > Some(0) && report["extents"].as_u64() > Some(0), "{report}");

    for topic in [SHORT, KEPT, LARGE] {
        connection.delete_topic(topic)?;
    }
    let deadline = Deadline::after(WITHIN);
    deadline.wait("the bucket has no data any more", || Ok(bucket.data()?.is_empty().then_some(())))?;
    let report = ensure_clean(&weir)?;
    ensure!(report["objects"] == 0 && report["garbage"] == 0, "{report}");
    weir.finish()
}

#[test]
fn an_upload_that_was_cut_off_is_found_when_it_is_old_enough_and_an_open_one_stays() -> Result<()> {
    let store = S3::start(Kind::MinIo)?;
    let (weir, bucket) = start(&store, &["store.sweep_interval_ms=2400"])?;
    let mut connection = Connection::open(&weir.bootstrap())?;
    connection.create_topic(KEPT, 1)?;
    let mut acknowledged = vec![];
    for number in 0..5 {
        let value = format!("kept {number}");
        acknowledged.push((produce(&mut connection, KEPT, &value)?, value));
    }
    Deadline::after(WITHIN).wait("all is uploaded", || Ok((connection.last_uploaded(KEPT, 0)? == 4).then_some(())))?;
    let objects = bucket.data()?;
    let objects::keys::Kind::Data { cluster, journal, .. } = objects::keys::parse(&objects[0]) else {
        anyhow::bail!("{} is the key of an object", objects[0])
    };
    let key = |journal, from, id| objects::keys::data_key(&cluster, journal, Position(from), uuid::Uuid::from_u128(id));
    let (orphan, open) = (key(journal, 0, 1), key(journal, 1 << 40, 2));
    let forgotten = key(JournalId(0), 0, 3);
    for key in [&orphan, &open, &forgotten] {
        bucket.put(key, vec![0; 100])?;
    }
    let (code, found) = store_command(&weir, &["sweep"])?;
    ensure!(code == Some(0) && found == Value::Array(vec![]), "nothing is a day old: {found}");
    let old = ["--set", "store.orphan_age_ms=0"];
    ensure!(findings(&weir, &["check", old[0], old[1]])? == ["orphan", "orphan"]);
    let (_, would) = store_command(&weir, &["sweep", "--dry-run", old[0], old[1]])?;
    ensure!(would.as_array().map(Vec::len) == Some(2), "{would}");
    ensure!(bucket.data()?.len() == objects.len() + 3, "a dry run deletes nothing");
    let (code, did) = store_command(&weir, &["sweep", old[0], old[1]])?;
    ensure!(code == Some(0) && did == would, "{did}");
    let left = bucket.data()?;
    ensure!(left.len() == objects.len() + 1 && left.contains(&open), "{left:?}");
    // The broker was neither fenced nor robbed.
    acknowledged.push((produce(&mut connection, KEPT, "after")?, "after".to_owned()));
    check_all(&mut connection, KEPT, &acknowledged)?;
    weir.finish()
}

#[test]
fn damage_in_a_bucket_is_found_while_no_broker_runs() -> Result<()> {
    let store = S3::start(Kind::MinIo)?;
    let (mut weir, bucket) = start(&store, &[])?;
    let mut connection = Connection::open(&weir.bootstrap())?;
    connection.create_topic(KEPT, 1)?;
    for number in 0..5 {
        produce(&mut connection, KEPT, &format!("kept {number}"))?;
    }
    weir.stop()?;
    let report = ensure_clean(&weir)?;
    ensure!(report["objects"].as_u64() > Some(0), "{report}");
    let key = bucket.data()?.into_iter().next().context("an object")?;
    let whole = bucket.get(&key)?;
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    bucket.put(&key, flipped(70))?;
    ensure!(findings(&weir, &["check"])? == ["object_contents"]);
    ensure!(findings(&weir, &["check", "--shallow"])?.is_empty());
    bucket.put(&key, flipped(whole.len() - 30))?;
    ensure!(findings(&weir, &["check", "--shallow"])? == ["object_footer"]);
    bucket.put(&key, whole[..whole.len() / 2].to_vec())?;
    ensure!(findings(&weir, &["check", "--shallow"])? == ["object_size"]);
    bucket.delete(&key)?;
    ensure!(findings(&weir, &["check", "--shallow"])? == ["object_missing"]);
    bucket.put(&key, whole)?;
    ensure_clean(&weir)?;
    let other = store_command(&weir, &["check", "--set", "cluster.name=other"]);
    ensure!(other.is_err_and(|said| said.to_string().contains("there is no cluster 'other'")));
    weir.finish()
}
