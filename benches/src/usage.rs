//! What a process has used, from `/proc`: CPU, memory, bytes to the disk, system calls for reading and writing, switches.

use std::fs;

use anyhow::{Context as _, Result};

use crate::settings::{GIB, MIB};

/// Counters since the process began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// User and system, of all its threads, in seconds.
    pub(crate) cpu_s: f64,
    /// What it made the disk write, in bytes.
    written: f64,
    /// Calls of the read and write families; sendmsg and recvmsg are not among them.
    reads: f64,
    writes: f64,
    /// Times that one of its threads that live now gave up the CPU because it had nothing to do.
    waits: f64,
}

/// What a load of a known size used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    pub(crate) cpu_s_per_gib: f64,
    pub(crate) disk_gib_per_gib: f64,
    pub(crate) syscalls_per_mib: f64,
    pub(crate) waits_per_mib: f64,
    pub(crate) peak_mib: f64,
}

impl Usage {
    pub(crate) fn of(pid: u32) -> Result<Self> {
        let stat = read(pid, "stat")?;
        // The name, in parentheses, may hold anything; what counts comes after it: utime and stime are fields 14 and 15.
        let after = stat.rsplit_once(") ").context("/proc/PID/stat has a name")?.1;
        let field = |index| -> Result<f64> {
            let field = after.split(' ').nth(index).context("/proc/PID/stat has 52 fields")?;
            Ok(field.parse()?)
        };
        let ticks = rustix::param::clock_ticks_per_second() as f64;
        let io = read(pid, "io")?;
        let mut waits = 0.0;
        for task in fs::read_dir(format!("/proc/{pid}/task"))? {
            // A thread may end while we look.
            if let Ok(status) = fs::read_to_string(task?.path().join("status")) {
                waits += number(&status, "voluntary_ctxt_switches:")?;
            }
        }
        Ok(Self {
            cpu_s: (field(11)? + field(12)?) / ticks,
            written: number(&io, "write_bytes:")?,
            reads: number(&io, "syscr:")?,
            writes: number(&io, "syscw:")?,
            waits,
        })
    }

    /// What was used since then, by a load of so many bytes.
    pub(crate) fn since(self, pid: u32, payload: u64) -> Result<Used> {
        let now = Self::of(pid)?;
        let (gib, mib) = (payload as f64 / GIB as f64, payload as f64 / MIB as f64);
        let cpu_s = now.cpu_s - self.cpu_s;
        Ok(Used {
            cpu_s_per_gib: cpu_s / gib,
            disk_gib_per_gib: (now.written - self.written) / payload as f64,
            syscalls_per_mib: (now.reads - self.reads + now.writes - self.writes) / mib,
            waits_per_mib: (now.waits - self.waits).max(0.0) / mib,
            peak_mib: peak_mib(pid)?,
        })
    }
}

/// From now on the peak counts anew.
pub(crate) fn reset_peak(pid: u32) -> Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("cannot reset the peak of the resident memory")
}

/// The most memory that was resident since [`reset_peak`], in MiB.
pub(crate) fn peak_mib(pid: u32) -> Result<f64> {
    Ok(number(&read(pid, "status")?, "VmHWM:")? / 1024.0)
}

fn read(pid: u32, file: &str) -> Result<String> {
    fs::read_to_string(format!("/proc/{pid}/{file}")).with_context(|| format!("cannot read /proc/{pid}/{file}"))
}

/// The number behind a name at the start of a line.
fn number(text: &str, name: &str) -> Result<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name} in /proc"))?;
    Ok(value.split_whitespace().next().context("a number")?.parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_is_seen() {
        let pid = std::process::id();
        reset_peak(pid).unwrap();
        let before = Usage::of(pid).unwrap();
        let mut sum = 0_u64;
        while Usage::of(pid).unwrap().cpu_s < before.cpu_s + 0.1 {
            sum = std::hint::black_box((0..1_000_000_u64).fold(sum, |sum, n| sum.wrapping_mul(31) ^ n));
        }
        let used = before.since(pid, GIB).unwrap();
        assert!(used.cpu_s_per_gib >= 0.09, "{used:?}");
        assert!(used.peak_mib > 1.0, "{used:?}");
        assert!(used.syscalls_per_mib > 0.0, "{used:?}");
    }
}
