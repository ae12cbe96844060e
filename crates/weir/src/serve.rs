//! Runs one broker until it is told to stop. The first SIGTERM or Ctrl-C drains it, a second one ends the process at
//! once; what was acknowledged is on the disk either way.

use std::future::Future;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::broker::{self, Broker};
use crate::config::Config;
use crate::environment::Environment;
use crate::exit::{Failure, Outcome};
use crate::lock::Lock;

/// Both ways in which a person or a supervisor asks a process to end.
pub(crate) struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    /// From now on the signals do not end the process by themselves.
    pub(crate) fn listen() -> anyhow::Result<Stop> {
        let of = |kind| signal(kind).context("cannot listen for signals");
        Ok(Stop { terminate: of(SignalKind::terminate())?, interrupt: of(SignalKind::interrupt())? })
    }

    /// Waits until somebody asks. Cancellation safe.
    pub(crate) async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Locks the staging folder, starts the broker, calls `ready` when it listens and again when it can serve, and
/// returns when it has drained.
pub(crate) async fn serve(config: Config, environment: Environment, hooks: impl Hooks) -> Outcome {
    let _lock = Lock::take(config.lock_path())?;
    let mut stop = Stop::listen()?;
    let name = config.broker.name.clone();
    tracing::info!(broker = %name, version = env!("CARGO_PKG_VERSION"), "starting");
    let start = Box::pin(broker::start(config, environment));
    let Some(broker) = unless_asked(&mut stop, start).await.transpose()? else {
        return Ok(());
    };
    hooks.listening(&broker)?;
    match unless_asked(&mut stop, Box::pin(run(&broker, &name, hooks))).await {
        None => {}
        Some(Ok(never)) => match never {},
        Some(Err(failure)) => return Err(failure),
    }
    tracing::info!(broker = %name, "stopping");
    match unless_asked(&mut stop, Box::pin(broker.drain())).await {
        Some(drained) => drained?,
        None => {
            tracing::warn!(broker = %name, "stopped at once, before everything was drained");
            return Ok(());
        }
    }
    tracing::info!(broker = %name, "stopped");
    Ok(())
}

/// What is done at the two moments that others wait for.
pub(crate) trait Hooks {
    /// All listeners are bound.
    fn listening(&self, broker: &Broker) -> Outcome;
    /// Requests are served.
    fn ready(&self) -> Outcome;
}

async fn run(broker: &Broker, name: &str, hooks: impl Hooks) -> Result<std::convert::Infallible, Failure> {
    broker.ready().await?;
    tracing::info!(broker = %name, "ready");
    hooks.ready()?;
    Err(broker.failed().await.into())
}

/// The future's outcome, or nothing when the process is asked to stop first.
async fn unless_asked<F: Future>(stop: &mut Stop, work: F) -> Option<F::Output> {
    tokio::select! {
        outcome = work => Some(outcome),
        () = stop.asked() => None,
    }
}
