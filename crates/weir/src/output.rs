//! Results on standard output: as a table for people, as JSON or YAML for programs. A reader that goes away ends the
//! command quietly, as `head` expects.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

use crate::exit::{Failure, Outcome};

/// How results are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One YAML document.
    Yaml,
}

/// The option `-o`, the same for every list and description.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct OutputArgs {
    /// How the result is written.
    #[arg(short = 'o', long = "output", value_enum, default_value_t, value_name = "FORMAT")]
    pub(crate) output: Format,
}

/// A result that is a list of rows.
pub(crate) trait Row: Serialize {
    /// The titles of the columns.
    const COLUMNS: &'static [&'static str];
    /// The cells, in the order of the columns.
    fn cells(&self) -> Vec<String>;
}

/// Writes a list.
pub(crate) fn rows<R: Row>(format: Format, rows: &[R]) -> Outcome {
    match format {
        Format::Table => text(&table(R::COLUMNS, rows.iter().map(Row::cells))),
        _ => document(format, &rows),
    }
}

/// Writes a description: as a table of names and values, or as the document.
pub(crate) fn description<D: Serialize>(format: Format, document_: &D, lines: &str) -> Outcome {
    match format {
        Format::Table => text(lines),
        _ => document(format, document_),
    }
}

/// Writes a document as JSON (also when a table was asked for) or YAML.
pub(crate) fn document<D: Serialize>(format: Format, document: &D) -> Outcome {
    match format {
        Format::Yaml => text(&serde_saphyr::to_string(document).map_err(anyhow::Error::from)?),
        _ => text(&serde_json::to_string_pretty(document)?),
    }
}

/// Writes text, with one line end at its end.
pub(crate) fn text(text: &str) -> Outcome {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.trim_end_matches('\n').as_bytes()).and_then(|()| out.write_all(b"\n"));
    finish(written.and_then(|()| out.flush()))
}

/// Whether writing worked; a closed pipe is no failure, but there is nothing left to do.
pub(crate) fn finish(written: io::Result<()>) -> Outcome {
    match written {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(closed_pipe()),
        Err(error) => Err(anyhow::Error::from(error).context("cannot write to standard output").into()),
    }
}

/// The reader of our standard output has gone: main turns this into a quiet success.
fn closed_pipe() -> Failure {
    anyhow::Error::from(io::Error::from(io::ErrorKind::BrokenPipe)).into()
}

/// A plain table: titles, then rows; no lines around cells, so that `awk` can read it too.
pub(crate) fn table(columns: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|title| title.to_uppercase()));
    rows.for_each(|row| {
        table.add_row(row);
    });
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, 2));
    });
    table.trim_fmt()
}

/// Whether standard error is a terminal: progress bars and colours are for people who look.
pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}
