//! From a producer to a consumer, at a rate that nothing has to queue at.

use anyhow::Result;

use super::{DISK, Scenario, finish, in_turn, warmed};
use crate::disk;
use crate::goals::{self, Bound, Goal};
use crate::loads::{Batches, Load, Tool, java, measure, weir_bench};
use crate::rows::{Rows, Spread};
use crate::settings::Settings;
use crate::systems::Kind;

pub(super) const SCENARIO: Scenario =
    Scenario { name: "end-to-end", what: "latency from producer to consumer at 100 records/s", run, goals };

const RATE: u64 = 100;

fn run(settings: &Settings, rows: &mut Rows) -> Result<()> {
    let load = Load::plain(1, Batches::Default);
    let systems = warmed(settings, &Kind::ALL, &load)?;
    for tool in Tool::ALL {
        in_turn(settings, &systems, 1, |system, topic| {
            if system.kind() == Kind::Weir {
                disk::record(rows, "100 records/s", DISK)?;
            }
            let measured = measure(system, || match tool {
                Tool::Java => java::open_loop(system, topic, &load, RATE, settings.rate, true),
                Tool::WeirBench => weir_bench::end_to_end(system, topic, &load, RATE, settings.rate),
            })?;
            let latency = measured.said.latency;
            for (metric, value) in latency.map(|all| [("p50_ms", all.p50), ("p99_ms", all.p99)]).into_iter().flatten() {
                rows.record("100 records/s", tool.name(), system.name(), metric, value);
            }
            Ok(())
        })?;
    }
    finish(systems)
}

fn goals(rows: &Rows) -> Vec<Goal> {
    let Some(disk) = Spread::of(rows.values("100 records/s", "fdatasync", "disk", "p99_ms")) else { return vec![] };
    let most = Some(Bound::AtMost(1.0));
    let mut cases = super::values_of(rows, "p99_ms", Kind::Weir.name());
    for (_, values) in &mut cases {
        for value in values {
            *value /= 2.0 * disk.median + 2.0;
        }
    }
    goals::of("end-to-end p99, of twice the disk's fdatasync p99 and 2 ms", "×", most, None, cases)
}
