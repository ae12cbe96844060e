//! `weir broker`: one broker of a cluster, as its file says.

use std::path::PathBuf;

use rustix::process::{Signal, getpid, kill_process};

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
    /// Stop as on SIGTERM when standard input ends: whoever holds its other end takes this broker with it.
    #[arg(long, hide = true)]
    until_input_ends: bool,
}

/// Runs the command.
pub(crate) async fn run(args: BrokerArgs) -> Outcome {
    let loaded = read(&args.config, &args.set)?;
    logging::start(&loaded.config.log)?;
    if args.until_input_ends {
        stop_when_input_ends()?;
    }
    serve::serve(loaded.config, Environment::system(), Quiet).await
}

/// Watches standard input from a thread of its own, and asks this process to stop when it ends.
fn stop_when_input_ends() -> Outcome {
    let watch = || {
        // What comes in says nothing.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        if let Err(error) = kill_process(getpid(), Signal::TERM) {
            tracing::error!(%error, "this process cannot be stopped");
        }
    };
    std::thread::Builder::new().name("input".into()).spawn(watch)?;
    Ok(())
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
