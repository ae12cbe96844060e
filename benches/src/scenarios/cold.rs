//! Reading what lies in the object store only: the broker's disk is thrown away before. Beside it the same objects, read by
//! plain parallel ranged GETs.

use anyhow::{Context as _, Result};
use harness::stores::{Kind as StoreKind, S3};

use super::Scenario;
use crate::goals::{self, Bound, Goal};
use crate::loads::{Batches, Load, Tool, java, measure, weir_bench};
use crate::raw;
use crate::rows::Rows;
use crate::settings::Settings;
use crate::systems::{System, Transport, Weir, WeirOptions};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "cold",
    what: "consuming from MinIO, against raw parallel ranged GETs of the same bytes",
    run,
    goals,
};

fn run(settings: &Settings, rows: &mut Rows) -> Result<()> {
    for partitions in [1, 16] {
        let minio = S3::start_own(StoreKind::MinIo)?;
        let url = minio.new_store();
        let load = Load::plain(partitions, Batches::Large);
        let mut system = System::Weir(Weir::start(WeirOptions { store: Some(url.clone()), sets: vec![] })?);
        weir_bench::create(&system, "bench", partitions)?;
        java::produce(&system, "bench", &load, settings.store_bytes)?;
        system.settle()?;
        let store = raw::open(&url)?;
        // Whoever reads first finds the server's memory cold; neither does.
        raw::wait(raw::get_all(&store))?;
        let case = format!("{partitions} partitions");
        for _ in 0..settings.repetitions {
            for tool in Tool::ALL {
                let (_, mib_per_s) = raw::wait(raw::get_all(&store))?;
                rows.record(&case, tool.name(), "raw GETs", "mib_per_s", mib_per_s);
                forget(&mut system)?;
                let read = || match tool {
                    Tool::Java => java::consume(&system, "bench", Transport::Plain, settings.store_bytes),
                    Tool::WeirBench => weir_bench::consume(&system, "bench", Transport::Plain),
                };
                measure(&system, read)?.record(rows, &case, tool.name(), "Weir");
            }
        }
        system.finish()?;
    }
    Ok(())
}

/// A start on an empty disk, with nothing in memory.
fn forget(system: &mut System) -> Result<()> {
    let System::Weir(weir) = system else { return Ok(()) };
    weir.broker.stop()?;
    std::fs::remove_dir_all(weir.broker.staging_dir()).context("throwing the staging disk away")?;
    weir.broker.restart()
}

fn goals(rows: &Rows) -> Vec<Goal> {
    let ratios = rows.ratios("mib_per_s", "Weir", "raw GETs");
    let least = |bound| Some(Bound::AtLeast(bound));
    goals::of("cold consume, of raw GETs", "×", least(0.8), least(0.95), ratios)
}
