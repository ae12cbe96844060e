//! The object store is the only copy that matters: what was uploaded is served from MinIO when the disk is gone, and
//! what was not is reported, never made up for with other records.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use records::{Builder, Clock as _, Codec, Headers, Offset};
use weir_tests::broker::{Options, Weir};
use weir_tests::clock::{Deadline, WallClock};
use weir_tests::connection::{Connection, no_error};
use weir_tests::minio::{MinIo, http_get};
use wire::{Records, produce};

const TOPIC: &str = "kept";
const PRODUCE_VERSION: i16 = 9;
const UPLOADED: i64 = 500;
const LOST: i64 = 20;
/// A segment is sealed so long after its first byte.
const SEAL_INTERVAL_MS: u64 = 500;

fn options(minio: &MinIo, seal_interval_ms: u64) -> Options {
    Options {
        store: Some(minio.new_store()),
        sets: vec![format!("staging.seal_interval_ms={seal_interval_ms}")],
        environment: MinIo::credentials(),
        ..Options::default()
    }
}

/// Produces one record, acknowledged, and gives its offset.
fn produce(connection: &mut Connection, value: &str) -> Result<i64> {
    let mut builder = Builder::new(Codec::None);
    builder.push(WallClock.now(), Some(b"key"), Some(value.as_bytes()), &Headers::NONE)?;
    let records = Some(Records::from(builder.build().to_bytes()));
    let data = produce::PartitionProduceData { index: 0, records, ..Default::default() };
    let topic = produce::TopicProduceData { name: TOPIC.into(), partition_data: vec![data], ..Default::default() };
    let request = produce::Request { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() };
    let response: produce::Response = connection.call(PRODUCE_VERSION, &request)?;
    let answer = response.responses.first().and_then(|topic| topic.partition_responses.first()).context("an answer")?;
    no_error(answer.error_code).context("produce")?;
    Ok(answer.base_offset)
}

/// All records with their offsets, and the high watermark.
fn read_all(connection: &mut Connection) -> Result<(Vec<(i64, String)>, i64)> {
    let mut found = vec![];
    let mut next = 0;
    loop {
        let (batches, high_watermark) = connection.fetch(TOPIC, 0, Offset(next))?;
        if batches.is_empty() {
            return Ok((found, high_watermark.0));
        }
        for batch in batches {
            for record in batch.records(1 << 20)? {
                let record = record?;
                found.push((record.offset.0, String::from_utf8(record.value.context("a value")?.to_vec())?));
            }
            next = batch.next_offset().0;
        }
    }
}

/// Waits until everything that was produced lies in the object store.
fn all_uploaded(connection: &mut Connection) -> Result<()> {
    Deadline::after(Duration::from_secs(60))
        .wait("everything is uploaded", || Ok((connection.last_uploaded(TOPIC, 0)? == UPLOADED - 1).then_some(())))
}

/// The sum over all its labels of a metric.
fn metric(weir: &Weir, name: &str) -> Result<f64> {
    let (_, text) = http_get(&weir.http(), "/metrics")?;
    let lines = text.lines().filter(|line| line.starts_with(name) && !line.starts_with('#'));
    Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
}

#[test]
fn uploaded_records_are_served_when_the_disk_is_gone_and_the_rest_is_reported() -> Result<()> {
    let minio = MinIo::start()?;
    let mut weir = Weir::start_with(options(&minio, SEAL_INTERVAL_MS))?;
    let mut connection = Connection::open(&weir.bootstrap())?;
    connection.create_topic(TOPIC, 1)?;
    for number in 0..UPLOADED {
        let offset = produce(&mut connection, &format!("uploaded {number}"))?;
        ensure!(offset == number, "record {number} got offset {offset}");
    }
    all_uploaded(&mut connection)?;
    // The rest comes in and is lost with the disk before its segment is sealed.
    weir.kill()?;
    let mut weir = reopen(weir, 600_000)?;
    let mut connection = Connection::open(&weir.bootstrap())?;
    for number in 0..LOST {
        let offset = produce(&mut connection, &format!("lost {number}"))?;
        ensure!(offset == UPLOADED + number, "record {number} got offset {offset}");
    }
    weir.kill()?;
    fs::remove_dir_all(weir.staging_dir())?;
    let before = weir.log()?.len();
    weir.restart()?;

    let mut connection = Connection::open(&weir.bootstrap())?;
    let (found, high_watermark) = read_all(&mut connection)?;
    let expected: Vec<(i64, String)> = (0..UPLOADED).map(|number| (number, format!("uploaded {number}"))).collect();
    ensure!(found == expected, "{} records were served, {} expected", found.len(), expected.len());
    ensure!(metric(&weir, "weir_read_store_bytes_total")? > 0.0, "nothing was read from the object store");
    // An offset that was acknowledged is never used for another record.
    ensure!(high_watermark >= UPLOADED + LOST, "offsets from {high_watermark} on will be used again");
    let next = produce(&mut connection, "after the loss")?;
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
fn nothing_is_lost_when_everything_was_uploaded() -> Result<()> {
    let minio = MinIo::start()?;
    let mut weir = Weir::start_with(options(&minio, SEAL_INTERVAL_MS))?;
    let mut connection = Connection::open(&weir.bootstrap())?;
    connection.create_topic(TOPIC, 1)?;
    for number in 0..UPLOADED {
        produce(&mut connection, &format!("value {number}"))?;
    }
    all_uploaded(&mut connection)?;
    for _ in 0..2 {
        weir.kill()?;
        fs::remove_dir_all(weir.staging_dir())?;
        weir.restart()?;
        let (found, _) = read_all(&mut Connection::open(&weir.bootstrap())?)?;
        let expected: Vec<(i64, String)> = (0..UPLOADED).map(|number| (number, format!("value {number}"))).collect();
        ensure!(found == expected, "{} records were served, {} expected", found.len(), expected.len());
    }
    weir.finish_with(|line| line.contains("lost"))
}
