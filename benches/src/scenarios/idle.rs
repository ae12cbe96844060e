//! Doing nothing: the CPU and the requests to the store of a broker that has some topics and no clients.

use anyhow::{Context as _, Result};
use harness::http::http_get;
use harness::stores::{Kind as StoreKind, S3};
use tokio::time::Instant;

use super::Scenario;
use crate::goals::{self, Bound, Goal};
use crate::loads::{Batches, Load, java, weir_bench};
use crate::rows::Rows;
use crate::settings::{MIB, Settings};
use crate::systems::{System, Weir, WeirOptions};
use crate::usage::Usage;

pub(super) const SCENARIO: Scenario =
    Scenario { name: "idle", what: "CPU and requests to the store of an idle broker", run, goals };

fn run(settings: &Settings, rows: &mut Rows) -> Result<()> {
    let minio = S3::start_own(StoreKind::MinIo)?;
    let system = System::Weir(Weir::start(WeirOptions { store: Some(minio.new_store()), sets: vec![] })?);
    weir_bench::create(&system, "bench", 100)?;
    java::produce(&system, "bench", &Load::plain(100, Batches::Default), 16 * MIB)?;
    system.settle()?;
    for _ in 0..settings.repetitions {
        let pid = system.pid()?;
        let (before, requests) = (Usage::of(pid)?, requests(&minio)?);
        let begun = Instant::now();
        // What is measured is time that passes; there is nothing to wait for.
        std::thread::sleep(settings.idle);
        let seconds = begun.elapsed().as_secs_f64();
        let cpu_s = Usage::of(pid)?.cpu_s - before.cpu_s;
        let mut put = |metric, value| rows.record("100 partitions", "nothing", "Weir", metric, value);
        put("cpu_percent", cpu_s / seconds * 100.0);
        put("store_requests_per_h", (self::requests(&minio)? - requests) / seconds * 3600.0);
    }
    system.finish()
}

/// Requests that the server has counted, of all kinds.
fn requests(minio: &S3) -> Result<f64> {
    // The version of the path that counts per kind of request, for the whole server.
    let (status, text) = http_get(minio.address(), "/minio/v2/metrics/cluster")?;
    anyhow::ensure!(status == 200, "MinIO does not give its figures: {status}");
    let of = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        (series.split('{').next() == Some("minio_s3_requests_total")).then(|| value.parse::<f64>().ok())?
    };
    let counts: Vec<f64> = text.lines().filter_map(of).collect();
    (!counts.is_empty()).then(|| counts.iter().sum()).context("MinIO's figures have no minio_s3_requests_total")
}

fn goals(rows: &Rows) -> Vec<Goal> {
    let most = |bound| Some(Bound::AtMost(bound));
    let cpu = super::values_of(rows, "cpu_percent", "Weir");
    let mut all = goals::of("idle CPU", "% of a core", most(1.0), most(0.2), cpu);
    let requests = super::values_of(rows, "store_requests_per_h", "Weir");
    all.extend(goals::of("idle requests to the store", "an hour", most(400.0), None, requests));
    all
}
