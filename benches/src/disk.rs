//! The disk by itself: how long an fdatasync takes after an append, in the folder where the systems keep their data.

use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

use crate::rows::Rows;

/// Appends of 16 KiB, each followed by one fdatasync, for a time: p50 and p99 in milliseconds.
pub(crate) fn fdatasync_ms(time: Duration) -> Result<(f64, f64)> {
    let mut file = tempfile::tempfile()?;
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, 256 << 20)?;
    let block = vec![0x5a; 16 << 10];
    let mut took = vec![];
    let begun = Instant::now();
    while begun.elapsed() < time && took.len() < (256 << 20) / block.len() {
        took.push(append(&mut file, &block)?.as_secs_f64() * 1000.0);
    }
    took.sort_by(f64::total_cmp);
    let at = |percent: usize| took.get(took.len() * percent / 100).copied().unwrap_or(f64::NAN);
    Ok((at(50), at(99)))
}

/// Records the disk beside what was measured in the same repetition.
pub(crate) fn record(rows: &mut Rows, case: &str, time: Duration) -> Result<()> {
    let (p50, p99) = fdatasync_ms(time)?;
    rows.record(case, "fdatasync", "disk", "p50_ms", p50);
    rows.record(case, "fdatasync", "disk", "p99_ms", p99);
    Ok(())
}

fn append(file: &mut File, block: &[u8]) -> Result<Duration> {
    file.write_all(block)?;
    let begun = Instant::now();
    rustix::fs::fdatasync(&*file)?;
    Ok(begun.elapsed())
}
