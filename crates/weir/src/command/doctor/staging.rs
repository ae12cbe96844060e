//! The staging disk: whether it can be written, how much room it has, and how fast it syncs.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use journal::Disk as _;
use tokio::time::Instant;

use super::Finding;
use crate::config::Staging;

/// Syncs that are timed, of so many bytes each.
const SYNCS: usize = 16;
const SYNC_BYTES: usize = 4096;
/// Each acknowledgement waits for a sync.
const SLOW: Duration = Duration::from_millis(10);

/// Everything about the staging folder.
pub(super) fn examine(staging: &Staging) -> Vec<Finding> {
    let dir = &staging.dir;
    let there = existing(dir);
    let mut findings = vec![match measure(&there) {
        Err(error) => Finding::failed(
            "staging disk",
            format!("{} cannot be written: {error}", there.display()),
            "give the broker's user the right to write there, or name another folder in `staging.dir`",
        ),
        Ok(sync) if sync > SLOW => Finding::warning(
            "staging disk",
            format!("{}: a sync takes {} (median of {SYNCS})", there.display(), shown(sync)),
            "use a local SSD: each acknowledgement waits for a sync",
        ),
        Ok(sync) => {
            let made = if there == *dir { "" } else { ", where the folder is made at the start" };
            let display = there.display();
            Finding::ok("staging disk", format!("{display} can be written{made}; a sync takes {}", shown(sync)))
        }
    }];
    findings.push(match journal::System.space(&there) {
        Err(error) => Finding::unknown("staging space", error.to_string()),
        Ok((_, free)) => room(free.saturating_add(used(dir)), staging),
    });
    findings
}

/// Whether `bytes`, which are free or ours already, are enough.
fn room(bytes: u64, staging: &Staging) -> Finding {
    const CHECK: &str = "staging space";
    let found = format!("{bytes} bytes for `staging.bytes_max` of {}", staging.bytes_max);
    if bytes >= staging.bytes_max {
        return Finding::ok(CHECK, found);
    }
    let remedy = "free the disk, use a larger one, or lower `staging.bytes_max`";
    if bytes < staging.segment_bytes.saturating_mul(2) {
        return Finding::failed(CHECK, format!("{found}: not even two segments fit"), remedy);
    }
    Finding::warning(CHECK, format!("{found}: the disk is full before the budget is used"), remedy)
}

/// The folder, or the nearest one above it that is there: it is made at the start.
fn existing(dir: &Path) -> PathBuf {
    let there = dir.ancestors().find(|folder| folder.is_dir());
    there.filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

/// The median time of a small write with its sync.
fn measure(dir: &Path) -> std::io::Result<Duration> {
    // Without a name: it is gone whatever happens.
    let mut file = tempfile::tempfile_in(dir)?;
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        file.write_all(&[1; SYNC_BYTES])?;
        let started = Instant::now();
        file.sync_data()?;
        times.push(started.elapsed());
    }
    times.sort_unstable();
    Ok(times[SYNCS / 2])
}

/// The bytes of all files in a folder; what cannot be read counts as nothing.
fn used(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let bytes = entries.map(|entry| match entry.metadata() {
        Ok(found) if found.is_dir() => used(&entry.path()),
        Ok(found) => found.len(),
        Err(_) => 0,
    });
    bytes.sum()
}

fn shown(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn the_budget_must_fit_on_the_disk() {
        let staging = Staging { dir: "/".into(), bytes_max: 1000, segment_bytes: 100, seal_interval_ms: 1000 };
        assert_eq!(room(1000, &staging).verdict, Verdict::Ok);
        assert_eq!(room(999, &staging).verdict, Verdict::Warning);
        assert_eq!(room(199, &staging).verdict, Verdict::Failed);
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_judged_by_the_one_above() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a"), [0; 7]).unwrap();
        fs::create_dir(folder.path().join("in")).unwrap();
        fs::write(folder.path().join("in/b"), [0; 5]).unwrap();
        assert_eq!(used(folder.path()), 12);
        assert_eq!(existing(&folder.path().join("not/yet")), folder.path());
        assert!(measure(folder.path()).unwrap() > Duration::ZERO);
        assert!(measure(&folder.path().join("a")).is_err());
        assert_eq!(used(folder.path()), 12, "nothing is left behind");
    }
}
