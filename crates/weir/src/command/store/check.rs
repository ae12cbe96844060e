//! `weir store check`: whether metadata and objects fit together.

use std::fmt::Write as _;
use std::time::Duration;

use metadata::{Depth, Report};
use serde::Serialize;

use super::{StoreArgs, open};
use crate::environment::Environment;
use crate::exit::{Exit, Failure, Outcome};
use crate::output::{self, OutputArgs, Row};
use crate::progress::Progress;

/// The command line of `weir store check`.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Read only the footers of objects, not the records in them.
    #[arg(long)]
    shallow: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// The report, as it is written.
#[derive(Debug, Serialize)]
struct Document {
    partitions: u64,
    extents: u64,
    objects: u64,
    object_bytes: u64,
    garbage: u64,
    garbage_bytes: u64,
    pending: u64,
    orphans: u64,
    orphan_bytes: u64,
    finding_count: u64,
    ended_early: bool,
    findings: Vec<Finding>,
}

#[derive(Debug, Serialize)]
struct Finding {
    kind: String,
    subject: String,
    found: String,
    meaning: &'static str,
    remedy: &'static str,
}

impl Row for Finding {
    const COLUMNS: &'static [&'static str] = &["what", "where", "found", "meaning", "remedy"];

    fn cells(&self) -> Vec<String> {
        let (meaning, remedy) = (self.meaning.to_owned(), self.remedy.to_owned());
        vec![self.kind.clone(), self.subject.clone(), self.found.clone(), meaning, remedy]
    }
}

/// `ObjectMissing` as `object_missing`.
fn snake(kind: metadata::FindingKind) -> String {
    let mut name = String::new();
    for letter in format!("{kind:?}").chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name
}

impl From<Report> for Document {
    fn from(report: Report) -> Document {
        let findings = report.findings.into_iter().map(|one| Finding {
            kind: snake(one.kind),
            subject: one.subject,
            found: one.found,
            meaning: one.kind.meaning(),
            remedy: one.kind.remedy(),
        });
        Document {
            partitions: report.partitions,
            extents: report.extents,
            objects: report.objects,
            object_bytes: report.object_bytes,
            garbage: report.garbage,
            garbage_bytes: report.garbage_bytes,
            pending: report.pending,
            orphans: report.orphans,
            orphan_bytes: report.orphan_bytes,
            finding_count: report.finding_count,
            ended_early: report.ended_early,
            findings: findings.collect(),
        }
    }
}

impl Document {
    fn table(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = writeln!(out, "{} partitions with {} extents", self.partitions, self.extents);
        let _ = writeln!(out, "{} objects with {} bytes", self.objects, self.object_bytes);
        let _ = writeln!(out, "{} objects with {} bytes wait to be deleted", self.garbage, self.garbage_bytes);
        let _ = writeln!(out, "{} objects may yet become part of the log", self.pending);
        let _ = writeln!(out, "{} objects with {} bytes never did", self.orphans, self.orphan_bytes);
        if self.findings.is_empty() {
            out.push_str("nothing is wrong");
        } else {
            out.push('\n');
            out.push_str(&output::table(Finding::COLUMNS, self.findings.iter().map(Row::cells)));
        }
        out
    }
}

/// Runs the command.
pub(crate) async fn run(args: CheckArgs) -> Outcome {
    let (config, inspector) = open(&args.store).await?;
    let depth = if args.shallow { Depth::Footers } else { Depth::Full };
    let age = Duration::from_millis(config.store.orphan_age_ms);
    let now = Environment::system().clock.now();
    let mut progress = Progress::new("partitions and objects", None);
    let report = Box::pin(inspector.check(depth, now, age, || progress.add(1))).await;
    progress.finish();
    let document = Document::from(report.map_err(anyhow::Error::from)?);
    output::description(args.output.output, &document, &document.table())?;
    if document.ended_early {
        eprintln!("so much seems wrong that not everything was looked at");
    }
    match document.finding_count {
        0 => Ok(()),
        count => Err(Failure::new(Exit::Failed, format!("{count} things are wrong"))),
    }
}
