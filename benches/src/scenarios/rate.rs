//! Producing at a fixed rate, in an open loop: CPU for each GiB, and latency beside the disk's own.

use anyhow::Result;

use super::{DISK, Scenario, finish, in_turn, matrix, warmed};
use crate::disk;
use crate::goals::{self, Bound, Goal};
use crate::loads::{Batches, Tool, java, measure, records_per_s, weir_bench};
use crate::rows::Rows;
use crate::settings::Settings;
use crate::systems::Kind;

pub(super) const SCENARIO: Scenario =
    Scenario { name: "rate", what: "CPU and latency of producing 20 MiB/s in default batches", run, goals };

const MIB_PER_S: u64 = 20;
/// A system that syncs each append does not reach the rate: it would be measured behind its own queue.
const KINDS: [Kind; 2] = [Kind::Weir, Kind::KafkaCache];

fn run(settings: &Settings, rows: &mut Rows) -> Result<()> {
    for load in matrix(settings, &[Batches::Default]) {
        let systems = warmed(settings, &KINDS, &load)?;
        for tool in Tool::ALL {
            in_turn(settings, &systems, load.partitions, |system, topic| {
                if system.kind() == Kind::Weir {
                    disk::record(rows, &load.case(), DISK)?;
                }
                let rate = records_per_s(MIB_PER_S);
                let measured = measure(system, || match tool {
                    Tool::Java => java::open_loop(system, topic, &load, rate, settings.rate, false),
                    Tool::WeirBench => weir_bench::produce(system, topic, &load, Some(rate), settings.rate),
                })?;
                measured.record(rows, &load.case(), tool.name(), system.name());
                Ok(())
            })?;
        }
        finish(systems)?;
    }
    Ok(())
}

fn goals(rows: &Rows) -> Vec<Goal> {
    let (weir, kafka) = (Kind::Weir.name(), Kind::KafkaCache.name());
    let most = |bound| Some(Bound::AtMost(bound));
    let cpu = rows.ratios("cpu_s_per_gib", weir, kafka);
    let mut all = goals::of("broker CPU per GiB at 20 MiB/s, of Kafka's", "×", most(0.5), most(0.2), cpu);
    let mut beyond = vec![];
    for (case, load) in rows.cases("p99_ms") {
        let of = |system| rows.values(&case, &load, system, "p99_ms");
        // The disk is looked at once for each repetition of each tool; the slowest of them is not taken, but the median.
        let Some(disk) = crate::rows::Spread::of(rows.values(&case, "fdatasync", "disk", "p99_ms")) else { continue };
        let over: Vec<f64> = of(weir).iter().zip(of(kafka)).map(|(weir, kafka)| weir / (kafka + disk.median)).collect();
        beyond.push((format!("{case}, {load}"), over));
    }
    all.extend(goals::of(
        "produce p99 at 20 MiB/s, of Kafka's (page cache) and the disk's fdatasync p99",
        "×",
        most(1.0),
        None,
        beyond,
    ));
    let below = rows.ratios("p99_ms", weir, kafka);
    all.extend(goals::of("produce p99 at 20 MiB/s, of Kafka's (page cache)", "×", None, most(1.0), below));
    all
}
