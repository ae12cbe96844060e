//! The `weir` binary: a broker, and everything a person or a script does with one.
//!
//! `cli` is the command line, `command` has one module per command, `config` is the broker's configuration, `broker`
//! puts a broker together, `serve` runs it until it is told to stop. Results go to standard output and everything
//! else to standard error; `exit` lists the exit codes.

mod broker;
#[allow(dead_code, reason = "the assembly of the broker starts it")]
mod certificates;
mod cli;
mod command;
mod config;
mod connection;
mod environment;
mod exit;
mod interrupt;
mod lag;
mod lock;
mod logging;
mod offsets;
mod output;
mod peers;
mod place;
mod progress;
mod serve;
mod serving;
mod shards;
mod text;

use std::io;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use crate::cli::Cli;
use crate::exit::{Exit, Failure};

/// How long background work (a read of standard input that never ends, say) may hold up the end of the process.
const END_TIMEOUT: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return end(Err(anyhow::Error::from(error).context("the runtime cannot be started").into())),
    };
    let outcome = runtime.block_on(Box::pin(cli.run()));
    runtime.shutdown_timeout(END_TIMEOUT);
    end(outcome)
}

/// Says what went wrong, and turns it into an exit code.
fn end(outcome: Result<(), Failure>) -> ExitCode {
    let Err(failure) = outcome else { return ExitCode::SUCCESS };
    let Some(error) = failure.error else { return failure.exit.into() };
    let broken_pipe = |error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe;
    if failure.exit == Exit::Failed && error.downcast_ref::<io::Error>().is_some_and(broken_pipe) {
        // Whoever read our output has seen enough.
        return ExitCode::SUCCESS;
    }
    // Nothing can be done when standard error is closed as well.
    let _ = io::Write::write_fmt(&mut io::stderr(), format_args!("weir: {error:#}\n"));
    failure.exit.into()
}
