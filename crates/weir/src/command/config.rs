//! `weir config`: is the file right, what is in force, and what can be said at all.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::config::{self, Effective, Input, Loaded};
use crate::exit::{Failure, Outcome};
use crate::output::{self, Format, OutputArgs, Row};

/// Check, show or describe the configuration.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check a configuration file, together with the environment.
    #[command(after_help = "Example:\n  weir config check weir.yaml")]
    Check {
        #[command(flatten)]
        file: FileArgs,
    },
    /// Show the values in force and where each comes from; secrets stay hidden.
    #[command(after_help = "Example:\n  weir config print weir.yaml --set log.level=debug -o yaml\n\n\
        The YAML form is itself a configuration file.")]
    Print {
        #[command(flatten)]
        file: FileArgs,
        #[command(flatten)]
        output: OutputArgs,
    },
    /// Print the JSON schema of the configuration, with the documentation of every key.
    #[command(after_help = "Example:\n  weir config schema > weir.schema.json")]
    Schema,
}

/// A file and what is laid over it.
#[derive(Debug, clap::Args)]
pub(crate) struct FileArgs {
    /// The configuration file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Set a configuration key, over the file and the environment; may be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(command: ConfigCommand) -> Outcome {
    match command {
        ConfigCommand::Check { file } => {
            read(&file.file, &file.set)?;
            output::text(&format!("{}: valid", file.file.display()))
        }
        ConfigCommand::Print { file, output } => {
            let loaded = read(&file.file, &file.set)?;
            match output.output {
                Format::Yaml => output::text(&config::yaml(&loaded)?),
                format => output::rows(format, &config::effective(&loaded)?),
            }
        }
        ConfigCommand::Schema => output::text(&serde_json::to_string_pretty(&config::schema())?),
    }
}

/// Reads a configuration file and lays this process's environment and the flags over it.
pub(crate) fn read(path: &Path, sets: &[String]) -> Result<Loaded, Failure> {
    let text = match std::fs::read_to_string(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Failure::not_found(format!("there is no configuration file {}", path.display())));
        }
        read => read.with_context(|| format!("cannot read the configuration file {}", path.display()))?,
    };
    parse(&path.display().to_string(), &text, sets)
}

/// The same for text that is not in a file yet.
pub(crate) fn parse(name: &str, text: &str, sets: &[String]) -> Result<Loaded, Failure> {
    let environment = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    Ok(config::load(&Input { name, text, environment, sets, memory_bytes: config::memory::available() })?)
}

impl Row for Effective {
    const COLUMNS: &'static [&'static str] = &["key", "value", "source"];

    fn cells(&self) -> Vec<String> {
        let value = match &self.value {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Null => "-".to_owned(),
            other => other.to_string(),
        };
        vec![self.key.clone(), value, self.source.clone()]
    }
}
