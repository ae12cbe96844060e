//! Uploading sealed segments. The store is away while the journal fills, and comes back; what then flows is the uploader at
//! full speed. Beside it objects of the same size by plain PUTs.

use std::time::Duration;

use anyhow::Result;
use harness::clock::Deadline;
use harness::stores::{Kind as StoreKind, S3};
use tokio::time::Instant;

use super::Scenario;
use crate::goals::{self, Bound, Goal};
use crate::loads::{Batches, Load, java, weir_bench};
use crate::raw;
use crate::rows::Rows;
use crate::settings::{MIB, Settings};
use crate::systems::{System, Weir, WeirOptions};
use crate::usage::Usage;

pub(super) const SCENARIO: Scenario =
    Scenario { name: "upload", what: "uploading sealed segments to MinIO, against raw PUTs", run, goals };

/// A segment of the journal, and so an object, unless the configuration says otherwise.
const OBJECT: u64 = 64 * MIB;
const WITHIN: Duration = Duration::from_secs(600);

fn run(settings: &Settings, rows: &mut Rows) -> Result<()> {
    let load = Load::plain(16, Batches::Large);
    for repetition in 0..settings.repetitions {
        let mut minio = S3::start_own(StoreKind::MinIo)?;
        let url = minio.new_store();
        let raw = raw::open(&minio.new_store())?;
        let mib_per_s = raw::wait(raw::put(&raw, settings.store_bytes / OBJECT, OBJECT))?;
        rows.record("16 partitions", "journal", "raw PUTs", "mib_per_s", mib_per_s);
        let staging = format!("staging.bytes_max={}", settings.store_bytes * 2 + (2 << 30));
        let weir = Weir::start(WeirOptions { store: Some(url), sets: vec![staging] })?;
        let system = System::Weir(weir);
        weir_bench::create(&system, "bench", 16)?;
        minio.kill()?;
        java::produce(&system, "bench", &load, settings.store_bytes)?;
        minio.restart()?;
        let System::Weir(weir) = &system else { continue };
        let before = Usage::of(system.pid()?)?;
        let (bytes, seconds) = flow(weir)?;
        let used = before.since(system.pid()?, bytes)?;
        let mut put = |metric, value| rows.record("16 partitions", "journal", "Weir", metric, value);
        put("mib_per_s", bytes as f64 / MIB as f64 / seconds);
        put("cpu_s_per_gib", used.cpu_s_per_gib);
        println!("   upload {}: {bytes} bytes in {seconds:.1} s", repetition + 1);
        // The store was away: the broker's log says so, as it should.
        let System::Weir(weir) = system else { continue };
        weir.broker.finish_with(|_| true)?;
    }
    Ok(())
}

/// From the first object that is uploaded to the last of a full segment: their bytes, without the first, and the time. What
/// comes last is no full segment, and is sealed by the clock.
fn flow(weir: &Weir) -> Result<(u64, f64)> {
    let uploaded = || weir.metric("weir_uploaded_bytes_total");
    let before = uploaded()?;
    let (begun, first) = Deadline::after(WITHIN).wait("the first object is uploaded", || {
        let now = uploaded()?;
        Ok((now > before).then(|| (Instant::now(), now)))
    })?;
    let staged = || weir.metric("weir_staged_bytes");
    let last = Deadline::after(WITHIN).wait("all full segments are uploaded", || {
        Ok((staged()? < OBJECT as f64).then(|| anyhow::Ok((Instant::now(), uploaded()?))))
    })??;
    Deadline::after(WITHIN).wait("everything is uploaded", || Ok((staged()? == 0.0).then_some(())))?;
    let seconds = last.0.duration_since(begun).as_secs_f64();
    anyhow::ensure!(seconds > 0.0, "everything was uploaded at once: there is nothing to measure");
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a counter that only grows")]
    let bytes = (last.1 - first) as u64;
    Ok((bytes, seconds))
}

fn goals(rows: &Rows) -> Vec<Goal> {
    let ratios = rows.ratios("mib_per_s", "Weir", "raw PUTs");
    let least = |bound| Some(Bound::AtLeast(bound));
    goals::of("uploading sealed segments, of raw PUTs", "×", least(0.8), least(0.95), ratios)
}
