//! The store at its worst, for as long as it likes: gone, throttling, silent, cutting every answer. Producing goes on
//! until the staging budget is used, then it slows, then it is refused with an error that clients repeat. What is there is
//! read all the while. The process never ends for it, and all is well within seconds after the store is back.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use weir_tests::broker::{Options, Weir};
use weir_tests::clock::Deadline;
use weir_tests::connection::Connection;
use weir_tests::faults::{FaultProxy, Weather};
use weir_tests::stores::{Kind, S3};
use weir_tests::topic::{check_all, produce, try_produce};
use wire::{ErrorCode, create_topics};

const TOPIC: &str = "weather";
const SEGMENT_BYTES: usize = 1 << 20;
const BUDGET_BYTES: usize = 16 << 20;
const RECORD_BYTES: usize = 100 << 10;
/// The first produce after the store is back is served within this.
const SERVED_WITHIN: Duration = Duration::from_secs(2);
/// A produce waits for room for 5 s; what comes earlier or much later is not that.
const REFUSED_AFTER: std::ops::Range<Duration> = Duration::from_millis(4500)..Duration::from_secs(9);
/// How often it is refused before the store comes back: pauses between tries grow as far as they do.
const REFUSALS: usize = 3;

#[allow(clippy::disallowed_methods)] // Tests of real processes run in real time.
fn now() -> Instant {
    Instant::now()
}

fn start(proxy: &FaultProxy) -> Result<Weir> {
    Weir::start_with(Options {
        store: Some(S3::new_store_at(&proxy.endpoint())),
        sets: vec![
            "staging.seal_interval_ms=500".to_owned(),
            format!("staging.segment_bytes={SEGMENT_BYTES}"),
            format!("staging.bytes_max={BUDGET_BYTES}"),
        ],
        environment: S3::credentials(),
        ..Options::default()
    })
}

/// A text of a size, which tells its number.
fn value(number: usize) -> String {
    let number = number.to_string();
    "0".repeat(RECORD_BYTES - number.len()) + &number
}

fn survives(weather: Weather) -> Result<()> {
    let store = S3::start(Kind::MinIo)?;
    let proxy = FaultProxy::start(store.address())?;
    let mut weir = start(&proxy)?;
    let mut connection = Connection::open(&weir.bootstrap())?;
    connection.create_topic(TOPIC, 1)?;
    let mut acknowledged = vec![];
    for number in 0..SEGMENT_BYTES / RECORD_BYTES {
        acknowledged.push((produce(&mut connection, TOPIC, &value(number))?, value(number)));
    }

    proxy.set_weather(weather);
    let mut refusals = 0;
    while refusals < REFUSALS {
        let number = acknowledged.len();
        let asked = now();
        match try_produce(&mut connection, TOPIC, &value(number))? {
            Ok(offset) => acknowledged.push((offset, value(number))),
            Err(ErrorCode::NOT_ENOUGH_REPLICAS) => {
                let waited = asked.elapsed();
                ensure!(REFUSED_AFTER.contains(&waited), "refused after {waited:?}");
                refusals += 1;
            }
            Err(other) => bail!("refused with {}", other.name()),
        }
        weir.check_running()?;
    }
    // Some of the budget may have been free already, and some is not used: nothing else limits what was taken.
    let taken = acknowledged.len() * RECORD_BYTES;
    ensure!((BUDGET_BYTES * 3 / 4..BUDGET_BYTES * 2).contains(&taken), "{taken} bytes were taken");
    check_all(&mut connection, TOPIC, &acknowledged).context("while the store is not there")?;

    proxy.set_weather(Weather::Clear);
    let back = now();
    let number = acknowledged.len();
    acknowledged.push((produce(&mut connection, TOPIC, &value(number))?, value(number)));
    let served = back.elapsed();
    eprintln!("{weather:?}: the first produce after the store was back took {served:?}");
    ensure!(served < SERVED_WITHIN, "the first produce after the store was back took {served:?}");

    let last = i64::try_from(acknowledged.len())? - 1;
    Deadline::after(Duration::from_secs(60))
        .wait("it catches up", || Ok((connection.last_uploaded(TOPIC, 0)? == last).then_some(())))?;
    check_all(&mut connection, TOPIC, &acknowledged)?;
    weir.stop()?;
    std::fs::remove_dir_all(weir.staging_dir())?;
    weir.restart()?;
    check_all(&mut Connection::open(&weir.bootstrap())?, TOPIC, &acknowledged).context("from the store alone")?;
    weir.finish_with(|line| line.contains("lost"))
}

#[test]
fn a_store_that_is_gone_stops_nothing_until_the_budget_is_used() -> Result<()> {
    survives(Weather::Gone)
}

#[test]
fn a_store_that_throttles_stops_nothing_until_the_budget_is_used() -> Result<()> {
    survives(Weather::Throttling)
}

#[test]
fn a_store_that_says_nothing_stops_nothing_until_the_budget_is_used() -> Result<()> {
    survives(Weather::Hanging)
}

#[test]
fn a_store_that_cuts_every_answer_stops_nothing_until_the_budget_is_used() -> Result<()> {
    survives(Weather::Cutting)
}

#[test]
fn a_slow_store_slows_no_producer() -> Result<()> {
    let store = S3::start(Kind::MinIo)?;
    let proxy = FaultProxy::start(store.address())?;
    let weir = start(&proxy)?;
    let mut connection = Connection::open(&weir.bootstrap())?;
    connection.create_topic(TOPIC, 1)?;
    let each = Duration::from_millis(700);
    proxy.set_weather(Weather::Slow(each));
    let mut slowest = Duration::ZERO;
    for number in 0..20 {
        let asked = now();
        produce(&mut connection, TOPIC, &format!("{number}"))?;
        slowest = slowest.max(asked.elapsed());
    }
    ensure!(slowest < each, "a produce took {slowest:?} while each request to the store took {each:?}");
    Deadline::after(Duration::from_secs(60))
        .wait("everything is uploaded", || Ok((connection.last_uploaded(TOPIC, 0)? == 19).then_some(())))?;
    weir.finish()
}

#[test]
fn a_broker_that_is_started_while_the_store_is_gone_waits_for_it() -> Result<()> {
    let store = S3::start(Kind::MinIo)?;
    let proxy = FaultProxy::start(store.address())?;
    let mut weir = start(&proxy)?;
    let mut connection = Connection::open(&weir.bootstrap())?;
    connection.create_topic(TOPIC, 1)?;
    let acknowledged: Vec<_> = (0..5)
        .map(|number| Ok((produce(&mut connection, TOPIC, &value(number))?, value(number))))
        .collect::<Result<_>>()?;
    weir.kill()?;
    proxy.set_weather(Weather::Gone);
    let before = weir.log()?.len();
    weir.launch()?;
    Deadline::after(Duration::from_secs(30)).wait("the broker says that it waits", || {
        weir.check_running()?;
        Ok(weir.log()?[before..].contains("the object store cannot be used yet").then_some(()))
    })?;
    let (status, why) = weir_tests::http::http_get(&weir.http(), "/readyz?verbose")?;
    ensure!(status == 503 && why.contains("object store"), "{status} {why}");
    proxy.set_weather(Weather::Clear);
    weir.wait_ready()?;
    check_all(&mut Connection::open(&weir.bootstrap())?, TOPIC, &acknowledged)?;
    weir.finish()
}

#[test]
fn while_the_store_is_away_new_producers_are_served_and_what_must_wait_is_refused_in_time() -> Result<()> {
    let store = S3::start(Kind::MinIo)?;
    let proxy = FaultProxy::start(store.address())?;
    let weir = start(&proxy)?;
    let mut connection = Connection::open(&weir.bootstrap())?;
    connection.create_topic(TOPIC, 1)?;
    proxy.set_weather(Weather::Gone);
    let asked = now();
    let mut ids: Vec<i64> = (0..100).map(|_| Ok(connection.init_producer_id()?.0)).collect::<Result<_>>()?;
    ensure!(asked.elapsed() < SERVED_WITHIN, "100 producers got their ids in {:?}", asked.elapsed());
    let wait = Duration::from_secs(3);
    let asked = now();
    let topic = create_topics::CreatableTopic {
        name: "late".into(),
        num_partitions: 1,
        replication_factor: -1,
        ..Default::default()
    };
    let timeout_ms = i32::try_from(wait.as_millis())?;
    let request = create_topics::Request { topics: vec![topic], timeout_ms, ..Default::default() };
    let response: create_topics::Response = connection.call(7, &request)?;
    let (code, waited) = (response.topics[0].error_code, asked.elapsed());
    ensure!(code == ErrorCode::REQUEST_TIMED_OUT.code(), "{response:?}");
    ensure!((wait..wait * 3).contains(&waited), "refused after {waited:?}");
    proxy.set_weather(Weather::Clear);
    // What ran out of time may still come to pass, and here it does.
    Deadline::after(Duration::from_secs(30)).wait("the topic is there", || {
        Ok((connection.create_topic("late", 1).is_err() && produce(&mut connection, "late", "x").is_ok()).then_some(()))
    })?;
    ids.push(connection.init_producer_id()?.0);
    ids.sort_unstable();
    ids.dedup();
    ensure!(ids.len() == 101, "an id was given out twice: {ids:?}");
    weir.finish()
}
