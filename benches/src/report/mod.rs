//! The results: kept as JSON, one entry a scenario, each with its own machine, date and commit; and the documents made of it.

pub(crate) mod markdown;
mod plot;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::machine::{self, Machine};
use crate::rows::Rows;
use crate::settings::Settings;

/// Everything measured so far.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Results {
    /// By the scenario's name.
    pub(crate) scenarios: BTreeMap<String, Run>,
}

/// One scenario as it was measured last.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Run {
    /// UTC, when it began.
    pub(crate) date: String,
    pub(crate) commit: String,
    pub(crate) machine: Machine,
    pub(crate) repetitions: u32,
    pub(crate) rows: Rows,
}

impl Run {
    pub(crate) fn new(root: &Path, date: String, settings: &Settings, rows: Rows) -> Result<Self> {
        let (commit, machine) = (machine::commit(root)?, Machine::this()?);
        Ok(Self { date, commit, machine, repetitions: settings.repetitions, rows })
    }
}

fn results(root: &Path) -> PathBuf {
    root.join("docs/benchmarks/results.json")
}

impl Results {
    /// Those of the checkout; none where there are none yet.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let path = results(root);
        match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    /// A scenario that was measured again replaces what was there of it.
    pub(crate) fn replace(&mut self, scenario: &str, run: Run) {
        self.scenarios.insert(scenario.to_owned(), run);
    }

    /// Writes the JSON, the page and its plots.
    pub(crate) fn write(&self, root: &Path) -> Result<()> {
        let folder = root.join("docs/benchmarks");
        fs::create_dir_all(&folder)?;
        fs::write(results(root), serde_json::to_string_pretty(self)? + "\n")?;
        let plots = plot::draw_all(self, &folder)?;
        let text = fs::read_to_string(root.join("benches/text.md.in")).context("cannot read benches/text.md.in")?;
        fs::write(root.join("docs/benchmarks.md"), markdown::page(&text, self, &plots)?)?;
        Ok(())
    }
}
