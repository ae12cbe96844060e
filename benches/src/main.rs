//! The runner of `cargo xtask bench`: starts the systems, puts the same load on each in turn, and writes down what it cost.
//!
//! Promises: every process that it starts has ended when it ends; a measurement counts only together with those that it is
//! compared with, made in turn in one run. What the figures mean is in `docs/benchmarks.md`, whose text is in
//! `benches/text.md.in`.

mod disk;
mod goals;
mod loads;
mod machine;
mod raw;
mod report;
mod rows;
mod scenarios;
mod settings;
mod systems;
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;

use crate::report::Results;
use crate::rows::Rows;
use crate::settings::Settings;

/// Measure Weir against Apache Kafka.
#[derive(Debug, Parser)]
pub(crate) struct Arguments {
    /// Only these scenarios; see --list.
    names: Vec<String>,
    /// Runs of a few seconds that show that the harness works; nothing is written.
    #[arg(long)]
    quick: bool,
    /// How often each measurement is made.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    repetitions: u32,
    /// How much un-uploaded journal the scenario `start` makes, in GiB.
    #[arg(long, value_name = "GIB", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=64))]
    start_gib: u64,
    /// List the scenarios and end.
    #[arg(long)]
    list: bool,
    /// The checkout, whose documents are written.
    #[arg(long, value_name = "DIR", default_value = ".")]
    root: PathBuf,
    /// Write the documents anew from the results that are there, and measure nothing.
    #[arg(long)]
    render: bool,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    if arguments.list {
        for scenario in scenarios::ALL {
            println!("  {:<12} {}", scenario.name, scenario.what);
        }
        return Ok(());
    }
    if let Some(unknown) = arguments.names.iter().find(|name| !scenarios::ALL.iter().any(|one| one.name == **name)) {
        bail!("no scenario is called {unknown}: see --list");
    }
    let mut results = Results::read(&arguments.root)?;
    if arguments.render {
        return results.write(&arguments.root);
    }
    let settings = Settings::new(arguments);
    let mut failed = vec![];
    for scenario in scenarios::ALL {
        if !arguments.names.is_empty() && !arguments.names.iter().any(|name| name == scenario.name) {
            continue;
        }
        println!("== {}: {}", scenario.name, scenario.what);
        let mut rows = Rows::default();
        let begun = machine::now();
        match (scenario.run)(&settings, &mut rows) {
            Ok(()) => {
                let goals = (scenario.goals)(&rows);
                print!("{}", report::markdown::scenario(&rows, &goals));
                if !settings.quick {
                    results.replace(scenario.name, report::Run::new(&arguments.root, begun, &settings, rows)?);
                    // At once, so that hours of measuring are not lost with a later scenario.
                    results.write(&arguments.root)?;
                }
            }
            Err(error) => {
                println!("   FAILED: {error:#}");
                failed.push(scenario.name);
            }
        }
    }
    if !failed.is_empty() {
        bail!("not measured: {}", failed.join(", "));
    }
    Ok(())
}
