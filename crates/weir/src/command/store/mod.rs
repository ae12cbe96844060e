//! `weir store`: what lies in the object store, whether it is as it must be, and what can go. Each works on the store
//! itself, whether a broker runs or not, and fences nobody.

mod check;
mod sweep;

use std::path::PathBuf;

use anyhow::Context;
use metadata::{Inspector, OpenError};

use crate::command::config::read;
use crate::config::Config;
use crate::exit::{Exit, Failure, Outcome};

/// What `weir dev` writes.
const DEVELOPMENT_CONFIG: &str = "weir-data/broker-1/weir.yaml";

/// Check what lies in the object store, and delete what no one needs.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum StoreCommand {
    /// Check that the metadata and the objects in the store fit together, and that the objects are whole.
    #[command(after_help = "Example:\n  weir store check --config /etc/weir/weir.yaml --shallow\n\n\
        It may run while the broker does, repairs nothing, and reads every object once (about 16 GET a GiB); with \
        --shallow only footers (one GET an object). Exits 0 when nothing is wrong, 1 otherwise.")]
    Check(check::CheckArgs),
    /// Delete objects that an upload left behind which was cut off: nothing refers to them, nor ever will.
    #[command(after_help = "Example:\n  weir store sweep --dry-run --config /etc/weir/weir.yaml\n\n\
        The broker does the same once a day. It may run while the broker does. One LIST for each thousand objects.")]
    Sweep(sweep::SweepArgs),
}

/// Whose store it is.
#[derive(Debug, clap::Args)]
pub(crate) struct StoreArgs {
    /// The broker's configuration file; without it, the one that `weir dev` wrote in this folder.
    #[arg(long, value_name = "FILE", default_value = DEVELOPMENT_CONFIG, hide_default_value = true)]
    config: PathBuf,
    /// Set a configuration key, over the file and the environment; may be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Runs the command.
pub(crate) async fn run(command: StoreCommand) -> Outcome {
    match command {
        StoreCommand::Check(args) => check::run(args).await,
        StoreCommand::Sweep(args) => sweep::run(args).await,
    }
}

/// The cluster of a configuration.
async fn open(args: &StoreArgs) -> Result<(Config, Inspector), Failure> {
    let config = read(&args.config, &args.set)?.config;
    let options = config.store.options().context("the object store's credentials")?;
    let store = objects::open(&config.store.url, &options).context("the object store cannot be opened")?;
    let inspector = Inspector::open(store, &config.cluster.name).await.map_err(|error| match error {
        OpenError::NoCluster(_) => Failure::not_found(error.to_string()),
        OpenError::Unavailable(_) => Failure::new(Exit::Unreachable, error.to_string()),
        error => anyhow::Error::from(error).into(),
    })?;
    Ok((config, inspector))
}
