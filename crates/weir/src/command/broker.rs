//! `weir broker`: one broker of a cluster, as its file says.

use std::path::PathBuf;

use crate::broker::Broker;
use crate::command::config::read;
use crate::environment::Environment;
use crate::exit::Outcome;
use crate::logging;
use crate::serve::{self, Hooks};

/// Run one broker.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  weir broker --config /etc/weir/weir.yaml --set log.level=debug\n\n\
    SIGTERM drains the broker and exits 0; a second SIGTERM exits at once.")]
pub(crate) struct BrokerArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Set a configuration key, over the file and the environment; may be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Runs the command.
pub(crate) async fn run(args: BrokerArgs) -> Outcome {
    let loaded = read(&args.config, &args.set)?;
    logging::start(&loaded.config.log)?;
    serve::serve(loaded.config, Environment::system(), Quiet).await
}

/// The log says all that there is to say.
struct Quiet;

impl Hooks for Quiet {
    fn listening(&self, broker: &Broker) -> Outcome {
        for address in &broker.addresses {
            let (host, port) = &address.advertised;
            tracing::info!(
                protocol = ?address.protocol, tls = address.tls, address = %address.bound,
                advertised = %format_args!("{host}:{port}"), "listening"
            );
        }
        Ok(())
    }

    fn ready(&self) -> Outcome {
        Ok(())
    }
}
