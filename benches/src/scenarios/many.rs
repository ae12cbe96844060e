//! Many partitions: the memory that they take, and whether speed depends on their number.

use anyhow::Result;

use super::{Scenario, finish, in_turn, warmed};
use crate::goals::{self, Bound, Goal};
use crate::loads::{Batches, Load, measure, records_per_s, weir_bench};
use crate::rows::Rows;
use crate::settings::Settings;
use crate::systems::{Kind, Transport};

pub(super) const MEMORY: Scenario = Scenario {
    name: "memory",
    what: "peak resident memory at 1,000 partitions under load",
    run: memory,
    goals: memory_goals,
};
pub(super) const PARTITIONS: Scenario = Scenario {
    name: "partitions",
    what: "throughput and p99 with 10,000 partitions and with 10",
    run: partitions,
    goals: partitions_goals,
};

const LOADED: u32 = 1_000;
const FEW: u32 = 10;
const MIB_PER_S: u64 = 20;

fn memory(settings: &Settings, rows: &mut Rows) -> Result<()> {
    let loads = [false, true].map(|spread| Load { spread, ..Load::plain(LOADED, Batches::Default) });
    let systems = warmed(settings, &[Kind::Weir, Kind::KafkaCache], &Load::plain(1, Batches::Default))?;
    in_turn(settings, &systems, LOADED, |system, topic| {
        // A topic of so many partitions takes a system a while to make after it has said that it is made.
        weir_bench::produce(system, topic, &loads[1], Some(records_per_s(1)), settings.full)?;
        for load in &loads {
            let produce = || weir_bench::produce(system, topic, load, Some(records_per_s(MIB_PER_S)), settings.rate);
            measure(system, produce)?.record(rows, &load.case(), "weir bench", system.name());
        }
        let read = || weir_bench::consume(system, topic, Transport::Plain);
        let case = format!("{LOADED} partitions, consumed");
        measure(system, read)?.record(rows, &case, "weir bench", system.name());
        Ok(())
    })?;
    finish(systems)
}

fn memory_goals(rows: &Rows) -> Vec<Goal> {
    let most = |bound| Some(Bound::AtMost(bound));
    let peaks = super::values_of(rows, "peak_mib", Kind::Weir.name());
    goals::of("peak resident memory at 1,000 partitions", "MiB", most(300.0), most(150.0), peaks)
}

fn partitions(settings: &Settings, rows: &mut Rows) -> Result<()> {
    let systems = warmed(settings, &[Kind::Weir], &Load::plain(1, Batches::Default))?;
    for repetition in 0..settings.repetitions {
        for (partitions, name) in [(FEW, "few"), (settings.many_partitions, "many")] {
            for system in &systems {
                let topic = format!("bench-{name}-{repetition}");
                weir_bench::create(system, &topic, partitions)?;
                let load = Load::plain(partitions, Batches::Default);
                for rate in [Some(MIB_PER_S), None] {
                    let time = if rate.is_some() { settings.rate } else { settings.full };
                    let produce = || weir_bench::produce(system, &topic, &load, rate.map(records_per_s), time);
                    let case = rate.map_or("full speed".into(), |rate| format!("{rate} MiB/s"));
                    measure(system, produce)?.record(rows, &case, "weir bench", name);
                }
                weir_bench::delete(system, &topic)?;
            }
        }
    }
    finish(systems)
}

fn partitions_goals(rows: &Rows) -> Vec<Goal> {
    let only = |metric, case: &str| {
        let mut ratios = rows.ratios(metric, "many", "few");
        ratios.retain(|(name, _)| name.starts_with(case));
        ratios
    };
    let (least, most) = (Some(Bound::AtLeast(0.8)), Some(Bound::AtMost(1.5)));
    let mut all = goals::of(
        "throughput with 10,000 partitions, of that with 10",
        "×",
        least,
        None,
        only("mib_per_s", "full speed"),
    );
    all.extend(goals::of(
        "p99 at 20 MiB/s with 10,000 partitions, of that with 10",
        "×",
        most,
        None,
        only("p99_ms", "20 MiB/s"),
    ));
    all
}
