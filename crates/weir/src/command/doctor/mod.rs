//! `weir doctor`: looks at everything that a broker needs and says of each thing whether it is as it must be, and where
//! it is not, what to do. It changes nothing that stays: the probes that it writes, it deletes.

mod certificates;
mod listeners;
mod staging;
mod store;

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::command::config::read;
use crate::config::Config;
use crate::environment::Environment;
use crate::exit::{Exit, Failure, Outcome};
use crate::lock::Lock;
use crate::output::{self, OutputArgs, Row};

/// What `weir dev` writes.
const DEVELOPMENT_CONFIG: &str = "weir-data/broker-1/weir.yaml";

/// Check everything that a broker needs.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  weir doctor --config /etc/weir/weir.yaml\n\n\
    It may run while the broker does. Exits 0 when nothing failed (warnings are no failure), 1 otherwise.")]
pub(crate) struct DoctorArgs {
    /// The broker's configuration file; without it, the one that `weir dev` wrote in this folder.
    #[arg(long, value_name = "FILE", default_value = DEVELOPMENT_CONFIG, hide_default_value = true)]
    config: PathBuf,
    /// Set a configuration key, over the file and the environment; may be given several times.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    #[command(flatten)]
    output: OutputArgs,
}

/// How a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// As it must be.
    Ok,
    /// A broker runs with it; a person should know.
    Warning,
    /// A broker does not run with it, or records are in danger.
    Failed,
    /// It cannot be told.
    Unknown,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "FAILED",
            Self::Unknown => "cannot be told",
        })
    }
}

/// What was found about one thing.
#[derive(Debug, Serialize)]
struct Finding {
    check: String,
    verdict: Verdict,
    found: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Finding {
    fn ok(check: impl Into<String>, found: impl Into<String>) -> Finding {
        Finding { check: check.into(), verdict: Verdict::Ok, found: found.into(), remedy: None }
    }

    fn unknown(check: impl Into<String>, found: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Unknown, ..Finding::ok(check, found) }
    }

    fn warning(check: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Warning, remedy: Some(remedy.into()), ..Finding::ok(check, found) }
    }

    fn failed(check: impl Into<String>, found: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { verdict: Verdict::Failed, ..Finding::warning(check, found, remedy) }
    }
}

impl Row for Finding {
    const COLUMNS: &'static [&'static str] = &["check", "verdict", "found", "remedy"];

    fn cells(&self) -> Vec<String> {
        let remedy = self.remedy.clone().unwrap_or_default();
        vec![self.check.clone(), self.verdict.to_string(), self.found.clone(), remedy]
    }
}

/// Runs the command.
pub(crate) async fn run(args: DoctorArgs) -> Outcome {
    let config = read(&args.config, &args.set)?.config;
    let findings = examine(&config, &Environment::system()).await;
    output::rows(args.output.output, &findings)?;
    match findings.iter().filter(|finding| finding.verdict == Verdict::Failed).count() {
        0 => Ok(()),
        failed => Err(Failure::new(Exit::Failed, format!("{failed} of {} checks failed", findings.len()))),
    }
}

async fn examine(config: &Config, environment: &Environment) -> Vec<Finding> {
    let running = Lock::holder(&config.lock_path());
    let mut findings = store::examine(&config.store, environment).await;
    findings.extend(staging::examine(&config.staging));
    findings.extend(certificates::examine(config, environment.clock.now()));
    findings.extend(listeners::examine(config, running.as_deref()));
    findings
}

#[cfg(test)]
mod tests;
