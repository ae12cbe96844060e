//! Encryption at rest by configuration: every PUT asks for it, whatever it writes, and the store carries it out.

use std::time::Duration;

use anyhow::{Result, ensure};
use weir_tests::broker::{Options, Weir};
use weir_tests::clock::Deadline;
use weir_tests::connection::Connection;
use weir_tests::faults::{FaultProxy, Request};
use weir_tests::stores::{KMS_KEY, Kind, S3};
use weir_tests::topic::{check_all, produce};

const TOPIC: &str = "secret";
const ALGORITHM: &str = "x-amz-server-side-encryption";
const KEY_ID: &str = "x-amz-server-side-encryption-aws-kms-key-id";

/// Everything that a broker writes in a life with these keys of the configuration.
fn writes(sets: &[&str]) -> Result<Vec<Request>> {
    let store = S3::start_own(Kind::MinIo)?;
    let proxy = FaultProxy::start(store.address())?;
    let mut weir = Weir::start_with(Options {
        store: Some(S3::new_store_at(&proxy.endpoint())),
        sets: sets.iter().copied().chain(["staging.seal_interval_ms=100"]).map(str::to_owned).collect(),
        environment: S3::credentials(),
        ..Options::default()
    })?;
    let mut connection = Connection::open(&weir.bootstrap())?;
    connection.create_topic(TOPIC, 1)?;
    let acknowledged = vec![(produce(&mut connection, TOPIC, "value")?, "value".to_owned())];
    Deadline::after(Duration::from_secs(60))
        .wait("it is uploaded", || Ok((connection.last_uploaded(TOPIC, 0)? == 0).then_some(())))?;
    weir.stop()?;
    std::fs::remove_dir_all(weir.staging_dir())?;
    weir.restart()?;
    check_all(&mut Connection::open(&weir.bootstrap())?, TOPIC, &acknowledged)?;
    weir.finish_with(|line| line.contains("lost"))?;
    // Parts of a multipart upload are encrypted as its beginning asks.
    let begins = |request: &Request| request.method == "POST" && request.target.ends_with("?uploads");
    let all = proxy.requests().into_iter();
    let writes: Vec<Request> = all
        .filter(|request| begins(request) || request.method == "PUT" && !request.target.contains("uploadId="))
        .collect();
    for part in ["/preflight/", "/meta/cluster", "/meta/db/wal/", "/meta/db/manifest/", "/meta/db/compacted/", "/data/"]
    {
        ensure!(writes.iter().any(|request| request.target.contains(part)), "nothing was written below {part}");
    }
    Ok(writes)
}

#[test]
fn every_put_asks_for_the_key_of_the_configuration() -> Result<()> {
    let key = format!("store.kms_key_id={KMS_KEY}");
    for put in writes(&["store.encryption=sse-kms", &key])? {
        ensure!(put.has(ALGORITHM, "aws:kms") && put.has(KEY_ID, KMS_KEY), "{} {:?}", put.target, put.headers);
    }
    Ok(())
}

#[test]
fn every_put_asks_for_the_keys_of_the_store() -> Result<()> {
    for put in writes(&["store.encryption=sse-s3"])? {
        ensure!(put.has(ALGORITHM, "AES256") && !put.headers.contains_key(KEY_ID), "{} {:?}", put.target, put.headers);
    }
    Ok(())
}

#[test]
fn no_put_asks_for_anything_by_default() -> Result<()> {
    for put in writes(&[])? {
        ensure!(!put.headers.keys().any(|name| name.starts_with(ALGORITHM)), "{} {:?}", put.target, put.headers);
    }
    Ok(())
}
