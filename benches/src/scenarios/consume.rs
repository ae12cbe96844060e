//! Reading what was just written, from its start: from memory and the local disk, before it would have to come from elsewhere.

use anyhow::Result;

use super::{Scenario, finish, in_turn, matrix, warmed};
use crate::goals::{self, Bound, Goal};
use crate::loads::{Batches, Tool, java, measure, weir_bench};
use crate::rows::Rows;
use crate::settings::Settings;
use crate::systems::Kind;

pub(super) const SCENARIO: Scenario =
    Scenario { name: "consume", what: "throughput and CPU of consuming what was just written", run, goals };

const KINDS: [Kind; 2] = [Kind::Weir, Kind::KafkaCache];

fn run(settings: &Settings, rows: &mut Rows) -> Result<()> {
    for load in matrix(settings, &[Batches::Default]) {
        let systems = warmed(settings, &KINDS, &load)?;
        in_turn(settings, &systems, load.partitions, |system, topic| {
            java::produce(system, topic, &load, settings.full_bytes)?;
            system.settle()?;
            for tool in Tool::ALL {
                let read = || match tool {
                    Tool::Java => java::consume(system, topic, load.transport, settings.full_bytes),
                    Tool::WeirBench => weir_bench::consume(system, topic, load.transport),
                };
                measure(system, read)?.record(rows, &load.case(), tool.name(), system.name());
            }
            Ok(())
        })?;
        finish(systems)?;
    }
    Ok(())
}

fn goals(rows: &Rows) -> Vec<Goal> {
    let ratios = |metric| rows.ratios(metric, Kind::Weir.name(), Kind::KafkaCache.name());
    let least = |bound| Some(Bound::AtLeast(bound));
    let most = |bound| Some(Bound::AtMost(bound));
    let mut all = goals::of("consume throughput against Kafka", "×", least(1.0), least(2.0), ratios("mib_per_s"));
    all.extend(goals::of(
        "broker CPU per GiB consumed, of Kafka's",
        "×",
        most(1.0),
        most(0.5),
        ratios("cpu_s_per_gib"),
    ));
    all
}
