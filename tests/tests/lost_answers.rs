//! The store did the work and the answer did not arrive: for every kind of PUT that a broker makes, and for each way in
//! which an answer gets lost. The broker goes on, no acknowledged record is lost or doubled, and each object is
//! committed to the metadata once.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use weir_tests::broker::{Options, Weir};
use weir_tests::clock::Deadline;
use weir_tests::connection::Connection;
use weir_tests::faults::{FaultProxy, Loss, Request};
use weir_tests::http::metric;
use weir_tests::stores::{Kind, S3};
use weir_tests::topic::{check_all, produce};

const TOPIC: &str = "answers";
/// After this the broker takes an answer for lost.
const REQUEST_TIMEOUT_MS: u64 = 1000;
const RECORDS: usize = 20;
const ROUNDS: usize = 3;

/// Every kind of PUT that a broker makes. A new one is an error until it is named here.
const KINDS: [&str; 9] = [
    "pre-flight, create",
    "pre-flight, replace",
    "cluster id",
    "data object",
    "metadata log",
    "metadata rows",
    "manifest",
    "compactions",
    "controller",
];

fn kind(request: &Request) -> Option<&'static str> {
    let path = request.target.split('?').next().unwrap_or_default();
    let holds = |part: &str| path.contains(part);
    if request.method != "PUT" {
        return None;
    }
    Some(match () {
        () if holds("/preflight/") && request.has("if-none-match", "*") => KINDS[0],
        () if holds("/preflight/") => KINDS[1],
        () if path.ends_with("/meta/cluster") => KINDS[2],
        () if holds("/data/") => KINDS[3],
        () if holds("/meta/db/wal/") => KINDS[4],
        () if holds("/meta/db/compacted/") => KINDS[5],
        () if holds("/meta/db/manifest/") => KINDS[6],
        () if holds("/meta/db/compactions/") => KINDS[7],
        () if path.ends_with("/meta/controller") => KINDS[8],
        () => "unknown",
    })
}

/// One life of a broker in which the first answers to PUTs of each kind are lost.
fn live(how: Loss, each_max: usize) -> Result<()> {
    let store = S3::start(Kind::MinIo)?;
    let proxy = FaultProxy::start(store.address())?;
    proxy.lose(how, each_max, kind);
    let mut weir = Weir::start_with(Options {
        store: Some(S3::new_store_at(&proxy.endpoint())),
        sets: vec!["staging.seal_interval_ms=200".to_owned(), format!("store.request_timeout_ms={REQUEST_TIMEOUT_MS}")],
        environment: S3::credentials(),
        ..Options::default()
    })?;
    let mut connection = Connection::open(&weir.bootstrap())?;
    connection.create_topic(TOPIC, 1)?;
    let mut acknowledged = vec![];
    for round in 0..ROUNDS {
        for number in 0..RECORDS {
            let value = format!("round {round}, record {number}");
            acknowledged.push((produce(&mut connection, TOPIC, &value)?, value));
        }
        all_uploaded(&mut connection, acknowledged.len())?;
        connection.create_topic(&format!("{TOPIC}-{round}"), 1)?;
    }
    // A repeated PUT goes to the same key, and what it made is committed once.
    let keys: BTreeSet<String> =
        proxy.requests().into_iter().filter(|put| kind(put) == Some("data object")).map(|put| put.target).collect();
    let committed = metric(&weir.http(), "weir_uploads_total")?;
    ensure!(committed == keys.len() as f64, "{} objects were stored, {committed} were committed", keys.len());
    // Closing merges the metadata's log, which is PUTs of other kinds.
    weir.stop()?;
    fs::remove_dir_all(weir.staging_dir())?;
    weir.restart()?;
    let mut connection = Connection::open(&weir.bootstrap())?;
    check_all(&mut connection, TOPIC, &acknowledged)?;
    let last = (produce(&mut connection, TOPIC, "last")?, "last".to_owned());
    acknowledged.push(last);
    check_all(&mut connection, TOPIC, &acknowledged)?;
    weir.check_running()?;

    let lost = proxy.lost();
    let kinds: BTreeSet<&str> = lost.keys().copied().collect();
    ensure!(kinds == KINDS.into_iter().collect(), "answers of other kinds were lost: {lost:?}");
    ensure!(lost.values().all(|count| *count > 0), "{lost:?}");
    weir.finish_with(|line| line.contains("lost"))
}

fn all_uploaded(connection: &mut Connection, records: usize) -> Result<()> {
    let last = i64::try_from(records)? - 1;
    Deadline::after(Duration::from_secs(60))
        .wait("everything is uploaded", || Ok((connection.last_uploaded(TOPIC, 0)? == last).then_some(())))
}

#[test]
fn answers_lost_by_a_closed_connection_harm_nothing() -> Result<()> {
    live(Loss::Close, 10)
}

#[test]
fn answers_lost_by_a_reset_connection_harm_nothing() -> Result<()> {
    live(Loss::Reset, 10)
}

#[test]
fn answers_that_never_come_harm_nothing() -> Result<()> {
    live(Loss::Hang, 2)
}

#[test]
fn answers_replaced_by_503_harm_nothing() -> Result<()> {
    live(Loss::Status(503), 10)
}

#[test]
fn answers_replaced_by_500_harm_nothing() -> Result<()> {
    live(Loss::Status(500), 10)
}
