//! Producing as fast as it goes: throughput, and what it costs the broker.

use anyhow::Result;

use super::{Scenario, finish, in_turn, matrix, warmed};
use crate::goals::{self, Bound, Goal};
use crate::loads::{Batches, Load, Tool, java, measure, weir_bench};
use crate::rows::Rows;
use crate::settings::Settings;
use crate::systems::Kind;

pub(super) const SCENARIO: Scenario =
    Scenario { name: "produce", what: "throughput of producing at full speed, acks=all", run, goals };

fn run(settings: &Settings, rows: &mut Rows) -> Result<()> {
    for load in matrix(settings, &[Batches::Default, Batches::Large]) {
        case(settings, rows, &load)?;
    }
    Ok(())
}

/// One case, by both tools. The systems are started for each, so that the disk does not fill.
fn case(settings: &Settings, rows: &mut Rows, load: &Load) -> Result<()> {
    for tool in Tool::ALL {
        let systems = warmed(settings, &Kind::ALL, load)?;
        in_turn(settings, &systems, load.partitions, |system, topic| {
            let slow = system.kind() == Kind::KafkaSync && load.batches == Batches::Default;
            let bytes = if slow { settings.full_sync_bytes } else { settings.full_bytes };
            let measured = measure(system, || match tool {
                Tool::Java => java::produce(system, topic, load, bytes),
                Tool::WeirBench => weir_bench::produce(system, topic, load, None, settings.full),
            })?;
            measured.record(rows, &load.case(), tool.name(), system.name());
            Ok(())
        })?;
        finish(systems)?;
    }
    Ok(())
}

fn goals(rows: &Rows) -> Vec<Goal> {
    let ratios = |metric, to: Kind| rows.ratios(metric, Kind::Weir.name(), to.name());
    let (cache, sync) = (Kind::KafkaCache, Kind::KafkaSync);
    let least = |bound| Some(Bound::AtLeast(bound));
    let mut all = goals::of(
        "produce throughput against Kafka, page cache",
        "×",
        least(1.0),
        least(2.0),
        ratios("mib_per_s", cache),
    );
    all.extend(goals::of(
        "produce throughput against Kafka, sync",
        "×",
        least(3.0),
        least(10.0),
        ratios("mib_per_s", sync),
    ));
    let mut cpu = ratios("cpu_s_per_gib", cache);
    cpu.retain(|(case, _)| case.contains(Batches::Large.name()));
    let most = |bound| Some(Bound::AtMost(bound));
    all.extend(goals::of("broker CPU per GiB, large batches, full speed, of Kafka's", "×", most(0.5), most(0.25), cpu));
    all
}
