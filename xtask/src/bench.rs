//! `cargo xtask bench`: installs what the benchmarks need, builds the broker and the runner as they are measured, and hands over
//! to the runner (package `weir-benches`), which decides everything else.

use std::{process::Command, time::Duration};

use anyhow::{Result, bail};

use crate::{
    cache::Context,
    process::{Log, Running},
    setup,
};

/// A build takes no longer than this.
const BUILD: Duration = Duration::from_secs(60 * 60);
const TOOLS: [&str; 2] = ["kafka", "minio"];

/// Whether everything that was asked for was measured.
pub(crate) fn run(context: &Context, arguments: &[String]) -> Result<bool> {
    let outcome = setup::ensure(context, &TOOLS)?;
    if let Some(tool) = TOOLS.iter().find(|tool| !outcome.ready.contains(*tool)) {
        bail!("nothing can be measured without {tool}");
    }
    println!("  building with the profile `bench`");
    let mut log = Log::create(context.log("bench-build")?, true)?;
    let mut build = Command::new("cargo");
    build.args(["build", "--quiet", "--profile", "bench", "--package", "weir", "--package", "weir-benches", "--bins"]);
    log.run(build.current_dir(&context.root), BUILD)?;
    // Where cargo puts the profile `bench`.
    let built = context.target().join("release");
    let mut runner = Command::new(built.join("weir-benches"));
    runner.args(arguments).current_dir(&context.root);
    runner.env("WEIR_BIN", built.join("weir")).env("WEIR_TEST_CACHE", &context.cache).env("RUST_LIB_BACKTRACE", "0");
    let mut running = Running::start(&mut runner)?;
    loop {
        if let Some(status) = running.ended()? {
            return Ok(status.success());
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
