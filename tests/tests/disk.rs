//! A staging disk that is full, for real: a file system of its own, that something else fills.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use weir_tests::broker::{Options, Weir};
use weir_tests::clock::Deadline;
use weir_tests::connection::Connection;
use weir_tests::dice::Dice;
use weir_tests::history::History;
use weir_tests::http::metric;
use weir_tests::load::{Load, Plan};

const TOPIC: &str = "disk";
const PARTITIONS: u64 = 4;
const IDEMPOTENT: u32 = 2;
const DISK_BYTES: u64 = 64 << 20;

#[test]
fn a_full_staging_disk_refuses_and_goes_on_by_itself_when_there_is_room() -> Result<()> {
    let sets = ["staging.segment_bytes=4194304", "staging.seal_interval_ms=1000", "staging.bytes_max=50331648"];
    let options =
        Options { sets: sets.map(str::to_owned).into(), staging_disk_bytes: Some(DISK_BYTES), ..Options::default() };
    let mut dice = Dice::new(Dice::seed_from("WEIR_CRASH_SEED"));
    let weir = Weir::start_with(options)?;
    let address = weir.bootstrap();
    Connection::open(&address)?.create_topic(TOPIC, i32::try_from(PARTITIONS)?)?;
    let plan = Plan {
        address: address.clone(),
        topic: TOPIC.into(),
        partitions: PARTITIONS,
        idempotent: IDEMPOTENT,
        plain: 1,
    };
    let mut load = Load::start(&plan, &mut dice)?;
    let deadline = || Deadline::after(Duration::from_secs(60));
    for round in 0..3 {
        let goal = load.answers() + 500;
        deadline().wait("the broker answers producers", || {
            load.check()?;
            Ok((load.answers() >= goal).then_some(()))
        })?;
        // Everything that is free is taken, as another program on the disk might.
        let filler = weir.inside(&weir.staging_dir())?.join("filler");
        let mut taken = 0;
        deadline().wait("the journal has failed", || {
            taken += fill(&filler, taken)?;
            Ok((metric(&weir.http(), "weir_journal_failed")? > 0.0).then_some(()))
        })?;
        ensure!(weir.ready().is_err(), "round {round}: not ready while the disk is full");
        // What was acknowledged is served all the while.
        let mut connection = Connection::open(&address)?;
        let mut history = History::new(TOPIC, usize::try_from(PARTITIONS)?, IDEMPOTENT);
        history.read_on(&mut connection)?;
        ensure!(!history.is_empty(), "round {round}: nothing can be read");
        fs::remove_file(&filler)?;
        deadline().wait("the broker is ready again", || Ok(weir.ready().is_ok().then_some(())))?;
    }
    let goal = load.answers() + 500;
    deadline().wait("the broker answers producers", || {
        load.check()?;
        Ok((load.answers() >= goal).then_some(()))
    })?;
    let promised = load.finish()?;
    let mut connection = Connection::open(&address)?;
    let mut history = History::new(TOPIC, usize::try_from(PARTITIONS)?, IDEMPOTENT);
    history.read_on(&mut connection)?;
    history.check(&promised)?;
    // That is what an ERROR line is for.
    weir.finish_with(|line| line.contains("the staging disk failed"))
}

/// Makes a file larger until the disk takes no more; returns by how much.
fn fill(path: &std::path::Path, from: u64) -> Result<u64> {
    use std::io::Write as _;
    let mut file = fs::OpenOptions::new().create(true).append(true).open(path).context("the filler")?;
    let mut taken = 0;
    let block = [1_u8; 4096];
    while from + taken < DISK_BYTES && file.write_all(&block).is_ok() {
        taken += block.len() as u64;
    }
    Ok(taken)
}
