//! The command line: which commands there are, and who runs them.

use clap::{Parser, Subcommand};

use crate::command::{
    bench, broker, completions, config, consume, dev, doctor, group, health, produce, proxy, store, topic,
};
use crate::exit::Outcome;
use crate::interrupt::interruptible;
use crate::logging;

/// A message broker that speaks the Kafka protocol over TCP, TLS and QUIC, on object storage.
#[derive(Debug, Parser)]
#[command(
    name = "weir",
    version,
    propagate_version = true,
    max_term_width = 120,
    after_help = "Example:\n  weir dev\n\n\
        Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 not reachable, 5 refused, 130 interrupted."
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Dev(dev::DevArgs),
    Broker(broker::BrokerArgs),
    #[command(subcommand, after_help = "Example:\n  weir config check weir.yaml")]
    Config(config::ConfigCommand),
    Produce(produce::ProduceArgs),
    Consume(consume::ConsumeArgs),
    #[command(subcommand, after_help = "Example:\n  weir topic create orders --partitions 8")]
    Topic(topic::TopicCommand),
    #[command(subcommand, after_help = "Example:\n  weir group describe billing")]
    Group(group::GroupCommand),
    Proxy(proxy::ProxyArgs),
    #[command(subcommand, after_help = "Example:\n  weir bench e2e orders --rate 1000 --duration-s 30")]
    Bench(bench::BenchCommand),
    Doctor(doctor::DoctorArgs),
    #[command(subcommand, after_help = "Example:\n  weir store check --shallow")]
    Store(store::StoreCommand),
    Health(health::HealthArgs),
    Completions(completions::CompletionsArgs),
}

impl Cli {
    /// Runs the command to its end.
    pub(crate) async fn run(self) -> Outcome {
        match self.command {
            Command::Dev(args) => return Box::pin(dev::run(args)).await,
            Command::Broker(args) => return Box::pin(broker::run(args)).await,
            _ => logging::start_for_commands(),
        }
        match self.command {
            Command::Dev(_) | Command::Broker(_) => Ok(()),
            Command::Config(command) => config::run(command),
            Command::Completions(args) => completions::run(&args),
            Command::Doctor(args) => interruptible(Box::pin(doctor::run(args))).await,
            Command::Store(command) => interruptible(Box::pin(store::run(command))).await,
            Command::Health(args) => interruptible(health::run(args)).await,
            Command::Topic(command) => interruptible(topic::run(command)).await,
            Command::Group(command) => interruptible(group::run(command)).await,
            Command::Produce(args) => Box::pin(produce::run(args)).await,
            Command::Consume(args) => Box::pin(consume::run(args)).await,
            Command::Proxy(args) => Box::pin(proxy::run(args)).await,
            Command::Bench(command) => Box::pin(bench::run(command)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        fn visit(command: &clap::Command, path: &str) {
            let path = format!("{path} {}", command.get_name());
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Example:\n  "), "{path} has no example in its help");
            assert!(command.get_about().is_some(), "{path} says nothing about itself");
            command.get_subcommands().filter(|sub| sub.get_name() != "help").for_each(|sub| visit(sub, &path));
        }
        visit(&Cli::command(), "");
    }
}
