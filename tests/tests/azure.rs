//! Azure Blob Storage, as the Azurite emulator has it: the pre-flight passes, what was uploaded is served from it when the
//! disk is gone, and nothing of it is lost.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use weir_tests::azure::Azurite;
use weir_tests::broker::{Options, Weir};
use weir_tests::clock::Deadline;
use weir_tests::connection::Connection;
use weir_tests::http::metric;
use weir_tests::topic::{produce, read_all};

const TOPIC: &str = "kept";
const RECORDS: i64 = 200;

#[test]
fn uploaded_records_are_served_from_azurite_when_the_disk_is_gone() -> Result<()> {
    let store = Azurite::start()?;
    let mut weir = Weir::start_with(Options {
        store: Some(store.new_store()),
        sets: vec!["staging.seal_interval_ms=500".to_owned()],
        environment: store.environment(),
        ..Options::default()
    })?;
    let mut connection = Connection::open(&weir.bootstrap())?;
    connection.create_topic(TOPIC, 1)?;
    for number in 0..RECORDS {
        produce(&mut connection, TOPIC, &format!("value {number}"))?;
    }
    Deadline::after(Duration::from_secs(60))
        .wait("everything is uploaded", || Ok((connection.last_uploaded(TOPIC, 0)? == RECORDS - 1).then_some(())))?;
    for _ in 0..2 {
        weir.kill()?;
        fs::remove_dir_all(weir.staging_dir())?;
        weir.restart()?;
        let (found, _) = read_all(&mut Connection::open(&weir.bootstrap())?, TOPIC)?;
        let expected: Vec<(i64, String)> = (0..RECORDS).map(|number| (number, format!("value {number}"))).collect();
        ensure!(found == expected, "{} records were served, {} expected", found.len(), expected.len());
        ensure!(metric(&weir.http(), "weir_read_store_bytes_total")? > 0.0, "nothing was read from the object store");
    }
    weir.finish_with(|line| line.contains("lost"))
}
