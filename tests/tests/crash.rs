//! A loaded broker is killed with -9 at random moments, again and again, with torn frames injected between: every
//! acknowledged record is there once, at its offset, in its producer's order, nothing of an idempotent producer is there
//! twice, and the group's committed offset is the last that was acknowledged.
//!
//! `WEIR_CRASH_ROUNDS` sets the rounds (50), `WEIR_CRASH_SEED` repeats the random choices of a run that failed. (What
//! the broker had reached when it was killed is not a choice, and differs.)

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use weir_tests::broker::Weir;
use weir_tests::clock::Deadline;
use weir_tests::connection::Connection;
use weir_tests::dice::Dice;
use weir_tests::history::History;
use weir_tests::load::{Load, Plan};
use weir_tests::torn;

const TOPIC: &str = "crash";
const GROUP: &str = "crash-group";
const PARTITIONS: u64 = 4;
const IDEMPOTENT: u32 = 3;
const PLAIN: u32 = 2;
/// The log is checked after so many rounds, and at the end.
const CHECK_EVERY: u32 = 5;

#[test]
fn acknowledged_records_survive_kills_and_torn_frames() -> Result<()> {
    let rounds: u32 = std::env::var("WEIR_CRASH_ROUNDS").map_or(Ok(50), |text| text.parse())?;
    let seed = Dice::seed_from("WEIR_CRASH_SEED");
    println!("{rounds} rounds; to make the same choices again: WEIR_CRASH_SEED={seed}");
    let outcome = crash(rounds, &mut Dice::new(seed));
    outcome.with_context(|| format!("WEIR_CRASH_SEED={seed} WEIR_CRASH_ROUNDS={rounds}"))
}

fn crash(rounds: u32, dice: &mut Dice) -> Result<()> {
    let mut weir = Weir::start()?;
    let address = weir.bootstrap();
    Connection::open(&address)?.create_topic(TOPIC, i32::try_from(PARTITIONS)?)?;
    let plan = Plan {
        address: address.clone(),
        topic: TOPIC.into(),
        partitions: PARTITIONS,
        idempotent: IDEMPOTENT,
        plain: PLAIN,
    };
    let mut load = Load::start(&plan, dice)?;
    let mut history = History::new(TOPIC, usize::try_from(PARTITIONS)?, IDEMPOTENT);
    let mut promised = vec![];
    for round in 1..=rounds {
        // Killed under load: after so many answers, and then at any moment.
        let goal = load.answers() + dice.of(1..200);
        Deadline::after(Duration::from_secs(60)).wait("the broker answers producers", || {
            load.check()?;
            Ok((load.answers() >= goal).then_some(()))
        })?;
        std::thread::sleep(Duration::from_micros(dice.of(0..20_000)));
        // An offset that was acknowledged a moment before the end, as good as any record.
        let committed = i64::from(round);
        Connection::open(&address)?.commit_offset(GROUP, TOPIC, committed).with_context(|| format!("round {round}"))?;
        weir.kill()?;
        let mut injury = torn::inject(&weir.staging_dir(), dice)?;
        // Now and then it is killed again while it recovers.
        while dice.of(0..6) == 0 {
            weir.launch()?;
            std::thread::sleep(Duration::from_micros(dice.of(0..300_000)));
            weir.kill()?;
            injury = torn::inject(&weir.staging_dir(), dice)?;
        }
        weir.restart().with_context(|| format!("round {round}, after {injury:?}"))?;
        let found = Connection::open(&address)?.committed_offset(GROUP, TOPIC)?;
        ensure!(found == committed, "round {round}: offset {committed} was committed, and {found} is there");
        if round % CHECK_EVERY == 0 || round == rounds {
            promised.extend(load.take_acknowledged());
            history.read_on(&mut Connection::open(&address)?).with_context(|| format!("round {round}"))?;
            history.check(&promised).with_context(|| format!("round {round}"))?;
            println!("round {round}: {} batches acknowledged, {} records in the log", load.answers(), history.len());
            promised.clear();
        }
    }
    let answers = load.answers();
    promised.extend(load.finish()?);
    let mut connection = Connection::open(&address)?;
    history.read_on(&mut connection)?;
    history.check(&promised)?;
    history.check_unchanged(&mut connection)?;
    ensure!(answers > u64::from(rounds), "the broker was hardly loaded: {answers} batches in {rounds} rounds");
    println!("{} records in the log", history.len());
    weir.finish()
}

/// The test of the test: without kills, nothing is wrong. With `WEIR_TEST_BOOTSTRAP` against that broker.
#[test]
fn load_and_check_find_nothing_wrong_with_a_broker_that_stays_up() -> Result<()> {
    let weir = std::env::var("WEIR_TEST_BOOTSTRAP").is_err().then(Weir::start).transpose()?;
    let address = weir.as_ref().map_or_else(|| std::env::var("WEIR_TEST_BOOTSTRAP"), |weir| Ok(weir.bootstrap()))?;
    let mut dice = Dice::new(Dice::seed_from("WEIR_CRASH_SEED"));
    let topic = format!("load-{}", dice.bits());
    Connection::open(&address)?.create_topic(&topic, i32::try_from(PARTITIONS)?)?;
    let plan = Plan {
        address: address.clone(),
        topic: topic.clone(),
        partitions: PARTITIONS,
        idempotent: IDEMPOTENT,
        plain: PLAIN,
    };
    let mut load = Load::start(&plan, &mut dice)?;
    Deadline::after(Duration::from_secs(60)).wait("the broker answers producers", || {
        load.check()?;
        Ok((load.answers() >= 2000).then_some(()))
    })?;
    let promised = load.finish()?;
    let mut connection = Connection::open(&address)?;
    let mut history = History::new(&topic, usize::try_from(PARTITIONS)?, IDEMPOTENT);
    history.read_on(&mut connection)?;
    history.check(&promised)?;
    history.check_unchanged(&mut connection)?;
    let records: u32 = promised.iter().map(|batch| batch.count).sum();
    // A plain producer that was told to try again has more in the log than it knows of.
    ensure!(history.len() >= usize::try_from(records)?, "{} records for {records} promised", history.len());
    weir.map_or(Ok(()), Weir::finish)
}
