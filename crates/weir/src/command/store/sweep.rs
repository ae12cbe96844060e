//! `weir store sweep`: objects that never became part of the log.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat};
use metadata::Orphan;
use serde::Serialize;

use super::{StoreArgs, open};
use crate::environment::Environment;
use crate::exit::Outcome;
use crate::output::{self, OutputArgs, Row};
use crate::progress::Progress;

/// How many objects are listed at most; the rest is counted.
const LISTED_MAX: usize = 100_000;

/// The command line of `weir store sweep`.
#[derive(Debug, clap::Args)]
pub(crate) struct SweepArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Only list what would be deleted.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// An object that is deleted, or would be.
#[derive(Debug, Serialize)]
struct Found {
    key: String,
    bytes: u64,
    written: String,
}

impl Row for Found {
    const COLUMNS: &'static [&'static str] = &["object", "bytes", "written"];

    fn cells(&self) -> Vec<String> {
        vec![self.key.clone(), self.bytes.to_string(), self.written.clone()]
    }
}

impl From<&Orphan> for Found {
    fn from(orphan: &Orphan) -> Found {
        let written = DateTime::from_timestamp_millis(orphan.written_at.0).unwrap_or_default();
        Found {
            key: orphan.key.to_string(),
            bytes: orphan.size,
            written: written.to_rfc3339_opts(SecondsFormat::Secs, true),
        }
    }
}

/// Runs the command.
pub(crate) async fn run(args: SweepArgs) -> Outcome {
    let (config, inspector) = open(&args.store).await?;
    let age = Duration::from_millis(config.store.orphan_age_ms);
    let now = Environment::system().clock.now();
    let mut progress = Progress::new("objects found", None);
    let mut found = Vec::new();
    let swept = inspector.sweep(now, age, !args.dry_run, |orphan| {
        progress.add(1);
        if found.len() < LISTED_MAX {
            found.push(Found::from(orphan));
        }
    });
    let swept = Box::pin(swept).await;
    progress.finish();
    output::rows(args.output.output, &found)?;
    let swept = swept.map_err(anyhow::Error::from)?;
    let what = if args.dry_run { "would be deleted" } else { "deleted" };
    eprintln!(
        "{} of {} objects {what} ({} bytes); {} are too young to be judged, {} may yet become part of the log, {} are not Weir's",
        swept.orphans, swept.listed, swept.orphan_bytes, swept.young, swept.open, swept.foreign
    );
    Ok(())
}
