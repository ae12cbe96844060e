//! The machine, the time and the commit: what a figure is worth nothing without.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use harness::clock::WallClock;
use records::Clock as _;
use serde::{Deserialize, Serialize};

/// What the systems ran on.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) cpu: String,
    pub(crate) memory_gib: f64,
    pub(crate) kernel: String,
    /// The file system of the folder for temporary files, where all systems keep their data.
    pub(crate) disk: String,
    /// Runnable processes on average over the minute before; more than a little is a machine that is not quiet.
    pub(crate) load_before: String,
}

impl Machine {
    pub(crate) fn this() -> Result<Self> {
        let cpus = fs::read_to_string("/proc/cpuinfo")?;
        let model = cpus.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("unknown");
        let memory = fs::read_to_string("/proc/meminfo")?;
        let kib =
            memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).context("/proc/meminfo has a total")?;
        let kib: f64 = kib.trim().trim_end_matches(" kB").parse()?;
        let disk = output(Command::new("df").arg("--output=fstype,size").arg("-h").arg(std::env::temp_dir()))?;
        Ok(Self {
            cores: std::thread::available_parallelism()?.get(),
            cpu: model.trim_start_matches(['\t', ' ', ':']).to_owned(),
            memory_gib: (kib / 1024.0 / 1024.0 * 10.0).round() / 10.0,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            disk: disk.lines().last().unwrap_or("unknown").split_whitespace().collect::<Vec<_>>().join(", "),
            load_before: fs::read_to_string("/proc/loadavg")?.split(' ').next().unwrap_or("unknown").to_owned(),
        })
    }
}

/// Date and time, UTC, to the minute.
pub(crate) fn now() -> String {
    let now = chrono::DateTime::from_timestamp_millis(WallClock.now().0);
    now.map_or_else(String::new, |now| now.format("%Y-%m-%d %H:%M").to_string())
}

/// The commit of the checkout, with a mark where something in it is not committed.
pub(crate) fn commit(root: &Path) -> Result<String> {
    let git = || {
        let mut git = Command::new("git");
        git.current_dir(root);
        git
    };
    let commit = output(git().args(["rev-parse", "--short=12", "HEAD"]))?;
    let changed = !output(git().args(["status", "--porcelain", "--", "crates", "benches", "Cargo.toml"]))?.is_empty();
    Ok(if changed { format!("{commit} with changes") } else { commit })
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    anyhow::ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
