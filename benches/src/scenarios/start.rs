//! A start after a crash, with many partitions and a journal of which nothing is uploaded yet.

use anyhow::Result;
use harness::stores::{Kind as StoreKind, S3};
use tokio::time::Instant;

use super::Scenario;
use crate::goals::{self, Bound, Goal};
use crate::loads::{Batches, Load, java, weir_bench};
use crate::rows::Rows;
use crate::settings::{GIB, Settings};
use crate::systems::{System, Weir, WeirOptions};

pub(super) const SCENARIO: Scenario =
    Scenario { name: "start", what: "start to ready with 10,000 partitions and 10 GiB in the journal", run, goals };

fn run(settings: &Settings, rows: &mut Rows) -> Result<()> {
    let mut minio = S3::start_own(StoreKind::MinIo)?;
    let staging = format!("staging.bytes_max={}", settings.start_bytes * 2 + 2 * GIB);
    let store = Some(minio.new_store());
    let mut system = System::Weir(Weir::start(WeirOptions { store, sets: vec![staging] })?);
    weir_bench::create(&system, "many", settings.many_partitions)?;
    let load = Load::plain(settings.many_partitions, Batches::Large);
    // Nothing can be uploaded.
    minio.kill()?;
    java::produce(&system, "many", &load, settings.start_bytes)?;
    let case = format!(
        "{} partitions, {:.1} GiB in the journal",
        settings.many_partitions,
        settings.start_bytes as f64 / GIB as f64
    );
    for _ in 0..settings.repetitions {
        let System::Weir(weir) = &mut system else { continue };
        weir.broker.kill()?;
        minio.restart()?;
        // The kernel has the journal in its page cache, as after a crash of the process alone.
        let begun = Instant::now();
        weir.broker.restart()?;
        rows.record(&case, "after kill -9", "Weir", "ready_s", begun.elapsed().as_secs_f64());
        // Before much is uploaded; what is, makes the next start a little shorter.
        minio.kill()?;
        let staged = weir.metric("weir_staged_bytes")? / GIB as f64;
        rows.record(&case, "after kill -9", "Weir", "staged_gib", staged);
    }
    if let System::Weir(weir) = &mut system {
        weir.broker.kill()?;
    }
    Ok(())
}

fn goals(rows: &Rows) -> Vec<Goal> {
    let most = |bound| Some(Bound::AtMost(bound));
    let starts = super::values_of(rows, "ready_s", "Weir");
    goals::of("start to ready", "s", most(2.0), most(1.0), starts)
}
