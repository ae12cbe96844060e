//! What is measured: one file for each group of goals. A scenario records rows, and says which goals they speak of.

mod cold;
mod consume;
mod end_to_end;
mod idle;
mod many;
mod produce;
mod quic;
mod rate;
mod start;
mod upload;

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::goals::Goal;
use crate::loads::{Batches, Load, java, weir_bench};
use crate::rows::Rows;
use crate::settings::Settings;
use crate::systems::{Kind, System, Transport};

/// One scenario.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) run: fn(&Settings, &mut Rows) -> Result<()>,
    pub(crate) goals: fn(&Rows) -> Vec<Goal>,
}

/// All, in the order of the goals.
pub(crate) const ALL: &[Scenario] = &[
    produce::SCENARIO,
    rate::SCENARIO,
    end_to_end::SCENARIO,
    consume::SCENARIO,
    cold::SCENARIO,
    upload::SCENARIO,
    many::MEMORY,
    many::PARTITIONS,
    start::SCENARIO,
    idle::SCENARIO,
    quic::SCENARIO,
];

/// One metric of all cases that one system was measured in.
fn values_of(rows: &Rows, metric: &str, system: &str) -> Vec<(String, Vec<f64>)> {
    let one = |(case, load): (String, String)| {
        let values = rows.values(&case, &load, system, metric).to_vec();
        (!values.is_empty()).then(|| (format!("{case}, {load}"), values))
    };
    rows.cases(metric).into_iter().filter_map(one).collect()
}

/// Starts the systems and warms each of them, so that what a JVM has not compiled yet does not count.
fn warmed(settings: &Settings, kinds: &[Kind], load: &Load) -> Result<Vec<System>> {
    let mut systems = vec![];
    for kind in kinds {
        let system = System::start(*kind)?;
        weir_bench::create(&system, "warm", load.partitions)?;
        // By large batches over TLS or not, as what follows; a system that syncs each append needs minutes for a GiB in
        // small ones, so the small ones get a part of it.
        let large = Load { batches: Batches::Large, ..*load };
        java::produce(&system, "warm", &large, settings.warm_bytes)
            .with_context(|| format!("warming {}", kind.name()))?;
        let small = if *kind == Kind::KafkaSync { settings.full_sync_bytes } else { settings.warm_bytes };
        java::produce(&system, "warm", load, small).with_context(|| format!("warming {}", kind.name()))?;
        weir_bench::delete(&system, "warm")?;
        system.settle()?;
        systems.push(system);
    }
    Ok(systems)
}

/// For each repetition, each system in turn, on a topic of its own.
fn in_turn(
    settings: &Settings,
    systems: &[System],
    partitions: u32,
    mut each: impl FnMut(&System, &str) -> Result<()>,
) -> Result<()> {
    for repetition in 0..settings.repetitions {
        for system in systems {
            let topic = format!("bench-{repetition}");
            weir_bench::create(system, &topic, partitions)?;
            each(system, &topic).with_context(|| system.name())?;
            weir_bench::delete(system, &topic)?;
        }
    }
    Ok(())
}

/// Ends all of them.
fn finish(systems: Vec<System>) -> Result<()> {
    systems.into_iter().try_for_each(System::finish)
}

/// How long the disk is looked at beside each repetition.
const DISK: Duration = Duration::from_secs(3);

/// Every combination of the transports that both systems have, the numbers of partitions, and the sizes of batches; in a quick
/// run two that have each of them once.
fn matrix(settings: &Settings, batches: &[Batches]) -> Vec<Load> {
    let mut all = vec![];
    for transport in [Transport::Plain, Transport::Tls] {
        for partitions in [1, 64] {
            all.extend(batches.iter().map(|batches| Load { transport, ..Load::plain(partitions, *batches) }));
        }
    }
    if settings.quick {
        let last = all.len() - 1;
        all = vec![all[0], all[last]];
    }
    all
}
