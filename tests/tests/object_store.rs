//! The object store is the only copy that matters: what was uploaded is served from it when the disk is gone, and what
//! was not is reported, never made up for with other records. On each store that keeps what it promises.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use weir_tests::broker::{Options, Weir};
use weir_tests::clock::Deadline;
use weir_tests::connection::Connection;
use weir_tests::http::metric;
use weir_tests::stores::{Kind, S3};
use weir_tests::topic::{produce, read_all};

const TOPIC: &str = "kept";
const UPLOADED: i64 = 500;
const LOST: i64 = 20;
/// A segment is sealed so long after its first byte.
const SEAL_INTERVAL_MS: u64 = 500;

fn options(store: &S3, seal_interval_ms: u64) -> Options {
    Options {
        store: Some(store.new_store()),
        sets: vec![format!("staging.seal_interval_ms={seal_interval_ms}")],
        environment: S3::credentials(),
        ..Options::default()
    }
}

/// Waits until everything that was produced lies in the object store.
fn all_uploaded(connection: &mut Connection) -> Result<()> {
    Deadline::after(Duration::from_secs(60))
        .wait("everything is uploaded", || Ok((connection.last_uploaded(TOPIC, 0)? == UPLOADED - 1).then_some(())))
}

#[test]
fn uploaded_records_are_served_from_minio_when_the_disk_is_gone_and_the_rest_is_reported() -> Result<()> {
    the_disk_is_lost_with_records_on_it(Kind::MinIo)
}

#[test]
fn uploaded_records_are_served_from_versitygw_when_the_disk_is_gone_and_the_rest_is_reported() -> Result<()> {
    the_disk_is_lost_with_records_on_it(Kind::VersityGw)
}

fn the_disk_is_lost_with_records_on_it(kind: Kind) -> Result<()> {
    let store = S3::start(kind)?;
    let mut weir = Weir::start_with(options(&store, SEAL_INTERVAL_MS))?;
    let mut connection = Connection::open(&weir.bootstrap())?;
    connection.create_topic(TOPIC, 1)?;
    for number in 0..UPLOADED {
        let offset = produce(&mut connection, TOPIC, &format!("uploaded {number}"))?;
        ensure!(offset == number, "record {number} got offset {offset}");
    }
    all_uploaded(&mut connection)?;
    // The rest comes in and is lost with the disk before its segment is sealed.
    weir.kill()?;
    let mut weir = reopen(weir, 600_000)?;
    let mut connection = Connection::open(&weir.bootstrap())?;
    for number in 0..LOST {
        let offset = produce(&mut connection, TOPIC, &format!("lost {number}"))?;
        ensure!(offset == UPLOADED + number, "record {number} got offset {offset}");
    }
    weir.kill()?;
    fs::remove_dir_all(weir.staging_dir())?;
    let before = weir.log()?.len();
    weir.restart()?;

    let mut connection = Connection::open(&weir.bootstrap())?;
    let (found, high_watermark) = read_all(&mut connection, TOPIC)?;
    let expected: Vec<(i64, String)> = (0..UPLOADED).map(|number| (number, format!("uploaded {number}"))).collect();
    ensure!(found == expected, "{} records were served, {} expected", found.len(), expected.len());
    ensure!(metric(&weir.http(), "weir_read_store_bytes_total")? > 0.0, "nothing was read from the object store");
    // An offset that was acknowledged is never used for another record.
    ensure!(high_watermark >= UPLOADED + LOST, "offsets from {high_watermark} on will be used again");
    let next = produce(&mut connection, TOPIC, "after the loss")?;
    ensure!(next >= UPLOADED + LOST, "offset {next} was acknowledged for another record before");
    let log = weir.log()?[before..].to_owned();
    let reported = log.lines().any(|line| line.contains("lost") && line.contains("bytes"));
    ensure!(reported, "the log does not say what was lost:\n{log}");
    // Losing acknowledged records is what a person must look at.
    weir.finish_with(|line| line.contains("lost"))
}

/// The same broker with another seal interval.
fn reopen(mut weir: Weir, seal_interval_ms: u64) -> Result<Weir> {
    weir.set(&format!("staging.seal_interval_ms={seal_interval_ms}"));
    weir.restart()?;
    Ok(weir)
}

#[test]
fn nothing_is_lost_when_everything_was_uploaded_to_minio() -> Result<()> {
    the_disk_is_lost_after_everything_was_uploaded(Kind::MinIo)
}

#[test]
fn nothing_is_lost_when_everything_was_uploaded_to_versitygw() -> Result<()> {
    the_disk_is_lost_after_everything_was_uploaded(Kind::VersityGw)
}

fn the_disk_is_lost_after_everything_was_uploaded(kind: Kind) -> Result<()> {
    let store = S3::start(kind)?;
    let mut weir = Weir::start_with(options(&store, SEAL_INTERVAL_MS))?;
    let mut connection = Connection::open(&weir.bootstrap())?;
    connection.create_topic(TOPIC, 1)?;
    for number in 0..UPLOADED {
        produce(&mut connection, TOPIC, &format!("value {number}"))?;
    }
    all_uploaded(&mut connection)?;
    for _ in 0..2 {
        weir.kill()?;
        fs::remove_dir_all(weir.staging_dir())?;
        weir.restart()?;
        let (found, _) = read_all(&mut Connection::open(&weir.bootstrap())?, TOPIC)?;
        let expected: Vec<(i64, String)> = (0..UPLOADED).map(|number| (number, format!("value {number}"))).collect();
        ensure!(found == expected, "{} records were served, {} expected", found.len(), expected.len());
    }
    weir.finish_with(|line| line.contains("lost"))
}
